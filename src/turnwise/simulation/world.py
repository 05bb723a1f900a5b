"""What all processes of a play have around them: time, a network, jobs, and a storage.

Time is microseconds from the start. What happens next stands on a heap. The storage's clock and
each process's monotonic clock are that time, moved.
"""

import heapq
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any, Final

from turnwise.cycles import instant, microseconds
from turnwise.simulation.rest import Rest
from turnwise.simulation.scenario import NOTHING, Scenario, drawer
from turnwise.simulation.trouble import Trouble
from turnwise.simulation.violations import Violations
from turnwise.storages import Storage

GROUP: Final = "group"
NEVER: Final = 2**62
# When, in which order, what, and whether it may change what a heartbeat's answer shows.
_Happening = tuple[int, int, Callable[[Any], object], object, bool]
_MOST_AT_ONCE: Final = 100_000


class World:
    """The surroundings of a scenario's processes.

    Args:
        scenario: what is simulated.
        storage: makes the storage, which goes by the clock that it is given.

    Attributes:
        gated: whether the gate keeps the runners apart; without it each goes by a clock of its own.
        now: the time.
        base: the storage's clock at time 0.
        say: notes that something has happened that may not.
        asked: how often the storage was asked for what.
        trouble: when something was wrong with everybody.
        rest: whose heartbeats are left out.
    """

    def __init__(self, scenario: Scenario, storage: Callable[[Callable[[], int]], Storage]) -> None:
        self.scenario = scenario
        self.gated = scenario.clock == "storage"
        self.now = 0
        self.base = microseconds(scenario.start)
        self.end = microseconds(scenario.duration)
        self.heals_at = microseconds(scenario.heals_at)
        self.violations = Violations(lambda: instant(self.base + self.now))
        self.say = self.violations.add
        self.storage = storage(lambda: self.base + self.now)
        self.names = map(str, count(1)).__next__
        self.asked: Counter[str] = Counter()
        self.incidents: Counter[str] = Counter()
        self.trouble = Trouble()
        # The network, for all.
        self.is_instant = scenario.latency == NOTHING
        self.network_random = scenario.random("network").random
        self._latency = drawer(scenario.latency, self.network_random)
        self.troubled_until = 0
        self.down_until = 0
        self._slow = (0, 0)
        # Jobs.
        self._job_random = scenario.random("job").random
        self.next_takes: int | None = None
        self.next_fails = False
        self.next_poison: int | None = None
        self.kill_next_turn: int | None = None
        # What comes next, and whose heartbeats are left out meanwhile.
        self._heap: list[_Happening] = []
        self.rest = Rest(self)
        self.number = count().__next__

    # Time -------------------------------------------------------------------------------------

    def at(
        self,
        time: int,
        happen: Callable[[Any], object],
        what: object = None,
        *,
        changes: bool = True,
    ) -> None:
        """Have something happen at a time.

        Where ``changes`` is False, it is known to change nothing that a heartbeat's answer shows,
        or says so itself (:meth:`.Rest.before`).
        """
        heapq.heappush(self._heap, (time, self.number(), happen, what, changes))

    def go_through(self) -> None:
        """Let happen what happens until the end, in order."""
        heap, pop, end = self._heap, heapq.heappop, self.end
        at_once = 0
        while heap:
            time, _, happen, what, changes = pop(heap)
            if time > end:
                break
            if time != self.now:
                self.now, at_once = time, 0
            else:
                at_once += 1
                if at_once > _MOST_AT_ONCE:
                    self.say("time stands still: too much happens at one instant")
                    break
            if changes:
                self.rest.disturb()
            happen(what)
        self.now = end
        self.rest.count(end + 1)

    def step_clock(self, by: int) -> None:
        """The storage's clock jumps."""
        self.base += by

    # The network and the jobs -----------------------------------------------------------------

    def travel_time(self) -> int:
        """How long one request, or its answer, is on its way."""
        took = 0 if self.is_instant else self._latency()
        until, most = self._slow
        if self.now < until:
            took += int(self.network_random() * most)
        return took

    def slow(self, until: int, most: int) -> None:
        """Until ``until``, each way of a message takes up to ``most`` longer."""
        self._slow = until, most

    def trouble_all(self, until: int, beyond: int = 0) -> None:
        """Something is wrong with everybody's link, or clock, until ``until``.

        What it has led to may show for ``beyond`` longer.
        """
        self.troubled_until = max(self.troubled_until, until)
        self.trouble.add(self.now, until + beyond)

    def next_job(self) -> tuple[int, bool, int | None]:
        """How long the next turn takes, whether it fails, and whether it kills its process."""
        takes, self.next_takes = self.next_takes, None
        fails, self.next_fails = self.next_fails, False
        poison, self.next_poison = self.next_poison, None
        if takes is None:
            takes = microseconds(self.scenario.job.draw(self._job_random))
        return takes, fails, poison

    def heal(self) -> None:
        """Nothing goes wrong with the turns that come."""
        self.next_takes, self.next_fails = None, False
        self.next_poison = self.kill_next_turn = None
