"""What is seen only by who knows what was wrong with whom, and when.

1. A cycle is missed only where its primary and every standby were disturbed, or were refused
   for a recorded reason, or had a run that ended badly.
2. After the last fault has healed the service starts within the promised bound.
3. Nothing stays RUNNING.
"""

from collections.abc import Iterable
from datetime import timedelta

from turnwise.old_settings import Settings
from turnwise.simulation.processes import RunnerProcess
from turnwise.simulation.scenario import Scenario
from turnwise.simulation.violations import Violations
from turnwise.simulation.virtual_time import START, VirtualTime, microseconds
from turnwise.simulation.watch import CycleSeen, WatchedStorage
from turnwise.simulation.work import Work


class CycleOracle:
    """Looks at each cycle when it has ended."""

    def __init__(
        self,
        time: VirtualTime,
        scenario: Scenario,
        storage: WatchedStorage,
        violations: Violations,
    ) -> None:
        self._time = time
        self._settings = scenario.settings
        self._storage = storage
        self._say = violations.add
        self._asks_why = scenario.clock == "storage" and messages_fit(scenario)
        # A runner that could not reach the storage tries again after a heartbeat at the latest.
        self._slack = 2 * microseconds(scenario.settings.heartbeat_interval) + 1_000_000
        self.served = 0
        self.missed = 0
        self._begun = False
        self._still_open: list[int] = []

    def cycle_ended(self, number: int, start: int, processes: Iterable[RunnerProcess]) -> None:
        """A cycle has ended: count it, and where it was missed, ask why."""
        self._count_what_was_open()
        seen = self._storage.cycles.get(number)
        self._begun = self._begun or (seen is not None and seen.size > 0)
        if not self._begun:
            return
        if seen is not None and seen.completed:
            self.served += 1
            return
        if self._is_open(number):
            self._still_open.append(number)
            return
        self.missed += 1
        if self._asks_why and self._storage.disturbances.last < start - self._slack:
            self._require_an_excuse(number, start, seen, processes)

    def _count_what_was_open(self) -> None:
        """Cycles whose turn went on after their end, and has ended since."""
        for number in [n for n in self._still_open if not self._is_open(n)]:
            self._still_open.remove(number)
            seen = self._storage.cycles.get(number)
            if seen is None or seen.completed:
                self.served += 1
            else:
                self.missed += 1

    def _is_open(self, number: int) -> bool:
        return any(run.cycle == number for run in self._storage.open.values())

    def _require_an_excuse(
        self,
        number: int,
        start: int,
        seen: CycleSeen | None,
        processes: Iterable[RunnerProcess],
    ) -> None:
        well = [process for process in processes if self._was_well(process, start)]
        if seen is None or not seen.ids:
            margin = microseconds(self._settings.spread_margin)
            for process in well:
                if process.joined_at is not None and process.joined_at < start - margin:
                    self._say(f"cycle {number} was missed, and {process.runner_id} was well")
            return
        excused = seen.refused | seen.ended_badly
        for process in well:
            if process.runner_id in seen.ids and process.runner_id not in excused:
                self._say(
                    f"cycle {number} was missed, and {process.runner_id}, which is in its list, "
                    "was well"
                )

    def _was_well(self, process: RunnerProcess, start: int) -> bool:
        at_work = process.turn is not None or process.worked_until >= start
        disturbed = process.disturbances.last >= start - self._slack
        return process.alive and not (process.stopping or at_work or disturbed)


def messages_fit(scenario: Scenario) -> bool:
    """Whether two rounds of messages fit the part of a slot in which a turn may start.

    What is promised leaves out the time of messages: where they take longer, nobody may start.
    """
    settings = scenario.settings
    # A runner more for each that may join.
    slots = settings.slots(2 * scenario.runners)
    slot = settings.interval / slots - (settings.spread_margin if slots > 1 else timedelta(0))
    return 4 * scenario.latency.most <= slot * settings.max_start_slot_fraction


def bound_after_healing(settings: Settings, runners: int) -> int:
    """The longest time, in microseconds, from the end of all faults to a start.

    Everybody may have to join anew, which takes a heartbeat interval and then ``I + m``; or a
    dead runner's run holds the gate for the timeout, and three slots may pass in which nobody
    can start.
    """
    slot = settings.interval / settings.slots(runners)
    joined = settings.heartbeat_interval + settings.interval + settings.spread_margin
    return microseconds(max(joined, settings.heartbeat_timeout + 3 * slot))


def require_that_it_came_back(
    scenario: Scenario,
    healed_at: int,
    busy_until: int,
    starts: Iterable[int],
    violations: Violations,
) -> None:
    """After the last fault the service starts within the bound, whoever was at work then."""
    settings = scenario.settings
    if not messages_fit(scenario):
        return
    due = max(
        healed_at + bound_after_healing(settings, scenario.runners),
        busy_until + microseconds(settings.interval + settings.interval),
    )
    if due > microseconds(scenario.duration):
        return
    if not any(healed_at <= start <= due for start in starts):
        violations.add(
            f"nothing has started within {(due - healed_at) / 1e6:g} s after the last fault"
        )


def require_that_nothing_stays_running(
    storage: WatchedStorage, work: Work, scenario: Scenario, now: int, violations: Violations
) -> None:
    """A run that nobody is at is closed by the gate, after the timeout and a cycle."""
    settings = scenario.settings
    longest = microseconds(settings.heartbeat_timeout + 2 * settings.interval)
    for run in storage.open.values():
        at_work = run.owner in work.working.values()
        record = storage.execution("service", run.run_id)
        kept = None if record is None else microseconds(record.last_heartbeat - START)
        if not at_work and kept is not None and now - kept > longest:
            violations.add(f"a run of {run.owner.runner_id} stays RUNNING")
