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
own do the rest (:mod:`turnwise.scheduler.engine`). Functions run in worker threads, one for each
turn; coroutines on the application's event loop (``async with scheduler:``) or on one of the
scheduler's own. A storage that is away neither blocks the start nor ends the program: it is logged
once, waited for, and never starts a turn.

A scheduler may be built before a fork and started after it. One that was started before a fork
raises :class:`~turnwise.errors.ForkError` in the child.
"""

import contextlib
import os
import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Self, Unpack

from turnwise.errors import SchemaError, StorageError
from turnwise.events import Observer
from turnwise.machine import Machine
from turnwise.names import checked_name, default_runner_id, random_name
from turnwise.observers.log import log_event
from turnwise.own_process import OwnProcess
from turnwise.scheduler.arguments import (
    checked_flag,
    checked_observers,
    checked_source,
    checked_storage,
    seconds_of,
)
from turnwise.scheduler.at_work import Service, StillAtWork, is_within
from turnwise.scheduler.calls import Loops
from turnwise.scheduler.engine import Engine
from turnwise.scheduler.functions import served
from turnwise.scheduler.health import Health, health_of
from turnwise.scheduler.knobs import Duration, Knobs
from turnwise.scheduler.registration import Function, Registration, checked_settings
from turnwise.scheduler.signals import SignalsEnd
from turnwise.schedules import Schedule
from turnwise.settings import Settings
from turnwise.storages import Storage
from turnwise.storages.opening import open_storage
from turnwise.turn import Turn

if TYPE_CHECKING:
    import asyncio

_GROUP = "TURNWISE_GROUP"
_RUNNER_ID = "TURNWISE_RUNNER_ID"
_DEFAULT_GRACE = timedelta(seconds=20)
_LONGEST_START_SECONDS = 1.0
_LONGEST_STOP_SECONDS = 20.0
_LONGEST_WAIT_SECONDS = 0.5


class Scheduler(Registration):
    """Runs services at their times, each once in its period, shared with all other processes.

    Args:
        storage: the storage that all processes share: a storage that is open, its URL, or a
            function that opens one; what is opened here is closed at the stop. None for the
            environment's: ``TURNWISE_STORAGE``, or the file that ``TURNWISE_STORAGE_FILE`` names.
        group: the programs that share membership; None for the environment's ``TURNWISE_GROUP``,
            or ``"default"``.
        runner_id: this process, 1 to 255 characters, different for each; None for the
            environment's ``TURNWISE_RUNNER_ID``, or one that is unique to the process. A fixed
            one (a pod's name, say) lets a restarted process keep its place.
        observers: callables that hear every event, beside the log.
        may_run: False for a process that offers its services, watches, and takes no turn.
        wait_for_storage: False to raise where the storage does not answer at the start.
        grace: how long running functions get at a stop that says nothing else: seconds, a
            timedelta, or a text such as ``"1m"``. Default 20 s.

    Raises:
        TypeError: an argument is of another type than it must be.
        ValueError: a name is empty, too long, not Unicode, or has control characters; or the grace
            is negative or no duration.
    """

    def __init__(
        self,
        storage: Storage | str | Callable[[], Storage] | None = None,
        *,
        group: str | None = None,
        runner_id: str | None = None,
        observers: Sequence[Observer] = (),
        may_run: bool = True,
        wait_for_storage: bool = True,
        grace: Duration | float = _DEFAULT_GRACE,
    ) -> None:
        super().__init__()
        self._storage = checked_source(storage)
        group = os.environ.get(_GROUP, "default") if group is None else group
        self.group = checked_name("group", group)
        runner_id = os.environ.get(_RUNNER_ID) if runner_id is None else runner_id
        self._given_id = None if runner_id is None else checked_name("runner_id", runner_id)
        self.runner_id = self._given_id or default_runner_id()
        self._observers = (log_event, *checked_observers(observers))
        self._may_run = checked_flag("may_run", may_run)
        self._wait_for_storage = checked_flag("wait_for_storage", wait_for_storage)
        self._grace = seconds_of("grace", grace)
        self._engine: Engine | None = None
        self._opened: Storage | None = None
        self._starting = threading.Lock()
        self._loops = Loops()
        self._still_at_work = StillAtWork()
        self._process = OwnProcess(repr(self))
        self._boot_id = ""
        # What ends run(): None for a request, which counts whenever it came, or the engine that
        # was stopped. A SimpleQueue, because its put() is safe in a signal handler that interrupts
        # its get().
        self._stops: queue.SimpleQueue[Engine | None] = queue.SimpleQueue()

    def __repr__(self) -> str:
        return f"<Scheduler of {len(self._registered)} services in group {self.group!r}>"

    # Running ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, or until :meth:`request_stop`; then stop.

        A second signal ends the grace of what still runs. Signals are caught in the main thread
        only; in another one, call :meth:`request_stop`.

        Raises:
            RuntimeError: the scheduler runs already, or has ended by a bug, which was logged.
            StorageError: the storage cannot be used; or, with ``wait_for_storage=False``, it does
                not answer.
            Exception: what the opening of the storage has raised instead.
            ForkError: the scheduler was started before a fork.
        """
        with SignalsEnd(self.request_stop, self._end_grace):
            self.start()
            try:
                self._wait_for_stop()
            finally:
                self.stop(self._grace)

    def start(self) -> None:
        """Start to serve, in threads of the scheduler's own.

        Raises:
            RuntimeError: the scheduler runs already, or the system has no thread left.
            StorageError: the storage cannot be used; or, with ``wait_for_storage=False``, it does
                not answer.
            ForkError: the scheduler was started before a fork.
        """
        self._start(None)

    def request_stop(self) -> None:
        """Ask :meth:`run` to end; one that has yet to begin ends as soon as it has started.

        Safe in a signal handler.
        """
        self._stops.put(None)

    def stop(self, grace: Duration | float | None = None) -> bool:
        """Start no turn any more, let what runs come to its end, and leave.

        Args:
            grace: how long running functions get: seconds, a timedelta, or a text such as
                ``"1m"``. Coroutines are cancelled after it, and what could not be finished is
                recorded as ABANDONED, ``stopped``. None for as long as they take.

        Returns:
            Whether everything has ended. From within a function that is served, its tasks or its
            ``asyncio.to_thread``, in an observer that one of the scheduler's threads tells, and on
            the event loop that the coroutines run on, it does not wait, and answers False. Nor
            does it wait within a block that has a turn, where the grace is None.

        Raises:
            TypeError: the grace is no duration.
            ValueError: it is negative, not finite, or no duration.
            ForkError: the scheduler was started before a fork.
        """
        seconds = None if grace is None else seconds_of("grace", grace)
        self._check_process()
        engine = self._engine
        if engine is None:
            return True
        engine.request_stop(seconds)
        self._stops.put(engine)
        if engine.is_one_of_ours() or is_within(engine.services) or self._loops.runs_here():
            return False
        if seconds is None and engine.services.is_in_a_block():
            return False  # the block cannot end while this thread waits for its end
        ended = engine.join(None if seconds is None else seconds + _LONGEST_STOP_SECONDS)
        if ended:
            self._let_go()
        return ended

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop(self._grace)

    async def __aenter__(self) -> Self:
        import asyncio  # noqa: PLC0415 (the program has it)

        loop = asyncio.get_running_loop()
        starting = loop.create_task(asyncio.to_thread(self._start, loop))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread cannot be cancelled, and nobody else would stop what it starts.
            await asyncio.wait([starting])
            await asyncio.to_thread(self.stop, 0)
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        import asyncio  # noqa: PLC0415 (the program has it)

        await asyncio.to_thread(self.stop, self._grace)

    @contextmanager
    def turn(self, name: str) -> Iterator[Turn | None]:
        """Take a turn of a service without a function now, for a program that drives itself.

        ::

            with scheduler, scheduler.turn("nightly") as turn:
                if turn is not None:
                    make_the_report(turn.due)

        The turn is this runner's until the block ends; heartbeats go on meanwhile. An exception
        ends it ABANDONED, and goes on from there.

        Args:
            name: the service's name; it was added with None for its function.

        Yields:
            The turn; or None where it is not this runner's slot, the period is served, another
            run is open, or the storage does not answer. It may ask the storage, and never waits
            for time to pass.

        Raises:
            RuntimeError: the scheduler does not run; or an observer asks, in one of the threads
                that would have to grant it.
            TypeError: the name is no text.
            ValueError: there is no such service, or it has a function.
            ForkError: the scheduler was started before a fork.
        """
        self._check_process()
        engine = self._engine
        if engine is None:
            raise RuntimeError(f"{self!r} does not run: start it before you ask for a turn")
        if engine.is_one_of_ours():
            raise RuntimeError(
                f"{self!r} cannot give a turn to an observer, which it waits for: ask for {name!r} "
                "in a thread of your own"
            )
        service = engine.services.by_name.get(checked_name("name", name))
        if service is None or service.served is not None:
            raise ValueError(f"name must be that of a service without a function, got {name!r}")
        with engine.services.taken(service) as turn:
            yield turn

    def remove(self, name: str) -> None:
        """Serve a service no more. A turn that runs goes on to its end.

        Raises:
            TypeError: the name is no text.
            ValueError: there is no service of this name.
            ForkError: the scheduler was started before a fork.
        """
        self._check_process()
        self._check_known(name)
        del self._registered[name]
        if self._engine is not None:
            self._engine.remove(name)

    def change(
        self,
        function: Function | None,
        schedule: Schedule | str,
        *,
        name: str,
        **knobs: Unpack[Knobs],
    ) -> None:
        """Serve a service by another function, schedule or knobs, from its next turn on.

        A turn that runs goes on to its end as it began.

        Args:
            function: as :meth:`add` has it.
            schedule: as :meth:`add` has it.
            name: the service's name.
            **knobs: as :meth:`add` has them; one that is left out has its default.

        Raises:
            TypeError: the function is none that can be served, or a knob is not of its type.
            ValueError: there is no service of this name, or a knob is out of its range.
            ForkError: the scheduler was started before a fork.
        """
        self._check_process()
        self._check_known(name)
        settings = checked_settings(function, schedule, knobs)
        self._registered[name] = (function, settings)
        if self._engine is not None:
            self._engine.replace(self._service(name, function, settings))

    def health(self) -> Health:
        """How the scheduler is, without asking the storage: for a probe.

        Raises:
            ForkError: the scheduler was started before a fork.
        """
        self._check_process()
        return health_of(self._engine)

    # Inside -----------------------------------------------------------------------------------

    def _check_process(self) -> None:
        """Only a scheduler that was started belongs to its process."""
        if self._engine is not None:
            self._process.check()

    def _start(self, loop: "asyncio.AbstractEventLoop | None") -> None:
        self._check_process()
        with self._starting:  # of two threads that start it, one does
            engine = self._engine = self._new_engine(loop)
        try:
            # Others can see the engine by now: what they add meanwhile is in it, or on this list.
            for name, (function, settings) in list(self._registered.items()):
                if name not in engine.services.by_name:
                    engine.add(self._service(name, function, settings))
            engine.start()
            self._check_opening(engine)
            engine.has_started = True
        except BaseException:
            engine.request_stop(0)
            engine.join(_LONGEST_STOP_SECONDS)
            self._let_go()
            raise

    def _new_engine(self, loop: "asyncio.AbstractEventLoop | None") -> Engine:
        if self._engine is not None:
            raise RuntimeError(f"{self!r} runs already")
        if self._given_id is None:
            self.runner_id = default_runner_id()  # of this process, which may be a fork
        self._boot_id = secrets.token_hex(8)
        self._process = OwnProcess(repr(self))
        self._loops = Loops(loop)
        return Engine(
            self._open,
            group=self.group,
            runner_id=self.runner_id,
            boot_id=self._boot_id,
            observers=self._observers,
            loops=self._loops,
            still_at_work=self._still_at_work,
            waits=self._wait_for_storage,
        )

    def _check_opening(self, engine: Engine) -> None:
        """Raise what will not get better by waiting, or what the caller will not wait for."""
        engine.opened.wait(_LONGEST_START_SECONDS if self._wait_for_storage else None)
        error = engine.open_error
        if error is None:
            return
        may_get_better = isinstance(error, StorageError) and not isinstance(error, SchemaError)
        if not may_get_better or not self._wait_for_storage:
            raise error

    def _open(self) -> Storage:
        if isinstance(self._storage, str) or self._storage is None:
            self._opened = open_storage(self._storage)
            return self._opened
        if callable(self._storage):
            allowed = "what a function gives that opens one"
            self._opened = checked_storage(self._storage(), allowed)
            return self._opened
        self._storage.read(self.group, ())  # raises where it does not answer, or is not ours
        return self._storage

    def _let_go(self) -> None:
        """Close what was opened; of several threads that stop it, one does."""
        opened, self._opened = self._opened, None
        self._loops.close()
        with contextlib.suppress(queue.Empty):  # they were heard
            while True:
                self._stops.get_nowait()
        if opened is not None:
            opened.close()
        self._engine = None

    def _wait_for_stop(self) -> None:
        """Wait until somebody asks for a stop; raise where the engine has ended by itself.

        In steps: a signal that comes just before a wait begins, or to another thread, interrupts
        nothing, and its handler runs only when the wait is over.
        """
        engine = self._engine
        while engine is not None and engine is self._engine:  # else another thread has stopped it
            if engine.failure is not None:
                raise engine.failure
            with contextlib.suppress(queue.Empty):
                stopped = self._stops.get(timeout=_LONGEST_WAIT_SECONDS)
                if stopped is None or stopped is engine:
                    return

    def _end_grace(self) -> None:
        engine = self._engine
        if engine is not None:
            engine.request_stop(0)
            self._stops.put(engine)

    def _check(self) -> None:
        self._check_process()

    def _added(self, name: str, function: Function | None, settings: Settings) -> None:
        if self._engine is not None:
            self._engine.add(self._service(name, function, settings))

    def _service(self, name: str, function: Function | None, settings: Settings) -> Service:
        make = partial(
            Machine,
            group=self.group,
            service=name,
            runner_id=self.runner_id,
            boot_id=self._boot_id,
            settings=settings,
            names=random_name,
            may_run=self._may_run,
            on_demand=function is None,
        )
        return Service(name, make, None if function is None else served(function))
