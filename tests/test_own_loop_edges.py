"""The loops of the docs where something goes wrong: in the work, in the heartbeats, in the host."""

import asyncio
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from types import ModuleType

import pytest

from live import Shaky, due
from test_own_loop import _on_asyncio, _plainly, a_machine
from turnwise.gate import Run

sys.path.append(str(Path(__file__).parents[1] / "docs" / "examples"))

import asyncio_loop
import plain_loop


def test_work_that_lost_its_turn_is_cancelled_once_so_that_its_cleanup_may_take_time() -> None:
    storage, said = due(), list[str]()

    async def work(_: Run) -> None:
        storage.forget_service("default", "job")
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.1)
            said.append("cleaned up")

    async def main() -> None:
        enough = asyncio.Event()
        serving = asyncio.create_task(asyncio_loop.serve(storage, a_machine("a"), work, enough))
        async with asyncio.timeout(30):
            while not said:  # noqa: ASYNC110 (it cannot be waited for)
                await asyncio.sleep(0.01)
            enough.set()
            await serving

    asyncio.run(main())
    assert said == ["cleaned up"]


def test_steps_that_lost_their_turn_are_closed_so_that_they_can_clean_up() -> None:
    storage, machine, told_before = due(), a_machine("a"), list[bool]()
    is_over = threading.Event()

    def work(_: Run) -> Generator[None, None, None]:
        storage.forget_service("default", "job")
        try:
            while True:
                yield
        finally:
            told_before.append(machine.turn is None or not machine.turn.is_at_work)
            is_over.set()

    plain_loop.serve(storage, machine, work, is_over.is_set)
    assert told_before == [False], "they clean up before the machine is told that they have ended"


def _flat(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [text for each in error.exceptions for text in _flat(each)]
    return [str(error)]


@pytest.mark.parametrize("loop", [_plainly, _on_asyncio])
def test_heartbeats_that_break_end_the_loop_with_what_broke_them(loop: object) -> None:
    """A loop that went on without them would serve nothing, and nobody would hear of it."""
    assert callable(loop)
    shaky = Shaky(due())
    shaky.failing["heartbeat"] = RuntimeError("a bug")
    give_up = time.monotonic() + 30
    with pytest.raises((RuntimeError, BaseExceptionGroup)) as raised:
        loop(shaky, lambda _: 1, lambda: "heartbeat" in shaky.calls or time.monotonic() > give_up)
    assert _flat(raised.value) == ["a bug"]


@pytest.mark.parametrize("loop", [plain_loop, asyncio_loop])
def test_a_loop_goes_by_a_clock_that_counts_while_the_host_is_suspended(
    loop: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = {time.CLOCK_BOOTTIME: 7_000_000, time.CLOCK_MONOTONIC: 1_000}
    monkeypatch.setattr(time, "clock_gettime_ns", clocks.__getitem__)
    assert loop.now() == 7_000
