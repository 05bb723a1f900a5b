"""A picture drawn with matplotlib.

To be read in colour and in grey: what differs in colour differs in darkness, hatching or shape,
too. It never touches pyplot, so that it can be drawn in any thread of any program.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import matplotlib as mpl
from matplotlib import dates, font_manager, ft2font
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.backends import ExecutionRecord
from turnwise.chart.picture import Gap, Picture
from turnwise.chart.text import duration
from turnwise.membership import cycle_at

INK, FAINT = "#222222", "#888888"
_MAY_START, _TOO_LATE, _GUARD = "#bcd9ee", "#e3eff8", "#eeeeee"
_STYLE = {
    Status.COMPLETED: ("#08519c", ""),
    Status.ABANDONED: ("#fdae61", "xxxx"),
    Status.RUNNING: ("#ffffff", "...."),
}
_MARKERS = ("X", "v", "D", "s", "P", "*", "o")
_TAKEOVER = "^"
_SLOT_HEIGHT, _RUN_HEIGHT = 0.72, 0.36
_FEW_LANES, _FEW = 12, 10
_LONGEST_LABEL = 30
_MOST_CYCLES = 40
"""Lines at the starts of more cycles would fill the picture."""

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
        for start, end in picture.guards:
            axes.axvspan(_at(start), _at(end), color=_GUARD, linewidth=0, zorder=0)
        _draw_slots(axes, picture)
        for run in picture.runs:
            _draw_run(axes, picture, run)
        markers = _markers(picture.attempts)
        for attempt in picture.attempts:
            y = _row(picture, attempt.runner_id) - 0.26
            marker = markers[_kind(attempt)]
            axes.plot([_at(attempt.start_time)], [y], marker, **_mark(picture))
        for gap in picture.gaps:
            _draw_gap(axes, picture, gap)
        _legend(figure, picture, markers)
    return figure


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
    axes.set_ylim(-0.6, lanes - 0.3 + (0.5 if picture.gaps else 0))
    axes.set_yticks(
        range(lanes),
        [label_of(name) for name in reversed(picture.lanes)],
        fontsize=9 if lanes <= _FEW_LANES else 6.5,
    )
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    # matplotlib's dates have no types.
    locator = dates.AutoDateLocator(tz=UTC, minticks=5, maxticks=12)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    dated = not picture.planned
    labels = dates.ConciseDateFormatter(locator, tz=UTC, show_offset=dated)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(labels)
    said = "UTC" if dated else "hours and minutes from the start of a cycle"
    axes.set_xlabel(said, color=INK, loc="left", fontsize=8)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    interval = picture.settings.interval
    if (picture.end - picture.start) / interval <= _MOST_CYCLES:
        start = cycle_at(picture.start, interval).start
        while start <= picture.end:  # those in which nobody ran, too
            axes.axvline(_at(start), color=INK, linewidth=0.9, zorder=1)
            start += interval
    for y in range(lanes):
        axes.axhline(y, color=FAINT, linewidth=0.3, linestyle="dotted", zorder=0.5)


def _draw_slots(axes: Axes, picture: Picture) -> None:
    fraction = picture.settings.max_start_slot_fraction
    few = len(picture.slots) <= _FEW and len(picture.lanes) <= _FEW_LANES and picture.planned
    for slot in picture.slots:
        row, latest = _row(picture, slot.runner_id), slot.latest_start(fraction)
        parts = (
            (slot.start, latest, _MAY_START, ""),
            (latest, slot.end, _TOO_LATE, ""),
            (slot.end, slot.guard_end, "white", "/////"),
        )
        for start, end, colour, hatch in parts:
            look: dict[str, Any] = {"facecolor": colour, "hatch": hatch, "edgecolor": FAINT}
            axes.barh(
                row,
                _at(end) - _at(start),
                _SLOT_HEIGHT,
                _at(start),
                zorder=1.5,
                linewidth=0.4,
                **look,
            )
        if few and picture.settings.runs_per_cycle == "once":
            where = (_at(slot.start + (slot.end - slot.start) / 60), row)
            axes.text(*where, str(slot.role), va="center", fontsize=8, color=INK, zorder=4)


def _draw_run(axes: Axes, picture: Picture, run: ExecutionRecord) -> None:
    row = _row(picture, run.runner_id)
    start, end = _at(run.start_time), _at(run.end_time or picture.end)
    colour, hatch = _STYLE[run.status]
    look: dict[str, Any] = {"facecolor": colour, "hatch": hatch, "edgecolor": INK}
    axes.barh(row, end - start, _RUN_HEIGHT, start, zorder=3, linewidth=0.7, **look)
    if picture.takes_over(run):
        axes.plot([start], [row + 0.28], _TAKEOVER, zorder=5, clip_on=True, **_mark(picture))


def _draw_gap(axes: Axes, picture: Picture, gap: Gap) -> None:
    y = len(picture.lanes) - 0.25
    start, end = _at(max(gap.start, picture.start)), _at(min(gap.end, picture.end))
    arrow = {"arrowstyle": "<->", "color": INK, "linewidth": 0.9}
    axes.annotate("", (start, y), (end, y), arrowprops=arrow)
    if (gap.end - gap.start) / (picture.end - picture.start) > 0.1:  # noqa: PLR2004 (room for it)
        said = f"no start for {duration(gap.end - gap.start)}"
        middle = (start + end) / 2
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axes.text(middle, y, said, ha="center", va="center", fontsize=8, color=INK, bbox=box)


def _kind(record: ExecutionRecord) -> str:
    """A reason without what follows its colon."""
    return record.reason.partition(":")[0]


def _markers(attempts: Sequence[ExecutionRecord]) -> dict[str, str]:
    kinds = sorted({_kind(attempt) for attempt in attempts})
    return {kind: _MARKERS[number % len(_MARKERS)] for number, kind in enumerate(kinds)}


def _legend(figure: Figure, picture: Picture, markers: dict[str, str]) -> None:
    entries: list[Artist] = []
    if picture.slots:
        entries += [
            Patch(facecolor=_MAY_START, edgecolor=FAINT, label="slot: may start"),
            Patch(facecolor=_TOO_LATE, edgecolor=FAINT, label="too late to start"),
            Patch(facecolor="white", edgecolor=FAINT, hatch="/////", label="guard time"),
        ]
    for status, (colour, hatch) in _STYLE.items():
        if any(run.status is status for run in picture.runs):
            entries.append(Patch(facecolor=colour, edgecolor=INK, hatch=hatch, label=str(status)))
    if any(map(picture.takes_over, picture.runs)):
        entries.append(_marker(_TAKEOVER, "a standby serves"))
    entries += [_marker(marker, f"blocked: {kind}") for kind, marker in markers.items()]
    if entries:
        figure.legend(
            handles=entries,
            loc="outside lower center",
            ncols=min(len(entries), 4),
            frameon=False,
            fontsize=8,
        )


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
