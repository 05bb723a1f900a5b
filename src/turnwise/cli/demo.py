"""``turnwise demo``: three processes take turns, one is killed in its turn, the next takes over."""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from turnwise.atomic_service import AtomicServiceExecutionStatus
from turnwise.backends import Backend, ExecutionRecord, open_backend
from turnwise.cli.errors import storage_as_input
from turnwise.cli.output import clock, console, literal, rounded
from turnwise.durations import format_duration
from turnwise.old_settings import Settings

_SERVICE = "demo"
_RUNNERS = 3
_CYCLE = timedelta(seconds=6)
_MARGIN = timedelta(milliseconds=200)
_HEARTBEAT_TIMEOUT = timedelta(milliseconds=1500)
_WORK_SECONDS = 1
_TURNS_BEFORE_THE_KILL = 2
_TURNS_IN_ALL = 4
_LONGEST_SECONDS = 36.0
_POLL_SECONDS = 0.05

_COMPLETED = AtomicServiceExecutionStatus.COMPLETED
_BLOCKED = AtomicServiceExecutionStatus.BLOCKED


def demo() -> int:
    """Watch three processes take turns on an SQLite file, and one die in its turn.

    Takes at most 40 seconds. Exit status 1 if any two executions overlapped, or none was served.
    """
    folder = Path(tempfile.mkdtemp(prefix="turnwise-demo-"))
    url = f"sqlite:///{folder / 'turns.db'}"
    with storage_as_input():
        storage = open_backend(url)
    console.print(
        f"{_RUNNERS} runners, one run in each cycle of {format_duration(_CYCLE)}; each run takes "
        f"{_WORK_SECONDS}s.\nIn the third turn its runner is killed with SIGKILL. "
        f"At most 40 seconds.\n"
    )
    try:
        with _runner_processes(url, folder) as processes:
            _Show(storage, processes).watch()
        return _summarise(storage.executions(_SERVICE))
    finally:
        console.print(literal(f"database and logs:      {folder}"), soft_wrap=True)
        storage.close()


@contextmanager
def _runner_processes(url: str, folder: Path) -> Iterator[dict[str, "subprocess.Popen[bytes]"]]:
    """Three ``turnwise run`` processes; their logs go to files beside the database."""
    processes = {}
    try:
        for number in range(1, _RUNNERS + 1):
            name = f"runner-{number}"
            with (folder / f"{name}.log").open("wb") as log:
                processes[name] = subprocess.Popen(  # noqa: S603 (our own command line)
                    _command(url, name), stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
        yield processes
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait()


def _command(url: str, name: str) -> list[str]:
    options = {
        "--backend": url,
        "--service": _SERVICE,
        "--runner-id": name,
        "--interval": format_duration(_CYCLE),
        "--margin": format_duration(_MARGIN),
        "--heartbeat-timeout": format_duration(_HEARTBEAT_TIMEOUT),
        "--grace": "2s",
    }
    flags = [part for option in options.items() for part in option]
    work = ["sleep", str(_WORK_SECONDS)]
    return [sys.executable, "-m", "turnwise.cli", "run", *flags, "--", *work]


@dataclass(slots=True)
class _Show:
    """Tells what happens as it happens, and does the killing."""

    storage: Backend
    processes: dict[str, "subprocess.Popen[bytes]"]
    told: dict[str, str] = field(default_factory=dict)
    killed: ExecutionRecord | None = None
    taken_over: bool = False

    def watch(self) -> None:
        """Until enough turns are served, or the time is up."""
        give_up = time.monotonic() + _LONGEST_SECONDS
        while time.monotonic() < give_up:
            records = self.storage.executions(_SERVICE)
            for record in records:
                self._tell(record)
            served = sum(record.status is _COMPLETED for record in records)
            if served >= _TURNS_IN_ALL:
                return
            if self.killed is None and served == _TURNS_BEFORE_THE_KILL:
                self._kill_holder(records)
            time.sleep(_POLL_SECONDS)

    def _tell(self, record: ExecutionRecord) -> None:
        if record.status is _BLOCKED or self.told.get(record.run_id) == record.status:
            return
        if record.run_id not in self.told:
            self._tell_start(record)
        if record.end_time is not None:
            took = rounded(record.end_time - record.start_time)
            how = f"ends: {record.status} {record.reason}".rstrip()
            _say(record, clock(record.end_time, record.start_time), f"{how} (after {took})")
        self.told[record.run_id] = record.status

    def _tell_start(self, record: ExecutionRecord) -> None:
        what = f"starts a turn, fencing token {record.fencing_token}"
        if self.killed is not None and not self.taken_over:
            self.taken_over = True
            what += f": takes over from {self.killed.runner_id}"
        _say(record, clock(record.start_time, record.start_time), what)

    def _kill_holder(self, records: tuple[ExecutionRecord, ...]) -> None:
        for record in records:
            if record.execution.is_active and record.runner_id in self.processes:
                self.processes[record.runner_id].send_signal(signal.SIGKILL)
                self.killed = record
                now = self.storage.peek(_SERVICE, Settings()).now
                _say(record, clock(now, record.start_time), "is killed in its turn (SIGKILL)")


def _say(record: ExecutionRecord, when: str, what: str) -> None:
    style = "red" if "kill" in what else ("bold" if "takes over" in what else "")
    console.print(literal(f"{when}  {record.runner_id}  {what}"), style=style)


def _summarise(records: tuple[ExecutionRecord, ...]) -> int:
    runs = [record for record in records if record.status is not _BLOCKED]
    served = [record for record in runs if record.status is _COMPLETED]
    overlaps = count_overlaps(runs)
    gaps = [later.start_time - earlier.start_time for earlier, later in pairwise(served)]
    console.print(
        f"\nturns served:           {len(served)}\n"
        f"cycles missed:          {_count_missed(served)}\n"
        f"longest gap:            {rounded(max(gaps)) if gaps else 'none'} from start to start\n"
        f"overlapping executions: {overlaps}"
    )
    if not served:
        console.print("no turn was served: the logs say why", style="bold red")
    return 1 if overlaps or not served else 0


def count_overlaps(runs: list[ExecutionRecord]) -> int:
    """How many executions began before an earlier one had ended, by the history."""
    overlaps = 0
    ordered = sorted(runs, key=lambda record: (record.start_time, record.fencing_token or 0))
    for index, record in enumerate(ordered):
        overlaps += any(
            earlier.end_time is None or record.start_time < earlier.end_time
            for earlier in ordered[:index]
        )
    return overlaps


def _count_missed(served: list[ExecutionRecord]) -> int:
    cycles = {record.cycle_start for record in served}
    if not cycles:
        return 0
    return (max(cycles) - min(cycles)) // _CYCLE + 1 - len(cycles)
