"""A length cut into equal parts, for proofs about all integers by z3.

``length`` is cut into ``parts``, both positive. Part ``k`` is ``[edge(k), edge(k + 1))`` with
``edge(k) = ceil(k * length / parts)``, and an offset ``x`` is in part ``x * parts // length``. So a
period is cut into cycles, and a cycle into slots.

A quotient enters by its definition: ``a // b`` is the one integer ``q`` with
``q*b <= a < (q+1)*b``, and ``ceil(a/b)`` the one ``c`` with ``(c-1)*b < a <= c*b``.

A proof from assumptions that contradict each other proves everything. So each statement has a
control beside it, a near miss that must have a counterexample.
"""

from dataclasses import dataclass, field

import z3

_SECONDS_EACH = 20


@dataclass
class EqualParts:
    """An arbitrary length and number of parts, and what is known of the names made here."""

    length: z3.ArithRef = field(default_factory=lambda: z3.Int("length"))
    parts: z3.ArithRef = field(default_factory=lambda: z3.Int("parts"))
    known: list[z3.BoolRef] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.known += [self.length >= 1, self.parts >= 1]

    def edge(self, number: z3.ArithRef | int) -> z3.ArithRef:
        """Where part ``number`` starts: ceil(number * length / parts)."""
        edge = z3.FreshInt("edge")
        product = number * self.length
        self.known += [(edge - 1) * self.parts < product, product <= edge * self.parts]
        return edge

    def part_of(self, x: z3.ArithRef) -> z3.ArithRef:
        """Which part ``x`` is in: x * parts // length."""
        part = z3.FreshInt("part")
        product = x * self.parts
        self.known += [part * self.length <= product, product < (part + 1) * self.length]
        return part

    def offset(self) -> z3.ArithRef:
        """An arbitrary offset from the start, within the length."""
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
