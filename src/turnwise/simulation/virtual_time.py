"""Virtual time: SimPy's queue of events, and plain blocking code that waits in it.

The runner's own code blocks: it sleeps, and waits for the storage. So each thread of a simulated
process is a greenlet: to wait is to leave an event in SimPy's queue and switch back to the loop;
what lies between two events takes no time. Time is a whole number of microseconds.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import greenlet
import simpy
from simpy.events import Event, Timeout

START = datetime(2026, 1, 1, tzinfo=UTC)
"""When every simulation starts."""

_MICROSECOND = timedelta(microseconds=1)


class Killed(BaseException):
    """A process that was killed does nothing any more."""


def microseconds(duration: timedelta) -> int:
    """A duration as SimPy counts."""
    return duration // _MICROSECOND


class VirtualTime:
    """The queue of events, and the clocks that it moves."""

    def __init__(self) -> None:
        self.environment = simpy.Environment(0)
        self.loop = greenlet.getcurrent()
        self.running: VirtualThread | None = None
        # Microseconds since the start. Whatever happens sets it first, from SimPy's, which lags
        # behind where a thread has waited without an event.
        self.now = 0

    def clock(self) -> datetime:
        """The true time, as a storage's clock."""
        return START + timedelta(0, 0, self.now)

    def monotonic(self) -> float:
        """Seconds since the start."""
        return self.now / 1e6

    def at(self, instant: int, action: Callable[[], object]) -> Timeout:
        """Do something at an instant, now at the earliest."""
        event = self.event_at(max(instant, self.now))

        def happen(_: Event) -> None:
            self.now = int(self.environment.now)
            action()

        event.callbacks.append(happen)
        return event

    def event_at(self, instant: int) -> Timeout:
        """An event in SimPy's queue."""
        return Timeout(self.environment, instant - self.environment.now)

    def wait(self, duration: int) -> None:
        """Called from a virtual thread: let so many microseconds pass, and longer if held up.

        Where nothing else happens until then, nobody can tell whether the thread has slept: there
        is no event then, and no switch to the loop and back.
        """
        thread = self.running
        if thread is None:
            raise RuntimeError("only a virtual thread can wait")
        instant = self.now + duration
        instant = max(instant, thread.process.paused_until)
        if instant < self.environment.peek():
            self.now = instant
        else:
            thread.sleep(duration)

    def run(self, until: int) -> None:
        """Let everything happen that is due until then."""
        self.environment.run(until)
        self.now = until


class VirtualThread:
    """One thread of a process: a greenlet that can wait, be held up, and be killed."""

    __slots__ = ("_awaited", "_greenlet", "_time", "process")

    def __init__(
        self, time: VirtualTime, process: "VirtualProcess", function: Callable[[], object]
    ) -> None:
        self._time = time
        self.process = process
        self._awaited: Event | None = None

        def run() -> None:
            try:
                function()
            except Killed:
                pass
            finally:
                process.threads.remove(self)

        self._greenlet = greenlet.greenlet(run, time.loop)

    def start(self) -> None:
        """Begin, as the next thing that happens."""
        self._wake_after(0)

    def sleep(self, duration: int) -> None:
        """Called within: switch to the loop until it is woken, after so many microseconds."""
        self._wake_after(duration)
        self._time.loop.switch()

    def wake(self) -> None:
        """End its wait now."""
        self._wake_after(0)

    def kill(self) -> None:
        """It does nothing any more. Called from the loop."""
        self._awaited = None
        if self._greenlet:
            self._time.running = self
            self._greenlet.throw(Killed)
        else:  # it has not begun
            self.process.threads.remove(self)

    def _wake_after(self, duration: int) -> None:
        self._awaited = event = self._time.event_at(self._time.now + duration)
        event.callbacks.append(self._woken)

    def _woken(self, event: Event) -> None:
        if event is not self._awaited:
            return
        time = self._time
        time.now = now = int(time.environment.now)
        held_up = self.process.paused_until - now
        if held_up > 0:
            self._wake_after(held_up)
            return
        time.running = self
        self._greenlet.switch()


class VirtualProcess:
    """The threads that live and die together."""

    def __init__(self, time: VirtualTime) -> None:
        self.time = time
        self.threads: list[VirtualThread] = []
        self.paused_until = 0
        self.killed = False

    def spawn(self, function: Callable[[], object]) -> VirtualThread:
        """Start a thread."""
        thread = VirtualThread(self.time, self, function)
        self.threads.append(thread)
        thread.start()
        return thread

    def kill(self) -> None:
        """Kill every thread, as SIGKILL does."""
        self.killed = True
        for thread in list(self.threads):
            thread.kill()


class VirtualEvent(threading.Event):
    """An event that one virtual thread at a time waits for."""

    def __init__(self, time: VirtualTime) -> None:
        super().__init__()
        self._time = time
        self._waiting: VirtualThread | None = None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait so many seconds, which must be given, or until it is set."""
        if timeout is None:
            raise TypeError("a virtual event needs a timeout")
        if not self.is_set():
            self._waiting = self._time.running
            self._time.wait(to_microseconds(timeout))
            self._waiting = None
        return self.is_set()

    def set(self) -> None:
        """Set it, and wake who waits."""
        super().set()
        if self._waiting is not None:
            self._waiting.wake()


def to_microseconds(seconds: float) -> int:
    """Seconds to wait, rounded up, so that what is due then is due; 0 for none alone."""
    if seconds <= 0:
        return 0
    return -(-round(seconds * 1e9) // 1000) or 1
