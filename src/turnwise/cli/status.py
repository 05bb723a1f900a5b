"""``turnwise status``: runners, the current slot, and the last executions."""

import time
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live

from turnwise.backends import Backend, ExecutionRecord, Look
from turnwise.cli.errors import BadInput
from turnwise.cli.options import BackendUrl, Json
from turnwise.cli.output import clock, console, literal, print_json, rounded, table
from turnwise.cli.storage import UNKNOWN_SETTINGS, is_dead, open_existing, required_settings
from turnwise.membership import RunnerRecord, why_not_stable
from turnwise.old_settings import Settings
from turnwise.timetable import Role, Slot, lay_out

_REFRESH_SECONDS = 1.0
_LAST_EXECUTIONS = 10
_STATUS_STYLE = {"running": "bold", "completed": "green", "abandoned": "red", "blocked": "yellow"}


def status(
    *,
    backend: BackendUrl,
    service: Annotated[
        str | None,
        typer.Option("--service", metavar="NAME", show_default="all", help="The service's name."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew each second.")] = False,
    as_json: Json = False,
) -> int:
    """Show the runners of a service, the current slot, and the last executions."""
    if watch and as_json:
        raise BadInput("--watch and --json do not go together")
    with open_existing(backend) as storage:
        if service is not None:
            required_settings(storage, service)
        if as_json:
            settings = _settings(storage, service)
            print_json([_as_json(storage, name, settings[name]) for name in settings])
        elif watch:
            _watch(storage, service)
        else:
            console.print(_all(storage, service))
    return 0


def _watch(storage: Backend, service: str | None) -> None:
    try:
        if not console.is_terminal:
            while True:
                console.print(_all(storage, service))
                time.sleep(_REFRESH_SECONDS)
        with Live(_all(storage, service), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(_REFRESH_SECONDS)
                live.update(_all(storage, service), refresh=True)
    except KeyboardInterrupt:
        return


def _settings(storage: Backend, service: str | None) -> dict[str, Settings | None]:
    """The settings of one service, or of all that there are now; None where they are not known."""
    names = storage.services() if service is None else (service,)
    return {name: storage.settings_of(name) for name in names}


def _all(storage: Backend, service: str | None) -> RenderableType:
    settings = _settings(storage, service)
    if not settings:
        return "no service was ever started on this storage"
    return Group(*(part for name in settings for part in _parts(storage, name, settings[name])))


def _parts(storage: Backend, service: str, settings: Settings | None) -> list[RenderableType]:
    if settings is None:
        return [literal(f"service {service}: {UNKNOWN_SETTINGS}"), ""]
    look = storage.peek(service, settings)
    return [
        literal(f"service {service} at {clock(look.now)} UTC"),
        literal(_slot_line(look, settings)),
        "",
        _runner_table(storage.runners(service), look, settings),
        "",
        _execution_table(storage.executions(service, limit=_LAST_EXECUTIONS), look.now, settings),
        "",
    ]


def _current_slot(look: Look, settings: Settings) -> Slot | None:
    ids = [runner.runner_id for runner in look.scheduled]
    slots = lay_out(ids, look.cycle.start, settings) if ids else ()
    return next((slot for slot in slots if slot.start <= look.now < slot.guard_end), None)


def _slot_line(look: Look, settings: Settings) -> str:
    slot = _current_slot(look, settings)
    cycle = f"cycle {clock(look.cycle.start, look.now)} to {clock(look.cycle.end, look.now)}"
    if slot is None:
        return f"{cycle}; nobody counts in it yet"
    guard = ", guard time" if look.now >= slot.end else ""
    return (
        f"{cycle}; slot of {slot.runner_id} ({slot.role}{guard}) "
        f"until {clock(slot.guard_end, look.now)}"
    )


def _runner_table(
    records: tuple[RunnerRecord, ...], look: Look, settings: Settings
) -> RenderableType:
    rows = table("runner", "alive", "heartbeat", "in the stable set", "role")
    roles = _roles(look, settings)
    for record in records:
        why = why_not_stable(record, look.cycle.start, settings)
        rows.add_row(
            literal(record.runner_id),
            "yes" if _is_alive(record, look.now, settings) else "no",
            f"{rounded(look.now - record.last_heartbeat)} ago",
            "yes" if why is None else f"no: {why}",
            "" if why is not None else roles.get(record.runner_id, str(Role.SLEEPS)),
        )
    return rows


def _roles(look: Look, settings: Settings) -> dict[str, str]:
    ids = [runner.runner_id for runner in look.scheduled]
    slots = lay_out(ids, look.cycle.start, settings) if ids else ()
    return {slot.runner_id: str(slot.role) for slot in slots}


def _is_alive(record: RunnerRecord, now: datetime, settings: Settings) -> bool:
    return record.left_at is None and now - record.last_heartbeat <= settings.heartbeat_timeout


def _execution_table(
    records: tuple[ExecutionRecord, ...], now: datetime, settings: Settings
) -> RenderableType:
    if not records:
        return "no executions yet"
    rows = table("start", "took", "token", "runner", "status", "reason")
    for record in records:
        end = record.end_time or now
        rows.add_row(
            clock(record.start_time, now),
            "" if record.fencing_token is None else rounded(end - record.start_time),
            str(record.fencing_token or ""),
            literal(record.runner_id),
            f"[{_STATUS_STYLE[record.status]}]{record.status}[/]",
            literal(_silence(record, now, settings) or record.reason),
        )
    return rows


def _silence(record: ExecutionRecord, now: datetime, settings: Settings) -> str:
    """What there is to say of an open run that the gate would give up for dead."""
    if not is_dead(record, now, settings):
        return ""
    silent = rounded(now - record.last_heartbeat)
    return f"silent for {silent}: given up for dead at the next start"


def _as_json(storage: Backend, service: str, settings: Settings | None) -> dict[str, object]:
    if settings is None:
        return {"service": service, "error": UNKNOWN_SETTINGS}
    look = storage.peek(service, settings)
    slot = _current_slot(look, settings)
    roles = _roles(look, settings)
    return {
        "service": service,
        "now": look.now,
        "cycle_start": look.cycle.start,
        "cycle_end": look.cycle.end,
        "slot": None
        if slot is None
        else {
            "runner_id": slot.runner_id,
            "role": str(slot.role),
            "start": slot.start,
            "end": slot.end,
            "guard_end": slot.guard_end,
        },
        "runners": [
            {
                "runner_id": record.runner_id,
                "alive": _is_alive(record, look.now, settings),
                "creation_time": record.creation_time,
                "last_heartbeat": record.last_heartbeat,
                "heartbeat_age_seconds": look.now - record.last_heartbeat,
                "left_at": record.left_at,
                "why_not_stable": why_not_stable(record, look.cycle.start, settings),
                "role": roles.get(record.runner_id),
            }
            for record in storage.runners(service)
        ],
        "executions": [
            {
                "run_id": record.run_id,
                "runner_id": record.runner_id,
                "fencing_token": record.fencing_token,
                "cycle_start": record.cycle_start,
                "start_time": record.start_time,
                "end_time": record.end_time,
                "last_heartbeat": record.last_heartbeat,
                "status": str(record.status),
                "reason": record.reason,
            }
            for record in storage.executions(service, limit=_LAST_EXECUTIONS)
        ],
    }
