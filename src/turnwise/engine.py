"""The threads that drive a scheduler's machines.

One thread, the *driver*, drives the machines of all services and asks the storage for them: the
looks that are due at one time go in one request. A second thread sends the heartbeats, so that
nothing holds them up. All that is known is guarded by one lock, which nobody holds while the
storage is asked, a function runs, or an observer listens.

A function that ends, a heartbeat that shows something new, and a request to stop wake the driver
through a queue, which a signal handler may write to at any time.
"""

import contextlib
import contextvars
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from turnwise import gate as gates
from turnwise.actions import (
    Action,
    Answer,
    Begun,
    Elapsed,
    Failed,
    Finished,
    FunctionEnded,
    Look,
    Request,
    Serve,
    StopRequested,
    Wait,
)
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.calls import Call, Loops, start_call
from turnwise.cycles import SECOND
from turnwise.drive import carry_out, seen
from turnwise.errors import StorageError
from turnwise.events import (
    Event,
    Observer,
    RunnerLeft,
    StorageBack,
    StorageLost,
    TurnEvent,
    TurnLost,
    TurnOverdue,
)
from turnwise.functions import Served
from turnwise.heartbeat import Heartbeat
from turnwise.machine import Machine, TurnState
from turnwise.storages import Pulse, Storage
from turnwise.turn import Turn, TurnView

_log = logging.getLogger("turnwise.engine")
_FIRST_BACKOFF_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 5.0
_LAST_WORDS_SECONDS = 5.0


def monotonic_us() -> int:
    """Microseconds that only grow. On Linux they count while the host is suspended, too."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    return time.monotonic_ns() // 1000


@dataclass(slots=True)
class Service:
    """One service of a scheduler, and the function that is at work for it."""

    name: str
    machine: Machine
    served: Served
    call: Call | None = None
    turn: TurnState | None = None


@dataclass(slots=True)
class _Link:
    """Whether the storage answers, as the two threads see it."""

    since: int = 0
    error: str | None = None
    failing: set[str] = field(default_factory=set)


class Engine:
    """Drives machines with real clocks, threads and a storage.

    Args:
        open_storage: opens the storage; called again until it succeeds.
        group: the group's name.
        runner_id: this runner.
        boot_id: this life of it.
        observers: what hears the events.
        loops: where coroutines run.
        monotonic: gives microseconds that only grow.
    """

    def __init__(
        self,
        open_storage: Callable[[], Storage],
        *,
        group: str,
        runner_id: str,
        boot_id: str,
        observers: Sequence[Observer],
        loops: Loops,
        monotonic: Callable[[], int] = monotonic_us,
    ) -> None:
        self.services: dict[str, Service] = {}
        self.opened = threading.Event()
        self.open_error: Exception | None = None
        self._open, self._storage = open_storage, None
        self._group, self._runner_id, self._boot_id = group, runner_id, boot_id
        self._observers, self._loops, self._monotonic = observers, loops, monotonic
        self._context = contextvars.copy_context()
        self._lock = threading.RLock()
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._beats: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._heartbeat: Heartbeat | None = None
        self._link = _Link(since=monotonic())
        self._threads: list[threading.Thread] = []
        self.is_stopping = False
        self._stop_at: int | None = None
        self._grace: float | None = None
        self._hearts_end = threading.Event()

    _storage: Storage | None

    # For the scheduler ------------------------------------------------------------------------

    def add(self, service: Service) -> None:
        """Drive one more service, from now on."""
        timeout = service.machine.heartbeat_timeout
        with self._lock:
            self.services[service.name] = service
            if self._heartbeat is None:
                self._heartbeat = Heartbeat(
                    group=self._group,
                    runner_id=self._runner_id,
                    boot_id=self._boot_id,
                    timeout=timeout,
                )
            else:
                self._heartbeat.shorten(timeout)
        self._beats.put(None)
        self._wakeups.put(None)

    def start(self) -> None:
        """Start the two threads.

        Raises:
            RuntimeError: the system has no thread left.
        """
        for name, target in (("driver", self._drive), ("heartbeat", self._beat)):
            thread = threading.Thread(target=target, name=f"turnwise-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def request_stop(self, grace: float | None = None) -> None:
        """Start no turn any more, and end. Safe in a signal handler.

        Args:
            grace: seconds that running functions get; None for as long as they take.
        """
        self._grace = grace
        self.is_stopping = True
        self._wakeups.put(None)

    def join(self, timeout: float | None) -> bool:
        """Wait until both threads have ended; whether they have."""
        end = None if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def is_one_of_ours(self, ident: int | None) -> bool:
        """Whether a thread is one of the engine's two."""
        return any(thread.ident == ident for thread in self._threads)

    def link(self) -> tuple[bool, int, str | None]:
        """Whether the storage answers, since when (monotonic microseconds), and the last error."""
        with self._lock:
            answers = self._storage is not None and not self._link.failing
            return answers, self._link.since, self._link.error

    def locked(self) -> contextlib.AbstractContextManager[object]:
        """For reading the machines while nobody changes them."""
        return self._lock

    # The driver -------------------------------------------------------------------------------

    def _drive(self) -> None:
        try:
            if self._open_storage():
                self._wait_for_heartbeat()
                self._loop()
        except Exception:
            _log.exception("the driver of runner %s ends: a bug", self._runner_id)
            raise
        finally:
            self._end()

    def _open_storage(self) -> bool:
        """Open the storage, however long it takes; False where it never will be."""
        backoff = _FIRST_BACKOFF_SECONDS
        while not self.is_stopping:
            try:
                self._storage = self._open()
            except StorageError as error:
                self.open_error = error
                self._note_link("opening", str(error))
                self.opened.set()
                self._sleep(backoff)
                backoff = min(backoff * 2, _LONGEST_BACKOFF_SECONDS)
            except Exception as error:  # noqa: BLE001 (the scheduler raises it in its caller)
                self.open_error = error
                self.opened.set()
                return False
            else:
                self.open_error = None
                self.opened.set()
                self._note_link("opening", None)
                self._beats.put(None)
                return True
        self.opened.set()
        return False

    def _wait_for_heartbeat(self) -> None:
        """A runner that has not joined would not count: the first heartbeat comes first."""
        while not self.is_stopping:
            with self._lock:
                if self._heartbeat is not None and self._heartbeat.has_joined:
                    return
            self._sleep(None)

    def _loop(self) -> None:
        while True:
            if self.is_stopping:
                self._stop_machines()
            at = self._monotonic()
            with self._lock:
                todo = [(each, self._next(each, at)) for each in self.services.values()]
            requests = [(each, action) for each, action in todo if isinstance(action, Request)]
            self._ask(requests)
            for each, action in todo:
                if isinstance(action, Serve):
                    self._serve(each, action)
            if requests or any(isinstance(action, Serve) for _, action in todo):
                continue
            if all(isinstance(action, Finished) for _, action in todo) and self.is_stopping:
                return
            if self._is_past_last_words(at):
                return
            self._sleep(self._pause(todo, at))

    def _next(self, service: Service, at: int) -> Action:
        """The next action of a machine; what has elapsed by then is told to it first."""
        action = service.machine.next(at)
        if isinstance(action, Wait) and action.until is not None and action.until <= at:
            self._tell(service, service.machine.receive(at, Elapsed()))
            action = service.machine.next(at)
        return action

    def _pause(self, todo: Iterable[tuple[Service, Action]], at: int) -> float | None:
        instants = [action.until for _, action in todo if isinstance(action, Wait) and action.until]
        if self._stop_at is not None:
            instants.append(self._stop_at)
        return max(0.0, (min(instants) - at) / SECOND) if instants else None

    def _sleep(self, seconds: float | None) -> None:
        """Wait, or until something wakes the driver; one wake-up stands for all before it."""
        with contextlib.suppress(queue.Empty):
            self._wakeups.get(timeout=seconds)
            while True:
                self._wakeups.get_nowait()

    def _ask(self, requests: Sequence[tuple[Service, Request]]) -> None:
        """Carry out what the machines ask: the looks in one request, the rest one by one."""
        storage = self._storage
        assert storage is not None  # noqa: S101 (it was opened)
        looks = [each for each, request in requests if isinstance(request, Look)]
        for each, request in requests:
            if not isinstance(request, Look):
                self._answer(each, carry_out(storage, self._group, each.name, request))
        if not looks:
            return
        try:
            reading = storage.read(self._group, [each.name for each in looks])
        except StorageError as error:
            for each in looks:
                self._answer(each, Failed(str(error)))
        else:
            for each in looks:
                self._answer(each, seen(reading, each.name))

    def _answer(self, service: Service, answer: Answer) -> None:
        failed = answer.error if isinstance(answer, Failed) else None
        self._note_link("work", failed)
        with self._lock:
            events = service.machine.receive(self._monotonic(), answer)
        self._tell(service, events)

    # Functions --------------------------------------------------------------------------------

    def _serve(self, service: Service, action: Serve) -> None:
        state = service.machine.turn
        assert state is not None  # noqa: S101 (it is to be served)
        view = TurnView(
            now=self._monotonic,
            deadline=lambda: state.deadline,
            why_lost=lambda: _why_lost(state, self._monotonic()),
            stop_requested=lambda: self.is_stopping,
        )
        turn = Turn(
            action.run,
            group=self._group,
            service=service.name,
            last_served=action.last_served,
            view=view,
        )
        with self._lock:
            service.turn = state
            events = service.machine.receive(self._monotonic(), Begun())
        self._tell(service, events)
        try:
            call = start_call(
                service.served,
                turn,
                partial(self._ended, service),
                self._context.copy(),
                self._loops,
            )
        except RuntimeError as error:
            _log.error("%s: a turn could not be started: %s", service.name, error)
            self._ended(service, Status.ABANDONED, gates.NOT_STARTED, None)
            return
        with self._lock:
            if service.turn is state:
                service.call = call

    def _ended(
        self, service: Service, status: Status, reason: str, error: BaseException | None
    ) -> None:
        """A function has ended; called from its own thread, or from the event loop's."""
        if error is not None and reason.startswith("exception:"):
            _log.error(
                "%s: the function failed: %r", service.name, error, exc_info=error, stacklevel=2
            )
        with self._lock:
            service.call = service.turn = None
            told = service.machine.receive(self._monotonic(), FunctionEnded(status, reason))
        self._tell(service, told)
        self._wakeups.put(None)

    def _tell(self, service: Service | None, events: Iterable[Event]) -> None:
        """Tell the observers, and cancel what is lost."""
        for event in events:
            if service is not None and isinstance(event, TurnLost | TurnOverdue):
                self._cancel(service, event)
            for observer in self._observers:
                try:
                    observer(event)
                except Exception:  # noqa: BLE001 (an observer's bug must not stop the turns)
                    _log.exception("an observer failed on %r", event)

    def _cancel(self, service: Service, event: TurnEvent) -> None:
        reason = gates.TIMEOUT if isinstance(event, TurnOverdue) else gates.LOST
        with self._lock:
            call = service.call
        if call is not None:
            call.cancel(reason)

    # Stopping ---------------------------------------------------------------------------------

    def _stop_machines(self) -> None:
        """Tell the machines to stop; cancel what still runs when its grace is over."""
        at = self._monotonic()
        with self._lock:
            for each in self.services.values():
                each.machine.receive(at, StopRequested())
            running = [each for each in self.services.values() if each.turn is not None]
        if self._grace is None and running:
            return
        if self._stop_at is None:
            grace = self._grace or 0.0
            self._stop_at = at + int((grace if running else 0.0) * SECOND)
        if at < self._stop_at:
            return
        for each in running:
            if each.call is None or not each.call.cancel(gates.STOPPED):
                self._give_up(each)

    def _give_up(self, service: Service) -> None:
        """A plain function goes on beyond its grace: its turn ends as stopped."""
        with self._lock:
            if service.turn is None:
                return
            service.call = service.turn = None
            at = self._monotonic()
            events = service.machine.receive(at, FunctionEnded(Status.ABANDONED, gates.STOPPED))
        self._tell(service, events)

    def _is_past_last_words(self, at: int) -> bool:
        """Whether a storage that is away has had enough time to record what ended."""
        if self._stop_at is None:
            return False
        with self._lock:
            if any(each.turn is not None for each in self.services.values()):
                return False
        return at >= self._stop_at + int(_LAST_WORDS_SECONDS * SECOND)

    def _end(self) -> None:
        """Stop the heartbeats, leave, and let go of what was opened."""
        self._hearts_end.set()
        self._beats.put(None)
        storage = self._storage
        if storage is None:
            return
        for thread in self._threads[1:]:
            thread.join(_LAST_WORDS_SECONDS)
        at = self._monotonic()
        with self._lock:
            gap = any(each.machine.leaves_a_gap(at) for each in self.services.values())
        try:
            storage.leave(self._group, self._runner_id, self._boot_id)
            if gap:
                storage.advance(self._group)
        except StorageError as error:
            _log.warning("runner %s could not say that it leaves: %s", self._runner_id, error)
        else:
            self._tell(None, [RunnerLeft(group=self._group, runner_id=self._runner_id)])

    # Heartbeats -------------------------------------------------------------------------------

    def _beat(self) -> None:
        try:
            while not self._hearts_end.is_set():
                heart, storage = self._heartbeat, self._storage
                if heart is None or storage is None:
                    self._beats.get()
                    continue
                at = self._monotonic()
                with self._lock:
                    wait = heart.next(at)
                if wait is None:
                    self._send(heart, storage, at)
                else:
                    until = None if wait.until is None else max(0.0, (wait.until - at) / SECOND)
                    with contextlib.suppress(queue.Empty):
                        self._beats.get(timeout=until)
        except Exception:
            _log.exception("the heartbeats of runner %s end: a bug", self._runner_id)
            raise

    def _send(self, heart: Heartbeat, storage: Storage, at: int) -> None:
        with self._lock:
            runs = tuple(run for each in self.services.values() for run in each.machine.runs)
            beat = heart.beat(at, runs)
        answer: Pulse | Failed
        try:
            answer = storage.heartbeat(self._group, beat)
        except StorageError as error:
            answer = Failed(str(error))
        self._note_link("heartbeats", answer.error if isinstance(answer, Failed) else None)
        now = self._monotonic()
        told: list[tuple[Service | None, list[Event]]] = []
        with self._lock:
            heard, events = heart.receive(now, answer)
            told.append((None, [e for e in events if not isinstance(e, StorageLost | StorageBack)]))
            for each in self.services.values():
                if heard is not None:
                    told.append((each, each.machine.receive(now, heard)))
                else:
                    told.append((each, each.machine.receive(now, Elapsed())))
        for service, happened in told:
            self._tell(service, happened)
        self._wakeups.put(None)

    def _note_link(self, lane: str, error: str | None) -> None:
        """One line when the storage goes, and one when it is back, whichever thread saw it."""
        at = self._monotonic()
        with self._lock:
            link = self._link
            before = bool(link.failing)
            (link.failing.discard if error is None else link.failing.add)(lane)
            if error is not None:
                link.error = error
            after = bool(link.failing)
            if before == after:
                return
            away, link.since = at - link.since, at
        named = {"group": self._group, "runner_id": self._runner_id}
        if after:
            self._tell(None, [StorageLost(**named, error=error or "")])
        else:
            self._tell(None, [StorageBack(**named, after=away)])


def _why_lost(state: TurnState, at: int) -> str | None:
    """Why a turn is not surely its runner's any more; None while it is."""
    if state.overdue:
        return "its timeout has passed"
    if state.lost:
        return "the run was given up, or closed by the storage"
    silent = at - state.confirmed_at
    if silent < state.run.heartbeat_timeout:
        return None
    limit = state.run.heartbeat_timeout / SECOND
    return (
        f"no heartbeat was confirmed for {silent / SECOND:.1f} s, and the heartbeat timeout is "
        f"{limit:g} s"
    )
