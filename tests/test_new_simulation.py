"""The shipped machine in virtual time: whatever goes wrong, what may never happen does not."""

from dataclasses import replace
from datetime import timedelta

from turnwise.schedules import Every
from turnwise.settings import Settings
from turnwise.simulation_new import (
    FaultKind,
    Fixed,
    Incident,
    Result,
    Scenario,
    simulate,
)

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)

SETTINGS = Settings(schedule=Every(MINUTE), spread_margin=2 * SECOND, heartbeat_timeout=21 * SECOND)
QUIET_WORLD = Scenario(settings=SETTINGS, job=Fixed(5 * SECOND), duration=30 * MINUTE)


def well(result: Result) -> Result:
    assert not result.violations, [str(violation) for violation in result.violations]
    return result


def with_incidents(*incidents: Incident, **changes: object) -> Result:
    """The quiet world, where just this goes wrong."""
    # Its fields have these names and types.
    return well(simulate(replace(QUIET_WORLD, incidents=incidents, **changes)))  # type: ignore[arg-type]


def test_after_an_outage_nobody_asks_the_storage_without_a_pause() -> None:
    """Heartbeats that come after the first look leave an empty set: offers were made in a loop."""
    result = with_incidents(
        Incident(9 * MINUTE + 50 * SECOND, FaultKind.OUTAGE, None, 27.96 * SECOND)
    )
    assert result.operations["MakeOffer"] <= 2 * 3


def test_who_has_a_slot_in_a_plan_that_replaces_a_void_one_hears_of_it_in_time() -> None:
    """The primary, alone in its plan, is killed; others plan anew and all look at once."""
    settings = replace(SETTINGS, standbys=0)
    at = 10 * MINUTE + 2 * SECOND
    result = with_incidents(
        Incident(at, FaultKind.KILL_IN_TURN, None, 3 * MINUTE), runners=5, settings=settings
    )
    assert result.operations["Advance"] >= 1
    assert result.periods_missed == 0
