"""Several Runners in one deterministic loop, in virtual time, on a storage that can fail."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import cast

from turnwise import (
    AtomicServiceClaim,
    Backend,
    ExecutionRecord,
    Runner,
    Settings,
    StorageError,
    Turn,
)
from turnwise.backends.memory import MemoryBackend
from turnwise.testing import SETTINGS, START, ManualClock
from turnwise.testing.desk import BLOCKED, MICROSECOND, SECOND

SERVICE = "housekeeping"


class Killed(BaseException):
    """A process that was killed does nothing any more."""


class Faulty:
    """A storage as one process reaches it: answers get lost, and processes die.

    ``fail("admit")`` lets the next call fail before it takes effect; with ``after=True`` it
    takes effect, and its answer is lost. ``before["admit"]`` is called before each admission.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._failures: dict[str, list[bool]] = {}
        self.before: dict[str, Callable[[], object]] = {}
        self.after: dict[str, Callable[[], object]] = {}
        self.calls: Counter[str] = Counter()
        self.down = False
        self.killed = False

    def fail(self, operation: str, *, after: bool = False, times: int = 1) -> None:
        self._failures.setdefault(operation, []).extend([after] * times)

    def reached(self) -> Backend:
        """Itself, for the type checker: every name that it is asked for is the storage's."""
        return cast("Backend", self)

    def __getattr__(self, name: str) -> Callable[..., object]:
        operation = getattr(self._backend, name)

        def call(*arguments: object, **keywords: object) -> object:
            if self.killed:
                raise Killed
            self.calls[name] += 1
            self.before.get(name, lambda: None)()
            planned = self._failures.get(name)
            after = planned.pop(0) if planned else None
            if self.down or after is False:
                raise StorageError(f"no connection for {name}")
            answer = operation(*arguments, **keywords)
            if after:
                raise StorageError(f"the answer to {name} was lost")
            self.after.get(name, lambda: None)()
            if self.killed:
                raise Killed
            return answer

        return call


@dataclass(frozen=True)
class Served:
    """What a service saw of one of its turns, on the true clock."""

    runner_id: str
    fencing_token: int
    began: datetime
    ended: datetime | None


@dataclass
class Member:
    """One process with a Runner, and when its loop wakes next."""

    runner: Runner
    storage: Faulty
    due: float = 0.0
    busy: bool = False
    kill_at: float | None = None

    @property
    def alive(self) -> bool:
        return not self.storage.killed


@dataclass
class World:
    """Runners of one service on one storage.

    ``turn_takes`` is how long each turn takes; ``service`` is called in each turn after that.
    """

    settings: Settings = SETTINGS
    turn_takes: timedelta = SECOND
    service: Callable[[Turn], object] = lambda turn: turn
    clock: ManualClock = field(default_factory=ManualClock)
    members: dict[str, Member] = field(default_factory=dict)
    served: list[Served] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.backend = MemoryBackend(self.clock)

    def add(self, *runner_ids: str, settings: Settings | None = None) -> None:
        for runner_id in runner_ids:
            storage = Faulty(self.backend)
            runner = Runner(
                storage.reached(),
                SERVICE,
                self._serve,
                settings=settings or self.settings,
                runner_id=runner_id,
                heartbeat_thread=False,
                monotonic=self.clock.monotonic,
                sleep=self.clock.sleep,
            )
            self.members[runner_id] = Member(runner, storage, self.clock.monotonic())

    def run_for(self, span: timedelta) -> None:
        self._run_until(self.clock.monotonic() + span.total_seconds())

    def run_to(self, instant: datetime) -> None:
        self.run_for(instant - self.clock())

    def kill(self, runner_id: str) -> None:
        """Kill a process between its turns."""
        self.members[runner_id].storage.killed = True

    def kill_in_its_turn(self, runner_id: str, after: timedelta) -> None:
        """Kill a process so long after its next turn began."""
        self.members[runner_id].kill_at = after.total_seconds()

    def history(self) -> list[ExecutionRecord]:
        """The runs that were admitted."""
        records = self.backend.executions(SERVICE)
        return [record for record in records if record.fencing_token is not None]

    def cycles(self) -> list[int]:
        """The cycle of each turn that was served to its end, from 0 at the clock's start."""
        return [(s.began - START) // self.settings.interval for s in self.served if s.ended]

    def servers(self) -> list[str]:
        return [served.runner_id for served in self.served if served.ended]

    def primary(self) -> str:
        """Whose slot is the first of the current cycle."""
        return self.backend.peek(SERVICE, self.settings).scheduled[0].runner_id

    def schedule(self) -> list[str]:
        return [r.runner_id for r in self.backend.peek(SERVICE, self.settings).scheduled]

    def _run_until(self, end: float, *, within: Member | None = None) -> None:
        """Let every process do what is due; stop early where ``within`` was killed."""
        while within is None or within.alive:
            waiting = [m for m in self.members.values() if m.alive and not m.busy]
            next_one = min(waiting, key=lambda member: member.due, default=None)
            if next_one is None or next_one.due > end:
                break
            self.clock.sleep(max(0.0, next_one.due - self.clock.monotonic()))
            self._step(next_one)
            self.backend._check()
        self.clock.sleep(max(0.0, end - self.clock.monotonic()))

    def _step(self, member: Member) -> None:
        try:
            wait = member.runner.step()
        except Killed:
            return
        member.due = self.clock.monotonic() + wait

    def _serve(self, turn: Turn) -> None:
        """A turn of ``turn_takes``: heartbeats go on, and so do the other processes."""
        runner_id = turn.run.atomic_service_id.runner_id
        member = self.members[runner_id]
        served = Served(runner_id, turn.fencing_token, self.clock(), None)
        position = len(self.served)
        self.served.append(served)
        member.busy = True
        try:
            self._work(member, turn)
            self.service(turn)
        finally:
            member.busy = False
        self.served[position] = replace(served, ended=self.clock())

    def _work(self, member: Member, turn: Turn) -> None:
        now = self.clock.monotonic()
        # To the microsecond, as the clock counts: what a float is off by would never be over.
        end = round(now + self.turn_takes.total_seconds(), 6)
        kill_at = None if member.kill_at is None else round(now + member.kill_at, 6)
        heartbeat = self.settings.heartbeat_interval.total_seconds()
        while (now := self.clock.monotonic()) < end:
            self._run_until(min(t for t in (now + heartbeat, end, kill_at) if t is not None))
            if kill_at is not None and self.clock.monotonic() >= kill_at:
                member.storage.killed = True
                raise Killed
            try:
                member.runner.heartbeat(turn)
            except StorageError:
                continue


class Alone(World):
    """One runner, at the start of the first cycle in which it counts: it owns the whole of it."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        super().__init__(settings, turn_takes=timedelta(0))
        self.add("a")
        self.run_to(START + settings.interval - MICROSECOND)
        self.clock.advance(MICROSECOND)

    @property
    def runner(self) -> Runner:
        return self.members["a"].runner

    @property
    def storage(self) -> Faulty:
        return self.members["a"].storage

    def run_to_the_next_cycle(self) -> None:
        """Let the time pass to the start of the next cycle, with a heartbeat shortly before."""
        cycle = self.backend.peek(SERVICE, self.settings).cycle
        self.clock.advance(cycle.end - SECOND - self.clock())
        self.runner.heartbeat()
        self.clock.advance(SECOND)

    def turn(self) -> Turn:
        outcome = self.runner.begin()
        assert isinstance(outcome, Turn), outcome
        return outcome

    def claim(self) -> AtomicServiceClaim:
        outcome = self.runner.begin()
        assert isinstance(outcome, AtomicServiceClaim)
        assert outcome.atomic_service_run is None
        return outcome

    def step_with(self, service: Callable[[Turn], object]) -> ExecutionRecord:
        """Serve a turn in a step of the loop; how it was recorded."""
        self.service = service
        self.runner.step()
        return self.history()[-1]

    def blocked(self) -> list[str]:
        return [r.reason for r in self.backend.executions(SERVICE) if r.status is BLOCKED]


def assert_one_at_a_time(world: World) -> None:
    """No two turns overlap, and fencing tokens grow."""
    for before, after in zip(world.served, world.served[1:], strict=False):
        assert before.fencing_token < after.fencing_token
        if before.ended is not None:
            assert before.ended <= after.began
