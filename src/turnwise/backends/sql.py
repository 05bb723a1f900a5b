"""Storage in an SQL database, on SQLAlchemy Core: SQLite, in a file or in memory.

Whose clock: SQLite has none of its own that counts microseconds, and lives on one host, so it
is that host's clock, read while the write lock is held. Instants therefore grow in the order of
commits, and a look never misses a write that its timestamp precedes.

The gate is two unique keys on the executions: ``(service, running)``, where ``running`` is 1
while a run is open and NULL afterwards, and ``(service, serves)``, where ``serves`` is the
cycle that a run serves (its slot, with ``"every_slot"``) and becomes NULL where its failure leaves
the cycle to a standby. NULLs do not collide in any dialect.

Every write is one short transaction that begins as a writer (``BEGIN IMMEDIATE``): a deferred
one fails at once under contention, whatever the busy timeout. The database is in WAL mode, with
``synchronous=FULL``: what was acknowledged survives a power cut, fencing tokens included.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from urllib.parse import quote

from turnwise.atomic_service import (
    ActiveRunnerInfo,
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
    MissingExtraError,
    Participant,
    StorageError,
    blocked_record,
    blocked_run,
    dead_at,
    forget_runners_before,
    leaves_cycle_open,
    running_record,
    served_instant,
    without_password,
)
from turnwise.membership import (
    RunnerRecord,
    after_heartbeat,
    after_leave,
    cycle_at,
    runner_digest,
    service_hash,
    set_digest,
)
from turnwise.settings import Settings

try:
    import sqlalchemy as sa
    from sqlalchemy import event
    from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
    from sqlalchemy.pool import QueuePool
except ImportError as error:
    raise MissingExtraError(
        "SQL storages need the extra 'sql': pip install 'turnwise[sql]'"
    ) from error

_ABANDONED = AtomicServiceExecutionStatus.ABANDONED
_BUSY_TIMEOUT_SECONDS = 5.0
_WRITES = "turnwise_writes"


class _Instant(sa.TypeDecorator[datetime]):
    """An aware datetime, kept in UTC, to the microsecond, readable in the database's console."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        del dialect
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        del dialect
        return None if value is None else value.replace(tzinfo=UTC)


_NAME = sa.String(255)
_metadata = sa.MetaData()

_services = sa.Table(
    "turnwise_services",
    _metadata,
    sa.Column("service", _NAME, primary_key=True),
    sa.Column("fencing_token", sa.BigInteger, nullable=False),
    sa.Column("settings", sa.Text),
)

_runners = sa.Table(
    "turnwise_runners",
    _metadata,
    sa.Column("service", _NAME, primary_key=True),
    sa.Column("runner_id", _NAME, primary_key=True),
    sa.Column("creation_time", _Instant, nullable=False),
    sa.Column("last_heartbeat", _Instant, nullable=False),
    sa.Column("may_run", sa.Boolean, nullable=False),
    sa.Column("left_at", _Instant),
    sa.Column("boot_id", sa.String(64), nullable=False),
    sa.Column("digest", sa.BigInteger, nullable=False),
)

_executions = sa.Table(
    "turnwise_executions",
    _metadata,
    sa.Column("run_id", _NAME, primary_key=True),
    sa.Column("service", _NAME, nullable=False),
    sa.Column("runner_id", _NAME, nullable=False),
    sa.Column("fencing_token", sa.BigInteger),
    sa.Column("cycle_start", _Instant, nullable=False),
    sa.Column("slot_start", _Instant),
    sa.Column("slot_end", _Instant),
    sa.Column("start_time", _Instant, nullable=False),
    sa.Column("end_time", _Instant),
    sa.Column("last_heartbeat", _Instant, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("stable_size", sa.Integer, nullable=False),
    sa.Column("stable_digest", sa.String(12), nullable=False),
    sa.Column("running", sa.SmallInteger),
    sa.Column("serves", _Instant),
    sa.UniqueConstraint("service", "running", name="turnwise_one_running"),
    sa.UniqueConstraint("service", "serves", name="turnwise_one_serves"),
    sa.Index("turnwise_executions_by_start", "service", "start_time"),
)

_RECORD_COLUMNS = [c for c in _executions.c if c.name not in ("running", "serves")]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SqlBackend:
    """A storage in an SQL database.

    Args:
        url: ``sqlite:///relative/path.db``, ``sqlite:////absolute/path.db``, or ``sqlite://``
            for a fresh one in memory, which threads of this process share.
        create_tables: whether to create what is missing, the database file included. If
            False, a missing file or table is an error.
        clock: gives now as an aware datetime; the host's clock by default. All users of one
            database must read the same clock.

    Raises:
        ValueError: the URL is no URL of a database that is supported.
        StorageError: the database cannot be opened, or is none.
    """

    def __init__(
        self, url: str, *, create_tables: bool = True, clock: Callable[[], datetime] = _utc_now
    ) -> None:
        self._name = without_password(url)
        self._clock = clock
        self._engine = _sqlite_engine(url, may_create=create_tables)
        with self._transaction(writes=create_tables) as connection:
            if create_tables:
                _metadata.create_all(connection)
            elif not sa.inspect(connection).has_table(_executions.name):
                raise StorageError(f"{self._name} holds no tables of turnwise")

    def __repr__(self) -> str:
        return f"SqlBackend({self._name!r})"

    def publish_settings(self, service: str, settings: Settings) -> Settings | None:
        """See :class:`turnwise.backends.Backend`."""
        with self._transaction() as connection:
            before = _settings(connection, service)
            written = connection.execute(
                sa.update(_services)
                .where(_services.c.service == service)
                .values(settings=settings.to_json())
            )
            if written.rowcount == 0:
                row = {"service": service, "fencing_token": 0, "settings": settings.to_json()}
                connection.execute(sa.insert(_services).values(row))
            return before

    def settings_of(self, service: str) -> Settings | None:
        """See :class:`turnwise.backends.Backend`."""
        with self._transaction(writes=False) as connection:
            return _settings(connection, service)

    def services(self) -> tuple[str, ...]:
        """See :class:`turnwise.backends.Backend`."""
        names = sa.select(_services.c.service).where(_services.c.settings.is_not(None))
        with self._transaction(writes=False) as connection:
            return tuple(sorted(connection.scalars(names)))

    def heartbeat(
        self, service: str, who: Participant, settings: Settings, run_id: str | None = None
    ) -> Heartbeat:
        """See :class:`turnwise.backends.Backend`."""
        with self._transaction() as connection:
            now = self._clock()
            _, previous = _beat(connection, service, who, settings, now)
            holds_run = run_id is not None and _keep_alive(connection, service, run_id, now)
            return Heartbeat(now, previous, holds_run)

    def look(self, service: str, who: Participant, settings: Settings) -> Look:
        """See :class:`turnwise.backends.Backend`."""
        with self._transaction() as connection:
            now = self._clock()
            record, previous = _beat(connection, service, who, settings, now)
            seen = _see(connection, service, settings, now)
            return replace(seen, joined_at=record.creation_time, previous_boot_id=previous)

    def peek(self, service: str, settings: Settings, at: datetime | None = None) -> Look:
        """See :class:`turnwise.backends.Backend`."""
        with self._transaction(writes=False) as connection:
            return _see(connection, service, settings, self._clock() if at is None else at)

    def leave(self, service: str, who: Participant) -> None:
        """See :class:`turnwise.backends.Backend`."""
        with self._transaction() as connection:
            record = _runner(connection, service, who.runner_id)
            if record is not None and record.boot_id == who.boot_id:
                _write_runner(connection, service, after_leave(record, self._clock()))

    def admit(
        self, service: str, run: AtomicServiceRun, settings: Settings, look: Look
    ) -> Admission:
        """See :class:`turnwise.backends.Backend`."""
        with self._transaction() as connection:
            now = self._clock()
            _bury_dead_owner(connection, service, settings, now)
            try:
                with connection.begin_nested():
                    token = _next_fencing_token(connection, service)
                    record = running_record(service, run, token, now, look)
                    keys = {"running": 1, "serves": served_instant(run, settings)}
                    connection.execute(sa.insert(_executions).values(asdict(record) | keys))
            except IntegrityError:
                return _refuse(connection, service, run, settings, now, look)
        # Only now is it admitted: the commit was acknowledged.
        run.started_at = now
        return Admission(now, token)

    def finish(
        self,
        service: str,
        run_id: str,
        status: AtomicServiceExecutionStatus,
        reason: str,
        settings: Settings,
    ) -> ExecutionRecord | None:
        """See :class:`turnwise.backends.Backend`."""
        with self._transaction() as connection:
            now = self._clock()
            this_run = _running_row(service, _executions.c.run_id == run_id)
            connection.execute(this_run.values(_closed(status, reason, now, settings)))
            record = _execution(connection, service, run_id)
            _purge(connection, service, settings, now)
            return record

    def block(self, service: str, claim: AtomicServiceClaim, look: Look) -> None:
        """See :class:`turnwise.backends.Backend`."""
        with self._transaction() as connection:
            now = self._clock()
            _keep_blocked(connection, service, blocked_run(claim), claim.reason, now, look)

    def runners(self, service: str) -> tuple[RunnerRecord, ...]:
        """See :class:`turnwise.backends.Backend`."""
        rows = (
            sa.select(_runners)
            .where(_runners.c.service == service)
            .order_by(_runners.c.creation_time, _runners.c.runner_id)
        )
        with self._transaction(writes=False) as connection:
            return tuple(_runner_record(row) for row in connection.execute(rows))

    def executions(
        self, service: str, *, since: datetime | None = None, limit: int | None = None
    ) -> tuple[ExecutionRecord, ...]:
        """See :class:`turnwise.backends.Backend`."""
        c = _executions.c
        newest_first = (
            sa.select(*_RECORD_COLUMNS)
            .where(c.service == service)
            .order_by(
                c.start_time.desc(), sa.func.coalesce(c.fencing_token, 0).desc(), c.run_id.desc()
            )
            .limit(limit)
        )
        if since is not None:
            newest_first = newest_first.where(sa.or_(c.end_time.is_(None), c.end_time >= since))
        with self._transaction(writes=False) as connection:
            records = [_execution_record(row) for row in connection.execute(newest_first)]
        return tuple(reversed(records))

    def execution(self, service: str, run_id: str) -> ExecutionRecord | None:
        """See :class:`turnwise.backends.Backend`."""
        with self._transaction(writes=False) as connection:
            return _execution(connection, service, run_id)

    def close(self) -> None:
        """See :class:`turnwise.backends.Backend`."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self, *, writes: bool = True) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                connection = connection.execution_options(**{_WRITES: writes})  # noqa: PLW2901
                with connection.begin():
                    yield connection
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise StorageError(f"{self._name}: {_cause(error)}") from error


def _sqlite_engine(url: str, *, may_create: bool) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
        path = parsed.database
    except (ArgumentError, ValueError) as error:
        raise ValueError(f"{without_password(url)!r} is no URL of a database") from error
    if parsed.host or parsed.query or parsed.drivername not in {"sqlite", "sqlite+pysqlite"}:
        raise ValueError(
            f"{without_password(url)!r} is no URL of an SQLite database: write "
            "sqlite:///relative/path.db, sqlite:////absolute/path.db, or sqlite:// for memory"
        )
    in_memory = path in (None, "", ":memory:")

    def connect() -> sqlite3.Connection:
        # Opened here rather than by name, so that a missing file is created only where wanted.
        mode = "memory" if in_memory else ("rwc" if may_create else "rw")
        connection = sqlite3.connect(
            "file::memory:" if in_memory else f"file:{quote(str(path))}?mode={mode}",
            uri=True,
            timeout=_BUSY_TIMEOUT_SECONDS,
            isolation_level=None,  # transactions begin where _begin says so
            check_same_thread=False,
        )
        try:
            _prepare(connection, in_memory=in_memory)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    # In memory every connection is a database of its own: all threads take turns at one.
    pool_size, overflow = (1, 0) if in_memory else (5, 10)
    engine = sa.create_engine(
        "sqlite://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=overflow,
    )
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: sqlite3.Connection, *, in_memory: bool) -> None:
    if in_memory:
        return
    # Entering WAL mode fails at once while another process does the same, whatever the timeout.
    give_up = time.monotonic() + _BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            break
    connection.execute("PRAGMA synchronous=FULL")


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _cause(error: Exception) -> str:
    cause = str(getattr(error, "orig", None) or error).splitlines()[0]
    if "unable to open database file" in cause:
        return f"{cause}: does it exist, in a folder that may be written to?"
    return cause


def _settings(connection: sa.Connection, service: str) -> Settings | None:
    stored = connection.scalar(
        sa.select(_services.c.settings).where(_services.c.service == service)
    )
    return None if stored is None else Settings.from_json(stored)


def _beat(
    connection: sa.Connection, service: str, who: Participant, settings: Settings, now: datetime
) -> tuple[RunnerRecord, str | None]:
    """Write a heartbeat; the row as it is now, and the boot id that was on it before."""
    before = _runner(connection, service, who.runner_id)
    beat = RunnerRecord(who.runner_id, now, now, who.may_run, boot_id=who.boot_id)
    record = after_heartbeat(before, beat, settings)
    if before is None:
        row = asdict(record) | {"service": service, "digest": runner_digest(who.runner_id)}
        connection.execute(sa.insert(_runners).values(row))
    else:
        _write_runner(connection, service, record)
    return record, None if before is None else before.boot_id


def _runner(connection: sa.Connection, service: str, runner_id: str) -> RunnerRecord | None:
    row = connection.execute(
        sa.select(_runners).where(_runners.c.service == service, _runners.c.runner_id == runner_id)
    ).one_or_none()
    return None if row is None else _runner_record(row)


def _runner_record(row: sa.Row[tuple[object, ...]]) -> RunnerRecord:
    return RunnerRecord(
        row.runner_id, row.creation_time, row.last_heartbeat, row.may_run, row.left_at, row.boot_id
    )


def _write_runner(connection: sa.Connection, service: str, record: RunnerRecord) -> None:
    connection.execute(
        sa.update(_runners)
        .where(_runners.c.service == service, _runners.c.runner_id == record.runner_id)
        .values(asdict(record))
    )


def _see(connection: sa.Connection, service: str, settings: Settings, now: datetime) -> Look:
    """The cycle's frozen set: only its schedule leaves the database."""
    cycle = cycle_at(now, settings.interval)
    c = _runners.c
    stable = (
        sa.select(
            c.runner_id,
            c.creation_time,
            c.last_heartbeat,
            c.may_run,
            (sa.func.row_number().over(order_by=(c.creation_time, c.runner_id)) - 1).label("place"),
            sa.func.count().over().label("size"),
            sa.func.sum(c.digest).over().label("digests"),
        )
        .where(
            c.service == service,
            c.may_run,
            c.creation_time < cycle.start - settings.spread_margin,
            c.last_heartbeat >= cycle.start - settings.heartbeat_timeout,
            sa.or_(c.left_at.is_(None), c.left_at >= cycle.start),
        )
        .subquery()
    )
    # As membership.scheduled_position has it.
    turned: sa.ColumnElement[int] = stable.c.place
    if settings.runs_per_cycle == "once":
        first = (cycle.number + service_hash(service)) % stable.c.size
        turned = (stable.c.place - first + stable.c.size) % stable.c.size
    rows = sa.select(stable).order_by(turned)
    if settings.runs_per_cycle == "once":
        rows = rows.where(turned <= settings.standbys)
    scheduled = list(connection.execute(rows))
    return Look(
        now,
        cycle,
        tuple(
            ActiveRunnerInfo(row.runner_id, row.creation_time, row.last_heartbeat, row.may_run)
            for row in scheduled
        ),
        scheduled[0].size if scheduled else 0,
        set_digest([int(scheduled[0].digests)] if scheduled else []),
    )


def _keep_alive(connection: sa.Connection, service: str, run_id: str, now: datetime) -> bool:
    this_run = _running_row(service, _executions.c.run_id == run_id)
    return connection.execute(this_run.values(last_heartbeat=now)).rowcount == 1


def _running_row(service: str, *conditions: sa.ColumnElement[bool]) -> sa.Update:
    c = _executions.c
    return sa.update(_executions).where(c.service == service, c.running == 1, *conditions)


def _closed(
    status: AtomicServiceExecutionStatus, reason: str, now: datetime, settings: Settings
) -> dict[str, object]:
    """What ends a running row, and opens its cycle again where its end leaves it open."""
    closed: dict[str, object] = {
        "status": status,
        "reason": reason,
        "end_time": now,
        "running": None,
    }
    return closed | ({"serves": None} if leaves_cycle_open(status, reason, settings) else {})


def _next_fencing_token(connection: sa.Connection, service: str) -> int:
    """Count on; where rows are locked, this also lets one runner at a time through the gate."""
    this_service = _services.c.service == service
    counted = connection.execute(
        sa.update(_services).where(this_service).values(fencing_token=_services.c.fencing_token + 1)
    )
    if counted.rowcount == 0:
        connection.execute(sa.insert(_services).values(service=service, fencing_token=1))
    return int(
        connection.execute(sa.select(_services.c.fencing_token).where(this_service)).scalar_one()
    )


def _bury_dead_owner(
    connection: sa.Connection, service: str, settings: Settings, now: datetime
) -> None:
    silent = _executions.c.last_heartbeat < now - settings.heartbeat_timeout
    connection.execute(
        _running_row(service, silent).values(_closed(_ABANDONED, OWNER_DEAD, now, settings))
    )


def _refuse(
    connection: sa.Connection,
    service: str,
    run: AtomicServiceRun,
    settings: Settings,
    now: datetime,
    look: Look,
) -> Admission:
    """The unique keys have refused: say which run is in the way."""
    c = _executions.c
    prior = connection.execute(
        sa.select(c.run_id, c.last_heartbeat).where(c.service == service, c.running == 1)
    ).one_or_none()
    if prior is None:
        return Admission(now, None, CYCLE_SERVED)
    refusal = f"{PRIOR_RUNNING}:{prior.run_id}"
    _keep_blocked(connection, service, run, refusal, now, look)
    return Admission(now, None, refusal, dead_at(prior.last_heartbeat, settings))


def _keep_blocked(
    connection: sa.Connection,
    service: str,
    run: AtomicServiceRun,
    reason: str,
    now: datetime,
    look: Look,
) -> None:
    blocked = blocked_record(service, run, reason, now, look)
    if _execution(connection, service, blocked.run_id) is None:
        connection.execute(sa.insert(_executions).values(asdict(blocked)))


def _execution(connection: sa.Connection, service: str, run_id: str) -> ExecutionRecord | None:
    c = _executions.c
    row = connection.execute(
        sa.select(*_RECORD_COLUMNS).where(c.service == service, c.run_id == run_id)
    ).one_or_none()
    return None if row is None else _execution_record(row)


def _execution_record(row: sa.Row[tuple[object, ...]]) -> ExecutionRecord:
    columns = row._asdict()
    status = AtomicServiceExecutionStatus(columns.pop("status"))
    return ExecutionRecord(status=status, **columns)


def _purge(connection: sa.Connection, service: str, settings: Settings, now: datetime) -> None:
    """Forget what is over: by age, by count, never of the current cycle, never a running one."""
    c = _executions.c
    ended = sa.and_(c.service == service, c.running.is_(None))
    this_cycle = cycle_at(now, settings.interval).start
    # The first record beyond the count, newest first; it and all older ones go.
    beyond = connection.execute(
        sa.select(c.start_time, c.run_id)
        .where(ended)
        .order_by(c.start_time.desc(), c.run_id.desc())
        .offset(settings.retention_count)
        .limit(1)
    ).one_or_none()
    old: sa.ColumnElement[bool] = c.end_time < now - settings.retention_age
    if beyond is not None:
        same_time = sa.and_(c.start_time == beyond.start_time, c.run_id <= beyond.run_id)
        old = sa.or_(old, c.start_time < beyond.start_time, same_time)
    connection.execute(sa.delete(_executions).where(ended, c.cycle_start < this_cycle, old))
    forgotten = _runners.c.last_heartbeat < forget_runners_before(now, settings)
    connection.execute(sa.delete(_runners).where(_runners.c.service == service, forgotten))
