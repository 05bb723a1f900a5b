"""What a runner would be told now, and why, as far as the records say."""

from collections.abc import Sequence
from dataclasses import dataclass

from turnwise import gate as gates
from turnwise.atomic_service import AtomicServiceClaim
from turnwise.atomic_service import AtomicServiceDecisionReason as Reason
from turnwise.cycles import Cycle, Slot, slot_at
from turnwise.gate import Gate
from turnwise.looks import slot_is_over
from turnwise.machine.asking import ask_for, claim_of
from turnwise.overview import words
from turnwise.overview.known import GroupKnown, Known
from turnwise.overview.lives import Life, Offered
from turnwise.plan import CyclePlan, upcoming

MOST_SHOWN = 10
"""How many runners are spoken of where none has a slot."""


@dataclass(frozen=True, slots=True)
class NextTurn:
    """When a runner may have its next turn, as far as can be said now."""

    at: int
    role: str
    planned: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What there is to say of one runner: the reason in a word, in words, and its next turn."""

    runner_id: str
    reason: str
    why: str
    slot: Slot | None
    claim: AtomicServiceClaim | None
    next_turn: NextTurn | None
    life: Life | None


class Explainer:
    """What can be said of the runners of one service.

    Args:
        known: the service, at the instant that it is explained for.
        read: its group, as it was read.
        order: the ids of the runners that count now, in the order of the set.
    """

    def __init__(self, known: Known, read: GroupKnown, order: Sequence[str]) -> None:
        self.known, self.order = known, order
        self.cycle = known.cycle
        self._lives = read.lives

    def concerned(self) -> list[str]:
        """The runners to speak of where nobody is named: those with a slot, or some that offer."""
        planned = self.cycle or upcoming(self.known.plan, self.known.now)
        if planned is not None:
            return [runner_id for runner_id, _ in planned.runners]
        offering = dict.fromkeys(o.row.offer.runner_id for o in self.known.offers)
        return [*self.order, *(each for each in offering if each not in self.order)][:MOST_SHOWN]

    def answer(self, runner_id: str) -> Answer:
        """What this runner would be told."""
        life, claim, slot = self.life_of(runner_id), None, None
        outside = self._why_outside(runner_id, life)
        cycle = self.cycle
        position = None if cycle is None else cycle.position_of(runner_id)
        if cycle is None or position is None:
            reason, why = self._without_slot(outside, self._joined_at(runner_id))
        else:
            slot = cycle.slot(position)
            claim = claim_of(cycle, runner_id, self.known.now)
            reason, why = self._with_slot(cycle, slot, runner_id, claim)
            if outside is not None:
                why = f"{outside}; if it asked: {why}"
        turn = None if outside is not None else self._next_turn(runner_id)
        return Answer(runner_id, reason, why, slot, claim, turn, life)

    def life_of(self, runner_id: str) -> Life | None:
        """The life of a runner that was heard of last."""
        mine = [life for life in self._lives if life.row.runner_id == runner_id]
        return max(mine, key=lambda life: (not life.has_left, life.row.heard_at), default=None)

    # Why --------------------------------------------------------------------------------------

    def _why_outside(self, runner_id: str, life: Life | None) -> str | None:
        """Why a runner does not count at all; None where it does."""
        offers = [o for o in self.known.offers if o.row.offer.runner_id == runner_id]
        if life is None:
            return "nobody of this name is known any more"
        if life.has_left:
            return f"it left {words.ago(self.known.now - (life.row.left_at or 0))}"
        if not offers:
            return "it does not offer this service"
        if not any(offer.is_alive for offer in offers):
            return f"it is dead: silent for {words.lasting(life.silent)}"
        if life.row.drained:
            return "it is drained: turnwise undrain lets it take turns again"
        if not any(_may_run(offer) for offer in offers):
            return "it only watches: it offers the service without taking turns"
        return None

    def _joined_at(self, runner_id: str) -> int | None:
        """Since when a runner has offered the service; None where it does not."""
        mine = (o.row.at for o in self.known.offers if o.row.offer.runner_id == runner_id)
        return min(mine, default=None)

    def _without_slot(self, outside: str | None, joined: int | None) -> tuple[str, str]:
        if outside is not None:
            return "not_stable", outside
        known, cycle = self.known, self.cycle
        if cycle is not None:
            if joined is not None and joined > cycle.start - cycle.rules.margin:
                said = "it joined when this cycle was planned already: it counts from the next on"
                return "no_slot", said
            return "no_slot", "it sleeps through this cycle: others are primary and standby"
        if known.is_over:
            return "period_over", words.period(known)
        if known.is_paused:
            return "paused", words.paused(known)
        return "not_planned", "no plan covers now: whoever looks next makes one"

    def _with_slot(
        self, cycle: CyclePlan, slot: Slot, runner_id: str, claim: AtomicServiceClaim
    ) -> tuple[str, str]:
        refusal = self._refusal(cycle, slot, runner_id)
        if self.known.open is not None and self.known.open.runner_id == runner_id:
            return "running", self.gate()
        if claim.reason is Reason.ASSIGNED:
            if refusal is None:
                return str(claim.reason), "it may start now"
            return _word(refusal), f"it is its time, and the gate refuses: {self.gate(refusal)}"
        if isinstance(refusal, gates.AlreadyServed | gates.AttemptsUsed | gates.Paused):
            return _word(refusal), self.gate(refusal)
        if claim.skip_message:
            return str(claim.reason), claim.skip_message
        when = "is over" if self.known.now >= slot.end else "has not begun"
        return str(claim.reason), f"its slot {when}"

    def _refusal(self, cycle: CyclePlan, slot: Slot, runner_id: str) -> gates.Refusal | None:
        """What the gate would say, were it asked now."""
        gate, now = self.known.gate or gates.new_gate(self.known.now), self.known.now
        ask = ask_for(
            gate,
            cycle,
            slot,
            now=now,
            run_id="",
            runner_id=runner_id,
            boot_id="",
            heartbeat_timeout=1,
        )
        admitted = gates.admit(gate, ask, now=now)
        return None if isinstance(admitted, Gate) else admitted

    def _is_over(self, cycle: CyclePlan, slot: Slot) -> bool:
        """Whether nothing is left for a slot: what it serves is over, and no trigger waits."""
        gate, now = self.known.gate, self.known.now
        if gate is None or gate.trigger is not None:
            return False
        return slot_is_over(gate, cycle, cycle.key(slot), now=now)

    def gate(self, refusal: gates.Refusal | None = None) -> str:
        """What the gate says, in words."""
        known = self.known
        if isinstance(refusal, gates.TooLate):
            return f"it is too late: no run for it starts after {words.when(refusal.not_after)}"
        if known.open is not None:
            held = f"; {words.paused(known)}" if known.is_paused else ""
            return words.open_run(known) + held
        return words.paused(known) if known.is_paused else words.period(known)

    # When -------------------------------------------------------------------------------------

    def _next_turn(self, runner_id: str) -> NextTurn | None:
        """The next turn of a runner, while the runners stay the same."""
        return self._planned_turn(runner_id) or self._turn_of_later(runner_id)

    def _planned_turn(self, runner_id: str) -> NextTurn | None:
        known = self.known
        for cycle in () if known.plan is None else known.plan.cycles:
            position = cycle.position_of(runner_id)
            if position is None:
                continue
            slot = cycle.slot(position)
            if known.now <= slot.latest and not self._is_over(cycle, slot):
                said = words.role(position, every_slot=cycle.rules.every_slot)
                return NextTurn(max(slot.start, known.now), said, planned=True)
        return None

    def _turn_of_later(self, runner_id: str) -> NextTurn | None:
        """Its place in a period that is not planned yet, by the rotation of the set."""
        known, planner = self.known, self.known.planner
        if planner is None or runner_id not in self.order:
            return None
        place, size = self.order.index(runner_id), len(self.order)
        last = None if known.plan is None else known.plan.cycles[-1]
        due = known.next_due
        assert due is not None  # noqa: S101 (there is a planner)
        for ahead in range(size):
            periods = planner.first_rotation + ahead
            if last is not None:
                due_is_later = due > last.due
                periods = last.periods + due_is_later + ahead
            turned = 0 if planner.rules.every_slot else periods
            position = (place - turned) % size
            cycle = planner.cycle_at(due)
            slots = size if planner.rules.every_slot else min(size, planner.rules.standbys + 1)
            if position < slots:
                return self._turn_in(cycle, position, slots)
            due = cycle.until
        return None

    def _turn_in(self, cycle: Cycle, position: int, slots: int) -> NextTurn:
        planner = self.known.planner
        assert planner is not None  # noqa: S101 (as the caller has seen)
        rules = planner.rules
        slot = slot_at(
            cycle.start, cycle.end, position, slots, margin=rules.margin, window=rules.window
        )
        return NextTurn(
            slot.start, words.role(position, every_slot=rules.every_slot), planned=False
        )


def _may_run(offered: Offered) -> bool:
    return offered.is_alive and offered.row.offer.may_run


def _word(refusal: gates.Refusal) -> str:
    return str(refusal).partition(":")[0]
