"""The arithmetic of cycles, proved for all integers by z3: no sizes, no samples, no bounds.

A period of length ``L`` whose cycles may be ``C`` long at most, both positive, has
``n = ceil(L/C)`` cycles. With ``x`` = now less the period's due instant:

- the number of the cycle that ``x`` is in is ``x*n // L``;
- cycle ``k`` is ``[edge(k), edge(k + 1))`` with ``edge(k) = ceil(k*L / n)``;

as in ``turnwise.cycles.cycle_at``. Slots tile a cycle by the same formula, with ``L`` the cycle's
length and ``n`` the number of runners: that is proved in ``test_slot_proof``.

A quotient enters by its definition, as there. Each statement has a control beside it, a near miss
that must have a counterexample: a proof from assumptions that contradict each other proves
everything.
"""

from dataclasses import dataclass, field

import z3
from hypothesis import given
from hypothesis import strategies as st

from turnwise.cycles import cycle_at, shortest_cycle

_SECONDS_EACH = 20


@dataclass
class Period:
    """An arbitrary period, and what is known of the names made here."""

    length: z3.ArithRef = field(default_factory=lambda: z3.Int("L"))
    longest: z3.ArithRef = field(default_factory=lambda: z3.Int("C"))
    cycles: z3.ArithRef = field(default_factory=lambda: z3.Int("n"))
    known: list[z3.BoolRef] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.known += [self.length >= 1, self.longest >= 1, self.cycles >= 1]

    def has_as_few_as_fit(self) -> None:
        """As few cycles as fit: n = ceil(L / C)."""
        product = self.cycles * self.longest
        self.known += [product - self.longest < self.length, self.length <= product]

    def edge(self, number: z3.ArithRef | int) -> z3.ArithRef:
        """Where cycle ``number`` starts: ceil(number * L / n)."""
        edge = z3.FreshInt("edge")
        product = number * self.length
        self.known += [(edge - 1) * self.cycles < product, product <= edge * self.cycles]
        return edge

    def number(self, x: z3.ArithRef) -> z3.ArithRef:
        """Which cycle ``x`` is in: x*n // L."""
        number = z3.FreshInt("number")
        product = x * self.cycles
        self.known += [number * self.length <= product, product < (number + 1) * self.length]
        return number

    def now(self) -> z3.ArithRef:
        """An arbitrary instant of the period."""
        x = z3.Int("x")
        self.known += [x >= 0, x < self.length]
        return x

    def proves(self, statement: z3.BoolRef | bool) -> bool:
        """Whether nothing that is known allows the statement to be false."""
        solver = z3.Solver()
        solver.set("timeout", _SECONDS_EACH * 1000)
        solver.add(*self.known, z3.Not(statement))
        answer = solver.check()
        assert answer != z3.unknown, solver.reason_unknown()
        return bool(answer == z3.unsat)


def test_the_cycles_tile_the_period() -> None:
    """From its due instant to its end; between them, each cycle ends where the next starts."""
    period = Period()
    k = z3.Int("k")
    end_of_k, start_of_next = period.edge(k + 1), period.edge(k + 1)
    assert period.proves(end_of_k == start_of_next)
    assert period.proves(period.edge(0) == 0)
    last = period.edge(period.cycles)
    assert period.proves(last == period.length)
    assert not period.proves(last < period.length), "control: nothing is left over"


def test_every_instant_is_in_the_cycle_that_has_its_number() -> None:
    period = Period()
    x = period.now()
    k = period.number(x)
    start, end = period.edge(k), period.edge(k + 1)
    assert period.proves(z3.And(start <= x, x < end))
    assert period.proves(z3.And(k >= 0, k < period.cycles))
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
    period.known += [fewer < period.cycles]
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
        shortest * period.cycles <= period.length,
        period.length < (shortest + 1) * period.cycles,
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
