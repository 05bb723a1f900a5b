"""What is appended to the history: rows that the gate carries, and rows that belong to no gate.

1. A row that a gate carries goes into the history before the turn that knows of it is let go, if
   the storage takes it. If not, it stays in the gate for whoever comes by.
2. A BLOCKED row is kept once for each slot and reason.
3. A change of settings is said as soon as it is planned, because nobody else would say it. Where
   that fails it is in no hurry: it is tried again, now and then, until it is kept. A runner that
   comes with other settings than the last plan was made by says so, once in its life: the first
   plan by them may be made a week later, and nobody would know when the schedule changed.
"""

from uuid import NAMESPACE_OID, uuid5

from turnwise.actions import Append
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.events import Event, NoTurn
from turnwise.gate import Command, CommandName, Execution, Gate, Row
from turnwise.machine.state import State
from turnwise.plan import CyclePlan, Plan, Target
from turnwise.storages import Entry
from turnwise.texts import row_to_text


def unkept(state: State, gate: Gate) -> tuple[Entry, ...]:
    """What the gate says that the history may not know."""
    return tuple(_entry(row) for row in gate.unsaid if row.id not in state.kept)


def appended(state: State, asked: Append) -> None:
    """The history has these rows. What it had before still counts while the gate says it."""
    gate = None if state.records is None else state.records.gate
    if state.turn is not None:
        gate = state.turn.gate
    said = set() if gate is None else {row.id for row in gate.unsaid}
    state.kept = frozenset(entry.id for entry in asked.entries) | (state.kept & said)


def note(
    state: State, cycle: CyclePlan, position: int, reason: str, message: str, now: int
) -> list[Event] | None:
    """Keep a BLOCKED row; None where this slot has one for this reason."""
    slot = cycle.slot(position)
    if state.noted == (slot.start, reason):
        return None
    state.noted = (slot.start, reason)
    identity = (state.group, state.service, state.runner_id, slot.start, reason)
    row = Execution(
        id=_id_of(identity),
        runner_id=state.runner_id,
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
    state.then = Append((_entry(row),))
    told = NoTurn(
        **state.named, reason=reason, message=message, due=cycle.due, slot_start=slot.start
    )
    return [told]


def say_settings(state: State, before: Plan | None, target: Target) -> None:
    """Keep in the history that other settings hold from here on than in the plan before."""
    if before is not None and before.cycles[-1].settings == target.settings:
        return
    at = target.cycle.start
    row = Command(
        id=_id_of((state.group, state.service, at, target.settings)),
        name=CommandName.SETTINGS,
        at=at,
        by=state.runner_id,
        settings=state.settings_text,
    )
    _keep(state, row)


def say_offered(state: State, now: int) -> None:
    """Keep in the history that we have come with other settings than the last plan was made by."""
    plan = state.seen.plan
    if state.has_said_offer or not state.is_offered or plan is None:
        return
    state.has_said_offer = True
    before = plan.cycles[-1].settings
    if not state.may_run or before == state.planner.settings:
        return
    # The whole deploy says it once.
    identity = (state.group, state.service, state.seen.plan_version or "", state.planner.settings)
    row = Command(
        id=_id_of(identity),
        name=CommandName.OFFERED,
        at=now,
        by=state.runner_id,
        settings=state.settings_text,
    )
    _keep(state, row)


def _keep(state: State, row: Command) -> None:
    """Have a row appended when there is nothing more urgent to do."""
    before = () if state.to_keep is None else state.to_keep.entries
    state.to_keep = Append((*before, _entry(row)))


def _id_of(identity: tuple[str | int, ...]) -> str:
    """One id for one thing that has happened, whoever says it, and however often."""
    return str(uuid5(NAMESPACE_OID, repr(identity)))


def _entry(row: Row) -> Entry:
    return Entry(row.id, row.at, row.kind, row_to_text(row))
