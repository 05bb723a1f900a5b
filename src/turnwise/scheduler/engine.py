"""The threads that drive a scheduler's machines.

One thread, the *driver*, drives the machines of all services and asks the storage for them: the
looks that are due at one time go in one request. A second thread sends the heartbeats, so that
nothing holds them up. What they share is in :mod:`turnwise.scheduler.services`; nobody holds its
lock while the storage is asked.

A function that ends, a heartbeat that shows something new, and a request to stop wake the driver
through a queue, which a signal handler may write to at any time.
"""

import contextlib
import logging
import math
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence

from turnwise.actions import (
    Answer,
    Failed,
    FindStable,
    Finished,
    Look,
    NotSent,
    Request,
    Serve,
    Wait,
)
from turnwise.cycles import SECOND
from turnwise.drive import OPERATIONS, carry_out, seen
from turnwise.errors import SchemaError, StorageError
from turnwise.events import Observer, RunnerLeft, ServiceLeft, StorageAsked
from turnwise.heartbeat import Heartbeat
from turnwise.scheduler.at_work import Service
from turnwise.scheduler.calls import Loops
from turnwise.scheduler.link import HEARTBEATS, OPENING, READS, WRITES, Link, lane_of
from turnwise.scheduler.services import Services
from turnwise.scheduler.starting import may_start
from turnwise.storages import Pulse, Storage, Swapped

_log = logging.getLogger("turnwise.scheduler.engine")
_FIRST_BACKOFF_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 5.0
_LAST_WORDS_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 0.5
_WITHDRAWN_AGAIN = SECOND


def monotonic_us() -> int:
    """Microseconds that only grow. On Linux they count while the host is suspended, too."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    return time.monotonic_ns() // 1000


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
        # SimpleQueues, because their put() is safe in a signal handler that interrupts their get().
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._beats: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.services = Services(
            group=group,
            observers=observers,
            loops=loops,
            monotonic=monotonic,
            changed=self.wake,
        )
        self.opened = threading.Event()
        self.has_started = False
        self.open_error: Exception | None = None
        self.failure: Exception | None = None  # why it ends, unless it was asked to
        self.link = Link(group, runner_id, monotonic())
        self.has_ended = False
        self._open = open_storage
        self._storage: Storage | None = None
        self._group, self._runner_id, self._boot_id = group, runner_id, boot_id
        self._monotonic = monotonic
        self._heartbeat: Heartbeat | None = None
        self._threads: list[threading.Thread] = []
        self._hearts_end = threading.Event()
        self._stop_at: int | None = None  # when the grace of running functions is over
        self._last_words_end: int | None = None

    # For the scheduler ------------------------------------------------------------------------

    def add(self, service: Service) -> None:
        """Drive one more service, from now on."""
        self.services.add(service)
        self._mind_timeout(service)
        self.wake()

    def _mind_timeout(self, service: Service) -> None:
        """Heartbeats are sent as often as the service with the shortest timeout needs."""
        timeout = service.machine.heartbeat_timeout
        with self.services.lock:
            if self._heartbeat is None:
                self._heartbeat = Heartbeat(
                    group=self._group,
                    runner_id=self._runner_id,
                    boot_id=self._boot_id,
                    timeout=timeout,
                )
            else:
                self._heartbeat.shorten(timeout)
            self.link.patience = 2 * self._heartbeat.interval  # tries are one interval apart
        self._beats.put(None)

    def remove(self, name: str) -> None:
        """Drive a service until its turn has ended, where it has one, and then no more."""
        self.services.let_leave(name)
        self.wake()

    def replace(self, service: Service) -> None:
        """Drive a service in the place of the one of its name, once that one's turn has ended."""
        if self.services.replace(service):
            self._mind_timeout(service)
        self.wake()

    def start(self) -> None:
        """Start the two threads.

        Raises:
            RuntimeError: the system has no thread left.
        """
        for name, target in (("driver", self._drive), ("heartbeat", self._beat)):
            thread = threading.Thread(target=target, name=f"turnwise-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    @property
    def is_stopping(self) -> bool:
        """Whether the engine was asked to stop."""
        return self.services.is_stopping

    def request_stop(self, grace: float | None = None) -> None:
        """Start no turn any more, and end. Safe in a signal handler.

        Args:
            grace: seconds that running functions get; None for as long as they take. Of several
                requests the one that ends first counts.
        """
        if grace is not None:
            ends = self._monotonic() + int(grace * SECOND)
            self._stop_at = ends if self._stop_at is None else min(ends, self._stop_at)
        self.services.is_stopping = True
        self.wake()

    def join(self, timeout: float | None) -> bool:
        """Wait until both threads have ended; whether they have.

        In steps, so that a signal that interrupts nothing is heard soon all the same.
        """
        end = math.inf if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            while thread.is_alive() and (left := end - time.monotonic()) > 0:
                thread.join(min(left, _LONGEST_WAIT_SECONDS))
        return not any(thread.is_alive() for thread in self._threads)

    def is_one_of_ours(self) -> bool:
        """Whether this thread is one of the engine's two."""
        return threading.current_thread() in self._threads

    def wake(self) -> None:
        """Have the driver look what there is to do. Safe in a signal handler."""
        self._wakeups.put(None)

    # The driver -------------------------------------------------------------------------------

    def _drive(self) -> None:
        try:
            storage = self._open_storage()
            if storage is not None:
                self._wait_for_heartbeat()
                self._loop(storage)
        except BaseException as error:  # noqa: BLE001 (a thread must not end without a word)
            _log.exception("the driver of runner %s ends: a bug", self._runner_id)
            self._has_failed(error)
        finally:
            self.has_ended = True
            self.opened.set()
            self._end()

    def _has_failed(self, error: BaseException) -> None:
        """Remember the bug that ends the engine; the first one counts."""
        if self.failure is None:
            self.failure = RuntimeError(f"the scheduler has ended by a bug: {error!r}")
            self.failure.__cause__ = error

    def _end_without_heartbeats(self) -> None:
        """End the driver where nobody sends heartbeats any more: it would lose every turn.

        Raises:
            RuntimeError: it is so.
        """
        if self.failure is not None:
            raise RuntimeError("nobody sends heartbeats any more") from self.failure

    def _open_storage(self) -> Storage | None:
        """Open the storage, however long it takes; None where it never will be."""
        backoff = _FIRST_BACKOFF_SECONDS
        while not self.is_stopping:
            try:
                self._storage = self.services.storage = self._open()
            except StorageError as error:
                self.open_error = error
                self._note(OPENING, self._failed(OPENING, error))
                self.opened.set()
                self._sleep(backoff)
                backoff = min(backoff * 2, _LONGEST_BACKOFF_SECONDS)
            except Exception as error:  # noqa: BLE001 (the scheduler raises it in its caller)
                if self.has_started:  # or whoever starts it is told
                    _log.exception("the storage cannot be opened, and is not tried again")
                self.open_error = self.failure = error
                return None
            else:
                self.open_error = None
                self._note(OPENING, None)
                self.opened.set()
                self._beats.put(None)
                return self._storage
        return None

    def _wait_for_heartbeat(self) -> None:
        """A runner that has not joined would not count: the first heartbeat comes first."""
        while not self.is_stopping and (self._heartbeat is None or not self._heartbeat.has_joined):
            self._end_without_heartbeats()
            self._sleep(None)

    def _loop(self, storage: Storage) -> None:
        while True:
            self._end_without_heartbeats()
            at = self._monotonic()
            grace_ends = self._stop_services(at) if self.is_stopping else None
            todo = [(each, self.services.next(each, at)) for each in self.services]
            requests = [(each, action) for each, action in todo if isinstance(action, Request)]
            turns = [(each, action) for each, action in todo if isinstance(action, Serve)]
            for each, serve in turns:  # first, for their slots pass while the storage is asked
                self._serve(each, serve)
            self._ask(storage, requests)
            left = [each for each, action in todo if isinstance(action, Finished)]
            if self.is_stopping:
                left = []  # who leaves altogether need not take back its offers
            for each in left:
                self._let_go(storage, each)
            if requests or turns or left:
                continue
            waits = [action.until for _, action in todo if isinstance(action, Wait)]
            if self.is_stopping and self._may_end(at, nothing_left=len(waits) == 0):
                return
            self._sleep(self._pause([*waits, grace_ends], at))

    def _pause(self, instants: Sequence[int | None], at: int) -> float | None:
        """How long there is nothing to do, in seconds; None for until something is told."""
        all_of_them = (*instants, self._last_words_end)
        known = [each for each in all_of_them if each is not None]
        return max(0.0, (min(known) - at) / SECOND) if known else None

    def _sleep(self, seconds: float | None) -> None:
        """Wait, or until something wakes the driver; one wake-up stands for all before it."""
        with contextlib.suppress(queue.Empty):
            self._wakeups.get(timeout=seconds)
            while True:
                self._wakeups.get_nowait()

    def _ask(self, storage: Storage, requests: Sequence[tuple[Service, Request]]) -> None:
        """Carry out what the machines ask: the looks in one request, the rest one by one."""
        looks = [each for each, request in requests if isinstance(request, Look)]
        for each, request in requests:
            if not isinstance(request, Look | FindStable):
                self._ask_one(storage, each, request)
        self._plan(storage, [each for each in requests if isinstance(each[1], FindStable)])
        if looks:
            self._look(storage, looks)

    def _look(self, storage: Storage, looks: Sequence[Service]) -> None:
        began = self._monotonic()
        try:
            reading = storage.read(self._group, [each.name for each in looks])
        except Exception as error:  # noqa: BLE001 (see _failed)
            failed = self._failed(READS, error)
            self._tell_asked("read", began, failed)
            for each in looks:
                self._answer(each, failed, READS)
        else:
            self._tell_asked("read", began, None)
            for each in looks:
                self._answer(each, seen(reading, each.name), READS)

    def _plan(self, storage: Storage, questions: list[tuple[Service, Request]]) -> None:
        """Ask for the sets of several services, and make the plan of each before the next one.

        Other processes may be planning the same services now. Each begins with another one; and
        who finds a plan made already looks again at what is left, in one request.
        """
        random.shuffle(questions)
        while questions:
            service, question = questions.pop()
            self._ask_one(storage, service, question)
            follows = self.services.next(service, self._monotonic())
            if not isinstance(follows, Request):
                continue
            answer = self._ask_one(storage, service, follows)
            if isinstance(answer, Swapped) and not answer.done:
                for each, _ in questions:
                    self.services.answer(each, NotSent())
                return

    def _ask_one(self, storage: Storage, service: Service, request: Request) -> Answer:
        lane = lane_of(request)
        answer = self._tried(storage, service, request, lane)
        self._answer(service, answer, lane)
        return answer

    def _tried(self, storage: Storage, service: Service, request: Request, lane: str) -> Answer:
        began = self._monotonic()
        try:
            answer = carry_out(storage, self._group, service.name, request)
        except Exception as error:  # noqa: BLE001 (see _failed)
            answer = self._failed(lane, error)
        self._tell_asked(OPERATIONS[type(request)], began, answer)
        return answer

    def _tell_asked(self, operation: str, began: int, answer: object) -> None:
        asked = StorageAsked(
            group=self._group,
            runner_id=self._runner_id,
            operation=operation,
            took=self._monotonic() - began,
            error=answer.error if isinstance(answer, Failed) else None,
        )
        self.services.tell(None, [asked])

    def _failed(self, lane: str, error: Exception) -> Failed:
        """A storage that raises what it must not is away, too; what it said is logged once."""
        if not isinstance(error, StorageError) and not self.link.fails_in(lane):
            _log.error("the storage has failed as no storage may", exc_info=error)
        return Failed(str(error) or repr(error), isinstance(error, SchemaError))

    def _answer(self, service: Service, answer: Answer, lane: str) -> None:
        self._note(lane, answer if isinstance(answer, Failed) else None)
        self.services.answer(service, answer)

    def _serve(self, service: Service, serve: Serve) -> None:
        heart = self._heartbeat
        assert heart is not None  # noqa: S101 (there is a service)
        with self.services.lock:  # the heartbeats' thread may be taking an answer
            if not may_start(service.machine.turn, heart, self._monotonic()):
                return
        self._beats.put(None)  # it may have been hurried
        self.services.serve(service, serve)

    def _let_go(self, storage: Storage, service: Service) -> None:
        """Let go of a service that was removed; where the storage is away, try again later.

        Its offer is taken back, so that nobody plans with this runner any more. A successor's
        offer takes the place of it.
        """
        at, is_withdrawn = self._monotonic(), service.successor is None
        try:
            if is_withdrawn:
                storage.withdraw(self._group, self._runner_id, self._boot_id, service.name)
                if service.machine.leaves_a_gap(at):
                    storage.advance(self._group)
                self._note(WRITES, None)
        except Exception as error:  # noqa: BLE001 (see _failed)
            self._note(WRITES, self._failed(WRITES, error))
            service.rests_until = at + _WITHDRAWN_AGAIN
        else:
            self.services.has_left(service, is_withdrawn=is_withdrawn)
            if service.name not in self.services.by_name:
                left = ServiceLeft(
                    group=self._group, runner_id=self._runner_id, service=service.name
                )
                self.services.tell(None, [left])

    # Stopping ---------------------------------------------------------------------------------

    def _stop_services(self, at: int) -> int | None:
        """Stop what can be; when to look again because of the grace."""
        self.services.request_stop()
        if self._stop_at is None or at < self._stop_at:
            return self._stop_at
        return self.services.end_grace(at)

    def _may_end(self, at: int, *, nothing_left: bool) -> bool:
        """Whether all is said, or a storage that is away has had enough time to hear it."""
        if nothing_left:
            return True
        if self.services.at_work:
            self._last_words_end = None
        elif self._last_words_end is None:
            self._last_words_end = at + int(_LAST_WORDS_SECONDS * SECOND)
        return self._last_words_end is not None and at >= self._last_words_end

    def _end(self) -> None:
        """Stop the heartbeats, and leave: but not while functions are at work, after a bug.

        Who leaves says that nothing of it runs any more. Where something does, the others wait for
        the heartbeat timeout, as for a process that has crashed.
        """
        self.services.is_stopping = True  # nobody would grant a wish any more
        self.services.take_wishes(whether=False)
        self.services.lose()
        self._hearts_end.set()
        self._beats.put(None)
        storage, heart = self._storage, self._heartbeat
        for thread in self._threads[1:]:
            thread.join(_LAST_WORDS_SECONDS)
        if storage is None or heart is None or not heart.has_joined or self.services.at_work:
            return
        at = self._monotonic()
        with self.services.lock:
            gap = any(each.machine.leaves_a_gap(at) for each in self.services)
        try:
            storage.leave(self._group, self._runner_id, self._boot_id)
            if gap:
                storage.advance(self._group)
        except Exception as error:  # noqa: BLE001 (whatever it is, the program ends)
            _log.warning("runner %s could not say that it leaves: %s", self._runner_id, error)
        else:
            left = RunnerLeft(group=self._group, runner_id=self._runner_id)
            self.services.tell(None, [left])

    # Heartbeats -------------------------------------------------------------------------------

    def _beat(self) -> None:
        try:
            while not self._hearts_end.is_set():
                heart, storage = self._heartbeat, self._storage
                if heart is None or storage is None:
                    self._beats.get()
                    continue
                at = self._monotonic()
                with self.services.lock:
                    wait = heart.next(at)
                if wait is None:
                    self._send(heart, storage, at)
                    continue
                assert wait.until is not None  # noqa: S101 (only this thread sends)
                with contextlib.suppress(queue.Empty):
                    self._beats.get(timeout=max(0.0, (wait.until - at) / SECOND))
        except BaseException as error:  # noqa: BLE001 (a thread must not end without a word)
            _log.exception("the heartbeats of runner %s end: a bug", self._runner_id)
            self._has_failed(error)
            self.wake()

    def _send(self, heart: Heartbeat, storage: Storage, at: int) -> None:
        with self.services.lock:
            beat = heart.beat(at, self.services.runs)
        answer: Pulse | Failed
        try:
            answer = storage.heartbeat(self._group, beat)
        except Exception as error:  # noqa: BLE001 (see _failed)
            answer = self._failed(HEARTBEATS, error)
        self._tell_asked("heartbeat", at, answer)
        self._note(HEARTBEATS, answer if isinstance(answer, Failed) else None)
        with self.services.lock:
            heard, events = heart.receive(self._monotonic(), answer)
        self.services.tell(None, events)
        self.services.heard(heard)
        self.wake()

    def _note(self, lane: str, failed: Failed | None) -> None:
        """One line when the storage goes, and one when it is back, whichever thread saw it."""
        error, needs_repair = (
            (None, False) if failed is None else (failed.error, failed.needs_repair)
        )
        with self.services.lock:
            events = self.link.note(lane, error, self._monotonic(), needs_repair=needs_repair)
        if events:
            self.services.tell(None, events)
        if error is not None or events:
            with self.services.lock:  # or an older answer of the other thread's would count
                self.services.take_wishes(whether=not self.link.is_failing)
