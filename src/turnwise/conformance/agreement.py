"""One state machine drives storages together: they agree on every answer, step by step."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from turnwise.conformance.clock import MICROSECOND, SECOND, START, Clock, ManualClock
from turnwise.conformance.desk import TIMEOUT
from turnwise.conformance.strategies import (
    BOOT_IDS,
    RUNNER_IDS,
    SERVICES,
    beats,
    durations,
    entries,
    offers,
    records,
)
from turnwise.storages import Beat, Entry, Kind, Offer, Pulse, Record, Storage
from turnwise.storages.memory import MemoryStorage

T = TypeVar("T")

REFERENCE = "the reference"
GROUPS = ("group", "Group")
VERSIONS = tuple(f"version {number}" for number in range(6))

groups = st.sampled_from([GROUPS[0], *GROUPS])
services = st.sampled_from(SERVICES)
runner_ids = st.sampled_from(RUNNER_IDS)
boot_ids = st.sampled_from(BOOT_IDS)
kinds = st.sampled_from(Kind)
ages = st.integers(-TIMEOUT, 2 * TIMEOUT) | st.sampled_from([0, MICROSECOND, -MICROSECOND])


class _Revisions:
    """The revisions that one storage has told for one group: by how much they grow is its own."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def order(self, revision: int) -> int:
        """How many smaller ones were told before."""
        if revision not in self._seen:
            assert all(revision > before for before in self._seen), (revision, self._seen)
            self._seen[revision] = len(self._seen)
        return self._seen[revision]


class Agreement(RuleBasedStateMachine):
    """All storages and the reference in memory, one clock."""

    storages: Mapping[str, Callable[[Clock, Path], Storage]] = {}
    """How each storage is opened, empty, with a clock and a fresh folder."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.stack = ExitStack()
        self.memory = MemoryStorage(clock=self.clock)
        self.all_storages: dict[str, Storage] = {REFERENCE: self.memory}
        for name, open_it in self.storages.items():
            folder = Path(self.stack.enter_context(TemporaryDirectory()))
            self.all_storages[name] = self.stack.enter_context(closing(open_it(self.clock, folder)))
        self.steps = 0
        self.revisions = {
            (name, group): _Revisions() for name in self.all_storages for group in GROUPS
        }

    def teardown(self) -> None:
        """Close every storage."""
        self.stack.close()

    def all(self, ask: Callable[[Storage], T]) -> T:
        """Ask every storage; the answer that they agree on."""
        return self.agreed({name: ask(storage) for name, storage in self.all_storages.items()})

    @staticmethod
    def agreed(answers: Mapping[str, T]) -> T:
        """The one answer that all have given."""
        first = answers[REFERENCE]
        assert all(answer == first for answer in answers.values()), answers
        return first

    def revision(self, group: str, ask: Callable[[Storage], int]) -> None:
        """Ask every storage for a revision; they agree on whether it has grown."""
        self.agreed(
            {
                name: self.revisions[name, group].order(ask(storage))
                for name, storage in self.all_storages.items()
            }
        )

    # Time -------------------------------------------------------------------------------------

    @rule(by=durations())
    def time_passes(self, by: int) -> None:
        """Nobody does anything for a while."""
        self.clock.advance(by)

    @rule(by=durations(), back=st.booleans())
    def somebody_sets_the_clock(self, by: int, *, back: bool) -> None:
        """The storage's clock may jump, either way."""
        self.clock.step(-by if back else by)

    # A process and what it offers -------------------------------------------------------------

    @rule(group=groups, beat=beats())
    def heartbeat(self, group: str, beat: Beat) -> None:
        """Somebody says that it lives, perhaps too late, and which runs it works on."""
        pulses = {name: s.heartbeat(group, beat) for name, s in self.all_storages.items()}
        orders = {n: self.revisions[n, group].order(pulse.revision) for n, pulse in pulses.items()}
        self.agreed(orders)
        pulse = self.agreed({name: self.comparable(pulse) for name, pulse in pulses.items()})
        event(f"a heartbeat: found {pulse.found}, open runs {len(pulse.open_runs)}")

    @staticmethod
    def comparable(pulse: Pulse) -> Pulse:
        """The answer without what a storage may choose."""
        return replace(
            pulse, revision=0, sights=dict(pulse.sights), others=tuple(sorted(pulse.others))
        )

    @rule(group=groups)
    def all_come_and_offer(self, group: str) -> None:
        """Without this, few runs of the machine would have anybody in a set."""
        for number, runner_id in enumerate(RUNNER_IDS):
            beat = Beat(runner_id, BOOT_IDS[0], 9 + number, TIMEOUT)
            self.heartbeat(group, beat)
            for service in SERVICES:
                self.offer(group, Offer(runner_id, BOOT_IDS[0], service, "{}", TIMEOUT))

    @rule(group=groups, runner_id=runner_ids, boot_id=boot_ids)
    def leave(self, group: str, runner_id: str, boot_id: str) -> None:
        """Somebody says that it goes."""
        self.all(lambda storage: storage.leave(group, runner_id, boot_id))

    @rule(group=groups, offer=offers())
    def offer(self, group: str, offer: Offer) -> None:
        """Somebody offers a service, whether it has come or not."""
        self.revision(group, lambda storage: storage.offer(group, offer))

    @rule(group=groups, runner_id=runner_ids, boot_id=boot_ids, service=services)
    def withdraw(self, group: str, runner_id: str, boot_id: str, service: str) -> None:
        """Somebody takes an offer back."""
        self.all(lambda storage: storage.withdraw(group, runner_id, boot_id, service))

    def stable(
        self, group: str, service: str, rotation: int, limit: int | None, among: list[str]
    ) -> int:
        """Ask every storage who counts; how many do."""
        return self.all(
            lambda storage: storage.stable(
                group, service, rotation=rotation, limit=limit, among=among
            )
        ).size

    @rule(
        group=groups,
        service=services,
        rotation=st.integers(0, 9),
        limit=st.none() | st.integers(0, 5),
        among=st.lists(st.sampled_from([*RUNNER_IDS, "unknown"]), max_size=3),
    )
    def who_counts(
        self, group: str, service: str, rotation: int, limit: int | None, among: list[str]
    ) -> None:
        """Work out who counts, or a part of it."""
        event(f"a set of {self.stable(group, service, rotation, limit, among)}")

    @rule(group=groups, runner_id=runner_ids, drained=st.booleans())
    def mark(self, group: str, runner_id: str, *, drained: bool) -> None:
        """An operator drains a runner, or takes that back."""
        self.all(lambda storage: storage.mark(group, runner_id, drained=drained))

    # The records ------------------------------------------------------------------------------

    @rule(
        group=groups,
        service=services,
        kind=kinds,
        expected=st.none() | st.sampled_from(VERSIONS),
        new=records(st.sampled_from(VERSIONS)),
        margin=st.none() | st.integers(-2, 2),
    )
    def swap(
        self,
        group: str,
        service: str,
        kind: Kind,
        expected: str | None,
        new: Record,
        margin: int | None,
    ) -> None:
        """Somebody swaps, whatever it remembers, and perhaps too late: alike in every storage."""
        if kind is Kind.PLAN:
            new = replace(new, owner=None)
        not_after = None if margin is None else self.clock() + margin
        swapped = self.all(
            lambda storage: storage.swap(group, service, kind, expected, new, not_after)
        )
        event(f"a swap: {swapped.done}")

    @rule(group=groups, service=services, new=records(st.sampled_from(VERSIONS)), kind=kinds)
    def swap_what_is_there(self, group: str, service: str, new: Record, kind: Kind) -> None:
        """Somebody has read, and swaps what it has read."""
        kept = self.memory.read(group, [service]).services[service]
        there = kept.gate if kind is Kind.GATE else kept.plan
        self.swap(group, service, kind, there.version if there else None, new, 0)

    @rule(group=groups)
    def advance(self, group: str) -> None:
        """Everybody shall look again."""
        self.revision(group, lambda storage: storage.advance(group))

    # History ----------------------------------------------------------------------------------

    @rule(group=groups, service=services, rows=st.lists(entries(), max_size=5))
    def append(self, group: str, service: str, rows: list[Entry]) -> None:
        """Append rows, of which some may be there already."""
        self.all(lambda storage: storage.append(group, service, rows))

    @rule(
        group=groups,
        service=services,
        since=st.none() | ages,
        until=st.none() | ages,
        last=st.none() | st.integers(0, 5),
        of_kinds=st.none() | st.lists(st.sampled_from(["turn", "refusal", "Turn"]), max_size=2),
    )
    def a_part_of_the_history(
        self,
        group: str,
        service: str,
        since: int | None,
        until: int | None,
        last: int | None,
        of_kinds: list[str] | None,
    ) -> None:
        """List some rows."""
        self.all(
            lambda storage: storage.history(
                group,
                service,
                since=None if since is None else START + since,
                until=None if until is None else START + until,
                last=last,
                kinds=of_kinds,
            )
        )

    @rule(
        group=groups,
        service=services,
        before=ages,
        keep=st.integers(0, 10),
        spare=st.lists(st.sampled_from(["turn", "refusal", "Turn"]), max_size=2),
    )
    def purge(self, group: str, service: str, before: int, keep: int, spare: list[str]) -> None:
        """Forget rows."""
        self.all(
            lambda storage: storage.purge(
                group, service, before=START + before, keep=keep, spare=spare
            )
        )

    @rule(group=groups, age=st.integers(0, 2 * TIMEOUT) | st.sampled_from([0, SECOND, TIMEOUT]))
    def purge_runners(self, group: str, age: int) -> None:
        """Forget lives."""
        before = self.clock() - age
        self.all(lambda storage: storage.purge_runners(group, before=before))

    @rule(group=groups, service=services)
    def forget_service(self, group: str, service: str) -> None:
        """Forget a service."""
        self.all(lambda storage: storage.forget_service(group, service))

    @rule(group=groups, runner_id=runner_ids)
    def forget_runner(self, group: str, runner_id: str) -> None:
        """Forget a runner."""
        self.all(lambda storage: storage.forget_runner(group, runner_id))

    # What holds after every step --------------------------------------------------------------

    @invariant()
    def they_agree_on_everything_that_is_kept(self) -> None:
        """The whole of what can be read."""
        self.all(lambda storage: storage.groups())
        self.steps += 1
        self.agree_on(GROUPS[self.steps % len(GROUPS)])  # the other one after the next step

    def agree_on(self, group: str) -> None:
        """All that can be read of one group."""
        self.all(lambda storage: storage.services(group))
        self.all(lambda storage: storage.runners(group))
        self.all(lambda storage: storage.offers(group))
        asked = [*SERVICES, "unknown"]
        readings = {name: s.read(group, asked) for name, s in self.all_storages.items()}
        self.agreed({name: (r.now, dict(r.services)) for name, r in readings.items()})
        self.agreed({n: self.revisions[n, group].order(r.revision) for n, r in readings.items()})
        for service in SERVICES:
            self.all(lambda storage: storage.history(group, service))  # noqa: B023 (called at once)
            self.stable(group, service, 0, None, list(RUNNER_IDS))

    @invariant()
    def the_reference_is_sound(self) -> None:
        """The storage in memory holds its own invariants."""
        self.memory._check()  # noqa: SLF001 (for tests)
