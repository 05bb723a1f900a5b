"""A runner looks no later than anything can be done."""

from typing import Final

from hypothesis import assume, given
from hypothesis import strategies as st

from records import FIVE, RULES, cycle_plan
from turnwise import gate as gates
from turnwise.cycles import SECOND
from turnwise.looks import Lookout, next_look, period_is_over
from turnwise.plan import Plan, Planner, in_force, next_target
from turnwise.schedules import Every

NOON: Final = 1_790_000_000_000_000 // FIVE * FIVE
PLANNER: Final = Planner(Every("5m"), FIVE, RULES, "settings", 0)


def look(plan: Plan, floor: int, now: int) -> int:
    """When somebody who has no slot looks next, as a machine asks for it."""
    who = Lookout("nobody of the plan", PLANNER, 20 * SECOND, used_slot=None, is_blocked=False)
    return next_look(in_force(plan, PLANNER, now), gates.new_gate(floor), who, now)


def test_what_a_clock_that_was_ahead_left_unplanned_is_looked_at_when_it_begins() -> None:
    ahead = cycle_plan(NOON + FIVE + 80 * SECOND, NOON + 2 * FIVE, "a", "b")
    assert look(Plan((ahead,)), NOON, NOON + 10 * SECOND) == NOON + FIVE
    current = cycle_plan(NOON, NOON + FIVE, "a", "b")
    assert look(Plan((current, ahead)), NOON, NOON + 10 * SECOND) == NOON + FIVE


@given(
    covers=st.booleans(),
    now=st.integers(0, 2 * FIVE // SECOND),
    start=st.integers(0, 2 * FIVE // SECOND),
    floor=st.sampled_from([-FIVE, 0, FIVE]),
)
def test_nobody_sleeps_through_the_instant_at_which_a_plan_could_first_be_made(
    covers: bool, now: int, start: int, floor: int
) -> None:
    """Whatever is planned ahead, and whatever was served; within the margin looks are spread."""
    at, begins = NOON + now * SECOND, NOON + start * SECOND
    ahead = cycle_plan(begins, max(NOON + 2 * FIVE, begins + SECOND), "a", "b")
    current = cycle_plan(NOON - FIVE, min(at + 7 * SECOND, begins), "a", "b")
    plan = Plan((current, ahead)) if covers and current.end > at else Plan((ahead,))
    gate = gates.new_gate(NOON + floor)

    def is_over(due: int, until: int, asked_at: int) -> bool:
        return period_is_over(gate, due, until, now=asked_at, attempts=RULES.attempts)

    assume(isinstance(next_target(plan, PLANNER, is_over, at), int))  # else it plans now
    woken = look(plan, NOON + floor, at)
    for instant in range(at, min(woken - RULES.margin, begins), SECOND):
        assert isinstance(next_target(plan, PLANNER, is_over, instant), int)
