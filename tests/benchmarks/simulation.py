"""How fast the simulation plays, beside an earlier one in the same run.

    python tests/benchmarks/simulation.py [--beside PATH] [--json] [--seeds 60]

======== ==========================================================================================
calm     five runners, a service that is due every five minutes, a job of 30 seconds, two days, and
         nothing goes wrong
daily    the same with a service that is due once a day, for ten days
faults   the same as ``calm`` for twelve hours, where messages take up to 20 ms and runners are
         killed, restarted, cut off, replaced, joined by others, and their turns fail and take long
random   the first seeds of the random scenarios, with all oracles
======== ==========================================================================================

A *round* is a look or a heartbeat of a runner, on both sides. Those heartbeats count, too, that the
simulation leaves out because they would change nothing: their answers are known, and the result is
the same. But a round is not what somebody waits for. One commit may ask the storage more often than
another for the same work, or do more in a round. So two figures stand beside it: turns per second,
and hours per second: of all runners together, simulated. All are for a second of processor time of
one core, of the best of three plays. The two commits are played in turn, each in a process of its
own, so that a machine whose speed drifts slows both.

``--beside`` is a checkout of an earlier commit, such as a git worktree, whose simulation is played
with its own settings (``interval`` in place of ``schedule``).

Limits: processor time on a shared machine varies by a tenth and more. The first three scenarios are
the same on both sides. A random scenario of one commit is not that of another: later ones have more
services, kinds of schedules and kinds of faults.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

ROUNDS = 3
_HERE = Path(__file__).resolve().parents[2]
_COMMON = """
import json, sys, time
from datetime import timedelta
minute, day = timedelta(minutes=1), timedelta(days=1)
def timed(*scenarios):
    began = time.process_time()
    results = [simulate(scenario) for scenario in scenarios]
    took = time.process_time() - began
    assert not any(result.violations for result in results)
    hours = sum(s.runners * s.duration / timedelta(hours=1) for s in scenarios)
    return {"rounds_per_second": sum(result.rounds for result in results) / took,
            "turns_per_second": sum(result.turns for result in results) / took,
            "hours_per_second": hours / took}
def calm(every, job, duration, **more):
    settings = settings_of(every)
    return Scenario(settings=settings, runners=5, job=Fixed(job), duration=duration, **more)
kinds = "CRASH", "RESTART", "CUT_OFF", "LEAVE", "JOIN", "FAILURE", "OVERRUN"
lasts = Uniform(minute / 6, 3 * minute)
faults = tuple(Fault(FaultKind[kind], 30 * minute, lasts) for kind in kinds)
latency = Uniform(timedelta(0), timedelta(milliseconds=20))
print(json.dumps({
    "calm": timed(calm(5 * minute, minute / 2, 2 * day)),
    "daily": timed(calm(day, minute / 2, 10 * day)),
    "faults": timed(calm(5 * minute, minute / 2, day / 2, faults=faults, latency=latency)),
    "random": timed(*map(random_scenario, range(int(sys.argv[1])))),
}))
"""
_IMPORTS = """
from turnwise.simulation import Fault, FaultKind, Fixed, Scenario, Uniform, simulate
from turnwise.simulation.random_scenarios import random_scenario
"""
_NOW = """
from turnwise.schedules import Every
from turnwise.settings import Settings
def settings_of(every): return Settings(schedule=Every(every))
"""
_EARLIER = """
from turnwise import Settings
def settings_of(every): return Settings(interval=every)
"""


def code_for(checkout: Path) -> str:
    """What plays the simulation of a checkout."""
    is_of_now = (checkout / "src" / "turnwise" / "simulation" / "play.py").exists()
    return _IMPORTS + (_NOW if is_of_now else _EARLIER) + _COMMON


def played(checkout: Path, seeds: int) -> dict[str, dict[str, float]]:
    """One play of both, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code_for(checkout), str(seeds)],
        env=os.environ | {"PYTHONPATH": str(checkout / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    figures: dict[str, dict[str, float]] = json.loads(done.stdout)
    return figures


def best(plays: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Of each scenario the play that was fastest."""
    return {
        name: max((play[name] for play in plays), key=lambda one: one["rounds_per_second"])
        for name in plays[0]
    }


def commit(checkout: Path) -> str:
    """The commit of a checkout."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 (whichever git there is)
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or f"no commit ({checkout.name})"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--beside", type=Path, help="a checkout of an earlier commit")
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    checkouts = [_HERE] if options.beside is None else [_HERE, options.beside.resolve()]
    plays: dict[Path, list[dict[str, dict[str, float]]]] = {each: [] for each in checkouts}
    for _ in range(ROUNDS):
        for checkout in checkouts:
            plays[checkout].append(played(checkout, options.seeds))
    found = {commit(each): best(plays[each]) for each in checkouts}
    if options.json:
        print(json.dumps({"python": platform.python_version(), "commits": found}))
        return
    print(f"Python {platform.python_version()}, {options.seeds} seeds")
    for name, figures in found.items():
        for scenario, one in figures.items():
            print(
                f"{name} {scenario:8} {one['rounds_per_second']:12,.0f} rounds/s "
                f"{one['turns_per_second']:9,.1f} turns/s {one['hours_per_second']:9,.1f} hours/s"
            )


if __name__ == "__main__":
    main()
