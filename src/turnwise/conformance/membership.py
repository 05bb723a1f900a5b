"""A process in the storage: heartbeats, leaves, and the rows that are kept of them."""

import pytest
from hypothesis import given

from turnwise.conformance.clock import MICROSECOND, SECOND, START, ManualClock
from turnwise.conformance.desk import BOOT, TIMEOUT, Desk, StorageUnderTest
from turnwise.conformance.strategies import instants, share_of_the_profile
from turnwise.storages import Kind, Owner, Pulse, RunnerRow, Sight

HOUR = 3600 * SECOND


class MembershipConformance(StorageUnderTest):
    """Heartbeats join, and never undo anything; their answers show what goes on."""

    def test_the_first_heartbeat_of_a_life_makes_its_row_and_confirms_nothing(
        self, desk: Desk
    ) -> None:
        pulse = desk.beat("a", count=7, runs=("x", "y"), timeout=2 * HOUR)
        assert pulse == Pulse(START, pulse.revision, False, False, False, frozenset(), {}, ())
        [row] = desk.runners()
        assert row == RunnerRow("a", BOOT, START, START, None, 7, 2 * HOUR, ("x", "y"), False)

    def test_a_heartbeat_with_a_larger_count_replaces_all_but_when_the_life_joined(
        self, desk: Desk
    ) -> None:
        desk.beat("a", count=1, runs=("x",))
        desk.clock.advance(SECOND)
        pulse = desk.beat("a", count=2**33, runs=("y", "z"), timeout=3 * HOUR)
        assert (pulse.found, pulse.now) == (True, START + SECOND)
        assert desk.row() == RunnerRow(
            "a", BOOT, START, START + SECOND, None, 2**33, 3 * HOUR, ("y", "z"), False
        )

    @pytest.mark.parametrize("less", [0, 1, 4])
    def test_a_late_heartbeat_changes_nothing_and_is_answered(self, desk: Desk, less: int) -> None:
        desk.beat("a", count=5, runs=("run",))
        before = desk.row()
        desk.clock.advance(SECOND)
        pulse = desk.beat("a", count=5 - less, timeout=HOUR)
        assert (pulse.found, pulse.now) == (True, START + SECOND)
        assert desk.row() == before

    def test_a_heartbeat_never_undoes_a_leave_and_changes_nothing_else_of_the_row(
        self, desk: Desk
    ) -> None:
        desk.beat("a", count=1, runs=("run",))
        desk.clock.advance(SECOND)
        desk.leave("a")
        before = desk.row()
        assert before.left_at == START + SECOND
        desk.clock.advance(SECOND)
        pulse = desk.beat("a", count=2, timeout=HOUR)
        assert (pulse.found, pulse.left) == (True, True)
        assert desk.row() == before

    def test_the_first_leave_of_a_life_stands(self, desk: Desk) -> None:
        desk.beat("a")
        desk.leave("a")
        desk.clock.advance(SECOND)
        desk.leave("a")
        assert desk.row().left_at == START

    def test_a_leave_marks_its_own_life_alone_and_makes_no_row(self, desk: Desk) -> None:
        desk.beat("a", "old")
        desk.beat("b", "old")
        desk.leave("a", "new")
        desk.leave("c", "old")
        assert [row.left_at for row in desk.runners()] == [None, None]
        desk.leave("a", "old")
        assert [row.left_at for row in desk.runners()] == [START, None]

    def test_a_new_life_inherits_when_its_runner_joined_first(self, desk: Desk) -> None:
        desk.beat("a", "first")
        desk.leave("a", "first")
        desk.clock.advance(SECOND)
        desk.beat("b", "first")
        pulse = desk.beat("a", "second")
        assert not pulse.found
        assert not pulse.left
        desk.clock.advance(SECOND)
        desk.beat("a", "third")
        joined = {(row.runner_id, row.boot_id): row.joined_at for row in desk.runners()}
        assert joined == {
            ("a", "first"): START,
            ("a", "second"): START,
            ("a", "third"): START,
            ("b", "first"): START + SECOND,
        }

    def test_a_life_joins_anew_where_nothing_is_kept_of_its_runner(self, desk: Desk) -> None:
        desk.beat("a")
        desk.storage.forget_runner(desk.group, "a")
        desk.clock.advance(SECOND)
        assert not desk.beat("a").found
        assert desk.row().joined_at == START + SECOND

    def test_after_a_step_back_of_the_clock_rows_say_what_it_says_now(self, desk: Desk) -> None:
        desk.beat("a")
        desk.clock.step(-HOUR)
        desk.beat("a")
        desk.beat("a", "restarted")
        desk.leave("a", "restarted")
        rows = {row.boot_id: (row.joined_at, row.heard_at, row.left_at) for row in desk.runners()}
        back = START - HOUR
        assert rows == {BOOT: (START, back, None), "restarted": (START, back, back)}

    def test_every_other_life_that_has_not_left_is_told(self, desk: Desk) -> None:
        desk.beat("a", "one", count=11)
        desk.beat("a", "two", count=22)
        desk.beat("a", "gone", count=33)
        desk.beat("b", "one", count=44)
        desk.leave("a", "gone")
        assert sorted(desk.beat("a", "new", count=1).others) == [("one", 11), ("two", 22)]
        assert sorted(desk.beat("a", "one", count=12).others) == [("new", 1), ("two", 22)]
        assert sorted(desk.beat("a", "gone", count=34).others) == [
            ("new", 1),
            ("one", 12),
            ("two", 22),
        ]
        assert desk.beat("b", "one").others == ()

    def test_of_the_named_runs_those_are_told_that_are_open_in_some_gate(self, desk: Desk) -> None:
        other = desk.beside(service="another service")
        desk.open_run("mine")
        other.open_run("mine too")
        desk.beside(service="third").open_run("not named")
        named = ("mine", "mine too", "unknown")
        # Also where the row is new, and where the heartbeat comes late.
        for number in (2, 3, 1):
            assert desk.beat("a", count=number, runs=named).open_runs == {"mine", "mine too"}
        assert desk.beat("a").open_runs == frozenset()
        desk.put(desk.record())
        assert desk.beat("a", runs=named).open_runs == {"mine too"}
        other.open_run("a later run")
        assert desk.beat("a", runs=named).open_runs == frozenset()

    def test_a_named_run_is_open_whoever_owns_it(self, desk: Desk) -> None:
        desk.open_run("run", "b")
        assert desk.beat("a", runs=("run",)).open_runs == {"run"}

    def test_of_the_services_that_a_life_offers_the_open_runs_are_told_whoever_owns_them(
        self, desk: Desk
    ) -> None:
        other, third = desk.beside(service="another"), desk.beside(service="third")
        desk.beat("b", count=5, runs=("run of b",))
        owners = [desk.open_run("run of b", "b"), other.open_run("run of c", "c")]
        third.open_run("run in third", "b")
        assert desk.beat("a").sights == {}
        desk.offer("a")
        other.offer("a")
        desk.beside(service="without a record").offer("a")
        third.offer("a", "another life")
        expected = {
            desk.service: Sight(owners[0], 5, left=False),
            other.service: Sight(owners[1], None, left=False),
        }
        assert desk.beat("a").sights == expected
        desk.storage.withdraw(desk.group, "a", BOOT, other.service)
        assert desk.beat("a").sights == {desk.service: expected[desk.service]}
        desk.put(desk.record())
        assert desk.beat("a").sights == {}

    def test_an_owner_in_a_sight_is_as_it_was_put(self, desk: Desk) -> None:
        desk.offer("a")
        owner = Owner("run", "b", "boot of b", 5 * HOUR)
        desk.put(desk.record(owner=owner))
        assert desk.beat("a").sights[desk.service].owner == owner
        assert desk.kept().sight == Sight(owner, None, left=False)

    def test_a_plan_opens_no_run(self, desk: Desk) -> None:
        desk.offer("a")
        desk.swap(None, desk.record(), kind=Kind.PLAN)
        pulse = desk.beat("a", runs=("run",))
        assert (pulse.open_runs, pulse.sights) == (frozenset(), {})

    def test_the_word_is_the_count_of_the_owners_newest_heartbeat_while_it_names_the_run(
        self, desk: Desk
    ) -> None:
        desk.offer("watcher")

        def word() -> int | None:
            """What both ways to see it say."""
            sight = desk.beat("watcher").sights[desk.service]
            assert sight == desk.kept().sight
            return sight.word

        desk.open_run("run", "a")
        assert word() is None  # there is no row
        desk.beat("a", count=10)
        assert word() == 0  # the row names no run
        desk.beat("a", count=11, runs=("another", "run"))
        assert word() == 11
        desk.beat("a", count=12, runs=("run",))
        assert word() == 12
        desk.beat("a", count=11)  # too late to take anything back
        assert word() == 12
        desk.beat("a", count=13, runs=("another", "runs", "ru"))
        assert word() == 0
        desk.beat("a", "another life", count=14, runs=("run",))
        desk.beat("b", count=15, runs=("run",))
        assert word() == 0  # nobody else can say it

    def test_a_heartbeat_shows_its_own_word_since_it_is_written_before_anything_is_read(
        self, desk: Desk
    ) -> None:
        desk.offer("a")
        desk.open_run("run", "a")
        assert desk.beat("a", count=1, runs=("run",)).sights[desk.service].word == 1
        assert desk.beat("a", count=2, runs=("run",)).sights[desk.service].word == 2

    def test_a_sight_says_that_the_owner_has_left(self, desk: Desk) -> None:
        desk.offer("b")
        owner = desk.open_run("run", "a")
        desk.beat("a", count=3, runs=("run",))
        desk.leave("a")
        assert desk.kept().sight == Sight(owner, 3, left=True)
        assert desk.beat("b").sights == {desk.service: Sight(owner, 3, left=True)}

    def test_a_sight_of_an_owner_whose_row_was_purged_has_no_word(self, desk: Desk) -> None:
        owner = desk.open_run("run", "a")
        desk.beat("a", runs=("run",))
        desk.storage.purge_runners(desk.group, before=START + MICROSECOND)
        assert desk.kept().sight == Sight(owner, None, left=False)

    def test_a_heartbeat_advances_no_revision_and_tells_it(self, desk: Desk) -> None:
        revision = desk.storage.advance(desk.group)
        assert desk.beat("a").revision == revision
        assert desk.beat("a").revision == revision
        desk.leave("a")
        assert desk.revision() == revision

    def test_lives_last_heard_of_before_an_instant_are_purged_with_their_offers(
        self, desk: Desk
    ) -> None:
        desk.join("old", "old but alive")
        desk.leave("old")
        desk.clock.advance(SECOND)
        desk.join("new")
        desk.beat("old but alive")
        desk.clock.advance(SECOND)
        desk.beat("old", "restarted")
        desk.storage.purge_runners(desk.group, before=START + SECOND)
        lives = {(row.runner_id, row.boot_id) for row in desk.runners()}
        assert lives == {("new", BOOT), ("old but alive", BOOT), ("old", "restarted")}
        assert [row.offer.runner_id for row in desk.offers()] == ["new", "old but alive"]
        desk.storage.purge_runners(desk.group, before=START + SECOND + MICROSECOND)
        assert [row.boot_id for row in desk.runners()] == ["restarted"]
        # Whoever was purged and still lives finds no row, and says so.
        assert not desk.beat("new").found

    def test_a_runner_is_forgotten_with_every_life_every_offer_and_its_mark(
        self, desk: Desk
    ) -> None:
        desk.join("a", "b")
        desk.beat("a", "second life")
        desk.beside(service="another").offer("a", "second life")
        for runner_id in ("a", "b"):
            desk.storage.mark(desk.group, runner_id, drained=True)
        desk.storage.forget_runner(desk.group, "a")
        desk.storage.forget_runner(desk.group, "unknown")
        assert [row.runner_id for row in desk.runners()] == ["b"]
        assert [row.offer.runner_id for row in desk.offers()] == ["b"]
        assert not desk.beat("a").drained
        assert desk.beat("b").drained

    def test_lives_are_listed_by_when_they_joined_and_then_by_their_names(self, desk: Desk) -> None:
        lives = [("b", "y"), ("b", "x"), ("a", "z"), ("B", "z"), ("é", "z")]
        for runner_id, boot_id in lives:
            desk.beat(runner_id, boot_id)
        desk.clock.step(-SECOND)
        desk.beat("z")
        listed = [(row.runner_id, row.boot_id) for row in desk.runners()]
        assert listed == [("z", BOOT), *sorted(lives)]

    @share_of_the_profile(12)
    @given(now=instants())
    def test_instants_are_kept_to_the_microsecond(self, now: int) -> None:
        clock = ManualClock(now)
        with self.opened(clock) as storage:
            desk = Desk(storage, clock)
            assert desk.beat("a").now == now
            desk.offer("a")
            desk.leave("a")
            row = desk.row()
            assert (row.joined_at, row.heard_at, row.left_at) == (now, now, now)
            assert [row.at for row in desk.offers()] == [now]
            assert desk.stable().now == desk.read().now == now
            assert desk.swap(None, desk.record(), not_after=now - 1).done is False
            assert desk.swap(None, desk.record(), not_after=now).now == now

    def test_the_timeout_of_a_heartbeat_is_kept_however_long_it_is(self, desk: Desk) -> None:
        for timeout in (1, TIMEOUT, 400 * 24 * HOUR):
            desk.beat("a", timeout=timeout)
            assert desk.row().heartbeat_timeout == timeout
