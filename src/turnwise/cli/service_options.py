"""The options that make a service's settings.

A command that takes them all has a parameter ``settings: Settings`` and the decorator
:func:`takes_settings`.
"""

import functools
import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Final

from turnwise.cli.errors import BadInput, settings_as_options
from turnwise.cli.given import duration, fraction, stagger, whole_number
from turnwise.cli.options import option, take
from turnwise.durations import format_duration
from turnwise.schedules import Cron, Every, Schedule, parse_schedule
from turnwise.settings import Settings

DEFAULTS: Final = Settings()
"""The settings where no option is given."""


_WHEN: Final = "When the service is due"
_WHO: Final = "Who runs it, and how often it is tried"
_FINE: Final = "Fine tuning"

EveryInterval = Annotated[
    timedelta | None,
    option(
        "--every",
        parser=duration,
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

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        parameters += options.values() if parameter.name == "settings" else [parameter]
    take(with_settings, parameters)
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
