"""The functions that are at work for the services of a process, and the turns that programs want.

:class:`Services` has the machines (:mod:`turnwise.scheduler.machines`), starts a function or hands
over a turn where one of them says so, and tells it of the end.
"""

import contextlib
import contextvars
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from turnwise import gate as gates
from turnwise.actions import (
    Action,
    Begun,
    Elapsed,
    FunctionEnded,
    Serve,
    StopRequested,
    TurnWanted,
    Wait,
)
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import SECOND
from turnwise.events import Event, Observer, TurnLost
from turnwise.machine import TurnState
from turnwise.scheduler.at_work import (
    Service,
    StillAtWork,
    Wish,
    lost_at,
    marked,
    view_of,
    why_lost,
)
from turnwise.scheduler.calls import BlockCall, Call, Loops, Work, end_if_it_cannot, start_call
from turnwise.scheduler.exactly_once import ExactlyOnce
from turnwise.scheduler.functions import outcome_of
from turnwise.scheduler.machines import Machines
from turnwise.storages import Storage
from turnwise.turn import Turn

_log = logging.getLogger("turnwise.scheduler.services")
_CANCELLING = 5 * SECOND
_LOOKED_AGAIN = SECOND // 2  # whether a function of an earlier start has returned


class Services(Machines):
    """The services of a process. Times are microseconds on the monotonic clock.

    Args:
        group: the group's name.
        observers: what hears the events.
        loops: where coroutines run.
        monotonic: gives microseconds that only grow.
        changed: called after something has changed that the driver shall look at.
        start: starts a function; a test may start it in virtual time.
        still_at_work: what has not returned of earlier starts; None where there was none.
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
        still_at_work: StillAtWork | None = None,
    ) -> None:
        super().__init__(observers=observers, monotonic=monotonic)
        self.storage: Storage | None = None  # for turns; whoever opens it says so
        self._group, self._loops = group, loops
        self._changed, self._start_call = changed, start
        self._takes_wishes = True
        self._still_at_work = StillAtWork() if still_at_work is None else still_at_work
        self._resting: set[str] = set()
        self._context = marked(contextvars.copy_context(), self)

    def next(self, service: Service, at: int) -> Action:
        """The next action of a machine; it rests while an earlier call of its function runs."""
        if not self.rests(service):
            return super().next(service, at)
        if service.name not in self._resting:
            self._resting.add(service.name)
            said = "%s: not served until the function has returned that an earlier stop gave up"
            _log.warning(said, service.name, extra=self._named(service))
        return Wait(at + _LOOKED_AGAIN)

    def rests(self, service: Service) -> bool:
        """Whether a service waits for a call of its function that has lost its turn.

        A process does not serve a service beside an earlier call for it.
        """
        is_busy = service.turn is not None or service.machine.turn is not None
        if is_busy or service.is_leaving or self.is_stopping:
            return False
        return self._still_at_work.is_any(service.name)

    def _named(self, service: Service, state: TurnState | None = None) -> dict[str, object]:
        """What a log line has beside its text, as the lines of events have it."""
        named: dict[str, object] = {"group": self._group, "service": service.name}
        named["runner"] = service.machine.runner_id
        if state is not None:
            named |= {"run_id": state.run.run_id, "token": state.run.token}
        return named

    # Functions --------------------------------------------------------------------------------

    def serve(self, service: Service, serve: Serve) -> None:
        """Start the function of a service, or hand the turn to the program that wanted it."""
        with self.lock:
            state, wish, service.wish = service.machine.turn, service.wish, None
            assert state is not None  # noqa: S101 (it is to be served)
            service.begin(state)
            self._still_at_work.begin(service.name, state.run.run_id)
        once = self._exactly_once(service, state)
        turn = Turn(
            serve.run,
            group=self._group,
            service=service.name,
            last_served=serve.last_served,
            view=view_of(state, self._monotonic, lambda: self.is_stopping, once),
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
                    service.call = BlockCall(wish.thread)
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
            said = "%s: a turn could not be started: %s"
            _log.error(said, service.name, error, extra=self._named(service, state))
            self.ended(service, state, Status.ABANDONED, gates.NOT_STARTED, None)
            return
        self._still_at_work.has_call(service.name, state.run.run_id, call)
        with self.lock:
            if service.turn is state:
                service.call = call
        if state.lost:  # before there was a call to cancel
            self.cancel_if_lost(service)

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
            said, named = "%s: the function failed: %r", self._named(service, state)
            _log.error(said, service.name, error, exc_info=error, extra=named)
        self._still_at_work.end(service.name, state.run.run_id)
        with self.lock:
            if service.turn is not state:
                return  # it was given up
            events = self._end(service, status, reason)
        try:
            self.tell(service, events)
        finally:  # an observer may be interrupted
            self._changed()

    def _end(self, service: Service, status: Status, reason: str) -> list[Event]:
        events = self.receive(service, FunctionEnded(status, reason))
        service.let_go()
        return events

    # Turn by turn -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def taken(self, service: Service) -> Iterator[Turn | None]:
        """A turn of a service without a function, until the block ends; None where there is none.

        An exception ends it ABANDONED, and goes on from there.
        """
        wish, is_handed_over = Wish(), False
        try:
            turn = self._want(service, wish)
            is_handed_over = True
            yield turn
            self._block_ended(service, wish, None)
        except BaseException as error:
            # A signal's handler may raise anywhere in here: no turn may stay behind.
            if is_handed_over:
                self._block_ended(service, wish, error)
            else:
                self._withdraw(service, wish)
            raise

    def _want(self, service: Service, wish: Wish) -> Turn | None:
        if self.rests(service):  # without the lock, for it may tell an end
            return None
        with self.lock:
            busy = service.wish is not None or service.machine.turn is not None
            if busy or self.is_stopping or not self._takes_wishes:
                return None
            if self.by_name.get(service.name) is not service:  # it was removed just now
                return None
            service.wish = wish
            self.answer(service, TurnWanted())
        self._changed()
        turn = wish.wait()
        return turn if service.turn is wish.state else None

    def _withdraw(self, service: Service, wish: Wish) -> None:
        """The program was interrupted before it had its turn: nobody takes it any more."""
        with self.lock:
            wish.is_withdrawn = True
            if service.wish is wish:
                service.wish = None
                self.answer(service, TurnWanted(is_wanted=False))
        if wish.state is not None:
            self.ended(service, wish.state, Status.ABANDONED, gates.NOT_STARTED, None)

    def _block_ended(self, service: Service, wish: Wish, error: BaseException | None) -> None:
        if wish.state is not None:
            self.ended(service, wish.state, *outcome_of(error), None)

    def take_wishes(self, *, whether: bool) -> None:
        """Whether turns can be wanted; where they cannot, decline those that are."""
        with self.lock:
            self._takes_wishes = whether
            wishing = () if whether else [each for each in self if each.wish is not None]
            for each in wishing:
                self.answer(each, TurnWanted(is_wanted=False))
                each.decline_what_is_over()

    # Stopping ---------------------------------------------------------------------------------

    def is_in_a_block(self) -> bool:
        """Whether this thread is in a block that has a turn, and nobody else can end it."""
        calls = [each.call for each in self.at_work]
        return any(isinstance(each, BlockCall) and each.is_mine() for each in calls)

    @property
    def at_work(self) -> list[Service]:
        """The services whose functions run."""
        with self.lock:
            return [each for each in self if each.turn is not None]

    def stop(self, at: int, grace_ends: int | None) -> int | None:
        """Start no turn any more, and end what runs when its grace is over.

        Returns:
            When to call this again; None for once something has ended.
        """
        self.take_wishes(whether=False)
        for each in self:
            self.answer(each, StopRequested())
            end_if_it_cannot(each.call)
        if grace_ends is None or at < grace_ends:
            return grace_ends
        return self._end_grace(at)

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

    def _end_grace(self, at: int) -> int | None:
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
            state = service.turn
            if state is None:
                return
            events = self._end(service, Status.ABANDONED, gates.STOPPED)
        said, named = "%s: the function goes on beyond its grace", self._named(service, state)
        _log.warning(said, service.name, extra=named)
        self.tell(service, events)
