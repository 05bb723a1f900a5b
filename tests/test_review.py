"""What a review promises, against the decision asked everywhere, and against the simulation."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise.cycles import MICROSECOND, decide, microseconds
from turnwise.review import Finding, Level, Review, review
from turnwise.schedules import Every, parse_schedule
from turnwise.settings import Settings
from turnwise.simulation import simulate
from turnwise.simulation.play import Play
from turnwise.simulation.random_scenarios import random_scenario

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
SETTINGS = Settings(schedule=Every(MINUTE), spread_margin=2 * SECOND, heartbeat_timeout=21 * SECOND)
EVERY_SLOT = replace(SETTINGS, runs="every_slot")
NIGHTLY = Settings(schedule=parse_schedule("cron 0 3 * * * Europe/Vienna"))


def cleared(settings: Settings, runners: int, at: timedelta) -> list[str]:
    """Who is cleared to start so long after a cycle has begun: the decision, asked for all."""
    listed = [(f"r{n}", 0) for n in range(runners)]
    end = microseconds(settings.shortest_cycle)
    claims = [
        decide(
            0,
            end,
            listed,
            name,
            microseconds(at),
            margin=microseconds(settings.spread_margin),
            window=settings.max_start_slot_fraction,
            stabilization=0,
        )
        for name, _ in listed
    ]
    return [claim.runner_id for claim in claims if claim.should_try_start]


def levels(found: Review, level: Level) -> list[Finding]:
    return [finding for finding in found.findings if finding.level is level]


def test_a_nightly_job_of_six_runners_is_taken_over_as_its_users_were_promised() -> None:
    """The figures that a team reads before it trusts us with its night."""
    found = review(NIGHTLY, runners=6, longest_run=45 * MINUTE)
    assert found.takeover == 100 * SECOND
    assert found.gap_after_kill == 240 * SECOND
    assert found.first_slot_delay == 320 * SECOND
    assert found.cycle == 5 * MINUTE
    assert found.gap_without_fault == timedelta(hours=25)  # the night on which summer time ends
    assert not found.has_errors


def test_periods_are_cut_into_cycles_and_a_takeover_takes_no_longer_for_long_ones() -> None:
    daily = review(Settings(schedule=Every("1d")), runners=3)
    often = review(Settings(schedule=Every("5m")), runners=3)
    assert (daily.takeover, daily.gap_after_kill) == (often.takeover, often.gap_after_kill)
    assert review(Settings(schedule=Every("7m")), runners=3).cycle == 210 * SECOND


@pytest.mark.parametrize("part", [5, 15, 15.1, 14.999, 40])
def test_the_most_slots_are_the_most_runners_of_which_somebody_can_start(part: float) -> None:
    settings = replace(EVERY_SLOT, spread_margin=MINUTE / part)
    most = review(settings, runners=2).most_slots
    assert cleared(settings, most, timedelta(0)) == ["r0"]
    assert cleared(settings, most + 1, timedelta(0)) == []
    assert review(settings, runners=most).gap_without_fault is not None
    beyond = review(settings, runners=most + 1)
    assert beyond.gap_without_fault is None
    assert beyond.has_errors


@given(
    st.integers(1, 8),
    st.sampled_from([0.1, 0.5, 0.77, 1.0]),
    st.sampled_from([0.0, 0.5, 2.0, 7.0]),
)
def test_the_closed_share_is_the_part_of_the_cycle_in_which_nobody_is_cleared(
    runners: int, fraction: float, margin: float
) -> None:
    settings = replace(EVERY_SLOT, max_start_slot_fraction=fraction, spread_margin=margin * SECOND)
    found = review(settings, runners=runners)
    looks = 200
    open_looks = sum(
        bool(cleared(settings, runners, MINUTE * (look + 0.5) / looks)) for look in range(looks)
    )
    # Each slot has one edge where a look may fall to either side.
    assert abs((1 - open_looks / looks) - found.closed_share) <= found.slots / looks


@pytest.mark.parametrize("skew", [timedelta(0), 3 * SECOND])
def test_time_alone_excludes_overlap_up_to_the_run_that_just_fits(skew: timedelta) -> None:
    """The latest start of one slot, on a slow clock, against the first of the next."""
    found = review(SETTINGS, runners=3)
    longest = found.slot - found.window - skew
    fits = review(SETTINGS, runners=3, longest_run=longest, clock_skew=skew)
    beyond = review(SETTINGS, runners=3, longest_run=longest + MICROSECOND, clock_skew=skew)
    assert (fits.overlap_excluded_by_time, beyond.overlap_excluded_by_time) == (True, False)
    assert cleared(SETTINGS, 3, found.window) == ["r0"]
    assert cleared(SETTINGS, 3, found.window + MICROSECOND) == []
    assert cleared(SETTINGS, 3, found.slot) == ["r1"]
    assert found.overlap_excluded_by_time is None


def test_with_one_attempt_a_killed_run_is_followed_by_that_of_the_next_period() -> None:
    daily = Settings(schedule=Every("1d"), attempts=1)
    assert review(daily, runners=3).gap_after_kill == timedelta(days=1)


def test_a_single_slot_waits_for_the_next_cycle_where_its_runner_is_dead() -> None:
    found = review(replace(SETTINGS, standbys=0), runners=3)
    assert found.takeover == MINUTE
    assert found.gap_after_kill == 21 * SECOND + 7 * SECOND + MINUTE
    assert any("no standby" in finding.meaning for finding in levels(found, Level.WARNING))


@pytest.mark.parametrize(
    ("settings", "runners", "longest_run", "level", "says"),
    [
        (SETTINGS, 1, SECOND, Level.WARNING, "one runner alone"),
        (SETTINGS, 3, None, Level.NOTE, "the longest run is not known"),
        (SETTINGS, 3, MINUTE, Level.ERROR, "as long as a period of 1m"),
        (SETTINGS, 3, 12 * SECOND, Level.NOTE, "reaches into the next slot"),
        (EVERY_SLOT, 3, 12 * SECOND, Level.WARNING, "reaches into the next slot"),
        (replace(SETTINGS, timeout=SECOND), 3, 2 * SECOND, Level.ERROR, "ended at its timeout"),
        (replace(SETTINGS, retention_age=MINUTE), 3, SECOND, Level.NOTE, "two periods"),
        (
            replace(SETTINGS, membership_stabilization=2 * MINUTE),
            3,
            SECOND,
            Level.WARNING,
            "for 2m after it has joined",
        ),
        (
            replace(NIGHTLY, start_within=3 * MINUTE),
            3,
            SECOND,
            Level.NOTE,
            "after a kill within a turn it may take 4m",
        ),
        (EVERY_SLOT, 20, SECOND, Level.WARNING, "twice as many"),
        (
            replace(SETTINGS, max_start_slot_fraction=1.0, spread_margin=timedelta(0)),
            3,
            SECOND,
            Level.WARNING,
            "with only 0s of its slot left",
        ),
    ],
)
def test_a_finding_says_what_a_configuration_means(
    settings: Settings, runners: int, longest_run: timedelta | None, level: Level, says: str
) -> None:
    found = review(settings, runners=runners, longest_run=longest_run)
    assert any(says in finding.meaning for finding in levels(found, level)), found.findings


def test_a_clock_skew_beyond_the_margin_is_warned_of() -> None:
    found = review(SETTINGS, runners=3, clock_skew=3 * SECOND)
    assert any("clock skew of 3s" in f.meaning for f in levels(found, Level.WARNING))


@pytest.mark.parametrize("longest_run", [timedelta(0), timedelta.max])
def test_the_longest_run_and_skew_that_can_be_said_are_beyond_every_slot(
    longest_run: timedelta,
) -> None:
    found = review(SETTINGS, runners=3, longest_run=longest_run, clock_skew=timedelta.max)
    assert found.overlap_excluded_by_time is False


def test_the_periods_of_the_last_schedules_are_kept_and_many_schedules_do_not_pile_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: dict[str, object] = {}
    monkeypatch.setattr("turnwise.review._looked_at", kept)
    monkeypatch.setattr("turnwise.review._MOST_KEPT", 2)
    for _ in range(2):
        for hour in range(3):
            nightly = replace(NIGHTLY, schedule=parse_schedule(f"cron 0 {hour} * * * UTC"))
            assert review(nightly, runners=1).gap_without_fault == timedelta(days=1)
            assert str(nightly.schedule) in kept
            assert len(kept) <= 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"runners": 0}, "runners must be 1 or more, got 0"),
        ({"runners": 2, "longest_run": -SECOND}, "longest_run must be 0 or more, got -1s"),
        ({"runners": 2, "clock_skew": -SECOND}, "clock_skew must be 0 or more, got -1s"),
    ],
)
def test_what_cannot_be_reviewed_is_refused_by_name(
    arguments: dict[str, object], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        review(SETTINGS, **arguments)  # type: ignore[arg-type] # wrong on purpose


# The bounds, in the simulation ---------------------------------------------------------------

REACHED = {
    "gap_without_fault": 45,
    "heartbeats_per_cycle": 45,
    "looks_per_cycle": 61,
    "statements_per_cycle": 45,
    "gap_with_one_dead": 1313,
    "takeover": 1313,
    "gap_after_kill": 205,
    "first_slot_delay": 2141,
    "overlap_excluded_by_time": 1013,
}
bounds = pytest.mark.parametrize(("bound", "seed"), REACHED.items(), ids=REACHED)


@bounds
def test_a_bound_of_the_review_is_reached_within_a_tenth_and_not_exceeded(
    bound: str, seed: int
) -> None:
    result = simulate(random_scenario(seed))
    assert not result.violations
    assert 0.9 <= result.bounds[bound] <= 1.000_001


@bounds
def test_a_review_that_promised_a_fifth_less_would_be_found_out(bound: str, seed: int) -> None:
    play = Play(random_scenario(seed))
    promised = play.bounds.review
    changes: dict[str, dict[str, object]] = {
        "overlap_excluded_by_time": {"window": promised.window - 0.2 * promised.slot}
    }
    value = getattr(promised, bound)
    less = changes.get(bound, {bound: int(value * 0.8) if isinstance(value, int) else value * 0.8})
    play.bounds.review = replace(promised, **less)
    assert any(bound in violation.what for violation in play.play().violations)
