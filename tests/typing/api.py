"""Read by mypy alone: how users write against the public names, with the types they get."""

from datetime import UTC, datetime, timedelta
from typing import assert_type

import turnwise

settings = turnwise.Settings(interval=timedelta(minutes=1), spread_margin=timedelta(seconds=2))
assert_type(settings.review(runners=3), turnwise.Review)

then = datetime(2026, 1, 1, tzinfo=UTC)
claim = turnwise.decide_atomic_service_claim(
    runner_id="a",
    active_runners=[turnwise.ActiveRunnerInfo("a", then, then)],
    current_time=0,
    service_interval_minutes=5,
    spread_margin_minutes=0,
    membership_stabilization_seconds=0,
    max_start_slot_fraction=1,
)
assert_type(claim, turnwise.AtomicServiceClaim)
assert_type(claim.atomic_service_run, turnwise.AtomicServiceRun | None)
assert_type(claim.skip_reason, turnwise.AtomicServiceDecisionReason | None)
if claim.atomic_service_run is not None:
    assert_type(claim.atomic_service_run.atomic_service_id, turnwise.AtomicServiceId)

backend = turnwise.open_backend("memory:")
assert_type(backend, turnwise.Backend)


def plain(turn: turnwise.Turn) -> None:
    """Serve, as a function."""
    assert_type(turn.fencing_token, int)
    assert_type(turn.remaining(), float)


async def coroutine(turn: turnwise.Turn) -> int:
    """Serve, as a coroutine function."""
    return turn.fencing_token


turnwise.Runner(backend, "service", plain)
turnwise.Runner(backend, "service", coroutine, settings=settings, runner_id="a")
outcome = turnwise.Runner(backend, "service").begin()
assert_type(outcome, turnwise.Turn | turnwise.AtomicServiceClaim)
turnwise.Runner(backend, "service", lambda: None)  # type: ignore[arg-type] # takes its turn
turnwise.Settings(runs_per_cycle="twice")  # type: ignore[arg-type] # one of two words
