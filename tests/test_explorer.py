"""Every interleaving of two cycles holds what is promised; what is broken on purpose does not."""

import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest

from explorer import SECOND, SETTINGS, Explorer, Violation
from sabotage import FinishByName, MembershipOfNow, NoCycleKey, NoGate
from turnwise.backends.memory import MemoryBackend

Make = Callable[[Callable[[], datetime]], MemoryBackend]

EXPLORATIONS = {
    "two runners, two cycles": Explorer(
        2,
        instants=(0, 6, 12, 18),
        crashes=0,
        settings=replace(SETTINGS, heartbeat_timeout=7 * SECOND),
    ),
    "two runners, a crash and a restart": Explorer(
        2,
        instants=(0, 6, 12),
        crashes=1,
        settings=replace(SETTINGS, heartbeat_timeout=7 * SECOND),
    ),
    "three runners, two cycles": Explorer(3, instants=(0, 8, 12), crashes=0),
}


@pytest.mark.parametrize("name", EXPLORATIONS)
def test_in_every_state_that_can_be_reached_the_invariants_hold(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    explorer = EXPLORATIONS[name]
    states = explorer.explore()
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: {states:,} states, {explorer.transitions:,} steps\n")
    assert states > 5_000
    # It says little where nothing went wrong.
    for what in ("admitted", "complete", "fail", "lost", "takeover", "prior_running", "no_margin"):
        assert explorer.happened[what] > 0, what


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (NoGate, "2 executions are RUNNING"),
        (MembershipOfNow, "two stable sets in one cycle"),
        (NoCycleKey, "a cycle was served twice"),
        (FinishByName, "check\\(\\) passes for .*, which is closed"),
    ],
)
def test_a_storage_that_is_broken_on_purpose_is_found_with_the_steps_that_show_it(
    broken: Make, found: str
) -> None:
    explorer = Explorer(2, make=broken, instants=(0, 6, 12, 18), crashes=1)
    with pytest.raises(Violation, match=rf"(?s){found}.*after: .*(look|gate)"):
        explorer.explore()


def test_the_same_exploration_has_the_same_states() -> None:
    first, second = (Explorer(2, instants=(0, 6)) for _ in range(2))
    assert first.explore() == second.explore()
    assert first.happened == second.happened
