"""What a storage must do: few operations, each atomic, none that knows a rule.

What a storage is
-----------------
A storage keeps, for each *group* of programs:

- **runners**: one row for each life of a process, ``(runner_id, boot_id)``;
- **offers**: one row for each service that such a life offers;
- **records**: for each service a *plan* and a *gate*, each an opaque text with a version;
- **history**: for each service rows that are appended, listed and purged;
- the history of the **group itself**, under the empty name, which is no service's;
- a **revision**: a number that grows whenever everybody shall look again.

Rules that a storage must keep
------------------------------
1. **One clock.** Every answer carries ``now``, the storage's own clock in microseconds since the
   Unix epoch. Where an operation reads rows and the clock, it reads the clock *first*: a reader
   that is stopped between the two must not take the living for silent.
2. **Compare and set.** :meth:`Storage.swap` replaces a record only where its version is still the
   expected one and ``now``, read once the record is locked, is not beyond ``not_after``. It is one
   atomic step that waits for no client.
3. **Counts only grow.** A heartbeat changes its row only with a larger count than the row has, so
   that a late request cannot undo a newer one. A heartbeat never undoes a leave.
4. **Write, then read.** A heartbeat's write is done before its answer is read.
5. **What was acknowledged stays.** A swap is durable when it is answered, and so is a heartbeat
   that names a run. Heartbeats that name none need not wait for the disk.
6. **An error is no answer.** An operation that cannot be carried out raises
   :class:`~turnwise.errors.StorageError`; nothing else leaves a storage but
   :class:`~turnwise.errors.ForkError`, for one that came into this process by a fork.

All that *decides* about a service stands in :mod:`turnwise.plan` and :mod:`turnwise.gate`, as
pure functions on the two records. A storage does not read the text of a record. So that a
heartbeat can answer with the open runs, a record says beside its text who owns the open run
(:class:`Owner`).

Not guaranteed
--------------
A storage that forgets what it acknowledged forgets who was admitted. Versions are random, so a
storage that was restored, or failed over, cannot bring an old version back to life; but a run that
it has forgotten may be admitted again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Protocol

__all__ = [
    "GROUP_ITSELF",
    "Beat",
    "Entry",
    "Kind",
    "Locked",
    "Offer",
    "OfferRow",
    "Owner",
    "Pulse",
    "Reading",
    "Record",
    "RunnerRow",
    "ServiceReading",
    "Sight",
    "StableSet",
    "Storage",
    "Swapped",
    "Transaction",
    "Transactional",
    "runner_digest",
]

GROUP_ITSELF = ""
"""The name, in the place of a service's, under which a group's own history is kept."""

_DIGEST_BITS = 48


class Kind(StrEnum):
    """Which of a service's two records."""

    PLAN = "plan"
    GATE = "gate"


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns the open run of a gate.

    ``heartbeat_timeout`` is the run's own, in microseconds: silence after which it is dead,
    whatever the settings of those who watch are.
    """

    run_id: str
    runner_id: str
    boot_id: str
    heartbeat_timeout: int


@dataclass(frozen=True, slots=True)
class Record:
    """One version of a plan or of a gate.

    ``version`` is random and never used twice; ``body`` is text that a storage keeps and does not
    read. ``owner`` is there where the record is a gate with an open run.
    """

    version: str
    body: str
    owner: Owner | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """An open run, and what its owner last said of it.

    ``word`` is the count of the owner's heartbeats, where the owner's row names the run now; 0
    where the row is there and does not name it; None where there is no such row. A row that did
    not name the run yet and one that was lost must differ: between the two the owner may have
    been heard. ``left`` says that the owner's row is marked as left.
    """

    owner: Owner
    word: int | None
    left: bool


@dataclass(frozen=True, slots=True)
class Beat:
    """One heartbeat of a process.

    ``count`` is larger than in any heartbeat before it in this life. ``runs`` are the ids of the
    runs that the process works on now. ``heartbeat_timeout``, in microseconds, is the shortest of
    the process's services.
    """

    runner_id: str
    boot_id: str
    count: int
    heartbeat_timeout: int
    runs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pulse:
    """The answer to a heartbeat.

    ``found`` says that the row was there, so that the heartbeat confirms something; where it was
    not, the row is new. ``left`` says that the row is marked as left, and ``drained`` that the
    runner's id is marked as drained. ``open_runs`` are those of the named runs that are open in
    some gate of the group. ``sights`` has, for each service that this life offers, its open run,
    whoever owns it. ``others`` has the ``(boot_id, count)`` of every other life of this
    runner id that has not left.
    """

    now: int
    revision: int
    found: bool
    left: bool
    drained: bool
    open_runs: frozenset[str]
    sights: Mapping[str, Sight]
    others: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """That a life of a runner offers a service, and with which settings.

    ``settings`` is text that a storage keeps and does not read. ``heartbeat_timeout``, in
    microseconds, is how long the runner may be silent and still count for this service.
    ``may_run`` is False for a runner that watches, and is given no slot.
    """

    runner_id: str
    boot_id: str
    service: str
    settings: str
    heartbeat_timeout: int
    may_run: bool = True


@dataclass(frozen=True, slots=True)
class StableSet:
    """Who counts for a service at the storage's ``now``.

    The set has every runner id that offers the service with ``may_run``, has not left, is not
    drained, and was heard of at or before ``now`` and within the offer's heartbeat timeout. An id
    with several such lives counts once. The set is in the order of ``(joined_at, runner_id)``,
    where ``joined_at`` is the earliest of the id's lives.

    ``size`` and ``digest`` are of the whole set: the digest is the sum of the runner ids' digests
    (:func:`runner_digest`) modulo 2**48. ``runners`` is the part that was asked for: pairs
    ``(runner_id, joined_at)``, beginning at position ``rotation % size`` and going on around the
    end, at most ``limit`` of them. ``alive`` are those of the ids that were asked about that are
    in the set.
    """

    now: int
    size: int
    digest: int
    runners: tuple[tuple[str, int], ...]
    alive: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ServiceReading:
    """What is kept of one service; None for what is not there."""

    plan: Record | None = None
    gate: Record | None = None
    sight: Sight | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """The answer to a read: ``now`` was taken before the rows were read."""

    now: int
    revision: int
    services: Mapping[str, ServiceReading]


@dataclass(frozen=True, slots=True)
class Swapped:
    """The answer to a swap: whether it was ``done``, and the ``now`` that it was held against.

    ``busy`` says that it was not done because somebody's transaction has the record locked
    (:class:`Transactional`). Nobody waits for that: it may take as long as a job does.
    """

    now: int
    done: bool
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a service's history.

    ``id`` makes appending idempotent: of several rows with one id the first is kept. ``at``, in
    microseconds, orders the history. ``kind`` is a short word to select by. ``body`` is text that
    a storage keeps and does not read.
    """

    id: str
    at: int
    kind: str
    body: str


@dataclass(frozen=True, slots=True)
class RunnerRow:
    """One life of a runner, as it is kept; instants in microseconds, on the storage's clock."""

    runner_id: str
    boot_id: str
    joined_at: int
    heard_at: int
    left_at: int | None
    count: int
    heartbeat_timeout: int
    runs: tuple[str, ...]
    drained: bool


@dataclass(frozen=True, slots=True)
class OfferRow:
    """One offer, as it is kept; ``at`` is when it was made or last changed."""

    offer: Offer
    at: int


def runner_digest(runner_id: str) -> int:
    """One runner's part of a set's digest: 48 bits, so that a storage can add the parts up."""
    # surrogatepass: an id is any text, and a digest must not be what refuses it.
    digest = sha256(runner_id.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[: _DIGEST_BITS // 8])


class Storage(Protocol):
    """One storage. Safe to use from several threads; each operation is one atomic step.

    ``group`` is a name; groups do not see each other. All instants and durations are integers, in
    microseconds. Every operation raises :class:`~turnwise.errors.StorageError` where the storage
    does not answer, and :class:`~turnwise.errors.ForkError` in another process than the one that
    opened it.
    """

    # A process and what it offers -------------------------------------------------------------

    def heartbeat(self, group: str, beat: Beat) -> Pulse:
        """Say that a life of a runner goes on, and which runs it works on; then read.

        Without a row of this life, one is made: ``joined_at`` is the earliest of its runner id's
        rows, or now. With a row, its ``heard_at``, ``count``, ``runs`` and ``heartbeat_timeout``
        are replaced where ``beat.count`` is larger than the row's count; a row that is marked as
        left stays so, and nothing else of it changes.
        """

    def leave(self, group: str, runner_id: str, boot_id: str) -> None:
        """Mark that a life of a runner has left, now. Safe to repeat."""

    def offer(self, group: str, offer: Offer) -> int:
        """Keep an offer, in the place of an earlier one of this life; answer the revision.

        The revision is advanced where no other kept offer of the service has the same settings.
        """

    def withdraw(self, group: str, runner_id: str, boot_id: str, service: str) -> None:
        """Take an offer back. Safe to repeat."""

    def stable(
        self,
        group: str,
        service: str,
        *,
        rotation: int,
        limit: int | None,
        among: Sequence[str] = (),
    ) -> StableSet:
        """Work out who counts for a service; see :class:`StableSet`.

        Args:
            group: the group's name.
            service: the service's name.
            rotation: the position, modulo the set's size, that the answer begins with.
            limit: how many runners to answer with; None for all.
            among: runner ids of which the answer shall say whether they are in the set.
        """

    def mark(self, group: str, runner_id: str, *, drained: bool) -> None:
        """Mark a runner id as drained, or take the mark back; advance the revision."""

    # The records ------------------------------------------------------------------------------

    def read(self, group: str, services: Sequence[str]) -> Reading:
        """Read the records of several services, and what the owners of their open runs said."""

    def swap(
        self,
        group: str,
        service: str,
        kind: Kind,
        expected: str | None,
        new: Record,
        not_after: int | None = None,
    ) -> Swapped:
        """Replace a record, where its version is ``expected`` and now is at most ``not_after``.

        ``expected`` None stands for a record that is not there. Durable once it is answered.
        """

    def advance(self, group: str) -> int:
        """Advance the revision, so that everybody looks again; answer the new one."""

    # History ----------------------------------------------------------------------------------

    def append(self, group: str, service: str, entries: Sequence[Entry]) -> None:
        """Keep rows of a service's history; a row whose id is there already is left as it is."""

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
        """The kept rows in the order of ``(at, id)``.

        ``since`` (inclusive) and ``until`` (exclusive) bound ``at``; ``last`` keeps the newest so
        many of what is left; ``kinds`` leaves out all rows of other kinds.
        """

    def purge(
        self, group: str, service: str, *, before: int, keep: int, spare: Sequence[str] = ()
    ) -> None:
        """Forget the rows of a service's history before an instant, and all but the newest.

        Rows of a kind in ``spare`` stay, and do not count among the newest.

        Args:
            group: the group's name.
            service: the service's name.
            before: rows whose ``at`` is earlier are forgotten.
            keep: how many of the newest rows stay at most. Of a long history a storage may forget
                up to a sixteenth of that more, so that it need not do so each time.
            spare: kinds of which every row stays.
        """

    def purge_runners(self, group: str, *, before: int) -> None:
        """Forget the lives that were last heard of before an instant, and their offers."""

    # Lists, and forgetting --------------------------------------------------------------------

    def services(self, group: str) -> tuple[str, ...]:
        """The names of all services that have an offer, a record or a history, sorted.

        The group itself (:data:`GROUP_ITSELF`) is none.
        """

    def runners(self, group: str) -> tuple[RunnerRow, ...]:
        """Every life that is kept, by ``(joined_at, runner_id, boot_id)``."""

    def offers(self, group: str) -> tuple[OfferRow, ...]:
        """Every offer that is kept, by ``(service, runner_id, boot_id)``."""

    def groups(self) -> tuple[str, ...]:
        """The names of all groups that have a runner, a record or a history, sorted."""

    def forget_service(self, group: str, service: str) -> None:
        """Forget a service's offers, records and history."""

    def forget_runner(self, group: str, runner_id: str) -> None:
        """Forget every life of a runner id, their offers, and the mark of being drained."""

    def close(self) -> None:
        """Let go of connections. The storage must not be used afterwards."""


# For storages that can take part in a transaction of somebody else's -----------------------------


@dataclass(frozen=True, slots=True)
class Locked:
    """A gate that a transaction has locked, and the storage's now since then; None for no gate."""

    group: str
    service: str
    now: int
    gate: Record | None


class Transaction(Protocol):
    """A transaction of the caller's that a storage takes part in.

    It begins and ends as its owner says. What fails in it raises what the caller's own statements
    would raise.
    """

    def lock(self, group: str, service: str) -> Locked:
        """Lock a service's gate until the transaction ends; then read it, and the clock.

        Raises:
            ValueError: the connection is in autocommit, so that nothing stays locked.
        """

    def write(self, locked: Locked) -> None:
        """Write the gate as it is, so that this transaction is one that has changed it."""

    def replace(self, locked: Locked, new: Record) -> None:
        """Replace the gate by another one."""


class Transactional(Protocol):
    """What a storage can do, beside :class:`Storage`, whose records are in the job's database."""

    def join(self, connection: object, *, idle: int) -> Transaction:
        """Take part in the transaction that is open on a connection of the caller's.

        Args:
            connection: the caller's.
            idle: how long the transaction may idle before the server ends it, in microseconds.
                A server that cannot do so lets it idle.

        Raises:
            TypeError: the connection is of no kind that is known.
            ValueError: it is to another database than the storage's.
        """
