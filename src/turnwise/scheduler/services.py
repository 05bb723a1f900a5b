"""The services of a process: their machines, and the functions that are at work for them.

:class:`Services` is what the threads of an engine share. One lock guards the machines. Nobody
holds it while a function runs or an observer listens. A bug in the machine of one service stops no
other service: it is logged, and a new machine begins after a pause.
"""

import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from turnwise import gate as gates
from turnwise.actions import (
    Action,
    Answer,
    Begun,
    Elapsed,
    FunctionEnded,
    Heard,
    Serve,
    StopRequested,
    TurnWanted,
    Wait,
)
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import SECOND
from turnwise.events import Event, Observer, TurnLost, TurnOverdue
from turnwise.machine import TurnState
from turnwise.scheduler.at_work import Service, Wish, lost_at, marked, view_of, why_lost
from turnwise.scheduler.calls import BlockCall, Call, Loops, Work, end_if_it_cannot, start_call
from turnwise.scheduler.exactly_once import ExactlyOnce
from turnwise.scheduler.functions import outcome_of
from turnwise.storages import Storage
from turnwise.turn import Turn

_log = logging.getLogger("turnwise.scheduler.services")
_REST_AFTER_A_BUG = SECOND
_CANCELLING = 5 * SECOND


class Services:
    """The services of a process. Times are microseconds on the monotonic clock.

    Args:
        group: the group's name.
        observers: what hears the events.
        loops: where coroutines run.
        monotonic: gives microseconds that only grow.
        changed: called after something has changed that the driver shall look at.
        start: starts a function; a test may start it in virtual time.
    """

    def __init__(
        self,
        *,
        group: str,
        observers: Sequence[Observer],
        loops: Loops,
        monotonic: Callable[[], int],
        changed: Callable[[], None],
        start: Callable[[Work], Call] = start_call,
    ) -> None:
        self.lock = threading.RLock()
        self.by_name: dict[str, Service] = {}
        self.is_stopping = False
        self.storage: Storage | None = None  # for turns; whoever opens it says so
        self._group, self._observers, self._loops = group, observers, loops
        self._monotonic, self._changed = monotonic, changed
        self._start_call = start
        self._takes_wishes = True
        self._context = marked(contextvars.copy_context(), self)

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
        """Another service of a name that is known: it follows once nothing is left to do.

        Where the function alone is another one, the next turn has it.

        Returns:
            Whether the service follows; else its function was taken.
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

    @property
    def runs(self) -> tuple[str, ...]:
        """The ids of all runs that are worked on: what a heartbeat has to name."""
        with self.lock:
            return tuple(run for each in self for run in each.machine.runs)

    # Machines ---------------------------------------------------------------------------------

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
            self._decline_what_is_over(service)
        if service.rests_until is not None:
            return Wait(service.rests_until)
        self.tell(service, events)
        return action

    def answer(self, service: Service, answer: Answer) -> None:
        """Tell a machine something, and the observers what came of it."""
        self.tell(service, self._receive(service, answer))

    def _receive(self, service: Service, answer: Answer) -> list[Event]:
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

        Whatever an observer raises is logged, and stops neither turns nor heartbeats. In the main
        thread, what is no :class:`Exception` goes on: it may be a signal's.
        """
        for event in events:
            if service is not None and isinstance(event, TurnLost | TurnOverdue):
                self._cancel(service)
            for observer in self._observers:
                try:
                    observer(event)
                except BaseException as error:
                    _log.exception("an observer failed on %r", event)
                    is_main = threading.current_thread() is threading.main_thread()
                    if is_main and not isinstance(error, Exception):
                        raise

    # Functions --------------------------------------------------------------------------------

    def serve(self, service: Service, serve: Serve) -> None:
        """Start the function of a service, or hand the turn to the program that wanted it."""
        with self.lock:
            state, wish, service.wish = service.machine.turn, service.wish, None
            assert state is not None  # noqa: S101 (it is to be served)
            service.begin(state)
        turn = Turn(
            serve.run,
            group=self._group,
            service=service.name,
            last_served=serve.last_served,
            view=view_of(
                state,
                self._monotonic,
                lambda: self.is_stopping,
                self._exactly_once(service, state),
            ),
        )
        if service.served is None:
            self._hand_over(service, state, turn, wish)
        else:
            # What observers set as they hear of the start is there in the function (see events).
            context = self._context.copy()
            context.run(self.answer, service, Begun())
            self._start(service, state, turn, context)

    def _exactly_once(self, service: Service, state: TurnState) -> ExactlyOnce:
        return ExactlyOnce(
            storage=self.storage,
            group=self._group,
            service=service.name,
            run=state.run,
            why_lost=lambda: why_lost(state, self._monotonic()),
            idle=lambda: lost_at(state) - self._monotonic(),
            kept=lambda: service.machine.kept,
            tell=partial(self.answer, service),
        )

    def _hand_over(self, service: Service, state: TurnState, turn: Turn, wish: Wish | None) -> None:
        if wish is not None:
            self._context.copy().run(self.answer, service, Begun())  # the block has its own
            with self.lock:
                if not wish.is_withdrawn:
                    service.call = BlockCall()
                    wish.grant(turn, state)
                    return
        # It was declined or withdrawn meanwhile.
        self.ended(service, state, Status.ABANDONED, gates.NOT_STARTED, None)

    def _start(
        self, service: Service, state: TurnState, turn: Turn, context: contextvars.Context
    ) -> None:
        assert service.served is not None  # noqa: S101 (as the caller knows)
        work = Work(
            served=service.served,
            turn=turn,
            ended=partial(self.ended, service, state),
            watch=partial(self._watch, service, state),
            context=context,
            loops=self._loops,
        )
        try:
            call = self._start_call(work)
        except Exception as error:  # noqa: BLE001 (no thread, no file: the driver goes on)
            _log.error("%s: a turn could not be started: %s", service.name, error)
            self.ended(service, state, Status.ABANDONED, gates.NOT_STARTED, None)
            return
        with self.lock:
            if service.turn is state:
                service.call = call
        if state.lost:  # before there was a call to cancel
            self._cancel(service)

    def _watch(self, service: Service, state: TurnState) -> float | None:
        """Look whether a turn is lost: the driver may be waiting for a storage that hangs."""
        if service.turn is not state:
            return None
        self.answer(service, Elapsed())
        watch_at = service.machine.watch_at
        return None if watch_at is None else max(0.0, (watch_at - self._monotonic()) / SECOND)

    def ended(
        self,
        service: Service,
        state: TurnState,
        status: Status,
        reason: str,
        error: BaseException | None,
    ) -> None:
        """A function has ended; called from its own thread, or from the event loop's."""
        if error is not None and reason.startswith("exception:"):
            _log.error("%s: the function failed: %r", service.name, error, exc_info=error)
        with self.lock:
            if service.turn is not state:
                return  # it was given up
            events = self._end(service, status, reason)
        try:
            self.tell(service, events)
        finally:  # an observer may be interrupted
            self._changed()

    def _end(self, service: Service, status: Status, reason: str) -> list[Event]:
        events = self._receive(service, FunctionEnded(status, reason))
        service.let_go()
        return events

    def _cancel(self, service: Service) -> None:
        """Cancel what works for a turn that is lost; the next turn may have begun already."""
        with self.lock:
            call, state = service.call, service.turn
        if call is not None and state is not None and state.lost:
            call.cancel(gates.TIMEOUT if state.overdue else gates.LOST)

    # Turn by turn -----------------------------------------------------------------------------

    def want(self, service: Service, wish: Wish) -> Turn | None:
        """Ask for a turn of a service without a function, now; None where there is none.

        Whoever is interrupted in here calls :meth:`withdraw`.
        """
        with self.lock:
            busy = service.wish is not None or service.machine.turn is not None
            if busy or self.is_stopping or not self._takes_wishes:
                return None
            service.wish = wish
            self.answer(service, TurnWanted())
        self._changed()
        turn = wish.wait()
        return turn if service.turn is wish.state else None

    def withdraw(self, service: Service, wish: Wish) -> None:
        """The program was interrupted before it had its turn: nobody takes it any more."""
        with self.lock:
            wish.is_withdrawn = True
            if service.wish is wish:
                service.wish = None
                self.answer(service, TurnWanted(is_wanted=False))
        if wish.state is not None:
            self.ended(service, wish.state, Status.ABANDONED, gates.NOT_STARTED, None)

    def block_ended(self, service: Service, wish: Wish, error: BaseException | None) -> None:
        """The program's own block has ended, well or by an exception, which goes on from there."""
        if wish.state is not None:
            self.ended(service, wish.state, *outcome_of(error), None)

    def take_wishes(self, *, whether: bool) -> None:
        """Whether turns can be wanted; where they cannot, decline those that are."""
        with self.lock:
            self._takes_wishes = whether
            wishing = () if whether else [each for each in self if each.wish is not None]
            for each in wishing:
                self.answer(each, TurnWanted(is_wanted=False))
                self._decline_what_is_over(each)

    def _decline_what_is_over(self, service: Service) -> None:
        wish = service.wish
        if wish is not None and not service.machine.is_wanted:
            service.wish = None
            wish.decline()

    # Stopping ---------------------------------------------------------------------------------

    @property
    def at_work(self) -> list[Service]:
        """The services whose functions run."""
        with self.lock:
            return [each for each in self if each.turn is not None]

    def request_stop(self) -> None:
        """Tell all machines to start no turn any more."""
        self.take_wishes(whether=False)
        for each in self:
            self.answer(each, StopRequested())
            end_if_it_cannot(each.call)

    def lose(self) -> None:
        """The driver ends before the functions have: nobody keeps their turns from here on."""
        for each in self.at_work:
            with self.lock:
                state = each.turn
                if state is None or state.lost:
                    continue
                state.lost = True
            lost = TurnLost(
                group=self._group,
                service=each.name,
                runner_id=state.run.runner_id,
                run_id=state.run.run_id,
                token=state.run.token,
                due=state.run.due,
                why="the scheduler has ended by a bug",
            )
            self.tell(each, [lost])

    def end_grace(self, at: int) -> int | None:
        """Cancel what still runs, and give up what cannot be cancelled, or goes on all the same.

        Returns:
            When to call this again; None where nothing runs any more.
        """
        for each in self.at_work:
            call, since = each.call, each.cancelled_at
            if since is None and call is not None and call.cancel(gates.STOPPED):
                each.cancelled_at = at
            elif since is None or at >= since + _CANCELLING:
                self._give_up(each)
        ends = [each.cancelled_at or at for each in self.at_work]
        return min(ends) + _CANCELLING if ends else None

    def _give_up(self, service: Service) -> None:
        """A function goes on beyond its grace: its turn ends as stopped."""
        with self.lock:
            if service.turn is None:
                return
            events = self._end(service, Status.ABANDONED, gates.STOPPED)
        _log.warning("%s: the function goes on beyond its grace", service.name)
        self.tell(service, events)
