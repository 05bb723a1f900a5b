"""What a scheduler says of itself, where one of its threads has ended by a bug."""

import threading
from typing import Any, cast

import pytest

from live import Heard, due, eventually
from turnwise.events import TurnLost, TurnStarted
from turnwise.heartbeat import Heartbeat
from turnwise.scheduler import Scheduler
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


def test_a_scheduler_that_was_not_started_has_no_failure() -> None:
    health = a_scheduler(Heard(), lambda: None).health()
    assert (health.is_running, health.failure) == (False, None)
