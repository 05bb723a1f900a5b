"""One simulated process: the shipped machines and heartbeat of a runner, and its link.

The process drives its machines as the scheduler's engine does: the first heartbeat comes first; a
heartbeat's answer, an answer to a request and a function's end each have it go on; when it was
asked to stop and every machine has finished, it leaves. A request is on its way for a while, may
get lost with or without effect, and may be late; where nothing is wrong and messages take no time
it is answered at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from turnwise import gate as gates
from turnwise.actions import (
    Answer,
    Begun,
    Elapsed,
    Failed,
    Finished,
    FunctionEnded,
    Request,
    Serve,
    StopRequested,
    Swap,
    Wait,
)
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import microseconds
from turnwise.drive import carry_out
from turnwise.errors import StorageError
from turnwise.events import Event, RunnerJoined, TurnLost, TurnOverdue
from turnwise.heartbeat import Heartbeat
from turnwise.machine import Machine, TurnState
from turnwise.simulation.trouble import Trouble
from turnwise.storages import Beat, Pulse, Storage

if TYPE_CHECKING:
    from turnwise.simulation.play import Play

GROUP: Final = "group"
NEVER: Final = 2**62
_ROUND_AND_ROUND: Final = 100  # requests at one instant: no machine has so much to do


@dataclass(frozen=True, slots=True)
class Leave:
    """The request of a process that leaves: the storage's ``leave``.

    Where its going leaves a gap, ``advance`` follows.
    """

    gap: bool


@dataclass(slots=True, eq=False)
class Call:
    """A function at work in a turn."""

    turn: TurnState
    began_at: int
    fails: bool = False
    poison_for: int | None = None
    ended_at: int | None = None


class Part:
    """One process's part in one service: its machine, and the function that is at work."""

    __slots__ = ("call", "is_finished", "machine", "process", "until")

    def __init__(self, process: "Process", machine: Machine) -> None:
        self.process = process
        self.machine = machine
        self.call: Call | None = None
        self.until: int | None = None
        self.is_finished = False

    @property
    def service(self) -> str:
        """The service's name."""
        return self.machine.service


class Process:
    """A process, its machines, its heartbeat, and what is wrong with it. See the module."""

    def __init__(
        self, play: "Play", place: int, runner_id: str, boot_id: str, offset: int, skew: int
    ) -> None:
        self.play, self.place = play, place
        self.runner_id, self.boot_id = runner_id, boot_id
        self.offset, self.skew = offset, skew
        settings = play.scenario.settings
        self.heart = Heartbeat(
            group=GROUP,
            runner_id=runner_id,
            boot_id=boot_id,
            timeout=microseconds(settings.heartbeat_timeout),
        )
        self.parts = [
            Part(
                self,
                Machine(
                    group=GROUP,
                    service=service,
                    runner_id=runner_id,
                    boot_id=boot_id,
                    settings=settings,
                    names=play.names,
                ),
            )
            for service in play.judges
        ]
        self.view: Storage = play.parts.view(self, play.storage)
        self.alive, self.stopping = True, False
        self.joined_at: int | None = None
        self.idle_since = play.now
        self.trouble = Trouble()
        self.troubled_until = 0
        self.suspended_until = 0
        self.holds_requests = False
        self.cut_off_until = 0
        self.drained_until = 0
        self.lost_request_until = 0
        self.lost_reply: tuple[int, int] = (0, 0)
        self.late_commit: tuple[int, int] = (0, 0)
        self.loses_next_acknowledgement = False
        self._beat_at = 0
        self._wake_at = NEVER
        self._leaves = False

    # What is done to it -----------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._go()

    def kill(self) -> None:
        """End at once, whatever it was doing. What it has sent is still on its way."""
        self.alive = False
        self.trouble.add(self.play.now, NEVER)

    def request_stop(self) -> None:
        """Start no turn any more; leave when the one that is at work has ended."""
        if self.stopping or not self.alive:
            return
        self.stopping = True
        at = self.play.now + self.offset
        for part in self.parts:
            part.machine.receive(at, StopRequested())
        self._go()

    def disturb(self, until: int) -> None:
        """Something is wrong with it until then."""
        self.trouble.add(self.play.now, until)
        self.troubled_until = max(self.troubled_until, until)

    @property
    def is_at_work(self) -> bool:
        """Whether a function is at work in it."""
        return any(part.call is not None for part in self.parts)

    # Going on ---------------------------------------------------------------------------------

    def _wake(self, due: int) -> None:
        """The instant that it waited for has come, unless it has gone on meanwhile."""
        if due == self._wake_at and self.alive:
            self._wake_at = NEVER
            self._go()

    def _go(self) -> None:
        """Do all that can be done now, and wait for what comes next."""
        now = self.play.now
        if now < self.suspended_until:
            self._wait_until(self.suspended_until)
            return
        at = now + self.offset
        if at >= self._beat_at:
            self._beat(at)
        due = self._beat_at
        if self.heart.has_joined or self.stopping:
            for part in self.parts:
                self._drive(part, at)
                if part.until is not None and part.until < due:
                    due = part.until
            if self.stopping:
                self._leave_where_finished(at)
        if due < NEVER and self.alive:
            self._wait_until(due - self.offset)

    def _wait_until(self, due: int) -> None:
        if due != self._wake_at:
            self._wake_at = due
            self.play.at(due, self._wake, due)

    def _drive(self, part: Part, at: int) -> None:
        """Have a machine do what it has to do, up to its next wait."""
        machine = part.machine
        for _ in range(_ROUND_AND_ROUND):
            action = machine.next(at)
            if isinstance(action, Wait):
                part.until = until = action.until
                if until is None or until > at:
                    return
                self._tell(part, machine.receive(at, Elapsed()))
            elif isinstance(action, Finished):
                part.is_finished, part.until = True, None
                return
            elif isinstance(action, Serve):
                self._serve(part)
            else:
                answer = self._ask(part, action)
                if answer is None:
                    part.until = None
                    return
                self._tell(part, machine.receive(at, answer))
            if not self.alive:
                return
        self.play.say(f"runner {self.runner_id} goes round and round with {action!r}")
        part.until = at + self.heart.interval

    def _tell(self, part: Part, events: list[Event]) -> None:
        if not events:
            return
        self.play.judges[part.service].heard(part, events)
        call = part.call
        if call is None or not self.play.scenario.cancels:
            return
        for event in events:
            if isinstance(event, TurnLost | TurnOverdue):
                reason = gates.TIMEOUT if isinstance(event, TurnOverdue) else gates.LOST
                self.play.at(self.play.now, self._function_ends, (part, call, reason))

    def _leave_where_finished(self, at: int) -> None:
        if self._leaves or not all(part.is_finished for part in self.parts):
            return
        self._leaves = True
        gap = any(part.machine.leaves_a_gap(at) for part in self.parts)
        self._beat_at = NEVER  # its heartbeats end first
        if self._ask(None, Leave(gap)) is not None:
            self.alive = False

    # Heartbeats -------------------------------------------------------------------------------

    def _beat(self, at: int) -> None:
        parts = self.parts
        runs = (
            parts[0].machine.runs
            if len(parts) == 1
            else tuple(run for part in parts for run in part.machine.runs)
        )
        answer = self._ask(None, self.heart.beat(at, runs))
        if answer is None:
            self._beat_at = NEVER
        else:
            self._heartbeat_answered(at, answer)

    def _heartbeat_answered(self, at: int, answer: Pulse | Failed) -> None:
        heard, events = self.heart.receive(at, answer)
        wait = self.heart.next(at)
        self._beat_at = at if wait is None else NEVER if wait.until is None else wait.until
        if events:
            if self.joined_at is None and any(isinstance(e, RunnerJoined) for e in events):
                self.joined_at = self.play.now
            for judge in self.play.judges.values():
                judge.heard_of_process(self, events)
        told: Answer = Elapsed() if heard is None else heard
        for part in self.parts:
            self._tell(part, part.machine.receive(at, told))

    # Functions --------------------------------------------------------------------------------

    def _serve(self, part: Part) -> None:
        turn = part.machine.turn
        assert turn is not None  # noqa: S101 (it is to be served)
        now = self.play.now
        takes, fails, poison = self.play.next_job()
        part.call = call = Call(turn, now, fails, poison)
        self.play.judges[part.service].work.begins(part, call)
        self._tell(part, part.machine.receive(now + self.offset, Begun()))
        self.play.at(now + takes, self._function_ends, (part, call, None))
        self.play.began(part)

    def _function_ends(self, ending: tuple[Part, Call, str | None]) -> None:
        part, call, cancelled = ending
        if not self.alive or part.call is not call:
            return
        if self.play.now < self.suspended_until:
            self.play.at(self.suspended_until, self._function_ends, ending)
            return
        part.call, self.idle_since = None, self.play.now
        judge = self.play.judges[part.service]
        judge.work.ends(call)
        if call.poison_for is not None:
            self.play.crash(self, call.poison_for, same_id=True)
            return
        status, reason = Status.COMPLETED, ""
        if cancelled is not None:
            status, reason = Status.ABANDONED, cancelled
        elif call.fails:
            status, reason = Status.ABANDONED, "exit:1"
        judge.outcomes[call.turn.run.run_id] = status, reason
        at = self.play.now + self.offset
        self._tell(part, part.machine.receive(at, FunctionEnded(status, reason)))
        self._go()

    # The link ---------------------------------------------------------------------------------

    def _ask(self, part: Part | None, request: "Request | Beat | Leave") -> Any:
        """Ask the storage: the answer, or None where it comes later."""
        play = self.play
        play.asked[type(request).__name__] += 1
        if (
            play.is_instant
            and play.now >= self.troubled_until
            and play.now >= play.troubled_until
            and not self.loses_next_acknowledgement
        ):
            return self._act(part, request)
        if self._is_unreachable():
            self._answer_later(part, request, Failed("no connection"))
        else:
            play.at(play.now + play.travel_time(), self._arrives, (part, request))
        return None

    def _is_unreachable(self) -> bool:
        now = self.play.now
        return now < self.play.down_until or now < self.cut_off_until

    def _arrives(self, sent: "tuple[Part | None, Request | Beat | Leave]") -> None:
        """A request arrives at the storage, or does not."""
        part, request = sent
        play, now = self.play, self.play.now
        if now < self.suspended_until and self.holds_requests:
            play.at(self.suspended_until, self._arrives, sent)
            return
        if self._is_unreachable() or now < self.lost_request_until:
            self._answer_later(part, request, Failed("the request was lost"))
            return
        if self._answer_is_lost(request):
            until, delay = self.lost_reply
            play.at(now + (delay if now < until else 0), self._act_unheard, sent)
            self._answer_later(part, request, Failed("the answer was lost"))
            return
        until, most = self.late_commit
        if now < until and isinstance(request, Beat):
            late = now + 1 + int(play.network_random() * most)
            play.at(late, self._act_late, (part, request, now))
            return
        self._answer_later(part, request, self._act(part, request))

    def _answer_is_lost(self, request: object) -> bool:
        if self.loses_next_acknowledgement and isinstance(request, Swap):
            self.loses_next_acknowledgement = False
            self.trouble.add(self.play.now, self.play.now)
            return True
        return self.play.now < self.lost_reply[0]

    def _act(
        self, part: Part | None, request: "Request | Beat | Leave", *, is_heard: bool = True
    ) -> Any:
        """What the storage does, and what the judge sees of it."""
        try:
            if isinstance(request, Beat):
                return self.view.heartbeat(GROUP, request)
            if isinstance(request, Leave):
                self.view.leave(GROUP, self.runner_id, self.boot_id)
                if request.gap:
                    self.view.advance(GROUP)
                return request
        except StorageError as error:
            return Failed(str(error))
        assert part is not None  # noqa: S101 (it is a machine's request)
        answer = carry_out(self.view, GROUP, part.service, request)
        self.play.judges[part.service].saw(part, request, answer, is_heard=is_heard)
        return answer

    def _act_unheard(self, sent: "tuple[Part | None, Request | Beat | Leave]") -> None:
        self._act(*sent, is_heard=False)

    def _act_late(self, sent: "tuple[Part | None, Request | Beat | Leave, int]") -> None:
        """Write with the time of arrival, in the storage's clock, what is seen only now."""
        part, request, arrived = sent
        late = self.play.now - arrived
        self.play.base -= late
        try:
            answer = self._act(part, request)
        finally:
            self.play.base += late
        self._answer_later(part, request, answer)

    def _answer_later(self, part: Part | None, request: object, answer: object) -> None:
        play = self.play
        play.at(play.now + play.travel_time(), self._answered, (part, request, answer))

    def _answered(self, message: tuple[Part | None, object, Any]) -> None:
        """An answer comes back."""
        if not self.alive:
            return
        if self.play.now < self.suspended_until:
            self.play.at(self.suspended_until, self._answered, message)
            return
        part, request, answer = message
        if self._is_unreachable() and not isinstance(answer, Failed):
            answer = Failed("the answer was lost")
        at = self.play.now + self.offset
        if isinstance(request, Leave):
            self.alive = False
        elif part is None:
            self._heartbeat_answered(at, answer)
            self._go()
        else:
            self._tell(part, part.machine.receive(at, answer))
            self._go()


View = Callable[[Process, Storage], Storage]
"""How a process sees the storage."""
