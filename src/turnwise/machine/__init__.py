"""One runner's part in one service: a machine without a clock, a thread or I/O.

Rules
-----
1. **A turn starts only after the gate has admitted it.** Where the storage does not answer, none
   starts.
2. **A runner starts at most one turn that serves a period in a slot**, and behind it at most one
   for each trigger.
3. **Silence is counted from the look that led to the admission**, on the owner's own monotonic
   clock. A turn that was silent for its heartbeat timeout at any time since then is lost for good,
   whatever arrives later.
4. **A run is dead when somebody has seen it open, with the same word of its owner, for the run's
   own heartbeat timeout** on that observer's monotonic clock: from the arrival of the first answer
   that shows it to the departure of the last request that still does. Or when its owner has left.
   An observer that was itself without an answer for a while begins to count anew: the storage may
   have been away for the owner, too, and the owner shall have the time to say how its turn ended.
5. **No answer is acted upon before it is known.** An admission whose answer was lost is settled:
   the record is read, and its version says whether the run is there, or the request is dead, or a
   new version must make it dead. How a turn ended is kept, and tried again, until it is recorded.
   Where the function called ``turn.complete``, the machine tries to close the run as failed. If
   that succeeds, nothing was committed; if the gate shows that the run was completed, it was.
6. **A run that is open under this very life of the runner, and that no turn here works on, is
   closed.**
7. **Everything goes by the storage's clock**, and every answer of it re-aims all waits.

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

A look reads both records and the storage's now. It finds what is most urgent, and asks for that.
Where nothing is to be done, the machine waits for the next instant at which something can be: its
slot, the planning of the next cycle, a second look late in a cycle that nobody has served. A
heartbeat's answer that shows something new (a larger revision, a run that has ended, a dead owner)
has it look at once.

An example, with a service that is due every five minutes and the runners *a* and *b*. Some twenty
seconds before 12:00 *b* looks, finds no plan for the cycle of 12:00, asks who is there, and swaps
one in: *a*, then *b*. A little later *a* looks, and reads that plan. At 12:00 *a* looks again, asks
the gate for the run, and serves. *b* waits for its own slot at 12:02:30, looks, sees that the
period is served, and waits for the next cycle's planning. Had *a* been killed at 12:00:10, then *b*
would have seen *a*'s open run in each of its heartbeats, always with the same word; after *a*'s
heartbeat timeout it would have buried the run, and served the period in its own slot.

The rooms
---------
Each state of the drawing is a room beside this one, and is functions on one state:

=============== ===================================================================================
``state``       what a machine knows: plain data, and the arithmetic of its two clocks
``looking``     a look, a heartbeat's answer, and what is most urgent by them
``asking``      asking the gate in our slot, and settling what became of it
``turns``       a turn in progress: started, watched, confirmed
``closing``     its end: recorded, told to the history, let go
``watching``    the run of somebody else: watched, and buried
``planning``    the next cycle's plan, or one in the place of a plan of which nobody is left
``history``     what is appended to the history
``answering``   what came of a request, and which of the above it goes to
=============== ===================================================================================

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

A storage that loses the row of a run's owner twice within ``T`` shows the same silence after each
loss. Whoever reads nothing in between buries an owner that is well. One loss does no harm.
"""

import copy
from typing import Final

from turnwise.actions import (
    Action,
    Advance,
    Answer,
    Begun,
    Done,
    Elapsed,
    Finished,
    FunctionEnded,
    HandedOver,
    Heard,
    Look,
    MakeOffer,
    Seen,
    Serve,
    StopRequested,
    TurnWanted,
    Wait,
)
from turnwise.events import Event
from turnwise.gate import Gate
from turnwise.looks import slot_is_over
from turnwise.machine import answering, looking, turns
from turnwise.machine.state import Names, State, TurnState, owner_of
from turnwise.plan import Plan, Planner
from turnwise.settings import Settings
from turnwise.storages import Offer, StableSet, Swapped

__all__ = ["Machine", "Names", "TurnState", "owner_of"]

_NOTHING_NOW: Final = (Wait, Finished)


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
        self._state = State(
            group=group,
            service=service,
            runner_id=runner_id,
            boot_id=boot_id,
            settings=settings,
            names=names,
            may_run=may_run,
            on_demand=on_demand,
        )

    def copy(self) -> "Machine":
        """Another machine in the same state, which goes its own way from here."""
        other = copy.copy(self)
        other._state = self._state.copy()  # noqa: SLF001 (of our own kind)
        return other

    # For whoever drives it --------------------------------------------------------------------

    @property
    def turn(self) -> TurnState | None:
        """The turn of this runner, from its admission until its end is recorded and told."""
        return self._state.turn

    @property
    def planner(self) -> Planner:
        """What this runner plans by."""
        return self._state.planner

    @property
    def runs(self) -> tuple[str, ...]:
        """The ids of the runs that this machine works on: what a heartbeat has to name."""
        turn = self._state.turn
        return () if turn is None or turn.recorded else (turn.run.run_id,)

    @property
    def kept(self) -> frozenset[str]:
        """The ids of the rows of the gate that the history is known to have."""
        return self._state.kept

    @property
    def heartbeat_timeout(self) -> int:
        """The heartbeat timeout of this runner's runs, in microseconds."""
        return self._state.timeout

    @property
    def due(self) -> int | None:
        """The storage's instant at which the machine looks next; None for at once, or unknown."""
        return self._state.wake

    @property
    def gate(self) -> Gate | None:
        """The gate, as the machine last saw it."""
        records = self._state.records
        return None if records is None else records.gate

    @property
    def plan(self) -> Plan | None:
        """The plan, as the machine last saw it."""
        records = self._state.records
        return None if records is None else records.plan

    @property
    def is_wanted(self) -> bool:
        """Whether a turn is wanted: always, or on demand while a wish is open."""
        return self._state.is_wanted

    @property
    def watch_at(self) -> int | None:
        """When the turn at work is lost or overdue, unless something else happens until then."""
        turn = self._state.turn
        if turn is None or turn.began_at is None or turn.ended_at is not None:
            return None
        return turns.next_watch(self._state, turn)

    def storage_now(self, at: int) -> int | None:
        """The storage's now, as this machine reckons it; None before the storage has answered."""
        return self._state.storage_now(at)

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
        state = self._state
        if state.asked is not None:
            return Wait(None)
        action = _next(state, at)
        if isinstance(action, _NOTHING_NOW):
            if state.on_demand:
                state.is_wanted = False  # nothing can be done at once
        elif not isinstance(action, Serve):
            state.asked, state.asked_at = action, at
        return action

    def receive(self, at: int, answer: Answer) -> list[Event]:
        """Take what came of an action, or what else happened; give what there is to tell."""
        state = self._state
        match answer:
            case Heard():
                return looking.heard(state, at, answer)
            case Seen() | Swapped() | StableSet() | Done():  # what comes most, before what does not
                return _answered(state, at, answer)
            case Elapsed():
                return turns.watch(state, at)
            case FunctionEnded():
                return turns.function_ended(state, at, answer)
            case Begun():
                return turns.begun(state, at)
            case HandedOver():
                turns.handed_over(state, answer)
            case StopRequested():
                state.is_stopping = True
            case TurnWanted():
                state.is_wanted = answer.is_wanted or not state.on_demand
                state.look_now(at)
            case _:
                return _answered(state, at, answer)
        return []


def _answered(state: State, at: int, answer: Answer) -> list[Event]:
    """What came of a request; and a turn is watched whenever anything is heard."""
    events = answering.answered(state, at, answer)
    if state.turn is not None:
        events += turns.watch(state, at)
    return events


# What comes next ----------------------------------------------------------------------------------


def _next(state: State, at: int) -> Action:
    if state.retry_at is not None and at < state.retry_at:
        return Wait(state.retry_at)
    if state.then is not None:
        request, state.then = state.then, None
        return request
    if state.tells_all:
        state.tells_all = False
        return Advance()
    if state.turn is not None:
        return turns.next_of_turn(state, state.turn, at)
    return _next_without_turn(state, at)


def _next_without_turn(state: State, at: int) -> Action:
    if state.is_stopping and state.unsettled is None:
        return Finished()
    if not state.is_offered and state.unsettled is None and at >= state.offer_from:
        return MakeOffer(_offer(state))
    until = state.look_at()
    if until is None or until <= at:
        return Look()
    if state.to_keep is not None and state.keep_from <= at:
        return state.to_keep
    return Wait(until)


def _offer(state: State) -> Offer:
    return Offer(
        state.runner_id,
        state.boot_id,
        state.service,
        state.settings_text,
        state.timeout,
        state.may_run,
    )
