"""What breaks in the middle: the driver, a file that cannot be opened, an interrupt, a race."""

import asyncio
import errno
import threading
from typing import Any, cast

import pytest

from live import Heard, Shaky, due, ends_of, eventually
from turnwise.events import RunnerLeft, TurnEnded, TurnLost, TurnStarted
from turnwise.scheduler import Scheduler
from turnwise.scheduler.engine import Engine
from turnwise.storages import Storage
from turnwise.turn import Turn


@pytest.fixture
def heard() -> Heard:
    return Heard()


def a_scheduler(storage: object, heard: Heard, **more: Any) -> Scheduler:
    more = {"observers": (heard,)} | more
    return Scheduler(cast("Storage", storage), runner_id="a", **more)


def no_file_is_left() -> asyncio.AbstractEventLoop:
    raise OSError(errno.EMFILE, "Too many open files")


def bug(*_: object) -> None:
    raise ZeroDivisionError("a bug")


# The driver ---------------------------------------------------------------------------------


def test_a_turn_for_which_no_file_is_left_did_not_start_and_the_driver_goes_on(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = due()
    scheduler = a_scheduler(storage, heard)

    async def job() -> None: ...

    scheduler.add(job, "every 1m", name="job")
    monkeypatch.setattr(asyncio, "new_event_loop", no_file_is_left)
    with scheduler:
        heard.wait_for(TurnEnded)
        assert scheduler.health().is_running
    assert ends_of(storage, "job") == [("abandoned", "not_started")]
    assert heard.of(RunnerLeft)


def test_a_driver_that_dies_while_functions_work_does_not_leave_and_their_turns_are_lost(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaky = Shaky(due())
    scheduler = a_scheduler(shaky, heard)
    turns: list[Turn] = []
    go_on = threading.Event()
    cancelled = threading.Event()

    @scheduler.every("1m")
    def plain(turn: Turn) -> None:
        turns.append(turn)
        go_on.wait(30)

    @scheduler.every("1m")
    async def coroutine(turn: Turn) -> None:
        turns.append(turn)
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with scheduler:
        heard.wait_for(TurnStarted, count=2)
        eventually(lambda: len(turns) == 2, "both functions run")
        engine = scheduler._engine
        assert engine is not None
        monkeypatch.setattr(Engine, "_pause", bug)
        engine.wake()
        assert engine.join(30)
        assert [each.is_lost for each in turns] == [True, True]
        assert cancelled.wait(30)
        assert {each.service for each in heard.of(TurnLost)} == {"plain", "coroutine"}
        assert "leave" not in shaky.calls, "the others would think that nothing runs"
        go_on.set()


def test_a_driver_that_dies_while_nothing_works_leaves_all_the_same(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = a_scheduler(due(), heard)
    scheduler.add(lambda: None, "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnEnded)
        engine = scheduler._engine
        assert engine is not None
        monkeypatch.setattr(Engine, "_pause", bug)
        engine.wake()
        assert engine.join(30)
    assert heard.of(RunnerLeft)
