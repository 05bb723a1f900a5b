"""Settings: each knob's range, the relations between them, and how they are stored."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies import MICROSECOND, between
from turnwise.schedules import Cron, Every, Period, Schedule, Staggered, parse_schedule
from turnwise.settings import Runs, Settings

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
LONGEST = timedelta(days=3653)
DEFAULT = Settings()
NIGHTLY = Cron("0 3 * * *", "Europe/Vienna")

schedules: st.SearchStrategy[Schedule] = st.one_of(
    st.builds(Every, between(6 * MICROSECOND, LONGEST)),
    st.sampled_from([Every("1d", "3h"), Staggered(Every("5m"), "12s"), NIGHTLY]),
)


@st.composite
def settings(draw: st.DrawFn) -> Settings:
    """Any settings: each knob has the room that those before it leave."""
    schedule = draw(schedules)
    runs: Runs = draw(
        st.sampled_from(["once", "every_slot"] if type(schedule) is Every else ["once"])
    )
    standbys = draw(st.integers(0, 5))
    cycle = draw(st.just(5 * MINUTE) | between(6 * MICROSECOND, LONGEST))
    bare = Settings(schedule=schedule, cycle=cycle, runs=runs, standbys=0)
    shortest = bare.shortest_cycle
    if shortest < 6 * MICROSECOND:
        standbys = 0
    slot = shortest // (1 + standbys if runs == "once" else 1)
    spread_margin = draw(between(timedelta(0), slot - MICROSECOND))
    stagger: timedelta | Literal["auto"] = timedelta(0)
    if not isinstance(schedule, Staggered):
        stagger = draw(between(timedelta(0), timedelta(days=365)))
    if type(schedule) is Every and draw(st.booleans()):
        stagger = "auto"
    return replace(
        bare,
        start_within=draw(st.none() | between(MICROSECOND, LONGEST)),
        attempts=draw(st.integers(1, 10**6)),
        timeout=draw(st.none() | between(MICROSECOND, LONGEST)),
        release_on_timeout=draw(st.booleans()),
        stagger=stagger,
        standbys=standbys,
        spread_margin=spread_margin,
        heartbeat_timeout=draw(between(MICROSECOND, shortest)),
        max_start_slot_fraction=draw(st.just(1) | st.floats(0, 1, exclude_min=True)),
        membership_stabilization=draw(between(timedelta(0), LONGEST)),
        min_run_margin=draw(between(timedelta(0), slot - spread_margin - MICROSECOND)),
        retention_age=draw(between(MICROSECOND, 100 * LONGEST)),
        retention_count=draw(st.integers(1, 10**9)),
    )


# Each knob ----------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_documentation() -> None:
    assert (
        Settings(
            schedule=Every(timedelta(minutes=5)),
            cycle=timedelta(minutes=5),
            start_within=None,
            attempts=3,
            timeout=None,
            release_on_timeout=False,
            stagger=timedelta(0),
            runs="once",
            standbys=2,
            spread_margin=20 * SECOND,
            heartbeat_timeout=60 * SECOND,
            max_start_slot_fraction=0.5,
            membership_stabilization=timedelta(0),
            min_run_margin=timedelta(milliseconds=50),
            retention_age=timedelta(days=30),
            retention_count=100_000,
        )
        == DEFAULT
    )


PAST_LONGEST = LONGEST + MICROSECOND


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("cycle", timedelta(0), "must be positive and at most 3653d, got 0s"),
        ("cycle", PAST_LONGEST, "must be positive and at most 3653d, got 3653d0.000001s"),
        ("start_within", timedelta(0), "must be positive and at most 3653d, or None, got 0s"),
        ("start_within", PAST_LONGEST, "must be positive and at most 3653d, or None, got "),
        ("timeout", -MICROSECOND, "must be positive and at most 3653d, or None, got -1us"),
        ("timeout", PAST_LONGEST, "must be positive and at most 3653d, or None, got "),
        ("attempts", 0, "must be 1 to 1,000,000, got 0"),
        ("attempts", 10**6 + 1, "must be 1 to 1,000,000, got 1000001"),
        ("stagger", -MICROSECOND, "must be 'auto', or 0 or more and at most 365d, got -1us"),
        ("stagger", timedelta(days=366), "must be 'auto', or 0 or more and at most 365d, got 366d"),
        ("stagger", "yes", "must be 'auto', or 0 or more and at most 365d, got 'yes'"),
        ("heartbeat_timeout", timedelta(0), "must be positive, got 0s"),
        ("heartbeat_timeout", -SECOND, "must be positive, got -1s"),
        ("spread_margin", -MICROSECOND, "must be 0 or more, got -1us"),
        ("min_run_margin", -MICROSECOND, "must be 0 or more, got -1us"),
        ("membership_stabilization", -MICROSECOND, "must be 0 or more and at most 3653d, got -1us"),
        ("membership_stabilization", PAST_LONGEST, "must be 0 or more and at most 3653d, got "),
        ("retention_age", timedelta(0), "must be positive and at most 365300d, got 0s"),
        (
            "retention_age",
            100 * LONGEST + MICROSECOND,
            "must be positive and at most 365300d, got 365300d0.000001s",
        ),
        ("max_start_slot_fraction", 0.0, "must be over 0 and at most 1, got 0.0"),
        ("max_start_slot_fraction", 1.0000001, "must be over 0 and at most 1, got 1.0000001"),
        ("max_start_slot_fraction", float("nan"), "must be over 0 and at most 1, got nan"),
        ("max_start_slot_fraction", 10**400, "must be over 0 and at most 1, got 1000"),
        ("runs", "twice", "must be 'once' or 'every_slot', got 'twice'"),
        ("standbys", -1, "must be 0 to 1,000,000, got -1"),
        ("standbys", 10**6 + 1, "must be 0 to 1,000,000, got 1000001"),
        ("retention_count", 0, "must be 1 to 1,000,000,000, got 0"),
        ("retention_count", 10**9 + 1, "must be 1 to 1,000,000,000, got 1000000001"),
    ],
)
def test_a_knob_out_of_its_range_is_refused_with_its_name_its_value_and_what_is_allowed(
    name: str, value: object, said: str
) -> None:
    assert refusal(**{name: value}).startswith(f"{name} {said}")


@pytest.mark.parametrize(
    "knobs",
    [
        {"schedule": Every(LONGEST), "cycle": LONGEST, "heartbeat_timeout": LONGEST},
        {"retention_age": MICROSECOND, "retention_count": 1},
        {"retention_count": 10**9},
        {"retention_age": 100 * LONGEST},
        {"membership_stabilization": LONGEST},
        {"start_within": MICROSECOND, "timeout": MICROSECOND, "attempts": 1},
        {"start_within": LONGEST, "timeout": LONGEST, "attempts": 10**6},
        {"stagger": timedelta(days=365)},
        {"stagger": "auto"},
        {"max_start_slot_fraction": 5e-324},
        {"max_start_slot_fraction": 1},
        {"spread_margin": timedelta(0), "min_run_margin": timedelta(0), "standbys": 0},
        {"spread_margin": timedelta(0), "min_run_margin": timedelta(0), "standbys": 10**6},
        {"cycle": MICROSECOND, "standbys": 0},
    ],
)
def test_the_ends_of_the_ranges_are_allowed(knobs: dict[str, object]) -> None:
    # The values have the types of their fields.
    made = Settings(**knobs)  # type: ignore[arg-type]
    assert {name: getattr(made, name) for name in knobs} == knobs


MAY_BE_NONE = {"start_within", "timeout", "spread_margin", "heartbeat_timeout", "min_run_margin"}


@pytest.mark.parametrize("field", [field.name for field in fields(Settings)])
@pytest.mark.parametrize("value", [None, "5m", object(), True, 1.5, 2])
def test_a_value_of_another_type_is_refused_by_name(field: str, value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    allowed = {
        "max_start_slot_fraction": number,
        "release_on_timeout": isinstance(value, bool),
        **dict.fromkeys(MAY_BE_NONE, value is None),
        # A text may be right for these, and is checked by its value.
        **dict.fromkeys(("runs", "stagger", "schedule"), isinstance(value, str)),
    }
    if type(value) is type(getattr(DEFAULT, field)) or allowed.get(field):
        return
    with pytest.raises(TypeError, match=rf"^{field} must be .*, got {re.escape(repr(value))}$"):
        # That it is of another type is the point.
        Settings(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("schedule", 5, "a schedule such as Every('5m'), or its text, got 5"),
        ("cycle", 5, "a timedelta, got 5"),
        ("attempts", 1.0, "a whole number, got 1.0"),
        ("release_on_timeout", 1, "True or False, got 1"),
        ("stagger", 5, "a timedelta or 'auto', got 5"),
        ("runs", 5, "'once' or 'every_slot', got 5"),
        ("max_start_slot_fraction", True, "a number, got True"),
        ("retention_age", None, "a timedelta, got None"),
    ],
)
def test_who_gives_another_type_is_told_which_is_right(name: str, value: object, said: str) -> None:
    with pytest.raises(TypeError) as caught:
        Settings(**{name: value})  # type: ignore[arg-type]
    assert str(caught.value) == f"{name} must be {said}"


# The schedule -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["every 7m", "every 1d offset 3h", "cron 0 3 * * * Europe/Vienna", "every 5m staggered 9s"],
)
def test_a_schedule_may_be_given_as_its_text(text: str) -> None:
    # It is taken as text as well.
    made = Settings(schedule=text)  # type: ignore[arg-type]
    assert made.schedule == parse_schedule(text)
    assert made == Settings(schedule=parse_schedule(text))


def test_a_text_that_is_no_schedule_is_refused() -> None:
    assert "'at three' is no schedule" in refusal(schedule="at three")


@dataclass(frozen=True)
class Monthly:
    """Somebody's own schedule, of months of 30 days."""

    def period_at(self, now: datetime) -> Period:
        return Every("30d").period_at(now)

    def dues(self, since: datetime, until: datetime) -> Iterator[datetime]:
        return Every("30d").dues(since, until)

    def __str__(self) -> str:
        return "monthly"


def test_anybodys_schedule_will_do() -> None:
    made = Settings(schedule=Monthly(), cycle=timedelta(days=1))
    assert made.shortest_cycle == timedelta(days=1)
    assert json.loads(made.to_json())["schedule"] == "monthly"


@dataclass(frozen=True)
class OneShort:
    """Hours from the start of 2026, one of which is of 48 minutes."""

    place: int

    def edge(self, number: int) -> datetime:
        short = 12 if number > self.place else 0
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number, minutes=-short)

    def period_at(self, now: datetime) -> Period:
        assert now == self.edge(0)
        return Period(self.edge(0), self.edge(1))

    def dues(self, since: datetime, until: datetime) -> Iterator[datetime]:
        edges = (self.edge(number) for number in range(100_000))
        return (edge for edge in edges if since <= edge < until)


@pytest.mark.parametrize(
    ("place", "shortest"), [(0, 48), (1, 48), (2, 48), (31, 48), (32, 60), (50, 60)]
)
def test_the_first_32_periods_are_looked_at(place: int, shortest: int) -> None:
    made = Settings(schedule=OneShort(place), cycle=timedelta(days=1))
    assert made.shortest_cycle == shortest * MINUTE


@dataclass(frozen=True)
class NoDues:
    def period_at(self, now: datetime) -> Period:
        raise NotImplementedError


def test_an_object_that_has_no_dues_is_no_schedule() -> None:
    with pytest.raises(TypeError, match=r"^schedule must be a schedule such as Every\('5m'\), or "):
        Settings(schedule=NoDues())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("schedule", "cycle", "shortest"),
    [
        (Every("5m"), 5 * MINUTE, 5 * MINUTE),
        (Every("1d"), 5 * MINUTE, 5 * MINUTE),
        (Every("7m"), 5 * MINUTE, 3.5 * MINUTE),
        (Every(10 * MICROSECOND), 4 * MICROSECOND, 3 * MICROSECOND),
        (Every(timedelta(seconds=1)), 5 * MINUTE, SECOND),
        (NIGHTLY, 5 * MINUTE, 5 * MINUTE),
        (NIGHTLY, 2 * LONGEST / 2, timedelta(days=1)),
        (Cron("*/7 * * * *"), 5 * MINUTE, 3.5 * MINUTE),  # the hour's last is of 4 minutes
        (Cron("*/35 * * * *"), 60 * MINUTE, 25 * MINUTE),
        (Cron("0 0 29 2 *"), LONGEST, timedelta(days=1461)),
        (Staggered(Every("7m"), "1s"), 5 * MINUTE, 3.5 * MINUTE),
    ],
)
def test_the_shortest_cycle_is_that_of_the_shortest_period(
    schedule: Schedule, cycle: timedelta, shortest: timedelta
) -> None:
    assert Settings(schedule=schedule, cycle=cycle).shortest_cycle == shortest


def test_with_every_slot_a_period_is_one_cycle_however_long() -> None:
    assert Settings(schedule=Every("1d"), runs="every_slot").shortest_cycle == timedelta(days=1)
    assert Settings(schedule=Every("1m"), runs="every_slot").shortest_cycle == MINUTE


def test_a_service_is_staggered_by_its_hash_within_what_is_asked_for() -> None:
    assert DEFAULT.schedule_of(12345) is DEFAULT.schedule
    made = Settings(stagger=10 * MICROSECOND)
    assert made.schedule_of(12345) == Staggered(Every("5m"), 5 * MICROSECOND)
    auto = Settings(schedule=Every("5m"), stagger="auto")
    assert auto.schedule_of(30 * 10**6 + 7) == Staggered(Every("5m"), 7 * MICROSECOND)
    tiny = Settings(schedule=Every(4 * MICROSECOND), stagger="auto", standbys=0)
    assert tiny.schedule_of(1) == tiny.schedule, "a tenth of it is nothing"


@given(settings(), st.integers(0, 2**32 - 1))
def test_whatever_is_accepted_can_be_staggered(made: Settings, service_hash: int) -> None:
    schedule = made.schedule_of(service_hash)
    now = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
    period = schedule.period_at(now)
    assert period.due <= now < period.until


# Relations ----------------------------------------------------------------------------------


def refusal(**knobs: object) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (what it says is looked at)
        # The values have the types of their fields.
        Settings(**knobs)  # type: ignore[arg-type]
    return str(caught.value)


def test_every_slot_and_an_automatic_stagger_go_with_every_alone() -> None:
    for schedule, text in (
        (NIGHTLY, str(NIGHTLY)),
        (Staggered(Every("5m"), "1s"), "every 5m stag"),
    ):
        said = refusal(runs="every_slot", schedule=schedule)
        assert said.startswith("runs ('every_slot') goes with a schedule of the form 'every ...'")
        assert text in said
        said = refusal(stagger="auto", schedule=schedule)
        assert said.startswith("stagger ('auto') goes with a schedule of the form 'every ...'")
        assert said.endswith(": give a duration")
        assert text in said


def test_a_schedule_that_is_staggered_itself_is_not_staggered_once_more() -> None:
    assert refusal(stagger=SECOND, schedule=Staggered(Every("5m"), "9s")) == (
        "stagger (1s) must be 0s where the schedule is staggered itself, and it is "
        "'every 5m staggered 9s'"
    )


def test_a_heartbeat_timeout_beyond_the_shortest_cycle_is_refused_with_both_values() -> None:
    said = refusal(heartbeat_timeout=5 * MINUTE + MICROSECOND)
    assert said == (
        "heartbeat_timeout (5m0.000001s) must be at most the shortest cycle (5m): a runner killed "
        "in the middle of a turn would block whole cycles"
    )
    assert Settings(heartbeat_timeout=5 * MINUTE).heartbeat_timeout == 5 * MINUTE
    assert "the shortest cycle (3m30s)" in refusal(
        heartbeat_timeout=5 * MINUTE, schedule=Every("7m")
    )


def test_a_margin_as_wide_as_a_slot_is_refused_with_both_values() -> None:
    assert refusal(spread_margin=100 * SECOND) == (
        "spread_margin (1m40s) must be shorter than a slot, which is 1m40s: the shortest cycle "
        "(5m) shared by 1 + standbys (2)"
    )
    assert refusal(spread_margin=300 * SECOND, standbys=0) == (
        "spread_margin (5m) must be shorter than the shortest cycle (5m)"
    )
    assert refusal(spread_margin=300 * SECOND, runs="every_slot") == (
        "spread_margin (5m) must be shorter than the shortest cycle (5m)"
    )
    assert Settings(spread_margin=99 * SECOND).spread_margin == 99 * SECOND


def test_the_shortest_slot_counts_where_they_differ_by_a_microsecond() -> None:
    said = refusal(
        cycle=200 * MICROSECOND, min_run_margin=timedelta(0), spread_margin=66 * MICROSECOND
    )
    assert said.startswith("spread_margin (66us) must be shorter than a slot, which is 66us: ")


def test_with_one_standby_a_slot_is_half_of_the_cycle() -> None:
    assert refusal(spread_margin=150 * SECOND, standbys=1) == (
        "spread_margin (2m30s) must be shorter than a slot, which is 2m30s: the shortest cycle "
        "(5m) shared by 1 + standbys (1)"
    )


def test_a_run_margin_that_leaves_nothing_of_a_slot_is_refused_with_all_values() -> None:
    assert refusal(min_run_margin=80 * SECOND) == (
        "min_run_margin (1m20s) must be shorter than a slot, which is 1m40s: the shortest cycle "
        "(5m) shared by 1 + standbys (2), less the spread_margin (20s)"
    )
    assert Settings(min_run_margin=80 * SECOND - MICROSECOND).standbys == 2


@given(settings())
def test_whatever_is_accepted_leaves_somebody_a_window_with_one_runner_at_least(
    made: Settings,
) -> None:
    assert made.heartbeat_timeout <= made.shortest_cycle <= max(made.cycle, _interval(made))
    shortest = made.shortest_cycle // (made.slots(10**9) if made.runs == "once" else 1)
    assert shortest - made.spread_margin > made.min_run_margin


def _interval(made: Settings) -> timedelta:
    whole = made.runs == "every_slot" and isinstance(made.schedule, Every)
    return made.schedule.interval if whole and isinstance(made.schedule, Every) else timedelta(0)


# What follows from them ---------------------------------------------------------------------


def test_a_primary_and_its_standbys_have_a_slot_or_everybody() -> None:
    assert [DEFAULT.slots(runners) for runners in (1, 2, 3, 4, 100)] == [1, 2, 3, 3, 3]
    assert replace(DEFAULT, runs="every_slot").slots(100) == 100


@given(settings(), st.integers(1, 10**6))
def test_a_cycle_has_a_slot_for_each_that_may_start(made: Settings, runners: int) -> None:
    if made.runs == "every_slot":
        assert made.slots(runners) == runners
    else:
        assert made.slots(runners) == min(runners, 1 + made.standbys)


@given(settings())
def test_heartbeats_are_sent_three_times_in_a_timeout_and_always_some_time_apart(
    made: Settings,
) -> None:
    assert made.heartbeat_interval > timedelta(0)
    assert 3 * made.heartbeat_interval <= made.heartbeat_timeout + 3 * MICROSECOND
    assert 3 * made.heartbeat_interval >= made.heartbeat_timeout - 3 * MICROSECOND


@given(between(timedelta(microseconds=100), LONGEST), st.integers(0, 5))
def test_defaults_scale_with_the_shortest_cycle(interval: timedelta, standbys: int) -> None:
    made = Settings(schedule=Every(interval), standbys=standbys)
    shortest = made.shortest_cycle
    assert made.spread_margin == min(20 * SECOND, shortest / 15)
    assert made.heartbeat_timeout == min(60 * SECOND, shortest / 5)
    assert made.min_run_margin == min(timedelta(milliseconds=50), shortest / 100)


def test_the_defaults_of_a_second_are_those_of_the_documentation() -> None:
    made = Settings(schedule=Every(SECOND))
    assert made.min_run_margin == timedelta(milliseconds=10)
    assert made.heartbeat_timeout == timedelta(milliseconds=200)
    assert made.spread_margin == timedelta(microseconds=66_667)


def test_the_defaults_of_long_cycles_are_those_of_five_minutes() -> None:
    made = Settings(schedule=Every("1d"), cycle=timedelta(hours=8))
    assert (made.spread_margin, made.heartbeat_timeout) == (20 * SECOND, 60 * SECOND)
    assert made.min_run_margin == timedelta(milliseconds=50)


def test_a_knob_that_is_given_wins_over_what_is_scaled() -> None:
    made = Settings(
        schedule=Every("30s"),
        spread_margin=SECOND,
        heartbeat_timeout=3 * SECOND,
        min_run_margin=timedelta(0),
    )
    assert (made.spread_margin, made.heartbeat_timeout) == (SECOND, 3 * SECOND)
    assert made.min_run_margin == timedelta(0)


# As text ------------------------------------------------------------------------------------


@given(settings())
def test_settings_are_read_back_as_they_were_written(made: Settings) -> None:
    again = Settings.from_json(made.to_json())
    assert again == made
    assert again.to_json() == made.to_json()


def test_settings_are_written_with_durations_that_a_person_can_read() -> None:
    assert json.loads(Settings(schedule=NIGHTLY, timeout=SECOND).to_json()) == {
        "schedule": "cron 0 3 * * * Europe/Vienna",
        "cycle": "5m",
        "start_within": None,
        "attempts": 3,
        "timeout": "1s",
        "release_on_timeout": False,
        "stagger": "0s",
        "runs": "once",
        "standbys": 2,
        "spread_margin": "20s",
        "heartbeat_timeout": "1m",
        "max_start_slot_fraction": 0.5,
        "membership_stabilization": "0s",
        "min_run_margin": "50ms",
        "retention_age": "30d",
        "retention_count": 100000,
    }


def test_equal_settings_have_one_text() -> None:
    whole = Settings(max_start_slot_fraction=1)
    assert whole == Settings(max_start_slot_fraction=1.0)
    assert whole.to_json() == Settings(max_start_slot_fraction=1.0).to_json()


def test_what_is_left_out_has_its_default() -> None:
    assert Settings.from_json("{}") == DEFAULT
    assert Settings.from_json('{"standbys": 1}') == replace(DEFAULT, standbys=1)
    assert Settings.from_json('{"stagger": "auto"}') == replace(DEFAULT, stagger="auto")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no settings in '': "),
        ("{", "no settings in '{': "),
        ("[" * 100_000, "no settings in "),
        ("[]", "no settings in '[]': no JSON object"),
        ("null", "no settings in 'null': no JSON object"),
        ('{"b": 1, "a": 2}', "unknown are 'a', 'b'"),
        ('{"cycle": 5}', "cycle must be a duration such as '5m', got 5"),
        ('{"cycle": "five"}', "cycle: "),
        ('{"cycle": null}', "cycle must be a timedelta, got None"),
        ('{"schedule": null}', "schedule must be a schedule such as Every('5m'), or its text"),
        ('{"schedule": "at three"}', "'at three' is no schedule"),
        ('{"stagger": "sometimes"}', "stagger: "),
        ('{"standbys": "two"}', "standbys must be a whole number, got 'two'"),
        ('{"standbys": -1}', "standbys must be 0 to 1,000,000, got -1"),
        ('{"max_start_slot_fraction": null}', "max_start_slot_fraction must be a number, got None"),
        ('{"max_start_slot_fraction": NaN}', "max_start_slot_fraction must be over 0"),
        ('{"release_on_timeout": 1}', "release_on_timeout must be True or False, got 1"),
        ('{"runs": "every_slot", "schedule": "cron 0 3 * * *"}', "runs ('every_slot') goes with"),
    ],
)
def test_a_text_that_holds_no_settings_is_refused_and_says_where(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Settings.from_json(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)
durations = st.sampled_from(["5m", "1us", "0s", "-1s", "9999999d", "auto", "1s", "1d"])


@given(
    st.dictionaries(
        st.sampled_from([field.name for field in fields(Settings)]),
        json_values | durations | st.sampled_from(["every 1us", "every 1d offset 2h", "once"]),
    )
)
def test_a_hostile_text_gives_settings_or_a_value_error(stored: object) -> None:
    made = None
    with suppress(ValueError):  # and nothing else
        made = Settings.from_json(json.dumps(stored))
    assert made is None or Settings.from_json(made.to_json()) == made


def test_differences_name_the_knob_mine_and_theirs() -> None:
    other = replace(DEFAULT, standbys=1, schedule=Every("6m"), runs="every_slot", timeout=SECOND)
    assert DEFAULT.differences(other) == (
        "schedule: 'every 5m', not 'every 6m'",
        "timeout: None, not 1s",
        "runs: 'once', not 'every_slot'",
        "standbys: 2, not 1",
    )
    assert DEFAULT.differences(Settings()) == ()


@given(settings(), settings())
def test_settings_without_differences_are_the_same(one: Settings, other: Settings) -> None:
    assert (one.differences(other) == ()) == (one == other)
    assert len(one.differences(other)) == len(other.differences(one))
