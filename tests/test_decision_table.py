"""The decision table row by row, and what the decision refuses."""

import math
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies import LONG_AGO, Situation, runners
from turnwise.atomic_service import (
    ActiveRunnerInfo,
    AtomicServiceDecisionReason,
    decide_atomic_service_claim,
)

Reason = AtomicServiceDecisionReason
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

# Three runners, slots of 100 s with 20 s of guard time; ten seconds into r1's.
USUAL = Situation(3, NOON.timestamp() + 110, 5.0, 1 / 3, max_fraction=0.5)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_row_1_an_empty_list_fills_in_the_cycle_alone() -> None:
    claim = USUAL.decide("r0", [])
    assert claim.reason is Reason.NO_STABLE_RUNNERS
    assert (claim.cycle_start, claim.assigned_runner_id) == (NOON, None)
    assert (claim.stable_runner_count, claim.runner_position, claim.slot_start) == (0, None, None)


def test_row_2_a_stranger_is_told_whose_slot_it_is() -> None:
    claim = USUAL.decide("stranger")
    assert claim.reason is Reason.NOT_ASSIGNED_SLOT
    assert (claim.stable_runner_count, claim.assigned_runner_id) == (3, "r1")
    assert (claim.runner_position, claim.slot_start, claim.slot_end) == (None, None, None)
    assert not claim.is_slot_owner_now


def test_row_3_a_margin_as_long_as_the_slot_leaves_no_window() -> None:
    claim = replace(USUAL, margin_minutes=100 / 60).ask(1)
    assert claim.reason is Reason.SLOT_WINDOW_INVALID
    assert (claim.stable_runner_count, claim.assigned_runner_id) == (3, "r1")
    assert (claim.runner_position, claim.slot_start) == (1, None)
    assert not claim.is_slot_owner_now, "the flag is filled in from row 4 on"
    assert claim.skip_message == (
        f"spread_margin={100 / 60}m leaves nothing of a slot of interval/3: shorten the margin, "
        "lengthen the interval, or share it among fewer runners"
    )


def test_row_3_does_not_concern_a_lone_runner() -> None:
    claim = replace(USUAL, count=1, margin_minutes=100.0).ask(0)
    assert claim.should_try_start
    assert (claim.slot_start, claim.slot_end) == (NOON, at(300))


def test_row_4_the_assigned_runners_age_counts_whoever_asks() -> None:
    young = [*runners(3)]
    young[1] = young[1]._replace(creation_time=at(60))
    grace = replace(USUAL, stabilization_seconds=60.0)
    for runner in young:
        claim = grace.decide(runner.runner_id, young)
        assert claim.reason is Reason.SCHEDULED_RUNNER_IN_GRACE
        assert claim.slot_start is not None
        assert claim.is_slot_owner_now == (runner.runner_id == "r1")
        assert "r1" in claim.skip_message
    # Another young runner, which is not assigned, stops nobody.
    young[1], young[2] = (
        young[1]._replace(creation_time=LONG_AGO),
        young[2]._replace(creation_time=at(60)),
    )
    assert grace.decide("r1", young).should_try_start


def test_row_5_outside_its_slot_a_runner_is_told_its_slot() -> None:
    claim = USUAL.ask(2)
    assert claim.reason is Reason.NOT_ASSIGNED_SLOT
    assert (claim.slot_start, claim.slot_end) == (at(200), at(280))
    assert (claim.runner_position, claim.is_slot_owner_now) == (2, False)


def test_row_5_in_its_guard_time_the_owner_does_not_start() -> None:
    guard = replace(USUAL, current_time=NOON.timestamp() + 180)
    claim = guard.ask(1)
    assert claim.reason is Reason.NOT_ASSIGNED_SLOT
    assert claim.is_slot_owner_now
    last = replace(USUAL, current_time=NOON.timestamp() + 179.999999, max_fraction=1.0)
    assert last.ask(1).should_try_start


def test_row_6_a_late_start_is_told_its_fraction() -> None:
    late = replace(USUAL, current_time=NOON.timestamp() + 160)
    claim = late.ask(1)
    assert claim.reason is Reason.LATE_START
    assert claim.late_start_fraction == 0.75
    assert "75.00%" in claim.skip_message
    assert "50.00%" in claim.skip_message
    assert claim.is_slot_owner_now
    assert replace(late, current_time=NOON.timestamp() + 140).ask(1).should_try_start


def test_row_7_the_run_has_a_fresh_id_the_cycle_the_slot_and_now() -> None:
    claim = USUAL.ask(1)
    run = claim.atomic_service_run
    assert claim.reason is Reason.ASSIGNED
    assert run is not None
    assert run.runner_id == "r1"
    assert (run.cycle_start, run.slot_start, run.slot_end) == (NOON, at(100), at(180))
    assert run.started_at == at(110)
    assert (claim.skip_message, claim.late_start_fraction) == ("", None)


def test_where_an_id_stands_twice_its_first_entry_gives_the_slot() -> None:
    """Assigned by its second entry it is still the assigned runner, outside its slot."""
    twice = [*runners(2), runners(1)[0]]
    later = replace(USUAL, current_time=NOON.timestamp() + 210)
    claim = later.decide("r0", twice)
    assert claim.assigned_runner_id == "r0"
    assert claim.runner_position == 0
    assert claim.is_slot_owner_now
    assert claim.reason is Reason.NOT_ASSIGNED_SLOT
    assert later.decide("r0", [twice[0], *twice]).stable_runner_count == 4


def test_more_runners_than_microseconds_leave_some_without_a_window() -> None:
    tiny = Situation(10, NOON.timestamp(), 3 / 60_000_000)
    reasons = [claim.reason for claim in tiny.claims()]
    assert reasons.count(Reason.SLOT_WINDOW_INVALID) == 7
    assert reasons.count(Reason.ASSIGNED) <= 1


def test_the_list_is_neither_sorted_nor_filtered() -> None:
    among = [
        ActiveRunnerInfo("z", NOON, LONG_AGO, allow_to_run_atomic_service=False),
        ActiveRunnerInfo("a", LONG_AGO, NOON, allow_to_run_atomic_service=True),
    ]
    assert USUAL.decide("z", among).runner_position == 0
    assert USUAL.decide("z", among).stable_runner_count == 2


NAN, INF = float("nan"), float("inf")
YEARS = "finite Unix seconds within the years 1 to 9999"
MINUTES = "a finite number of minutes, 0 or more"
SECONDS = "a finite number of seconds, 0 or more"
HUGE = 10**400  # a whole number that no float can hold
LENGTH = "a finite number of minutes, over 0 when rounded to a microsecond"
FRACTION = "over 0 and at most 1"


@pytest.mark.parametrize(
    ("field", "parameter", "values", "allowed"),
    [
        ("current_time", "current_time", (NAN, INF, -INF, 1e300, 1e17, -1e17), YEARS),
        ("current_time", "current_time", (253402300800.0, -62135596801.0, HUGE), YEARS),
        ("interval_minutes", "service_interval_minutes", (NAN, INF, -INF, HUGE), LENGTH),
        ("interval_minutes", "service_interval_minutes", (0.0, -0.0, -5.0, 1e-9), LENGTH),
        ("interval_minutes", "service_interval_minutes", (0.5 / 60_000_000,), LENGTH),
        ("margin_minutes", "spread_margin_minutes", (NAN, INF, -1e-9, HUGE), MINUTES),
        (
            "stabilization_seconds",
            "membership_stabilization_seconds",
            (NAN, INF, -1.0, HUGE),
            SECONDS,
        ),
        ("max_fraction", "max_start_slot_fraction", (0.0, -0.5, 1.0000001, NAN, INF), FRACTION),
    ],
)
@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("margin", [0.0, 1 / 3])
def test_bad_numbers_are_a_value_error_that_names_parameter_value_and_what_is_allowed(
    field: str,
    parameter: str,
    values: tuple[float, ...],
    allowed: str,
    count: int,
    margin: float,
) -> None:
    good = replace(USUAL, count=count, margin_minutes=margin)
    assert good.ask(-1).stable_runner_count == count
    for value in values:
        with pytest.raises(ValueError, match=parameter) as caught:
            replace(good, **{field: value}).ask(-1)  # type: ignore[arg-type]  # whichever
        assert str(caught.value) == f"{parameter} must be {allowed}, got {value!r}"


def test_the_least_interval_is_not_what_is_complained_of_where_something_else_is_wrong() -> None:
    with pytest.raises(ValueError, match="spread_margin_minutes must be"):
        Situation(1, 0.0, 0.51 / 60_000_000, -1.0).ask(0)


def test_an_interval_may_be_one_microsecond_and_as_long_as_its_microseconds_are_finite() -> None:
    least, most = math.nextafter(0.5 / 60e6, 1.0), sys.float_info.max / 60e6
    claim = Situation(1, 5e-6, least).ask(0)
    assert claim.slot_start == claim.cycle_start == datetime(1970, 1, 1, 0, 0, 0, 5, tzinfo=UTC)
    assert claim.slot_end == claim.cycle_start + timedelta(microseconds=1)
    assert Situation(0, 5e-6, most).ask(-1).cycle_start == datetime(1970, 1, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="service_interval_minutes must be"):
        Situation(0, 5e-6, math.nextafter(most, math.inf)).ask(-1)


def test_the_ends_of_a_range_are_not_what_is_complained_of_either() -> None:
    first, most = -62135596800.0, sys.float_info.max
    assert Situation(1, first, 1.0).ask(0).cycle_start == datetime(1, 1, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="max_start_slot_fraction must be"):
        Situation(1, first, most / 60e6, most, most, 0.0).ask(0)


def test_the_least_interval_is_what_rounds_to_a_microsecond() -> None:
    assert Situation(1, 0.0, 0.51 / 60_000_000).ask(0).should_try_start


def test_a_cycle_beyond_the_years_of_datetime_is_a_value_error() -> None:
    """It says from where and how far the cycle reaches."""
    rule = (
        "current_time and service_interval_minutes must keep the cycle within the years 1 to 9999"
    )
    first, last = Situation(1, -62135596800.0 + 1, 1e8), Situation(1, 253402300799.0 - 60, 1e8)
    for situation in (first, last):
        assert replace(situation, interval_minutes=1.0).ask(0).should_try_start
    offset = first.now_us % first.interval_us
    with pytest.raises(ValueError, match="current_time") as caught:
        first.ask(0)
    assert str(caught.value) == (
        f"{rule}: -{offset} microseconds from 0001-01-01T00:00:01+00:00 is outside"
    )
    with pytest.raises(ValueError, match="current_time") as caught:
        last.ask(0)
    start = last.ask(-1).cycle_start.isoformat()
    assert str(caught.value) == (f"{rule}: {last.interval_us} microseconds from {start} is outside")


def test_an_interval_beyond_all_years_is_a_value_error() -> None:
    for interval in (1e15, 1e290, 10**300):
        with pytest.raises(ValueError, match="service_interval_minutes"):
            Situation(1, -1.0, float(interval)).ask(0)


@given(
    st.floats(min_value=0, allow_infinity=False, allow_nan=False),
    st.floats(min_value=0, allow_infinity=False, allow_nan=False),
)
def test_any_finite_margin_and_stabilization_get_a_claim(margin: float, grace: float) -> None:
    situation = replace(USUAL, margin_minutes=margin, stabilization_seconds=grace)
    assert situation.ask(1).stable_runner_count == 3
    huge = replace(situation, margin_minutes=sys.float_info.max)
    assert huge.ask(1).reason is Reason.SLOT_WINDOW_INVALID


def test_a_naive_creation_time_is_an_error_only_where_the_age_counts() -> None:
    naive = [ActiveRunnerInfo("the-runner", NOON.replace(tzinfo=None), NOON)]
    grace = replace(USUAL, stabilization_seconds=1.0)
    with pytest.raises(ValueError, match=r"'the-runner'.*aware"):
        grace.decide("the-runner", naive)
    assert grace.decide("stranger", naive).reason is Reason.NOT_ASSIGNED_SLOT
    assert USUAL.decide("the-runner", naive).should_try_start


def test_every_parameter_is_named_and_none_has_a_default() -> None:
    with pytest.raises(TypeError):
        decide_atomic_service_claim("r0", [], 0, 1, 0, 0, 1)  # type: ignore[call-arg] # the point
    with pytest.raises(TypeError, match="7 required keyword-only"):
        decide_atomic_service_claim()  # type: ignore[call-arg] # the point of the test


def test_whole_numbers_serve_as_well_as_floats() -> None:
    claim = decide_atomic_service_claim(
        runner_id="r0",
        active_runners=runners(1),
        current_time=1_800_000_000,
        service_interval_minutes=5,
        spread_margin_minutes=0,
        membership_stabilization_seconds=0,
        max_start_slot_fraction=1,
    )
    assert claim.should_try_start
