"""Effects in the data are once per period, whenever a process is suspended or killed.

``EXACTLY_ONCE_TRIES=300`` tries each storage 300 times instead of a few. A try is a process that
was suspended, or killed, after the first write of its turn and before its commit was acknowledged.
With ``EXACTLY_ONCE_CONTROL=1`` the job neither fences nor completes, and the tests must fail.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from faults.committer import GROUP, SERVICE, TABLE, connect
from faults.participant import Line, Resource
from faults.storages import url_of, why_missing
from processes import eventually
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.gate import Execution
from turnwise.overview.known import runs_of
from turnwise.storages.opening import open_storage

pytestmark = pytest.mark.faults

TRIES = int(os.environ.get("EXACTLY_ONCE_TRIES", "5"))
PATIENCE_SECONDS = 60.0
TIMEOUT_SECONDS = 0.7
LONGEST_TURN_SECONDS = 0.1
NAMES = ("alice", "bob")
CHANCE = random.SystemRandom()


class Ordeal:
    """Two committers at one service, and what is done to them."""

    def __init__(self, url: str, folder: Path, *options: str) -> None:
        self.url, self._folder, self._options = url, folder, options
        with closing(connect(url)) as connection:
            connection.cursor().execute(TABLE)
            connection.cursor().execute("DELETE FROM effects")
            connection.commit()
        self.resource = Resource(folder / "resource")
        self.processes = {name: self._start(name) for name in NAMES}

    def _start(self, name: str) -> "subprocess.Popen[bytes]":
        command = [
            *(sys.executable, "-m", "faults.committer"),
            *("--storage", self.url),
            *("--resource", str(self._folder / "resource")),
            *("--runner-id", name),
            *self._options,
        ]
        path = os.pathsep.join(
            filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")))
        )
        with (self._folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=os.environ | {"PYTHONPATH": path},
            )

    def next_write(self, after: int) -> Line:
        """The first write of a turn with a token beyond ``after``; nothing of it is committed."""

        def found() -> Line | None:
            lines = self.resource.lines()
            writes = [each for each in lines if each.event in ("write", "refused")]
            return writes[-1] if writes and writes[-1].token > after else None

        return eventually(found, f"a write beyond token {after}", PATIENCE_SECONDS)

    def has_ended(self, token: int) -> bool:
        """Whether the commit of a turn was acknowledged, as its process says."""
        return any(line.event == "end" and line.token == token for line in self.resource.lines())

    def await_successor(self, token: int) -> None:
        """Wait until a turn has begun after another one."""

        def found() -> bool:
            lines = self.resource.lines()
            return any(line.event == "begin" and line.token > token for line in lines)

        eventually(found, f"a turn begins after token {token}", PATIENCE_SECONDS)

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a committer."""
        self.processes[name].send_signal(number)

    def restart(self, name: str) -> None:
        """A new process in the place of one that was killed."""
        self.processes[name].wait(PATIENCE_SECONDS)
        self.processes[name] = self._start(name)

    def stop(self) -> None:
        """End all in good order."""
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            process.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        """End all, whatever they do."""
        for process in self.processes.values():
            process.kill()
            process.wait()

    def effects(self) -> Counter[int]:
        """How often each period's effect is in the data."""
        with closing(connect(self.url)) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT due FROM effects")
            return Counter(int(row[0]) for row in cursor.fetchall())

    def runs(self) -> list[Execution]:
        """The admitted runs that the storage keeps."""
        with closing(open_storage(self.url)) as storage:
            return runs_of(storage, GROUP, SERVICE)

    def require_once(self) -> str:
        """Each period that counts as served has its effect once, and no other has one."""
        effects, runs = self.effects(), self.runs()
        served = Counter(run.due // 1_000_000 for run in runs if run.status is Status.COMPLETED)
        assert set(effects.values()) <= {1}, [due for due, count in effects.items() if count > 1]
        assert effects == served, (effects - served, served - effects)
        reasons = Counter(str(run.reason) or "completed" for run in runs)
        return f"{len(effects)} effects, once each; runs: {dict(reasons)}"


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def storage(request: pytest.FixtureRequest) -> str:
    missing = why_missing(request.param)
    if missing is not None:
        pytest.skip(missing)
    return str(request.param)


@pytest.fixture
def ordeal(storage: str, tmp_path: Path) -> Iterator[Ordeal]:
    options = ["--trusting"] if os.environ.get("EXACTLY_ONCE_CONTROL") else []
    made = Ordeal(url_of(storage, tmp_path), tmp_path, *options)
    yield made
    made.kill()


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{text}\n")


def test_a_process_that_is_suspended_between_its_first_write_and_its_commit_commits_once(
    ordeal: Ordeal, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a server a successor starts meanwhile; SQLite's one writer is held until SIGCONT."""
    tries = token = 0
    began = time.monotonic()
    while tries < TRIES:
        write = ordeal.next_write(token)
        token = write.token
        time.sleep(CHANCE.uniform(0, LONGEST_TURN_SECONDS))
        ordeal.send(write.runner_id, signal.SIGSTOP)
        try:
            if ordeal.has_ended(token):
                continue
            tries += 1
            if storage == "sqlite":
                time.sleep(CHANCE.uniform(1, 2) * TIMEOUT_SECONDS)
            else:
                ordeal.await_successor(token)
        finally:
            ordeal.send(write.runner_id, signal.SIGCONT)
        if storage == "sqlite":
            ordeal.await_successor(token)
    ordeal.stop()
    told = ordeal.require_once()
    took = time.monotonic() - began
    say(capsys, f"{storage}: {tries} suspended of {tries}: {told}; {took:.0f} s")


def test_a_process_that_is_killed_at_random_leaves_each_effect_once(
    ordeal: Ordeal, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tries = token = 0
    began = time.monotonic()
    while tries < TRIES:
        write = ordeal.next_write(token)
        token = write.token
        time.sleep(CHANCE.uniform(0, LONGEST_TURN_SECONDS))
        ordeal.send(write.runner_id, signal.SIGKILL)
        ordeal.restart(write.runner_id)
        tries += not ordeal.has_ended(token)
    ordeal.await_successor(token)
    ordeal.stop()
    told = ordeal.require_once()
    took = time.monotonic() - began
    say(capsys, f"{storage}: {tries} killed of {tries}: {told}; {took:.0f} s")
