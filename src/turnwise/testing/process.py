"""One process in virtual time: the machines of its services, its heartbeat and its functions.

It does what :class:`turnwise.scheduler.engine.Engine` does, in steps instead of threads.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

from turnwise.actions import Answer, Failed, Request, Serve, Wait
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.drive import carry_out
from turnwise.errors import StorageError
from turnwise.events import Observer, RunnerLeft
from turnwise.heartbeat import Heartbeat
from turnwise.machine import Machine
from turnwise.scheduler.at_work import Service
from turnwise.scheduler.calls import Call, Ended, Work, start_call
from turnwise.scheduler.functions import served
from turnwise.scheduler.link import HEARTBEATS, Link, lane_of
from turnwise.scheduler.services import Services
from turnwise.scheduler.starting import may_start
from turnwise.settings import Settings
from turnwise.storages import Pulse, Storage
from turnwise.testing.virtual_time import Sleeper, VirtualLoops, VirtualTime

_MOST_AT_ONCE = 1000
_LAST_WORDS = 5_000_000


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
        self.heart: Heartbeat | None = None
        self._clock = clock
        self._loops = VirtualLoops(clock)
        self._sleepers: list[Sleeper] = []
        self._due: int | None = clock.at
        self._stop_at: int | None = None
        self._link = Link(group, runner_id, clock.at)
        self.services = Services(
            group=group,
            observers=observers,
            loops=self._loops,
            monotonic=clock,
            changed=self._changed,
            start=self._start,
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
        timeout = service.machine.heartbeat_timeout
        if self.heart is None:
            self.heart = Heartbeat(
                group=self.group, runner_id=self.runner_id, boot_id=self.boot_id, timeout=timeout
            )
        else:
            self.heart.shorten(timeout)
        self._link.patience = 2 * self.heart.interval
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
        self._stop_at = self._clock.at + grace
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
        heart = self.heart
        if heart is None:
            return None
        if heart.next(self._clock.at) is None:
            self._beat(heart)
        instants: list[int | None] = [self._interrupted(heart)]
        if heart.has_joined:
            if self.services.is_stopping:
                instants.append(self._stop())
            waits = [self._work(each, heart) for each in self.services]
            if self.services.is_stopping and self._may_leave(waits):
                self._leave()
            instants += [wait.until for wait in waits if wait is not None]
        elif self.services.is_stopping:
            self._end()
        return min((each for each in instants if each is not None), default=None)

    def _interrupted(self, heart: Heartbeat) -> int | None:
        wait = heart.next(self._clock.at)
        return self._clock.at if wait is None else wait.until

    def _beat(self, heart: Heartbeat) -> None:
        beat = heart.beat(self._clock.at, self.services.runs)
        answer: Pulse | Failed
        try:
            self._reach()
            answer = self.storage.heartbeat(self.group, beat)
        except StorageError as error:
            answer = Failed(str(error))
        self._note(HEARTBEATS, answer)
        heard, events = heart.receive(self._clock.at, answer)
        self.services.tell(None, events)
        self.services.heard(heard)

    def _work(self, service: Service, heart: Heartbeat) -> Wait | None:
        """Do what a machine asks until it waits; None where it has finished."""
        for _ in range(_MOST_AT_ONCE):
            action = self.services.next(service, self._clock.at)
            if isinstance(action, Request):
                self.services.answer(service, self._answer_to(action, service.name))
            elif isinstance(action, Serve):
                self._serve(service, action, heart)
            else:
                return action if isinstance(action, Wait) else None
        raise AssertionError(f"{service.name}: the machine asks without an end")

    def _answer_to(self, request: Request, service: str) -> Answer:
        answer: Answer
        try:
            self._reach()
        except StorageError as error:
            answer = Failed(str(error))
        else:
            answer = carry_out(self.storage, self.group, service, request)
        self._note(lane_of(request), answer)
        return answer

    def _note(self, lane: str, answer: Answer | Pulse) -> None:
        """Whether the storage answers: said once when it goes, and once when it is back."""
        error = answer.error if isinstance(answer, Failed) else None
        self.services.tell(None, self._link.note(lane, error, self._clock.at))

    def _reach(self) -> None:
        if self.is_cut_off:
            raise StorageError(f"{self.runner_id} is cut off from the storage")

    def _serve(self, service: Service, serve: Serve, heart: Heartbeat) -> None:
        if may_start(service.machine.turn, heart, self._clock.at):
            self.services.serve(service, serve)

    def _stop(self) -> int | None:
        self.services.request_stop()
        at, stop_at = self._clock.at, self._stop_at
        assert stop_at is not None  # noqa: S101 (set with the request)
        if at >= stop_at:
            return self.services.end_grace(at)
        return stop_at

    def _may_leave(self, waits: Sequence[Wait | None]) -> bool:
        assert self._stop_at is not None  # noqa: S101 (set with the request)
        too_late = self._clock.at >= self._stop_at + _LAST_WORDS and not self.services.at_work
        return too_late or all(wait is None for wait in waits)

    def _leave(self) -> None:
        self._end()
        at = self._clock.at
        gap = any(each.machine.leaves_a_gap(at) for each in self.services)
        try:
            self._reach()
            self.storage.leave(self.group, self.runner_id, self.boot_id)
            if gap:
                self.storage.advance(self.group)
        except StorageError:
            return
        self.services.tell(None, [RunnerLeft(group=self.group, runner_id=self.runner_id)])
