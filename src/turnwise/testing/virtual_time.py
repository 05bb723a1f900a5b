"""Virtual time for functions: plain ones that sleep, and coroutines on an event loop.

Everything happens in the one thread that advances the time, but for plain functions: each runs in a
thread of its own, and exactly one thread runs at a time. So a run is the same each time.
"""

import asyncio
import math
import selectors
import threading
from collections.abc import Callable

from turnwise.cycles import SECOND
from turnwise.scheduler.calls import Loops, ThreadCall, Work


class VirtualTime:
    """Monotonic time that a test advances; ``at`` in microseconds."""

    def __init__(self) -> None:
        self.at = 0

    def __call__(self) -> int:
        """The time."""
        return self.at


class _Idle(selectors.DefaultSelector):
    """Never waits: where the loop would, it is told so, with the seconds that it would wait."""

    def __init__(self, told: Callable[[float | None], None]) -> None:
        super().__init__()
        self._told = told

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events and timeout != 0:
            self._told(timeout)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time.

    Attributes:
        due: when its next timer is due, in microseconds; None where it has none.
    """

    def __init__(self, clock: VirtualTime) -> None:
        self._virtual = clock
        super().__init__(_Idle(self._idle))
        self.due: int | None = None

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self._virtual.at / SECOND

    def run_until_idle(self) -> None:
        """Run all that is ready now."""
        self.run_forever()

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


def sleep(length: int) -> bool:
    """In a plain function's thread, let so many microseconds pass; False in any other thread."""
    sleeper: Sleeper | None = getattr(_here, "sleeper", None)
    if sleeper is None:
        return False
    sleeper.sleep(length)
    return True
