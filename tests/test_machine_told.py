"""What a machine tells of what it does: each event has all that happened, to the last field."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines import SECOND, SERVICE, START, World, closed_worlds
from turnwise.actions import Elapsed
from turnwise.controls import Controls
from turnwise.cycles import microseconds
from turnwise.events import (
    CyclePlanned,
    Looked,
    SettingsDiffer,
    TurnLost,
    TurnStarted,
)
from turnwise.machine import planning
from turnwise.plan import Plan

worlds = pytest.fixture(autouse=True)(closed_worlds)

NAMED: Final[dict[str, Any]] = {"group": "default", "service": SERVICE}


def us(second: float) -> int:
    """An instant of the storage, so many seconds after the start."""
    return microseconds(START + second * SECOND)


def plan_of(world: World, name: str = "a") -> Plan:
    plan = world.machine(name).plan
    assert plan is not None
    return plan


def test_a_look_tells_the_storages_now_and_when_the_last_run_that_completed_ended() -> None:
    world = World(takes=2 * SECOND)
    world.run_to(second=241)
    looks = [each for each in world.told(Looked) if isinstance(each, Looked)]
    ends = [us(62), us(122), us(182)]
    assert {sum(end <= look.now for end in ends) for look in looks} == {0, 1, 2, 3}
    for look in looks:
        last = max((end for end in ends if end <= look.now), default=None)
        assert look == Looked(**NAMED, runner_id="a", now=look.now, success=last)


@pytest.mark.parametrize("void", [False, True])
def test_a_plan_tells_its_cycle_its_period_and_who_has_a_slot_in_it_in_order(*, void: bool) -> None:
    """Where nobody of a plan is left, the one in its place says so."""
    world = World(("a", "b"), knobs={"standbys": 0} if void else {})
    world.run_to(second=119)
    if void:
        world.virtual.kill(plan_of(world).cycles[-1].runners[0][0])
        world.run_to(second=170)
    *_, told = world.told(CyclePlanned)
    cycle = plan_of(world, told.runner_id).cycles[-1]
    assert told == CyclePlanned(
        **NAMED,
        runner_id=told.runner_id,
        start=cycle.start,
        end=cycle.end,
        due=cycle.due,
        runners=tuple(name for name, _ in cycle.runners),
        size=cycle.size,
        void=void,
    )
    assert cycle.due == us(120)
    assert (cycle.start == us(120)) != void


@pytest.mark.parametrize("triggered", [False, True])
def test_a_start_tells_the_run_its_instant_and_whether_somebody_asked_for_it(
    *, triggered: bool
) -> None:
    world = World()
    world.run_to(second=65)
    if triggered:
        Controls(world.virtual.storage, by="me").trigger(SERVICE)
        world.run_to(second=80)
    *_, told = world.told(TurnStarted)
    run = world.runs()[-1]
    assert told == TurnStarted(
        **NAMED,
        runner_id="a",
        run_id=run.id,
        token=len(world.served),
        due=run.due,
        attempt=1,
        started_at=run.started_at,
        triggered=triggered,
    )
    assert len(world.served) == 1 + triggered


@given(silent=st.integers(12_000_000, 10**13))
def test_a_turn_that_is_lost_tells_how_long_it_was_silent_and_how_long_it_may_be(
    silent: int,
) -> None:
    world = World(takes=timedelta(days=1000))
    world.run_to(second=60.5)
    machine = world.machine()
    assert machine.turn is not None
    [told] = machine.receive(machine.turn.confirmed_at + silent, Elapsed())
    assert isinstance(told, TurnLost)
    assert told.why == (f"no heartbeat was confirmed for {silent / 1e6:.1f} s; the timeout is 12 s")


def test_a_plan_by_other_settings_is_told_once_with_the_period_that_it_is_for() -> None:
    world = World()
    world.run_to(second=65)
    machine = world.machine()
    state = machine._state
    told = []
    for settings in ("of one deploy", "of one deploy", "of another", "of another"):
        cycle = replace(plan_of(world).cycles[-1], settings=settings)
        told.append(planning.told_of_settings(state, cycle))
    differs = [SettingsDiffer(**NAMED, runner_id="a", due=us(60))]
    assert told == [differs, [], differs, []]
    assert planning.told_of_settings(state, plan_of(world).cycles[-1]) == [], "by our own"
    assert planning.told_of_settings(state, None) == []
