"""How a scheduler is: for a probe."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from turnwise.cycles import SECOND, instant
from turnwise.gate import is_paused
from turnwise.scheduler.at_work import Service
from turnwise.scheduler.engine import Engine, monotonic_us


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """How one service is, as this process sees it; instants in UTC, on the storage's clock.

    ``state`` is ``"waiting"``, ``"running"`` (its function runs here), ``"overdue"`` (it has run
    longer than its timeout), ``"lost"`` (it runs, and is not surely ours any more; so does what an
    earlier stop gave up, and the service waits for it), ``"recording"`` (its end is not recorded
    yet) or ``"paused"``.
    """

    name: str
    state: Literal["waiting", "running", "overdue", "lost", "recording", "paused"]
    next_due: datetime | None
    last_success: datetime | None
    current_run_id: str | None


@dataclass(frozen=True, slots=True)
class Health:
    """How a scheduler is: for a probe.

    ``is_running`` says whether it takes turns: not before its start, not once it was asked to
    stop, and not once it has ended by a bug, of the driver's or of the heartbeats'. ``failure`` is
    what that bug was, or why the storage can never be opened. ``storage_answers`` says whether the
    storage answers, and ``seconds`` how long this has been so. ``error`` is the last error, kept
    when the storage answers again.
    """

    is_running: bool
    storage_answers: bool
    seconds: float
    error: str | None
    services: tuple[ServiceHealth, ...]
    failure: str | None = None

    @property
    def is_well(self) -> bool:
        """Whether it takes turns, the storage answers, and nothing is lost or overdue."""
        ill = {"overdue", "lost"}
        return (
            self.is_running
            and self.storage_answers
            and not any(service.state in ill for service in self.services)
        )


def health_of(engine: Engine | None) -> Health:
    """How the scheduler of an engine is; of none where it does not run."""
    if engine is None:
        return Health(is_running=False, storage_answers=False, seconds=0.0, error=None, services=())
    at = monotonic_us()
    # Without the lock, for it may tell an end.
    resting = {each.name for each in engine.services if engine.services.rests(each)}
    with engine.services.lock:
        link = engine.asking.link
        return Health(
            is_running=not (engine.is_stopping or engine.has_ended or engine.failure),
            storage_answers=link.answers,
            seconds=(at - link.since) / SECOND,
            error=link.error,
            services=tuple(
                _of_service(each, at, rests=each.name in resting) for each in engine.services
            ),
            failure=None if engine.failure is None else str(engine.failure),
        )


def _of_service(service: Service, at: int, *, rests: bool) -> ServiceHealth:
    machine, turn = service.machine, service.turn
    gate, now = machine.gate, machine.storage_now(at)
    state: Literal["waiting", "running", "overdue", "lost", "recording", "paused"] = "waiting"
    if turn is not None:
        state = "overdue" if turn.overdue else "lost" if turn.is_lost(at) else "running"
    elif machine.turn is not None:
        state = "recording"
    elif rests:
        state = "lost"
    elif gate is not None and now is not None and is_paused(gate, now):
        state = "paused"
    due = None if now is None else machine.planner.schedule.period_at(instant(now)).until
    success = None if gate is None or gate.success is None else instant(gate.success.at)
    run_id = None if turn is None else turn.run.run_id
    return ServiceHealth(service.name, state, due, success, run_id)
