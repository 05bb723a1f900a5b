"""What goes wrong in a scenario, in the order of time."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from heapq import merge

from turnwise.simulation.scenario import (
    OF_ONE_RUNNER,
    Fault,
    Incident,
    Scenario,
    exponential,
)

_ZERO = timedelta(0)
_MICROSECOND = timedelta(microseconds=1)


def incidents_of(scenario: Scenario) -> Iterator[Incident]:
    """Every incident of a scenario; the last is over when the quiet part begins.

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
        at += max(exponential(fault.every, random), _MICROSECOND)
        if at >= scenario.heals_at:
            return
        lasts = fault.lasts.draw(random)
        yield Incident(at, fault.kind, place, lasts, fault.delay.draw(random))
        at += lasts
