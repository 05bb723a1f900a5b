"""Celery's schedules in turnwise's words: they are due when Celery itself would say so."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import crontab, schedule, solar
from hypothesis import assume, given
from hypothesis import strategies as st

from turnwise import Cron, Every
from turnwise.contrib.celery.schedules import SomeDays, schedule_of
from turnwise.schedules import Schedule, parse_schedule
from turnwise.settings import Settings

START = datetime(2026, 1, 1, tzinfo=UTC)
VIENNA = "Europe/Vienna"


def app_in(timezone: str) -> Celery:
    app = Celery("test", set_as_current=False)
    app.conf.timezone = timezone
    return app


def as_celery_says(entry: Any, timezone: str, since: datetime) -> Iterator[datetime]:
    """The instants at which beat would send an entry that it had last sent at ``since``."""
    entry.app = app_in(timezone)
    entry.tz = zone = ZoneInfo(timezone)
    last = since
    while True:
        there = last.astimezone(zone)  # as the app's clock shows it
        entry.nowfun = lambda there=there: there
        last += entry.remaining_estimate(there)
        entry.nowfun = None
        yield last


def first(found: Schedule, count: int, since: datetime) -> list[datetime]:
    after = since + timedelta(microseconds=1)
    return list(islice(found.dues(after, after + timedelta(days=20_000)), count))


def schedule_if_often(entry: Any, timezone: str) -> Schedule:
    """What is not due for 10 years, such as a certain day in one month alone, is refused."""
    try:
        return schedule_of(entry, timezone)
    except ValueError:
        assume(False)  # noqa: FBT003 (Hypothesis has it so)
        raise


def fields(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    return st.one_of(
        st.just("*"),
        st.integers(2, 9).map(lambda step: f"*/{step}"),
        number.map(str),
        st.lists(number, min_size=1, max_size=4, unique=True).map(lambda n: ",".join(map(str, n))),
        st.tuples(number, number).map(lambda ends: f"{min(ends)}-{max(ends)}"),
    )


@st.composite
def crontabs(draw: st.DrawFn) -> Any:
    """Of all kinds."""
    return crontab(
        minute=draw(fields(0, 59)),
        hour=draw(fields(0, 23)),
        day_of_month=draw(fields(1, 28)),
        month_of_year=draw(fields(1, 12)),
        day_of_week=draw(st.one_of(fields(0, 6), st.sampled_from(["mon-fri", "sat,sun", "fri"]))),
    )


@given(entry=crontabs(), into=st.integers(0, 3 * 365 * 24 * 60))
def test_a_crontab_is_due_when_celery_says_so(entry: Any, into: int) -> None:
    since = START + timedelta(minutes=into)
    found = schedule_if_often(entry, "UTC")
    assert first(found, 8, since) == list(islice(as_celery_says(entry, "UTC", since), 8))


@given(entry=crontabs(), into=st.integers(0, 25 * 24 * 60))
def test_it_is_due_by_the_wall_clock_of_the_apps_zone(entry: Any, into: int) -> None:
    """Between two changes of that clock, where the rules differ on purpose."""
    since = datetime(2026, 4, 1, tzinfo=UTC) + timedelta(minutes=into)
    until = since + timedelta(days=150)
    found = schedule_if_often(entry, VIENNA)
    expected = [
        due for due in islice(as_celery_says(entry, VIENNA, since), 8) if since < due < until
    ]
    assert first(found, len(expected), since) == expected


@given(entry=crontabs(), into=st.integers(0, 3 * 365 * 24 * 60))
def test_a_period_reaches_from_one_due_instant_to_the_next(entry: Any, into: int) -> None:
    found = schedule_if_often(entry, VIENNA)
    now = START + timedelta(minutes=into, seconds=7)
    period = found.period_at(now)
    assert period.due <= now < period.until
    assert found.period_at(period.due) == period
    assert list(found.dues(period.due, period.until)) == [period.due]


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (crontab(), "cron * * * * * UTC"),
        (crontab(minute="*/15"), "cron */15 * * * * UTC"),
        (crontab(minute=range(0, 60, 15)), "cron 0,15,30,45 * * * * UTC"),
        (crontab(minute=0, hour=3), "cron 0 3 * * * UTC"),
        (crontab(0, 0, month_of_year="jan,jul", day_of_month=1), "cron 0 0 1 1,7 * UTC"),
        (crontab(0, 0, day_of_week="fri-mon"), "cron 0 0 * * 0,1,5,6 UTC"),
        (crontab(0, 9, day_of_month="1-7", day_of_week="mon"), "cron 0 9 */31,2,3,4,5,6,7 * 1 UTC"),
        (crontab(0, 9, day_of_month="8-14", day_of_week="sun"),
         "cron 0 9 8,9,10,11,12,13,14 * */7 UTC"),
    ],
)  # fmt: skip
def test_a_crontab_becomes_a_cron_that_the_command_line_can_read(entry: Any, text: str) -> None:
    found = schedule_of(entry, "UTC")
    assert str(found) == text
    assert parse_schedule(text) == found


def test_where_cron_would_take_either_day_both_must_fit_as_in_celery() -> None:
    entry = crontab(0, 9, day_of_month="13", day_of_week="fri")
    found = schedule_of(entry, "UTC")
    fridays = [datetime(2026, month, 13, 9, tzinfo=UTC) for month in (2, 3, 11)]
    assert first(found, 3, START) == fridays
    assert str(found) == "cron 0 9 13 * * UTC on FRI"
    assert first(Cron("0 9 13 * 5"), 1, START) == [datetime(2026, 1, 2, 9, tzinfo=UTC)]
    assert Settings(schedule=found).schedule == found


def test_a_schedule_of_some_days_is_a_value() -> None:
    entry = crontab(0, 9, day_of_month="13", day_of_week="fri")
    one, other = schedule_of(entry, "UTC"), schedule_of(entry, "UTC")
    one.period_at(START)
    assert (one, hash(one), str(one)) == (other, hash(other), str(other))


@pytest.mark.parametrize(
    "make",
    [
        lambda: schedule_of(crontab(0, 0, day_of_month=29, month_of_year=2, day_of_week=1), "UTC"),
        lambda: SomeDays(Cron("0 0 2 * *"), frozenset()),
        lambda: SomeDays(Cron("0 0 * * *"), every=4000),
    ],
)
def test_what_is_due_too_seldom_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="due less often than every 3653 days"):
        make()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(30.0, "every 30s"), (0.5, "every 500ms"), (5400, "every 1h30m"), (86400, "every 1d")],
)
def test_an_interval_is_due_at_its_multiples(seconds: float, text: str) -> None:
    assert str(schedule_of(schedule(timedelta(seconds=seconds)), VIENNA)) == text


@pytest.mark.parametrize(
    ("interval", "timezone", "text"),
    [
        (timedelta(seconds=30), VIENNA, "every 30s"),
        (timedelta(minutes=10), VIENNA, "every 10m"),
        (timedelta(minutes=1, seconds=30), VIENNA, "every 1m"),  # as Celery rounds it
        (timedelta(hours=1), VIENNA, "every 1h"),
        (timedelta(hours=1), "Asia/Kolkata", "every 1h offset 30m"),
        (timedelta(days=1), VIENNA, "cron 0 0 * * * Europe/Vienna"),
        (timedelta(days=1, hours=12), VIENNA, "cron 0 0 * * * Europe/Vienna"),
        (timedelta(days=7), VIENNA,
         "cron 0 0 * * * Europe/Vienna on SUN,MON,TUE,WED,THU,FRI,SAT every 7 days"),
    ],
)  # fmt: skip
def test_a_relative_interval_is_due_where_celery_rounds_to(
    interval: timedelta, timezone: str, text: str
) -> None:
    found = schedule_of(schedule(interval, relative=True), timezone)
    assert str(found) == text
    since = found.period_at(START + timedelta(days=200)).due
    celery = as_celery_says(schedule(interval, relative=True), timezone, since)
    if interval >= timedelta(minutes=1):  # what is shorter, Celery counts from anywhere
        assert first(found, 5, since) == list(islice(celery, 5))


def test_seven_days_are_counted_by_the_calendar_when_the_clock_is_changed() -> None:
    found = schedule_of(schedule(timedelta(days=7), relative=True), VIENNA)
    dues = [due.astimezone(ZoneInfo(VIENNA)) for due in first(found, 60, START)]
    assert {due.strftime("%a %H:%M") for due in dues} == {"Thu 00:00"}
    assert {(b.date() - a.date()).days for a, b in pairwise(dues)} == {7}


class _OfItsOwn(crontab):  # type: ignore[misc] # Celery has no types
    """A subclass may mean anything."""


def _solar() -> Any:
    made = solar.__new__(solar)  # its making needs a library
    made.event, made.lat, made.lon = "sunrise", 48.2, 16.4
    return made


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (_solar(), "when the sun rises cannot be told for the years ahead"),
        (_OfItsOwn(), "must be a crontab or an interval, got <crontab"),
        (crontab(nowfun=datetime.now), "must go by the storage's clock"),
        (None, "must be a crontab or an interval, got None"),
    ],
)
def test_what_cannot_be_served_is_refused_and_named(entry: object, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        schedule_of(entry, "UTC")


def test_when_the_clock_is_changed_the_rule_is_turnwises() -> None:
    """As the docs say: Celery would start 02:30 at 03:30, and skip the hour that is repeated."""
    nightly = schedule_of(crontab(30, 2), VIENNA)
    assert first(nightly, 1, datetime(2026, 3, 28, 12, tzinfo=UTC)) == [
        datetime(2026, 3, 29, 1, tzinfo=UTC)
    ]
    quarterly = schedule_of(crontab("*/15"), VIENNA)
    night = datetime(2026, 10, 25, tzinfo=UTC)
    assert len(list(quarterly.dues(night, night + timedelta(hours=2)))) == 8


def test_an_interval_is_every() -> None:
    assert schedule_of(schedule(timedelta(minutes=5)), "UTC") == Every("5m")
