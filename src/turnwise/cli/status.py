"""``turnwise status``: the services of a group, its runners, and the last executions."""

import time
from collections.abc import Iterable, Mapping
from typing import Annotated

from rich.console import Group as Block
from rich.console import RenderableType
from rich.live import Live
from rich.table import Table

from turnwise.cli.errors import BadInput
from turnwise.cli.options import DEFAULT_GROUP, Group, Json, ServiceOrAll, StorageUrl, option
from turnwise.cli.output import STYLES, console, cut, literal, print_json, table
from turnwise.cli.storage import UNKNOWN_SETTINGS, open_existing, other_groups, read_known
from turnwise.cycles import instant
from turnwise.gate import Execution, open_row
from turnwise.overview import words
from turnwise.overview.known import GroupKnown, Known, is_gone, rows_of, works
from turnwise.overview.lives import Life
from turnwise.storages import Storage

_REFRESH_SECONDS = 1.0
_LAST_EXECUTIONS = 5
_FEWEST_RUNNERS = 5
_MOST_DIFFERENCES = 3
_LONGEST_NAME = 28

EXAMPLES = {
    "status": """\
turnwise status
turnwise status --service nightly --watch
turnwise status --json | jq '.services[].state'
""",
}


Watch = Annotated[bool, option("--watch", help="Show it anew each second, until Ctrl-C.")]
EveryRunner = Annotated[bool, option("--all", help="List every runner, also those that are gone.")]


def status(
    *,
    storage: StorageUrl = None,
    group: Group = DEFAULT_GROUP,
    service: ServiceOrAll = None,
    watch: Watch = False,
    every: EveryRunner = False,
    as_json: Json = False,
) -> int:
    """Show what the services of a group do, who is alive, and what ran last.

    Instants are in UTC, by the storage's clock.
    """
    if watch and as_json:
        raise BadInput("--watch and --json do not go together")
    with open_existing(storage) as store:
        if as_json:
            print_json(_as_json(store, read_known(store, group, service)))
        elif watch:
            _watch(store, group, service, every=every)
        else:
            console.print(_shown(store, group, service, every=every))
    return 0


def _watch(storage: Storage, group: str, service: str | None, *, every: bool) -> None:
    def shown() -> RenderableType:
        return _shown(storage, group, service, every=every)

    try:
        if not console.is_terminal:
            while True:
                console.print(shown())
                time.sleep(_REFRESH_SECONDS)
        with Live(shown(), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(_REFRESH_SECONDS)
                live.update(shown(), refresh=True)
    except KeyboardInterrupt:
        return


# As text ------------------------------------------------------------------------------------------


def _shown(storage: Storage, group: str, service: str | None, *, every: bool) -> RenderableType:
    known = read_known(storage, group, service)
    if not known.services:
        hint = other_groups(storage, group)
        return literal(f"group {group}: no service was ever started; {hint}")
    executions = _last_executions(storage, known)
    blocks: list[RenderableType] = []
    if len(known.services) == 1:
        blocks += [*_one_service(known.services[0], known.now), ""]
    else:
        blocks += [literal(f"group {group} at {words.second(known.now)} UTC"), ""]
        blocks += [_service_table(known.services, known.now), ""]
    concerned = _concerned(known, service)
    room, is_cramped = len(concerned), console.is_terminal and not every
    executed = _execution_table(executions, known, with_service=len(known.services) > 1)
    if is_cramped:
        # A line each for the heads, the count of runners, what is empty, and the prompt.
        taken = len(console.render_lines(Block(*blocks, executed)))
        room = max(_FEWEST_RUNNERS, console.height - taken - 4)
    longest = _LONGEST_NAME if is_cramped else 60
    blocks += _runner_blocks(concerned, known, room=room, every=every, longest=longest)
    blocks += ["", executed]
    return Block(*blocks)


def _one_service(known: Known, now: int) -> list[RenderableType]:
    rows = table("", "")
    rows.show_header = False
    for name, text in _facts(known).items():
        rows.add_row(name, literal(text))
    return [
        literal(
            f"service {cut(known.name, 200)} of group {known.group} at {words.second(now)} UTC"
        ),
        rows,
    ]


def _facts(known: Known) -> dict[str, str]:
    if known.settings is None:
        return {"state": words.state(known), "settings": UNKNOWN_SETTINGS}
    facts = {
        "schedule": words.schedule(known),
        "state": words.state(known),
        "next due": _next_due(known),
        "next in line": words.next_in_line(known),
        "last success": words.last_success(known),
    }
    if differing := known.differing():
        facts["settings"] = _differences(differing)
    return facts


def _next_due(known: Known) -> str:
    due = known.next_due
    if due is None:
        return ""
    return f"{words.when(due, known.now)}, in {words.lasting(due - known.now)}"


def _differences(differing: list[tuple[str, tuple[str, ...]]]) -> str:
    shown = [
        f"{cut(runner_id, _LONGEST_NAME)} offers others ({'; '.join(differences)})"
        for runner_id, differences in differing[:_MOST_DIFFERENCES]
    ]
    more = len(differing) - _MOST_DIFFERENCES
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")


def _service_table(services: Iterable[Known], now: int) -> RenderableType:
    rows = table("service", "schedule", "next due", "last success", "state")
    for known in services:
        success = None if known.gate is None else known.gate.success
        schedule = "not known" if known.settings is None else words.schedule(known)
        said = words.state(known)
        if known.differing():
            said += "; settings differ"
        rows.add_row(
            literal(cut(known.name, _LONGEST_NAME)),
            literal(schedule),
            words.second(known.next_due, now),
            "" if success is None else words.second(success.at, now),
            literal(said),
        )
    return rows


# Runners ------------------------------------------------------------------------------------------


def _concerned(known: GroupKnown, service: str | None) -> list[Life]:
    """The lives of the group, or those that offer the one service that is asked for."""
    if service is None:
        return list(known.lives)
    offers = known.services[0].offers
    return [offered.life for offered in offers if offered.life is not None]


def _runner_blocks(
    lives: list[Life], known: GroupKnown, *, room: int, every: bool, longest: int
) -> list[RenderableType]:
    alive_ids = {life.row.runner_id for life in lives if life.is_alive}
    gone = [life for life in lives if is_gone(life, alive_ids)]
    listed = [life for life in lives if every or not is_gone(life, alive_ids)]
    if not lives:
        return ["no runner is known"]
    at_work = works(known)
    listed.sort(key=lambda life: (_interest(life, at_work), life.row.runner_id, life.row.joined_at))
    rows = table("runner", "alive", "since", "heard of", "does", "offers")
    for life in listed[:room]:
        _add_runner(rows, life, known, at_work, longest)
    counted = literal(_counts(len(alive_ids), len(listed) - room, gone))
    return [rows, counted] if listed else [counted]


def _counts(alive: int, hidden: int, gone: list[Life]) -> str:
    said = [f"{alive} alive"]
    if hidden > 0:
        said.append(f"{hidden} of them not shown (--all shows all)")
    if gone:
        last = min(gone, key=lambda life: life.silent)
        who = cut(last.row.runner_id, _LONGEST_NAME)
        said.append(f"{len(gone)} gone, the last {who} {words.ago(last.silent)}")
    return "runners: " + ", ".join(said)


def _interest(life: Life, works: Mapping[tuple[str, str], list[str]]) -> int:
    """What should be seen first where there is little room."""
    if not life.is_alive:
        return 0
    if (life.row.runner_id, life.row.boot_id) in works:
        return 1
    return 2 if life.row.drained else 3


def _add_runner(
    rows: Table,
    life: Life,
    known: GroupKnown,
    works: Mapping[tuple[str, str], list[str]],
    longest: int,
) -> None:
    key = (life.row.runner_id, life.row.boot_id)
    does = [f"runs {cut(name, _LONGEST_NAME)}" for name in works.get(key, [])]
    if life.row.drained:
        does.append("drained")
    alive = "left" if life.has_left else "yes" if life.is_alive else "silent"
    rows.add_row(
        literal(cut(life.row.runner_id, longest)),
        alive,
        words.second(life.row.joined_at, known.now),
        words.ago(life.silent),
        literal(", ".join(does)),
        literal(_offers(life, known)),
    )


def _offers(life: Life, known: GroupKnown) -> str:
    names = _offered(life, known)
    return names[0] if len(names) == 1 else f"{len(names)} services"


def _offered(life: Life, known: GroupKnown) -> list[str]:
    key = (life.row.runner_id, life.row.boot_id)
    return [
        cut(each.name, _LONGEST_NAME)
        for each in known.services
        if any((o.row.offer.runner_id, o.row.offer.boot_id) == key for o in each.offers)
    ]


# Executions ---------------------------------------------------------------------------------------


def _last_executions(storage: Storage, known: GroupKnown) -> list[tuple[str, Execution]]:
    found = [
        (each.name, row)
        for each in known.services
        for row in rows_of(storage, each, last=_LAST_EXECUTIONS, kinds=_STATUSES)
        if isinstance(row, Execution)
    ]
    found.sort(key=lambda pair: (pair[1].started_at, pair[1].id))
    return found[-_LAST_EXECUTIONS:]


_STATUSES = tuple(status.value for status in STYLES)


def _execution_table(
    executions: list[tuple[str, Execution]], known: GroupKnown, *, with_service: bool
) -> RenderableType:
    if not executions:
        return "no executions yet"
    first = ("service",) if with_service else ()
    rows = table("start", *first, "took", "runner", "status", "reason")
    for name, row in reversed(executions):
        named = (literal(cut(name, _LONGEST_NAME)),) if with_service else ()
        rows.add_row(
            words.second(row.started_at, known.now),
            *named,
            words.took(row, known.now),
            literal(cut(row.runner_id, 60)),
            f"[{STYLES[row.status]}]{row.status}[/]",
            literal(cut(row.reason)),
        )
    return rows


# As JSON ------------------------------------------------------------------------------------------


def _as_json(storage: Storage, known: GroupKnown) -> dict[str, object]:
    return {
        "group": known.group,
        "now": instant(known.now),
        "services": [_service_as_json(storage, each) for each in known.services],
        "runners": [
            {
                "runner_id": life.row.runner_id,
                "boot_id": life.row.boot_id,
                "alive": life.is_alive,
                "joined_at": instant(life.row.joined_at),
                "heard_at": instant(life.row.heard_at),
                "silent_seconds": life.silent / 1_000_000,
                "left_at": None if life.row.left_at is None else instant(life.row.left_at),
                "drained": life.row.drained,
                "offers": _offered(life, known),
            }
            for life in known.lives
        ],
    }


def _service_as_json(storage: Storage, known: Known) -> dict[str, object]:
    upcoming, success = known.next_slot(), None if known.gate is None else known.gate.success
    executions = rows_of(storage, known, last=_LAST_EXECUTIONS, kinds=_STATUSES)
    return {
        "service": known.name,
        "error": known.unreadable or (UNKNOWN_SETTINGS if known.settings is None else None),
        "schedule": None if known.planner is None else str(known.planner.schedule),
        "state": words.state(known),
        "paused": known.is_paused,
        "overdue": known.is_overdue,
        "next_due": None if known.next_due is None else instant(known.next_due),
        "last_success": None if success is None else instant(success.at),
        "last_success_due": None if success is None else instant(success.due),
        "next_runner_id": None if upcoming is None else upcoming.runner_id,
        "next_slot_start": None if upcoming is None else instant(upcoming.slot.start),
        "alive": known.alive,
        "settings_differ": {name: list(texts) for name, texts in known.differing()},
        "open_run": None if known.open is None else words.row_as_json(open_row(known.open)),
        "executions": [words.row_as_json(row) for row in executions],
    }
