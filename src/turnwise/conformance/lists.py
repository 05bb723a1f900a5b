"""Lists, forgetting, groups that do not see each other, and names of any kind."""

from dataclasses import replace

import pytest

from turnwise.conformance.clock import SECOND, START
from turnwise.conformance.desk import BOOT, TIMEOUT, Desk, StorageUnderTest
from turnwise.conformance.history import entry
from turnwise.conformance.strategies import UNUSUAL
from turnwise.storages import GROUP_ITSELF, Kind, Owner, Record, ServiceReading, Sight


def fill(desk: Desk, *, told: str) -> None:
    """Keep something of every kind; ``told`` is how it is told from what others keep."""
    desk.beat("a", count=len(told), runs=("run",))
    desk.offer("a", settings=told)
    desk.put(Record(f"gate {told}", told, Owner("run", "a", BOOT, TIMEOUT)))
    desk.put(Record(f"plan {told}", told), kind=Kind.PLAN)
    desk.append(entry("id", body=told))


class ListConformance(StorageUnderTest):
    """What is listed and forgotten, and that nothing is mixed up."""

    def test_an_empty_storage_lists_nothing(self, desk: Desk) -> None:
        assert desk.everything() == ((), (), (), None, [], ())
        assert desk.kept() == ServiceReading()

    def test_a_service_is_listed_by_an_offer_or_a_record_or_a_history(self, desk: Desk) -> None:
        desk.beat("a")
        assert desk.storage.services(desk.group) == ()
        desk.beside(service="zebra").offer("a")
        desk.beside(service="Äpfel").put(desk.record(), kind=Kind.PLAN)
        desk.beside(service="apple").put(desk.record(), kind=Kind.GATE)
        desk.beside(service="Zebra").append(entry("id"))
        fill(desk, told="in all of these ways")
        assert desk.storage.services(desk.group) == (
            "Zebra",
            "apple",
            desk.service,
            "zebra",
            "Äpfel",
        )
        desk.storage.withdraw(desk.group, "a", BOOT, "zebra")
        desk.storage.purge(desk.group, "Zebra", before=START, keep=0)
        assert desk.storage.services(desk.group) == ("apple", desk.service, "Äpfel")

    def test_a_group_has_a_history_of_its_own_which_is_no_services(self, desk: Desk) -> None:
        group = replace(desk, service=GROUP_ITSELF)
        desk.append(entry("id", body="the service's"))
        group.append(entry("id", body="the group's"), entry("other"))
        assert desk.storage.services(desk.group) == (desk.service,)
        desk.storage.forget_service(desk.group, desk.service)
        assert group.history() == (entry("id", body="the group's"), entry("other"))
        desk.storage.purge(desk.group, GROUP_ITSELF, before=0, keep=1)
        assert group.history() == (entry("other"),)

    def test_a_group_is_listed_by_a_runner_or_a_record_or_a_history(self, desk: Desk) -> None:
        desk.beside(group="zebra").beat("a")
        desk.beside(group="Äpfel").put(desk.record(), kind=Kind.PLAN)
        desk.beside(group="apple").put(desk.record(), kind=Kind.GATE)
        desk.beside(group="Zebra").append(entry("id"))
        assert desk.storage.groups() == ("Zebra", "apple", "zebra", "Äpfel")
        desk.storage.forget_runner("zebra", "a")
        desk.storage.forget_service("apple", desk.service)
        assert desk.storage.groups() == ("Zebra", "Äpfel")

    def test_a_service_is_forgotten_with_its_offers_its_records_and_its_history(
        self, desk: Desk
    ) -> None:
        other = desk.beside(service="other")
        for there in (desk, other):
            fill(there, told=there.service)
        kept = other.kept()
        desk.storage.forget_service(desk.group, desk.service)
        desk.storage.forget_service(desk.group, "unknown")
        assert desk.storage.services(desk.group) == ("other",)
        assert desk.kept() == ServiceReading()
        assert desk.history() == ()
        assert [row.offer.service for row in desk.offers()] == ["other"]
        assert desk.stable().size == 0
        assert list(desk.beat("a").sights) == ["other"]
        assert [row.runner_id for row in desk.runners()] == ["a"]
        assert (other.kept().gate, other.kept().plan) == (kept.gate, kept.plan)
        assert other.history() == (entry("id", body="other"),)
        # Nothing of it is left that could stand in the way.
        fill(desk, told="anew")
        assert desk.history() == (entry("id", body="anew"),)

    def test_a_run_of_a_forgotten_service_is_not_open(self, desk: Desk) -> None:
        desk.open_run("run")
        assert desk.beat("a", runs=("run",)).open_runs == {"run"}
        desk.storage.forget_service(desk.group, desk.service)
        assert desk.beat("a", runs=("run",)).open_runs == frozenset()

    def test_groups_do_not_see_each_other(self, desk: Desk) -> None:
        other, empty = desk.beside(group="other"), desk.beside(group="empty")
        fill(desk, told="here")
        fill(other, told="there it is")
        before, revision = desk.everything()[:-1], desk.revision()
        assert empty.everything()[:-1] == ((), (), (), None, [])
        assert other.kept().sight == Sight(Owner("run", "a", BOOT, TIMEOUT), 11, left=False)
        assert empty.beat("a", runs=("run",)).open_runs == frozenset()
        assert empty.beat("a", "second").others == ((BOOT, empty.row().count),)
        assert not empty.swap("gate here", desk.record()).done
        other.leave("a")
        other.storage.mark(other.group, "a", drained=True)
        other.storage.advance(other.group)
        other.offer("a", settings="something new")
        desk.clock.advance(SECOND)
        other.beat("a", "second life")
        other.storage.purge(other.group, other.service, before=START, keep=0)
        other.storage.purge_runners(other.group, before=START + SECOND)
        other.storage.forget_service(other.group, other.service)
        other.storage.forget_runner(other.group, "a")
        other.storage.withdraw(other.group, "a", BOOT, other.service)
        after = desk.everything()[:-1]
        assert after[:3] == before[:3]
        assert desk.revision() == revision
        assert desk.kept().sight == Sight(Owner("run", "a", BOOT, TIMEOUT), 4, left=False)
        assert desk.history() == (entry("id", body="here"),)
        assert desk.beat("a").others == ()
        assert desk.stable(among=["a"]).alive == {"a"}

    def test_services_do_not_see_each_other(self, desk: Desk) -> None:
        other = desk.beside(service="other")
        fill(desk, told="here")
        assert (other.kept(), other.history(), other.stable().size) == (ServiceReading(), (), 0)
        fill(other, told="there it is")
        desk.put(desk.record())
        assert other.kept().sight == Sight(Owner("run", "a", BOOT, TIMEOUT), 11, left=False)
        assert desk.beat("a", runs=("run",)).open_runs == {"run"}
        assert other.history() == (entry("id", body="there it is"),)

    def test_unusual_runner_ids_are_kept_as_they_are_and_told_apart(self, desk: Desk) -> None:
        desk.join(*UNUSUAL)
        assert desk.counting() == sorted(UNUSUAL)
        assert [row.runner_id for row in desk.runners()] == sorted(UNUSUAL)
        assert desk.stable(among=UNUSUAL).alive == frozenset(UNUSUAL)
        for number, name in enumerate(UNUSUAL):
            assert desk.beat(name).others == ()
            desk.storage.mark(desk.group, name, drained=True)
            assert desk.stable().size == len(UNUSUAL) - number - 1
            assert sum(row.drained for row in desk.runners()) == number + 1
        for name in UNUSUAL:
            desk.leave(name)
            desk.storage.forget_runner(desk.group, name)
            assert name not in [row.runner_id for row in desk.runners()]
        assert desk.offers() == ()

    def test_unusual_services_are_kept_as_they_are_and_told_apart(self, desk: Desk) -> None:
        desk.beat("a", count=1)
        for name in UNUSUAL:
            there = desk.beside(service=name)
            there.offer("a", settings=name)
            there.put(Record("version", name, Owner(name[:200], "a", BOOT, TIMEOUT)))
            there.append(entry("id", body=name))
        assert desk.storage.services(desk.group) == tuple(sorted(UNUSUAL))
        reading = desk.read(*UNUSUAL)
        for name in UNUSUAL:
            gate = reading.services[name].gate
            assert gate is not None
            assert gate.body == name
            assert desk.beside(service=name).history() == (entry("id", body=name),)
        assert desk.beat("a", runs=("O'Brien", "A", "x")).open_runs == {"O'Brien", "A"}
        assert set(desk.beat("a").sights) == set(UNUSUAL)
        for number, name in enumerate(UNUSUAL):
            desk.storage.forget_service(desk.group, name)
            assert len(desk.storage.services(desk.group)) == len(UNUSUAL) - number - 1

    def test_unusual_groups_are_kept_as_they_are_and_told_apart(self, desk: Desk) -> None:
        for name in UNUSUAL:
            fill(desk.beside(group=name), told=name)
        assert desk.storage.groups() == tuple(sorted(UNUSUAL))
        for name in UNUSUAL:
            there = desk.beside(group=name)
            assert there.history() == (entry("id", body=name),)
            assert [row.offer.settings for row in there.offers()] == [name]

    @pytest.mark.parametrize("name", ["A", "a ", "é", "e\u0301", "run '1'", "x" * 64])
    def test_ids_of_lives_and_of_runs_are_told_apart(self, desk: Desk, name: str) -> None:
        desk.beat("r", "a", runs=("a", "é!"))
        assert not desk.beat("r", name, runs=(name, "and more")).found
        assert sorted(row.boot_id for row in desk.runners()) == sorted(["a", name])
        owner = desk.open_run(name, "r", name)
        pulse = desk.beat("r", name, count=1000, runs=(name, "a", f"{name}!"))
        assert pulse.open_runs == {name}
        assert desk.kept().sight == Sight(owner, 1000, left=False)
        desk.open_run(name, "r", "a")
        assert desk.kept().sight == Sight(Owner(name, "r", "a", TIMEOUT), 0, left=False)
