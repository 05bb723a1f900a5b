"""The options that several commands share, each declared once, and the settings that they make.

A command takes an option by naming its type, such as ``storage: StorageUrl = None``. A command
that takes all the options of a service has a parameter ``settings: Settings`` and the decorator
:func:`takes_settings`.
"""

import functools
import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

import typer

from turnwise.cli.errors import BadInput, settings_as_options
from turnwise.cli.log_choices import FORMATS, LEVELS
from turnwise.durations import format_duration, parse_duration
from turnwise.names import checked_name
from turnwise.schedules import Cron, Every, Schedule, parse_schedule
from turnwise.settings import Settings

# What every storage can count, and a decision's float of seconds can tell apart, with room for
# the cycles before and after.
_FIRST_YEAR, _YEAR_AFTER_LAST = 1970, 2200

DEFAULTS: Final = Settings()
"""The settings where no option is given."""

GROUP_VARIABLE: Final = "TURNWISE_GROUP"
"""The environment variable that ``--group`` falls back to."""

DEFAULT_GROUP: Final = "default"
"""The group where neither ``--group`` nor the environment names one."""


# Reading what was given ---------------------------------------------------------------------------


def duration(text: str | timedelta) -> timedelta:
    """Read a duration, or say in typer's way that it is none."""
    if isinstance(text, timedelta):
        return text
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def whole_number(text: str | int) -> int:
    """Read a whole number, or say in typer's way that it is none."""
    try:
        return int(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no whole number") from error


def fraction(text: str | float) -> float:
    """Read a number, or say in typer's way that it is none."""
    try:
        return float(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no number such as 0.5") from error


def stagger(text: str | timedelta) -> timedelta | Literal["auto"]:
    """Read a duration or the word ``auto``, or say in typer's way that it is neither."""
    return "auto" if text == "auto" else duration(text)


def instant(text: str | datetime) -> datetime:
    """Read an ISO instant; one without an offset is in UTC."""
    if isinstance(text, datetime):
        return text
    try:
        read = datetime.fromisoformat(text)
        read = (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{text!r} is no instant: write it as 2026-01-31T12:00:00Z"
        ) from error
    if not _FIRST_YEAR <= read.year < _YEAR_AFTER_LAST:
        raise typer.BadParameter(
            f"{text!r} is out of range: an instant must be from {_FIRST_YEAR} to "
            f"{_YEAR_AFTER_LAST - 1}"
        )
    return read


def instant_or_duration(text: str | datetime | timedelta) -> datetime | timedelta:
    """Read an instant such as ``2026-01-31T12:00:00Z``, or a duration such as ``2h``."""
    if not isinstance(text, str):
        return text
    try:
        return parse_duration(text)
    except ValueError:
        pass
    try:
        return instant(text)
    except typer.BadParameter as error:
        raise typer.BadParameter(
            f"{error.message}, or as a duration such as 30m or 2h30m"
        ) from error


def name(text: str) -> str:
    """Read the name of a service or a runner, or say in typer's way that it is none."""
    try:
        return checked_name("it", text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise typer.BadParameter(f"{text!r} is none of {', '.join(words)}")
        return text

    return read


def option(
    *flags: str,
    help: str,  # noqa: A002 (as typer has it)
    default: str | None = None,
    panel: str | None = None,
    **kept: Any,
) -> Any:
    """An option whose help ends with its default, in words.

    Args:
        *flags: what it is called, such as ``"--every"``.
        help: what it does, as a sentence.
        default: what holds without it; None where that needs no word, as for a flag.
        panel: the heading that it stands under in the help; None for the first.
        **kept: as ``typer.Option`` has them: ``parser``, ``metavar``, ``envvar``, ...
    """
    said = help if default is None else f"{help} Default: {default}."
    return typer.Option(
        *flags, help=said, rich_help_panel=panel, show_default=False, show_envvar=False, **kept
    )


# Options of most commands -------------------------------------------------------------------------

_DURATION: Final = "DURATION"

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
    metavar="NAME",
    envvar=GROUP_VARIABLE,
    default=f"${GROUP_VARIABLE}, or {DEFAULT_GROUP}",
    help="The programs that share their runners and services.",
)
Group = Annotated[str, _GROUP]
GroupIfAny = Annotated[str | None, _GROUP]
"""The same where a file may name it, too."""
Service = Annotated[
    str, option("--service", parser=name, metavar="NAME", help="The service's name.")
]
ServiceOrAll = Annotated[
    str | None,
    option(
        "--service",
        parser=name,
        metavar="NAME",
        default="all services of the group",
        help="The service's name.",
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
        metavar="INSTANT",
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
    metavar=_DURATION,
    default=format_duration(DEFAULT_GRACE),
    help="Time between asking a command to end, by SIGTERM, and killing it.",
)
Grace = Annotated[timedelta, _GRACE]
GraceIfAny = Annotated[timedelta | None, _GRACE]
"""The same where a file may name it, too."""

_LOG_FORMAT = option(
    "--log-format",
    parser=_one_of(FORMATS),
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
    parser=_one_of(LEVELS),
    metavar="|".join(LEVELS),
    default="info",
    help="Log what is at least so important.",
)
LogLevel = Annotated[str, _LOG_LEVEL]
LogLevelIfAny = Annotated[str | None, _LOG_LEVEL]
"""The same where a file may name it, too."""


# Options that make a service's settings -----------------------------------------------------------

_WHEN: Final = "When the service is due"
_WHO: Final = "Who runs it, and how often it is tried"
_FINE: Final = "Fine tuning"

EveryInterval = Annotated[
    timedelta | None,
    option(
        "--every",
        parser=duration,
        metavar=_DURATION,
        default="5m, without --cron and --schedule",
        help="Time between two due instants, such as 30s or 5m.",
        panel=_WHEN,
    ),
]
Offset = Annotated[
    timedelta | None,
    option(
        "--offset",
        parser=duration,
        metavar=_DURATION,
        default="0s",
        help="Moves the due instants of --every from whole multiples of it since 1970, UTC: "
        "--every 1d --offset 3h is 03:00 UTC.",
        panel=_WHEN,
    ),
]
CronExpression = Annotated[
    str | None,
    option(
        "--cron",
        metavar="EXPRESSION",
        default="none",
        help="Due by a cron expression of five fields, or six with seconds, such as '0 3 * * *'.",
        panel=_WHEN,
    ),
]
Timezone = Annotated[
    str | None,
    option(
        "--timezone",
        metavar="ZONE",
        default="UTC",
        help="The zone whose wall clock --cron is read by, such as Europe/Vienna.",
        panel=_WHEN,
    ),
]
ScheduleText = Annotated[
    str | None,
    option(
        "--schedule",
        metavar="TEXT",
        default="none",
        help="The schedule as one text, as status shows it: 'every 1d offset 3h', or 'cron 0 3 * * "
        "* Europe/Vienna'.",
        panel=_WHEN,
    ),
]
StartWithin = Annotated[
    timedelta | None,
    option(
        "--start-within",
        parser=duration,
        metavar=_DURATION,
        default="until the next due instant",
        help="How long after its due instant a run may still start.",
        panel=_WHEN,
    ),
]
StaggerBy = Annotated[
    timedelta,
    option(
        "--stagger",
        parser=stagger,
        metavar=f"{_DURATION}|auto",
        default="0s",
        help="Spreads services that are due at one instant within this time, by their names; auto "
        "is a tenth of --every.",
        panel=_WHEN,
    ),
]
Attempts = Annotated[
    int,
    option(
        "--attempts",
        parser=whole_number,
        metavar="N",
        default=f"{DEFAULTS.attempts}",
        help="How many runs a due instant gets in all, where they fail or their runner dies.",
        panel=_WHO,
    ),
]
Timeout = Annotated[
    timedelta | None,
    option(
        "--timeout",
        parser=duration,
        metavar=_DURATION,
        default="none",
        help="How long a run may take; then it is ended, and has failed.",
        panel=_WHO,
    ),
]
Standbys = Annotated[
    int,
    option(
        "--standbys",
        parser=whole_number,
        metavar="N",
        default=f"{DEFAULTS.standbys}",
        help="How many runners stand by in each cycle, to take over from the first.",
        panel=_WHO,
    ),
]
EverySlot = Annotated[
    bool,
    option(
        "--every-slot",
        help="Each runner runs once in each period, one after the other; only with --every.",
        panel=_WHO,
    ),
]
CycleLength = Annotated[
    timedelta,
    option(
        "--cycle",
        parser=duration,
        metavar=_DURATION,
        default=format_duration(DEFAULTS.cycle),
        help="The longest time for which the set of runners stays as it is. Shorter: a takeover "
        "and a new runner come sooner.",
        panel=_FINE,
    ),
]
Margin = Annotated[
    timedelta | None,
    option(
        "--margin",
        parser=duration,
        metavar=_DURATION,
        default="20s, at most a fifteenth of a cycle",
        help="Time at the end of each slot in which nobody starts.",
        panel=_FINE,
    ),
]
HeartbeatTimeout = Annotated[
    timedelta | None,
    option(
        "--heartbeat-timeout",
        parser=duration,
        metavar=_DURATION,
        default="60s, at most a fifth of a cycle",
        help="Silence after which a runner counts as dead, and a standby takes over.",
        panel=_FINE,
    ),
]
MaxStartFraction = Annotated[
    float,
    option(
        "--max-start-fraction",
        parser=fraction,
        metavar="FRACTION",
        default=f"{DEFAULTS.max_start_slot_fraction}",
        help="The part of a slot, over 0 and at most 1, within which a run may start.",
        panel=_FINE,
    ),
]
Stabilization = Annotated[
    timedelta,
    option(
        "--stabilization",
        parser=duration,
        metavar=_DURATION,
        default="0s",
        help="Age below which a runner that has joined starts no run.",
        panel=_FINE,
    ),
]
MinRunMargin = Annotated[
    timedelta | None,
    option(
        "--min-run-margin",
        parser=duration,
        metavar=_DURATION,
        default="50ms, at most a hundredth of a cycle",
        help="Time that must be left of the slot once the storage has let a run start.",
        panel=_FINE,
    ),
]
RetentionAge = Annotated[
    timedelta,
    option(
        "--retention-age",
        parser=duration,
        metavar=_DURATION,
        default=format_duration(DEFAULTS.retention_age),
        help="How long the service's history is kept.",
        panel=_FINE,
    ),
]
RetentionCount = Annotated[
    int,
    option(
        "--retention-count",
        parser=whole_number,
        metavar="N",
        default=f"{DEFAULTS.retention_count:,}",
        help="How many rows of the service's history are kept.",
        panel=_FINE,
    ),
]


def settings_from_options(
    *,
    every: EveryInterval = None,
    offset: Offset = None,
    cron: CronExpression = None,
    timezone: Timezone = None,
    schedule: ScheduleText = None,
    start_within: StartWithin = None,
    stagger: StaggerBy = timedelta(0),
    attempts: Attempts = DEFAULTS.attempts,
    timeout: Timeout = None,
    standbys: Standbys = DEFAULTS.standbys,
    every_slot: EverySlot = False,
    cycle: CycleLength = DEFAULTS.cycle,
    margin: Margin = None,
    heartbeat_timeout: HeartbeatTimeout = None,
    max_start_fraction: MaxStartFraction = DEFAULTS.max_start_slot_fraction,
    stabilization: Stabilization = timedelta(0),
    min_run_margin: MinRunMargin = None,
    retention_age: RetentionAge = DEFAULTS.retention_age,
    retention_count: RetentionCount = DEFAULTS.retention_count,
) -> Settings:
    """The settings that a command line asks for.

    Raises:
        BadInput: an option is out of its range, or two do not fit together; it names them.
        MissingExtraError: there is a cron expression, and the extra ``cron`` is not installed.
    """
    scaled: dict[str, Any] = {
        "spread_margin": margin,
        "heartbeat_timeout": heartbeat_timeout,
        "min_run_margin": min_run_margin,
    }
    with settings_as_options():
        return Settings(
            schedule=_schedule(every, offset, cron, timezone, schedule),
            start_within=start_within,
            stagger=stagger,
            attempts=attempts,
            timeout=timeout,
            standbys=standbys,
            runs="every_slot" if every_slot else "once",
            cycle=cycle,
            max_start_slot_fraction=max_start_fraction,
            membership_stabilization=stabilization,
            retention_age=retention_age,
            retention_count=retention_count,
            **{setting: value for setting, value in scaled.items() if value is not None},
        )


def takes_settings(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of :func:`settings_from_options` for its parameter ``settings``.

    For use as a decorator. The options come where ``settings`` stands among its parameters.
    """
    options = inspect.signature(settings_from_options).parameters

    @functools.wraps(command)
    def with_settings(**given: object) -> int:
        asked = {option: given.pop(option) for option in options}
        settings = settings_from_options(**asked)  # type: ignore[arg-type] # typer has read each
        return command(**given, settings=settings)

    signature = inspect.signature(command)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        parameters += options.values() if parameter.name == "settings" else [parameter]
    keywords = [each.replace(kind=each.KEYWORD_ONLY) for each in parameters]
    with_settings.__signature__ = signature.replace(parameters=keywords)  # type: ignore[attr-defined]
    with_settings.__annotations__ = {each.name: each.annotation for each in keywords}
    del with_settings.__wrapped__  # its signature is another
    return with_settings


def _schedule(
    every: timedelta | None,
    offset: timedelta | None,
    cron: str | None,
    timezone: str | None,
    text: str | None,
) -> Schedule:
    """The schedule that the options ask for: one of three ways to say it."""
    ways = {"--every": every, "--cron": cron, "--schedule": text}
    given = [option for option, value in ways.items() if value is not None]
    if len(given) > 1:
        raise BadInput(f"{' and '.join(given)} do not go together: each says when it is due")
    if offset is not None and every is None:
        raise BadInput("--offset goes with --every alone: it moves its due instants")
    if timezone is not None and cron is None:
        raise BadInput("--timezone goes with --cron alone; --every counts in UTC")
    if cron is not None:
        return Cron(cron, timezone or "UTC")
    if text is not None:
        return parse_schedule(text)
    return DEFAULTS.schedule if every is None else Every(every, offset or timedelta(0))
