"""When something was wrong with a process, or with all, and how long nothing was."""

from collections import deque
from collections.abc import Iterable

_REMEMBERED = 64


class Disturbances:
    """The last spans of time, in microseconds, in which something was wrong."""

    def __init__(self) -> None:
        self._spans: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)
        self.last = -(2**62)

    def add(self, start: int, end: int) -> None:
        """Something is wrong from ``start`` to ``end``."""
        self._spans.append((start, end))
        self.last = max(self.last, end)

    def spans(self) -> Iterable[tuple[int, int]]:
        """What is remembered."""
        return self._spans


def longest_calm(since: int, until: int, *disturbed: Disturbances) -> int:
    """The longest time between two instants in which nothing was wrong."""
    spans = sorted(span for each in disturbed for span in each.spans())
    longest, calm_from = 0, since
    for start, end in spans:
        longest = max(longest, min(start, until) - calm_from)
        calm_from = max(calm_from, end)
    return max(longest, until - calm_from)
