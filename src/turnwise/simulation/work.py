"""What the service does in a turn: work for a while, and write to a resource.

The resource refuses an older fencing token than the newest that it has seen. The service does
not ask :meth:`~turnwise.old_turn.Turn.check` before it writes, so that late writes do come.
"""

from array import array
from collections.abc import Callable
from random import Random

from turnwise.old_turn import Turn, TurnFailed, TurnLost
from turnwise.simulation.processes import RunnerProcess
from turnwise.simulation.scenario import Distribution
from turnwise.simulation.violations import Violations
from turnwise.simulation.virtual_time import VirtualTime, microseconds


class Resource:
    """What the service writes to. It takes no write that bears an older token."""

    def __init__(self) -> None:
        self.newest = 0

    def write(self, token: int) -> bool:
        """Whether it takes the write."""
        if token < self.newest:
            return False
        self.newest = token
        return True


class Work:
    """The service, and what is seen of its turns."""

    def __init__(
        self,
        time: VirtualTime,
        job: Distribution,
        random: Random,
        violations: Violations,
        resource: Resource,
        *,
        gated: bool,
    ) -> None:
        self._time = time
        self._job = job
        self._random = random.random
        self._say = violations.add
        self._resource = resource
        self._gated = gated
        self.working: dict[Turn, RunnerProcess] = {}
        self.starts = array("q")
        self.failovers = array("q")
        self.turns_of_place: dict[int, int] = {}
        self.overlaps = 0
        self.refused_writes = 0
        self.next_takes: int | None = None
        self.next_fails = False
        self.busy_after_healing = 0
        self._at_work_when_healed: set[Turn] = set()
        self._newest_written = 0
        self._killed_at: int | None = None
        self.on_end: Callable[[Turn], object] = lambda _: None
        self.on_overlap: Callable[[RunnerProcess], object] = lambda _: None

    def serve(self, process: RunnerProcess, turn: Turn) -> None:
        """One turn of the service."""
        takes, self.next_takes = self.next_takes, None
        fails, self.next_fails = self.next_fails, False
        if takes is None:
            takes = microseconds(self._job.draw(self._random))
        self._note_start(process)
        self.working[turn] = process
        process.turn, process.begun = turn, turn.run.atomic_service_id.atomic_service_run_id
        try:
            self._write(turn)
            process.sleep(takes / 1e6)
            self._write(turn)
            self.on_end(turn)
        finally:
            process.turn, process.worked_until = None, self._time.now
            del self.working[turn]
            if turn in self._at_work_when_healed:
                self.busy_after_healing = self._time.now
                self._at_work_when_healed.remove(turn)
        if fails:
            raise TurnFailed("exit:1")

    def heal(self) -> None:
        """Nothing goes wrong any more; who is at work may be so for long."""
        self.next_takes, self.next_fails = None, False
        self._at_work_when_healed = set(self.working)

    @property
    def still_busy(self) -> bool:
        """Whether somebody is at work since before all had healed."""
        return bool(self._at_work_when_healed)

    @property
    def waits_for_failover(self) -> list[int]:
        """For how long nobody has started since a kill within a turn, where that is so."""
        return [] if self._killed_at is None else [self._time.now - self._killed_at]

    def note_kill(self, process: RunnerProcess) -> None:
        """A process is about to be killed: where it is in its turn, somebody must take over."""
        if process.turn is not None and self._killed_at is None:
            self._killed_at = self._time.now

    def _note_start(self, process: RunnerProcess) -> None:
        now = self._time.now
        self.starts.append(now)
        self.turns_of_place[process.place] = self.turns_of_place.get(process.place, 0) + 1
        if self._killed_at is not None:
            self.failovers.append(now - self._killed_at)
            self._killed_at = None
        for turn, other in self.working.items():
            self._note_overlap(process, turn, other)

    def _note_overlap(self, process: RunnerProcess, turn: Turn, other: RunnerProcess) -> None:
        """Somebody else is at work, too. With the gate, he must know better."""
        self.overlaps += 1
        self.on_overlap(other)
        if not self._gated:
            return
        try:
            turn.check()
        except TurnLost:
            return
        self._say(
            f"runner {process.runner_id} starts while {other.runner_id} is at work and may think "
            "that the turn is its own"
        )

    def _write(self, turn: Turn) -> None:
        if not self._resource.write(turn.fencing_token):
            self.refused_writes += 1
        elif self._gated and turn.fencing_token < self._newest_written:
            self._say(
                f"the resource took a write with token {turn.fencing_token} after one with "
                f"{self._newest_written}"
            )
        else:
            self._newest_written = turn.fencing_token
