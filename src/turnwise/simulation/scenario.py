"""What is simulated: settings, runners, jobs, faults, and the seed that all is drawn from.

Everything random is drawn by inversion from ``random()`` of :class:`random.Random` alone, whose
numbers Python promises to keep for a seed; no hash and no order of a set has a say.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from heapq import merge
from math import exp, log
from random import Random
from statistics import NormalDist
from typing import Literal

from turnwise.cycles import MICROSECOND, microseconds
from turnwise.durations import format_duration
from turnwise.settings import Settings

_ZERO = timedelta(0)
_STANDARD_NORMAL = NormalDist()
_MOST_RUNNERS = 10_000
_START = datetime(2026, 1, 1, tzinfo=UTC)

Draw = Callable[[], float]
"""Gives numbers that are uniform in [0, 1)."""


# How long something takes -------------------------------------------------------------------------


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
    return most if factor * (unit / MICROSECOND) >= most / MICROSECOND else factor * unit


Distribution = Fixed | Uniform | LogNormal | HeavyTail
"""How long something takes."""


def drawer(distribution: Distribution, random: Draw) -> Callable[[], int]:
    """What draws again and again from a distribution, in microseconds, as fast as can be."""
    if isinstance(distribution, Uniform):
        least, span = (
            microseconds(distribution.least),
            microseconds(distribution.most - distribution.least),
        )
        return lambda: least + int(random() * span)
    return lambda: microseconds(distribution.draw(random))


NOTHING = Fixed(_ZERO)
"""It takes no time."""


# What goes wrong ----------------------------------------------------------------------------------


class FaultKind(StrEnum):
    """What can go wrong, or is done to a service. ``lasts`` and ``delay`` are those of a fault."""

    CRASH = "crash"
    """A runner is killed; after ``lasts`` another starts in its place, under a new id."""
    RESTART = "restart"
    """A runner is killed; after ``lasts`` it is back, under its old id."""
    KILL_IN_TURN = "kill_in_turn"
    """Whoever is at work is killed, or else the next one, in the middle of its turn; after
    ``lasts`` it is back, under its old id."""
    SUSPEND = "suspend"
    """A runner is suspended for ``lasts``, whatever it was doing. Where there is a ``delay``, the
    requests that it was about to send leave only when it wakes."""
    CUT_OFF = "cut_off"
    """For ``lasts`` the storage does not answer one runner."""
    OUTAGE = "outage"
    """For ``lasts`` the storage answers nobody."""
    SLOW = "slow"
    """For ``lasts`` each request of all takes up to ``delay`` more, there and back."""
    LOST_REQUEST = "lost_request"
    """For ``lasts`` one runner's requests fail for it, and have no effect."""
    LOST_REPLY = "lost_reply"
    """For ``lasts`` one runner's requests fail for it, and take effect after ``delay``."""
    LOST_ACKNOWLEDGEMENT = "lost_acknowledgement"
    """The answer to one runner's next change of a record is lost; it takes effect."""
    LATE_COMMIT = "late_commit"
    """For ``lasts`` a runner's heartbeats bear the time of their arrival, and are seen later, by
    up to ``delay``, by others."""
    CLOCK_STEP = "clock_step"
    """The storage's clock jumps ahead by ``delay``, and after ``lasts`` it jumps back."""
    LEAVE = "leave"
    """A runner ends its turn and leaves; after ``lasts`` another starts in its place."""
    JOIN = "join"
    """One runner more, for ``lasts``."""
    DEPLOY = "deploy"
    """One runner after the other leaves and is replaced, each ``lasts`` after the one before."""
    PAUSE = "pause"
    """An operator pauses the service, and resumes it after ``lasts``."""
    TRIGGER = "trigger"
    """An operator asks for a run now."""
    DRAIN = "drain"
    """A runner takes no new turn for ``lasts``."""
    OVERRUN = "overrun"
    """The next turn takes ``lasts``."""
    FAILURE = "failure"
    """The next turn fails at its end."""
    POISON = "poison"
    """The next turn kills its process at its end; after ``lasts`` it is back."""
    FORGET = "forget"
    """The storage loses what it has acknowledged in the last ``delay``. Out of what is promised:
    two runs may be open then, and a period may be served again."""


OF_ONE_RUNNER = (
    FaultKind.CRASH,
    FaultKind.RESTART,
    FaultKind.SUSPEND,
    FaultKind.CUT_OFF,
    FaultKind.LOST_REQUEST,
    FaultKind.LOST_REPLY,
    FaultKind.LOST_ACKNOWLEDGEMENT,
    FaultKind.LATE_COMMIT,
    FaultKind.LEAVE,
    FaultKind.DRAIN,
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
        services: how many services, all alike, the runners take turns at.
        job: how long a turn takes.
        cancels: whether the job ends when its turn is lost, as a coroutine does. A plain function
            goes on.
        faults: what goes wrong again and again.
        incidents: what goes wrong beside that, each once.
        start: where the storage's clock stands at the start.
        duration: how long, in virtual time.
        quiet: the part of the end in which nothing goes wrong any more, so that it can be seen
            that the service comes back.
        latency: how long a request takes to the storage, and its answer back, each.
        clock: ``"storage"``: as it ships. ``"local"``: each runner decides by a clock of its
            own, and no gate keeps them apart: what time slots alone give.
        clock_skew: the largest difference between the clocks of two runners.
        joining: the first runners start within so long; by default within a minute or a cycle.
        seed: where all that is random begins.

    Raises:
        ValueError: an argument is out of its range.
    """

    settings: Settings = field(default_factory=Settings)
    runners: int = 3
    services: int = 1
    job: Distribution = Fixed(timedelta(seconds=40))
    cancels: bool = False
    faults: tuple[Fault, ...] = ()
    incidents: tuple[Incident, ...] = ()
    start: datetime = _START
    duration: timedelta = timedelta(days=1)
    quiet: timedelta = _ZERO
    latency: Distribution = NOTHING
    clock: Literal["storage", "local"] = "storage"
    clock_skew: timedelta = _ZERO
    joining: timedelta | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.runners <= _MOST_RUNNERS:
            raise ValueError(f"runners must be 1 to {_MOST_RUNNERS:,}, got {self.runners}")
        if self.services < 1:
            raise ValueError(f"services must be 1 or more, got {self.services}")
        shortest = self.settings.shortest_cycle
        if self.duration < shortest:
            raise ValueError(
                f"duration must be one cycle ({format_duration(shortest)}) or more, got "
                f"{format_duration(self.duration)}"
            )
        for name in ("quiet", "clock_skew"):
            if getattr(self, name) < _ZERO:
                raise ValueError(
                    f"{name} must be 0 or more, got {format_duration(getattr(self, name))}"
                )
        if self.clock not in ("storage", "local"):
            raise ValueError(f"clock must be 'storage' or 'local', got {self.clock!r}")
        if self.clock == "local" and self.services != 1:
            raise ValueError(f"services must be 1 with clock 'local', got {self.services}")
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

    @property
    def starts_within(self) -> timedelta:
        """Within how long the first runners start."""
        if self.joining is not None:
            return self.joining
        return min(self.settings.shortest_cycle, timedelta(minutes=1))

    def random(self, *purpose: object) -> Random:
        """Random numbers for one purpose, the same whatever else is drawn."""
        return Random("/".join(map(str, (self.seed, *purpose))))  # noqa: S311 (no secret)


# What happens when --------------------------------------------------------------------------------


def exponential(mean: timedelta, random: Draw) -> timedelta:
    """How long until something that happens at a steady rate happens next."""
    return -log(1 - random()) * mean


def incidents_of(scenario: Scenario) -> Iterator[Incident]:
    """Every incident of a scenario, in order; the last is over when the quiet part begins.

    Each fault, at each place, has random numbers of its own: without one of them the others
    stay as they are.
    """
    streams = [
        _stream(scenario, number, fault, place)
        for number, fault in enumerate(scenario.faults)
        for place in (range(scenario.runners) if fault.kind in OF_ONE_RUNNER else (None,))
    ]
    for incident in merge(*streams, sorted(scenario.incidents, key=_at), key=_at):
        left = scenario.heals_at - incident.at
        if left > _ZERO:
            yield replace(incident, lasts=min(incident.lasts, left))


def _at(incident: Incident) -> timedelta:
    return incident.at


def _stream(scenario: Scenario, number: int, fault: Fault, place: int | None) -> Iterator[Incident]:
    random = scenario.random("fault", number, fault.kind, place).random
    at = _ZERO
    while True:
        at += max(exponential(fault.every, random), MICROSECOND)
        if at >= scenario.heals_at:
            return
        lasts = fault.lasts.draw(random)
        yield Incident(at, fault.kind, place, lasts, fault.delay.draw(random))
        at += lasts
