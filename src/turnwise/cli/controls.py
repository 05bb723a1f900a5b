"""``turnwise pause``, ``resume``, ``trigger``, ``drain``, ``undrain`` and ``forget``."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated

import typer

from turnwise import gate as gates
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cli.errors import BadInput
from turnwise.cli.given import instant_or_duration, name
from turnwise.cli.options import (
    DEFAULT_GROUP,
    Group,
    RunnerArgument,
    ServiceArgument,
    StorageUrl,
    option,
)
from turnwise.cli.storage import open_existing, require_runner, require_service
from turnwise.controls import ALIVE_WITHIN, Controls, to_the_second
from turnwise.gate import Execution, Gate, Run
from turnwise.names import printable
from turnwise.storages import Reading, Storage
from turnwise.texts import gate_from_text

_SHOWN_REASON = 200
_SIGNALLED = 128

EXAMPLES = {
    "pause": """\
turnwise pause nightly --reason 'the database moves'
turnwise pause nightly --until 2h30m
turnwise pause nightly --until 2026-01-31T12:00:00Z
""",
    "resume": """\
turnwise resume nightly --reason 'the database has moved'
""",
    "trigger": """\
turnwise trigger nightly --reason 'the report was empty'
turnwise trigger nightly --wait && echo it went well
""",
    "drain": """\
turnwise drain web-3 --reason 'it gets more memory'
""",
    "undrain": """\
turnwise undrain web-3 --reason 'it has more memory'
""",
    "forget": """\
turnwise forget service old-report
turnwise forget runner web-3 --yes
""",
}

Reason = Annotated[
    str, option("--reason", metavar="TEXT", default="none", help="Why, for the history.")
]


Until = Annotated[
    datetime | None,
    option(
        "--until",
        parser=instant_or_duration,
        default="until turnwise resume",
        help="When the pause ends by itself: an instant in UTC, or how long from now.",
    ),
]


def pause(
    service: ServiceArgument,
    *,
    storage: StorageUrl = None,
    group: Group = DEFAULT_GROUP,
    reason: Reason = "",
    until: Until = None,
) -> int:
    """Let a service start no run any more, on any machine.

    Once this command has returned, no run starts. A run that is at work goes on. After the pause
    only the period that has not ended yet is made up for.
    """
    with _controls(storage, group) as (store, controls):
        require_service(store, group, service)
        before = _gate(store, group, service)
        try:
            gate = controls.pause(service, reason=reason, until=until)
        except ValueError as error:
            raise BadInput(f"--{error}") from error
    assert gate.pause is not None  # noqa: S101 (just made)
    ends = "it is resumed" if gate.pause.until is None else to_the_second(gate.pause.until)
    is_changed = before is None or before.pause != gate.pause
    _say(f"{printable(service)} is paused {'' if is_changed else 'already, '}until {ends}")
    if gate.open is not None:
        _say(f"{_run(gate.open)} goes on")
    return 0


def resume(
    service: ServiceArgument,
    *,
    storage: StorageUrl = None,
    group: Group = DEFAULT_GROUP,
    reason: Reason = "",
) -> int:
    """End the pause of a service."""
    with _controls(storage, group) as (store, controls):
        require_service(store, group, service)
        was_paused = controls.resume(service, reason=reason)
    said = "is resumed" if was_paused else "was not paused: nothing was to be done"
    _say(f"{printable(service)} {said}")
    return 0


WaitForIt = Annotated[
    bool,
    option(
        "--wait",
        help="Wait until the run has ended, and exit with its status: 0 where it went well, "
        "the command's own where it failed, else 1.",
    ),
]


def trigger(
    service: ServiceArgument,
    *,
    storage: StorageUrl = None,
    group: Group = DEFAULT_GROUP,
    reason: Reason = "",
    wait: WaitForIt = False,
) -> int:
    """Run a service once, now, whether it is due or not.

    The runner whose slot it is starts it, within a heartbeat, as soon as no other run is at work.
    While the service is paused, it waits. To trigger a service that waits for its run already
    changes nothing.
    """
    with _controls(storage, group) as (store, controls):
        require_service(store, group, service)
        before = _gate(store, group, service)
        made = controls.trigger(service, reason=reason)
        is_new = before is None or before.trigger is None or before.trigger.id != made
        said = f"is triggered{'' if is_new else ' already'}"
        _say(f"{printable(service)} {said}{_what_it_waits_for(store, group, service)}")
        if not wait:
            return 0
        ended = controls.wait_for(service, made)
    if ended is None:
        _say(f"{printable(service)} was forgotten meanwhile")
        return 1
    how = f"{ended.status} {printable(ended.reason)[:_SHOWN_REASON]}".rstrip()
    _say(f"the run of {printable(ended.runner_id)}, token {ended.token}, has ended: {how}")
    return exit_status(ended)


def drain(
    runner: RunnerArgument,
    *,
    storage: StorageUrl = None,
    group: Group = DEFAULT_GROUP,
    reason: Reason = "",
) -> int:
    """Let a runner take no new run, of no service; what it is in goes on.

    It stays so, through restarts under the same id, until turnwise undrain.
    """
    with _controls(storage, group) as (store, controls):
        require_runner(store, group, runner)
        is_new = controls.drain(runner, reason=reason)
        runs = sum(len(row.runs) for row in store.runners(group) if row.runner_id == runner)
    working = f"; it works on {runs} run{'s' * (runs != 1)}" if runs else "; it works on nothing"
    _say(f"runner {printable(runner)} is drained{'' if is_new else ' already'}{working}")
    return 0


def undrain(
    runner: RunnerArgument,
    *,
    storage: StorageUrl = None,
    group: Group = DEFAULT_GROUP,
    reason: Reason = "",
) -> int:
    """Let a runner that was drained take runs again."""
    with _controls(storage, group) as (store, controls):
        require_runner(store, group, runner)
        was_drained = controls.undrain(runner, reason=reason)
    said = "takes runs again" if was_drained else "was not drained: nothing was to be done"
    _say(f"runner {printable(runner)} {said}")
    return 0


What = Annotated[
    str, typer.Argument(metavar="service|runner", help="What to forget: the word itself.")
]
ItsName = Annotated[str, typer.Argument(parser=name, metavar="NAME", help="Its name or id.")]
Force = Annotated[
    bool, option("--force", help="Forget it although a runner that it concerns lives.")
]
Yes = Annotated[bool, option("--yes", "-y", help="Do not ask.")]


def forget(
    what: What,
    its_name: ItsName,
    *,
    storage: StorageUrl = None,
    group: Group = DEFAULT_GROUP,
    reason: Reason = "",
    force: Force = False,
    yes: Yes = False,
) -> int:
    """Forget a service, with its history, or a runner that is gone.

    What lives is not forgotten, unless forced. Where a service that somebody offers is forgotten,
    it may run again for a period that was served, and two runs may be at work at once.
    """
    if what not in ("service", "runner"):
        raise BadInput(f"{what!r} cannot be forgotten: say service NAME or runner NAME")
    with _controls(storage, group) as (store, controls):
        require = require_service if what == "service" else require_runner
        require(store, group, its_name)
        _ask(f"Forget {what} {printable(its_name)} of group {printable(group)}?", yes=yes)
        if what == "service":
            controls.forget_service(its_name, force=force, reason=reason)
        else:
            controls.forget_runner(its_name, force=force, reason=reason)
    _say(f"{what} {printable(its_name)} is forgotten")
    return 0


def exit_status(ended: Execution) -> int:
    """The exit status of a run, as a shell would have it: 0 where it was completed.

    What a command exited with, or 128 and the signal's number, where the history says so; else 1.
    """
    if ended.status is Status.COMPLETED:
        return 0
    how, _, which = ended.reason.partition(":")
    if how == "exit" and which.isdecimal():
        return int(which)
    if how == "signal":
        return _SIGNALLED + _number(which)
    return 1


def _number(signal_name: str) -> int:
    import signal  # noqa: PLC0415 (only where a run was ended by one)

    if signal_name.isdecimal():
        return int(signal_name)
    return signal.Signals.__members__.get(signal_name, signal.SIGTERM).value


@contextmanager
def _controls(url: str | None, group: str) -> Iterator[tuple[Storage, Controls]]:
    with open_existing(url) as storage:
        yield storage, Controls(storage, group)


def _what_it_waits_for(storage: Storage, group: str, service: str) -> str:
    """What keeps a triggered run from starting now, as the end of a sentence."""
    reading = storage.read(group, (service,))
    gate = _gate_in(reading, service)
    if gate is not None and gates.is_paused(gate, reading.now):
        return "; it is paused, and runs once it is resumed"
    if gate is not None and gate.open is not None:
        return f"; {_run(gate.open)} comes first"
    offering = {
        (row.offer.runner_id, row.offer.boot_id)
        for row in storage.offers(group)
        if row.offer.service == service and row.offer.may_run
    }
    alive = any(
        (row.runner_id, row.boot_id) in offering
        and row.left_at is None
        and reading.now - row.heard_at < ALIVE_WITHIN * row.heartbeat_timeout
        for row in storage.runners(group)
    )
    return "" if alive else "; no runner of it is alive: it runs once there is one"


def _gate(storage: Storage, group: str, service: str) -> Gate | None:
    return _gate_in(storage.read(group, (service,)), service)


def _gate_in(reading: Reading, service: str) -> Gate | None:
    kept = reading.services[service].gate
    return None if kept is None else gate_from_text(kept.body)


def _run(run: Run) -> str:
    since = to_the_second(run.started_at)
    return f"the run of {printable(run.runner_id)}, token {run.token}, since {since}"


def _ask(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadInput("there is no terminal to ask on: give --yes")
    typer.confirm(question, abort=True)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201
