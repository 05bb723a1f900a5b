"""Whether states that count as one have one future: each step from both leads to equal states."""

from collections import deque

from explore.invariants import Violation
from explore.steps import Scope, Step, steps_of, take
from explore.world import World


def compare(world: World, scope: Scope, *, most: int, every: int) -> int:
    """Visit states, and compare one in so many of those that were met before.

    Args:
        world: where to start.
        scope: what may happen.
        most: how many states to visit.
        every: of those that count as a known one, compare one in so many.

    Returns:
        How many pairs were compared.

    Raises:
        Violation: two count as one, and some step leads to states that do not.
    """
    futures: dict[int, dict[Step, int]] = {}
    twins: list[World] = []
    known, waiting, met = {world.state()}, deque([world]), 0
    while waiting and len(futures) < most:
        here = waiting.popleft()
        futures[here.state()] = {}
        for step, after in _after(here, scope):
            state = after.state()
            futures[here.state()][step] = state
            if state not in known:
                known.add(state)
                waiting.append(after)
                continue
            met += 1
            if met % every == 0:
                twins.append(after)
    twins = [twin for twin in twins if twin.state() in futures]
    for twin in twins:
        future = {step: after.state() for step, after in _after(twin, scope)}
        known_future = futures[twin.state()]
        for step in future.keys() | known_future.keys():
            if future.get(step) != known_future.get(step):
                raise Violation(f"two states count as one, and differ after {step}")
    return len(twins)


def _after(world: World, scope: Scope) -> list[tuple[Step, World]]:
    found = []
    for step in list(steps_of(world, scope)):
        after = world.copy()
        take(after, step, scope)
        found.append((step, after))
    return found
