"""One participant: begin a turn, finish it, or loop.

Not guaranteed
--------------
A process that is suspended in the middle of its work for longer than the heartbeat timeout, and
then wakes, may write after its successor started. No storage can stop it. :meth:`Turn.check`
raises :class:`TurnLost` then, and :attr:`Turn.fencing_token` lets a resource refuse the late
write.

Rules
-----
1. A turn starts only after the storage's gate has admitted it. Where the storage does not
   answer, none starts.
2. A runner starts at most one turn in a slot.
3. A turn's deadline is counted on the runner's monotonic clock from before the request left, so
   that it can only be early.
4. A failing service ends its turn, never the loop.

A round, which is one try at a turn, is in :mod:`turnwise.rounds`; this is the loop around it.
"""

import contextlib
import logging
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from turnwise.atomic_service import AtomicServiceDecisionReason, AtomicServiceExecutionStatus
from turnwise.backends import CYCLE_SERVED, Backend, StorageError
from turnwise.durations import format_duration
from turnwise.old_settings import Settings
from turnwise.old_turn import Service, Turn, TurnFailed, TurnLost, call_service
from turnwise.own_process import OwnProcess
from turnwise.pace import monotonic_seconds
from turnwise.rounds import HAD_ITS_TURN, TurnTaker

_log = logging.getLogger("turnwise")

_COMPLETED = AtomicServiceExecutionStatus.COMPLETED
_ABANDONED = AtomicServiceExecutionStatus.ABANDONED
_EVERYDAY = ("", CYCLE_SERVED, HAD_ITS_TURN)
# Whose turn this is; asyncio hands it on to what it calls in other threads.
_serving: "ContextVar[Runner | None]" = ContextVar("serving", default=None)


def default_runner_id() -> str:
    """A runner id that is unique to this process: host, pid and a random part."""
    return f"{socket.gethostname()[:200]}-{os.getpid()}-{secrets.token_hex(4)}"


class Runner(TurnTaker):
    """One participant in the turns at a service.

    Use :meth:`run` to loop in this thread, :meth:`start` and :meth:`stop` (or ``with``) to loop
    in a background thread, or :meth:`begin` and :meth:`finish` to take single turns. One runner
    serves one thread at a time.

    Args:
        backend: the storage that all runners of the service share.
        service: the service's name, 1 to 255 characters.
        function: what to run in each turn: a plain function or a coroutine function that takes
            the :class:`Turn`. Not needed for :meth:`begin` and :meth:`finish`.
        settings: the same for all runners of the service; the defaults where left out.
        runner_id: 1 to 255 characters, different for each runner; by default unique to the
            process. A fixed one (a pod's name, say) lets a restarted process keep its place.
        may_run: whether this runner may be given turns at all.
        heartbeat_thread: whether a daemon thread keeps a turn alive from :meth:`begin` to
            :meth:`finish`. If False, call :meth:`heartbeat` with the turn three times in each
            ``heartbeat_timeout``.
        monotonic: gives seconds that only grow.
        sleep: waits so many seconds between two tries at a storage that does not answer.

    Raises:
        TypeError: an argument is of another type than it must be.
        ValueError: a name is empty, too long, not Unicode, or has control characters.
    """

    def __init__(
        self,
        backend: Backend,
        service: str,
        function: Service | None = None,
        *,
        settings: Settings | None = None,
        runner_id: str | None = None,
        may_run: bool = True,
        heartbeat_thread: bool = True,
        monotonic: Callable[[], float] = monotonic_seconds,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        if function is not None and not callable(function):
            raise TypeError(f"function must be callable with a Turn, got {function!r}")
        super().__init__(
            backend,
            service,
            settings=Settings() if settings is None else settings,
            runner_id=default_runner_id() if runner_id is None else runner_id,
            may_run=may_run,
            heartbeat_thread=heartbeat_thread,
            monotonic=monotonic,
            sleep=sleep,
        )
        self._own_process = OwnProcess(f"runner {self.runner_id} of service {self.service}")
        self._function = function
        # A SimpleQueue, because its put() is safe in a signal handler that interrupts its get().
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._last_refusal: tuple[str, datetime | None] = ("", None)
        self._loop_thread: int | None = None
        self._loop_ended = threading.Event()
        self._loop_ended.set()

    def run(self) -> None:
        """Take turns until :meth:`request_stop` or :meth:`stop` is called, then leave.

        Sleeps until something can happen: its next slot, the next cycle, the next heartbeat.
        Losing the storage is logged and tried again, and never starts a turn. A request to stop
        that came before counts, too.

        Raises:
            RuntimeError: the runner loops already.
            ForkError: the runner was made before a fork.
            TypeError: the runner was built without a function.
        """
        self._claim_the_loop()
        self._loop()

    def step(self) -> float:
        """One step of the loop: a heartbeat or a round, with its turn if there is one.

        Answers the seconds to wait for the next step. Never raises for a storage that does not
        answer, nor for a service that fails.

        Raises:
            TypeError: the runner was built without a function.
        """
        self._required_function()
        try:
            if self._pace.round_is_due():
                self._round()
            else:
                self.heartbeat()
        except StorageError as error:
            self._storage_is_lost = True
            return self._back_off("the storage does not answer: %s", error)
        except Exception:  # noqa: BLE001 (a bug must not end the service silently)
            _log.exception("runner %s: a round failed", self.runner_id)
            self._end_keeper()  # the turn that it may have been in is over
            return self._back_off("a round failed; see above")
        self._pace.recovered()
        return self._pace.seconds_to_next_step()

    def request_stop(self) -> None:
        """Ask the loop to end, after the turn that it may be in. Safe in a signal handler."""
        self._stop_requested = True
        self._wakeups.put(None)

    def start(self) -> None:
        """Loop in a background thread until :meth:`stop`.

        Raises:
            RuntimeError: the runner loops already, or the system has no thread left.
            ForkError: the runner was made before a fork.
            TypeError: the runner was built without a function.
        """
        self._claim_the_loop()
        self._stop_requested = False
        self._wakeups = queue.SimpleQueue()
        thread = threading.Thread(target=self._loop, name=f"turnwise-{self.service}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._loop_ended.set()  # nobody else will, and stop() waits for it
            raise

    def stop(self, timeout: float | None = None) -> bool:
        """End the loop, after the turn that it may be in, and leave the service.

        Waits for ``timeout`` seconds, or as long as it takes. Answers whether the loop has
        ended; where it has not, its turn goes on, and keeps its gate, until it ends. Called from
        within a turn, its tasks or its ``asyncio.to_thread``, it does not wait. A thread of its
        own that a turn waits for needs a ``timeout``.

        Raises:
            ForkError: the runner was made before a fork; its thread is not in this process.
        """
        self._own_process.check()
        self.request_stop()
        if _serving.get() is self or self._loop_thread == threading.get_ident():
            return False
        return self._loop_ended.wait(timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _claim_the_loop(self) -> None:
        self._own_process.check()
        self._required_function()
        if not self._loop_ended.is_set():
            raise RuntimeError(f"runner {self.runner_id} of service {self.service} runs already")
        self._loop_ended.clear()

    def _loop(self) -> None:
        self._loop_thread = threading.get_ident()
        _log.info("runner %s joins service %s", self.runner_id, self.service)
        try:
            while not self._stop_requested:
                self._wait(self.step())
        except BaseException as error:
            _log.warning("runner %s: the loop ends: %r", self.runner_id, error)
            raise
        finally:
            self._end_the_loop()

    def _end_the_loop(self) -> None:
        try:
            self._end_keeper()  # a turn that was torn off must not be kept alive
            self._say_goodbye()
        finally:
            self._loop_thread = None
            self._loop_ended.set()

    def _wait(self, seconds: float) -> None:
        with contextlib.suppress(queue.Empty):
            self._wakeups.get(timeout=seconds)

    def _back_off(self, message: str, *arguments: object) -> float:
        delay = self._pace.back_off()
        _log.warning(f"runner %s: {message}; next try in %.1f s", self.runner_id, *arguments, delay)
        return delay

    def _required_function(self) -> Service:
        if self._function is None:
            raise TypeError("a Runner needs a function to run; give it as the third argument")
        return self._function

    def _say_goodbye(self) -> None:
        try:
            self.leave()
        except StorageError as error:
            _log.warning("runner %s could not say that it leaves: %s", self.runner_id, error)
        else:
            _log.info("runner %s has left service %s", self.runner_id, self.service)

    def _round(self) -> None:
        outcome = self.begin()
        if isinstance(outcome, Turn):
            self._serve(outcome)
            return
        gate = outcome.reason is AtomicServiceDecisionReason.ASSIGNED
        why = outcome.skip_message if gate else f"{outcome.reason} {outcome.skip_message}".rstrip()
        # The gate is asked often while a run is in the way: worth saying once in a slot.
        before, self._last_refusal = (
            self._last_refusal,
            (why, outcome.slot_start or outcome.cycle_start),
        )
        again = before == self._last_refusal or self._was_in_time(outcome)
        everyday = again or outcome.skip_message in _EVERYDAY
        level = logging.DEBUG if everyday else logging.INFO
        _log.log(level, "runner %s: no turn: %s", self.runner_id, why)

    def _serve(self, turn: Turn) -> None:
        run_id = turn.run.atomic_service_id.atomic_service_run_id
        _log.info("turn %d starts: %s", turn.fencing_token, run_id)
        began = self._monotonic()
        status, reason = _ABANDONED, "exception:BaseException"
        serving = _serving.set(self)
        try:
            call_service(self._required_function(), turn)
            status, reason = _COMPLETED, ""
        except TurnFailed as failure:
            reason = failure.reason
        except BaseException as error:
            reason = f"exception:{type(error).__name__}"
            if _ends_the_loop(error):
                raise
            _log.exception("the service failed in %s", turn.run.atomic_service_id)
        finally:
            _serving.reset(serving)
            self._end_turn(turn, status, reason, self._monotonic() - began)

    def _end_turn(
        self, turn: Turn, status: AtomicServiceExecutionStatus, reason: str, seconds: float
    ) -> None:
        took = format_duration(timedelta(milliseconds=round(seconds * 1000)))
        how = f"{status} {reason}".rstrip()
        try:
            self.finish(turn, status, reason)
        except TurnLost as lost:
            _log.error("turn %d lost after %s: %s", turn.fencing_token, took, lost)
        except StorageError as error:
            _log.error(
                "turn %d ended after %s as %s, which could not be recorded: %s",
                turn.fencing_token,
                took,
                how,
                error,
            )
        else:
            level = logging.INFO if status is _COMPLETED else logging.WARNING
            _log.log(level, "turn %d ends after %s: %s", turn.fencing_token, took, how)


def _ends_the_loop(error: BaseException) -> bool:
    """Whether what a service raised is meant for the program, not for the turn.

    In the main thread it may come from a signal handler. In any other nothing but the service
    can have raised it, and ending the thread would stop the service without a word.
    """
    meant = isinstance(error, KeyboardInterrupt | SystemExit)
    return meant and threading.current_thread() is threading.main_thread()
