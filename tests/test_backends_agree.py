"""One state machine drives all storages together: they agree on every answer, step by step.

With ``--hypothesis-profile=fresh`` it is 500 runs of 50 steps; everyday it is 10.
"""

import copy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from storages import (
    ABANDONED,
    COMPLETED,
    MICROSECOND,
    SECOND,
    SETTINGS,
    START,
    STORAGES,
    ManualClock,
    fresh,
    run_of,
    share_of_the_profile,
)
from turnwise import AtomicServiceClaim, Backend, Settings
from turnwise import AtomicServiceExecutionStatus as Status
from turnwise.backends import NO_MARGIN, Admission, Look, Participant
from turnwise.backends.memory import MemoryBackend
from turnwise.membership import cycle_at
from turnwise.timetable import decide

T = TypeVar("T")

RUNNER_IDS = ("a", "b", "c", "d", "é'")
SERVICES = ("one", "two")
TIMEOUT = SETTINGS.heartbeat_timeout
services = st.sampled_from(SERVICES)
runner_ids = st.sampled_from(RUNNER_IDS)
participants = st.builds(
    Participant,
    runner_ids,
    st.sampled_from(["first boot", "second boot"]),
    st.sampled_from([True, True, True, False]),
)
endings = st.sampled_from(
    [(COMPLETED, ""), (ABANDONED, "exit:1"), (ABANDONED, NO_MARGIN), (COMPLETED, "x" * 300)]
)
steps_forward = st.sampled_from(
    [MICROSECOND, SECOND, 7 * SECOND, TIMEOUT, TIMEOUT + MICROSECOND, 3 * SETTINGS.interval]
) | st.integers(0, 90_000_000).map(lambda us: us * MICROSECOND)


class Agreement(RuleBasedStateMachine):
    """All storages, one clock."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.stack = ExitStack()
        self.backends: dict[str, Backend] = {
            name: self.stack.enter_context(fresh(name, self.clock)) for name in STORAGES
        }
        self.run_ids: list[str] = []
        self.settings = SETTINGS

    def teardown(self) -> None:
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

    @initialize(
        runs_per_cycle=st.sampled_from(["once", "every_slot"]),
        retry_failed=st.booleans(),
        retention_count=st.sampled_from([1, 3, 1000]),
        retention_age=st.sampled_from([SECOND, 100 * SECOND]),
        standbys=st.sampled_from([0, 2]),
    )
    def settings_of_the_run(self, **knobs: object) -> None:
        # The strategies above give each knob its type.
        self.settings = replace(SETTINGS, **knobs)  # type: ignore[arg-type]

    @rule(by=steps_forward)
    def time_passes(self, by: timedelta) -> None:
        self.clock.advance(by)

    @rule(edge=st.sampled_from([-1, 0, 1]), parts=st.integers(1, 3))
    def time_passes_to_an_edge(self, edge: int, parts: int) -> None:
        cycle = cycle_at(self.clock(), SETTINGS.interval)
        at = cycle.start + parts * SETTINGS.interval / 3 + edge * MICROSECOND
        self.clock.advance(max(timedelta(0), at - self.clock()))

    @rule(back=st.booleans(), by=steps_forward)
    def somebody_sets_the_clock(self, *, back: bool, by: timedelta) -> None:
        self.clock.step(-by if back and self.clock() - by > START - timedelta(days=1) else by)

    @rule(service=services, who=participants, pick=st.none() | st.integers(0, 3))
    def heartbeat(self, service: str, who: Participant, pick: int | None) -> None:
        run_id = None if pick is None else self.a_run_id(pick)
        self.all(lambda backend: backend.heartbeat(service, who, self.settings, run_id))

    @rule(service=services)
    def all_live_through_a_cycle(self, service: str) -> None:
        edge = cycle_at(self.clock(), SETTINGS.interval).end
        for before_it in (3 * SECOND, SECOND):
            self.clock.advance(max(timedelta(0), edge - before_it - self.clock()))
            for runner_id in RUNNER_IDS:
                who = Participant(runner_id, "first boot")
                self.all(lambda backend: backend.heartbeat(service, who, self.settings))  # noqa: B023 (called at once)
        self.clock.advance(edge - self.clock())

    @rule(service=services, who=participants)
    def leave(self, service: str, who: Participant) -> None:
        self.all(lambda backend: backend.leave(service, who))

    @rule(service=services, who=participants)
    def a_round(self, service: str, who: Participant) -> None:
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
        look = self.all(lambda backend: backend.peek(service, self.settings))
        run = run_of("a", look.cycle.start, run_id=self.a_run_id(pick))
        claim = decide("a", look.scheduled, look.now, self.settings)
        self.admit(service, replace(claim, atomic_service_run=run), look)

    def admit(self, service: str, claim: AtomicServiceClaim, look: Look) -> None:
        run = claim.atomic_service_run
        assert run is not None
        self.run_ids.append(run.atomic_service_id.atomic_service_run_id)

        def through(backend: Backend) -> tuple[Admission, datetime | None]:
            own = copy.copy(run)
            return backend.admit(service, own, self.settings, look), own.started_at

        admission, _ = self.all(through)
        event(f"the gate answers: {admission.refusal.partition(':')[0] or 'admitted'}")

    @rule(service=services, pick=st.integers(0, 3), ending=endings)
    def finish(self, service: str, pick: int, ending: tuple[Status, str]) -> None:
        run_id = self.a_run_id(pick)
        status, reason = ending
        kept = self.all(
            lambda backend: backend.finish(service, run_id, status, reason, self.settings)
        )
        event(f"a run ends: {kept and kept.status}")

    @rule(service=services, standbys=st.integers(0, 3))
    def publish(self, service: str, standbys: int) -> None:
        other: Settings = replace(self.settings, standbys=standbys)
        self.all(lambda backend: backend.publish_settings(service, other))

    @rule(service=services, ahead=steps_forward)
    def look_ahead(self, service: str, ahead: timedelta) -> None:
        self.all(lambda backend: backend.peek(service, self.settings, self.clock() + ahead))

    @rule(service=services, limit=st.none() | st.integers(0, 5), age=steps_forward)
    def read_a_part(self, service: str, limit: int | None, age: timedelta) -> None:
        since = self.clock() - age
        self.all(lambda backend: backend.executions(service, since=since, limit=limit))

    @invariant()
    def they_agree_on_everything_that_is_kept(self) -> None:
        self.all(lambda backend: backend.services())
        for service in SERVICES:
            self.all(lambda backend: backend.runners(service))  # noqa: B023 (called at once)
            self.all(lambda backend: backend.executions(service))  # noqa: B023
            self.all(lambda backend: backend.settings_of(service))  # noqa: B023

    @invariant()
    def the_reference_is_sound(self) -> None:
        memory = self.backends["memory"]
        assert isinstance(memory, MemoryBackend)
        memory._check()


TestAgreement = Agreement.TestCase
TestAgreement.settings = share_of_the_profile(30)
