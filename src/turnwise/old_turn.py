"""A turn that was admitted: what a service is handed while it runs, and what keeps it alive."""

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable

from turnwise.atomic_service import AtomicServiceRun
from turnwise.backends import Heartbeat, StorageError

_log = logging.getLogger("turnwise")

NOT_STARTED = "not_started"
"""Why a run ended whose service could not be started: no room for a process, or a thread."""


class TurnLost(RuntimeError):  # noqa: N818 (it says what happened, and callers catch it by name)
    """The turn is no longer this runner's: the storage gave it up for dead, or may have."""


class TurnFailed(Exception):  # noqa: N818 (raised by a service to say so)
    """Raised by a service to end its turn ABANDONED with a ``reason`` of its own.

    The reason ``no_margin`` says that it did nothing: then the cycle is left to a standby even
    where ``retry_failed`` is off.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = str(reason)  # of those who hand over the error that they caught, too


class Turn:
    """A turn that was admitted: what a service is handed while it runs.

    Attributes:
        run: its identity, cycle, slot and ``started_at``, on the storage's clock.
        fencing_token: grows with every admitted run of the service. Hand it to the resource
            that the service writes to, so that it can refuse an older one.
    """

    def __init__(
        self,
        run: AtomicServiceRun,
        fencing_token: int,
        *,
        asked_at: float,
        deadline: float,
        heartbeat_timeout: float,
        monotonic: Callable[[], float],
        stop_requested: Callable[[], bool],
    ) -> None:
        self.run = run
        self.fencing_token = fencing_token
        self._confirmed_at = asked_at
        self._deadline = deadline
        self._heartbeat_timeout = heartbeat_timeout
        self._monotonic = monotonic
        self._stop_requested = stop_requested
        self._lost = False

    def remaining(self) -> float:
        """Seconds until the slot ends, never negative. A turn may run longer; see the docs."""
        return max(0.0, self._deadline - self._monotonic())

    @property
    def stop_requested(self) -> bool:
        """Whether the runner was asked to stop: a long service should come to an end."""
        return self._stop_requested()

    def check(self) -> None:
        """Do nothing while the turn is surely this runner's.

        Call it before each write that must not come late.

        Raises:
            TurnLost: the storage has closed the run, or no heartbeat of it was confirmed for the
                heartbeat timeout, so that it may have.
        """
        if self._lost:
            raise TurnLost(f"{self.run.atomic_service_id}: the storage has closed this run")
        silent = self.silence()
        if silent >= self._heartbeat_timeout:
            raise TurnLost(
                f"{self.run.atomic_service_id}: no heartbeat was confirmed for {silent:.1f} s, "
                f"and the heartbeat timeout is {self._heartbeat_timeout:g} s"
            )

    def silence(self) -> float:
        """Seconds since the last request was sent by which the storage kept the run alive."""
        return self._monotonic() - self._confirmed_at

    def _confirm(self, heartbeat: Heartbeat, asked_at: float) -> None:
        if heartbeat.holds_run:
            self._confirmed_at = asked_at
        else:
            self._lost = True


class TurnKeeper(threading.Thread):
    """Keeps one turn alive, from begin to finish.

    Args:
        turn: the turn.
        heartbeat: sends a heartbeat of the turn.
        interval: seconds between two heartbeats; a quarter of it after one that failed.
    """

    def __init__(self, turn: Turn, heartbeat: Callable[[Turn], Heartbeat], interval: float) -> None:
        super().__init__(name=f"turnwise-heartbeat-{turn.fencing_token}", daemon=True)
        self._turn = turn
        self._heartbeat = heartbeat
        self._interval = interval
        self._ended = threading.Event()

    def run(self) -> None:
        """Send heartbeats until the turn ends or is lost."""
        # What the last heartbeat, or the admission, took is part of the wait for the next.
        while not self._ended.wait(max(self._interval / 4, self._interval - self._turn.silence())):
            try:
                if not self._heartbeat(self._turn).holds_run:
                    self._say_that_it_is_lost()
                    return
            except StorageError as error:
                _log.warning("no heartbeat of %s: %s", self._name_of_run, error)
            except Exception:  # noqa: BLE001 (a bug must not end the heartbeats)
                _log.exception("no heartbeat of %s", self._name_of_run)

    def end(self) -> None:
        """Stop; a heartbeat that is on its way may still arrive."""
        self._ended.set()
        self.join(self._interval)

    def _say_that_it_is_lost(self) -> None:
        # It may be this runner that has closed the run just now: then the end is near.
        if not self._ended.wait(self._interval):
            _log.error(
                "%s: the storage has closed this run; its service goes on", self._name_of_run
            )

    @property
    def _name_of_run(self) -> str:
        return str(self._turn.run.atomic_service_id)


Service = Callable[[Turn], object] | Callable[[Turn], Awaitable[object]]
"""What a runner runs: a plain function or a coroutine function that takes its `Turn`."""


def call_service(service: Service, turn: Turn) -> None:
    """Run a service to its end; a coroutine in an event loop of its own."""
    result = service(turn)
    if inspect.isawaitable(result):
        asyncio.run(_wait_for(result))


async def _wait_for(result: Awaitable[object]) -> None:
    await result
