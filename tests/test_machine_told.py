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
    NoTurn,
    RecordUnreadable,
    SettingsDiffer,
    TurnLost,
    TurnOverdue,
    TurnStarted,
)
from turnwise.gate import Command, CommandName
from turnwise.machine import history, planning
from turnwise.plan import Plan
from turnwise.storages import Kind, Record
from turnwise.texts import gate_from_text, plan_from_text, row_from_text

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


def test_who_was_not_let_start_tells_the_reason_in_words_its_period_and_its_slot() -> None:
    world = World(knobs={"standbys": 0})
    world.run_to(second=59)
    world.virtual.suspend("a")
    world.run_to(second=100)
    world.virtual.resume("a")
    world.run_to(second=119)
    [told] = world.told(NoTurn)
    assert isinstance(told, NoTurn)
    assert told == NoTurn(
        **NAMED,
        runner_id="a",
        reason="late_start",
        message=told.message,
        due=us(60),
        slot_start=us(60),
    )
    assert "of the slot is gone" in told.message


def test_a_turn_that_is_overdue_tells_the_timeout_of_its_service() -> None:
    world = World(takes=30 * SECOND, knobs={"timeout": 10 * SECOND})
    world.run_to(second=75)
    [told] = world.told(TurnOverdue)
    assert isinstance(told, TurnOverdue)
    assert (told.timeout, told.due, told.token) == (10_000_000, us(60), 1)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_record_that_cannot_be_read_is_told_with_what_is_wrong_and_nothing_is_known_of_it(
    kind: Kind,
) -> None:
    world = World()
    world.run_to(second=70)
    storage = world.virtual.storage
    kept = storage.read("default", (SERVICE,)).services[SERVICE]
    record = kept.gate if kind is Kind.GATE else kept.plan
    assert record is not None
    spoiled = Record("new", '{"of": "tomorrow"}')
    assert storage.swap("default", SERVICE, kind, record.version, spoiled).done
    world.run_to(second=130)
    read = gate_from_text if kind is Kind.GATE else plan_from_text
    with pytest.raises(ValueError, match=f"no {kind} in") as caught:
        read(spoiled.body)
    wrong = RecordUnreadable(**NAMED, runner_id="a", error=str(caught.value))
    assert set(world.told(RecordUnreadable)) == {wrong}
    assert world.machine().gate is None
    assert world.machine().plan is None


def test_what_the_machine_knows_once_an_end_is_recorded_is_what_the_storage_keeps() -> None:
    world = World()
    world.run_to(second=61.5)
    kept = world.virtual.storage.read("default", (SERVICE,)).services[SERVICE].gate
    assert kept is not None
    assert world.machine().gate == gate_from_text(kept.body)
    assert world.machine()._state.seen.gate_version == kept.version


def test_what_the_machine_knows_once_a_cycle_is_planned_is_what_the_storage_keeps() -> None:
    world = World()
    while not world.told(CyclePlanned):  # no plan covers now, so it does not look at once
        world.run_for(SECOND / 10)
    kept = world.virtual.storage.read("default", (SERVICE,)).services[SERVICE].plan
    assert kept is not None
    assert world.machine().plan == plan_from_text(kept.body)
    assert world.machine()._state.seen.plan_version == kept.version


# Other settings -----------------------------------------------------------------------------------


def offered_rows(world: World) -> list[Command]:
    rows = world.virtual.storage.history("default", SERVICE)
    found = [row_from_text(each.body) for each in rows]
    return [row for row in found if isinstance(row, Command) and row.name is CommandName.OFFERED]


def another_deploy(world: World, *names: str, may_run: bool = True, **knobs: Any) -> World:
    """Processes that come with other settings to the storage of a world."""
    other = World((), knobs=knobs)
    other.virtual.storage = world.virtual.storage
    other.virtual._epoch, other.virtual._time = world.virtual._epoch, world.virtual._time
    for name in names:
        other.start(name, may_run=may_run)
        world.virtual._processes[name] = other.virtual._processes[name]
    return other


def test_a_deploy_that_comes_with_other_settings_says_so_once_and_not_before_it_is_offered() -> (
    None
):
    """The period is long: the plan by the old settings holds for a while."""
    world = World(schedule="every 1h")
    world.run_to(second=3602)
    came = us(3602)
    other = another_deploy(world, "c", "d", standbys=1)
    world.run_to(second=3700)
    [row] = offered_rows(world)
    state = other.machine("c")._state
    assert row == Command(
        id=row.id,
        name=CommandName.OFFERED,
        at=row.at,
        by=row.by,
        settings=state.settings_text,
    )
    assert row.by in {"c", "d"}
    assert came <= row.at < us(3620)
    appended = other.storages["c"].calls["append"], other.storages["d"].calls["append"]
    assert appended == (1, 1), "each of them once, with one id"


def test_who_may_not_run_or_has_the_settings_of_the_plan_says_nothing() -> None:
    world = World(schedule="every 1h")
    world.run_to(second=3602)
    other = another_deploy(world, "c", may_run=False, standbys=1)
    world.start("b")
    world.run_to(second=3700)
    assert offered_rows(world) == []
    assert other.machine("c")._state.to_keep is None


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6, unique=True))
def test_what_is_said_twice_of_two_deploys_has_two_ids(settings: list[str]) -> None:
    world = World()
    world.run_to(second=65)
    state = world.machine()._state
    for each in settings:
        state.planner = replace(state.planner, settings=each)
        for version in ("one plan", "another"):
            for _ in range(2):
                state.has_said_offer = False
                state.records = replace(state.seen, plan_version=version)
                history.say_offered(state, us(65))
    assert state.to_keep is not None
    ids = [entry.id for entry in state.to_keep.entries]
    assert len(ids) == 4 * len(settings)
    assert len(set(ids)) == 2 * len(settings)
    assert ids[0::2] == ids[1::2]
