"""What is fuzzed. Each function takes any bytes, and raises where a promise is broken."""

import json
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp

from fuzz.decisions import decisions
from fuzz.spelling import Spelling
from fuzz.urls import urls
from turnwise import texts
from turnwise.cli.errors import BadInput
from turnwise.cli.runner_file import read_runners
from turnwise.durations import format_duration, parse_duration
from turnwise.review import review
from turnwise.schedules import parse_schedule
from turnwise.settings import Settings

_KNOBS = [(field.name, field.type) for field in fields(Settings)]
_SCHEDULES = ("every 5m", "every 1d offset 3h", "cron 0 3 * * *", "every 1us", "every 3653d")
_FOLDER = Path(mkdtemp(prefix="turnwise-fuzz-"))


def durations(data: bytes) -> None:
    """A text is a duration that is written and read back, or a ValueError that shows it."""
    spelling = Spelling(data)
    duration = spelling.duration()
    size = abs(duration)
    assert format_duration(duration) == "-" * (duration < size) + format_duration(size)
    assert parse_duration(format_duration(size)) == size
    text = _almost_a_duration(spelling)
    try:
        read = parse_duration(text)
    except ValueError as error:
        assert type(error) is ValueError
        assert repr(text) in _one_line(error)
    else:
        assert parse_duration(format_duration(read)) == read


def _almost_a_duration(spelling: Spelling) -> str:
    match spelling.below(4):
        case 0:
            return spelling.rest().decode("utf-8", "surrogateescape")
        case 1:
            return spelling.scribble("0123456789.-+ _dhmsu\n٣µe")
        case _:
            parts = range(1 + spelling.below(4))
            units = ("d", "h", "m", "s", "ms", "us", "")
            return "".join(
                f"{abs(spelling.whole())}{spelling.scribble('.09')}{spelling.one_of(units)}"
                for _ in parts
            )


def settings(data: bytes) -> None:
    """Knobs of the right types make settings that hold together, or are refused by a ValueError."""
    spelling = Spelling(data)
    knobs: dict[str, object] = {}
    for name, kind in _KNOBS:
        if spelling.below(3):
            knobs[name] = _knob(spelling, kind)
    try:
        # Each has the type of its field.
        made = Settings(**knobs)  # type: ignore[arg-type]
    except ValueError as error:
        _one_line(error)
        return
    assert Settings.from_json(made.to_json()) == made
    assert made.differences(Settings.from_json(made.to_json())) == ()
    runners = 1 + abs(spelling.whole())
    assert 1 <= made.slots(runners) <= runners
    longest_run = abs(spelling.duration()) if spelling.below(2) else None
    review(made, runners=runners, longest_run=longest_run, clock_skew=abs(spelling.duration()))


def _knob(spelling: Spelling, kind: object) -> object:
    if "Schedule" in str(kind):
        return spelling.one_of(_SCHEDULES)
    if kind is bool:
        return bool(spelling.below(2))
    if kind is int:
        return spelling.whole()
    if kind is float:
        return spelling.real()
    if kind is str or "every_slot" in str(kind):
        return spelling.one_of(("once", "every_slot", spelling.text()))
    if "None" in str(kind) and spelling.below(4) == 1:
        return None
    return spelling.duration()


def settings_as_text(data: bytes) -> None:
    """A text holds settings that are written and read back the same, or is a ValueError."""
    spelling = Spelling(data)
    if spelling.below(2):
        names = [name for name, _ in _KNOBS]
        stored = {
            spelling.one_of([*names, spelling.text()]): _json_value(spelling)
            for _ in range(spelling.below(12))
        }
        text = json.dumps(stored)
    else:
        text = spelling.rest().decode("utf-8", "surrogateescape")
    try:
        read = Settings.from_json(text)
    except ValueError as error:
        _one_line(error)
    else:
        assert Settings.from_json(read.to_json()) == read


def schedules(data: bytes) -> None:
    """A text is a schedule that is written and read back the same, or is a ValueError."""
    spelling = Spelling(data)
    match spelling.below(5):
        case 0:
            text = spelling.rest().decode("utf-8", "surrogateescape")
        case 1:
            text = f"every {1 + spelling.below(250)}{spelling.one_of(('us', 'ms', 's', 'm', 'h'))}"
        case 2:
            length = format_duration(abs(spelling.duration()))
            text = f"every {length} {spelling.scribble('offset 12hms')}"
        case 3:
            parts = (spelling.scribble("0123456789*/,-LW#?MONJAN") for _ in range(5))
            text = f"cron {' '.join(parts)}"
        case _:
            expression = spelling.scribble("0*/,- 123LMON#@daily")
            text = f"cron {expression} {spelling.one_of(_ZONES)}"
    try:
        read = parse_schedule(text)
    except ValueError as error:
        _one_line(error)
    else:
        assert parse_schedule(str(read)) == read
        period = read.period_at(_NOON)
        assert period.due <= _NOON < period.until


_ZONES = ("UTC", "Europe/Vienna", "Pacific/Chatham", "Nowhere/Land", "../etc/passwd", "")
_NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)


def records(data: bytes) -> None:
    """A text is a record that is written and read back the same, or is a ValueError."""
    spelling = Spelling(data)
    made = {
        spelling.one_of(
            ("floor", "token", "served", "open", "unsaid", "pause", "runners", "due")
        ): (_json_value(spelling))
        for _ in range(spelling.below(6))
    }
    text = json.dumps([made] if spelling.below(2) else made)
    if spelling.below(4) == 1:
        text = spelling.rest().decode("utf-8", "surrogateescape")
    for read, write in (
        (texts.gate_from_text, texts.gate_to_text),
        (texts.plan_from_text, texts.plan_to_text),
        (texts.row_from_text, texts.row_to_text),
    ):
        try:
            found = read(text)
        except ValueError as error:
            assert type(error) is ValueError
        else:
            assert read(write(found)) == found  # type: ignore[arg-type]  # the writer of its kind


def runner_files(data: bytes) -> None:
    """A file of runners is read, or is bad input that says something."""
    spelling = Spelling(data)
    near = datetime(2026, 1, 1, tzinfo=UTC) + spelling.below(256) * timedelta(seconds=7)
    if spelling.below(4):
        entries = [_runner(spelling, near) for _ in range(spelling.below(6))]
        content = json.dumps(entries).encode()
    else:
        content = spelling.rest()
    file = _FOLDER / "runners.json"
    file.write_bytes(content)
    try:
        for runner in read_runners(str(file)):
            assert isinstance(runner.runner_id, str)
            runner.why_outside(runner.heard_at, 1)
    except BadInput as error:
        assert str(error)


def _runner(spelling: Spelling, near: datetime) -> object:
    if spelling.below(16) == 1:
        return _json_value(spelling)
    made = {
        "id": spelling.text() if spelling.below(8) == 1 else f"r{spelling.below(250)}",
        "creation_time": _json_instant(spelling, near),
        "last_heartbeat": _json_instant(spelling, near),
    }
    if spelling.below(8) == 1:
        made[spelling.one_of(("id", "runner_id", "may_run"))] = _json_value(spelling)
    return made


def _json_instant(spelling: Spelling, near: datetime) -> object:
    match spelling.below(16):
        case 0:
            return spelling.text()
        case 1:
            return spelling.real()
        case 2:
            return spelling.whole()
        case 3:
            return spelling.one_of(
                ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59")
            )
        case 4:
            return spelling.instant().isoformat()
        case _:
            return (near - spelling.below(256) * timedelta(seconds=3)).isoformat()


def _json_value(spelling: Spelling) -> object:
    match spelling.below(8):
        case 0:
            return spelling.text()
        case 1:
            return spelling.whole()
        case 2:
            return spelling.real()
        case 3:
            return spelling.one_of((None, True, False, [], {}, 10**400))
        case 4:
            return spelling.one_of(("once", "every_slot", "5m", "0", "1us", "3653d", "1000000d"))
        case _:
            return format_duration(spelling.duration())


def _one_line(error: Exception) -> str:
    said = str(error)
    assert said
    assert len(said.splitlines()) == 1, said
    return said


TARGETS: dict[str, Callable[[bytes], None]] = {
    "decisions": decisions,
    "durations": durations,
    "records": records,
    "runner-files": runner_files,
    "schedules": schedules,
    "settings": settings,
    "settings-as-text": settings_as_text,
    "urls": urls,
}
