"""For your own tests: a turn for a unit test of a job, and a scheduler in virtual time.

A job is a function; call it with :func:`fake_turn`::

    def test_the_report_refuses_to_write_late():
        turn = fake_turn(due=datetime(2026, 1, 5, 3, tzinfo=UTC))
        turn.lose()
        with pytest.raises(TurnLostError):
            nightly_report(turn)

A schedule, a failure, a takeover are tested with :class:`VirtualScheduler`: several processes, as
long as you like, in milliseconds::

    def test_the_report_survives_a_dead_process():
        with VirtualScheduler("a", "b") as virtual:
            virtual.cron("0 3 * * *", name="report")(nightly_report)
            virtual.advance("1d")
            virtual.kill(virtual.runs("report")[-1].runner_id)
            virtual.advance("1d")
            assert [run.status for run in virtual.runs("report")] == [COMPLETED, COMPLETED]
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Self

from turnwise.cycles import duration, instant, microseconds
from turnwise.durations import duration_of
from turnwise.events import Event, Observer, StorageAsked
from turnwise.gate import Execution, Run
from turnwise.overview.known import runs_of
from turnwise.scheduler.knobs import Duration
from turnwise.scheduler.registration import Function, Registration
from turnwise.settings import Settings
from turnwise.storages import Storage
from turnwise.storages.memory import MemoryStorage
from turnwise.testing.process import VirtualProcess
from turnwise.testing.virtual_time import VirtualTime, sleep
from turnwise.turn import Turn, TurnView

__all__ = ["FakeTurn", "VirtualScheduler", "fake_turn"]

_START = datetime(2026, 1, 1, tzinfo=UTC)
_PERIOD = timedelta(minutes=5)


# A turn for a unit test ---------------------------------------------------------------------------


class FakeTurn(Turn):
    """A turn that no storage knows: it is what the test says. Made by :func:`fake_turn`.

    Attributes:
        is_complete: whether the function has called :meth:`~turnwise.turn.Turn.complete`.
        fenced: the connections whose transactions it has fenced, in order.
    """

    def __init__(self, run: Run, *, group: str, service: str, last_served: int | None) -> None:
        self._why_lost: str | None = None
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

    def elapse(self, length: Duration) -> None:
        """Let time pass: less is left of the slot."""
        self._now += microseconds(duration_of("length", length))


def fake_turn(
    *,
    group: str = "default",
    service: str = "service",
    runner_id: str = "runner",
    run_id: str = "00000000-0000-4000-8000-000000000000",
    fencing_token: int = 1,
    attempt: int = 1,
    due: datetime = _START,
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
        fencing_token: what the function hands to the resources that it writes to.
        attempt: which attempt at the period it is, from 1.
        due: when the period was due, with a time zone.
        until: the next due instant; None for five minutes after ``due``.
        started_at: when the run was admitted; None for at once, at ``due``.
        last_served: the due instant of the last period that was served; None where none was.
        remaining: how much is left of the slot.
        triggered: whether an operator asked for it.
        lost: whether the turn is lost from the start; see also :meth:`FakeTurn.lose`.
        stop_requested: whether the program was asked to stop from the start; see also
            :meth:`FakeTurn.request_stop`.

    Raises:
        ValueError: an instant has no time zone, or a duration cannot be read.
    """
    begun = _us("due", due) if started_at is None else _us("started_at", started_at)
    left = microseconds(duration_of("remaining", remaining))
    run = Run(
        run_id=run_id,
        runner_id=runner_id,
        boot_id="fake",
        heartbeat_timeout=microseconds(timedelta(minutes=1)),
        token=fencing_token,
        key=None if triggered else _us("due", due),
        due=_us("due", due),
        until=_us("until", due + _PERIOD if until is None else until),
        cycle_start=_us("due", due),
        slot_start=begun,
        slot_end=begun + left,
        position=0,
        attempt=attempt,
        started_at=begun,
        size=1,
        digest=0,
        trigger="fake" if triggered else None,
    )
    before = None if last_served is None else _us("last_served", last_served)
    turn = FakeTurn(run, group=group, service=service, last_served=before)
    if lost:
        turn.lose()
    if stop_requested:
        turn.request_stop()
    return turn


def _us(name: str, at: datetime) -> int:
    if at.tzinfo is None:
        raise ValueError(f"{name} must have a time zone, such as UTC, got {at!r}")
    return microseconds(at)


# A scheduler in virtual time ----------------------------------------------------------------------


class VirtualScheduler(Registration):
    """Several processes with the same scheduler, in virtual time, in the memory of a test.

    What runs is what runs in production, but for threads, the clock and the storage: the same
    machines, rules and functions. Register functions as with a
    :class:`~turnwise.scheduler.Scheduler`; they are served while :meth:`advance` lets time pass.
    Coroutines take time with ``asyncio.sleep``, plain functions with :meth:`sleep`; nothing else
    takes any. Use it in a plain test, not within a running event loop.

    Args:
        *runner_ids: the processes; more can be started later.
        start: the storage's clock at the start, with a time zone.
        group: the group's name.
        observers: callables that hear every event, beside :attr:`events`.

    Attributes:
        storage: the storage that all of them share; its clock is the virtual one.
        events: all that has happened, in order, but for :class:`~turnwise.events.StorageAsked`.

    Raises:
        ValueError: ``start`` has no time zone.
    """

    def __init__(
        self,
        *runner_ids: str,
        start: datetime = _START,
        group: str = "default",
        observers: Sequence[Observer] = (),
    ) -> None:
        super().__init__()
        self.group = group
        self.events: list[Event] = []
        self._time = VirtualTime()
        self._epoch = _us("start", start)
        self.storage: Storage = MemoryStorage(clock=lambda: self._epoch + self._time.at)
        self._observers = (self._keep, *observers)
        self._processes: dict[str, VirtualProcess] = {}
        self._lives = 0
        for runner_id in runner_ids or ("a",):
            self.start(runner_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill every process that still runs."""
        for process in self._processes.values():
            if not process.is_gone:
                process.kill()

    # Time -------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The storage's clock."""
        return instant(self._epoch + self._time.at)

    def advance(self, length: Duration) -> None:
        """Let time pass, and everything happen that is due meanwhile, its end included."""
        end = self._time.at + microseconds(duration_of("length", length))
        while True:
            next_one = min(self._processes.values(), key=_due_first, default=None)
            if next_one is None or next_one.due is None or next_one.due > end:
                break
            self._time.at = max(self._time.at, next_one.due)
            next_one.step()
        self._time.at = max(self._time.at, end)

    def advance_to(self, at: datetime) -> None:
        """Let time pass until the storage's clock shows ``at``; nothing where it is over."""
        left = _us("at", at) - self._epoch - self._time.at
        self.advance(duration(max(0, left)))

    def sleep(self, length: Duration) -> None:
        """In a plain function that is served: take so much time.

        Raises:
            RuntimeError: it is called from anywhere else. In a coroutine, await ``asyncio.sleep``;
                in a test, call :meth:`advance`.
        """
        if not sleep(microseconds(duration_of("length", length))):
            raise RuntimeError(
                "sleep() is for plain functions that are served: in a coroutine await "
                "asyncio.sleep(), in the test call advance()"
            )

    def step_clock(self, by: timedelta) -> None:
        """The storage's clock jumps, by more or by less than nothing; time does not pass."""
        self._epoch += microseconds(by)

    # Processes --------------------------------------------------------------------------------

    def start(self, runner_id: str, *, may_run: bool = True) -> None:
        """Start a process; under an id that one had before, it is its next life.

        Raises:
            ValueError: a process of this id runs.
        """
        before = self._processes.get(runner_id)
        if before is not None and not before.is_gone:
            raise ValueError(f"runner_id must be of no process that runs, got {runner_id!r}")
        self._lives += 1
        process = VirtualProcess(
            group=self.group,
            runner_id=runner_id,
            boot_id=f"life {self._lives}",
            storage=self.storage,
            clock=self._time,
            observers=self._observers,
            may_run=may_run,
        )
        self._processes[runner_id] = process
        for name, (function, settings) in self._registered.items():
            process.add(name, function, settings)

    def stop(self, runner_id: str, grace: Duration = "20s") -> None:
        """Ask a process to stop, as SIGTERM does; it leaves as time passes."""
        self._process(runner_id).request_stop(microseconds(duration_of("grace", grace)))

    def kill(self, runner_id: str) -> None:
        """End a process as SIGKILL does.

        Its functions end where they sleep, by an exception that is no ``Exception``.
        """
        self._process(runner_id).kill()

    def suspend(self, runner_id: str) -> None:
        """Stop a process as SIGSTOP does: it does nothing until :meth:`resume`."""
        self._process(runner_id).is_suspended = True

    def resume(self, runner_id: str) -> None:
        """Let a suspended process go on."""
        self._process(runner_id).is_suspended = False

    def cut_off(self, *runner_ids: str) -> None:
        """The storage does not answer these processes (none given: any) until :meth:`reconnect`."""
        self._set_away(runner_ids, is_away=True)

    def reconnect(self, *runner_ids: str) -> None:
        """The storage answers these processes (none given: all) again."""
        self._set_away(runner_ids, is_away=False)

    # What was done ----------------------------------------------------------------------------

    def runs(self, service: str) -> tuple[Execution, ...]:
        """The runs of a service in the order of their start, with the one that is open."""
        return tuple(runs_of(self.storage, self.group, service))

    # Inside -----------------------------------------------------------------------------------

    def _keep(self, event: Event) -> None:
        if not isinstance(event, StorageAsked):
            self.events.append(event)

    def _process(self, runner_id: str) -> VirtualProcess:
        process = self._processes.get(runner_id)
        if process is None or process.is_gone:
            raise ValueError(f"runner_id must be of a process that runs, got {runner_id!r}")
        return process

    def _set_away(self, runner_ids: Sequence[str], *, is_away: bool) -> None:
        for runner_id in runner_ids or self._processes:
            self._processes[runner_id].is_cut_off = is_away

    def _added(self, name: str, function: Function | None, settings: Settings) -> None:
        for process in self._processes.values():
            if not process.is_gone:
                process.add(name, function, settings)


def _due_first(process: VirtualProcess) -> tuple[bool, int]:
    return process.due is None, process.due or 0
