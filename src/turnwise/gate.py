"""The gate: the record of a service that says what runs and what was served, and its rules.

Rules
-----
1. **One open run.** A gate has at most one open run. A run is admitted only where none is open.
2. **A period is served once.** What a run serves is its *key*: the due instant of its period, or,
   where each runner runs in its own slot, the slot's start. A key whose run completed is served,
   and no run for it is admitted again.
3. **Attempts are bounded.** A run that fails, or whose owner dies, is an attempt at its key. A run
   that was stopped, did not start, or had no margin is none. No run is admitted for a key whose
   attempts are used up. A run that was triggered has no key: it is no attempt, and serves none.
4. **What is closed stays closed.** A run is closed once, by its owner or by whoever buries it. Who
   comes second is told, and changes nothing.
5. **Nothing starts while paused.**
6. **Fencing tokens grow** with every admitted run.
7. **What happened is told.** Each change that the history should know of travels in the gate,
   in :attr:`Gate.unsaid`, until somebody has appended it to the history; the last 64 of them,
   where the history cannot be written for so long.

How it works
------------
A gate is a frozen value. Each change is a pure function from the gate, the storage's now and plain
values to a new gate, or to a *refusal*, which is a value too. A storage replaces the old gate by
the new one where nobody else has replaced it meanwhile (compare and set), so that the rules hold
whoever asks, and however many ask at once::

                 admit                                   finish, bury, complete
    no run open ───────▶ a run is open: its owner works ────────────────────────▶ no run open
        ▲                                                                              │
        └──────────── the key is served, or an attempt more, or neither ◀──────────────┘

A run can be completed in the transaction of what its job has written. Then the gate is locked from
``complete`` to the end of the transaction, and nobody else can change it. Once somebody can, the
transaction has been committed, and the run is closed; or it never will be. So its owner tries to
close the run as failed. Where that succeeds, the run was not completed. Where the run is closed
already, the gate says what became of it. A job that commits in pieces has each piece *fenced*: the
gate is locked in the same way, and the run stays open.

Which keys were served is kept as the last 64 of them, and as a *floor*: the largest that had to
make room. At or below the floor everything counts as served. The attempts at the last 8 keys that
had any are kept; a key whose attempts have to make room raises the floor, too, so that it cannot
have its attempts once more.

A storage's clock may step. Where it steps back, the keys that were served are still there, so that
none is served twice. Where it had jumped far ahead and came back, the keys from then would block
the service; so keys and a floor that lie further ahead of now than the *horizon* do not count, and
are dropped when the next run closes: two periods of the run that asks or closes, or ten minutes
where that is longer. So a clock that steps back by ten minutes at most has nothing served twice,
whatever the schedule; one that steps back further, beyond two periods as well, may.

A gate that is made anew counts everything up to now as served: a period that was due before the
service existed is nobody's to serve.

Who may bury a run, and when, is not the gate's business: that takes a clock that observes
(:mod:`turnwise.machine`). The gate only makes sure that it is buried once.

Not guaranteed
--------------
A gate knows what it was told. Where a storage forgets a gate, or a part of what it acknowledged,
a period may be served again. A run that was buried while its process goes on (a process that was
suspended, and wakes) is not stopped by the gate; its fencing token is old from then on.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import MINUTE

STOPPED: Final = "stopped"
"""Why a run ended whose process was asked to stop. It is no attempt."""

NOT_STARTED: Final = "not_started"
"""Why a run ended that could not be started: no room for a process or a thread. No attempt."""

NO_MARGIN: Final = "no_margin"
"""Why a run ended that was admitted with too little of its slot left. It is no attempt."""

OWNER_DEAD: Final = "owner_dead"
"""Why a run ended whose owner was silent for the run's heartbeat timeout, or had left."""

TIMEOUT: Final = "timeout"
"""Why a run ended that took longer than its service's timeout."""

LOST: Final = "lost"
"""Why a run ended whose owner could not be sure any more that it was still its own."""

NOT_COMMITTED: Final = "not_committed"
"""Why a run ended whose function had it completed in a transaction that was not committed."""

NO_ATTEMPT: Final = frozenset({STOPPED, NOT_STARTED, NO_MARGIN})
"""The reasons of runs that leave their period as it was."""

OFFER_KIND: Final = "offer"
"""The kind of a row that says which settings a runner has come with."""

KEPT_KEYS: Final = 64
KEPT_COUNTS: Final = 8
KEPT_UNSAID: Final = 64
"""So many rows travel in a gate at most, so that it stays small where no history can be written."""

_SHORTEST_HORIZON: Final = 10 * MINUTE


# What a gate is made of ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is open, or was. Instants are microseconds on the storage's clock.

    ``key`` is what it serves; None for a run that was triggered. ``heartbeat_timeout`` is its
    owner's, in microseconds: silence after which the run is dead, whoever watches. ``attempt``
    counts from 1. ``position`` is the place of its slot in the cycle, from 0. ``size`` and
    ``digest`` are of the set that the plan was made of. ``trigger`` is the id of the trigger that
    it was started by.
    """

    run_id: str
    runner_id: str
    boot_id: str
    heartbeat_timeout: int
    token: int
    key: int | None
    due: int
    until: int
    cycle_start: int
    slot_start: int
    slot_end: int
    position: int
    attempt: int
    started_at: int
    size: int
    digest: int
    trigger: str | None = None


@dataclass(frozen=True, slots=True)
class Execution:
    """One row of the history: a run that has ended, or one that was not let start (BLOCKED).

    A BLOCKED row has no token (None), and starts and ends at one instant.
    """

    id: str
    runner_id: str
    status: Status
    reason: str
    started_at: int
    ended_at: int | None
    token: int | None
    due: int
    cycle_start: int
    slot_start: int | None
    slot_end: int | None
    position: int | None
    attempt: int
    size: int
    digest: int
    trigger: str | None = None

    @property
    def at(self) -> int:
        """The instant that it stands at in the history: its start."""
        return self.started_at

    @property
    def kind(self) -> str:
        """The word that the history selects it by: its status."""
        return self.status.value


class CommandName(StrEnum):
    """What an operator, or a change of settings, did to a service, a runner or the group."""

    PAUSE = "pause"
    RESUME = "resume"
    TRIGGER = "trigger"
    SETTINGS = "settings"
    OFFERED = "offered"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    FORGET_SERVICE = "forget service"
    FORGET_RUNNER = "forget runner"


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the history: what was done to the service, by whom, when and why.

    SETTINGS says that plans are made by other settings from ``at`` on, and OFFERED that a runner
    has come which offers other settings than the last plan was made by. The latter comes with each
    deploy, and with each start of a runner that strays, and is kept as long as runs are.

    ``until`` is the end of a pause that has one. ``settings`` is the text of the settings that
    hold from then on, where it is about them. ``of`` names the runner or the service, in the
    history of the group itself.
    """

    id: str
    name: CommandName
    at: int
    by: str
    reason: str = ""
    until: int | None = None
    settings: str | None = None
    of: str | None = None

    @property
    def kind(self) -> str:
        """The word that the history selects it by."""
        return OFFER_KIND if self.name is CommandName.OFFERED else "command"


Row = Execution | Command


@dataclass(frozen=True, slots=True)
class Pause:
    """That nothing starts: since ``at``, until ``until`` (None: until it is resumed)."""

    at: int
    by: str
    reason: str
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Trigger:
    """That the service shall run once, now, whether its period is served or not."""

    id: str
    at: int
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Success:
    """The last run that completed: of which period, and when it ended."""

    due: int
    at: int
    run_id: str


@dataclass(frozen=True, slots=True)
class Gate:
    """The record. See the module for its rules.

    ``served`` are the last keys that were served, ascending; ``floor`` is the largest key that
    counts as served with all before it. ``attempts`` are pairs of a key and how many attempts at
    it have ended, for the last keys that had any, ascending. ``unsaid`` is what the history may
    not know yet, oldest first.
    """

    floor: int
    token: int = 0
    open: Run | None = None
    served: tuple[int, ...] = ()
    attempts: tuple[tuple[int, int], ...] = ()
    success: Success | None = None
    pause: Pause | None = None
    trigger: Trigger | None = None
    unsaid: tuple[Row, ...] = ()


# Refusals -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PriorRunning:
    """Another run is open."""

    run_id: str
    due: int

    def __str__(self) -> str:
        return f"prior_running:{self.run_id}"


@dataclass(frozen=True, slots=True)
class AlreadyServed:
    """The key is served."""

    key: int

    def __str__(self) -> str:
        return "already_served"


@dataclass(frozen=True, slots=True)
class AttemptsUsed:
    """All attempts at the key have failed."""

    key: int
    attempts: int

    def __str__(self) -> str:
        return f"attempts_used:{self.attempts}"


@dataclass(frozen=True, slots=True)
class Paused:
    """The service is paused; ``until`` None stands for until it is resumed."""

    until: int | None

    def __str__(self) -> str:
        return "paused"


@dataclass(frozen=True, slots=True)
class TooLate:
    """The instant after which the attempt may not start has passed."""

    not_after: int

    def __str__(self) -> str:
        return "too_late"


@dataclass(frozen=True, slots=True)
class NotOpen:
    """The run is not open: it was closed before, or was never admitted."""

    run_id: str
    closed_as: Execution | None = None

    def __str__(self) -> str:
        return f"not_open:{self.run_id}"


Refusal = PriorRunning | AlreadyServed | AttemptsUsed | Paused | TooLate


# The rules ----------------------------------------------------------------------------------------


def new_gate(now: int) -> Gate:
    """The gate of a service that has none yet: whatever was due until now counts as served."""
    return Gate(floor=now)


def horizon(due: int, until: int) -> int:
    """How far ahead of now a key may lie and still count, in microseconds.

    ``due`` and ``until`` are a period's edges: twice its length, or ten minutes.
    """
    return max(2 * (until - due), _SHORTEST_HORIZON)


def is_served(gate: Gate, key: int, *, now: int, ahead: int) -> bool:
    """Whether ``key`` counts as served at ``now``, with a horizon of ``ahead`` microseconds."""
    if key <= gate.floor <= now + ahead:
        return True
    served = gate.served
    # Most ask for the last key that was served, or for one that comes after it.
    if not served or key > served[-1]:
        return False
    return (key == served[-1] or key in served) and key <= now + ahead


def attempts_at(gate: Gate, key: int) -> int:
    """How many attempts at ``key`` have ended without serving it."""
    for known, count in gate.attempts:
        if known == key:
            return count
    return 0


def is_over(gate: Gate, key: int, *, now: int, ahead: int, attempts: int) -> bool:
    """Whether no run for ``key`` is to be admitted any more: served, or its attempts used up."""
    if is_served(gate, key, now=now, ahead=ahead):
        return True
    return attempts_at(gate, key) >= attempts


def is_paused(gate: Gate, now: int) -> bool:
    """Whether the service is paused at ``now``."""
    pause = gate.pause
    return pause is not None and (pause.until is None or now < pause.until)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for admission.

    ``run`` is the run as its owner would have it; its token, attempt, start and trigger are filled
    in. ``attempts`` is how many a key may have, and ``not_after`` the last instant at which the run
    may start.
    """

    run: Run
    attempts: int
    not_after: int


def admit(gate: Gate, ask: Ask, *, now: int) -> Gate | Refusal:  # noqa: PLR0911 (a rule each)
    """Admit a run, or say why not.

    Where ``ask.run.key`` is None, the run takes the gate's trigger, and it does not matter what was
    served. Where the trigger is gone, somebody else has served it: ``AlreadyServed``.
    """
    run = ask.run
    if is_paused(gate, now):
        assert gate.pause is not None  # noqa: S101 (as is_paused says)
        return Paused(gate.pause.until)
    if gate.open is not None:
        return PriorRunning(gate.open.run_id, gate.open.due)
    if now > ask.not_after:
        return TooLate(ask.not_after)
    if run.key is None:
        if gate.trigger is None:
            return AlreadyServed(run.due)
        mine = replace(run, attempt=1, trigger=gate.trigger.id)
        return _opened(replace(gate, trigger=None), mine, now)
    ahead = horizon(run.due, run.until)
    if is_served(gate, run.key, now=now, ahead=ahead):
        return AlreadyServed(run.key)
    tried = attempts_at(gate, run.key)
    if tried >= ask.attempts:
        return AttemptsUsed(run.key, tried)
    return _opened(gate, replace(run, attempt=tried + 1), now)


def _opened(gate: Gate, run: Run, now: int) -> Gate:
    """The gate, which is not paused at ``now``, with the run open; a pause that has ended goes."""
    token = gate.token + 1
    opened = replace(run, token=token, started_at=now)
    return replace(gate, token=token, open=opened, pause=None)


def finish(
    gate: Gate, run_id: str, *, now: int, status: Status, reason: str = ""
) -> Gate | NotOpen:
    """Close a run by its owner: COMPLETED, or ABANDONED for ``reason``."""
    run = gate.open
    if run is None or run.run_id != run_id:
        return NotOpen(run_id, said_of(gate, run_id))
    closed = replace(
        gate,
        open=None,
        unsaid=_telling(gate, closed_row(run, now, status, reason)),
        success=Success(run.due, now, run_id) if status is Status.COMPLETED else gate.success,
    )
    had_no_chance = status is not Status.COMPLETED and reason in NO_ATTEMPT
    if run.key is None:
        return _triggered_again(closed, run, now, reason) if had_no_chance else closed
    if had_no_chance:
        return closed
    closed = _within_horizon(closed, run.key, now + horizon(run.due, run.until))
    change = _with_served if status is Status.COMPLETED else _with_attempt
    return change(closed, run.key)


def complete(gate: Gate, run_id: str, *, now: int) -> Gate | NotOpen:
    """Close a run as COMPLETED, from within the transaction of what it wrote."""
    return finish(gate, run_id, now=now, status=Status.COMPLETED)


def fence(gate: Gate, run_id: str) -> Gate | NotOpen:
    """Whether a transaction may write as part of a run: the gate as it is while the run is open.

    Who asks has the gate locked until the transaction ends, so that nobody closes the run before.
    """
    run = gate.open
    if run is None or run.run_id != run_id:
        return NotOpen(run_id, said_of(gate, run_id))
    return gate


def bury(gate: Gate, run_id: str, *, now: int) -> Gate | NotOpen:
    """Close a run whose owner is dead, as somebody has observed."""
    return finish(gate, run_id, now=now, status=Status.ABANDONED, reason=OWNER_DEAD)


def said_of(gate: Gate, run_id: str) -> Execution | None:
    """What the gate still says of a run that has ended."""
    return next(
        (row for row in gate.unsaid if isinstance(row, Execution) and row.id == run_id), None
    )


def without(gate: Gate, ids: frozenset[str]) -> Gate:
    """The gate without what the history is known to have."""
    if not any(row.id in ids for row in gate.unsaid):
        return gate
    return replace(gate, unsaid=tuple(row for row in gate.unsaid if row.id not in ids))


def pause(gate: Gate, *, id: str, now: int, by: str, reason: str, until: int | None = None) -> Gate:  # noqa: A002
    """Pause the service, or change its pause. A run that is open goes on."""
    row = Command(id, CommandName.PAUSE, now, by, reason, until)
    return replace(gate, pause=Pause(now, by, reason, until), unsaid=_telling(gate, row))


def resume(gate: Gate, *, id: str, now: int, by: str, reason: str) -> Gate:  # noqa: A002
    """End a pause; a gate that has none stays as it is."""
    if gate.pause is None:
        return gate
    row = Command(id, CommandName.RESUME, now, by, reason)
    return replace(gate, pause=None, unsaid=_telling(gate, row))


def trigger(gate: Gate, *, id: str, now: int, by: str, reason: str) -> Gate:  # noqa: A002
    """Ask for one run now; a trigger while one waits is the same trigger."""
    if gate.trigger is not None:
        return gate
    row = Command(id, CommandName.TRIGGER, now, by, reason)
    return replace(gate, trigger=Trigger(id, now, by, reason), unsaid=_telling(gate, row))


def _telling(gate: Gate, row: Row) -> tuple[Row, ...]:
    """What the history may not know, with one more row; the oldest goes where there are too many.

    A gate that only grew would at last be too large to be written: then nothing could start, for
    want of a history that nobody reads to decide.
    """
    return (*gate.unsaid, row)[-KEPT_UNSAID:]


def closed_row(run: Run, ended_at: int | None, status: Status, reason: str) -> Execution:
    """The history's row of a run that ends at an instant; None for one that goes on."""
    return Execution(
        id=run.run_id,
        runner_id=run.runner_id,
        status=status,
        reason=reason,
        started_at=run.started_at,
        ended_at=ended_at,
        token=run.token,
        due=run.due,
        cycle_start=run.cycle_start,
        slot_start=run.slot_start,
        slot_end=run.slot_end,
        position=run.position,
        attempt=run.attempt,
        size=run.size,
        digest=run.digest,
        trigger=run.trigger,
    )


def open_row(run: Run) -> Execution:
    """A run that is open, as the history would show it."""
    return closed_row(run, None, Status.RUNNING, "")


def _triggered_again(gate: Gate, run: Run, now: int, reason: str) -> Gate:
    """A triggered run that had no chance has ended: it is asked for again, unless another is."""
    if gate.trigger is not None or run.trigger is None:
        return gate
    return replace(gate, trigger=Trigger(run.trigger, now, run.runner_id, reason))


def _within_horizon(gate: Gate, key: int, limit: int) -> Gate:
    """The gate without what lies beyond ``limit``, but for ``key`` itself."""
    served = tuple([known for known in gate.served if known <= limit])
    attempts = tuple([pair for pair in gate.attempts if pair[0] <= limit or pair[0] == key])
    floor = gate.floor
    if floor > limit:
        # The highest floor that says nothing of the keys that are still known.
        floor = min([key, *served, *(known for known, _ in attempts)]) - 1
    elif len(served) == len(gate.served) and len(attempts) == len(gate.attempts):
        return gate
    return replace(gate, floor=floor, served=served, attempts=attempts)


def _with_attempt(gate: Gate, key: int) -> Gate:
    others = tuple(pair for pair in gate.attempts if pair[0] != key)
    counts = sorted((*others, (key, attempts_at(gate, key) + 1)))
    gone = [known for known, _ in counts[:-KEPT_COUNTS]]
    return _with_floor(replace(gate, attempts=tuple(counts[-KEPT_COUNTS:])), gone)


def _with_served(gate: Gate, key: int) -> Gate:
    keys = sorted({*gate.served, key})
    attempts = tuple([pair for pair in gate.attempts if pair[0] != key])
    kept = replace(gate, served=tuple(keys[-KEPT_KEYS:]), attempts=attempts)
    return _with_floor(kept, keys[:-KEPT_KEYS])


def _with_floor(gate: Gate, gone: list[int]) -> Gate:
    """The gate after some keys had to make room: its floor is no lower than any of them."""
    floor = max([gate.floor, *gone])
    return replace(
        gate,
        floor=floor,
        served=tuple([key for key in gate.served if key > floor]),
        attempts=tuple([pair for pair in gate.attempts if pair[0] > floor]),
    )
