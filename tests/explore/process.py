"""One life of a runner: the shipped machine and heartbeat, and what they have sent.

Only ``next``, ``receive`` and ``beat`` of the two are called; no field of theirs is set.
"""

import copy
from dataclasses import dataclass, field
from typing import Final, Self

from explore.canon import Parts, joined, parts_of
from explore.names import Names
from explore.relevant import Seen, of_heartbeat, of_machine, of_sighting
from turnwise.actions import Action, Answer, Request, Wait
from turnwise.actions import Seen as Looked
from turnwise.cycles import microseconds
from turnwise.heartbeat import Heartbeat
from turnwise.machine import Machine
from turnwise.settings import Settings
from turnwise.storages import Beat, Pulse, Sight

GROUP: Final = "group"
SERVICE: Final = "service"

_NOTHING_SEEN: Final = parts_of(None)


@dataclass(frozen=True, slots=True)
class Flight:
    """A request of a process that is on its way: sent, or applied with its answer held back.

    ``held`` says that a fault holds it up: time may pass meanwhile.
    """

    request: Request | Beat
    answer: Answer | Pulse | None = None
    held: bool = False


@dataclass(slots=True)
class Process:
    """One life of a runner.

    ``ill`` says that it was suspended, or that its messages failed. ``ends_at`` is when its
    function ends where all goes well. Whoever changes a process says so: :meth:`touch`.
    """

    runner_id: str
    boot: int
    settings: Settings
    machine: Machine
    heartbeat: Heartbeat
    flights: dict[str, Flight] = field(default_factory=dict)
    suspended: bool = False
    ill: bool = False
    finished: bool = False
    left: bool = False
    ends_at: int | None = None
    _parts: tuple[int, Parts] | None = None
    _ready: tuple[int, tuple[str, ...]] | None = None

    @classmethod
    def start(cls, runner_id: str, boot: int, settings: Settings) -> Self:
        """A process that has said nothing yet."""
        timeout = microseconds(settings.heartbeat_timeout)
        machine = Machine(
            group=GROUP,
            service=SERVICE,
            runner_id=runner_id,
            boot_id=str(boot),
            settings=settings,
            names=Names(f"{runner_id}.{boot}"),
        )
        heart = Heartbeat(group=GROUP, runner_id=runner_id, boot_id=str(boot), timeout=timeout)
        return cls(runner_id, boot, settings, machine, heart)

    def copy(self) -> "Process":
        """The same process, which goes its own way from here."""
        other = copy.copy(self)
        other.machine, other.heartbeat = self.machine.copy(), self.heartbeat.copy()
        other.flights = dict(self.flights)
        return other

    def touch(self) -> None:
        """It has changed, or is about to: what was worked out of it does not count any more."""
        self._parts = self._ready = None

    def parts(self, at: int) -> Parts:
        """Its part of a state at ``at``, but for its sighting: the shape and the names."""
        if self._parts is None or self._parts[0] != at:
            who = (self.runner_id, self.boot, self.suspended, self.finished, self.left, self.ill)
            ends_at = None if self.ends_at is None else max(self.ends_at, at)
            machine = of_machine(self.machine._state, at, self._sent_at())
            heart = of_heartbeat(self.heartbeat, at)
            self._parts = (at, joined([who, ends_at, *machine, *heart, self.flights]))
        return self._parts[1]

    def _sent_at(self) -> list[int]:
        beat = self.heartbeat._sent
        asked = [self.machine._state.asked_at] if "ask" in self.flights else []
        return asked if beat is None else [*asked, beat[1]]

    def sighting(self, now: Sight | None, at: int, *, late: bool) -> Parts:
        """What it has seen of an open run, as a part of a state, where ``now`` is what is shown."""
        state = self.machine._state
        if state.sighting is None:
            return _NOTHING_SEEN
        shown = [now, *(_sight_in(flight.answer) for flight in self.flights.values())]
        seen = Seen(state.sighting, state.interval, at)
        sights = [sight for sight in shown if sight is not None]
        return parts_of(of_sighting(seen, sights, self._sent_at(), late=late))

    def serves(self) -> bool:
        """Whether its function runs."""
        turn = self.machine.turn
        return turn is not None and turn.is_at_work and turn.began_at is not None

    def believes(self, at: int) -> bool:
        """Whether it takes a run for its own."""
        turn = self.machine.turn
        return turn is not None and turn.is_at_work and not turn.is_lost(at)

    def action(self, at: int) -> Action:
        """What the machine would do at ``at``; nothing comes of the question."""
        return self.machine.copy().next(at)

    def ready(self, at: int) -> tuple[str, ...]:
        """The channels on which the process has something to send, or to start, at ``at``."""
        if self._ready is None or self._ready[0] != at:
            self._ready = (at, tuple(self._find_ready(at)))
        return self._ready[1]

    def is_busy(self, at: int) -> bool:
        """Whether it has something to do at ``at``, so that time does not pass before."""
        return bool(self.ready(at)) or any(not each.held for each in self.flights.values())

    def _find_ready(self, at: int) -> list[str]:
        channels: list[str] = []
        if self.left:
            return channels
        if "beat" not in self.flights and not self.finished and self.heartbeat.next(at) is None:
            channels.append("beat")
        if "ask" not in self.flights:
            action = self.action(at)
            waits = isinstance(action, Wait) and (action.until is None or action.until > at)
            if self.finished or not waits:
                channels.append("ask")
        return channels

    def wakes_at(self, at: int) -> int | None:
        """The next time at which the process does something by itself."""
        if self.left:
            return None
        waits = [self.heartbeat.next(at), self.action(at)]
        instants = [w.until for w in waits if isinstance(w, Wait) and w.until is not None]
        if self.serves() and self.ends_at is not None:
            instants.append(self.ends_at)
        return min((instant for instant in instants if instant > at), default=None)


def _sight_in(answer: Answer | Pulse | None) -> Sight | None:
    """The open run that an answer shows."""
    if isinstance(answer, Pulse):
        return answer.sights.get(SERVICE)
    return answer.service.sight if isinstance(answer, Looked) else None
