"""One runner in a process of its own, and the resource that all of them write to.

``python -m faults.participant OPTIONS`` takes turns until SIGTERM. All that it does is written to
a file of lines, which every participant appends to, with the time of a clock that they share.
"""

import argparse
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast

from turnwise.errors import TurnLostError
from turnwise.scheduler import Scheduler
from turnwise.storages import Kind, Record, Storage
from turnwise.storages.opening import open_storage
from turnwise.turn import Turn

GROUP = "faults"
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
    """A storage before whose first admission, or first end of a run, the runner has to wait."""

    def __init__(self, storage: Storage, before: str, wait: Callable[[], None]) -> None:
        self._storage, self._before, self._wait = storage, before, wait

    def swap(
        self, group: str, service: str, kind: Kind, expected: str | None, *rest: Any
    ) -> object:
        """Replace a record, once the runner may go on."""
        new: Record = rest[0]
        what = "admit" if new.owner is not None else "finish"
        # The first gate of all ends no run.
        if kind is Kind.GATE and expected is not None and what == self._before:
            self._before = ""
            self._wait()
        return self._storage.swap(group, service, kind, expected, *rest)

    def __getattr__(self, name: str) -> Any:  # whatever a storage has
        return getattr(self._storage, name)


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
            except TurnLostError:
                say("lost", turn.fencing_token)
                raise
        say("end", turn.fencing_token)

    storage: Storage | str = options.storage
    if options.answer:
        _answer_within(options.answer)
    if options.hold:
        storage = cast("Storage", Held(open_storage(options.storage), options.hold, hold))
    scheduler = Scheduler(
        storage, group=GROUP, runner_id=options.runner_id, may_run=not options.only_watch
    )
    scheduler.every(
        timedelta(seconds=options.interval),
        name=SERVICE,
        spread_margin=timedelta(seconds=options.margin),
        heartbeat_timeout=timedelta(seconds=options.timeout),
    )(work)
    scheduler.run()
    return 0


def _answer_within(seconds: float) -> None:
    """Give a database up after so long, in the place of the usual ten seconds."""
    from turnwise.storages.sql import connect  # noqa: PLC0415 (the other storages need no SQL)

    connect.ANSWER_SECONDS = seconds


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--resource", required=True, type=Path)
    parser.add_argument("--runner-id", required=True)
    parser.add_argument("--interval", type=float, required=True, help="seconds")
    parser.add_argument("--margin", type=float, required=True, help="seconds")
    parser.add_argument("--timeout", type=float, required=True, help="heartbeat timeout, seconds")
    parser.add_argument("--work", type=float, required=True, help="seconds of work in a turn")
    parser.add_argument("--hold", choices=["admit", "finish"], default="")
    parser.add_argument("--answer", type=float, help="seconds that a database has to answer")
    parser.add_argument("--only-watch", action="store_true", help="take no turn")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
