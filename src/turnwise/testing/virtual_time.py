"""Virtual time for functions: plain ones that sleep, and coroutines on an event loop.

Everything happens in the one thread that advances the time, but for plain functions: each runs in a
thread of its own, and exactly one thread runs at a time. So a run is the same each time.

What a coroutine has ``asyncio.to_thread`` or the loop's ``run_in_executor`` do is waited for while
virtual time stands still: it takes no time, as a plain function takes none. Files, sockets and
processes are refused. They take real time, and nobody could say how much virtual time that is.
"""

import asyncio
import math
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, NoReturn, TypeVar, TypeVarTuple, Unpack

from turnwise.cycles import SECOND
from turnwise.scheduler.calls import Loops, ThreadCall, Work

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class VirtualTime:
    """Monotonic time that a test advances; ``at`` in microseconds."""

    def __init__(self) -> None:
        self.at = 0

    def __call__(self) -> int:
        """The time."""
        return self.at


class RealInputError(RuntimeError):
    """A coroutine in virtual time waits for what takes real time, such as a socket."""


class _Idle(selectors.DefaultSelector):
    """Waits for threads alone: else, where the loop would, the loop is told so.

    Attributes:
        refused: why what a coroutine waits for can never come; None where it can.
    """

    def __init__(
        self, told: Callable[[float | None], None], has_threads: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._told, self._has_threads = told, has_threads
        self.refused: RealInputError | None = None

    def register(
        self, fileobj: "FileDescriptorLike", events: int, data: object = None
    ) -> selectors.SelectorKey:
        if self.get_map():  # the first one is the loop's own, which wakes it
            self.refuse()
        return super().register(fileobj, events, data)

    def refuse(self) -> NoReturn:
        """Raise in the coroutine, and where the loop is run."""
        self.refused = RealInputError(
            "a coroutine waits for a file, a socket or a process, which takes real time: in "
            "virtual time use a stand-in for it, or call it in asyncio.to_thread()"
        )
        raise self.refused

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events and timeout != 0:
            if self._has_threads():
                return super().select(None)
            self._told(timeout)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time.

    Attributes:
        due: when its next timer is due, in microseconds; None where it has none.
    """

    def __init__(self, clock: VirtualTime) -> None:
        self._virtual = clock
        self._in_threads: set[asyncio.Future[object]] = set()
        self._idling = _Idle(self._idle, lambda: bool(self._in_threads))
        super().__init__(self._idling)
        self.due: int | None = None

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self._virtual.at / SECOND

    def run_until_idle(self) -> None:
        """Run all that is ready now, and what it hands to threads.

        Raises:
            RealInputError: a coroutine waits for a file, a socket or a process.
        """
        self.run_forever()
        refused, self._idling.refused = self._idling.refused, None
        if refused is not None:
            raise refused

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[Unpack[_Ts]], _T],
        *args: *_Ts,
    ) -> "asyncio.Future[_T]":
        """Run a function in a thread, and have virtual time stand still until it returns."""
        running = super().run_in_executor(executor, func, *args)
        waited: asyncio.Future[object] = running  # type: ignore[assignment] # its result is not read
        self._in_threads.add(waited)
        waited.add_done_callback(self._in_threads.discard)
        return running

    async def _make_subprocess_transport(self, *args: object, **kwargs: object) -> NoReturn:
        """Where asyncio makes a process, which may have no file to wait for."""
        del args, kwargs
        self._idling.refuse()

    def _idle(self, seconds: float | None) -> None:
        self.due = None if seconds is None else self._virtual.at + math.ceil(seconds * SECOND)
        self.stop()


class VirtualLoops(Loops):
    """The event loop of a virtual process, made when the first coroutine comes."""

    def __init__(self, clock: VirtualTime) -> None:
        super().__init__()
        self._clock = clock
        self.made: VirtualLoop | None = None

    def get(self) -> VirtualLoop:
        """The loop."""
        if self.made is None:
            self.made = VirtualLoop(self._clock)
        return self.made

    def run(self) -> None:
        """Run all that is ready on the loop now."""
        if self.made is not None:
            self.made.run_until_idle()

    def close(self) -> None:
        """Cancel what is left on the loop, and close it."""
        if self.made is not None:
            for task in asyncio.all_tasks(self.made):
                task.cancel()
            self.made.run_until_idle()
            self.made.close()
            self.made = None


class TornOffError(BaseException):
    """Raised in a function whose process was killed, at the point where it sleeps."""


_here = threading.local()


class Sleeper(ThreadCall):
    """A plain function that runs while nobody else does, until it ends or sleeps.

    Attributes:
        due: when it wakes, in microseconds of the virtual time; None where it does not sleep.
    """

    def __init__(self, work: Work, clock: VirtualTime) -> None:
        self.due: int | None = None
        self._clock = clock
        self._its_turn, self._our_turn = threading.Semaphore(0), threading.Semaphore(0)
        self._is_torn_off = False
        super().__init__(work)
        self._our_turn.acquire()

    def wake(self) -> None:
        """Let it go on, until it ends or sleeps again."""
        self.due = None
        self._its_turn.release()
        self._our_turn.acquire()

    def tear_off(self) -> None:
        """Its process was killed: end it where it sleeps."""
        self._is_torn_off = True
        if self.due is not None:
            self.wake()

    def sleep(self, length: int) -> None:
        """In its own thread: let so much time pass, in microseconds."""
        self.due = self._clock.at + length
        self._our_turn.release()
        self._its_turn.acquire()
        if self._is_torn_off:
            raise TornOffError

    def _run(self) -> None:
        _here.sleeper = self
        try:
            super()._run()
        finally:
            self._our_turn.release()


def is_in_a_function() -> bool:
    """Whether this thread runs a plain function that is served in virtual time."""
    return getattr(_here, "sleeper", None) is not None


def sleep(length: int) -> bool:
    """In a plain function's thread, let so many microseconds pass; False in any other thread."""
    sleeper: Sleeper | None = getattr(_here, "sleeper", None)
    if sleeper is None:
        return False
    sleeper.sleep(length)
    return True
