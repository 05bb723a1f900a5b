"""The targets of the fuzzer: a few fixed inputs each day, and each can find what it is for."""

import random
import re
from datetime import timedelta
from typing import NoReturn

import pytest

from fuzz.targets import TARGETS

FIXED = 60
MANY = 5000
LONGEST = 120
each_target = pytest.mark.parametrize("target", TARGETS)


def try_inputs(target: str, count: int) -> None:
    """The same ones each time."""
    chosen = random.Random(target)  # noqa: S311 (no secret)
    for _ in range(count):
        TARGETS[target](chosen.randbytes(chosen.randrange(LONGEST)))


@each_target
def test_no_target_finds_anything_in_a_few_fixed_inputs(target: str) -> None:
    TARGETS[target](b"")
    try_inputs(target, FIXED)


def wrong(*_: object, **__: object) -> NoReturn:
    raise OverflowError("planted")


def one_second_more(duration: timedelta) -> str:
    return f"{duration // timedelta(seconds=1) + 1}s"


def whatever_it_is(_: str, name: str) -> str:
    return name


PLANTED: list[tuple[str, str, object]] = [
    ("decisions", "turnwise.atomic_service._slot_window", wrong),
    ("decisions", "turnwise.atomic_service.AtomicServiceClaim.should_try_start", True),
    ("durations", "fuzz.targets.parse_duration", wrong),
    ("durations", "fuzz.targets.format_duration", one_second_more),
    ("runner-files", "turnwise.cli.runner_file.json.loads", wrong),
    ("runner-files", "turnwise.cli.runner_file.checked_name", whatever_it_is),
    ("records", "turnwise.texts._checked", lambda _, value, __: value),
    ("schedules", "turnwise.schedules.Every.__str__", lambda _: "every 5m"),
    ("settings", "turnwise.settings.Settings._check_ranges", wrong),
    ("settings", "turnwise.settings.Settings.to_json", lambda _: "{}"),
    ("settings-as-text", "turnwise.settings.json.loads", wrong),
    ("settings-as-text", "turnwise.settings.Settings.to_json", lambda _: '{"standbys": 7}'),
    ("urls", "turnwise.storages.sql.SqlStorage.__init__", wrong),
    ("urls", "fuzz.urls.without_password", str),
    ("urls", "turnwise.storages.urls._AUTHORITY", re.compile("(?!)")),
]


@pytest.mark.parametrize(("target", "what", "instead"), PLANTED)
def test_a_planted_defect_is_found_within_a_few_thousand_inputs(
    target: str, what: str, instead: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(what, instead)
    with pytest.raises((AssertionError, OverflowError, UnicodeError)):
        try_inputs(target, MANY)
