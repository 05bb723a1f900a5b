"""Machines in virtual time, on a storage that can fail: no threads, no waiting."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from turnwise.errors import StorageError
from turnwise.events import Event
from turnwise.gate import Execution
from turnwise.machine import Machine
from turnwise.overview.known import runs_of
from turnwise.storages import Storage
from turnwise.testing import VirtualScheduler
from turnwise.texts import row_from_text
from turnwise.turn import Turn

START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)
PERIOD = timedelta(minutes=1)
MARGIN = timedelta(seconds=3)
TIMEOUT = timedelta(seconds=12)
HEARTBEAT = TIMEOUT / 3
SERVICE = "job"


class Faulty:
    """A storage between a process and the real one: it fails, or lets time pass, as told."""

    def __init__(self, storage: Storage) -> None:
        self.calls: Counter[str] = Counter()
        self.before: dict[str, Callable[[], object]] = {}
        self.after: dict[str, Callable[[], object]] = {}
        self._storage = storage
        self._fails: dict[str, tuple[int, bool]] = {}

    def fail(self, name: str, *, times: int = 1, after: bool = False) -> None:
        """The next so many calls fail before they do anything, or after: the answer is lost."""
        self._fails[name] = (times, after)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._storage, name)

        def reached(*args: object, **kwargs: object) -> object:
            self.calls[name] += 1
            self.before.pop(name, _nothing)()
            times, after = self._fails.get(name, (0, False))
            self._fails[name] = (max(0, times - 1), after)
            if times and not after:
                raise StorageError(f"no connection for {name}")
            answer = call(*args, **kwargs)
            self.after.pop(name, _nothing)()
            if times:
                raise StorageError(f"the answer to {name} was lost")
            return answer

        return reached


def _nothing() -> None:
    pass


@dataclass
class Served:
    """A turn that was served: by whom, and when."""

    runner_id: str
    token: int
    due: datetime
    began: datetime
    ended: datetime | None = None


OPEN: "list[World]" = []
"""The worlds that a test has made: see :func:`closed_worlds`."""


class Bugs(logging.Handler):
    """What is logged of machines that failed: they begin anew, and nobody would see it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(logging.Formatter().format(record))


def closed_worlds() -> Iterator[None]:
    """A fixture that closes them all, and fails where a machine has."""
    log, bugs = logging.getLogger("turnwise.scheduler.machines"), Bugs()
    log.addHandler(bugs)
    yield
    log.removeHandler(bugs)
    while OPEN:
        OPEN.pop().virtual.close()
    assert bugs.found == []


@dataclass
class World:
    """Processes that serve one job, a coroutine that takes a second unless a test says otherwise.

    ``work`` is called in each turn after that.
    """

    names: tuple[str, ...] = ("a",)
    takes: timedelta = SECOND
    schedule: str = "every 1m"
    knobs: dict[str, Any] = field(default_factory=dict)
    work: Callable[[Turn], object] = lambda turn: turn
    served: list[Served] = field(default_factory=list)

    def __post_init__(self) -> None:
        OPEN.append(self)
        self.virtual = VirtualScheduler(*self.names, start=START)
        self.storages: dict[str, Faulty] = {}
        for name in self.names:
            self._reach(name)
        self.virtual.add(self._job, self.schedule, name=SERVICE, **self._all_knobs())

    def _all_knobs(self) -> dict[str, Any]:
        knobs = {"spread_margin": MARGIN, "heartbeat_timeout": TIMEOUT}
        return cast("dict[str, Any]", knobs | self.knobs)

    def _reach(self, name: str) -> None:
        process = self.virtual._processes[name]
        self.storages[name] = faulty = Faulty(self.virtual.storage)
        process.storage = cast("Storage", faulty)

    def start(self, name: str, *, may_run: bool = True) -> None:
        self.virtual.start(name, may_run=may_run)
        self._reach(name)

    async def _job(self, turn: Turn) -> None:
        served = Served(turn.runner_id, turn.fencing_token, turn.due, self.virtual.now)
        self.served.append(served)
        await asyncio.sleep(self.takes.total_seconds())
        self.work(turn)
        served.ended = self.virtual.now

    def machine(self, name: str = "a") -> Machine:
        return self.virtual._processes[name].services.by_name[SERVICE].machine

    def run_for(self, length: timedelta) -> None:
        self.virtual.advance(length)

    def run_to(self, *, second: float) -> None:
        """Until so many seconds after the start."""
        self.virtual.advance_to(START + second * SECOND)

    def pass_in_silence(self, length: timedelta) -> None:
        """Time passes within a call, and nobody does anything."""
        self.virtual._time.at += round(length / MICROSECOND)

    def runs(self) -> tuple[Execution, ...]:
        return tuple(runs_of(self.virtual.storage, self.virtual.group, SERVICE))

    def ends(self) -> list[tuple[str, str, str]]:
        """Who ran, and how it ended."""
        return [(run.runner_id, run.status.value, run.reason) for run in self.runs()]

    def seconds(self) -> list[float]:
        """When each turn began, in seconds from the start."""
        return [(served.began - START).total_seconds() for served in self.served]

    def dues(self) -> list[float]:
        """The due instants that were served to the end, in seconds from the start."""
        return [(s.due - START).total_seconds() for s in self.served if s.ended is not None]

    def blocked(self) -> list[str]:
        """The reasons of the BLOCKED rows in the history."""
        rows = self.virtual.storage.history("default", SERVICE, kinds=["blocked"])
        found = [row_from_text(each.body) for each in rows]
        return [row.reason for row in found if isinstance(row, Execution)]

    def told(self, *kinds: type[Event]) -> list[Event]:
        return [event for event in self.virtual.events if isinstance(event, kinds)]


def assert_one_at_a_time(world: World) -> None:
    """No two turns overlap, and fencing tokens grow."""
    for before, after in zip(world.served, world.served[1:], strict=False):
        assert before.token < after.token
        if before.ended is not None:
            assert before.ended <= after.began
