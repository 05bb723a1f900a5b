"""The oracles of one service: what may never happen is looked for after each request.

A judge hears every event, looks at the storage's records after each change, and knows what was
wrong with whom. It keeps books of its own, and trusts no rule that it judges:

1. At most one run is open. No open run disappears.
2. Only its owner ends a run, as its function ended; others bury it, and only where its owner had
   not been able to speak for itself. A run that its owner gives back had no time left.
3. Fencing tokens grow.
4. No period is served twice, nor tried more often than its attempts, nor while the service is
   paused. A run that nobody asked for has a trigger.
5. Who asks the gate is in the plan that it has read, at its own slot and within its window.
6. Everybody who reads one version of a plan reads the same. A plan is replaced within its cycle
   only where nobody of it is well.
7. A runner that is well keeps its row and its turn, and no other process has its id.
8. What was closed comes into the history.
9. What functions at work may never do: see :mod:`.work`.
10. A period is missed for a cause; who says so is right: see :mod:`.liveness`.
"""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from turnwise.actions import Answer, Append, Look, Purge, Request, Seen, Swap
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import microseconds
from turnwise.events import (
    DuplicateRunner,
    Event,
    NoTurn,
    PeriodMissed,
    RecordUnreadable,
    RunnerJoined,
    TurnLost,
    TurnStarted,
)
from turnwise.gate import NO_ATTEMPT, NO_MARGIN, OWNER_DEAD, Execution, Gate, Run, is_paused
from turnwise.plan import CyclePlan, Plan
from turnwise.simulation.liveness import Liveness
from turnwise.simulation.process import GROUP, Part, Process
from turnwise.simulation.slots import slot_of
from turnwise.simulation.trouble import Trouble, longest_calm
from turnwise.simulation.work import Work
from turnwise.storages import Kind, Record
from turnwise.texts import gate_from_text, plan_from_text

if TYPE_CHECKING:
    from turnwise.simulation.play import Play

_ROUNDING: Final = 1  # microsecond
_COMPLETED: Final = Status.COMPLETED


@dataclass(slots=True)
class OpenRun:
    """A run that was admitted and has not been seen to end; ``at`` is the play's time."""

    run: Run
    owner: Process
    at: int


class Judge:
    """Watches one service of a play. See the module."""

    def __init__(self, play: "Play", service: str) -> None:
        settings = play.scenario.settings
        self.play, self.service = play, service
        self.say = play.say if play.scenario.services == 1 else self._say_of_service
        self.promises_hold = True  # until the storage has forgotten
        self.timeout = microseconds(settings.heartbeat_timeout)
        self.interval = microseconds(settings.heartbeat_interval)
        self.most_latency = microseconds(play.scenario.latency.most)
        self.attempts_allowed = settings.attempts if settings.runs == "once" else 1
        # The books.
        self.gate: Gate | None = None
        self.plan: Plan | None = None
        self.plan_version: str | None = None
        self.born_at: int | None = None  # on the storage's clock
        self.open: OpenRun | None = None
        self.last_token = 0
        self.ended: set[str] = set()
        self.served: dict[int, int] = {}  # key: the period's due
        self.served_dues: set[int] = set()
        self.attempts: Counter[int] = Counter()
        self.outcomes: dict[str, tuple[Status, str]] = {}
        self.rows: dict[str, Execution] = {}
        self.in_history: set[str] = set()
        self.paused_spans = Trouble()
        self.executions: Counter[str] = Counter()
        self.told_missed: dict[int, str] = {}
        self.work = Work(self)
        self._seen_plans: dict[str, str] = {}
        self._looks: dict[str, tuple[int, Plan | None]] = {}
        self.liveness = Liveness(self)

    # What the play tells ----------------------------------------------------------------------

    def plan_periods(self) -> None:
        """Look at each period when it has ended."""
        self.liveness.plan_periods()

    def healed(self) -> None:
        """Nothing goes wrong any more."""
        self.liveness.healed()

    def forget(self) -> None:
        """The storage has lost what it acknowledged last: what was promised holds no more."""
        self.promises_hold = False
        self.gate, self.plan, self.plan_version = self._kept()
        self.open = None
        self.last_token = 0 if self.gate is None else self.gate.token
        self._seen_plans.clear()

    def end(self) -> None:
        """The play has ended."""
        if self.play.gated:
            self.liveness.end()
            self._require_history()

    def _say_of_service(self, what: str) -> None:
        self.play.say(f"{self.service}: {what}")

    # After each request -----------------------------------------------------------------------

    def saw(self, part: Part, request: Request, answer: Answer, *, is_heard: bool) -> None:
        """A request was carried out; ``is_heard`` says that its answer can still arrive."""
        if not self.play.gated:
            return
        if isinstance(request, Look):
            if isinstance(answer, Seen):
                self._note_look(part.process, answer, is_heard=is_heard)
            return
        if isinstance(request, Append):
            self.in_history.update(entry.id for entry in request.entries)
        elif isinstance(request, Swap):
            owner = request.new.owner
            if owner is not None and self._is_asked_for_first(owner.run_id, owner.boot_id, part):
                run = gate_from_text(request.new.body).open
                if run is not None and is_heard:
                    self._require_a_place(part.process, run)
            if request.kind is Kind.PLAN:
                self._look_at_plan()
            else:
                self._look_at_gate(part.process)
        elif isinstance(request, Purge):
            self._look_at_gate(part.process)

    def gate_may_have_changed(self) -> None:
        """An operator has done something."""
        self._look_at_gate(None)

    def _kept(self) -> tuple[Gate | None, Plan | None, str | None]:
        kept = self.play.storage.read(GROUP, (self.service,)).services[self.service]
        gate = None if kept.gate is None else gate_from_text(kept.gate.body)
        plan = None if kept.plan is None else plan_from_text(kept.plan.body)
        return gate, plan, None if kept.plan is None else kept.plan.version

    def _is_asked_for_first(self, run_id: str, boot_id: str, part: Part) -> bool:
        mine = boot_id == part.process.boot_id
        known = self.open is not None and self.open.run.run_id == run_id
        return mine and not known and run_id not in self.ended

    # Plans ------------------------------------------------------------------------------------

    def _note_look(self, process: Process, seen: Seen, *, is_heard: bool) -> None:
        """What a look has shown: everybody sees one plan."""
        record: Record | None = seen.service.plan
        plan = None
        if record is not None:
            first = self._seen_plans.setdefault(record.version, record.body)
            if first is not record.body and first != record.body:
                self.say(f"runner {process.runner_id} and others saw different plans")
            plan = plan_from_text(record.body)
        if is_heard:
            self._looks[process.boot_id] = self.play.base + self.play.now, plan

    def _look_at_plan(self) -> None:
        _, plan, version = self._kept()
        if version == self.plan_version or plan is None:
            return
        before, self.plan, self.plan_version = self.plan, plan, version
        now = self.play.base + self.play.now
        for cycle in plan.cycles:
            if before is None or cycle not in before.cycles:
                self.liveness.note_plan(cycle)
            for old in () if before is None else before.cycles:
                if (
                    old != cycle
                    and old.start < cycle.end
                    and cycle.start < old.end
                    and old.end > now
                ):
                    self._require_nobody_left(old, max(cycle.start, old.start))

    def _require_nobody_left(self, old: CyclePlan, at: int) -> None:
        """A plan is replaced within its cycle only where nobody of it is well."""
        ahead = [i for i in range(len(old.runners)) if at <= slot_of(old, i)[1]]
        since = self.play.now - 2 * self.timeout
        for i in ahead or range(len(old.runners)):
            runner_id = old.runners[i][0]
            for process in self.play.started:
                if process.runner_id == runner_id and self.is_well(process, since):
                    self.say(f"a plan was replaced, and {runner_id}, which is in it, is well")

    def _require_a_place(self, process: Process, run: Run) -> None:
        """Who asks the gate goes by the plan that it has read, within its own window."""
        looked, plan = self._looks.get(process.boot_id, (0, None))
        cycle = self._cycle_of(run, plan)
        places = [] if cycle is None else [name for name, _ in cycle.runners]
        if cycle is None or process.runner_id not in places:
            self.say(f"runner {process.runner_id} tried the gate and is not in the plan")
            return
        start, latest, end = slot_of(cycle, places.index(process.runner_id))
        own = (start, end) == (run.slot_start, run.slot_end)
        if not own or not start <= looked <= latest + _ROUNDING:
            self.say(f"runner {process.runner_id} was cleared to start outside its own slot")

    @staticmethod
    def _cycle_of(run: Run, plan: Plan | None) -> CyclePlan | None:
        cycles = () if plan is None else plan.cycles
        return next((c for c in cycles if (c.start, c.due) == (run.cycle_start, run.due)), None)

    # The gate ---------------------------------------------------------------------------------

    def _look_at_gate(self, process: Process | None) -> None:
        before, (gate, _, _) = self.gate, self._kept()
        if gate == before:
            return
        self.gate = gate
        now = self.play.base + self.play.now
        if gate is None:
            self.say("the gate has disappeared")
            return
        if before is None:
            self.born_at = now
            before = Gate(gate.floor)
        self._note_pause(before, gate, now)
        old, new = before.open, gate.open
        same = old is not None and new is not None and old.run_id == new.run_id
        if old is not None and not same:
            self._note_end(old, gate, process, replaced=new is not None)
        if new is not None and not same:
            self._note_admission(new, before, now)
        if gate.token < before.token:
            self.say("fencing tokens went back")
        self._require_rows_kept(before, gate)

    def _note_pause(self, before: Gate, gate: Gate, now: int) -> None:
        if (before.pause is None) != (gate.pause is None):
            at = self.play.now
            if gate.pause is not None:
                until = gate.pause.until
                self.paused_spans.add(at, self.play.end if until is None else at + until - now)
            else:
                self.paused_spans.cut(at)

    def _note_admission(self, run: Run, before: Gate, now: int) -> None:
        owner = next((p for p in self.play.started if p.boot_id == run.boot_id), None)
        if self.promises_hold:
            self._judge_admission(run, before, now)
        self.last_token = max(run.token, self.last_token)
        if owner is None:
            return  # it has died since it asked, and only a book that is gone could tell
        self.open = OpenRun(run, owner, self.play.now)
        self.liveness.opened(run)

    def _judge_admission(self, run: Run, before: Gate, now: int) -> None:  # noqa: C901 (a rule each)
        who = f"a run of {run.runner_id} was admitted"
        if self.open is not None:
            self.say(f"{who} while another is open")
        if run.token <= self.last_token:
            self.say(f"fencing token {run.token} was handed out after {self.last_token}")
        if is_paused(before, now):
            self.say(f"{who} while the service is paused")
        if now >= run.slot_end:  # before it, where the clock was set back since the look
            self.say(f"{who} after its slot")
        if run.key is None:
            if before.trigger is None:
                self.say(f"{who} that nobody asked for")
            return
        if run.key in self.served:
            self.say(f"{who} to a period that is served")
        if self.attempts[run.key] >= self.attempts_allowed:
            self.say(f"{who} to a period whose attempts are used up")
        if now >= run.until:
            self.say(f"{who} after its period")
        within = self.play.scenario.settings.start_within
        if within is not None and now > run.due + microseconds(within):
            self.say(f"{who} later than start_within allows")

    def _note_end(self, run: Run, gate: Gate, process: Process | None, *, replaced: bool) -> None:
        opened, self.open = self.open, None
        self.ended.add(run.run_id)
        row = next((r for r in gate.unsaid if r.id == run.run_id), None)
        if not isinstance(row, Execution):
            if replaced:
                self.open = opened  # what comes in its place is admitted while it is open
            else:
                self.say(f"the open run of {run.runner_id} has disappeared")
            return
        self.rows[row.id] = row
        self.executions[f"{row.status}:{row.reason}".rstrip(":")] += 1
        if (row.token, row.started_at, row.due) != (run.token, run.started_at, run.due):
            self.say(f"the row of the run of {run.runner_id} is that of another run")
        if opened is not None:
            if row.reason == OWNER_DEAD:
                self._require_a_dead_owner(opened)
            elif process is None or process.boot_id != run.boot_id:
                name = "somebody" if process is None else process.runner_id
                self.say(f"{name} changed the row of another run, of {run.runner_id}")
            else:
                self._judge_own_end(opened, row)
        self._note_result(run, row)
        self.liveness.closed()

    def _judge_own_end(self, opened: OpenRun, row: Execution) -> None:
        outcome = self.outcomes.get(row.id)
        if row.status is _COMPLETED and outcome != (_COMPLETED, ""):
            self.say(f"a run of {row.runner_id} was completed, and its function was not")
        if row.reason != NO_MARGIN:
            return
        owner, now = opened.owner, self.play.now
        left = opened.run.slot_end - (self.play.base + now)
        margin = microseconds(self.play.scenario.settings.min_run_margin)
        slow = 8 * self.most_latency
        if outcome is None and not owner.stopping and left > margin + slow:
            calm = longest_calm(opened.at, now, owner.trouble, self.play.trouble)
            # Silence is counted from the look, which may have been long before.
            late = owner.trouble.overlaps(opened.at - self.timeout, opened.at - 1)
            late = late or self.play.trouble.overlaps(opened.at - self.timeout, opened.at - 1)
            if not late and now - opened.at < self.timeout and calm >= now - opened.at:
                self.say(f"runner {owner.runner_id} gave back a run with time left")

    def _note_result(self, run: Run, row: Execution) -> None:
        if run.key is None:
            return
        if row.status is _COMPLETED:
            if run.key in self.served and self.promises_hold:
                self.say(f"the period that is due at {run.due} was served twice")
            self.served[run.key] = run.due
            self.served_dues.add(run.due)
        elif row.reason not in NO_ATTEMPT:
            self.attempts[run.key] += 1

    def _require_a_dead_owner(self, opened: OpenRun) -> None:
        """Whoever is well long enough says so: then nobody may bury its run."""
        owner, now = opened.owner, self.play.now
        left = owner.stopping and not owner.alive
        since = max(opened.at, now - self.timeout)
        if now - opened.at < self.timeout and not left and owner.alive:
            self.say(f"a run of {owner.runner_id} was buried before its heartbeat timeout")
        if owner.alive and self._was_calm_for(owner, since, now):
            self.say(f"runner {owner.runner_id} is well, and lost the run that it is at")

    def _was_calm_for(self, process: Process, since: int, until: int) -> bool:
        """Whether it was undisturbed for long enough to send a heartbeat, and have it answered."""
        enough = 2 * self.interval + 4 * self.most_latency
        return longest_calm(since, until, process.trouble, self.play.trouble) >= enough

    def is_well(self, process: Process, since: int) -> bool:
        """Whether a runner lives, has joined, and was undisturbed since then."""
        joined = process.joined_at
        if not process.alive or process.stopping or joined is None or joined > since:
            return False
        return max(process.trouble.last, self.play.trouble.last) < since

    # History ----------------------------------------------------------------------------------

    def _require_rows_kept(self, before: Gate, gate: Gate) -> None:
        kept = {row.id for row in gate.unsaid}
        for row in before.unsaid:
            # Those of commands the operator's tool appends.
            known = row.id in kept or row.id in self.in_history
            if not known and isinstance(row, Execution):
                self.say("a row has left the gate before it was in the history")

    def _require_history(self) -> None:
        """The history has every run that was closed, unless it was purged, or is in the gate."""
        if self.gate is None or not self.promises_hold:
            return
        settings = self.play.scenario.settings
        unsaid = {row.id for row in self.gate.unsaid}
        entries = self.play.storage.history(GROUP, self.service)
        there = {entry.id for entry in entries}
        now = self.play.base + self.play.now
        kept_since = now - microseconds(settings.retention_age)
        few = len(self.rows) + 64 < settings.retention_count
        for row in self.rows.values():
            if row.started_at > kept_since and few and row.id not in unsaid | there:
                self.say(f"the history does not know of a run of {row.runner_id}")

    # Events -----------------------------------------------------------------------------------

    def heard(self, part: Part, events: list[Event]) -> None:
        """What a machine tells."""
        for event in events:
            if isinstance(event, TurnLost):
                self._judge_lost(part)
            elif isinstance(event, NoTurn):
                self.executions[f"blocked:{event.reason.partition(':')[0]}"] += 1
                self.liveness.refused(event.due, event.reason)
            elif isinstance(event, PeriodMissed):
                self._judge_missed(event)
            elif isinstance(event, RecordUnreadable):
                self.say(f"a record cannot be read: {event.error}")
            elif isinstance(event, TurnStarted):
                self.work.judge_started(part, event)

    def heard_of_process(self, process: Process, events: list[Event]) -> None:
        """What a process's heartbeat tells."""
        for event in events:
            if isinstance(event, DuplicateRunner) and self._lives(event.boot_id):
                self.say(f"another process has the id of runner {process.runner_id}")
            elif isinstance(event, RunnerJoined) and event.again and self.promises_hold:
                self.say(f"runner {process.runner_id} lost its row")

    def _lives(self, boot_id: str) -> bool:
        """Whether a process lives; of one that was killed a late request may have come."""
        return any(each.boot_id == boot_id and each.alive for each in self.play.started)

    def _judge_lost(self, part: Part) -> None:
        process, now = part.process, self.play.now
        call = part.call
        since = now - self.timeout if call is None else max(call.began_at, now - self.timeout)
        if self.promises_hold and self._was_calm_for(process, since, now):
            self.say(f"runner {process.runner_id} is well, and lost the turn that it is at")

    def _judge_missed(self, event: PeriodMissed) -> None:
        if event.due in self.served_dues and self.promises_hold:
            self.say(f"the period that is due at {event.due} was called missed, and is served")
        self.told_missed.setdefault(event.due, event.why)
