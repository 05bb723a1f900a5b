"""Where the audit's verdicts begin and end: at which microsecond, and at which run."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from test_audit import (
    DAILY,
    DAY,
    EVERY_5M,
    HOUR,
    MINUTE,
    NOON,
    PERIOD,
    SERVICE,
    failed,
    judge,
    offered,
    only,
    pause,
    run,
    settings_row,
)
from turnwise.audit import Cause, Presence, Verdict, audit
from turnwise.gate import Gate, Row
from turnwise.settings import Settings

HOURLY = Settings(schedule="every 1h")  # type: ignore[arg-type]
AT_HALF_PAST = Settings(schedule="every 1h offset 30m")  # type: ignore[arg-type]


@pytest.mark.parametrize(("now", "count"), [(-1, 0), (0, 1), (PERIOD - 1, 1), (PERIOD, 2)])
def test_a_period_is_judged_from_its_due_instant_on(now: int, count: int) -> None:
    found = judge(settings_row(NOON - DAY), now=NOON + now)
    assert [each.due for each in found.periods] == [NOON, NOON + PERIOD][:count]


def test_the_reason_is_what_the_last_failed_attempt_said_and_nothing_where_none_failed() -> None:
    assert only(failed(NOON, 0, "first"), failed(NOON, 9, "last")).reason == "last"
    assert only(run(NOON)).reason == ""
    assert only(failed(NOON, 0, "stopped")).reason == "", "that is no attempt"


@st.composite
def _shared(draw: st.DrawFn) -> Settings:
    """Settings of a service whose cycle is shared by one to eight slots."""
    standbys = draw(st.integers(0, 7))
    return replace(
        EVERY_5M,
        standbys=standbys,
        spread_margin=timedelta(microseconds=draw(st.integers(0, 30_000_000))),
        max_start_slot_fraction=draw(st.sampled_from([0.1, 0.5, 1 / 3, 1.0])),
    )


def _room(settings: Settings) -> int:
    """A slot, and the part of another one in which a turn may start; in microseconds."""
    slot = PERIOD // (1 + settings.standbys)
    margin = settings.spread_margin // timedelta(microseconds=1)
    return slot + int((slot - margin) * settings.max_start_slot_fraction)


@given(_shared(), st.sampled_from([-1, 0, 1]))
@example(replace(EVERY_5M, standbys=6), 0)  # a slot is no whole number of microseconds
def test_a_pause_or_a_run_leaves_time_where_that_is_a_slot_and_the_part_of_another_one(
    settings: Settings, more: int
) -> None:
    """No slot is cut short by that, so somebody could have started in it."""
    free = min(_room(settings) + more, PERIOD - 1)
    fits = free >= _room(settings)
    in_the_way = run(NOON - PERIOD, took=2 * PERIOD - free)
    assert only(pause(NOON + free), settings=settings).verdict is (
        Verdict.MISSED if fits else Verdict.PAUSED
    )
    assert only(in_the_way, settings=settings).cause is (
        Cause.NOT_IN_TIME if fits else Cause.IN_THE_WAY
    )


@pytest.mark.parametrize(
    ("start", "end", "free", "verdict"),
    [
        (0, None, PERIOD, Verdict.MISSED),  # a whole cycle is left
        (0, None, PERIOD - 1, Verdict.PAUSED),
        (1, None, PERIOD - 1, Verdict.MISSED),  # it was not paused yet when it was due
        (-HOUR, 0, DAY, Verdict.MISSED),  # nor any more
        (-HOUR, 1, DAY - 1, Verdict.MISSED),
    ],
)
def test_who_was_paused_at_the_due_instant_needs_as_much_as_a_cycle_of_what_is_left(
    start: int, end: int | None, free: int, verdict: Verdict
) -> None:
    until = DAY - free if end is None else end
    held = pause(NOON + start, NOON + until)
    assert only(held, settings=DAILY, now=NOON + 2 * DAY).verdict is verdict


@pytest.mark.parametrize("paused_at_due", [False, True])
def test_a_pause_that_ends_at_the_due_instant_or_begins_after_it_is_no_pause_at_the_due_instant(
    *, paused_at_due: bool
) -> None:
    """So two of them need to leave no whole cycle, but only the window of a slot."""
    first = pause(NOON - HOUR, NOON + paused_at_due)
    second = pause(NOON + 4 * MINUTE, NOON + DAY - 4 * MINUTE)
    verdict = Verdict.PAUSED if paused_at_due else Verdict.MISSED
    assert only(first, second, settings=DAILY, now=NOON + 2 * DAY).verdict is verdict


@pytest.mark.parametrize(
    ("since", "until", "cause"),
    [
        (-DAY, 0, Cause.NOBODY),
        (-DAY, 1, Cause.NOT_IN_TIME),
        (PERIOD - 1, DAY, Cause.NOT_IN_TIME),
        (PERIOD, DAY, Cause.NOBODY),
    ],
)
def test_somebody_was_there_who_offered_the_service_for_a_microsecond_of_the_period(
    since: int, until: int, cause: Cause
) -> None:
    assert only(presence=[Presence(NOON + since, NOON + until)]).cause is cause


@given(st.integers(0, 11), st.integers(1, 11), st.booleans(), st.integers(0, 1))
def test_an_offer_counts_after_the_last_run_by_the_old_settings_and_before_the_plan_by_the_new(
    last: int,
    after: int,
    more: bool,
    before: int,
) -> None:
    """Whatever ran before that, and whatever was offered before it."""
    runs = (
        [run(NOON + n * PERIOD) for n in range(last + 1)] if more else [run(NOON + last * PERIOD)]
    )
    change = settings_row(NOON + HOUR, HOURLY)
    early = offered(NOON + last * PERIOD - before, HOURLY)
    late = offered(NOON + after * PERIOD + MINUTE, HOURLY)
    found = judge(settings_row(NOON - DAY), change, *runs, early, late, until=NOON + HOUR)
    counts = after >= last
    end = after if counts else 11
    assert max(each.due for each in found.periods) == NOON + end * PERIOD
    passed = {each.verdict for each in found.periods if each.due > NOON + last * PERIOD}
    assert passed <= {Verdict.MISSED if counts else Verdict.UNKNOWN}


def test_old_settings_that_come_back_once_the_new_ones_are_planned_by_held_no_longer() -> None:
    old = Presence(NOON - DAY, NOON + 2 * MINUTE, EVERY_5M.to_json())
    new = Presence(NOON + MINUTE, NOON + DAY, HOURLY.to_json())
    change = settings_row(NOON + HOUR, HOURLY)
    rows: list[Row] = [settings_row(NOON - DAY), change, run(NOON)]
    for since, dues in ((HOUR, 1), (HOUR - 1, 12)):
        back = Presence(NOON + since, NOON + DAY, EVERY_5M.to_json())
        found = judge(*rows, until=NOON + HOUR, presence=[old, new, back])
        assert len(found.periods) == dues


@pytest.mark.parametrize(("later", "verdict"), [(0, Verdict.UNKNOWN), (1, Verdict.MISSED)])
def test_a_full_history_may_have_forgotten_what_was_due_up_to_its_first_run(
    later: int, verdict: Verdict
) -> None:
    full = replace(EVERY_5M, retention_count=1)
    first = run(NOON - PERIOD, after=PERIOD - later, trigger="t")
    judged = only(first, settings=full)
    assert judged.verdict is verdict


def test_with_every_slot_a_period_that_nobody_served_was_served_no_times() -> None:
    every_slot = replace(EVERY_5M, runs="every_slot")
    assert only(failed(NOON), settings=every_slot).times == 0


def test_a_period_of_the_old_settings_is_judged_by_them_whenever_its_runs_started() -> None:
    """Its last attempt was by the new settings, which allow more of them."""
    once, often = replace(EVERY_5M, attempts=1), replace(EVERY_5M, attempts=9)
    change = settings_row(NOON + 1, often)
    judged = only(change, failed(NOON, 1), settings=once)
    assert (judged.verdict, judged.cause) == (Verdict.MISSED, Cause.ATTEMPTS)


def test_an_audit_says_of_what_it_is_and_a_period_until_when_it_lasts() -> None:
    found = judge(settings_row(NOON - DAY), run(NOON + HOUR), until=NOON + HOUR)
    assert (found.service, found.since, found.until) == (SERVICE, NOON, NOON + HOUR)
    assert [(each.due, each.until) for each in found.periods] == [
        (NOON + n * PERIOD, NOON + (n + 1) * PERIOD) for n in range(12)
    ], "a run of a period that is due at the end belongs to the next audit"


def test_every_row_that_only_the_gate_knows_counts() -> None:
    gate = Gate(floor=0, unsaid=(failed(NOON), run(NOON, after=9)))
    judged = only(gate=gate)
    assert (judged.verdict, judged.attempts) == (Verdict.SERVED, 2)


def test_the_runners_of_all_times_are_known_where_nobody_says_from_when_on_they_are() -> None:
    rows = [settings_row(-DAY)]
    found = audit(SERVICE, rows, since=0, until=1, now=HOUR, presence=[])
    assert [(each.due, each.cause) for each in found.periods] == [(0, Cause.NOBODY)]


def test_a_change_at_the_end_of_a_period_did_not_cut_it_short() -> None:
    for later, cause in ((0, Cause.NOBODY), (-1, Cause.CHANGED)):
        change = settings_row(NOON + PERIOD + later, AT_HALF_PAST)
        assert only(change, presence=[]).cause is cause


def test_new_settings_that_were_offered_before_the_old_ones_were_planned_by_were_no_change() -> (
    None
):
    """Such as of a runner that strayed, and stayed."""
    change = settings_row(NOON + HOUR, HOURLY)
    rows: list[Row] = [settings_row(NOON - DAY), change, run(NOON)]
    for since, dues in ((NOON - DAY, 12), (NOON - DAY + 1, 0)):
        stray = Presence(since, NOON + DAY, HOURLY.to_json())
        assert len(judge(*rows, until=NOON + HOUR, presence=[stray]).periods) == (dues or 1)


def test_a_period_that_new_settings_began_in_the_middle_of_is_judged_by_them() -> None:
    """The old ones know of no such period; its attempts are counted by the new ones."""
    twice = replace(DAILY, attempts=2)
    change = settings_row(NOON + MINUTE, twice)
    runs = failed(NOON, 2 * MINUTE), failed(NOON, 3 * MINUTE)
    (judged,) = judge(settings_row(NOON - DAY, AT_HALF_PAST), change, *runs, until=NOON + 1).periods
    assert (judged.cause, judged.until) == (Cause.ATTEMPTS, NOON + DAY)


def test_where_the_only_run_before_a_change_was_later_what_was_due_before_it_was_missed() -> None:
    change = settings_row(NOON + HOUR, HOURLY)
    found = judge(settings_row(NOON - DAY), change, run(NOON + PERIOD, after=1))
    words = [each.verdict for each in found.periods]
    assert words[:3] == [Verdict.MISSED, Verdict.SERVED, Verdict.UNKNOWN]


def test_a_failed_attempt_shows_that_its_period_was_due_whatever_changed_later() -> None:
    change = settings_row(NOON + HOUR, HOURLY)
    assert only(change, failed(NOON)).verdict is Verdict.MISSED


def test_from_the_instant_on_from_which_the_runners_are_known_nothing_is_unknown() -> None:
    change = settings_row(NOON + HOUR, HOURLY)
    rows: list[Row] = [settings_row(NOON - DAY), change]
    found = judge(*rows, presence=[], present_from=NOON + PERIOD, until=NOON + 2 * PERIOD)
    assert [each.verdict for each in found.periods] == [Verdict.UNKNOWN, Verdict.MISSED]


def test_what_is_due_at_the_instant_from_which_on_the_history_is_complete_is_known() -> None:
    short = replace(EVERY_5M, retention_age=timedelta(hours=1))
    found = judge(settings_row(NOON - DAY, short), now=NOON + HOUR + PERIOD)
    assert found.complete_from == NOON + PERIOD
    assert [each.verdict for each in found.periods[:2]] == [Verdict.UNKNOWN, Verdict.MISSED]
