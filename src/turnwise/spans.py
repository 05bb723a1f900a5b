"""Spans of time, to be asked which ones touch another span, and what nothing covers."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from turnwise.gate import Execution

Span = tuple[int, int]
"""From an instant, which counts, to another one, which does not; in microseconds."""


class Spans:
    """Spans of time, each with what it is of, to be asked which ones touch another span."""

    def __init__(self, spans: Iterable[tuple[int, int, Execution | None]]) -> None:
        kept = sorted((span for span in spans if span[0] < span[1]), key=lambda span: span[:2])
        self._spans = kept
        self._starts = [start for start, _, _ in kept]
        # How far any span reaches that starts no later: where it reaches less, stop looking back.
        self._reach: list[int] = []
        for _, end, _ in kept:
            self._reach.append(max(end, self._reach[-1]) if self._reach else end)

    def _touching(self, start: int, end: int) -> Iterator[tuple[int, int, Execution | None]]:
        number = bisect_right(self._starts, end - 1) - 1
        while number >= 0 and self._reach[number] > start:
            if self._spans[number][1] > start:
                yield self._spans[number]
            number -= 1

    def within(self, start: int, end: int) -> list[Span]:
        """The spans that touch ``[start, end)``, in order."""
        return sorted((first, last) for first, last, _ in self._touching(start, end))

    def rows_within(self, start: int, end: int) -> list[tuple[int, int, Execution]]:
        """The same, with the execution that each is of."""
        return [(a, b, row) for a, b, row in self._touching(start, end) if row is not None]


def longest_free(start: int, end: int, taken: Sequence[Span]) -> int:
    """How long the longest part of ``[start, end)`` is that nothing covers.

    Args:
        start: where it starts.
        end: where it ends.
        taken: what covers parts of it, sorted; spans may overlap.
    """
    edges, reach = [], start
    for first, last in taken:
        edges.append(first - reach)
        reach = max(reach, last)
    return max([*edges, end - reach, 0])
