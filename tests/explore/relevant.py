"""What of a process's knowledge can still play a part: all else has no place in a state.

A state that says less is met again sooner. Each thing that is left out here is one that no rule
reads before it is replaced; beside it stands why. None of it leaves a step out, nor a check: the
world keeps everything, and only whether two worlds count as one is decided by less. That they may
is tried as well: :mod:`explore.twins` compares the steps of two that count as one, and a search by
what a state says with one by all that there is.

Three things are said in another way than they are kept:

- An instant that has passed, where all that is asked is whether it has (:func:`_past`).
- How many heartbeats a life has sent (:func:`explore.canon.beat_name`): all that is asked is
  whether two counts are equal, so that a count is a name, as a version is. Where a heartbeat may
  arrive late, or a runner has two lives, it is asked which one is larger, and the world adds the
  numbers.
- What was read before, where a new look comes before anybody asks for it (:func:`_records`).
"""

from dataclasses import dataclass
from typing import Final

from explore.canon import beat_name, life_of, revision
from turnwise.actions import Append, FindStable, ListOffers, Look
from turnwise.heartbeat import Heartbeat
from turnwise.machine import TurnState
from turnwise.machine.state import Records, Sighting, State
from turnwise.storages import Sight

_AS_IT_IS: Final = (
    *("purpose", "then", "failures", "quiet_until", "blocked_by", "used_slot", "tried"),
    *("asked_in", "noted", "admitting", "unsettled", "turns", "purge_is_due", "kept"),
    *("tried_to_keep", "to_keep", "has_said_offer", "target", "tells_all", "told_settings"),
    *("owed", "unplanned", "is_wanted", "is_offered", "is_drained", "is_stopping", "asked"),
)
SAID_OTHERWISE: Final = frozenset(
    {
        *("asked_at", "retry_at", "wake", "soon", "aim", "records", "revision", "sighting", "dead"),
        *("offer_from", "turn", "keep_from", "doubted", "trusted", "planning"),
    }
)
CONSTANT: Final = frozenset(
    {
        *("group", "service", "runner_id", "boot_id", "settings", "planner", "settings_text"),
        *("timeout", "interval", "names", "named", "may_run", "on_demand"),
    }
)
_OLD_NEWS: Final = (FindStable, ListOffers)
"""Requests after whose answer a machine goes on from the look that it had before."""
_STALE: Final = 3  # heartbeat intervals, as in turnwise.machine.watching


def known_fields() -> frozenset[str]:
    """The fields of a machine's state that are accounted for here; a test holds them to it."""
    return frozenset(_AS_IT_IS) | SAID_OTHERWISE | CONSTANT


def of_machine(state: State, at: int, sent: list[int]) -> list[object]:
    """What a machine knows at ``at`` that matters from there, but for its sighting.

    Args:
        state: the machine's.
        at: the time.
        sent: when the requests left that are on their way.
    """
    goes_on = isinstance(state.asked, _OLD_NEWS) or isinstance(state.then, _OLD_NEWS)
    turn = state.turn
    known = [getattr(state, name) for name in _AS_IT_IS]
    known += [
        state.asked_at if state.asked is not None else 0,
        _past(state.retry_at, at),
        _past(state.offer_from, at),
        _past(state.keep_from, at),
        revision(state.revision),
        _doubt(state.doubted),
        _doubt(state.trusted),
        # The next answer says anew whether a run is dead.
        state.dead if goes_on else None,
        _aim(state.aim, sent),
        _planning(state),
        *_records(state, goes_on=goes_on),
        *_of_turn(state, turn, at),
    ]
    if turn is None:
        known += [at if state.soon is not None and state.soon <= at else state.soon, state.wake]
    # With a turn nobody looks by the clock, and its end sets anew when to look, or looks at once.
    return known


def _past(instant: int | None, at: int) -> int | None:
    """An instant of which it is asked alone whether it has passed; None where it has."""
    return None if instant is None or instant <= at else instant


def _doubt(doubt: tuple[object, ...] | None) -> tuple[object, ...] | None:
    if doubt is None:
        return None
    version, number, *rest = doubt
    assert number is None or isinstance(number, int)
    return (version, revision(number), *rest)


def _aim(aim: tuple[int, int] | None, sent: list[int]) -> object:
    """How the two clocks lie. When that was found is asked of what was sent before, alone."""
    if aim is None:
        return None
    now, at = aim
    return now - at if all(each >= at for each in sent) else aim


def _planning(state: State) -> tuple[object, ...] | None:
    """A plan that is swapped in: of what it was made on, what is told asks for the plan alone."""
    planning = state.planning
    if planning is None:
        return None
    return (planning.version, planning.records.plan, planning.target)


def _records(state: State, *, goes_on: bool) -> tuple[object, ...]:
    """What the last look showed.

    Whoever waits, or is looking, has it replaced before it is read. When the look left, and what
    the storage's now was, is asked only where the machine goes on from there. A turn keeps its own
    gate, and asks for the one that was seen only once it is recorded.
    """
    records, asked, then, turn = state.records, state.asked, state.then, state.turn
    waits = asked is None and then is None and turn is None
    if records is None or isinstance(asked, Look) or waits:
        return ()
    if goes_on:
        return (records,)
    if turn is None:
        return _but_when(records)
    return (records.plan, records.gate if turn.recorded else None)


def _but_when(records: Records) -> tuple[object, ...]:
    return (records.plan_version, records.gate_version, records.plan, records.gate)


def _of_turn(state: State, turn: TurnState | None, at: int) -> tuple[object, ...]:
    """A turn: what matters at work, while its end is recorded, and once it is."""
    if turn is None:
        return ()
    if state.settings.timeout is not None:
        return (turn,)
    if turn.recorded:
        return (turn.run.run_id, turn.gate.unsaid, turn.still_runs)
    if turn.outcome is not None:
        return _ended(state, turn)
    # A turn that is lost asks no more when it was confirmed; nor does one that is about to be.
    confirmed = None if turn.is_lost(at) else turn.confirmed_at
    flags = (turn.lost, turn.handed_over, turn.still_runs)
    if turn.began_at is None:
        return (turn, confirmed)
    # What was handed over is not recorded on what is known here: it looks first.
    gate, version = turn.gate, turn.version
    known = (gate.unsaid,) if turn.handed_over else (gate, version)
    return (turn.run, *known, confirmed, turn.began_at, flags)


def _ended(state: State, turn: TurnState) -> tuple[object, ...]:
    """A turn whose end is to be recorded: nobody asks when it was confirmed, or began.

    When it ended is history; the gate asks for it only to forget what lies ten minutes ahead.
    Whether it was lost is checked in the step that ends it. Without a version it looks first, and
    then has another gate.
    """
    known: tuple[object, ...] = (turn.gate, turn.version)
    if not turn.version:
        known = (turn.gate.unsaid,) if isinstance(state.asked, Append) else ()
    return (turn.run, *known, turn.outcome, turn.handed_over, turn.still_runs)


def of_heartbeat(heart: Heartbeat, at: int) -> list[object]:
    """What a heartbeat knows at ``at`` that matters from there.

    While one is on its way its answer says when the next is due.
    """
    sent = heart._sent
    life = f"{heart.runner_id}.{heart.boot_id}"
    return [
        beat_name(life, heart._count),
        heart.has_joined,
        sent,
        max(heart._due, at) if sent is None else None,
        heart._is_hurried,
        heart._others,
        heart._told,
    ]


@dataclass(frozen=True, slots=True)
class Seen:
    """What is seen of an open run, by whom, at ``at``."""

    sighting: Sighting | None
    interval: int
    at: int


def of_sighting(seen: Seen, shown: list[Sight], sent: list[int], *, late: bool) -> object:
    """What was seen of an open run that can still make its owner dead.

    Args:
        seen: what was seen.
        shown: the open run as it is kept, and as the answers show it that are on their way.
        sent: when the requests left that are on their way.
        late: whether a heartbeat that was given up may still arrive.
    """
    sighting = seen.sighting
    if sighting is None or seen.at - sighting.last > _STALE * seen.interval:
        return None  # after so long without an answer, the next one counts anew
    of_this_run = [sight for sight in shown if sight.owner.run_id == sighting.run_id]
    if all(sight.word != sighting.word for sight in of_this_run):
        # A word that its owner has gone beyond never comes again, unless a late request writes it.
        words = [sight.word or 0 for sight in of_this_run]
        comes_again = not sighting.word or (late and all(w <= sighting.word for w in words))
        if not of_this_run or not comes_again:
            return None
    timeout = min(sight.owner.heartbeat_timeout for sight in of_this_run)
    # Where it has lasted for the timeout, it does not matter how much longer.
    since = max(sighting.since, min([seen.at, *sent]) - timeout)
    word = beat_name(life_of(sighting.run_id), sighting.word)
    return (sighting.run_id, word, since, sighting.last)
