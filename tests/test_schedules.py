"""Schedules say when a service is due: values, texts, and what is refused in which words."""

import calendar
import copy
import pickle
import subprocess
import sys
import zoneinfo
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import turnwise
from turnwise.errors import MissingExtraError
from turnwise.schedules import (
    Cron,
    Every,
    Period,
    Schedule,
    Staggered,
    _Calendar,
    _zone,
    parse_schedule,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(2201, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
VIENNA = "Europe/Vienna"

instants = st.integers(0, (END - EPOCH) // MICROSECOND - 1).map(
    lambda microseconds: EPOCH + microseconds * MICROSECOND
)
intervals = st.one_of(
    st.timedeltas(MICROSECOND, timedelta(days=3653)),
    st.timedeltas(MICROSECOND, SECOND),
    st.integers(1, 100_000).map(lambda seconds: seconds * SECOND),
)
everys = st.tuples(intervals, st.floats(0, 1, exclude_max=True)).map(
    lambda drawn: Every(drawn[0], min(drawn[0] * drawn[1], drawn[0] - MICROSECOND))
)
crons = st.builds(
    Cron,
    st.sampled_from(
        [
            "30 2 * * *",
            "*/15 2 * * *",
            "0 */6 * * *",
            "0 0 29 2 *",
            "59 23 L * *",
            "0 9 LW * *",
            "30 1 * * 5L",
            "0 0 * * MON#2",
            "0 0 13 * FRI",
            "*/10 30 2 * * *",
            "15,45 0 0 1 1 *",
        ]
    ),
    st.sampled_from(["UTC", VIENNA, "Australia/Lord_Howe", "Pacific/Chatham", "Asia/Kolkata"]),
)
plain_schedules = everys | crons
schedules = plain_schedules | st.builds(
    Staggered, plain_schedules, st.timedeltas(timedelta(0), timedelta(days=365))
)


def dues(schedule: Schedule, since: str, until: str) -> list[str]:
    """The dues from one day to another, as text, in UTC."""
    window = (datetime.fromisoformat(f"{day}T00:00Z") for day in (since, until))
    return [f"{due:%Y-%m-%d %H:%M:%S}".removesuffix(":00") for due in schedule.dues(*window)]


def on(day: str, *times: str) -> list[str]:
    return [f"{day} {time}" for time in times]


@given(schedules, instants)
def test_a_period_starts_with_its_due_and_ends_with_the_next(
    schedule: Schedule, now: datetime
) -> None:
    period = schedule.period_at(now)
    assert period.due <= now < period.until
    if period.due < EPOCH or period.until >= END:
        return
    assert schedule.period_at(period.due) == period
    assert schedule.period_at(period.until - MICROSECOND) == period
    assert schedule.period_at(period.until).due == period.until
    assert list(schedule.dues(period.due, period.until)) == [period.due]
    assert list(schedule.dues(period.due + MICROSECOND, period.until)) == []
    assert next(schedule.dues(period.due + MICROSECOND, END)) == period.until


@given(schedules, instants)
def test_dues_are_the_starts_of_the_periods_one_after_another_all_of_them_in_utc(
    schedule: Schedule, since: datetime
) -> None:
    until = min(END, since + 10 * (schedule.period_at(since).until - since))
    found = [due for due, _ in zip(schedule.dues(since, until), range(50), strict=False)]
    assert all(since <= due < until and due.tzinfo is UTC for due in found)
    for due, following in pairwise(found):
        assert schedule.period_at(due) == Period(due, following)
    assert schedule.period_at(since).due.tzinfo is UTC


@given(crons, st.lists(instants, min_size=2, max_size=6))
def test_cron_answers_the_same_whatever_it_was_asked_before(
    cron: Cron, asked: list[datetime]
) -> None:
    for now in asked:  # which a new Cron would not do: equal ones share what they found
        answer = cron.period_at(now)
        fresh = _Calendar(cron.expression, _zone(cron.timezone)).period_at(now, None)
        assert answer == fresh
        assert answer.until >= END or cron.period_at(answer.until).due == answer.until


@given(crons, instants, st.integers(1, 5))
def test_cron_knows_a_due_that_is_asked_for_when_others_were_passed_over(
    cron: Cron, since: datetime, step: int
) -> None:
    found = [due for due, _ in zip(cron.dues(since, END), range(12), strict=False)]
    for due, following in list(pairwise(found))[::step]:
        assert cron.period_at(due) == Period(due, following)


@given(everys, instants)
def test_every_is_due_at_the_epoch_plus_offset_and_each_interval_from_it(
    every: Every, now: datetime
) -> None:
    def microseconds(at: datetime) -> int:
        return (at - EPOCH) // MICROSECOND - every.offset // MICROSECOND

    interval = every.interval // MICROSECOND
    period = every.period_at(now)
    assert microseconds(period.due) == microseconds(now) // interval * interval
    assert period.until - period.due == every.interval


def test_every_counts_its_offset_from_the_start_of_the_interval() -> None:
    assert dues(Every("1d", "3h"), "2026-01-01", "2026-01-03") == [
        "2026-01-01 03:00",
        "2026-01-02 03:00",
    ]
    assert dues(Every(timedelta(hours=12)), "2026-01-01", "2026-01-02") == on(
        "2026-01-01", "00:00", "12:00"
    )


def each_hour(minute: int) -> list[str]:
    return [f"{hour:02}:{minute:02}" for hour in range(24)]


@pytest.mark.parametrize(
    ("expression", "spring", "autumn"),
    [
        ("30 2 * * *", ["01:00"], ["00:30"]),
        ("0 30 2 * * *", ["01:00"], ["00:30"]),
        ("*/30 30 2 * * *", [], ["00:30", "00:30:30", "01:30", "01:30:30"]),
        ("0 3 * * *", ["01:00"], ["02:00"]),
        ("0,20 2,3 * * *", ["01:00", "01:20"], ["00:00", "00:20", "02:00", "02:20"]),
        ("*/30 2 * * *", [], ["00:00", "00:30", "01:00", "01:30"]),
        ("0 * * * *", each_hour(0), each_hour(0)),
        ("0 30 * * * *", each_hour(30), each_hour(30)),
    ],
)  # fmt: skip
def test_in_vienna_a_fixed_time_comes_once_and_one_every_so_often_keeps_its_distance(
    expression: str, spring: list[str], autumn: list[str]
) -> None:
    cron = Cron(expression, VIENNA)
    assert dues(cron, "2026-10-25", "2026-10-26") == on("2026-10-25", *autumn)
    assert dues(cron, "2026-03-29", "2026-03-30") == on("2026-03-29", *spring)


@pytest.mark.parametrize("minute", range(0, 120, 7))
def test_a_start_within_the_repeated_hours_leads_to_what_comes_later(minute: int) -> None:
    now = datetime(2026, 10, 25, 0, 0, 30, 5, tzinfo=UTC) + timedelta(minutes=minute)
    today, tomorrow = (datetime(2026, 10, 25 + day, 0, 30, tzinfo=UTC) for day in (0, 1))
    fixed = Cron("30 2 * * *", VIENNA)
    expected = today if now < today else tomorrow + timedelta(hours=1)
    assert fixed.period_at(now).until == expected
    assert next(fixed.dues(now, END)) == expected
    assert Cron("*/30 2 * * *", VIENNA).period_at(now).due == max(
        now - (now - EPOCH) % timedelta(minutes=30), EPOCH
    )


def test_a_fixed_time_that_is_skipped_is_due_at_the_first_instant_after_the_gap() -> None:
    chatham = dues(Cron("0 3 * * *", "Pacific/Chatham"), "2025-09-26", "2025-09-29")
    assert chatham == ["2025-09-26 14:15", "2025-09-27 14:00", "2025-09-28 13:15"]


def test_a_gap_that_ends_within_a_minute_ends_there() -> None:
    """Liberia went from 00:00:00 to 00:44:30."""
    assert dues(Cron("10,20 0 * * *", "Africa/Monrovia"), "1972-01-07", "1972-01-08") == [
        "1972-01-07 00:44:30"
    ]


def test_a_day_that_an_island_never_had_is_made_up_for_once() -> None:
    kiritimati = dues(Cron("0 3,15 * * *", "Pacific/Kiritimati"), "1994-12-30", "1995-01-02")
    assert kiritimati == [
        *on("1994-12-30", "01:00", "13:00"),
        *on("1994-12-31", "01:00", "10:00", "13:00"),
        *on("1995-01-01", "01:00", "13:00"),
    ]


def each_day(since: int, until: int) -> Iterator[datetime]:
    day = datetime(since, 1, 1, tzinfo=UTC)
    while day.year < until:
        yield day
        day += DAY


def last_of_month(day: datetime) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def is_last_weekday(day: datetime) -> bool:
    rest = range(day.day + 1, last_of_month(day) + 1)
    return day.weekday() < 5 and all(day.replace(day=later).weekday() >= 5 for later in rest)


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ("0 0 29 2 *", lambda day: (day.month, day.day) == (2, 29)),
        ("0 0 * * 5L", lambda day: day.weekday() == 4 and day.day + 7 > last_of_month(day)),
        ("0 0 * * MON#2", lambda day: day.weekday() == 0 and 8 <= day.day <= 14),
        ("0 0 L * *", lambda day: day.day == last_of_month(day)),
        ("0 0 LW * *", is_last_weekday),
        ("0 0 13 * FRI", lambda day: day.day == 13 or day.weekday() == 4),
        ("0 0 */13 * FRI", lambda day: day.day in {1, 14, 27} and day.weekday() == 4),
        ("0 0 * JAN-MAR 7", lambda day: day.month <= 3 and day.weekday() == 6),
        ("0 0 5-5/2 * *", lambda day: day.day == 5),
        ("0 0 * * SUN-0/3,TUE-02/2", lambda day: day.weekday() in {6, 1}),
        ("0 0 5-9/2 2-02/1 *", lambda day: day.month == 2 and day.day in {5, 7, 9}),
    ],
)
def test_days_are_named_by_date_weekday_and_their_place_in_the_month(
    expression: str, fits: Callable[[datetime], bool]
) -> None:
    window = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2042, 1, 1, tzinfo=UTC))
    assert list(Cron(expression).dues(*window)) == [
        day for day in each_day(2026, 2042) if fits(day)
    ]


def test_the_29th_of_february_is_eight_years_away_around_2100() -> None:
    period = Cron("0 0 29 2 *").period_at(datetime(2100, 1, 1, tzinfo=UTC))
    assert (period.due.year, period.until.year) == (2096, 2104)


def test_six_fields_have_seconds_first() -> None:
    assert dues(Cron("*/20 59 23 31 12 *"), "2026-01-01", "2027-01-01") == on(
        "2026-12-31", "23:59", "23:59:20", "23:59:40"
    )


@pytest.mark.parametrize(
    ("nickname", "expression"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@Hourly", "0 * * * *"),
    ],
)
def test_nicknames_are_what_they_stand_for(nickname: str, expression: str) -> None:
    assert Cron(nickname, VIENNA) == Cron(expression, VIENNA)
    assert parse_schedule(f"cron {nickname} {VIENNA}") == Cron(expression, VIENNA)
    assert parse_schedule(f"cron {nickname}") == Cron(expression)


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("every 5m", Every("5m")),
        (" every  300s\n", Every("5m")),
        ("every 1d offset 3h", Every("1d", "3h")),
        ("cron 0 3 * * *", Cron("0 3 * * *")),
        ("cron 0 3 * * * Europe/Vienna", Cron("0 3 * * *", VIENNA)),
        ("cron 0 3 * * mon MET", Cron("0 3 * * MON", "MET")),
        ("cron 0 3 * * mon", Cron("0 3 * * MON")),
        ("cron 5 0 3 * * MON-FRI", Cron("5 0 3 * * MON-FRI")),
        ("cron 5 0 3 * * 5L", Cron("5 0 3 * * 5L")),
        ("cron 5 0 3 * * MON#2 Etc/GMT+5", Cron("5 0 3 * * MON#2", "Etc/GMT+5")),
        ("every 5m staggered 12s", Staggered(Every("5m"), "12s")),
        ("cron @daily EST staggered 1h", Staggered(Cron("@daily", "EST"), timedelta(hours=1))),
    ],
)
def test_schedules_are_read_as_people_write_them(text: str, schedule: Schedule) -> None:
    assert parse_schedule(text) == schedule


@given(schedules)
def test_the_text_of_a_schedule_reads_back_as_the_same_one(schedule: Schedule) -> None:
    assert parse_schedule(str(schedule)) == schedule


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (Every("90m"), "every 1h30m"),
        (Every("1d", "3h"), "every 1d offset 3h"),
        (Cron(" 0  3 * * mon "), "cron 0 3 * * MON UTC"),
        (Staggered(Cron("@daily", VIENNA), "12s"), "cron 0 0 * * * Europe/Vienna staggered 12s"),
    ],
)
def test_a_schedule_is_written_in_one_way(schedule: Schedule, text: str) -> None:
    assert str(schedule) == text


@given(st.text("0123456789*/,-#LW@ MONSUJAcroney5d") | st.text())
def test_garbage_is_one_clear_line(text: str) -> None:
    for read in (parse_schedule, Cron, lambda text: Cron(f"* * * * {text}"), Every):
        try:
            read(text)
        except ValueError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017 (some of it can be read)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: parse_schedule("5m"), "'5m' is no schedule: write 'every 5m'"),
        (lambda: parse_schedule("cron"), "'cron' is no schedule"),
        (lambda: parse_schedule("every 5m staggered 1s staggered 1s"), "is no schedule"),
        (lambda: parse_schedule("cron * * * UTC"), "expression must have 5 fields (minute, hour"),
        (lambda: parse_schedule("cron * * * * * Mars"), "timezone must be the name of a zone"),
        (lambda: Every("5"), "interval: '5' is no duration"),
        (lambda: Every("0s"), "interval must be from 1us to 3653d, got 0s"),
        (lambda: Every("3653d1us"), "interval must be from 1us to 3653d, got 3653d0.000001s"),
        (lambda: Every("5m", "5m"), "offset must be at least 0s and less than the interval (5m), "),
        (
            lambda: Every("5m", -SECOND),
            "offset must be at least 0s and less than the interval (5m)",
        ),
        (lambda: Staggered(Every("5m"), -SECOND), "by must be from 0s to 365d, got -1s"),
        (lambda: Staggered(Every("5m"), "366d"), "by must be from 0s to 365d, got 366d"),
        (lambda: Cron("0 3 * *"), "expression must have 5 fields (minute, hour, day-of-month, "),
        (lambda: Cron("1 2 3 4 5 6 7"), "6 with seconds before them, or be one of @annually"),
        (lambda: Cron("@reboot"), "@weekly, @yearly; got '@reboot'"),
        (lambda: Cron("60 0 3 * * *"), "second must be 0 to 59, a list (1,2)"),
        (lambda: Cron("60 3 * * *"), "expression '60 3 * * *': minute must be 0 to 59, a list"),
        (lambda: Cron("0 24 * * *"), "hour must be 0 to 23, a list (1,2), an upward range (1-5), "),
        (lambda: Cron("0 3 32 * *"), "day-of-month must be 1 to 31, L (last day) or LW"),
        (lambda: Cron("0 3 * 0 *"), "month must be 1 to 12 or JAN to DEC, a list"),
        (lambda: Cron("0 3 * * MON#6"), "day-of-week must be 0 to 7 (0 and 7 are Sunday) or SUN"),
        (lambda: Cron("0 3 * * FRI-MON"), "steps (*/5) or *, got 'FRI-MON'"),
        (lambda: Cron("0 3-3/0 * * *"), "hour must be 0 to 23"),
        (lambda: Cron("0 1-5-5/2 * * *"), "hour must be 0 to 23"),
        (lambda: Cron("0 5-5/2-7 * * *"), "hour must be 0 to 23"),
        (lambda: Cron("9" * 5000 + " 3 * * *"), "minute must be 0 to 59"),
        (lambda: Cron("0 3 * * *", "Vienna"), "timezone must be the name of a zone, such as UTC"),
        (lambda: Cron("0 3 * * *", "../UTC"), "got '../UTC'"),
        (lambda: Cron("0 3 * * *", ""), "timezone must be the name of a zone"),
        (lambda: Cron("0 3 * * *", "Europe"), "timezone must be the name of a zone"),
        (lambda: Cron("0 0 30 2 *"), "is never due: no month has such a day"),
        (lambda: Cron("0 0 */8 * MON#5"), "is never due in UTC, or not in 3,653 days (10 years)"),
        (lambda: Cron("0 0 29 2 */7"), "is never due in UTC, or not in 3,653 days (10 years)"),
        (lambda: Cron("*/9 2 * 3 7L", VIENNA), "is never due in Europe/Vienna, or not in 3,653"),
        (lambda: Cron("*/9 2 * 4 7L", "America/New_York"), "never due in America/New_York, or not"),
    ],
)
def test_what_is_refused_is_said_with_what_is_allowed(
    make: Callable[[], object], said: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (its text is what is tested)
        make()
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Every(5), "interval must be a timedelta or a text such as '5m', got 5"),  # type: ignore[arg-type]
        (lambda: Every("5m", 0), "offset must be a timedelta or a text"),  # type: ignore[arg-type]
        (lambda: Cron(5), "expression must be a text such as '0 3 * * *', got 5"),  # type: ignore[arg-type]
        (lambda: Cron("@daily", UTC), "timezone must be a text such as 'Europe/Vienna'"),  # type: ignore[arg-type]
        (lambda: parse_schedule(Every("5m")), "a schedule must be a text such as 'every 5m'"),  # type: ignore[arg-type]
        (lambda: Staggered("every 5m", "1s"), "schedule must be one that"),  # type: ignore[arg-type]
        (lambda: Staggered(Staggered(Every("5m"), "1s"), "1s"), "'every 5m staggered 1s'"),
    ],
)
def test_what_is_of_another_kind_is_refused_by_its_name(
    make: Callable[[], object], said: str
) -> None:
    with pytest.raises(TypeError) as caught:
        make()
    assert said in str(caught.value)


def test_a_fixed_time_in_a_gap_of_each_year_is_due_all_the_same() -> None:
    """The wildcard of the same hour is refused above: it is skipped whenever it comes."""
    cron = Cron("9 2 * 3 7L", VIENNA)
    assert dues(cron, "2026-01-01", "2028-01-01") == ["2026-03-29 01:00", "2027-03-28 01:00"]


EACH_KIND = [Every("5m", "1m"), Cron("30 2 * * *", VIENNA), Staggered(Cron("@hourly"), "12s")]


@pytest.mark.parametrize("schedule", EACH_KIND, ids=str)
def test_a_schedule_is_a_value_that_is_copied_pickled_and_compared(schedule: Schedule) -> None:
    schedule.period_at(EPOCH)
    for other in (
        copy.copy(schedule),
        copy.deepcopy(schedule),
        pickle.loads(pickle.dumps(schedule)),  # noqa: S301 (our own)
        parse_schedule(str(schedule)),
    ):
        assert other == schedule
        assert hash(other) == hash(schedule)
        assert repr(other) == repr(schedule)
        assert other.period_at(EPOCH) == schedule.period_at(EPOCH)
    assert len({*EACH_KIND, schedule}) == len(EACH_KIND)
    with pytest.raises(FrozenInstanceError):
        setattr(schedule, schedule.__slots__[0], None)  # type: ignore[attr-defined]


def test_cron_differs_by_its_expression_and_by_its_zone() -> None:
    assert len({Cron("@daily"), Cron("@daily", VIENNA), Cron("@hourly"), Cron("0 0 * * *")}) == 3
    assert repr(Cron("@daily")) == "Cron(expression='0 0 * * *', timezone='UTC')"


@pytest.mark.parametrize("schedule", EACH_KIND, ids=str)
def test_an_instant_is_aware_of_its_zone_and_from_1970_to_2200(schedule: Schedule) -> None:
    now = datetime(2026, 7, 1, 12, tzinfo=UTC)
    there = now.astimezone(ZoneInfo("America/Santiago"))
    assert schedule.period_at(there) == schedule.period_at(now)
    assert schedule.period_at(there).due.tzinfo is UTC
    day = (there, there + DAY)
    assert list(schedule.dues(*day)) == list(schedule.dues(now, now + DAY))
    for at in (EPOCH, END - MICROSECOND):
        assert schedule.period_at(at).due <= at < schedule.period_at(at).until
    naive, early, late = now.replace(tzinfo=None), now.replace(year=1968), now.replace(year=2201)
    for wrong, said in ((naive, "aware of its time zone"), (early, "1970"), (late, "2200")):
        for ask, name in (
            (schedule.period_at, "now"),
            (lambda wrong: schedule.dues(wrong, now), "since"),
            (lambda wrong: schedule.dues(now, wrong), "until"),
        ):
            with pytest.raises(ValueError, match=rf"^{name} must be .*{said}.*, got .*\d\d:00"):
                ask(wrong)


@given(plain_schedules, st.timedeltas(timedelta(0), timedelta(days=365)), instants)
def test_staggered_moves_every_due_by_the_same_time(
    schedule: Schedule, by: timedelta, now: datetime
) -> None:
    staggered = Staggered(schedule, by)
    plain = schedule.period_at(now - by)
    assert staggered.period_at(now) == Period(plain.due + by, plain.until + by)


@dataclass(frozen=True)
class AtNoon:
    """Somebody's own schedule."""

    def period_at(self, now: datetime) -> Period:
        due = now - (now - EPOCH - DAY / 2) % DAY
        return Period(due, due + DAY)

    def dues(self, since: datetime, until: datetime) -> Iterator[datetime]:
        while (due := self.period_at(since - MICROSECOND).until) < until:
            yield due
            since = due + MICROSECOND

    def __str__(self) -> str:
        return "at noon"


def test_anybodys_object_is_a_schedule_and_can_be_staggered() -> None:
    staggered = Staggered(AtNoon(), "1m")
    assert str(staggered) == "at noon staggered 1m"
    assert dues(staggered, "2026-01-01", "2026-01-02") == ["2026-01-01 12:01"]


def test_a_schedule_in_order_asks_for_each_due_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes questions in order cheap: nothing is searched within the period last asked for."""
    cron = Cron("0 3 * * *", VIENNA)
    calendar_type = type(cron._calendar)
    asked: list[datetime] = []
    search = calendar_type.dues_from

    def watched(self: object, at: datetime) -> Iterator[datetime]:
        asked.append(at)
        return search(self, at)  # type: ignore[arg-type]

    start = datetime(2026, 1, 1, tzinfo=UTC)
    cron.period_at(start)
    monkeypatch.setattr(calendar_type, "dues_from", watched)
    monkeypatch.setattr(calendar_type, "_last_due", None)
    for minute in range(0, 10 * 24 * 60, 5):
        cron.period_at(start + timedelta(minutes=minute))
    assert len(asked) == 10


def test_without_cronsim_the_module_works_and_cron_names_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    assert parse_schedule("every 5m") == Every("5m")
    with pytest.raises(MissingExtraError, match=r"turnwise\[cron\]"):
        Cron("17 3 1 1 *")


def test_without_zone_data_utc_works_and_other_zones_name_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_zone(name: str) -> None:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    monkeypatch.setattr(zoneinfo, "ZoneInfo", no_zone)
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    assert str(Cron("18 3 1 1 *")) == "cron 18 3 1 1 * UTC"
    with pytest.raises(MissingExtraError, match=r"'Europe/Vienna' .* 'turnwise\[cron\]'"):
        Cron("18 3 1 1 *", VIENNA)


def test_importing_the_module_loads_the_standard_library_alone() -> None:
    source = str(Path(turnwise.__file__).parent.parent)
    code = f"import sys; sys.path.insert(0, {source!r}); import turnwise.schedules; "
    code += "print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) <= {*sys.stdlib_module_names, "turnwise", "__main__"}
