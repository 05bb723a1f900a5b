"""Watching a run of somebody else, and burying it.

A run is dead when it was seen open, with the same word of its owner, for the run's own heartbeat
timeout: from the arrival of the first answer that shows it to the departure of the last request
that still does. Or when its owner has left.
"""

from functools import partial
from typing import Final

from turnwise import gate as gates
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.events import Event, RunBuried
from turnwise.gate import Gate, Run
from turnwise.machine.state import Purpose, Sighting, State, look_again
from turnwise.storages import Sight, Swapped

_WITHOUT_ANSWER: Final = 3  # heartbeat intervals between two answers, and the storage was away


def observe(state: State, sight: Sight | None, sent: int, at: int) -> None:
    """An answer shows what is open: has its owner said anything new?"""
    if sight is None or state.turn is not None:
        state.dead = state.sighting = None
        return
    state.dead = None
    run_id = sight.owner.run_id
    seen = state.sighting
    new = seen is None or (seen.run_id, seen.word) != (run_id, sight.word)
    if seen is None or new or at - seen.last > _WITHOUT_ANSWER * state.interval:
        state.sighting = seen = Sighting(run_id, sight.word, at, at)
    elif at > seen.last:
        state.sighting = seen = Sighting(run_id, seen.word, seen.since, at)
    if sight.left or sent - seen.since >= sight.owner.heartbeat_timeout:
        state.dead = run_id


def is_ours_or_dead(state: State, run: Run) -> bool:
    """Whether an open run is one of this life that nothing works on, or one that is dead."""
    ours = (run.runner_id, run.boot_id) == (state.runner_id, state.boot_id)
    return ours or run.run_id == state.dead


def close(state: State, gate: Gate, run: Run, now: int) -> None:
    """Bury a run; one of our own that never began ends as ``no_margin``."""
    if run.run_id == state.dead:
        closed = gates.bury(gate, run.run_id, now=now)
        purpose: Purpose = partial(_buried, run=run)
    else:
        closed = gates.finish(
            gate, run.run_id, now=now, status=Status.ABANDONED, reason=gates.NO_MARGIN
        )
        purpose = look_again
    assert isinstance(closed, Gate)  # noqa: S101 (the run is open)
    state.swap_gate(closed, purpose)


def _buried(state: State, at: int, answer: Swapped, *, run: Run) -> list[Event]:
    look_again(state, at, answer)
    if not answer.done:
        return []
    state.dead = None
    return [RunBuried(**state.of(run), owner=run.runner_id)]
