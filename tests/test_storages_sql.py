"""The SQL storage on SQLite: what can be wrong with a file, and what a user is told."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import pytest
import sqlalchemy as sa

from turnwise.conformance import START, Desk, ManualClock
from turnwise.errors import SchemaError, StorageError
from turnwise.own_process import OwnProcess
from turnwise.storages import Beat, Entry, Kind, Offer, Storage, Swapped
from turnwise.storages.sql import SqlStorage, schema_statements, sqlite, upgrade
from turnwise.storages.sql.address import Address
from turnwise.storages.sql.connect import Answer, Failure, Line, Outcome, Session
from turnwise.storages.sql.sqlite import SqliteSession
from turnwise.storages.sql.statements import Statement, Statements, Value

WRITES: dict[str, Callable[[Desk], object]] = {
    "heartbeat": lambda d: d.beat(),
    "leave": lambda d: d.leave(),
    "offer": lambda d: d.offer(),
    "withdraw": lambda d: d.storage.withdraw(d.group, "a", "boot", d.service),
    "mark": lambda d: d.storage.mark(d.group, "a", drained=True),
    "swap": lambda d: d.swap(None, d.record(), kind=Kind.PLAN),
    "advance": lambda d: d.storage.advance(d.group),
    "append": lambda d: d.append(Entry("1", START, "turn", "{}")),
    "purge_runners": lambda d: d.storage.purge_runners(d.group, before=START),
    "forget_service": lambda d: d.storage.forget_service(d.group, "another"),
    "forget_runner": lambda d: d.storage.forget_runner(d.group, "another"),
}
READS: dict[str, Callable[[Desk], object]] = {
    "read": lambda d: d.read(),
    "stable": lambda d: d.stable(),
    "history": lambda d: d.history(),
    "purge": lambda d: d.storage.purge(d.group, d.service, before=0, keep=1000),
    "runners": lambda d: d.runners(),
    "offers": lambda d: d.offers(),
    "services": lambda d: d.storage.services(d.group),
    "groups": lambda d: d.storage.groups(),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "turns.db"


@contextmanager
def desk_on(path: Path) -> Iterator[Desk]:
    clock = ManualClock()
    with closing(SqlStorage(f"sqlite:///{path}", clock=clock)) as storage:
        yield Desk(storage, clock)


def sql(path: Path, *statements: str) -> None:
    """Do something to a file behind the storage's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for statement in statements:
            other.executescript(statement)


def refusal(url: str, *, create_tables: bool = True) -> str:
    """The one line that a storage that cannot be opened says."""
    with pytest.raises(StorageError) as caught:
        SqlStorage(url, create_tables=create_tables)
    message = str(caught.value)
    assert message.startswith((f"{url}: ", f"{url} ")), message
    assert "\n" not in message
    return message


def session_of(storage: Storage) -> SqliteSession:
    """The connection that a storage works on."""
    assert isinstance(storage, SqlStorage)
    session = storage._work.session()
    assert isinstance(session, SqliteSession)
    return session


# Opening ------------------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_text("minutes of the meeting\n" * 100)
    assert "file is not a database" in refusal(f"sqlite:///{path}")
    assert path.read_text() == "minutes of the meeting\n" * 100


@pytest.mark.parametrize("below", ["missing/turns.db", "a file/turns.db", "."])
def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "a file").touch()
    assert "does it exist, in a folder that may be written to?" in refusal(
        f"sqlite:///{tmp_path / below}"
    )


def test_a_folder_that_may_not_be_written_to_is_refused() -> None:
    refusal("sqlite:////proc/turns.db")


def test_a_file_that_may_not_be_written_to_is_refused_where_a_runner_opens_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SqlStorage(f"sqlite:///{path}").close()
    # Whom the tests run as may be allowed everything.
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    assert "this file may not be written to" in refusal(f"sqlite:///{path}")
    SqlStorage(f"sqlite:///{path}", create_tables=False).close()


def test_a_file_with_a_hard_link_is_refused_by_either_name(path: Path) -> None:
    SqlStorage(f"sqlite:///{path}").close()
    other = path.with_name("other.db")
    other.hardlink_to(path)
    for name in (path, other):
        assert "a hard link reaches this file by another path" in refusal(f"sqlite:///{name}")
        assert "mount the folder" in refusal(f"sqlite:///{name}", create_tables=False)
    other.unlink()
    SqlStorage(f"sqlite:///{path}").close()


def test_a_file_that_is_mounted_alone_is_refused(path: Path) -> None:
    SqlStorage(f"sqlite:///{path}").close()
    alone = path.with_name("alone, with a space.db")
    alone.touch()
    # In a namespace of its own, so that the mount goes with the process.
    code = f"""
import subprocess, sys
from turnwise.storages.sql import SqlStorage
subprocess.run(["mount", "--bind", {str(path)!r}, {str(alone)!r}], check=True)
try:
    SqlStorage("sqlite:///{alone}")
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [shutil.which("unshare") or "unshare", "--mount", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    assert done.stdout.startswith("SchemaError ")
    assert "a mount of this file alone reaches this file by another path" in done.stdout
    assert "mount the folder" in done.stdout


def test_a_symbolic_link_is_no_second_path(path: Path) -> None:
    with desk_on(path) as desk:
        desk.beat("a")
    link = path.with_name("link.db")
    link.symlink_to(path)
    with desk_on(path) as desk, desk_on(link) as by_link:
        desk.beat("b")
        assert [row.runner_id for row in by_link.runners()] == ["a", "b"]


def test_without_create_tables_a_missing_file_is_an_error_and_stays_missing(path: Path) -> None:
    assert "does it exist" in refusal(f"sqlite:///{path}", create_tables=False)
    assert list(path.parent.iterdir()) == []


def test_without_create_tables_an_empty_database_is_an_error_and_stays_empty(path: Path) -> None:
    sql(path, "CREATE TABLE of_somebody_else (x)")
    before = path.read_bytes()
    assert "holds no tables of turnwise" in refusal(f"sqlite:///{path}", create_tables=False)
    assert path.read_bytes() == before  # not even its journal mode has changed


def test_tables_made_by_hand_from_the_printed_statements_are_used_as_they_are(path: Path) -> None:
    sql(path, schema_statements("sqlite"))
    with closing(SqlStorage(f"sqlite:///{path}", create_tables=False)) as storage:
        assert storage.advance("g") == 1
        [(mode,)] = session_of(storage).raw.execute("PRAGMA journal_mode").fetchall()
        assert mode == "wal"


@pytest.mark.parametrize("name", ["with space.db", "#1.db", "名前.db", "a'b\".db", "50%.db"])
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    with desk_on(tmp_path / name) as desk:
        desk.beat("a")
    assert (tmp_path / name).exists()


def test_a_relative_path_is_beside_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    SqlStorage("sqlite:///here.db").close()
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
def test_a_database_in_memory_is_fresh(url: str) -> None:
    with closing(SqlStorage(url)) as one, closing(SqlStorage(url)) as two:
        assert [one.advance("g"), one.advance("g"), two.advance("g")] == [1, 2, 1]


def test_an_engine_of_a_file_names_that_file(path: Path) -> None:
    with closing(SqlStorage(engine=sa.create_engine(f"sqlite:///{path}"))) as storage:
        assert storage.advance("g") == 1
    with desk_on(path) as desk:
        assert desk.beside(group="g").revision() == 1
    with pytest.raises(ValueError, match="an engine in memory shares nothing"):
        SqlStorage(engine=sa.create_engine("sqlite://"))
    with pytest.raises(TypeError, match="needs a url or an engine"):
        SqlStorage()


# What the promises rest on ------------------------------------------------------------------


def test_tables_of_turnwise_0_1_are_refused_by_name(path: Path) -> None:
    sql(path, "CREATE TABLE turnwise_executions (service, run_id)")
    assert "tables of turnwise 0.1 (turnwise_executions)" in refusal(f"sqlite:///{path}")
    sql(path, "DROP TABLE turnwise_executions; CREATE TABLE turnwise_runners (service, runner_id)")
    assert "tables of turnwise 0.1 (turnwise_runners)" in refusal(f"sqlite:///{path}")
    SqlStorage(f"sqlite:///{path}?table_prefix=new_").close()


DRIFT = {
    "DROP TABLE turnwise_drained": "no table turnwise_drained",
    "ALTER TABLE turnwise_records DROP COLUMN body": "the table turnwise_records lacks body",
    "ALTER TABLE turnwise_runners RENAME beat_count TO n": "turnwise_runners lacks beat_count",
    """CREATE TABLE kept AS SELECT * FROM turnwise_records; DROP TABLE turnwise_records;
    ALTER TABLE kept RENAME TO turnwise_records""": (
        "the table turnwise_records lacks its primary key (group_name, service, kind)"
    ),
    """CREATE TABLE kept AS SELECT * FROM turnwise_history; DROP TABLE turnwise_history;
    ALTER TABLE kept RENAME TO turnwise_history;
    CREATE UNIQUE INDEX too_little ON turnwise_history (group_name, service, id) WHERE id > ''
    """: "the table turnwise_history lacks its primary key (group_name, service, id)",
    "UPDATE turnwise_schema SET version = 2": "version 2, not 1: a newer turnwise has made them",
    "UPDATE turnwise_schema SET version = 0": "see `turnwise schema --upgrade`",
    "DELETE FROM turnwise_schema": "turnwise_schema lacks its row",
    "CREATE UNIQUE INDEX loose ON turnwise_records (group_name COLLATE NOCASE, service, kind)": (
        "turnwise_records compares group_name by a collation"
    ),
    "DROP TABLE turnwise_drained; CREATE TABLE turnwise_drained (group_name TEXT NOT NULL,"
    " runner_id TEXT COLLATE RTRIM NOT NULL, PRIMARY KEY (group_name, runner_id))": (
        "turnwise_drained compares runner_id by a collation"
    ),
}


@pytest.mark.parametrize("drift", DRIFT)
def test_what_is_missing_in_the_tables_is_refused_by_name(path: Path, drift: str) -> None:
    SqlStorage(f"sqlite:///{path}").close()
    sql(path, drift)
    url = f"sqlite:///{path}"
    assert DRIFT[drift] in refusal(url, create_tables=False)
    with pytest.raises(SchemaError):
        SqlStorage(url, create_tables=False)


def test_tables_of_an_older_version_are_brought_to_this_one_whole_or_not_at_all(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SqlStorage(f"sqlite:///{path}").close()
    sql(path, "UPDATE turnwise_schema SET version = -1")
    statements = {-1: ["ALTER TABLE {prefix}drained ADD COLUMN reason TEXT"], 0: ["nonsense"]}
    monkeypatch.setattr("turnwise.storages.sql.schema.UPGRADES", statements)
    with pytest.raises(StorageError, match="syntax error"):
        upgrade(f"sqlite:///{path}")
    statements[0] = ["UPDATE {prefix}schema SET identity = 'moved'"]
    assert upgrade(f"sqlite:///{path}") == (-1, 1)
    assert upgrade(f"sqlite:///{path}") == (1, 1)
    SqlStorage(f"sqlite:///{path}").close()
    sql(path, "UPDATE turnwise_schema SET version = 7")
    with pytest.raises(SchemaError, match="version 7, not 1: a newer turnwise has made them"):
        upgrade(f"sqlite:///{path}")
    sql(path, "DROP TABLE turnwise_schema")
    with pytest.raises(StorageError, match="no such table: turnwise_schema"):
        upgrade(f"sqlite:///{path}")
    with pytest.raises(StorageError, match="does it exist"):
        upgrade(f"sqlite:///{path}.missing")


def test_a_unique_index_does_as_well_as_a_primary_key(path: Path) -> None:
    SqlStorage(f"sqlite:///{path}").close()
    sql(
        path,
        """CREATE TABLE kept AS SELECT * FROM turnwise_records; DROP TABLE turnwise_records;
        ALTER TABLE kept RENAME TO turnwise_records;
        CREATE UNIQUE INDEX its_key ON turnwise_records (kind, service, group_name)""",
    )
    SqlStorage(f"sqlite:///{path}", create_tables=False).close()


def test_every_set_of_tables_has_an_identity_of_its_own(tmp_path: Path) -> None:
    seen = set()
    for name in ("one.db", "two.db"):
        for _ in range(2):
            with desk_on(tmp_path / name) as desk:
                rows = session_of(desk.storage).raw.execute("SELECT identity FROM turnwise_schema")
                seen |= set(rows.fetchall())
    assert len(seen) == 2


# A database that fails while it is used -----------------------------------------------------


@pytest.mark.parametrize("operation", WRITES)
def test_a_locked_database_takes_no_write_and_says_so(
    path: Path, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.02)
    with desk_on(path) as desk, closing(sqlite3.connect(path, isolation_level=None)) as other:
        desk.join("a")
        before = desk.everything()
        other.execute("BEGIN IMMEDIATE")
        if operation == "swap":
            assert cast("Swapped", WRITES[operation](desk)).busy
        else:
            with pytest.raises(StorageError) as caught:
                WRITES[operation](desk)
            assert str(caught.value) == f"sqlite:///{path}: database is locked"
        for read in READS.values():
            read(desk)  # whoever only reads does not wait for writers
        assert desk.everything() == before
        other.execute("ROLLBACK")
        WRITES[operation](desk)


def test_a_lock_that_is_let_go_in_time_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with desk_on(path) as desk, closing(sqlite3.connect(path, isolation_level=None)) as other:
        before = desk.put(desk.record())
        other.execute("BEGIN IMMEDIATE")
        waits: list[float] = []

        def let_go_at_the_third_wait(seconds: float) -> None:
            waits.append(seconds)
            desk.clock.advance(1)
            if len(waits) == 3:
                other.execute("ROLLBACK")

        monkeypatch.setattr("turnwise.storages.sql.sqlite.time.sleep", let_go_at_the_third_wait)
        answer = desk.swap(before.version, desk.record())
        assert answer.done
        assert answer.now == START + 3, "the clock is read once the lock is there"
        assert len(waits) == 3


def test_a_swap_that_got_the_lock_too_late_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with desk_on(path) as desk, closing(sqlite3.connect(path, isolation_level=None)) as other:
        before = desk.put(desk.record())
        other.execute("BEGIN IMMEDIATE")

        def let_go(_: float) -> None:
            desk.clock.advance(1)
            other.execute("ROLLBACK")

        monkeypatch.setattr("turnwise.storages.sql.sqlite.time.sleep", let_go)
        assert not desk.swap(before.version, desk.record(), not_after=START).done
        assert desk.kept().gate == before


def test_an_operation_of_several_writes_is_kept_whole_or_not_at_all(path: Path) -> None:
    with desk_on(path) as desk:
        desk.join("a")
        before = desk.everything()
        sql(
            path,
            """CREATE TRIGGER no_counting BEFORE UPDATE ON turnwise_revisions
            BEGIN SELECT RAISE(ABORT, 'no'); END""",
        )
        for write in (partial(desk.offer, settings="new"), partial(WRITES["mark"], desk)):
            with pytest.raises(StorageError, match=r"no$"):
                write()
        assert desk.everything() == before


def test_a_database_that_may_only_be_read_can_be_read(path: Path) -> None:
    with desk_on(path) as desk:
        desk.join("a")
        session_of(desk.storage).raw.execute("PRAGMA query_only=ON")
        with pytest.raises(StorageError, match="attempt to write a readonly database"):
            desk.storage.advance(desk.group)
        assert len(desk.runners()) == 1


def test_a_full_disk_takes_no_record_and_loses_none(path: Path) -> None:
    with desk_on(path) as desk:
        session_of(desk.storage).raw.execute("PRAGMA max_page_count=40")
        done = 0
        with pytest.raises(StorageError) as caught:  # noqa: PT012 (whichever is the first)
            while done < 1000:
                desk.append(Entry(f"{done:04}", START + done, "turn", "x" * 1000))
                done += 1
        assert str(caught.value) == f"sqlite:///{path}: database or disk is full"
        assert done > 10
        assert len(desk.history()) == done


def test_every_operation_on_tables_that_are_gone_raises_a_storage_error(path: Path) -> None:
    with desk_on(path) as desk:
        for table in ("revisions", "runners", "offers", "drained", "records", "history"):
            sql(path, f"DROP TABLE turnwise_{table}")
        for operation in (READS | WRITES).values():
            with pytest.raises(StorageError, match=r"^sqlite:///.*: no such table: \w+$"):
                operation(desk)


def test_a_file_that_was_deleted_is_gone_for_those_who_have_it_open(path: Path) -> None:
    with desk_on(path) as desk:
        desk.beat()
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        for operation in (READS | WRITES).values():
            with pytest.raises(StorageError, match="does it exist"):
                operation(desk)
        assert list(path.parent.iterdir()) == [], "nobody makes it anew without its history"


def test_whoever_has_a_deleted_file_open_goes_on_in_its_successor(path: Path) -> None:
    with desk_on(path) as desk:
        desk.put(desk.record("forgotten"))
        assert isinstance(desk.storage, SqlStorage)
        with desk.storage._work.taken():
            for file in path.parent.glob(f"{path.name}*"):
                file.unlink()
            path.touch()
            # One process has no two of them open: what it has locked in them is one for both.
            assert "the file was deleted, or replaced by another" in refusal(f"sqlite:///{path}")
        with desk_on(path) as other:
            kept = other.put(other.record("kept"))
            assert desk.kept().gate == kept
            assert desk.beat().others == ()


def test_a_torn_file_is_said_to_be_one(path: Path) -> None:
    with desk_on(path) as desk:
        desk.beat()
    path.write_bytes(path.read_bytes()[:4096] + b"torn" * 20_000)
    refusal(f"sqlite:///{path}")


def test_text_and_numbers_that_cannot_be_kept_are_a_storage_error(path: Path) -> None:
    with desk_on(path) as desk:
        with pytest.raises(StorageError, match="surrogates not allowed"):
            desk.append(Entry("\udc00", START, "turn", "{}"))
        with pytest.raises(StorageError, match="too large"):
            desk.append(Entry("1", 2**63, "turn", "{}"))
        desk.beat()


def test_a_closed_storage_says_that_it_is_closed(path: Path) -> None:
    with desk_on(path) as desk:
        desk.storage.close()
        for operation in (READS | WRITES).values():
            with pytest.raises(StorageError, match=r"the storage is closed$"):
                operation(desk)
        desk.storage.close()


# How it is kept -----------------------------------------------------------------------------


def test_a_file_is_in_wal_mode_and_heartbeats_have_a_connection_of_their_own(path: Path) -> None:
    with desk_on(path) as desk:
        [(mode,)] = session_of(desk.storage).raw.execute("PRAGMA journal_mode").fetchall()
        assert mode == "wal"
        assert isinstance(desk.storage, SqlStorage)
        with desk.storage._work.taken(writes=False):
            desk.beat()  # somebody else uses the other one, for as long as they like


def test_all_waits_for_the_disk_but_heartbeats_without_a_run(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[bool] = []
    end = SqliteSession.end

    def note(self: SqliteSession, *, keep: bool) -> None:
        waited.append(self.raw.execute("PRAGMA synchronous").fetchone() == (2,))
        end(self, keep=keep)

    monkeypatch.setattr(SqliteSession, "end", note)
    with desk_on(path) as desk:
        for name, write in WRITES.items():
            waited.clear()
            write(desk)
            assert waited[-1] is (name != "heartbeat"), name
        desk.beat(runs=("run",))
        assert waited[-1]
        desk.beat()
        assert not waited[-1]


def test_who_is_heard_of_between_the_clock_and_the_rows_counts(path: Path) -> None:
    url = f"sqlite:///{path}"
    with closing(SqlStorage(url)) as reader, closing(SqlStorage(url)) as runner:
        runner.heartbeat("g", Beat("a", "boot", 1, 1_000_000))
        runner.offer("g", Offer("a", "boot", "s", "{}", 1_000_000))
        read_clock = reader._work._host_clock
        assert read_clock is not None

        def read_and_stop() -> int:
            now = read_clock()
            runner.heartbeat("g", Beat("a", "boot", 2, 1_000_000))
            return now

        reader._work._host_clock = read_and_stop
        found = reader.stable("g", "s", rotation=0, limit=None)
        assert found.now < runner.runners("g")[0].heard_at
        assert [who for who, _ in found.runners] == ["a"]


def test_who_is_heard_of_ahead_of_the_hosts_clock_does_not_count(path: Path) -> None:
    with closing(SqlStorage(f"sqlite:///{path}")) as storage:
        storage.heartbeat("g", Beat("a", "boot", 1, 1_000_000))
        storage.offer("g", Offer("a", "boot", "s", "{}", 1_000_000))
        sql(path, "UPDATE turnwise_runners SET heard_at = heard_at + 60000000")
        assert storage.stable("g", "s", rotation=0, limit=None).size == 0


def test_a_long_history_costs_no_operation_more_than_a_short_one(path: Path) -> None:
    """Counted in steps of SQLite's machine, of a history a hundred times as long."""
    with desk_on(path) as desk:
        desk.join("a")
        raw = session_of(desk.storage).raw
        operations = READS | WRITES
        operations["purge"] = lambda d: d.storage.purge(d.group, d.service, before=0, keep=10**6)
        operations["history"] = lambda d: (
            d.history(last=10),
            d.history(last=10, kinds=["rare", "turn"]),
            d.history(since=START - 5),
        )
        costs: list[dict[str, int]] = []
        for rows in (1_000, 100_000):
            raw.execute(
                """INSERT OR IGNORE INTO turnwise_history
                WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?)
                SELECT 'group', 'housekeeping', hex(n * 7919 % 1000003), ? - n,
                  CASE n WHEN 900 THEN 'rare' ELSE 'turn' END, '{}' FROM n""",
                (rows, START),
            )
            operations["purge"](desk)  # the first one counts
            costs.append({name: steps(raw, partial(do, desk)) for name, do in operations.items()})
        for name, (short, long) in {n: (costs[0][n], costs[1][n]) for n in operations}.items():
            assert long < 3 * short + 100, (name, short, long)


def steps(raw: sqlite3.Connection, operation: Callable[[], object]) -> int:
    """How many steps of SQLite's machine, in hundreds, an operation takes."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    raw.set_progress_handler(step, 10)
    operation()
    raw.set_progress_handler(None, 0)
    return count


def test_a_long_history_is_purged_in_portions_and_whole(path: Path) -> None:
    with desk_on(path) as desk:
        session_of(desk.storage).raw.execute(
            """INSERT INTO turnwise_history
            WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 4500)
            SELECT 'group', 'housekeeping', n, ? + n / 10, 'turn', '{}' FROM n""",
            (START,),
        )
        newest = [entry.id for entry in desk.history(last=7)]
        desk.storage.purge(desk.group, desk.service, before=0, keep=7)
        assert [entry.id for entry in desk.history()] == newest
        desk.storage.forget_service(desk.group, desk.service)
        assert desk.history() == ()


def test_a_full_history_is_purged_a_sixteenth_further_and_is_never_longer_than_it_may_be(
    path: Path,
) -> None:
    """It is not counted each time; and what others append meanwhile is noticed all the same."""
    with desk_on(path) as desk:
        raw = session_of(desk.storage).raw

        def purged(first: int, rows: int, *, spare: Sequence[str] = ()) -> int:
            """How many rows are left, once others have appended these, and it was purged."""
            raw.execute(
                """INSERT INTO turnwise_history
                WITH RECURSIVE n(n) AS (SELECT ? UNION ALL SELECT n + 1 FROM n WHERE n < ?)
                SELECT 'group', 'housekeeping', n, n, 'turn', '{}' FROM n""",
                (first, first + rows - 1),
            )
            desk.storage.purge(desk.group, desk.service, before=0, keep=16_000, spare=spare)
            [(left,)] = raw.execute("SELECT COUNT(*) FROM turnwise_history").fetchall()
            return int(left)

        assert purged(0, 14_000) == 14_000
        assert purged(20_000, 1_500) == 15_500
        assert purged(30_000, 900) == 15_000
        assert purged(40_000, 900) == 15_900
        assert purged(50_000, 99) == 15_999
        assert purged(60_000, 2) == 15_000
        assert purged(70_000, 500, spare=["turn"]) == 15_500
        newest = [int(entry.id) for entry in desk.history(last=3)]
        assert newest == [70_497, 70_498, 70_499]


def test_a_row_far_ahead_does_not_have_a_history_grow_for_ever(path: Path) -> None:
    """All that comes after it belongs before it, and is not seen to be new."""
    with desk_on(path) as desk:
        desk.append(Entry("ahead", START + 10**12, "turn", ""))
        left = 0
        for number in range(80):
            desk.append(*(Entry(f"{number}-{each}", START, "turn", "") for each in range(30)))
            desk.storage.purge(desk.group, desk.service, before=0, keep=1_500)
            left = max(left, len(desk.history()))
        assert 1_500 < left <= 1_500 + 30 * 64
        assert len(desk.history()) <= 1_500


# URLs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "kind", "driver_url"),
    [
        ("postgres://u:p@h/db", "postgresql", "postgresql+psycopg://u:p@h/db"),
        (
            "postgresql+asyncpg://u:p@h:1/db?ssl=require&prepared_statement_cache_size=0",
            "postgresql",
            "postgresql+psycopg://u:p@h:1/db?sslmode=require",
        ),
        (
            "postgresql+psycopg2://h/db?sslmode=require&connect_timeout=3&target_session_attrs=any",
            "postgresql",
            "postgresql+psycopg://h/db?connect_timeout=3&sslmode=require&target_session_attrs=any",
        ),
        ("mysql+aiomysql://u:p@h/db?charset=utf8mb4", "mysql", "mysql+pymysql://u:p@h/db"),
        ("mysql://h/db?unix_socket=/run/s", "mysql", "mysql+pymysql://h/db?unix_socket=%2Frun%2Fs"),
        ("mariadb+mysqlconnector://h/db", "mysql", "mysql+pymysql://h/db"),
        ("sqlite+aiosqlite:///turns.db", "sqlite", "sqlite+pysqlite:///turns.db"),
    ],
)
def test_a_url_for_another_driver_names_the_same_database(
    url: str, kind: str, driver_url: str
) -> None:
    address = Address.read(url)
    assert address.kind == kind
    assert set(re.split("[?&]", address.url.render_as_string(hide_password=False))) == set(
        re.split("[?&]", driver_url)
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://root:secret@host/db", "has the scheme 'ftp'; known are sqlite:"),
        ("sqlite:turns.db", "is no URL of a database"),
        ("sqlite://turns.db", "write sqlite:///relative/path.db"),
        ("sqlite://root:secret@host/turns.db", "sqlite:////absolute/path.db"),
        ("sqlite:///turns.db?mode=ro", "SQLite knows no 'mode' here, only table_prefix"),
        ("sqlite:///turns.db?schema=x", "SQLite has no schema"),
        ("sqlite:///turns.db?table_prefix=1x", "table_prefix must be 1 to 40 letters"),
        ("mysql://root:secret@h/db?charset=a&charset=b", "charset stands in it 2 times"),
        ("mysql://root:secret@h/db?hello=1", "'hello'"),
        ("mysql://root:secret@h/db?connect_timeout=soon", "'soon'"),
        ("mysql://root:%D9%A3secret@h/db", "its driver cannot encode it"),
        ("postgresql://root:secret@h/db?hello=1", 'invalid connection option "hello"'),
        ("postgresql://root:secret@/db?host=a&host=b:2&port=3", "multihost"),
        ("postgresql://root:se#cret@h/db", "one @ may stand in it"),
    ],
)
def test_a_url_that_names_no_database_is_refused_in_one_line_without_its_password(
    url: str, said: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        SqlStorage(url)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


# What becomes of what fails -----------------------------------------------------------------


class Scripted(Session):
    """A session that fails as it is told to, and then answers."""

    raw = None

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes, self.said = list(outcomes), []  # type: ignore[var-annotated]

    def connect(self) -> Session:
        self.said.append("connect")
        return self

    def execute(self, statement: Statement, values: object) -> Answer:
        del statement, values
        self.said.append("execute")
        if self.outcomes:
            raise Failure("sesame went wrong\nsecond line", self.outcomes.pop(0))
        return Answer([(1,)])

    def is_usable(self) -> bool:
        return True

    def cancel(self) -> None:
        self.said.append("cancel")

    def close(self) -> None:
        self.said.append("close")


SECRET = "sesame"  # noqa: S105 (it opens nothing)
AGAIN = ["connect", "execute", "close", "connect", "execute"]


@pytest.mark.parametrize(
    ("text", "outcomes", "said"),
    [
        ("UPDATE x", [], ["connect", "execute"]),
        ("UPDATE x", [Outcome.UNDONE] * 9, ["connect", *["execute"] * 10]),
        ("UPDATE x", [Outcome.WRONG_SERVER], AGAIN),
        ("SELECT x", [Outcome.LOST], AGAIN),
    ],
)
def test_what_is_known_to_be_undone_is_done_again_and_what_only_reads(
    text: str, outcomes: list[Outcome], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnwise.storages.sql.connect.time.sleep", lambda _: None)
    session = Scripted(*outcomes)
    with line_on(session).taken() as line:
        assert line.execute(Statements({}, "?").get(text, {}), {}).rows == [(1,)]
    assert session.said == said


@pytest.mark.parametrize(
    ("text", "outcomes", "said"),
    [
        ("UPDATE x", [Outcome.LOST], ["connect", "execute", "close"]),
        ("UPDATE x", [Outcome.GIVEN_UP], ["connect", "execute", "cancel", "close"]),
        ("SELECT x", [Outcome.GIVEN_UP], ["connect", "execute", "cancel", "close"]),
        ("SELECT x", [Outcome.LOST] * 2, [*AGAIN, "close"]),
        ("UPDATE x", [Outcome.WRONG_SERVER] * 2, [*AGAIN, "close"]),
        ("UPDATE x", [Outcome.UNDONE] * 10, ["connect", *["execute"] * 10]),
        ("UPDATE x", [Outcome.REFUSED], ["connect", "execute"]),
    ],
)
def test_all_else_is_a_storage_error_of_one_line_without_the_password(
    text: str, outcomes: list[Outcome], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnwise.storages.sql.connect.time.sleep", lambda _: None)
    session = Scripted(*outcomes)
    with pytest.raises(StorageError) as caught, line_on(session).taken() as line:
        line.execute(Statements({}, "?").get(text, {}), {})
    assert str(caught.value) == "postgresql://me:***@host/database: *** went wrong"
    assert caught.value.__suppress_context__
    assert session.said == said


def test_an_interrupt_between_a_statement_and_its_answer_drops_the_connection() -> None:
    session = Scripted()
    line = line_on(session)
    with pytest.raises(KeyboardInterrupt), line.taken():
        raise KeyboardInterrupt
    assert session.said == ["connect", "cancel", "close"]
    with line.taken():
        pass


def line_on(session: Scripted) -> Line:
    address = Address.read(f"postgresql://me:{SECRET}@host/database")
    return Line(session.connect, address, OwnProcess("the storage"))


def test_a_list_of_values_is_padded_so_that_there_are_few_texts() -> None:
    statements = Statements({"t": "tables"}, "$")
    texts = {}
    for size in range(6):
        values: dict[str, Value] = {"x": tuple(range(size)), "y": 7}
        statement = statements.get("SELECT {t}\n WHERE x IN (:x) AND y = :y AND y < :y", values)
        texts[size] = statement.text
        assert statement.arguments(values)[-2:] == [7, 7]
    assert texts[1] == "SELECT tables WHERE x IN ($1) AND y = $2 AND y < $3"
    assert texts[0] == texts[1]
    assert len(set(texts.values())) == 4
    assert statement.arguments(values)[:8] == [0, 1, 2, 3, 4, 4, 4, 4]


def test_two_texts_never_share_the_name_of_a_prepared_statement() -> None:
    statements = Statements({}, "$")
    names = {statements.get(text, {}).name for text in ("SELECT 1", "SELECT 2", "SELECT  2")}
    assert len(names) == 2


def test_the_heartbeat_statement_changes_no_column_that_an_index_has() -> None:
    from turnwise.storages.sql.tables import tables  # noqa: PLC0415 (used once)

    runners = tables("sqlite", "t_", None).tables["t_runners"]
    indexed = {c.name for c in runners.primary_key} | {
        c.name for index in runners.indexes for c in index.columns
    }
    assert indexed.isdisjoint({"heard_at", "beat_count", "runs", "heartbeat_timeout", "left_at"})
