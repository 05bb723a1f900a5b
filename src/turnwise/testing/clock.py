"""A clock that is moved by hand."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
"""Where a :class:`ManualClock` starts: the start of a cycle of the suite's settings."""

_MICROSECOND = timedelta(microseconds=1)

Clock = Callable[[], datetime]
"""Gives now, as an aware datetime."""


class ManualClock:
    """Now, moved by hand: a storage's clock, and the monotonic one that moves along with it."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now
        self._elapsed = timedelta(0)

    def __call__(self) -> datetime:
        """Now, on the storage's clock."""
        return self._now

    def monotonic(self) -> float:
        """Seconds that have passed, as :func:`time.monotonic` counts them."""
        return self._elapsed.total_seconds()

    def sleep(self, seconds: float) -> None:
        """Let time pass, rounded up to a microsecond."""
        self.advance(-(-round(seconds * 1e9) // 1000) * _MICROSECOND)

    def advance(self, by: timedelta) -> None:
        """Let time pass.

        Raises:
            ValueError: ``by`` is negative; no time passes backwards.
        """
        if by < timedelta(0):
            raise ValueError(f"by must be 0 or more, got {by}")
        self._now += by
        self._elapsed += by

    def step(self, by: timedelta) -> None:
        """Somebody sets the clock, forward or back: no time passes."""
        self._now += by
