"""Durations as people write them: ``30s``, ``5m``, ``1h30m``, ``250ms``."""

import re
from datetime import timedelta
from fractions import Fraction

_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
    "us": timedelta(microseconds=1),
}
_NUMBER_AND_UNIT = r"[0-9]{1,15}(?:\.[0-9]{1,15})?(?:ms|us|d|h|m|s)"
_DURATION = re.compile(rf"(?:{_NUMBER_AND_UNIT})+")
_PART = re.compile(r"([0-9.]+)([a-z]+)")


def parse_duration(text: str) -> timedelta:
    """Read a duration such as ``30s``, ``5m``, ``1h30m``, ``1.5s`` or ``250ms``.

    A duration is one or more numbers, each with a unit (``d``, ``h``, ``m``, ``s``, ``ms``,
    ``us``), added up exactly and then rounded to the nearest microsecond (ties to even). A plain
    ``0`` needs no unit.

    Raises:
        ValueError: the text is no duration, or longer than a :class:`~datetime.timedelta` can
            hold.
    """
    stripped = text.strip()
    if stripped == "0":
        return timedelta(0)
    if not _DURATION.fullmatch(stripped):
        raise ValueError(
            f"{text!r} is no duration: write numbers with units, such as 30s, 5m, 1h30m or 250ms"
        )
    microseconds = sum(
        Fraction(number) * (_UNITS[unit] // _UNITS["us"])
        for number, unit in _PART.findall(stripped)
    )
    try:
        return timedelta(microseconds=round(microseconds))
    except OverflowError:
        raise ValueError(f"{text!r} is too long: at most {timedelta.max.days} days") from None


def duration_of(name: str, value: timedelta | str) -> timedelta:
    """A duration that is given as a timedelta or as a text, for the argument ``name``.

    Raises:
        TypeError: it is neither.
        ValueError: the text is no duration; the message has the argument's name.
    """
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a timedelta or a text such as '5m', got {value!r}")
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def format_duration(duration: timedelta) -> str:
    """Write a duration so that :func:`parse_duration` reads the same one back.

    ``5m``, ``1h30m``, ``1.5s``, ``250ms``, ``0s``; a negative one has a leading minus, which
    is for people to read and not for parsing.
    """
    if duration < timedelta(0):
        return "-" + format_duration(-duration)
    if duration < _UNITS["ms"]:
        return f"{duration // _UNITS['us']}us" if duration else "0s"
    if duration < _UNITS["s"]:
        return f"{_decimal(duration, 'ms')}ms"
    parts = []
    rest = duration
    for unit in ("d", "h", "m"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    if rest:
        parts.append(f"{_decimal(rest, 's')}s")
    return "".join(parts)


def _decimal(duration: timedelta, unit: str) -> str:
    whole, rest = divmod(duration, _UNITS[unit])
    digits = len(str(_UNITS[unit] // _UNITS["us"])) - 1
    fraction = f"{rest // _UNITS['us']:0{digits}}".rstrip("0")
    return f"{whole}.{fraction}" if fraction else str(whole)
