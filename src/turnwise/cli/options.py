"""The options that several commands share, and the settings that they make."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from turnwise.cli.errors import settings_as_options
from turnwise.durations import parse_duration
from turnwise.old_settings import Settings
from turnwise.rounds import checked_name

# What every storage can count, and a decision's float of seconds can tell apart, with room for
# the cycles before and after.
_FIRST_YEAR, _YEAR_AFTER_LAST = 1970, 2200


def duration(text: str | timedelta) -> timedelta:
    """Read a duration, or say in typer's way that it is none."""
    if isinstance(text, timedelta):
        return text
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


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


def name(text: str) -> str:
    """Read the name of a service or a runner, or say in typer's way that it is none."""
    try:
        return checked_name("it", text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


_DURATION = "DURATION"

BackendUrl = Annotated[
    str, typer.Option("--backend", metavar="URL", help="The storage, such as sqlite:///turns.db.")
]
Service = Annotated[
    str, typer.Option("--service", parser=name, metavar="NAME", help="The service's name.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
At = Annotated[
    datetime | None,
    typer.Option(
        "--at", parser=instant, metavar="INSTANT", help="This instant (ISO, UTC) instead of now."
    ),
]
Interval = Annotated[
    timedelta,
    typer.Option(
        "--interval",
        parser=duration,
        metavar=_DURATION,
        show_default="5m",
        help="A cycle's length.",
    ),
]
Margin = Annotated[
    timedelta | None,
    typer.Option(
        "--margin",
        parser=duration,
        metavar=_DURATION,
        show_default="20s, at most interval/15",
        help="Guard time at the end of each slot.",
    ),
]
HeartbeatTimeout = Annotated[
    timedelta | None,
    typer.Option(
        "--heartbeat-timeout",
        parser=duration,
        metavar=_DURATION,
        show_default="60s, at most interval/5",
        help="Silence after which a runner counts as dead.",
    ),
]
MaxStartFraction = Annotated[
    float,
    typer.Option(
        "--max-start-fraction",
        metavar="FRACTION",
        help="The part of a slot within which a turn may start.",
    ),
]
Stabilization = Annotated[
    timedelta,
    typer.Option(
        "--stabilization",
        parser=duration,
        metavar=_DURATION,
        show_default="0",
        help="Age below which a runner that has joined starts no turn.",
    ),
]
EverySlot = Annotated[
    bool, typer.Option("--every-slot", help="One run in each slot, not one in each cycle.")
]
Standbys = Annotated[
    int, typer.Option("--standbys", metavar="N", help="How many runners stand by for the primary.")
]
NoRetry = Annotated[
    bool, typer.Option("--no-retry", help="A failed turn counts as served; no standby repeats it.")
]

DEFAULTS = Settings()


def settings_from_options(
    *,
    interval: timedelta,
    margin: timedelta | None,
    heartbeat_timeout: timedelta | None,
    max_start_fraction: float,
    stabilization: timedelta,
    every_slot: bool,
    standbys: int,
    no_retry: bool,
) -> Settings:
    """The settings that a command line asks for.

    A margin and a heartbeat timeout that are left out follow the interval, as
    :meth:`Settings.for_interval` has it.

    Raises:
        BadInput: they are out of range, or do not fit together.
    """
    given = {"spread_margin": margin, "heartbeat_timeout": heartbeat_timeout}
    with settings_as_options():
        return Settings.for_interval(
            interval,
            max_start_slot_fraction=max_start_fraction,
            membership_stabilization=stabilization,
            runs_per_cycle="every_slot" if every_slot else "once",
            standbys=standbys,
            retry_failed=not no_retry,
            **{name: value for name, value in given.items() if value is not None},
        )
