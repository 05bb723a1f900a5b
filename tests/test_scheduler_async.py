"""A scheduler on the application's own event loop."""

import asyncio
import contextvars
import gc
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from live import Heard, Shaky, due, due_later, ends_of, eventually
from turnwise import scheduler as schedulers
from turnwise.errors import StorageError
from turnwise.events import RunnerJoined, RunnerLeft, TurnEnded, TurnStarted
from turnwise.scheduler import Scheduler
from turnwise.scheduler.calls import CoroutineCall, Loops, Work, end_if_it_cannot, start_call
from turnwise.scheduler.functions import served
from turnwise.storages import Storage
from turnwise.testing import fake_turn
from turnwise.turn import Turn


@pytest.fixture
def heard() -> Heard:
    return Heard()


def a_scheduler(storage: object, heard: Heard, **more: Any) -> Scheduler:
    return Scheduler(cast("Storage", storage), runner_id="a", observers=(heard,), **more)


async def until(condition: Callable[[], object]) -> None:
    """Wait, without holding up the loop, until something is true."""
    await asyncio.to_thread(eventually, condition, "a condition")


def test_coroutines_run_on_the_loop_of_the_application(heard: Heard) -> None:
    storage = due()
    seen: list[Any] = []

    before = set(threading.enumerate())

    async def main() -> None:
        scheduler = a_scheduler(storage, heard)

        @scheduler.every("1m")
        async def job(turn: Turn) -> None:
            turn.check()
            task = asyncio.current_task()
            assert task is not None
            seen.append((asyncio.get_running_loop(), task.get_name()))

        async with scheduler:
            await until(lambda: heard.of(TurnEnded))
            assert seen == [(asyncio.get_running_loop(), "turnwise-job")]
            started = set(threading.enumerate()) - before
            assert "turnwise-loop" not in {thread.name for thread in started}

    asyncio.run(main())
    assert ends_of(storage, "job") == [("completed", "")]
    assert heard.of(RunnerLeft)


def test_plain_functions_still_run_in_threads_and_do_not_hold_up_the_loop(heard: Heard) -> None:
    names: list[str] = []

    async def main() -> None:
        scheduler = a_scheduler(due(), heard)
        scheduler.add(
            lambda: names.append(threading.current_thread().name), "every 1m", name="plain"
        )
        async with scheduler:
            await until(lambda: heard.of(TurnEnded))

    asyncio.run(main())
    assert names == ["turnwise-plain"]


_request: contextvars.ContextVar[str] = contextvars.ContextVar("of_a_request", default="none")


def test_coroutines_see_the_context_in_which_the_scheduler_was_started(heard: Heard) -> None:
    seen: list[str] = []

    async def main() -> None:
        scheduler = a_scheduler(due(), heard)

        @scheduler.every("1m")
        async def job() -> None:
            seen.append(_request.get())
            _request.set("changed")

        _request.set("of the program")
        async with scheduler:
            await until(lambda: heard.of(TurnEnded))
        assert _request.get() == "of the program"

    asyncio.run(main())
    assert seen == ["of the program"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ValueError("no")])
def test_whatever_a_coroutine_raises_the_application_goes_on(
    error: BaseException, heard: Heard
) -> None:
    storage = due()

    async def job() -> None:
        raise error

    async def main() -> str:
        scheduler = a_scheduler(storage, heard)
        scheduler.add(job, "every 1m")
        async with scheduler:
            await until(lambda: heard.of(TurnEnded))
        return "went on"

    assert asyncio.run(main()) == "went on"
    assert ends_of(storage, "job") == [("abandoned", f"exception:{type(error).__name__}")]


def test_at_the_end_of_the_block_coroutines_get_their_grace_and_are_cancelled(heard: Heard) -> None:
    storage = due()

    async def main() -> float:
        scheduler = a_scheduler(storage, heard, grace="50ms")

        @scheduler.every("1m")
        async def job() -> None:
            await asyncio.sleep(30)

        async with scheduler:
            await until(lambda: heard.of(TurnStarted))
            began = time.monotonic()
        return time.monotonic() - began

    assert asyncio.run(main()) < 5
    assert ends_of(storage, "job") == [("abandoned", "stopped")]


def test_an_idle_application_ends_in_less_than_a_second(heard: Heard) -> None:
    async def main() -> float:
        scheduler = a_scheduler(due_later(), heard)
        scheduler.add(lambda: None, "every 1m", name="job")
        async with scheduler:
            await until(lambda: heard.of(RunnerJoined))
            began = time.monotonic()
        return time.monotonic() - began

    assert asyncio.run(main()) < 1


def test_on_the_loop_of_the_coroutines_a_stop_does_not_wait(heard: Heard) -> None:
    async def main() -> bool:
        scheduler = a_scheduler(due(), heard)

        @scheduler.every("1m")
        async def job(turn: Turn) -> None:
            while not turn.stop_requested:  # noqa: ASYNC110 (it cannot be waited for)
                await asyncio.sleep(0.01)

        async with scheduler:
            await until(lambda: heard.of(TurnStarted))
            return scheduler.stop()

    assert asyncio.run(main()) is False
    assert heard.of(RunnerLeft)


def test_an_exception_in_the_block_goes_on_after_the_stop(heard: Heard) -> None:
    async def main() -> None:
        async with a_scheduler(due_later(), heard):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(main())
    assert "turnwise-driver" not in {thread.name for thread in threading.enumerate()}


def test_a_start_that_fails_raises_in_the_block(heard: Heard) -> None:
    shaky = Shaky(due())
    shaky.away()

    async def main() -> None:
        async with a_scheduler(shaky, heard, wait_for_storage=False):
            pass

    with pytest.raises(StorageError, match="no connection"):
        asyncio.run(main())


def test_a_start_that_is_cancelled_leaves_nothing_running(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaky = Shaky(due_later())
    shaky.hangs = threading.Event()
    monkeypatch.setattr(schedulers, "_LONGEST_START_SECONDS", 0.2)

    async def main() -> None:
        scheduler = a_scheduler(shaky, heard)
        scheduler.add(lambda: None, "every 1m", name="job")
        starting = asyncio.create_task(scheduler.__aenter__())
        await until(lambda: "read" in shaky.calls)
        starting.cancel()
        assert shaky.hangs is not None
        shaky.hangs.set()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert not scheduler.health().is_running

    asyncio.run(main())
    assert "turnwise-driver" not in {thread.name for thread in threading.enumerate()}


# A call on a loop ---------------------------------------------------------------------------


def a_work(function: Callable[..., object], loops: Loops, ends: list[Any]) -> Work:
    return Work(
        served=served(function),
        turn=fake_turn(),
        ended=lambda *how: ends.append(how),
        watch=lambda: None,
        context=contextvars.copy_context(),
        loops=loops,
    )


async def _sleeps() -> None:
    await asyncio.sleep(30)


def test_a_coroutine_that_is_cancelled_before_its_first_step_says_how_it_ended() -> None:
    ends: list[Any] = []

    async def main() -> None:
        loops = Loops(asyncio.get_running_loop())
        call = CoroutineCall(a_work(_sleeps, loops, ends), _sleeps)
        assert call.cancel("stopped")
        assert call.cancel("lost"), "the first reason counts"
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert [(str(status), reason, error) for status, reason, error in ends] == [
        ("abandoned", "stopped", None)
    ]


def test_a_coroutine_that_the_application_cancels_has_failed() -> None:
    ends: list[Any] = []

    async def main() -> None:
        loops = Loops(asyncio.get_running_loop())
        CoroutineCall(a_work(_sleeps, loops, ends), _sleeps)
        CoroutineCall(a_work(_sleeps, loops, ends), _sleeps)
        await asyncio.sleep(0)
        others = [t for t in asyncio.all_tasks() if t.get_name() == "turnwise-service"]
        others[0].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        others[1].cancel()
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert [reason for _, reason, _ in ends] == ["exception:CancelledError"] * 2


def test_on_a_loop_that_is_closed_nothing_can_be_started() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        CoroutineCall(a_work(_sleeps, Loops(loop), []), _sleeps)


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_coroutine_whose_loop_was_stopped_before_it_began_has_ended_when_it_is_cancelled(
    is_closed: bool,
) -> None:
    loop = asyncio.new_event_loop()
    ends: list[Any] = []
    began: list[int] = []

    async def job() -> None:
        began.append(1)

    call = CoroutineCall(a_work(job, Loops(loop), ends), job)
    if is_closed:
        loop.close()
    assert call.cancel("lost")
    assert call.cancel("lost"), "and is told once"
    assert [(str(status), reason) for status, reason, _ in ends] == [("abandoned", "not_started")]
    if not is_closed:  # it runs again
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
    assert (began, len(ends)) == ([], 1)


def test_a_coroutine_that_has_begun_ends_when_its_loop_is_closed_and_not_before() -> None:
    loop = asyncio.new_event_loop()
    ends: list[Any] = []
    call = CoroutineCall(a_work(_sleeps, Loops(loop), ends), _sleeps)
    loop.run_until_complete(asyncio.sleep(0.01))
    end_if_it_cannot(call)
    assert ends == [], "the loop may run again"
    tasks = asyncio.all_tasks(loop)
    loop.close()
    end_if_it_cannot(call)
    assert [reason for _, reason, _ in ends] == ["stopped"]
    for task in tasks:  # so that nobody is told of a task that was dropped
        task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_stop_without_a_grace_ends_though_the_loop_was_stopped_before_a_coroutine_began(
    heard: Heard,
) -> None:
    storage = due()
    scheduler = a_scheduler(storage, heard)
    scheduler.add(_sleeps, "every 1m", name="job")
    loop = asyncio.new_event_loop()  # which does not run
    scheduler._start(loop)
    heard.wait_for(TurnStarted)
    stopping = threading.Thread(target=scheduler.stop, daemon=True)
    stopping.start()
    stopping.join(10)
    assert not stopping.is_alive()
    loop.close()
    assert ends_of(storage, "job") == [("abandoned", "not_started")]


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_a_turn_that_is_lost_before_the_first_line_of_its_function_is_not_begun(
    is_coroutine: bool,
) -> None:
    ends: list[Any] = []
    began: list[object] = []
    loops = Loops()

    async def coroutine() -> None:
        began.append(1)

    function = coroutine if is_coroutine else lambda: began.append(1)
    work = a_work(function, loops, ends)
    start_call(replace(work, turn=fake_turn(lost=True)))
    eventually(lambda: ends, "it is told")
    loops.close()
    assert [(str(status), reason) for status, reason, _ in ends] == [("abandoned", "not_started")]
    assert began == []


def test_a_loop_of_our_own_is_made_once_and_ends_what_is_left_on_it() -> None:
    loops = Loops()
    assert not loops.runs_here()
    loop = loops.get()
    assert loops.get() is loop
    ends: list[str] = []

    async def left_over() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ends.append("cancelled")

    asyncio.run_coroutine_threadsafe(left_over(), loop)
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(30)
    loops.close()
    assert ends == ["cancelled"]
    assert loop.is_closed()


def test_what_is_done_is_not_kept(heard: Heard) -> None:
    class Big:
        pass

    kept: list[weakref.ref[Big]] = []
    scheduler = a_scheduler(due(), heard)

    @scheduler.every("1m")
    async def job() -> Big:
        big = Big()
        kept.append(weakref.ref(big))
        return big

    with scheduler:
        heard.wait_for(TurnEnded)
        gc.collect()
        eventually(lambda: kept[0]() is None, "what the coroutine gave back is gone")
