"""Read by type checkers alone: how users write against the public names, and what they get."""

from datetime import UTC, datetime, timedelta
from typing import assert_type

import turnwise
from turnwise import atomic_service
from turnwise.storages import Storage

settings = turnwise.Settings(schedule=turnwise.Every("1m"), spread_margin=timedelta(seconds=2))
assert_type(settings.heartbeat_timeout, timedelta)

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
assert_type(claim.atomic_service_run, atomic_service.AtomicServiceRun | None)
assert_type(claim.skip_reason, atomic_service.AtomicServiceDecisionReason | None)
if claim.atomic_service_run is not None:
    assert_type(claim.atomic_service_run.atomic_service_id, atomic_service.AtomicServiceId)

storage = turnwise.open_storage("memory:")
assert_type(storage, Storage)
controls = turnwise.Controls(storage, "billing")
assert_type(controls.trigger("invoices"), str)

turnwise.Settings(runs="twice")  # type: ignore[arg-type] # one of two words
