"""A storage of your own, on anything that keeps values with versions and compares and sets."""

# ruff: noqa: D102 (what each method does stands in the protocol)
# It is a page of a book, and short. What follows must be those two words alone.
# fmt: off

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import turnwise.storages as ts
from shelf import Shelf, of
from turnwise.errors import ForkError

T = TypeVar("T")
OF_A_SERVICE = ("offer", "plan", "gate", "row")
Kept = dict[tuple[str, ...], Any]
"""All that is kept of one group is one value: ("life", runner_id, boot_id) -> RunnerRow,
("offer", service, runner_id, boot_id) -> OfferRow, ("plan" or "gate", service) -> Record,
("row", service, id) -> Entry, ("drained", runner_id) -> bool, ("revision",) -> int."""


def grown(kept: Kept) -> int:
    """The revision, after it has grown."""
    kept["revision",] += 1
    return int(kept["revision",])


def sight(kept: Kept, service: str) -> ts.Sight | None:
    """The open run of a service, and what its owner last said of it."""
    gate = kept.get(("gate", service))
    if gate is None or gate.owner is None:
        return None
    life = kept.get(("life", gate.owner.runner_id, gate.owner.boot_id))
    word = life and (life.count if gate.owner.run_id in life.runs else 0)
    return ts.Sight(gate.owner, word, left=bool(life and life.left_at is not None))


class ShelfStorage:
    """Reads a group's value; to change it, it puts another one where nobody else has."""

    def __init__(self, shelf: Shelf[Kept]) -> None:
        self._shelf, self._pid = shelf, os.getpid()

    def _read(self, group: str) -> tuple[int, int, Kept]:
        if os.getpid() != self._pid:
            raise ForkError("this storage was opened before the fork: open one after it")
        now = self._shelf.now()  # before the rows
        version, kept = self._shelf.get(group)
        return now, version, dict(kept or {("revision",): 0})

    def _change(self, group: str, change: Callable[[Kept, int], T]) -> T:
        while True:
            now, version, kept = self._read(group)
            answer = change(kept, now)
            if self._shelf.put(group, version, kept)[1]:
                return answer

    def _forget(self, group: str, gone: Callable[[Kept, tuple[str, ...]], object]) -> None:
        def change(kept: Kept, _: int) -> None:
            for key in [key for key in kept if gone(kept, key)]:
                del kept[key]
        self._change(group, change)

    def heartbeat(self, group: str, beat: ts.Beat) -> ts.Pulse:
        me = (beat.runner_id, beat.boot_id)
        def change(kept: Kept, now: int) -> ts.Pulse:
            before, mine = kept.get(("life", *me)), of(kept, "life", beat.runner_id)
            if before is None or (before.left_at is None and beat.count > before.count):
                joined = min((one.joined_at for one in mine), default=now)
                kept["life", *me] = ts.RunnerRow(*me, joined, now, None, beat.count,
                                                 beat.heartbeat_timeout, beat.runs, drained=False)
            runs = frozenset(gate.owner.run_id for gate in of(kept, "gate") if gate.owner)
            offered = {key[1] for key in kept if key[0] == "offer" and key[2:] == me}
            return ts.Pulse(
                now, kept["revision",], found=before is not None,
                left=kept["life", *me].left_at is not None,
                drained=kept.get(("drained", me[0]), False), open_runs=runs & frozenset(beat.runs),
                sights={name: seen for name in offered if (seen := sight(kept, name))},
                others=tuple((one.boot_id, one.count) for one in mine
                             if one.left_at is None and one.boot_id != beat.boot_id))
        return self._change(group, change)

    def leave(self, group: str, runner_id: str, boot_id: str) -> None:
        def change(kept: Kept, now: int) -> None:
            life = kept.get(("life", runner_id, boot_id))
            if life and life.left_at is None:
                kept["life", runner_id, boot_id] = replace(life, left_at=now)
        self._change(group, change)

    def offer(self, group: str, offer: ts.Offer) -> int:
        key = ("offer", offer.service, offer.runner_id, offer.boot_id)
        def change(kept: Kept, now: int) -> int:
            before = kept.pop(key, None)
            others = {row.offer.settings for row in of(kept, "offer", offer.service)}
            kept[key] = before if before and before.offer == offer else ts.OfferRow(offer, now)
            return int(kept["revision",]) if offer.settings in others else grown(kept)
        return self._change(group, change)

    def withdraw(self, group: str, runner_id: str, boot_id: str, service: str) -> None:
        self._forget(group, lambda _, key: key == ("offer", service, runner_id, boot_id))

    def stable(self, group: str, service: str, *, rotation: int, limit: int | None,
               among: Sequence[str] = ()) -> ts.StableSet:
        now, _, kept = self._read(group)
        joined: dict[str, int] = {}
        for one in (row.offer for row in of(kept, "offer", service) if row.offer.may_run):
            life = kept.get(("life", one.runner_id, one.boot_id))
            if life and life.left_at is None and not kept.get(("drained", one.runner_id)) \
                    and 0 <= now - life.heard_at <= one.heartbeat_timeout:
                joined[one.runner_id] = life.joined_at
        ids = sorted(joined, key=lambda runner_id: (joined[runner_id], runner_id))
        first = rotation % max(1, len(ids))
        return ts.StableSet(
            now, len(ids), sum(map(ts.runner_digest, ids)) % 2**48,
            tuple((one, joined[one]) for one in (ids[first:] + ids[:first])[:limit]),
            frozenset(among).intersection(ids))

    def mark(self, group: str, runner_id: str, *, drained: bool) -> None:
        def change(kept: Kept, _: int) -> None:
            kept["drained", runner_id] = drained
            grown(kept)
        self._change(group, change)

    def read(self, group: str, services: Sequence[str]) -> ts.Reading:
        now, _, kept = self._read(group)
        return ts.Reading(now, kept["revision",], {
            name: ts.ServiceReading(kept.get(("plan", name)), kept.get(("gate", name)),
                                    sight(kept, name)) for name in services})

    def swap(self, group: str, service: str, kind: ts.Kind, expected: str | None, new: ts.Record,
             not_after: int | None = None) -> ts.Swapped:
        while True:
            now, version, kept = self._read(group)
            if getattr(kept.get((kind, service)), "version", None) != expected:
                return ts.Swapped(now, done=False)
            now, done = self._shelf.put(group, version, {**kept, (kind, service): new}, not_after)
            if done or (not_after is not None and now > not_after):
                return ts.Swapped(now, done)

    def advance(self, group: str) -> int:
        return self._change(group, lambda kept, _: grown(kept))

    def append(self, group: str, service: str, entries: Sequence[ts.Entry]) -> None:
        self._change(group, lambda kept, _: [
            kept.setdefault(("row", service, entry.id), entry) for entry in entries])

    def history(self, group: str, service: str, *, since: int | None = None,
                until: int | None = None, last: int | None = None,
                kinds: Sequence[str] | None = None) -> tuple[ts.Entry, ...]:
        rows = sorted((row for row in of(self._read(group)[2], "row", service)
                       if (since is None or row.at >= since) and (until is None or row.at < until)
                       and (kinds is None or row.kind in kinds)), key=lambda row: (row.at, row.id))
        return tuple(rows if last is None else rows[max(0, len(rows) - last):])

    def purge(self, group: str, service: str, *, before: int, keep: int,
              spare: Sequence[str] = ()) -> None:
        def change(kept: Kept, _: int) -> None:
            rows = sorted((row for row in of(kept, "row", service) if row.kind not in spare),
                          key=lambda row: (row.at, row.id))
            for row in rows[:max(0, len(rows) - keep)] + [row for row in rows if row.at < before]:
                kept.pop(("row", service, row.id), None)
        self._change(group, change)

    def purge_runners(self, group: str, *, before: int) -> None:
        def old(kept: Kept, key: tuple[str, ...]) -> bool:
            life = kept.get(("life", *key[-2:])) if key[0] in ("life", "offer") else None
            return life is not None and life.heard_at < before
        self._forget(group, old)

    def services(self, group: str) -> tuple[str, ...]:
        return tuple(sorted({k[1] for k in self._read(group)[2] if k[0] in OF_A_SERVICE and k[1]}))

    def runners(self, group: str) -> tuple[ts.RunnerRow, ...]:
        kept = self._read(group)[2]
        rows = [replace(r, drained=kept.get(("drained", r.runner_id), False))
                for r in of(kept, "life")]
        return tuple(sorted(rows, key=lambda row: (row.joined_at, row.runner_id, row.boot_id)))

    def offers(self, group: str) -> tuple[ts.OfferRow, ...]:
        return tuple(row for key, row in sorted(self._read(group)[2].items()) if key[0] == "offer")

    def groups(self) -> tuple[str, ...]:
        return tuple(group for group in sorted(self._shelf.keys())
                     if {"life", "plan", "gate", "row"} & {key[0] for key in self._read(group)[2]})

    def forget_service(self, group: str, service: str) -> None:
        self._forget(group, lambda _, key: key[0] in OF_A_SERVICE and key[1] == service)

    def forget_runner(self, group: str, runner_id: str) -> None:
        self._forget(group, lambda _, key: key[:2] in (("life", runner_id), ("drained", runner_id))
                     or (key[0] == "offer" and key[2] == runner_id))

    def close(self) -> None: ...
