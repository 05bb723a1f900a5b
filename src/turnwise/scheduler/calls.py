"""Calls of functions that are at work: in a thread of their own, or on an event loop.

A call is started, may be cancelled, and says once how it ended. A plain function runs in a worker
thread that is named after its service, and cannot be cancelled. A coroutine function runs on an
event loop: the application's own, or one that is started here when the first coroutine comes, so
that a program without coroutines never loads asyncio.

Whatever a function raises ends its turn alone, ``SystemExit`` and ``KeyboardInterrupt`` included:
it runs beside the program, and only the program's main thread may end it.
"""

import contextlib
import contextvars
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from turnwise import gate as gates
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.scheduler.functions import Served, check_result, end_a_forked_child, outcome_of
from turnwise.turn import Turn

if TYPE_CHECKING:
    import asyncio

Ended = Callable[[Status, str, BaseException | None], None]
"""Told how a call ended: status, reason, and what the function raised; from any thread."""

_LONGEST_CLOSE_SECONDS = 1.0


class Call(Protocol):
    """A function at work."""

    def cancel(self, reason: str) -> bool:
        """End it early, as ABANDONED for ``reason``; whether that can be done."""


@dataclass(frozen=True, slots=True)
class Work:
    """A function that is to be called in a turn, and whom to tell.

    ``ended`` is told once how the call ended. ``watch`` is called on the event loop as time
    passes: it looks whether the turn is lost, and gives the seconds until it has to look again,
    or None for never.
    """

    served: Served
    turn: Turn
    ended: Ended
    watch: Callable[[], float | None]
    context: contextvars.Context
    loops: "Loops"

    @property
    def name(self) -> str:
        """What its thread or task is named."""
        return f"turnwise-{self.turn.service}"

    @contextlib.contextmanager
    def telling_how_it_failed(self) -> Iterator[None]:
        """Tell the call's end also where what should have told it has failed itself."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001 (a turn without an end would stay for ever)
            self.ended(*outcome_of(error), error)


class Loops:
    """The event loop for coroutines: the application's, or one of our own.

    Args:
        loop: the application's running loop; None to start one when the first coroutine comes.
    """

    def __init__(self, loop: "asyncio.AbstractEventLoop | None" = None) -> None:
        self._loop = loop
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def get(self) -> "asyncio.AbstractEventLoop":
        """The loop; one of our own is started where there is none.

        Raises:
            RuntimeError: the system has no thread left.
        """
        with self._lock:
            if self._loop is None:
                import asyncio  # noqa: PLC0415 (only where a coroutine comes)

                loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=_run_to_its_end, args=(loop,), name="turnwise-loop", daemon=True
                )
                try:
                    thread.start()
                except BaseException:
                    loop.close()
                    raise
                self._loop, self._thread = loop, thread
            return self._loop

    def runs_here(self) -> bool:
        """Whether this thread is the loop's, so that waiting in it would stop the coroutines."""
        if self._thread is not None:  # asyncio would say it of each greenlet in a loop's thread
            return threading.current_thread() is self._thread
        asyncio = sys.modules.get("asyncio")
        return asyncio is not None and asyncio._get_running_loop() is self._loop is not None  # noqa: SLF001 (the public one raises)

    def close(self) -> None:
        """End the loop that was started here; what still runs on it is cancelled."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(_LONGEST_CLOSE_SECONDS)


def _run_to_its_end(loop: "asyncio.AbstractEventLoop") -> None:
    """Run an event loop until it is stopped, and end what still runs on it, as asyncio.run does."""
    import asyncio  # noqa: PLC0415 (it is loaded)

    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


class ThreadCall:
    """A plain function in a thread of its own.

    Raises:
        RuntimeError: the system has no thread left.
    """

    def __init__(self, work: Work) -> None:
        self._work, self._pid = work, os.getpid()
        self.inner: CoroutineCall | None = None
        thread = threading.Thread(
            target=work.context.run, args=(self._run,), name=work.name, daemon=True
        )
        thread.start()

    def cancel(self, reason: str) -> bool:
        """Only where the function gave back an awaitable."""
        return self.inner is not None and self.inner.cancel(reason)

    def _run(self) -> None:
        with self._work.telling_how_it_failed():
            self._call()

    def _call(self) -> None:
        result: object = None
        error: BaseException | None = None
        if self._work.turn.is_lost:  # the process was suspended before the first line
            self._work.ended(Status.ABANDONED, gates.NOT_STARTED, None)
            return
        try:
            result = self._work.served(self._work.turn)
            if not isinstance(result, Awaitable):
                check_result(result)
        except BaseException as raised:  # noqa: BLE001 (whatever it is, it ends the turn alone)
            error = raised
        end_a_forked_child(self._pid, error)
        if isinstance(result, Awaitable) and error is None:
            self._await(result)
        else:
            self._work.ended(*outcome_of(error), error)

    def _await(self, result: Awaitable[object]) -> None:
        """The function gave back an awaitable: it goes on on the event loop."""
        # A context cannot be entered twice at once, and this thread has entered ours.
        work = replace(self._work, context=contextvars.copy_context())
        # The event loop may be closed, or one of our own cannot be started.
        self.inner = CoroutineCall(work, lambda: result)


class CoroutineCall:
    """A coroutine on an event loop.

    Raises:
        RuntimeError: the event loop is closed, or the system has no thread left for one.
    """

    def __init__(self, work: Work, make: Callable[[], Awaitable[object]]) -> None:
        self._work, self._make, self._pid = work, make, os.getpid()
        self._error: BaseException | None = None
        self._why_not: str | None = None
        self._why_cancelled: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._has_begun = self._is_over = False
        self._lock = threading.Lock()  # guards these two
        self._loop = work.loops.get()
        self._loop.call_soon_threadsafe(self._begin)

    def cancel(self, reason: str) -> bool:
        """Cancel the coroutine, unless its loop is closed."""
        self._why_cancelled = self._why_cancelled or reason
        if self.end_if_it_cannot():
            return True
        try:
            self._loop.call_soon_threadsafe(self._cancel_task)
        except RuntimeError:
            return False
        return True

    def end_if_it_cannot(self) -> bool:
        """Tell the end of a coroutine whose loop has ended before it; whether it is so.

        A loop that has stopped may run again. So a coroutine that has begun goes on to be at work,
        until its loop is closed; one that has not is not begun any more.
        """
        with self._lock:
            is_idle = self._task is None or not self._task.done()
            can_go_on = self._loop.is_running() or (self._has_begun and not self._loop.is_closed())
            if self._is_over or can_go_on or not is_idle:
                return self._is_over
            self._is_over = True
        why = self._why_cancelled or gates.STOPPED if self._has_begun else gates.NOT_STARTED
        self._work.ended(Status.ABANDONED, why, None)
        return True

    # All of the rest happens on the loop.

    def _begin(self) -> None:
        with self._lock:
            if self._is_over:
                return
            self._has_begun = True
        with self._work.telling_how_it_failed():
            running = self._run()
            try:
                self._task = self._loop.create_task(
                    running, name=self._work.name, context=self._work.context
                )
            except BaseException:  # such as of a task factory of the application's
                running.close()
                raise
            self._task.add_done_callback(self._done)
            self._watch()

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _watch(self) -> None:
        assert self._task is not None  # noqa: S101 (it was begun)
        seconds = None if self._task.done() else self._work.watch()
        if seconds is not None:
            self._loop.call_later(seconds, self._watch)

    async def _run(self) -> None:
        if self._work.turn.is_lost:  # the process was suspended before the first line
            self._why_not = gates.NOT_STARTED
            return
        try:
            check_result(await self._make())
        except BaseException as raised:  # noqa: BLE001 (whatever it is, it ends the turn alone)
            self._error = raised
        end_a_forked_child(self._pid, self._error)

    def _done(self, task: "asyncio.Task[None]") -> None:
        with self._work.telling_how_it_failed():
            status, reason, error = self._outcome(task)
            self._work.ended(status, reason, error)

    def _outcome(self, task: "asyncio.Task[None]") -> tuple[Status, str, BaseException | None]:
        error = self._error
        if task.cancelled():  # before its first step
            status, reason = Status.ABANDONED, "exception:CancelledError"
        elif self._why_not is not None:
            status, reason = Status.ABANDONED, self._why_not
        else:
            status, reason = outcome_of(error)
        if self._why_cancelled is not None and reason == "exception:CancelledError":
            reason, error = self._why_cancelled, None
        return status, reason, error


def end_if_it_cannot(call: Call | None) -> None:
    """Tell the end of a call that never will: see :meth:`CoroutineCall.end_if_it_cannot`."""
    if isinstance(call, ThreadCall):
        call = call.inner
    if isinstance(call, CoroutineCall):
        call.end_if_it_cannot()


class BlockCall:
    """A block of the program itself, which it has taken a turn for.

    Args:
        thread: the program's thread that the block runs in.
    """

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread

    def is_mine(self) -> bool:
        """Whether the block runs in this thread."""
        return self._thread is threading.current_thread()

    def cancel(self, reason: str) -> bool:
        """It cannot be ended from outside."""
        del reason
        return False


def start_call(work: Work) -> Call:
    """Start a function; its ``ended`` is told once, from another thread, how it ended.

    Raises:
        RuntimeError: there is no thread left, or the event loop is closed.
    """
    if not work.served.is_coroutine:
        return ThreadCall(work)

    def make() -> Awaitable[object]:
        made = work.served(work.turn)
        assert isinstance(made, Awaitable)  # noqa: S101 (a coroutine function makes one)
        return made

    return CoroutineCall(work, make)
