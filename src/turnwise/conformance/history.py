"""History: appended once by its id, listed in order, purged by age and by number."""

from itertools import product

import pytest

from turnwise.conformance.clock import MICROSECOND, START
from turnwise.conformance.desk import Desk, StorageUnderTest
from turnwise.conformance.strategies import UNUSUAL
from turnwise.storages import Entry


def entry(entry_id: str, at: int = START, kind: str = "turn", body: str = "body") -> Entry:
    """A row, with what a test does not care about left out."""
    return Entry(entry_id, at, kind, body)


SOME = (
    entry("b", START, "turn"),
    entry("a", START + 1, "refusal"),
    entry("c", START + 1, "turn"),
    entry("e", START + 5, "Turn"),
    entry("d", START + 9, "refusal"),
)


class HistoryConformance(StorageUnderTest):
    """Rows of a service's history."""

    def test_rows_come_in_the_order_of_their_instants_and_then_of_their_ids(
        self, desk: Desk
    ) -> None:
        names = ["b", "B", "a", "é", "a b", "🦔", "\uff41", "10", "9"]
        rows = [entry(name, START + at) for name, at in product(names[:5], [3])]
        rows += [entry(f"{name}2", START + at) for name, at in zip(names, range(9), strict=True)]
        for first in range(0, len(rows), 4):
            desk.append(*rows[first : first + 4])
        assert desk.history() == tuple(sorted(rows, key=lambda row: (row.at, row.id)))

    def test_a_row_is_kept_as_it_is(self, desk: Desk) -> None:
        rows = [
            entry("1", START + 123_456, "", ""),
            entry("2", START + 123_457, "x" * 64, "größer als üblich 🦔\n" * 5_000),
            entry("3", START + 123_458, "Turn é", "'\"\\%\r\n\t {}"),
        ]
        desk.append(*rows)
        assert desk.history() == tuple(rows)

    def test_of_several_rows_with_one_id_the_first_is_kept(self, desk: Desk) -> None:
        desk.append(entry("a", body="first"), entry("a", START + 1, body="in the same request"))
        desk.append(entry("b"), entry("a", START - 1, "refusal", "later"), entry("c"))
        assert desk.history() == (entry("a", body="first"), entry("b"), entry("c"))

    def test_ids_are_told_apart_as_they_are_written(self, desk: Desk) -> None:
        rows = [entry(name, body=name) for name in UNUSUAL if len(name) <= len("🦔" * 60)]
        for row in rows:
            desk.append(row)
        assert desk.history() == tuple(sorted(rows, key=lambda row: row.id))

    def test_two_services_may_have_rows_of_one_id(self, desk: Desk) -> None:
        other = desk.beside(service="other")
        desk.append(entry("a", body="here"))
        other.append(entry("a", body="there"))
        assert desk.history() == (entry("a", body="here"),)
        assert other.history() == (entry("a", body="there"),)

    def test_appending_nothing_leaves_no_trace(self, desk: Desk) -> None:
        desk.append()
        assert desk.history() == ()
        assert desk.storage.services(desk.group) == ()

    @pytest.mark.parametrize("since", [None, START, START + 1, START + 2, START + 10])
    @pytest.mark.parametrize("until", [None, START, START + 1, START + 2, START + 10])
    def test_rows_from_an_instant_on_and_before_another_one(
        self, desk: Desk, since: int | None, until: int | None
    ) -> None:
        desk.append(*SOME)
        expected = tuple(
            row
            for row in SOME
            if (since is None or since <= row.at) and (until is None or row.at < until)
        )
        assert desk.history(since=since, until=until) == expected

    @pytest.mark.parametrize("last", [0, 1, 3, 5, 100])
    def test_the_newest_so_many_come_in_the_same_order(self, desk: Desk, last: int) -> None:
        desk.append(*SOME)
        expected = SOME[len(SOME) - min(last, len(SOME)) :]
        assert desk.history(last=last) == expected

    @pytest.mark.parametrize(
        ("kinds", "ids"),
        [
            (None, "abcde"),
            ([], ""),
            (["turn"], "bc"),
            (["Turn"], "e"),
            (["refusal"], "ad"),
            (["refusal", "turn"], "abcd"),
            (["unknown"], ""),
        ],
    )
    def test_rows_of_some_kinds_alone(self, desk: Desk, kinds: list[str] | None, ids: str) -> None:
        desk.append(*SOME)
        expected = tuple(row for row in SOME if row.id in ids)
        assert desk.history(kinds=kinds) == expected
        # The newest are counted among what the other arguments leave.
        assert desk.history(kinds=kinds, last=1) == expected[-1:]

    def test_all_of_these_go_together(self, desk: Desk) -> None:
        desk.append(*SOME)
        rows = desk.history(since=START, until=START + 9, last=2, kinds=["turn", "refusal"])
        assert [row.id for row in rows] == ["a", "c"]

    def test_rows_before_an_instant_are_purged(self, desk: Desk) -> None:
        other = desk.beside(service="other")
        for there in (desk, other):
            there.append(*SOME)
        desk.storage.purge(desk.group, desk.service, before=START + 1, keep=100)
        assert desk.history() == SOME[1:]
        desk.storage.purge(desk.group, desk.service, before=START + 1 + MICROSECOND, keep=100)
        assert desk.history() == SOME[3:]
        assert other.history() == SOME

    @pytest.mark.parametrize("keep", [0, 1, 3, 5, 100])
    def test_all_but_the_newest_rows_are_purged(self, desk: Desk, keep: int) -> None:
        desk.append(*SOME)
        desk.storage.purge(desk.group, desk.service, before=START, keep=keep)
        assert desk.history() == SOME[len(SOME) - min(keep, len(SOME)) :]

    def test_of_rows_of_one_instant_those_with_the_larger_ids_are_the_newest(
        self, desk: Desk
    ) -> None:
        rows = [entry(name) for name in "abcde"]
        desk.append(*reversed(rows))
        assert [row.id for row in desk.history(last=2)] == ["d", "e"]
        desk.storage.purge(desk.group, desk.service, before=START, keep=3)
        assert [row.id for row in desk.history()] == ["c", "d", "e"]

    @pytest.mark.parametrize(
        ("spare", "before", "keep", "left"),
        [
            (["refusal"], START + 20, 9, "ad"),
            (["refusal"], START, 1, "aed"),
            (["turn"], START + 6, 9, "bcd"),
            (["turn", "Turn", "turn"], START + 2, 0, "bce"),
            (["unknown"], START + 2, 9, "ed"),
        ],
    )
    def test_rows_of_kinds_to_spare_stay_and_do_not_count_among_the_newest(
        self, desk: Desk, spare: list[str], before: int, keep: int, left: str
    ) -> None:
        desk.append(*SOME)
        desk.storage.purge(desk.group, desk.service, before=before, keep=keep, spare=spare)
        assert "".join(row.id for row in desk.history()) == left
        # What is left is still listed by its kind.
        kept = [row for row in SOME if row.kind in spare]
        assert list(desk.history(kinds=spare)) == kept

    def test_a_row_that_was_purged_may_be_appended_again(self, desk: Desk) -> None:
        desk.append(entry("a", body="first"))
        desk.storage.purge(desk.group, desk.service, before=START + 1, keep=100)
        assert desk.history() == ()
        desk.append(entry("a", body="second"))
        assert desk.history() == (entry("a", body="second"),)

    def test_many_rows_are_appended_at_once(self, desk: Desk) -> None:
        rows = tuple(entry(f"{number:04}", START + number // 3) for number in range(1_000))
        desk.append(*rows)
        desk.append(*rows)
        assert desk.history() == rows
        assert desk.history(last=10) == rows[-10:]
        rare = tuple(entry(f"rare {number}", START + 2 * number, "rare") for number in range(100))
        desk.append(*rare)
        desk.storage.purge(desk.group, desk.service, before=START, keep=600, spare=["rare"])
        assert desk.history(kinds=["turn"]) == rows[400:]
        assert desk.history(kinds=["rare"]) == rare
