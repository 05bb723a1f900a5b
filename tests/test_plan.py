"""The plan's rules: who has which slot, when the next cycle is planned, and what counts as none."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records import FIVE, RULES, cycle_plan, with_rules
from turnwise import plan as plans
from turnwise.cycles import MINUTE, SECOND, Cycle, instant, microseconds
from turnwise.plan import Plan, Planner, Target
from turnwise.schedules import Every, Period, Schedule, Staggered
from turnwise.settings import Settings

DAY = 24 * 60 * MINUTE
NOON: Final = 1_790_000_000_000_000 // DAY * DAY + DAY // 2
MARGIN: Final = RULES.margin
EVERY_FIVE: Final = Every("5m")


def planner_of(
    schedule: Schedule = EVERY_FIVE, *, cycle: int = FIVE, rotation: int = 0, **rules: Any
) -> Planner:
    return Planner(schedule, cycle, replace(RULES, **rules), f"{schedule}/{cycle}", rotation)


FIVES = planner_of()


def never(_due: int, _until: int, _now: int) -> bool:
    return False


def always(_due: int, _until: int, _now: int) -> bool:
    return True


def planned(target: Target | int, plan: Plan | None, among: Sequence[str] = "abc") -> Plan:
    """The plan with the target in it, made of a set as a storage answers."""
    assert isinstance(target, Target), target
    names = [among[(target.rotation + i) % len(among)] for i in range(len(among))]
    runners = tuple((name, 5) for name in names[: target.limit])
    return plans.with_target(plan, target, runners, size=len(among), digest=7)


def next_of(
    kept: Plan | None, planner: Planner, now: int, is_over: plans.IsOver = never, **how: bool
) -> Target:
    target = plans.next_target(kept, planner, is_over, now, **how)
    assert isinstance(target, Target), target
    return target


def span(target: Target) -> tuple[int, int]:
    return target.cycle.start, target.cycle.end


# A planned cycle ----------------------------------------------------------------------------


def test_an_attempt_may_start_until_the_period_ends_or_so_long_after_its_due_instant() -> None:
    cycle = cycle_plan(NOON, NOON + FIVE)
    assert cycle.not_after == NOON + FIVE - 1
    assert with_rules(cycle, start_within=MINUTE).not_after == NOON + MINUTE
    assert with_rules(cycle, start_within=DAY).not_after == NOON + FIVE - 1


def test_a_runner_has_the_slot_of_its_first_place_in_the_list() -> None:
    cycle = cycle_plan(NOON, NOON + FIVE, "a", "b", "a")
    assert [cycle.position_of(name) for name in "abx"] == [0, 1, None]
    slot = cycle.slot(1)
    assert (slot.start, slot.end) == (NOON + 100 * SECOND, NOON + 180 * SECOND)
    assert slot.latest == NOON + 140 * SECOND


def test_a_run_serves_its_period_or_with_every_slot_its_slot() -> None:
    cycle = cycle_plan(NOON, NOON + FIVE)
    assert cycle.key(cycle.slot(1)) == NOON
    assert with_rules(cycle, every_slot=True).key(cycle.slot(1)) == NOON + 100 * SECOND


# Whose settings -----------------------------------------------------------------------------


def test_a_planner_goes_by_its_settings() -> None:
    settings = Settings(
        schedule=Every("1d", "3h"),
        cycle=timedelta(minutes=4),
        start_within=timedelta(hours=2),
        attempts=5,
        standbys=1,
        spread_margin=timedelta(seconds=9),
        max_start_slot_fraction=0.25,
        membership_stabilization=timedelta(seconds=7),
    )
    planner = Planner.of("housekeeping", settings)
    assert planner == Planner(
        schedule=Every("1d", "3h"),
        cycle=4 * MINUTE,
        rules=plans.PlanRules(9 * SECOND, 0.25, 1, 5, False, 7 * SECOND, 120 * MINUTE),  # noqa: FBT003
        settings=plans.settings_digest(settings.to_json()),
        first_rotation=plans.service_hash("housekeeping"),
    )
    three = NOON - 9 * 60 * MINUTE
    assert planner.cycle_at(three + 5 * MINUTE) == Cycle(
        three + 4 * MINUTE, three + 8 * MINUTE, 1, three, three + DAY
    )


@pytest.mark.parametrize("interval", ["1d", "1m"])
def test_with_every_slot_a_period_is_one_cycle_and_each_slot_has_one_attempt(interval: str) -> None:
    planner = Planner.of("s", Settings(schedule=Every(interval), runs="every_slot", attempts=4))
    assert planner.rules.every_slot
    assert planner.rules.attempts == 1
    cycle = planner.cycle_at(NOON + 7)
    assert (cycle.start, cycle.end) == (cycle.due, cycle.until)


def test_a_planner_of_a_service_that_is_staggered_has_its_own_dues() -> None:
    settings = Settings(stagger=timedelta(seconds=60))
    planner = Planner.of("s", settings)
    by = plans.service_hash("s") % (60 * SECOND)
    assert planner.schedule == Staggered(settings.schedule, timedelta(microseconds=by))
    assert planner.cycle_at(NOON + by).start == NOON + by


def test_hashes_and_digests_are_the_same_on_every_machine_and_in_every_version() -> None:
    """Runners of two versions, side by side, must rotate and stagger alike."""
    assert plans.service_hash("housekeeping") == 3_261_624_825
    assert plans.service_hash("\ud800") != plans.service_hash("?"), "any text has one"
    assert plans.settings_digest("{}") == "44136fa355b3"


# What counts --------------------------------------------------------------------------------


def test_a_plan_counts_while_it_covers_now_or_the_next_cycle() -> None:
    this, following = cycle_plan(NOON, NOON + FIVE), cycle_plan(NOON + FIVE, NOON + 2 * FIVE)
    both = Plan((this, following))
    assert plans.in_force(None, FIVES, NOON) is None
    assert plans.in_force(both, FIVES, NOON) == both
    assert plans.in_force(both, FIVES, NOON + FIVE - 1) == both
    assert plans.in_force(both, FIVES, NOON + FIVE) == Plan((following,))
    assert plans.in_force(both, FIVES, NOON + 2 * FIVE) is None
    assert plans.in_force(both, FIVES, NOON - 1) == Plan((this,)), "the second is further ahead"
    assert plans.in_force(Plan((this,)), FIVES, NOON - FIVE) == Plan((this,))
    assert plans.in_force(Plan((this,)), FIVES, NOON - FIVE - 1) is None


def test_the_cycle_that_covers_now_and_the_one_that_starts_later_are_told_apart() -> None:
    this, following = cycle_plan(NOON, NOON + FIVE), cycle_plan(NOON + FIVE, NOON + 2 * FIVE)
    both = Plan((this, following))
    assert plans.covering(None, NOON) is None
    assert plans.upcoming(None, NOON) is None
    for now, covering, upcoming in (
        (NOON - 1, None, this),
        (NOON, this, following),
        (NOON + FIVE - 1, this, following),
        (NOON + FIVE, following, None),
        (NOON + 2 * FIVE, None, None),
    ):
        assert plans.covering(both, now) == covering
        assert plans.upcoming(both, now) == upcoming


# The next plan ------------------------------------------------------------------------------


def test_where_nothing_is_planned_the_cycle_of_now_is_planned_with_its_own_start() -> None:
    target = next_of(None, planner_of(rotation=40), NOON + MINUTE)
    assert target == Target(
        Cycle(NOON, NOON + FIVE, 0, NOON, NOON + FIVE), 40, 40, 3, RULES, "every 5m/300000000"
    )


def test_the_next_cycle_is_planned_from_the_margin_before_it_and_not_once_more() -> None:
    kept = planned(next_of(None, FIVES, NOON), None)
    begins = NOON + FIVE - MARGIN
    assert plans.next_target(kept, FIVES, never, NOON, triggered=False) == begins
    assert plans.next_target(kept, FIVES, never, begins - 1) == begins
    target = next_of(kept, FIVES, begins)
    assert span(target) == (NOON + FIVE, NOON + 2 * FIVE)
    both = planned(target, kept)
    assert plans.next_target(both, FIVES, never, begins) == NOON + FIVE
    assert len(both.cycles) == 2


def test_the_next_plan_is_clipped_to_start_where_the_last_one_ends() -> None:
    four = planner_of(Every("1h"), cycle=4 * MINUTE)
    two = planner_of(Every("1h"), cycle=2 * MINUTE)
    kept = planned(next_of(None, two, NOON), None)
    target = next_of(kept, four, NOON + 2 * MINUTE - 1)
    assert span(target) == (NOON + 2 * MINUTE, NOON + 4 * MINUTE)
    assert target.cycle.number == 0


def test_after_a_gap_the_cycle_of_now_is_planned_but_not_what_a_plan_reached_into() -> None:
    four = planner_of(Every("1h"), cycle=4 * MINUTE)
    kept = Plan((cycle_plan(NOON, NOON + MINUTE),))
    assert span(next_of(kept, four, NOON + 2 * MINUTE)) == (NOON + MINUTE, NOON + 4 * MINUTE)
    assert span(next_of(kept, four, NOON + 5 * MINUTE)) == (NOON + 4 * MINUTE, NOON + 8 * MINUTE)
    late = Plan((cycle_plan(NOON - FIVE, NOON - MINUTE), cycle_plan(NOON - MINUTE, NOON + MINUTE)))
    assert span(next_of(late, four, NOON + MINUTE)) == (NOON + MINUTE, NOON + 4 * MINUTE)


def test_between_two_plans_of_a_clock_that_was_ahead_what_has_no_plan_is_planned_at_once() -> None:
    before = cycle_plan(NOON - 3 * MINUTE, NOON + 2 * MINUTE)
    ahead = cycle_plan(NOON + 4 * MINUTE, NOON + 9 * MINUTE, due=NOON, until=NOON + 60 * MINUTE)
    kept = Plan((before, replace(ahead, periods=9)))
    now = NOON + 3 * MINUTE
    target = next_of(kept, planner_of(Every("1h")), now)
    assert span(target) == (NOON + 2 * MINUTE, NOON + 4 * MINUTE)
    assert target.periods == 9, "it is the period that was planned last"
    asked = []

    def is_over(due: int, until: int, at: int) -> bool:
        asked.append((due, until, at))
        return True

    assert plans.next_target(kept, planner_of(Every("1h")), is_over, now) == ahead.start
    assert asked == [(NOON, NOON + 60 * MINUTE, now)]
    for within, answer in ((3 * MINUTE, target.cycle), (3 * MINUTE - 1, None)):
        hurried = planner_of(Every("1h"), start_within=within)
        found = plans.next_target(kept, hurried, never, now)
        assert (found.cycle if isinstance(found, Target) else None) == answer


def test_a_period_that_is_over_is_skipped_and_the_next_one_where_it_is_over_too() -> None:
    def over_until(edge: int) -> plans.IsOver:
        return lambda _due, until, _now: until <= edge

    hourly = planner_of(Every("1h"))
    hour = 60 * MINUTE
    for plan in (None, Plan((cycle_plan(NOON, NOON + FIVE),))):
        begins = NOON + hour - MARGIN
        assert plans.next_target(plan, hourly, over_until(NOON + hour), NOON) == begins
        target = next_of(plan, hourly, begins, over_until(NOON + hour))
        assert span(target) == (NOON + hour, NOON + hour + FIVE)
        again = plans.next_target(plan, hourly, over_until(NOON + 2 * hour), begins)
        assert again == begins + hour


def test_whether_a_period_is_over_is_asked_with_its_edges_at_now() -> None:
    asked = []

    def is_over(due: int, until: int, now: int) -> bool:
        asked.append((due, until, now))
        return False

    next_of(Plan((cycle_plan(NOON, NOON + FIVE),)), FIVES, NOON + FIVE - 1, is_over)
    assert asked == [(NOON + FIVE, NOON + 2 * FIVE, NOON + FIVE - 1)]


def test_a_cycle_in_which_nobody_may_start_any_more_is_not_planned() -> None:
    hourly = planner_of(Every("1h"), start_within=12 * MINUTE)
    hour = 60 * MINUTE
    assert span(next_of(None, hourly, NOON + 12 * MINUTE))[0] == NOON + 10 * MINUTE
    begins = NOON + hour - MARGIN
    assert plans.next_target(None, hourly, never, NOON + 12 * MINUTE + 1) == begins
    kept = Plan((cycle_plan(NOON + 10 * MINUTE, NOON + 15 * MINUTE),))
    assert plans.next_target(kept, hourly, never, NOON + 12 * MINUTE) == begins


def test_a_trigger_has_a_plan_at_once_though_the_period_is_served() -> None:
    hourly = planner_of(Every("1h"))
    now = NOON + 7 * MINUTE
    assert isinstance(plans.next_target(None, hourly, always, now), int)
    target = next_of(None, hourly, now, always, triggered=True)
    assert span(target) == (now, NOON + 10 * MINUTE)
    assert (target.cycle.due, target.cycle.until) == (NOON, NOON + 60 * MINUTE)


def test_a_trigger_changes_nothing_where_now_is_planned_and_stops_at_what_is_planned_ahead() -> (
    None
):
    this, following = cycle_plan(NOON, NOON + FIVE), cycle_plan(NOON + FIVE, NOON + 2 * FIVE)
    both = Plan((this, following))
    assert plans.next_target(both, FIVES, never, NOON + 1, triggered=True) == NOON + FIVE
    soon = Plan((cycle_plan(NOON + MINUTE, NOON + FIVE),))
    assert span(next_of(soon, FIVES, NOON + 7, triggered=True)) == (NOON + 7, NOON + MINUTE)
    alone = next_of(Plan((following,)), FIVES, NOON + 7, triggered=True)
    assert alone.periods == following.periods + 1, "it is another period than the last planned"
    made = planned(alone, plans.in_force(Plan((following,)), FIVES, NOON + 7))
    assert [(cycle.start, cycle.end) for cycle in made.cycles] == [
        (NOON + 7, NOON + FIVE),
        (NOON + FIVE, NOON + 2 * FIVE),
    ]


def test_periods_are_counted_once_each_and_the_set_moves_on_with_each_cycle() -> None:
    ten = planner_of(Every("10m"), rotation=40)
    first = next_of(None, ten, NOON)
    kept = planned(first, None)
    second = next_of(kept, ten, NOON + FIVE - 1)
    both = planned(second, kept)
    third = next_of(both, ten, NOON + 2 * FIVE - 1)
    assert [(t.periods, t.rotation) for t in (first, second, third)] == [
        (40, 40),
        (40, 41),
        (41, 41),
    ]


def test_a_cycle_that_is_too_short_for_all_has_as_many_slots_as_its_margin_leaves_room_for() -> (
    None
):
    two = planner_of(Every("1h"), cycle=2 * MINUTE, standbys=3)
    for length, slots in ((120, 4), (81, 4), (80, 3), (60.0, 2), (20, 1), (1, 1)):
        end = NOON + 2 * MINUTE
        kept = Plan((cycle_plan(NOON, end - int(length * SECOND)),))
        target = next_of(kept, two, end - int(length * SECOND))
        assert span(target) == (end - int(length * SECOND), end)
        assert target.limit == slots
        plan = planned(target, kept, "abcdef")
        made = plan.cycles[-1]
        assert all(slot.start < slot.end for slot in map(made.slot, range(slots)))
    exact = planner_of(Every("1h"), cycle=2 * MINUTE, margin=3)
    kept = Plan((cycle_plan(NOON, NOON + 2 * MINUTE - 11),))
    assert next_of(kept, exact, NOON + 2 * MINUTE - 11).limit == 2, "3 + 1 to each: 12 for three"
    kept = Plan((cycle_plan(NOON, NOON + 2 * MINUTE - 12),))
    assert next_of(kept, exact, NOON + 2 * MINUTE - 12).limit == 3


def test_with_every_slot_the_whole_set_is_asked_for_in_its_order() -> None:
    target = next_of(None, planner_of(every_slot=True, rotation=40), NOON)
    assert (target.rotation, target.limit) == (0, None)


# Replacing a plan ---------------------------------------------------------------------------


def test_a_plan_of_which_nobody_is_left_is_replaced_for_the_rest_of_its_cycle() -> None:
    void = with_rules(cycle_plan(NOON, NOON + FIVE), standbys=1, attempts=9)
    following = cycle_plan(NOON + FIVE, NOON + 2 * FIVE)
    target = plans.replacement(void, NOON + MINUTE)
    assert target == Target(
        Cycle(NOON + MINUTE, NOON + FIVE, 0, NOON, NOON + FIVE),
        periods=11,
        rotation=12,
        limit=2,
        rules=void.rules,
        settings=void.settings,
        void=True,
    )
    made = planned(target, Plan((void, following)))
    assert [cycle.start for cycle in made.cycles] == [NOON + MINUTE, NOON + FIVE]
    assert made.cycles[1] == following


def test_a_plan_is_made_of_its_target_and_of_who_counts() -> None:
    target = Target(Cycle(NOON, NOON + FIVE, 3, NOON - FIVE, NOON + DAY), 5, 8, 3, RULES, "digest")
    made = plans.with_target(None, target, (("a", 1),), size=4, digest=9)
    assert made.cycles == (
        plans.CyclePlan(
            start=NOON,
            end=NOON + FIVE,
            number=3,
            due=NOON - FIVE,
            until=NOON + DAY,
            rules=RULES,
            runners=(("a", 1),),
            size=4,
            digest=9,
            periods=5,
            settings="digest",
        ),
    )


def test_of_what_was_planned_only_what_is_next_to_a_target_stays() -> None:
    cycles = [cycle_plan(NOON + n * FIVE, NOON + (n + 1) * FIVE) for n in range(4)]
    target = plans.replacement(cycles[2], NOON + 2 * FIVE)
    assert planned(target, Plan(tuple(cycles[:2]))).cycles[:-1] == (cycles[1],)
    target = plans.replacement(cycles[1], NOON + FIVE)
    assert planned(target, Plan(tuple(cycles[2:]))).cycles[1:] == (cycles[2],)


def test_an_empty_plan_is_never_made() -> None:
    with pytest.raises(ValueError, match=r"^runners must not be empty: nobody could start$"):
        plans.with_target(None, next_of(None, FIVES, NOON), (), size=0, digest=0)


def test_those_left_are_whose_window_has_not_passed_or_all_where_each_has() -> None:
    cycle = cycle_plan(NOON, NOON + FIVE)
    latest = [cycle.slot(position).latest for position in range(3)]
    assert plans.those_left(cycle, latest[0]) == ("a", "b", "c")
    assert plans.those_left(cycle, latest[0] + 1) == ("b", "c")
    assert plans.those_left(cycle, latest[2]) == ("c",)
    assert plans.those_left(cycle, latest[2] + 1) == ("a", "b", "c")


# Chains of plans ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Odd:
    """A schedule of periods of odd lengths, over and over: 1, 7, 13, 60 minutes and some."""

    lengths: tuple[int, ...] = (MINUTE, 7 * MINUTE, 13 * MINUTE + 1, 60 * MINUTE)

    def period_at(self, now: datetime) -> Period:
        total, at = sum(self.lengths), microseconds(now)
        edges = [sum(self.lengths[:i]) for i in range(len(self.lengths) + 1)]
        place = bisect_right(edges, at % total) - 1
        begin = at - at % total
        return Period(instant(begin + edges[place]), instant(begin + edges[place + 1]))

    def dues(self, since: datetime, until: datetime) -> Iterator[datetime]:
        raise NotImplementedError

    def __str__(self) -> str:
        return f"odd {self.lengths}"


@dataclass
class World:
    """Planners that look at one record, under a clock that goes ahead, and what they wrote."""

    planners: Sequence[Planner]
    among: Sequence[str] = "abc"
    now: int = NOON
    plan: Plan | None = None
    made: list[plans.CyclePlan] = field(default_factory=list)
    served: set[int] = field(default_factory=set)

    def is_over(self, due: int, _until: int, _now: int) -> bool:
        return due in self.served

    def look(self, planner: Planner) -> bool:
        """One planner looks; whether it has planned."""
        target = plans.next_target(self.plan, planner, self.is_over, self.now)
        if isinstance(target, int):
            assert target > self.now, "it would ask again and again"
            return False
        in_force = plans.in_force(self.plan, planner, self.now)
        self.plan = planned(target, in_force, self.among)
        self.made += [cycle for cycle in self.plan.cycles if cycle.start == target.cycle.start]
        self.check()
        return True

    def replace_void(self) -> None:
        """Nobody is left of the plan: whoever notices replaces it."""
        current = plans.covering(self.plan, self.now)
        if current is not None:
            target = plans.replacement(current, self.now)
            self.plan = planned(target, self.plan, self.among)
            self.made[self.made.index(current)] = replace(current, end=max(self.now, 1))
            self.made += [each for each in self.plan.cycles if each.start == target.cycle.start]
            self.check()

    def check(self) -> None:
        """Of all that was ever planned no two overlap, and the record has two cycles at most."""
        assert self.plan is not None
        assert 1 <= len(self.plan.cycles) <= 2
        spans = sorted((cycle.start, cycle.end) for cycle in self.made if cycle.start < cycle.end)
        for (_, end), (start, _) in pairwise(spans):
            assert end <= start, "two plans for one instant"

    def serve(self) -> None:
        current = plans.covering(self.plan, self.now)
        if current is not None:
            self.served.add(current.due)


schedules: st.SearchStrategy[Schedule] = st.sampled_from(
    [Every("2m"), Every("4m"), Every("1h"), Every("7m", "3m"), Odd()]
)
planners = st.builds(
    planner_of,
    schedules,
    cycle=st.sampled_from([2 * MINUTE, 4 * MINUTE, 100 * SECOND]),
    margin=st.sampled_from([0, SECOND, 15 * SECOND]),
    start_within=st.none() | st.sampled_from([0, MINUTE, 3 * MINUTE]),
)


@given(st.lists(planners, min_size=1, max_size=3), st.data())
def test_plans_never_overlap_whoever_makes_them_and_everybody_goes_by_the_one_that_is(
    planners: list[Planner], data: st.DataObject
) -> None:
    world = World(planners)
    steps = st.one_of(st.integers(0, 20 * SECOND), st.integers(0, 10 * MINUTE))
    for _ in range(8):
        world.now += data.draw(steps)
        before = plans.covering(world.plan, world.now)
        for planner in data.draw(st.permutations(planners)):
            world.look(planner)
        after = plans.covering(world.plan, world.now)
        assert before in (None, after), "within a cycle the plan does not change"
        for planner in planners:  # at a margin's start, the cycle that is and the next one
            world.look(planner)
        for planner in planners:
            assert not world.look(planner), "it settles: nobody plans what is planned"
            in_force = plans.in_force(world.plan, planner, world.now)
            assert plans.covering(in_force, world.now) == after, "everybody goes by it"
        match data.draw(st.sampled_from(["serve", "void", "nothing"])):
            case "serve":
                world.serve()
            case "void":
                world.replace_void()


def two_and_four_minutes() -> None:
    """Two settings of one service; each runner looks in turn, every few seconds, for an hour."""
    two, four = (planner_of(Every("1h"), cycle=n * MINUTE) for n in (2, 4))
    world = World([two, four])
    for number, world.now in enumerate(range(NOON, NOON + 60 * MINUTE, 7 * SECOND)):
        for planner in (two, four) if number % 2 else (four, two):
            world.look(planner)
    spans = [(cycle.start, cycle.end) for cycle in world.made if cycle.due == NOON]
    assert spans[0][0] == NOON
    assert [end for _, end in spans[:-1]] == [start for start, _ in spans[1:]], "no gap"
    assert {cycle.settings for cycle in world.made} == {two.settings, four.settings}


def unclipped(cycle: Cycle, *_: object) -> int:
    return cycle.start


def own_plan_only(plan: Plan | None, planner: Planner, now: int) -> Plan | None:
    """As if everybody went by plans of its own settings alone."""
    shipped = None if plan is None else [c for c in plan.cycles if c.settings == planner.settings]
    kept = tuple(c for c in shipped or () if now < c.end)
    return Plan(kept) if kept else None


@pytest.mark.parametrize(("rule", "other"), [("_clipped", unclipped), ("in_force", own_plan_only)])
def test_scenario_7_cycles_of_2_and_4_minutes_settle_on_one_chain_of_plans(
    monkeypatch: pytest.MonkeyPatch, rule: str, other: object
) -> None:
    two_and_four_minutes()
    monkeypatch.setattr(plans, rule, other)
    with pytest.raises(AssertionError):
        two_and_four_minutes()


@given(
    schedules | st.just(Every("5m")),
    st.integers(1, 9),
    st.integers(0, 4),
    st.integers(0, 2**32 - 1),
    st.integers(0, 10**6),
)
def test_over_as_many_periods_as_runners_each_is_primary_once_and_stands_by_as_often_as_the_others(
    schedule: Schedule, count: int, standbys: int, rotation: int, start: int
) -> None:
    planner = planner_of(schedule, rotation=rotation, standbys=standbys, margin=SECOND)
    world = World([planner], among="abcdefghi"[:count], now=NOON + start * SECOND)
    firsts: list[plans.CyclePlan] = []
    while len(firsts) < 2 * count + 1:
        target = plans.next_target(world.plan, planner, world.is_over, world.now)
        if isinstance(target, int):
            world.now = target
        else:
            world.look(planner)
            firsts += [cycle for cycle in world.made[-1:] if cycle.number == 0]
        world.serve()
    for since in range(1, count + 1):
        turns = [cycle.runners for cycle in firsts[since : since + count]]
        for position in range(min(count, 1 + standbys)):
            assert sorted(turn[position][0] for turn in turns) == sorted(world.among)


# What an earlier draft got wrong ------------------------------------------------------------


def all_are_gone_before_it_starts() -> None:
    """All whom a plan lists are gone before its cycle starts: the next ones have its slots."""
    kept = planned(next_of(None, FIVES, NOON), None, "abc")
    kept = planned(next_of(kept, FIVES, NOON + FIVE - 1), kept, "abc")
    current, ahead = kept.cycles
    for now in (NOON + FIVE - 1, NOON + FIVE, NOON + FIVE + MINUTE):
        target = plans.replacement(ahead, now)
        made = planned(target, plans.in_force(kept, FIVES, now), "xyz")
        assert made.cycles[-1].runners[0][0] in "xyz"
        assert span(target) == (max(now, NOON + FIVE), NOON + 2 * FIVE)
        assert (current in made.cycles) == (now < NOON + FIVE), "what is in force is kept"


def from_now(void: plans.CyclePlan, now: int) -> Target:
    cycle = Cycle(now, void.end, void.number, void.due, void.until)
    return replace(plans._to_plan(cycle, 0, void.rules, "", moved=1), void=True)


def test_scenario_14_a_plan_whose_runners_are_gone_before_it_starts_is_replaced_from_its_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    all_are_gone_before_it_starts()
    monkeypatch.setattr(plans, "replacement", from_now)
    with pytest.raises(AssertionError):
        all_are_gone_before_it_starts()


def years_ahead() -> None:
    """A clock was years ahead, and has left a plan there; now is planned as if it were not."""
    far = Plan((cycle_plan(NOON + 4000 * DAY, NOON + 4000 * DAY + FIVE),))
    target = next_of(far, FIVES, NOON + MINUTE)
    assert span(target) == (NOON, NOON + FIVE)
    made = planned(target, plans.in_force(far, FIVES, NOON + MINUTE))
    assert len(made.cycles) == 1, "what lay far ahead is gone"


def whatever_lies_ahead(plan: Plan | None, _planner: Planner, now: int) -> Plan | None:
    kept = () if plan is None else tuple(cycle for cycle in plan.cycles if now < cycle.end)
    return Plan(kept) if kept else None


def test_scenario_14_a_plan_that_lies_years_ahead_counts_as_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    years_ahead()
    monkeypatch.setattr(plans, "in_force", whatever_lies_ahead)
    with pytest.raises(AssertionError):
        years_ahead()


def test_scenario_14_where_everybody_seems_silent_no_plan_without_runners_is_written() -> None:
    """The clock has stepped back, so that every heartbeat lies ahead of it."""
    kept = planned(next_of(None, FIVES, NOON), None)
    target = next_of(kept, FIVES, NOON - 2 * FIVE)
    with pytest.raises(ValueError, match="empty"):
        plans.with_target(plans.in_force(kept, FIVES, NOON - 2 * FIVE), target, (), 0, 0)
