"""When a runner looks at a service's records again: at what can happen next, not at a fixed poll.

Pure functions of the plan, the gate, and who asks. A runner looks

- when its slot starts, if the period is not over or a run is triggered;
- when the plan's cycle ends, if a run is triggered and no slot of the plan is left for it;
- ten times within its window, while another run is in the way;
- once late in a cycle in which it has no slot ahead, if the period is not over: perhaps every
  runner of the plan is gone;
- where a plan ends, or a cycle of its own, and the next plan starts only later: a clock that was
  ahead may have left a gap in between, which is to be planned;
- within the margin before the next cycle, at a moment that depends on its name, so that a thousand
  runners do not plan at once. Which runner comes first differs from cycle to cycle. So each runner
  notices, some day, if its offer was lost.

When the period is over, a runner looks no earlier than before the next period.
"""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final

from turnwise import gate as gates
from turnwise.cycles import Slot
from turnwise.gate import Gate
from turnwise.plan import CyclePlan, Plan, Planner, covering, upcoming

TRIES_IN_A_WINDOW: Final = 10
_SHORTEST_RETRY: Final = 20_000  # microseconds: a storage shall not be asked without a pause


@dataclass(frozen=True, slots=True)
class Lookout:
    """Who looks, and what it is doing.

    ``interval`` is the runner's heartbeat interval in microseconds. ``used_slot`` is the start of
    the last slot in which it had a turn. ``is_blocked`` says that another run is in its way.
    """

    runner_id: str
    planner: Planner
    interval: int
    used_slot: int | None
    is_blocked: bool


def period_is_over(gate: Gate, due: int, until: int, *, now: int, attempts: int) -> bool:
    """Whether a period is served, or its attempts are used up."""
    return gates.is_over(gate, due, now=now, ahead=gates.horizon(due, until), attempts=attempts)


def slot_is_over(gate: Gate, cycle: CyclePlan, key: int, *, now: int) -> bool:
    """Whether what a slot of the cycle would serve is over, by the rules of its plan."""
    ahead = gates.horizon(cycle.due, cycle.until)
    return gates.is_over(gate, key, now=now, ahead=ahead, attempts=cycle.rules.attempts)


def is_for_trigger(gate: Gate, cycle: CyclePlan, slot: Slot, *, now: int) -> bool:
    """Whether the run that a trigger asks for may start in a slot, in place of what it serves."""
    if gate.trigger is None:
        return False
    key = cycle.key(slot)
    has_waited = gate.trigger.at <= 2 * cycle.start - cycle.end
    gives_way = cycle.rules.every_slot or gates.attempts_at(gate, key) > 0
    return (has_waited and gives_way) or slot_is_over(gate, cycle, key, now=now)


def next_look(plan: Plan | None, gate: Gate, who: Lookout, now: int) -> int:
    """The next instant at which the runner shall look.

    Args:
        plan: the plan in force, or None.
        gate: the gate.
        who: the runner.
        now: the storage's now.
    """
    instants = [_planning(plan, gate, who, now)]
    if plan is not None:
        for cycle in plan.cycles:
            instants += _chances(cycle, gate, who, now)
        instants += _gap(plan, who.planner, now)
    if gate.pause is not None and gate.pause.until is not None:
        instants.append(gate.pause.until)
    if gate.trigger is not None and not gates.is_paused(gate, now):
        # Where no plan covers now, whoever looks next makes one.
        current = covering(plan, now)
        instants.append(now + who.interval if current is None else current.end)
    return min([at for at in instants if at > now], default=now + who.interval)


def late_in(cycle: CyclePlan, runner_id: str) -> int:
    """When a runner without a slot ahead looks whether anybody has served: in the last window."""
    slot = cycle.slot(len(cycle.runners) - 1)
    part = 0.25 + 0.5 * _fraction(runner_id, cycle.start)
    return slot.start + int((slot.latest - slot.start) * part)


def _chances(cycle: CyclePlan, gate: Gate, who: Lookout, now: int) -> list[int]:
    """The instants within a planned cycle at which the runner has something to look for."""
    position = cycle.position_of(who.runner_id)
    slot = None if position is None else cycle.slot(position)
    key = cycle.due if slot is None else cycle.key(slot)
    if gates.is_paused(gate, now):
        return []
    if slot_is_over(gate, cycle, key, now=now) and gate.trigger is None:
        return []
    if slot is None or now > slot.latest or slot.start == who.used_slot:
        return [] if cycle.rules.every_slot else [late_in(cycle, who.runner_id)]
    if now < slot.start:
        return [slot.start]
    if who.is_blocked:
        window = slot.latest - slot.start
        pause = max(window // TRIES_IN_A_WINDOW, min(_SHORTEST_RETRY, window // 2), 1)
        return [min(now + min(pause, who.interval), slot.latest + 1)]
    grace = cycle.rules.stabilization
    return [joined + grace for _, joined in cycle.runners] if grace else []


def _planning(plan: Plan | None, gate: Gate, who: Lookout, now: int) -> int:
    """When the runner would plan the next cycle that has no plan yet."""
    planner = who.planner
    start = now if plan is None else plan.cycles[-1].end
    cycle = planner.cycle_at(start)
    within = planner.rules.start_within
    too_late = within is not None and start > cycle.due + within
    attempts = planner.rules.attempts
    if too_late or period_is_over(gate, cycle.due, cycle.until, now=now, attempts=attempts):
        start = cycle.until
    part = 0.25 + 0.75 * _fraction(who.runner_id, start)
    return start - int(planner.rules.margin * part)


def _gap(plan: Plan, planner: Planner, now: int) -> list[int]:
    """Where the time before the next planned cycle begins, if nobody has planned it."""
    ahead = upcoming(plan, now)
    if ahead is None:
        return []
    current = covering(plan, now)
    start = planner.cycle_at(now).end if current is None else current.end
    return [start] if start < ahead.start else []


def why_missed(gate: Gate, cycle: CyclePlan, *, now: int) -> str:
    """Why the period of a cycle that has passed was not served, in a word."""
    if gates.attempts_at(gate, cycle.due) >= cycle.rules.attempts:
        return "attempts_used"
    if gates.is_paused(gate, now):
        return "paused"
    if gate.open is not None:
        return "prior_running"
    if gates.attempts_at(gate, cycle.due):
        return "failed"
    return "nobody_started"


@lru_cache(maxsize=4096)
def _fraction(runner_id: str, at: int) -> float:
    """A stable fraction from 0 to 1 for a runner and an instant."""
    digest = sha256(f"{runner_id}\0{at}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4]) / 2**32
