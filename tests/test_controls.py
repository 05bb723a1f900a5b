"""Controls: an operator's commands, each one step on a record, on a storage in memory."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from turnwise import gate as gates
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.controls import Controls, operator
from turnwise.cycles import SECOND, instant
from turnwise.errors import BusyError, StillAliveError
from turnwise.gate import Ask, Command, Gate, Refusal, Run
from turnwise.storages import GROUP_ITSELF, Beat, Entry, Kind, Offer, Record, Swapped
from turnwise.storages.memory import MemoryStorage
from turnwise.texts import gate_from_text, gate_to_text, row_from_text, row_to_text

NOON = 1_767_268_800 * SECOND
SERVICE = "nightly"
GROUP = "default"


class Clock:
    """A storage's clock that a test moves."""

    now = NOON

    def __call__(self) -> int:
        return self.now


class Busy(MemoryStorage):
    """A storage in which others change the gate just before each of so many swaps."""

    others = 0

    def swap(
        self,
        group: str,
        service: str,
        kind: Kind,
        expected: str | None,
        new: Record,
        not_after: int | None = None,
    ) -> Swapped:
        if self.others:
            self.others -= 1
            kept = self.read(group, (service,)).services[service].gate
            body = gate_to_text(gates.new_gate(NOON)) if kept is None else kept.body
            version = None if kept is None else kept.version
            super().swap(group, service, kind, version, Record(f"other-{self.others}", body))
        return super().swap(group, service, kind, expected, new, not_after)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storage(clock: Clock) -> Busy:
    return Busy(clock=clock)


@pytest.fixture
def controls(storage: Busy) -> Controls:
    return Controls(storage, by="ops@desk")


def gate_of(storage: MemoryStorage) -> Gate:
    kept = storage.read(GROUP, (SERVICE,)).services[SERVICE].gate
    assert kept is not None
    return gate_from_text(kept.body)


def change(storage: MemoryStorage, to: Callable[[Gate], Gate | Refusal]) -> Gate:
    """Change the gate as a runner would."""
    kept = storage.read(GROUP, (SERVICE,)).services[SERVICE].gate
    assert kept is not None
    changed = to(gate_from_text(kept.body))
    assert isinstance(changed, Gate), changed
    record = Record(f"{kept.version}+", gate_to_text(changed))
    assert storage.swap(GROUP, SERVICE, Kind.GATE, kept.version, record).done
    return changed


def ask(run_id: str = "run") -> Ask:
    run = Run(
        run_id=run_id,
        runner_id="alice",
        boot_id="boot",
        heartbeat_timeout=SECOND,
        token=0,
        key=None,
        due=NOON,
        until=NOON + 60 * SECOND,
        cycle_start=NOON,
        slot_start=NOON,
        slot_end=NOON + 60 * SECOND,
        position=0,
        attempt=1,
        started_at=NOON,
        size=1,
        digest=0,
    )
    return Ask(run, 3, NOON + 60 * SECOND)


def serve_trigger(storage: MemoryStorage, run_id: str, reason: str = "") -> None:
    """A runner runs what was triggered, to an end."""
    status = Status.ABANDONED if reason else Status.COMPLETED
    change(storage, lambda gate: gates.admit(gate, ask(run_id), now=NOON))
    change(
        storage,
        lambda gate: as_gate(gates.finish(gate, run_id, now=NOON, status=status, reason=reason)),
    )


def as_gate(changed: object) -> Gate:
    assert isinstance(changed, Gate)
    return changed


def commands(storage: MemoryStorage) -> list[Command]:
    rows = [row_from_text(entry.body) for entry in storage.history(GROUP, SERVICE)]
    return [row for row in rows if isinstance(row, Command)]


def alive(storage: MemoryStorage, *services: str) -> None:
    storage.heartbeat(GROUP, Beat("alice", "boot", 1, SECOND))
    for service in services:
        storage.offer(GROUP, Offer("alice", "boot", service, "{}", SECOND))


def test_a_paused_gate_admits_nothing_and_a_resumed_one_does(
    controls: Controls, storage: Busy
) -> None:
    controls.pause(SERVICE, reason="why")
    controls.trigger(SERVICE)
    assert isinstance(gates.admit(gate_of(storage), ask(), now=NOON), gates.Paused)
    assert controls.resume(SERVICE)
    assert isinstance(gates.admit(gate_of(storage), ask(), now=NOON), Gate)


def test_who_when_and_why_are_in_the_history_at_once(controls: Controls, storage: Busy) -> None:
    controls.pause(SERVICE, reason="moves\0", until=timedelta(seconds=5))
    controls.resume(SERVICE, reason="moved")
    controls.trigger(SERVICE, reason="again")
    told = [(str(row.name), row.by, row.at, row.reason, row.until) for row in commands(storage)]
    assert sorted(told) == [
        ("pause", "ops@desk", NOON, "moves\\x00", NOON + 5 * SECOND),
        ("resume", "ops@desk", NOON, "moved", None),
        ("trigger", "ops@desk", NOON, "again", None),
    ]


@pytest.mark.parametrize(
    ("until", "end"),
    [
        (timedelta(seconds=5), NOON + 5 * SECOND),
        (instant(NOON + 7 * SECOND), NOON + 7 * SECOND),
        (None, None),
    ],
)
def test_a_pause_ends_when_it_was_said(
    controls: Controls, until: datetime | timedelta | None, end: int | None
) -> None:
    pause = controls.pause(SERVICE, until=until).pause
    assert pause is not None
    assert pause.until == end


@pytest.mark.parametrize(
    ("until", "says"),
    [
        (timedelta(0), "until must be in the future"),
        (instant(NOON), "until must be in the future"),
        (datetime(2099, 1, 1), "until must be aware of its time zone"),  # noqa: DTZ001
    ],
)
def test_a_pause_that_is_over_or_has_no_zone_is_refused(
    controls: Controls, storage: Busy, until: datetime | timedelta, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        controls.pause(SERVICE, until=until)
    assert SERVICE not in storage.services(GROUP)


def test_the_same_pause_again_changes_nothing_and_another_takes_its_place(
    controls: Controls, storage: Busy, clock: Clock
) -> None:
    end = instant(NOON + 9 * SECOND)
    first = controls.pause(SERVICE, reason="why", until=end)
    clock.now += SECOND
    assert controls.pause(SERVICE, reason="why", until=end).pause == first.pause
    assert len(commands(storage)) == 1
    for reason, until in (("another", end), ("another", None)):
        pause = controls.pause(SERVICE, reason=reason, until=until).pause
        assert pause is not None
        assert (pause.at, pause.reason) == (NOON + SECOND, "another")
    assert len(commands(storage)) == 3


def test_to_resume_what_is_not_paused_changes_nothing(controls: Controls, storage: Busy) -> None:
    controls.pause(SERVICE)
    assert controls.resume(SERVICE)
    before = storage.read(GROUP, (SERVICE,)).services[SERVICE]
    assert not controls.resume(SERVICE)
    assert storage.read(GROUP, (SERVICE,)).services[SERVICE] == before


def test_a_trigger_while_one_waits_is_the_same_trigger(controls: Controls, storage: Busy) -> None:
    first = controls.trigger(SERVICE)
    assert controls.trigger(SERVICE) == first
    serve_trigger(storage, "run")
    assert controls.trigger(SERVICE) != first


def test_each_command_has_all_runners_look_again(controls: Controls, storage: Busy) -> None:
    for command in (
        lambda: controls.pause(SERVICE),
        lambda: controls.resume(SERVICE),
        lambda: controls.trigger(SERVICE),
        lambda: controls.drain("alice"),
        lambda: controls.undrain("alice"),
        lambda: controls.forget_service(SERVICE),
        lambda: controls.forget_runner("alice"),
    ):
        before = storage.read(GROUP, ()).revision
        command()
        assert storage.read(GROUP, ()).revision > before


def test_a_command_goes_through_however_often_others_come_first(
    controls: Controls, storage: Busy
) -> None:
    storage.others = 99
    controls.pause(SERVICE)
    assert gate_of(storage).pause is not None


def test_a_gate_that_others_never_leave_alone_is_busy(controls: Controls, storage: Busy) -> None:
    storage.others = 1000
    with pytest.raises(BusyError, match="'nightly': its gate was changed by others 100 times"):
        controls.pause(SERVICE)


def test_a_gate_that_a_jobs_transaction_has_locked_is_busy_and_stays_as_it_is(
    controls: Controls, storage: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    controls.pause(SERVICE)
    before = gate_of(storage)
    locked = Swapped(NOON, done=False, busy=True)
    monkeypatch.setattr(storage, "swap", lambda *_: locked)
    with pytest.raises(BusyError, match="'nightly': another transaction has its gate locked"):
        controls.resume(SERVICE)
    assert gate_of(storage) == before


@pytest.mark.parametrize(("reason", "status"), [("", "completed"), ("exit:3", "abandoned")])
def test_a_trigger_is_waited_for_until_its_run_has_ended(
    controls: Controls, storage: Busy, reason: str, status: str
) -> None:
    trigger = controls.trigger(SERVICE)

    def go_on(_: float) -> None:
        if gate_of(storage).open is None:
            change(storage, lambda gate: gates.admit(gate, ask(), now=NOON))
        else:
            change(
                storage,
                lambda gate: as_gate(
                    gates.finish(gate, "run", now=NOON, status=Status(status), reason=reason)
                ),
            )

    ended = controls.wait_for(SERVICE, trigger, sleep=go_on)
    assert ended is not None
    assert (ended.id, str(ended.status), ended.reason) == ("run", status, reason)


def test_a_run_that_was_stopped_is_not_the_end_of_its_trigger(
    controls: Controls, storage: Busy
) -> None:
    trigger = controls.trigger(SERVICE)
    serve_trigger(storage, "first", gates.STOPPED)
    ended = controls.wait_for(
        SERVICE, trigger, sleep=lambda _: serve_trigger(storage, "second", "exit:1")
    )
    assert ended is not None
    assert ended.id == "second"


def test_a_trigger_whose_stopped_run_gave_way_to_another_one_has_ended(
    controls: Controls, storage: Busy
) -> None:
    first = controls.trigger(SERVICE)
    change(storage, lambda gate: gates.admit(gate, ask(), now=NOON))
    second = controls.trigger(SERVICE)
    finish = partial(gates.finish, now=NOON, status=Status.ABANDONED, reason=gates.STOPPED)
    change(storage, lambda gate: as_gate(finish(gate, "run")))
    for _ in range(2):
        stopped = controls.wait_for(SERVICE, first)
        assert stopped is not None
        assert (stopped.id, stopped.reason) == ("run", gates.STOPPED)
        if gate_of(storage).trigger is not None:
            assert controls.wait_for(SERVICE, second, timeout=0) is None
            serve_trigger(storage, "other")
    ended = controls.wait_for(SERVICE, second)
    assert ended is not None
    assert ended.id == "other"


def test_a_clock_that_stepped_back_does_not_make_a_stopped_run_the_last_one(
    controls: Controls, storage: Busy
) -> None:
    trigger = controls.trigger(SERVICE)
    serve_trigger(storage, "first", gates.STOPPED)
    serve_trigger(storage, "second")
    rows = gate_of(storage).unsaid
    for row in rows:
        at = NOON + SECOND * (row.id == "first")
        storage.append(GROUP, SERVICE, [Entry(row.id, at, row.kind, row_to_text(row))])
    change(storage, lambda gate: gates.without(gate, frozenset(row.id for row in rows)))
    ended = controls.wait_for(SERVICE, trigger)
    assert ended is not None
    assert ended.id == "second"


def test_a_wait_ends_when_its_time_is_up_or_the_service_is_forgotten(
    controls: Controls,
) -> None:
    trigger = controls.trigger(SERVICE)
    assert controls.wait_for(SERVICE, trigger, timeout=0) is None
    forget = controls.forget_service
    assert controls.wait_for(SERVICE, trigger, sleep=lambda _: forget(SERVICE)) is None


def test_a_trigger_that_the_history_has_forgotten_is_waited_for_until_the_time_is_up(
    controls: Controls,
) -> None:
    controls.pause(SERVICE)
    waits: list[float] = []
    assert controls.wait_for(SERVICE, "forgotten", timeout=0, sleep=waits.append) is None
    assert controls.wait_for(SERVICE, "forgotten", timeout=0.01, sleep=waits.append) is None
    assert waits


def test_a_drained_runner_is_marked_until_it_is_undrained(
    controls: Controls, storage: Busy, clock: Clock
) -> None:
    alive(storage)
    for is_new in (True, False):
        assert controls.drain("alice") is is_new
        assert [row.drained for row in storage.runners(GROUP)] == [True]
    clock.now += SECOND
    for is_new in (True, False):
        assert controls.undrain("alice") is is_new
        assert [row.drained for row in storage.runners(GROUP)] == [False]
    told = [row_from_text(entry.body) for entry in storage.history(GROUP, GROUP_ITSELF)]
    assert [str(row.name) for row in told if isinstance(row, Command)] == ["drain", "undrain"]


def test_what_was_done_to_runners_and_what_was_forgotten_is_in_the_groups_own_history(
    controls: Controls, storage: Busy, clock: Clock
) -> None:
    controls.drain("web-1", reason="more memory")
    clock.now += SECOND
    controls.undrain("web-1")
    clock.now += SECOND
    controls.trigger(SERVICE)
    controls.forget_service(SERVICE, reason="unused")
    clock.now += SECOND
    controls.forget_runner("web-1")
    rows = [row_from_text(entry.body) for entry in storage.history(GROUP, GROUP_ITSELF)]
    told = [(row.name, row.of, row.by, row.reason) for row in rows if isinstance(row, Command)]
    assert told == [
        ("drain", "web-1", "ops@desk", "more memory"),
        ("undrain", "web-1", "ops@desk", ""),
        ("forget service", SERVICE, "ops@desk", "unused"),
        ("forget runner", "web-1", "ops@desk", ""),
    ]
    assert [row.at - NOON for row in rows] == [0, SECOND, 2 * SECOND, 3 * SECOND]
    assert storage.services(GROUP) == ()


def test_the_groups_own_history_keeps_its_newest_thousand_rows(
    controls: Controls, storage: Busy, clock: Clock
) -> None:
    old = [Entry(f"old {number}", number, "command", "") for number in range(1500)]
    storage.append(GROUP, GROUP_ITSELF, old)
    controls.drain("web-1")
    kept = storage.history(GROUP, GROUP_ITSELF)
    assert len(kept) == 1000
    assert kept[-1].at == clock.now


def test_a_service_is_not_forgotten_while_one_that_offers_it_lives(
    controls: Controls, storage: Busy, clock: Clock
) -> None:
    alive(storage, SERVICE)
    controls.trigger("other")
    controls.forget_service("other")  # alice does not offer that one
    clock.now += 3 * SECOND - 1
    with pytest.raises(StillAliveError, match=r"runner 'alice' was heard of 2\.9s ago"):
        controls.forget_service(SERVICE)
    clock.now += 1
    controls.forget_service(SERVICE)
    assert storage.services(GROUP) == ()


def test_a_runner_is_not_forgotten_while_it_lives_unless_it_has_left(
    controls: Controls, storage: Busy
) -> None:
    alive(storage)
    with pytest.raises(StillAliveError, match="runner 'alice' is not forgotten"):
        controls.forget_runner("alice")
    storage.leave(GROUP, "alice", "boot")
    controls.forget_runner("alice")
    assert storage.runners(GROUP) == ()


def test_what_lives_is_forgotten_by_force(controls: Controls, storage: Busy) -> None:
    alive(storage, SERVICE)
    controls.forget_service(SERVICE, force=True)
    controls.forget_runner("alice", force=True)
    assert storage.services(GROUP) == ()
    assert storage.runners(GROUP) == ()


def test_a_row_ahead_of_the_storages_clock_counts_as_alive(
    controls: Controls, storage: Busy, clock: Clock
) -> None:
    alive(storage)
    clock.now -= 5 * SECOND
    with pytest.raises(StillAliveError, match="heard of 0s ago"):
        controls.forget_runner("alice")


@pytest.mark.parametrize("name", ["", "a\x1b", "x" * 256])
def test_names_that_cannot_be_are_refused(controls: Controls, name: str) -> None:
    for command in (controls.pause, controls.resume, controls.trigger, controls.drain):
        with pytest.raises(ValueError, match="must"):
            command(name)


@pytest.mark.parametrize("error", [KeyError, OSError])  # before Python 3.13, and from it on
def test_an_operator_whose_user_has_no_name_is_somebody_at_the_host(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def getuser() -> str:
        raise error

    monkeypatch.setattr("getpass.getuser", getuser)
    monkeypatch.setattr("socket.gethostname", lambda: "desk")
    assert operator() == "somebody@desk"


def test_the_operator_is_the_user_and_the_host_where_nothing_is_said(storage: Busy) -> None:
    Controls(storage).pause(SERVICE)
    (row,) = commands(storage)
    assert row.by.count("@") == 1
    assert replace(row, by="") == Command(row.id, row.name, NOON, "")
    assert instant(row.at).tzinfo == UTC
