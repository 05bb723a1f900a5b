"""What an observer hears: everything that turnwise does or notices, as frozen values.

Events are the one seam outwards. Log lines, metrics, traces, pings, the demo and the oracles of the
simulation are observers: callables that take an :class:`Event`. Each event names its group and its
runner, and what is about one service names the service. Instants are microseconds since the Unix
epoch on the storage's clock; durations are microseconds.

An observer hears :class:`TurnStarted` in the context (see :mod:`contextvars`) in which the turn's
function is about to run. A context variable that it sets then is set in the function, in its tasks
and in its calls of ``asyncio.to_thread``, and nowhere else. This is how a trace follows a turn into
the job. A block of :meth:`turnwise.scheduler.Scheduler.turn` runs in the program's own context.
"""

from collections.abc import Callable
from dataclasses import dataclass

from turnwise.atomic_service import AtomicServiceExecutionStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a runner, a process of a group."""

    group: str
    runner_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEvent(Event):
    """Something that happened to a runner in one service."""

    service: str


# A process ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerJoined(Event):
    """The runner's first heartbeat was answered, or one that found its row gone."""

    boot_id: str
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerLeft(Event):
    """The runner has left, with all its turns closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateRunner(Event):
    """Another process lives under this runner's id; ``boot_id`` is its life."""

    boot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageLost(Event):
    """The storage does not answer any more, or cannot be used; said once, until it is back.

    ``needs_repair`` says that it will not get better by itself, such as where its tables are of
    another version. That is said even while the storage is away already, once for each text.
    """

    error: str
    needs_repair: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageBack(Event):
    """The storage answers again, after so many microseconds on the monotonic clock."""

    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageAsked(Event):
    """The storage was asked something, and has answered or failed.

    ``operation`` is a storage's method, such as ``"read"`` or ``"swap"``. ``took`` is measured on
    the monotonic clock from before the request left. ``error`` is what it said where it failed.
    """

    operation: str
    took: int
    error: str | None


# A service ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked(ServiceEvent):
    """The runner has read the service's records, at the storage's ``now``.

    ``success`` is when the last run that completed ended; None where none has.
    """

    now: int
    success: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLeft(ServiceEvent):
    """The runner serves the service no more, because the program removed it; others may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CyclePlanned(ServiceEvent):
    """This runner has planned a cycle ``[start, end)`` of the period that is due at ``due``.

    ``runners`` have a slot, in order. ``void`` says that the plan takes the place of one of which
    nobody was left.
    """

    start: int
    end: int
    due: int
    runners: tuple[str, ...]
    size: int
    void: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NoTurn(ServiceEvent):
    """The runner could not start in its slot; ``reason`` as the history has it."""

    reason: str
    message: str
    due: int
    slot_start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEvent(ServiceEvent):
    """Something that happened to a turn."""

    run_id: str
    token: int
    due: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStarted(TurnEvent):
    """A turn was admitted, and its function is started; ``triggered`` where somebody asked for it.

    See the module for the context in which it is heard.
    """

    attempt: int
    started_at: int
    triggered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnded(TurnEvent):
    """A turn has ended, and the gate says so.

    ``took`` is measured on the monotonic clock from the start of the function to its end; 0 where
    it was not started. ``recorded`` is False where somebody else had closed the run before: then
    the history has their word for it, and ``status`` is what its owner would have said.
    """

    status: AtomicServiceExecutionStatus
    reason: str
    attempt: int
    took: int
    recorded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnLost(TurnEvent):
    """The turn is not surely this runner's any more; its function is told, or cancelled."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOverdue(TurnEvent):
    """The turn has taken longer than its service's timeout."""

    timeout: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBuried(TurnEvent):
    """This runner has closed a run whose owner is dead or has left."""

    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodMissed(ServiceEvent):
    """A period has passed, and nobody has served it; ``why`` in a word.

    Periods that passed in a row and had no plan, because nobody was there or the storage was away,
    are told together by who comes first afterwards. Then ``count`` is how many, ``due`` is the
    first one's due instant, and ``until`` the end of the last.
    """

    due: int
    until: int
    why: str
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsDiffer(ServiceEvent):
    """The plan that everybody goes by was made by other settings than this runner's."""

    due: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordUnreadable(ServiceEvent):
    """A record of the service cannot be read, as another version of turnwise wrote it."""

    error: str


Observer = Callable[[Event], object]
"""What hears events. It must not block; what it raises is logged, and stops nothing."""
