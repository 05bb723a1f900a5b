"""What breaks in the middle: the driver, a file that cannot be opened, an interrupt, a race."""

import asyncio
import errno
import signal
import threading
from typing import Any, cast

import pytest

from live import Heard, Shaky, due, ends_of, eventually
from turnwise import scheduler as schedulers
from turnwise.actions import Failed, Serve
from turnwise.errors import TurnFailedError
from turnwise.events import Event, RunnerLeft, TurnEnded, TurnLost, TurnStarted
from turnwise.heartbeat import Heartbeat
from turnwise.scheduler import Scheduler, calls, functions, services
from turnwise.scheduler.asking import Asking
from turnwise.scheduler.at_work import Service, Wish
from turnwise.scheduler.engine import Engine
from turnwise.scheduler.signals import SignalsEnd
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


# An interrupt while a turn is asked for -----------------------------------------------------


def interrupted_in(scheduler: Scheduler) -> None:
    with scheduler.turn("job"):
        raise AssertionError("the block was begun")


def test_a_wish_that_is_interrupted_while_it_waits_is_withdrawn(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = due()
    scheduler = a_scheduler(storage, heard)
    scheduler.add(None, "every 1m", name="job")

    def interrupt(_: Wish) -> None:
        raise KeyboardInterrupt

    with scheduler:
        engine = scheduler._engine
        assert engine is not None
        with monkeypatch.context() as patch:
            patch.setattr(engine.services, "_changed", lambda: None)  # so it is not granted yet
            patch.setattr(Wish, "wait", interrupt)
            with pytest.raises(KeyboardInterrupt):
                interrupted_in(scheduler)
        service = engine.services.by_name["job"]
        assert (service.wish, service.machine.is_wanted) == (None, False)
        with scheduler.turn("job") as turn:
            assert turn is not None, "the next one is granted"
    assert ends_of(storage, "job") == [("completed", "")]


def test_a_turn_whose_wish_is_interrupted_after_it_was_granted_did_not_start(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = due()
    scheduler = a_scheduler(storage, heard)
    scheduler.add(None, "every 1m", name="job")
    wait = Wish.wait

    def interrupt(wish: Wish) -> None:
        assert wait(wish) is not None
        raise KeyboardInterrupt

    monkeypatch.setattr(Wish, "wait", interrupt)
    with scheduler:
        with pytest.raises(KeyboardInterrupt):
            interrupted_in(scheduler)
        heard.wait_for(TurnEnded)
        engine = scheduler._engine
        assert engine is not None
        assert engine.services.runs == (), "no heartbeat names it any more"
    assert ends_of(storage, "job") == [("abandoned", "not_started")]


def test_a_turn_whose_wish_is_withdrawn_while_it_is_handed_over_did_not_start(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = due()
    is_told, is_withdrawn = threading.Event(), threading.Event()

    def observer(event: Event) -> None:
        if isinstance(event, TurnStarted):
            is_told.set()
            assert is_withdrawn.wait(30)

    def interrupt(_: Wish) -> None:
        assert is_told.wait(30)
        raise KeyboardInterrupt

    scheduler = a_scheduler(storage, heard, observers=(observer, heard))
    scheduler.add(None, "every 1m", name="job")
    monkeypatch.setattr(Wish, "wait", interrupt)
    with scheduler:
        with pytest.raises(KeyboardInterrupt):
            interrupted_in(scheduler)
        is_withdrawn.set()
        heard.wait_for(TurnEnded)
    assert ends_of(storage, "job") == [("abandoned", "not_started")]


# run() --------------------------------------------------------------------------------------


def test_a_run_ends_with_the_bug_that_has_ended_its_driver(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = a_scheduler(due(), heard)
    scheduler.add(lambda: None, "every 1m", name="job")
    monkeypatch.setattr(Engine, "_pause", bug)
    raised = raised_by_run(scheduler)
    assert repr(raised) == (
        "RuntimeError(\"the scheduler has ended by a bug: ZeroDivisionError('a bug')\")"
    )
    assert "the driver of runner a ends: a bug" in caplog.messages
    assert not scheduler.health().is_running


def test_a_run_ends_with_what_the_opening_of_the_storage_raises_after_the_start(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(schedulers, "_LONGEST_START_SECONDS", 0.01)
    shaky = Shaky(due())
    shaky.hangs = threading.Event()
    shaky.failing["read"] = PermissionError("no such right")
    threading.Timer(0.2, shaky.hangs.set).start()
    assert raised_by_run(a_scheduler(shaky, heard)) is shaky.failing["read"]
    assert "the storage cannot be opened, and is not tried again" in caplog.messages


def test_a_stop_that_is_asked_for_before_a_run_ends_it(heard: Heard) -> None:
    scheduler = a_scheduler(due(), heard)
    scheduler.request_stop()
    assert raised_by_run(scheduler) is None
    scheduler.start()  # it has stopped
    assert scheduler.stop(5)


def test_a_stop_that_is_asked_for_just_as_a_run_begins_ends_it(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = a_scheduler(due(), heard)

    def enter(signals: SignalsEnd) -> SignalsEnd:
        signals._stop()  # as its handler does
        return signals

    monkeypatch.setattr(SignalsEnd, "__enter__", enter)
    assert raised_by_run(scheduler) is None


def test_a_hurried_stop_ends_a_run_on_its_own(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = a_scheduler(due(), heard)

    def start() -> None:
        Scheduler.start(scheduler)
        scheduler._end_grace()

    monkeypatch.setattr(scheduler, "start", start)
    assert raised_by_run(scheduler) is None


def test_a_stop_of_one_start_does_not_end_the_next_run(heard: Heard) -> None:
    scheduler = a_scheduler(due(), heard)
    scheduler.add(lambda: None, "every 1m", name="job")
    with scheduler:
        scheduler.request_stop()
        old = scheduler._engine
    scheduler._stops.put(old)  # by another thread that has stopped it, a little later
    running = threading.Thread(target=scheduler.run, daemon=True)
    running.start()
    heard.wait_for(TurnEnded)
    running.join(0.1)
    assert running.is_alive()
    scheduler.request_stop()
    running.join(30)
    assert not running.is_alive()


def test_a_run_ends_that_another_thread_has_stopped_before_it_waits(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = a_scheduler(due(), heard)
    wait = Scheduler._wait_for_stop

    def stop_and_wait(scheduler: Scheduler) -> None:
        assert scheduler.stop(5)
        wait(scheduler)

    monkeypatch.setattr(Scheduler, "_wait_for_stop", stop_and_wait)
    assert raised_by_run(scheduler) is None


def raised_by_run(scheduler: Scheduler) -> BaseException | None:
    """What :meth:`Scheduler.run` raises; fails where it does not end."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            scheduler.run()
        except BaseException as error:  # noqa: BLE001 (it is looked at)
            raised.append(error)
        else:
            raised.append(None)

    threading.Thread(target=run, daemon=True).start()
    eventually(lambda: raised, "run() has ended", seconds=10)
    return raised[0]


# Observers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_observer_that_wants_to_end_the_program_ends_no_thread_and_is_logged(
    error: BaseException, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    def observer(event: Event) -> None:
        del event
        raise error

    storage = due()
    scheduler = a_scheduler(storage, heard, observers=(observer, heard))
    scheduler.add(lambda: None, "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnEnded)
        engine = scheduler._engine
        assert engine is not None
        assert all(thread.is_alive() for thread in engine._threads)
    assert ends_of(storage, "job") == [("completed", "")]
    assert any(each.startswith("an observer failed on ") for each in caplog.messages)


@pytest.mark.parametrize("is_given_up", [False, True])
def test_an_observer_may_wait_for_another_thread_that_asks_for_the_health(
    is_given_up: bool, heard: Heard
) -> None:
    """It hears what came of the end of a function while nobody holds the machines' lock."""
    answered: list[bool] = []
    go_on = threading.Event()

    def observe(event: Event) -> None:
        if isinstance(event, TurnLost):
            asking = threading.Thread(target=scheduler.health, daemon=True)
            asking.start()
            asking.join(5)
            answered.append(not asking.is_alive())

    scheduler = a_scheduler(due(), heard, observers=(observe, heard))

    @scheduler.every("1m", name="job")
    def job() -> None:
        if is_given_up:
            scheduler.stop(0)
        engine = scheduler._engine
        assert engine is not None
        turn = engine.services.by_name["job"].machine.turn
        assert turn is not None
        turn.confirmed_at -= 3_600_000_000  # nobody has noticed the silence before the end
        if is_given_up:
            go_on.wait(30)

    with scheduler:
        heard.wait_for(TurnLost)
    go_on.set()
    assert answered == [True]


def test_what_was_lost_cancels_no_turn_that_has_begun_since(heard: Heard) -> None:
    """Its observers hear of a loss later than it was seen."""
    scheduler = a_scheduler(due(), heard)
    go_on = threading.Event()

    @scheduler.every("1m", name="job")
    async def job() -> None:
        await asyncio.to_thread(go_on.wait, 30)

    with scheduler:
        started = heard.wait_for(TurnStarted)[0]
        engine = scheduler._engine
        assert engine is not None
        service = engine.services.by_name["job"]
        eventually(lambda: service.call, "the function is at work")
        lost = TurnLost(
            group="default",
            service="job",
            runner_id="a",
            run_id="an earlier one",
            token=0,
            due=started.due,
            why="it was silent",
        )
        engine.services.tell(service, [lost])
        go_on.set()
        heard.wait_for(TurnEnded)
    assert [each.status.value for each in heard.of(TurnEnded)] == ["completed"]


def test_an_interrupt_of_the_main_thread_is_not_taken_for_an_observers_bug(heard: Heard) -> None:
    def observer(event: Event) -> None:
        if isinstance(event, RunnerLeft):
            raise KeyboardInterrupt

    scheduler = a_scheduler(due(), heard, observers=(observer,))
    with scheduler:
        engine = scheduler._engine
        assert engine is not None
        with pytest.raises(KeyboardInterrupt):
            engine.services.tell(None, [RunnerLeft(group="g", runner_id="a")])


def test_a_thread_of_the_engine_that_ends_by_a_system_exit_says_so(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    is_sent = threading.Event()

    def send(*_: object) -> None:
        is_sent.set()
        raise SystemExit(3)

    def leave(*_: object) -> None:
        assert is_sent.wait(30)
        raise SystemExit(3)

    monkeypatch.setattr(Asking, "beat", send)
    monkeypatch.setattr(Engine, "_wait_for_heartbeat", leave)
    scheduler = a_scheduler(due(), heard)
    scheduler.add(lambda: None, "every 1m", name="job")
    with scheduler:
        eventually(lambda: len(caplog.messages) >= 2, "both have ended")
    assert sorted(caplog.messages) == [
        "the driver of runner a ends: a bug",
        "the heartbeats of runner a end: a bug",
    ]


# How a function ended -----------------------------------------------------------------------


class NoReasonError(TurnFailedError):
    def __init__(self) -> None:
        """As a program may have it that does not call the base."""


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_an_error_that_has_no_reason_though_its_kind_has_one_ends_the_turn(
    is_coroutine: bool, heard: Heard
) -> None:
    def plain() -> None:
        raise NoReasonError

    async def coroutine() -> None:
        raise NoReasonError

    storage = due()
    scheduler = a_scheduler(storage, heard)
    scheduler.add(coroutine if is_coroutine else plain, "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnEnded)
    assert ends_of(storage, "job") == [("abandoned", "exception:NoReasonError")]


def test_an_awaitable_for_whose_loop_no_file_is_left_fails_its_turn(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = due()

    async def inner() -> None: ...

    made = inner()
    monkeypatch.setattr(asyncio, "new_event_loop", no_file_is_left)
    scheduler = a_scheduler(storage, heard)
    scheduler.add(lambda: made, "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnEnded)
    made.close()
    assert ends_of(storage, "job") == [("abandoned", "exception:OSError")]


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_a_bug_in_what_tells_the_end_of_a_function_ends_its_turn_all_the_same(
    is_coroutine: bool, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failed = functions.outcome_of, threading.Event()

    def once(error: BaseException | None) -> tuple[Any, str]:
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError("a bug")
        return real(error)

    async def coroutine() -> None: ...

    storage = due()
    monkeypatch.setattr(calls, "outcome_of", once)
    scheduler = a_scheduler(storage, heard)
    scheduler.add(coroutine if is_coroutine else lambda: None, "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnEnded)
    assert ends_of(storage, "job") == [("abandoned", "exception:ZeroDivisionError")]


def test_a_coroutine_of_which_the_application_makes_no_task_fails_its_turn(heard: Heard) -> None:
    storage = due()

    def refuses(_: object, coroutine: Any, **__: object) -> Any:
        if coroutine.__qualname__.startswith("CoroutineCall."):
            raise ZeroDivisionError("no task")
        return asyncio.Task(coroutine)

    async def job() -> None: ...

    async def main() -> None:
        scheduler = a_scheduler(storage, heard)
        scheduler.add(job, "every 1m", name="job")
        asyncio.get_running_loop().set_task_factory(refuses)
        async with scheduler:
            await asyncio.to_thread(heard.wait_for, TurnEnded)

    asyncio.run(main())
    assert ends_of(storage, "job") == [("abandoned", "exception:ZeroDivisionError")]


# Wishes -------------------------------------------------------------------------------------


def test_whether_wishes_are_taken_is_decided_and_noted_at_one_time(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the answer of one thread could undo what the other has seen since."""
    scheduler = a_scheduler(due(), heard)
    with scheduler:
        engine = scheduler._engine
        assert engine is not None
        entered: list[bool] = []

        class Failing:
            """A link that the other thread would change just after it was looked at."""

            @property
            def is_failing(self) -> bool:
                other = threading.Thread(target=try_it)
                other.start()
                other.join(30)
                return True

            def note(self, *_: object, **__: object) -> list[Event]:
                return []

        def try_it() -> None:
            got = engine.services.lock.acquire(blocking=False)
            if got:
                engine.services.lock.release()
            entered.append(got)

        monkeypatch.setattr(engine.asking, "link", Failing())
        engine.asking.note("reads", Failed("no connection"))
        assert entered
        assert not any(entered)


def test_after_the_driver_has_died_no_answer_of_the_storage_has_wishes_taken_again(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = a_scheduler(due(), heard)
    scheduler.add(None, "every 1m", name="job")
    with scheduler:
        engine = scheduler._engine
        assert engine is not None
        monkeypatch.setattr(Engine, "_pause", bug)
        engine.wake()
        assert engine.join(30)
        engine.services.take_wishes(whether=True)  # as a heartbeat that was late would
        monkeypatch.setattr(Wish, "wait", lambda _: pytest.fail("it would wait for ever"))
        with scheduler.turn("job") as turn:
            assert turn is None


# Slots --------------------------------------------------------------------------------------


def test_a_turn_starts_before_the_storage_is_asked_for_other_services(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storage that hangs then would let its slot pass."""
    steps: list[str] = []
    for owner, name in ((Engine, "_serve"), (Asking, "all_of"), (services.Services, "next")):
        monkeypatch.setattr(owner, name, noting(steps, name, getattr(owner, name)))
    scheduler = a_scheduler(due(), heard)
    scheduler.add(lambda: None, "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnEnded)
    at = steps.index("_serve")
    assert steps[at - 1 : at + 2] == ["next", "_serve", "all_of"]


def test_heartbeats_are_hurried_under_the_lock_that_guards_them(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []
    scheduler = a_scheduler(due(), heard)
    serve, hurry = Engine._serve, Heartbeat.hurry

    def late(engine: Engine, service: Service, action: Serve) -> None:
        assert service.machine.turn is not None
        service.machine.turn.confirmed_at -= 5_000_000  # more than an interval, not a timeout
        serve(engine, service, action)

    def noted(heart: Heartbeat, at: int) -> None:
        engine = scheduler._engine
        assert engine is not None
        held.append(engine.services.lock._is_owned())  # type: ignore[attr-defined]
        hurry(heart, at)

    monkeypatch.setattr(Engine, "_serve", late)
    monkeypatch.setattr(Heartbeat, "hurry", noted)
    scheduler.add(lambda: None, "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnEnded)
    assert held == [True]


def noting(steps: list[str], name: str, real: Any) -> Any:
    """A method that notes that it is called."""

    def method(*args: object) -> object:
        steps.append(name)
        return real(*args)

    return method


@pytest.mark.parametrize("name", ["deadline", "confirmed_at"])
def test_a_turn_does_not_start_when_its_slot_has_ended_or_it_is_lost_just_before(
    name: str, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = due()
    began: list[int] = []
    real = Engine._serve

    def late(engine: Engine, service: Service, serve: Serve) -> None:
        turn = service.machine.turn
        assert turn is not None
        setattr(turn, name, turn.confirmed_at - 3_600_000_000)  # as if an hour had passed
        real(engine, service, serve)

    monkeypatch.setattr(Engine, "_serve", late)
    scheduler = a_scheduler(storage, heard)
    scheduler.add(lambda: began.append(1), "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnEnded)
    assert began == []
    assert ends_of(storage, "job") == [("abandoned", "no_margin")]


# Signals ------------------------------------------------------------------------------------


def test_a_handler_that_was_not_set_from_python_is_passed_over_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_back: list[object] = []

    def set_it(_: int, handler: object) -> object:
        set_back.append(handler)
        if handler is None:
            raise TypeError("signal handler must be callable")
        return None

    with monkeypatch.context() as patch:
        patch.setattr(signal, "signal", set_it)
        with SignalsEnd(lambda: None, lambda: None):
            set_back.clear()
        assert set_back == []
