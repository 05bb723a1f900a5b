"""Real processes by the calendar: a due instant of the day, and a deploy that changes the schedule.

Each process is ``turnwise run``; its command writes down when it begins and ends, for which due
instant, and in which attempt.
"""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from faults.scene import SLACK_SECONDS, Promised
from faults.storages import url_of, why_missing
from processes import COMMAND, environment, eventually
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cli.demo import count_overlaps
from turnwise.cycles import instant
from turnwise.gate import Execution
from turnwise.overview.known import runs_of
from turnwise.schedules import Schedule, parse_schedule
from turnwise.settings import Settings
from turnwise.storages.opening import open_storage

pytestmark = [
    pytest.mark.faults,
    pytest.mark.parametrize("storage", ["sqlite", "postgresql"]),
]

NAMES = ("alice", "bob", "carol")
SERVICE = "report"
PATIENCE_SECONDS = 60.0
WORK_SECONDS = 1.0
JOB = f"""
import os, time
def say(what):
    due, attempt = os.environ["TURNWISE_DUE"], os.environ["TURNWISE_ATTEMPT"]
    line = f"{{time.time()}} {{what}} {{os.environ['TURNWISE_RUNNER_ID']}} {{due}} {{attempt}}\\n"
    with open("said", "ab", buffering=0) as said:
        said.write(line.encode())
say("begin")
time.sleep({WORK_SECONDS})
say("end")
"""


@dataclass(frozen=True)
class Said:
    """A line that the job wrote."""

    at: float
    what: str
    runner_id: str
    due: datetime
    attempt: int


class Processes:
    """Processes of one service on one storage, in a folder."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, runner_id: str, settings: Settings) -> None:
        """Start a process that offers the service with these settings."""
        log = (self.folder / f"{runner_id}.log").open("wb")
        with log:
            self._started[runner_id] = subprocess.Popen(
                [
                    *(*COMMAND, "run", "--service", SERVICE, "--runner-id", runner_id),
                    *("--schedule", str(settings.schedule)),
                    *("--cycle", f"{settings.cycle.total_seconds()}s"),
                    *("--margin", f"{settings.spread_margin.total_seconds()}s"),
                    *("--heartbeat-timeout", f"{settings.heartbeat_timeout.total_seconds()}s"),
                    *("--", sys.executable, "-c", JOB),
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment(TURNWISE_STORAGE=self.url),
            )

    def send(self, runner_id: str, number: signal.Signals) -> None:
        """Send a process a signal."""
        self._started[runner_id].send_signal(number)

    def ended(self, runner_id: str) -> bool:
        """Whether a process has ended."""
        return self._started[runner_id].poll() is not None

    def said(self, what: str) -> list[Said]:
        """The lines of one kind, in order."""
        path = self.folder / "said"
        text = path.read_text() if path.exists() else ""
        words = [line.split() for line in text.splitlines()]
        return [
            Said(float(at), kind, who, datetime.fromisoformat(due), int(attempt))
            for at, kind, who, due, attempt in words
            if kind == what
        ]

    def runs(self) -> list[Execution]:
        """The runs that the storage keeps."""
        with closing(open_storage(self.url)) as storage:
            return runs_of(storage, "default", SERVICE)

    def members(self) -> int:
        """How many processes take part."""
        with closing(open_storage(self.url)) as storage:
            return sum(row.left_at is None for row in storage.runners("default"))

    def stop(self) -> None:
        """End them all."""
        for process in self._started.values():
            process.terminate()
        try:
            for runner_id, process in self._started.items():
                self._await_end(runner_id, process)
        finally:
            for process in self._started.values():
                process.kill()

    def _await_end(self, runner_id: str, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            status = Path(f"/proc/{process.pid}/status").read_text()
            signals = [line for line in status.splitlines() if line.startswith(("Sig", "Shd"))]
            log = (self.folder / f"{runner_id}.log").read_text()[-1000:]
            raise AssertionError(f"{runner_id} goes on after SIGTERM: {signals}\n{log}") from None


@pytest.fixture
def processes(storage: str, tmp_path: Path) -> Iterator[Processes]:
    reason = why_missing(storage)
    if reason is not None:
        pytest.skip(reason)
    made = Processes(url_of(storage, tmp_path), tmp_path)
    yield made
    made.stop()


def settings_of(schedule: Schedule, *, cycle: float, timeout: float) -> Settings:
    """Settings by their durations in seconds; what they promise is known then."""
    return Settings(
        schedule=schedule,
        cycle=timedelta(seconds=cycle),
        spread_margin=timedelta(seconds=0.2),
        heartbeat_timeout=timedelta(seconds=timeout),
    )


def until(condition: Callable[[], object], what: str) -> None:
    eventually(condition, what, PATIENCE_SECONDS)


def test_the_primary_of_a_daily_job_is_killed_in_its_turn_and_another_serves_the_day(
    processes: Processes,
) -> None:
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=30)
    daily = parse_schedule(f"cron {due:%-S %-M %-H} * * * UTC")
    assert daily.period_at(due).until - due == timedelta(days=1)
    settings = settings_of(daily, cycle=6, timeout=1.5)
    for name in NAMES:
        processes.start(name, settings)
    until(lambda: processes.members() == len(NAMES), "all take part")
    assert datetime.now(UTC) < due - settings.spread_margin, "the machine is too slow for this"

    until(lambda: processes.said("begin"), "the job begins")
    [first] = processes.said("begin")
    assert (first.due, first.attempt) == (due, 1)
    assert 0 <= first.at - due.timestamp() < SLACK_SECONDS
    processes.send(first.runner_id, signal.SIGKILL)
    killed_at = time.time()
    until(lambda: processes.said("end"), "the job is done")

    _, second = processes.said("begin")
    assert (second.due, second.attempt) == (due, 2)
    assert second.runner_id != first.runner_id
    promised = Promised.of(settings, len(NAMES)).after_kill
    assert second.at - killed_at <= promised + SLACK_SECONDS
    until(
        lambda: [run.status for run in processes.runs()] == [Status.ABANDONED, Status.COMPLETED],
        "the end is recorded",
    )
    time.sleep(settings.cycle.total_seconds())  # a cycle more: nobody does it once more
    assert len(processes.said("begin")) == len([first, second])


def test_a_deploy_that_changes_the_schedule_has_no_period_served_twice(
    processes: Processes,
) -> None:
    """From every three seconds to a cron of seconds, and back: old and new run side by side."""
    schedules = [parse_schedule(t) for t in ("every 3s", "cron */4 * * * * * UTC", "every 3s")]
    before: list[str] = []
    for number, schedule in enumerate(schedules):
        settings = settings_of(schedule, cycle=3, timeout=1)
        names = [f"{name}-{number}" for name in NAMES]
        for place, name in enumerate(names):
            processes.start(name, settings)
            until(partial(_takes_part, processes, name), f"{name} takes part")
            if before:
                processes.send(before[place], signal.SIGTERM)
        until(partial(_have_ended, processes, before), "the old ones have ended")
        enough = len(processes.said("end")) + 3
        until(partial(_are_served, processes, enough), "three periods are served")
        before = names
    processes.stop()

    completed = [run for run in processes.runs() if run.status is Status.COMPLETED]
    served = Counter(instant(run.due) for run in completed)
    assert set(served.values()) == {1}, served
    ends = Counter(line.due for line in processes.said("end"))
    assert set(ends.values()) == {1}, ends
    assert count_overlaps(processes.runs()) == 0
    old, new = schedules[0], schedules[1]
    for schedule, other in ((old, new), (new, old)):  # each of the two was served by its own
        assert any(
            schedule.period_at(due).due == due and other.period_at(due).due != due for due in served
        )


def _takes_part(processes: Processes, runner_id: str) -> bool:
    with closing(open_storage(processes.url)) as storage:
        rows = storage.offers("default")
    return any(row.offer.runner_id == runner_id for row in rows)


def _have_ended(processes: Processes, names: list[str]) -> bool:
    return all(map(processes.ended, names))


def _are_served(processes: Processes, count: int) -> bool:
    return len(processes.said("end")) >= count
