"""What a chart shows, before anything is drawn: lanes, slots, runs, blocked attempts, gaps.

Pure: it needs the standard library alone, and a test can ask it everything.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.backends import ExecutionRecord
from turnwise.old_settings import Settings
from turnwise.timetable import Slot, slot_at

_LONG_GAP = 1.25
"""Over so many of the usual gaps a gap is shown."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without a start that is longer than the settings have it without a fault."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Picture:
    """Some time of one service.

    ``lanes`` are the runners, from top to bottom. ``slots`` are those whose owner is known;
    ``guards`` are all guard times, whoever's. ``runs`` were admitted, ``attempts`` were refused.
    Every record and slot is of a runner in ``lanes``, and lies in ``[start, end]`` with a part.
    """

    title: str
    start: datetime
    end: datetime
    lanes: tuple[str, ...]
    settings: Settings
    slots: tuple[Slot, ...] = ()
    guards: tuple[tuple[datetime, datetime], ...] = ()
    runs: tuple[ExecutionRecord, ...] = ()
    attempts: tuple[ExecutionRecord, ...] = ()
    gaps: tuple[Gap, ...] = ()

    @property
    def planned(self) -> bool:
        """Whether it shows what shall be: no execution is in it."""
        return not self.runs and not self.attempts

    def takes_over(self, run: ExecutionRecord) -> bool:
        """Whether a standby serves the cycle with this run, in another slot than the first."""
        once = self.settings.runs_per_cycle == "once"
        return once and run.slot_start is not None and run.slot_start > run.cycle_start


def picture_of_history(
    executions: Iterable[ExecutionRecord],
    settings: Settings,
    start: datetime,
    end: datetime,
    *,
    title: str,
    runner_ids: Sequence[str] = (),
) -> Picture:
    """What a storage has kept of ``[start, end]``.

    ``runner_ids`` have a lane even where they have no execution; others follow in their order.
    A slot's owner is known where it left a record in its slot, the guard times from the number
    of runners in it.

    Raises:
        ValueError: ``end`` is not after ``start``.
    """
    if end <= start:
        raise ValueError(f"end must be after start ({start}), got {end}")
    shown = [r for r in executions if r.start_time < end and (r.end_time or end) >= start]
    slots = {slot for record in shown if (slot := _slot_of(record, settings)) is not None}
    return Picture(
        title=title,
        start=start,
        end=end,
        lanes=tuple(dict.fromkeys([*runner_ids, *(record.runner_id for record in shown)])),
        settings=settings,
        slots=tuple(sorted(slots, key=lambda slot: (slot.start, slot.runner_id))),
        guards=_guards(shown, settings),
        runs=tuple(record for record in shown if record.status is not Status.BLOCKED),
        attempts=tuple(record for record in shown if record.status is Status.BLOCKED),
        gaps=_gaps(shown, settings, end),
    )


def picture_of_plan(
    slots: Sequence[Slot], runner_ids: Sequence[str], settings: Settings, *, title: str
) -> Picture:
    """Slots that are planned, and nobody's runs yet.

    Raises:
        ValueError: there is no slot.
    """
    if not slots:
        raise ValueError("slots must be one or more, got none")
    return Picture(
        title=title,
        start=min(slot.start for slot in slots),
        end=max(slot.guard_end for slot in slots),
        lanes=tuple(runner_ids),
        settings=settings,
        slots=tuple(slots),
        guards=tuple(sorted({(slot.end, slot.guard_end) for slot in slots})),
    )


def window_of_interest(
    executions: Sequence[ExecutionRecord], settings: Settings, cycles: int = 8
) -> tuple[datetime, datetime]:
    """Some cycles of a long history that are worth a look: where the longest gap is.

    Where no gap is longer than usual, around the first run that was cut off, or else the last
    cycles.

    Raises:
        ValueError: there is no execution.
    """
    if not executions:
        raise ValueError("executions must be one or more, got none")
    length = cycles * settings.interval
    first, last = executions[0].cycle_start, executions[-1].cycle_start + settings.interval
    gaps = _gaps(executions, settings, last)
    cut_off = [r for r in executions if r.status is Status.ABANDONED]
    if gaps:
        longest = max(gaps, key=lambda gap: gap.end - gap.start)
        length = max(length, 2 * (longest.end - longest.start))
        start = longest.start + (longest.end - longest.start) / 2 - length / 2
    elif cut_off:
        start = cut_off[0].cycle_start - length / 2
    else:
        start = last - length
    start = max(first, min(start, last - length))
    return start, min(start + length, last)  # beyond the history nothing is known


def _slot_of(record: ExecutionRecord, settings: Settings) -> Slot | None:
    if record.slot_start is None or record.stable_size < 1:
        return None
    slots = settings.slots(record.stable_size)
    position = round((record.slot_start - record.cycle_start) / (settings.interval / slots))
    if not 0 <= position < slots:  # settings have changed since
        return None
    return slot_at(position, slots, record.runner_id, record.cycle_start, settings)


def _guards(
    records: Iterable[ExecutionRecord], settings: Settings
) -> tuple[tuple[datetime, datetime], ...]:
    sizes = {record.cycle_start: record.stable_size for record in records if record.stable_size}
    guards = []
    for cycle_start, size in sorted(sizes.items()):
        slots = settings.slots(size)
        for position in range(slots):
            slot = slot_at(position, slots, "", cycle_start, settings)
            guards.append((slot.end, slot.guard_end))
    return tuple(guards)


def _gaps(records: Iterable[ExecutionRecord], settings: Settings, end: datetime) -> tuple[Gap, ...]:
    runs = [record for record in records if record.status is not Status.BLOCKED]
    starts = [run.start_time for run in runs]
    # A cycle later, though it may be by the last instant at which a slot may be begun.
    usual: timedelta = settings.interval * _LONG_GAP
    return tuple(Gap(a, b) for a, b in pairwise([*starts, end] if starts else []) if b - a > usual)
