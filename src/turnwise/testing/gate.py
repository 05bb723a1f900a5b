"""The gate: one at a time, once in a cycle, and a dead owner holds nobody up."""

from dataclasses import replace
from datetime import timedelta

import pytest

from turnwise.atomic_service import AtomicServiceExecutionStatus
from turnwise.backends import (
    CYCLE_SERVED,
    NO_MARGIN,
    OWNER_DEAD,
    Admission,
    ExecutionRecord,
)
from turnwise.membership import (
    runner_digest,
    set_digest,
)
from turnwise.testing.clock import START
from turnwise.testing.desk import (
    ABANDONED,
    BLOCKED,
    COMPLETED,
    MICROSECOND,
    RUNNING,
    SECOND,
    SETTINGS,
    Desk,
    StorageUnderTest,
    run_of,
)

TIMEOUT = SETTINGS.heartbeat_timeout


class GateConformance(StorageUnderTest):
    """Admissions and refusals, fencing tokens, and owners that are dead."""

    def test_an_admitted_run_is_stamped_and_kept_with_all_that_is_known_of_it(
        self, desk: Desk
    ) -> None:
        desk.settle("a", "b")
        look = desk.peek()
        run = run_of("a", look.cycle.start, slot=1)
        desk.clock.advance(MICROSECOND)
        admission = desk.backend.admit(desk.service, run, SETTINGS, look)
        now = look.now + MICROSECOND
        assert admission == Admission(now, 1)
        assert run.started_at == now
        assert desk.executions() == (
            ExecutionRecord(
                service=desk.service,
                run_id=run.atomic_service_id.atomic_service_run_id,
                runner_id="a",
                fencing_token=1,
                cycle_start=look.cycle.start,
                slot_start=run.slot_start,
                slot_end=run.slot_end,
                start_time=now,
                end_time=None,
                last_heartbeat=now,
                status=RUNNING,
                reason="",
                stable_size=look.size,
                stable_digest=look.digest,
            ),
        )
        assert look.digest == set_digest(map(runner_digest, "ab"))
        assert desk.executions()[0].execution.atomic_service_run.started_at == now

    def test_while_one_runs_every_other_is_refused_and_told_whose_run_it_is(
        self, desk: Desk
    ) -> None:
        prior = desk.admitted("a")
        for slot, runner_id in enumerate("abc"):
            desk.clock.advance(SECOND)
            run = run_of(runner_id, desk.cycle_start(), slot=slot)
            admission = desk.backend.admit(desk.service, run, SETTINGS, desk.peek())
            assert admission == Admission(
                desk.clock(), None, f"prior_running:{prior}", START + TIMEOUT + MICROSECOND
            )
            assert run.started_at is None
        assert [r.run_id for r in desk.executions() if r.status is RUNNING] == [prior]

    def test_a_refusal_for_a_prior_run_is_kept_once_per_runner_cycle_and_reason(
        self, desk: Desk
    ) -> None:
        first = desk.admitted("a")
        for _ in range(3):
            desk.admit("b")
            desk.admit("c")
            desk.clock.advance(SECOND)
        expected = [("b", f"prior_running:{first}"), ("c", f"prior_running:{first}")]
        assert sorted(desk.blocked()) == expected
        desk.finish(first, ABANDONED)
        second = desk.admitted("a")
        desk.admit("b")
        expected.append(("b", f"prior_running:{second}"))
        assert sorted(desk.blocked()) == sorted(expected)
        desk.clock.advance(SETTINGS.interval - 4 * SECOND)
        desk.beat("a", run_id=second)
        desk.clock.advance(2 * SECOND)
        desk.admit("b")
        assert sorted(desk.blocked()) == sorted([*expected, ("b", f"prior_running:{second}")])
        for row in desk.executions():
            if row.status is BLOCKED:
                assert (row.fencing_token, row.end_time) == (None, row.start_time)

    def test_a_served_cycle_admits_nobody_again_and_the_next_one_does(self, desk: Desk) -> None:
        desk.finish(desk.admitted("a"))
        for slot, runner_id in enumerate("abc"):
            assert desk.admit(runner_id, slot=slot)[1] == Admission(START, None, CYCLE_SERVED)
        assert not desk.blocked()
        desk.clock.advance(SETTINGS.interval)
        desk.admitted("b")

    def test_with_every_slot_each_slot_is_served_once(self, desk: Desk) -> None:
        desk.settings = replace(SETTINGS, runs_per_cycle="every_slot")
        for slot, ending in enumerate([COMPLETED, ABANDONED, COMPLETED]):
            desk.finish(desk.admitted("a", slot=slot), ending, "")
            assert desk.admit("a", slot=slot)[1].refusal == CYCLE_SERVED
        assert len(desk.executions()) == 3

    @pytest.mark.parametrize(
        ("status", "reason", "retry_failed", "open_again"),
        [
            (COMPLETED, "", True, False),
            (COMPLETED, NO_MARGIN, True, False),
            (ABANDONED, "exit:1", True, True),
            (ABANDONED, "exit:1", False, False),
            (ABANDONED, OWNER_DEAD, False, False),
            (ABANDONED, NO_MARGIN, True, True),
            (ABANDONED, NO_MARGIN, False, True),
        ],
    )
    def test_how_a_turn_ended_says_whether_a_standby_may_serve_its_cycle(
        self,
        desk: Desk,
        status: AtomicServiceExecutionStatus,
        reason: str,
        retry_failed: bool,
        open_again: bool,
    ) -> None:
        desk.settings = replace(SETTINGS, retry_failed=retry_failed)
        desk.finish(desk.admitted("a"), status, reason)
        _, admission = desk.admit("b", slot=1)
        assert (admission.fencing_token is not None) == open_again
        assert admission.refusal == ("" if open_again else CYCLE_SERVED)

    def test_fencing_tokens_grow_by_one_and_no_refusal_uses_one_up(self, desk: Desk) -> None:
        tokens = []
        for _ in range(5):
            run_id, admission = desk.admit("a")
            tokens.append(admission.fencing_token)
            assert desk.admit("b")[1].fencing_token is None
            desk.finish(run_id)
            assert desk.admit("c")[1].fencing_token is None
            desk.clock.advance(SETTINGS.interval)
        assert tokens == [1, 2, 3, 4, 5]

    def test_fencing_tokens_outlive_the_history(self, desk: Desk) -> None:
        desk.settings = replace(SETTINGS, retention_count=1)
        for _ in range(4):
            desk.serve_a_cycle()
        desk.finish("no run, only to clear up")
        assert [r.fencing_token for r in desk.executions()] == [4]
        assert desk.admit()[1].fencing_token == 5

    def test_one_run_id_is_admitted_once(self, desk: Desk) -> None:
        run_id = desk.admitted("a")
        assert desk.admit("a", run_id=run_id)[1].refusal == f"prior_running:{run_id}"
        desk.finish(run_id, ABANDONED, "exit:1")
        before = desk.record(run_id)
        assert desk.admit("a", run_id=run_id)[1].refusal == CYCLE_SERVED
        assert desk.record(run_id) == before

    def test_an_owner_is_alive_exactly_at_the_timeout_and_dead_a_microsecond_later(
        self, desk: Desk
    ) -> None:
        prior = desk.admitted("a")
        desk.clock.advance(TIMEOUT)
        _, refused = desk.admit("b", slot=1)
        assert refused.refusal == f"prior_running:{prior}"
        assert refused.retry_at == desk.clock() + MICROSECOND
        desk.clock.advance(MICROSECOND)
        run_id = desk.admitted("b", slot=1)
        dead = desk.record(prior)
        assert (dead.status, dead.reason, dead.end_time) == (ABANDONED, OWNER_DEAD, desk.clock())
        assert desk.record(run_id).fencing_token == 2

    def test_a_dead_owner_is_closed_even_where_its_cycle_counts_as_served(self, desk: Desk) -> None:
        desk.settings = replace(SETTINGS, retry_failed=False)
        prior = desk.admitted("a")
        desk.clock.advance(TIMEOUT + MICROSECOND)
        assert desk.admit("b", slot=1)[1].refusal == CYCLE_SERVED
        assert desk.record(prior).reason == OWNER_DEAD
        desk.clock.advance(SETTINGS.interval)
        desk.admitted("b")

    def test_a_run_lives_by_heartbeats_that_name_it_and_by_no_other(self, desk: Desk) -> None:
        run_id = desk.admitted("a")
        desk.clock.advance(TIMEOUT)
        assert desk.beat("a", run_id=run_id)
        assert desk.record(run_id).last_heartbeat == desk.clock()
        desk.clock.advance(TIMEOUT)
        assert desk.admit("b")[1].refusal == f"prior_running:{run_id}"
        # The process restarts under its old id: it lives, and its predecessor's run does not.
        assert not desk.beat("a", boot_id="restarted")
        assert not desk.beat("a", boot_id="restarted", run_id="of somebody")
        desk.clock.advance(MICROSECOND)
        desk.admitted("b")
        assert desk.record(run_id).reason == OWNER_DEAD
        assert not desk.beat("a", run_id=run_id)

    def test_no_heartbeat_revives_a_run_that_was_closed(self, desk: Desk) -> None:
        run_id = desk.admitted("a")
        assert desk.beat("a", run_id=run_id)
        closed = desk.finish(run_id)
        desk.clock.advance(SECOND)
        assert not desk.beat("a", run_id=run_id)
        assert desk.record(run_id) == closed

    def test_after_a_step_back_of_the_clock_an_owner_dies_by_the_clock_as_it_is(
        self, desk: Desk
    ) -> None:
        run_id = desk.admitted("a")
        desk.clock.step(-timedelta(hours=1))
        assert desk.admit("b")[1].refusal == f"prior_running:{run_id}"
        assert desk.beat("a", run_id=run_id)
        desk.clock.advance(TIMEOUT)
        assert desk.admit("b")[1].refusal == f"prior_running:{run_id}"
        desk.clock.advance(MICROSECOND)
        assert desk.admit("b")[1].fencing_token == 2
