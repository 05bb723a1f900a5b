"""Calls of functions that are at work: in a thread of their own, or on an event loop.

A call is started, may be cancelled, and says once how it ended. A plain function runs in a worker
thread that is named after its service, and cannot be cancelled. A coroutine function runs on an
event loop: the application's own, or one that is started here when the first coroutine comes, so
that a program without coroutines never loads asyncio.
"""

import contextvars
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.functions import Served, check_result, end_a_forked_child, outcome_of
from turnwise.turn import Turn

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

Ended = Callable[[Status, str, BaseException | None], None]
"""Told how a call ended: status, reason, and what the function raised; from any thread."""


class Call(Protocol):
    """A function at work."""

    def cancel(self, reason: str) -> bool:
        """End it early, as ABANDONED for ``reason``; whether that can be done."""


class Loops:
    """The event loop for coroutines: the application's, or one of our own.

    Args:
        loop: the application's running loop; None to start one when the first coroutine comes.
    """

    def __init__(self, loop: "asyncio.AbstractEventLoop | None" = None) -> None:
        self._loop = loop
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def submit(self, coroutine: Coroutine[Any, Any, object]) -> "Future[object]":
        """Run a coroutine on the loop."""
        import asyncio  # noqa: PLC0415 (only where a coroutine comes)

        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="turnwise-loop", daemon=True
                )
                self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """End the loop that was started here; what still runs on it ends with the process."""
        with self._lock:
            loop, thread = self._loop, self._thread
            if loop is None or thread is None:
                return
            self._loop = self._thread = None
        loop.call_soon_threadsafe(loop.stop)
        thread.join(1.0)
        if not thread.is_alive():
            loop.close()


class ThreadCall:
    """A plain function in a thread of its own.

    Raises:
        RuntimeError: the system has no thread left.
    """

    def __init__(
        self,
        served: Served,
        turn: Turn,
        ended: Ended,
        context: contextvars.Context,
        loops: Loops,
    ) -> None:
        self._served, self._turn, self._ended, self._loops = served, turn, ended, loops
        self._inner: CoroutineCall | None = None
        self._pid = os.getpid()
        name = f"turnwise-{turn.service}"
        thread = threading.Thread(target=context.run, args=(self._run,), name=name, daemon=True)
        thread.start()

    def cancel(self, reason: str) -> bool:
        """Only where the function gave back an awaitable."""
        return self._inner is not None and self._inner.cancel(reason)

    def _run(self) -> None:
        status, reason, error = Status.COMPLETED, "", None
        try:
            result = self._served(self._turn)
            if isinstance(result, Awaitable):
                end_a_forked_child(self._pid, None)
                self._inner = CoroutineCall(_awaited(result), self._ended, self._loops)
                return
            check_result(result)
        except BaseException as raised:  # noqa: BLE001 (whatever it is, it ends the turn alone)
            error = raised
            status, reason = outcome_of(raised)
        end_a_forked_child(self._pid, error)
        self._ended(status, reason, error)


class CoroutineCall:
    """A coroutine on an event loop."""

    def __init__(self, coroutine: Coroutine[Any, Any, object], ended: Ended, loops: Loops) -> None:
        self._ended, self._pid = ended, os.getpid()
        self._why_cancelled: str | None = None
        self._future = loops.submit(self._run(coroutine))

    def cancel(self, reason: str) -> bool:
        """Cancel the coroutine."""
        self._why_cancelled = self._why_cancelled or reason
        self._future.cancel()
        return True

    async def _run(self, coroutine: Coroutine[Any, Any, object]) -> None:
        status, reason, error = Status.COMPLETED, "", None
        try:
            check_result(await coroutine)
        except BaseException as raised:  # noqa: BLE001 (whatever it is, it ends the turn alone)
            error = raised
            status, reason = outcome_of(raised)
            if self._why_cancelled is not None and type(raised).__name__ == "CancelledError":
                reason, error = self._why_cancelled, None
        end_a_forked_child(self._pid, error)
        self._ended(status, reason, error)


async def _awaited(result: Awaitable[object]) -> object:
    return await result


def start_call(
    served: Served, turn: Turn, ended: Ended, context: contextvars.Context, loops: Loops
) -> Call:
    """Start a function; ``ended`` is told once, from another thread, how it ended.

    Raises:
        RuntimeError: there is no thread left, or the event loop is closed.
    """
    if not served.is_coroutine:
        return ThreadCall(served, turn, ended, context, loops)

    async def run() -> object:
        made = context.run(served, turn)
        assert isinstance(made, Awaitable)  # noqa: S101 (a coroutine function makes one)
        return await made

    return CoroutineCall(run(), ended, loops)
