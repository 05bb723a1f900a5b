"""The web examples of the docs, in their servers: real workers, killed and ended."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

import servers
from live import eventually, runs_of
from opened import _FRESH, without_rows
from servers import free_port
from turnwise import Controls, Scheduler, StorageError
from turnwise.gate import Execution
from turnwise.storages import Storage
from turnwise.storages.opening import open_storage

ROOT = Path(__file__).parents[1]
WORKERS = 4
PATIENCE_SECONDS = 60.0


def _uvicorn(port: int) -> list[str]:
    bind = ("--host", "127.0.0.1", "--port", str(port), "--workers", str(WORKERS))
    return ["uvicorn", "web_witness:fastapi", *bind, "--timeout-graceful-shutdown", "15"]


def _gunicorn(port: int) -> list[str]:
    configuration = ROOT / "docs" / "examples" / "gunicorn_conf.py"
    return ["gunicorn", "-c", str(configuration), "-b", f"127.0.0.1:{port}", "web_witness:wsgi"]


def _gunicorn_preloaded(port: int) -> list[str]:
    return [*_gunicorn(port), "--preload"]


def _flask(port: int) -> list[str]:
    configuration = ROOT / "docs" / "examples" / "flask_conf.py"
    return ["gunicorn", "-c", str(configuration), "-b", f"127.0.0.1:{port}", "web_witness:flask"]


def _flask_preloaded(port: int) -> list[str]:
    return [*_flask(port), "--preload"]


class Web:
    """A web server, and what its workers left in the storage."""

    def __init__(self, process: "subprocess.Popen[bytes]", storage: Storage, port: int) -> None:
        self.process, self.storage, self._port = process, storage, port

    def runs(self) -> list[Execution]:
        return runs_of(self.storage, "housekeeping")

    def completed(self) -> list[Execution]:
        return [run for run in self.runs() if run.status.value == "completed"]

    def running(self) -> Execution | None:
        return next((run for run in self.runs() if run.ended_at is None), None)

    def runners(self) -> set[str]:
        """The ids of the runners that have not left."""
        return {row.runner_id for row in self.storage.runners("default") if row.left_at is None}

    def text(self, path: str) -> str:
        """A page, as it is."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as reply:
            return str(reply.read().decode())

    def get(self, path: str) -> dict[str, object] | None:
        """What a worker answers, None where none does."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as reply:
                return dict(json.load(reply))
        except (urllib.error.URLError, ConnectionError):
            return None


@contextmanager
def served(
    command: Callable[[int], Sequence[str]], url: str, folder: Path, **environment: str
) -> Iterator[Web]:
    """A server that runs in a folder, and is gone afterwards with all its workers."""
    port = free_port()
    path = [str(ROOT / "docs" / "examples"), str(ROOT / "tests"), str(ROOT / "src")]
    variables = {"TURNWISE_STORAGE": url, "PYTHONPATH": os.pathsep.join(path)} | environment
    with closing(open_storage(url)) as storage, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command(port)],
            cwd=folder,
            env=os.environ | variables,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield Web(process, storage, port)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE_SECONDS)


def _pid_of(runner_id: str) -> int:
    return int(runner_id.split("-")[-2])


@pytest.mark.parametrize(
    ("command", "storage"),
    [
        (_uvicorn, "sqlite-file"),
        pytest.param(_gunicorn, "sqlite-file", marks=pytest.mark.faults),
        pytest.param(_gunicorn_preloaded, "sqlite-file", marks=pytest.mark.faults),
        pytest.param(_uvicorn, "postgresql", marks=pytest.mark.faults),
        pytest.param(_flask, "sqlite-file", marks=pytest.mark.faults),
        pytest.param(_flask_preloaded, "postgresql", marks=pytest.mark.faults),
    ],
)
def test_one_worker_at_a_time_serves_and_a_killed_one_is_replaced(
    command: Callable[[int], list[str]], storage: str, tmp_path: Path
) -> None:
    with served(command, _FRESH[storage][1](tmp_path), tmp_path) as web:
        eventually(lambda: len(web.runners()) == WORKERS, "every worker has joined", 60)
        first = web.runners()
        eventually(lambda: len({r.runner_id for r in web.completed()}) >= 2, "two served", 60)
        answer = eventually(lambda: web.get("/who"), "a worker answers")
        assert answer["runner"] in first

        victim = eventually(web.running, "a run is open")
        os.kill(_pid_of(victim.runner_id), signal.SIGKILL)
        before = len(web.completed())
        eventually(lambda: web.runners() - first, "the server started another worker", 60)
        eventually(lambda: len(web.completed()) >= before + 2, "the service goes on", 60)

        last = eventually(web.running, "a run is open")
        web.process.send_signal(signal.SIGTERM)
        web.process.wait(PATIENCE_SECONDS)
        ended = next(run for run in web.runs() if run.id == last.id)
        assert ended.status.value == "completed", "a turn ends well within the grace time"
        assert web.running() is None
        assert web.runners() == {victim.runner_id}, "all but the killed one have left"
        runs = web.runs()

    assert not (tmp_path / "overlap").exists()
    for one, other in pairwise(runs):
        assert one.ended_at is not None
        assert one.ended_at <= other.started_at
    killed = next(run for run in runs if run.id == victim.id)
    assert (killed.status.value, killed.reason) == ("abandoned", "owner_dead")
    turns = [line.split() for line in (tmp_path / "turns").read_text().splitlines()]
    tokens = [int(token) for token, _ in turns]
    assert tokens == sorted(set(tokens))
    assert {int(pid) for _, pid in turns} <= {_pid_of(run.runner_id) for run in runs}


def _one(program: str) -> Callable[[int], list[str]]:
    """One worker of a program."""
    return lambda port: ["uvicorn", program, "--host", "127.0.0.1", "--port", str(port)]


def test_an_idle_worker_is_well_and_ends_within_a_second(tmp_path: Path) -> None:
    """Of three, as other processes may hold one up."""
    took: list[float] = []
    for folder in (tmp_path / "first", tmp_path / "second", tmp_path / "third"):
        folder.mkdir()
        took.append(_seconds_to_the_end_of_an_idle_worker(folder))
        if took[-1] < 1:
            return
    pytest.fail(f"an idle worker has taken {took} seconds to its end")


def _seconds_to_the_end_of_an_idle_worker(folder: Path) -> float:
    with served(_one("fastapi_app:app"), f"sqlite:///{folder / 'turns.db'}", folder) as web:
        eventually(lambda: web.get("/health") == {"is_well": True}, "it is well")
        began = time.monotonic()
        web.process.send_signal(signal.SIGTERM)
        web.process.wait(PATIENCE_SECONDS)
        took = time.monotonic() - began
        assert web.runners() == set()
    return took


def test_five_jobs_are_served_by_a_program_that_has_at_most_twelve_lines_beside_them(
    tmp_path: Path,
) -> None:
    text = (ROOT / "docs" / "examples" / "fastapi_jobs.py").read_text()
    tree = ast.parse(text)
    jobs = [each for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    others = [each for each in tree.body if each not in jobs and not _is_text(each)]
    beside = sum(_lines(each) for each in others) + sum(len(job.decorator_list) for job in jobs)
    assert len(jobs) == 5
    assert all(_lines(decorator) == 1 for job in jobs for decorator in job.decorator_list)
    assert 5 < beside <= 12

    url = f"sqlite:///{tmp_path / 'turns.db'}"
    with served(_one("fastapi_jobs:app"), url, tmp_path) as web:
        eventually(lambda: len(web.runners()) == 1, "it has joined")
        names = {job.name for job in jobs}
        eventually(
            lambda: {row.offer.service for row in web.storage.offers("default")} == names,
            "all five are offered",
        )
        Controls(web.storage).trigger("refresh_prices")
        eventually(lambda: runs_of(web.storage, "refresh_prices"), "a job runs", 60)
        web.process.send_signal(signal.SIGTERM)
        web.process.wait(PATIENCE_SECONDS)
        assert web.runners() == set()


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _lines(node: ast.stmt | ast.expr) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_a_programs_pool_its_jobs_and_the_page_of_them_are_in_one_database(tmp_path: Path) -> None:
    url = without_rows(servers.postgres())
    driver = url.replace("postgresql:", "postgresql+psycopg:", 1)
    with served(_one("fastapi_pool:app"), url, tmp_path, DATABASE=driver) as web:
        assert eventually(lambda: web.get("/"), "it answers") == {"one": 1}
        Controls(web.storage).trigger("tidy_up")
        eventually(lambda: runs_of(web.storage, "tidy_up"), "the job runs", 60)
        assert "tidy_up" in web.text("/jobs/")
        eventually(
            # Where a due instant has just passed, there is one more run.
            lambda: {run.status.value for run in runs_of(web.storage, "tidy_up")} == {"completed"},
            "it ends well",
        )
        web.process.send_signal(signal.SIGTERM)
        web.process.wait(PATIENCE_SECONDS)
        assert web.runners() == set()
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log, log


def test_a_start_that_fails_ends_the_server_with_its_reason(tmp_path: Path) -> None:
    """Of the two lifespans for ASGI that there are, the one for applications without their own."""
    (tmp_path / "failing.py").write_text(
        "from turnwise import Scheduler\n"
        "from turnwise.contrib.asgi import serving\n"
        "async def app(scope, receive, send): ...\n"
        "app = serving(app, Scheduler('nothing://at.all'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "failing:app", "--port", str(free_port())],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(tmp_path)))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert "no storage has the scheme 'nothing'" in done.stderr


@pytest.mark.parametrize("framework", ["celery", "django"])
def test_a_framework_that_is_not_installed_is_named_with_its_extra(framework: str) -> None:
    program = f"import sys; sys.modules[{framework!r}] = None; import turnwise.contrib.{framework}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert f"pip install 'turnwise[{framework}]'" in done.stderr


def test_a_scheduler_opens_its_storage_by_a_function_and_closes_it(tmp_path: Path) -> None:
    """Again and again while it does not answer, and not before it starts."""
    tries: list[Storage] = []

    def opened() -> Storage:
        tries.append(open_storage(f"sqlite:///{tmp_path / 'no' / 'turns.db'}"))
        return tries[-1]

    scheduler = Scheduler(opened)
    scheduler.add(lambda: None, "every 1m", name="job")
    assert tries == []
    with scheduler:
        (tmp_path / "no").mkdir()
        eventually(lambda: tries and scheduler.health().is_well, "it is well")
    with pytest.raises(StorageError, match="closed"):
        tries[-1].read("default", ())


def test_a_scheduler_that_was_started_before_the_workers_were_forked_says_so(
    tmp_path: Path,
) -> None:
    (tmp_path / "preloaded.py").write_text(
        "from gunicorn_app import app, scheduler\nscheduler.start()\n"
    )
    (tmp_path / "conf.py").write_text(
        "def post_worker_init(worker):\n"
        "    from gunicorn_app import scheduler\n"
        "    scheduler.stop()\n"
    )
    options = ["-c", "conf.py", "--preload", "-w", "1", "-b", f"127.0.0.1:{free_port()}"]
    path = [str(ROOT / "docs" / "examples"), str(ROOT / "src"), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", *options, "preloaded:app"],
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(path), "TURNWISE_STORAGE": "sqlite:///turns.db"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "ForkError" in done.stderr
    assert "make it after the fork, in the process that uses it" in done.stderr


def _pool(port: int) -> list[str]:
    bind = ("--host", "127.0.0.1", "--port", str(port), "--workers", str(WORKERS))
    return ["uvicorn", "web_pool:app", *bind]


def _counts_of_workers(web: Web) -> dict[int, dict[str, int]] | None:
    """What each worker says of itself, where all of them have said it."""
    said: dict[int, dict[str, int]] = {}
    for _ in range(50):
        answer = web.get("/") or {}
        counts = {name: int(str(value)) for name, value in answer.items()}
        said[counts.pop("pid", 0)] = counts
    said.pop(0, None)
    return said if len(said) == WORKERS else None


def _jobs(web: Web) -> list[Execution]:
    runs = [run for number in range(5) for run in runs_of(web.storage, f"job {number}")]
    return [run for run in runs if run.status.value == "completed"]


def test_requests_and_jobs_share_each_workers_pool_and_a_killed_worker_disturbs_no_other(
    tmp_path: Path,
) -> None:
    """Four workers; one is killed among a thousand requests, while jobs run beside them."""
    clients = 8
    url = without_rows(servers.postgres())
    driver = url.replace("postgresql:", "postgresql+psycopg:", 1)
    with served(_pool, url, tmp_path, DATABASE=driver) as web:
        eventually(lambda: len(web.runners()) == WORKERS, "every worker has joined", 60)
        first = web.runners()
        victim = min(first)
        eventually(lambda: _jobs(web), "a job has run", 60)

        def ask(number: int) -> object:
            if number == 300:
                os.kill(_pid_of(victim), signal.SIGKILL)
            return web.get("/")

        with ThreadPoolExecutor(clients) as pool:
            answers = list(pool.map(ask, range(1000)))
        assert answers.count(None) <= clients, "those alone that the killed worker was at"

        eventually(lambda: web.runners() - first, "the server started another worker", 60)
        before = len(_jobs(web))
        eventually(lambda: len(_jobs(web)) >= before + 10, "jobs go on", 60)
        workers = eventually(lambda: _counts_of_workers(web), "each worker answers", 60)
        assert {worker: counts["failed"] for worker, counts in workers.items()} == dict.fromkeys(
            workers, 0
        )
        assert sum(counts["jobs"] for counts in workers.values()) >= 10
        web.process.send_signal(signal.SIGTERM)
        web.process.wait(PATIENCE_SECONDS)
        assert web.runners() == {victim}, "all but the killed one have left"
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log, log
