"""Crosshair confirms the contracts on the shipped helpers over all paths."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import contracts

HERE = Path(__file__).parent
CONTRACTS = [
    name
    for name, function in inspect.getmembers(contracts, inspect.isfunction)
    if function.__module__ == "contracts"
]


def verdicts() -> dict[str, str]:
    """What crosshair says of each contract: its text, for an undecided run exits 0, too."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "crosshair", "check", "--report_all"),
            *("--analysis_kind", "PEP316", "--per_condition_timeout", "30", "contracts"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE,
        timeout=300,
    )
    assert done.stderr == ""
    lines = inspect.getsource(contracts).splitlines()
    said = {}
    for line in done.stdout.splitlines():
        match = re.match(r".*contracts\.py:(\d+): (.*)", line)
        assert match, line
        above = reversed(lines[: int(match[1])])
        name = next(found[1] for text in above if (found := re.match(r"def (\w+)", text)))
        said[name] = match[2]
    return said


def test_every_contract_is_confirmed_and_the_control_is_refuted() -> None:
    said = verdicts()
    assert said.keys() == set(CONTRACTS)
    confirmed = {name for name, text in said.items() if text == "info: Confirmed over all paths."}
    controls = {name for name in CONTRACTS if name.startswith("control_")}
    assert confirmed == set(CONTRACTS) - controls
    assert len(confirmed) >= 6
    assert all(said[name].startswith("error: false when calling") for name in controls)
    assert controls
