"""A turn for a unit test of a function: see :func:`fake_turn`."""

from datetime import UTC, datetime, timedelta

from turnwise.cycles import microseconds
from turnwise.durations import duration_of
from turnwise.gate import Run
from turnwise.names import checked_name
from turnwise.scheduler.knobs import Duration
from turnwise.turn import Turn, TurnView

START = datetime(2026, 1, 1, tzinfo=UTC)
_PERIOD = timedelta(minutes=5)
_HEARTBEAT_TIMEOUT = timedelta(minutes=1)


class FakeTurn(Turn):
    """A turn that no storage knows: it is what the test says. Made by :func:`fake_turn`.

    Attributes:
        is_complete: whether the function has called :meth:`~turnwise.turn.Turn.complete`.
        fenced: the connections whose transactions it has fenced, in order.
    """

    def __init__(self, run: Run, *, group: str, service: str, last_served: int | None) -> None:
        self._why_lost: str | None = None
        self._silence_allowed = run.heartbeat_timeout
        self._lost_at = run.started_at + run.heartbeat_timeout
        self._stops = False
        self.is_complete = False
        self.fenced: list[object] = []
        self._now = run.started_at
        view = TurnView(
            now=lambda: self._now,
            deadline=lambda: run.slot_end,
            lost_at=lambda: self._lost_at,
            why_lost=lambda: self._why_lost,
            stop_requested=lambda: self._stops,
            complete=self._completed,
            fence=self._fenced,
        )
        super().__init__(run, group=group, service=service, last_served=last_served, view=view)

    def _completed(self, connection: object) -> None:
        self._require(connection)
        self.is_complete = True

    def _fenced(self, connection: object) -> None:
        self._require(connection)
        self.fenced.append(connection)

    def _require(self, connection: object) -> None:
        self.check()
        if connection is None:
            raise TypeError("connection must be one that the function has written on, got None")

    def lose(self, why: str = "the test has taken it away") -> None:
        """From now on the turn is lost: :meth:`~turnwise.turn.Turn.check` raises."""
        self._why_lost, self._lost_at = why, self._now

    def request_stop(self) -> None:
        """From now on the program is asked to stop."""
        self._stops = True

    def elapse(self, length: Duration, *, is_silent: bool = False) -> None:
        """Let time pass: less is left of the slot.

        Args:
            length: how long.
            is_silent: whether no heartbeat is confirmed meanwhile. Then there is less of
                :meth:`~turnwise.turn.Turn.lost_in`, and the turn is lost once nothing is left.

        Raises:
            ValueError: ``length`` is negative.
        """
        self._now += span("length", length)
        if self._why_lost is not None:
            return
        if not is_silent:
            self._lost_at = self._now + self._silence_allowed
        elif self._now >= self._lost_at:
            self.lose("no heartbeat was confirmed for the heartbeat timeout")


def fake_turn(
    *,
    group: str = "default",
    service: str = "service",
    runner_id: str = "runner",
    run_id: str = "00000000-0000-4000-8000-000000000000",
    fencing_token: int = 1,
    attempt: int = 1,
    due: datetime = START,
    until: datetime | None = None,
    started_at: datetime | None = None,
    last_served: datetime | None = None,
    remaining: Duration = _PERIOD,
    triggered: bool = False,
    lost: bool = False,
    stop_requested: bool = False,
) -> FakeTurn:
    """A turn as a function is handed one, for a unit test of that function.

    Args:
        group: the group's name.
        service: the service's name.
        runner_id: the runner whose turn it is.
        run_id: the run's id.
        fencing_token: what the function hands to the resources that it writes to, from 1.
        attempt: which attempt at the period it is, from 1.
        due: when the period was due, with a time zone.
        until: the next due instant, after ``due``; None for five minutes after it.
        started_at: when the run was admitted; None for at once, at ``due``.
        last_served: the due instant of the last period that was served; None where none was.
        remaining: how much is left of the slot.
        triggered: whether an operator asked for it.
        lost: whether the turn is lost from the start; see also :meth:`FakeTurn.lose`.
        stop_requested: whether the program was asked to stop from the start; see also
            :meth:`FakeTurn.request_stop`.

    Raises:
        TypeError: an argument is not of its type.
        ValueError: an instant has no time zone, a duration cannot be read or is negative, a name
            is none that a storage takes, or a number or an instant is out of its range.
    """
    due_at = instant_us("due", due)
    until_at = instant_us("until", due + _PERIOD if until is None else until)
    if until_at <= due_at:
        raise ValueError(f"until must be after due, {due}, got {until}")
    begun = due_at if started_at is None else instant_us("started_at", started_at)
    run = Run(
        run_id=checked_name("run_id", run_id),
        runner_id=checked_name("runner_id", runner_id),
        boot_id="fake",
        heartbeat_timeout=microseconds(_HEARTBEAT_TIMEOUT),
        token=_from_one("fencing_token", fencing_token),
        key=None if triggered else due_at,
        due=due_at,
        until=until_at,
        cycle_start=due_at,
        slot_start=begun,
        slot_end=begun + span("remaining", remaining),
        position=0,
        attempt=_from_one("attempt", attempt),
        started_at=begun,
        size=1,
        digest=0,
        trigger="fake" if triggered else None,
    )
    turn = FakeTurn(
        run,
        group=checked_name("group", group),
        service=checked_name("service", service),
        last_served=None if last_served is None else instant_us("last_served", last_served),
    )
    if lost:
        turn.lose()
    if stop_requested:
        turn.request_stop()
    return turn


def instant_us(name: str, at: datetime) -> int:
    """An instant in microseconds from the Unix epoch, for the argument ``name``.

    Raises:
        TypeError: it is no datetime.
        ValueError: it has no time zone.
    """
    if not isinstance(at, datetime):
        raise TypeError(f"{name} must be a datetime with a time zone, got {at!r}")
    if at.tzinfo is None:
        raise ValueError(f"{name} must have a time zone, such as UTC, got {at!r}")
    return microseconds(at)


def span(name: str, length: Duration) -> int:
    """A length of time in microseconds, for the argument ``name``.

    Raises:
        TypeError: it is neither a timedelta nor a text.
        ValueError: it cannot be read, or is negative.
    """
    read = duration_of(name, length)
    if read < timedelta(0):
        raise ValueError(f"{name} must not be negative, got {length!r}")
    return microseconds(read)


def _from_one(name: str, number: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{name} must be a whole number, got {number!r}")
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    return number
