"""What the witness saw: every run of a job, and everything that the driver did.

Instants are seconds since the epoch on the host's clock, which is the storages' clock, too. Due
instants are microseconds, as turnwise has them.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.witness_jobs import JOBS, Job

EDGE_SECONDS = 3.0
"""How long a run's end may take to be recorded: a fault within may come before that or after it."""

FOR_EVER = 1e12
JOB_OF = {job.name: job for job in JOBS}


@dataclass(frozen=True)
class Ran:
    """A run of a job. ``end`` and ``how`` are None where the process ended before it did."""

    service: str
    run: str
    runner: str
    pid: int
    token: int
    due: int
    attempt: int
    triggered: bool
    start: float
    end: float | None
    how: str | None


@dataclass
class Life:
    """A process, from its start to its death; when it was killed, or asked to stop, if it was."""

    number: int
    runner: str
    pid: int
    start: float
    dead: float = FOR_EVER
    killed_at: float = FOR_EVER
    stop_at: float = FOR_EVER
    suspended: list[tuple[float, float]] = field(default_factory=list)

    def is_hit_within(self, start: float, end: float) -> bool:
        """Whether it was killed, or suspended, at some time between."""
        was_killed = self.killed_at <= end and self.dead >= start  # it may take a while to die
        return was_killed or any(since <= end and until >= start for since, until in self.suspended)


@dataclass(frozen=True)
class Pause:
    """A pause of a service. Between the first two, and the last two, a command was on its way."""

    pausing: float
    paused: float
    resuming: float
    resumed: float

    def surely_holds_at(self, at: float) -> bool:
        """Whether the gate was closed at an instant."""
        return self.paused <= at <= self.resuming

    def may_touch(self, start: float, end: float) -> bool:
        """Whether it may have been closed at some time between."""
        return self.pausing < end and self.resumed > start


class Evidence:
    """All that the witness has on one storage. ``unit`` and ``grace`` are in seconds."""

    def __init__(self, *, unit: float, grace: float) -> None:
        self.unit, self.grace = unit, grace
        self.runs: list[Ran] = []
        self.lives: list[Life] = []
        self.pauses: dict[str, list[Pause]] = defaultdict(list)
        self.triggers: list[tuple[float, str, str]] = []
        self.deploy: tuple[float, float] | None = None
        self.counts: dict[str, int] = defaultdict(int)
        self.stopping = self.stopped = FOR_EVER

    @classmethod
    def read(cls, folder: Path, *, unit: float, grace: float) -> "Evidence":
        """Read the files of a folder."""
        evidence = cls(unit=unit, grace=grace)
        for path in sorted(folder.glob("process-*")):
            evidence.runs += _runs(_lines(path))
        evidence.runs.sort(key=lambda ran: ran.start)
        evidence._read_driver(list(_lines(folder / "driver")))
        return evidence

    @property
    def began(self) -> float:
        """When the first process was started."""
        return min(life.start for life in self.lives)

    def shown(self, life: Life) -> float:
        """When a process has shown that it takes part: with its first run of any service.

        Until then it may have been starting, which takes long on a machine that has much to do.
        """
        return min((ran.start for ran in self.runs if self.life_of(ran) is life), default=FOR_EVER)

    def life_of(self, ran: Ran) -> Life:
        """The process that it ran in: an hour on a busy machine gives a process id twice."""
        return self._latest(ran.pid, before=ran.start)

    def _latest(self, pid: int, *, before: float = FOR_EVER) -> Life:
        return next(
            life for life in reversed(self.lives) if life.pid == pid and life.start <= before
        )

    def offering(self, job: Job) -> list[Life]:
        """The processes that offer a job."""
        return [life for life in self.lives if not job.only or life.number == 1]

    def dues(self, job: Job) -> Iterator[tuple[float, float]]:
        """Its due instants and the next ones, where the witness is sure of them.

        By the clock alone: a schedule here is due at the multiples of its period.
        """
        shown = min((self.shown(life) for life in self.offering(job)), default=FOR_EVER)
        start = max(self.began + 4 * self.unit, shown) + job.period * self.unit
        spans = [(start, self.stopping, job.period)]
        if job.later is not None and self.deploy is not None:
            first, last = self.deploy
            rest = (last + 3 * job.later * self.unit, self.stopping, job.later)
            spans = [(start, first - job.period * self.unit, job.period), rest]
        for since, until, period in spans:
            length = round(period * self.unit)
            due = -(-since // length) * length
            while due < until:
                yield due, due + length
                due += length

    def _read_driver(self, lines: list[dict[str, Any]]) -> None:
        waiting: dict[str, dict[str, float]] = defaultdict(dict)
        for line in lines:
            at, event = line["at"], line["event"]
            self.counts[event] += 1
            if "pid" in line:
                self._read_process(at, event, line)
            elif event == "triggered":
                self.triggers.append((at, line["service"], line["trigger"]))
            elif event in ("pausing", "paused", "resuming", "resumed"):
                service = line["service"]
                waiting[service][event] = at
                if event == "resumed":
                    self.pauses[service].append(Pause(**waiting.pop(service)))
            elif event == "deployed":
                self.deploy = (self.deploy[0], at) if self.deploy else None
            elif event == "deploying":
                self.deploy = (at, FOR_EVER)
            else:
                setattr(self, event, at)  # stopping, stopped

    def _read_process(self, at: float, event: str, line: dict[str, Any]) -> None:
        if event == "start":
            self.lives.append(Life(line["process"], line["runner"], line["pid"], at))
            return
        life = self._latest(line["pid"])
        if event == "kill":
            life.killed_at = at
        elif event == "stop":
            life.stop_at = at
        elif event == "dead":
            life.dead = at
        elif event == "suspend":
            life.suspended.append((at, FOR_EVER))
        elif event == "go on":
            life.suspended[-1] = (life.suspended[-1][0], at)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file; one that a kill has cut off is none."""
    for line in path.read_bytes().split(b"\n")[:-1]:
        yield json.loads(line)


def _runs(lines: Iterator[dict[str, Any]]) -> list[Ran]:
    started: dict[str, dict[str, Any]] = {}
    ended: dict[str, dict[str, Any]] = {}
    for line in lines:
        kept = started if line["event"] == "start" else ended
        assert line["run"] not in kept, f"one run, twice: {line}"
        kept[line["run"]] = line
    assert ended.keys() <= started.keys()
    return [_ran(line, ended.get(run)) for run, line in started.items()]


def _ran(start: dict[str, Any], end: dict[str, Any] | None) -> Ran:
    return Ran(
        **{
            name: start[name]
            for name in ("service", "run", "runner", "pid", "token", "due", "attempt", "triggered")
        },
        start=start["at"],
        end=None if end is None else end["at"],
        how=None if end is None else end["how"],
    )
