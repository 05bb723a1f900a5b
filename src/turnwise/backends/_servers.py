"""PostgreSQL, MySQL and MariaDB through SQLAlchemy: how connections are opened.

Each connection is in autocommit mode, so that a single statement is a transaction and one round
trip, and nothing is left of a session: that is what a pooler in transaction mode asks for. No
connection waits for ever, for a connect, a lock, or a link that swallows what is sent.
"""

import time
from collections.abc import Generator
from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection

from turnwise.backends import MissingExtraError

if TYPE_CHECKING:
    import psycopg
    from psycopg.waiting import Ready, Wait

CONNECT_SECONDS = 5
ANSWER_SECONDS = 10
_POLL_SECONDS = 0.1
_T = TypeVar("_T")

_POSTGRES_DEFAULTS = {
    "connect_timeout": str(CONNECT_SECONDS),
    # What was sent must be acknowledged by the other host, and an idle one must answer.
    "tcp_user_timeout": str(ANSWER_SECONDS * 1000),
    "keepalives_idle": str(ANSWER_SECONDS),
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "application_name": "turnwise",
}


def postgres_engine(url: sa.URL) -> sa.Engine:
    """The engine for PostgreSQL, by psycopg 3, which connects to nothing yet.

    Raises:
        MissingExtraError: psycopg is not installed.
    """
    try:
        import psycopg  # noqa: PLC0415 (needs an extra)
    except ImportError as error:
        raise MissingExtraError(
            "PostgreSQL needs the extra 'postgres': pip install 'turnwise[postgres]'"
        ) from error

    class ImpatientConnection(psycopg.Connection[tuple[object, ...]]):
        """A connection with a deadline of its own for each answer.

        The server's would be a setting of the session, and does not help against a link that
        swallows its messages.
        """

        def wait(  # type: ignore[override] # "timeout" is not there in every version
            self,
            gen: "Generator[Wait, Ready | int, _T]",
            interval: float = _POLL_SECONDS,
            **timeout: float | None,
        ) -> _T:
            return super().wait(_impatient(gen, self), min(interval, _POLL_SECONDS), **timeout)

    given = _arguments_of_libpq(url)

    def connect() -> "psycopg.Connection[tuple[object, ...]]":
        return ImpatientConnection.connect(
            psycopg.conninfo.make_conninfo(**{**_POSTGRES_DEFAULTS, **given}),
            autocommit=True,
            prepare_threshold=None,  # a prepared statement belongs to a session
        )

    return sa.create_engine(
        "postgresql+psycopg://",
        creator=connect,
        use_native_hstore=False,
        **_of_every_server(),
    )


def _arguments_of_libpq(url: sa.URL) -> dict[str, str]:
    if isinstance(url.query.get("host"), tuple):
        # Several hosts, each with its port, in SQLAlchemy's way: it says how libpq takes them.
        url = url.set(drivername="postgresql+psycopg")
        _, arguments = url.get_dialect()().create_connect_args(url)
    else:
        named = {
            "host": url.host,
            "port": url.port,
            "dbname": url.database,
            "user": url.username,
            "password": url.password,
        }
        arguments = {name: value for name, value in named.items() if value} | dict(url.query)
    return {name: str(value) for name, value in arguments.items()}


def _impatient(
    steps: "Generator[Wait, Ready | int, _T]", connection: "psycopg.Connection[tuple[object, ...]]"
) -> "Generator[Wait, Ready | int, _T]":
    """The driver's own steps, given up where the answer is overdue."""
    import psycopg  # noqa: PLC0415 (needs an extra)

    give_up = time.monotonic() + ANSWER_SECONDS
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > give_up:
                connection.pgconn.finish()
                raise psycopg.OperationalError(f"no answer within {ANSWER_SECONDS} s")
            wanted = steps.send(ready)
    except StopIteration as done:
        answer: _T = done.value
        return answer


def mysql_engine(url: sa.URL) -> sa.Engine:
    """The engine for MySQL or MariaDB, by PyMySQL, which connects to nothing yet.

    Raises:
        MissingExtraError: PyMySQL is not installed.
    """
    try:
        import pymysql  # noqa: F401, PLC0415 (needs an extra)
    except ImportError as error:
        raise MissingExtraError(
            "MySQL and MariaDB need the extra 'mysql': pip install 'turnwise[mysql]'"
        ) from error
    engine = sa.create_engine(
        url.set(drivername="mysql+pymysql"),
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": ANSWER_SECONDS,
            "write_timeout": ANSWER_SECONDS,
            "charset": "utf8mb4",
            "autocommit": True,
        },
        **_of_every_server(),
    )
    sa.event.listen(engine, "connect", _read_what_is_committed)
    return engine


def _read_what_is_committed(connection: DBAPIConnection, _: object) -> None:
    # The default also locks gaps between rows: inserts of different runners would wait for
    # each other, and now and then one would fail.
    cursor = connection.cursor()
    cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    cursor.close()


def _of_every_server() -> dict[str, object]:
    return {
        "isolation_level": "AUTOCOMMIT",
        "skip_autocommit_rollback": True,
        "pool_reset_on_return": None,  # nothing is left to reset, and it costs a round trip
        "pool_timeout": ANSWER_SECONDS,
        "hide_parameters": True,
    }
