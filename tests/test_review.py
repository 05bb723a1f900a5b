"""What a review promises, against brute force: the decision asked everywhere, runners killed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise import ActiveRunnerInfo, Settings
from turnwise.old_review import Finding, Level, Review
from turnwise.old_settings import RunsPerCycle
from turnwise.testing import SETTINGS, START, share_of_the_profile
from turnwise.testing.desk import MICROSECOND, SECOND
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


@pytest.mark.parametrize("longest_run", [timedelta(0), timedelta.max])
def test_the_longest_run_and_skew_that_can_be_said_are_beyond_every_slot(
    longest_run: timedelta,
) -> None:
    review = SETTINGS.review(runners=3, longest_run=longest_run, clock_skew=timedelta.max)
    assert review.overlap_excluded_by_time is False
    assert len(review.findings) >= 2
    # Where nobody may start, there is no room either.
    none = replace(SETTINGS, runs_per_cycle="every_slot").review(
        runners=10**9, longest_run=longest_run, clock_skew=timedelta.max
    )
    assert (none.window, none.overlap_excluded_by_time) == (timedelta(0), False)


@pytest.mark.parametrize("runs", ["once", "every_slot"])
@pytest.mark.parametrize("runners", [1, 2, 3, 5])
def test_a_cycle_takes_as_many_messages_as_are_promised_at_most(
    runs: RunsPerCycle, runners: int
) -> None:
    # Of no length: this world sends one more heartbeat of its own at the end of a longer turn.
    world = World(replace(SETTINGS, runs_per_cycle=runs), turn_takes=timedelta(0))
    world.add(*"abcde"[:runners])
    world.run_to(START + 2 * CYCLE - MICROSECOND)
    review = world.settings.review(runners=runners)
    most = 0
    for _ in range(2 * runners):
        before = messages_of(world)
        world.run_for(CYCLE)
        most = max(most, messages_of(world) - before)
    assert most <= review.rounds_per_cycle
    assert most >= 0.9 * review.rounds_per_cycle


def messages_of(world: World) -> int:
    calls = [member.storage.calls for member in world.members.values()]
    return sum(each["heartbeat"] + each["look"] for each in calls)


# Gaps ---------------------------------------------------------------------------------------

FLEETS = [
    (runners, standbys, runs)
    for runners in (1, 2, 3, 5)
    for standbys in (0, 1, 2)
    for runs in ("once", "every_slot")
]
fleets = pytest.mark.parametrize(("runners", "standbys", "runs"), FLEETS)


def fleet(
    runners: int,
    standbys: int,
    runs: RunsPerCycle,
    *,
    retry_failed: bool = True,
    **world: object,
) -> World:
    settings = replace(SETTINGS, standbys=standbys, runs_per_cycle=runs, retry_failed=retry_failed)
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
    retry_failed = data.draw(st.booleans())
    world = fleet(runners, standbys, runs, turn_takes=takes, retry_failed=retry_failed)
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


def test_without_retries_the_next_start_after_a_kill_is_that_of_the_next_cycle() -> None:
    """Where the timeout is short, that is the longest: up to a whole cycle."""
    world = fleet(3, 2, "once", retry_failed=False)
    primary = world.backend.peek(SERVICE, world.settings, START + 2 * CYCLE).scheduled[0]
    world.kill_in_its_turn(primary.runner_id, MICROSECOND)
    world.run_for(3 * CYCLE)
    killed, after, *_ = (s.began for s in world.served if s.began >= START + 2 * CYCLE)
    assert after - killed == CYCLE == review_of(world).gap_after_kill
    assert fleet(3, 2, "once").settings.review(runners=3).gap_after_kill == 52 * SECOND


# Figures ------------------------------------------------------------------------------------


def test_the_figures_of_the_defaults_are_those_of_the_documentation() -> None:
    settings = Settings()
    review = settings.review(runners=3, longest_run=SECOND)
    assert (review.settings, review.runners, review.slots) == (settings, 3, 3)
    assert (review.slot, review.window, review.most_slots) == (100 * SECOND, 40 * SECOND, 14)
    assert review.closed_share == pytest.approx(0.6)
    assert review.gap_without_fault == 300 * SECOND
    assert review.gap_with_one_dead == 400 * SECOND
    assert review.gap_after_kill == 220 * SECOND
    assert review.first_slot_delay == 320 * SECOND
    assert (review.heartbeats_per_cycle, review.looks_per_cycle) == (45, 3)
    assert review.rounds_per_cycle == 48


def test_figures_with_two_runners_with_none_to_stand_by_and_with_every_slot() -> None:
    assert Settings().review(runners=2).gap_after_kill == (60 + 300 - 65) * SECOND
    assert Settings(standbys=0).review(runners=2).gap_after_kill == (60 + 300) * SECOND
    short = Settings(heartbeat_timeout=10 * SECOND, retry_failed=False)
    assert short.review(runners=3).gap_after_kill == 300 * SECOND
    assert replace(short, retry_failed=True).review(runners=3).gap_after_kill == 170 * SECOND
    fourteen = Settings(runs_per_cycle="every_slot").review(runners=14)
    assert (fourteen.heartbeats_per_cycle, fourteen.looks_per_cycle) == (14 * 15, 27)
    assert fourteen.gap_without_fault == 300 * SECOND / 14


def test_a_heartbeat_that_is_due_at_the_end_of_a_cycle_counts_in_it() -> None:
    review = Settings(heartbeat_timeout=70 * SECOND).review(runners=3)  # each 23.3 s
    assert review.heartbeats_per_cycle == 13 * 3


# Findings -----------------------------------------------------------------------------------

RUN = SECOND
DEFAULT = Settings()
EVERY_SLOT = Settings(runs_per_cycle="every_slot")


def findings(settings: Settings, runners: int = 3, **known: timedelta) -> list[Finding]:
    review = settings.review(runners=runners, **({"longest_run": RUN} | known))
    assert review.has_errors == any(f.level is Level.ERROR for f in review.findings)
    return list(review.findings)


def test_a_configuration_in_which_all_is_well_has_no_findings() -> None:
    assert findings(DEFAULT) == []


def test_nobody_can_start_is_an_error_and_promises_no_gap() -> None:
    assert findings(EVERY_SLOT, 15) == [
        Finding(
            Level.ERROR,
            "the margin of 20s leaves nothing of a slot of 20s (15 slots): nobody ever starts",
            "have at most 14 runners, shorten the margin below 20s, lengthen the interval, or run "
            "once in each cycle",
        )
    ]
    review = EVERY_SLOT.review(runners=15)
    assert {review.gap_without_fault, review.gap_with_one_dead, review.gap_after_kill} == {None}
    assert review.closed_share == 1.0
    assert not EVERY_SLOT.review(runners=14).has_errors
    wide = replace(EVERY_SLOT, spread_margin=200 * SECOND)
    assert [f.level for f in findings(wide, 2)] == [Level.ERROR]
    assert wide.review(runners=2).gap_without_fault is None
    assert wide.review(runners=1).gap_without_fault == 300 * SECOND


def test_near_the_most_runners_is_a_warning_from_half_of_them_on() -> None:
    assert findings(EVERY_SLOT, 7) == []
    assert findings(EVERY_SLOT, 8) == [
        Finding(
            Level.WARNING,
            "8 slots of at most 14 that the margin of 20s allows: twice as many runners and "
            "nobody starts any more",
            "lengthen the interval, shorten the margin, or run once in each cycle",
        )
    ]
    of_three = replace(EVERY_SLOT, spread_margin=80 * SECOND)
    assert [f.level for f in findings(of_three, 2)] == [Level.WARNING]
    assert "2 slots of at most 3" in findings(of_three, 2)[0].meaning
    of_one = replace(EVERY_SLOT, spread_margin=200 * SECOND)
    assert [f.change for f in findings(of_one, 1)] == ["start a second runner"]


def test_a_window_that_reaches_into_the_run_margin_is_a_warning() -> None:
    for runners in (1, 2, 3):
        late = replace(DEFAULT, max_start_slot_fraction=1.0)
        assert findings(late, runners)[0] == Finding(
            Level.WARNING,
            "a turn may start with only 0s of its slot left, and one with less than 50ms left "
            "ends at once",
            "lower the part of a slot within which a turn may start",
        )
    assert findings(replace(DEFAULT, min_run_margin=40 * SECOND)) == []
    assert len(findings(replace(DEFAULT, min_run_margin=40 * SECOND + MICROSECOND))) == 1


def test_a_skew_beyond_the_margin_is_a_warning() -> None:
    assert findings(DEFAULT, clock_skew=20 * SECOND) == []
    assert findings(DEFAULT, clock_skew=21 * SECOND) == [
        Finding(
            Level.WARNING,
            "a clock skew of 21s exceeds the margin of 20s: runners that decide by their own "
            "clocks could be cleared together. The storage's clock and its gate are not affected",
            "set the margin to the clock skew or more, or keep to the storage's clock",
        )
    ]


def test_a_lone_runner_and_no_standby_are_warnings() -> None:
    assert findings(DEFAULT, 1) == [
        Finding(
            Level.WARNING,
            "one runner alone: when it dies, the service stops until it is back",
            "start a second runner",
        )
    ]
    assert findings(replace(DEFAULT, standbys=0), 2) == [
        Finding(
            Level.WARNING,
            "no standby: a cycle whose primary is dead, or whose turn fails, is missed",
            "have one standby or more",
        )
    ]


def test_a_stabilization_longer_than_a_cycle_is_a_warning() -> None:
    interval = DEFAULT.interval
    assert findings(replace(DEFAULT, membership_stabilization=interval)) == []
    assert findings(replace(DEFAULT, membership_stabilization=interval + SECOND)) == [
        Finding(
            Level.WARNING,
            "for 5m1s after it has joined a runner does not start, nor does another in its place: "
            "cycles are missed while runners are new, and what is promised here counts none that "
            "are",
            "let the stabilization be 5m or less",
        )
    ]


def test_a_run_as_long_as_the_cycle_is_an_error() -> None:
    assert findings(DEFAULT, longest_run=DEFAULT.interval) == [
        Finding(
            Level.ERROR,
            "a run of 5m is as long as the interval of 5m, or longer: cycles will be missed",
            "lengthen the interval, or shorten the run",
        )
    ]


def test_a_run_that_reaches_into_the_next_slot_is_a_warning() -> None:
    skew = 10 * SECOND
    assert findings(DEFAULT, longest_run=60 * SECOND) == []
    assert findings(DEFAULT, longest_run=50 * SECOND, clock_skew=skew) == []
    assert findings(DEFAULT, longest_run=51 * SECOND, clock_skew=skew) == [
        Finding(
            Level.WARNING,
            "a run of 51s that starts late reaches into the next slot: only the storage's gate "
            "keeps the next runner waiting",
            "keep runs within 50s, lower the part of a slot within which a turn may start, or "
            "lengthen the interval",
        )
    ]
    assert "keep runs within 0s" in findings(DEFAULT, clock_skew=90 * SECOND)[1].change


def test_what_is_not_known_is_noted() -> None:
    assert DEFAULT.review(runners=3).findings == (
        Finding(
            Level.NOTE,
            "the longest run is not known, so whether turns fit their slots cannot be said",
            "give the longest run",
        ),
    )


def test_a_history_of_less_than_two_cycles_is_noted() -> None:
    assert findings(replace(DEFAULT, retention_age=timedelta(minutes=10))) == []
    assert findings(replace(DEFAULT, retention_age=timedelta(minutes=9))) == [
        Finding(
            Level.NOTE,
            "the history of 9m is shorter than two cycles",
            "keep the history for longer, to see more than the last run",
        )
    ]
