"""One storage, its clock, and one service: what most tests of a storage need."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from turnwise.conformance.clock import SECOND, Clock, ManualClock
from turnwise.storages import (
    Beat,
    Entry,
    Kind,
    Offer,
    OfferRow,
    Owner,
    Pulse,
    Reading,
    Record,
    RunnerRow,
    ServiceReading,
    StableSet,
    Storage,
    Swapped,
)

TIMEOUT = 21 * SECOND
"""The heartbeat timeout where a test says no other; in microseconds."""

BOOT = "boot"


@dataclass
class Desk:
    """One storage, its clock, and one service of one group, with arguments that are left out."""

    storage: Storage
    clock: ManualClock
    group: str = "group"
    service: str = "housekeeping"
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    """Counts of heartbeats, and what makes versions differ."""

    def beside(self, *, group: str | None = None, service: str | None = None) -> "Desk":
        """The same storage, with another group or another service."""
        return Desk(
            self.storage, self.clock, group or self.group, service or self.service, self.numbers
        )

    def beat(
        self,
        runner_id: str = "a",
        boot_id: str = BOOT,
        *,
        count: int | None = None,
        runs: tuple[str, ...] = (),
        timeout: int = TIMEOUT,
    ) -> Pulse:
        """A heartbeat, with a larger count than all before where no count is given."""
        number = next(self.numbers) if count is None else count
        beat = Beat(runner_id, boot_id, number, timeout, runs)
        return self.storage.heartbeat(self.group, beat)

    def leave(self, runner_id: str = "a", boot_id: str = BOOT) -> None:
        """A life leaves."""
        self.storage.leave(self.group, runner_id, boot_id)

    def offer(
        self,
        runner_id: str = "a",
        boot_id: str = BOOT,
        *,
        settings: str = "{}",
        timeout: int = TIMEOUT,
        may_run: bool = True,
    ) -> int:
        """A life offers the service."""
        offer = Offer(runner_id, boot_id, self.service, settings, timeout, may_run)
        return self.storage.offer(self.group, offer)

    def join(self, *runner_ids: str) -> None:
        """Runners come, and offer the service."""
        for runner_id in runner_ids:
            self.beat(runner_id)
            self.offer(runner_id)

    def stable(
        self, *, rotation: int = 0, limit: int | None = None, among: Sequence[str] = ()
    ) -> StableSet:
        """Who counts for the service."""
        return self.storage.stable(
            self.group, self.service, rotation=rotation, limit=limit, among=among
        )

    def counting(self) -> list[str]:
        """The ids of those who count for the service, in order."""
        return [runner_id for runner_id, _ in self.stable().runners]

    def read(self, *services: str) -> Reading:
        """Read the service, or the services that are named."""
        return self.storage.read(self.group, services or (self.service,))

    def kept(self) -> ServiceReading:
        """What is kept of the service."""
        return self.read().services[self.service]

    def revision(self) -> int:
        """The group's revision."""
        return self.read().revision

    def record(self, body: str = "{}", owner: Owner | None = None) -> Record:
        """A record of a version that was never there."""
        return Record(f"version {next(self.numbers)}", body, owner)

    def swap(
        self,
        expected: str | None,
        new: Record,
        *,
        kind: Kind = Kind.GATE,
        not_after: int | None = None,
    ) -> Swapped:
        """Try to replace a record."""
        return self.storage.swap(self.group, self.service, kind, expected, new, not_after)

    def put(self, new: Record, *, kind: Kind = Kind.GATE) -> Record:
        """Replace a record, whatever is there."""
        before = self.kept().gate if kind is Kind.GATE else self.kept().plan
        assert self.swap(before.version if before else None, new, kind=kind).done
        return new

    def open_run(self, run_id: str = "run", runner_id: str = "a", boot_id: str = BOOT) -> Owner:
        """Put a gate with an open run in the place of what is there."""
        owner = Owner(run_id, runner_id, boot_id, TIMEOUT)
        self.put(self.record(owner=owner))
        return owner

    def append(self, *entries: Entry) -> None:
        """Append to the service's history."""
        self.storage.append(self.group, self.service, entries)

    def history(
        self,
        *,
        since: int | None = None,
        until: int | None = None,
        last: int | None = None,
        kinds: Sequence[str] | None = None,
    ) -> tuple[Entry, ...]:
        """The service's history, or a part of it."""
        return self.storage.history(
            self.group, self.service, since=since, until=until, last=last, kinds=kinds
        )

    def runners(self) -> tuple[RunnerRow, ...]:
        """Every life that is kept."""
        return self.storage.runners(self.group)

    def row(self, runner_id: str = "a", boot_id: str = BOOT) -> RunnerRow:
        """One life, which must be there."""
        [row] = [r for r in self.runners() if (r.runner_id, r.boot_id) == (runner_id, boot_id)]
        return row

    def offers(self) -> tuple[OfferRow, ...]:
        """Every offer that is kept."""
        return self.storage.offers(self.group)

    def everything(self) -> tuple[object, ...]:
        """All that can be read of the group, as one value that can be compared."""
        services = self.storage.services(self.group)
        reading = self.read(*services) if services else None
        histories = [self.storage.history(self.group, service) for service in services]
        return self.runners(), self.offers(), services, reading, histories, self.storage.groups()


class StorageUnderTest:
    """What a suite asks of its subclass: how to open the storage."""

    def open_storage(self, clock: Clock, folder: Path) -> Storage:
        """An empty storage whose clock is ``clock``; ``folder`` is fresh, and goes after the test.

        A storage whose clock is its server's lets a test replace it.
        """
        raise NotImplementedError("a conformance test says how to open its storage")

    @contextmanager
    def opened(self, clock: Clock) -> Iterator[Storage]:
        """An empty storage, closed afterwards."""
        with TemporaryDirectory() as folder:
            storage = self.open_storage(clock, Path(folder))
            try:
                yield storage
            finally:
                storage.close()

    @pytest.fixture
    def desk(self) -> Iterator[Desk]:
        """An empty storage, at noon of the first of March 2026."""
        clock = ManualClock()
        with self.opened(clock) as storage:
            yield Desk(storage, clock)
