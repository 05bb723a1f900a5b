"""Several participants, what they do to each other, and what is measured of it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from faults.participant import GROUP, SERVICE, Event, Line, Resource
from processes import eventually
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.errors import StorageError
from turnwise.gate import LOST, NO_MARGIN, NOT_STARTED, OWNER_DEAD, STOPPED, Execution
from turnwise.overview.known import runs_of
from turnwise.schedules import Every
from turnwise.settings import Settings
from turnwise.storages.opening import open_storage

PATIENCE_SECONDS = 40.0
SLACK_SECONDS = 1.5
"""What two processors that others use, too, may add to a bound that counts no processor time."""


def settings_of(*, interval: float, margin: float, timeout: float) -> Settings:
    """Settings by the three durations that a participant is told, in seconds."""
    return Settings(
        schedule=Every(timedelta(seconds=interval)),
        spread_margin=timedelta(seconds=margin),
        heartbeat_timeout=timedelta(seconds=timeout),
    )


SETTINGS = settings_of(interval=2, margin=0.1, timeout=0.8)
WORK_SECONDS = 0.4
# Stopped: the run was admitted just as its process was asked to stop. Not started: the turn was
# lost before a busy machine had begun its function.
ENDINGS = {"", NO_MARGIN, NOT_STARTED, OWNER_DEAD, LOST, STOPPED, "exception:TurnLostError"}


@dataclass(frozen=True)
class Promised:
    """What the design promises of a number of runners, in seconds; a period is one cycle here."""

    cycle: float
    slot: float
    window: float
    timeout: float
    heartbeat: float

    @classmethod
    def of(cls, settings: Settings, runners: int) -> Self:
        """What these settings promise."""
        cycle = settings.shortest_cycle.total_seconds()
        slot = cycle / settings.slots(runners)
        margin = settings.spread_margin.total_seconds()
        return cls(
            cycle,
            slot,
            settings.max_start_slot_fraction * (slot - margin),
            settings.heartbeat_timeout.total_seconds(),
            settings.heartbeat_interval.total_seconds(),
        )

    @property
    def after_kill(self) -> float:
        """From a kill in a turn to the next start."""
        return self.timeout + self.heartbeat + 2 * self.slot - self.window

    @property
    def after_dead_primary(self) -> float:
        """From a start to the next, where the primary of the next cycle is dead."""
        return self.cycle + self.slot

    @property
    def after_outage(self) -> float:
        """From when a storage answers again to the next start.

        All have been silent, so that a plan may come to be made only when one was heard again: at
        the latest in the next cycle, where one that was at work is still waited for.
        """
        return self.cycle + self.after_kill


class Participant:
    """A process of ``faults.participant``."""

    def __init__(
        self,
        url: str,
        folder: Path,
        runner_id: str,
        *options: str,
        settings: Settings = SETTINGS,
        work: float = WORK_SECONDS,
        environment: dict[str, str] | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        self.runner_id = runner_id
        self._log = folder / f"{runner_id}.log"
        command = [
            *(sys.executable, "-m", "faults.participant"),
            *("--storage", url),
            *("--resource", str(folder / "resource")),
            *("--runner-id", runner_id),
            *("--interval", str(settings.shortest_cycle.total_seconds())),
            *("--margin", str(settings.spread_margin.total_seconds())),
            *("--timeout", str(settings.heartbeat_timeout.total_seconds())),
            *("--work", str(work)),
            *options,
        ]
        tests = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, (tests, os.environ.get("PYTHONPATH"))))
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=os.environ | {"PYTHONPATH": path} | (environment or {}),
                preexec_fn=before,  # noqa: PLW1509 (it makes one call to the kernel)
            )

    @property
    def log(self) -> str:
        """All that it has said so far."""
        return self._log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> float:
        """Send a signal; when."""
        self.process.send_signal(number)
        return time.monotonic()


class Scene:
    """Participants of one service on one storage, and the resource that they write to."""

    def __init__(self, url: str, folder: Path, *, settings: Settings = SETTINGS) -> None:
        self.url, self.folder, self.settings = url, folder, settings
        self.resource = Resource(folder / "resource")
        self.participants: dict[str, Participant] = {}

    def add(
        self, runner_id: str, *options: str, url: str | None = None, **more: object
    ) -> Participant:
        """Start a participant."""
        more = {"settings": self.settings} | more
        participant = Participant(
            url or self.url,
            self.folder,
            runner_id,
            *options,
            **more,  # type: ignore[arg-type] # handed on as they are
        )
        self.participants[runner_id] = participant
        return participant

    def lines(self, event: Event, runner_id: str | None = None) -> list[Line]:
        """The lines of one kind, in order."""
        return [
            line
            for line in self.resource.lines()
            if line.event == event and runner_id in (None, line.runner_id)
        ]

    def await_line(self, event: Event, runner_id: str | None = None, since: float = 0) -> Line:
        """The first line of one kind after a moment."""

        def found() -> Line | None:
            return next((line for line in self.lines(event, runner_id) if line.at > since), None)

        what = f"{runner_id or 'somebody'}: {event}"
        return eventually(found, what, PATIENCE_SECONDS)

    def await_turns(self, count: int) -> None:
        """Wait until so many turns have ended well."""
        eventually(lambda: len(self.lines("end")) >= count, f"{count} turns", PATIENCE_SECONDS)

    def await_log(self, runner_id: str, text: str) -> None:
        """Wait until a participant has said something."""
        who = self.participants[runner_id]
        eventually(lambda: text in who.log, f"{runner_id} says {text!r}", PATIENCE_SECONDS)

    def go_on(self) -> None:
        """Let the participant go on that holds before a request."""
        (self.folder / "resource.go").touch()

    def stop(self) -> None:
        """End all, and wait for it."""
        for participant in self.participants.values():
            if participant.process.poll() is None:
                participant.send(signal.SIGCONT)
                participant.send(signal.SIGTERM)
        for participant in self.participants.values():
            participant.process.wait(PATIENCE_SECONDS)

    def runs(self) -> list[Execution]:
        """The admitted runs that the storage keeps, in the order of their start."""

        def read() -> list[Execution] | None:
            try:
                with closing(open_storage(self.url)) as storage:
                    return runs_of(storage, GROUP, SERVICE)
            except StorageError:
                return None

        return eventually(read, "the storage tells its history", PATIENCE_SECONDS)

    def promised(self, runners: int) -> Promised:
        """What is promised of so many runners."""
        return Promised.of(self.settings, runners)

    def recovery(self, since: float) -> float:
        """Seconds until a turn begins again."""
        return self.await_line("begin", since=since).at - since

    def require_no_overlap(self) -> None:
        """In the storage and at the resource, one at a time; each token once, and growing."""
        runs = self.runs()
        assert overlaps(runs) == 0, runs
        tokens = [run.token or 0 for run in runs]
        assert tokens == sorted(set(tokens)), tokens
        served = [run.due for run in runs if run.status is Status.COMPLETED]
        assert len(served) == len(set(served)), "a period was served twice"
        writes = [line.token for line in self.lines("write")]
        assert writes == sorted(writes), "the resource took a late write"
        begun = [line.token for line in self.lines("begin")]
        assert len(begun) == len(set(begun)), "one admission, one turn"

    def require_that_all_has_ended(self) -> None:
        """No run is open, and none failed by itself; call it when all have stopped."""
        runs = self.runs()
        open_runs = [run for run in runs if run.status is Status.RUNNING]
        assert not open_runs, open_runs
        others = [run for run in runs if run.reason not in ENDINGS]
        assert not others, others

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            if error is None:
                raise
        finally:
            for participant in self.participants.values():
                participant.process.kill()
                participant.process.wait()
            if error is not None:
                for participant in self.participants.values():
                    print(f"--- {participant.runner_id}\n{participant.log[-3000:]}")  # noqa: T201


def overlaps(runs: list[Execution]) -> int:
    """How many runs started while the one before was open."""
    ordered = sorted(runs, key=lambda run: (run.started_at, run.token or 0))
    return sum(
        earlier.ended_at is None or later.started_at < earlier.ended_at
        for earlier, later in pairwise(ordered)
    )


def lost_runs(runs: list[Execution]) -> int:
    """How many runs were cut off; one that was given back before it began is none of them."""
    return sum(run.status is Status.ABANDONED and run.reason != NO_MARGIN for run in runs)


def overlaps_at_resource(lines: list[Line]) -> int:
    """How many turns began while another was at work, as the resource saw it.

    It sees what the storage has forgotten, and tells turns apart that have one token.
    """
    turns: dict[str, list[list[float]]] = {}
    for line in lines:
        if line.event == "begin":
            turns.setdefault(line.runner_id, []).append([line.at, line.at])
        elif line.runner_id in turns:
            turns[line.runner_id][-1][1] = line.at
    ordered = sorted(turn for of_one in turns.values() for turn in of_one)
    return sum(later[0] < earlier[1] for earlier, later in pairwise(ordered))


@dataclass(frozen=True)
class Figures:
    """What one scenario showed on one storage.

    ``recovery`` is from the fault to the next start, and ``bound`` what was promised for it, both
    in seconds. ``tokens_again`` counts the tokens that were handed out twice, where the scenario
    is outside of the promise.
    """

    scenario: str
    storage: str
    overlaps: int
    lost_runs: int
    recovery: float | None
    bound: float | None
    tokens_again: int | None = None

    def keep(self) -> None:
        """Write it down for the table, where one is wanted."""
        if "FAULT_FIGURES" in os.environ:
            with Path(os.environ["FAULT_FIGURES"]).open("a") as file:
                file.write(json.dumps(vars(self)) + "\n")


@contextmanager
def recorded(
    scenario: str, storage: str, scene: Scene, runners: int = 3
) -> Iterator[Callable[[float], None]]:
    """Measure a scenario: at its end nothing has overlapped, and it is written down.

    What it gives is called with the moment of the fault: it waits until a turn begins, which
    must be within the bound.
    """
    recovery: list[float] = []
    promised = scene.promised(runners).after_kill

    def recovers_from(fault_at: float) -> None:
        took = scene.recovery(fault_at)
        assert took <= promised + SLACK_SECONDS, took
        recovery.append(took)

    yield recovers_from
    scene.stop()
    scene.require_no_overlap()
    scene.require_that_all_has_ended()
    runs = scene.runs()
    lost = lost_runs(runs)
    bound = promised if recovery else None
    Figures(scenario, storage, overlaps(runs), lost, max(recovery, default=None), bound).keep()
