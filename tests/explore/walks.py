"""Random walks: three runners, faults that come in spells, and calm in which all must come right.

A walk takes one step after another, chosen at random by a seed. Time goes from one wake to the
next, or to a random instant before it. From time to time all faults end, and liveness is required
(on a copy); then the walk goes on from where it was.
"""

import random
from dataclasses import dataclass

from explore.invariants import Violation
from explore.liveness import healed, must_live
from explore.search import Found, prepared
from explore.steps import KINDS, Scope, Step, pass_time, spend, steps_of, take
from explore.world import SECOND, World
from turnwise.settings import Settings

ALL_FAULTS = tuple(kind for kind in KINDS if kind not in ("gate", "restore"))
"""Every fault after which safety is promised."""

_EVERYTHING = 1_000_000_000
_WEIGHTS = {
    "do": 30.0,
    "send": 6.0,
    "apply": 6.0,
    "deliver": 20.0,
    "complete": 1.0,
    "fail": 0.4,
    "wake": 1.0,
    "restart": 1.0,
    "late": 1.0,
    "time": 20.0,
}
_FAULT = 0.05
_OF_A_MESSAGE = 1.0  # losing an answer, or a request, on its way


@dataclass(frozen=True, slots=True)
class Walk:
    """How to walk.

    Args:
        runners: the settings of each runner.
        faults: which kinds of faults there may be.
        clock_steps: by how much the storage's clock may step.
        calm: require liveness once in so many steps.
        restart_every: begin a new world after so many steps.
    """

    runners: dict[str, Settings]
    faults: tuple[str, ...]
    clock_steps: tuple[int, ...] = ()
    calm: int = 2_000
    restart_every: int = 20_000

    def scope(self) -> Scope:
        """What may happen."""
        each = dict.fromkeys((*self.faults, "fail", "restart"), _EVERYTHING)
        return Scope((), _EVERYTHING, each, self.clock_steps, late=10 * SECOND, fine=True)


def walk(how: Walk, *, steps: int, seed: int) -> Found:
    """Walk at random.

    Args:
        how: with whom, and what may go wrong.
        steps: how many steps.
        seed: the same seed takes the same steps.

    Raises:
        Violation: with the seed, the step's number and the steps just before it.
    """
    chance, scope, found = random.Random(seed), how.scope(), Found()  # noqa: S311 (no secret)
    trail: list[Step] = []
    world = prepared(how.runners, until=24 * SECOND)
    quiet_until = 0
    while found.steps < steps:
        found.steps += 1
        if found.steps % how.restart_every == 0:
            found.states += 1
            world, trail = prepared(how.runners, until=24 * SECOND), []
        if chance.random() < 0.001:  # spells of calm, so that faults meet a world at work
            quiet_until = found.steps + chance.randrange(300)
        calm = found.steps < quiet_until
        step = _choose(world, scope, chance, calm=calm)
        trail.append(step)
        del trail[:-150]
        try:
            _take(world, step, scope)
            if found.steps % how.calm == 0:
                for healthy in healed(world):
                    found.lives += 1
                    must_live(healthy, set())
        except Violation as violation:
            last = ", ".join(" ".join(map(str, each)) for each in trail)
            raise Violation(f"{violation}\nseed {seed}, step {found.steps}: {last}") from violation
        world.forget_the_past()
        if found.steps % 64 == 0:
            found.happened.update(type(event).__name__ for event in world.events)
            world.events.clear()
    return found


def _choose(world: World, scope: Scope, chance: random.Random, *, calm: bool) -> Step:
    steps = [*steps_of(world, scope), *_times(world, chance, calm=calm)]
    if calm:
        steps = [step for step in steps if step[0] in _WEIGHTS] or steps
    weights = [_weight(step) for step in steps]
    return chance.choices(steps, weights)[0]


def _weight(step: Step) -> float:
    usual = _OF_A_MESSAGE if step[0] in ("lose", "drop") else _FAULT
    return _WEIGHTS.get(str(step[0]), usual)


def _times(world: World, chance: random.Random, *, calm: bool) -> list[Step]:
    """That time goes on to the next wake, or to some instant until then; or that it is delayed."""
    awake = [p for p in world.living() if not p.suspended]
    busy = any(p.is_busy(world.time) for p in awake)
    if busy and (calm or chance.random() < 0.97):
        return []
    wakes = [at for p in awake if (at := p.wakes_at(world.time)) is not None]
    soonest = min(wakes, default=world.time + SECOND)
    if busy:
        soonest = world.time + chance.choice((1_000, 100_000, 400_000, 1_000_000, 3_000_000))
    after = max(soonest, world.time + 1)
    if not busy and chance.random() < 0.1:
        after = chance.randint(world.time + 1, after)
    return [("time", "to", after, int(busy))]


def _take(world: World, step: Step, scope: Scope) -> None:
    if step[:2] != ("time", "to"):
        take(world, step, scope)
        return
    _, _, after, busy = step
    assert isinstance(after, int)
    if busy:
        for index, process in enumerate(world.processes):
            if process is None or process.left or process.suspended:
                continue
            wake = process.wakes_at(world.time)
            late = wake is not None and wake < after
            if late or process.is_busy(world.time):
                world.own(index).ill = True
        spend(world, "delay")
    pass_time(world, after, scope.late)
