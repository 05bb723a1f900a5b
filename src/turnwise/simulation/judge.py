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
from typing import Final

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
from turnwise.simulation.books import Books, OpenRun
from turnwise.simulation.bounds import Bounds
from turnwise.simulation.liveness import Liveness
from turnwise.simulation.plan_oracle import PlanOracle
from turnwise.simulation.process import Call, Part, Process
from turnwise.simulation.stage import Stage
from turnwise.simulation.trouble import longest_calm
from turnwise.simulation.work import Work
from turnwise.simulation.world import GROUP
from turnwise.storages import Kind, Owner, Record, ServiceReading
from turnwise.texts import gate_from_text

_COMPLETED: Final = Status.COMPLETED


class Judge(Books):
    """Watches one service of a play. See the module."""

    def __init__(self, stage: Stage, bounds: Bounds, service: str) -> None:
        super().__init__(stage, service)
        self.gate: Gate | None = None
        self.last_token = 0
        self.ended: set[str] = set()
        self.outcomes: dict[str, tuple[Status, str]] = {}
        self.rows: dict[str, Execution] = {}
        self.in_history: set[str] = set()
        self.executions: Counter[str] = Counter()
        self.work = Work(self, bounds)
        self.liveness = Liveness(self, self.work, bounds)
        self._bounds = bounds
        self._plans = PlanOracle(self, self.liveness)
        self._record: Record | None = None
        self.latest_clock = 0

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
        kept = self._kept()
        self._record = kept.gate
        self.gate = None if kept.gate is None else gate_from_text(kept.gate.body)
        self.open = None
        self.last_token = 0 if self.gate is None else self.gate.token
        self._plans.forget(kept.plan)

    def end(self) -> None:
        """The play has ended."""
        if self.stage.gated:
            self.liveness.end()
            self._require_history()

    # What processes do ------------------------------------------------------------------------

    def begins(self, part: Part, call: Call) -> None:
        """A function is about to work."""
        self.work.begins(part, call)

    def ends(self, call: Call) -> None:
        """A function has ended."""
        self.work.ends(call)

    def about_to_kill(self, process: Process) -> None:
        """A process is about to be killed."""
        self._bounds.killed(process)

    # After each request -----------------------------------------------------------------------

    def saw(self, part: Part, request: Request, answer: Answer, *, is_heard: bool) -> None:
        """A request was carried out; ``is_heard`` says that its answer can still arrive."""
        if not self.stage.gated:
            return
        self.latest_clock = max(self.latest_clock, self.stage.base + self.stage.now)
        if isinstance(request, Look):
            if isinstance(answer, Seen):
                self._plans.looked(part.process, answer, is_heard=is_heard)
        elif isinstance(request, Append):
            self.in_history.update(entry.id for entry in request.entries)
        elif isinstance(request, Swap):
            self._saw_swap(part.process, request, is_heard=is_heard)
        elif isinstance(request, Purge):
            self._look_at_gate(part.process)

    def _saw_swap(self, process: Process, swap: Swap, *, is_heard: bool) -> None:
        if swap.kind is Kind.PLAN:
            self._plans.changed(self._kept().plan)
            return
        owner = swap.new.owner
        if owner is not None and is_heard and self._is_asked_for_first(owner, process):
            run = gate_from_text(swap.new.body).open
            if run is not None:
                self._plans.require_a_place(process, run)
        self._look_at_gate(process)

    def gate_may_have_changed(self) -> None:
        """An operator has done something."""
        self._look_at_gate(None)

    def _kept(self) -> ServiceReading:
        return self.stage.storage.read(GROUP, (self.service,)).services[self.service]

    def _is_asked_for_first(self, owner: Owner, process: Process) -> bool:
        mine = owner.boot_id == process.boot_id
        known = self.open is not None and self.open.run.run_id == owner.run_id
        return mine and not known and owner.run_id not in self.ended

    # The gate ---------------------------------------------------------------------------------

    def _look_at_gate(self, process: Process | None) -> None:
        kept = self._kept().gate
        if kept == self._record:
            return
        before, gate = self.gate, None if kept is None else gate_from_text(kept.body)
        self._record, self.gate = kept, gate
        now = self.stage.base + self.stage.now
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
            at = self.stage.now
            if gate.pause is not None:
                until = gate.pause.until
                self.paused_spans.add(at, self.stage.end if until is None else at + until - now)
            else:
                self.paused_spans.cut(at)

    def _note_admission(self, run: Run, before: Gate, now: int) -> None:
        owner = next((p for p in self.stage.started if p.boot_id == run.boot_id), None)
        if self.promises_hold:
            self._judge_admission(run, before, now)
        self.last_token = max(run.token, self.last_token)
        if owner is None:
            return  # it has died since it asked, and only a book that is gone could tell
        self.open = OpenRun(run, owner, self.stage.now)
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
        within = self.stage.scenario.settings.start_within
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
        owner, now = opened.owner, self.stage.now
        left = opened.run.slot_end - (self.stage.base + now)
        margin = microseconds(self.stage.scenario.settings.min_run_margin)
        slow = 8 * self.most_latency
        if outcome is None and not owner.stopping and left > margin + slow:
            calm = longest_calm(opened.at, now, owner.trouble, self.stage.trouble)
            # Silence is counted from the look, which may have been long before.
            late = owner.trouble.overlaps(opened.at - self.timeout, opened.at - 1)
            late = late or self.stage.trouble.overlaps(opened.at - self.timeout, opened.at - 1)
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
        """Nobody may bury a run whose owner was well for long enough to confirm it."""
        owner, now = opened.owner, self.stage.now
        left = owner.stopping and not owner.alive
        since = max(opened.at, now - self.timeout)
        if now - opened.at < self.timeout and not left and owner.alive:
            self.say(f"a run of {owner.runner_id} was buried before its heartbeat timeout")
        if owner.alive and self._was_calm_for(owner, since, now):
            self.say(f"runner {owner.runner_id} is well, and lost the run that it is at")

    def _was_calm_for(self, process: Process, since: int, until: int) -> bool:
        """Whether a process was calm for long enough to send a heartbeat and have it answered."""
        enough = 2 * self.interval + 4 * self.most_latency
        return longest_calm(since, until, process.trouble, self.stage.trouble) >= enough

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
        settings = self.stage.scenario.settings
        unsaid = {row.id for row in self.gate.unsaid}
        entries = self.stage.storage.history(GROUP, self.service)
        there = {entry.id for entry in entries}
        # A storage's clock that had jumped ahead lets rows go that would be kept by now.
        kept_since = self.latest_clock - microseconds(settings.retention_age)
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
        return any(each.boot_id == boot_id and each.alive for each in self.stage.started)

    def _judge_lost(self, part: Part) -> None:
        process, now = part.process, self.stage.now
        call = part.call
        since = now - self.timeout if call is None else max(call.began_at, now - self.timeout)
        if self.promises_hold and self._was_calm_for(process, since, now):
            self.say(f"runner {process.runner_id} is well, and lost the turn that it is at")

    def _judge_missed(self, event: PeriodMissed) -> None:
        if event.due in self.served_dues and self.promises_hold:
            self.say(f"the period that is due at {event.due} was called missed, and is served")
