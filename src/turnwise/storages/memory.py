"""A storage in the memory of one process: dicts, a lock, and a clock that may be passed in.

Rules
-----
1. Every operation holds the one lock from before it reads the clock until its answer is made. So
   each is one atomic step, and what it answers is true at its ``now``.
2. What is kept is made of values that never change; an operation replaces them. So a copy shares
   them, and costs a few shallow copies of dicts.
3. An operation looks up what it needs by its key. Only lists, purges and
   :meth:`MemoryStorage.stable` go through many rows.

Not guaranteed
--------------
Nothing outlives the process, and no other process sees it. The storage is for tests, for the
simulation, and for threads that take turns.
"""

import copy
import os
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from threading import Lock
from typing import Self
from weakref import WeakSet

from turnwise.own_process import OwnProcess
from turnwise.storages import (
    GROUP_ITSELF,
    Beat,
    Entry,
    Kind,
    Offer,
    OfferRow,
    Pulse,
    Reading,
    Record,
    RunnerRow,
    ServiceReading,
    StableSet,
    Swapped,
    runner_digest,
)
from turnwise.storages.memory_group import Group, GroupState, History

_digest = lru_cache(maxsize=10_000)(runner_digest)

_NOTHING = Group()  # what is read of a group that is not there; never written to


def _host_now() -> int:
    return time.time_ns() // 1000


class _LockOfAnotherProcess:
    """In a forked child, the lock of a storage of its parent: nobody would ever let it go."""

    def __init__(self, process: OwnProcess) -> None:
        self._process = process

    def __enter__(self) -> None:
        self._process.check()

    def __exit__(self, *_: object) -> None:
        """There was no way in."""


_all: "WeakSet[MemoryStorage]" = WeakSet()


def _disown() -> None:
    """In a forked child: what its parent made is used no more."""
    for storage in _all:
        storage._lock = _LockOfAnotherProcess(storage._process)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown)


class MemoryStorage:
    """The storage of threads of one process; see :class:`turnwise.storages.Storage`.

    Args:
        clock: gives now, in microseconds since the Unix epoch; the host's clock where it is None.
            It is called with the storage's lock held, and so must not use the storage.
    """

    def __init__(self, *, clock: Callable[[], int] | None = None) -> None:
        self._clock = clock or _host_now
        self._groups: dict[str, Group] = {}
        self._process = OwnProcess("a storage in memory")
        self._lock: Lock | _LockOfAnotherProcess = Lock()
        _all.add(self)

    def copy(self, *, clock: Callable[[], int] | None = None) -> Self:
        """A storage that holds the same, and from now on goes its own way.

        Values that never change are shared, so that a copy is cheap.

        Args:
            clock: the copy's clock; this storage's where it is None.
        """
        new = type(self)(clock=clock or self._clock)
        with self._lock:
            new._groups = {name: group.copy() for name, group in self._groups.items()}
        return new

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """A copy whose clock is the copy of this one's, so that a whole world can be copied."""
        new = self.copy(clock=copy.deepcopy(self._clock, memo))
        memo[id(self)] = new
        return new

    def state(self) -> tuple[GroupState, ...]:
        """All that is kept, by group, as one hashable value; equal where the same is kept."""
        with self._lock:
            return tuple(self._groups[name].state(name) for name in sorted(self._groups))

    def _check(self) -> None:
        """Assert the invariants. For tests."""
        with self._lock:
            for group in self._groups.values():
                group.check()
            assert _NOTHING.state("") == Group().state("")

    def _read(self, group: str) -> Group:
        """What is there of a group, to read it."""
        return self._groups.get(group, _NOTHING)

    def _write(self, group: str) -> Group:
        """What is there of a group, to change it."""
        return self._groups.get(group) or self._groups.setdefault(group, Group())

    # A process and what it offers -------------------------------------------------------------

    def heartbeat(self, group: str, beat: Beat) -> Pulse:
        """Write a heartbeat; then read."""
        with self._lock:
            now, kept = self._clock(), self._write(group)
            found = kept.beat(beat, now)
            return kept.pulse(beat, now, found=found)

    def leave(self, group: str, runner_id: str, boot_id: str) -> None:
        """Mark that a life has left; the first time counts."""
        with self._lock:
            now, kept = self._clock(), self._read(group)
            life = kept.lives.get((runner_id, boot_id))
            if life is not None and life.left_at is None:
                kept.lives[runner_id, boot_id] = life._replace(left_at=now)

    def offer(self, group: str, offer: Offer) -> int:
        """Keep an offer; answer the revision."""
        with self._lock:
            now, kept = self._clock(), self._write(group)
            kept.offer(offer, now)
            return kept.revision

    def withdraw(self, group: str, runner_id: str, boot_id: str, service: str) -> None:
        """Take an offer back."""
        with self._lock:
            self._read(group).withdraw((runner_id, boot_id), service)

    def stable(
        self,
        group: str,
        service: str,
        *,
        rotation: int,
        limit: int | None,
        among: Sequence[str] = (),
    ) -> StableSet:
        """Work out who counts for a service."""
        with self._lock:
            now = self._clock()
            members = self._read(group).stable(service, now)
        size = len(members)
        first = rotation % size if size else 0
        rotated = members[first:] + members[:first]
        ids = {runner_id for _, runner_id in members}
        return StableSet(
            now=now,
            size=size,
            digest=sum(map(_digest, ids)) % 2**48,
            runners=tuple((runner_id, joined_at) for joined_at, runner_id in rotated[:limit]),
            alive=frozenset(among) & ids,
        )

    def mark(self, group: str, runner_id: str, *, drained: bool) -> None:
        """Mark a runner id as drained, or take the mark back; advance the revision."""
        with self._lock:
            kept = self._write(group)
            kept.drained = kept.drained | {runner_id} if drained else kept.drained - {runner_id}
            kept.revision += 1

    # The records ------------------------------------------------------------------------------

    def read(self, group: str, services: Sequence[str]) -> Reading:
        """Read the records of several services."""
        with self._lock:
            now, kept = self._clock(), self._read(group)
            plans, gates = kept.records[Kind.PLAN], kept.records[Kind.GATE]
            found = {
                name: ServiceReading(plans.get(name), gates.get(name), kept.sight(name))
                for name in services
            }
            return Reading(now, kept.revision, found)

    def swap(
        self,
        group: str,
        service: str,
        kind: Kind,
        expected: str | None,
        new: Record,
        not_after: int | None = None,
    ) -> Swapped:
        """Replace a record, where its version is the expected one and it is not too late."""
        with self._lock:
            now = self._clock()
            there = self._read(group).records[kind].get(service)
            version = None if there is None else there.version
            if version != expected or (not_after is not None and now > not_after):
                return Swapped(now, done=False)
            self._write(group).put(service, kind, new)
            return Swapped(now, done=True)

    def advance(self, group: str) -> int:
        """Advance the revision; answer the new one."""
        with self._lock:
            kept = self._write(group)
            kept.revision += 1
            return kept.revision

    # History ----------------------------------------------------------------------------------

    def append(self, group: str, service: str, entries: Sequence[Entry]) -> None:
        """Keep rows of a service's history, each once."""
        if not entries:
            return
        with self._lock:
            kept = self._write(group).history.setdefault(service, History())
            for entry in entries:
                kept.add(entry)

    def history(
        self,
        group: str,
        service: str,
        *,
        since: int | None = None,
        until: int | None = None,
        last: int | None = None,
        kinds: Sequence[str] | None = None,
    ) -> tuple[Entry, ...]:
        """The kept rows in order, or a part of them."""
        with self._lock:
            kept = self._read(group).history.get(service) or History()
            start = 0 if since is None else kept.position(since)
            end = len(kept.keys) if until is None else kept.position(until)
            rows = [kept.rows[entry_id] for _, entry_id in kept.keys[start:end]]
        if kinds is not None:
            rows = [entry for entry in rows if entry.kind in kinds]
        return tuple(rows if last is None else rows[max(0, len(rows) - last) :])

    def purge(
        self, group: str, service: str, *, before: int, keep: int, spare: Sequence[str] = ()
    ) -> None:
        """Forget the rows before an instant, and all but the newest, but for those to spare."""
        with self._lock:
            history = self._read(group).history
            kept = history.get(service)
            if kept is None:
                return
            kept.forget(before, keep, frozenset(spare))
            if not kept.keys:
                del history[service]

    def purge_runners(self, group: str, *, before: int) -> None:
        """Forget the lives that were last heard of before an instant, and their offers."""
        with self._lock:
            kept = self._read(group)
            for key in [key for key, life in kept.lives.items() if life.heard_at < before]:
                kept.forget_life(key)

    # Lists, and forgetting --------------------------------------------------------------------

    def services(self, group: str) -> tuple[str, ...]:
        """The names of all services, sorted."""
        with self._lock:
            kept = self._read(group)
            names = kept.offers.keys() | kept.history.keys() - {GROUP_ITSELF}
            return tuple(sorted(names.union(*kept.records.values())))

    def runners(self, group: str) -> tuple[RunnerRow, ...]:
        """Every life that is kept, the first to join first."""
        with self._lock:
            return tuple(self._read(group).rows())

    def offers(self, group: str) -> tuple[OfferRow, ...]:
        """Every offer that is kept, by service."""
        with self._lock:
            offers = self._read(group).offers
            return tuple(rows[key] for _, rows in sorted(offers.items()) for key in sorted(rows))

    def groups(self) -> tuple[str, ...]:
        """The names of all groups with a runner, a record or a history, sorted."""
        with self._lock:
            return tuple(
                sorted(
                    name
                    for name, kept in self._groups.items()
                    if kept.lives or kept.history or any(kept.records.values())
                )
            )

    def forget_service(self, group: str, service: str) -> None:
        """Forget a service's offers, records and history."""
        with self._lock:
            kept = self._read(group)
            for key in list(kept.offers.get(service, ())):
                kept.withdraw(key, service)
            for kind in Kind:
                kept.put(service, kind, None)
            kept.history.pop(service, None)

    def forget_runner(self, group: str, runner_id: str) -> None:
        """Forget every life of a runner id, their offers, and the mark of being drained."""
        with self._lock:
            kept = self._read(group)
            of_it = [key for key in kept.lives.keys() | kept.offered.keys() if key[0] == runner_id]
            for key in of_it:
                kept.forget_life(key)
            if kept.drained:
                kept.drained -= {runner_id}

    def close(self) -> None:
        """There is nothing to let go of."""
