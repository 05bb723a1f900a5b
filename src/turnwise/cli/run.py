"""``turnwise run``: a command in this runner's turns."""

import logging
import os
import shutil
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from turnwise.backends import open_backend
from turnwise.cli.child import Child
from turnwise.cli.errors import BadInput, storage_as_input
from turnwise.cli.options import (
    DEFAULTS,
    BackendUrl,
    EverySlot,
    HeartbeatTimeout,
    Interval,
    Margin,
    MaxStartFraction,
    NoRetry,
    Service,
    Stabilization,
    Standbys,
    duration,
    name,
    settings_from_options,
)
from turnwise.cli.storage import is_private
from turnwise.old_turn import Turn
from turnwise.runner import Runner

_log = logging.getLogger("turnwise")
_LONGEST_FIRST_LINE = 256


def run(
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="What to run in each turn.")
    ],
    *,
    backend: BackendUrl,
    service: Service,
    interval: Interval = DEFAULTS.interval,
    margin: Margin = None,
    heartbeat_timeout: HeartbeatTimeout = None,
    max_start_fraction: MaxStartFraction = DEFAULTS.max_start_slot_fraction,
    stabilization: Stabilization = DEFAULTS.membership_stabilization,
    every_slot: EverySlot = False,
    standbys: Standbys = DEFAULTS.standbys,
    no_retry: NoRetry = False,
    timeout: Annotated[
        timedelta | None,
        typer.Option(
            "--timeout", parser=duration, metavar="DURATION", help="End a child that runs longer."
        ),
    ] = None,
    grace: Annotated[
        timedelta,
        typer.Option(
            "--grace",
            parser=duration,
            metavar="DURATION",
            show_default="10s",
            help="Time between asking a child to end and killing it.",
        ),
    ] = timedelta(seconds=10),
    runner_id: Annotated[
        str | None,
        typer.Option(
            "--runner-id",
            parser=name,
            metavar="ID",
            show_default="unique to the process",
            help="Who this is.",
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Serve one turn, then exit with its status.")
    ] = False,
) -> int:
    """Run a command in this runner's turns, until SIGTERM, SIGINT or SIGHUP.

    The command finds its turn in TURNWISE_SERVICE, TURNWISE_RUNNER_ID, TURNWISE_RUN_ID,
    TURNWISE_FENCING_TOKEN, TURNWISE_SLOT_START and TURNWISE_SLOT_END. All runners of a service
    must be started with the same backend, service and settings.
    """
    settings = settings_from_options(
        interval=interval,
        margin=margin,
        heartbeat_timeout=heartbeat_timeout,
        max_start_fraction=max_start_fraction,
        stabilization=stabilization,
        every_slot=every_slot,
        standbys=standbys,
        no_retry=no_retry,
    )
    _check_command(command[0])
    if timeout is not None and timeout <= timedelta(0):
        raise BadInput("--timeout must be positive, got 0s")
    _log_to_stderr()
    child = Child(command, service, timeout, grace, settings.heartbeat_timeout)
    with storage_as_input():
        storage = open_backend(backend)
    if is_private(backend):
        _log.warning("%s is this process's own: no other runner takes turns with it", backend)
    try:

        def take_turn(turn: Turn) -> None:
            try:
                child(turn)
            finally:
                if once:
                    runner.request_stop()

        runner = Runner(storage, service, take_turn, settings=settings, runner_id=runner_id)

        def stop(signum: int, frame: FrameType | None) -> None:
            del frame
            runner.request_stop()
            child.pass_on(signum)

        # Where whoever started us ignores it, so do we, and how a child ended would not be known.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:  # nohup
                signal.signal(signum, stop)
        runner.run()
    finally:
        storage.close()
    return child.last_status if once else 0


def _check_command(program: str) -> None:
    """Find a command that cannot be run now, rather than in the first turn."""
    found = shutil.which(program)
    if found is not None:
        interpreter = _interpreter_of(Path(found))
        if interpreter and shutil.which(interpreter) is None:
            raise BadInput(f"the command {program!r} needs {interpreter!r}, which cannot be run")
        return
    if os.path.sep not in program:
        raise BadInput(f"the command {program!r} does not exist on the PATH")
    if Path(program).is_dir():
        raise BadInput(f"the command {program!r} is a folder")
    if Path(program).is_file():
        raise BadInput(f"the command {program!r} is not executable: chmod +x it")
    raise BadInput(f"the command {program!r} does not exist")


def _interpreter_of(file: Path) -> str:
    """What the first line of a script names after ``#!``; empty where it is no script."""
    try:
        with file.open("rb") as script:
            first_line = script.readline(_LONGEST_FIRST_LINE)
    except OSError:  # it may be run, and not be read
        return ""
    if not first_line.startswith(b"#!"):
        return ""
    # As the system takes it, to which a carriage return is a part of the name.
    return os.fsdecode(first_line[2:].strip(b" \t\n").replace(b"\t", b" ").partition(b" ")[0])


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logger = logging.getLogger("turnwise")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
