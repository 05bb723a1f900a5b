"""Read by type checkers alone: how users write against the scheduler, with the types they get."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, assert_type

from turnwise.events import Event, TurnEnded
from turnwise.scheduler import Scheduler
from turnwise.scheduler.health import Health, ServiceHealth
from turnwise.storages.memory import MemoryStorage
from turnwise.testing import FakeTurn, VirtualRun, VirtualScheduler, fake_turn
from turnwise.turn import Turn


def observer(event: Event) -> None:
    """Hear events."""
    if isinstance(event, TurnEnded):
        assert_type(event.took, int)


scheduler = Scheduler("sqlite:///turns.db", group="billing", observers=[observer], grace="10s")
Scheduler(MemoryStorage(), runner_id="a", may_run=False, wait_for_storage=False)


@scheduler.every("5m", timeout="1m", attempts=2)
def plain(turn: Turn, *, dry: bool = False) -> int:
    """Serve, as a function; it keeps its signature."""
    assert_type(turn.fencing_token, int)
    assert_type(turn.due, datetime)
    assert_type(turn.last_served, datetime | None)
    assert_type(turn.remaining(), float)
    return int(dry)


@scheduler.cron("0 3 * * *", timezone="Europe/Vienna", start_within=timedelta(hours=2))
async def coroutine(turn: Turn) -> str:
    """Serve, as a coroutine function; it keeps its signature."""
    return turn.service


@scheduler.every("1h", name="without a turn")
async def without() -> None:
    """Serve without a turn."""


turn = fake_turn(fencing_token=7, lost=True)
assert_type(turn, FakeTurn)
assert_type(plain(turn, dry=True), int)
assert_type(asyncio.run(coroutine(turn)), str)
kept: Callable[[], Coroutine[Any, Any, None]] = without
plain("no turn")  # type: ignore[arg-type] # it keeps its signature

scheduler.add(plain, "every 5m", name="again")
scheduler.add(None, "every 5m", name="nightly", stagger="auto")
scheduler.add(plain, "every 5m", knob=1)  # type: ignore[call-arg] # there is no such knob
scheduler.every("5m", attempts="three")  # type: ignore[arg-type] # a number
scheduler.every("5m", runs="twice")  # type: ignore[arg-type] # one of two words

with scheduler.turn("nightly") as mine:
    assert_type(mine, Turn | None)
with scheduler as entered:
    assert_type(entered, Scheduler)
assert_type(scheduler.stop(timedelta(seconds=5)), bool)
assert_type(scheduler.stop(5.0), bool)
assert_type(scheduler.health(), Health)
assert_type(scheduler.health().services, tuple[ServiceHealth, ...])


async def main() -> None:
    """Serve on the application's loop."""
    async with scheduler as running:
        assert_type(running, Scheduler)


with VirtualScheduler("a", "b") as virtual:
    virtual.every("5m")(plain)
    virtual.advance("1h")
    assert_type(virtual.runs("plain"), tuple[VirtualRun, ...])
