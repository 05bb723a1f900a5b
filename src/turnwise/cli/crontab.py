"""Reading a crontab: its jobs, and what in it has no counterpart.

Lines are read as cron reads them (Vixie's, Debian's, cronie): comments, ``NAME = value`` for all
jobs below it, five fields or a nickname, and the command to the end of the line. In a system
crontab a user stands before the command.

What counts for a schedule's zone, the first of these that is given: ``CRON_TZ`` above it, the zone
that the caller says, ``TZ`` above it, the caller's default.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from turnwise.errors import MissingExtraError
from turnwise.schedules import Cron

_ASSIGNMENT: Final = re.compile(r"""^\s*(["']?)([A-Za-z_]\w*)\1\s*=\s*(.*?)\s*$""")
_FIELDS: Final = 5
_MAIL: Final = ("MAILTO", "MAILFROM", "CONTENT_TYPE", "CONTENT_TRANSFER_ENCODING")
_OF_CRON: Final = ("CRON_TZ", "RANDOM_DELAY", *_MAIL)


@dataclass(frozen=True, slots=True)
class Remark:
    """What there is to say about a line, from 1."""

    line: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CronJob:
    """One job of a crontab.

    ``comment`` is what stands right above it, without its hashes. ``command`` is for ``shell``.
    ``home`` is where it runs: ``~`` unless the crontab sets ``HOME``.
    """

    line: int
    expression: str
    timezone: str
    command: str
    shell: str
    home: str
    user: str | None
    environment: tuple[tuple[str, str], ...]
    comment: tuple[str, ...] = ()


@dataclass(slots=True)
class Crontab:
    """What a crontab says: its jobs, and what there is to say about it."""

    jobs: list[CronJob] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)


def read_crontab(
    text: str, *, is_system: bool = False, timezone: str | None = None, default_timezone: str
) -> Crontab:
    """Read a crontab. Lines that cannot be taken over are left out, with a remark.

    Args:
        text: the crontab.
        is_system: whether a user stands before each command, as in ``/etc/crontab``.
        timezone: the zone of schedules above which no ``CRON_TZ`` stands; None where it is not
            said.
        default_timezone: the zone where nothing else says one.
    """
    reader = _Reader(is_system=is_system, timezone=timezone, default_timezone=default_timezone)
    for number, line in enumerate(text.splitlines(), 1):
        reader.read(number, line)
    return reader.crontab


class _LeftOutError(Exception):
    """A line cannot be taken over; the message says why."""


class _Reader:
    """Reads line by line; the variables above a job count for it."""

    def __init__(self, *, is_system: bool, timezone: str | None, default_timezone: str) -> None:
        self.crontab = Crontab()
        self._is_system = is_system
        self._timezone, self._default_timezone = timezone, default_timezone
        self._variables: dict[str, str] = {}
        self._comment: list[str] = []

    def read(self, number: int, line: str) -> None:
        """Read one line."""
        stripped = line.strip()
        if stripped.startswith("#"):
            self._comment.append(stripped.lstrip("#").strip())
            return
        comment, self._comment = self._comment, []
        if not stripped:
            return
        assignment = _ASSIGNMENT.match(line)
        if assignment is not None:
            self._assign(number, assignment[2], _unquoted(assignment[3]))
            return
        try:
            job = self._job(number, stripped, tuple(filter(None, comment)))
        except _LeftOutError as why:
            self._remark(number, f"left out: {why}")
        else:
            self.crontab.jobs.append(job)

    def _assign(self, number: int, name: str, value: str) -> None:
        self._variables[name] = value
        if name in _MAIL and value:
            self._remark(
                number, f"{name} has no counterpart: output goes where turnwise's own goes"
            )
        elif name == "RANDOM_DELAY":
            self._remark(number, "RANDOM_DELAY has no counterpart; stagger comes near it")
        elif name == "TZ" and "CRON_TZ" not in self._variables and self._timezone is None:
            self._remark(
                number,
                f"TZ={value} is taken for the schedules below, too. Debian's cron and cronie take "
                "it for the commands alone: say --timezone with the zone that yours went by",
            )

    def _job(self, number: int, line: str, comment: tuple[str, ...]) -> CronJob:
        """The job on a line. Raises where it cannot be taken over."""
        line = line.removeprefix("-")  # SUSE: without a line in the system's log
        expression, rest = _split(line, 1 if line.startswith("@") else _FIELDS)
        if line.startswith("@reboot"):
            raise _LeftOutError("@reboot has no counterpart: nothing restarts with a host")
        user, rest = self._user(rest)
        command = self._command(line, rest)
        timezone = self._zone()
        _check(expression, timezone)
        kept = {k: v for k, v in self._variables.items() if k not in {*_OF_CRON, "HOME", "SHELL"}}
        return CronJob(
            line=number,
            expression=expression,
            timezone=timezone,
            command=command,
            shell=self._variables.get("SHELL") or "/bin/sh",
            home=self._variables.get("HOME") or "~",
            user=user,
            environment=tuple(kept.items()),
            comment=comment,
        )

    def _user(self, rest: str) -> tuple[str | None, str]:
        """Who runs it, where a user stands before the command, and what stands behind."""
        if not self._is_system:
            return None, rest
        user, rest = _split(rest, 1)
        if not user:
            raise _LeftOutError("there is no user before its command: no --system?")
        return user, rest

    def _command(self, line: str, rest: str) -> str:
        command, has_input = _command(rest)
        if not command:
            raise _LeftOutError("there is no command in it")
        if "\0" in line or any("\0" in value for value in self._variables.values()):
            raise _LeftOutError("there is a NUL in it, or in a variable above it")
        if has_input:
            raise _LeftOutError("what % sends to the command's stdin has no counterpart")
        return command

    def _zone(self) -> str:
        said = self._variables.get("CRON_TZ") or self._timezone or self._variables.get("TZ")
        return (said or self._default_timezone).removeprefix(":")

    def _remark(self, number: int, message: str) -> None:
        self.crontab.remarks.append(Remark(number, message))


def _check(expression: str, timezone: str) -> None:
    try:
        Cron(expression, timezone)
    except (ValueError, MissingExtraError) as error:
        raise _LeftOutError(str(error)) from error


def _split(text: str, words: int) -> tuple[str, str]:
    """The first words of a text, with single spaces, and what is left."""
    parts = text.split(None, words)
    return " ".join(parts[:words]), parts[words] if len(parts) > words else ""


def _command(text: str) -> tuple[str, bool]:
    """The command that cron would run, and whether it would have something on its stdin."""
    parts = re.split(r"(?<!\\)%", text)
    return parts[0].replace("\\%", "%").strip(), any(parts[1:])


def _unquoted(value: str) -> str:
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if is_quoted else value
