"""Who counts for a service: worked out from rows and offers, at the storage's now."""

from collections.abc import Callable
from threading import Thread

import pytest

from turnwise.conformance.clock import MICROSECOND, SECOND, START
from turnwise.conformance.desk import BOOT, TIMEOUT, Desk, StorageUnderTest
from turnwise.storages import StableSet, runner_digest

PATIENCE_SECONDS = 0.3
"""How long a heartbeat is waited for that may have to wait for the storage's lock."""


def _digest(*runner_ids: str) -> int:
    return sum(map(runner_digest, runner_ids)) % 2**48


REASONS_NOT_TO_COUNT: dict[str, Callable[[Desk], object]] = {
    "it has left": lambda desk: desk.leave("b"),
    "it is drained": lambda desk: desk.storage.mark(desk.group, "b", drained=True),
    "it only watches": lambda desk: desk.offer("b", may_run=False),
    "it has withdrawn": lambda desk: desk.storage.withdraw(desk.group, "b", BOOT, desk.service),
    "it was forgotten": lambda desk: desk.storage.forget_runner(desk.group, "b"),
    "its offer has a timeout that is over": lambda desk: desk.offer("b", timeout=SECOND - 1),
}


class StableConformance(StorageUnderTest):
    """Eligibility, order, rotation, digest; each offer by its own timeout."""

    def test_those_count_who_offer_the_service_in_the_order_of_joining(self, desk: Desk) -> None:
        desk.join("z", "b", "a")
        desk.clock.advance(SECOND)
        desk.join("A")
        desk.beat("comes without an offer")
        desk.beside(service="another").join("offers something else")
        assert desk.stable(among=["a", "offers something else", "unknown"]) == StableSet(
            now=START + SECOND,
            size=4,
            digest=_digest("z", "b", "a", "A"),
            runners=(("a", START), ("b", START), ("z", START), ("A", START + SECOND)),
            alive=frozenset("a"),
        )

    def test_who_joined_in_the_same_instant_is_ordered_by_code_points(self, desk: Desk) -> None:
        names = ["b", "B", "a", "é", "e\u0301", "Z", "a b", "🦔", "\uff41", "_", "10", "9"]
        desk.join(*names)
        assert desk.counting() == sorted(names)

    def test_where_nobody_counts_the_set_is_empty(self, desk: Desk) -> None:
        expected = StableSet(START, 0, 0, (), frozenset())
        assert desk.stable(rotation=3, among=["a"]) == expected
        assert desk.runners() == ()

    @pytest.mark.parametrize("reason", REASONS_NOT_TO_COUNT)
    def test_a_runner_does_not_count_where(self, desk: Desk, reason: str) -> None:
        desk.join("a", "b", "c")
        desk.clock.advance(SECOND)
        assert desk.counting() == ["a", "b", "c"]
        REASONS_NOT_TO_COUNT[reason](desk)
        answer = desk.stable(among=["b", "c"])
        assert [runner_id for runner_id, _ in answer.runners] == ["a", "c"]
        assert (answer.size, answer.digest) == (2, _digest("a", "c"))
        assert answer.alive == {"c"}

    def test_a_runner_whose_mark_is_taken_back_counts_again(self, desk: Desk) -> None:
        desk.join("a")
        desk.storage.mark(desk.group, "a", drained=True)
        assert desk.counting() == []
        desk.storage.mark(desk.group, "a", drained=False)
        assert desk.counting() == ["a"]

    def test_an_offer_of_a_life_without_a_row_does_not_count(self, desk: Desk) -> None:
        desk.offer("a")
        desk.beat("b", "another life")
        desk.offer("b")
        assert desk.stable().size == 0

    def test_a_runner_counts_exactly_at_its_timeout_and_not_a_microsecond_later(
        self, desk: Desk
    ) -> None:
        desk.join("a")
        desk.clock.advance(TIMEOUT)
        assert desk.counting() == ["a"]
        desk.clock.advance(MICROSECOND)
        assert desk.stable(among=["a"]) == StableSet(desk.clock(), 0, 0, (), frozenset())
        desk.beat("a")
        assert desk.counting() == ["a"]

    def test_each_runner_is_held_to_the_timeout_of_its_own_offer(self, desk: Desk) -> None:
        timeouts = {"a": SECOND, "b": 2 * SECOND, "c": 5_000 * SECOND}
        for runner_id, timeout in timeouts.items():
            # The timeout of a heartbeat is the shortest of its process's, and plays no part.
            desk.beat(runner_id, timeout=SECOND // 2)
            desk.offer(runner_id, timeout=timeout)
        for runner_id, timeout in timeouts.items():
            desk.clock.advance(START + timeout - desk.clock())
            assert desk.counting()[0] == runner_id
            desk.clock.advance(MICROSECOND)
            assert runner_id not in desk.counting()

    def test_one_runner_may_count_for_one_service_and_be_silent_for_another(
        self, desk: Desk
    ) -> None:
        strict = desk.beside(service="strict")
        desk.join("a")
        strict.offer("a", timeout=SECOND)
        desk.clock.advance(2 * SECOND)
        assert (desk.counting(), strict.counting()) == (["a"], [])

    def test_who_was_heard_of_ahead_of_now_is_silent(self, desk: Desk) -> None:
        desk.join("a")
        desk.clock.step(-MICROSECOND)
        assert desk.counting() == []
        desk.beat("b")
        desk.offer("b")
        assert desk.counting() == ["b"]
        desk.clock.step(MICROSECOND)
        assert desk.counting() == ["b", "a"]

    def test_a_runner_with_several_lives_counts_once_and_by_when_it_joined_first(
        self, desk: Desk
    ) -> None:
        desk.join("b")
        desk.clock.advance(SECOND)
        desk.join("a")
        desk.beat("b", "second")
        desk.offer("b", "second")
        answer = desk.stable()
        assert answer.runners == (("b", START), ("a", START + SECOND))
        assert (answer.size, answer.digest) == (2, _digest("a", "b"))

    @pytest.mark.parametrize("ends", ["leaves", "watches", "withdraws", "is silent"])
    def test_a_runner_counts_by_any_life_that_does(self, desk: Desk, ends: str) -> None:
        desk.join("a")
        desk.clock.advance(SECOND)
        desk.beat("a", "second")
        desk.offer("a", "second")
        if ends == "leaves":
            desk.leave("a")
        elif ends == "watches":
            desk.offer("a", may_run=False)
        elif ends == "withdraws":
            desk.storage.withdraw(desk.group, "a", BOOT, desk.service)
        else:
            desk.offer("a", timeout=SECOND - 1)
        assert desk.stable().runners == (("a", START),)

    def test_a_silent_life_is_not_made_to_count_by_one_that_does_not_offer(
        self, desk: Desk
    ) -> None:
        desk.join("a")
        desk.clock.advance(TIMEOUT + MICROSECOND)
        desk.beat("a", "second")
        assert desk.counting() == []
        desk.offer("a", "second")
        assert desk.counting() == ["a"]
        desk.leave("a", "second")
        assert desk.counting() == []

    @pytest.mark.parametrize("rotation", [0, 1, 4, 5, 6, 13, 10**12])
    @pytest.mark.parametrize("limit", [None, 0, 1, 3, 5, 100])
    def test_the_answer_begins_where_the_rotation_says_and_has_each_runner_once(
        self, desk: Desk, rotation: int, limit: int | None
    ) -> None:
        desk.join(*"abcde")
        desk.beat("e", "second")
        desk.offer("e", "second")
        answer = desk.stable(rotation=rotation, limit=limit, among=["e", "a", "x", "a"])
        first = rotation % 5
        rotated = ("abcde"[first:] + "abcde"[:first])[:limit]
        assert answer.runners == tuple((runner_id, START) for runner_id in rotated)
        # Whatever was asked for, these are of the whole set.
        assert (answer.size, answer.digest) == (5, _digest(*"abcde"))
        assert answer.alive == {"a", "e"}

    def test_a_large_set_has_its_order_its_size_and_its_digest(self, desk: Desk) -> None:
        names = [f"runner {number}" for number in range(120)]
        desk.join(*names)
        answer = desk.stable(rotation=119, limit=2, among=names)
        last, first = max(names), min(names)
        assert answer.runners == ((last, START), (first, START))
        assert (answer.size, answer.digest) == (120, _digest(*names))
        assert answer.alive == frozenset(names)

    def test_a_runner_heard_of_while_the_clock_is_read_is_not_taken_for_silent(
        self, desk: Desk
    ) -> None:
        desk.join("a")
        desk.clock.advance(TIMEOUT)
        beat = Thread(target=desk.beat, args=("a",))

        def meanwhile() -> None:
            """Time passes beyond the timeout, and the runner is heard of in time.

            Where the storage reads the rows first, it holds a heartbeat of old against a clock
            that has moved on. Where the heartbeat has to wait, reading is one step: no time passes.
            """
            beat.start()
            beat.join(PATIENCE_SECONDS)
            if not beat.is_alive():
                desk.clock.advance(MICROSECOND)

        desk.clock.when_read(meanwhile)
        answer = desk.stable(among=["a"])
        beat.join()
        assert (answer.size, answer.alive) == (1, frozenset("a"))
