"""How long a decision takes beside the same decision of an earlier commit, in one run.

    python tests/benchmarks/decision_beside.py [COMMIT] [--json] [--seconds 0.6]

The module of the earlier commit is read from git and loaded beside the one of today. Both are
called with the same arguments, in turn, round by round, so that a machine whose speed drifts slows
both; which of the two goes first changes with each round. A figure in nanoseconds is the least of
its rounds; the ratio is the median of the rounds' ratios, and under 1 where today's decision is the
faster one. That both answer the same, but for the random id, is asserted first.
"""

import argparse
import json
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from decision import COUNTS, PATHS, arguments, arguments_for, commit, timed
from decision_floor import Arguments, Decide
from turnwise.atomic_service import AtomicServiceClaim, decide_atomic_service_claim

COMMIT = "39a6a80"  # the last one before claims were made without the constructor
ROUNDS = 31
NAME = "src/turnwise/atomic_service.py"


@dataclass(frozen=True)
class Figure:
    """One path at one number of runners: nanoseconds then and now, and now over then."""

    path: str
    runners: int
    then_ns: float
    now_ns: float
    ratio: float


def decision_of(revision: str) -> Decide:
    """The decision as it was at a commit."""
    read = subprocess.run(
        ["git", "show", f"{revision}:{NAME}"],  # noqa: S607 (git, wherever it is)
        capture_output=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    with TemporaryDirectory() as folder:
        source = Path(folder) / "earlier_atomic_service.py"
        source.write_bytes(read.stdout)
        spec = spec_from_file_location(source.stem, source)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[source.stem] = module  # where its dataclasses look for it
        spec.loader.exec_module(module)
    decide: Decide = module.decide_atomic_service_claim
    return decide


def told(claim: AtomicServiceClaim) -> list[object]:
    """What a claim says, but for its run, whose id is random."""
    names = AtomicServiceClaim.__match_args__
    return [getattr(claim, name) for name in names if name != "atomic_service_run"]


def measure(path: str, given: Arguments, then: Decide, seconds: float) -> Figure:
    """Time one path then and now, in turn."""
    now: Decide = decide_atomic_service_claim
    assert told(now(**given)) == told(then(**given))
    calls = max(20, round(seconds / ROUNDS / 2 / (timed(then, given, 200) / 1e9)))
    rounds = []
    for number in range(ROUNDS):
        if number % 2:
            earlier = timed(then, given, calls)
            rounds.append((earlier, timed(now, given, calls)))
        else:
            today = timed(now, given, calls)
            rounds.append((timed(then, given, calls), today))
    return Figure(
        path,
        len(given["active_runners"]),
        min(earlier for earlier, _ in rounds),
        min(today for _, today in rounds),
        median(today / earlier for earlier, today in rounds),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("commit", nargs="?", default=COMMIT, help="the earlier commit")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--seconds", type=float, default=0.6, help="time for each figure")
    options = parser.parse_args()
    then = decision_of(options.commit)
    cases = [("empty", arguments("stranger", []))]
    cases += [
        (path, given)
        for path in PATHS
        for count in COUNTS
        if (given := arguments_for(path, count)) is not None
    ]
    figures = [measure(path, given, then, options.seconds) for path, given in cases]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    if options.json:
        about = {"commit": commit(), "beside": options.commit, "python": python}
        json.dump(about | {"figures": [asdict(figure) for figure in figures]}, sys.stdout, indent=1)
        return
    print(f"commit {commit()} beside {options.commit}, {python}; times in nanoseconds\n")
    print(f"{'path':14}{'runners':>8}{'then':>11}{'now':>11}{'ratio':>8}")
    for figure in figures:
        print(
            f"{figure.path:14}{figure.runners:8,}{figure.then_ns:11,.0f}{figure.now_ns:11,.0f}"
            f"{figure.ratio:8.3f}"
        )


if __name__ == "__main__":
    main()
