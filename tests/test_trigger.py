"""A triggered run finds its place: behind a turn in the same slot, or in the place of one."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from machines import SERVICE, START, World, assert_one_at_a_time, closed_worlds
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.controls import Controls
from turnwise.cycles import microseconds
from turnwise.events import NoTurn
from turnwise.gate import Execution
from turnwise.turn import Turn


@pytest.fixture(autouse=True)
def worlds_are_closed() -> Iterator[None]:
    yield from closed_worlds()


def a_world(*names: str, takes: int = 1, **more: Any) -> World:
    return World(names, takes=timedelta(seconds=takes), knobs={"runs": "every_slot"}, **more)


def trigger(world: World, *, second: float) -> None:
    world.run_to(second=second)
    Controls(world.virtual.storage, by="me").trigger(SERVICE)


def triggered(world: World) -> list[Execution]:
    return [run for run in world.runs() if run.trigger is not None]


def ordinary(world: World) -> int:
    return len(world.runs()) - len(triggered(world))


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
@pytest.mark.parametrize("second", [62, 75, 119.5])
def test_a_triggered_run_starts_once_and_no_slot_loses_its_turn(
    names: tuple[str, ...], second: float
) -> None:
    calm, world = a_world(*names), a_world(*names)
    calm.run_to(second=299)
    trigger(world, second=second)
    world.run_to(second=299)
    [run] = triggered(world)
    assert run.status is Status.COMPLETED
    assert ordinary(world) == ordinary(calm)
    assert_one_at_a_time(world)


def test_where_turns_leave_no_time_in_a_slot_it_takes_the_place_of_one() -> None:
    world = a_world("a", "b", "c", takes=13)  # of 20 s, and one may start in the first 8.5
    trigger(world, second=62)
    world.run_to(second=179)
    assert triggered(world) == []
    world.run_to(second=299)
    [run] = triggered(world)
    assert run.status is Status.COMPLETED
    assert ordinary(world) == 4 * 3 - 1
    assert_one_at_a_time(world)


def test_two_triggers_one_after_the_other_have_a_run_each() -> None:
    world = a_world("a", "b")
    trigger(world, second=62)
    trigger(world, second=130)
    world.run_to(second=299)
    assert len({run.trigger for run in triggered(world)}) == len(triggered(world)) == 2


def test_a_triggered_run_that_fails_is_not_tried_again() -> None:
    def fails(turn: Turn) -> None:
        if turn.triggered:
            raise ValueError("no")

    world = a_world("a", "b", work=fails)
    trigger(world, second=62)
    world.run_to(second=299)
    assert [run.reason for run in triggered(world)] == ["exception:ValueError"]


def test_one_that_had_no_chance_is_tried_again_in_another_slot_and_not_in_the_same() -> None:
    world = World(("a",), knobs={"runs": "every_slot", "min_run_margin": "50s"})
    trigger(world, second=75)
    world.run_to(second=119)
    assert [run.reason for run in triggered(world)] == ["no_margin"]
    world.run_to(second=299)
    assert [run.reason for run in triggered(world)] == ["no_margin", ""]
    assert_one_at_a_time(world)


@pytest.mark.parametrize("second", [62, 75, 119.5])
def test_a_runner_that_is_alone_runs_what_is_triggered_and_serves_each_period_all_the_same(
    second: float,
) -> None:
    """Its one slot lasts as long as the period, and its turn has used it."""
    calm, world = World(("a",)), World(("a",))
    calm.run_to(second=299)
    trigger(world, second=second)
    world.run_to(second=299)
    [run] = triggered(world)
    assert run.status is Status.COMPLETED
    assert ordinary(world) == ordinary(calm)
    assert_one_at_a_time(world)


def test_the_primary_that_has_served_the_period_runs_what_is_triggered_in_its_slot() -> None:
    world = World(("a", "b", "c"))
    trigger(world, second=62)
    world.run_to(second=119)
    served, run = (each for each in world.runs() if each.started_at >= world.runs()[-2].started_at)
    assert (run.trigger is None, served.trigger is None) == (False, True)
    assert (run.runner_id, run.slot_start) == (served.runner_id, served.slot_start)


@pytest.mark.parametrize("runs", ["once", "every_slot"])
def test_a_runner_that_has_had_its_turn_is_not_called_late_for_what_is_triggered_after(
    runs: str,
) -> None:
    world = World(("a",), knobs={"runs": runs})
    trigger(world, second=110)
    world.run_to(second=299)
    assert len(triggered(world)) == 1
    assert world.told(NoTurn) == []


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("a", "b", "c")])
@pytest.mark.parametrize("second", [62, 75, 119.5])
def test_what_is_triggered_runs_though_every_turn_fails(
    names: tuple[str, ...], second: float
) -> None:
    """Each slot is used by an attempt at its period: the trigger goes before a further attempt."""

    def fails(turn: Turn) -> None:
        if not turn.triggered:
            raise ValueError("no")

    world = World(names, knobs={"attempts": 9}, work=fails)
    trigger(world, second=second)
    world.run_to(second=299)
    [run] = triggered(world)
    assert run.status is Status.COMPLETED
    assert run.started_at < microseconds(START + timedelta(seconds=240))
    periods = {each.due for each in world.runs() if each.trigger is None}
    assert len(periods) >= 4, "no period lost its first attempt to the trigger"
