"""One runner's part in one service: a machine without a clock, a thread or I/O.

Rules
-----
1. A turn starts only after the gate has admitted it. Where the storage does not answer, none
   starts.
2. A runner starts at most one turn in a slot.
3. **Silence is counted from the look that led to the admission**, on the owner's own monotonic
   clock. A turn that was silent for its heartbeat timeout at any time since then is lost for good,
   whatever arrives later.
4. **A run is dead when somebody has seen it open, with the same word of its owner, for the run's
   own heartbeat timeout** on that observer's monotonic clock: from the arrival of the first answer
   that shows it to the departure of the last request that still does. Or when its owner has left.
   Who was itself without an answer for a while begins to count anew: the storage may have been away
   for the owner, too, which shall have the time to say how its turn has ended.
5. **No answer is acted upon before it is known.** An admission whose answer was lost is settled:
   the record is read, and its version says whether the run is there, or the request is dead, or a
   new version must make it dead. How a turn ended is kept, and tried again, until it is recorded.
6. A run that is open under this very life of the runner, and that no turn here works on, is closed.
7. Everything goes by the storage's clock, and every answer of it re-aims all waits.

How it works
------------
``next(at)`` says what to do; ``receive(at, answer)`` takes what came of it and gives events. ``at``
is the driver's monotonic clock in microseconds. The machine is plain data: :meth:`Machine.copy`
makes another one that goes its own way.

::

     MakeOffer      Look                         Swap(gate)
    ───────────▶ waiting ──▶ looking ──▶ asking the gate ──▶ serving ──▶ recording ──▶ waiting
                   ▲            │  │            │ refused       │           ▲ │
                   │  nothing   │  │            ▼               │ function  │ │ no answer:
                   └────────────┘  │         waiting            │ ended     │ └─ again, later
                   ▲               │                            └───────────┘
                   └── planning ◀──┘ FindStable, Swap(plan)
                       burying       Swap(gate)
                       settling      Look, Swap(gate)

A look reads both records and the storage's now. What is most urgent comes first: settle what is
not known; close what is open under our own name; bury the dead; ask the gate, where the plan says
that it is our slot; plan what has no plan yet. Where nothing is to be done, the machine waits for
the next instant at which something can be: its slot, the planning of the next cycle, a second look
late in a cycle that nobody has served. A heartbeat's answer that shows something new (a larger
revision, a run that has ended, a dead owner) has it look at once.

What is trusted, for how long, and why
--------------------------------------
The owner of a run trusts it for its heartbeat timeout ``T`` from the departure of the last request
that confirmed it. Whoever would bury it has seen the same word for ``T`` from the arrival of the
first answer that showed it. A word is shown only after the request that wrote it has left; so the
observer's ``T`` begins later than the owner's, and the owner has given up before it is buried. A
heartbeat that arrives after the observer's last look does not help its owner: by the time that it
is answered the owner has been silent for ``T``, and rule 3 is final. The two clocks need to run at
one speed, not to agree. The storage's clock plays no part.

Not guaranteed
--------------
A process that is suspended in the middle of its work for longer than ``T``, and then wakes, may do
something before it looks at a clock. :meth:`turnwise.turn.Turn.check` tells it; the fencing token
lets others refuse it.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol, runtime_checkable
from uuid import NAMESPACE_OID, uuid5

from turnwise import gate as gates
from turnwise import plan as plans
from turnwise.actions import (
    Action,
    Advance,
    Answer,
    Append,
    Begun,
    Done,
    Elapsed,
    Failed,
    FindStable,
    Finished,
    FunctionEnded,
    Heard,
    ListOffers,
    Look,
    MakeOffer,
    NotSent,
    Offered,
    OffersListed,
    Purge,
    Request,
    Seen,
    Serve,
    StopRequested,
    Swap,
    TurnWanted,
    Wait,
)
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import decide, microseconds
from turnwise.events import (
    CyclePlanned,
    Event,
    Looked,
    NoTurn,
    PeriodMissed,
    RecordUnreadable,
    RunBuried,
    SettingsDiffer,
    TurnEnded,
    TurnLost,
    TurnOverdue,
    TurnStarted,
)
from turnwise.gate import Ask, Command, CommandName, Execution, Gate, PriorRunning, Row, Run
from turnwise.looks import (
    Lookout,
    late_in,
    next_look,
    period_is_over,
    slot_is_over,
    why_missed,
)
from turnwise.plan import CyclePlan, Plan, Planner, Target
from turnwise.settings import Settings
from turnwise.storages import Entry, Kind, Offer, Owner, Record, Sight, StableSet, Swapped
from turnwise.texts import (
    gate_from_text,
    gate_to_text,
    plan_from_text,
    plan_to_text,
    row_to_text,
)

Names = Callable[[], str]
"""Gives a text that it never gave before, such as a random UUID: for runs and versions."""

_FIRST_BACKOFF: Final = 100_000
_TURNS_PER_PURGE: Final = 64
_WITHOUT_ANSWER: Final = 3  # heartbeat intervals between two answers, and the storage was away
_TRIES_APART: Final = 10  # heartbeat intervals between two tries to keep what is in no hurry
_SILENT_FOR_GOOD: Final = 86_400_000_000  # a day: whoever was silent for longer is history
_MOST_DOUBLINGS: Final = 20
_CLOCK_NOISE: Final = 1_000


@dataclass(slots=True)
class TurnState:
    """A turn of this runner, from its admission until its end is recorded.

    ``gate`` and ``version`` are the gate's record as the turn last knew it. ``confirmed_at`` is
    the departure of the last request that confirmed the run, and ``deadline`` the end of its slot,
    both on the monotonic clock. ``outcome`` is how the function ended, once it has.
    """

    run: Run
    gate: Gate
    version: str
    confirmed_at: int
    deadline: int
    last_served: int | None
    began_at: int | None = None
    ended_at: int | None = None
    outcome: tuple[Status, str] | None = None
    lost: bool = False
    overdue: bool = False
    recorded: bool = False
    still_runs: bool = False

    def is_lost(self, at: int) -> bool:
        """Whether the turn is not surely its runner's any more."""
        return self.lost or at - self.confirmed_at >= self.run.heartbeat_timeout

    @property
    def is_at_work(self) -> bool:
        """Whether its function runs, or is about to, and its end is not decided."""
        return self.outcome is None


@dataclass(frozen=True, slots=True)
class _Unsettled:
    """An admission whose answer was lost."""

    run: Run
    gate: Gate
    expected: str
    version: str
    looked_at: int
    last_served: int | None


@dataclass(frozen=True, slots=True)
class _Sighting:
    """An open run, the word of its owner, and when the first and last answer with it arrived."""

    run_id: str
    word: int | None
    since: int
    last: int


@dataclass(frozen=True, slots=True)
class _Records:
    """What the last look showed, and what was swapped since."""

    sent: int
    now: int
    plan_version: str | None
    gate_version: str | None
    plan: Plan | None
    gate: Gate | None


@dataclass(frozen=True, slots=True)
class _Planning:
    """A plan that is being swapped in: its version, what it was made on, and what it is for."""

    version: str
    records: _Records
    target: Target


class Machine:
    """One runner's part in one service. See the module.

    Args:
        group: the group's name.
        service: the service's name.
        runner_id: the runner.
        boot_id: this life of the runner.
        settings: the service's settings, as this runner offers them.
        names: gives names for runs and versions. A copy of the machine shares it, unless it has a
            ``copy`` method.
        may_run: False for a runner that offers the service and takes no turn at it.
        on_demand: True for a program that asks for its turns itself: the gate is asked only while
            a turn is wanted (:class:`~turnwise.actions.TurnWanted`). A wish ends as soon as there
            is nothing to do at once: it never waits for a slot.
    """

    def __init__(
        self,
        *,
        group: str,
        service: str,
        runner_id: str,
        boot_id: str,
        settings: Settings,
        names: Names,
        may_run: bool = True,
        on_demand: bool = False,
    ) -> None:
        self.group, self.service = group, service
        self.runner_id, self.boot_id = runner_id, boot_id
        self.settings = settings
        self.turn: TurnState | None = None
        self.planner = Planner.of(service, settings)
        self._may_run = may_run
        self._on_demand = on_demand
        self._is_wanted = not on_demand
        self._names = names
        self._settings_text = settings.to_json()
        self._timeout = microseconds(settings.heartbeat_timeout)
        self._interval = microseconds(settings.heartbeat_interval)
        # What is in flight, and what comes next.
        self._asked: Request | None = None
        self._asked_at = 0
        self._purpose: _Purpose | None = None
        self._admitting: _Unsettled | None = None
        self._then: Request | None = None
        self._failures = 0
        self._retry_at: int | None = None
        # When to look: an instant of the storage, and one of the monotonic clock.
        self._wake: int | None = None
        self._soon: int | None = 0
        self._aim: tuple[int, int] | None = None
        self._quiet_until: int | None = None
        # What is known.
        self._records: _Records | None = None
        self._revision: int | None = None
        self._sighting: _Sighting | None = None
        self._dead: str | None = None
        self._unsettled: _Unsettled | None = None
        self._is_offered = False
        self._offer_from = 0
        self._is_drained = False
        self._is_stopping = False
        self._blocked_by: str | None = None
        self._used_slot: int | None = None
        self._asked_in: int | None = None
        self._noted: tuple[int, str] | None = None
        self._doubted: tuple[str | None, int | None, bool] | None = None
        self._kept: frozenset[str] = frozenset()
        self._tried_to_keep = False
        self._told_settings: str | None = None
        self._turns = 0
        self._purge_is_due = False
        self._owed: CyclePlan | None = None
        self._tells_all = False
        self._planning: _Planning | None = None
        self._trusted: tuple[str | None, int | None] | None = None
        self._to_keep: Append | None = None
        self._keep_from = 0

    def copy(self) -> "Machine":
        """Another machine in the same state, which goes its own way from here."""
        other = copy.copy(self)
        if other.turn is not None:
            other.turn = copy.copy(other.turn)
        if isinstance(self._names, _Copyable):
            other._names = self._names.copy()  # noqa: SLF001 (of our own kind)
        return other

    # For whoever drives it --------------------------------------------------------------------

    @property
    def runs(self) -> tuple[str, ...]:
        """The ids of the runs that this machine works on: what a heartbeat has to name."""
        turn = self.turn
        return () if turn is None or turn.recorded else (turn.run.run_id,)

    @property
    def heartbeat_timeout(self) -> int:
        """The heartbeat timeout of this runner's runs, in microseconds."""
        return self._timeout

    @property
    def due(self) -> int | None:
        """The storage's instant at which the machine looks next; None for at once, or unknown."""
        return self._wake

    @property
    def gate(self) -> Gate | None:
        """The gate, as the machine last saw it."""
        return None if self._records is None else self._records.gate

    @property
    def plan(self) -> Plan | None:
        """The plan, as the machine last saw it."""
        return None if self._records is None else self._records.plan

    @property
    def is_wanted(self) -> bool:
        """Whether a turn is wanted: always, or on demand while a wish is open."""
        return self._is_wanted

    @property
    def watch_at(self) -> int | None:
        """When the turn at work is lost or overdue, unless something else happens until then."""
        turn = self.turn
        if turn is None or turn.began_at is None or turn.ended_at is not None:
            return None
        return self._next_watch(turn)

    def storage_now(self, at: int) -> int | None:
        """The storage's now, as this machine reckons it; None before the storage has answered."""
        return None if self._aim is None else self._aim[0] + at - self._aim[1]

    def leaves_a_gap(self, at: int) -> bool:
        """Whether this runner has a slot ahead that others may have to take over as it leaves."""
        now, plan, gate = self.storage_now(at), self.plan, self.gate
        if now is None or plan is None or gate is None:
            return False
        return any(
            (position := cycle.position_of(self.runner_id)) is not None
            and now <= (slot := cycle.slot(position)).latest
            and not slot_is_over(gate, cycle, cycle.key(slot), now=now)
            for cycle in plan.cycles
        )

    def next(self, at: int) -> Action:
        """What to do at ``at``. A request must be answered before the next one is given."""
        if self._asked is not None:
            return Wait(None)
        action = self._next(at)
        if isinstance(action, Request):
            self._asked, self._asked_at = action, at
        elif self._on_demand and not isinstance(action, Serve):
            self._is_wanted = False  # nothing can be done at once
        return action

    def receive(self, at: int, answer: Answer) -> list[Event]:
        """Take what came of an action, or what else happened; give what there is to tell."""
        if isinstance(answer, Heard):
            return self._heard(at, answer)
        if isinstance(answer, Elapsed):
            return self._watch_the_turn(at)
        if isinstance(answer, FunctionEnded):
            return self._function_ended(at, answer)
        if isinstance(answer, StopRequested):
            self._is_stopping = True
            return []
        if isinstance(answer, TurnWanted):
            self._is_wanted = answer.is_wanted or not self._on_demand
            self._look_now(at)
            return []
        if isinstance(answer, Begun):
            return self._begun(at)
        return self._answered(at, answer) + self._watch_the_turn(at)

    # What comes next --------------------------------------------------------------------------

    def _next(self, at: int) -> Action:
        if self._retry_at is not None and at < self._retry_at:
            return Wait(self._retry_at)
        if self._then is not None:
            request, self._then = self._then, None
            return request
        if self._tells_all:
            self._tells_all = False
            return Advance()
        if self.turn is not None:
            return self._next_of_turn(self.turn, at)
        return self._next_without_turn(at)

    def _next_without_turn(self, at: int) -> Action:
        if self._is_stopping and self._unsettled is None:
            return Finished()
        if not self._is_offered and self._unsettled is None and at >= self._offer_from:
            return MakeOffer(self._offer())
        until = self._look_at()
        if until is None or until <= at:
            return Look()
        if self._to_keep is not None and self._keep_from <= at:
            return self._to_keep
        return Wait(until)

    def _next_of_turn(self, turn: TurnState, at: int) -> Action:
        if turn.recorded:
            unkept = self._unkept(turn.gate)
            if unkept and not self._tried_to_keep:
                return Append(unkept)
            if self._purge_is_due and not turn.still_runs:
                now = self.storage_now(at)
                assert now is not None  # noqa: S101 (a turn was admitted)
                before = now - microseconds(self.settings.retention_age)
                # Changes of settings and pauses stay, so that what is old can be judged by them.
                silent = now - max(_SILENT_FOR_GOOD, 10 * self._timeout)
                return Purge(before, self.settings.retention_count, ("command",), silent)
            return Wait(None)
        if turn.outcome is None and turn.began_at is None:
            if not turn.is_lost(at) and at < turn.deadline:
                return Serve(turn.run, turn.last_served)
            # The process was suspended between the admission's answer and here.
            turn.outcome, turn.ended_at = (Status.ABANDONED, gates.NO_MARGIN), at
        if turn.outcome is not None:
            return self._finishing(turn)
        unkept = self._unkept(turn.gate)
        if unkept and not self._tried_to_keep:
            return Append(unkept)
        return Wait(self._next_watch(turn))

    def _next_watch(self, turn: TurnState) -> int | None:
        """When the turn is lost, or overdue, unless something else happens."""
        instants = []
        if not turn.lost:
            instants.append(turn.confirmed_at + turn.run.heartbeat_timeout)
        if not turn.overdue and self.settings.timeout is not None and turn.began_at is not None:
            instants.append(turn.began_at + microseconds(self.settings.timeout))
        return min(instants, default=None)

    def _look_at(self) -> int | None:
        """When to look, on the monotonic clock; None for at once."""
        soon, wake, aim = self._soon, self._wake, self._aim
        if wake is None or aim is None:
            return soon
        by_clock = wake - aim[0] + aim[1]
        return by_clock if soon is None or by_clock < soon else soon

    def _look_now(self, at: int) -> None:
        self._soon = at if self._soon is None else min(self._soon, at)

    # Answers ----------------------------------------------------------------------------------

    def _answered(self, at: int, answer: Answer) -> list[Event]:  # noqa: C901, PLR0911
        asked, self._asked = self._asked, None
        if asked is None:
            raise RuntimeError(f"{self.service}: {answer!r} answers nothing that was asked")
        if isinstance(answer, Failed):
            return self._failed(at, asked)
        if isinstance(answer, NotSent):
            self._purpose = self._doubted = None
            self._look_now(at)
            return []
        self._failures, self._retry_at = 0, None
        match asked, answer:
            case Look(), Seen():
                return self._seen(at, answer)
            case MakeOffer(), Offered():
                self._is_offered = True
                self._look_now(at)
                return []
            case (Swap(), Swapped() as answer) | (FindStable(), StableSet() as answer):
                purpose, self._purpose = self._purpose, None
                assert purpose is not None  # noqa: S101 (each of these has one)
                return purpose(self, at, answer)
            case ListOffers(), OffersListed():
                return self._offers_listed(answer)
            case Advance(), Done():
                return []
            case Append(), Done():
                return self._appended(asked, at)
            case Purge(), Done():
                return self._purged(at)
        raise RuntimeError(f"{self.service}: {answer!r} is no answer to {asked!r}")

    def _failed(self, at: int, asked: Request) -> list[Event]:
        """The answer is lost: wait a little, look, and find out."""
        self._purpose = None
        self._doubted = None  # what was in doubt is still
        if self._trusted is not None:
            self._trusted = (self._trusted[0], None)
        delay = _FIRST_BACKOFF << min(self._failures, _MOST_DOUBLINGS)
        self._failures += 1
        self._retry_at = at + min(delay, self._interval)
        self._look_now(at)
        turn = self.turn
        if isinstance(asked, Append) and asked == self._to_keep:
            self._keep_from = at + _TRIES_APART * self._interval
            return []
        if isinstance(asked, Append):
            self._tried_to_keep = True  # the rows stay in the gate for whoever comes by
            return self._let_go_if_over(turn, at)
        if isinstance(asked, Purge):
            return self._purged(at)
        if isinstance(asked, Swap):
            if self._admitting is not None:
                self._unsettled, self._admitting = self._admitting, None
            if turn is not None and turn.outcome is not None:
                turn.version = ""  # whether it is recorded must be looked up
        return []

    # A look -----------------------------------------------------------------------------------

    def _seen(self, at: int, seen: Seen) -> list[Event]:
        self._aim_at(seen.now, self._asked_at, at)
        self._wake = self._soon = None
        self._revision = seen.revision
        plan, gate = seen.service.plan, seen.service.gate
        try:
            self._records = _Records(
                self._asked_at,
                seen.now,
                None if plan is None else plan.version,
                None if gate is None else gate.version,
                None if plan is None else plan_from_text(plan.body),
                None if gate is None else gate_from_text(gate.body),
            )
        except ValueError as error:
            self._records = None
            self._soon = self._retry_at = at + self._interval
            return [RecordUnreadable(**self._named, error=str(error))]
        planning, self._planning = self._planning, None
        if planning is not None and planning.version == self._records.plan_version:
            self._has_planned(planning)  # the answer was lost, and the plan was not
        self._observe(seen.service.sight, self._asked_at, at)
        return [Looked(**self._named, now=seen.now), *self._act(at, seen.now)]

    def _act(self, at: int, now: int) -> list[Event]:
        """Do what is most urgent by the records, at the storage's ``now``."""
        records = self._records
        assert records is not None  # noqa: S101 (set by the look that led here)
        gate = records.gate
        if self.turn is not None:
            return self._look_after_turn(self.turn, at, records)
        if self._unsettled is not None:
            return self._settle(self._unsettled, at, records)
        if gate is None:
            self._swap_gate(gates.new_gate(now), Machine._changed_gate)
            return []
        if self._is_stopping:
            return []
        if gate.open is not None and self._is_ours_or_dead(gate.open):
            return self._close(gate, gate.open, now)
        return self._take_part(at, now, records, gate)

    def _take_part(self, at: int, now: int, records: _Records, gate: Gate) -> list[Event]:
        """Ask the gate, or plan, or wait."""
        self._blocked_by = None
        plan = plans.in_force(records.plan, self.planner, now)
        cycle = plans.covering(plan, now)
        events = self._told_of_settings(cycle) + self._told_of_missed(now, gate)
        if cycle is not None and self._can_serve and self._is_wanted:
            asked, more = self._ask_in_slot(now, cycle, gate)
            events += more
            if asked:
                return events
        if not self._plan_ahead(at, now, records, plan, cycle, gate):
            self._wait_for_chance(now)
        return events

    @property
    def _can_serve(self) -> bool:
        return self._may_run and not self._is_drained and not self._is_stopping

    def _aim_at(self, now: int, sent: int, at: int) -> None:
        """Lay the storage's clock beside ours; where it has stepped back, keep quiet a while.

        The answer's now is laid at its arrival, so that a wait ends late rather than early. So the
        next answer's now is at least what we reckon for the departure of its request, unless the
        clock has stepped, or drifts. An answer that was held up while newer ones came says nothing
        about now.
        """
        if self._aim is not None:
            elapsed = sent - self._aim[1]
            if now < self._aim[0] + elapsed - _CLOCK_NOISE - max(0, elapsed) // 1000:
                self._quiet_until = at + self._interval
                self._look_now(at)
            elif elapsed < 0:
                return
        self._aim = (now, at)

    # The gate ---------------------------------------------------------------------------------

    def _ask_in_slot(self, now: int, cycle: CyclePlan, gate: Gate) -> tuple[bool, list[Event]]:
        """Ask the gate where it is our slot; whether a request was made, and events."""
        position = cycle.position_of(self.runner_id)
        if position is None:
            return False, []
        slot = cycle.slot(position)
        key: int | None = cycle.key(slot)
        if slot_is_over(gate, cycle, cycle.key(slot), now=now):
            if gate.trigger is None:
                return False, []
            key = None
        if not slot.start <= now < slot.guard_end or slot.start == self._used_slot:
            return False, []
        claim = decide(
            cycle.start,
            cycle.end,
            cycle.runners,
            self.runner_id,
            now,
            margin=cycle.rules.margin,
            window=cycle.rules.window,
            stabilization=cycle.rules.stabilization,
        )
        if claim.atomic_service_run is None:
            if claim.skip_reason is None or self._asked_in == slot.start:
                return False, []
            return self._note(cycle, position, claim.reason.value, claim.skip_message, now)
        run = Run(
            run_id=self._names(),
            runner_id=self.runner_id,
            boot_id=self.boot_id,
            heartbeat_timeout=self._timeout,
            token=0,
            key=key,
            due=cycle.due,
            until=cycle.until,
            cycle_start=cycle.start,
            slot_start=slot.start,
            slot_end=slot.end,
            position=position,
            attempt=1,
            started_at=now,
            size=cycle.size,
            digest=cycle.digest,
        )
        last = slot.end - 1
        not_after = last if key is None else min(last, cycle.not_after)
        admitted = gates.admit(gate, Ask(run, cycle.rules.attempts, not_after), now=now)
        if not isinstance(admitted, Gate):
            return self._refused(cycle, position, admitted, now)
        self._admit(admitted, not_after)
        return True, []

    def _admit(self, admitted: Gate, not_after: int) -> None:
        records = self._records
        assert records is not None  # noqa: S101 (as the caller knows)
        assert admitted.open is not None  # noqa: S101 (it was admitted)
        assert records.gate is not None  # noqa: S101 (as the caller knows)
        self._swap_gate(admitted, Machine._admitted, not_after=not_after)
        swap = self._then
        assert isinstance(swap, Swap)  # noqa: S101 (just made)
        success = records.gate.success
        self._admitting = _Unsettled(
            admitted.open,
            admitted,
            swap.expected or "",
            swap.new.version,
            records.sent,
            None if success is None else success.due,
        )

    def _admitted(self, at: int, answer: Swapped | StableSet) -> list[Event]:
        admitting, self._admitting = self._admitting, None
        assert admitting is not None  # noqa: S101 (set with the request)
        assert isinstance(answer, Swapped)  # noqa: S101 (as asked)
        self._aim_at(answer.now, self._asked_at, at)
        if not answer.done:
            self._look_now(at)
            return []
        return self._take_turn(at, admitting, self._asked_at + admitting.run.slot_end - answer.now)

    def _take_turn(self, at: int, admitted: _Unsettled, deadline: int) -> list[Event]:
        """The run is ours: begin, or give it back where too little is left."""
        self._used_slot = admitted.run.slot_start
        self._tried_to_keep = False
        self.turn = turn = TurnState(
            admitted.run,
            admitted.gate,
            admitted.version,
            admitted.looked_at,
            deadline,
            admitted.last_served,
        )
        left = deadline - at
        too_little = left <= 0 or left < microseconds(self.settings.min_run_margin)
        reason = None
        if self._is_stopping:
            reason = gates.STOPPED
        elif too_little or turn.is_lost(at):
            reason = gates.NO_MARGIN
        elif not self._is_wanted:
            reason = gates.NOT_STARTED
        if reason is not None:
            turn.outcome, turn.ended_at = (Status.ABANDONED, reason), at
        return []

    def _refused(
        self, cycle: CyclePlan, position: int, refusal: gates.Refusal, now: int
    ) -> tuple[bool, list[Event]]:
        """The gate's rules say no: remember what is in the way, and note what is worth it."""
        slot = cycle.slot(position)
        if isinstance(refusal, PriorRunning):
            self._blocked_by = refusal.run_id
            self._asked_in = slot.start
            if refusal.due != cycle.due:
                return self._note(cycle, position, str(refusal), "another run is open", now)
        return False, []

    def _note(
        self, cycle: CyclePlan, position: int, reason: str, message: str, now: int
    ) -> tuple[bool, list[Event]]:
        """Keep a BLOCKED row, once for each slot and reason."""
        slot = cycle.slot(position)
        if self._noted == (slot.start, reason):
            return False, []
        self._noted = (slot.start, reason)
        identity = repr((self.group, self.service, self.runner_id, slot.start, reason))
        row = Execution(
            id=str(uuid5(NAMESPACE_OID, identity)),
            runner_id=self.runner_id,
            status=Status.BLOCKED,
            reason=reason,
            started_at=now,
            ended_at=now,
            token=None,
            due=cycle.due,
            cycle_start=cycle.start,
            slot_start=slot.start,
            slot_end=slot.end,
            position=position,
            attempt=0,
            size=cycle.size,
            digest=cycle.digest,
        )
        self._then = Append((_entry(row),))
        event = NoTurn(
            **self._named, reason=reason, message=message, due=cycle.due, slot_start=slot.start
        )
        return True, [event]

    def _is_ours_or_dead(self, run: Run) -> bool:
        """Whether an open run is one of this life that nothing works on, or one that is dead."""
        ours = (run.runner_id, run.boot_id) == (self.runner_id, self.boot_id)
        return ours or run.run_id == self._dead

    def _close(self, gate: Gate, run: Run, now: int) -> list[Event]:
        """Bury a run; one of our own that never began ends as ``no_margin``."""
        if run.run_id == self._dead:
            closed = gates.bury(gate, run.run_id, now=now)
        else:
            closed = gates.finish(
                gate, run.run_id, now=now, status=Status.ABANDONED, reason=gates.NO_MARGIN
            )
        assert isinstance(closed, Gate)  # noqa: S101 (the run is open)
        is_dead = run.run_id == self._dead
        self._swap_gate(
            closed, partial(Machine._buried, run=run) if is_dead else Machine._changed_gate
        )
        return []

    def _buried(self, at: int, answer: Swapped | StableSet, *, run: Run) -> list[Event]:
        events = self._changed_gate(at, answer)
        assert isinstance(answer, Swapped)  # noqa: S101 (as asked)
        if not answer.done:
            return events
        self._dead = None
        buried = RunBuried(
            **self._named,
            run_id=run.run_id,
            token=run.token,
            due=run.due,
            owner=run.runner_id,
        )
        return [buried, *events]

    def _changed_gate(self, at: int, answer: Swapped | StableSet) -> list[Event]:
        """The gate was changed, by us or by somebody else: look."""
        self._aim_at(answer.now, self._asked_at, at)
        self._look_now(at)
        return []

    def _swap_gate(
        self,
        new: Gate,
        purpose: "_Purpose",
        *,
        not_after: int | None = None,
    ) -> None:
        records = self._records
        assert records is not None  # noqa: S101 (as the callers know)
        self._then = _gate_swap(records.gate_version, new, self._names(), not_after)
        self._purpose = purpose

    # What is not known ------------------------------------------------------------------------

    def _settle(self, unsettled: _Unsettled, at: int, records: _Records) -> list[Event]:
        """Find out what became of an admission whose answer was lost."""
        gate = records.gate
        if gate is not None and gate.open is not None and gate.open.run_id == unsettled.run.run_id:
            self._unsettled = None
            assert records.gate_version is not None  # noqa: S101 (there is a gate)
            found = replace(unsettled, run=gate.open, gate=gate, version=records.gate_version)
            return self._take_turn(at, found, records.sent + gate.open.slot_end - records.now)
        if gate is not None and records.gate_version == unsettled.expected:
            self._swap_gate(
                gate, Machine._settled
            )  # the same in a new version: the request is dead
            return []
        self._unsettled = None
        return self._act(at, records.now)

    def _settled(self, at: int, answer: Swapped | StableSet) -> list[Event]:
        assert isinstance(answer, Swapped)  # noqa: S101 (as asked)
        if answer.done:
            self._unsettled = None
        return self._changed_gate(at, answer)

    # A turn -----------------------------------------------------------------------------------

    def _begun(self, at: int) -> list[Event]:
        turn = self.turn
        assert turn is not None  # noqa: S101 (it was asked to be served)
        turn.began_at = at
        run = turn.run
        started = TurnStarted(**self._of(run), attempt=run.attempt, started_at=run.started_at)
        return [started, *self._watch_the_turn(at)]

    def _watch_the_turn(self, at: int) -> list[Event]:
        """Tell a turn that is lost, or that has taken too long."""
        turn = self.turn
        if turn is None or turn.began_at is None or turn.ended_at is not None:
            return []
        events: list[Event] = []
        if not turn.lost and turn.is_lost(at):
            turn.lost = True
            silent = (at - turn.confirmed_at) / 1_000_000
            limit = turn.run.heartbeat_timeout / 1_000_000
            why = f"no heartbeat was confirmed for {silent:.1f} s; the timeout is {limit:g} s"
            events.append(TurnLost(**self._of(turn.run), why=why))
        timeout = self.settings.timeout
        if timeout is not None and not turn.overdue:
            limit_us = microseconds(timeout)
            if at - turn.began_at >= limit_us:
                turn.overdue = turn.lost = True
                events.append(TurnOverdue(**self._of(turn.run), timeout=limit_us))
                if self.settings.release_on_timeout:
                    turn.outcome, turn.ended_at = (Status.ABANDONED, gates.TIMEOUT), at
                    turn.still_runs = True
        return events

    def _function_ended(self, at: int, ended: FunctionEnded) -> list[Event]:
        turn = self.turn
        if turn is None:
            return []
        if turn.outcome is not None:  # it was released at its timeout
            turn.still_runs = False
            return self._let_go_if_over(turn, at)
        events = self._watch_the_turn(at)  # it may be lost, and nobody has looked since
        if turn.began_at is None:
            turn.began_at = at
        # It may have been released at its timeout just now; it has ended all the same.
        turn.outcome, turn.ended_at, turn.still_runs = (ended.status, ended.reason), at, False
        self._tried_to_keep = False
        return events

    def _finishing(self, turn: TurnState) -> Action:
        """Record how the turn ended; where the gate may have changed, look first."""
        assert turn.outcome is not None  # noqa: S101 (as the caller knows)
        assert turn.ended_at is not None  # noqa: S101 (set together)
        if not turn.version:
            return Look()
        now = self.storage_now(turn.ended_at)
        assert now is not None  # noqa: S101 (a turn was admitted)
        status, reason = turn.outcome
        kept = gates.without(turn.gate, self._kept)
        ended = gates.finish(
            kept, turn.run.run_id, now=max(now, turn.run.started_at), status=status, reason=reason
        )
        assert isinstance(ended, Gate)  # noqa: S101 (a version is kept only with the run open)
        swap = _gate_swap(turn.version, ended, self._names(), None)
        self._purpose = partial(Machine._finished, ended=ended, version=swap.new.version)
        return swap

    def _finished(
        self, at: int, answer: Swapped | StableSet, *, ended: Gate, version: str
    ) -> list[Event]:
        assert isinstance(answer, Swapped)  # noqa: S101 (as asked)
        self._aim_at(answer.now, self._asked_at, at)
        turn = self.turn
        assert turn is not None  # noqa: S101 (it is kept until it is recorded)
        if not answer.done:
            turn.version = ""
            return []
        return self._record(turn, at, ended, version, recorded=True)

    def _look_after_turn(self, turn: TurnState, at: int, records: _Records) -> list[Event]:
        """A look while a turn's end is to be recorded: is the run still open?"""
        gate = records.gate
        if turn.outcome is None or turn.recorded:
            return []
        open_run = None if gate is None else gate.open
        if gate is not None and open_run is not None and open_run.run_id == turn.run.run_id:
            assert records.gate_version is not None  # noqa: S101 (there is a gate)
            turn.gate, turn.version = gate, records.gate_version
            return []
        said = None if gate is None else gates.said_of(gate, turn.run.run_id)
        ours = said is not None and (said.status, said.reason) == turn.outcome
        return self._record(turn, at, gate, records.gate_version, recorded=ours)

    def _record(
        self, turn: TurnState, at: int, gate: Gate | None, version: str | None, *, recorded: bool
    ) -> list[Event]:
        """The turn's end is known to the gate, by us or by somebody else."""
        assert turn.outcome is not None  # noqa: S101 (as the callers know)
        assert turn.ended_at is not None  # noqa: S101 (set together)
        turn.recorded, turn.gate = True, gate or gates.new_gate(turn.run.due)
        self._purge_is_due = self._turns % _TURNS_PER_PURGE == 0
        self._turns += 1
        self._tried_to_keep = False
        if self._records is not None:
            self._records = replace(self._records, gate=gate, gate_version=version)
        status, reason = turn.outcome
        ended = TurnEnded(
            **self._of(turn.run),
            status=status,
            reason=reason,
            attempt=turn.run.attempt,
            took=0 if turn.began_at is None else turn.ended_at - turn.began_at,
            recorded=recorded,
        )
        return [ended, *self._let_go_if_over(turn, at)]

    def _let_go_if_over(self, turn: TurnState | None, at: int) -> list[Event]:
        """Forget a turn that is recorded, kept in the history, and does not run any more."""
        if turn is None or not turn.recorded or turn.still_runs:
            return []
        if self._unkept(turn.gate) and not self._tried_to_keep:
            return []
        return [] if self._purge_is_due else self._let_go(at)

    def _let_go(self, at: int) -> list[Event]:
        self.turn = None
        now = self.storage_now(at)
        if now is None or self._records is None or self._records.gate is None:
            self._look_now(at)
        else:
            self._wait_for_chance(now)
        return []

    # History ----------------------------------------------------------------------------------

    def _unkept(self, gate: Gate) -> tuple[Entry, ...]:
        """What the gate says that the history may not know."""
        return tuple(_entry(row) for row in gate.unsaid if row.id not in self._kept)

    def _appended(self, asked: Append, at: int) -> list[Event]:
        if asked == self._to_keep:
            self._to_keep = None
            return []
        turn = self.turn
        gate = self.gate if turn is None else turn.gate
        said = set() if gate is None else {row.id for row in gate.unsaid}
        # What was kept before still counts, as long as the gate goes on saying it.
        self._kept = frozenset(entry.id for entry in asked.entries) | (self._kept & said)
        if turn is None:
            self._look_now(at)  # it was a BLOCKED row: go on from where the look left off
            return []
        if turn.recorded:
            return self._let_go_if_over(turn, at)
        return []

    def _purged(self, at: int) -> list[Event]:
        self._purge_is_due = False
        return self._let_go_if_over(self.turn, at)

    # Heartbeats -------------------------------------------------------------------------------

    def _heard(self, at: int, heard: Heard) -> list[Event]:
        pulse = heard.pulse
        self._is_drained = pulse.drained
        if not pulse.found:
            self._is_offered, self._offer_from = False, at
        self._aim_at(pulse.now, heard.sent, at)
        sight = pulse.sights.get(self.service)
        self._observe(sight, heard.sent, at)
        events = self._confirm(at, heard) + self._watch_the_turn(at)
        changed = self._revision is not None and pulse.revision != self._revision
        in_the_way = None if sight is None else sight.owner.run_id
        freed = self._blocked_by is not None and in_the_way != self._blocked_by
        if changed or freed or self._dead is not None:
            self._look_now(at)
        return events

    def _confirm(self, at: int, heard: Heard) -> list[Event]:
        """What a heartbeat's answer says of the turn at work."""
        turn = self.turn
        if turn is None or not turn.is_at_work or turn.run.run_id not in heard.beat.runs:
            return []
        if turn.run.run_id not in heard.pulse.open_runs:
            if turn.lost:
                return []
            turn.lost = True
            return [TurnLost(**self._of(turn.run), why="the storage has closed this run")]
        # One that has only taken too long is still its runner's to end.
        silent = at - turn.confirmed_at >= turn.run.heartbeat_timeout
        given_up = silent or (turn.lost and not turn.overdue)
        if heard.pulse.found and not heard.pulse.left and not given_up:
            turn.confirmed_at = max(turn.confirmed_at, heard.sent)
        return []

    def _observe(self, sight: Sight | None, sent: int, at: int) -> None:
        """Watch an open run of somebody else: has its owner said anything new?"""
        self._dead = None
        if sight is None or self.turn is not None:
            self._sighting = None
            return
        run_id = sight.owner.run_id
        seen = self._sighting
        new = seen is None or (seen.run_id, seen.word) != (run_id, sight.word)
        if seen is None or new or at - seen.last > _WITHOUT_ANSWER * self._interval:
            seen = _Sighting(run_id, sight.word, at, at)
        self._sighting = replace(seen, last=max(seen.last, at))
        if sight.left or sent - seen.since >= sight.owner.heartbeat_timeout:
            self._dead = run_id

    # The plan ---------------------------------------------------------------------------------

    def _plan_ahead(
        self,
        at: int,
        now: int,
        records: _Records,
        plan: Plan | None,
        cycle: CyclePlan | None,
        gate: Gate,
    ) -> bool:
        """Plan the next cycle where it is time to, or replace a plan of which nobody is left."""
        if self._quiet_until is not None:
            if at < self._quiet_until:
                return False
            self._quiet_until = None
        if cycle is not None and self._may_be_void(now, cycle, plan, gate):
            return True
        if self._ahead_may_be_void(now, plan, gate):
            return True
        target = plans.next_target(
            records.plan,
            self.planner,
            lambda due, until, now: period_is_over(
                gate, due, until, now=now, attempts=self.planner.rules.attempts
            ),
            now,
            triggered=gate.trigger is not None and not gates.is_paused(gate, now),
        )
        if isinstance(target, int):
            return False
        self._find_stable(target, (self.runner_id,), plan)
        return True

    def _may_be_void(self, now: int, cycle: CyclePlan, plan: Plan | None, gate: Gate) -> bool:
        """Ask whether anybody of the plan is left, once for each plan, revision, and late in it."""
        position = cycle.position_of(self.runner_id)
        if position is not None and now <= cycle.slot(position).latest:
            return False
        if gate.open is not None or gates.is_paused(gate, now):
            return False
        if slot_is_over(gate, cycle, cycle.due, now=now) and gate.trigger is None:
            return False
        records = self._records
        assert records is not None  # noqa: S101 (as the look that led here has seen)
        doubt = (records.plan_version, self._revision, now >= late_in(cycle, self.runner_id))
        if doubt == self._doubted:
            return False
        self._doubted = doubt
        if cycle.settings != self.planner.settings:
            self._then = ListOffers()
        else:
            among = plans.those_left(cycle, now)
            self._find_stable(plans.replacement(cycle, now), among, plan)
        return True

    def _ahead_may_be_void(self, now: int, plan: Plan | None, gate: Gate) -> bool:
        """Ask whether anybody is left of a plan that is to come, where all were told to look."""
        records, ahead = self._records, plans.upcoming(plan, now)
        assert records is not None  # noqa: S101 (as the look that led here has seen)
        if ahead is None or ahead.position_of(self.runner_id) is not None:
            return False
        before, self._trusted = self._trusted, (records.plan_version, self._revision)
        if before is None or before[0] != records.plan_version or before[1] == self._revision:
            return False
        if gates.is_paused(gate, now) or ahead.settings != self.planner.settings:
            return False
        self._find_stable(plans.replacement(ahead, now), plans.those_left(ahead, now), plan)
        return True

    def _offers_listed(self, listed: OffersListed) -> list[Event]:
        """Who offers the settings that the plan was made by? Of those, is anybody left?"""
        records = self._records
        assert records is not None  # noqa: S101 (as the look that led here has seen)
        now = records.now
        cycle = plans.covering(records.plan, now)
        assert cycle is not None  # noqa: S101 (it was in doubt)
        among = tuple(
            row.offer.runner_id
            for row in listed.offers
            if row.offer.service == self.service
            and plans.settings_digest(row.offer.settings) == cycle.settings
        )
        left = set(plans.those_left(cycle, now))
        among = tuple(name for name in among if name in left)
        target = plans.replacement(cycle, now, self.planner)
        self._find_stable(target, among, plans.in_force(records.plan, self.planner, now))
        return []

    def _find_stable(self, target: Target, among: tuple[str, ...], plan: Plan | None) -> None:
        self._then = FindStable(target.rotation, target.limit, among)
        self._purpose = partial(Machine._stable_found, target=target, plan=plan)

    def _stable_found(
        self, at: int, answer: Swapped | StableSet, *, target: Target, plan: Plan | None
    ) -> list[Event]:
        assert isinstance(answer, StableSet)  # noqa: S101 (as asked)
        records = self._records
        assert records is not None  # noqa: S101 (as the look that led here has seen)
        self._aim_at(answer.now, self._asked_at, at)
        if target.void and answer.alive:
            return self._act(at, records.now)  # somebody is left: go on from the look
        if not target.void and self._can_serve and self.runner_id not in answer.alive:
            self._is_offered = False  # our offer is gone: make it anew, and look again
        if not answer.runners:
            # Such as after an outage, until heartbeats arrive: ask and offer no more until then.
            self._soon = self._offer_from = at + self._interval
            self._doubted = None
            return []
        made = plans.with_target(
            plan, target, answer.runners, size=answer.size, digest=answer.digest
        )
        new = Record(self._names(), plan_to_text(made))
        # Whoever has a slot then may not look before it is over. It is told even where the answer
        # is lost.
        self._tells_all = target.void
        not_after = target.cycle.end - 1
        self._planning = _Planning(new.version, records, target)
        self._then = Swap(Kind.PLAN, records.plan_version, new, not_after)
        self._purpose = partial(Machine._planned, target=target, made=made, version=new.version)
        return []

    def _planned(
        self,
        at: int,
        answer: Swapped | StableSet,
        *,
        target: Target,
        made: Plan,
        version: str,
    ) -> list[Event]:
        assert isinstance(answer, Swapped)  # noqa: S101 (as asked)
        self._aim_at(answer.now, self._asked_at, at)
        records = self._records
        assert records is not None  # noqa: S101 (as the look that led here has seen)
        planning, self._planning = self._planning, None
        if not answer.done:
            self._tells_all = False
            self._look_now(at)
            return []
        self._records = replace(records, plan=made, plan_version=version)
        self._look_if_in_slot(at, answer.now)
        assert planning is not None  # noqa: S101 (set with the request)
        self._has_planned(planning)
        planned = next(cycle for cycle in made.cycles if cycle.start == target.cycle.start)
        return [
            CyclePlanned(
                **self._named,
                start=planned.start,
                end=planned.end,
                due=planned.due,
                runners=tuple(name for name, _ in planned.runners),
                size=planned.size,
                void=target.void,
            )
        ]

    def _look_if_in_slot(self, at: int, now: int) -> None:
        """After a change of the plan: look at once where our slot has begun, else wait for it."""
        records = self._records
        assert records is not None  # noqa: S101 (as the callers know)
        cycle = plans.covering(records.plan, now)
        position = None if cycle is None else cycle.position_of(self.runner_id)
        if cycle is not None and position is not None and cycle.slot(position).start <= now:
            self._look_now(at)
        else:
            self._wait_for_chance(now)

    def _has_planned(self, planning: "_Planning") -> None:
        """A plan of ours is there: what the history, or somebody, is to be told of it."""
        self._owe(planning.records, planning.target)
        self._say_settings(planning.records.plan, planning.target)

    def _say_settings(self, before: Plan | None, target: Target) -> None:
        """Keep in the history that other settings hold from here on than in the plan before."""
        if before is not None and before.cycles[-1].settings == target.settings:
            return
        identity = repr((self.group, self.service, target.cycle.start, target.settings))
        row = Command(
            id=str(uuid5(NAMESPACE_OID, identity)),
            name=CommandName.SETTINGS,
            at=target.cycle.start,
            by=self.runner_id,
            settings=self._settings_text,
        )
        self._to_keep = Append((_entry(row),))

    def _owe(self, records: _Records, target: Target) -> None:
        """Who plans a new period will say so where the one before was missed."""
        last = None if records.plan is None else records.plan.cycles[-1]
        if last is not None and last.due < target.cycle.due and not last.rules.every_slot:
            self._owed = last

    def _told_of_missed(self, now: int, gate: Gate) -> list[Event]:
        last = self._owed
        if last is None or now < last.until:
            return []
        if gate.open is not None and gate.open.key == last.due:
            return []  # it is late, and still at work
        self._owed = None
        ahead = gates.horizon(last.due, last.until)
        if gates.is_served(gate, last.due, now=now, ahead=ahead):
            return []
        why = why_missed(gate, last, now=now)
        return [PeriodMissed(**self._named, due=last.due, until=last.until, why=why)]

    def _told_of_settings(self, cycle: CyclePlan | None) -> list[Event]:
        if cycle is None or cycle.settings in (self.planner.settings, self._told_settings):
            return []
        self._told_settings = cycle.settings
        return [SettingsDiffer(**self._named, due=cycle.due)]

    def _wait_for_chance(self, now: int) -> None:
        """Wait for the next instant at which something can be done."""
        records = self._records
        assert records is not None  # noqa: S101 (as the callers know)
        assert records.gate is not None  # noqa: S101 (as the callers know)
        plan = plans.in_force(records.plan, self.planner, now)
        who = Lookout(
            self.runner_id,
            self.planner,
            self._interval,
            self._used_slot,
            self._blocked_by is not None,
        )
        # While it keeps quiet it does not plan: it looks again when that is over.
        self._soon, self._wake = self._quiet_until, next_look(plan, records.gate, who, now)

    # Small things -----------------------------------------------------------------------------

    def _offer(self) -> Offer:
        return Offer(
            self.runner_id,
            self.boot_id,
            self.service,
            self._settings_text,
            self._timeout,
            self._may_run,
        )

    @property
    def _named(self) -> dict[str, Any]:
        return {"group": self.group, "runner_id": self.runner_id, "service": self.service}

    def _of(self, run: Run) -> dict[str, Any]:
        return self._named | {"run_id": run.run_id, "token": run.token, "due": run.due}


@runtime_checkable
class _Copyable(Protocol):
    """Names that a copy of the machine shall not share."""

    def copy(self) -> Names:
        """Names that go on as these do, apart from them."""


class _Purpose(Protocol):
    """What is done with the answer to a swap, or to the question who is stable."""

    def __call__(
        self, machine: Machine, at: int, answer: Swapped | StableSet, /
    ) -> list[Event]: ...


def owner_of(gate: Gate) -> Owner | None:
    """What a storage is told of a gate's open run."""
    run = gate.open
    if run is None:
        return None
    return Owner(run.run_id, run.runner_id, run.boot_id, run.heartbeat_timeout)


def _gate_swap(expected: str | None, new: Gate, version: str, not_after: int | None) -> Swap:
    record = Record(version, gate_to_text(new), owner_of(new))
    return Swap(Kind.GATE, expected, record, not_after)


def _entry(row: Row) -> Entry:
    return Entry(row.id, row.at, row.kind, row_to_text(row))
