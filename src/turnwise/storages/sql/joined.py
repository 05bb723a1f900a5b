"""The gate of a service, changed in a transaction of the caller's.

How it goes
-----------
A job that writes to the database that the storage is in can have its writes and the gate's change
commit together. It hands over its connection, and all of the following happens in the transaction
that is open there:

1. **Is it this database?** The identity in turnwise's own tables, and the database's name (SQLite:
   the file), must be the storage's.
2. **How long may it idle?** Whoever holds the gate locked stops everybody else, and may be
   suspended. So the server is told to end the transaction when it idles for longer than is left of
   the heartbeat timeout. Where a server cannot, a takeover waits for the transaction.
3. **Lock, then read.** The record is locked for writing before it is read. A lock that is only for
   reading, and upgraded later, would deadlock with another one of its kind; and in MariaDB's
   REPEATABLE READ only a read that locks sees what is there now.
4. **Is it a transaction at all?** In autocommit each statement would be one. The database is asked
   whether the lock is still held; it has not been written to yet.

Nothing here begins, commits or rolls back.
"""

# ruff: noqa: S608 (what is put into a text is our own; values are parameters)

import contextlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from turnwise.errors import StorageError
from turnwise.storages import Kind, Locked, Record
from turnwise.storages.sql.callers import Caller, caller_of, is_pymysql
from turnwise.storages.sql.database import Database
from turnwise.storages.sql.record import SET, THIS, values_of
from turnwise.storages.sql.statements import Value

_WHOSE = "SELECT identity, {this_database} FROM {schema}"
_THIS_DATABASE = {
    "sqlite": "(SELECT file FROM pragma_database_list WHERE name = 'main')",
    "postgresql": "current_database()",
    "mysql": "DATABASE()",
}

_IS_MARIADB = "SELECT LOCATE('MariaDB', VERSION())"

_LOCK = f"SELECT version, body FROM {{records}} WHERE {THIS}"
# On SQLite a write takes the lock, and begins the transaction where none is open yet.
_WRITE = f"UPDATE {{records}} SET version = version WHERE {THIS}"
_REPLACE = f"UPDATE {{records}} SET {SET} WHERE {THIS} AND version = :expected"

# The setting is 0 for none, and else something that an interval is read from, such as 5min.
_BOUND_ON_POSTGRESQL = """
SELECT set_config('idle_in_transaction_session_timeout', CAST(CASE WHEN had.idle > 0
    AND had.idle < bound.idle THEN had.idle ELSE bound.idle END AS TEXT), true),
  had.wait, set_config('lock_timeout', CAST(bound.idle AS TEXT), true)
FROM (SELECT CAST(1000 * EXTRACT(EPOCH FROM CAST(
    current_setting('idle_in_transaction_session_timeout') AS INTERVAL)) AS BIGINT) AS idle,
  current_setting('lock_timeout') AS wait) AS had, (SELECT CAST(:idle AS BIGINT) AS idle) AS bound
"""
# A row that is locked for writing gives the transaction its number. In autocommit the number is
# gone with the statement that had locked.
_AFTER_ON_POSTGRESQL = """
SELECT {now}, txid_current_if_assigned() IS NOT NULL, set_config('lock_timeout', :wait, true)
"""

_IDLE_ON_MARIADB = ("idle_transaction_timeout", "idle_write_transaction_timeout")
_BOUNDS_ON_MARIADB = "SELECT " + ", ".join(f"@@{name}" for name in _IDLE_ON_MARIADB)
_AFTER_ON_MARIADB = "SELECT {start}, @@autocommit = 0 OR @@in_transaction = 1"
_AFTER_ON_MYSQL = "SELECT {start}, @@autocommit = 0"  # it does not tell of a START TRANSACTION

_AUTOCOMMIT: Final = (
    "connection must be in a transaction, and it is in autocommit: what the job has written is "
    "committed already. Begin a transaction before the first write"
)


@dataclass(frozen=True, slots=True)
class _Whose:
    """Which database a connection is to."""

    identity: str
    name: str

    def is_that_of(self, other: "_Whose") -> bool:
        """Whether another connection is to the same database."""
        if self.identity != other.identity:
            return False
        if not os.path.isabs(self.name):  # noqa: PTH117 (no path to speak of)
            return bool(self.name) and self.name == other.name
        # A copy of a file has its identity, and a file can be reached by a link.
        return _is_same_file(self.name, other.name)


class Joined(Database):
    """The operation that takes part in a transaction of the caller's."""

    _whose: _Whose | None = None

    def join(self, connection: object, *, idle: int) -> "Joint":
        """See :meth:`turnwise.storages.Transactional.join`."""
        caller = caller_of(connection)
        shown, kind = self._address.shown, self._address.kind
        if caller.kind != kind:
            raise ValueError(
                f"connection must be to the storage's database {shown}, got one to {caller.kind}"
            )
        self._require_this_database(caller)
        if kind == "postgresql":
            return _OnPostgresql(self, caller, idle)
        return _OnMysql(self, caller, idle) if kind == "mysql" else _OnSqlite(self, caller, idle)

    @property
    def words(self) -> dict[str, str]:
        """What stands for each word of a template."""
        return {**self._words(), "this_database": _THIS_DATABASE[self._address.kind]}

    def with_now(self, values: dict[str, Value]) -> dict[str, Value]:
        """Values, with the clock's where the clock is one of this host."""
        host = self._clock.host
        return values if host is None else {**values, "now": host()}

    def _find_tables(self, *, may_create: bool) -> None:
        super()._find_tables(may_create=may_create)
        if self._address.kind == "sqlite":
            # Not as a job asks: whoever has our connection then may wait for the job's own lock.
            self.our_database()

    def our_database(self) -> _Whose:
        """Which database the storage is in; asked for once."""
        if self._whose is None:
            word = _THIS_DATABASE[self._address.kind]
            [(identity, name)] = self._read(_WHOSE.replace("{this_database}", word)).rows
            self._whose = _Whose(str(identity), str(name or ""))
        return self._whose

    def _require_this_database(self, caller: Caller) -> None:
        must = f"connection must be to the storage's database {self._address.shown}"
        try:
            rows = caller.execute(_WHOSE, self.words, {})
        except Exception as error:
            if not _is_about_what_is_there(error):
                raise
            said = str(error).splitlines()[0]
            raise ValueError(
                f"{must}, and where it is to turnwise's tables cannot be read: {said}"
            ) from error
        theirs = [_Whose(str(identity), str(name or "")) for identity, name in rows]
        if not theirs or not self.our_database().is_that_of(theirs[0]):
            name = theirs[0].name if theirs else ""
            raise ValueError(f"{must}, got one to another: {name or 'in memory'}")


class Joint:
    """A transaction of the caller's that a storage takes part in, as far as all databases agree.

    Args:
        storage: the storage.
        caller: the connection.
        idle: microseconds that the transaction may idle, from now on.
    """

    _after = ""

    def __init__(self, storage: Joined, caller: Caller, idle: int) -> None:
        self._storage, self._caller = storage, caller
        self._idle = idle

    def lock(self, group: str, service: str) -> Locked:
        """See :meth:`turnwise.storages.Transaction.lock`."""
        this: dict[str, Value] = {"group": group, "service": service, "kind": Kind.GATE.value}
        rows = self._lock(this)
        now, holds = self._look_after()
        if rows and not holds:
            raise ValueError(_AUTOCOMMIT)
        found = [Record(version, body) for version, body in rows if version]
        return Locked(group, service, now, found[0] if found else None)

    def write(self, locked: Locked) -> None:
        """See :meth:`turnwise.storages.Transaction.write`."""
        self._execute(_WRITE, group=locked.group, service=locked.service, kind=Kind.GATE.value)

    def replace(self, locked: Locked, new: Record) -> None:
        """See :meth:`turnwise.storages.Transaction.replace`."""
        assert locked.gate is not None  # noqa: S101 (as the caller has seen)
        values = values_of(locked.group, locked.service, Kind.GATE, new)
        self._execute(_REPLACE, **values, expected=locked.gate.version)

    def _lock(self, this: dict[str, Value]) -> list[tuple[Any, ...]]:
        raise NotImplementedError

    def _look_after(self) -> tuple[int, bool]:
        """The storage's now, and whether the lock is still held."""
        raise NotImplementedError

    def _execute(self, template: str, **values: Value) -> list[tuple[Any, ...]]:
        return self._caller.execute(template, self._storage.words, self._storage.with_now(values))


class _OnPostgresql(Joint):
    """The bound ends with the transaction by itself, and so does that of the wait for the lock."""

    _wait = "0"

    def _lock(self, this: dict[str, Value]) -> list[tuple[Any, ...]]:
        milliseconds = max(1, self._idle // 1000)
        [(_, self._wait, _)] = self._execute(_BOUND_ON_POSTGRESQL, idle=milliseconds)
        return self._execute(_LOCK + " FOR UPDATE", **this)

    def _look_after(self) -> tuple[int, bool]:
        [(now, holds, _)] = self._execute(_AFTER_ON_POSTGRESQL, wait=self._wait)
        return int(now), bool(holds)


class _OnMysql(Joint):
    """MariaDB bounds whole seconds of a session, which is restored when the transaction ends."""

    _is_mariadb = False

    def _lock(self, this: dict[str, Value]) -> list[tuple[Any, ...]]:
        seconds = max(1, math.floor(self._idle / 1_000_000))
        [(place,)] = self._execute(_IS_MARIADB)
        self._is_mariadb = bool(place)
        if not self._is_mariadb:
            return self._execute(_LOCK + " FOR UPDATE", **this)
        self._bound(seconds)
        return self._execute(f"{_LOCK} FOR UPDATE WAIT {seconds}", **this)

    def _look_after(self) -> tuple[int, bool]:
        after = _AFTER_ON_MARIADB if self._is_mariadb else _AFTER_ON_MYSQL
        [(now, holds)] = self._execute(after)
        if now is None:  # as for every statement of ours (turnwise.storages.sql.clock)
            raise StorageError("connection's server is a replica, or may only be read")
        return int(now), bool(holds)

    def _bound(self, seconds: int) -> None:
        raw = self._caller.driver()
        if not is_pymysql(raw):
            return  # nobody would restore it
        [had] = self._execute(_BOUNDS_ON_MARIADB)
        _restore_at_the_end(raw, had)
        new = [min(was or seconds, seconds) for was in had]
        self._execute(_set_idle(new))


class _OnSqlite(Joint):
    """SQLite ends nothing by itself: a takeover waits until the process goes on, or dies."""

    def _lock(self, this: dict[str, Value]) -> list[tuple[Any, ...]]:
        self._execute(_WRITE, **this)
        return self._execute(_LOCK, **this)

    def _look_after(self) -> tuple[int, bool]:
        [(now,)] = self._execute("SELECT {start}")
        return int(now), bool(self._caller.driver().in_transaction)


# MariaDB's session --------------------------------------------------------------------------------


def _set_idle(seconds: "list[int] | tuple[int, ...]") -> str:
    pairs = zip(_IDLE_ON_MARIADB, seconds, strict=True)
    return "SET SESSION " + ", ".join(f"{name} = {value:d}" for name, value in pairs)


_HAD = "_turnwise_had"


def _restore_at_the_end(raw: Any, had: "tuple[int, ...]") -> None:
    """Have a connection of PyMySQL's set its session back once its transaction has ended.

    The server has no setting that ends with a transaction, and a pool would hand the session on.
    """
    if hasattr(raw, _HAD):  # the second time in this transaction
        return
    setattr(raw, _HAD, had)
    for name in ("commit", "rollback"):
        setattr(raw, name, _ending(raw, name))


def _ending(raw: Any, name: str) -> Callable[[], None]:
    def end() -> None:
        getattr(type(raw), name)(raw)
        had = vars(raw).pop(_HAD, None)
        for each in ("commit", "rollback"):
            vars(raw).pop(each, None)
        if had is not None:
            # Where it fails, the connection is gone, and its next user will see.
            with contextlib.suppress(Exception), raw.cursor() as cursor:
                cursor.execute(_set_idle(had))

    return end


def _is_same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121 (no path to speak of)
    except OSError:
        return False


def _is_about_what_is_there(error: Exception) -> bool:
    """Whether the database says that there is no such table, rather than that it is away."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return "ProgrammingError" in names or "no such table" in str(error)
