"""Where the rules of a machine begin and end: at which microsecond, beside which other cause."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines import MICROSECOND, SECOND, SERVICE, START, World, closed_worlds
from turnwise import plan as plans
from turnwise.actions import Heard, Look, Serve, Swap, Wait
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.controls import Controls
from turnwise.cycles import microseconds
from turnwise.events import Event, PeriodMissed, TurnLost, TurnOverdue
from turnwise.gate import Gate, Pause, Run
from turnwise.machine import Machine, looking, planning, turns, watching
from turnwise.machine.state import Sighting
from turnwise.plan import CyclePlan
from turnwise.storages import Beat, Kind, Owner, Pulse, Sight, Swapped

worlds = pytest.fixture(autouse=True)(closed_worlds)


def us(second: float) -> int:
    """An instant of the storage, so many seconds after the start."""
    return microseconds(START + second * SECOND)


def swaps_of(world: World, name: str = "a") -> list[Swap]:
    """What a runner asks to be changed from now on."""
    asked: list[Swap] = []
    faulty = world.storages[name]

    def note() -> None:
        request = world.machine(name)._state.asked
        assert isinstance(request, Swap)
        asked.append(request)
        faulty.before["swap"] = note

    faulty.before["swap"] = note
    return asked


def cycle_of(world: World, name: str = "a") -> CyclePlan:
    """The last cycle that is planned."""
    plan = world.machine(name).plan
    assert plan is not None
    return plan.cycles[-1]


def at_work(**knobs: Any) -> tuple[World, Machine, Run]:
    world = World(takes=timedelta(hours=1), knobs=knobs)
    world.run_to(second=61)
    machine = world.machine()
    assert machine.turn is not None
    return world, machine, machine.turn.run


# How long a request is good for -------------------------------------------------------------------


@pytest.mark.parametrize("within", [None, 10 * SECOND])
@pytest.mark.parametrize("triggered", [False, True])
def test_an_admission_is_good_to_the_end_of_its_slot_and_for_a_period_no_longer_than_start_within(
    within: timedelta | None, *, triggered: bool
) -> None:
    """A triggered run serves no period, so it has the whole slot."""
    world = World(("a", "b"), knobs={"start_within": within})
    world.run_to(second=59)
    cycle = cycle_of(world)
    noted = {name: swaps_of(world, name) for name in world.names}
    world.run_to(second=65)
    if triggered:
        for each in noted.values():
            each.clear()
        Controls(world.virtual.storage, by="me").trigger(SERVICE)
        world.run_to(second=119)
    asked = [
        swap
        for each in noted.values()
        for swap in each
        if swap.new.owner is not None and swap.not_after is not None
    ]
    [admission] = asked
    assert admission.new.owner is not None
    position = cycle.position_of(admission.new.owner.runner_id)
    assert position is not None
    last = cycle.slot(position).end - 1
    if within is not None and not triggered:
        last = min(last, us(70))
    assert admission.not_after == last


def test_a_plan_is_good_to_the_last_microsecond_of_its_cycle() -> None:
    world = World()
    world.run_to(second=65)
    asked = swaps_of(world)
    world.run_to(second=119.9)
    [plan] = [swap for swap in asked if swap.kind is Kind.PLAN]
    assert plan.not_after == us(180) - 1 == cycle_of(world).end - 1


# In a slot ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("left", "starts"), [(0, False), (1, True)])
def test_a_turn_starts_while_a_microsecond_of_its_slot_is_left(left: int, *, starts: bool) -> None:
    world = World()
    world.run_to(second=60.5)
    machine = world.machine()
    turn, at = machine.turn, world.virtual._time.at
    assert turn is not None
    turn.deadline, turn.began_at = at + left, None
    assert isinstance(turns.next_of_turn(machine._state, turn, at), Serve) == starts


@given(timeout=st.one_of(st.none(), st.integers(1, 30_000_000)), after=st.integers(0, 10**7))
def test_a_turn_at_work_waits_until_it_is_lost_or_overdue(timeout: int | None, after: int) -> None:
    world = World(takes=timedelta(hours=1))
    world.run_to(second=61)
    state, turn = world.machine()._state, world.machine().turn
    assert turn is not None
    assert turn.began_at is not None
    limit = None if timeout is None else timeout * MICROSECOND
    state.settings = replace(state.settings, timeout=limit)
    turn.confirmed_at = turn.began_at + after
    state.kept = frozenset(row.id for row in turn.gate.unsaid)
    lost = turn.began_at + after + 12_000_000
    until = lost if timeout is None else min(lost, turn.began_at + timeout)
    assert turns.next_of_turn(state, turn, turn.began_at) == Wait(until)
    assert world.machine().watch_at == until
    turn.lost = turn.overdue = True
    assert turns.next_of_turn(state, turn, turn.began_at) == Wait(None)


@pytest.mark.parametrize("timeout", [None, 5 * SECOND, 12 * SECOND, 20 * SECOND])
@pytest.mark.parametrize("releases", [False, True])
def test_a_turn_is_told_as_lost_and_as_overdue_once_each_and_from_the_microsecond_on(
    timeout: timedelta | None, *, releases: bool
) -> None:
    world = World(takes=timedelta(hours=1), knobs={"timeout": 30 * SECOND})
    world.run_to(second=60.5)
    state, turn = world.machine()._state, world.machine().turn
    assert turn is not None
    assert turn.began_at is not None
    state.settings = replace(state.settings, timeout=timeout, release_on_timeout=releases)
    silent = turn.confirmed_at + 12_000_000
    over = None if timeout is None else turn.began_at + microseconds(timeout)
    instants = sorted({silent - 1, silent, *([] if over is None else [over - 1, over])})
    told: list[tuple[type[Event], int]] = []
    for at in instants:
        told += [(type(event), at) for event in turns.watch(state, at)]
        assert turn.overdue == (over is not None and at >= over)
        assert turn.lost == (turn.overdue or at >= silent)
        assert turn.still_runs == (turn.overdue and releases)
        assert turns.watch(state, at) == []
    expected: list[tuple[type[Event], int]] = []
    if over is None or silent <= over:
        expected.append((TurnLost, silent))
    if over is not None:
        expected.append((TurnOverdue, over))
    assert told == expected, "what is overdue is lost, which is not told as well"
    assert turn.outcome == ((Status.ABANDONED, "timeout") if over and releases else None)


# What a heartbeat shows ---------------------------------------------------------------------------


def pulse_of(machine: Machine, at: int, sight: Sight | None) -> Heard:
    now, revision = machine.storage_now(at), machine._state.revision
    assert now is not None
    assert revision is not None
    sights = {} if sight is None else {SERVICE: sight}
    pulse = Pulse(now, revision, True, False, False, frozenset(), sights)  # noqa: FBT003 (in order)
    return Heard(Beat("a", "boot", 99, 12_000_000), at, pulse)


@pytest.mark.parametrize(
    ("blocked_by", "open_run", "looks"),
    [("x", "x", False), ("x", "y", True), ("x", None, True), (None, "x", False)],
)
def test_a_runner_that_was_refused_looks_again_once_another_run_or_none_is_in_its_way(
    blocked_by: str | None, open_run: str | None, *, looks: bool
) -> None:
    world = World()
    world.run_to(second=30)
    machine, at = world.machine(), world.virtual._time.at
    state = machine._state
    state.blocked_by, state.wake, state.soon = blocked_by, None, at + 50_000_000
    sight = None if open_run is None else Sight(Owner(open_run, "b", "boot", 12_000_000), 1, False)  # noqa: FBT003
    assert machine.receive(at, pulse_of(machine, at, sight)) == []
    assert isinstance(machine.next(at), Look) == looks


@given(st.integers(1, 10**8), st.sampled_from([-1, 0]))
def test_a_run_is_dead_to_the_microsecond_where_its_word_was_seen_for_its_heartbeat_timeout(
    timeout: int, short: int
) -> None:
    state = World().machine()._state
    sight = Sight(Owner("x", "b", "boot", timeout), 7, False)  # noqa: FBT003 (in their order)
    state.interval = timeout
    state.sighting = Sighting("x", 7, 1_000, 1_000)
    watching.observe(state, sight, 1_000 + timeout + short, 1_001 + timeout)
    assert state.dead == ("x" if short == 0 else None)
    assert state.sighting == Sighting("x", 7, 1_000, 1_001 + timeout)


@given(
    elapsed=st.integers(-(10**10), 10**10), off=st.integers(-3, 3), held_up=st.integers(0, 10**6)
)
def test_a_clock_has_stepped_back_where_an_answer_is_behind_by_more_than_noise_and_a_thousandth(
    elapsed: int, off: int, held_up: int
) -> None:
    """Then it is quiet for a heartbeat interval, and looks; an old answer moves nothing else."""
    state = World().machine()._state
    state.aim, state.soon, state.wake = (10**12, 10**11), None, None
    sent = 10**11 + elapsed
    at = sent + held_up
    now = 10**12 + elapsed - 1_000 - max(0, elapsed) // 1000 + off
    state.soon = at + 1
    state.aim_at(now, sent, at)
    stepped = off < 0
    assert state.quiet_until == (at + state.interval if stepped else None)
    assert state.soon == (at if stepped else at + 1)
    assert state.aim == ((now, at) if stepped or elapsed >= 0 else (10**12, 10**11))


# A record that is locked --------------------------------------------------------------------------


@given(st.integers(1, 10**9))
def test_a_swap_at_a_locked_record_is_tried_again_ten_times_in_a_heartbeat_and_in_a_second(
    interval: int,
) -> None:
    world = World()
    world.run_to(second=59)
    machine, at = world.machine(), world.virtual._time.at
    state = machine._state
    state.interval = interval
    state.asked = state.swap_gate(state.seen.gate, lambda *_: [])  # type: ignore[arg-type]
    state.then = None
    assert machine.receive(at, Swapped(us(59), done=False, busy=True)) == []
    assert machine.next(at) == Wait(at + max(100_000, interval // 10))


# A plan that is made ------------------------------------------------------------------------------


def test_planning_says_whether_it_has_made_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the next period, for the rest of a cycle of which nobody is left, and for one to come."""
    said: set[tuple[str, bool]] = set()

    def plan_ahead(state: Any, *arguments: Any) -> bool:
        made = real(state, *arguments)
        assert made == (state.then is not None)
        assert not made or state.target is None or state.target[1] == arguments[2]  # the plan
        of_void = made and state.target is not None and state.target[0].void
        said.add(("void" if of_void else "new", made))
        return made

    real = planning.plan_ahead
    monkeypatch.setattr(looking, "plan_ahead", plan_ahead)
    world = World(("a", "b"), knobs={"standbys": 0})
    world.run_to(second=119)
    world.virtual.kill(cycle_of(world).runners[0][0])
    world.run_to(second=170)
    assert said == {("new", False), ("new", True), ("void", True)}
    world = World(("a", "b", "c"), knobs={"spread_margin": 15 * SECOND})
    world.run_to(second=50)
    world.start("d")
    world.run_to(second=50.5)
    said.clear()
    for name in ("a", "b", "c"):
        world.virtual.stop(name, "0s")
    world.run_to(second=56)
    assert said == {("void", True)}


@pytest.mark.parametrize("until", [None, 10 * SECOND])
@pytest.mark.parametrize("is_paused", [False, True])
def test_who_is_told_to_look_asks_whether_anybody_is_left_of_the_plan_to_come(
    until: timedelta | None, *, is_paused: bool
) -> None:
    """Once for each revision, where the service is not paused and it has no slot in the plan."""
    world = World(("a", "b"), knobs={"standbys": 0, "spread_margin": 10 * SECOND})
    world.run_to(second=58)
    cycle = cycle_of(world)
    [(primary, _)] = cycle.runners
    [other] = {"a", "b"} - {primary}
    end = None if until is None else us(59) + microseconds(until)
    gate = Gate(floor=us(0), pause=Pause(us(1), "ops", "", end) if is_paused else None)
    for name, asks in ((other, not is_paused), (primary, False)):
        state = world.machine(name)._state
        state.then, state.trusted = None, (state.seen.plan_version, 0)
        plan = state.seen.plan
        assert planning._ahead_may_be_void(state, us(59), plan, gate) == asks
        assert (state.then is not None) == asks
        if asks:
            assert state.target == (plans.replacement(cycle, us(59)), plan)
        assert not planning._ahead_may_be_void(state, us(59), plan, gate), "of this revision"


@pytest.mark.parametrize("now", [60, 79.9, 80, 100])
def test_who_has_planned_looks_at_once_where_its_slot_has_begun_and_else_waits_for_it(
    now: float,
) -> None:
    world = World(("a", "b", "c"))
    world.run_to(second=59.5)
    cycle = cycle_of(world)
    second = cycle.runners[1][0]
    state, at = world.machine(second)._state, world.virtual._time.at
    plan = state.seen.plan
    assert plan is not None
    state.soon = state.wake = None
    planning._look_if_in_slot(state, at, plan, us(now))
    expected: tuple[int | None, int | None] = (at, None) if now >= 80 else (None, us(80))
    assert (state.soon, state.wake) == expected


# What is told of a period that has passed ---------------------------------------------------------


def owing(due: int, until: int) -> tuple[World, CyclePlan, Run]:
    """A runner that owes a word about the period of 0:01, and a run of it."""
    world, machine, run = at_work()
    last = cycle_of(world)
    assert (last.due, last.until) == (due, until)
    machine._state.owed = last
    return world, last, run


@pytest.mark.parametrize(
    ("now", "open_key", "why"),
    [
        (119.999999, None, None),
        (120, None, "nobody_started"),
        (120, 60, None),
        (120, 120, "prior_running"),
        (150, None, "nobody_started"),
    ],
)
def test_a_period_is_told_as_missed_from_its_end_on_and_not_while_its_own_run_is_open(
    now: float, open_key: int | None, why: str | None
) -> None:
    world, last, run = owing(us(60), us(120))
    opened = None if open_key is None else replace(run, key=us(open_key))
    told = planning._told_of_last(world.machine()._state, us(now), Gate(floor=us(59), open=opened))
    named = world.machine()._state.named
    assert told == ([PeriodMissed(**named, due=last.due, until=last.until, why=why)] if why else [])
    assert (world.machine()._state.owed is None) == (why is not None)


@pytest.mark.parametrize(("until", "why"), [(120, "nobody_started"), (121, "paused")])
def test_a_period_was_missed_for_a_pause_where_that_holds_when_it_is_told(
    until: float, why: str
) -> None:
    world, *_ = owing(us(60), us(120))
    gate = Gate(floor=us(59), pause=Pause(us(61), "ops", "", us(until)))
    [told] = planning._told_of_last(world.machine()._state, us(120), gate)
    assert isinstance(told, PeriodMissed)
    assert told.why == why


@pytest.mark.parametrize(
    ("key", "is_told"), [(119, True), (120, False), (239, False), (240, True), (None, True)]
)
def test_periods_that_nobody_planned_are_told_unless_a_run_of_one_of_them_is_still_open(
    key: int | None, *, is_told: bool
) -> None:
    world, machine, run = at_work()
    state = machine._state
    state.unplanned = (us(120), us(240))
    gate = Gate(floor=us(61), open=replace(run, key=None if key is None else us(key)))
    told = planning._told_of_unplanned(state, us(240), gate)
    missed = PeriodMissed(**state.named, due=us(120), until=us(240), why="nobody_planned", count=2)
    assert told == ([missed] if is_told else [])
    assert world.machine()._state.unplanned == (None if is_told else (us(120), us(240)))


@pytest.mark.parametrize(("later", "owes"), [(0, False), (1, True), (3, True)])
def test_who_plans_owes_a_word_about_the_period_before_and_none_about_the_one_that_it_plans(
    later: int, *, owes: bool
) -> None:
    world = World()
    world.run_to(second=61)
    state, last = world.machine()._state, cycle_of(world)
    target = plans.replacement(last, us(61), state.planner)
    cycle = replace(target.cycle, due=last.due + later * 60_000_000)
    state.owed = state.unplanned = None
    planning._owe(state, state.seen, replace(target, cycle=cycle))
    assert state.owed == (last if owes else None)
    assert state.unplanned == ((last.until, cycle.due) if later == 3 else None)
