"""What commands and pages say of instants, durations, settings and gates, in words."""

from datetime import datetime

from turnwise.cycles import duration, instant
from turnwise.gate import Command, CommandName, Execution, Row, attempts_at, is_served
from turnwise.gate import horizon as horizon_of
from turnwise.names import printable
from turnwise.overview.known import Known, NextSlot
from turnwise.overview.shown import clock, cut, rounded
from turnwise.settings import Settings


def when(at: int | None, beside: int | None = None) -> str:
    """An instant in UTC, without its date where it is on the day of ``beside``."""
    return clock(at, beside).removesuffix(".000")


def second(at: int | None, beside: int | None = None) -> str:
    """The same, to the second: for tables, where a column must not be wide."""
    return clock(at, beside).partition(".")[0]


def lasting(length: int) -> str:
    """A duration in microseconds; a negative one, as clocks may make it, is none."""
    return rounded(duration(max(0, length)))


def ago(length: int) -> str:
    """How long ago something was."""
    return f"{lasting(length)} ago"


def role(position: int, *, every_slot: bool) -> str:
    """What the runner of a slot is, by the slot's place."""
    if every_slot:
        return "its own slot"
    return "primary" if position == 0 else "standby"


def took(row: Execution, now: int) -> str:
    """How long a run took, or has taken; nothing for one that was not let start."""
    if row.token is None:
        return ""
    return lasting((now if row.ended_at is None else row.ended_at) - row.started_at)


def schedule(known: Known) -> str:
    """The schedule that holds, as its text, for a service whose settings are known."""
    assert known.planner is not None  # noqa: S101 (as the caller has seen)
    text = str(known.planner.schedule)
    return f"{text}, one run in each slot" if known.planner.rules.every_slot else text


def open_run(known: Known) -> str:
    """Who runs, since when, and what there is to worry about."""
    run = known.open
    assert run is not None  # noqa: S101 (as the caller has seen)
    said = f"{printable(run.runner_id)} runs since {when(run.started_at, known.now)}"
    if run.trigger is not None:
        said += ", triggered"
    elif run.attempt > 1:
        said += f", attempt {run.attempt}"
    owner = known.owner()
    sight = known.sight
    if (sight is not None and sight.left) or (owner and owner.life and owner.life.has_left):
        return f"{said}; it has left: given up for dead at the next look"
    if owner is None or owner.life is None:
        return f"{said}; its runner is not known any more"
    silent = owner.life.silent
    if silent > run.heartbeat_timeout:
        return f"{said}; silent for {lasting(silent)}: given up for dead soon"
    if known.is_overdue:
        return f"{said}; OVERDUE, its timeout is over"
    return f"{said}; heard of {ago(silent)}"


def state(known: Known) -> str:
    """What the service does now."""
    if known.unreadable is not None:
        return "cannot be read: another version of turnwise wrote it"
    if known.open is not None:
        return open_run(known) + (f"; {paused(known)}" if known.is_paused else "")
    if known.is_paused:
        return paused(known)
    if not known.may_serve:
        return "nobody is there to run it"
    if known.gate is not None and known.gate.trigger is not None:
        return f"triggered by {cut(known.gate.trigger.by, 40)}, waits for a slot"
    return "waits" if known.is_over or known.gate is None else late(known)


def paused(known: Known) -> str:
    """Who paused the service, when, until when, and why."""
    assert known.gate is not None  # noqa: S101 (as the caller has seen)
    pause = known.gate.pause
    assert pause is not None  # noqa: S101 (as the caller has seen)
    until = "" if pause.until is None else f" until {when(pause.until, known.now)}"
    why = f": {cut(pause.reason)}" if pause.reason else ""
    return f"paused{until} since {when(pause.at, known.now)} by {cut(pause.by, 40)}{why}"


def late(known: Known) -> str:
    """That the period that contains now is not served yet, and how far it is."""
    due, planner, gate = known.last_due, known.planner, known.gate
    if due is None or planner is None or gate is None:
        return "waits"
    failed = attempts_at(gate, due)
    tried = f", {failed} of {planner.rules.attempts} attempts failed" if failed else ""
    return f"due since {when(due, known.now)}, not served yet{tried}"


def period(known: Known) -> str:
    """What the gate says of the period that contains now."""
    due, until, gate, planner = known.last_due, known.next_due, known.gate, known.planner
    if due is None or until is None or planner is None:
        return "its settings are not known"
    if gate is None:
        return "nothing was ever admitted"
    if is_served(gate, due, now=known.now, ahead=horizon_of(due, until)):
        return f"the period of {when(due, known.now)} is served"
    failed = attempts_at(gate, due)
    if failed >= planner.rules.attempts:
        return f"the period of {when(due, known.now)} has failed, {failed} times"
    if known.is_over:
        return f"it is too late to start for {when(due, known.now)}"
    return late(known)


def next_in_line(known: Known) -> str:
    """Who would start next, and when."""
    pause = known.gate.pause if known.gate is not None and known.is_paused else None
    upcoming = known.next_slot()
    if upcoming is not None and pause is None:
        return _slot(upcoming, known)
    if known.next_due is None:
        return ""
    if not known.may_serve:
        return "nobody is there"
    if pause is not None and (upcoming is not None or pause.until is None or not known.is_over):
        return "nobody while it is paused"
    return f"is planned shortly before {when(known.next_due, known.now)}"


def _slot(upcoming: NextSlot, known: Known) -> str:
    start = max(upcoming.slot.start, known.now)
    at = "now" if start == known.now else f"at {when(start, known.now)}"
    every_slot = upcoming.cycle.rules.every_slot
    what = role(upcoming.slot.position, every_slot=every_slot)
    return f"{printable(upcoming.runner_id)} {at}, {what}"


def last_success(known: Known) -> str:
    """When the service last ended well."""
    success = None if known.gate is None else known.gate.success
    if success is None:
        return "never, as far as is known"
    return f"{when(success.at, known.now)}, {ago(known.now - success.at)}"


# A row --------------------------------------------------------------------------------------------


def of_execution(row: Execution) -> str:
    """Why it ended as it did, and what was special about it."""
    parts = [cut(row.reason)] if row.reason else []
    if row.trigger is not None:
        parts.append("triggered")
    elif row.attempt > 1:
        parts.append(f"attempt {row.attempt}")
    return ", ".join(parts)


def of_command(row: Command) -> str:
    """What is to be said of a command behind who gave it."""
    if row.name in (CommandName.SETTINGS, CommandName.OFFERED):
        return f": {_in_short(row.settings)}"
    until = "" if row.until is None else f" until {second(row.until, row.at)}"
    why = f": {cut(row.reason)}" if row.reason else ""
    return f"{until}{why}"


def _in_short(text: str | None) -> str:
    """The settings of a row: the schedule, and what is not the default."""
    try:
        settings = Settings.from_json(text or "")
        plain = Settings(schedule=settings.schedule)
    except (ValueError, ImportError):
        return "settings of another version"
    others = [each.partition(", not ")[0] for each in settings.differences(plain)]
    return "; ".join([str(settings.schedule), *others])


# A row as JSON ------------------------------------------------------------------------------------


def row_as_json(row: Row) -> dict[str, object]:
    """A row of a history for a script: instants as such, in UTC."""
    return _command_as_json(row) if isinstance(row, Command) else _execution_as_json(row)


def _command_as_json(row: Command) -> dict[str, object]:
    return {
        "id": row.id,
        "kind": "command",
        "command": str(row.name),
        "at": instant(row.at),
        "by": row.by,
        "reason": row.reason,
        "until": _instant(row.until),
        "settings": row.settings,
    }


def _execution_as_json(row: Execution) -> dict[str, object]:
    return {
        "id": row.id,
        "kind": "execution",
        "runner_id": row.runner_id,
        "status": str(row.status),
        "reason": row.reason,
        "due": instant(row.due),
        "started_at": instant(row.started_at),
        "ended_at": _instant(row.ended_at),
        "fencing_token": row.token,
        "attempt": row.attempt,
        "position": row.position,
        "cycle_start": instant(row.cycle_start),
        "slot_start": _instant(row.slot_start),
        "slot_end": _instant(row.slot_end),
        "stable_runners": row.size,
        "trigger": row.trigger,
    }


def _instant(at: int | None) -> datetime | None:
    return None if at is None else instant(at)
