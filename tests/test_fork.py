"""A scheduler and forks: before its start, after it, and within a function."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
import os, sys
sys.path.insert(0, sys.argv[1])
from live import Heard, due, ends_of, eventually
from turnwise.errors import ForkError
from turnwise.events import RunnerJoined, TurnEnded, TurnStarted
from turnwise.scheduler import Scheduler
from turnwise.storages.opening import open_storage
heard = Heard()
def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def ran(program: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """A program in a process of its own: a fork copies one thread, and pytest may have others."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HEAD + program, str(Path(__file__).parent)]
        + [str(each) for each in arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_scheduler_that_was_made_before_a_fork_and_started_after_it_works_in_both(
    tmp_path: Path,
) -> None:
    done = ran(
        """
scheduler = Scheduler(sys.argv[2], observers=(heard,))
scheduler.add(lambda: None, "every 1h", name="job")
child = os.fork()
scheduler.start()
heard.wait_for(RunnerJoined)
print(scheduler.runner_id, scheduler.stop(5), flush=True)
if child:
    print(ended(child))
""",
        f"sqlite:///{tmp_path / 'turns.db'}",
    )
    *runners, status = done.stdout.splitlines()
    assert status == "0", done.stderr
    ids = {line.split()[0] for line in runners}
    assert len(ids) == 2, "an id that is the process's own is made after the fork"
    assert [line.split()[1] for line in runners] == ["True", "True"]


def test_started_before_a_fork_a_scheduler_refuses_the_child_and_goes_on_in_the_parent() -> None:
    done = ran("""
storage = due()
scheduler = Scheduler(storage, runner_id="a", observers=(heard,))
scheduler.add(lambda: None, "every 1m", name="job")
scheduler.add(None, "every 1m", name="mine")
scheduler.start()
child = os.fork()
if child == 0:
    refused = []
    uses = [scheduler.start, scheduler.stop, scheduler.health, scheduler.run]
    uses.append(lambda: scheduler.turn("mine").__enter__())
    uses.append(lambda: scheduler.add(print, "every 1m"))
    uses.append(lambda: scheduler.every("1m")(print))
    uses.append(lambda: scheduler.change(print, "every 2m", name="job"))
    uses.append(lambda: scheduler.remove("job"))
    for use in uses:
        try:
            use()
        except ForkError as error:
            refused.append(str(error))
    assert all("make it after the fork" in text for text in refused), refused
    os._exit(len(refused))
assert ended(child) == 9
heard.wait_for(TurnEnded)
print(scheduler.stop(5), ends_of(storage, "job"))
""")
    assert done.stdout == "True [('completed', '')]\n", done.stderr


def test_a_storage_that_was_opened_before_a_fork_is_refused_at_the_start(tmp_path: Path) -> None:
    done = ran(
        """
storage = open_storage(sys.argv[2])
scheduler = Scheduler(storage, runner_id="a")
scheduler.add(print, "every 1m")
child = os.fork()
if child == 0:
    try:
        scheduler.start()
    except ForkError:
        os._exit(7)
    os._exit(1)
print(ended(child))
""",
        f"sqlite:///{tmp_path / 'turns.db'}",
    )
    assert done.stdout == "7\n", done.stderr


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize(
    ("ending", "status"), [("sys.exit(3)", 3), ("raise ValueError('no')", 1), ("return", 0)]
)
def test_a_fork_within_a_function_ends_the_child_alone_and_the_parent_records_its_turn_once(
    kind: str, ending: str, status: int
) -> None:
    done = ran(f"""
storage = due()
scheduler = Scheduler(storage, runner_id="a", observers=(heard,))
statuses = []
@scheduler.every("1m")
{kind} job(turn):
    child = os.fork()
    if child == 0:
        {ending}
    statuses.append(ended(child))
with scheduler:
    heard.wait_for(TurnEnded)
print(statuses, ends_of(storage, "job"))
""")
    assert done.stdout == f"[{status}] [('completed', '')]\n", done.stderr
    assert ("ValueError: no" in done.stderr) == (status == 1)
