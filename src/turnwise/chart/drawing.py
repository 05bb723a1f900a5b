"""A picture drawn with matplotlib.

To be read in colour and in grey: what differs in colour differs in darkness, hatching or shape,
too. It never touches pyplot, so that it can be drawn in any thread of any program.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from math import ceil
from typing import Any

import matplotlib as mpl
from matplotlib import dates, font_manager, ft2font
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.picture.made import Gap, Picture, ShownRun
from turnwise.picture.text import STATUS_IN_WORDS, duration

INK, FAINT = "#222222", "#888888"
_MAY_START, _TOO_LATE, _GUARD = "#bcd9ee", "#e3eff8", "#eeeeee"
_STYLE = {
    Status.COMPLETED: ("#08519c", ""),
    Status.ABANDONED: ("#fdae61", "xxxx"),
    Status.RUNNING: ("#ffffff", "...."),
}
_MARKER_OF = {
    "prior_running": "X",
    "late_start": "v",
    "scheduled_runner_in_grace": "D",
    "slot_window_invalid": "s",
}
_OTHER_MARKERS = ("P", "*", "o", "p", "h", "d")
_TAKEOVER = "^"
_PAUSED = "#fff3cd"
_SHADES = ("#c6dbef", "#9ecae1", "#6baed6", "#3182bd", "#08519c")
_BINS = 240
"""Into so many parts the time of a picture is cut where runs are too many to be drawn each."""
_NARROWEST = 300
"""A run is drawn as wide as this part of the picture at least: its colour must be seen."""
_CROWDED = 1.5
"""More runs than bins, times this: a lane's runs would be slivers."""
_SLOT_HEIGHT, _RUN_HEIGHT = 0.72, 0.36
_FEW_LANES, _FEW = 12, 10
_LONGEST_LABEL = 30
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def style() -> AbstractContextManager[None]:
    """What matplotlib is to draw and save with: with a fixed salt, a picture has one file."""
    return mpl.rc_context(
        {
            "svg.hashsalt": "turnwise",
            "hatch.linewidth": 0.6,
            "font.size": 9,
            "font.family": "DejaVu Sans",
        }
    )


def draw(picture: Picture) -> Figure:
    """The picture as a figure, 10 inches wide and as high as its lanes need."""
    lanes = len(picture.lanes)
    with style():
        figure = Figure(
            figsize=(10, 1.9 + lanes * (0.48 if lanes <= _FEW_LANES else 0.2)),
            facecolor="white",
            layout="constrained",
        )
        axes = figure.subplots()
        _frame(axes, picture)
        for start, end in picture.pauses:
            axes.axvspan(_at(start), _at(end), color=_PAUSED, linewidth=0, zorder=0)
        crowded = is_crowded(picture)
        if crowded:
            _draw_density(axes, picture)
        else:
            _draw_slots(axes, picture)
            for run in picture.runs:
                _draw_run(axes, picture, run)
        _draw_attempts(axes, picture)
        for gap in picture.gaps:
            _draw_gap(axes, picture, gap)
        _legend(figure, _entries(picture, crowded=crowded))
    return figure


def _draw_attempts(axes: Axes, picture: Picture) -> None:
    for attempt in _apart(picture.attempts, picture):
        y = _row(picture, attempt.runner_id) - 0.26
        mark = marker_of(attempt.kind)
        axes.plot([_at(attempt.start)], [y], mark, zorder=6, **_mark(picture))


def _at(instant: datetime) -> float:
    """Days since the epoch, as matplotlib counts them."""
    return (instant - _EPOCH) / timedelta(days=1)


def _row(picture: Picture, runner_id: str) -> int:
    """The height of a lane: the first is on top."""
    return len(picture.lanes) - 1 - picture.lanes.index(runner_id)


def _mark(picture: Picture) -> dict[str, Any]:
    size = 6 if len(picture.lanes) <= _FEW_LANES else 4
    return {"color": INK, "markersize": size, "markeredgecolor": "white", "markeredgewidth": 0.5}


def _frame(axes: Axes, picture: Picture) -> None:
    lanes = len(picture.lanes)
    axes.set_title(label_of(picture.title, 90), loc="left", color=INK, parse_math=False)
    axes.set_xlim(_at(picture.start), _at(picture.end))
    axes.set_ylim(-0.6, lanes - 0.3 + (0.75 if picture.gaps else 0))
    axes.set_yticks(
        range(lanes),
        [label_of(name) for name in reversed(picture.lanes)],
        fontsize=9 if lanes <= _FEW_LANES else 6.5,
    )
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    (_relative_axis if picture.planned else _dated_axis)(axes, picture)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    for due in picture.dues:  # those that nobody served, too
        axes.axvline(_at(due), color=INK, linewidth=0.9, zorder=1)
    for y in range(lanes):
        axes.axhline(y, color=FAINT, linewidth=0.3, linestyle="dotted", zorder=0.5)


def _dated_axis(axes: Axes, picture: Picture) -> None:
    """Ticks in UTC, and a label that says of which day they are."""
    # matplotlib's dates have no types.
    locator = dates.AutoDateLocator(tz=UTC, minticks=5, maxticks=12)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: _tick(at, picture)))
    last = picture.end - timedelta(microseconds=1)
    day = f"{picture.start:%Y-%m-%d}"
    if last.date() != picture.start.date():
        day += f" to {last:%Y-%m-%d}"
    axes.set_xlabel(f"UTC, {day}", color=INK, loc="left", fontsize=8)


def _tick(at: float, picture: Picture) -> str:
    """An instant as its tick says it: a day, or a time of a day, and which day at midnight."""
    shown = _EPOCH + timedelta(seconds=round(at * 86_400, 3))
    length = picture.end - picture.start
    if length > _DAYS_FROM or (picture.crosses_midnight and f"{shown:%H%M%S}" == "000000"):
        return f"{shown:%b} {shown.day}"
    return f"{shown:%H:%M:%S}" if length < _SECONDS_UP_TO else f"{shown:%H:%M}"


_DAYS_FROM = timedelta(days=4)
_SECONDS_UP_TO = timedelta(minutes=4)
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)
_MOST_TICKS = 12


def _relative_axis(axes: Axes, picture: Picture) -> None:
    """Ticks that count from the start."""
    length = (picture.end - picture.start) / timedelta(seconds=1)
    step: float = next((each for each in _STEPS if length / each <= _MOST_TICKS), length / 10)
    if length < _STEPS[0]:
        step = length / 10
    ticks = [number * step for number in range(int(length / step) + 1)]
    axes.xaxis.set_major_locator(
        FixedLocator([_at(picture.start + timedelta(seconds=tick)) for tick in ticks])
    )
    said = [duration(timedelta(seconds=tick)) for tick in ticks]
    axes.xaxis.set_major_formatter(FuncFormatter(lambda _, place: said[place or 0]))
    axes.set_xlabel("time from the start of a cycle", color=INK, loc="left", fontsize=8)


def _draw_slots(axes: Axes, picture: Picture) -> None:
    if not _shows_slots(picture):
        return
    for start, end in picture.guards:
        axes.axvspan(_at(start), _at(end), color=_GUARD, linewidth=0, zorder=0)
    few = len(picture.slots) <= _FEW and len(picture.lanes) <= _FEW_LANES and picture.planned
    for slot in picture.slots:
        row = _row(picture, slot.runner_id)
        parts = (
            (slot.start, slot.latest, _MAY_START, ""),
            (slot.latest, slot.end, _TOO_LATE, ""),
            (slot.end, slot.guard_end, "white", "/////"),
        )
        for start, end, colour, hatch in parts:
            look: dict[str, Any] = {"facecolor": colour, "hatch": hatch, "edgecolor": FAINT}
            left, width = _at(start), _at(end) - _at(start)
            axes.barh(row, width, _SLOT_HEIGHT, left, zorder=1.5, linewidth=0.4, **look)
        if few and slot.role != "slot":
            where = (_at(slot.start + (slot.end - slot.start) / 60), row)
            axes.text(*where, slot.role, va="center", fontsize=8, color=INK, zorder=4)


def _shows_slots(picture: Picture) -> bool:
    """Whether there are slots, and they are wide enough to be told from lines."""
    longest = max((slot.guard_end - slot.start for slot in picture.slots), default=timedelta(0))
    return longest * _BINS > picture.end - picture.start


def _draw_run(axes: Axes, picture: Picture, run: ShownRun) -> None:
    row = _row(picture, run.runner_id)
    start, end = _at(run.start), _at(run.end or picture.end)
    colour, hatch = _STYLE[run.status]
    look: dict[str, Any] = {"facecolor": colour, "hatch": hatch, "edgecolor": INK}
    least = (_at(picture.end) - _at(picture.start)) / _NARROWEST
    axes.barh(row, max(end - start, least), _RUN_HEIGHT, start, zorder=3, linewidth=0.7, **look)
    if run.as_standby:
        axes.plot([start], [row + 0.28], _TAKEOVER, zorder=5, clip_on=True, **_mark(picture))


# Many runs ----------------------------------------------------------------------------------------


def is_crowded(picture: Picture) -> bool:
    """Whether a lane has so many runs that each would be a sliver: then their density is drawn."""
    counts: dict[str, int] = defaultdict(int)
    for run in picture.runs:
        counts[run.runner_id] += 1
    return max(counts.values(), default=0) > _BINS / _CROWDED / 2


def busy_shares(picture: Picture, runner_id: str) -> list[float]:
    """How much of each part of the time a runner was at work, from 0 to 1."""
    length = (picture.end - picture.start) / _BINS
    shares = [0.0] * _BINS
    for run in picture.runs:
        if run.runner_id != runner_id:
            continue
        first = max(0.0, (run.start - picture.start) / length)
        last = min(float(_BINS), ((run.end or picture.end) - picture.start) / length)
        for number in range(int(first), min(_BINS, ceil(last))):
            shares[number] += max(0.0, min(last, number + 1) - max(first, number))
    return [min(1.0, share) for share in shares]


def _draw_density(axes: Axes, picture: Picture) -> None:
    """How busy each lane was, and on top of that what failed."""
    width = (_at(picture.end) - _at(picture.start)) / _BINS
    for runner_id in picture.lanes:
        row = _row(picture, runner_id)
        for number, share in enumerate(busy_shares(picture, runner_id)):
            if share > 0:
                shade = _SHADES[min(len(_SHADES) - 1, int(share * len(_SHADES)))]
                left = _at(picture.start) + number * width
                axes.barh(row, width, _RUN_HEIGHT, left, zorder=2, linewidth=0, color=shade)
    failed = [run for run in picture.runs if run.status is Status.ABANDONED]
    for run in _apart(failed, picture):
        row = _row(picture, run.runner_id)
        colour, hatch = _STYLE[Status.ABANDONED]
        look: dict[str, Any] = {"facecolor": colour, "hatch": hatch, "edgecolor": INK}
        left = max(_at(run.start), _at(picture.start))
        axes.barh(row, width, _SLOT_HEIGHT, left, zorder=3, linewidth=0.5, **look)


def _apart(runs: Iterable[ShownRun], picture: Picture) -> list[ShownRun]:
    """One of those that would lie on each other: of each lane, kind and part of the time."""
    length = (picture.end - picture.start) / _BINS
    found = {(run.runner_id, run.kind, (run.start - picture.start) // length): run for run in runs}
    return list(found.values())


# Gaps, and the legend -----------------------------------------------------------------------------


def _draw_gap(axes: Axes, picture: Picture, gap: Gap) -> None:
    y = len(picture.lanes) - 0.35
    start, end = _at(max(gap.start, picture.start)), _at(min(gap.end, picture.end))
    arrow = {"arrowstyle": "<->", "color": INK, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (start, y), (end, y), arrowprops=arrow)
    said = f"no start for {duration(gap.end - gap.start)}"
    room = (end - start) / (_at(picture.end) - _at(picture.start))
    if room > len(said) * _LETTER:
        middle = (start + end) / 2
        # Above the arrow, on a ground of its own, so that no line runs through it.
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        place: dict[str, Any] = {
            "ha": "center",
            "va": "bottom",
            "fontsize": 8,
            "color": INK,
            "bbox": box,
        }
        axes.text(middle, y + 0.14, said, **place)


_LETTER = 0.0075
"""The width of a letter of a gap's label, as a part of the picture's."""


def marker_of(kind: str) -> str:
    """The mark of a reason: the same in every picture, whatever else is in it."""
    if kind in _MARKER_OF:
        return _MARKER_OF[kind]
    return _OTHER_MARKERS[sha256(kind.encode()).digest()[0] % len(_OTHER_MARKERS)]


def _legend(figure: Figure, entries: list[Artist]) -> None:
    if not entries:
        return
    legend = figure.legend(
        handles=entries,
        loc="outside lower center",
        ncols=min(len(entries), 4),
        frameon=False,
        fontsize=8,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _entries(picture: Picture, *, crowded: bool) -> list[Artist]:
    """What the legend explains: what is in the picture, and nothing else."""
    entries: list[Artist] = []
    if _shows_slots(picture) and not crowded:
        entries += [
            Patch(facecolor=_MAY_START, edgecolor=FAINT, label="slot: may start"),
            Patch(facecolor=_TOO_LATE, edgecolor=FAINT, label="too late to start"),
            Patch(facecolor="white", edgecolor=FAINT, hatch="/////", label="guard time"),
        ]
    entries += _legend_of_runs(picture.runs, crowded=crowded)
    if any(run.as_standby for run in picture.runs) and not crowded:
        entries.append(_marker(_TAKEOVER, "a standby's turn"))
    kinds = sorted({attempt.kind for attempt in picture.attempts})
    entries += [_marker(marker_of(kind), f"blocked: {label_of(kind, 40)}") for kind in kinds]
    if picture.pauses:
        entries.append(Patch(facecolor=_PAUSED, edgecolor=FAINT, label="paused"))
    return entries


def _legend_of_runs(runs: Sequence[ShownRun], *, crowded: bool) -> list[Artist]:
    if not crowded:
        return [
            Patch(facecolor=colour, edgecolor=INK, hatch=hatch, label=STATUS_IN_WORDS[status])
            for status, (colour, hatch) in _STYLE.items()
            if any(run.status is status for run in runs)
        ]
    entries: list[Artist] = [
        Patch(facecolor=_SHADES[0], label="at work now and then"),
        Patch(facecolor=_SHADES[-1], label="at work all the time"),
    ]
    if any(run.status is Status.ABANDONED for run in runs):
        colour, hatch = _STYLE[Status.ABANDONED]
        said = STATUS_IN_WORDS[Status.ABANDONED]
        entries.append(Patch(facecolor=colour, edgecolor=INK, hatch=hatch, label=said))
    return entries


def _marker(marker: str, label: str) -> Line2D:
    return Line2D([], [], linestyle="", marker=marker, color=INK, label=label)


def label_of(name: str, longest: int = _LONGEST_LABEL) -> str:
    """A name that can be drawn: not too long, and nothing that the font lacks."""
    font = ft2font.FT2Font(font_manager.findfont("DejaVu Sans"))
    drawn = "".join(
        letter
        if letter.isprintable() and font.get_char_index(ord(letter))
        else letter.encode("unicode-escape").decode()
        for letter in name
    )
    half = (longest - 1) // 2
    return drawn if len(drawn) <= longest else f"{drawn[:half]}…{drawn[-half:]}"
