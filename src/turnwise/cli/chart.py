"""``turnwise chart``: the turns that a storage has kept, as a picture."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from turnwise.cli.errors import BadInput
from turnwise.cli.given import duration, instant
from turnwise.cli.options import DEFAULT_GROUP, Group, Service, StorageUrl, option
from turnwise.cli.output import console, literal
from turnwise.cli.storage import UNKNOWN_SETTINGS, open_existing, read_known
from turnwise.cycles import microseconds
from turnwise.durations import format_duration
from turnwise.errors import MissingExtraError
from turnwise.gate import Execution, Row
from turnwise.names import printable
from turnwise.overview.drawn import picture_of, rows_to_draw
from turnwise.overview.known import Known, is_run
from turnwise.storages import Storage

if TYPE_CHECKING:
    from turnwise.chart import Picture

_FORMATS = ".svg, .png, .pdf, .html or .txt"

EXAMPLES = {
    "chart": """\
turnwise chart --service nightly --output nightly.svg
turnwise chart --service nightly --last 30d --output nightly.html
""",
}

ChartFile = Annotated[
    Path | None,
    option(
        "--chart",
        metavar="FILE",
        default="none",
        help=f"Draw it, too, into a file that ends with {_FORMATS}.",
    ),
]


Output = Annotated[
    Path,
    option(
        "--output", "-o", metavar="FILE", help=f"Where to draw it; its name ends with {_FORMATS}."
    ),
]
Last = Annotated[
    timedelta | None,
    option(
        "--last",
        parser=duration,
        default="all that is kept",
        help="How far back from the end it reaches.",
    ),
]
Until = Annotated[
    datetime | None,
    option(
        "--until",
        parser=instant,
        default="now",
        help="Where it ends, such as 2026-01-31T12:00:00Z.",
    ),
]


def chart(
    *,
    service: Service,
    output: Output,
    storage: StorageUrl = None,
    group: Group = DEFAULT_GROUP,
    last: Last = None,
    until: Until = None,
) -> int:
    """Draw the runs of a service: a lane for each runner.

    Where runs are too many to be drawn each, a lane shows how busy it was, with failures on top.
    """
    require_drawable(output)
    if last is not None and last <= timedelta(0):
        raise BadInput(f"--last must be positive, got {format_duration(last)}")
    with open_existing(storage) as store:
        known = read_known(store, group, service).services[0]
        picture = _picture(store, known, last, until)
    write(picture, output)
    return 0


def _picture(
    storage: Storage, known: Known, last: timedelta | None, until: datetime | None
) -> "Picture":
    """What the history has of the time that was asked for.

    Raises:
        BadInput: it has no execution in it, or nobody knows by which settings to draw it.
    """
    from turnwise.picture.text import span  # noqa: PLC0415 (only where it is drawn)

    named = f"service {printable(known.name)!r}"
    if known.settings is None:
        raise BadInput(f"{named}: {UNKNOWN_SETTINGS}")
    end = known.now if until is None else microseconds(until)
    start = None if last is None else max(0, end - microseconds(last))
    rows = rows_to_draw(storage, known, start, end)
    first, final = _window(rows, start, end, fixed=until is not None or last is not None)
    picture = picture_of(known, rows, first, final)
    if not picture.runs and not picture.attempts:
        said = span(picture)
        raise BadInput(f"{named} has no execution from {said}: say --last for a longer time")
    return picture


def _window(rows: list[Row], start: int | None, end: int, *, fixed: bool) -> tuple[int, int]:
    """What the picture shows: the time that was asked for, or else what the history fills."""
    executions = [row for row in rows if isinstance(row, Execution)]
    if not executions:
        return (end - 1 if start is None else start), end
    first = min(row.cycle_start for row in executions) if start is None else start
    if fixed:
        return min(first, end - 1), end
    # Where nothing ran for long, the picture ends soon after the last run.
    runs = [row for row in executions if is_run(row)] or executions
    ended = max(end if row.ended_at is None else row.ended_at for row in runs)
    span = max(ended - first, 1)
    return first, min(end, ended + max(span // 10, 1))


def require_drawable(path: Path) -> None:
    """Find out before the work whether a chart can be drawn, and into which format.

    Raises:
        BadInput: the extra is missing, the suffix is unknown, or there is no folder that takes a
            file of this name.
    """
    try:
        from turnwise.chart import SUFFIXES  # noqa: PLC0415 (an extra)
    except MissingExtraError as error:
        raise BadInput(str(error)) from error
    if path.suffix.lower() not in SUFFIXES:
        raise BadInput(f"{path}: the name of a chart ends with one of {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise BadInput(f"{path}: there is no folder {path.parent}")
    with _failing_as_input(path):
        if path.is_dir():
            raise BadInput(f"{path}: is a folder")
        with suppress(FileNotFoundError):
            path.stat()  # or the name is too long
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def write(picture: "Picture", path: Path, *, quiet: bool = False) -> None:
    """Write a chart, and say what is in it unless ``quiet``.

    Raises:
        BadInput: the file cannot be written.
    """
    from turnwise.chart import save, summary  # noqa: PLC0415 (an extra)

    with _failing_as_input(path):
        save(picture, path)
    if not quiet:
        console.print(literal(f"{path}: {summary(picture)}"), soft_wrap=True)


@contextmanager
def _failing_as_input(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from error
