"""The rules that head the decision's module, each as a property."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from strategies import (
    EPOCH,
    MICROSECOND,
    Situation,
    anywhere_seconds,
    few_runners,
    fractions,
    intervals_minutes,
    many_runners,
    margins_of_interval,
    runners,
    situations,
    stabilizations,
)
from turnwise.atomic_service import AtomicServiceClaim, AtomicServiceDecisionReason

Reason = AtomicServiceDecisionReason

# Two runners cleared at once, and a cycle that starts after now: what floats make of these.
TWO_AT_ONCE = Situation(11, 1798849444.361888, 9.255782741997825)
STARTS_LATER = Situation(3, 1743373630.1623585, 8.75554137707433)


def cleared(claims: list[AtomicServiceClaim]) -> list[str]:
    return [claim.runner_id for claim in claims if claim.should_try_start]


@given(situations(few_runners))
@example(TWO_AT_ONCE)
@example(STARTS_LATER)
def test_at_any_microsecond_exactly_one_runner_owns_the_slot(situation: Situation) -> None:
    owners = [
        claim
        for claim in replace(situation, margin_minutes=0.0).claims()
        if claim.is_slot_owner_now
    ]
    assert [owner.runner_id for owner in owners] == [owners[0].assigned_runner_id]


@given(situations(few_runners, margin=False, late=False))
@example(TWO_AT_ONCE)
@example(STARTS_LATER)
def test_with_no_margin_exactly_one_runner_is_cleared_to_start(situation: Situation) -> None:
    claims = situation.claims()
    assert cleared(claims) == [claims[0].assigned_runner_id]


@given(situations(few_runners), stabilizations)
def test_at_most_one_runner_is_cleared_whatever_the_settings(
    situation: Situation, stabilization: float
) -> None:
    assert len(cleared(replace(situation, stabilization_seconds=stabilization).claims())) <= 1


@given(situations(many_runners), st.data())
def test_among_up_to_a_thousand_the_owner_by_its_slot_is_the_one_that_is_named(
    situation: Situation, data: st.DataObject
) -> None:
    """The owner comes from one formula and the slots from another; a stranger is told the same."""
    situation = replace(situation, margin_minutes=0.0, max_fraction=1.0)
    assume(situation.interval_us >= situation.count)
    assigned = situation.ask(-1).assigned_runner_id
    assert assigned is not None
    owner = situation.decide(assigned)
    assert owner.should_try_start
    assert owner.slot_start is not None
    assert owner.slot_end is not None
    now = EPOCH + situation.now_us * MICROSECOND
    assert owner.slot_start <= now < owner.slot_end
    other = data.draw(st.integers(0, situation.count - 1))
    claim = situation.ask(other)
    assert claim.assigned_runner_id == assigned
    assert claim.should_try_start == (claim.runner_id == assigned)


def assert_consistent(claim: AtomicServiceClaim, now: datetime, interval: timedelta) -> None:
    """What a claim says of itself agrees with itself."""
    cycle_end = claim.cycle_start + interval
    assert claim.cycle_start <= now < cycle_end
    assert (claim.slot_start is None) == (claim.slot_end is None)
    if claim.slot_start is not None and claim.slot_end is not None:
        assert claim.cycle_start <= claim.slot_start < claim.slot_end <= cycle_end
    run = claim.atomic_service_run
    assert claim.should_try_start == (run is not None) == (claim.reason is Reason.ASSIGNED)
    if run is not None:
        assert run.slot_start is not None
        assert run.slot_end is not None
        assert run.slot_start <= now < run.slot_end
        assert run.started_at == now
        assert claim.is_slot_owner_now
        own = (claim.runner_id, claim.cycle_start, claim.slot_start, claim.slot_end)
        assert (run.runner_id, run.cycle_start, run.slot_start, run.slot_end) == own
    assert (claim.late_start_fraction is not None) == (claim.reason is Reason.LATE_START)
    assert bool(claim.skip_message) == claim.reason.is_persisted()
    assert (claim.skip_reason is claim.reason) == claim.reason.is_persisted()
    assert (claim.assigned_runner_id is None) == (claim.stable_runner_count == 0)
    if claim.is_slot_owner_now:
        assert claim.runner_id == claim.assigned_runner_id


@given(situations(few_runners), stabilizations, st.integers(-1, 11))
def test_a_claim_never_contradicts_itself(
    situation: Situation, stabilization: float, position: int
) -> None:
    situation = replace(situation, stabilization_seconds=stabilization)
    claim = situation.ask(min(position, situation.count - 1))
    now = datetime.fromtimestamp(situation.current_time, UTC)
    assert_consistent(claim, now, situation.interval_us * MICROSECOND)


@given(anywhere_seconds, intervals_minutes, few_runners, fractions, margins_of_interval)
def test_a_claim_never_contradicts_itself_in_any_year_up_to_9000(
    current_time: float, interval: float, count: int, fraction: float, margin: float
) -> None:
    """Where a float is coarser than a microsecond, now is still one and the same number."""
    situation = Situation(count, current_time, interval, interval * margin, 0.0, fraction)
    now = datetime.fromtimestamp(current_time, UTC)
    for claim in situation.claims():
        assert_consistent(claim, now, situation.interval_us * MICROSECOND)


@given(st.one_of(anywhere_seconds, st.floats(-1.0, 1.0)))
@example(-1 / 128)
@example(1 / 128)
@example(-5e-7)
@example(-5e-324)
def test_now_is_the_whole_microsecond_next_to_the_float(current_time: float) -> None:
    """Next to within what a float adds to a fraction of a second: a thousandth of a microsecond."""
    run = Situation(1, current_time, 5.0).ask(0).atomic_service_run
    assert run is not None
    assert run.started_at is not None
    now = Fraction((run.started_at - EPOCH) // MICROSECOND)
    assert abs(now - Fraction(current_time) * 1_000_000) <= Fraction(501, 1000)


@given(situations(many_runners))
def test_all_callers_name_the_same_assigned_runner(situation: Situation) -> None:
    asked = {0, situation.count - 1, situation.count // 2, -1}
    assert len({situation.ask(position).assigned_runner_id for position in asked}) == 1


@given(situations(many_runners, late=False), st.data())
def test_slots_and_guard_times_tile_the_cycle(situation: Situation, data: st.DataObject) -> None:
    """Each slot starts where the guard time before it ends, to the microsecond."""
    situation = replace(situation, margin_minutes=0.0)
    assume(situation.interval_us >= situation.count)
    position = data.draw(st.integers(0, situation.count - 1))
    claim = situation.ask(position)
    if position == 0:
        assert claim.slot_start == claim.cycle_start
    else:
        assert situation.ask(position - 1).slot_end == claim.slot_start
    if position == situation.count - 1:
        assert claim.slot_end == claim.cycle_start + situation.interval_us * MICROSECOND


@given(situations(few_runners), st.integers(0, 11))
def test_the_margin_is_taken_off_the_end_of_each_slot(situation: Situation, position: int) -> None:
    assume(situation.count > 1)
    position %= situation.count
    whole = replace(situation, margin_minutes=0.0).ask(position)
    claim = situation.ask(position)
    assert whole.slot_end is not None
    assert whole.slot_start is not None
    length = whole.slot_end - whole.slot_start
    margin = situation.margin_us * MICROSECOND
    assert (claim.reason is Reason.SLOT_WINDOW_INVALID) == (margin >= length)
    if claim.slot_end is not None:
        assert (claim.slot_start, claim.slot_end) == (whole.slot_start, whole.slot_end - margin)


def comparable(claim: AtomicServiceClaim, shift: timedelta) -> dict[str, object]:
    """A claim shifted back by some cycles, without its random run id."""
    told: dict[str, object] = {}
    for field in fields(claim):
        value = getattr(claim, field.name)
        if field.name == "atomic_service_run":
            continue
        told[field.name] = value - shift if isinstance(value, datetime) else value
    run = claim.atomic_service_run
    told["run"] = run and [
        at - shift
        for at in (run.cycle_start, run.slot_start, run.slot_end, run.started_at)
        if at is not None
    ]
    return told


@given(situations(few_runners), st.integers(0, 11), st.integers(-3, 3))
def test_the_decision_is_the_same_in_every_cycle(
    situation: Situation, position: int, cycles: int
) -> None:
    position %= situation.count
    later = situation.at(situation.now_us + cycles * situation.interval_us)
    shift = cycles * situation.interval_us * MICROSECOND
    assert comparable(later.ask(position), shift) == comparable(
        situation.ask(position), timedelta(0)
    )


@given(situations(few_runners), stabilizations, st.integers(-1, 11))
def test_two_identical_calls_differ_in_the_run_id_alone(
    situation: Situation, stabilization: float, position: int
) -> None:
    situation = replace(situation, stabilization_seconds=stabilization)
    position = min(position, situation.count - 1)
    first, second = situation.ask(position), situation.ask(position)
    if first.atomic_service_run is not None and second.atomic_service_run is not None:
        first_id = first.atomic_service_run.atomic_service_id
        second_id = second.atomic_service_run.atomic_service_id
        assert first_id.atomic_service_run_id != second_id.atomic_service_run_id
        same_id = replace(second.atomic_service_run, atomic_service_id=first_id)
        second = replace(second, atomic_service_run=same_id)
    assert first == second


@given(situations(few_runners, late=False), margins_of_interval)
def test_a_wider_margin_never_clears_more(situation: Situation, more: float) -> None:
    wider = replace(
        situation,
        margin_minutes=situation.margin_minutes + situation.interval_minutes * more,
    )
    assert set(cleared(wider.claims())) <= set(cleared(situation.claims()))


@given(situations(few_runners), fractions)
def test_a_smaller_fraction_never_clears_more(situation: Situation, fraction: float) -> None:
    smaller = replace(situation, max_fraction=min(fraction, situation.max_fraction))
    assert set(cleared(smaller.claims())) <= set(cleared(situation.claims()))


@given(situations(few_runners), fractions)
def test_a_start_is_late_exactly_when_more_than_the_maximum_of_the_slot_is_gone(
    situation: Situation, fraction: float
) -> None:
    situation = replace(situation, margin_minutes=0.0, max_fraction=fraction)
    (owner,) = (claim for claim in situation.claims() if claim.is_slot_owner_now)
    assert owner.slot_start is not None
    assert owner.slot_end is not None
    now = EPOCH + situation.now_us * MICROSECOND
    gone = float(
        Fraction((now - owner.slot_start) // MICROSECOND)
        / ((owner.slot_end - owner.slot_start) // MICROSECOND)
    )
    assert (owner.reason is Reason.LATE_START) == (fraction < 1 and gone > fraction)
    if owner.reason is Reason.LATE_START:
        assert owner.late_start_fraction == gone


@given(situations(few_runners, late=False), st.integers(0, 10**9), st.integers(-2, 2))
def test_grace_is_over_exactly_at_the_stabilization_time_whoever_asks(
    situation: Situation, stabilization_us: int, off: int
) -> None:
    situation = replace(
        situation, margin_minutes=0.0, stabilization_seconds=stabilization_us / 1_000_000
    )
    age = max(0, stabilization_us + off)
    created = EPOCH + (situation.now_us - age) * MICROSECOND
    among = runners(situation.count, created)
    in_grace = age < stabilization_us
    for runner in among:
        claim = situation.decide(runner.runner_id, among)
        assert (claim.reason is Reason.SCHEDULED_RUNNER_IN_GRACE) == in_grace


@pytest.mark.parametrize("count", range(1, 65))
def test_one_tick_around_every_edge_of_up_to_64_slots_one_runner_is_cleared(count: int) -> None:
    for interval_us in (300_000_000, 555_346_965, 1_000_003):
        cycle = 3_000_000_000_000_000 // interval_us * interval_us
        situation = Situation(count, 0.0, interval_us / 60_000_000)
        assert situation.interval_us == interval_us
        among = situation.runners
        for position in range(count + 1):
            edge = cycle + -(-position * interval_us // count)
            for now_us, slot in ((edge - 1, position - 1), (edge, position), (edge + 1, position)):
                here = situation.at(now_us)
                owner = f"r{slot % count}"
                assert here.decide(owner, among).should_try_start
                for neighbour in {f"r{(slot - 1) % count}", f"r{(slot + 1) % count}"} - {owner}:
                    assert not here.decide(neighbour, among).should_try_start
