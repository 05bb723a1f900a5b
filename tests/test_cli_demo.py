"""``turnwise demo``, as a newcomer runs it."""

import re
from dataclasses import replace
from itertools import permutations

from processes import turnwise
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cli.demo import count_overlaps
from turnwise.cycles import SECOND
from turnwise.gate import Execution

NOON = 1_767_268_800 * SECOND


def run(start: float, end: float | None) -> Execution:
    """A run from and to so many seconds after noon."""
    at, until = (None if each is None else NOON + int(each * SECOND) for each in (start, end))
    assert at is not None
    return Execution(
        id=f"run-{start}-{end}",
        runner_id="r",
        status=Status.RUNNING if until is None else Status.COMPLETED,
        reason="",
        started_at=at,
        ended_at=until,
        token=1,
        due=NOON,
        cycle_start=NOON,
        slot_start=NOON,
        slot_end=None,
        position=0,
        attempt=1,
        size=1,
        digest=0,
    )


def test_the_demo_shows_a_takeover_and_ends_with_nothing_overlapping() -> None:
    done = turnwise("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for line in (
        r"is killed in its run \(SIGKILL\)",
        r"ends: abandoned owner_dead",
        r"takes over from runner-\d",
        r"runs that were completed: +4",
        r"due instants missed: +0",
        r"longest gap: +\d",
        r"overlapping runs: +0",
        r"database and logs: +\S+turnwise-demo-",
    ):
        assert re.search(line, done.stdout), (line, done.stdout)
    assert "\x1b" not in done.stdout, "plain lines where stdout is no terminal"
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 80


def test_runs_that_touch_do_not_overlap_and_runs_that_share_an_instant_do() -> None:
    one_after_the_other = [run(0, 1), run(1, 2), run(3, None)]
    assert all(count_overlaps(list(runs)) == 0 for runs in permutations(one_after_the_other))
    assert count_overlaps([run(0, 1), run(0.5, 2)]) == 1
    assert count_overlaps([run(0, 9), run(1, 2), run(3, 4)]) == 2
    assert count_overlaps([run(0, None), run(5, 6)]) == 1
    twin = replace(run(0, 1), id="twin", token=2)
    assert count_overlaps([run(0, 1), twin]) == 1
