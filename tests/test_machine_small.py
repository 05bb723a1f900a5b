"""Small things that a machine remembers, asks for or leaves alone, each for a reason of its own."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from machines import HEARTBEAT, MICROSECOND, SECOND, SERVICE, START, World, closed_worlds
from turnwise import plan as plans
from turnwise.actions import Append, FunctionEnded, Look, MakeOffer, Wait
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.controls import Controls
from turnwise.cycles import microseconds
from turnwise.errors import TurnFailedError
from turnwise.events import PeriodMissed, SettingsDiffer
from turnwise.looks import Lookout, next_look
from turnwise.machine import Machine, history, planning, watching
from turnwise.machine.state import Sighting, State
from turnwise.schedules import Every
from turnwise.settings import Settings
from turnwise.storages import Entry, Owner, Sight, StableSet
from turnwise.turn import Turn

worlds = pytest.fixture(autouse=True)(closed_worlds)

INTERVAL = HEARTBEAT // MICROSECOND


def us(second: float) -> int:
    """An instant of the storage, so many seconds after the start."""
    return microseconds(START + second * SECOND)


def state_at(second: float, **world: Any) -> tuple[State, int]:
    """What a runner alone knows then, and our clock."""
    made = World(**world)
    made.run_to(second=second)
    return made.machine()._state, made.virtual._time.at


# What is asked for --------------------------------------------------------------------------------


@pytest.mark.parametrize("may_run", [False, True])
def test_an_offer_says_who_offers_which_settings_for_how_long_and_whether_it_takes_turns(
    *, may_run: bool
) -> None:
    settings = Settings(schedule=Every("1m"), heartbeat_timeout=7 * SECOND)
    machine = Machine(
        group="default",
        service=SERVICE,
        runner_id="a",
        boot_id="boot",
        settings=settings,
        names=str,
        may_run=may_run,
    )
    asked = machine.next(0)
    assert isinstance(asked, MakeOffer)
    offer = asked.offer
    assert (offer.runner_id, offer.boot_id, offer.service) == ("a", "boot", SERVICE)
    assert (offer.settings, offer.heartbeat_timeout) == (settings.to_json(), 7_000_000)
    assert offer.may_run == may_run
    assert machine.settings == settings


@pytest.mark.parametrize(("early", "appends"), [(1, False), (0, True)])
def test_what_is_in_no_hurry_is_appended_from_its_instant_on(early: int, *, appends: bool) -> None:
    state, at = state_at(30)
    state.to_keep = rows = Append((Entry("settings", 0, "command", "{}"),))
    state.keep_from = at
    state.soon, state.wake = at + 1_000_000, None
    machine = World().machine()
    machine._state = state
    assert machine.next(at - early) == (rows if appends else Wait(at + 1_000_000))


@pytest.mark.parametrize(("took", "begins"), [(60 - 1e-6, True), (60, False)])
def test_a_turn_for_which_no_margin_is_asked_begins_up_to_the_end_of_its_slot(
    took: float, *, begins: bool
) -> None:
    knobs = {"min_run_margin": timedelta(), "heartbeat_timeout": timedelta(minutes=1)}
    world = World(takes=timedelta(), knobs=knobs)
    world.run_to(second=59)
    world.storages["a"].after["swap"] = lambda: world.pass_in_silence(timedelta(seconds=took))
    world.run_to(second=119)
    world.run_for(SECOND)
    reasons = [reason for _, _, reason in world.ends()[:1]]
    assert reasons == (["" if begins else "no_margin"])


def test_a_run_says_whose_slot_of_which_cycle_it_is_in_and_what_it_was_planned_by() -> None:
    def fails_first(turn: Turn) -> None:
        if turn.attempt == 1:
            raise TurnFailedError("no paper")

    world = World(("a", "b", "c"), work=fails_first)
    world.run_to(second=119)
    plan = world.machine().plan
    assert plan is not None
    cycle = next(each for each in plan.cycles if each.due == us(60))
    first, second = world.runs()
    for run, position in ((first, 0), (second, 1)):
        slot = cycle.slot(position)
        assert (run.runner_id, run.position) == (cycle.runners[position][0], position)
        assert (run.slot_start, run.slot_end) == (slot.start, slot.end)
        assert (run.cycle_start, run.due) == (cycle.start, us(60))
        assert (run.size, run.digest) == (cycle.size, cycle.digest)
        assert (run.attempt, run.token, run.started_at) == (position + 1, position + 1, slot.start)


# When to look -------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("blocked_by", [None, "another run"])
def test_the_next_look_is_chosen_by_who_waits_what_it_has_had_and_what_is_in_its_way(
    blocked_by: str | None, *, used: bool
) -> None:
    state, _ = state_at(59.5, knobs={"membership_stabilization": 10 * SECOND})
    plan, gate = state.seen.plan, state.seen.gate
    assert plan is not None
    assert gate is not None
    state.used_slot, state.blocked_by = plan.cycles[-1].start if used else None, blocked_by
    who = Lookout("a", state.planner, INTERVAL, state.used_slot, blocked_by is not None)
    state.wait_for_chance(us(60))
    assert state.wake == next_look(plan, gate, who, us(60))
    others = [replace(who, used_slot=None), replace(who, is_blocked=False)]
    if used or blocked_by:
        assert any(next_look(plan, gate, other, us(60)) != state.wake for other in others)


def test_a_drained_runner_takes_no_turn_in_a_slot_that_it_was_given_before() -> None:
    world = World(("a", "b"), knobs={"spread_margin": 25 * SECOND, "standbys": 1})
    world.run_to(second=114)
    plan = world.machine().plan
    assert plan is not None
    (primary, _), (standby, _) = plan.cycles[-1].runners
    assert plan.cycles[-1].start == us(120)
    world.virtual.storage.mark("default", primary, drained=True)
    world.run_to(second=179)
    assert [served.runner_id for served in world.served[1:]] == [standby]


@pytest.mark.parametrize(("late", "since"), [(0, 1_000), (1, None)])
def test_an_observer_that_had_no_answer_for_over_three_heartbeats_begins_to_count_anew(
    late: int, since: int | None
) -> None:
    state, _ = state_at(30)
    sight = Sight(Owner("x", "b", "boot", 10**9), 7, False)  # noqa: FBT003 (in their order)
    state.sighting = Sighting("x", 7, 1_000, 5_000)
    at = 5_000 + 3 * state.interval + late
    watching.observe(state, sight, at, at)
    assert state.sighting == Sighting("x", 7, at if since is None else since, at)


# Planning -----------------------------------------------------------------------------------------


def test_where_somebody_of_a_plan_in_doubt_is_alive_nothing_is_planned_and_the_plan_holds() -> None:
    state, at = state_at(65)
    plan = state.seen.plan
    assert plan is not None
    target = plans.replacement(plan.cycles[-1], us(65))
    for alive in (("a",), ()):
        state.target, state.then = (target, plan), None
        found = StableSet(us(65), 1, 7, (("a", us(0)),), frozenset(alive))
        assert planning.stable_found(state, at, found) == bool(alive)
        assert (state.then is None) == bool(alive)


@pytest.mark.parametrize("paused", ["not", "for a while", "for good"])
def test_a_trigger_of_a_service_that_is_paused_waits_until_the_pause_is_over(paused: str) -> None:
    """No plan covers now, and none is made for a run that nobody may start."""
    world = World(schedule="every 1h", knobs={"cycle": timedelta(minutes=1)})
    world.run_to(second=3605)
    world.run_for(timedelta(minutes=10))
    controls = Controls(world.virtual.storage, by="me")
    if paused != "not":
        controls.pause(SERVICE, until=2 * HEARTBEAT if paused == "for a while" else None)
    controls.trigger(SERVICE)
    world.run_for(HEARTBEAT + SECOND)
    assert len(world.served) == 1 + (paused == "not")
    world.run_for(3 * HEARTBEAT)
    assert len(world.served) == 1 + (paused != "for good")


@pytest.mark.parametrize(("early", "plans_it"), [(1, False), (0, True)])
def test_the_next_cycle_is_planned_from_where_the_margin_before_it_begins(
    early: int, *, plans_it: bool
) -> None:
    state, at = state_at(65)
    plan, gate = state.seen.plan, state.seen.gate
    assert plan is not None
    assert gate is not None
    now = us(120) - 3_000_000 - early
    assert planning.plan_ahead(state, at, now, plan, plan.cycles[-1], gate) == plans_it
    assert (state.then is not None) == plans_it


def breaks(_turn: object) -> None:
    raise TurnFailedError("no paper")


def test_periods_that_nobody_planned_are_told_by_themselves_beside_whatever_else_a_look_shows() -> (
    None
):
    world = World(work=breaks, knobs={"attempts": 1})
    world.run_to(second=119.9)
    state = world.machine()._state
    state.owed, state.unplanned = None, (us(60), us(120))
    state.planner = replace(state.planner, settings="of a later deploy")
    world.run_to(second=120.5)
    told = world.told(PeriodMissed, SettingsDiffer)
    assert [type(each) for each in told] == [SettingsDiffer, PeriodMissed]
    assert isinstance(told[1], PeriodMissed)
    assert (told[1].due, told[1].why) == (us(60), "nobody_planned")


# A turn that is let go ----------------------------------------------------------------------------


def test_a_function_that_returns_while_the_records_cannot_be_read_has_the_machine_look() -> None:
    """It was released at its timeout, and nobody waits for it but the machine."""
    world = World(takes=timedelta(hours=1), knobs={"timeout": 5 * SECOND})
    world.run_to(second=61)
    machine, at = world.machine(), world.virtual._time.at
    state, turn = machine._state, machine.turn
    assert turn is not None
    turn.end(Status.ABANDONED, "timeout", at)
    turn.recorded = turn.still_runs = state.tried_to_keep = True
    state.records, state.purge_is_due, state.asked = None, False, None
    state.wake, state.soon, state.retry_at, state.then = None, at + 9_000_000, None, None
    assert machine.receive(at, FunctionEnded(Status.COMPLETED)) == []
    assert machine.turn is None
    assert machine.next(at) == Look()


# Other settings -----------------------------------------------------------------------------------


def test_that_a_runner_has_come_with_other_settings_is_said_once_it_is_offered_and_no_more() -> (
    None
):
    state, _ = state_at(65)
    state.planner = replace(state.planner, settings="of a later deploy")
    state.has_said_offer = state.is_offered = False
    state.to_keep = None
    history.say_offered(state, us(65))
    assert state.to_keep is None
    state.is_offered = True
    for _ in range(3):
        history.say_offered(state, us(65))
    kept: Append | None = state.to_keep
    assert kept is not None
    assert len(kept.entries) == 1
