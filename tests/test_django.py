"""turnwise within Django: jobs, settings, migrations, databases and the admin, in this process."""

import asyncio
import contextlib
import functools
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async

import servers
from live import eventually, runs_of
from web_django import a_database, as_django_has_it, set_up

set_up()

from django.apps import apps  # noqa: E402
from django.contrib.admin.utils import quote  # noqa: E402
from django.contrib.auth.models import Permission, User  # noqa: E402
from django.core.exceptions import ImproperlyConfigured  # noqa: E402
from django.core.management import CommandError, call_command  # noqa: E402
from django.db import connection, connections  # noqa: E402
from django.db.backends.sqlite3.base import DatabaseWrapper  # noqa: E402
from django.db.migrations.loader import MigrationLoader  # noqa: E402
from django.test import Client, override_settings  # noqa: E402
from django.urls import reverse  # noqa: E402

from turnwise import Scheduler, Turn  # noqa: E402
from turnwise.contrib.django import databases, registry, serving  # noqa: E402
from turnwise.contrib.django.checks import check_settings  # noqa: E402
from turnwise.contrib.django.configuration import configuration  # noqa: E402
from turnwise.contrib.django.connections import with_its_own_connections  # noqa: E402
from turnwise.contrib.django.databases import open_database  # noqa: E402
from turnwise.contrib.django.registry import Jobs  # noqa: E402
from turnwise.contrib.django.tables import Tables, statements  # noqa: E402
from turnwise.controls import Controls  # noqa: E402
from turnwise.errors import SchemaError, StorageError  # noqa: E402
from turnwise.scheduler.functions import served  # noqa: E402
from turnwise.storages.sql import SqlStorage, schema_statements  # noqa: E402
from turnwise.storages.sql.callers import caller_of  # noqa: E402
from turnwise.storages.sql.tables import NAMES, VERSION  # noqa: E402
from turnwise.testing import fake_turn  # noqa: E402

KINDS = ("postgresql", "mysql", "mariadb", "sqlite")

# Jobs --------------------------------------------------------------------------------------------


def test_the_jobs_of_each_app_are_found_and_have_its_label() -> None:
    names = set(registry.jobs.services)
    assert {"shop.expire_orders", "shop.refresh_prices", "shop.nightly_report"} <= names
    nightly = registry.jobs.services["shop.nightly_report"]
    assert str(nightly.schedule) == "cron 0 3 * * * Europe/Vienna"
    assert nightly.start_within == timedelta(hours=2)


def test_a_job_stays_the_function_that_it_is() -> None:
    jobs = Jobs()

    def tidy_up() -> str:
        return "tidy"

    assert jobs.every("5m")(tidy_up) is tidy_up
    assert tidy_up() == "tidy"
    assert list(jobs.services) == ["tidy_up"], "this module is of no app"


def test_a_job_of_an_app_that_has_no_name_of_its_own_must_be_given_one() -> None:
    with pytest.raises(ValueError, match="name must be given"):
        Jobs().add(lambda: None, "every 5m")


def test_a_scheduler_serves_the_jobs_and_those_that_come_later() -> None:
    jobs = Jobs()
    jobs.every("5m", name="first", attempts=7)(lambda: None)
    scheduler = Scheduler("memory:")
    jobs.give_to(scheduler)
    jobs.every("1h", name="later")(lambda: None)
    assert list(scheduler.services) == ["first", "later"]
    assert scheduler.services["first"] == jobs.services["first"]
    assert scheduler.services["first"].attempts == 7


class Used:
    """What a job saw of its connection."""

    def __init__(self) -> None:
        self.at_work: object = None

    def look(self) -> None:
        connection.ensure_connection()
        self.at_work = connections["default"].connection


def test_a_plain_job_leaves_no_connection_in_its_thread() -> None:
    used = Used()

    def job(turn: Turn) -> str:
        used.look()
        return turn.service

    assert with_its_own_connections(job)(fake_turn(service="s")) == "s"
    assert used.at_work is not None
    assert connections["default"].connection is None


def test_a_job_that_fails_leaves_none_either() -> None:
    def job() -> None:
        connection.ensure_connection()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        with_its_own_connections(job)()
    assert connections["default"].connection is None


def test_a_coroutine_has_its_queries_in_a_thread_of_its_own_and_leaves_no_connection() -> None:
    connections.close_all()
    in_its_thread = []

    async def job() -> bool:
        await User.objects.acount()
        wrapper = await sync_to_async(lambda: connections["default"])()
        in_its_thread.append(wrapper)
        assert wrapper.connection is not None
        return connections["default"].connection is None

    wrapped = with_its_own_connections(functools.partial(job))
    assert asyncio.run(_awaited(wrapped)), "its connection is not this thread's"
    assert in_its_thread[0].connection is None


async def _awaited(function: Any) -> Any:
    return await function()


def test_a_job_is_handed_its_turn_only_where_it_asks_for_it() -> None:
    async def coroutine(turn: Turn) -> Turn:
        return turn

    def plain(turn: Turn) -> Turn:
        return turn

    async def without() -> None: ...

    wrapped = [served(with_its_own_connections(each)) for each in (coroutine, plain, without)]
    assert [each.takes_turn for each in wrapped] == [True, True, False]
    assert [each.is_coroutine for each in wrapped] == [True, False, True]


def test_a_process_serves_from_its_start_to_its_stop_however_often_it_is_asked_to() -> None:
    given = {"storage": "memory:", "group": "shop", "runner_id": "a", "grace": "1s"}
    serving._scheduler.cache_clear()
    try:
        with override_settings(TURNWISE=given):
            serving.start()
            serving.start()
            scheduler = serving.scheduler()
            assert scheduler.health().is_running
            assert (scheduler.group, scheduler.runner_id) == ("shop", "a")
            assert set(scheduler.services) == set(registry.jobs.services)
            serving.stop()
            serving.stop()
            assert not scheduler.health().is_running
    finally:
        registry.jobs.scheduler = None
        serving._scheduler.cache_clear()


def test_threads_that_ask_first_at_once_have_the_same_scheduler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = threading.Barrier(2)

    def slowly() -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.3)
        return configuration()

    monkeypatch.setattr(serving, "configuration", slowly)
    serving._scheduler.cache_clear()
    found: list[Scheduler] = []
    threads = [threading.Thread(target=lambda: found.append(serving.scheduler())) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found[0] is found[1]
    finally:
        registry.jobs.scheduler = None
        serving._scheduler.cache_clear()


# Settings ----------------------------------------------------------------------------------------

WRONG: list[tuple[object, str, str]] = [
    (["x"], "E001", "TURNWISE must be a dict, got one of type list"),
    ({"databse": "default"}, "E002", "TURNWISE has the unknown key 'databse'"),
    ({"database": "default", "storage": "x:"}, "E003", "one names the storage"),
    ({"storage": 7}, "E003", "TURNWISE['storage'] must be a URL, got one of type int"),
    ({"database": "other"}, "E004", "DATABASES has no such alias; known are default"),
    ({"group": ""}, "E005", "TURNWISE['group']: group must"),
    ({"runner_id": 7}, "E005", "TURNWISE['runner_id']: runner_id must"),
    ({"grace": "soon"}, "E006", "TURNWISE['grace']"),
    ({"grace": 7}, "E006", "grace must be a timedelta or a text such as '20s', got 7"),
    ({"may_run": "yes"}, "E007", "TURNWISE['may_run'] must be True or False, got 'yes'"),
    ({"observers": "x"}, "E008", "TURNWISE['observers'] must be a list, got 'x'"),
    ({"observers": ["no.such"]}, "E008", "TURNWISE['observers']: No module named 'no'"),
    ({"observers": [7]}, "E008", "an observer must be callable"),
]


@pytest.mark.parametrize(("given", "number", "said"), WRONG)
def test_what_is_wrong_with_the_settings_is_a_system_check(
    given: object, number: str, said: str
) -> None:
    with override_settings(TURNWISE=given):
        [found] = check_settings()
        assert found.id == f"turnwise.{number}"
        assert said in found.msg
        with pytest.raises(ImproperlyConfigured):
            configuration()


def test_a_password_in_settings_that_are_a_url_is_not_shown() -> None:
    with override_settings(TURNWISE="postgresql://app:secret@db/app"):
        assert "secret" not in str(check_settings())
    with override_settings(TURNWISE={"storage": b"postgresql://app:secret@db/app"}):
        assert "secret" not in str(check_settings())


def test_a_storage_that_is_none_is_told_by_the_command_in_a_line() -> None:
    serving._scheduler.cache_clear()
    try:
        with (
            override_settings(TURNWISE={"storage": "nosuch://app:secret@db"}),
            pytest.raises(CommandError, match="no storage has the scheme 'nosuch'") as caught,
        ):
            call_command("turnwise", skip_checks=True)
        assert "secret" not in str(caught.value)
    finally:
        registry.jobs.scheduler = None
        serving._scheduler.cache_clear()


def test_a_backend_of_another_package_and_a_block_without_a_savepoint_can_complete_a_turn() -> None:
    class OfAnotherPackage(DatabaseWrapper):
        pass

    made = OfAnotherPackage({**connection.settings_dict}, "default")
    made.savepoint_ids = [None]  # type: ignore[list-item] # as atomic(savepoint=False) leaves it
    assert caller_of(made).kind == "sqlite"
    made.savepoint_ids = [None, "s1"]  # type: ignore[list-item]
    with pytest.raises(ValueError, match="connection must be in no savepoint"):
        caller_of(made)


def test_a_key_that_is_almost_right_has_a_hint() -> None:
    with override_settings(TURNWISE={"databse": "default"}):
        assert check_settings()[0].hint == "Did you mean 'database'?"


def test_a_database_that_is_no_storage_and_one_without_its_driver_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections["default"], "vendor", "oracle")
    assert "oracle is no storage" in check_settings()[0].msg
    monkeypatch.setattr(connections["default"], "vendor", "postgresql")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "pip install 'turnwise[postgres]'" in check_settings()[0].msg


def test_the_settings_that_are_right_have_no_check_and_are_read() -> None:
    given = {"group": "shop", "grace": "5s", "may_run": False, "observers": ["builtins.print"]}
    with override_settings(TURNWISE=given):
        assert check_settings() == []
        said = configuration()
    assert (said.group, said.database, said.storage) == ("shop", "default", None)
    assert (said.grace, said.may_run) == (timedelta(seconds=5), False)
    assert said.observers == (print,)


@pytest.mark.parametrize(
    ("given", "variable", "expected"),
    [
        ({}, "", (None, "default")),
        ({}, "redis://host", (None, None)),
        ({"database": "default"}, "redis://host", (None, "default")),
        ({"storage": "redis://other"}, "redis://host", ("redis://other", None)),
    ],
)
def test_the_storage_is_what_the_settings_say_then_the_environment_then_the_default_database(
    given: object, variable: str, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNWISE_STORAGE", variable)
    with override_settings(TURNWISE=given):
        said = configuration()
    assert (said.storage, said.database) == expected


# Migrations and databases ------------------------------------------------------------------------


def test_the_migrations_end_at_the_version_that_the_storage_needs() -> None:
    """Where this fails, a migration is missing that goes from one version to the next."""
    loader = MigrationLoader(None)
    versions = [
        operation.version
        for (app, _), migration in sorted(loader.disk_migrations.items())
        if app == "turnwise"
        for operation in migration.operations
        if isinstance(operation, Tables)
    ]
    assert versions == list(range(1, VERSION + 1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_statements_of_the_migration_are_those_of_the_storage(kind: str) -> None:
    made = "".join(f"{statement};\n" for statement in statements(1, kind))
    assert made.split() == schema_statements(kind).split()


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The alias of an empty database of a kind."""
    kind: str = request.param
    if kind == "mariadb" and not servers.mariadb_is_here():
        pytest.skip(servers.WHY_NO_MARIADB)
    urls = {
        "sqlite": lambda: f"sqlite:///{tmp_path / 'db.sqlite3'}",
        "postgresql": a_database,
        "mariadb": _a_mariadb,
    }
    alias = f"another_{kind}"
    given = {**connections["default"].settings_dict, **as_django_has_it(urls[kind]())}
    connections.settings[alias] = given
    yield alias
    connections[alias].close()
    del connections.settings[alias]
    del connections[alias]


def _a_mariadb() -> str:
    with servers.mariadb().as_root() as root:
        cursor = root.cursor()
        cursor.execute("DROP DATABASE IF EXISTS django")
        cursor.execute("CREATE DATABASE django CHARACTER SET utf8mb4")
        cursor.execute("CREATE USER IF NOT EXISTS odd IDENTIFIED BY 'p@ss:w/rd#%?'")
        cursor.execute("GRANT ALL ON django.* TO odd")
    return servers.mariadb().url.removesuffix("turns") + "django"


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"], indirect=True)
def test_the_migration_makes_the_tables_that_the_storage_opens_and_drops_them(
    database: str,
) -> None:
    connections[database].ensure_connection()  # SQLite's file is there
    with pytest.raises(SchemaError, match=r"turnwise: `manage\.py migrate turnwise` makes them$"):
        open_database(database)
    call_command("migrate", "turnwise", database=database, verbosity=0)
    with closing(open_database(database)) as storage:
        assert storage.services("default") == ()
        assert storage.read("default", ()).now > 0
    call_command("migrate", "turnwise", "zero", database=database, verbosity=0)
    left = connections[database].introspection.table_names()
    assert not [name for name in left if name.removeprefix("turnwise_") in NAMES]


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_the_storage_connects_as_django_does_whatever_the_password_has(database: str) -> None:
    given, password = connections[database].settings_dict, "p@ss:w/rd#%?"
    if "postgresql" in database:
        with connections[database].cursor() as cursor:
            cursor.execute("DROP ROLE IF EXISTS odd, owner")
            cursor.execute("CREATE ROLE owner")
            cursor.execute("GRANT ALL ON SCHEMA public TO owner")
            cursor.execute("CREATE ROLE odd LOGIN NOINHERIT PASSWORD %s", [password])
            cursor.execute("GRANT owner TO odd")
        given["OPTIONS"] = {"assume_role": "owner", "prepare_threshold": 5}
    connections[database].close()
    given |= {"USER": "odd", "PASSWORD": password}
    call_command("migrate", "turnwise", database=database, verbosity=0)
    with closing(open_database(database)) as storage:
        storage.advance("default")
        Controls(storage).pause("job")
        assert storage.services("default") == ("job",)


@pytest.mark.parametrize(
    ("options", "ssl"),
    [
        ({}, None),
        ({"ssl_mode": "PREFERRED"}, None),
        ({"ssl_mode": "REQUIRED"}, {"check_hostname": False}),
        (
            {"ssl_mode": "VERIFY_IDENTITY", "ssl": {"ca": "ca.pem"}},
            {"check_hostname": True, "ca": "ca.pem"},
        ),
    ],
)
def test_where_django_wants_tls_to_mysql_so_has_the_storage(
    options: dict[str, Any], ssl: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: dict[str, Any] = {}
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", options)
    monkeypatch.setattr("pymysql.connect", lambda **given: said.update(given))
    databases._pymysql("default")
    assert said.get("ssl") == ssl


def test_a_role_with_a_space_in_its_name_is_one_word_to_postgresql(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: dict[str, Any] = {}
    monkeypatch.setitem(
        connections["default"].settings_dict, "OPTIONS", {"assume_role": "the owner"}
    )
    monkeypatch.setattr(connections["default"], "get_connection_params", dict)
    monkeypatch.setattr("psycopg.connect", lambda **given: said.update(given))
    databases._psycopg("default")
    assert said["options"] == "-c role=the\\ owner"


def test_a_database_in_memory_is_refused_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = "file:memorydb_default?mode=memory&cache=shared"
    monkeypatch.setitem(connections["default"].settings_dict, "NAME", memory)
    with pytest.raises(StorageError, match="no other process can reach it"):
        open_database("default")


def test_the_path_of_a_file_may_have_what_a_url_would_read_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a b%20c#d?e"
    folder.mkdir()
    SqlStorage(f"sqlite:///{tmp_path / 'db.sqlite3'}").close()
    (tmp_path / "db.sqlite3").rename(folder / "db.sqlite3")
    monkeypatch.setitem(connections["default"].settings_dict, "NAME", folder / "db.sqlite3")
    with closing(open_database("default")) as storage:
        assert storage.services("default") == ()


class NotHere:
    """A router that keeps turnwise out."""

    def allow_migrate(self, db: str, app_label: str, **_: object) -> bool | None:
        del db
        return app_label != "turnwise"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_router_can_keep_the_tables_out_of_a_database(database: str) -> None:
    with override_settings(DATABASE_ROUTERS=[NotHere()]):
        call_command("migrate", "turnwise", database=database, verbosity=0)
    assert "turnwise_schema" not in connections[database].introspection.table_names()


def test_the_models_need_no_further_migration() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


# The admin ---------------------------------------------------------------------------------------

LIST = "/admin/turnwise/service/"


@pytest.fixture
def service() -> Iterator[str]:
    """A service that has been served, with a name that no URL likes."""
    name = "re/port <b>1</b>"
    scheduler = Scheduler(lambda: open_database("default"), runner_id="a")
    scheduler.add(
        lambda: None, "every 1s", name=name, heartbeat_timeout="200ms", spread_margin="10ms"
    )
    with scheduler, closing(open_database("default")) as storage:
        eventually(lambda: len(runs_of(storage, name)) > 2, "it is served")
    yield name
    with closing(open_database("default")) as storage:
        Controls(storage).forget_service(name, force=True)
        Controls(storage).forget_runner("a", force=True)


def _client(*, staff: bool = True, may_view: bool = True) -> Client:
    User.objects.all().delete()
    user = User.objects.create_user("somebody", is_staff=staff)
    if may_view:
        user.user_permissions.add(Permission.objects.get(codename="view_service"))
    client = Client()
    client.force_login(user)
    return client


def _change(name: str) -> str:
    return reverse("admin:turnwise_service_change", args=[quote(name)])


def test_who_may_view_sees_the_jobs_and_a_verdict_for_each_period(service: str) -> None:
    client = _client()
    listed = client.get(LIST).content.decode()
    assert "re/port &lt;b&gt;1&lt;/b&gt;" in listed
    assert _change(service) in listed
    assert "every 1s" in listed
    page = client.get(_change(service))
    assert page.status_code == 200
    shown = page.content.decode()
    assert "by a" in shown
    assert "served" in shown
    assert page.context["totals"]["served"] >= 2
    assert [row.verdict for row in page.context["rows"]].count("served") >= 2
    assert client.get(_change(service) + "?since=30d").context["since"] == "30d"
    assert client.get(_change(service) + "?since=x").context["since"] == "7d"


def test_it_stands_in_the_index_of_the_admin_and_offers_nothing_but_looking() -> None:
    page = _client().get("/admin/").content.decode()
    assert f'href="{LIST}"' in page
    assert "/admin/turnwise/service/add/" not in page


@pytest.mark.parametrize(
    ("rights", "status"),
    [({}, 200), ({"may_view": False}, 403), ({"staff": False}, 302)],
)
def test_who_may_not_view_sees_nothing(rights: dict[str, bool], status: int, service: str) -> None:
    client = _client(**rights)
    for path in (LIST, _change(service)):
        assert client.get(path).status_code == status


def test_nothing_can_be_changed_there(service: str) -> None:
    User.objects.all().delete()
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    for path in (LIST, _change(service)):
        assert client.post(path, {"name": "x"}).status_code == 405
    for what in ("add/", f"{quote(service)}/delete/", f"{quote(service)}/history/"):
        assert client.get(LIST + what).status_code == 404
        assert client.post(LIST + what, {"name": "x"}).status_code == 404
    assert client.get(_change("no such job")).status_code == 404


def test_a_storage_that_does_not_answer_is_told_on_the_page() -> None:
    client = _client()
    with override_settings(TURNWISE={"storage": "sqlite:////no/such/folder/turns.db"}):
        page = client.get(LIST)
    assert page.status_code == 200
    assert "unable to open database file" in page.content.decode()


def test_the_app_is_named_turnwise() -> None:
    assert apps.get_app_config("turnwise").name == "turnwise.contrib.django"
