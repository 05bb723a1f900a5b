"""The commands, gathered, and how their errors reach the user."""

import io
import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from turnwise.backends import MissingExtraError, StorageError
from turnwise.cli import chart, demo, explain, plan, run, schema, simulate, status
from turnwise.cli.errors import BadInput
from turnwise.cli.output import make_room

# typer's own errors, under whichever name its version brings them (ClickException).
_UsageError: type[Exception] = typer.BadParameter.__mro__[2]

_app = typer.Typer(
    name="turnwise",
    help="N runners take turns at one service by the clock: one at a time, no leader.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # paragraphs, rather than the lines of a docstring
    pretty_exceptions_enable=False,
)


@_app.callback(invoke_without_command=True)
def _turnwise(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.")
    ] = False,
) -> None:
    if show_version:
        print(f"turnwise {version('turnwise')}")  # noqa: T201
        raise typer.Exit


# After the first word of the command to run, nothing is turnwise's own option.
_app.command(
    "run",
    options_metavar="[OPTIONS] --",
    context_settings={"allow_interspersed_args": False},
)(run.run)
_app.command("plan")(plan.plan)
_app.command("explain")(explain.explain)
_app.command("status")(status.status)
_app.command("chart")(chart.chart)
_app.command("schema")(schema.schema)
_app.command("demo")(demo.demo)
_app.command("simulate")(simulate.simulate)


def run_app(arguments: list[str]) -> int:
    """Run a command; the exit status."""
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed by whoever started us
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: PTH123, SIM115 (for as long as we run)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal cannot show is shown by its numbers.
        sys.stdout.reconfigure(errors="backslashreplace")
    make_room()
    try:
        result = _app(args=arguments, prog_name="turnwise", standalone_mode=False)
        sys.stdout.flush()  # where it is full, that is known here
    except _UsageError as error:
        # Some of typer's hints come on lines of their own.
        message = " ".join(str(error.format_message()).split())  # type: ignore[attr-defined] # ClickException has it
        return _complain(message, 2) if message else 2  # none: the help was printed
    except BadInput as error:
        return _complain(str(error), 2)
    except (StorageError, MissingExtraError) as error:
        return _complain(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", 130)
    except OSError as error:
        _forget_what_cannot_be_written()
        # Where the pipe is broken, whoever read our output has gone.
        return 1 if isinstance(error, BrokenPipeError) else _complain(str(error), 1)
    return result if isinstance(result, int) else 0


def _forget_what_cannot_be_written() -> None:
    """Or it would be tried again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str, status: int) -> int:
    print(f"turnwise: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    return status
