"""What a scheduler says of itself, where one of its threads has ended by a bug."""

import threading
from typing import Any, cast

import pytest

from live import Heard, Shaky, due, eventually
from turnwise.events import TurnEnded, TurnLost, TurnStarted
from turnwise.heartbeat import Heartbeat
from turnwise.scheduler import Scheduler
from turnwise.scheduler import health as healths
from turnwise.scheduler.engine import Engine
from turnwise.scheduler.health import Health
from turnwise.storages import Storage


class HeartFailsLater:
    """A heartbeat's machine that has a bug from a moment on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails = threading.Event()
        real, fails = Heartbeat.beat, self.fails

        def beat(heart: Heartbeat, at: int, runs: tuple[str, ...]) -> Any:
            if fails.is_set():
                raise ZeroDivisionError("as it was arranged")
            return real(heart, at, runs)

        monkeypatch.setattr(Heartbeat, "beat", beat)


@pytest.fixture
def heart(monkeypatch: pytest.MonkeyPatch) -> HeartFailsLater:
    return HeartFailsLater(monkeypatch)


def a_scheduler(heard: Heard, job: Any) -> Scheduler:
    scheduler = Scheduler(cast("Storage", due()), runner_id="a", observers=(heard,))
    scheduler.add(job, "every 1m", name="job", heartbeat_timeout="300ms")
    return scheduler


def test_a_scheduler_whose_heartbeats_have_ended_by_a_bug_is_ill_and_starts_nothing(
    heart: HeartFailsLater,
) -> None:
    heard, go_on = Heard(), threading.Event()
    scheduler = a_scheduler(heard, lambda: go_on.wait(30))
    with scheduler:
        heard.wait_for(TurnStarted)
        assert scheduler.health().is_well
        heart.fails.set()
        heard.wait_for(TurnLost)
        eventually(lambda: not scheduler.health().is_running, "it is seen")
        health = scheduler.health()
        assert not health.is_well
        assert health.failure is not None
        assert "ZeroDivisionError" in health.failure
        engine = scheduler._engine
        assert engine is not None
        eventually(lambda: engine.has_ended, "its driver ends, too")
        go_on.set()


def test_run_raises_where_the_heartbeats_have_ended_by_a_bug(heart: HeartFailsLater) -> None:
    heart.fails.set()
    scheduler = a_scheduler(Heard(), lambda: None)
    with pytest.raises(RuntimeError, match="has ended by a bug: ZeroDivisionError"):
        scheduler.run()


def test_health_says_for_how_long_the_storage_answers_and_for_how_long_it_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shaky, heard = Shaky(due()), Heard()
    scheduler = Scheduler(cast("Storage", shaky), runner_id="a", observers=(heard,))
    scheduler.add(lambda: None, "every 1m", name="job", heartbeat_timeout="900ms")

    def later(seconds: int) -> Health:
        link = cast("Engine", scheduler._engine).asking.link
        monkeypatch.setattr(healths, "monotonic_us", lambda: link.since + seconds * 1_000_000)
        return scheduler.health()

    with scheduler:
        eventually(lambda: scheduler.health().storage_answers, "it answers")
        assert (later(7).seconds, later(7).error) == (7.0, None)
        shaky.away("heartbeat")
        eventually(lambda: not scheduler.health().storage_answers, "it is away")
        assert (later(11).seconds, later(11).error) == (11.0, "no connection for heartbeat")
        shaky.back()
        eventually(lambda: scheduler.health().storage_answers, "it is back")
        assert (later(3).seconds, later(3).error) == (3.0, "no connection for heartbeat")


def test_a_service_whose_turn_is_lost_says_so_and_is_not_well() -> None:
    heard, go_on, shaky = Heard(), threading.Event(), Shaky(due())
    scheduler = Scheduler(cast("Storage", shaky), runner_id="a", observers=(heard,))
    scheduler.add(lambda: go_on.wait(30), "every 1m", name="job", heartbeat_timeout="900ms")
    with scheduler:
        heard.wait_for(TurnStarted)
        shaky.away("heartbeat")
        heard.wait_for(TurnLost)
        shaky.back()
        eventually(lambda: scheduler.health().storage_answers, "all but the turn is well again")
        health = scheduler.health()
        go_on.set()
    assert [each.state for each in health.services] == ["lost"]
    assert health.is_running
    assert not health.is_well


def test_a_service_whose_end_cannot_be_recorded_yet_says_so_and_is_well() -> None:
    heard, shaky = Heard(), Shaky(due())
    scheduler = Scheduler(cast("Storage", shaky), runner_id="a", observers=(heard,))
    scheduler.add(lambda: shaky.away("swap"), "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnStarted)
        eventually(lambda: scheduler.health().services[0].state == "recording", "it has ended")
        [job] = scheduler.health().services
        assert job.current_run_id is None, "no function runs"
        shaky.back()
        heard.wait_for(TurnEnded)
        eventually(lambda: scheduler.health().is_well, "it is recorded")
        assert [each.state for each in scheduler.health().services] == ["waiting"]


def test_a_scheduler_that_was_not_started_has_no_failure() -> None:
    health = a_scheduler(Heard(), lambda: None).health()
    assert (health.is_running, health.failure) == (False, None)
