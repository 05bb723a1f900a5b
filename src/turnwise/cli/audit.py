"""``turnwise audit``: what became of each period that was due."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Annotated

from rich.table import Table

from turnwise.audit import IN_WORDS, Audit, Judged, Verdict
from turnwise.cli.given import instant_or_duration
from turnwise.cli.history import start_of
from turnwise.cli.options import DEFAULT_GROUP, Group, Json, ServiceOrAll, StorageUrl, option
from turnwise.cli.output import console, cut, literal, print_json, table
from turnwise.cli.storage import open_existing, read_known
from turnwise.cycles import SECOND, instant
from turnwise.overview import words
from turnwise.overview.verdicts import audited, of_period

_THIRTY_DAYS = timedelta(days=30)
_MOST_LINES = 20
_STYLES = {
    Verdict.SERVED: "green",
    Verdict.MISSED: "bold red",
    Verdict.PAUSED: "yellow",
    Verdict.OPEN: "bold",
    Verdict.UNKNOWN: "dim",
}

EXAMPLES = {
    "audit": """\
turnwise audit
turnwise audit --service nightly --since 90d
turnwise audit --since 1d --json || page somebody
""",
}


Since = Annotated[
    datetime,
    option(
        "--since",
        parser=instant_or_duration,
        default="30d",
        help="Judge what was due from this instant on, or from so long ago, such as 7d.",
    ),
]
EveryPeriod = Annotated[
    bool, option("--all", help="List every period, and not those alone that went wrong.")
]


def audit(
    *,
    storage: StorageUrl = None,
    group: Group = DEFAULT_GROUP,
    service: ServiceOrAll = None,
    since: Since = _THIRTY_DAYS,  # type: ignore[assignment] # both are read
    every: EveryPeriod = False,
    as_json: Json = False,
) -> int:
    """Say for each period that was due whether it was served, and if not, why.

    A period is judged by the schedule and the pauses that held then. What lies before the first
    plan, or what retention has forgotten, is unknown, and never missed. Exit status 1 where a
    period was missed, or served twice.
    """
    with open_existing(storage) as store:
        known = read_known(store, group, service)
        audits = [audited(store, each, start_of(since, known.now) or 0) for each in known.services]
    if as_json:
        print_json([_as_json(each) for each in audits])
    else:
        _print_all(audits, group, every=every)
    return 0 if all(each.is_well for each in audits) else 1


# As text ------------------------------------------------------------------------------------------


def _print_all(audits: Sequence[Audit], group: str, *, every: bool) -> None:
    if not audits:
        console.print(literal(f"group {group}: no service was ever started"))
    for number, each in enumerate(audits):
        if number:
            console.print()
        _print(each, every=every)


def _print(found: Audit, *, every: bool) -> None:
    console.print(
        literal(
            f"service {cut(found.service, 200)} from {words.second(found.since)} to "
            f"{words.second(found.until - 1)} UTC"
        )
    )
    console.print(literal(f"  {_totals(found)}"))
    for cause, count in found.causes.items():
        console.print(f"  {count:,} missed: {IN_WORDS[cause]}")
    for line in _what_is_not_known(found):
        console.print(literal(f"  {line}"))
    shown = [each for each in found.periods if every or each.is_bad]
    if shown:
        console.print(_table(shown, every=every))


def _totals(found: Audit) -> str:
    totals = found.totals
    said = [
        f"{count:,} {verdict}" for verdict, count in totals.items() if count or verdict == "served"
    ]
    if found.served_twice:
        said.append(f"{found.served_twice:,} served twice")
    total = len(found.periods)
    return f"{total:,} period{'' if total == 1 else 's'} due: {', '.join(said)}"


def _what_is_not_known(found: Audit) -> list[str]:
    if found.known_from is None:
        return ["no settings are known: nobody has ever planned a cycle of it"]
    if found.known_from > found.since:
        return [f"before {words.second(found.known_from)} it is not known what was due"]
    return []


def _table(shown: Sequence[Judged], *, every: bool) -> Table:
    rows = table("due", "verdict", "late" if every else "last of them due", "what")
    lines = [[each] for each in shown] if every else _alike(shown)
    if not every and len(lines) > _MOST_LINES:
        lines = lines[-_MOST_LINES:]
        rows.add_row("...", "", "", f"--all lists all, here are the last {_MOST_LINES}")
    for line in lines:
        first, last = line[0], line[-1]
        beside = _lateness(first) if every else ""
        if len(line) > 1:
            beside = words.second(last.due, first.due)
        count = f"{len(line):,} " if len(line) > 1 else ""
        verdict = "served twice" if first.times > 1 else str(first.verdict)
        style = "bold red" if first.is_bad else _STYLES[first.verdict]
        rows.add_row(
            words.second(first.due),
            f"[{style}]{count}{verdict}[/]",
            beside,
            literal(of_period(first)),
        )
    return rows


def _alike(shown: Sequence[Judged]) -> list[list[Judged]]:
    """Periods that went wrong one after the other in the same way, together."""
    numbered = groupby(shown, key=lambda each: (each.verdict, each.cause, each.reason, each.times))
    return [list(group) for _, group in numbered]


def _lateness(judged: Judged) -> str:
    return "" if judged.late is None else words.lasting(judged.late)


# As JSON ------------------------------------------------------------------------------------------


def _as_json(found: Audit) -> dict[str, object]:
    return {
        "service": found.service,
        "since": instant(found.since),
        "until": instant(found.until - 1),
        "known_from": None if found.known_from is None else instant(found.known_from),
        "complete_from": instant(found.complete_from),
        "well": found.is_well,
        "due": len(found.periods),
        "totals": {str(verdict): count for verdict, count in found.totals.items()},
        "served_twice": found.served_twice,
        "causes": {str(cause): count for cause, count in found.causes.items()},
        "periods": [_period_as_json(each) for each in found.periods],
    }


def _period_as_json(judged: Judged) -> dict[str, object]:
    return {
        "due": instant(judged.due),
        "verdict": str(judged.verdict),
        "cause": None if judged.cause is None else str(judged.cause),
        "times_served": judged.times,
        "attempts": judged.attempts,
        "late_seconds": None if judged.late is None else judged.late / SECOND,
        "served_by": [run.runner_id for run in judged.runs],
        "reason": judged.reason,
    }
