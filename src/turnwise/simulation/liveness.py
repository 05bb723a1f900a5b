"""A verdict on each period: it takes knowing what was wrong with which process, and when.

1. A period that nobody served was missed for a cause. It is a violation where there was none:

   - where a runner of its plan was well, and no run was in its way while it could have started;
   - where nobody had planned the period, and a runner was well;
   - where within the period all was well with everybody for as long as a takeover may take.
2. After the last fault has healed the service starts within the promised bound.
3. Nothing stays open.
"""

from collections import Counter
from datetime import timedelta

from turnwise.atomic_service import AtomicServiceDecisionReason as Reason
from turnwise.cycles import instant, microseconds
from turnwise.gate import Run
from turnwise.plan import CyclePlan, Planner
from turnwise.settings import Settings
from turnwise.simulation.books import Books
from turnwise.simulation.bounds import Bounds
from turnwise.simulation.process import Call, Process
from turnwise.simulation.slots import slot_of
from turnwise.simulation.trouble import Trouble, longest_calm
from turnwise.simulation.work import Work
from turnwise.simulation.world import NEVER

_KEPT_PLANS = 64


class Liveness:
    """The verdicts on one service. See the module."""

    def __init__(self, books: Books, work: Work, bounds: Bounds) -> None:
        scenario = books.stage.scenario
        settings = scenario.settings
        self._books, self._stage, self._work, self._bounds = books, books.stage, work, bounds
        self._settings = settings
        self.planner = Planner.of(books.service, settings)
        self._epoch = books.stage.base  # the storage's clock at the start
        self.cycle = self.planner.cycle
        slots = settings.slots(scenario.runners)
        slot, margin = self.cycle // slots, self.planner.rules.margin
        interval = books.interval
        grace = self.planner.rules.stabilization
        self.bound = interval + max(
            interval + self.cycle + margin + grace, books.timeout + 3 * slot
        )
        self._slack = 2 * interval + 1_000_000 + 8 * books.most_latency
        self._messages_fit = messages_fit(scenario.runners, settings, scenario.latency.most)
        self.served = self.missed = self.cycles = 0
        self.causes: Counter[str] = Counter()
        self.missed_dues: dict[int, str] = {}
        self._still_open: list[tuple[int, int]] = []
        self._plans: dict[int, list[CyclePlan]] = {}
        self._planned_at: dict[CyclePlan, int] = {}
        self._open_spans = Trouble()
        self._used: set[tuple[str, int]] = set()
        self._in_grace: set[int] = set()
        self._busy_until = 0
        self._busy_with: list[Call] = []

    # What happens -----------------------------------------------------------------------------

    def note_plan(self, cycle: CyclePlan) -> None:
        """A cycle is planned."""
        self._bounds.planned(cycle)
        plans = self._plans.setdefault(cycle.due, [])
        if cycle not in plans:
            plans.append(cycle)
            self._planned_at[cycle] = self._epoch + self._stage.now
        if len(self._plans) > _KEPT_PLANS:
            for old in self._plans.pop(next(iter(self._plans))):
                del self._planned_at[old]

    def opened(self, run: Run) -> None:
        """A run is open. A runner serves once in a slot, whatever the clock does then."""
        self._used.add((run.runner_id, run.slot_start))
        self._open_spans.add(self._stage.now, NEVER)

    def closed(self) -> None:
        """A run was closed."""
        self._open_spans.cut(self._stage.now)

    def refused(self, due: int, reason: str) -> None:
        """A runner could not start in its slot."""
        if reason == Reason.SCHEDULED_RUNNER_IN_GRACE.value:
            self._in_grace.add(due)

    def healed(self) -> None:
        """Nothing goes wrong any more; who is at work may be so for long."""
        self._busy_with = list(self._work.working)
        self._busy_until = self._stage.now

    # Periods ----------------------------------------------------------------------------------

    def plan_periods(self) -> None:
        """Look at each period when it has ended."""
        period = self.planner.schedule.period_at(instant(self._epoch))
        self._plan_period((microseconds(period.due), microseconds(period.until)))

    def _plan_period(self, period: tuple[int, int]) -> None:
        self._stage.at(period[1] - self._epoch, self._period_ended, period, changes=False)

    def _period_ended(self, period: tuple[int, int]) -> None:
        due, until = period
        self._count_what_was_open()
        born = self._books.born_at
        if born is not None and born <= due and self._stage.gated:
            self.cycles += -(-(until - due) // self.cycle)
            self._give_verdict(due, until)
        following = self.planner.schedule.period_at(instant(until))
        self._plan_period((until, microseconds(following.until)))

    def _give_verdict(self, due: int, until: int) -> None:
        run = self._books.open
        if due in self._books.served_dues:
            self.served += 1
        elif run is not None and run.run.due == due:
            self._still_open.append((due, until))
        else:
            self.missed += 1
            cause = self._cause(due, until)
            self.causes[cause] += 1
            self.missed_dues[due] = cause

    def _count_what_was_open(self) -> None:
        """Periods whose turn went on after their end, and has ended since."""
        run = self._books.open
        ended = [each for each in self._still_open if run is None or run.run.due != each[0]]
        for due, until in ended:
            self._still_open.remove((due, until))
            if due in self._books.served_dues:
                self.served += 1
            else:
                self.missed += 1
                self.causes["ended_badly"] += 1
                self.missed_dues[due] = "ended_badly"

    def _cause(self, due: int, until: int) -> str:  # noqa: C901, PLR0911, PLR0912 (a cause each)
        """Why a period was missed, in a word; where there is no cause, it is a violation."""
        books, start, end = self._books, due - self._epoch, until - self._epoch
        if not books.promises_hold:
            return "forgotten"
        if books.attempts[due] >= books.attempts_allowed:
            return "attempts_used"
        if books.paused_spans.overlaps(start, end):
            return "paused"
        if self._messages_fit:
            self._require_that_nobody_could(due, start, end)
        if books.attempts[due]:
            return "failed"
        if self._open_spans.overlaps(start, end):
            return "prior_running"
        if due in self._in_grace:
            return "in_grace"
        if books.paused_spans.overlaps(start - books.interval, start):
            return "paused"  # that it is resumed is told within a heartbeat
        if any(each.overlaps(start - self._slack, end) for each in self._troubles()):
            return "disturbed"
        lead = self.cycle + self.planner.rules.margin + self._slack
        well = [p for p in self._stage.started if self._books.is_well(p, start - lead)]
        if not any(self._was_idle(process, start - lead) for process in well):
            return "all_at_work" if well else "nobody_there"
        plans = [c for c in self._plans.get(due, ()) if self._planned_at[c] < c.start]
        listed = {name for cycle in plans for name, _ in cycle.runners}
        if listed and not listed & {process.runner_id for process in well}:
            return "disturbed"  # it has died since, or before it was silent for long enough
        busy = {p.runner_id for p in well if not self._was_idle(p, start - lead)}
        if listed and listed <= busy:
            return "all_at_work"
        if self._messages_take_too_long(due):
            return "slow_messages"
        books.say(f"the period that is due at {due} was missed, and nothing was wrong")
        return "no_cause"

    def _messages_take_too_long(self, due: int) -> bool:
        """Whether the windows of a period's plans leave too little for a few messages."""
        windows = [
            min(latest, cycle.not_after) - start
            for cycle in self._plans.get(due, ())
            for start, latest, _ in (slot_of(cycle, i) for i in range(len(cycle.runners)))
        ]
        return not windows or min(windows) < 8 * self._books.most_latency

    def _troubles(self) -> list[Trouble]:
        return [self._stage.trouble, *(process.trouble for process in self._stage.started)]

    def _require_that_nobody_could(self, due: int, start: int, end: int) -> None:
        plans = self._plans.get(due, [])
        for cycle in plans:
            self._require_nobody_of_plan_could(cycle)
        lead = self.cycle + self.planner.rules.margin + self._slack
        for process in () if plans else self._stage.started:
            if self._was_idle(process, start - lead) and not self._open_spans.overlaps(
                start - lead, end
            ):
                self._books.say(
                    f"the period that is due at {due} was missed and never planned, and "
                    f"{process.runner_id} was well"
                )
        within = self.planner.rules.start_within
        last = end if within is None else min(end, start + within)
        calm = longest_calm(start, last, *self._troubles(), self._open_spans)
        someone = any(
            process.alive and process.joined_at is not None and process.joined_at < last - calm
            for process in self._stage.started
        )
        if calm > self.bound and someone:
            self._books.say(
                f"the period that is due at {due} was missed, and all was well for {calm / 1e6:g} s"
            )

    def _require_nobody_of_plan_could(self, cycle: CyclePlan) -> None:
        if cycle.rules.stabilization:
            return
        since = cycle.start - self._epoch - self._slack
        for i, (runner_id, _) in enumerate(cycle.runners):
            start, latest, _ = slot_of(cycle, i)
            if (runner_id, start) in self._used:
                continue
            known = self._planned_at[cycle]
            # What has changed is told by the revision, within a heartbeat.
            if known > cycle.start - 1:
                start = max(start, known + self._books.interval)
            start = max(start, self._resumed_before(latest) + self._books.interval)
            if latest - start < 8 * self._books.most_latency or latest > cycle.not_after:
                continue
            in_the_way = self._open_spans.overlaps(start - self._epoch, latest - self._epoch)
            for process in self._stage.started:
                well = process.runner_id == runner_id and self._was_idle(process, since)
                if well and not in_the_way:
                    self._books.say(
                        f"the period that is due at {cycle.due} was missed, and {runner_id}, "
                        "which is in its plan, was well"
                    )

    def _resumed_before(self, at: int) -> int:
        """When the last pause ended that had ended by an instant, on the storage's clock."""
        ends = [self._epoch + end for _, end in self._books.paused_spans.spans()]
        return max((end for end in ends if end <= at), default=0)

    def _was_idle(self, process: Process, since: int) -> bool:
        at_work = process.is_at_work or process.idle_since >= since
        return self._books.is_well(process, since) and not at_work

    # The end ----------------------------------------------------------------------------------

    def end(self) -> None:
        """The play has ended: has the service come back, and is all closed?"""
        if self._stage.now > self._stage.heals_at and self._messages_fit:
            self._require_that_it_came_back()
            self._require_that_nothing_stays_open()

    def _require_that_it_came_back(self) -> None:
        books = self._books
        if any(call in self._work.working for call in self._busy_with):
            return
        # What was served, or tried in vain, while the clock was ahead is not served again.
        over = [*books.served_dues, *books.attempts]
        ahead = max([0, *(due - self._epoch for due in over)])
        ready = max(self._stage.heals_at, self.busy_until, ahead) + self.bound
        period = self.planner.schedule.period_at(instant(self._epoch + ready))
        due = max(ready, microseconds(period.until) - self._epoch) + self._slack
        if due > self._stage.end or not any(process.alive for process in self._stage.started):
            return
        if not any(self._stage.heals_at <= start <= due for start in self._work.starts):
            books.say(
                f"nothing has started within {(due - self._stage.heals_at) / 1e6:g} s after the "
                "last fault"
            )

    @property
    def busy_until(self) -> int:
        """When the turns ended that were at work as all had healed."""
        ended = [call.ended_at for call in self._busy_with if call.ended_at is not None]
        return max([self._busy_until, *ended])

    def _require_that_nothing_stays_open(self) -> None:
        """A run that nobody is at is closed, after the timeout and a cycle."""
        run = self._books.open
        if run is None:
            return
        longest = self._books.timeout + 2 * self.cycle + self._slack
        at_work = any(
            call.turn.run.run_id == run.run.run_id and part.process.alive
            for call, part in self._work.working.items()
        )
        since = max(run.at, self._stage.heals_at, run.owner.idle_since)
        if not at_work and self._stage.now - since > longest:
            self._books.say(f"a run of {run.run.runner_id} stays open")


def messages_fit(runners: int, settings: Settings, latency: timedelta) -> bool:
    """Whether four rounds of messages fit the part of a slot in which a turn may start.

    What is promised leaves out the time of messages: where they take longer, nobody may start.
    """
    # A runner more for each that may join.
    slots = settings.slots(2 * runners)
    slot = settings.shortest_cycle / slots - (settings.spread_margin if slots > 1 else timedelta(0))
    within = settings.start_within
    fits_the_period = within is None or 8 * latency <= within
    return fits_the_period and 8 * latency <= slot * settings.max_start_slot_fraction
