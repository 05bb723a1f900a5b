"""The web examples with a short cycle, and with a service that two at once would give away.

Loaded by the servers under test, in a folder of their own.
"""

import fcntl
import os
import time
from datetime import timedelta
from pathlib import Path

import fastapi_app
import gunicorn_app
from turnwise import Settings, Turn

SETTINGS = Settings(
    interval=timedelta(seconds=2),
    spread_margin=timedelta(milliseconds=50),
    heartbeat_timeout=timedelta(seconds=1.2),
    min_run_margin=timedelta(milliseconds=20),
)


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
    """The same, as a coroutine."""
    witness(turn)


fastapi_app.SETTINGS = gunicorn_app.SETTINGS = SETTINGS
fastapi_app.tidy_up = witness_in_a_loop
gunicorn_app.tidy_up = witness
fastapi = fastapi_app.app
wsgi = gunicorn_app.app
