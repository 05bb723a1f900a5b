"""The command line: ``turnwise run``, ``status``, ``pause`` and the others.

Needs the extra ``cli``. Results go to stdout, logs and errors to stderr. Exit status 0 is well,
1 a bad result (each command says which), 2 bad input, in one line and without a traceback.
"""

import gc
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command line with ``arguments``, by default the process's own; the exit status."""
    # Until a command is called: what is imported stays, and to look through it takes a tenth.
    gc.disable()
    try:
        return _main(sys.argv[1:] if arguments is None else arguments)
    finally:
        gc.enable()
        if arguments is None:  # the process ends, and would look through all of it once more
            gc.freeze()


def _main(arguments: list[str]) -> int:
    try:
        from turnwise.cli.app import run_app  # noqa: PLC0415 (needs an extra)
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] not in {"typer", "rich"}:
            raise
        print(  # noqa: T201
            "turnwise: the command line needs the extra 'cli': pip install 'turnwise[cli]'",
            file=sys.stderr,
        )
        return 2
    return run_app(arguments)
