"""``turnwise import-crontab``: a crontab, written as a file of services."""

import os
import pwd
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Annotated, Final

import typer

from turnwise.cli.crontab import CronJob, Crontab, read_crontab
from turnwise.cli.errors import BadInput, storage_as_input
from turnwise.cli.options import option
from turnwise.names import printable
from turnwise.schedules import Cron
from turnwise.storages.urls import check_spelling, without_password

EXAMPLES: Final = {
    "import-crontab": """\
crontab -l | turnwise import-crontab - > turnwise.toml
turnwise import-crontab --system /etc/crontab > turnwise.toml
turnwise up turnwise.toml --check
"""
}
_LONGEST_NAME: Final = 200  # and a number may follow
# Words that a line may begin with, and that do not say what it does.
_NO_NAMES: Final = frozenset(
    {".", "[", "bash", "chronic", "command", "env", "exec", "export", "if", "ionice", "java"}
    | {"nice", "node", "nohup", "perl", "php", "python", "python3", "ruby", "run-one", "set"}
    | {"sh", "sleep", "sudo", "test", "then", "time"}
)
# The same, with a word behind it that does not say it either.
_WITH_WORD: Final = frozenset(["cd", "flock", "timeout"])


CrontabFile = Annotated[
    str, typer.Argument(metavar="FILE", help="The crontab; - is what comes in on stdin.")
]
IsSystem = Annotated[
    bool, option("--system", help="A user stands before each command, as in /etc/crontab.")
]
Zone = Annotated[
    str | None,
    option(
        "--timezone",
        metavar="ZONE",
        default="what TZ= in the crontab says, or this machine's",
        help="The zone that the schedules go by where no CRON_TZ= stands above them, such as "
        "Europe/Vienna.",
    ),
]
StorageToWrite = Annotated[
    str | None,
    option(
        "--storage",
        metavar="URL",
        default="none, and a comment says where it belongs",
        help="Write this storage into the file, such as sqlite:///turns.db.",
    ),
]


def import_crontab(
    file: CrontabFile,
    *,
    system: IsSystem = False,
    timezone: Zone = None,
    storage: StorageToWrite = None,
) -> int:
    """Write a crontab as a file for turnwise up, to stdout.

    On stderr stands what has no counterpart, each with its line: @reboot, MAILTO, what stands
    behind a % in a command. Such a job is left out, as is one that cannot be read. The name of a
    service is made from its command: read the file before you use it.
    """
    text, name = _read(file)
    _check(timezone, storage)
    machine = machines_zone()
    crontab = read_crontab(text, is_system=system, timezone=timezone, default_timezone=machine)
    doubtful = machine if timezone is None else None
    _say_all(crontab, name, may_be_system=not system, doubtful_zone=doubtful)
    if not crontab.jobs:
        raise BadInput(f"{file!r} has no job that can be taken over")
    sys.stdout.write("\n".join(_written(crontab, storage)))
    return 0


def _say_all(
    crontab: Crontab, name: str, *, may_be_system: bool, doubtful_zone: str | None
) -> None:
    for remark in crontab.remarks:
        _say(f"{name}:{remark.line}: {remark.message}")
    if may_be_system and _looks_like_system(crontab):
        _say(f"{name}: each command begins with a user's name; if it is one, say --system")
    if any(job.timezone == doubtful_zone for job in crontab.jobs):
        _say(f"{name}: times are read in {doubtful_zone}; say --timezone where that is not meant")


def _say(message: str) -> None:
    print(printable(message), file=sys.stderr)  # noqa: T201 (one line for each remark)


def _read(file: str) -> tuple[str, str]:
    try:
        if file == "-":
            return sys.stdin.read(), "stdin"
        return Path(file).read_text("utf-8"), file
    except UnicodeDecodeError as error:
        raise BadInput(f"{file!r} is no text in UTF-8") from error
    except OSError as error:
        raise BadInput(f"{file!r} cannot be read: {error.strerror}") from error


def _check(timezone: str | None, storage: str | None) -> None:
    try:
        Cron("0 0 * * *", timezone or "UTC")
    except ValueError as error:
        raise BadInput(f"--timezone: {error}") from error
    if storage is not None:
        with storage_as_input():
            check_spelling(storage)


def machines_zone() -> str:
    """The name of the zone that this machine's wall clock goes by; UTC where it has no name."""
    named = os.environ.get("TZ", "").removeprefix(":")
    at = os.path.realpath("/etc/localtime")
    zone = named or at.partition("/zoneinfo/")[2]
    if zone in ("", "Etc/UTC", "Etc/UCT", "Universal", "Zulu"):
        return "UTC"
    try:
        Cron("0 0 * * *", zone)
    except ValueError:
        return "UTC"
    return zone


def _looks_like_system(crontab: Crontab) -> bool:
    users = {account.pw_name for account in pwd.getpwall()}
    firsts = [job.command.split()[0] for job in crontab.jobs]
    return bool(firsts) and users.issuperset(firsts)


# Writing it ---------------------------------------------------------------------------------------


def _written(crontab: Crontab, storage: str | None) -> Iterator[str]:
    yield "[turnwise]"
    if storage is None:
        yield "# Say here where the machines meet, or in the environment, as TURNWISE_STORAGE."
        yield '# storage = "postgresql://app@db/app"'
    else:
        yield f"storage = {_text(storage)}"
        if without_password(storage) != storage:
            yield "# It has a password: who may read this file may read it, too."
    names = _names(crontab.jobs)
    for job, name in zip(crontab.jobs, names, strict=True):
        yield ""
        for line in job.comment:
            yield f"# {printable(line)}".rstrip()
        yield from _table(job, name)
    yield ""


def _table(job: CronJob, name: str) -> Iterator[str]:
    yield f"[services.{_key(name)}]"
    yield f"cron = {_text(job.expression)}"
    if job.timezone != "UTC":
        yield f"timezone = {_text(job.timezone)}"
    if job.shell == "/bin/sh":
        yield f"command = {_text(job.command)}"
    else:
        yield f"command = [{_text(job.shell)}, {_text('-c')}, {_text(job.command)}]"
    if job.user is not None:
        yield f"user = {_text(job.user)}"
    yield f"directory = {_text(job.home)}"
    if job.environment:
        pairs = ", ".join(f"{_key(key)} = {_text(value)}" for key, value in job.environment)
        yield f"environment = {{ {pairs} }}"


def _names(jobs: Iterable[CronJob]) -> list[str]:
    """A name for each job: from its command, with a number where two would have the same."""
    names: list[str] = []
    for job in jobs:
        base, number = _name(job.command), 2
        name = base
        while name in names:
            name, number = f"{base}-{number}", number + 1
        names.append(name)
    return names


def _name(command: str) -> str:
    """The name of the first program in a command that says what it does."""
    for part in re.split(r"&&|\|\||[;|&]", command):
        skip = False
        for word in part.split():
            is_program = "=" not in word and not word.startswith(("-", "$", ">", "<"))
            stem = PurePath(word.strip("\"'()")).name.partition(".")[0]
            clear = re.sub(r"[^\w-]+", "-", stem).strip("-_")
            names_it = clear not in _NO_NAMES | _WITH_WORD | {""} and not clear.isdecimal()
            if is_program and names_it and not skip:
                return clear[:_LONGEST_NAME]
            skip = clear in _WITH_WORD or (skip and not is_program)
    return "job"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _text(value: str) -> str:
    """A text as TOML has it: as it is between single quotes, where it can be."""
    if "'" not in value and value.isprintable() and ("\\" in value or '"' in value):
        return f"'{value}'"
    return '"' + "".join(_escaped(each) for each in value) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    return f"\\U{ord(character):08x}"
