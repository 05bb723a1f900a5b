"""Storage in an SQL database, on SQLAlchemy Core: SQLite, PostgreSQL, MySQL and MariaDB.

Whose clock: the database's (``clock_timestamp()``, ``UTC_TIMESTAMP(6)``), within the statement
that needs it. SQLite has none that counts microseconds, and lives on one host, so it is that
host's clock, read while the write lock is held: there instants grow in the order of commits, and
a look never misses a write that its timestamp precedes.

The gate is two unique keys on the executions: ``(service, running)``, where ``running`` is 1
while a run is open and NULL afterwards, and ``(service, serves)``, where ``serves`` is the
cycle that a run serves (its slot, with ``"every_slot"``) and becomes NULL where its failure leaves
the cycle to a standby. NULLs do not collide in any dialect.

On PostgreSQL a look is one statement and one round trip, and so is an admission. There are no
session settings and no prepared statements. SQLite begins each write as a writer (``BEGIN
IMMEDIATE``): a deferred transaction fails at once under contention, whatever the busy timeout. Its
file is in WAL mode. On these two a heartbeat does not wait for the disk, and neither does a look
that finds the set of its cycle written down. All else, fencing tokens included, survives a power
cut once it is acknowledged.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from turnwise.atomic_service import (
    AtomicServiceClaim,
    AtomicServiceExecutionStatus,
    AtomicServiceRun,
)
from turnwise.backends import (
    Admission,
    ExecutionRecord,
    Heartbeat,
    Look,
    MissingExtraError,
    Participant,
    blocked_run,
    forget_runners_before,
    without_password,
)
from turnwise.membership import RunnerRecord, cycle_at, runner_digest, set_rules
from turnwise.old_settings import Settings

try:
    import sqlalchemy as sa
except ImportError as error:
    raise MissingExtraError(
        "SQL storages need the extra 'sql': pip install 'turnwise[sql]'"
    ) from error

from turnwise.backends._database import Database, again_if_rolled_back, schema_statements
from turnwise.backends._frozen_set import freeze, kept_schedule, look_from, work_out
from turnwise.backends._sql_gate import SqlGate, ending
from turnwise.backends._statements import Statements, parameters

if TYPE_CHECKING:
    from turnwise.backends._schema import AnyRow

__all__ = ["SqlBackend", "schema_statements"]


class SqlBackend:
    """A storage in an SQL database.

    Args:
        url: ``sqlite:///relative/path.db``, ``sqlite:////absolute/path.db``, or ``sqlite://``
            for a fresh one in memory, which threads of this process share;
            ``postgresql://user:password@host/database``, ``mysql://...``, ``mariadb://...``.
            In its query, ``table_prefix`` stands for ``turnwise_`` in the tables' names, and
            ``schema`` for where they are.
        create_tables: whether to create what is missing, the database file included. If
            False, a missing file or table is an error.
        clock: gives now as an aware datetime, for tests. By default it is the database's own;
            the host's with SQLite. All users of one database must go by the same clock.

    Raises:
        ValueError: the URL is no URL of a database that is supported.
        MissingExtraError: the database's driver is not installed.
        StorageError: the database cannot be opened, or is none.
    """

    def __init__(
        self,
        url: str,
        *,
        create_tables: bool = True,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        try:
            self._database = Database(url, may_create=create_tables, clock=clock)
        except (
            AttributeError,
            TypeError,
        ) as error:  # a driver's, for what it cannot take in a query
            raise ValueError(
                f"{without_password(url)!r} is no URL of a database: {error}"
            ) from None
        except UnicodeError:  # a driver's; what it says of it shows a part of it
            raise ValueError(f"{without_password(url)!r}: its driver cannot encode it") from None
        self._clock, self._tables = self._database.clock, self._database.tables
        self._do = Statements(self._database)
        self._gate = SqlGate(self._database, self._do)

    def __repr__(self) -> str:
        return f"SqlBackend({self._database.name!r})"

    @again_if_rolled_back
    def publish_settings(self, service: str, settings: Settings) -> Settings | None:
        """See :class:`turnwise.backends.Backend`."""
        before = self.settings_of(service)
        services = self._tables.services
        with self._database.connection(atomic=False) as connection:
            self._do.execute(connection, self._do.make_service, parameters(service=service))
            connection.execute(
                sa.update(services)
                .where(services.c.service == service)
                .values(settings=settings.to_json())
            )
        return before

    def settings_of(self, service: str) -> Settings | None:
        """See :class:`turnwise.backends.Backend`."""
        c = self._tables.services.c
        with self._reading() as connection:
            stored = connection.scalar(sa.select(c.settings).where(c.service == service))
        try:
            return None if stored is None else Settings.from_json(stored)
        except ValueError:  # another version of turnwise wrote them
            return None

    def services(self) -> tuple[str, ...]:
        """See :class:`turnwise.backends.Backend`."""
        c = self._tables.services.c
        with self._reading() as connection:
            names = connection.scalars(sa.select(c.service).where(c.settings.is_not(None)))
            return tuple(sorted(names))

    @again_if_rolled_back
    def heartbeat(
        self, service: str, who: Participant, settings: Settings, run_id: str | None = None
    ) -> Heartbeat:
        """See :class:`turnwise.backends.Backend`."""
        with self._database.connection(atomic=False, durable=False) as connection:
            of_this = self._of_this(service, who, settings) | parameters(run_id=run_id)
            in_one = run_id is not None and self._do.changes_in_cte
            statement = self._do.heartbeat_in_turn if in_one else self._do.heartbeat
            row = self._do.answer(
                connection, statement, of_this, otherwise=self._do.after_heartbeat
            )
            if in_one:
                holds_run = bool(row.holds_run)
            else:
                holds_run = run_id is not None and bool(
                    self._do.execute(connection, self._do.keep_alive, of_this).rowcount
                )
        return Heartbeat(row.now, row.previous_boot_id, holds_run)

    @again_if_rolled_back
    def look(self, service: str, who: Participant, settings: Settings) -> Look:
        """See :class:`turnwise.backends.Backend`."""
        with self._database.connection(atomic=False, durable=False) as connection:
            of_this = self._of_this(service, who, settings)
            row = self._do.answer(
                connection, self._do.look, of_this, otherwise=self._do.after_heartbeat
            )
            schedule = row.schedule
        if schedule is None:
            with self._database.connection() as connection:
                schedule = freeze(connection, self._tables, service, settings, row.now)
        seen = look_from(schedule, row.now, settings)
        return replace(seen, joined_at=row.creation_time, previous_boot_id=row.previous_boot_id)

    def peek(self, service: str, settings: Settings, at: datetime | None = None) -> Look:
        """See :class:`turnwise.backends.Backend`."""
        with self._reading() as connection:
            now = self._do.read_clock(connection, settings) if at is None else at
            cycle = cycle_at(now, settings.interval)
            kept = kept_schedule(connection, self._tables, service, settings, cycle)
            if kept is not None:
                return look_from(kept, now, settings)
            return work_out(connection, self._tables, service, settings, now)

    @again_if_rolled_back
    def leave(self, service: str, who: Participant) -> None:
        """See :class:`turnwise.backends.Backend`."""
        with self._database.connection(atomic=False) as connection:
            self._do.execute(connection, self._do.leave, self._of_this(service, who, _ANY_SETTINGS))

    @again_if_rolled_back
    def admit(
        self, service: str, run: AtomicServiceRun, settings: Settings, look: Look
    ) -> Admission:
        """See :class:`turnwise.backends.Backend`."""
        return self._gate.admit(service, run, settings, look)

    @again_if_rolled_back
    def finish(
        self,
        service: str,
        run_id: str,
        status: AtomicServiceExecutionStatus,
        reason: str,
        settings: Settings,
    ) -> ExecutionRecord | None:
        """See :class:`turnwise.backends.Backend`."""
        with self._database.connection(atomic=False) as connection:
            moment = self._clock.parameters(settings)
            this = ending(service, run_id, status, reason, settings)
            closed = self._do.execute(connection, self._do.close, this | moment)
            row = closed.one_or_none() if self._do.returns else None
            record = self._execution(connection, service, run_id) if row is None else _record(row)
            is_ours = row is not None or (not self._do.returns and closed.rowcount == 1)
            now = record.end_time if is_ours and record is not None else None
            now = now or self._do.read_clock(connection, settings)
            self._purge(connection, service, settings, now)
        return record

    @again_if_rolled_back
    def block(self, service: str, claim: AtomicServiceClaim, look: Look) -> None:
        """See :class:`turnwise.backends.Backend`."""
        with self._database.connection(atomic=False) as connection:
            self._gate.keep_blocked(connection, service, blocked_run(claim), claim.reason, look)

    def runners(self, service: str) -> tuple[RunnerRecord, ...]:
        """See :class:`turnwise.backends.Backend`."""
        c = self._tables.runners.c
        rows = (
            sa.select(self._tables.runners)
            .where(c.service == service)
            .order_by(c.creation_time, c.runner_id)
        )
        with self._reading() as connection:
            return tuple(
                RunnerRecord(
                    row.runner_id,
                    row.creation_time,
                    row.last_heartbeat,
                    row.may_run,
                    row.left_at,
                    row.boot_id,
                )
                for row in connection.execute(rows)
            )

    def executions(
        self, service: str, *, since: datetime | None = None, limit: int | None = None
    ) -> tuple[ExecutionRecord, ...]:
        """See :class:`turnwise.backends.Backend`."""
        c = self._tables.executions.c
        newest_first = (
            sa.select(*self._tables.record_columns)
            .where(c.service == service)
            .order_by(
                c.start_time.desc(), sa.func.coalesce(c.fencing_token, 0).desc(), c.run_id.desc()
            )
            .limit(limit)
        )
        if since is not None:
            newest_first = newest_first.where(sa.or_(c.end_time.is_(None), c.end_time >= since))
        with self._reading() as connection:
            records = [_record(row) for row in connection.execute(newest_first)]
        return tuple(reversed(records))

    def execution(self, service: str, run_id: str) -> ExecutionRecord | None:
        """See :class:`turnwise.backends.Backend`."""
        with self._reading() as connection:
            return self._execution(connection, service, run_id)

    def close(self) -> None:
        """See :class:`turnwise.backends.Backend`."""
        self._database.close()

    def _reading(self) -> AbstractContextManager[sa.Connection]:
        return self._database.connection(writes=False, atomic=False)

    def _of_this(self, service: str, who: Participant, settings: Settings) -> dict[str, object]:
        """The parameters of a heartbeat; the clock is read here, where we read it."""
        return self._clock.parameters(settings) | parameters(
            service=service,
            runner_id=who.runner_id,
            boot_id=who.boot_id,
            may_run=who.may_run,
            digest=runner_digest(who.runner_id),
            rules=set_rules(settings),
        )

    def _execution(
        self, connection: sa.Connection, service: str, run_id: str
    ) -> ExecutionRecord | None:
        c = self._tables.executions.c
        row = connection.execute(
            sa.select(*self._tables.record_columns).where(c.service == service, c.run_id == run_id)
        ).one_or_none()
        return None if row is None else _record(row)

    def _purge(
        self, connection: sa.Connection, service: str, settings: Settings, now: datetime
    ) -> None:
        """Forget what is over, where there is anything."""
        limits = parameters(
            service=service,
            cycle_start=cycle_at(now, settings.interval).start,
            end_time=now - settings.retention_age,
            count=settings.retention_count,
            last_heartbeat=forget_runners_before(now, settings),
        )
        over = self._do.execute(connection, self._do.find_what_is_over, limits).one()
        if over.any_old or over.run_id is not None:
            beyond = parameters(start_time=over.start_time, run_id=over.run_id)
            self._do.execute(connection, self._do.forget_executions, limits | beyond)
        if over.any_forgotten:
            self._do.execute(connection, self._do.forget_runners, limits)


_ANY_SETTINGS = Settings()
"""For the clock's parameters where no cycle is asked for."""


def _record(row: "AnyRow") -> ExecutionRecord:
    columns = row._asdict()
    status = AtomicServiceExecutionStatus(columns.pop("status"))
    return ExecutionRecord(status=status, **columns)
