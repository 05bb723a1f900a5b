"""What a chart shows, before anything is drawn: lanes, slots, runs, blocked attempts, gaps.

Pure: it needs the standard library alone, and a test can ask it everything. Instants are aware
datetimes in UTC, on the storage's clock.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, pairwise, zip_longest

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import instant, microseconds, slot_at
from turnwise.gate import Command, CommandName, Execution, Row
from turnwise.plan import CyclePlan, Planner
from turnwise.settings import Settings

_LONG_GAP = 1.25
"""A gap is shown that is longer than so many of the period in which it began."""

_MOST_DUES = 40
"""Lines at more due instants would fill the picture."""


@dataclass(frozen=True, slots=True)
class ShownSlot:
    """A slot: a turn may start from ``start`` to ``latest``; guard time begins at ``end``."""

    runner_id: str
    role: str
    start: datetime
    latest: datetime
    end: datetime
    guard_end: datetime


@dataclass(frozen=True, slots=True)
class ShownRun:
    """A run, or an attempt that was refused. ``end`` is None for a run that is at work.

    ``as_standby`` says that it has another slot than the first of its period, which matters where
    the service runs once in a period.
    """

    runner_id: str
    status: Status
    reason: str
    start: datetime
    end: datetime | None
    token: int | None
    due: datetime
    attempt: int
    as_standby: bool
    triggered: bool

    @property
    def kind(self) -> str:
        """The reason without what follows its colon."""
        return self.reason.partition(":")[0]

    @property
    def late(self) -> timedelta:
        """How long after its due instant it started."""
        return self.start - self.due


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without a start that is longer than the schedule has it without a fault."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Picture:
    """Some time of one service.

    ``lanes`` are the runners, from top to bottom. ``slots`` are those whose owner is known;
    ``guards`` are all guard times, whoever's. ``runs`` were admitted, ``attempts`` were refused.
    ``dues`` are the due instants, where they are few enough to be told apart. ``pauses`` is when
    the service was paused. Every record and slot is of a runner in ``lanes``, and lies in
    ``[start, end]`` with a part.
    """

    title: str
    start: datetime
    end: datetime
    lanes: tuple[str, ...]
    slots: tuple[ShownSlot, ...] = ()
    guards: tuple[tuple[datetime, datetime], ...] = ()
    runs: tuple[ShownRun, ...] = ()
    attempts: tuple[ShownRun, ...] = ()
    gaps: tuple[Gap, ...] = ()
    pauses: tuple[tuple[datetime, datetime], ...] = ()
    dues: tuple[datetime, ...] = ()
    planned: bool = False

    @property
    def crosses_midnight(self) -> bool:
        """Whether an instant in it needs a date to be told from another."""
        return self.start.date() != self.end.date()


def picture_of_history(
    rows: Iterable[Row],
    settings: Settings,
    start: datetime,
    end: datetime,
    *,
    title: str,
    service: str = "",
    runner_ids: Sequence[str] = (),
) -> Picture:
    """What a storage has kept of ``[start, end]``.

    Args:
        rows: the history, with the run that is open; commands show when it was paused.
        settings: those that hold: slots and due instants are drawn by them.
        start: where the picture starts.
        end: where it ends.
        title: its title.
        service: the service's name, by which its due instants may be staggered.
        runner_ids: have a lane even where they have no execution.

    A slot's owner is known where it left a row in its slot, the guard times from the size of the
    set that the row tells.

    Raises:
        ValueError: ``end`` is not after ``start``.
    """
    if end <= start:
        raise ValueError(f"end must be after start ({start}), got {end}")
    kept = tuple(rows)
    planner = Planner.of(service, settings)
    first, last = microseconds(start), microseconds(end)
    shown = [row for row in _executions(kept) if _touches(row, first, last)]
    runs = [_shown_run(row, planner) for row in shown]
    admitted = tuple(run for run in runs if run.status is not Status.BLOCKED)
    slots = {slot for row in shown if (slot := _slot_of(row, planner)) is not None}
    return Picture(
        title=title,
        start=start,
        end=end,
        lanes=tuple(sorted({*runner_ids, *(row.runner_id for row in shown)})),
        slots=tuple(sorted(slots, key=lambda slot: (slot.start, slot.runner_id))),
        guards=tuple(_guards(shown, planner)),
        runs=admitted,
        attempts=tuple(run for run in runs if run.status is Status.BLOCKED),
        gaps=_gaps(admitted, planner, end),
        pauses=tuple(_pauses(kept, first, last)),
        dues=_dues(planner, start, end),
    )


def picture_of_plan(
    cycles: Sequence[CyclePlan], runner_ids: Sequence[str], *, title: str
) -> Picture:
    """Slots that are planned, and nobody's runs yet.

    Args:
        cycles: the planned cycles.
        runner_ids: the lanes, from top to bottom; more than those that have a slot.
        title: the picture's title.

    Raises:
        ValueError: there is no cycle.
    """
    if not cycles:
        raise ValueError("cycles must be one or more, got none")
    slots = [
        slot for cycle in cycles for slot in _slots_of_plan(cycle) if slot.runner_id in runner_ids
    ]
    return Picture(
        title=title,
        start=instant(min(cycle.start for cycle in cycles)),
        end=instant(max(cycle.end for cycle in cycles)),
        lanes=tuple(runner_ids),
        slots=tuple(slots),
        guards=tuple(sorted({(slot.end, slot.guard_end) for slot in slots})),
        dues=tuple(sorted({instant(cycle.start) for cycle in cycles})),
        planned=True,
    )


def window_of_interest(
    rows: Iterable[Row], settings: Settings, *, service: str = "", periods: int = 8
) -> tuple[datetime, datetime]:
    """Some periods of a long history that are worth a look: where the longest gap is.

    Where no gap is longer than usual, around the first run that was cut off, or else the last
    periods.

    Raises:
        ValueError: there is no execution.
    """
    planner = Planner.of(service, settings)
    executions = _executions(rows)
    if not executions:
        raise ValueError("executions must be one or more, got none")
    first = instant(executions[0].cycle_start)
    ending = planner.schedule.period_at(instant(executions[-1].due))
    last = max(ending.until, instant(executions[-1].started_at) + timedelta(microseconds=1))
    length = periods * (ending.until - ending.due)
    runs = tuple(_shown_run(row, planner) for row in executions if row.status is not Status.BLOCKED)
    gaps = _gaps(runs, planner, last)
    cut_off = [row for row in executions if row.status is Status.ABANDONED]
    if gaps:
        longest = max(gaps, key=lambda gap: gap.end - gap.start)
        length = max(length, 2 * (longest.end - longest.start))
        start = longest.start + (longest.end - longest.start) / 2 - length / 2
    elif cut_off:
        start = instant(cut_off[0].cycle_start) - length / 2
    else:
        start = last - length
    start = max(first, min(start, last - length))
    return start, min(start + length, last)  # beyond the history nothing is known


# What rows say ------------------------------------------------------------------------------------


def _executions(rows: Iterable[Row]) -> list[Execution]:
    found = (row for row in rows if isinstance(row, Execution))
    return sorted(found, key=lambda row: (row.started_at, row.id))


def _touches(row: Execution, first: int, last: int) -> bool:
    return row.started_at < last and (row.ended_at is None or row.ended_at >= first)


def _shown_run(row: Execution, planner: Planner) -> ShownRun:
    return ShownRun(
        runner_id=row.runner_id,
        status=row.status,
        reason=row.reason,
        start=instant(row.started_at),
        end=None if row.ended_at is None else instant(row.ended_at),
        token=row.token,
        due=instant(row.due),
        attempt=row.attempt,
        as_standby=_is_standby(row, planner),
        triggered=row.trigger is not None,
    )


def _is_standby(row: Execution, planner: Planner) -> bool:
    if planner.rules.every_slot or row.token is None or row.trigger is not None:
        return False
    return bool(row.position) or row.cycle_start > row.due


def _role(position: int, *, every_slot: bool) -> str:
    return "slot" if every_slot else "primary" if position == 0 else "standby"


def _slot_of(row: Execution, planner: Planner) -> ShownSlot | None:
    """The slot that a row was made in; its guard time as the settings have it."""
    if row.slot_start is None or row.slot_end is None or row.position is None:
        return None
    rules = planner.rules
    length = row.slot_end - row.slot_start
    guard = 0 if row.size == 1 else rules.margin
    return ShownSlot(
        row.runner_id,
        _role(row.position, every_slot=rules.every_slot),
        instant(row.slot_start),
        instant(row.slot_start + int(length * rules.window)),
        instant(row.slot_end),
        instant(row.slot_end + guard),
    )


def _slots_of_plan(cycle: CyclePlan) -> Iterator[ShownSlot]:
    for position, (runner_id, _) in enumerate(cycle.runners):
        slot = cycle.slot(position)
        yield ShownSlot(
            runner_id,
            _role(position, every_slot=cycle.rules.every_slot),
            instant(slot.start),
            instant(max(slot.start, slot.latest)),
            instant(slot.end),
            instant(slot.guard_end),
        )


def _guards(rows: Iterable[Execution], planner: Planner) -> Iterator[tuple[datetime, datetime]]:
    rules = planner.rules
    sizes = {row.cycle_start: row.size for row in rows if row.size > 0}
    for start, size in sorted(sizes.items()):
        cycle = planner.cycle_at(start)
        if cycle.start != start:
            continue  # it was clipped, or the settings have changed since
        count = size if rules.every_slot else min(size, rules.standbys + 1)
        for position in range(count):
            slot = slot_at(
                start, cycle.end, position, count, margin=rules.margin, window=rules.window
            )
            if slot.end < slot.guard_end:
                yield instant(slot.end), instant(slot.guard_end)


def _gaps(runs: Sequence[ShownRun], planner: Planner, end: datetime) -> tuple[Gap, ...]:
    starts = [run.start for run in runs]
    found = []
    for before, after in pairwise([*starts, end] if starts else []):
        period = planner.schedule.period_at(before)
        if after - before > (period.until - period.due) * _LONG_GAP:
            found.append(Gap(before, after))
    return tuple(found)


def _pauses(rows: Sequence[Row], first: int, last: int) -> Iterator[tuple[datetime, datetime]]:
    """When the service was paused, within the picture."""
    changes = sorted(
        (row for row in rows if isinstance(row, Command) and row.name in _OF_PAUSES),
        key=lambda row: (row.at, row.id),
    )
    for row, following in zip_longest(changes, changes[1:]):
        if row.name is CommandName.RESUME:
            continue
        until = following.at if following is not None else last
        if row.until is not None:
            until = min(until, row.until)
        if row.at < last and until > first and row.at < until:
            yield instant(max(row.at, first)), instant(min(until, last))


_OF_PAUSES = (CommandName.PAUSE, CommandName.RESUME)


def _dues(planner: Planner, start: datetime, end: datetime) -> tuple[datetime, ...]:
    found = tuple(islice(planner.schedule.dues(start, end), _MOST_DUES + 1))
    return found if len(found) <= _MOST_DUES else ()
