"""Settings: each knob's range, the relations between them, and how they are stored."""

import json
import re
from dataclasses import fields, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies import MICROSECOND, between
from turnwise import Settings
from turnwise.old_settings import RunsPerCycle

SECOND = timedelta(seconds=1)
LONGEST = timedelta(days=3653)
DEFAULT = Settings()

durations = between(timedelta(0), timedelta(days=4000))


@st.composite
def settings(draw: st.DrawFn) -> Settings:
    """Any settings: each knob has the room that those before it leave."""
    runs_per_cycle: RunsPerCycle = draw(st.sampled_from(["once", "every_slot"]))
    standbys = draw(st.integers(0, 5))
    shares = 1 + standbys if runs_per_cycle == "once" else 1
    interval = draw(between(shares * MICROSECOND, LONGEST))
    slot = interval // shares
    spread_margin = draw(between(timedelta(0), slot - MICROSECOND))
    return Settings(
        interval=interval,
        spread_margin=spread_margin,
        heartbeat_timeout=draw(between(MICROSECOND, interval)),
        max_start_slot_fraction=draw(st.floats(0, 1, exclude_min=True)),
        membership_stabilization=draw(between(timedelta(0), LONGEST)),
        min_run_margin=draw(between(timedelta(0), slot - spread_margin - MICROSECOND)),
        runs_per_cycle=runs_per_cycle,
        standbys=standbys,
        retry_failed=draw(st.booleans()),
        retention_age=draw(between(MICROSECOND, 100 * LONGEST)),
        retention_count=draw(st.integers(1, 10**9)),
    )


# Each knob ----------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_documentation() -> None:
    assert (
        Settings(
            interval=timedelta(minutes=5),
            spread_margin=20 * SECOND,
            heartbeat_timeout=60 * SECOND,
            max_start_slot_fraction=0.5,
            membership_stabilization=timedelta(0),
            min_run_margin=timedelta(milliseconds=50),
            runs_per_cycle="once",
            standbys=2,
            retry_failed=True,
            retention_age=timedelta(hours=1),
            retention_count=1000,
        )
        == DEFAULT
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("interval", timedelta(0), "must be positive and at most 3653d, got 0s"),
        ("interval", -MICROSECOND, "must be positive and at most 3653d, got -1us"),
        (
            "interval",
            LONGEST + MICROSECOND,
            "must be positive and at most 3653d, got 3653d0.000001s",
        ),
        ("heartbeat_timeout", timedelta(0), "must be positive, got 0s"),
        ("heartbeat_timeout", -SECOND, "must be positive, got -1s"),
        ("spread_margin", -MICROSECOND, "must be 0 or more, got -1us"),
        ("min_run_margin", -MICROSECOND, "must be 0 or more, got -1us"),
        ("membership_stabilization", -MICROSECOND, "must be 0 or more and at most 3653d, got -1us"),
        (
            "membership_stabilization",
            LONGEST + MICROSECOND,
            "must be 0 or more and at most 3653d, got 3653d0.000001s",
        ),
        ("retention_age", timedelta(0), "must be positive and at most 365300d, got 0s"),
        (
            "retention_age",
            100 * LONGEST + MICROSECOND,
            "must be positive and at most 365300d, got 365300d0.000001s",
        ),
        ("max_start_slot_fraction", 0.0, "must be over 0 and at most 1, got 0.0"),
        ("max_start_slot_fraction", 1.0000001, "must be over 0 and at most 1, got 1.0000001"),
        ("max_start_slot_fraction", float("nan"), "must be over 0 and at most 1, got nan"),
        ("runs_per_cycle", "twice", "must be 'once' or 'every_slot', got 'twice'"),
        ("standbys", -1, "must be 0 or more, got -1"),
        ("retention_count", 0, "must be 1 to 1,000,000,000, got 0"),
        ("retention_count", 10**9 + 1, "must be 1 to 1,000,000,000, got 1000000001"),
    ],
)
def test_a_knob_out_of_its_range_is_refused_with_its_name_its_value_and_what_is_allowed(
    name: str, value: object, said: str
) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        # The value has the type of its field.
        Settings(**{name: value})  # type: ignore[arg-type]
    assert str(caught.value) == f"{name} {said}"


@pytest.mark.parametrize(
    "knobs",
    [
        {"interval": LONGEST, "heartbeat_timeout": LONGEST},
        {"retention_age": MICROSECOND, "retention_count": 1},
        {"retention_count": 10**9},
        {"retention_age": 100 * LONGEST},
        {"membership_stabilization": LONGEST},
        {"max_start_slot_fraction": 5e-324},
        {"max_start_slot_fraction": 1},
        {"spread_margin": timedelta(0), "min_run_margin": timedelta(0), "standbys": 0},
        {
            "interval": MICROSECOND,
            "heartbeat_timeout": MICROSECOND,
            "spread_margin": timedelta(0),
            "min_run_margin": timedelta(0),
            "standbys": 0,
        },
    ],
)
def test_the_ends_of_the_ranges_are_allowed(knobs: dict[str, object]) -> None:
    # The values have the types of their fields.
    made = Settings(**knobs)  # type: ignore[arg-type]
    assert {name: getattr(made, name) for name in knobs} == knobs


@pytest.mark.parametrize("field", [field.name for field in fields(Settings)])
@pytest.mark.parametrize("value", [None, "5m", object(), True, 1.5, 2])
def test_a_value_of_another_type_is_refused_by_name(field: str, value: object) -> None:
    default = getattr(DEFAULT, field)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if type(value) is type(default) or (field == "max_start_slot_fraction" and number):
        return
    if field == "runs_per_cycle":  # which is checked by its value
        return
    with pytest.raises(TypeError, match=f"^{field} must be .*, got {re.escape(repr(value))}$"):
        # That it is of another type is the point.
        Settings(**{field: value})  # type: ignore[arg-type]


# Relations ----------------------------------------------------------------------------------


def refusal(**knobs: object) -> str:
    with pytest.raises(ValueError, match="must be") as caught:
        # The values have the types of their fields.
        Settings(**knobs)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_heartbeat_timeout_beyond_the_interval_is_refused_with_both_values() -> None:
    minute = 60 * SECOND
    said = refusal(heartbeat_timeout=5 * minute + MICROSECOND)
    assert said.startswith("heartbeat_timeout (5m0.000001s) must be at most the interval (5m): ")
    assert Settings(heartbeat_timeout=5 * minute).heartbeat_timeout == 5 * minute


def test_a_margin_as_wide_as_a_slot_is_refused_with_both_values() -> None:
    assert refusal(spread_margin=100 * SECOND) == (
        "spread_margin (1m40s) must be shorter than a slot, which is 1m40s: the interval (5m) "
        "shared by 1 + standbys (2)"
    )
    assert refusal(spread_margin=300 * SECOND, standbys=0) == (
        "spread_margin (5m) must be shorter than the interval (5m)"
    )
    assert refusal(spread_margin=300 * SECOND, runs_per_cycle="every_slot") == (
        "spread_margin (5m) must be shorter than the interval (5m)"
    )
    assert Settings(spread_margin=99 * SECOND).spread_margin == 99 * SECOND


def test_the_shortest_slot_counts_where_they_differ_by_a_microsecond() -> None:
    small = 200 * MICROSECOND
    said = refusal(
        interval=small,
        heartbeat_timeout=small,
        min_run_margin=timedelta(0),
        spread_margin=66 * MICROSECOND,
    )
    assert said.startswith("spread_margin (66us) must be shorter than a slot, which is 66us: ")


def test_with_one_standby_a_slot_is_half_of_the_interval() -> None:
    assert refusal(spread_margin=150 * SECOND, standbys=1) == (
        "spread_margin (2m30s) must be shorter than a slot, which is 2m30s: the interval (5m) "
        "shared by 1 + standbys (1)"
    )


def test_a_run_margin_that_leaves_nothing_of_a_slot_is_refused_with_all_values() -> None:
    assert refusal(min_run_margin=80 * SECOND) == (
        "min_run_margin (1m20s) must be shorter than a slot, which is 1m40s: the interval (5m) "
        "shared by 1 + standbys (2), less the spread_margin (20s)"
    )
    assert Settings(min_run_margin=80 * SECOND - MICROSECOND).standbys == 2


@given(settings())
def test_whatever_is_accepted_leaves_somebody_a_window_with_one_runner_at_least(
    made: Settings,
) -> None:
    assert made.heartbeat_timeout <= made.interval
    shortest = made.interval // (made.slots(10**9) if made.runs_per_cycle == "once" else 1)
    assert shortest - made.spread_margin > made.min_run_margin


# What follows from them ---------------------------------------------------------------------


@given(settings(), st.integers(1, 10**6))
def test_a_cycle_has_a_slot_for_each_that_may_start(made: Settings, runners: int) -> None:
    if made.runs_per_cycle == "every_slot":
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
def test_defaults_can_be_scaled_to_any_interval(interval: timedelta, standbys: int) -> None:
    made = Settings.for_interval(interval, standbys=standbys)
    assert made.interval == interval
    assert made.standbys == standbys
    assert made.spread_margin == min(20 * SECOND, interval / 15)
    assert made.heartbeat_timeout == min(60 * SECOND, interval / 5)
    assert made.min_run_margin == min(timedelta(milliseconds=50), interval / 100)
    assert made.retention_age == max(timedelta(hours=1), interval * 12)


def test_the_defaults_of_a_second_are_those_of_the_documentation() -> None:
    made = Settings.for_interval(SECOND)
    assert made.min_run_margin == timedelta(milliseconds=10)
    assert made.heartbeat_timeout == timedelta(milliseconds=200)
    assert made.spread_margin == timedelta(microseconds=66_667)


def test_scaling_changes_no_default_where_the_interval_is_the_default() -> None:
    assert Settings.for_interval(DEFAULT.interval) == DEFAULT


def test_a_change_wins_over_what_is_scaled() -> None:
    made = Settings.for_interval(30 * SECOND, spread_margin=SECOND, heartbeat_timeout=3 * SECOND)
    assert (made.spread_margin, made.heartbeat_timeout) == (SECOND, 3 * SECOND)


@pytest.mark.parametrize("interval", [timedelta(0), -SECOND, LONGEST + MICROSECOND])
def test_scaling_to_no_interval_is_refused_as_the_constructor_does(interval: timedelta) -> None:
    with pytest.raises(ValueError, match=r"^interval must be positive and at most 3653d, got "):
        Settings.for_interval(interval)


def test_scaling_refuses_what_is_no_duration_and_what_is_no_knob() -> None:
    with pytest.raises(TypeError, match=r"^interval must be a timedelta, got 5$"):
        # That it is no timedelta is the point.
        Settings.for_interval(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="knob_of_tomorrow"):
        Settings.for_interval(SECOND, knob_of_tomorrow=1)


# As text ------------------------------------------------------------------------------------


@given(settings())
def test_settings_are_read_back_as_they_were_written(made: Settings) -> None:
    assert Settings.from_json(made.to_json()) == made


def test_settings_are_written_with_durations_that_a_person_can_read() -> None:
    assert json.loads(DEFAULT.to_json()) == {
        "interval": "5m",
        "spread_margin": "20s",
        "heartbeat_timeout": "1m",
        "max_start_slot_fraction": 0.5,
        "membership_stabilization": "0s",
        "min_run_margin": "50ms",
        "runs_per_cycle": "once",
        "standbys": 2,
        "retry_failed": True,
        "retention_age": "1h",
        "retention_count": 1000,
    }


def test_what_is_left_out_has_its_default() -> None:
    assert Settings.from_json("{}") == DEFAULT
    assert Settings.from_json('{"standbys": 1}') == replace(DEFAULT, standbys=1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no settings in '': "),
        ("{", "no settings in '{': "),
        ("[" * 100_000, "no settings in "),
        ("[]", "no settings in '[]': no JSON object"),
        ("null", "no settings in 'null': no JSON object"),
        ('{"b": 1, "a": 2}', "unknown are 'a', 'b'"),
        ('{"interval": 5}', "interval must be a duration such as '5m', got 5"),
        ('{"interval": "five"}', "interval: "),
        ('{"standbys": "two"}', "standbys must be a whole number, got 'two'"),
        ('{"standbys": -1}', "standbys must be 0 or more, got -1"),
        ('{"max_start_slot_fraction": null}', "max_start_slot_fraction must be a number, got None"),
        ('{"retry_failed": 1}', "retry_failed must be True or False, got 1"),
    ],
)
def test_a_text_that_holds_no_settings_is_refused_and_says_where(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Settings.from_json(text)


def test_differences_name_the_knob_mine_and_theirs() -> None:
    other = replace(DEFAULT, standbys=1, interval=timedelta(minutes=6), runs_per_cycle="every_slot")
    assert DEFAULT.differences(other) == (
        "interval: 5m, not 6m",
        "runs_per_cycle: 'once', not 'every_slot'",
        "standbys: 2, not 1",
    )
    assert DEFAULT.differences(Settings()) == ()


@given(settings(), settings())
def test_settings_without_differences_are_the_same(one: Settings, other: Settings) -> None:
    assert (one.differences(other) == ()) == (one == other)
    assert len(one.differences(other)) == len(other.differences(one))


# The review's arguments ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"runners": 0}, "runners must be 1 or more, got 0"),
        ({"runners": 1, "longest_run": -SECOND}, "longest_run must be 0 or more, got -1s"),
        ({"runners": 1, "clock_skew": -MICROSECOND}, "clock_skew must be 0 or more, got -1us"),
    ],
)
def test_a_review_of_nothing_is_refused(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        # The values have the types of the parameters.
        DEFAULT.review(**arguments)  # type: ignore[arg-type]
    assert str(caught.value) == said
