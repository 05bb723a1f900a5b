"""The plan: the record of a service that says who has which slot in a cycle, and its rules.

Rules
-----
1. **One plan for everybody.** Within a cycle the plan does not change, and everybody goes by it,
   whatever their own settings are: its edges, its rules and its runners are those of the plan.
2. **Plans do not overlap.** The next plan starts where the last one ends, or later.
3. **An empty plan is never written.**
4. **The set is rotated**, by how many periods were planned before and by the cycle's number in its
   period, so that over N periods each of N steady runners is primary exactly once. With
   ``every_slot`` it is not: there each runner has its slot in each cycle.
5. **A plan is made ahead**: within the planner's margin before its cycle starts; where nobody has
   made one by then, whoever looks within the cycle makes it.

How it works
------------
A plan lists at most two cycles: the one that is, and the next. Whoever looks within the margin
before a cycle and finds no plan for it asks the storage who counts, and swaps a plan in; the first
one wins, and the others read it. A different set, different settings, or a deploy that changes
them take effect with the next plan, and never make two sets.

The next cycle is the planner's own: the cycle that contains the end of the last plan (after a gap,
now), clipped to start there; after a gap it keeps its own start, unless a plan reached into it.
Where the period of that cycle is over (served, its attempts used up, or too late to start in), the
first cycle of the next period that is not over is meant. Where a run is triggered and no plan
covers now, a plan is made at once, from now to the end of the planner's cycle.

Exceptions, which are safe because the gate stands behind:

- A plan of whose runners nobody is left is *void*, and is replaced at once, rotated, for the rest
  of its cycle: see :func:`replacement`.
- A plan that covers neither now nor the next cycle counts as none: :func:`in_force`. A clock that
  had jumped ahead leaves such plans.

Not guaranteed
--------------
A plan decides who may ask, not who runs: clocks and sets may be wrong, and then two may ask. Where
the storage's clock steps back by more than a cycle, what was planned for an instant may be planned
once more, for others. Only the gate (:mod:`turnwise.gate`) keeps them apart.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256

from turnwise.cycles import Cycle, Slot, cycle_at, instant, microseconds, slot_at
from turnwise.schedules import Every, Schedule
from turnwise.settings import Settings

_KNOWN_CYCLES = 4


@dataclass(frozen=True, slots=True)
class PlanRules:
    """What everybody goes by within a cycle; durations in microseconds.

    ``margin`` is the guard time of each slot and ``window`` the part of a slot in which a turn may
    start. ``start_within`` counts from the due instant; None for until the period ends.
    """

    margin: int
    window: float
    standbys: int
    attempts: int
    every_slot: bool
    stabilization: int
    start_within: int | None


@dataclass(frozen=True, slots=True)
class CyclePlan:
    """Who has which slot in one cycle ``[start, end)``.

    ``due`` and ``until`` are the edges of the period that it serves, ``number`` the cycle's number
    in it. ``runners`` have a slot, in the order of their slots: pairs of a runner id and when it
    joined. ``size`` and ``digest`` are of the whole set. ``periods`` is how often a period was
    planned before this one. ``settings`` is the digest of the settings that the plan was made by.
    """

    start: int
    end: int
    number: int
    due: int
    until: int
    rules: PlanRules
    runners: tuple[tuple[str, int], ...]
    size: int
    digest: int
    periods: int
    settings: str

    @property
    def not_after(self) -> int:
        """The last instant at which an attempt at the period may start."""
        within = self.rules.start_within
        last = self.until - 1
        return last if within is None else min(last, self.due + within)

    def position_of(self, runner_id: str) -> int | None:
        """The place of a runner's slot, from 0; None where it has none."""
        for i, (name, _) in enumerate(self.runners):
            if name == runner_id:
                return i
        return None

    def slot(self, position: int) -> Slot:
        """The slot at a position."""
        rules, count = self.rules, len(self.runners)
        return _slot_at(self.start, self.end, position, count, rules.margin, rules.window)

    def key(self, slot: Slot) -> int:
        """What a run in this slot serves: the period, or with every slot the slot itself."""
        return slot.start if self.rules.every_slot else self.due


@dataclass(frozen=True, slots=True)
class Plan:
    """The record: one cycle, or two of which the second starts no earlier than the first ends."""

    cycles: tuple[CyclePlan, ...]


@dataclass(frozen=True, slots=True)
class Planner:
    """The part of a service's settings that plans are made by; durations in microseconds."""

    schedule: Schedule
    cycle: int
    rules: PlanRules
    settings: str
    first_rotation: int
    # The last cycles that were asked for: the same ones are, again and again.
    _known: list[Cycle] = field(default_factory=list, init=False, compare=False, repr=False)

    @staticmethod
    def of(service: str, settings: Settings) -> "Planner":
        """The planner of a service with these settings: one for all who ask."""
        return _planner(service, settings)

    @classmethod
    def _made(cls, service: str, settings: Settings) -> "Planner":
        named = service_hash(service)
        longest = microseconds(settings.cycle)
        if settings.runs == "every_slot" and isinstance(settings.schedule, Every):
            longest = max(longest, microseconds(settings.schedule.interval))
        within = settings.start_within
        return cls(
            schedule=settings.schedule_of(named),
            cycle=longest,
            rules=PlanRules(
                margin=microseconds(settings.spread_margin),
                window=settings.max_start_slot_fraction,
                standbys=settings.standbys,
                attempts=settings.attempts if settings.runs == "once" else 1,
                every_slot=settings.runs == "every_slot",
                stabilization=microseconds(settings.membership_stabilization),
                start_within=None if within is None else microseconds(within),
            ),
            settings=settings_digest(settings.to_json()),
            first_rotation=named,
        )

    def cycle_at(self, at: int) -> Cycle:
        """The cycle of this planner that contains an instant."""
        for known in self._known:
            if known.start <= at < known.end:
                return known
        period = self.schedule.period_at(instant(at))
        made = cycle_at(microseconds(period.due), microseconds(period.until), self.cycle, at)
        self._known[:] = [made, *self._known[: _KNOWN_CYCLES - 1]]
        return made


_planner = lru_cache(maxsize=256)(Planner._made)  # noqa: SLF001 (of this module)


@lru_cache(maxsize=4096)  # the same few are asked for, again and again
def _slot_at(start: int, end: int, position: int, count: int, margin: int, window: float) -> Slot:
    return slot_at(start, end, position, count, margin=margin, window=window)


@dataclass(frozen=True, slots=True)
class Target:
    """A cycle that shall be planned now.

    ``rotation`` and ``limit`` are what the storage is to be asked for; ``void`` says that it takes
    the place of a plan of which nobody is left.
    """

    cycle: Cycle
    periods: int
    rotation: int
    limit: int | None
    rules: PlanRules
    settings: str
    void: bool = False


IsOver = Callable[[int, int, int], bool]
"""Whether the period ``(due, until)`` is over by the gate, asked at now: ``(due, until, now)``."""


def service_hash(service: str) -> int:
    """A stable hash of a service's name, 32 bits: where its rotation starts."""
    digest = sha256(service.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4])


@lru_cache(maxsize=1024)
def settings_digest(settings: str) -> str:
    """A short digest of the text of settings, so that a plan can say what it was made by."""
    return sha256(settings.encode()).hexdigest()[:12]


# Reading a plan -----------------------------------------------------------------------------------


def in_force(plan: Plan | None, planner: Planner, now: int) -> Plan | None:
    """The plan, where it covers now or the next cycle of the planner; None where it does not."""
    if plan is None:
        return None
    first, last = plan.cycles[0], plan.cycles[-1]
    if now < first.end and last.start <= now:
        return plan
    mine = planner.cycle_at(now)
    if now < first.end and last.start <= mine.end:
        return plan
    reach = planner.cycle_at(mine.end).end
    kept = tuple([cycle for cycle in plan.cycles if now < cycle.end and cycle.start < reach])
    if len(kept) == len(plan.cycles):
        return plan
    return Plan(kept) if kept else None


def covering(plan: Plan | None, now: int) -> CyclePlan | None:
    """The planned cycle that contains ``now``."""
    if plan is not None:
        for cycle in plan.cycles:
            if cycle.start <= now < cycle.end:
                return cycle
    return None


def upcoming(plan: Plan | None, now: int) -> CyclePlan | None:
    """The planned cycle that starts after ``now``."""
    if plan is not None:
        for cycle in plan.cycles:
            if now < cycle.start:
                return cycle
    return None


# Making a plan ------------------------------------------------------------------------------------


def next_target(
    kept: Plan | None, planner: Planner, is_over: IsOver, now: int, *, triggered: bool = False
) -> Target | int:
    """The cycle that a planner shall plan now, or the instant at which to ask again.

    Args:
        kept: the plan as it is kept, in force or not; None where there is none.
        planner: whose settings it is made by.
        is_over: whether a period is over.
        now: the storage's now.
        triggered: whether a run is asked for now, so that now needs a plan in any case.
    """
    plan = in_force(kept, planner, now)
    current, ahead = covering(plan, now), upcoming(plan, now)
    if current is None and triggered:
        cycle = planner.cycle_at(now)
        end = cycle.end if ahead is None else min(cycle.end, ahead.start)
        return _target(replace(cycle, start=now, end=end), planner, kept)
    if ahead is not None:
        mine = planner.cycle_at(now)
        over = _cannot_start(mine, now, planner.rules) or is_over(mine.due, mine.until, now)
        if current is not None or over:
            return ahead.start
        # Planned while the storage's clock was ahead: what lies before it has no plan.
        before = replace(mine, start=_clipped(mine, kept, now), end=min(mine.end, ahead.start))
        return _target(before, planner, kept)
    start = now if current is None else current.end
    cycle = planner.cycle_at(start)
    margin = planner.rules.margin
    # The next period may be over, too, where the storage's clock has stepped back.
    while _cannot_start(cycle, start, planner.rules) or is_over(cycle.due, cycle.until, now):
        start = cycle.until
        if now < start - margin:
            return start - margin
        cycle = planner.cycle_at(start)
    if now < start - margin:
        return start - margin
    return _target(replace(cycle, start=_clipped(cycle, kept, start)), planner, kept)


def _cannot_start(cycle: Cycle, at: int, rules: PlanRules) -> bool:
    within = rules.start_within
    return within is not None and at > cycle.due + within


def _clipped(cycle: Cycle, kept: Plan | None, start: int) -> int:
    """The start of a cycle, moved to the end of what was planned before it."""
    ends = () if kept is None else tuple(c.end for c in kept.cycles if c.end <= start)
    return max(cycle.start, *ends) if ends else cycle.start


def _target(cycle: Cycle, planner: Planner, kept: Plan | None) -> Target:
    last = None if kept is None else kept.cycles[-1]
    periods = planner.first_rotation if last is None else last.periods + (last.due != cycle.due)
    return _to_plan(cycle, periods, planner.rules, planner.settings, moved=0)


def replacement(void: CyclePlan, now: int, planner: Planner | None = None) -> Target:
    """The plan that takes the place of one of which nobody is left, for the rest of its cycle.

    It is made by the rules of the void plan; by those of ``planner``, where nobody goes by the
    former any more.
    """
    cycle = Cycle(max(now, void.start), void.end, void.number, void.due, void.until)
    rules, settings = void.rules, void.settings
    if planner is not None:
        rules, settings = planner.rules, planner.settings
    return replace(_to_plan(cycle, void.periods, rules, settings, moved=1), void=True)


def _to_plan(cycle: Cycle, periods: int, rules: PlanRules, settings: str, *, moved: int) -> Target:
    """What to plan; with fewer slots where the cycle was clipped too short for all of them."""
    fitting = (cycle.end - cycle.start) // (rules.margin + 1)
    return Target(
        cycle,
        periods,
        rotation=0 if rules.every_slot else periods + cycle.number + moved,
        limit=None if rules.every_slot else max(1, min(rules.standbys + 1, fitting)),
        rules=rules,
        settings=settings,
    )


def those_left(cycle: CyclePlan, now: int) -> tuple[str, ...]:
    """The runners of a plan that may still start, or all of them where no window is left.

    A plan is void where none of these is alive.
    """
    names = [name for name, _ in cycle.runners]
    ahead = [name for i, name in enumerate(names) if now <= cycle.slot(i).latest]
    return tuple(ahead or names)


def with_target(
    plan: Plan | None, target: Target, runners: tuple[tuple[str, int], ...], size: int, digest: int
) -> Plan:
    """The plan in force, with the target planned for ``runners``.

    A cycle that the target replaces goes; one before it and one after it stay.

    Raises:
        ValueError: ``runners`` is empty.
    """
    if not runners:
        raise ValueError("runners must not be empty: nobody could start")
    made = CyclePlan(
        start=target.cycle.start,
        end=target.cycle.end,
        number=target.cycle.number,
        due=target.cycle.due,
        until=target.cycle.until,
        rules=target.rules,
        runners=runners,
        size=size,
        digest=digest,
        periods=target.periods,
        settings=target.settings,
    )
    cycles = () if plan is None else plan.cycles
    before = tuple(cycle for cycle in cycles if cycle.end <= made.start)
    after = tuple(cycle for cycle in cycles if cycle.start >= made.end)
    return Plan((*before[-1:], made, *after[:1]))
