"""The shipped code with one repair taken out, for as long as a test wants it.

Each break undoes what was put in after an interleaving had shown why; the explorer must find it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from turnwise import gate as gates
from turnwise import looks, machine
from turnwise import plan as plans
from turnwise.actions import FunctionEnded, Look, Swap
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.machine import (
    answering,
    asking,
    closing,
    history,
    looking,
    planning,
    state,
    turns,
    watching,
)
from turnwise.machine.state import Sighting, State, gate_swap, look_again
from turnwise.storages import Sight, Swapped
from turnwise.storages.memory import MemoryStorage
from turnwise.storages.memory_group import Group

Break = Callable[[], AbstractContextManager[object]]


def silence_from_the_answer() -> AbstractContextManager[object]:
    """Silence counts from the arrival of the admission's answer, not from the look."""
    take = asking.take_turn

    def late(state: State, at: int, admitted: Any, deadline: int) -> None:
        take(state, at, replace(admitted, looked_at=at), deadline)

    return patch.object(asking, "take_turn", late)


def lost_and_found() -> AbstractContextManager[object]:
    """A turn that was silent for its timeout is its runner's again after a heartbeat."""
    confirm = turns.confirm

    def forgiving(state: State, at: int, heard: Any) -> Any:
        turn = state.turn
        if turn is not None and turn.run.run_id in heard.pulse.open_runs:
            turn.lost, turn.confirmed_at = False, heard.sent
        return confirm(state, at, heard)

    return patch.object(looking, "confirm", forgiving)


@contextmanager
def lost_turns_dropped() -> Iterator[None]:
    """A turn that is lost is dropped when its function ends, and nobody closes its run."""
    ended = turns.function_ended

    def dropping(state: State, at: int, what: FunctionEnded) -> Any:
        if state.turn is not None and state.turn.is_lost(at):
            state.turn = None
            state.look_now(at)
            return []
        return ended(state, at, what)

    def only_dead(state: State, run: gates.Run) -> bool:
        return run.run_id == state.dead

    with (
        patch.object(turns, "function_ended", dropping),
        patch.object(looking, "is_ours_or_dead", only_dead),
    ):
        yield


def any_heartbeat_keeps_alive() -> AbstractContextManager[object]:
    """The word of an owner is its newest heartbeat, whatever runs that names."""
    sight = Group.sight

    def any_word(self: Group, service: str) -> Sight | None:
        seen = sight(self, service)
        if seen is None:
            return None
        life = self.lives.get((seen.owner.runner_id, seen.owner.boot_id))
        return replace(seen, word=life.beat_count if life else None)

    return patch.object(Group, "sight", any_word)


def no_boot_id() -> AbstractContextManager[object]:
    """The word of an owner is that of whichever life of its id was heard of last."""
    sight = Group.sight

    def any_life(self: Group, service: str) -> Sight | None:
        seen = sight(self, service)
        if seen is None:
            return None
        lives = [life for (name, _), life in self.lives.items() if name == seen.owner.runner_id]
        newest = max(lives, key=lambda life: life.heard_at, default=None)
        return replace(seen, word=newest.heard_at if newest else None)

    return patch.object(Group, "sight", any_life)


def confirmed_without_a_row() -> AbstractContextManager[object]:
    """A heartbeat that found no row confirms the run all the same."""
    confirm = turns.confirm

    def believing(state: State, at: int, heard: Any) -> Any:
        return confirm(state, at, replace(heard, pulse=replace(heard.pulse, found=True)))

    return patch.object(looking, "confirm", believing)


def one_word_for_two() -> AbstractContextManager[object]:
    """A row that does not name the run and a row that is lost are one word."""
    sight = Group.sight

    def one_word(self: Group, service: str) -> Sight | None:
        seen = sight(self, service)
        return None if seen is None else replace(seen, word=seen.word or None)

    return patch.object(Group, "sight", one_word)


def silence_until_the_answer() -> AbstractContextManager[object]:
    """An observer counts up to the arrival of its last answer, not to the request's departure."""
    observe = watching.observe

    def hasty(state: State, sight: Sight | None, _sent: int, at: int) -> None:
        observe(state, sight, at, at)

    return patch.object(looking, "observe", hasty)


def dead_by_storage_time() -> AbstractContextManager[object]:
    """An observer counts on the storage's clock."""

    def by_storage(state: State, sight: Sight | None, *_: int) -> None:
        state.dead = None
        if sight is None or state.turn is not None:
            state.sighting = None
            return
        assert state.aim is not None
        now, run_id, seen = state.aim[0], sight.owner.run_id, state.sighting
        if seen is None or (seen.run_id, seen.word) != (run_id, sight.word):
            state.sighting = seen = Sighting(run_id, sight.word, now, now)
        if sight.left or now - seen.since >= sight.owner.heartbeat_timeout:
            state.dead = run_id

    return patch.object(looking, "observe", by_storage)


def observers_timeout() -> AbstractContextManager[object]:
    """An observer goes by its own heartbeat timeout, not by the run's."""
    observe = watching.observe

    def own(state: State, sight: Sight | None, sent: int, at: int) -> None:
        if sight is not None:
            sight = replace(sight, owner=replace(sight.owner, heartbeat_timeout=state.timeout))
        observe(state, sight, sent, at)

    return patch.object(looking, "observe", own)


def not_after_ignored() -> AbstractContextManager[object]:
    """A storage carries out a swap however late it comes."""
    swap: Any = MemoryStorage.swap

    def late(self: MemoryStorage, *what: Any) -> Swapped:
        *rest, _ = what
        answer: Swapped = swap(self, *rest, None)
        return answer

    return patch.object(MemoryStorage, "swap", late)


def only_the_last_key() -> AbstractContextManager[object]:
    """A gate remembers the last period that was served, and no other."""

    def last(gate: gates.Gate, key: int, **_: int) -> bool:
        return key <= gate.floor or key in gate.served[-1:]

    return patch.object(gates, "is_served", last)


def no_horizon() -> AbstractContextManager[object]:
    """Periods that were served count, however far ahead of now they lie."""
    return patch.object(gates, "horizon", lambda *_: 10**18)


def ahead_is_alive() -> AbstractContextManager[object]:
    """A heartbeat that lies ahead of now counts as a sign of life."""
    stable = Group.stable

    def forgiving(self: Group, service: str, now: int) -> list[tuple[int, str]]:
        latest = max((life.heard_at for life in self.lives.values()), default=now)
        if latest <= now:
            return stable(self, service, now)
        seen = self.copy()
        for key, life in self.lives.items():
            seen.lives[key] = life._replace(heard_at=min(life.heard_at, now))
        return stable(seen, service, now)

    return patch.object(Group, "stable", forgiving)


def no_settling() -> AbstractContextManager[object]:
    """An admission whose answer was lost is forgotten."""
    failed = answering.failed

    def forgetful(state: State, at: int, asked: Any) -> None:
        state.admitting = None
        failed(state, at, asked)

    return patch.object(answering, "failed", forgetful)


def late_heartbeats_count() -> AbstractContextManager[object]:
    """A heartbeat changes its row, whatever its count is."""
    beat = Group.beat

    def any_count(self: Group, what: Any, now: int) -> bool:
        key = (what.runner_id, what.boot_id)
        if (life := self.lives.get(key)) is not None:
            self.lives[key] = life._replace(beat_count=-1)
        return beat(self, what, now)

    return patch.object(Group, "beat", any_count)


@contextmanager
def plans_for_ever() -> Iterator[None]:
    """A plan counts, however far away its cycles lie, and nobody looks at what lies before it."""
    with (
        patch.object(plans, "in_force", lambda plan, *_: plan),
        patch.object(looks, "_gap", lambda *_: []),
    ):
        yield


def void_plans_stay() -> AbstractContextManager[object]:
    """Nobody asks whether anybody of a plan is left."""
    return patch.object(planning, "may_be_void", lambda *_: False)


def plans_while_stepped_back() -> AbstractContextManager[object]:
    """Who sees that the storage's clock has stepped back plans at once."""
    plan_ahead: Any = planning.plan_ahead

    def hasty(state: State, *rest: Any) -> Any:
        state.quiet_until = None
        return plan_ahead(state, *rest)

    return patch.object(looking, "plan_ahead", hasty)


def no_second_look() -> AbstractContextManager[object]:
    """Who lost a swap asks again for what it had read before."""
    follow = machine._next

    def stubborn(state: State, at: int) -> Any:
        action = follow(state, at)
        last = getattr(state, "lost", None)
        if isinstance(action, Look) and last is not None and state.turn is None:
            state.purpose = look_again
            return last
        if isinstance(action, Swap) and action.expected is not None:
            state.lost = action  # type: ignore[attr-defined]
        return action

    return patch.object(machine, "_next", stubborn)


def outcome_dropped() -> AbstractContextManager[object]:
    """How a turn ended is dropped where the storage does not take it at once."""
    failed = answering.failed

    def dropping(state: State, at: int, asked: Any) -> None:
        turn = state.turn
        failed(state, at, asked)
        if isinstance(asked, Swap) and turn is not None and turn.outcome is not None:
            turn.outcome = (Status.ABANDONED, gates.LOST)

    return patch.object(answering, "failed", dropping)


def starts_late() -> AbstractContextManager[object]:
    """A function starts although its turn was lost between the admission and now."""
    follow = turns.next_of_turn

    def late(state: State, turn: Any, at: int) -> Any:
        if turn.outcome is None and turn.began_at is None:
            return follow(state, turn, min(at, turn.confirmed_at))
        return follow(state, turn, at)

    return patch.object(turns, "next_of_turn", late)


def keeps_one_row() -> AbstractContextManager[object]:
    """Which rows of a gate the history has is known of the last append alone."""
    appended = history.appended

    def forgetful(state: State, asked: Any) -> None:
        state.kept = frozenset()
        appended(state, asked)

    return patch.object(history, "appended", forgetful)


@contextmanager
def counted_versions() -> Iterator[None]:
    """A gate's version is one more than the version that it takes the place of."""

    def counted(expected: str | None, new: Any, _: str, not_after: int | None) -> Any:
        number = int((expected or "<gate.0.0>").strip("<>").rsplit(".", 1)[1])
        return gate_swap(expected, new, f"<gate.0.{number + 1}>", not_after)

    with patch.object(state, "gate_swap", counted), patch.object(closing, "gate_swap", counted):
        yield
