"""Asking the gate in our slot, and finding out what became of it.

1. The gate is asked where the plan says that it is our slot, and at most one turn that serves a
   period starts in it. A run that was triggered may start behind that turn, in the same slot. Where
   a triggered run has found no place in a whole cycle, it takes the place of a turn: of any one,
   where each runner runs in its own slot, as turns take long there; else of a further attempt at a
   period whose first attempt has failed, so that a job that always fails can be triggered.
2. An admission whose answer was lost is settled: the record is read, and its version says whether
   the run is there, or the request is dead, or a new version must make it dead.
3. A turn that is admitted with too little of its slot left is given back. So is one that nobody
   wants any more.
"""

from dataclasses import replace

from turnwise import gate as gates
from turnwise.atomic_service import AtomicServiceClaim
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import Slot, decide, microseconds
from turnwise.events import Event
from turnwise.gate import Ask, Gate, PriorRunning, Run
from turnwise.looks import is_for_trigger, slot_is_over
from turnwise.machine.history import note
from turnwise.machine.state import Records, State, TurnState, Unsettled, look_again
from turnwise.plan import CyclePlan
from turnwise.storages import Swapped


def ask_in_slot(state: State, now: int, cycle: CyclePlan, gate: Gate) -> list[Event] | None:
    """Ask the gate, or note why not; None where there is nothing to ask or to note."""
    position = cycle.position_of(state.runner_id)
    if position is None:
        return None
    slot = cycle.slot(position)
    if not slot.start <= now < slot.guard_end:
        return None
    if not _may_ask(state, now, cycle, slot, gate):
        return None
    claim = claim_of(cycle, state.runner_id, now)
    if claim.atomic_service_run is None:
        # A runner that has had its turn in the slot did not come too late for it.
        if claim.skip_reason is None or slot.start in (state.asked_in, state.used_slot):
            return None
        return note(state, cycle, position, claim.reason.value, claim.skip_message, now)
    ask = ask_for(
        gate,
        cycle,
        slot,
        now=now,
        run_id=state.names(),
        runner_id=state.runner_id,
        boot_id=state.boot_id,
        heartbeat_timeout=state.timeout,
    )
    admitted = gates.admit(gate, ask, now=now)
    if not isinstance(admitted, Gate):
        return _refused(state, cycle, position, admitted, now)
    _admit(state, gate, admitted, ask.not_after)
    return []


def claim_of(cycle: CyclePlan, runner_id: str, now: int) -> AtomicServiceClaim:
    """What the decision says to a runner of a plan, by the rules that the plan was made by."""
    rules = cycle.rules
    return decide(
        cycle.start,
        cycle.end,
        cycle.runners,
        runner_id,
        now,
        margin=rules.margin,
        window=rules.window,
        stabilization=rules.stabilization,
    )


def ask_for(
    gate: Gate,
    cycle: CyclePlan,
    slot: Slot,
    *,
    now: int,
    run_id: str,
    runner_id: str,
    boot_id: str,
    heartbeat_timeout: int,
) -> Ask:
    """What a runner asks of the gate in its slot: a run for what the slot serves, or a trigger's.

    The gate fills in its token, attempt and start.
    """
    key = None if is_for_trigger(gate, cycle, slot, now=now) else cycle.key(slot)
    last = slot.end - 1
    run = Run(
        run_id=run_id,
        runner_id=runner_id,
        boot_id=boot_id,
        heartbeat_timeout=heartbeat_timeout,
        token=0,
        key=key,
        due=cycle.due,
        until=cycle.until,
        cycle_start=cycle.start,
        slot_start=slot.start,
        slot_end=slot.end,
        position=slot.position,
        attempt=1,
        started_at=now,
        size=cycle.size,
        digest=cycle.digest,
    )
    not_after = last if key is None else min(last, cycle.not_after)
    return Ask(run, cycle.rules.attempts, not_after)


def _may_ask(state: State, now: int, cycle: CyclePlan, slot: Slot, gate: Gate) -> bool:
    """Whether there is anything to ask for in our slot, once or behind our turn in it."""
    is_used = slot.start == state.used_slot
    if not is_for_trigger(gate, cycle, slot, now=now):
        return not is_used and not slot_is_over(gate, cycle, cycle.key(slot), now=now)
    assert gate.trigger is not None  # noqa: S101 (as was seen)
    # A runner that is alone may have one slot for the whole period: behind its turn is all it gets.
    return not is_used or state.tried != (slot.start, gate.trigger.id)


def _refused(
    state: State, cycle: CyclePlan, position: int, refusal: gates.Refusal, now: int
) -> list[Event] | None:
    """The gate's rules say no: remember what is in the way, and note what is worth it."""
    if isinstance(refusal, PriorRunning):
        state.blocked_by = refusal.run_id
        state.asked_in = cycle.slot(position).start
        if refusal.due != cycle.due:
            return note(state, cycle, position, str(refusal), "another run is open", now)
    return None


def _admit(state: State, gate: Gate, admitted: Gate, not_after: int) -> None:
    assert admitted.open is not None  # noqa: S101 (it was admitted)
    swap = state.swap_gate(admitted, _admitted, not_after=not_after)
    success = gate.success
    state.admitting = Unsettled(
        admitted.open,
        admitted,
        swap.expected or "",
        swap.new.version,
        state.seen.sent,
        None if success is None else success.due,
    )


def _admitted(state: State, at: int, answer: Swapped) -> list[Event]:
    admitting, state.admitting = state.admitting, None
    assert admitting is not None  # noqa: S101 (set with the request)
    state.aim_at(answer.now, state.asked_at, at)
    if answer.done:
        take_turn(state, at, admitting, state.asked_at + admitting.run.slot_end - answer.now)
    else:
        state.look_now(at)
    return []


def take_turn(state: State, at: int, admitted: Unsettled, deadline: int) -> None:
    """The run is ours: begin, or give it back where too little is left."""
    state.used_slot = admitted.run.slot_start
    if admitted.run.trigger is not None:
        state.tried = (admitted.run.slot_start, admitted.run.trigger)
    state.tried_to_keep = False
    state.turn = turn = TurnState(
        admitted.run,
        admitted.gate,
        admitted.version,
        admitted.looked_at,
        deadline,
        admitted.last_served,
    )
    left = deadline - at
    too_little = left <= 0 or left < microseconds(state.settings.min_run_margin)
    if state.is_stopping:
        turn.end(Status.ABANDONED, gates.STOPPED, at)
    elif too_little or turn.is_lost(at):
        turn.end(Status.ABANDONED, gates.NO_MARGIN, at)
    elif not state.is_wanted:
        turn.end(Status.ABANDONED, gates.NOT_STARTED, at)


def settle(state: State, unsettled: Unsettled, at: int, records: Records) -> bool:
    """Find out what became of an admission whose answer was lost; whether nothing did."""
    gate, version = records.gate, records.gate_version
    if gate is not None and version is not None:
        if gate.open is not None and gate.open.run_id == unsettled.run.run_id:
            state.unsettled = None
            found = replace(unsettled, run=gate.open, gate=gate, version=version)
            take_turn(state, at, found, records.sent + gate.open.slot_end - records.now)
            return False
        if version == unsettled.expected:
            # The same in a new version: the request is dead.
            state.swap_gate(gate, _settled)
            return False
    state.unsettled = None
    return True


def _settled(state: State, at: int, answer: Swapped) -> list[Event]:
    if answer.done:
        state.unsettled = None
    return look_again(state, at, answer)
