"""A loop of your own: one thread, which drives a machine, sends heartbeats and does the work."""

import time
from collections.abc import Callable, Iterator

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

Steps = Iterator[None]


def serve(
    storage: Storage, machine: Machine, work: Callable[[Run], Steps], is_enough: Callable[[], bool]
) -> None:
    """Serve until it is enough. The work yields often: between its steps heartbeats are sent."""
    group, me, life = machine.group, machine.runner_id, machine.boot_id
    heart = Heartbeat(group=group, runner_id=me, boot_id=life, timeout=machine.heartbeat_timeout)
    steps: Steps | None = None
    while True:
        machine.receive(now(), StopRequested() if is_enough() else Elapsed())
        if heart.next(now()) is None:
            beat(storage, heart, machine)
        action = machine.next(now()) if heart.has_joined else Wait(None)
        if isinstance(action, Request):
            machine.receive(now(), carry_out(storage, group, machine.service, action))
        elif isinstance(action, Serve):
            machine.receive(now(), Begun())
            steps = work(action.run)
        elif isinstance(action, Finished):
            storage.leave(group, me, life)
            return
        elif steps is None:
            time.sleep(0.01)
        if steps is not None and (ended := next_step(machine, steps)) is not None:
            machine.receive(now(), ended)
            steps = None


def beat(storage: Storage, heart: Heartbeat, machine: Machine) -> None:
    """Send a heartbeat, which names the run at work, and tell the machine what it heard."""
    try:
        answer = storage.heartbeat(machine.group, heart.beat(now(), machine.runs))
        heard, _events = heart.receive(now(), answer)
    except StorageError as error:
        heard, _events = heart.receive(now(), Failed(str(error)))
    if heard is not None:
        machine.receive(now(), heard)


def next_step(machine: Machine, steps: Steps) -> FunctionEnded | None:
    """Do one step of the work; how it ended, if it has."""
    if machine.turn is not None and machine.turn.is_lost(now()):
        return FunctionEnded(Status.ABANDONED, "lost")
    try:
        next(steps)
    except StopIteration:
        return FunctionEnded(Status.COMPLETED)
    except Exception as error:  # noqa: BLE001 (whatever it is, it ends the turn alone)
        return FunctionEnded(Status.ABANDONED, f"exception:{type(error).__name__}")
    return None


def now() -> int:
    """The clock that the machine goes by: microseconds that only grow."""
    return time.monotonic_ns() // 1000
