"""What came of a simulation."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta

from turnwise.backends import ExecutionRecord
from turnwise.simulation.scenario import Scenario
from turnwise.simulation.violations import Violation

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Spread:
    """How durations are spread: how many, and the least, the median and so on; None for none."""

    count: int
    least: timedelta | None
    median: timedelta | None
    of_nine_in_ten: timedelta | None
    of_99_in_100: timedelta | None
    most: timedelta | None

    @classmethod
    def of(cls, microseconds: Iterable[int]) -> "Spread":
        """The spread of some durations in microseconds."""
        ordered = sorted(microseconds)
        if not ordered:
            return cls(0, None, None, None, None, None)

        def at(percent: int) -> timedelta:
            # The least that so many percent of all do not exceed.
            return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] * _MICROSECOND

        return cls(len(ordered), at(0), at(50), at(90), at(99), at(100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a simulation. Two of one scenario are equal, wherever they were made.

    ``turns`` counts starts of the service. A cycle counts from the first in which a runner
    could count to the last that ended, and whose turn did; it is served when a turn in it was
    completed.
    ``overlaps`` counts starts of the service while another turn was still at work; with the
    gate that is only a runner that was suspended, or cut off, for longer than the heartbeat
    timeout, and ``refused_writes`` are what the resource has spared. ``longest_gap`` and
    ``gaps`` are from start to start, ``failovers`` from a kill within a turn to the next
    start. ``turns_of_runner`` is by place: who replaces a runner has its place.
    ``executions`` is by status and reason, such as ``abandoned:owner_dead``. ``operations`` is
    what the storage was asked for. ``rounds`` are steps of the runners' loops, heartbeats of
    turns among them. ``bounds`` are those of the review that this scenario can be held against,
    each with the largest part of it that was reached. ``disagreements`` counts cycles in which
    a late write may have made two runners see different sets. ``violations`` are the first that
    the oracles found; ``history`` is what the storage kept of the executions, and takes no part
    in comparisons.
    """

    scenario: Scenario
    turns: int
    cycles: int
    cycles_served: int
    cycles_missed: int
    overlaps: int
    refused_writes: int
    longest_gap: timedelta | None
    gaps: Spread
    failovers: Spread
    turns_of_runner: Mapping[str, int]
    operations: Mapping[str, int]
    executions: Mapping[str, int]
    incidents: Mapping[str, int]
    rounds: int
    bounds: Mapping[str, float]
    disagreements: int
    violation_count: int
    violations: tuple[Violation, ...]
    history: tuple[ExecutionRecord, ...] = field(default=(), compare=False, repr=False)

    @property
    def operations_per_cycle(self) -> float:
        """How often the storage was asked for something, by all runners, in one cycle."""
        return sum(self.operations.values()) / max(self.cycles, 1)

    def to_json(self) -> str:
        """All but the history, as one JSON object; durations in seconds."""
        figures = asdict(replace(self, history=()))
        del figures["history"]
        figures["scenario"] = repr(self.scenario)
        figures["violations"] = [str(violation) for violation in self.violations]
        figures["operations_per_cycle"] = round(self.operations_per_cycle, 3)
        return json.dumps(figures, default=_plain, sort_keys=True)


def _plain(value: object) -> object:
    if isinstance(value, timedelta):
        return value / timedelta(seconds=1)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"no JSON for {value!r}")
