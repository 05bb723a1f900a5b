"""One Runner in virtual time: its rounds, its turns, and what it says of them."""

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise import (
    AtomicServiceClaim,
    AtomicServiceExecutionStatus,
    Runner,
    StorageError,
    Turn,
    TurnFailed,
    TurnLost,
    open_backend,
)
from turnwise import AtomicServiceDecisionReason as Reason
from turnwise.backends import Admission
from turnwise.backends.memory import MemoryBackend
from turnwise.pace import Pace, monotonic_seconds
from turnwise.testing import SETTINGS, START, share_of_the_profile
from turnwise.testing.desk import ABANDONED, BLOCKED, COMPLETED, MICROSECOND, RUNNING, SECOND
from turnwise.timetable import decide
from virtual import SERVICE, Alone, World

CYCLE = SETTINGS.interval
TIMEOUT = SETTINGS.heartbeat_timeout
WHOLE = CYCLE.total_seconds()


@pytest.fixture
def alone() -> Alone:
    return Alone()


# A round ------------------------------------------------------------------------------------


def test_a_runner_that_has_just_joined_has_no_turn_and_is_told_why() -> None:
    world = World()
    world.add("a", "b")
    first = world.members["a"].runner.begin()
    assert isinstance(first, AtomicServiceClaim)
    assert first.reason is Reason.NO_STABLE_RUNNERS
    assert not world.backend.executions(SERVICE)


def test_a_turn_tells_its_run_and_token_and_what_is_left_of_its_slot(alone: Alone) -> None:
    turn = alone.turn()
    run = turn.run
    assert (run.cycle_start, run.slot_start, run.slot_end) == (
        START + CYCLE,
        START + CYCLE,
        START + 2 * CYCLE,
    )
    assert run.started_at == START + CYCLE
    assert turn.fencing_token == 1
    assert turn.remaining() == WHOLE
    alone.clock.advance(10 * SECOND)
    assert turn.remaining() == WHOLE - 10
    alone.clock.advance(CYCLE)
    assert turn.remaining() == 0.0
    turn.run.started_at = None
    [record] = alone.history()
    assert (record.stable_size, record.status) == (1, RUNNING)


def test_a_turn_among_several_ends_with_its_own_slot_less_the_guard_time() -> None:
    world = World()
    world.add("a", "b", "c")
    world.run_to(START + CYCLE - MICROSECOND)
    world.clock.advance(MICROSECOND)
    turn = world.members[world.primary()].runner.begin()
    assert isinstance(turn, Turn)
    assert turn.remaining() == WHOLE / 3 - SETTINGS.spread_margin.total_seconds()


def test_what_a_look_took_is_no_part_of_what_is_left(alone: Alone) -> None:
    alone.storage.after["look"] = lambda: alone.clock.advance(2 * SECOND)
    assert alone.turn().remaining() == WHOLE - 2


@pytest.mark.parametrize(("left", "begins"), [(0.5, True), (0.25, False)])
def test_a_turn_begins_with_the_least_margin_left_and_not_with_less(
    left: float, begins: bool
) -> None:
    alone = Alone(replace(SETTINGS, min_run_margin=0.5 * SECOND))
    alone.storage.after["look"] = lambda: alone.clock.advance(CYCLE - left * SECOND)
    outcome = alone.runner.begin()
    assert isinstance(outcome, Turn) == begins
    if isinstance(outcome, AtomicServiceClaim):
        assert outcome.skip_message == "no_margin"


def test_a_turn_with_the_least_margin_left_is_renewed_as_any_other() -> None:
    alone = Alone(replace(SETTINGS, min_run_margin=2 * SECOND))
    alone.storage.after["look"] = lambda: alone.clock.advance(CYCLE - 9 * SECOND)
    alone.storage.after["admit"] = lambda: alone.clock.advance(SETTINGS.heartbeat_interval)
    assert alone.turn().remaining() == 2
    assert alone.history()[0].last_heartbeat == alone.clock()


def test_a_renewed_turn_begins_with_the_least_margin_left() -> None:
    """Asking whether an admission still holds takes time, too."""
    alone = Alone(replace(SETTINGS, min_run_margin=2 * SECOND))
    alone.storage.after["look"] = lambda: alone.clock.advance(CYCLE - 16 * SECOND)
    alone.storage.after["admit"] = lambda: alone.clock.advance(SETTINGS.heartbeat_interval)
    alone.storage.after["heartbeat"] = lambda: alone.clock.advance(7 * SECOND)
    assert alone.turn().remaining() == 2


@share_of_the_profile(3, most=500)
@given(
    on_the_way=st.integers(0, 3_000_000),
    on_the_way_back=st.integers(0, 3_000_000),
    skew=st.integers(-9, 9),
)
def test_a_deadline_is_never_later_than_the_end_of_the_slot(
    on_the_way: int, on_the_way_back: int, skew: int
) -> None:
    world = Alone()
    world.clock.step(skew * MICROSECOND)
    world.storage.before["admit"] = lambda: world.clock.advance(on_the_way * MICROSECOND)
    world.storage.after["admit"] = lambda: world.clock.advance(on_the_way_back * MICROSECOND)
    outcome = world.runner.begin()
    if isinstance(outcome, Turn):
        left = (START + 2 * CYCLE - world.clock()).total_seconds()
        assert left - on_the_way / 1e6 - 1e-9 <= outcome.remaining() <= left + 1e-9


def test_a_runner_starts_one_turn_in_a_slot_whatever_became_of_it(alone: Alone) -> None:
    alone.runner.finish(alone.turn(), ABANDONED, "exit:1")
    for _ in range(3):
        claim = alone.claim()
        assert claim.skip_message == "this runner has had its turn in this slot"
        alone.clock.advance(CYCLE / 3)
    assert len(alone.history()) == 1
    assert alone.turn().run.cycle_start == START + 2 * CYCLE


def test_a_turn_that_outlasted_half_its_slot_is_not_recorded_as_a_late_start(alone: Alone) -> None:
    turn = alone.turn()
    alone.clock.advance(CYCLE * 0.8)
    alone.runner.finish(turn)
    assert alone.claim().reason is Reason.LATE_START
    assert alone.blocked() == []


def test_a_late_start_is_recorded_and_brings_no_turn(alone: Alone) -> None:
    alone.clock.advance(CYCLE * 0.8)
    alone.runner.heartbeat()
    for _ in range(2):
        claim = alone.claim()
        assert claim.reason is Reason.LATE_START
    assert alone.blocked() == ["late_start"]
    assert alone.history() == []


def test_a_runner_in_its_grace_looks_again_when_it_is_over() -> None:
    stabilization = 75 * SECOND
    alone = Alone(
        replace(SETTINGS, membership_stabilization=stabilization, max_start_slot_fraction=0.3)
    )
    alone.run_for(CYCLE / 2)
    # It joined at the start. Its slot began after 60 s, and after 77.4 s it would be late.
    assert [served.began - START for served in alone.served] == [stabilization]
    assert alone.blocked() == ["scheduled_runner_in_grace"]


def test_a_runner_in_its_grace_whose_slot_is_over_looks_again_when_the_cycle_ends() -> None:
    world = World(replace(SETTINGS, membership_stabilization=90 * SECOND))
    world.add("a", "b", "c")
    world.run_to(START + CYCLE + SECOND)
    primary = world.members[world.primary()].runner
    world.run_to(START + CYCLE + CYCLE / 3 - SETTINGS.spread_margin)
    claim = primary.begin()
    assert isinstance(claim, AtomicServiceClaim)
    assert claim.reason is Reason.SCHEDULED_RUNNER_IN_GRACE
    assert claim.slot_end == world.clock()
    assert primary._pace._round_due == START + 2 * CYCLE


def test_a_runner_that_was_asked_to_stop_does_not_wait_for_a_lost_admission(alone: Alone) -> None:
    alone.runner.request_stop()
    alone.storage.fail("admit", after=True)
    alone.storage.fail("execution", times=1000)
    with pytest.raises(StorageError, match="was admitted is not known"):
        alone.runner.begin()
    assert alone.clock() == START + CYCLE
    assert alone.storage.calls["execution"] == 1


def test_a_standby_that_the_gate_refused_in_time_is_not_recorded_as_late_as_well() -> None:
    world = World(turn_takes=50 * SECOND)
    world.add("a", "b")
    world.run_to(START + 2 * CYCLE - SECOND)
    [run] = world.history()
    records = world.backend.executions(SERVICE)
    assert [r.reason for r in records if r.status is BLOCKED] == [f"prior_running:{run.run_id}"]


def test_a_refusal_by_the_gate_is_in_the_claim(alone: Alone) -> None:
    other = World(clock=alone.clock)
    other.backend = alone.backend
    other.add("a")
    turn = alone.turn()
    run_id = turn.run.atomic_service_id.atomic_service_run_id
    same_name = other.members["a"].runner
    claim = same_name.begin()
    assert isinstance(claim, AtomicServiceClaim)
    assert (claim.reason, claim.skip_message) == (Reason.ASSIGNED, f"prior_running:{run_id}")
    alone.runner.finish(turn)
    claim = same_name.begin()
    assert isinstance(claim, AtomicServiceClaim)
    assert (claim.should_try_start, claim.skip_message) == (False, "cycle_served")


@pytest.mark.parametrize("retry_failed", [True, False])
def test_a_runner_suspended_between_decision_and_gate_gives_its_cycle_back(
    retry_failed: bool,
) -> None:
    alone = Alone(replace(SETTINGS, retry_failed=retry_failed))
    alone.storage.before["admit"] = lambda: alone.clock.advance(CYCLE - 40 * MICROSECOND)
    assert alone.claim().skip_message == "no_margin"
    [record] = alone.history()
    assert (record.status, record.reason) == (ABANDONED, "no_margin")
    assert alone.served == []
    # Another one may still serve the cycle.
    again = Alone(alone.settings)
    assert again.turn().fencing_token == 1


@pytest.mark.parametrize("asleep", [50 * SECOND, CYCLE, 10 * CYCLE])
def test_a_runner_suspended_while_it_is_admitted_starts_only_within_its_slot(
    alone: Alone, asleep: timedelta
) -> None:
    alone.storage.after["admit"] = lambda: alone.clock.advance(asleep)
    outcome = alone.runner.begin()
    if asleep < CYCLE:
        assert isinstance(outcome, Turn)
        assert outcome.remaining() == WHOLE - asleep.total_seconds()
        outcome.check()
    else:
        assert isinstance(outcome, AtomicServiceClaim)
        assert outcome.skip_message == "no_margin"


def test_an_admission_that_was_long_in_coming_is_renewed_before_its_turn_begins(
    alone: Alone,
) -> None:
    alone.storage.after["admit"] = lambda: alone.clock.advance(SETTINGS.heartbeat_interval)
    turn = alone.turn()
    assert alone.history()[0].last_heartbeat == alone.clock()
    alone.clock.advance(TIMEOUT - MICROSECOND)
    turn.check()


def test_an_admission_that_came_too_late_brings_no_turn(alone: Alone) -> None:
    def dead_meanwhile() -> None:
        alone.clock.advance(TIMEOUT + MICROSECOND)
        other = Alone()
        run = other.turn().run
        alone.backend.admit(SERVICE, run, SETTINGS, alone.backend.peek(SERVICE, SETTINGS))

    alone.storage.after["admit"] = dead_meanwhile
    claim = alone.claim()
    assert claim.skip_message == "owner_dead: the admission was answered too late"
    assert [r.status for r in alone.history()] == [ABANDONED, RUNNING]


def test_a_turn_that_is_renewed_too_late_to_begin_is_given_back_at_once(alone: Alone) -> None:
    """The late heartbeat has renewed the run: left alone it would hold the gate for the timeout."""

    def late(by: timedelta) -> Callable[[], object]:
        return lambda: alone.clock.advance(by)

    alone.storage.after["admit"] = late(SETTINGS.heartbeat_interval)
    alone.storage.after["heartbeat"] = late(SETTINGS.heartbeat_timeout)
    assert alone.claim().skip_message == "no_margin"
    (record,) = alone.history()
    assert (record.status, record.reason) == (ABANDONED, "no_margin")


def test_a_turn_that_cannot_be_renewed_before_it_begins_is_given_back(alone: Alone) -> None:
    alone.storage.after["admit"] = lambda: alone.clock.advance(SETTINGS.heartbeat_interval)
    alone.storage.fail("heartbeat")
    with pytest.raises(StorageError, match="no connection for heartbeat"):
        alone.claim()
    (record,) = alone.history()
    assert (record.status, record.reason) == (ABANDONED, "no_margin")


def test_a_turn_taken_away_while_it_was_given_back_is_logged(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    def dead_meanwhile() -> None:
        alone.clock.advance(CYCLE)
        alone.backend.finish(SERVICE, alone.history()[0].run_id, ABANDONED, "owner_dead", SETTINGS)

    alone.storage.after["admit"] = dead_meanwhile
    assert alone.claim().skip_message == "no_margin"
    [entry] = caplog.records
    name = f"runner:a atomic-service-run:{alone.history()[0].run_id}"
    assert entry.message == f"{name}: somebody else closed this run: abandoned, owner_dead"
    assert entry.levelno == logging.WARNING


# The end of a turn --------------------------------------------------------------------------


def test_a_finished_turn_is_recorded_as_it_ended(alone: Alone) -> None:
    turn = alone.turn()
    alone.clock.advance(SECOND)
    record = alone.runner.finish(turn, ABANDONED, "exit:1")
    assert alone.history() == [record]
    assert (record.status, record.reason) == (ABANDONED, "exit:1")
    assert record.end_time == alone.clock()


def test_a_turn_ends_well_with_nothing_to_say_unless_it_is_told_otherwise(alone: Alone) -> None:
    record = alone.runner.finish(alone.turn())
    assert (record.status, record.reason) == (COMPLETED, "")


@pytest.mark.parametrize("status", [RUNNING, BLOCKED])
def test_a_turn_ends_as_completed_or_abandoned_and_as_nothing_else(
    alone: Alone, status: AtomicServiceExecutionStatus
) -> None:
    turn = alone.turn()
    with pytest.raises(ValueError, match="a turn ends as completed or abandoned, not as"):
        alone.runner.finish(turn, status)
    assert alone.history()[0].status is RUNNING
    alone.runner.finish(turn)


def test_a_reason_that_no_storage_can_keep_is_kept_escaped(alone: Alone) -> None:
    record = alone.runner.finish(alone.turn(), ABANDONED, "cannot read \udcff\0")
    assert record.reason == "cannot read \\udcff\\x00"


def test_a_turn_that_somebody_else_closed_is_reported_as_lost(alone: Alone) -> None:
    turn = alone.turn()
    turn.check()
    alone.clock.advance(TIMEOUT + MICROSECOND)
    run_id = turn.run.atomic_service_id.atomic_service_run_id
    alone.backend.finish(SERVICE, run_id, ABANDONED, "owner_dead", SETTINGS)
    assert not alone.runner.heartbeat(turn).holds_run
    with pytest.raises(TurnLost, match="the storage has closed this run"):
        turn.check()
    with pytest.raises(TurnLost, match="somebody else closed this run: abandoned, owner_dead"):
        alone.runner.finish(turn)


def test_a_turn_that_is_not_kept_any_more_is_reported_as_lost(alone: Alone) -> None:
    turn = alone.turn()
    alone.backend._services.clear()
    with pytest.raises(TurnLost, match=r"somebody else closed this run: it is not kept any more$"):
        alone.runner.finish(turn)


def test_a_turn_is_lost_when_no_heartbeat_was_confirmed_for_the_timeout(alone: Alone) -> None:
    turn = alone.turn()
    alone.clock.advance(TIMEOUT - MICROSECOND)
    turn.check()
    alone.clock.advance(MICROSECOND)
    with pytest.raises(TurnLost, match=r"confirmed for 21\.0 s, and the heartbeat timeout is 21 s"):
        turn.check()
    # The storage had not noticed: a heartbeat makes it sure again.
    assert alone.runner.heartbeat(turn).holds_run
    turn.check()


def test_silence_is_counted_from_before_the_heartbeat_left(alone: Alone) -> None:
    turn = alone.turn()
    alone.clock.advance(5 * SECOND)
    alone.storage.after["heartbeat"] = lambda: alone.clock.advance(4 * SECOND)
    alone.runner.heartbeat(turn)
    alone.clock.advance(TIMEOUT - 4 * SECOND)
    with pytest.raises(TurnLost):
        turn.check()


# The service --------------------------------------------------------------------------------


def test_a_service_is_handed_its_turn_and_completes_it(alone: Alone) -> None:
    turns: list[Turn] = []
    record = alone.step_with(turns.append)
    assert (record.status, record.reason) == (COMPLETED, "")
    assert [turn.fencing_token for turn in turns] == [record.fencing_token]


def test_a_coroutine_service_is_awaited_to_its_end(alone: Alone) -> None:
    steps = []

    async def service(turn: Turn) -> None:
        steps.append(turn.remaining())
        await asyncio.sleep(0)
        steps.append(turn.remaining())

    runner = Runner(
        alone.backend,
        SERVICE,
        service,
        settings=SETTINGS,
        runner_id="a",
        heartbeat_thread=False,
        monotonic=alone.clock.monotonic,
    )
    runner.step()
    assert alone.history()[-1].status is COMPLETED
    assert steps == [WHOLE, WHOLE]


class UnluckyError(ValueError):
    pass


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnluckyError("number 13"), "exception:UnluckyError"),
        (asyncio.CancelledError(), "exception:CancelledError"),
        (StorageError("of the service's own"), "exception:StorageError"),
        (TurnLost("says the service"), "exception:TurnLost"),
    ],
)
def test_an_exception_ends_the_turn_and_not_the_loop_and_is_logged_with_its_traceback(
    alone: Alone, caplog: pytest.LogCaptureFixture, error: BaseException, reason: str
) -> None:
    def service(turn: Turn) -> None:
        del turn
        raise error

    record = alone.step_with(service)
    assert (record.status, record.reason) == (ABANDONED, reason)
    logged = next(entry for entry in caplog.records if entry.exc_info)
    assert logged.exc_info is not None
    assert logged.exc_info[1] is error
    alone.service = lambda turn: turn
    alone.run_for(CYCLE)
    assert alone.history()[-1].status is COMPLETED


def test_the_reason_of_a_failure_is_what_it_says() -> None:
    failure = TurnFailed("nothing to sweep with")
    assert (failure.reason, str(failure)) == ("nothing to sweep with", "nothing to sweep with")


def test_a_service_can_say_why_it_failed(alone: Alone, caplog: pytest.LogCaptureFixture) -> None:
    def service(turn: Turn) -> None:
        del turn
        raise TurnFailed("nothing to sweep with")

    record = alone.step_with(service)
    assert (record.status, record.reason) == (ABANDONED, "nothing to sweep with")
    assert not any(entry.exc_info for entry in caplog.records)
    assert "turn 1 ends after 0s: abandoned nothing to sweep with" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_closes_the_turn_and_goes_on_to_the_program(
    alone: Alone, error: type[BaseException]
) -> None:
    def service(turn: Turn) -> None:
        del turn
        raise error

    with pytest.raises(error):
        alone.step_with(service)
    assert alone.history()[-1].reason == f"exception:{error.__name__}"
    assert alone.history()[-1].status is ABANDONED


def test_a_turn_lost_within_the_service_is_logged_at_its_end(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    def service(turn: Turn) -> None:
        run_id = turn.run.atomic_service_id.atomic_service_run_id
        alone.backend.finish(SERVICE, run_id, ABANDONED, "owner_dead", SETTINGS)

    record = alone.step_with(service)
    assert record.reason == "owner_dead"
    [entry] = [r for r in caplog.records if "turn 1 lost after" in r.message]
    assert entry.levelno == logging.ERROR


def test_a_turn_knows_that_its_runner_was_asked_to_stop(alone: Alone) -> None:
    seen = []

    def service(turn: Turn) -> None:
        seen.append(turn.stop_requested)
        alone.runner.request_stop()
        seen.append(turn.stop_requested)

    alone.step_with(service)
    assert seen == [False, True]


# What is noticed and said -------------------------------------------------------------------


def test_a_second_process_with_the_same_id_is_reported_once(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    other = Runner(alone.backend, SERVICE, settings=SETTINGS, runner_id="a")
    for _ in range(3):
        other.heartbeat()
        alone.runner.heartbeat()
    reports = [r for r in caplog.records if "is used by another live process" in r.message]
    assert [r.levelno for r in reports] == [logging.ERROR] * 2, "each of the two says it once"


def test_a_restarted_process_that_keeps_its_id_is_no_second_one(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    restarted = Runner(alone.backend, SERVICE, settings=SETTINGS, runner_id="a")
    for _ in range(3):
        restarted.heartbeat()
    restarted.begin()
    assert "another live process" not in caplog.text


def test_a_second_process_with_the_same_id_is_noticed_in_a_round_as_well(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    other = Runner(alone.backend, SERVICE, settings=SETTINGS, runner_id="a")
    other.begin()
    alone.runner.begin()
    said = (
        f"runner id a of service {SERVICE} is used by another live process, too: give each its own"
    )
    assert [record.message for record in caplog.records] == [said]


def test_a_runner_publishes_its_settings_once(alone: Alone) -> None:
    alone.run_for(3 * CYCLE)
    assert alone.storage.calls["publish_settings"] == 1
    assert alone.backend.settings_of(SERVICE) == SETTINGS


def test_settings_are_published_again_to_a_storage_that_has_forgotten_all(alone: Alone) -> None:
    alone.run_for(CYCLE)
    alone.backend._services.clear()
    alone.run_for(CYCLE)
    assert alone.storage.calls["publish_settings"] == 2
    assert alone.backend.settings_of(SERVICE) == SETTINGS


def test_settings_that_differ_from_those_before_are_reported_with_both_values(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    other = replace(SETTINGS, standbys=1, retry_failed=False)
    Runner(alone.backend, SERVICE, settings=other, runner_id="b").begin()
    assert [record.message for record in caplog.records] == [
        (
            f"service {SERVICE} was started with other settings before (standbys: 1, not 2; "
            "retry_failed: False, not True): runners that disagree count different slots, which "
            "the gate alone keeps apart, and one with a shorter heartbeat timeout takes a run that "
            "is at work for dead"
        )
    ]
    caplog.clear()
    Runner(alone.backend, SERVICE, settings=other, runner_id="c").begin()
    assert "other settings" not in caplog.text


@pytest.mark.parametrize(
    ("joins_before_the_edge", "first_cycle"), [(3 * SECOND, 1), (2 * SECOND, 2), (SECOND, 2)]
)
def test_a_runner_says_when_its_first_turn_can_be(
    caplog: pytest.LogCaptureFixture, joins_before_the_edge: timedelta, first_cycle: int
) -> None:
    caplog.set_level(logging.INFO)
    world = World()
    world.clock.advance(CYCLE - joins_before_the_edge)
    world.add("a")
    world.run_to(START + 3 * CYCLE)
    said = (START + first_cycle * CYCLE).isoformat(timespec="seconds")
    messages = [record.message for record in caplog.records]
    assert messages.count(f"runner a: first turn at {said} at the earliest") == 1
    assert world.cycles()[0] == first_cycle


def test_a_runner_that_may_not_run_takes_no_turns() -> None:
    world = World()
    world.add("a")
    watcher = Runner(world.backend, SERVICE, settings=SETTINGS, runner_id="w", may_run=False)
    for _ in range(20):
        world.run_for(7 * SECOND)
        assert isinstance(watcher.begin(), AtomicServiceClaim)
    assert set(world.servers()) == {"a"}
    assert world.backend.peek(SERVICE, SETTINGS).size == 1


def test_leaving_keeps_the_slot_empty_until_the_cycle_ends(alone: Alone) -> None:
    alone.runner.leave()
    assert alone.backend.peek(SERVICE, SETTINGS).size == 1
    alone.clock.advance(CYCLE)
    assert alone.backend.peek(SERVICE, SETTINGS).size == 0


@pytest.mark.parametrize("leaves", [True, False])
def test_who_leaves_is_out_of_the_next_cycle_though_it_has_just_been_heard(
    alone: Alone, leaves: bool
) -> None:
    alone.clock.advance(CYCLE - SECOND)
    alone.runner.heartbeat()
    if leaves:
        alone.runner.leave()
    alone.clock.advance(SECOND)
    assert alone.backend.peek(SERVICE, SETTINGS).size == (0 if leaves else 1)


# Construction -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "must have 1 to 255 characters, got 0: ''"),
        ("x" * 256, f"must have 1 to 255 characters, got 256: '{'x' * 40}'$"),
        ("half \ud800", "must be Unicode text without control characters, got 'half"),
        ("nul \0", "must be Unicode text without control characters, got 'nul"),
        ("red \x1b[31m", "must be Unicode text without control characters, got 'red"),
        ("two\nlines", "must be Unicode text without control characters, got 'two"),
    ],
)
def test_a_name_that_a_storage_or_a_log_cannot_take_is_refused(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"service {said}"):
        Runner(MemoryBackend(), name)
    with pytest.raises(ValueError, match=f"runner_id {said}"):
        Runner(MemoryBackend(), "s", runner_id=name)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Runner("sqlite:///x.db", "s"), "backend must be a storage, .* got 'sqlite:///x"),  # type: ignore[arg-type]  # what is tested
        (lambda: Runner(MemoryBackend(), 5), "service must be text, got 5"),  # type: ignore[arg-type]  # what is tested
        (lambda: Runner(MemoryBackend(), "s", "f"), "function must be callable .* got 'f'"),  # type: ignore[arg-type]  # what is tested
        (lambda: Runner(MemoryBackend(), "s", settings="5m"), "settings must be Settings, got"),  # type: ignore[arg-type]  # what is tested
        (lambda: open_backend(None), "url must be text, .* got None"),  # type: ignore[arg-type]  # what is tested
    ],
)
def test_an_argument_of_another_type_is_refused_by_name(
    wrong: Callable[[], object], said: str
) -> None:
    with pytest.raises(TypeError, match=f"^{said}"):
        wrong()


def test_the_longest_name_is_allowed() -> None:
    runner = Runner(MemoryBackend(), "s" * 255, runner_id="r" * 255)
    assert (len(runner.service), len(runner.runner_id)) == (255, 255)


def test_default_runner_ids_differ_and_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "h" * 300)
    ids = {Runner(MemoryBackend(), "s").runner_id for _ in range(50)}
    assert len(ids) == 50
    assert all(re.fullmatch(r"h{200}-[0-9]+-[0-9a-f]{8}", name) for name in ids)


def test_monotonic_seconds_count_while_the_host_is_suspended_where_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocks = {"boot time": 7.0}
    linux = SimpleNamespace(CLOCK_BOOTTIME="boot time", clock_gettime=clocks.__getitem__)
    monkeypatch.setattr("turnwise.pace.time", linux)
    assert monotonic_seconds() == 7.0
    monkeypatch.setattr("turnwise.pace.time", SimpleNamespace(monotonic=lambda: 8.0))
    assert monotonic_seconds() == 8.0


def test_before_the_storage_has_answered_a_round_is_due_at_once() -> None:
    pace = Pace(SETTINGS, lambda: 0.0)
    assert not pace.has_begun
    assert pace.round_is_due()
    assert pace.seconds_to_next_step() == 0.0


def test_a_failure_waits_the_least_at_first_and_after_a_success() -> None:
    pace = Pace(SETTINGS, lambda: 0.0)
    assert [pace.back_off(), pace.back_off()] == [0.1, 0.2]
    pace.recovered()
    assert [pace.back_off(), pace.back_off()] == [0.1, 0.2]


@pytest.mark.parametrize(("window", "wait"), [(9000, 900), (30, 15), (60, 20), (150, 20)])
def test_a_refused_runner_asks_ten_times_in_its_window_if_that_is_not_too_often(
    window: int, wait: int
) -> None:
    """In milliseconds: at least once more, and else no more often than each 20 ms."""
    millisecond = timedelta(milliseconds=1)
    alone = Alone(replace(SETTINGS, max_start_slot_fraction=window * millisecond / CYCLE))
    look = alone.backend.peek(SERVICE, alone.settings)
    claim = decide("a", look.scheduled, look.now, alone.settings)
    refused = Admission(look.now, None, "prior_running:x", look.now + CYCLE)
    next_try = alone.runner._next_try(refused, claim, look)
    assert abs(next_try - (look.now + wait * millisecond)) <= MICROSECOND


@pytest.mark.parametrize(("later", "due"), [(-MICROSECOND, True), (0 * SECOND, False)])
def test_a_clock_that_has_stepped_back_makes_a_round_due_and_one_that_stands_still_does_not(
    later: timedelta, due: bool
) -> None:
    pace = Pace(SETTINGS, lambda: 0.0)
    pace.note(START, 0.0)
    pace.round_at(START + CYCLE)
    pace.note(START + later, 0.0)
    assert pace.round_is_due() == due


def test_a_round_is_due_at_its_instant_and_a_heartbeat_before_it() -> None:
    now = 100.0
    pace = Pace(SETTINGS, lambda: now)
    pace.note(START, 100.0)
    pace.round_at(START + SECOND)
    assert not pace.round_is_due()
    assert pace.seconds_to_next_step() == 1.0
    now = 101.0
    assert pace.round_is_due()
    pace.round_at(START + CYCLE)
    assert pace.seconds_to_next_step() == SETTINGS.heartbeat_interval.total_seconds() - 1
    now = 200.0
    assert pace.seconds_to_next_step() == 0.0


def test_without_a_function_single_turns_can_be_taken_and_no_loop_run() -> None:
    runner = Runner(MemoryBackend(), "s")
    assert isinstance(runner.begin(), AtomicServiceClaim)
    for loop in (runner.run, runner.start, runner.step):
        with pytest.raises(TypeError) as caught:
            loop()
        assert str(caught.value) == (
            "a Runner needs a function to run; give it as the third argument"
        )
    assert runner.stop()
