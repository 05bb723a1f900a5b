"""Real processes on a real file: killed, suspended, and never two at once."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path

from live import eventually, runs_of
from turnwise.gate import Execution
from turnwise.storages import Storage
from turnwise.storages.opening import open_storage

# The kernel's own witness: a lock that dies with its holder. Two at once, and one cannot get it.
PROGRAM = """
import fcntl, logging, os, pathlib, sys, time
from turnwise.errors import TurnLostError
from turnwise.scheduler import Scheduler

logging.basicConfig(level="INFO")
scheduler = Scheduler(sys.argv[1], runner_id=sys.argv[2])

@scheduler.every("3s", spread_margin="50ms", heartbeat_timeout="900ms")
def job(turn):
    with open("lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with open("overlap", "a") as overlap:
                overlap.write(f"{turn.fencing_token}\\n")
        with open("turns", "a") as turns:
            turns.write(f"{turn.fencing_token} {turn.runner_id}\\n")
        time.sleep(0.4)
    try:
        turn.check()
    except TurnLostError:
        pathlib.Path("lost").touch()
        raise

scheduler.run()
"""
NAMES = ("alice", "bob", "carol")


class Processes:
    """Three processes that serve one job every three seconds."""

    def __init__(self, folder: Path, storage: Storage, url: str, stack: ExitStack) -> None:
        self._folder, self._storage = folder, storage
        self._of = {name: self._started(folder, name, url, stack) for name in NAMES}

    def _started(
        self, folder: Path, name: str, url: str, stack: ExitStack
    ) -> "subprocess.Popen[bytes]":
        log = stack.enter_context((folder / f"{name}.log").open("wb"))
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, url, name], cwd=folder, stdout=log, stderr=log
        )

    def send(self, name: str, number: signal.Signals) -> None:
        self._of[name].send_signal(number)

    def end(self) -> None:
        for process in self._of.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self._of.values():
            process.wait(30)

    def runs(self) -> list[Execution]:
        return runs_of(self._storage, "job")

    def completed(self) -> list[Execution]:
        return [run for run in self.runs() if run.status.value == "completed"]

    def at_work(self) -> Execution | None:
        """The open run whose function has begun."""
        turns = self._folder / "turns"
        begun = turns.read_text() if turns.exists() else ""
        return next(
            (run for run in self.runs() if run.ended_at is None and f"{run.token} " in begun), None
        )


@contextmanager
def running(folder: Path) -> Iterator[Processes]:
    url = f"sqlite:///{folder / 'turns.db'}"
    with ExitStack() as stack:
        storage = stack.enter_context(closing(open_storage(url)))
        processes = Processes(folder, storage, url, stack)
        stack.callback(processes.end)
        yield processes


def test_a_killed_and_a_suspended_process_are_replaced_within_their_period(tmp_path: Path) -> None:
    with running(tmp_path) as processes:
        killed = eventually(processes.at_work, "a run is open")
        processes.send(killed.runner_id, signal.SIGKILL)
        eventually(processes.completed, "another one has served the period")
        suspended = eventually(processes.at_work, "a run is open")
        processes.send(suspended.runner_id, signal.SIGSTOP)
        eventually(lambda: len(processes.completed()) >= 2, "the third one has served the period")
        processes.send(suspended.runner_id, signal.SIGCONT)
        eventually((tmp_path / "lost").exists, "it finds its turn lost")
        processes.end()
        runs = processes.runs()

    for victim in (killed, suspended):
        run = next(run for run in runs if run.id == victim.id)
        assert (run.status.value, run.reason) == ("abandoned", "owner_dead")
    dues = [run.due for run in runs if run.status.value == "completed"]
    assert dues[:2] == [killed.due, suspended.due] == [dues[0], dues[0] + 3_000_000]
    assert len(dues) == len(set(dues)), "none is served twice"
    tokens = [int(line.split()[0]) for line in (tmp_path / "turns").read_text().splitlines()]
    assert tokens == sorted(set(tokens))
    # A process that is suspended keeps its lock; its successor finds that, and nobody else.
    assert (tmp_path / "overlap").read_text().split() == [str((suspended.token or 0) + 1)]
    for before, after in pairwise(runs):
        assert before.ended_at is not None
        assert before.ended_at <= after.started_at
