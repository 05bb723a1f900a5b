"""What a storage is where each runner decides by its own clock, and no gate keeps them apart."""

from dataclasses import replace

from turnwise.atomic_service import AtomicServiceExecutionStatus, AtomicServiceRun
from turnwise.backends import (
    Admission,
    ExecutionRecord,
    Heartbeat,
    Look,
    Participant,
    running_record,
)
from turnwise.backends.memory import MemoryBackend
from turnwise.old_settings import Settings


class NoGate(MemoryBackend):
    """Who takes part is shared, as ever. Everybody who asks for admission gets it."""

    _token = 0

    def admit(
        self, service: str, run: AtomicServiceRun, settings: Settings, look: Look
    ) -> Admission:
        """Always admitted: the slots alone keep runners apart."""
        del settings
        now = self._clock()
        self._token += 1
        run.started_at = now
        record = running_record(service, run, self._token, now, look)
        self._of(service).executions[record.run_id] = record
        return Admission(now, self._token)

    def heartbeat(
        self, service: str, who: Participant, settings: Settings, run_id: str | None = None
    ) -> Heartbeat:
        """A run is never lost."""
        return replace(super().heartbeat(service, who, settings), holds_run=run_id is not None)

    def finish(
        self,
        service: str,
        run_id: str,
        status: AtomicServiceExecutionStatus,
        reason: str,
        settings: Settings,
    ) -> ExecutionRecord | None:
        """Close the run; the history is not kept beyond it."""
        executions = self._of(service).executions
        ended = replace(
            executions.pop(run_id), end_time=self._clock(), status=status, reason=reason
        )
        for other, record in list(executions.items()):
            if record.end_time is not None and len(executions) > settings.retention_count:
                del executions[other]
        executions[run_id] = ended
        return super().finish(service, run_id, status, reason, settings)
