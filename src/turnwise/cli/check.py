"""``turnwise check``: one line and an exit status, as monitoring plugins have them.

Exit status 0 is well, 1 a warning, 2 critical, 3 unknown.
"""

from datetime import timedelta
from typing import Annotated

import typer

from turnwise.cli.errors import BadInput
from turnwise.cli.given import duration
from turnwise.cli.options import DEFAULT_GROUP, Group, ServiceOrAll, StorageUrl, option
from turnwise.cli.storage import open_existing, read_known
from turnwise.cycles import microseconds
from turnwise.errors import StorageError, TurnwiseError
from turnwise.names import printable
from turnwise.overview.findings import Level, in_one_line

EXAMPLES = {
    "check": """\
turnwise check
turnwise check --service nightly --max-age 26h
""",
}


MaxAge = Annotated[
    timedelta | None,
    option(
        "--max-age",
        parser=duration,
        default="the period, and as long as a run of it may start and take",
        help="How old the last success may be.",
    ),
]


def check(
    *,
    storage: StorageUrl = None,
    group: Group = DEFAULT_GROUP,
    service: ServiceOrAll = None,
    max_age: MaxAge = None,
) -> int:
    """Say in one line whether all is well, for a monitoring system.

    Exit status 2, critical: a last success is too old, nobody is alive, a run takes longer than its
    timeout, or the storage does not answer. 1, warning: the settings of runners differ, a run's
    owner is silent, or the last period has failed. 3, unknown: the input is wrong, there is no such
    service, or its records cannot be read. A paused service is well, and the line says so.
    """
    try:
        level, line = _checked(storage, group, service, max_age)
    except (BadInput, TurnwiseError) as error:
        is_away = any(isinstance(each, StorageError) for each in (error, error.__cause__))
        level = Level.CRITICAL if is_away else Level.UNKNOWN
        line = f"the storage does not answer: {error}" if is_away else str(error)
    said = printable(" ".join(line.split()))
    typer.echo(f"{level.name}: {said}")
    return int(level)


def _checked(
    storage: str | None, group: str, service: str | None, max_age: timedelta | None
) -> tuple[Level, str]:
    if max_age is not None and max_age <= timedelta(0):
        raise BadInput("--max-age must be positive")
    with open_existing(storage) as store:
        known = read_known(store, group, service)
    return in_one_line(known, None if max_age is None else microseconds(max_age))
