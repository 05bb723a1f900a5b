"""What a configuration promises: limits, gaps, and findings with what to change.

The formulas, with ``L`` the longest period, ``C`` the longest cycle, ``m`` the margin, ``T`` the
heartbeat timeout, ``h = T / 3`` the time between two heartbeats, ``f`` the largest part of a slot
that may be gone at a start, ``N`` runners, ``s`` slots in a cycle (``"once"``: at most
``1 + standbys``; ``"every_slot"``: ``N``), ``S`` a slot and ``W`` its window:

========================================  ==============================================
what                                      formula
========================================  ==============================================
slot ``S``, guard time included           ``C / s``
window ``W`` in which a start is allowed  ``f * (S - m)``; ``f * C`` where ``s = 1``
most slots that the margin allows         ``C' // (m + 1 microsecond)``, ``C'`` the shortest cycle
share of the cycle closed to starts       ``1 - s * W / C``
time alone excludes overlap when          ``W + longest run + clock skew <= S``
gap between starts, no fault              ``L`` (``"every_slot"``: ``S``)
from due to start, one runner dead        ``S``; ``C`` where ``s = 1``
gap between starts, one runner dead       the two added
from a kill within a turn to a start      ``T + h + 2 * S - W``; ``T + h + C`` where ``s = 1``
the same, with ``attempts = 1``           that, and ``L`` at least
a new runner counts after at most         ``C + m``
heartbeats per cycle, of all              ``N * ceil(C / h)``
looks per cycle, of all                   ``2 * N + 1``
other statements per cycle, of all        6 (``"every_slot"``: ``2 + 4 * N``)
========================================  ==============================================

How they come about. The plan of a cycle is made within the margin before it, so that the primary
starts at the due instant. A dead primary's slot passes, and the next one is a standby's. A run
whose owner was killed is dead when somebody has seen it, with the same word, for ``T``: its last
word was said before the kill, and is first seen within a heartbeat interval after that, so that it
is buried ``T + h`` after the kill at the latest. Then a window may just have closed (``S - W`` are
left of its slot), and the next slot may be the dead runner's own. Who joins counts in each cycle
that is planned after that.

A gap is counted from start to start, takes a healthy storage, runs that end within their slots and
a service that is due again and again, and leaves out the moment that messages take.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import islice, pairwise
from typing import Final

from turnwise.cycles import MICROSECOND, duration, instant, longest_cycle, microseconds
from turnwise.durations import format_duration
from turnwise.schedules import Every, Schedule
from turnwise.settings import Settings

_ZERO = timedelta(0)
_LOOK_FROM: Final = instant(1_767_225_600_000_000)  # 2026-01-01: any instant would do
_LOOK_UNTIL: Final = timedelta(days=400)  # the hours that are skipped and repeated are in them
_PERIODS_LOOKED_AT: Final = 1_000
_STATEMENTS_OF_A_RUN: Final = 4  # admitted, ended, and up to two rows for the history
_STATEMENTS_OF_A_PLAN: Final = 2  # who is stable, and the plan


class Level(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know about a configuration: what it means, and what to change."""

    level: Level
    meaning: str
    change: str


@dataclass(frozen=True, slots=True)
class Review:
    """What a configuration promises to a number of runners; the formulas head the module.

    ``cycle`` is the longest cycle, ``slot`` a slot of it with its guard time, and ``window`` the
    part of the slot in which a turn may start. ``most_slots`` is the largest number of slots that
    the margin allows. ``overlap_excluded_by_time`` is None where the longest run is not known.
    ``takeover`` is how late the service starts where its primary is dead; ``gap_...`` are the
    longest times between two starts, and ``gap_after_kill`` counts from the kill; each is None
    where nobody can start. ``first_slot_delay`` is how long a new runner waits, at most, for the
    cycle in which it first counts. ``heartbeats_per_cycle``, ``looks_per_cycle`` and
    ``statements_per_cycle`` are how often the whole cluster asks the storage, at most, with no
    fault, in a cycle that serves a period: heartbeats, reads, and all else. ``closed_share`` is
    between 0 and 1.
    """

    settings: Settings
    runners: int
    cycle: timedelta
    slots: int
    slot: timedelta
    window: timedelta
    most_slots: int
    overlap_excluded_by_time: bool | None
    takeover: timedelta | None
    gap_without_fault: timedelta | None
    gap_with_one_dead: timedelta | None
    gap_after_kill: timedelta | None
    first_slot_delay: timedelta
    heartbeats_per_cycle: int
    looks_per_cycle: int
    statements_per_cycle: int
    closed_share: float
    findings: tuple[Finding, ...]

    @property
    def has_errors(self) -> bool:
        """Whether any finding is an error."""
        return any(finding.level is Level.ERROR for finding in self.findings)


@dataclass(frozen=True, slots=True)
class _Shape:
    """How long a configuration's periods, cycles and slots are."""

    shortest_period: timedelta
    period: timedelta
    shortest_cycle: timedelta
    cycle: timedelta
    slots: int
    slot: timedelta
    window: timedelta
    most_slots: int


def review(
    settings: Settings,
    *,
    runners: int,
    longest_run: timedelta | None = None,
    clock_skew: timedelta = _ZERO,
) -> Review:
    """Work out what ``settings`` promise to a number of runners.

    Of a schedule of another kind than ``Every`` the periods of 400 days from 2026 are looked at, or
    the first thousand of them.

    Args:
        settings: of the service.
        runners: how many take part, 1 or more.
        longest_run: the longest that a turn takes; None where it is not known.
        clock_skew: how far two runners' clocks may be apart, for what time slots alone give.

    Raises:
        ValueError: ``runners`` is below 1, or a duration is negative.
    """
    _check(runners, longest_run, clock_skew)
    shape = _shape(settings, runners)
    slots, slot, once = shape.slots, shape.slot, settings.runs == "once"
    somebody_starts = slots == 1 or slots <= shape.most_slots
    others = runners > 1 and somebody_starts
    gap = shape.period if once else slot
    takeover = slot if slots > 1 else shape.cycle
    room = _room_for_a_run(shape, clock_skew)
    found = _findings(settings, runners, shape, longest_run=longest_run, skew=clock_skew)
    runs = 1 if once else runners
    return Review(
        settings=settings,
        runners=runners,
        cycle=shape.cycle,
        slots=slots,
        slot=slot,
        window=shape.window,
        most_slots=shape.most_slots,
        overlap_excluded_by_time=None if longest_run is None else longest_run <= room,
        takeover=takeover if others else None,
        gap_without_fault=gap if somebody_starts else None,
        gap_with_one_dead=gap + takeover if others else None,
        gap_after_kill=_after_kill(settings, shape) if others else None,
        first_slot_delay=shape.cycle + settings.spread_margin,
        heartbeats_per_cycle=-(-shape.cycle // settings.heartbeat_interval) * runners,
        looks_per_cycle=2 * runners + 1,
        statements_per_cycle=_STATEMENTS_OF_A_PLAN + _STATEMENTS_OF_A_RUN * runs,
        closed_share=1 - slots * (shape.window / shape.cycle),
        findings=tuple(found),
    )


def _check(runners: int, longest_run: timedelta | None, clock_skew: timedelta) -> None:
    if runners < 1:
        raise ValueError(f"runners must be 1 or more, got {runners}")
    for name, length in (("longest_run", longest_run), ("clock_skew", clock_skew)):
        if length is not None and length < _ZERO:
            raise ValueError(f"{name} must be 0 or more, got {format_duration(length)}")


def _shape(settings: Settings, runners: int) -> _Shape:
    shortest, longest = _periods(settings.schedule)
    most = settings.cycle
    if settings.runs == "every_slot":
        most = max(most, longest)  # a period is one cycle
    slots = settings.slots(runners)
    lengths = (microseconds(each) for each in (shortest, longest))
    cycles = [longest_cycle(length, microseconds(most)) for length in lengths]
    cycle = duration(max(cycles))
    slot = cycle / slots
    margin = settings.spread_margin if slots > 1 else _ZERO
    window = max(slot - margin, _ZERO) * settings.max_start_slot_fraction
    shortest_cycle = settings.shortest_cycle
    most_slots = shortest_cycle // (settings.spread_margin + MICROSECOND)
    return _Shape(shortest, longest, shortest_cycle, cycle, slots, slot, window, most_slots)


def _periods(schedule: Schedule) -> tuple[timedelta, timedelta]:
    """The shortest and the longest period."""
    if isinstance(schedule, Every):
        return schedule.interval, schedule.interval
    text = str(schedule)  # which says all that its dues depend on
    if text not in _looked_at:
        if len(_looked_at) >= _MOST_KEPT:
            _looked_at.clear()
        _looked_at[text] = _look_at(schedule)
    return _looked_at[text]


_MOST_KEPT: Final = 64
_looked_at: dict[str, tuple[timedelta, timedelta]] = {}


def _look_at(schedule: Schedule) -> tuple[timedelta, timedelta]:
    first = schedule.period_at(_LOOK_FROM)
    ahead = islice(schedule.dues(first.due, first.due + _LOOK_UNTIL), _PERIODS_LOOKED_AT)
    lengths = [later - earlier for earlier, later in pairwise(ahead)]
    lengths.append(first.until - first.due)
    return min(lengths), max(lengths)


def _after_kill(settings: Settings, shape: _Shape) -> timedelta:
    buried = settings.heartbeat_timeout + settings.heartbeat_interval
    waits = shape.cycle if shape.slots == 1 else 2 * shape.slot - shape.window
    if settings.runs == "once" and settings.attempts == 1:
        # The killed run was the only attempt: the next start is the next period's.
        return max(buried + waits, shape.period)
    return buried + waits


def _room_for_a_run(shape: _Shape, skew: timedelta) -> timedelta:
    """The longest run that ends before the next slot begins; negative where there is none."""
    # A skew beyond a slot is as bad as any, and the longest are beyond what can be subtracted.
    return shape.slot - shape.window - min(skew, shape.slot + MICROSECOND)


def _findings(
    settings: Settings,
    runners: int,
    shape: _Shape,
    *,
    longest_run: timedelta | None,
    skew: timedelta,
) -> Iterator[Finding]:
    yield from _findings_on_slots(settings, shape)
    yield from _findings_on_clocks(settings, shape, skew)
    yield from _findings_on_takeovers(settings, runners, shape)
    yield from _findings_on_runs(settings, shape, _room_for_a_run(shape, skew), longest_run)
    if settings.retention_age < 2 * shape.period:
        yield Finding(
            Level.NOTE,
            f"the history of {format_duration(settings.retention_age)} is shorter than two periods",
            "keep the history for longer, to see more than the last run",
        )


def _findings_on_slots(settings: Settings, shape: _Shape) -> Iterator[Finding]:
    slots, most = shape.slots, shape.most_slots
    margin = format_duration(settings.spread_margin)
    if slots > 1 and slots > most:
        yield Finding(
            Level.ERROR,
            f"the margin of {margin} leaves nothing of a slot of "
            f"{format_duration(shape.shortest_cycle / slots)} ({slots} slots): nobody ever starts",
            f"have at most {most} runners, shorten the margin, lengthen the cycle, or run once in "
            "each period",
        )
        return
    if slots > 1 and settings.runs == "every_slot" and slots > most // 2:
        yield Finding(
            Level.WARNING,
            f"{slots} slots of at most {most} that the margin of {margin} allows: twice as many "
            "runners and nobody starts any more",
            "lengthen the interval, shorten the margin, or run once in each period",
        )
    left = shape.slot - (settings.spread_margin if slots > 1 else _ZERO) - shape.window
    if left < settings.min_run_margin:
        yield Finding(
            Level.WARNING,
            f"a turn may start with only {format_duration(left)} of its slot left, and one with "
            f"less than {format_duration(settings.min_run_margin)} left ends at once",
            "lower the part of a slot within which a turn may start",
        )


def _findings_on_clocks(settings: Settings, shape: _Shape, skew: timedelta) -> Iterator[Finding]:
    if skew > settings.spread_margin:
        yield Finding(
            Level.WARNING,
            f"a clock skew of {format_duration(skew)} exceeds the margin of "
            f"{format_duration(settings.spread_margin)}: runners that decide by their own "
            "clocks could be cleared together. The storage's clock and its gate are not "
            "affected",
            "set the margin to the clock skew or more, or keep to the storage's clock",
        )
    if settings.membership_stabilization > shape.cycle:
        grace = format_duration(settings.membership_stabilization)
        yield Finding(
            Level.WARNING,
            f"for {grace} after it has joined a runner does not start, nor does another in its "
            "place: cycles pass while runners are new, and what is promised here counts none "
            "that are",
            f"let the stabilization be {format_duration(shape.cycle)} or less",
        )


def _findings_on_takeovers(settings: Settings, runners: int, shape: _Shape) -> Iterator[Finding]:
    after_kill = _after_kill(settings, shape)
    within = settings.start_within
    last = shape.shortest_period if within is None else min(within, shape.shortest_period)
    if settings.runs == "once" and runners > 1 and settings.attempts > 1 and after_kill > last:
        yield Finding(
            Level.NOTE,
            f"after a kill within a turn it may take {format_duration(after_kill)} until another "
            f"starts, and an attempt may start within {format_duration(last)} of its due instant "
            "only: then the period is missed, and the next one is served",
            "shorten the heartbeat timeout or the cycle, or let attempts start for longer",
        )
    if runners == 1:
        yield Finding(
            Level.WARNING,
            "one runner alone: when it dies, the service stops until it is back",
            "start a second runner",
        )
    elif settings.runs == "once" and settings.standbys == 0:
        yield Finding(
            Level.WARNING,
            "no standby: where the primary of a cycle is dead, or its turn fails, the service "
            "waits for the next cycle",
            "have one standby or more",
        )


def _findings_on_runs(
    settings: Settings, shape: _Shape, room: timedelta, longest_run: timedelta | None
) -> Iterator[Finding]:
    if longest_run is None:
        yield Finding(
            Level.NOTE,
            "the longest run is not known, so whether turns fit their slots cannot be said",
            "give the longest run",
        )
        return
    run = format_duration(longest_run)
    timeout = settings.timeout
    if timeout is not None and longest_run > timeout:
        yield Finding(
            Level.ERROR,
            f"a run of {run} is ended at its timeout of {format_duration(timeout)}",
            "lengthen the timeout, or shorten the run",
        )
    if longest_run >= shape.shortest_period:
        yield Finding(
            Level.ERROR,
            f"a run of {run} is as long as a period of "
            f"{format_duration(shape.shortest_period)}, or longer: periods will be missed",
            "have the service due less often, or shorten the run",
        )
    elif longest_run > room:
        yield Finding(
            Level.WARNING if settings.runs == "every_slot" else Level.NOTE,
            f"a run of {run} that starts late reaches into the next slot: only the storage's "
            "gate keeps the next runner waiting",
            f"keep runs within {format_duration(max(room, _ZERO))}, lower the part of a slot "
            "within which a turn may start, or lengthen the cycle",
        )
