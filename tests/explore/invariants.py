"""What may never happen, checked after every step.

The :class:`Ledger` remembers what the invariants need of the past, from what the storage did, and
never from what a machine says of itself.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from explore.canon import Parts
from turnwise import gate as gates
from turnwise.actions import Swap
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.gate import NO_ATTEMPT, OWNER_DEAD, Execution, Gate, Run
from turnwise.plan import Plan
from turnwise.storages import Kind

if TYPE_CHECKING:
    from explore.process import Process
    from explore.world import World


_MOST_GATES = 200


class Violation(AssertionError):  # noqa: N818 (it says what happened)
    """What may never happen has happened."""


@dataclass(slots=True)
class Ledger:
    """What the invariants remember.

    ``completed`` are the keys that were served, ``attempts`` those that had a turn that failed,
    one entry for each turn; ``slots`` what plans were made, as who may start from when to when,
    with how many attempts; ``used`` who was admitted in which slot; ``ended_well`` the runs whose
    function ended well and that are not closed yet; ``handed`` those that their
    function has handed over to a transaction, and ``landed`` those that one has completed.
    ``forgot`` says that the storage has lost a gate, or brought an old one back, so that only
    liveness is promised. ``gates`` are the versions that gates had, each with what it said: it
    takes no part in a state, as a version that is drawn at random has but one.
    """

    token: int = 0
    completed: frozenset[int] = frozenset()
    attempts: tuple[int, ...] = ()
    slots: frozenset[tuple[str, int, int, int]] = frozenset()
    used: frozenset[tuple[str, str, int, str | None]] = frozenset()
    ended_well: frozenset[str] = frozenset()
    handed: frozenset[str] = frozenset()
    landed: frozenset[str] = frozenset()
    forgot: bool = False
    gates: tuple[tuple[str, Gate], ...] = ()

    def copy(self) -> "Ledger":
        """The same ledger, to be changed."""
        return replace(self)

    def parts(self, at_work: frozenset[str]) -> Parts:
        """The ledger as a part of a state.

        That a run was handed over, and has landed, is held against its turn alone: where no
        process has one any more, nobody asks.

        Args:
            at_work: the runs that some process still has a turn for.
        """
        handed, landed = self.handed & at_work, self.landed & at_work
        plain = (self.token, self.completed, self.attempts, self.slots, self.used, self.forgot)
        sets = [tuple(sorted(each)) for each in (self.ended_well, handed, landed)]
        return (plain, *map(len, sets)), sum(sets, ())

    # What the storage does --------------------------------------------------------------------

    def saw(
        self,
        world: "World",
        before: Gate | None,
        request: Swap,
        *,
        by: tuple[str, str],
    ) -> None:
        """The storage has swapped a record, as a life of a runner asked."""
        if request.kind is Kind.PLAN:
            plan = world.plan
            assert plan is not None
            self._planned(plan)
            return
        after = world.gate
        assert after is not None
        self._versioned(request.new.version, after)
        if self.forgot:
            return
        was, now_open = None if before is None else before.open, after.open
        same = was is not None and now_open is not None and was.run_id == now_open.run_id
        if was is not None and not same:
            self._closed(world, after, was, by)
        if now_open is not None and not same:
            if was is not None:
                raise Violation(f"{now_open.run_id} is admitted while {was.run_id} is open")
            self._opened(world, before, now_open, by)

    def _versioned(self, version: str, gate: Gate) -> None:
        """Whoever knows a version knows what it says, also after a backup was restored."""
        if any(known == version and said != gate for known, said in self.gates):
            raise Violation(f"two gates bear the version {version}")
        self.gates = (*self.gates[-_MOST_GATES:], (version, gate))

    def _planned(self, plan: Plan) -> None:
        for cycle in plan.cycles:
            for position, (name, _) in enumerate(cycle.runners):
                slot = cycle.slot(position)
                self.slots |= {(name, slot.start, slot.end, cycle.rules.attempts)}

    def _opened(  # noqa: C901 (one rule after the other)
        self, world: "World", before: Gate | None, run: Run, by: tuple[str, str]
    ) -> None:
        now = world.now
        if by != (run.runner_id, run.boot_id):
            raise Violation(f"{by} admits a run of {run.runner_id}")
        if run.token <= self.token:
            raise Violation(f"token {run.token} does not grow beyond {self.token}")
        self.token = run.token
        if before is not None and gates.is_paused(before, now):
            raise Violation(f"{run.run_id} starts while paused")
        allowed = next(
            (a for n, s, e, a in self.slots if (n, s, e) == (by[0], run.slot_start, run.slot_end)),
            None,
        )
        if allowed is None:
            raise Violation(f"{by[0]} tries the gate, and no plan gave it this slot")
        if now >= run.slot_end:
            raise Violation(f"{run.run_id} is admitted after its slot")
        if run.key is not None:
            if now >= run.until:
                raise Violation(f"{run.run_id} is admitted after its period")
            if run.key in self.completed:
                raise Violation(f"{run.run_id} is admitted for a period that is served")
            if self.attempts.count(run.key) >= allowed:
                raise Violation(f"{run.run_id} is one attempt too many")
        # One turn that serves a period, and behind it one for each trigger.
        mine = (*by, run.slot_start, run.trigger)
        # Where the storage's clock has stepped back, its slots are there once more.
        if mine in self.used and not world.skew:
            raise Violation(f"{by[0]} starts twice in a slot")
        self.used |= {mine}

    def _closed(self, world: "World", after: Gate, run: Run, by: tuple[str, str]) -> None:
        row = gates.said_of(after, run.run_id)
        if row is None:
            raise Violation(f"{run.run_id} is closed, and nothing is said of it")
        if row.reason == OWNER_DEAD:
            self._buried(world, run)
        elif by != (run.runner_id, run.boot_id):
            raise Violation(f"{by} finishes {run.run_id}, which is not its own")
        self._counted(row, run)
        self.ended_well -= {run.run_id}

    def _counted(self, row: Execution, run: Run) -> None:
        if row.status is Status.COMPLETED:
            if run.run_id not in self.ended_well:
                raise Violation(f"{run.run_id} counts as completed, and did not end well")
            if run.key is not None:
                if run.key in self.completed:
                    raise Violation(f"a period is served twice, by {run.run_id}")
                self.completed |= {run.key}
            return
        if row.reason != OWNER_DEAD and run.run_id in self.ended_well:
            raise Violation(f"{run.run_id} ended well, and is recorded as {row.reason!r}")
        if run.key is not None and row.reason not in NO_ATTEMPT:
            self.attempts = tuple(sorted((*self.attempts, run.key)))

    def _buried(self, world: "World", run: Run) -> None:
        for process in world.living():
            if (process.runner_id, str(process.boot)) != (run.runner_id, run.boot_id):
                continue
            if process.believes(world.time):
                raise Violation(f"{run.run_id} is buried, and its owner believes in it")
            if not process.ill:
                raise Violation(f"{run.run_id} is buried, and its owner is well")

    # What processes do ------------------------------------------------------------------------

    def starts(self, process: "Process", at: int) -> None:
        """A process is about to start its function."""
        turn = process.machine.turn
        assert turn is not None
        if turn.is_lost(at):
            raise Violation(f"{turn.run.run_id} starts although its turn is lost")
        if at >= turn.deadline:
            raise Violation(f"{turn.run.run_id} starts after the end of its slot")


def is_complete(world: "World", process: "Process") -> bool:
    """Whether a transaction of the process's function has completed its run already."""
    turn = process.machine.turn
    return turn is not None and turn.run.run_id in world.ledger.landed


def check(world: "World") -> None:
    """The invariants of every state.

    Raises:
        Violation: one of them does not hold.
    """
    if world.ledger.forgot:
        return
    believers = [p for p in world.living() if p.believes(world.time) and not is_complete(world, p)]
    for process in world.living():
        turn = process.machine.turn
        if turn is None or process.ill or turn.recorded or is_complete(world, process):
            continue
        if turn.lost or (turn.is_at_work and turn.is_lost(world.time)):
            raise Violation(f"{process.runner_id} is well, and loses its turn")
    if not believers:
        return
    if len(believers) > 1:
        raise Violation("two believe: " + ", ".join(p.runner_id for p in believers))
    gate, turn = world.gate, believers[0].machine.turn
    assert turn is not None
    if gate is None or gate.open is None or gate.open.run_id != turn.run.run_id:
        raise Violation(f"{believers[0].runner_id} believes in {turn.run.run_id}, which is closed")
