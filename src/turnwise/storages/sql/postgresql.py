"""PostgreSQL by psycopg's lower layer: prepared statements, a deadline for each answer, cancelling.

Each statement is a transaction of its own, in autocommit, and nothing else is left of a session:
that is what a pooler in transaction mode asks for. Prepared statements are given up for good the
first time that one is not where it was prepared. Their names are made from their texts, so that
a pooler that mixes up two clients' sessions cannot make one client execute another's statement.

A server that waits for a synchronous standby may be told to wait no longer. It then answers with
success, and a warning: what was written is on this server alone. That is no acknowledgement, so
the statement's outcome is unknown.
"""

import contextlib
import os
import re
import select
import socket
import time
import traceback
from collections.abc import Callable

from sqlalchemy.exc import ArgumentError

from turnwise.errors import MissingExtraError, SchemaError
from turnwise.storages.sql import connect as limits
from turnwise.storages.sql.address import Address
from turnwise.storages.sql.connect import Answer, Driver, Failure, Outcome, Session, is_silent
from turnwise.storages.sql.statements import Statement

try:
    import psycopg
    from psycopg.pq.abc import PGresult
except ImportError as error:
    raise MissingExtraError(
        "PostgreSQL needs the extra 'postgres': pip install 'turnwise[postgres]'"
    ) from error

Connection = psycopg.Connection[tuple[object, ...]]

_SQLSTATE = 67  # PG_DIAG_SQLSTATE, which is the letter C
_PRIMARY = 77  # PG_DIAG_MESSAGE_PRIMARY, which is the letter M
_INTEGERS = frozenset((16, 20, 21, 23, 1700))  # the types of what we select; 16 is a boolean
_UNDONE = ("40001", "40P01")
_READ_ONLY = "25006"
# Not here, here already (prepared by another client of a pooler), or of tables that have changed.
_NOT_PREPARED = ("26000", "42P05", "0A000")
_ENCODINGS = ("UTF8", "SQL_ASCII")
# Where in the server the warning comes from; its text may be in any language.
_STANDBY_WAIT = "SyncRepWaitForLSN"
_STANDBY_WAIT_CANCELED = re.compile("cancell?ing (?:the )?wait for synchronous replication")


class PostgresSession(Session):
    """A connection to a server, or to a pooler before one."""

    raw: Connection

    def __init__(self, raw: Connection, may_prepare: "_MayPrepare") -> None:
        self.raw, self._may_prepare = raw, may_prepare
        self._pg = raw.pgconn
        self._prepared: set[bytes] = set()
        self._not_replicated = ""  # what the server said of it
        raw.add_notice_handler(self._noticed)

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        message = notice.message_primary or ""
        of_the_wait = notice.source_function == _STANDBY_WAIT
        if of_the_wait or _STANDBY_WAIT_CANCELED.match(message):
            self._not_replicated = message or _STANDBY_WAIT

    def execute(self, statement: Statement, values: list[str | int | None]) -> Answer:
        """See :class:`turnwise.storages.sql.connect.Session`."""
        encoded = [None if value is None else _encoded(value) for value in values]
        if self._may_prepare.yes:
            try:
                return self._execute_prepared(statement, encoded)
            except _ServerFailure as failure:
                if failure.sqlstate not in _NOT_PREPARED:
                    raise
                self._may_prepare.yes = False  # nothing was executed
        self._send(lambda: self._pg.send_query_params(statement.encoded, encoded))
        return self._answer()

    def _execute_prepared(self, statement: Statement, values: list[bytes | None]) -> Answer:
        name = statement.name
        if name not in self._prepared:
            self._send(lambda: self._pg.send_prepare(name, statement.encoded))
            self._answer()
            self._prepared.add(name)
        self._send(lambda: self._pg.send_query_prepared(name, values))
        return self._answer()

    def ask(self, text: bytes) -> Answer:
        """Execute a text without values."""
        self._send(lambda: self._pg.send_query(text))
        return self._answer()

    def check(self, shown: str) -> None:
        """Make it ready, and make sure that the server may write and that it can hold all names."""
        self.raw.autocommit = True
        self.raw.prepare_threshold = None  # its names are not made from texts
        if self.raw.info.parameter_status("client_encoding") != "UTF8":
            self.ask(b"SET client_encoding TO 'UTF8'")
        [(encoding, reads_only, tells)] = self.ask(_CHECK).rows
        if tells == "error":  # it would keep the warning to itself
            self.ask(b"SET client_min_messages TO warning")
        if reads_only != "off":
            raise Failure("this server is a standby, or may only be read")
        if encoding not in _ENCODINGS:
            raise SchemaError(
                f"{shown}: the database's encoding is {encoding}, which cannot hold every name: "
                "create one with ENCODING 'UTF8'"
            )

    def is_usable(self) -> bool:
        """See :class:`turnwise.storages.sql.connect.Session`."""
        return self._pg.status == 0 and is_silent(self._pg.socket)

    def cancel(self) -> None:
        """See :class:`turnwise.storages.sql.connect.Session`."""
        with contextlib.suppress(psycopg.Error, OSError):
            self.raw.cancel_safe(timeout=limits.CANCEL_SECONDS)

    def interrupt(self) -> None:
        """See :class:`turnwise.storages.sql.connect.Session`."""
        self.cancel()
        with (
            contextlib.suppress(psycopg.Error, OSError),  # it is closed
            socket.socket(fileno=os.dup(self._pg.socket)) as its_own,
        ):
            its_own.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """See :class:`turnwise.storages.sql.connect.Session`."""
        self.raw.close()

    def _send(self, send: Callable[[], None]) -> None:
        self._not_replicated = ""
        try:
            send()
        except psycopg.Error as error:
            raise Failure(error, Outcome.LOST) from None

    def _answer(self) -> Answer:
        """Wait for the answer, for as long as it may take, and read it."""
        poll = select.poll()
        give_up = time.monotonic() + limits.ANSWER_SECONDS
        results: list[PGresult] = []
        try:
            while self._pg.flush():
                self._wait(poll, select.POLLIN | select.POLLOUT, give_up)
                self._pg.consume_input()
            while True:
                while self._pg.is_busy():
                    self._wait(poll, select.POLLIN, give_up)
                    self._pg.consume_input()
                result = self._pg.get_result()
                if result is None:
                    break
                results.append(result)
        except psycopg.Error as error:
            # What the server said last, such as that it shuts down, says more.
            told = [_message(result) for result in results if result.error_field(_SQLSTATE)]
            raise Failure(told[0] if told else error, Outcome.LOST) from None
        if self._not_replicated:
            raise Failure(self._not_replicated, Outcome.LOST)
        if not results:
            raise Failure("the connection is closed", Outcome.LOST)
        return self._read(results[0])

    def _wait(self, poll: "select.poll", events: int, give_up: float) -> None:
        poll.register(self._pg.socket, events)
        left = give_up - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise Failure(f"no answer within {limits.ANSWER_SECONDS:g} s", Outcome.GIVEN_UP)

    def _read(self, result: PGresult) -> Answer:
        sqlstate = result.error_field(_SQLSTATE)
        if sqlstate is not None:
            raise _ServerFailure(_message(result), sqlstate.decode(), alive=self._pg.status == 0)
        columns = [result.ftype(column) in _INTEGERS for column in range(result.nfields)]
        rows = [
            tuple(
                _decoded(result.get_value(row, column), is_integer=is_integer)
                for column, is_integer in enumerate(columns)
            )
            for row in range(result.ntuples)
        ]
        return Answer(rows, result.command_tuples or 0)


class _MayPrepare:
    """Whether statements are prepared: until a pooler shows that it does not bear them."""

    yes = True


class _ServerFailure(Failure):
    """The server's own word, with its code."""

    def __init__(self, message: str, sqlstate: str, *, alive: bool) -> None:
        outcome = Outcome.REFUSED
        if sqlstate in _UNDONE:
            outcome = Outcome.UNDONE
        elif sqlstate == _READ_ONLY:
            outcome = Outcome.WRONG_SERVER
        elif not alive or sqlstate.startswith(("57P", "08")):
            outcome = Outcome.LOST
        super().__init__(message, outcome)
        self.sqlstate = sqlstate


class Postgres(Driver):
    """Opens connections to the database of one address.

    Args:
        address: of the database.
        raw: opens psycopg's own connection; by default as the address says.

    Raises:
        ValueError: there is what libpq does not know in the address.
    """

    placeholder = "$"

    def __init__(self, address: Address, raw: Callable[[], Connection] | None = None) -> None:
        super().__init__(address)
        self._may_prepare = _MayPrepare()
        try:
            given = _arguments_of_libpq(address)
            psycopg.conninfo.make_conninfo(**given)
        except (psycopg.Error, ArgumentError) as error:
            raise ValueError(
                f"{self.shown!r} is no URL of a database: {str(error).strip()}"
            ) from None
        self._given, self._raw = given, raw

    def open(self) -> PostgresSession:
        """See :class:`turnwise.storages.sql.connect.Driver`."""
        try:
            if self._raw is not None:
                raw = self._raw()
            else:
                raw = psycopg.connect(psycopg.conninfo.make_conninfo(**_with_ours(self._given)))
        except (psycopg.Error, OSError, RuntimeError) as error:
            failure = Failure(error)
            # psycopg's frames hold what is half open, and hold each other, after a timeout.
            traceback.clear_frames(error.__traceback__)
            raise failure from None
        return PostgresSession(raw, self._may_prepare)


_CHECK = (
    b"SELECT current_setting('server_encoding'), CASE WHEN pg_is_in_recovery() THEN 'standby'"
    b" ELSE current_setting('transaction_read_only') END, current_setting('client_min_messages')"
)


def _with_ours(given: dict[str, str]) -> dict[str, str]:
    """What was given, and what we ask for where nothing was."""
    milliseconds = str(round(limits.ANSWER_SECONDS * 1000))
    ours = {
        "connect_timeout": str(max(2, round(limits.CONNECT_SECONDS))),  # libpq takes no less
        # What was sent must be acknowledged by the other host, and an idle one must answer.
        "tcp_user_timeout": milliseconds,
        "keepalives_idle": str(max(1, round(limits.ANSWER_SECONDS))),
        "keepalives_interval": "2",
        "keepalives_count": "3",
        "application_name": "turnwise",
        "client_encoding": "UTF8",
    }
    if given.get("target_session_attrs", "any") == "any":
        given = {**given, "target_session_attrs": "read-write"}
    return ours | given | {"client_encoding": "UTF8"}


def _arguments_of_libpq(address: Address) -> dict[str, str]:
    """In SQLAlchemy's way, which also says how several hosts are written."""
    _, arguments = address.url.get_dialect()().create_connect_args(address.url)
    return {name: str(value) for name, value in arguments.items() if value}


def _encoded(value: str | int) -> bytes:
    try:
        encoded = str(value).encode()
    except UnicodeError:
        raise Failure("text with half of a surrogate pair cannot be kept") from None
    if b"\0" in encoded:
        raise Failure("text with a NUL cannot be kept")
    return encoded


def _decoded(value: bytes | None, *, is_integer: bool) -> str | int | None:
    if value is None:
        return None
    if is_integer:
        return int(value) if value not in (b"t", b"f") else int(value == b"t")
    return value.decode()


def _message(result: PGresult) -> str:
    told = result.error_field(_PRIMARY) or result.error_message
    return told.decode("utf-8", "replace")
