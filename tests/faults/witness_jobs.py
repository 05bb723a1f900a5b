"""The twenty services of the witness, and a process that takes turns at them.

``python -m faults.witness_jobs OPTIONS`` takes turns until SIGTERM. Each job writes a line to the
process's own file as it starts, and one as it ends, each of them synced to disk. Nothing of that
goes through turnwise: the lines say what really happened.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from turnwise.errors import TurnLostError
from turnwise.scheduler import Scheduler
from turnwise.turn import Turn

GROUP = "witnessed"
TIMEOUT_UNITS = 1.0
"""The heartbeat timeout of all services, in units; a unit is the time that all is measured by."""
STEP_SECONDS = 0.05
GRACE_SECONDS = 5.0

Conduct = Literal["quick", "flaky", "hopeless", "long", "endless", "coroutine"]
How = Literal["completed", "raised", "lost", "cancelled"]


@dataclass(frozen=True)
class Job:
    """One service. Durations are in units.

    ``later`` is its period after the deploy in the middle. ``only`` says that the first process
    alone offers it. ``cron`` writes its schedule as a cron expression.
    """

    name: str
    period: int
    conduct: Conduct = "quick"
    attempts: int = 3
    start_within: float | None = None
    timeout: float | None = None
    every_slot: bool = False
    cron: bool = False
    only: bool = False
    later: int | None = None

    def period_in(self, generation: int) -> int:
        """Its period in a generation of the program: 1 before the deploy, 2 after it."""
        return self.later if generation > 1 and self.later is not None else self.period

    def schedule(self, unit: float, generation: int) -> str:
        """The schedule, as a program writes it."""
        seconds = round(self.period_in(generation) * unit)
        return f"cron */{seconds} * * * * * UTC" if self.cron else f"every {seconds}s"

    def fails(self, due: int, attempt: int) -> bool:
        """Whether an attempt fails, or takes long: drawn from what it is, so that it can recur."""
        chance = zlib.crc32(f"{self.name} {due} {attempt}".encode()) % 100
        return chance < {"flaky": 50, "hopeless": 100, "long": 30, "endless": 40}.get(
            self.conduct, 0
        )


JOBS = (
    *(Job(f"quick-{number}", 2) for number in range(1, 5)),
    *(Job(f"steady-{number}", 3) for number in range(1, 3)),
    *(Job(f"slow-{number}", 6) for number in range(1, 3)),
    Job("rare", 12),
    Job("cron-2", 2, cron=True),
    Job("cron-3", 3, "coroutine", cron=True),
    Job("coroutine", 3, "coroutine"),
    Job("flaky", 3, "flaky"),
    Job("hopeless", 6, "hopeless", attempts=2),
    Job("long", 3, "long"),
    Job("endless", 6, "endless", timeout=1.0),
    Job("within", 6, start_within=1.0),
    Job("slots", 3, every_slot=True),
    Job("lonely", 3, only=True),
    Job("changed", 3, later=4),
)


class Journal:
    """A file of lines that are on the disk when they were written."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, **line: object) -> None:
        """Append a line, with the time."""
        text = json.dumps({"at": time.time()} | line)
        os.write(self._file, f"{text}\n".encode())
        os.fsync(self._file)


def main() -> int:
    """Take turns until SIGTERM."""
    options = _options()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    journal = Journal(options.journal)
    scheduler = Scheduler(
        os.environ["WITNESS_STORAGE"],
        group=GROUP,
        runner_id=options.runner_id,
        grace=f"{GRACE_SECONDS:g}s",
    )
    for job in JOBS:
        if not job.only or options.first:
            _add(scheduler, job, journal, options.unit, options.generation)
    scheduler.run()
    return 0


def _add(scheduler: Scheduler, job: Job, journal: Journal, unit: float, generation: int) -> None:
    worker = _Worker(job, journal, unit)
    is_coroutine = job.conduct in ("coroutine", "endless")

    def seconds(units: float) -> str:
        return f"{round(units * unit * 1000)}ms"

    scheduler.add(
        worker.work_in_loop if is_coroutine else worker.work,
        job.schedule(unit, generation),
        name=job.name,
        attempts=job.attempts,
        start_within=None if job.start_within is None else seconds(job.start_within),
        timeout=None if job.timeout is None else seconds(job.timeout),
        runs="every_slot" if job.every_slot else "once",
        heartbeat_timeout=seconds(TIMEOUT_UNITS),
    )


class _Worker:
    def __init__(self, job: Job, journal: Journal, unit: float) -> None:
        self._job, self._journal, self._unit = job, journal, unit

    def work(self, turn: Turn) -> None:
        """A plain function: it looks now and then whether its turn is still its own."""
        self._say("start", turn)
        until = time.monotonic() + self._length(turn)
        pause = threading.Event()
        while time.monotonic() < until:
            pause.wait(STEP_SECONDS)
            try:
                turn.check()
            except TurnLostError:
                self._say("end", turn, how="lost")
                raise
        if self._job.conduct in ("flaky", "hopeless") and self._fails(turn):
            self._say("end", turn, how="raised")
            raise ValueError("as it was drawn")
        self._say("end", turn, how="completed")

    async def work_in_loop(self, turn: Turn) -> None:
        """A coroutine: it is cancelled where its turn is lost, or has taken too long."""
        self._say("start", turn)
        try:
            await asyncio.sleep(self._length(turn))
        except asyncio.CancelledError:
            self._say("end", turn, how="cancelled")
            raise
        self._say("end", turn, how="completed")

    def _fails(self, turn: Turn) -> bool:
        return self._job.fails(_micros(turn), turn.attempt)

    def _length(self, turn: Turn) -> float:
        """How long it takes, in seconds."""
        is_long = self._job.conduct in ("long", "endless") and self._fails(turn)
        units = self._job.period * 1.3 if is_long else 0.05 + 0.2 * (_micros(turn) // 10**6 % 5) / 5
        return units * self._unit

    def _say(self, event: str, turn: Turn, how: How | None = None) -> None:
        self._journal.write(
            event=event,
            service=turn.service,
            runner=turn.runner_id,
            pid=os.getpid(),
            run=turn.run_id,
            token=turn.fencing_token,
            due=_micros(turn),
            attempt=turn.attempt,
            triggered=turn.triggered,
            how=how,
        )


def _micros(turn: Turn) -> int:
    return round(turn.due.timestamp() * 1_000_000)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--journal", required=True, type=Path)
    parser.add_argument("--runner-id", required=True)
    parser.add_argument("--unit", required=True, type=float, help="seconds")
    parser.add_argument("--generation", required=True, type=int)
    parser.add_argument("--first", action="store_true", help="offer what one process alone offers")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
