"""The services of a process, and the functions that are at work for them.

One :class:`Service` holds the machine of a service and the call that runs now. A service without a
function is one whose turns the program asks for itself: its :class:`Wish` is granted with a turn,
or declined.
"""

import contextvars
import threading
from collections.abc import Callable
from contextvars import ContextVar

from turnwise.actions import StopRequested
from turnwise.cycles import SECOND
from turnwise.machine import Machine, TurnState
from turnwise.scheduler.calls import Call, end_if_it_cannot
from turnwise.scheduler.exactly_once import ExactlyOnce
from turnwise.scheduler.functions import Served
from turnwise.turn import Turn, TurnView

_AT_WORK: ContextVar[tuple[object, ...]] = ContextVar("turnwise_at_work", default=())


class StillAtWork:
    """The functions of one scheduler that have begun and not returned, over all its starts.

    What was given up at a stop goes on. The next start must not run a second call beside it.
    """

    def __init__(self) -> None:
        self._calls: dict[str, dict[str, Call | None]] = {}
        self._lock = threading.Lock()

    def begin(self, service: str, run_id: str) -> None:
        """A function is about to work for a run."""
        with self._lock:
            self._calls.setdefault(service, {})[run_id] = None

    def has_call(self, service: str, run_id: str, call: Call) -> None:
        """The function works in this call, unless it has returned already."""
        with self._lock:
            if run_id in self._calls.get(service, {}):
                self._calls[service][run_id] = call

    def end(self, service: str, run_id: str) -> None:
        """The function has returned."""
        with self._lock:
            calls = self._calls.get(service, {})
            calls.pop(run_id, None)
            if not calls:
                self._calls.pop(service, None)

    def is_any(self, service: str) -> bool:
        """Whether a function of a service is at work."""
        if service not in self._calls:
            return False
        with self._lock:
            calls = list(self._calls.get(service, {}).values())
        for call in calls:
            end_if_it_cannot(call)  # its event loop may be closed: nobody would tell its end
        return service in self._calls


class Wish:
    """A turn that the program asks for, until it is granted or declined.

    Attributes:
        state: the turn that it was granted with, as its machine knows it; None where there is none.
        is_withdrawn: whether the program was interrupted before it had its turn.
        thread: the thread that asks, and then has the turn.
    """

    def __init__(self) -> None:
        self.state: TurnState | None = None
        self.is_withdrawn = False
        self.thread = threading.current_thread()
        self._is_over = threading.Event()
        self._turn: Turn | None = None

    def grant(self, turn: Turn, state: TurnState) -> None:
        """Grant it with a turn."""
        self._turn, self.state = turn, state
        self._is_over.set()

    def decline(self) -> None:
        """There is no turn."""
        self._is_over.set()

    def wait(self) -> Turn | None:
        """Wait for the answer, as long as the storage takes."""
        self._is_over.wait()
        return self._turn


class Service:
    """One service of a process.

    Args:
        name: the service's name.
        make: makes its machine; called again where a bug has ended one.
        served: its function; None where the program takes the turns itself.

    Attributes:
        machine: its machine.
        call: the function at work.
        turn: the turn that it works for.
        wish: a turn that the program asks for now.
        cancelled_at: when the call was cancelled because of a stop, on the monotonic clock.
        rests_until: until when the machine is left alone, after a bug.
        is_leaving: whether it takes no turn any more, and goes once nothing is left to do.
        successor: what takes its place then, such as the same service with other settings.
    """

    def __init__(self, name: str, make: Callable[[], Machine], served: Served | None) -> None:
        self.name, self.served = name, served
        self._make = make
        self.machine = make()
        self.call: Call | None = None
        self.turn: TurnState | None = None
        self.wish: Wish | None = None
        self.cancelled_at: int | None = None
        self.rests_until: int | None = None
        self.is_leaving = False
        self.successor: Service | None = None
        self._is_broken = False

    def begin(self, turn: TurnState) -> None:
        """A function is about to work for a turn."""
        self.turn, self.call, self.cancelled_at = turn, None, None

    def let_go(self) -> None:
        """The function has ended, or was given up."""
        self.turn = self.call = self.cancelled_at = None
        if self._is_broken:
            self._renew()

    def decline_what_is_over(self) -> None:
        """Nothing comes of a wish that the machine has ended."""
        if not self.machine.is_wanted:
            self.decline()

    def decline(self) -> None:
        """There is no turn for whoever wishes one."""
        if self.wish is not None:
            self.wish.decline()
            self.wish = None

    def broke(self, until: int) -> None:
        """The machine has raised: a new one takes its place, once no function is at work.

        The new one finds what the old one has left open in the gate, and closes it.
        """
        self.rests_until = until
        self._is_broken = True
        if self.turn is None:
            self._renew()

    def _renew(self) -> None:
        self.machine, self._is_broken = self._make(), False
        if self.is_leaving:
            self.machine.receive(0, StopRequested())


def marked(context: contextvars.Context, engine: object) -> contextvars.Context:
    """A copy of a context in which :func:`is_within` is true for the engine."""
    new = context.copy()
    new.run(lambda: _AT_WORK.set((*_AT_WORK.get(), engine)))
    return new


def is_within(engine: object) -> bool:
    """Whether this code runs in a function that the engine serves, in its tasks or its threads."""
    return engine in _AT_WORK.get()


def view_of(
    state: TurnState,
    monotonic: Callable[[], int],
    stop_requested: Callable[[], bool],
    exactly_once: ExactlyOnce,
) -> TurnView:
    """What a turn asks of whoever keeps it."""
    return TurnView(
        now=monotonic,
        deadline=lambda: state.deadline,
        lost_at=lambda: lost_at(state),
        why_lost=lambda: why_lost(state, monotonic()),
        stop_requested=stop_requested,
        complete=exactly_once.complete,
        fence=exactly_once.fence,
    )


def lost_at(state: TurnState) -> int:
    """When another runner may be at work in the turn's place, were nothing confirmed any more.

    A turn that has passed its timeout is called lost, too, but keeps the gate closed.
    """
    if not state.overdue and (state.lost or not state.is_at_work):
        return 0  # long past: somebody may be at work already
    return state.confirmed_at + state.run.heartbeat_timeout


def why_lost(state: TurnState, at: int) -> str | None:
    """Why a turn is not surely its runner's any more; None while it is."""
    if state.overdue:
        return "its timeout has passed"
    if state.lost:
        return "the run was given up, or closed by the storage"
    if not state.is_at_work:
        return "the turn has ended, or was given up after the grace of a stop"
    silent = at - state.confirmed_at
    if silent < state.run.heartbeat_timeout:
        return None
    limit = state.run.heartbeat_timeout / SECOND
    return (
        f"no heartbeat was confirmed for {silent / SECOND:.1f} s, and the heartbeat timeout is "
        f"{limit:g} s"
    )
