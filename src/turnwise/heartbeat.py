"""The heartbeat of a process: one for all of its services, as a machine without I/O.

Rules
-----
1. Heartbeats are sent three times in the shortest heartbeat timeout among the services; after one
   that failed, four times as often.
2. Each heartbeat carries a larger count than the one before, also where its answer was lost: a
   late request must not undo a newer one.
3. A heartbeat names every run that the process works on now. Only being named keeps a run alive.
4. A heartbeat that found no row confirms nothing. It has joined anew.

``next(at)`` says when the next heartbeat is due; ``beat(at, runs)`` makes it; ``receive(at,
answer)`` takes what came of it. ``at`` is the driver's monotonic clock in microseconds.
"""

import copy

from turnwise.actions import Failed, Heard, Wait
from turnwise.events import DuplicateRunner, Event, RunnerJoined
from turnwise.storages import Beat, Pulse

_TIMES_TO_BE_ALIVE = 2


class Heartbeat:
    """The heartbeats of one life of a runner. See the module.

    Args:
        group: the group's name.
        runner_id: the runner.
        boot_id: this life of it.
        timeout: the shortest heartbeat timeout among its services, in microseconds.

    Attributes:
        interval: time between two heartbeats, in microseconds.
        has_joined: whether one was answered.
    """

    def __init__(self, *, group: str, runner_id: str, boot_id: str, timeout: int) -> None:
        self.group, self.runner_id, self.boot_id = group, runner_id, boot_id
        self.timeout, self.interval = timeout, _interval(timeout)
        self.has_joined = False
        self._count = 0
        self._sent: tuple[Beat, int] | None = None
        self._due = 0
        self._is_hurried = False  # until a heartbeat has left since
        self._others: dict[str, tuple[int, int]] = {}  # by life: its count, how often it grew
        self._told: frozenset[str] = frozenset()

    def copy(self) -> "Heartbeat":
        """Another one in the same state, which goes its own way from here."""
        other = copy.copy(self)
        other._others = dict(self._others)  # noqa: SLF001 (of our own kind)
        return other

    def shorten(self, timeout: int) -> None:
        """A service was added whose heartbeat timeout is this, in microseconds."""
        if timeout < self.timeout:
            self.timeout, self.interval = timeout, _interval(timeout)
            self._due = 0

    def hurry(self, at: int) -> None:
        """Send the next heartbeat at once, such as after a turn whose admission took long.

        One that is on its way left before, and does not count.
        """
        self._due = min(self._due, at)
        self._is_hurried = True

    @property
    def due(self) -> int | None:
        """When the next heartbeat is due, which may be past; None while one is on its way."""
        return self._due if self._sent is None else None

    def next(self, at: int) -> Wait | None:
        """None where a heartbeat is due at ``at``; else how long to wait for it."""
        due = self.due
        return None if due is not None and at >= due else Wait(due)

    def beat(self, at: int, runs: tuple[str, ...]) -> Beat:
        """The heartbeat that leaves at ``at``, naming the runs that are worked on."""
        self._count += 1
        self._is_hurried = False
        beat = Beat(self.runner_id, self.boot_id, self._count, self.timeout, runs)
        self._sent = (beat, at)
        return beat

    def receive(self, at: int, answer: Pulse | Failed) -> tuple[Heard | None, list[Event]]:
        """Take what came of the heartbeat: what to tell each machine, and events.

        That the storage does not answer is not among them: whoever drives it asks the storage for
        more than heartbeats, and knows.
        """
        if self._sent is None:
            raise RuntimeError(f"no heartbeat of {self.runner_id} is on its way")
        (beat, sent), self._sent = self._sent, None
        if isinstance(answer, Failed):
            self._due = at if self._is_hurried else max(at, sent + self.interval // 4)
            return None, []
        self._due = at if self._is_hurried else sent + self.interval
        events: list[Event] = []
        if not answer.found:
            joined = RunnerJoined(**self._named, boot_id=self.boot_id, again=self.has_joined)
            events.append(joined)
        if answer.others or self._others:
            events += self._duplicates(answer)
        self.has_joined = True
        return Heard(beat, sent, answer), events

    def _duplicates(self, pulse: Pulse) -> list[Event]:
        """Other lives under our id whose count goes on while we watch are other processes.

        It must have gone on twice. A life that was killed may have had one heartbeat on its way,
        which arrives while its successor watches. It has two only where it had given one up, and
        the network had not.
        """
        grown = {}
        for boot_id, count in pulse.others:
            before, times = self._others.get(boot_id, (count, 0))
            grown[boot_id] = (count, times + (count > before))
        alive = {
            boot_id
            for boot_id, (_, times) in grown.items()
            if times >= _TIMES_TO_BE_ALIVE and boot_id not in self._told
        }
        self._others = grown
        self._told |= alive
        return [DuplicateRunner(**self._named, boot_id=boot_id) for boot_id in sorted(alive)]

    @property
    def _named(self) -> dict[str, str]:
        return {"group": self.group, "runner_id": self.runner_id}


def _interval(timeout: int) -> int:
    """Three of them are a timeout at least: whoever watches a run need not wait for a fourth."""
    return max(-(-timeout // 3), 1)
