"""SQLite: one file that is reached by one path, in WAL mode, with one writer at a time."""

import os
import sqlite3
import time
import weakref
from pathlib import Path
from urllib.parse import quote

from turnwise.errors import SchemaError
from turnwise.own_process import OwnProcess
from turnwise.storages.sql.address import Address
from turnwise.storages.sql.clock import HOST_NOW, host_now
from turnwise.storages.sql.connect import Answer, Driver, Failure, Outcome, Session
from turnwise.storages.sql.statements import Statement

BUSY_SECONDS = 5.0
"""How long another process may write, in one go."""
_BUSY_WITH_A_RECORD_SECONDS = 1.0
_POLL_SECONDS = 0.001
_NO_FILE = "unable to open database file: does it exist, in a folder that may be written to?"
_REPLACED = "the file was deleted, or replaced by another, while it was open"
_IN_USE_AT_THE_FORK = (
    "a thread was at work with an SQLite storage when this process was forked from it: close it "
    "before the fork"
)
_TWO_PATHS = (
    "{} reaches this file by another path. SQLite keeps a log beside the path, and by two paths "
    "two logs: mount the folder that the file is in, and use one path"
)


class SqliteSession(Session):
    """A connection to a file, or to a database of its own in memory."""

    raw: sqlite3.Connection

    def __init__(self, path: str | None, uri: str) -> None:
        self.path, self.process, self.busy = path, OwnProcess("a connection to SQLite"), False
        try:
            self.raw = sqlite3.connect(
                uri,
                uri=True,
                timeout=BUSY_SECONDS,
                isolation_level=None,  # transactions begin where we say
                check_same_thread=False,
                cached_statements=256,
            )
        except sqlite3.Error as error:
            raise _failure(error) from None
        self.raw.create_function(HOST_NOW, 0, host_now)
        self.identity = _identity(path)
        self._waits_for_disk: bool | None = None
        self._waits_itself = True

    def execute(self, statement: Statement, values: list[str | int | None]) -> Answer:
        """See :class:`turnwise.storages.sql.connect.Session`."""
        was_busy, self.busy = self.busy, True
        try:
            self._wait_ourselves()
            cursor = self._when_unlocked(statement.text, values)
            return Answer(cursor.fetchall(), cursor.rowcount)
        except (sqlite3.Error, OverflowError, UnicodeError) as error:
            raise _failure(error) from None
        finally:
            self.busy = was_busy

    def begin(self, *, durable: bool, patient: bool) -> None:
        """Take the write lock, so that nothing is read that another writer then changes."""
        self.busy = True
        try:
            if durable is not self._waits_for_disk:
                # A durable write waits for the disk, and takes along what was written before it.
                self.raw.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._waits_for_disk = durable
            self._wait_ourselves()
            seconds = None if patient else min(BUSY_SECONDS, _BUSY_WITH_A_RECORD_SECONDS)
            self._when_unlocked("BEGIN IMMEDIATE", seconds=seconds)
        except sqlite3.Error as error:
            self.busy = False
            raise _failure(error) from None

    def end(self, *, keep: bool) -> None:
        """See :class:`turnwise.storages.sql.connect.Session`."""
        try:
            if self.raw.in_transaction:  # some errors have ended it
                self.raw.execute("COMMIT" if keep else "ROLLBACK")
        except sqlite3.Error as error:
            if self.raw.in_transaction:
                self.raw.execute("ROLLBACK")
            raise _failure(error) from None
        finally:
            self.busy = False

    def _when_unlocked(
        self,
        text: str,
        values: list[str | int | None] | tuple[()] = (),
        *,
        seconds: float | None = None,
    ) -> sqlite3.Cursor:
        """Execute a statement, again and again while somebody else has locked the database."""
        give_up = time.monotonic() + (BUSY_SECONDS if seconds is None else seconds)
        while True:
            try:
                return self.raw.execute(text, values)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > give_up:
                    raise
                time.sleep(_POLL_SECONDS)

    def _wait_ourselves(self) -> None:
        """Do without SQLite's own wait, once the storage is open.

        It sleeps for up to 100 ms: of many that come at once, the last would wait for seconds.
        """
        if self._waits_itself:
            self.raw.execute("PRAGMA busy_timeout=0")
            self._waits_itself = False

    def check(self, shown: str) -> None:
        """Refuse what is no database, and a file that is reached by two paths."""
        try:
            self.raw.execute("PRAGMA schema_version").fetchone()
        except sqlite3.Error as error:
            raise _failure(error) from None
        if self.path is None:
            return
        real = os.path.realpath(self.path)
        if os.stat(real).st_nlink > 1:  # noqa: PTH116 (no path to speak of)
            raise SchemaError(f"{shown}: {_TWO_PATHS.format('a hard link')}")
        if real in _mount_points():
            raise SchemaError(f"{shown}: {_TWO_PATHS.format('a mount of this file alone')}")

    def enter_wal_mode(self) -> None:
        """Have the file written in WAL mode, which it then stays in."""
        if self.path is not None:
            # This fails at once while another process does the same, whatever the timeout.
            self._when_unlocked("PRAGMA journal_mode=WAL")

    def is_usable(self) -> bool:
        """Whether the file is still the one that its path leads to."""
        return self.path is None or self.identity == _identity(self.path)

    def interrupt(self) -> None:
        """See :class:`turnwise.storages.sql.connect.Session`."""
        self.raw.interrupt()

    def close(self) -> None:
        """See :class:`turnwise.storages.sql.connect.Session`."""
        _sessions.pop(id(self), None)
        self.raw.close()


class Sqlite(Driver):
    """Opens connections to the database of one address.

    Raises:
        ValueError: the address is none of an SQLite database.
    """

    placeholder = "?"

    def __init__(self, address: Address, *, may_create: bool) -> None:
        super().__init__(address)
        self._may_create = may_create
        database = _database(address) if address.file is None else address.file
        in_memory = database in {None, "", ":memory:"}
        self.path = None if in_memory else _absolute(str(database))

    def open(self) -> SqliteSession:
        """Open a connection; the file must be there, once it was."""
        if self.path is None:
            return SqliteSession(None, "file::memory:")
        identity = _identity(self.path)
        _close_others(self.path, identity)
        # What may only be read would be opened all the same, and fail in each turn.
        if self._may_create and identity is not None and not os.access(self.path, os.W_OK):
            raise Failure("this file may not be written to, and a runner must")
        # By a URI rather than by name, so that a missing file is created only where wanted.
        mode = "rwc" if self._may_create else "rw"
        session = SqliteSession(self.path, f"file:{quote(self.path)}?mode={mode}")
        _sessions[id(session)] = session
        if identity not in (None, session.identity):
            session.close()
            raise Failure(_REPLACED, Outcome.LOST)
        self._may_create = False
        return session


def _database(address: Address) -> str | None:
    """What a URL that is no plain one of a file names."""
    url = address.url
    if url.query:
        raise ValueError(
            f"{address.shown!r}: SQLite knows no {', '.join(map(repr, url.query))} here, "
            "only table_prefix"
        )
    if url.host:
        raise ValueError(
            f"{address.shown!r} is no URL of an SQLite database: write "
            "sqlite:///relative/path.db, sqlite:////absolute/path.db, or sqlite:// for memory"
        )
    return url.database


_sessions: "weakref.WeakValueDictionary[int, SqliteSession]" = weakref.WeakValueDictionary()
"""All that this process has to files: a file's locks are the process's, not a connection's."""


def _close_others(path: str, identity: tuple[int, int] | None) -> None:
    """Close what would be harmed by a connection to this file, or would harm it.

    SQLite would take the locks of this process's parent for its own. And a file that has taken
    the place of another may share its log: to close the one would take the other's locks on it.
    """
    # valuerefs() is a list, whatever other threads do meanwhile.
    for session in [session for found in _sessions.valuerefs() if (session := found())]:
        is_by_a_fork = not session.process.is_this()
        if is_by_a_fork or (session.path == path and session.identity != identity):
            if session.busy:
                raise Failure(_IN_USE_AT_THE_FORK if is_by_a_fork else _REPLACED)
            session.close()


def _absolute(path: str) -> str:
    """Worked out once: each connection opens the same file, whatever the working folder is then."""
    try:
        return os.path.abspath(path)  # noqa: PTH100 (no links followed)
    except FileNotFoundError:  # there is no folder any more, and so no file: SQLite will say so
        return path


def _identity(path: str | None) -> tuple[int, int] | None:
    if path is None:
        return None
    try:
        found = os.stat(path)  # noqa: PTH116 (no path to speak of)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _mount_points() -> set[str]:
    """Where something is mounted; on Linux alone."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return set()
    # A space and its like are written in octal.
    return {
        os.fsdecode(line.split()[4].decode("unicode_escape").encode("latin-1")) for line in lines
    }


def _failure(error: Exception) -> Failure:
    if "unable to open database file" in str(error):
        return Failure(_NO_FILE)
    return Failure(error, Outcome.LOCKED if "is locked" in str(error) else Outcome.REFUSED)
