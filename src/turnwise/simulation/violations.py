"""What may never happen, and has."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

_MOST_KEPT = 20


@dataclass(frozen=True, slots=True)
class Violation:
    """What may never happen, and when it has."""

    at: datetime
    what: str

    def __str__(self) -> str:
        return f"{self.at.isoformat()} {self.what}"


class Violations:
    """The first violations of a run, and how many there were."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self.kept: list[Violation] = []
        self.count = 0

    def add(self, what: str) -> None:
        """Note that something has happened that may not."""
        self.count += 1
        if len(self.kept) < _MOST_KEPT:
            self.kept.append(Violation(self._clock(), what))
