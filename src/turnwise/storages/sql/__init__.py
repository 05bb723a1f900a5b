"""Storage in an SQL database: SQLite, PostgreSQL, MariaDB, and MySQL, which is untested.

How it keeps the rules of :mod:`turnwise.storages`
--------------------------------------------------
- **One statement per swap.** It locks the record's row, then reads the clock, then compares and
  writes. A server commits it without another word of this process, so that a process that stops
  anywhere holds no lock. On SQLite the statement stands between ``BEGIN IMMEDIATE`` and
  ``COMMIT``; a process that is suspended just there holds up all writers until it goes on.
- **Whose clock.** The server's; on SQLite the host's. See :mod:`turnwise.storages.sql.clock`.
- **Two connections**, kept open: one for heartbeats and leaves, one for all else. A statement
  that is not answered in time is cancelled at the server, and its connection dropped. So is the
  connection to a server that may no longer write; the statement is then done by another one.
- **What is known to be undone is done again**; of what is not known, only what reads.

Which module does what
----------------------
``address`` reads a URL; ``sqlite``, ``postgresql`` and ``mysql`` open connections, which
``connect`` keeps; ``tables`` has the tables, which ``schema`` makes and checks; ``statements``
makes a driver's text of each statement, which stand in ``runner``, ``record`` and ``history``,
beside the operations that they are for. ``joined`` takes part in a
transaction of a job's, on one of the connections that ``callers`` knows.

Not guaranteed
--------------
What the server acknowledged is as durable as its configuration says: ``synchronous_commit``,
``innodb_flush_log_at_trx_commit`` and their like are the administrator's.
"""

from importlib.util import find_spec

from turnwise.errors import MissingExtraError

# It is not imported here: a file whose tables are as this version makes them needs none of it.
if find_spec("sqlalchemy") is None:
    raise MissingExtraError("SQL storages need the extra 'sql': pip install 'turnwise[sql]'")

from turnwise.storages.sql.database import upgrade
from turnwise.storages.sql.history import Histories
from turnwise.storages.sql.joined import Joined
from turnwise.storages.sql.record import Records
from turnwise.storages.sql.runner import Runners

__all__ = ["SqlStorage", "schema_statements", "upgrade"]


def schema_statements(url: str) -> str:
    """The statements that create the tables, for the database that ``url`` names.

    A kind alone, such as ``postgresql``, will do. MySQL and MariaDB differ in one collation:
    ``mariadb`` gets MariaDB's. Connects to nothing.

    Raises:
        ValueError: it is no URL of a database that is supported.
    """
    from turnwise.storages.sql import schema  # noqa: PLC0415 (it needs SQLAlchemy)

    return schema.schema_statements(url)


class SqlStorage(Runners, Records, Histories, Joined):
    """A storage in an SQL database; see :class:`turnwise.storages.Storage`.

    Args:
        url: ``sqlite:///relative/path.db``, ``sqlite:////absolute/path.db``, or ``sqlite://`` for
            a fresh one in memory, which threads of this process share;
            ``postgresql://user:password@host/database``, ``mysql://...``, ``mariadb://...``. In
            its query, ``table_prefix`` stands for ``turnwise_`` in the tables' names, and
            ``schema`` for where they are. The name of another driver (``+asyncpg``, ``+aiomysql``)
            is taken for the database that it is for.
        create_tables: whether to create what is missing, the database file included. If False,
            a missing file or table is an error.
        clock: gives now, in microseconds, for tests. By default it is the database's own; the
            host's with SQLite.
        engine: an SQLAlchemy ``Engine`` or ``AsyncEngine``, whose URL is used where no other one
            is given. Where its driver is ours (psycopg, PyMySQL), it also makes the connections.

    Raises:
        ValueError: the URL is no URL of a database that is supported.
        MissingExtraError: the database's driver is not installed.
        SchemaError: what the database holds is not what this version of turnwise needs.
        StorageError: the database cannot be opened, or is none.
    """
