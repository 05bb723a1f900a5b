"""A look at the two records, and what is most urgent by them.

First what is not known is settled; then what is open under our own name is closed, and the dead
are buried; then the gate is asked, where it is our slot; then what has no plan is planned. Where
nothing is to be done, the machine waits for the next instant at which something can be.
"""

from turnwise import gate as gates
from turnwise import plan as plans
from turnwise.actions import Heard, Seen
from turnwise.events import Event, Looked, RecordUnreadable
from turnwise.gate import Gate
from turnwise.machine.asking import ask_in_slot, settle
from turnwise.machine.closing import look_after_turn
from turnwise.machine.history import say_offered
from turnwise.machine.planning import has_planned, plan_ahead, told_of_missed, told_of_settings
from turnwise.machine.state import Records, State, look_again
from turnwise.machine.turns import confirm, watch
from turnwise.machine.watching import close, is_ours_or_dead, observe
from turnwise.texts import gate_from_text, plan_from_text


def looked(state: State, at: int, seen: Seen) -> list[Event]:
    """A look was answered."""
    state.aim_at(seen.now, state.asked_at, at)
    state.wake = state.soon = None
    state.revision = seen.revision
    try:
        state.records = records = _records(state.asked_at, seen)
    except ValueError as error:
        state.records = None
        state.soon = state.retry_at = at + state.interval
        return [RecordUnreadable(**state.named, error=str(error))]
    planning, state.planning = state.planning, None
    if planning is not None and planning.version == records.plan_version:
        has_planned(state, planning)  # the answer was lost, and the plan was not
    observe(state, seen.service.sight, state.asked_at, at)
    say_offered(state, seen.now)
    success = None if records.gate is None else records.gate.success
    told: list[Event] = [
        Looked(
            group=state.group,
            runner_id=state.runner_id,
            service=state.service,
            now=seen.now,
            success=None if success is None else success.at,
        )
    ]
    told += act(state, at, records)
    return told


def _records(sent: int, seen: Seen) -> Records:
    plan, gate = seen.service.plan, seen.service.gate
    return Records(
        sent,
        seen.now,
        None if plan is None else plan.version,
        None if gate is None else gate.version,
        None if plan is None else plan_from_text(plan.body),
        None if gate is None else gate_from_text(gate.body),
    )


def act(state: State, at: int, records: Records) -> list[Event]:
    """Do what is most urgent by the records."""
    gate, now = records.gate, records.now
    if state.turn is not None:
        return look_after_turn(state, state.turn, at, records)
    if state.unsettled is not None and not settle(state, state.unsettled, at, records):
        return []
    if gate is None:
        state.swap_gate(gates.new_gate(now), look_again)
        return []
    if state.is_stopping:
        return []
    if gate.open is not None and is_ours_or_dead(state, gate.open):
        close(state, gate, gate.open, now)
        return []
    return _take_part(state, at, records, gate)


def _take_part(state: State, at: int, records: Records, gate: Gate) -> list[Event]:
    """Ask the gate, or plan, or wait."""
    now = records.now
    state.blocked_by = None
    plan = plans.in_force(records.plan, state.planner, now)
    cycle = plans.covering(plan, now)
    events = told_of_settings(state, cycle)
    if state.owed is not None or state.unplanned is not None:
        events += told_of_missed(state, now, gate)
    if cycle is not None and state.can_serve and state.is_wanted:
        asked = ask_in_slot(state, now, cycle, gate)
        if asked is not None:
            return events + asked
    if not plan_ahead(state, at, now, plan, cycle, gate):
        state.wait_for_chance(now)
    return events


def heard(state: State, at: int, what: Heard) -> list[Event]:
    """A heartbeat was answered: look at once, where it shows something new."""
    pulse = what.pulse
    state.is_drained = pulse.drained
    if not pulse.found:
        state.is_offered, state.offer_from = False, at
    state.aim_at(pulse.now, what.sent, at)
    sight = pulse.sights.get(state.service)
    observe(state, sight, what.sent, at)
    in_the_way = None if sight is None else sight.owner.run_id
    freed = state.blocked_by is not None and in_the_way != state.blocked_by
    changed = state.revision not in (None, pulse.revision)
    if changed or freed or state.dead is not None:
        state.look_now(at)
    return confirm(state, at, what) + watch(state, at) if state.turn is not None else []
