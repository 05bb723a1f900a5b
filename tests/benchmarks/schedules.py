"""How long ``period_at`` takes, asked in the order of time, beside a decision in the same run.

    python tests/benchmarks/schedules.py [--json] [--questions 4000]

Each schedule is asked two ways: ``within`` asks ten times in each period, as cycles do; ``each``
asks once in each, so that every answer is a new period. ``anywhere`` asks for instants in no order,
from 1970 to 2200, for which nothing that was remembered helps. ``dues`` is the time for each due
instant of a list of them. The schedules and the decision (three runners, the caller's own slot)
are timed in turn, round by round, in one run, so that a machine whose speed drifts slows all; a
figure is the least of its rounds. The loop's own time is in it, some 50 ns.

The first period of a ``Cron`` costs more, and so does making one, which holds its periods from 1970
to 2200 against the longest allowed: ``make`` is the time for one of a text that is new.
"""

import argparse
import json
import platform
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from decision import NOW, arguments_for, commit, timed
from turnwise.atomic_service import decide_atomic_service_claim
from turnwise.schedules import Schedule, _calendar, parse_schedule

TEXTS = (
    "every 5m",
    "every 1d offset 3h",
    "cron * * * * * UTC",
    "cron */5 * * * * Europe/Vienna",
    "cron */10 * * * * * Europe/Vienna",
    "cron 0 3 * * * UTC",
    "cron 0 3 * * * Europe/Vienna",
    "cron 0 3 L * * Europe/Vienna",
)
ROUNDS = 5
START = datetime.fromtimestamp(NOW, UTC)
END = datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Figure:
    """One schedule's times, in nanoseconds for each question."""

    schedule: str
    within_ns: float
    each_ns: float
    anywhere_ns: float
    dues_ns: float
    make_ns: float


def in_order(schedule: Schedule, questions: int, per_period: int) -> list[datetime]:
    """So many instants in a row, so many in each period."""
    found: list[datetime] = []
    for due in islice(schedule.dues(START, END), questions // per_period):
        length = schedule.period_at(due).until - due
        found += [due + length * part / per_period for part in range(per_period)]
    return found


def anywhere(questions: int) -> list[datetime]:
    """So many instants from 1970 to 2200, in no order, the same each time."""
    drawn = random.Random(1)  # noqa: S311 (no secret)
    seconds = int(END.timestamp())
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return [epoch + timedelta(seconds=drawn.randrange(seconds)) for _ in range(questions)]


def asked(schedule: Schedule, instants: Sequence[datetime]) -> float:
    """Nanoseconds for each question."""
    period_at = schedule.period_at
    started = time.perf_counter_ns()
    for instant in instants:
        period_at(instant)
    return (time.perf_counter_ns() - started) / len(instants)


def listed(schedule: Schedule, dues: int) -> float:
    """Nanoseconds for each due instant of a list."""
    started = time.perf_counter_ns()
    found = sum(1 for _ in islice(schedule.dues(START, END), dues))
    return (time.perf_counter_ns() - started) / found


def made(text: str) -> float:
    """Nanoseconds to make the schedule anew."""
    _calendar.cache_clear()
    started = time.perf_counter_ns()
    parse_schedule(text)
    return time.perf_counter_ns() - started


def measure(text: str, questions: int) -> Callable[[], Figure]:
    """What times one schedule, once."""
    schedule = parse_schedule(text)
    questions = max(10, questions // 10 * 10)
    many, each = in_order(schedule, questions, 10), in_order(schedule, questions // 4, 1)
    scattered = anywhere(max(1, questions // 50))
    return lambda: Figure(
        text,
        asked(schedule, many),
        asked(schedule, each),
        asked(schedule, scattered),
        listed(schedule, max(1, questions // 4)),
        made(text),
    )


def least(figures: Sequence[Figure]) -> Figure:
    """Each of the times at its least."""
    rounds = [asdict(figure) for figure in figures]
    times = {key: min(one[key] for one in rounds) for key in rounds[0] if key != "schedule"}
    return Figure(figures[0].schedule, **times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--questions", type=int, default=4_000, help="so many a figure and round")
    options = parser.parse_args()
    given = arguments_for("own slot", 3)
    assert given is not None
    rounds: list[list[Figure]] = []
    decisions: list[float] = []
    measures = [measure(text, options.questions) for text in TEXTS]
    for _ in range(ROUNDS):
        decisions.append(timed(decide_atomic_service_claim, given, options.questions))
        rounds.append([once() for once in measures])
    figures = [least(same) for same in zip(*rounds, strict=True)]
    about = {
        "commit": commit(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "decision_ns": min(decisions),
    }
    if options.json:
        json.dump(about | {"figures": [asdict(one) for one in figures]}, sys.stdout, indent=1)
        return
    print(f"commit {about['commit']}, {about['python']}; times in microseconds")
    print(f"a decision: {min(decisions) / 1e3:.2f}\n")
    print(f"{'schedule':36}{'within':>8}{'each':>8}{'anywhere':>10}{'dues':>8}{'make':>10}")
    for one in figures:
        print(
            f"{one.schedule:36}{one.within_ns / 1e3:8.2f}{one.each_ns / 1e3:8.2f}"
            f"{one.anywhere_ns / 1e3:10.1f}{one.dues_ns / 1e3:8.2f}{one.make_ns / 1e3:10.1f}"
        )


if __name__ == "__main__":
    main()
