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

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import duration, instant, microseconds
from turnwise.durations import duration_of
from turnwise.events import Event, Observer, StorageAsked
from turnwise.gate import Execution
from turnwise.names import checked_name
from turnwise.overview.known import runs_of
from turnwise.scheduler.knobs import Duration
from turnwise.scheduler.registration import Function, Registration
from turnwise.settings import Settings
from turnwise.storages import Storage
from turnwise.storages.memory import MemoryStorage
from turnwise.testing.process import VirtualProcess
from turnwise.testing.turns import START, FakeTurn, fake_turn, instant_us, span
from turnwise.testing.virtual_time import VirtualTime, is_in_a_function, sleep

__all__ = ["FakeTurn", "VirtualRun", "VirtualScheduler", "fake_turn"]


@dataclass(frozen=True, slots=True)
class VirtualRun:
    """A run of a service, as :meth:`VirtualScheduler.runs` tells it. Instants are in UTC.

    Attributes:
        run_id: the run's own id.
        runner_id: the process that served it.
        fencing_token: grows with every run of the service.
        due: the instant at which the period that was served was due.
        attempt: which attempt at the period it was, from 1.
        started_at: when it was admitted, on the storage's clock.
        ended_at: when it ended; None where it is open.
        status: how it ended; RUNNING where it is open.
        reason: why it ended so, such as ``owner_dead``; empty where there is nothing to say.
        triggered: whether an operator asked for it.
    """

    run_id: str
    runner_id: str
    fencing_token: int
    due: datetime
    attempt: int
    started_at: datetime
    ended_at: datetime | None
    status: Status
    reason: str
    triggered: bool


class VirtualScheduler(Registration):
    """Several processes with the same scheduler, in virtual time, in the memory of a test.

    What runs is what runs in production, but for threads, the clock and the storage: the same
    machines, rules and functions. Register functions as with a
    :class:`~turnwise.scheduler.Scheduler`; they are served while :meth:`advance` lets time pass.
    Coroutines take time with ``asyncio.sleep``, plain functions with :meth:`sleep`; nothing else
    takes any. What a coroutine hands to a thread is waited for while virtual time stands still; one
    that waits for a socket, a file or a process has :meth:`advance` raise. Use it in a plain test,
    not within a running event loop.

    Args:
        *runner_ids: the processes; more can be started later.
        start: the storage's clock at the start, with a time zone.
        group: the group's name.
        observers: callables that hear every event, beside :attr:`events`.

    Attributes:
        storage: the storage that all of them share; its clock is the virtual one.
        events: all that has happened, in order, but for :class:`~turnwise.events.StorageAsked`.

    Raises:
        TypeError: an argument is not of its type.
        ValueError: ``start`` has no time zone, or a name is none that a storage takes.
    """

    def __init__(
        self,
        *runner_ids: str,
        start: datetime = START,
        group: str = "default",
        observers: Sequence[Observer] = (),
    ) -> None:
        super().__init__()
        self.group = checked_name("group", group)
        self.events: list[Event] = []
        self._time = VirtualTime()
        self._epoch = instant_us("start", start)
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
        """Let time pass, and everything happen that is due meanwhile, its end included.

        Raises:
            RuntimeError: it is called within a running event loop or in a function that is served;
                or a coroutine waits for what takes real time, such as a socket.
            ValueError: ``length`` is negative.
        """
        _require_a_plain_test()
        end = self._time.at + span("length", length)
        while True:
            next_one = min(self._processes.values(), key=_due_first, default=None)
            if next_one is None or next_one.due is None or next_one.due > end:
                break
            self._time.at = max(self._time.at, next_one.due)
            next_one.step()
        self._time.at = max(self._time.at, end)

    def advance_to(self, at: datetime) -> None:
        """Let time pass until the storage's clock shows ``at``; nothing where it is over."""
        left = instant_us("at", at) - self._epoch - self._time.at
        self.advance(duration(max(0, left)))

    def sleep(self, length: Duration) -> None:
        """In a plain function that is served: take so much time.

        Raises:
            ValueError: ``length`` is negative.
            RuntimeError: it is called from anywhere else. In a coroutine, await ``asyncio.sleep``;
                in a test, call :meth:`advance`.
        """
        if not sleep(span("length", length)):
            raise RuntimeError(
                "sleep() is for plain functions that are served: in a coroutine await "
                "asyncio.sleep(), in the test call advance()"
            )

    def step_clock(self, by: Duration) -> None:
        """The storage's clock jumps forwards, or backwards by a timedelta that is negative.

        Time does not pass meanwhile.
        """
        self._epoch += microseconds(duration_of("by", by))

    # Processes --------------------------------------------------------------------------------

    def start(self, runner_id: str, *, may_run: bool = True) -> None:
        """Start a process; under an id that one had before, it is its next life.

        Raises:
            TypeError: the id is no text.
            ValueError: a process of this id runs, or the id is none that a storage takes.
        """
        checked_name("runner_id", runner_id)
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
        self._process(runner_id).request_stop(span("grace", grace))

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

    def runs(self, service: str) -> tuple[VirtualRun, ...]:
        """The runs of a service in the order of their start, with the one that is open."""
        return tuple(map(_told, runs_of(self.storage, self.group, service)))

    # Inside -----------------------------------------------------------------------------------

    def _keep(self, event: Event) -> None:
        if not isinstance(event, StorageAsked):
            self.events.append(event)

    def _process(self, runner_id: str) -> VirtualProcess:
        process = self._processes.get(checked_name("runner_id", runner_id))
        if process is None or process.is_gone:
            raise ValueError(f"runner_id must be of a process that runs, got {runner_id!r}")
        return process

    def _set_away(self, runner_ids: Sequence[str], *, is_away: bool) -> None:
        given = [self._process(runner_id) for runner_id in runner_ids]
        for process in given or self._processes.values():
            process.is_cut_off = is_away

    def _added(self, name: str, function: Function | None, settings: Settings) -> None:
        for process in self._processes.values():
            if not process.is_gone:
                process.add(name, function, settings)


def _due_first(process: VirtualProcess) -> tuple[bool, int]:
    return process.due is None, process.due or 0


def _told(row: Execution) -> VirtualRun:
    assert row.token is not None  # noqa: S101 (those without one are no runs)
    return VirtualRun(
        run_id=row.id,
        runner_id=row.runner_id,
        fencing_token=row.token,
        due=instant(row.due),
        attempt=row.attempt,
        started_at=instant(row.started_at),
        ended_at=None if row.ended_at is None else instant(row.ended_at),
        status=row.status,
        reason=row.reason,
        triggered=row.trigger is not None,
    )


def _require_a_plain_test() -> None:
    """Time passes in a thread that has no event loop, and works in no turn."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:  # noqa: SLF001 (the public one raises)
        raise RuntimeError(
            "time cannot be advanced within a running event loop: use a plain test, or call "
            "advance() in asyncio.to_thread()"
        )
    if is_in_a_function():
        raise RuntimeError("time cannot be advanced in a function that is served: call sleep()")
