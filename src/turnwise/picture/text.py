"""A picture in words: for who cannot see it, and for what searches it."""

from collections import Counter
from datetime import datetime, timedelta

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.durations import format_duration
from turnwise.names import printable
from turnwise.picture.made import Picture, ShownRun, ShownSlot

_SECOND = timedelta(seconds=1)


def summary(picture: Picture) -> str:
    """One line: how many runs by status, takeovers, blocked attempts, and the longest gap."""
    if picture.planned:
        return f"{len(picture.lanes)} runners, {len(picture.slots)} slots, no executions"
    by_status = Counter(str(run.status) for run in picture.runs)
    parts = [f"{number:,} {status}" for status, number in sorted(by_status.items())]
    takeovers = sum(run.as_standby for run in picture.runs)
    if takeovers:
        parts.append(f"{takeovers:,} by a standby")
    if picture.attempts:
        parts.append(f"{len(picture.attempts):,} blocked")
    if picture.gaps:
        longest = max(gap.end - gap.start for gap in picture.gaps)
        parts.append(f"longest gap {duration(longest)}")
    return ", ".join(parts) or "no executions"


def alternative(picture: Picture) -> str:
    """All that the picture shows, line by line, in the order of time."""
    lines = [(run.start, _of_run(run)) for run in picture.runs]
    lines += [(one.start, f"{one.runner_id} blocked, {one.reason}") for one in picture.attempts]
    lines += [
        (gap.start, f"nobody starts for {duration(gap.end - gap.start)}") for gap in picture.gaps
    ]
    lines += [(start, f"paused until {clock(end, picture)}") for start, end in picture.pauses]
    if picture.planned:
        lines += [(slot.start, _of_slot(slot, picture)) for slot in picture.slots]
    in_order = sorted(lines, key=lambda line: line[0])
    said = [f"{clock(at, picture)} {printable(text)}" for at, text in in_order]
    head = f"{printable(picture.title)}: {span(picture)}"
    return "\n".join([head, f"{summary(picture)}.", *said])


def _of_run(run: ShownRun) -> str:
    took = "open" if run.end is None else duration(run.end - run.start)
    said = f"{run.runner_id} {run.status}, {took}, token {run.token}"
    if run.triggered:
        said += ", triggered"
    elif run.attempt > 1:
        said += f", attempt {run.attempt}"
    if run.as_standby:
        said += ", as a standby"
    return f"{said}, {run.reason}" if run.reason else said


def _of_slot(slot: ShownSlot, picture: Picture) -> str:
    guard = clock(slot.end, picture)
    return f"{slot.runner_id}: slot as {slot.role}, guard time from {guard}"


def span(picture: Picture) -> str:
    """From when to when."""
    return f"{picture.start:%Y-%m-%d %H:%M:%S} to {picture.end:%Y-%m-%d %H:%M:%S} UTC"


def clock(at: datetime, picture: Picture) -> str:
    """An instant to the second, with its date where the picture has more than one day."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if picture.crosses_midnight else f"{at:%H:%M:%S}"


def duration(length: timedelta) -> str:
    """Rounded to a second, or to a millisecond where it is short."""
    unit = _SECOND if length >= 10 * _SECOND else _SECOND / 1000
    return format_duration(round(length / unit) * unit)


STATUS_IN_WORDS = {
    Status.COMPLETED: "completed",
    Status.ABANDONED: "abandoned: failed, or ended by others",
    Status.RUNNING: "running",
}
"""What a legend says of each status of a run."""
