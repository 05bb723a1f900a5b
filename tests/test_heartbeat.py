"""The heartbeat of a process: its rules, step by step."""

from collections.abc import Sequence

import pytest

from turnwise.actions import Failed, Wait
from turnwise.events import DuplicateRunner, RunnerJoined
from turnwise.heartbeat import Heartbeat
from turnwise.storages import Pulse

SECOND = 1_000_000
TIMEOUT = 12 * SECOND


def a_heart(timeout: int = TIMEOUT) -> Heartbeat:
    return Heartbeat(group="g", runner_id="a", boot_id="mine", timeout=timeout)


def pulse(*, found: bool = True, others: Sequence[tuple[str, int]] = ()) -> Pulse:
    return Pulse(
        now=1,
        revision=1,
        found=found,
        left=False,
        drained=False,
        open_runs=frozenset(),
        sights={},
        others=tuple(others),
    )


def test_the_first_heartbeat_is_due_at_once_and_the_next_ones_three_times_in_the_timeout() -> None:
    heart = a_heart()
    assert heart.next(100) is None
    heart.beat(100, ())
    heart.receive(200, pulse())
    assert heart.next(200) == Wait(100 + TIMEOUT // 3), "counted from its departure"
    assert heart.next(100 + TIMEOUT // 3) is None


def test_while_one_is_on_its_way_no_other_is_due() -> None:
    heart = a_heart()
    heart.beat(0, ())
    assert heart.next(10 * TIMEOUT) == Wait(None)


def test_each_carries_a_larger_count_also_where_the_answer_was_lost() -> None:
    heart = a_heart()
    counts = []
    for answer in (pulse(), Failed("away"), pulse()):
        counts.append(heart.beat(0, ()).count)
        heart.receive(0, answer)
    assert counts == [1, 2, 3]


def test_it_names_the_runs_and_the_timeout() -> None:
    beat = a_heart().beat(0, ("run 1", "run 2"))
    assert (beat.runs, beat.heartbeat_timeout) == (("run 1", "run 2"), TIMEOUT)


def test_after_a_failure_the_next_one_is_due_four_times_as_soon() -> None:
    heart = a_heart()
    heart.beat(0, ())
    heart.receive(0, Failed("away"))
    assert heart.next(0) == Wait(SECOND)
    assert heart.next(SECOND) is None


def test_after_a_failure_that_took_long_the_next_one_is_due_at_once() -> None:
    heart = a_heart()
    heart.beat(0, ())
    heart.receive(5 * SECOND, Failed("away"))
    assert heart.next(5 * SECOND) is None


def test_one_that_found_no_row_has_joined_and_says_whether_it_had_before() -> None:
    heart = a_heart()
    told = []
    for answer in (pulse(found=False), pulse(), pulse(found=False)):
        heart.beat(0, ())
        told += heart.receive(0, answer)[1]
    assert told == [
        RunnerJoined(group="g", runner_id="a", boot_id="mine", again=False),
        RunnerJoined(group="g", runner_id="a", boot_id="mine", again=True),
    ]


def test_another_life_under_the_same_id_is_told_once_and_only_if_its_count_goes_on() -> None:
    heart = a_heart()
    told = []
    for count in (1, 2, 3, 4, 5, 6):
        heart.beat(0, ())
        told += heart.receive(0, pulse(others=[("old", 7), ("twin", count)]))[1]
    assert told == [DuplicateRunner(group="g", runner_id="a", boot_id="twin")]


def test_another_life_is_told_beside_a_join_that_the_same_answer_shows() -> None:
    heart = a_heart()
    for count in (1, 2, 3):
        heart.beat(0, ())
        told = heart.receive(0, pulse(found=False, others=[("twin", count)]))[1]
    assert told == [
        RunnerJoined(group="g", runner_id="a", boot_id="mine", again=True),
        DuplicateRunner(group="g", runner_id="a", boot_id="twin"),
    ]


def test_the_last_heartbeat_of_a_killed_life_that_arrives_late_is_no_other_process() -> None:
    heart = a_heart()
    for count in (7, 8, 8, 8):
        heart.beat(0, ())
        assert heart.receive(0, pulse(others=[("killed", count)]))[1] == []


def test_a_twin_that_pauses_between_its_heartbeats_is_told_all_the_same() -> None:
    heart = a_heart()
    told = []
    for count in (1, 2, 2, 2, 3):
        heart.beat(0, ())
        told += heart.receive(0, pulse(others=[("twin", count)]))[1]
    assert told == [DuplicateRunner(group="g", runner_id="a", boot_id="twin")]


def test_a_service_with_a_shorter_timeout_has_it_sent_more_often_from_now_on() -> None:
    heart = a_heart()
    heart.beat(0, ())
    heart.receive(0, pulse())
    heart.shorten(TIMEOUT)
    assert heart.next(1) == Wait(TIMEOUT // 3)
    heart.shorten(3 * SECOND)
    assert heart.next(0) is None, "at once"
    assert heart.interval == SECOND
    heart.beat(1, ())
    heart.receive(1, pulse())
    assert heart.next(1) == Wait(1 + SECOND)


def test_it_can_be_hurried() -> None:
    heart = a_heart()
    heart.beat(0, ())
    heart.receive(0, pulse())
    heart.hurry(SECOND)
    assert heart.next(SECOND) is None
    heart.hurry(10 * TIMEOUT)
    assert heart.next(SECOND) is None, "never later than it was"


@pytest.mark.parametrize("answer", [pulse(), Failed("no connection")])
def test_a_hurry_is_not_undone_by_the_answer_to_one_that_left_before(
    answer: Pulse | Failed,
) -> None:
    heart = a_heart()
    heart.beat(0, ())
    heart.hurry(1)
    heart.receive(2, answer)
    assert heart.next(2) is None, "at once"
    heart.beat(2, ())
    heart.receive(3, pulse())
    assert heart.next(3) == Wait(2 + heart.interval), "once"


def test_what_is_heard_says_when_it_left() -> None:
    heart = a_heart()
    beat = heart.beat(5, ("run",))
    heard, _ = heart.receive(9, pulse())
    assert heard is not None
    assert (heard.beat, heard.sent) == (beat, 5)


def test_an_answer_to_nothing_is_refused() -> None:
    with pytest.raises(RuntimeError, match="no heartbeat of a is on its way"):
        a_heart().receive(0, pulse())


def test_a_copy_goes_its_own_way() -> None:
    heart = a_heart()
    other = heart.copy()
    heart.beat(0, ())
    heart.receive(0, pulse(others=[("twin", 1)]))
    assert other.next(0) is None
    assert other.beat(0, ()).count == 1
    assert other._others == {}


def test_the_shortest_timeout_still_leaves_time_between_two_heartbeats() -> None:
    assert a_heart(timeout=1).interval == 1
