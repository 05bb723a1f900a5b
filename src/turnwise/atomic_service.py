"""The decision: may this runner start the service now, and if not, why not.

Rules
-----
For one list of runners, one interval and one margin:

1. At every instant exactly one runner owns the time: its slot, guard time included,
   contains now. Every caller names the same one.
2. At any instant at most one runner is cleared to start: slots never overlap.
3. The slots and their guard times tile the cycle: no gap, no overlap, to the microsecond.
4. A claim never contradicts itself: ``cycle_start <= now < cycle_start + interval``, the
   slot lies inside the cycle, and a run is handed out inside its slot only.
5. A wider margin never clears more.
6. Two identical calls differ in the random run id alone. Nothing here reads a clock, keeps
   state or performs I/O.

How it works
------------
Time is cut into cycles of ``service_interval_minutes``, aligned to the Unix epoch, so every
runner on earth agrees on them without talking. Each cycle is cut into equal slots, one per
active runner, in the order of the list. A runner may start inside its own slot only; the
last ``spread_margin_minutes`` of each slot are guard time, in which nobody starts. A lone
runner owns the whole cycle and needs no guard time.

Each input becomes a whole number of microseconds once, and everything is decided on those
integers: with floating point two runners are cleared at once near some slot edges, and none
at others. With interval ``I``, ``N`` runners and ``x`` = now modulo ``I``, the owner is
``x*N // I`` and the slot of position ``p`` is ``[ceil(p*I/N), ceil((p+1)*I/N))`` less the
margin. The two agree for every integer.

The decision table
------------------
The first row that applies is the answer.

==  ===========================================  =========================  =================
#   when                                         reason                     filled in, beside
                                                                            the cycle start
==  ===========================================  =========================  =================
1   the list is empty                            NO_STABLE_RUNNERS          nothing
2   the caller is not in the list                NOT_ASSIGNED_SLOT          count, assigned
                                                                            runner
3   several runners, and the margin is as long   SLOT_WINDOW_INVALID        + position;
    as the caller's slot, or longer                                         message
4   the assigned runner is younger than the      SCHEDULED_RUNNER_IN_GRACE  + slot, owner
    stabilization time                                                      flag; message
5   now is outside the caller's slot             NOT_ASSIGNED_SLOT          + slot, owner flag
6   too much of the slot is already gone         LATE_START                 + slot, owner
                                                                            flag, fraction;
                                                                            message
7   otherwise                                    ASSIGNED                   + slot, owner
                                                                            flag, the run
==  ===========================================  =========================  =================

The list's order is the schedule's order: nothing here sorts or filters it. Who belongs in
the list is the caller's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import floor
from operator import indexOf, itemgetter
from os import urandom
from sys import float_info
from typing import Any, NamedTuple, cast

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST_SECOND = -62_135_596_800.0  # the year 1, where datetime begins
_AFTER_LAST_SECOND = 253_402_300_800.0  # the year 10000, which it no longer has
_LARGEST = float_info.max  # over it is infinity, and integers that no float can hold
# In minutes. Half a microsecond rounds to none, and a cycle needs at least one.
_TOO_SHORT = 0.5 / 60e6
_LONGEST = _LARGEST / 60e6
_runner_id_of = itemgetter(0)  # by its place, which is a tenth faster than by its name


def _fresh_run_id() -> str:
    """A random UUID4 as text, as ``str(uuid4())`` makes it, in a third of the time.

    All 32 hexadecimal digits are random but two. The 13th tells the version, and is 4. The 17th
    tells the layout: 8, 9, a or b, at random.
    """
    octets = urandom(16)
    digits = octets.hex()
    layout = "89ab"[octets[8] >> 4 & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{layout}{digits[17:20]}-{digits[20:]}"


@dataclass(frozen=True, slots=True)
class AtomicServiceId:
    """Who runs, and which run: the identity of one run of the service.

    ``runner_id`` names the runner; ``atomic_service_run_id`` names the run and is a fresh
    random UUID4, as text, unless given.
    """

    runner_id: str
    atomic_service_run_id: str = field(default_factory=_fresh_run_id)

    def __str__(self) -> str:
        return f"runner:{self.runner_id} atomic-service-run:{self.atomic_service_run_id}"


# For the eyes of the type checker: None until __post_init__ has run, and never after it.
_NOT_GIVEN = cast("AtomicServiceId", None)


@dataclass(slots=True)
class AtomicServiceRun:
    """One run of the service: its identity, and the cycle and slot that it belongs to.

    Built from a composed ``atomic_service_id``, or from a flat ``runner_id`` with an optional
    ``atomic_service_run_id`` (a fresh random UUID4 by default). Afterwards the three always
    agree; where both forms are given the composed one wins, so that
    :func:`dataclasses.replace` works. The instants are aware datetimes in UTC, or None where
    not known; the slot is ``[slot_start, slot_end)``, without its guard time.

    The one dataclass of this module that is not frozen: a storage stamps ``started_at`` at the
    moment that it admits the run. Everything else about it is identity.

    Raises:
        TypeError: neither an ``atomic_service_id`` nor a ``runner_id`` was given.
    """

    atomic_service_id: AtomicServiceId = _NOT_GIVEN
    cycle_start: datetime | None = None
    slot_start: datetime | None = None
    slot_end: datetime | None = None
    started_at: datetime | None = None
    runner_id: str | None = None
    atomic_service_run_id: str | None = None

    def __post_init__(self) -> None:
        if self.atomic_service_id is _NOT_GIVEN:
            self.atomic_service_id = self._id_from_flat_fields()
        self.runner_id = self.atomic_service_id.runner_id
        self.atomic_service_run_id = self.atomic_service_id.atomic_service_run_id

    def _id_from_flat_fields(self) -> AtomicServiceId:
        if self.runner_id is None:
            raise TypeError(
                "AtomicServiceRun needs an identity: accepted are atomic_service_id, or "
                "runner_id with an optional atomic_service_run_id"
            )
        if self.atomic_service_run_id is None:
            return AtomicServiceId(self.runner_id)
        return AtomicServiceId(self.runner_id, self.atomic_service_run_id)

    def __str__(self) -> str:
        parts = [str(self.atomic_service_id)]
        for label, instant in (
            ("cycle-start", self.cycle_start),
            ("slot-start", self.slot_start),
            ("slot-end", self.slot_end),
            ("started-at", self.started_at),
        ):
            if instant is not None:
                parts.append(f"{label}:{instant.isoformat()}")
        return " ".join(parts)


class AtomicServiceDecisionReason(StrEnum):
    """Why a runner may start, or may not; the rows of the decision table."""

    ASSIGNED = "assigned"
    NOT_ASSIGNED_SLOT = "not_assigned_slot"
    NO_STABLE_RUNNERS = "no_stable_runners"
    SCHEDULED_RUNNER_IN_GRACE = "scheduled_runner_in_grace"
    SLOT_WINDOW_INVALID = "slot_window_invalid"
    LATE_START = "late_start"

    def is_persisted(self) -> bool:
        """Whether the reason is worth a BLOCKED record in an execution history.

        True for the reasons that a person must act on or explain; false for the everyday
        "it is another runner's turn".
        """
        return self in _PERSISTED_REASONS


# Each looked up once: on the enum a lookup costs a fiftieth of a decision.
_ASSIGNED = AtomicServiceDecisionReason.ASSIGNED
_NOT_ASSIGNED_SLOT = AtomicServiceDecisionReason.NOT_ASSIGNED_SLOT
_NO_STABLE_RUNNERS = AtomicServiceDecisionReason.NO_STABLE_RUNNERS
_SCHEDULED_RUNNER_IN_GRACE = AtomicServiceDecisionReason.SCHEDULED_RUNNER_IN_GRACE
_SLOT_WINDOW_INVALID = AtomicServiceDecisionReason.SLOT_WINDOW_INVALID
_LATE_START = AtomicServiceDecisionReason.LATE_START

_PERSISTED_REASONS = frozenset({_SLOT_WINDOW_INVALID, _SCHEDULED_RUNNER_IN_GRACE, _LATE_START})


class ActiveRunnerInfo(NamedTuple):
    """One runner of the list that a decision is taken on.

    ``creation_time`` (when it joined) and ``last_heartbeat`` are aware datetimes;
    ``allow_to_run_atomic_service`` says whether it may be given slots at all. The decision
    itself reads ``runner_id``, and ``creation_time`` where the stabilization time is not 0.
    ``consumed_queues`` is there for orchestrators that note which queues a runner works on.
    """

    runner_id: str
    creation_time: datetime
    last_heartbeat: datetime
    allow_to_run_atomic_service: bool = False
    consumed_queues: tuple[str, ...] = ()


class AtomicServiceExecutionStatus(StrEnum):
    """What became of a run.

    RUNNING is open; COMPLETED ended well; ABANDONED ended otherwise (it failed, or its owner
    died); BLOCKED never started, and is kept to say why.
    """

    RUNNING = "running"
    COMPLETED = "completed"
    ABANDONED = "abandoned"
    BLOCKED = "blocked"


class AtomicServiceExecution(NamedTuple):
    """One line of an execution history.

    ``start_time`` and ``end_time`` are aware datetimes, ``end_time`` None while the run is
    open; ``reason`` says why it ended as it did, and is empty where there is nothing to say.
    """

    atomic_service_id: AtomicServiceId
    start_time: datetime
    end_time: datetime | None
    status: AtomicServiceExecutionStatus = AtomicServiceExecutionStatus.RUNNING
    reason: str = ""

    @classmethod
    def from_raw(
        cls,
        runner_id: str,
        atomic_service_run_id: str,
        start_time: datetime,
        end_time: datetime | None,
        status: AtomicServiceExecutionStatus = AtomicServiceExecutionStatus.RUNNING,
        reason: str = "",
    ) -> "AtomicServiceExecution":
        """Build one from flat columns, as a storage keeps them."""
        service_id = AtomicServiceId(runner_id, atomic_service_run_id)
        return cls(service_id, start_time, end_time, status, reason)

    @property
    def runner_id(self) -> str:
        """The runner that ran."""
        return self.atomic_service_id.runner_id

    @property
    def atomic_service_run_id(self) -> str:
        """The run's own id."""
        return self.atomic_service_id.atomic_service_run_id

    @property
    def atomic_service_run(self) -> AtomicServiceRun:
        """The run, with its id and ``started_at``; cycle and slot are not known here."""
        return AtomicServiceRun(self.atomic_service_id, started_at=self.start_time)

    @property
    def is_active(self) -> bool:
        """Whether the run is still open."""
        return self.status is AtomicServiceExecutionStatus.RUNNING

    @property
    def duration_seconds(self) -> float:
        """Seconds from start to end; 0.0 while the run is open."""
        if self.end_time is None:
            return 0.0
        return (self.end_time - self.start_time).total_seconds()


@dataclass(frozen=True, slots=True)
class AtomicServiceClaim:
    """The decision for one runner at one instant: may it start, and if not, why not.

    ``runner_id`` is the caller; ``assigned_runner_id`` the runner whose whole slot, guard time
    included, contains now; ``runner_position`` the caller's place in the list, from 0;
    ``stable_runner_count`` the length of the list. ``cycle_start``, ``slot_start`` and
    ``slot_end`` are aware datetimes in UTC; the slot is the caller's own,
    ``[slot_start, slot_end)`` without its guard time. ``is_slot_owner_now`` is true when the
    caller is the assigned runner. ``atomic_service_run`` is there exactly when the caller may
    start. ``late_start_fraction``, between 0 and 1, is there exactly for LATE_START.
    ``skip_message`` explains a persisted reason to a person. Which fields are filled in for
    which reason is in the decision table of the module.
    """

    runner_id: str
    reason: AtomicServiceDecisionReason
    cycle_start: datetime
    assigned_runner_id: str | None = None
    runner_position: int | None = None
    stable_runner_count: int = 0
    slot_start: datetime | None = None
    slot_end: datetime | None = None
    is_slot_owner_now: bool = False
    atomic_service_run: AtomicServiceRun | None = None
    skip_message: str = ""
    late_start_fraction: float | None = None

    @property
    def should_try_start(self) -> bool:
        """Whether the caller is cleared to start: there is a run."""
        return self.atomic_service_run is not None

    @property
    def skip_reason(self) -> AtomicServiceDecisionReason | None:
        """The reason, where it is one that is worth a BLOCKED record; else None."""
        return self.reason if self.reason.is_persisted() else None

    @property
    def decision(self) -> "AtomicServiceClaim":
        """The claim itself, so that ``claim.decision.<field>`` reads the same."""
        return self


class _UnfrozenClaim:
    """What a claim is while its fields are filled in; see :meth:`_ClaimBuilder._build`."""

    __slots__ = AtomicServiceClaim.__slots__


@dataclass(slots=True)
class _ClaimBuilder:
    """Scratch-pad of one decision: filled in row by row, read once by a terminal method.

    Its defaults mean "skip, nothing to report"; a branch sets only what differs. From
    ``current_time`` (Unix seconds) and the interval come the exact integers that everything is
    decided on, in microseconds: ``now_us`` since the epoch, ``interval_us``, and ``offset_us``,
    which is now's distance from ``cycle_start``. ``started_at`` is now as a datetime; None has
    it made when a run needs it, as most claims have none.
    """

    runner_id: str
    started_at: datetime | None
    current_time: float
    interval_seconds: float
    spread_minutes: float
    stabilization_seconds: float
    cycle_start: datetime = field(init=False)
    stable_runner_count: int = 0
    assigned_runner_id: str | None = None
    runner_position: int | None = None
    slot_start: datetime | None = None
    slot_end: datetime | None = None
    is_slot_owner_now: bool = False
    now_us: int = field(init=False)
    interval_us: int = field(init=False)
    offset_us: int = field(init=False)

    def __post_init__(self) -> None:
        time = self.current_time
        seconds = floor(time)
        # The fraction apart from the seconds: a float of their size has no room for each
        # microsecond. And x.__round__() for round(x), which takes twice as long.
        self.now_us = now = seconds * 1_000_000 + ((time - seconds) * 1e6).__round__()
        self.interval_us = interval = (self.interval_seconds * 1e6).__round__()
        self.offset_us = offset = now % interval
        try:
            self.cycle_start = _EPOCH + (now - offset) * _MICROSECOND
        except OverflowError:
            raise _beyond_all_years(_EPOCH + now * _MICROSECOND, -offset) from None

    def use_runners(self, total: int, assigned_runner_id: str) -> None:
        """Note how many runners share the cycle, and whose slot now is in."""
        self.stable_runner_count = total
        self.assigned_runner_id = assigned_runner_id

    def set_position(self, position: int) -> None:
        """Note the caller's place in the list, from 0."""
        self.runner_position = position

    def set_slot(self, window: tuple[int, int], *, is_owner: bool) -> None:
        """Note the caller's slot, in microseconds after the cycle's start, and if it is now's."""
        start, end = window
        try:
            self.slot_start = self.cycle_start + start * _MICROSECOND
            self.slot_end = self.cycle_start + end * _MICROSECOND
        except OverflowError:
            raise _beyond_all_years(self.cycle_start, end) from None
        self.is_slot_owner_now = is_owner

    def no_runners(self) -> AtomicServiceClaim:
        """Row 1: nobody shares the cycle."""
        return self._build(_NO_STABLE_RUNNERS)

    def not_in_stable_set(self) -> AtomicServiceClaim:
        """Row 2: the caller has no slot in this cycle."""
        return self._build(_NOT_ASSIGNED_SLOT)

    def not_in_slot(self) -> AtomicServiceClaim:
        """Row 5: the caller has a slot, and it is not now."""
        return self._build(_NOT_ASSIGNED_SLOT)

    def invalid_window(self) -> AtomicServiceClaim:
        """Row 3: the margin leaves nothing of the caller's slot."""
        return self._build(
            _SLOT_WINDOW_INVALID,
            skip_message=(
                f"spread_margin={self.spread_minutes}m leaves nothing of a slot of "
                f"interval/{self.stable_runner_count}: shorten the margin, lengthen the "
                "interval, or share it among fewer runners"
            ),
        )

    def in_grace(self) -> AtomicServiceClaim:
        """Row 4: the assigned runner is still within its stabilization time."""
        return self._build(
            _SCHEDULED_RUNNER_IN_GRACE,
            skip_message=(
                f"assigned runner {self.assigned_runner_id} is still in its grace window of "
                f"{self.stabilization_seconds / 60:g}m after joining"
            ),
        )

    def late_start(self, fraction: float, max_fraction: float) -> AtomicServiceClaim:
        """Row 6: more of the slot is gone than may be."""
        return self._build(
            _LATE_START,
            skip_message=(
                f"{fraction:.2%} of the slot is gone, and a start is allowed within the "
                f"first {max_fraction:.2%}"
            ),
            late_start_fraction=fraction,
        )

    def cleared_to_start(self) -> AtomicServiceClaim:
        """Row 7: the caller may start, and this is its run."""
        if self.started_at is None:
            self.started_at = self.cycle_start + self.offset_us * _MICROSECOND
        return self._build(
            _ASSIGNED,
            atomic_service_run=AtomicServiceRun(
                AtomicServiceId(self.runner_id, _fresh_run_id()),
                self.cycle_start,
                self.slot_start,
                self.slot_end,
                self.started_at,
            ),
        )

    def _build(
        self,
        reason: AtomicServiceDecisionReason,
        *,
        atomic_service_run: AtomicServiceRun | None = None,
        skip_message: str = "",
        late_start_fraction: float | None = None,
    ) -> AtomicServiceClaim:
        """Build the claim: the same as by its constructor, in a quarter of the time.

        The constructor of a frozen dataclass stores each field by a call of
        ``object.__setattr__``, for plain assignments are refused. On these twelve fields that
        took a third of a whole decision. An unfrozen claim has the same slots, and so the same
        layout in memory: it is filled in by plain assignments, and then declared to be what it
        is. From then on it is a frozen claim like any other.
        """
        made: Any = _UnfrozenClaim()
        made.runner_id = self.runner_id
        made.reason = reason
        made.cycle_start = self.cycle_start
        made.assigned_runner_id = self.assigned_runner_id
        made.runner_position = self.runner_position
        made.stable_runner_count = self.stable_runner_count
        made.slot_start = self.slot_start
        made.slot_end = self.slot_end
        made.is_slot_owner_now = self.is_slot_owner_now
        made.atomic_service_run = atomic_service_run
        made.skip_message = skip_message
        made.late_start_fraction = late_start_fraction
        made.__class__ = AtomicServiceClaim
        claim: AtomicServiceClaim = made
        return claim


def _slot_window(
    cycle_start_us: int,
    position: int,
    slot_size: tuple[int, int],
    spread_us: int,
    *,
    single_runner: bool,
) -> tuple[int, int] | None:
    """When the runner at ``position`` may start: ``[start, end)``, without the guard time.

    All in integer microseconds. ``slot_size`` is the pair (interval, number of runners): a
    slot's exact length is their quotient, which is seldom a whole number, so each edge is
    rounded up to the next microsecond. The answer counts from where ``cycle_start_us`` counts
    from. None where the margin ``spread_us`` leaves nothing of the slot; a single runner owns
    the whole cycle, without a margin.
    """
    interval, runners = slot_size
    if single_runner:
        return cycle_start_us, cycle_start_us + interval
    # (a + b - 1) // b is a/b rounded up.
    to_round_up = position * interval + runners - 1
    start = cycle_start_us + to_round_up // runners
    end = cycle_start_us + (to_round_up + interval) // runners - spread_us
    return (start, end) if start < end else None


def _is_in_grace(runner: ActiveRunnerInfo, now: int, stabilization_seconds: float) -> bool:
    """Whether ``runner`` joined less than ``stabilization_seconds`` before ``now``.

    ``now`` is in microseconds since the epoch. Exactly at the limit the grace is over; 0 seconds
    disables it.

    Raises:
        ValueError: ``runner.creation_time`` is naive, and the limit is not 0.
    """
    if not stabilization_seconds:
        return False
    try:
        joined = (runner.creation_time - _EPOCH) // _MICROSECOND
    except TypeError:
        raise ValueError(
            f"creation_time of runner {runner.runner_id!r} must be an aware datetime, "
            f"got the naive {runner.creation_time!r}"
        ) from None
    try:
        return now - joined < (stabilization_seconds * 1e6).__round__()
    except OverflowError:  # beyond all floats, and so beyond all years
        return True


def _late_start_fraction(
    started_at: int, slot_start: int | None, slot_end: int | None, max_fraction: float
) -> float | None:
    """The part of the slot that is gone at ``started_at``, where it is over the maximum.

    The three instants are integers in one unit, from one origin. The fraction is compared as
    the nearest float, so that 3/10 is not over a maximum of ``0.3``. None where nothing is
    wrong: the maximum is kept, or is not strictly between 0 and 1; a bound is missing; nothing
    of the slot is gone yet.
    """
    if slot_start is None or slot_end is None or not 0 < max_fraction < 1:
        return None
    if started_at <= slot_start:
        return None
    fraction = (started_at - slot_start) / (slot_end - slot_start)
    return fraction if fraction > max_fraction else None


def decide_atomic_service_claim(
    *,
    runner_id: str,
    active_runners: Sequence[ActiveRunnerInfo],
    current_time: float,
    service_interval_minutes: float,
    spread_margin_minutes: float,
    membership_stabilization_seconds: float,
    max_start_slot_fraction: float,
) -> AtomicServiceClaim:
    """Decide whether ``runner_id`` may start the service at ``current_time``.

    Pure: no clock, no I/O, no state. The decision table of the module says which answer
    applies when.

    Args:
        runner_id: the caller.
        active_runners: everybody who shares the cycle, in the schedule's order. Where an id
            stands twice, its first entry gives its position.
        current_time: now, in Unix seconds; taken to the nearest microsecond. All callers must
            read it from one clock, or from clocks no further apart than the margin.
        service_interval_minutes: length of a cycle, taken to the nearest microsecond.
        spread_margin_minutes: guard time at the end of each slot, in which nobody starts;
            0 for none.
        membership_stabilization_seconds: age below which an assigned runner does not start,
            and nobody instead of it; 0 disables this.
        max_start_slot_fraction: part of the slot, over 0 and at most 1, within which a start
            is allowed; 1.0 allows it to the slot's end.

    Returns:
        The claim. ``claim.should_try_start`` is true when the caller is cleared to start.

    Raises:
        ValueError: a number is not finite or out of its range, the cycle reaches beyond the
            years that ``datetime`` can express, or the assigned runner's ``creation_time`` is
            naive where its age counts. The message names the parameter, the value and what is
            allowed.
    """
    # NaN fails every comparison, and floats are compared with floats three times as fast.
    if not (
        _FIRST_SECOND <= current_time < _AFTER_LAST_SECOND
        and _TOO_SHORT < service_interval_minutes <= _LONGEST
        and 0.0 <= spread_margin_minutes <= _LARGEST
        and 0.0 <= membership_stabilization_seconds <= _LARGEST
        and 0.0 < max_start_slot_fraction <= 1.0
    ):
        raise _bad_number(
            current_time,
            service_interval_minutes,
            spread_margin_minutes,
            membership_stabilization_seconds,
            max_start_slot_fraction,
        )
    claim = _ClaimBuilder(
        runner_id,
        None,
        current_time,
        service_interval_minutes * 60.0,
        spread_margin_minutes,
        membership_stabilization_seconds,
    )
    total = len(active_runners)
    if total == 0:
        return claim.no_runners()
    interval, offset = claim.interval_us, claim.offset_us
    assigned = active_runners[offset * total // interval]
    owner = assigned.runner_id
    claim.use_runners(total, owner)
    # Nobody is looked at behind the caller, who may stand at the head of a long list.
    try:
        position = indexOf(map(_runner_id_of, active_runners), runner_id)
    except ValueError:
        return claim.not_in_stable_set()
    claim.set_position(position)
    try:
        spread = (spread_margin_minutes * 60e6).__round__()
    except OverflowError:  # beyond all floats, and so beyond the interval
        spread = interval
    window = _slot_window(0, position, (interval, total), spread, single_runner=total == 1)
    if window is None:
        return claim.invalid_window()
    claim.set_slot(window, is_owner=owner == runner_id)
    # The limit first: most callers have none, and then the call is not worth making.
    if membership_stabilization_seconds and _is_in_grace(
        assigned, claim.now_us, membership_stabilization_seconds
    ):
        return claim.in_grace()
    start, end = window
    if not start <= offset < end:
        return claim.not_in_slot()
    fraction = _late_start_fraction(offset, start, end, max_start_slot_fraction)
    if fraction is not None:
        return claim.late_start(fraction, max_start_slot_fraction)
    return claim.cleared_to_start()


def _bad_number(
    current_time: float,
    service_interval_minutes: float,
    spread_margin_minutes: float,
    membership_stabilization_seconds: float,
    max_start_slot_fraction: float,
) -> ValueError:
    """The error for the first of the five that is out of its range; one of them is."""
    if not _FIRST_SECOND <= current_time < _AFTER_LAST_SECOND:
        return _out_of_range(
            "current_time", current_time, "finite Unix seconds within the years 1 to 9999"
        )
    if not _TOO_SHORT < service_interval_minutes <= _LONGEST:
        return _out_of_range(
            "service_interval_minutes",
            service_interval_minutes,
            "a finite number of minutes, over 0 when rounded to a microsecond",
        )
    if not 0 <= spread_margin_minutes <= _LARGEST:
        return _out_of_range(
            "spread_margin_minutes", spread_margin_minutes, "a finite number of minutes, 0 or more"
        )
    if not 0 <= membership_stabilization_seconds <= _LARGEST:
        return _out_of_range(
            "membership_stabilization_seconds",
            membership_stabilization_seconds,
            "a finite number of seconds, 0 or more",
        )
    return _out_of_range("max_start_slot_fraction", max_start_slot_fraction, "over 0 and at most 1")


def _out_of_range(parameter: str, value: float, allowed: str) -> ValueError:
    return ValueError(f"{parameter} must be {allowed}, got {value!r}")


def _beyond_all_years(instant: datetime, microseconds: int) -> ValueError:
    return ValueError(
        "current_time and service_interval_minutes must keep the cycle within the years 1 to "
        f"9999: {microseconds} microseconds from {instant.isoformat()} is outside"
    )
