"""Where a scenario is played: processes, a storage, faults, oracles, and what they find."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from threading import get_ident

from turnwise.backends import Backend
from turnwise.backends.memory import MemoryBackend
from turnwise.simulation.bounds import LONGEST_START, Bounds
from turnwise.simulation.faults import Faults
from turnwise.simulation.link import Link, Network
from turnwise.simulation.local import NoGate
from turnwise.simulation.oracles import (
    CycleOracle,
    require_that_it_came_back,
    require_that_nothing_stays_running,
)
from turnwise.simulation.processes import SERVICE, RunnerProcess, SimulatedRunner
from turnwise.simulation.result import Result, Spread
from turnwise.simulation.scenario import Scenario
from turnwise.simulation.violations import Violations
from turnwise.simulation.virtual_time import START, Killed, VirtualTime, microseconds
from turnwise.simulation.watch import WatchedStorage
from turnwise.simulation.work import Resource, Work

Progress = Callable[[float], object]
_PROGRESS_STEPS = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_log = logging.getLogger("turnwise")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a laboratory is built of. A test that plants a bug replaces one."""

    backend: Callable[[Callable[[], datetime]], Backend] = MemoryBackend
    runner: type[SimulatedRunner] = SimulatedRunner
    resource: Callable[[], Resource] = Resource
    link: type[Link] = Link
    runner_id: Callable[[int, int], str] = lambda place, generation: (
        f"runner-{place + 1}" + (f".{generation}" if generation else "")
    )


SHIPPED = Parts()
"""What is shipped."""


class Laboratory:
    """One scenario, played once."""

    def __init__(self, scenario: Scenario, parts: Parts = SHIPPED) -> None:
        self.scenario = scenario
        self.time = VirtualTime()
        self.violations = Violations(self.time.clock)
        gated = scenario.clock == "storage"
        self.storage = WatchedStorage(self.time, scenario, self.violations)
        make = parts.backend if gated else NoGate
        self.storage.backend = make(self.storage.clock)
        self.network = Network(scenario.latency, scenario.random("network"))
        self.work = Work(
            self.time,
            scenario.job,
            scenario.random("job"),
            self.violations,
            parts.resource(),
            gated=gated,
        )
        self.oracle = CycleOracle(self.time, scenario, self.storage, self.violations)
        self.bounds = Bounds(self.time, scenario, self.violations)
        if self.bounds.slots_alone:
            self.work.on_end = self.bounds.turn_ended
            self.work.on_overlap = self.bounds.overlapped
        self.processes: list[RunnerProcess | None] = [None] * scenario.runners
        self.incidents: Counter[str] = Counter()
        self._started: list[RunnerProcess] = []
        self._parts = parts
        self._generations = [0] * scenario.runners
        self._skews = scenario.random("skew")

    def play(self, progress: Progress | None = None) -> Result:
        """Play the scenario to its end."""
        end = microseconds(self.scenario.duration)
        starting = self.scenario.random("start").random
        spread = microseconds(min(self.scenario.settings.interval, LONGEST_START))
        for place in range(self.scenario.runners):
            self.time.at(int(starting() * spread), partial(self.start_process, place))
        Faults(self).plan()
        self._plan_cycles()
        self._plan_progress(progress, end)
        with _log_is_read(self.violations):
            self.time.run(end)
            result = self._result(end)
            for process in self._started:
                process.kill()
        return result

    def start_process(self, place: int, *, same_id: bool = False) -> RunnerProcess:
        """Start a process in a place, under a new runner id or that of its predecessor."""
        while place >= len(self.processes):
            self.processes.append(None)
            self._generations.append(0)
        if self.processes[place] is not None and not same_id:
            self._generations[place] += 1
        runner_id = self._parts.runner_id(place, self._generations[place])
        most = microseconds(self.scenario.clock_skew)
        # Between two clocks there is the whole skew; the first two places have it.
        skew = (0, most)[place] if place < 2 else int(self._skews.random() * most)  # noqa: PLR2004
        process = RunnerProcess(self.time, runner_id, place, skew)
        link = self._parts.link(self.time, self.network, process, self.storage)
        runner = self._parts.runner(
            process,
            link,
            lambda turn: self.work.serve(process, turn),
            self.scenario.settings,
        )
        self.processes[place] = process
        self._started = [other for other in self._started if other.alive]
        self._started.append(process)
        process.start(runner)
        return process

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        self.work.heal()
        for process in self._started:
            process.loses_next_acknowledgement = False

    def replace_in(self, place: int, *, same_id: bool = False) -> None:
        """Start a process in a place, unless somebody else has filled it meanwhile."""
        process = self.processes[place]
        if process is None or process.stopping or not process.alive:
            self.start_process(place, same_id=same_id)

    def spare_place(self) -> int:
        """A place beyond those of the scenario that nobody has."""
        for place in range(self.scenario.runners, len(self.processes)):
            process = self.processes[place]
            if process is None or not process.alive:
                return place
        return len(self.processes)

    def _plan_cycles(self) -> None:
        interval = microseconds(self.scenario.settings.interval)
        first = self.storage.cycle_number(0)

        def end_of_cycle(number: int, start: int) -> None:
            self.oracle.cycle_ended(number, start, self._started)
            seen = self.storage.cycles.get(number)
            self.bounds.cycle_ended(start, seen, self._started, self._rounds)
            self.time.at(start + 2 * interval, lambda: end_of_cycle(number + 1, start + interval))

        start = -(microseconds(START - _EPOCH) % interval)
        self.time.at(start + interval, lambda: end_of_cycle(first, start))

    @property
    def _rounds(self) -> int:
        return self.network.asked["look"] + self.network.asked["heartbeat"]

    def _plan_progress(self, progress: Progress | None, end: int) -> None:
        if progress is None:
            return

        def report(step: int) -> None:
            progress(step / _PROGRESS_STEPS)
            if step < _PROGRESS_STEPS:
                # The last is due before the end, at which the loop stops.
                due = end * (step + 1) // _PROGRESS_STEPS
                self.time.at(min(due, end - 1), lambda: report(step + 1))

        report(0)

    def _result(self, end: int) -> Result:
        healed_at = microseconds(self.scenario.heals_at)
        if self.scenario.quiet and self.scenario.clock == "storage" and not self.work.still_busy:
            require_that_it_came_back(
                self.scenario,
                healed_at,
                self.work.busy_after_healing,
                self.work.starts,
                self.violations,
            )
            require_that_nothing_stays_running(
                self.storage, self.work, self.scenario, end, self.violations
            )
        self.bounds.end(self.work)
        starts = self.work.starts
        spread = Spread.of(later - earlier for earlier, later in pairwise(starts))
        return Result(
            scenario=self.scenario,
            turns=len(starts),
            cycles=self.oracle.served + self.oracle.missed,
            cycles_served=self.oracle.served,
            cycles_missed=self.oracle.missed,
            overlaps=self.work.overlaps,
            refused_writes=self.work.refused_writes,
            longest_gap=spread.most,
            gaps=spread,
            failovers=Spread.of(self.work.failovers),
            turns_of_runner={
                f"runner-{place + 1}": self.work.turns_of_place.get(place, 0)
                for place in range(len(self.processes))
            },
            operations=dict(sorted(self.network.asked.items())),
            executions=dict(sorted(self.storage.executions.items())),
            incidents=dict(sorted(self.incidents.items())),
            rounds=self._rounds,
            bounds=dict(sorted(self.bounds.shares.items())),
            disagreements=len(self.storage.disagreements),
            violation_count=self.violations.count,
            violations=tuple(self.violations.kept),
            history=self.storage.backend.executions(SERVICE),
        )


@contextmanager
def _log_is_read(violations: Violations) -> Iterator[None]:
    """The runners' log goes nowhere, but a bug that it tells of is a violation."""
    thread = get_ident()

    def read(record: logging.LogRecord) -> bool:
        if get_ident() != thread:
            return True
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, Killed):
            violations.add(f"an exception in a runner's loop: {error!r}")
        return False

    _log.addFilter(read)
    try:
        yield
    finally:
        _log.removeFilter(read)
