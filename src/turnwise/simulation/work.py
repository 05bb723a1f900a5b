"""Functions at work, and the resource that they write to: what may never happen with them.

1. Two functions are never at work while both may think that the turn is theirs.
2. A resource that refuses older fencing tokens never takes a write out of order.
3. A function is started for a run that is open, and while its turn is not lost.

The service does not ask :meth:`~turnwise.turn.Turn.check` before it writes, so that late writes do
come.
"""

from collections import Counter

from turnwise.events import TurnStarted
from turnwise.simulation.books import Books
from turnwise.simulation.bounds import Bounds
from turnwise.simulation.process import Call, Part, Process


class Work:
    """What is at work for one service. ``working`` has the functions that are, and where."""

    def __init__(self, books: Books, bounds: Bounds) -> None:
        self.working: dict[Call, Part] = {}
        self.overlaps = self.refused_writes = 0
        self.turns_of_place: Counter[int] = Counter()
        self.starts: list[int] = []
        self._books, self._stage, self._bounds = books, books.stage, bounds
        self._newest_written = 0
        self._resource = books.stage.parts.resource()

    @property
    def _is_promised(self) -> bool:
        return self._stage.gated and self._books.promises_hold

    def begins(self, part: Part, call: Call) -> None:
        """A function is about to work, and writes to the resource."""
        self.turns_of_place[part.process.place] += 1
        self.starts.append(self._stage.now)
        # Those of processes that were killed are at work no more.
        self.working = {o: at for o, at in self.working.items() if at.process.alive}
        for other, at in self.working.items():
            self._note_overlap(part.process, other, at.process)
        self.working[call] = part
        self._write(call.turn.run.token)
        self._bounds.started(call.turn.run)

    def ends(self, call: Call) -> None:
        """A function has ended, and writes once more."""
        call.ended_at = self._stage.now
        self.working.pop(call, None)
        self._write(call.turn.run.token)
        self._bounds.ended(call.turn.run)

    def judge_started(self, part: Part, event: TurnStarted) -> None:
        """A turn has started: its run is open, and it was not lost before it began."""
        if not self._is_promised:
            return
        call, opened = part.call, self._books.open
        if call is not None and call.turn.is_lost(self._stage.now + part.process.offset):
            self._books.say(f"runner {event.runner_id} started a turn that was lost")
        calm = self._books.is_well(part.process, self._stage.now - self._books.timeout)
        if calm and (opened is None or opened.run.run_id != event.run_id):
            self._books.say(f"runner {event.runner_id} started a turn that is not open")

    def _note_overlap(self, process: Process, other: Call, at: Process) -> None:
        """Another function is at work, too. With a gate, its process must know that it is lost."""
        self.overlaps += 1
        self._bounds.overlapped(at)
        if self._is_promised and not other.turn.is_lost(self._stage.now + at.offset):
            self._books.say(
                f"runner {process.runner_id} starts while {at.runner_id} is at work and may think "
                "that the turn is its own"
            )

    def _write(self, token: int) -> None:
        if not self._resource.write(token):
            self.refused_writes += 1
        elif token < self._newest_written and self._is_promised:
            self._books.say(
                f"the resource took a write with token {token} after {self._newest_written}"
            )
        else:
            self._newest_written = token
