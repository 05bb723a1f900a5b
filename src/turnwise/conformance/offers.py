"""What lives offer, the marks of runners, and the revision that both advance."""

import pytest

from turnwise.conformance.clock import SECOND, START
from turnwise.conformance.desk import BOOT, TIMEOUT, Desk, StorageUnderTest
from turnwise.storages import Offer, OfferRow


class OfferConformance(StorageUnderTest):
    """Offers and their settings; drained runners; the revision only grows."""

    def test_an_offer_is_kept_as_it_is_in_the_place_of_an_earlier_one_of_its_life(
        self, desk: Desk
    ) -> None:
        desk.beat("a")
        desk.offer("a", settings="old")
        desk.clock.advance(SECOND)
        offer = Offer("a", BOOT, desk.service, '{"new": "é🦔"}', 3 * 3600 * SECOND, may_run=False)
        desk.storage.offer(desk.group, offer)
        assert desk.offers() == (OfferRow(offer, START + SECOND),)

    def test_offers_of_two_lives_and_of_two_services_stand_side_by_side(self, desk: Desk) -> None:
        there = [
            (desk.service, "a", "x"),
            (desk.service, "a", "y"),
            (desk.service, "b", "x"),
            ("other", "a", "x"),
        ]
        for service, runner_id, boot_id in reversed(there):
            desk.beside(service=service).offer(runner_id, boot_id)
        listed = [(r.offer.service, r.offer.runner_id, r.offer.boot_id) for r in desk.offers()]
        assert listed == there

    def test_offers_are_listed_by_service_and_then_by_life(self, desk: Desk) -> None:
        names = ["b", "B", "a", "é", "z", "Z", "a b", "🦔", "\uff41"]
        for service in names:
            desk.beside(service=service).offer("a")
        for runner_id in names:
            desk.beside(service="0").offer(runner_id)
        assert [row.offer.service for row in desk.offers()] == ["0"] * len(names) + sorted(names)
        assert [row.offer.runner_id for row in desk.offers()][: len(names)] == sorted(names)

    def test_the_revision_grows_only_for_settings_that_nobody_else_offers(self, desk: Desk) -> None:
        def grows(runner_id: str, settings: str, boot_id: str = BOOT) -> bool:
            """Whether an offer advances the revision; its answer is the revision."""
            before = desk.revision()
            answer = desk.offer(runner_id, boot_id, settings=settings)
            assert answer == desk.revision() >= before
            return answer > before

        assert grows("a", "one")
        assert not grows("b", "one")
        assert not grows("a", "one", "another life")
        assert not grows("a", "one")
        assert grows("a", "two")
        assert not grows("b", "two")
        assert not grows("b", "one")
        assert grows("c", "One")
        assert grows("d", "one ")

    def test_settings_that_are_offered_for_another_service_are_new_for_this_one(
        self, desk: Desk
    ) -> None:
        before = desk.beside(service="another").offer("a", settings="one")
        assert desk.offer("b", settings="one") > before

    def test_another_timeout_or_another_right_to_run_is_no_change_of_settings(
        self, desk: Desk
    ) -> None:
        desk.offer("b")
        revision = desk.offer("a")
        assert desk.offer("a", timeout=2 * TIMEOUT) == revision
        assert desk.offer("a", may_run=False) == revision
        kept = [row.offer for row in desk.offers() if row.offer.runner_id == "a"]
        assert kept == [Offer("a", BOOT, desk.service, "{}", TIMEOUT, may_run=False)]

    def test_settings_count_as_offered_until_they_are_withdrawn(self, desk: Desk) -> None:
        desk.join("a", "b")
        revision = desk.revision()
        desk.leave("a")  # what it offers is still kept
        assert desk.offer("c") == revision
        for runner_id in "abc":
            desk.storage.withdraw(desk.group, runner_id, BOOT, desk.service)
        assert desk.offer("c") > revision

    def test_an_offer_is_withdrawn_for_one_life_and_one_service(self, desk: Desk) -> None:
        other = desk.beside(service="other")
        for there in (desk, other):
            there.offer("a")
            there.offer("a", "second")
            there.offer("b")
        for _ in range(2):  # it is safe to repeat
            desk.storage.withdraw(desk.group, "a", BOOT, desk.service)
        desk.storage.withdraw(desk.group, "unknown", BOOT, desk.service)
        desk.storage.withdraw(desk.group, "a", BOOT, "unknown")
        listed = [(r.offer.service, r.offer.runner_id, r.offer.boot_id) for r in desk.offers()]
        assert listed == [
            (desk.service, "a", "second"),
            (desk.service, "b", BOOT),
            ("other", "a", BOOT),
            ("other", "a", "second"),
            ("other", "b", BOOT),
        ]

    def test_a_mark_holds_for_every_life_of_a_runner_and_shows_in_rows_and_answers(
        self, desk: Desk
    ) -> None:
        desk.beat("a", "one")
        desk.beat("b")
        desk.storage.mark(desk.group, "a", drained=True)
        assert desk.beat("a", "one").drained
        assert desk.beat("a", "two").drained
        assert not desk.beat("b").drained
        assert [row.drained for row in desk.runners()] == [True, True, False]
        desk.storage.mark(desk.group, "a", drained=False)
        assert not desk.beat("a", "one").drained
        assert not any(row.drained for row in desk.runners())

    def test_a_runner_that_has_not_come_yet_can_be_drained(self, desk: Desk) -> None:
        desk.storage.mark(desk.group, "a", drained=True)
        assert desk.runners() == ()
        assert desk.beat("a").drained

    @pytest.mark.parametrize("drained", [True, False])
    def test_every_mark_advances_the_revision(self, desk: Desk, drained: bool) -> None:
        for _ in range(2):
            before = desk.revision()
            desk.storage.mark(desk.group, "a", drained=drained)
            assert desk.revision() > before

    def test_the_revision_is_advanced_and_answered(self, desk: Desk) -> None:
        seen = [desk.revision()]
        for _ in range(3):
            seen.append(desk.storage.advance(desk.group))
            assert desk.revision() == seen[-1]
        assert seen == sorted(set(seen))

    def test_records_and_history_advance_no_revision(self, desk: Desk) -> None:
        revision = desk.storage.advance(desk.group)
        desk.open_run()
        desk.put(desk.record())
        desk.storage.purge(desk.group, desk.service, before=START, keep=3)
        desk.storage.purge_runners(desk.group, before=START)
        assert desk.revision() == revision
