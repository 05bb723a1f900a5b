"""A storage that cannot be opened, met by a driver that is quicker than its heartbeats' thread."""

import threading

import pytest

from turnwise.scheduler import Scheduler
from turnwise.storages import Storage


def test_a_driver_that_ends_before_the_heartbeats_begin_ends_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_listed = threading.Event()

    def cannot_open() -> Storage:
        is_listed.wait()
        raise ValueError("there is no such storage")

    def start_late(thread: threading.Thread) -> None:
        if thread.name == "turnwise-heartbeat":
            is_listed.set()
            for other in threading.enumerate():
                if other.name == "turnwise-driver":
                    other.join()
        start(thread)

    crashed: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", crashed.append)
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start_late)
    scheduler = Scheduler(cannot_open)
    scheduler.every("5s", name="job")(print)
    with pytest.raises(ValueError, match="no such storage"):
        scheduler.start()
    assert crashed == []
