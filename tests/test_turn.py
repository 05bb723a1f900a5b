"""What a function is handed: its turn; and a turn that a unit test makes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from turnwise.errors import TurnLostError
from turnwise.gate import new_gate
from turnwise.machine import TurnState
from turnwise.scheduler.at_work import lost_at, why_lost
from turnwise.testing import FakeTurn, fake_turn

DUE = datetime(2026, 3, 4, 3, tzinfo=UTC)


def test_a_turn_tells_what_it_serves_and_what_was_served_before() -> None:
    before = DUE - timedelta(days=1)
    turn = fake_turn(
        group="billing",
        service="report",
        runner_id="pod-7",
        run_id="run",
        fencing_token=42,
        attempt=2,
        due=DUE,
        until=DUE + timedelta(days=1),
        started_at=DUE + timedelta(minutes=1),
        last_served=before,
        remaining="10m",
    )
    assert (turn.group, turn.service, turn.runner_id, turn.run_id) == (
        "billing",
        "report",
        "pod-7",
        "run",
    )
    assert (turn.fencing_token, turn.attempt) == (42, 2)
    assert (turn.due, turn.until) == (DUE, DUE + timedelta(days=1))
    assert (turn.started_at, turn.last_served) == (DUE + timedelta(minutes=1), before)
    assert not turn.triggered
    run = turn.run
    assert (run.atomic_service_id.runner_id, run.atomic_service_id.atomic_service_run_id) == (
        "pod-7",
        "run",
    )
    assert run.started_at == turn.started_at
    assert run.slot_end == turn.started_at + timedelta(minutes=10)
    assert repr(turn) == (
        "<Turn of 'report' due 2026-03-04T03:00:00+00:00, attempt 2, fencing token 42>"
    )


def test_a_turn_of_its_own_has_something_in_each_place() -> None:
    turn = fake_turn()
    assert isinstance(turn, FakeTurn)
    assert turn.last_served is None
    assert turn.remaining() == 300
    assert turn.until - turn.due == timedelta(minutes=5)
    assert turn.started_at == turn.due
    assert not turn.stop_requested
    assert not turn.is_lost
    assert turn.lost_in() == 60
    turn.check()


def test_what_is_left_of_the_slot_is_never_negative() -> None:
    turn = fake_turn(remaining="5s")
    turn.elapse("3s")
    assert turn.remaining() == 2
    turn.elapse(timedelta(minutes=1))
    assert turn.remaining() == 0


def test_heartbeats_go_on_while_time_passes_in_a_test_unless_it_says_otherwise() -> None:
    turn = fake_turn(remaining="10m")
    turn.elapse("2m")
    assert (turn.lost_in(), turn.is_lost) == (60, False), "as a real one, whose heartbeats go on"
    turn.elapse("59s", is_silent=True)
    assert (turn.lost_in(), turn.is_lost) == (1, False)
    turn.elapse("1s", is_silent=True)
    assert (turn.lost_in(), turn.is_lost) == (0, True)
    turn.elapse("1s")
    assert (turn.lost_in(), turn.is_lost) == (0, True), "it is lost for good"
    assert turn.remaining() == 600 - 181
    with pytest.raises(TurnLostError, match="no heartbeat was confirmed for the heartbeat timeout"):
        turn.check()


@pytest.mark.parametrize("from_the_start", [True, False])
def test_a_lost_turn_raises_when_it_is_checked(from_the_start: bool) -> None:
    turn = fake_turn(lost=from_the_start, service="report", run_id="run")
    if not from_the_start:
        turn.check()
        turn.lose()
    assert turn.is_lost
    assert turn.lost_in() == 0
    with pytest.raises(TurnLostError, match="report, run run: the test has taken it away"):
        turn.check()


@pytest.mark.parametrize("from_the_start", [True, False])
def test_a_turn_knows_that_the_program_was_asked_to_stop(from_the_start: bool) -> None:
    turn = fake_turn(stop_requested=from_the_start)
    assert turn.stop_requested == from_the_start
    turn.request_stop()
    assert turn.stop_requested


def test_a_turn_is_completed_and_fenced_by_what_stands_behind_it_on_the_connection_given() -> None:
    turn = fake_turn()
    first, second = object(), object()
    turn.fence(first)
    assert (turn.fenced, turn.is_complete) == ([first], False)
    turn.complete(second)
    assert (turn.fenced, turn.is_complete) == ([first], True)


def test_a_turn_is_completed_and_fenced_on_a_connection_only_while_it_is_not_lost() -> None:
    turn = fake_turn()
    for ask in (turn.complete, turn.fence):
        with pytest.raises(TypeError, match="connection must be one"):
            ask(None)
    turn.lose()
    for ask in (turn.complete, turn.fence):
        with pytest.raises(TurnLostError, match="the test has taken it away"):
            ask(object())
    assert (turn.fenced, turn.is_complete) == ([], False)


def test_a_triggered_turn_says_so() -> None:
    assert fake_turn(triggered=True).triggered


@pytest.mark.parametrize("name", ["due", "until", "started_at", "last_served"])
def test_an_instant_without_a_time_zone_is_refused_by_its_name(name: str) -> None:
    instants: dict[str, Any] = {name: datetime(2026, 1, 1)}  # noqa: DTZ001 (as said)
    with pytest.raises(ValueError, match=f"{name} must have a time zone"):
        fake_turn(**instants)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"due": "2026-01-01"}, TypeError, "due must be a datetime with a time zone, got '2026"),
        ({"fencing_token": "7"}, TypeError, "fencing_token must be a whole number, got '7'"),
        ({"fencing_token": 0}, ValueError, "fencing_token must be at least 1, got 0"),
        ({"attempt": True}, TypeError, "attempt must be a whole number, got True"),
        ({"attempt": 0}, ValueError, "attempt must be at least 1, got 0"),
        ({"due": DUE, "until": DUE}, ValueError, "until must be after due, 2026-03-04 03:00"),
        ({"remaining": timedelta(-1)}, ValueError, "remaining must not be negative, got"),
        ({"remaining": 5}, TypeError, "remaining must be a timedelta or a text such as '5m'"),
        ({"group": ""}, ValueError, "group must have 1 to 255 characters"),
        ({"service": None}, TypeError, "service must be text, got None"),
        ({"runner_id": 1}, TypeError, "runner_id must be text, got 1"),
        ({"run_id": 1}, TypeError, "run_id must be text, got 1"),
    ],
)
def test_a_turn_that_no_runner_could_have_is_refused(
    arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        fake_turn(**arguments)


def test_no_time_passes_backwards_in_a_turn() -> None:
    with pytest.raises(ValueError, match="length must not be negative"):
        fake_turn().elapse(timedelta(-1))


# Why a turn is lost -------------------------------------------------------------------------


def a_state() -> TurnState:
    """A turn whose run was confirmed at 0, and has a heartbeat timeout of a minute."""
    run = fake_turn()._run
    return TurnState(run, new_gate(run.due), "version", 0, 300_000_000, None)


def test_a_turn_is_lost_from_the_heartbeat_timeout_on_and_not_a_microsecond_earlier() -> None:
    state = a_state()
    assert why_lost(state, 59_999_999) is None
    assert why_lost(state, 60_000_000) == (
        "no heartbeat was confirmed for 60.0 s, and the heartbeat timeout is 60 s"
    )
    assert lost_at(state) == 60_000_000


def test_a_turn_that_was_given_up_is_lost_for_good() -> None:
    state = a_state()
    state.lost = True
    assert why_lost(state, 0) == "the run was given up, or closed by the storage"
    assert lost_at(state) == 0


def test_a_turn_that_has_passed_its_timeout_says_so_and_keeps_the_gate_closed() -> None:
    state = a_state()
    state.lost = state.overdue = True
    assert why_lost(state, 0) == "its timeout has passed"
    assert lost_at(state) == 60_000_000
