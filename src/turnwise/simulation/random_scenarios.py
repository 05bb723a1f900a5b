"""Scenarios drawn at random: short ones, in which much goes wrong.

Every fourth is of another family: in it little goes wrong, and what the review promises can be
held against it. See :mod:`turnwise.simulation.bounds`.
"""

from datetime import timedelta
from random import Random
from typing import TypeVar

from turnwise.schedules import Every, Schedule, parse_schedule
from turnwise.settings import Settings
from turnwise.simulation.bounded_scenarios import bounded
from turnwise.simulation.scenario import (
    NOTHING,
    Distribution,
    Fault,
    FaultKind,
    Fixed,
    HeavyTail,
    LogNormal,
    Scenario,
    Uniform,
)

_SECOND = timedelta(seconds=1)
_ZERO = timedelta(0)
_CYCLE = 60 * _SECOND
_T = TypeVar("_T")
_KINDS = tuple(kind for kind in FaultKind if kind is not FaultKind.FORGET)


def random_scenario(seed: int, *, cycles: int = 12) -> Scenario:
    """A scenario of so many cycles, of a minute or less each, drawn from a seed.

    The last five minutes, at most half of the scenario, are quiet, so that it can be seen that the
    service comes back.
    """
    random = Random(f"scenario/{seed}")  # noqa: S311 (no secret)
    if seed % 4 == 1:
        return bounded(random, seed, cycles)
    return _wild(random, seed, cycles)


def _wild(random: Random, seed: int, cycles: int) -> Scenario:
    settings = _settings(random)
    return Scenario(
        settings=settings,
        runners=_pick(random, (1, 2, 2, 3, 3, 3, 4, 5)),
        services=_pick(random, (1, 1, 1, 1, 1, 2, 3)),
        job=_job(random),
        cancels=random.random() < 0.3,  # noqa: PLR2004
        faults=_faults(random, settings, cycles),
        duration=cycles * _CYCLE,
        quiet=min(5, cycles // 2) * _CYCLE,
        latency=_latency(random, settings),
        clock_skew=_pick(random, (_ZERO, _SECOND, 45 * _SECOND)),
        seed=seed,
    )


def _schedule(random: Random) -> tuple[Schedule, timedelta]:
    """A schedule, and the longest cycle: one to four cycles a period, or so."""
    minute = Every(_CYCLE)
    texts = "cron * * * * * Europe/Vienna", "cron */2 * * * * UTC", "cron 0,10 */2 * * * * UTC"
    return _pick_pair(
        random,
        (
            (minute, _CYCLE),
            (minute, _CYCLE),
            (minute, _CYCLE / 2),
            (Every(_CYCLE, 7 * _SECOND), _CYCLE),
            (Every(3 * _CYCLE), _CYCLE),
            (Every(4 * _CYCLE), _CYCLE * 0.7),
            (parse_schedule(texts[0]), _CYCLE),
            (parse_schedule(texts[1]), _CYCLE),
            # Two dues close together, then a long period: cycles of 10 s, and of 55 s.
            (parse_schedule(texts[2]), _CYCLE),
        ),
    )


def _settings(random: Random) -> Settings:
    schedule, cycle = _schedule(random)
    every_slot = random.random() < 0.2 and isinstance(schedule, Every)  # noqa: PLR2004
    plain = Settings(schedule=schedule, cycle=cycle, runs="every_slot" if every_slot else "once")
    shortest = plain.shortest_cycle
    part = shortest / _CYCLE
    period = schedule.interval if isinstance(schedule, Every) else 2 * _CYCLE
    return Settings(
        schedule=schedule,
        cycle=cycle,
        spread_margin=min(1.0, part) * _pick(random, (_SECOND, 2 * _SECOND, 4 * _SECOND)),
        heartbeat_timeout=min(
            shortest, _pick(random, (9 * _SECOND, 21 * _SECOND, 21 * _SECOND, 60 * _SECOND))
        ),
        max_start_slot_fraction=_pick(random, (0.25, 0.5, 0.5, 1.0)),
        runs="every_slot" if every_slot else "once",
        standbys=_pick(random, (0, 1, 2, 2)),
        attempts=_pick(random, (1, 2, 3, 3)),
        start_within=_pick(random, (None, None, None, period / 2, period)),
        timeout=_pick(random, (None, None, _CYCLE / 2, _CYCLE)),
        release_on_timeout=random.random() < 0.3,  # noqa: PLR2004
        membership_stabilization=_pick(random, (_ZERO, _ZERO, _ZERO, _CYCLE / 2)),
        retention_age=_pick(random, (90 * _SECOND, 3600 * _SECOND)),
        retention_count=_pick(random, (1, 1000)),
    )


def _latency(random: Random, settings: Settings) -> Distribution:
    """None, of milliseconds, or so long that much can happen to a request on its way."""
    long = settings.heartbeat_timeout / 10
    latencies: tuple[Distribution, ...] = (
        NOTHING,
        Uniform(_ZERO, _SECOND / 50),
        Uniform(_ZERO, long),
    )
    return _pick(random, latencies)


def _job(random: Random) -> Distribution:
    jobs: tuple[Distribution, ...] = (
        Fixed(_SECOND),
        Fixed(_CYCLE / 4),
        Fixed(_CYCLE / 2),
        Uniform(_SECOND, _CYCLE / 3),
        LogNormal(5 * _SECOND, 1.0, 2 * _CYCLE),
        HeavyTail(2 * _SECOND, 1.2, 3 * _CYCLE),
    )
    return _pick(random, jobs)


def _faults(random: Random, settings: Settings, cycles: int) -> tuple[Fault, ...]:
    """One to four kinds of faults, each some few times in the scenario."""
    timeout, margin = settings.heartbeat_timeout, settings.spread_margin
    spans: tuple[Distribution, ...] = (
        Uniform(_ZERO, timeout / 2),
        Uniform(timeout / 2, 3 * timeout),
    )
    lasts: dict[FaultKind, Distribution] = {
        FaultKind.CRASH: Uniform(_ZERO, 2 * _CYCLE),
        FaultKind.RESTART: Uniform(_ZERO, timeout),
        FaultKind.KILL_IN_TURN: Uniform(_ZERO, 2 * timeout),
        FaultKind.SUSPEND: _pick(random, spans),
        FaultKind.CUT_OFF: Uniform(_ZERO, 2 * timeout),
        FaultKind.OUTAGE: Uniform(_ZERO, 2 * timeout),
        FaultKind.SLOW: Uniform(_ZERO, _CYCLE),
        FaultKind.LOST_REQUEST: Uniform(_ZERO, 5 * _SECOND),
        FaultKind.LOST_REPLY: Uniform(_ZERO, 5 * _SECOND),
        FaultKind.LATE_COMMIT: Uniform(_ZERO, _CYCLE),
        FaultKind.CLOCK_STEP: Uniform(_ZERO, 2 * _CYCLE),
        FaultKind.LEAVE: Uniform(_ZERO, _CYCLE),
        FaultKind.JOIN: Uniform(_ZERO, 3 * _CYCLE),
        FaultKind.DEPLOY: Uniform(_ZERO, _CYCLE / 4),
        FaultKind.PAUSE: Uniform(_ZERO, 2 * _CYCLE),
        FaultKind.DRAIN: Uniform(_ZERO, 2 * _CYCLE),
        FaultKind.OVERRUN: Uniform(_CYCLE / 2, 2 * _CYCLE),
        FaultKind.POISON: Uniform(_ZERO, timeout),
    }
    slow: tuple[timedelta, ...] = _SECOND, _CYCLE / 4
    late: tuple[Distribution, ...] = NOTHING, Uniform(_ZERO, 10 * _SECOND)
    steps: tuple[Distribution, ...] = (
        Uniform(_ZERO, _SECOND),
        Uniform(_ZERO, 2 * _CYCLE),
        Uniform(_ZERO, 8 * _CYCLE),
        Uniform(-2 * _CYCLE, _ZERO),
    )
    delay: dict[FaultKind, Distribution] = {
        FaultKind.SUSPEND: Fixed(_SECOND if random.random() < 0.5 else _ZERO),  # noqa: PLR2004
        FaultKind.SLOW: Uniform(_ZERO, _pick(random, slow)),
        FaultKind.LOST_REPLY: _pick(random, late),
        FaultKind.LATE_COMMIT: Uniform(_ZERO, margin * 0.9),
        FaultKind.CLOCK_STEP: _pick(random, steps),
    }
    chosen = {_pick(random, _KINDS) for _ in range(1 + int(random.random() * 4))}
    return tuple(
        Fault(
            kind,
            _CYCLE * cycles / _pick(random, (2, 4, 12, 36)),
            lasts.get(kind, NOTHING),
            delay.get(kind, NOTHING),
        )
        for kind in _KINDS
        if kind in chosen
    )


def _pick(random: Random, among: tuple[_T, ...]) -> _T:
    """One of several, drawn with ``random()`` alone."""
    return among[int(random.random() * len(among))]


def _pick_pair(
    random: Random, among: tuple[tuple[Schedule, timedelta], ...]
) -> tuple[Schedule, timedelta]:
    return _pick(random, among)
