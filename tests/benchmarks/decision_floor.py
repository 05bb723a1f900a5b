"""The floor of a decision: functions that make its answer, and do nothing else.

Each is called as the decision is, since a call of seven arguments costs what it costs; and each
writes its message out, since to call another function for it would cost something of its own.
"""
# ruff: noqa: ARG001 -- the arguments are there to be handed over, not to be used.

from datetime import UTC, datetime, timedelta
from typing import Protocol, TypedDict, Unpack

from turnwise.atomic_service import (
    ActiveRunnerInfo,
    AtomicServiceClaim,
    AtomicServiceId,
    AtomicServiceRun,
)
from turnwise.atomic_service import (
    AtomicServiceDecisionReason as Reason,
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


class Decide(Protocol):
    """The decision, or its floor."""

    def __call__(self, **given: Unpack[Arguments]) -> AtomicServiceClaim:
        """Answer a claim."""


def instant(microseconds: int) -> datetime:
    """A datetime from whole microseconds, as the decision makes its own."""
    return EPOCH + microseconds * MICROSECOND


def microseconds(at: datetime) -> int:
    """The other way round."""
    return (at - EPOCH) // MICROSECOND


# fmt: off
def floor_of(claim: AtomicServiceClaim) -> Decide:
    """A function that only makes this claim, with a random id of its own."""
    name, reason, assigned = claim.runner_id, claim.reason, claim.assigned_runner_id
    position, count = claim.runner_position, claim.stable_runner_count
    flag, part = claim.is_slot_owner_now, claim.late_start_fraction
    run = claim.atomic_service_run
    instants = claim.cycle_start, claim.slot_start, claim.slot_end, run and run.started_at
    # Those that are not there are not used.
    cycle, start, end, now = (microseconds(at or EPOCH) for at in instants)

    def without_slot(
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

    def with_slot(
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

    by_reason: dict[Reason, Decide] = {
        Reason.SLOT_WINDOW_INVALID: invalid,
        Reason.SCHEDULED_RUNNER_IN_GRACE: in_grace,
        Reason.LATE_START: late,
        Reason.ASSIGNED: cleared,
    }
    return by_reason.get(reason, without_slot if claim.slot_start is None else with_slot)
