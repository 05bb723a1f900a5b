"""What a machine knows and what it is about: plain data, and the arithmetic of its two clocks.

Every other room of the package is functions on a :class:`State`. It has no rule of its own but
one: the storage's clock is laid beside ours with each answer (:meth:`State.aim_at`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Protocol, runtime_checkable

from turnwise import plan as plans
from turnwise.actions import Append, Request, Swap
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import microseconds
from turnwise.events import Event
from turnwise.gate import Gate, Run
from turnwise.looks import Lookout, next_look
from turnwise.plan import CyclePlan, Plan, Planner, Target
from turnwise.settings import Settings
from turnwise.storages import Kind, Owner, Record, Swapped
from turnwise.texts import gate_to_text

Names = Callable[[], str]
"""Gives a text that it never gave before, such as a random UUID: for runs and versions."""

_CLOCK_NOISE: Final = 1_000
_text_of = lru_cache(maxsize=256)(Settings.to_json)


@dataclass(slots=True)
class TurnState:
    """A turn of this runner, from its admission until its end is recorded.

    ``gate`` and ``version`` are the gate's record as the turn last knew it. ``confirmed_at`` is
    the departure of the last request that confirmed the run, and ``deadline`` the end of its slot,
    both on the monotonic clock. ``outcome`` is how the function ended, once it has.
    ``handed_over`` says that only the storage knows whether the run was completed.
    """

    run: Run
    gate: Gate
    version: str
    confirmed_at: int
    deadline: int
    last_served: int | None
    began_at: int | None = None
    ended_at: int | None = None
    outcome: tuple[Status, str] | None = None
    lost: bool = False
    overdue: bool = False
    recorded: bool = False
    still_runs: bool = False
    handed_over: bool = False

    def is_lost(self, at: int) -> bool:
        """Whether the turn is not surely its runner's any more."""
        return self.lost or at - self.confirmed_at >= self.run.heartbeat_timeout

    @property
    def is_at_work(self) -> bool:
        """Whether its function runs, or is about to, and its end is not decided."""
        return self.outcome is None

    def end(self, status: Status, reason: str, at: int) -> None:
        """It ends so, at this instant; what is left is to record it."""
        self.outcome, self.ended_at = (status, reason), at


@dataclass(frozen=True, slots=True)
class Unsettled:
    """An admission that was asked for, and whose answer is not known, or is lost."""

    run: Run
    gate: Gate
    expected: str
    version: str
    looked_at: int
    last_served: int | None


@dataclass(frozen=True, slots=True)
class Sighting:
    """An open run, the word of its owner, and when the first and last answer with it arrived."""

    run_id: str
    word: int | None
    since: int
    last: int


@dataclass(frozen=True, slots=True)
class Records:
    """What the last look showed, and what was swapped since; ``sent`` is when the look left."""

    sent: int
    now: int
    plan_version: str | None
    gate_version: str | None
    plan: Plan | None
    gate: Gate | None


@dataclass(frozen=True, slots=True)
class Planning:
    """A plan that is being swapped in: its version, what it was made on, and what it is for."""

    version: str
    records: Records
    target: Target


class State:
    """All that one machine knows. Instants are on the monotonic clock, unless it says otherwise."""

    def __init__(
        self,
        *,
        group: str,
        service: str,
        runner_id: str,
        boot_id: str,
        settings: Settings,
        names: Names,
        may_run: bool,
        on_demand: bool,
    ) -> None:
        # What never changes.
        self.group, self.service = group, service
        self.runner_id, self.boot_id = runner_id, boot_id
        self.settings, self.settings_text = settings, _text_of(settings)
        self.planner = Planner.of(service, settings)
        self.names, self.may_run, self.on_demand = names, may_run, on_demand
        self.timeout = microseconds(settings.heartbeat_timeout)
        self.interval = microseconds(settings.heartbeat_interval)
        self.named: dict[str, Any] = {"group": group, "runner_id": runner_id, "service": service}
        # The request that is on its way, when it left, and what is done with a swap's answer.
        self.asked: Request | None = None
        self.asked_at = 0
        self.purpose: Purpose | None = None
        # The request that comes next; and after a failure, when to go on.
        self.then: Request | None = None
        self.failures = 0
        self.retry_at: int | None = None
        # When to look: an instant of the storage, one of ours, and how the two clocks lie.
        self.wake: int | None = None
        self.soon: int | None = 0
        self.aim: tuple[int, int] | None = None
        self.quiet_until: int | None = None
        # What the storage said.
        self.records: Records | None = None
        self.revision: int | None = None
        self.sighting: Sighting | None = None
        self.dead: str | None = None
        # What this runner may do.
        self.is_wanted = not on_demand
        self.is_offered = False
        self.offer_from = 0
        self.is_drained = False
        self.is_stopping = False
        # Asking the gate: what is in the way, in which slots we were, what is not known.
        self.blocked_by: str | None = None
        self.used_slot: int | None = None
        self.tried: tuple[int, str] | None = None  # a slot, and a trigger that was taken in it
        self.asked_in: int | None = None
        self.noted: tuple[int, str] | None = None
        self.admitting: Unsettled | None = None
        self.unsettled: Unsettled | None = None
        # The turn.
        self.turn: TurnState | None = None
        self.turns = 0
        self.purge_is_due = False
        # The history: what it is known to have, and what is still to be appended.
        self.kept: frozenset[str] = frozenset()
        self.tried_to_keep = False
        self.to_keep: Append | None = None
        self.has_said_offer = False
        self.keep_from = 0
        # Planning: what was doubted, what is being planned, and who is to be told of what.
        self.doubted: tuple[str | None, int | None, bool] | None = None
        self.trusted: tuple[str | None, int | None] | None = None
        self.target: tuple[Target, Plan | None] | None = None
        self.planning: Planning | None = None
        self.tells_all = False
        self.told_settings: str | None = None
        self.owed: CyclePlan | None = None
        self.unplanned: tuple[int, int] | None = None

    def copy(self) -> "State":
        """Another one that goes its own way: all but the turn, and some names, never change."""
        other = object.__new__(State)
        other.__dict__.update(self.__dict__)
        if self.turn is not None:
            other.turn = replace(self.turn)
        if isinstance(self.names, _Copyable):
            other.names = self.names.copy()
        return other

    @property
    def seen(self) -> Records:
        """What the last look showed, for whoever was led here by one."""
        assert self.records is not None  # noqa: S101 (see above)
        return self.records

    @property
    def can_serve(self) -> bool:
        """Whether this runner takes turns now."""
        return self.may_run and not self.is_drained and not self.is_stopping

    def of(self, run: Run) -> dict[str, Any]:
        """What each event of a run says first."""
        return self.named | {"run_id": run.run_id, "token": run.token, "due": run.due}

    # Two clocks -------------------------------------------------------------------------------

    def storage_now(self, at: int) -> int | None:
        """The storage's now, as it is reckoned here; None before the storage has answered."""
        return None if self.aim is None else self.aim[0] + at - self.aim[1]

    def aim_at(self, now: int, sent: int, at: int) -> None:
        """Lay the storage's clock beside ours; where it has stepped back, keep quiet a while.

        The answer's now is laid at its arrival, so that a wait ends late rather than early. So the
        next answer's now is at least what we reckon for the departure of its request, unless the
        clock has stepped, or drifts. An answer that was held up while newer ones came says nothing
        about now.
        """
        if self.aim is not None:
            elapsed = sent - self.aim[1]
            late = self.aim[0] + elapsed - now
            # At most a thousandth of the time is a drift; where there is none, all is well.
            if late > _CLOCK_NOISE and late > _CLOCK_NOISE + max(0, elapsed) // 1000:
                self.quiet_until = at + self.interval
                self.look_now(at)
            elif elapsed < 0:
                return
        self.aim = (now, at)

    # When to look -----------------------------------------------------------------------------

    def look_at(self) -> int | None:
        """When to look, on the monotonic clock; None for at once."""
        soon, wake, aim = self.soon, self.wake, self.aim
        if wake is None or aim is None:
            return soon
        by_clock = wake - aim[0] + aim[1]
        return by_clock if soon is None or by_clock < soon else soon

    def look_now(self, at: int) -> None:
        """Look at once."""
        self.soon = at if self.soon is None else min(self.soon, at)

    def wait_for_chance(self, now: int) -> None:
        """Wait for the next instant at which something can be done."""
        gate = self.seen.gate
        assert gate is not None  # noqa: S101 (without one, it is made first)
        plan = plans.in_force(self.seen.plan, self.planner, now)
        who = Lookout(
            self.runner_id, self.planner, self.interval, self.used_slot, self.blocked_by is not None
        )
        # While it keeps quiet it does not plan: it looks again when that is over.
        self.soon, self.wake = self.quiet_until, next_look(plan, gate, who, now)

    # Changing the gate ------------------------------------------------------------------------

    def swap_gate(self, new: Gate, purpose: "Purpose", *, not_after: int | None = None) -> Swap:
        """Ask next for the gate that was seen to be replaced; ``purpose`` takes the answer."""
        swap = gate_swap(self.seen.gate_version, new, self.names(), not_after)
        self.then, self.purpose = swap, purpose
        return swap


class Purpose(Protocol):
    """What is done with the answer to a swap."""

    def __call__(self, state: State, at: int, answer: Swapped, /) -> list[Event]:
        """Take the answer, which arrived at ``at``; give what there is to tell."""


@runtime_checkable
class _Copyable(Protocol):
    """Names that a copy of the machine shall not share."""

    def copy(self) -> Names:
        """Names that go on as these do, apart from them."""


def look_again(state: State, at: int, answer: Swapped) -> list[Event]:
    """The gate was changed, by us or by somebody else: look."""
    state.aim_at(answer.now, state.asked_at, at)
    state.look_now(at)
    return []


def owner_of(gate: Gate) -> Owner | None:
    """What a storage is told of a gate's open run."""
    run = gate.open
    if run is None:
        return None
    return Owner(run.run_id, run.runner_id, run.boot_id, run.heartbeat_timeout)


def gate_swap(expected: str | None, new: Gate, version: str, not_after: int | None) -> Swap:
    """The request that puts a gate in the place of the version that is expected."""
    record = Record(version, gate_to_text(new), owner_of(new))
    return Swap(Kind.GATE, expected, record, not_after)
