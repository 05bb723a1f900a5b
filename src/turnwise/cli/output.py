"""How results look: tables, instants, ages, and JSON."""

import codecs
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import IO, Any, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.names import printable
from turnwise.overview.shown import clock, cut, few, rounded

__all__ = ["STYLES", "clock", "console", "cut", "few", "literal", "print_json", "rounded", "table"]

_WIDE = 1000


class _Piped:
    """Stdout as a pipe or a file gets it: no line ends with the blanks that fill up a table."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)

    def write(self, text: str) -> int:
        return sys.stdout.write(re.sub(r" +(?=\n)", "", text))


def _console() -> Console:
    """One that folds nothing that goes to a pipe or a file: people search it for whole names."""
    made = Console(highlight=False, soft_wrap=False)
    if not made.is_terminal:
        columns = os.environ.get("COLUMNS", "")
        made.width = (int(columns) if columns.isdigit() else 0) or _WIDE
        made.file = cast("IO[str]", _Piped())
    return made


console = _console()
"""Where results are printed."""

STYLES: Mapping[Status, str] = {
    Status.RUNNING: "bold",
    Status.COMPLETED: "green",
    Status.ABANDONED: "red",
    Status.BLOCKED: "yellow",
}
"""How a status is shown on a terminal."""


def table(*columns: str, title: str | None = None) -> Table:
    """A table that folds long names rather than cutting them."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def literal(text: str) -> Text:
    """Text from outside: no bracket in it is markup, and nothing in it moves the cursor."""
    return Text(printable(text))


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
