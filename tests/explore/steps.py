"""What may happen next in a world, and what it does.

A step is a tuple: what happens, and to whom. Faults are counted against a :class:`Scope`, so that
a search ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from explore.invariants import check
from explore.process import GROUP, SERVICE, Process
from explore.world import World
from turnwise import gate as gates
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.gate import Gate
from turnwise.machine import owner_of
from turnwise.storages import Kind, Record
from turnwise.texts import gate_to_text

Step = tuple[str | int, ...]

KINDS = (
    *("crash", "restart", "suspend", "stop", "replace"),
    *("lose", "drop", "delay", "fail", "row", "plan", "gate", "step"),
    *("pause", "resume", "trigger"),
)
"""What a scope may allow beside what always happens."""

_MOST_PLACES = 5
_NOT_FAULTS = frozenset({"fail", "restart", "late"})


@dataclass(frozen=True, slots=True)
class Scope:
    """What may happen, how often, and when.

    Args:
        instants: when something may happen, in microseconds from the world's start, ascending.
        faults: how many faults there may be, all together.
        each: how often each kind of fault may happen; one that is not named never does.
            ``crash``, ``restart``, ``suspend``, ``stop``, ``replace`` (a new life of a runner
            while its old one is suspended); ``lose`` (an answer), ``drop`` (a request, which may
            be applied late), ``delay`` (a message across an instant), ``fail`` (a function);
            ``row``, ``plan``, ``gate`` (the storage loses one), ``step`` (its clock), ``pause``,
            ``resume``, ``trigger``.
        clock_steps: by how much the storage's clock may step, in microseconds.
        late: how long a request that was dropped may still be applied, in microseconds.
        fine: split every request into sent, applied and answered, not only those that a fault
            may part.
        longest: how long a function may take at most, in microseconds; None for ever.
    """

    instants: tuple[int, ...]
    faults: int = 0
    each: dict[str, int] = field(default_factory=dict)
    clock_steps: tuple[int, ...] = ()
    late: int = 4_000_000
    fine: bool = False
    longest: int | None = None

    def may(self, world: World, fault: str) -> bool:
        """Whether one more fault of this kind may happen."""
        spent = dict(world.spent)
        if spent.get(fault, 0) >= self.each.get(fault, 0):
            return False
        if fault in _NOT_FAULTS:
            return True
        return sum(n for name, n in spent.items() if name not in _NOT_FAULTS) < self.faults

    def next_instant(self, time: int) -> int | None:
        """The next instant at which something may happen."""
        return next((at for at in self.instants if at > time), None)


def steps_of(world: World, scope: Scope) -> Iterator[Step]:
    """All that may happen next."""
    busy = False
    parts = scope.fine or any(
        scope.may(world, fault) for fault in ("lose", "drop", "delay", "suspend", "crash")
    )
    for index, process in enumerate(world.processes):
        if process is None or process.left:
            if scope.may(world, "restart"):
                yield ("restart", index)
            continue
        if process.suspended:
            yield from _of_suspended(world, scope, index, process)
            continue
        ready = process.ready(world.time)
        busy = busy or bool(ready or process.flights)
        yield from _of_messages(world, scope, index, process, ready, parts=parts)
        yield from _of_process(world, scope, index, process)
    for index in range(len(world.strays)):
        yield ("late", index)
    yield from _of_storage(world, scope)
    if scope.next_instant(world.time) is not None:
        if not busy and not _must_end(world, scope):
            yield ("time",)
        elif busy and scope.may(world, "delay"):
            yield ("time", "delay")


def _must_end(world: World, scope: Scope) -> bool:
    """Whether a function has taken as long as it may."""
    return scope.longest is not None and any(
        process.serves()
        and not process.suspended
        and process.machine.turn is not None
        and process.machine.turn.began_at is not None
        and world.time >= process.machine.turn.began_at + scope.longest
        for process in world.living()
    )


def _of_suspended(world: World, scope: Scope, index: int, process: Process) -> Iterator[Step]:
    yield ("wake", index)
    for channel, flight in process.flights.items():
        if flight.answer is None:
            yield ("apply", index, channel)
    if scope.may(world, "crash"):
        yield ("crash", index)
    if len(world.places) < _MOST_PLACES and scope.may(world, "replace"):
        yield ("replace", index)


def _of_messages(
    world: World, scope: Scope, index: int, process: Process, ready: tuple[str, ...], *, parts: bool
) -> Iterator[Step]:
    for channel in ready:
        yield ("do", index, channel)
        if parts:
            yield ("send", index, channel)
    for channel, flight in process.flights.items():
        if flight.answer is None:
            yield ("do", index, channel)
            if parts:
                yield ("apply", index, channel)
            if scope.may(world, "drop"):
                yield ("drop", index, channel)
        else:
            yield ("deliver", index, channel)
            if scope.may(world, "lose"):
                yield ("lose", index, channel)


def _of_process(world: World, scope: Scope, index: int, process: Process) -> Iterator[Step]:
    if process.serves():
        yield ("complete", index)
        if scope.may(world, "fail"):
            yield ("fail", index)
    for fault in ("crash", "suspend"):
        if scope.may(world, fault):
            yield (fault, index)
    if scope.may(world, "stop") and not process.machine._state.is_stopping:
        yield ("stop", index)


def _of_storage(world: World, scope: Scope) -> Iterator[Step]:  # noqa: C901 (a kind each)
    if scope.may(world, "row"):
        for name in world.settings:
            yield ("row", name)
    if scope.may(world, "plan") and world.plan is not None:
        yield ("plan",)
    gate = world.gate
    if gate is not None:
        if scope.may(world, "gate"):
            yield ("gate",)
        if scope.may(world, "pause") and gate.pause is None:
            yield ("pause",)
        if scope.may(world, "resume") and gate.pause is not None:
            yield ("resume",)
        if scope.may(world, "trigger") and gate.trigger is None:
            yield ("trigger",)
    if scope.may(world, "step"):
        for by in scope.clock_steps:
            yield ("step", by)


def take(world: World, step: Step, scope: Scope) -> None:
    """Let a step happen, and check the invariants.

    Raises:
        Violation: what may never happen has happened.
    """
    what, *rest = step
    if what == "time":
        _let_time_pass(world, scope, delayed=bool(rest))
    elif what in ("do", "send", "apply", "deliver", "lose", "drop"):
        index, channel = rest
        assert isinstance(index, int)
        assert isinstance(channel, str)
        _move(world, str(what), world.own(index), channel)
    elif what in _OF_PROCESS:
        (index,) = rest
        assert isinstance(index, int)
        _befall(world, str(what), index)
    elif what == "late":
        (index,) = rest
        assert isinstance(index, int)
        stray = world.strays[index]
        world.strays = world.strays[:index] + world.strays[index + 1 :]
        world.carry_out(stray.runner_id, stray.boot_id, stray.request)
    else:
        spend(world, str(what))
        _of_the_storage(world, str(what), rest)
    check(world)


def spend(world: World, fault: str) -> None:
    """Count a fault."""
    spent = dict(world.spent)
    spent[fault] = spent.get(fault, 0) + 1
    world.spent = tuple(sorted(spent.items()))


def _let_time_pass(world: World, scope: Scope, *, delayed: bool) -> None:
    if delayed:
        spend(world, "delay")
        for index, process in enumerate(world.processes):
            if process is None or process.left or process.suspended or process.ill:
                continue
            if process.flights or process.ready(world.time):
                world.own(index).ill = True
    after = scope.next_instant(world.time)
    assert after is not None
    pass_time(world, after, scope.late)


def pass_time(world: World, after: int, late: int) -> None:
    """Let time go on; requests that were given up long ago are lost for good."""
    world.time = after
    world.strays = tuple(stray for stray in world.strays if after - stray.since <= late)


def _move(world: World, what: str, process: Process, channel: str) -> None:
    """Something happens to a message."""
    if channel not in process.flights:
        world.send(process, channel)
        if what == "send" or channel not in process.flights:
            return
    if what in ("lose", "drop"):
        spend(world, what)
        process.ill = True
        world.give_up(process, channel)
        return
    if what in ("do", "apply") and process.flights[channel].answer is None:
        world.apply(process, channel)
    if what in ("do", "deliver"):
        world.deliver(process, channel)


_OF_PROCESS = frozenset(
    {"complete", "fail", "crash", "restart", "suspend", "wake", "stop", "replace"}
)


def _befall(world: World, what: str, index: int) -> None:
    """Something happens to a process."""
    if what not in ("complete", "wake"):
        spend(world, what)
    if what == "restart":
        world.start(index, world.places[index])
        return
    process = world.own(index)
    match what:
        case "complete":
            world.end_function(process, Status.COMPLETED)
        case "fail":
            world.end_function(process, Status.ABANDONED, "exit:1")
        case "crash":
            world.crash(index)
        case "suspend":
            process.suspended = process.ill = True
        case "wake":
            process.suspended = False
        case "stop":
            world.stop(process)
        case "replace":
            world.start(len(world.places), process.runner_id)


def _of_the_storage(world: World, what: str, rest: list[str | int]) -> None:
    """Something happens to the storage, or an operator gives a command."""
    storage = world.own_storage()
    match what:
        case "row":
            storage.forget_runner(GROUP, str(rest[0]))
            for index, process in enumerate(world.processes):
                # Once does not harm a runner that is well; again and again does.
                if process is not None and process.runner_id == rest[0]:
                    world.own(index).ill |= dict(world.spent)["row"] > 1
        case "plan":
            storage.lose(SERVICE, Kind.PLAN)
        case "gate":
            storage.lose(SERVICE, Kind.GATE)
            world.own_ledger().forgot = True
        case "step":
            by = rest[0]
            assert isinstance(by, int)
            world.skew += by
        case _:
            command(world, what)


def command(world: World, what: str) -> None:
    """An operator pauses, resumes or triggers the service."""
    now, storage = world.now, world.own_storage()
    record = storage.read(GROUP, (SERVICE,)).services[SERVICE].gate
    gate = world.gate
    assert gate is not None
    assert record is not None
    world.commands += 1
    name = f"<operator.0.{world.commands}>"
    change = {"pause": gates.pause, "resume": gates.resume, "trigger": gates.trigger}[what]
    after: Gate = change(gate, id=name, now=now, by="operator", reason="")
    new = Record(f"<command.0.{world.commands}>", gate_to_text(after), owner_of(after))
    storage.swap(GROUP, SERVICE, Kind.GATE, record.version, new)
    storage.advance(GROUP)
