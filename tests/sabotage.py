"""Bugs to plant into the simulation: each is one part of it that does something wrong."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from unittest.mock import patch

import turnwise.backends.memory as memory
import turnwise.rounds as rounds
from turnwise.atomic_service import AtomicServiceExecutionStatus, AtomicServiceRun
from turnwise.backends import (
    CYCLE_SERVED,
    PRIOR_RUNNING,
    Admission,
    Backend,
    ExecutionRecord,
    Look,
    StorageError,
    dead_at,
    running_record,
    served_instant,
)
from turnwise.backends.memory import MemoryBackend
from turnwise.gate import Gate
from turnwise.settings import Settings
from turnwise.simulation.laboratory import Parts
from turnwise.simulation.link import Link
from turnwise.simulation.processes import SimulatedRunner
from turnwise.simulation.work import Resource
from turnwise.turn import Turn, TurnKeeper

RUNNING = AtomicServiceExecutionStatus.RUNNING


class NoGate(MemoryBackend):
    """Whoever asks is admitted."""

    def admit(
        self, service: str, run: AtomicServiceRun, settings: Settings, look: Look
    ) -> Admission:
        del settings
        return insert(self, service, run, look)


def insert(backend: MemoryBackend, service: str, run: AtomicServiceRun, look: Look) -> Admission:
    """Insert a RUNNING row, whatever is there."""
    kept, now = backend._of(service), backend._clock()
    kept.fencing_token += 1
    run.started_at = now
    record = running_record(service, run, kept.fencing_token, now, look)
    kept.executions[record.run_id] = record
    kept.running = record.run_id
    return Admission(now, kept.fencing_token)


class CheckThenInsert(Link):
    """Reads whether it may, and inserts with a second request."""

    def admit(
        self, service: str, run: AtomicServiceRun, settings: Settings, look: Look
    ) -> Admission:
        backend = self._storage.backend
        assert isinstance(backend, InsertsWhatWasChecked)
        self._ask("execution", backend.check, service, run, settings)
        return super().admit(service, run, settings, look)


class InsertsWhatWasChecked(MemoryBackend):
    """Its gate relies on a check that was made before."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(clock)
        self._cleared: set[str | None] = set()

    def check(self, service: str, run: AtomicServiceRun, settings: Settings) -> None:
        kept = self._of(service)
        self._bury_dead_owner(kept, settings, self._clock())
        if kept.running is None and served_instant(run, settings) not in kept.served:
            self._cleared.add(run.atomic_service_run_id)

    def admit(
        self, service: str, run: AtomicServiceRun, settings: Settings, look: Look
    ) -> Admission:
        if run.atomic_service_run_id not in self._cleared:
            return super().admit(service, run, settings, look)
        serves = served_instant(run, settings)
        assert serves is not None
        self._of(service).served[serves] = str(run.atomic_service_run_id)
        return insert(self, service, run, look)


class FinishByName(MemoryBackend):
    """Closes whatever runs of the service, whichever run it was told."""

    def finish(
        self,
        service: str,
        run_id: str,
        status: AtomicServiceExecutionStatus,
        reason: str,
        settings: Settings,
    ) -> ExecutionRecord | None:
        running = self._of(service).running or run_id
        return super().finish(service, running, status, reason, settings)


class UnfencedResource(Resource):
    """Takes every write."""

    def write(self, token: int) -> bool:
        del token
        return True


class NoRenewal(SimulatedRunner):
    """Its turns have a lease that nobody renews."""

    def _keeper_of(self, turn: Turn) -> TurnKeeper:
        keeper = super()._keeper_of(turn)
        keeper._ended.set()
        return keeper


class LostIsFailed(Gate):
    """Takes an admission without an answer for one that was refused."""

    def admit(self, run: AtomicServiceRun, look: Look) -> Admission:
        try:
            return self._backend.admit(self._service, run, self._settings, look)
        except StorageError:
            return Admission(look.now, None, "failed", look.now + timedelta(seconds=1))


class MembershipOfNow(MemoryBackend):
    """Counts who is there now, not who was there when the cycle began."""

    def _see(self, service: str, settings: Settings, now: datetime) -> Look:
        look = super()._see(service, settings, now)
        stable = memory.stable_set(self._of(service).runners.values(), now, settings)
        digest = memory.set_digest(memory.runner_digest(r.runner_id) for r in stable)
        scheduled = memory.schedule(stable, service, look.cycle, settings)
        return replace(look, scheduled=scheduled, size=len(stable), digest=digest)


class NoMargin(SimulatedRunner):
    """Decides as if there were no guard time."""

    def begin(self) -> "Turn | rounds.AtomicServiceClaim":
        settings = self.settings
        self.settings = replace(settings, spread_margin=timedelta(0))
        try:
            return super().begin()
        finally:
            self.settings = settings


class NoCycleKey(MemoryBackend):
    """Forgets which cycles are served."""

    def admit(
        self, service: str, run: AtomicServiceRun, settings: Settings, look: Look
    ) -> Admission:
        self._of(service).served.clear()
        return super().admit(service, run, settings, look)


class PurgesRunning(MemoryBackend):
    """Its retention forgets earlier cycles, and does not ask whether a row is RUNNING."""

    def admit(
        self, service: str, run: AtomicServiceRun, settings: Settings, look: Look
    ) -> Admission:
        kept = self._of(service)
        for record in list(kept.executions.values()):
            if record.start_time < look.now - settings.retention_age / 2:
                del kept.executions[record.run_id]
        if kept.running not in kept.executions:
            kept.running = None
        return super().admit(service, run, settings, look)


class OwnClock(SimulatedRunner):
    """Decides by its process's clock instead of the storage's."""

    def _look(self) -> Look:
        look = super()._look()
        skew = timedelta(microseconds=self._process.skew)
        return replace(
            look,
            now=look.now + skew,
            cycle=memory.cycle_at(look.now + skew, self.settings.interval),
        )


@dataclass(frozen=True)
class Bug:
    """A bug: the part that has it, and what must be patched beside."""

    parts: Parts
    patched: Callable[[], AbstractContextManager[object]] = nullcontext


BUGS = {
    "no gate": Bug(Parts(backend=NoGate)),
    "check, then insert": Bug(Parts(backend=InsertsWhatWasChecked, link=CheckThenInsert)),
    "finalize by name": Bug(Parts(backend=FinishByName)),
    "unfenced resource": Bug(Parts(resource=UnfencedResource)),
    "lease shorter than a turn": Bug(Parts(runner=NoRenewal)),
    "lost acknowledgement taken for a failure": Bug(
        Parts(), lambda: patch.object(rounds, "Gate", LostIsFailed)
    ),
    "duplicate runner": Bug(Parts(runner_id=lambda place, generation: f"twin-{place // 2}")),
    "membership not frozen": Bug(Parts(backend=MembershipOfNow)),
    "margin ignored": Bug(Parts(runner=NoMargin)),
    "cycle key left out": Bug(Parts(backend=NoCycleKey)),
    "purge of a RUNNING row": Bug(Parts(backend=PurgesRunning)),
    "clock of the runner instead of the storage": Bug(Parts(runner=OwnClock)),
}
"""The sabotage row: the planted bugs that the simulation must find."""
