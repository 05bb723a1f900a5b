"""A loop of your own on asyncio: tasks drive a machine, send heartbeats and do the work."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from turnwise import actions
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.drive import carry_out
from turnwise.errors import StorageError
from turnwise.gate import Run
from turnwise.heartbeat import Heartbeat
from turnwise.machine import Machine
from turnwise.storages import Pulse, Storage

Work = Callable[[Run], Awaitable[None]]
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # counts while the host sleeps, too


async def serve(storage: Storage, machine: Machine, work: Work, enough: asyncio.Event) -> None:
    """Serve until it is enough; raise what any of the tasks has raised."""
    group, me, life = machine.group, machine.runner_id, machine.boot_id
    heart = Heartbeat(group=group, runner_id=me, boot_id=life, timeout=machine.heartbeat_timeout)
    working: asyncio.Task[None] | None = None
    async with asyncio.TaskGroup() as tasks:
        beating = tasks.create_task(beat(storage, heart, machine))
        while True:
            told = actions.StopRequested() if enough.is_set() else actions.Elapsed()
            machine.receive(now(), told)
            action = machine.next(now()) if heart.has_joined else actions.Wait(None)
            if isinstance(action, actions.Finished):
                break
            if isinstance(action, actions.Request):  # in a thread, as a storage may wait
                answer = await asyncio.to_thread(carry_out, storage, group, machine.service, action)
                machine.receive(now(), answer)
                continue
            if isinstance(action, actions.Serve):
                machine.receive(now(), actions.Begun())
                working = tasks.create_task(do(machine, work, action.run))
            elif working and machine.turn and machine.turn.is_lost(now()):
                working.cancel()
                working = None  # cancelled once: its cleanup may take time
            await asyncio.sleep(0.01)
        beating.cancel()
    await asyncio.to_thread(storage.leave, group, me, life)


async def do(machine: Machine, work: Work, run: Run) -> None:
    """Do the work, and tell the machine how it ended."""
    ended = actions.FunctionEnded(Status.COMPLETED)
    try:
        await work(run)
    except asyncio.CancelledError:
        ended = actions.FunctionEnded(Status.ABANDONED, "lost")
    except Exception as error:  # noqa: BLE001 (whatever it is, it ends the turn alone)
        ended = actions.FunctionEnded(Status.ABANDONED, f"exception:{type(error).__name__}")
    machine.receive(now(), ended)


async def beat(storage: Storage, heart: Heartbeat, machine: Machine) -> None:
    """Send heartbeats, each of which names the run at work, and tell what they heard."""
    answer: Pulse | actions.Failed
    while True:
        if heart.next(now()) is not None:
            await asyncio.sleep(0.01)
            continue
        mine = heart.beat(now(), machine.runs)
        try:
            answer = await asyncio.to_thread(storage.heartbeat, machine.group, mine)
        except StorageError as error:
            answer = actions.Failed(str(error))
        heard, _events = heart.receive(now(), answer)
        if heard is not None:
            machine.receive(now(), heard)


def now() -> int:
    """The clock that the machine goes by: microseconds that only grow."""
    return time.clock_gettime_ns(CLOCK) // 1000
