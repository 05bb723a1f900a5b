"""What a review promises, against brute force: the decision asked everywhere, runners killed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storages import MICROSECOND, SECOND, SETTINGS, START, share_of_the_profile
from turnwise import ActiveRunnerInfo, Settings
from turnwise.review import Finding, Level, Review
from turnwise.settings import RunsPerCycle
from turnwise.timetable import decide
from virtual import SERVICE, World, assert_one_at_a_time

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
CYCLE = SETTINGS.interval


def cleared(settings: Settings, runners: int, at: datetime) -> list[str]:
    """Who is cleared to start at an instant: the decision, asked for everybody."""
    among = [ActiveRunnerInfo(f"r{n}", LONG_AGO, LONG_AGO) for n in range(runners)]
    claims = [decide(runner.runner_id, among, at, settings) for runner in among]
    return [claim.runner_id for claim in claims if claim.should_try_start]


# Slots --------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [60 * SECOND, 300 * SECOND, 7 * SECOND])
@pytest.mark.parametrize("part", [5, 15, 15.1, 14.999, 40])
def test_the_most_slots_are_the_most_runners_of_which_somebody_can_start(
    interval: timedelta, part: float
) -> None:
    settings = Settings.for_interval(
        interval, spread_margin=interval / part, runs_per_cycle="every_slot"
    )
    most = settings.review(runners=2).most_slots
    assert cleared(settings, most, START) == ["r0"]
    assert cleared(settings, most + 1, START) == []


@share_of_the_profile(10)
@given(
    st.integers(1, 8),
    st.sampled_from([0.1, 0.5, 0.77, 1.0]),
    st.sampled_from([0.0, 0.5, 2.0, 7.0]),
    st.sampled_from(["once", "every_slot"]),
)
def test_the_closed_share_is_the_part_of_the_cycle_in_which_nobody_is_cleared(
    runners: int, fraction: float, margin: float, runs: RunsPerCycle
) -> None:
    settings = replace(
        SETTINGS,
        max_start_slot_fraction=fraction,
        spread_margin=margin * SECOND,
        runs_per_cycle=runs,
    )
    review = settings.review(runners=runners)
    looks = 500
    open_looks = sum(
        bool(cleared(settings, review.slots, START + CYCLE * (look + 0.5) / looks))
        for look in range(looks)
    )
    # Each slot has one edge where a look may fall to either side.
    assert abs((1 - open_looks / looks) - review.closed_share) <= review.slots / looks
    assert review.window == (1 - review.closed_share) * CYCLE / review.slots or (
        abs(review.window - (1 - review.closed_share) * CYCLE / review.slots) <= MICROSECOND
    )


@pytest.mark.parametrize("skew", [timedelta(0), 3 * SECOND])
def test_time_alone_excludes_overlap_up_to_the_run_that_just_fits(skew: timedelta) -> None:
    """The latest start of one slot, on a slow clock, against the first of the next."""
    review = SETTINGS.review(runners=3)
    longest = review.slot - review.window - skew
    fits = SETTINGS.review(runners=3, longest_run=longest, clock_skew=skew)
    beyond = SETTINGS.review(runners=3, longest_run=longest + MICROSECOND, clock_skew=skew)
    assert (fits.overlap_excluded_by_time, beyond.overlap_excluded_by_time) == (True, False)
    assert cleared(SETTINGS, 3, START + review.window) == ["r0"]
    assert cleared(SETTINGS, 3, START + review.window + MICROSECOND) == []
    assert cleared(SETTINGS, 3, START + review.slot) == ["r1"]
    assert review.overlap_excluded_by_time is None


def test_messages_of_a_cycle_are_counted_as_runners_send_them() -> None:
    world = World(SETTINGS, turn_takes=timedelta(0))
    world.add("a", "b", "c")
    world.run_to(START + 2 * CYCLE - MICROSECOND)
    before = {n: dict(m.storage.calls) for n, m in world.members.items()}
    cycles = 10
    world.run_for(cycles * CYCLE)
    calls = [
        {what: m.storage.calls[what] - before[n].get(what, 0) for what in ("heartbeat", "look")}
        for n, m in world.members.items()
    ]
    review = SETTINGS.review(runners=3)
    sent = sum(c["heartbeat"] + c["look"] for c in calls) / cycles
    # A round is a heartbeat, too; each comes in the place of one, or between two.
    assert review.heartbeats_per_cycle <= sent
    assert sent <= review.heartbeats_per_cycle + 3 * review.looks_per_cycle


# Gaps ---------------------------------------------------------------------------------------

FLEETS = [
    (runners, standbys, runs)
    for runners in (1, 2, 3, 5)
    for standbys in (0, 1, 2)
    for runs in ("once", "every_slot")
]
fleets = pytest.mark.parametrize(("runners", "standbys", "runs"), FLEETS)


def fleet(runners: int, standbys: int, runs: RunsPerCycle, **world: object) -> World:
    settings = replace(SETTINGS, standbys=standbys, runs_per_cycle=runs)
    # Its fields have these names and types.
    made = World(settings=settings, **world)  # type: ignore[arg-type]
    made.add(*"abcde"[:runners])
    made.run_to(START + 2 * CYCLE - MICROSECOND)
    return made


def longest_gap(starts: list[datetime]) -> timedelta:
    return max(after - before for before, after in pairwise(starts))


def review_of(world: World) -> Review:
    return world.settings.review(runners=len(world.members))


@fleets
def test_without_a_fault_the_longest_gap_is_exactly_what_is_promised(
    runners: int, standbys: int, runs: RunsPerCycle
) -> None:
    world = fleet(runners, standbys, runs)
    world.run_for(2 * runners * CYCLE)
    assert longest_gap([s.began for s in world.served]) == review_of(world).gap_without_fault


@fleets
def test_with_one_dead_the_longest_gap_is_what_is_promised(
    runners: int, standbys: int, runs: RunsPerCycle
) -> None:
    """Whoever dies, wherever in a cycle: never longer, and for one of them as long."""
    promised = review_of(fleet(runners, standbys, runs)).gap_with_one_dead
    longest = timedelta(0)
    for name in "abcde"[:runners]:
        for part in (0.3, 0.7, 0.9):
            world = fleet(runners, standbys, runs)
            world.run_for(part * CYCLE)
            world.kill(name)
            world.run_for((runners + 3) * CYCLE)
            starts = [s.began for s in world.served]
            if runners == 1:
                assert starts[-1] < world.clock() - 2 * CYCLE
                assert promised is None
                continue
            assert promised is not None
            assert longest_gap(starts) <= promised
            longest = max(longest, longest_gap(starts))
    if promised is not None:
        assert longest >= 0.9 * promised


@fleets
@share_of_the_profile(20)
@given(data=st.data())
def test_after_a_kill_in_a_turn_the_next_start_comes_as_promised(
    runners: int, standbys: int, runs: RunsPerCycle, data: st.DataObject
) -> None:
    takes = data.draw(st.sampled_from([1, 20, 40, 75, 130])) * SECOND
    world = fleet(runners, standbys, runs, turn_takes=takes)
    victim = data.draw(st.sampled_from(sorted(world.members)))
    after = data.draw(st.integers(1, takes // MICROSECOND)) * MICROSECOND
    world.kill_in_its_turn(victim, after)
    world.run_for((2 * runners + 4) * CYCLE)
    killed = [s for s in world.served if s.ended is None and s.runner_id == victim]
    if not killed or runners == 1:
        return
    killed_at = killed[0].began + after
    next_start = min(s.began for s in world.served if s.began > killed[0].began)
    promised = review_of(world).gap_after_kill
    assert promised is not None
    # A moment more than the promise: the owner is dead a microsecond after its timeout.
    assert next_start - killed_at <= promised + MICROSECOND
    assert_one_at_a_time(world)


@pytest.mark.parametrize(
    ("runners", "standbys", "runs", "takes"),
    [(2, 2, "once", 60), (3, 2, "once", 80), (3, 2, "every_slot", 49), (2, 0, "once", 110)],
)
def test_some_kill_comes_near_the_promise(
    runners: int, standbys: int, runs: RunsPerCycle, takes: int
) -> None:
    """The promise is no empty one: some kill needs 0.9 of it at least."""
    longest, promised = timedelta(0), timedelta(days=1)
    for seconds in range(takes - 21, takes):
        world = fleet(runners, standbys, runs)
        after = seconds * SECOND + MICROSECOND  # a moment after a heartbeat
        next_cycle = world.backend.peek(SERVICE, world.settings, world.clock() + MICROSECOND)
        first = 1 if runs == "every_slot" else 0
        world.run_for(first * CYCLE / 4)  # the turns before its own are short
        world.turn_takes = takes * SECOND
        world.kill_in_its_turn(next_cycle.scheduled[first].runner_id, after)
        world.run_for((4 + takes // 60) * CYCLE)
        killed = next(s for s in world.served if s.ended is None)
        starts = [s.began for s in world.served if s.began > killed.began]
        longest = max(longest, min(starts) - killed.began - after)
        promised = review_of(world).gap_after_kill or promised
    assert longest >= 0.9 * promised, (longest, promised)


# Findings -----------------------------------------------------------------------------------

FINE = Settings().review(runners=3, longest_run=SECOND)


def the_one_more(review: Review) -> Finding:
    [finding] = review.findings
    return finding


def test_a_configuration_in_which_all_is_well_has_no_findings() -> None:
    assert FINE.findings == ()
    assert not FINE.has_errors


def test_nobody_can_start_is_an_error_and_promises_no_gap() -> None:
    settings = Settings(runs_per_cycle="every_slot")
    review = settings.review(runners=15, longest_run=SECOND)
    finding = the_one_more(review)
    assert review.has_errors
    assert finding.level is Level.ERROR
    assert "leaves nothing of a slot of 20s (15 slots): nobody ever starts" in finding.meaning
    assert "at most 14 runners" in finding.change
    assert {review.gap_without_fault, review.gap_with_one_dead, review.gap_after_kill} == {None}
    assert review.closed_share == 1.0
    assert not settings.review(runners=14, longest_run=timedelta(0)).has_errors


def test_near_the_most_runners_is_a_warning_from_half_of_them_on() -> None:
    settings = Settings(runs_per_cycle="every_slot")
    assert settings.review(runners=7, longest_run=SECOND).findings == ()
    finding = the_one_more(settings.review(runners=8, longest_run=SECOND))
    assert finding.level is Level.WARNING
    assert finding.meaning.startswith("8 slots of at most 14 that the margin of 20s allows")


def test_a_window_that_reaches_into_the_run_margin_is_a_warning() -> None:
    settings = Settings(max_start_slot_fraction=1.0)
    levels = [f.level for f in settings.review(runners=3, longest_run=SECOND).findings]
    assert levels == [Level.WARNING]
    assert "with only 0s of its slot left" in settings.review(runners=3).findings[0].meaning


def test_a_skew_beyond_the_margin_is_a_warning() -> None:
    at_most = Settings().review(runners=3, longest_run=SECOND, clock_skew=20 * SECOND)
    assert at_most.findings == ()
    more = Settings().review(runners=3, longest_run=SECOND, clock_skew=20 * SECOND + MICROSECOND)
    assert the_one_more(more).level is Level.WARNING
    assert "exceeds the margin of 20s" in the_one_more(more).meaning


def test_a_lone_runner_and_no_standby_are_warnings() -> None:
    alone = the_one_more(Settings().review(runners=1, longest_run=SECOND))
    assert (alone.level, alone.change) == (Level.WARNING, "start a second runner")
    nobody = the_one_more(Settings(standbys=0).review(runners=2, longest_run=SECOND))
    assert (nobody.level, nobody.change) == (Level.WARNING, "have one standby or more")


def test_a_run_as_long_as_the_cycle_is_an_error_and_one_longer_than_its_slot_a_warning() -> None:
    interval = Settings().interval
    too_long = the_one_more(Settings().review(runners=3, longest_run=interval))
    assert (too_long.level, too_long.change[:8]) == (Level.ERROR, "lengthen")
    late = Settings().review(runners=3, longest_run=interval - MICROSECOND)
    assert the_one_more(late).level is Level.WARNING
    assert "keep runs within 1m" in the_one_more(late).change


def test_what_is_not_known_or_not_kept_is_noted() -> None:
    unknown = the_one_more(Settings().review(runners=3))
    assert (unknown.level, unknown.change) == (Level.NOTE, "give the longest run")
    short = Settings(retention_age=timedelta(minutes=9))
    assert the_one_more(short.review(runners=3, longest_run=SECOND)).level is Level.NOTE
