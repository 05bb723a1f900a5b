"""A turn in progress: it is started, watched and confirmed, until its function has ended.

1. **Silence is counted from the look that led to the admission.** A turn that was silent for its
   heartbeat timeout at any time since then is lost for good, whatever arrives later.
2. A heartbeat confirms a turn from before it left, and only where its answer found our row and the
   run open.
3. A turn that has taken longer than the service's timeout is overdue, and lost. It is still its
   runner's to end.
4. A function that has handed over the end of its run to a transaction of its own is not believed:
   the turn counts as failed, until the gate says that it was completed.
"""

from turnwise import gate as gates
from turnwise.actions import Action, Append, FunctionEnded, HandedOver, Heard, Serve, Wait
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import microseconds
from turnwise.events import Event, TurnLost, TurnOverdue, TurnStarted
from turnwise.machine.closing import after_the_end, finishing, has_rows_to_append, let_go_if_over
from turnwise.machine.history import unkept
from turnwise.machine.state import State, TurnState


def next_of_turn(state: State, turn: TurnState, at: int) -> Action:
    """What to do for a turn: start it, watch it, record its end, and what comes after that."""
    if turn.recorded:
        return after_the_end(state, turn, at)
    if turn.outcome is None and turn.began_at is None:
        if not turn.is_lost(at) and at < turn.deadline:
            return Serve(turn.run, turn.last_served)
        # The process was suspended between the admission's answer and here.
        turn.end(Status.ABANDONED, gates.NO_MARGIN, at)
    if turn.outcome is not None:
        return finishing(state, turn)
    if has_rows_to_append(state, turn):
        return Append(unkept(state, turn.gate))
    return Wait(next_watch(state, turn))


def next_watch(state: State, turn: TurnState) -> int | None:
    """When the turn is lost, or overdue, unless something else happens."""
    instants = []
    if not turn.lost:
        instants.append(turn.confirmed_at + turn.run.heartbeat_timeout)
    if not turn.overdue and state.settings.timeout is not None and turn.began_at is not None:
        instants.append(turn.began_at + microseconds(state.settings.timeout))
    return min(instants, default=None)


def begun(state: State, at: int) -> list[Event]:
    """The function runs."""
    turn = state.turn
    assert turn is not None  # noqa: S101 (it was asked to be served)
    turn.began_at = at
    run = turn.run
    started = TurnStarted(
        **state.of(run),
        attempt=run.attempt,
        started_at=run.started_at,
        triggered=run.trigger is not None,
    )
    return [started, *watch(state, at)]


def watch(state: State, at: int) -> list[Event]:
    """Tell a turn that is lost, or that has taken too long."""
    turn = state.turn
    if turn is None or turn.began_at is None or turn.ended_at is not None:
        return []
    events: list[Event] = []
    if not turn.lost and turn.is_lost(at):
        turn.lost = True
        silent = (at - turn.confirmed_at) / 1_000_000
        limit = turn.run.heartbeat_timeout / 1_000_000
        why = f"no heartbeat was confirmed for {silent:.1f} s; the timeout is {limit:g} s"
        events.append(TurnLost(**state.of(turn.run), why=why))
    timeout = state.settings.timeout
    if timeout is not None and not turn.overdue:
        limit_us = microseconds(timeout)
        if at - turn.began_at >= limit_us:
            turn.overdue = turn.lost = True
            events.append(TurnOverdue(**state.of(turn.run), timeout=limit_us))
            if state.settings.release_on_timeout:
                turn.end(Status.ABANDONED, gates.TIMEOUT, at)
                turn.still_runs = True
    return events


def confirm(state: State, at: int, heard: Heard) -> list[Event]:
    """What a heartbeat's answer says of the turn at work."""
    turn = state.turn
    if turn is None or not turn.is_at_work or turn.run.run_id not in heard.beat.runs:
        return []
    if turn.run.run_id not in heard.pulse.open_runs:
        if turn.lost:
            return []
        turn.lost = True
        if turn.handed_over:  # most likely its own transaction has: its end will tell
            return []
        return [TurnLost(**state.of(turn.run), why="the storage has closed this run")]
    # One that has only taken too long is still its runner's to end.
    silent = at - turn.confirmed_at >= turn.run.heartbeat_timeout
    given_up = silent or (turn.lost and not turn.overdue)
    if heard.pulse.found and not heard.pulse.left and not given_up:
        turn.confirmed_at = max(turn.confirmed_at, heard.sent)
    return []


def handed_over(state: State, told: HandedOver) -> None:
    """The function is about to change the gate in a transaction of its own."""
    if state.turn is not None and state.turn.run.run_id == told.run_id:
        state.turn.handed_over = True


def function_ended(state: State, at: int, ended: FunctionEnded) -> list[Event]:
    """The function has ended, or could not be started."""
    turn = state.turn
    if turn is None:
        return []
    if turn.outcome is not None:  # it was released at its timeout
        turn.still_runs = False
        let_go_if_over(state, at)
        return []
    events = watch(state, at)  # it may be lost, and nobody has looked since
    if turn.began_at is None:
        turn.began_at = at
    # It may have been released at its timeout just now; it has ended all the same.
    if turn.handed_over:
        reason = gates.NOT_COMMITTED if ended.status is Status.COMPLETED else ended.reason
        turn.end(Status.ABANDONED, reason, at)
        turn.version = ""  # most likely the gate has changed: look first
    else:
        turn.end(ended.status, ended.reason, at)
    turn.still_runs = False
    state.tried_to_keep = False
    return events
