"""What a scheduler is built and stopped with: what it is not, is refused by its name at once."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest

from live import Heard, Shaky, due, ends_of
from turnwise.errors import StorageError
from turnwise.events import RunnerJoined, TurnStarted
from turnwise.scheduler import Scheduler
from turnwise.scheduler.arguments import seconds_of
from turnwise.storages import Storage

NONE_IS_OPENED = "storage must be what a function gives that opens one, got int"


class ReadsAlone:
    """What has one operation of a storage, and none of the others."""

    def read(self) -> None:
        """Read nothing."""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"storage": 5},
            "storage must be a storage, its URL, or a function that opens one, got int",
        ),
        ({"storage": object()}, "storage must be a storage, its URL, or a function"),
        ({"storage": ReadsAlone()}, "which lacks heartbeat, leave, "),
        ({"observers": [5]}, "observers must be callables, got 5"),
        ({"observers": "ab"}, "observers must be a list of callables, got 'ab'"),
        ({"observers": print}, "observers must be a list of callables, got <built-in"),
        ({"may_run": "no"}, "may_run must be True or False, got 'no'"),
        ({"wait_for_storage": "no"}, "wait_for_storage must be True or False, got 'no'"),
        ({"group": 5}, "group must be text, got 5"),
        ({"runner_id": 5}, "runner_id must be text, got 5"),
        ({"grace": None}, "grace must be seconds, a timedelta or a text such as '5m', got None"),
        ({"grace": True}, "grace must be seconds, a timedelta or a text such as '5m', got True"),
    ],
)
def test_an_argument_of_another_type_is_refused_by_its_name(
    arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(TypeError, match=said.replace("[", r"\[")):
        Scheduler(**{"storage": "memory:", **arguments})


@pytest.mark.parametrize("grace", ["-5s", "soon", -1, float("nan"), float("inf"), 10**400])
def test_a_grace_that_is_no_length_of_time_is_refused_by_its_name(grace: Any) -> None:
    with pytest.raises(ValueError, match=r"^grace"):
        Scheduler("memory:", grace=grace)


def test_a_negative_grace_is_refused() -> None:
    with pytest.raises(ValueError, match="grace must be finite, and not negative"):
        Scheduler("memory:", grace=timedelta(seconds=-1))


@pytest.mark.parametrize("grace", [1.5, "1500ms", timedelta(milliseconds=1500)])
def test_a_grace_may_be_seconds_a_text_or_a_timedelta(grace: Any) -> None:
    assert seconds_of("grace", grace) == 1.5
    assert Scheduler("memory:", grace=grace)._grace == 1.5


@pytest.mark.parametrize(
    ("grace", "error"),
    [
        ("soon", ValueError),
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (timedelta(seconds=-1), ValueError),
        (True, TypeError),
        (object(), TypeError),
    ],
)
def test_a_stop_refuses_a_grace_that_is_none_before_it_does_anything(
    grace: Any, error: type[Exception]
) -> None:
    with Scheduler(due()) as scheduler:
        with pytest.raises(error, match=r"^grace"):
            scheduler.stop(grace)
        assert scheduler.health().is_running


def test_a_stop_takes_its_grace_as_a_text() -> None:
    storage, heard = due(), Heard()
    scheduler = Scheduler(storage, observers=(heard,))

    @scheduler.every("1m")
    async def job() -> None:
        import asyncio  # noqa: PLC0415 (for this job alone)

        await asyncio.sleep(30)

    scheduler.start()
    heard.wait_for(TurnStarted)
    assert scheduler.stop("20ms")
    assert ends_of(storage, "job") == [("abandoned", "stopped")]


def test_a_function_that_opens_no_storage_is_refused_at_the_start() -> None:
    scheduler = Scheduler(cast("Any", lambda: 5))
    with pytest.raises(TypeError, match=NONE_IS_OPENED):
        scheduler.start()
    assert not scheduler.health().is_running


@pytest.mark.parametrize("knob", ["timeout", "cycle", "start_within", "stagger"])
def test_a_knob_that_is_no_duration_is_told_that_it_may_be_a_text(knob: str) -> None:
    more: dict[str, Any] = {knob: 5}
    said = f"{knob} must be a timedelta or a text such as '5m', got 5"
    with pytest.raises(TypeError, match=said):
        Scheduler("memory:").add(print, "every 10m", name="job", **more)


@pytest.mark.parametrize(
    "use",
    [
        lambda scheduler: scheduler.remove([]),
        lambda scheduler: scheduler.change(print, "every 1m", name=[]),
        lambda scheduler: scheduler.turn([]).__enter__(),
        lambda scheduler: scheduler.add(print, "every 1m", name=[]),
    ],
)
def test_a_name_that_is_no_text_is_refused_by_its_name(use: Callable[[Scheduler], object]) -> None:
    with Scheduler(due()) as scheduler, pytest.raises(TypeError, match="name must be text, got"):
        use(scheduler)


def test_who_does_not_wait_for_the_storage_is_told_by_the_error_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    heard, shaky = Heard(), Shaky(due())
    shaky.away()
    scheduler = Scheduler(cast("Storage", shaky), observers=(heard,), wait_for_storage=False)
    with pytest.raises(StorageError, match="no connection for read"):
        scheduler.start()
    assert (heard.events, caplog.messages) == ([], [])
    shaky.back()
    scheduler.add(print, "every 1m", name="job")
    with scheduler:
        heard.wait_for(RunnerJoined)
