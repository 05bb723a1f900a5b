"""A year of a nightly job: what deploys and kills cost it, in virtual time.

For example, from the project's folder::

    PYTHONPATH=tests python -m year --days 365 --seed 1

A job of 20 minutes is due at 03:00 in Vienna, and six replicas take turns at it. On each day all of
them are replaced, one after the other: on half of the days at any time, on the other half within
five minutes of 03:00. Once a week whoever is at work is killed in the middle of the job.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import instant
from turnwise.gate import Execution
from turnwise.schedules import Cron
from turnwise.settings import Settings
from turnwise.simulation import FaultKind, Fixed, Incident, Result, Scenario, simulate
from turnwise.texts import row_from_text

START = datetime(2026, 1, 1, tzinfo=UTC)
NIGHTLY = Cron("0 3 * * *", "Europe/Vienna")
SETTINGS = Settings(schedule=NIGHTLY, retention_age=timedelta(days=1000))
RUNNERS = 6

_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
_JOB = 20 * _MINUTE
_BETWEEN_REPLICAS = timedelta(seconds=30)
_DEPLOY_TAKES = (RUNNERS - 1) * _BETWEEN_REPLICAS
_NEAR = 5 * _MINUTE
_RESTART_TAKES = _MINUTE

BOUND = 5 * _MINUTE
"""What one fault may cost at most: the wait for a start."""


def scenario(*, days: int, seed: int, settings: Settings = SETTINGS) -> Scenario:
    """So many days of it, with faults that are drawn from a seed."""
    chance = Random(seed)  # noqa: S311 (no secret)
    incidents = [_deploy(chance, day) for day in range(days)]
    incidents += [
        Incident(_due(day) + _JOB / 2 - START, FaultKind.KILL_IN_TURN, None, _RESTART_TAKES)
        for day in range(chance.randrange(7), days, 7)
    ]
    return Scenario(
        settings=settings,
        runners=RUNNERS,
        job=Fixed(_JOB),
        incidents=tuple(incidents),
        start=START,
        duration=(days + 1) * _DAY,  # the last period ends as the next one is due
        seed=seed,
    )


def _due(day: int) -> datetime:
    return next(NIGHTLY.dues(START + day * _DAY, START + (day + 1) * _DAY))


def _deploy(chance: Random, day: int) -> Incident:
    near = chance.random() < 1 / 2
    at = _due(day) + (2 * chance.random() - 1) * _NEAR if near else START
    if not near:
        at += (day + chance.random()) * _DAY
    return Incident(at - START, FaultKind.DEPLOY, None, _BETWEEN_REPLICAS)


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a period waited for a start: for its first, or after a kill for the next one.

    ``faults`` are those that lie between the planning of the period and the start.
    """

    due: datetime
    took: timedelta
    faults: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.due:%Y-%m-%d}: {self.took} with {', '.join(self.faults) or 'no fault'}"


@dataclass(frozen=True, slots=True)
class Year:
    """What came of it."""

    result: Result
    completed: Counter[datetime]
    waits: tuple[Wait, ...]

    @property
    def longest_after_one_fault(self) -> Wait | None:
        """The longest wait in which one fault at most had a part."""
        alone = [wait for wait in self.waits if len(wait.faults) <= 1]
        return max(alone, key=lambda wait: wait.took, default=None)

    @property
    def coincidences(self) -> list[Wait]:
        """The waits over the bound in which several faults had a part."""
        return [wait for wait in self.waits if wait.took >= BOUND and len(wait.faults) > 1]

    def __str__(self) -> str:
        result, served_by = self.result, Counter(self.completed.values())
        return "\n".join(
            [
                f"{result.periods_served} of {result.periods} periods were served",
                f"{sum(n for times, n in served_by.items() if times > 1)} were completed twice",
                f"{result.incidents} were the faults",
                f"longest wait after one fault at most: {self.longest_after_one_fault}",
                f"{len(self.coincidences)} waits were longer, each with several faults:",
                *(f"  {wait}" for wait in self.coincidences),
                f"{result.violation_count} violations",
            ]
        )


def play(*, days: int, seed: int, settings: Settings = SETTINGS) -> Year:
    """Play so many days."""
    what = scenario(days=days, seed=seed, settings=settings)
    result = simulate(what)
    rows = [row_from_text(entry.body) for entry in result.history]
    turns = sorted(
        (row for row in rows if isinstance(row, Execution) and row.status is not Status.BLOCKED),
        key=lambda row: row.started_at,
    )
    completed = Counter(instant(row.due) for row in turns if row.status is Status.COMPLETED)
    return Year(result, completed, tuple(_waits(what, turns)))


def _waits(what: Scenario, turns: Sequence[Execution]) -> Iterator[Wait]:
    by_due: dict[datetime, list[Execution]] = {}
    for turn in turns:
        by_due.setdefault(instant(turn.due), []).append(turn)
    for due, attempts in by_due.items():
        first = instant(attempts[0].started_at)
        yield Wait(due, first - due, tuple(_between(what, due - BOUND, first)))
        for before, after in pairwise(attempts):
            killed, again = _killed_at(what, before), instant(after.started_at)
            yield Wait(due, again - killed, tuple(_between(what, killed - BOUND, again)))


def _killed_at(what: Scenario, turn: Execution) -> datetime:
    """When a turn was killed that did not complete; its end, where it was not."""
    assert turn.ended_at is not None
    began, ended = instant(turn.started_at), instant(turn.ended_at)
    kills = (
        what.start + incident.at
        for incident in what.incidents
        if incident.kind is FaultKind.KILL_IN_TURN
    )
    return next((at for at in kills if began <= at <= ended), ended)


def _between(what: Scenario, since: datetime, until: datetime) -> Iterator[str]:
    """The faults that had a part in what happened between two instants."""
    for incident in what.incidents:
        at = what.start + incident.at
        lasts = _DEPLOY_TAKES if incident.kind is FaultKind.DEPLOY else incident.lasts
        if at < until and at + lasts > since:
            yield f"{incident.kind} at {at:%H:%M:%S}"


def main() -> None:
    """Play as the command line says, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m year", description=__doc__)
    parser.add_argument("--days", type=int, default=365, help="how many days (365)")
    parser.add_argument("--seed", type=int, default=1, help="where the faults are drawn from (1)")
    options = parser.parse_args()
    sys.stdout.write(f"{play(days=options.days, seed=options.seed)}\n")


if __name__ == "__main__":
    main()
