"""What a process asks the storage, and what it tells its machines and the observers of the answers.

The threads of an engine ask, and so does a process in virtual time. A storage that raises what it
must not is away, too: what it said is logged once.
"""

import logging
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from turnwise.actions import Answer, Failed, FindStable, Look, NotSent, Request
from turnwise.drive import OPERATIONS, carry_out, seen
from turnwise.errors import SchemaError, StorageError
from turnwise.events import RunnerLeft, StorageAsked
from turnwise.heartbeat import Heartbeat
from turnwise.scheduler.at_work import Service
from turnwise.scheduler.link import HEARTBEATS, READS, WRITES, Link, lane_of
from turnwise.scheduler.services import Services
from turnwise.storages import Storage, Swapped

_log = logging.getLogger("turnwise.scheduler.asking")
_T = TypeVar("_T")


class Asking:
    """The requests of one process. Times are microseconds on the monotonic clock.

    Args:
        services: whose machines ask.
        group: the group's name.
        runner_id: the runner.
        boot_id: this life of it.
        reach: gives the storage; it may raise what a storage does that is away.
        monotonic: gives microseconds that only grow.

    Attributes:
        link: whether the storage answers.
        heart: the heartbeat; None before there is a service.
    """

    def __init__(
        self,
        services: Services,
        *,
        group: str,
        runner_id: str,
        boot_id: str,
        reach: Callable[[], Storage],
        monotonic: Callable[[], int],
    ) -> None:
        self.link = Link(group, runner_id, monotonic())
        self.heart: Heartbeat | None = None
        self._services, self._reach, self._monotonic = services, reach, monotonic
        self._group, self._runner_id, self._boot_id = group, runner_id, boot_id

    # Heartbeats -------------------------------------------------------------------------------

    def mind(self, service: Service) -> None:
        """Heartbeats are sent as often as the service with the shortest timeout needs."""
        timeout = service.machine.heartbeat_timeout
        with self._services.lock:
            if self.heart is None:
                self.heart = Heartbeat(
                    group=self._group,
                    runner_id=self._runner_id,
                    boot_id=self._boot_id,
                    timeout=timeout,
                )
            else:
                self.heart.shorten(timeout)
            self.link.patience = 2 * self.heart.interval  # tries are one interval apart

    def beat(self, heart: Heartbeat) -> None:
        """Send a heartbeat, and tell all machines of the answer."""
        with self._services.lock:
            beat = heart.beat(self._monotonic(), self._services.runs)
        answer = self._ask(
            HEARTBEATS, "heartbeat", lambda storage: storage.heartbeat(self._group, beat)
        )
        with self._services.lock:
            heard, events = heart.receive(self._monotonic(), answer)
        self._services.tell(None, events)
        self._services.heard(heard)

    def leave(self) -> None:
        """Say that nothing of this process runs any more."""
        leaves_a_gap = self._services.leave_a_gap()
        try:
            storage = self._reach()
            storage.leave(self._group, self._runner_id, self._boot_id)
            if leaves_a_gap:
                storage.advance(self._group)
        except Exception as error:  # noqa: BLE001 (whatever it is, the program ends)
            _log.warning("runner %s could not say that it leaves: %s", self._runner_id, error)
        else:
            left = RunnerLeft(group=self._group, runner_id=self._runner_id)
            self._services.tell(None, [left])

    # What machines ask ------------------------------------------------------------------------

    def all_of(self, requests: Sequence[tuple[Service, Request]]) -> None:
        """Carry out what several machines ask: the looks in one request, the rest one by one."""
        looks = [each for each, request in requests if isinstance(request, Look)]
        for each, request in requests:
            if not isinstance(request, Look | FindStable):
                self.one(each, request)
        self._plan([each for each in requests if isinstance(each[1], FindStable)])
        if looks:
            self._look(looks)

    def one(self, service: Service, request: Request) -> Answer:
        """Carry out what a machine asks, and tell it the answer."""
        answer = self._ask(
            lane_of(request),
            OPERATIONS[type(request)],
            lambda storage: carry_out(storage, self._group, service.name, request),
        )
        self._services.answer(service, answer)
        return answer

    def _look(self, looks: Sequence[Service]) -> None:
        names = [each.name for each in looks]
        answer = self._ask(READS, "read", lambda storage: storage.read(self._group, names))
        for each in looks:
            self._services.answer(
                each, answer if isinstance(answer, Failed) else seen(answer, each.name)
            )

    def _plan(self, questions: list[tuple[Service, Request]]) -> None:
        """Ask for the sets of several services, and make the plan of each before the next one.

        Other processes may be planning the same services now. Each begins with another one; and
        who finds a plan made already looks again at what is left, in one request.
        """
        random.shuffle(questions)
        while questions:
            service, question = questions.pop()
            self.one(service, question)
            follows = self._services.next(service, self._monotonic())
            if not isinstance(follows, Request):
                continue
            answer = self.one(service, follows)
            if isinstance(answer, Swapped) and not answer.done:
                for each, _ in questions:
                    self._services.answer(each, NotSent())
                return

    def withdraw(self, service: Service) -> bool:
        """Take back the offer of a service, so that nobody plans with this runner any more.

        Returns:
            Whether it was; where it was not, try again later.
        """
        leaves_a_gap = service.machine.leaves_a_gap(self._monotonic())

        def withdraw(storage: Storage) -> None:
            storage.withdraw(self._group, self._runner_id, self._boot_id, service.name)
            if leaves_a_gap:
                storage.advance(self._group)

        return not isinstance(self._ask(WRITES, "withdraw", withdraw), Failed)

    # How ---------------------------------------------------------------------------------------

    def _ask(self, lane: str, operation: str, call: Callable[[Storage], _T]) -> _T | Failed:
        began = self._monotonic()
        answer: _T | Failed
        try:
            answer = call(self._reach())
        except Exception as error:  # noqa: BLE001 (see failed)
            answer = self.failed(lane, error)
        asked = StorageAsked(
            group=self._group,
            runner_id=self._runner_id,
            operation=operation,
            took=self._monotonic() - began,
            error=answer.error if isinstance(answer, Failed) else None,
        )
        self._services.tell(None, [asked])
        self.note(lane, answer if isinstance(answer, Failed) else None)
        return answer

    def failed(self, lane: str, error: Exception) -> Failed:
        """What a machine is told of what a storage raised."""
        if not isinstance(error, StorageError) and not self.link.fails_in(lane):
            _log.error("the storage has failed as no storage may", exc_info=error)
        return Failed(str(error) or repr(error), isinstance(error, SchemaError))

    def note(self, lane: str, failed: Failed | None) -> None:
        """One line when the storage goes, and one when it is back, whichever thread saw it."""
        error, needs_repair = (
            (None, False) if failed is None else (failed.error, failed.needs_repair)
        )
        with self._services.lock:
            events = self.link.note(lane, error, self._monotonic(), needs_repair=needs_repair)
        self._services.tell(None, events)
        if error is not None or events:
            with self._services.lock:  # or an older answer of the other thread's would count
                self._services.take_wishes(whether=not self.link.is_failing)
