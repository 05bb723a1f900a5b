"""The storages under test, each fresh and with a clock that the test moves by hand.

A further backend joins by one more entry of ``STORAGES``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from hypothesis import settings as hypothesis_settings

import servers
from turnwise import AtomicServiceExecutionStatus, AtomicServiceRun, Backend, Settings
from turnwise.backends import Admission, ExecutionRecord, Look, Participant
from turnwise.backends._database import Database
from turnwise.backends.memory import MemoryBackend
from turnwise.backends.redis import RedisBackend
from turnwise.backends.sql import SqlBackend
from turnwise.membership import cycle_at

MOST_EXAMPLES_IN_CI = 2000
SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)
RUNNING = AtomicServiceExecutionStatus.RUNNING
COMPLETED = AtomicServiceExecutionStatus.COMPLETED
ABANDONED = AtomicServiceExecutionStatus.ABANDONED
BLOCKED = AtomicServiceExecutionStatus.BLOCKED

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
"""The start of a cycle of ``SETTINGS``."""

SETTINGS = Settings(
    interval=60 * SECOND,
    spread_margin=2 * SECOND,
    heartbeat_timeout=21 * SECOND,
    retention_age=600 * SECOND,
)
"""Cycles of a minute; slots of 20 s with two standbys; a heartbeat each 7 s."""


def share_of_the_profile(share: int, most: int = 50) -> hypothesis_settings:
    """Settings for examples that each drive a storage: so many times fewer than of pure ones.

    At most ``most``, but for the profile that is run on demand: there are many storages.
    """
    examples = hypothesis_settings().max_examples // share
    on_demand = hypothesis_settings().max_examples > MOST_EXAMPLES_IN_CI
    return hypothesis_settings(max_examples=examples if on_demand else min(examples, most))


class ManualClock:
    """Now, moved by hand: a storage's clock, and the monotonic one that moves along with it."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now
        self._elapsed = timedelta(0)

    def __call__(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed.total_seconds()

    def sleep(self, seconds: float) -> None:
        """Let time pass, rounded up to a microsecond."""
        self.advance(-(-round(seconds * 1e9) // 1000) * MICROSECOND)

    def advance(self, by: timedelta) -> None:
        assert by >= timedelta(0)
        self._now += by
        self._elapsed += by

    def step(self, by: timedelta) -> None:
        """Somebody sets the clock: no time passes."""
        self._now += by


Clock = Callable[[], datetime]


def emptied(server: servers.Server) -> str:
    """The URL of a server on which no table is left from the test before."""
    database = Database(server.url, may_create=True, clock=None)
    with database.connection() as connection:
        for table in database.tables.metadata.sorted_tables:
            connection.execute(table.delete())
    database.close()
    return server.url


SHARED: dict[str, Callable[[Path], str]] = {
    "sqlite-file": lambda folder: f"sqlite:///{folder / 'turns.db'}",
    "postgresql": lambda _: emptied(servers.postgres()),
}
"""The URLs of fresh storages that several processes can share."""
if servers.redis_executable() is not None:
    SHARED["redis"] = lambda _: f"{servers.redis().url}?key_prefix={uuid4().hex}"
if servers.mariadb_is_here():
    SHARED["mariadb"] = lambda _: emptied(servers.mariadb())


def _opened(url: Callable[[Path], str]) -> Callable[[Clock, Path], Backend]:
    def open_it(clock: Clock, folder: Path) -> Backend:
        named = url(folder)
        kind = RedisBackend if named.startswith("redis:") else SqlBackend
        return kind(named, clock=clock)

    return open_it


STORAGES: dict[str, Callable[[Clock, Path], Backend]] = {
    "memory": lambda clock, _: MemoryBackend(clock),
    "sqlite-memory": lambda clock, _: SqlBackend("sqlite://", clock=clock),
    **{name: _opened(url) for name, url in SHARED.items()},
}


@contextmanager
def fresh(storage: str, clock: Clock) -> Iterator[Backend]:
    """An empty storage, closed and removed afterwards."""
    with TemporaryDirectory() as folder:
        backend = STORAGES[storage](clock, Path(folder))
        try:
            yield backend
        finally:
            backend.close()


def run_of(
    runner_id: str,
    cycle_start: datetime,
    *,
    slot: int = 0,
    run_id: str | None = None,
    settings: Settings = SETTINGS,
) -> AtomicServiceRun:
    """A run of ``runner_id`` in one of the three slots of a cycle."""
    slot_start = cycle_start + slot * settings.interval / 3
    return AtomicServiceRun(
        runner_id=runner_id,
        atomic_service_run_id=run_id or str(uuid4()),
        cycle_start=cycle_start,
        slot_start=slot_start,
        slot_end=slot_start + settings.interval / 3 - settings.spread_margin,
    )


@dataclass
class Desk:
    """One storage, its clock, and one service: what most tests of a backend need."""

    backend: Backend
    clock: ManualClock
    settings: Settings = SETTINGS
    service: str = "housekeeping"

    def beat(self, runner_id: str, *, boot_id: str = "boot", run_id: str | None = None) -> bool:
        """A heartbeat; whether it holds the run that it names."""
        who = Participant(runner_id, boot_id)
        return self.backend.heartbeat(self.service, who, self.settings, run_id).holds_run

    def settle(self, *runner_ids: str) -> None:
        """Let runners join, and go to the start of the next cycle, in which they count."""
        next_cycle = self.cycle_start() + self.settings.interval
        for before_it in (3 * SECOND, SECOND):
            self.clock.advance(next_cycle - before_it - self.clock())
            for runner_id in runner_ids:
                self.beat(runner_id)
        self.clock.advance(SECOND)

    def peek(self) -> Look:
        return self.backend.peek(self.service, self.settings)

    def cycle_start(self) -> datetime:
        return cycle_at(self.clock(), self.settings.interval).start

    def admit(
        self, runner_id: str = "a", *, slot: int = 0, run_id: str | None = None
    ) -> tuple[str, Admission]:
        """Try the gate with a run in the current cycle; its id, and the answer."""
        run = run_of(runner_id, self.cycle_start(), slot=slot, run_id=run_id)
        admission = self.backend.admit(self.service, run, self.settings, self.peek())
        return run.atomic_service_id.atomic_service_run_id, admission

    def admitted(self, runner_id: str = "a", *, slot: int = 0) -> str:
        """Pass the gate; the run's id."""
        run_id, admission = self.admit(runner_id, slot=slot)
        assert admission.fencing_token is not None, admission.refusal
        return run_id

    def finish(
        self,
        run_id: str,
        status: AtomicServiceExecutionStatus = COMPLETED,
        reason: str = "",
    ) -> ExecutionRecord | None:
        return self.backend.finish(self.service, run_id, status, reason, self.settings)

    def serve_a_cycle(self) -> str:
        """Admit and complete a run, and go to the start of the next cycle; the run's id."""
        run_id = self.admitted()
        self.finish(run_id)
        self.clock.advance(self.cycle_start() + self.settings.interval - self.clock())
        return run_id

    def executions(self) -> tuple[ExecutionRecord, ...]:
        return self.backend.executions(self.service)

    def record(self, run_id: str) -> ExecutionRecord:
        record = self.backend.execution(self.service, run_id)
        assert record is not None
        return record

    def blocked(self) -> list[tuple[str, str]]:
        """The BLOCKED rows: runner and reason."""
        return [(r.runner_id, r.reason) for r in self.executions() if r.status is BLOCKED]
