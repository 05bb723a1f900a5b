"""Django projects in real processes: gunicorn, uvicorn and manage.py, on PostgreSQL and SQLite."""

import ast
import os
import signal
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from live import eventually
from web_django import PATIENCE_SECONDS, PROJECT, Looked, Project, a_database, pid_of

WORKERS = 4


def a_project(folder: Path, storage: str) -> Project:
    url = a_database() if storage == "postgresql" else f"sqlite:///{folder / 'db.sqlite3'}"
    project = Project(folder / "project", url)
    project.migrate()
    return project


def gunicorn(project: Project, *options: str) -> list[str]:
    return ["-m", "gunicorn", "-b", f"127.0.0.1:{project.port}", *options]


@pytest.mark.faults
@pytest.mark.parametrize("options", [[], ["--preload"]])
@pytest.mark.parametrize("storage", ["sqlite", "postgresql"])
def test_under_gunicorn_one_worker_at_a_time_serves_and_a_killed_one_is_replaced(
    storage: str, options: list[str], tmp_path: Path
) -> None:
    project = a_project(tmp_path, storage)
    with project.running(*gunicorn(project, *options)) as server, project.storage() as looked:
        eventually(lambda: len(looked.runners()) == WORKERS, "every worker has joined", 60)
        first = looked.runners()
        eventually(lambda: len({r.runner_id for r in looked.completed()}) >= 2, "two served", 60)
        answer = eventually(lambda: project.get("/who"), "a worker answers")
        assert answer["runner"] in first
        assert project.get("/health") == {"is_well": True}

        victim = eventually(looked.running, "a run is open")
        os.kill(pid_of(victim.runner_id), signal.SIGKILL)
        before = len(looked.completed())
        eventually(lambda: looked.runners() - first, "the server started another worker", 60)
        eventually(lambda: len(looked.completed()) >= before + 2, "the service goes on", 60)

        last = eventually(looked.running, "a run is open")
        server.send_signal(signal.SIGTERM)
        server.wait(PATIENCE_SECONDS)
        ended = next(run for run in looked.runs() if run.id == last.id)
        assert ended.status.value == "completed", "a turn ends well within the grace time"
        assert looked.running() is None
        assert looked.runners() == {victim.runner_id}, "all but the killed one have left"
        runs = looked.runs()

    assert not (project.folder / "overlap").exists()
    for one, other in pairwise(runs):
        assert one.ended_at is not None
        assert one.ended_at <= other.started_at
    served = project.served()
    tokens = [token for token, _, _ in served if token > 0]
    assert tokens == sorted(set(tokens))
    assert {pid for token, pid, _ in served if token > 0} <= {pid_of(r.runner_id) for r in runs}
    assert any(token < 0 for token, _, _ in served), "the coroutine has served, too"
    assert "Traceback" not in project.log


@pytest.mark.faults
def test_where_each_worker_loads_the_application_it_may_start_there_and_leaves_at_its_exit(
    tmp_path: Path,
) -> None:
    project = a_project(tmp_path, "sqlite")
    (project.folder / "gunicorn.conf.py").unlink()
    with (project.folder / "project" / "wsgi.py").open("a") as wsgi:
        wsgi.write("\nfrom turnwise.contrib.django import start\nstart()\nstart()\n")
    command = gunicorn(project, "--workers", "2", "project.wsgi")
    with project.running(*command) as server, project.storage() as looked:
        eventually(lambda: len(looked.runners()) == 2, "every worker has joined", 60)
        eventually(lambda: len(looked.completed()) >= 2, "they serve", 60)
        server.send_signal(signal.SIGTERM)
        server.wait(PATIENCE_SECONDS)
        assert looked.runners() == set()
        assert looked.running() is None


@pytest.mark.faults
@pytest.mark.parametrize("storage", ["sqlite", "postgresql"])
def test_a_transaction_of_djangos_completes_the_turn_with_what_the_job_has_written(
    storage: str, tmp_path: Path
) -> None:
    project = a_project(tmp_path, storage)
    with project.running("manage.py", "turnwise") as process, project.storage() as looked:
        eventually(lambda: len(looked.completed("exactly")) >= 4, "it is completed", 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
        runs = looked.runs("exactly")
    assert {(run.status.value, run.reason) for run in runs} == {("completed", "")}
    written = [row for row in project.served() if row[0] == 0]
    assert len(written) == len(runs)


@pytest.mark.faults
def test_under_uvicorn_each_worker_serves_from_its_start_to_its_end(tmp_path: Path) -> None:
    project = a_project(tmp_path, "sqlite")
    command = ["-m", "uvicorn", "project.asgi:application", "--workers", "2"]
    with (
        project.running(*command, "--port", str(project.port)) as server,
        project.storage() as looked,
    ):
        eventually(lambda: len(looked.runners()) == 2, "every worker has joined", 60)
        eventually(lambda: len(looked.completed()) >= 2, "they serve", 60)
        eventually(lambda: len(looked.completed("coroutine")) >= 2, "coroutines, too", 60)
        assert project.get("/health") == {"is_well": True}
        server.send_signal(signal.SIGTERM)
        server.wait(PATIENCE_SECONDS)
        assert looked.runners() == set()
        assert looked.running() is None


def test_the_command_serves_until_sigterm_and_leaves(tmp_path: Path) -> None:
    project = a_project(tmp_path, "sqlite")
    with project.running("manage.py", "turnwise") as process, project.storage() as looked:
        eventually(lambda: len(looked.completed()) >= 1, "it serves", 60)
        eventually(lambda: len(looked.completed("coroutine")) >= 1, "a coroutine, too", 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert looked.runners() == set()
        assert "Serving in group default: shop.expire_orders, shop.refresh_prices" in project.log
        names = {row.offer.service for row in looked.storage.offers("default")}
        assert names == {
            "coroutine",
            "exactly",
            "housekeeping",
            "shop.expire_orders",
            "shop.nightly_report",
            "shop.refresh_prices",
            "shop.tidy_up",
            "shop.weekly_digest",
        }


def test_without_its_migrations_the_command_says_which_command_makes_the_tables(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path / "project", f"sqlite:///{tmp_path / 'db.sqlite3'}")
    done = project.manage("migrate", "--verbosity", "0", "auth")
    assert done.returncode == 0, done.stderr
    done = project.manage("turnwise")
    assert done.returncode == 1
    assert "holds no tables of turnwise" in done.stderr
    assert "`manage.py migrate turnwise` makes them" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_that_are_wrong_are_told_by_a_check_and_keep_the_command_from_running(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path / "project", f"sqlite:///{tmp_path / 'db.sqlite3'}", gruop="x")
    for command in ("check", "turnwise"):
        done = project.manage(command)
        assert done.returncode == 1
        assert "(turnwise.E002) TURNWISE has the unknown key 'gruop'" in done.stderr
        assert "HINT: Did you mean 'group'?" in done.stderr


def test_a_job_that_cannot_be_served_stops_every_command_with_its_own_line(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", f"sqlite:///{tmp_path / 'db.sqlite3'}")
    (project.folder / "shop" / "jobs.py").write_text(
        "from turnwise.contrib.django import every\n@every('5m', attempts=0)\ndef tidy_up(): ...\n"
    )
    done = project.manage("check")
    assert done.returncode == 1
    assert "shop/jobs.py" in done.stderr
    assert "ValueError: attempts must be 1 to 1,000,000, got 0" in done.stderr


def _kill_all(url: str) -> int:
    """End every connection to a database at the server; how many there were."""
    with psycopg.connect(url, autocommit=True) as connection:
        [(count,)] = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    return int(count)


def _after(looked: Looked, count: int, service: str) -> bool:
    return len(looked.completed(service)) >= count


@pytest.mark.faults
def test_a_connection_that_the_server_ends_costs_no_later_turn(tmp_path: Path) -> None:
    """Between two turns, and in the middle of one, which is then tried again."""
    project = a_project(tmp_path, "postgresql")
    project.environment["DATABASE"] = project.environment["DATABASE"].replace(
        "}", ', "CONN_MAX_AGE": null}'
    )
    with project.running("manage.py", "turnwise"), project.storage() as looked:
        eventually(lambda: _after(looked, 2, "housekeeping"), "it serves", 60)
        eventually(lambda: _after(looked, 2, "coroutine"), "coroutines, too", 60)
        eventually(lambda: looked.running() is None, "no run is open")
        assert _kill_all(project.url) >= 1, "turnwise has its connections"
        before = {name: len(looked.completed(name)) for name in ("housekeeping", "coroutine")}
        for name, count in before.items():
            eventually(partial(_after, looked, count + 2, name), "the services go on", 60)
        failed = [r for r in looked.runs() if r.reason.startswith("exception:")]

        (project.folder / "lose").touch()
        eventually((project.folder / "lost").exists, "the job has lost its connection", 60)
        count = len(looked.completed())
        eventually(lambda: _after(looked, count + 2, "housekeeping"), "it goes on", 60)
        reasons = [run.reason for run in looked.runs() if run not in failed]
    failures = [reason for reason in reasons if reason.startswith("exception:")]
    assert failures == ["exception:OperationalError"], "the one turn that it happened in"


@pytest.mark.faults
def test_a_job_leaves_no_connection_behind(tmp_path: Path) -> None:
    project = a_project(tmp_path, "postgresql")
    project.environment["DATABASE"] = project.environment["DATABASE"].replace(
        "}", ', "CONN_MAX_AGE": null}'
    )
    with project.running("manage.py", "turnwise"), project.storage() as looked:
        eventually(lambda: _after(looked, 4, "housekeeping"), "it serves", 60)
        eventually(lambda: _after(looked, 4, "coroutine"), "coroutines, too", 60)
        eventually(lambda: looked.running() is None, "no run is open")
        time.sleep(0.3)
        with psycopg.connect(project.url) as connection:
            [(count,)] = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name <> 'turnwise' AND pid <> pg_backend_pid()"
            ).fetchall()
    assert count <= 1, "a coroutine's, perhaps, which works now"


def test_a_project_needs_at_most_six_lines_beside_its_jobs() -> None:
    lines: list[str] = []
    for path in sorted(PROJECT.rglob("*.py")):
        text = path.read_text()
        if path.name not in {"asgi.py", "urls.py"}:  # another server's, and a probe's
            tree = ast.parse(text)
            shown = {n for node in ast.walk(tree) if isinstance(node, ast.Expr)
                     for n in range(node.lineno, (node.end_lineno or node.lineno) + 1)}  # fmt: skip
            lines += [
                f"{path.name}: {line}"
                for number, line in enumerate(text.splitlines(), 1)
                if "turnwise" in line.lower() and number not in shown and not _is_note(line)
            ]
    assert 3 <= len(lines) <= 6, lines
    jobs = ast.parse((PROJECT / "shop" / "jobs.py").read_text())
    functions = [n for n in jobs.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert len(functions) == 5


def _is_note(line: str) -> bool:
    return "#" in line and "turnwise" not in line.partition("#")[0].lower()
