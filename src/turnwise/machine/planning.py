"""Planning the next cycle, replacing a plan of which nobody is left, and what is told of it.

A plan is made in two requests: who is there (:class:`~turnwise.actions.FindStable`), then the swap.
Where the plan that is there is in doubt, because none of its runners may be left, the first request
asks about them, too; if one of them is alive, nothing is planned.

1. A doubt is followed up once for each version of the plan and revision, and once more late in its
   cycle.
2. After the storage's clock has stepped back nothing is planned for a heartbeat interval: until
   each runner has sent one again, those who are there seem not to be.
3. Who plans a new period tells where the one before was missed; and, in one event, which ones
   passed since without a plan, as nobody was there or the storage was away. It goes by its own
   schedule: where the last plan was made by other settings, it says nothing of what passed since,
   because it does not know what was due.
"""

from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Final

from turnwise import gate as gates
from turnwise import plan as plans
from turnwise.actions import FindStable, ListOffers, OffersListed, Swap
from turnwise.cycles import instant, microseconds
from turnwise.events import CyclePlanned, Event, PeriodMissed, SettingsDiffer
from turnwise.gate import Gate
from turnwise.looks import late_in, period_is_over, slot_is_over, why_missed
from turnwise.machine.history import say_settings
from turnwise.machine.state import Planning, Records, State
from turnwise.plan import CyclePlan, Plan, Target
from turnwise.storages import Kind, Record, StableSet, Swapped
from turnwise.texts import plan_to_text

MOST_UNPLANNED: Final = 10_000
"""So many periods that nobody planned are counted; if there were more, the event counts these."""


def plan_ahead(
    state: State, at: int, now: int, plan: Plan | None, cycle: CyclePlan | None, gate: Gate
) -> bool:
    """Plan the next cycle where it is time to, or replace a plan of which nobody is left.

    Args:
        state: the machine's.
        at: our clock.
        now: the storage's.
        plan: the plan in force.
        cycle: the cycle of it that covers ``now``.
        gate: the gate.

    Returns:
        Whether a request was made.
    """
    if state.quiet_until is not None:
        if at < state.quiet_until:
            return False
        state.quiet_until = None
    if cycle is not None and may_be_void(state, now, cycle, plan, gate):
        return True
    if _ahead_may_be_void(state, now, plan, gate):
        return True
    if plan is not None and cycle is not None:
        is_planned = plan.cycles[-1].start > now
        if is_planned or now < cycle.end - state.planner.rules.margin:
            return False  # as next_target would say, at more length
    target = plans.next_target(
        state.seen.plan,
        state.planner,
        lambda due, until, now: period_is_over(
            gate, due, until, now=now, attempts=state.planner.rules.attempts
        ),
        now,
        triggered=gate.trigger is not None and not gates.is_paused(gate, now),
    )
    if isinstance(target, int):
        return False
    _find_stable(state, target, (state.runner_id,), plan)
    return True


# Is anybody left? ---------------------------------------------------------------------------------


def may_be_void(state: State, now: int, cycle: CyclePlan, plan: Plan | None, gate: Gate) -> bool:
    """Ask whether anybody of the plan is left, once for each plan, revision, and late in it."""
    position = cycle.position_of(state.runner_id)
    if position is not None and now <= cycle.slot(position).latest:
        return False
    if gate.open is not None or gates.is_paused(gate, now):
        return False
    if slot_is_over(gate, cycle, cycle.due, now=now) and gate.trigger is None:
        return False
    doubt = (state.seen.plan_version, state.revision, now >= late_in(cycle, state.runner_id))
    if doubt == state.doubted:
        return False
    state.doubted = doubt
    if cycle.settings != state.planner.settings:
        state.then = ListOffers()
    else:
        among = plans.those_left(cycle, now)
        _find_stable(state, plans.replacement(cycle, now), among, plan)
    return True


def _ahead_may_be_void(state: State, now: int, plan: Plan | None, gate: Gate) -> bool:
    """Ask whether anybody is left of a plan that is to come, where all were told to look."""
    ahead, version = plans.upcoming(plan, now), state.seen.plan_version
    if ahead is None or ahead.position_of(state.runner_id) is not None:
        return False
    before, state.trusted = state.trusted, (version, state.revision)
    if before is None or before[0] != version or before[1] == state.revision:
        return False
    if gates.is_paused(gate, now) or ahead.settings != state.planner.settings:
        return False
    _find_stable(state, plans.replacement(ahead, now), plans.those_left(ahead, now), plan)
    return True


def offers_listed(state: State, listed: OffersListed) -> None:
    """Who offers the settings that the plan was made by? Of those, is anybody left?"""
    records = state.seen
    now = records.now
    cycle = plans.covering(records.plan, now)
    assert cycle is not None  # noqa: S101 (it was in doubt)
    left = set(plans.those_left(cycle, now))
    among = tuple(
        row.offer.runner_id
        for row in listed.offers
        if row.offer.service == state.service
        and plans.settings_digest(row.offer.settings) == cycle.settings
        and row.offer.runner_id in left
    )
    target = plans.replacement(cycle, now, state.planner)
    _find_stable(state, target, among, plans.in_force(records.plan, state.planner, now))


# Who is there, and the plan -----------------------------------------------------------------------


def _find_stable(state: State, target: Target, among: tuple[str, ...], plan: Plan | None) -> None:
    state.then = FindStable(target.rotation, target.limit, among)
    state.target = (target, plan)


def stable_found(state: State, at: int, found: StableSet) -> bool:
    """Swap in a plan for those who are there; whether the plan that was in doubt holds instead."""
    assert state.target is not None  # noqa: S101 (set with the request)
    (target, plan), state.target = state.target, None
    state.aim_at(found.now, state.asked_at, at)
    if target.void and found.alive:
        return True
    if not target.void and state.can_serve and state.runner_id not in found.alive:
        state.is_offered = False  # our offer is gone: make it anew, and look again
    if not found.runners:
        # Such as after an outage, until heartbeats arrive: ask and offer no more until then.
        state.soon = state.offer_from = at + state.interval
        state.doubted = None
        return False
    made = plans.with_target(plan, target, found.runners, size=found.size, digest=found.digest)
    new = Record(state.names(), plan_to_text(made))
    # Whoever has a slot then may not look before it is over. It is told even where the answer
    # is lost.
    state.tells_all = target.void
    state.planning = Planning(new.version, state.seen, target)
    state.then = Swap(Kind.PLAN, state.seen.plan_version, new, target.cycle.end - 1)
    state.purpose = partial(_planned, made=made)
    return False


def _planned(state: State, at: int, answer: Swapped, *, made: Plan) -> list[Event]:
    state.aim_at(answer.now, state.asked_at, at)
    planning, state.planning = state.planning, None
    assert planning is not None  # noqa: S101 (set with the request)
    if not answer.done:
        state.tells_all = False
        state.look_now(at)
        return []
    state.records = replace(state.seen, plan=made, plan_version=planning.version)
    _look_if_in_slot(state, at, made, answer.now)
    has_planned(state, planning)
    if state.to_keep is not None and state.then is None:
        state.then = state.to_keep  # before our slot: if we died in it, nobody would ever say it
    target = planning.target
    planned = next(cycle for cycle in made.cycles if cycle.start == target.cycle.start)
    told = CyclePlanned(
        **state.named,
        start=planned.start,
        end=planned.end,
        due=planned.due,
        runners=tuple(name for name, _ in planned.runners),
        size=planned.size,
        void=target.void,
    )
    return [told]


def _look_if_in_slot(state: State, at: int, made: Plan, now: int) -> None:
    """After a change of the plan: look at once where our slot has begun, else wait for it."""
    cycle = plans.covering(made, now)
    position = None if cycle is None else cycle.position_of(state.runner_id)
    if cycle is not None and position is not None and cycle.slot(position).start <= now:
        state.look_now(at)
    else:
        state.wait_for_chance(now)


# What is told -------------------------------------------------------------------------------------


def has_planned(state: State, planning: Planning) -> None:
    """A plan of ours is there: what the history, or somebody, is to be told of it."""
    records, target = planning.records, planning.target
    _owe(state, records, target)
    say_settings(state, records.plan, target)


def _owe(state: State, records: Records, target: Target) -> None:
    """Who plans a new period will say so where the one before was missed."""
    last = None if records.plan is None else records.plan.cycles[-1]
    if last is not None and last.due < target.cycle.due and not last.rules.every_slot:
        state.owed = last
        if last.settings == target.settings and last.until < target.cycle.due:
            state.unplanned = (last.until, target.cycle.due)


def told_of_missed(state: State, now: int, gate: Gate) -> list[Event]:
    """The periods that we owe a word about, once they are over and were not served."""
    return _told_of_last(state, now, gate) + _told_of_unplanned(state, now, gate)


def _told_of_unplanned(state: State, now: int, gate: Gate) -> list[Event]:
    """The periods that passed without a plan, in one event, except those of a pause that we know.

    A pause that was ended meanwhile is not in the gate any more: the audit knows of it.
    """
    if state.unplanned is None or now < state.unplanned[1]:
        return []
    since, until = state.unplanned
    if gate.open is not None and gate.open.key is not None and since <= gate.open.key < until:
        return []  # a clock had jumped ahead, and back: it is late, and still at work
    state.unplanned = None
    schedule, ahead = state.planner.schedule, gates.horizon(since, until)
    passed = islice(schedule.dues(instant(since), instant(until)), MOST_UNPLANNED)
    dues = [
        due
        for due in map(microseconds, passed)
        if not gates.is_served(gate, due, now=now, ahead=ahead) and not _was_paused(gate, due)
    ]
    if not dues:
        return []
    why = "nobody_planned"
    return [PeriodMissed(**state.named, due=dues[0], until=until, why=why, count=len(dues))]


def _was_paused(gate: Gate, due: int) -> bool:
    pause = gate.pause
    return pause is not None and pause.at <= due and (pause.until is None or due < pause.until)


def _told_of_last(state: State, now: int, gate: Gate) -> list[Event]:
    last = state.owed
    if last is None or now < last.until:
        return []
    if gate.open is not None and gate.open.key == last.due:
        return []  # it is late, and still at work
    state.owed = None
    ahead = gates.horizon(last.due, last.until)
    if gates.is_served(gate, last.due, now=now, ahead=ahead):
        return []
    why = why_missed(gate, last, now=now)
    return [PeriodMissed(**state.named, due=last.due, until=last.until, why=why)]


def told_of_settings(state: State, cycle: CyclePlan | None) -> list[Event]:
    """Where the cycle goes by other settings than ours: once for each of them."""
    if cycle is None or cycle.settings in (state.planner.settings, state.told_settings):
        return []
    state.told_settings = cycle.settings
    return [SettingsDiffer(**state.named, due=cycle.due)]
