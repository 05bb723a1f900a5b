"""A connection that is kept open, and that threads take turns at.

What goes wrong in it is one of a few things (:class:`Outcome`), and the :class:`Line` acts on which
one it is. Nothing leaves it but a :class:`~turnwise.errors.StorageError` of one line.
"""

import random
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from turnwise.errors import StorageError
from turnwise.own_process import OwnProcess
from turnwise.storages.sql.address import Address
from turnwise.storages.sql.statements import Statement, Value

CONNECT_SECONDS = 5.0
"""How long opening a connection may take."""
ANSWER_SECONDS = 10.0
"""How long a server may take to answer a statement, before it is cancelled."""
CANCEL_SECONDS = 2.0
"""How long cancelling may take."""

_TRIES = 10
_BETWEEN_TRIES_SECONDS = 0.05


class Outcome(StrEnum):
    """What became of a statement that failed."""

    UNDONE = "undone"
    """The database says that it did nothing, as it does to end a deadlock: do it again."""
    WRONG_SERVER = "wrong server"
    """This server may not write, and did nothing: connect anew, and do it again."""
    LOST = "lost"
    """The connection is gone, and what was done is not known: connect anew."""
    GIVEN_UP = "given up"
    """The answer is overdue, and it is still being worked on: cancel it, and connect anew."""
    LOCKED = "locked"
    """Somebody else's transaction has locked it, and nothing was done: another time."""
    REFUSED = "refused"
    """The database has answered with an error, and will again."""


class Failure(Exception):  # noqa: N818 (it never leaves this package)
    """A statement failed; the first line of the message says why."""

    def __init__(self, message: object, outcome: Outcome = Outcome.REFUSED) -> None:
        text = str(message).strip() or type(message).__name__
        super().__init__(text.splitlines()[0])
        self.outcome = outcome


class LockedError(StorageError):
    """Somebody else's transaction has locked what an operation is about; nothing was done."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes of a statement: its rows, and how many it changed.

    ``number`` is what MySQL tells beside them; ``now`` is the host's clock, where the statement
    was handed it.
    """

    rows: list[tuple[Any, ...]]
    changed: int = 0
    number: int = 0
    now: int = 0


class Session:
    """One connection to one kind of database. Whatever fails in it is a :class:`Failure`.

    What a server need not be told stands here: there each statement is a transaction by itself.
    """

    raw: Any
    """The driver's own connection."""

    def execute(self, statement: Statement, values: list[str | int | None]) -> Answer:
        """Execute a statement, which is a transaction unless :meth:`begin` has begun one."""
        raise NotImplementedError

    def check(self, shown: str) -> None:
        """Make it ready; refuse a database that the storage's promises cannot rest on."""
        raise NotImplementedError

    def begin(self, *, durable: bool, patient: bool) -> None:
        """Begin a transaction that writes, where several statements of ours are to be one.

        ``patient`` says whether to wait long for others that write.
        """

    def end(self, *, keep: bool) -> None:
        """End that transaction: keep what it wrote, or undo it."""

    def is_usable(self) -> bool:
        """Whether it may be used, as far as can be told without asking the server."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Have the server end what is still going on; the session is closed next. No error."""

    def interrupt(self) -> None:
        """End, from another thread, whatever waits for an answer in this one. No error."""

    def close(self) -> None:
        """Close it. No error."""
        raise NotImplementedError


def is_silent(descriptor: int) -> bool:
    """Whether an idle server has said nothing: where there is something to read, it is goodbye."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return not poll.poll(0)


class Driver:
    """Opens connections to the database of one address."""

    placeholder: str
    """What stands for a value in a statement."""

    def __init__(self, address: Address) -> None:
        self.shown = address.shown

    def connect(self) -> Session:
        """Open a connection that is ready."""
        session = self.open()
        try:
            session.check(self.shown)
        except BaseException:
            session.close()
            raise
        return session

    def open(self) -> Session:
        """Open a connection, of which nothing is known yet."""
        raise NotImplementedError


class Line:
    """One connection behind a lock, opened when it is needed and kept.

    Args:
        connect: opens one, or raises a :class:`Failure`.
        address: names the storage in errors, and what must not show in them.
        process: the process that may use it.
        host_clock: gives ``:now``, where a statement has it.
    """

    def __init__(
        self,
        connect: Callable[[], Session],
        address: Address,
        process: OwnProcess,
        host_clock: Callable[[], int] | None = None,
    ) -> None:
        self._connect, self._shown, self._secret = connect, address.shown, address.password
        self._process, self._host_clock = process, host_clock
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._closed = False

    @contextmanager
    def taken(
        self, *, writes: bool = True, durable: bool = True, patient: bool = True
    ) -> Iterator["Line"]:
        """Have the connection for one operation.

        Where the database is a file, all that is written meanwhile is one transaction. On a
        server each statement is one, and none waits for this process between two.

        Raises:
            LockedError: somebody else's transaction has locked what it is about.
            StorageError: what failed in it.
            ForkError: the storage came into this process by a fork.
        """
        self._process.check()
        if not self._lock.acquire(timeout=CONNECT_SECONDS + ANSWER_SECONDS + CANCEL_SECONDS):
            raise StorageError(f"{self._shown}: other threads have not finished with it")
        try:
            session = self.session()
            if not writes:
                yield self
                return
            session.begin(durable=durable, patient=patient)
            try:
                yield self
            except BaseException:
                session.end(keep=False)
                raise
            session.end(keep=True)
        except Failure as failure:
            if failure.outcome not in (Outcome.REFUSED, Outcome.UNDONE, Outcome.LOCKED):
                self._drop(cancel=failure.outcome is Outcome.GIVEN_UP)
            said = str(failure)
            if self._secret:
                said = said.replace(self._secret, "***")
            kind = LockedError if failure.outcome is Outcome.LOCKED else StorageError
            raise kind(f"{self._shown}: {said}") from None
        except StorageError:
            raise
        except BaseException:
            # Interrupted, perhaps between a statement and its answer.
            self._drop(cancel=True)
            raise
        finally:
            self._lock.release()

    def execute(self, statement: Statement, values: Mapping[str, Value]) -> Answer:
        """Execute a statement; again where it is known that nothing was done, or where it reads.

        Raises:
            Failure: it could not be carried out.
        """
        for tries in range(1, _TRIES + 1):
            try:
                return self._once(statement, values)
            except Failure as failure:
                if failure.outcome is Outcome.UNDONE and tries < _TRIES:
                    # Of those that were locked with each other, one shall be first.
                    time.sleep(random.uniform(0, _BETWEEN_TRIES_SECONDS))  # noqa: S311 (no secret)
                elif tries == 1 and (
                    failure.outcome is Outcome.WRONG_SERVER
                    or (failure.outcome is Outcome.LOST and statement.reads)
                ):
                    self._drop()
                else:
                    raise
        raise AssertionError  # the last try returns or raises

    def _once(self, statement: Statement, values: Mapping[str, Value]) -> Answer:
        session = self._session or self.session()  # which was looked at as it was taken
        if self._host_clock is None or not statement.reads_host_clock:
            return session.execute(statement, statement.arguments(values))
        now = self._host_clock()
        answer = session.execute(statement, statement.arguments({**values, "now": now}))
        return replace(answer, now=now)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._session is not None

    def session(self) -> Session:
        """The connection: the one that is open and may be used, or else a new one."""
        if self._session is not None and not self._session.is_usable():
            self._drop()
        if self._session is None:
            if self._closed:
                raise Failure("the storage is closed")
            self._session = self._connect()
        return self._session

    def close(self) -> None:
        """Close the connection, if this process opened it; nothing can be done with it then."""
        if not self._process.is_this():
            if self._session is not None:
                _of_the_parent.append(self._session)
            return
        with self._lock:
            self._closed = True
            self._drop()

    def _drop(self, *, cancel: bool = False) -> None:
        session, self._session = self._session, None
        if session is not None:
            if cancel:
                session.cancel()
            session.close()


_of_the_parent: list[Session] = []
"""Connections that came by a fork: to close them would end them for the parent as well."""
