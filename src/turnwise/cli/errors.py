"""What a user did wrong, as one line that speaks of the command line's options."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Final

from turnwise.errors import MissingExtraError, StorageError

OPTION_OF_SETTING: Final = {
    "schedule": "--schedule",
    "interval": "--every",
    "offset": "--offset",
    "expression": "--cron",
    "timezone": "--timezone",
    "cycle": "--cycle",
    "start_within": "--start-within",
    "attempts": "--attempts",
    "timeout": "--timeout",
    "stagger": "--stagger",
    "runs": "--every-slot",
    "standbys": "--standbys",
    "spread_margin": "--margin",
    "heartbeat_timeout": "--heartbeat-timeout",
    "max_start_slot_fraction": "--max-start-fraction",
    "membership_stabilization": "--stabilization",
    "min_run_margin": "--min-run-margin",
    "retention_age": "--retention-age",
    "retention_count": "--retention-count",
    "longest_run": "--longest-run",
    "clock_skew": "--clock-skew",
}
"""Which option sets a setting, or a part of a schedule."""

# A word is a setting's name where it leads the message, or where its value follows in brackets.
_NAMES: Final = "|".join(OPTION_OF_SETTING)
_SETTING: Final = re.compile(
    rf"^({_NAMES})(?= must|: | '| \()|(?<![\w-])(?<!shortest )(?:the )?({_NAMES})(?= \()"
)

# Three letters in four are the same: "crom" is near "cron", and "nosuch" is not near "touch".
_NEAR: Final = 0.75


class BadInput(Exception):  # noqa: N818 (what the user gave, not what broke)
    """Bad input: ``str()`` is the line to print; the exit status is 2."""


def nearest(given: str, known: Iterable[str]) -> str | None:
    """The known name that was most likely meant; None where none is near enough to be offered."""
    return next(iter(get_close_matches(given, list(known), n=1, cutoff=_NEAR)), None)


def in_options(message: str) -> str:
    """A message about settings, in the words of the command line: options for their names."""
    said = _SETTING.sub(lambda match: OPTION_OF_SETTING[match[1] or match[2]], message)
    return said.replace("--every-slot ('every_slot')", "--every-slot")


@contextmanager
def settings_as_options() -> Iterator[None]:
    """Turn errors about settings into bad input that names the options instead."""
    try:
        yield
    except ValueError as error:
        raise BadInput(in_options(str(error))) from error


@contextmanager
def storage_as_input() -> Iterator[None]:
    """Turn errors of opening or reading a storage into bad input."""
    try:
        yield
    except (ValueError, StorageError, MissingExtraError) as error:
        message = str(error).replace("is named: give a URL", "is named: give --storage a URL")
        raise BadInput(message) from error
