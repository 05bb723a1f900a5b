"""Every state that can be reached, each once."""

from collections import Counter, deque
from dataclasses import dataclass, field

from explore.invariants import Violation
from explore.liveness import healed, must_live, quiesce
from explore.steps import Scope, Step, steps_of, take
from explore.transactions import witnessed
from explore.world import World
from turnwise.settings import Settings

_Path = tuple["_Path | None", Step | None]


@dataclass(slots=True)
class Found:
    """What a search has seen: how many states and steps, and how often what happened."""

    states: int = 0
    steps: int = 0
    lives: int = 0
    ran_out: bool = False
    happened: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        ends = " (not all: the limit was reached)" if self.ran_out else ""
        return f"{self.states:,} states, {self.steps:,} steps, {self.lives:,} run on{ends}"


def prepared(runners: dict[str, Settings], *, until: int, cold: bool = False) -> World:
    """A world in which everything has gone well until ``until``, or one that is empty then.

    Args:
        runners: the settings of each runner.
        until: microseconds from the world's start.
        cold: whether nobody has said anything before.
    """
    world = World(runners)
    while not cold:
        quiesce(world)
        wakes = [at for p in world.living() if (at := p.wakes_at(world.time)) is not None]
        if min(wakes) >= until:
            break
        world.time = min(wakes)
    world.time = until
    world.events.clear()
    world.back_up()
    return world


def search(
    world: World,
    scope: Scope,
    *,
    depth_first: bool = False,
    most: int | None = None,
    live_every: int = 0,
) -> Found:
    """Visit every state that can be reached from a world.

    Args:
        world: where to start.
        scope: what may happen.
        depth_first: take less memory; the way to a violation is then not the shortest.
        most: stop after so many states.
        live_every: from one state in so many require liveness; 0 for none, 1 for all.

    Raises:
        Violation: with the steps that lead there.
    """
    world.steady = not scope.each.get("step")
    found = Found()
    known, live = {world.state()}, set[int]()
    waiting: deque[tuple[World, _Path]] = deque([(world, (None, None))])
    while waiting:
        here, path = waiting.pop() if depth_first else waiting.popleft()
        found.states += 1
        found.happened.update(witnessed(here))
        if most is not None and found.states > most:
            found.ran_out = True
            break
        if live_every and found.states % live_every == 0:
            _require_life(here, live, path, found)
        for step in list(steps_of(here, scope)):
            after = here.copy()
            found.steps += 1
            try:
                take(after, step, scope)
            except Violation as violation:
                raise Violation(_told(violation, (path, step))) from violation
            found.happened.update(type(event).__name__ for event in after.events)
            state = after.state()
            if state not in known:
                known.add(state)
                after.events = []
                waiting.append((after, (path, step)))
    return found


def _require_life(world: World, live: set[int], path: _Path, found: Found) -> None:
    for healthy in healed(world):
        found.lives += 1
        try:
            must_live(healthy, live)
        except Violation as violation:
            raise Violation(_told(violation, path, "and then no more faults")) from violation


def _told(violation: Violation, path: _Path | None, *more: str) -> str:
    steps: list[str] = []
    while path is not None:
        path, step = path
        if step is not None:
            steps.insert(0, " ".join(map(str, step)))
    return f"{violation}\nafter: {', '.join([*steps, *more])}"
