"""The reference backend: dicts, a lock, and a clock that is passed in.

For one process: tests, simulations, and threads that take turns. It is also the shortest
answer to what an operation means; every other backend must agree with it step by step.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Lock

from turnwise.atomic_service import (
    AtomicServiceClaim,
    AtomicServiceExecutionStatus,
    AtomicServiceRun,
)
from turnwise.backends import (
    CYCLE_SERVED,
    OWNER_DEAD,
    PRIOR_RUNNING,
    Admission,
    ExecutionRecord,
    Heartbeat,
    Look,
    Participant,
    blocked_record,
    blocked_run,
    dead_at,
    forget_runners_before,
    leaves_cycle_open,
    running_record,
    served_instant,
)
from turnwise.membership import (
    RunnerRecord,
    after_heartbeat,
    after_leave,
    cycle_at,
    runner_digest,
    schedule,
    set_digest,
    set_rules,
    stable_set,
)
from turnwise.old_settings import Settings
from turnwise.own_process import OwnProcess

_RUNNING = AtomicServiceExecutionStatus.RUNNING
_ABANDONED = AtomicServiceExecutionStatus.ABANDONED
_BLOCKED = AtomicServiceExecutionStatus.BLOCKED


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Service:
    """All that is kept of one service.

    ``running`` and ``served`` are the gate's unique keys. ``frozen`` is the set of the cycle that
    was last looked at, under the settings that ``frozen_under`` tells.
    """

    settings: Settings | None = None
    fencing_token: int = 0
    runners: dict[str, RunnerRecord] = field(default_factory=dict)
    executions: dict[str, ExecutionRecord] = field(default_factory=dict)
    running: str | None = None
    served: dict[datetime, str] = field(default_factory=dict)
    frozen: Look | None = None
    frozen_under: Settings | None = None

    def is_frozen_for(self, settings: Settings) -> bool:
        """Whether these settings give the set that is kept."""
        under = self.frozen_under
        return under is settings or (under is not None and set_rules(under) == set_rules(settings))


class _Lock:
    """A lock of this process; in a forked one it might be held for ever."""

    def __init__(self) -> None:
        self._lock, self._process = Lock(), OwnProcess("a MemoryBackend")

    def __enter__(self) -> None:
        self._process.check()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class MemoryBackend:
    """A storage in this process.

    Args:
        clock: gives now as an aware datetime; the host's clock by default.
    """

    def __init__(self, clock: Callable[[], datetime] = _utc_now) -> None:
        self._clock = clock
        self._lock = _Lock()
        self._services: dict[str, _Service] = {}

    def publish_settings(self, service: str, settings: Settings) -> Settings | None:
        """See :class:`turnwise.backends.Backend`."""
        with self._lock:
            kept = self._of(service)
            before, kept.settings = kept.settings, settings
            return before

    def settings_of(self, service: str) -> Settings | None:
        """See :class:`turnwise.backends.Backend`."""
        with self._lock:
            return self._of(service).settings

    def services(self) -> tuple[str, ...]:
        """See :class:`turnwise.backends.Backend`."""
        with self._lock:
            return tuple(sorted(n for n, kept in self._services.items() if kept.settings))

    def heartbeat(
        self, service: str, who: Participant, settings: Settings, run_id: str | None = None
    ) -> Heartbeat:
        """See :class:`turnwise.backends.Backend`."""
        with self._lock:
            kept, now = self._of(service), self._clock()
            previous = self._beat(kept, who, settings, now)
            holds_run = run_id is not None and kept.running == run_id
            if run_id is not None and holds_run:
                kept.executions[run_id] = _kept_alive(kept.executions[run_id], now)
            return Heartbeat(now, previous, holds_run)

    def look(self, service: str, who: Participant, settings: Settings) -> Look:
        """See :class:`turnwise.backends.Backend`."""
        with self._lock:
            kept, now = self._of(service), self._clock()
            previous = self._beat(kept, who, settings, now)
            joined_at = kept.runners[who.runner_id].creation_time
            seen = self._see(service, settings, now)
            kept.frozen, kept.frozen_under = seen, settings
            return Look(
                now, seen.cycle, seen.scheduled, seen.size, seen.digest, joined_at, previous
            )

    def peek(self, service: str, settings: Settings, at: datetime | None = None) -> Look:
        """See :class:`turnwise.backends.Backend`."""
        with self._lock:
            return self._see(service, settings, self._clock() if at is None else at)

    def leave(self, service: str, who: Participant) -> None:
        """See :class:`turnwise.backends.Backend`."""
        with self._lock:
            runners = self._of(service).runners
            record = runners.get(who.runner_id)
            if record is not None and record.boot_id == who.boot_id:
                runners[who.runner_id] = after_leave(record, self._clock())

    def admit(
        self, service: str, run: AtomicServiceRun, settings: Settings, look: Look
    ) -> Admission:
        """See :class:`turnwise.backends.Backend`."""
        with self._lock:
            kept, now = self._of(service), self._clock()
            self._bury_dead_owner(kept, settings, now)
            if kept.running is not None:
                prior = kept.executions[kept.running]
                refusal = f"{PRIOR_RUNNING}:{prior.run_id}"
                _keep_blocked(kept, service, run, refusal, now, look)
                return Admission(now, None, refusal, dead_at(prior.last_heartbeat, settings))
            serves = served_instant(run, settings)
            if serves in kept.served or _run_id(run) in kept.executions:
                return Admission(now, None, CYCLE_SERVED)
            kept.fencing_token += 1
            run.started_at = now
            record = running_record(service, run, kept.fencing_token, now, look)
            kept.executions[record.run_id] = record
            kept.running = record.run_id
            if serves is not None:
                kept.served[serves] = record.run_id
            return Admission(now, kept.fencing_token)

    def finish(
        self,
        service: str,
        run_id: str,
        status: AtomicServiceExecutionStatus,
        reason: str,
        settings: Settings,
    ) -> ExecutionRecord | None:
        """See :class:`turnwise.backends.Backend`."""
        with self._lock:
            kept, now = self._of(service), self._clock()
            if kept.running == run_id:
                _close(kept, kept.executions[run_id], status, reason, now, settings)
            record = kept.executions.get(run_id)
            _purge(kept, settings, now)
            return record

    def block(self, service: str, claim: AtomicServiceClaim, look: Look) -> None:
        """See :class:`turnwise.backends.Backend`."""
        with self._lock:
            kept, now = self._of(service), self._clock()
            _keep_blocked(kept, service, blocked_run(claim), claim.reason, now, look)

    def runners(self, service: str) -> tuple[RunnerRecord, ...]:
        """See :class:`turnwise.backends.Backend`."""
        with self._lock:
            records = self._of(service).runners.values()
            return tuple(sorted(records, key=lambda r: (r.creation_time, r.runner_id)))

    def executions(
        self, service: str, *, since: datetime | None = None, limit: int | None = None
    ) -> tuple[ExecutionRecord, ...]:
        """See :class:`turnwise.backends.Backend`."""
        with self._lock:
            records = sorted(
                (
                    record
                    for record in self._of(service).executions.values()
                    if since is None or record.end_time is None or record.end_time >= since
                ),
                key=lambda record: (record.start_time, record.fencing_token or 0, record.run_id),
            )
        return tuple(records if limit is None else records[max(0, len(records) - limit) :])

    def execution(self, service: str, run_id: str) -> ExecutionRecord | None:
        """See :class:`turnwise.backends.Backend`."""
        with self._lock:
            return self._of(service).executions.get(run_id)

    def close(self) -> None:
        """See :class:`turnwise.backends.Backend`."""

    def _of(self, service: str) -> _Service:
        kept = self._services.get(service)
        if kept is None:
            kept = self._services[service] = _Service()
        return kept

    def _beat(
        self, kept: _Service, who: Participant, settings: Settings, now: datetime
    ) -> str | None:
        before = kept.runners.get(who.runner_id)
        beat = RunnerRecord(who.runner_id, now, now, who.may_run, boot_id=who.boot_id)
        kept.runners[who.runner_id] = after_heartbeat(before, beat, settings)
        return None if before is None else before.boot_id

    def _see(self, service: str, settings: Settings, now: datetime) -> Look:
        kept = self._of(service)
        frozen = kept.frozen
        if frozen and frozen.cycle.start <= now < frozen.cycle.end and kept.is_frozen_for(settings):
            return Look(now, frozen.cycle, frozen.scheduled, frozen.size, frozen.digest)
        cycle = cycle_at(now, settings.interval)
        stable = stable_set(kept.runners.values(), cycle.start, settings)
        digest = set_digest(runner_digest(runner.runner_id) for runner in stable)
        scheduled = schedule(stable, service, cycle, settings)
        return Look(now, cycle, scheduled, len(stable), digest)

    def _bury_dead_owner(self, kept: _Service, settings: Settings, now: datetime) -> None:
        if kept.running is None:
            return
        record = kept.executions[kept.running]
        if now >= dead_at(record.last_heartbeat, settings):
            _close(kept, record, _ABANDONED, OWNER_DEAD, now, settings)

    def _check(self) -> None:
        """Assert what must hold after every operation; for tests."""
        for name, kept in self._services.items():
            running = [r.run_id for r in kept.executions.values() if r.status is _RUNNING]
            assert running == ([kept.running] if kept.running else []), (name, running)
            tokens = [r.fencing_token for r in kept.executions.values() if r.fencing_token]
            assert tokens == sorted(set(tokens)), (name, tokens)
            for record in kept.executions.values():
                assert (record.end_time is None) == (record.status is _RUNNING), record
                assert (record.fencing_token is None) == (record.status is _BLOCKED), record


def _run_id(run: AtomicServiceRun) -> str:
    return run.atomic_service_id.atomic_service_run_id


def _kept_alive(run: ExecutionRecord, now: datetime) -> ExecutionRecord:
    # Not dataclasses.replace(), which takes as long as all the rest of a heartbeat.
    return ExecutionRecord(
        run.service,
        run.run_id,
        run.runner_id,
        run.fencing_token,
        run.cycle_start,
        run.slot_start,
        run.slot_end,
        run.start_time,
        run.end_time,
        now,
        run.status,
        run.reason,
        run.stable_size,
        run.stable_digest,
    )


def _close(
    kept: _Service,
    record: ExecutionRecord,
    status: AtomicServiceExecutionStatus,
    reason: str,
    now: datetime,
    settings: Settings,
) -> None:
    """End the running execution, and open its cycle again where its end leaves it open."""
    kept.executions[record.run_id] = replace(record, end_time=now, status=status, reason=reason)
    kept.running = None
    if leaves_cycle_open(status, reason, settings):
        kept.served = {at: run_id for at, run_id in kept.served.items() if run_id != record.run_id}


def _keep_blocked(
    kept: _Service, service: str, run: AtomicServiceRun, reason: str, now: datetime, look: Look
) -> None:
    blocked = blocked_record(service, run, reason, now, look)
    kept.executions.setdefault(blocked.run_id, blocked)


def _purge(kept: _Service, settings: Settings, now: datetime) -> None:
    """Forget what is over: by age, by count, never of the current cycle, never a running one."""
    ended = [record for record in kept.executions.values() if record.end_time is not None]
    oldest = now - settings.retention_age
    if len(ended) > settings.retention_count or any(_ended_before(oldest, r) for r in ended):
        this_cycle = cycle_at(now, settings.interval).start
        ended.sort(key=lambda record: (record.start_time, record.run_id), reverse=True)
        for index, record in enumerate(ended):
            old = _ended_before(oldest, record) or index >= settings.retention_count
            if old and record.cycle_start < this_cycle:
                del kept.executions[record.run_id]
        kept.served = {at: run for at, run in kept.served.items() if run in kept.executions}
    forget_before = forget_runners_before(now, settings)
    kept.runners = {
        name: record
        for name, record in kept.runners.items()
        if record.last_heartbeat >= forget_before
    }


def _ended_before(instant: datetime, record: ExecutionRecord) -> bool:
    return record.end_time is not None and record.end_time < instant
