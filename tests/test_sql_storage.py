"""What can be wrong with a database, and what a user is told."""

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa

from turnwise import StorageError, open_backend
from turnwise.backends import Participant, _sqlite, without_password
from turnwise.backends.memory import MemoryBackend
from turnwise.backends.sql import SqlBackend, schema_statements
from turnwise.testing import SETTINGS, START, Desk, ManualClock
from turnwise.testing.desk import RUNNING

OPERATIONS: dict[str, Callable[[Desk], object]] = {
    "publish_settings": lambda d: d.backend.publish_settings(d.service, SETTINGS),
    "settings_of": lambda d: d.backend.settings_of(d.service),
    "services": lambda d: d.backend.services(),
    "heartbeat": lambda d: d.beat("a"),
    "look": lambda d: d.backend.look(d.service, Participant("a", "boot"), SETTINGS),
    "peek": lambda d: d.peek(),
    "leave": lambda d: d.backend.leave(d.service, Participant("a", "boot")),
    "finish": lambda d: d.finish("a run"),
    "runners": lambda d: d.backend.runners(d.service),
    "executions": lambda d: d.executions(),
    "execution": lambda d: d.backend.execution(d.service, "a run"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "turns.db"


@contextmanager
def desk_on(path: Path) -> Iterator[Desk]:
    clock = ManualClock()
    with closing(SqlBackend(f"sqlite:///{path}", clock=clock)) as backend:
        yield Desk(backend, clock)


def refusal(url: str, *, create_tables: bool = True) -> str:
    """The one line that a storage that cannot be opened says."""
    with pytest.raises(StorageError) as caught:
        SqlBackend(url, create_tables=create_tables)
    message = str(caught.value)
    assert message.startswith((f"{url}: ", f"{url} ")), message
    assert "\n" not in message
    return message


# Opening ------------------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_text("minutes of the meeting\n" * 100)
    assert "file is not a database" in refusal(f"sqlite:///{path}")
    assert path.read_text() == "minutes of the meeting\n" * 100


@pytest.mark.parametrize("below", ["missing/turns.db", "a file/turns.db", "."])
def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "a file").touch()
    message = refusal(f"sqlite:///{tmp_path / below}")
    assert "unable to open database file: does it exist, in a folder that may be written to?" in (
        message
    )


def test_a_folder_that_may_not_be_written_to_is_refused() -> None:
    refusal("sqlite:////proc/turns.db")


def test_a_file_that_may_not_be_written_to_is_refused_where_a_runner_opens_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{path}"
    open_backend(url).close()
    # Whom the tests run as may be allowed everything.
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    assert "this file may not be written to" in refusal(url)
    open_backend(url, create_tables=False).close()


def test_without_create_tables_a_missing_file_is_an_error_and_stays_missing(path: Path) -> None:
    assert "does it exist" in refusal(f"sqlite:///{path}", create_tables=False)
    assert list(path.parent.iterdir()) == []


def test_without_create_tables_an_empty_database_is_an_error_and_stays_empty(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE of_somebody_else (x)")
    before = path.read_bytes()
    assert "holds no tables of turnwise" in refusal(f"sqlite:///{path}", create_tables=False)
    assert path.read_bytes() == before  # not even its journal mode has changed


def test_without_create_tables_what_is_there_is_used(path: Path) -> None:
    with desk_on(path) as desk:
        desk.admit("a")
    with closing(SqlBackend(f"sqlite:///{path}", create_tables=False)) as backend:
        assert len(backend.executions(Desk.service)) == 1


@pytest.mark.parametrize("name", ["with space.db", "#1.db", "名前.db", "a'b\".db"])
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    with desk_on(tmp_path / name) as desk:
        desk.beat("a")
    assert (tmp_path / name).exists()


def test_a_relative_path_is_beside_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    open_backend("sqlite:///here.db").close()
    assert (tmp_path / "here.db").exists()


def test_a_relative_path_in_a_folder_that_is_gone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert "does it exist, in a folder that may be written to?" in refusal("sqlite:///turns.db")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///"])
def test_a_database_in_memory_is_fresh_and_shared_by_threads(url: str) -> None:
    with closing(SqlBackend(url)) as one, closing(SqlBackend(url)) as two:
        assert Desk(one, ManualClock()).admit("a")[1].fencing_token == 1
        assert Desk(two, ManualClock()).admit("a")[1].fencing_token == 1


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "is named without a scheme; known are memory:, sqlite:, postgresql:"),
        ("turns.db", "is named without a scheme"),
        ("ftp://root:secret@host/db", "has the scheme 'ftp'"),
        ("postgresql+other://root:secret@host/db", "no driver 'postgresql+other'"),
        ("SQLITE:///x.db", "has the scheme 'SQLITE'"),
        ("memory:secret-name", "in memory has a name"),
        ("sqlite:turns.db", "is no URL of a database"),
        ("sqlite://turns.db", "write sqlite:///relative/path.db"),
        ("sqlite://root:secret@host/turns.db", "sqlite:////absolute/path.db"),
        ("sqlite:///turns.db?mode=ro", "SQLite knows no 'mode' here, only table_prefix"),
        ("sqlite://[/turns.db", "is no URL of a"),
        ("sqlite://host:port/turns.db", "is no URL of a"),
    ],
)
def test_a_url_that_names_no_storage_is_refused_in_one_line_without_its_password(
    url: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        open_backend(url)
    assert "\n" not in str(caught.value)
    assert "root:secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///turns.db", "sqlite:///turns.db"),
        ("sqlite:///a:b@c.db", "sqlite:///a:b@c.db"),
        ("postgresql://root@host/db", "postgresql://root@host/db"),
        ("postgresql://root:secret@host:5432/db?x=1", "postgresql://root:***@host:5432/db?x=1"),
        ("mysql+pymysql://root:se#cr/e@t@host/db", "mysql+pymysql://root:***@host/db"),
        ("redis://:secret@host/0", "redis://:***@host/0"),
        ("postgresql://host/db?user=u&password=secret", "postgresql://host/db?user=u&password=***"),
        ("redis://host/0?PASSWD=secret&db=1", "redis://host/0?PASSWD=***&db=1"),
        ("no url at all", "no url at all"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_open_backend_opens_what_the_scheme_says(path: Path) -> None:
    for url in ("memory:", "memory://"):
        assert isinstance(open_backend(url), MemoryBackend)
    backend = open_backend(f"sqlite:///{path}")
    assert repr(backend) == f"SqlBackend('sqlite:///{path}')"
    backend.close()
    with pytest.raises(StorageError):
        open_backend(f"sqlite:///{path}.not", create_tables=False)


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["sqlalchemy"] = None
from turnwise import MissingExtraError, open_backend
open_backend("memory:")
try:
    open_backend("sqlite:///turns.db")
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "SQL storages need the extra 'sql': pip install 'turnwise[sql]'\n"


# A database that fails while it is used -----------------------------------------------------


def test_a_locked_database_admits_nobody_and_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sqlite, "BUSY_TIMEOUT_SECONDS", 0.02)
    with desk_on(path) as desk, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for operation in (lambda: desk.admit("a"), lambda: desk.beat("a"), lambda: desk.finish("")):
            with pytest.raises(StorageError) as caught:
                operation()
            assert str(caught.value) == f"sqlite:///{path}: database is locked"
        # Whoever only reads does not wait for writers.
        assert desk.executions() == ()
        assert desk.peek().size == 0
        other.execute("ROLLBACK")
        assert desk.admit("a")[1].fencing_token == 1


def test_a_lock_that_is_let_go_in_time_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with desk_on(path) as desk, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waits: list[float] = []

        def let_go_at_the_third_wait(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                other.execute("ROLLBACK")

        monkeypatch.setattr("turnwise.backends._sqlite.time.sleep", let_go_at_the_third_wait)
        assert desk.admit("a")[1].fencing_token == 1
        assert len(waits) == 3


def test_a_database_that_may_only_be_read_can_be_read_and_admits_nobody(path: Path) -> None:
    with desk_on(path) as desk:
        desk.admit("a", run_id="open run")
        pragma(desk, "query_only=ON")
        for write in (lambda: desk.finish("open run"), lambda: desk.beat("b")):
            with pytest.raises(StorageError, match="attempt to write a readonly database"):
                write()
        assert desk.record("open run").status is RUNNING
        assert desk.backend.runners(desk.service) == ()


def pragma(desk: Desk, statement: str) -> object:
    """Ask the one connection that a backend holds that served one thread."""
    assert isinstance(desk.backend, SqlBackend)
    with desk.backend._database.engine.connect() as connection:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, sqlite3.Connection)
        row = raw.execute(f"PRAGMA {statement}").fetchone()
        return row and row[0]


def test_a_full_disk_admits_nobody_and_loses_nothing(path: Path) -> None:
    with desk_on(path) as desk:
        desk.settings = replace(SETTINGS, retention_age=timedelta(days=1000))
        pragma(desk, "max_page_count=20")
        served: list[str] = []
        with pytest.raises(StorageError) as caught:  # noqa: PT012 (whichever write is the first)
            while len(served) < 1000:
                served.append(desk.serve_a_cycle())
        assert str(caught.value) == f"sqlite:///{path}: database or disk is full"
        assert len(served) > 10
    with desk_on(path) as again:
        kept = [record.run_id for record in again.executions()]
        assert kept[: len(served)] == served
        assert len(kept) - len(served) <= 1  # its end found no room
        again.clock.advance(timedelta(days=100))
        assert again.admit("b")[1].fencing_token == len(kept) + 1


def test_every_operation_on_a_database_that_is_gone_raises_a_storage_error(path: Path) -> None:
    with desk_on(path) as desk, closing(sqlite3.connect(path)) as other:
        for table in ("services", "runners", "executions"):
            other.execute(f"DROP TABLE turnwise_{table}")
        other.commit()
        for operation in OPERATIONS.values():
            with pytest.raises(StorageError, match=r"^sqlite:///.*: no such table: \w+$"):
                operation(desk)
        with pytest.raises(StorageError, match="no such table"):
            desk.admit("a")


def test_a_file_that_was_deleted_is_gone_for_those_who_have_it_open(path: Path) -> None:
    with desk_on(path) as desk:
        desk.admit("a")
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        with pytest.raises(StorageError, match="the file was deleted, or replaced by another"):
            desk.executions()
        for operation in (desk.executions, lambda: desk.admit("b"), lambda: desk.finish("x")):
            with pytest.raises(StorageError, match="does it exist"):
                operation()
        assert list(path.parent.iterdir()) == [], "nobody makes it anew without its history"


def test_whoever_has_a_deleted_file_open_goes_on_in_its_successor(path: Path) -> None:
    with desk_on(path) as desk:
        desk.admit("a", run_id="forgotten")
        assert isinstance(desk.backend, SqlBackend)
        with desk.backend._database.connection(atomic=False):
            for file in path.parent.glob(f"{path.name}*"):
                file.unlink()
            path.touch()
            # One process has no two of them open: what it has locked in them is one for both.
            assert "the file was deleted, or replaced by another" in refusal(f"sqlite:///{path}")
        with desk_on(path) as other:
            assert other.admit("b", run_id="open")[1].fencing_token == 1
            assert desk.admit("a")[1].refusal == "prior_running:open"
            assert not desk.beat("a", run_id="forgotten")
        path.rename(path.with_suffix(".away"))
        path.touch()  # somebody else's, and the log beside it is not its own
        for log in ("-wal", "-shm"):
            path.with_name(path.name + log).unlink(missing_ok=True)
        with pytest.raises(StorageError, match="no such table"):
            desk.executions()


def test_a_torn_file_admits_nobody_and_says_so(path: Path) -> None:
    with desk_on(path) as desk:
        desk.admit("a")
    path.write_bytes(path.read_bytes()[:4096] + b"torn" * 20_000)
    with desk_on(path) as desk:
        for operation in (desk.executions, lambda: desk.admit("b"), lambda: desk.finish("x")):
            with pytest.raises(StorageError, match="database disk image is malformed"):
                operation()


def test_settings_of_another_version_count_as_unknown(path: Path) -> None:
    with desk_on(path) as desk, closing(sqlite3.connect(path)) as other:
        desk.backend.publish_settings(desk.service, SETTINGS)
        other.execute("""UPDATE turnwise_services SET settings = '{"knob of tomorrow": 1}'""")
        other.commit()
        assert desk.backend.settings_of(desk.service) is None
        assert desk.backend.services() == (desk.service,)
        assert desk.backend.publish_settings(desk.service, SETTINGS) is None
        assert desk.backend.settings_of(desk.service) == SETTINGS


# How it is kept -----------------------------------------------------------------------------


def test_a_file_is_in_wal_mode_and_waits_for_a_lock(path: Path) -> None:
    with desk_on(path) as desk:
        assert pragma(desk, "journal_mode") == "wal"
        assert pragma(desk, "busy_timeout") == 5000


def test_a_file_whose_tables_were_made_by_hand_is_in_wal_mode_too(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.executescript(schema_statements("sqlite://"))
    with closing(SqlBackend(f"sqlite:///{path}", create_tables=False)) as backend:
        assert pragma(Desk(backend, ManualClock()), "journal_mode") == "wal"


def test_all_but_heartbeats_and_later_looks_wait_for_the_disk(path: Path) -> None:
    with desk_on(path) as desk:
        who = Participant("a", "boot")
        waited: list[bool] = []
        assert isinstance(desk.backend, SqlBackend)

        @sa.event.listens_for(desk.backend._database.engine, "commit")
        def note(connection: sa.Connection) -> None:
            waited.append(connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2)

        def waits(operation: Callable[[], object]) -> bool:
            operation()
            return waited[-1]

        assert waits(lambda: desk.backend.publish_settings(desk.service, SETTINGS))
        assert waits(lambda: desk.backend.look(desk.service, who, SETTINGS))  # it freezes the set
        assert not waits(lambda: desk.backend.look(desk.service, who, SETTINGS))
        assert waits(lambda: desk.admit(run_id="run"))
        assert not waits(lambda: desk.beat("a", run_id="run"))
        assert waits(lambda: desk.finish("run"))
        assert waits(lambda: desk.backend.leave(desk.service, who))


def test_times_read_well_in_the_console_in_utc_to_the_microsecond(path: Path) -> None:
    with desk_on(path) as desk, closing(sqlite3.connect(path)) as console:
        desk.clock.step(timedelta(microseconds=1))
        desk.beat("a")
        desk.admit("a")
        at = "2026-03-01 12:00:00.000001"
        rows = console.execute("SELECT creation_time, last_heartbeat FROM turnwise_runners")
        assert rows.fetchall() == [(at, at)]
        rows = console.execute("SELECT start_time, cycle_start, status FROM turnwise_executions")
        assert rows.fetchall() == [(at, "2026-03-01 12:00:00.000000", "running")]


def test_an_instant_that_is_told_in_another_zone_is_kept_in_utc(path: Path) -> None:
    tokyo = timezone(timedelta(hours=9))
    with closing(SqlBackend(f"sqlite:///{path}", clock=lambda: START.astimezone(tokyo))) as backend:
        backend.heartbeat("s", Participant("a", "boot"), SETTINGS)
        [runner] = backend.runners("s")
    assert (runner.creation_time, runner.creation_time.tzinfo) == (START, UTC)


@pytest.mark.parametrize("storage", ["memory:", "sqlite://"])
def test_by_default_the_clock_is_the_hosts(storage: str) -> None:
    with closing(open_backend(storage)) as backend:
        before = datetime.now(UTC)
        now = backend.peek("s", SETTINGS).now
        assert before <= now <= datetime.now(UTC)


def test_every_connection_opens_the_file_that_the_first_one_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with closing(SqlBackend("sqlite:///turns.db")) as backend:
        backend.heartbeat("service", Participant("a", "boot"), SETTINGS)
        monkeypatch.chdir(tmp_path / "elsewhere")
        backend._database.engine.dispose()
        assert [record.runner_id for record in backend.runners("service")] == ["a"]
    assert not list((tmp_path / "elsewhere").iterdir())
