"""Answers that are kept for a moment, so that a hundred viewers cost the storage one reading.

Rules
-----
1. **One at a time.** However many ask for the same thing at once, one of them works it out.
2. **A second, or longer where it is dear.** An answer is as good as new for a second, or ten times
   as long as it took to work out, where that is longer, but for ten seconds at most. Where
   ``longest`` is given, it is never longer than that.
3. **Nobody waits for what is dear, while somebody looks.** An answer that was dear, and is older
   than that, is given once more, and a thread of its own works out the next one; but not one that
   is older than 15 seconds. Where ``longest`` is given, nothing is given once more.
4. **A change is seen.** After :meth:`Kept.forget` no answer is given that was begun before it.
5. **What is older is given by** :meth:`Kept.last` **alone, with its age**: who shows it says so.

No thread is there before somebody asks, so that a program may fork before that.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from turnwise.errors import StorageError

FRESH_SECONDS = 1.0
_TIMES_ITS_COST = 10
_LONGEST_FRESH_SECONDS = 10.0
_OLDEST_SECONDS = 15.0
_DEAR_SECONDS = 0.1
_PATIENCE_SECONDS = 15.0
_MOST_THREADS = 8

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Last(Generic[T]):
    """What was worked out last: how long ago that was begun, and how long it took, in seconds.

    ``is_current`` says that rules 2 and 3 allow it to be given as it is.
    """

    value: T
    age: float
    cost: float
    is_current: bool


@dataclass(frozen=True, slots=True)
class _Answer(Generic[T]):
    """What was worked out; ``began`` on the monotonic clock, ``cost`` in seconds."""

    value: T
    began: float
    cost: float


@dataclass(slots=True)
class _Place(Generic[T]):
    """One thing that is asked for; ``work`` is there while somebody works it out."""

    answer: _Answer[T] | None = None
    work: "Future[T] | None" = None


class Kept(Generic[T]):
    """Answers by key, of which the least recently asked for are forgotten first.

    Safe to use from several threads.

    Args:
        most: so many answers are kept.
        longest: the age in seconds up to which an answer is as good as new; None as rule 2 says.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        most: int = 64,
        *,
        longest: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._longest, self._clock = most, longest, clock
        self._lock = threading.Lock()
        self._places: OrderedDict[Hashable, _Place[T]] = OrderedDict()
        self._threads = threading.BoundedSemaphore(_MOST_THREADS)

    def at_hand(self, key: Hashable) -> T | None:
        """The answer, where it is as good as new: for who must not wait."""
        with self._lock:
            place = self._places.get(key)
            answer = None if place is None else place.answer
        return answer.value if answer is not None and self._is_fresh(answer) else None

    def last(self, key: Hashable) -> Last[T] | None:
        """The last answer, however old it is; None where there is none, or it was forgotten."""
        with self._lock:
            place = self._places.get(key)
            answer = None if place is None else place.answer
        if answer is None:
            return None
        is_current = self._is_fresh(answer) or self._may_be_given_once_more(answer)
        return Last(answer.value, self._clock() - answer.began, answer.cost, is_current)

    def get(self, key: Hashable, work_out: Callable[[], T]) -> T:
        """The answer: one that is kept, or else a new one, for which this thread waits.

        Args:
            key: what is asked for.
            work_out: works it out; may block.

        Raises:
            StorageError: somebody else has been working it out for 15 seconds.
            Exception: what ``work_out`` raises.
        """
        last = self.last(key)
        if last is not None and last.is_current:
            self.begin(key, work_out)
            return last.value
        place, work, is_mine = self._claimed(key)
        if is_mine:
            self._work(place, work, work_out)
        try:
            return work.result(_PATIENCE_SECONDS)
        except TimeoutError:
            if work.done():
                raise  # it was raised by work_out
            raise StorageError("the storage has not answered for 15 seconds") from None

    def begin(self, key: Hashable, work_out: Callable[[], T]) -> "Future[T] | None":
        """Have the answer worked out by a thread, unless it is as good as new; wait for nothing.

        Args:
            key: what is asked for.
            work_out: works it out; may block.

        Returns:
            What will have the answer, or what ``work_out`` raised; None where no thread is to be
            had for it now.
        """
        place, work, is_mine = self._claimed(key)
        if not is_mine:
            return work
        if not self._threads.acquire(blocking=False):
            self._give_up(place, work)
            return None

        def run() -> None:
            try:
                self._work(place, work, work_out)
            finally:
                self._threads.release()

        try:
            threading.Thread(target=run, name="turnwise-page", daemon=True).start()
        except RuntimeError:  # no thread is left: who asks later has more luck
            self._threads.release()
            self._give_up(place, work)
            return None
        return work

    def forget(self) -> None:
        """Forget every answer, and whatever is being worked out now."""
        with self._lock:
            self._places.clear()

    def _is_fresh(self, answer: _Answer[T]) -> bool:
        good_for = max(FRESH_SECONDS, min(answer.cost * _TIMES_ITS_COST, _LONGEST_FRESH_SECONDS))
        if self._longest is not None:
            good_for = min(good_for, self._longest)
        return self._clock() - answer.began < good_for

    def _may_be_given_once_more(self, answer: _Answer[T]) -> bool:
        if self._longest is not None:
            return False
        return answer.cost > _DEAR_SECONDS and self._clock() - answer.began < _OLDEST_SECONDS

    def _claimed(self, key: Hashable) -> tuple[_Place[T], "Future[T]", bool]:
        """The place of a key, what will have its answer, and whether the caller works it out."""
        with self._lock:
            place = self._places.setdefault(key, _Place())
            self._places.move_to_end(key)
            while len(self._places) > self._most:
                self._places.popitem(last=False)
            if place.work is not None:
                return place, place.work, False
            work: Future[T] = Future()
            if place.answer is not None and self._is_fresh(place.answer):
                work.set_result(place.answer.value)
                return place, work, False
            place.work = work
            return place, work, True

    def _work(self, place: _Place[T], work: "Future[T]", work_out: Callable[[], T]) -> None:
        """Work it out, and tell all who wait for it."""
        began = self._clock()
        try:
            answer = _Answer(work_out(), began, self._clock() - began)
        except BaseException as error:  # noqa: BLE001 (whoever waits for it raises it)
            with self._lock:
                # The old one must not look as if it held.
                place.answer, place.work = None, None
            work.set_exception(error)
        else:
            with self._lock:
                place.answer, place.work = answer, None
            work.set_result(answer.value)

    def _give_up(self, place: _Place[T], work: "Future[T]") -> None:
        """Nobody works it out after all."""
        with self._lock:
            place.work = None
        work.set_exception(StorageError("no thread is left to ask the storage"))
