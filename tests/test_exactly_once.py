"""A run is completed in the transaction of its job: both are there, or neither is."""

# ruff: noqa: S608 (what is put into a text is our own)

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from jobs_database import (
    KEY,
    NAMES,
    SERVICE,
    WAYS,
    Bench,
    Database,
    asynchronously,
    connected,
    database,
    sqlalchemy_url,
)
from live import eventually
from turnwise import gate as gates
from turnwise.actions import HandedOver
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.errors import TurnLostError
from turnwise.gate import Gate
from turnwise.storages import Beat, Entry, Kind, Record
from turnwise.storages.memory import MemoryStorage
from turnwise.storages.sql import SqlStorage
from turnwise.storages.sql import record as swapping

ON_SERVERS = [name for name in NAMES if name != "sqlite"]


@pytest.fixture(params=NAMES)
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    return database(request.param, tmp_path)


@pytest.fixture
def bench(db: Database) -> Iterator[Bench]:
    made = Bench(db)
    yield made
    made.close()


def paused(gate: Gate) -> Gate:
    return gates.pause(gate, id="pause", now=KEY, by="me", reason="")


def buried(bench: Bench) -> Callable[[Gate], object]:
    return lambda gate: gates.bury(gate, bench.run.run_id, now=KEY)


# Together, or not at all --------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_what_the_job_wrote_and_that_it_is_served_commit_together(bench: Bench, way: str) -> None:
    with connected(bench.db, way) as hands:
        hands.write(bench.effect)
        bench.hand.complete(hands.connection)
        assert bench.gate.open == bench.run  # nobody else sees it yet
        assert bench.effects == 0
        hands.commit()
    assert bench.effects == 1
    assert bench.gate.open is None
    assert bench.gate.served == (KEY,)
    said = gates.said_of(bench.gate, bench.run.run_id)
    assert said is not None
    assert said.status is Status.COMPLETED
    assert said.ended_at is not None
    assert said.started_at <= said.ended_at <= bench.storage.read(bench.group, []).now


@pytest.mark.parametrize("way", WAYS)
def test_what_is_rolled_back_is_neither_written_nor_served(bench: Bench, way: str) -> None:
    before = bench.record
    with connected(bench.db, way) as hands:
        hands.write(bench.effect)
        bench.hand.complete(hands.connection)
        hands.rollback()
    assert bench.effects == 0
    assert bench.record == before


@pytest.mark.parametrize("session", [False, True])
def test_of_an_asynchronous_connection_it_is_run_sync(tmp_path: Path, session: bool) -> None:
    bench = Bench(database("postgresql", tmp_path))

    async def job(connection: AsyncConnection | AsyncSession) -> None:
        await connection.execute(sa.text(bench.effect))
        await connection.run_sync(bench.hand.fence)
        await connection.run_sync(bench.hand.complete)
        await connection.commit()

    asynchronously(bench.db, job, session=session)
    assert bench.effects == 1
    assert bench.gate.served == (KEY,)
    bench.close()


def test_what_was_added_to_a_session_is_written_before_the_run_is_completed(bench: Bench) -> None:
    class Base(sa.orm.DeclarativeBase): ...

    class Effect(Base):
        __tablename__ = "effects"
        due = sa.Column(sa.BigInteger, primary_key=True)
        note = sa.Column(sa.String)

    with connected(bench.db, "session") as hands:
        statements: list[str] = []
        sa.event.listen(
            bench.db.engine,
            "before_cursor_execute",
            lambda _c, _cursor, text, *_: statements.append(text),
        )
        hands.connection.add(Effect(due=KEY, note=bench.note))
        bench.hand.complete(hands.connection)
        before_the_commit = len(statements)
        hands.commit()
        assert len(statements) == before_the_commit
    assert bench.effects == 1


def test_the_machine_is_told_before_the_gate_is_changed(bench: Bench) -> None:
    """Were it told after, a lost answer to the change would leave it believing the function."""
    with connected(bench.db) as hands:
        bench.hand.fence(hands.connection)
        assert bench.told == []
        text = f"SELECT run_id FROM turnwise_records WHERE group_name = '{bench.group}'"

        def note(told: HandedOver) -> None:
            bench.told += [told, hands.connection.exec_driver_sql(text).scalar()]
            assert bench.swap(buried(bench)).busy  # it was locked before it was read

        replace(bench.hand, tell=note).complete(hands.connection)
        assert bench.told == [HandedOver(bench.run.run_id), bench.run.run_id]
        assert hands.connection.exec_driver_sql(text).scalar() is None


def test_rows_that_the_history_has_leave_the_gate(bench: Bench) -> None:
    assert bench.swap(paused).done
    assert [row.id for row in bench.gate.unsaid] == ["pause"]
    bench.kept = frozenset({"pause"})
    with connected(bench.db) as hands:
        bench.hand.complete(hands.connection)
        hands.commit()
    assert [row.id for row in bench.gate.unsaid] == [bench.run.run_id]


# A turn that is not ours any more -----------------------------------------------------------------


@pytest.mark.parametrize("what", ["complete", "fence"])
def test_a_run_that_was_buried_can_commit_nothing_any_more(bench: Bench, what: str) -> None:
    assert bench.swap(buried(bench)).done
    with connected(bench.db) as hands:
        hands.write(bench.effect)
        with pytest.raises(TurnLostError, match="closed as abandoned owner_dead"):
            getattr(bench.hand, what)(hands.connection)
        hands.rollback()
    assert bench.effects == 0


@pytest.mark.parametrize("what", ["complete", "fence"])
def test_a_turn_that_its_own_process_knows_to_be_lost_asks_nobody(bench: Bench, what: str) -> None:
    bench.why_lost = "no heartbeat was confirmed"
    with connected(bench.db) as hands:
        hands.connection.close()  # nothing is asked
        with pytest.raises(TurnLostError, match="no heartbeat was confirmed"):
            getattr(bench.hand, what)(hands.connection)


def test_from_the_call_on_the_machine_believes_no_function_whatever_is_raised(
    bench: Bench,
) -> None:
    """The function may swallow it, roll back, and return as if all were well."""
    with pytest.raises(TypeError):
        bench.hand.complete(None)
    assert bench.told == [HandedOver(bench.run.run_id)]


@pytest.mark.parametrize("what", ["complete", "fence"])
def test_a_run_in_whose_place_another_is_open_can_commit_nothing(bench: Bench, what: str) -> None:
    with connected(bench.db) as hands:
        hands.write(bench.effect)
        with pytest.raises(TurnLostError, match="the run is closed"):
            getattr(bench.another_hand("of another life"), what)(hands.connection)
    assert bench.gate.open == bench.run


@pytest.mark.parametrize("what", ["complete", "fence"])
def test_a_gate_that_is_gone_lets_nobody_commit(bench: Bench, what: str) -> None:
    bench.storage.forget_service(bench.group, SERVICE)
    with connected(bench.db) as hands, pytest.raises(TurnLostError, match="the run is closed"):
        getattr(bench.hand, what)(hands.connection)


def test_a_run_is_completed_once(bench: Bench) -> None:
    with connected(bench.db) as hands:
        bench.hand.complete(hands.connection)
        with pytest.raises(TurnLostError, match="closed as completed"):
            bench.hand.complete(hands.connection)


def test_a_fence_leaves_the_run_open_and_the_record_as_it_was(bench: Bench) -> None:
    before = bench.record
    for _ in range(3):
        with connected(bench.db) as hands:
            bench.hand.fence(hands.connection)
            hands.write(bench.effect)
            hands.commit()
    assert bench.effects == 3
    assert bench.record == before


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("name", ON_SERVERS)
@pytest.mark.parametrize("what", ["complete", "fence"])
def test_a_snapshot_from_before_the_burial_does_not_commit(
    name: str, what: str, level: str, tmp_path: Path
) -> None:
    """Its snapshot shows the run open. What locks must see what is there now, or be refused."""
    bench = Bench(database(name, tmp_path))
    with connected(bench.db, isolation_level=level) as hands:
        hands.write("SELECT count(*) FROM turnwise_records" if name == "mariadb" else "SELECT 1")
        hands.write(f"SELECT 1 FROM turnwise_runners WHERE runner_id = '{bench.note}'")
        hands.write(bench.effect)
        if (name, level) == ("mariadb", "SERIALIZABLE"):
            hands.rollback()  # what it had read it had locked, so that nobody could bury it
            hands.write(bench.effect)
        assert bench.swap(buried(bench)).done
        with pytest.raises((TurnLostError, sa.exc.OperationalError)):
            getattr(bench.hand, what)(hands.connection)
        hands.rollback()
    assert bench.effects == 0
    bench.close()


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("name", ON_SERVERS)
def test_at_every_level_a_run_that_is_open_is_completed(
    name: str, level: str, tmp_path: Path
) -> None:
    bench = Bench(database(name, tmp_path))
    with connected(bench.db, isolation_level=level) as hands:
        bench.hand.fence(hands.connection)
        hands.write(bench.effect)
        bench.hand.complete(hands.connection)
        hands.commit()
    assert (bench.effects, bench.gate.served) == (1, (KEY,))
    bench.close()


def test_on_sqlite_a_transaction_that_has_read_an_old_snapshot_is_refused(tmp_path: Path) -> None:
    bench = Bench(database("sqlite", tmp_path))
    with connected(bench.db, "driver", isolation_level=None) as hands:
        hands.write("BEGIN")
        hands.connection.execute("SELECT count(*) FROM effects").fetchall()
        assert bench.swap(buried(bench)).done
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            bench.hand.complete(hands.connection)
    bench.close()


# What others are told -----------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["complete", "fence"])
def test_whoever_meets_a_locked_record_is_told_busy_and_does_not_wait(
    bench: Bench, what: str
) -> None:
    with connected(bench.db) as hands:
        hands.write(bench.effect)
        getattr(bench.hand, what)(hands.connection)
        for change in (paused, buried(bench)):
            began = time.monotonic()
            told = bench.swap(change)
            assert (told.done, told.busy) == (False, True)
            assert time.monotonic() - began < 2.5
            assert told.now > KEY
        if bench.db.name != "sqlite":  # which locks all of it
            began = time.monotonic()
            plan = Record("plan", "{}")
            assert bench.storage.swap(bench.group, SERVICE, Kind.PLAN, None, plan).done
            beat = Beat("a", "boot", 1, 5_000_000)
            assert bench.storage.heartbeat(bench.group, beat).open_runs == frozenset()
            assert bench.storage.advance(bench.group) > 0
            assert time.monotonic() - began < 2.5
        hands.rollback()
    told = bench.swap(paused)
    assert (told.done, told.busy) == (True, False)


def test_whoever_meets_the_lock_of_one_statement_is_not_told_busy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else who swaps holds it for a moment: that is nothing to wait a heartbeat for."""
    waits: list[float] = []
    with connected(bench.db) as hands:

        def wait(seconds: float) -> None:
            waits.append(seconds)
            hands.commit()

        monkeypatch.setattr(swapping, "time", SimpleNamespace(sleep=wait))
        bench.hand.fence(hands.connection)
        if bench.db.name == "sqlite":
            hands.commit()  # a file waits by itself
        told = bench.swap(paused)
    assert told.done
    assert len(waits) == (bench.db.name != "sqlite")
    assert swapping._TRIES * swapping._BETWEEN_TRIES_SECONDS > 0.02, "a statement's moment"


# How long it may idle -----------------------------------------------------------------------------

GONE = (psycopg.Error, pymysql.Error, sa.exc.DBAPIError)
SHOWN = {
    "postgresql": "SELECT current_setting('idle_in_transaction_session_timeout')",
    "mariadb": "SELECT @@idle_transaction_timeout + 1000 * @@idle_write_transaction_timeout",
}


@pytest.mark.parametrize("way", ["driver", "SQLAlchemy"])
@pytest.mark.parametrize("what", ["complete", "fence"])
@pytest.mark.parametrize("name", ON_SERVERS)
def test_the_server_ends_what_idles_longer_than_the_turn_would_last(
    name: str, what: str, way: str, tmp_path: Path
) -> None:
    bench = Bench(database(name, tmp_path), idle=1_000_000)
    with connected(bench.db, way) as hands:
        hands.write(bench.effect)
        getattr(bench.hand, what)(hands.connection)
        time.sleep(1.8)
        with pytest.raises(GONE):
            hands.commit()
    assert bench.effects == 0
    assert bench.swap(buried(bench)).done  # and nothing is locked any more
    bench.close()


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("way", ["driver", "SQLAlchemy"])
@pytest.mark.parametrize("name", ON_SERVERS)
def test_afterwards_the_session_has_what_it_had(
    name: str, way: str, end: str, tmp_path: Path
) -> None:
    bench = Bench(database(name, tmp_path))

    def shown(connection: Any) -> object:
        if way == "SQLAlchemy":
            return connection.exec_driver_sql(SHOWN[name]).scalar()
        cursor = connection.cursor()
        cursor.execute(SHOWN[name])
        return cursor.fetchone()[0]

    had = {"postgresql": "5min", "mariadb": 300_000}[name]
    had_set = {
        "postgresql": "SET idle_in_transaction_session_timeout = '5min'",
        "mariadb": "SET SESSION idle_write_transaction_timeout = 300",
    }
    bounded = {"postgresql": "20s", "mariadb": 20_020}[name]
    with connected(bench.db, way) as hands:
        hands.write(had_set[name])
        hands.commit()
        for _ in range(2):
            bench.hand.fence(hands.connection)
            bench.hand.fence(hands.connection)
            assert shown(hands.connection) == bounded
            getattr(hands, end)()
            assert shown(hands.connection) == had
            hands.rollback()
    bench.close()


@pytest.mark.parametrize("name", ON_SERVERS)
def test_a_shorter_bound_of_the_jobs_own_stays(name: str, tmp_path: Path) -> None:
    bench = Bench(database(name, tmp_path))
    shorter = {
        "postgresql": "SET idle_in_transaction_session_timeout = '7s'",
        "mariadb": "SET SESSION idle_write_transaction_timeout = 7",
    }
    with connected(bench.db) as hands:
        hands.write(shorter[name])
        hands.commit()
        bench.hand.fence(hands.connection)
        shown = hands.connection.exec_driver_sql(SHOWN[name]).scalar()
        assert shown == {"postgresql": "7s", "mariadb": 7_020}[name]
    bench.close()


@pytest.mark.parametrize("name", ON_SERVERS)
def test_two_connections_of_one_job_do_not_wait_for_each_other_for_ever(
    name: str, tmp_path: Path
) -> None:
    bench = Bench(database(name, tmp_path), idle=1_500_000)
    began, ended = time.monotonic(), 0
    with connected(bench.db) as one, connected(bench.db) as other:
        bench.hand.fence(one.connection)
        with suppress(*GONE):  # the second one's wait ends, or else the first one's transaction
            for connection in (other, one):
                bench.hand.fence(connection.connection)
                connection.commit()
                ended += 1
        one.connection.invalidate()  # the server has ended it, perhaps
    assert ended < 2
    assert time.monotonic() - began < 10
    bench.close()


@pytest.mark.parametrize("name", ON_SERVERS)
def test_two_who_fence_at_one_moment_wait_and_do_not_deadlock(name: str, tmp_path: Path) -> None:
    """A lock for reading that both have, and that both want to write by, would be a deadlock."""
    bench = Bench(database(name, tmp_path))
    together = threading.Barrier(2, timeout=10)
    ended: list[int] = []

    def fence_again_and_again() -> None:
        with connected(bench.db) as hands:
            for number in range(20):
                together.wait()
                bench.hand.fence(hands.connection)
                hands.commit()
                ended.append(number)

    threads = [threading.Thread(target=fence_again_and_again) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == sorted([*range(20), *range(20)])
    bench.close()


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["complete", "fence"])
@pytest.mark.parametrize("way", ["driver", "SQLAlchemy"])
def test_autocommit_is_refused_and_nothing_is_changed(bench: Bench, way: str, what: str) -> None:
    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"}
    if way == "driver":
        is_sqlite = bench.db.name == "sqlite"
        options = {"isolation_level": None} if is_sqlite else {"autocommit": True}
    before = bench.record
    with (
        connected(bench.db, way, **options) as hands,
        pytest.raises(ValueError, match="connection must be in a transaction"),
    ):
        getattr(bench.hand, what)(hands.connection)
    assert bench.record == before


def test_a_transaction_that_was_begun_by_hand_in_autocommit_is_one(bench: Bench) -> None:
    options: dict[str, Any] = {"isolation_level": None}
    if bench.db.name != "sqlite":
        options = {"autocommit": True}
    with connected(bench.db, "driver", **options) as hands:
        hands.write("BEGIN")
        bench.hand.complete(hands.connection)
        hands.write("COMMIT")
    assert bench.gate.served == (KEY,)


def another(db: Database, folder: Path) -> str:
    """The URL of another database, of the same server, with tables of turnwise."""
    if db.name == "sqlite":
        url = f"sqlite:///{folder / 'another.db'}"
    else:
        if not (db.name == "postgresql" and _is_there(db, "another")):
            db.ask(f"CREATE DATABASE {'IF NOT EXISTS ' * (db.name == 'mariadb')}another")
        parts = sa.make_url(db.url).set(database="another")
        url = parts.render_as_string(hide_password=False)
    SqlStorage(url).close()
    return url


def _is_there(db: Database, name: str) -> bool:
    return bool(db.ask(f"SELECT count(*) FROM pg_database WHERE datname = '{name}'"))


@pytest.mark.parametrize("what", ["complete", "fence"])
@pytest.mark.parametrize("way", ["driver", "SQLAlchemy"])
def test_another_database_of_the_same_server_is_refused(
    bench: Bench, way: str, what: str, tmp_path: Path
) -> None:
    other = Database(bench.db.name, another(bench.db, tmp_path))
    with (
        connected(other, way) as hands,
        pytest.raises(ValueError, match=r"got one to another: .*another") as refused,
    ):
        getattr(bench.hand, what)(hands.connection)
    assert "secret" not in str(refused.value)


def test_a_copy_of_the_database_is_refused_though_its_identity_is_the_same(
    bench: Bench, tmp_path: Path
) -> None:
    other = Database(bench.db.name, another(bench.db, tmp_path))
    ours = bench.db.ask("SELECT identity FROM turnwise_schema")
    theirs = other.ask("SELECT identity FROM turnwise_schema")
    other.ask(f"UPDATE turnwise_schema SET identity = '{ours}'")
    try:
        with connected(other) as hands, pytest.raises(ValueError, match="got one to another"):
            bench.hand.complete(hands.connection)
    finally:
        other.ask(f"UPDATE turnwise_schema SET identity = '{theirs}'")


def test_a_file_by_a_link_is_the_same_file(tmp_path: Path) -> None:
    bench = Bench(database("sqlite", tmp_path))
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    linked = Database("sqlite", f"sqlite:///{tmp_path / 'link' / 'job.db'}")
    with connected(linked) as hands:
        bench.hand.complete(hands.connection)
        hands.commit()
    assert bench.gate.served == (KEY,)
    bench.close()


def test_a_database_without_tables_of_turnwise_is_refused(tmp_path: Path) -> None:
    bench = Bench(database("sqlite", tmp_path))
    with (
        closing(sqlite3.connect(":memory:")) as one,
        pytest.raises(ValueError, match="turnwise's tables cannot be read: no such table"),
    ):
        bench.hand.complete(one)
    bench.close()


def test_another_kind_of_database_is_refused(tmp_path: Path) -> None:
    bench = Bench(database("postgresql", tmp_path))
    with (
        closing(sqlite3.connect(":memory:")) as one,
        pytest.raises(ValueError, match="got one to sqlite"),
    ):
        bench.hand.complete(one)
    bench.close()


def test_a_storage_in_memory_has_no_other_connection(tmp_path: Path) -> None:
    bench = Bench(Database("sqlite", "sqlite://"))
    with (
        closing(sqlite3.connect(":memory:")) as one,
        pytest.raises(ValueError, match="turnwise's tables cannot be read"),
    ):
        bench.hand.complete(one)
    with connected(database("sqlite", tmp_path)) as hands:
        SqlStorage(f"sqlite:///{tmp_path / 'job.db'}").close()
        with pytest.raises(ValueError, match="got one to another"):
            bench.hand.complete(hands.connection)
    bench.close()


def test_a_savepoint_is_refused(bench: Bench) -> None:
    with (
        connected(bench.db) as hands,
        hands.connection.begin_nested(),
        pytest.raises(ValueError, match="connection must be in no savepoint"),
    ):
        bench.hand.complete(hands.connection)


def test_a_job_does_not_wait_for_who_waits_for_its_own_lock(tmp_path: Path) -> None:
    bench = Bench(database("sqlite", tmp_path))
    row = Entry("row", KEY, "execution", "{}")
    waiting = threading.Thread(target=bench.storage.append, args=(bench.group, SERVICE, [row]))
    with connected(bench.db) as hands:
        hands.write(bench.effect)
        waiting.start()  # it has the storage's connection, and waits until the job has committed
        work = bench.storage._work._lock
        eventually(work.locked, "it waits")
        began = time.monotonic()
        bench.hand.complete(hands.connection)
        assert time.monotonic() - began < 2
        assert work.locked()
        hands.commit()
    waiting.join()
    assert bench.effects == 1
    bench.close()


def test_what_is_no_connection_is_refused_with_what_is_one(tmp_path: Path) -> None:
    bench = Bench(database("postgresql", tmp_path))
    complete = bench.hand.complete
    with pytest.raises(TypeError, match=r"connection must be an SQLAlchemy Connection .* got None"):
        complete(None)
    with pytest.raises(TypeError, match="hand over a connection of the engine"):
        complete(bench.db.engine)

    async def job(connection: AsyncConnection | AsyncSession) -> None:
        with pytest.raises(TypeError, match=r"await connection.run_sync\(turn.complete\)"):
            complete(connection)

    asynchronously(bench.db, job, session=False)
    asynchronously(bench.db, job, session=True)
    bench.close()


def test_a_storage_that_is_no_database_is_refused() -> None:
    bench = Bench(Database("sqlite", "sqlite://"))
    of_memory = partial(type(bench.hand).complete)
    hand = bench.another_hand("run")
    object.__setattr__(hand, "storage", MemoryStorage())
    takes = "take SQLite, PostgreSQL or MariaDB"
    with closing(sqlite3.connect(":memory:")) as one, pytest.raises(ValueError, match=takes):
        of_memory(hand, one)
    bench.close()


def test_the_url_of_the_tests_has_a_driver() -> None:
    assert sqlalchemy_url("postgresql://x").drivername == "postgresql+psycopg"
