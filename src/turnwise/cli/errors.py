"""What a user did wrong, as one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from turnwise.backends import MissingExtraError, StorageError

_OPTION_OF_SETTING = {
    "spread_margin": "--margin",
    "heartbeat_timeout": "--heartbeat-timeout",
    "max_start_slot_fraction": "--max-start-fraction",
    "membership_stabilization": "--stabilization",
    "standbys": "--standbys",
    "longest_run": "--longest-run",
    "clock_skew": "--clock-skew",
    "interval": "--interval",
}


class BadInput(Exception):  # noqa: N818 (what the user gave, not what broke)
    """Bad input: ``str()`` is the line to print; the exit status is 2."""


@contextmanager
def settings_as_options() -> Iterator[None]:
    """Turn errors about settings into bad input that names the options instead."""
    try:
        yield
    except ValueError as error:
        # Where a name leads the message or a value follows it, it is the setting's.
        message = str(error)
        for name, option in _OPTION_OF_SETTING.items():
            message = message.replace(f"{name} (", f"{option} (").replace(
                f"{name} must", f"{option} must"
            )
        raise BadInput(message) from error


@contextmanager
def storage_as_input() -> Iterator[None]:
    """Turn errors of opening or reading a storage into bad input."""
    try:
        yield
    except (ValueError, StorageError, MissingExtraError) as error:
        raise BadInput(str(error)) from error
