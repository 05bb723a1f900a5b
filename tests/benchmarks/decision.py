"""How long a decision takes, beside the floor: making the same objects with no logic at all.

    python tests/benchmarks/decision.py [--json] [--seconds 0.2]

For each number of runners and each path through the decision table, the decision and its floor
are timed in turn, round by round, in one run, so that a machine whose speed drifts slows both.
A figure is the least of its rounds; the ratio is the median of the rounds' ratios.

The floor builds what the decision answers: the claim, and where there is one the run and its id,
with a fresh UUID4; each datetime from its microseconds; the message, formatted. It finds
nothing, compares nothing and checks nothing. It does not build ``started_at`` where the answer
has none.

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
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter, indexOf
from pathlib import Path
from statistics import median

from turnwise.atomic_service import (
    ActiveRunnerInfo,
    AtomicServiceClaim,
    AtomicServiceId,
    AtomicServiceRun,
    decide_atomic_service_claim,
)

COUNTS = (1, 3, 10, 100, 1_000, 10_000)
PATHS = ("own slot", "other's slot", "absent", "late", "grace", "invalid")
ROUNDS = 15
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
NOW = 1798849444.361888
INTERVAL_MINUTES = 5.0


@dataclass(frozen=True)
class Figure:
    """One path at one number of runners: nanoseconds, and the decision over its floor."""

    path: str
    runners: int
    decision_ns: float
    floor_ns: float
    ratio: float
    scan_ns: float


@dataclass(frozen=True)
class Call:
    """The arguments of one decision."""

    runner_id: str
    runners: list[ActiveRunnerInfo]
    margin: float = 0.0
    grace: float = 0.0
    fraction: float = 1.0

    def decide(self) -> AtomicServiceClaim:
        """Decide, with each argument written out as a caller would."""
        return decide_atomic_service_claim(
            runner_id=self.runner_id,
            active_runners=self.runners,
            current_time=NOW,
            service_interval_minutes=INTERVAL_MINUTES,
            spread_margin_minutes=self.margin,
            membership_stabilization_seconds=self.grace,
            max_start_slot_fraction=self.fraction,
        )


def call_for(path: str, count: int) -> Call | None:
    """What takes this path among so many runners; None where nothing can."""
    runners = [
        ActiveRunnerInfo(f"runner-{number:05}", CREATED, CREATED, allow_to_run_atomic_service=True)
        for number in range(count)
    ]
    owner = str(Call("stranger", runners).decide().assigned_runner_id)
    if path == "absent":
        return Call("stranger", runners)
    if path == "own slot":
        return Call(owner, runners)
    if path == "late":
        return Call(owner, runners, fraction=1e-9)
    if path == "grace":
        return Call(owner, runners, grace=1e9)
    if count == 1:
        return None
    if path == "invalid":
        return Call(owner, runners, margin=INTERVAL_MINUTES)
    return Call(next(r.runner_id for r in reversed(runners) if r.runner_id != owner), runners)


def instant(microseconds: int) -> datetime:
    """A datetime from whole microseconds, as the decision makes its own."""
    return EPOCH + microseconds * MICROSECOND


def floor_of(call: Call) -> Callable[[], AtomicServiceClaim]:
    """A function that only makes what the decision answers."""
    claim = call.decide()
    name, reason, assigned = claim.runner_id, claim.reason, claim.assigned_runner_id
    position, count = claim.runner_position, claim.stable_runner_count
    flag, fraction = claim.is_slot_owner_now, claim.late_start_fraction
    text = claim.skip_message

    def message() -> str:
        # One field is formatted into the text anew, in place of all.
        return f"{text}{fraction or call.margin}"

    cycle, start, end = (
        None if at is None else (at - EPOCH) // MICROSECOND
        for at in (claim.cycle_start, claim.slot_start, claim.slot_end)
    )
    now = (datetime.fromtimestamp(NOW, UTC) - EPOCH) // MICROSECOND
    assert cycle is not None

    def without_slot() -> AtomicServiceClaim:
        return AtomicServiceClaim(
            name, reason, instant(cycle), assigned, position, count, None, None, flag, None,
            message() if text else "", fraction,
        )  # fmt: skip

    def with_slot() -> AtomicServiceClaim:
        assert start is not None
        assert end is not None
        return AtomicServiceClaim(
            name, reason, instant(cycle), assigned, position, count, instant(start), instant(end),
            flag, None, message() if text else "", fraction,
        )  # fmt: skip

    def with_run() -> AtomicServiceClaim:
        assert start is not None
        assert end is not None
        cycle_start, slot_start, slot_end = instant(cycle), instant(start), instant(end)
        run = AtomicServiceRun(
            AtomicServiceId(name), cycle_start, slot_start, slot_end, instant(now)
        )
        return AtomicServiceClaim(
            name, reason, cycle_start, assigned, position, count, slot_start, slot_end, flag, run,
            "", fraction,
        )  # fmt: skip

    if claim.should_try_start:
        return with_run
    return without_slot if start is None else with_slot


def timed(function: Callable[[], object], calls: int) -> float:
    """Nanoseconds a call."""
    started = time.perf_counter_ns()
    for _ in range(calls):
        function()
    return (time.perf_counter_ns() - started) / calls


def measure(path: str, count: int, seconds: float) -> Figure | None:
    """Time one path, its floor and the scan of its list, in turn."""
    call = call_for(path, count)
    if call is None:
        return None
    floor, name_of = floor_of(call), attrgetter("runner_id")
    names = [name_of(runner) for runner in call.runners]
    position = names.index(call.runner_id) if call.runner_id in names else None

    def scan() -> int | None:
        try:
            return indexOf(map(name_of, call.runners), call.runner_id)
        except ValueError:
            return None

    assert scan() == position
    calls = max(20, round(seconds / ROUNDS / 3 / (timed(call.decide, 20) / 1e9)))
    rounds = [
        (timed(call.decide, calls), timed(floor, calls), timed(scan, calls)) for _ in range(ROUNDS)
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
