"""Several processes plan many services at once, and waste little on what others have planned."""

import threading
from typing import Any, cast

from live import eventually
from turnwise.scheduler import Scheduler
from turnwise.storages import Kind, Storage, Swapped
from turnwise.storages.memory import MemoryStorage

SERVICES = 10


class Overtaken:
    """A storage in which somebody else is always first with the plan of a cycle, for a while."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refusals = 3
        self._storage = MemoryStorage()
        self._lock = threading.Lock()

    def swap(self, group: str, service: str, kind: Kind, expected: str | None, *rest: Any) -> Any:
        if kind is Kind.PLAN and self.refusals:
            self.refusals -= 1
            self.asked.append("overtaken")
            return Swapped(self._storage.read(group, ()).now, done=False)
        self.asked.append(f"swap {kind.value}")
        return self._storage.swap(group, service, kind, expected, *rest)

    def stable(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.append("stable")
        return self._storage.stable(*args, **kwargs)

    def read(self, *args: Any) -> Any:
        self.asked.append("read")
        return self._storage.read(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


def planned(storage: Overtaken) -> bool:
    return storage.asked.count("swap plan") >= SERVICES


def test_who_finds_a_plan_made_by_another_looks_again_before_it_plans_the_rest() -> None:
    storage = Overtaken()
    scheduler = Scheduler(cast("Storage", storage), runner_id="a")
    for number in range(SERVICES):
        scheduler.every("2s", name=f"service {number}")(lambda: None)
    with scheduler:
        eventually(lambda: planned(storage), "all is planned")
    after = {storage.asked[at + 1] for at, what in enumerate(storage.asked) if what == "overtaken"}
    assert after == {"read"}


def test_the_plan_of_a_service_is_made_before_the_next_ones_set_is_asked_for() -> None:
    storage = Overtaken()
    storage.refusals = 0
    scheduler = Scheduler(cast("Storage", storage), runner_id="a")
    for number in range(SERVICES):
        scheduler.every("2s", name=f"service {number}")(lambda: None)
    with scheduler:
        eventually(lambda: planned(storage), "all is planned")
    asked = [what for what in storage.asked if what in ("stable", "swap plan")]
    assert asked[: 2 * SERVICES] == ["stable", "swap plan"] * SERVICES
