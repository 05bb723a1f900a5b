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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime

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
    after_leave,
    cycle_at,
)
from turnwise.settings import Settings

try:
    import sqlalchemy as sa
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError
except ImportError as error:
    raise MissingExtraError(
        "SQL storages need the extra 'sql': pip install 'turnwise[sql]'"
    ) from error

from turnwise.backends._runner_rows import beat, runner_record, runner_row, see, write_runner
from turnwise.backends._schema import RECORD_COLUMNS, executions, metadata, runners, services
from turnwise.backends._sqlite import WRITES, sqlite_engine

_ABANDONED = AtomicServiceExecutionStatus.ABANDONED


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
        self._engine = sqlite_engine(url, may_create=create_tables)
        try:
            self._find_tables(may_create=create_tables)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"SqlBackend({self._name!r})"

    def publish_settings(self, service: str, settings: Settings) -> Settings | None:
        """See :class:`turnwise.backends.Backend`."""
        with self._transaction() as connection:
            before = _settings(connection, service)
            written = connection.execute(
                sa.update(services)
                .where(services.c.service == service)
                .values(settings=settings.to_json())
            )
            if written.rowcount == 0:
                row = {"service": service, "fencing_token": 0, "settings": settings.to_json()}
                connection.execute(sa.insert(services).values(row))
            return before

    def settings_of(self, service: str) -> Settings | None:
        """See :class:`turnwise.backends.Backend`."""
        with self._transaction(writes=False) as connection:
            return _settings(connection, service)

    def services(self) -> tuple[str, ...]:
        """See :class:`turnwise.backends.Backend`."""
        names = sa.select(services.c.service).where(services.c.settings.is_not(None))
        with self._transaction(writes=False) as connection:
            return tuple(sorted(connection.scalars(names)))

    def heartbeat(
        self, service: str, who: Participant, settings: Settings, run_id: str | None = None
    ) -> Heartbeat:
        """See :class:`turnwise.backends.Backend`."""
        with self._transaction() as connection:
            now = self._clock()
            _, previous = beat(connection, service, who, settings, now)
            holds_run = run_id is not None and _keep_alive(connection, service, run_id, now)
            return Heartbeat(now, previous, holds_run)

    def look(self, service: str, who: Participant, settings: Settings) -> Look:
        """See :class:`turnwise.backends.Backend`."""
        with self._transaction() as connection:
            now = self._clock()
            record, previous = beat(connection, service, who, settings, now)
            seen = see(connection, service, settings, now)
            return replace(seen, joined_at=record.creation_time, previous_boot_id=previous)

    def peek(self, service: str, settings: Settings, at: datetime | None = None) -> Look:
        """See :class:`turnwise.backends.Backend`."""
        with self._transaction(writes=False) as connection:
            return see(connection, service, settings, self._clock() if at is None else at)

    def leave(self, service: str, who: Participant) -> None:
        """See :class:`turnwise.backends.Backend`."""
        with self._transaction() as connection:
            record = runner_row(connection, service, who.runner_id)
            if record is not None and record.boot_id == who.boot_id:
                write_runner(connection, service, after_leave(record, self._clock()))

    def admit(
        self, service: str, run: AtomicServiceRun, settings: Settings, look: Look
    ) -> Admission:
        """See :class:`turnwise.backends.Backend`."""
        with self._transaction() as connection:
            now = self._clock()
            _bury_dead_owner(connection, service, settings, now)
            token: int | None
            try:
                with connection.begin_nested():  # a refused run gives its fencing token back
                    token = _next_fencing_token(connection, service)
                    record = running_record(service, run, token, now, look)
                    keys = {"running": 1, "serves": served_instant(run, settings)}
                    connection.execute(sa.insert(executions).values(asdict(record) | keys))
            except IntegrityError:
                token = None
            if token is None:
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
            this_run = _running_row(service, executions.c.run_id == run_id)
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
            sa.select(runners)
            .where(runners.c.service == service)
            .order_by(runners.c.creation_time, runners.c.runner_id)
        )
        with self._transaction(writes=False) as connection:
            return tuple(runner_record(row) for row in connection.execute(rows))

    def executions(
        self, service: str, *, since: datetime | None = None, limit: int | None = None
    ) -> tuple[ExecutionRecord, ...]:
        """See :class:`turnwise.backends.Backend`."""
        c = executions.c
        newest_first = (
            sa.select(*RECORD_COLUMNS)
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

    def _find_tables(self, *, may_create: bool) -> None:
        with self._transaction(writes=may_create) as connection:
            if may_create:
                metadata.create_all(connection)
            elif not set(metadata.tables) <= set(sa.inspect(connection).get_table_names()):
                raise StorageError(f"{self._name} holds no tables of turnwise")

    @contextmanager
    def _transaction(self, *, writes: bool = True) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                connection = connection.execution_options(**{WRITES: writes})  # noqa: PLW2901
                with connection.begin():
                    yield connection
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise StorageError(f"{self._name}: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    # A rollback that fails, too, must not hide why there was one.
    while isinstance(error.__context__, SQLAlchemyError | sqlite3.Error):
        error = error.__context__
    cause = str(getattr(error, "orig", None) or error).splitlines()[0]
    if "unable to open database file" in cause:
        return f"{cause}: does it exist, in a folder that may be written to?"
    return cause


def _settings(connection: sa.Connection, service: str) -> Settings | None:
    stored = connection.scalar(sa.select(services.c.settings).where(services.c.service == service))
    try:
        return None if stored is None else Settings.from_json(stored)
    except ValueError:  # another version of turnwise wrote them
        return None


def _keep_alive(connection: sa.Connection, service: str, run_id: str, now: datetime) -> bool:
    this_run = _running_row(service, executions.c.run_id == run_id)
    return connection.execute(this_run.values(last_heartbeat=now)).rowcount == 1


def _running_row(service: str, *conditions: sa.ColumnElement[bool]) -> sa.Update:
    c = executions.c
    return sa.update(executions).where(c.service == service, c.running == 1, *conditions)


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
    this_service = services.c.service == service
    counted = connection.execute(
        sa.update(services).where(this_service).values(fencing_token=services.c.fencing_token + 1)
    )
    if counted.rowcount == 0:
        connection.execute(sa.insert(services).values(service=service, fencing_token=1))
    return int(
        connection.execute(sa.select(services.c.fencing_token).where(this_service)).scalar_one()
    )


def _bury_dead_owner(
    connection: sa.Connection, service: str, settings: Settings, now: datetime
) -> None:
    silent = executions.c.last_heartbeat < now - settings.heartbeat_timeout
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
    c = executions.c
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
        connection.execute(sa.insert(executions).values(asdict(blocked)))


def _execution(connection: sa.Connection, service: str, run_id: str) -> ExecutionRecord | None:
    c = executions.c
    row = connection.execute(
        sa.select(*RECORD_COLUMNS).where(c.service == service, c.run_id == run_id)
    ).one_or_none()
    return None if row is None else _execution_record(row)


def _execution_record(row: sa.Row[tuple[object, ...]]) -> ExecutionRecord:
    columns = row._asdict()
    status = AtomicServiceExecutionStatus(columns.pop("status"))
    return ExecutionRecord(status=status, **columns)


def _purge(connection: sa.Connection, service: str, settings: Settings, now: datetime) -> None:
    """Forget what is over: by age, by count, never of the current cycle, never a running one."""
    c = executions.c
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
    connection.execute(sa.delete(executions).where(ended, c.cycle_start < this_cycle, old))
    forgotten = runners.c.last_heartbeat < forget_runners_before(now, settings)
    connection.execute(sa.delete(runners).where(runners.c.service == service, forgotten))
