"""A failing scenario made small: what is left has something to do with the failure."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

from turnwise.simulation.scenario import NOTHING, Fixed, Incident, Scenario, incidents_of

Fails = Callable[[Scenario], bool]


def shrink(scenario: Scenario, fails: Fails) -> Scenario:
    """The smallest scenario that is found to fail as ``scenario`` does.

    Greedy: the faults become the incidents that they had, of which as many go as can, and then
    all that is not plain.
    """
    shrunk = replace(scenario, faults=(), incidents=tuple(incidents_of(scenario)))
    if not fails(shrunk):
        return scenario
    shrunk = _without_incidents(shrunk, fails)
    for simpler in _plainer(shrunk):
        candidate = replace(shrunk, **simpler)  # type: ignore[arg-type] # fields of a scenario
        if candidate != shrunk and fails(candidate):
            shrunk = candidate
    return shrunk


def _without_incidents(scenario: Scenario, fails: Fails) -> Scenario:
    """Leave out half of the incidents, a quarter, and so on, down to each one."""
    kept = scenario.incidents
    size = len(kept)
    while size:
        at = 0
        while at < len(kept):
            fewer = kept[:at] + kept[at + size :]
            if fails(replace(scenario, incidents=fewer)):
                kept = fewer
            else:
                at += size
        size //= 2
    return replace(scenario, incidents=kept)


def _plainer(scenario: Scenario) -> Iterator[dict[str, object]]:
    places = [i.place for i in scenario.incidents if i.place is not None]
    for runners in range(max([0, *places]) + 1, scenario.runners):
        yield {"runners": runners}
    yield {"services": 1}
    yield {"latency": NOTHING}
    yield {"clock_skew": timedelta(0)}
    yield {"job": Fixed(timedelta(seconds=1))}
    for index, incident in enumerate(scenario.incidents):
        yield {"incidents": _rounded(scenario.incidents, index, incident)}


def _rounded(
    incidents: tuple[Incident, ...], index: int, incident: Incident
) -> tuple[Incident, ...]:
    second = timedelta(seconds=1)
    at, lasts = (round(value / second) * second for value in (incident.at, incident.lasts))
    return (*incidents[:index], replace(incident, at=at, lasts=lasts), *incidents[index + 1 :])
