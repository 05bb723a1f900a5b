"""Who counts in a cycle: frozen while it lasts, whatever happens meanwhile."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from strategies import MICROSECOND, between
from turnwise.atomic_service import ActiveRunnerInfo
from turnwise.membership import (
    Cycle,
    RunnerRecord,
    after_heartbeat,
    after_leave,
    cycle_at,
    first_position,
    is_gone,
    runner_digest,
    schedule,
    scheduled_position,
    set_digest,
    set_rules,
    stable_set,
    why_not_stable,
)
from turnwise.old_settings import Settings

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SETTINGS = Settings()


def beat(name: str, now: datetime, *, may_run: bool = True, boot_id: str = "boot") -> RunnerRecord:
    """The row that a heartbeat of a new runner would make."""
    return RunnerRecord(name, now, now, may_run, boot_id=boot_id)


class FrozenMembership(RuleBasedStateMachine):
    """Runners come, go, fall silent and come back; nobody's look at a cycle ever changes."""

    names = st.sampled_from(["a", "b", "c", "d"])

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, RunnerRecord] = {}
        self.seen: dict[int, tuple[ActiveRunnerInfo, ...]] = {}
        self.now = NOON

    @initialize(
        margin=st.sampled_from([0, 1, 20, 99]),
        timeout=st.sampled_from([1, 60, 299, 300]),
        once=st.booleans(),
        start=st.integers(0, 299),
    )
    def set_up(self, margin: int, timeout: int, *, once: bool, start: int) -> None:
        self.settings = Settings(
            spread_margin=margin * SECOND,
            heartbeat_timeout=timeout * SECOND,
            runs_per_cycle="once" if once else "every_slot",
        )
        self.now = NOON + start * SECOND

    @property
    def cycle(self) -> Cycle:
        return cycle_at(self.now, self.settings.interval)

    @rule(name=names, may_run=st.booleans(), boot_id=st.sampled_from(["one", "two"]))
    def heartbeat(self, name: str, boot_id: str, *, may_run: bool) -> None:
        before = self.rows.get(name)
        after = after_heartbeat(
            before, beat(name, self.now, may_run=may_run, boot_id=boot_id), self.settings
        )
        if before is not None:
            assert after.last_heartbeat >= before.last_heartbeat
            assert after.creation_time >= before.creation_time
        assert after.last_heartbeat == self.now
        assert after.boot_id == boot_id
        self.rows[name] = after

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.rows)))
        self.rows[name] = after_leave(self.rows[name], self.now)

    @rule(seconds=st.integers(0, 400))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @rule(off=st.integers(-1, 1), before=st.sampled_from(["nothing", "margin", "timeout"]))
    def time_passes_to_an_edge(self, off: int, before: str) -> None:
        """To the next cycle's start, or to where its conditions look back to, give or take 1 µs."""
        back = {
            "nothing": timedelta(0),
            "margin": self.settings.spread_margin,
            "timeout": self.settings.heartbeat_timeout,
        }
        self.now = max(self.now, self.cycle.end - back[before] + off * MICROSECOND)

    @invariant()
    def every_look_within_a_cycle_gives_the_same_set(self) -> None:
        stable = stable_set(self.rows.values(), self.cycle.start, self.settings)
        frozen = [(runner.runner_id, runner.creation_time) for runner in stable]
        assert frozen == sorted(frozen, key=lambda row: (row[1], row[0]))
        first = self.seen.setdefault(self.cycle.number, stable)
        assert frozen == [(runner.runner_id, runner.creation_time) for runner in first]

    @invariant()
    def who_is_in_has_no_reason_to_be_out(self) -> None:
        stable = {
            r.runner_id for r in stable_set(self.rows.values(), self.cycle.start, self.settings)
        }
        for name, row in self.rows.items():
            assert (why_not_stable(row, self.cycle.start, self.settings) is None) == (
                name in stable
            )


def test_within_one_cycle_every_look_gives_the_same_set() -> None:
    run_state_machine_as_test(
        FrozenMembership, settings=settings(max_examples=500, stateful_step_count=50)
    )


def steady(count: int) -> tuple[ActiveRunnerInfo, ...]:
    long_ago = NOON - timedelta(days=1)
    rows = [RunnerRecord(f"r{number}", long_ago, NOON) for number in range(count)]
    return stable_set(rows, NOON, SETTINGS)


def cycles_from(instant: datetime) -> Iterator[Cycle]:
    while True:
        cycle = cycle_at(instant, SETTINGS.interval)
        yield cycle
        instant = cycle.end


names_of_services = st.text(min_size=1, max_size=20)


@given(st.integers(1, 40), st.integers(0, 5), names_of_services)
def test_over_as_many_cycles_as_runners_each_is_primary_once_and_stands_by_as_often_as_the_others(
    count: int, standbys: int, service: str
) -> None:
    knobs = replace(SETTINGS, standbys=standbys, spread_margin=SECOND)
    stable = steady(count)
    turns = [schedule(stable, service, cycle, knobs) for cycle in islice(cycles_from(NOON), count)]
    everybody = sorted(runner.runner_id for runner in stable)
    for position in range(min(count, 1 + standbys)):
        assert sorted(turn[position].runner_id for turn in turns) == everybody
    assert {len(turn) for turn in turns} == {min(count, 1 + standbys)}


@given(
    st.integers(1, 40),
    st.integers(0, 5),
    names_of_services,
    st.integers(-(10**7), 10**7),
    st.sampled_from(["once", "every_slot"]),
)
def test_a_runners_place_in_the_schedule_is_the_same_alone_and_in_the_list(
    count: int, standbys: int, service: str, number: int, runs: str
) -> None:
    knobs = Settings(
        standbys=standbys,
        spread_margin=SECOND,
        runs_per_cycle="once" if runs == "once" else "every_slot",
    )
    stable = steady(count)
    scheduled = schedule(stable, service, Cycle(number, NOON, NOON), knobs)
    for index, runner in enumerate(stable):
        place = scheduled_position(index, service, number, count, knobs)
        assert (None if runner not in scheduled else scheduled.index(runner)) == place


def test_several_services_fall_on_different_runners() -> None:
    firsts = {first_position(f"service {number}", 0, 10) for number in range(50)}
    assert firsts == set(range(10))


def test_every_slot_gives_the_set_as_it_is() -> None:
    stable = steady(5)
    knobs = replace(SETTINGS, runs_per_cycle="every_slot")
    assert schedule(stable, "s", cycle_at(NOON, SETTINGS.interval), knobs) == stable


def test_nobody_is_scheduled_from_an_empty_set() -> None:
    assert schedule((), "s", cycle_at(NOON, SETTINGS.interval), SETTINGS) == ()


def test_a_young_runner_that_beats_shortly_before_each_edge_gets_in() -> None:
    """Its own heartbeats do not make it new again."""
    row: RunnerRecord | None = None
    for seconds in (-21, -19, -1):
        row = after_heartbeat(row, beat("young", NOON + seconds * SECOND), SETTINGS)
    assert row is not None
    assert row.creation_time == NOON - 21 * SECOND
    assert why_not_stable(row, NOON, SETTINGS) is None


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (beat("r", NOON - 20 * SECOND - MICROSECOND), None),
        (beat("r", NOON - 20 * SECOND), "joined too late for this cycle"),
        (RunnerRecord("r", EPOCH, NOON - 60 * SECOND), None),
        (
            RunnerRecord("r", EPOCH, NOON - 60 * SECOND - MICROSECOND),
            "silent: its heartbeat is too old",
        ),
        (RunnerRecord("r", EPOCH, NOON, left_at=NOON), None),
        (RunnerRecord("r", EPOCH, NOON, left_at=NOON - MICROSECOND), "left"),
        (RunnerRecord("r", EPOCH, EPOCH, left_at=NOON - MICROSECOND), "left"),
        (RunnerRecord("r", NOON - 20 * SECOND, NOON, left_at=NOON), "left"),
        (RunnerRecord("r", EPOCH, NOON - 61 * SECOND, left_at=NOON), "left"),
        (RunnerRecord("r", EPOCH, NOON, may_run=False), "may not run the service"),
    ],
)
def test_each_condition_holds_to_the_microsecond(row: RunnerRecord, why: str | None) -> None:
    assert why_not_stable(row, NOON, SETTINGS) == why


def test_a_restarted_process_under_the_same_id_keeps_its_place() -> None:
    row = RunnerRecord("r", EPOCH, NOON - SECOND, boot_id="before")
    after = after_heartbeat(row, beat("r", NOON + SECOND, boot_id="after"), SETTINGS)
    assert after == replace(row, last_heartbeat=NOON + SECOND, boot_id="after")


def test_a_runner_that_was_silent_for_too_long_joins_anew() -> None:
    row = RunnerRecord("r", EPOCH, NOON - 61 * SECOND, left_at=NOON - 70 * SECOND)
    assert is_gone(row, NOON, SETTINGS)
    assert after_heartbeat(row, beat("r", NOON + SECOND), SETTINGS) == beat("r", NOON + SECOND)


def test_a_runner_that_comes_back_within_the_cycle_never_left() -> None:
    row = after_leave(RunnerRecord("r", EPOCH, NOON), NOON + SECOND)
    assert row.left_at == NOON + SECOND
    assert after_leave(row, NOON + 2 * SECOND).left_at == NOON + SECOND, "the first mark stands"
    back = after_heartbeat(row, beat("r", NOON + 3 * SECOND), SETTINGS)
    assert (back.left_at, back.creation_time) == (None, EPOCH)


def test_a_runner_that_left_in_an_earlier_cycle_joins_anew() -> None:
    row = after_leave(RunnerRecord("r", EPOCH, NOON), NOON - SECOND)
    assert after_heartbeat(row, beat("r", NOON), SETTINGS).creation_time == NOON


def test_a_runner_that_may_no_longer_run_leaves_and_comes_back_as_such() -> None:
    row = RunnerRecord("r", EPOCH, NOON)
    barred = beat("r", NOON + SECOND, may_run=False)
    leaving = after_heartbeat(row, barred, SETTINGS)
    assert (leaving.may_run, leaving.left_at) == (True, NOON + SECOND)
    again = after_heartbeat(leaving, beat("r", NOON + 9 * SECOND, may_run=False), SETTINGS)
    assert again.left_at == NOON + SECOND
    later = beat("r", NOON + 301 * SECOND, may_run=False)
    assert after_heartbeat(again, later, SETTINGS) == later
    allowed = beat("r", NOON + 302 * SECOND)
    assert after_heartbeat(later, allowed, SETTINGS) == allowed


def test_a_storages_clock_that_steps_back_takes_no_creation_time_back() -> None:
    row = RunnerRecord("r", NOON, NOON, may_run=False)
    assert after_heartbeat(row, beat("r", NOON - SECOND), SETTINGS).creation_time == NOON
    row = RunnerRecord("r", NOON, NOON)
    assert after_heartbeat(row, beat("r", NOON - SECOND), SETTINGS).last_heartbeat == NOON


@given(st.lists(st.text(max_size=10), max_size=8, unique=True), st.randoms())
def test_a_digest_tells_sets_apart_whatever_their_order(names: list[str], random: object) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined] # a random.Random
    digest = set_digest(map(runner_digest, names))
    assert set_digest(map(runner_digest, shuffled)) == digest
    assert len(digest) == 12
    assert set_digest(map(runner_digest, [*names, "one more than before"])) != digest


def test_digests_are_the_same_on_every_machine_and_in_every_version() -> None:
    """Runners of two versions, side by side, must rotate alike."""
    assert (
        set_digest([runner_digest("a"), runner_digest("b")]) == "08bb6928ca54"
    )  # the sum of two SHA-256
    assert first_position("housekeeping", 0, 1000) == 676
    assert runner_digest("\ud800") != runner_digest("?"), "any text has one"


@given(
    st.integers(-2 * 10**15, 2 * 10**17),
    between(MICROSECOND, timedelta(days=3653)),
)
def test_an_instants_cycle_contains_it_and_starts_at_a_multiple_of_the_interval(
    now_us: int, interval: timedelta
) -> None:
    now = EPOCH + now_us * MICROSECOND
    cycle = cycle_at(now, interval)
    assert cycle.start <= now < cycle.end == cycle.start + interval
    assert cycle.start - EPOCH == cycle.number * interval


def test_a_row_tells_the_decision_what_it_reads() -> None:
    row = RunnerRecord("r", EPOCH, NOON, may_run=True)
    assert row.to_active_runner() == ActiveRunnerInfo("r", EPOCH, NOON, True)  # noqa: FBT003


@pytest.mark.parametrize(
    ("knob", "value", "counts"),
    [
        ("interval", timedelta(minutes=6), True),
        ("spread_margin", 21 * SECOND, True),
        ("heartbeat_timeout", 61 * SECOND, True),
        ("runs_per_cycle", "every_slot", True),
        ("standbys", 1, True),
        ("max_start_slot_fraction", 0.6, False),
        ("membership_stabilization", SECOND, False),
        ("min_run_margin", SECOND, False),
        ("retry_failed", False, False),
        ("retention_age", timedelta(hours=2), False),
        ("retention_count", 7, False),
    ],
)
def test_the_rules_of_a_set_name_just_the_knobs_that_decide_who_has_a_slot(
    knob: str, value: object, *, counts: bool
) -> None:
    other = replace(SETTINGS, **{knob: value})  # type: ignore[arg-type]  # of the field's type
    assert (set_rules(other) != set_rules(SETTINGS)) == counts
    assert set_rules(SETTINGS) == "5m, 20s, 1m, 2 standbys"


def test_where_each_slot_is_served_the_rules_of_a_set_name_no_standbys() -> None:
    each = replace(SETTINGS, runs_per_cycle="every_slot")
    assert set_rules(each) == set_rules(replace(each, standbys=1)) == "5m, 20s, 1m, every slot"
