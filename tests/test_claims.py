"""The worked decisions of the contract, each reproduced."""

import json
from pathlib import Path

import pytest

from strategies import instant, microseconds, seconds
from turnwise.atomic_service import (
    ActiveRunnerInfo,
    AtomicServiceClaim,
    decide_atomic_service_claim,
)

CLAIMS = Path(__file__).parent / "data" / "claims.jsonl"
INSTANTS = ("cycle_start_us", "slot_start_us", "slot_end_us", "run_started_at_us")
PARAMETERS = (
    "runner_id",
    "service_interval_minutes",
    "spread_margin_minutes",
    "membership_stabilization_seconds",
    "max_start_slot_fraction",
)


def decide(given: dict[str, object]) -> AtomicServiceClaim:
    listed = given["active_runners"]
    assert isinstance(listed, list)
    now = given["current_time_us"]
    assert isinstance(now, int)
    return decide_atomic_service_claim(
        active_runners=[
            ActiveRunnerInfo(
                runner["runner_id"],
                instant(runner["creation_time_us"]),
                instant(runner["last_heartbeat_us"]),
                runner["allow_to_run_atomic_service"],
            )
            for runner in listed
        ],
        current_time=seconds(now),
        **{name: given[name] for name in PARAMETERS},  # type: ignore[arg-type] # as JSON has them
    )


def outcome(claim: AtomicServiceClaim) -> dict[str, object]:
    run = claim.atomic_service_run
    started_at = None if run is None else run.started_at
    instants = (claim.cycle_start, claim.slot_start, claim.slot_end, started_at)
    return {
        "reason": str(claim.reason),
        "assigned_runner_id": claim.assigned_runner_id,
        "runner_position": claim.runner_position,
        "stable_runner_count": claim.stable_runner_count,
        "is_slot_owner_now": claim.is_slot_owner_now,
        "should_try_start": claim.should_try_start,
        "skip_reason": None if claim.skip_reason is None else str(claim.skip_reason),
        "late_start_fraction": claim.late_start_fraction,
        **{
            name: None if at is None else microseconds(at)
            for name, at in zip(INSTANTS, instants, strict=True)
        },
    }


def test_every_worked_decision_is_reproduced() -> None:
    """Instants within a microsecond, and the fraction within what that makes of it."""
    lines = CLAIMS.read_text().splitlines()
    assert len(lines) == 1200
    for line in lines:
        case = json.loads(line)
        expected, got = case["expected"], outcome(decide(case["input"]))
        assert got.keys() == expected.keys()
        for name in INSTANTS:
            if expected[name] is not None and got[name] is not None:
                assert abs(got[name] - expected[name]) <= 1, line
                expected[name] = got[name]
        if expected["late_start_fraction"] is not None:
            length = expected["slot_end_us"] - expected["slot_start_us"]
            near = pytest.approx(expected["late_start_fraction"], rel=1e-12, abs=2 / length)
            assert got["late_start_fraction"] == near, line
            expected["late_start_fraction"] = got["late_start_fraction"]
        assert got == expected, line
