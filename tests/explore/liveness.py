"""What must happen once faults have ended: the latest period is served, and no run stays open.

A world is *healed*: every suspended process wakes (or, where another one lives, is killed), what
was given up is never carried out (or at once), a pause ends. From there everything goes well: each
message is answered at once, each function completes after a second, and time goes from one wake to
the next. All of it is the shipped code; nothing is left to chance.
"""

from collections.abc import Iterator

from explore.invariants import Violation, check
from explore.process import Process
from explore.steps import command
from explore.transactions import end_transactions
from explore.world import World
from turnwise import gate as gates
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import microseconds
from turnwise.gate import Gate
from turnwise.schedules import Every
from turnwise.settings import Settings

_MOST_MOVES = 400
_TEN_MINUTES = 600_000_000
_ATTEMPTS = 2  # at least what settings here allow: nothing fails once faults have ended


def healed(world: World) -> Iterator[World]:
    """The ways in which the faults of a world may end, with at least one runner alive."""
    if not world.living():
        return
    suspended = [i for i, p in enumerate(world.processes) if p is not None and p.suspended]
    yield _heal(world, wake=True, apply=False)
    if world.strays or world.pending is not None:
        yield _heal(world, wake=True, apply=True)
    if suspended and len(suspended) < len(world.living()):
        yield _heal(world, wake=False, apply=True)


def _heal(world: World, *, wake: bool, apply: bool) -> World:
    healthy = world.copy()
    for index, process in enumerate(healthy.processes):
        if process is None:
            continue
        if process.suspended and not wake:
            healthy.crash(index)
        else:
            healthy.own(index).suspended = False
    strays, healthy.strays = healthy.strays, ()
    if apply:
        for stray in strays:
            healthy.carry_out(stray.runner_id, stray.boot_id, stray.request)
    end_transactions(healthy, apply=apply)
    gate = healthy.gate
    if gate is not None and gate.pause is not None:
        command(healthy, "resume")
    return healthy


def must_live(world: World, known: set[int]) -> int:
    """Run a healed world forward, and require that its periods are served.

    Args:
        world: a healed world, which is changed.
        known: states from which this was seen to hold; those of a run that held are added.

    Returns:
        How many moves it took.

    Raises:
        Violation: a period is not served, or a run stays open.
    """
    period = max(_period(s) for s in world.settings.values())
    keys = [world.now]
    gate = world.gate
    if gate is not None:
        ahead = max(2 * period, _TEN_MINUTES)
        keys += [key for key in (gate.floor, *gate.served) if key <= world.now + ahead]
    # After a clock that stepped back: until the keys from then have passed, nothing is due.
    enough = max(keys) // period * period + 3 * period
    seen: list[int] = []
    moves = 0
    while world.now < enough:
        state = world.state(with_past=False)
        if state in known:
            break
        seen.append(state)
        moves += quiesce(world)
        if not world.living():
            return moves  # the last one was asked to stop, and has left
        on(world)
    else:
        _require(world, period)
    known.update(seen)
    return moves


def _period(settings: Settings) -> int:
    assert isinstance(settings.schedule, Every)
    return microseconds(settings.schedule.interval)


def quiesce(world: World) -> int:
    """Answer all that is on its way, and whatever follows, at this instant."""
    for moves in range(_MOST_MOVES):
        if not any(_move(world, process) for process in world.living()):
            return moves
    raise Violation("requests follow each other for ever at one instant")


def _move(world: World, process: Process) -> bool:
    if process.suspended:
        return False
    if process.serves() and (process.ends_at is None or process.ends_at <= world.time):
        world.end_function(process, Status.COMPLETED)
    for channel in (*process.flights, *process.ready(world.time)):
        if channel not in process.flights:
            world.send(process, channel)
        if channel in process.flights:
            if process.flights[channel].answer is None:
                world.apply(process, channel)
            world.deliver(process, channel)
        check(world)
        return True
    return False


def on(world: World, until: int | None = None) -> bool:
    """Let time go on to the next wake, or ``until``; False where that has come."""
    wakes = [at for p in world.living() if (at := p.wakes_at(world.time)) is not None]
    if not wakes:
        raise Violation("nobody will ever do anything again")
    world.time = min(wakes)
    if until is None or world.time < until:
        return True
    world.time = until
    return False


def _require(world: World, period: int) -> None:
    gate, now = world.gate, world.now
    if gate is None:
        raise Violation("no gate is made")
    if gate.open is not None and now - gate.open.started_at > period:
        raise Violation(f"{gate.open.run_id} stays open for ever")
    # With a lone start for which it took the whole period, the one before it is the latest.
    last = now // period * period - period
    for due in (last - period, last):
        if not is_over(gate, due, now, period):
            raise Violation(f"the period due at {due} is not served: {gate}")
    for process in world.living():
        turn = process.machine.turn
        if turn is None or turn.is_at_work or turn.recorded or turn.ended_at is None:
            continue
        if world.time - turn.ended_at > period:
            raise Violation(f"the end of {turn.run.run_id} is never recorded")


def is_over(gate: Gate, due: int, now: int, period: int) -> bool:
    """Whether a period is served, or its attempts are used up: not by the rules that are tested."""
    ahead = max(2 * period, _TEN_MINUTES)
    served = due in gate.served or due <= gate.floor <= now + ahead
    return served or gates.attempts_at(gate, due) >= _ATTEMPTS
