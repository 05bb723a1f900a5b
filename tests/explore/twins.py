"""Whether states that count as one have one future.

:func:`compare` takes each step from two that count as one: they must lead to equal states.
:func:`agree` searches twice: once by all that there is, and once by what a state says. Whatever the
first reaches must count as one with something that the second reaches, or a step was left out.
"""

from collections import deque

from explore.canon import Parts, canonical, joined
from explore.invariants import Violation
from explore.relevant import CONSTANT
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
    world.steady = not scope.each.get("step")
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


def agree(world: World, scope: Scope) -> tuple[int, int]:
    """Search by all that there is, and by what a state says, and hold the one against the other.

    Args:
        world: where to start.
        scope: what may happen.

    Returns:
        How many states there are by all that there is, and how many by what a state says.

    Raises:
        Violation: the first search reaches what the second does not.
    """
    world.steady = not scope.each.get("step")
    wholes = {(whole(world), world.state())}
    waiting = deque([world])
    while waiting:
        for _, after in _after(waiting.popleft(), scope):
            if (every := (whole(after), after.state())) not in wholes:
                wholes.add(every)
                waiting.append(after)
    reached, waiting = {world.state()}, deque([world])
    while waiting:
        for _, after in _after(waiting.popleft(), scope):
            if (state := after.state()) not in reached:
                reached.add(state)
                waiting.append(after)
    left_out = len({state for _, state in wholes} - reached)
    if left_out:
        raise Violation(f"{left_out} states are not reached where others count as one with theirs")
    return len(wholes), len(reached)


def whole(world: World) -> int:
    """All that there is in a world but the history, as a number; names have no meaning here too."""
    parts: list[Parts | None] = []
    for process in world.processes:
        if process is None:
            parts.append(None)
            continue
        machine = vars(process.machine._state)
        known = [machine[name] for name in sorted(machine.keys() - CONSTANT)]
        who = (process.suspended, process.ill, process.finished, process.left, process.ends_at)
        heart = vars(process.heartbeat).values()
        parts.append(joined([*who, *known, *heart, process.flights]))
    ledger = world.ledger
    for group in world.storage.state():
        rows = sorted((key, tuple(life)) for key, life in group.lives)
        parts.append(joined([group.revision, *rows, *group.plans, *group.gates]))
    parts.append(joined([world.time, world.skew, world.spent, world.strays, world.pending]))
    parts.append(ledger.parts(ledger.handed | ledger.landed))
    return canonical(parts)
