"""What an observer may do in the thread that tells it, and what becomes of what it raises."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from live import Heard, due, ends_of
from turnwise.events import Event, RunnerJoined, TurnEnded, TurnStarted
from turnwise.scheduler import Scheduler


def within(seconds: float, call: Callable[[], object]) -> list[object]:
    """What a call gives in a thread of its own; nothing where it does not end in time."""
    given: list[object] = []
    thread = threading.Thread(target=lambda: given.append(call()), daemon=True)
    thread.start()
    thread.join(seconds)
    return given


@pytest.mark.parametrize(("kind", "thread"), [(TurnStarted, "driver"), (RunnerJoined, "heartbeat")])
def test_a_turn_that_an_observer_asks_for_in_a_thread_that_would_have_to_grant_it_is_refused(
    kind: type[Event], thread: str
) -> None:
    """The driver waited for itself, for ever; and no service was served any more."""
    heard, storage = Heard(), due()
    refused: list[str] = []

    def observer(event: Event) -> None:
        if isinstance(event, kind):
            assert threading.current_thread().name == f"turnwise-{thread}"
            with pytest.raises(RuntimeError) as raised, scheduler.turn("mine"):
                pass
            refused.append(str(raised.value))

    scheduler = Scheduler(storage, observers=(observer, heard))
    scheduler.add(None, "every 1m", name="mine")
    scheduler.add(lambda: None, "every 1m", name="job")
    scheduler.start()
    heard.wait_for(TurnEnded)
    assert within(20, lambda: scheduler.stop(1)) == [True]
    assert ends_of(storage, "job") == [("completed", "")]
    [said] = refused
    assert "ask for 'mine' in a thread of your own" in said


def test_a_function_that_is_served_may_ask_for_a_turn_of_another_service() -> None:
    heard = Heard()
    turns: list[bool] = []

    def job() -> None:
        with scheduler.turn("mine") as turn:
            turns.append(turn is not None)

    scheduler = Scheduler(due(), observers=(heard,))
    scheduler.add(None, "every 1m", name="mine")
    scheduler.add(job, "every 1m")
    with scheduler:
        heard.wait_for(TurnEnded, count=2)
    assert turns == [True]


def test_an_observer_may_add_change_and_remove_services_and_ask_for_the_health() -> None:
    heard = Heard()
    done: list[bool] = []

    def observer(event: Event) -> None:
        if isinstance(event, TurnStarted) and event.service == "job":
            scheduler.add(lambda: None, "every 1m", name="new")
            scheduler.change(lambda: None, "every 2m", name="job")
            scheduler.remove("old")
            scheduler.request_stop()
            done.append(scheduler.health().is_running)

    scheduler = Scheduler(due(), observers=(observer, heard))
    scheduler.add(lambda: None, "every 1m", name="job")
    scheduler.add(None, "every 1m", name="old")
    with scheduler:
        heard.wait_for(TurnEnded, count=2)
        assert set(scheduler.services) == {"job", "new"}
    assert done == [True]


def test_within_a_block_that_has_a_turn_a_stop_without_a_grace_does_not_wait_for_the_block() -> (
    None
):
    """It waited for its own thread, for ever."""
    storage = due()
    scheduler = Scheduler(storage)
    scheduler.add(None, "every 1m", name="mine")

    def stops() -> bool:
        with scheduler.turn("mine") as turn:
            assert turn is not None
            has_ended = scheduler.stop()
            turn.check()
        return has_ended

    scheduler.start()
    assert within(10, stops) == [False]
    assert scheduler.stop(5)
    assert ends_of(storage, "mine") == [("completed", "")]


def test_an_observer_that_fails_is_an_error_once_for_each_type_and_then_for_debugging_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "turnwise.scheduler")
    heard = Heard()

    def divides(event: Event) -> None:
        raise ZeroDivisionError(event)

    def chooses(event: Event) -> None:
        raise TypeError(event) if isinstance(event, TurnStarted) else KeyError(event)

    scheduler = Scheduler(due(), observers=(divides, chooses, heard))
    scheduler.add(lambda: None, "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnEnded)
    failures = [each for each in caplog.records if "an observer failed" in each.message]
    errors = [each for each in failures if each.levelno == logging.ERROR]
    types: list[Any] = [each.exc_info[0] for each in errors if each.exc_info]
    assert sorted(each.__name__ for each in types) == ["KeyError", "TypeError", "ZeroDivisionError"]
    rest = {each.levelno for each in failures if each not in errors}
    assert rest == {logging.DEBUG}
    assert len(failures) == 2 * len(heard.events)
