"""One scenario, played once: a stage, who watches it, and what goes wrong.

Nothing is modelled anew: the machines, the heartbeats, the rules and the storage in memory are
those that ship. The rooms below, each of which imports those above it alone:

=============== ===================================================================================
``scenario``    what is simulated, and how all that is random is drawn
``rest``        heartbeats that change nothing, and are left out
``world``       time, the network, jobs, a storage
``process``     one process: the shipped machines and heartbeat, and its link
``stage``       who is in which place
``bounds``      what the review promises, held against what happens
``books``       what the oracles of one service know
``work``        functions at work, and the resource that they write to
``liveness``    a verdict for each period
``judge``       the oracles of one service
``faults``      each kind of incident, done to the stage
``result``      what came of it
=============== ===================================================================================
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from turnwise.cycles import microseconds
from turnwise.simulation.bounds import Bounds
from turnwise.simulation.faults import Faults
from turnwise.simulation.judge import Judge
from turnwise.simulation.local import OwnClockNoGate
from turnwise.simulation.result import Result, result_of
from turnwise.simulation.scenario import Scenario
from turnwise.simulation.stage import SHIPPED, Parts, Stage

Progress = Callable[[float], object]
_PROGRESS_STEPS: Final = 200

# What it lacks of a storage nobody here asks for.
_NO_GATE: Final = Parts(view=OwnClockNoGate)  # type: ignore[arg-type]


class Play:
    """One scenario, played once."""

    def __init__(self, scenario: Scenario, parts: Parts = SHIPPED) -> None:
        self._scenario = scenario
        self._stage = stage = Stage(scenario, parts if scenario.clock == "storage" else _NO_GATE)
        self.bounds = bounds = Bounds(stage)
        number = scenario.services
        names = ["service"] if number == 1 else [f"service-{n + 1}" for n in range(number)]
        self._judges = {name: Judge(stage, bounds, name) for name in names}
        stage.watchers = self._judges
        self._faults = Faults(stage, list(self._judges.values()))

    def play(self, progress: Progress | None = None) -> Result:
        """Play the scenario to its end."""
        stage, judges = self._stage, list(self._judges.values())
        starting = self._scenario.random("start").random
        spread = microseconds(self._scenario.starts_within)
        for place in range(self._scenario.runners):
            stage.at(int(starting() * spread), stage.start_process, place)
        self._faults.plan()
        for judge in judges:
            judge.plan_periods()
        self.bounds.begin()
        if progress is not None:
            self._report((progress, 0))
        with _no_collections():
            stage.go_through()
        for judge in judges:
            judge.end()
        self.bounds.end(judges[0].work.starts)
        return result_of(stage, judges, self.bounds)

    def _report(self, report: tuple[Progress, int]) -> None:
        progress, step = report
        progress(step / _PROGRESS_STEPS)
        if step < _PROGRESS_STEPS:
            # The last is due before the end, at which the loop stops.
            end = self._stage.end
            due = min(end * (step + 1) // _PROGRESS_STEPS, end - 1)
            self._stage.at(due, self._report, (progress, step + 1), changes=False)


@contextmanager
def _no_collections() -> Iterator[None]:
    """Have Python look for no garbage meanwhile.

    A play leaves little that is not freed at once, and keeps much that would be gone through again
    and again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
