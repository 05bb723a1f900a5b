"""Scenarios that a bound of the review can be held against, from when all count."""

from datetime import timedelta
from random import Random

from turnwise.schedules import Every
from turnwise.settings import Settings
from turnwise.simulation_new.scenario import Fixed, Scenario

_SECOND = timedelta(seconds=1)
_CYCLE = 60 * _SECOND


def bounded(random: Random, seed: int, cycles: int) -> Scenario:
    """One of the families, drawn."""
    return Scenario(
        settings=Settings(schedule=Every(_CYCLE), cycle=_CYCLE),
        job=Fixed(_SECOND / 2 + random.random() * 8 * _SECOND),
        duration=cycles * _CYCLE,
        quiet=min(4, cycles // 2) * _CYCLE,
        seed=seed,
    )
