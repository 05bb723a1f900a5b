"""What a state leaves out plays no part: states that count as one have one future."""

import pytest

from explore import rooms
from explore.invariants import Violation
from explore.relevant import known_fields
from explore.steps import Scope
from explore.twins import agree, compare
from explore.world import SECOND, World
from turnwise.settings import Settings


@pytest.mark.parametrize("fault", ["hold", "suspend", "step", "pause", "fail"])
def test_states_that_count_as_one_have_one_future(fault: str) -> None:
    scope = Scope(rooms.instants(2), 1, {fault: 1}, (-3 * SECOND, 5 * SECOND), longest=2 * SECOND)
    assert compare(rooms.world(rooms.NARROW), scope, most=600, every=5) > 50


def test_states_that_differ_in_what_somebody_asks_for_do_not_count_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The comparison can fail: here a state says nothing of what the storage keeps."""
    monkeypatch.setattr(World, "_what_is_kept", lambda *_: ())
    with pytest.raises(Violation, match="two states count as one"):
        compare(rooms.world(rooms.NARROW), rooms.scope(2, fail=1), most=600, every=1)


SMALL: dict[str, tuple[dict[str, Settings], Scope]] = {
    "a function fails": (rooms.NARROW, rooms.scope(2, fail=1)),
    "a message is lost": (rooms.NARROW, rooms.scope(1, faults=1, every=2, drop=1)),
    "a transaction": (rooms.WIDE, rooms.scope(1, hand_over=1, rollback=1, fail=1)),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_search_by_what_a_state_says_reaches_what_one_by_all_that_there_is_reaches(
    name: str,
) -> None:
    runners, scope = SMALL[name]
    whole, reached = agree(rooms.world(runners), scope)
    assert whole > 2 * reached


def test_a_search_by_states_that_say_too_little_leaves_states_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That two searches agree can fail: here a state says nothing of the machines."""
    monkeypatch.setattr("explore.process.of_machine", lambda *_: [])
    with pytest.raises(Violation, match="states are not reached"):
        agree(rooms.world(rooms.NARROW), rooms.scope(1, fail=1))


def test_every_field_of_a_machine_is_in_a_state_or_left_out_by_name() -> None:
    (process, _) = rooms.world(rooms.NARROW).processes
    assert process is not None
    assert known_fields() == vars(process.machine._state).keys()
