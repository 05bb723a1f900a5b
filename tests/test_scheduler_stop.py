"""The end of a scheduler: what runs gets its grace, and nothing waits for itself."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest

from live import Heard, Shaky, due, due_later, ends_of, eventually, runs_of
from turnwise import scheduler as schedulers
from turnwise.events import Event, Looked, RunnerJoined, RunnerLeft, TurnEnded, TurnStarted
from turnwise.scheduler import Scheduler, leaving, services
from turnwise.scheduler.signals import SignalsEnd
from turnwise.storages import Storage
from turnwise.texts import gate_from_text
from turnwise.turn import Turn


@pytest.fixture
def heard() -> Heard:
    return Heard()


def a_scheduler(storage: object, heard: Heard, **more: Any) -> Scheduler:
    return Scheduler(cast("Storage", storage), runner_id="a", observers=(heard,), **more)


def test_an_idle_scheduler_stops_in_less_than_a_second(heard: Heard) -> None:
    storage = due_later()
    scheduler = a_scheduler(storage, heard)
    for number in range(20):
        scheduler.add(lambda: None, "every 1m", name=f"job {number}")
    scheduler.start()
    heard.wait_for(Looked, count=20)
    began = time.monotonic()
    assert scheduler.stop()
    assert time.monotonic() - began < 1
    assert [row.left_at is not None for row in storage.runners("default")] == [True]
    assert len(heard.of(RunnerLeft)) == 1


def test_a_scheduler_without_services_starts_and_stops(heard: Heard) -> None:
    scheduler = a_scheduler(due_later(), heard)
    with scheduler:
        eventually(lambda: scheduler.health().storage_answers, "the storage answers")
    assert heard.events == [], "it never joined"


def test_what_runs_is_told_of_the_stop_and_gets_its_grace(heard: Heard) -> None:
    storage = due()
    scheduler = a_scheduler(storage, heard)

    @scheduler.every("1m")
    def job(turn: Turn) -> None:
        eventually(lambda: turn.stop_requested, "the stop is asked for")

    scheduler.start()
    heard.wait_for(TurnStarted)
    assert scheduler.stop(30)
    assert ends_of(storage, "job") == [("completed", "")]


def test_without_a_grace_a_stop_waits_as_long_as_the_functions_take(heard: Heard) -> None:
    storage = due()
    go_on = threading.Event()
    answers: list[bool] = []
    scheduler = a_scheduler(storage, heard)
    scheduler.add(lambda: go_on.wait(30), "every 1m", name="job")
    scheduler.start()
    heard.wait_for(TurnStarted)
    stopping = threading.Thread(target=lambda: answers.append(scheduler.stop()))
    stopping.start()
    stopping.join(0.05)
    assert answers == []
    go_on.set()
    stopping.join(30)
    assert answers == [True]
    assert ends_of(storage, "job") == [("completed", "")]


def test_after_the_grace_a_coroutine_is_cancelled_and_ends_as_stopped(heard: Heard) -> None:
    storage = due()
    seen: list[str] = []
    scheduler = a_scheduler(storage, heard)

    @scheduler.every("1m")
    async def job() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            seen.append("cleaned up")

    scheduler.start()
    heard.wait_for(TurnStarted)
    assert scheduler.stop(0.05)
    assert seen == ["cleaned up"]
    assert ends_of(storage, "job") == [("abandoned", "stopped")]
    assert heard.of(RunnerLeft)


def test_a_turn_that_ended_as_stopped_is_no_attempt(heard: Heard) -> None:
    storage = due()
    scheduler = a_scheduler(storage, heard)
    scheduler.add(_sleeps, "every 1m", name="job")
    scheduler.start()
    heard.wait_for(TurnStarted)
    scheduler.stop(0)
    [run] = runs_of(storage, "job")
    gate = storage.read("default", ("job",)).services["job"].gate
    assert gate is not None
    assert run.reason == "stopped"
    assert gate_from_text(gate.body).attempts == ()


async def _sleeps() -> None:
    await asyncio.sleep(30)


def test_a_coroutine_that_swallows_its_cancellation_is_given_up(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_CANCELLING", 50_000)
    storage = due()
    scheduler = a_scheduler(storage, heard)

    @scheduler.every("1m")
    async def job() -> None:
        for _ in range(100):
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue

    scheduler.start()
    heard.wait_for(TurnStarted)
    assert scheduler.stop(0)
    assert ends_of(storage, "job") == [("abandoned", "stopped")]


def test_a_plain_function_that_goes_on_beyond_its_grace_is_given_up_and_not_heard_any_more(
    heard: Heard,
) -> None:
    storage = due()
    go_on, ended = threading.Event(), threading.Event()

    def job() -> None:
        go_on.wait(30)
        ended.set()

    scheduler = a_scheduler(storage, heard)
    scheduler.add(job, "every 1m")
    scheduler.start()
    heard.wait_for(TurnStarted)
    assert scheduler.stop(0.05)
    assert ends_of(storage, "job") == [("abandoned", "stopped")]
    go_on.set()
    assert ended.wait(30)
    eventually(lambda: "turnwise-job" not in _threads(), "its thread ends")
    assert ends_of(storage, "job") == [("abandoned", "stopped")]
    assert len(heard.of(TurnEnded)) == 1


def _threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_a_block_that_holds_a_turn_gets_its_grace_and_is_given_up(heard: Heard) -> None:
    storage = due()
    scheduler = a_scheduler(storage, heard)
    scheduler.add(None, "every 1m", name="job")
    scheduler.start()
    with scheduler.turn("job") as turn:
        assert turn is not None
        assert scheduler.stop(0.05)
        assert turn.stop_requested
    assert ends_of(storage, "job") == [("abandoned", "stopped")]


def test_a_second_stop_may_shorten_the_grace_and_never_lengthens_it(heard: Heard) -> None:
    storage = due()
    scheduler = a_scheduler(storage, heard)
    scheduler.add(_sleeps, "every 1m", name="job")
    scheduler.start()
    heard.wait_for(TurnStarted)
    first = threading.Thread(target=lambda: scheduler.stop(1000))
    first.start()
    eventually(lambda: not scheduler.health().is_running, "it stops")
    assert scheduler.stop(0)
    first.join(30)
    assert not first.is_alive()
    assert scheduler.stop(1000)
    assert ends_of(storage, "job") == [("abandoned", "stopped")]


# Stopping from within -----------------------------------------------------------------------


def _plainly(stop: Callable[[], bool]) -> Callable[[], object]:
    return stop


def _in_a_coroutine(stop: Callable[[], bool]) -> Callable[[], object]:
    async def job() -> bool:
        return stop()

    return job


def _in_a_task(stop: Callable[[], bool]) -> Callable[[], object]:
    async def inner() -> bool:
        return stop()

    async def job() -> bool:
        return await asyncio.create_task(inner())

    return job


def _in_a_thread_of_asyncio(stop: Callable[[], bool]) -> Callable[[], object]:
    async def job() -> bool:
        return await asyncio.to_thread(stop)

    return job


def _in_a_loop_of_its_own(stop: Callable[[], bool]) -> Callable[[], object]:
    return lambda: asyncio.run(asyncio.to_thread(stop))


@pytest.mark.parametrize(
    "kind", [_plainly, _in_a_coroutine, _in_a_task, _in_a_thread_of_asyncio, _in_a_loop_of_its_own]
)
def test_stopping_from_within_a_function_does_not_wait_for_it(
    kind: Callable[[Callable[[], bool]], Callable[[], object]], heard: Heard
) -> None:
    storage = due()
    answers: list[bool] = []
    scheduler = a_scheduler(storage, heard)

    def stop() -> bool:
        answers.append(scheduler.stop())
        return True

    scheduler.add(kind(stop), "every 1m", name="job")
    scheduler.start()
    heard.wait_for(RunnerLeft)
    assert answers == [False]
    assert ends_of(storage, "job") == [("completed", "")]
    assert scheduler.stop(5)


def test_an_observer_that_stops_the_scheduler_does_not_wait_for_the_thread_it_runs_in() -> None:
    heard = Heard()
    answers: list[bool] = []

    def observer(event: Event) -> None:
        if isinstance(event, TurnStarted):
            answers.append(scheduler.stop())

    scheduler = Scheduler(due(), runner_id="a", observers=(observer, heard))
    scheduler.add(lambda: None, "every 1m", name="job")
    scheduler.start()
    heard.wait_for(RunnerLeft)
    assert answers == [False]
    assert scheduler.stop(5)


def test_a_scheduler_within_a_function_of_another_one_is_stopped_by_it_as_any_other(
    heard: Heard,
) -> None:
    inner_heard = Heard()
    answers: list[bool] = []

    def job() -> None:
        inner = a_scheduler(due(), inner_heard)
        inner.add(lambda: answers.append(outer.stop()), "every 1m", name="inner")
        inner.start()
        inner_heard.wait_for(TurnEnded)
        answers.append(inner.stop(5))

    outer = a_scheduler(due(), heard)
    outer.add(job, "every 1m")
    outer.start()
    heard.wait_for(RunnerLeft)
    assert answers == [False, True]
    assert outer.stop(5)


# The storage away ---------------------------------------------------------------------------


def test_an_end_that_cannot_be_recorded_is_given_up_after_some_time(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leaving, "LAST_WORDS", 200_000)
    shaky = Shaky(due())
    scheduler = a_scheduler(shaky, heard)
    scheduler.add(lambda: _call(shaky.away), "every 1m", name="job")
    scheduler.start()
    heard.wait_for(TurnStarted)
    eventually(lambda: shaky.failing, "the function has ended")
    assert scheduler.stop()
    assert heard.of(TurnEnded) == []
    said = "runner a could not say that it leaves: no connection for leave"
    assert said in [record.message for record in caplog.records]


def _call(function: Callable[[], None]) -> None:
    function()


def test_a_scheduler_whose_storage_never_answered_stops_at_once(heard: Heard) -> None:
    shaky = Shaky(due())
    shaky.away()
    scheduler = a_scheduler(shaky, heard)
    scheduler.add(lambda: None, "every 1m", name="job")
    scheduler.start()
    began = time.monotonic()
    assert scheduler.stop()
    assert time.monotonic() - began < 1


def test_a_scheduler_that_could_not_join_stops_at_once(heard: Heard) -> None:
    shaky = Shaky(due())
    shaky.away("heartbeat")
    scheduler = a_scheduler(shaky, heard)
    scheduler.add(lambda: None, "every 1m", name="job")
    scheduler.start()
    eventually(lambda: "heartbeat" in shaky.calls, "it has tried")
    assert scheduler.stop(5)
    assert "leave" not in shaky.calls


def test_who_leaves_a_slot_behind_has_all_others_look(heard: Heard) -> None:
    shaky = Shaky(due())
    scheduler = a_scheduler(shaky, heard)
    scheduler.add(_sleeps, "every 1m", name="job")
    scheduler.start()
    heard.wait_for(TurnStarted)
    scheduler.stop(0)
    assert shaky.calls[-2:] == ["leave", "advance"]


# Signals ------------------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys, threading, time
sys.path.insert(0, sys.argv[1])
from live import Heard, due, ends_of
from turnwise.scheduler import Scheduler
storage = due()
scheduler = Scheduler(storage, runner_id="a", grace={grace!r})
me = os.getpid()
{job}
scheduler.run()
print(ends_of(storage, "job"), threading.active_count(), signal.getsignal(signal.SIGTERM).name)
"""


def ran(job: str, *, grace: str = "30s") -> "subprocess.CompletedProcess[str]":
    """A program that runs a scheduler until it ends."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(job=job, grace=grace), os.path.dirname(__file__)],  # noqa: PTH120 (a path for another process)
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_a_program_in_good_order(name: str) -> None:
    done = ran(f"""
@scheduler.every("1m")
def job(turn):
    os.kill(me, signal.{name})
    while not turn.stop_requested:
        time.sleep(0.01)
""")
    assert (done.returncode, done.stdout) == (0, "[('completed', '')] 1 SIG_DFL\n"), done.stderr


@pytest.mark.parametrize("count", [1, 2])
def test_a_signal_that_interrupts_no_wait_of_the_main_thread_is_heard_all_the_same(
    count: int,
) -> None:
    """As one that comes just before the wait begins, or that the system gives to a thread."""
    done = ran(
        f"""
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
@scheduler.every("1m")
def job(turn):
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    os.kill(me, signal.SIGTERM)
    while not turn.stop_requested:
        time.sleep(0.01)
    for _ in range({count} - 1):
        os.kill(me, signal.SIGTERM)
        time.sleep(30)
"""
    )
    ended = "('completed', '')" if count == 1 else "('abandoned', 'stopped')"
    assert done.stdout.startswith(f"[{ended}]"), done.stderr


def test_a_second_signal_ends_the_grace() -> None:
    done = ran("""
@scheduler.every("1m")
async def job(turn):
    import asyncio
    os.kill(me, signal.SIGTERM)
    while not turn.stop_requested:
        await asyncio.sleep(0.01)
    os.kill(me, signal.SIGTERM)
    await asyncio.sleep(30)
""")
    assert (done.returncode, done.stdout) == (0, "[('abandoned', 'stopped')] 1 SIG_DFL\n"), (
        done.stderr
    )


def test_a_stop_from_within_a_function_ends_the_program() -> None:
    done = ran("""
@scheduler.every("1m")
def job():
    assert scheduler.stop() is False
""")
    assert (done.returncode, done.stdout) == (0, "[('completed', '')] 1 SIG_DFL\n"), done.stderr


def test_a_process_that_a_function_has_forked_is_ended_by_a_signal_as_any_other() -> None:
    done = ran("""
@scheduler.every("1m")
def job():
    there, here = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(here, b"x")  # a signal that comes before is lost: the interpreter forgets it
        time.sleep(30)
        os._exit(9)
    os.read(there, 1)
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    scheduler.request_stop()
""")
    assert done.stdout == "-15\n[('completed', '')] 1 SIG_DFL\n", done.stderr


def test_in_another_thread_than_the_main_one_a_scheduler_runs_until_it_is_asked_to_stop(
    heard: Heard,
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    scheduler = a_scheduler(due_later(), heard)
    scheduler.add(lambda: None, "every 1m", name="job")
    running = threading.Thread(target=scheduler.run)
    running.start()
    heard.wait_for(RunnerJoined)
    assert signal.getsignal(signal.SIGTERM) is before
    scheduler.request_stop()
    running.join(30)
    assert not running.is_alive()
    assert heard.of(RunnerLeft)


def test_each_signal_after_the_first_hurries_and_the_old_handlers_come_back() -> None:
    calls: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    with SignalsEnd(lambda: calls.append("stop"), lambda: calls.append("hurry")):
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
    assert calls == ["stop", "hurry", "hurry"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_a_forked_child_a_signal_does_what_it_does_without_a_handler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[object] = []
    signals = SignalsEnd(lambda: done.append("stop"), lambda: done.append("hurry"))
    signals._pid = os.getppid()  # it was made in another process
    monkeypatch.setattr(os, "kill", lambda pid, number: done.append((pid, number)))
    monkeypatch.setattr(signal, "signal", lambda number, how: done.append((number, how)))
    signals._heard(signal.SIGTERM, None)
    assert done == [(signal.SIGTERM, signal.SIG_DFL), (os.getpid(), signal.SIGTERM)]


def test_hurrying_a_scheduler_that_does_not_run_does_nothing(heard: Heard) -> None:
    a_scheduler(due(), heard)._end_grace()


def test_a_stop_that_takes_longer_than_it_may_answers_that_something_still_runs(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedulers, "_LONGEST_STOP_SECONDS", 0.05)
    shaky = Shaky(due_later())
    scheduler = a_scheduler(shaky, heard)
    scheduler.add(lambda: None, "every 1m", name="job")
    scheduler.start()
    heard.wait_for(Looked)
    shaky.hangs = threading.Event()
    assert scheduler.stop(timedelta()) is False
    shaky.hangs.set()
    assert scheduler.stop(30)


def test_what_was_given_up_is_neither_watched_nor_given_up_again(heard: Heard) -> None:
    scheduler = a_scheduler(due(), heard)
    scheduler.add(None, "every 1m", name="job")
    with scheduler, scheduler.turn("job") as turn:
        assert turn is not None
        engine = scheduler._engine
        assert engine is not None
        service = engine.services.by_name["job"]
        state = service.turn
        assert state is not None
        engine.services._give_up(service)
        engine.services._give_up(service)
        assert engine.services._watch(service, state) is None
        assert len(heard.wait_for(TurnEnded)) == 1


def test_an_id_that_was_not_given_is_made_anew_at_each_start_and_a_hurried_stop_ends_the_grace(
    heard: Heard,
) -> None:
    storage = due()
    scheduler = Scheduler(storage, observers=(heard,))
    scheduler.add(_sleeps, "every 1m", name="job")
    before = scheduler.runner_id
    scheduler.start()
    assert scheduler.runner_id != before
    heard.wait_for(TurnStarted)
    scheduler._end_grace()
    assert scheduler.stop()
    assert ends_of(storage, "job") == [("abandoned", "stopped")]
