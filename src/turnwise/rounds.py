"""One participant's single rounds: begin a turn, finish it.

A round is: heartbeat (its answer gives the storage's now) -> the cycle's frozen schedule ->
decide -> gate -> a :class:`Turn`, or the claim that says why not.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from unicodedata import category
from uuid import uuid4

from turnwise.atomic_service import (
    AtomicServiceClaim,
    AtomicServiceDecisionReason,
    AtomicServiceExecutionStatus,
    AtomicServiceRun,
)
from turnwise.backends import (
    NO_MARGIN,
    OWNER_DEAD,
    Admission,
    Backend,
    ExecutionRecord,
    Heartbeat,
    Look,
    Participant,
    StorageError,
)
from turnwise.old_gate import Gate
from turnwise.old_settings import Settings
from turnwise.old_turn import NOT_STARTED, Turn, TurnKeeper, TurnLost
from turnwise.pace import Pace
from turnwise.timetable import decide, first_cycle_after_joining

_log = logging.getLogger("turnwise")

HAD_ITS_TURN = "this runner has had its turn in this slot"
"""Why a runner that is cleared to start again in one slot does not."""

_COMPLETED = AtomicServiceExecutionStatus.COMPLETED
_ABANDONED = AtomicServiceExecutionStatus.ABANDONED
_TRIES_IN_A_SLOT = 10
_SHORTEST_WAIT = timedelta(milliseconds=20)
_CONTROLS = frozenset({"Cc", "Zl", "Zp"})  # Unicode's: controls, and what else ends a line
_LONGEST_NAME = 255
_LONGEST_REASON = 1000


class TurnTaker:
    """The part of a :class:`~turnwise.runner.Runner` that takes single turns."""

    def __init__(
        self,
        backend: Backend,
        service: str,
        *,
        settings: Settings,
        runner_id: str,
        may_run: bool,
        heartbeat_thread: bool,
        monotonic: Callable[[], float],
        sleep: Callable[[float], object],
    ) -> None:
        if not hasattr(backend, "look"):
            raise TypeError(
                f"backend must be a storage, such as open_backend() gives, got {backend!r}"
            )
        if not isinstance(settings, Settings):
            raise TypeError(f"settings must be Settings, got {settings!r}")
        self.service = checked_name("service", service)
        self.runner_id = checked_name("runner_id", runner_id)
        self.settings = settings
        self._who = Participant(runner_id, uuid4().hex, may_run)
        self._backend = backend
        self._heartbeat_thread = heartbeat_thread
        self._monotonic = monotonic
        self._stop_requested = False
        self._gate = Gate(
            backend,
            service,
            settings,
            monotonic=monotonic,
            sleep=sleep,
            stop_requested=lambda: self._stop_requested,
        )
        self._pace = Pace(settings, monotonic)
        self._keeper: TurnKeeper | None = None
        self._used_slot: datetime | None = None
        self._refused_slot: datetime | None = None
        self._settings_published = False
        self._other_processes: set[str] = set()
        self._storage_is_lost = False
        self._joined_at: datetime | None = None

    def begin(self) -> Turn | AtomicServiceClaim:
        """Take part in this moment's decision: a turn, or the claim that says why not.

        Where the decision cleared this runner and the gate did not, the claim has no run, and
        its ``skip_message`` is the gate's answer (``prior_running:<run id>``,
        ``cycle_served``, ``no_margin``). A turn must be ended with :meth:`finish`.

        Raises:
            StorageError: the storage does not answer; no turn was started.
            RuntimeError: the system has no thread left to keep a turn alive; it was given back.
        """
        self._pace.round_at(None)  # should this round fail, the next is due at once
        look = self._look()
        claim = decide(self.runner_id, look.scheduled, look.now, self.settings)
        run = claim.atomic_service_run
        if self._has_had_its_turn(claim):
            claim = _refused(claim, HAD_ITS_TURN)
        elif run is not None:
            return self._pass_the_gate(claim, run, look)
        elif claim.skip_reason is not None and not self._was_in_time(claim):
            self._backend.block(self.service, claim, look)
        self._pace.round_at(self._next_chance(claim, look))
        return claim

    def finish(
        self,
        turn: Turn,
        status: AtomicServiceExecutionStatus = _COMPLETED,
        reason: str = "",
    ) -> ExecutionRecord:
        """End a turn: close its execution. Tried until the storage answers, recorded once.

        Args:
            turn: what :meth:`begin` gave.
            status: COMPLETED or ABANDONED.
            reason: why, where there is something to say; 1,000 characters of it are kept.

        Raises:
            ValueError: another status.
            TurnLost: somebody else had closed the execution; what they wrote stands.
            StorageError: the storage has not answered for the heartbeat timeout, after which it
                gives the turn up for dead by itself.
        """
        if status not in (_COMPLETED, _ABANDONED):
            raise ValueError(f"a turn ends as completed or abandoned, not as {status}")
        reason = _storable(reason)[:_LONGEST_REASON]
        try:
            record = self._gate.close(turn.run, status, reason)
        finally:
            self._end_keeper()
        if record is None or (record.status, record.reason) != (status, reason):
            what = (
                "it is not kept any more" if record is None else f"{record.status}, {record.reason}"
            )
            raise TurnLost(f"{turn.run.atomic_service_id}: somebody else closed this run: {what}")
        return record

    def heartbeat(self, turn: Turn | None = None) -> Heartbeat:
        """Say that this runner lives, and keep ``turn`` alive where one is named.

        Raises:
            StorageError: the storage does not answer.
        """
        asked_at = self._monotonic()
        run_id = None if turn is None else turn.run.atomic_service_id.atomic_service_run_id
        heartbeat = self._backend.heartbeat(self.service, self._who, self.settings, run_id)
        if turn is not None:
            turn._confirm(heartbeat, asked_at)  # noqa: SLF001 (its one writer)
        self._note(heartbeat.now, heartbeat.previous_boot_id, asked_at)
        return heartbeat

    def leave(self) -> None:
        """Leave the service: the runner's slots stay empty until the cycle ends.

        Raises:
            StorageError: the storage does not answer; it will notice the silence.
        """
        self._backend.leave(self.service, self._who)

    def _look(self) -> Look:
        if not self._settings_published:
            before = self._backend.publish_settings(self.service, self.settings)
            self._settings_published = True
            if before is not None and before != self.settings:
                _log.warning(
                    "service %s was started with other settings before (%s): runners that "
                    "disagree count different slots, which the gate alone keeps apart, and one "
                    "with a shorter heartbeat timeout takes a run that is at work for dead",
                    self.service,
                    "; ".join(self.settings.differences(before)),
                )
        asked_at = self._monotonic()
        look = self._backend.look(self.service, self._who, self.settings)
        self._note(look.now, look.previous_boot_id, asked_at, look.joined_at)
        return look

    def _note(
        self,
        now: datetime,
        previous_boot_id: str | None,
        asked_at: float,
        joined_at: datetime | None = None,
    ) -> None:
        """Keep the storage's time beside ours, and notice a second process with our id."""
        first = not self._pace.has_begun
        self._pace.note(now, asked_at)
        if self._storage_is_lost:
            self._storage_is_lost = False
            _log.info("runner %s: the storage answers again", self.runner_id)
        if joined_at is not None and joined_at != self._joined_at:
            self._joined_at = joined_at
            first_cycle = first_cycle_after_joining(joined_at, self.settings)
            _log.info(
                "runner %s: first turn at %s at the earliest",
                self.runner_id,
                max(first_cycle.start, now).isoformat(timespec="seconds"),
            )
        if first:
            return
        if previous_boot_id is None:
            # The storage has forgotten this runner, and so perhaps what the settings are.
            self._settings_published = False
        elif previous_boot_id not in (self._who.boot_id, *self._other_processes):
            self._other_processes.add(previous_boot_id)
            _log.error(
                "runner id %s of service %s is used by another live process, too: "
                "give each its own",
                self.runner_id,
                self.service,
            )

    def _has_had_its_turn(self, claim: AtomicServiceClaim) -> bool:
        """Whether now is in a slot that this runner has used: no start, and not a late one."""
        in_slot = claim.reason in (
            AtomicServiceDecisionReason.ASSIGNED,
            AtomicServiceDecisionReason.LATE_START,
        )
        return in_slot and claim.slot_start == self._used_slot

    def _was_in_time(self, claim: AtomicServiceClaim) -> bool:
        """Whether a late start is none: the gate had refused this runner earlier in its slot."""
        late = claim.reason is AtomicServiceDecisionReason.LATE_START
        return late and claim.slot_start == self._refused_slot

    def _pass_the_gate(
        self, claim: AtomicServiceClaim, run: AtomicServiceRun, look: Look
    ) -> Turn | AtomicServiceClaim:
        asked_at = self._monotonic()
        admission = self._gate.admit(run, look)
        if admission.fencing_token is None:
            self._refused_slot = run.slot_start
            self._pace.round_at(self._next_try(admission, claim, look))
            return _refused(claim, admission.refusal)
        self._used_slot = run.slot_start
        turn = self._turn(run, admission.fencing_token, asked_at, look)
        try:
            held = self._is_too_late(turn) or self._is_still_held(turn)
        except StorageError:
            # Left alone it would hold the gate for the heartbeat timeout.
            self._give_back(turn, NO_MARGIN)
            raise
        if not held:
            return _refused(claim, f"{OWNER_DEAD}: the admission was answered too late")
        # Asking took time, too; and what is answered after the timeout says nothing any more.
        timeout = self.settings.heartbeat_timeout.total_seconds()
        if self._is_too_late(turn) or turn.silence() >= timeout:
            self._give_back(turn, NO_MARGIN)
            return _refused(claim, NO_MARGIN)
        if self._heartbeat_thread:
            self._start_keeper(turn)
        return turn

    def _start_keeper(self, turn: Turn) -> None:
        keeper = self._keeper_of(turn)
        try:
            keeper.start()
        except RuntimeError:
            self._give_back(turn, NOT_STARTED)
            raise
        self._keeper = keeper

    def _keeper_of(self, turn: Turn) -> TurnKeeper:
        """What keeps a turn alive; in virtual time it is no thread."""
        interval = self.settings.heartbeat_interval.total_seconds()
        return TurnKeeper(turn, self.heartbeat, interval)

    def _turn(self, run: AtomicServiceRun, fencing_token: int, asked_at: float, look: Look) -> Turn:
        slot_end, started_at = run.slot_end or look.cycle.end, run.started_at or look.now
        return Turn(
            run,
            fencing_token,
            asked_at=asked_at,
            deadline=asked_at + (slot_end - started_at).total_seconds(),
            heartbeat_timeout=self.settings.heartbeat_timeout.total_seconds(),
            monotonic=self._monotonic,
            stop_requested=lambda: self._stop_requested,
        )

    def _give_back(self, turn: Turn, reason: str) -> None:
        """End a turn that was admitted and cannot begin."""
        try:
            self.finish(turn, _ABANDONED, reason)
        except TurnLost as lost:
            _log.warning("%s", lost)

    def _is_too_late(self, turn: Turn) -> bool:
        """Whether too little of the slot is left to begin."""
        left = turn.remaining()
        return left <= 0 or left < self.settings.min_run_margin.total_seconds()

    def _is_still_held(self, turn: Turn) -> bool:
        """Renew a turn whose admission was long in coming, before it begins."""
        if turn.silence() < self.settings.heartbeat_interval.total_seconds():
            return True
        return self.heartbeat(turn).holds_run

    def _next_chance(self, claim: AtomicServiceClaim, look: Look) -> datetime:
        """The next instant at which a round could bring a turn."""
        if claim.slot_start is not None and look.now < claim.slot_start:
            return claim.slot_start
        in_slot = claim.slot_end is not None and look.now < claim.slot_end
        if in_slot and claim.reason is AtomicServiceDecisionReason.SCHEDULED_RUNNER_IN_GRACE:
            joined = (r.creation_time for r in look.scheduled if r.runner_id == self.runner_id)
            # No later than the next cycle: this runner may have its first slot.
            return min(next(joined) + self.settings.membership_stabilization, look.cycle.end)
        return look.cycle.end

    def _next_try(self, admission: Admission, claim: AtomicServiceClaim, look: Look) -> datetime:
        """When to ask the gate again that has just refused."""
        if admission.retry_at is None:
            return look.cycle.end
        # A run that overruns by little shall cost the next slot little, however short that is.
        slot = (claim.slot_end or look.cycle.end) - (claim.slot_start or look.cycle.start)
        window = slot * self.settings.max_start_slot_fraction
        wait = max(window / _TRIES_IN_A_SLOT, min(_SHORTEST_WAIT, window / 2))
        wait = min(wait, self.settings.heartbeat_interval)
        return min(admission.retry_at, admission.now + wait, look.cycle.end)

    def _end_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.end()
            self._keeper = None


def _refused(claim: AtomicServiceClaim, message: str) -> AtomicServiceClaim:
    return replace(claim, atomic_service_run=None, skip_message=message)


def checked_name(parameter: str, name: str) -> str:
    """The name of a service or a runner, if every storage, log and terminal can take it.

    Raises:
        TypeError: it is no text.
        ValueError: it is empty, too long, not Unicode, or has control characters.
    """
    if not isinstance(name, str):
        raise TypeError(f"{parameter} must be text, got {name!r}")
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise ValueError(
            f"{parameter} must have 1 to {_LONGEST_NAME} characters, got {len(name)}: {name[:40]!r}"
        )
    if _storable(name) != name or not _CONTROLS.isdisjoint(map(category, name)):
        raise ValueError(
            f"{parameter} must be Unicode text without control characters, got {name!r}"
        )
    return name


def _storable(text: str) -> str:
    """Text that every storage can keep; what none can (NUL, half a character) as an escape."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
