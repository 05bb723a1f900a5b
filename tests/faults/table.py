"""The fault suite, and its figures as a table for the docs: ``python tests/faults/table.py``."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

STORAGES = ("sqlite", "postgresql", "mariadb", "redis", "valkey")


def main() -> int:
    """Run the suite; print the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures"
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-m",
                "faults",
                "-n",
                "2",
                Path(__file__).parent,
            ],
            env=os.environ | {"FAULT_FIGURES": str(path), "FAULTS_THOROUGH": "1"},
            stdout=sys.stderr,
            check=False,
        )
        lines = path.read_text().splitlines() if path.exists() else []
    print(table([json.loads(line) for line in lines]))  # noqa: T201
    return done.returncode


def table(figures: list[dict[str, str | int | float | None]]) -> str:
    """A line for each scenario; for each storage the overlaps, the lost runs, the recovery.

    What is outside of the promise stands at the end, and says how many tokens came twice.
    """
    rows: dict[str, dict[str, str]] = {}
    for one in sorted(figures, key=_place):
        recovery = "" if one["recovery"] is None else f", {one['recovery']:.1f} s"
        again = one["tokens_again"]
        twice = "" if again is None else f", {again} token{'s' * (again != 1)} again"
        cell = f"{one['overlaps']}, {one['lost_runs']}{recovery}{twice}"
        outside = "" if again is None else "*outside of the promise:* "
        rows.setdefault(f"{outside}{one['scenario']}", {})[str(one["storage"])] = cell
    bound = max((float(one["bound"]) for one in figures if one["bound"]), default=0)
    caption = (
        "Overlapping executions, runs that were lost, and where a turn was cut off the time "
        f"until the next began (promised: {bound:.2f} s)."
    )
    lines = [
        caption,
        "",
        "| what goes wrong | " + " | ".join(STORAGES) + " |",
        "|---" * (1 + len(STORAGES)) + "|",
    ]
    lines += [
        f"| {scenario} | " + " | ".join(cells.get(name, "-") for name in STORAGES) + " |"
        for scenario, cells in rows.items()
    ]
    return "\n".join(lines)


def _place(one: dict[str, str | int | float | None]) -> tuple[bool, str]:
    return one["tokens_again"] is not None, str(one["scenario"])


if __name__ == "__main__":
    sys.exit(main())
