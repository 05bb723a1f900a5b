"""One storage, its clock, and one service: what most tests of a backend need."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest

from turnwise.atomic_service import AtomicServiceExecutionStatus, AtomicServiceRun
from turnwise.backends import Admission, Backend, ExecutionRecord, Look, Participant
from turnwise.membership import cycle_at
from turnwise.old_settings import Settings
from turnwise.testing.clock import Clock, ManualClock

SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)
RUNNING = AtomicServiceExecutionStatus.RUNNING
COMPLETED = AtomicServiceExecutionStatus.COMPLETED
ABANDONED = AtomicServiceExecutionStatus.ABANDONED
BLOCKED = AtomicServiceExecutionStatus.BLOCKED

SETTINGS = Settings(
    interval=60 * SECOND,
    spread_margin=2 * SECOND,
    heartbeat_timeout=21 * SECOND,
    retention_age=600 * SECOND,
)
"""Cycles of a minute; slots of 20 s with two standbys; a heartbeat each 7 s."""


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
        """The cycle of now, without a trace."""
        return self.backend.peek(self.service, self.settings)

    def cycle_start(self) -> datetime:
        """When the current cycle began."""
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
        """Close a run; what the storage keeps of it."""
        return self.backend.finish(self.service, run_id, status, reason, self.settings)

    def serve_a_cycle(self) -> str:
        """Admit and complete a run, and go to the start of the next cycle; the run's id."""
        run_id = self.admitted()
        self.finish(run_id)
        self.clock.advance(self.cycle_start() + self.settings.interval - self.clock())
        return run_id

    def executions(self) -> tuple[ExecutionRecord, ...]:
        """All that is kept."""
        return self.backend.executions(self.service)

    def record(self, run_id: str) -> ExecutionRecord:
        """What is kept of a run, which must be there."""
        record = self.backend.execution(self.service, run_id)
        assert record is not None
        return record

    def blocked(self) -> list[tuple[str, str]]:
        """The BLOCKED rows: runner and reason."""
        return [(r.runner_id, r.reason) for r in self.executions() if r.status is BLOCKED]


class StorageUnderTest:
    """What a suite asks of its subclass: how to open the storage."""

    def open_backend(self, clock: Clock, folder: Path) -> Backend:
        """An empty storage whose clock is ``clock``; ``folder`` is fresh, and goes after the test.

        A storage whose clock is its server's lets a test replace it.
        """
        raise NotImplementedError("a conformance test says how to open its storage")

    @contextmanager
    def opened(self, clock: Clock) -> Iterator[Backend]:
        """An empty storage, closed afterwards."""
        with TemporaryDirectory() as folder:
            backend = self.open_backend(clock, Path(folder))
            try:
                yield backend
            finally:
                backend.close()

    @pytest.fixture
    def desk(self) -> Iterator[Desk]:
        """An empty storage, at noon of the first of March 2026."""
        clock = ManualClock()
        with self.opened(clock) as backend:
            yield Desk(backend, clock)
