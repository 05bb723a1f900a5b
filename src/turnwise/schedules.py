"""When a service is due: ``every 5m``, ``cron 0 3 * * * Europe/Vienna``.

Rules:

1. A schedule is a list of instants, its dues. A period is ``[due, until)``; its ``until`` is the
   next due. For each due ``d``: ``period_at(d).due == d``. What ``period_at`` and ``dues`` say of
   one schedule agrees.
2. :class:`Every` is due at the Unix epoch plus its offset, and each interval before and after.
3. :class:`Cron` is due when the wall clock of its zone shows a time that its expression names.
   Where that clock is changed, it matters how the expression is written:

   - **A fixed time** (no field of the seconds, minutes and hours starts with ``*``, such as
     ``30 2 * * *``) is due once. A time that the clock shows twice counts when it is shown first.
     A time that the clock skips is due at the first instant after the gap; several times that
     fall into one gap are due there once, together.
   - **A time every so often** (one of these fields starts with ``*``, such as ``*/15 * * * *``)
     is due whenever the clock shows it: again when it is shown again, not at all when it is
     skipped. So the distance from one due to the next stays what it is on other days.

   An expression with seconds keeps the same rule: ``0 30 2 * * *`` is ``30 2 * * *``. The rule
   holds for each change of a zone's distance from UTC, whatever its reason and its size.
4. ``day-of-month`` and ``day-of-week`` must both fit where one of them starts with ``*``;
   otherwise one of them is enough. This is what cron has always done.
5. A schedule is due at least every 3,653 days (10 years); anything less is refused when it is
   made.
6. Nothing here reads a clock. ``now`` is an argument, aware of its zone; answers are in UTC.
   Instants from 1970 to 2200 are answered, in any order.

Two examples, in Vienna. On 2026-03-29 the clock goes from 02:00 to 03:00, on 2026-10-25 from 03:00
back to 02:00:

====================  =======================  ================================
expression            dues on 2026-03-29, UTC  dues on 2026-10-25, UTC
====================  =======================  ================================
``30 2 * * *``        01:00 (shown as 03:00)   00:30 (02:30, shown first)
``*/30 2 * * *``      none                     00:00, 00:30, 01:00, 01:30
====================  =======================  ================================

How it works: a zone's time is a row of stretches. Within a stretch the wall clock runs at one
distance from UTC, so that the dues are the wall times that the expression names, moved by that
distance. What happens between two stretches is decided here, by the rule above. ``cronsim`` is
asked about wall times alone, where no clock is ever changed. (By its own handling of zones an
expression with seconds has no fixed times, a start within a repeated hour can lead to the past,
and a clock that is changed by half an hour can hide a due.) Stretches are found by asking the zone
for its distance from UTC every three days, and halving the time in which it differs.

Not guaranteed: two processes whose zone data differ may see different dues; turnwise does not
compare them. ``zoneinfo`` reads the zones of the operating system, and those of the package
``tzdata`` where the system has none. What a government will decide is in no zone data. A zone that
changed its clock and changed it back within three days would not be understood; since 1958 no two
such changes were nearer than almost a week, nor do the zone data foresee any. There are no leap
seconds, as everywhere in Unix time.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, Self, runtime_checkable

from turnwise.durations import duration_of, format_duration
from turnwise.errors import MissingExtraError

if TYPE_CHECKING:
    from cronsim import CronSim

_ZERO: Final = timedelta(0)
_MICROSECOND: Final = timedelta(microseconds=1)
_SECOND: Final = timedelta(seconds=1)
_LONGEST: Final = timedelta(days=3653)
_LONGEST_STAGGER: Final = timedelta(days=365)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# A year before what is promised, because a staggered schedule asks for what was before.
_FIRST: Final = _EPOCH - _LONGEST_STAGGER
_END: Final = datetime(2201, 1, 1, tzinfo=UTC)
# Within so short a time no zone changes its clock and changes it back.
_STEP: Final = timedelta(days=3)
# Where a zone has long had one distance from UTC, a stretch is cut after 402 days.
_MOST_STEPS: Final = 134


@dataclass(frozen=True, slots=True)
class Period:
    """The time from one due instant to the next: ``[due, until)``, both aware, in UTC."""

    due: datetime
    until: datetime


@runtime_checkable
class Schedule(Protocol):
    """When a service is due. Any object with these methods is one.

    It must be a value: the same questions have the same answers in every process, for ever.
    ``str()`` gives its text. Two schedules with the same text are taken for the same one, so the
    text must say all that its dues depend on.
    """

    def period_at(self, now: datetime) -> Period:
        """The period that ``now``, an aware datetime, falls into: ``due <= now < until``."""

    def dues(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """The due instants from ``since``, which counts, to ``until``, which does not."""

    def __str__(self) -> str:
        """The schedule's text."""


@dataclass(frozen=True, slots=True, init=False)
class Every:
    """Due every ``interval``, counted from the Unix epoch plus ``offset``.

    ``Every("1d", "3h")`` is due at 03:00 UTC each day, ``Every("5m")`` at each full five minutes.

    Args:
        interval: from 1 microsecond to 3,653 days, as a timedelta or a text such as ``5m``.
        offset: how much later than the epoch, at least 0 and less than the interval.

    Raises:
        TypeError: one of them is neither a timedelta nor a text.
        ValueError: one of them is no duration, or out of its range.
    """

    interval: timedelta
    offset: timedelta

    def __init__(self, interval: timedelta | str, offset: timedelta | str = _ZERO) -> None:
        interval, offset = duration_of("interval", interval), duration_of("offset", offset)
        if not _MICROSECOND <= interval <= _LONGEST:
            raise ValueError(
                f"interval must be from 1us to {format_duration(_LONGEST)}, "
                f"got {format_duration(interval)}"
            )
        if not _ZERO <= offset < interval:
            raise ValueError(
                f"offset must be at least 0s and less than the interval "
                f"({format_duration(interval)}), got {format_duration(offset)}"
            )
        object.__setattr__(self, "interval", interval)
        object.__setattr__(self, "offset", offset)

    def period_at(self, now: datetime) -> Period:
        """The period that ``now`` falls into.

        Raises:
            ValueError: ``now`` has no time zone, or is not from 1970 to 2200.
        """
        if now.tzinfo is not UTC or not _FIRST <= now < _END:
            now = _instant("now", now)
        due = now - (now - _EPOCH - self.offset) % self.interval
        return Period(due, due + self.interval)

    def dues(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """The due instants from ``since``, which counts, to ``until``, which does not.

        Raises:
            ValueError: one of them has no time zone, or is not from 1970 to 2200.
        """
        since, until = _instant("since", since), _instant("until", until)
        return takewhile(lambda due: due < until, self._dues_from(since))

    def _dues_from(self, since: datetime) -> Iterator[datetime]:
        due = since + (_EPOCH + self.offset - since) % self.interval
        while True:
            yield due
            due += self.interval

    def __str__(self) -> str:
        """The text that :func:`parse_schedule` reads: ``every 1d offset 3h``."""
        offset = f" offset {format_duration(self.offset)}" if self.offset else ""
        return f"every {format_duration(self.interval)}{offset}"


@dataclass(frozen=True, slots=True, init=False)
class Cron:
    """Due when the clock on a wall of ``timezone`` shows a time that ``expression`` names.

    For hours that the clock skips or repeats see the rules of this module. A Cron is immutable, so
    its copies are itself. It remembers the last period that it was asked for, and where its zone's
    clock was changed around it: questions in the order of time are cheap, others take longer.

    Args:
        expression: five fields (minute, hour, day of month, month, day of week), six with
            seconds before them, or one of ``@hourly``, ``@daily``, ``@midnight``, ``@weekly``,
            ``@monthly``, ``@yearly``, ``@annually``. Kept in capitals, with single spaces.
        timezone: name of a zone, such as ``Europe/Vienna``.

    Raises:
        TypeError: one of them is no text.
        ValueError: there is no such zone; the expression cannot be read (the message names the
            field); or it is never due, or not in 10 years.
        MissingExtraError: cronsim is not installed, or there is no zone data: the extra ``cron``
            has both.
    """

    expression: str
    timezone: str
    _calendar: "_Calendar" = field(repr=False, compare=False)
    _last: list[Period | None] = field(repr=False, compare=False)

    def __init__(self, expression: str, timezone: str = "UTC") -> None:
        if not isinstance(expression, str):
            raise TypeError(f"expression must be a text such as '0 3 * * *', got {expression!r}")
        if not isinstance(timezone, str):
            raise TypeError(f"timezone must be a text such as 'Europe/Vienna', got {timezone!r}")
        expression = _translated(expression)
        calendar = _calendar(expression, timezone)
        object.__setattr__(self, "expression", expression)
        object.__setattr__(self, "timezone", timezone)
        object.__setattr__(self, "_calendar", calendar)
        # One place that is written in one step, so that threads may share a schedule.
        object.__setattr__(self, "_last", [None])

    def period_at(self, now: datetime) -> Period:
        """The period that ``now`` falls into.

        Raises:
            ValueError: ``now`` has no time zone, or is not from 1970 to 2200.
        """
        if now.tzinfo is not UTC or not _FIRST <= now < _END:
            now = _instant("now", now)
        last = self._last[0]
        if last is not None and last.due <= now < last.until:
            return last
        period = self._calendar.period_at(now, last.until if last else None)
        self._last[0] = period
        return period

    def dues(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """The due instants from ``since``, which counts, to ``until``, which does not.

        Raises:
            ValueError: one of them has no time zone, or is not from 1970 to 2200.
        """
        since, until = _instant("since", since), _instant("until", until)
        return takewhile(lambda due: due < until, self._calendar.dues_from(since))

    def __str__(self) -> str:
        """The text that :func:`parse_schedule` reads: ``cron 0 3 * * * Europe/Vienna``."""
        return f"cron {self.expression} {self.timezone}"

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.expression, self.timezone)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self


@dataclass(frozen=True, slots=True, init=False)
class Staggered:
    """Another schedule, with every due later by the same time.

    Services that are due together can so be kept from starting together.

    Args:
        schedule: the schedule whose dues are moved; not itself a Staggered one.
        by: how much later, from 0 to 365 days, as a timedelta or a text such as ``12s``.

    Raises:
        TypeError: one of them is of another kind.
        ValueError: ``by`` is no duration, or out of its range.
    """

    schedule: Schedule
    by: timedelta

    def __init__(self, schedule: Schedule, by: timedelta | str) -> None:
        if isinstance(schedule, Staggered) or not isinstance(schedule, Schedule):
            raise TypeError(
                f"schedule must be one that is not staggered already, got {str(schedule)!r}"
            )
        by = duration_of("by", by)
        if not _ZERO <= by <= _LONGEST_STAGGER:
            raise ValueError(
                f"by must be from 0s to {format_duration(_LONGEST_STAGGER)}, "
                f"got {format_duration(by)}"
            )
        object.__setattr__(self, "schedule", schedule)
        object.__setattr__(self, "by", by)

    def period_at(self, now: datetime) -> Period:
        """The period that ``now`` falls into: that of the schedule at ``now - by``, moved.

        Raises:
            ValueError: ``now`` has no time zone, or is not from 1970 to 2200.
        """
        period = self.schedule.period_at(_instant("now", now) - self.by)
        return Period(period.due + self.by, period.until + self.by)

    def dues(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """The due instants from ``since``, which counts, to ``until``, which does not.

        Raises:
            ValueError: one of them has no time zone, or is not from 1970 to 2200.
        """
        since, until = _instant("since", since), _instant("until", until)
        return (due + self.by for due in self.schedule.dues(since - self.by, until - self.by))

    def __str__(self) -> str:
        """The text that :func:`parse_schedule` reads: ``every 5m staggered 12s``."""
        return f"{self.schedule} staggered {format_duration(self.by)}"


def parse_schedule(text: str) -> Every | Cron | Staggered:
    """Read a schedule's text; ``str(schedule)`` writes it.

    - ``every 5m``, ``every 1d offset 3h``
    - ``cron 0 3 * * * Europe/Vienna``; five fields or six, or ``@daily`` and its like; without a
      zone: UTC
    - either of them with ``staggered 12s`` at its end

    Raises:
        TypeError: ``text`` is no text.
        ValueError: it is none of these, or what it says is not allowed; the message says what is.
        MissingExtraError: a ``cron`` one, without the extra ``cron``.
    """
    if not isinstance(text, str):
        raise TypeError(f"a schedule must be a text such as 'every 5m', got {text!r}")
    match text.split():
        case [*words, "staggered", by]:
            return Staggered(_plain_schedule(text, words), by)
        case words:
            return _plain_schedule(text, words)


def _plain_schedule(text: str, words: list[str]) -> Every | Cron:
    match words:
        case ["every", interval]:
            return Every(interval)
        case ["every", interval, "offset", offset]:
            return Every(interval, offset)
        case ["cron", nickname, timezone] if nickname.startswith("@"):
            return Cron(nickname, timezone)
        case ["cron", _, _, _, _, _, *_, last] if _ZONE_NAME.match(last):
            return Cron(" ".join(words[1:-1]), last)
        case ["cron", *fields] if fields:
            return Cron(" ".join(fields))
    raise ValueError(
        f"{text!r} is no schedule: write 'every 5m', 'every 1d offset 3h' or "
        f"'cron 0 3 * * * Europe/Vienna', and 'staggered 12s' behind it or not"
    )


# What stands behind five words or more: a zone, unless it is a day of the week.
_ZONE_NAME: Final = re.compile(r"(?!(?:SUN|MON|TUE|WED|THU|FRI|SAT)\b)[A-Z]", re.IGNORECASE)

_NICKNAMES: Final = {
    "@ANNUALLY": "0 0 1 1 *",
    "@DAILY": "0 0 * * *",
    "@HOURLY": "0 * * * *",
    "@MIDNIGHT": "0 0 * * *",
    "@MONTHLY": "0 0 1 * *",
    "@WEEKLY": "0 0 * * 0",
    "@YEARLY": "0 0 1 1 *",
}


class _Field(NamedTuple):
    """One field of an expression, in the words of an error message."""

    name: str
    allowed: str


_FIELDS: Final = (
    _Field("second", "0 to 59"),
    _Field("minute", "0 to 59"),
    _Field("hour", "0 to 23"),
    _Field("day-of-month", "1 to 31, L (last day) or LW (last weekday)"),
    _Field("month", "1 to 12 or JAN to DEC"),
    _Field(
        "day-of-week",
        "0 to 7 (0 and 7 are Sunday) or SUN to SAT, 5L (last Friday), MON#2 (second Monday)",
    ),
)


def _translated(expression: str) -> str:
    """The expression in capitals, with single spaces, and a nickname as what it stands for."""
    fields = expression.upper().split()
    if len(fields) == 1 and fields[0] in _NICKNAMES:
        return _NICKNAMES[fields[0]]
    if len(fields) not in {len(_FIELDS) - 1, len(_FIELDS)}:
        raise ValueError(
            f"expression must have 5 fields ({', '.join(f.name for f in _FIELDS[1:])}), 6 with "
            f"seconds before them, or be one of {', '.join(sorted(_NICKNAMES)).lower()}; "
            f"got {expression!r}"
        )
    return " ".join(fields)


def _instant(name: str, value: datetime) -> datetime:
    """The instant in UTC, held against what is promised."""
    if value.utcoffset() is None:
        raise ValueError(f"{name} must be aware of its time zone, got {value.isoformat()}")
    if not _FIRST <= value <= _END:
        raise ValueError(f"{name} must be from 1970 to 2200, got {value.isoformat()}")
    return value.astimezone(UTC)


def _zone(timezone: str) -> tzinfo:
    """The zone of that name. UTC needs no zone data."""
    if timezone == "UTC":
        return UTC
    import zoneinfo  # noqa: PLC0415 (it looks at how Python was built: only who needs it)

    try:
        return zoneinfo.ZoneInfo(timezone)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        if not zoneinfo.available_timezones():
            raise MissingExtraError(
                f"timezone {timezone!r} needs zone data, which this machine has not: "
                "pip install 'turnwise[cron]'"
            ) from None
        raise ValueError(
            f"timezone must be the name of a zone, such as UTC or Europe/Vienna, got {timezone!r}"
        ) from None


class _Stretch(NamedTuple):
    """A time ``[start, end)``, in UTC, in which a zone keeps one distance from UTC.

    Wall times are naive. Those before ``first_wall`` do not count in it: the clock had shown them
    before. Where ``catches_up``, a fixed time was skipped right before it, and ``start`` is due.
    """

    start: datetime
    end: datetime
    offset: timedelta
    first_wall: datetime
    catches_up: bool

    def wall(self, instant: datetime) -> datetime:
        """What the clock shows at an instant of this stretch."""
        return (instant + self.offset).replace(tzinfo=None)

    def instant(self, wall: datetime) -> datetime:
        """When the clock shows a wall time in this stretch."""
        return wall.replace(tzinfo=UTC) - self.offset


class _Calendar:
    """What an expression's dues in a zone are: rule 3. It keeps no limits but its own search's."""

    __slots__ = ("_cronsim", "_expression", "_is_fixed", "_stretch", "_zone")

    def __init__(self, expression: str, zone: tzinfo) -> None:
        self._cronsim = _cronsim_that_reads(expression)
        self._expression = _for_cronsim(expression)
        self._zone = zone
        times = expression.split()[:-3]
        self._is_fixed = not any(part.startswith("*") for part in times)
        self._stretch = _ALL_TIME if zone is UTC else _NO_TIME

    def period_at(self, now: datetime, known: datetime | None) -> Period:
        """The period that ``now`` falls into; ``known`` is a due that it may start with."""
        if known is not None and known <= now:
            until = self._next_due(known)
            if now < until:
                return Period(known, until)
        due = self._last_due(now)
        return Period(due, self._next_due(due))

    def is_due_often_enough(self) -> bool:
        """Whether no period that can be asked for is longer than the longest allowed."""
        due = _FIRST - _LONGEST
        while due <= _END:
            # The latest one allowed: where there is one, those between are near enough, too.
            later = self._last_due(due + _LONGEST)
            if later <= due:
                return False
            due = later
        return True

    def dues_from(self, at: datetime) -> Iterator[datetime]:
        """The dues at ``at`` and after it, without an end."""
        while True:
            stretch = self._stretch_at(at)
            if stretch.catches_up and at == stretch.start:
                yield at
            walls = self._walls_from(max(stretch.wall(at), stretch.first_wall))
            yield from takewhile(lambda due: due < stretch.end, map(stretch.instant, walls))  # noqa: B023 (used up at once)
            at = stretch.end

    def _next_due(self, after: datetime) -> datetime:
        return next(self.dues_from(after + _MICROSECOND))

    def _last_due(self, at: datetime) -> datetime:
        """The last due at ``at`` or before it; ``_NEVER`` where the longest period has none."""
        oldest = at - _LONGEST
        while at >= oldest:
            stretch = self._stretch_at(at)
            wall = self._last_wall(stretch.wall(at))
            if wall is None:
                break
            if wall >= stretch.first_wall:
                return stretch.instant(wall)
            if stretch.catches_up:
                return stretch.start
            at = stretch.start - _MICROSECOND
        return _NEVER

    def _walls_from(self, wall: datetime) -> Iterator[datetime]:
        """The wall times that the expression names, at ``wall`` and after it."""
        # cronsim drops the microseconds, and starts with the second that follows.
        return self._cronsim(self._expression, wall - _MICROSECOND)

    def _last_wall(self, wall: datetime) -> datetime | None:
        """The last wall time that the expression names, at ``wall`` or before it."""
        following = wall.replace(microsecond=0) + _SECOND
        return next(self._cronsim(self._expression, following, reverse=True), None)

    def _stretch_at(self, at: datetime) -> _Stretch:
        stretch = self._stretch
        if not stretch.start <= at < stretch.end:
            stretch = self._stretch = self._find_stretch(at)
        return stretch

    def _find_stretch(self, at: datetime) -> _Stretch:
        at = at.replace(microsecond=0)  # zones change at full seconds
        offset = self._offset(at)
        start, end = self._change(at, -_STEP), self._change(at, _STEP)
        shown = (start + self._offset(start - _SECOND)).replace(tzinfo=None)
        first = (start + offset).replace(tzinfo=None)
        if not self._is_fixed:
            return _Stretch(start, end, offset, first, catches_up=False)
        if shown < first and next(self._walls_from(shown)) < first:
            # The start is due, and so a time that the clock shows then is not due once more.
            return _Stretch(start, end, offset, first + _SECOND, catches_up=True)
        return _Stretch(start, end, offset, max(first, shown), catches_up=False)

    def _change(self, at: datetime, step: timedelta) -> datetime:
        """The first instant with another distance from UTC, or backwards the first with this one.

        Where there is none near, the last instant that was tried.
        """
        offset = self._offset(at)
        for _ in range(_MOST_STEPS):
            if self._offset(at + step) != offset:
                return self._halved(min(at, at + step), max(at, at + step))
            at += step
        return at

    def _halved(self, low: datetime, high: datetime) -> datetime:
        """The first instant after ``low`` that has the distance from UTC of ``high``."""
        offset = self._offset(high)
        while high - low > _SECOND:
            middle = low + (high - low) // _SECOND // 2 * _SECOND
            if self._offset(middle) == offset:
                high = middle
            else:
                low = middle
        return high

    def _offset(self, at: datetime) -> timedelta:
        return at.astimezone(self._zone).utcoffset() or _ZERO


@lru_cache(maxsize=256)
def _calendar(expression: str, timezone: str) -> _Calendar:
    """The calendar that all schedules of this text share: to check one takes milliseconds."""
    calendar = _Calendar(expression, _zone(timezone))
    if not calendar.is_due_often_enough():
        raise ValueError(
            f"expression {expression!r} is never due in {timezone}, or not in "
            f"{_LONGEST.days:,} days (10 years), which is the longest period allowed"
        )
    return calendar


_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_FIRST_WALL: Final = _NEVER.replace(tzinfo=None)
_ALL_TIME: Final = _Stretch(
    _NEVER, datetime.max.replace(tzinfo=UTC), _ZERO, _FIRST_WALL, catches_up=False
)
_NO_TIME: Final = _ALL_TIME._replace(end=_NEVER)


# A range with steps, whole: what stands around it is the end of its list or of its field.
_RANGE_WITH_STEPS: Final = re.compile(r"(?<![^ ,])([A-Z0-9]+)-([A-Z0-9]+)/0*[1-9][0-9]*(?![^ ,])")
_MONTHS: Final = (
    "JAN",
    "FEB",
    "MAR",
    "APR",
    "MAY",
    "JUN",
    "JUL",
    "AUG",
    "SEP",
    "OCT",
    "NOV",
    "DEC",
)
_DAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_NUMBERS: Final = {
    **{name: str(number) for number, name in enumerate(_DAYS)},
    **{name: str(number) for number, name in enumerate(_MONTHS, 1)},
}


def _for_cronsim(expression: str) -> str:
    """The expression in words that cronsim reads rightly.

    It takes a range of one value with steps (``5-5/2``) for one that has no end (``5/2``).
    """

    def without_steps(match: re.Match[str]) -> str:
        first, last = (_NUMBERS.get(end, end).zfill(9) for end in match.groups())
        return match[1] if first == last else match[0]

    return _RANGE_WITH_STEPS.sub(without_steps, expression)


def _cronsim_that_reads(expression: str) -> "type[CronSim]":
    """The class that finds wall times, once it has read the expression."""
    try:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415 (only who uses it needs it)
    except ImportError as error:
        raise MissingExtraError(
            "Cron needs the extra 'cron': pip install 'turnwise[cron]'"
        ) from error

    def can_read(fields: list[str]) -> bool:
        try:
            CronSim(_for_cronsim(" ".join(fields)), _FIRST_WALL)
        except (CronSimError, ValueError):  # ValueError: a number of thousands of digits
            return False
        return True

    fields = expression.split()
    if can_read(fields):
        return CronSim
    for place, (name, allowed) in enumerate(_FIELDS[-len(fields) :]):
        alone = ["*"] * len(fields)
        alone[place] = fields[place]
        if not can_read(alone):
            raise ValueError(
                f"expression {expression!r}: {name} must be {allowed}, a list (1,2), an upward "
                f"range (1-5), steps (*/5) or *, got {fields[place]!r}"
            )
    raise ValueError(f"expression {expression!r} is never due: no month has such a day")
