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

A round is: heartbeat (its answer gives the storage's now) -> the cycle's frozen schedule ->
decide -> gate -> a :class:`Turn`, or the claim that says why not.
"""

import asyncio
import inspect
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self
from uuid import uuid4

from turnwise.atomic_service import (
    AtomicServiceClaim,
    AtomicServiceDecisionReason,
    AtomicServiceExecutionStatus,
    AtomicServiceRun,
)
from turnwise.backends import (
    NO_MARGIN,
    Admission,
    Backend,
    ExecutionRecord,
    Heartbeat,
    Look,
    Participant,
    StorageError,
)
from turnwise.durations import format_duration
from turnwise.pace import Pace
from turnwise.settings import Settings
from turnwise.timetable import decide, first_cycle_after_joining
from turnwise.turn import Service, Turn, TurnFailed, TurnLost

_log = logging.getLogger("turnwise")

_COMPLETED = AtomicServiceExecutionStatus.COMPLETED
_ABANDONED = AtomicServiceExecutionStatus.ABANDONED
_LONGEST_NAME = 255
_FIRST_BACKOFF_SECONDS = 0.1


def default_runner_id() -> str:
    """A runner id that is unique to this process: host, pid and a random part."""
    return f"{socket.gethostname()[:200]}-{os.getpid()}-{secrets.token_hex(4)}"


def _monotonic() -> float:
    """Seconds that only grow. On Linux they count while the host is suspended, too."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Runner:
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
            :meth:`finish`. If False, call :meth:`heartbeat` three times in each
            ``heartbeat_timeout``.
        monotonic: gives seconds that only grow.
        sleep: waits so many seconds between two tries at a storage that does not answer.

    Raises:
        ValueError: a name is empty or too long.
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
        monotonic: Callable[[], float] = _monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.service = _checked_name("service", service)
        self.runner_id = _checked_name("runner_id", runner_id or default_runner_id())
        self.settings = settings or Settings()
        self._who = Participant(self.runner_id, uuid4().hex, may_run)
        self._backend = backend
        self._function = function
        self._heartbeat_thread = heartbeat_thread
        self._monotonic = monotonic
        self._stop_requested = False
        self._woken = threading.Event()
        self._sleep = sleep
        self._thread: threading.Thread | None = None
        self._keeper: _HeartbeatThread | None = None
        self._settings_published = False
        self._other_processes: set[str] = set()
        self._pace = Pace(self.settings, monotonic)
        self._used_slot: datetime | None = None

    # One turn ------------------------------------------------------------------------------

    def begin(self) -> Turn | AtomicServiceClaim:
        """Take part in this moment's decision: a turn, or the claim that says why not.

        Where the decision cleared this runner and the gate did not, the claim has no run, and
        its ``skip_message`` is the gate's answer (``prior_running:<run id>``,
        ``cycle_served``, ``no_margin``). A turn must be ended with :meth:`finish`.

        Raises:
            StorageError: the storage does not answer; no turn was started.
        """
        look = self._look()
        claim = decide(self.runner_id, look.scheduled, look.now, self.settings)
        self._pace.round_at(self._next_chance(claim, look))
        run = claim.atomic_service_run
        if run is not None and run.slot_start == self._used_slot:
            self._pace.round_at(look.cycle.end)
            return _refused(claim, "this runner has had its turn in this slot")
        if run is None:
            if claim.skip_reason is not None:
                self._backend.block(self.service, claim, look)
            return claim
        return self._pass_the_gate(claim, run, look)

    def finish(
        self,
        turn: Turn,
        status: AtomicServiceExecutionStatus = _COMPLETED,
        reason: str = "",
    ) -> ExecutionRecord:
        """End a turn: close its execution. Tried until the storage answers, recorded once.

        Args:
            turn: what :meth:`begin` gave.
            status: COMPLETED or ABANDONED.
            reason: why, where there is something to say.

        Raises:
            TurnLost: somebody else had closed the execution; what they wrote stands.
            StorageError: the storage has not answered for the heartbeat timeout, after which it
                gives the turn up for dead by itself.
        """
        try:
            record = self._close_execution(turn, status, reason)
        finally:
            self._end_heartbeat_thread()
        if record is None or (record.status, record.reason) != (status, reason):
            what = (
                "it is not kept any more" if record is None else f"{record.status}, {record.reason}"
            )
            raise TurnLost(f"{turn.run.atomic_service_id}: somebody else closed this run: {what}")
        return record

    def heartbeat(self, turn: Turn | None = None) -> Heartbeat:
        """Say that this runner lives, and keep ``turn`` alive where one is named.

        Raises:
            StorageError: the storage does not answer.
        """
        asked_at = self._monotonic()
        run_id = None if turn is None else turn.run.atomic_service_id.atomic_service_run_id
        heartbeat = self._backend.heartbeat(self.service, self._who, self.settings, run_id)
        if turn is not None:
            turn._confirm(heartbeat, asked_at)  # noqa: SLF001 (its one writer)
        self._note(heartbeat.now, heartbeat.previous_boot_id, asked_at)
        return heartbeat

    def leave(self) -> None:
        """Leave the service: the runner's slots stay empty until the cycle ends.

        Raises:
            StorageError: the storage does not answer; it will notice the silence.
        """
        self._backend.leave(self.service, self._who)

    # The loop ------------------------------------------------------------------------------

    def run(self) -> None:
        """Take turns until :meth:`request_stop` or :meth:`stop` is called, then leave.

        Sleeps until something can happen: its next slot, the next cycle, the next heartbeat.
        Losing the storage is logged and tried again, and never starts a turn.

        Raises:
            TypeError: the runner was built without a function.
        """
        self._required_function()
        _log.info("runner %s joins service %s", self.runner_id, self.service)
        try:
            while not self._stop_requested:
                self._woken.wait(self.step())
        finally:
            self._say_goodbye()

    def step(self) -> float:
        """One step of the loop: a heartbeat or a round, with its turn if there is one.

        Answers the seconds to wait for the next step. Never raises for a storage that does not
        answer, nor for a service that fails.
        """
        try:
            if self._pace.round_is_due():
                outcome = self.begin()
                if isinstance(outcome, Turn):
                    self._serve(outcome)
            else:
                self.heartbeat()
        except StorageError as error:
            return self._back_off("the storage does not answer: %s", error)
        except Exception:  # noqa: BLE001 (a bug must not end the service silently)
            _log.exception("runner %s: a round failed", self.runner_id)
            return self._back_off("a round failed; see above")
        self._pace.recovered()
        return self._pace.seconds_to_next_step()

    def request_stop(self) -> None:
        """Ask the loop to end, after the turn that it may be in. Safe in a signal handler."""
        self._stop_requested = True
        # In a handler that interrupts the wait, set() would wait for a lock that the wait holds.
        threading.Thread(target=self._woken.set, daemon=True).start()

    def start(self) -> None:
        """Loop in a background thread until :meth:`stop`.

        Raises:
            RuntimeError: it runs already.
            TypeError: the runner was built without a function.
        """
        self._required_function()
        if self._thread is not None and self._thread.is_alive():
            raise RuntimeError(f"runner {self.runner_id} of service {self.service} runs already")
        self._stop_requested = False
        self._woken.clear()
        self._thread = threading.Thread(
            target=self.run, name=f"turnwise-{self.service}", daemon=True
        )
        self._thread.start()

    def stop(self, timeout: float | None = None) -> bool:
        """End the background loop, after the turn that it may be in, and leave the service.

        Waits for ``timeout`` seconds, or as long as it takes. Answers whether the loop has
        ended; where it has not, its turn goes on, and keeps its gate, until it ends.
        """
        self.request_stop()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

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

    # Inside a round ------------------------------------------------------------------------

    def _look(self) -> Look:
        if not self._settings_published:
            before = self._backend.publish_settings(self.service, self.settings)
            self._settings_published = True
            if before is not None and before != self.settings:
                _log.warning(
                    "service %s was started with other settings before (%s): runners that "
                    "disagree count different slots, and only the gate keeps them apart",
                    self.service,
                    "; ".join(self.settings.differences(before)),
                )
        asked_at = self._monotonic()
        look = self._backend.look(self.service, self._who, self.settings)
        self._note(look.now, look.previous_boot_id, asked_at, look.joined_at)
        return look

    def _note(
        self,
        now: datetime,
        previous_boot_id: str | None,
        asked_at: float,
        joined_at: datetime | None = None,
    ) -> None:
        """Keep the storage's time beside ours, and notice a second process with our id."""
        first = not self._pace.has_begun
        self._pace.note(now, asked_at)
        if first and joined_at is not None:
            first_cycle = first_cycle_after_joining(joined_at, self.settings)
            _log.info(
                "runner %s: first turn at %s at the earliest",
                self.runner_id,
                max(first_cycle.start, now).isoformat(timespec="seconds"),
            )
        if first or previous_boot_id in (None, self._who.boot_id, *self._other_processes):
            return
        self._other_processes.add(str(previous_boot_id))
        _log.error(
            "runner id %s of service %s is used by another live process, too: give each its own",
            self.runner_id,
            self.service,
        )

    def _pass_the_gate(
        self, claim: AtomicServiceClaim, run: AtomicServiceRun, look: Look
    ) -> Turn | AtomicServiceClaim:
        asked_at = self._monotonic()
        try:
            admission = self._backend.admit(self.service, run, self.settings, look)
        except StorageError:
            left = (run.slot_end or look.cycle.end) - look.now
            admission = self._find_out(run, asked_at + left.total_seconds())
        if admission.fencing_token is None:
            self._pace.round_at(self._next_try(admission, look))
            return _refused(claim, admission.refusal)
        started_at, slot_end = run.started_at or admission.now, run.slot_end or look.cycle.end
        self._used_slot = run.slot_start
        turn = Turn(
            run,
            admission.fencing_token,
            asked_at=asked_at,
            deadline=asked_at + (slot_end - started_at).total_seconds(),
            heartbeat_timeout=self.settings.heartbeat_timeout.total_seconds(),
            monotonic=self._monotonic,
            stop_requested=lambda: self._stop_requested,
        )
        if turn.remaining() < self.settings.min_run_margin.total_seconds():
            self.finish(turn, _ABANDONED, NO_MARGIN)
            return _refused(claim, NO_MARGIN)
        if self._heartbeat_thread:
            self._keeper = _HeartbeatThread(self, turn)
            self._keeper.start()
        return turn

    def _find_out(self, run: AtomicServiceRun, slot_ends: float) -> Admission:
        """What became of an admission that was not answered: ask by run id, never insert again.

        A request that is still on its way may be admitted after this; such a run is kept alive
        by nobody, and dies by the heartbeat timeout.

        Raises:
            StorageError: the run was not admitted, or the slot is over.
        """
        run_id = run.atomic_service_id.atomic_service_run_id
        backoff = _FIRST_BACKOFF_SECONDS
        while self._monotonic() < slot_ends:
            try:
                record = self._backend.execution(self.service, run_id)
            except StorageError as error:
                _log.warning("runner %s: asking for run %s: %s", self.runner_id, run_id, error)
                self._sleep(min(backoff, max(0.0, slot_ends - self._monotonic())))
                backoff *= 2
                continue
            if record is None:
                raise StorageError(f"the storage did not answer, and has not admitted run {run_id}")
            if record.status is not AtomicServiceExecutionStatus.RUNNING:
                return Admission(record.start_time, None, f"{record.status}:{record.reason}")
            run.started_at = record.start_time
            return Admission(record.start_time, record.fencing_token)
        raise StorageError(f"the storage did not answer before the slot of run {run_id} was over")

    def _close_execution(
        self, turn: Turn, status: AtomicServiceExecutionStatus, reason: str
    ) -> ExecutionRecord | None:
        run_id = turn.run.atomic_service_id.atomic_service_run_id
        give_up = self._monotonic() + self.settings.heartbeat_timeout.total_seconds()
        backoff = _FIRST_BACKOFF_SECONDS
        while True:
            try:
                return self._backend.finish(self.service, run_id, status, reason, self.settings)
            except StorageError as error:
                if self._monotonic() + backoff >= give_up:
                    raise
                _log.warning("runner %s: closing run %s: %s", self.runner_id, run_id, error)
            self._sleep(backoff)
            backoff *= 2

    def _end_heartbeat_thread(self) -> None:
        if self._keeper is not None:
            self._keeper.end()
            self._keeper = None

    def _serve(self, turn: Turn) -> None:
        _log.info("turn starts: %s fencing-token:%d", turn.run, turn.fencing_token)
        began = self._monotonic()
        status, reason = _ABANDONED, "exception:BaseException"
        try:
            self._call(turn)
            status, reason = _COMPLETED, ""
        except TurnFailed as failure:
            reason = failure.reason
        except Exception as error:  # noqa: BLE001 (whatever a service raises ends its turn)
            reason = f"exception:{type(error).__name__}"
            _log.exception("the service failed in %s", turn.run.atomic_service_id)
        except BaseException as error:
            reason = f"exception:{type(error).__name__}"
            raise
        finally:
            self._report_end(turn, status, reason, self._monotonic() - began)

    def _call(self, turn: Turn) -> None:
        result = self._required_function()(turn)
        if inspect.isawaitable(result):
            asyncio.run(_wait_for(result))

    def _report_end(
        self, turn: Turn, status: AtomicServiceExecutionStatus, reason: str, seconds: float
    ) -> None:
        took = format_duration(timedelta(milliseconds=round(seconds * 1000)))
        try:
            self.finish(turn, status, reason)
        except TurnLost as lost:
            _log.error("turn lost after %s: %s", took, lost)
        except StorageError as error:
            _log.error(
                "turn ended after %s as %s %s, which could not be recorded: %s",
                took,
                status,
                reason,
                error,
            )
        else:
            level = logging.INFO if status is _COMPLETED else logging.WARNING
            _log.log(level, "turn ends after %s: %s %s", took, status, reason)
        self._pace.round_at(None)

    def _next_chance(self, claim: AtomicServiceClaim, look: Look) -> datetime:
        """The next instant at which a round could bring a turn."""
        if claim.slot_start is not None and look.now < claim.slot_start:
            return claim.slot_start
        in_slot = claim.slot_end is not None and look.now < claim.slot_end
        if in_slot and claim.reason is AtomicServiceDecisionReason.SCHEDULED_RUNNER_IN_GRACE:
            return look.now + self.settings.heartbeat_interval
        return look.cycle.end

    def _next_try(self, admission: Admission, look: Look) -> datetime:
        """When to ask the gate again that has just refused."""
        if admission.retry_at is None:
            return look.cycle.end
        return min(admission.retry_at, admission.now + self.settings.heartbeat_interval)

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


class _HeartbeatThread(threading.Thread):
    """Keeps one turn alive, from begin to finish."""

    def __init__(self, runner: Runner, turn: Turn) -> None:
        super().__init__(name=f"turnwise-heartbeat-{runner.service}", daemon=True)
        self._runner = runner
        self._turn = turn
        self._ended = threading.Event()
        self._interval = runner.settings.heartbeat_interval.total_seconds()

    def run(self) -> None:
        wait = self._interval
        while not self._ended.wait(wait):
            wait = self._interval
            try:
                if not self._runner.heartbeat(self._turn).holds_run:
                    return
            except StorageError as error:
                _log.warning("no heartbeat of %s: %s", self._turn.run.atomic_service_id, error)
                wait = self._interval / 4
            except Exception:  # noqa: BLE001 (a bug must not end the heartbeats)
                _log.exception("no heartbeat of %s", self._turn.run.atomic_service_id)

    def end(self) -> None:
        self._ended.set()
        self.join(self._interval)


def _refused(claim: AtomicServiceClaim, message: str) -> AtomicServiceClaim:
    return replace(claim, atomic_service_run=None, skip_message=message)


async def _wait_for(result: Awaitable[object]) -> None:
    await result


def _checked_name(parameter: str, name: str) -> str:
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise ValueError(
            f"{parameter} must have 1 to {_LONGEST_NAME} characters, got {len(name)}: {name[:40]!r}"
        )
    return name
