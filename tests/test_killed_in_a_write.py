"""A process that is killed within a write leaves nothing behind."""

import multiprocessing
import threading
from contextlib import closing
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import sqlalchemy as sa

from storages import SHARED
from turnwise.backends import Participant
from turnwise.backends.sql import SqlBackend
from turnwise.testing import SETTINGS, Desk, ManualClock
from turnwise.testing.desk import RUNNING

PATIENCE_SECONDS = 60.0
KILLED = Participant("killed", "boot")
spawn = multiprocessing.get_context("spawn")


def hang_before_commit(url: str, what: str, hanging: Event) -> None:
    backend = SqlBackend(url, clock=ManualClock())

    def hang(*_: object) -> None:
        hanging.set()
        threading.Event().wait(PATIENCE_SECONDS)

    def hang_at_a_commit(_: object, __: object, statement: str, *___: object) -> None:
        if statement == "COMMIT":
            hang()

    desk = Desk(backend, ManualClock())
    sa.event.listen(backend._database.engine, "commit", hang)
    sa.event.listen(backend._database.engine, "before_cursor_execute", hang_at_a_commit)
    if what == "admit":
        desk.admit("killed")
    elif what == "finish":
        desk.finish("open run")
    else:
        backend.look(desk.service, KILLED, SETTINGS)


# All that is a transaction of several statements; on PostgreSQL an admission is one statement.
TRANSACTIONS = {
    "sqlite-file": ["admit", "finish", "look"],
    "postgresql": ["look"],
    "mariadb": ["admit", "look"],
}


@pytest.mark.parametrize(
    ("storage", "what"),
    [(name, what) for name, whats in TRANSACTIONS.items() if name in SHARED for what in whats],
)
def test_a_process_killed_within_a_write_leaves_nothing_behind(
    tmp_path: Path, storage: str, what: str
) -> None:
    url, hanging = SHARED[storage](tmp_path), spawn.Event()
    with closing(SqlBackend(url, clock=ManualClock())) as backend:
        desk = Desk(backend, ManualClock())
        backend.publish_settings(desk.service, SETTINGS)
        if what == "finish":
            desk.admit("a", run_id="open run")
        before = desk.executions()
        process = spawn.Process(target=hang_before_commit, args=(url, what, hanging), daemon=True)
        process.start()
        try:
            assert hanging.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
            process.join(PATIENCE_SECONDS)
        assert desk.executions() == before
        if what == "finish":
            assert desk.record("open run").status is RUNNING
            desk.finish("open run")
            desk.clock.advance(SETTINGS.interval)
        # No lock is left either.
        assert backend.look(desk.service, Participant("b", "boot"), SETTINGS).size == 0
        assert desk.admit("b")[1].fencing_token == len(before) + 1
