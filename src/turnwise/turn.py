"""What a function is handed while it runs: its turn."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from turnwise.atomic_service import AtomicServiceId, AtomicServiceRun
from turnwise.cycles import SECOND, instant
from turnwise.errors import TurnLostError
from turnwise.gate import Run


@dataclass(frozen=True, slots=True)
class TurnView:
    """What a turn asks of whoever keeps it; all times in microseconds, on the monotonic clock.

    ``why_lost`` says why the turn is not surely its runner's any more, and is None while it is.
    ``lost_at`` is when another runner may be at work in its place, were no heartbeat confirmed from
    now on; any instant in the past where one may be already.
    """

    now: Callable[[], int]
    deadline: Callable[[], int]
    lost_at: Callable[[], int]
    why_lost: Callable[[], str | None]
    stop_requested: Callable[[], bool]


class Turn:
    """A turn that was admitted: what a function is handed while it runs.

    Attributes:
        group: the group's name.
        service: the service's name.
        runner_id: the runner whose turn it is.
        run_id: the run's own id, a random UUID as text.
        fencing_token: grows with every admitted run of the service. Hand it to the resource that
            the function writes to, so that the resource can refuse an older one.
        due: the instant at which the period that is served was due, in UTC.
        until: the next due instant.
        attempt: which attempt at the period this is, from 1.
        last_served: the due instant of the last period that was served before, in UTC; None where
            none was. It tells the function what it has to catch up on.
        started_at: when the storage admitted the run, on the storage's clock.
        triggered: whether an operator asked for this run.
    """

    def __init__(
        self,
        run: Run,
        *,
        group: str,
        service: str,
        last_served: int | None,
        view: TurnView,
    ) -> None:
        self.group, self.service = group, service
        self.runner_id, self.run_id = run.runner_id, run.run_id
        self.fencing_token, self.attempt = run.token, run.attempt
        self.due, self.until = instant(run.due), instant(run.until)
        self.started_at = instant(run.started_at)
        self.last_served: datetime | None = None if last_served is None else instant(last_served)
        self.triggered = run.trigger is not None
        self._run, self._view = run, view

    def __repr__(self) -> str:
        return (
            f"<Turn of {self.service!r} due {self.due.isoformat()}, attempt {self.attempt}, "
            f"fencing token {self.fencing_token}>"
        )

    @property
    def run(self) -> AtomicServiceRun:
        """The run as the decision names it: its identity, cycle, slot and ``started_at``."""
        run = self._run
        return AtomicServiceRun(
            AtomicServiceId(run.runner_id, run.run_id),
            instant(run.cycle_start),
            instant(run.slot_start),
            instant(run.slot_end),
            self.started_at,
        )

    def remaining(self) -> float:
        """Seconds until the slot ends, never negative. A turn may run longer; see the docs."""
        return max(0.0, (self._view.deadline() - self._view.now()) / SECOND)

    def lost_in(self) -> float:
        """Seconds until another runner may take over, were no heartbeat confirmed from now on.

        It is 0 where one may have taken over already, and grows again with each heartbeat that is
        confirmed. A turn that has passed its timeout is not lost by that: nobody takes over while
        its function runs. It is for functions that end something of their own before it is too
        late, as ``turnwise run`` ends its child.
        """
        return max(0.0, (self._view.lost_at() - self._view.now()) / SECOND)

    @property
    def stop_requested(self) -> bool:
        """Whether the program was asked to stop: a long function should come to an end."""
        return self._view.stop_requested()

    @property
    def is_lost(self) -> bool:
        """Whether :meth:`check` would raise."""
        return self._view.why_lost() is not None

    def check(self) -> None:
        """Do nothing while the turn is surely this runner's.

        Call it before each write that must not come late.

        Raises:
            TurnLostError: the storage has closed the run; or no heartbeat of it was confirmed for
                the heartbeat timeout, so that it may have; or the turn's timeout has passed.
        """
        why = self._view.why_lost()
        if why is not None:
            raise TurnLostError(f"{self.service}, run {self.run_id}: {why}")
