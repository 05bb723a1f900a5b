"""One suite for every storage, shaped like the `Backend` protocol."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storages import (
    ABANDONED,
    BLOCKED,
    COMPLETED,
    MICROSECOND,
    RUNNING,
    SECOND,
    SETTINGS,
    START,
    STORAGES,
    Desk,
    ManualClock,
    fresh,
    run_of,
    share_of_the_profile,
)
from turnwise import AtomicServiceExecutionStatus, ExecutionRecord, RunnerRecord
from turnwise.backends import CYCLE_SERVED, NO_MARGIN, OWNER_DEAD, Admission, Participant
from turnwise.membership import (
    after_heartbeat,
    after_leave,
    cycle_at,
    runner_digest,
    schedule,
    set_digest,
    stable_set,
)
from turnwise.settings import RunsPerCycle
from turnwise.timetable import decide

TIMEOUT = SETTINGS.heartbeat_timeout
every_storage = pytest.mark.parametrize("storage", STORAGES)
some_examples = share_of_the_profile(12)


@pytest.fixture(params=STORAGES)
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    clock = ManualClock()
    with fresh(request.param, clock) as backend:
        yield Desk(backend, clock)


# Membership ---------------------------------------------------------------------------------

RUNNER_IDS = ("a", "b", "c", "d", "e")
waits = st.one_of(
    st.sampled_from([MICROSECOND, 2 * SECOND, TIMEOUT, TIMEOUT + MICROSECOND, 39 * SECOND]),
    st.integers(0, 70_000_000).map(lambda us: us * MICROSECOND),
)
participants = st.builds(
    Participant, st.sampled_from(RUNNER_IDS), st.sampled_from(["x", "y"]), st.booleans()
)
moves = st.one_of(
    st.tuples(st.sampled_from(["heartbeat", "look", "leave"]), participants),
    st.tuples(st.just("wait"), waits),
)
histories = st.lists(moves, max_size=40)


class Members:
    """What the pure functions of membership say after each move."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.records: dict[str, RunnerRecord] = {}

    def move(self, what: str, argument: Participant | timedelta) -> None:
        desk, now = self.desk, self.desk.clock()
        if isinstance(argument, timedelta):
            desk.clock.advance(argument)
            return
        before = self.records.get(argument.runner_id)
        if what == "leave":
            desk.backend.leave(desk.service, argument)
            if before is not None and before.boot_id == argument.boot_id:
                self.records[argument.runner_id] = after_leave(before, now)
            return
        beat = RunnerRecord(
            argument.runner_id, now, now, argument.may_run, boot_id=argument.boot_id
        )
        after = self.records[argument.runner_id] = after_heartbeat(before, beat, desk.settings)
        if what == "look":
            look = desk.backend.look(desk.service, argument, desk.settings)
            assert look.joined_at == after.creation_time
            answer = (look.now, look.previous_boot_id)
            assert replace(look, joined_at=None, previous_boot_id=None) == desk.peek()
        else:
            heartbeat = desk.backend.heartbeat(desk.service, argument, desk.settings)
            answer = (heartbeat.now, heartbeat.previous_boot_id)
            assert not heartbeat.holds_run
        assert answer == (now, before.boot_id if before else None)

    def sorted(self) -> tuple[RunnerRecord, ...]:
        return tuple(sorted(self.records.values(), key=lambda r: (r.creation_time, r.runner_id)))


@every_storage
@pytest.mark.parametrize("runs_per_cycle", ["once", "every_slot"])
@some_examples
@given(history=histories)
def test_the_rows_and_the_set_of_a_cycle_are_what_the_pure_functions_say(
    storage: str, runs_per_cycle: RunsPerCycle, history: list[tuple[str, Participant | timedelta]]
) -> None:
    settings = replace(SETTINGS, runs_per_cycle=runs_per_cycle)
    clock = ManualClock(START - 70 * SECOND)
    with fresh(storage, clock) as backend:
        desk = Desk(backend, clock, settings)
        members = Members(desk)
        for move in history:
            members.move(*move)
        assert backend.runners(desk.service) == members.sorted()
        for at in (clock(), clock() + settings.interval):
            cycle = cycle_at(at, settings.interval)
            stable = stable_set(members.sorted(), cycle.start, settings)
            look = backend.peek(desk.service, settings, at)
            assert (look.now, look.cycle) == (at, cycle)
            # Heartbeats that came after the set was written down are not in it.
            assert [r[:2] for r in look.scheduled] == [
                r[:2] for r in schedule(stable, desk.service, cycle, settings)
            ]
            assert look.size == len(stable)
            assert look.digest == set_digest(runner_digest(r.runner_id) for r in stable)


@every_storage
@some_examples
@given(before=histories, within=st.lists(moves, max_size=20))
def test_within_one_cycle_every_look_gives_the_same_set(
    storage: str,
    before: list[tuple[str, Participant | timedelta]],
    within: list[tuple[str, Participant | timedelta]],
) -> None:
    clock = ManualClock(START - 70 * SECOND)
    with fresh(storage, clock) as backend:
        desk = Desk(backend, clock)
        members = Members(desk)
        for move in before:
            members.move(*move)
        clock.advance(desk.cycle_start() + SETTINGS.interval - clock())
        cycle = desk.peek().cycle
        seen = {frozen_part_of(desk)}
        for what, argument in within:
            if isinstance(argument, timedelta):
                argument = min(argument, cycle.end - MICROSECOND - clock())  # noqa: PLW2901
            members.move(what, argument)
            seen.add(frozen_part_of(desk))
        assert len(seen) == 1


def frozen_part_of(desk: Desk) -> tuple[object, ...]:
    look = desk.peek()
    scheduled = tuple((r.runner_id, r.creation_time) for r in look.scheduled)
    return look.cycle, scheduled, look.size, look.digest


def test_only_the_process_that_sent_the_last_heartbeat_can_leave(desk: Desk) -> None:
    desk.beat("a", boot_id="old")
    desk.beat("a", boot_id="new")
    desk.backend.leave(desk.service, Participant("a", "old"))
    desk.backend.leave(desk.service, Participant("nobody", "old"))
    assert [r.left_at for r in desk.backend.runners(desk.service)] == [None]
    desk.backend.leave(desk.service, Participant("a", "new"))
    assert [r.left_at for r in desk.backend.runners(desk.service)] == [START]


def test_peeking_and_reading_write_nothing(desk: Desk) -> None:
    desk.beat("a")
    run_id = desk.admitted()
    desk.clock.advance(SETTINGS.interval)

    def everything(service: str) -> tuple[object, ...]:
        return (
            desk.backend.runners(service),
            desk.backend.executions(service),
            desk.backend.settings_of(service),
            desk.backend.services(),
        )

    before = [everything(service) for service in (desk.service, "never heard of")]
    for service in (desk.service, "never heard of"):
        desk.backend.peek(service, SETTINGS)
        desk.backend.peek(service, SETTINGS, START + 10 * SETTINGS.interval)
        desk.backend.execution(service, run_id)
    assert [everything(service) for service in (desk.service, "never heard of")] == before
    assert before[1] == ((), (), None, ())


def test_a_clock_that_steps_back_moves_no_heartbeat_and_no_join_back(desk: Desk) -> None:
    desk.beat("a")
    desk.clock.step(-timedelta(hours=1))
    desk.beat("a", boot_id="restarted")
    desk.backend.leave(desk.service, Participant("a", "restarted"))
    desk.clock.step(timedelta(minutes=10))
    look = desk.backend.look(desk.service, Participant("a", "again"), SETTINGS)
    [row] = desk.backend.runners(desk.service)
    assert (row.creation_time, row.last_heartbeat) == (START, START - timedelta(minutes=50))
    assert look.now == START - timedelta(minutes=50)


# The gate -----------------------------------------------------------------------------------


def test_an_admitted_run_is_stamped_and_kept_with_all_that_is_known_of_it(desk: Desk) -> None:
    desk.settle("a", "b")
    look = desk.peek()
    run = run_of("a", look.cycle.start, slot=1)
    desk.clock.advance(MICROSECOND)
    admission = desk.backend.admit(desk.service, run, SETTINGS, look)
    now = look.now + MICROSECOND
    assert admission == Admission(now, 1)
    assert run.started_at == now
    assert desk.executions() == (
        ExecutionRecord(
            service=desk.service,
            run_id=run.atomic_service_id.atomic_service_run_id,
            runner_id="a",
            fencing_token=1,
            cycle_start=look.cycle.start,
            slot_start=run.slot_start,
            slot_end=run.slot_end,
            start_time=now,
            end_time=None,
            last_heartbeat=now,
            status=RUNNING,
            reason="",
            stable_size=look.size,
            stable_digest=look.digest,
        ),
    )
    assert look.digest == set_digest(map(runner_digest, "ab"))
    assert desk.executions()[0].execution.atomic_service_run.started_at == now


def test_while_one_runs_every_other_is_refused_and_told_whose_run_it_is(desk: Desk) -> None:
    prior = desk.admitted("a")
    for slot, runner_id in enumerate("abc"):
        desk.clock.advance(SECOND)
        run = run_of(runner_id, desk.cycle_start(), slot=slot)
        admission = desk.backend.admit(desk.service, run, SETTINGS, desk.peek())
        assert admission == Admission(
            desk.clock(), None, f"prior_running:{prior}", START + TIMEOUT + MICROSECOND
        )
        assert run.started_at is None
    assert [r.run_id for r in desk.executions() if r.status is RUNNING] == [prior]


def test_a_refusal_for_a_prior_run_is_kept_once_per_runner_cycle_and_reason(desk: Desk) -> None:
    first = desk.admitted("a")
    for _ in range(3):
        desk.admit("b")
        desk.admit("c")
        desk.clock.advance(SECOND)
    expected = [("b", f"prior_running:{first}"), ("c", f"prior_running:{first}")]
    assert sorted(desk.blocked()) == expected
    desk.finish(first, ABANDONED)
    second = desk.admitted("a")
    desk.admit("b")
    expected.append(("b", f"prior_running:{second}"))
    assert sorted(desk.blocked()) == sorted(expected)
    desk.clock.advance(SETTINGS.interval - 4 * SECOND)
    desk.beat("a", run_id=second)
    desk.clock.advance(2 * SECOND)
    desk.admit("b")
    assert sorted(desk.blocked()) == sorted([*expected, ("b", f"prior_running:{second}")])
    for row in desk.executions():
        if row.status is BLOCKED:
            assert (row.fencing_token, row.end_time) == (None, row.start_time)


def test_a_served_cycle_admits_nobody_again_and_the_next_one_does(desk: Desk) -> None:
    desk.finish(desk.admitted("a"))
    for slot, runner_id in enumerate("abc"):
        assert desk.admit(runner_id, slot=slot)[1] == Admission(START, None, CYCLE_SERVED)
    assert not desk.blocked()
    desk.clock.advance(SETTINGS.interval)
    desk.admitted("b")


def test_with_every_slot_each_slot_is_served_once(desk: Desk) -> None:
    desk.settings = replace(SETTINGS, runs_per_cycle="every_slot")
    for slot, ending in enumerate([COMPLETED, ABANDONED, COMPLETED]):
        desk.finish(desk.admitted("a", slot=slot), ending, "")
        assert desk.admit("a", slot=slot)[1].refusal == CYCLE_SERVED
    assert len(desk.executions()) == 3


@pytest.mark.parametrize(
    ("status", "reason", "retry_failed", "open_again"),
    [
        (COMPLETED, "", True, False),
        (COMPLETED, NO_MARGIN, True, False),
        (ABANDONED, "exit:1", True, True),
        (ABANDONED, "exit:1", False, False),
        (ABANDONED, OWNER_DEAD, False, False),
        (ABANDONED, NO_MARGIN, True, True),
        (ABANDONED, NO_MARGIN, False, True),
    ],
)
def test_how_a_turn_ended_says_whether_a_standby_may_serve_its_cycle(
    desk: Desk,
    status: AtomicServiceExecutionStatus,
    reason: str,
    retry_failed: bool,
    open_again: bool,
) -> None:
    desk.settings = replace(SETTINGS, retry_failed=retry_failed)
    desk.finish(desk.admitted("a"), status, reason)
    _, admission = desk.admit("b", slot=1)
    assert (admission.fencing_token is not None) == open_again
    assert admission.refusal == ("" if open_again else CYCLE_SERVED)


def test_fencing_tokens_grow_by_one_and_no_refusal_uses_one_up(desk: Desk) -> None:
    tokens = []
    for _ in range(5):
        run_id, admission = desk.admit("a")
        tokens.append(admission.fencing_token)
        assert desk.admit("b")[1].fencing_token is None
        desk.finish(run_id)
        assert desk.admit("c")[1].fencing_token is None
        desk.clock.advance(SETTINGS.interval)
    assert tokens == [1, 2, 3, 4, 5]


def test_fencing_tokens_outlive_the_history(desk: Desk) -> None:
    desk.settings = replace(SETTINGS, retention_count=1)
    for _ in range(4):
        desk.serve_a_cycle()
    desk.finish("no run, only to clear up")
    assert [r.fencing_token for r in desk.executions()] == [4]
    assert desk.admit()[1].fencing_token == 5


def test_one_run_id_is_admitted_once(desk: Desk) -> None:
    run_id = desk.admitted("a")
    assert desk.admit("a", run_id=run_id)[1].refusal == f"prior_running:{run_id}"
    desk.finish(run_id, ABANDONED, "exit:1")
    before = desk.record(run_id)
    assert desk.admit("a", run_id=run_id)[1].refusal == CYCLE_SERVED
    assert desk.record(run_id) == before


# A dead owner -------------------------------------------------------------------------------


def test_an_owner_is_alive_exactly_at_the_timeout_and_dead_a_microsecond_later(desk: Desk) -> None:
    prior = desk.admitted("a")
    desk.clock.advance(TIMEOUT)
    _, refused = desk.admit("b", slot=1)
    assert refused.refusal == f"prior_running:{prior}"
    assert refused.retry_at == desk.clock() + MICROSECOND
    desk.clock.advance(MICROSECOND)
    run_id = desk.admitted("b", slot=1)
    dead = desk.record(prior)
    assert (dead.status, dead.reason, dead.end_time) == (ABANDONED, OWNER_DEAD, desk.clock())
    assert desk.record(run_id).fencing_token == 2


def test_a_dead_owner_is_closed_even_where_its_cycle_counts_as_served(desk: Desk) -> None:
    desk.settings = replace(SETTINGS, retry_failed=False)
    prior = desk.admitted("a")
    desk.clock.advance(TIMEOUT + MICROSECOND)
    assert desk.admit("b", slot=1)[1].refusal == CYCLE_SERVED
    assert desk.record(prior).reason == OWNER_DEAD
    desk.clock.advance(SETTINGS.interval)
    desk.admitted("b")


def test_a_run_lives_by_heartbeats_that_name_it_and_by_no_other(desk: Desk) -> None:
    run_id = desk.admitted("a")
    desk.clock.advance(TIMEOUT)
    assert desk.beat("a", run_id=run_id)
    assert desk.record(run_id).last_heartbeat == desk.clock()
    desk.clock.advance(TIMEOUT)
    assert desk.admit("b")[1].refusal == f"prior_running:{run_id}"
    # The process restarts under its old id: it lives, and its predecessor's run does not.
    assert not desk.beat("a", boot_id="restarted")
    assert not desk.beat("a", boot_id="restarted", run_id="of somebody")
    desk.clock.advance(MICROSECOND)
    desk.admitted("b")
    assert desk.record(run_id).reason == OWNER_DEAD
    assert not desk.beat("a", run_id=run_id)


def test_no_heartbeat_revives_a_run_that_was_closed(desk: Desk) -> None:
    run_id = desk.admitted("a")
    assert desk.beat("a", run_id=run_id)
    closed = desk.finish(run_id)
    desk.clock.advance(SECOND)
    assert not desk.beat("a", run_id=run_id)
    assert desk.record(run_id) == closed


def test_after_a_step_back_of_the_clock_an_owner_dies_by_the_clock_as_it_is(desk: Desk) -> None:
    run_id = desk.admitted("a")
    desk.clock.step(-timedelta(hours=1))
    assert desk.admit("b")[1].refusal == f"prior_running:{run_id}"
    assert desk.beat("a", run_id=run_id)
    desk.clock.advance(TIMEOUT)
    assert desk.admit("b")[1].refusal == f"prior_running:{run_id}"
    desk.clock.advance(MICROSECOND)
    assert desk.admit("b")[1].fencing_token == 2


# The end of a run ---------------------------------------------------------------------------


def test_the_first_end_of_a_run_stands_and_repeating_it_changes_nothing(desk: Desk) -> None:
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


def test_ending_a_run_that_nobody_knows_answers_none(desk: Desk) -> None:
    assert desk.finish("unknown") is None
    assert desk.executions() == ()
    assert desk.backend.execution(desk.service, "unknown") is None


def test_a_claim_that_was_blocked_is_kept_once_per_runner_cycle_and_reason(desk: Desk) -> None:
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


# What is kept -------------------------------------------------------------------------------


def test_ended_runs_are_forgotten_by_age_when_a_run_ends(desk: Desk) -> None:
    old = desk.admitted()
    desk.finish(old)
    desk.clock.advance(SETTINGS.retention_age)
    desk.finish(young := desk.admitted())
    assert [r.run_id for r in desk.executions()] == [old, young]
    desk.clock.advance(MICROSECOND)
    desk.finish("none")
    assert [r.run_id for r in desk.executions()] == [young]


def test_ended_runs_are_forgotten_by_count_the_oldest_first(desk: Desk) -> None:
    desk.settings = replace(SETTINGS, retention_count=3)
    ids = [desk.serve_a_cycle() for _ in range(6)]
    assert [r.run_id for r in desk.executions()] == ids[-3:]


def test_rows_of_the_current_cycle_are_kept_and_with_them_that_it_is_served(desk: Desk) -> None:
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


def test_a_running_row_is_never_forgotten(desk: Desk) -> None:
    desk.settings = replace(SETTINGS, retention_count=1, retention_age=SECOND)
    run_id = desk.admitted("a")
    desk.clock.advance(timedelta(days=30))
    desk.beat("a", run_id=run_id)
    for _ in range(3):
        desk.admit("b")
        desk.finish("none")
        desk.clock.advance(SECOND)
    assert desk.record(run_id).status is RUNNING


def test_runners_that_count_nowhere_are_forgotten_with_the_history(desk: Desk) -> None:
    desk.beat("gone")
    desk.clock.advance(SETTINGS.retention_age)
    desk.beat("here")
    desk.finish("none")
    assert [r.runner_id for r in desk.backend.runners(desk.service)] == ["gone", "here"]
    desk.clock.advance(MICROSECOND)
    desk.finish("none")
    assert [r.runner_id for r in desk.backend.runners(desk.service)] == ["here"]


def test_the_history_is_in_the_order_of_starts_and_can_be_cut_at_either_end(desk: Desk) -> None:
    ids = [desk.serve_a_cycle() for _ in range(4)]
    desk.admit("a")
    ids.append(desk.executions()[-1].run_id)
    desk.clock.advance(SECOND)
    desk.admit("b")
    records = desk.executions()
    assert [r.run_id for r in records[:5]] == ids
    assert (records[5].runner_id, records[5].status) == ("b", BLOCKED)

    def cut(since: datetime | None = None, limit: int | None = None) -> tuple[ExecutionRecord, ...]:
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


def test_settings_are_read_back_as_published_and_the_previous_ones_answered(desk: Desk) -> None:
    other = replace(SETTINGS, standbys=0, spread_margin=SECOND / 3, retry_failed=False)
    backend = desk.backend
    assert backend.publish_settings(desk.service, SETTINGS) is None
    assert backend.publish_settings(desk.service, other) == SETTINGS
    assert backend.settings_of(desk.service) == other
    desk.admitted()
    assert backend.settings_of(desk.service) == other


def test_services_are_those_with_settings_sorted(desk: Desk) -> None:
    desk.admitted()
    assert desk.backend.services() == ()
    for service in ("zebra", "Äpfel", "apple"):
        desk.backend.publish_settings(service, SETTINGS)
    assert desk.backend.publish_settings(desk.service, SETTINGS) is None
    assert desk.backend.services() == ("apple", desk.service, "zebra", "Äpfel")
    assert desk.admit("b")[1].refusal.startswith("prior_running:")


def test_services_do_not_see_each_other(desk: Desk) -> None:
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


def test_unusual_names_are_kept_as_they_are_and_told_apart(desk: Desk) -> None:
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


@every_storage
@some_examples
@given(
    # Redis counts to the year 2255.
    now=st.datetimes(datetime(1971, 1, 1), datetime(2255, 1, 1)),  # noqa: DTZ001 (made aware below)
    hours_east=st.integers(-23, 23),
)
def test_instants_are_kept_to_the_microsecond_wherever_they_are_told(
    storage: str, now: datetime, hours_east: int
) -> None:
    clock = ManualClock(now.replace(tzinfo=START.tzinfo))
    with fresh(storage, clock) as backend:
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
