"""A clock that is moved by hand, and that can let something happen while it is read."""

from collections.abc import Callable
from contextlib import suppress

MICROSECOND = 1
SECOND = 1_000_000

START = 1_772_366_400 * SECOND
"""Where a :class:`ManualClock` starts: noon of 1 March 2026, in UTC, in microseconds."""

Clock = Callable[[], int]
"""Gives now, in microseconds since the Unix epoch."""


class ManualClock:
    """Now, moved by hand; in microseconds.

    :meth:`when_read` plans what happens the next time that somebody reads the clock. With it a test
    gets between a storage's reading of the clock and its reading of the rows.
    """

    def __init__(self, now: int = START) -> None:
        self._now = now
        self._planned: list[Callable[[], None]] = []

    def __call__(self) -> int:
        """Now; first lets happen what was planned with :meth:`when_read`."""
        happens: Callable[[], None] | None = None
        with suppress(IndexError):  # of threads that read at once, one takes what was planned
            happens = self._planned.pop()
        if happens is not None:
            happens()
        return self._now

    def when_read(self, happens: Callable[[], None]) -> None:
        """Plan what happens in the next reading of the clock, and in no other one.

        The storage may hold its locks while it reads the clock. So what happens must not use the
        storage itself, but may let another thread use it, and must not wait for that one for long.
        """
        self._planned = [happens]

    def advance(self, by: int) -> None:
        """Let time pass.

        Raises:
            ValueError: ``by`` is negative; no time passes backwards.
        """
        if by < 0:
            raise ValueError(f"by must be 0 or more, got {by}")
        self._now += by

    def step(self, by: int) -> None:
        """Somebody sets the clock, forward or back."""
        self._now += by
