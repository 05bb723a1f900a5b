"""The web examples of the docs, in their servers: real workers, killed and ended."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from processes import PATIENCE_SECONDS, SERVICE, eventually
from servers import free_port
from storages import SHARED
from turnwise import Backend, open_backend
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.backends import ExecutionRecord
from turnwise.cli.demo import count_overlaps

ROOT = Path(__file__).parents[1]
WORKERS = 4


def _uvicorn(port: int) -> list[str]:
    bind = ("--host", "127.0.0.1", "--port", str(port), "--workers", str(WORKERS))
    return ["uvicorn", "web_witness:fastapi", *bind, "--timeout-graceful-shutdown", "15"]


def _gunicorn(port: int) -> list[str]:
    configuration = ROOT / "docs" / "examples" / "gunicorn_conf.py"
    return ["gunicorn", "-c", str(configuration), "-b", f"127.0.0.1:{port}", "web_witness:wsgi"]


class Web:
    """A web server with four workers, and what their runners left in the storage."""

    def __init__(self, process: "subprocess.Popen[bytes]", backend: Backend, port: int) -> None:
        self.process = process
        self.backend = backend
        self._port = port

    def runs(self) -> list[ExecutionRecord]:
        return [run for run in self.backend.executions(SERVICE) if run.fencing_token is not None]

    def completed(self) -> list[ExecutionRecord]:
        return [run for run in self.runs() if run.status is Status.COMPLETED]

    def running(self) -> ExecutionRecord | None:
        return next((run for run in self.runs() if run.status is Status.RUNNING), None)

    def runners(self) -> set[str]:
        """The ids of the runners that have not left."""
        return {r.runner_id for r in self.backend.runners(SERVICE) if r.left_at is None}

    def answers(self) -> str | None:
        """The runner of the worker that answers a request, None where none does."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/who", timeout=5) as reply:
                return str(json.load(reply)["runner"])
        except (urllib.error.URLError, ConnectionError):
            return None


@contextmanager
def served(command: Callable[[int], list[str]], url: str, folder: Path) -> Iterator[Web]:
    """A server that runs in a folder, and is gone afterwards with all its workers."""
    port = free_port()
    path = [str(ROOT / "docs" / "examples"), str(ROOT / "tests"), str(ROOT / "src")]
    environment = os.environ | {"TURNS": url, "PYTHONPATH": os.pathsep.join(path)}
    with closing(open_backend(url)) as backend, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command(port)],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield Web(process, backend, port)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE_SECONDS)


def _pid_of(runner_id: str) -> int:
    return int(runner_id.split("-")[-2])


@pytest.mark.parametrize(
    ("command", "storage"),
    [(_uvicorn, "sqlite-file"), (_gunicorn, "sqlite-file"), (_uvicorn, "postgresql")],
)
def test_one_worker_at_a_time_serves_and_a_killed_one_is_replaced(
    command: Callable[[int], list[str]], storage: str, tmp_path: Path
) -> None:
    with served(command, SHARED[storage](tmp_path), tmp_path) as web:
        eventually(lambda: len(web.runners()) == WORKERS, "every worker has its runner", 60)
        first = web.runners()
        eventually(lambda: len({r.runner_id for r in web.completed()}) >= 2, "two served", 60)
        assert eventually(web.answers, "a worker answers") in first

        victim = eventually(web.running, "a run is open")
        os.kill(_pid_of(victim.runner_id), signal.SIGKILL)
        before = len(web.completed())
        eventually(lambda: web.runners() - first, "the server started another worker", 60)
        eventually(lambda: len(web.completed()) >= before + 3, "the service goes on", 60)

        last = eventually(web.running, "a run is open")
        web.process.send_signal(signal.SIGTERM)
        web.process.wait(PATIENCE_SECONDS)
        ended = web.backend.execution(SERVICE, last.run_id)
        assert ended is not None
        assert ended.status is Status.COMPLETED, "a turn ends well within the grace time"
        assert web.running() is None
        assert web.runners() == {victim.runner_id}, "all but the killed one have left"
        runs = web.runs()

    assert not (tmp_path / "overlap").exists()
    assert count_overlaps(runs) == 0
    killed = next(run for run in runs if run.run_id == victim.run_id)
    assert (killed.status, killed.reason) == (Status.ABANDONED, "owner_dead")
    turns = [line.split() for line in (tmp_path / "turns").read_text().splitlines()]
    tokens = [int(token) for token, _ in turns]
    assert tokens == sorted(set(tokens))
    assert {int(pid) for _, pid in turns} <= {_pid_of(run.runner_id) for run in runs}


def test_a_runner_that_was_made_before_the_workers_were_forked_says_so(tmp_path: Path) -> None:
    (tmp_path / "preloaded.py").write_text(
        "from gunicorn_app import app, housekeeping\n"
        "housekeeping.start()\n"
        "def post_worker_init(worker):\n"
        "    housekeeping.runner.stop()\n"
    )
    options = ["-c", "preloaded.py", "--preload", "-w", "1", "-b", f"127.0.0.1:{free_port()}"]
    path = [str(ROOT / "docs" / "examples"), str(ROOT / "src"), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", *options, "preloaded:app"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "ForkError" in done.stderr
    assert "make it after the fork, in the process that uses it" in done.stderr
