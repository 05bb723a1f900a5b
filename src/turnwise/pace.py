"""When a runner's loop looks again: at what can happen next, not at a fixed poll."""

import time
from collections.abc import Callable
from datetime import datetime

from turnwise.old_settings import Settings

_FIRST_BACKOFF_SECONDS = 0.1
_MOST_DOUBLINGS = 30
# Storages count microseconds. What is left below that is a float's error, and no wait would end it.
_STORAGE_DIGITS = 6


def monotonic_seconds() -> float:
    """Seconds that only grow. On Linux they count while the host is suspended, too."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Pace:
    """What is due when, by the storage's clock, measured on the runner's monotonic one.

    The two clocks are laid side by side anew with each answer of the storage, so that neither a
    step of the storage's clock nor the drift of ours lasts longer than a heartbeat.
    """

    def __init__(self, settings: Settings, monotonic: Callable[[], float]) -> None:
        self._heartbeat_interval = settings.heartbeat_interval.total_seconds()
        self._monotonic = monotonic
        self._storage_now: tuple[datetime, float] | None = None
        self._round_due: datetime | None = None
        self._failures = 0

    @property
    def has_begun(self) -> bool:
        """Whether the storage has ever answered."""
        return self._storage_now is not None

    def note(self, storage_now: datetime, asked_at: float) -> None:
        """The storage has answered with its now to what was asked at ``asked_at``.

        Where its clock has stepped back, what was due belongs to another cycle: a round is due
        at once.
        """
        before, self._storage_now = self._storage_now, (storage_now, asked_at)
        if before is not None and storage_now < before[0]:
            self._round_due = None

    def round_at(self, instant: datetime | None) -> None:
        """The next round is due at an instant of the storage's clock; None for at once."""
        self._round_due = instant

    def round_is_due(self) -> bool:
        """Whether it is time for a round, rather than for a heartbeat alone."""
        return self._seconds_to_round() <= 0

    def seconds_to_next_step(self) -> float:
        """How long to wait for the next round or heartbeat, whichever is first."""
        if self._storage_now is None:
            return 0.0
        _, asked_at = self._storage_now
        to_heartbeat = asked_at + self._heartbeat_interval - self._monotonic()
        return max(0.0, min(self._seconds_to_round(), to_heartbeat))

    def back_off(self) -> float:
        """Seconds to wait after a failure: doubling, up to the time between heartbeats."""
        delay = _FIRST_BACKOFF_SECONDS * 2.0 ** min(self._failures, _MOST_DOUBLINGS)
        self._failures += 1
        return min(delay, self._heartbeat_interval)

    def recovered(self) -> None:
        """A step went well: the next failure backs off from the start."""
        self._failures = 0

    def _seconds_to_round(self) -> float:
        if self._round_due is None or self._storage_now is None:
            return 0.0
        now, asked_at = self._storage_now
        left = (self._round_due - now).total_seconds() - (self._monotonic() - asked_at)
        return round(left, _STORAGE_DIGITS)
