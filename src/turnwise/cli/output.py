"""How results look: tables, instants, ages, and JSON."""

import codecs
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.table import Table
from rich.text import Text

from turnwise.cycles import instant as instant_of
from turnwise.durations import format_duration
from turnwise.names import printable

_WIDE = 1000
_LONGEST_REASON = 60


def _console() -> Console:
    """One that folds nothing that goes to a pipe or a file: people search it for whole names."""
    made = Console(highlight=False, soft_wrap=False)
    if not made.is_terminal:
        columns = os.environ.get("COLUMNS", "")
        made.width = (int(columns) if columns.isdigit() else 0) or _WIDE
    return made


console = _console()
"""Where results are printed."""

_SHOWN_UNIT = (
    (timedelta(seconds=10), timedelta(seconds=1)),
    (timedelta(milliseconds=10), timedelta(milliseconds=1)),
)


def table(*columns: str, title: str | None = None) -> Table:
    """A table that folds long names rather than cutting them."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def literal(text: str) -> Text:
    """Text from outside: no bracket in it is markup, and nothing in it moves the cursor."""
    return Text(printable(text))


def cut(text: str, longest: int = _LONGEST_REASON) -> str:
    """A text from outside as a table has room for it: printable, and cut with ``...``."""
    shown = printable(text)
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


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


def print_json(value: Mapping[str, object] | Sequence[object]) -> None:
    """Print JSON: instants as ISO in UTC, durations in seconds."""
    as_it_is = codecs.lookup(sys.stdout.encoding or "ascii").name == "utf-8"
    json.dump(value, sys.stdout, indent=2, default=_plain, ensure_ascii=not as_it_is)
    sys.stdout.write("\n")


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    raise TypeError(f"no JSON for {value!r}")
