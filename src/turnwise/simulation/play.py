"""Where a scenario is played: a heap of what comes next, processes, a storage, and faults.

Nothing is modelled anew: the machines, the heartbeats, the rules and the storage in memory are
those that ship. The play is a clock, a heap, and what goes wrong. Time is microseconds from the
start; the storage's clock and each process's monotonic clock are that, moved.
"""

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from turnwise.controls import Controls
from turnwise.cycles import instant, microseconds
from turnwise.simulation.bounds import Bounds
from turnwise.simulation.faults import Faults
from turnwise.simulation.judge import Judge
from turnwise.simulation.local import OwnClockNoGate
from turnwise.simulation.process import GROUP, Part, Process, View
from turnwise.simulation.result import Result, result_of
from turnwise.simulation.scenario import NOTHING, Scenario, drawer
from turnwise.simulation.trouble import Trouble
from turnwise.simulation.violations import Violations
from turnwise.storages import Storage
from turnwise.storages.memory import MemoryStorage

Progress = Callable[[float], object]
_PROGRESS_STEPS: Final = 200
_MOST_AT_ONCE: Final = 100_000
_LARGEST_OFFSET: Final = 10**12  # a host that was started eleven days ago


class Resource:
    """What the service writes to. It takes no write that bears an older token."""

    def __init__(self) -> None:
        self.newest = 0

    def write(self, token: int) -> bool:
        """Whether it takes the write."""
        if token < self.newest:
            return False
        self.newest = token
        return True


@dataclass(frozen=True, slots=True)
class Parts:
    """What a play is built of. A test that plants a bug replaces one."""

    storage: Callable[[Callable[[], int]], Storage] = lambda clock: MemoryStorage(clock=clock)
    view: View = lambda _, storage: storage
    resource: Callable[[], Resource] = Resource
    runner_id: Callable[[int, int], str] = lambda place, generation: (
        f"runner-{place + 1}" + (f".{generation}" if generation else "")
    )


SHIPPED: Final = Parts()
"""What is shipped."""

# What it lacks of a storage nobody here asks for.
_NO_GATE: Final = Parts(view=OwnClockNoGate)  # type: ignore[arg-type]


class Play:
    """One scenario, played once."""

    def __init__(self, scenario: Scenario, parts: Parts = SHIPPED) -> None:
        self.scenario = scenario
        self.gated = scenario.clock == "storage"
        self.parts = parts if self.gated else _NO_GATE
        self.now = 0
        self.base = microseconds(scenario.start)
        self.steps = 0  # by how much the storage's clock has stepped
        self.end = microseconds(scenario.duration)
        self.heals_at = microseconds(scenario.heals_at)
        self.violations = Violations(lambda: instant(self.base + self.now))
        self.say = self.violations.add
        self.storage = self.parts.storage(self._clock)
        self.names = map(str, count(1)).__next__
        self.asked: Counter[str] = Counter()
        self.incidents: Counter[str] = Counter()
        self.trouble = Trouble()
        # The network, for all.
        self.is_instant = scenario.latency == NOTHING
        self.network_random = scenario.random("network").random
        self._latency = drawer(scenario.latency, self.network_random)
        self.troubled_until = 0
        self.down_until = 0
        self._slow = (0, 0)
        # Jobs.
        self._job_random = scenario.random("job").random
        self.next_takes: int | None = None
        self.next_fails = False
        self.next_poison: int | None = None
        self.kill_next_turn: int | None = None
        # Who takes part.
        self._heap: list[tuple[int, int, Callable[[Any], object], object]] = []
        self._numbers = count()
        names = ["service"] if scenario.services == 1 else list(_services(scenario.services))
        self.judges: dict[str, Judge] = {}
        for name in names:
            self.judges[name] = Judge(self, name)
        self.judge = self.judges[names[0]]
        self.bounds = Bounds(self)
        self.places: list[Process | None] = [None] * scenario.runners
        self.started: list[Process] = []
        self._generations = [0] * scenario.runners
        self._skews = scenario.random("skew")
        self._offsets = scenario.random("offset")
        self.controls = Controls(self.storage, GROUP, by="operator")

    def play(self, progress: Progress | None = None) -> Result:
        """Play the scenario to its end."""
        starting = self.scenario.random("start").random
        spread = microseconds(self.scenario.starts_within)
        for place in range(self.scenario.runners):
            self.at(int(starting() * spread), self.start_process, place)
        Faults(self).plan()
        for judge in self.judges.values():
            judge.plan_periods()
        self.bounds.begin()
        if progress is not None:
            self._report((progress, 0))
        self._go_through(self.end)
        self.now = self.end
        for judge in self.judges.values():
            judge.end()
        self.bounds.end()
        return result_of(self)

    def _go_through(self, end: int) -> None:
        """Let happen what happens until then, in order."""
        heap, pop = self._heap, heapq.heappop
        at_once = 0
        while heap:
            time, _, happen, what = pop(heap)
            if time > end:
                return
            at_once = at_once + 1 if time == self.now else 0
            if at_once > _MOST_AT_ONCE:
                self.say("time stands still: too much happens at one instant")
                return
            self.now = time
            happen(what)

    # Time -------------------------------------------------------------------------------------

    def at(self, time: int, happen: Callable[[Any], object], what: object = None) -> None:
        """Have something happen at a time."""
        heapq.heappush(self._heap, (time, next(self._numbers), happen, what))

    def _clock(self) -> int:
        return self.base + self.now

    def step_clock(self, by: int) -> None:
        """The storage's clock jumps."""
        self.base += by
        self.steps += by

    def _report(self, report: tuple[Progress, int]) -> None:
        progress, step = report
        progress(step / _PROGRESS_STEPS)
        if step < _PROGRESS_STEPS:
            # The last is due before the end, at which the loop stops.
            due = self.end * (step + 1) // _PROGRESS_STEPS
            self.at(min(due, self.end - 1), self._report, (progress, step + 1))

    # Processes --------------------------------------------------------------------------------

    def start_process(self, place: int, *, same_id: bool = False) -> Process:
        """Start a process in a place, under a new runner id or that of its predecessor."""
        while place >= len(self.places):
            self.places.append(None)
            self._generations.append(0)
        if self.places[place] is not None and not same_id:
            self._generations[place] += 1
        runner_id = self.parts.runner_id(place, self._generations[place])
        most = microseconds(self.scenario.clock_skew)
        # Between two clocks there is the whole skew; the first two places have it.
        skew = (0, most)[place] if place < 2 else int(self._skews.random() * most)  # noqa: PLR2004
        offset = int(self._offsets.random() * _LARGEST_OFFSET)
        process = Process(self, place, runner_id, f"boot-{next(self._numbers)}", offset, skew)
        before = self.places[place]
        if same_id and before is not None and before.drained_until > self.now:
            process.drained_until = before.drained_until
            process.trouble.add(self.now, process.drained_until)
        self.places[place] = process
        self.started = [other for other in self.started if other.alive]
        self.started.append(process)
        process.start()
        return process

    def crash(self, process: Process, lasts: int, *, same_id: bool) -> None:
        """Kill a process; after a while there is another in its place."""
        self.bounds.killed(process)
        process.kill()
        self.at(self.now + lasts, self.replace_in, (process.place, same_id))

    def replace_in(self, where: tuple[int, bool]) -> None:
        """Start a process in a place, unless somebody else has filled it meanwhile."""
        place, same_id = where
        process = self.places[place]
        if process is None or process.stopping or not process.alive:
            self.start_process(place, same_id=same_id)

    def spare_place(self) -> int:
        """A place beyond those of the scenario that nobody has."""
        for place in range(self.scenario.runners, len(self.places)):
            process = self.places[place]
            if process is None or not process.alive:
                return place
        return len(self.places)

    def replace_storage(self, storage: Storage) -> None:
        """Everybody has another storage from now on."""
        self.storage = storage
        self.controls = Controls(storage, GROUP, by="operator")
        for process in self.started:
            process.view = self.parts.view(process, storage)

    # The network and the jobs -----------------------------------------------------------------

    def travel_time(self) -> int:
        """How long one request, or its answer, is on its way."""
        took = 0 if self.is_instant else self._latency()
        until, most = self._slow
        if self.now < until:
            took += int(self.network_random() * most)
        return took

    def slow(self, until: int, most: int) -> None:
        """Until then each way takes up to so much longer."""
        self._slow = until, most

    def trouble_all(self, until: int, beyond: int = 0) -> None:
        """Something is wrong with everybody's link, or clock, until then."""
        self.troubled_until = max(self.troubled_until, until)
        self.trouble.add(self.now, until + beyond)

    def next_job(self) -> tuple[int, bool, int | None]:
        """How long the next turn takes, whether it fails, and whether it kills its process."""
        takes, self.next_takes = self.next_takes, None
        fails, self.next_fails = self.next_fails, False
        poison, self.next_poison = self.next_poison, None
        if takes is None:
            takes = microseconds(self.scenario.job.draw(self._job_random))
        return takes, fails, poison

    def began(self, part: Part) -> None:
        """A turn has begun: kill its process where that is asked for."""
        lasts, self.kill_next_turn = self.kill_next_turn, None
        if lasts is not None and part.call is not None:
            self.at(self.now + 1, self._kill_in_turn, (part, part.call, lasts))

    def _kill_in_turn(self, what: tuple[Part, object, int]) -> None:
        part, call, lasts = what
        if part.call is call and part.process.alive:
            self.crash(part.process, lasts, same_id=True)


def _services(number: int) -> list[str]:
    return [f"service-{n + 1}" for n in range(number)]
