"""The gate as one runner sees it: no answer is acted upon before it is known.

An answer that is lost is no failure: the storage may have done what it was asked. So every
write carries the run's id. After an admission without an answer the storage is asked for that
run until it answers, and what is there is adopted; nothing is inserted again. Closing a run is
repeated until it is answered, and recorded once.
"""

import logging
from collections.abc import Callable, Iterator

from turnwise.atomic_service import AtomicServiceExecutionStatus, AtomicServiceRun
from turnwise.backends import Admission, Backend, ExecutionRecord, Look, StorageError
from turnwise.old_settings import Settings

_log = logging.getLogger("turnwise")
_FIRST_BACKOFF_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 2.0


class Gate:
    """Admission and closing of one runner's runs.

    Args:
        backend: the storage.
        service: the service's name.
        settings: the service's settings.
        monotonic: gives seconds that only grow.
        sleep: waits so many seconds between two tries.
        stop_requested: whether the runner was asked to stop.
    """

    def __init__(
        self,
        backend: Backend,
        service: str,
        settings: Settings,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], object],
        stop_requested: Callable[[], bool],
    ) -> None:
        self._backend = backend
        self._service = service
        self._settings = settings
        self._monotonic = monotonic
        self._sleep = sleep
        self._stop_requested = stop_requested

    def admit(self, run: AtomicServiceRun, look: Look) -> Admission:
        """Ask for admission; where the answer is lost, find out what it was.

        Raises:
            StorageError: the run was not admitted, or that is not known by the end of its slot
                or when the runner was asked to stop. A request that is still on its way may be
                admitted after that; such a run is kept alive by nobody, and dies by the
                heartbeat timeout.
        """
        asked_at = self._monotonic()
        try:
            return self._backend.admit(self._service, run, self._settings, look)
        except StorageError as error:
            left = (run.slot_end or look.cycle.end) - look.now
            return self._find_out(run, asked_at + left.total_seconds(), error)

    def close(
        self, run: AtomicServiceRun, status: AtomicServiceExecutionStatus, reason: str
    ) -> ExecutionRecord | None:
        """Close a run, and answer what is kept of it, None where nothing is.

        Raises:
            StorageError: the storage has not answered for the heartbeat timeout.
        """
        give_up = self._monotonic() + self._settings.heartbeat_timeout.total_seconds()
        lost: StorageError | None = None
        for _ in self._tries(give_up):
            try:
                return self._backend.finish(
                    self._service, _run_id(run), status, reason, self._settings
                )
            except StorageError as error:
                _log.warning("closing %s: %s", run.atomic_service_id, error)
                lost = error
        raise StorageError(f"closing run {_run_id(run)} failed: {lost}") from lost

    def _find_out(self, run: AtomicServiceRun, slot_ends: float, error: StorageError) -> Admission:
        for _ in self._tries(slot_ends):
            try:
                record = self._backend.execution(self._service, _run_id(run))
            except StorageError as unanswered:
                _log.warning("asking for %s: %s", run.atomic_service_id, unanswered)
                if self._stop_requested():
                    break
                continue
            if record is None:
                raise StorageError(f"run {_run_id(run)} was not admitted: {error}") from error
            if record.status is not AtomicServiceExecutionStatus.RUNNING:
                return Admission(record.start_time, None, f"{record.status}:{record.reason}")
            run.started_at = record.start_time
            return Admission(record.start_time, record.fencing_token)
        raise StorageError(f"whether run {_run_id(run)} was admitted is not known: {error}")

    def _tries(self, until: float) -> Iterator[None]:
        """Once now, then after waits that double, the last time at ``until``."""
        backoff = _FIRST_BACKOFF_SECONDS
        while True:
            yield
            left = until - self._monotonic()
            if left <= 0:
                return
            self._sleep(min(backoff, left))
            backoff = min(backoff * 2, _LONGEST_BACKOFF_SECONDS)


def _run_id(run: AtomicServiceRun) -> str:
    return run.atomic_service_id.atomic_service_run_id
