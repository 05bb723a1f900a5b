"""The machine of one runner in one service, in virtual time on the storage in memory."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines import (
    HEARTBEAT,
    MICROSECOND,
    PERIOD,
    SECOND,
    SERVICE,
    START,
    TIMEOUT,
    World,
    assert_one_at_a_time,
    closed_worlds,
)
from turnwise.actions import (
    Begun,
    Done,
    Elapsed,
    Failed,
    Finished,
    FunctionEnded,
    Look,
    MakeOffer,
    Offered,
    Serve,
    StopRequested,
    Swap,
    TurnWanted,
    Wait,
)
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.controls import Controls
from turnwise.drive import carry_out
from turnwise.errors import TurnFailedError, TurnLostError
from turnwise.events import (
    CyclePlanned,
    NoTurn,
    PeriodMissed,
    RecordUnreadable,
    RunBuried,
    SettingsDiffer,
    StorageBack,
    StorageLost,
    TurnEnded,
    TurnLost,
    TurnOverdue,
    TurnStarted,
)
from turnwise.machine import Machine
from turnwise.schedules import Every
from turnwise.settings import Settings
from turnwise.storages import Beat, Kind, Record
from turnwise.storages.memory import MemoryStorage
from turnwise.turn import Turn

OTHERS = ("a", "b", "c")
_closed = pytest.fixture(autouse=True)(closed_worlds)

# Who serves, and when -----------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_each_period_is_served_once_at_its_due_instant_and_the_work_is_shared_evenly(
    count: int,
) -> None:
    world = World(tuple("abcde"[:count]))
    world.run_for(4 * count * PERIOD + 2 * SECOND)
    assert world.dues() == [60.0 * number for number in range(1, 4 * count + 1)]
    assert world.seconds() == world.dues()
    servers = [served.runner_id for served in world.served]
    assert {servers.count(name) for name in world.names} == {4}
    assert_one_at_a_time(world)


def test_with_every_slot_each_runner_serves_in_its_own_slot_of_each_period() -> None:
    world = World(OTHERS, knobs={"runs": "every_slot"})
    world.run_for(3 * PERIOD - SECOND)
    assert world.seconds() == [60, 80, 100, 120, 140, 160]
    assert [s.runner_id for s in world.served] == [*OTHERS, *OTHERS]


def test_a_period_that_was_due_before_the_service_existed_is_nobodys() -> None:
    world = World()
    world.run_for(PERIOD - SECOND)
    assert world.served == []


def test_a_newcomer_counts_from_the_next_period_and_who_leaves_not_from_then_on() -> None:
    world = World(("a",))
    world.run_to(second=100)
    world.start("b")
    world.run_to(second=250)
    assert {s.runner_id for s in world.served} == {"a", "b"}
    world.virtual.stop("a")
    world.run_to(second=490)
    assert [s.runner_id for s in world.served if s.began > START + 251 * SECOND] == ["b"] * 4


def test_a_runner_that_may_not_run_watches_and_takes_no_turn() -> None:
    world = World(("a",))
    world.start("watcher", may_run=False)
    world.run_to(second=301)
    assert {s.runner_id for s in world.served} == {"a"}
    world.virtual.kill("a")
    world.run_to(second=600)
    assert world.seconds()[-1] == 300


def test_a_drained_runner_takes_no_turn_until_the_mark_is_taken_back() -> None:
    world = World(("a", "b"))
    world.run_to(second=61)
    world.virtual.storage.mark("default", "a", drained=True)
    world.run_to(second=301)
    assert {s.runner_id for s in world.served if s.began > START + 70 * SECOND} == {"b"}
    world.virtual.storage.mark("default", "a", drained=False)
    world.run_to(second=481)
    assert "a" in {s.runner_id for s in world.served if s.began > START + 310 * SECOND}


def test_a_primary_that_died_idle_is_replaced_in_the_next_slot() -> None:
    world = World(OTHERS)
    world.run_to(second=119)
    plan = world.machine("a").plan
    assert plan is not None
    primary = plan.cycles[-1].runners[0][0]
    world.virtual.kill(primary)
    world.run_to(second=178)
    assert world.seconds() == [60, 140]


def test_a_primary_killed_in_its_turn_is_replaced_once_its_heartbeat_timeout_is_over() -> None:
    world = World(OTHERS, takes=5 * SECOND)
    world.run_to(second=62)
    world.virtual.kill(world.served[0].runner_id)
    world.run_to(second=119)
    assert [end[1:] for end in world.ends()] == [("abandoned", "owner_dead"), ("completed", "")]
    # The word of the dead one was heard at the latest 4 s before the kill; it is buried 12 s after
    # somebody saw it, within a heartbeat, and the next slot begins at 80 s.
    assert world.seconds() == [60, 80]
    [buried] = world.told(RunBuried)
    assert isinstance(buried, RunBuried)
    assert buried.owner == world.served[0].runner_id
    assert_one_at_a_time(world)


def test_a_failed_turn_leaves_the_period_to_the_next_standby() -> None:
    def fails(turn: Turn) -> None:
        if turn.attempt == 1:
            raise ValueError("no")

    world = World(OTHERS, work=fails)
    world.run_to(second=119)
    assert world.seconds() == [60, 80]
    assert [end[1:] for end in world.ends()] == [
        ("abandoned", "exception:ValueError"),
        ("completed", ""),
    ]


def test_attempts_are_bounded_and_the_period_that_used_them_up_is_missed() -> None:
    def fails(turn: Turn) -> None:
        raise TurnFailedError(f"attempt {turn.attempt}")

    world = World(OTHERS, work=fails, knobs={"attempts": 2})
    world.run_to(second=179)
    assert [end[2] for end in world.ends()][:2] == ["attempt 1", "attempt 2"]
    assert world.seconds() == [60, 80, 120, 140]
    [missed] = world.told(PeriodMissed)
    assert isinstance(missed, PeriodMissed)
    assert (missed.due, missed.why) == (_us(60), "attempts_used")


def _us(second: int) -> int:
    return round((START.timestamp() + second) * 1e6)


def test_a_runner_starts_one_turn_in_a_slot_whatever_became_of_it() -> None:
    def fails(turn: Turn) -> None:
        raise ValueError(turn)

    world = World(work=fails)
    world.run_to(second=119)
    assert world.seconds() == [60]


def test_a_turn_that_overruns_its_period_delays_the_next_one_and_overlaps_nothing() -> None:
    world = World(OTHERS, takes=70 * SECOND)
    world.run_to(second=300)
    assert_one_at_a_time(world)
    assert len({served.due for served in world.served}) == len(world.served)
    assert world.seconds()[1] - 130 < 20


def test_who_is_refused_for_an_open_run_starts_soon_after_that_run_has_ended() -> None:
    world = World(("a", "b"), takes=68 * SECOND)
    world.run_to(second=150)
    # The run ends at 128 s; a tenth of the window, 1.35 s, passes at most.
    assert 128 <= world.seconds()[1] <= 128 + 1.35


def test_a_refusal_for_an_open_run_of_another_period_is_kept_once_as_blocked() -> None:
    world = World(("a", "b"), takes=68 * SECOND)
    world.run_to(second=150)
    assert len(world.blocked()) == 1
    assert world.blocked()[0].startswith("prior_running")
    [event] = world.told(NoTurn)
    assert isinstance(event, NoTurn)
    assert event.message == "another run is open"


def test_a_late_start_is_kept_as_blocked_and_brings_no_turn() -> None:
    world = World(knobs={"standbys": 0})
    world.run_to(second=59)
    world.virtual.suspend("a")
    world.run_to(second=100)  # the window is over at 88.5 s, and the slot at 117 s
    world.virtual.resume("a")
    world.run_to(second=119)
    assert world.blocked() == ["late_start"]
    assert world.served == []


def test_a_turn_that_outlasts_its_window_is_no_late_start() -> None:
    world = World(takes=45 * SECOND)
    world.run_to(second=119)
    assert world.blocked() == []


def test_a_runner_in_its_stabilization_starts_when_it_is_over() -> None:
    world = World(knobs={"membership_stabilization": 70 * SECOND})
    world.run_to(second=80)
    assert world.seconds() == [70]
    assert world.blocked() == ["scheduled_runner_in_grace"]


def test_a_turn_knows_the_period_that_was_served_before() -> None:
    seen: list[Any] = []
    world = World(work=lambda turn: seen.append((turn.due, turn.last_served)))
    world.run_to(second=130)
    first, second = START + PERIOD, START + 2 * PERIOD
    assert seen == [(first, None), (second, first)]


def test_no_attempt_starts_later_than_start_within() -> None:
    world = World(OTHERS, knobs={"start_within": 10 * SECOND})
    world.run_to(second=59)
    plan = world.machine("a").plan
    assert plan is not None
    world.virtual.kill(plan.cycles[-1].runners[0][0])
    world.run_to(second=119)
    assert world.served == [], "the standby's slot begins at 80 s"


# What is left of a slot ---------------------------------------------------------------------


def test_a_turn_tells_what_is_left_of_its_own_slot_less_the_guard_time() -> None:
    left: list[float] = []
    world = World(OTHERS, takes=2 * SECOND, work=lambda turn: left.append(turn.remaining()))
    world.run_to(second=70)
    assert left == [20 - 3 - 2]


def test_what_the_admission_took_is_no_part_of_what_is_left() -> None:
    left: list[float] = []
    world = World(takes=timedelta(), work=lambda turn: left.append(turn.remaining()))
    world.run_to(second=59)
    world.storages["a"].after["swap"] = lambda: world.pass_in_silence(2 * SECOND)
    world.run_to(second=70)
    assert left == [60 - 2], "whoever is alone has the whole cycle"


@pytest.mark.parametrize(("took", "begins"), [(59.5, True), (59.5 + 1e-6, False)])
def test_a_turn_begins_with_the_least_margin_left_and_not_with_less(
    took: float, begins: bool
) -> None:
    knobs = {"min_run_margin": SECOND / 2, "heartbeat_timeout": PERIOD}
    world = World(takes=timedelta(), knobs=knobs)
    world.run_to(second=59)
    world.storages["a"].after["swap"] = lambda: world.pass_in_silence(timedelta(seconds=took))
    world.run_to(second=119.9)
    assert [end[1:] for end in world.ends()[:1]] == [
        ("completed", "") if begins else ("abandoned", "no_margin")
    ]


@given(there=st.integers(0, 30_000_000), back=st.integers(0, 30_000_000))
def test_a_deadline_is_never_later_than_the_end_of_the_slot(there: int, back: int) -> None:
    world = World(takes=timedelta(), knobs={"heartbeat_timeout": PERIOD})
    left: list[float] = []
    world.work = lambda turn: left.append(turn.remaining() - _left(world))
    world.run_to(second=59)
    world.storages["a"].before["swap"] = lambda: world.pass_in_silence(there * MICROSECOND)
    world.storages["a"].after["swap"] = lambda: world.pass_in_silence(back * MICROSECOND)
    world.run_to(second=119)
    assert all(-there / 1e6 - 1e-9 <= each <= 1e-9 for each in left)


def _left(world: World) -> float:
    return 120 - (world.virtual.now - START).total_seconds()


def test_an_admission_that_was_long_in_coming_is_followed_by_a_heartbeat_at_once() -> None:
    world = World(takes=30 * SECOND)
    world.run_to(second=59)
    world.storages["a"].after["swap"] = lambda: world.pass_in_silence(10 * SECOND)
    world.run_to(second=70)
    beats = world.storages["a"].calls["heartbeat"]
    world.run_to(second=71)
    assert world.storages["a"].calls["heartbeat"] == beats
    assert world.told(TurnLost) == []
    turn = world.machine().turn
    assert turn is not None
    assert turn.confirmed_at == 70_000_000


# Suspended ----------------------------------------------------------------------------------


def test_a_runner_suspended_between_its_look_and_the_gate_is_not_admitted() -> None:
    world = World()
    world.run_to(second=59)
    world.storages["a"].before["swap"] = lambda: world.pass_in_silence(2 * PERIOD)
    world.run_to(second=200)
    assert 60 not in world.dues()
    assert world.ends()[:1] == [("a", "completed", "")]


@pytest.mark.parametrize("asleep", [11 * SECOND, TIMEOUT, 3 * PERIOD])
def test_a_runner_suspended_while_it_is_admitted_starts_only_within_its_heartbeat_timeout(
    asleep: timedelta,
) -> None:
    world = World()
    world.run_to(second=59)
    world.storages["a"].after["swap"] = lambda: world.pass_in_silence(asleep)
    world.run_for(asleep + 2 * SECOND)
    expected = ("completed", "") if asleep < TIMEOUT else ("abandoned", "no_margin")
    assert world.ends()[0][1:] == expected
    assert bool(world.served) == (asleep < TIMEOUT)


def test_a_runner_suspended_in_its_turn_finds_it_lost_when_it_wakes() -> None:
    lost: list[str] = []

    def checks(turn: Turn) -> None:
        if turn.fencing_token == 1:
            with pytest.raises(TurnLostError) as caught:
                turn.check()
            lost.append(str(caught.value))
            turn.check()

    world = World(("a", "b"), takes=3 * SECOND, work=checks)
    world.run_to(second=61)
    world.virtual.suspend(world.served[0].runner_id)
    world.run_to(second=100)
    assert [end[1:] for end in world.ends()] == [("abandoned", "owner_dead"), ("completed", "")]
    world.virtual.resume(world.ends()[0][0])
    world.run_to(second=101)
    [event] = world.told(TurnLost)
    assert isinstance(event, TurnLost)
    assert event.token == 1
    assert world.served[0].ended is None
    assert lost
    assert_one_at_a_time(world)
    [mine] = [e for e in world.told(TurnEnded) if isinstance(e, TurnEnded) and e.token == 1]
    assert (mine.recorded, mine.reason) == (False, "lost")


# Answers that are lost ----------------------------------------------------------------------


def test_an_admission_whose_answer_was_lost_is_found_and_taken() -> None:
    world = World()
    world.run_to(second=59)
    world.storages["a"].fail("swap", after=True)
    world.run_to(second=119)
    assert world.ends() == [("a", "completed", "")]
    assert len(world.served) == 1


def test_an_admission_that_did_not_arrive_is_made_dead_before_another_is_asked_for() -> None:
    world = World()
    world.run_to(second=59)
    world.storages["a"].fail("swap")
    world.run_to(second=119)
    assert world.ends() == [("a", "completed", "")]
    assert world.served[0].token == 1


def test_a_lost_admission_that_is_settled_after_its_slot_is_given_back() -> None:
    world = World(knobs={"standbys": 0, "heartbeat_timeout": PERIOD})
    world.run_to(second=59)
    faulty = world.storages["a"]
    faulty.fail("swap", after=True)
    faulty.after["swap"] = lambda: faulty.fail("read", times=11)  # for more than a minute
    world.run_to(second=240)
    assert world.ends()[0] == ("a", "abandoned", "no_margin")
    assert world.served[0].token == 2


def test_settling_goes_on_where_its_own_answer_is_lost_too() -> None:
    world = World()
    world.run_to(second=59)
    world.storages["a"].fail("swap", times=2)
    world.run_to(second=119)
    assert world.ends() == [("a", "completed", "")]


def test_while_settling_somebody_else_may_change_the_gate() -> None:
    world = World()
    world.run_to(second=59)
    faulty = world.storages["a"]
    faulty.fail("swap")

    def meddle() -> None:
        _touch(world)

    faulty.before["swap"] = lambda: faulty.before.update(swap=meddle)
    world.run_to(second=119)
    assert world.ends() == [("a", "completed", "")]


def _touch(world: World) -> None:
    """Somebody else puts the same gate in a new version."""
    storage = world.virtual.storage
    gate = storage.read("default", (SERVICE,)).services[SERVICE].gate
    assert gate is not None
    new = Record(f"other than {gate.version}", gate.body, gate.owner)
    assert storage.swap("default", SERVICE, Kind.GATE, gate.version, new).done


@pytest.mark.parametrize("after", [False, True])
def test_the_end_of_a_turn_is_tried_again_until_it_is_recorded(after: bool) -> None:
    world = World()
    world.run_to(second=60.5)
    world.storages["a"].fail("swap", times=3, after=after)
    world.run_to(second=119)
    assert world.ends() == [("a", "completed", "")]
    [ended] = world.told(TurnEnded)
    assert isinstance(ended, TurnEnded)
    assert ended.recorded


def test_an_end_that_finds_the_gate_changed_by_somebody_else_looks_and_tries_again() -> None:
    world = World()
    world.run_to(second=60.5)
    _touch(world)
    world.run_to(second=119)
    assert world.ends() == [("a", "completed", "")]


def test_a_turn_that_ended_well_while_the_storage_was_away_is_recorded_when_it_is_back() -> None:
    world = World(("a", "b"))
    world.run_to(second=60.5)
    world.virtual.cut_off()
    world.run_for(20 * TIMEOUT)
    world.virtual.reconnect()
    world.run_for(5 * SECOND)
    assert world.ends()[0][1:] == ("completed", "")
    assert world.dues()[0] == 60
    assert len([due for due in world.dues() if due == 60]) == 1


def test_what_somebody_else_had_closed_stands() -> None:
    world = World(("a", "b"), takes=2 * SECOND)
    world.run_to(second=60.5)
    owner = world.served[0].runner_id
    world.virtual.cut_off(owner)
    world.run_to(second=119)
    world.virtual.reconnect(owner)
    world.run_to(second=125)
    assert world.ends()[0] == (owner, "abandoned", "owner_dead")
    mine = [e for e in world.told(TurnEnded) if isinstance(e, TurnEnded) and e.token == 1]
    assert [each.recorded for each in mine] == [False]


def test_a_run_that_the_storage_has_forgotten_is_told_as_not_recorded() -> None:
    world = World(takes=5 * SECOND)
    world.run_to(second=61)
    world.virtual.storage.forget_service("default", SERVICE)
    world.run_to(second=70)
    [ended] = world.told(TurnEnded)
    assert isinstance(ended, TurnEnded)
    assert not ended.recorded
    world.run_to(second=190)
    assert world.dues()[-1] == 180, "the service goes on"


def test_an_open_run_of_this_life_that_nothing_works_on_is_closed() -> None:
    world = World()
    world.run_to(second=60.5)
    process = world.virtual._processes["a"]
    service = process.services.by_name[SERVICE]
    service.let_go()
    service.machine = service._make()  # as after a bug
    process._changed()
    world.run_to(second=90)
    assert world.ends()[0] == ("a", "abandoned", "no_margin")


def test_the_history_is_appended_once_and_a_lost_append_stays_in_the_gate_for_others() -> None:
    world = World()
    world.run_to(second=60.5)
    world.storages["a"].fail("append", times=100)
    world.run_to(second=110)
    assert world.virtual.storage.history("default", SERVICE, kinds=["completed"]) == ()
    assert world.ends() == [("a", "completed", "")], "it stands in the gate"
    world.storages["a"].fail("append", times=0)
    world.run_to(second=170)
    kept = world.virtual.storage.history("default", SERVICE, kinds=["completed"])
    assert len(kept) == 2


def test_history_is_purged_by_age_every_64_turns_and_a_purge_that_fails_stops_nothing() -> None:
    world = World(knobs={"retention_age": timedelta(minutes=10)})
    world.run_to(second=60)
    world.storages["a"].fail("purge")
    world.run_for(130 * PERIOD + 2 * SECOND)
    assert world.storages["a"].calls["purge"] == 3
    kept = world.virtual.storage.history("default", SERVICE)
    assert len(kept) < 70
    assert len(world.dues()) == 131


# Lost and overdue ---------------------------------------------------------------------------


def test_a_turn_is_lost_when_no_heartbeat_was_confirmed_for_the_timeout() -> None:
    world = World(takes=40 * SECOND)
    world.run_to(second=61)
    world.virtual.cut_off("a")
    world.run_to(second=72.5)
    [event] = world.told(TurnLost)
    assert isinstance(event, TurnLost)
    assert event.why == "no heartbeat was confirmed for 12.0 s; the timeout is 12 s"
    # Silence is counted from the last request that was confirmed: the look at 60 s, or a heartbeat.
    assert world.virtual.now - START <= 72.5 * SECOND


def test_a_turn_that_the_storage_has_closed_is_lost_with_the_next_heartbeat() -> None:
    world = World(takes=30 * SECOND)
    world.run_to(second=65)
    world.virtual.storage.forget_service("default", SERVICE)
    world.run_for(HEARTBEAT)
    [event] = world.told(TurnLost)
    assert isinstance(event, TurnLost)
    assert event.why == "the storage has closed this run"
    world.run_for(HEARTBEAT)
    assert len(world.told(TurnLost)) == 1, "once"


def test_what_is_lost_stays_lost_whatever_arrives_later() -> None:
    world = World(takes=40 * SECOND, knobs={"standbys": 0})
    world.run_to(second=61)
    turn = world.machine().turn
    assert turn is not None
    turn.lost = True
    world.run_to(second=70)
    assert turn.is_lost(70_000_000)


def test_a_turn_that_takes_longer_than_its_timeout_is_cancelled_and_counts_as_an_attempt() -> None:
    world = World(("a", "b"), takes=30 * SECOND, knobs={"timeout": 10 * SECOND, "attempts": 2})
    world.run_to(second=119)
    assert [end[1:] for end in world.ends()] == [("abandoned", "timeout")] * 2
    assert len(world.told(TurnOverdue)) == 2
    assert world.seconds() == [60, 90]


def test_a_plain_function_that_passes_its_timeout_keeps_the_gate_closed_until_it_returns() -> None:
    world = World(("a", "b"))
    world.virtual.add(
        lambda: world.virtual.sleep("50s"), "every 2m", name="long", timeout="10s", attempts=1
    )
    world.run_to(second=165)
    [run] = world.virtual.runs("long")
    assert run.status is Status.RUNNING
    world.run_to(second=180)
    [run] = world.virtual.runs("long")
    assert (run.status, run.ended_at) == (Status.COMPLETED, run.started_at + 50 * SECOND)


def test_released_at_its_timeout_the_gate_opens_and_the_same_process_waits_for_the_function() -> (
    None
):
    world = World()
    world.virtual.add(
        lambda: world.virtual.sleep("100s"),
        "every 1m",
        name="long",
        timeout="10s",
        release_on_timeout=True,
    )
    world.run_to(second=159)
    [run] = world.virtual.runs("long")
    assert (run.status, run.reason) == (Status.ABANDONED, "timeout")
    world.run_to(second=181)
    assert len(world.virtual.runs("long")) == 2, "at 180 s it serves again, and not at 120 s"


# Stopping -----------------------------------------------------------------------------------


def test_a_machine_that_was_stopped_starts_nothing_and_ends_the_turn_at_work_first() -> None:
    world = World(takes=10 * SECOND)
    world.run_to(second=62)
    world.virtual.stop("a")
    world.run_to(second=69)
    assert not world.virtual._processes["a"].is_gone
    world.run_to(second=71)
    assert world.virtual._processes["a"].is_gone
    assert world.ends() == [("a", "completed", "")]


def test_beyond_its_grace_a_turn_ends_as_stopped_which_is_no_attempt() -> None:
    world = World(("a", "b"), takes=15 * SECOND)
    world.run_to(second=61)
    world.virtual.stop(world.served[0].runner_id, grace="2s")
    world.run_to(second=119)
    assert [end[1:] for end in world.ends()] == [("abandoned", "stopped"), ("completed", "")]
    assert [run.attempt for run in world.runs()] == [1, 1]


def test_a_stop_while_the_gate_is_asked_gives_the_turn_back_as_stopped() -> None:
    world = World()
    world.run_to(second=59)
    world.storages["a"].before["swap"] = lambda: world.machine().receive(0, StopRequested())
    world.run_to(second=65)
    assert world.ends() == [("a", "abandoned", "stopped")]


def test_a_stop_while_an_admission_is_not_known_settles_it_first() -> None:
    world = World()
    world.run_to(second=59)
    faulty = world.storages["a"]
    faulty.fail("swap", after=True)
    faulty.after["swap"] = lambda: world.virtual.stop("a")
    world.run_to(second=65)
    assert world.ends() == [("a", "abandoned", "stopped")]
    assert world.virtual._processes["a"].is_gone


def test_who_leaves_has_its_slot_taken_over_at_once() -> None:
    world = World(OTHERS)
    world.run_to(second=119)
    plan = world.machine("a").plan
    assert plan is not None
    first, second, _ = [name for name, _ in plan.cycles[-1].runners]
    world.virtual.stop(first)
    world.virtual.stop(second)
    world.run_to(second=178)
    assert world.seconds()[1] in (140, 160), "by the one that is left, in its slot"


# Plans --------------------------------------------------------------------------------------


def test_where_nobody_of_the_plan_is_left_somebody_else_plans_the_rest_of_the_cycle() -> None:
    world = World(("a", "b"), knobs={"standbys": 0})
    world.run_to(second=119)
    plan = world.machine("a").plan
    assert plan is not None
    [(only, _)] = plan.cycles[-1].runners
    world.virtual.stop(only)
    world.run_to(second=178)
    assert len(world.served) == 2
    assert world.served[1].runner_id != only


def test_different_settings_make_no_two_sets_and_are_told_once() -> None:
    world = World(("a",))
    world.run_to(second=61)
    world.knobs = {"standbys": 1}
    other = World(("b",), knobs={"standbys": 1})
    other.virtual.storage = world.virtual.storage
    other.virtual._epoch, other.virtual._time = world.virtual._epoch, world.virtual._time
    process = world.virtual._processes
    other.start("c")
    process["c"] = other.virtual._processes["c"]
    process["c"]._clock = world.virtual._time
    world.run_to(second=400)
    assert len(world.dues() + other.dues()) == 6
    told = [*world.told(SettingsDiffer), *other.told(SettingsDiffer)]
    assert told


def test_where_those_of_a_plan_with_other_settings_have_left_the_others_plan_anew() -> None:
    world = World(("a",))
    world.run_to(second=119)
    other = World((), knobs={"standbys": 1})
    other.virtual.kill("a")
    other.virtual.storage = world.virtual.storage
    other.virtual._epoch, other.virtual._time = world.virtual._epoch, world.virtual._time
    other.start("c")
    process = world.virtual._processes
    process["c"] = other.virtual._processes["c"]
    world.run_to(second=122)
    world.virtual.kill("a")
    world.run_to(second=400)
    assert other.dues() == [180, 240, 300, 360]


def test_a_record_that_cannot_be_read_is_told_and_nothing_is_started() -> None:
    world = World()
    world.run_to(second=61.5)
    storage = world.virtual.storage
    gate = storage.read("default", (SERVICE,)).services[SERVICE].gate
    assert gate is not None
    storage.swap("default", SERVICE, Kind.GATE, gate.version, Record("new", "of tomorrow"))
    world.run_to(second=130)
    assert world.told(RecordUnreadable)
    assert len(world.served) == 1


# Clocks -------------------------------------------------------------------------------------


def test_a_step_back_of_the_clock_within_a_period_serves_none_twice_and_loses_none() -> None:
    world = World(OTHERS)
    world.run_to(second=90)
    world.virtual.step_clock(-20 * SECOND)
    world.run_to(second=310)
    assert world.dues() == [60, 120, 180, 240, 300]


def test_a_step_back_by_periods_serves_none_of_them_again_and_goes_on_when_they_are_over() -> None:
    world = World(OTHERS)
    world.run_to(second=305)
    world.virtual.step_clock(-3 * PERIOD)
    world.run_to(second=370)
    assert world.dues() == [60, 120, 180, 240, 300, 360]


def test_a_plan_after_a_step_back_by_hours_is_made_once_all_had_time_for_a_heartbeat() -> None:
    """Before that every other heartbeat lies ahead of the clock, as if nobody else were there."""
    world = World(OTHERS)
    world.run_to(second=211)
    before = len(world.told(CyclePlanned))
    world.virtual.step_clock(-180 * PERIOD)
    asked = [world.storages[name].calls["stable"] for name in OTHERS]
    world.run_for(HEARTBEAT - SECOND / 10)
    assert asked == [world.storages[name].calls["stable"] for name in OTHERS]
    world.run_for(2 * HEARTBEAT)
    planned = world.told(CyclePlanned)[before]
    assert isinstance(planned, CyclePlanned)
    assert sorted(planned.runners) == sorted(OTHERS)


def test_a_step_forward_is_noticed_within_a_heartbeat() -> None:
    world = World(OTHERS)
    world.run_to(second=65)
    world.virtual.step_clock(40 * SECOND)
    world.run_for(20 * SECOND)
    assert world.seconds()[-1] == 120


# The storage away ---------------------------------------------------------------------------


def test_a_short_outage_costs_nobody_its_place() -> None:
    world = World(OTHERS)
    world.run_to(second=70)
    world.virtual.cut_off()
    world.run_for(TIMEOUT - HEARTBEAT)
    world.virtual.reconnect()
    world.run_to(second=310)
    assert world.dues() == [60, 120, 180, 240, 300]


def test_after_an_outage_of_the_storage_the_newest_period_is_served_once_and_no_older_one() -> None:
    world = World(OTHERS)
    world.run_to(second=65)
    world.virtual.cut_off()
    world.run_to(second=250)
    world.virtual.reconnect()
    world.run_to(second=310)
    assert world.dues()[-1] == 300
    assert not {120, 180} & set(world.dues())
    assert len(world.told(StorageLost)) == len(world.told(StorageBack)) == 3


def test_a_storage_that_does_not_answer_is_asked_after_waits_that_double() -> None:
    world = World()
    world.run_to(second=59)
    faulty = world.storages["a"]
    at: list[float] = []
    faulty.fail("read", times=8)
    original = faulty.before

    def note() -> None:
        at.append((world.virtual.now - START).total_seconds())
        original["read"] = note

    original["read"] = note
    world.run_to(second=75)
    waits = [round(after - before, 6) for before, after in pairwise(at)]
    assert waits[:6] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
    assert max(waits) <= HEARTBEAT.total_seconds()


# On demand ----------------------------------------------------------------------------------


def a_machine(storage: MemoryStorage, *, on_demand: bool = False) -> Machine:
    storage.heartbeat("default", Beat("a", "boot", 1, 12_000_000))
    return Machine(
        group="default",
        service=SERVICE,
        runner_id="a",
        boot_id="boot",
        settings=Settings(schedule=Every("1m")),
        names=iter(map(str, range(1000))).__next__,
        on_demand=on_demand,
    )


def settled(machine: Machine, storage: MemoryStorage, at: int) -> Any:
    """Carry out what a machine asks until it asks no more; what it wants then."""
    while True:
        action = machine.next(at)
        if isinstance(action, Serve | Wait | Finished):
            return action
        machine.receive(at, carry_out(storage, "default", SERVICE, action))


def test_on_demand_the_gate_is_asked_only_while_a_turn_is_wanted() -> None:
    now = [30_000_000]
    storage = MemoryStorage(clock=lambda: now[0])
    machine = a_machine(storage, on_demand=True)
    assert isinstance(settled(machine, storage, now[0]), Wait)
    now[0] = 60_000_000
    storage.heartbeat("default", Beat("a", "boot", 2, 12_000_000))
    assert isinstance(settled(machine, storage, now[0]), Wait)
    assert not machine.is_wanted
    machine.receive(now[0], TurnWanted())
    assert machine.is_wanted
    assert isinstance(settled(machine, storage, now[0]), Serve)
    machine.receive(now[0], Begun())
    machine.receive(now[0], FunctionEnded(Status.COMPLETED))
    assert isinstance(settled(machine, storage, now[0]), Wait)
    machine.receive(now[0], TurnWanted())
    assert isinstance(settled(machine, storage, now[0]), Wait), "it has had its turn"
    assert not machine.is_wanted


def test_an_admission_that_nobody_wants_any_more_is_given_back() -> None:
    now = [30_000_000]
    storage = MemoryStorage(clock=lambda: now[0])
    machine = a_machine(storage, on_demand=True)
    settled(machine, storage, now[0])
    now[0] = 60_000_000
    storage.heartbeat("default", Beat("a", "boot", 2, 12_000_000))
    machine.receive(now[0], TurnWanted())
    while not isinstance(action := machine.next(now[0]), Serve | Wait | Finished):
        answer = carry_out(storage, "default", SERVICE, action)
        gate = machine.gate
        if isinstance(action, Swap) and action.new.owner is not None and gate is not None:
            machine.receive(now[0], TurnWanted(is_wanted=False))
        machine.receive(now[0], answer)
    assert isinstance(action, Wait)
    [row] = [each.body for each in storage.history("default", SERVICE, kinds=["abandoned"])]
    assert "not_started" in row


def test_a_machine_that_is_not_on_demand_always_wants_its_turn() -> None:
    machine = a_machine(MemoryStorage())
    machine.receive(0, TurnWanted(is_wanted=False))
    assert machine.is_wanted


# The protocol -------------------------------------------------------------------------------


def test_a_request_must_be_answered_before_the_next_one_is_given() -> None:
    machine = a_machine(MemoryStorage())
    assert isinstance(machine.next(0), MakeOffer)
    assert machine.next(0) == Wait(None)


def test_an_answer_that_was_not_asked_for_is_refused() -> None:
    machine = a_machine(MemoryStorage())
    with pytest.raises(RuntimeError, match="answers nothing that was asked"):
        machine.receive(0, Offered(1))
    machine.next(0)
    with pytest.raises(RuntimeError, match="is no answer to"):
        machine.receive(0, Done())


def test_a_copy_goes_its_own_way() -> None:
    storage = MemoryStorage(clock=lambda: 60_000_000)
    machine = a_machine(storage)
    other = machine.copy()
    settled(machine, storage, 0)
    assert isinstance(other.next(0), MakeOffer)
    assert machine.gate is not None
    assert other.gate is None
    assert other.storage_now(0) is None


def test_a_copy_copies_a_turn_and_names_that_can_be_copied() -> None:
    class Names:
        def __init__(self) -> None:
            self.count = 0

        def copy(self) -> "Names":
            new = Names()
            new.count = self.count
            return new

        def __call__(self) -> str:
            self.count += 1
            return str(self.count)

    world = World(takes=10 * SECOND)
    world.run_to(second=61)
    machine = world.machine()
    machine._state.names = names = Names()
    other = machine.copy()
    assert machine.turn is not None
    assert other.turn is not None
    other.turn.lost = True
    assert not machine.turn.lost
    other._state.names()
    assert names.count == 0


def test_a_machine_that_was_stopped_idle_has_finished() -> None:
    machine = a_machine(MemoryStorage())
    machine.receive(0, StopRequested())
    assert machine.next(0) == Finished()
    assert not machine.leaves_a_gap(0)


def test_what_has_elapsed_or_failed_before_anything_is_known_does_no_harm() -> None:
    machine = a_machine(MemoryStorage())
    assert machine.receive(0, Elapsed()) == []
    assert machine.receive(0, FunctionEnded(Status.COMPLETED)) == []
    assert isinstance(machine.next(0), MakeOffer)
    assert machine.receive(0, Failed("away")) == []
    assert machine.next(0) == Wait(100_000)
    assert machine.due is None
    assert machine.watch_at is None
    assert isinstance(machine.next(100_000), MakeOffer | Look)


def test_a_turn_starts_and_ends_with_an_event_that_says_how_long_it_took() -> None:
    world = World(takes=1.5 * SECOND)
    world.run_to(second=62)
    [started], [ended] = world.told(TurnStarted), world.told(TurnEnded)
    assert isinstance(started, TurnStarted)
    assert isinstance(ended, TurnEnded)
    assert (started.token, started.attempt) == (1, 1)
    assert (ended.took, ended.status, ended.reason) == (1_500_000, Status.COMPLETED, "")


# Commands -----------------------------------------------------------------------------------


def test_a_trigger_is_served_once_as_soon_as_somebody_has_a_slot_and_serves_no_period() -> None:
    seen: list[tuple[bool, int]] = []
    world = World(OTHERS, work=lambda turn: seen.append((turn.triggered, turn.fencing_token)))
    world.run_to(second=65)
    Controls(world.virtual.storage, by="me").trigger(SERVICE)
    world.run_to(second=119)
    assert [triggered for triggered, _ in seen] == [False, True]
    world.run_to(second=179)
    assert [triggered for triggered, _ in seen] == [False, True, False], "and the next is served"


def test_a_trigger_where_no_plan_covers_now_has_one_made() -> None:
    world = World(schedule="every 1h", knobs={"cycle": PERIOD})
    world.run_to(second=3605)
    world.run_for(10 * PERIOD)
    Controls(world.virtual.storage, by="me").trigger(SERVICE)
    world.run_for(2 * HEARTBEAT + SECOND)
    assert len(world.served) == 2


def test_while_paused_nothing_starts_and_the_pause_ends_by_itself() -> None:
    world = World(OTHERS)
    world.run_to(second=65)
    Controls(world.virtual.storage, by="me").pause(SERVICE, until=timedelta(seconds=60))
    world.run_to(second=124)
    assert world.seconds() == [60]
    world.run_to(second=179)
    assert len(world.served) == 2, "it ends at 125 s, in the middle of the period"


def test_a_period_that_passes_while_paused_is_told_as_missed_for_that() -> None:
    world = World(OTHERS)
    world.run_to(second=119)
    Controls(world.virtual.storage, by="me").pause(SERVICE)
    world.run_to(second=300)
    assert {e.why for e in world.told(PeriodMissed) if isinstance(e, PeriodMissed)} <= {"paused"}
    assert world.seconds() == [60]


def test_where_all_of_a_plan_with_other_settings_are_silent_the_others_take_its_place() -> None:
    world = World(("a",))
    world.run_to(second=117)
    other = World((), knobs={"standbys": 1})
    other.virtual.kill("a")
    other.virtual.storage = world.virtual.storage
    other.virtual._epoch, other.virtual._time = world.virtual._epoch, world.virtual._time
    world.run_to(second=119.5)
    other.start("c")
    world.virtual._processes["c"] = other.virtual._processes["c"]
    world.virtual.kill("a")
    world.run_to(second=179)
    assert other.dues() == [120]


def test_an_admission_that_the_machine_looks_at_too_late_starts_nothing() -> None:
    world = World()
    machine = world.machine()
    world.run_to(second=59)
    process = world.virtual._processes["a"]
    real = process.services.answer

    def slow(service: Any, answer: Any) -> None:
        real(service, answer)
        if machine.turn is not None and machine.turn.began_at is None:
            world.pass_in_silence(TIMEOUT)

    process.services.answer = slow  # type: ignore[method-assign]
    world.run_to(second=100)
    assert world.served == []
    assert world.ends()[0] == ("a", "abandoned", "no_margin")
