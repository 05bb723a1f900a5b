"""What a machine does where another one was faster, or the storage has forgotten: step by step."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count

import pytest

from machines import SECOND, SERVICE, World, closed_worlds
from turnwise import gate as gates
from turnwise.actions import (
    Answer,
    Failed,
    Finished,
    FunctionEnded,
    Heard,
    Look,
    Request,
    Serve,
    StopRequested,
    Swap,
    Wait,
)
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.controls import Controls
from turnwise.drive import carry_out
from turnwise.events import CyclePlanned, Event, PeriodMissed, RunBuried
from turnwise.gate import Gate, Run
from turnwise.looks import why_missed
from turnwise.machine import Machine
from turnwise.plan import CyclePlan
from turnwise.schedules import Every
from turnwise.settings import Settings
from turnwise.storages import Beat, Kind, Swapped
from turnwise.storages.memory import MemoryStorage
from turnwise.texts import gate_from_text

worlds = pytest.fixture(autouse=True)(closed_worlds)

GROUP = "group"
TIMEOUT = 12_000_000
SETTINGS = Settings(schedule=Every("1m"), heartbeat_timeout=timedelta(microseconds=TIMEOUT))


class Clock:
    """The storage's clock, and everybody's monotonic one."""

    def __init__(self) -> None:
        self.at = 0

    def __call__(self) -> int:
        return self.at


class Runner:
    """A machine that a test drives step by step, with its heartbeats."""

    def __init__(self, name: str, storage: MemoryStorage, clock: Clock) -> None:
        names = map(f"{name}-{{}}".format, count())
        self.name, self.storage, self.clock = name, storage, clock
        self.machine = Machine(
            group=GROUP,
            service=SERVICE,
            runner_id=name,
            boot_id=name,
            settings=SETTINGS,
            names=names.__next__,
        )
        self.events: list[Event] = []
        self._beats = count(1)
        self.beat()

    def beat(self) -> None:
        """Send a heartbeat, and tell the machine what it heard."""
        beat = Beat(self.name, self.name, next(self._beats), TIMEOUT, self.machine.runs)
        self.tell(Heard(beat, self.clock.at, self.storage.heartbeat(GROUP, beat)))

    def tell(self, answer: Answer) -> None:
        self.events += self.machine.receive(self.clock.at, answer)

    def answer(self, request: Request) -> Answer:
        return carry_out(self.storage, GROUP, SERVICE, request)

    def go(self, until: Callable[[Request], bool] = lambda _: False) -> Request | None:
        """Carry out what the machine asks, up to the request that a test waits for, or a wait."""
        while not isinstance(action := self.machine.next(self.clock.at), Serve | Wait | Finished):
            if until(action):
                return action
            self.tell(self.answer(action))
        return None

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def swaps_gate(request: Request) -> bool:
    return isinstance(request, Swap) and request.kind is Kind.GATE


def swaps_plan(request: Request) -> bool:
    return isinstance(request, Swap) and request.kind is Kind.PLAN


class Race:
    """Runners at one storage, the gate of which is there."""

    def __init__(self, *names: str) -> None:
        self.clock = Clock()
        self.storage = MemoryStorage(clock=self.clock)
        self.runners = [Runner(name, self.storage, self.clock) for name in names]
        for runner in self.runners:
            runner.go()

    def pass_to(self, second: float, *, silent: tuple[str, ...] = ()) -> None:
        """Let time pass, second by second; everybody's heartbeats are sent, but for the silent."""
        while self.clock.at < second * 1e6:
            self.clock.at += 1_000_000
            for runner in self.runners:
                if runner.name not in silent:
                    runner.beat()

    def gate(self) -> Gate:
        kept = self.storage.read(GROUP, (SERVICE,)).services[SERVICE].gate
        assert kept is not None
        return gate_from_text(kept.body)


def lost_admission() -> tuple[Race, Runner]:
    """A runner alone at its due instant; its admission has got lost on the way to the storage."""
    race = Race("a")
    [a] = race.runners
    race.pass_to(60)
    assert a.go(swaps_gate) is not None
    a.tell(Failed("the request was lost"))
    race.pass_to(61)
    return race, a


def test_an_admission_that_got_lost_is_dead_once_the_gate_has_another_version() -> None:
    race, a = lost_admission()
    settling = a.go(swaps_gate)
    assert settling is not None
    a.tell(a.answer(settling))
    assert race.gate().open is None
    assert a.machine.turn is None, "a new version of the same gate comes first"
    a.go()
    assert a.machine.turn is not None, "and then it asks again, within its window"
    assert race.gate().open == a.machine.turn.run


def test_an_admission_that_got_lost_with_the_gate_is_forgotten_and_the_gate_made_anew() -> None:
    race, a = lost_admission()
    race.storage.forget_service(GROUP, SERVICE)
    race.pass_to(62)
    asked: list[Request] = []

    def note(request: Request) -> bool:
        asked.append(request)
        return False

    a.go(note)
    assert asked[0] == Look()
    assert swaps_gate(asked[1]), "at once"
    assert a.machine.turn is None
    assert race.gate().open is None
    assert race.gate().floor >= 61_000_000, "what was due before counts as served"


def test_who_is_stopped_with_an_admission_that_is_not_known_finds_out_first_and_then_finishes() -> (
    None
):
    race, a = lost_admission()
    a.tell(StopRequested())
    kept = race.storage.read(GROUP, (SERVICE,)).services[SERVICE].gate
    assert kept is not None
    race.storage.forget_service(GROUP, SERVICE)  # and with it the plan: whoever stays makes one
    moved = replace(kept, version="moved by somebody else")
    assert race.storage.swap(GROUP, SERVICE, Kind.GATE, None, moved).done
    assert not isinstance(a.machine.next(race.clock.at), Finished)
    assert a.machine._state.asked == Look()
    a.tell(a.answer(Look()))
    assert a.machine.next(race.clock.at) == Finished()
    assert not race.gate().unsaid


def test_of_two_who_bury_a_run_one_says_so() -> None:
    race = Race("a", "b", "c")
    race.pass_to(58)
    for runner in race.runners:
        runner.go()
    owner = 0
    for second in range(60, 120):
        race.pass_to(second)
        for number, runner in enumerate(race.runners):
            runner.go()
            if runner.machine.turn is not None:
                owner = number
        if any(runner.machine.turn for runner in race.runners):
            break
    dead = race.runners[owner]
    one, other = (runner for runner in race.runners if runner is not dead)
    race.pass_to(race.clock.at / 1e6 + TIMEOUT / 1e6 + 3, silent=(dead.name,))
    slow = one.go(swaps_gate)
    assert slow is not None
    other.go()
    assert len(other.told(RunBuried)) == 1
    answer = one.answer(slow)
    assert isinstance(answer, Swapped)
    assert not answer.done
    one.tell(answer)
    one.go()
    assert one.told(RunBuried) == []
    rows = race.storage.history(GROUP, SERVICE, kinds=[Status.ABANDONED])
    unsaid = [row for row in race.gate().unsaid if row.kind == Status.ABANDONED]
    assert len({row.id for row in rows} | {row.id for row in unsaid}) == 1


def test_of_two_who_plan_a_cycle_one_does_and_the_other_goes_by_it() -> None:
    race = Race("a", "b")
    a, b = race.runners
    before = race.storage.read(GROUP, (SERVICE,)).services[SERVICE].plan
    slow = None
    for second in range(1, 120):
        race.pass_to(second)
        slow = a.go(swaps_plan)
        if slow is not None:
            break
    assert slow is not None
    planned = len(b.told(CyclePlanned))
    # The other one plans meanwhile: whatever it would wait for is now.
    b.machine._state.look_now(race.clock.at)
    b.go()
    now = race.storage.read(GROUP, (SERVICE,)).services[SERVICE].plan
    if now == before:
        pytest.fail("nobody else has planned")
    told = len(a.told(CyclePlanned))
    a.tell(a.answer(slow))
    asked: list[Request] = []
    a.go(lambda request: bool(asked.append(request)))  # type: ignore[func-returns-value]
    assert asked == [Look()], "there is nothing that anybody would have to be told"
    assert len(b.told(CyclePlanned)) == planned + 1
    assert len(a.told(CyclePlanned)) == told
    assert a.machine.plan == b.machine.plan


def test_a_plan_that_is_to_come_stays_while_the_service_is_paused() -> None:
    """Those of the plan have left, and nobody could start: it is replaced when it is resumed."""
    world = World(names=("a", "b", "c"), knobs={"spread_margin": 15 * SECOND})
    world.run_to(second=50)
    world.start("d")
    world.run_to(second=50.5)
    Controls(world.virtual.storage, by="me").pause(SERVICE)
    before = world.machine("d").plan
    for name in ("a", "b", "c"):
        world.virtual.stop(name, "0s")
    world.run_to(second=59)
    assert world.machine("d").plan == before
    Controls(world.virtual.storage, by="me").resume(SERVICE)
    world.run_to(second=119)
    assert [served.runner_id for served in world.served] == ["d"]


# Why a period was missed --------------------------------------------------------------------------


def a_cycle_and_its_open_run() -> tuple[CyclePlan, Run]:
    world = World(takes=10 * SECOND)
    world.run_to(second=61)
    machine = world.machine()
    assert machine.plan is not None
    assert machine.turn is not None
    return machine.plan.cycles[0], machine.turn.run


def test_why_a_period_was_missed_is_the_first_cause_that_the_gate_shows() -> None:
    cycle, run = a_cycle_and_its_open_run()
    now = cycle.until
    bare = Gate(floor=cycle.due - 1)
    tried = replace(bare, attempts=((cycle.due, 1),))
    used = replace(bare, attempts=((cycle.due, cycle.rules.attempts),))
    paused = gates.pause(tried, id="1", now=now, by="me", reason="")
    assert why_missed(bare, cycle, now=now) == "nobody_started"
    assert why_missed(tried, cycle, now=now) == "failed"
    assert why_missed(replace(tried, open=run), cycle, now=now) == "prior_running"
    assert why_missed(paused, cycle, now=now) == "paused"
    assert why_missed(replace(paused, attempts=used.attempts), cycle, now=now) == "attempts_used"


@pytest.mark.parametrize("paused", [False, True])
def test_periods_that_passed_without_a_plan_are_told_but_not_those_of_a_pause(
    *, paused: bool
) -> None:
    world = World()
    world.run_to(second=65)
    if paused:
        Controls(world.virtual.storage, by="me").pause(SERVICE)
    world.virtual.stop("a", "0s")
    world.run_to(second=310)
    world.start("b")
    world.run_to(second=500)
    told = [e for e in world.told(PeriodMissed) if isinstance(e, PeriodMissed)]
    unplanned = [event for event in told if event.why == "nobody_planned"]
    assert [event.count for event in unplanned] == ([] if paused else [3])
    if not paused:
        start = world.virtual.now.timestamp() - 500
        assert unplanned[0].due == (start + 120) * 1e6


def test_a_function_that_ends_after_its_turn_was_let_go_changes_nothing() -> None:
    race = Race("a")
    [a] = race.runners
    a.tell(FunctionEnded(Status.COMPLETED))
    assert a.machine.turn is None
    assert race.gate().open is None
