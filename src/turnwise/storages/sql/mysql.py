"""MariaDB, and MySQL, by PyMySQL. Each statement is a transaction of its own, in autocommit.

MySQL is untested: what is known of it is what its manual says.
"""

import contextlib
import json
import math
from collections.abc import Callable
from typing import TypeAlias

from turnwise.errors import MissingExtraError, SchemaError
from turnwise.storages.sql import connect as limits
from turnwise.storages.sql.address import Address
from turnwise.storages.sql.clock import MAY_WRITE_ON_MYSQL
from turnwise.storages.sql.connect import Answer, Driver, Failure, Outcome, Session, is_silent
from turnwise.storages.sql.statements import WORDS, Statement

try:
    import pymysql
except ImportError as error:
    raise MissingExtraError(
        "MySQL and MariaDB need the extra 'mysql': pip install 'turnwise[mysql]'"
    ) from error

# Only its stubs know that it is generic.
Connection: TypeAlias = "pymysql.Connection[pymysql.cursors.Cursor]"

READS_ONLY = "this server is a replica, or may only be read"
_DEADLOCK = 1213
_LOCKED = 1205
# --read-only (and other options that forbid), a read-only transaction, read-only mode, a node
# that is not part of its cluster.
_WRONG_SERVER = (1290, 1792, 1836, 1047)
_NO_NULL = 1048  # of ours, the clock alone may be NULL
_ENDED = (1053, 1927, 4031)  # the server shuts down, it was killed, it was idle for too long
_OF_THE_CLIENT = 2000  # the driver's own codes begin here
_IN_JSON = f"SELECT {WORDS['mysql']['row']}"
_SERVER = "CONCAT(@@hostname, ':', @@port, ':', @@server_id)"


class MysqlSession(Session):
    """A connection to a server. PyMySQL has a deadline of its own for each answer."""

    raw: Connection

    def __init__(self, raw: Connection, connect: Callable[[float], Connection]) -> None:
        self.raw, self._connect, self._server = raw, connect, ""

    def execute(self, statement: Statement, values: list[str | int | None]) -> Answer:
        """See :class:`turnwise.storages.sql.connect.Session`."""
        answer = self.ask(statement.text, values)
        if statement.text.startswith(_IN_JSON):
            answer = Answer([tuple(json.loads(row)) for (row,) in answer.rows])
        if answer.rows and answer.rows[0][0] is None and MAY_WRITE_ON_MYSQL in statement.text:
            raise Failure(READS_ONLY, Outcome.WRONG_SERVER)
        return answer

    def ask(self, text: str, values: list[str | int | None] | None = None) -> Answer:
        """Execute a text."""
        try:
            with self.raw.cursor() as cursor:
                changed = cursor.execute(text, values)
                return Answer(list(cursor.fetchall()), changed, cursor.lastrowid or 0)
        except (pymysql.Error, OSError) as error:
            raise _failure(error) from None
        except UnicodeError:
            raise Failure("text with half of a surrogate pair cannot be kept") from None

    def check(self, shown: str) -> None:
        """Make it ready, and make sure that the server may write and that its clock goes on."""
        seconds = math.ceil(limits.ANSWER_SECONDS)
        # The default isolation also locks gaps between rows: inserts of different runners would
        # wait for each other. A lock is not waited for longer than we wait for the server, and
        # a name that is too long is refused rather than cut. SYSDATE is in the session's zone, and
        # must not jump when a summer time begins or ends while a statement waits.
        self.ask("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        self.ask(
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES', autocommit = 1, time_zone = '+00:00',"
            f" innodb_lock_wait_timeout = {seconds},"
            f" lock_wait_timeout = {seconds}"
        )
        [(began, _, now, may_write, self._server)] = self.ask(
            f"SELECT NOW(6), SLEEP(0.0002), SYSDATE(6), {MAY_WRITE_ON_MYSQL}, {_SERVER}"
        ).rows
        if not may_write:
            raise Failure(READS_ONLY)
        if began == now:
            raise SchemaError(
                f"{shown}: the server runs with --sysdate-is-now, and so tells no time after a lock"
            )

    def is_usable(self) -> bool:
        """See :class:`turnwise.storages.sql.connect.Session`."""
        its_socket = getattr(self.raw, "_sock", None)
        return self.raw.open and its_socket is not None and is_silent(its_socket.fileno())

    def cancel(self) -> None:
        """Have the server end this connection, and what it does, by another one."""
        number = self.raw.thread_id()  # type: ignore[no-untyped-call]
        with contextlib.suppress(Failure):
            other = MysqlSession(self._connect(limits.CANCEL_SECONDS), self._connect)
            try:
                # By the same address there may be another server by now.
                if other.ask(f"SELECT {_SERVER}").rows == [(self._server,)]:
                    other.ask(f"KILL {number:d}")
            finally:
                other.close()

    def close(self) -> None:
        """See :class:`turnwise.storages.sql.connect.Session`."""
        with contextlib.suppress(Exception):
            self.raw.close()


class Mysql(Driver):
    """Opens connections to the database of one address.

    Args:
        address: of the database.
        raw: opens PyMySQL's own connection; by default as the address says.

    Raises:
        ValueError: there is what the driver does not know in the address.
    """

    placeholder = "%s"

    def __init__(self, address: Address, raw: Callable[[], Connection] | None = None) -> None:
        super().__init__(address)
        try:
            _, given = address.url.get_dialect()().create_connect_args(address.url)
        except ValueError as error:
            raise ValueError(f"{self.shown!r} is no URL of a database: {error}") from None
        # Older names of the driver's, which it warns of.
        self._given = {_OLD_NAMES.get(name, name): value for name, value in given.items()}
        self._raw = raw

    def open(self) -> MysqlSession:
        """See :class:`turnwise.storages.sql.connect.Driver`."""
        return MysqlSession(self._open(limits.CONNECT_SECONDS), self._open)

    def _open(self, seconds: float) -> Connection:
        try:
            if self._raw is not None:
                return self._raw()
            return pymysql.connect(**{**self._given, **_ours(seconds)})
        except (pymysql.Error, OSError, RuntimeError) as error:
            raise _failure(error) from None
        except UnicodeError:  # what it says shows a part of the password
            raise ValueError(f"{self.shown!r}: its driver cannot encode it") from None
        except (TypeError, AttributeError) as error:  # what it cannot take in a query
            raise ValueError(f"{self.shown!r} is no URL of a database: {error}") from None


_OLD_NAMES = {"passwd": "password", "db": "database"}


def _ours(connect_seconds: float) -> dict[str, object]:
    return {
        "connect_timeout": max(1, round(connect_seconds)),
        "read_timeout": limits.ANSWER_SECONDS,
        "write_timeout": limits.ANSWER_SECONDS,
        "charset": "utf8mb4",
        "autocommit": True,
    }


def _failure(error: Exception) -> Failure:
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    if code == _DEADLOCK:
        return Failure(_message(error), Outcome.UNDONE)
    if code == _LOCKED:
        return Failure(_message(error), Outcome.LOCKED)
    if code == _NO_NULL:
        return Failure(READS_ONLY, Outcome.WRONG_SERVER)
    if code in _WRONG_SERVER:
        return Failure(_message(error), Outcome.WRONG_SERVER)
    if "timed out" in str(error):
        return Failure(_message(error), Outcome.GIVEN_UP)
    if code in _ENDED or code >= _OF_THE_CLIENT or code == 0 or isinstance(error, OSError):
        return Failure(_message(error), Outcome.LOST)
    return Failure(_message(error))


def _message(error: Exception) -> object:
    """Its words: PyMySQL's errors are a code and a text."""
    return error.args[-1] if error.args and isinstance(error.args[0], int) else error
