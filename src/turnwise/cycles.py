"""A period cut into cycles, a cycle cut into slots, and the decision taken on them.

Rules
-----
1. Cycles tile their period and slots tile their cycle: no gap, no overlap, to the microsecond.
2. No cycle is longer than it may be: a period of length ``L`` has ``n = ceil(L / cycle)`` cycles,
   and cycle ``k`` is ``[due + ceil(k*L/n), due + ceil((k+1)*L/n))``.
3. The slots here and a claim of :mod:`turnwise.atomic_service` never differ: the decision is
   asked with time counted from the cycle's start, and its answer is moved back.

Everything is an integer: instants in microseconds since the Unix epoch, durations in
microseconds. Nothing here reads a clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from turnwise.atomic_service import (
    ActiveRunnerInfo,
    AtomicServiceClaim,
    AtomicServiceRun,
    decide_atomic_service_claim,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SECOND = 1_000_000
MINUTE = 60 * SECOND


def microseconds(value: datetime | timedelta) -> int:
    """An aware datetime as microseconds since the Unix epoch; a duration in microseconds."""
    span = value - EPOCH if isinstance(value, datetime) else value
    return span // MICROSECOND


def instant(at: int) -> datetime:
    """Microseconds since the Unix epoch as an aware datetime in UTC."""
    return EPOCH + at * MICROSECOND


def duration(length: int) -> timedelta:
    """Microseconds as a duration."""
    return length * MICROSECOND


@dataclass(frozen=True, slots=True)
class Cycle:
    """One cycle ``[start, end)``: the ``number``-th, from 0, of the period ``[due, until)``."""

    start: int
    end: int
    number: int
    due: int
    until: int


def cycle_at(due: int, until: int, longest: int, at: int) -> Cycle:
    """The cycle that contains ``at`` in the period ``[due, until)``.

    Args:
        due: the period's start.
        until: the period's end, after ``due``.
        longest: the length that no cycle may exceed, over 0.
        at: an instant within the period.
    """
    length = until - due
    count = _ceil_div(length, longest)
    number = (at - due) * count // length
    start = due + _ceil_div(number * length, count)
    end = due + _ceil_div((number + 1) * length, count)
    return Cycle(start, end, number, due, until)


def shortest_cycle(length: int, longest: int) -> int:
    """The length of the shortest cycle of a period of ``length``, in microseconds."""
    return length // _ceil_div(length, longest)


def longest_cycle(length: int, longest: int) -> int:
    """The length of the longest cycle of a period of ``length``, in microseconds."""
    return _ceil_div(length, _ceil_div(length, longest))


@dataclass(frozen=True, slots=True)
class Slot:
    """The slot at ``position`` of a cycle: its runner may start in ``[start, end)``.

    From ``end`` to ``guard_end``, where the next slot starts, is guard time. A start after
    ``latest`` is late. Where the margin leaves nothing, ``end`` equals ``start``, and ``latest``
    lies before it.
    """

    position: int
    start: int
    end: int
    guard_end: int
    latest: int


def slot_at(
    cycle_start: int, cycle_end: int, position: int, count: int, *, margin: int, window: float
) -> Slot:
    """The slot at ``position`` of a cycle that ``count`` runners share.

    Args:
        cycle_start: where the cycle starts.
        cycle_end: where it ends.
        position: the slot's place, from 0.
        count: how many slots the cycle has.
        margin: guard time at the end of each slot; none where there is one slot only.
        window: part of the time from the slot's start to the margin, over 0 and at most 1, within
            which a start is not late.
    """
    length = cycle_end - cycle_start
    start = cycle_start + _ceil_div(position * length, count)
    guard_end = cycle_start + _ceil_div((position + 1) * length, count)
    end = guard_end if count == 1 else max(start, guard_end - margin)
    return Slot(position, start, end, guard_end, start + _last_in_time(end - start, window))


def _last_in_time(length: int, window: float) -> int:
    """The last microsecond of a slot at which a start is not late; -1 where it has none."""
    if not length:
        return -1
    # The decision compares a quotient of floats with the maximum. What a product of floats says
    # is right but for rounding: begin below it, and go up as far as the quotient allows.
    last = max(0, min(length, int(length * window)) - 1)
    while last + 1 < length and (last + 1) / length <= window:
        last += 1
    return last


def _ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


def decide(
    cycle_start: int,
    cycle_end: int,
    runners: Sequence[tuple[str, int]],
    runner_id: str,
    now: int,
    *,
    margin: int,
    window: float,
    stabilization: int,
) -> AtomicServiceClaim:
    """Take the decision for ``runner_id`` within a cycle; the answer is in real time.

    Args:
        cycle_start: where the cycle starts.
        cycle_end: where it ends.
        runners: who has a slot, in order: pairs of runner id and the instant that it joined.
        runner_id: who asks.
        now: an instant within the cycle.
        margin: guard time at the end of each slot.
        window: part of a slot within which a start is not late.
        stabilization: age below which an assigned runner does not start.

    Raises:
        ValueError: ``now`` is outside the cycle, or another argument is out of its range.
    """
    if not cycle_start <= now < cycle_end:
        raise ValueError(f"now must be within [{cycle_start}, {cycle_end}), got {now}")
    listed = [
        ActiveRunnerInfo(name, instant(joined - cycle_start), EPOCH, True)  # noqa: FBT003
        for name, joined in runners
    ]
    claim = decide_atomic_service_claim(
        runner_id=runner_id,
        active_runners=listed,
        current_time=(now - cycle_start) / SECOND,
        service_interval_minutes=(cycle_end - cycle_start) / MINUTE,
        spread_margin_minutes=margin / MINUTE,
        membership_stabilization_seconds=stabilization / SECOND,
        max_start_slot_fraction=window,
    )
    return _moved(claim, duration(cycle_start))


def _moved(claim: AtomicServiceClaim, by: timedelta) -> AtomicServiceClaim:
    """The same claim, with all its instants moved."""

    def later(at: datetime | None) -> datetime | None:
        return None if at is None else at + by

    run = claim.atomic_service_run
    return replace(
        claim,
        cycle_start=claim.cycle_start + by,
        slot_start=later(claim.slot_start),
        slot_end=later(claim.slot_end),
        atomic_service_run=None
        if run is None
        else AtomicServiceRun(
            run.atomic_service_id,
            later(run.cycle_start),
            later(run.slot_start),
            later(run.slot_end),
            later(run.started_at),
        ),
    )
