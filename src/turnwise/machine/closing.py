"""Closing a turn: its end is recorded in the gate, then told to the history, then let go.

How a turn ended is kept, and tried again, until it is recorded, or until a look shows that somebody
else has closed the run. A turn whose end was handed over to a transaction of the job's is closed as
failed in the same way: where that succeeds it was not completed, and where the run is closed
already, the gate says what became of it.
"""

from dataclasses import replace
from functools import partial
from typing import Final

from turnwise import gate as gates
from turnwise.actions import Action, Append, Look, Purge, Wait
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import microseconds
from turnwise.events import Event, TurnEnded
from turnwise.gate import Gate
from turnwise.machine.history import unkept
from turnwise.machine.state import Records, State, TurnState, gate_swap
from turnwise.storages import Swapped

_TURNS_PER_PURGE: Final = 64
_SILENT_FOR_GOOD: Final = 86_400_000_000  # a day: whoever was silent for longer is history


def finishing(state: State, turn: TurnState) -> Action:
    """Record how the turn ended; where the gate may have changed, look first."""
    assert turn.outcome is not None  # noqa: S101 (as the caller knows)
    assert turn.ended_at is not None  # noqa: S101 (set together)
    if not turn.version:
        return Look()
    now = state.storage_now(turn.ended_at)
    assert now is not None  # noqa: S101 (a turn was admitted)
    status, reason = turn.outcome
    kept = gates.without(turn.gate, state.kept)
    ended = gates.finish(
        kept, turn.run.run_id, now=max(now, turn.run.started_at), status=status, reason=reason
    )
    assert isinstance(ended, Gate)  # noqa: S101 (a version is kept only with the run open)
    swap = gate_swap(turn.version, ended, state.names(), None)
    state.purpose = partial(_finished, ended=ended, version=swap.new.version)
    return swap


def _finished(state: State, at: int, answer: Swapped, *, ended: Gate, version: str) -> list[Event]:
    state.aim_at(answer.now, state.asked_at, at)
    turn = state.turn
    assert turn is not None  # noqa: S101 (it is kept until it is recorded)
    if not answer.done:
        turn.version = ""
        return []
    return _record(state, turn, at, ended, version, recorded=True)


def look_after_turn(state: State, turn: TurnState, at: int, records: Records) -> list[Event]:
    """A look while a turn's end is to be recorded: is the run still open?"""
    gate, version = records.gate, records.gate_version
    if gate is not None and gate.open is not None and gate.open.run_id == turn.run.run_id:
        turn.gate, turn.version = gate, version or ""
        return []
    became = _became(gate, turn.run.run_id)
    if turn.handed_over and became == _COMPLETED:
        turn.outcome = became
    return _record(state, turn, at, gate, version, recorded=became == turn.outcome)


_COMPLETED: Final = (Status.COMPLETED, "")


def _became(gate: Gate | None, run_id: str) -> tuple[Status, str] | None:
    """How a run was closed; None where the gate does not say so any more."""
    if gate is None:
        return None
    if gate.success is not None and gate.success.run_id == run_id:
        return _COMPLETED
    said = gates.said_of(gate, run_id)
    return None if said is None else (said.status, said.reason)


def _record(
    state: State,
    turn: TurnState,
    at: int,
    gate: Gate | None,
    version: str | None,
    *,
    recorded: bool,
) -> list[Event]:
    """The turn's end is known to the gate, by us or by somebody else."""
    assert turn.outcome is not None  # noqa: S101 (as the callers know)
    assert turn.ended_at is not None  # noqa: S101 (set together)
    turn.recorded, turn.gate = True, gate or gates.new_gate(turn.run.due)
    state.purge_is_due = state.turns % _TURNS_PER_PURGE == 0
    state.turns += 1
    state.tried_to_keep = False
    state.records = replace(state.seen, gate=gate, gate_version=version)
    status, reason = turn.outcome
    ended = TurnEnded(
        **state.of(turn.run),
        status=status,
        reason=reason,
        attempt=turn.run.attempt,
        took=0 if turn.began_at is None else turn.ended_at - turn.began_at,
        recorded=recorded,
    )
    let_go_if_over(state, at)
    return [ended]


def after_the_end(state: State, turn: TurnState, at: int) -> Action:
    """What is left to do once the end is recorded: tell the history, and now and then purge."""
    if has_rows_to_append(state, turn):
        return Append(unkept(state, turn.gate))
    if not state.purge_is_due or turn.still_runs:
        return Wait(None)
    now = state.storage_now(at)
    assert now is not None  # noqa: S101 (a turn was admitted)
    return Purge(
        before=now - microseconds(state.settings.retention_age),
        keep=state.settings.retention_count,
        # Changes of settings and pauses stay, so that what is old can be judged by them.
        spare=("command",),
        silent_before=now - max(_SILENT_FOR_GOOD, 10 * state.timeout),
    )


def has_rows_to_append(state: State, turn: TurnState) -> bool:
    """Whether the history may not know all that the gate says, and was not told in vain."""
    return not state.tried_to_keep and any(row.id not in state.kept for row in turn.gate.unsaid)


def purged(state: State, at: int) -> None:
    """The old rows are gone, or will be another time."""
    state.purge_is_due = False
    let_go_if_over(state, at)


def let_go_if_over(state: State, at: int) -> None:
    """Forget a turn that is recorded, kept in the history, and does not run any more."""
    turn = state.turn
    if turn is None or not turn.recorded or turn.still_runs:
        return
    if state.purge_is_due or has_rows_to_append(state, turn):
        return
    state.turn = None
    now, records = state.storage_now(at), state.records
    if now is None or records is None or records.gate is None:
        state.look_now(at)
    elif records.gate.trigger is not None:
        state.look_now(at)  # it may start behind the turn, in the same slot
    else:
        state.wait_for_chance(now)
