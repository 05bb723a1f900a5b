"""A storage that loses what it acknowledged: what is not promised then, and what still is.

Not promised is that no second run starts, and that its token is new: both are counted. Promised is
that every runner goes on, that the owner of the forgotten run finds out, and that the service runs
again in time.
"""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from faults.forgetful import LOSE_ALL, LOSE_THE_LAST, Forgetful
from faults.participant import GROUP
from faults.scene import (
    SETTINGS,
    SLACK_SECONDS,
    Figures,
    Scene,
    overlaps,
    overlaps_at_resource,
)
from faults.storages import why_missing
from processes import eventually
from turnwise.cycles import SECOND
from turnwise.storages.opening import open_storage

pytestmark = pytest.mark.faults

NAMES = ("alice", "bob", "carol")
CYCLE = SETTINGS.shortest_cycle.total_seconds()
SLOT = CYCLE / len(NAMES)
WORK_SECONDS = SLOT + SETTINGS.heartbeat_timeout.total_seconds() + 0.2
"""Longer than a slot, and the heartbeat timeout after it."""
LONGEST_WAIT_SECONDS = 5.0
"""Whoever waits for a storage that does not answer asks again after so long at the latest."""

FORGETFUL = [
    pytest.param(scenario, storage, make, id=f"{storage}-{scenario.rpartition(' its ')[2]}")
    for scenario, makers in (
        ("storage lost its last writes", LOSE_THE_LAST),
        ("storage lost all its writes", LOSE_ALL),
    )
    for storage, make in makers.items()
]


@pytest.mark.parametrize(("scenario", "storage", "make"), FORGETFUL)
def test_a_storage_forgets_the_run_that_is_at_work(
    scenario: str, storage: str, make: Callable[[Path], Forgetful], tmp_path: Path, apart: Path
) -> None:
    reason = why_missing(storage)
    if reason is not None:
        pytest.skip(reason)
    own = make(apart)
    try:
        with Scene(own.url, tmp_path) as scene:
            for name in NAMES:
                scene.add(name, work=WORK_SECONDS)
            scene.await_line("end")
            eventually(lambda: time.time() % CYCLE > CYCLE - 0.4, "the next cycle is near")
            own.remember()
            begun = scene.await_line("begin", since=time.monotonic())
            # The next slot is near: the worst moment.
            eventually(lambda: time.monotonic() > begun.at + 0.85 * SLOT, "the run is at work")
            forgot, forgot_at = time.time(), time.monotonic()
            own.forget()
            back, back_at = time.time(), time.monotonic()

            owner = scene.participants[begun.runner_id]
            assert scene.await_line("lost", begun.runner_id, forgot_at).token == begun.token
            eventually(lambda: f"turn {begun.token} is lost" in owner.log, "the loss is reported")
            recovery = scene.recovery(back_at)
            promised = scene.promised(len(NAMES)).after_outage + LONGEST_WAIT_SECONDS
            assert recovery <= promised + SLACK_SECONDS
            eventually(
                lambda: heard_of_since(scene, back) == set(NAMES), "every runner goes on", 20
            )
            scene.await_line("end", since=back_at)
            scene.stop()
            assert all(" a bug" not in each.log for each in scene.participants.values())
            scene.require_that_all_has_ended()
            runs = scene.runs()
            again = [run.started_at for run in runs if run.token == begun.token]
            assert all(start > forgot * SECOND for start in again), "it was really forgotten"
            # What the storage knows of, it keeps apart.
            assert overlaps(runs) == 0
            lines = scene.resource.lines()
            tokens = Counter(line.token for line in lines if line.event == "begin")
            Figures(
                scenario,
                storage,
                overlaps_at_resource(lines),
                len(scene.lines("lost")),
                recovery,
                None,
                sum(times > 1 for times in tokens.values()),
            ).keep()
    finally:
        own.stop()


def heard_of_since(scene: Scene, moment: float) -> set[str]:
    """Who has sent a heartbeat after a moment."""
    with closing(open_storage(scene.url)) as storage:
        runners = storage.runners(GROUP)
    return {one.runner_id for one in runners if one.heard_at > moment * SECOND}
