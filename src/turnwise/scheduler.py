"""The scheduler: many services in one process, which many processes share.

Not guaranteed
--------------
A process that is suspended in the middle of its work for longer than the heartbeat timeout, and
then wakes, may write after its successor has started. :meth:`turnwise.turn.Turn.check` raises then,
and :attr:`turnwise.turn.Turn.fencing_token` lets a resource refuse the late write. A plain function
cannot be ended from outside: at a stop it gets its grace, and what goes on after that is recorded
as stopped, so that another runner may start.

How it works
------------
Every process builds the same scheduler, with the same services, and starts it. Two threads of its
own do the rest (:mod:`turnwise.engine`). Functions run in worker threads, one for each turn;
coroutines on the application's event loop (``async with scheduler:``) or on one of the scheduler's
own. A storage that is away neither blocks the start nor ends the program: it is logged once, waited
for, and never starts a turn.
"""

import os
import queue
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Literal, Self, TypedDict, TypeVar, Unpack

from turnwise.calls import Loops
from turnwise.cycles import SECOND, instant
from turnwise.durations import parse_duration
from turnwise.engine import Engine, Service, monotonic_us
from turnwise.errors import StorageError
from turnwise.events import Observer
from turnwise.functions import served
from turnwise.machine import Machine
from turnwise.names import checked_name, default_runner_id, random_name
from turnwise.observers.log import log_event
from turnwise.own_process import OwnProcess
from turnwise.schedules import Cron, Every, Schedule, parse_schedule
from turnwise.settings import Runs, Settings
from turnwise.storages import Storage
from turnwise.storages.opening import open_storage

if TYPE_CHECKING:
    import asyncio

_F = TypeVar("_F", bound=Callable[..., object])
_Duration = timedelta | str
_GROUP = "TURNWISE_GROUP"
_RUNNER_ID = "TURNWISE_RUNNER_ID"
_DEFAULT_GRACE = timedelta(seconds=20)
_LONGEST_START_SECONDS = 1.0


class Knobs(TypedDict, total=False):
    """The knobs of a service, as :class:`~turnwise.settings.Settings` has them.

    A duration may be a text such as ``"1h30m"``.
    """

    cycle: _Duration
    start_within: _Duration | None
    attempts: int
    timeout: _Duration | None
    release_on_timeout: bool
    stagger: _Duration
    runs: Runs
    standbys: int
    spread_margin: _Duration
    heartbeat_timeout: _Duration
    max_start_slot_fraction: float
    membership_stabilization: _Duration
    min_run_margin: _Duration
    retention_age: _Duration
    retention_count: int


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """How one service is, as this process sees it; instants in UTC, on the storage's clock.

    ``state`` is ``"waiting"``, ``"running"`` (its function runs here), ``"overdue"`` (it has run
    longer than its timeout), ``"lost"`` (it runs, and is not surely ours any more), ``"recording"``
    (its end is not recorded yet) or ``"paused"``.
    """

    name: str
    state: Literal["waiting", "running", "overdue", "lost", "recording", "paused"]
    next_due: datetime | None
    last_success: datetime | None
    current_run_id: str | None


@dataclass(frozen=True, slots=True)
class Health:
    """How a scheduler is: for a probe.

    ``storage_answers`` says whether the storage answers, and has done, or has not, for
    ``seconds``; ``error`` is the last that it said, in any case.
    """

    is_running: bool
    storage_answers: bool
    seconds: float
    error: str | None
    services: tuple[ServiceHealth, ...]

    @property
    def is_well(self) -> bool:
        """Whether the storage answers, and nothing is lost or overdue."""
        ill = {"overdue", "lost"}
        return (
            self.is_running
            and self.storage_answers
            and not any(service.state in ill for service in self.services)
        )


class Scheduler:
    """Runs services at their times, each once in its period, shared with all other processes.

    Args:
        storage: the storage that all processes share: a storage that is open, or its URL. None
            for the environment's: ``TURNWISE_STORAGE``, or the file that
            ``TURNWISE_STORAGE_FILE`` names.
        group: the programs that share membership; None for the environment's ``TURNWISE_GROUP``,
            or ``"default"``.
        runner_id: this process, 1 to 255 characters, different for each; None for the
            environment's ``TURNWISE_RUNNER_ID``, or one that is unique to the process. A fixed
            one (a pod's name, say) lets a restarted process keep its place.
        observers: callables that hear every event, beside the log.
        may_run: False for a process that offers its services, watches, and takes no turn.
        wait_for_storage: False to raise where the storage does not answer at the start.
        grace: how long running functions get at a stop that says nothing else. Default 20 s.

    Raises:
        TypeError: an argument is of another type than it must be.
        ValueError: a name is empty, too long, not Unicode, or has control characters.
    """

    def __init__(
        self,
        storage: Storage | str | None = None,
        *,
        group: str | None = None,
        runner_id: str | None = None,
        observers: Sequence[Observer] = (),
        may_run: bool = True,
        wait_for_storage: bool = True,
        grace: _Duration = _DEFAULT_GRACE,
    ) -> None:
        self._storage = storage
        group = os.environ.get(_GROUP, "default") if group is None else group
        self.group = checked_name("group", group)
        runner_id = os.environ.get(_RUNNER_ID) if runner_id is None else runner_id
        self._given_id = None if runner_id is None else checked_name("runner_id", runner_id)
        self.runner_id = self._given_id or default_runner_id()
        self._observers = (log_event, *observers)
        self._may_run = may_run
        self._wait_for_storage = wait_for_storage
        self._grace = _duration("grace", grace).total_seconds()
        self._registered: dict[str, tuple[Callable[..., object], Settings]] = {}
        self._engine: Engine | None = None
        self._opened: Storage | None = None
        self._loops = Loops()
        self._process: OwnProcess | None = None
        # A SimpleQueue, because its put() is safe in a signal handler that interrupts its get().
        self._stops: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __repr__(self) -> str:
        return f"<Scheduler of {len(self._registered)} services in group {self.group!r}>"

    # Services ---------------------------------------------------------------------------------

    def every(
        self,
        interval: _Duration,
        *,
        offset: _Duration = "0",
        name: str | None = None,
        **knobs: Unpack[Knobs],
    ) -> Callable[[_F], _F]:
        """Register a function that is due every so often; for use as a decorator.

        Args:
            interval: time between two due instants, such as ``"5m"``.
            offset: moves the due instants from the Unix epoch.
            name: the service's name; the function's by default.
            **knobs: see :class:`~turnwise.settings.Settings`.

        Raises:
            TypeError, ValueError: as :meth:`add`.
        """
        return self._decorator(Every(interval, offset), name, knobs)

    def cron(
        self,
        expression: str,
        *,
        timezone: str = "UTC",
        name: str | None = None,
        **knobs: Unpack[Knobs],
    ) -> Callable[[_F], _F]:
        """Register a function that is due by a cron expression; for use as a decorator.

        Args:
            expression: five fields, or six with seconds, such as ``"0 3 * * *"``.
            timezone: the zone whose wall clock it is read by, such as ``"Europe/Vienna"``.
            name: the service's name; the function's by default.
            **knobs: see :class:`~turnwise.settings.Settings`.

        Raises:
            MissingExtraError: the extra ``cron`` is not installed.
            TypeError, ValueError: as :meth:`add`.
        """
        return self._decorator(Cron(expression, timezone), name, knobs)

    def add(
        self,
        function: Callable[..., object],
        schedule: Schedule | str,
        *,
        name: str | None = None,
        **knobs: Unpack[Knobs],
    ) -> None:
        """Register a function: plain or a coroutine function, with a turn or without.

        Args:
            function: what to run in each turn.
            schedule: when it is due: a schedule, or its text such as ``"every 5m"``.
            name: the service's name, 1 to 255 characters; the function's by default.
            **knobs: see :class:`~turnwise.settings.Settings`.

        Raises:
            TypeError: the function is none that can be served, or a knob is not of its type.
            ValueError: a service has this name already, or a knob is out of its range.
        """
        if name is None:
            name = getattr(function, "__name__", None)
            if name is None or name == "<lambda>":
                raise ValueError(f"name must be given for {function!r}, which has none of its own")
        checked_name("name", name)
        if name in self._registered:
            raise ValueError(f"name must be new, and {name!r} is a service already")
        fit = served(function)
        if isinstance(schedule, str):
            schedule = parse_schedule(schedule)
        settings = settings_with(schedule, knobs)
        self._registered[name] = (function, settings)
        if self._engine is not None:
            self._engine.add(Service(name, self._machine(name, settings), fit))

    def _decorator(self, schedule: Schedule, name: str | None, knobs: Knobs) -> Callable[[_F], _F]:
        def register(function: _F) -> _F:
            self.add(function, schedule, name=name, **knobs)
            return function

        return register

    # Running ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, or until :meth:`request_stop`; then stop.

        A second signal ends the grace of what still runs. Signals are caught in the main thread
        only; in another one, call :meth:`request_stop`.

        Raises:
            RuntimeError: the scheduler runs already.
            StorageError: the storage cannot be used; or, with ``wait_for_storage=False``, it does
                not answer.
        """
        with self._signals():
            self.start()
            try:
                self._stops.get()
            finally:
                self.stop(self._grace)

    def start(self) -> None:
        """Start to serve, in threads of the scheduler's own.

        Raises:
            RuntimeError: the scheduler runs already, or the system has no thread left.
            StorageError: the storage cannot be used; or, with ``wait_for_storage=False``, it does
                not answer.
        """
        self._start(None)

    def request_stop(self) -> None:
        """Ask :meth:`run` to end. Safe in a signal handler."""
        self._stops.put(None)

    def stop(self, grace: float | timedelta | None = None) -> bool:
        """Start no turn any more, let what runs come to its end, and leave.

        Args:
            grace: seconds that running functions get; coroutines are cancelled after it, and what
                could not be finished is recorded as ABANDONED, ``stopped``. None for as long as
                they take.

        Returns:
            Whether everything has ended. From within a function that is served it does not wait,
            and answers False.

        Raises:
            ForkError: the scheduler was started before a fork.
        """
        engine = self._engine
        if engine is None:
            return True
        assert self._process is not None  # noqa: S101 (set with the engine)
        self._process.check()
        seconds = grace.total_seconds() if isinstance(grace, timedelta) else grace
        engine.request_stop(seconds)
        if _is_served_here(engine):
            return False
        ended = engine.join(None if seconds is None else seconds + _LONGEST_STOP_SECONDS)
        if ended:
            self._let_go()
        return ended

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop(self._grace)

    async def __aenter__(self) -> Self:
        import asyncio  # noqa: PLC0415 (the program has it)

        await asyncio.to_thread(self._start, asyncio.get_running_loop())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        import asyncio  # noqa: PLC0415 (the program has it)

        await asyncio.to_thread(self.stop, self._grace)

    def health(self) -> Health:
        """How the scheduler is, without asking the storage: for a probe."""
        engine = self._engine
        if engine is None:
            return Health(False, False, 0.0, None, ())  # noqa: FBT003 (nothing runs)
        at = monotonic_us()
        answers, since, error = engine.link()
        with engine.locked():
            services = tuple(_health_of(each, at) for each in engine.services.values())
        running = not engine.is_stopping
        return Health(running, answers, (at - since) / SECOND, error, services)

    # Inside -----------------------------------------------------------------------------------

    def _start(self, loop: "asyncio.AbstractEventLoop | None") -> None:
        if self._engine is not None:
            raise RuntimeError(f"the scheduler of group {self.group!r} runs already")
        if self._given_id is None:
            self.runner_id = default_runner_id()  # of this process, which may be a fork
        self._boot_id = secrets.token_hex(8)
        self._process = OwnProcess(f"the scheduler of group {self.group!r}")
        self._loops = Loops(loop)
        self._stops = queue.SimpleQueue()
        engine = Engine(
            self._open,
            group=self.group,
            runner_id=self.runner_id,
            boot_id=self._boot_id,
            observers=self._observers,
            loops=self._loops,
        )
        for name, (function, settings) in self._registered.items():
            engine.add(Service(name, self._machine(name, settings), served(function)))
        self._engine = engine
        try:
            engine.start()
            self._check_opening(engine)
        except BaseException:
            engine.request_stop(0)
            engine.join(_LONGEST_STOP_SECONDS)
            self._let_go()
            raise

    def _check_opening(self, engine: Engine) -> None:
        """Raise what will not get better by waiting, or what the caller will not wait for."""
        engine.opened.wait(_LONGEST_START_SECONDS if self._wait_for_storage else None)
        error = engine.open_error
        if error is None:
            return
        if not isinstance(error, StorageError) or not self._wait_for_storage:
            raise error

    def _open(self) -> Storage:
        if isinstance(self._storage, str) or self._storage is None:
            self._opened = open_storage(self._storage)
            return self._opened
        return self._storage

    def _let_go(self) -> None:
        self._engine = None
        self._loops.close()
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _machine(self, name: str, settings: Settings) -> Machine:
        return Machine(
            group=self.group,
            service=name,
            runner_id=self.runner_id,
            boot_id=self._boot_id,
            settings=settings,
            names=random_name,
            may_run=self._may_run,
        )

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """While it lasts, the two signals that end a program end the scheduler in good order."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(_number: int, _frame: FrameType | None) -> None:
            engine = self._engine
            if engine is not None and engine.is_stopping:
                engine.request_stop(0)
            self._stops.put(None)

        before = {number: signal.signal(number, ask) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LONGEST_STOP_SECONDS = 15.0


def settings_with(schedule: Schedule, knobs: Knobs) -> Settings:
    """The settings of a service from its schedule and its knobs.

    Raises:
        TypeError, ValueError: a knob is unknown, not of its type, or out of its range.
    """
    unknown = knobs.keys() - Knobs.__annotations__.keys()
    if unknown:
        names = ", ".join(map(repr, sorted(unknown)))
        raise TypeError(f"no such knob: {names}; known are {', '.join(Knobs.__annotations__)}")
    read = {
        name: _duration(name, value) if isinstance(value, str) and name in _DURATIONS else value
        for name, value in knobs.items()
        if not (name == "stagger" and value == "auto")
    }
    if knobs.get("stagger") == "auto":
        read["stagger"] = "auto"
    return Settings(schedule=schedule, **read)  # type: ignore[arg-type]  # it checks each itself


_DURATIONS = frozenset(
    {
        "cycle",
        "start_within",
        "timeout",
        "stagger",
        "spread_margin",
        "heartbeat_timeout",
        "membership_stabilization",
        "min_run_margin",
        "retention_age",
    }
)


def _duration(name: str, value: _Duration) -> timedelta:
    if isinstance(value, timedelta):
        return value
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _is_served_here(engine: Engine) -> bool:
    """Whether this thread is one that the engine would have to wait for."""
    return engine.is_one_of_ours(threading.get_ident()) or threading.current_thread().name in {
        f"turnwise-{name}" for name in engine.services
    }


def _health_of(service: Service, at: int) -> ServiceHealth:
    machine, turn = service.machine, service.turn
    gate, now = machine.gate, machine.storage_now(at)
    state: Literal["waiting", "running", "overdue", "lost", "recording", "paused"] = "waiting"
    if turn is not None:
        state = "overdue" if turn.overdue else "lost" if turn.is_lost(at) else "running"
    elif machine.turn is not None:
        state = "recording"
    elif gate is not None and gate.pause is not None:
        state = "paused"
    due = None if now is None else machine.planner.schedule.period_at(instant(now)).until
    success = None if gate is None or gate.success is None else instant(gate.success.at)
    run_id = None if turn is None else turn.run.run_id
    return ServiceHealth(service.name, state, due, success, run_id)
