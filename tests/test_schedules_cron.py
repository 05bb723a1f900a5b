"""Cron's dues are held against a second implementation, and against the rule tried by the minute.

Two witnesses, both of which know wall times by ``crondst`` and share no code with
:mod:`turnwise.schedules`:

- ``crondst`` itself, with its own handling of zones. Its rule is ours, but it takes gaps to begin,
  and repeated times to end, at full hours. It is asked where they do.
- The rule of the module, tried on each minute around a change of the clock: what does the clock
  show now, did it show that before, what did it skip? ``crondst`` says, in UTC, which wall times
  the expression names. This witness is right for each change at a full minute: Chatham's at 02:45,
  and days that an island never had.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from crondst import CronDst
from hypothesis import given
from hypothesis import strategies as st

from turnwise.schedules import Cron

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
AROUND = timedelta(hours=5)
LONGEST_REPEATED = timedelta(hours=3)
WITH_CHANGES_AT_FULL_HOURS = (
    "Africa/Cairo",
    "America/Santiago",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Europe/Vienna",
    "Pacific/Kiritimati",
)
ZONES = (*WITH_CHANGES_AT_FULL_HOURS, "Pacific/Chatham")
TWENTY_YEARS = (datetime(2008, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC))
FIXED = (
    "30 2 * * *",
    "0 3 * * *",
    "0 0 * * *",
    "45 23 * * SAT,SUN",
    "10,50 1-2 * * *",
    "0-59/7 0-4 * * *",
    "59 0-3,23 1-31/2 * *",
    "0 0-23 * * *",
)
EVERY_SO_OFTEN = (
    "*/15 2 * * *",
    "0 * * * *",
    "*/20 * * * *",
    "30 */2 * * *",
    "*/7 0-3,23 * * 0,5-7",
    "* 0 28-31 * *",
)


@cache
def changes(zone: str, since: datetime, until: datetime) -> tuple[datetime, ...]:
    """The instants from which the zone has another distance from UTC, to the minute."""
    found = []
    at = since
    while at < until:
        if offset(zone, at) != offset(zone, at + DAY):
            low = at
            for step in (timedelta(hours=1), MINUTE):
                while offset(zone, low) == offset(zone, low + step):
                    low += step
            found.append(low + MINUTE)
        at += DAY
    return tuple(found)


def offset(zone: str, at: datetime) -> timedelta | None:
    return at.astimezone(ZoneInfo(zone)).utcoffset()


class Minute(NamedTuple):
    """A minute: what the clock shows, whether it did before, and what it skipped right before."""

    at: datetime
    wall: datetime
    was_shown: bool
    skipped: tuple[datetime, ...]


@cache
def minutes(zone: str, since: datetime, until: datetime) -> tuple[Minute, ...]:
    """What the clock shows from one instant to another, minute by minute."""
    # From so long before that it is known what the clock has shown already.
    at = since - LONGEST_REPEATED
    latest = at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) - MINUTE
    found = []
    while at < until:
        wall = at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        skipped = tuple(latest + past * MINUTE for past in range(1, (wall - latest) // MINUTE))
        found.append(Minute(at, wall, wall <= latest, skipped))
        latest = max(latest, wall)
        at += MINUTE
    return tuple(minute for minute in found if minute.at >= since)


@cache
def named(expression: str, first: datetime, last: datetime) -> frozenset[datetime]:
    """The wall times that the expression names, from the first to the last."""
    found = set()
    for wall in CronDst(expression.lower()).iter(first.replace(tzinfo=UTC) - MINUTE):
        if (naive := wall.replace(tzinfo=None)) > last:
            break
        found.add(naive)
    return frozenset(found)


def by_the_rule(expression: str, zone: str, since: datetime, until: datetime) -> list[datetime]:
    """The dues by rule 3, tried on each minute."""
    tried = minutes(zone, since, until)
    walls = [minute.wall for minute in tried]
    wanted = named(expression, min(walls) - DAY, max(walls))
    if any(part.startswith("*") for part in expression.split()[:2]):
        return [minute.at for minute in tried if minute.wall in wanted]
    return [
        minute.at
        for minute in tried
        if (minute.wall in wanted and not minute.was_shown)
        or (minute.skipped and not wanted.isdisjoint(minute.skipped))
    ]


def by_crondst(expression: str, zone: str, since: datetime, until: datetime) -> Iterator[datetime]:
    for due in CronDst(expression.lower()).iter((since - MINUTE).astimezone(ZoneInfo(zone))):
        if due.astimezone(UTC) >= until:
            return
        yield due.astimezone(UTC)


@pytest.mark.parametrize("zone", ZONES)
def test_around_each_change_of_twenty_years_the_dues_are_those_of_the_rule(zone: str) -> None:
    for expression in FIXED + EVERY_SO_OFTEN:
        schedule = Cron(expression, zone)
        for change in changes(zone, *TWENTY_YEARS):
            window = (change - AROUND, change + AROUND)
            expected = by_the_rule(expression, zone, *window)
            assert list(schedule.dues(*window)) == expected, (expression, change)


@pytest.mark.parametrize("zone", WITH_CHANGES_AT_FULL_HOURS)
def test_where_clocks_change_at_full_hours_crondst_says_the_same(zone: str) -> None:
    for expression in FIXED + EVERY_SO_OFTEN:
        schedule = Cron(expression, zone)
        for change in changes(zone, *TWENTY_YEARS):
            window = (change - AROUND, change + AROUND)
            expected = list(by_crondst(expression, zone, *window))
            assert list(schedule.dues(*window)) == expected, (expression, change)


def test_the_changes_of_twenty_years_are_as_many_as_the_zones_have() -> None:
    """Cairo had none for years, Kiritimati has none; the tests above are not about nothing."""
    count = {zone: len(changes(zone, *TWENTY_YEARS)) for zone in ZONES}
    assert count["Pacific/Kiritimati"] == 0
    assert {count[zone] for zone in ("Europe/Vienna", "Pacific/Chatham")} == {40}
    assert min(count[zone] for zone in ZONES if zone != "Pacific/Kiritimati") >= 20


@pytest.mark.parametrize(
    ("zone", "around"),
    [
        ("Pacific/Kiritimati", datetime(1994, 12, 31, 10, tzinfo=UTC)),
        ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
        ("Antarctica/Casey", datetime(2020, 10, 3, 16, 1, tzinfo=UTC)),
        ("Antarctica/Casey", datetime(2021, 3, 13, 13, tzinfo=UTC)),
        ("Asia/Pyongyang", datetime(2015, 8, 14, 15, tzinfo=UTC)),
        ("America/Caracas", datetime(2007, 12, 9, 7, tzinfo=UTC)),
    ],
)
def test_a_day_that_never_was_and_clocks_changed_for_good_go_by_the_same_rule(
    zone: str, around: datetime
) -> None:
    window = (around - 2 * DAY, around + 2 * DAY)
    assert around in changes(zone, *window)
    for expression in FIXED + EVERY_SO_OFTEN:
        expected = by_the_rule(expression, zone, *window)
        assert list(Cron(expression, zone).dues(*window)) == expected, expression


def fields(least: int, most: int) -> st.SearchStrategy[str]:
    """A field: a star, numbers, upward ranges, steps, and lists of them."""
    numbers = st.integers(least, most)
    ranges = st.tuples(numbers, numbers).map(lambda ends: f"{min(ends)}-{max(ends)}")
    steps = st.integers(1, most)
    items = st.one_of(
        numbers.map(str),
        ranges,
        st.builds("{}/{}".format, ranges, steps),
        st.builds("*/{}".format, steps),
    )
    return st.just("*") | st.lists(items, min_size=1, max_size=3).map(",".join)


# With each hour of the day and the days that months share, so that a few days have dues.
expressions = st.builds(
    "{} {} {} {} {}".format,
    fields(0, 59),
    st.sampled_from(["0-4", "23,0-2", "1", "2", "3"]) | fields(0, 23),
    st.just("*") | fields(1, 28),
    # With a month of 31 days: crondst refuses `* * * 2 *`, for there is no 31st of February.
    st.just("*") | fields(1, 12).map("3,{}".format),
    st.just("*") | fields(0, 7),
)
CHANGES = [(zone, at) for zone in ZONES for at in changes(zone, *TWENTY_YEARS)]
MINUTES = (datetime(2200, 12, 28, tzinfo=UTC) - datetime(1970, 1, 3, tzinfo=UTC)) // MINUTE
instants = st.integers(0, MINUTES).map(
    lambda minute: datetime(1970, 1, 3, tzinfo=UTC) + minute * MINUTE
)
places = st.sampled_from(CHANGES) | st.tuples(st.sampled_from(ZONES), instants)


@given(expressions, places)
def test_any_expression_is_due_as_the_rule_says_near_changes_and_anywhere(
    expression: str, place: tuple[str, datetime]
) -> None:
    zone, at = place
    window = (at - timedelta(hours=4), at + timedelta(hours=6))
    try:
        schedule = Cron(expression, zone)
    except ValueError as error:
        assert "never due" in str(error)  # noqa: PT017 (most are due, and go on below)
        return
    assert list(schedule.dues(*window)) == by_the_rule(expression, zone, *window)


@given(expressions, st.sampled_from(ZONES), instants)
def test_periods_lie_between_neighbouring_dues_wherever_one_asks(
    expression: str, zone: str, now: datetime
) -> None:
    try:
        schedule = Cron(expression, zone)
    except ValueError:
        return
    period = schedule.period_at(now)
    assert period.due <= now < period.until
    wide = schedule.dues(period.due, min(period.until + MINUTE, datetime(2201, 1, 1, tzinfo=UTC)))
    assert [due for due in wide if due < period.until] == [period.due]
