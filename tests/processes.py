"""Real ``turnwise`` processes for tests, and bounded waits on conditions."""

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from unittest import mock

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cli import main
from turnwise.gate import Execution
from turnwise.overview.known import runs_of
from turnwise.storages.sql import SqlStorage

COMMAND = [sys.executable, "-m", "turnwise.cli"]
PATIENCE_SECONDS = 60.0
SERVICE = "housekeeping"
GROUP = "default"

_T = TypeVar("_T")


def eventually(
    condition: Callable[[], _T | None], what: str, seconds: float = PATIENCE_SECONDS
) -> _T:
    """The first truthy answer of ``condition``; fails when there is none in time."""
    give_up = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < give_up, f"not within {seconds} s: {what}"
        time.sleep(0.01)
    return answer


def environment(**variables: str) -> dict[str, str]:
    """Our own, without what turnwise reads in it, and with some more."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TURNWISE_")}
    return kept | {"COLUMNS": "80"} | variables


def turnwise(
    *arguments: str, cwd: Path | None = None, stdin: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of turnwise to its end, in a terminal of 80 columns.

    Args:
        *arguments: the command and its arguments.
        cwd: the folder that it runs in.
        stdin: what it reads.
        **variables: of its environment.
    """
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
        input=stdin,
        env=environment(**variables),
    )


def turnwise_here(
    *arguments: str, cwd: Path | None = None, stdin: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """What :func:`turnwise` does, in this process, which is many times as fast.

    For what a command says and answers; its signals, its streams and what it leaves behind at its
    end are those of a process.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd or Path.cwd()),
        mock.patch.dict(os.environ, environment(**variables), clear=True),
        mock.patch("sys.stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        _nothing_left_behind(),
    ):
        status = main(list(arguments))
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def _nothing_left_behind() -> Iterator[None]:
    """Undo what a command changes in its process: log, signals, and imports from its folder."""
    logger = logging.getLogger("turnwise")
    handlers, level, path = logger.handlers[:], logger.level, sys.path[:]
    heard = {signum: signal.getsignal(signum) for signum in _SIGNALS}
    before = set(sys.modules)
    try:
        yield
    finally:
        logger.handlers[:], sys.path[:] = handlers, path
        logger.setLevel(level)
        for signum, handler in heard.items():
            signal.signal(signum, handler)
        here = str(Path.cwd())
        for name, module in list(sys.modules.items()):
            of_here = (getattr(module, "__file__", None) or "").startswith(here + os.sep)
            if of_here and name not in before and not name.startswith("turnwise"):
                del sys.modules[name]


def _mind_hang_ups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class RunProcess:
    """``turnwise run`` in a process of its own, on ``turns.db`` in a folder."""

    def __init__(
        self, folder: Path, runner_id: str, *options: str, command: list[str], **variables: str
    ) -> None:
        self.folder = folder
        self.runner_id = runner_id
        self._log = folder / f"{runner_id}.log"
        self._out = folder / f"{runner_id}.out"
        arguments = [
            *("--storage", f"sqlite:///{folder / 'turns.db'}"),
            *("--service", SERVICE),
            *("--runner-id", runner_id),
            *options,
        ]
        with self._log.open("wb") as log, self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [*COMMAND, "run", *arguments, "--", *command],
                stdout=out,
                stderr=log,
                cwd=folder,
                env=environment(**variables),
                # These tests may run under nohup, which would be inherited.
                preexec_fn=_mind_hang_ups,  # noqa: PLW1509 (it takes no lock)
            )

    @property
    def log(self) -> str:
        """All that it has written to stderr so far."""
        return self._log.read_text()

    @property
    def out(self) -> bytes:
        """All that it has written to stdout so far."""
        return self._out.read_bytes()

    def send(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    def wait(self) -> int:
        return self.process.wait(PATIENCE_SECONDS)

    def logs(self, text: str) -> None:
        """Wait until the log holds a text."""
        eventually(lambda: text in self.log, f"{text!r} in the log:\n{self.log}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(PATIENCE_SECONDS)


class History:
    """The runs in ``turns.db`` of a folder, as they come."""

    def __init__(self, folder: Path) -> None:
        self.storage = SqlStorage(f"sqlite:///{folder / 'turns.db'}")

    def runs(self) -> list[Execution]:
        """Every run that was admitted, in the order of their start."""
        return runs_of(self.storage, GROUP, SERVICE)

    def running(self) -> Execution | None:
        """The open run, where there is one."""
        return next((run for run in self.runs() if run.ended_at is None), None)

    def completed(self) -> list[Execution]:
        return [run for run in self.runs() if run.status is Status.COMPLETED]

    def await_running(self) -> Execution:
        return eventually(self.running, "a run is open")

    def await_ended(self, run_id: str | None = None) -> Execution:
        """Wait until a run has ended: the named one, or any."""

        def ended() -> Execution | None:
            for run in self.runs():
                if run.ended_at is not None and run_id in (None, run.id):
                    return run
            return None

        return eventually(ended, "a run has ended")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.storage.close()


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    state = _proc(pid, "stat").rpartition(b")")[2].split()
    return state[:1] not in ([], [b"Z"])


def command_line(pid: int) -> bytes:
    """What a process was started with, each argument with a null at its end; of none, nothing."""
    return _proc(pid, "cmdline")


def _proc(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        # The latter where it was buried between the opening of the file and its reading.
        return b""
