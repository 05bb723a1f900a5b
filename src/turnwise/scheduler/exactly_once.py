"""A run that is completed, or fenced, in a transaction of its job's own.

The rules are the gate's, and the storage knows how to take part in somebody's transaction. What is
left is to bring the two together, and to tell the machine, before anything else, that only the
database knows from here on. A function may swallow whatever is raised here, roll back, and return.
"""

from collections.abc import Callable
from dataclasses import dataclass

from turnwise import gate as gates
from turnwise.actions import HandedOver
from turnwise.errors import TurnLostError
from turnwise.gate import Gate, NotOpen, Run
from turnwise.machine import owner_of
from turnwise.names import random_name
from turnwise.storages import Locked, Record, Storage, Transaction
from turnwise.texts import gate_from_text, gate_to_text


@dataclass(frozen=True, slots=True)
class ExactlyOnce:
    """What :meth:`turnwise.turn.Turn.complete` and :meth:`turnwise.turn.Turn.fence` do for a run.

    Args:
        storage: where the gate is kept; None before it was opened.
        group: the group's name.
        service: the service's name.
        run: the run that is open.
        why_lost: says why the turn is not surely its runner's any more; None while it is.
        idle: how long the transaction may idle from now on, in microseconds.
        kept: the ids of the gate's rows that the history is known to have.
        tell: tells the run's machine.
    """

    storage: Storage | None
    group: str
    service: str
    run: Run
    why_lost: Callable[[], str | None]
    idle: Callable[[], int]
    kept: Callable[[], frozenset[str]]
    tell: Callable[[HandedOver], None]

    def complete(self, connection: object) -> None:
        """Close the run as COMPLETED, by what the transaction commits."""
        self.tell(HandedOver(self.run.run_id))
        transaction = self._join(connection)
        locked = transaction.lock(self.group, self.service)
        completed = self._require_open(
            gates.complete(_gate_of(locked), self.run.run_id, now=locked.now)
        )
        kept = gates.without(completed, self.kept())
        new = Record(random_name(), gate_to_text(kept), owner_of(kept))
        transaction.replace(locked, new)

    def fence(self, connection: object) -> None:
        """Keep the run open until the transaction ends."""
        transaction = self._join(connection)
        locked = transaction.lock(self.group, self.service)
        self._require_open(gates.fence(_gate_of(locked), self.run.run_id))
        transaction.write(locked)

    def _join(self, connection: object) -> Transaction:
        why = self.why_lost()
        if why is not None:
            raise TurnLostError(f"{self.service}, run {self.run.run_id}: {why}")
        join = getattr(self.storage, "join", None)
        if join is None:
            raise ValueError(
                "connection must be to the storage's own database, and the storage "
                f"{self.storage!r} is none: take SQLite, PostgreSQL or MariaDB"
            )
        transaction: Transaction = join(connection, idle=max(1, self.idle()))
        return transaction

    def _require_open(self, gate: Gate | NotOpen) -> Gate:
        if isinstance(gate, Gate):
            return gate
        became = gate.closed_as
        why = "is closed" if became is None else f"was closed as {became.status} {became.reason}"
        raise TurnLostError(f"{self.service}, run {self.run.run_id}: the run {why.strip()}")


def _gate_of(locked: Locked) -> Gate:
    """The gate; where there is none, it is one in which nothing is open."""
    return gates.new_gate(locked.now) if locked.gate is None else gate_from_text(locked.gate.body)
