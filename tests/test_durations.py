"""Durations are read exactly, written so that they read back, and garbage is one clear line."""

from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from turnwise.durations import format_duration, parse_duration

MICROSECOND = timedelta(microseconds=1)
PER_UNIT = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000}
PER_UNIT["us"] = 1
units = st.sampled_from(sorted(PER_UNIT))


def digits(most: int) -> st.SearchStrategy[str]:
    """One or more; drawn as a number, which takes half as long as one by one."""
    return st.integers(1, most).flatmap(
        lambda count: st.integers(0, 10**count - 1).map(lambda number: f"{number:0{count}}")
    )


numbers = digits(8) | st.builds("{}.{}".format, digits(8), digits(15))
durations = st.one_of(
    st.timedeltas(min_value=timedelta(0)),
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(seconds=2)),
    st.builds(timedelta, minutes=st.integers(min_value=0, max_value=100_000)),
)


@given(durations)
@example(timedelta.max)
def test_what_is_written_reads_back_as_the_same_duration(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@given(st.timedeltas(max_value=-MICROSECOND))
def test_a_negative_duration_is_written_as_a_minus_and_its_size(duration: timedelta) -> None:
    assert format_duration(duration) == "-" + format_duration(-duration)


@given(st.lists(st.tuples(numbers, units), min_size=1, max_size=6))
@example([("0.5", "us"), ("0.5", "us")])
@example([("1.5", "us")])
@example([("2.5", "us")])
@example([("99999999.123456789012345", "d")])
@example([("20000000.000001500000001", "s")])
def test_the_sum_of_the_parts_is_exact_before_it_is_rounded_once(
    parts: list[tuple[str, str]],
) -> None:
    with localcontext(prec=100):
        exact = sum((Decimal(number) * PER_UNIT[unit] for number, unit in parts), Decimal(0))
        nearest = int(exact.to_integral_value(ROUND_HALF_EVEN))
    text = "".join(number + unit for number, unit in parts)
    assert parse_duration(text) // MICROSECOND == nearest


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("250ms", timedelta(milliseconds=250)),
        ("1.5s", timedelta(seconds=1, milliseconds=500)),
        ("0", timedelta(0)),
        ("2d", timedelta(days=2)),
        ("7us", timedelta(microseconds=7)),
        (" 5m\n", timedelta(minutes=5)),
        ("1s1s", timedelta(seconds=2)),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(microseconds=7), "7us"),
        (timedelta(microseconds=999), "999us"),
        (timedelta(milliseconds=1), "1ms"),
        (timedelta(microseconds=1500), "1.5ms"),
        (timedelta(milliseconds=250), "250ms"),
        (timedelta(microseconds=999_999), "999.999ms"),
        (timedelta(seconds=1), "1s"),
        (timedelta(seconds=1.5), "1.5s"),
        (timedelta(seconds=1, microseconds=50), "1.00005s"),
        (timedelta(seconds=60), "1m"),
        (timedelta(minutes=5), "5m"),
        (timedelta(hours=1, minutes=30), "1h30m"),
        (timedelta(days=2, seconds=3), "2d3s"),
        (timedelta(seconds=-90), "-1m30s"),
    ],
)
def test_durations_are_written_as_people_read_them(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


nearly = st.text(alphabet="0123456789.+-_ dhmsu\n٣µ", max_size=12)


@given(st.one_of(st.text(), nearly))
@example("")
@example("5")
@example("m")
@example("-5m")
@example("1e3s")
@example("5 m")
@example("1.s")
@example(".5s")
@example("٣s")
@example("5M")
@example("5m\x0030s")
@example("9" * 5000 + "s")
@example("999999999999999d")
def test_garbage_is_a_value_error_of_one_line_that_shows_it(text: str) -> None:
    try:
        duration = parse_duration(text)
    except ValueError as refused:
        lines, kind = str(refused).splitlines(), type(refused)
    else:
        assert duration >= timedelta(0)
        return
    assert len(lines) == 1
    assert repr(text) in lines[0]
    assert kind is ValueError


@pytest.mark.parametrize("text", ["", "5", "-5m", "1.s", ".5s", "1e3s", "5 m", "5min", "nan", "s5"])
def test_what_is_no_duration_is_refused_with_examples_of_one(text: str) -> None:
    with pytest.raises(ValueError, match="30s, 5m, 1h30m or 250ms"):
        parse_duration(text)


def test_the_longest_duration_is_read_and_a_longer_one_is_refused_with_the_limit() -> None:
    assert parse_duration("999999999d23h59m59.999999s") == timedelta.max
    with pytest.raises(ValueError, match="too long: at most 999999999 days") as refused:
        parse_duration("999999999d24h")
    assert refused.value.__suppress_context__
