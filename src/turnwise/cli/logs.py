"""Log lines on stderr: for people, or as JSON for machines."""

import json
import logging
import sys
import time
from typing import Final

from turnwise.names import printable

_FIELDS: Final = ("group", "service", "runner", "run_id", "token")
_LINE: Final = "%(asctime)s %(levelname)s %(message)s"
LEVELS: Final = ("debug", "info", "warning", "error")
"""What ``--log-level`` may be."""

FORMATS: Final = ("text", "json")
"""What ``--log-format`` may be."""


def log_to_stderr(*, form: str, level: str) -> None:
    """Send what turnwise logs to stderr, one line each but for tracebacks in text.

    Args:
        form: one of :data:`FORMATS`.
        level: one of :data:`LEVELS`; what is below it is left out.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else _TextFormatter(_LINE))
    logger = logging.getLogger("turnwise")
    logger.addHandler(handler)
    logger.setLevel(level.upper())


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as one line of JSON, in ASCII."""
        line: dict[str, object] = {
            "time": f"{_utc(record)}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: record.__dict__[name] for name in _FIELDS if name in record.__dict__}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


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
