"""The slot arithmetic, proved for all integers by z3: no sizes, no samples, no bounds.

With interval ``I`` and ``N`` runners, both positive, and ``x`` = now modulo ``I``:

- the owner of ``x`` is ``x*N // I``, as in ``decide_atomic_service_claim``;
- slot ``p`` is ``[edge(p), edge(p + 1))`` with ``edge(p) = ceil(p*I / N)``, as in
  ``_slot_window``. It is slot ``p`` of this cycle where ``0 <= p < N``; ``edge(p + N)`` is the
  same place a cycle later, so that all slots of all cycles are numbered through.
"""

import pytest
import z3
from hypothesis import given
from hypothesis import strategies as st

from equal_parts import EqualParts
from strategies import Situation
from turnwise.atomic_service import _slot_window


def test_the_owner_of_an_instant_is_the_runner_whose_slot_contains_it() -> None:
    cycle = EqualParts()
    x = cycle.offset()
    p = cycle.part_of(x)
    start, end = cycle.edge(p), cycle.edge(p + 1)
    assert cycle.proves(z3.And(start <= x, x < end))
    assert not cycle.proves(z3.And(start < x, x < end)), "control: it may be the first instant"


def test_the_runner_whose_slot_contains_an_instant_is_its_owner() -> None:
    cycle = EqualParts()
    x, p = cycle.offset(), z3.Int("p")
    start, end = cycle.edge(p), cycle.edge(p + 1)
    owner = cycle.part_of(x)
    cycle.known += [start <= x]
    assert not cycle.proves(owner == p), "control: the end of the slot counts, too"
    cycle.known += [x < end]
    assert cycle.proves(owner == p)


def test_every_instant_has_one_owner_and_it_is_in_range() -> None:
    cycle = EqualParts()
    x = cycle.offset()
    first, second = cycle.part_of(x), cycle.part_of(x)
    assert cycle.proves(first == second)
    assert cycle.proves(z3.And(first >= 0, first < cycle.parts))
    assert not cycle.proves(first < cycle.parts - 1), "control: the last runner has its turn"


def test_the_slots_tile_the_cycle() -> None:
    """From its start to its end; between them, each slot ends where the next starts."""
    cycle = EqualParts()
    p = z3.Int("p")
    end_of_p, start_of_next = cycle.edge(p + 1), cycle.edge(p + 1)
    assert cycle.proves(end_of_p == start_of_next)
    assert cycle.proves(cycle.edge(0) == 0)
    last = cycle.edge(cycle.parts)
    assert cycle.proves(last == cycle.length)
    assert not cycle.proves(last < cycle.length), "control: nothing is left over"


def test_no_slot_is_empty_while_there_are_no_more_runners_than_microseconds() -> None:
    cycle = EqualParts()
    p = z3.Int("p")
    start, end = cycle.edge(p), cycle.edge(p + 1)
    assert cycle.proves(start <= end)
    assert not cycle.proves(start < end), "control: with more runners some slot is empty"
    cycle.known += [cycle.parts <= cycle.length]
    assert cycle.proves(start < end)


def test_each_slot_is_within_one_microsecond_of_its_share() -> None:
    cycle = EqualParts()
    p = z3.Int("p")
    length = cycle.edge(p + 1) - cycle.edge(p)
    share = cycle.length  # of N, and so is everything that it is compared with
    assert cycle.proves(
        z3.And((length - 1) * cycle.parts < share, share < (length + 1) * cycle.parts)
    )
    assert not cycle.proves(length * cycle.parts == share), "control: it is not always exact"


def test_slots_follow_each_other_in_the_order_of_their_positions() -> None:
    cycle = EqualParts()
    earlier, later = z3.Ints("earlier later")
    cycle.known += [earlier < later]
    end_of_earlier, start_of_later = cycle.edge(earlier + 1), cycle.edge(later)
    assert cycle.proves(end_of_earlier <= start_of_later)
    assert not cycle.proves(end_of_earlier < start_of_later), "control: they may touch"


@pytest.mark.parametrize(("short_of", "excluded"), [(0, True), (1, False)])
def test_a_margin_of_twice_the_clock_error_excludes_two_candidates_and_one_less_does_not(
    short_of: int, excluded: bool
) -> None:
    """Two runners whose clocks are off by at most ``e`` read them at one instant."""
    cycle = EqualParts()
    earlier, later = z3.Ints("earlier later")
    true_time, first_clock, second_clock, e = z3.Ints("time first second e")
    margin = 2 * e - short_of
    start_1, end_1 = cycle.edge(earlier), cycle.edge(earlier + 1)
    start_2, end_2 = cycle.edge(later), cycle.edge(later + 1)
    cycle.known += [earlier < later, e >= 0, margin >= 0]
    # What the test above proves: slots follow each other.
    cycle.known += [end_1 <= start_2]
    for clock in (first_clock, second_clock):
        cycle.known += [clock - true_time <= e, true_time - clock <= e]
    both_cleared = z3.And(
        start_1 <= first_clock,
        first_clock < end_1 - margin,
        start_2 <= second_clock,
        second_clock < end_2 - margin,
    )
    assert cycle.proves(z3.Not(both_cleared)) == excluded


@given(
    st.integers(1, 10**9),
    st.integers(1, 5000),
    st.integers(min_value=0),
    st.integers(min_value=0),
)
def test_the_shipped_code_computes_these_formulas(
    interval: int, runners: int, position: int, x: int
) -> None:
    position, x = position % runners, x % interval
    edge, following = (-(-number * interval // runners) for number in (position, position + 1))
    assert (edge - 1) * runners < position * interval <= edge * runners
    shipped = _slot_window(0, position, (interval, runners), 0, single_runner=runners == 1)
    assert shipped == ((edge, following) if edge < following else None)
    situation = Situation(min(runners, 50), 0.0, interval / 60_000_000).at(x)
    owner = situation.now_us % situation.interval_us * situation.count // situation.interval_us
    assert situation.ask(-1).assigned_runner_id == f"r{owner}"
