"""``turnwise schedule``: when a schedule is due, made by the code that runs it."""

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.table import Table

from turnwise.cli.errors import BadInput, settings_as_options
from turnwise.cli.given import instant_or_duration
from turnwise.cli.options import Json, option, take
from turnwise.cli.output import console, literal, print_json, table
from turnwise.durations import format_duration
from turnwise.schedules import Cron, Schedule, Staggered, parse_schedule

_SHOWN = 10
_DAY = timedelta(days=1)
_MOST_DUES = 100_000
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

EXAMPLES = {
    "schedule": """\
turnwise schedule 'every 6h offset 1h'
turnwise schedule 'cron 30 2 * * * Europe/Vienna' --from 2026-03-28 --until 4d
turnwise schedule 'cron 0 3 * * * UTC' --compare 'every 1d offset 3h'
""",
}

ScheduleArgument = Annotated[
    str,
    typer.Argument(
        metavar="SCHEDULE",
        help="Such as 'every 5m', 'every 1d offset 3h' or 'cron 0 3 * * * Europe/Vienna'.",
    ),
]


def takes_schedule_argument(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command that takes settings its schedule as an argument, too.

    For use as a decorator, above :func:`turnwise.cli.service_options.takes_settings`.
    """

    @functools.wraps(command)
    def with_argument(**given: object) -> int:
        text = given.pop("text")
        if text is not None:
            for flag in ("every", "cron", "schedule"):
                if given[flag] is not None:
                    raise BadInput(f"SCHEDULE and --{flag} do not go together: one says it all")
            given["schedule"] = text
        return command(**given)

    argument = inspect.Parameter(
        "text", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=OptionalSchedule
    )
    take(with_argument, [argument, *inspect.signature(command).parameters.values()])
    return with_argument


OptionalSchedule = Annotated[
    str | None,
    typer.Argument(
        metavar="[SCHEDULE]",
        help="When it is due, as one text, such as 'every 5m' or 'cron 0 3 * * * Europe/Vienna'; "
        "or say it with --every or --cron.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Due:
    """A due instant, what the wall shows then, and whether the clock is changed on that day.

    ``missing`` says that this schedule is not due then, and the other one is; ``extra`` the
    opposite.
    """

    at: datetime
    wall: datetime
    odd: str = ""
    extra: bool = False
    missing: bool = False


From = Annotated[
    datetime | None,
    option(
        "--from",
        parser=instant_or_duration,
        default="now",
        help="The first instant that counts: one in UTC, such as 2026-01-31, or how long ago.",
    ),
]
Until = Annotated[
    datetime | None,
    option(
        "--until",
        parser=instant_or_duration,
        default=f"the first {_SHOWN} due instants",
        help="Where it ends: an instant, or how long after the start, such as 365d.",
    ),
]
Compared = Annotated[
    str | None,
    option(
        "--compare",
        metavar="SCHEDULE",
        default="none",
        help="Show where another schedule is due at other instants. Exit status 1 where it is.",
    ),
]


def schedule(
    text: ScheduleArgument,
    *,
    start: From = None,
    until: Until = None,
    compare: Compared = None,
    as_json: Json = False,
) -> int:
    """List when a schedule is due, in UTC and on the wall of its zone.

    Days on which that wall's clock is changed are marked, so that a year can be looked at ahead.
    """
    with settings_as_options():
        asked = _read(text)
        other = None if compare is None else _read(compare)
        zone = zone_of(asked)
        dues = list(_dues(asked, other, *_window(start, until), zone))
    differing = [due for due in dues if due.extra or due.missing]
    if as_json:
        print_json(_as_json(asked, other, dues, differing, zone))
    else:
        _print(asked, other, dues, differing, zone)
    return 1 if differing else 0


def _read(text: str) -> Schedule:
    try:
        return parse_schedule(text)
    except ValueError as error:
        said = str(error)  # which may begin with the text itself
        raise BadInput(said if said.startswith(repr(text)) else f"{text!r}: {said}") from error


def zone_of(asked: Schedule) -> tzinfo:
    """The zone whose wall a schedule goes by; UTC where it goes by none."""
    if isinstance(asked, Staggered):
        asked = asked.schedule
    return ZoneInfo(asked.timezone) if isinstance(asked, Cron) else UTC


def zone_name(zone: tzinfo) -> str:
    """The name of a zone."""
    return zone.key if isinstance(zone, ZoneInfo) else "UTC"


def _window(
    start: datetime | timedelta | None, until: datetime | timedelta | None
) -> tuple[datetime, datetime | None]:
    now = datetime.now(UTC)
    try:
        first = now if start is None else now - start if isinstance(start, timedelta) else start
        end = first + until if isinstance(until, timedelta) else until
    except OverflowError:
        raise BadInput("--from and --until must lead to a year from 1970 to 2199") from None
    if end is not None and end <= first:
        form = "%Y-%m-%d %H:%M:%S"
        raise BadInput(f"--until must be after --from ({first:{form}}), got {end:{form}}")
    return first, end


def _dues(
    asked: Schedule, other: Schedule | None, first: datetime, end: datetime | None, zone: tzinfo
) -> Iterator[Due]:
    """The due instants of one schedule, or of both, in order."""
    last = _end_of(asked, first) if end is None else end
    mine = _listed(asked, first, last)
    if other is None:
        for at in mine:
            yield _due(at, zone)
        return
    theirs = set(_listed(other, first, last))
    for at in sorted({*mine, *theirs}):
        yield _due(at, zone, extra=at not in theirs, missing=at not in mine)


def _listed(asked: Schedule, first: datetime, last: datetime) -> list[datetime]:
    found = list(islice(asked.dues(first, last), _MOST_DUES + 1))
    if len(found) > _MOST_DUES:
        raise BadInput(f"{asked} is due more than {_MOST_DUES:,} times until then: say --until")
    return found


def _end_of(asked: Schedule, first: datetime) -> datetime:
    """The instant after the first few due ones."""
    period = asked.period_at(first)
    due = period.due if period.due >= first else period.until
    for _ in range(_SHOWN - 1):
        due = asked.period_at(due).until
    return due + timedelta(microseconds=1)


def _due(at: datetime, zone: tzinfo, *, extra: bool = False, missing: bool = False) -> Due:
    wall = at.astimezone(zone)
    return Due(at, wall, odd_day(wall, zone), extra, missing)


def odd_day(wall: datetime, zone: tzinfo) -> str:
    """The change of a day's clock, such as ``clock +1h`` in spring; nothing on other days."""
    midnight = wall.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    after = (midnight.replace(tzinfo=None) + _DAY).replace(tzinfo=zone)
    before, then = midnight.utcoffset(), after.utcoffset()
    if before is None or then is None or before == then:
        return ""
    change = then - before
    sign = "+" if change > timedelta(0) else "-"
    return f"clock {sign}{format_duration(abs(change))}"


# Showing it ---------------------------------------------------------------------------------------


def _print(
    asked: Schedule, other: Schedule | None, dues: list[Due], differing: list[Due], zone: tzinfo
) -> None:
    console.print(literal(str(asked)))
    if other is not None:
        console.print(literal(f"compared with {other}"))
    console.print()
    shown = dues if other is None else differing
    if shown:
        console.print(_table(shown, zone, compared=other is not None))
    elif other is None:
        console.print("not due in this time")
    if other is not None:
        alike = len(dues) - len(differing)
        console.print(f"{alike:,} due instants are the same, {len(differing):,} are not")


def _table(shown: list[Due], zone: tzinfo, *, compared: bool) -> Table:
    with_wall = zone is not UTC
    columns = ["UTC", *([zone_name(zone)] if with_wall else []), "day"]
    rows = table(*columns, *(["due by"] if compared else []), "")
    for due in shown:
        cells = [_shown(due.at)]
        if with_wall:
            date = "" if compared else f"{due.wall:%Y-%m-%d} "
            cells.append(f"{date}{_shown(due.wall)[11:]} {due.wall:%z}")
        cells.append(_DAYS[due.wall.weekday()])
        if compared:
            cells.append("first alone" if due.extra else "other alone")
        rows.add_row(*cells, due.odd, style="bold" if due.odd else None)
    return rows


def _shown(at: datetime) -> str:
    micro = f".{at.microsecond:06}".rstrip("0") if at.microsecond else ""
    return f"{at:%Y-%m-%d %H:%M:%S}{micro}"


def _as_json(
    asked: Schedule, other: Schedule | None, dues: list[Due], differing: list[Due], zone: tzinfo
) -> dict[str, object]:
    return {
        "schedule": str(asked),
        "compared_with": None if other is None else str(other),
        "zone": zone_name(zone),
        "differences": len(differing),
        "dues": [
            {"utc": due.at, "wall": due.wall.isoformat(), "odd": due.odd or None}
            | ({"due_by": _by(due)} if other is not None else {})
            for due in dues
        ],
    }


def _by(due: Due) -> str:
    return "first" if due.extra else "other" if due.missing else "both"
