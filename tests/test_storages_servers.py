"""What servers add to the SQL storage: clocks, locks, roles, poolers, encodings, and silence."""

# ruff: noqa: S608 (what is put into a text is our own)

import gc
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pymysql
import pytest
import sqlalchemy as sa

import servers
from processes import eventually, turnwise_here
from turnwise.errors import SchemaError, StorageError
from turnwise.settings import Settings
from turnwise.storages import Beat, Entry, Kind, Offer, Owner, Record, redis
from turnwise.storages.opening import open_storage
from turnwise.storages.sql import SqlStorage, connect, runner, schema_statements
from turnwise.storages.sql.connect import Answer, Session
from turnwise.storages.sql.mysql import MysqlSession
from turnwise.storages.sql.postgresql import PostgresSession
from turnwise.storages.sql.statements import Statement

URLS: dict[str, Callable[[], str]] = {"postgresql": lambda: servers.postgres().url}
if servers.mariadb_is_here():
    URLS["mariadb"] = lambda: servers.mariadb().url
each_server = pytest.mark.parametrize("server", URLS)
needs_mariadb = pytest.mark.skipif("mariadb" not in URLS, reason=servers.WHY_NO_MARIADB)
needs_pgbouncer = pytest.mark.skipif(
    servers.pgbouncer_executable() is None, reason=servers.WHY_NO_PGBOUNCER
)

SECOND = 1_000_000
FOREVER = 2**60
OWNER = Owner("run", "a", "boot", 5 * SECOND)
NUMBERS = count(1)


@pytest.fixture
def group() -> str:
    return uuid4().hex


def with_query(url: str, query: str) -> str:
    return url + (query and ("&" if "?" in url else "?") + query)


@contextmanager
def opened(server: str, query: str = "") -> Iterator[SqlStorage]:
    with closing(SqlStorage(with_query(URLS[server](), query))) as storage:
        yield storage


@cache
def engine(url: str) -> sa.Engine:
    """Somebody else's connections to a server, as its administrator."""
    parts = sa.make_url(url)
    driver = "postgresql+psycopg" if parts.drivername == "postgresql" else "mysql+pymysql"
    return sa.create_engine(parts.set(drivername=driver), poolclass=sa.NullPool)


def told(server: str, *statements: str) -> None:
    """Tell a server something behind the storage's back."""
    with engine(URLS[server]()).connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in statements:
            connection.exec_driver_sql(statement)


def asked(server: str, question: str) -> int:
    """Ask a server behind the storage's back."""
    with engine(URLS[server]()).connect() as connection:
        return int(connection.exec_driver_sql(question).scalar_one())


def sessions(storage: SqlStorage) -> list[Session]:
    return [line.session() for line in (storage._work, storage._beats)]


def new_record(owner: Owner | None = None) -> Record:
    return Record(f"version {next(NUMBERS)}", "{}", owner)


def put(storage: SqlStorage, group: str, owner: Owner | None = None) -> Record:
    """The first record of a gate."""
    new = new_record(owner)
    assert storage.swap(group, "s", Kind.GATE, None, new).done
    return new


def host_now() -> int:
    return time.time_ns() // 1000


# The clock ----------------------------------------------------------------------------------

HELD_SECONDS = 0.3
WAITING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
    "mariadb": "SELECT variable_value FROM information_schema.global_status"
    " WHERE variable_name = 'innodb_row_lock_current_waits'",
}


HOLDS = {
    "changed": ("UPDATE turnwise_records SET body = 'x' WHERE group_name = '{}'", "commit"),
    "written": ("UPDATE turnwise_records SET body = body WHERE group_name = '{}'", "commit"),
    "locked": ("SELECT 1 FROM turnwise_records WHERE group_name = '{}' FOR UPDATE", "commit"),
    "undone": ("UPDATE turnwise_records SET body = 'x' WHERE group_name = '{}'", "rollback"),
}
"""What somebody does to a row, and how they end it."""
each_hold = pytest.mark.parametrize("hold", HOLDS)


@contextmanager
def held(server: str, group: str, hold: str = "changed") -> Iterator[Callable[[], None]]:
    """Somebody holds a gate's row; yields how to let it go."""
    statement, end = HOLDS[hold]
    with engine(URLS[server]()).connect() as connection:
        connection.exec_driver_sql(statement.format(group))
        yield getattr(connection, end)


@each_server
@each_hold
def test_a_swap_at_a_row_that_somebody_has_locked_is_told_busy(
    server: str, group: str, hold: str
) -> None:
    """A job may have it in a transaction of its own, for as long as that takes."""
    with opened(server) as storage:
        before = put(storage, group)
        with held(server, group, hold) as let_go:
            at = host_now()
            told_so = storage.swap(group, "s", Kind.GATE, before.version, new_record(), FOREVER)
            assert (told_so.done, told_so.busy) == (False, True)
            assert at <= told_so.now <= host_now() <= at + 3 * SECOND
            let_go()
        answer = storage.swap(group, "s", Kind.GATE, before.version, new_record(), FOREVER)
        assert (answer.done, answer.busy) == (True, False)


LOCKED = {
    "postgresql": ["LOCK TABLE turnwise_records, turnwise_runners IN ACCESS EXCLUSIVE MODE"],
    "mariadb": ["LOCK TABLES turnwise_records WRITE, turnwise_runners WRITE"],
}
LOCK_WAITS = {
    "postgresql": WAITING["postgresql"],
    "mariadb": "SELECT count(*) FROM information_schema.processlist"
    " WHERE state LIKE 'Waiting for table%%'",
}


@contextmanager
def locked_tables(server: str) -> Iterator[Callable[..., None]]:
    """Somebody has locked our tables; yields how to do something last, and let them go."""
    with engine(URLS[server]()).connect() as connection:
        for statement in LOCKED[server]:
            connection.exec_driver_sql(statement)

        def let_go(*last: str) -> None:
            for statement in last:
                connection.exec_driver_sql(statement)
            connection.commit()
            if server == "mariadb":
                connection.exec_driver_sql("UNLOCK TABLES")

        yield let_go


@each_server
def test_a_swap_reads_the_clock_once_it_gets_through(server: str, group: str) -> None:
    with opened(server) as storage, ThreadPoolExecutor() as pool:
        before = put(storage, group)
        with locked_tables(server) as let_go:
            swap = pool.submit(
                storage.swap, group, "s", Kind.GATE, before.version, new_record(), FOREVER
            )
            eventually(lambda: asked(server, LOCK_WAITS[server]), "the swap waits for the table")
            time.sleep(HELD_SECONDS)
            at = host_now()
            let_go()
        answer = swap.result()
        assert answer.done
        assert at <= answer.now <= host_now()


@each_server
def test_a_swap_that_got_through_too_late_is_refused(server: str, group: str) -> None:
    with opened(server) as storage, ThreadPoolExecutor() as pool:
        before = put(storage, group)
        with locked_tables(server) as let_go:
            not_after = host_now() + int(HELD_SECONDS / 2 * SECOND)
            swap = pool.submit(
                storage.swap, group, "s", Kind.GATE, before.version, new_record(), not_after
            )
            eventually(lambda: asked(server, LOCK_WAITS[server]), "the swap waits for the table")
            time.sleep(HELD_SECONDS)
            let_go()
        answer = swap.result()
        assert not answer.done
        assert answer.now > not_after
        gate = storage.read(group, ["s"]).services["s"].gate
        assert gate is not None
        assert gate.version == before.version


@each_server
def test_of_two_swaps_that_get_through_at_once_one_is_done(server: str, group: str) -> None:
    with opened(server) as one, opened(server) as two, ThreadPoolExecutor() as pool:
        before = put(one, group)
        with locked_tables(server) as let_go:
            swaps = [
                pool.submit(s.swap, group, "s", Kind.GATE, before.version, new_record())
                for s in (one, two)
            ]
            eventually(lambda: asked(server, LOCK_WAITS[server]) == 2, "both wait for the table")
            let_go()
        assert sorted(swap.result().done for swap in swaps) == [False, True]


@each_server
@pytest.mark.parametrize("operation", ["read", "stable", "heartbeat"])
def test_now_was_read_before_the_rows(server: str, group: str, operation: str) -> None:
    """A reader that is stopped between the two must not take the living for silent."""
    with opened(server) as storage, ThreadPoolExecutor() as pool:
        storage.advance(group)  # without a revision a read is another statement
        storage.heartbeat(group, Beat("a", "boot", 1, SECOND))
        operations: dict[str, Callable[[], int]] = {
            "read": lambda: storage.read(group, ["s"]).now,
            "stable": lambda: storage.stable(group, "s", rotation=0, limit=1).now,
            # Only the read after the write, which sees the same row.
            "heartbeat": lambda: read_after_write(storage, group),
        }
        operations[operation]()  # to prepare it is another statement, and waits as well
        with locked_tables(server) as let_go:
            reading = pool.submit(operations[operation])
            eventually(lambda: asked(server, LOCK_WAITS[server]), "the reader waits")
            at = host_now()
            time.sleep(0.05)
            let_go()
        assert reading.result() <= at


@each_server
def test_who_is_heard_of_between_the_clock_and_the_rows_counts(server: str, group: str) -> None:
    with opened(server) as storage, ThreadPoolExecutor() as pool:
        storage.heartbeat(group, Beat("a", "boot", 1, SECOND))
        storage.offer(group, Offer("a", "boot", "s", "{}", SECOND))
        storage.stable(group, "s", rotation=0, limit=1)
        with locked_tables(server) as let_go:
            reading = pool.submit(storage.stable, group, "s", rotation=0, limit=1)
            eventually(lambda: asked(server, LOCK_WAITS[server]), "the reader waits")
            heard_at = host_now()
            let_go(
                f"UPDATE turnwise_runners SET heard_at = {heard_at} WHERE group_name = '{group}'"
            )
        found = reading.result()
        assert found.now < heard_at  # so that it was seen, and after the clock was read
        assert [who for who, _ in found.runners] == ["a"]


def read_after_write(storage: SqlStorage, group: str) -> int:
    with storage._beats.taken() as line:
        pulse = storage._pulse(line, group, Beat("a", "boot", 1, SECOND), found=True)
    assert pulse is not None
    return pulse.now


@each_server
def test_the_clock_is_the_servers_in_any_time_zone(server: str, group: str) -> None:
    with opened(server) as storage:
        for session in sessions(storage):
            if isinstance(session, MysqlSession):
                session.ask("SET SESSION time_zone = '+05:45'")
            else:
                assert isinstance(session, PostgresSession)
                session.ask(b"SET TimeZone TO 'Asia/Kathmandu'")
        before = host_now()
        swapped = storage.swap(group, "s", Kind.GATE, None, new_record()).now
        heard = storage.heartbeat(group, Beat("a", "boot", 1, SECOND)).now
        [row] = storage.runners(group)
        assert before <= swapped <= row.heard_at <= heard <= host_now()


@pytest.mark.skipif("mariadb" not in URLS, reason=servers.WHY_NO_MARIADB)
def test_on_mariadb_no_summer_time_begins_or_ends(group: str) -> None:
    """Whatever the server's zone is, what goes on within a statement is told in UTC."""
    told("mariadb", "SET GLOBAL time_zone = '+05:45'")
    try:
        with opened("mariadb") as storage:
            for session in sessions(storage):
                assert isinstance(session, MysqlSession)
                [(zone, ahead)] = session.ask(
                    "SELECT @@session.time_zone, TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), SYSDATE())"
                ).rows
                assert zone == "+00:00"
                assert 0 <= ahead <= 1
            before = host_now()
            assert before <= storage.read(group, []).now <= host_now()
    finally:
        told("mariadb", "SET GLOBAL time_zone = 'SYSTEM'")


# The wire -----------------------------------------------------------------------------------


@contextmanager
def noted(storage: SqlStorage, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The statements that are sent."""
    texts: list[str] = []
    for kind in {type(session) for session in sessions(storage)}:
        execute = kind.execute

        def note(
            self: Session,
            statement: Statement,
            values: list[str | int | None],
            execute: Callable[..., Answer] = execute,
        ) -> Answer:
            texts.append(statement.text)
            return execute(self, statement, values)

        monkeypatch.setattr(kind, "execute", note)
    yield texts
    monkeypatch.undo()


@each_server
def test_an_operation_costs_the_statements_that_the_documentation_says(
    server: str, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [f"s{number}" for number in range(100)]
    beats = count(1)

    def beat(*runs: str) -> object:
        return storage.heartbeat(group, Beat("a", "boot", next(beats), SECOND, runs))

    with opened(server) as storage:
        beat()
        storage.offer(group, Offer("a", "boot", "s", "{}", SECOND))
        put(storage, group)
        gate = [storage.read(group, ["s"]).services["s"].gate]

        def swap() -> None:
            assert gate[-1] is not None
            gate.append(new_record(OWNER))
            assert storage.swap(group, "s", Kind.GATE, gate[-2].version, gate[-1]).done  # type: ignore[union-attr]

        operations: dict[str, tuple[Callable[[], object], int]] = {
            "heartbeat": (beat, 2),
            "heartbeat of a run": (lambda: beat("run"), 2),
            "leave": (lambda: storage.leave(group, "b", "boot"), 1),
            "read": (lambda: storage.read(group, ["s"]), 1),
            "read of a hundred": (lambda: storage.read(group, many), 1),
            "swap": (swap, 1),
            "stable": (lambda: storage.stable(group, "s", rotation=1, limit=3), 1),
            "append": (lambda: storage.append(group, "s", [Entry("1", 1, "turn", "")]), 1),
            "purge of nothing": (lambda: storage.purge(group, "s", before=0, keep=9), 2),
        }
        for name, (operation, statements) in operations.items():
            with noted(storage, monkeypatch) as texts:
                operation()
            assert len(texts) == statements, (name, texts)


def test_postgresql_waits_for_the_disk_but_for_heartbeats_without_a_run(
    group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened("postgresql") as storage:
        beats = count(1)

        def waits(operation: Callable[[], object]) -> bool:
            with noted(storage, monkeypatch) as texts:
                operation()
            for session in sessions(storage):  # what is set for one transaction ends with it
                assert isinstance(session, PostgresSession)
                assert session.ask(b"SHOW synchronous_commit").rows == [("on",)]
            return not any("synchronous_commit" in text for text in texts)

        def beat(*runs: str) -> bool:
            return waits(
                lambda: storage.heartbeat(group, Beat("a", "boot", next(beats), SECOND, runs))
            )

        beat()
        assert not beat()
        assert beat("run")
        assert waits(lambda: put(storage, group))
        assert waits(lambda: storage.leave(group, "a", "boot"))
        assert waits(lambda: storage.advance(group))
        assert waits(lambda: storage.append(group, "s", [Entry("1", 1, "turn", "")]))


def test_a_heartbeat_on_postgresql_touches_no_index(group: str) -> None:
    hot = "SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'turnwise_runners'"
    with opened("postgresql") as storage:
        storage.heartbeat(group, Beat("a", "boot", 1, SECOND))
        told("postgresql", "VACUUM turnwise_runners")
        before = asked("postgresql", hot)
        for number in range(2, 22):
            runs = ("run",) * (number % 2)
            storage.heartbeat(group, Beat("a", "boot", number, SECOND, runs))
        storage.leave(group, "a", "boot")
        storage._beats.close()  # the server counts at the end of a session, at the latest
        eventually(lambda: asked("postgresql", hot) - before == 21, "all of them were HOT")


@each_server
def test_what_stable_brings_does_not_grow_with_the_number_of_runners(
    server: str, group: str
) -> None:
    with opened(server) as storage:
        with storage._work.taken() as line:
            for number in range(300):
                who = Beat(f"r{number:03}", "boot", 1, SECOND)
                storage._said(line, runner._JOIN, group, who)
        for number in range(300):
            storage.offer(group, Offer(f"r{number:03}", "boot", "s", "{}", 3600 * SECOND))
        answer = storage._read(
            runner._STABLE, group=group, service="s", rotation=7, limit=3, among=("r299", "x")
        )
        assert len(answer.rows) == 4
        found = storage.stable(group, "s", rotation=7, limit=3, among=("r299", "x"))
        assert (found.size, found.alive) == (300, frozenset({"r299"}))


@contextmanager
def opened_until_it_is_counted(prefix: str) -> Iterator[SqlStorage]:
    """A storage on PostgreSQL; the server has counted what it read once its sessions are gone."""
    with opened("postgresql", f"table_prefix={prefix}") as storage:
        numbers = ", ".join(str(each.raw.info.backend_pid) for each in sessions(storage))
        yield storage
    there = f"SELECT count(*) FROM pg_stat_activity WHERE pid IN ({numbers})"
    eventually(lambda: asked("postgresql", there) == 0, "both sessions have ended")


@pytest.mark.parametrize(
    ("operation", "rows"), [("read", 1), ("heartbeat", 4), ("stable", 3 * 200)]
)
def test_postgresql_reads_the_rows_it_needs_alone_in_tables_that_it_has_not_analyzed(
    operation: str, rows: int, group: str
) -> None:
    prefix = f"f{uuid4().hex[:8]}_"
    read = f"""SELECT SUM(seq_tup_read + COALESCE(idx_tup_fetch, 0))
    FROM pg_stat_user_tables WHERE relname IN ('{prefix}runners', '{prefix}offers')"""
    with opened_until_it_is_counted(prefix) as storage:
        for number in range(200):
            storage.heartbeat(group, Beat(f"r{number}", "boot", 1, 3600 * SECOND))
            storage.offer(group, Offer(f"r{number}", "boot", "s", "{}", 3600 * SECOND))
        put(storage, group, Owner("run", "r7", "boot", SECOND))
    before = asked("postgresql", read)
    with opened_until_it_is_counted(prefix) as storage:
        for number in range(2, 12):
            if operation == "read":
                assert storage.read(group, ["s"]).services["s"].sight is not None
            elif operation == "heartbeat":
                beat = Beat("r7", "boot", number, 3600 * SECOND, ("run",))
                assert "s" in storage.heartbeat(group, beat).sights
            else:
                assert storage.stable(group, "s", rotation=0, limit=3).size == 200
    assert 0 < asked("postgresql", read) - before <= 10 * rows


# The tables ---------------------------------------------------------------------------------


@each_server
def test_tables_made_by_hand_from_the_printed_statements_are_used_as_they_are(server: str) -> None:
    url = with_query(URLS[server](), f"table_prefix=by_hand_{uuid4().hex[:8]}_")
    with pytest.raises(SchemaError, match="holds no tables of turnwise"):
        SqlStorage(url, create_tables=False)
    told(server, *filter(str.strip, schema_statements(url).split(";\n")))
    with closing(SqlStorage(url, create_tables=False)) as storage:
        assert storage.advance("g") == 1


# What a user may do ---------------------------------------------------------------------------

PAGE = Path(__file__).parents[1] / "docs" / "storages.md"


def as_the_page_grants(server: str, only: str | None = None) -> str:
    """The URL of a new user with the grants of the page, or with one kind of them.

    On PostgreSQL the statements are those of the page; MariaDB has one for each table.
    """
    page = PAGE.read_text("utf-8")
    found = re.search(r"```sql\n(CREATE ROLE turns LOGIN.*?)```", page, re.DOTALL)
    assert found is not None
    user, url = f"u{uuid4().hex[:8]}", sa.make_url(URLS[server]())
    grants = re.findall(r"GRANT (.+?)\s+ON (.+?)\s+TO turns;", found[1], re.DOTALL)
    assert sum(len(tables.split(",")) for _, tables in grants) == 7
    if server == "postgresql":
        text = re.sub(r"\bturns\b", user, found[1]).replace("...", "sesame")
        text = text if only is None else re.sub(r"(?<=GRANT ).+?(?= ON)", only, text)
        told(server, *filter(str.strip, text.split(";\n")))
    else:
        with servers.mariadb().as_root() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE USER {user} IDENTIFIED BY 'sesame'")
            for what, tables in grants:
                for table in tables.split(","):
                    cursor.execute(f"GRANT {only or what} ON turns.{table.strip()} TO {user}")
    return url.set(username=user, password="sesame").render_as_string(hide_password=False)  # noqa: S106 (nobody's)


def all_that_a_process_does(storage: SqlStorage, group: str) -> None:
    for _ in range(2):
        storage.heartbeat(group, Beat("a", "b", 1, SECOND))
    storage.heartbeat(group, Beat("a", "b", 2, SECOND, ("run",)))
    for settings in ("{}", "[]"):
        storage.offer(group, Offer("a", "b", "s", settings, SECOND))
    before = put(storage, group, Owner("run", "a", "b", SECOND))
    assert storage.swap(group, "s", Kind.GATE, before.version, new_record()).done
    assert storage.read(group, ["s"]).services["s"].gate is not None
    assert storage.stable(group, "s", rotation=0, limit=1).size == 1
    storage.append(group, "s", [Entry("1", 1, "completed", "{}")])
    for drained in (True, False):
        storage.mark(group, "a", drained=drained)
    assert storage.history(group, "s")
    assert storage.runners(group)
    assert storage.offers(group)
    assert storage.services(group)
    assert group in storage.groups()
    storage.withdraw(group, "a", "b", "s")
    storage.leave(group, "a", "b")
    storage.purge(group, "s", before=2, keep=0)
    storage.purge_runners(group, before=FOREVER)
    storage.forget_runner(group, "a")
    storage.forget_service(group, "s")


@each_server
def test_a_user_needs_no_more_grants_than_the_page_says(server: str, group: str) -> None:
    with opened(server):
        pass  # the tables are there
    with closing(SqlStorage(as_the_page_grants(server))) as storage:
        all_that_a_process_does(storage, group)


@each_server
def test_who_looks_needs_select_alone_and_can_change_nothing(server: str, group: str) -> None:
    with opened(server) as storage:
        storage.offer(group, Offer("a", "b", "s", Settings().to_json(), SECOND))
    url = as_the_page_grants(server, only="SELECT")
    for command in (["status"], ["history"], ["audit"], ["check"], ["explain"]):
        said = turnwise_here(*command, "--group", group, "--service", "s", "--storage", url)
        assert "denied" not in said.stderr, said.stderr
        assert said.stdout, said.stderr
    with closing(SqlStorage(url, create_tables=False)) as looks:
        for what in (put, lambda storage, group: storage.mark(group, "a", drained=True)):
            with pytest.raises(StorageError, match="denied"):
                what(looks, group)


@each_server
def test_storages_under_two_prefixes_do_not_see_each_other(server: str) -> None:
    mark = uuid4().hex[:8]
    with (
        opened(server, f"table_prefix=a{mark}_") as one,
        opened(server, f"table_prefix=b{mark}_") as two,
    ):
        assert [one.advance("g"), one.advance("g"), two.advance("g")] == [1, 2, 1]


def test_the_tables_may_be_in_a_schema_of_their_own() -> None:
    name = f"ops_{uuid4().hex[:8]}"
    told("postgresql", f"CREATE SCHEMA {name}")
    with opened("postgresql", f"schema={name}") as storage:
        assert storage.advance("g") == 1
    assert asked("postgresql", f"SELECT revision FROM {name}.turnwise_revisions") == 1
    with opened("postgresql", f"schema={name}") as storage:
        assert storage.advance("g") == 2


DRIFT = {
    "ALTER TABLE {}records DROP COLUMN body": "{}records lacks body",
    "DROP TABLE {}offers": "no table {}offers",
    "keys": "{}records lacks its primary key (group_name, service, kind)",
}
NO_KEY = {
    "postgresql": "ALTER TABLE {0}records DROP CONSTRAINT {0}records_pkey",
    "mariadb": "ALTER TABLE {}records DROP PRIMARY KEY",
}


@each_server
@pytest.mark.parametrize("drift", DRIFT)
def test_what_is_missing_in_the_tables_is_refused_by_name(server: str, drift: str) -> None:
    prefix = f"d{uuid4().hex[:8]}_"
    url = with_query(URLS[server](), f"table_prefix={prefix}")
    SqlStorage(url).close()
    told(server, (NO_KEY[server] if drift == "keys" else drift).format(prefix))
    with pytest.raises(SchemaError) as caught:
        SqlStorage(url, create_tables=False)
    assert DRIFT[drift].format(prefix) in str(caught.value)
    assert "\n" not in str(caught.value)


@needs_mariadb
def test_a_mariadb_that_takes_different_names_for_the_same_is_refused() -> None:
    prefix = f"d{uuid4().hex[:8]}_"
    url = with_query(URLS["mariadb"](), f"table_prefix={prefix}")
    SqlStorage(url).close()
    loose = "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
    told("mariadb", f"ALTER TABLE {prefix}drained {loose}")
    with pytest.raises(SchemaError, match=f"{prefix}drained compares group_name by a collation"):
        SqlStorage(url)


@each_server
def test_ten_that_make_the_tables_at_once_all_find_them(server: str) -> None:
    url = with_query(URLS[server](), f"table_prefix=t{uuid4().hex[:8]}_")
    with ThreadPoolExecutor(10) as pool:
        storages = list(pool.map(lambda _: SqlStorage(url), range(10)))
    revisions = [storage.advance("g") for storage in storages]
    assert revisions == list(range(1, 11))
    for storage in storages:
        storage.close()


# Encodings ----------------------------------------------------------------------------------

NAMES = ["größer", "名前", "🦔", "e\u0301"]


def in_database(encoding: str, *statements: str) -> str:
    """The URL of a new database in an encoding."""
    name = f"db_{uuid4().hex[:8]}"
    told(
        "postgresql",
        f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
        " TEMPLATE template0",
        *(statement.format(name) for statement in statements),
    )
    return (
        sa.make_url(URLS["postgresql"]()).set(database=name).render_as_string(hide_password=False)
    )


@pytest.mark.parametrize(
    "url",
    [
        lambda: in_database("SQL_ASCII"),
        lambda: in_database("UTF8", "ALTER DATABASE {} SET client_encoding TO 'LATIN1'"),
    ],
    ids=["SQL_ASCII", "a role of LATIN1"],
)
def test_any_name_is_kept_whatever_encoding_a_session_begins_with(url: Callable[[], str]) -> None:
    with closing(SqlStorage(url())) as storage:
        for name in NAMES:
            storage.heartbeat(name, Beat(name, name, 1, SECOND, (name,)))
            storage.append(name, name, [Entry(name, 1, name, name)])
            assert storage.history(name, name) == (Entry(name, 1, name, name),)
            assert [row.runner_id for row in storage.runners(name)] == [name]
        assert storage.groups() == tuple(sorted(NAMES))


def test_a_database_that_cannot_hold_every_name_is_refused_in_one_line() -> None:
    with pytest.raises(SchemaError, match="the database's encoding is LATIN1, which cannot hold"):
        SqlStorage(in_database("LATIN1"))


@each_server
def test_text_that_cannot_be_sent_is_a_storage_error(server: str, group: str) -> None:
    with opened(server) as storage:
        with pytest.raises(StorageError, match="half of a surrogate pair"):
            storage.advance("\udc00")
        with pytest.raises(StorageError):
            storage.append(group, "s", [Entry("1", 2**63, "turn", "")])
        assert storage.advance(group) == 1


def test_text_with_a_nul_is_a_storage_error_on_postgresql(group: str) -> None:
    with opened("postgresql") as storage, pytest.raises(StorageError, match="with a NUL"):
        storage.append(group, "s", [Entry("a\0b", 1, "turn", "")])


# What goes wrong ----------------------------------------------------------------------------

READ_ONLY = {
    "postgresql": b"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "mariadb": b"SET SESSION TRANSACTION READ ONLY",
}


@each_server
def test_a_session_that_may_no_longer_write_is_left_for_a_new_one_at_once(
    server: str, group: str
) -> None:
    with opened(server) as storage:
        before = put(storage, group)
        storage.heartbeat(group, Beat("a", "boot", 1, SECOND))
        old = sessions(storage)
        for session in old:
            if isinstance(session, MysqlSession):
                session.ask(READ_ONLY[server].decode())
            else:
                assert isinstance(session, PostgresSession)
                session.ask(READ_ONLY[server])
        assert storage.swap(group, "s", Kind.GATE, before.version, new_record()).done
        assert storage.heartbeat(group, Beat("a", "boot", 2, SECOND)).found
        assert all(now is not then for now, then in zip(sessions(storage), old, strict=True))
        assert [row.count for row in storage.runners(group)] == [2]


def test_a_postgresql_that_may_only_be_read_is_refused() -> None:
    url = in_database("UTF8")
    SqlStorage(url).close()
    name = sa.make_url(url).database
    told("postgresql", f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    for query in ("", "target_session_attrs=any", "target_session_attrs=prefer-standby"):
        with pytest.raises(StorageError, match=r"read-only|may only be read") as caught:
            SqlStorage(with_query(url, query))
        assert "\n" not in str(caught.value)


@contextmanager
def demoted_mariadb() -> Iterator[None]:
    """One that may only be read, which a user with all privileges, as ours is, may write to."""
    told("mariadb", "SET GLOBAL read_only = 1")
    try:
        yield
    finally:
        told("mariadb", "SET GLOBAL read_only = 0")


@needs_mariadb
def test_a_mariadb_that_may_only_be_read_is_refused() -> None:
    with demoted_mariadb(), pytest.raises(StorageError, match="this server is a replica"):
        SqlStorage(URLS["mariadb"]())


OF_A_RUNNER: dict[str, Callable[[SqlStorage, str, str], object]] = {
    "heartbeat": lambda storage, group, _: storage.heartbeat(group, Beat("a", "b", 2, SECOND)),
    "join": lambda storage, group, _: storage.heartbeat(group, Beat("new", "b", 1, SECOND)),
    "look": lambda storage, group, _: storage.read(group, ["s"]),
    "set": lambda storage, group, _: storage.stable(group, "s", rotation=0, limit=1),
    "swap": lambda storage, group, version: storage.swap(
        group, "s", Kind.GATE, version, new_record()
    ),
    "first swap": lambda storage, group, _: storage.swap(
        group, "other", Kind.GATE, None, new_record()
    ),
    "offer": lambda storage, group, _: storage.offer(group, Offer("a", "b", "s", "{}", SECOND)),
}


def rows_of(group: str) -> list[object]:
    """All that MariaDB keeps of a group, but for places that are empty."""
    questions = (
        ("runner_id, beat_count, heard_at", "runners", "1"),
        ("runner_id, offered_at", "offers", "1"),
        ("service, version", "records", "version <> ''"),
    )
    with engine(URLS["mariadb"]()).connect() as connection:
        return [
            connection.exec_driver_sql(
                f"SELECT {what} FROM turnwise_{table} WHERE group_name = %s AND {where}", (group,)
            ).all()
            for what, table, where in questions
        ]


@needs_mariadb
@pytest.mark.parametrize("operation", OF_A_RUNNER)
def test_a_user_with_all_privileges_leaves_a_mariadb_that_was_demoted_and_writes_nothing_there(
    operation: str, group: str
) -> None:
    with opened("mariadb") as storage:
        version = put(storage, group).version
        storage.heartbeat(group, Beat("a", "b", 1, SECOND))
        before = rows_of(group)
        with demoted_mariadb():
            with pytest.raises(StorageError, match="this server is a replica"):
                OF_A_RUNNER[operation](storage, group, version)
            assert rows_of(group) == before
        OF_A_RUNNER[operation](storage, group, version)


@needs_mariadb
def test_after_a_demotion_the_new_server_is_asked_at_once_and_gets_the_whole_heartbeat(
    group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened("mariadb") as storage:
        version = put(storage, group).version
        storage.heartbeat(group, Beat("a", "b", 1, SECOND))
        for line in (storage._work, storage._beats):

            def led_elsewhere(connect: Callable[[], Session] = line._connect) -> Session:
                told("mariadb", "SET GLOBAL read_only = 0")
                return connect()

            monkeypatch.setattr(line, "_connect", led_elsewhere)
        with demoted_mariadb():
            assert storage.heartbeat(group, Beat("a", "b", 2, SECOND)).found
            assert storage.runners(group)[0].count == 2
        with demoted_mariadb():
            assert storage.read(group, ["s"]).services["s"].gate is not None
        with demoted_mariadb():
            # Nothing was changed, and whoever looks again sees that it may be.
            assert not storage.swap(group, "s", Kind.GATE, version, new_record()).done
            assert storage.swap(group, "s", Kind.GATE, version, new_record()).done


@pytest.mark.parametrize("operation", sorted(set(OF_A_RUNNER) - {"look", "set"}))
def test_a_superuser_writes_nothing_to_a_postgresql_that_may_only_be_read(
    operation: str, group: str
) -> None:
    """Unlike MariaDB's users, those of PostgreSQL are all refused, and see it where they write."""
    url = in_database("UTF8")
    with closing(SqlStorage(url)) as storage:
        version = put(storage, group).version
        storage.heartbeat(group, Beat("a", "b", 1, SECOND))
        name = sa.make_url(url).database
        for session in sessions(storage):  # as a reload of the server's configuration does
            session.raw.execute("SET default_transaction_read_only = on")
        told("postgresql", f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        with pytest.raises(StorageError, match=r"read-only|may only be read"):
            OF_A_RUNNER[operation](storage, group, version)


@each_server
def test_a_connection_that_the_server_ended_meanwhile_is_noticed_before_it_is_used(
    server: str, group: str
) -> None:
    with opened(server) as storage:
        before = put(storage, group)
        for session in sessions(storage):
            if isinstance(session, MysqlSession):
                told(server, f"KILL {session.raw.thread_id()}")  # type: ignore[no-untyped-call]
            else:
                assert isinstance(session, PostgresSession)
                told(server, f"SELECT pg_terminate_backend({session.raw.info.backend_pid})")
        eventually(
            lambda: not any(line._session.is_usable() for line in (storage._work, storage._beats)),  # type: ignore[union-attr]
            "both have noticed",
        )
        assert storage.swap(group, "s", Kind.GATE, before.version, new_record()).done
        assert not storage.heartbeat(group, Beat("a", "boot", 1, SECOND)).found


CONNECTIONS = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'",
    "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE command <> 'Daemon'",
}


@each_server
def test_a_lock_on_our_tables_does_not_use_up_the_servers_connections(
    server: str, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "ANSWER_SECONDS", 0.3)
    with opened(server) as storage:
        before = put(storage, group)
        storage.heartbeat(group, Beat("a", "boot", 1, SECOND))
        with locked_tables(server) as let_go:
            usual = asked(server, CONNECTIONS[server])
            for number in range(4):
                with pytest.raises(StorageError, match=r"no answer within|timed out|timeout"):
                    storage.swap(group, "s", Kind.GATE, before.version, new_record())
                with pytest.raises(StorageError, match=r"no answer within|timed out|timeout"):
                    storage.heartbeat(group, Beat("a", "boot", 2 + number, SECOND))
            eventually(
                lambda: asked(server, CONNECTIONS[server]) <= usual, "what was given up has ended"
            )
            eventually(lambda: asked(server, LOCK_WAITS[server]) == 0, "nothing waits any more")
            let_go()
        # None of those swaps was done afterwards, when nobody waited for it any more.
        assert storage.swap(group, "s", Kind.GATE, before.version, new_record()).done
        assert storage.heartbeat(group, Beat("a", "boot", 9, SECOND)).found


@each_server
def test_heartbeats_go_on_while_other_work_waits_for_a_lock(server: str, group: str) -> None:
    with opened(server) as storage, ThreadPoolExecutor() as pool:
        put(storage, group)
        storage.heartbeat(group, Beat("a", "boot", 1, SECOND))
        with held(server, group) as let_go:
            waiting = pool.submit(storage.forget_service, group, "s")
            eventually(lambda: asked(server, WAITING[server]), "it waits for the row")
            for number in range(2, 12):
                assert storage.heartbeat(group, Beat("a", "boot", number, SECOND, ("x",))).found
            assert not waiting.done()
            let_go()
        waiting.result()


@contextmanager
def swallowing() -> Iterator[int]:
    """The port of a server that takes whatever comes, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in taken:
            connection.close()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_server_that_says_nothing_is_given_up(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(connect, "ANSWER_SECONDS", 0.3)
    with swallowing() as port, pytest.raises(StorageError) as caught:
        SqlStorage(f"{scheme}://u:sesame@127.0.0.1:{port}/db")
    assert "sesame" not in str(caught.value)
    assert "\n" not in str(caught.value)


@each_server
def test_a_server_that_refuses_a_password_says_so_without_it(server: str) -> None:
    url = {
        "postgresql": "postgresql://u:sesame@127.0.0.1:1/db",
        "mariadb": URLS[server]().replace("secret", "sesame"),
    }[server]
    with pytest.raises(StorageError) as caught:
        SqlStorage(url)
    assert "sesame" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_driver_lacks_to_connect_is_a_storage_error_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(StorageError, match=r"No such file or directory$"):
        SqlStorage("mysql://u:sesame@127.0.0.1:1/db?ssl_ca=/no/such.pem")

    def lacking(*_: object, **options: object) -> None:
        raise RuntimeError(f"'cryptography' is required for {options['password']}")

    monkeypatch.setattr(pymysql, "connect", lacking)
    with pytest.raises(StorageError, match=r"db: 'cryptography' is required for \*\*\*$"):
        SqlStorage("mysql://u:sesame@127.0.0.1:1/db")


@each_server
def test_what_the_database_undoes_to_end_a_deadlock_is_done_again(
    server: str, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    undone = count()
    monkeypatch.setattr(
        "turnwise.storages.sql.connect.random.uniform", lambda *_: next(undone) * 0.0
    )
    with opened(server) as storage, ThreadPoolExecutor() as pool:
        for entry in ("1", "2"):
            storage.append(group, "s", [Entry(entry, int(entry), "turn", "")])
        with engine(URLS[server]()).connect() as connection:
            if server == "mariadb":  # it spares the one that wrote more
                connection.exec_driver_sql(
                    "INSERT INTO turnwise_history SELECT 'x', 'x', uuid(), 1, '', '' FROM"
                    " information_schema.columns LIMIT 100"
                )
            row = (
                "SELECT 1 FROM turnwise_history WHERE group_name = '{}' AND service = 's'"
                " AND id = '{}' FOR UPDATE"
            )
            connection.exec_driver_sql(row.format(group, "2")).all()
            purge = pool.submit(storage.purge, group, "s", before=9, keep=9)
            eventually(lambda: asked(server, WAITING[server]), "the purge waits for a row")
            connection.exec_driver_sql(row.format(group, "1")).all()
            connection.rollback()
            purge.result()
        assert next(undone) >= 1  # it may come back too soon, and be undone once more
        assert storage.history(group, "s") == ()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "redis"])
def test_a_connection_that_nobody_answers_is_closed_as_soon_as_it_is_given_up(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in (connect, redis):
        monkeypatch.setattr(room, "CONNECT_SECONDS", 0.1)
        monkeypatch.setattr(room, "ANSWER_SECONDS", 0.1)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        gc.disable()  # which would close what is left open, some time
        try:
            with pytest.raises(StorageError):
                open_storage(f"{scheme}://turnwise@127.0.0.1:{silent.getsockname()[1]}/0")
            with closing(silent.accept()[0]) as connection:
                connection.settimeout(5)
                while connection.recv(1000):
                    pass
        finally:
            gc.enable()


@contextmanager
def absent_standby() -> Iterator[None]:
    """The server acknowledges nothing, as its synchronous standby is not there."""
    told(
        "postgresql",
        "ALTER SYSTEM SET synchronous_standby_names = 'absent'",
        "SELECT pg_reload_conf()",
    )
    try:
        eventually(a_commit_waits, "commits wait for the standby")
        yield
    finally:
        told(
            "postgresql",
            "ALTER SYSTEM RESET synchronous_standby_names",
            "SELECT pg_reload_conf()",
        )
        eventually(lambda: shown("synchronous_standby_names") == "", "it was read")


def a_commit_waits() -> bool:
    """Whether a commit waits for the standby: it does once the server's checkpointer has read so.

    A new session shows the setting before that. The commit that waited is given up.
    """
    with ThreadPoolExecutor() as pool:
        commit = pool.submit(told, "postgresql", "SELECT pg_logical_emit_message(true, 'test', '')")
        eventually(lambda: commit.done() or is_waited_for_the_standby(), "it is done, or it waits")
        waits = not commit.done()
        told("postgresql", STOP_WAITING["cancelled"])
        return waits


def is_waited_for_the_standby() -> bool:
    return bool(asked("postgresql", f"SELECT count(*) {STANDBY_WAIT}"))


def shown(setting: str) -> str:
    with engine(URLS["postgresql"]()).connect() as connection:
        return str(connection.exec_driver_sql(f"SHOW {setting}").scalar_one())


STANDBY_WAIT = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
STOP_WAITING = {
    "cancelled": f"SELECT pg_cancel_backend(pid) {STANDBY_WAIT}",
    "ended": f"SELECT pg_terminate_backend(pid) {STANDBY_WAIT}",
}


@pytest.mark.parametrize("stop", STOP_WAITING)
@pytest.mark.parametrize("operation", ["swap", "heartbeat"])
@pytest.mark.parametrize("tells", ["notice", "error"])
def test_a_write_whose_wait_for_the_standby_is_stopped_is_not_believed(
    group: str, operation: str, stop: str, tells: str
) -> None:
    options = f"options=-c%20client_min_messages%3D{tells}%20-c%20lc_messages%3DC"
    with opened("postgresql", options) as storage, ThreadPoolExecutor() as pool:
        gate = put(storage, group)
        storage.heartbeat(group, Beat("a", "boot", 1, SECOND, ("run",)))
        operations: dict[str, Callable[[], object]] = {
            "swap": lambda: storage.swap(group, "s", Kind.GATE, gate.version, new_record()),
            "heartbeat": lambda: storage.heartbeat(group, Beat("a", "boot", 2, SECOND, ("run",))),
        }
        old = sessions(storage)[operation == "heartbeat"]
        with absent_standby():
            writing = pool.submit(operations[operation])
            eventually(is_waited_for_the_standby, "it waits")
            told("postgresql", STOP_WAITING[stop])
            with pytest.raises(StorageError):
                writing.result()
        assert sessions(storage)[operation == "heartbeat"] is not old


def test_a_warning_of_somebody_elses_is_no_failure() -> None:
    with opened("postgresql") as storage:
        session = storage._work.session()
        assert isinstance(session, PostgresSession)
        session.ask(b"DO $$ BEGIN RAISE WARNING 'mind the step'; END $$")
        with pytest.raises(connect.Failure) as caught:
            session.ask(
                b"DO $$ BEGIN RAISE WARNING"
                b" 'canceling wait for synchronous replication due to user request'; END $$"
            )
        assert caught.value.outcome is connect.Outcome.LOST
        session.ask(b"SELECT 1")  # which says nothing of what came before


# Poolers, hosts, engines --------------------------------------------------------------------


@needs_pgbouncer
def test_behind_a_pooler_that_does_not_bear_prepared_statements_none_is_prepared(
    group: str,
) -> None:
    url = servers.pgbouncer().url
    with engine(url).connect() as first, engine(url).connect() as second:
        # Two transactions at once, so that there are two sessions, which take turns from now on.
        pids = {c.exec_driver_sql("SELECT pg_backend_pid()").scalar() for c in (first, second)}
        assert len(pids) == servers.pgbouncer().connections
    with closing(SqlStorage(url)) as one, closing(SqlStorage(url)) as two:
        version: str | None = None
        for number in range(20):
            storage = (one, two)[number % 2]
            new = new_record()
            assert storage.swap(group, "s", Kind.GATE, version, new).done
            version = new.version
            storage.heartbeat(group, Beat("a", "boot", number + 1, SECOND))
            storage.read(group, ["s"])
        session = one._work.session()
        assert isinstance(session, PostgresSession)
        assert not session._may_prepare.yes
    with opened("postgresql") as storage:
        storage.read(group, ["s"])
        session = storage._work.session()
        assert isinstance(session, PostgresSession)
        assert session._may_prepare.yes
        prepared = session.ask(b"SELECT count(*) FROM pg_prepared_statements").rows
        assert prepared > [(0,)]


def test_statements_that_were_prepared_before_a_table_changed_are_answered(group: str) -> None:
    prefix = f"c{uuid4().hex[:8]}_"
    with opened("postgresql", f"table_prefix={prefix}") as storage:
        storage.offer(group, Offer("a", "boot", "s", "{}", SECOND))
        for _ in range(8):
            storage.offers(group)
        told("postgresql", f"ALTER TABLE {prefix}offers ALTER COLUMN may_run TYPE integer")
        assert len(storage.offers(group)) == 1


@pytest.mark.parametrize("in_one", [True, False])
def test_of_several_hosts_the_first_that_answers_and_may_write_is_taken(in_one: bool) -> None:
    url = sa.make_url(URLS["postgresql"]())
    folder = str(url.query["host"])
    if in_one:  # libpq's way
        hosts = url.update_query_dict({"host": f"127.0.0.1,{folder}", "port": "1,5432"})
    else:
        hosts = url.update_query_dict({"host": ("127.0.0.1:1", folder)})
    hosts = hosts.update_query_dict({"target_session_attrs": "primary"})
    with closing(SqlStorage(hosts.render_as_string(hide_password=False))) as storage:
        storage.groups()


@pytest.mark.parametrize("where", ["{folder}", "{folder}:5432", "127.0.0.1:1,{folder}:5432"])
def test_hosts_may_stand_where_libpq_has_them_and_the_folder_of_a_socket_is_quoted(
    where: str,
) -> None:
    parts = sa.make_url(URLS["postgresql"]())
    hosts = where.format(folder=quote(str(parts.query["host"]), safe=""))
    url = f"postgresql://{parts.username}:x@{hosts}/{parts.database}"
    with closing(SqlStorage(f"{url}?target_session_attrs=read-write")) as storage:
        storage.groups()
    with closing(SqlStorage(url)) as storage:
        storage.groups()


@each_server
def test_an_engine_makes_the_connections_where_its_driver_is_ours(server: str, group: str) -> None:
    made = Counter[str]()
    own = sa.create_engine(engine(URLS[server]()).url, pool_size=1)

    @sa.event.listens_for(own, "do_connect")
    def note(*_: object) -> None:
        made["connections"] += 1

    with closing(SqlStorage(engine=own)) as storage:
        assert storage.advance(group) == 1
        assert storage.swap(group, "s", Kind.GATE, None, new_record(), FOREVER).done
        assert storage.offer(group, Offer("a", "boot", "s", "{}", SECOND)) == 2
        assert storage.offer(group, Offer("b", "boot", "s", "{}", SECOND)) == 2
        assert storage.heartbeat(group, Beat("a", "boot", 1, SECOND)).revision == 2
    assert made["connections"] == 2
    own.dispose()


def test_an_engine_of_another_driver_says_which_database() -> None:
    url = engine(URLS["postgresql"]()).url

    class Psycopg2(sa.Engine):  # stands for one that is not installed here
        def __init__(self) -> None:
            self.url, self.dialect = url.set(drivername="postgresql+psycopg2"), sa.Dialect()
            self.dialect.driver = "psycopg2"

    with closing(SqlStorage(engine=Psycopg2())) as storage:
        storage.groups()
