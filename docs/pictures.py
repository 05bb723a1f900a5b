"""The pictures of the documentation, drawn from the package's own timetable.

``python docs/pictures.py FOLDER [png]`` draws them without building the documentation. Every
edge of a slot in them comes from :func:`turnwise.timetable.lay_out`. They are to be read in
colour and in grey: what differs in colour differs in darkness or hatching, too.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from turnwise.atomic_service import ActiveRunnerInfo
from turnwise.membership import cycle_at, first_position, schedule
from turnwise.settings import Settings
from turnwise.timetable import Slot, lay_out

SERVICE = "housekeeping"
INK, FAINT = "#222222", "#777777"
MAY_START, TOO_LATE, GUARD, RUNS = "#0067a5", "#a9d1ec", "#ffffff", "#e08214"
ROW_HEIGHT = 0.56
LINE = 0.6


@dataclass(frozen=True)
class Scene:
    """A number of cycles of one service, from the first in which ``names[0]`` is primary."""

    names: Sequence[str]
    settings: Settings
    cycles: int = 1

    @property
    def start(self) -> datetime:
        """Where the first cycle starts."""
        at = datetime(2026, 1, 1, tzinfo=UTC)
        while True:
            cycle = cycle_at(at, self.settings.interval)
            if first_position(SERVICE, cycle.number, len(self.names)) == 0:
                return cycle.start
            at = cycle.end

    def slots(self) -> tuple[Slot, ...]:
        """The slots of all its cycles, in order of time."""
        long_ago = self.start - timedelta(days=1)
        stable = tuple(ActiveRunnerInfo(name, long_ago, self.start, True) for name in self.names)  # noqa: FBT003
        slots: list[Slot] = []
        for number in range(self.cycles):
            cycle = cycle_at(self.start + number * self.settings.interval, self.settings.interval)
            scheduled = schedule(stable, SERVICE, cycle, self.settings)
            ids = [runner.runner_id for runner in scheduled]
            slots.extend(lay_out(ids, cycle.start, self.settings))
        return tuple(slots)

    def seconds(self, instant: datetime) -> float:
        """Seconds from the scene's start."""
        return (instant - self.start).total_seconds()

    def row(self, name: str) -> int:
        """The height at which a runner is drawn: the first on top."""
        return len(self.names) - 1 - self.names.index(name)


def draw_all(folder: Path, suffix: str = "svg") -> None:
    """Draw every picture into a folder."""
    # A fixed salt and no date: the same source gives the same file.
    with mpl.rc_context({"svg.hashsalt": "turnwise", "font.size": 9, "hatch.linewidth": 0.6}):
        for name, figure in (
            ("cycle", cycle_picture()),
            ("every-slot", every_slot_picture()),
            ("takeover", takeover_picture()),
        ):
            metadata = {"Date": None} if suffix == "svg" else None
            figure.savefig(folder / f"{name}.{suffix}", metadata=metadata, dpi=110)


def cycle_picture() -> Figure:
    """Two cycles of four runners with ``"once"``: a primary, two standbys, one that sleeps."""
    scene = Scene(("alice", "bob", "carol", "dave"), Settings(), cycles=2)
    figure, (axes,) = _figure(height=3.1, panels=1)
    _draw_scene(axes, scene)
    _draw_roles(axes, scene)
    _draw_sleepers(axes, scene)
    _legend(figure, runs=False)
    return figure


def every_slot_picture() -> Figure:
    """Two cycles of three runners with ``"every_slot"``: each runs in its own slot."""
    scene = Scene(("alice", "bob", "carol"), Settings(runs_per_cycle="every_slot"), cycles=2)
    figure, (axes,) = _figure(height=2.4, panels=1)
    _draw_scene(axes, scene)
    _legend(figure, runs=False)
    return figure


def takeover_picture() -> Figure:
    """Two ways to die: before the slot, and in the middle of the turn."""
    scene = Scene(("alice", "bob", "carol"), Settings())
    figure, (idle, busy) = _figure(height=5.2, panels=2)
    alice, bob, _ = scene.slots()
    starts = scene.seconds(bob.start)
    idle.set_title("alice is dead before her slot: bob serves the cycle in his", loc="left")
    _draw_scene(idle, scene)
    idle.set_xlabel("")
    _draw_run(idle, scene, bob, starts, 40)
    idle.text(4, scene.row("alice"), "nobody", color="white", va="center")

    killed = 50.0
    dead = killed + scene.settings.heartbeat_timeout.total_seconds()
    latest = scene.seconds(bob.latest_start(scene.settings.max_start_slot_fraction))
    assert starts < dead < latest  # noqa: S101 (the picture says so)
    busy.set_title(
        "alice is killed in the middle of her turn: her run holds the gate for the heartbeat "
        "timeout",
        loc="left",
    )
    _draw_scene(busy, scene)
    busy.set_xlabel("minutes and seconds from the start of the cycle")
    _draw_run(busy, scene, alice, scene.seconds(alice.start), killed)
    _draw_run(busy, scene, bob, dead, 40)
    _draw_hold(busy, scene, killed, dead)
    busy.annotate(
        "refused",
        (starts, scene.row("bob")),
        (starts - 8, scene.row("bob") - 0.15),
        ha="right",
        va="center",
        color=INK,
        arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 0.8},
    )
    _legend(figure, runs=True)
    return figure


def _figure(*, height: float, panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(7.6, height), facecolor="white", layout="constrained")
    axes = figure.subplots(panels, 1, squeeze=False)
    return figure, [axes[panel, 0] for panel in range(panels)]


def _draw_scene(axes: Axes, scene: Scene) -> None:
    """Rows of runners, each slot in its three parts, and the edges of cycles and slots."""
    slots, at = scene.slots(), scene.seconds
    for slot in slots:
        latest = slot.latest_start(scene.settings.max_start_slot_fraction)
        parts = (
            (slot.start, latest, MAY_START, ""),
            (latest, slot.end, TOO_LATE, ""),
            (slot.end, slot.guard_end, GUARD, "//////"),
        )
        for start, end, colour, hatch in parts:
            row = scene.row(slot.runner_id)
            _bar(axes, row, at(start), at(end) - at(start), ROW_HEIGHT, colour, hatch)
    length = scene.settings.interval.total_seconds()
    for number in range(scene.cycles + 1):
        axes.axvline(number * length, color=INK, linewidth=1.4)
    edges = sorted({at(slot.start) for slot in slots} | {at(slots[-1].guard_end)})
    axes.set_xticks(edges, [f"{int(edge) // 60}:{int(edge) % 60:02}" for edge in edges])
    axes.set_yticks([scene.row(name) for name in scene.names], scene.names)
    axes.set_xlim(-1, scene.cycles * length + 1)
    axes.set_ylim(-0.55, len(scene.names) - 0.3)
    axes.tick_params(length=0, labelcolor=INK)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("minutes and seconds from the start of the first cycle", color=INK)


def _draw_roles(axes: Axes, scene: Scene) -> None:
    for slot in scene.slots():
        axes.text(
            scene.seconds(slot.start) + 3,
            scene.row(slot.runner_id) + ROW_HEIGHT / 2 + 0.04,
            str(slot.role),
            va="bottom",
            color=INK,
            fontsize=8,
            fontweight="bold" if slot.role == "primary" else "normal",
        )


def _draw_sleepers(axes: Axes, scene: Scene) -> None:
    """A dotted line where a runner has no slot in a whole cycle."""
    length = scene.settings.interval.total_seconds()
    slots = scene.slots()
    for number in range(scene.cycles):
        start = number * length
        end = start + length
        here = {slot.runner_id for slot in slots if start <= scene.seconds(slot.start) < end}
        for name in set(scene.names) - here:
            row = scene.row(name)
            axes.hlines(row, start + 4, end - 4, FAINT, "dotted")
            axes.text(
                start + length / 2,
                row,
                "sleeps",
                ha="center",
                va="center",
                color=INK,
                fontsize=8,
                backgroundcolor="white",
            )


def _draw_run(axes: Axes, scene: Scene, slot: Slot, start: float, seconds: float) -> None:
    _bar(axes, scene.row(slot.runner_id), start, seconds, ROW_HEIGHT / 2, RUNS)


def _bar(
    axes: Axes,
    row: int,
    start: float,
    seconds: float,
    height: float,
    colour: str,
    hatch: str = "",
) -> None:
    axes.barh(row, seconds, height, start, color=colour, hatch=hatch, edgecolor=INK, linewidth=LINE)


def _draw_hold(axes: Axes, scene: Scene, killed: float, dead: float) -> None:
    """The death of the first runner, and for how long its run stays in the way."""
    row = scene.row(scene.names[0])
    axes.plot([killed], [row], "X", color=INK, markersize=9, markeredgecolor="white")
    axes.annotate(
        "",
        (killed + 2, row + 0.42),
        (dead, row + 0.42),
        arrowprops={"arrowstyle": "<->", "color": INK, "linewidth": 0.9},
    )
    timeout = scene.settings.heartbeat_timeout.total_seconds()
    axes.text(dead + 3, row + 0.42, f"heartbeat timeout, {timeout:g} s", va="center", color=INK)
    axes.axvline(dead, 0, 0.86, color=INK, linewidth=0.9, linestyle="dashed")


def _legend(figure: Figure, *, runs: bool) -> None:
    entries = [
        _entry(MAY_START, "a turn may start"),
        _entry(TOO_LATE, "too late to start"),
        _entry(GUARD, "guard time", "//////"),
    ]
    if runs:
        entries.append(_entry(RUNS, "a run"))
    figure.legend(handles=entries, loc="outside lower center", ncols=len(entries), frameon=False)


def _entry(colour: str, label: str, hatch: str = "") -> Patch:
    return Patch(facecolor=colour, label=label, hatch=hatch, edgecolor=INK, linewidth=LINE)


if __name__ == "__main__":
    draw_all(Path(sys.argv[1]), *sys.argv[2:3])
