"""One interleaving, step by step: the steps of a search's report, taken again."""

from explore.steps import Scope, Step, take
from explore.world import World


def steps_in(text: str) -> list[Step]:
    """The steps that a text lists, separated by commas."""
    words = [part.split() for part in text.split(",") if part.strip()]
    return [tuple(int(w) if w.lstrip("-").isdigit() else w for w in each) for each in words]


def play(world: World, text: str, scope: Scope) -> World:
    """Take the steps that a text lists in a world, and give it back.

    Raises:
        Violation: what may never happen has happened.
    """
    for step in steps_in(text):
        take(world, step, scope)
    return world
