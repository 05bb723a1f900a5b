"""A whole cycle laid out, a runner's next turn, and the decision taken with a `Settings`.

Pure, as the decision is: every instant is an argument, an aware datetime on the storage's
clock. The slots here come from the decision's own arithmetic, so that a timetable and a claim
never differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from turnwise.atomic_service import (
    ActiveRunnerInfo,
    AtomicServiceClaim,
    _slot_window,
    decide_atomic_service_claim,
)
from turnwise.membership import Cycle, cycle_at, scheduled_position
from turnwise.old_settings import Settings

_MICROSECOND = timedelta(microseconds=1)


class Role(StrEnum):
    """What a runner does in a cycle."""

    PRIMARY = "primary"
    STANDBY = "standby"
    SLEEPS = "sleeps"


@dataclass(frozen=True, slots=True)
class Slot:
    """One runner's slot in a cycle: it may start in ``[start, end)``.

    From ``end`` to ``guard_end``, where the next slot starts, is guard time. ``end`` equals
    ``start`` where the margin leaves nothing of the slot.
    """

    runner_id: str
    role: Role
    start: datetime
    end: datetime
    guard_end: datetime

    def latest_start(self, max_start_slot_fraction: float) -> datetime:
        """The instant after which the decision calls a start late."""
        return self.start + (self.end - self.start) * max_start_slot_fraction


def lay_out(
    runner_ids: Sequence[str], cycle_start: datetime, settings: Settings
) -> tuple[Slot, ...]:
    """The slots of a cycle for the runners of its schedule, in their order."""
    return tuple(
        slot_at(position, len(runner_ids), runner_id, cycle_start, settings)
        for position, runner_id in enumerate(runner_ids)
    )


def slot_at(
    position: int, slots: int, runner_id: str, cycle_start: datetime, settings: Settings
) -> Slot:
    """The slot of the runner at ``position``, from 0, in a cycle that is cut into ``slots``."""
    interval = settings.interval // _MICROSECOND
    margin = settings.spread_margin // _MICROSECOND
    # Ceilings of exact quotients, as in the decision; its own helper has the last word on the
    # window, and the guard time ends where the next slot starts.
    start, guard_end = (-(-edge * interval // slots) for edge in (position, position + 1))
    window = _slot_window(0, position, (interval, slots), margin, single_runner=slots == 1)
    _, end = window or (start, start)
    once = settings.runs_per_cycle == "once"
    return Slot(
        runner_id,
        Role.STANDBY if once and position else Role.PRIMARY,
        cycle_start + start * _MICROSECOND,
        cycle_start + end * _MICROSECOND,
        cycle_start + guard_end * _MICROSECOND,
    )


@dataclass(frozen=True, slots=True)
class NextTurn:
    """When a runner can next start, at the earliest, and in which role."""

    role: Role
    slot: Slot


def next_turn(
    runner_id: str,
    stable: tuple[ActiveRunnerInfo, ...],
    service: str,
    now: datetime,
    settings: Settings,
) -> NextTurn | None:
    """The first slot in which ``runner_id`` may still start at ``now`` or later.

    Assumes that ``stable``, the stable set of the cycle of ``now``, stays as it is. None for a
    runner that is not in it, and where the margin leaves nothing of its slots.
    """
    ids = [runner.runner_id for runner in stable]
    if runner_id not in ids:
        return None
    cycle = cycle_at(now, settings.interval)
    # The rotation brings everybody's slot within one round of the set; one cycle more, because
    # this cycle's slot may be over.
    for ahead in range(len(ids) + 1):
        position = scheduled_position(
            ids.index(runner_id), service, cycle.number + ahead, len(ids), settings
        )
        if position is None:
            continue
        start = cycle.start + ahead * settings.interval
        slot = slot_at(position, settings.slots(len(ids)), runner_id, start, settings)
        latest = min(slot.latest_start(settings.max_start_slot_fraction), slot.end - _MICROSECOND)
        if slot.start < slot.end and now <= latest:
            return NextTurn(slot.role, slot)
    return None


def first_cycle_after_joining(creation_time: datetime, settings: Settings) -> Cycle:
    """The first cycle in whose stable set a runner that joins at ``creation_time`` counts."""
    cycle = cycle_at(creation_time + settings.spread_margin, settings.interval)
    return Cycle(cycle.number + 1, cycle.end, cycle.end + settings.interval)


def decide(
    runner_id: str,
    scheduled: Sequence[ActiveRunnerInfo],
    now: datetime,
    settings: Settings,
) -> AtomicServiceClaim:
    """:func:`~turnwise.atomic_service.decide_atomic_service_claim` with a `Settings`.

    ``scheduled`` is the cycle's :func:`~turnwise.membership.schedule`.
    """
    minute, second = timedelta(minutes=1), timedelta(seconds=1)
    return decide_atomic_service_claim(
        runner_id=runner_id,
        active_runners=scheduled,
        current_time=now.timestamp(),
        service_interval_minutes=settings.interval / minute,
        spread_margin_minutes=settings.spread_margin / minute,
        membership_stabilization_seconds=settings.membership_stabilization / second,
        max_start_slot_fraction=settings.max_start_slot_fraction,
    )
