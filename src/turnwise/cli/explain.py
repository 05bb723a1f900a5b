"""``turnwise explain``: the claim that a runner would get, in words."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import typer
from rich.padding import Padding

from turnwise.atomic_service import AtomicServiceClaim, AtomicServiceDecisionReason
from turnwise.backends import Backend, ExecutionRecord, Look, leaves_cycle_open
from turnwise.cli.errors import BadInput
from turnwise.cli.options import At, BackendUrl, Json, Service
from turnwise.cli.output import clock, console, literal, print_json, rounded
from turnwise.cli.storage import is_dead, open_existing, required_settings
from turnwise.durations import format_duration
from turnwise.membership import RunnerRecord, stable_set, why_not_stable
from turnwise.old_settings import Settings
from turnwise.timetable import NextTurn, Slot, decide, first_cycle_after_joining, next_turn, slot_at

_Reason = AtomicServiceDecisionReason
_MOST_WITHOUT_A_SLOT = 10


@dataclass(frozen=True, slots=True)
class _Answer:
    """What there is to say of one runner."""

    claim: AtomicServiceClaim
    look: Look
    settings: Settings
    record: RunnerRecord | None
    why_outside: str | None
    open_from: datetime
    next_turn: NextTurn | None
    counts_from: datetime | None
    in_the_way: ExecutionRecord | None


def explain(
    *,
    backend: BackendUrl,
    service: Service,
    runner: Annotated[
        str | None,
        typer.Option(
            "--runner",
            metavar="ID",
            show_default="all that have a slot, or ten where none has",
            help="Whose claim.",
        ),
    ] = None,
    at: At = None,
    as_json: Json = False,
) -> int:
    """Say what a runner would be told now, and why: reason, owner, slot, and its next turn."""
    with open_existing(backend) as storage:
        settings = required_settings(storage, service)
        look = storage.peek(service, settings, at)
        records = {record.runner_id: record for record in storage.runners(service)}
        if runner is not None and runner not in records:
            known = ", ".join(list(records)[:10]) or "none"
            raise BadInput(f"service {service!r} knows no runner {runner!r}; known are: {known}")
        ids = [runner] if runner is not None else [r.runner_id for r in look.scheduled]
        ids = ids or list(records)[:_MOST_WITHOUT_A_SLOT]
        prior, dead = _gate_holds(storage, service, settings, look)
        answers = [_answer(service, settings, look, records, name, prior) for name in ids]
    if as_json:
        print_json(
            [_as_json(answer) for answer in answers] if runner is None else _as_json(answers[0])
        )
        return 0
    _print_cycle(service, settings, look, prior or dead)
    for answer in answers:
        console.print()
        console.print(literal(f"runner {answer.claim.runner_id}: {answer.claim.reason}"))
        for line in _in_words(answer):
            console.print(Padding(literal(line), (0, 0, 0, 2), expand=False))
    others = len(records) - len(answers)
    if runner is None and others:
        console.print(f"\nwithout a slot in this cycle: {others}; --runner ID says why")
    return 0


def _answer(
    service: str,
    settings: Settings,
    look: Look,
    records: dict[str, RunnerRecord],
    runner_id: str,
    prior: ExecutionRecord | None,
) -> _Answer:
    record = records.get(runner_id)
    stable = stable_set(records.values(), look.cycle.start, settings)
    outside = None if record is None else why_not_stable(record, look.cycle.start, settings)
    counts_from = None
    if (
        record is not None
        and outside is not None
        and record.left_at is None
        and record.creation_time >= (look.cycle.start - settings.spread_margin)
    ):
        counts_from = first_cycle_after_joining(record.creation_time, settings).start
    claim = decide(runner_id, look.scheduled, look.now, settings)
    open_from = look.now
    if prior is not None and not prior.execution.is_active:
        open_from = look.cycle.end  # the cycle is served
    elif claim.reason is _Reason.SCHEDULED_RUNNER_IN_GRACE:
        assigned = next(r for r in look.scheduled if r.runner_id == claim.assigned_runner_id)
        open_from = assigned.creation_time + settings.membership_stabilization
    return _Answer(
        claim,
        look,
        settings,
        record,
        outside,
        open_from,
        next_turn(runner_id, stable, service, open_from, settings),
        counts_from,
        prior,
    )


def _gate_holds(
    storage: Backend, service: str, settings: Settings, look: Look
) -> tuple[ExecutionRecord | None, ExecutionRecord | None]:
    """The run for which the gate would refuse, and the one that it would give up for dead.

    It refuses for an open run, and for one that has served this cycle.
    """
    recent = storage.executions(service, since=look.cycle.start)
    dead = None
    for record in recent:
        if is_dead(record, look.now, settings):
            dead = record
        elif record.execution.is_active:
            return record, None
    if settings.runs_per_cycle == "once":
        for record in recent:
            admitted = record.fencing_token is not None and not record.execution.is_active
            kept_served = not leaves_cycle_open(record.status, record.reason, settings)
            if admitted and kept_served and record.cycle_start == look.cycle.start:
                return record, dead
    return None, dead


def _print_cycle(
    service: str, settings: Settings, look: Look, prior: ExecutionRecord | None
) -> None:
    cycle = f"{clock(look.cycle.start, look.now)} to {clock(look.cycle.end, look.now)}"
    lines = [
        f"service {service} at {clock(look.now)} UTC",
        f"cycle {cycle} ({format_duration(settings.interval)})",
        f"stable runners: {look.size}, with a slot: {len(look.scheduled)}",
    ]
    if prior is not None:
        lines.append(f"the gate: {_gate(prior, look, settings)}")
    console.print(literal("\n".join(lines)))


def _gate(prior: ExecutionRecord, look: Look, settings: Settings) -> str:
    since = clock(prior.start_time, look.now)
    if prior.execution.is_active:
        heard = rounded(look.now - prior.last_heartbeat)
        if is_dead(prior, look.now, settings):
            return (
                f"the run of {prior.runner_id} since {since} was last heard of {heard} ago, and is "
                f"given up for dead at the next start (run {prior.run_id})"
            )
        return (
            f"{prior.runner_id} runs since {since}, last heard of {heard} ago (run {prior.run_id})"
        )
    return f"{prior.runner_id} has served this cycle at {since} ({prior.status})"


def _in_words(answer: _Answer) -> list[str]:
    claim, now = answer.claim, answer.look.now
    lines = [_why(answer)]
    if claim.assigned_runner_id is not None:
        position = [r.runner_id for r in answer.look.scheduled].index(claim.assigned_runner_id)
        owned = _slot(position, claim.assigned_runner_id, answer)
        lines.append(
            f"now belongs to {claim.assigned_runner_id} until {clock(owned.guard_end, now)}, "
            f"guard time from {clock(owned.end, now)}"
        )
    if claim.slot_start is not None:
        lines.append(f"its slot: {clock(claim.slot_start, now)} to {clock(claim.slot_end, now)}")
    return [*lines, _next(answer)]


def _slot(position: int, runner_id: str, answer: _Answer) -> Slot:
    look = answer.look
    return slot_at(position, len(look.scheduled), runner_id, look.cycle.start, answer.settings)


def _why(answer: _Answer) -> str:
    claim = answer.claim
    if claim.skip_message:
        return claim.skip_message
    if claim.reason is _Reason.ASSIGNED:
        if answer.in_the_way is None:
            return "it may start now"
        gate = _gate(answer.in_the_way, answer.look, answer.settings)
        return f"it is its time, and the gate refuses: {gate}"
    if claim.runner_position is not None:
        return "it has a slot in this cycle, and it is not now"
    if answer.why_outside is not None:
        return f"it does not count in this cycle: {answer.why_outside}"
    return "it sleeps through this cycle: others are primary and standby"


def _next(answer: _Answer) -> str:
    now = answer.look.now
    if answer.next_turn is not None:
        start = max(answer.next_turn.slot.start, answer.open_from)
        when = "now" if start <= now else f"{clock(start, now)} UTC"
        return f"next turn: {when}, as {answer.next_turn.role}, while the runners stay the same"
    if answer.counts_from is not None:
        return f"counts from the cycle at {clock(answer.counts_from, now)} UTC"
    if answer.record is None or answer.why_outside is None:
        return "next turn: never with this margin"
    return "next turn: after it has come back, from the next cycle on"


def _as_json(answer: _Answer) -> dict[str, object]:
    claim, upcoming = answer.claim, answer.next_turn
    return {
        "runner_id": claim.runner_id,
        "now": answer.look.now,
        "reason": str(claim.reason),
        "why": _why(answer),
        "should_try_start": claim.should_try_start,
        "assigned_runner_id": claim.assigned_runner_id,
        "runner_position": claim.runner_position,
        "is_slot_owner_now": claim.is_slot_owner_now,
        "cycle_start": claim.cycle_start,
        "cycle_end": answer.look.cycle.end,
        "slot_start": claim.slot_start,
        "slot_end": claim.slot_end,
        "late_start_fraction": claim.late_start_fraction,
        "stable_runners": answer.look.size,
        "why_not_stable": answer.why_outside,
        "next_turn": None if upcoming is None else upcoming.slot.start,
        "next_role": None if upcoming is None else str(upcoming.role),
    }
