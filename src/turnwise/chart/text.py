"""A picture in words: for who cannot see it, and for what searches it."""

from collections import Counter
from datetime import datetime, timedelta

from turnwise.chart.picture import Picture
from turnwise.durations import format_duration

_SECOND = timedelta(seconds=1)


def summary(picture: Picture) -> str:
    """One line: how many runs by status, takeovers, blocked attempts, and the longest gap."""
    if picture.planned:
        return f"{len(picture.lanes)} runners, {len(picture.slots)} slots, no executions"
    by_status = Counter(str(run.status) for run in picture.runs)
    parts = [f"{number} {status}" for status, number in sorted(by_status.items())]
    takeovers = sum(map(picture.takes_over, picture.runs))
    if takeovers:
        parts.append(f"{takeovers} by a standby")
    if picture.attempts:
        parts.append(f"{len(picture.attempts)} blocked")
    if picture.gaps:
        longest = max(gap.end - gap.start for gap in picture.gaps)
        parts.append(f"longest gap {duration(longest)}")
    return ", ".join(parts)


def alternative(picture: Picture) -> str:
    """All that the picture shows, line by line, in the order of time."""
    lines: list[tuple[datetime, str]] = []
    for run in picture.runs:
        took = "open" if run.end_time is None else duration(run.end_time - run.start_time)
        standby = ", as a standby" if picture.takes_over(run) else ""
        reason = f", {run.reason}" if run.reason else ""
        said = f"{run.runner_id} {run.status}, {took}, token {run.fencing_token}{standby}{reason}"
        lines.append((run.start_time, said))
    lines += [
        (one.start_time, f"{one.runner_id} blocked, {one.reason}") for one in picture.attempts
    ]
    lines += [
        (gap.start, f"nobody starts for {duration(gap.end - gap.start)}") for gap in picture.gaps
    ]
    if picture.planned:
        lines += [
            (
                slot.start,
                f"{slot.runner_id}: slot as {slot.role}, guard time from {clock(slot.end)}",
            )
            for slot in picture.slots
        ]
    said_lines = [f"{clock(at)} {said}" for at, said in sorted(lines, key=lambda line: line[0])]
    head = f"{picture.title}: {span(picture)}"
    return "\n".join([head, f"{summary(picture)}.", *said_lines])


def span(picture: Picture) -> str:
    """From when to when."""
    return f"{picture.start:%Y-%m-%d %H:%M:%S} to {picture.end:%Y-%m-%d %H:%M:%S} UTC"


def clock(at: datetime) -> str:
    """The time of day, to the second."""
    return f"{at:%H:%M:%S}"


def duration(length: timedelta) -> str:
    """Rounded to a second, or to a millisecond where it is short."""
    unit = _SECOND if length >= 10 * _SECOND else _SECOND / 1000
    return format_duration(round(length / unit) * unit)
