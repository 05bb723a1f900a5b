"""Services that are added, changed and removed while their scheduler runs."""

import threading
from typing import Any, cast

import pytest

from live import Clock, Heard, Shaky, due, due_later, ends_of, eventually
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.errors import StorageError
from turnwise.events import ServiceLeft, TurnEnded, TurnStarted
from turnwise.scheduler import Scheduler
from turnwise.settings import Settings
from turnwise.storages import Storage
from turnwise.storages.memory import MemoryStorage


def a_scheduler(storage: object, heard: Heard, runner_id: str = "a") -> Scheduler:
    return Scheduler(cast("Storage", storage), runner_id=runner_id, observers=(heard,))


def offered(storage: MemoryStorage) -> list[tuple[str, str]]:
    """Which service is offered by whom."""
    return [(row.offer.service, row.offer.runner_id) for row in storage.offers("default")]


def names(scheduler: Scheduler) -> list[str]:
    """The services that the scheduler drives now."""
    return [each.name for each in scheduler.health().services]


class Holds:
    """A function that works until it is let go."""

    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.began.set()
        assert self.go_on.wait(30)


def test_a_service_that_was_removed_is_offered_and_served_no_more() -> None:
    storage, heard = due_later(), Heard()
    scheduler = a_scheduler(storage, heard)
    scheduler.add(print, "every 1m", name="stays")
    scheduler.add(print, "every 1m", name="goes")
    with scheduler:
        eventually(lambda: len(offered(storage)) == 2, "both are offered")
        scheduler.remove("goes")
        eventually(lambda: offered(storage) == [("stays", "a")], "one offer was taken back")
        eventually(lambda: names(scheduler) == ["stays"], "one is driven no more")
    assert list(scheduler.services) == ["stays"]


def test_a_turn_that_runs_as_its_service_is_removed_ends_completed() -> None:
    storage, heard, holds = due(), Heard(), Holds()
    scheduler = a_scheduler(storage, heard)
    scheduler.add(holds, "every 1m", name="job")
    with scheduler:
        assert holds.began.wait(30)
        scheduler.remove("job")
        assert names(scheduler) == ["job"]
        holds.go_on.set()
        heard.wait_for(TurnEnded)
        eventually(lambda: names(scheduler) == [], "it is driven no more")
        assert offered(storage) == []
    assert ends_of(storage, "job") == [("completed", "")]


def test_a_service_that_was_added_again_while_its_turn_ran_is_served_by_the_new_function() -> None:
    storage, heard, old, new = due(), Heard(), Holds(), Holds()
    scheduler = a_scheduler(storage, heard)
    scheduler.add(old, "every 1m", name="job")
    with scheduler:
        assert old.began.wait(30)
        scheduler.remove("job")
        scheduler.add(new, "every 1m", name="job", attempts=5)
        assert not new.began.is_set()
        old.go_on.set()
        heard.wait_for(TurnEnded)
        eventually(lambda: settings_of(storage) == [5], "the new one is offered")
        new.go_on.set()
    assert ends_of(storage, "job") == [("completed", "")]


def settings_of(storage: MemoryStorage) -> list[int]:
    """The attempts that each offer says."""
    return [Settings.from_json(row.offer.settings).attempts for row in storage.offers("default")]


def test_other_settings_are_offered_in_the_place_of_those_before() -> None:
    storage, heard = due_later(), Heard()
    scheduler = a_scheduler(storage, heard)
    scheduler.add(print, "every 1m", name="job")
    with scheduler:
        eventually(lambda: settings_of(storage) == [3], "it is offered")
        scheduler.change(print, "every 1m", name="job", attempts=7)
        eventually(lambda: settings_of(storage) == [7], "it is offered with other settings")
        assert names(scheduler) == ["job"]
    assert scheduler.services["job"].attempts == 7


def test_a_turn_goes_on_with_its_function_and_the_next_one_has_the_new_one() -> None:
    clock, heard, holds = Clock(), Heard(), Holds()
    storage = due(clock)
    seen: list[str] = []

    def fails_at_first() -> None:
        seen.append("old")
        holds()
        raise ZeroDivisionError

    scheduler = a_scheduler(storage, heard)
    scheduler.add(fails_at_first, "every 1m", name="job", heartbeat_timeout="1500ms")
    with scheduler:
        assert holds.began.wait(30)
        change = scheduler.change
        change(lambda: seen.append("new"), "every 1m", name="job", heartbeat_timeout="1500ms")
        holds.go_on.set()
        heard.wait_for(TurnEnded)
        clock.move(60_000_000)
        [_, ended] = heard.wait_for(TurnEnded, count=2)
    assert seen == ["old", "new"]
    assert ended.status is Status.COMPLETED


def test_where_the_storage_is_away_the_offer_is_taken_back_once_it_answers() -> None:
    kept, heard = due_later(), Heard()
    shaky = Shaky(kept)
    scheduler = a_scheduler(shaky, heard)
    scheduler.add(print, "every 1m", name="job")
    with scheduler:
        eventually(lambda: offered(kept), "it is offered")
        shaky.failing["withdraw"] = StorageError("away")
        scheduler.remove("job")
        eventually(lambda: "withdraw" in shaky.calls, "it was tried")
        assert names(scheduler) == ["job"]
        shaky.back()
        eventually(lambda: not offered(kept), "it was tried again")
        eventually(lambda: not names(scheduler), "it is driven no more")


def test_whoever_stands_by_takes_the_slot_of_a_service_that_was_removed() -> None:
    clock, first, second = Clock(30_000_000), Heard(), Heard()
    storage = MemoryStorage(clock=clock)
    seen: list[str] = []
    one, two = a_scheduler(storage, first), a_scheduler(storage, second, "b")
    one.add(lambda: seen.append("a"), "every 1m", name="job", heartbeat_timeout="1500ms")
    two.add(lambda: seen.append("b"), "every 1m", name="job", heartbeat_timeout="1500ms")
    with one, two:
        eventually(lambda: len(offered(storage)) == 2, "both offer it")
        one.remove("job")
        eventually(lambda: offered(storage) == [("job", "b")], "one offers it")
        clock.move(30_000_000)
        second.wait_for(TurnStarted)
    assert seen == ["b"]


def test_a_service_that_has_left_is_told_once_and_one_that_was_changed_is_not() -> None:
    storage, heard = due_later(), Heard()
    scheduler = a_scheduler(storage, heard)
    for name in ("goes", "changes"):
        scheduler.add(print, "every 1m", name=name)
    with scheduler:
        eventually(lambda: len(offered(storage)) == 2, "both are offered")
        before = scheduler.health().services
        scheduler.change(print, "every 2m", name="changes")
        scheduler.remove("goes")
        heard.wait_for(ServiceLeft)
        eventually(lambda: len(scheduler.health().services) == len(before) - 1, "one has left")
    assert [event.service for event in heard.of(ServiceLeft)] == ["goes"]


def test_a_new_machine_after_a_bug_goes_on_to_leave() -> None:
    storage, heard = due_later(), Heard()
    scheduler = a_scheduler(storage, heard)
    scheduler.add(print, "every 1m", name="job")
    with scheduler:
        eventually(lambda: offered(storage), "it is offered")
        engine = scheduler._engine
        assert engine is not None
        service = engine.services.by_name["job"]
        with engine.services.lock:
            service.is_leaving = True
            service.broke(0)
        engine.wake()
        eventually(lambda: not names(scheduler), "it is driven no more")


def test_what_is_no_service_can_be_neither_removed_nor_changed() -> None:
    scheduler = a_scheduler(due(), Heard())
    with pytest.raises(ValueError, match="name must be that of a service, got 'job'"):
        scheduler.remove("job")
    with pytest.raises(ValueError, match="name must be that of a service, got 'job'"):
        scheduler.change(print, "every 1m", name="job")


@pytest.mark.parametrize("knobs", [{"attempts": 0}, {"knob": 1}])
def test_a_change_that_is_refused_leaves_what_was(knobs: dict[str, Any]) -> None:
    scheduler = a_scheduler(due(), Heard())
    scheduler.add(print, "every 1m", name="job")
    with pytest.raises((TypeError, ValueError)):
        scheduler.change(print, "every 2m", name="job", **knobs)
    assert str(scheduler.services["job"].schedule) == "every 1m"


def test_before_its_start_a_scheduler_forgets_what_was_removed_and_has_what_was_changed() -> None:
    scheduler = a_scheduler(due(), Heard())
    scheduler.add(print, "every 1m", name="goes")
    scheduler.add(print, "every 1m", name="job")
    scheduler.remove("goes")
    scheduler.change(print, "every 2m", name="job")
    assert {name: str(each.schedule) for name, each in scheduler.services.items()} == {
        "job": "every 2m"
    }


def test_a_service_whose_successor_was_removed_at_the_last_moment_stays_until_it_is_withdrawn() -> (
    None
):
    """The driver saw a successor, so that it has not taken the offer back."""
    storage = due_later()
    scheduler = a_scheduler(storage, Heard())
    scheduler.add(print, "every 1m", name="job")
    with scheduler:
        eventually(lambda: offered(storage), "it is offered")
        engine = scheduler._engine
        assert engine is not None
        service = engine.services.by_name["job"]
        engine.services.has_left(service, is_withdrawn=False)
        assert names(scheduler) == ["job"]
        scheduler.remove("job")
        eventually(lambda: not names(scheduler), "it is driven no more")
        assert offered(storage) == []
