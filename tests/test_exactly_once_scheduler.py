"""A scheduler whose jobs complete their turns in transactions: what it believes, and tells."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from jobs_database import EFFECT, NAMES, Database, connected, database, sqlalchemy_url
from live import Heard, eventually
from opened import Known
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.controls import Controls
from turnwise.errors import BusyError, TurnLostError
from turnwise.events import StorageLost, TurnEnded, TurnLost, TurnStarted
from turnwise.gate import NOT_COMMITTED, Execution
from turnwise.scheduler import Scheduler
from turnwise.testing import fake_turn
from turnwise.texts import row_from_text
from turnwise.turn import Turn

COMPLETED = (Status.COMPLETED, "", True)


class Program:
    """A program with one job, whose name is its own, on a database of the tests."""

    def __init__(self, db: Database) -> None:
        self.db, self.group = db, uuid4().hex
        self.heard = Heard()
        self.scheduler = Scheduler(db.url, group=self.group, runner_id="a", observers=(self.heard,))

    def serve(
        self,
        job: Callable[[Turn], object],
        name: str = "invoice",
        interval: str = "2s",
        **knobs: Any,
    ) -> None:
        """Have a function served."""
        usual = {"heartbeat_timeout": interval, "spread_margin": "100ms"}
        self.scheduler.every(interval, name=name, **usual | knobs)(job)

    def write(self, turn: Turn, connection: Any) -> None:
        """The job's effect."""
        connection.exec_driver_sql(EFFECT.format(int(turn.due.timestamp()), self.group))

    def ends(self, count: int = 1) -> list[tuple[Status, str, bool]]:
        """How the first turns ended, as the scheduler tells it."""
        ended = self.heard.wait_for(TurnEnded, count=count)
        return [(event.status, event.reason, event.recorded) for event in ended[:count]]

    @cached_property
    def storage(self) -> Known:
        """What the program's group keeps."""
        return Known(self.db.url)

    def history(self, service: str = "invoice") -> list[Execution]:
        """The runs that the history has."""
        rows = [row_from_text(row.body) for row in self.storage.history(self.group, service)]
        return [row for row in rows if isinstance(row, Execution) and row.token]


@pytest.fixture(params=NAMES)
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    made = Program(database(request.param, tmp_path))
    yield made
    made.storage.close()


@pytest.fixture
def on_postgresql(tmp_path: Path) -> Iterator[Program]:
    made = Program(database("postgresql", tmp_path))
    yield made
    made.storage.close()


def test_a_turn_that_was_committed_is_told_and_kept_as_completed(program: Program) -> None:
    @program.serve
    def job(turn: Turn) -> None:
        with program.db.engine.begin() as connection:
            program.write(turn, connection)
            turn.complete(connection)

    with program.scheduler:
        assert program.ends(3) == [COMPLETED] * 3
        eventually(lambda: len(program.history()) >= 3, "the history has the runs")
    dues = [run.due for run in program.history() if run.status is Status.COMPLETED]
    assert len(dues) == len(set(dues)) == program.db.effects(program.group)
    gate = program.storage.read(program.group, ["invoice"]).services["invoice"].gate
    assert gate is not None
    assert len(gate.body) < 2_000  # what the history has does not pile up in the gate


def test_a_rollback_that_the_job_swallowed_is_a_failed_attempt(program: Program) -> None:
    @program.serve
    def job(turn: Turn) -> None:
        with program.db.engine.connect() as connection:
            program.write(turn, connection)
            turn.complete(connection)
            if turn.attempt == 1 and not program.heard.of(TurnEnded):
                connection.rollback()
                return
            connection.commit()

    with program.scheduler:
        assert program.ends(2) == [(Status.ABANDONED, NOT_COMMITTED, True), COMPLETED]
    first = program.heard.of(TurnStarted)[0]
    assert program.db.effects(program.group) == len(program.heard.of(TurnEnded)) - 1
    [failed, *_] = program.history()
    assert (failed.due, failed.reason) == (first.due, NOT_COMMITTED)


def test_a_refusal_that_the_job_swallowed_is_a_failed_attempt(tmp_path: Path) -> None:
    program = Program(database("sqlite", tmp_path))

    @program.serve
    def job(turn: Turn) -> None:
        with suppress(ValueError), connected(program.db, "driver", isolation_level=None) as hands:
            turn.complete(hands.connection)  # in autocommit

    with program.scheduler:
        assert program.ends() == [(Status.ABANDONED, NOT_COMMITTED, True)]
    program.storage.close()


def test_a_job_that_fails_after_its_commit_has_completed_its_turn(program: Program) -> None:
    """As where the answer to the commit is lost: what was raised says nothing of the data."""

    @program.serve
    def job(turn: Turn) -> None:
        with program.db.engine.begin() as connection:
            program.write(turn, connection)
            turn.complete(connection)
        raise ConnectionError("the answer to the commit was lost")

    with program.scheduler:
        assert program.ends() == [COMPLETED]
    assert program.db.effects(program.group) >= 1


def test_a_job_that_fails_before_its_commit_says_why(program: Program) -> None:
    @program.serve
    def job(turn: Turn) -> None:
        with program.db.engine.begin() as connection:
            program.write(turn, connection)
            turn.complete(connection)
            raise LookupError

    with program.scheduler:
        assert program.ends() == [(Status.ABANDONED, "exception:LookupError", True)]
    assert program.db.effects(program.group) == 0


def test_a_function_that_goes_on_after_its_commit_is_not_told_as_lost(program: Program) -> None:
    is_lost: list[bool] = []

    def job(turn: Turn) -> None:
        with program.db.engine.begin() as connection:
            turn.complete(connection)
        eventually(lambda: turn.is_lost, "a heartbeat has shown that the run is closed")
        is_lost.append(turn.is_lost)

    program.serve(job, heartbeat_timeout="1s")
    with program.scheduler:
        assert program.ends() == [COMPLETED]
    assert is_lost[0]
    assert not program.heard.of(TurnLost)


def test_a_connection_that_the_job_forgot_keeps_the_turn_from_being_told(
    on_postgresql: Program,
) -> None:
    program = on_postgresql
    forgotten: list[sa.Connection] = []

    def job(turn: Turn) -> None:
        connection = program.db.engine.connect()
        turn.complete(connection)
        if not forgotten:
            forgotten.append(connection)
        else:
            connection.close()

    program.serve(job)
    with program.scheduler:
        eventually(lambda: forgotten, "a turn begins")
        time.sleep(0.5)
        assert not program.heard.of(TurnEnded)
        forgotten[0].close()
        assert program.ends() == [(Status.ABANDONED, NOT_COMMITTED, True)]


def test_a_coroutine_completes_its_turn_on_an_asynchronous_connection(
    on_postgresql: Program,
) -> None:
    program = on_postgresql

    @program.serve
    async def job(turn: Turn) -> None:
        engine = create_async_engine(sqlalchemy_url(program.db.url), poolclass=sa.NullPool)
        async with engine.begin() as connection:
            await connection.exec_driver_sql(EFFECT.format(1, program.group))
            await connection.run_sync(turn.complete)

    with program.scheduler:
        assert program.ends() == [COMPLETED]
    assert program.db.effects(program.group) >= 1


def test_a_job_that_holds_its_transaction_stops_no_heartbeat_and_no_other_service(
    on_postgresql: Program,
) -> None:
    program, holds, go_on = on_postgresql, threading.Event(), threading.Event()

    def slow(turn: Turn) -> None:
        with program.db.engine.begin() as connection:
            program.write(turn, connection)
            turn.complete(connection)
            holds.set()
            assert go_on.wait(30)

    program.serve(slow, "slow", "6s")
    program.serve(lambda _: None, "other", "1s")
    with program.scheduler:
        assert holds.wait(30)
        controls = Controls(program.storage, program.group, by="me")
        began = time.monotonic()
        with pytest.raises(BusyError, match="another transaction has its gate locked"):
            controls.pause("slow")
        assert time.monotonic() - began < 2
        controls.pause("other")
        controls.resume("other")
        before = len(program.heard.of(TurnStarted))
        eventually(
            lambda: len(program.heard.of(TurnStarted)) >= before + 2, "the other one is served"
        )
        go_on.set()
        ended = eventually(
            lambda: [each for each in program.heard.of(TurnEnded) if each.service == "slow"],
            "the slow one ends",
        )
        assert ended[0].status is Status.COMPLETED
    assert not program.heard.of(StorageLost)
    assert not program.heard.of(TurnLost)


def test_a_job_on_a_storage_that_is_no_database_is_told_so(tmp_path: Path) -> None:
    db, heard = database("sqlite", tmp_path), Heard()
    scheduler = Scheduler("memory:", observers=(heard,))

    @scheduler.every("2s", spread_margin="100ms")
    def invoice(turn: Turn) -> None:
        with connected(db) as hands:
            turn.complete(hands.connection)

    with scheduler:
        [ended, *_] = heard.wait_for(TurnEnded)
    assert ended.reason == "exception:ValueError"


DJANGO = """
import sys
from django.conf import settings

settings.configure(
    DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {path!r}}}}}
)
import django
django.setup()
from django.db import connection, transaction
from turnwise.events import TurnEnded
from turnwise.scheduler import Scheduler

ended = []
scheduler = Scheduler("sqlite:///" + {path!r}, observers=[ended.append])

@scheduler.every("1s", spread_margin="50ms")
def invoice(turn):
    refused = []
    for wrong in (lambda: turn.complete(connection), nested):
        try:
            wrong() if wrong is not nested else nested(turn)
        except ValueError as error:
            refused.append(str(error))
    if turn.attempt == 1:
        print(*refused, sep="\\n", flush=True)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO effects (due, note) VALUES (1, 'django')")
        turn.complete(connection)
    scheduler.request_stop()

def nested(turn):
    with transaction.atomic(), transaction.atomic():
        turn.complete(connection)

scheduler.run()
print(*[f"{{e.status}} {{e.recorded}}" for e in ended if isinstance(e, TurnEnded)])
"""


def test_a_job_of_django_completes_its_turn_in_an_atomic_block(tmp_path: Path) -> None:
    db = database("sqlite", tmp_path)
    program = DJANGO.format(path=str(tmp_path / "job.db"))
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    autocommit, savepoint, ended = done.stdout.splitlines()
    assert autocommit.startswith("connection must be in a transaction")
    assert savepoint.startswith("connection must be in no savepoint")
    assert ended == "completed True"
    assert db.effects("django") == 1


# For unit tests of jobs ---------------------------------------------------------------------------


def test_a_fake_turn_says_whether_its_job_completed_and_fenced_it() -> None:
    turn, connection = fake_turn(), object()
    assert (turn.is_complete, turn.fenced) == (False, [])
    turn.fence(connection)
    turn.complete(connection)
    assert (turn.is_complete, turn.fenced) == (True, [connection])
    with pytest.raises(TypeError, match="connection must be one"):
        turn.complete(None)
    turn.lose()
    for what in (turn.fence, turn.complete):
        with pytest.raises(TurnLostError):
            what(connection)
