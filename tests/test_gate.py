"""The gate's rules one by one: each refusal, each change, and the clock that steps."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from records import FIVE, ask_for, opened, run_of
from turnwise import gate as gates
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import MINUTE, SECOND
from turnwise.gate import (
    Ask,
    Command,
    CommandName,
    Execution,
    Gate,
    NotOpen,
    Pause,
    Success,
    Trigger,
)

NOON = 1_790_000_000_000_000 // FIVE * FIVE
DAY = 24 * 60 * MINUTE
NEW = gates.new_gate(NOON - 1)
Patch = pytest.MonkeyPatch


def ended(gate: Gate, status: Status, reason: str = "", *, now: int, run_id: str = "run") -> Gate:
    answer = gates.finish(gate, run_id, now=now, status=status, reason=reason)
    assert isinstance(answer, Gate), answer
    return answer


def served(gate: Gate, key: int, *, now: int | None = None, length: int = FIVE) -> Gate:
    """The gate after a run for ``key`` has completed."""
    at = key if now is None else now
    return ended(opened(gate, key, now=at, length=length), Status.COMPLETED, now=at)


def failed(gate: Gate, key: int, *, now: int | None = None, length: int = FIVE) -> Gate:
    """The gate after an attempt at ``key`` has failed."""
    at = key if now is None else now
    run = opened(gate, key, now=at, length=length)
    return ended(run, Status.ABANDONED, "boom", now=at)


# Admission ----------------------------------------------------------------------------------


def test_a_run_is_admitted_with_the_next_token_its_attempt_and_the_storages_now() -> None:
    ask = ask_for(NOON)
    gate = gates.admit(replace(NEW, token=6), ask, now=NOON + 3)
    assert gate == replace(
        NEW, token=7, open=replace(ask.run, token=7, attempt=1, started_at=NOON + 3)
    )


def test_while_a_run_is_open_another_is_refused_with_its_id_and_due() -> None:
    gate = opened(NEW, NOON, "first", now=NOON)
    refusal = gates.admit(gate, ask_for(NOON + FIVE, "second"), now=NOON + FIVE)
    assert refusal == gates.PriorRunning("first", NOON)
    assert str(refusal) == "prior_running:first"


def test_a_period_that_is_served_is_refused() -> None:
    refusal = gates.admit(served(NEW, NOON), ask_for(NOON), now=NOON + 1)
    assert refusal == gates.AlreadyServed(NOON)
    assert str(refusal) == "already_served"


@pytest.mark.parametrize(("key", "is_served"), [(NOON - 1, True), (NOON, False)])
def test_a_new_gate_counts_everything_up_to_now_as_served(key: int, *, is_served: bool) -> None:
    answer = gates.admit(NEW, ask_for(key), now=NOON)
    assert isinstance(answer, gates.AlreadyServed) == is_served


def test_a_period_whose_attempts_are_used_up_is_refused_and_the_next_one_is_not() -> None:
    gate = failed(failed(NEW, NOON), NOON)
    assert isinstance(gates.admit(gate, ask_for(NOON, attempts=3), now=NOON), Gate)
    refusal = gates.admit(gate, ask_for(NOON, attempts=2), now=NOON)
    assert refusal == gates.AttemptsUsed(NOON, 2)
    assert str(refusal) == "attempts_used:2"
    following = gates.admit(gate, ask_for(NOON + FIVE, attempts=2), now=NOON + FIVE)
    assert isinstance(following, Gate)
    assert following.open is not None
    assert following.open.attempt == 1


def test_each_attempt_at_a_period_has_its_number() -> None:
    gate = failed(NEW, NOON)
    second = opened(gate, NOON, now=NOON).open
    assert second is not None
    assert second.attempt == 2


def test_a_request_may_be_admitted_at_its_last_instant_and_not_after_it() -> None:
    ask = ask_for(NOON, not_after=NOON + 5)
    assert isinstance(gates.admit(NEW, ask, now=NOON + 5), Gate)
    refusal = gates.admit(NEW, ask, now=NOON + 6)
    assert refusal == gates.TooLate(NOON + 5)
    assert str(refusal) == "too_late"


def admit_whenever(gate: Gate, ask: Ask, *, now: int) -> Gate | gates.Refusal:
    return gates.admit(gate, replace(ask, not_after=2**60), now=now)


def late_admission(admit: Callable[..., Gate | gates.Refusal]) -> None:
    """An admission for a slot's end that arrives in the next slot, and one for the next period."""
    slot_end = NOON + 100 * SECOND
    ask = ask_for(NOON, not_after=slot_end - 1)
    for delayed_to in (slot_end, NOON + FIVE):
        assert isinstance(admit(NEW, ask, now=delayed_to), gates.TooLate)


def test_scenario_9_an_admission_that_is_delayed_into_the_next_slot_or_period_is_refused() -> None:
    late_admission(gates.admit)
    with pytest.raises(AssertionError):
        late_admission(admit_whenever)


# How a run ends -----------------------------------------------------------------------------


def test_a_run_that_completed_serves_its_period_and_is_the_last_success() -> None:
    gate = ended(opened(failed(NEW, NOON), NOON, now=NOON), Status.COMPLETED, now=NOON + 9)
    assert gate.open is None
    assert gate.served == (NOON,)
    assert gate.attempts == ()
    assert gate.success == Success(NOON, NOON + 9, "run")


def test_what_ended_is_told_with_all_that_was_known_of_the_run() -> None:
    run = replace(
        run_of(NOON), token=4, attempt=2, started_at=NOON + 1, position=1, trigger="please"
    )
    gate = ended(replace(NEW, open=run), Status.ABANDONED, "boom", now=NOON + 9)
    assert gate.unsaid == (
        Execution(
            id="run",
            runner_id="alice",
            status=Status.ABANDONED,
            reason="boom",
            started_at=NOON + 1,
            ended_at=NOON + 9,
            token=4,
            due=NOON,
            cycle_start=NOON,
            slot_start=NOON,
            slot_end=NOON + FIVE,
            position=1,
            attempt=2,
            size=3,
            digest=7,
            trigger="please",
        ),
    )
    assert gate.success is None


def test_a_run_that_is_open_is_shown_as_running_without_an_end() -> None:
    run = replace(run_of(NOON), started_at=NOON + 1)
    row = gates.open_row(run)
    assert (row.status, row.ended_at, row.reason) == (Status.RUNNING, None, "")
    assert (row.at, row.kind) == (NOON + 1, "running")


@pytest.mark.parametrize("reason", ["stopped", "not_started", "no_margin"])
def test_a_run_that_was_stopped_or_had_no_chance_leaves_its_period_as_it_was(reason: str) -> None:
    before = failed(NEW, NOON)
    after = ended(opened(before, NOON, now=NOON), Status.ABANDONED, reason, now=NOON)
    assert replace(after, token=before.token, unsaid=before.unsaid) == before


@pytest.mark.parametrize("reason", ["boom", "timeout", "lost", "owner_dead", ""])
def test_a_run_that_failed_is_an_attempt(reason: str) -> None:
    gate = ended(opened(NEW, NOON, now=NOON), Status.ABANDONED, reason, now=NOON)
    assert gate.attempts == ((NOON, 1),)
    assert gates.attempts_at(gate, NOON) == 1
    assert gates.attempts_at(gate, NOON + FIVE) == 0


def test_a_completed_run_counts_as_such_whatever_its_reason_says() -> None:
    gate = ended(opened(NEW, NOON, now=NOON), Status.COMPLETED, "stopped", now=NOON)
    assert gate.served == (NOON,)


def test_who_buries_a_run_says_that_its_owner_is_dead_and_the_attempt_is_used() -> None:
    gate = gates.bury(opened(NEW, NOON, now=NOON), "run", now=NOON + 5)
    assert isinstance(gate, Gate)
    assert gate.attempts == ((NOON, 1),)
    row = gates.said_of(gate, "run")
    assert row is not None
    assert (row.status, row.reason, row.ended_at) == (Status.ABANDONED, "owner_dead", NOON + 5)


def test_complete_is_a_finish_that_completed() -> None:
    gate = opened(NEW, NOON, now=NOON)
    assert gates.complete(gate, "run", now=NOON + 1) == ended(gate, Status.COMPLETED, now=NOON + 1)


def test_what_is_closed_stays_closed_and_who_comes_second_is_told_how_it_was_closed() -> None:
    gate = gates.bury(opened(NEW, NOON, now=NOON), "run", now=NOON + 5)
    assert isinstance(gate, Gate)
    answer = gates.finish(gate, "run", now=NOON + 6, status=Status.COMPLETED)
    assert answer == NotOpen("run", gates.said_of(gate, "run"))
    assert str(answer) == "not_open:run"
    forgotten = gates.without(gate, frozenset({"run"}))
    assert forgotten.unsaid == ()
    assert gates.complete(forgotten, "run", now=NOON + 6) == NotOpen("run", None)


def test_another_run_is_not_closed_by_who_names_the_one_before() -> None:
    gate = opened(served(NEW, NOON), NOON + FIVE, "next", now=NOON + FIVE)
    for close in (gates.complete, gates.bury):
        answer = close(gate, "run", now=NOON + FIVE)
        assert isinstance(answer, NotOpen)
        assert answer.closed_as is not None
        assert answer.closed_as.id == "run"


def test_a_fence_leaves_the_gate_as_it_is_while_the_run_is_open() -> None:
    gate = opened(NEW, NOON, now=NOON)
    assert gates.fence(gate, "run") is gate


def test_a_fence_of_a_run_that_is_not_open_says_how_it_was_closed() -> None:
    gate = opened(failed(NEW, NOON), NOON + FIVE, "next", now=NOON + FIVE)
    assert gates.fence(gate, "run") == NotOpen("run", gates.said_of(gate, "run"))
    assert gates.fence(NEW, "run") == NotOpen("run", None)


def test_only_what_the_history_has_is_left_out_of_what_is_unsaid() -> None:
    gate = failed(NEW, NOON)
    gate = gates.pause(gate, id="p", now=NOON, by="ops", reason="")
    assert [row.id for row in gates.without(gate, frozenset({"run", "x"})).unsaid] == ["p"]
    assert gates.said_of(gate, "p") is None, "a command is no run"


# Pause, resume, trigger ---------------------------------------------------------------------


def test_nothing_starts_while_paused_and_a_run_that_is_open_goes_on() -> None:
    gate = gates.pause(
        opened(NEW, NOON, now=NOON), id="p", now=NOON, by="ops", reason="upgrade", until=NOON + 9
    )
    assert gate.pause == Pause(NOON, "ops", "upgrade", NOON + 9)
    assert gate.unsaid == (Command("p", CommandName.PAUSE, NOON, "ops", "upgrade", NOON + 9),)
    assert (gate.unsaid[0].kind, gate.unsaid[0].at) == ("command", NOON)
    gate = ended(gate, Status.ABANDONED, "boom", now=NOON + 1)
    refusal = gates.admit(gate, ask_for(NOON), now=NOON + 8)
    assert refusal == gates.Paused(NOON + 9)
    assert str(refusal) == "paused"
    assert gates.is_paused(gate, NOON + 8)
    assert not gates.is_paused(gate, NOON + 9)


def test_a_pause_that_has_passed_goes_with_the_next_run() -> None:
    gate = gates.pause(NEW, id="p", now=NOON, by="ops", reason="", until=NOON + 9)
    assert opened(gate, NOON, now=NOON + 9).pause is None


def test_a_pause_without_an_end_lasts_until_it_is_resumed() -> None:
    gate = gates.pause(NEW, id="p", now=NOON, by="ops", reason="x")
    assert gates.is_paused(gate, NOON + 10**15)
    assert gates.admit(gate, ask_for(NOON), now=NOON) == gates.Paused(None)
    gate = gates.resume(gate, id="r", now=NOON + 1, by="ops", reason="done")
    assert gate.pause is None
    assert gate.unsaid[1:] == (Command("r", CommandName.RESUME, NOON + 1, "ops", "done"),)
    assert not gates.is_paused(gate, NOON)
    assert isinstance(gates.admit(gate, ask_for(NOON), now=NOON), Gate)


def test_a_gate_without_a_pause_is_not_changed_by_a_resume() -> None:
    assert gates.resume(NEW, id="r", now=NOON, by="ops", reason="") is NEW


def test_a_trigger_asks_for_one_run_whether_the_period_is_served_or_not() -> None:
    gate = gates.trigger(served(NEW, NOON), id="t", now=NOON + 1, by="ops", reason="again")
    assert gate.trigger == Trigger("t", NOON + 1, "ops", "again")
    assert gate.unsaid[-1] == Command("t", CommandName.TRIGGER, NOON + 1, "ops", "again")
    assert gates.trigger(gate, id="u", now=NOON + 2, by="ops", reason="") is gate
    gate = opened(gate, None, "triggered", now=NOON + 3)
    assert gate.trigger is None
    assert gate.open is not None
    assert (gate.open.trigger, gate.open.attempt, gate.open.token) == ("t", 1, 2)
    assert gate.open.started_at == NOON + 3


def test_a_run_for_a_trigger_that_somebody_else_has_taken_is_refused() -> None:
    assert gates.admit(NEW, ask_for(None, due=NOON), now=NOON) == gates.AlreadyServed(NOON)


@pytest.mark.parametrize(
    ("status", "reason", "again"),
    [
        (Status.COMPLETED, "", False),
        (Status.COMPLETED, "stopped", False),
        (Status.ABANDONED, "boom", False),
        (Status.ABANDONED, "owner_dead", False),
        (Status.ABANDONED, "stopped", True),
        (Status.ABANDONED, "no_margin", True),
    ],
)
def test_a_triggered_run_is_no_attempt_at_a_period_and_is_triggered_again_if_it_had_no_chance(
    status: Status, reason: str, *, again: bool
) -> None:
    gate = gates.trigger(NEW, id="t", now=NOON, by="ops", reason="")
    gate = ended(opened(gate, None, now=NOON), status, reason, now=NOON + 4)
    assert gate.trigger == (Trigger("t", NOON + 4, "alice", reason) if again else None)
    assert (gate.served, gate.attempts) == ((), ())
    assert (gate.success is not None) == (status is Status.COMPLETED)


def test_a_trigger_that_came_meanwhile_is_kept_when_a_triggered_run_was_stopped() -> None:
    gate = gates.trigger(NEW, id="t", now=NOON, by="ops", reason="")
    gate = opened(gate, None, now=NOON)
    gate = gates.trigger(gate, id="u", now=NOON + 1, by="ops", reason="")
    gate = ended(gate, Status.ABANDONED, "stopped", now=NOON + 2)
    assert gate.trigger == Trigger("u", NOON + 1, "ops", "")


def test_a_run_without_a_period_and_without_a_trigger_triggers_nothing() -> None:
    gate = ended(replace(NEW, open=run_of(None)), Status.ABANDONED, "stopped", now=NOON)
    assert gate.trigger is None


# Clocks that step, and what is kept ---------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "ahead"),
    [(SECOND, 10 * MINUTE), (FIVE, 2 * FIVE), (FIVE + 1, 2 * FIVE + 2), (DAY, 2 * DAY)],
)
def test_the_horizon_is_two_periods_or_ten_minutes_where_that_is_longer(
    length: int, ahead: int
) -> None:
    assert gates.horizon(NOON, NOON + length) == ahead


def test_what_was_served_counts_up_to_the_horizon_and_not_a_microsecond_beyond_it() -> None:
    gate = served(NEW, NOON)
    for kept in (gate, Gate(floor=NOON)):
        assert gates.is_served(kept, NOON, now=NOON - 2 * FIVE, ahead=2 * FIVE)
        assert not gates.is_served(kept, NOON, now=NOON - 2 * FIVE - 1, ahead=2 * FIVE)
    assert not gates.is_served(gate, NOON + 1, now=NOON, ahead=2 * FIVE)


def test_a_period_is_over_when_it_is_served_or_its_attempts_are_used_up() -> None:
    gate = failed(served(NEW, NOON), NOON + FIVE)

    def is_over(key: int, attempts: int) -> bool:
        return gates.is_over(gate, key, now=NOON + FIVE, ahead=2 * FIVE, attempts=attempts)

    assert is_over(NOON, 3)
    assert is_over(NOON + FIVE, 1)
    assert not is_over(NOON + FIVE, 2)


def test_the_last_64_served_are_kept_and_the_largest_that_went_is_the_floor() -> None:
    gate = NEW
    keys = [NOON + number * SECOND for number in range(66)]
    for key in keys:
        gate = served(gate, key, length=SECOND)
    assert gate.served == tuple(keys[2:])
    assert gate.floor == keys[1]


def test_the_attempts_at_the_last_8_are_kept_and_one_that_goes_can_not_be_tried_again() -> None:
    gate = NEW
    keys = [NOON + number * SECOND for number in range(10)]
    for key in keys:
        gate = failed(gate, key, length=SECOND)
    assert gate.attempts == tuple((key, 1) for key in keys[2:])
    assert gate.floor == keys[1]
    refusal = gates.admit(gate, ask_for(keys[1], length=SECOND, attempts=2), now=keys[1])
    assert refusal == gates.AlreadyServed(keys[1])


def test_what_is_at_or_below_the_floor_is_kept_once() -> None:
    gate = served(Gate(floor=NOON - 1, served=()), NOON)
    late = replace(gate, floor=NOON + FIVE, open=run_of(NOON + FIVE))
    after = ended(late, Status.COMPLETED, now=NOON + FIVE)
    assert (after.floor, after.served) == (NOON + FIVE, ())
    after = ended(late, Status.ABANDONED, "boom", now=NOON + FIVE)
    assert (after.floor, after.served, after.attempts) == (NOON + FIVE, (), ())


def served_every(gate: Gate, length: int, since: int, until: int) -> Gate:
    for key in range(since, until, length):
        gate = served(gate, key, length=length)
    return gate


def seconds_and_nights() -> None:
    """One name, due every second by some and each night by others; then the clock steps back."""
    gate = served(gates.new_gate(NOON - 1), NOON, length=DAY)
    for key in range(NOON + SECOND, NOON + 200 * SECOND, SECOND):
        gate = served(gate, key, length=SECOND)
        night = gates.admit(gate, ask_for(NOON, length=DAY), now=key)
        assert night == gates.AlreadyServed(NOON)
    now = NOON + 199 * SECOND
    for back in (30, 600):
        for key in range(max(now - back * SECOND, NOON), now + 1, SECOND):
            again = gates.admit(
                gate, ask_for(key, length=SECOND), now=max(key, now - back * SECOND)
            )
            assert again == gates.AlreadyServed(key)


def without_a_floor(gate: Gate, gone: list[int]) -> Gate:  # noqa: ARG001 (as the one it replaces)
    return gate


def test_scenario_10_served_periods_have_a_floor_under_two_schedules_and_a_clock_that_steps_back(
    monkeypatch: Patch,
) -> None:
    seconds_and_nights()
    monkeypatch.setattr(gates, "_with_floor", without_a_floor)
    with pytest.raises(AssertionError):
        seconds_and_nights()


def back_by_half_a_minute() -> None:
    """A service of every second whose clock steps back by 30 s in the middle of a turn."""
    gate = served_every(NEW, SECOND, NOON, NOON + 100 * SECOND)
    now = NOON + 100 * SECOND
    gate = opened(gate, now, now=now, length=SECOND)
    now -= 30 * SECOND
    gate = ended(gate, Status.COMPLETED, now=now)
    gate = replace(gate, unsaid=())
    for key in range(now, NOON + 101 * SECOND, SECOND):
        answer = gates.admit(gate, ask_for(key, length=SECOND), now=key)
        assert answer == gates.AlreadyServed(key)
        assert gates.is_served(gate, key, now=now, ahead=10 * MINUTE)
    assert isinstance(
        gates.admit(gate, ask_for(now + 31 * SECOND, length=SECOND), now=now + 31 * SECOND), Gate
    )


def test_scenario_10_a_clock_that_steps_back_by_30_s_has_no_second_served_twice(
    monkeypatch: Patch,
) -> None:
    back_by_half_a_minute()
    monkeypatch.setattr(gates, "_SHORTEST_HORIZON", 0)
    with pytest.raises(AssertionError):
        back_by_half_a_minute()


def attempts_after_a_step_back() -> None:
    """A service of every second that fails always: no second has more attempts than it may."""
    gate, now = NEW, NOON
    tries: dict[int, int] = {}
    for _ in range(3):
        for key in range(now, NOON + 40 * SECOND, SECOND):
            for _ in range(3):
                answer = gates.admit(gate, ask_for(key, length=SECOND, attempts=2), now=key)
                if isinstance(answer, Gate):
                    gate = replace(ended(answer, Status.ABANDONED, "boom", now=key), unsaid=())
                    tries[key] = tries.get(key, 0) + 1
        now = NOON + 10 * SECOND
    assert set(tries.values()) == {2}


def test_scenario_10_a_clock_that_steps_back_gives_no_second_more_attempts(
    monkeypatch: Patch,
) -> None:
    attempts_after_a_step_back()
    monkeypatch.setattr(gates, "_with_floor", without_a_floor)
    with pytest.raises(AssertionError):
        attempts_after_a_step_back()


def ahead_for_two_hours(*, fails: bool) -> None:
    """A clock is 20 h ahead for 2 h under a service of every minute, and comes back."""
    hour = 60 * MINUTE
    gate = served_every(NEW, MINUTE, NOON, NOON + hour)
    change = failed if fails else served
    for key in range(NOON + 21 * hour, NOON + 23 * hour, MINUTE):
        gate = replace(change(gate, key, length=MINUTE), unsaid=())
    back = NOON + 3 * hour
    for key in range(back, back + hour, MINUTE):
        gate = replace(served(gate, key, length=MINUTE), unsaid=())
        again = gates.admit(gate, ask_for(key, length=MINUTE), now=key)
        assert again == gates.AlreadyServed(key), "it is served once"
    tried: Gate | gates.Refusal = gate
    for _ in range(3):
        tried = gates.admit(gate, ask_for(back + hour, length=MINUTE, attempts=2), now=back + hour)
        if isinstance(tried, Gate):
            gate = ended(tried, Status.ABANDONED, "boom", now=back + hour)
    assert tried == gates.AttemptsUsed(back + hour, 2)
    assert isinstance(
        gates.admit(gate, ask_for(NOON + 22 * hour, length=MINUTE), now=NOON + 22 * hour), Gate
    ), "the minutes of then have their turn when they come"


def without_a_bound(gate: Gate, key: int, limit: int) -> Gate:  # noqa: ARG001 (as above)
    return gate


@pytest.mark.parametrize("fails", [False, True])
def test_scenario_14_a_clock_that_was_20_h_ahead_for_2_h_blocks_no_minute_when_it_is_back(
    monkeypatch: Patch, *, fails: bool
) -> None:
    ahead_for_two_hours(fails=fails)
    monkeypatch.setattr(gates, "_within_horizon", without_a_bound)
    with pytest.raises(AssertionError):
        ahead_for_two_hours(fails=fails)


def test_scenario_14_a_floor_beyond_the_horizon_counts_for_nothing() -> None:
    far = NOON + 20 * 60 * MINUTE
    gate = replace(NEW, floor=far, served=(far + FIVE,), attempts=((far, 1),))
    gate = served(gate, NOON)
    assert (gate.floor, gate.served, gate.attempts) == (NOON - 1, (NOON,), ())
    assert gates.is_served(gate, NOON - FIVE, now=NOON, ahead=2 * FIVE)


def test_the_floor_falls_below_all_that_is_still_known_and_no_further() -> None:
    far = NOON + 20 * 60 * MINUTE
    known = replace(NEW, floor=far, served=(NOON - FIVE,), attempts=((NOON - 2 * FIVE, 1),))
    assert served(known, NOON).floor == NOON - 2 * FIVE - 1
    assert served(replace(known, attempts=()), NOON).floor == NOON - FIVE - 1


def test_a_run_that_ends_after_its_clock_stepped_far_back_is_remembered() -> None:
    key = NOON + DAY
    gate = failed(NEW, key)
    gate = opened(gate, key, now=key)
    for status in (Status.COMPLETED, Status.ABANDONED):
        after = ended(gate, status, now=NOON)
        ahead = gates.horizon(key, key + FIVE)
        assert gates.is_over(after, key, now=key, ahead=ahead, attempts=2)


def test_what_lies_right_at_the_horizon_is_kept_when_a_run_closes() -> None:
    at = NOON + 2 * FIVE
    gate = replace(NEW, floor=at - FIVE, served=(at, at + 1), attempts=((at, 1), (at + 1, 1)))
    after = ended(replace(gate, open=run_of(NOON)), Status.ABANDONED, "boom", now=NOON)
    assert (after.floor, after.served, after.attempts) == (at - FIVE, (at,), ((at, 1),))
    at_the_floor = ended(replace(gate, floor=at, open=run_of(NOON)), Status.COMPLETED, now=NOON)
    assert (at_the_floor.floor, at_the_floor.served) == (at, ())
