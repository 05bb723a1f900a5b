"""A web program with housekeeping: in one of its workers at a time.

gunicorn --config gunicorn_conf.py gunicorn_app:app
"""

import json
import os
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from turnwise import Backend, Runner, Settings, Turn, open_backend

STORAGE = os.environ.get("TURNS", "sqlite:///turns.db")
SETTINGS = Settings(interval=timedelta(minutes=5))
GRACE_SECONDS = 25.0


def tidy_up(turn: Turn) -> None:
    """The housekeeping."""
    time.sleep(0.1)  # the work
    turn.check()  # before a write: raises TurnLost where the turn may be somebody else's by now


class Housekeeping:
    """This worker's runner. It is made in the worker: neither it nor a backend survives a fork."""

    def __init__(self) -> None:
        self.backend: Backend | None = None
        self.runner: Runner | None = None

    def start(self) -> None:
        """Called in each worker, after its fork."""
        self.backend = open_backend(STORAGE)
        self.runner = Runner(self.backend, "housekeeping", tidy_up, settings=SETTINGS)
        self.runner.start()

    def stop(self) -> None:
        """Called in each worker, before it ends: waits for the turn that it may be in."""
        if self.runner and self.backend and self.runner.stop(GRACE_SECONDS):
            self.backend.close()


housekeeping = Housekeeping()


def app(
    environ: dict[str, object], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """Which worker answers; its runner id is in the history of the turns."""
    del environ
    runner = housekeeping.runner
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"runner": runner.runner_id if runner else ""}).encode()]
