"""Make mutants, and try them.

    PYTHONPATH=tests python -m mutation RESULTS [--of turnwise.machine] [--longest 0.2]

What is mutated, and which tests run, is in ``pyproject.toml`` under ``tool.mutmut``. ``RESULTS``
is a file with a line for each mutant: what became of it, its name, and the test that failed. What
stands there is not tried again, so a run may be interrupted; to try what survived with new tests,
take its lines out. The mutants are in the folder ``mutants``, each beside the function that it was
made of; remove the folder where the code has changed.
"""

import argparse
import os
import sys
from pathlib import Path

_MUTANTS = Path("mutants")


def main() -> None:
    """Make mutants, and try them, as told on the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--of", default="turnwise", help="only mutants whose names begin so")
    parser.add_argument("--longest", default="inf", help="leave out tests that take longer, in s")
    options = parser.parse_args()
    results = str(options.results.resolve())
    if not _MUTANTS.exists():
        _make()
    os.chdir(_MUTANTS)
    path = os.pathsep.join(str(Path(folder).resolve()) for folder in ("src", "tests"))
    trial = ["-m", "mutation.trial", results, options.of, options.longest]
    os.execve(sys.executable, [sys.executable, *trial], os.environ | {"PYTHONPATH": path})  # noqa: S606


def _make() -> None:
    """Have mutmut write its mutants, and put our trampoline in the place of its own."""
    # They read the command line and the configuration at once.
    from mutmut.__main__ import create_mutants  # noqa: PLC0415
    from mutmut.utils import file_utils  # noqa: PLC0415

    os.environ["MUTANT_UNDER_TEST"] = "mutant_generation"
    _MUTANTS.mkdir()
    file_utils.copy_src_dir()
    file_utils.copy_also_copy_files()
    file_utils.setup_source_paths()
    create_mutants(2)
    del os.environ["MUTANT_UNDER_TEST"]
    for path in file_utils.walk_source_files():
        written = _MUTANTS / path
        text = written.read_text()
        ours = text.replace(
            "from mutmut.mutation.trampoline import", "from mutation.trampoline import"
        )
        written.write_text(ours)


if __name__ == "__main__":
    main()
