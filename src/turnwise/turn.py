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
    now on; any instant in the past where one may be already. ``complete`` and ``fence`` take the
    connection whose transaction the run is completed in, or fenced.
    """

    now: Callable[[], int]
    deadline: Callable[[], int]
    lost_at: Callable[[], int]
    why_lost: Callable[[], str | None]
    stop_requested: Callable[[], bool]
    complete: Callable[[object], None]
    fence: Callable[[object], None]


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
        """Seconds until the runner's slot ends, never negative.

        A turn must start within its slot. It may run longer than that: nobody else starts while
        it runs, unless its owner falls silent or its timeout releases it.
        """
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

    def complete(self, connection: object) -> None:
        """Have this period count as served when the transaction on ``connection`` commits.

        Make it the last statement before the commit::

            with engine.begin() as connection:
                connection.execute(...)      # what the job has to write
                turn.complete(connection)    # and now both, or neither

        What the job has written and that the period is served are then one: after a commit both
        are there, whatever becomes of this process; after a rollback neither is, and the next in
        line tries. A process that was taken for dead cannot commit any more, whenever it wakes.

        From here on the database alone says whether the turn was completed, not what the function
        does, also where this raises. A turn whose function returns normally after a rollback has
        failed, with the reason ``not_committed``. While the transaction is open nobody else can
        change the service's gate, so commit at once. The server ends the transaction when it idles
        for longer than :meth:`lost_in` is now; SQLite does not, and MariaDB only by PyMySQL.

        Args:
            connection: an SQLAlchemy ``Connection`` or ``Session``, Django's ``connection``, or a
                connection of psycopg 3, PyMySQL or sqlite3, within a transaction of the storage's
                own database. With an ``AsyncConnection`` or ``AsyncSession``, call
                ``await connection.run_sync(turn.complete)``.

        Raises:
            TurnLostError: the turn is not this runner's any more: roll back.
            TypeError: ``connection`` is none of these.
            ValueError: it is in autocommit, in a savepoint, or to another database than the
                storage's; or the storage is not in an SQL database.
        """
        self._view.complete(connection)

    def fence(self, connection: object) -> None:
        """Let the transaction on ``connection`` commit only while the turn is this runner's.

        For a job that commits in pieces: call it first in each transaction, and
        :meth:`complete` last in the last one. While the transaction is open, nobody can take the
        turn away; once it was taken away, this raises. So no piece is committed late, whenever the
        process was suspended. What was committed stays when the turn fails later: each piece must
        say what it has done, so that the next attempt can go on from there.

        Args:
            connection: as for :meth:`complete`.

        Raises:
            TurnLostError: the turn is not this runner's any more: roll back.
            TypeError: ``connection`` is of no kind that is known.
            ValueError: as for :meth:`complete`.
        """
        self._view.fence(connection)
