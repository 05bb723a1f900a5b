"""The oracles of one service that watch its plans.

1. Everybody who reads one version of a plan reads the same.
2. A plan is replaced within its cycle only where nobody of it is well.
3. Who asks the gate is in the plan that it has read, at its own slot and within its window.
"""

from typing import Final

from turnwise.actions import Seen
from turnwise.gate import Run
from turnwise.plan import CyclePlan, Plan
from turnwise.simulation.books import Books
from turnwise.simulation.liveness import Liveness
from turnwise.simulation.process import Process
from turnwise.simulation.slots import slot_of
from turnwise.storages import Record
from turnwise.texts import plan_from_text

_ROUNDING: Final = 1  # microsecond


class PlanOracle:
    """Watches the plans of one service. See the module."""

    def __init__(self, books: Books, liveness: Liveness) -> None:
        self._books, self._stage, self._liveness = books, books.stage, liveness
        self._version: str | None = None
        self._plan: Plan | None = None
        self._seen: dict[str, str] = {}  # the body of each version
        self._looks: dict[str, tuple[int, Record | None]] = {}  # the last of each life

    def forget(self, kept: Record | None) -> None:
        """The storage has lost what it acknowledged last, and has this plan."""
        self._version = None if kept is None else kept.version
        self._plan = None if kept is None else plan_from_text(kept.body)
        self._seen.clear()

    def looked(self, process: Process, seen: Seen, *, is_heard: bool) -> None:
        """A process has read the plan; ``is_heard`` says that the answer can still arrive."""
        record = seen.service.plan
        if record is not None:
            first = self._seen.setdefault(record.version, record.body)
            if first is not record.body and first != record.body:
                self._books.say(f"runner {process.runner_id} and others saw different plans")
        if is_heard:
            self._looks[process.boot_id] = self._stage.base + self._stage.now, record

    def changed(self, kept: Record | None) -> None:
        """A process has tried to swap in a plan: ``kept`` is kept now, its own or another one."""
        if kept is None or kept.version == self._version:
            return
        before, plan = self._plan, plan_from_text(kept.body)
        self._version, self._plan = kept.version, plan
        now = self._stage.base + self._stage.now
        old_cycles = () if before is None else before.cycles
        for cycle in plan.cycles:
            if cycle not in old_cycles:
                self._liveness.note_plan(cycle)
            for old in old_cycles:
                overlaps = old.start < cycle.end and cycle.start < old.end
                if overlaps and old.end > now and old != cycle:
                    self._require_nobody_left(old, max(cycle.start, old.start))

    def _require_nobody_left(self, old: CyclePlan, at: int) -> None:
        """A plan is replaced within its cycle only where nobody of it is well."""
        slots = [slot_of(old, i) for i in range(len(old.runners))]
        # Where the window is the whole slot, nobody may start at its very end.
        ahead = [i for i, (_, latest, end) in enumerate(slots) if at <= latest and at < end]
        since = self._stage.now - 2 * self._books.timeout
        for i in ahead or range(len(old.runners)):
            runner_id = old.runners[i][0]
            for process in self._stage.started:
                if process.runner_id == runner_id and self._books.is_well(process, since):
                    self._books.say(
                        f"a plan was replaced, and {runner_id}, which is in it, is well"
                    )

    def require_a_place(self, process: Process, run: Run) -> None:
        """Who asks the gate goes by the plan that it has read, within its own window."""
        looked, record = self._looks.get(process.boot_id, (0, None))
        cycle = self._cycle_of(run, record)
        places = [] if cycle is None else [name for name, _ in cycle.runners]
        if cycle is None or process.runner_id not in places:
            self._books.say(f"runner {process.runner_id} tried the gate and is not in the plan")
            return
        start, latest, end = slot_of(cycle, places.index(process.runner_id))
        own = (start, end) == (run.slot_start, run.slot_end)
        if not own or not start <= looked <= latest + _ROUNDING:
            self._books.say(f"runner {process.runner_id} was cleared to start outside its own slot")

    @staticmethod
    def _cycle_of(run: Run, record: Record | None) -> CyclePlan | None:
        cycles = () if record is None else plan_from_text(record.body).cycles
        return next((c for c in cycles if (c.start, c.due) == (run.cycle_start, run.due)), None)
