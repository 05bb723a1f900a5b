"""Through PgBouncer in transaction mode PostgreSQL passes the conformance suite, all of it."""

from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

import servers
from storages import emptied
from turnwise import Backend, open_backend
from turnwise.backends.sql import SqlBackend
from turnwise.testing import BackendConformance, Clock, Opener, ProcessConformance

pytestmark = pytest.mark.skipif(
    servers.pgbouncer_executable() is None, reason=servers.WHY_NO_PGBOUNCER
)
MARK = "turnwise.mark"


class TestThroughPgBouncer(BackendConformance):
    rounds_of_threads = 4

    def open_backend(self, clock: Clock, folder: Path) -> Backend:
        del folder
        return SqlBackend(emptied(servers.pgbouncer()), clock=clock)


class TestProcessesThroughPgBouncer(ProcessConformance):
    rounds_of_processes = 40

    def opener(self, folder: Path) -> Opener:
        del folder
        return partial(open_backend, emptied(servers.pgbouncer()))


def session(connection: sa.Connection) -> int:
    """Which of PostgreSQL's processes has answered."""
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def test_the_transactions_of_one_client_are_in_different_sessions_which_share_nothing() -> None:
    pooler = servers.pgbouncer()
    with closing(SqlBackend(pooler.url)) as one, closing(SqlBackend(pooler.url)) as other:
        with one._database.connection() as first, other._database.connection() as second:
            both = {session(first), session(second)}
        assert len(both) == pooler.connections
        with one._database.connection(atomic=False) as connection:
            assert {session(connection) for _ in range(8)} == both
            # So a storage that left something in its session would miss it here.
            connection.exec_driver_sql(f"SET {MARK} = 'here'")
            asked = f"SELECT pg_backend_pid(), current_setting('{MARK}', true)"
            answers = [connection.exec_driver_sql(asked).one() for _ in range(8)]
            marks = {answer[0]: answer[1] or "" for answer in answers}
            assert sorted(marks.values()) == ["", "here"]
            connection.exec_driver_sql("DISCARD ALL")
