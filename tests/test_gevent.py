"""A scheduler in a program of gevent's, which makes greenlets of threads."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from gevent import monkey
monkey.patch_all()
import asyncio, sys, threading
sys.path.insert(0, sys.argv[1])
from live import Heard, due
from turnwise.events import TurnEnded, TurnStarted
from turnwise.scheduler import Scheduler

stops, heard, did = threading.Event(), Heard(), []

def plain():
    stops.wait(30)
    did.append("plain")

async def coroutine():
    while not stops.is_set():
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    did.append("coroutine")

storage = due() if sys.argv[3] == "memory:" else sys.argv[3]
every = "1m" if sys.argv[3] == "memory:" else "1s"
scheduler = Scheduler(storage, observers=(heard,))
scheduler.add({"plain": plain, "coroutine": coroutine}[sys.argv[2]], f"every {every}", name="job")

def run():
    scheduler.start()
    heard.wait_for(TurnStarted)
    threading.Timer(0.1, stops.set).start()
    ended = scheduler.stop()
    print(ended, did, [each.status.value for each in heard.of(TurnEnded)], flush=True)

run()
stops.clear()
did.clear()
heard.events.clear()
if sys.argv[3] != "memory:":
    run()
"""


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
@pytest.mark.parametrize("storage", ["memory:", "sqlite"])
def test_under_gevent_a_stop_waits_for_what_runs_and_the_scheduler_can_be_started_again(
    kind: str, storage: str, tmp_path: Path
) -> None:
    url = storage if storage == "memory:" else f"sqlite:///{tmp_path / 'turns.db'}"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), kind, url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    line = f"True ['{kind}'] ['completed']"
    assert done.stdout.splitlines() == [line] * (1 if storage == "memory:" else 2), done.stderr
