"""The arithmetic of cycles, proved for all integers by z3: no sizes, no samples, no bounds.

A period of length ``L`` whose cycles may be ``C`` long at most, both positive, has
``n = ceil(L/C)`` cycles. With ``x`` = now less the period's due instant:

- the number of the cycle that ``x`` is in is ``x*n // L``;
- cycle ``k`` is ``[edge(k), edge(k + 1))`` with ``edge(k) = ceil(k*L / n)``;

as in ``turnwise.cycles.cycle_at``. Slots tile a cycle by the same formula, with ``L`` the cycle's
length and ``n`` the number of runners: that is proved in ``test_slot_proof``.
"""

import z3
from hypothesis import given
from hypothesis import strategies as st

from equal_parts import EqualParts
from turnwise.cycles import cycle_at, shortest_cycle


class Period(EqualParts):
    """An arbitrary period, cut into cycles that are ``longest`` long at most."""

    def __init__(self) -> None:
        super().__init__()
        self.longest = z3.Int("longest")
        self.known += [self.longest >= 1]

    def has_as_few_as_fit(self) -> None:
        """As few cycles as fit: parts = ceil(length / longest)."""
        product = self.parts * self.longest
        self.known += [product - self.longest < self.length, self.length <= product]


def test_the_cycles_tile_the_period() -> None:
    """From its due instant to its end; between them, each cycle ends where the next starts."""
    period = Period()
    k = z3.Int("k")
    end_of_k, start_of_next = period.edge(k + 1), period.edge(k + 1)
    assert period.proves(end_of_k == start_of_next)
    assert period.proves(period.edge(0) == 0)
    last = period.edge(period.parts)
    assert period.proves(last == period.length)
    assert not period.proves(last < period.length), "control: nothing is left over"


def test_every_instant_is_in_the_cycle_that_has_its_number() -> None:
    period = Period()
    x = period.offset()
    k = period.part_of(x)
    start, end = period.edge(k), period.edge(k + 1)
    assert period.proves(z3.And(start <= x, x < end))
    assert period.proves(z3.And(k >= 0, k < period.parts))
    assert not period.proves(z3.And(start < x, x < end)), "control: it may be the first instant"


def test_no_cycle_is_longer_than_it_may_be() -> None:
    period = Period()
    k = z3.Int("k")
    length = period.edge(k + 1) - period.edge(k)
    assert not period.proves(length <= period.longest), "control: with any number of cycles"
    period.has_as_few_as_fit()
    assert period.proves(length <= period.longest)
    assert not period.proves(length < period.longest), "control: it may be as long"


def test_one_cycle_less_would_make_one_that_is_too_long() -> None:
    """The longest of n - 1 cycles has ceil(L / (n - 1)) microseconds."""
    period = Period()
    fewer, longest_of_fewer = z3.Int("m"), z3.Int("longest_of_m")
    period.known += [
        fewer >= 1,
        (longest_of_fewer - 1) * fewer < period.length,
        period.length <= longest_of_fewer * fewer,
    ]
    period.has_as_few_as_fit()
    assert not period.proves(longest_of_fewer > period.longest), "control: m may be n"
    period.known += [fewer < period.parts]
    assert period.proves(longest_of_fewer > period.longest)


def test_no_cycle_is_empty() -> None:
    period = Period()
    k = z3.Int("k")
    start, end = period.edge(k), period.edge(k + 1)
    assert not period.proves(start < end), "control: with more cycles than microseconds"
    period.has_as_few_as_fit()
    assert period.proves(start < end)


def test_the_shortest_cycle_is_the_quotient_rounded_down() -> None:
    period = Period()
    k, shortest = z3.Ints("k shortest")
    length = period.edge(k + 1) - period.edge(k)
    period.known += [
        shortest * period.parts <= period.length,
        period.length < (shortest + 1) * period.parts,
    ]
    assert period.proves(z3.And(shortest <= length, length <= shortest + 1))
    assert not period.proves(shortest < length), "control: some are as short"


@given(
    st.integers(1, 10**12), st.integers(1, 10**12), st.integers(0), st.integers(-(10**15), 10**15)
)
def test_the_shipped_code_computes_these_formulas(
    length: int, longest: int, x: int, due: int
) -> None:
    x %= length
    count = -(-length // longest)
    assert (count - 1) * longest < length <= count * longest
    cycle = cycle_at(due, due + length, longest, due + x)
    assert cycle.number == x * count // length
    for edge, number in ((cycle.start - due, cycle.number), (cycle.end - due, cycle.number + 1)):
        assert (edge - 1) * count < number * length <= edge * count
    shortest = shortest_cycle(length, longest)
    assert shortest * count <= length < (shortest + 1) * count
