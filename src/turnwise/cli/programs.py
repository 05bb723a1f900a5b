"""Whether a command can be run: said when it is read, rather than in its first turn."""

import os
import shutil
from pathlib import Path
from typing import Final

_LONGEST_FIRST_LINE: Final = 256


def why_no_program(
    program: str, *, directory: str | None = None, path: str | None = None
) -> str | None:
    """Why a program cannot be run here now; None where it can.

    Args:
        program: its name, or its path.
        directory: the working directory that a relative path counts from; None for our own.
        path: the ``PATH`` to look for a name in; None for our own.
    """
    at = program
    if os.path.sep in program and directory is not None:
        at = str(Path(directory) / program)
    found = shutil.which(at, path=path)
    if found is not None:
        interpreter = _interpreter_of(Path(found))
        is_there = not interpreter or shutil.which(interpreter, path=path) is not None
        needs = f"the command {program!r} needs {interpreter!r}, which cannot be run"
        return None if is_there else needs
    if os.path.sep not in program:
        return f"the command {program!r} does not exist on the PATH"
    if Path(at).is_dir():
        return f"the command {program!r} is a folder"
    if Path(at).is_file():
        return f"the command {program!r} is not executable: chmod +x it"
    return f"the command {program!r} does not exist"


def _interpreter_of(file: Path) -> str:
    """What the first line of a script names after ``#!``; empty where it is no script."""
    try:
        with file.open("rb") as script:
            first_line = script.readline(_LONGEST_FIRST_LINE)
    except OSError:  # it may be run, and not be read
        return ""
    if not first_line.startswith(b"#!"):
        return ""
    # As the system takes it, to which a carriage return is a part of the name.
    return os.fsdecode(first_line[2:].strip(b" \t\n").replace(b"\t", b" ").partition(b" ")[0])
