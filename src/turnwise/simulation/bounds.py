"""What the review promises, held against what happens: never more, and how near it comes.

A bound is looked at where a scenario gives it what it assumes; messages take no time, and it
begins when every runner counts.

===========================  ============================================================
bound of the review          looked at where
===========================  ============================================================
``gap_without_fault``        nothing goes wrong, and turns end within their slots; then each
                             period starts as it is due, too
``heartbeats_per_cycle``,    the same, from the margin before a cycle to that of the next
``looks_per_cycle``,
``statements_per_cycle``
``gap_with_one_dead``,       one runner is killed, is restarted or leaves, once and while
``takeover``                 it is idle, and turns end within their slots
``gap_after_kill``           the same, in its turn, which may be of any length
``first_slot_delay``         runners come, go and are killed, and whoever counts has a slot
``overlap_excluded_by_time`` ``clock="local"``, and now and then the storage is away, so
                             briefly that nobody counts as dead
===========================  ============================================================
"""

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Final

from turnwise.cycles import microseconds
from turnwise.gate import Run
from turnwise.plan import CyclePlan
from turnwise.review import Review, review
from turnwise.simulation.process import Process
from turnwise.simulation.scenario import NOTHING, FaultKind, Scenario
from turnwise.simulation.stage import Stage

_COME_AND_GO: Final = {
    FaultKind.CRASH,
    FaultKind.RESTART,
    FaultKind.LEAVE,
    FaultKind.JOIN,
    FaultKind.DEPLOY,
    FaultKind.OVERRUN,
    FaultKind.FAILURE,
}
_ONE_GONE: Final = {FaultKind.CRASH, FaultKind.RESTART, FaultKind.LEAVE, FaultKind.KILL_IN_TURN}
_COUNTS: Final = frozenset({"heartbeats_per_cycle", "looks_per_cycle", "statements_per_cycle"})
_ROUNDING: Final = (
    5  # microseconds: the edges of slots, a wait, and the first instant of being dead
)


def all_count_from(scenario: Scenario) -> timedelta:
    """From when on every runner counts, and may start, where nothing goes wrong before."""
    settings = scenario.settings
    counts = review(settings, runners=scenario.runners).first_slot_delay
    joined = scenario.starts_within + scenario.clock_skew
    return joined + max(counts, settings.membership_stabilization)


class Bounds:
    """Watches one play. ``shares`` are the largest parts of each bound that were reached.

    ``failovers`` are the times from a kill within a turn to the next start.
    """

    def __init__(self, stage: Stage) -> None:
        scenario = stage.scenario
        self.shares: dict[str, float] = {}
        self.failovers: list[int] = []
        self.review: Review = review(
            scenario.settings,
            runners=scenario.runners,
            longest_run=scenario.job.most,
            clock_skew=scenario.clock_skew,
        )
        self._stage, self._scenario = stage, scenario
        self._from = microseconds(all_count_from(scenario))
        self._fits = bool(self.review.overlap_excluded_by_time)
        kinds = {fault.kind for fault in scenario.faults}
        kinds |= {incident.kind for incident in scenario.incidents}
        shipped = scenario.latency == NOTHING and stage.gated and scenario.services == 1
        self._calm = shipped and not kinds and self._fits
        self._one_gone = shipped and self._is_one_gone()
        one_cycle = self.review.gap_without_fault in (self.review.cycle, self.review.slot)
        self._come_and_go = shipped and kinds <= _COME_AND_GO and one_cycle
        self.slots_alone = not stage.gated and self._fits and self._is_away_briefly()
        self._counted: set[str] = set()
        self._asked = (0, 0, 0)
        self._killed_at: int | None = None
        self._in_turn = False

    # What happens -----------------------------------------------------------------------------

    def killed(self, process: Process) -> None:
        """A process is about to be killed: where it is in its turn, somebody must take over."""
        if process.is_at_work and self._killed_at is None:
            self._killed_at, self._in_turn = self._stage.now, True

    def started(self, run: Run) -> None:
        """A turn has begun."""
        now = self._stage.now
        if self._killed_at is not None:
            self.failovers.append(now - self._killed_at)
            self._killed_at = None
        if now < self._from or run.key is None or self._scenario.settings.runs != "once":
            return
        late = self._stage.base + now - run.due
        if self._calm and late > _ROUNDING:
            self._stage.say(f"a period started {late:,} microseconds after it was due")
        if self._one_gone and self._fits and not self._in_turn:
            self._reach_time("takeover", late)

    def planned(self, cycle: CyclePlan) -> None:
        """A cycle was planned: who counts in it, and who does not?"""
        if not self._come_and_go:
            return
        # Once somebody has counted without a slot, nobody can tell who counts.
        self._come_and_go = len(cycle.runners) == cycle.size
        if self._come_and_go:
            self._look_for_newcomers(cycle)

    def begin(self) -> None:
        """Count what is asked in each cycle, from the margin before it to that of the next."""
        if self._calm:
            first = microseconds(self.review.cycle - self._scenario.settings.spread_margin)
            offset = self._stage.base % microseconds(self.review.cycle)
            self._stage.at(first - offset, self._count, first - offset, changes=False)

    def _count(self, at: int) -> None:
        self._stage.rest.count(at)
        asked = self._stage.asked
        looks, beats = asked["Look"], asked["Beat"]
        total = looks, beats, sum(asked.values()) - looks - beats - asked["Purge"]
        looked, beaten, stated = (n - m for n, m in zip(total, self._asked, strict=True))
        self._asked = total
        cycle = microseconds(self.review.cycle)
        if at - cycle >= self._from:
            self._reach("looks_per_cycle", looked, self.review.looks_per_cycle)
            self._reach("heartbeats_per_cycle", beaten, self.review.heartbeats_per_cycle)
            self._reach("statements_per_cycle", stated, self.review.statements_per_cycle)
        self._stage.at(at + cycle, self._count, at + cycle, changes=False)

    def ended(self, run: Run) -> None:
        """How near a turn comes to the next slot, on the clock that is the furthest ahead."""
        if self.slots_alone and self._stage.now >= self._from:
            skew = microseconds(self._scenario.clock_skew)
            took = self._stage.base + self._stage.now + skew - run.slot_start
            longest = self.review.window + self._scenario.job.most + self._scenario.clock_skew
            self._reach("overlap_excluded_by_time", took, microseconds(longest))

    def overlapped(self, other: Process) -> None:
        """A turn has begun while that of another runner is at work."""
        if self.slots_alone and self._stage.now >= self._from:
            self._stage.say(
                f"a turn overlaps that of {other.runner_id}, which time alone was to exclude"
            )

    def end(self, starts: Sequence[int]) -> None:
        """The play has ended, in which turns started at these times."""
        instants = [self._from, *starts, self._stage.now]
        known = [at for at in instants if at >= self._from]
        gaps = [later - earlier for earlier, later in pairwise(known)]
        waiting = [] if self._killed_at is None else [self._stage.now - self._killed_at]
        if self._calm and gaps:
            self._reach_time("gap_without_fault", max(gaps))
        if self._one_gone and self._in_turn:
            self._reach_time("gap_after_kill", max([*self.failovers, *waiting]))
        elif self._one_gone and self._fits and gaps:
            self._reach_time("gap_with_one_dead", max(gaps))

    # Scenarios --------------------------------------------------------------------------------

    def _is_one_gone(self) -> bool:
        scenario, settings = self._scenario, self._scenario.settings
        if scenario.faults or len(scenario.incidents) != 1 or scenario.runners == 1:
            return False
        if settings.membership_stabilization or settings.start_within or settings.timeout:
            return False  # nobody starts in the place of a newcomer; or an attempt ends early
        [incident] = scenario.incidents
        more = review(settings, runners=scenario.runners + 1)
        return (
            incident.kind in _ONE_GONE
            and all_count_from(scenario) <= incident.at < scenario.heals_at
            and more.gap_without_fault is not None
        )

    def _is_away_briefly(self) -> bool:
        scenario, timeout = self._scenario, self._scenario.settings.heartbeat_timeout
        incidents = sorted(scenario.incidents, key=lambda incident: incident.at)
        brief = all(
            incident.kind is FaultKind.OUTAGE and incident.lasts <= timeout / 4
            for incident in incidents
        )
        # On the clock that is the furthest ahead, who is the furthest behind seems silent.
        brief = brief and scenario.clock_skew <= timeout / 8
        apart = all(later.at - earlier.at >= 2 * timeout for earlier, later in pairwise(incidents))
        return brief and apart and not scenario.faults and scenario.latency == NOTHING

    def _look_for_newcomers(self, cycle: CyclePlan) -> None:
        promised = microseconds(self.review.first_slot_delay)
        start = cycle.start - self._stage.base
        listed = {name for name, _ in cycle.runners}
        for process in self._stage.started:
            if process.joined_at is None or process.stopping or not process.alive:
                continue
            waits = max(0, start - process.joined_at)
            if process.runner_id not in listed:
                if waits > promised:
                    self._reach("first_slot_delay", waits, promised)
            elif process.boot_id not in self._counted:
                self._counted.add(process.boot_id)
                self._reach("first_slot_delay", waits, promised)

    def _reach_time(self, bound: str, value: int) -> None:
        promised: timedelta | None = getattr(self.review, bound)
        if promised is not None:
            self._reach(bound, value, microseconds(promised))

    def _reach(self, bound: str, value: int, promised: int) -> None:
        self.shares[bound] = max(self.shares.get(bound, 0.0), value / promised)
        if value > promised + (0 if bound in _COUNTS else _ROUNDING):
            self._stage.say(f"{bound} is {promised:,} at most, and was {value:,}")
