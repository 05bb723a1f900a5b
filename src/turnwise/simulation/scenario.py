"""What is simulated: settings, runners, jobs, faults, and the seed that all is drawn from.

Everything random is drawn by inversion from ``random()`` of :class:`random.Random` alone, whose
numbers Python promises to keep for a seed; no hash and no order of a set has a say.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from math import exp, log
from random import Random
from statistics import NormalDist
from typing import Literal

from turnwise.durations import format_duration
from turnwise.old_settings import Settings

_ZERO = timedelta(0)
_MICROSECOND = timedelta(microseconds=1)
_STANDARD_NORMAL = NormalDist()
_MOST_RUNNERS = 10_000

Draw = Callable[[], float]
"""Gives numbers that are uniform in [0, 1)."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same duration."""

    duration: timedelta

    def draw(self, _: Draw) -> timedelta:
        """One duration."""
        return self.duration

    @property
    def most(self) -> timedelta:
        """The longest that is ever drawn."""
        return self.duration


@dataclass(frozen=True, slots=True)
class Uniform:
    """Any duration between two, each as likely."""

    least: timedelta
    most: timedelta

    def draw(self, random: Draw) -> timedelta:
        """One duration."""
        return self.least + random() * (self.most - self.least)


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Around a median, seldom much longer: the logarithm has the deviation ``sigma``.

    What is longer than ``most`` takes ``most``.
    """

    median: timedelta
    sigma: float
    most: timedelta

    def draw(self, random: Draw) -> timedelta:
        """One duration."""
        # 1e-300: the inverse has no answer for 0.
        factor = exp(self.sigma * _STANDARD_NORMAL.inv_cdf(max(random(), 1e-300)))
        return _at_most(self.median, factor, self.most)


@dataclass(frozen=True, slots=True)
class HeavyTail:
    """Pareto's distribution: ``least`` at least, and now and then a multiple of it.

    The smaller ``alpha`` (over 0), the heavier the tail. What is longer than ``most`` takes
    ``most``.
    """

    least: timedelta
    alpha: float
    most: timedelta

    def draw(self, random: Draw) -> timedelta:
        """One duration."""
        return _at_most(self.least, exp(-log(1 - random()) / self.alpha), self.most)


def _at_most(unit: timedelta, factor: float, most: timedelta) -> timedelta:
    return most if factor * (unit / _MICROSECOND) >= most / _MICROSECOND else factor * unit


Distribution = Fixed | Uniform | LogNormal | HeavyTail
"""How long something takes."""

NOTHING = Fixed(_ZERO)
"""It takes no time."""


class FaultKind(StrEnum):
    """What can go wrong. ``lasts`` and ``delay`` are those of a :class:`Fault`."""

    CRASH = "crash"
    """A runner is killed; after ``lasts`` another starts in its place, under a new id."""
    RESTART = "restart"
    """A runner is killed; after ``lasts`` it is back, under its old id."""
    PAUSE = "pause"
    """A runner is suspended for ``lasts``, whatever it was doing."""
    CUT_OFF = "cut_off"
    """For ``lasts`` the storage does not answer one runner."""
    OUTAGE = "outage"
    """For ``lasts`` the storage answers nobody."""
    SLOW = "slow"
    """For ``lasts`` each request of all takes up to ``delay`` more, there and back."""
    LOST_REPLY = "lost_reply"
    """For ``lasts`` one runner's requests fail for it, and take effect after ``delay``."""
    LOST_ACKNOWLEDGEMENT = "lost_acknowledgement"
    """The answer to one runner's next request to the gate is lost; it takes effect."""
    LATE_COMMIT = "late_commit"
    """For ``lasts`` what one runner writes bears the time of its arrival, and is seen later, by
    up to ``delay``, by others."""
    LEAVE = "leave"
    """A runner ends its turn and leaves; after ``lasts`` another starts in its place."""
    JOIN = "join"
    """One runner more, for ``lasts``."""
    DEPLOY = "deploy"
    """One runner after the other leaves and is replaced, each ``lasts`` after the one before."""
    OVERRUN = "overrun"
    """The next turn takes ``lasts``."""
    FAILURE = "failure"
    """The next turn fails at its end."""


OF_ONE_RUNNER = (
    FaultKind.CRASH,
    FaultKind.RESTART,
    FaultKind.PAUSE,
    FaultKind.CUT_OFF,
    FaultKind.LOST_REPLY,
    FaultKind.LOST_ACKNOWLEDGEMENT,
    FaultKind.LATE_COMMIT,
    FaultKind.LEAVE,
)
"""These strike each runner at the rate of their fault; the others strike all together."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong again and again.

    ``every`` is the mean time from the end of one to the start of the next, exponentially
    distributed, for each runner where the kind strikes one.
    """

    kind: FaultKind
    every: timedelta
    lasts: Distribution = NOTHING
    delay: Distribution = NOTHING


@dataclass(frozen=True, slots=True)
class Incident:
    """One time that something goes wrong: so long after the start, at which place, how long."""

    at: timedelta
    kind: FaultKind
    place: int | None = None
    lasts: timedelta = _ZERO
    delay: timedelta = _ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is simulated.

    Args:
        settings: of the service.
        runners: how many places there are for a runner, 1 to 10,000. A runner that crashes or
            leaves is replaced in its place.
        job: how long a turn takes.
        faults: what goes wrong again and again.
        incidents: what goes wrong beside that, each once.
        duration: how long, in virtual time.
        quiet: the part of the end in which nothing goes wrong any more, so that it can be seen
            that the service comes back.
        latency: how long a request takes to the storage, and its answer back, each.
        clock: ``"storage"``: as it ships. ``"local"``: each runner decides by a clock of its
            own, and no gate keeps them apart: what time slots alone give.
        clock_skew: the largest difference between the clocks of two runners.
        seed: where all that is random begins.

    Raises:
        ValueError: an argument is out of its range.
    """

    settings: Settings = field(default_factory=Settings)
    runners: int = 3
    job: Distribution = Fixed(timedelta(seconds=40))
    faults: tuple[Fault, ...] = ()
    incidents: tuple[Incident, ...] = ()
    duration: timedelta = timedelta(days=1)
    quiet: timedelta = _ZERO
    latency: Distribution = NOTHING
    clock: Literal["storage", "local"] = "storage"
    clock_skew: timedelta = _ZERO
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.runners <= _MOST_RUNNERS:
            raise ValueError(f"runners must be 1 to {_MOST_RUNNERS}, got {self.runners}")
        if self.duration < self.settings.interval:
            raise ValueError(
                f"duration must be one interval ({format_duration(self.settings.interval)}) or "
                f"more, got {format_duration(self.duration)}"
            )
        for name in ("quiet", "clock_skew"):
            if getattr(self, name) < _ZERO:
                raise ValueError(
                    f"{name} must be 0 or more, got {format_duration(getattr(self, name))}"
                )
        if self.clock not in ("storage", "local"):
            raise ValueError(f"clock must be 'storage' or 'local', got {self.clock!r}")
        for fault in self.faults:
            if fault.every <= _ZERO:
                raise ValueError(
                    f"every of a fault must be positive, got {format_duration(fault.every)} "
                    f"for {fault.kind}"
                )

    @property
    def heals_at(self) -> timedelta:
        """From when on nothing goes wrong any more."""
        return max(self.duration - self.quiet, _ZERO)

    def random(self, *purpose: object) -> Random:
        """Random numbers for one purpose, the same whatever else is drawn."""
        return Random("/".join(map(str, (self.seed, *purpose))))  # noqa: S311 (no secret)


def exponential(mean: timedelta, random: Draw) -> timedelta:
    """How long until something that happens at a steady rate happens next."""
    return -log(1 - random()) * mean
