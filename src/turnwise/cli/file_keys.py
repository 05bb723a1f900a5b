"""The keys that a file of services may have, each declared once: what it takes, what it is for.

The reader (:mod:`turnwise.cli.file`) and the schema for editors (:func:`json_schema`) are both made
from these tables. The knobs of a service come from :class:`~turnwise.settings.Settings` itself, so
that neither can fall behind it.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Final, Literal, get_args, get_type_hints

from turnwise.cli.log_choices import FORMATS, LEVELS
from turnwise.durations import parse_duration
from turnwise.names import checked_name
from turnwise.settings import Settings

Schema = dict[str, Any]
"""A JSON schema, or a part of one."""

_DURATION_PATTERN: Final = r"^\s*(0|([0-9]{1,15}(\.[0-9]{1,15})?(ms|us|d|h|m|s))+)\s*$"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a key takes.

    Attributes:
        said: what it must be, in words.
        schema: the same for an editor.
        read: gives the value that is meant. Raises a ValueError, with a message where ``said`` is
            not enough.
    """

    said: str
    schema: Schema
    read: Callable[[object], object]


@dataclass(frozen=True, slots=True)
class Key:
    """One key: what it takes, what it is for, and whether its value may be a secret."""

    kind: Kind
    meaning: str
    is_secret: bool = False


class _UnfitError(ValueError):
    """A value that is none of its kind: what is allowed says it all."""


# Kinds --------------------------------------------------------------------------------------------


def _typed(*types: type) -> Callable[[object], object]:
    def read(value: object) -> object:
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise _UnfitError
        return value

    return read


def _text(value: object) -> object:
    if not isinstance(value, str) or not value or "\0" in value:
        raise _UnfitError
    return value


def _name(value: object) -> object:
    if not isinstance(value, str):
        raise _UnfitError
    return checked_name("it", value)


def _duration(value: object) -> object:
    if not isinstance(value, str):
        raise _UnfitError
    return parse_duration(value)


def _duration_or_auto(value: object) -> object:
    return value if value == "auto" else _duration(value)


def _command(value: object) -> object:
    """The program and its arguments; a line is the shell's."""
    if isinstance(value, str):
        return ("/bin/sh", "-c", str(_text(value)))
    if not isinstance(value, list) or not value or not value[0]:
        raise _UnfitError
    if not all(isinstance(word, str) and "\0" not in word for word in value):
        raise _UnfitError
    return tuple(value)


def _environment(value: object) -> object:
    if not isinstance(value, dict):
        raise _UnfitError
    for name, text in value.items():
        if not isinstance(text, str) or not name or "=" in name or "\0" in name + text:
            raise _UnfitError
    return tuple(value.items())


def _one_of(words: tuple[str, ...]) -> Kind:
    def read(value: object) -> object:
        if value not in words:
            raise _UnfitError
        return value

    listed = f"{', '.join(map(repr, words[:-1]))} or {words[-1]!r}"
    return Kind(listed, {"type": "string", "enum": list(words)}, read)


_TEXT_SCHEMA: Final[Schema] = {"type": "string", "minLength": 1}
_DURATION_SCHEMA: Final[Schema] = {"type": "string", "pattern": _DURATION_PATTERN}
_TEXT: Final = Kind("text", _TEXT_SCHEMA, _text)
_NAME: Final = Kind("text of 1 to 255 characters", _TEXT_SCHEMA | {"maxLength": 255}, _name)
_DURATION: Final = Kind("a duration such as '5m'", _DURATION_SCHEMA, _duration)
_COMMAND: Final = Kind(
    "a list of texts, such as ['./report.sh', '--all'], or a line for the shell",
    {
        "oneOf": [
            _TEXT_SCHEMA,
            {"type": "array", "minItems": 1, "items": {"type": "string"}},
        ]
    },
    _command,
)
_ENVIRONMENT: Final = Kind(
    "a table of texts, such as { LANG = 'C' }",
    {"type": "object", "additionalProperties": {"type": "string"}},
    _environment,
)
_FUNCTION: Final = Kind(
    "text such as 'app.jobs:nightly'",
    {"type": "string", "pattern": r"^[\w.]+:[\w.]+$"},
    lambda value: _matching(r"[\w.]+:[\w.]+", value),
)

_KINDS: Final[Mapping[object, Kind]] = {
    timedelta: _DURATION,
    timedelta | None: _DURATION,
    timedelta | Literal["auto"]: Kind(
        "a duration such as '5m', or 'auto'",
        {"anyOf": [_DURATION_SCHEMA, {"const": "auto"}]},
        _duration_or_auto,
    ),
    int: Kind("a whole number", {"type": "integer"}, _typed(int)),
    float: Kind("a number", {"type": "number"}, _typed(int, float)),
    bool: Kind("true or false", {"type": "boolean"}, _typed(bool)),
}


def _matching(pattern: str, value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise _UnfitError
    return value


# Keys ---------------------------------------------------------------------------------------------

COMMON: Final[Mapping[str, Key]] = {
    "storage": Key(
        _TEXT, "The storage that all runners share, such as sqlite:///turns.db.", is_secret=True
    ),
    "storage_file": Key(
        _TEXT, "A file with the storage's URL in it, such as a mounted secret, instead of storage."
    ),
    "group": Key(_NAME, "The programs that share their runners and services. Default: default."),
    "runner_id": Key(
        _NAME, "Who this is. Default: unique to the process. Different on each machine."
    ),
    "grace": Key(
        _DURATION,
        "Time between asking a command to end, by SIGTERM, and killing it. Default: 10s.",
    ),
    "log_format": Key(_one_of(FORMATS), "Log lines for people, or JSON. Default: text."),
    "log_level": Key(_one_of(LEVELS), "Log what is at least so important. Default: info."),
}
"""The keys of the table ``[turnwise]``."""


def _knobs() -> dict[str, Key]:
    """The knobs of a service, as the settings have them."""
    hints = get_type_hints(Settings)
    meanings = _meanings(inspect.getdoc(Settings) or "")
    names = [field.name for field in fields(Settings) if field.name != "schedule"]
    return {name: Key(_kind_of(hints[name]), meanings.get(name, "")) for name in names}


def _kind_of(hint: object) -> Kind:
    choices = get_args(hint)
    if choices and all(isinstance(each, str) for each in choices):
        return _one_of(choices)
    return _KINDS[hint]


def _meanings(docstring: str) -> dict[str, str]:
    """What the docstring of a class says of each argument."""
    _, _, arguments = docstring.partition("Args:\n")
    arguments, _, _ = arguments.partition("\n\n")
    said = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", arguments, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).replace("``", "") for name, text in said}


WHEN: Final[Mapping[str, Key]] = {
    "every": Key(_DURATION, "Time between two due instants, such as 30s or 5m."),
    "offset": Key(_DURATION, "Moves the due instants of every from whole multiples of it, UTC."),
    "cron": Key(_TEXT, "Due by a cron expression, such as '0 3 * * *'; a sixth field: seconds."),
    "timezone": Key(_TEXT, "The zone whose wall clock cron is read by. Default: UTC."),
    "schedule": Key(_TEXT, "The schedule as one text, such as 'every 1d offset 3h'."),
}
"""The keys that say when a service is due."""

WHAT: Final[Mapping[str, Key]] = {
    "command": Key(_COMMAND, "What to run: a list of words, or a line for the shell."),
    "function": Key(_FUNCTION, "A Python function to call instead, such as app.jobs:nightly."),
    "environment": Key(
        _ENVIRONMENT, "Variables of the command, beside turnwise's own.", is_secret=True
    ),
    "directory": Key(
        _TEXT, "The command's working directory. Default: turnwise's own, or the user's home."
    ),
    "user": Key(_TEXT, "The user whom the command runs as. Only root may say it."),
    "ping_url": Key(
        _TEXT,
        "A dead man's switch that is told of each start, success and failure. A secret.",
        is_secret=True,
    ),
}
"""The keys that say what is run."""

KNOBS: Final[Mapping[str, Key]] = _knobs()
"""The knobs of :class:`~turnwise.settings.Settings`."""

SERVICE: Final[Mapping[str, Key]] = {**WHEN, **WHAT, **KNOBS}
"""The keys of a service's table, such as ``[services.nightly]``."""

ONE_OF_THESE: Final = (("cron", "every", "schedule"), ("command", "function"))
"""The keys of which a service has exactly one: when it is due, and what is run."""

GOES_WITH: Final[Mapping[str, str]] = {
    "timezone": "cron",
    "offset": "every",
    "environment": "command",
    "directory": "command",
    "user": "command",
}
"""Keys that need another one beside them."""


# For editors --------------------------------------------------------------------------------------


def json_schema() -> Schema:
    """A JSON schema of such a file, for editors that complete and check TOML."""
    service = _table(SERVICE, "A service: what to run, and when.")
    service["allOf"] = [{"oneOf": [{"required": [key]} for key in keys]} for keys in ONE_OF_THESE]
    service["dependentRequired"] = {key: [other] for key, other in GOES_WITH.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Services of turnwise",
        "type": "object",
        "properties": {
            "turnwise": _table(COMMON, "What holds for all services."),
            "services": {
                "description": "The services by their names.",
                "type": "object",
                "minProperties": 1,
                "propertyNames": _NAME.schema,
                "additionalProperties": service,
            },
        },
        "required": ["services"],
        "additionalProperties": False,
    }


def _table(keys: Mapping[str, Key], meaning: str) -> Schema:
    return {
        "description": meaning,
        "type": "object",
        "properties": {
            name: key.kind.schema | {"description": key.meaning} for name, key in keys.items()
        },
        "additionalProperties": False,
    }
