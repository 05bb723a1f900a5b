"""Every interleaving of two runners keeps what is promised; with a repair taken out it does not.

The interleavings that an earlier draft of the design failed in are tests of their own. Each plays
its steps on the shipped code, which must hold and come right afterwards, and once more with the
repair taken out, which must fail.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from explore import breaks, rooms
from explore.breaks import Break
from explore.invariants import Violation
from explore.scripts import lives, play
from explore.search import prepared, search
from explore.steps import Scope
from explore.walks import ALL_FAULTS, Walk, walk
from explore.world import ORIGIN, SECOND, World
from turnwise import plan as plans
from turnwise.settings import Settings

ANYTHING = rooms.scope(8, faults=99)


def _play(runners: dict[str, Settings], steps: str, broken: Sequence[Break] = ()) -> World:
    """Play some steps, and let everything go well from there."""
    with ExitStack() as stack:
        world = rooms.world(runners)
        for each in broken:
            stack.enter_context(each())
        return lives(play(world, steps, ANYTHING))


def _holds_but_for(runners: dict[str, Settings], steps: str, *broken: Break, found: str) -> World:
    """The shipped code holds; with repairs taken out it fails, and the report says what."""
    with pytest.raises(Violation, match=found):
        _play(runners, steps, broken)
    return _play(runners, steps)


# The interleavings --------------------------------------------------------------------------------


def test_a_runner_that_is_suspended_between_its_look_and_its_admission_counts_from_the_look() -> (
    None
):
    _holds_but_for(
        rooms.WIDE,
        "time, do 0 beat, do 0 ask, send 0 ask, apply 0 ask, suspend 0, all 1,"
        "time, all 1, time, all 1, wake 0, deliver 0 ask, do 0 ask, suspend 0, time, all 1",
        breaks.silence_from_the_answer,
        found="buried, and its owner believes",
    )


def test_a_turn_that_was_silent_for_its_timeout_is_lost_for_good() -> None:
    _holds_but_for(
        rooms.WIDE,
        "time, all 0, all 1, time, all 0, all 1, suspend 0, time, all 1, time, all 1, time, time,"
        "do 1 beat, do 1 ask, send 1 ask, wake 0, do 0 beat, do 1 ask",
        breaks.lost_and_found,
        found="buried, and its owner believes",
    )


LOST_AND_DROPPED = (
    "time, all 0, all 1, suspend 0, suspend 1, time, time, time, time, time, wake 0, complete 0"
)


def test_a_run_that_its_process_names_no_more_is_buried_though_the_process_goes_on() -> None:
    _play(rooms.WIDE, LOST_AND_DROPPED, [breaks.lost_turns_dropped])
    _holds_but_for(
        rooms.WIDE,
        LOST_AND_DROPPED,
        breaks.lost_turns_dropped,
        breaks.any_heartbeat_keeps_alive,
        found="stays open for ever|is not served",
    )


def test_a_run_of_an_earlier_life_of_a_runner_is_dead_though_its_id_goes_on() -> None:
    _holds_but_for(
        rooms.WIDE,
        "time, all 0, all 1, crash 0, restart 0",
        breaks.no_boot_id,
        found="stays open for ever|is not served",
    )


def test_a_heartbeat_that_finds_no_row_confirms_nothing() -> None:
    _holds_but_for(
        rooms.WIDE,
        "time, all 0, all 1, time, all 0, row a, all 1, time, all 1, do 0 beat, row a,"
        "time, all 1, do 0 beat, row a, time, time, all 1",
        breaks.confirmed_without_a_row,
        found="buried, and its owner believes",
    )


def test_a_row_that_does_not_name_the_run_yet_is_no_row_that_was_lost() -> None:
    _holds_but_for(
        rooms.WIDE,
        "time, all 0, all 1, time, all 1, all 0, time, all 0, row a, all 1, time, all 1",
        breaks.one_word_for_two,
        found="buried, and its owner believes",
    )


def test_an_observer_that_is_stopped_before_its_answer_comes_buries_no_living_owner() -> None:
    _holds_but_for(
        rooms.NARROW,
        "time, all 0, all 1, time, all 0, all 1, time, do 1 beat, send 1 ask, apply 1 ask,"
        "suspend 1, all 0, time, all 0, time, time, all 0, wake 1, deliver 1 ask, do 1 ask",
        breaks.silence_until_the_answer,
        found="buried, and its owner believes",
    )


def test_a_clock_that_steps_ahead_buries_nobody() -> None:
    _holds_but_for(
        rooms.WIDE,
        "time, all 0, all 1, step 5000000, time, all 1",
        breaks.dead_by_storage_time,
        found="buried, and its owner believes",
    )


def test_a_run_is_dead_after_its_own_timeout_not_after_that_of_who_watches() -> None:
    _holds_but_for(
        rooms.HASTY,
        "time, all 0, all 1, time, all 1, time, all 0, all 1,time, all 1, time, all 1, time, all 1",
        breaks.observers_timeout,
        found="buried, and its owner believes",
    )


def test_a_gate_that_is_restored_from_a_backup_never_bears_a_version_that_somebody_knows() -> None:
    _holds_but_for(
        rooms.NARROW,
        "time, all 0, all 1, complete 0, all 0, restore, time, all 0, all 1, time, all 0, all 1",
        breaks.counted_versions,
        found="two gates bear the version",
    )


def test_an_admission_that_is_delayed_into_the_next_slot_is_none() -> None:
    _holds_but_for(
        rooms.NARROW,
        "time, do 0 beat, do 0 ask, send 0 ask, all 1, time delay, time delay, apply 0 ask",
        breaks.not_after_ignored,
        found="admitted after its slot",
    )


def test_an_admission_that_is_delayed_into_the_next_period_is_none() -> None:
    late = ", time delay" * 10
    _holds_but_for(
        rooms.NARROW,
        f"time, do 0 beat, do 0 ask, send 0 ask, all 1{late}, apply 0 ask",
        breaks.not_after_ignored,
        found="admitted after its slot",
    )


def test_a_clock_that_steps_back_has_no_period_served_twice() -> None:
    _holds_but_for(
        rooms.NARROW,
        "calm 40, step -20000000",
        breaks.only_the_last_key,
        found="for a period that is served",
    )


def _served(steps: str, *broken: Break, since: int) -> list[bool]:
    """Which periods are served after some steps, where each plan lists one runner."""
    with ExitStack() as stack:
        world = prepared(rooms.ALONE, until=since)
        for each in broken:
            stack.enter_context(each())
        gate = play(world, steps, ANYTHING).gate
        assert gate is not None
        return [ORIGIN + number * 8 * SECOND in gate.served for number in range(1, 7)]


def test_a_dead_owner_whose_heartbeat_lies_ahead_of_a_clock_that_stepped_back_has_no_slot() -> None:
    steps = "step 60000000, time, do 0 beat, do 1 beat, crash 0, step -60000000, calm 40"
    assert all(_served(steps, since=rooms.START)[3:])
    assert not all(_served(steps, breaks.ahead_is_alive, since=rooms.START)[3:])


def _primary_dies_after_a_step_back(*broken: Break) -> tuple[int, bool]:
    """How many runners the first plan lists after a step back, and whether its period is served.

    The primary of that plan dies as soon as its cycle has begun.
    """
    with ExitStack() as stack:
        world = rooms.world(rooms.WIDE)
        for each in broken:
            stack.enter_context(each())
        play(world, f"step -{3 * 3600 * SECOND}", ANYTHING)
        while (cycle := plans.covering(world.plan, world.now)) is None:
            play(world, "time, all 0, all 1", ANYTHING)
        primary = list(world.places).index(cycle.runners[0][0])
        gate = play(world, f"crash {primary}, calm 40", ANYTHING).gate
        assert gate is not None
        return len(cycle.runners), cycle.due in gate.served


def test_the_first_plan_after_a_clock_stepped_back_has_a_standby_for_a_primary_that_dies() -> None:
    """Each heartbeat lies ahead of the clock then: at once, only who asks counts as alive."""
    assert _primary_dies_after_a_step_back() == (2, True)
    assert _primary_dies_after_a_step_back(breaks.plans_while_stepped_back) == (1, False)


def test_an_admission_whose_answer_is_lost_is_settled_and_adopted() -> None:
    world = _holds_but_for(
        rooms.WIDE,
        "time, do 0 beat, do 0 ask, send 0 ask, apply 0 ask, lose 0 ask, time, all 0",
        breaks.no_settling,
        found="starts twice in a slot",
    )
    assert world.ledger.attempts == ()  # the run that was found was served, and failed nobody


def test_a_late_heartbeat_takes_no_name_away() -> None:
    _holds_but_for(
        rooms.WIDE,
        "time, send 0 beat, drop 0 beat, do 0 ask, do 0 ask, do 0 ask, all 1,"
        "time, all 1, do 0 beat, late 0, suspend 0, time, all 1, time, all 1",
        breaks.late_heartbeats_count,
        found="buried, and its owner believes",
    )


def test_a_plan_of_which_nobody_is_left_is_replaced_within_its_cycle() -> None:
    before = rooms.START - 3 * SECOND // 2  # they die early enough to be silent in the cycle
    crashes = ["crash 0, calm 20", "crash 1, calm 20"]
    assert all(all(_served(steps, since=before)[:4]) for steps in crashes)
    broken = [_served(steps, breaks.void_plans_stay, since=before)[:4] for steps in crashes]
    assert broken.count([True, True, True, True]) == 1  # one of the two was not listed


def test_a_plan_that_lies_years_ahead_counts_as_none() -> None:
    years = 300_000_000_000_000
    _holds_but_for(
        rooms.NARROW,
        f"step {years}, calm 20, step -{years}",
        breaks.plans_for_ever,
        found="is not served",
    )


def test_a_clock_that_is_far_ahead_for_long_does_not_block_the_service_afterwards() -> None:
    hours = 72_000_000_000
    _holds_but_for(
        rooms.NARROW,
        f"step {hours}, calm 700, step -{hours}",
        breaks.no_horizon,
        found="is not served",
    )


def test_who_lost_a_swap_reads_again() -> None:
    _holds_but_for(
        rooms.NARROW,
        "time, do 0 beat, do 0 ask, trigger",
        breaks.no_second_look,
        found="follow each other for ever",
    )


def test_a_turn_that_ended_well_is_recorded_however_long_the_storage_was_away() -> None:
    away = ", ".join(["send 0 ask, drop 0 ask, time delay"] * 6)
    world = _holds_but_for(
        rooms.WIDE,
        f"time, all 0, suspend 1, time, all 0, complete 0, {away}",
        breaks.outcome_dropped,
        found="ended well, and is recorded as",
    )
    assert world.ledger.attempts == ()


def test_a_function_does_not_start_in_a_turn_that_is_lost() -> None:
    _holds_but_for(
        rooms.WIDE,
        "time, do 0 beat, do 0 ask, do 0 ask, suspend 0, time, time, time, wake 0, do 0 ask",
        breaks.starts_late,
        found="starts although its turn is lost",
    )


def test_rows_that_the_history_has_are_not_appended_again_and_again() -> None:
    _holds_but_for(
        rooms.NARROW,
        "time, do 0 beat, do 0 ask, stop 0, do 1 beat",
        breaks.keeps_one_row,
        found="follow each other for ever",
    )


# Every interleaving -------------------------------------------------------------------------------

SEARCHES: dict[str, tuple[dict[str, Settings], Scope, int]] = {
    "two periods of two cycles": (rooms.NARROW, rooms.scope(4), 1),
    "a cycle, each request in three parts": (rooms.NARROW, rooms.scope(1, fine=True), 5),
    "two settings, two cycles": (rooms.MIXED, rooms.scope(2), 1),
    "two cycles, an answer is lost": (rooms.NARROW, rooms.scope(2, faults=1, lose=1), 1),
    "a cycle, a request is late or lost": (rooms.NARROW, rooms.scope(1, faults=1, drop=1), 2),
    "two cycles, a plan is lost": (rooms.NARROW, rooms.scope(2, faults=1, plan=1), 1),
    "two cycles, a runner's row is lost": (rooms.NARROW, rooms.scope(2, faults=1, row=1), 1),
    "two cycles, a function fails": (rooms.NARROW, rooms.scope(2, fail=1), 1),
    "a cycle, the gate is lost": (rooms.NARROW, rooms.scope(1, faults=1, gate=1), 1),
    "a cycle, the gate is restored": (rooms.NARROW, rooms.scope(1, faults=1, restore=1), 1),
    "a cycle, a trigger": (rooms.NARROW, rooms.scope(1, faults=1, trigger=1), 10),
    "a cycle, a stop": (rooms.NARROW, rooms.scope(1, faults=1, stop=1), 1),
    "a cycle, a suspension": (rooms.NARROW, rooms.scope(1, faults=1, every=2, suspend=1), 50),
    "a cycle, a clock step": (rooms.NARROW, rooms.scope(1, faults=1, every=2, step=1), 5),
    "a cycle, a message is held": (rooms.NARROW, rooms.scope(1, faults=1, every=2, hold=1), 5),
    "a cycle, a pause": (rooms.NARROW, rooms.scope(1, faults=2, every=2, pause=1, resume=1), 5),
}
"""The runners, what may happen, and from one state in how many all is let go well."""

COLD = "two cycles, from an empty storage"


@pytest.mark.parametrize("name", [*SEARCHES, COLD])
def test_in_every_state_that_can_be_reached_the_invariants_hold_and_all_comes_right(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runners, scope, live_every = SEARCHES.get(name, (rooms.NARROW, rooms.scope(2), 1))
    world = prepared(runners, until=rooms.START, cold=name == COLD)
    found = search(world, scope, live_every=live_every)
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: {found}\n")
    assert found.happened["TurnStarted"] > 0
    assert found.lives > 0


def test_the_same_search_has_the_same_states() -> None:
    first, second = (search(rooms.world(rooms.NARROW), rooms.scope(1, fail=1)) for _ in range(2))
    assert str(first) == str(second)


BROKEN: dict[str, tuple[Break, dict[str, Settings], Scope, str]] = {
    "no settling": (
        breaks.no_settling,
        rooms.WIDE,
        rooms.scope(1, faults=1, lose=1),
        "starts twice in a slot",
    ),
    "a late start": (
        breaks.starts_late,
        rooms.WIDE,
        rooms.scope(1, faults=1, suspend=1),
        "starts although its turn is lost|starts after the end",
    ),
    "one row kept": (
        breaks.keeps_one_row,
        rooms.NARROW,
        rooms.scope(1, faults=1, stop=1),
        "follow each other for ever",
    ),
    "a swap after its slot": (
        breaks.not_after_ignored,
        rooms.NARROW,
        rooms.scope(1, faults=2, delay=2),
        "admitted after its slot",
    ),
    "versions that are counted": (
        breaks.counted_versions,
        rooms.NARROW,
        rooms.scope(1, faults=1, restore=1),
        "two gates bear the version",
    ),
    "death by the storage's clock": (
        breaks.dead_by_storage_time,
        rooms.WIDE,
        rooms.scope(1, faults=1, step=1),
        "is buried, and its owner",
    ),
    "one word for two": (
        breaks.one_word_for_two,
        rooms.WIDE,
        rooms.scope(1, faults=1, row=1, longest=4),
        "is buried, and its owner",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_repair_that_is_taken_out_is_found_with_the_steps_that_show_it(name: str) -> None:
    broken, runners, scope, found = BROKEN[name]
    with broken(), pytest.raises(Violation, match=rf"(?s)({found}).*after: time"):
        search(rooms.world(runners), scope, live_every=7, most=30_000)


def test_three_runners_of_different_settings_keep_all_in_random_walks() -> None:
    how = Walk(rooms.THREE_MIXED, ALL_FAULTS, tuple(n * SECOND for n in (-30, -3, 5)), calm=1_000)
    found = walk(how, steps=8_000, seed=3)
    assert found.lives >= 8
    assert found.happened["TurnStarted"] > 20


def test_the_same_seed_takes_the_same_walk() -> None:
    how = Walk(rooms.THREE, ALL_FAULTS)
    first, second = (walk(how, steps=1_000, seed=2) for _ in range(2))
    assert first == second
