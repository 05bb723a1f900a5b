"""The pictures of the documentation, drawn by turnwise.chart from the package's own code.

``python docs/pictures.py FOLDER [png]`` draws them without building the documentation. What is
planned comes from the rules of plans; what goes wrong was played by the simulation.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from turnwise.chart import Picture, picture_of_history, picture_of_plan, save
from turnwise.cycles import Cycle, instant, microseconds
from turnwise.gate import Execution
from turnwise.plan import CyclePlan, Planner
from turnwise.settings import Settings
from turnwise.simulation import FaultKind, Fixed, Incident, Result, Scenario, simulate
from turnwise.texts import row_from_text

SERVICE = "housekeeping"
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
CALM = Scenario(runners=3, job=Fixed(40 * SECOND), duration=40 * MINUTE, seed=1)
STRUCK = 4
"""The period in which something goes wrong, of those that are simulated."""


def draw_all(folder: Path, suffix: str = "svg") -> None:
    """Draw every picture into a folder."""
    for name, picture in (
        ("cycle", cycle()),
        ("every-slot", every_slot()),
        ("takeover", takeover()),
        ("overrun", overrun()),
    ):
        save(picture, folder / f"{name}.{suffix}")


def cycle() -> Picture:
    """Two cycles of four runners with ``"once"``: a primary, two standbys, one that sleeps."""
    return planned(("alice", "bob", "carol", "dave"), Settings())


def every_slot() -> Picture:
    """Two cycles of three runners with ``"every_slot"``: each runs in its own slot."""
    return planned(("alice", "bob", "carol"), Settings(runs="every_slot"))


def takeover() -> Picture:
    """A primary is killed 40 seconds into its turn of 80 seconds."""
    scenario = replace(CALM, job=Fixed(80 * SECOND))
    struck = incident(scenario, FaultKind.CRASH, after=40 * SECOND, lasts=10 * MINUTE)
    return played(struck, "a primary is killed in its turn")


def overrun() -> Picture:
    """A turn takes longer than its slot."""
    struck = incident(CALM, FaultKind.OVERRUN, after=-MINUTE, lasts=150 * SECOND)
    return played(struck, "a turn that takes 2m30s")


def planned(names: Sequence[str], settings: Settings) -> Picture:
    """Two cycles, in the first of which ``names[0]`` has the first slot."""
    planner = Planner.of(SERVICE, settings)
    first = planner.cycle_at(microseconds(FIRST))
    cycles = [first, planner.cycle_at(first.end)]
    made = [_planned(each, number, names, planner) for number, each in enumerate(cycles)]
    return picture_of_plan(made, names, title="two cycles")


def _planned(cycle: Cycle, number: int, names: Sequence[str], planner: Planner) -> CyclePlan:
    """The plan of a cycle: the set, rotated by how many periods were planned before."""
    rules = planner.rules
    turned = 0 if rules.every_slot else number % len(names)
    rotated = [*names[turned:], *names[:turned]]
    count = len(names) if rules.every_slot else min(len(names), rules.standbys + 1)
    return CyclePlan(
        start=cycle.start,
        end=cycle.end,
        number=cycle.number,
        due=cycle.due,
        until=cycle.until,
        rules=rules,
        runners=tuple((name, 0) for name in rotated[:count]),
        size=len(names),
        digest=0,
        periods=number,
        settings=planner.settings,
    )


def incident(calm: Scenario, kind: FaultKind, *, after: timedelta, lasts: timedelta) -> Result:
    """A scenario in which one thing goes wrong, so long after the first turn of a period."""
    runs = executions(simulate(calm))
    dues = sorted({run.due for run in runs})
    turn = next(run for run in runs if run.due == dues[STRUCK])
    places = {name: place for place, name in enumerate(sorted({run.runner_id for run in runs}))}
    one_runner = kind is FaultKind.CRASH
    at = instant(turn.started_at) + after - calm.start
    what = Incident(at, kind, places[turn.runner_id] if one_runner else None, lasts)
    return simulate(replace(calm, incidents=(what,)))


def executions(result: Result) -> list[Execution]:
    """The runs that a simulation kept, in the order of their start."""
    rows = (row_from_text(entry.body) for entry in result.history)
    return [row for row in rows if isinstance(row, Execution)]


def played(result: Result, title: str) -> Picture:
    """The period in which something goes wrong, and the one after it."""
    runs = executions(result)
    settings = result.scenario.settings
    start = instant(sorted({run.due for run in runs})[STRUCK])
    end = start + 2 * settings.shortest_cycle
    names = {run.runner_id for run in runs}
    return picture_of_history(runs, settings, start, end, title=title, runner_ids=sorted(names))


if __name__ == "__main__":
    draw_all(Path(sys.argv[1]), *sys.argv[2:3])
