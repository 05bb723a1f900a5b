"""One SQL database: its connections, its transactions, its tables, and what its errors become."""

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from random import uniform
from typing import ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from turnwise.backends import StorageError, check_spelling, without_password
from turnwise.backends._moment import Clock, HostClock, MySqlClock, PostgresClock
from turnwise.backends._schema import Tables
from turnwise.backends._servers import mysql_engine, postgres_engine
from turnwise.backends._sqlite import DURABLE, WRITES, sqlite_engine, write_ahead
from turnwise.own_process import OwnProcess

_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgresql": "postgresql",
    "postgresql+psycopg": "postgresql",
    "mysql": "mysql",
    "mysql+pymysql": "mysql",
    "mariadb": "mysql",
    "mariadb+pymysql": "mysql",
}
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
_MAY_STAND_TWICE = ("host", "port")  # of several servers
_TRIES_TO_CREATE = 20
_BETWEEN_TRIES_SECONDS = 0.05
_CLOCKS: dict[str, Callable[[], Clock]] = {"postgresql": PostgresClock, "mysql": MySqlClock}
_TRIES_AFTER_ROLLBACK = 10
# A deadlock, or a conflict of serializable transactions, by SQL state; by MySQL's number for
# it, too, because not every PyMySQL hands the state on.
_ROLLED_BACK: tuple[object, ...] = ("40001", "40P01", 1213)
_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


class RefusedError(StorageError):
    """A unique key has refused what was to be written, and nothing was."""


class RolledBackError(StorageError):
    """The database says that it has undone the transaction, as it does to end a deadlock."""


def again_if_rolled_back(
    operation: Callable[_Arguments, _Answer],
) -> Callable[_Arguments, _Answer]:
    """An operation that is safe to repeat, repeated where its transaction was undone.

    That is no unknown outcome: the database's own word is that nothing was done.
    """

    @wraps(operation)
    def until_it_stands(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Answer:
        for _ in range(_TRIES_AFTER_ROLLBACK - 1):
            try:
                return operation(*args, **kwargs)
            except RolledBackError:
                # Of those that were locked with each other, one shall be first.
                time.sleep(uniform(0, _BETWEEN_TRIES_SECONDS))  # noqa: S311 (no secret)
        return operation(*args, **kwargs)

    return until_it_stands


class Database:
    """What an SQL storage is on.

    Args:
        url: of the database. ``table_prefix`` and ``schema`` in its query name the tables.
        may_create: whether what is missing is created rather than an error.
        clock: gives now instead of the database, for tests; for SQLite, which has no clock, the
            host's by default.

    Raises:
        ValueError: it is no URL of a database that is supported.
        MissingExtraError: the driver is not installed.
        StorageError: it cannot be opened, or is none.
    """

    def __init__(self, url: str, *, may_create: bool, clock: Callable[[], datetime] | None) -> None:
        check_spelling(url)
        self.name = without_password(url)
        self._process = OwnProcess(f"the storage {self.name}")
        parsed, self.tables = _read_url(url)
        self.kind = _DRIVERS[parsed.drivername]
        self._password = parsed.password
        self.engine = _engine(self.kind, parsed, url, may_create=may_create)
        if clock is None and self.kind in _CLOCKS:
            self.clock = _CLOCKS[self.kind]()
        else:
            self.clock = HostClock(clock or _utc_now)
        try:
            self._find_tables(may_create=may_create)
            if self.kind == "sqlite" and not may_create:
                self._write_ahead()  # what may be created is, with its first connection
        except BaseException:
            self.close()
            raise

    @property
    def dialect(self) -> sa.Dialect:
        """What this kind of database can do; known after the first connection."""
        return self.engine.dialect

    @contextmanager
    def connection(
        self, *, writes: bool = True, atomic: bool = True, durable: bool = True
    ) -> Iterator[sa.Connection]:
        """A connection for one short transaction.

        Where ``atomic`` is False, a server takes each statement for a transaction of its own,
        which saves two round trips. SQLite's begins as a writer's where it ``writes``, and waits
        for the disk at its end where it is ``durable``.

        Raises:
            StorageError: what went wrong, in one line; nothing is known of an open transaction,
                unless it is a :class:`RolledBackError`.
            RefusedError: a unique key has refused; the transaction is rolled back.
            ForkError: the storage was opened before a fork.
        """
        self._process.check()
        try:
            with self._connect() as connection:
                if self.kind == "sqlite":
                    connection = connection.execution_options(  # noqa: PLW2901
                        **{WRITES: writes, DURABLE: durable}
                    )
                    with connection.begin():
                        yield connection
                elif atomic:
                    with _explicit_transaction(connection):
                        yield connection
                else:
                    yield connection
        except (IntegrityError, sqlite3.IntegrityError) as error:
            raise RefusedError(f"{self.name}: {self._cause(error)}") from error
        except (SQLAlchemyError, sqlite3.Error) as error:
            kind = RolledBackError if _was_rolled_back(error) else StorageError
            raise kind(f"{self.name}: {self._cause(error)}") from error

    def close(self) -> None:
        """Let go of all connections; where they came by a fork, without a word to the server."""
        self.engine.dispose(close=self.kind == "sqlite" or self._process.is_this())

    def _connect(self) -> sa.Connection:
        try:
            return self.engine.connect()
        except (OSError, RuntimeError) as error:
            # A file of certificates that is not there, a package that a way to log in needs:
            # PyMySQL has no kind of error for them.
            raise StorageError(f"{self.name}: {self._cause(error)}") from error

    def _write_ahead(self) -> None:
        """Only a file that holds our tables: whoever looks into another must not change it."""
        try:
            write_ahead(self.engine)
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise StorageError(f"{self.name}: {self._cause(error)}") from error

    def _find_tables(self, *, may_create: bool) -> None:
        for attempt in range(_TRIES_TO_CREATE):
            if not self._missing_tables():
                return
            if not may_create:
                raise StorageError(f"{self.name} holds no tables of turnwise")
            try:
                with self.connection(atomic=False) as connection:
                    self.tables.metadata.create_all(connection)
            except StorageError:
                # Somebody else creates them at the same time, and PostgreSQL minds.
                if attempt == _TRIES_TO_CREATE - 1:
                    raise
                time.sleep(_BETWEEN_TRIES_SECONDS)

    def _missing_tables(self) -> set[str]:
        with self.connection(writes=False, atomic=False) as connection:
            schema = self.tables.metadata.schema
            present = sa.inspect(connection).get_table_names(schema)
        return {table.name for table in self.tables.metadata.sorted_tables} - set(present)

    def _cause(self, error: BaseException) -> str:
        # A rollback that fails, too, must not hide why there was one.
        while isinstance(error.__context__, SQLAlchemyError | sqlite3.Error):
            error = error.__context__
        cause = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
        cause = cause.splitlines()[0]
        if self._password:
            cause = cause.replace(self._password, "***")
        if "unable to open database file" in cause:
            return f"{cause}: does it exist, in a folder that may be written to?"
        return cause


def _was_rolled_back(error: BaseException) -> bool:
    driver = getattr(error, "orig", None)
    code = getattr(driver, "sqlstate", None) or next(iter(getattr(driver, "args", ())), None)
    return code in _ROLLED_BACK


@contextmanager
def _explicit_transaction(connection: sa.Connection) -> Iterator[None]:
    connection.exec_driver_sql("BEGIN")
    try:
        yield
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        try:
            connection.exec_driver_sql("ROLLBACK")
        except SQLAlchemyError:
            connection.invalidate()
        raise


def schema_statements(url: str) -> str:
    """The statements that create the tables, for the kind of database that ``url`` names.

    MySQL and MariaDB differ in one collation: ``mariadb:`` URLs get MariaDB's. Connects to
    nothing.

    Raises:
        ValueError: it is no URL of a database that is supported.
    """
    parsed, tables = _read_url(url)
    kind = _DRIVERS[parsed.drivername]
    dialect: sa.Dialect = sa.make_url(f"{kind}://").get_dialect()()
    if parsed.drivername.startswith("mariadb"):
        dialect.is_mariadb = True  # type: ignore[attr-defined] # MySQL's has it
    statements: list[sa.schema.ExecutableDDLElement] = []
    for table in tables.metadata.sorted_tables:
        statements.append(CreateTable(table))
        statements += [CreateIndex(index) for index in table.indexes]
    lines = "\n".join(f"{str(s.compile(dialect=dialect)).strip()};\n" for s in statements)
    return re.sub(r"[ \t]+$", "", lines, flags=re.MULTILINE)


def _read_url(url: str) -> tuple[sa.URL, Tables]:
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ValueError(f"{without_password(url)!r} is no URL of a database") from error
    if parsed.drivername not in _DRIVERS:
        raise ValueError(
            f"{without_password(url)!r}: no driver {parsed.drivername!r}; known are "
            f"{', '.join(_DRIVERS)}"
        )
    for name, value in parsed.query.items():
        if isinstance(value, tuple) and name not in _MAY_STAND_TWICE:
            raise ValueError(f"{without_password(url)!r}: {name} stands in it {len(value)} times")
    prefix, schema = (
        _identifier(url, name, parsed.query.get(name)) for name in ("table_prefix", "schema")
    )
    if schema is not None and _DRIVERS[parsed.drivername] == "sqlite":
        raise ValueError(f"{without_password(url)!r}: SQLite has no schema, take a table_prefix")
    tables = Tables.named("turnwise_" if prefix is None else prefix, schema)
    return parsed.difference_update_query(("table_prefix", "schema")), tables


def _identifier(url: str, name: str, value: str | tuple[str, ...] | None) -> str | None:
    if value is None or (isinstance(value, str) and _IDENTIFIER.fullmatch(value)):
        return value
    raise ValueError(
        f"{without_password(url)!r}: {name} must be 1 to 40 letters, digits or underscores, no "
        f"digit first, got {value!r}"
    )


def _engine(kind: str, parsed: sa.URL, url: str, *, may_create: bool) -> sa.Engine:
    shown = without_password(url)
    if kind == "sqlite":
        return sqlite_engine(parsed, shown, may_create=may_create)
    try:
        return postgres_engine(parsed) if kind == "postgresql" else mysql_engine(parsed)
    except (ArgumentError, ValueError) as error:  # an option that should be a number, say
        raise ValueError(f"{shown!r} is no URL of a database: {error}") from None


def _utc_now() -> datetime:
    return datetime.now(UTC)
