"""What is kept of a run, for how long, and under whatever name."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from turnwise.backends import (
    CYCLE_SERVED,
    ExecutionRecord,
    Participant,
)
from turnwise.testing.clock import START, ManualClock
from turnwise.testing.desk import (
    ABANDONED,
    BLOCKED,
    COMPLETED,
    MICROSECOND,
    RUNNING,
    SECOND,
    SETTINGS,
    Desk,
    StorageUnderTest,
    run_of,
)
from turnwise.testing.strategies import instants, share_of_the_profile
from turnwise.timetable import decide

TIMEOUT = SETTINGS.heartbeat_timeout


UNUSUAL = (
    "O'Brien",
    'say "hi"',
    "'; DROP TABLE turnwise_runners; --",
    "%s %(x)s ? :bind {0} $1",
    "_%*[a]\\",
    "line\nbreak\ttab",
    "名前",
    "🦔" * 60,
    "\u00e9",
    "e\u0301",
    "a",
    "A",
    "a ",
    " a",
    "\uff41",  # a full-width a
    "x" * 255,
    "NULL",
    "0",
    "00",
)


class HistoryConformance(StorageUnderTest):
    """Ends of runs, BLOCKED rows, retention, settings, services, names and instants."""

    def test_the_first_end_of_a_run_stands_and_repeating_it_changes_nothing(
        self, desk: Desk
    ) -> None:
        run_id = desk.admitted("a")
        desk.clock.advance(SECOND)
        first = desk.finish(run_id, ABANDONED, "exit:1")
        assert first == desk.record(run_id)
        assert (first.status, first.reason, first.end_time) == (ABANDONED, "exit:1", START + SECOND)
        desk.clock.advance(SECOND)
        assert desk.finish(run_id, ABANDONED, "exit:1") == first
        assert desk.finish(run_id, COMPLETED) == first
        second = desk.admitted("b", slot=1)
        assert desk.finish(run_id, COMPLETED) == first
        assert desk.record(second).status is RUNNING

    def test_ending_a_run_that_nobody_knows_answers_none(self, desk: Desk) -> None:
        assert desk.finish("unknown") is None
        assert desk.executions() == ()
        assert desk.backend.execution(desk.service, "unknown") is None

    def test_a_claim_that_was_blocked_is_kept_once_per_runner_cycle_and_reason(
        self, desk: Desk
    ) -> None:
        desk.settle("a", "b", "c")
        desk.clock.advance(15 * SECOND)
        grace = replace(SETTINGS, membership_stabilization=timedelta(hours=1))
        for _ in range(2):
            look = desk.peek()
            for settings in (SETTINGS, grace):
                owner = look.scheduled[0].runner_id
                claim = decide(owner, look.scheduled, look.now, settings)
                assert claim.skip_reason is not None
                desk.backend.block(desk.service, claim, look)
            desk.clock.advance(SECOND)
        kept = desk.executions()
        assert {r.reason for r in kept} == {"late_start", "scheduled_runner_in_grace"}
        assert len(kept) == 2
        for row in kept:
            assert (row.status, row.fencing_token, row.runner_id) == (BLOCKED, None, owner)
            assert (row.start_time, row.end_time) == (START + 75 * SECOND,) * 2
            assert (row.slot_start, row.slot_end) == (claim.slot_start, claim.slot_end)
            assert (row.cycle_start, row.stable_size) == (look.cycle.start, 3)

    def test_ended_runs_are_forgotten_by_age_when_a_run_ends(self, desk: Desk) -> None:
        old = desk.admitted()
        desk.finish(old)
        desk.clock.advance(SETTINGS.retention_age)
        desk.finish(young := desk.admitted())
        assert [r.run_id for r in desk.executions()] == [old, young]
        desk.clock.advance(MICROSECOND)
        desk.finish("none")
        assert [r.run_id for r in desk.executions()] == [young]

    def test_ended_runs_are_forgotten_by_count_the_oldest_first(self, desk: Desk) -> None:
        desk.settings = replace(SETTINGS, retention_count=3)
        ids = [desk.serve_a_cycle() for _ in range(6)]
        assert [r.run_id for r in desk.executions()] == ids[-3:]

    def test_rows_of_the_current_cycle_are_kept_and_with_them_that_it_is_served(
        self, desk: Desk
    ) -> None:
        desk.settings = replace(SETTINGS, retention_count=1, retention_age=SECOND)
        for runner_id in "abcd":
            desk.finish(desk.admitted(runner_id), ABANDONED, "exit:1")
            desk.clock.advance(2 * SECOND)
        desk.finish(desk.admitted("e"))
        desk.clock.advance(SETTINGS.interval - 9 * SECOND)
        desk.finish("none")
        assert len(desk.executions()) == 5
        assert desk.admit("f")[1].refusal == CYCLE_SERVED
        desk.clock.advance(2 * SECOND)
        desk.finish("none")
        assert desk.executions() == ()

    def test_a_running_row_is_never_forgotten(self, desk: Desk) -> None:
        desk.settings = replace(SETTINGS, retention_count=1, retention_age=SECOND)
        run_id = desk.admitted("a")
        desk.clock.advance(timedelta(days=30))
        desk.beat("a", run_id=run_id)
        for _ in range(3):
            desk.admit("b")
            desk.finish("none")
            desk.clock.advance(SECOND)
        assert desk.record(run_id).status is RUNNING

    def test_runners_that_count_nowhere_are_forgotten_with_the_history(self, desk: Desk) -> None:
        desk.beat("gone")
        desk.clock.advance(SETTINGS.retention_age)
        desk.beat("here")
        desk.finish("none")
        assert [r.runner_id for r in desk.backend.runners(desk.service)] == ["gone", "here"]
        desk.clock.advance(MICROSECOND)
        desk.finish("none")
        assert [r.runner_id for r in desk.backend.runners(desk.service)] == ["here"]

    def test_the_history_is_in_the_order_of_starts_and_can_be_cut_at_either_end(
        self, desk: Desk
    ) -> None:
        ids = [desk.serve_a_cycle() for _ in range(4)]
        desk.admit("a")
        ids.append(desk.executions()[-1].run_id)
        desk.clock.advance(SECOND)
        desk.admit("b")
        records = desk.executions()
        assert [r.run_id for r in records[:5]] == ids
        assert (records[5].runner_id, records[5].status) == ("b", BLOCKED)

        def cut(
            since: datetime | None = None, limit: int | None = None
        ) -> tuple[ExecutionRecord, ...]:
            return desk.backend.executions(desk.service, since=since, limit=limit)

        assert cut(limit=2) == records[-2:]
        assert cut(limit=0) == ()
        assert cut(limit=100) == records
        ended = records[2].end_time
        assert ended is not None
        assert cut(since=ended) == records[2:]
        assert cut(since=ended + MICROSECOND) == records[3:]
        assert cut(since=ended, limit=1) == records[-1:]
        # A run that is open has not ended before anything.
        assert cut(since=desk.clock() + SECOND) == records[4:5]

    def test_settings_are_read_back_as_published_and_the_previous_ones_answered(
        self, desk: Desk
    ) -> None:
        other = replace(SETTINGS, standbys=0, spread_margin=SECOND / 3, retry_failed=False)
        backend = desk.backend
        assert backend.publish_settings(desk.service, SETTINGS) is None
        assert backend.publish_settings(desk.service, other) == SETTINGS
        assert backend.settings_of(desk.service) == other
        desk.admitted()
        assert backend.settings_of(desk.service) == other

    def test_services_are_those_with_settings_sorted(self, desk: Desk) -> None:
        desk.admitted()
        assert desk.backend.services() == ()
        for service in ("zebra", "Äpfel", "apple"):
            desk.backend.publish_settings(service, SETTINGS)
        assert desk.backend.publish_settings(desk.service, SETTINGS) is None
        assert desk.backend.services() == ("apple", desk.service, "zebra", "Äpfel")
        assert desk.admit("b")[1].refusal.startswith("prior_running:")

    def test_services_do_not_see_each_other(self, desk: Desk) -> None:
        other = Desk(desk.backend, desk.clock, desk.settings, "another service")
        desk.beat("a")
        desk.admit("a", run_id="same id")
        assert other.backend.runners(other.service) == ()
        assert other.executions() == ()
        assert other.backend.execution(other.service, "same id") is None
        assert other.finish("same id") is None
        assert not other.beat("a", run_id="same id")
        assert other.admit("a", run_id="same id")[1].fencing_token == 1
        other.finish("same id")
        other.backend.leave(other.service, Participant("a", "boot"))
        assert desk.record("same id").status is RUNNING
        assert other.record("same id").status is COMPLETED
        assert [r.left_at for r in desk.backend.runners(desk.service)] == [None]
        desk.clock.advance(SETTINGS.retention_age + SETTINGS.interval)
        other.finish("none")
        assert [r.runner_id for r in desk.backend.runners(desk.service)] == ["a"]
        assert desk.record("same id").status is RUNNING

    def test_unusual_names_are_kept_as_they_are_and_told_apart(self, desk: Desk) -> None:
        desk.settings = replace(SETTINGS, runs_per_cycle="every_slot")
        desk.settle(*UNUSUAL)
        assert {r.runner_id for r in desk.backend.runners(desk.service)} == set(UNUSUAL)
        assert [r.runner_id for r in desk.peek().scheduled] == sorted(UNUSUAL)
        for service in UNUSUAL:
            there = Desk(desk.backend, desk.clock, SETTINGS, service)
            run_id, admission = there.admit(f"{service}"[::-1], run_id=service)
            assert (run_id, admission.fencing_token) == (service, 1)
            there.admit(service)
            ended = there.finish(service, ABANDONED, service)
            assert ended is not None
            assert (ended.run_id, ended.reason, ended.service) == (service, service, service)
            assert there.blocked() == [(service, f"prior_running:{service}")]
            there.backend.publish_settings(service, SETTINGS)
        assert desk.backend.services() == tuple(sorted(UNUSUAL))

    @share_of_the_profile(12)
    @given(
        now=instants(),
        hours_east=st.integers(-23, 23),
    )
    def test_instants_are_kept_to_the_microsecond_wherever_they_are_told(
        self, now: datetime, hours_east: int
    ) -> None:
        clock = ManualClock(now)
        with self.opened(clock) as backend:
            desk = Desk(backend, clock)
            desk.beat("a")
            look = desk.peek()
            told = look.cycle.start.astimezone(timezone(timedelta(hours=hours_east)))
            run = run_of("a", told, slot=2)
            backend.admit(desk.service, run, SETTINGS, look)
            [row] = backend.runners(desk.service)
            [kept] = desk.executions()
            assert (row.creation_time, row.last_heartbeat) == (clock(), clock())
            assert (kept.start_time, kept.cycle_start) == (clock(), look.cycle.start)
            assert (kept.slot_start, kept.slot_end) == (run.slot_start, run.slot_end)
            assert kept.start_time.utcoffset() == timedelta(0)
