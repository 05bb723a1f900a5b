"""A loop of your own on asyncio: tasks drive a machine, send heartbeats and do the work."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from turnwise.actions import (
    Begun,
    Elapsed,
    Failed,
    Finished,
    FunctionEnded,
    Request,
    Serve,
    StopRequested,
    Wait,
)
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.drive import carry_out
from turnwise.errors import StorageError
from turnwise.gate import Run
from turnwise.heartbeat import Heartbeat
from turnwise.machine import Machine
from turnwise.storages import Storage

Work = Callable[[Run], Awaitable[None]]


async def serve(storage: Storage, machine: Machine, work: Work, enough: asyncio.Event) -> None:
    """Serve until it is enough. A turn that is lost has its task cancelled."""
    group, me, life = machine.group, machine.runner_id, machine.boot_id
    heart = Heartbeat(group=group, runner_id=me, boot_id=life, timeout=machine.heartbeat_timeout)
    beating = asyncio.create_task(beat(storage, heart, machine))
    task: asyncio.Task[None] | None = None
    while True:
        machine.receive(now(), StopRequested() if enough.is_set() else Elapsed())
        action = machine.next(now()) if heart.has_joined else Wait(None)
        if isinstance(action, Request):  # in a thread, as a storage may wait
            answer = await asyncio.to_thread(carry_out, storage, group, machine.service, action)
            machine.receive(now(), answer)
        elif isinstance(action, Serve):
            machine.receive(now(), Begun())
            task = asyncio.create_task(ended(machine, work(action.run)))
        elif isinstance(action, Finished):
            beating.cancel()
            await asyncio.to_thread(storage.leave, group, me, life)
            return
        elif task is not None and machine.turn is not None and machine.turn.is_lost(now()):
            task.cancel()
        if isinstance(action, Wait):
            await asyncio.sleep(0.01)


async def ended(machine: Machine, working: Awaitable[None]) -> None:
    """Do the work, and tell the machine how it ended."""
    try:
        await working
    except asyncio.CancelledError:
        machine.receive(now(), FunctionEnded(Status.ABANDONED, "lost"))
    except Exception as error:  # noqa: BLE001 (whatever it is, it ends the turn alone)
        machine.receive(now(), FunctionEnded(Status.ABANDONED, f"exception:{type(error).__name__}"))
    else:
        machine.receive(now(), FunctionEnded(Status.COMPLETED))


async def beat(storage: Storage, heart: Heartbeat, machine: Machine) -> None:
    """Send heartbeats, each of which names the run at work, and tell what they heard."""
    while True:
        if heart.next(now()) is not None:
            await asyncio.sleep(0.01)
            continue
        mine = heart.beat(now(), machine.runs)
        try:
            answer = await asyncio.to_thread(storage.heartbeat, machine.group, mine)
            heard, _events = heart.receive(now(), answer)
        except StorageError as error:
            heard, _events = heart.receive(now(), Failed(str(error)))
        if heard is not None:
            machine.receive(now(), heard)


def now() -> int:
    """The clock that the machine goes by: microseconds that only grow."""
    return time.monotonic_ns() // 1000
