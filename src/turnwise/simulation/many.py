"""Many random scenarios, in one process or several, and what they come to."""

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

from turnwise.simulation import simulate
from turnwise.simulation.random_scenarios import random_scenario

_AT_A_TIME = 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is kept of one of many results."""

    seed: int
    periods: int
    cycles: int
    rounds: int
    turns: int
    violated: str
    bounds: Mapping[str, float]


@dataclass(slots=True)
class Sum:
    """What all results come to."""

    periods: int = 0
    cycles: int = 0
    rounds: int = 0
    turns: int = 0
    seeds: int = 0
    failed: int = 0
    nearest: dict[str, tuple[float, int]] = field(default_factory=dict)
    held_against: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """One result more."""
        self.periods += outcome.periods
        self.cycles += outcome.cycles
        self.rounds += outcome.rounds
        self.turns += outcome.turns
        self.seeds += 1
        self.failed += bool(outcome.violated)
        for bound, share in outcome.bounds.items():
            self.held_against[bound] += 1
            before = self.nearest.get(bound)
            if before is None or share > before[0]:
                self.nearest[bound] = share, outcome.seed

    def text(self, seconds: float) -> str:
        """The sum, and how near each bound was reached."""
        summary = (
            f"{self.cycles:,} cycles, {self.periods:,} periods, {self.turns:,} turns, "
            f"{self.rounds:,} rounds in "
            f"{seconds:,.0f} s ({self.rounds / max(seconds, 1e-9):,.0f} rounds a second); "
            f"of {self.seeds:,} seeds {self.failed:,} failed"
        )
        bounds = (
            f"{bound}: at most {share:.2%} of it, with seed {seed}, in "
            f"{self.held_against[bound]:,} scenarios"
            for bound, (share, seed) in sorted(self.nearest.items())
        )
        return "\n".join([summary, *bounds])


def play_many(seeds: int, cycles: int, *, processes: int) -> Iterator[Outcome]:
    """Play the first so many seeds, each with so many cycles; the outcomes in their order."""
    work = [(seed, cycles) for seed in range(seeds)]
    if processes < 2:  # noqa: PLR2004
        yield from map(_play, work)
        return
    # An executor, because a pool whose processes cannot start is waited for for ever.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    try:
        yield from pool.map(_play, work, chunksize=_AT_A_TIME)
    finally:
        pool.shutdown(cancel_futures=True)


def _play(seed_and_cycles: tuple[int, int]) -> Outcome:
    # Not in __main__, which a process that was started afresh cannot import from.
    seed, cycles = seed_and_cycles
    result = simulate(random_scenario(seed, cycles=cycles))
    violated = str(result.violations[0]) if result.violations else ""
    return Outcome(
        seed, result.periods, result.cycles, result.rounds, result.turns, violated, result.bounds
    )
