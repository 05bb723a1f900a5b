"""Reading a file of services: all that is wrong with it is found at once, each with its line."""

import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, cast

from turnwise.cli.command import Command
from turnwise.cli.errors import nearest
from turnwise.cli.file_keys import COMMON, GOES_WITH, KNOBS, ONE_OF_THESE, SERVICE, Key
from turnwise.cli.toml_lines import Path as KeyPath
from turnwise.cli.toml_lines import line_of, lines_of
from turnwise.errors import MissingExtraError
from turnwise.names import checked_name, printable
from turnwise.scheduler.knobs import settings_with
from turnwise.schedules import Cron, Every, Schedule, parse_schedule
from turnwise.settings import Settings

_TABLES: Final = ("turnwise", "services")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong in a file, and on which line, from 1; 0 where it is the whole file."""

    line: int
    message: str


class BadFile(Exception):  # noqa: N818 (what the user wrote, not what broke)
    """A file that cannot be served, with all that is wrong in it.

    Attributes:
        lines: each problem as a line of text, ``turnwise.toml:12: ...``.
    """

    def __init__(self, name: str, problems: list[Problem]) -> None:
        ordered = sorted(problems, key=lambda each: each.line)
        self.lines = [printable(f"{_place(name, each.line)}: {each.message}") for each in ordered]
        super().__init__("; ".join(self.lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What a file says for all services; None for what it does not say."""

    storage: str | None = None
    storage_file: str | None = None
    group: str | None = None
    runner_id: str | None = None
    grace: timedelta | None = None
    log_format: str | None = None
    log_level: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One service of a file: when it is due, and either a command or a function.

    ``line`` is where its table begins. Two jobs that differ in it alone are equal.
    """

    name: str
    settings: Settings
    command: Command | None
    function: str | None
    ping_url: str | None = None
    line: int = field(compare=False)

    @property
    def what(self) -> str:
        """What is run, in a few words."""
        if self.command is None:
            return self.function or ""
        arguments = self.command.arguments
        if len(arguments) == len(("sh", "-c", "line")) and arguments[1] == "-c":
            return arguments[2]
        return shlex.join(arguments)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a file says."""

    name: str
    common: Common
    jobs: tuple[Job, ...]


def read_file(name: str) -> Configuration:
    """Read a file of services.

    Raises:
        BadFile: it cannot be read, or something in it is wrong.
    """
    try:
        text = Path(name).read_bytes().decode()
    except OSError as error:
        raise BadFile(name, [Problem(0, f"it cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise BadFile(name, [Problem(0, "it is no text in UTF-8")]) from error
    return read_text(text, name)


def read_text(text: str, name: str) -> Configuration:
    """Read the text of such a file; ``name`` is what its problems are told under.

    Raises:
        BadFile: something in it is wrong.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # or a number that is too long
        raise BadFile(name, [_syntax(str(error), text)]) from error
    reader = _Reader(lines_of(text))
    read = reader.read(document, name)
    if reader.problems or read is None:
        raise BadFile(name, reader.problems)
    return read


def _place(name: str, line: int) -> str:
    return f"{name}:{line}" if line else name


def _syntax(message: str, text: str) -> Problem:
    """What tomllib says, with its line at the front."""
    what, _, where = message.rpartition(" (at ")
    line, _, column = where.rstrip(")").removeprefix("line ").partition(", column ")
    if line.isdecimal():
        return Problem(int(line), f"no TOML: {what} (column {column})")
    if where.startswith("end of document"):
        return Problem(text.count("\n") + 1, f"no TOML: {what} (at its end)")
    return Problem(1, f"no TOML: {message}")


class _Reader:
    """Reads a document of TOML, and collects what is wrong in it.

    Args:
        lines: where its keys stand.
    """

    def __init__(self, lines: Mapping[KeyPath, int]) -> None:
        self.problems: list[Problem] = []
        self._lines = dict(lines)

    def read(self, document: dict[str, object], name: str) -> Configuration | None:
        """What it says; None, or with problems, where something is wrong."""
        for key in document.keys() - set(_TABLES):
            self._unknown((key,), _TABLES)
        common = self._common(self._table(document.get("turnwise", {}), ("turnwise",)))
        services = self._table(document.get("services", {}), ("services",))
        if not services:
            self._wrong(("services",), "there is no service: add a table [services.NAME]")
        jobs = [self._job(each, services[each]) for each in services]
        if self.problems:
            return None
        return Configuration(name, common, tuple(job for job in jobs if job is not None))

    def _common(self, table: Mapping[str, object]) -> Common:
        values = self._values(table, COMMON, ("turnwise",))
        if "storage" in values and "storage_file" in values:
            path = ("turnwise", "storage_file")
            self._wrong(path, "storage and storage_file do not go together: each names the storage")
        if values.get("grace", timedelta(0)) < timedelta(0):
            self._wrong(("turnwise", "grace"), "grace must be 0 or more")
        return Common(**values)

    def _job(self, name: str, table: object) -> Job | None:
        path = ("services", name)
        before = len(self.problems)
        try:
            checked_name("a service's name", name)
        except ValueError as error:
            self._wrong(path, str(error))
        given = self._table(table, path)
        values = self._values(given, SERVICE, path)
        self._check_keys(given, path)
        if len(self.problems) > before:
            return None
        settings = self._settings(values, path)
        if settings is None:
            return None
        return Job(
            name=name,
            settings=settings,
            command=_command(values),
            function=values.get("function"),
            ping_url=values.get("ping_url"),
            line=line_of(self._lines, path),
        )

    def _check_keys(self, given: Mapping[str, object], path: KeyPath) -> None:
        """Which keys are missing, and which do not go together."""
        for keys in ONE_OF_THESE:
            said = [key for key in given if key in keys]
            if not said:
                self._wrong(path, f"one of {', '.join(keys)} must be given")
            elif len(said) > 1:
                listed = " and ".join(said)
                self._wrong((*path, said[1]), f"{listed} do not go together: one of them says it")
        for key, other in GOES_WITH.items():
            if key in given and other not in given:
                self._wrong((*path, key), f"{key} goes with {other} alone")

    def _settings(self, values: Mapping[str, Any], path: KeyPath) -> Settings | None:
        try:
            schedule = _schedule(values)
        except (ValueError, MissingExtraError) as error:
            key = "timezone" if str(error).startswith("timezone") else ""
            keys = [key, *ONE_OF_THESE[0]]
            self._wrong((*path, next(each for each in keys if each in values)), str(error))
            return None
        knobs = {key: values[key] for key in KNOBS if key in values}
        try:
            return settings_with(schedule, cast("Any", knobs))
        except ValueError as error:
            # The message names the knobs that do not fit: the first one that the file has counts.
            named = [key for key in knobs if key in str(error)]
            named.sort(key=str(error).index)
            self._wrong((*path, *named[:1]), str(error))
            return None

    def _values(
        self, table: Mapping[str, object], keys: Mapping[str, Key], path: KeyPath
    ) -> dict[str, Any]:
        """The values of a table that are as they must be; the others are problems."""
        values: dict[str, Any] = {}
        for name, value in table.items():
            key = keys.get(name)
            if key is None:
                self._unknown((*path, name), tuple(keys))
                continue
            try:
                values[name] = key.kind.read(value)
            except ValueError as error:
                why = f": {error}" if str(error) else ""
                got = "" if key.is_secret else f", got {_shown(value)}"
                said = f"{name} must be {key.kind.said}{got}{why}"
                self._wrong((*path, name), said)
        return values

    def _table(self, value: object, path: KeyPath) -> dict[str, object]:
        if isinstance(value, dict):
            return value
        self._wrong(path, f"{path[-1]} must be a table, got {_shown(value)}")
        return {}

    def _unknown(self, path: KeyPath, known: tuple[str, ...]) -> None:
        name = path[-1]
        near = nearest(name.replace("-", "_").lower(), known)
        hint = f"known are {', '.join(known)}" if near is None else f"did you mean {near}?"
        self._wrong(path, f"{name!r} is unknown; {hint}")

    def _wrong(self, path: KeyPath, message: str) -> None:
        where = ".".join(path[:2]) + ": " if path[0] == "services" and len(path) > 1 else ""
        self.problems.append(Problem(line_of(self._lines, path), where + message))


def _schedule(values: Mapping[str, Any]) -> Schedule:
    if "cron" in values:
        return Cron(values["cron"], values.get("timezone", "UTC"))
    if "every" in values:
        return Every(values["every"], values.get("offset", timedelta(0)))
    return parse_schedule(values["schedule"])


def _command(values: Mapping[str, Any]) -> Command | None:
    if "command" not in values:
        return None
    return Command(
        values["command"],
        directory=values.get("directory"),
        environment=values.get("environment", ()),
        user=values.get("user"),
    )


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "a table" if isinstance(value, dict) else repr(value)
