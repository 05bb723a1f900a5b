"""Three real processes take turns on a real SQLite file, through a SIGKILL."""

import signal
import sys
from datetime import timedelta
from pathlib import Path

from processes import History, RunProcess, eventually
from turnwise.cli.demo import count_overlaps

CYCLE = timedelta(seconds=3)
OPTIONS = ("--interval", "3s", "--margin", "50ms", "--heartbeat-timeout", "900ms")

# The kernel's own witness: a lock that dies with its holder. Two at once, and one cannot get it.
WITNESS = """
import fcntl, os, pathlib, time
with open("lock", "w") as lock:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pathlib.Path("overlap").touch()
    with open("tokens", "a") as tokens:
        tokens.write(os.environ["TURNWISE_FENCING_TOKEN"] + "\\n")
    time.sleep(0.3)
"""


def test_one_at_a_time_and_no_cycle_lost_when_the_holder_is_killed(tmp_path: Path) -> None:
    names = ("alice", "bob", "carol")
    command = [sys.executable, "-c", WITNESS]
    with History(tmp_path) as history:
        runners = {name: RunProcess(tmp_path, name, *OPTIONS, command=command) for name in names}
        try:
            eventually(lambda: len(history.completed()) >= 2, "two cycles are served")
            victim = history.await_running()
            runners[victim.runner_id].send(signal.SIGKILL)
            eventually(lambda: len(history.completed()) >= 5, "five cycles are served")
        finally:
            for runner in runners.values():
                runner.process.terminate()
            for runner in runners.values():
                runner.wait()
        runs, completed = history.runs(), history.completed()

    assert not (tmp_path / "overlap").exists()
    assert count_overlaps(runs) == 0
    tokens = [int(token) for token in (tmp_path / "tokens").read_text().split()]
    assert tokens == sorted(set(tokens))

    killed = next(run for run in runs if run.run_id == victim.run_id)
    assert (str(killed.status), killed.reason) == ("abandoned", "owner_dead")
    cycles = [run.cycle_start for run in completed]
    assert killed.cycle_start in cycles, "a standby served the killed one's cycle"
    assert cycles == [cycles[0] + number * CYCLE for number in range(len(cycles))]
    assert {run.runner_id for run in completed if run.start_time > killed.start_time} <= {
        name for name in names if name != victim.runner_id
    }
