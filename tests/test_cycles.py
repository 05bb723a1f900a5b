"""Cycles, slots and the decision taken on them: one arithmetic, to the microsecond."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from strategies import EPOCH, runners
from turnwise.atomic_service import (
    ActiveRunnerInfo,
    AtomicServiceClaim,
    decide_atomic_service_claim,
)
from turnwise.atomic_service import AtomicServiceDecisionReason as Reason
from turnwise.cycles import (
    MINUTE,
    SECOND,
    Cycle,
    Slot,
    cycle_at,
    decide,
    duration,
    instant,
    longest_cycle,
    microseconds,
    shortest_cycle,
    slot_at,
)

DAY = 24 * 60 * MINUTE
NOON = 1_790_000_000_000_000 // DAY * DAY + DAY // 2
FIVE = 5 * MINUTE

lengths = st.one_of(
    st.sampled_from([SECOND, MINUTE, FIVE, 25 * 60 * MINUTE, DAY]), st.integers(1, 3653 * DAY)
)
instants = st.integers(0, 7_258_118_400_000_000)  # 1970 to 2200
fractions = st.one_of(
    st.sampled_from([0.1, 0.3, 0.5, 1 / 3, 0.7, 1.0]), st.floats(0, 1, exclude_min=True)
)


def names(count: int) -> list[tuple[str, int]]:
    return [(f"r{number}", 0) for number in range(count)]


# Instants and durations ---------------------------------------------------------------------


@given(st.integers(-(10**16), 10**16))
def test_instants_and_durations_are_whole_microseconds_there_and_back(at: int) -> None:
    assert microseconds(instant(at)) == at
    assert microseconds(duration(at)) == at
    assert instant(at).tzinfo is UTC


def test_an_instant_of_another_zone_counts_from_the_epoch_as_well() -> None:
    vienna = datetime.fromisoformat("1970-01-01T01:00:00.000007+01:00")
    assert microseconds(vienna) == 7
    assert instant(7) == datetime(1970, 1, 1, 0, 0, 0, 7, tzinfo=UTC)
    assert duration(90_000_001) == timedelta(seconds=90, microseconds=1)


# Cycles -------------------------------------------------------------------------------------


def test_a_day_has_288_cycles_of_five_minutes_and_a_period_of_five_minutes_has_one() -> None:
    last = cycle_at(NOON, NOON + DAY, FIVE, NOON + DAY - 1)
    assert last == Cycle(NOON + DAY - FIVE, NOON + DAY, 287, NOON, NOON + DAY)
    assert cycle_at(NOON, NOON + FIVE, FIVE, NOON) == Cycle(NOON, NOON + FIVE, 0, NOON, NOON + FIVE)


@given(st.integers(1, 400), st.integers(1, 400), instants)
def test_cycles_tile_their_period_and_each_contains_its_instants(
    length: int, longest: int, due: int
) -> None:
    """All cycles of a small period, walked from edge to edge."""
    until, at, numbers, lengths = due + length, due, [], set()
    while at < until:
        cycle = cycle_at(due, until, longest, at)
        assert cycle.start == at, "no gap, and no overlap"
        lengths.add(cycle.end - cycle.start)
        assert cycle_at(due, until, longest, cycle.end - 1) == cycle
        numbers.append(cycle.number)
        at = cycle.end
    assert at == until
    assert numbers == list(range(-(-length // longest)))
    assert min(lengths) == shortest_cycle(length, longest) >= 1
    assert max(lengths) == longest_cycle(length, longest) <= longest


@given(lengths, lengths, instants, st.integers(0), st.integers(-1, 1))
def test_the_cycle_of_an_instant_contains_it_at_any_length(
    length: int, longest: int, due: int, far: int, nudge: int
) -> None:
    until, at = due + length, due + far % length
    cycle = cycle_at(due, until, longest, at)
    for moved in (at, cycle.start + nudge, cycle.end + nudge):
        if due <= moved < until:
            found = cycle_at(due, until, longest, moved)
            assert found.start <= moved < found.end <= until
            assert found.end - found.start <= longest
            assert (found.due, found.until) == (due, until)


def test_the_shortest_cycle_is_rounded_down() -> None:
    assert shortest_cycle(100, 40) == 33
    assert shortest_cycle(7 * MINUTE, FIVE) == 210 * SECOND


# Slots --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 65))
@pytest.mark.parametrize("window", [0.5, 1.0])
def test_slots_change_hands_where_the_decision_changes_its_mind(count: int, window: float) -> None:
    """At each edge of each slot, and a microsecond to either side of it."""
    among, end = names(count), NOON + FIVE
    for position in range(count):
        slot = slot_at(NOON, end, position, count, margin=SECOND, window=window)
        for edge in (slot.start, slot.latest, slot.end, slot.guard_end):
            for at in (edge - 1, edge, edge + 1):
                if not NOON <= at < end:
                    continue
                claim = decide(
                    NOON,
                    end,
                    among,
                    f"r{position}",
                    at,
                    margin=SECOND,
                    window=window,
                    stabilization=0,
                )
                assert claim.should_try_start == (slot.start <= at <= slot.latest)
                assert claim.is_slot_owner_now == (slot.start <= at < slot.guard_end)
                assert claim.runner_position == position
                assert claim.slot_start == instant(slot.start)
                assert claim.slot_end == instant(slot.end)


@st.composite
def slots(draw: st.DrawFn) -> tuple[int, int, int, float]:
    """A cycle's length, how many runners share it, a margin and a window."""
    length = draw(lengths)
    count = draw(st.integers(1, 64))
    margin = draw(st.sampled_from([0, 1, SECOND]) | st.integers(0, length))
    return length, count, margin, draw(fractions)


@given(slots(), instants)
def test_slots_and_guard_times_tile_the_cycle(
    shared: tuple[int, int, int, float], start: int
) -> None:
    length, count, margin, window = shared
    made = [
        slot_at(start, start + length, position, count, margin=margin, window=window)
        for position in range(count)
    ]
    assert [slot.position for slot in made] == list(range(count))
    edges = [slot.start for slot in made] + [start + length]
    assert edges[0] == start
    assert [slot.guard_end for slot in made] == edges[1:]
    for slot in made:
        guard = 0 if count == 1 else margin
        assert slot.end == max(slot.start, slot.guard_end - guard)
        assert slot.start - 1 <= slot.latest < max(slot.end, slot.start)


@given(slots(), st.data())
def test_the_latest_start_is_the_last_that_the_decision_does_not_call_late(
    shared: tuple[int, int, int, float], data: st.DataObject
) -> None:
    length, count, margin, window = shared
    position = data.draw(st.integers(0, count - 1))
    slot = slot_at(NOON, NOON + length, position, count, margin=margin, window=window)
    for at in (slot.latest, slot.latest + 1):
        if not NOON <= at < NOON + length:
            continue
        claim = decide(
            NOON,
            NOON + length,
            names(count),
            f"r{position}",
            at,
            margin=margin,
            window=window,
            stabilization=0,
        )
        assert claim.should_try_start == (slot.start <= at == slot.latest)


def test_a_slot_of_which_the_margin_leaves_nothing_has_no_start_that_is_in_time() -> None:
    for window in (0.5, 1.0):
        slot = slot_at(0, 30, 1, 3, margin=10, window=window)
        assert slot == Slot(1, start=10, end=10, guard_end=20, latest=9)


def test_a_cycle_with_more_runners_than_microseconds_has_empty_slots() -> None:
    made = [slot_at(0, 2, position, 3, margin=0, window=1.0) for position in range(3)]
    assert [(slot.start, slot.end, slot.latest) for slot in made] == [
        (0, 1, 0),
        (1, 2, 1),
        (2, 2, 1),
    ]


def test_a_lone_runner_has_the_whole_cycle_without_guard_time() -> None:
    assert slot_at(NOON, NOON + FIVE, 0, 1, margin=SECOND, window=0.5) == Slot(
        0, NOON, NOON + FIVE, NOON + FIVE, NOON + FIVE // 2
    )


@pytest.mark.parametrize(
    ("length", "window", "last"),
    [
        (10, 0.3, 3),  # as a float 10 * 0.3 is 3
        (100, 0.29, 29),  # 100 * 0.29 is 28.999999999999996, and 29 / 100 is 0.29
        (3, 1 / 3, 1),
        (10, 0.999_999, 9),
        (1, 0.5, 0),
        (1, 1.0, 0),
        (5, 5e-324, 0),
        (622, 0.972668810289389, 604),  # 622 * it is 605.0, and 605 / 622 is more than it
        (3 * 10**14, 1 - 2**-53, 3 * 10**14 - 1),
    ],
)
def test_the_latest_start_is_exact_where_a_float_is_not(
    length: int, window: float, last: int
) -> None:
    slot = slot_at(0, length, 0, 1, margin=0, window=window)
    assert slot.latest == last
    assert last == 0 or last / length <= window
    assert last + 1 == length or (last + 1) / length > window


# The decision -------------------------------------------------------------------------------


def asked(
    length: int, count: int, name: str, now: int, *, margin: int, window: float, stabilization: int
) -> AtomicServiceClaim:
    """The decision in real time, whose cycles are aligned to the epoch."""
    joined = EPOCH + timedelta(days=20_000)
    return decide_atomic_service_claim(
        runner_id=name,
        active_runners=[replace_joined(runner, joined) for runner in runners(count)],
        current_time=now / SECOND,
        service_interval_minutes=length / MINUTE,
        spread_margin_minutes=margin / MINUTE,
        membership_stabilization_seconds=stabilization / SECOND,
        max_start_slot_fraction=window,
    )


def replace_joined(runner: ActiveRunnerInfo, joined: datetime) -> ActiveRunnerInfo:
    return runner._replace(creation_time=joined)


@given(
    st.sampled_from([SECOND, MINUTE, FIVE, DAY]) | st.integers(1_000, 30 * DAY),
    st.integers(1, 12),
    st.integers(-1, 11),
    st.integers(-3, 3),
    st.integers(20_000 * DAY, 40_000 * DAY),
    fractions,
    st.sampled_from([0, 1, 90 * SECOND, 10**15]),
)
def test_a_decision_that_was_moved_is_the_decision_in_real_time_where_the_cycle_is_aligned(
    length: int, count: int, position: int, nudge: int, near: int, window: float, stabilization: int
) -> None:
    start = near // length * length
    edge = slot_at(start, start + length, max(position, 0) % count, count, margin=0, window=1)
    now = edge.start + nudge if nudge else near
    assume(start <= now < start + length)
    name, margin = f"r{position}", length // 40
    moved = decide(
        start,
        start + length,
        [(f"r{number}", 20_000 * DAY) for number in range(count)],
        name,
        now,
        margin=margin,
        window=window,
        stabilization=stabilization,
    )
    real = asked(
        length, count, name, now, margin=margin, window=window, stabilization=stabilization
    )
    assert replace(moved, atomic_service_run=None) == replace(real, atomic_service_run=None)
    mine, theirs = moved.atomic_service_run, real.atomic_service_run
    assert (mine is None) == (theirs is None)
    if mine is not None and theirs is not None:
        assert mine.runner_id == theirs.runner_id == name
        assert (mine.cycle_start, mine.slot_start, mine.slot_end, mine.started_at) == (
            theirs.cycle_start,
            theirs.slot_start,
            theirs.slot_end,
            theirs.started_at,
        )


def test_the_run_of_a_claim_is_in_real_time_and_keeps_its_identity() -> None:
    start = NOON + 7  # no multiple of anything
    claim = decide(
        start, start + FIVE, names(1), "r0", start + 3, margin=0, window=0.5, stabilization=0
    )
    run = claim.atomic_service_run
    assert run is not None
    assert claim.cycle_start == run.cycle_start == run.slot_start == instant(start)
    assert run.slot_end == instant(start + FIVE)
    assert run.started_at == instant(start + 3)
    assert (run.runner_id, claim.assigned_runner_id) == ("r0", "r0")


@pytest.mark.parametrize(("age", "cleared"), [(89, False), (90, True)])
def test_a_young_runner_is_in_grace_for_the_stabilization(age: int, *, cleared: bool) -> None:
    claim = decide(
        NOON,
        NOON + FIVE,
        [("r0", NOON)],
        "r0",
        NOON + age * SECOND,
        margin=0,
        window=0.5,
        stabilization=90 * SECOND,
    )
    assert claim.should_try_start == cleared
    assert (claim.reason is Reason.SCHEDULED_RUNNER_IN_GRACE) != cleared


@pytest.mark.parametrize("now", [NOON - 1, NOON + FIVE])
def test_an_instant_outside_the_cycle_is_refused(now: int) -> None:
    with pytest.raises(ValueError, match=r"^now must be within \[\d+, \d+\), got \d+$"):
        decide(NOON, NOON + FIVE, names(1), "r0", now, margin=0, window=0.5, stabilization=0)


def test_an_argument_out_of_its_range_is_refused_as_by_the_decision() -> None:
    with pytest.raises(ValueError, match="max_start_slot_fraction"):
        decide(NOON, NOON + FIVE, names(1), "r0", NOON, margin=0, window=0.0, stabilization=0)
