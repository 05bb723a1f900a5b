"""The two records of a service: compare and set, and what a read answers."""

from threading import Event, Thread

import pytest

from turnwise.conformance.clock import MICROSECOND, SECOND, START
from turnwise.conformance.desk import TIMEOUT, Desk, StorageUnderTest
from turnwise.storages import Kind, Owner, Record, ServiceReading, Sight, Swapped

PATIENCE_SECONDS = 1.0
"""How long something is waited for that may have to wait for the storage's lock."""

BIG = "größer als üblich 🦔\n" * 5_000  # 100,000 characters


class RecordConformance(StorageUnderTest):
    """Swap replaces where the version is the expected one, in time; read gives what is there."""

    def test_a_record_that_is_not_there_is_made_where_that_was_expected(self, desk: Desk) -> None:
        new = desk.record("first")
        assert desk.swap(None, new) == Swapped(START, done=True)
        assert desk.kept() == ServiceReading(gate=new)

    def test_a_record_that_is_there_is_not_made_again(self, desk: Desk) -> None:
        first = desk.put(desk.record("first"))
        assert desk.swap(None, desk.record("second")) == Swapped(START, done=False)
        assert desk.kept().gate == first

    def test_a_record_that_is_not_there_has_no_version(self, desk: Desk) -> None:
        assert not desk.swap("some version", desk.record()).done
        assert not desk.swap("", desk.record()).done
        assert desk.kept() == ServiceReading()

    def test_a_record_is_replaced_where_its_version_is_the_expected_one(self, desk: Desk) -> None:
        first = desk.put(desk.record("first"))
        second = desk.record("second")
        desk.clock.advance(SECOND)
        assert desk.swap(first.version, second) == Swapped(START + SECOND, done=True)
        assert desk.kept().gate == second

    def test_a_record_whose_version_has_moved_is_left_as_it_is(self, desk: Desk) -> None:
        first = desk.put(desk.record("first"))
        second = desk.put(desk.record("second", Owner("run", "a", "boot", TIMEOUT)))
        assert not desk.swap(first.version, desk.record("third")).done
        assert not desk.swap(first.version, first).done
        assert desk.kept().gate == second

    @pytest.mark.parametrize("other", ["Version", "version ", " version", "versio", "v%", "", "0"])
    def test_versions_are_compared_as_they_are_written(self, desk: Desk, other: str) -> None:
        desk.put(Record("version", "body"))
        assert not desk.swap(other, desk.record()).done
        assert desk.swap("version", desk.record()).done

    def test_a_version_that_somebody_remembers_of_a_record_that_was_lost_is_no_version_of_its_next(
        self, desk: Desk
    ) -> None:
        remembered = desk.put(desk.record())
        desk.storage.forget_service(desk.group, desk.service)
        assert not desk.swap(remembered.version, desk.record()).done
        anew = desk.put(desk.record())
        assert not desk.swap(remembered.version, desk.record()).done
        assert desk.kept().gate == anew

    @pytest.mark.parametrize("there", [False, True])
    def test_a_swap_is_in_time_exactly_at_the_last_instant_and_late_a_microsecond_beyond(
        self, desk: Desk, there: bool
    ) -> None:
        version = desk.put(desk.record()).version if there else None
        before = desk.kept()
        desk.clock.advance(MICROSECOND)
        late = desk.swap(version, desk.record(), not_after=START)
        assert late == Swapped(START + MICROSECOND, done=False)
        assert desk.kept() == before
        new = desk.record()
        assert desk.swap(version, new, not_after=START + MICROSECOND).done
        assert desk.kept().gate == new

    def test_a_swap_that_has_waited_is_held_against_when_it_got_through(self, desk: Desk) -> None:
        """One is stopped while it reads the clock; another waits for it, and is then too late.

        Where the other one need not wait, it is through at once, and in time.
        """
        first = desk.put(desk.record())
        go_on, stopped = Event(), Event()

        def stop() -> None:
            stopped.set()
            go_on.wait()

        # What it expects is not there, so it changes nothing.
        blocker = Thread(target=desk.swap, args=("not there", desk.record()))
        answers: list[Swapped] = []

        def swap() -> None:
            answers.append(desk.swap(first.version, desk.record(), not_after=START))

        desk.clock.when_read(stop)
        blocker.start()
        stopped.wait()
        waiting = Thread(target=swap)
        waiting.start()
        waiting.join(PATIENCE_SECONDS)
        in_time = not waiting.is_alive()
        desk.clock.advance(MICROSECOND)
        go_on.set()
        blocker.join()
        waiting.join()
        now = START if in_time else START + MICROSECOND
        assert answers == [Swapped(now, done=in_time)]
        assert (desk.kept().gate == first) != in_time

    def test_plan_and_gate_of_a_service_are_two_records(self, desk: Desk) -> None:
        plan = desk.put(desk.record("plan"), kind=Kind.PLAN)
        assert not desk.swap(plan.version, desk.record(), kind=Kind.GATE).done
        gate = desk.put(desk.record("gate"), kind=Kind.GATE)
        assert not desk.swap(gate.version, desk.record(), kind=Kind.PLAN).done
        assert desk.kept() == ServiceReading(plan, gate)
        plan = desk.put(desk.record("next plan"), kind=Kind.PLAN)
        assert desk.kept() == ServiceReading(plan, gate)

    def test_two_services_may_have_records_of_one_version(self, desk: Desk) -> None:
        other = desk.beside(service="other")
        same = desk.record()
        desk.put(same)
        other.put(same)
        new = desk.put(desk.record())
        assert (desk.kept().gate, other.kept().gate) == (new, same)

    def test_an_owner_is_kept_with_its_record_and_goes_with_it(self, desk: Desk) -> None:
        owner = Owner("run", "a", "boot of a", 90 * 24 * 3600 * SECOND)
        gate = desk.put(desk.record(owner=owner))
        assert desk.kept() == ServiceReading(gate=gate, sight=Sight(owner, None, left=False))
        other = Owner("run 2", "b", "boot of b", 1)
        gate = desk.put(desk.record(owner=other))
        assert desk.kept() == ServiceReading(gate=gate, sight=Sight(other, None, left=False))
        gate = desk.put(desk.record())
        assert desk.kept() == ServiceReading(gate=gate)

    def test_a_read_answers_for_every_service_that_it_is_asked_about(self, desk: Desk) -> None:
        other, third = desk.beside(service="other"), desk.beside(service="third")
        gate = desk.put(desk.record())
        owner = other.open_run("run", "a")
        desk.beat("a", count=4, runs=("run",))
        plan = third.put(desk.record(), kind=Kind.PLAN)
        revision = desk.storage.advance(desk.group)
        desk.clock.advance(SECOND)
        reading = desk.read("third", "unknown", "other", desk.service)
        assert (reading.now, reading.revision) == (START + SECOND, revision)
        assert dict(reading.services) == {
            desk.service: ServiceReading(gate=gate),
            "other": ServiceReading(gate=other.kept().gate, sight=Sight(owner, 4, left=False)),
            "third": ServiceReading(plan=plan),
            "unknown": ServiceReading(),
        }

    def test_a_read_of_no_service_tells_the_time_and_the_revision(self, desk: Desk) -> None:
        revision = desk.storage.advance(desk.group)
        reading = desk.storage.read(desk.group, [])
        assert (reading.now, reading.revision, dict(reading.services)) == (START, revision, {})

    def test_many_services_are_read_at_once(self, desk: Desk) -> None:
        names = [f"service {number}" for number in range(150)]
        put = {}
        for name in names[::2]:
            put[name] = desk.beside(service=name).put(desk.record(name))
        reading = desk.read(*names)
        assert {name: kept.gate for name, kept in reading.services.items()} == {
            name: put.get(name) for name in names
        }

    def test_reading_writes_nothing(self, desk: Desk) -> None:
        desk.join("a")
        desk.open_run()
        before = desk.everything()
        for there in (desk, desk.beside(service="unknown"), desk.beside(group="unknown")):
            there.read()
            there.stable(among=["a"])
            there.history()
            there.everything()
            desk.storage.purge(there.group, "unknown", before=START, keep=1)
            desk.storage.withdraw(there.group, "x", "y", "unknown")
            desk.storage.leave(there.group, "x", "y")
        desk.beside(service="unknown").swap("not there", desk.record())
        assert desk.everything() == before

    @pytest.mark.parametrize("body", ["", BIG, "'\"\\%\r\n\t {}", "[1, 2]", "\u2028 \ufeff"])
    @pytest.mark.parametrize("kind", list(Kind))
    def test_a_body_is_kept_as_it_is(self, desk: Desk, kind: Kind, body: str) -> None:
        first = desk.put(desk.record(body), kind=kind)
        kept = desk.kept()
        assert (kept.plan if kind is Kind.PLAN else kept.gate) == first
        second = desk.put(desk.record(body + "!"), kind=kind)
        kept = desk.kept()
        assert (kept.plan if kind is Kind.PLAN else kept.gate) == second
