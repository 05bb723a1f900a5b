"""One runner in a process of its own, and the resource that all of them write to.

``python -m faults.participant OPTIONS`` takes turns until SIGTERM. All that it does is written to
a file of lines, which every participant appends to, with the time of a clock that they share.
"""

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from turnwise import Runner, Settings, Turn, TurnLost, open_backend
from turnwise.backends import Backend

SERVICE = "housekeeping"
STEP_SECONDS = 0.02
PATIENCE_SECONDS = 30.0

Event = Literal["begin", "write", "refused", "lost", "end", "at gate", "at finish"]


@dataclass(frozen=True)
class Line:
    """One thing that a participant did, in seconds of the host's monotonic clock."""

    at: float
    runner_id: str
    event: Event
    token: int


class Resource:
    """A file that takes writes with a fencing token, and refuses one older than the newest.

    Lines are appended whole, without a lock: a process that is suspended would keep it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[Line] = []
        self._read = self._newest = 0

    def write(self, runner_id: str, event: Event, token: int) -> Event:
        """Append a line; what it says was done: ``refused`` where the token is too old."""
        at = time.monotonic()
        with self._path.open("ab", buffering=0) as file:
            file.write(json.dumps([at, runner_id, event, token]).encode() + b"\n")
        mine = (
            line for line in reversed(self.lines()) if (line.at, line.runner_id) == (at, runner_id)
        )
        return next(mine).event

    def lines(self) -> list[Line]:
        """All that was written so far; the last line may still be on its way."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)  # hours of lines are not read again for each write
                text, end, _ = file.read().rpartition(b"\n")
            self._read += len(text) + len(end)
            self._lines += [self._judged(Line(*json.loads(line))) for line in text.splitlines()]
        return list(self._lines)

    def _judged(self, line: Line) -> Line:
        """The next line, as the resource takes it: the order in the file is what counts."""
        if line.event == "write" and line.token < self._newest:
            return replace(line, event="refused")
        self._newest = max(self._newest, line.token)
        return line


class Held:
    """A backend whose runner waits before the first request of one kind, until it may go on."""

    def __init__(self, backend: Backend, operation: str, wait: Callable[[], None]) -> None:
        self._backend, self._operation, self._wait = backend, operation, wait

    def __getattr__(self, name: str) -> Any:  # whatever a backend has
        if name == self._operation:
            self._operation = ""
            self._wait()
        return getattr(self._backend, name)


def main() -> int:
    """Take turns until SIGTERM."""
    options = _options()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    resource = Resource(options.resource)

    def say(event: Event, token: int = 0) -> Event:
        return resource.write(options.runner_id, event, token)

    def hold() -> None:
        say("at gate" if options.hold == "admit" else "at finish")
        go_on = Path(f"{options.resource}.go")
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not go_on.exists() and time.monotonic() < give_up:
            time.sleep(STEP_SECONDS)

    never = threading.Event()

    def work(turn: Turn) -> None:
        say("begin", turn.fencing_token)
        for _ in range(round(options.work / STEP_SECONDS)):
            never.wait(STEP_SECONDS)  # under libfaketime time.sleep() raises OSError
            # A careful service would check first. This one shows what the resource does for it.
            say("write", turn.fencing_token)
            try:
                turn.check()
            except TurnLost:
                say("lost", turn.fencing_token)
                raise
        say("end", turn.fencing_token)

    backend = open_backend(options.backend)
    backend = Held(backend, options.hold, hold) if options.hold else backend
    runner = Runner(
        backend, SERVICE, work, settings=settings_of(options), runner_id=options.runner_id
    )
    signal.signal(signal.SIGTERM, lambda *_: runner.request_stop())
    runner.run()
    return 0


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings that the options of a participant stand for."""
    return Settings(
        interval=timedelta(seconds=options.interval),
        spread_margin=timedelta(seconds=options.margin),
        heartbeat_timeout=timedelta(seconds=options.timeout),
        retention_count=100_000,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--backend", required=True)
    parser.add_argument("--resource", required=True, type=Path)
    parser.add_argument("--runner-id", default=f"runner-{os.getpid()}")
    parser.add_argument("--interval", type=float, required=True, help="seconds")
    parser.add_argument("--margin", type=float, required=True, help="seconds")
    parser.add_argument("--timeout", type=float, required=True, help="seconds")
    parser.add_argument("--work", type=float, required=True, help="seconds of work in a turn")
    parser.add_argument("--hold", choices=["admit", "finish"], default="")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
