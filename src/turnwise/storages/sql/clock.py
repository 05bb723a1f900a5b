"""Whose clock an SQL storage goes by, and when a statement reads it.

A server tells the time itself. SQLite has no clock that counts microseconds and lives on one host,
so it is that host's, read while the write lock is held, or before a read begins.

Three readings differ. ``now`` is read when the statement comes to it: once the row is locked.
``start`` is read before the statement sees any row, so that a reader that is stopped between the
two does not take the living for silent. ``seen`` is read when the statement looks at a row: no
heartbeat that it sees was written after that, unless the clock was set back. A heartbeat that
commits after ``start``, and is seen all the same, is therefore not ahead of ``seen``. Where a test
gives the clock, all three are one.

MySQL and MariaDB let a user with all privileges write to a server that was made read-only, which
nobody copies any more. There ``now`` and ``start`` are NULL: a swap changes nothing, a heartbeat is
refused by its column, and whoever reads sees it, at no further question.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

HostClock = Callable[[], int]
"""Gives now, in microseconds since the Unix epoch."""

HOST_NOW = "turnwise_host_now"
"""The name by which a statement on SQLite calls :func:`host_now`, once for each row."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The words for the three readings; ``host`` is there where ``now`` is a value of ours."""

    now: str
    start: str
    seen: str
    host: HostClock | None = None


def clock_for(kind: str, given: HostClock | None) -> Clock:
    """The clock of a kind of database, or the one that was given."""
    if given is None and kind in _SERVERS:
        return _SERVERS[kind]
    if given is None:
        return Clock(":now", ":now", f"{HOST_NOW}()", host_now)
    word = "CAST(:now AS BIGINT)" if kind == "postgresql" else ":now"
    return Clock(word, word, word, given)


# In autocommit transaction_timestamp() is when the statement arrived, before its snapshot was
# taken. statement_timestamp() may be read after it.
_POSTGRES = "CAST(EXTRACT(EPOCH FROM {}()) * 1000000 AS BIGINT)"
# UTC_TIMESTAMP and NOW are when the statement began; SYSDATE goes on, but in the session's zone,
# which MysqlSession.check() makes UTC: in another one the difference could be an hour off.
_BEGAN = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
_GOES_ON = f"({_BEGAN} + TIMESTAMPDIFF(MICROSECOND, NOW(6), SYSDATE(6)))"
MAY_WRITE_ON_MYSQL = "CONCAT(@@global.read_only) IN ('0', 'OFF')"
"""Whether a server takes writes, in SQL; later versions of MariaDB have a word for the number."""


def _where_it_may_write(reading: str) -> str:
    """No time at all where the server was demoted: a user with all privileges may write there."""
    return f"IF({MAY_WRITE_ON_MYSQL}, {reading}, NULL)"


_SERVERS = {
    "postgresql": Clock(
        now=_POSTGRES.format("clock_timestamp"),
        start=_POSTGRES.format("transaction_timestamp"),
        seen=_POSTGRES.format("clock_timestamp"),
    ),
    "mysql": Clock(
        now=_where_it_may_write(_GOES_ON), start=_where_it_may_write(_BEGAN), seen=_GOES_ON
    ),
}


def host_now() -> int:
    """Now by this host's clock, in microseconds."""
    return time.time_ns() // 1000
