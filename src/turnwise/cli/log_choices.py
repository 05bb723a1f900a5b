"""What can be said of the log, apart from what writes it: few commands log, and logging is slow."""

from typing import Final

LEVELS: Final = ("debug", "info", "warning", "error")
"""What ``--log-level`` may be."""

FORMATS: Final = ("text", "json")
"""What ``--log-format`` may be."""
