"""Scenarios drawn at random: short ones, in which much goes wrong.

Every fourth is of another family: in it little goes wrong, and what the review promises can be
held against it. See :mod:`turnwise.simulation.bounds`.
"""

from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import TypeVar

from turnwise.old_settings import Settings
from turnwise.simulation.bounds import all_count_from
from turnwise.simulation.scenario import (
    NOTHING,
    Distribution,
    Fault,
    FaultKind,
    Fixed,
    HeavyTail,
    Incident,
    LogNormal,
    Scenario,
    Uniform,
)

_SECOND = timedelta(seconds=1)
_T = TypeVar("_T")


def random_scenario(seed: int, *, cycles: int = 12) -> Scenario:
    """A scenario of so many cycles, of a minute each, drawn from a seed.

    The last five of the cycles, at most half of them, are quiet, so that it can be seen that
    the service comes back.
    """
    random = Random(f"scenario/{seed}")  # noqa: S311 (no secret)
    return _bounded(random, seed, cycles) if seed % 4 == 1 else _wild(random, seed, cycles)


def _wild(random: Random, seed: int, cycles: int) -> Scenario:
    settings = _settings(random)
    return Scenario(
        settings=settings,
        runners=_pick(random, (1, 2, 2, 3, 3, 3, 4, 5)),
        job=_job(random, settings),
        faults=_faults(random, settings, cycles),
        duration=cycles * settings.interval,
        quiet=min(5, cycles // 2) * settings.interval,
        latency=_latency(random, settings),
        clock_skew=_pick(random, (timedelta(0), _SECOND, 45 * _SECOND)),
        seed=seed,
    )


def _bounded(random: Random, seed: int, cycles: int) -> Scenario:
    """A scenario that a bound of the review can be held against, from when all count."""
    settings = _settings(random)
    calm = Scenario(
        settings=settings,
        runners=_pick(random, (1, 2, 2, 3, 3, 4, 5)),
        job=Fixed(_SECOND / 2 + random.random() * 8 * _SECOND),
        duration=cycles * settings.interval,
        quiet=min(4, cycles // 2) * settings.interval,
        seed=seed,
    )
    families = _all_is_well, _one_gone, _one_gone, _one_gone, _come_and_go, _slots_alone
    return _pick(random, families)(random, calm)


def _all_is_well(_: Random, calm: Scenario) -> Scenario:
    return calm


def _one_gone(random: Random, calm: Scenario) -> Scenario:
    """One runner is killed, restarted or leaves, in its turn or while it is idle."""
    kinds = FaultKind.CRASH, FaultKind.CRASH, FaultKind.RESTART, FaultKind.LEAVE
    most, long = calm.settings.interval * 1.5, 0.8
    runners = max(2, calm.runners)
    return replace(
        calm,
        runners=runners,
        job=Fixed(random.random() * most) if random.random() < long else calm.job,
        incidents=(
            Incident(
                _between(random, all_count_from(calm), calm.heals_at),
                _pick(random, kinds),
                int(random.random() * runners),
                _between(random, timedelta(0), 3 * calm.settings.interval),
            ),
        ),
    )


def _come_and_go(random: Random, calm: Scenario) -> Scenario:
    """Whoever counts has a slot, and runners join, leave and are killed."""
    interval = calm.settings.interval
    kinds = FaultKind.CRASH, FaultKind.RESTART, FaultKind.LEAVE, FaultKind.JOIN
    chosen = {_pick(random, kinds) for _ in range(2)}
    faults = tuple(
        Fault(kind, 4 * interval, Uniform(timedelta(0), 2 * interval))
        for kind in kinds
        if kind in chosen
    )
    settings = replace(calm.settings, runs_per_cycle="every_slot")
    return replace(calm, settings=settings, faults=faults)


def _slots_alone(random: Random, calm: Scenario) -> Scenario:
    """Local clocks, no gate, turns that just fit, and a storage that is away as slots start."""
    skew = _pick(random, (timedelta(0), _SECOND / 2, _SECOND))
    calm = replace(calm, clock="local", clock_skew=skew, runners=max(2, calm.runners))
    settings = calm.settings
    review = settings.review(runners=calm.runners)
    spare = review.slot - review.window - skew
    away = settings.heartbeat_timeout / 4
    first = -(-all_count_from(calm) // settings.interval) + 1
    slots = (
        cycle * settings.interval + int(random.random() * review.slots) * review.slot
        for cycle in range(first, calm.heals_at // settings.interval, 4)
    )
    return replace(
        calm,
        job=Fixed(max(spare * (0.9 + random.random() / 10), timedelta(0))),
        incidents=tuple(
            Incident(slot - away / 4, FaultKind.OUTAGE, None, _between(random, away / 4, away))
            for slot in slots
        ),
    )


def _between(random: Random, least: timedelta, most: timedelta) -> timedelta:
    return least + random.random() * (most - least)


def _settings(random: Random) -> Settings:
    interval = 60 * _SECOND
    return Settings(
        interval=interval,
        spread_margin=_pick(random, (_SECOND, 2 * _SECOND, 4 * _SECOND)),
        heartbeat_timeout=_pick(random, (9 * _SECOND, 21 * _SECOND, 60 * _SECOND)),
        max_start_slot_fraction=_pick(random, (0.25, 0.5, 0.5, 1.0)),
        runs_per_cycle="every_slot" if random.random() < 0.2 else "once",  # noqa: PLR2004
        standbys=_pick(random, (0, 1, 2, 2)),
        retry_failed=random.random() < 0.8,  # noqa: PLR2004
        retention_age=_pick(random, (90 * _SECOND, 3600 * _SECOND)),
        retention_count=_pick(random, (1, 1000)),
    )


def _latency(random: Random, settings: Settings) -> Distribution:
    """None, of milliseconds, or so long that much can happen to a request on its way."""
    long = settings.heartbeat_timeout / 10
    latencies = NOTHING, Uniform(timedelta(0), _SECOND / 50), Uniform(timedelta(0), long)
    return _pick_one(random, latencies)


def _job(random: Random, settings: Settings) -> Distribution:
    interval = settings.interval
    return _pick_one(
        random,
        (
            Fixed(_SECOND),
            Fixed(interval / 4),
            Fixed(interval / 2),
            Uniform(_SECOND, interval / 3),
            LogNormal(5 * _SECOND, 1.0, 2 * interval),
            HeavyTail(2 * _SECOND, 1.2, 3 * interval),
        ),
    )


def _faults(random: Random, settings: Settings, cycles: int) -> tuple[Fault, ...]:
    """One to four kinds of faults, each some few times in the scenario."""
    timeout, margin = settings.heartbeat_timeout, settings.spread_margin
    lasts: dict[FaultKind, Distribution] = {
        FaultKind.CRASH: Uniform(timedelta(0), 2 * settings.interval),
        FaultKind.RESTART: Uniform(timedelta(0), timeout),
        FaultKind.PAUSE: _pick_one(
            random, (Uniform(timedelta(0), timeout / 2), Uniform(timeout / 2, 3 * timeout))
        ),
        FaultKind.CUT_OFF: Uniform(timedelta(0), 2 * timeout),
        FaultKind.OUTAGE: Uniform(timedelta(0), 2 * timeout),
        FaultKind.SLOW: Uniform(timedelta(0), settings.interval),
        FaultKind.LOST_REPLY: Uniform(timedelta(0), 5 * _SECOND),
        FaultKind.LATE_COMMIT: Uniform(timedelta(0), settings.interval),
        FaultKind.LEAVE: Uniform(timedelta(0), settings.interval),
        FaultKind.JOIN: Uniform(timedelta(0), 3 * settings.interval),
        FaultKind.DEPLOY: Uniform(timedelta(0), settings.interval / 4),
        FaultKind.OVERRUN: Uniform(settings.interval / 2, 2 * settings.interval),
    }
    delay: dict[FaultKind, Distribution] = {
        FaultKind.SLOW: Uniform(timedelta(0), _pick(random, (_SECOND, settings.interval / 4))),
        FaultKind.LOST_REPLY: _pick_one(random, (NOTHING, Uniform(timedelta(0), 10 * _SECOND))),
        FaultKind.LATE_COMMIT: Uniform(timedelta(0), margin * 0.9),
    }
    kinds = tuple(FaultKind)
    chosen = {_pick(random, kinds) for _ in range(1 + int(random.random() * 4))}
    return tuple(
        Fault(
            kind,
            settings.interval * cycles / _pick(random, (2, 4, 12, 36)),
            lasts.get(kind, NOTHING),
            delay.get(kind, NOTHING),
        )
        for kind in kinds
        if kind in chosen
    )


def _pick(random: Random, among: tuple[_T, ...]) -> _T:
    """One of several, drawn with ``random()`` alone."""
    return among[int(random.random() * len(among))]


def _pick_one(random: Random, among: tuple[Distribution, ...]) -> Distribution:
    return _pick(random, among)
