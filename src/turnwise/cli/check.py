"""``turnwise check``: one line and an exit status, as monitoring plugins have them.

Exit status 0 is well, 1 a warning, 2 critical, 3 unknown.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Annotated

import typer

from turnwise import gate as gates
from turnwise.cli import words
from turnwise.cli.errors import BadInput
from turnwise.cli.known import Known, read_group
from turnwise.cli.options import (
    DEFAULT_GROUP,
    Group,
    ServiceOrAll,
    StorageUrl,
    duration,
    option,
)
from turnwise.cli.output import cut
from turnwise.cli.storage import open_existing, require_service
from turnwise.cycles import instant, microseconds
from turnwise.errors import StorageError, TurnwiseError
from turnwise.names import printable

_MOST_SAID = 5

EXAMPLES = {
    "check": """\
turnwise check
turnwise check --service nightly --max-age 26h
""",
}


class Level(IntEnum):
    """How bad something is; its number is the exit status."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


_WORST = (Level.OK, Level.UNKNOWN, Level.WARNING, Level.CRITICAL)
"""From the best to the worst: what is known to be bad outweighs what is not known."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be."""

    level: Level
    said: str


def check(
    *,
    storage: StorageUrl = None,
    group: Group = DEFAULT_GROUP,
    service: ServiceOrAll = None,
    max_age: Annotated[
        timedelta | None,
        option(
            "--max-age",
            parser=duration,
            metavar="DURATION",
            default="the period, and as long as a run of it may start and take",
            help="How old the last success may be.",
        ),
    ] = None,
) -> int:
    """Say in one line whether all is well, for a monitoring system.

    Exit status 2, critical: a last success is too old, nobody is alive, a run takes longer than its
    timeout, or the storage does not answer. 1, warning: the settings of runners differ, a run's
    owner is silent, or the last period has failed. 3, unknown: the input is wrong, there is no such
    service, or its records cannot be read. A paused service is well, and the line says so.
    """
    try:
        level, line = _checked(storage, group, service, max_age)
    except StorageError as error:
        level, line = Level.CRITICAL, f"the storage does not answer: {error}"
    except (BadInput, TurnwiseError) as error:
        away = isinstance(error.__cause__, StorageError)
        level = Level.CRITICAL if away else Level.UNKNOWN
        line = f"the storage does not answer: {error}" if away else str(error)
    said = printable(" ".join(line.split()))
    typer.echo(f"{level.name}: {said}")
    return int(level)


def _checked(
    storage: str | None, group: str, service: str | None, max_age: timedelta | None
) -> tuple[Level, str]:
    if max_age is not None and max_age <= timedelta(0):
        raise BadInput("--max-age must be positive")
    with open_existing(storage) as store:
        if service is not None:
            require_service(store, group, service)
        known = read_group(store, group, None if service is None else (service,)).services
    if not known:
        return Level.UNKNOWN, f"group {group} has no service"
    limit = None if max_age is None else microseconds(max_age)
    findings = [
        Finding(found.level, f"{cut(each.name, 100)}: {found.said}")
        for each in known
        for found in findings_of(each, limit)
    ]
    findings.sort(key=lambda found: -_WORST.index(found.level))
    if not findings:
        return Level.OK, _all_well(known)
    said = [found.said for found in findings[:_MOST_SAID]]
    more = len(findings) - _MOST_SAID
    return findings[0].level, "; ".join(said) + (f"; and {more} more" if more > 0 else "")


def _all_well(known: tuple[Known, ...]) -> str:
    held = [cut(each.name, 100) for each in known if each.is_paused]
    paused = f"; paused: {', '.join(held)}" if held else ""
    if len(known) > 1:
        return f"{len(known)} services{paused}"
    (only,) = known
    return f"{cut(only.name, 100)}: last success {words.last_success(only)}{paused}"


# What may be wrong with a service -----------------------------------------------------------------


def findings_of(known: Known, max_age: int | None = None) -> Iterator[Finding]:
    """Everything that is not as it should be with a service.

    Args:
        known: the service.
        max_age: how old its last success may be, in microseconds; None for what its settings say.
    """
    if known.unreadable is not None:
        yield Finding(Level.UNKNOWN, "its records cannot be read: another version wrote them")
        return
    if known.settings is None:
        yield Finding(Level.UNKNOWN, "its settings are not known, or cannot be read")
        return
    if not known.alive:
        yield Finding(Level.CRITICAL, "nobody is alive to run it")
    elif not known.may_serve:
        yield Finding(Level.WARNING, "every runner that is alive is drained, or only watches")
    yield from _of_open_run(known)
    yield from _of_success(known, max_age)
    if differing := known.differing():
        names = ", ".join(cut(name, 60) for name, _ in differing[:_MOST_SAID])
        yield Finding(Level.WARNING, f"settings differ: {names}")


def _of_open_run(known: Known) -> Iterator[Finding]:
    run = known.open
    if run is None:
        return
    ran = words.lasting(known.now - run.started_at)
    if known.is_overdue:
        yield Finding(Level.CRITICAL, f"overdue: {cut(run.runner_id, 60)} has run for {ran}")
    owner = known.owner()
    if owner is None or owner.life is None or not owner.life.counts_for(run.heartbeat_timeout):
        yield Finding(Level.WARNING, f"{cut(run.runner_id, 60)} runs for {ran}, and is silent")


def _of_success(known: Known, max_age: int | None) -> Iterator[Finding]:
    gate, planner = known.gate, known.planner
    if gate is None or planner is None:
        return
    if max_age is None and known.is_paused:
        return
    success = gate.success
    if success is None:
        since = _waits_since(known)
        if since is not None and known.now > since + (max_age or _tolerance(known, since)):
            yield Finding(Level.CRITICAL, f"no success, due since {words.when(since)}")
        return
    if max_age is not None:
        if known.now - success.at > max_age:
            old = words.ago(known.now - success.at)
            yield Finding(Level.CRITICAL, f"last success {words.when(success.at)}, {old}")
        return
    yield from _by_schedule(known, success)


def _by_schedule(known: Known, success: gates.Success) -> Iterator[Finding]:
    """Whether the period after the last success has not been served, and should have been."""
    assert known.planner is not None  # noqa: S101 (as the caller has seen)
    schedule = known.planner.schedule
    due = microseconds(schedule.period_at(instant(success.due)).until)
    resumed = known.gate.pause if known.gate else None
    if resumed is not None and resumed.until is not None:
        due = max(due, resumed.until)
    if known.now > due + _tolerance(known, due):
        old = words.ago(known.now - success.at)
        yield Finding(Level.CRITICAL, f"last success {words.when(success.at)}, {old}")
    elif _has_failed(known):
        yield Finding(Level.WARNING, words.period(known))


def _has_failed(known: Known) -> bool:
    due, planner, gate = known.last_due, known.planner, known.gate
    if due is None or planner is None or gate is None:
        return False
    return gates.attempts_at(gate, due) >= planner.rules.attempts


def _waits_since(known: Known) -> int | None:
    """The first due instant that the service could have served; None where none has come."""
    assert known.gate is not None  # noqa: S101 (as the caller has seen)
    assert known.planner is not None  # noqa: S101 (as the caller has seen)
    first = known.planner.schedule.period_at(instant(known.gate.floor)).until
    due = microseconds(first)
    return due if due <= known.now else None


def _tolerance(known: Known, due: int) -> int:
    """How long after a due instant its success may come.

    As long as a run may start, which is the period where nothing else is said, and then as long as
    it may take: the timeout, or else a period more.
    """
    assert known.planner is not None  # noqa: S101 (as the caller has seen)
    assert known.settings is not None  # noqa: S101 (as the caller has seen)
    period = known.planner.schedule.period_at(instant(due))
    length = microseconds(period.until - period.due)
    within = known.planner.rules.start_within
    timeout = known.settings.timeout
    may_start = length if within is None else min(length, within)
    may_take = length if timeout is None else microseconds(timeout)
    return may_start + may_take
