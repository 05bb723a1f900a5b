"""Reading what was given for an option: each reads a text, or says in typer's way why it cannot."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Literal

import typer

from turnwise.durations import parse_duration
from turnwise.names import checked_name

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


def one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    """What reads one of these words alone."""

    def read(text: str) -> str:
        if text not in words:
            raise typer.BadParameter(f"{text!r} is none of {', '.join(words)}")
        return text

    return read
