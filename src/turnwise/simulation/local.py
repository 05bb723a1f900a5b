"""Slots alone: each runner decides by a clock of its own, and no gate keeps them apart."""

from collections.abc import Sequence
from dataclasses import replace

from turnwise.simulation.process import Process
from turnwise.storages import (
    Beat,
    Entry,
    Kind,
    Offer,
    OfferRow,
    Pulse,
    Reading,
    Record,
    RunnerRow,
    StableSet,
    Storage,
    Swapped,
)


class OwnClockNoGate:
    """The storage of one process: its own clock, its own gate, and everybody's plan and set."""

    def __init__(self, process: Process, storage: Storage) -> None:
        self._process, self._storage = process, storage
        self._gate: Record | None = None

    def _ahead(self) -> int:
        return self._process.skew

    def heartbeat(self, group: str, beat: Beat) -> Pulse:
        """See :class:`turnwise.storages.Storage`; all its runs are open, for all that it knows."""
        pulse = self._storage.heartbeat(group, beat)
        mine = frozenset(beat.runs)
        return replace(pulse, now=pulse.now + self._ahead(), open_runs=mine, sights={})

    def leave(self, group: str, runner_id: str, boot_id: str) -> None:
        """See :class:`turnwise.storages.Storage`."""
        self._storage.leave(group, runner_id, boot_id)

    def offer(self, group: str, offer: Offer) -> int:
        """See :class:`turnwise.storages.Storage`."""
        return self._storage.offer(group, offer)

    def offers(self, group: str) -> tuple[OfferRow, ...]:
        """See :class:`turnwise.storages.Storage`."""
        return self._storage.offers(group)

    def runners(self, group: str) -> tuple[RunnerRow, ...]:
        """See :class:`turnwise.storages.Storage`."""
        return self._storage.runners(group)

    def stable(
        self,
        group: str,
        service: str,
        *,
        rotation: int,
        limit: int | None,
        among: Sequence[str] = (),
    ) -> StableSet:
        """See :class:`turnwise.storages.Storage`."""
        found = self._storage.stable(group, service, rotation=rotation, limit=limit, among=among)
        return replace(found, now=found.now + self._ahead())

    def read(self, group: str, services: Sequence[str]) -> Reading:
        """See :class:`turnwise.storages.Storage`."""
        reading = self._storage.read(group, services)
        found = {
            name: replace(each, gate=self._gate, sight=None)
            for name, each in reading.services.items()
        }
        return Reading(reading.now + self._ahead(), reading.revision, found)

    def swap(
        self,
        group: str,
        service: str,
        kind: Kind,
        expected: str | None,
        new: Record,
        not_after: int | None = None,
    ) -> Swapped:
        """See :class:`turnwise.storages.Storage`; the gate is its own."""
        ahead = self._ahead()
        until = None if not_after is None else not_after - ahead
        if kind is Kind.PLAN:
            swapped = self._storage.swap(group, service, kind, expected, new, until)
            return Swapped(swapped.now + ahead, swapped.done)
        now = self._storage.read(group, ()).now
        version = None if self._gate is None else self._gate.version
        done = version == expected and (until is None or now <= until)
        if done:
            self._gate = new
        return Swapped(now + ahead, done)

    def advance(self, group: str) -> int:
        """See :class:`turnwise.storages.Storage`."""
        return self._storage.advance(group)

    def append(self, group: str, service: str, entries: Sequence[Entry]) -> None:
        """See :class:`turnwise.storages.Storage`."""
        self._storage.append(group, service, entries)

    def purge(
        self, group: str, service: str, *, before: int, keep: int, spare: Sequence[str] = ()
    ) -> None:
        """See :class:`turnwise.storages.Storage`."""
        self._storage.purge(group, service, before=before, keep=keep, spare=spare)

    def purge_runners(self, group: str, *, before: int) -> None:
        """See :class:`turnwise.storages.Storage`."""
        self._storage.purge_runners(group, before=before)
