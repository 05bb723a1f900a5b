"""The services of a file as functions that a scheduler serves, and whether they can be served."""

import importlib
import os
import pwd
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import cast

from turnwise.cli.child import Child, Children
from turnwise.cli.file import BadFile, Configuration, Job, Problem, read_file
from turnwise.cli.pings import why_no_ping
from turnwise.cli.programs import why_no_program
from turnwise.scheduler.functions import served

Function = Callable[..., object]


def read_jobs(name: str) -> Configuration:
    """Read a file of services, and see that each of them can be run here.

    Raises:
        BadFile: something in it is wrong, or is not there.
    """
    configuration = read_file(name)
    problems = [
        Problem(job.line, f"services.{job.name}: {why}")
        for job in configuration.jobs
        if (why := _why_it_cannot_run(job) or why_no_ping(job)) is not None
    ]
    if problems:
        raise BadFile(name, problems)
    return configuration


def function_of(job: Job, children: Children, grace: timedelta) -> Function:
    """What a scheduler calls in each turn of a service.

    Args:
        job: the service.
        children: the children of this process.
        grace: how long a command may take to end after a signal.
    """
    if job.command is None:
        return cast("Function", imported(job.function or ""))
    return Child(
        job.command,
        timeout=job.settings.timeout,
        grace=grace,
        heartbeat_timeout=job.settings.heartbeat_timeout,
        children=children,
    )


def imported(path: str) -> object:
    """What a path such as ``app.jobs:nightly`` names, imported from the working directory.

    Raises:
        ValueError: there is no such thing; the message says what is missing.
    """
    module, _, attribute = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: object = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        # Whatever the program raises as it is imported, it cannot be served.
        raise ValueError(f"{module!r} cannot be imported: {_first_line(error)}") from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise ValueError(f"{module!r} has no {attribute!r}")
        found = getattr(found, name)
    return found


def _why_it_cannot_run(job: Job) -> str | None:
    if job.command is None:
        return _why_no_function(job.function or "")
    user = job.command.user
    if user is not None and (why := _why_not_as(user)) is not None:
        return why
    path = dict(job.command.environment).get("PATH")
    try:
        directory = job.command.working_directory()
        if directory is not None and not Path(directory).is_dir():
            return f"the directory {directory!r} does not exist"
        return why_no_program(job.command.arguments[0], directory=directory, path=path)
    except (OSError, RuntimeError) as error:  # such as of ~somebody, or of a name that is too long
        why = getattr(error, "strerror", None) or str(error)
        return f"the command cannot be looked for: {why}"


def _why_no_function(path: str) -> str | None:
    try:
        served(cast("Function", imported(path)))
    except (ValueError, TypeError) as error:
        return f"function: {error}"
    return None


def _why_not_as(user: str) -> str | None:
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return f"there is no user {user!r}"
    if os.geteuid() not in (0, account.pw_uid):
        return f"user ({user!r}) needs turnwise to run as root, and it runs as {_me()!r}"
    return None


def _me() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's user without a name
        return str(os.geteuid())


def _first_line(error: BaseException) -> str:
    return (f"{type(error).__name__}: {error}").partition("\n")[0].rstrip(": ")
