"""Texts from outside, instants and durations as everybody is shown them, a terminal or a page."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from turnwise.cycles import instant as instant_of
from turnwise.durations import format_duration
from turnwise.names import printable

_LONGEST_REASON = 60
_SHOWN_UNIT = (
    (timedelta(seconds=10), timedelta(seconds=1)),
    (timedelta(milliseconds=10), timedelta(milliseconds=1)),
)


def cut(text: str, longest: int = _LONGEST_REASON) -> str:
    """A text from outside as a table has room for it: printable, and cut with ``...``."""
    shown = printable(text)
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def few(names: Sequence[str], most: int) -> str:
    """The first of some names, as they are to be shown, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def clock(instant: datetime | int | None, beside: datetime | int | None = None) -> str:
    """An instant in UTC; without its date where it is on the day of ``beside``.

    A whole number is microseconds since the Unix epoch.
    """
    if instant is None:
        return ""
    if isinstance(instant, int):
        instant = instant_of(instant)
    if isinstance(beside, int):
        beside = instant_of(beside)
    shown = instant.astimezone(UTC)
    if beside is not None and shown.date() == beside.astimezone(UTC).date():
        return shown.strftime("%H:%M:%S.%f")[:-3]
    return shown.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def rounded(duration: timedelta) -> str:
    """A duration, to the second where it is long and the millisecond where it is short."""
    for at_least, unit in _SHOWN_UNIT:
        if abs(duration) >= at_least:
            return format_duration(round(duration / unit) * unit)
    return format_duration(duration)
