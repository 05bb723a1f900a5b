"""The pictures of the documentation, drawn by turnwise.chart from the package's own code.

``python docs/pictures.py FOLDER [png]`` draws them without building the documentation. What is
planned comes from the timetable; what goes wrong was played by the simulation.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from turnwise.atomic_service import ActiveRunnerInfo
from turnwise.chart import Picture, picture_of_history, picture_of_plan, save
from turnwise.membership import cycle_at, first_position, schedule
from turnwise.old_settings import Settings
from turnwise.simulation import FaultKind, Fixed, Incident, Result, Scenario, simulate
from turnwise.simulation.virtual_time import START
from turnwise.timetable import Slot, lay_out

SERVICE = "housekeeping"
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
CALM = Scenario(runners=3, job=Fixed(40 * SECOND), duration=40 * MINUTE, seed=1)
STRUCK = 4
"""The cycle in which something goes wrong, of those that are simulated."""


def draw_all(folder: Path, suffix: str = "svg") -> None:
    """Draw every picture into a folder."""
    for name, picture in (
        ("cycle", cycle()),
        ("every-slot", every_slot()),
        ("takeover", takeover()),
        ("join", join()),
        ("overrun", overrun()),
    ):
        save(picture, folder / f"{name}.{suffix}")


def cycle() -> Picture:
    """Two cycles of four runners with ``"once"``: a primary, two standbys, one that sleeps."""
    return planned(("alice", "bob", "carol", "dave"), Settings())


def every_slot() -> Picture:
    """Two cycles of three runners with ``"every_slot"``: each runs in its own slot."""
    return planned(("alice", "bob", "carol"), Settings(runs_per_cycle="every_slot"))


def takeover() -> Picture:
    """A primary is killed 40 seconds into its turn of 80 seconds."""
    scenario = replace(CALM, job=Fixed(80 * SECOND))
    struck = incident(scenario, FaultKind.CRASH, after=40 * SECOND, lasts=10 * MINUTE)
    return played(struck, "a primary is killed in its turn")


def join() -> Picture:
    """A third runner joins two in the middle of a cycle."""
    settings = Settings(runs_per_cycle="every_slot")
    scenario = replace(CALM, settings=settings, runners=2)
    struck = incident(scenario, FaultKind.JOIN, after=20 * SECOND, lasts=40 * MINUTE)
    return played(struck, "runner-3 joins in the first cycle")


def overrun() -> Picture:
    """A turn takes longer than its slot."""
    struck = incident(CALM, FaultKind.OVERRUN, after=-MINUTE, lasts=150 * SECOND)
    return played(struck, "a turn that takes 2m30s")


def planned(names: Sequence[str], settings: Settings) -> Picture:
    """Two cycles, from the first in which ``names[0]`` is primary."""
    first = cycle_at(datetime(2026, 1, 1, tzinfo=UTC), settings.interval)
    while first_position(SERVICE, first.number, len(names)) != 0:
        first = cycle_at(first.end, settings.interval)
    long_ago = first.start - timedelta(days=1)
    stable = tuple(ActiveRunnerInfo(name, long_ago, first.start, True) for name in names)  # noqa: FBT003
    slots: list[Slot] = []
    for one in (first, cycle_at(first.end, settings.interval)):
        scheduled = schedule(stable, SERVICE, one, settings)
        slots.extend(lay_out([runner.runner_id for runner in scheduled], one.start, settings))
    return picture_of_plan(slots, names, settings, title="two cycles")


def incident(calm: Scenario, kind: FaultKind, *, after: timedelta, lasts: timedelta) -> Result:
    """A scenario in which one thing goes wrong, so long after the first turn of a cycle."""
    history = simulate(calm).history
    begin = history[0].cycle_start
    struck = begin + STRUCK * calm.settings.interval
    turn = next(run for run in history if run.cycle_start == struck)
    place = int(turn.runner_id.removeprefix("runner-")) - 1
    one_runner = kind is FaultKind.CRASH
    at = turn.start_time + after - START
    what = Incident(at, kind, place if one_runner else None, lasts)
    return simulate(replace(calm, incidents=(what,)))


def played(result: Result, title: str) -> Picture:
    """The cycle in which something goes wrong, and the one after it."""
    settings = result.scenario.settings
    start = result.history[0].cycle_start + STRUCK * settings.interval
    end = start + 2 * settings.interval
    ids = [f"runner-{place + 1}" for place in range(result.scenario.runners)]
    return picture_of_history(result.history, settings, start, end, title=title, runner_ids=ids)


if __name__ == "__main__":
    draw_all(Path(sys.argv[1]), *sys.argv[2:3])
