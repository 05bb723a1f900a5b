"""Three real processes take turns on a real SQLite file, through a SIGKILL."""

import signal
import sys
from pathlib import Path

from processes import History, RunProcess, eventually
from turnwise.cli.demo import count_overlaps
from turnwise.cycles import SECOND

PERIOD = 3 * SECOND
OPTIONS = ("--every", "3s", "--margin", "50ms", "--heartbeat-timeout", "900ms")

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


def test_one_at_a_time_and_no_period_lost_when_the_holder_is_killed(tmp_path: Path) -> None:
    names = ("alice", "bob", "carol")
    command = [sys.executable, "-c", WITNESS]
    with History(tmp_path) as history:
        runners = {name: RunProcess(tmp_path, name, *OPTIONS, command=command) for name in names}
        try:
            eventually(lambda: len(history.completed()) >= 2, "two periods are served")
            victim = history.await_running()
            runners[victim.runner_id].send(signal.SIGKILL)
            eventually(lambda: len(history.completed()) >= 5, "five periods are served")
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

    killed = next(run for run in runs if run.id == victim.id)
    assert (str(killed.status), killed.reason) == ("abandoned", "owner_dead")
    dues = [run.due for run in completed]
    assert killed.due in dues, "a standby served the killed one's period"
    assert dues == [dues[0] + number * PERIOD for number in range(len(dues))]
    assert {run.runner_id for run in completed if run.started_at > killed.started_at} <= {
        name for name in names if name != victim.runner_id
    }
