"""Schedules as people say them: "every 5 minutes", "Monday to Friday at 03:00".

What cannot be said shortly and exactly is left as its text.
"""

import re
from datetime import timedelta

from turnwise.cycles import instant
from turnwise.durations import format_duration
from turnwise.schedules import Cron, Every, Schedule, Staggered

_DAY = timedelta(days=1)
_UNITS = (
    (timedelta(weeks=1), "week"),
    (_DAY, "day"),
    (timedelta(hours=1), "hour"),
    (timedelta(minutes=1), "minute"),
    (timedelta(seconds=1), "second"),
)
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_SHORT = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_NAMED = {
    "@HOURLY": "0 * * * *",
    "@DAILY": "0 0 * * *",
    "@MIDNIGHT": "0 0 * * *",
    "@WEEKLY": "0 0 * * 0",
    "@MONTHLY": "0 0 1 * *",
    "@YEARLY": "0 0 1 1 *",
    "@ANNUALLY": "0 0 1 1 *",
}
_PLAIN_FIELDS = 5


def in_words(schedule: Schedule) -> str:
    """A schedule as people say it; its text where there is no short way to say it.

    Examples: ``every 5m`` is "every 5 minutes", ``every 1d offset 3h`` "every day at 03:00 UTC",
    ``cron 0 3 * * 1-5 Europe/Vienna`` "Monday to Friday at 03:00, Europe/Vienna".
    """
    if isinstance(schedule, Staggered):
        return f"{in_words(schedule.schedule)}, {format_duration(schedule.by)} later"
    if isinstance(schedule, Every):
        return _of_every(schedule)
    if isinstance(schedule, Cron):
        said = _of_cron(_NAMED.get(schedule.expression, schedule.expression).split())
        return str(schedule) if said is None else f"{said}, {schedule.timezone}"
    return str(schedule)


def zone_of(schedule: Schedule) -> str | None:
    """The zone whose wall clock a schedule goes by; None where that is UTC."""
    if isinstance(schedule, Staggered):
        return zone_of(schedule.schedule)
    zone = schedule.timezone if isinstance(schedule, Cron) else "UTC"
    return None if zone in ("UTC", "Etc/UTC") else zone


def in_zone(at: int, zone: str) -> str:
    """What the wall clock of a zone shows at an instant, to the second, and its distance from UTC.

    Args:
        at: the instant, in microseconds since the Unix epoch.
        zone: the zone's name, of a schedule that could be made.
    """
    from zoneinfo import ZoneInfo  # noqa: PLC0415 (it looks at how Python was built)

    there = instant(at).astimezone(ZoneInfo(zone))
    distance = there.strftime("%z")
    return f"{there:%Y-%m-%d %H:%M:%S} {distance[:3]}:{distance[3:5]}"


def _of_every(schedule: Every) -> str:
    interval, offset = schedule.interval, schedule.offset
    said = f"every {format_duration(interval)}"
    for unit, name in _UNITS:
        if interval % unit == timedelta(0):
            count = interval // unit
            said = f"every {name}" if count == 1 else f"every {count:,} {name}s"
            break
    if interval == _DAY:
        hours, rest = divmod(offset, timedelta(hours=1))
        minutes, left = divmod(rest, timedelta(minutes=1))
        if not left:
            return f"{said} at {hours:02}:{minutes:02} UTC"
    return f"{said}, offset {format_duration(offset)}" if offset else said


def _of_cron(fields: list[str]) -> str | None:
    """An expression in words, without its zone; None where there are none."""
    if len(fields) != _PLAIN_FIELDS:
        return None
    minute, hour, day, month, weekday = fields
    days = _days(day, month, weekday)
    time = _time(minute, hour)
    if days is None or time is None:
        return None
    if time.startswith("at "):
        return f"{days or 'every day'} {time}"
    return f"{time}, {days}" if days else time


def _time(minute: str, hour: str) -> str | None:
    if hour == "*":
        if minute == "*":
            return "every minute"
        step = re.fullmatch(r"\*/(\d+)", minute)
        if step is not None:
            # Only where the steps divide the hour are all of them equally long.
            count = int(step[1])
            return f"every {count} minutes" if count > 1 and 60 % count == 0 else None
        return f"every hour at minute {int(minute)}" if minute.isdecimal() else None
    hours = hour.split(",")
    if minute.isdecimal() and all(each.isdecimal() for each in hours):
        times = [f"{int(each):02}:{int(minute):02}" for each in hours]
        return f"at {_listed(times)}"
    return None


def _days(day: str, month: str, weekday: str) -> str | None:
    """Which days; an empty text for every day, None where there are no words."""
    if month != "*":
        return None
    if day == "*":
        return "" if weekday == "*" else _weekdays(weekday)
    if weekday == "*" and day.isdecimal():
        return f"day {int(day)} of each month"
    return None


def _weekdays(field: str) -> str | None:
    first, dash, last = field.partition("-")
    if dash:
        ends = (_weekday(first), _weekday(last))
        return None if None in ends else f"{ends[0]} to {ends[1]}"
    names = [_weekday(each) for each in field.split(",")]
    known = [name for name in names if name is not None]
    return _listed(known) if len(known) == len(names) else None


def _weekday(word: str) -> str | None:
    if word in _SHORT:
        return _DAYS[_SHORT.index(word)]
    return _DAYS[int(word) % 7] if word.isdecimal() and int(word) <= len(_DAYS) else None


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
