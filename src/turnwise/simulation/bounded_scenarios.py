"""Scenarios that a bound of the review can be held against, from when all count."""

from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import TypeVar

from turnwise.review import review
from turnwise.schedules import Every
from turnwise.settings import Settings
from turnwise.simulation.bounds import all_count_from
from turnwise.simulation.scenario import Fault, FaultKind, Fixed, Incident, Scenario, Uniform

_SECOND = timedelta(seconds=1)
_CYCLE = 60 * _SECOND
_ZERO = timedelta(0)
_T = TypeVar("_T")


def bounded(random: Random, seed: int, cycles: int) -> Scenario:
    """One of the families, drawn."""
    settings = _settings(random)
    calm = Scenario(
        settings=settings,
        runners=_pick(random, (1, 2, 2, 3, 3, 4, 5)),
        job=Fixed(_SECOND / 2 + random.random() * 8 * _SECOND),
        duration=cycles * _CYCLE,
        quiet=min(4, cycles // 2) * _CYCLE,
        seed=seed,
    )
    families = _all_is_well, _one_gone, _one_gone, _one_gone, _come_and_go, _slots_alone
    return _pick(random, families)(random, calm)


def _settings(random: Random) -> Settings:
    periods = _CYCLE, _CYCLE, 2 * _CYCLE, 3 * _CYCLE
    return Settings(
        schedule=Every(_pick(random, periods)),
        cycle=_CYCLE,
        spread_margin=_pick(random, (_SECOND, 2 * _SECOND, 4 * _SECOND)),
        heartbeat_timeout=_pick(random, (9 * _SECOND, 20 * _SECOND, 60 * _SECOND)),
        max_start_slot_fraction=_pick(random, (0.25, 0.5, 0.5, 1.0)),
        standbys=_pick(random, (0, 1, 2, 2)),
        attempts=_pick(random, (1, 3, 3, 3)),
    )


def _all_is_well(_: Random, calm: Scenario) -> Scenario:
    return calm


def _one_gone(random: Random, calm: Scenario) -> Scenario:
    """One runner is killed, restarted or leaves, in its turn or while it is idle."""
    kinds = (
        FaultKind.CRASH,
        FaultKind.RESTART,
        FaultKind.LEAVE,
        FaultKind.KILL_IN_TURN,
        FaultKind.KILL_IN_TURN,
    )
    most, long = _CYCLE * 1.5, 0.6
    runners = max(2, calm.runners)
    kind = _pick(random, kinds)
    return replace(
        calm,
        runners=runners,
        job=Fixed(random.random() * most) if random.random() < long else calm.job,
        incidents=(
            Incident(
                _between(random, all_count_from(calm), calm.heals_at),
                kind,
                None if kind is FaultKind.KILL_IN_TURN else int(random.random() * runners),
                _between(random, _ZERO, 3 * _CYCLE),
            ),
        ),
    )


def _come_and_go(random: Random, calm: Scenario) -> Scenario:
    """Whoever counts has a slot, and runners join, leave and are killed."""
    kinds = FaultKind.CRASH, FaultKind.RESTART, FaultKind.LEAVE, FaultKind.JOIN
    chosen = {_pick(random, kinds) for _ in range(2)}
    faults = tuple(
        Fault(kind, 4 * _CYCLE, Uniform(_ZERO, 2 * _CYCLE)) for kind in kinds if kind in chosen
    )
    settings = replace(calm.settings, runs="every_slot", schedule=Every(_CYCLE))
    return replace(calm, settings=settings, faults=faults)


def _slots_alone(random: Random, calm: Scenario) -> Scenario:
    """Local clocks, no gate, turns that just fit, and a storage that is away as slots start."""
    skew = _pick(random, (_ZERO, _SECOND / 2, _SECOND))
    settings = replace(calm.settings, runs="every_slot", schedule=Every(_CYCLE))
    calm = replace(
        calm, settings=settings, clock="local", clock_skew=skew, runners=max(2, calm.runners)
    )
    promised = review(settings, runners=calm.runners)
    spare = promised.slot - promised.window - skew
    away = settings.heartbeat_timeout / 4
    first = -(-all_count_from(calm) // _CYCLE) + 1
    slots = (
        cycle * _CYCLE + int(random.random() * promised.slots) * promised.slot
        for cycle in range(first, calm.heals_at // _CYCLE, 4)
    )
    return replace(
        calm,
        job=Fixed(max(spare * (0.9 + random.random() / 10), _ZERO)),
        incidents=tuple(
            Incident(slot - away / 4, FaultKind.OUTAGE, None, _between(random, away / 4, away))
            for slot in slots
        ),
    )


def _between(random: Random, least: timedelta, most: timedelta) -> timedelta:
    return least + random.random() * (most - least)


def _pick(random: Random, among: tuple[_T, ...]) -> _T:
    """One of several, drawn with ``random()`` alone."""
    return among[int(random.random() * len(among))]
