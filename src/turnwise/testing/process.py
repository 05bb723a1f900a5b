"""One process in virtual time: the machines of its services, its heartbeat and its functions.

It does what :class:`turnwise.scheduler.engine.Engine` does, in steps instead of threads.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

from turnwise.actions import Request, Serve, Wait
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.errors import StorageError
from turnwise.events import Observer
from turnwise.heartbeat import Heartbeat
from turnwise.machine import Machine
from turnwise.scheduler.asking import Asking
from turnwise.scheduler.at_work import Service
from turnwise.scheduler.calls import Call, Ended, Work, start_call
from turnwise.scheduler.functions import served
from turnwise.scheduler.leaving import Leaving
from turnwise.scheduler.services import Services
from turnwise.scheduler.starting import may_start
from turnwise.settings import Settings
from turnwise.storages import Storage
from turnwise.testing.virtual_time import Sleeper, VirtualLoops, VirtualTime

_MOST_AT_ONCE = 1000


class VirtualProcess:
    """A process whose steps a test makes. Times are microseconds of the virtual time.

    Args:
        group: the group's name.
        runner_id: the runner.
        boot_id: this life of it.
        storage: what it asks.
        clock: the virtual time.
        observers: what hears the events.
        may_run: False for one that takes no turn.

    Attributes:
        is_suspended: whether it does nothing, as after SIGSTOP.
        is_gone: whether it was killed, or has left.
        is_cut_off: whether the storage does not answer it.
    """

    def __init__(
        self,
        *,
        group: str,
        runner_id: str,
        boot_id: str,
        storage: Storage,
        clock: VirtualTime,
        observers: Sequence[Observer],
        may_run: bool = True,
    ) -> None:
        self.group, self.runner_id, self.boot_id = group, runner_id, boot_id
        self.storage = storage
        self.is_suspended = self.is_gone = self.is_cut_off = False
        self._may_run = may_run
        self._names = count(1)
        self._clock = clock
        self._loops = VirtualLoops(clock)
        self._sleepers: list[Sleeper] = []
        self._due: int | None = clock.at
        self._leaving = Leaving()
        self.services = Services(
            group=group,
            observers=observers,
            loops=self._loops,
            monotonic=clock,
            changed=self._changed,
            start=self._start,
        )
        self.asking = Asking(
            self.services,
            group=group,
            runner_id=runner_id,
            boot_id=boot_id,
            reach=self._reach,
            monotonic=clock,
        )

    def add(self, name: str, function: Callable[..., object] | None, settings: Settings) -> None:
        """One more service."""
        make = partial(
            Machine,
            group=self.group,
            service=name,
            runner_id=self.runner_id,
            boot_id=self.boot_id,
            settings=settings,
            names=lambda: f"{self.boot_id}, name {next(self._names)}",
            may_run=self._may_run,
            on_demand=function is None,
        )
        service = Service(name, make, None if function is None else served(function))
        self.services.add(service)
        self.asking.mind(service)
        self._changed()

    @property
    def due(self) -> int | None:
        """When it has something to do; None for never."""
        if self.is_suspended or self.is_gone:
            return None
        loop = self._loops.made
        instants = [self._due, None if loop is None else loop.due]
        instants += [each.due for each in self._sleepers]
        return min((each for each in instants if each is not None), default=None)

    def step(self) -> None:
        """Do all that is due now."""
        at = self._clock.at
        for sleeper in list(self._sleepers):
            if sleeper.due is not None and sleeper.due <= at:
                sleeper.wake()
        self._loops.run()
        if self._due is not None and self._due <= at:
            self._due = self._drive()
        self._loops.run()
        self._sleepers = [each for each in self._sleepers if each.due is not None]

    def request_stop(self, grace: int) -> None:
        """Start no turn any more, and leave when what runs has ended, or after its grace."""
        self._leaving.give_grace_until(self._clock.at + grace)
        self.services.is_stopping = True
        self._changed()

    def kill(self) -> None:
        """End it as SIGKILL does: nothing more of it reaches the storage."""
        self._end()

    # Inside -----------------------------------------------------------------------------------

    def _end(self) -> None:
        self.is_gone = True
        for sleeper in self._sleepers:
            sleeper.tear_off()
        self._loops.close()

    def _changed(self) -> None:
        self._due = self._clock.at

    def _start(self, work: Work) -> Call:
        work = replace(work, ended=partial(self._ended, work.ended))
        if work.served.is_coroutine:
            return start_call(work)
        sleeper = Sleeper(work, self._clock)
        self._sleepers.append(sleeper)
        return sleeper

    def _ended(
        self, ended: Ended, status: Status, reason: str, error: BaseException | None
    ) -> None:
        """A function has ended; of a process that is gone nobody hears it."""
        if not self.is_gone:
            ended(status, reason, error)

    def _drive(self) -> int | None:
        """Send the heartbeat, and do what the machines ask; when to go on."""
        heart = self.asking.heart
        if heart is None:
            return None
        if heart.next(self._clock.at) is None:
            self.asking.beat(heart)
        instants: list[int | None] = [self._interrupted(heart)]
        if heart.has_joined:
            instants += self._work(heart)
        elif self.services.is_stopping:
            self._end()
        return min((each for each in instants if each is not None), default=None)

    def _work(self, heart: Heartbeat) -> list[int | None]:
        """Do what the machines ask, and leave where all is done; when to go on."""
        at, grace_ends = self._clock.at, None
        if self.services.is_stopping:
            grace_ends = self.services.stop(at, self._leaving.grace_ends)
        waits = [each for each in (self._ask(each, heart) for each in self.services) if each]
        if self.services.is_stopping and self._leaving.may_leave(
            at, is_all_said=not waits, is_at_work=bool(self.services.at_work)
        ):
            self._end()
            self.asking.leave()
        return [grace_ends, self._leaving.last_words_end, *(each.until for each in waits)]

    def _interrupted(self, heart: Heartbeat) -> int | None:
        wait = heart.next(self._clock.at)
        return self._clock.at if wait is None else wait.until

    def _ask(self, service: Service, heart: Heartbeat) -> Wait | None:
        """Do what a machine asks until it waits; None where it has finished."""
        for _ in range(_MOST_AT_ONCE):
            action = self.services.next(service, self._clock.at)
            if isinstance(action, Request):
                self.asking.one(service, action)
            elif isinstance(action, Serve):
                self._serve(service, action, heart)
            else:
                return action if isinstance(action, Wait) else None
        raise AssertionError(f"{service.name}: the machine asks without an end")

    def _reach(self) -> Storage:
        if self.is_cut_off:
            raise StorageError(f"{self.runner_id} is cut off from the storage")
        return self.storage

    def _serve(self, service: Service, serve: Serve, heart: Heartbeat) -> None:
        if may_start(service.machine.turn, heart, self._clock.at):
            self.services.serve(service, serve)
