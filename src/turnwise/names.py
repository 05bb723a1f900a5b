"""Names that every storage, log and terminal can take, and names that nobody else has."""

import os
import secrets
import socket
from unicodedata import category
from uuid import uuid4

_CONTROLS = frozenset({"Cc", "Zl", "Zp"})  # Unicode's: controls, and what else ends a line
_LONGEST_NAME = 255
_LONGEST_REASON = 1000


def checked_name(parameter: str, name: str) -> str:
    """The name of a group, a service or a runner, if every storage, log and terminal can take it.

    Args:
        parameter: what the name is for; the error says it.
        name: 1 to 255 characters of Unicode text without control characters.

    Raises:
        TypeError: it is no text.
        ValueError: it is empty, too long, not Unicode, or has control characters.
    """
    if not isinstance(name, str):
        raise TypeError(f"{parameter} must be text, got {name!r}")
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise ValueError(
            f"{parameter} must have 1 to {_LONGEST_NAME} characters, got {len(name)}: {name[:40]!r}"
        )
    if storable(name) != name or not _CONTROLS.isdisjoint(map(category, name)):
        raise ValueError(
            f"{parameter} must be Unicode text without control characters, got {name!r}"
        )
    return name


def checked_reason(reason: str) -> str:
    """A reason as a history keeps it: storable, and cut at 1,000 characters."""
    return storable(reason)[:_LONGEST_REASON]


def storable(text: str) -> str:
    """Text that every storage can keep; what none can (NUL, half a character) as an escape."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def default_runner_id() -> str:
    """A runner id that is unique to this process: host, process id and a random part."""
    return f"{socket.gethostname()[:200]}-{os.getpid()}-{secrets.token_hex(4)}"


def random_name() -> str:
    """A random UUID as text: for runs, and for the versions of records."""
    return str(uuid4())


def printable(text: str) -> str:
    """Text as it may be logged or shown: controls and what changes direction, as escapes."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
