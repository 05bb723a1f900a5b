"""The floor of a decision: functions that make its answer, and do nothing else.

Each is called as the decision is, since a call of seven arguments costs what it costs; and each
writes its message out, since to call another function for it would cost something of its own.
"""
# ruff: noqa: ARG001 -- the arguments are there to be handed over, not to be used.

from datetime import UTC, datetime, timedelta
from typing import Protocol, TypedDict

from turnwise.atomic_service import (
    ActiveRunnerInfo,
    AtomicServiceClaim,
    AtomicServiceId,
    AtomicServiceRun,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Arguments(TypedDict):
    """What a decision is called with, and so is its floor."""

    runner_id: str
    active_runners: list[ActiveRunnerInfo]
    current_time: float
    service_interval_minutes: float
    spread_margin_minutes: float
    membership_stabilization_seconds: float
    max_start_slot_fraction: float


# fmt: off


class Decide(Protocol):
    """The decision, or its floor."""

    def __call__(
        self,
        *, runner_id: str, active_runners: list[ActiveRunnerInfo], current_time: float,
        service_interval_minutes: float, spread_margin_minutes: float,
        membership_stabilization_seconds: float, max_start_slot_fraction: float,
    ) -> AtomicServiceClaim:
        """Answer a claim."""


# fmt: on
def instant(microseconds: int) -> datetime:
    """A datetime from whole microseconds, as the decision makes its own."""
    return EPOCH + microseconds * MICROSECOND


def microseconds(at: datetime) -> int:
    """The other way round."""
    return (at - EPOCH) // MICROSECOND


def floor_of(claim: AtomicServiceClaim) -> Decide:
    """A function that only makes this claim, with a random id of its own."""
    if claim.atomic_service_run is not None:
        return _with_run(claim)
    if claim.slot_start is None or claim.slot_end is None:
        return _without_slot(claim)
    return _with_slot(claim)


# fmt: off


def _without_slot(claim: AtomicServiceClaim) -> Decide:
    name, reason, assigned = claim.runner_id, claim.reason, claim.assigned_runner_id
    position, count = claim.runner_position, claim.stable_runner_count
    flag, part = claim.is_slot_owner_now, claim.late_start_fraction
    cycle = microseconds(claim.cycle_start)

    def silent(
        *, runner_id: str, active_runners: list[ActiveRunnerInfo], current_time: float,
        service_interval_minutes: float, spread_margin_minutes: float,
        membership_stabilization_seconds: float, max_start_slot_fraction: float,
    ) -> AtomicServiceClaim:
        return AtomicServiceClaim(
            name, reason, instant(cycle), assigned, position, count, None, None,
            flag, None, "", part,
        )

    def invalid(
        *, runner_id: str, active_runners: list[ActiveRunnerInfo], current_time: float,
        service_interval_minutes: float, spread_margin_minutes: float,
        membership_stabilization_seconds: float, max_start_slot_fraction: float,
    ) -> AtomicServiceClaim:
        return AtomicServiceClaim(
            name, reason, instant(cycle), assigned, position, count, None, None,
            flag, None, (
                f"spread_margin={spread_margin_minutes}m leaves nothing of a slot of "
                f"interval/{count}: shorten the margin, lengthen the interval, or share it "
                "among fewer runners"
            ), part,
        )

    return invalid if claim.skip_message else silent


def _with_slot(claim: AtomicServiceClaim) -> Decide:
    name, reason, assigned = claim.runner_id, claim.reason, claim.assigned_runner_id
    position, count = claim.runner_position, claim.stable_runner_count
    flag, part = claim.is_slot_owner_now, claim.late_start_fraction
    cycle = microseconds(claim.cycle_start)
    assert claim.slot_start is not None
    assert claim.slot_end is not None
    start, end = microseconds(claim.slot_start), microseconds(claim.slot_end)

    def silent(
        *, runner_id: str, active_runners: list[ActiveRunnerInfo], current_time: float,
        service_interval_minutes: float, spread_margin_minutes: float,
        membership_stabilization_seconds: float, max_start_slot_fraction: float,
    ) -> AtomicServiceClaim:
        return AtomicServiceClaim(
            name, reason, instant(cycle), assigned, position, count, instant(start), instant(end),
            flag, None, "", part,
        )

    def in_grace(
        *, runner_id: str, active_runners: list[ActiveRunnerInfo], current_time: float,
        service_interval_minutes: float, spread_margin_minutes: float,
        membership_stabilization_seconds: float, max_start_slot_fraction: float,
    ) -> AtomicServiceClaim:
        return AtomicServiceClaim(
            name, reason, instant(cycle), assigned, position, count, instant(start), instant(end),
            flag, None, (
                f"assigned runner {assigned} is still in its grace window of "
                f"{membership_stabilization_seconds / 60:g}m after joining"
            ), part,
        )

    def late(
        *, runner_id: str, active_runners: list[ActiveRunnerInfo], current_time: float,
        service_interval_minutes: float, spread_margin_minutes: float,
        membership_stabilization_seconds: float, max_start_slot_fraction: float,
    ) -> AtomicServiceClaim:
        return AtomicServiceClaim(
            name, reason, instant(cycle), assigned, position, count, instant(start), instant(end),
            flag, None, (
                f"{part:.2%} of the slot is gone, and a start is allowed within the "
                f"first {max_start_slot_fraction:.2%}"
            ), part,
        )

    if not claim.skip_message:
        return silent
    return in_grace if part is None else late


def _with_run(claim: AtomicServiceClaim) -> Decide:
    name, reason, assigned = claim.runner_id, claim.reason, claim.assigned_runner_id
    position, count = claim.runner_position, claim.stable_runner_count
    flag, part = claim.is_slot_owner_now, claim.late_start_fraction
    cycle = microseconds(claim.cycle_start)
    assert claim.slot_start is not None
    assert claim.slot_end is not None
    start, end = microseconds(claim.slot_start), microseconds(claim.slot_end)
    assert claim.atomic_service_run is not None
    assert claim.atomic_service_run.started_at is not None
    now = microseconds(claim.atomic_service_run.started_at)

    def cleared(
        *, runner_id: str, active_runners: list[ActiveRunnerInfo], current_time: float,
        service_interval_minutes: float, spread_margin_minutes: float,
        membership_stabilization_seconds: float, max_start_slot_fraction: float,
    ) -> AtomicServiceClaim:
        cycle_start, slot_start, slot_end = instant(cycle), instant(start), instant(end)
        run = AtomicServiceRun(
            AtomicServiceId(name), cycle_start, slot_start, slot_end, instant(now)
        )
        return AtomicServiceClaim(
            name, reason, cycle_start, assigned, position, count, slot_start, slot_end,
            flag, run, "", part,
        )

    return cleared
