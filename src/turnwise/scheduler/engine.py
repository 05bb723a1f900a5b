"""The threads that drive a scheduler's machines.

One thread, the *driver*, drives the machines of all services and asks the storage for them. A
second thread sends the heartbeats, so that nothing holds them up. What they share is in
:mod:`turnwise.scheduler.services`; nobody holds its lock while the storage is asked, which is what
:mod:`turnwise.scheduler.asking` does.

A function that ends, a heartbeat that shows something new, and a request to stop wake the driver
through a queue, which a signal handler may write to at any time.
"""

import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence

from turnwise.actions import Action, Finished, Request, Serve, Wait
from turnwise.cycles import SECOND
from turnwise.errors import SchemaError, StorageError
from turnwise.events import Observer, ServiceLeft
from turnwise.scheduler.asking import Asking
from turnwise.scheduler.at_work import Service, StillAtWork
from turnwise.scheduler.calls import Loops
from turnwise.scheduler.leaving import LAST_WORDS, Leaving
from turnwise.scheduler.link import OPENING
from turnwise.scheduler.services import Services
from turnwise.scheduler.starting import may_start
from turnwise.storages import Storage

_log = logging.getLogger("turnwise.scheduler.engine")
_FIRST_BACKOFF_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 5.0
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
        still_at_work: what has not returned of the scheduler's earlier starts.
        waits: whether whoever starts it waits for a storage that does not answer.
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
        still_at_work: StillAtWork,
        waits: bool,
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
            still_at_work=still_at_work,
        )
        self.asking = Asking(
            self.services,
            group=group,
            runner_id=runner_id,
            boot_id=boot_id,
            reach=self._reach,
            monotonic=monotonic,
        )
        self.opened = threading.Event()
        self.has_started = False
        self.open_error: Exception | None = None
        self.failure: Exception | None = None  # why it ends, unless it was asked to
        self.has_ended = False
        self._open, self._waits = open_storage, waits
        self._storage: Storage | None = None
        self._group, self._runner_id = group, runner_id
        self._monotonic = monotonic
        self._threads: list[threading.Thread] = []
        self._hearts_end = threading.Event()
        self._leaving = Leaving()

    # For the scheduler ------------------------------------------------------------------------

    def add(self, service: Service) -> None:
        """Drive one more service, from now on."""
        self.services.add(service)
        self._mind(service)
        self.wake()

    def _mind(self, service: Service) -> None:
        self.asking.mind(service)
        self._beats.put(None)

    def remove(self, name: str) -> None:
        """Drive a service until its turn has ended, where it has one, and then no more."""
        self.services.let_leave(name)
        self.wake()

    def replace(self, service: Service) -> None:
        """Drive a service in the place of the one of its name, once that one's turn has ended."""
        if self.services.replace(service):
            self._mind(service)
        self.wake()

    def start(self) -> None:
        """Start the two threads.

        Raises:
            RuntimeError: the system has no thread left.
        """
        for name, target in (("driver", self._drive), ("heartbeat", self._beat)):
            thread = threading.Thread(target=target, name=f"turnwise-{name}", daemon=True)
            self._threads.append(thread)  # before it tells an observer, who may ask for a stop
            try:
                thread.start()
            except RuntimeError:
                self._threads.remove(thread)
                raise

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
            self._leaving.give_grace_until(self._monotonic() + int(grace * SECOND))
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
            if self._open_storage():
                self._wait_for_heartbeat()
                self._loop()
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

    def _reach(self) -> Storage:
        assert self._storage is not None  # noqa: S101 (nobody asks before it is open)
        return self._storage

    def _open_storage(self) -> bool:
        """Open the storage, however long it takes; whether it was."""
        backoff = _FIRST_BACKOFF_SECONDS
        while not self.is_stopping and self.failure is None:
            if self._try_to_open():
                self._beats.put(None)
                return True
            self._sleep(backoff)
            backoff = min(backoff * 2, _LONGEST_BACKOFF_SECONDS)
        return False

    def _try_to_open(self) -> bool:
        """Try it once. Whoever starts the scheduler is told what is no matter of waiting."""
        try:
            self._storage = self.services.storage = self._open()
        except StorageError as error:
            self.open_error = error
            if self.has_started or (self._waits and not isinstance(error, SchemaError)):
                self.asking.note(OPENING, self.asking.failed(OPENING, error))
        except Exception as error:  # noqa: BLE001 (the scheduler raises it in its caller)
            if self.has_started:
                _log.exception("the storage cannot be opened, and is not tried again")
            self.open_error = self.failure = error
        else:
            self.open_error = None
            self.asking.note(OPENING, None)
        self.opened.set()
        return self.open_error is None

    def _wait_for_heartbeat(self) -> None:
        """A runner that has not joined would not count: the first heartbeat comes first."""
        while not (self.is_stopping or self._has_joined):
            self._end_without_heartbeats()
            self._sleep(None)

    @property
    def _has_joined(self) -> bool:
        return self.asking.heart is not None and self.asking.heart.has_joined

    def _loop(self) -> None:
        while True:
            self._end_without_heartbeats()
            at = self._monotonic()
            grace_ends = None
            if self.is_stopping:
                grace_ends = self.services.stop(at, self._leaving.grace_ends)
            todo = [(each, self.services.next(each, at)) for each in self.services]
            if self._do(todo):
                continue
            waits = [action.until for _, action in todo if isinstance(action, Wait)]
            if self.is_stopping and self._leaving.may_leave(
                at, is_all_said=not waits, is_at_work=bool(self.services.at_work)
            ):
                return
            self._sleep(self._pause([*waits, grace_ends], at))

    def _do(self, todo: Sequence[tuple[Service, Action]]) -> bool:
        """Do what the machines say; whether there was anything but to wait."""
        requests = [(each, action) for each, action in todo if isinstance(action, Request)]
        turns = [(each, action) for each, action in todo if isinstance(action, Serve)]
        left = [each for each, action in todo if isinstance(action, Finished)]
        if self.is_stopping:
            left = []  # who leaves altogether need not take back its offers
        for each, serve in turns:  # first, for their slots pass while the storage is asked
            self._serve(each, serve)
        self.asking.all_of(requests)
        for each in left:
            self._let_go(each)
        return bool(requests or turns or left)

    def _pause(self, instants: Sequence[int | None], at: int) -> float | None:
        """How long there is nothing to do, in seconds; None for until something is told."""
        all_of_them = (*instants, self._leaving.last_words_end)
        known = [each for each in all_of_them if each is not None]
        return max(0.0, (min(known) - at) / SECOND) if known else None

    def _sleep(self, seconds: float | None) -> None:
        """Wait, or until something wakes the driver; one wake-up stands for all before it."""
        with contextlib.suppress(queue.Empty):
            self._wakeups.get(timeout=seconds)
            while True:
                self._wakeups.get_nowait()

    def _serve(self, service: Service, serve: Serve) -> None:
        heart = self.asking.heart
        assert heart is not None  # noqa: S101 (there is a service)
        with self.services.lock:  # the heartbeats' thread may be taking an answer
            if not may_start(service.machine.turn, heart, self._monotonic()):
                return
        self._beats.put(None)  # it may have been hurried
        self.services.serve(service, serve)

    def _let_go(self, service: Service) -> None:
        """Let go of a service that was removed; where the storage is away, try again later.

        A successor's offer takes the place of its own.
        """
        is_withdrawn = service.successor is None
        if is_withdrawn and not self.asking.withdraw(service):
            service.rests_until = self._monotonic() + _WITHDRAWN_AGAIN
            return
        self.services.has_left(service, is_withdrawn=is_withdrawn)
        if service.name not in self.services.by_name:
            left = ServiceLeft(group=self._group, runner_id=self._runner_id, service=service.name)
            self.services.tell(None, [left])

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
        for thread in self._threads[1:]:
            if thread.is_alive():  # one that is not started yet will end at once
                thread.join(LAST_WORDS / SECOND)
        if self._has_joined and not self.services.at_work:
            self.asking.leave()

    # Heartbeats -------------------------------------------------------------------------------

    def _beat(self) -> None:
        try:
            while not self._hearts_end.is_set():
                heart = self.asking.heart
                if heart is None or self._storage is None:
                    self._beats.get()
                    continue
                at = self._monotonic()
                with self.services.lock:
                    wait = heart.next(at)
                if wait is None:
                    self.asking.beat(heart)
                    self.wake()
                    continue
                assert wait.until is not None  # noqa: S101 (only this thread sends)
                with contextlib.suppress(queue.Empty):
                    self._beats.get(timeout=max(0.0, (wait.until - at) / SECOND))
        except BaseException as error:  # noqa: BLE001 (a thread must not end without a word)
            _log.exception("the heartbeats of runner %s end: a bug", self._runner_id)
            self._has_failed(error)
            self.wake()
