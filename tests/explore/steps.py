"""What may happen next in a world, and what it does.

A step is a tuple: what happens, and to whom. Faults are counted against a :class:`Scope`, so that
a search ends.

A request is whole unless a fault parts it: ``do`` sends it, has it carried out and delivers the
answer. This leaves no interleaving out. Sending and delivering touch nobody but the process
itself, so that they can be moved next to the moment at which the storage carries the request out.
What cannot be moved is a fault: it may strike before the request is sent, before it is carried out,
and before its answer arrives. So a fault says how far the requests of its process have come:
``suspend 0 ask`` has the process send what it has to ask, and suspends it before the storage knows.
A suspended process's requests are carried out at any time from there, or never. The one thing that
whole requests leave out is that a process's heartbeat and its other request overtake each other:
``fine`` parts everything, so that they do.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations

from explore.invariants import check
from explore.process import GROUP, SERVICE, Process
from explore.transactions import STEPS, steps_of_transactions, take_transaction
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
    *("lose", "drop", "hold", "delay", "fail", "row", "plan", "gate", "restore", "step"),
    *("pause", "resume", "trigger"),
    "hand_over",
)
"""What a scope may allow beside what always happens."""

_MOST_PLACES = 5
_NOT_FAULTS = frozenset({"fail", "restart", "late", "hand_over", "rollback"})


@dataclass(frozen=True, slots=True)
class Scope:
    """What may happen, how often, and when.

    Args:
        instants: when something may happen, in microseconds from the world's start, ascending.
        faults: how many faults there may be, all together.
        each: how often each kind of fault may happen; one that is not named never does.
            ``crash``, ``restart``, ``suspend``, ``stop``, ``replace`` (a new life of a runner
            while its old one is suspended); ``lose`` (an answer), ``drop`` (a request, which may
            be applied late), ``hold`` (a request, its answer, or both are held up for any time),
            ``delay`` (all that is on its way, across an instant), ``fail`` (a function);
            ``hand_over`` (a function has its run completed in a transaction of its own);
            ``row``, ``plan``, ``gate`` (the storage loses one), ``restore`` (its gate is what it
            was in the backup), ``step`` (its clock), ``pause``, ``resume``, ``trigger``.
        clock_steps: by how much the storage's clock may step, in microseconds.
        late: how long a request that was dropped may still be applied, in microseconds.
        fine: split every request into sent, applied and answered, not only those that a fault
            parts.
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
    for index, process in enumerate(world.processes):
        if process is None or process.left:
            if scope.may(world, "restart"):
                yield ("restart", index)
            continue
        if process.suspended:
            yield from _of_suspended(world, scope, index, process)
            continue
        busy = busy or process.is_busy(world.time)
        yield from _of_messages(world, scope, index, process)
        yield from _of_process(world, scope, index, process)
    for index in range(len(world.strays)):
        yield ("late", index)
    yield from steps_of_transactions(world, may_begin=scope.may(world, "hand_over"))
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


def _of_messages(world: World, scope: Scope, index: int, process: Process) -> Iterator[Step]:
    ready = process.ready(world.time)
    parted = scope.fine or scope.may(world, "delay")
    for channel in ready:
        yield ("do", index, channel)
        if parted:
            yield ("send", index, channel)
        yield from _faults_of_message(world, scope, index, channel, answered=False)
    for channel, flight in process.flights.items():
        answered = flight.answer is not None
        if not answered and (parted or flight.held):
            yield ("apply", index, channel)
        if answered:
            yield ("deliver", index, channel)
        elif not flight.held:
            yield ("do", index, channel)
        yield from _faults_of_message(world, scope, index, channel, answered=answered)


def _faults_of_message(
    world: World, scope: Scope, index: int, channel: str, *, answered: bool
) -> Iterator[Step]:
    for fault in ("lose",) if answered else ("lose", "drop", "hold"):
        if scope.may(world, fault):
            yield (fault, index, channel)


def _of_process(world: World, scope: Scope, index: int, process: Process) -> Iterator[Step]:
    if process.serves():
        yield ("complete", index)
        if scope.may(world, "fail"):
            yield ("fail", index)
    for fault in ("crash", "suspend"):
        if scope.may(world, fault):
            for sent in _some_of(process.ready(world.time)):
                yield (fault, index, *sent)
    if scope.may(world, "stop") and not process.machine._state.is_stopping:
        yield ("stop", index)


def _some_of(ready: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every choice of what a process has sent, and the storage does not know of yet."""
    for number in range(len(ready) + 1):
        yield from combinations(ready, number)


def _of_storage(world: World, scope: Scope) -> Iterator[Step]:  # noqa: C901 (a kind each)
    if scope.may(world, "row"):
        for name in world.settings:
            yield ("row", name)
    if scope.may(world, "plan") and world.plan is not None:
        yield ("plan",)
    gate = world.gate
    if gate is not None and not world.is_locked:
        if scope.may(world, "gate"):
            yield ("gate",)
        if scope.may(world, "restore") and world.backup is not None:
            yield ("restore",)
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
    elif what in ("do", "send", "apply", "deliver", "lose", "drop", "hold"):
        index, channel = rest
        assert isinstance(index, int)
        assert isinstance(channel, str)
        _move(world, str(what), world.own(index), channel)
    elif what in _OF_PROCESS:
        index, *sent = rest
        assert isinstance(index, int)
        for channel in sent:
            world.send(world.own(index), str(channel))
        _befall(world, str(what), index)
    elif what in STEPS:
        (index,) = rest
        assert isinstance(index, int)
        if what in ("hand_over", "rollback"):
            spend(world, str(what))
        take_transaction(world, str(what), index)
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
    if what in ("lose", "drop", "hold"):
        spend(world, what)
        process.ill = True
    if what == "hold":
        process.flights[channel] = replace(process.flights[channel], held=True)
    if what == "drop":
        world.give_up(process, channel)
    if what in ("do", "apply", "lose") and process.flights[channel].answer is None:
        world.apply(process, channel)
    if what in ("do", "deliver"):
        world.deliver(process, channel)
    if what == "lose":
        world.give_up(process, channel)


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
        case "restore":
            assert world.backup is not None
            storage.restore(SERVICE, Kind.GATE, world.backup)
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
