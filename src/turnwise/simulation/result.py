"""What came of a simulation."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise

from turnwise.cycles import MICROSECOND, instant
from turnwise.simulation.bounds import Bounds
from turnwise.simulation.judge import Judge
from turnwise.simulation.scenario import Scenario
from turnwise.simulation.stage import Stage
from turnwise.simulation.violations import Violation
from turnwise.simulation.world import GROUP
from turnwise.storages import Entry


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
            return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] * MICROSECOND

        return cls(len(ordered), at(0), at(50), at(90), at(99), at(100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a simulation. Two of one scenario are equal, wherever they were made.

    ``turns`` counts starts of the service. A period counts from the first that is due when the
    service has a gate to the last that ended, and whose turn did; it is served when a turn at it
    was completed. ``cycles`` are those of the periods that count. ``causes`` is why periods were
    missed, and ``missed`` which: pairs of due instant and cause.
    ``overlaps`` counts starts of the service while another turn was still at work; with the gate
    that is only a runner that was suspended, or cut off, for longer than the heartbeat timeout, and
    ``refused_writes`` are what the resource has spared. ``gaps`` are from start to start,
    ``longest_gap`` the longest of them, ``failovers`` from a kill within a turn to the next start.
    ``turns_of_runner`` is by place: who replaces a runner has its place. ``executions`` is by
    status and reason, such as ``abandoned:owner_dead``. ``operations`` is what the storage was
    asked for; ``rounds`` are the looks and heartbeats among them. ``bounds`` are those of the
    review that this scenario can be held against, each with the largest part of it that was
    reached. ``violations`` are the first that the oracles found; ``history`` is what the storage
    kept of the service, and takes no part in comparisons. With several services the figures are of
    all together, and ``history`` is the first one's.
    """

    scenario: Scenario
    turns: int
    periods: int
    periods_served: int
    periods_missed: int
    cycles: int
    causes: Mapping[str, int]
    missed: tuple[tuple[datetime, str], ...]
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
    violation_count: int
    violations: tuple[Violation, ...]
    history: tuple[Entry, ...] = field(default=(), compare=False, repr=False)

    @property
    def operations_per_period(self) -> float:
        """How often the storage was asked for something, by all runners, in one period."""
        return sum(self.operations.values()) / max(self.periods, 1)

    def to_json(self) -> str:
        """All but the history, as one JSON object; durations in seconds."""
        figures = asdict(replace(self, history=()))
        del figures["history"]
        figures["scenario"] = repr(self.scenario)
        figures["violations"] = [str(violation) for violation in self.violations]
        figures["operations_per_period"] = round(self.operations_per_period, 3)
        return json.dumps(figures, default=_plain, sort_keys=True)


def result_of(stage: Stage, judges: Sequence[Judge], bounds: Bounds) -> Result:
    """What came of a play that has ended."""
    gaps = Spread.of(
        later - earlier for judge in judges for earlier, later in pairwise(judge.work.starts)
    )
    verdicts = [judge.liveness for judge in judges]
    missed = [pair for each in verdicts for pair in each.missed_dues.items()]
    served, missed_count = sum(v.served for v in verdicts), sum(v.missed for v in verdicts)
    return Result(
        scenario=stage.scenario,
        turns=sum(len(judge.work.starts) for judge in judges),
        periods=served + missed_count,
        periods_served=served,
        periods_missed=missed_count,
        cycles=sum(each.cycles for each in verdicts),
        causes=_added(each.causes for each in verdicts),
        missed=tuple((instant(due), why) for due, why in sorted(missed)),
        overlaps=sum(judge.work.overlaps for judge in judges),
        refused_writes=sum(judge.work.refused_writes for judge in judges),
        longest_gap=gaps.most,
        gaps=gaps,
        failovers=Spread.of(bounds.failovers),
        turns_of_runner={
            f"runner-{place + 1}": sum(judge.work.turns_of_place[place] for judge in judges)
            for place in range(len(stage.places))
        },
        operations=dict(sorted(stage.asked.items())),
        executions=_added(judge.executions for judge in judges),
        incidents=dict(sorted(stage.incidents.items())),
        rounds=stage.asked["Look"] + stage.asked["Beat"],
        bounds=dict(sorted(bounds.shares.items())),
        violation_count=stage.violations.count,
        violations=tuple(stage.violations.kept),
        history=stage.storage.history(GROUP, judges[0].service),
    )


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for name, number in count.items():
            total[name] = total.get(name, 0) + number
    return dict(sorted(total.items()))


def _plain(value: object) -> object:
    if isinstance(value, timedelta):
        return value / timedelta(seconds=1)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"no JSON for {value!r}")
