"""Several Runners, stepped in virtual time: who serves which cycle, whatever happens."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise import Turn, TurnFailed
from turnwise.testing import SETTINGS, START, share_of_the_profile
from turnwise.testing.desk import ABANDONED, BLOCKED, MICROSECOND, RUNNING, SECOND
from virtual import SERVICE, World, assert_one_at_a_time

CYCLE = SETTINGS.interval
SLOT = CYCLE / 3


def started(*runner_ids: str, **of_the_world: object) -> World:
    """A world at the start of the first cycle in which its runners count, in no slot yet."""
    # Its fields have these names and types.
    world = World(**of_the_world)  # type: ignore[arg-type]
    world.add(*runner_ids)
    world.run_to(START + CYCLE - MICROSECOND)
    return world


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_each_cycle_is_served_once_and_the_work_is_shared_evenly(count: int) -> None:
    names = "abcdefg"[:count]
    world = started(*names)
    world.run_for(2 * count * CYCLE)
    assert world.cycles() == list(range(1, 2 * count + 1))
    assert {name: world.servers().count(name) for name in names} == dict.fromkeys(names, 2)
    assert all(record.cycle_start == record.slot_start for record in world.history())
    assert_one_at_a_time(world)


def test_with_every_slot_each_runner_serves_in_its_own_slot_of_each_cycle() -> None:
    world = started("a", "b", "c", settings=replace(SETTINGS, runs_per_cycle="every_slot"))
    world.run_for(4 * CYCLE)
    assert world.servers() == ["a", "b", "c"] * 4
    assert [s.began for s in world.served] == [START + CYCLE + n * SLOT for n in range(12)]
    assert_one_at_a_time(world)


def test_a_round_costs_three_looks_at_the_gate_at_most_and_else_heartbeats() -> None:
    world = started(*"abcdefg")
    before = {name: dict(member.storage.calls) for name, member in world.members.items()}
    world.run_for(7 * CYCLE)
    for name, member in world.members.items():
        calls = {what: n - before[name].get(what, 0) for what, n in member.storage.calls.items()}
        assert calls["admit"] == 3, "as primary once, and twice as a standby"
        # A look at each cycle's start and each own slot, and after its turn.
        assert calls["look"] <= 7 + 3 + 1
        assert calls["look"] + calls["heartbeat"] <= 7 * 9 + 3 + 7


def test_a_primary_that_died_idle_is_replaced_in_the_next_slot() -> None:
    world = started("a", "b", "c", "d")
    primary, standby, *_ = world_of_next_cycle(world)
    world.kill(primary)
    world.run_for(CYCLE)
    [served] = world.served
    assert (served.runner_id, served.began) == (standby, START + CYCLE + SLOT)


def world_of_next_cycle(world: World) -> list[str]:
    look = world.backend.peek(SERVICE, world.settings, world.clock() + MICROSECOND)
    return [runner.runner_id for runner in look.scheduled]


@pytest.mark.parametrize(
    ("killed_after", "taken_over_at"),
    [
        (0.5, 21.000001),  # last kept alive at its admission; in the next slot, not yet late
        (6.9, 21.000001),
        (7.5, 28.000001),
        (14.5, 40.0),  # dead at 35.000001, too late in the second slot: the third
        (29.0, 60.0),  # dead at 49.000001, too late in the third: the next cycle
    ],
)
def test_a_primary_killed_in_its_turn_is_replaced_in_the_first_slot_after_the_timeout(
    killed_after: float, taken_over_at: float
) -> None:
    world = started("a", "b", "c", turn_takes=30 * SECOND)
    primary, *_ = world_of_next_cycle(world)
    world.kill_in_its_turn(primary, killed_after * SECOND)
    world.run_for(2 * CYCLE)
    killed, successor = world.served[:2]
    assert (killed.runner_id, killed.ended) == (primary, None)
    assert (successor.began - START - CYCLE) == taken_over_at * SECOND
    assert world.history()[0].reason == "owner_dead"
    assert world.cycles()[-1] == 2
    assert_one_at_a_time(world)


def failing_first(world: World) -> World:
    def service(turn: Turn) -> None:
        if turn.fencing_token == 1:
            raise TurnFailed("exit:1")

    world.service = service
    return world


def test_a_failed_turn_leaves_the_cycle_to_the_next_standby() -> None:
    world = failing_first(started("a", "b", "c"))
    primary, standby, *_ = world_of_next_cycle(world)
    world.run_for(2 * CYCLE)
    first, second, third = world.history()
    assert (first.runner_id, first.status, first.reason) == (primary, ABANDONED, "exit:1")
    assert (second.runner_id, second.start_time) == (standby, START + CYCLE + SLOT)
    assert third.cycle_start == START + 2 * CYCLE


def test_without_retries_a_failed_turn_counts_as_served() -> None:
    world = failing_first(started("a", "b", "c", settings=replace(SETTINGS, retry_failed=False)))
    world.run_for(2 * CYCLE)
    assert [r.cycle_start for r in world.history()] == [START + CYCLE, START + 2 * CYCLE]


def test_a_turn_that_overruns_its_cycle_delays_the_next_one_and_overlaps_nothing() -> None:
    world = started("a", "b", "c", turn_takes=65 * SECOND)
    world.run_for(CYCLE)
    world.turn_takes = SECOND
    world.run_for(2 * CYCLE)
    # A window of 9 s begins at 120 s, and a tenth of it is how often a refused runner asks again.
    assert [s.began - START for s in world.served[:2]] == [60 * SECOND, 125.4 * SECOND]
    assert [r.cycle_start for r in world.history()][:3] == [START + n * CYCLE for n in (1, 2, 3)]
    blocked = [r for r in world.backend.executions(SERVICE) if r.status is BLOCKED]
    assert {r.reason for r in blocked} == {f"prior_running:{world.history()[0].run_id}"}
    assert_one_at_a_time(world)


def test_a_turn_that_overruns_its_slot_by_little_costs_the_next_slot_little() -> None:
    """However short the slot: its runner does not wait for a heartbeat before it asks again."""
    settings = replace(SETTINGS, runs_per_cycle="every_slot", heartbeat_timeout=CYCLE)
    world = started(*"abcdefghij", settings=settings, turn_takes=6.1 * SECOND)
    world.run_for(2 * SECOND)
    world.turn_takes = SECOND
    world.run_for(2 * CYCLE)
    assert len(world.served) >= 20, "no slot is lost"
    late = world.served[1].began - (START + CYCLE + CYCLE / 10)
    # It may start in 2 s of its slot, and asks each 200 ms.
    assert late == 0.2 * SECOND
    assert_one_at_a_time(world)


def test_a_runner_that_the_gate_refused_late_is_there_when_the_next_cycle_starts() -> None:
    """Its next try would be 0.8 s later, in the middle of its own slot."""
    settings = replace(
        SETTINGS,
        heartbeat_timeout=8.4 * SECOND,
        spread_margin=0 * SECOND,
        standbys=1,
        max_start_slot_fraction=1.0,
    )
    world = started("a", "b", settings=settings, turn_takes=59.5 * SECOND)
    world.run_for(CYCLE + SECOND)  # a is refused each 2.8 s from 30 s on, and after 58 s at last
    assert [(s.runner_id, s.began - START) for s in world.served] == [
        ("b", CYCLE),
        ("a", 2 * CYCLE),
    ]


def test_a_runner_that_waits_for_a_grace_to_end_is_there_when_the_next_cycle_starts() -> None:
    settings = replace(
        SETTINGS, heartbeat_timeout=57 * SECOND, membership_stabilization=118 * SECOND
    )
    world = started("a", settings=settings)
    world.run_for(CYCLE + SECOND)
    assert [s.began - START for s in world.served] == [2 * CYCLE]


def test_a_newcomer_counts_from_the_next_cycle_and_who_leaves_not_from_then_on() -> None:
    world = started("a", settings=replace(SETTINGS, runs_per_cycle="every_slot"))
    world.add("b")
    world.run_for(2 * CYCLE)
    assert world.servers() == ["a", "a", "b"]
    world.members["a"].runner.leave()
    world.kill("a")
    world.run_for(CYCLE)
    assert world.servers() == ["a", "a", "b", "b"]


def test_after_an_outage_of_the_storage_the_next_cycle_is_served() -> None:
    world = started("a", "b", "c")
    world.run_for(CYCLE)
    for member in world.members.values():
        member.storage.down = True
    world.run_for(3 * CYCLE + 3 * SECOND)
    assert len(world.served) == 1, "nothing starts without an answer"
    for member in world.members.values():
        member.storage.down = False
    world.run_for(2 * CYCLE)
    # All were silent for too long: they join anew, in cycle 5, and count from the next one.
    assert world.cycles()[:2] == [1, 6]
    assert_one_at_a_time(world)


def test_a_short_outage_costs_nobody_its_place() -> None:
    world = started("a", "b", "c")
    world.run_to(START + 2 * CYCLE - 10 * SECOND)
    for member in world.members.values():
        member.storage.down = True
    world.run_for(12 * SECOND)
    for member in world.members.values():
        member.storage.down = False
    world.run_to(START + 3 * CYCLE - SECOND)
    assert world.cycles() == [1, 2]
    assert world.served[1].began - START < 2 * CYCLE + 9 * SECOND


def test_a_step_back_of_the_clock_within_a_cycle_loses_and_repeats_no_cycle() -> None:
    world = started("a", "b", "c")
    world.run_for(CYCLE + 30 * SECOND)
    world.clock.step(-20 * SECOND)
    world.run_to(START + 5 * CYCLE - SECOND)
    assert world.cycles() == [1, 2, 3, 4]


def test_a_step_back_by_cycles_serves_none_of_them_again_and_goes_on_when_they_are_over() -> None:
    world = started("a", "b", "c")
    world.run_for(4 * CYCLE)
    world.clock.step(-2 * CYCLE)
    world.run_for(4 * CYCLE)
    assert world.cycles() == [1, 2, 3, 4, 5, 6]
    assert_one_at_a_time(world)


def test_a_step_forward_is_noticed_within_a_heartbeat() -> None:
    world = started("a", "b", "c")
    world.run_to(START + 2 * CYCLE - 12 * SECOND)
    world.clock.step(13 * SECOND)
    world.run_for(CYCLE)
    assert world.cycles()[:2] == [1, 2]
    assert world.served[1].began <= START + 2 * CYCLE + SECOND + SETTINGS.heartbeat_interval


faults = st.one_of(
    st.tuples(st.just("kill"), st.integers(0, 9)),
    st.tuples(st.just("kill in its turn"), st.integers(0, 9)),
    st.tuples(st.just("cut off"), st.integers(0, 9)),
    st.tuples(st.just("reconnect all"), st.just(0)),
    st.tuples(st.just("add"), st.just(0)),
    st.tuples(st.sampled_from(["lose requests", "lose answers"]), st.integers(0, 9)),
)
OPERATIONS = ("look", "heartbeat", "admit", "finish", "execution", "block", "publish_settings")


def inflict(world: World, fault: str, pick: int) -> None:
    members = [m for m in world.members.values() if m.alive] or list(world.members.values())
    member = members[pick % len(members)]
    match fault:
        case "kill":
            member.storage.killed = True
        case "kill in its turn":
            member.kill_at = float(1 + pick)
        case "cut off":
            member.storage.down = True
        case "reconnect all":
            for each in members:
                each.storage.down = False
        case "add":
            world.add(f"new {len(world.members)}")
        case _:
            for operation in OPERATIONS:
                member.storage.fail(operation, after=fault == "lose answers", times=1 + pick % 3)


@share_of_the_profile(4, most=500)
@given(
    plan=st.lists(st.tuples(faults, st.integers(0, 100).map(lambda s: s * SECOND)), max_size=12),
    takes=st.sampled_from([SECOND, 10 * SECOND, 25 * SECOND]),
    every_slot=st.booleans(),
)
def test_whatever_fails_nothing_overlaps_no_cycle_is_served_twice_and_the_service_comes_back(
    plan: list[tuple[tuple[str, int], timedelta]],
    takes: timedelta,
    every_slot: bool,
) -> None:
    settings = replace(
        SETTINGS,
        runs_per_cycle="every_slot" if every_slot else "once",
        retention_age=timedelta(days=1),
    )
    world = World(settings, takes)
    world.add("a", "b", "c")
    for (fault, pick), wait in plan:
        world.run_for(wait)
        inflict(world, fault, pick)
    world.run_for(2 * CYCLE)
    for member in world.members.values():
        member.storage.down, member.kill_at = False, None
    world.add("z")
    # All heals. What was cut off joins anew, a killed one's run dies, what hangs gives up.
    world.run_for(3 * CYCLE)
    healed_at = world.clock()
    world.run_for(2 * CYCLE)

    assert_one_at_a_time(world)
    assert any(s.began >= healed_at for s in world.served)
    completed = [r for r in world.history() if r.status not in (ABANDONED, RUNNING)]
    keys = [r.slot_start if every_slot else r.cycle_start for r in completed]
    assert len(set(keys)) == len(keys)
    owners = {r.fencing_token: r.runner_id for r in world.history()}
    assert all(owners[s.fencing_token] == s.runner_id for s in world.served)
    open_runs = [r for r in world.history() if r.status is RUNNING]
    assert all(r.start_time >= healed_at for r in open_runs)
