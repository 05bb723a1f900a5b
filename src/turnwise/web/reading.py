"""What the page reads of a storage, and how often it asks."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from zlib import crc32

from turnwise.audit import Judged, Verdict
from turnwise.cycles import instant, microseconds
from turnwise.errors import TurnwiseError
from turnwise.overview.known import GroupKnown, Known, read_group
from turnwise.overview.verdicts import audited
from turnwise.storages import OfferRow, Reading, RunnerRow, Storage
from turnwise.web.kept import FRESH_SECONDS, Kept

STRIP_PERIODS = 24
"""So many periods the strip of a service has."""

_OFFERS_ARE_GOOD_FOR = 5.0
_TIMES_THEIR_COST = 20
_DEAR_SECONDS = 0.1
_STRIPS_ARE_GOOD_FOR = 10_000_000
"""Microseconds; up to twice as much, by the service's name, so that not all are made at once."""

_Print = tuple[int, frozenset[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class _Strip:
    """The verdicts of a service's last periods, and what they rest on."""

    rests_on: tuple[object, ...]
    at: int
    periods: tuple[Judged, ...]


class Reader:
    """Reads one group of a storage for all viewers. Safe to use from several threads.

    A thousand runners with a hundred services make a hundred thousand offers, which seldom change:
    they are listed anew when the group's revision or its runners' lives have changed, or after some
    seconds, and never for more than a twentieth of the time. So a runner that has just joined may
    stand there without its services for a moment.

    Args:
        storage: the storage.
        group: the group's name.
    """

    def __init__(self, storage: Storage, group: str) -> None:
        self.storage, self.group = storage, group
        self._known: Kept[GroupKnown] = Kept(1)
        self._anew: Kept[GroupKnown] = Kept(1, longest=FRESH_SECONDS)
        self._lock, self._lists = threading.Lock(), threading.Lock()
        self._offers: tuple[_Print, float, float, Sequence[OfferRow]] | None = None
        self._strips: dict[str, _Strip] = {}

    def known(self) -> GroupKnown:
        """What is known of the group: about a second old, and in a large one up to 15 seconds.

        Raises:
            StorageError: the storage does not answer.
        """
        return self._known.get("group", self._read)

    def known_anew(self) -> GroupKnown:
        """The same, offers and all, a second old at most: for who must not be told what was.

        Raises:
            StorageError: the storage does not answer.
        """
        return self._anew.get("group", lambda: read_group(self.storage, self.group))

    def strip(self, known: Known) -> tuple[Judged, ...]:
        """The verdicts on the last periods of a service, oldest first."""
        if known.planner is None or known.unreadable is not None:
            return ()
        rests_on = (known.gate, known.last_due, known.settings)
        with self._lock:
            kept = self._strips.get(known.name)
        good_for = _STRIPS_ARE_GOOD_FOR + crc32(known.name.encode()) % _STRIPS_ARE_GOOD_FOR
        if kept is not None and kept.rests_on == rests_on:
            # A period that is open may be missed as time goes by, and no record changes.
            is_settled = all(each.verdict is not Verdict.OPEN for each in kept.periods)
            if is_settled or 0 <= known.now - kept.at < good_for:
                return kept.periods
        made = audited(self.storage, known, start_of_strip(known, STRIP_PERIODS)).periods
        periods = made[-STRIP_PERIODS:]
        with self._lock:
            self._strips[known.name] = _Strip(rests_on, known.now, periods)
        return periods

    def forget(self) -> None:
        """Something was changed: read all of it anew."""
        self._known.forget()
        self._anew.forget()

    def _read(self) -> GroupKnown:
        found = read_group(self.storage, self.group, offers_of=self._offers_of)
        with self._lock:
            for gone in self._strips.keys() - {each.name for each in found.services}:
                del self._strips[gone]
        return found

    def _offers_of(self, reading: Reading, runners: Sequence[RunnerRow]) -> Sequence[OfferRow]:
        lives = frozenset((row.runner_id, row.boot_id) for row in runners)
        rests_on, now = (reading.revision, lives), time.monotonic()
        kept = self._offers
        if kept is None:
            return self._list_offers(rests_on)
        before, at, cost, offers = kept
        least = cost * _TIMES_THEIR_COST
        if before != rests_on:
            return offers if now - at < least else self._list_offers(rests_on)
        if cost < _DEAR_SECONDS and now - at >= max(least, _OFFERS_ARE_GOOD_FOR):
            return self._list_offers(rests_on)
        if now - at >= max(least, _OFFERS_ARE_GOOD_FOR) and self._lists.acquire(blocking=False):
            # Most likely nothing has changed: nobody has to wait for what is dear.
            try:
                threading.Thread(target=self._list_again, args=(rests_on,), daemon=True).start()
            except RuntimeError:  # no thread is left: the next reading may have more luck
                self._lists.release()
        return offers

    def _list_again(self, rests_on: _Print) -> None:
        try:
            with suppress(TurnwiseError):  # who reads next is told
                self._list_offers(rests_on)
        finally:
            self._lists.release()

    def _list_offers(self, rests_on: _Print) -> Sequence[OfferRow]:
        began = time.monotonic()
        offers = self.storage.offers(self.group)
        self._offers = (rests_on, began, time.monotonic() - began, offers)
        return offers


def start_of_strip(known: Known, periods: int) -> int:
    """The due instant of the period that is so many before the next one, in microseconds.

    Where a schedule is due so irregularly that they are hard to find, it is a later one.
    """
    assert known.planner is not None  # noqa: S101 (as the caller has seen)
    assert known.last_due is not None  # noqa: S101
    schedule, due = known.planner.schedule, known.last_due
    length = microseconds(schedule.period_at(instant(due)).until) - due
    dues = deque([instant(due)])
    for factor in (1, 8):
        since = instant(max(0, due - length * (periods - 1) * factor))
        # Listed, as questions backwards cost more where there is a zone.
        dues = deque(schedule.dues(since, instant(due + 1)), maxlen=periods)
        if len(dues) == periods:
            break
    return microseconds(dues[0])
