"""Who counts in a cycle: the rows, and the set that is frozen."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from turnwise.backends import Participant
from turnwise.membership import (
    RunnerRecord,
    after_heartbeat,
    after_leave,
    cycle_at,
    runner_digest,
    schedule,
    set_digest,
    stable_set,
)
from turnwise.old_settings import RunsPerCycle
from turnwise.testing.clock import START, ManualClock
from turnwise.testing.desk import MICROSECOND, SECOND, SETTINGS, Desk, StorageUnderTest
from turnwise.testing.strategies import durations, share_of_the_profile
from turnwise.testing.strategies import participants as any_participants

TIMEOUT = SETTINGS.heartbeat_timeout


participants, waits = any_participants(), durations()
moves = st.one_of(
    st.tuples(st.sampled_from(["heartbeat", "look", "leave"]), participants),
    st.tuples(st.just("wait"), waits),
)


histories = st.lists(moves, max_size=40)

A, B, C = (Participant(runner_id, "first boot") for runner_id in "abc")


class Members:
    """What the pure functions of membership say after each move."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.records: dict[str, RunnerRecord] = {}

    def move(self, what: str, argument: Participant | timedelta) -> None:
        """Do one thing of a history, in the storage and here."""
        desk, now = self.desk, self.desk.clock()
        if isinstance(argument, timedelta):
            desk.clock.advance(argument)
            return
        before = self.records.get(argument.runner_id)
        if what == "leave":
            desk.backend.leave(desk.service, argument)
            if before is not None and before.boot_id == argument.boot_id:
                self.records[argument.runner_id] = after_leave(before, now)
            return
        beat = RunnerRecord(
            argument.runner_id, now, now, argument.may_run, boot_id=argument.boot_id
        )
        after = self.records[argument.runner_id] = after_heartbeat(before, beat, desk.settings)
        if what == "look":
            look = desk.backend.look(desk.service, argument, desk.settings)
            assert look.joined_at == after.creation_time
            answer = (look.now, look.previous_boot_id)
            assert replace(look, joined_at=None, previous_boot_id=None) == desk.peek()
        else:
            heartbeat = desk.backend.heartbeat(desk.service, argument, desk.settings)
            answer = (heartbeat.now, heartbeat.previous_boot_id)
            assert not heartbeat.holds_run
        assert answer == (now, before.boot_id if before else None)

    def sorted(self) -> tuple[RunnerRecord, ...]:
        """The rows as a storage lists them."""
        return tuple(sorted(self.records.values(), key=lambda r: (r.creation_time, r.runner_id)))


def _frozen_part_of(desk: Desk) -> tuple[object, ...]:
    look = desk.peek()
    scheduled = tuple((r.runner_id, r.creation_time) for r in look.scheduled)
    return look.cycle, scheduled, look.size, look.digest


class MembershipConformance(StorageUnderTest):
    """Heartbeats, joins and leaves; order and eligibility; within a cycle one set."""

    @pytest.mark.parametrize("runs_per_cycle", ["once", "every_slot"])
    @share_of_the_profile(12)
    @given(history=histories)
    def test_the_rows_and_the_set_of_a_cycle_are_what_the_pure_functions_say(
        self, runs_per_cycle: RunsPerCycle, history: list[tuple[str, Participant | timedelta]]
    ) -> None:
        settings = replace(SETTINGS, runs_per_cycle=runs_per_cycle)
        clock = ManualClock(START - 70 * SECOND)
        with self.opened(clock) as backend:
            desk = Desk(backend, clock, settings)
            members = Members(desk)
            for move in history:
                members.move(*move)
            assert backend.runners(desk.service) == members.sorted()
            for at in (clock(), clock() + settings.interval):
                cycle = cycle_at(at, settings.interval)
                stable = stable_set(members.sorted(), cycle.start, settings)
                look = backend.peek(desk.service, settings, at)
                assert (look.now, look.cycle) == (at, cycle)
                # Heartbeats that came after the set was written down are not in it.
                assert [r[:2] for r in look.scheduled] == [
                    r[:2] for r in schedule(stable, desk.service, cycle, settings)
                ]
                assert look.size == len(stable)
                assert look.digest == set_digest(runner_digest(r.runner_id) for r in stable)

    @share_of_the_profile(12)
    @given(before=histories, within=st.lists(moves, max_size=20))
    @example(  # one joins, one leaves, and one falls silent: tried however few are drawn
        before=[("heartbeat", A), ("heartbeat", B)],
        within=[("heartbeat", C), ("leave", A), ("wait", 2 * TIMEOUT), ("look", C)],
    )
    def test_within_one_cycle_every_look_gives_the_same_set(
        self,
        before: list[tuple[str, Participant | timedelta]],
        within: list[tuple[str, Participant | timedelta]],
    ) -> None:
        clock = ManualClock(START - 70 * SECOND)
        with self.opened(clock) as backend:
            desk = Desk(backend, clock)
            members = Members(desk)
            for move in before:
                members.move(*move)
            clock.advance(desk.cycle_start() + SETTINGS.interval - clock())
            cycle = desk.peek().cycle
            seen = {_frozen_part_of(desk)}
            for what, argument in within:
                if isinstance(argument, timedelta):
                    argument = min(argument, cycle.end - MICROSECOND - clock())  # noqa: PLW2901
                members.move(what, argument)
                seen.add(_frozen_part_of(desk))
            assert len(seen) == 1

    def test_only_the_process_that_sent_the_last_heartbeat_can_leave(self, desk: Desk) -> None:
        desk.beat("a", boot_id="old")
        desk.beat("a", boot_id="new")
        desk.backend.leave(desk.service, Participant("a", "old"))
        desk.backend.leave(desk.service, Participant("nobody", "old"))
        assert [r.left_at for r in desk.backend.runners(desk.service)] == [None]
        desk.backend.leave(desk.service, Participant("a", "new"))
        assert [r.left_at for r in desk.backend.runners(desk.service)] == [START]

    def test_peeking_and_reading_write_nothing(self, desk: Desk) -> None:
        desk.beat("a")
        run_id = desk.admitted()
        desk.clock.advance(SETTINGS.interval)

        def everything(service: str) -> tuple[object, ...]:
            """All that can be read."""
            return (
                desk.backend.runners(service),
                desk.backend.executions(service),
                desk.backend.settings_of(service),
                desk.backend.services(),
            )

        before = [everything(service) for service in (desk.service, "never heard of")]
        for service in (desk.service, "never heard of"):
            desk.backend.peek(service, SETTINGS)
            desk.backend.peek(service, SETTINGS, START + 10 * SETTINGS.interval)
            desk.backend.execution(service, run_id)
        assert [everything(service) for service in (desk.service, "never heard of")] == before
        assert before[1] == ((), (), None, ())

    def test_a_clock_that_steps_back_moves_no_heartbeat_and_no_join_back(self, desk: Desk) -> None:
        desk.beat("a")
        desk.clock.step(-timedelta(hours=1))
        desk.beat("a", boot_id="restarted")
        desk.backend.leave(desk.service, Participant("a", "restarted"))
        desk.clock.step(timedelta(minutes=10))
        look = desk.backend.look(desk.service, Participant("a", "again"), SETTINGS)
        [row] = desk.backend.runners(desk.service)
        assert (row.creation_time, row.last_heartbeat) == (START, START - timedelta(minutes=50))
        assert look.now == START - timedelta(minutes=50)
