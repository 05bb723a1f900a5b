"""Log lines: one for each event, with its service and with fields for structured logs."""

import dataclasses
import json
import logging
import sys
from typing import Any

import pytest

from turnwise import events
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cli.logs import JsonFormatter
from turnwise.events import Event, ServiceEvent
from turnwise.observers.log import log_event

DUE = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
RUNNER: dict[str, Any] = {"group": "g", "runner_id": "a"}
SERVICE: dict[str, Any] = {**RUNNER, "service": "job"}
TURN: dict[str, Any] = {**SERVICE, "run_id": "run", "token": 7, "due": DUE}
ENDED: dict[str, Any] = {**TURN, "attempt": 1, "took": 1_500_000, "recorded": True}
DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR

LINES: list[tuple[Event, int, str]] = [
    (events.RunnerJoined(**RUNNER, boot_id="b"), INFO, "runner a has joined"),
    (
        events.RunnerJoined(**RUNNER, boot_id="b", again=True),
        INFO,
        "runner a has joined again: its row was gone",
    ),
    (events.RunnerLeft(**RUNNER), INFO, "runner a has left"),
    (events.ServiceLeft(**SERVICE), INFO, "job: runner a serves it no more"),
    (
        events.DuplicateRunner(**RUNNER, boot_id="b"),
        ERROR,
        "another process lives under the runner id a: give each process an id of its own",
    ),
    (
        events.StorageLost(**RUNNER, error="refused\x1b"),
        WARNING,
        "the storage does not answer: refused\\x1b",
    ),
    (
        events.StorageLost(**RUNNER, error="no\x1b", needs_repair=True),
        ERROR,
        "the storage cannot be used until it is repaired; it is tried again until then: no\\x1b",
    ),
    (
        events.StorageBack(**RUNNER, after=61_000_000),
        WARNING,
        "the storage answers again, after 1m1s",
    ),
    (
        events.StorageAsked(**RUNNER, operation="read", took=1_234, error=None),
        DEBUG,
        "asked the storage: read, 1.2 ms",
    ),
    (
        events.StorageAsked(**RUNNER, operation="swap", took=1_000_000, error="refused\x1b"),
        DEBUG,
        "asked the storage: swap, 1000.0 ms, refused\\x1b",
    ),
    (events.Looked(**SERVICE, now=DUE), DEBUG, "job: looked at 2026-01-01T00:00:00Z"),
    (
        events.CyclePlanned(
            **SERVICE, start=DUE, end=DUE + 1, due=DUE, runners=("a", "b"), size=2, void=False
        ),
        DEBUG,
        "job: planned the cycle of 2026-01-01T00:00:00Z: a, b",
    ),
    (
        events.CyclePlanned(
            **SERVICE, start=DUE, end=DUE + 1, due=DUE, runners=("a",), size=1, void=True
        ),
        DEBUG,
        "job: planned again, as nobody of the plan was left: the cycle of 2026-01-01T00:00:00Z: a",
    ),
    (
        events.NoTurn(**SERVICE, reason="late_start", message="75 %", due=DUE, slot_start=DUE),
        INFO,
        "job: no turn: late_start (75 %)",
    ),
    (
        events.NoTurn(**SERVICE, reason="paused", message="", due=DUE, slot_start=DUE),
        INFO,
        "job: no turn: paused",
    ),
    (
        events.TurnStarted(**TURN, attempt=1, started_at=DUE),
        INFO,
        "job: turn 7 starts, due 2026-01-01T00:00:00Z",
    ),
    (
        events.TurnStarted(**TURN, attempt=2, started_at=DUE),
        INFO,
        "job: turn 7 starts, attempt 2, due 2026-01-01T00:00:00Z",
    ),
    (
        events.TurnEnded(**ENDED, status=Status.COMPLETED, reason=""),
        INFO,
        "job: turn 7 ends after 1.5s: completed",
    ),
    (
        events.TurnEnded(**ENDED, status=Status.ABANDONED, reason="exit:1"),
        WARNING,
        "job: turn 7 ends after 1.5s: abandoned exit:1",
    ),
    (
        events.TurnEnded(**{**ENDED, "recorded": False}, status=Status.COMPLETED, reason=""),
        ERROR,
        "job: turn 7 ends after 1.5s: completed; somebody else had closed its run before",
    ),
    (events.TurnLost(**TURN, why="silent"), ERROR, "job: turn 7 is lost: silent"),
    (
        events.TurnOverdue(**TURN, timeout=10_000_000),
        ERROR,
        "job: turn 7 has passed its timeout of 10s",
    ),
    (
        events.RunBuried(**TURN, owner="b"),
        WARNING,
        "job: closed turn 7 of runner b, which is silent or has left",
    ),
    (
        events.PeriodMissed(**SERVICE, due=DUE, until=DUE + 1, why="paused"),
        ERROR,
        "job: the period due 2026-01-01T00:00:00Z was missed: paused",
    ),
    (
        events.PeriodMissed(
            **SERVICE, due=DUE, until=DUE + 60_000_000, why="nobody_planned", count=3
        ),
        ERROR,
        (
            "job: 3 periods from the one due 2026-01-01T00:00:00Z to 2026-01-01T00:01:00Z were "
            "missed: nobody_planned"
        ),
    ),
    (
        events.SettingsDiffer(**SERVICE, due=DUE),
        WARNING,
        "job: the plan in force was made by other settings than this runner's",
    ),
    (
        events.RecordUnreadable(**SERVICE, error="no plan"),
        ERROR,
        "job: a record cannot be read: no plan",
    ),
]


@pytest.mark.parametrize(("event", "level", "text"), LINES)
def test_each_event_has_a_line_with_its_service_and_fields(
    event: Event, level: int, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(DEBUG)
    log_event(event)
    [record] = caplog.records
    assert (record.levelno, record.message) == (level, text)
    of_service = isinstance(event, ServiceEvent)
    assert record.name == ("turnwise.service" if of_service else "turnwise.runner")
    fields = record.__dict__
    assert (fields["group"], fields["runner"]) == ("g", "a")
    assert fields.get("service") == ("job" if of_service else None)
    if isinstance(event, events.TurnEvent):
        assert (fields["run_id"], fields["token"]) == ("run", 7)


def test_every_kind_of_event_has_its_line() -> None:
    kinds = {
        kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)
    } - {Event, ServiceEvent, events.TurnEvent}
    assert kinds == {type(event) for event, _, _ in LINES}


def test_an_event_of_another_package_is_shown_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    class OfMine(Event):
        pass

    caplog.set_level(DEBUG)
    log_event(OfMine(**RUNNER))
    [record] = caplog.records
    assert record.levelno == DEBUG
    assert "OfMine(group='g', runner_id='a')" in record.message


def test_what_is_not_listened_to_is_not_written(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(WARNING)
    log_event(events.RunnerLeft(**RUNNER))
    assert caplog.records == []


# As JSON ------------------------------------------------------------------------------------------


def as_json(event: Event, caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """The line that ``--log-format json`` writes of an event."""
    caplog.set_level(DEBUG)
    caplog.clear()
    log_event(event)
    [record] = caplog.records
    return parsed(JsonFormatter().format(record))


def parsed(line: str) -> dict[str, Any]:
    """One line of JSON, in ASCII."""
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("event", [event for event, _, _ in LINES], ids=repr)
def test_a_line_of_json_has_all_that_its_event_says(
    event: Event, caplog: pytest.LogCaptureFixture
) -> None:
    line = as_json(event, caplog)
    assert {"time", "level", "logger", "message", "group", "runner", "event"} <= line.keys()
    for field in dataclasses.fields(event):
        value = getattr(event, field.name)
        name = {"runner_id": "runner", "error": "storage_error"}.get(field.name, field.name)
        if f"{name}_seconds" in line:
            assert line[f"{name}_seconds"] == value / 1_000_000
        elif isinstance(value, int) and value >= DUE:
            assert line[name].startswith("2026-01-01T00:0"), name
        else:
            assert line[name] == (list(value) if isinstance(value, tuple) else value), name


def test_a_line_of_json_is_what_the_documentation_shows(caplog: pytest.LogCaptureFixture) -> None:
    line = as_json(events.TurnEnded(**ENDED, status=Status.ABANDONED, reason="exit:1"), caplog)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "turnwise.service",
        "message": "job: turn 7 ends after 1.5s: abandoned exit:1",
        "group": "g",
        "service": "job",
        "runner": "a",
        "run_id": "run",
        "token": 7,
        "event": "TurnEnded",
        "due": "2026-01-01T00:00:00Z",
        "status": "abandoned",
        "reason": "exit:1",
        "attempt": 1,
        "took_seconds": 1.5,
        "recorded": True,
    }


def record_of(message: str, *arguments: object, **more: Any) -> logging.LogRecord:
    return logging.LogRecord(
        "turnwise.x", ERROR, __file__, 1, message, arguments, more.pop("exc_info", None), **more
    )


def test_an_exception_is_in_one_line_of_json_with_its_traceback() -> None:
    def fail() -> None:
        raise ValueError("first\nsecond\x1b[2J")

    try:
        fail()
    except ValueError:
        record = record_of("it failed", exc_info=sys.exc_info(), sinfo="Stack\n  here")
    line = parsed(JsonFormatter().format(record))
    assert line["message"] == "it failed"
    assert line["error"].startswith("Traceback (most recent call last):\n")
    assert line["error"].endswith("ValueError: first\nsecond\x1b[2J")
    assert line["stack"] == "Stack\n  here"


@pytest.mark.parametrize(
    "name", ['"}\n{"level": "info', "a\x1b]0;x\x07", "\u202eevil", "\ud800", "\x00", "ä\u2028"]
)
def test_no_name_breaks_out_of_its_line_of_json(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = {**ENDED, "service": name, "group": name, "runner_id": name}
    line = as_json(events.TurnEnded(**service, status=Status.ABANDONED, reason=name), caplog)
    assert (line["service"], line["group"], line["runner"], line["reason"]) == (name,) * 4
    assert line["level"] == "warning"


def test_what_json_does_not_know_is_written_as_text() -> None:
    record = record_of("%s", "x")
    record.__dict__["service"] = {
        1,
    }
    assert parsed(JsonFormatter().format(record))["service"] == "{1}"
