"""Every interleaving of what a few runners ask of the storage, through two whole cycles.

The runners are :class:`~turnwise.rounds.TurnTaker` as it ships, the storage is
:class:`~turnwise.backends.memory.MemoryBackend` or one that a test has broken. A runner's round is
taken apart where it talks to the storage: what it looked at may be old by the time that it asks the
gate, as that of a process that was suspended in between.

A state is all that the storage keeps, where each runner stands, and the time. From each one every
step is tried: a look, the gate, a heartbeat of a turn, an end of it, well or not, a crash, a
restart, and that time goes on to the next instant. A state that was seen is not tried again.
"""

import argparse
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from unittest.mock import patch
from uuid import UUID

from turnwise import AtomicServiceExecutionStatus as Status
from turnwise import AtomicServiceRun, Settings, atomic_service
from turnwise.backends import (
    OWNER_DEAD,
    Admission,
    ExecutionRecord,
    Look,
    Participant,
    dead_at,
)
from turnwise.backends.memory import MemoryBackend, _Service
from turnwise.membership import Cycle, RunnerRecord
from turnwise.old_turn import Turn, TurnLost
from turnwise.rounds import TurnTaker

SERVICE = "service"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)

SETTINGS = Settings(
    interval=12 * SECOND,
    spread_margin=SECOND,
    heartbeat_timeout=3 * SECOND,
    runs_per_cycle="once",
    standbys=2,
)


class Violation(AssertionError):  # noqa: N818 (it says what happened)
    """What may never happen has happened."""


class _AtTheGate(BaseException):
    """A round has come to where it would ask the gate."""


@dataclass(frozen=True, slots=True)
class Holding:
    """A turn that a runner believes to have."""

    run_id: str
    slot_start: datetime | None
    fencing_token: int
    confirmed_at: float
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Actor:
    """Where a runner stands: at rest, before the gate with what it saw, or in a turn; or dead."""

    runner_id: str
    boot: int = 0
    alive: bool = True
    used_slot: datetime | None = None
    refused_slot: datetime | None = None
    saw: Look | None = None
    turn: Holding | None = None


@dataclass(frozen=True, slots=True)
class State:
    """All that there is, in a form that can be compared."""

    instant: int
    fencing_token: int
    runners: tuple[tuple[str, RunnerRecord], ...]
    executions: tuple[tuple[str, ExecutionRecord], ...]
    running: str | None
    served: tuple[tuple[datetime, str], ...]
    frozen: Look | None
    frozen_under: Settings | None
    actors: tuple[Actor, ...]
    seen: tuple[Cycle, str, tuple[str, ...]] | None = None
    crashes: int = 0


class _Wire:
    """What a runner has for a backend: all but the step that is explored comes from the state."""

    def __init__(self, backend: MemoryBackend, saw: Look | None) -> None:
        self._backend = backend
        self._saw = saw
        self.heartbeat = backend.heartbeat
        self.publish_settings = backend.publish_settings
        self.block = backend.block
        self.execution = backend.execution
        self.finish = backend.finish
        self.looked: Look | None = None

    def look(self, service: str, who: Participant, settings: Settings) -> Look:
        self.looked = self._saw or self._backend.look(service, who, settings)
        return self.looked

    def admit(
        self, service: str, run: AtomicServiceRun, settings: Settings, look: Look
    ) -> Admission:
        if self._saw is None:
            raise _AtTheGate
        return self._backend.admit(service, run, settings, look)


class Explorer:
    """Goes through every state that can be reached.

    Args:
        runners: how many.
        make: the storage.
        instants: when something may happen, seconds after the start, within two cycles.
        crashes: how often a runner may be killed, all together.
    """

    def __init__(
        self,
        runners: int,
        *,
        make: Callable[[Callable[[], datetime]], MemoryBackend] = MemoryBackend,
        instants: tuple[float, ...],
        crashes: int = 1,
        settings: Settings = SETTINGS,
    ) -> None:
        self.settings = settings
        self.instants = instants
        self.crashes = crashes
        self.happened: Counter[str] = Counter()
        self.transitions = 0
        self._now = START
        self._backend = make(lambda: self._now)
        self._names = tuple(f"runner-{number}" for number in range(runners))
        self._run_id = UUID(int=0)

    def explore(self) -> int:
        """Visit every state; how many there are.

        Raises:
            Violation: with the steps that lead there.
        """
        with self._ids_of_runs():
            first = self._first()
            origin = hash(first)
            # By their hashes, of 64 bits: the states of a long exploration fill no memory.
            came_by: dict[int, tuple[int, str]] = {origin: (0, "")}
            waiting = deque([(first, origin)])
            while waiting:
                state, origin = waiting.popleft()  # so that the steps to a violation are the fewest
                for step in self._steps(state):
                    self.transitions += 1
                    try:
                        after = self._take(state, step)
                    except Violation as violation:
                        path = [*_path(came_by, origin), step]
                        raise Violation(f"{violation}\nafter: {', '.join(path)}") from violation
                    known = hash(after)
                    if known not in came_by:
                        came_by[known] = (origin, step)
                        waiting.append((after, known))
            return len(came_by)

    @contextmanager
    def _ids_of_runs(self) -> Iterator[None]:
        """The id of a run says whose it is and in which slot: the same steps, the same state."""
        with patch.object(atomic_service, "_fresh_run_id", lambda: str(self._run_id)):
            yield

    def _first(self) -> State:
        """All have joined in time for the first cycle, and are at rest."""
        before = START - self.settings.spread_margin - SECOND
        for at in (before, START - SECOND):
            self._now = at
            for name in self._names:
                self._backend.heartbeat(SERVICE, Participant(name, "0"), self.settings)
        self._backend.publish_settings(SERVICE, self.settings)
        return self._state(0, tuple(Actor(name) for name in self._names), None, 0)

    def _steps(self, state: State) -> list[str]:
        steps = ["time"] if state.instant + 1 < len(self.instants) else []
        for index, actor in enumerate(state.actors):
            if not actor.alive:
                steps.append(f"restart {index}")
                continue
            if state.crashes < self.crashes:
                steps.append(f"crash {index}")
            if actor.turn is not None:
                steps += [f"heartbeat {index}", f"complete {index}", f"fail {index}"]
            else:
                steps.append(f"{'look' if actor.saw is None else 'gate'} {index}")
        return steps

    def _take(self, state: State, step: str) -> State:
        what, _, which = step.partition(" ")
        instant, seen, crashes = state.instant, state.seen, state.crashes
        actors = list(state.actors)
        if what == "time":
            # Nothing else changes, and so nothing need be put back.
            return replace(state, instant=instant + 1)
        self._restore(state)
        index = int(which)
        actor = actors[index]
        if what == "crash":
            actors[index], crashes = Actor(actor.runner_id, actor.boot, alive=False), crashes + 1
        elif what == "restart":
            actors[index] = Actor(actor.runner_id, actor.boot + 1)
        elif what in ("look", "gate"):
            actors[index], look = self._round(actor)
            if what == "look":
                seen = self._require_one_set(seen, look)
        else:
            actors[index] = self._in_turn(actor, what)
        after = self._state(instant, tuple(actors), seen, crashes)
        self._require(state, after)
        return after

    def _round(self, actor: Actor) -> tuple[Actor, Look]:
        """A round until the gate, or on from there."""
        wire = _Wire(self._backend, actor.saw)
        taker = self._taker(actor, wire)
        look = actor.saw or self._backend.peek(SERVICE, self.settings)
        slot = (look.now - look.cycle.start) * self.settings.slots(look.size or 1)
        number = slot // self.settings.interval
        self._run_id = UUID(
            int=(self._names.index(actor.runner_id) << 64)
            + (actor.boot << 32)
            + (look.cycle.number % 1000 << 8)
            + number
        )
        try:
            outcome = taker.begin()
        except _AtTheGate:
            assert wire.looked is not None
            return replace(actor, saw=wire.looked), wire.looked
        assert wire.looked is not None
        actor = replace(
            actor,
            saw=None,
            used_slot=taker._used_slot,
            refused_slot=taker._refused_slot,
        )
        if isinstance(outcome, Turn):
            self.happened["admitted"] += 1
            run = outcome.run
            holding = Holding(
                str(run.atomic_service_run_id),
                run.slot_start,
                outcome.fencing_token,
                outcome._confirmed_at,
            )
            return replace(actor, turn=holding), wire.looked
        if outcome.skip_message:
            self.happened[outcome.skip_message.partition(":")[0]] += 1
        return actor, wire.looked

    def _in_turn(self, actor: Actor, what: str) -> Actor:
        """A heartbeat of a turn, or its end."""
        assert actor.turn is not None
        taker, turn = self._taker(actor, _Wire(self._backend, None)), self._turn(actor)
        if what == "heartbeat":
            taker.heartbeat(turn)
            held = replace(actor.turn, confirmed_at=turn._confirmed_at, lost=turn._lost)
            return replace(actor, turn=held)
        status = Status.COMPLETED if what == "complete" else Status.ABANDONED
        try:
            taker.finish(turn, status, "" if what == "complete" else "exit:1")
            self.happened[what] += 1
        except TurnLost:
            self.happened["lost"] += 1
        return replace(actor, turn=None)

    def _taker(self, actor: Actor, wire: _Wire) -> TurnTaker:
        taker = TurnTaker(
            wire,  # type: ignore[arg-type] # the part of a Backend that it uses
            SERVICE,
            settings=self.settings,
            runner_id=actor.runner_id,
            may_run=True,
            heartbeat_thread=False,
            monotonic=self._monotonic,
            sleep=_no_sleep,
        )
        taker._who = Participant(actor.runner_id, str(actor.boot))
        taker._settings_published = True
        taker._used_slot, taker._refused_slot = actor.used_slot, actor.refused_slot
        return taker

    def _turn(self, actor: Actor) -> Turn:
        held = actor.turn
        assert held is not None
        run = AtomicServiceRun(
            runner_id=actor.runner_id,
            atomic_service_run_id=held.run_id,
            slot_start=held.slot_start,
        )
        turn = Turn(
            run,
            held.fencing_token,
            asked_at=held.confirmed_at,
            deadline=0,
            heartbeat_timeout=self.settings.heartbeat_timeout.total_seconds(),
            monotonic=self._monotonic,
            stop_requested=lambda: False,
        )
        turn._lost = held.lost
        return turn

    def _monotonic(self) -> float:
        return (self._now - START).total_seconds()

    def _restore(self, state: State) -> None:
        self._now = START + timedelta(seconds=self.instants[state.instant])
        kept = self._backend._of(SERVICE)
        kept.fencing_token = state.fencing_token
        kept.runners = dict(state.runners)
        kept.executions = dict(state.executions)
        kept.running = state.running
        kept.served = dict(state.served)
        kept.frozen, kept.frozen_under = state.frozen, state.frozen_under

    def _state(
        self,
        instant: int,
        actors: tuple[Actor, ...],
        seen: tuple[Cycle, str, tuple[str, ...]] | None,
        crashes: int,
    ) -> State:
        kept: _Service = self._backend._of(SERVICE)
        return State(
            instant,
            kept.fencing_token,
            tuple(sorted(kept.runners.items())),
            tuple(sorted(kept.executions.items())),
            kept.running,
            tuple(sorted(kept.served.items())),
            kept.frozen,
            kept.frozen_under,
            actors,
            seen,
            crashes,
        )

    def _require_one_set(
        self, seen: tuple[Cycle, str, tuple[str, ...]] | None, look: Look
    ) -> tuple[Cycle, str, tuple[str, ...]]:
        now = (look.cycle, look.digest, tuple(runner.runner_id for runner in look.scheduled))
        if seen is not None and seen[0] == look.cycle and seen != now:
            raise Violation(f"two stable sets in one cycle: {seen[1:]} and {now[1:]}")
        return now

    def _require(self, before: State, after: State) -> None:
        """The invariants of every state, and of every step."""
        if after.executions != before.executions:
            self._require_of_the_executions(before, after)
        for actor in after.actors:
            if actor.turn is not None and not actor.turn.lost:
                self._require_that_check_is_right(actor, after)

    def _require_of_the_executions(self, before: State, after: State) -> None:
        records = [record for _, record in after.executions]
        running = [record for record in records if record.status is Status.RUNNING]
        if len(running) > 1:
            raise Violation(f"{len(running)} executions are RUNNING")
        served = Counter(r.cycle_start for r in records if r.status is Status.COMPLETED)
        if any(count > 1 for count in served.values()):
            raise Violation("a cycle was served twice")
        old = dict(before.executions)
        for record in records:
            self._require_of(old.get(record.run_id), record, before, after)

    def _require_of(
        self, old: ExecutionRecord | None, record: ExecutionRecord, before: State, after: State
    ) -> None:
        if old == record:
            return
        if old is None:
            if record.fencing_token is None:
                return
            if record.fencing_token <= before.fencing_token:
                raise Violation(f"fencing token {record.fencing_token} does not grow")
            self._require_a_slot(record, after)
            return
        if old.end_time is not None:
            raise Violation(f"the end of {record.run_id} was written twice")
        if record.reason == OWNER_DEAD:
            self.happened["takeover"] += 1
            if self._now < dead_at(old.last_heartbeat, self.settings):
                raise Violation(f"{record.run_id} was given up for dead too early")

    def _require_a_slot(self, record: ExecutionRecord, after: State) -> None:
        """Only runners of the cycle's list pass the gate."""
        if after.seen is None or after.seen[0].start != record.cycle_start:
            return  # it had looked in the cycle before
        if record.runner_id not in after.seen[2]:
            raise Violation(f"{record.runner_id} was admitted without a slot")

    def _require_that_check_is_right(self, actor: Actor, after: State) -> None:
        """While check() raises nothing, the run is RUNNING in the storage."""
        assert actor.turn is not None
        try:
            self._turn(actor).check()
        except TurnLost:
            return
        record = dict(after.executions).get(actor.turn.run_id)
        if record is None or record.status is not Status.RUNNING:
            raise Violation(f"check() passes for {actor.turn.run_id}, which is closed")


def _no_sleep(_: float) -> None:
    raise AssertionError("nothing here waits")


def _path(came_by: dict[int, tuple[int, str]], state: int) -> list[str]:
    steps: list[str] = []
    while (origin := came_by[state])[1]:
        state, step = origin
        steps.insert(0, step)
    return steps


def main() -> None:
    """Explore as told on the command line, and say how far that went."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runners", type=int, default=2)
    parser.add_argument("--instants", default="0,6,12,18", help="seconds after the start")
    parser.add_argument("--crashes", type=int, default=1)
    parser.add_argument("--heartbeat-timeout", type=float, default=7.0, help="seconds")
    parser.add_argument("--standbys", type=int, default=2)
    options = parser.parse_args()
    explorer = Explorer(
        options.runners,
        instants=tuple(float(instant) for instant in options.instants.split(",")),
        crashes=options.crashes,
        settings=replace(
            SETTINGS,
            heartbeat_timeout=options.heartbeat_timeout * SECOND,
            standbys=options.standbys,
        ),
    )
    states = explorer.explore()
    print(f"{states:,} states, {explorer.transitions:,} steps")  # noqa: T201
    for what, count in sorted(explorer.happened.items()):
        print(f"{count:>12,}  {what}")  # noqa: T201


if __name__ == "__main__":
    main()
