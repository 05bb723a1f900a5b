"""Spans of time, against brute force on small numbers."""

from hypothesis import given
from hypothesis import strategies as st

from turnwise.spans import Spans, longest_free

SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=8)


@given(SPANS, st.integers(0, 30), st.integers(1, 30))
def test_the_spans_within_another_one_are_those_that_share_an_instant_with_it(
    spans: list[tuple[int, int]], start: int, length: int
) -> None:
    end = start + length
    found = Spans((a, b, None) for a, b in spans).within(start, end)
    assert found == sorted((a, b) for a, b in spans if a < b and a < end and b > start)


@given(SPANS, st.integers(0, 30), st.integers(1, 30))
def test_the_longest_free_part_is_the_longest_run_of_instants_that_nothing_covers(
    spans: list[tuple[int, int]], start: int, length: int
) -> None:
    end = start + length
    touching = Spans((a, b, None) for a, b in spans).within(start, end)
    covered = {at for a, b in spans for at in range(a, b)}
    longest = free = 0
    for at in range(start, end):
        free = 0 if at in covered else free + 1
        longest = max(longest, free)
    assert longest_free(start, end, touching) == longest
