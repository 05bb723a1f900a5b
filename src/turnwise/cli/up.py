"""``turnwise up``: all services of a file, or of a program, in one process."""

import json
import logging
import os
import queue
import re
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import typer

from turnwise.cli.child import Children
from turnwise.cli.errors import BadInput, storage_as_input
from turnwise.cli.file import BadFile, Common, Configuration, Job
from turnwise.cli.jobs import function_of, imported, read_jobs
from turnwise.cli.logs import log_to_stderr
from turnwise.cli.options import (
    DEFAULT_GRACE,
    DEFAULT_GROUP,
    GraceIfAny,
    GroupIfAny,
    LogFormatIfAny,
    LogLevelIfAny,
    RunnerId,
    StorageUrl,
    option,
)
from turnwise.cli.pings import Pings
from turnwise.cli.serving import knobs_of, mind_signals, next_wish, start, try_storage
from turnwise.cli.storage import url_in_force
from turnwise.names import printable
from turnwise.scheduler import Scheduler
from turnwise.storages.opening import (
    FILE_VARIABLE,
    URL_VARIABLE,
    check_url,
    url_in_file,
    url_of_the_environment,
)
from turnwise.storages.urls import without_password

_log = logging.getLogger("turnwise.up")
_DEFAULT_FILE: Final = "turnwise.toml"
_PROGRAM_SAYS: Final = {
    "--storage": "its Scheduler(URL) says it, or, where that names none, TURNWISE_STORAGE",
    "--group": "its Scheduler(group=...) says it, or, where that names none, TURNWISE_GROUP",
    "--runner-id": "its Scheduler(runner_id=...) says it, or, where that does not, "
    "TURNWISE_RUNNER_ID",
    "--grace": "its Scheduler(grace=...) says it",
}
# For a child that was killed at the end of its grace to be recorded as such.
_AFTER_GRACE = timedelta(seconds=2)

EXAMPLES: Final = {
    "up": """\
A file of services, such as this turnwise.toml, on every machine:
  [turnwise]
  storage = "postgresql://app@db/app"

  [services.nightly]
  cron = "0 3 * * *"
  timezone = "Europe/Vienna"
  command = ["./report.sh", "--yesterday"]
  timeout = "1h"

What is wrong in it, and what would run when; then serve it:
  turnwise up turnwise.toml --check
  turnwise up turnwise.toml

The scheduler of a program, which is the variable "scheduler" of app/jobs.py:
  turnwise up app.jobs:scheduler
"""
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line or the environment asks for; None for what neither says."""

    storage: str | None = None
    group: str | None = None
    runner_id: str | None = None
    grace: timedelta | None = None
    log_format: str | None = None
    log_level: str | None = None

    def over(self, said: Common) -> "Asked":
        """The same, with what a file says where this says nothing, and then the defaults.

        The storage is None where nothing names one.

        Raises:
            BadInput: what names the storage cannot be read.
        """
        return Asked(
            storage=_url(self.storage, said),
            group=self.group or said.group or DEFAULT_GROUP,
            runner_id=self.runner_id or said.runner_id,
            grace=_first(self.grace, said.grace, DEFAULT_GRACE),
            log_format=self.log_format or said.log_format or "text",
            log_level=self.log_level or said.log_level or "info",
        )


Target = Annotated[
    str,
    typer.Argument(
        metavar="[FILE|MODULE:NAME]",
        help=f"A file of services, {_DEFAULT_FILE} where none is named; or a scheduler in a "
        "Python module.",
        show_default=False,
    ),
]
OnlyCheck = Annotated[
    bool,
    option(
        "--check",
        help="Say what is wrong, with line numbers, and what would run when; start nothing.",
    ),
]
JsonSchema = Annotated[
    bool, option("--json-schema", help="Print a JSON schema of such files, for editors, and exit.")
]


def up(
    ctx: typer.Context,
    target: Target = _DEFAULT_FILE,
    *,
    check: OnlyCheck = False,
    json_schema: JsonSchema = False,
    storage: StorageUrl = None,
    group: GroupIfAny = None,
    runner_id: RunnerId = None,
    grace: GraceIfAny = None,
    log_format: LogFormatIfAny = None,
    log_level: LogLevelIfAny = None,
) -> int:
    """Serve all services of a file, or of a program, in one process, until SIGTERM or SIGINT.

    Start the same line on every machine: each service runs on one of them, whenever it is due.
    What an option does not say, its environment variable says; then the file; then the default.

    SIGHUP loads the file anew. Services are added, changed and removed then; a run that is at work
    goes on to its end as it began. Where the new file has a mistake, the old one stays in force.
    """
    if json_schema:
        from turnwise.cli.file_keys import json_schema as schema  # noqa: PLC0415 (only if asked)

        sys.stdout.write(json.dumps(schema(), indent=2) + "\n")
        return 0
    asked = Asked(storage, group, runner_id, grace, log_format, log_level)
    if _is_program(target):
        return _up_program(target, asked, check=check, options=_given(ctx, _PROGRAM_SAYS))
    try:
        configuration = read_jobs(target)
    except BadFile as bad:
        _refuse_what_is_no_file(target)
        for line in bad.lines:
            print(line, file=sys.stderr)  # noqa: T201 (one for each mistake)
        return 2
    in_force = asked.over(configuration.common)
    return _check(configuration, in_force) if check else _File(configuration, in_force).serve()


def _is_program(target: str) -> bool:
    return re.fullmatch(r"[\w.]+:[\w.]+", target) is not None and not Path(target).exists()


def _refuse_what_is_no_file(target: str) -> None:
    is_module = target.endswith(".py")
    if is_module or not Path(target).exists():
        raise BadInput(
            f"{target!r} {'is a module' if is_module else 'does not exist'}: name a file of "
            "services, or the scheduler of a program as MODULE:NAME"
        )


def _given(ctx: typer.Context, options: Iterable[str]) -> list[str]:
    """Which of these options were given on the command line itself."""
    sources = {
        each: ctx.get_parameter_source(each.removeprefix("--").replace("-", "_"))
        for each in options
    }
    return [each for each, source in sources.items() if source and source.name == "COMMANDLINE"]


def _url(asked: str | None, said: Common) -> str | None:
    if asked is not None:
        return asked
    with storage_as_input():
        if os.environ.get(URL_VARIABLE) or os.environ.get(FILE_VARIABLE):
            return url_of_the_environment()
        if said.storage_file is not None:
            return url_in_file(said.storage_file, named_by="storage_file")
    return said.storage


def _first(*values: timedelta | None) -> timedelta | None:
    return next((each for each in values if each is not None), None)


# A program ----------------------------------------------------------------------------------------


def _up_program(target: str, asked: Asked, *, check: bool, options: list[str]) -> int:
    if options:
        option = options[0]
        raise BadInput(f"{option} goes with a file: for a program, {_PROGRAM_SAYS[option]}")
    scheduler = _scheduler_of(target)
    if check:
        from turnwise.cli.ahead import show_ahead  # noqa: PLC0415 (only where it is asked for)

        _print_head(target, len(scheduler.services), scheduler.group)
        show_ahead({name: (each, "") for name, each in scheduler.services.items()})
        return 0
    log_to_stderr(form=asked.log_format or "text", level=asked.log_level or "info")
    signal.signal(signal.SIGHUP, _no_reload)
    try:
        scheduler.run()
    except ValueError as error:  # such as of an environment that names no storage
        raise BadInput(str(error)) from error
    return 0


def _scheduler_of(target: str) -> Scheduler:
    try:
        scheduler = imported(target)
    except ValueError as error:
        raise BadInput(str(error)) from error
    if not isinstance(scheduler, Scheduler):
        raise BadInput(f"{target!r} must be a turnwise.Scheduler, got {scheduler!r}")
    if not scheduler.services:
        raise BadInput(f"{target!r} has no service")
    return scheduler


def _no_reload(signum: int, frame: FrameType | None) -> None:
    del signum, frame
    _log.warning("SIGHUP: a program is not loaded anew; start it again instead")


# A file -------------------------------------------------------------------------------------------


def _check(configuration: Configuration, in_force: Asked) -> int:
    from turnwise.cli.ahead import show_ahead  # noqa: PLC0415 (as above)

    url = in_force.storage
    if url is None:
        shown = f"not named here, so {URL_VARIABLE} must name it where this runs"
    else:
        with storage_as_input():
            check_url(url)
        shown = without_password(url)
    _print_head(configuration.name, len(configuration.jobs), in_force.group)
    print(printable(f"storage: {shown}"))  # noqa: T201 (what was asked for)
    show_ahead({job.name: (job.settings, job.what) for job in configuration.jobs})
    return 0


def _print_head(name: str, count: int, group: str | None) -> None:
    services = f"{count} service{'' if count == 1 else 's'}"
    print(printable(f"{name}: {services}, group {group}"))  # noqa: T201 (what was asked for)


class _Wish(Enum):
    """What a signal asks for."""

    RELOAD = auto()
    STOP = auto()


class _File:
    """A file that is served: its scheduler, its children, and what the file says now.

    Raises:
        BadInput: no storage is named, or it cannot be used.
    """

    def __init__(self, configuration: Configuration, in_force: Asked) -> None:
        self._configuration = configuration
        self._grace = in_force.grace or timedelta(0)
        self._children = Children()
        # A SimpleQueue, because its put() is safe in a signal handler that interrupts its get().
        self._asked: queue.SimpleQueue[_Wish] = queue.SimpleQueue()
        put = self._asked.put
        mind_signals(self._children, stop=lambda: put(_Wish.STOP), reload=lambda: put(_Wish.RELOAD))
        url = url_in_force(in_force.storage)  # the environment's, or it says what can name one
        log_to_stderr(form=in_force.log_format or "text", level=in_force.log_level or "info")
        try_storage(url)
        self._pings = Pings(configuration.jobs)
        self._scheduler = Scheduler(
            url,
            group=in_force.group,
            runner_id=in_force.runner_id,
            observers=(self._pings,),
            grace=self._grace,
        )
        for job in configuration.jobs:
            self._give(self._scheduler.add, job)

    def serve(self) -> int:
        """Serve until a signal ends it; the exit status."""
        start(self._scheduler)
        try:
            while next_wish(self._asked, self._scheduler) is _Wish.RELOAD:
                self._reload()
        finally:
            self._scheduler.stop(self._grace + _AFTER_GRACE)  # a child has its own grace
            self._pings.close()
        return 0

    def _reload(self) -> None:
        """Take over what the file says now, or say what is wrong with it and leave all as it is."""
        before = self._configuration
        try:
            now = read_jobs(before.name)
        except BadFile as bad:
            for line in bad.lines:
                _log.error("%s", line)
            _log.error("%s is not loaded: what it said before stays in force", before.name)
            return
        except Exception:  # noqa: BLE001 (whatever it is, what is served goes on)
            _log.exception("%s is not loaded, by a bug: what it said before holds", before.name)
            return
        if now.common != before.common:
            _log.warning("%s: [turnwise] has changed, which counts from the next start", now.name)
        self._take_over({job.name: job for job in before.jobs}, {job.name: job for job in now.jobs})
        self._configuration = now

    def _take_over(self, before: dict[str, Job], now: dict[str, Job]) -> None:
        removed = [name for name in before if name not in now]
        added = [name for name in now if name not in before]
        changed = [name for name in now if name in before and now[name] != before[name]]
        self._pings.change(now.values())
        for name in removed:
            self._scheduler.remove(name)
        for name in changed:
            self._give(self._scheduler.change, now[name])
        for name in added:
            self._give(self._scheduler.add, now[name])
        said = {"added": added, "changed": changed, "removed": removed}
        parts = [
            f"{what} {', '.join(map(printable, names))}" for what, names in said.items() if names
        ]
        _log.info(
            "%s is loaded anew: %s", self._configuration.name, "; ".join(parts) or "no change"
        )

    def _give(self, to: Callable[..., None], job: Job) -> None:
        """Have the scheduler serve a job from now on: one more, or in another way."""
        to(
            function_of(job, self._children, self._grace),
            job.settings.schedule,
            name=job.name,
            **knobs_of(job.settings),
        )
