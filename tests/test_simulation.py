"""The shipped runner in virtual time: whatever goes wrong, what may never happen does not."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import hypothesis
import pytest

from sabotage import BUGS, Bug
from turnwise import Settings
from turnwise.simulation import (
    Fault,
    FaultKind,
    Fixed,
    HeavyTail,
    Incident,
    LogNormal,
    Result,
    Scenario,
    Spread,
    Uniform,
    simulate,
)
from turnwise.simulation.__main__ import main, replay_command
from turnwise.simulation.incidents import incidents_of
from turnwise.simulation.laboratory import Laboratory
from turnwise.simulation.random_scenarios import random_scenario
from turnwise.simulation.shrink import shrink

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
MOST_SEEDS = 500
# All of them, but in the brief profile.
SEEDS_IN_ALL = min(2000, 10 * hypothesis.settings().max_examples)
PARTS_OF_ALL = 8

SETTINGS = Settings(interval=MINUTE, spread_margin=2 * SECOND, heartbeat_timeout=21 * SECOND)
QUIET_WORLD = Scenario(settings=SETTINGS, job=Fixed(5 * SECOND), duration=30 * MINUTE)


def well(result: Result) -> Result:
    assert not result.violations, [str(violation) for violation in result.violations]
    return result


def with_incidents(*incidents: Incident, **changes: object) -> Result:
    """The quiet world, where just this goes wrong."""
    # Its fields have these names and types.
    return well(simulate(replace(QUIET_WORLD, incidents=incidents, **changes)))  # type: ignore[arg-type]


@pytest.mark.parametrize("part", range(PARTS_OF_ALL))
def test_in_random_scenarios_nothing_happens_that_may_never_happen(part: int) -> None:
    for seed in range(part, SEEDS_IN_ALL, PARTS_OF_ALL):
        result = simulate(random_scenario(seed, cycles=10))
        assert not result.violations, (
            f"{result.violations[0]}\nreplay: {replay_command(seed, 10)}\n"
            f"shrunk: {shrink(result.scenario, lambda s: bool(simulate(s).violations))}"
        )


@pytest.mark.parametrize(
    "seed",
    [
        20_944,  # a process suspended within a late write, as long as its row was kept
        36_115,  # a run that was renewed too late to begin held the gate for the timeout
        67_780,  # and so did one whose renewal before its beginning was lost
        89_447,  # a runner that was refused late slept through the start of its own next slot
    ],
)
def test_what_the_long_run_once_found_is_found_no_more(seed: int) -> None:
    well(simulate(random_scenario(seed)))


@pytest.mark.parametrize(("name", "bug"), BUGS.items(), ids=BUGS)
def test_a_planted_bug_is_found_by_the_oracle_that_looks_for_it(name: str, bug: Bug) -> None:
    with bug.patched():
        for seed in range(MOST_SEEDS):
            result = Laboratory(random_scenario(seed), bug.parts).play()
            if any(bug.found_as in violation.what for violation in result.violations):
                return
    pytest.fail(f"{name} was not found within {MOST_SEEDS} seeds")


def test_without_a_fault_each_cycle_is_served_once_and_the_work_is_shared_evenly() -> None:
    result = well(simulate(QUIET_WORLD))
    assert (result.cycles, result.cycles_served, result.cycles_missed) == (28, 28, 0)
    assert result.longest_gap == result.gaps.median == MINUTE
    assert max(result.turns_of_runner.values()) - min(result.turns_of_runner.values()) <= 1
    assert set(result.executions) == {"completed"}
    assert result.overlaps == 0


def test_a_crash_in_a_turn_is_recorded_and_taken_over_within_the_bound() -> None:
    starts = 10 * MINUTE + 2 * SECOND
    incidents = [Incident(starts, FaultKind.CRASH, place, MINUTE) for place in range(3)]
    results = [with_incidents(incident) for incident in incidents]
    in_its_turn = [result for result in results if result.failovers.count]
    assert len(in_its_turn) == 1, "one of the three is primary"
    [result] = in_its_turn
    bound = SETTINGS.review(runners=3).gap_after_kill
    assert result.failovers.most is not None
    assert bound is not None
    assert SETTINGS.heartbeat_timeout - 2 * SECOND < result.failovers.most <= bound
    assert result.executions["abandoned:owner_dead"] == 1
    assert result.cycles_missed == 0


@pytest.mark.parametrize(("lasts", "overlaps"), [(15 * SECOND, 0), (50 * SECOND, 1)])
def test_a_pause_beyond_the_heartbeat_timeout_alone_lets_a_turn_outlive_its_run(
    lasts: timedelta, overlaps: int
) -> None:
    at = 10 * MINUTE + 2 * SECOND
    results = [with_incidents(Incident(at, FaultKind.PAUSE, place, lasts)) for place in range(3)]
    assert sum(result.overlaps for result in results) == overlaps
    assert sum(result.refused_writes for result in results) == overlaps


def test_a_lost_acknowledgement_of_the_gate_costs_no_turn_and_no_cycle() -> None:
    at = 9 * MINUTE + 30 * SECOND
    incidents = (Incident(at, FaultKind.LOST_ACKNOWLEDGEMENT, place) for place in range(3))
    result = with_incidents(*incidents)
    assert result.executions == {"completed": result.cycles_served + 1} or (
        result.executions == {"completed": result.cycles_served}
    )
    assert result.operations["execution"] >= 1, "it asked what became of its run"
    assert result.cycles_missed == 0


def test_an_outage_stops_the_service_and_it_comes_back_within_the_bound() -> None:
    result = with_incidents(Incident(10 * MINUTE, FaultKind.OUTAGE, None, 5 * MINUTE))
    assert result.longest_gap is not None
    assert result.longest_gap <= 5 * MINUTE + 2 * MINUTE + SETTINGS.spread_margin + 7 * SECOND
    assert result.cycles_missed >= 4


def test_a_rolling_deploy_without_a_wait_leaves_nobody_for_one_cycle_at_most() -> None:
    result = with_incidents(Incident(10 * MINUTE, FaultKind.DEPLOY, None, SECOND))
    assert result.cycles_missed <= 1
    assert sum(result.turns_of_runner.values()) == result.turns


def test_a_failed_turn_is_repeated_by_a_standby_and_no_cycle_is_missed() -> None:
    result = with_incidents(Incident(10 * MINUTE, FaultKind.FAILURE))
    assert result.executions["abandoned:exit:1"] == 1
    assert result.turns == result.cycles_served + 2  # the failed one, and the one under way
    assert result.cycles_missed == 0


def test_an_overrun_holds_the_gate_and_the_refusals_say_so() -> None:
    result = with_incidents(Incident(10 * MINUTE, FaultKind.OVERRUN, None, 70 * SECOND))
    assert result.executions["blocked:prior_running"] >= 1
    assert result.overlaps == 0


def test_a_place_that_somebody_joins_for_a_while_has_its_share() -> None:
    result = with_incidents(Incident(5 * MINUTE, FaultKind.JOIN, None, 20 * MINUTE))
    assert set(result.turns_of_runner) == {"runner-1", "runner-2", "runner-3", "runner-4"}
    assert result.turns_of_runner["runner-4"] >= 4
    assert result.cycles_missed == 0


@pytest.mark.parametrize(
    "job",
    [
        Fixed(5 * SECOND),
        Uniform(SECOND, 9 * SECOND),
        LogNormal(5 * SECOND, 1.0, MINUTE),
        HeavyTail(2 * SECOND, 1.1, 4 * MINUTE),
    ],
)
def test_durations_are_drawn_within_their_range(
    job: Fixed | Uniform | LogNormal | HeavyTail,
) -> None:
    random = QUIET_WORLD.random("job").random
    drawn = [job.draw(random) for _ in range(10_000)]
    assert max(drawn) <= job.most
    middle = sorted(drawn)[5000]
    assert abs(
        middle - {Fixed: 5, Uniform: 5, LogNormal: 5, HeavyTail: 3.755}[type(job)] * SECOND
    ) < (0.4 * SECOND)
    well(simulate(replace(QUIET_WORLD, job=job)))


def test_with_local_clocks_and_no_gate_runs_overlap_only_beyond_the_bound_of_the_review() -> None:
    def overlaps(job: timedelta, skew: timedelta) -> int:
        scenario = replace(
            QUIET_WORLD,
            settings=replace(SETTINGS, runs_per_cycle="every_slot"),
            clock="local",
            job=Fixed(job),
            clock_skew=skew,
            faults=(
                Fault(FaultKind.CRASH, 30 * MINUTE, Uniform(SECOND, 3 * MINUTE)),
                Fault(FaultKind.LEAVE, 30 * MINUTE, Uniform(SECOND, 3 * MINUTE)),
            ),
            duration=120 * MINUTE,
        )
        result = well(simulate(scenario))
        bound = SETTINGS.review(runners=3, longest_run=job, clock_skew=skew)
        assert not (bound.overlap_excluded_by_time and result.overlaps), (job, skew)
        return result.overlaps

    # Slots of 20 s, of which a start may come up to 9 s late: 11 s for a run and the skew.
    assert overlaps(9 * SECOND, 2 * SECOND) == 0
    assert overlaps(11 * SECOND, timedelta(0)) == 0
    assert overlaps(19 * SECOND, 2 * SECOND) > 0


def test_the_gate_keeps_apart_what_slots_alone_do_not() -> None:
    scenario = replace(QUIET_WORLD, job=Fixed(25 * SECOND))
    assert simulate(replace(scenario, clock="local")).overlaps > 0
    assert simulate(scenario).overlaps == 0


# The bounds of the review --------------------------------------------------------------------

REACHED = {
    "gap_without_fault": 41,
    "rounds_per_cycle": 73,
    "gap_with_one_dead": 13,
    "gap_after_kill": 953,
    "first_slot_delay": 789,
    "overlap_excluded_by_time": 633,
}
bounds = pytest.mark.parametrize(("bound", "seed"), REACHED.items(), ids=REACHED)


@bounds
def test_a_bound_of_the_review_is_reached_within_a_tenth_and_not_exceeded(
    bound: str, seed: int
) -> None:
    result = well(simulate(random_scenario(seed)))
    assert 0.9 <= result.bounds[bound] <= 1.000_001


@bounds
def test_a_review_that_promised_a_fifth_less_would_be_found_out(bound: str, seed: int) -> None:
    laboratory = Laboratory(random_scenario(seed))
    review = laboratory.bounds._review
    changes: dict[str, dict[str, object]] = {
        "rounds_per_cycle": {"heartbeats_per_cycle": int(review.heartbeats_per_cycle * 0.7)},
        "overlap_excluded_by_time": {"window": review.window - 0.2 * review.slot},
    }
    less = changes[bound] if bound in changes else {bound: 0.8 * getattr(review, bound)}
    laboratory.bounds._review = replace(review, **less)
    assert any(bound in violation.what for violation in laboratory.play().violations)


def test_an_overlap_that_time_alone_was_to_exclude_would_be_found_out() -> None:
    scenario = random_scenario(REACHED["overlap_excluded_by_time"])
    laboratory = Laboratory(replace(scenario, job=Fixed(scenario.job.most * 1.5)))
    assert not laboratory.bounds.slots_alone
    laboratory.bounds.slots_alone = True
    laboratory.work.on_overlap = laboratory.bounds.overlapped
    found = laboratory.play().violations
    assert any("time alone was to exclude" in violation.what for violation in found)


def test_no_bound_is_held_against_a_scenario_that_breaks_what_it_assumes() -> None:
    assert set(simulate(QUIET_WORLD).bounds) == {
        "first_slot_delay",
        "gap_without_fault",
        "rounds_per_cycle",
    }
    crash = Incident(10 * MINUTE, FaultKind.CRASH, 0, MINUTE)
    assert set(with_incidents(crash).bounds) >= {"first_slot_delay"}
    assert not with_incidents(crash, latency=Fixed(SECOND / 10)).bounds
    assert not with_incidents(Incident(10 * MINUTE, FaultKind.PAUSE, 0, MINUTE)).bounds
    assert set(with_incidents(job=Fixed(25 * SECOND)).bounds) == {"first_slot_delay"}
    local = replace(QUIET_WORLD, clock="local", clock_skew=2 * SECOND)
    assert set(simulate(local).bounds) == {"overlap_excluded_by_time"}
    assert not simulate(replace(local, clock_skew=3 * SECOND)).bounds
    grace = replace(SETTINGS, membership_stabilization=5 * MINUTE)
    assert with_incidents(settings=grace).bounds["gap_without_fault"] == 1
    assert "gap_with_one_dead" not in with_incidents(crash, settings=grace).bounds


DIGEST_OF_SEED_7 = "21190de2e9425f1c"


def digest(seed: int) -> str:
    return sha256(simulate(random_scenario(seed)).to_json().encode()).hexdigest()[:16]


def test_the_same_seed_has_the_same_result_in_any_process_and_on_any_python() -> None:
    assert digest(7) == digest(7)
    assert digest(7) != digest(8)
    code = (
        "import sys; from hashlib import sha256; from turnwise.simulation import simulate;"
        "from turnwise.simulation.random_scenarios import random_scenario as s;"
        "print(sha256(simulate(s(7)).to_json().encode()).hexdigest()[:16])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest(7) == DIGEST_OF_SEED_7


def test_without_one_of_its_faults_the_others_of_a_scenario_stay_as_they_are() -> None:
    faults = tuple(
        Fault(kind, 5 * MINUTE, Uniform(SECOND, MINUTE))
        for kind in (FaultKind.CRASH, FaultKind.PAUSE)
    )
    both = list(incidents_of(replace(QUIET_WORLD, faults=faults)))
    crashes = list(incidents_of(replace(QUIET_WORLD, faults=faults[:1])))
    assert [i for i in both if i.kind is FaultKind.CRASH] == crashes
    assert [i.at for i in both] == sorted(i.at for i in both)
    assert crashes


def test_a_failing_scenario_is_shrunk_to_what_it_takes() -> None:
    bug = BUGS["finalize by name"]

    def fails(scenario: Scenario) -> bool:
        return bool(Laboratory(scenario, bug.parts).play().violations)

    seed = next(seed for seed in range(MOST_SEEDS) if fails(random_scenario(seed)))
    scenario = random_scenario(seed)
    shrunk = shrink(scenario, fails)
    assert fails(shrunk)
    assert len(shrunk.incidents) <= 3 < len(list(incidents_of(scenario)))
    assert shrunk.faults == ()


def test_the_command_replays_a_seed_and_plays_many(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "7"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(simulate(random_scenario(7)).to_json())
    assert main(["--seeds", "3"]) == 0
    assert "0 seeds failed" in capsys.readouterr().out
    assert main(["--cycles", "30", "--cycles-each", "20"]) == 0
    printed = capsys.readouterr().out
    assert "cycles" in printed
    assert "gap_with_one_dead: at most " in printed


def test_several_processes_find_what_one_finds() -> None:
    command = [sys.executable, "-m", "turnwise.simulation", "--seeds", "40", "--processes"]
    alone, together = (
        subprocess.run([*command, n], capture_output=True, text=True, check=True, timeout=120)
        for n in "12"
    )
    # But for the time that it took.
    assert alone.stdout.partition(" rounds in ")[0] == together.stdout.partition(" rounds in ")[0]
    assert alone.stdout.partition("\n")[2] == together.stdout.partition("\n")[2] != ""


def test_a_failing_seed_prints_the_command_that_replays_it_and_a_shrunk_scenario(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bug = BUGS["no gate"]
    monkeypatch.setattr(
        "turnwise.simulation.many.simulate",
        lambda scenario: Laboratory(scenario, bug.parts).play(),
    )
    monkeypatch.setattr(
        "turnwise.simulation.__main__.simulate",
        lambda scenario: Laboratory(scenario, bug.parts).play(),
    )
    assert main(["--seeds", "1"]) == 1
    assert "python -m turnwise.simulation --seed 0" in capsys.readouterr().out
    assert main(["--seed", "0"]) == 1
    shrunk = capsys.readouterr().out.partition("shrunk to:\n")[2]
    assert shrunk.startswith("Scenario(")


def test_a_result_is_json_with_durations_in_seconds() -> None:
    read = json.loads(simulate(QUIET_WORLD).to_json())
    assert read["longest_gap"] == 60.0
    assert read["cycles_served"] == 28
    assert "history" not in read


def test_progress_goes_from_0_to_1() -> None:
    seen: list[float] = []
    simulate(QUIET_WORLD, progress=seen.append)
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    assert seen == sorted(seen)


def test_a_spread_of_nothing_has_no_figures() -> None:
    assert Spread.of([]) == Spread(0, None, None, None, None, None)
    spread = Spread.of(range(1, 101))
    assert (spread.least, spread.median, spread.most) == tuple(
        timedelta(microseconds=n) for n in (1, 50, 100)
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"runners": 0}, "runners must be 1 to 10000, got 0"),
        ({"duration": SECOND}, r"duration must be one interval \(1m\) or more, got 1s"),
        ({"quiet": -SECOND}, "quiet must be 0 or more, got -1s"),
        ({"clock_skew": -SECOND}, "clock_skew must be 0 or more, got -1s"),
        ({"clock": "mine"}, "clock must be 'storage' or 'local', got 'mine'"),
        (
            {"faults": (Fault(FaultKind.CRASH, timedelta(0)),)},
            "every of a fault must be positive, got 0s for crash",
        ),
    ],
)
def test_a_scenario_says_what_is_wrong_with_it(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(QUIET_WORLD, **changes)  # type: ignore[arg-type] # wrong on purpose
