"""What a review promises, as a table, as findings, and as JSON."""

from dataclasses import fields
from datetime import timedelta

from turnwise.cli.output import console, literal, rounded, table
from turnwise.review import Level, Review

_LEVEL_STYLE = {Level.ERROR: "bold red", Level.WARNING: "yellow", Level.NOTE: "dim"}
_NO_FACTS = frozenset({"settings", "findings", "runners"})
_LABELS = {
    "cycle": "the longest cycle",
    "slots": "slots in it",
    "slot": "a slot, guard time included",
    "window": "the part of it in which a turn may start",
    "most_slots": "most slots that the guard time allows",
    "closed_share": "part of a cycle in which nobody may start",
    "overlap_excluded_by_time": "slots alone, without the gate, keep runs apart",
    "takeover": "how late it starts where the primary is dead",
    "gap_without_fault": "longest time from start to start, no fault",
    "gap_with_one_dead": "the same, one runner dead",
    "gap_after_kill": "from a kill in a turn to the next start",
    "first_slot_delay": "a new runner counts after, at most",
    "heartbeats_per_cycle": "heartbeats in a cycle, all runners",
    "looks_per_cycle": "looks in a cycle, all runners",
    "statements_per_cycle": "all else that the storage is asked in a cycle",
}


def print_review(promised: Review) -> None:
    """Print the figures of a review, and then its findings."""
    facts = table("what this promises", "")
    nobody = "nobody ever starts" if promised.gap_without_fault is None else "no other is left"
    unknown = {"overlap_excluded_by_time": "not known without the longest run"}
    for name, value in _facts(promised).items():
        said = unknown.get(name, nobody) if value is None else _shown(value)
        facts.add_row(_LABELS.get(name, name.replace("_", " ")), said)
    console.print(facts)
    console.print()
    for finding in promised.findings:
        said = f"{finding.level}: {finding.meaning}. To change it: {finding.change}."
        console.print(literal(said), style=_LEVEL_STYLE[finding.level])
    if not promised.findings:
        console.print("no findings")


def _facts(promised: Review) -> dict[str, object]:
    return {
        field.name: getattr(promised, field.name)
        for field in fields(promised)
        if field.name not in _NO_FACTS
    }


def _shown(value: object) -> str:
    """A figure that is known."""
    match value:
        case bool():
            return "yes" if value else "no"
        case timedelta():
            return rounded(value)
        case float():
            return f"{value:.0%}"
        case int():
            return f"{value:,}"
    return str(value)


def review_as_json(promised: Review) -> dict[str, object]:
    """A review for a script: durations in seconds."""
    return {
        "runners": promised.runners,
        **_facts(promised),
        "findings": [
            {"level": str(each.level), "meaning": each.meaning, "change": each.change}
            for each in promised.findings
        ],
    }
