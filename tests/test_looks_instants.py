"""When a runner looks next, to the microsecond: at its slot, late in a cycle, once refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records import FIVE, RULES, cycle_plan, with_rules
from turnwise import gate as gates
from turnwise.cycles import SECOND
from turnwise.gate import Gate, Pause, Trigger
from turnwise.looks import Lookout, is_for_trigger, late_in, next_look
from turnwise.plan import CyclePlan, Plan, Planner
from turnwise.schedules import Every

NOON = 1_790_000_000_000_000 // FIVE * FIVE
PLANNER = Planner(Every("5m"), FIVE, RULES, "settings", 0)
CYCLE = cycle_plan(NOON, NOON + FIVE, "a", "b", "c")
SLOT = FIVE // 3
BARE = Gate(floor=NOON - 1)
SERVED = gates.new_gate(NOON)
NAMES = st.text("abcdef", min_size=1, max_size=8)


def looks(
    name: str,
    now: int,
    *,
    cycle: CyclePlan | None = CYCLE,
    gate: Gate = BARE,
    planner: Planner = PLANNER,
    interval: int = 20 * SECOND,
    used: int | None = None,
    is_blocked: bool = False,
) -> int:
    """When the runner looks next, in microseconds after noon."""
    who = Lookout(name, planner, interval, used, is_blocked)
    plan = None if cycle is None else Plan((cycle,))
    return next_look(plan, gate, who, NOON + now) - NOON


def triggered(gate: Gate, at: int) -> Gate:
    return replace(gate, trigger=Trigger("t", NOON + at, "me", ""))


# The next cycle -----------------------------------------------------------------------------------


@given(NAMES, st.integers(0, FIVE - 20 * SECOND - 1), st.integers(0, 60 * SECOND))
def test_a_runner_plans_within_the_margin_before_the_next_cycle_and_leaves_a_quarter_of_it(
    name: str, now: int, margin: int
) -> None:
    """However long the margin is; the period is served, so there is nothing else to look for."""
    now = min(now, FIVE - margin - 1)
    planner = replace(PLANNER, rules=replace(RULES, margin=margin))
    at = looks(name, now, gate=SERVED, planner=planner)
    assert FIVE - margin <= at <= FIVE - margin // 4


def test_who_plans_first_differs_from_cycle_to_cycle_and_all_of_the_margin_is_used() -> None:
    names = [f"runner-{number}" for number in range(200)]
    firsts = set()
    for number in range(20):
        start = NOON + number * FIVE
        plan = Plan((cycle_plan(start, start + FIVE),))
        gate = gates.new_gate(start)
        before = {}
        for name in names:
            who = Lookout(name, PLANNER, SECOND, None, is_blocked=False)
            before[name] = start + FIVE - next_look(plan, gate, who, start)
        firsts.add(max(before, key=before.__getitem__))
        assert len(set(before.values())) == len(names)
        assert max(before.values()) > 19 * SECOND
        assert 5 * SECOND <= min(before.values()) < 6 * SECOND
    assert len(firsts) > 10


@pytest.mark.parametrize("within", [None, FIVE - 1, FIVE // 2, FIVE // 2 - 1, 0])
@pytest.mark.parametrize("gate", [BARE, SERVED])
def test_where_a_plan_ends_within_its_period_the_rest_is_planned_unless_that_is_over_or_too_late(
    within: int | None, gate: Gate
) -> None:
    planner = replace(PLANNER, cycle=FIVE // 2, rules=replace(RULES, start_within=within))
    half = cycle_plan(NOON, NOON + FIVE // 2, "a", due=NOON, until=NOON + FIVE)
    at = looks("a", 100 * SECOND, cycle=half, gate=gate, planner=planner, used=NOON)
    goes_on = gate is BARE and (within is None or within >= FIVE // 2)
    end = FIVE // 2 if goes_on else FIVE
    assert end - 20 * SECOND <= at <= end - 5 * SECOND


def test_without_a_plan_the_next_period_is_planned_where_this_one_is_over() -> None:
    assert FIVE - 20 * SECOND <= looks("a", 9, cycle=None, gate=SERVED) <= FIVE - 5 * SECOND
    assert looks("a", 9, cycle=None) == 9 + 20 * SECOND, "it was to be planned just now"


# In a cycle ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "start"), [("b", SLOT), ("c", 2 * SLOT)])
@given(now=st.integers(0, FIVE))
def test_a_runner_looks_when_its_slot_starts(name: str, start: int, now: int) -> None:
    if now < start:
        assert looks(name, now) == start
        assert looks(name, now, is_blocked=True) == start
        assert looks(name, now, gate=SERVED) > start
        assert looks(name, now, gate=triggered(SERVED, 0)) == start
        assert looks(name, now, gate=replace(BARE, pause=Pause(NOON, "ops", ""))) > start


@given(NAMES, st.integers(1, 10**9))
def test_late_in_a_cycle_is_in_the_middle_half_of_the_last_window(name: str, at: int) -> None:
    cycle = cycle_plan(at, at + FIVE, "a", "b", "c")
    slot = cycle.slot(2)
    window = slot.latest - slot.start
    assert slot.start + window // 4 <= late_in(cycle, name) <= slot.start + window * 3 // 4


def test_those_who_look_late_in_a_cycle_are_spread_over_that_half() -> None:
    slot = CYCLE.slot(2)
    parts = [
        (late_in(CYCLE, f"runner-{number}") - slot.start) / (slot.latest - slot.start)
        for number in range(300)
    ]
    assert min(parts) < 0.27
    assert max(parts) > 0.73
    assert len(set(parts)) == 300
    following = cycle_plan(NOON + FIVE, NOON + 2 * FIVE, "a", "b", "c")
    firsts = [
        min((late_in(cycle, f"runner-{number}"), number) for number in range(300))[1]
        for cycle in (CYCLE, following)
    ]
    assert firsts[0] != firsts[1], "and others come first in the next one"


@pytest.mark.parametrize(
    ("name", "now", "used"),
    [("nobody", 0, None), ("a", 9, NOON), ("a", CYCLE.slot(0).latest - NOON + 1, None)],
)
def test_who_has_no_slot_ahead_looks_late_in_the_cycle_and_not_where_each_has_its_own(
    name: str, now: int, used: int | None
) -> None:
    assert looks(name, now, used=used) == late_in(CYCLE, name) - NOON
    own = with_rules(CYCLE, every_slot=True)
    assert looks(name, now, used=used, cycle=own) >= FIVE - 20 * SECOND
    assert looks(name, now, used=used, gate=SERVED) >= FIVE - 20 * SECOND


@given(
    length=st.integers(3, 10**9),
    window=st.sampled_from([0.01, 0.3, 0.5, 1.0]),
    interval=st.integers(1, 10**8),
    part=st.floats(0, 1),
)
def test_who_is_refused_tries_ten_times_in_its_window_and_no_oftener_than_the_storage_likes(
    length: int, window: float, interval: int, part: float
) -> None:
    """Fifty times in a second at most, and twice in a shorter window; once more when it is over."""
    cycle = with_rules(cycle_plan(NOON, NOON + length, "a"), window=window, margin=0)
    slot = cycle.slot(0)
    width = slot.latest - slot.start
    now = int(width * part)
    pause = max(width // 10, min(20_000, width // 2), 1)
    until = min(now + min(pause, interval), width + 1)
    planner = Planner(Every("1h"), 12 * FIVE, RULES, "settings", 0)
    found = looks("a", now, cycle=cycle, planner=planner, interval=interval, is_blocked=True)
    assert found == until


@given(st.lists(st.integers(0, 100), min_size=3, max_size=3), st.integers(1, 40))
def test_who_may_start_but_for_its_stabilization_looks_when_somebodys_is_over(
    joined: list[int], grace: int
) -> None:
    runners = tuple(
        (name, NOON + (second - 60) * SECOND) for name, second in zip("abc", joined, strict=True)
    )
    cycle = with_rules(replace(CYCLE, runners=runners), stabilization=grace * SECOND)
    over = [second - 60 + grace for second in joined]
    following = [second * SECOND for second in over if second * SECOND > 9]
    expected = min(following, default=None)
    at = looks("a", 9, cycle=cycle)
    assert at == expected if expected is not None else at >= FIVE - 20 * SECOND


# Pauses and triggers ------------------------------------------------------------------------------


@pytest.mark.parametrize("until", [None, 60 * SECOND])
def test_a_pause_that_ends_by_itself_is_looked_at_when_it_does(until: int | None) -> None:
    end = None if until is None else NOON + until
    at = looks("b", 9, gate=replace(BARE, pause=Pause(NOON, "ops", "", end)))
    assert at == until if until is not None else at >= FIVE - 20 * SECOND


@pytest.mark.parametrize("is_covered", [False, True])
@pytest.mark.parametrize("is_paused", [False, True])
def test_a_trigger_is_looked_at_where_the_cycle_ends_or_after_a_heartbeat_where_none_is_planned(
    *, is_covered: bool, is_paused: bool
) -> None:
    """The planning of the next cycle is far off, as the margin is none."""
    planner = replace(PLANNER, rules=replace(RULES, margin=0))
    long = cycle_plan(NOON, NOON + FIVE - 7, "a", due=NOON, until=NOON + FIVE)
    gate = triggered(SERVED, -1)
    if is_paused:
        gate = replace(gate, pause=Pause(NOON, "ops", ""))
    cycle = long if is_covered else None
    now = long.slot(0).latest - NOON + 1
    at = looks("a", now, cycle=cycle, gate=gate, planner=planner, used=NOON, interval=60 * SECOND)
    if is_paused:
        assert at == FIVE
    elif is_covered:
        assert at == FIVE - 7
    else:
        assert at == now + 60 * SECOND


@pytest.mark.parametrize(("at", "has_waited"), [(-FIVE, True), (-FIVE + 1, False)])
@pytest.mark.parametrize("every_slot", [False, True])
@pytest.mark.parametrize("has_failed", [False, True])
def test_a_trigger_that_waited_for_a_whole_cycle_takes_the_place_of_what_gives_way(
    at: int, *, has_waited: bool, every_slot: bool, has_failed: bool
) -> None:
    cycle = with_rules(CYCLE, every_slot=every_slot)
    gate = replace(BARE, attempts=((NOON, 1),) if has_failed else ())
    expected = has_waited and (every_slot or has_failed)
    assert is_for_trigger(triggered(gate, at), cycle, cycle.slot(0), now=NOON) == expected
    assert not is_for_trigger(gate, cycle, cycle.slot(0), now=NOON)
    served = triggered(replace(gate, floor=NOON), at)
    assert is_for_trigger(served, cycle, cycle.slot(0), now=NOON)
