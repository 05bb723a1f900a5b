"""Bugs to plant into the simulation: each is one part of it that does something wrong."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from unittest.mock import patch

from turnwise import membership, rounds
from turnwise.atomic_service import (
    AtomicServiceClaim,
    AtomicServiceExecutionStatus,
    AtomicServiceRun,
)
from turnwise.backends import (
    Admission,
    ExecutionRecord,
    Look,
    StorageError,
    running_record,
    served_instant,
)
from turnwise.backends.memory import MemoryBackend
from turnwise.old_gate import Gate
from turnwise.old_settings import Settings
from turnwise.old_turn import Turn, TurnKeeper
from turnwise.simulation.laboratory import SHIPPED, Parts
from turnwise.simulation.link import Link
from turnwise.simulation.processes import SimulatedRunner
from turnwise.simulation.work import Resource

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
        stable = membership.stable_set(self._of(service).runners.values(), now, settings)
        digest = membership.set_digest(membership.runner_digest(r.runner_id) for r in stable)
        scheduled = membership.schedule(stable, service, look.cycle, settings)
        return replace(look, scheduled=scheduled, size=len(stable), digest=digest)


class NoMargin(SimulatedRunner):
    """Decides as if there were no guard time."""

    def begin(self) -> "Turn | AtomicServiceClaim":
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
            cycle=membership.cycle_at(look.now + skew, self.settings.interval),
        )


@dataclass(frozen=True)
class Bug:
    """A bug: what the oracle says that looks for it, the part that has it, and a patch."""

    found_as: str
    parts: Parts = SHIPPED
    patched: Callable[[], AbstractContextManager[object]] = nullcontext


BUGS = {
    "no gate": Bug("was admitted while another is open", Parts(backend=NoGate)),
    "check, then insert": Bug(
        "was admitted while another is open",
        Parts(backend=InsertsWhatWasChecked, link=CheckThenInsert),
    ),
    "finalize by name": Bug("changed the row of another run", Parts(backend=FinishByName)),
    "unfenced resource": Bug("the resource took a write", Parts(resource=UnfencedResource)),
    "lease shorter than a turn": Bug("lost the run that it is at", Parts(runner=NoRenewal)),
    "lost acknowledgement taken for a failure": Bug(
        "lost the run that it is at", patched=lambda: patch.object(rounds, "Gate", LostIsFailed)
    ),
    "duplicate runner": Bug(
        "another process has its row", Parts(runner_id=lambda place, _: f"twin-{place // 2}")
    ),
    "membership not frozen": Bug("saw different stable sets", Parts(backend=MembershipOfNow)),
    "margin ignored": Bug("outside its own slot", Parts(runner=NoMargin)),
    "cycle key left out": Bug("to a cycle that is served", Parts(backend=NoCycleKey)),
    "purge of a RUNNING row": Bug("has disappeared", Parts(backend=PurgesRunning)),
    "clock of the runner instead of the storage": Bug(
        "outside its own slot", Parts(runner=OwnClock)
    ),
}
"""The sabotage row: the planted bugs that the simulation must find."""
