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
