"""What came of a request: each kind of answer goes to the room that asked for it.

A request whose answer is lost is never simply sent again. The machine waits a little, longer each
time, looks, and finds out what became of it.
"""

from typing import Final

from turnwise.actions import (
    Advance,
    Answer,
    Append,
    Done,
    Failed,
    FindStable,
    ListOffers,
    Look,
    MakeOffer,
    NotSent,
    Offered,
    OffersListed,
    Purge,
    Request,
    Seen,
    Swap,
)
from turnwise.events import Event
from turnwise.machine import closing, history, looking, planning
from turnwise.machine.state import State
from turnwise.storages import StableSet, Swapped

_FIRST_BACKOFF: Final = 100_000
_MOST_DOUBLINGS: Final = 20
_TRIES_WHILE_LOCKED: Final = 10  # in a heartbeat interval, at a record that is locked
_TRIES_APART: Final = 10  # heartbeat intervals between two tries to keep what is in no hurry


def answered(  # noqa: C901, PLR0911 (a row for each request)
    state: State, at: int, answer: Answer
) -> list[Event]:
    """Take the answer to the request that is on its way; give what there is to tell."""
    asked, state.asked = state.asked, None
    if asked is None:
        raise RuntimeError(f"{state.service}: {answer!r} answers nothing that was asked")
    if isinstance(answer, Failed):
        failed(state, at, asked)
        return []
    if isinstance(answer, NotSent):
        state.purpose = state.target = state.doubted = None
        state.look_now(at)
        return []
    state.failures, state.retry_at = 0, None
    match asked, answer:
        case Look(), Seen():
            return looking.looked(state, at, answer)
        case Swap(), Swapped():
            return _swapped(state, at, answer)
        case FindStable(), StableSet():
            if planning.stable_found(state, at, answer):
                return looking.act(state, at, state.seen)  # go on from the look
            return []
        case ListOffers(), OffersListed():
            planning.offers_listed(state, answer)
            return []
        case MakeOffer(), Offered():
            state.is_offered = True
            state.look_now(at)
            return []
        case Append(), Done():
            _appended(state, at, asked)
            return []
        case Purge(), Done():
            closing.purged(state, at)
            return []
        case Advance(), Done():
            return []
    raise RuntimeError(f"{state.service}: {answer!r} is no answer to {asked!r}")


def _swapped(state: State, at: int, answer: Swapped) -> list[Event]:
    purpose, state.purpose = state.purpose, None
    assert purpose is not None  # noqa: S101 (each swap has one)
    if answer.busy:  # a transaction of a job's has locked the record, perhaps for long
        state.retry_at = at + max(_FIRST_BACKOFF, state.interval // _TRIES_WHILE_LOCKED)
    return purpose(state, at, answer)


def _appended(state: State, at: int, asked: Append) -> None:
    if asked == state.to_keep:
        state.to_keep = None
        return
    history.appended(state, asked)
    if state.turn is None:
        state.look_now(at)  # it was a BLOCKED row: go on from where the look left off
    else:
        closing.let_go_if_over(state, at)


def failed(state: State, at: int, asked: Request) -> None:
    """The answer is lost: wait a little, look, and find out."""
    state.purpose = state.target = None
    state.doubted = None  # whether anybody is left was not answered: ask again
    if state.trusted is not None:
        state.trusted = (state.trusted[0], None)
    delay = _FIRST_BACKOFF << min(state.failures, _MOST_DOUBLINGS)
    state.failures += 1
    state.retry_at = at + min(delay, state.interval)
    state.look_now(at)
    match asked:
        case Append() if asked == state.to_keep:
            state.keep_from = at + _TRIES_APART * state.interval
        case Append():
            state.tried_to_keep = True  # the rows stay in the gate for whoever comes by
            closing.let_go_if_over(state, at)
        case Purge():
            closing.purged(state, at)
        case Swap():
            if state.admitting is not None:
                state.unsettled, state.admitting = state.admitting, None
            if state.turn is not None and state.turn.outcome is not None:
                state.turn.version = ""  # whether it is recorded must be looked up
