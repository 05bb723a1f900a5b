"""What is not as it should be with a service, and how bad that is.

``turnwise check`` and the page's ``/healthz`` say the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from turnwise import gate as gates
from turnwise.cycles import instant, microseconds
from turnwise.overview import words
from turnwise.overview.known import GroupKnown, Known
from turnwise.overview.shown import cut

_MOST_SAID = 5


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


def in_one_line(known: GroupKnown, max_age: int | None = None) -> tuple[Level, str]:
    """How the services of a group are, in one line: the worst of all findings, and what they are.

    Args:
        known: the group.
        max_age: how old a last success may be, in microseconds; None for what the settings say.
    """
    if not known.services:
        return Level.UNKNOWN, f"group {known.group} has no service"
    findings = [
        Finding(found.level, f"{cut(each.name, 100)}: {found.said}")
        for each in known.services
        for found in findings_of(each, max_age)
    ]
    findings.sort(key=lambda found: -_WORST.index(found.level))
    if not findings:
        return Level.OK, _all_well(known.services)
    said = [found.said for found in findings[:_MOST_SAID]]
    more = len(findings) - _MOST_SAID
    return findings[0].level, "; ".join(said) + (f"; and {more} more" if more > 0 else "")


def worst(findings: list[Finding]) -> Level:
    """The level of the worst of some findings; OK where there is none."""
    return max((found.level for found in findings), key=_WORST.index, default=Level.OK)


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
        elif max_age is None and _has_failed(known):
            yield Finding(Level.WARNING, words.period(known))
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
