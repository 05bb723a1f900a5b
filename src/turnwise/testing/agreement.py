"""One state machine drives storages together: they agree on every answer, step by step."""

import copy
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from turnwise.atomic_service import AtomicServiceClaim
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.backends import NO_MARGIN, Admission, Backend, Look, Participant
from turnwise.backends.memory import MemoryBackend
from turnwise.membership import cycle_at
from turnwise.old_settings import Settings
from turnwise.testing.clock import START, Clock, ManualClock
from turnwise.testing.desk import ABANDONED, COMPLETED, MICROSECOND, SECOND, SETTINGS, run_of
from turnwise.testing.strategies import RUNNER_IDS, durations, knobs
from turnwise.testing.strategies import participants as any_participants
from turnwise.timetable import decide

T = TypeVar("T")

REFERENCE = "the reference"
SERVICES = ("one", "two")
services = st.sampled_from(SERVICES)
runner_ids = st.sampled_from(RUNNER_IDS)
participants = any_participants(may_run=st.sampled_from([True, True, True, False]))
endings = st.sampled_from(
    [(COMPLETED, ""), (ABANDONED, "exit:1"), (ABANDONED, NO_MARGIN), (COMPLETED, "x" * 300)]
)
steps_forward = st.sampled_from([7 * SECOND, 3 * SETTINGS.interval]) | durations()


class Agreement(RuleBasedStateMachine):
    """All storages and the reference in memory, one clock."""

    storages: Mapping[str, Callable[[Clock, Path], Backend]] = {}
    """How each storage is opened, empty, with a clock and a fresh folder."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.stack = ExitStack()
        self.memory = MemoryBackend(self.clock)
        self.backends: dict[str, Backend] = {REFERENCE: self.memory}
        for name, open_it in self.storages.items():
            folder = Path(self.stack.enter_context(TemporaryDirectory()))
            self.backends[name] = self.stack.enter_context(closing(open_it(self.clock, folder)))
        self.run_ids: list[str] = []
        self.settings = SETTINGS

    def teardown(self) -> None:
        """Close every storage."""
        self.stack.close()

    def all(self, ask: Callable[[Backend], T]) -> T:
        """Ask every storage; the answer that they agree on."""
        answers = {name: ask(backend) for name, backend in self.backends.items()}
        first = next(iter(answers.values()))
        assert all(answer == first for answer in answers.values()), answers
        return first

    def a_run_id(self, pick: int) -> str:
        """One of the run ids so far, the newest ones first; or one that nobody knows."""
        return self.run_ids[-1 - pick] if pick < len(self.run_ids) else "unknown"

    @initialize(settings=knobs())
    def settings_of_the_run(self, settings: Settings) -> None:
        """Every knob may be anything, for a whole run of the machine."""
        self.settings = settings

    @rule(by=steps_forward)
    def time_passes(self, by: timedelta) -> None:
        """Nobody does anything for a while."""
        self.clock.advance(by)

    @rule(edge=st.sampled_from([-1, 0, 1]), parts=st.integers(1, 3))
    def time_passes_to_an_edge(self, edge: int, parts: int) -> None:
        """Rules differ at edges: of a slot, of a cycle, a microsecond beside them."""
        cycle = cycle_at(self.clock(), SETTINGS.interval)
        at = cycle.start + parts * SETTINGS.interval / 3 + edge * MICROSECOND
        self.clock.advance(max(timedelta(0), at - self.clock()))

    @rule(back=st.booleans(), by=steps_forward)
    def somebody_sets_the_clock(self, *, back: bool, by: timedelta) -> None:
        """The storage's clock may jump, either way."""
        self.clock.step(-by if back and self.clock() - by > START - timedelta(days=1) else by)

    @rule(service=services, who=participants, pick=st.none() | st.integers(0, 3))
    def heartbeat(self, service: str, who: Participant, pick: int | None) -> None:
        """Somebody says that it lives, and perhaps that a run of its does."""
        run_id = None if pick is None else self.a_run_id(pick)
        self.all(lambda backend: backend.heartbeat(service, who, self.settings, run_id))

    @rule(service=services)
    def all_live_through_a_cycle(self, service: str) -> None:
        """Without this, few runs of the machine would have anybody eligible."""
        edge = cycle_at(self.clock(), SETTINGS.interval).end
        for before_it in (3 * SECOND, SECOND):
            self.clock.advance(max(timedelta(0), edge - before_it - self.clock()))
            for runner_id in RUNNER_IDS:
                who = Participant(runner_id, "first boot")
                self.all(lambda backend: backend.heartbeat(service, who, self.settings))  # noqa: B023 (called at once)
        self.clock.advance(edge - self.clock())

    @rule(service=services, who=participants)
    def leave(self, service: str, who: Participant) -> None:
        """Somebody says that it goes."""
        self.all(lambda backend: backend.leave(service, who))

    @rule(service=services, who=participants)
    def a_round(self, service: str, who: Participant) -> None:
        """What a runner does: it looks, decides, and tries the gate or says why not."""
        look = self.all(lambda backend: backend.look(service, who, self.settings))
        claim = decide(who.runner_id, look.scheduled, look.now, self.settings)
        if claim.atomic_service_run is not None:
            self.admit(service, claim, look)
        elif claim.skip_reason is not None:
            self.all(lambda backend: backend.block(service, claim, look))

    @rule(service=services, runner_id=runner_ids, slot=st.integers(0, 2), delay=steps_forward)
    def a_late_try(self, service: str, runner_id: str, slot: int, delay: timedelta) -> None:
        """Whatever a runner may have decided, and whenever it comes to the gate."""
        look = self.all(lambda backend: backend.peek(service, self.settings))
        run = run_of(runner_id, look.cycle.start, slot=slot)
        claim = decide(runner_id, look.scheduled, look.now, self.settings)
        self.clock.advance(delay)
        self.admit(service, replace(claim, atomic_service_run=run), look)

    @rule(service=services, pick=st.integers(0, 5))
    def an_old_run_tries_again(self, service: str, pick: int) -> None:
        """A request that comes twice, or by a name that is taken."""
        look = self.all(lambda backend: backend.peek(service, self.settings))
        run = run_of("a", look.cycle.start, run_id=self.a_run_id(pick))
        claim = decide("a", look.scheduled, look.now, self.settings)
        self.admit(service, replace(claim, atomic_service_run=run), look)

    def admit(self, service: str, claim: AtomicServiceClaim, look: Look) -> None:
        """Try the gate of every storage with one and the same run."""
        run = claim.atomic_service_run
        assert run is not None
        self.run_ids.append(run.atomic_service_id.atomic_service_run_id)

        def through(backend: Backend) -> tuple[Admission, datetime | None]:
            """The answer, and what the gate stamped on the run."""
            own = copy.copy(run)
            return backend.admit(service, own, self.settings, look), own.started_at

        admission, _ = self.all(through)
        event(f"the gate answers: {admission.refusal.partition(':')[0] or 'admitted'}")

    @rule(service=services, pick=st.integers(0, 3), ending=endings)
    def finish(self, service: str, pick: int, ending: tuple[Status, str]) -> None:
        """Close a run that is open, was closed before, or is not known."""
        run_id = self.a_run_id(pick)
        status, reason = ending
        kept = self.all(
            lambda backend: backend.finish(service, run_id, status, reason, self.settings)
        )
        event(f"a run ends: {kept and kept.status}")

    @rule(service=services, standbys=st.integers(0, 3))
    def publish(self, service: str, standbys: int) -> None:
        """A runner starts with settings of its own."""
        other: Settings = replace(self.settings, standbys=standbys)
        self.all(lambda backend: backend.publish_settings(service, other))

    @rule(service=services, ahead=steps_forward)
    def look_ahead(self, service: str, ahead: timedelta) -> None:
        """Ask about another instant than now."""
        self.all(lambda backend: backend.peek(service, self.settings, self.clock() + ahead))

    @rule(service=services, limit=st.none() | st.integers(0, 5), age=steps_forward)
    def read_a_part(self, service: str, limit: int | None, age: timedelta) -> None:
        """The executions since an instant, and the last of them."""
        since = self.clock() - age
        self.all(lambda backend: backend.executions(service, since=since, limit=limit))

    @invariant()
    def they_agree_on_everything_that_is_kept(self) -> None:
        """The whole of what can be read."""
        self.all(lambda backend: backend.services())
        for service in SERVICES:
            self.all(lambda backend: backend.runners(service))  # noqa: B023 (called at once)
            self.all(lambda backend: backend.executions(service))  # noqa: B023
            self.all(lambda backend: backend.settings_of(service))  # noqa: B023

    @invariant()
    def the_reference_is_sound(self) -> None:
        """The storage in memory holds its own invariants."""
        self.memory._check()  # noqa: SLF001 (for tests)
