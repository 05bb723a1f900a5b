"""The runbook has a line for each event that an observer hears, and each reason in the history."""

import re
from pathlib import Path

from turnwise import events, gate
from turnwise.atomic_service import AtomicServiceDecisionReason

RUNBOOK = (Path(__file__).parents[1] / "docs" / "runbook.md").read_text(encoding="utf-8")
KINDS = {events.Event, events.ServiceEvent, events.TurnEvent}
"""What events have in common: nobody hears these."""


def section(title: str) -> set[str]:
    """The words in code in the first cells of a section's table, without what follows a colon."""
    _, _, rest = RUNBOOK.partition(f"## {title}\n")
    cells = re.findall(r"^\| ([^|]+) \|", rest.partition("\n## ")[0], re.MULTILINE)
    return {word.partition(":")[0] for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


def test_each_event_has_a_line_and_no_other() -> None:
    heard = {
        kind.__name__
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, events.Event) and kind not in KINDS
    }
    assert section("By event") == heard


def test_each_reason_has_a_line_and_no_other() -> None:
    decided = set(AtomicServiceDecisionReason) - {AtomicServiceDecisionReason.ASSIGNED}
    ended = {gate.OWNER_DEAD, gate.TIMEOUT, gate.LOST, gate.NOT_COMMITTED, *gate.NO_ATTEMPT}
    said_by_jobs = {"exit", "signal", "exception", "prior_running"}
    assert section("By reason") == {*map(str, decided), *ended, *said_by_jobs}
