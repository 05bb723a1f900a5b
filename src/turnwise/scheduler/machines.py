"""The machines of the services of a process, and what they are told.

:class:`Machines` is what the threads of an engine share. One lock guards the machines. Nobody holds
it while a function runs or an observer listens. A bug in the machine of one service stops no other
service: it is logged, and a new machine begins after a pause.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from turnwise import gate as gates
from turnwise.actions import Action, Answer, Elapsed, Heard, StopRequested, Wait
from turnwise.cycles import SECOND
from turnwise.events import Event, Observer, TurnLost, TurnOverdue
from turnwise.scheduler.at_work import Service

_log = logging.getLogger("turnwise.scheduler.machines")
_REST_AFTER_A_BUG = SECOND


class Machines:
    """The machines of the services of a process. Times are microseconds on the monotonic clock.

    Args:
        observers: what hears the events.
        monotonic: gives microseconds that only grow.

    Attributes:
        lock: guards the machines, and what drives them.
        by_name: the services.
        is_stopping: whether the process was asked to stop.
    """

    def __init__(self, *, observers: Sequence[Observer], monotonic: Callable[[], int]) -> None:
        self.lock = threading.RLock()
        self.by_name: dict[str, Service] = {}
        self.is_stopping = False
        self._observers, self._monotonic = observers, monotonic
        self._failed: set[tuple[int, type[BaseException]]] = set()

    def __iter__(self) -> Iterator[Service]:
        return iter(self.by_name.values())

    def add(self, service: Service) -> None:
        """One more service, or the successor of one that is leaving."""
        with self.lock:
            leaving = self.by_name.get(service.name)
            if leaving is not None:
                leaving.successor = service
                return
            # A new dict, because the threads may be going through the old one.
            self.by_name = {**self.by_name, service.name: service}

    def let_leave(self, name: str) -> None:
        """A service takes no turn any more; what runs goes on, and then it leaves."""
        with self.lock:
            service = self.by_name[name]
            service.is_leaving, service.successor = True, None
        self.answer(service, StopRequested())

    def replace(self, service: Service) -> bool:
        """Put a service in the place of the one that has its name.

        Where the function alone differs, the old one takes the new function for its next turn.
        Otherwise the old one ends what it has to do, and then the new one takes its place.

        Returns:
            Whether the new one takes its place; False where its function alone was taken.
        """
        with self.lock:
            before = self.by_name[service.name]
            on_demand = service.served is None or before.served is None
            if (
                before.is_leaving
                or on_demand
                or before.machine.settings != service.machine.settings
            ):
                self.let_leave(service.name)
                self.add(service)
                return True
            before.served = service.served
            return False

    def has_left(self, service: Service, *, is_withdrawn: bool) -> None:
        """Nothing is left to do for a service that is leaving: its successor has its place.

        Where it has none, and its offer was not withdrawn, it was removed just now: it stays.
        """
        with self.lock:
            if service.successor is None and not is_withdrawn:
                return
            others = {name: each for name, each in self.by_name.items() if each is not service}
            if service.successor is not None:
                others[service.name] = service.successor
            self.by_name = others
            service.decline()  # nobody looks after its wish any more

    @property
    def runs(self) -> tuple[str, ...]:
        """The ids of all runs that are worked on: what a heartbeat has to name."""
        with self.lock:
            return tuple(run for each in self for run in each.machine.runs)

    def leave_a_gap(self) -> bool:
        """Whether one has a slot ahead that others may have to take over as the process leaves."""
        at = self._monotonic()
        with self.lock:
            return any(each.machine.leaves_a_gap(at) for each in self)

    def next(self, service: Service, at: int) -> Action:
        """The next action of a machine; what has elapsed by then is told to it first."""
        if service.rests_until is not None:
            if at < service.rests_until and not self.is_stopping:
                return Wait(service.rests_until)
            service.rests_until = None
        events: list[Event] = []
        with self._watched(service), self.lock:
            action = service.machine.next(at)
            if isinstance(action, Wait) and action.until is not None and action.until <= at:
                events = service.machine.receive(at, Elapsed())
                action = service.machine.next(at)
            service.decline_what_is_over()
        if service.rests_until is not None:
            return Wait(service.rests_until)
        self.tell(service, events)
        return action

    def answer(self, service: Service, answer: Answer) -> None:
        """Tell a machine something, and the observers what came of it."""
        self.tell(service, self.receive(service, answer))

    def receive(self, service: Service, answer: Answer) -> list[Event]:
        """Tell a machine something; the observers are to hear what came of it, without the lock."""
        with self._watched(service), self.lock:
            return service.machine.receive(self._monotonic(), answer)
        return []

    def heard(self, heard: Heard | None) -> None:
        """Tell all machines of a heartbeat's answer; None where there was none."""
        for each in self:
            self.answer(each, Elapsed() if heard is None else heard)

    @contextlib.contextmanager
    def _watched(self, service: Service) -> Iterator[None]:
        """A bug in one machine must not stop the others."""
        try:
            yield
        except Exception:  # noqa: BLE001 (see above)
            _log.exception("%s: the machine failed: a bug; it begins anew", service.name)
            with self.lock:
                service.broke(self._monotonic() + _REST_AFTER_A_BUG)

    def tell(self, service: Service | None, events: Iterable[Event]) -> None:
        """Tell the observers, and cancel what is lost.

        Whatever an observer raises stops neither turns nor heartbeats. It is logged as an error
        once for each observer and type of exception, and then for debugging alone. In the main
        thread, what is no :class:`Exception` goes on: it may be a signal's.
        """
        for event in events:
            if service is not None and isinstance(event, TurnLost | TurnOverdue):
                self.cancel_if_lost(service)
            for observer in self._observers:
                try:
                    observer(event)
                except BaseException as error:
                    self._note_failed(observer, event, error)
                    is_main = threading.current_thread() is threading.main_thread()
                    if is_main and not isinstance(error, Exception):
                        raise

    def _note_failed(self, observer: Observer, event: Event, error: BaseException) -> None:
        failed = (id(observer), type(error))
        level = logging.DEBUG if failed in self._failed else logging.ERROR
        self._failed.add(failed)
        said = "an observer failed on %r; more of this kind are logged at the level DEBUG"
        _log.log(level, said, event, exc_info=error)

    def cancel_if_lost(self, service: Service) -> None:
        """Cancel what works for a turn that is lost; the next turn may have begun already."""
        with self.lock:
            call, turn = service.call, service.turn
        if call is not None and turn is not None and turn.lost:
            call.cancel(gates.TIMEOUT if turn.overdue else gates.LOST)
