"""Where the processes of a play stand: who is in which place, who is started, killed, replaced."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from turnwise.controls import Controls
from turnwise.cycles import microseconds
from turnwise.simulation.process import Process, Watcher
from turnwise.simulation.scenario import Scenario
from turnwise.simulation.world import GROUP, World
from turnwise.storages import Storage
from turnwise.storages.memory import MemoryStorage

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


View = Callable[[Process, Storage], Storage]
"""How a process sees the storage."""


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


class Stage(World):
    """A world with its processes.

    Args:
        scenario: what is simulated.
        parts: what it is built of.

    Attributes:
        watchers: who watches each service; there before the first process is started.
        places: who is in each place.
        started: the processes that live, and the last ones that did.
        controls: the operator's.
    """

    def __init__(self, scenario: Scenario, parts: Parts) -> None:
        super().__init__(scenario, parts.storage)
        self.parts = parts
        self.watchers: Mapping[str, Watcher] = {}
        self.places: list[Process | None] = [None] * scenario.runners
        self.started: list[Process] = []
        self.controls = Controls(self.storage, GROUP, by="operator")
        self._generations = [0] * scenario.runners
        self._skews = scenario.random("skew")
        self._offsets = scenario.random("offset")

    def start_process(self, place: int, *, same_id: bool = False) -> Process:
        """Start a process in a place, under a new runner id or that of its predecessor."""
        while place >= len(self.places):
            self.places.append(None)
            self._generations.append(0)
        if self.places[place] is not None and not same_id:
            self._generations[place] += 1
        process = Process(
            self,
            self.watchers,
            place=place,
            runner_id=self.parts.runner_id(place, self._generations[place]),
            boot_id=f"boot-{self.number()}",
            skew=self._skew(place),
            offset=int(self._offsets.random() * _LARGEST_OFFSET),
            dies=self._dies,
        )
        process.view = self.parts.view(process, self.storage)
        before = self.places[place]
        if same_id and before is not None and before.drained_until > self.now:
            process.drained_until = before.drained_until
            process.trouble.add(self.now, process.drained_until)
        self.places[place] = process
        self.started = [other for other in self.started if other.alive]
        self.started.append(process)
        process.start()
        return process

    def _skew(self, place: int) -> int:
        """How far a place's clock is ahead; the first two places are the whole skew apart."""
        most = microseconds(self.scenario.clock_skew)
        return (0, most)[place] if place < 2 else int(self._skews.random() * most)  # noqa: PLR2004

    def _dies(self, process: Process, lasts: int) -> None:
        self.crash(process, lasts, same_id=True)

    def crash(self, process: Process, lasts: int, *, same_id: bool) -> None:
        """Kill a process; after a while there is another in its place."""
        for watcher in self.watchers.values():
            watcher.about_to_kill(process)
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
