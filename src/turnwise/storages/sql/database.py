"""One SQL database that is open: its tables, its clock, and two connections that are kept."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from turnwise.errors import SchemaError, StorageError
from turnwise.own_process import OwnProcess
from turnwise.storages.sql import connect as limits
from turnwise.storages.sql.address import OWN_DRIVERS, Address
from turnwise.storages.sql.clock import HostClock, clock_for
from turnwise.storages.sql.connect import Answer, Driver, Failure, Line, Session
from turnwise.storages.sql.naming import NAMES, table_name
from turnwise.storages.sql.sqlite import Sqlite, SqliteSession
from turnwise.storages.sql.statements import WORDS, Statements, Value
from turnwise.storages.sql.whole import is_whole

# SQLAlchemy is imported where it is needed: not for a file whose tables are as we make them.
if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncEngine

_TRIES_TO_CREATE = 20
_BETWEEN_TRIES_SECONDS = 0.05

_ADVANCE = "UPDATE {revisions} SET revision = revision + 1 WHERE group_name = :group"
_REVISION = "SELECT revision FROM {revisions} WHERE group_name = :group"
_MAKE_REVISION = "INSERT INTO {revisions} (group_name, revision) VALUES (:group, 0) {or_keep}"


class Database:
    """The part of :class:`turnwise.storages.sql.SqlStorage` that all its operations stand on.

    ``_beats`` is the connection for heartbeats and leaves, so that nothing else holds them up;
    ``_work`` is that for all else. In memory they are one.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        create_tables: bool = True,
        clock: HostClock | None = None,
        engine: "sa.Engine | AsyncEngine | None" = None,
    ) -> None:
        self._address, driver = _address_and_driver(url, engine, may_create=create_tables)
        self._clock = clock_for(self._address.kind, clock)
        self._statements = Statements(self._words(), driver.placeholder)
        process = OwnProcess(f"the storage {self._address.shown}")
        self._work = Line(driver.connect, self._address, process, self._clock.host)
        self._beats = self._work
        if not (isinstance(driver, Sqlite) and driver.path is None):
            self._beats = Line(driver.connect, self._address, process, self._clock.host)
        try:
            self._find_tables(may_create=create_tables)
            with self._beats.taken(writes=False):
                pass  # opened now, and not in the course of work
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"SqlStorage({self._address.shown!r})"

    def close(self) -> None:
        """Let go of both connections. The storage must not be used afterwards."""
        self._work.close()
        self._beats.close()

    def advance(self, group: str) -> int:
        """See :meth:`turnwise.storages.Storage.advance`."""
        with self._work.taken() as line:
            return self._advanced(line, group=group)

    # For the operations -----------------------------------------------------------------------

    def _ask(self, line: Line, template: str, **values: Value) -> Answer:
        """Execute a statement on a connection that is taken."""
        return line.execute(self._statements.get(template, values), values)

    def _read(self, template: str, **values: Value) -> Answer:
        """One statement that reads."""
        with self._work.taken(writes=False) as line:
            return self._ask(line, template, **values)

    def _write(self, *templates: str, **values: Value) -> None:
        """Statements that write. A server executes each for itself; a file, all or none."""
        with self._work.taken() as line:
            for template in templates:
                self._ask(line, template, **values)

    def _advanced(self, line: Line, condition: str = "", *, group: str, **values: Value) -> int:
        """Advance the revision, where the condition holds; which it is then."""
        while True:
            self._ask(line, f"{_ADVANCE} {condition}", group=group, **values)
            rows = self._ask(line, _REVISION, group=group).rows
            if rows:
                return int(rows[0][0])
            self._ask(line, _MAKE_REVISION, group=group)

    def _words(self) -> dict[str, str]:
        """What stands for each word in braces in a statement."""
        return {
            **{name: table_name(self._address, name) for name in NAMES},
            **WORDS[self._address.kind],
            "now": self._clock.now,
            "start": self._clock.start,
            "seen": self._clock.seen,
        }

    # Opening ----------------------------------------------------------------------------------

    def _find_tables(self, *, may_create: bool) -> None:
        for last_try in [False] * _TRIES_TO_CREATE + [True]:
            try:
                with self._work.taken(writes=False) as line:
                    session = line.session()
                    self._require_tables(session, may_create=may_create)
                    if isinstance(session, SqliteSession):
                        session.enter_wal_mode()
            except SchemaError:
                raise
            except StorageError:
                # Somebody else creates them at the same time, and the database minds.
                if last_try or not may_create or not self._work.is_open:
                    raise
                time.sleep(random.uniform(0, _BETWEEN_TRIES_SECONDS))  # noqa: S311 (no secret)
            else:
                return

    def _require_tables(self, session: Session, *, may_create: bool) -> None:
        if isinstance(session, SqliteSession) and is_whole(session.raw, self._address):
            return
        from turnwise.storages.sql.schema import open_tables  # noqa: PLC0415 (see above)

        with _as_sqlalchemy(session, self._address.kind) as connection:
            open_tables(connection, self._address, may_create=may_create)


def upgrade(url: str) -> tuple[int, int]:
    """Bring the tables of an older turnwise to this version, with nobody else at work on them.

    Returns:
        The version that they had, and the one that they have now.

    Raises:
        ValueError: the URL is no URL of a database that is supported.
        SchemaError: there are no tables of turnwise, or newer ones.
        StorageError: the database does not answer.
    """
    from turnwise.storages.sql import schema  # noqa: PLC0415 (see above)

    address, driver = _address_and_driver(url, None, may_create=False)
    line = Line(driver.connect, address, OwnProcess(f"the storage {address.shown}"))
    try:
        with (
            line.taken(writes=False),
            _as_sqlalchemy(line.session(), address.kind) as connection,
        ):
            return schema.upgrade(connection, address)
    finally:
        line.close()


@contextmanager
def _as_sqlalchemy(session: Session, kind: str) -> "Iterator[sa.Connection]":
    """SQLAlchemy's connection over ours, for a while, at the end of which it is interrupted."""
    import sqlalchemy as sa  # noqa: PLC0415 (see above)
    from sqlalchemy.pool import StaticPool  # noqa: PLC0415 (see above)

    engine = sa.create_engine(
        f"{kind}+{OWN_DRIVERS[kind]}://",
        creator=lambda: session.raw,
        poolclass=StaticPool,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        **({"use_native_hstore": False} if kind == "postgresql" else {}),
    )
    overdue = threading.Timer(limits.ANSWER_SECONDS, session.interrupt)
    overdue.daemon = True
    overdue.start()
    try:
        yield engine.connect()
    except sa.exc.SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        said: tuple[object, ...] = getattr(cause, "args", ())
        raise Failure(said[-1] if len(said) > 1 else cause) from None
    finally:
        overdue.cancel()
        overdue.join()


def _address_and_driver(
    url: str | None, engine: "sa.Engine | AsyncEngine | None", *, may_create: bool
) -> tuple[Address, Driver]:
    raw: Callable[[], Any] | None = None
    if engine is not None:
        import sqlalchemy as sa  # noqa: PLC0415 (see above)

        sync = engine if isinstance(engine, sa.Engine) else engine.sync_engine
        url = url or sync.url.render_as_string(hide_password=False)
        raw = _connections_of(sync)
    if url is None:
        raise TypeError("a storage needs a url or an engine")
    address = Address.read(url)
    if address.kind == "postgresql":
        from turnwise.storages.sql.postgresql import Postgres  # noqa: PLC0415 (see above)

        return address, Postgres(address, raw)
    if address.kind == "mysql":
        from turnwise.storages.sql.mysql import Mysql  # noqa: PLC0415 (see above)

        return address, Mysql(address, raw)
    sqlite = Sqlite(address, may_create=may_create)
    if engine is not None and sqlite.path is None:
        raise ValueError("an engine in memory shares nothing: give the url 'sqlite://' instead")
    return address, sqlite


def _connections_of(engine: "sa.Engine") -> Callable[[], Any] | None:
    """Opens connections as the engine does, where its driver is ours: it may hand over tokens."""
    if engine.dialect.driver not in OWN_DRIVERS.values() or engine.dialect.is_async:
        return None

    def connect() -> Any:
        fairy = engine.raw_connection()
        raw = fairy.driver_connection
        fairy.detach()
        return raw

    return connect
