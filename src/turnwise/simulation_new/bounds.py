"""What the review promises, held against what happens."""

from typing import TYPE_CHECKING

from turnwise.gate import Run
from turnwise.simulation_new.process import Process

if TYPE_CHECKING:
    from turnwise.simulation_new.play import Play


class Bounds:
    """Watches one play."""

    def __init__(self, play: "Play") -> None:
        self.shares: dict[str, float] = {}
        self._play = play
        self._killed_at: int | None = None
        self.failovers: list[int] = []

    def killed(self, process: Process) -> None:
        """A process is about to be killed."""
        if process.is_at_work and self._killed_at is None:
            self._killed_at = self._play.now

    def started(self, process: Process, run: Run) -> None:
        """A turn has begun."""
        del process, run
        if self._killed_at is not None:
            self.failovers.append(self._play.now - self._killed_at)
            self._killed_at = None

    def ended(self, run: Run) -> None:
        """A turn has ended."""

    def overlapped(self, other: Process) -> None:
        """A turn begins while that of another is at work."""

    def end(self) -> None:
        """The play has ended."""
