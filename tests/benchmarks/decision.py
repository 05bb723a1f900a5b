"""How long a decision takes, beside the floor: making the same objects with no logic at all.

    python tests/benchmarks/decision.py [--json] [--seconds 0.2]

For each number of runners and each path through the decision table, the decision and its floor
are timed in turn, round by round, in one run, so that a machine whose speed drifts slows both.
A figure is the least of its rounds; the ratio is the median of the rounds' ratios.

The floor is called with the same arguments and answers the same claim, by the constructor of the
claim: each datetime made from its microseconds, the message formatted from what stands in it, and
where there is a run, a fresh UUID4. It finds nothing, compares nothing and checks nothing. That it
answers the same, but for the random id, is asserted before it is timed.

A caller whose slot it is not is timed at the first place of the list, in the middle and at the
last place, each time in the slot of the runner behind it.

The scan is what finding a name in the list must cost at C speed: ``operator.indexOf`` over the
names. A stranger's name is looked for through the whole list, and the growth of a decision
from the smallest to the largest number of runners is held against the growth of the scan.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from operator import indexOf, itemgetter
from pathlib import Path
from statistics import median

from decision_floor import Arguments, Decide, floor_of
from turnwise.atomic_service import (
    ActiveRunnerInfo,
    AtomicServiceClaim,
    AtomicServiceId,
    decide_atomic_service_claim,
)

COUNTS = (1, 3, 10, 100, 1_000, 10_000)
PLACES = ("first place", "middle place", "last place")  # of a caller whose slot it is not
PATHS = ("own slot", *PLACES, "absent", "late", "grace", "invalid")
ROUNDS = 15
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
NOW = 1798849444.361888
INTERVAL_MINUTES = 5.0
NAME_OF = itemgetter(0)


@dataclass(frozen=True)
class Figure:
    """One path at one number of runners: nanoseconds, and the decision over its floor."""

    path: str
    runners: int
    decision_ns: float
    floor_ns: float
    ratio: float
    scan_ns: float


def arguments(
    runner_id: str,
    runners: list[ActiveRunnerInfo],
    *,
    margin: float = 0.0,
    grace: float = 0.0,
    fraction: float = 1.0,
    now: float = NOW,
) -> Arguments:
    """Arguments of one call."""
    return {
        "runner_id": runner_id,
        "active_runners": runners,
        "current_time": now,
        "service_interval_minutes": INTERVAL_MINUTES,
        "spread_margin_minutes": margin,
        "membership_stabilization_seconds": grace,
        "max_start_slot_fraction": fraction,
    }


def arguments_for(path: str, count: int) -> Arguments | None:
    """What takes this path among so many runners; None where nothing can."""
    runners = [
        ActiveRunnerInfo(f"runner-{number:05}", CREATED, CREATED, allow_to_run_atomic_service=True)
        for number in range(count)
    ]
    absent = arguments("stranger", runners)
    owner = str(decide_atomic_service_claim(**absent).assigned_runner_id)
    if path == "absent":
        return absent
    if path == "own slot":
        return arguments(owner, runners)
    if path == "late":
        return arguments(owner, runners, fraction=1e-9)
    if path == "grace":
        return arguments(owner, runners, grace=1e9)
    if count == 1:
        return None
    if path == "invalid":
        return arguments(owner, runners, margin=INTERVAL_MINUTES)
    place = {"first place": 0, "middle place": count // 2, "last place": count - 1}[path]
    interval = INTERVAL_MINUTES * 60
    behind = ((place + 1) % count + 0.5) * interval / count
    return arguments(runners[place].runner_id, runners, now=NOW - NOW % interval + behind)


def timed(decide: Decide, given: Arguments, calls: int) -> float:
    """Nanoseconds a call, with each argument written out as a caller would."""
    runner_id, runners = given["runner_id"], given["active_runners"]
    now, interval = given["current_time"], given["service_interval_minutes"]
    margin, grace = given["spread_margin_minutes"], given["membership_stabilization_seconds"]
    fraction = given["max_start_slot_fraction"]
    started = time.perf_counter_ns()
    for _ in range(calls):
        decide(
            runner_id=runner_id,
            active_runners=runners,
            current_time=now,
            service_interval_minutes=interval,
            spread_margin_minutes=margin,
            membership_stabilization_seconds=grace,
            max_start_slot_fraction=fraction,
        )
    return (time.perf_counter_ns() - started) / calls


def position_of(runner_id: str, runners: list[ActiveRunnerInfo]) -> int | None:
    """Where a name stands in the list; None where it does not."""
    try:
        return indexOf(map(NAME_OF, runners), runner_id)
    except ValueError:
        return None


def timed_scan(runners: list[ActiveRunnerInfo], runner_id: str, calls: int) -> float:
    """Nanoseconds to find a name in the list, or to find that it is not there."""
    started = time.perf_counter_ns()
    for _ in range(calls):
        position_of(runner_id, runners)
    return (time.perf_counter_ns() - started) / calls


def without_run_id(claim: AtomicServiceClaim) -> AtomicServiceClaim:
    """The claim with a random id that is always the same."""
    run = claim.atomic_service_run
    if run is None:
        return claim
    known = AtomicServiceId(claim.runner_id, "any")
    return replace(claim, atomic_service_run=replace(run, atomic_service_id=known))


def measure(path: str, count: int, seconds: float) -> Figure | None:
    """Time one path, its floor and the scan of its list, in turn."""
    given = arguments_for(path, count)
    if given is None:
        return None
    decide, claim = decide_atomic_service_claim, decide_atomic_service_claim(**given)
    floor = floor_of(claim)
    assert without_run_id(floor(**given)) == without_run_id(claim)
    runners, runner_id = given["active_runners"], given["runner_id"]
    calls = max(20, round(seconds / ROUNDS / 3 / (timed(decide, given, 20) / 1e9)))
    rounds = [
        (
            timed(decide, given, calls),
            timed(floor, given, calls),
            timed_scan(runners, runner_id, calls),
        )
        for _ in range(ROUNDS)
    ]
    return Figure(
        path,
        count,
        min(decision for decision, _, _ in rounds),
        min(floor for _, floor, _ in rounds),
        median(decision / floor for decision, floor, _ in rounds),
        min(scan for _, _, scan in rounds),
    )


def commit() -> str:
    """The commit that is measured, with a plus where files have changed since."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],  # noqa: S607 (git, wherever it is)
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.stdout.strip()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--seconds", type=float, default=0.6, help="time for each figure")
    arguments = parser.parse_args()
    figures = [
        figure
        for path in PATHS
        for count in COUNTS
        if (figure := measure(path, count, arguments.seconds)) is not None
    ]
    about = {
        "commit": commit(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    if arguments.json:
        json.dump(about | {"figures": [asdict(figure) for figure in figures]}, sys.stdout, indent=1)
        return
    print(f"commit {about['commit']}, {about['python']}; times in nanoseconds\n")
    print(f"{'path':14}{'runners':>8}{'decision':>11}{'floor':>9}{'ratio':>8}{'scan':>10}")
    for figure in figures:
        print(
            f"{figure.path:14}{figure.runners:8,}{figure.decision_ns:11,.0f}{figure.floor_ns:9,.0f}"
            f"{figure.ratio:8.2f}{figure.scan_ns:10,.0f}"
        )
    first, last = (
        next(f for f in figures if (f.path, f.runners) == ("absent", count))
        for count in (COUNTS[0], COUNTS[-1])
    )
    decision, scan = last.decision_ns - first.decision_ns, last.scan_ns - first.scan_ns
    print(f"\ngrowth per runner, over that of the scan: {decision / scan:.2f}")


if __name__ == "__main__":
    main()
