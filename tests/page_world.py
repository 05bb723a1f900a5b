"""A group in virtual time that has something of everything a page can show."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

from turnwise.conformance import ManualClock
from turnwise.controls import Controls
from turnwise.cycles import SECOND, microseconds
from turnwise.schedules import Every
from turnwise.settings import Settings
from turnwise.storages import Beat, Kind, Offer, Storage
from turnwise.testing import VirtualScheduler
from turnwise.turn import Turn

MORNING = datetime(2026, 1, 5, 6, tzinfo=UTC)
RUNNERS = ("web-1.example.com-211-5f0c", "web-2.example.com-198-a17e", "web-3.example.com-205-77b2")
HOSTILE = "<img src=x onerror=alert(1)>\u202e\u2066evil"
HOSTILE_REASON = "</script><script>document.title='run'</script>\x1b[31m\u202e\n'\" onload=x"


def _job(seconds: float, *, fails_in: tuple[int, ...] = ()) -> Callable[[Turn], Awaitable[None]]:
    """A function that takes so long, and fails in the hours that are named."""

    async def job(turn: Turn) -> None:
        await asyncio.sleep(seconds)
        if turn.due.hour in fails_in:
            raise ConnectionError("the mail server answers 451: try again later")

    return job


def page_world(*, hostile: str = HOSTILE, reason: str = HOSTILE_REASON) -> VirtualScheduler:
    """Six hours of a morning, until 12:10:12 UTC: failures, a dead runner, a pause, a stray.

    One service has the name ``hostile``, and is paused for ``reason``.
    """
    virtual = VirtualScheduler(*RUNNERS, start=MORNING, group="default")
    add = virtual.add
    add(_job(25), "every 5m", name="outbox-relay")
    add(_job(200), "every 10m", name="rebuild-search-index", timeout="8m")
    add(_job(90), "cron 0 3 * * * Europe/Vienna", name="nightly-report", start_within="2h")
    add(_job(4, fails_in=(9, 11)), "every 15m", name="send-reminders", attempts=2)
    add(_job(2), "cron */30 * * * 1-5 Europe/Vienna", name="refresh-exchange-rates")
    add(_job(8), "every 1h", name="expire-sessions")
    add(_job(12), "every 20m", name=hostile)
    virtual.advance("2h30m")
    controls = Controls(virtual.storage, by="anna@ops")
    controls.pause("expire-sessions", reason="the session store is being moved")
    virtual.advance("1h7m")
    virtual.kill(RUNNERS[1])
    virtual.advance("40m")
    virtual.start("web-2.example.com-340-0b9d")
    controls.trigger("rebuild-search-index", reason="the index was found to be empty")
    virtual.advance("1h40m")
    controls.pause(hostile, reason=reason)
    stray(virtual)
    virtual.advance("13m")
    stray(virtual, count=2)
    virtual.advance("12s")
    return virtual


def stray(virtual: VirtualScheduler, *, count: int = 1) -> None:
    """A runner that another version of the program started, with other settings."""
    name, settings = "worker-7.example.com-12-c3d4", Settings(schedule=Every("10m"), attempts=5)
    virtual.storage.heartbeat("default", Beat(name, "boot", count, 60 * SECOND))
    offer = Offer(name, "boot", "rebuild-search-index", settings.to_json(), 60 * SECOND)
    virtual.storage.offer("default", offer)


def copied(virtual: VirtualScheduler, storage: Storage, clock: ManualClock) -> None:
    """Write what a world's storage has into another one, whose clock then shows the world's now.

    The other storage is empty, and its clock stands before all of it.
    """
    source, group = virtual.storage, "default"
    happened: list[tuple[int, Callable[[], object]]] = []
    for row in source.runners(group):
        first = Beat(row.runner_id, row.boot_id, 1, row.heartbeat_timeout)
        last = Beat(row.runner_id, row.boot_id, row.count + 1, row.heartbeat_timeout, row.runs)
        happened.append((row.joined_at, partial(storage.heartbeat, group, first)))
        happened.append((row.heard_at, partial(storage.heartbeat, group, last)))
        if row.left_at is not None:
            happened.append(
                (row.left_at, partial(storage.leave, group, row.runner_id, row.boot_id))
            )
    happened += [(row.at, partial(storage.offer, group, row.offer)) for row in source.offers(group)]
    for at, happens in sorted(happened, key=lambda pair: pair[0]):
        clock.step(at - clock())
        happens()
    clock.step(microseconds(virtual.now) - clock())
    names = source.services(group)
    for name, kept in source.read(group, names).services.items():
        for kind, record in ((Kind.PLAN, kept.plan), (Kind.GATE, kept.gate)):
            if record is not None:
                assert storage.swap(group, name, kind, None, record).done
        storage.append(group, name, source.history(group, name))
