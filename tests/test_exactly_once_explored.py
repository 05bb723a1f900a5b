"""Every interleaving of a job's transaction with everybody else keeps each period served once.

What a job wrote is in the data exactly when its transaction has landed, and landing is what serves
the period. So a period that is served twice is an effect that is there twice.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any
from unittest.mock import patch

import pytest

from explore import rooms
from explore.invariants import Violation
from explore.scripts import lives, play
from explore.search import Found, search
from explore.steps import Scope
from explore.transactions import witnessed
from explore.walks import ALL_FAULTS, Walk, walk
from explore.world import ORIGIN, SECOND, World
from turnwise.actions import Wait
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.events import TurnEnded, TurnLost
from turnwise.gate import NOT_COMMITTED
from turnwise.machine import closing, turns
from turnwise.settings import Settings

Break = Callable[[], AbstractContextManager[object]]
ANYTHING = rooms.scope(8, faults=99, hand_over=99, rollback=99)
DUE = ORIGIN + 24 * SECOND
SUCCEEDED = "two cycles, a suspended owner has a successor, and wakes, every 2 s"


def believes_the_function() -> AbstractContextManager[object]:
    """A function that returns normally has completed its run, whatever its transaction did."""
    return patch.object(turns, "handed_over", lambda *_: None)


def forgets_what_it_became() -> AbstractContextManager[object]:
    """A run that was handed over and is closed was closed as failed, and nobody asks."""
    became = closing._became

    def failed(gate: Any, run_id: str) -> Any:
        return became(gate, run_id) and (Status.ABANDONED, NOT_COMMITTED)

    return patch.object(closing, "_became", failed)


def no_lock() -> AbstractContextManager[object]:
    """A database that locks nothing, and commits over whatever is there by then."""
    return patch.object(World, "is_locked", property(lambda _: False))


def _play(steps: str, broken: Break = nullcontext, *, locks: bool = True) -> World:
    world = rooms.world(rooms.WIDE)
    world.locks = locks
    with broken():
        return lives(play(world, steps, ANYTHING))


def _ends(world: World) -> list[tuple[Status, str, bool]]:
    ended = [event for event in world.events if isinstance(event, TurnEnded)]
    return [(event.status, event.reason, event.recorded) for event in ended]


def _told(steps: str) -> World:
    """The world after some steps, with nothing healed."""
    return play(rooms.world(rooms.WIDE), steps, ANYTHING)


COMPLETED = (Status.COMPLETED, "", True)
FAILED = (Status.ABANDONED, NOT_COMMITTED, True)
BEGUN = "time, all 0, all 1, hand_over 0, "


def test_a_commit_whose_answer_is_lost_while_it_is_in_flight_is_read_and_not_guessed() -> None:
    world = _told(BEGUN + "commit 0, fail 0, all 0, land 0, time, all 0")
    assert _ends(world) == [COMPLETED]
    assert DUE in (world.gate.served if world.gate else ())
    _play(BEGUN + "commit 0, fail 0, all 0, land 0")
    with pytest.raises(Violation, match="told as failed, and was committed"):
        _play(BEGUN + "commit 0, complete 0, all 0, land 0", forgets_what_it_became)


def test_while_the_commit_is_in_flight_its_owner_is_told_busy_and_closes_nothing() -> None:
    world = _told(BEGUN + "commit 0, fail 0, all 0, all 0")
    assert _ends(world) == []
    assert world.gate is not None
    assert world.gate.open is not None


def test_whoever_is_told_busy_asks_again_ten_times_in_a_heartbeat_interval() -> None:
    world = _told(BEGUN + "commit 0, fail 0, all 0")
    owner = world.processes[0]
    assert owner is not None
    assert owner.action(world.time) == Wait(world.time + SECOND // 10)


def test_a_complete_that_was_refused_completes_nothing_though_the_function_returns() -> None:
    steps = "time, all 0, all 1, suspend 0" + ", time, all 1" * 6 + ", wake 0, hand_over 0, "
    world = _told(steps + "complete 0, all 0")
    assert [recorded for _, _, recorded in _ends(world)][:1] == [False]
    _play(steps + "complete 0")


def test_a_commit_that_never_arrives_leaves_a_run_that_has_failed() -> None:
    world = _told(BEGUN + "commit 0, complete 0, all 0, vanish 0, time, all 0")
    assert _ends(world) == [FAILED]
    _play(BEGUN + "commit 0, complete 0, all 0, vanish 0")


def test_a_rollback_that_the_job_swallowed_is_not_completed() -> None:
    assert _ends(_told(BEGUN + "rollback 0, complete 0, all 0")) == [FAILED]
    _play(BEGUN + "rollback 0, complete 0")
    with pytest.raises(Violation, match="completed, and did not end well"):
        _play(BEGUN + "rollback 0, complete 0", believes_the_function)


def test_a_run_that_is_committed_is_not_told_as_lost_while_its_function_goes_on() -> None:
    world = _told(BEGUN + "commit 0, land 0, time, all 0, all 1, complete 0, all 0")
    assert not [event for event in world.events if isinstance(event, TurnLost)]
    assert _ends(world) == [COMPLETED]


SUSPENDED = (
    BEGUN + "suspend 0, time, all 1, time, all 1, time, all 1, time, all 1, time, all 1, time, "
    "all 1, "
)


def test_who_buries_a_suspended_owner_is_told_busy_until_its_transaction_ends() -> None:
    world = _told(SUSPENDED + "wake 0, commit 0, land 0")
    assert world.gate is not None
    assert world.gate.served[-1] == DUE
    assert not world.gate.attempts
    _play(SUSPENDED + "wake 0, commit 0, land 0")
    with pytest.raises(Violation):
        _play(SUSPENDED + "wake 0, commit 0, land 0", no_lock, locks=False)


def test_a_suspended_owner_whose_transaction_the_server_has_ended_is_buried() -> None:
    world = _told(SUSPENDED + "vanish 0, time, all 1, time, all 1")
    assert world.gate is not None
    assert (DUE, 1) in world.gate.attempts
    _play(SUSPENDED + "vanish 0, time, all 1, time, all 1, wake 0")


# Every interleaving -------------------------------------------------------------------------------

SEARCHES: dict[str, tuple[dict[str, Settings], Scope, int]] = {
    "a cycle, transactions": (
        rooms.WIDE,
        rooms.scope(1, hand_over=2, rollback=1, fail=1),
        5,
    ),
    "a cycle, a pause, every 2 s": (
        rooms.NARROW,
        rooms.scope(1, faults=1, every=2, hand_over=1, pause=1),
        50,
    ),
    "a cycle, a crash": (
        rooms.WIDE,
        rooms.scope(1, faults=1, hand_over=1, crash=1),
        50,
    ),
    "a cycle, an owner is suspended, every 2 s": (
        rooms.HASTY,
        rooms.scope(1, faults=1, every=2, hand_over=1, suspend=1),
        200,
    ),
}
"""Each to its end, every day."""

LONG_SEARCHES: dict[str, tuple[dict[str, Settings], Scope, int]] = {
    "a cycle, a pause": (
        rooms.NARROW,
        rooms.scope(1, faults=1, hand_over=1, pause=1),
        200,
    ),
    "a cycle, an owner is suspended": (
        rooms.HASTY,
        rooms.scope(1, faults=1, hand_over=1, suspend=1),
        200,
    ),
    SUCCEEDED: (
        rooms.NARROW,
        rooms.scope(2, faults=1, every=2, until=4, hand_over=1, suspend=1),
        2_000,
    ),
}
"""Each to its end; the last takes some four minutes of processor time."""


def _search(name: str, capsys: pytest.CaptureFixture[str]) -> Found:
    runners, scope, live_every = (SEARCHES | LONG_SEARCHES)[name]
    found = search(rooms.world(runners), scope, live_every=live_every)
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: {found}\n")
    assert found.happened["TurnStarted"] > 0
    assert found.lives > 0
    return found


@pytest.mark.parametrize("name", SEARCHES)
def test_in_every_state_that_can_be_reached_each_effect_is_there_once(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _search(name, capsys)


@pytest.mark.faults  # it takes minutes
@pytest.mark.parametrize("name", LONG_SEARCHES)
def test_in_every_state_of_a_long_search_each_effect_is_there_once(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _search(name, capsys)
    if name == SUCCEEDED:
        # It was there: both ran, the owner suspended within its transaction, and then awake.
        assert found.happened["Succeeded"] > 0
        assert found.happened["Woken"] > 0


def test_an_owner_that_wakes_beside_its_successor_commits_nothing() -> None:
    """The state that the long search must come across, reached by hand."""
    before = "vanish 0" + ", time, all 1" * 6
    world = _told(BEGUN + "suspend 0, " + before + ", wake 0")
    assert list(witnessed(world)) == ["Woken"]
    _play(BEGUN + "suspend 0, " + before + ", wake 0, complete 0")


@pytest.mark.parametrize("broken", [believes_the_function, forgets_what_it_became])
def test_a_rule_that_is_taken_out_is_found(broken: Break) -> None:
    scope = rooms.scope(1, hand_over=1, rollback=1, fail=1)
    with ExitStack() as stack:
        stack.enter_context(broken())
        stack.enter_context(pytest.raises(Violation, match="after: time"))
        search(rooms.world(rooms.WIDE), scope, live_every=7, most=30_000)


def test_transactions_take_part_in_random_walks() -> None:
    how = Walk(rooms.THREE_MIXED, ("hand_over", "rollback", *ALL_FAULTS), calm=1_000)
    found = walk(how, steps=6_000, seed=3)
    assert found.lives >= 6
    assert found.happened["TurnStarted"] > 15
