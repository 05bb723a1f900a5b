"""How fast the simulation plays, calm and at random, beside an earlier one in the same run.

    python tests/benchmarks/simulation.py [--beside PATH] [--json] [--seeds 60]

``calm``: five runners, a service that is due every five minutes, a job of 30 seconds, two days, and
nothing goes wrong. ``random``: the first seeds of the random scenarios, with all oracles. A *round*
is a look or a heartbeat. Each figure is the best of three plays, in processor time of one core; the
two commits are played in turn, each in a process of its own, so that a machine whose speed drifts
slows both. Beside rounds per second stands simulated time per second, because one commit may ask
the storage more often for the same time than another.

``--beside`` is a checkout of an earlier commit, such as a git worktree, whose simulation is played
with its own settings (``interval`` in place of ``schedule``).

Limits: processor time on a shared machine varies by a tenth and more; a random scenario of one
commit is not that of another.
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
minute = timedelta(minutes=1)
def timed(play):
    began = time.process_time()
    rounds, simulated = play()
    took = time.process_time() - began
    return {"rounds": rounds, "rounds_per_second": rounds / took,
            "simulated_hours_per_second": simulated / timedelta(hours=1) / took}
def alone(scenario):
    result = simulate(scenario)
    assert not result.violations
    return result.rounds, scenario.duration
def many(seeds):
    played = [alone(random_scenario(seed)) for seed in range(seeds)]
    return sum(rounds for rounds, _ in played), sum((d for _, d in played), timedelta(0))
calm = Scenario(settings=settings, runners=5, job=Fixed(minute / 2), duration=timedelta(days=2))
print(json.dumps({"calm": timed(lambda: alone(calm)),
                  "random": timed(lambda: many(int(sys.argv[1])))}))
"""
_NOW = """
from turnwise.schedules import Every
from turnwise.settings import Settings
from turnwise.simulation import Fixed, Scenario, simulate
from turnwise.simulation.random_scenarios import random_scenario
settings = Settings(schedule=Every("5m"))
"""
_EARLIER = """
from datetime import timedelta
from turnwise import Settings
from turnwise.simulation import Fixed, Scenario, simulate
from turnwise.simulation.random_scenarios import random_scenario
settings = Settings(interval=timedelta(minutes=5))
"""


def code_for(checkout: Path) -> str:
    """What plays the simulation of a checkout."""
    is_of_now = (checkout / "src" / "turnwise" / "simulation" / "play.py").exists()
    return (_NOW if is_of_now else _EARLIER) + _COMMON


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
    return done.stdout.strip() or "no commit"


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
                f"{name} {scenario:8} {one['rounds_per_second']:10,.0f} rounds/s "
                f"{one['simulated_hours_per_second']:10,.1f} simulated hours/s"
            )


if __name__ == "__main__":
    main()
