"""The decision on any numbers: a ValueError, or claims that contradict neither rule nor claim."""

from datetime import UTC, datetime, timedelta

from fuzz.spelling import MICROSECOND, Spelling
from turnwise import ActiveRunnerInfo, AtomicServiceClaim, decide_atomic_service_claim
from turnwise.atomic_service import AtomicServiceDecisionReason as Reason

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WITHOUT_SLOT = (Reason.NO_STABLE_RUNNERS, Reason.SLOT_WINDOW_INVALID)


def decisions(data: bytes) -> None:
    """Ask for everybody in a list, and for a stranger, at one instant."""
    spelling = Spelling(data)
    names = [f"r{spelling.below(250)}" for _ in range(spelling.below(9))]
    numbers = {
        "current_time": spelling.real(),
        "service_interval_minutes": spelling.real(),
        "spread_margin_minutes": spelling.real(),
        "membership_stabilization_seconds": spelling.real(),
        "max_start_slot_fraction": spelling.real(),
    }
    created = [_creation_time(spelling) for _ in names]
    runners = [ActiveRunnerInfo(*pair, pair[1]) for pair in zip(names, created, strict=True)]
    claims = []
    for name in dict.fromkeys([*names, "stranger"]):
        try:
            claim = decide_atomic_service_claim(runner_id=name, active_runners=runners, **numbers)
        except ValueError as error:
            _check_error(error, [*numbers, "creation_time"])
        else:
            _check(claim, name, names, numbers)
            claims.append(claim)
    assert len({claim.assigned_runner_id for claim in claims}) <= 1
    assert len({claim.cycle_start for claim in claims}) <= 1
    assert sum(claim.should_try_start for claim in claims) <= 1


def _creation_time(spelling: Spelling) -> datetime:
    if spelling.below(32) == 1:
        return datetime(2026, 1, 1)  # noqa: DTZ001 (a naive one, which must be refused)
    return spelling.instant()


def _check_error(error: ValueError, parameters: list[str]) -> None:
    assert type(error) is ValueError
    said = str(error)
    assert len(said.splitlines()) == 1
    assert any(said.startswith(name) for name in parameters), said


def _check(
    claim: AtomicServiceClaim, name: str, names: list[str], numbers: dict[str, float]
) -> None:
    now = datetime.fromtimestamp(numbers["current_time"], UTC)
    interval = round(numbers["service_interval_minutes"] * 60 * 1_000_000)
    gone = (now - claim.cycle_start) // MICROSECOND
    assert 0 <= gone < interval
    assert (claim.cycle_start - _EPOCH) // MICROSECOND % interval == 0
    assert claim.stable_runner_count == len(names)
    assert claim.runner_id == name
    if names:
        assert claim.assigned_runner_id == names[gone * len(names) // interval]
    if name in names:
        assert claim.runner_position == names.index(name)
    assert claim.should_try_start == (claim.reason is Reason.ASSIGNED)
    assert bool(claim.skip_message) == claim.reason.is_persisted()
    assert (claim.late_start_fraction is not None) == (claim.reason is Reason.LATE_START)
    has_slot = name in names and claim.reason not in _WITHOUT_SLOT
    assert (claim.slot_start is not None) == (claim.slot_end is not None) == has_slot
    if claim.slot_start is not None and claim.slot_end is not None:
        _check_slot(claim, now, interval, claim.slot_start, claim.slot_end)


def _check_slot(
    claim: AtomicServiceClaim, now: datetime, interval: int, start: datetime, end: datetime
) -> None:
    assert claim.cycle_start <= start < end
    assert (end - claim.cycle_start) // MICROSECOND <= interval
    assert claim.is_slot_owner_now == (claim.assigned_runner_id == claim.runner_id)
    run = claim.atomic_service_run
    if run is not None:
        assert start <= now < end
        assert claim.is_slot_owner_now
        assert (run.runner_id, run.started_at) == (claim.runner_id, now)
        assert (run.cycle_start, run.slot_start, run.slot_end) == (claim.cycle_start, start, end)
    if claim.late_start_fraction is not None:
        assert 0 < claim.late_start_fraction < 1
        assert start + timedelta(0) < now < end
