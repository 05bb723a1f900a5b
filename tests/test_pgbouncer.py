"""Through PgBouncer in transaction mode PostgreSQL passes the conformance kit, all of it."""

from contextlib import closing
from functools import partial
from pathlib import Path

import psycopg
import pytest

import servers
from opened import Known, without_rows
from turnwise.conformance import Clock, Opener, ProcessConformance, StorageConformance
from turnwise.storages import Storage
from turnwise.storages.sql import SqlStorage

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(servers.pgbouncer_executable() is None, reason=servers.WHY_NO_PGBOUNCER),
]
MARK = "turnwise.mark"


class TestThroughPgBouncer(StorageConformance):
    def open_storage(self, clock: Clock, folder: Path) -> Storage:
        del folder
        return Known(without_rows(servers.pgbouncer()), clock=clock)


class TestProcessesThroughPgBouncer(ProcessConformance):
    def opener(self, folder: Path) -> Opener:
        del folder
        return partial(SqlStorage, without_rows(servers.pgbouncer()))


def test_the_pooler_gives_one_client_several_sessions_which_share_nothing() -> None:
    """So a storage that left something in its session would miss it through this pooler."""
    url = servers.pgbouncer().url
    with (
        closing(psycopg.connect(url, autocommit=True, prepare_threshold=None)) as one,
        closing(psycopg.connect(url, autocommit=True, prepare_threshold=None)) as other,
    ):
        sessions: set[object] = set()
        for connection in (one, other):
            connection.execute("BEGIN")
            sessions |= set(connection.execute("SELECT pg_backend_pid()").fetchall())
        other.execute("COMMIT")
        one.execute("COMMIT")
        assert len(sessions) == servers.pgbouncer().connections
        one.execute(f"SET {MARK} = 'here'")
        asked = f"SELECT current_setting('{MARK}', true)"
        said = {one.execute(asked).fetchall()[0] for _ in range(8)}
        assert len(said) > 1
        one.execute("DISCARD ALL")
