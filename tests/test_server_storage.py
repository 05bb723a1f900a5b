"""What database servers add to SQL: their clock, the wire, their tables, and their silence."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

import servers
from processes import eventually
from storages import SHARED
from turnwise import Settings, StorageError, open_backend
from turnwise.backends import Participant, _servers
from turnwise.backends.sql import SqlBackend, schema_statements
from turnwise.membership import cycle_at
from turnwise.testing import SETTINGS, Desk, ManualClock, run_of, share_of_the_profile
from turnwise.testing.desk import COMPLETED, MICROSECOND

SERVERS = [name for name in SHARED if name in ("postgresql", "mariadb")]
each_server = pytest.mark.parametrize("server", SERVERS)
WHO = Participant("a", "boot")


@contextmanager
def opened(server: str, query: str = "") -> Iterator[SqlBackend]:
    with closing(SqlBackend(with_query(SHARED[server](Path()), query))) as backend:
        yield backend


def with_query(url: str, query: str) -> str:
    return url + (query and ("&" if "?" in url else "?") + query)


# The clock ----------------------------------------------------------------------------------


@each_server
@share_of_the_profile(10)
@given(
    interval=st.integers(1, 10**13).map(lambda us: us * MICROSECOND)
    | st.integers(1, 3653).map(lambda days: timedelta(days=days))
)
def test_a_server_finds_the_start_of_the_cycle_that_python_finds(
    server: str, interval: timedelta
) -> None:
    settings = replace(Settings(), interval=max(interval, timedelta(minutes=2)))
    with opened(server) as backend:
        moment = backend._do.clock.moment()
        asked = sa.select(
            moment.now.label("now"),
            moment.cycle_start.label("cycle_start"),
            moment.silent_before.label("silent_before"),
        ).add_cte(*moment.ctes)
        with backend._database.connection(atomic=False) as connection:
            row = connection.execute(asked, backend._do.clock.parameters(settings)).one()
    start = cycle_at(row.now, settings.interval).start
    assert (row.cycle_start, row.silent_before) == (start, start - settings.heartbeat_timeout)


@each_server
def test_the_clock_is_the_servers_whatever_ours_says(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "turnwise.backends._database._utc_now", lambda: datetime(1999, 1, 1, tzinfo=UTC)
    )
    with opened(server) as backend:
        before = datetime.now(UTC)
        look = backend.look("s", WHO, SETTINGS)
        peeked = backend.peek("s", SETTINGS)
    assert before <= look.now <= peeked.now <= datetime.now(UTC)
    assert look.joined_at is not None
    assert look.joined_at <= look.now


@each_server
def test_no_run_starts_before_the_one_before_has_ended(server: str) -> None:
    kept = replace(SETTINGS, retention_count=1000, retention_age=timedelta(days=1))
    with opened(server) as backend:
        look = backend.peek("s", kept)
        runs = 0
        while runs < 20:
            run = run_of("a", look.cycle.start + runs * kept.interval)
            assert backend.admit("s", run, kept, look).fencing_token
            run_id = run.atomic_service_id.atomic_service_run_id
            backend.finish("s", run_id, COMPLETED, "", kept)
            runs += 1
        history = backend.executions("s")
    ends = [record.end_time for record in history]
    assert all(
        end is not None and end <= after.start_time
        for end, after in zip(ends, history[1:], strict=False)
    )


def test_postgresql_waits_for_the_disk_in_all_but_heartbeats_and_looks() -> None:
    with opened("postgresql") as backend:
        look = backend.look("s", WHO, SETTINGS)
        run = run_of("a", look.cycle.start)
        run_id = run.atomic_service_id.atomic_service_run_id
        statements: list[str] = []

        @sa.event.listens_for(backend._database.engine, "after_cursor_execute")
        def note(connection: sa.Connection, _: object, statement: str, *__: object) -> None:
            statements.append(statement)
            # What is set for one transaction must not stay in the session, nor leave it open.
            raw = connection.connection.dbapi_connection
            assert isinstance(raw, psycopg.Connection)
            assert raw.execute("SHOW synchronous_commit").fetchone() == ("on",)

        def waits(operation: Callable[[], object]) -> bool:
            statements.clear()
            operation()
            return not any("synchronous_commit" in statement for statement in statements)

        assert not waits(lambda: backend.look("s", WHO, SETTINGS))
        assert not waits(lambda: backend.heartbeat("s", WHO, SETTINGS))
        assert waits(lambda: backend.admit("s", run, SETTINGS, look))
        assert not waits(lambda: backend.heartbeat("s", WHO, SETTINGS, run_id))
        assert waits(lambda: backend.finish("s", run_id, COMPLETED, "", SETTINGS))
        assert waits(lambda: backend.leave("s", WHO))


# The wire -----------------------------------------------------------------------------------

STATEMENTS = {
    "postgresql": {
        "heartbeat": 1,
        "heartbeat in a turn": 1,
        "look": 1,
        "first look": 7,
        "admission": 1,
        "end": 2,
    },
    "mariadb": {
        "heartbeat": 2,
        "heartbeat in a turn": 3,
        "look": 2,
        "first look": 8,
        "admission": 5,
        "end": 3,
    },
}


@each_server
def test_an_operation_costs_the_statements_that_the_documentation_says(server: str) -> None:
    with opened(server) as backend:
        statements: list[str] = []

        def note(_: object, __: object, statement: str, *___: object) -> None:
            statements.append(statement)

        sa.event.listen(backend._database.engine, "before_cursor_execute", note)
        backend.publish_settings("s", SETTINGS)
        look = backend.look("s", WHO, SETTINGS)
        run = run_of("a", look.cycle.start)
        run_id = run.atomic_service_id.atomic_service_run_id
        counted = {}
        operations: dict[str, Callable[[], object]] = {
            "look": lambda: backend.look("s", WHO, SETTINGS),
            "heartbeat": lambda: backend.heartbeat("s", WHO, SETTINGS),
            "admission": lambda: backend.admit("s", run, SETTINGS, look),
            "heartbeat in a turn": lambda: backend.heartbeat("s", WHO, SETTINGS, run_id),
            "end": lambda: backend.finish("s", run_id, COMPLETED, "", SETTINGS),
            "first look": lambda: backend.look(
                "s", WHO, replace(SETTINGS, standbys=5, spread_margin=timedelta(0))
            ),
        }
        for name, operation in operations.items():
            statements.clear()
            operation()
            counted[name] = len(statements)
    assert counted == STATEMENTS[server]


@each_server
def test_what_a_look_brings_does_not_grow_with_the_number_of_runners(server: str) -> None:
    with opened(server) as backend:
        columns = "service, runner_id, creation_time, last_heartbeat, may_run, boot_id, digest"
        long_ago = "'2000-01-01 00:00:00'"
        table = backend._tables.runners.name
        rows = ", ".join(
            f"('s', 'r{number}', {long_ago}, '2999-01-01', true, 'b', {number})"
            for number in range(1000)
        )
        with backend._database.connection() as connection:
            connection.exec_driver_sql(f"INSERT INTO {table} ({columns}) VALUES {rows}")  # noqa: S608
        fetched: list[int] = []

        def count(_: object, cursor: object, *__: object) -> None:
            fetched.append(getattr(cursor, "rowcount", 0))

        sa.event.listen(backend._database.engine, "after_cursor_execute", count)
        look = backend.look("s", WHO, SETTINGS)
        assert look.size == 1000
        assert len(look.scheduled) == 3
        assert max(fetched) <= 3


# The tables ---------------------------------------------------------------------------------


@each_server
def test_tables_made_by_hand_from_the_printed_statements_are_used_as_they_are(server: str) -> None:
    query = f"table_prefix=by_hand_{uuid4().hex[:8]}_"
    url = with_query(SHARED[server](Path()), query)
    with pytest.raises(StorageError, match="holds no tables of turnwise"):
        open_backend(url, create_tables=False)
    with opened(server) as by_hand, by_hand._database.connection() as connection:
        for statement in schema_statements(url).split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    with closing(open_backend(url, create_tables=False)) as backend:
        assert Desk(backend, ManualClock()).admit("a")[1].fencing_token == 1


@each_server
def test_storages_under_two_prefixes_do_not_see_each_other(server: str) -> None:
    mark = uuid4().hex[:8]
    with (
        opened(server, f"table_prefix=a{mark}_") as one,
        opened(server, f"table_prefix=b{mark}_") as two,
    ):
        assert Desk(one, ManualClock()).admit("a")[1].fencing_token == 1
        assert Desk(two, ManualClock()).admit("b")[1].fencing_token == 1


def test_the_tables_may_be_in_a_schema_of_their_own() -> None:
    schema = f"ops_{uuid4().hex[:8]}"
    with opened("postgresql") as backend, backend._database.connection() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    with opened("postgresql", f"schema={schema}") as backend:
        assert Desk(backend, ManualClock()).admit("a")[1].fencing_token == 1
        with backend._database.connection() as connection:
            assert set(sa.inspect(connection).get_table_names(schema)) == {
                f"turnwise_{name}" for name in ("services", "schedules", "runners", "executions")
            }


@pytest.mark.parametrize("name", ["table_prefix", "schema"])
@pytest.mark.parametrize("value", ["a-b", "1st", "a;DROP TABLE x", "é", "x" * 41])
def test_a_name_of_tables_that_is_no_identifier_is_refused(name: str, value: str) -> None:
    url = with_query("postgresql://u:secret@host/db", f"{name}={value}")
    with pytest.raises(ValueError, match=f"{name} must be 1 to 40 letters") as caught:
        open_backend(url)
    assert "secret" not in str(caught.value)


# What goes wrong ----------------------------------------------------------------------------


def test_a_password_is_neither_shown_nor_told() -> None:
    with pytest.raises(StorageError) as caught:
        open_backend("mysql://u:sesame@127.0.0.1:1/db")
    assert "sesame" not in str(caught.value)
    with opened("postgresql") as backend:
        assert re.search(r":\*\*\*@", repr(backend))


@pytest.mark.skipif(not servers.mariadb_is_here(), reason=servers.WHY_NO_MARIADB)
def test_a_wrong_password_is_one_line_that_does_not_tell_it() -> None:
    url = servers.mariadb().url.replace("secret", "sesame")
    with pytest.raises(StorageError, match="Access denied for user 'turns'") as caught:
        open_backend(url)
    assert "sesame" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_driver_lacks_to_connect_is_a_storage_error_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(StorageError, match=r"No such file or directory$"):
        open_backend("mysql://u:sesame@127.0.0.1:1/db?ssl_ca=/no/such.pem")

    def lacking(*_: object, **options: object) -> None:
        raise RuntimeError(f"'cryptography' is required for {options['password']}")

    monkeypatch.setattr(pymysql, "connect", lacking)
    with pytest.raises(StorageError, match=r"db: 'cryptography' is required for \*\*\*$"):
        open_backend("mysql://u:sesame@127.0.0.1:1/db")


@pytest.mark.parametrize("in_one", [True, False])
def test_of_several_hosts_the_first_that_answers_is_taken(in_one: bool) -> None:
    url = sa.make_url(servers.postgres().url)
    folder = str(url.query["host"])
    if in_one:  # libpq's way
        hosts = url.update_query_dict({"host": f"127.0.0.1,{folder}", "port": "1,5432"})
    else:
        hosts = url.update_query_dict({"host": ("127.0.0.1:1", folder)})
    with closing(SqlBackend(hosts.render_as_string(hide_password=False))) as backend:
        assert backend.peek("s", SETTINGS).size == 0


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
    monkeypatch.setattr(_servers, "CONNECT_SECONDS", 2)  # the least that libpq takes
    monkeypatch.setitem(_servers._POSTGRES_DEFAULTS, "connect_timeout", "2")
    monkeypatch.setattr(_servers, "ANSWER_SECONDS", 0.5)
    with swallowing() as port, pytest.raises(StorageError):
        open_backend(f"{scheme}://u:p@127.0.0.1:{port}/db")


def test_an_answer_that_is_overdue_is_given_up_and_the_next_one_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with opened("postgresql") as backend:
        monkeypatch.setattr(_servers, "ANSWER_SECONDS", 0.2)
        with (
            pytest.raises(StorageError, match=r"no answer within 0\.2 s"),
            backend._database.connection(atomic=False) as connection,
        ):
            connection.exec_driver_sql("SELECT pg_sleep(60)")
        assert backend.peek("s", SETTINGS).size == 0


@each_server
def test_a_failed_write_leaves_no_transaction_open(server: str) -> None:
    with opened(server) as backend:
        desk = Desk(backend, ManualClock())
        broken = "INSERT INTO nowhere (nothing) VALUES (1)"
        with pytest.raises(StorageError), backend._database.connection() as connection:  # noqa: PT012 (either of two)
            connection.execute(sa.delete(backend._tables.services))
            connection.exec_driver_sql(broken)
        assert desk.admit("a")[1].fencing_token == 1


# Locks --------------------------------------------------------------------------------------

WAITING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
    "mariadb": "SELECT variable_value FROM information_schema.global_status"
    " WHERE variable_name = 'innodb_row_lock_current_waits'",
}


@each_server
def test_what_the_database_undoes_to_end_a_deadlock_is_done_again(server: str) -> None:
    clock = ManualClock()
    undone: list[str] = []
    with (
        closing(SqlBackend(SHARED[server](Path()), clock=clock)) as backend,
        ThreadPoolExecutor() as pool,
    ):
        desk = Desk(backend, clock)
        for old in ("run 1", "run 2"):
            desk.finish(desk.admit(run_id=old)[0])
            clock.advance(SETTINGS.interval)
        run_id = desk.admitted()
        desk.settings = replace(SETTINGS, retention_count=1)  # so that its end forgets the two
        tables, database = backend._tables, backend._database
        c = tables.executions.c
        locked = sa.select(c.run_id).where(c.service == desk.service).with_for_update()

        @sa.event.listens_for(database.engine, "handle_error")
        def note(context: sa.engine.ExceptionContext) -> None:
            undone.append(str(context.original_exception))

        with database.connection() as connection:
            # Of two that are locked with each other MariaDB spares the one that wrote more.
            many = [{"service": f"other {n}", "fencing_token": 0} for n in range(100)]
            connection.execute(sa.insert(tables.services), many)
            connection.execute(locked.where(c.run_id == "run 2")).all()
            finished = pool.submit(desk.finish, run_id)
            eventually(lambda: asked(backend, WAITING[server]), "the end waits for the lock")
            connection.execute(locked.where(c.run_id == "run 1")).all()
        record = finished.result()
        assert len(undone) == 1
        assert "deadlock" in undone[0].lower()
        assert record is not None
        assert record.status is COMPLETED
        assert [kept.run_id for kept in desk.executions()] == [run_id]


def asked(backend: SqlBackend, question: str) -> int:
    with backend._database.connection(atomic=False) as connection:
        return int(connection.exec_driver_sql(question).scalar_one())
