"""What a machine does when something breaks at the worst moment, in virtual time."""

from datetime import timedelta

import pytest

from machines import HEARTBEAT, PERIOD, SECOND, SERVICE, TIMEOUT, World, closed_worlds
from turnwise import gate as gates
from turnwise.actions import FunctionEnded, HandedOver, Heard
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import microseconds
from turnwise.events import RecordUnreadable, TurnEnded, TurnLost, TurnOverdue
from turnwise.gate import Command, CommandName, Gate
from turnwise.machine import Machine
from turnwise.settings import Settings
from turnwise.storages import Beat, Kind, Pulse, Record
from turnwise.texts import gate_from_text, gate_to_text, row_from_text
from turnwise.turn import Turn

worlds = pytest.fixture(autouse=True)(closed_worlds)


def settings_rows(world: World) -> list[Command]:
    rows = world.virtual.storage.history("default", SERVICE, kinds=["command"])
    found = [row_from_text(each.body) for each in rows]
    return [row for row in found if isinstance(row, Command) and row.name is CommandName.SETTINGS]


def test_a_gate_that_cannot_be_read_while_a_turn_ends_is_asked_for_once_in_a_heartbeat() -> None:
    world = World(takes=5 * SECOND)
    world.run_to(second=62)
    storage = world.virtual.storage
    kept = storage.read("default", (SERVICE,)).services[SERVICE].gate
    assert kept is not None
    spoiled = Record("spoiled", '{"floor":"from another version"}', kept.owner)
    assert storage.swap("default", SERVICE, Kind.GATE, kept.version, spoiled).done
    before = world.storages["a"].calls["read"]
    world.run_for(10 * HEARTBEAT)
    assert world.told(RecordUnreadable)
    assert world.storages["a"].calls["read"] - before <= 2 * 10
    back = Record("back", kept.body, kept.owner)
    assert storage.swap("default", SERVICE, Kind.GATE, "spoiled", back).done
    world.run_for(PERIOD)
    assert world.ends()[0] == ("a", "completed", "")


@pytest.mark.parametrize("after", [False, True])
def test_the_settings_of_a_plan_whose_answer_was_lost_are_kept_in_the_history_all_the_same(
    *, after: bool
) -> None:
    world = World()
    world.run_to(second=30)
    world.storages["a"].fail("swap", after=after)
    world.run_for(3 * PERIOD)
    assert len(settings_rows(world)) == 1


def test_settings_that_the_history_did_not_take_are_kept_later() -> None:
    world = World()
    world.run_to(second=30)
    world.storages["a"].fail("append", times=3)
    world.run_for(10 * PERIOD)
    assert len(settings_rows(world)) == 1
    assert len(world.dues()) >= 9


def test_a_question_about_a_plan_of_which_nobody_is_left_is_asked_again_where_it_failed() -> None:
    """The three of the plan leave in good order; the fourth is told, and its question fails."""
    world = World(names=("a", "b", "c"))
    world.run_to(second=58)  # planned for all three
    world.start("d")
    world.run_to(second=59)
    for name in ("a", "b", "c"):
        world.virtual.stop(name, "0s")
    world.storages["d"].fail("stable", times=1)
    world.run_to(second=60 + (HEARTBEAT / SECOND) + 1)
    assert [served.runner_id for served in world.served] == ["d"]


def test_a_plan_that_is_to_come_of_which_nobody_is_left_is_replaced_before_it_starts() -> None:
    world = World(names=("a", "b", "c"), knobs={"spread_margin": 15 * SECOND})
    world.run_to(second=50)
    assert world.machine("a").plan is not None, "planned for all three"
    world.start("d")
    world.run_to(second=50.5)
    for name in ("a", "b", "c"):
        world.virtual.stop(name, "0s")
    world.run_to(second=75)
    assert [served.runner_id for served in world.served] == ["d"]
    assert world.seconds() == [60]


def machine_that_knows_now() -> Machine:
    """A machine whose storage said at its first second that it is a thousand seconds later."""
    made = Machine(
        group="group",
        service="service",
        runner_id="a",
        boot_id="boot",
        settings=Settings(schedule="every 5m"),  # type: ignore[arg-type]  # it takes a text, too
        names=iter(map(str, range(100))).__next__,
    )
    heard(made, sent=1_000_000, at=1_000_000, now=1_001_000_000)
    return made


def heard(machine: Machine, *, sent: int, at: int, now: int) -> None:
    pulse = Pulse(now, 1, True, False, False, frozenset(), {})  # noqa: FBT003 (in their order)
    machine.receive(at, Heard(Beat("a", "boot", 1, 1), sent, pulse))


def test_an_answer_that_was_held_up_does_not_move_the_clock() -> None:
    machine = machine_that_knows_now()
    heard(machine, sent=2_000_000, at=2_000_000, now=1_002_000_000)
    heard(machine, sent=1_500_000, at=7_000_000, now=1_001_500_000)
    assert machine.storage_now(7_000_000) == 1_007_000_000


def test_a_clock_that_has_stepped_back_moves_it_even_by_an_answer_that_was_held_up() -> None:
    machine = machine_that_knows_now()
    heard(machine, sent=500_000, at=2_000_000, now=900_000_000)
    assert machine.storage_now(2_000_000) == 900_000_000


def test_a_turn_that_is_overdue_is_its_runners_as_long_as_heartbeats_arrive() -> None:
    world = World(takes=10 * TIMEOUT, knobs={"timeout": timedelta(seconds=5)})
    process = world.virtual._processes["a"].services.by_name[SERVICE]
    world.run_to(second=61)
    call = process.call
    process.call = None  # a plain function, which cannot be cancelled
    world.run_to(second=60 + 3 * (TIMEOUT / SECOND))
    turn = process.machine.turn
    assert turn is not None
    assert turn.overdue
    at = world.virtual._time.at
    assert at - turn.confirmed_at < microseconds(TIMEOUT)
    assert len(world.told(TurnOverdue)) == 1
    assert not world.told(TurnLost)
    process.call = call
    assert not world.told(TurnEnded)


@pytest.mark.parametrize(
    "period", [1, 2, 3]
)  # of one owner or another, as heartbeats have an order
def test_a_turn_that_ended_well_while_the_storage_was_away_for_all_is_recorded_and_not_repeated(
    period: int,
) -> None:
    """The others are back before it, and saw its last word for longer than its timeout."""
    world = World(names=("a", "b", "c"), takes=20 * SECOND, schedule="every 10m")
    world.run_to(second=period * 600 + 15)
    served = world.served[-1]
    world.virtual.cut_off()
    world.run_for(5 * TIMEOUT)
    world.virtual.reconnect(*({"a", "b", "c"} - {served.runner_id}))
    world.run_for(2 * HEARTBEAT)
    world.virtual.reconnect()
    world.run_for(3 * TIMEOUT)
    assert [(run.status.value, run.attempt) for run in world.runs()] == [("completed", 1)] * period


def test_an_owner_that_died_while_the_storage_was_away_is_buried_a_timeout_after_it_is_back() -> (
    None
):
    world = World(names=("a", "b", "c"), takes=20 * SECOND, schedule="every 10m")
    world.run_to(second=600 + 15)
    [served] = world.served
    world.virtual.cut_off()
    world.virtual.kill(served.runner_id)
    world.run_for(5 * TIMEOUT)
    world.virtual.reconnect(*({"a", "b", "c"} - {served.runner_id}))
    world.run_for(TIMEOUT + 2 * HEARTBEAT)
    assert world.runs()[0].reason == "owner_dead"


def test_a_turn_that_ends_later_than_its_timeout_before_anybody_looked_has_ended() -> None:
    """Its timeout and its end are noticed at once: it does not go on, as a released one does."""
    late = timedelta(seconds=5)
    world = World(takes=2 * late, knobs={"timeout": late, "release_on_timeout": True})
    world.run_to(second=61)
    machine = world.machine()
    at = world.virtual._time.at + microseconds(late)
    told = machine.receive(at, FunctionEnded(Status.COMPLETED))
    assert [type(event) for event in told] == [TurnOverdue]
    assert machine.turn is not None
    assert not machine.turn.still_runs
    assert machine.turn.outcome == (Status.COMPLETED, "")


def test_a_turn_that_was_lost_in_silence_is_not_told_lost_again_when_its_run_is_closed() -> None:
    world = World(("a", "b"), takes=10 * TIMEOUT)
    world.run_to(second=61)
    owner = world.served[0].runner_id
    process = world.virtual._processes[owner].services.by_name[SERVICE]
    process.call = None  # a plain function, which cannot be cancelled
    world.virtual.cut_off(owner)
    world.run_for(2 * TIMEOUT)
    world.virtual.reconnect(owner)
    world.run_for(2 * HEARTBEAT)
    assert world.ends()[0] == (owner, "abandoned", "owner_dead")
    assert process.machine.turn is not None, "it still works, for all that we know"
    lost = [each for each in world.told(TurnLost) if isinstance(each, TurnLost) and each.token == 1]
    assert [each.why.partition(" for")[0] for each in lost] == ["no heartbeat was confirmed"]


def hand_over(world: World, run_id: str, *, commits: bool) -> None:
    """A function has its run completed in a transaction, which lands or does not."""
    world.machine().receive(world.virtual._time.at, HandedOver(run_id))
    reading = world.virtual.storage.read("default", (SERVICE,))
    kept = reading.services[SERVICE].gate
    assert kept is not None
    gate = gates.complete(gate_from_text(kept.body), run_id, now=reading.now)
    assert isinstance(gate, Gate)
    new = Record("committed", gate_to_text(gate))
    if commits:
        world.virtual.storage.swap("default", SERVICE, Kind.GATE, kept.version, new)


@pytest.mark.parametrize(
    ("commits", "end"),
    [(True, ("a", "completed", "")), (False, ("a", "abandoned", "not_committed"))],
)
def test_a_turn_that_was_handed_over_ended_as_its_transaction_did(
    commits: bool, end: tuple[str, str, str]
) -> None:
    def work(turn: Turn) -> None:
        hand_over(world, turn.run_id, commits=commits)

    world = World(work=work)
    world.run_to(second=80)
    assert world.ends() == [end]
    [ended] = world.told(TurnEnded)
    assert isinstance(ended, TurnEnded)
    assert (ended.status, ended.reason, ended.recorded) == (*end[1:], True)


def test_a_function_that_goes_on_after_its_transaction_has_landed_has_not_lost_its_turn() -> None:
    world = World(takes=3 * HEARTBEAT)
    world.run_to(second=60.5)
    turn = world.machine().turn
    assert turn is not None
    hand_over(world, turn.run.run_id, commits=True)
    world.run_for(2 * HEARTBEAT)
    assert turn.lost, "nothing of it may be written any more"
    world.run_for(2 * HEARTBEAT)
    assert world.ends() == [("a", "completed", "")]
    assert world.told(TurnLost) == []


def test_a_hand_over_of_a_run_that_is_not_at_work_changes_nothing() -> None:
    world = World()
    assert world.machine().receive(0, HandedOver("none yet")) == []
    world.run_to(second=60.5)
    assert world.machine().receive(world.virtual._time.at, HandedOver("another")) == []
    world.run_to(second=80)
    assert world.ends() == [("a", "completed", "")]


def test_a_row_is_known_to_be_kept_once_the_history_has_taken_it() -> None:
    world = World()
    world.run_to(second=60.5)
    world.storages["a"].fail("append", times=100)
    world.run_to(second=110)
    [ended] = world.runs()
    assert ended.id not in world.machine().kept
    world.storages["a"].fail("append", times=0)
    world.run_to(second=120.5)
    assert ended.id in world.machine().kept
