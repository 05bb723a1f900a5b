"""What the review promises, held against what happens: never more, and how near it comes.

A bound is looked at where a scenario gives it what it assumes; messages take no time, and it
begins when every runner counts.

===========================  ============================================================
bound of the review          looked at where
===========================  ============================================================
``gap_without_fault``        nothing goes wrong, and turns end within their slots
``rounds_per_cycle``         the same
``gap_with_one_dead``        one runner is killed, is restarted or leaves, once and while
                             it is idle, and turns end within their slots
``gap_after_kill``           the same, in its turn, which may be of any length
``first_slot_delay``         runners come, go and are killed, and whoever counts has a slot
``overlap_excluded_by_time`` ``clock="local"``, and now and then the storage is away, so
                             briefly that nobody counts as dead
===========================  ============================================================
"""

from collections.abc import Iterable
from datetime import timedelta
from itertools import pairwise

from turnwise.old_turn import Turn
from turnwise.simulation.processes import RunnerProcess
from turnwise.simulation.scenario import NOTHING, FaultKind, Scenario
from turnwise.simulation.violations import Violations
from turnwise.simulation.virtual_time import START, VirtualTime, microseconds
from turnwise.simulation.watch import CycleSeen
from turnwise.simulation.work import Work

LONGEST_START = timedelta(minutes=1)
"""Runners start within so long, or within an interval where that is shorter."""

_COME_AND_GO = {
    FaultKind.CRASH,
    FaultKind.RESTART,
    FaultKind.LEAVE,
    FaultKind.JOIN,
    FaultKind.DEPLOY,
    FaultKind.OVERRUN,
    FaultKind.FAILURE,
}
_ONE_GONE = {FaultKind.CRASH, FaultKind.RESTART, FaultKind.LEAVE}
_ROUNDING = 5  # microseconds: the edges of slots, a wait, and the first instant of being dead


def all_count_from(scenario: Scenario) -> timedelta:
    """From when on every runner counts, and may start, where nothing goes wrong before."""
    settings = scenario.settings
    joined = min(settings.interval, LONGEST_START) + scenario.clock_skew
    grace = settings.membership_stabilization
    return joined + max(settings.interval + settings.spread_margin, grace)


class Bounds:
    """Watches one scenario. ``shares`` are the largest parts of each bound that were reached."""

    def __init__(self, time: VirtualTime, scenario: Scenario, violations: Violations) -> None:
        self.shares: dict[str, float] = {}
        self._time = time
        self._scenario = scenario
        self._say = violations.add
        self._from = microseconds(all_count_from(scenario))
        self._review = scenario.settings.review(
            runners=scenario.runners,
            longest_run=scenario.job.most,
            clock_skew=scenario.clock_skew,
        )
        self._fits = bool(self._review.overlap_excluded_by_time)
        kinds = {fault.kind for fault in scenario.faults}
        kinds |= {incident.kind for incident in scenario.incidents}
        shipped = scenario.latency == NOTHING and scenario.clock == "storage"
        self._calm = shipped and not kinds and self._fits
        self._one_gone = shipped and self._is_one_gone()
        self._come_and_go = shipped and kinds <= _COME_AND_GO
        self.slots_alone = scenario.clock == "local" and self._fits and self._is_away_briefly()
        self._counted: set[tuple[str, int]] = set()
        self._rounds = 0

    def cycle_ended(
        self, start: int, seen: CycleSeen | None, processes: Iterable[RunnerProcess], rounds: int
    ) -> None:
        """A cycle has ended; ``rounds`` is how many there were until now."""
        if self._calm and start >= self._from:
            self._reach("rounds_per_cycle", rounds - self._rounds, self._review.rounds_per_cycle)
        self._rounds = rounds
        if self._come_and_go and seen is not None:
            # Once somebody has counted without a slot, nobody can tell who counts.
            self._come_and_go = len(seen.ids) == seen.size
            if self._come_and_go:
                self._look_for_newcomers(start, seen, processes)

    def turn_ended(self, turn: Turn) -> None:
        """How near a turn comes to the next slot, on the clock that is the furthest ahead."""
        if self.slots_alone and turn.run.slot_start is not None and self._time.now >= self._from:
            ahead = microseconds(self._scenario.clock_skew)
            begun = microseconds(turn.run.slot_start - START)
            review = self._review
            longest = review.window + self._scenario.job.most + self._scenario.clock_skew
            self._reach(
                "overlap_excluded_by_time", self._time.now + ahead - begun, microseconds(longest)
            )

    def overlapped(self, other: RunnerProcess) -> None:
        """A turn has begun while that of another runner is at work."""
        if self.slots_alone and self._time.now >= self._from:
            self._say(f"a turn overlaps that of {other.runner_id}, which time alone was to exclude")

    def end(self, work: Work) -> None:
        """The scenario has ended."""
        instants = [self._from, *work.starts, self._time.now]
        known = [instant for instant in instants if instant >= self._from]
        gaps = [later - earlier for earlier, later in pairwise(known)]
        in_its_turn = [*work.failovers, *work.waits_for_failover]
        if self._calm and gaps:
            self._reach_gap("gap_without_fault", max(gaps))
        if self._one_gone and in_its_turn:
            self._reach_gap("gap_after_kill", max(in_its_turn))
        elif self._one_gone and self._fits and gaps:
            self._reach_gap("gap_with_one_dead", max(gaps))

    def _is_one_gone(self) -> bool:
        scenario = self._scenario
        if scenario.faults or len(scenario.incidents) != 1 or scenario.runners == 1:
            return False
        [incident] = scenario.incidents
        if scenario.settings.membership_stabilization:
            return False  # nobody starts in the place of a newcomer
        more = scenario.settings.review(runners=scenario.runners + 1)
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

    def _look_for_newcomers(
        self, start: int, seen: CycleSeen, processes: Iterable[RunnerProcess]
    ) -> None:
        promised = microseconds(self._review.first_slot_delay)
        for runner in seen.scheduled:
            newcomer = runner.runner_id, microseconds(runner.creation_time - START)
            if newcomer not in self._counted:
                self._counted.add(newcomer)
                self._reach("first_slot_delay", start - newcomer[1], promised)
        for process in processes:
            counts = process.runner_id in seen.ids
            if process.joined_at is None or counts or process.stopping or not process.alive:
                continue
            waits = start - process.joined_at
            if waits > promised:
                self._reach("first_slot_delay", waits, promised)

    def _reach_gap(self, bound: str, gap: int) -> None:
        promised: timedelta | None = getattr(self._review, bound)
        if promised is not None:
            self._reach(bound, gap, microseconds(promised))

    def _reach(self, bound: str, value: int, promised: int) -> None:
        self.shares[bound] = max(self.shares.get(bound, 0.0), value / promised)
        if value > promised + (_ROUNDING if bound != "rounds_per_cycle" else 0):
            self._say(f"{bound} is {promised:,} at most, and was {value:,}")
