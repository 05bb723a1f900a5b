"""A process's link to the storage: what is on its way, what gets lost, and what is late.

A request is on its way for a while, may get lost with or without effect, and may be late. So may
its answer. Where nothing is wrong and messages take no time, it is answered at once.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from turnwise.actions import Failed, Request, Swap
from turnwise.simulation.trouble import Trouble
from turnwise.simulation.world import World
from turnwise.storages import Beat


@dataclass(frozen=True, slots=True)
class Leave:
    """The request of a process that leaves: the storage's ``leave``.

    Where its going leaves a gap, ``advance`` follows.
    """

    gap: bool


Message = Request | Beat | Leave
"""What a process asks of the storage."""


class End(Protocol):
    """The process at the end of a link. ``who`` is which part of it asks; None for all of it."""

    def act(self, who: Any, request: Message, *, is_heard: bool = True) -> Any:
        """Carry a request out; ``is_heard`` says that its answer can still arrive."""

    def answered(self, message: tuple[Any, Message, Any]) -> None:
        """An answer comes back: who asked, what, and the answer."""


class Link:
    """One process's link.

    Args:
        world: where it is.
        end: the process.
        trouble: when something is wrong with the process.

    Attributes:
        cut_off_until: until when the storage does not answer.
        held_until: until when requests that are on their way do not leave.
        lost_request_until: until when requests are lost, and have no effect.
        lost_reply: until when answers are lost, and how late such a request takes effect.
        late_commit: until when heartbeats are seen late by others, and by how much at most.
        loses_next_acknowledgement: whether the answer to the next swap is lost.
    """

    def __init__(self, world: World, end: End, trouble: Trouble) -> None:
        self._world, self._end, self._trouble = world, end, trouble
        self._troubled_until = 0
        self.cut_off_until = 0
        self.held_until = 0
        self.lost_request_until = 0
        self.lost_reply: tuple[int, int] = (0, 0)
        self.late_commit: tuple[int, int] = (0, 0)
        self.loses_next_acknowledgement = False

    def disturb(self, until: int) -> None:
        """Something is wrong with this link until ``until``."""
        self._trouble.add(self._world.now, until)
        self._troubled_until = max(self._troubled_until, until)

    def ask(self, who: Any, request: Message) -> Any:
        """Ask the storage: the answer, or None where it comes later."""
        world, now = self._world, self._world.now
        world.asked[type(request).__name__] += 1
        if (
            world.is_instant
            and now >= self._troubled_until
            and now >= world.troubled_until
            and not self.loses_next_acknowledgement
        ):
            return self._end.act(who, request)
        if self._is_unreachable():
            self._answer_later(who, request, Failed("no connection"))
        else:
            world.at(now + world.travel_time(), self._arrives, (who, request), changes=False)
        return None

    def received(self, answer: Any) -> Any:
        """What a process receives of an answer that comes back now."""
        if self._is_unreachable() and not isinstance(answer, Failed):
            return Failed("the answer was lost")
        return answer

    def _is_unreachable(self) -> bool:
        now = self._world.now
        return now < self._world.down_until or now < self.cut_off_until

    def _arrives(self, sent: tuple[Any, Message]) -> None:
        """A request arrives at the storage, or does not."""
        who, request = sent
        world, now = self._world, self._world.now
        if now < self.held_until:
            world.at(self.held_until, self._arrives, sent, changes=False)
            return
        if self._is_unreachable() or now < self.lost_request_until:
            self._answer_later(who, request, Failed("the request was lost"))
            return
        if self._answer_is_lost(request):
            until, delay = self.lost_reply
            world.at(now + (delay if now < until else 0), self._act_unheard, sent)
            self._answer_later(who, request, Failed("the answer was lost"))
            return
        until, most = self.late_commit
        if now < until and isinstance(request, Beat):
            late = now + 1 + int(world.network_random() * most)
            world.at(late, self._act_late, (who, request, now))
            return
        self._answer_later(who, request, self._end.act(who, request))

    def _answer_is_lost(self, request: Message) -> bool:
        if self.loses_next_acknowledgement and isinstance(request, Swap):
            self.loses_next_acknowledgement = False
            self._trouble.add(self._world.now, self._world.now)
            return True
        return self._world.now < self.lost_reply[0]

    def _act_unheard(self, sent: tuple[Any, Message]) -> None:
        self._end.act(*sent, is_heard=False)

    def _act_late(self, sent: tuple[Any, Message, int]) -> None:
        """Write with the time of arrival, in the storage's clock, what is seen only now."""
        who, request, arrived = sent
        late = self._world.now - arrived
        self._world.base -= late
        try:
            answer = self._end.act(who, request)
        finally:
            self._world.base += late
        self._answer_later(who, request, answer)

    def _answer_later(self, who: Any, request: Message, answer: Any) -> None:
        world = self._world
        back = who, request, answer
        world.at(world.now + world.travel_time(), self._end.answered, back, changes=False)
