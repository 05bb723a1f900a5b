"""The storage as one process reaches it: requests take time, get lost, and are late.

Whether anything is wrong is asked first: nothing is, most of the time.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import ParamSpec, TypeVar

from turnwise.atomic_service import (
    AtomicServiceClaim,
    AtomicServiceExecutionStatus,
    AtomicServiceRun,
)
from turnwise.backends import (
    Admission,
    ExecutionRecord,
    Heartbeat,
    Look,
    Participant,
    StorageError,
)
from turnwise.old_settings import Settings
from turnwise.simulation.processes import RunnerProcess
from turnwise.simulation.scenario import NOTHING, Distribution
from turnwise.simulation.virtual_time import Killed, VirtualTime, microseconds
from turnwise.simulation.watch import WatchedStorage

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(slots=True)
class Network:
    """What holds for all processes on their way to the storage."""

    latency: Distribution
    random: Random
    down_until: int = 0
    slow: tuple[int, int] = (0, 0)
    asked: Counter[str] = field(default_factory=Counter)
    troubled_until: int = 0
    is_instant: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_instant = self.latency == NOTHING

    def travel_time(self, now: int) -> int:
        """How long one request, or its answer, is on its way."""
        took = 0 if self.is_instant else microseconds(self.latency.draw(self.random.random))
        until, most = self.slow
        if now < until:
            took += int(self.random.random() * most)
        return took


class Link:
    """The part of a :class:`~turnwise.backends.Backend` that a runner uses, through a network."""

    def __init__(
        self, time: VirtualTime, network: Network, process: RunnerProcess, storage: WatchedStorage
    ) -> None:
        self._time = time
        self._network = network
        self._process = process
        self._storage = storage

    def publish_settings(self, service: str, settings: Settings) -> Settings | None:
        """See :class:`turnwise.backends.Backend`."""
        return self._ask("publish_settings", self._storage.publish_settings, service, settings)

    def heartbeat(
        self, service: str, who: Participant, settings: Settings, run_id: str | None = None
    ) -> Heartbeat:
        """See :class:`turnwise.backends.Backend`."""
        return self._ask(
            "heartbeat",
            self._storage.heartbeat,
            self._process,
            service,
            who,
            settings,
            run_id,
        )

    def look(self, service: str, who: Participant, settings: Settings) -> Look:
        """See :class:`turnwise.backends.Backend`."""
        return self._ask("look", self._storage.look, self._process, service, who, settings)

    def leave(self, service: str, who: Participant) -> None:
        """See :class:`turnwise.backends.Backend`."""
        self._ask("leave", self._storage.leave, self._process, service, who)

    def admit(
        self, service: str, run: AtomicServiceRun, settings: Settings, look: Look
    ) -> Admission:
        """See :class:`turnwise.backends.Backend`."""
        return self._ask("admit", self._storage.admit, self._process, service, run, settings, look)

    def finish(
        self,
        service: str,
        run_id: str,
        status: AtomicServiceExecutionStatus,
        reason: str,
        settings: Settings,
    ) -> ExecutionRecord | None:
        """See :class:`turnwise.backends.Backend`."""
        return self._ask(
            "finish",
            self._storage.finish,
            self._process,
            service,
            run_id,
            status,
            reason,
            settings,
        )

    def block(self, service: str, claim: AtomicServiceClaim, look: Look) -> None:
        """See :class:`turnwise.backends.Backend`."""
        self._ask("block", self._storage.block, self._process, service, claim, look)

    def execution(self, service: str, run_id: str) -> ExecutionRecord | None:
        """See :class:`turnwise.backends.Backend`."""
        return self._ask("execution", self._storage.execution, service, run_id)

    def _ask(
        self, name: str, operation: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        process, network = self._process, self._network
        if process.killed:
            raise Killed
        network.asked[name] += 1
        if network.is_instant and self._is_calm() and self._time.now >= network.troubled_until:
            self._storage.asking = process
            return operation(*args, **kwargs)
        self._travel(name)
        if self._is_calm():
            self._storage.asking = process
            answer = operation(*args, **kwargs)
        else:

            def act(stamp: int | None = None) -> _T:
                self._storage.asking, self._storage.stamp = process, stamp
                try:
                    return operation(*args, **kwargs)
                finally:
                    self._storage.stamp = None

            self._lose_the_answer(name, act)
            answer = self._act_late(name, act)
        self._travel(name)
        return answer

    def _is_calm(self) -> bool:
        """Whether nothing is wrong with what this process asks now."""
        process = self._process
        return self._time.now >= process.troubled_until and not process.loses_next_acknowledgement

    def _travel(self, name: str) -> None:
        """A request, or its answer, on its way; nothing passes a broken link."""
        self._require_connection(name)
        took = self._network.travel_time(self._time.now)
        if took:
            self._wait(took)
            self._require_connection(name)

    def _require_connection(self, name: str) -> None:
        now = self._time.now
        if now < self._network.down_until or now < self._process.cut_off_until:
            raise StorageError(f"no connection for {name}")

    def _lose_the_answer(self, name: str, act: Callable[[int | None], _T]) -> None:
        until, delay = self._process.lost_reply
        if self._process.loses_next_acknowledgement and name in ("admit", "finish"):
            self._process.loses_next_acknowledgement = False
            self._process.disturb(self._time.now)
            until, delay = self._time.now + 1, 0
        if self._time.now >= until:
            return
        if delay:
            self._time.at(self._time.now + delay, lambda: self._act_detached(act))
        else:
            act(None)
        raise StorageError("the answer was lost")

    def _act_detached(self, act: Callable[[int | None], _T]) -> None:
        """Nobody waits for it any more."""
        self._storage.detached = True
        try:
            act(None)
        finally:
            self._storage.detached = False

    def _act_late(self, name: str, act: Callable[[int | None], _T]) -> _T:
        until, most = self._process.late_commit
        if self._time.now >= until:
            return act(None)
        arrived = self._time.now
        self._wait(1 + int(self._network.random.random() * most))
        # The gate's writes wait for each other in the storage, and bear the time of the last.
        return act(arrived if name in ("heartbeat", "look", "leave") else None)

    def _wait(self, duration: int) -> None:
        self._time.wait(duration)
        if self._process.killed:
            raise Killed
