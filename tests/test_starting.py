"""The last look at the clock before a function starts."""

from dataclasses import replace

import pytest

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.gate import Run, new_gate
from turnwise.heartbeat import Heartbeat
from turnwise.machine import TurnState
from turnwise.scheduler.starting import may_start
from turnwise.storages import Pulse

TIMEOUT = 12
RUN = Run("run", "a", "1", TIMEOUT, 1, 0, 0, 100, 0, 0, 50, 0, 1, 0, 1, 1)


def a_turn() -> TurnState:
    """A turn that was confirmed at 0, in a slot that ends at 10."""
    return TurnState(RUN, new_gate(0), "version", confirmed_at=0, deadline=10, last_served=None)


def a_heart() -> Heartbeat:
    """A heartbeat every 4, the last of which left at 0 and was answered."""
    heart = Heartbeat(group="g", runner_id="a", boot_id="1", timeout=TIMEOUT)
    heart.beat(0, ())
    heart.receive(
        0, Pulse(0, 0, found=True, left=False, drained=False, open_runs=frozenset(), sights={})
    )
    return heart


@pytest.mark.parametrize(("at", "whether"), [(0, True), (9, True), (10, False)])
def test_a_turn_starts_before_the_end_of_its_slot_alone(at: int, whether: bool) -> None:
    assert may_start(a_turn(), a_heart(), at) is whether


@pytest.mark.parametrize(("at", "whether"), [(TIMEOUT - 1, True), (TIMEOUT, False)])
def test_a_turn_that_was_silent_for_its_timeout_does_not_start(at: int, whether: bool) -> None:
    assert may_start(replace(a_turn(), deadline=100), a_heart(), at) is whether


def test_a_turn_that_has_ended_meanwhile_does_not_start() -> None:
    assert not may_start(None, a_heart(), 0)
    lost = a_turn()
    lost.end(Status.ABANDONED, "lost", 0)
    lost.lost = True
    assert not may_start(lost, a_heart(), 0)


@pytest.mark.parametrize(("at", "is_due"), [(3, False), (4, True)])
def test_where_the_admission_was_long_in_coming_the_next_heartbeat_is_sent_at_once(
    at: int, is_due: bool
) -> None:
    heart = a_heart()
    heart.beat(at - 1, ())  # and one is on its way, which does not name the run
    heart.receive(
        at, Pulse(0, 0, found=True, left=False, drained=False, open_runs=frozenset(), sights={})
    )
    assert may_start(a_turn(), heart, at)
    assert (heart.next(at) is None) is is_due
