"""The web examples with a service that is due often, and that two at once would give away.

Loaded by the servers under test, in a folder of their own.
"""

import asyncio
import fcntl
import os
import time
from pathlib import Path

import fastapi_app
import flask_app
import gunicorn_app
from turnwise.scheduler import Scheduler
from turnwise.turn import Turn


def witness(turn: Turn) -> None:
    """Hold a lock that dies with its holder; whoever cannot get it leaves a mark."""
    with Path("lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            Path("overlap").touch()
        with Path("turns").open("a") as turns:
            turns.write(f"{turn.fencing_token} {os.getpid()}\n")
        time.sleep(0.3)


async def witness_in_a_loop(turn: Turn) -> None:
    """The same, as a coroutine on the application's loop."""
    assert asyncio.get_running_loop()
    witness(turn)


def _often(scheduler: Scheduler, function: object) -> None:
    assert callable(function)
    scheduler.add(
        function,
        "every 2s",
        name="housekeeping",
        spread_margin="50ms",
        heartbeat_timeout="1200ms",
        min_run_margin="20ms",
    )


_often(fastapi_app.scheduler, witness_in_a_loop)
_often(gunicorn_app.scheduler, witness)
_often(flask_app.scheduler, witness)
fastapi = fastapi_app.app
wsgi = gunicorn_app.app
flask = flask_app.app
