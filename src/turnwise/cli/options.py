"""The options that several commands share, each declared once.

A command takes an option by naming its type, such as ``storage: StorageUrl = None``. Those that
make a service's settings are in :mod:`turnwise.cli.service_options`.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import typer

from turnwise.cli.given import (
    duration,
    fraction,
    instant,
    instant_or_duration,
    name,
    one_of,
    stagger,
    whole_number,
)
from turnwise.cli.log_choices import FORMATS, LEVELS
from turnwise.durations import format_duration

GROUP_VARIABLE: Final = "TURNWISE_GROUP"
"""The environment variable that ``--group`` falls back to."""

DEFAULT_GROUP: Final = "default"
"""The group where neither ``--group`` nor the environment names one."""

_METAVARS: Final[Mapping[object, str]] = {
    duration: "DURATION",
    fraction: "FRACTION",
    instant: "INSTANT",
    instant_or_duration: "INSTANT|DURATION",
    name: "NAME",
    stagger: "DURATION|auto",
    whole_number: "N",
}
"""What stands in the help for what each of these reads."""


def option(
    *flags: str,
    help: str,  # noqa: A002 (as typer has it)
    default: str | None = None,
    panel: str | None = None,
    parser: Callable[[str], object] | None = None,
    metavar: str | None = None,
    **kept: Any,
) -> Any:
    """An option whose help ends with its default, in words.

    Args:
        *flags: what it is called, such as ``"--every"``.
        help: what it does, as a sentence.
        default: what holds without it; None where that needs no word, as for a flag.
        panel: the heading that it stands under in the help; None for the first.
        parser: reads what was given.
        metavar: what stands for it in the help; None for what its parser reads.
        **kept: as ``typer.Option`` has them, such as ``envvar``.
    """
    return typer.Option(
        *flags,
        help=help if default is None else f"{help} Default: {default}.",
        rich_help_panel=panel,
        parser=parser,
        metavar=metavar or _METAVARS.get(parser),
        show_default=False,
        show_envvar=False,
        **kept,
    )


def take(command: Callable[..., int], parameters: Iterable[inspect.Parameter]) -> None:
    """Have typer see these parameters of a wrapped command, and not those of what it wraps."""
    listed = [each.replace(kind=each.KEYWORD_ONLY) for each in parameters]
    command.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in listed}
    del command.__wrapped__  # type: ignore[attr-defined]


# Options of most commands -------------------------------------------------------------------------

StorageUrl = Annotated[
    str | None,
    option(
        "--storage",
        metavar="URL",
        default="$TURNWISE_STORAGE, or the URL in the file $TURNWISE_STORAGE_FILE",
        help="The storage that all runners share, such as sqlite:///turns.db. One with a password "
        "belongs into the environment, as other users can read a command line.",
    ),
]
"""The storage's URL; None for the environment's, as ``open_storage`` has it."""

_GROUP = option(
    "--group",
    parser=name,
    envvar=GROUP_VARIABLE,
    default=f"${GROUP_VARIABLE}, or {DEFAULT_GROUP}",
    help="The programs that share their runners and services.",
)
Group = Annotated[str, _GROUP]
GroupIfAny = Annotated[str | None, _GROUP]
"""The same where a file may name it, too."""
Service = Annotated[str, option("--service", parser=name, help="The service's name.")]
ServiceOrAll = Annotated[
    str | None,
    option(
        "--service", parser=name, default="all services of the group", help="The service's name."
    ),
]
ServiceArgument = Annotated[
    str, typer.Argument(parser=name, metavar="SERVICE", help="The service's name.")
]
RunnerArgument = Annotated[
    str, typer.Argument(parser=name, metavar="RUNNER", help="The runner's id, as status shows it.")
]
Json = Annotated[bool, option("--json", help="Print JSON instead of text.")]
At = Annotated[
    datetime | None,
    option(
        "--at",
        parser=instant,
        default="now",
        help="Show what holds at this instant, such as 2026-01-31T12:00:00Z.",
    ),
]


# Options of the commands that serve ---------------------------------------------------------------

DEFAULT_GRACE: Final = timedelta(seconds=10)
"""The grace of a command where nothing names one."""

RunnerId = Annotated[
    str | None,
    option(
        "--runner-id",
        parser=name,
        metavar="ID",
        envvar="TURNWISE_RUNNER_ID",
        default="$TURNWISE_RUNNER_ID, or one that is unique to the process",
        help="Who this is. Give it where a restarted process shall keep its place.",
    ),
]
_GRACE = option(
    "--grace",
    parser=duration,
    default=format_duration(DEFAULT_GRACE),
    help="Time between asking a command to end, by SIGTERM, and killing it.",
)
Grace = Annotated[timedelta, _GRACE]
GraceIfAny = Annotated[timedelta | None, _GRACE]
"""The same where a file may name it, too."""

_LOG_FORMAT = option(
    "--log-format",
    parser=one_of(FORMATS),
    metavar="|".join(FORMATS),
    envvar="TURNWISE_LOG_FORMAT",
    default="$TURNWISE_LOG_FORMAT, or text",
    help="Log lines on stderr for people, or one JSON object a line.",
)
LogFormat = Annotated[str, _LOG_FORMAT]
LogFormatIfAny = Annotated[str | None, _LOG_FORMAT]
"""The same where a file may name it, too."""

_LOG_LEVEL = option(
    "--log-level",
    parser=one_of(LEVELS),
    metavar="|".join(LEVELS),
    default="info",
    help="Log what is at least so important.",
)
LogLevel = Annotated[str, _LOG_LEVEL]
LogLevelIfAny = Annotated[str | None, _LOG_LEVEL]
"""The same where a file may name it, too."""
