"""``turnwise chart``: the turns that a storage has kept, as a picture."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnwise.backends import MissingExtraError
from turnwise.cli.errors import BadInput, storage_as_input
from turnwise.cli.options import BackendUrl, Service, duration, instant
from turnwise.cli.output import console, literal
from turnwise.cli.storage import open_existing, required_settings
from turnwise.durations import format_duration

if TYPE_CHECKING:
    from turnwise.chart import Picture

_HOUR = timedelta(hours=1)

ChartFile = Annotated[
    Path | None,
    typer.Option("--chart", metavar="FILE", help="Draw it: .svg, .png, .pdf, .html or .txt."),
]


def chart(
    *,
    backend: BackendUrl,
    service: Service,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help=".svg, .png, .pdf, .html or .txt."),
    ],
    last: Annotated[
        timedelta,
        typer.Option(
            "--last", parser=duration, metavar="DURATION", show_default="1h", help="How far back."
        ),
    ] = _HOUR,
    until: Annotated[
        datetime | None,
        typer.Option(
            "--until", parser=instant, metavar="INSTANT", help="The end (ISO, UTC), not now."
        ),
    ] = None,
) -> int:
    """Draw the turns of a service: a lane for each runner."""
    require_drawable(output)
    from turnwise.chart import picture_of_history  # noqa: PLC0415 (an extra)
    from turnwise.chart.text import span  # noqa: PLC0415

    if last <= timedelta(0):
        raise BadInput(f"--last must be positive, got {format_duration(last)}")
    with open_existing(backend) as storage:
        settings = required_settings(storage, service)
        with storage_as_input():
            end = until or storage.peek(service, settings).now
            try:
                start = end - last
            except OverflowError:
                raise BadInput(f"--last must lead to a year, got {format_duration(last)}") from None
            executions = storage.executions(service, since=start)
            runners = [r.runner_id for r in storage.runners(service) if r.last_heartbeat >= start]
    picture = picture_of_history(
        executions, settings, start, end, title=service, runner_ids=runners
    )
    if not picture.runs and not picture.attempts:
        raise BadInput(
            f"service {service!r} has no execution from {span(picture)}: say --last for a longer "
            "time"
        )
    write(picture, output)
    return 0


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
