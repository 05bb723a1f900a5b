"""The names of the decision's module: what each is, says of itself, and refuses."""

import ast
import dataclasses
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock
from uuid import UUID

import pytest

from strategies import microseconds
from turnwise import atomic_service
from turnwise.atomic_service import (
    ActiveRunnerInfo,
    AtomicServiceClaim,
    AtomicServiceDecisionReason,
    AtomicServiceExecution,
    AtomicServiceExecutionStatus,
    AtomicServiceId,
    AtomicServiceRun,
    _ClaimBuilder,
    _is_in_grace,
    _late_start_fraction,
    _slot_window,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SOURCE = Path(atomic_service.__file__)
NAMES = [
    "AtomicServiceId",
    "AtomicServiceRun",
    "AtomicServiceDecisionReason",
    "_PERSISTED_REASONS",
    "ActiveRunnerInfo",
    "AtomicServiceExecutionStatus",
    "AtomicServiceExecution",
    "AtomicServiceClaim",
    "_ClaimBuilder",
    "_slot_window",
    "_is_in_grace",
    "_late_start_fraction",
    "decide_atomic_service_claim",
]


def test_the_names_of_the_contract_stand_in_its_order() -> None:
    defined = []
    for node in ast.parse(SOURCE.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            defined.append(node.name)
        elif isinstance(node, ast.Assign):
            defined.extend(ast.unparse(target) for target in node.targets)
    assert [name for name in defined if name in NAMES] == NAMES


def test_the_module_needs_the_standard_library_alone() -> None:
    code = f"import runpy, sys; runpy.run_path({str(SOURCE)!r}); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    outside = {name.partition(".")[0] for name in done.stdout.split()} - sys.stdlib_module_names
    assert outside <= {"__main__"}


def test_the_module_opens_with_its_rules_then_how_it_works_then_the_table() -> None:
    text = atomic_service.__doc__ or ""
    heads = [text.index(head) for head in ("Rules\n", "How it works\n", "The decision table\n")]
    assert heads == sorted(heads)
    for reason in AtomicServiceDecisionReason:
        assert reason.name in text[heads[-1] :]


def test_an_id_is_frozen_and_gets_a_fresh_uuid4() -> None:
    first, second = AtomicServiceId("a"), AtomicServiceId("a")
    assert first.atomic_service_run_id != second.atomic_service_run_id
    assert UUID(first.atomic_service_run_id).version == 4
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.runner_id = "b"  # type: ignore[misc] # the point of the test


def test_an_id_names_runner_and_run() -> None:
    assert str(AtomicServiceId("a", "7")) == "runner:a atomic-service-run:7"


def test_a_run_is_built_from_a_composed_id_or_from_flat_ones() -> None:
    composed = AtomicServiceRun(AtomicServiceId("a", "7"))
    assert (composed.runner_id, composed.atomic_service_run_id) == ("a", "7")
    flat = AtomicServiceRun(runner_id="a", atomic_service_run_id="7")
    assert flat.atomic_service_id == AtomicServiceId("a", "7")
    assert flat == composed
    fresh = AtomicServiceRun(runner_id="a")
    assert fresh.atomic_service_id.runner_id == "a"
    assert fresh.atomic_service_run_id == fresh.atomic_service_id.atomic_service_run_id
    assert UUID(fresh.atomic_service_run_id).version == 4


def test_where_both_forms_are_given_the_composed_one_wins_so_that_replace_works() -> None:
    both = AtomicServiceRun(AtomicServiceId("a", "7"), runner_id="b", atomic_service_run_id="8")
    assert (both.runner_id, both.atomic_service_run_id) == ("a", "7")
    other = dataclasses.replace(both, atomic_service_id=AtomicServiceId("c", "9"), started_at=NOON)
    assert (other.runner_id, other.atomic_service_run_id) == ("c", "9")
    assert other.started_at == NOON


@pytest.mark.parametrize("flat", [{}, {"atomic_service_run_id": "7"}])
def test_a_run_without_an_identity_is_a_type_error_that_says_what_is_accepted(
    flat: dict[str, str],
) -> None:
    with pytest.raises(TypeError) as caught:
        AtomicServiceRun(**flat)  # type: ignore[arg-type] # the point of the test
    assert str(caught.value) == (
        "AtomicServiceRun needs an identity: accepted are atomic_service_id, or runner_id with an "
        "optional atomic_service_run_id"
    )


def test_a_run_has_its_fields_in_order_and_can_be_stamped() -> None:
    names = [field.name for field in dataclasses.fields(AtomicServiceRun)]
    assert names == [
        "atomic_service_id",
        "cycle_start",
        "slot_start",
        "slot_end",
        "started_at",
        "runner_id",
        "atomic_service_run_id",
    ]
    run = AtomicServiceRun(runner_id="a")
    assert [getattr(run, name) for name in names[1:5]] == [None] * 4
    run.started_at = NOON
    assert run.started_at == NOON


def test_a_run_tells_its_id_then_cycle_slot_and_start_each_only_when_known() -> None:
    run = AtomicServiceRun(AtomicServiceId("a", "7"))
    assert str(run) == "runner:a atomic-service-run:7"
    run = dataclasses.replace(
        run,
        cycle_start=NOON,
        slot_start=NOON + SECOND,
        slot_end=NOON + 2 * SECOND,
        started_at=NOON + 3 * SECOND,
    )
    assert str(run) == (
        "runner:a atomic-service-run:7 cycle-start:2026-01-01T12:00:00+00:00 "
        "slot-start:2026-01-01T12:00:01+00:00 slot-end:2026-01-01T12:00:02+00:00 "
        "started-at:2026-01-01T12:00:03+00:00"
    )
    assert str(dataclasses.replace(run, cycle_start=None, slot_end=None)) == (
        "runner:a atomic-service-run:7 slot-start:2026-01-01T12:00:01+00:00 "
        "started-at:2026-01-01T12:00:03+00:00"
    )


def test_reasons_and_statuses_are_texts_of_their_lower_case_names() -> None:
    names = "ASSIGNED NOT_ASSIGNED_SLOT NO_STABLE_RUNNERS SCHEDULED_RUNNER_IN_GRACE"
    assert [reason.name for reason in AtomicServiceDecisionReason] == [
        *names.split(),
        "SLOT_WINDOW_INVALID",
        "LATE_START",
    ]
    statuses = [status.name for status in AtomicServiceExecutionStatus]
    assert statuses == ["RUNNING", "COMPLETED", "ABANDONED", "BLOCKED"]
    for member in [*AtomicServiceDecisionReason, *AtomicServiceExecutionStatus]:
        assert str(member) == member.name.lower() == member.value


def test_three_reasons_are_worth_a_record() -> None:
    persisted = [reason for reason in AtomicServiceDecisionReason if reason.is_persisted()]
    assert {reason.name for reason in persisted} == {
        "SLOT_WINDOW_INVALID",
        "SCHEDULED_RUNNER_IN_GRACE",
        "LATE_START",
    }
    assert frozenset(persisted) == atomic_service._PERSISTED_REASONS


def test_a_runner_info_is_a_tuple_that_may_not_run_unless_it_says_so() -> None:
    runner = ActiveRunnerInfo("a", NOON, NOON + SECOND)
    assert tuple(runner) == ("a", NOON, NOON + SECOND, False, ())
    assert runner._fields == (
        "runner_id",
        "creation_time",
        "last_heartbeat",
        "allow_to_run_atomic_service",
        "consumed_queues",
    )


def test_an_execution_is_open_until_it_has_an_end() -> None:
    execution = AtomicServiceExecution(AtomicServiceId("a", "7"), NOON, None)
    assert execution.status is AtomicServiceExecutionStatus.RUNNING
    assert execution.reason == ""
    assert execution.is_active
    assert execution.duration_seconds == 0.0
    ended = execution._replace(
        end_time=NOON + timedelta(milliseconds=1500), status=AtomicServiceExecutionStatus.ABANDONED
    )
    assert not ended.is_active
    assert ended.duration_seconds == 1.5


def test_an_execution_from_flat_columns_is_the_same_as_a_composed_one() -> None:
    flat = AtomicServiceExecution.from_raw("a", "7", NOON, None)
    assert flat == AtomicServiceExecution(AtomicServiceId("a", "7"), NOON, None)
    assert (flat.runner_id, flat.atomic_service_run_id) == ("a", "7")
    full = AtomicServiceExecution.from_raw(
        "a", "7", NOON, NOON, AtomicServiceExecutionStatus.BLOCKED, "late_start"
    )
    assert full[1:] == (NOON, NOON, AtomicServiceExecutionStatus.BLOCKED, "late_start")


def test_an_execution_knows_its_run() -> None:
    execution = AtomicServiceExecution.from_raw("a", "7", NOON, None)
    assert execution.atomic_service_run == AtomicServiceRun(
        AtomicServiceId("a", "7"), started_at=NOON
    )


def test_a_claim_is_frozen_and_its_defaults_mean_skip_with_nothing_to_report() -> None:
    claim = AtomicServiceClaim("a", AtomicServiceDecisionReason.NO_STABLE_RUNNERS, NOON)
    assert [getattr(claim, field.name) for field in dataclasses.fields(claim)] == [
        "a",
        AtomicServiceDecisionReason.NO_STABLE_RUNNERS,
        NOON,
        None,
        None,
        0,
        None,
        None,
        False,
        None,
        "",
        None,
    ]
    assert not claim.should_try_start
    assert claim.skip_reason is None
    assert claim.decision is claim
    with pytest.raises(dataclasses.FrozenInstanceError):
        claim.reason = AtomicServiceDecisionReason.ASSIGNED  # type: ignore[misc] # the point


def test_a_claim_should_try_to_start_when_it_has_a_run_and_tells_its_persisted_reason() -> None:
    run = AtomicServiceRun(runner_id="a")
    claim = AtomicServiceClaim(
        "a", AtomicServiceDecisionReason.ASSIGNED, NOON, atomic_service_run=run
    )
    assert claim.should_try_start
    assert claim.skip_reason is None
    late = AtomicServiceClaim("a", AtomicServiceDecisionReason.LATE_START, NOON)
    assert late.skip_reason is AtomicServiceDecisionReason.LATE_START


def builder() -> _ClaimBuilder:
    """At 12:00:10, in a cycle of 5 minutes."""
    now = NOON + 10 * SECOND
    return _ClaimBuilder("a", now, now.timestamp(), 300.0, 1.0, 60.0)


def test_the_builder_has_its_fields_in_order_and_skips_by_default() -> None:
    names = [field.name for field in dataclasses.fields(_ClaimBuilder)]
    assert names[:13] == [
        "runner_id",
        "started_at",
        "current_time",
        "interval_seconds",
        "spread_minutes",
        "stabilization_seconds",
        "cycle_start",
        "stable_runner_count",
        "assigned_runner_id",
        "runner_position",
        "slot_start",
        "slot_end",
        "is_slot_owner_now",
    ]
    fresh = builder()
    assert fresh.cycle_start == NOON
    assert [getattr(fresh, name) for name in names[7:13]] == [0, None, None, None, None, False]


TERMINALS = {
    "no_runners": (),
    "not_in_stable_set": (),
    "not_in_slot": (),
    "invalid_window": (),
    "in_grace": (),
    "late_start": (0.75, 0.5),
    "cleared_to_start": (),
}


@pytest.mark.parametrize("name", TERMINALS)
def test_each_terminal_method_of_the_builder_builds_once(name: str) -> None:
    with mock.patch.object(_ClaimBuilder, "_build", autospec=True) as build:
        getattr(builder(), name)(*TERMINALS[name])
    assert build.call_count == 1


def test_what_the_mutators_note_is_what_is_built() -> None:
    made = builder()
    made.use_runners(3, "b")
    made.set_position(1)
    made.set_slot((100_000_000, 140_000_001), is_owner=True)
    claim = made.cleared_to_start()
    assert (claim.stable_runner_count, claim.assigned_runner_id) == (3, "b")
    assert claim.runner_position == 1
    assert claim.slot_start == NOON + 100 * SECOND
    assert claim.slot_end == NOON + timedelta(microseconds=140_000_001)
    assert claim.is_slot_owner_now
    run = claim.atomic_service_run
    assert run is not None
    assert (run.runner_id, run.cycle_start, run.started_at) == ("a", NOON, NOON + 10 * SECOND)
    assert (run.slot_start, run.slot_end) == (claim.slot_start, claim.slot_end)


def test_a_run_starts_at_what_the_builder_was_given_or_else_at_now() -> None:
    for given, expected in ((NOON, NOON), (None, NOON + 10 * SECOND)):
        run = replace(builder(), started_at=given).cleared_to_start().atomic_service_run
        assert run is not None
        assert run.started_at == expected


def test_messages_are_for_a_person_who_reads_a_history() -> None:
    made = builder()
    made.use_runners(7, "b")
    assert "spread_margin=1.0m" in made.invalid_window().skip_message
    assert "interval/7" in made.invalid_window().skip_message
    assert "runner b " in made.in_grace().skip_message
    assert " 1m " in made.in_grace().skip_message
    late = made.late_start(0.75, 0.12345)
    assert "75.00%" in late.skip_message
    assert "12.35%" in late.skip_message or "12.34%" in late.skip_message
    assert late.late_start_fraction == 0.75


def test_a_slot_window_is_the_slot_less_its_margin_or_none_where_nothing_is_left() -> None:
    assert _slot_window(0, 1, (300, 3), 20, single_runner=False) == (100, 180)
    assert _slot_window(1000, 2, (300, 3), 99, single_runner=False) == (1200, 1201)
    assert _slot_window(0, 0, (300, 3), 100, single_runner=False) is None
    assert _slot_window(0, 0, (10, 3), 0, single_runner=False) == (0, 4)
    assert _slot_window(0, 1, (10, 3), 3, single_runner=False) is None
    assert _slot_window(7, 0, (10, 1), 10_000, single_runner=True) == (7, 17)


def test_grace_ends_exactly_at_its_limit_and_zero_disables_it() -> None:
    runner = ActiveRunnerInfo("a", NOON, NOON)
    assert _is_in_grace(runner, microseconds(NOON + 60 * SECOND) - 1, 60)
    assert not _is_in_grace(runner, microseconds(NOON + 60 * SECOND), 60)
    assert not _is_in_grace(runner, microseconds(NOON - 60 * SECOND), 0)
    assert _is_in_grace(runner, microseconds(NOON + timedelta(days=1_000_000)), 1e300)
    assert _is_in_grace(runner, microseconds(NOON + timedelta(days=1_000_000)), 1e305)


def test_grace_is_exact_over_ages_that_no_float_holds() -> None:
    runner = ActiveRunnerInfo("a", datetime(1, 1, 1, tzinfo=UTC), NOON)
    now = datetime(9000, 1, 1, tzinfo=UTC)
    limit = int((now - runner.creation_time).total_seconds())
    assert not _is_in_grace(runner, microseconds(now), limit)
    assert _is_in_grace(runner, microseconds(now) - 1, limit)


def test_grace_needs_an_aware_creation_time_and_says_whose_is_not() -> None:
    naive = ActiveRunnerInfo("the-runner", NOON.replace(tzinfo=None), NOON)
    with pytest.raises(ValueError, match=r"'the-runner'.*aware datetime"):
        _is_in_grace(naive, microseconds(NOON), 60)
    assert not _is_in_grace(naive, microseconds(NOON), 0)


def test_the_late_fraction_is_given_only_when_over_the_maximum() -> None:
    assert _late_start_fraction(75, 0, 100, 0.5) == 0.75
    assert _late_start_fraction(50, 0, 100, 0.5) is None
    assert _late_start_fraction(51, 0, 100, 0.5) == 0.51
    assert _late_start_fraction(30, 0, 100, 0.3) is None


@pytest.mark.parametrize(
    ("started_at", "slot_start", "slot_end", "max_fraction"),
    [
        (75, None, 100, 0.5),
        (75, 0, None, 0.5),
        (0, 0, 100, 0.5),
        (-1, 0, 100, 0.5),
        (75, 0, 100, 1.0),
        (175, 0, 100, 1.0),
        (175, 0, 100, 1.5),
        (75, 0, 100, 0.0),
        (75, 0, 100, -1.0),
        (75, 0, 100, 2.0),
        (75, 0, 100, float("nan")),
    ],
)
def test_there_is_no_late_fraction_where_there_is_nothing_to_compare(
    started_at: int, slot_start: int | None, slot_end: int | None, max_fraction: float
) -> None:
    assert _late_start_fraction(started_at, slot_start, slot_end, max_fraction) is None
