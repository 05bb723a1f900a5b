"""One simulated process: the shipped machines and heartbeat of a runner, and its link.

The process drives its machines as the scheduler's engine does: the first heartbeat comes first; a
heartbeat's answer, an answer to a request and a function's end each have it go on; when it was
asked to stop and every machine has finished, it leaves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

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
    Wait,
)
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import microseconds
from turnwise.drive import carry_out
from turnwise.errors import StorageError
from turnwise.events import Event, RunnerJoined, TurnLost, TurnOverdue
from turnwise.heartbeat import Heartbeat
from turnwise.machine import Machine, TurnState
from turnwise.simulation.link import Leave, Link, Message
from turnwise.simulation.trouble import Trouble
from turnwise.simulation.world import GROUP, NEVER, World
from turnwise.storages import Beat, Pulse, Storage

_ROUND_AND_ROUND: Final = 100  # requests at one instant: no machine has so much to do


@dataclass(slots=True, eq=False)
class Call:
    """A function at work in a turn."""

    turn: TurnState
    began_at: int
    fails: bool = False
    poison_for: int | None = None
    ended_at: int | None = None


class Part:
    """One process's part in one service: its machine, and the function that is at work.

    ``until`` is when the machine has something to do next; None while it waits for an answer.
    """

    __slots__ = ("call", "is_finished", "machine", "process", "service", "until")

    def __init__(self, process: "Process", machine: Machine) -> None:
        self.process = process
        self.machine = machine
        self.call: Call | None = None
        self.until: int | None = 0
        self.service = machine.service
        self.is_finished = False


class Process:
    """A process, its machines, its heartbeat, and what is wrong with it. See the module."""

    def __init__(
        self,
        world: World,
        watchers: Mapping[str, "Watcher"],
        *,
        place: int,
        runner_id: str,
        boot_id: str,
        offset: int,
        skew: int,
        dies: Callable[["Process", int], object],
    ) -> None:
        self.world, self.place = world, place
        self.runner_id, self.boot_id = runner_id, boot_id
        self.offset, self.skew = offset, skew
        self._watchers, self._dies = watchers, dies
        settings = world.scenario.settings
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
                    names=world.names,
                ),
            )
            for service in watchers
        ]
        self.view: Storage = world.storage
        self.alive, self.stopping = True, False
        self.joined_at: int | None = None
        self.idle_since = world.now
        self.trouble = Trouble()
        self.link = Link(world, self, self.trouble)
        self.suspended_until = 0
        self.drained_until = 0
        self._beat_at = 0
        self._rests = self._owes_one = False
        self._is_calm = False  # nothing has happened since its last heartbeat, which was no news
        self._wake_at = self._awaited_beat = NEVER
        self._leaves = False

    # What is done to it -----------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._go()

    def kill(self) -> None:
        """End at once, whatever it was doing. What it has sent is still on its way."""
        self.alive = False
        self.trouble.add(self.world.now, NEVER)

    def request_stop(self) -> None:
        """Start no turn any more; leave when the one that is at work has ended."""
        if self.stopping or not self.alive:
            return
        self.stopping = True
        at = self.world.now + self.offset
        for part in self.parts:
            self._tell(part, at, StopRequested())
        self._go()

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

    def _beat_is_due(self, due: int) -> None:
        """Its next heartbeat is due, unless it has sent one meanwhile, or rests."""
        if due == self._awaited_beat and self.alive and not self._rests:
            self._awaited_beat = NEVER
            self._go()

    def _go(self) -> None:
        """Do all that can be done now, and wait for what comes next."""
        now = self.world.now
        if now < self.suspended_until:
            self._wait_until(self.suspended_until)
            return
        at = now + self.offset
        self._is_calm = False
        if not self._rests and at >= self._beat_at:
            self._is_calm = self._beat(at)
        due = NEVER
        if self.heart.has_joined or self.stopping:
            due = self._drive_all(at)
        if due < NEVER:
            self._wait_until(due - self.offset)
        if self._is_calm:
            self._rests = self.world.rest.begin(self)
        if not self._rests and self.alive:
            self._wait_for_beat()

    def _drive_all(self, at: int) -> int:
        """Have each machine do what it has to do now; when the first of them has more to do."""
        due = NEVER
        for part in self.parts:
            until = part.until
            if until is not None and until <= at:
                self._drive(part, at)
                until = part.until
            if until is not None and until < due:
                due = until
        if self.stopping:
            self._leave_where_finished(at)
        return due if self.alive else NEVER

    def _wait_until(self, due: int) -> None:
        if due != self._wake_at:
            self._wake_at = due
            self.world.at(due, self._wake, due, changes=False)

    def _wait_for_beat(self) -> None:
        due = self._beat_at - self.offset
        if self._beat_at < NEVER and due != self._awaited_beat:
            self._awaited_beat = due
            self.world.at(due, self._beat_is_due, due, changes=False)

    def _drive(self, part: Part, at: int) -> None:
        """Have a machine do what it has to do, up to its next wait."""
        machine = part.machine
        for _ in range(_ROUND_AND_ROUND):
            action = machine.next(at)
            if isinstance(action, Wait):
                part.until = until = action.until
                if until is None or until > at:
                    return
                self._tell(part, at, Elapsed())
            elif isinstance(action, Finished):
                part.is_finished, part.until = True, None
                return
            elif isinstance(action, Serve):
                self._serve(part)
            else:
                answer = self.link.ask(part, action)
                if answer is None:
                    part.until, self._is_calm = None, False
                    return
                self._tell(part, at, answer)
            if not self.alive:
                return
        self.world.say(f"runner {self.runner_id} goes round and round with {action!r}")
        part.until = at + self.heart.interval

    def _tell(self, part: Part, at: int, answer: Answer) -> bool:
        """Tell a machine something, and have it look what to do now; whether it told an event."""
        part.until = at
        events = part.machine.receive(at, answer)
        if events:
            self._heard(part, events)
        return bool(events)

    def _heard(self, part: Part, events: list[Event]) -> None:
        self._watchers[part.service].heard(part, events)
        call = part.call
        if call is None or not self.world.scenario.cancels:
            return
        for event in events:
            if isinstance(event, TurnLost | TurnOverdue):
                reason = gates.TIMEOUT if isinstance(event, TurnOverdue) else gates.LOST
                self.world.at(self.world.now, self._function_ends, (part, call, reason))

    def _leave_where_finished(self, at: int) -> None:
        if self._leaves or not all(part.is_finished for part in self.parts):
            return
        self._leaves = True
        gap = any(part.machine.leaves_a_gap(at) for part in self.parts)
        self._beat_at = NEVER  # its heartbeats end first
        if self.link.ask(None, Leave(gap)) is not None:
            self.alive = False

    # Heartbeats -------------------------------------------------------------------------------

    def _beat(self, at: int) -> bool:
        """Send a heartbeat; whether all is calm: it was answered, and nothing is at work."""
        runs: tuple[str, ...] = ()
        is_idle = not self.stopping
        for part in self.parts:
            if part.machine.turn is not None:
                runs += part.machine.runs
                is_idle = False
        answer = self.link.ask(None, self.heart.beat(at, runs))
        if answer is None:
            self._beat_at = NEVER
            return False
        has_news = self._heartbeat_answered(at, answer)
        return is_idle and not (has_news or answer.sights or answer.others)

    def leave_out(self, until: int) -> int | None:
        """Leave out, and count, what is due before ``until``; when the last of them was due."""
        interval = self.heart.interval
        number = -(-(until + self.offset - self._beat_at) // interval)
        if number > 0:
            self.world.asked[Beat.__name__] += number
            self._beat_at += number * interval
            self._owes_one = True
        return self._beat_at - interval - self.offset if self._owes_one else None

    def play_last(self) -> None:
        """Send the last heartbeat that was left out, now that its time is set."""
        self._owes_one = False
        self.world.asked[Beat.__name__] -= 1
        at = self.world.now + self.offset
        pulse = self.link.ask(None, self.heart.beat(at, ()))
        heard, events = self.heart.receive(at, pulse)
        assert heard is not None  # noqa: S101 (nothing is wrong with it while it rests)
        for part in self.parts:
            events += part.machine.receive(at, heard)
        if events or self.heart.due != self._beat_at:
            self.world.say(f"a heartbeat of {self.runner_id} was left out, and had news: {events}")

    def go_on(self) -> None:
        """Send the heartbeats that come."""
        self._rests = self._is_calm = False
        if self.alive:
            self._wait_for_beat()

    def _heartbeat_answered(self, at: int, answer: Pulse | Failed) -> bool:
        """Take what came of a heartbeat; whether there was anything to tell."""
        heard, events = self.heart.receive(at, answer)
        due = self.heart.due
        self._beat_at = NEVER if due is None else due
        if events:
            if self.joined_at is None and any(isinstance(e, RunnerJoined) for e in events):
                self.joined_at = self.world.now
            for watcher in self._watchers.values():
                watcher.heard_of_process(self, events)
        told: Answer = Elapsed() if heard is None else heard
        has_news = bool(events) or heard is None
        for part in self.parts:
            has_news |= self._tell(part, at, told)
        return has_news

    # Functions --------------------------------------------------------------------------------

    def _serve(self, part: Part) -> None:
        turn = part.machine.turn
        assert turn is not None  # noqa: S101 (it is to be served)
        now = self.world.now
        takes, fails, poison = self.world.next_job()
        part.call = call = Call(turn, now, fails, poison)
        self._watchers[part.service].begins(part, call)
        self._tell(part, now + self.offset, Begun())
        self.world.at(now + takes, self._function_ends, (part, call, None))
        lasts, self.world.kill_next_turn = self.world.kill_next_turn, None
        if lasts is not None:
            self.world.at(now + 1, self._killed_in_turn, (part, call, lasts))

    def _killed_in_turn(self, what: tuple[Part, Call, int]) -> None:
        part, call, lasts = what
        if part.call is call and self.alive:
            self._dies(self, lasts)

    def _function_ends(self, ending: tuple[Part, Call, str | None]) -> None:
        part, call, cancelled = ending
        if not self.alive or part.call is not call:
            return
        if self.world.now < self.suspended_until:
            self.world.at(self.suspended_until, self._function_ends, ending)
            return
        part.call, self.idle_since = None, self.world.now
        watcher = self._watchers[part.service]
        watcher.ends(call)
        if call.poison_for is not None:
            self._dies(self, call.poison_for)
            return
        status, reason = Status.COMPLETED, ""
        if cancelled is not None:
            status, reason = Status.ABANDONED, cancelled
        elif call.fails:
            status, reason = Status.ABANDONED, "exit:1"
        watcher.outcomes[call.turn.run.run_id] = status, reason
        at = self.world.now + self.offset
        self._tell(part, at, FunctionEnded(status, reason))
        self._go()

    # The storage ------------------------------------------------------------------------------

    def act(self, who: Part | None, request: Message, *, is_heard: bool = True) -> Any:
        """What the storage does, and what whoever watches sees of it."""
        if self.world.rest.before(request, is_known=self.alive and self.heart.has_joined):
            self._is_calm = False
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
        assert who is not None  # noqa: S101 (it is a machine's request)
        answer = carry_out(self.view, GROUP, who.service, request)
        self._watchers[who.service].saw(who, request, answer, is_heard=is_heard)
        return answer

    def answered(self, message: tuple[Part | None, Message, Any]) -> None:
        """An answer comes back."""
        if not self.alive:
            return
        if self.world.now < self.suspended_until:
            self.world.at(self.suspended_until, self.answered, message)
            return
        part, request, answer = message
        answer = self.link.received(answer)
        at = self.world.now + self.offset
        if isinstance(request, Leave):
            self.alive = False
        elif part is None:
            self._heartbeat_answered(at, answer)
            self._go()
        else:
            if self._rests:
                self.world.rest.end(self)
            self._tell(part, at, answer)
            self._go()


class Watcher(Protocol):
    """Who watches what processes do for one service, and hears what they tell."""

    outcomes: dict[str, tuple[Status, str]]
    """How the function of each run ended."""

    def saw(self, part: Part, request: Request, answer: Answer, *, is_heard: bool) -> None:
        """A request was carried out; ``is_heard`` says that its answer can still arrive."""

    def heard(self, part: Part, events: list[Event]) -> None:
        """What a machine tells."""

    def heard_of_process(self, process: Process, events: list[Event]) -> None:
        """What a process's heartbeat tells."""

    def begins(self, part: Part, call: Call) -> None:
        """A function is about to work."""

    def ends(self, call: Call) -> None:
        """A function has ended."""

    def about_to_kill(self, process: Process) -> None:
        """A process is about to be killed."""
