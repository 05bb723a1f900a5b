"""A function that goes on after it was given up: its service waits for it, after a start too."""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from live import Heard, due, ends_of, eventually
from turnwise.events import TurnEnded, TurnStarted
from turnwise.machine import Machine
from turnwise.scheduler import Scheduler
from turnwise.scheduler.at_work import Service, StillAtWork, Wish
from turnwise.scheduler.calls import CoroutineCall, Loops, Work
from turnwise.scheduler.engine import monotonic_us
from turnwise.scheduler.services import Services
from turnwise.schedules import Every
from turnwise.settings import Settings
from turnwise.turn import Turn


class Counts:
    """A function that works until it is let go, and counts how many calls of it run at once."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.turns: list[Turn] = []
        self.active = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, turn: Turn) -> None:
        with self._lock:
            self.turns.append(turn)
            self.active += 1
            self.most = max(self.most, self.active)
        assert self.go_on.wait(60)
        with self._lock:
            self.active -= 1


def ends(wait: Callable[[], object]) -> bool:
    """Whether a call comes back."""
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(10)
    return not thread.is_alive()


def stopped(scheduler: Scheduler) -> None:
    assert scheduler.stop(0.05)


def broken(scheduler: Scheduler) -> None:
    """Its driver ends by a bug; then it is stopped."""
    engine = scheduler._engine
    assert engine is not None
    engine.failure = RuntimeError("as it was arranged")
    engine.wake()
    eventually(lambda: engine.has_ended, "the driver has ended")
    stopped(scheduler)


@pytest.mark.parametrize("end", [stopped, broken])
def test_after_another_start_no_second_call_runs_beside_one_that_was_given_up(
    end: Callable[[Scheduler], None], caplog: pytest.LogCaptureFixture
) -> None:
    storage, heard, job = due(), Heard(), Counts()
    scheduler = Scheduler(storage, observers=(heard,))
    scheduler.add(job, "every 1m", name="job", heartbeat_timeout="900ms")
    scheduler.start()
    eventually(lambda: job.turns, "it has begun")
    end(scheduler)
    scheduler.add(lambda: None, "every 1m", name="other")
    caplog.clear()
    with scheduler:
        heard.wait_for(TurnEnded)
        eventually(lambda: "other" in {each.service for each in heard.of(TurnEnded)}, "is served")
        states = {each.name: each.state for each in scheduler.health().services}
        assert states["job"] == "lost"
        assert not scheduler.health().is_well
        [record] = [each for each in caplog.records if "not served until" in each.message]
        assert vars(record)["service"] == "job"
        job.go_on.set()
        eventually(lambda: len(job.turns) == 2, "it is served again, once the first has returned")
    assert job.most == 1
    assert ends_of(storage, "job")[-1] == ("completed", "")


def test_a_turn_that_was_given_up_is_lost_for_its_function_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another runner may be at work already, long before the heartbeat timeout has passed."""
    job = Counts()
    scheduler = Scheduler(due(), group="g", runner_id="a")
    scheduler.add(job, "every 1m", name="job")
    scheduler.start()
    [turn] = eventually(lambda: job.turns, "it has begun")
    assert not turn.is_lost
    assert scheduler.stop(0.05)
    assert (turn.is_lost, turn.lost_in()) == (True, 0)
    with pytest.raises(Exception, match="was given up after the grace of a stop"):
        turn.check()
    job.go_on.set()
    [record] = [each for each in caplog.records if "goes on beyond its grace" in each.message]
    assert fields_of(record) == ("g", "job", "a", turn.run_id, 1)


def fields_of(record: logging.LogRecord) -> tuple[Any, ...]:
    return tuple(vars(record)[each] for each in ("group", "service", "runner", "run_id", "token"))


def test_the_line_of_a_function_that_failed_has_the_fields_of_its_turn(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard = Heard()
    scheduler = Scheduler(due(), group="g", runner_id="a", observers=(heard,))
    scheduler.add(lambda: 1 / 0, "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnEnded)
    [record] = [each for each in caplog.records if "the function failed" in each.message]
    [started] = heard.of(TurnStarted)
    assert fields_of(record) == ("g", "job", "a", started.run_id, started.token)
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_a_program_whose_block_was_given_up_gets_no_second_turn_before_it_has_ended() -> None:
    scheduler = Scheduler(due())
    scheduler.add(None, "every 1m", name="mine")
    scheduler.start()
    had: list[bool] = []

    def asks() -> None:
        with scheduler.turn("mine") as turn:
            had.append(turn is not None)
            had.append(scheduler.stop(0.05))
            scheduler.start()
            with scheduler.turn("mine") as second:
                had.append(second is not None)
        with scheduler.turn("mine") as third:
            had.append(third is not None)

    assert ends(asks)
    assert had == [True, True, False, True]
    assert scheduler.stop(5)


def test_a_coroutine_whose_loop_was_closed_is_no_longer_at_work() -> None:
    still, loop = StillAtWork(), asyncio.new_event_loop()
    turn = cast("Any", type("ATurn", (), {"is_lost": False, "service": "job"})())
    work = cast(
        "Work",
        type(
            "AWork",
            (),
            {
                "turn": turn,
                "name": "job",
                "loops": Loops(loop),
                "ended": lambda *_: still.end("job", "run"),
            },
        ),
    )
    still.begin("job", "run")
    assert still.is_any("job"), "nobody has its call yet"
    call = CoroutineCall(work, lambda: asyncio.sleep(0))
    call._has_begun = True
    still.has_call("job", "run", call)
    assert still.is_any("job"), "its loop may run again"
    loop.close()
    assert not still.is_any("job")
    still.has_call("job", "run", call)
    assert not still.is_any("job"), "it has ended before its call was known"


# A wish and a service that goes -------------------------------------------------------------


def a_service() -> tuple[Services, Service]:
    services = Services(
        group="g", observers=(), loops=Loops(), monotonic=monotonic_us, changed=lambda: None
    )

    def make() -> Machine:
        return Machine(
            group="g",
            service="mine",
            runner_id="a",
            boot_id="b",
            settings=Settings(schedule=Every("1m")),
            names=lambda: "x",
            on_demand=True,
        )

    service = Service("mine", make, None)
    services.add(service)
    return services, service


def test_a_turn_that_is_wanted_as_its_service_leaves_is_declined() -> None:
    services, service = a_service()
    wish = service.wish = Wish()
    services.has_left(service, is_withdrawn=True)
    assert ends(wish.wait)
    assert service.wish is None


def test_a_turn_that_is_wanted_of_a_service_that_has_left_is_declined() -> None:
    services, service = a_service()
    services.has_left(service, is_withdrawn=True)
    assert ends(lambda: services.taken(service).__enter__())
