"""When a process that was asked to stop leaves."""

from turnwise.scheduler.leaving import LAST_WORDS, Leaving


def may_leave(leaving: Leaving, at: int, *, said: bool = False, at_work: bool = False) -> bool:
    return leaving.may_leave(at, is_all_said=said, is_at_work=at_work)


def test_a_process_that_has_said_all_leaves_at_once() -> None:
    assert may_leave(Leaving(), 0, said=True)


def test_a_process_that_has_something_to_say_leaves_when_the_storage_has_had_time_for_it() -> None:
    leaving = Leaving()
    assert not may_leave(leaving, 7)
    assert not may_leave(leaving, 7 + LAST_WORDS - 1)
    assert leaving.last_words_end == 7 + LAST_WORDS
    assert may_leave(leaving, 7 + LAST_WORDS)


def test_the_time_for_the_last_words_begins_when_no_function_is_at_work_any_more() -> None:
    leaving = Leaving()
    assert not may_leave(leaving, 0)
    assert not may_leave(leaving, LAST_WORDS, at_work=True)
    assert leaving.last_words_end is None
    assert not may_leave(leaving, 2 * LAST_WORDS)
    assert not may_leave(leaving, 3 * LAST_WORDS - 1)
    assert may_leave(leaving, 3 * LAST_WORDS)


def test_of_several_requests_to_stop_the_one_whose_grace_ends_first_counts() -> None:
    leaving = Leaving()
    assert leaving.grace_ends is None
    for at in (20, 10, 30):
        leaving.give_grace_until(at)
    assert leaving.grace_ends == 10
