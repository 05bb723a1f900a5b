"""Log lines on stderr: for people, or as JSON for machines."""

import json
import logging
import sys
import time
from dataclasses import fields
from typing import Final

from turnwise.cycles import SECOND, instant
from turnwise.events import Event
from turnwise.names import printable

_FIELDS: Final = ("group", "service", "runner", "run_id", "token")
_NAMED_OTHERWISE: Final = frozenset({"group", "service", "runner_id", "run_id", "token"})
_INSTANTS: Final = frozenset(
    {"due", "until", "start", "end", "slot_start", "started_at", "now", "success"}
)
_DURATIONS: Final = frozenset({"after", "timeout", "took"})
_LINE: Final = "%(asctime)s %(levelname)s %(message)s"


def log_to_stderr(*, form: str, level: str) -> None:
    """Send what turnwise logs to stderr, one line each but for tracebacks in text.

    Args:
        form: one of :data:`turnwise.cli.log_choices.FORMATS`.
        level: one of :data:`turnwise.cli.log_choices.LEVELS`; what is below it is left out.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else _TextFormatter(_LINE))
    logger = logging.getLogger("turnwise")
    logger.addHandler(handler)
    logger.setLevel(level.upper())


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the fields of the event.

    What an event has beside its group, service and runner is written under its own name: instants
    in ISO 8601, in UTC; durations in seconds, with ``_seconds`` at the end of the name.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as one line of JSON, in ASCII."""
        line: dict[str, object] = {
            "time": f"{_utc(record)}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: record.__dict__[name] for name in _FIELDS if name in record.__dict__}
        event = record.__dict__.get("event")
        if isinstance(event, Event):
            line |= _fields_of(event)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json.dumps(line, default=str)


def _fields_of(event: Event) -> dict[str, object]:
    """All that an event says beside the fields that every line has."""
    said: dict[str, object] = {"event": type(event).__name__}
    for name in (each.name for each in fields(event)):
        value = getattr(event, name)
        if name in _NAMED_OTHERWISE:
            continue
        if name in _INSTANTS and isinstance(value, int):
            said[name] = instant(value).isoformat().replace("+00:00", "Z")
        elif name in _DURATIONS and isinstance(value, int):
            said[f"{name}_seconds"] = value / SECOND
        elif name == "error":  # a line's own "error" is a traceback
            said["storage_error"] = value
        else:
            said[name] = value
    return said


class _TextFormatter(logging.Formatter):
    """One line of text, in UTC, in which nothing from outside moves the terminal's cursor."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        del datefmt
        return f"{_utc(record)}Z"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's)
        record.message = printable(record.message)
        return super().formatMessage(record)


def _utc(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
