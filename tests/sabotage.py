"""Bugs to plant into the simulation: each is one part of it that does something wrong."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from turnwise import cycles, heartbeat
from turnwise import gate as gates
from turnwise.actions import Request, Swap
from turnwise.gate import Ask, Gate, Refusal
from turnwise.machine import answering, asking, owner_of
from turnwise.machine.state import State
from turnwise.plan import Plan
from turnwise.simulation.process import Process
from turnwise.simulation.stage import SHIPPED, Parts, Resource
from turnwise.storages import Beat, Kind, Pulse, Reading, Record, ServiceReading, Storage, Swapped
from turnwise.storages.memory import MemoryStorage
from turnwise.texts import gate_from_text, gate_to_text, plan_from_text, plan_to_text

Patches = Callable[[], AbstractContextManager[object]]


# The rules ----------------------------------------------------------------------------------------


def everybody_is_admitted(gate: Gate, ask: Ask, *, now: int) -> Gate | Refusal:
    """No gate: whoever asks is admitted."""
    return gates._opened(gate, ask.run, now)


def nothing_is_served(gate: Gate, key: int, *, now: int, ahead: int) -> bool:
    """Forgets which keys are served."""
    del gate, key, now, ahead
    return False


def decided_without_margin(*args: Any, **kwargs: Any) -> object:
    """Decides as if there were no guard time."""
    return cycles.decide(*args, **(kwargs | {"margin": 0}))


def lost_is_failed(state: State, at: int, asked: Request) -> None:
    """Takes an admission without an answer for one that was refused."""
    _FAILED(state, at, asked)
    if isinstance(asked, Swap):
        state.unsettled = None


_FAILED = answering.failed


def nameless_beat(self: heartbeat.Heartbeat, at: int, runs: tuple[str, ...]) -> Beat:
    """A lease that nobody renews: no run is ever named."""
    del runs
    return _BEAT(self, at, ())


_BEAT = heartbeat.Heartbeat.beat


# The storage --------------------------------------------------------------------------------------


class ChecksThenInserts(MemoryStorage):
    """Checks in one step whether a run may start, by what may be old, and inserts it in another."""

    LAG = 20_000_000  # microseconds for which a check does not see what was written

    def __init__(self, *, clock: Callable[[], int]) -> None:
        super().__init__(clock=clock)
        self._before: dict[str, tuple[int, Record | None]] = {}
        self._asked: Counter[tuple[str, int]] = Counter()

    def read(self, group: str, services: Sequence[str]) -> Reading:
        reading = super().read(group, services)
        seen = {name: self._as_checked(name, each) for name, each in reading.services.items()}
        return replace(reading, services=seen)

    def _as_checked(self, service: str, now: ServiceReading) -> ServiceReading:
        written, before = self._before.get(service, (0, None))
        self._asked[service, self._clock()] += 1
        # Who asks again and again at one instant is an operator, who would never come through.
        is_stale = self._clock() - written <= self.LAG and self._asked[service, self._clock()] < 5
        if before is None or not is_stale:
            return now
        return replace(now, gate=before, sight=None)

    def swap(
        self,
        group: str,
        service: str,
        kind: Kind,
        expected: str | None,
        new: Record,
        not_after: int | None = None,
    ) -> Swapped:
        kept = super().read(group, (service,)).services[service].gate
        run = gate_from_text(new.body).open if kind is Kind.GATE else None
        if run is None or kept is None:
            return super().swap(group, service, kind, expected, new, not_after)
        inserted = gates._opened(gate_from_text(kept.body), run, self._clock())
        self._before[service] = self._clock(), kept
        body = gate_to_text(inserted)
        return super().swap(group, service, kind, kept.version, replace(new, body=body))


class FinishesByName(MemoryStorage):
    """Closes whatever run is open, whichever run was meant."""

    def swap(
        self,
        group: str,
        service: str,
        kind: Kind,
        expected: str | None,
        new: Record,
        not_after: int | None = None,
    ) -> Swapped:
        swapped = super().swap(group, service, kind, expected, new, not_after)
        if swapped.done or kind is not Kind.GATE or new.owner is not None or expected is None:
            return swapped
        kept = self.read(group, (service,)).services[service].gate
        gate = None if kept is None else gate_from_text(kept.body)
        meant = gate_from_text(new.body)
        if kept is None or gate is None or gate.open is None or not meant.unsaid:
            return swapped
        last = meant.unsaid[-1]
        if not isinstance(last, gates.Execution):
            return swapped
        closed = gates.finish(
            gate, gate.open.run_id, now=swapped.now, status=last.status, reason=last.reason
        )
        assert isinstance(closed, Gate)
        record = Record(new.version, gate_to_text(closed), owner_of(closed))
        return super().swap(group, service, kind, kept.version, record)


class PurgesTheOpen(MemoryStorage):
    """Its retention does not ask whether a run is open: it forgets it."""

    def heartbeat(self, group: str, beat: Beat) -> Pulse:
        pulse = super().heartbeat(group, beat)
        for service in self.services(group):
            kept = self.read(group, (service,)).services[service].gate
            gate = None if kept is None else gate_from_text(kept.body)
            if kept is None or gate is None or gate.open is None:
                continue
            if gate.open.started_at < pulse.now - 20_000_000:
                forgotten = replace(gate, open=None)
                record = Record(f"purged-{kept.version}", gate_to_text(forgotten))
                self.swap(group, service, Kind.GATE, kept.version, record)
        return pulse


class _View:
    """The storage as one process sees it; what is not changed is the storage's own."""

    def __init__(self, process: Process, storage: Storage) -> None:
        self._process, self._storage = process, storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


class PlanOfNow(_View):
    """Shows a plan of who is there now, not of who was when the plan was made."""

    def read(self, group: str, services: Sequence[str]) -> Reading:
        reading: Reading = self._storage.read(group, services)
        found = {name: self._of_now(group, name, each) for name, each in reading.services.items()}
        return replace(reading, services=found)

    def _of_now(self, group: str, service: str, each: ServiceReading) -> ServiceReading:
        if each.plan is None:
            return each
        cycles_of_now = []
        for cycle in plan_from_text(each.plan.body).cycles:
            found = self._storage.stable(
                group, service, rotation=cycle.periods + cycle.number, limit=len(cycle.runners)
            )
            runners = found.runners or cycle.runners
            cycles_of_now.append(replace(cycle, runners=runners))
        body = plan_to_text(Plan(tuple(cycles_of_now)))
        return replace(each, plan=Record(each.plan.version, body))


class OwnClock(_View):
    """Decides by its process's clock instead of the storage's."""

    def read(self, group: str, services: Sequence[str]) -> Reading:
        reading: Reading = self._storage.read(group, services)
        return replace(reading, now=reading.now + self._process.skew)


class UnfencedResource(Resource):
    """Takes every write."""

    def write(self, token: int) -> bool:
        del token
        return True


# All of them --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bug:
    """A bug: what the oracle says that looks for it, the part that has it, and a patch."""

    found_as: str
    parts: Parts = SHIPPED
    patched: Patches = nullcontext


BUGS = {
    "no gate": Bug(
        "was admitted while another is open",
        patched=lambda: patch.object(gates, "admit", everybody_is_admitted),
    ),
    "check, then insert": Bug(
        "was admitted while another is open",
        Parts(storage=lambda clock: ChecksThenInserts(clock=clock)),
    ),
    "finalize by name": Bug(
        "changed the row of another run", Parts(storage=lambda clock: FinishesByName(clock=clock))
    ),
    "unfenced resource": Bug("the resource took a write", Parts(resource=UnfencedResource)),
    "lease shorter than a turn": Bug(
        "is well, and lost the run that it is at",
        patched=lambda: patch.object(heartbeat.Heartbeat, "beat", nameless_beat),
    ),
    "lost acknowledgement taken for a failure": Bug(
        "gave back a run with time left",
        patched=lambda: patch.object(answering, "failed", lost_is_failed),
    ),
    "duplicate runner": Bug(
        "another process has the id", Parts(runner_id=lambda place, _: f"twin-{place // 2}")
    ),
    "plan not frozen": Bug("saw different plans", Parts(view=PlanOfNow)),
    "margin ignored": Bug(
        "outside its own slot",
        patched=lambda: patch.object(asking, "decide", decided_without_margin),
    ),
    "period's key left out": Bug(
        "to a period that is served",
        patched=lambda: patch.object(gates, "is_served", nothing_is_served),
    ),
    "purge of an open run's row": Bug(
        "has disappeared", Parts(storage=lambda clock: PurgesTheOpen(clock=clock))
    ),
    "clock of the runner instead of the storage": Bug(
        "outside its own slot",
        Parts(view=OwnClock),
    ),
}
"""The sabotage row: the planted bugs that the simulation must find."""
