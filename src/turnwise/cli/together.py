"""Which faults of a simulation fell together where something took longer than one may cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cli.output import few, rounded
from turnwise.cycles import instant
from turnwise.gate import Execution
from turnwise.plan import Planner
from turnwise.review import Review
from turnwise.simulation import FaultKind, Incident, Result
from turnwise.simulation.scenario import incidents_of
from turnwise.texts import row_from_text

_ZERO = timedelta(0)
_NAMED = 4


@dataclass(frozen=True, slots=True)
class Coincidence:
    """A time without a start that is longer than one fault may cost, and what fell into it.

    ``more`` is by how much it is longer than without a fault.
    """

    start: datetime
    end: datetime
    more: timedelta
    faults: tuple[tuple[datetime, Incident], ...]

    def __str__(self) -> str:
        head = (
            f"{self.start:%Y-%m-%d %H:%M:%S}: no start for {rounded(self.end - self.start)}, "
            f"{rounded(self.more)} more than without a fault"
        )
        named = few([_named(at, fault) for at, fault in self.faults], _NAMED)
        count = len(self.faults)
        if count == 0:
            return f"{head}; no fault fell into it"
        return f"{head}; {count} fault{'' if count == 1 else 's'}: {named}"

    def as_json(self) -> dict[str, object]:
        """The same for a script."""
        return {
            "start": self.start,
            "end": self.end,
            "more_seconds": self.more,
            "faults": [{"at": at, "kind": str(f.kind), "lasts": f.lasts} for at, f in self.faults],
        }


def _named(at: datetime, fault: Incident) -> str:
    whose = "" if fault.place is None else f" of runner-{fault.place + 1}"
    return f"{str(fault.kind).replace('_', ' ')}{whose} at {at:%H:%M:%S}"


def coincidences(result: Result, promised: Review) -> list[Coincidence]:
    """Every time without a start that is longer than one fault may cost, the longest first.

    Args:
        result: what came of a simulation.
        promised: what one fault may cost.
    """
    limit = _one_fault(promised)
    if limit is None or result.scenario.clock == "local":
        return []
    long = list(_without_a_start(result, limit))
    faults = _faults(result) if long else []
    found = [
        Coincidence(before, after, more, _within(faults, before, after, result))
        for before, after, more in long
    ]
    return sorted(found, key=lambda each: (-each.more, each.start))


def _without_a_start(
    result: Result, limit: timedelta
) -> Iterator[tuple[datetime, datetime, timedelta]]:
    """Each time from start to start that is longer by more than a limit, and by how much."""
    planner = Planner.of("", result.scenario.settings)
    rows = [row_from_text(entry.body) for entry in result.history]
    runs = [row for row in rows if isinstance(row, Execution) and row.status is not Status.BLOCKED]
    starts = sorted(instant(row.started_at) for row in runs)
    end = result.scenario.start + result.scenario.duration
    for before, after in pairwise([*starts, end]):
        if (more := _excess(before, after, planner)) > limit:
            yield before, after, more


def _one_fault(promised: Review) -> timedelta | None:
    """The longest that a start may be put off by one fault."""
    without, one_dead = promised.gap_without_fault, promised.gap_with_one_dead
    if without is None:
        return None
    costs = [promised.gap_after_kill or _ZERO]
    if one_dead is not None:
        costs.append(one_dead - without)
    return max(costs)


def _excess(before: datetime, after: datetime, planner: Planner) -> timedelta:
    period = planner.schedule.period_at(before)
    return after - before - (period.until - period.due)


def _faults(result: Result) -> list[tuple[datetime, Incident]]:
    start = result.scenario.start
    return [(start + incident.at, incident) for incident in incidents_of(result.scenario)]


def _within(
    faults: Sequence[tuple[datetime, Incident]], before: datetime, after: datetime, result: Result
) -> tuple[tuple[datetime, Incident], ...]:
    """The faults that were at work between two starts."""
    return tuple(
        (at, fault) for at, fault in faults if at <= after and at + _effect(fault, result) >= before
    )


def _effect(fault: Incident, result: Result) -> timedelta:
    """How long a fault is felt: a deploy until its last runner was replaced."""
    settings = result.scenario.settings
    times = result.scenario.runners if fault.kind is FaultKind.DEPLOY else 1
    return fault.lasts * times + settings.heartbeat_timeout
