"""One interleaving, step by step: the steps of a search's report, taken again.

A text lists steps, separated by commas: ``do 0 ask``, ``suspend 1``, ``time`` (to the next
instant), ``step -3000000``. Where somebody's name is followed by ``all``, all that this process has
to do is done (``all 0``); ``calm 30`` lets everything go well for so many seconds.
"""

from explore.liveness import healed, must_live, on, quiesce
from explore.steps import Scope, Step, take
from explore.world import SECOND, World


def steps_in(text: str) -> list[Step]:
    """The steps that a text lists."""
    words = [part.split() for part in text.split(",") if part.strip()]
    return [tuple(int(w) if w.lstrip("-").isdigit() else w for w in each) for each in words]


def play(world: World, text: str, scope: Scope) -> World:
    """Take the steps that a text lists in a world, and give it back.

    Raises:
        Violation: what may never happen has happened.
    """
    for step in steps_in(text):
        if step[0] == "all":
            _do_all(world, int(step[1]), scope)
        elif step[0] == "calm":
            calmly(world, world.time + int(step[1]) * SECOND)
        else:
            take(world, step, scope)
    return world


def _do_all(world: World, index: int, scope: Scope) -> None:
    process = world.own(index)
    while channels := (*process.flights, *process.ready(world.time)):
        take(world, ("do", index, channels[0]), scope)
        process = world.own(index)


def calmly(world: World, until: int) -> None:
    """Let everything go well until a time."""
    for index, process in enumerate(world.processes):
        if process is not None:
            world.own(index)
    while True:
        quiesce(world)
        if not on(world, until):
            return


def lives(world: World) -> World:
    """Require that all comes right from here without further faults; give the last world back.

    Raises:
        Violation: it does not.
    """
    healthy = world
    for healthy in healed(world):
        must_live(healthy, set())
    return healthy
