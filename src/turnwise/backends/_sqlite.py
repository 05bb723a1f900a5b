"""SQLite through SQLAlchemy: how connections are opened, and where transactions begin."""

import os
import sqlite3
import time
import weakref
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import QueuePool

from turnwise.own_process import OwnProcess

BUSY_TIMEOUT_SECONDS = 5.0
_POLL_SECONDS = 0.001
_REPLACED = "the file was deleted, or replaced by another, while it was open"
_IN_USE_AT_THE_FORK = (
    "a thread was at work with an SQLite storage when this process was forked from it: close it "
    "before the fork"
)
WRITES = "turnwise_writes"
"""The execution option of a connection that says whether its transaction writes."""
DURABLE = "turnwise_durable"
"""The execution option that says whether a write must outlive a power cut: by default it must."""


def sqlite_engine(url: sa.URL, shown: str, *, may_create: bool) -> sa.Engine:
    """The engine for an SQLite URL, ``shown`` in messages, which opens nothing yet.

    Raises:
        ValueError: it is no URL of an SQLite database.
    """
    path = url.database
    if url.query:
        raise ValueError(
            f"{shown!r}: SQLite knows no {', '.join(map(repr, url.query))} here, only table_prefix"
        )
    if url.host:
        raise ValueError(
            f"{shown!r} is no URL of an SQLite database: write "
            "sqlite:///relative/path.db, sqlite:////absolute/path.db, or sqlite:// for memory"
        )
    if path in (None, "", ":memory:"):
        # Every connection is a database of its own: all threads take turns at one.
        engine = _engine(lambda: _open("file::memory:"), pool_size=1, max_overflow=0)
    else:
        file = _File(_absolute(str(path)), may_create=may_create)
        engine = _engine(file.connect, pool_size=5, max_overflow=10)
        file.engine = weakref.ref(engine)
        event.listen(engine, "checkout", file.check)
        event.listen(engine, "checkin", file.note_idle)
    event.listen(engine, "begin", _begin)
    return engine


def _absolute(path: str) -> str:
    """Once: each connection of the pool opens the same file, whatever the folder is by then."""
    try:
        return os.path.abspath(path)  # noqa: PTH100 (no links followed)
    except FileNotFoundError:  # there is no folder any more, and so no file: SQLite will say so
        return path


def _engine(connect: Callable[[], sqlite3.Connection], **pool: int) -> sa.Engine:
    return sa.create_engine("sqlite://", creator=connect, poolclass=QueuePool, **pool)


class _Connection(sqlite3.Connection):
    """A connection of this process, which remembers what it has open for as long as it has."""

    file: "_File | None" = None
    identity: tuple[int, int] | None = None
    is_idle: bool = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.process = OwnProcess("a connection to SQLite")

    def close(self) -> None:
        super().close()
        self.file = None


def _open(uri: str) -> _Connection:
    return sqlite3.connect(
        uri,
        uri=True,
        timeout=BUSY_TIMEOUT_SECONDS,
        isolation_level=None,  # transactions begin as _begin says
        check_same_thread=False,
        factory=_Connection,
    )


class _File:
    """One database file, which is that of its path for as long as it is used.

    A file that is deleted stays readable and writable to whoever has it open. Two processes, one
    that has the old file open and one that has opened its successor, would not see each other.
    """

    engine: "weakref.ref[sa.Engine]"
    """Whose pool the connections are in."""

    def __init__(self, path: str, *, may_create: bool) -> None:
        self.path, self._may_create = path, may_create

    def connect(self) -> sqlite3.Connection:
        self._close_what_came_by_a_fork()
        identity = self._require_no_other()
        # By a URI rather than by name, so that a missing file is created only where wanted.
        connection = _open(f"file:{quote(self.path)}?mode={'rwc' if self._may_create else 'rw'}")
        connection.file, connection.identity = self, self._identity()
        _connections[id(connection)] = connection
        try:
            if identity not in (None, connection.identity):
                raise sqlite3.OperationalError(_REPLACED)
            if self._may_create:
                self._require_writable()
                _enter_wal_mode(connection)
        except sqlite3.Error:
            connection.close()
            raise
        # A file that is lost later is an error, and none that is made anew without its history.
        self._may_create = False
        return connection

    def _require_writable(self) -> None:
        """What may only be read would be opened all the same, and fail in each turn."""
        if not os.access(self.path, os.W_OK):
            raise sqlite3.OperationalError("this file may not be written to, and a runner must")

    def check(self, connection: DBAPIConnection, *_: object) -> None:
        """Refuse a connection to another file than that of the path; the pool closes it then."""
        assert isinstance(connection, _Connection)  # noqa: S101 (for the type checker)
        if connection.identity != self._identity():
            raise DisconnectionError(_REPLACED)
        connection.is_idle = False

    @staticmethod
    def note_idle(connection: DBAPIConnection | None, *_: object) -> None:
        """The pool has a connection back, unless it was closed meanwhile."""
        if isinstance(connection, _Connection):
            connection.is_idle = True

    @staticmethod
    def _close_what_came_by_a_fork() -> None:
        """SQLite would take the locks of this process's parent for its own.

        Raises:
            sqlite3.OperationalError: a thread that is not in this process was at work with one.
        """
        for connection in _live():
            if connection.process.is_this():
                continue
            if not connection.is_idle:
                raise sqlite3.OperationalError(_IN_USE_AT_THE_FORK)
            connection.close()

    def _require_no_other(self) -> tuple[int, int] | None:
        """Open no successor while this process has the old file open; which file there is.

        The two may share a log, and to close the one would take the other's locks on it.
        """
        for last_try in (False, True):
            identity = self._identity()
            others = [
                connection.file.engine()
                for connection in _live()
                if connection.file is not None
                and connection.file.path == self.path
                and connection.identity != identity
            ]
            if not others:
                break
            if last_try:
                raise sqlite3.OperationalError(_REPLACED)
            for engine in others:
                if engine is not None:
                    engine.pool.dispose()  # closes those that nobody uses just now
        return identity

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)  # noqa: PTH116 (no path to speak of)
        except OSError:
            return None
        return found.st_dev, found.st_ino


_connections: "weakref.WeakValueDictionary[int, _Connection]" = weakref.WeakValueDictionary()
"""All that this process has to files: a file's locks are the process's, not a connection's."""


def _live() -> list[_Connection]:
    # valuerefs() is a list, whatever other threads do meanwhile.
    return [connection for found in _connections.valuerefs() if (connection := found())]


def write_ahead(engine: sa.Engine) -> None:
    """Have a file that holds our tables written in WAL mode, which it then stays in.

    A file that must be there already is not touched before its tables have been found.
    """
    with closing(engine.raw_connection()) as connection:
        raw = connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)  # noqa: S101 (for the type checker)
        _enter_wal_mode(raw)


def _enter_wal_mode(connection: sqlite3.Connection) -> None:
    # Entering WAL mode fails at once while another process does the same, whatever the timeout.
    _while_locked(connection, "PRAGMA journal_mode=WAL")


def _begin(connection: sa.Connection) -> None:
    options = connection.get_execution_options()
    raw = driver_of(connection)
    if not options.get(WRITES, True):
        raw.execute("BEGIN")
        return
    # A durable write waits for the disk, and takes along what was written before it.
    raw.execute(f"PRAGMA synchronous={'FULL' if options.get(DURABLE, True) else 'NORMAL'}")
    # SQLite's own wait sleeps for up to 100 ms: of many that come at once, as they do at the
    # start of a cycle, the last would wait for seconds.
    raw.execute("PRAGMA busy_timeout=0")
    try:
        _while_locked(raw, "BEGIN IMMEDIATE")
    finally:
        raw.execute(f"PRAGMA busy_timeout={round(BUSY_TIMEOUT_SECONDS * 1000)}")


def driver_of(connection: sa.Connection) -> sqlite3.Connection:
    """SQLite's own connection beneath SQLAlchemy's."""
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, sqlite3.Connection)  # noqa: S101 (for the type checker)
    return raw


def _while_locked(connection: sqlite3.Connection, statement: str) -> None:
    """Execute a statement, again and again while somebody else has locked the database."""
    give_up = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return
