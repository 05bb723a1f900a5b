"""A loop of your own: one thread, which drives a machine, sends heartbeats and does the work."""

import time
from collections.abc import Callable, Generator

from turnwise import actions
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.drive import carry_out
from turnwise.errors import StorageError
from turnwise.gate import Run
from turnwise.heartbeat import Heartbeat
from turnwise.machine import Machine
from turnwise.storages import Pulse, Storage

Steps = Generator[None, None, None]
Work = Callable[[Run], Steps]
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # counts while the host sleeps, too


def serve(storage: Storage, machine: Machine, work: Work, is_enough: Callable[[], bool]) -> None:
    """Serve until it is enough. The work yields often: between its steps heartbeats are sent."""
    group, me, life = machine.group, machine.runner_id, machine.boot_id
    heart = Heartbeat(group=group, runner_id=me, boot_id=life, timeout=machine.heartbeat_timeout)
    steps: Steps | None = None
    while True:
        machine.receive(now(), actions.StopRequested() if is_enough() else actions.Elapsed())
        if heart.next(now()) is None:
            beat(storage, heart, machine)
        action = machine.next(now()) if heart.has_joined else actions.Wait(None)
        if isinstance(action, actions.Finished):
            break
        if isinstance(action, actions.Request):  # no heartbeat leaves meanwhile
            machine.receive(now(), carry_out(storage, group, machine.service, action))
        elif isinstance(action, actions.Serve):
            machine.receive(now(), actions.Begun())
            steps = work(action.run)
        elif steps is None:
            time.sleep(0.01)
        if steps is not None and (ended := step(machine, steps)) is not None:
            machine.receive(now(), ended)
            steps = None
    storage.leave(group, me, life)


def step(machine: Machine, steps: Steps) -> actions.FunctionEnded | None:
    """Do one step of the work, or end it where the turn is lost; how it ended, if it has."""
    try:
        if machine.turn is not None and machine.turn.is_lost(now()):
            steps.close()
            return actions.FunctionEnded(Status.ABANDONED, "lost")
        next(steps)
    except StopIteration:
        return actions.FunctionEnded(Status.COMPLETED)
    except Exception as error:  # noqa: BLE001 (whatever it is, it ends the turn alone)
        return actions.FunctionEnded(Status.ABANDONED, f"exception:{type(error).__name__}")
    return None


def beat(storage: Storage, heart: Heartbeat, machine: Machine) -> None:
    """Send a heartbeat, which names the run at work, and tell the machine what it heard."""
    answer: Pulse | actions.Failed
    try:
        answer = storage.heartbeat(machine.group, heart.beat(now(), machine.runs))
    except StorageError as error:
        answer = actions.Failed(str(error))
    heard, _events = heart.receive(now(), answer)
    if heard is not None:
        machine.receive(now(), heard)


def now() -> int:
    """The clock that the machine goes by: microseconds that only grow."""
    return time.clock_gettime_ns(CLOCK) // 1000
