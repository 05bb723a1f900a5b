"""``turnwise explain``: what a runner would be told now, and why."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated

from rich.padding import Padding

from turnwise.atomic_service import AtomicServiceDecisionReason as Reason
from turnwise.cli.errors import BadInput
from turnwise.cli.explainer import MOST_SHOWN, Answer, Explainer
from turnwise.cli.given import name
from turnwise.cli.options import DEFAULT_GROUP, At, Group, Json, Service, StorageUrl, option
from turnwise.cli.output import console, cut, few, literal, print_json
from turnwise.cli.storage import UNKNOWN_SETTINGS, open_existing, read_known, require_runner
from turnwise.cycles import instant, microseconds
from turnwise.names import printable
from turnwise.overview import words
from turnwise.overview.known import Known
from turnwise.plan import CyclePlan, upcoming
from turnwise.storages import Storage

_MOST_NAMED = 6

EXAMPLES = {
    "explain": """\
turnwise explain --service nightly
turnwise explain --service nightly --runner web-3
""",
}


Runner = Annotated[
    str | None,
    option(
        "--runner",
        parser=name,
        metavar="ID",
        default=f"all that have a slot, or up to {MOST_SHOWN} where none has",
        help="Whom to explain it for.",
    ),
]


def explain(
    *,
    service: Service,
    storage: StorageUrl = None,
    group: Group = DEFAULT_GROUP,
    runner: Runner = None,
    at: At = None,
    as_json: Json = False,
) -> int:
    """Say what a runner would be told now, and why: plan, slot, gate, and its next turn.

    With --at the records are read as they are now, and held against another instant.
    """
    with open_existing(storage) as store:
        explainer = _explainer(store, group, service, runner, at)
    ids = [runner] if runner is not None else explainer.concerned()
    answers = [explainer.answer(runner_id) for runner_id in ids]
    if as_json:
        told = [_as_json(explainer.known, answer) for answer in answers]
        print_json(told if runner is None else told[0])
    else:
        _print(explainer, answers)
    return 0


def _explainer(
    storage: Storage, group: str, service: str, runner: str | None, at: datetime | None
) -> Explainer:
    read = read_known(storage, group, service)
    if runner is not None:
        require_runner(storage, group, runner)
    order = storage.stable(group, service, rotation=0, limit=None).runners
    known = read.services[0]
    if known.unreadable is not None or known.settings is None:
        raise BadInput(f"service {printable(service)!r}: {known.unreadable or UNKNOWN_SETTINGS}")
    if at is not None:
        known = replace(known, now=microseconds(at))
    return Explainer(known, read, [runner_id for runner_id, _ in order])


# Showing it ---------------------------------------------------------------------------------------


def _print(explainer: Explainer, answers: list[Answer]) -> None:
    known, cycle = explainer.known, explainer.cycle
    assert known.planner is not None  # noqa: S101 (as the command has seen)
    lines = [
        f"service {known.name} of group {known.group} at {words.when(known.now)} UTC",
        f"schedule: {known.planner.schedule}; next due {words.when(known.next_due, known.now)}",
        f"plan: {_plan(known, cycle)}",
        f"gate: {explainer.gate()}",
        f"runners that count now: {_named(explainer.order)}",
    ]
    for line in lines:
        _indented(line, 0)
    for answer in answers:
        console.print()
        console.print(literal(f"runner {cut(answer.runner_id, 200)}: {answer.reason}"))
        for line in _in_words(answer, known, cycle):
            _indented(line, 2)
    planned = cycle or upcoming(known.plan, known.now)
    others = 0 if planned is None else planned.size - len(planned.runners)
    if others > 0 and len(answers) == len(planned.runners if planned else ()):
        console.print(f"\nwithout a slot: {others}; --runner ID says why")


def _indented(line: str, by: int) -> None:
    """Print a line so that what is folded stands under it."""
    console.print(Padding(literal(line), (0, 0, 0, by), expand=False))


def _plan(known: Known, cycle: CyclePlan | None) -> str:
    if cycle is None:
        ahead = upcoming(known.plan, known.now)
        if ahead is None:
            return "none for now"
        return f"none for now; the next is for {words.when(ahead.start, known.now)}"
    edges = f"{words.when(cycle.start, known.now)} to {words.when(cycle.end, known.now)}"
    names = _named([runner_id for runner_id, _ in cycle.runners])
    period = "" if cycle.start == cycle.due else f", of the period {words.when(cycle.due)}"
    return f"cycle {edges}{period}, slots of {names}"


def _named(names: Sequence[str]) -> str:
    return few([cut(each, 40) for each in names], _MOST_NAMED) or "none"


def _in_words(answer: Answer, known: Known, cycle: CyclePlan | None) -> list[str]:
    lines = [answer.why]
    if answer.slot is not None and cycle is not None:
        slot = answer.slot
        said = words.role(slot.position, every_slot=cycle.rules.every_slot)
        lines.append(
            f"its slot: {words.when(slot.start, known.now)} to {words.when(slot.end, known.now)}, "
            f"start by {words.when(slot.latest, known.now)}, {said}"
        )
    if answer.reason != "running":
        lines.append(_next(answer, known))
    return lines


def _next(answer: Answer, known: Known) -> str:
    turn = answer.next_turn
    if turn is None:
        return "next turn: not before it counts"
    if known.is_paused and known.gate and known.gate.pause and known.gate.pause.until is None:
        return "next turn: not before it is resumed"
    when = "now" if turn.at <= known.now else f"{words.when(turn.at, known.now)} UTC"
    place = f"as {turn.role}" if turn.role in ("primary", "standby") else f"in {turn.role}"
    served = ", if nobody serves before" if turn.role == "standby" else ""
    sure = "" if turn.planned else " (while the runners stay the same)"
    return f"next turn: {when}, {place}{served}{sure}"


def _as_json(known: Known, answer: Answer) -> dict[str, object]:
    claim, turn, slot, cycle = answer.claim, answer.next_turn, answer.slot, known.cycle
    return {
        "runner_id": answer.runner_id,
        "now": instant(known.now),
        "reason": answer.reason,
        "why": answer.why,
        "may_start": answer.reason == str(Reason.ASSIGNED),
        "assigned_runner_id": None if claim is None else claim.assigned_runner_id,
        "alive": answer.life is not None and answer.life.is_alive,
        "silent_seconds": None if answer.life is None else answer.life.silent / 1_000_000,
        "due": None if cycle is None else instant(cycle.due),
        "cycle_start": None if cycle is None else instant(cycle.start),
        "cycle_end": None if cycle is None else instant(cycle.end),
        "slot_start": None if slot is None else instant(slot.start),
        "slot_end": None if slot is None else instant(slot.end),
        "next_due": None if known.next_due is None else instant(known.next_due),
        "next_turn": None if turn is None else instant(turn.at),
        "next_role": None if turn is None else turn.role,
    }
