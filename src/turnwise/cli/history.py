"""``turnwise history``: what a storage has kept of a service, or of its group, row by row."""

from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.text import Text

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cli.errors import BadInput
from turnwise.cli.given import instant_or_duration, name, whole_number
from turnwise.cli.options import DEFAULT_GROUP, Group, Json, StorageUrl, option
from turnwise.cli.output import STYLES, console, cut, literal, print_json, table
from turnwise.cli.storage import open_existing, read_known
from turnwise.cycles import microseconds
from turnwise.gate import Command, Row
from turnwise.overview import words
from turnwise.overview.known import Known, read_group, rows_of
from turnwise.storages import GROUP_ITSELF, Storage

_LAST = 20
_MOST = 1_000_000
_COMMAND = "command"
KINDS = (*(status.value for status in Status), _COMMAND)

EXAMPLES = {
    "history": """\
turnwise history --service nightly
turnwise history --service nightly --since 7d --status abandoned
turnwise history --service nightly --last 1000 --json
turnwise history
""",
}


def _kind(text: str) -> str:
    """Read a status, or the word for commands."""
    if text.lower() not in KINDS:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(KINDS)}")
    return text.lower()


ServiceOrGroup = Annotated[
    str | None,
    option("--service", parser=name, default="the group itself", help="The service's name."),
]
Last = Annotated[
    int | None,
    option(
        "--last",
        parser=whole_number,
        default=f"{_LAST}, or all with --since",
        help="Show the newest so many rows.",
    ),
]
Since = Annotated[
    datetime | None,
    option(
        "--since",
        parser=instant_or_duration,
        default="all that is kept",
        help="Show rows from this instant on, or from so long ago, such as 30d.",
    ),
]
Kinds = Annotated[
    list[str] | None,
    option(
        "--status",
        parser=_kind,
        metavar="STATUS",
        default="all",
        help="Show rows of this status alone: completed, abandoned, blocked, running, or "
        "command for what operators did. May be given several times.",
    ),
]


def history(
    *,
    service: ServiceOrGroup = None,
    storage: StorageUrl = None,
    group: Group = DEFAULT_GROUP,
    last: Last = None,
    since: Since = None,
    status: Kinds = None,
    as_json: Json = False,
) -> int:
    """Show the runs of a service, oldest first, and what was done to it.

    A run that is at work is among them. Without a service: which runners were drained, and what
    was forgotten, by whom and why. Instants are in UTC, by the storage's clock.
    """
    if last is not None and not 1 <= last <= _MOST:
        raise BadInput(f"--last must be 1 to {_MOST:,}, got {last}")
    if last is None and since is None:
        last = _LAST
    with open_existing(storage) as store:
        known = _known(store, group, service)
        start = start_of(since, known.now)
        rows = rows_of(store, known, since=start, last=last, kinds=status or None)
    if as_json:
        print_json([_as_json(row, of_group=service is None) for row in rows])
    elif rows:
        _print(rows, known.now)
    else:
        console.print("no such rows" if service else "no such rows of the group: see --service")
    return 0


def _known(storage: Storage, group: str, service: str | None) -> Known:
    """What is known of a service; of the group itself where none is named."""
    if service is None:
        return read_group(storage, group, (GROUP_ITSELF,)).services[0]
    return read_known(storage, group, service).services[0]


def start_of(since: datetime | timedelta | None, now: int) -> int | None:
    """The instant that ``--since`` means, in microseconds; None where it was not given.

    Raises:
        BadInput: it is not in the past, or before 1970.
    """
    if since is None:
        return None
    start = now - microseconds(since) if isinstance(since, timedelta) else microseconds(since)
    if start > now:
        raise BadInput(f"--since must be in the past, got {words.when(start)} UTC")
    return max(0, start)


def _as_json(row: Row, *, of_group: bool) -> dict[str, object]:
    """A row for a script; in the group's own history with what it was done to."""
    told = words.row_as_json(row)
    return {**told, "of": row.of} if of_group and isinstance(row, Command) else told


def _print(rows: list[Row], now: int) -> None:
    """A table; a line for each day, so that no instant needs a date."""
    shown = table("start", "late", "took", "runner", "status", "reason")
    day = ""
    for row in rows:
        date = words.second(row.at).partition(" ")[0]
        if date != day:
            day = date
            shown.add_row(f"[bold]{day}[/]")
        shown.add_row(*_cells(row, now))
    console.print(shown)


def _cells(row: Row, now: int) -> tuple[str | Text, ...]:
    at = words.second(row.at, row.at)
    if isinstance(row, Command):
        of = "" if row.of is None else f"{cut(row.of)} "
        said = f"{of}by {cut(row.by, 40)}"
        what = literal(f"{said}{words.of_command(row)}")
        return at, "", "", "", f"[cyan]{row.name}[/]", what
    late = "" if row.trigger is not None else words.lasting(row.started_at - row.due)
    return (
        at,
        late if row.token is not None else "",
        words.took(row, now),
        literal(cut(row.runner_id)),
        f"[{STYLES[row.status]}]{row.status}[/]",
        literal(words.of_execution(row)),
    )
