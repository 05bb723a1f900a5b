"""What a room of the machine makes of one answer, to the last field."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from machines import (
    HEARTBEAT,
    MICROSECOND,
    PERIOD,
    SECOND,
    SERVICE,
    START,
    TIMEOUT,
    World,
    closed_worlds,
)
from turnwise import gate as gates
from turnwise import plan as plans
from turnwise.actions import Append, FindStable, HandedOver, Heard, Look, OffersListed, Purge
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.controls import Controls
from turnwise.cycles import microseconds
from turnwise.errors import TurnFailedError
from turnwise.events import NoTurn, TurnEnded
from turnwise.gate import Command, CommandName, Execution, Gate, Pause
from turnwise.looks import late_in
from turnwise.machine import Machine, closing, history, owner_of, planning
from turnwise.machine.answering import failed
from turnwise.plan import CyclePlan
from turnwise.storages import Beat, Entry, Kind, Offer, OfferRow, Pulse, Record
from turnwise.texts import gate_from_text, gate_to_text, row_from_text
from turnwise.turn import Turn

worlds = pytest.fixture(autouse=True)(closed_worlds)


def us(second: float) -> int:
    """An instant of the storage, so many seconds after the start."""
    return microseconds(START + second * SECOND)


def gate_of(world: World) -> tuple[Gate, str]:
    kept = world.virtual.storage.read("default", (SERVICE,)).services[SERVICE].gate
    assert kept is not None
    return gate_from_text(kept.body), kept.version


def put(world: World, gate: Gate) -> None:
    """Somebody else changes the gate."""
    _, version = gate_of(world)
    new = Record(f"after {version}", gate_to_text(gate), owner_of(gate))
    assert world.virtual.storage.swap("default", SERVICE, Kind.GATE, version, new).done


def planned(world: World, name: str = "a") -> CyclePlan:
    """The last cycle that is planned."""
    plan = world.machine(name).plan
    assert plan is not None
    return plan.cycles[-1]


# Rows of who was not let start ----------------------------------------------------------------


def late(world: World, due: float) -> None:
    """A runner alone was suspended in the window of its slot."""
    world.run_to(second=due - 1)
    world.virtual.suspend("a")
    world.run_to(second=due + 40)
    world.virtual.resume("a")
    world.run_to(second=due + 58)


def test_who_was_not_let_start_is_kept_with_its_slot_its_cycle_and_the_instant() -> None:
    world = World(knobs={"standbys": 0})
    world.run_to(second=59)
    cycle = planned(world)
    late(world, 60)
    [row] = [
        row_from_text(each.body)
        for each in world.virtual.storage.history("default", SERVICE, kinds=["blocked"])
    ]
    assert row == Execution(
        id=row.id,
        runner_id="a",
        status=Status.BLOCKED,
        reason="late_start",
        started_at=us(100),
        ended_at=us(100),
        token=None,
        due=us(60),
        cycle_start=us(60),
        slot_start=us(60),
        slot_end=us(120),
        position=0,
        attempt=0,
        size=1,
        digest=cycle.digest,
    )
    [told] = world.told(NoTurn)
    assert isinstance(told, NoTurn)
    assert (told.reason, told.due, told.slot_start) == ("late_start", us(60), us(60))


def test_who_was_not_let_start_in_two_slots_has_a_row_for_each() -> None:
    world = World(knobs={"standbys": 0})
    late(world, 60)
    late(world, 120)
    assert world.blocked() == ["late_start"] * 2


def test_what_the_history_has_is_known_for_as_long_as_the_gate_says_it() -> None:
    """So that a machine that runs for years does not remember every row."""
    world = World()
    world.run_to(second=30)
    state, row = world.machine()._state, Entry("new", 0, "command", "{}")
    said = gates.pause(gate_of(world)[0], id="said", now=us(30), by="ops", reason="")
    for records, kept in ((replace(state.seen, gate=said), {"new", "said"}), (None, {"new"})):
        state.kept, state.records = frozenset({"said", "gone"}), records
        history.appended(state, Append((row,)))
        assert state.kept == kept


# Leaving --------------------------------------------------------------------------------------


@pytest.mark.parametrize("runs", ["once", "every_slot"])
def test_a_gap_is_left_up_to_the_last_instant_at_which_a_turn_could_start(runs: str) -> None:
    world = World(knobs={"runs": runs})
    world.run_to(second=59)
    machine, ours = world.machine(), world.virtual._time.at
    now = machine.storage_now(ours)
    assert now is not None
    latest = ours + planned(world).slot(0).latest - now
    assert machine.leaves_a_gap(latest)
    assert not machine.leaves_a_gap(latest + 1)


# Closing --------------------------------------------------------------------------------------


def test_a_run_of_this_life_that_nothing_works_on_ends_at_an_instant_and_the_service_goes_on() -> (
    None
):
    world = World()
    world.run_to(second=60.5)
    process = world.virtual._processes["a"]
    service = process.services.by_name[SERVICE]
    service.let_go()
    service.machine = service._make()  # as after a bug
    process._changed()
    world.run_to(second=125)
    assert world.runs()[0].ended_at is not None
    assert world.dues()[-1] == 120


def breaks(_turn: object) -> None:
    raise TurnFailedError("no paper")


def end_of(world: World) -> tuple[str, str, bool]:
    """How the last turn ended."""
    *_, ended = world.told(TurnEnded)
    assert isinstance(ended, TurnEnded)
    return ended.status.value, ended.reason, ended.recorded


@pytest.mark.parametrize(
    ("work", "status", "reason"),
    [(lambda turn: turn, "completed", ""), (breaks, "abandoned", "no paper")],
)
@pytest.mark.parametrize("is_told", [False, True])
def test_an_end_whose_answer_was_lost_is_known_by_what_the_gate_still_says(
    work: Any, status: str, reason: str, *, is_told: bool
) -> None:
    """Where the row has gone to the history meanwhile, only a success is still to be seen."""
    world = World(work=work, knobs={"attempts": 1})
    world.run_to(second=120.5)  # the second turn, which no purge follows
    faulty = world.storages["a"]
    faulty.fail("swap", after=True)
    if is_told:
        faulty.after["swap"] = lambda: put(world, replace(gate_of(world)[0], unsaid=()))
    reads = faulty.calls["read"]
    world.run_to(second=121.2)
    is_known = status == "completed" or not is_told
    assert end_of(world) == (status, reason, is_known)
    assert (world.machine().gate, world.machine()._state.seen.gate_version) == gate_of(world)
    world.run_to(second=123)
    assert faulty.calls["read"] == reads + 1, "one look has shown it all"


def test_after_an_end_whose_answer_was_lost_the_first_thing_is_a_look() -> None:
    world = World()
    world.run_to(second=60.5)
    faulty = world.storages["a"]
    faulty.fail("swap")
    world.run_to(second=61.05)
    reads, swaps = faulty.calls["read"], faulty.calls["swap"]
    world.run_to(second=61.5)
    assert end_of(world) == ("completed", "", True)
    assert (faulty.calls["read"], faulty.calls["swap"]) == (reads + 1, swaps + 1)


def test_a_run_that_was_handed_over_and_was_buried_has_failed_and_not_as_it_was_buried() -> None:
    def work(turn: Turn) -> None:
        world.machine().receive(world.virtual._time.at, HandedOver(turn.run_id))
        buried = gates.bury(gate_of(world)[0], turn.run_id, now=us(61))
        assert isinstance(buried, Gate)
        put(world, buried)

    world = World(work=work)
    world.run_to(second=65)
    assert end_of(world) == ("abandoned", "not_committed", False)
    assert world.ends() == [("a", "abandoned", "owner_dead")]


def test_a_function_that_fails_after_its_run_was_handed_over_has_failed_for_its_own_reason() -> (
    None
):
    def work(turn: Turn) -> None:
        world.machine().receive(world.virtual._time.at, HandedOver(turn.run_id))
        breaks(turn)

    world = World(work=work)
    world.run_to(second=60.5)
    calls = world.storages["a"].calls
    reads, swaps = calls["read"], calls["swap"]
    world.run_to(second=65)
    assert end_of(world) == ("abandoned", "no paper", True)
    assert (calls["read"], calls["swap"]) == (reads + 1, swaps + 1), "a look, and then the end"


def test_the_history_is_purged_after_the_first_turn_of_a_life_and_not_after_the_second() -> None:
    world = World()
    for second in (65, 125):
        world.run_to(second=second)
        assert world.storages["a"].calls["purge"] == 1


def test_each_function_that_returns_after_its_turn_was_released_makes_room_for_the_next() -> None:
    world = World()
    world.virtual.add(
        lambda: world.virtual.sleep("100s"),
        "every 1m",
        name="long",
        timeout="10s",
        release_on_timeout=True,
    )
    world.run_to(second=301)
    began = [run.started_at - START for run in world.virtual.runs("long")]
    assert began == [timedelta(minutes=minutes) for minutes in (1, 3, 5)]


def test_a_runner_is_history_after_ten_of_its_timeouts_where_those_are_longer_than_a_day() -> None:
    world, machine = at_work()
    state, turn, at = machine._state, machine.turn, world.virtual._time.at
    assert turn is not None
    turn.gate, state.purge_is_due = replace(turn.gate, unsaid=()), True
    day = microseconds(timedelta(days=1))
    for timeout, silent in ((day // 10, day), (day, 10 * day)):
        state.timeout = timeout
        purge = closing.after_the_end(state, turn, at)
        assert isinstance(purge, Purge)
        assert purge.silent_before == us(61) - silent


def test_the_gate_has_another_version_after_each_end() -> None:
    world = World()
    versions = []
    for second in (65, 125):
        world.run_to(second=second)
        versions.append(gate_of(world)[1])
    assert all(versions)
    assert versions[0] != versions[1]


def test_what_an_operator_did_stays_in_the_history_when_old_runs_go() -> None:
    world = World(knobs={"retention_age": 10 * PERIOD})
    controls = Controls(world.virtual.storage, by="ops")
    controls.pause(SERVICE)
    controls.resume(SERVICE)
    world.run_for(66 * PERIOD)
    history_of = world.virtual.storage.history
    assert len(history_of("default", SERVICE, kinds=["completed"])) < 20
    rows = [row_from_text(row.body) for row in history_of("default", SERVICE, kinds=["command"])]
    names = [row.name for row in rows if isinstance(row, Command)]
    assert {CommandName.PAUSE, CommandName.RESUME} < set(names)


def test_an_end_says_which_attempt_it_was_and_that_what_never_began_took_no_time() -> None:
    world = World(work=breaks, knobs={"attempts": 2})
    world.run_to(second=59)
    world.storages["a"].after["swap"] = lambda: world.pass_in_silence(TIMEOUT)
    world.run_to(second=125)
    ends = [each for each in world.told(TurnEnded) if isinstance(each, TurnEnded)]
    assert [(each.reason, each.attempt, each.took) for each in ends] == [
        ("no_margin", 1, 0),
        ("no paper", 1, 1_000_000),
    ]


# Settling -------------------------------------------------------------------------------------


def test_a_lost_admission_is_taken_as_it_is_found_whatever_else_has_changed_in_the_gate() -> None:
    world = World(takes=5 * SECOND)
    world.run_to(second=59)
    faulty = world.storages["a"]
    faulty.fail("swap", after=True)
    faulty.after["swap"] = lambda: put(
        world, gates.pause(gate_of(world)[0], id="p", now=us(60), by="ops", reason="")
    )
    world.run_to(second=60.5)
    turn, (gate, version) = world.machine().turn, gate_of(world)
    assert turn is not None
    assert gate.pause is not None
    assert (turn.run, turn.gate, turn.version) == (gate.open, gate, version)
    assert world.machine().storage_now(turn.deadline) == turn.run.slot_end
    put(world, replace(gate, pause=None))
    world.run_to(second=179)
    assert world.dues() == [60, 120], "and it is settled for good"


# What is asked about a plan that is in doubt --------------------------------------------------


def offered_row(runner_id: str, settings: str, service: str = SERVICE) -> OfferRow:
    return OfferRow(Offer(runner_id, "boot", service, settings, 1), 0)


def test_of_a_plan_by_other_settings_those_are_asked_about_who_are_in_it_and_offer_them() -> None:
    world = World(("a", "b", "c"))
    world.run_to(second=61)
    (first, _), (second, _), (third, _) = planned(world).runners
    state = world.machine(first)._state  # it has looked in this cycle
    cycle, theirs = planned(world), state.settings_text
    state.planner = ours = replace(state.planner, settings="of a later deploy")
    rows = (
        offered_row(first, theirs),
        offered_row(second, "{}"),
        offered_row(third, theirs, service="another"),
        offered_row("d", theirs),
    )
    planning.offers_listed(state, OffersListed(rows))
    assert isinstance(state.then, FindStable)
    assert state.then.among == (first,)
    assert state.target is not None
    target, plan = state.target
    assert (target.void, target.settings) == (True, ours.settings)
    assert (target.cycle.start, target.cycle.end) == (state.seen.now, cycle.end)
    assert plan == plans.in_force(state.seen.plan, ours, state.seen.now)
    assert plan is not None


def test_who_still_has_its_slot_before_it_asks_about_nobody() -> None:
    world = World(("a", "b"))
    world.run_to(second=60.5)
    cycle = planned(world)
    standby = cycle.runners[1][0]
    state, latest = world.machine(standby)._state, cycle.slot(1).latest
    gate = Gate(floor=us(59))
    assert not planning.may_be_void(state, latest, cycle, state.seen.plan, gate)
    assert state.then is None
    assert planning.may_be_void(state, latest + 1, cycle, state.seen.plan, gate)
    assert isinstance(state.then, FindStable)


def test_a_plan_is_doubted_once_and_once_more_from_an_instant_late_in_its_cycle() -> None:
    world = World(("a", "b"))
    world.run_to(second=60.5)
    cycle = planned(world)
    primary = cycle.runners[0][0]
    state, turn = world.machine(primary)._state, world.machine(primary).turn
    assert turn is not None
    gate, plan, late = Gate(floor=us(59)), state.seen.plan, late_in(cycle, primary)
    past = cycle.slot(0).latest + 1

    def is_doubted(now: int, gate: Gate = gate) -> bool:
        return planning.may_be_void(state, now, cycle, plan, gate)

    assert not is_doubted(past, replace(gate, open=turn.run)), "somebody is there"
    assert not is_doubted(past, replace(gate, pause=Pause(0, "ops", "")))
    assert is_doubted(past)
    assert state.target == (plans.replacement(cycle, past), plan)
    assert [is_doubted(now) for now in (past, late - 1, late, late + 1)] == [
        False,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("due", "until", "is_paused"),
    [(9, 20, False), (10, 20, True), (19, 20, True), (20, 20, False), (10, None, True)],
)
def test_a_period_was_paused_from_the_pause_on_and_until_it_was_over(
    due: int, until: int | None, *, is_paused: bool
) -> None:
    gate = Gate(floor=0, pause=Pause(10, "ops", "", until))
    assert planning._was_paused(gate, due) == is_paused
    assert not planning._was_paused(replace(gate, pause=None), due)


# Answers that are lost ------------------------------------------------------------------------


def test_what_is_in_no_hurry_is_tried_again_ten_heartbeats_later() -> None:
    world = World()
    world.run_to(second=30)
    state = world.machine()._state
    state.to_keep = asked = Append((Entry("settings", 0, "command", "{}"),))
    failed(state, 1_000_000, asked)
    assert state.keep_from == 1_000_000 + 10 * (HEARTBEAT // MICROSECOND)
    assert state.to_keep == asked
    assert not state.tried_to_keep, "this says nothing of the rows of a turn"


def test_rows_that_the_history_did_not_take_stay_in_the_gate_and_the_turn_is_let_go() -> None:
    world = World()
    world.run_to(second=120.5)  # the second turn, which no purge follows
    faulty, machine = world.storages["a"], world.machine()
    faulty.fail("append", times=100)
    before = faulty.calls["append"]
    world.run_to(second=123)
    assert machine.turn is None
    assert faulty.calls["append"] == before + 1
    assert machine._state.keep_from == 0
    assert machine.gate is not None
    assert len(machine.gate.unsaid) == 1


def test_a_question_that_failed_leaves_the_doubt_about_its_plan_and_no_revision() -> None:
    state = World().machine()._state
    state.trusted, state.doubted = ("plan", 3), ("plan", 3, False)
    failed(state, 0, Look())
    assert state.doubted is None
    assert state.trusted[0] == "plan"
    assert state.trusted[1] is None


# Heartbeats -----------------------------------------------------------------------------------

RUN = ("",)  # stands for the run at work


def at_work() -> tuple[World, Machine]:
    world = World(takes=40 * SECOND)
    world.run_to(second=61)
    return world, world.machine()


@pytest.mark.parametrize(
    ("later", "lost", "overdue", "answer", "confirms"),
    [
        (3_000_000, False, False, {}, True),
        (3_000_000, False, False, {"named": ()}, False),
        (3_000_000, False, False, {"found": False}, False),
        (3_000_000, False, False, {"left": True}, False),
        (3_000_000, True, False, {}, False),
        (3_000_000, True, True, {}, True),
        (11_999_999, False, False, {}, True),
        (12_000_000, False, False, {}, False),
        (12_000_000, True, True, {}, False),
        (3_000_000, False, False, {"is_over": True}, False),
    ],
)
def test_a_heartbeat_confirms_a_turn_as_of_its_departure_where_nothing_speaks_against_it(
    later: int, answer: dict[str, Any], *, lost: bool, overdue: bool, confirms: bool
) -> None:
    _, machine = at_work()
    turn = machine.turn
    assert turn is not None
    turn.lost, turn.overdue, before = lost, overdue, turn.confirmed_at
    if answer.get("is_over"):
        turn.outcome = (Status.COMPLETED, "")
    run = turn.run.run_id
    beat = Beat("a", "boot", 99, 12_000_000, (run,) if answer.get("named", RUN) else ())
    at, sent = before + later, before + later - 1
    pulse = Pulse(
        machine.storage_now(at) or 0,
        machine._state.revision or 0,
        answer.get("found", True),
        answer.get("left", False),
        drained=False,
        open_runs=frozenset({run}),
        sights={},
    )
    machine.receive(at, Heard(beat, sent, pulse))
    assert turn.confirmed_at == (sent if confirms else before)
