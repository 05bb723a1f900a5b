"""Heartbeats that change nothing: left out, until somebody reads them or changes something.

Rules
-----
1. A process rests where its last heartbeat was answered at once, and the answer was no news and led
   to nothing. Each of the next ones would be answered as that one was, at another time.
2. That is so until something changes that the answer shows: the revision, an open run, another life
   of its id, the storage's clock, or what is wrong with somebody's link. Before it changes, each
   process at rest sends the last heartbeat that was left out, at the time at which it was due. Then
   it sends the ones that come.
3. Somebody reads when the others were last heard of: who plans, and who purges. Before that, too,
   each sends the last one that was left out, and goes on to rest.
4. Those that are left out count. So the result is the same as with each of them played, but for
   the order of what several processes do at one and the same microsecond, such as when all wake.

The gate decides on the open runs, so that nobody rests while there is one that it is shown.
"""

from operator import itemgetter
from typing import Final, Protocol

from turnwise.actions import Append, FindStable, ListOffers, Look, Purge, Swap
from turnwise.storages import Beat, Kind

# Requests that neither read what a heartbeat writes nor change what its answer shows; and those
# that read it. Those that are not named here may change it.
_APART: Final = frozenset({Look, ListOffers, Append})
_READS: Final = frozenset({FindStable, Purge})


class Resting(Protocol):
    """Whose heartbeats can be left out."""

    def leave_out(self, until: int) -> int | None:
        """Leave out, and count, what is due before ``until``; when the last of them was due.

        None where none was left out since it was last heard of.
        """

    def play_last(self) -> None:
        """Send the last heartbeat that was left out, now that its time is set."""

    def go_on(self) -> None:
        """Send the heartbeats that come."""


class Clock(Protocol):
    """Where the time stands; it is set back while a heartbeat that was left out is played."""

    now: int


class Rest:
    """Those of one play who rest. See the module."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._resting: dict[Resting, None] = {}

    def begin(self, process: Resting) -> bool:
        """Have a process send no heartbeats until further notice; whether it is so."""
        self._resting[process] = None
        return True

    def end(self, process: Resting) -> None:
        """A process has something of its own to do: it sends the heartbeats that come."""
        self._resting.pop(process, None)
        process.go_on()

    def count(self, until: int) -> None:
        """Count the heartbeats that were due before an instant and were left out."""
        for process in self._resting:
            process.leave_out(until)

    def before(self, request: object, *, is_known: bool) -> bool:
        """A request is about to be carried out: does it disturb those at rest?

        Args:
            request: what a process asks of the storage.
            is_known: whether the process lives, and has joined.
        """
        kind = type(request)
        if kind in _APART:
            return False
        if isinstance(request, Beat):
            # That of one who joins shows another life of its id; that of one who has died may.
            is_apart = is_known
        elif isinstance(request, Swap):
            is_apart = request.kind is Kind.PLAN
        else:
            is_apart = kind in _READS
            if is_apart:
                self.catch_up()
        if not is_apart:
            self.disturb()
        return not is_apart

    def catch_up(self) -> None:
        """Somebody reads when processes were last heard of: play what each of them sent last."""
        now = self._clock.now
        sent = [(process.leave_out(now), process) for process in self._resting]
        owed = [(due, process) for due, process in sent if due is not None]
        for due, process in sorted(owed, key=itemgetter(0)):
            self._clock.now = due
            process.play_last()
        self._clock.now = now

    def disturb(self) -> None:
        """Something changes what the answers to heartbeats show: each process sends the next."""
        if self._resting:
            self.catch_up()
            rested = list(self._resting)
            self._resting.clear()
            for process in rested:
                process.go_on()
