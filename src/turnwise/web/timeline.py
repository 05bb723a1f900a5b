"""A picture of turns as shapes that a template draws as SVG: a lane for each runner.

Widths are percentages, so that a browser fits them to any room, and a style sheet colours them:
nothing here is a style. What has no room beside its neighbours is drawn together with them, with
what failed on top.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import EPOCH
from turnwise.picture import Gap, Picture, ShownRun
from turnwise.picture.text import clock, duration, summary

MOST_LANES = 12
_LANE_HEIGHT = 34
_AXIS_HEIGHT = 22
_NARROWEST = 0.35
"""A bar is so wide at least, in percent: its colour must be seen."""
_STEPS = tuple(
    timedelta(seconds=seconds)
    for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600)
) + tuple(timedelta(days=days) for days in (0.5, 1, 2, 5, 7, 14, 30, 90, 365))
_MOST_TICKS = 8


@dataclass(frozen=True, slots=True)
class Bar:
    """A shape in a lane: from ``x``, ``width`` wide, both in percent."""

    x: float
    width: float
    look: str
    title: str


@dataclass(frozen=True, slots=True)
class Lane:
    """A runner: its slots, its runs, and the attempts that were refused."""

    runner_id: str
    y: int
    slots: tuple[Bar, ...]
    runs: tuple[Bar, ...]
    refused: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """A line at an instant, and what stands below it."""

    x: float
    label: str
    is_minor: bool


@dataclass(frozen=True, slots=True)
class Timeline:
    """All of it. ``hidden`` lanes have no room, and had no failure."""

    height: int
    lanes: tuple[Lane, ...]
    ticks: tuple[Tick, ...]
    pauses: tuple[Bar, ...]
    gaps: tuple[Bar, ...]
    dues: tuple[float, ...]
    hidden: int
    said: str
    looks: frozenset[str]


def timeline_of(picture: Picture) -> Timeline:
    """A picture as shapes."""
    scale = _Scale(picture)
    lanes = tuple(_lanes(picture, scale))
    return Timeline(
        height=len(lanes) * _LANE_HEIGHT + _AXIS_HEIGHT,
        lanes=lanes,
        ticks=tuple(_ticks(picture, scale)),
        pauses=tuple(scale.bar(a, b, "pause", "paused") for a, b in picture.pauses),
        gaps=tuple(_gap(each, scale) for each in picture.gaps),
        dues=tuple(scale.at(due) for due in picture.dues),
        hidden=len(picture.lanes) - len(lanes),
        said=summary(picture),
        looks=frozenset(bar.look for lane in lanes for bar in (*lane.runs, *lane.refused)),
    )


def _lanes(picture: Picture, scale: "_Scale") -> Iterator[Lane]:
    runs, refused = _by_lane(picture.runs), _by_lane(picture.attempts)
    for number, name in enumerate(_chosen(picture, runs, refused)):
        yield Lane(
            name,
            number * _LANE_HEIGHT,
            tuple(_slots(picture, name, scale)),
            tuple(_drawn(runs[name], scale)),
            tuple(_drawn(refused[name], scale)),
        )


def _gap(gap: Gap, scale: "_Scale") -> Bar:
    said = f"nobody starts for {duration(gap.end - gap.start)}"
    return scale.bar(gap.start, gap.end, "gap", said)


class _Scale:
    """From instants to percentages of a picture."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self._length = picture.end - picture.start

    def at(self, instant: datetime) -> float:
        part = (instant - self.picture.start) / self._length
        return round(100 * min(1.0, max(0.0, part)), 3)

    def bar(self, start: datetime, end: datetime, look: str, title: str) -> Bar:
        left, right = self.at(start), self.at(end)
        width = max(right - left, _NARROWEST)
        return Bar(min(left, 100 - width), round(width, 3), look, title)


def _by_lane(runs: Iterable[ShownRun]) -> dict[str, list[ShownRun]]:
    found: dict[str, list[ShownRun]] = defaultdict(list)
    for run in runs:
        found[run.runner_id].append(run)
    return found


def _chosen(
    picture: Picture, runs: dict[str, list[ShownRun]], refused: dict[str, list[ShownRun]]
) -> list[str]:
    """The lanes that there is room for: those that failed, then those that ran, then the others."""

    def interest(name: str) -> tuple[bool, int, bool, str]:
        failed = any(run.status is Status.ABANDONED for run in runs[name])
        return not failed, -len(runs[name]), not refused[name], name

    return sorted(sorted(picture.lanes, key=interest)[:MOST_LANES])


def _slots(picture: Picture, name: str, scale: _Scale) -> Iterator[Bar]:
    """The slots of a lane, where they are wide enough to be told apart."""
    for slot in picture.slots:
        if slot.runner_id == name:
            bar = scale.bar(slot.start, slot.latest, "slot", f"slot, as {slot.role}")
            if bar.width > 2 * _NARROWEST:
                yield bar


def _drawn(runs: Sequence[ShownRun], scale: _Scale) -> Iterator[Bar]:
    """Bars for the runs of a lane; those without room are one bar, and the worst come last."""
    looks: dict[str, list[list[ShownRun]]] = defaultdict(list)
    for run in runs:
        groups = looks[_look(run)]
        if groups and _touch(groups[-1][-1], run, scale):
            groups[-1].append(run)
        else:
            groups.append([run])
    for look in sorted(looks, key=_ORDER.index):
        for group in looks[look]:
            last = max(run.end or scale.picture.end for run in group)
            yield scale.bar(group[0].start, last, look, _title(group, scale.picture))


_ORDER = ("completed", "standby", "blocked", "running", "abandoned")


def _look(run: ShownRun) -> str:
    if run.status is Status.COMPLETED and run.as_standby:
        return "standby"
    return str(run.status)


def _touch(before: ShownRun, run: ShownRun, scale: _Scale) -> bool:
    ended = scale.at(before.end or scale.picture.end)
    start = scale.at(before.start)
    return scale.at(run.start) < max(ended, start + _NARROWEST) + _NARROWEST / 2


def _title(group: Sequence[ShownRun], picture: Picture) -> str:
    first = group[0]
    if len(group) > 1:
        return f"{len(group)} runs {first.status}, from {clock(first.start, picture)}"
    took = "still open" if first.end is None else f"took {duration(first.end - first.start)}"
    said = f"{clock(first.start, picture)} {first.status}, {took}"
    if first.as_standby:
        said += ", as a standby"
    if first.triggered:
        said += ", triggered"
    return f"{said}: {first.reason}" if first.reason else said


def _ticks(picture: Picture, scale: _Scale) -> Iterator[Tick]:
    length = picture.end - picture.start
    step = next((each for each in _STEPS if length / each <= _MOST_TICKS), _STEPS[-1])
    at = EPOCH + ((picture.start - EPOCH) // step + 1) * step
    number = 0
    while at < picture.end:
        x = scale.at(at)
        if 3 < x < 97:  # noqa: PLR2004 (a label at the very edge would be cut)
            yield Tick(x, _label(at, step), is_minor=bool(number % 2))
            number += 1
        at += step


def _label(at: datetime, step: timedelta) -> str:
    if step >= timedelta(days=1):
        return f"{at:%m-%d}"
    if step < timedelta(minutes=1):
        return f"{at:%H:%M:%S}"
    midnight = at.hour == 0 and at.minute == 0
    return f"{at:%m-%d}" if midnight else f"{at:%H:%M}"
