"""Answers that are kept for a moment, so that a hundred viewers cost the storage one reading.

Rules
-----
1. **One at a time.** However many ask for the same thing at once, one of them works it out.
2. **A second, or longer where it is dear.** An answer is as good as new for a second, or ten times
   as long as it took to work out, where that is longer, but for ten seconds at most.
3. **Nobody waits for what is dear, while somebody looks.** An answer that was dear, and is older
   than that, is given once more, and a thread of its own works out the next one; but not one that
   is older than 15 seconds.
4. **A change is seen.** After :meth:`Kept.forget` no answer is given that was begun before it.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from turnwise.errors import StorageError

FRESH_SECONDS = 1.0
_TIMES_ITS_COST = 10
_LONGEST_FRESH_SECONDS = 10.0
_OLDEST_SECONDS = 15.0
_DEAR_SECONDS = 0.1
_PATIENCE_SECONDS = 15.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Answer(Generic[T]):
    """What was worked out; ``began`` on the monotonic clock, ``cost`` in seconds."""

    value: T
    began: float
    cost: float

    def is_fresh(self, now: float) -> bool:
        dear = min(self.cost * _TIMES_ITS_COST, _LONGEST_FRESH_SECONDS)
        return now - self.began < max(FRESH_SECONDS, dear)

    def may_be_given_once_more(self, now: float) -> bool:
        return self.cost > _DEAR_SECONDS and now - self.began < _OLDEST_SECONDS


@dataclass(slots=True)
class _Place(Generic[T]):
    """One thing that is asked for. ``lock`` is held by who works it out."""

    answer: _Answer[T] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Kept(Generic[T]):
    """Answers by key, of which the least recently asked for are forgotten first.

    Safe to use from several threads.

    Args:
        most: so many answers are kept.
        clock: monotonic seconds.
    """

    def __init__(self, most: int = 64, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._lock = threading.Lock()
        self._places: OrderedDict[Hashable, _Place[T]] = OrderedDict()

    def at_hand(self, key: Hashable) -> T | None:
        """The answer, where it is as good as new: for who must not wait."""
        with self._lock:
            place = self._places.get(key)
            answer = None if place is None else place.answer
        if answer is not None and answer.is_fresh(self._clock()):
            return answer.value
        return None

    def get(self, key: Hashable, work_out: Callable[[], T]) -> T:
        """The answer: one that is kept, or else a new one.

        Args:
            key: what is asked for.
            work_out: works it out; may block.

        Raises:
            StorageError: somebody else has been working it out for 15 seconds.
            Exception: what ``work_out`` raises.
        """
        place = self._place(key)
        now, answer = self._clock(), place.answer
        if answer is not None and answer.is_fresh(now):
            return answer.value
        if answer is not None and answer.may_be_given_once_more(now):
            self._renew(place, work_out)
            return answer.value
        if not place.lock.acquire(timeout=_PATIENCE_SECONDS):
            raise StorageError("the storage has not answered for 15 seconds")
        try:
            answer = place.answer
            if answer is None or not answer.is_fresh(self._clock()):
                answer = self._worked_out(place, work_out)
            return answer.value
        finally:
            place.lock.release()

    def forget(self) -> None:
        """Forget every answer, and whatever is being worked out now."""
        with self._lock:
            self._places.clear()

    def _place(self, key: Hashable) -> _Place[T]:
        with self._lock:
            place = self._places.setdefault(key, _Place())
            self._places.move_to_end(key)
            while len(self._places) > self._most:
                self._places.popitem(last=False)
            return place

    def _worked_out(self, place: _Place[T], work_out: Callable[[], T]) -> _Answer[T]:
        began = self._clock()
        place.answer = None  # should it fail, the old one must not look as if it held
        answer = _Answer(work_out(), began, self._clock() - began)
        place.answer = answer
        return answer

    def _renew(self, place: _Place[T], work_out: Callable[[], T]) -> None:
        """Have it worked out anew by a thread, unless somebody does so."""

        def renew() -> None:
            began = self._clock()
            try:
                value = work_out()
                place.answer = _Answer(value, began, self._clock() - began)
            except Exception:  # noqa: BLE001 (who asks next works it out, and is told)
                place.answer = None
            finally:
                place.lock.release()

        if place.lock.acquire(blocking=False):
            try:
                threading.Thread(target=renew, name="turnwise-page", daemon=True).start()
            except RuntimeError:  # no thread is left: who asks later has more luck
                place.lock.release()
