"""What a storage must do, what it keeps, and how to open one.

A backend keeps runners and executions for any number of services, which do not see each other.
It has three duties that nothing else can do:

1. **The clock.** Every operation reads the storage's own clock once and answers with it.
2. **Membership.** It applies :func:`~turnwise.membership.after_heartbeat` and answers with the
   cycle's frozen set.
3. **The gate.** :meth:`Backend.admit` inserts a RUNNING execution in one atomic step, only
   where the service has none and, with ``"once"``, only where the cycle is not served; it is a
   unique key, never a read followed by a write. It hands out a fencing token that grows with
   every admitted run of the service.

A run's owner is alive while the run itself is kept alive: :meth:`Backend.heartbeat` renews the
runner and the run that it names. So a process that restarts under its old runner id does not
keep the run of its dead predecessor alive, and neither does a run that was admitted by a request
whose answer was lost.
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol
from uuid import NAMESPACE_OID, uuid5

from turnwise.atomic_service import (
    ActiveRunnerInfo,
    AtomicServiceClaim,
    AtomicServiceExecution,
    AtomicServiceExecutionStatus,
    AtomicServiceRun,
)
from turnwise.membership import Cycle, RunnerRecord, cycle_at
from turnwise.old_settings import Settings

NO_MARGIN = "no_margin"
"""Why a run ended that was admitted with too little of its slot left; the service never ran."""

OWNER_DEAD = "owner_dead"
"""Why a run ended whose owner's heartbeat had timed out."""

CYCLE_SERVED = "cycle_served"
"""The gate's refusal where the cycle (or the slot, with ``"every_slot"``) is served."""

PRIOR_RUNNING = "prior_running"
"""The gate's refusal where another run is open; its id follows, after a colon."""


class StorageError(Exception):
    """The storage could not answer, and what it did is not known. Never a reason to start."""


class MissingExtraError(ImportError):
    """A layer was asked for whose optional dependency is not installed; says which extra has it."""


@dataclass(frozen=True, slots=True)
class Participant:
    """Who speaks to the storage: a runner id, and the random mark of its process."""

    runner_id: str
    boot_id: str
    may_run: bool = True


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The answer to a heartbeat.

    ``now`` is the storage's clock. ``previous_boot_id`` is the mark that the heartbeat found on
    its runner's row, None where there was no row. ``holds_run`` says whether the run that it
    named is still RUNNING (False where it named none).
    """

    now: datetime
    previous_boot_id: str | None
    holds_run: bool


@dataclass(frozen=True, slots=True)
class Look:
    """The cycle of the storage's ``now``, and who counts in it.

    ``scheduled`` are the runners that have a slot, in the order of their slots, as they were when
    the cycle was first looked at; ``size`` and ``digest`` are of the whole stable set. After a
    heartbeat, ``joined_at`` is the creation time of the caller's row, and ``previous_boot_id`` is
    as in :class:`Heartbeat`.
    """

    now: datetime
    cycle: Cycle
    scheduled: tuple[ActiveRunnerInfo, ...]
    size: int
    digest: str
    joined_at: datetime | None = None
    previous_boot_id: str | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """The gate's answer at the storage's ``now``.

    Admitted: ``fencing_token`` is there. Refused: it is None, ``refusal`` says why
    (``prior_running:<run id>`` or ``cycle_served``), and ``retry_at`` is when the run in the
    way will count as dead unless its owner renews it, None where no wait helps.
    """

    now: datetime
    fencing_token: int | None
    refusal: str = ""
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ExecutionRecord:
    """What a storage keeps of an execution.

    ``fencing_token`` is None for a BLOCKED one, which was never admitted. ``stable_size`` and
    ``stable_digest`` are of the stable set that the decision was taken on, so that a
    disagreement can be found later. ``last_heartbeat`` is when the run was last kept alive.
    """

    service: str
    run_id: str
    runner_id: str
    fencing_token: int | None
    cycle_start: datetime
    slot_start: datetime | None
    slot_end: datetime | None
    start_time: datetime
    end_time: datetime | None
    last_heartbeat: datetime
    status: AtomicServiceExecutionStatus
    reason: str
    stable_size: int
    stable_digest: str

    @property
    def execution(self) -> AtomicServiceExecution:
        """The part of it that :mod:`turnwise.atomic_service` names."""
        return AtomicServiceExecution.from_raw(
            self.runner_id, self.run_id, self.start_time, self.end_time, self.status, self.reason
        )


class Backend(Protocol):
    """One storage. Safe to use from several threads; each operation is atomic.

    Every operation raises :class:`StorageError` where the storage does not answer, and
    :class:`~turnwise.own_process.ForkError` in another process than the one that opened it. All
    instants are aware datetimes on the storage's clock.
    """

    def publish_settings(self, service: str, settings: Settings) -> Settings | None:
        """Keep the settings that a service runs with; answer what was kept before."""

    def settings_of(self, service: str) -> Settings | None:
        """The settings that the service was last started with, None where it is not known."""

    def services(self) -> tuple[str, ...]:
        """The names of the services that were ever started, sorted."""

    def heartbeat(
        self, service: str, who: Participant, settings: Settings, run_id: str | None = None
    ) -> Heartbeat:
        """Say that ``who`` lives, and keep its run ``run_id`` alive where it names one."""

    def look(self, service: str, who: Participant, settings: Settings) -> Look:
        """A heartbeat, and the cycle that it falls in, in one step.

        The first look of a cycle writes its set down, in the place of that of the cycle before,
        and the looks after it read it there: they need not go through all runners.
        """

    def peek(self, service: str, settings: Settings, at: datetime | None = None) -> Look:
        """The cycle of now, or of another instant, without a heartbeat, and without a trace."""

    def leave(self, service: str, who: Participant) -> None:
        """Mark that ``who`` leaves, unless another process has taken over its id."""

    def admit(
        self, service: str, run: AtomicServiceRun, settings: Settings, look: Look
    ) -> Admission:
        """The gate: admit ``run``, or say why not.

        A RUNNING execution that was not kept alive for the heartbeat timeout is first closed
        as ABANDONED, ``owner_dead``. An admitted run gets its ``started_at`` stamped. A refusal
        for a prior run is kept as a BLOCKED row.
        """

    def finish(
        self,
        service: str,
        run_id: str,
        status: AtomicServiceExecutionStatus,
        reason: str,
        settings: Settings,
    ) -> ExecutionRecord | None:
        """Close a RUNNING execution, and apply retention. Safe to repeat.

        Answers the execution as it is kept, which is somebody else's doing where it had been
        closed before; None where it is not known.
        """

    def block(self, service: str, claim: AtomicServiceClaim, look: Look) -> None:
        """Keep a BLOCKED row for a persisted reason: one per runner, cycle and reason."""

    def runners(self, service: str) -> tuple[RunnerRecord, ...]:
        """Every runner that is kept, by ``(creation_time, runner_id)``."""

    def executions(
        self, service: str, *, since: datetime | None = None, limit: int | None = None
    ) -> tuple[ExecutionRecord, ...]:
        """The kept executions in the order of their start, BLOCKED ones among them.

        ``since`` leaves out those that ended before it; ``limit`` keeps the last so many.
        """

    def execution(self, service: str, run_id: str) -> ExecutionRecord | None:
        """One execution, or None: what became of a run whose admission was not answered."""

    def close(self) -> None:
        """Let go of connections. The backend must not be used afterwards."""


def open_backend(url: str, *, create_tables: bool = True) -> Backend:
    """Open the storage that ``url`` names.

    ``memory:`` is a fresh storage within this process. ``sqlite:///turns.db`` is a file beside
    the working directory, ``sqlite:////var/lib/turns.db`` one with an absolute path,
    ``sqlite://`` a fresh one in memory. ``postgresql://user:password@host/database``,
    ``mysql://...`` and ``mariadb://...`` are servers; see
    :class:`turnwise.backends.sql.SqlBackend`. ``redis://host:6379/0`` and ``rediss://...`` are a
    Redis; see :class:`turnwise.backends.redis.RedisBackend`. If ``create_tables`` is False, what
    is missing, a file or a table, is an error rather than created.

    Raises:
        ValueError: the URL is malformed, or no backend has its scheme.
        MissingExtraError: the backend's extra is not installed.
        StorageError: the storage does not answer, or is none.
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be text, such as 'sqlite:///turns.db', got {url!r}")
    check_spelling(url)
    scheme, colon, rest = url.partition(":")
    if scheme == "memory" and rest.strip("/") == "":
        from turnwise.backends.memory import MemoryBackend  # noqa: PLC0415 (only when asked for)

        return MemoryBackend()
    if is_sql(url):
        from turnwise.backends.sql import SqlBackend  # noqa: PLC0415 (needs an extra)

        return SqlBackend(url, create_tables=create_tables)
    if scheme in _REDIS_SCHEMES:
        from turnwise.backends.redis import RedisBackend  # noqa: PLC0415 (needs an extra)

        return RedisBackend(url)
    what = f"has the scheme {scheme!r}" if colon else "is named without a scheme"
    if scheme == "memory":
        what = "in memory has a name"
    known = ", ".join(f"{scheme}:" for scheme in ("memory", *_SQL_SCHEMES, *_REDIS_SCHEMES))
    raise ValueError(f"backend {without_password(url)!r}: no storage {what}; known are {known}")


def check_spelling(url: str) -> None:
    """Refuse what two libraries read in two ways: each might take a piece of a password for a host.

    Raises:
        ValueError: there is such a thing in the URL.
    """
    if not url.isprintable():
        raise ValueError(f"backend {without_password(url)!r}: a URL is one line of printable text")
    parts = _AUTHORITY.match(url)
    if parts is None:
        return
    authority, rest = parts.groups()
    user, _, _ = authority.rpartition("@")
    if "@" in rest or set("@[]") & set(user):
        raise ValueError(
            f"backend {without_password(url)!r}: one @ may stand in it, before the host; write "
            "another as %40, and what a password has of /?#[] as %2F, %3F, %23, %5B and %5D"
        )


# None in sqlite:///a@b.db, which names no host.
_AUTHORITY = re.compile(r"(?!sqlite[^:]*:///)(?:[^:/?#@]*:)?/*([^/?#]*)(.*)", re.DOTALL)
_SQL_SCHEMES = ("sqlite", "postgresql", "mysql", "mariadb")
_REDIS_SCHEMES = ("redis", "rediss")


def is_sql(url: str) -> bool:
    """Whether a URL names an SQL database; its driver may stand after a plus."""
    return url.partition(":")[0].partition("+")[0] in _SQL_SCHEMES


def without_password(url: str) -> str:
    """The URL as it may be logged: a password in it becomes ``***``.

    By its shape alone, so that a password that should have been quoted (``#``, ``/``, ``@``)
    does not show either: all between the user and the last ``@`` goes.
    """
    spans = sorted(match.span(1) for each in _PASSWORDS for match in each.finditer(url))
    shown, done = "", 0
    for start, end in spans:
        if start >= done:
            shown += url[done:start] + "***"
        done = max(done, end)
    return shown + url[done:]


_PASSWORDS = (
    # With a slash too few it is a mistake that must not show it either.
    re.compile(r"^[^:]*:/{0,2}[^:/@?]*:(.*)@", re.DOTALL),
    re.compile(r"[?&][^=&]*pass[^=&]*=([^&]*)", re.IGNORECASE),
)


def served_instant(run: AtomicServiceRun, settings: Settings) -> datetime | None:
    """What a run serves, as the gate's key: its cycle with ``"once"``, else its slot."""
    return run.cycle_start if settings.runs_per_cycle == "once" else run.slot_start


def leaves_cycle_open(
    status: AtomicServiceExecutionStatus, reason: str, settings: Settings
) -> bool:
    """Whether a run that ended so leaves its cycle to the next standby.

    A failed turn does unless ``retry_failed`` is off. One that ended for ``no_margin`` does in
    any case: the service never ran. With ``"every_slot"`` a slot is used once.
    """
    if settings.runs_per_cycle != "once" or status is not AtomicServiceExecutionStatus.ABANDONED:
        return False
    return settings.retry_failed or reason == NO_MARGIN


def dead_at(last_heartbeat: datetime, settings: Settings) -> datetime:
    """The first instant at which an owner counts as dead that was last heard of then.

    Exactly at the timeout it is alive, as in the stable set.
    """
    return last_heartbeat + settings.heartbeat_timeout + timedelta(microseconds=1)


def forget_runners_before(now: datetime, settings: Settings) -> datetime:
    """Runners that were last heard of before this instant count nowhere and are history, too."""
    this_cycle = cycle_at(now, settings.interval).start
    return min(now - settings.retention_age, this_cycle - settings.heartbeat_timeout)


def running_record(
    service: str, run: AtomicServiceRun, fencing_token: int | None, now: datetime, look: Look
) -> ExecutionRecord:
    """The row of a run that is admitted now."""
    return ExecutionRecord(
        service=service,
        run_id=run.atomic_service_id.atomic_service_run_id,
        runner_id=run.atomic_service_id.runner_id,
        fencing_token=fencing_token,
        cycle_start=look.cycle.start,
        slot_start=run.slot_start,
        slot_end=run.slot_end,
        start_time=now,
        end_time=None,
        last_heartbeat=now,
        status=AtomicServiceExecutionStatus.RUNNING,
        reason="",
        stable_size=look.size,
        stable_digest=look.digest,
    )


def blocked_record(
    service: str, run: AtomicServiceRun, reason: str, now: datetime, look: Look
) -> ExecutionRecord:
    """A BLOCKED row, with the same id for the same service, runner, cycle and reason."""
    runner_id = run.atomic_service_id.runner_id
    identity = repr((service, runner_id, look.cycle.start.isoformat(), reason))
    return replace(
        running_record(service, run, None, now, look),
        run_id=str(uuid5(NAMESPACE_OID, identity)),
        end_time=now,
        status=AtomicServiceExecutionStatus.BLOCKED,
        reason=reason,
    )


def blocked_run(claim: AtomicServiceClaim) -> AtomicServiceRun:
    """The run that a claim did not hand out, for its BLOCKED row."""
    return AtomicServiceRun(
        runner_id=claim.runner_id,
        cycle_start=claim.cycle_start,
        slot_start=claim.slot_start,
        slot_end=claim.slot_end,
    )
