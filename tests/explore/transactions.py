"""A function that has its run completed in a transaction of its own, and what may become of that.

The gate is locked from ``hand_over`` to the end of the transaction: a swap is told *busy*. The
commit leaves (``commit``), and the database carries it out at any time from there (``land``), or
never does (``vanish``): whether its process waits for the answer, is suspended, has crashed, or has
been told that the connection is lost. A transaction whose commit has not left can be rolled back
(``rollback``), or be ended by the server (``vanish``).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from explore.invariants import Violation
from explore.process import GROUP, SERVICE, Process
from turnwise import gate as gates
from turnwise.actions import HandedOver, Swap
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.events import Event, TurnEnded
from turnwise.gate import Gate
from turnwise.machine import TurnState, owner_of
from turnwise.storages import Kind, Record
from turnwise.texts import gate_to_text

if TYPE_CHECKING:
    from explore.world import World

STEPS = ("hand_over", "commit", "rollback", "land", "vanish")


@dataclass(frozen=True, slots=True)
class Pending:
    """A transaction that has the gate locked, and what it will put in the gate's place.

    ``sent`` says that its commit has left.
    """

    runner_id: str
    boot_id: str
    run_id: str
    expected: str
    new: Record
    sent: bool = False

    def is_of(self, process: Process) -> bool:
        """Whether it is of a life of a runner."""
        return (self.runner_id, self.boot_id) == (process.runner_id, str(process.boot))


def steps_of_transactions(world: "World", *, may_begin: bool) -> Iterator[tuple[str | int, ...]]:
    """What may happen to the transaction that there is, or who may begin one."""
    pending = world.pending
    if pending is not None:
        yield ("vanish", 0)
        if pending.sent:
            yield ("land", 0)
    for index, process in enumerate(world.processes):
        if process is None or process.left or process.suspended or not process.serves():
            continue
        if pending is None and may_begin and _may_hand_over(world, process):
            yield ("hand_over", index)
        elif pending is not None and pending.is_of(process) and not pending.sent:
            yield ("commit", index)
            yield ("rollback", index)


def _may_hand_over(world: "World", process: Process) -> bool:
    """Whether ``complete`` was not called yet."""
    turn = process.machine.turn
    return turn is not None and turn.run.run_id not in world.ledger.handed


def take_transaction(world: "World", what: str, index: int) -> None:
    """Let one of :data:`STEPS` happen."""
    if what == "hand_over":
        _hand_over(world, world.own(index))
        return
    pending = world.pending
    assert pending is not None
    if what == "commit":
        world.pending = replace(pending, sent=True)
        return
    world.pending = None
    if what == "land":
        _land(world, pending)


def end_transactions(world: "World", *, apply: bool) -> None:
    """No fault is left: what was sent arrives, or is known not to."""
    pending, world.pending = world.pending, None
    if pending is not None and pending.sent and apply:
        _land(world, pending)


def _hand_over(world: "World", process: Process) -> None:
    """Call ``complete``, which raises where the turn is lost or its run is closed."""
    turn, gate, record = process.machine.turn, world.gate, world.gate_record
    assert turn is not None
    world.own_ledger().handed |= {turn.run.run_id}
    world.tell(process, HandedOver(turn.run.run_id))
    if turn.is_lost(world.time) or gate is None or record is None:
        return
    completed = gates.complete(gate, turn.run.run_id, now=world.now)
    if not isinstance(completed, Gate):
        return
    version = f"<transaction.{len(world.ledger.handed)}.{world.time}>"
    new = Record(version, gate_to_text(completed), owner_of(completed))
    world.pending = Pending(
        process.runner_id, str(process.boot), turn.run.run_id, record.version, new
    )


def _land(world: "World", pending: Pending) -> None:
    """The database commits: what the function wrote is there, and the gate is replaced."""
    before, record = world.gate, world.gate_record
    storage, ledger = world.own_storage(), world.own_ledger()
    ledger.ended_well |= {pending.run_id}
    ledger.landed |= {pending.run_id}
    expected = pending.expected
    if not world.locks and record is not None:
        expected = record.version  # a database that locks nothing writes whatever is there
    swap = Swap(Kind.GATE, expected, pending.new)
    if not storage.swap(GROUP, SERVICE, Kind.GATE, expected, pending.new).done:
        raise Violation(f"the gate has changed while {pending.run_id} had it locked")
    ledger.saw(world, before, swap, by=(pending.runner_id, pending.boot_id))


def witnessed(world: "World") -> Iterator[str]:
    """What a search about suspended owners must have come across, or it has shown nothing.

    ``Succeeded``: somebody serves while an owner is suspended whose function has begun its
    transaction. ``Woken``: both run, as the owner has woken.
    """
    serving = [process for process in world.living() if process.serves()]
    if len(serving) > 1:
        for process in serving:
            if process.machine.turn is not None and process.machine.turn.handed_over:
                yield "Succeeded" if process.suspended else "Woken"


def check_what_is_told(world: "World", turn: TurnState | None, events: list[Event]) -> None:
    """Only the database says whether a run that was handed over was completed."""
    if turn is None or turn.run.run_id not in world.ledger.handed or world.ledger.forgot:
        return
    landed = turn.run.run_id in world.ledger.landed
    for event in events:
        if isinstance(event, TurnEnded) and event.recorded:
            completed = event.status is Status.COMPLETED
            if completed and not landed:
                raise Violation(f"{event.run_id} is told as completed, and was not committed")
            if landed and not completed:
                raise Violation(f"{event.run_id} is told as failed, and was committed")
