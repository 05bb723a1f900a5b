"""When something was wrong with a process, or with all, and how long nothing was."""

from collections import deque
from collections.abc import Iterable

_REMEMBERED = 64  # spans: more than matter for any one question


class Trouble:
    """The last spans of time, in microseconds, in which something was wrong."""

    def __init__(self) -> None:
        self._spans: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)
        self.last = self._before = -(2**62)  # when all of it ends; all but the last span

    def add(self, start: int, end: int) -> None:
        """Something is wrong from ``start`` to ``end``."""
        self._spans.append((start, end))
        self._before = self.last
        self.last = max(self.last, end)

    def cut(self, at: int) -> None:
        """The last span ends at ``at``, where it would have lasted longer."""
        if self._spans and self._spans[-1][1] > at:
            self._spans[-1] = (self._spans[-1][0], at)
            self.last = max(self._before, at)

    def overlaps(self, start: int, end: int) -> bool:
        """Whether anything was wrong between two instants."""
        return any(since <= end and until >= start for since, until in self._spans)

    def spans(self) -> Iterable[tuple[int, int]]:
        """What is remembered."""
        return self._spans


def longest_calm(since: int, until: int, *troubles: Trouble) -> int:
    """The longest time between two instants in which nothing was wrong."""
    spans = sorted(span for each in troubles for span in each.spans())
    longest, calm_from = 0, since
    for start, end in spans:
        longest = max(longest, min(start, until) - calm_from)
        calm_from = max(calm_from, end)
    return max(longest, until - calm_from)
