"""What a gate carries for a history that cannot be written is bounded, and loses the oldest."""

import pytest

from records import FIVE, ask_for
from turnwise import gate as gates
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.gate import KEPT_UNSAID, Gate
from turnwise.texts import gate_to_text


def after(runs: int, gate: Gate | None = None) -> Gate:
    """A gate after so many runs, none of which the history was told of."""
    gate = gate or gates.new_gate(0)
    for number in range(1, runs + 1):
        now = number * FIVE
        admitted = gates.admit(gate, ask_for(now, f"run-{number}"), now=now)
        assert isinstance(admitted, Gate), admitted
        ended = gates.finish(admitted, f"run-{number}", now=now + 1, status=Status.COMPLETED)
        assert isinstance(ended, Gate), ended
        gate = ended
    return gate


def test_a_gate_keeps_the_last_rows_that_the_history_may_not_know_and_no_more() -> None:
    assert [row.id for row in after(3).unsaid] == ["run-1", "run-2", "run-3"]
    many = after(KEPT_UNSAID + 10)
    assert len(many.unsaid) == KEPT_UNSAID
    assert (many.unsaid[0].id, many.unsaid[-1].id) == ("run-11", f"run-{KEPT_UNSAID + 10}")
    assert gates.said_of(many, f"run-{KEPT_UNSAID + 10}") is not None


def test_a_gate_whose_history_cannot_be_written_does_not_grow() -> None:
    """Three hundred runs: some 25 kB, and nothing is refused for it."""
    few, many = gate_to_text(after(KEPT_UNSAID)), gate_to_text(after(300))
    assert len(many) < 1.1 * len(few) < 40_000


@pytest.mark.parametrize("command", ["pause", "resume", "trigger"])
def test_commands_are_bounded_too(command: str) -> None:
    gate = after(KEPT_UNSAID)
    if command == "resume":
        gate = gates.pause(gate, id="p", now=1, by="ops", reason="")
    change = {"pause": gates.pause, "resume": gates.resume, "trigger": gates.trigger}[command]
    changed = change(gate, id="c", now=2, by="ops", reason="")
    assert len(changed.unsaid) == KEPT_UNSAID
    assert changed.unsaid[-1].id == "c"
