"""Log lines: an observer like any other, and the one that every scheduler has.

Each line names its service. Its record carries ``group``, ``service``, ``runner``, ``run_id`` and
``token`` where the event has them (``extra=``), so that a handler of structured logs finds them;
and ``event``, the event itself, for one that wants all of it. The loggers are ``turnwise.runner``
for what is about the process, and ``turnwise.service`` for what is about a service.
"""

import logging
from collections.abc import Callable
from typing import Final

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import duration, instant
from turnwise.durations import format_duration
from turnwise.events import (
    CyclePlanned,
    DuplicateRunner,
    Event,
    Looked,
    NoTurn,
    PeriodMissed,
    RecordUnreadable,
    RunBuried,
    RunnerJoined,
    RunnerLeft,
    ServiceEvent,
    ServiceLeft,
    SettingsDiffer,
    StorageAsked,
    StorageBack,
    StorageLost,
    TurnEnded,
    TurnEvent,
    TurnLost,
    TurnOverdue,
    TurnStarted,
)
from turnwise.names import printable

_runner = logging.getLogger("turnwise.runner")
_service = logging.getLogger("turnwise.service")


_FOR_DEBUGGING: Final = frozenset({CyclePlanned, Looked, StorageAsked})
"""Kinds of events that come often, and whose lines are written for debugging alone."""


def log_event(event: Event) -> None:
    """Write the log line of an event."""
    logger = _service if isinstance(event, ServiceEvent) else _runner
    if type(event) in _FOR_DEBUGGING and not logger.isEnabledFor(logging.DEBUG):
        return
    level, text = _line(event)
    if not logger.isEnabledFor(level):
        return
    extra: dict[str, object] = {
        "group": event.group,
        "runner": event.runner_id,
        "event": event,
    }
    if isinstance(event, ServiceEvent):
        extra["service"] = event.service
        text = f"{printable(event.service)}: {text}"
    if isinstance(event, TurnEvent):
        extra |= {"run_id": event.run_id, "token": event.token}
    logger.log(level, "%s", text, extra=extra)


def _line(event: Event) -> tuple[int, str]:
    """The level and the text of an event's line."""
    write = _LINES.get(type(event))
    return (logging.DEBUG, repr(event)) if write is None else write(event)


def _joined(event: RunnerJoined) -> tuple[int, str]:
    again = " again: its row was gone" if event.again else ""
    return logging.INFO, f"runner {printable(event.runner_id)} has joined{again}"


def _left(event: RunnerLeft) -> tuple[int, str]:
    return logging.INFO, f"runner {printable(event.runner_id)} has left"


def _left_service(event: ServiceLeft) -> tuple[int, str]:
    return logging.INFO, f"runner {printable(event.runner_id)} serves it no more"


def _duplicate(event: DuplicateRunner) -> tuple[int, str]:
    return logging.ERROR, (
        f"another process lives under the runner id {printable(event.runner_id)}: give each "
        "process an id of its own"
    )


def _storage_lost(event: StorageLost) -> tuple[int, str]:
    if event.needs_repair:
        said = "the storage cannot be used until it is repaired; it is tried again until then"
        return logging.ERROR, f"{said}: {printable(event.error)}"
    return logging.WARNING, f"the storage does not answer: {printable(event.error)}"


def _storage_back(event: StorageBack) -> tuple[int, str]:
    return logging.WARNING, f"the storage answers again, after {_took(event.after)}"


def _asked(event: StorageAsked) -> tuple[int, str]:
    failed = "" if event.error is None else f", {printable(event.error)}"
    took = event.took / 1000
    return logging.DEBUG, f"asked the storage: {event.operation}, {took:.1f} ms{failed}"


def _looked(event: Looked) -> tuple[int, str]:
    return logging.DEBUG, f"looked at {_at(event.now)}"


def _planned(event: CyclePlanned) -> tuple[int, str]:
    names = ", ".join(map(printable, event.runners))
    why = "again, as nobody of the plan was left: " if event.void else ""
    return logging.DEBUG, f"planned {why}the cycle of {_at(event.start)}: {names}"


def _no_turn(event: NoTurn) -> tuple[int, str]:
    said = f" ({printable(event.message)})" if event.message else ""
    return logging.INFO, f"no turn: {printable(event.reason)}{said}"


def _started(event: TurnStarted) -> tuple[int, str]:
    attempt = f", attempt {event.attempt}" if event.attempt > 1 else ""
    return logging.INFO, f"turn {event.token} starts{attempt}, due {_at(event.due)}"


def _ended(event: TurnEnded) -> tuple[int, str]:
    how = f"{event.status} {printable(event.reason)}".rstrip()
    text = f"turn {event.token} ends after {_took(event.took)}: {how}"
    if not event.recorded:
        return logging.ERROR, f"{text}; somebody else had closed its run before"
    return (logging.INFO if event.status is Status.COMPLETED else logging.WARNING), text


def _lost(event: TurnLost) -> tuple[int, str]:
    return logging.ERROR, f"turn {event.token} is lost: {printable(event.why)}"


def _overdue(event: TurnOverdue) -> tuple[int, str]:
    return logging.ERROR, f"turn {event.token} has passed its timeout of {_took(event.timeout)}"


def _buried(event: RunBuried) -> tuple[int, str]:
    return logging.WARNING, (
        f"closed turn {event.token} of runner {printable(event.owner)}, which is silent or has left"
    )


def _missed(event: PeriodMissed) -> tuple[int, str]:
    if event.count > 1:
        which = (
            f"{event.count} periods from the one due {_at(event.due)} to {_at(event.until)} were"
        )
    else:
        which = f"the period due {_at(event.due)} was"
    return logging.ERROR, f"{which} missed: {event.why}"


def _differ(_: SettingsDiffer) -> tuple[int, str]:
    return logging.WARNING, "the plan in force was made by other settings than this runner's"


def _unreadable(event: RecordUnreadable) -> tuple[int, str]:
    return logging.ERROR, f"a record cannot be read: {printable(event.error)}"


_LINES: dict[type[Event], Callable[..., tuple[int, str]]] = {
    RunnerJoined: _joined,
    RunnerLeft: _left,
    ServiceLeft: _left_service,
    DuplicateRunner: _duplicate,
    StorageLost: _storage_lost,
    StorageBack: _storage_back,
    StorageAsked: _asked,
    Looked: _looked,
    CyclePlanned: _planned,
    NoTurn: _no_turn,
    TurnStarted: _started,
    TurnEnded: _ended,
    TurnLost: _lost,
    TurnOverdue: _overdue,
    RunBuried: _buried,
    PeriodMissed: _missed,
    SettingsDiffer: _differ,
    RecordUnreadable: _unreadable,
}


def _at(at: int) -> str:
    return instant(at).isoformat().replace("+00:00", "Z")


def _took(length: int) -> str:
    return format_duration(duration(round(length, -3)))
