"""What would run when: the next due instants of several services, before anything is started."""

import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from turnwise.cli.schedule import odd_day, zone_name, zone_of
from turnwise.names import printable
from turnwise.plan import Planner
from turnwise.settings import Settings

_SHOWN = 3


def show_ahead(services: Mapping[str, tuple[Settings, str]], now: datetime | None = None) -> None:
    """Print when each service is due next, in UTC and on the wall of its zone.

    Args:
        services: the settings of each by its name, and what it runs; empty where that is not said.
        now: the instant to begin at; None for now, by this machine's clock.
    """
    begin = datetime.now(UTC) if now is None else now
    for name, (settings, what) in services.items():
        lines = [name, f"  when  {settings.schedule}", *([f"  runs  {what}"] if what else [])]
        heads = iter(["  due   "])
        lines += [next(heads, " " * 8) + each for each in _dues(name, settings, begin)]
        sys.stdout.write("".join(f"{printable(line)}\n" for line in ["", *lines]))


def _dues(name: str, settings: Settings, begin: datetime) -> Iterator[str]:
    """The next due instants of a service, staggered where it asks for that."""
    schedule, due = Planner.of(name, settings).schedule, begin
    for _ in range(_SHOWN):
        due = schedule.period_at(due).until
        micro = f".{due.microsecond:06}".rstrip("0") if due.microsecond else ""
        yield f"{due:%Y-%m-%d %H:%M:%S}{micro} UTC{_wall(due, settings)}"


def _wall(due: datetime, settings: Settings) -> str:
    zone = zone_of(settings.schedule)
    if zone is UTC:
        return ""
    wall = due.astimezone(zone)
    odd = odd_day(wall, zone)
    return f", {wall:%a %H:%M:%S} in {zone_name(zone)}" + (f" ({odd})" if odd else "")
