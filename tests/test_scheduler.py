"""A scheduler with its real threads: what it registers, serves, survives, and says of itself."""

import asyncio
import contextlib
import contextvars
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

import pytest

from live import (
    MINUTE,
    Clock,
    Heard,
    Shaky,
    due,
    due_later,
    ends_of,
    eventually,
    runs_of,
)
from turnwise import scheduler as schedulers
from turnwise.actions import TurnWanted
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.errors import SchemaError, StorageError, TurnLostError
from turnwise.events import (
    DuplicateRunner,
    Event,
    Looked,
    RunnerJoined,
    RunnerLeft,
    StorageBack,
    StorageLost,
    TurnEnded,
    TurnLost,
    TurnOverdue,
    TurnStarted,
)
from turnwise.gate import pause
from turnwise.machine import Machine
from turnwise.scheduler import Scheduler, machines
from turnwise.scheduler import engine as engines
from turnwise.scheduler.asking import Asking
from turnwise.scheduler.engine import Engine, monotonic_us
from turnwise.storages import Kind, Record, Storage
from turnwise.storages.memory import MemoryStorage
from turnwise.texts import gate_from_text, gate_to_text
from turnwise.turn import Turn

TIMEOUT = "1500ms"  # of heartbeats


@pytest.fixture
def heard() -> Heard:
    return Heard()


def a_scheduler(storage: object, heard: Heard | None = None, **more: Any) -> Scheduler:
    more = {"runner_id": "a", "observers": () if heard is None else (heard,)} | more
    return Scheduler(cast("Storage", storage), **more)


# Registering --------------------------------------------------------------------------------


def test_a_decorated_function_is_handed_back_as_it_is_and_served_under_its_name() -> None:
    scheduler = a_scheduler(due())

    def tidy_up() -> None: ...

    async def report(turn: Turn) -> None:
        del turn

    assert scheduler.every("5m")(tidy_up) is tidy_up
    assert scheduler.cron("0 3 * * *", timezone="Europe/Vienna")(report) is report
    assert scheduler.every("1m", name="other")(tidy_up) is tidy_up
    assert list(scheduler._registered) == ["tidy_up", "report", "other"]
    assert repr(scheduler) == "<Scheduler of 3 services in group 'default'>"


def test_knobs_may_be_durations_or_texts() -> None:
    scheduler = a_scheduler(due())
    scheduler.every("10m", name="a", timeout="30s", stagger="auto", start_within="2m")(print)
    scheduler.add(print, "every 10m", name="b", timeout=timedelta(seconds=30), stagger="1m")
    settings = scheduler._registered["a"][1]
    assert (settings.timeout, settings.stagger) == (timedelta(seconds=30), "auto")
    assert settings.start_within == timedelta(minutes=2)
    assert scheduler._registered["b"][1].stagger == timedelta(minutes=1)


@pytest.mark.parametrize(
    ("add", "error", "said"),
    [
        (lambda s: s.add(lambda: None, "every 1m"), ValueError, "name must be given"),
        (lambda s: s.add(None, "every 1m"), ValueError, "name must be given for None"),
        (lambda s: s.add(print, "every 1m", name=""), ValueError, "1 to 255 characters"),
        (lambda s: s.add("print", "every 1m", name="x"), TypeError, "must be callable"),
        (lambda s: s.add(print, "now and then", name="x"), ValueError, "now and then"),
        (lambda s: s.add(print, "every 1m", name="x", knob=1), TypeError, "no such knob: 'knob'"),
        (lambda s: s.add(print, "every 1m", name="x", timeout="soon"), ValueError, "timeout: "),
        (lambda s: s.add(print, "every 1m", name="x", timeout=7), TypeError, "timeout must be"),
        (lambda s: s.add(print, "every 1m", name="x", attempts=0), ValueError, "attempts must be"),
        (lambda s: s.every("soon"), ValueError, "soon"),
        (lambda s: s.cron("nonsense"), ValueError, "nonsense"),
    ],
)
def test_what_cannot_be_a_service_is_refused_when_it_is_added(
    add: Callable[[Any], object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        add(a_scheduler(due()))


def test_two_services_cannot_have_one_name() -> None:
    scheduler = a_scheduler(due())
    scheduler.add(print, "every 1m", name="x")
    with pytest.raises(ValueError, match="name must be new, and 'x' is a service already"):
        scheduler.add(print, "every 1m", name="x")


def test_what_is_not_given_is_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNWISE_GROUP", "billing")
    monkeypatch.setenv("TURNWISE_RUNNER_ID", "pod-7")
    monkeypatch.setenv("TURNWISE_STORAGE", "memory:")
    with Scheduler() as scheduler:
        assert (scheduler.group, scheduler.runner_id) == ("billing", "pod-7")
        assert isinstance(scheduler._opened, MemoryStorage)
    assert scheduler._opened is None
    monkeypatch.delenv("TURNWISE_GROUP")
    monkeypatch.delenv("TURNWISE_RUNNER_ID")
    other = Scheduler("memory:")
    assert other.group == "default"
    assert other.runner_id != Scheduler("memory:").runner_id


def _awaited(function: Callable[[], Any]) -> Any:
    """A plain function that hands on what another one gives."""
    return function()


# Serving ------------------------------------------------------------------------------------


def test_a_plain_function_is_served_in_a_thread_named_after_its_service(heard: Heard) -> None:
    storage = due()
    seen: list[Any] = []
    scheduler = a_scheduler(storage, heard)

    @scheduler.every("1m", name="tidy up")
    def _tidy_up(turn: Turn) -> None:
        turn.check()
        seen.append((threading.current_thread().name, turn.service, turn.fencing_token))
        seen.append(turn.remaining() > 50)

    with scheduler:
        [ended] = heard.wait_for(TurnEnded)
    assert seen == [("turnwise-tidy up", "tidy up", 1), True]
    assert (ended.status, ended.recorded) == (Status.COMPLETED, True)
    assert ends_of(storage, "tidy up") == [("completed", "")]
    order = [
        type(e) for e in heard.events if isinstance(e, RunnerJoined | TurnStarted | RunnerLeft)
    ]
    assert order == [RunnerJoined, TurnStarted, RunnerLeft]


def test_a_coroutine_is_served_on_a_loop_of_the_schedulers_own(heard: Heard) -> None:
    storage = due()
    seen: list[str] = []
    scheduler = a_scheduler(storage, heard)

    @scheduler.every("1m")
    async def job() -> None:
        await asyncio.sleep(0)
        seen.append(threading.current_thread().name)

    with scheduler:
        heard.wait_for(TurnEnded)
    assert seen == ["turnwise-loop"]
    assert ends_of(storage, "job") == [("completed", "")]
    assert "turnwise-loop" not in {thread.name for thread in threading.enumerate()}


def test_a_plain_function_that_gives_back_a_coroutine_has_it_awaited(heard: Heard) -> None:
    storage = due()
    seen: list[str] = []

    async def inner() -> None:
        seen.append(threading.current_thread().name)

    scheduler = a_scheduler(storage, heard)
    scheduler.add(lambda: _awaited(inner), "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnEnded)
    assert seen == ["turnwise-loop"]
    assert ends_of(storage, "job") == [("completed", "")]


def test_a_function_that_gives_back_what_nobody_has_run_has_failed(heard: Heard) -> None:
    storage = due()
    scheduler = a_scheduler(storage, heard)

    async def inner() -> None: ...

    scheduler.add(lambda: [inner(), inner()], "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnEnded)
    assert ends_of(storage, "job") == [("abandoned", "exception:TypeError")]


_request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


def test_functions_see_the_context_in_which_the_scheduler_was_started(heard: Heard) -> None:
    seen: dict[str, str] = {}
    scheduler = a_scheduler(due(), heard)

    @scheduler.every("1m")
    def plain() -> None:
        seen["plain"] = _request.get()
        _request.set("changed by plain")

    @scheduler.every("1m")
    async def coroutine() -> None:
        seen["coroutine"] = _request.get()

    @scheduler.every("1m")
    def both() -> Any:
        async def inner() -> None:
            seen["both"] = _request.get()

        _request.set("both")
        return inner()

    token = _request.set("of the program")
    try:
        with scheduler:
            heard.wait_for(TurnEnded, count=3)
    finally:
        _request.reset(token)
    assert seen == {"plain": "of the program", "coroutine": "of the program", "both": "both"}
    assert _request.get() == "none"


def test_there_are_two_threads_one_loop_and_one_for_each_turn_at_work(heard: Heard) -> None:
    go_on = threading.Event()
    before = set(threading.enumerate())
    scheduler = a_scheduler(due(), heard)
    for number in range(10):
        scheduler.add(lambda: go_on.wait(30), "every 1m", name=f"plain {number}")

        async def waits() -> None:
            while not go_on.is_set():  # noqa: ASYNC110 (the test sets it from its own thread)
                await asyncio.sleep(0.01)

        scheduler.add(waits, "every 1m", name=f"coroutine {number}")
    with scheduler:
        heard.wait_for(TurnStarted, count=20)
        names = sorted(thread.name for thread in set(threading.enumerate()) - before)
        go_on.set()
        heard.wait_for(TurnEnded, count=20)
    assert names == sorted(
        ["turnwise-driver", "turnwise-heartbeat", "turnwise-loop"]
        + [f"turnwise-plain {number}" for number in range(10)]
    )


def test_looks_that_are_due_at_one_time_go_in_one_request(heard: Heard) -> None:
    shaky = Shaky(due())
    scheduler = a_scheduler(shaky, heard)
    for number in range(10):
        scheduler.add(lambda: None, "every 1m", name=f"job {number}")
    with scheduler:
        heard.wait_for(TurnEnded, count=10)
    reads = [
        args[1] for name, args in zip(shaky.calls, shaky.arguments, strict=True) if name == "read"
    ]
    assert max(len(cast("list[str]", services)) for services in reads) == 10
    assert len(reads) < 20


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("is_coroutine", [False, True])
def test_whatever_a_function_raises_ends_its_turn_alone_and_is_logged_with_its_traceback(
    error: BaseException, is_coroutine: bool, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    storage = due()
    scheduler = a_scheduler(storage, heard)

    def fails() -> None:
        raise error

    async def fails_too() -> None:
        raise error

    scheduler.add(fails_too if is_coroutine else fails, "every 1m", name="fails")
    scheduler.add(lambda: None, "every 1m", name="goes on")
    with scheduler:
        heard.wait_for(TurnEnded, count=2)
        assert scheduler.health().is_running
    name = type(error).__name__
    assert ends_of(storage, "fails") == [("abandoned", f"exception:{name}")]
    assert ends_of(storage, "goes on") == [("completed", "")]
    [record] = [each for each in caplog.records if each.exc_info]
    assert record.message == f"fails: the function failed: {error!r}"


def test_an_observer_that_raises_stops_nothing_and_is_logged(
    heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    storage = due()

    def observer(event: Event) -> None:
        raise ZeroDivisionError(event)

    scheduler = Scheduler(storage, runner_id="a", observers=(observer, heard))
    scheduler.add(lambda: None, "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnEnded)
    assert ends_of(storage, "job") == [("completed", "")]
    assert any("an observer failed on" in record.message for record in caplog.records)


def test_a_service_can_be_added_while_the_scheduler_runs(heard: Heard) -> None:
    storage = due()
    scheduler = a_scheduler(storage, heard)
    with scheduler:
        eventually(lambda: scheduler.health().storage_answers, "the storage answers")
        scheduler.add(lambda: None, "every 1m", name="added", heartbeat_timeout=TIMEOUT)
        assert heard.wait_for(TurnEnded)[0].service == "added"


def test_a_service_that_another_thread_adds_as_the_scheduler_starts_is_served(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = a_scheduler(due(), heard)
    scheduler.add(lambda: None, "every 1d", name="first", heartbeat_timeout=TIMEOUT)
    as_it_is = scheduler._service

    def meanwhile(*given: Any) -> Any:
        monkeypatch.undo()
        adding = threading.Thread(
            target=lambda: scheduler.add(
                lambda: None, "every 1m", name="added", heartbeat_timeout=TIMEOUT
            )
        )
        adding.start()
        adding.join()
        return as_it_is(*given)

    monkeypatch.setattr(scheduler, "_service", meanwhile)
    with scheduler:
        heard.wait_for(RunnerJoined)
        eventually(lambda: "added" in {e.service for e in heard.of(TurnEnded)}, "it is served")


def test_of_two_threads_that_start_a_scheduler_at_once_one_does(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = a_scheduler(due(), heard)
    both, as_it_is, refused = threading.Barrier(2), scheduler._new_engine, []

    def at_once(loop: Any) -> Any:
        made = as_it_is(loop)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.3)
        return made

    def start() -> None:
        try:
            scheduler.start()
        except RuntimeError as error:
            refused.append(str(error))

    monkeypatch.setattr(scheduler, "_new_engine", at_once)
    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scheduler.stop(5)
    assert len(refused) == 1
    assert "runs already" in refused[0]


def test_a_process_that_may_not_run_watches_and_takes_no_turn(heard: Heard) -> None:
    storage = due()
    watcher = a_scheduler(storage, heard, may_run=False, runner_id="watcher")
    watcher.add(lambda: None, "every 1m", name="job")
    worker = a_scheduler(storage, heard)
    worker.add(lambda: None, "every 1m", name="job")
    with watcher, worker:
        assert [e.runner_id for e in heard.wait_for(TurnEnded)] == ["a"]


def test_two_processes_under_one_id_are_both_told(heard: Heard) -> None:
    storage = due()
    twins = [a_scheduler(storage, heard), a_scheduler(storage, heard)]
    for twin in twins:
        twin.add(lambda: None, "every 1m", name="job", heartbeat_timeout="300ms")
    with twins[0], twins[1]:
        told = heard.wait_for(DuplicateRunner, count=2)
    assert {event.boot_id for event in told} == {twin._boot_id for twin in twins}


def test_what_is_staggered_is_not_due_at_one_instant() -> None:
    scheduler = a_scheduler(due())
    for number in range(3):
        scheduler.add(lambda: None, "every 10m", name=f"job {number}", stagger="auto")
    at = datetime(2026, 1, 1, 0, 5, tzinfo=UTC)
    dues = {
        scheduler._service(name, print, settings).machine.planner.schedule.period_at(at).due
        for name, (_, settings) in scheduler._registered.items()
    }
    assert len(dues) == 3
    assert max(dues) - min(dues) < timedelta(minutes=1)


# Starting -----------------------------------------------------------------------------------


def test_a_scheduler_that_runs_cannot_be_started_again_until_it_has_stopped(heard: Heard) -> None:
    scheduler = a_scheduler(due(), heard)
    scheduler.add(lambda: None, "every 1m", name="job")
    for life in (1, 2):
        scheduler.start()
        with pytest.raises(RuntimeError, match="runs already"):
            scheduler.start()
        heard.wait_for(RunnerJoined, count=life)
        assert scheduler.stop(5)
    assert scheduler.stop(), "of one that does not run, everything has ended"
    assert len({event.boot_id for event in heard.of(RunnerJoined)}) == 2


def test_a_storage_that_is_away_at_the_start_is_waited_for_and_warned_of_once(
    heard: Heard, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_FIRST_BACKOFF_SECONDS", 0.001)
    shaky = Shaky(due())
    shaky.away()
    scheduler = a_scheduler(shaky, heard)
    scheduler.add(lambda: None, "every 1m", name="job")
    with scheduler:
        eventually(lambda: shaky.calls.count("read") > 4, "it is tried again")
        health = scheduler.health()
        assert (health.is_running, health.storage_answers, health.is_well) == (True, False, False)
        assert health.error == "no connection for read"
        assert len(heard.of(StorageLost)) == 1
        shaky.back()
        heard.wait_for(TurnEnded)
        assert scheduler.health().storage_answers
    warned = [r.message for r in caplog.records if r.levelno >= logging.WARNING]
    assert warned[0] == "the storage does not answer: no connection for read"
    assert [each[:27] for each in warned[1:]] == ["the storage answers again, "]


def test_tables_that_turn_out_to_be_wrong_while_the_storage_is_waited_for_are_told_of_once(
    heard: Heard, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_FIRST_BACKOFF_SECONDS", 0.001)
    shaky = Shaky(due())
    shaky.away()
    scheduler = a_scheduler(shaky, heard)
    scheduler.add(lambda: None, "every 1m", name="job")
    with scheduler:
        heard.wait_for(StorageLost)
        shaky.failing["read"] = SchemaError("its tables are of version 2")
        eventually(lambda: len(heard.of(StorageLost)) == 2, "it is told as well")
        tried = shaky.calls.count("read")
        eventually(lambda: shaky.calls.count("read") > tried + 2, "it is tried again")
        assert [lost.needs_repair for lost in heard.of(StorageLost)] == [False, True]
        shaky.back()  # as by turnwise schema --upgrade
        heard.wait_for(TurnEnded)
    [said] = [r.message for r in caplog.records if r.levelno == logging.ERROR]
    assert said.endswith("it is tried again until then: its tables are of version 2")


def test_where_it_is_not_waited_for_a_storage_that_is_away_is_raised() -> None:
    shaky = Shaky(due())
    shaky.away()
    scheduler = a_scheduler(shaky, wait_for_storage=False)
    with pytest.raises(StorageError, match="no connection"):
        scheduler.start()
    assert not scheduler.health().is_running
    assert "turnwise-driver" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("error", [SchemaError("no table"), ZeroDivisionError("a bug")])
def test_what_does_not_get_better_by_waiting_is_raised_at_the_start_and_not_said_to_be_tried_again(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    shaky = Shaky(due())
    shaky.failing["read"] = error
    with pytest.raises(type(error)):
        a_scheduler(shaky).start()
    assert caplog.messages == []


def test_a_url_that_is_none_is_raised_at_the_start() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        a_scheduler("nonsense:").start()


def test_a_storage_that_is_slow_to_open_does_not_hold_up_the_start(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedulers, "_LONGEST_START_SECONDS", 0.01)
    shaky = Shaky(due())
    shaky.hangs = threading.Event()
    scheduler = a_scheduler(shaky, heard)
    scheduler.add(lambda: None, "every 1m", name="job")
    with scheduler:
        assert not scheduler.health().storage_answers
        shaky.hangs.set()
        heard.wait_for(TurnEnded)


def test_where_no_thread_is_left_at_the_start_it_is_raised_and_nothing_is_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = threading.active_count()
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "turnwise-heartbeat":
            raise RuntimeError("can't start new thread")
        real(thread)

    scheduler = a_scheduler(due())
    scheduler.add(lambda: None, "every 1m", name="job")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            scheduler.start()
    eventually(lambda: threading.active_count() == before, "the driver has ended")
    scheduler.start()
    assert scheduler.stop(5)


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_a_turn_that_gets_no_thread_did_not_start_which_is_no_attempt(
    is_coroutine: bool, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = due()
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name in ("turnwise-job", "turnwise-loop"):
            raise RuntimeError("can't start new thread")
        real(thread)

    async def coroutine() -> None: ...

    monkeypatch.setattr(threading.Thread, "start", start)
    scheduler = a_scheduler(storage, heard)
    scheduler.add(coroutine if is_coroutine else lambda: None, "every 1m", name="job")
    with scheduler:
        [ended] = heard.wait_for(TurnEnded)
    assert (ended.reason, ended.took < 1_000_000) == ("not_started", True)
    assert ends_of(storage, "job") == [("abandoned", "not_started")]


def test_an_awaitable_for_which_no_loop_can_be_started_fails_its_turn(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = due()
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "turnwise-loop":
            raise RuntimeError("can't start new thread")
        real(thread)

    async def inner() -> None: ...

    made = inner()
    monkeypatch.setattr(threading.Thread, "start", start)
    scheduler = a_scheduler(storage, heard)
    scheduler.add(lambda: made, "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnEnded)
    made.close()
    assert ends_of(storage, "job") == [("abandoned", "exception:RuntimeError")]


# The storage away ---------------------------------------------------------------------------


def test_a_storage_that_goes_and_comes_back_has_one_line_each(
    heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    shaky = Shaky(due())
    scheduler = a_scheduler(shaky, heard)
    for number in range(5):
        scheduler.add(lambda: None, "every 1m", name=f"job {number}", heartbeat_timeout="300ms")
    with scheduler:
        heard.wait_for(TurnEnded, count=5)
        shaky.away()
        shaky.calls.clear()
        eventually(lambda: shaky.calls.count("heartbeat") > 5, "it is tried again and again")
        assert not scheduler.health().storage_answers
        shaky.back()
        heard.wait_for(StorageBack)
    warned = [r.message for r in caplog.records if "the storage" in r.message]
    assert len(warned) == 2
    assert warned[0].startswith("the storage does not answer: no connection for ")
    assert warned[1].startswith("the storage answers again, after ")


def test_a_storage_that_can_be_read_and_not_written_is_away_without_a_line_for_each_try(
    heard: Heard,
) -> None:
    shaky = Shaky(due())

    def observer(event: Event) -> None:
        if len(heard.of(Looked)) == 1 and isinstance(event, Looked):
            shaky.away("swap")  # before the turn of this minute can be over

    scheduler = a_scheduler(shaky, observers=(heard, observer))
    scheduler.add(lambda: None, "every 1m", name="job", heartbeat_timeout="600ms")
    with scheduler:
        eventually(lambda: shaky.calls.count("swap") > 6, "it is tried again and again")
        assert len(heard.of(StorageLost)) == 1
        assert not heard.of(StorageBack)
        shaky.back()
        heard.wait_for(StorageBack)


@pytest.mark.parametrize("name", ["read", "swap", "heartbeat"])
def test_a_storage_that_raises_what_no_storage_may_is_away_and_logged_once(
    name: str, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    shaky = Shaky(due())

    def observer(event: Event) -> None:
        if len(heard.of(Looked)) == 1 and isinstance(event, Looked):
            shaky.failing[name] = ZeroDivisionError()

    scheduler = a_scheduler(shaky, observers=(heard, observer))
    scheduler.add(lambda: None, "every 1m", name="job", heartbeat_timeout="600ms")
    with scheduler:
        heard.wait_for(StorageLost)
        shaky.calls.clear()
        eventually(lambda: shaky.calls.count(name) > 2, "it is tried again")
        shaky.back()
        heard.wait_for(StorageBack)
        heard.wait_for(TurnEnded)
    [record] = [each for each in caplog.records if each.exc_info]
    assert record.message == "the storage has failed as no storage may"
    assert heard.of(StorageLost)[0].error == "ZeroDivisionError()"


def test_a_turn_that_ended_well_while_the_storage_is_away_is_recorded_when_it_is_back(
    heard: Heard,
) -> None:
    storage = due()
    shaky = Shaky(storage)
    scheduler = a_scheduler(shaky, heard)
    scheduler.add(lambda: _awaited(shaky.away), "every 1m", name="job", heartbeat_timeout="150ms")
    with scheduler:
        heard.wait_for(StorageLost)
        service = scheduler._engine.services.by_name["job"] if scheduler._engine else None
        assert service is not None
        eventually(lambda: service.turn is None, "the function has ended")
        assert scheduler.health().services[0].state == "recording"
        shaky.calls.clear()
        eventually(lambda: shaky.calls.count("heartbeat") > 20, "many timeouts pass")
        shaky.back()
        heard.wait_for(TurnEnded)
    # A busy machine may have kept the first turn from its start; then the next one is it.
    ends = [end for end in ends_of(storage, "job") if end[1] != "not_started"]
    assert ends == [("completed", "")]


def test_a_lost_turn_is_told_at_once_though_the_storage_hangs_and_its_coroutine_is_cancelled(
    heard: Heard,
) -> None:
    storage = due()
    shaky = Shaky(storage)
    seen: list[str] = []
    scheduler = a_scheduler(shaky, heard)

    @scheduler.every("1m", heartbeat_timeout="600ms")
    async def job(turn: Turn) -> None:
        shaky.hangs = threading.Event()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append(str(turn.is_lost))
            raise

    # The driver hangs, too: in a look for this one.
    scheduler.add(lambda: None, "every 1s", name="busy", heartbeat_timeout="600ms")
    with scheduler:
        [lost] = [e for e in heard.wait_for(TurnLost) if e.service == "job"]
        eventually(lambda: seen, "the coroutine is cancelled")
        assert shaky.hangs is not None
        shaky.hangs.set()
        shaky.hangs = None
        eventually(lambda: [e for e in heard.of(TurnEnded) if e.service == "job"], "it ends")
    assert seen == ["True"]
    assert "no heartbeat was confirmed" in lost.why
    assert ends_of(storage, "job")[0] == ("abandoned", "lost")


def test_a_turn_that_has_passed_its_timeout_cancels_its_coroutine(heard: Heard) -> None:
    storage = due()
    scheduler = a_scheduler(storage, heard)

    @scheduler.every("1m", timeout="50ms", attempts=1)
    async def job() -> None:
        await asyncio.sleep(30)

    with scheduler:
        heard.wait_for(TurnOverdue)
        heard.wait_for(TurnEnded)
    assert ends_of(storage, "job") == [("abandoned", "timeout")]


def test_an_awaitable_of_a_plain_function_is_cancelled_as_well(heard: Heard) -> None:
    storage = due()
    scheduler = a_scheduler(storage, heard)
    scheduler.add(lambda: asyncio.sleep(30), "every 1m", name="job", timeout="100ms", attempts=1)
    with scheduler:
        heard.wait_for(TurnEnded)
    assert ends_of(storage, "job") == [("abandoned", "timeout")]


def test_a_plain_function_that_is_lost_finds_it_out_by_a_check(heard: Heard) -> None:
    storage = due()
    shaky = Shaky(storage)
    caught: list[TurnLostError] = []
    scheduler = a_scheduler(shaky, heard)

    @scheduler.every("1m", heartbeat_timeout="300ms")
    def job(turn: Turn) -> None:
        shaky.away()
        heard.wait_for(TurnLost)
        assert scheduler.health().services[0].state == "lost"
        try:
            turn.check()
        except TurnLostError as error:
            caught.append(error)
            raise
        finally:
            shaky.back()

    with scheduler:
        heard.wait_for(TurnEnded)
    assert len(caught) == 1
    assert ends_of(storage, "job")[0] == ("abandoned", "lost")


def test_a_turn_that_was_lost_before_its_call_was_made_is_cancelled_all_the_same(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = due()
    scheduler = a_scheduler(storage, heard)
    scheduler.start()
    engine = scheduler._engine
    assert engine is not None
    real = engine.services._start_call

    def slow(work: Any) -> Any:
        call = real(work)
        if work.turn.service == "job":
            engine.services.by_name["job"].machine.turn.lost = True  # type: ignore[union-attr]
        return call

    monkeypatch.setattr(engine.services, "_start_call", slow)
    scheduler.add(lambda: asyncio.sleep(30), "every 1m", name="plain")
    scheduler.add(_sleeps, "every 1m", name="job")
    heard.wait_for(TurnStarted)
    eventually(lambda: [e for e in heard.of(TurnEnded) if e.service == "job"], "it has ended")
    scheduler.stop(0)
    # Whether it had come to its first line or not.
    assert ends_of(storage, "job")[0][1] in ("lost", "not_started")


async def _sleeps() -> None:
    await asyncio.sleep(30)


# Bugs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["next", "receive"])
def test_a_bug_in_one_machine_is_logged_and_stops_no_other_service(
    method: str,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machines, "_REST_AFTER_A_BUG", 50_000)
    real = getattr(Machine, method)
    bugs = [1]

    def buggy(machine: Machine, *args: Any) -> Any:
        if machine.service == "buggy" and bugs and (method == "next" or len(args) == 2):
            bugs.clear()
            raise ZeroDivisionError("a bug")
        return real(machine, *args)

    monkeypatch.setattr(Machine, method, buggy)
    scheduler = a_scheduler(due(), heard)
    scheduler.add(lambda: None, "every 1m", name="buggy")
    scheduler.add(lambda: None, "every 1m", name="other")
    with scheduler:
        ended = heard.wait_for(TurnEnded, count=2)
    assert {event.service for event in ended} == {"buggy", "other"}
    [record] = [each for each in caplog.records if each.exc_info]
    assert record.message == "buggy: the machine failed: a bug; it begins anew"


def test_after_a_bug_during_a_turn_the_machine_begins_anew_when_the_function_has_ended(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = due()
    scheduler = a_scheduler(storage, heard)
    go_on = threading.Event()
    scheduler.add(lambda: go_on.wait(30), "every 1m", name="job", heartbeat_timeout="600ms")
    with scheduler:
        heard.wait_for(TurnStarted)
        engine = scheduler._engine
        assert engine is not None
        service = engine.services.by_name["job"]
        old = service.machine
        real = old.receive

        def once(_at: int, answer: Any) -> Any:
            monkeypatch.setattr(old, "receive", real)
            raise ZeroDivisionError(answer)

        monkeypatch.setattr(old, "receive", once)
        eventually(lambda: service._is_broken, "a heartbeat's answer has hit the bug")
        assert service.machine is old, "its function still runs"
        go_on.set()
        eventually(lambda: service.machine is not old, "a new machine")
        eventually(lambda: ends_of(storage, "job")[0][0] != "running", "the run is closed")


def test_a_bug_in_a_thread_of_the_engine_is_logged_and_shown_by_its_health(
    heard: Heard, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    scheduler = a_scheduler(due(), heard)
    scheduler.add(lambda: None, "every 1m", name="job")
    scheduler.add(None, "every 1m", name="on demand")
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_pause", bug)
        patch.setattr(Asking, "beat", bug)
        with scheduler:
            eventually(lambda: any("the heartbeats of" in r.message for r in caplog.records), "")
            monkeypatch.setattr(Engine, "_wait_for_heartbeat", bug)
    monkeypatch.undo()
    caplog.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_loop", bug)
        with scheduler:
            eventually(lambda: not scheduler.health().is_running, "the driver has ended")
            with scheduler.turn("on demand") as turn:
                assert turn is None
    assert "the driver of runner a ends: a bug" in [record.message for record in caplog.records]


# Health -------------------------------------------------------------------------------------


def test_before_the_start_nothing_runs_and_nothing_is_well() -> None:
    health = a_scheduler(due()).health()
    assert (health.is_running, health.storage_answers, health.services) == (False, False, ())
    assert not health.is_well


def test_health_tells_of_each_service_what_it_does_when_it_is_due_and_when_it_succeeded(
    heard: Heard,
) -> None:
    clock = Clock()
    storage = due(clock)
    go_on = threading.Event()
    scheduler = a_scheduler(storage, heard)
    scheduler.add(lambda: go_on.wait(30), "every 1m", name="job", timeout="10s")
    with scheduler:
        heard.wait_for(TurnStarted)
        health = scheduler.health()
        assert health.is_well
        [job] = health.services
        [run] = runs_of(storage, "job")
        assert (job.name, job.state, job.current_run_id) == ("job", "running", run.id)
        assert job.last_success is None
        go_on.set()
        heard.wait_for(TurnEnded)
        [job] = scheduler.health().services
        assert (job.state, job.current_run_id) == ("waiting", None)
        minute = datetime.fromtimestamp((clock() // MINUTE + 1) * 60, UTC)
        assert job.next_due == minute
        assert job.last_success is not None
        assert minute - timedelta(minutes=1) <= job.last_success <= minute
    assert 0 <= health.seconds < 30
    assert not scheduler.health().is_running


def test_health_shows_a_service_that_is_overdue_and_is_not_well_then(heard: Heard) -> None:
    go_on = threading.Event()
    scheduler = a_scheduler(due(), heard)
    scheduler.add(lambda: go_on.wait(30), "every 1m", name="job", timeout="20ms")
    with scheduler:
        heard.wait_for(TurnOverdue)
        health = scheduler.health()
        go_on.set()
    assert (health.services[0].state, health.is_well) == ("overdue", False)


def test_health_shows_a_service_that_is_paused(heard: Heard) -> None:
    storage = due()
    scheduler = a_scheduler(storage, heard)
    scheduler.add(lambda: None, "every 1m", name="job", heartbeat_timeout=TIMEOUT)
    with scheduler:
        heard.wait_for(TurnEnded)
        reading = storage.read("default", ("job",))
        gate = reading.services["job"].gate
        assert gate is not None
        paused = pause(gate_from_text(gate.body), id="x", now=reading.now, by="me", reason="a test")
        record = Record("paused", gate_to_text(paused))
        assert storage.swap("default", "job", Kind.GATE, gate.version, record).done
        storage.advance("default")
        eventually(lambda: scheduler.health().services[0].state == "paused", "it is noticed")
        assert scheduler.health().is_well


# Turn by turn -------------------------------------------------------------------------------


def manual(storage: object, heard: Heard | None = None) -> Scheduler:
    scheduler = a_scheduler(storage, heard)
    scheduler.add(None, "every 1m", name="nightly", heartbeat_timeout=TIMEOUT)
    return scheduler


def test_a_program_takes_its_turn_itself_once_in_its_period(heard: Heard) -> None:
    storage = due()
    scheduler = manual(storage, heard)
    with scheduler:
        with scheduler.turn("nightly") as turn:
            assert turn is not None
            turn.check()
            assert (turn.service, turn.attempt) == ("nightly", 1)
            with scheduler.turn("nightly") as second:
                assert second is None, "one at a time"
        heard.wait_for(TurnEnded)
        with scheduler.turn("nightly") as turn:
            assert turn is None, "it is served"
    assert ends_of(storage, "nightly") == [("completed", "")]


def test_a_turn_that_was_taken_is_kept_alive_beyond_its_heartbeat_timeout(heard: Heard) -> None:
    storage = due()
    shaky = Shaky(storage)
    scheduler = a_scheduler(shaky, heard)
    scheduler.add(None, "every 1m", name="nightly", heartbeat_timeout="400ms")
    with scheduler, scheduler.turn("nightly") as turn:
        assert turn is not None
        shaky.calls.clear()
        eventually(lambda: shaky.calls.count("heartbeat") > 5, "heartbeats go on")
        turn.check()
    assert ends_of(storage, "nightly") == [("completed", "")]


def test_nothing_is_started_that_the_program_did_not_ask_for(heard: Heard) -> None:
    storage = due()
    scheduler = manual(storage, heard)
    with scheduler:
        looked = len(heard.of(Looked))
        scheduler._engine.wake()  # type: ignore[union-attr]
        eventually(lambda: len(heard.of(Looked)) >= looked, "it has looked")
    assert runs_of(storage, "nightly") == []


def test_an_exception_in_the_block_ends_the_turn_as_abandoned_and_goes_on(heard: Heard) -> None:
    storage = due()
    scheduler = manual(storage, heard)

    def fails() -> None:
        with scheduler.turn("nightly") as turn:
            assert turn is not None
            raise ValueError("no")

    with scheduler, pytest.raises(ValueError, match="no"):
        fails()
    assert ends_of(storage, "nightly") == [("abandoned", "exception:ValueError")]


def test_where_the_storage_is_away_there_is_no_turn_and_nothing_waits(heard: Heard) -> None:
    shaky = Shaky(due())
    scheduler = manual(shaky, heard)
    shaky.away()
    with scheduler:
        began = time.monotonic()
        for _ in range(3):
            with scheduler.turn("nightly") as turn:
                assert turn is None
        assert time.monotonic() - began < 5
        shaky.back()
        heard.wait_for(RunnerJoined)


def test_where_the_storage_goes_while_a_turn_is_asked_for_there_is_none(heard: Heard) -> None:
    shaky = Shaky(due())
    scheduler = manual(shaky, heard)
    with scheduler:
        heard.wait_for(Looked)
        shaky.away("read")
        with scheduler.turn("nightly") as turn:
            assert turn is None
        shaky.back()
        heard.wait_for(StorageBack)


def test_who_asks_just_after_the_start_is_answered_when_the_storage_has_answered(
    heard: Heard,
) -> None:
    scheduler = manual(due_later(), heard)
    with scheduler, scheduler.turn("nightly") as turn:
        assert turn is None
        assert heard.of(RunnerJoined)


def test_a_turn_granted_after_the_wish_was_declined_is_given_back(heard: Heard) -> None:
    storage = due()
    scheduler = manual(storage, heard)
    with scheduler:
        heard.wait_for(Looked)
        engine = scheduler._engine
        assert engine is not None
        service = engine.services.by_name["nightly"]
        give_up = time.monotonic() + 30
        while not heard.of(TurnEnded) and time.monotonic() < give_up:
            with engine.services.lock:
                engine.services.answer(service, TurnWanted())  # nobody waits for it
            engine.wake()
            time.sleep(0.01)
    assert ends_of(storage, "nightly") == [("abandoned", "not_started")]


def test_a_turn_that_is_stopped_while_it_is_handed_over_is_none(heard: Heard) -> None:
    scheduler = manual(due_later(), heard)
    with scheduler:
        assert scheduler.stop(5)
        with pytest.raises(RuntimeError, match="does not run"), scheduler.turn("nightly"):
            pass


@pytest.mark.parametrize("name", ["unknown", "served"])
def test_only_a_service_without_a_function_has_turns_to_take(name: str) -> None:
    scheduler = manual(due())
    scheduler.add(print, "every 1m", name="served")
    with (
        scheduler,
        pytest.raises(ValueError, match=f"service without a function, got '{name}'"),
        scheduler.turn(name),
    ):
        pass


def test_without_a_running_scheduler_there_is_no_turn_to_take() -> None:
    with pytest.raises(RuntimeError, match="does not run"), manual(due()).turn("nightly"):
        pass


# The module ---------------------------------------------------------------------------------


def test_the_module_loads_neither_asyncio_nor_sqlalchemy() -> None:
    program = """
import sys
import turnwise.scheduler
print(sorted({"asyncio", "sqlalchemy", "concurrent.futures"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "[]\n"


def test_monotonic_time_counts_while_the_host_is_suspended_where_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert abs(monotonic_us() - time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000) < 10_000_000
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    assert abs(monotonic_us() - time.monotonic_ns() // 1000) < 10_000_000


def test_an_admission_that_was_long_in_coming_is_followed_by_a_heartbeat_at_once(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0]
    monkeypatch.setattr(schedulers, "Engine", partial(Engine, monotonic=lambda: _later(clock)))
    shaky = Shaky(due())
    go_on = threading.Event()

    def observer(event: Event) -> None:
        if isinstance(event, Looked) and not heard.of(TurnStarted):
            clock[0] = 2_000_000  # as if the first look had taken so long

    scheduler = a_scheduler(shaky, observers=(observer, heard))
    scheduler.add(lambda: go_on.wait(30), "every 1m", name="job", heartbeat_timeout="6s")
    with scheduler:
        heard.wait_for(TurnStarted)
        eventually(lambda: shaky.calls.count("heartbeat") > 1, "it is sent at once", seconds=1.5)
        go_on.set()
        heard.wait_for(TurnEnded)


def _later(clock: list[int]) -> int:
    return monotonic_us() + clock[0]
