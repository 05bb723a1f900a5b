"""Periods that pass while nobody plans are told once, by whoever comes first afterwards."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from machines import SERVICE, START, World, closed_worlds
from turnwise import gate as gates
from turnwise.controls import Controls
from turnwise.cycles import microseconds
from turnwise.events import PeriodMissed
from turnwise.machine import planning
from turnwise.texts import gate_from_text

EACH_CALL = ("heartbeat", "read", "stable", "swap", "offer", "append", "advance")


@pytest.fixture(autouse=True)
def worlds_are_closed() -> Iterator[None]:
    yield from closed_worlds()


def missed(world: World) -> list[tuple[float, float, int, str]]:
    """Each event: the first due instant, the end of the last period, how many, and why."""
    start = round(START.timestamp()) * 1_000_000
    return [
        ((event.due - start) / 1e6, (event.until - start) / 1e6, event.count, event.why)
        for event in world.told(PeriodMissed)
        if isinstance(event, PeriodMissed)
    ]


def away_from(world: World, *, second: float, until: float) -> None:
    """Everybody is killed at a second, and starts again at another one."""
    world.run_to(second=second)
    for name in world.names:
        world.virtual.kill(name)
    world.run_to(second=until)
    for name in world.names:
        world.start(name)


def test_what_passed_while_everybody_was_dead_is_told_in_one_event() -> None:
    world = World(("a", "b"))
    away_from(world, second=65, until=310)
    assert missed(world) == []
    world.run_to(second=430)
    assert missed(world) == [(120, 300, 3, "nobody_planned")]
    assert world.dues() == [60, 300, 360, 420]


def test_what_passed_while_the_storage_was_away_for_all_is_told_in_one_event() -> None:
    world = World()
    world.run_to(second=65)
    for call in EACH_CALL:
        world.storages["a"].fail(call, times=1_000_000)
    world.run_to(second=310)
    for call in EACH_CALL:
        world.storages["a"].fail(call, times=0)
    world.run_to(second=430)
    assert missed(world) == [(120, 300, 3, "nobody_planned")]
    assert world.dues() == [60, 300, 360, 420]


def test_a_period_that_was_planned_and_those_after_it_are_told_each_for_its_own_reason() -> None:
    world = World()
    away_from(world, second=119.5, until=250)  # the cycle of 120 s is planned before
    world.run_to(second=310)
    assert missed(world) == [
        (120, 180, 1, "nobody_started"),
        (180, 240, 1, "nobody_planned"),
    ]


def test_what_passed_is_told_once_and_nothing_is_told_where_nothing_passed() -> None:
    world = World(("a", "b"))
    away_from(world, second=65, until=110)
    world.run_to(second=600)
    assert missed(world) == []


def test_what_passed_while_it_was_paused_was_not_missed() -> None:
    world = World()
    world.run_to(second=62)
    Controls(world.virtual.storage, by="me").pause(SERVICE, until=timedelta(seconds=130))
    away_from(world, second=65, until=310)
    world.run_to(second=430)
    assert missed(world) == [(240, 300, 1, "nobody_planned")]


def test_of_a_schedule_that_did_not_hold_nothing_is_told() -> None:
    """What was due while nobody was there depends on when the settings changed."""
    world = World()
    world.run_to(second=65)
    world.virtual.kill("a")
    world.run_to(second=310)
    other = World((), schedule="every 30s")
    other.virtual.kill("a")  # one that every world begins with
    other.virtual.storage = world.virtual.storage
    other.virtual._epoch, other.virtual._time = world.virtual._epoch, world.virtual._time
    other.start("c")
    world.virtual._processes["c"] = other.virtual._processes["c"]
    world.run_to(second=430)
    assert other.dues()[-1] == 420
    assert missed(world) == missed(other) == []


def test_the_settings_that_a_plan_was_made_by_are_kept_before_the_turn_that_follows_it() -> None:
    """Whoever planned may die in that turn, and the audit would never know what was due."""
    world = World()
    world.run_to(second=65)
    world.virtual.kill("a")
    world.run_to(second=310)
    other = World((), takes=timedelta(seconds=40), knobs={"attempts": 2})
    other.virtual.kill("a")  # one that every world begins with
    other.virtual.storage = world.virtual.storage
    other.virtual._epoch, other.virtual._time = world.virtual._epoch, world.virtual._time
    other.start("c")
    world.virtual._processes["c"] = other.virtual._processes["c"]
    world.run_to(second=315)
    assert [each.ended for each in other.served] == [None], "it is at work"
    rows = world.virtual.storage.history("default", SERVICE, kinds=["command"])
    assert len(rows) == 2


def test_how_many_are_counted_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MOST_UNPLANNED", 2)
    world = World()
    away_from(world, second=65, until=610)
    world.run_to(second=700)
    assert missed(world) == [(120, 600, 2, "nobody_planned")]


def test_what_the_gate_knows_as_served_was_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as where an older plan was restored beside a newer gate."""
    served = round(START.timestamp() + 180) * 1_000_000
    real = gates.is_served

    def is_served(gate: gates.Gate, key: int, *, now: int, ahead: int) -> bool:
        return key == served or real(gate, key, now=now, ahead=ahead)

    monkeypatch.setattr(gates, "is_served", is_served)
    world = World()
    away_from(world, second=65, until=310)
    world.run_to(second=430)
    assert missed(world) == [(120, 300, 2, "nobody_planned")]


def test_what_is_still_at_work_for_a_period_in_between_was_not_missed() -> None:
    """Such as where the clock had jumped ahead over the period, and back."""
    world = World(takes=timedelta(seconds=5))
    world.run_to(second=62)
    state, now = world.machine()._state, microseconds(START + timedelta(seconds=310))
    kept = world.virtual.storage.read("default", (SERVICE,)).services[SERVICE].gate
    assert kept is not None
    at_work = gate_from_text(kept.body)
    assert at_work.open is not None
    key = at_work.open.key
    assert key == microseconds(START + timedelta(seconds=60))
    state.unplanned = key, now
    assert planning.told_of_missed(state, now, at_work) == []
    [event] = planning.told_of_missed(state, now, replace(at_work, open=None))
    assert isinstance(event, PeriodMissed)
    assert event.due == key
    assert planning.told_of_missed(state, now, replace(at_work, open=None)) == []
