"""What was made before a fork says so in the child, and goes on in the parent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storages import SHARED
from turnwise import ForkError, Runner, open_backend
from turnwise.own_process import OwnProcess

# In a process of its own: a fork copies one thread, and pytest may have others.
PROGRAM = """
import gc, os, sys
from turnwise import ForkError, Runner, Settings, open_backend
from turnwise.backends import Participant

backend = open_backend(sys.argv[1])
who = Participant("parent", "boot")
backend.heartbeat("s", who, Settings())
runner = Runner(backend, "s", lambda turn: None)
child = os.fork()
if child == 0:
    refused = []
    for use in (
        lambda: backend.heartbeat("s", who, Settings()),
        lambda: backend.executions("s"),
        lambda: backend.publish_settings("s", Settings()),
        runner.run, runner.start, runner.stop, runner.begin,
    ):
        try:
            use()
        except ForkError as error:
            refused.append(str(error))
    backend.close()
    del backend, runner
    gc.collect()
    sys.stdout.write("\\n".join(refused))
    sys.stdout.flush()
    os._exit(0 if len(refused) == 7 else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
# The child has closed nothing of ours.
assert backend.heartbeat("s", who, Settings()).previous_boot_id == "boot"
backend.close()
"""


@pytest.mark.parametrize("storage", ["memory", *SHARED])
def test_in_a_forked_child_every_use_but_to_close_is_refused_and_the_parent_goes_on(
    storage: str, tmp_path: Path
) -> None:
    url = "memory:" if storage == "memory" else SHARED[storage](tmp_path)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 7
    assert all("make it after the fork, in the process that uses it" in line for line in lines)
    assert "secret" not in done.stdout


BOTH_OPEN = """
import os, sys
from turnwise import Settings, StorageError, open_backend
from turnwise.backends import Participant

url, in_use = sys.argv[1], sys.argv[2] == "in use"

def beat(backend, name):
    backend.heartbeat("s", Participant(name, "boot"), Settings())

def names(backend):
    return {runner.runner_id for runner in backend.runners("s")}

backend = open_backend(url)
beat(backend, "parent")
work = backend._database.connection(writes=False) if in_use else None
if work:
    work.__enter__()
ready, tell_ready = os.pipe()
go, tell_go = os.pipe()
child = os.fork()
if child == 0:
    try:
        mine = open_backend(url)
    except StorageError as error:
        print(error, flush=True)
        os._exit(3)
    beat(mine, "child")
    os.write(tell_ready, b".")
    os.read(go, 1)
    beat(mine, "child, later")
    os._exit(0 if "parent, later" in names(mine) else 1)
if not in_use:
    os.read(ready, 1)
    backend.close()
    again = open_backend(url)
    beat(again, "parent, later")
    os.write(tell_go, b".")
_, status = os.waitpid(child, 0)
if not in_use:
    assert names(again) == {"parent", "parent, later", "child", "child, later"}, names(again)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def forked(tmp_path: Path, how: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BOTH_OPEN, SHARED["sqlite-file"](tmp_path), how],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_child_that_opens_a_file_anew_and_its_parent_go_on_in_one_file(tmp_path: Path) -> None:
    """SQLite counts its locks by the process, and a connection that came along has none."""
    done = forked(tmp_path, "idle")
    assert (done.returncode, done.stderr) == (0, "")


def test_where_a_file_was_in_use_at_the_fork_the_child_is_told_and_does_not_open_it(
    tmp_path: Path,
) -> None:
    done = forked(tmp_path, "in use")
    assert (done.returncode, done.stderr) == (3, "")
    assert "a thread was at work with an SQLite storage when this process was forked" in done.stdout


def test_the_error_names_both_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    process, here = OwnProcess("a thing"), os.getpid()
    process.check()
    monkeypatch.setattr("os.getpid", lambda: here + 1)
    with pytest.raises(ForkError) as caught:
        process.check()
    assert str(caught.value) == (
        f"a thing was made in process {here} and is used in {here + 1}: "
        "make it after the fork, in the process that uses it"
    )


def test_a_runner_of_another_process_says_which_one_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(open_backend("memory:"), "s", runner_id="a")
    here = os.getpid()
    monkeypatch.setattr("os.getpid", lambda: here + 1)
    with pytest.raises(ForkError, match=f"^runner a of service s was made in process {here} "):
        runner.stop()


def test_a_runner_that_is_made_after_the_fork_is_fine() -> None:
    with Runner(open_backend("memory:"), "s", lambda turn: None):  # noqa: ARG005 (a service)
        pass
