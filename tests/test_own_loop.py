"""The loops of the docs that drive a machine without a scheduler."""

import asyncio
import sys
import threading
from collections.abc import Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest

from live import Shaky, due, ends_of, eventually, runs_of
from turnwise.gate import Run
from turnwise.machine import Machine
from turnwise.schedules import Every
from turnwise.settings import Settings
from turnwise.storages import Storage
from turnwise.storages.memory import MemoryStorage

sys.path.append(str(Path(__file__).parents[1] / "docs" / "examples"))

import asyncio_loop
import plain_loop


def a_machine(runner_id: str) -> Machine:
    return Machine(
        group="default",
        service="job",
        runner_id=runner_id,
        boot_id=uuid4().hex,
        settings=Settings(schedule=Every("1m"), heartbeat_timeout=timedelta(milliseconds=900)),
        names=lambda: uuid4().hex,
    )


def _plainly(storage: Storage, steps: Callable[[Run], int], is_enough: Callable[[], bool]) -> None:
    def work(run: Run) -> Generator[None, None, None]:
        for _ in range(steps(run)):
            yield

    plain_loop.serve(storage, a_machine("a"), work, is_enough)


def _on_asyncio(
    storage: Storage, steps: Callable[[Run], int], is_enough: Callable[[], bool]
) -> None:
    async def work(run: Run) -> None:
        for _ in range(steps(run)):
            await asyncio.sleep(0)

    async def main() -> None:
        enough = asyncio.Event()
        serving = asyncio.create_task(asyncio_loop.serve(storage, a_machine("a"), work, enough))
        while not is_enough():  # noqa: ASYNC110 (it cannot be waited for)
            await asyncio.sleep(0.01)
        enough.set()
        await serving

    asyncio.run(main())


LOOPS = pytest.mark.parametrize("loop", [_plainly, _on_asyncio])
Loop = Callable[[Storage, Callable[[Run], int], Callable[[], bool]], None]


@LOOPS
def test_a_loop_serves_its_turn_and_leaves(loop: Loop) -> None:
    storage = due()
    loop(storage, lambda _: 10, lambda: "completed" in _statuses(storage))
    assert ends_of(storage, "job") == [("completed", "")]
    assert [row.left_at is not None for row in storage.runners("default")] == [True]


def _statuses(storage: Storage) -> list[str]:
    return [run.status.value for run in runs_of(storage, "job")]


@LOOPS
def test_work_that_fails_ends_its_turn_alone(loop: Loop) -> None:
    storage = due()

    def fails(run: Run) -> int:
        raise ValueError(run)

    def steps(run: Run) -> int:
        return fails(run)

    loop(storage, steps, lambda: "abandoned" in _statuses(storage))
    assert ends_of(storage, "job") == [("abandoned", "exception:ValueError")]


@LOOPS
def test_a_turn_of_which_no_heartbeat_was_confirmed_for_its_timeout_ends_as_lost(
    loop: Loop,
) -> None:
    kept: MemoryStorage = due()
    shaky = Shaky(kept)

    def steps(_: Run) -> int:
        shaky.away("heartbeat")
        return 10**9

    loop(cast("Storage", shaky), steps, lambda: "abandoned" in _statuses(kept))
    assert ends_of(kept, "job") == [("abandoned", "lost")]


@LOOPS
def test_work_whose_service_was_forgotten_ends(loop: Loop) -> None:
    storage = due()
    machine_gone = threading.Event()

    def steps(_: Run) -> int:
        storage.forget_service("default", "job")
        machine_gone.set()
        return 10**9

    loop(storage, steps, machine_gone.is_set)
    assert _statuses(storage) == [], "its work would have taken for ever"


@LOOPS
def test_a_storage_that_does_not_answer_is_waited_for(loop: Loop) -> None:
    kept: MemoryStorage = due()
    shaky = Shaky(kept)
    shaky.away("heartbeat")
    running = threading.Thread(
        target=loop,
        args=(shaky, lambda _: 1, lambda: "completed" in _statuses(kept)),
    )
    running.start()
    eventually(lambda: shaky.calls, "it has tried")
    shaky.back()
    running.join(30)
    assert not running.is_alive()
    assert ends_of(kept, "job") == [("completed", "")]
