"""The commands, gathered, and how their errors reach the user."""

import io
import os
import sys
from typing import Annotated, Any

import typer

from turnwise import __version__
from turnwise.cli.errors import BadInput, nearest
from turnwise.cli.help import CONTEXT, Commands, Entry
from turnwise.errors import MissingExtraError, StorageError, TurnwiseError
from turnwise.names import printable
from turnwise.storages.urls import without_password

# typer's own errors, under whichever name its version brings them (ClickException).
_UsageError: type[Exception] = typer.BadParameter.__mro__[2]

_RUN, _LOOK, _CONTROL, _MORE = "Run", "Look", "Control", "More"
_ENTRIES = {
    "run": Entry(
        _RUN, "Run a command whenever it is due, on one of many machines.", takes_command=True
    ),
    "up": Entry(_RUN, "Serve all services of a file, or of a program."),
    "import-crontab": Entry(_RUN, "Turn a crontab into a file of services."),
    "demo": Entry(_RUN, "Watch three processes take turns, and one take over from another."),
    "status": Entry(_LOOK, "Who is alive, who runs, what ran last."),
    "explain": Entry(_LOOK, "Why a runner starts now, or does not."),
    "history": Entry(_LOOK, "What has run, row by row."),
    "audit": Entry(_LOOK, "What became of each period that was due."),
    "check": Entry(_LOOK, "One line and an exit status, to be watched."),
    "chart": Entry(_LOOK, "Draw what has run, over time."),
    "web": Entry(_LOOK, "A page to look at, in a browser."),
    "pause": Entry(_CONTROL, "Let a service start no run any more.", "controls"),
    "resume": Entry(_CONTROL, "End a pause.", "controls"),
    "trigger": Entry(_CONTROL, "Run a service once, now.", "controls"),
    "drain": Entry(_CONTROL, "Let a runner take no new run.", "controls"),
    "undrain": Entry(_CONTROL, "Let a runner take runs again.", "controls"),
    "forget": Entry(_CONTROL, "Forget a service or a runner that is gone.", "controls"),
    "plan": Entry(_MORE, "Who would have which slot, and what settings promise."),
    "schedule": Entry(_MORE, "List when a schedule is due, a year ahead."),
    "simulate": Entry(_MORE, "Try settings and failures in simulated time."),
    "schema": Entry(_MORE, "Print or upgrade the tables of a database."),
}
_EXAMPLES = """\
turnwise demo
turnwise run --storage sqlite:///turns.db --service hello --every 10s -- date
turnwise status --storage sqlite:///turns.db

Each command says more with --help.
"""


class _Turnwise(Commands):
    entries = _ENTRIES


_app = typer.Typer(
    name="turnwise",
    cls=_Turnwise,
    help="Run each job once, on one of many machines, whenever it is due.\n\n"
    "Start the same jobs on every machine. They share a storage (SQLite, PostgreSQL, MariaDB, "
    "Redis) and take turns by the clock: no leader, one run at a time, and the next in line takes "
    "over when one dies.",
    epilog=_EXAMPLES,
    rich_markup_mode=None,
    context_settings=CONTEXT,
    pretty_exceptions_enable=False,
)


@_app.callback(invoke_without_command=True)
def _turnwise(
    *,
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", show_default=False),
    ] = False,
) -> None:
    if show_version:
        print(f"turnwise {__version__}")  # noqa: T201
        raise typer.Exit


def run_app(arguments: list[str]) -> int:
    """Run a command; the exit status."""
    _prepare_streams()
    try:
        result = _app(args=arguments or ["--help"], prog_name="turnwise", standalone_mode=False)
        sys.stdout.flush()  # where it is full, that is known here
    except _UsageError as error:
        return _complain(_without_passwords(_of_usage(error), arguments), 2)
    except (BadInput, MissingExtraError) as error:
        return _complain(_without_passwords(str(error), arguments), 2)
    except (StorageError, TurnwiseError) as error:
        return _complain(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", 130)
    except OSError as error:
        _forget_what_cannot_be_written()
        # Where the pipe is broken, whoever read our output has gone.
        return 1 if isinstance(error, BrokenPipeError) else _complain(str(error), 1)
    if not arguments:
        return 2  # nothing was asked for
    return result if isinstance(result, int) else 0


def _prepare_streams() -> None:
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed by whoever started us
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: PTH123, SIM115 (for as long as we run)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal cannot show is shown by its numbers.
        sys.stdout.reconfigure(errors="backslashreplace")


def _of_usage(error: Any) -> str:
    # Some of typer's hints come on lines of their own.
    message = " ".join(str(error.format_message()).split())
    if getattr(error, "possibilities", None):  # typer offers far ones, too
        near = nearest(error.option_name, error.possibilities)
        message = error.message if near is None else f"{error.message}. Did you mean {near}?"
    context = getattr(error, "ctx", None)
    if message and context is not None:
        message = f"{message.rstrip('.')} (see {context.command_path} --help)"
    return message  # an empty one where the help was printed


def _without_passwords(message: str, arguments: list[str]) -> str:
    """A URL in another argument's place is repeated by whoever does not expect it there."""
    for argument in arguments:
        message = message.replace(argument, without_password(argument))
    return message


def _forget_what_cannot_be_written() -> None:
    """Or it would be tried again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str, status: int) -> int:
    if message:
        print(f"turnwise: {printable(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201
    return status
