"""The shipped machine in virtual time: whatever goes wrong, what may never happen does not."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import hypothesis
import pytest

from sabotage import BUGS, Bug
from turnwise.actions import Advance, Append, FindStable, Look, Purge, Request, Swap
from turnwise.schedules import Every
from turnwise.settings import Settings
from turnwise.simulation import (
    Fault,
    FaultKind,
    Fixed,
    Incident,
    Result,
    Scenario,
    Uniform,
    simulate,
)
from turnwise.simulation.__main__ import main, replay_command
from turnwise.simulation.many import Outcome, play_many
from turnwise.simulation.play import Play
from turnwise.simulation.random_scenarios import random_scenario
from turnwise.simulation.rest import Rest
from turnwise.simulation.scenario import incidents_of
from turnwise.simulation.shrink import shrink
from turnwise.simulation.world import World
from turnwise.storages import Beat, Kind, Pulse, Record
from turnwise.storages.memory import MemoryStorage

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
MOST_SEEDS = 500
# All of them, but in the profiles of every day.
SEEDS_IN_ALL = min(2000, hypothesis.settings().max_examples)
PARTS_OF_ALL = 4

SETTINGS = Settings(schedule=Every(MINUTE), spread_margin=2 * SECOND, heartbeat_timeout=21 * SECOND)
QUIET_WORLD = Scenario(settings=SETTINGS, job=Fixed(5 * SECOND), duration=30 * MINUTE)


def well(result: Result) -> Result:
    assert not result.violations, [str(violation) for violation in result.violations]
    return result


def with_incidents(*incidents: Incident, **changes: object) -> Result:
    """The quiet world, where just this goes wrong."""
    # Its fields have these names and types.
    return well(simulate(replace(QUIET_WORLD, incidents=incidents, **changes)))  # type: ignore[arg-type]


def test_after_an_outage_nobody_asks_the_storage_without_a_pause() -> None:
    """Heartbeats that come after the first look leave an empty set: offers were made in a loop."""
    result = with_incidents(
        Incident(9 * MINUTE + 50 * SECOND, FaultKind.OUTAGE, None, 27.96 * SECOND)
    )
    assert result.operations["MakeOffer"] <= 2 * 3


def test_who_has_a_slot_in_a_plan_that_replaces_a_void_one_hears_of_it_in_time() -> None:
    """The primary, alone in its plan, is killed; others plan anew and all look at once."""
    settings = replace(SETTINGS, standbys=0)
    at = 10 * MINUTE + 2 * SECOND
    result = with_incidents(
        Incident(at, FaultKind.KILL_IN_TURN, None, 3 * MINUTE), runners=5, settings=settings
    )
    assert result.operations["Advance"] >= 1
    assert result.periods_missed == 0


@pytest.mark.parametrize(
    "seed",
    [
        80,  # after an outage offers were made in a loop until a heartbeat came
        122,  # who had a slot in a plan that replaced a void one heard of it too late
        4963,  # the period before one that was planned while the clock was ahead had no plan
        7923,  # where the answer was lost, nobody was told of the plan that replaced a void one
        19912,  # rows that a clock had let go, which was ahead, were looked for in the history
        42979,  # the same
        54256,  # the same
        22316,  # who had a slot may hear after it that the service was resumed just before
        40714,  # a period was called missed whose run was late, and still at work
        44419,  # a plan was replaced at the very end of the last window of those who were left
        57676,  # nobody looked at what lay between two plans of a clock that had been ahead
    ],
)
def test_what_the_long_run_once_found_is_found_no_more(seed: int) -> None:
    well(simulate(random_scenario(seed)))


def test_a_period_before_one_that_was_planned_while_the_clock_was_ahead_is_served() -> None:
    """The plan of the next period was taken for one that covers what lies before it."""
    settings = Settings(schedule=Every(4 * MINUTE), cycle=4 * MINUTE)
    step = Incident(
        5 * MINUTE + 5 * SECOND, FaultKind.CLOCK_STEP, None, lasts=160 * SECOND, delay=7 * MINUTE
    )
    result = with_incidents(step, settings=settings, runners=1, duration=16 * MINUTE)
    assert result.periods_missed == 0


@pytest.mark.parametrize("part", range(PARTS_OF_ALL))
def test_in_random_scenarios_nothing_happens_that_may_never_happen(part: int) -> None:
    for seed in range(part, SEEDS_IN_ALL, PARTS_OF_ALL):
        result = simulate(random_scenario(seed, cycles=10))
        assert not result.violations, (
            f"{result.violations[0]}\nreplay: {replay_command(seed, 10)}\n"
            f"shrunk: {shrink(result.scenario, lambda s: bool(simulate(s).violations))}"
        )


@pytest.mark.parametrize(("name", "bug"), BUGS.items(), ids=BUGS)
def test_a_planted_bug_is_found_by_the_oracle_that_looks_for_it(name: str, bug: Bug) -> None:
    with bug.patched():
        for seed in range(MOST_SEEDS):
            result = Play(random_scenario(seed), bug.parts).play()
            if any(bug.found_as in violation.what for violation in result.violations):
                return
    pytest.fail(f"{name} was not found within {MOST_SEEDS} seeds")


def test_without_a_fault_each_period_is_served_once_and_the_work_is_shared_evenly() -> None:
    result = well(simulate(QUIET_WORLD))
    assert (result.periods, result.periods_served, result.periods_missed) == (29, 29, 0)
    assert result.longest_gap == result.gaps.median == MINUTE
    assert max(result.turns_of_runner.values()) - min(result.turns_of_runner.values()) <= 1
    assert set(result.executions) == {"completed"}
    assert result.overlaps == 0


@pytest.mark.parametrize(("lasts", "overlaps"), [(15 * SECOND, 0), (50 * SECOND, 1)])
def test_a_suspension_beyond_the_heartbeat_timeout_alone_lets_a_turn_outlive_its_run(
    lasts: timedelta, overlaps: int
) -> None:
    at = 10 * MINUTE + 2 * SECOND
    results = [with_incidents(Incident(at, FaultKind.SUSPEND, place, lasts)) for place in range(3)]
    assert sum(result.overlaps for result in results) == overlaps
    assert sum(result.refused_writes for result in results) == overlaps


def test_a_job_that_kills_its_process_is_tried_as_often_as_it_may_be_and_no_more() -> None:
    at = 10 * MINUTE - SECOND
    poison = [
        Incident(at + n * SECOND / 1000, FaultKind.POISON, None, SECOND) for n in range(1)
    ] + [Incident(at + n * 20 * SECOND, FaultKind.POISON, None, SECOND) for n in range(1, 12)]
    result = with_incidents(*poison, settings=replace(SETTINGS, schedule=Every(3 * MINUTE)))
    assert result.executions["abandoned:owner_dead"] >= 3
    assert result.causes == {"attempts_used": 1}


def test_a_pause_starts_nothing_and_a_trigger_starts_one_run_more() -> None:
    pause = Incident(10 * MINUTE + 30 * SECOND, FaultKind.PAUSE, None, 3 * MINUTE)
    paused = with_incidents(pause)
    assert paused.causes == {"paused": 2}  # the third was resumed in time for a standby
    trigger = Incident(10 * MINUTE + 30 * SECOND, FaultKind.TRIGGER)
    triggered = with_incidents(trigger)
    assert triggered.turns == simulate(QUIET_WORLD).turns + 1


def test_a_storage_that_forgets_is_out_of_what_is_promised_and_the_service_comes_back() -> None:
    forget = Incident(10 * MINUTE + 3 * SECOND, FaultKind.FORGET, None, delay=10 * SECOND)
    result = with_incidents(forget, quiet=10 * MINUTE)
    assert result.turns >= 29


def test_the_gate_keeps_apart_what_slots_alone_do_not() -> None:
    scenario = replace(QUIET_WORLD, job=Fixed(25 * SECOND))
    every_slot = replace(scenario, settings=replace(SETTINGS, runs="every_slot"))
    assert simulate(replace(every_slot, clock="local")).overlaps > 0
    assert simulate(every_slot).overlaps == 0


def digest(seed: int) -> str:
    return sha256(simulate(random_scenario(seed)).to_json().encode()).hexdigest()[:16]


def test_the_same_seed_has_the_same_result_in_any_process_whatever_its_hash_seed() -> None:
    code = (
        "from hashlib import sha256; from turnwise.simulation import simulate;"
        "from turnwise.simulation.random_scenarios import random_scenario as s;"
        "print(*(sha256(simulate(s(n)).to_json().encode()).hexdigest()[:16] for n in range(12)))"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
        ).stdout.split()
        for hash_seed in ("1", "2")
    ]
    assert printed[0] == printed[1] == [digest(n) for n in range(12)]
    assert len(set(printed[0])) == 12


def times_of(result: Result) -> list[tuple[int, str]]:
    """When what happened; an operator's commands have other ids in each play."""
    return sorted((entry.at, entry.kind) for entry in result.history)


def test_heartbeats_that_change_nothing_are_left_out_and_the_result_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Played one by one they lead to the same, whatever goes wrong around them."""
    scenarios = [random_scenario(seed) for seed in range(60)]
    left_out = [simulate(scenario) for scenario in scenarios]
    monkeypatch.setattr(Rest, "begin", lambda _rest, _process: False)
    for scenario, result in zip(scenarios, left_out, strict=True):
        played = simulate(scenario)
        assert played == result, scenario.seed
        assert times_of(played) == times_of(result), scenario.seed


class Sleeper:
    """Whose heartbeats are due every 10, and are left out while it rests."""

    def __init__(self, world: World, due: int, heard: list[tuple[int, int]]) -> None:
        self.world, self.due, self.heard = world, due, heard
        self.number, self.left_out, self.is_awake = due, 0, False

    def leave_out(self, until: int) -> int | None:
        while self.due < until:
            self.due += 10
            self.left_out += 1
        return self.due - 10 if self.left_out else None

    def play_last(self) -> None:
        self.left_out = 0
        self.heard.append((self.number, self.world.now))

    def go_on(self) -> None:
        self.is_awake = True


def test_who_rests_is_heard_of_when_somebody_reads_it_and_goes_on_when_something_changes() -> None:
    """The last heartbeat of each is played at its own time, the earlier first."""
    world = World(QUIET_WORLD, lambda clock: MemoryStorage(clock=clock))
    heard: list[tuple[int, int]] = []
    one, other = Sleeper(world, 7, heard), Sleeper(world, 3, heard)
    assert world.rest.begin(one)
    assert world.rest.begin(other)
    world.now = 30
    world.rest.catch_up()
    assert heard == [(3, 23), (7, 27)]
    assert world.now == 30
    world.rest.catch_up()
    assert len(heard) == 2, "none was due since"
    world.now = 35
    world.rest.disturb()
    assert heard[2:] == [(3, 33)]
    assert one.is_awake
    assert other.is_awake
    world.now = 100
    world.rest.catch_up()
    assert len(heard) == 3, "nobody rests any more"


GATE, PLAN = (Swap(kind, None, Record("1", "{}")) for kind in (Kind.GATE, Kind.PLAN))
BEAT = Beat("a", "boot", 1, 60_000_000)


@pytest.mark.parametrize(
    ("request_", "is_known", "is_heard", "is_awake"),
    [
        (Look(), True, False, False),
        (Append(()), True, False, False),
        (PLAN, True, False, False),
        (BEAT, True, False, False),
        (FindStable(0, None, ()), True, True, False),
        (Purge(0, 0, (), 0), True, True, False),
        (GATE, True, True, True),
        (Advance(), True, True, True),
        (BEAT, False, True, True),
    ],
)
def test_a_request_finds_what_it_reads_and_disturbs_those_at_rest_where_they_would_notice(
    request_: Request | Beat, *, is_known: bool, is_heard: bool, is_awake: bool
) -> None:
    world = World(QUIET_WORLD, lambda clock: MemoryStorage(clock=clock))
    resting = Sleeper(world, 7, [])
    world.rest.begin(resting)
    world.now = 20
    assert world.rest.before(request_, is_known=is_known) == is_awake
    assert bool(resting.heard) == is_heard
    assert resting.is_awake == is_awake


@pytest.mark.parametrize("changes", [True, False])
def test_what_happens_disturbs_those_at_rest_unless_it_is_known_to_change_nothing(
    changes: bool,
) -> None:
    world = World(QUIET_WORLD, lambda clock: MemoryStorage(clock=clock))
    resting = Sleeper(world, 7, [])
    world.rest.begin(resting)
    world.at(20, lambda _: None, changes=changes)
    world.go_through()
    assert resting.is_awake == changes
    assert resting.heard == ([(7, 17)] if changes else [])


def test_who_has_nothing_to_do_for_hours_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the heartbeats between two nightly turns few are played, and all are counted."""
    day, played = timedelta(days=1), 0
    heartbeat = MemoryStorage.heartbeat

    def counted(storage: MemoryStorage, group: str, beat: Beat) -> Pulse:
        nonlocal played
        played += 1
        return heartbeat(storage, group, beat)

    monkeypatch.setattr(MemoryStorage, "heartbeat", counted)
    nightly = Settings(schedule=Every(day))
    calm = Scenario(settings=nightly, runners=5, job=Fixed(MINUTE), duration=3 * day)
    result = well(simulate(calm))
    expected = 5 * (3 * day // nightly.heartbeat_interval)
    assert abs(result.operations["Beat"] - expected) <= 5
    assert played < expected / 100


def test_without_one_of_its_faults_the_others_of_a_scenario_stay_as_they_are() -> None:
    faults = tuple(
        Fault(kind, 5 * MINUTE, Uniform(SECOND, MINUTE))
        for kind in (FaultKind.CRASH, FaultKind.SUSPEND)
    )
    both = list(incidents_of(replace(QUIET_WORLD, faults=faults)))
    crashes = list(incidents_of(replace(QUIET_WORLD, faults=faults[:1])))
    assert [i for i in both if i.kind is FaultKind.CRASH] == crashes
    assert [i.at for i in both] == sorted(i.at for i in both)
    assert crashes


def test_a_failing_scenario_is_shrunk_to_what_it_takes() -> None:
    bug = BUGS["purge of an open run's row"]

    def fails(scenario: Scenario) -> bool:
        return bool(Play(scenario, bug.parts).play().violations)

    seed = next(seed for seed in range(MOST_SEEDS) if fails(random_scenario(seed)))
    scenario = random_scenario(seed)
    shrunk = shrink(scenario, fails)
    assert fails(shrunk)
    assert shrunk.faults == ()


def test_the_command_replays_a_seed_and_plays_many(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "7"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(simulate(random_scenario(7)).to_json())
    assert main(["--seeds", "3"]) == 0
    assert "of 3 seeds 0 failed" in capsys.readouterr().out


def test_a_long_run_that_is_interrupted_says_what_it_has_seen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def two_and_no_more(*_: object, **__: object) -> Iterator[Outcome]:
        yield from play_many(2, 4, processes=1)
        raise KeyboardInterrupt

    monkeypatch.setattr("turnwise.simulation.__main__.play_many", two_and_no_more)
    assert main(["--cycles", "1000000"]) == 130
    assert "of 2 seeds 0 failed" in capsys.readouterr().out


def test_a_failing_seed_prints_the_command_that_replays_it_and_a_shrunk_scenario(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with BUGS["no gate"].patched():
        assert main(["--seeds", "8"]) == 1
        said = capsys.readouterr().out
        seed = re.search(r"simulation\w* --seed (\d+)", said)
        assert seed is not None
        assert main(["--seed", seed[1]]) == 1
    shrunk = capsys.readouterr().out.partition("shrunk to:\n")[2]
    assert shrunk.startswith("Scenario(")
