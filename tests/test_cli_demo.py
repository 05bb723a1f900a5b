"""``turnwise demo``, as a newcomer runs it."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

from processes import turnwise
from turnwise.atomic_service import AtomicServiceExecutionStatus
from turnwise.backends import ExecutionRecord
from turnwise.cli.demo import count_overlaps

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def run(start: float, end: float | None) -> ExecutionRecord:
    """An execution from and to so many seconds after noon."""
    at = NOON + timedelta(seconds=start)
    until = None if end is None else NOON + timedelta(seconds=end)
    status = AtomicServiceExecutionStatus("completed" if until else "running")
    return ExecutionRecord(
        "s", f"run-{start}-{end}", "r", 1, NOON, None, None, at, until, at, status, "", 1, ""
    )


def test_the_demo_shows_a_takeover_and_ends_with_nothing_overlapping() -> None:
    done = turnwise("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for line in (
        r"is killed in its turn \(SIGKILL\)",
        r"ends: abandoned owner_dead",
        r"takes over from runner-\d",
        r"turns served: +4",
        r"cycles missed: +0",
        r"longest gap: +\d",
        r"overlapping executions: 0",
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
    twin = replace(run(0, 1), run_id="twin", fencing_token=2)
    assert count_overlaps([run(0, 1), twin]) == 1
