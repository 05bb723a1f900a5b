"""``turnwise demo``: three processes take turns, one is killed in its turn, the next takes over."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cli.errors import storage_as_input
from turnwise.cli.output import clock, console, literal, rounded
from turnwise.cycles import duration, microseconds
from turnwise.durations import format_duration
from turnwise.gate import Execution
from turnwise.overview.known import runs_of
from turnwise.storages import Storage
from turnwise.storages.opening import URL_VARIABLE, open_storage

_GROUP = "demo"
_SERVICE = "demo"
_RUNNERS = 3
_PERIOD = timedelta(seconds=6)
_MARGIN = timedelta(milliseconds=200)
_HEARTBEAT_TIMEOUT = timedelta(milliseconds=1500)
_WORK_SECONDS = 1
_TURNS_BEFORE_THE_KILL = 2
_TURNS_IN_ALL = 4
_LONGEST_SECONDS = 36.0
_POLL_SECONDS = 0.05


def demo() -> int:
    """Watch three processes take turns on an SQLite file, and one die in its run.

    Takes at most 40 seconds, and writes to a new folder under the system's temporary one. Exit
    status 1 if any two runs overlapped, or none was completed.
    """
    folder = Path(tempfile.mkdtemp(prefix="turnwise-demo-"))
    url = f"sqlite:///{folder / 'turns.db'}"
    with storage_as_input():
        storage = open_storage(url)
    console.print(
        f"{_RUNNERS} runners, one run every {format_duration(_PERIOD)}; each run takes "
        f"{_WORK_SECONDS}s.\nIn the third run its runner is killed with SIGKILL. "
        f"At most 40 seconds.\n"
    )
    try:
        with _runner_processes(url, folder) as processes:
            _Show(storage, processes).watch()
        return _summarise(runs_of(storage, _GROUP, _SERVICE))
    finally:
        console.print(literal(f"database and logs:        {folder}"), soft_wrap=True)
        storage.close()


@contextmanager
def _runner_processes(url: str, folder: Path) -> Iterator[dict[str, "subprocess.Popen[bytes]"]]:
    """Three ``turnwise run`` processes; their logs go to files beside the database."""
    processes = {}
    others = {name: text for name, text in os.environ.items() if not name.startswith("TURNWISE_")}
    try:
        for number in range(1, _RUNNERS + 1):
            name = f"runner-{number}"
            with (folder / f"{name}.log").open("wb") as log:
                processes[name] = subprocess.Popen(  # noqa: S603 (our own command line)
                    _command(name),
                    env=others | {URL_VARIABLE: url},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        yield processes
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait()


def _command(name: str) -> list[str]:
    options = {
        "--group": _GROUP,
        "--service": _SERVICE,
        "--runner-id": name,
        "--every": format_duration(_PERIOD),
        "--margin": format_duration(_MARGIN),
        "--heartbeat-timeout": format_duration(_HEARTBEAT_TIMEOUT),
        "--grace": "2s",
        "--log-format": "text",
    }
    flags = [part for option in options.items() for part in option]
    work = ["sleep", str(_WORK_SECONDS)]
    return [sys.executable, "-m", "turnwise.cli", "run", *flags, "--", *work]


@dataclass(slots=True)
class _Show:
    """Tells what happens as it happens, and does the killing."""

    storage: Storage
    processes: dict[str, "subprocess.Popen[bytes]"]
    told: dict[str, Status] = field(default_factory=dict)
    killed: Execution | None = None
    taken_over: bool = False

    def watch(self) -> None:
        """Until enough turns are served, or the time is up."""
        give_up = time.monotonic() + _LONGEST_SECONDS
        while time.monotonic() < give_up:
            runs = runs_of(self.storage, _GROUP, _SERVICE)
            for run in runs:
                self._tell(run)
            served = sum(run.status is Status.COMPLETED for run in runs)
            if served >= _TURNS_IN_ALL:
                return
            if self.killed is None and served == _TURNS_BEFORE_THE_KILL:
                self._kill_holder(runs)
            time.sleep(_POLL_SECONDS)

    def _tell(self, run: Execution) -> None:
        if self.told.get(run.id) is run.status:
            return
        if run.id not in self.told:
            self._tell_start(run)
        if run.ended_at is not None:
            took = rounded(duration(run.ended_at - run.started_at))
            how = f"ends: {run.status} {run.reason}".rstrip()
            _say(run, run.ended_at, f"{how} (after {took})")
        self.told[run.id] = run.status

    def _tell_start(self, run: Execution) -> None:
        what = f"starts a run, fencing token {run.token}"
        if self.killed is not None and not self.taken_over:
            self.taken_over = True
            what += f": takes over from {self.killed.runner_id}"
        _say(run, run.started_at, what)

    def _kill_holder(self, runs: Sequence[Execution]) -> None:
        for run in runs:
            if run.ended_at is None and run.runner_id in self.processes:
                self.processes[run.runner_id].send_signal(signal.SIGKILL)
                self.killed = run
                now = self.storage.read(_GROUP, ()).now
                _say(run, now, "is killed in its run (SIGKILL)")


def _order(run: Execution) -> tuple[int, int]:
    return run.started_at, run.token or 0


def _say(run: Execution, at: int, what: str) -> None:
    style = "red" if "kill" in what else ("bold" if "takes over" in what else "")
    when = clock(at, run.started_at)
    console.print(literal(f"{when}  {run.runner_id}  {what}"), style=style)


def _summarise(runs: Sequence[Execution]) -> int:
    served = [run for run in runs if run.status is Status.COMPLETED]
    overlaps = count_overlaps(runs)
    gaps = [later.started_at - earlier.started_at for earlier, later in pairwise(served)]
    longest = rounded(duration(max(gaps))) if gaps else "none"
    console.print(
        f"\nruns that were completed: {len(served)}\n"
        f"due instants missed:      {_count_missed(served)}\n"
        f"longest gap:              {longest} from start to start\n"
        f"overlapping runs:         {overlaps}"
    )
    if not served:
        console.print("no run was completed: the logs say why", style="bold red")
    return 1 if overlaps or not served else 0


def count_overlaps(runs: Sequence[Execution]) -> int:
    """How many executions began before an earlier one had ended, by the history."""
    overlaps = 0
    ordered = sorted(runs, key=_order)
    for index, run in enumerate(ordered):
        overlaps += any(
            earlier.ended_at is None or run.started_at < earlier.ended_at
            for earlier in ordered[:index]
        )
    return overlaps


def _count_missed(served: Sequence[Execution]) -> int:
    dues = {run.due for run in served}
    if not dues:
        return 0
    return (max(dues) - min(dues)) // microseconds(_PERIOD) + 1 - len(dues)
