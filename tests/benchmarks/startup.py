"""How long a command takes from nothing: beside an earlier commit, in turn, in one run.

    python tests/benchmarks/startup.py FOLDER [--rounds N]

FOLDER is a worktree of the earlier commit (`git worktree add FOLDER 39a6a80`). Each row is a new
process. What is printed are medians in milliseconds, of the wall clock and of the processor, and
the ratio of the processor's: a neighbour that is busy moves it least.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).parents[2] / "src"
URL = "sqlite:///turns.db"
STORAGE = "--storage"  # stands for what an older turnwise calls it, too
SCHEDULER = "from turnwise import Scheduler"  # what a program imports
BEFORE = {
    STORAGE: "--backend",
    "--every": "--interval",
    SCHEDULER: "from turnwise import Runner",
}
# What is compiled once is not to be compiled in each process.
_ENVIRONMENT = {name: os.environ[name] for name in os.environ if name != "PYTHONDONTWRITEBYTECODE"}
ROWS = {
    "import turnwise": ["-c", "import turnwise"],
    SCHEDULER: ["-c", SCHEDULER],
    "from turnwise import *": ["-c", "from turnwise import *"],
    "turnwise --help": ["-m", "turnwise.cli", "--help"],
    "turnwise status": ["-m", "turnwise.cli", "status", STORAGE, URL, "--service", "job"],
}


def run(source: Path, arguments: list[str], folder: Path) -> tuple[float, float]:
    """Run Python once; seconds by the wall, and of the processor."""
    words = arguments if source == HERE else [BEFORE.get(each, each) for each in arguments]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=_ENVIRONMENT | {"PYTHONPATH": str(source)},
        capture_output=True,
        check=False,
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{arguments} of {source}: {done.stderr.decode()}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used


def prepare(source: Path, folder: Path) -> None:
    """Have a run in the history, so that there is something to show."""
    options = [STORAGE, URL, "--service", "job", "--once", "--every", "1s"]
    run(source, ["-m", "turnwise.cli", "run", *options, "--", "true"], folder)


def main() -> None:
    """Print one row for each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a worktree of the earlier commit")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    sources = {"then": given.folder.resolve() / "src", "now": HERE}
    with tempfile.TemporaryDirectory() as base:
        for name, source in sources.items():
            (Path(base) / name).mkdir()
            prepare(source, Path(base) / name)
        print(f"{'':31}{'then':>16}{'now':>16}{'ratio':>8}")
        for row, arguments in ROWS.items():
            took: dict[str, list[tuple[float, float]]] = {name: [] for name in sources}
            for _ in range(given.rounds):
                for name, source in sources.items():
                    took[name].append(run(source, arguments, Path(base) / name))
            walls = {name: median(wall for wall, _ in each) for name, each in took.items()}
            used = {name: median(cpu for _, cpu in each) for name, each in took.items()}
            cells = [f"{walls[name] * 1e3:7.0f} ({used[name] * 1e3:5.0f})" for name in sources]
            print(f"{row:31}" + "".join(f"{cell:>16}" for cell in cells), end="")
            print(f"{used['now'] / used['then']:8.2f}")


if __name__ == "__main__":
    main()
