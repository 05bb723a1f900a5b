"""What a configuration promises: limits, gaps, and findings with what to change.

The formulas, with ``I`` the interval, ``m`` the margin, ``T`` the heartbeat timeout, ``f`` the
largest part of a slot that may be gone at a start, ``N`` runners and ``S`` slots in a cycle
(``"once"``: at most ``1 + standbys``; ``"every_slot"``: ``N``):

========================================  ==============================================
what                                      formula
========================================  ==============================================
slot, guard time included                 ``I / S``
window in which a start is allowed        ``f * (I/S - m)``; ``f * I`` where ``S = 1``
most slots that the margin allows         ``I // (m + 1 microsecond)``
share of the cycle closed to starts       ``1 - S * window / I``
time alone excludes overlap when          ``window + longest run + clock skew <= I/S``
gap between starts, no fault              ``I`` (``"every_slot"``: ``I/S``)
the same, one runner dead while idle      one slot more (``S = 1``: a whole cycle)
from a kill within a turn to a start      ``T + 2 * I/S - window``; ``T + I`` where ``S = 1``
the same, where a failed turn counts      that, and ``I`` at least
a new runner counts after at most         ``I + m``
heartbeats per cycle, of all              ``N * ceil(3 * I / T)``
looks per cycle beside them, of all       ``S`` (``"every_slot"``: ``2 * N - 1``)
========================================  ==============================================

A gap is counted from start to start, takes a healthy storage and runs that end within their
slots, and leaves out the moment that a round of messages takes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from turnwise.durations import format_duration

if TYPE_CHECKING:
    from turnwise.old_settings import Settings

_ZERO = timedelta(0)
_MICROSECOND = timedelta(microseconds=1)


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

    ``slot`` is a slot with its guard time and ``window`` the part of it in which a turn may
    start. ``most_slots`` is the largest number of slots that the margin allows.
    ``overlap_excluded_by_time`` is None where the longest run is not known. ``gap_...`` are
    the longest times between two starts, None where nobody can start; ``gap_after_kill``
    counts from the kill. ``closed_share`` is between 0 and 1. ``first_slot_delay`` is how long
    a new runner waits, at most, for the cycle in which it first counts.
    ``heartbeats_per_cycle`` and ``looks_per_cycle`` are how often the whole cluster asks the
    storage, at most, with no fault: each look is a heartbeat, too, and comes in the place of one
    or between two.
    """

    settings: "Settings"
    runners: int
    slots: int
    slot: timedelta
    window: timedelta
    most_slots: int
    overlap_excluded_by_time: bool | None
    gap_without_fault: timedelta | None
    gap_with_one_dead: timedelta | None
    gap_after_kill: timedelta | None
    first_slot_delay: timedelta
    heartbeats_per_cycle: int
    looks_per_cycle: int
    closed_share: float
    findings: tuple[Finding, ...]

    @property
    def rounds_per_cycle(self) -> int:
        """How often the whole cluster sends a heartbeat or looks, at most, with no fault."""
        return self.heartbeats_per_cycle + self.looks_per_cycle

    @property
    def has_errors(self) -> bool:
        """Whether any finding is an error."""
        return any(finding.level is Level.ERROR for finding in self.findings)


def review(
    settings: "Settings", *, runners: int, longest_run: timedelta | None, clock_skew: timedelta
) -> Review:
    """Work out what ``settings`` promise; see :meth:`turnwise.old_settings.Settings.review`.

    Raises:
        ValueError: ``runners`` is below 1, or a duration is negative.
    """
    if runners < 1:
        raise ValueError(f"runners must be 1 or more, got {runners}")
    for name, duration in (("longest_run", longest_run), ("clock_skew", clock_skew)):
        if duration is not None and duration < _ZERO:
            raise ValueError(f"{name} must be 0 or more, got {format_duration(duration)}")
    interval, timeout = settings.interval, settings.heartbeat_timeout
    slots = settings.slots(runners)
    slot = interval / slots
    margin = settings.spread_margin if slots > 1 else _ZERO
    window = max(slot - margin, _ZERO) * settings.max_start_slot_fraction
    room = _room_for_a_run(slot, window, clock_skew)
    excluded = None if longest_run is None else longest_run <= room
    once = settings.runs_per_cycle == "once"
    most_slots = interval // (settings.spread_margin + _MICROSECOND)
    somebody_starts = slots == 1 or slots <= most_slots
    gap = interval if once else slot
    others = runners > 1 and somebody_starts
    # The storage lets go of the dead runner's run just after a window has closed, and the next
    # slot is the dead runner's own. It has one at most: in the next cycle it does not count.
    after_kill = timeout + (slot if slots == 1 else 2 * slot - window)
    if once and not settings.retry_failed:
        # The killed run has served its cycle: the next start is the next cycle's.
        after_kill = max(after_kill, interval)
    return Review(
        settings=settings,
        runners=runners,
        slots=slots,
        slot=slot,
        window=window,
        most_slots=most_slots,
        overlap_excluded_by_time=excluded,
        gap_without_fault=gap if somebody_starts else None,
        gap_with_one_dead=gap + slot if others else None,
        gap_after_kill=after_kill if others else None,
        first_slot_delay=interval + settings.spread_margin,
        heartbeats_per_cycle=-(-interval // settings.heartbeat_interval) * runners,
        looks_per_cycle=slots if once else 2 * runners - 1,
        closed_share=1 - slots * (window / interval),
        findings=tuple(
            _findings(settings, runners, slot, window, longest_run=longest_run, skew=clock_skew)
        ),
    )


def _room_for_a_run(slot: timedelta, window: timedelta, skew: timedelta) -> timedelta:
    """The longest run that ends before the next slot begins; negative where there is none."""
    # A skew beyond a slot is as bad as any, and the longest are beyond what can be subtracted.
    return slot - window - min(skew, slot + _MICROSECOND)


def _findings(
    settings: "Settings",
    runners: int,
    slot: timedelta,
    window: timedelta,
    *,
    longest_run: timedelta | None,
    skew: timedelta,
) -> Iterator[Finding]:
    once = settings.runs_per_cycle == "once"
    yield from _findings_on_slots(settings, runners, slot, window)
    yield from _findings_on_clocks(settings, skew)
    if settings.membership_stabilization > settings.interval:
        grace = format_duration(settings.membership_stabilization)
        yield Finding(
            Level.WARNING,
            f"for {grace} after it has joined a runner does not start, nor does another in its "
            "place: cycles are missed while runners are new, and what is promised here counts none "
            "that are",
            f"let the stabilization be {format_duration(settings.interval)} or less",
        )
    if runners == 1:
        yield Finding(
            Level.WARNING,
            "one runner alone: when it dies, the service stops until it is back",
            "start a second runner",
        )
    elif once and settings.standbys == 0:
        yield Finding(
            Level.WARNING,
            "no standby: a cycle whose primary is dead, or whose turn fails, is missed",
            "have one standby or more",
        )
    if longest_run is None:
        yield Finding(
            Level.NOTE,
            "the longest run is not known, so whether turns fit their slots cannot be said",
            "give the longest run",
        )
    else:
        yield from _findings_on_runs(settings, _room_for_a_run(slot, window, skew), longest_run)
    if settings.retention_age < 2 * settings.interval:
        yield Finding(
            Level.NOTE,
            f"the history of {format_duration(settings.retention_age)} is shorter than two cycles",
            "keep the history for longer, to see more than the last run",
        )


def _findings_on_slots(
    settings: "Settings", runners: int, slot: timedelta, window: timedelta
) -> Iterator[Finding]:
    slots = settings.slots(runners)
    margin = format_duration(settings.spread_margin)
    most = settings.interval // (settings.spread_margin + _MICROSECOND)
    if slots > 1 and slots > most:
        yield Finding(
            Level.ERROR,
            f"the margin of {margin} leaves nothing of a slot of {format_duration(slot)} "
            f"({slots} slots): nobody ever starts",
            f"have at most {most} runners, shorten the margin below {format_duration(slot)}, "
            "lengthen the interval, or run once in each cycle",
        )
        return
    if slots > 1 and settings.runs_per_cycle == "every_slot" and slots > most // 2:
        yield Finding(
            Level.WARNING,
            f"{slots} slots of at most {most} that the margin of {margin} allows: twice as many "
            "runners and nobody starts any more",
            "lengthen the interval, shorten the margin, or run once in each cycle",
        )
    left = slot - (settings.spread_margin if slots > 1 else _ZERO) - window
    if left < settings.min_run_margin:
        yield Finding(
            Level.WARNING,
            f"a turn may start with only {format_duration(left)} of its slot left, and one with "
            f"less than {format_duration(settings.min_run_margin)} left ends at once",
            "lower the part of a slot within which a turn may start",
        )


def _findings_on_clocks(settings: "Settings", skew: timedelta) -> Iterator[Finding]:
    if skew > settings.spread_margin:
        yield Finding(
            Level.WARNING,
            f"a clock skew of {format_duration(skew)} exceeds the margin of "
            f"{format_duration(settings.spread_margin)}: runners that decide by their own "
            "clocks could be cleared together. The storage's clock and its gate are not "
            "affected",
            "set the margin to the clock skew or more, or keep to the storage's clock",
        )


def _findings_on_runs(
    settings: "Settings", room: timedelta, longest_run: timedelta
) -> Iterator[Finding]:
    run = format_duration(longest_run)
    if longest_run >= settings.interval:
        yield Finding(
            Level.ERROR,
            f"a run of {run} is as long as the interval of "
            f"{format_duration(settings.interval)}, or longer: cycles will be missed",
            "lengthen the interval, or shorten the run",
        )
    elif longest_run > room:
        yield Finding(
            Level.WARNING,
            f"a run of {run} that starts late reaches into the next slot: only the storage's "
            "gate keeps the next runner waiting",
            f"keep runs within {format_duration(max(room, _ZERO))}, lower the "
            "part of a slot within which a turn may start, or lengthen the interval",
        )
