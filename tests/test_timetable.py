"""The timetable: the same slots as the decision's, and when a runner's next turn is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies import MICROSECOND, between
from turnwise import ActiveRunnerInfo, Settings, decide_atomic_service_claim
from turnwise import AtomicServiceDecisionReason as Reason
from turnwise.membership import RunnerRecord, cycle_at, schedule, stable_set
from turnwise.old_settings import RunsPerCycle
from turnwise.timetable import (
    Role,
    decide,
    first_cycle_after_joining,
    lay_out,
    next_turn,
    slot_at,
)

SECOND = timedelta(seconds=1)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVERY_SLOT = Settings(runs_per_cycle="every_slot")
ONCE = Settings()


def runners(count: int) -> tuple[ActiveRunnerInfo, ...]:
    return tuple(ActiveRunnerInfo(f"r{n}", LONG_AGO, LONG_AGO) for n in range(count))


def names(count: int) -> list[str]:
    return [runner.runner_id for runner in runners(count)]


intervals = st.one_of(
    st.sampled_from([60 * SECOND, 300 * SECOND, timedelta(days=1)]),
    between(timedelta(milliseconds=10), timedelta(days=3653)),
)


# The decision takes its now as a float, which tells microseconds apart until the year 2242.
instants = between(timedelta(days=-25_000), timedelta(days=98_000)).map(
    lambda since: datetime(1970, 1, 1, tzinfo=UTC) + since
)


@st.composite
def cycles(draw: st.DrawFn, runs: RunsPerCycle | None = None) -> tuple[Settings, datetime]:
    """Settings, and the start of one of their cycles."""
    made = Settings.for_interval(
        draw(intervals),
        runs_per_cycle=runs or draw(st.sampled_from(["once", "every_slot"])),
        standbys=draw(st.integers(0, 4)),
        max_start_slot_fraction=draw(st.sampled_from([0.1, 0.5, 1.0])),
    )
    return made, cycle_at(draw(instants), made.interval).start


# Slots --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 65))
def test_slots_change_hands_where_the_decision_changes_its_mind(count: int) -> None:
    """At each edge of each slot, and a microsecond to either side of it."""
    among = runners(count)
    settings = replace(EVERY_SLOT, spread_margin=SECOND, max_start_slot_fraction=1.0)
    slots = lay_out(names(count), NOON, settings)
    for slot in slots:
        for edge in (slot.start, slot.end, slot.guard_end):
            for at in (edge - MICROSECOND, edge, edge + MICROSECOND):
                if not NOON <= at < NOON + settings.interval:
                    continue
                claim = decide(slot.runner_id, among, at, settings)
                assert claim.should_try_start == (slot.start <= at < slot.end)
                assert claim.is_slot_owner_now == (slot.start <= at < slot.guard_end)
                assert (claim.slot_start, claim.slot_end) == (slot.start, slot.end)


@given(cycles(), st.integers(1, 100))
def test_slots_and_guard_times_tile_the_cycle(cycle: tuple[Settings, datetime], count: int) -> None:
    settings, start = cycle
    slots = lay_out(names(count), start, settings)
    edges = [slot.start for slot in slots] + [start + settings.interval]
    assert edges[0] == start
    assert [slot.guard_end for slot in slots] == edges[1:]
    assert all(slot.start <= slot.end <= slot.guard_end for slot in slots)
    assert [slot.runner_id for slot in slots] == names(count)
    assert slots == tuple(
        slot_at(n, count, name, start, settings) for n, name in enumerate(names(count))
    )


@given(cycles(), st.integers(1, 20), st.data())
def test_the_latest_start_is_the_last_instant_that_the_decision_does_not_call_late(
    cycle: tuple[Settings, datetime], count: int, data: st.DataObject
) -> None:
    settings, start = cycle
    slot = data.draw(st.sampled_from(lay_out(names(count), start, settings)))
    if slot.start == slot.end:
        return
    latest = slot.latest_start(settings.max_start_slot_fraction)
    assert slot.start <= latest <= slot.end
    late = {}
    for at in (latest - MICROSECOND, latest + MICROSECOND):
        claim = decide(slot.runner_id, runners(count), at, settings)
        if slot.start <= at < slot.end:
            late[at] = claim.reason is Reason.LATE_START
    assert late.get(latest - MICROSECOND, False) is False
    assert late.get(latest + MICROSECOND, True) is True


def test_the_first_is_primary_and_the_others_stand_by_or_are_primary_in_their_own_slots() -> None:
    assert [slot.role for slot in lay_out(names(3), NOON, ONCE)] == [
        Role.PRIMARY,
        Role.STANDBY,
        Role.STANDBY,
    ]
    assert {slot.role for slot in lay_out(names(3), NOON, EVERY_SLOT)} == {Role.PRIMARY}


def test_where_the_margin_leaves_nothing_a_slot_is_empty_and_all_guard_time() -> None:
    slots = lay_out(names(15), NOON, EVERY_SLOT)
    assert all(slot.start == slot.end < slot.guard_end for slot in slots)
    assert lay_out([], NOON, ONCE) == ()


# The decision with settings -----------------------------------------------------------------


@given(
    st.one_of(st.integers(100, 10**6), st.integers(100, 3653 * 86_400 * 10**6)),
    instants,
)
def test_an_interval_reaches_the_decision_to_the_microsecond(
    interval_us: int, now: datetime
) -> None:
    settings = Settings.for_interval(interval_us * MICROSECOND, standbys=0)
    claim = decide("r0", runners(1), now, settings)
    assert claim.slot_start == claim.cycle_start == cycle_at(now, settings.interval).start
    assert claim.slot_end == claim.cycle_start + settings.interval


@given(cycles("every_slot"), st.integers(1, 5), st.floats(0, 0.999_999))
def test_the_decision_gets_every_knob_and_the_list_as_it_is(
    cycle: tuple[Settings, datetime], count: int, part: float
) -> None:
    settings, start = cycle
    settings = replace(settings, membership_stabilization=timedelta(seconds=1.5))
    now = start + part * settings.interval
    claim = decide("r0", runners(count), now, settings)
    asked = decide_atomic_service_claim(
        runner_id="r0",
        active_runners=runners(count),
        current_time=now.timestamp(),
        service_interval_minutes=settings.interval / timedelta(minutes=1),
        spread_margin_minutes=settings.spread_margin / timedelta(minutes=1),
        membership_stabilization_seconds=1.5,
        max_start_slot_fraction=settings.max_start_slot_fraction,
    )
    assert replace(claim, atomic_service_run=None) == replace(asked, atomic_service_run=None)
    assert claim.should_try_start == asked.should_try_start


def test_a_young_runner_is_in_grace_for_the_stabilization() -> None:
    young = (ActiveRunnerInfo("r0", NOON, NOON),)
    settings = replace(ONCE, membership_stabilization=90 * SECOND)
    assert decide("r0", young, NOON + 89 * SECOND, settings).reason is (
        Reason.SCHEDULED_RUNNER_IN_GRACE
    )
    assert decide("r0", young, NOON + 90 * SECOND, settings).should_try_start


# The next turn ------------------------------------------------------------------------------


@given(
    cycles(),
    st.integers(1, 6),
    st.integers(0, 5),
    st.floats(0, 0.999_999),
    st.text(max_size=5),
)
def test_the_next_turn_is_the_first_slot_in_which_the_decision_would_clear_the_runner(
    cycle: tuple[Settings, datetime], count: int, index: int, part: float, service: str
) -> None:
    settings, start = cycle
    stable, name = runners(count), f"r{index % count}"
    now = start + part * settings.interval
    found = next_turn(name, stable, service, now, settings)
    expected = None
    for ahead in range(count + 2):
        this = cycle_at(start + ahead * settings.interval, settings.interval)
        scheduled = schedule(stable, service, this, settings)
        for slot in lay_out([r.runner_id for r in scheduled], this.start, settings):
            at = max(now, slot.start)
            mine = slot.runner_id == name and slot.start <= at < slot.end
            if expected is None and mine:
                claim = decide(name, scheduled, at, settings)
                # Exactly at the limit a fraction of a microsecond may go either way.
                limit = slot.latest_start(settings.max_start_slot_fraction)
                if claim.should_try_start and abs(at - limit) > MICROSECOND:
                    expected = slot
                elif abs(at - limit) <= MICROSECOND:
                    return
    assert (found.slot if found else None) == expected
    if found:
        assert found.role is found.slot.role


def test_the_latest_start_of_a_slot_is_its_runners_next_turn_and_not_a_microsecond_later() -> None:
    latest = NOON + 0.5 * ONCE.interval
    found = next_turn("r0", runners(1), "s", latest, ONCE)
    assert found is not None
    assert found.slot.start == NOON
    later = next_turn("r0", runners(1), "s", latest + MICROSECOND, ONCE)
    assert later is not None
    assert later.slot.start == NOON + ONCE.interval


def test_the_end_of_a_slot_is_too_late_where_a_start_is_never_called_late() -> None:
    settings = replace(EVERY_SLOT, max_start_slot_fraction=1.0)
    slot = slot_at(0, 2, "r0", NOON, settings)
    for at, start in ((slot.end - MICROSECOND, NOON), (slot.end, NOON + settings.interval)):
        found = next_turn("r0", runners(2), "s", at, settings)
        assert found is not None
        assert found.slot.start == start


def test_who_is_not_in_the_stable_set_has_no_next_turn() -> None:
    assert next_turn("stranger", runners(3), "s", NOON, ONCE) is None
    assert next_turn("r0", (), "s", NOON, ONCE) is None


def test_nobody_has_a_next_turn_where_the_margin_leaves_nothing() -> None:
    assert next_turn("r0", runners(15), "s", NOON, EVERY_SLOT) is None


# Joining ------------------------------------------------------------------------------------


@given(cycles(), st.floats(0, 0.999_999), st.sampled_from([-1, 0, 1]))
def test_a_new_runner_counts_in_the_first_cycle_that_is_told_and_in_none_before(
    cycle: tuple[Settings, datetime], part: float, nudge: int
) -> None:
    settings, start = cycle
    edge = start + settings.interval - settings.spread_margin
    for joined in (start + part * settings.interval, edge + nudge * MICROSECOND):
        first = first_cycle_after_joining(joined, settings)
        assert first == cycle_at(first.start, settings.interval)
        for ahead in range(4):
            begin = start + ahead * settings.interval
            if begin <= joined:
                continue
            record = RunnerRecord("a", joined, begin)  # its heartbeats go on
            assert (stable_set([record], begin, settings) != ()) == (begin >= first.start)
        assert first.start - joined <= settings.interval + settings.spread_margin
