"""A web program with housekeeping: in one of its workers at a time.

TURNWISE_STORAGE=sqlite:///turns.db gunicorn --config gunicorn_conf.py gunicorn_app:app
"""

import json
import time
from collections.abc import Callable, Iterable

from turnwise import Scheduler, Turn

# It is made before the workers are forked, or after; only its start must come after the fork.
scheduler = Scheduler()  # on the storage that TURNWISE_STORAGE names


@scheduler.every("5m")
def tidy_up(turn: Turn) -> None:
    """The housekeeping: in a thread of its own."""
    time.sleep(0.1)  # the work
    turn.check()  # before a write: raises TurnLostError where the turn may be another's by now


def app(
    environ: dict[str, object], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """Which worker answers; its runner id is in the history of the turns."""
    del environ
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"runner": scheduler.runner_id}).encode()]
