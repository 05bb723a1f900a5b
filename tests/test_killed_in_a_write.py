"""A process that is killed within a write leaves nothing behind."""

import multiprocessing
import threading
from contextlib import closing
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import sqlalchemy as sa

from storages import SHARED
from turnwise.backends.sql import SqlBackend
from turnwise.testing import SETTINGS, Desk, ManualClock
from turnwise.testing.desk import RUNNING

PATIENCE_SECONDS = 60.0
spawn = multiprocessing.get_context("spawn")


def hang_before_commit(url: str, what: str, hanging: Event) -> None:
    backend = SqlBackend(url, clock=ManualClock())

    def hang(_: sa.Connection) -> None:
        hanging.set()
        threading.Event().wait(PATIENCE_SECONDS)

    sa.event.listen(backend._database.engine, "commit", hang)
    desk = Desk(backend, ManualClock())
    if what == "admit":
        desk.admit("killed")
    else:
        desk.finish("open run")


@pytest.mark.parametrize("what", ["admit", "finish"])
def test_a_process_killed_within_a_write_leaves_nothing_behind(tmp_path: Path, what: str) -> None:
    url, hanging = SHARED["sqlite-file"](tmp_path), spawn.Event()
    with closing(SqlBackend(url, clock=ManualClock())) as backend:
        desk = Desk(backend, ManualClock())
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
        assert desk.admit("b")[1].fencing_token == len(before) + 1
