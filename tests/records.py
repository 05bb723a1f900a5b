"""Small records of a service for the tests of its rules: runs, requests, plans."""

from dataclasses import replace

from turnwise.cycles import MINUTE
from turnwise.gate import Ask, Gate, Run
from turnwise.gate import admit as admitted
from turnwise.plan import CyclePlan, PlanRules

FIVE = 5 * MINUTE
FOR_EVER = 2**52
RULES = PlanRules(
    margin=20_000_000,
    window=0.5,
    standbys=2,
    attempts=3,
    every_slot=False,
    stabilization=0,
    start_within=None,
)


def run_of(
    key: int | None, run_id: str = "run", *, due: int | None = None, length: int = FIVE
) -> Run:
    """A run for a period that is due at ``key`` and lasts for ``length``; None for a trigger."""
    starts = due if due is not None else key or 0
    return Run(
        run_id=run_id,
        runner_id="alice",
        boot_id="boot",
        heartbeat_timeout=MINUTE,
        token=0,
        key=key,
        due=starts,
        until=starts + length,
        cycle_start=starts,
        slot_start=starts,
        slot_end=starts + length,
        position=0,
        attempt=0,
        started_at=0,
        size=3,
        digest=7,
    )


def ask_for(
    key: int | None,
    run_id: str = "run",
    *,
    due: int | None = None,
    length: int = FIVE,
    attempts: int = 3,
    not_after: int = FOR_EVER,
) -> Ask:
    """A request for a run, which may start at any time unless a test says otherwise."""
    return Ask(run_of(key, run_id, due=due, length=length), attempts, not_after)


def opened(
    gate: Gate, key: int | None, run_id: str = "run", *, now: int, length: int = FIVE
) -> Gate:
    """The gate with a run admitted, which must not be refused."""
    answer = admitted(gate, ask_for(key, run_id, length=length), now=now)
    assert isinstance(answer, Gate), answer
    return answer


def cycle_plan(
    start: int, end: int, *names: str, due: int | None = None, until: int | None = None
) -> CyclePlan:
    """A planned cycle, which is its whole period unless a test says otherwise."""
    return CyclePlan(
        start=start,
        end=end,
        number=0,
        due=start if due is None else due,
        until=end if until is None else until,
        rules=RULES,
        runners=tuple((name, 0) for name in names or ("a", "b", "c")),
        size=len(names) or 3,
        digest=7,
        periods=11,
        settings="0123456789ab",
    )


def with_rules(cycle: CyclePlan, **rules: object) -> CyclePlan:
    """A planned cycle with some of its rules changed."""
    # The values have the types of their fields.
    return replace(cycle, rules=replace(cycle.rules, **rules))  # type: ignore[arg-type]
