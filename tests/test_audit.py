"""The audit: each period that was due has one verdict, and what is not known is not missed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.audit import Audit, Cause, Judged, Presence, Verdict, audit
from turnwise.cycles import SECOND, instant, microseconds
from turnwise.gate import Command, CommandName, Execution, Gate, Pause, Row, Run
from turnwise.plan import service_hash
from turnwise.settings import Settings
from turnwise.simulation import Fault, FaultKind, Fixed, LogNormal, Scenario, simulate
from turnwise.texts import row_from_text

SERVICE = "svc"
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
NOON = microseconds(datetime(2026, 1, 1, 12, tzinfo=UTC))
EVERY_5M = Settings()
DAILY = Settings(schedule="every 1d offset 12h")  # type: ignore[arg-type]
PERIOD = 5 * MINUTE


def settings_row(at: int, settings: Settings = EVERY_5M) -> Command:
    return Command(f"settings {at}", CommandName.SETTINGS, at, "a", settings=settings.to_json())


def pause(at: int, until: int | None = None) -> Command:
    return Command(f"pause {at}", CommandName.PAUSE, at, "ops", until=until)


def resume(at: int) -> Command:
    return Command(f"resume {at}", CommandName.RESUME, at, "ops")


def run(
    due: int,
    *,
    after: int = 0,
    took: int | None = 40 * SECOND,
    status: Status = Status.COMPLETED,
    reason: str = "",
    name: str | None = None,
    slot: int | None = None,
    trigger: str | None = None,
) -> Execution:
    start = due + after
    return Execution(
        id=name or f"run {due} {after} {status}",
        runner_id="alice",
        status=status,
        reason=reason,
        started_at=start,
        ended_at=None if took is None else start + took,
        token=None if status is Status.BLOCKED else 7,
        due=due,
        cycle_start=due,
        slot_start=due if slot is None else slot,
        slot_end=due + 80 * SECOND,
        position=0,
        attempt=1,
        size=3,
        digest=0,
        trigger=trigger,
    )


def failed(due: int, after: int = 0, reason: str = "exit:1") -> Execution:
    return run(due, after=after, status=Status.ABANDONED, reason=reason)


def judge(
    *rows: Row,
    since: int = NOON,
    until: int = NOON + HOUR,
    now: int = NOON + DAY,
    gate: Gate | None = None,
    presence: list[Presence] | None = None,
    present_from: int = 0,
) -> Audit:
    return audit(
        SERVICE,
        rows,
        since=since,
        until=until,
        now=now,
        gate=gate,
        presence=presence,
        present_from=present_from,
    )


def only(*rows: Row, settings: Settings = EVERY_5M, **more: object) -> Judged:
    """The verdict on the period that is due at noon, and on no other."""
    arguments = {"until": NOON + 1} | more
    (judged,) = judge(settings_row(NOON - DAY, settings), *rows, **arguments).periods  # type: ignore[arg-type]
    return judged


# Each due instant has one verdict -----------------------------------------------------------------

SCHEDULES = ["every 5m", "every 7m offset 1m", "every 1h", "cron */10 * * * * Europe/Vienna"]
CHANGES = st.lists(
    st.tuples(st.integers(-300, 300), st.sampled_from(SCHEDULES)),
    max_size=4,
    unique_by=lambda c: c[0],
)
STATUSES = st.sampled_from([Status.COMPLETED, Status.ABANDONED, Status.BLOCKED])
RUNS = st.lists(
    st.tuples(
        st.integers(-60, 60),
        st.integers(0, 400),
        STATUSES,
        st.sampled_from(["", "exit:1", "stopped", "prior_running:x", "owner_dead"]),
        st.sampled_from([None, None, None, "trigger"]),
    ),
    max_size=20,
)
PAUSES = st.lists(st.tuples(st.integers(-300, 300), st.booleans()), max_size=5)


@given(CHANGES, RUNS, PAUSES, st.integers(-300, 300), st.integers(0, 300), st.integers(-100, 400))
def test_each_due_instant_in_the_window_has_exactly_one_verdict(
    changes: list[tuple[int, str]],
    runs: list[tuple[int, int, Status, str, str | None]],
    pauses: list[tuple[int, bool]],
    since: int,
    length: int,
    now: int,
) -> None:
    start, end, at = NOON + since * MINUTE, NOON + (since + length) * MINUTE, NOON + now * MINUTE
    marks = sorted((NOON + minute * MINUTE, text) for minute, text in changes)
    rows: list[Row] = [settings_row(when, Settings(schedule=text)) for when, text in marks]  # type: ignore[arg-type]
    rows += [
        run(
            NOON + n * PERIOD,
            after=s * SECOND,
            status=status,
            reason=reason,
            name=str(i),
            trigger=t,
        )
        for i, (n, s, status, reason, t) in enumerate(runs)
    ]
    rows += [pause(NOON + m * MINUTE) if on else resume(NOON + m * MINUTE) for m, on in pauses]
    found = judge(*rows, since=start, until=end, now=at)
    dues = [each.due for each in found.periods]
    assert dues == sorted(set(dues)), "in order, each once"
    expected = set()
    for (when, text), (after, _) in zip(marks, [*marks[1:], (2**62, "")], strict=False):
        low, high = max(when, start), min(after, end, at + 1)
        if low < high:
            schedule = Settings(schedule=text).schedule  # type: ignore[arg-type]
            expected |= {microseconds(d) for d in schedule.dues(instant(low), instant(high))}
    assert expected <= set(dues)
    tried = {
        row.due for row in rows if isinstance(row, Execution) and row.token and not row.trigger
    }
    assert set(dues) <= expected | tried, "nothing else but what a run was for"
    completed = {
        row.due
        for row in rows
        if isinstance(row, Execution) and row.status is Status.COMPLETED and row.trigger is None
    }
    for each in found.periods:
        assert (each.verdict is Verdict.SERVED) == (each.due in completed)
        assert (each.cause is not None) == (each.verdict is Verdict.MISSED)
        if not marks or each.due < marks[0][0]:
            assert each.verdict in (Verdict.SERVED, Verdict.UNKNOWN) or each.due in tried
    assert sum(found.totals.values()) == len(dues)
    assert found.is_well == (not found.totals[Verdict.MISSED] and not found.served_twice)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("schedule", ["every 5m", "every 1h"])
def test_the_audit_of_a_simulation_finds_what_its_oracle_found(schedule: str, seed: int) -> None:
    """The oracle watches each request; the audit has the history alone."""
    scenario = Scenario(
        settings=Settings(schedule=schedule, attempts=2),  # type: ignore[arg-type]
        job=LogNormal(timedelta(seconds=60), 1.0, timedelta(minutes=14)),
        duration=timedelta(days=1),
        quiet=timedelta(hours=2),
        seed=seed,
        faults=(
            Fault(FaultKind.CRASH, timedelta(hours=3), Fixed(timedelta(minutes=2))),
            Fault(FaultKind.OUTAGE, timedelta(hours=4), Fixed(timedelta(minutes=12))),
            Fault(FaultKind.FAILURE, timedelta(minutes=20)),
            Fault(FaultKind.PAUSE, timedelta(hours=7), Fixed(timedelta(minutes=20))),
        ),
    )
    result = simulate(scenario)
    rows = [row_from_text(entry.body) for entry in result.history]
    end = microseconds(scenario.start + scenario.duration)
    found = audit("service", rows, since=0, until=end - HOUR, now=end)
    unserved = (Verdict.MISSED, Verdict.PAUSED)
    mine = {each.due: each for each in found.periods if each.verdict in unserved}
    theirs = {microseconds(due): why for due, why in result.missed}
    assert set(mine) == {due for due in theirs if due < end - HOUR}
    assert mine or schedule == "every 1h", "else it shows nothing"
    for due, why in theirs.items():
        if why == "paused":
            assert mine[due].verdict is Verdict.PAUSED or mine[due].cause is Cause.IN_THE_WAY
        if why == "attempts_used":
            assert mine[due].cause is Cause.ATTEMPTS
    assert not found.served_twice


# Served -------------------------------------------------------------------------------------------


def test_a_served_period_says_by_whom_how_late_and_at_which_attempt() -> None:
    judged = only(failed(NOON), run(NOON, after=103 * SECOND))
    assert judged.verdict is Verdict.SERVED
    assert (judged.late, judged.attempts, judged.times) == (103 * SECOND, 2, 1)
    assert judged.runs[0].runner_id == "alice"
    assert not judged.is_bad


def test_a_period_that_was_served_twice_is_bad() -> None:
    judged = only(run(NOON), run(NOON, after=100 * SECOND))
    assert (judged.verdict, judged.times, judged.is_bad) == (Verdict.SERVED, 2, True)
    assert judge(settings_row(NOON), run(NOON), run(NOON, after=9)).served_twice == 1


def test_with_every_slot_each_runner_serves_once_and_a_slot_twice_is_bad() -> None:
    every_slot = Settings(runs="every_slot")
    rows = [run(NOON, after=n, slot=NOON + n) for n in (0, 100 * SECOND, 200 * SECOND)]
    assert only(*rows, settings=every_slot).times == 1
    again = only(*rows, run(NOON, after=5, slot=NOON), settings=every_slot)
    assert (again.times, again.is_bad) == (2, True)


def test_a_triggered_run_serves_no_period_and_does_not_count_as_twice() -> None:
    assert only(run(NOON, trigger="t")).verdict is Verdict.MISSED
    assert only(run(NOON), run(NOON, after=90 * SECOND, trigger="t")).times == 1


def test_what_the_gate_knows_to_be_served_is_served_though_its_row_is_gone() -> None:
    judged = only(gate=Gate(floor=0, served=(NOON,)))
    assert (judged.verdict, judged.runs, judged.late) == (Verdict.SERVED, (), None)


def test_rows_that_only_the_gate_knows_yet_count() -> None:
    assert only(gate=Gate(floor=0, unsaid=(run(NOON),))).verdict is Verdict.SERVED
    held = Gate(floor=0, pause=Pause(NOON - 1, "ops", ""), unsaid=(pause(NOON - 1),))
    assert only(gate=held).verdict is Verdict.PAUSED


# Open ---------------------------------------------------------------------------------------------


def test_a_period_whose_run_is_at_work_is_open_long_after_its_end() -> None:
    open_run = Run(
        "r", "alice", "b", 60, 7, NOON, NOON, NOON + PERIOD, NOON, NOON, NOON, 0, 1, NOON, 3, 0
    )
    judged = only(gate=Gate(floor=0, open=open_run))
    assert (judged.verdict, judged.attempts) == (Verdict.OPEN, 1)


@pytest.mark.parametrize(
    ("within", "now", "verdict"),
    [
        (None, PERIOD - 1, Verdict.OPEN),
        (None, PERIOD, Verdict.MISSED),
        ("1m", MINUTE, Verdict.OPEN),
        ("1m", MINUTE + 1, Verdict.MISSED),
    ],
)
def test_a_period_is_open_as_long_as_a_run_may_start(
    within: str | None, now: int, verdict: Verdict
) -> None:
    settings = EVERY_5M if within is None else replace(EVERY_5M, start_within=timedelta(minutes=1))
    assert only(settings=settings, now=NOON + now).verdict is verdict


def test_all_attempts_used_is_missed_although_the_period_goes_on() -> None:
    judged = only(*(failed(NOON, n * SECOND) for n in range(3)), settings=DAILY, now=NOON + HOUR)
    assert (judged.verdict, judged.cause) == (Verdict.MISSED, Cause.ATTEMPTS)
    assert (judged.attempts, judged.reason) == (3, "exit:1")


# Missed, and why ----------------------------------------------------------------------------------


def test_a_run_that_was_stopped_is_no_attempt() -> None:
    judged = only(*(failed(NOON, n * SECOND, "stopped") for n in range(3)))
    assert (judged.cause, judged.attempts) == (Cause.NOT_IN_TIME, 0)


def test_another_periods_run_in_the_way_is_the_cause() -> None:
    late = run(NOON - PERIOD, after=4 * MINUTE, took=8 * MINUTE)
    assert only(late).cause is Cause.IN_THE_WAY
    told = run(NOON, status=Status.BLOCKED, reason="prior_running:x", took=0)
    assert only(told).cause is Cause.IN_THE_WAY
    short = run(NOON - PERIOD, after=4 * MINUTE, took=90 * SECOND)
    assert only(short).cause is Cause.NOT_IN_TIME, "half a minute is in nobody's way"
    for took, cause in ((220 * SECOND, Cause.NOT_IN_TIME), (221 * SECOND, Cause.IN_THE_WAY)):
        long = run(NOON - PERIOD, after=4 * MINUTE, took=took)
        assert only(long).cause is cause, "140 s have a whole window, 139 s may have none"


def test_nobody_was_there_where_no_runner_offered_the_service_then() -> None:
    before, after = Presence(NOON - DAY, NOON - 1), Presence(NOON + PERIOD, NOON + DAY)
    assert only(presence=[before, after]).cause is Cause.NOBODY
    assert only(presence=[before, Presence(NOON + MINUTE, NOON + DAY)]).cause is Cause.NOT_IN_TIME
    assert only(presence=None).cause is Cause.NOT_IN_TIME


def test_a_period_that_other_settings_cut_short_says_so() -> None:
    change = settings_row(NOON + HOUR, EVERY_5M)
    judged = only(change, settings=DAILY, presence=[], present_from=0)
    assert (judged.verdict, judged.cause) == (Verdict.MISSED, Cause.CHANGED)


def test_a_change_that_keeps_the_period_does_not_cut_it_short() -> None:
    change = settings_row(NOON + HOUR, replace(DAILY, attempts=5))
    assert only(change, settings=DAILY, now=NOON + 2 * HOUR).verdict is Verdict.OPEN
    assert only(change, settings=DAILY, now=NOON + 2 * DAY).cause is Cause.NOT_IN_TIME


def test_settings_change_with_the_deploy_and_not_with_the_first_plan_by_them() -> None:
    hourly = Settings(schedule="every 1h")  # type: ignore[arg-type]
    change = settings_row(NOON + HOUR, hourly)
    old = Presence(NOON - DAY, NOON + 2 * MINUTE, EVERY_5M.to_json())
    new = Presence(NOON + MINUTE, NOON + DAY, hourly.to_json())
    rows: list[Row] = [settings_row(NOON - DAY), change, run(NOON)]
    found = judge(*rows, until=NOON + HOUR, presence=[old, new])
    assert [each.due for each in found.periods] == [NOON], "12:05 to 12:55 were not due any more"
    later = replace(new, since=NOON + 31 * MINUTE)
    found = judge(*rows, until=NOON + HOUR, presence=[old, later])
    assert [each.due - NOON for each in found.periods] == [n * PERIOD for n in range(7)]
    assert {each.cause for each in found.periods[1:6]} == {Cause.NOBODY}, "nobody was there at all"


def offered(at: int, settings: Settings) -> Command:
    return Command(f"offered {at}", CommandName.OFFERED, at, "x", settings=settings.to_json())


def test_the_history_knows_when_a_deploy_changed_the_settings_after_its_runners_are_forgotten() -> (
    None
):
    hourly = Settings(schedule="every 1h")  # type: ignore[arg-type]
    rows: list[Row] = [settings_row(NOON - DAY), settings_row(NOON + HOUR, hourly), run(NOON)]
    found = judge(*rows, offered(NOON + 12 * MINUTE, hourly), until=NOON + HOUR)
    assert [(each.due - NOON, each.verdict) for each in found.periods] == [
        (0, Verdict.SERVED),
        (PERIOD, Verdict.MISSED),
        (2 * PERIOD, Verdict.MISSED),
    ]


def test_an_offer_that_a_run_by_the_old_settings_followed_changed_nothing() -> None:
    """Such as of a runner that strayed for a while, or of a deploy that was taken back."""
    hourly = Settings(schedule="every 1h")  # type: ignore[arg-type]
    rows: list[Row] = [settings_row(NOON - DAY), settings_row(NOON + HOUR, hourly), run(NOON)]
    rows += [run(NOON + n * PERIOD) for n in range(1, 10) if n != 5]
    stray, deploy = offered(NOON + 2 * MINUTE, hourly), offered(NOON + 46 * MINUTE, hourly)
    found = judge(*rows, stray, deploy, until=NOON + HOUR)
    assert [each.due - NOON for each in found.periods] == [n * PERIOD for n in range(10)]
    assert [each.due - NOON for each in found.periods if each.is_bad] == [5 * PERIOD]


def test_an_offer_of_yet_other_settings_changed_nothing() -> None:
    hourly, daily = Settings(schedule="every 1h"), DAILY  # type: ignore[arg-type]
    rows: list[Row] = [settings_row(NOON - DAY), settings_row(NOON + HOUR, hourly), run(NOON)]
    found = judge(*rows, offered(NOON + 12 * MINUTE, daily), until=NOON + HOUR)
    assert {each.verdict for each in found.periods[1:]} == {Verdict.UNKNOWN}


def test_where_nobody_knows_any_more_when_the_settings_changed_nothing_is_missed() -> None:
    change = settings_row(NOON + HOUR, Settings(schedule="every 1h"))  # type: ignore[arg-type]
    rows: list[Row] = [settings_row(NOON - DAY), change, run(NOON), run(NOON + 2 * PERIOD)]
    for found in (
        judge(*rows),
        judge(*rows, presence=[], present_from=NOON + DAY),
    ):
        words = [each.verdict for each in found.periods]
        assert words[:3] == [Verdict.SERVED, Verdict.MISSED, Verdict.SERVED]
        assert set(words[3:]) == {Verdict.UNKNOWN}


def test_that_nobody_was_there_is_said_only_as_long_as_runners_that_are_gone_are_known() -> None:
    assert only(presence=[], present_from=NOON).cause is Cause.NOBODY
    assert only(presence=[], present_from=NOON + 1).cause is Cause.NOT_IN_TIME


def test_what_was_missed_is_counted_by_its_cause_and_a_cause_of_nothing_is_left_out() -> None:
    once = settings_row(NOON - DAY, replace(EVERY_5M, attempts=1))
    rows = (failed(NOON), run(NOON + PERIOD))
    found = judge(once, *rows, until=NOON + 4 * PERIOD, presence=[])
    assert list(found.causes.items()) == [(Cause.ATTEMPTS, 1), (Cause.NOBODY, 2)]


def test_settings_that_gave_way_at_the_instant_they_came_count_for_nothing() -> None:
    short, last = (Settings(schedule=text) for text in ("every 3m", "every 1h offset 7m"))  # type: ignore[arg-type]
    forgetful = settings_row(NOON, replace(short, retention_age=timedelta(hours=1)))
    rows = [settings_row(NOON - DAY), forgetful, replace(settings_row(NOON, last), id="then")]
    found = judge(*rows, until=NOON + 10 * MINUTE)
    assert [each.due for each in found.periods] == [NOON + 7 * MINUTE]
    assert found.periods[0].verdict is Verdict.MISSED, "what was kept is not forgotten"


def test_at_the_instant_of_a_change_the_new_schedule_alone_is_asked() -> None:
    change = settings_row(NOON + PERIOD, Settings(schedule="every 1h offset 7m"))  # type: ignore[arg-type]
    found = judge(settings_row(NOON), change, until=NOON + 10 * MINUTE)
    assert [each.due for each in found.periods] == [NOON, NOON + 7 * MINUTE]


# Paused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "spans", "verdict"),
    [
        (EVERY_5M, [(-MINUTE, None)], Verdict.PAUSED),
        (EVERY_5M, [(-MINUTE, 4 * MINUTE)], Verdict.PAUSED),
        (EVERY_5M, [(140 * SECOND - 1, None)], Verdict.PAUSED),
        (EVERY_5M, [(140 * SECOND, None)], Verdict.MISSED),
        (EVERY_5M, [(-HOUR, -MINUTE)], Verdict.MISSED),
        (DAILY, [(-MINUTE, 10 * MINUTE)], Verdict.MISSED),
        (DAILY, [(-MINUTE, 23 * HOUR + 56 * MINUTE)], Verdict.PAUSED),
    ],
)
def test_a_pause_excuses_a_period_only_where_it_left_no_time(
    settings: Settings, spans: list[tuple[int, int | None]], verdict: Verdict
) -> None:
    rows = [pause(NOON + a, None if b is None else NOON + b) for a, b in spans]
    assert only(*rows, settings=settings, now=NOON + 2 * DAY).verdict is verdict
    told = [pause(NOON + a) for a, _ in spans] + [
        resume(NOON + b) for _, b in spans if b is not None
    ]
    assert only(*told, settings=settings, now=NOON + 2 * DAY).verdict is verdict


def test_a_pause_in_the_place_of_another_one_ends_that_one() -> None:
    rows = [pause(NOON - HOUR, NOON + DAY), pause(NOON - MINUTE, NOON - 1)]
    assert only(*rows).verdict is Verdict.MISSED


def test_a_period_that_was_served_in_spite_of_a_pause_is_served() -> None:
    assert only(pause(NOON - MINUTE), run(NOON)).verdict is Verdict.SERVED


# What is not known --------------------------------------------------------------------------------


def test_before_the_first_settings_nobody_knows_what_was_due() -> None:
    found = judge(settings_row(NOON + 30 * MINUTE), run(NOON))
    assert found.known_from == NOON + 30 * MINUTE
    assert [each.due for each in found.periods if each.due < NOON + 30 * MINUTE] == [NOON]
    assert found.periods[0].verdict is Verdict.SERVED
    assert judge(failed(NOON)).periods[0].verdict is Verdict.UNKNOWN
    assert judge().known_from is None


def test_what_retention_may_have_forgotten_is_unknown_unless_a_run_is_still_there() -> None:
    short = replace(EVERY_5M, retention_age=timedelta(hours=1))
    old = settings_row(NOON - DAY, short)
    found = judge(old, run(NOON), now=NOON + HOUR + 7 * MINUTE)
    assert [each.verdict for each in found.periods[:3]] == [
        Verdict.SERVED,
        Verdict.UNKNOWN,
        Verdict.MISSED,
    ]
    assert found.complete_from == NOON + 7 * MINUTE


def test_what_a_full_history_may_have_forgotten_is_unknown() -> None:
    few = replace(EVERY_5M, retention_count=2)
    rows = [run(NOON + n * PERIOD) for n in (3, 5)]
    found = judge(settings_row(NOON - DAY, few), *rows, until=NOON + 6 * PERIOD)
    words = [str(each.verdict)[0] for each in found.periods]
    assert "".join(words) == "uuusms"


def test_settings_that_cannot_be_read_leave_their_periods_unknown() -> None:
    strange = replace(settings_row(NOON), settings='{"knob": 1}')
    found = judge(settings_row(NOON - DAY), strange, settings_row(NOON + 30 * MINUTE), failed(NOON))
    assert [each.due for each in found.periods][:2] == [NOON, NOON + 30 * MINUTE]
    assert found.periods[0].verdict is Verdict.UNKNOWN


def test_a_staggered_service_is_judged_by_its_own_due_instants() -> None:
    staggered = replace(EVERY_5M, stagger=timedelta(seconds=30))
    (judged,) = judge(settings_row(NOON - DAY, staggered), until=NOON + PERIOD).periods
    assert judged.due == NOON + service_hash(SERVICE) % (30 * SECOND)
