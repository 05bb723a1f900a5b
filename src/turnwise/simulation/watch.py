"""The storage under watch: after each operation, what may never happen is looked for.

1. At most one execution of the service is RUNNING.
2. The end of an execution changes its own row and no other; no RUNNING row disappears.
3. Fencing tokens grow.
4. A runner that is not disturbed never loses its row, nor the run that it is at.
5. Within a cycle everybody sees one stable set.
6. Only a runner of the cycle's list tries the gate, within the window of its own slot.
7. No cycle is served twice.

The other oracles, which need to know what was wrong with whom, are in
:mod:`turnwise.simulation.oracles`.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from turnwise.atomic_service import (
    ActiveRunnerInfo,
    AtomicServiceClaim,
    AtomicServiceExecutionStatus,
    AtomicServiceRun,
)
from turnwise.backends import (
    CYCLE_SERVED,
    NO_MARGIN,
    OWNER_DEAD,
    PRIOR_RUNNING,
    Admission,
    Backend,
    ExecutionRecord,
    Heartbeat,
    Look,
    Participant,
    leaves_cycle_open,
    served_instant,
)
from turnwise.membership import cycle_at
from turnwise.old_settings import Settings
from turnwise.simulation.calm import Disturbances, longest_calm
from turnwise.simulation.processes import NEVER, SERVICE, RunnerProcess
from turnwise.simulation.scenario import Scenario
from turnwise.simulation.violations import Violations
from turnwise.simulation.virtual_time import START, VirtualTime, microseconds
from turnwise.timetable import slot_at

_RUNNING = AtomicServiceExecutionStatus.RUNNING
_COMPLETED = AtomicServiceExecutionStatus.COMPLETED
_REMEMBERED_ENDS = 4
_REMEMBERED_CYCLES = 100
_MICROSECOND = timedelta(microseconds=1)
_LONGEST_BACKOFF = 3_000_000  # microseconds, and some more


@dataclass(slots=True)
class OpenRun:
    """A run that was admitted and has not been seen to end."""

    run_id: str
    owner: RunnerProcess
    serves: datetime | None
    cycle: int
    slot_end: datetime
    admitted_at: int
    orphan: bool


@dataclass(slots=True)
class CycleSeen:
    """What was seen of a cycle: its stable set, its list, and who was refused."""

    size: int
    digest: str
    scheduled: tuple[ActiveRunnerInfo, ...]
    ids: tuple[str, ...] = field(init=False)
    refused: set[str] = field(default_factory=set)
    blocked: set[tuple[str, str]] = field(default_factory=set)
    ended_badly: set[str] = field(default_factory=set)
    completed: int = 0

    def __post_init__(self) -> None:
        self.ids = tuple(runner.runner_id for runner in self.scheduled)


class WatchedStorage:
    """A backend whose every operation is watched. ``asking`` is the process that asks.

    ``stamp`` is the instant that a late write bears, None for the present one; ``detached``
    says that who asked has given up waiting for the answer.
    """

    def __init__(
        self,
        time: VirtualTime,
        scenario: Scenario,
        violations: Violations,
    ) -> None:
        self._time = time
        self._settings = settings = scenario.settings
        self._say = violations.add
        self._gated = scenario.clock == "storage"
        self._timeout = microseconds(settings.heartbeat_timeout)
        self._answered_within = _LONGEST_BACKOFF + 4 * microseconds(scenario.latency.most)
        self.backend: Backend
        self.asking: RunnerProcess | None = None
        self.stamp: int | None = None
        self.detached = False
        self.disturbances = Disturbances()
        self.open: dict[str, OpenRun] = {}
        self.cycles: dict[int, CycleSeen] = {}
        self.executions: Counter[str] = Counter()
        self.disagreements: set[int] = set()  # a late write crossed into, or out of, them
        self._ended: deque[ExecutionRecord] = deque(maxlen=_REMEMBERED_ENDS)
        self._served: dict[datetime, str] = {}
        self._last_token = 0
        self._touched: set[str] = (
            set()
        )  # rows that a late request has changed, of whichever process

    def clock(self) -> datetime:
        """The storage's clock: the true one; with local clocks, that of whoever asks."""
        at = self._time.now if self.stamp is None else self.stamp
        if not self._gated and self.asking is not None:
            at += self.asking.skew
        return START + timedelta(0, 0, at)

    def cycle_number(self, at: int) -> int:
        """The number of the cycle of an instant."""
        return cycle_at(START + timedelta(0, 0, at), self._settings.interval).number

    def publish_settings(self, service: str, settings: Settings) -> Settings | None:
        """See :class:`turnwise.backends.Backend`."""
        return self.backend.publish_settings(service, settings)

    def execution(self, service: str, run_id: str) -> ExecutionRecord | None:
        """See :class:`turnwise.backends.Backend`."""
        return self.backend.execution(service, run_id)

    def heartbeat(
        self,
        process: RunnerProcess,
        service: str,
        who: Participant,
        settings: Settings,
        run_id: str | None,
    ) -> Heartbeat:
        """See :class:`turnwise.backends.Backend`."""
        answer = self.backend.heartbeat(service, who, settings, run_id)
        self._after_beat(process, who, answer.previous_boot_id, None)
        return answer

    def look(
        self, process: RunnerProcess, service: str, who: Participant, settings: Settings
    ) -> Look:
        """See :class:`turnwise.backends.Backend`."""
        look = self.backend.look(service, who, settings)
        self._after_beat(process, who, look.previous_boot_id, look.joined_at)
        if self._gated:
            self._compare_with_other_looks(look)
        if not self.detached:
            process.last_look = look
        return look

    def leave(self, process: RunnerProcess, service: str, who: Participant) -> None:
        """See :class:`turnwise.backends.Backend`."""
        self.backend.leave(service, who)
        self._note_crossing(had_a_row=True)
        process.last_beat = -NEVER

    def block(
        self, process: RunnerProcess, service: str, claim: AtomicServiceClaim, look: Look
    ) -> None:
        """See :class:`turnwise.backends.Backend`."""
        self.backend.block(service, claim, look)
        self._count_blocked(process.runner_id, str(claim.reason), str(claim.reason), look)

    def admit(
        self,
        process: RunnerProcess,
        service: str,
        run: AtomicServiceRun,
        settings: Settings,
        look: Look,
    ) -> Admission:
        """See :class:`turnwise.backends.Backend`."""
        if self._gated and process.last_look is not None and not self.detached:
            # What the storage told it, whatever it has made of that.
            self._require_a_place_in_the_list(process, run, process.last_look)
        admission = self.backend.admit(service, run, settings, look)
        self._notice_ends()
        if admission.fencing_token is None:
            self._note_refusal(process, admission.refusal, look)
        else:
            self._note_admission(process, run, admission.fencing_token, look)
        return admission

    def finish(
        self,
        process: RunnerProcess,
        service: str,
        run_id: str,
        status: AtomicServiceExecutionStatus,
        reason: str,
        settings: Settings,
    ) -> ExecutionRecord | None:
        """See :class:`turnwise.backends.Backend`."""
        before = self._others(run_id)
        record = self.backend.finish(service, run_id, status, reason, settings)
        for other_id, other in before.items():
            self._require_untouched(other_id, other, f"the end of a run of {process.runner_id}")
        self._notice_ends(closed=record)
        return record

    def _after_beat(
        self,
        process: RunnerProcess,
        who: Participant,
        previous_boot_id: str | None,
        joined_at: datetime | None,
    ) -> None:
        now = self._time.now if self.stamp is None else self.stamp
        if self.detached:
            self._touched.add(process.runner_id)
            return
        # By the true time: a late write bears an instant at which its row was still there.
        known = self._time.now - process.last_beat <= self._timeout and self._gated
        if process.runner_id in self._touched:
            self._touched.remove(process.runner_id)
            known = False
        if known and previous_boot_id != who.boot_id:
            what = "another process has" if previous_boot_id else "nobody has"
            self._say(f"runner {process.runner_id} is alive, and {what} its row")
        if joined_at is not None:
            joined = microseconds(joined_at - START)
            if known and process.joined_at not in (None, joined):
                self._say(f"runner {process.runner_id} is alive, and lost its place in the set")
            process.joined_at = joined
        elif not known:
            process.joined_at = None  # it may have joined anew, and will see so with its next look
        self._note_crossing(had_a_row=previous_boot_id is not None)
        process.last_beat = now

    def _note_crossing(self, *, had_a_row: bool) -> None:
        """A write that is seen in a later cycle than it bears: the margin covers joins alone."""
        if self.stamp is None:
            return
        before, after = self.cycle_number(self.stamp), self.cycle_number(self._time.now)
        if before != after:
            self.disagreements.update((before, after) if had_a_row else (before,))

    def _compare_with_other_looks(self, look: Look) -> None:
        number = look.cycle.number
        seen = self.cycles.get(number)
        if seen is None:
            self.cycles[number] = CycleSeen(look.size, look.digest, look.scheduled)
            self.cycles.pop(number - _REMEMBERED_CYCLES, None)
        elif (seen.digest != look.digest or seen.size != look.size) and (
            number not in self.disagreements
        ):
            self._say(f"two looks in cycle {number} saw different stable sets")

    def _require_a_place_in_the_list(
        self, process: RunnerProcess, run: AtomicServiceRun, look: Look
    ) -> None:
        seen = self.cycles.get(look.cycle.number)
        if seen is None or look.cycle.number in self.disagreements:
            return
        if process.runner_id not in seen.ids:
            self._say(f"runner {process.runner_id} tried the gate and is not in the cycle's list")
            return
        position = seen.ids.index(process.runner_id)
        slot = slot_at(position, len(seen.ids), process.runner_id, look.cycle.start, self._settings)
        latest = slot.latest_start(self._settings.max_start_slot_fraction)
        own = (slot.start, slot.end) == (run.slot_start, run.slot_end)
        if not own or not slot.start <= look.now <= latest + _MICROSECOND:
            self._say(f"runner {process.runner_id} was cleared to start outside its own slot")

    def _note_admission(
        self, process: RunnerProcess, run: AtomicServiceRun, token: int, look: Look
    ) -> None:
        now = self._time.now
        serves = served_instant(run, self._settings)
        if self._gated:
            if token <= self._last_token:
                self._say(f"fencing token {token} was handed out after {self._last_token}")
            if self.open:
                self._say(f"a run of {process.runner_id} was admitted while another is open")
            # One that comes after its cycle may find that purged; it must not begin.
            if serves in self._served and self.cycle_number(now) == look.cycle.number:
                self._say(f"a run of {process.runner_id} was admitted to a cycle that is served")
        self._last_token = max(token, self._last_token)
        run_id = run.atomic_service_id.atomic_service_run_id
        self.open[run_id] = OpenRun(
            run_id,
            process,
            serves,
            look.cycle.number,
            run.slot_end or look.cycle.end,
            now,
            orphan=self.detached,
        )

    def _note_refusal(self, process: RunnerProcess, refusal: str, look: Look) -> None:
        seen = self.cycles.get(look.cycle.number)
        # A run that failed may count as served: then its row says why the cycle is missed.
        if seen is not None and (refusal != CYCLE_SERVED or seen.ended_badly):
            seen.refused.add(process.runner_id)
        kind, _, _ = refusal.partition(":")
        if kind == PRIOR_RUNNING:
            self._count_blocked(process.runner_id, refusal, kind, look)

    def _count_blocked(self, runner_id: str, reason: str, kind: str, look: Look) -> None:
        seen = self.cycles.setdefault(look.cycle.number, CycleSeen(look.size, look.digest, ()))
        seen.refused.add(runner_id)
        if (runner_id, reason) not in seen.blocked:
            seen.blocked.add((runner_id, reason))
            self.executions[f"blocked:{kind}"] += 1

    def _others(self, run_id: str) -> dict[str, ExecutionRecord]:
        """The rows that the end of a run must not change."""
        rows = {record.run_id: record for record in self._ended if record.run_id != run_id}
        for other in self.open:
            record = self.backend.execution(SERVICE, other) if other != run_id else None
            if record is not None:
                rows[other] = record
        return rows

    def _require_untouched(self, run_id: str, before: ExecutionRecord, what: str) -> None:
        after = self.backend.execution(SERVICE, run_id)
        purged = after is None and before.status is not _RUNNING
        if after != before and not purged:
            self._say(f"{what} changed the row of another run")

    def _notice_ends(self, closed: ExecutionRecord | None = None) -> None:
        """Look after the open runs; ``closed`` may have been purged as soon as it was."""
        for run in list(self.open.values()):
            if closed is not None and run.run_id == closed.run_id:
                record: ExecutionRecord | None = closed
            else:
                record = self.backend.execution(SERVICE, run.run_id)
            if record is not None and record.status is _RUNNING:
                continue
            del self.open[run.run_id]
            if record is None:
                self._say(f"the row of a run of {run.owner.runner_id} has disappeared")
            else:
                self._note_end(run, record)

    def _note_end(self, run: OpenRun, record: ExecutionRecord) -> None:
        self._ended.append(record)
        self.executions[f"{record.status}:{record.reason}".rstrip(":")] += 1
        if self._gated and record.reason == OWNER_DEAD:
            self._require_a_dead_owner(run, record)
        seen = self.cycles.get(run.cycle)
        if record.status is not _COMPLETED and seen is not None:
            seen.ended_badly.add(record.runner_id)
        if not leaves_cycle_open(record.status, record.reason, self._settings):
            self._note_served(run, record)
        elif record.reason == NO_MARGIN and seen is not None:
            seen.refused.add(record.runner_id)

    def _note_served(self, run: OpenRun, record: ExecutionRecord) -> None:
        seen = self.cycles.get(run.cycle)
        if record.status is _COMPLETED and seen is not None:
            seen.completed += 1
        if run.serves is None or not self._gated:
            return
        if run.serves in self._served:
            self._say(f"the cycle of {run.serves.isoformat()} was served twice")
        self._served[run.serves] = run.run_id
        if len(self._served) > 2 * _REMEMBERED_CYCLES:
            del self._served[next(iter(self._served))]

    def _require_a_dead_owner(self, run: OpenRun, record: ExecutionRecord) -> None:
        """Whoever was well has kept its run alive or closed it.

        Who was not at all times must have done so when it was: while it is at work it sends
        heartbeats; before it has begun it asks what became of its admission, until its slot
        ends. Closing is given up after the timeout.
        """
        owner, now, kept = run.owner, self._time.now, microseconds(record.last_heartbeat - START)
        if run.orphan or not owner.alive or owner.stopping:
            return
        if owner.begun != run.run_id and kept <= run.admitted_at:
            until, enough = min(now, microseconds(run.slot_end - START)), self._answered_within
        elif owner.turn is not None and owner.begun == run.run_id:
            until, enough = now, max(self._timeout // 2, self._answered_within)
        else:
            until, enough = now, now - kept
        if longest_calm(kept, until, owner.disturbances, self.disturbances) >= enough:
            self._say(f"runner {owner.runner_id} is well, and lost the run that it is at")
