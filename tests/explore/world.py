"""A world: processes that drive the shipped machines, a storage in memory, and what is on its way.

Rules
-----
1. A process holds a :class:`~turnwise.machine.Machine` and a
   :class:`~turnwise.heartbeat.Heartbeat` as they ship. Only ``next``, ``receive`` and ``beat`` are
   called; no field of theirs is set.
2. A request is *sent* (the machine has given it), *applied* (the storage has carried it out) and
   *answered* (the machine was told). Each may be a step of its own. One that was given up is told
   as :class:`~turnwise.actions.Failed`, and may be applied later, or never.
3. ``time`` is the clock that does not step, in microseconds; all processes share it. The storage's
   clock stands ``skew`` beside it.
4. A world can be copied, and the copy goes its own way.
"""

from dataclasses import dataclass
from typing import Final

from explore.canon import Parts, beat_name, canonical, joined, revision
from explore.invariants import Ledger, Violation
from explore.process import GROUP, SERVICE, Flight, Process
from explore.transactions import Pending, check_what_is_told
from turnwise.actions import (
    Answer,
    Begun,
    Elapsed,
    Failed,
    FindStable,
    Finished,
    FunctionEnded,
    Heard,
    ListOffers,
    Look,
    Request,
    Serve,
    StopRequested,
    Swap,
)
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import microseconds
from turnwise.drive import carry_out
from turnwise.events import Event
from turnwise.gate import Gate
from turnwise.plan import Plan
from turnwise.settings import Settings
from turnwise.storages import Beat, Kind, Pulse, Record, ServiceReading, Sight, Swapped
from turnwise.storages.memory import MemoryStorage
from turnwise.storages.memory_group import GroupState, Life, LifeKey
from turnwise.texts import gate_from_text, plan_from_text

SECOND: Final = 1_000_000
ORIGIN: Final = 1_772_323_200 * SECOND
"""The storage's now at time 0: a multiple of every period that is used here."""

_MOST_MOVES = 100
_MANY: Final = 300
_LONG: Final = 900 * SECOND
_ONLY_READS = (Look, FindStable, ListOffers)


class Lossy(MemoryStorage):
    """The shipped storage, and one that can forget, or bring back, what it acknowledged."""

    def lose(self, service: str, kind: Kind) -> None:
        """Forget a record."""
        self._write(GROUP).put(service, kind, None)

    def restore(self, service: str, kind: Kind, record: Record) -> None:
        """Put a record from a backup in the place of what is there."""
        self._write(GROUP).put(service, kind, record)


@dataclass(slots=True)
class Clock:
    """The storage's clock; the worlds of one search share it, and set it before each operation."""

    now: int = ORIGIN

    def __call__(self) -> int:
        """The storage's now."""
        return self.now


@dataclass(frozen=True, slots=True)
class Stray:
    """A request that its process gave up at ``since``, and that may still be carried out."""

    runner_id: str
    boot_id: str
    request: Request | Beat
    since: int


class World:
    """All that there is at one instant. See the module.

    Args:
        runners: the settings of each runner, by its id.
    """

    def __init__(self, runners: dict[str, Settings]) -> None:
        self.clock = Clock()
        self.time = 0
        self.skew = 0
        self.storage = Lossy(clock=self.clock)
        self.processes: list[Process | None] = [
            Process.start(name, 0, settings) for name, settings in runners.items()
        ]
        self.places = tuple(runners)
        self.boots = dict.fromkeys(runners, 1)
        self.settings = runners
        self.strays: tuple[Stray, ...] = ()
        self.ledger = Ledger()
        self.spent: tuple[tuple[str, int], ...] = ()
        self.commands = 0
        self.backup: Record | None = None
        self.events: list[Event] = []
        self.pending: Pending | None = None
        self.locks = True  # whether its database does
        self.steady = False  # whether the storage's clock never steps
        self._longest_timeout = max(microseconds(s.heartbeat_timeout) for s in runners.values())
        self._storage_is_shared = False
        self._kept: tuple[int, Parts] | None = None
        self._sight: Sight | None = None

    def copy(self) -> "World":
        """The same world, which goes its own way from here.

        Processes and storage are shared until one of the two changes them: :meth:`own`.
        """
        other = object.__new__(World)
        other.__dict__.update(self.__dict__)
        other.processes = list(self.processes)
        other.events = []
        other._storage_is_shared = self._storage_is_shared = True
        return other

    def own(self, index: int) -> Process:
        """A process that is about to be changed, and that no other world shares from here.

        Raises:
            LookupError: none is there.
        """
        process = self.processes[index]
        if process is None:
            raise LookupError(f"no process runs at {index}")
        self.processes[index] = process = process.copy()
        process.touch()
        return process

    def own_storage(self) -> Lossy:
        """The storage, which is about to be changed, and which no other world shares from here."""
        if self._storage_is_shared:
            self.storage, self._storage_is_shared = self.storage.copy(), False
        self._kept = None
        self.clock.now = self.now
        return self.storage

    def own_ledger(self) -> Ledger:
        """The ledger, which is about to be changed, and which no other world shares from here."""
        self.ledger = self.ledger.copy()
        return self.ledger

    def state(self, *, with_past: bool = True) -> int:
        """The state as a number: equal for two worlds with the same future.

        Args:
            with_past: whether what the invariants remember, and what faults were spent, counts.
        """
        parts = [None if p is None else p.parts(self.time) for p in self.processes]
        if self._kept is None or self._kept[0] != self.now:
            self._kept = (self.now, joined([self._what_is_kept(g) for g in self.storage.state()]))
            self._sight = self._reading().sight
        late, sight = bool(self.strays), self._sight
        parts += [p.sighting(sight, self.time, late=late) for p in self.processes if p is not None]
        parts.append(self._kept[1])
        parts.append(((self.time, self.skew), ()))
        if late or any(p is not None and p.boot for p in self.processes):
            parts.append((self._counts(), ()))
        if self.strays:
            parts.append(joined(self.strays))
        if self.pending is not None:
            parts.append(joined([self.pending]))
        if with_past:
            parts.append(self.ledger.parts(self.at_work()))
            parts.append((self.spent, ()))
        return canonical(parts)

    def forget_the_past(self) -> None:
        """Forget what can play no part any more, so that a long walk does not slow down."""
        ledger, long_ago = self.ledger, self.now - _LONG
        if len(ledger.slots) + len(ledger.used) + len(ledger.completed) > _MANY:
            ledger = self.own_ledger()
            ledger.slots = frozenset(slot for slot in ledger.slots if slot[2] > long_ago)
            ledger.used = frozenset(used for used in ledger.used if used[2] > long_ago)
            ledger.completed = frozenset(key for key in ledger.completed if key > long_ago)
            ledger.attempts = tuple(key for key in ledger.attempts if key > long_ago)
            self.own_storage().purge(GROUP, SERVICE, before=long_ago, keep=100)

    # What is kept -----------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """The storage's now."""
        return ORIGIN + self.time + self.skew

    @property
    def gate(self) -> Gate | None:
        """The gate, as it is kept."""
        record = self._reading().gate
        return None if record is None else gate_from_text(record.body)

    @property
    def plan(self) -> Plan | None:
        """The plan, as it is kept."""
        record = self._reading().plan
        return None if record is None else plan_from_text(record.body)

    @property
    def gate_record(self) -> Record | None:
        """The gate's record."""
        return self._reading().gate

    def back_up(self) -> None:
        """Keep the gate as it is now, so that it can be restored."""
        self.backup = self._reading().gate

    def _reading(self) -> ServiceReading:
        self.clock.now = self.now
        return self.storage.read(GROUP, (SERVICE,)).services[SERVICE]

    @property
    def is_locked(self) -> bool:
        """Whether a transaction has the gate locked."""
        return self.locks and self.pending is not None

    # What processes do ------------------------------------------------------------------------

    def living(self) -> list[Process]:
        """The processes that run, or are suspended."""
        return [p for p in self.processes if p is not None and not p.left]

    def send(self, process: Process, channel: str) -> None:
        """Let a process send what it has to send, or start what it has to start."""
        process.touch()
        if channel == "beat":
            beat = process.heartbeat.beat(self.time, process.machine.runs)
            process.flights["beat"] = Flight(beat)
            return
        for _ in range(_MOST_MOVES):
            if process.finished:
                self._leave(process)
                return
            action = process.machine.next(self.time)
            if isinstance(action, Request):
                process.flights["ask"] = Flight(action)
                return
            if isinstance(action, Serve):
                self.ledger.starts(process, self.time)
                self.tell(process, Begun())
                process.ends_at = self.time + SECOND
            elif isinstance(action, Finished):
                process.finished = True
            elif action.until is not None and action.until <= self.time:
                self.tell(process, Elapsed())
            else:
                return
        raise Violation(f"{process.runner_id} does something for ever without a request")

    def _leave(self, process: Process) -> None:
        """The scheduler's part at the end: leave, once the machine has finished."""
        self.own_storage().leave(GROUP, process.runner_id, str(process.boot))
        process.left = True
        process.flights.clear()

    def apply(self, process: Process, channel: str) -> None:
        """Carry out what a process has sent; its answer is held back."""
        process.touch()
        flight = process.flights[channel]
        answer = self.carry_out(process.runner_id, str(process.boot), flight.request)
        process.flights[channel] = Flight(flight.request, answer, flight.held)

    def carry_out(self, runner_id: str, boot_id: str, request: Request | Beat) -> Answer | Pulse:
        """Carry a request out at the storage."""
        self.clock.now = self.now
        if isinstance(request, _ONLY_READS):
            return carry_out(self.storage, GROUP, SERVICE, request)
        if isinstance(request, Swap) and request.kind is Kind.GATE and self.is_locked:
            return Swapped(self.now, done=False, busy=True)
        storage = self.own_storage()
        if isinstance(request, Beat):
            return storage.heartbeat(GROUP, request)
        before = self.gate
        answer = carry_out(storage, GROUP, SERVICE, request)
        if isinstance(request, Swap) and isinstance(answer, Swapped) and answer.done:
            self.own_ledger().saw(self, before, request, by=(runner_id, boot_id))
        return answer

    def deliver(self, process: Process, channel: str) -> None:
        """Tell a process the answer that was held back."""
        process.touch()
        flight = process.flights.pop(channel)
        assert flight.answer is not None
        self._answer(process, channel, flight.answer)

    def give_up(self, process: Process, channel: str) -> None:
        """Tell a process that its request was not answered."""
        process.touch()
        flight = process.flights.pop(channel)
        if flight.answer is None:
            stray = Stray(process.runner_id, str(process.boot), flight.request, self.time)
            self.strays += (stray,)
        self._answer(process, channel, Failed("lost"))

    def _answer(self, process: Process, channel: str, answer: Answer | Pulse) -> None:
        if channel == "ask":
            assert not isinstance(answer, Pulse)
            self.tell(process, answer)
            return
        assert isinstance(answer, Pulse | Failed)
        heard, events = process.heartbeat.receive(self.time, answer)
        self.events += events
        if heard is not None:
            self.tell(process, heard)

    def tell(self, process: Process, what: Answer | Heard) -> None:
        """Tell a process something, and hold what it says of it against what has happened."""
        turn = process.machine.turn
        events = process.machine.receive(self.time, what)
        check_what_is_told(self, turn, events)
        self.events += events

    def end_function(self, process: Process, status: Status, reason: str = "") -> None:
        """The function of a process ends."""
        process.touch()
        turn, gate = process.machine.turn, self.gate
        assert turn is not None
        run = None if gate is None else gate.open
        is_ours = run is not None and run.run_id == turn.run.run_id
        handed = turn.run.run_id in self.ledger.handed
        if status is Status.COMPLETED and is_ours and not handed:
            self.own_ledger().ended_well |= {turn.run.run_id}
        process.ends_at = None
        self.tell(process, FunctionEnded(status, reason))

    def stop(self, process: Process) -> None:
        """Ask a process to stop."""
        process.touch()
        self.tell(process, StopRequested())

    def crash(self, index: int) -> None:
        """A process ends at once; what it has sent may still be carried out."""
        process = self.own(index)
        self.strays += tuple(
            Stray(process.runner_id, str(process.boot), flight.request, self.time)
            for flight in process.flights.values()
            if flight.answer is None
        )
        self.processes[index] = None

    def start(self, index: int, runner_id: str) -> None:
        """A new life of a runner, at a place that is free or new."""
        if index == len(self.places):
            self.places += (runner_id,)
            self.processes.append(None)
        settings, boot = self.settings[runner_id], self.boots[runner_id]
        self.boots = self.boots | {runner_id: boot + 1}
        self.processes[index] = Process.start(runner_id, boot, settings)

    # As a part of a state ---------------------------------------------------------------------

    def _what_is_kept(self, group: GroupState) -> tuple[object, ...]:
        """What a storage keeps of a group, but for the history, which decides about nothing."""
        offers = sorted(group.offers, key=lambda row: (row.offer.runner_id, row.offer.boot_id))
        records = [record for _, record in group.gates] + [self.backup]
        open_runs = {r.owner.run_id for r in records if r is not None and r.owner is not None}
        lives = tuple(self._life(key, life, open_runs) for key, life in sorted(group.lives))
        return (revision(group.revision), lives, tuple(offers), *group.plans, *group.gates)

    def _life(self, key: LifeKey, life: Life, open_runs: set[str]) -> tuple[object, ...]:
        """A row of a life: of the runs that it names, one that is closed is never open again.

        How long ago it was heard of is asked only up to its heartbeat timeout: where the clock
        never steps back (``steady``), one that is silent is silent until its next heartbeat.
        """
        has_left, heard_at = life.left_at is not None, life.heard_at
        is_silent = self.steady and self.now - heard_at > self._longest_timeout
        count = beat_name(".".join(key), life.beat_count)
        runs = tuple(run_id for run_id in life.runs if run_id in open_runs)
        return (key, life.joined_at, None if is_silent else heard_at, has_left, count, runs)

    def _counts(self) -> tuple[object, ...]:
        """Every count of heartbeats as a number, where it is asked which one is larger."""
        kept = [(key, life.beat_count) for g in self.storage.state() for key, life in g.lives]
        strays = [s.request.count for s in self.strays if isinstance(s.request, Beat)]
        sent = [p.heartbeat._count for p in self.processes if p is not None]
        return (tuple(sorted(kept)), tuple(strays), tuple(sent))

    def at_work(self) -> frozenset[str]:
        """The runs that some process still has a turn for."""
        turns = [p.machine.turn for p in self.processes if p is not None]
        return frozenset(turn.run.run_id for turn in turns if turn is not None)
