"""Celery's schedules, read as turnwise's.

Rules
-----
1. **An interval** is due at each multiple of it since the Unix epoch. Celery counts from the last
   run, which no two nodes would agree about.
2. **A relative interval** is due where Celery rounds to: at full hours or minutes, or at midnight
   on the wall clock of the app's zone. A part of it that is less than that unit does not count, as
   in Celery, which rounds it away.
3. **A crontab** means what Celery means: the day of the month and the day of the week must *both*
   fit, whatever they are. It becomes a :class:`~turnwise.schedules.Cron` wherever one can say so,
   because ``turnwise audit`` and its like can read that; where none can, :class:`SomeDays`.
4. **When the wall clock is changed**, turnwise's rule holds
   (:mod:`turnwise.schedules`). Celery would start an entry at 02:30 an hour later than that, and
   skip a repeated hour of one that is due every quarter.
5. ``solar``, subclasses, and schedules with a clock of their own (``nowfun``) are refused.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from celery.schedules import BaseSchedule, crontab, schedule, solar

from turnwise import Cron, Every
from turnwise.schedules import Period, Schedule

_DAY, _HOUR, _MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = date(1970, 1, 1)
_FIRST = datetime(1969, 1, 1, tzinfo=UTC)
_LONGEST = timedelta(days=3653)
_LOOK_BACK = (timedelta(days=9), timedelta(days=400), _LONGEST)
_A_REGULAR_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_WEEKDAYS = frozenset(range(7))
_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


@dataclass(frozen=True, slots=True)
class SomeDays:
    """The dues of a ``Cron`` that fall on certain days, on the wall clock of its zone.

    Args:
        cron: whose dues these are.
        weekdays: the days of the week that count, from 0, which is Sunday, to 6.
        every: every so many days, counted from 1970-01-01.

    Raises:
        ValueError: there are no such dues, or not in 10 years.
    """

    cron: Cron
    weekdays: frozenset[int] = _WEEKDAYS
    every: int = 1
    # One place that is written in one step, so that threads may share a schedule.
    _last: list[Period] = field(default_factory=list, repr=False, compare=False)

    def __post_init__(self) -> None:
        seldom = f"{self} is due less often than every {_LONGEST.days} days"
        if not 1 <= self.every <= _LONGEST.days or not self.weekdays & _WEEKDAYS:
            raise ValueError(seldom)
        # The calendar repeats itself after 28 years, and days count rather than times.
        _, _, days, months, _ = self.cron.expression.split()
        by_day = Cron(f"0 12 {days} {months} *")
        start = datetime(2001, 1, 1, tzinfo=UTC)
        last = start
        for due in by_day.dues(start, start + 4 * _LONGEST):
            if self._is_one(due.date()):
                if due - last > _LONGEST:
                    break
                last = due
        if start + 4 * _LONGEST - last > _LONGEST:
            raise ValueError(seldom)

    def period_at(self, now: datetime) -> Period:
        """The period that ``now`` falls into."""
        for last in self._last:
            if last.due <= now < last.until:
                return last
        until = next(self.dues(now + _MICROSECOND, now + 2 * _LONGEST))
        period = Period(self._last_due(now), until)
        self._last[:] = [period]
        return period

    def dues(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """The due instants from ``since``, which counts, to ``until``, which does not."""
        zone = UTC if self.cron.timezone == "UTC" else ZoneInfo(self.cron.timezone)
        return (
            due for due in self.cron.dues(since, until) if self._is_one(due.astimezone(zone).date())
        )

    def __str__(self) -> str:
        days = ",".join(_NAMES[day] for day in sorted(self.weekdays))
        every = f" every {self.every} days" if self.every > 1 else ""
        return f"{self.cron} on {days}{every}"

    def _is_one(self, day: date) -> bool:
        fits = day.isoweekday() % 7 in self.weekdays
        return fits and (day - _EPOCH).days % self.every == 0

    def _last_due(self, now: datetime) -> datetime:
        for back in _LOOK_BACK:
            found = list(self.dues(max(now - back, _FIRST), now + _MICROSECOND))
            if found:
                return found[-1]
        raise ValueError(f"now must be after the first due instant of {self}, got {now}")


def schedule_of(entry: object, timezone: str) -> Schedule:
    """What a schedule of Celery's says, in turnwise's words.

    Args:
        entry: the schedule of an entry, as Celery keeps it.
        timezone: the name of the app's zone.

    Raises:
        TypeError: it is of a kind that cannot be served.
        ValueError: it is due too often, or too seldom.
    """
    if isinstance(entry, solar):
        raise TypeError(
            f"schedule must be a crontab or an interval, got {entry!r}: when the sun rises cannot "
            "be told for the years ahead; send it from a task that a crontab starts each day"
        )
    if not isinstance(entry, BaseSchedule) or type(entry) not in {crontab, schedule}:
        raise TypeError(f"schedule must be a crontab or an interval, got {entry!r}")
    if entry.nowfun is not None:
        raise TypeError(
            f"schedule must go by the storage's clock, got {entry!r} with a nowfun: for a zone of "
            "its own, set the app's timezone"
        )
    if isinstance(entry, crontab):
        return _crontab(entry, timezone)
    if entry.relative:
        return _relative(entry.run_every, timezone)
    return Every(entry.run_every)


def _relative(interval: timedelta, timezone: str) -> Schedule:
    if interval >= _DAY:
        midnight, days = Cron("0 0 * * *", timezone), interval // _DAY
        return midnight if days == 1 else SomeDays(midnight, every=days)
    if interval < _MINUTE:
        return Every(interval)
    unit = _HOUR if interval >= _HOUR else _MINUTE
    from_utc = _A_REGULAR_DAY.astimezone(ZoneInfo(timezone)).utcoffset()
    assert from_utc is not None  # noqa: S101 (it is aware)
    return Every(interval // unit * unit, -from_utc % unit)


def _crontab(entry: crontab, timezone: str) -> Schedule:
    minute = _time(entry.minute, 60, entry._orig_minute)  # noqa: SLF001 (its text is nowhere else)
    hour = _time(entry.hour, 24, entry._orig_hour)  # noqa: SLF001
    days, weekdays = frozenset(entry.day_of_month), frozenset(entry.day_of_week)
    day, month = _days(days, range(1, 32)), _days(entry.month_of_year, range(1, 13))
    weekday = _days(weekdays, range(7))
    if "*" not in (day, weekday):
        # Cron takes both days to be meant where one of them starts with a star.
        if 1 in days:
            day = _days(days, range(1, 32), first="*/31")
        elif 0 in weekdays:
            weekday = _days(weekdays, range(7), first="*/7")
        else:
            return SomeDays(Cron(f"{minute} {hour} {day} {month} *", timezone), weekdays)
    return Cron(f"{minute} {hour} {day} {month} {weekday}", timezone)


def _time(numbers: Iterable[int], count: int, text: object) -> str:
    """A field of the time of day; a star at its start says that it is due every so often."""
    found = sorted(numbers)
    if len(found) == count:
        return "*"
    listed = ",".join(map(str, found))
    step = found[1] if isinstance(text, str) and text.startswith("*/") and len(found) > 1 else 0
    return f"*/{step}" if step and found == list(range(0, count, step)) else listed


def _days(numbers: Iterable[int], every: range, first: str = "") -> str:
    """A field of days or months; ``first`` stands for the first number that there is."""
    found = sorted(numbers)
    if found == list(every):
        return "*"
    return ",".join([first, *map(str, found[1:])] if first else map(str, found))
