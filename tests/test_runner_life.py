"""A Runner's loop from its start to its end: its waits in virtual time, its threads in none."""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from turnwise import Runner, StorageError, Turn
from turnwise.old_turn import TurnFailed
from turnwise.testing import SETTINGS, START
from turnwise.testing.desk import ABANDONED, COMPLETED, SECOND
from virtual import SERVICE, Alone, Killed, World

HEARTBEAT = SETTINGS.heartbeat_interval.total_seconds()
PATIENCE = 60.0  # for a thread to come so far; no test waits for it


class Wakeups:
    """Stands for the queue that a loop waits at: time passes, and after so many waits it ends."""

    def __init__(self, alone: Alone, waits: int) -> None:
        self._alone = alone
        self._left = waits
        self.waits: list[float] = []
        self.put_in = 0

    def get(self, timeout: float) -> None:
        self.waits.append(timeout)
        self._alone.clock.sleep(timeout)
        self._left -= 1
        if self._left == 0:
            self._alone.runner.request_stop()
        raise queue.Empty

    def put(self, item: None) -> None:
        del item
        self.put_in += 1


@pytest.fixture
def alone() -> Alone:
    return Alone()


def let_it_loop(alone: Alone, waits: int = 1) -> Wakeups:
    """Run the loop in this thread for so many steps."""
    wakeups = Wakeups(alone, waits)
    # The type checker takes it for the queue that it stands for.
    alone.runner._wakeups = wakeups  # type: ignore[assignment]
    alone.runner.run()
    return wakeups


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= level]


def has_left(alone: Alone) -> bool:
    [record] = alone.backend.runners(SERVICE)
    return record.left_at is not None


# The loop, in virtual time ------------------------------------------------------------------


def test_the_loop_steps_and_waits_as_each_step_says_and_leaves_in_the_end(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    wakeups = let_it_loop(alone, waits=4)
    # After its turn it asks when it may have the next one.
    assert wakeups.waits == [0.0, HEARTBEAT, HEARTBEAT, HEARTBEAT]
    assert wakeups.put_in == 1
    assert has_left(alone)
    [run] = alone.history()
    assert messages(caplog) == [
        f"runner a joins service {SERVICE}",
        f"turn 1 starts: {run.run_id}",
        "turn 1 ends after 0s: completed",
        f"runner a has left service {SERVICE}",
    ]


def test_a_request_to_stop_that_came_before_the_loop_counts(alone: Alone) -> None:
    alone.runner.request_stop()
    alone.storage.calls.clear()
    alone.runner.run()
    assert alone.storage.calls == {"leave": 1}


def test_a_request_to_stop_ends_a_wait_that_it_finds() -> None:
    runner = Alone().runner
    assert runner._wakeups.empty()
    runner.request_stop()
    assert not runner._wakeups.empty()
    runner._wait(PATIENCE)
    assert runner._wakeups.empty()


def test_a_loop_that_runs_cannot_be_started_again_until_it_has_ended(alone: Alone) -> None:
    refused = []

    def service(turn: Turn) -> None:
        del turn
        for again in (alone.runner.run, alone.runner.start):
            with pytest.raises(RuntimeError) as caught:
                again()
            refused.append(str(caught.value))

    alone.service = service
    let_it_loop(alone)
    assert refused == [f"runner a of service {SERVICE} runs already"] * 2
    assert alone.history()[-1].status is COMPLETED
    alone.runner._stop_requested = False
    assert let_it_loop(alone).waits


def in_a_thread_of_its_loop(stop: Callable[[], bool]) -> bool:
    return asyncio.run(asyncio.to_thread(stop))


@pytest.mark.parametrize("call", [lambda stop: stop(), in_a_thread_of_its_loop])
def test_stopping_from_within_a_turn_does_not_wait_for_it(
    alone: Alone,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[Callable[[], bool]], bool],
) -> None:
    def never(_: float | None) -> bool:
        raise AssertionError("it waited for itself")

    answers = []

    def service(turn: Turn) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(alone.runner._loop_ended, "wait", never)
            answers.append((call(alone.runner.stop), turn.stop_requested))

    alone.service = service
    let_it_loop(alone, waits=5)
    assert answers == [(False, True)]
    assert alone.history()[-1].status is COMPLETED
    assert has_left(alone)
    assert alone.runner.stop()


def test_where_the_storage_does_not_answer_a_goodbye_the_loop_ends_all_the_same(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    alone.storage.fail("leave")
    let_it_loop(alone)
    assert messages(caplog, logging.WARNING) == [
        "runner a could not say that it leaves: no connection for leave"
    ]
    assert not has_left(alone)
    assert alone.runner.stop()


def test_an_interrupt_ends_the_loop_with_a_word_and_leaves(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    def service(turn: Turn) -> None:
        del turn
        raise KeyboardInterrupt("enough")

    alone.service = service
    with pytest.raises(KeyboardInterrupt):
        let_it_loop(alone)
    assert "runner a: the loop ends: KeyboardInterrupt('enough')" in messages(caplog)
    assert "turn 1 ends after 0s: abandoned exception:KeyboardInterrupt" in messages(caplog)
    assert has_left(alone)
    assert alone.runner.stop()


def test_a_process_that_is_torn_off_in_its_goodbye_counts_as_ended(alone: Alone) -> None:
    def killed() -> None:
        raise Killed

    alone.storage.before["leave"] = killed
    with pytest.raises(Killed):
        let_it_loop(alone)
    assert alone.runner.stop()


def test_a_storage_that_does_not_answer_is_tried_after_waits_that_double(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    alone.storage.fail("look", times=8)
    waits = [alone.runner.step() for _ in range(8)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, HEARTBEAT]
    assert messages(caplog) == [
        f"runner a: the storage does not answer: no connection for look; next try in {wait:.1f} s"
        for wait in waits
    ]
    caplog.clear()
    for _ in range(2):
        alone.runner.step()
    assert messages(caplog).count("runner a: the storage answers again") == 1
    alone.clock.advance(SETTINGS.interval)
    alone.storage.fail("look")
    assert alone.runner.step() == 0.1
    alone.runner.step()
    assert messages(caplog).count("runner a: the storage answers again") == 2


def test_a_bug_in_a_round_is_logged_with_its_traceback_and_the_loop_goes_on(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    def bug() -> None:
        raise ZeroDivisionError("a bug")

    alone.storage.before["look"] = bug
    assert alone.runner.step() == 0.1
    [failed, tried_again] = caplog.records
    assert failed.message == "runner a: a round failed"
    assert failed.exc_info is not None
    assert isinstance(failed.exc_info[1], ZeroDivisionError)
    assert tried_again.message == "runner a: a round failed; see above; next try in 0.1 s"
    alone.storage.before.clear()
    alone.runner.step()
    assert alone.history()[-1].status is COMPLETED


def test_a_round_without_a_turn_says_why_once_and_softly_where_that_is_everyday(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    turn = alone.turn()
    same_name = World(clock=alone.clock)
    same_name.backend = alone.backend
    same_name.add("a")
    other = same_name.members["a"].runner
    other.step()
    other._pace.round_at(None)
    other.step()
    alone.runner.finish(turn)
    other._pace.round_at(None)
    other.step()
    alone.clock.advance(45 * SECOND)
    other._pace.round_at(None)
    other.step()
    same_name.add("b")
    same_name.members["b"].runner.step()
    run_id = turn.run.atomic_service_id.atomic_service_run_id
    late = "75.00% of the slot is gone, and a start is allowed within the first 50.00%"
    said = [(record.levelno, record.message) for record in caplog.records]
    assert [entry for entry in said if "no turn" in entry[1]] == [
        (logging.INFO, f"runner a: no turn: prior_running:{run_id}"),
        (logging.DEBUG, f"runner a: no turn: prior_running:{run_id}"),
        (logging.DEBUG, "runner a: no turn: cycle_served"),
        (logging.DEBUG, f"runner a: no turn: late_start {late}"),  # it was in time, and refused
        (logging.DEBUG, "runner b: no turn: not_assigned_slot"),
    ]


def test_why_nobody_starts_is_said_in_each_cycle_anew(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    settings = replace(SETTINGS, runs_per_cycle="every_slot", spread_margin=25 * SECOND)
    world = World(settings=settings)
    world.add("a", "b", "c")
    world.run_for(4 * settings.interval)
    said = [message for message in messages(caplog) if "a: no turn: slot_window_inv" in message]
    assert len(said) == 4, "after 1, 2, 3 and 4 minutes"


def test_a_late_start_is_said_in_each_cycle_anew(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        alone.clock.advance(45 * SECOND)
        alone.runner._pace.round_at(None)
        alone.runner.step()
        alone.run_to_the_next_cycle()
    said = [message for message in messages(caplog) if "a: no turn: late_start" in message]
    assert len(said) == 2


def test_that_the_storage_answers_again_is_said_before_a_turn_that_may_be_long(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    alone.storage.fail("look")
    alone.runner.step()
    alone.service = lambda _: logging.getLogger("turnwise").info("at work")
    alone.runner.step()
    said = messages(caplog)
    assert said.index("runner a: the storage answers again") < said.index("at work")


def test_of_a_storage_that_was_never_away_it_is_not_said_that_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    world = World()
    world.add("a")
    world.members["a"].runner.step()
    assert any("first turn at" in message for message in messages(caplog))
    assert not any("answers again" in message for message in messages(caplog))


def test_a_runner_that_joins_anew_says_when_its_first_turn_can_be(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    alone.runner.begin()
    alone.clock.advance(3 * SETTINGS.interval)
    alone.runner.begin()
    alone.runner.begin()
    said = [message for message in messages(caplog) if "first turn at" in message]
    assert len(said) == 1, "once: that of the first join was before this log"


# What is said of a turn's end ---------------------------------------------------------------


def taking(alone: Alone, outcome: BaseException | None = None) -> Callable[[Turn], object]:
    """A service of a second and a half."""

    def service(turn: Turn) -> None:
        del turn
        alone.clock.advance(1.5 * SECOND)
        if outcome is not None:
            raise outcome

    return service


def test_the_end_of_a_turn_is_said_with_how_long_it_took(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    alone.step_with(taking(alone))
    [ended] = [entry for entry in caplog.records if "ends after" in entry.message]
    assert (ended.levelno, ended.message) == (logging.INFO, "turn 1 ends after 1.5s: completed")


def test_a_turn_that_failed_is_said_louder_and_where_it_failed(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    record = alone.step_with(taking(alone, ZeroDivisionError()))
    assert messages(caplog) == [
        f"the service failed in runner:a atomic-service-run:{record.run_id}",
        "turn 1 ends after 1.5s: abandoned exception:ZeroDivisionError",
    ]
    assert caplog.records[-1].levelno == logging.WARNING


def test_a_turn_that_was_lost_is_said_with_what_became_of_it(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    def service(turn: Turn) -> None:
        run_id = turn.run.atomic_service_id.atomic_service_run_id
        alone.clock.advance(1.5 * SECOND)
        alone.backend.finish(SERVICE, run_id, ABANDONED, "owner_dead", SETTINGS)

    record = alone.step_with(service)
    [lost] = caplog.records
    assert lost.message == (
        f"turn 1 lost after 1.5s: runner:a atomic-service-run:{record.run_id}: "
        "somebody else closed this run: abandoned, owner_dead"
    )


@pytest.mark.parametrize(
    ("outcome", "how"),
    [(None, "completed"), (ZeroDivisionError(), "abandoned exception:ZeroDivisionError")],
)
def test_an_end_that_could_not_be_recorded_is_an_error(
    alone: Alone,
    caplog: pytest.LogCaptureFixture,
    outcome: BaseException | None,
    how: str,
) -> None:
    alone.storage.fail("finish", times=1000)
    record = alone.step_with(taking(alone, outcome))
    said = caplog.records[-1]
    assert said.levelno == logging.ERROR
    assert said.message == (
        f"turn 1 ended after 1.5s as {how}, which could not be recorded: "
        f"closing run {record.run_id} failed: no connection for finish"
    )


# In a thread of its own ---------------------------------------------------------------------


class Threaded(Alone):
    """A runner whose service waits until it is let go; its thread is the only real thing."""

    def __init__(self) -> None:
        super().__init__()
        self.in_its_turn = threading.Event()
        self.let_go = threading.Event()
        self.thread: threading.Thread | None = None
        self.turns: list[Turn] = []
        self.service = self._wait_to_be_let_go

    def _wait_to_be_let_go(self, turn: Turn) -> None:
        self.thread = threading.current_thread()
        self.turns.append(turn)
        self.in_its_turn.set()
        assert self.let_go.wait(PATIENCE)


def test_a_loop_in_a_thread_of_its_own_ends_with_the_block(
    caplog: pytest.LogCaptureFixture,
) -> None:
    alone = Threaded()
    with alone.runner as runner:
        assert runner is alone.runner
        assert alone.in_its_turn.wait(PATIENCE)
        alone.let_go.set()
    assert alone.thread is not None
    assert (alone.thread.name, alone.thread.daemon) == (f"turnwise-{SERVICE}", True)
    assert alone.history()[-1].status is COMPLETED
    assert has_left(alone)
    assert messages(caplog, logging.WARNING) == []


def test_stopping_waits_for_the_turn_as_long_as_it_is_told_and_the_turn_knows() -> None:
    alone = Threaded()
    alone.runner.start()
    assert alone.in_its_turn.wait(PATIENCE)
    assert alone.turns[0].stop_requested is False
    assert not alone.runner.stop(timeout=0)
    assert alone.turns[0].stop_requested
    assert alone.history()[-1].end_time is None, "it keeps its gate"
    with pytest.raises(RuntimeError, match="runs already"):
        alone.runner.start()
    alone.let_go.set()
    assert alone.runner.stop(PATIENCE)
    assert alone.history()[-1].status is COMPLETED


def test_a_runner_that_was_stopped_can_be_started_again() -> None:
    alone = Threaded()
    alone.let_go.set()
    for cycle in (1, 2):
        with alone.runner:
            assert alone.in_its_turn.wait(PATIENCE)
        assert len(alone.history()) == cycle
        alone.in_its_turn.clear()
        alone.run_to_the_next_cycle()
    assert [run.cycle_start for run in alone.history()] == [
        START + SETTINGS.interval,
        START + 2 * SETTINGS.interval,
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_in_a_thread_of_its_own_nothing_that_a_service_raises_ends_the_loop(
    error: type[BaseException],
) -> None:
    alone = Alone()
    served_again = threading.Event()

    def service(turn: Turn) -> None:
        if turn.fencing_token == 1:
            raise error
        served_again.set()

    def to_the_next_cycle() -> None:
        alone.storage.after.clear()
        alone.run_to_the_next_cycle()

    alone.service = service
    # The next turn is due at once, as the storage's clock is in the next cycle by then.
    alone.storage.after["finish"] = to_the_next_cycle
    with alone.runner:
        assert served_again.wait(PATIENCE)
    assert [run.reason for run in alone.history()] == [f"exception:{error.__name__}", ""]


# What keeps a turn alive --------------------------------------------------------------------


class Ended:
    """Stands for the event that a keeper waits at: time passes, and after so many waits it ends."""

    def __init__(self, alone: Alone, waits: int) -> None:
        self._alone = alone
        self._left = waits
        self.waits: list[float] = []

    def wait(self, seconds: float) -> bool:
        if self._left == 0:
            return True
        self._left -= 1
        self.waits.append(round(seconds, 6))
        self._alone.clock.sleep(seconds)
        return False


def keep(alone: Alone, turn: Turn, waits: int) -> list[float]:
    """Let a keeper do its work in this thread; how long it waited each time."""
    keeper = alone.runner._keeper_of(turn)
    ended = Ended(alone, waits)
    # The type checker takes it for the event that it stands for.
    keeper._ended = ended  # type: ignore[assignment]
    keeper.run()
    return ended.waits


def test_a_keeper_sends_heartbeats_of_its_turn_until_it_ends(alone: Alone) -> None:
    turn = alone.turn()
    assert keep(alone, turn, 3) == [HEARTBEAT] * 3
    assert alone.storage.calls["heartbeat"] >= 3
    assert turn.silence() == 0
    assert alone.history()[0].last_heartbeat == alone.clock()


def test_what_an_admission_or_a_heartbeat_took_is_part_of_the_wait_for_the_next(
    alone: Alone,
) -> None:
    turn = alone.turn()
    alone.clock.advance(2 * SECOND)
    alone.storage.after["heartbeat"] = lambda: alone.clock.advance(3 * SECOND)
    assert keep(alone, turn, 3) == [HEARTBEAT - 2, HEARTBEAT - 3, HEARTBEAT - 3]


@pytest.mark.parametrize("error", [StorageError("no connection"), ZeroDivisionError("a bug")])
def test_a_heartbeat_that_failed_is_logged_and_tried_again_sooner(
    alone: Alone, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    turn = alone.turn()

    def fails_once() -> None:
        alone.storage.before.clear()
        raise error

    alone.storage.before["heartbeat"] = fails_once
    assert keep(alone, turn, 3) == [HEARTBEAT, HEARTBEAT / 4, HEARTBEAT]
    [entry] = caplog.records
    bug = isinstance(error, ZeroDivisionError)
    said = f"no heartbeat of {turn.run.atomic_service_id}"
    assert entry.message == (said if bug else f"{said}: no connection")
    assert entry.levelno == (logging.ERROR if bug else logging.WARNING)
    assert bool(entry.exc_info) == bug


@pytest.mark.parametrize("ends_meanwhile", [False, True])
def test_a_turn_that_the_storage_has_closed_is_said_to_be_lost_unless_it_is_about_to_end(
    alone: Alone, caplog: pytest.LogCaptureFixture, ends_meanwhile: bool
) -> None:
    turn = alone.turn()
    run_id = turn.run.atomic_service_id.atomic_service_run_id
    alone.backend.finish(SERVICE, run_id, ABANDONED, "owner_dead", SETTINGS)
    assert keep(alone, turn, 1 if ends_meanwhile else 2) == [HEARTBEAT] * (2 - ends_meanwhile)
    said = f"{turn.run.atomic_service_id}: the storage has closed this run; its service goes on"
    assert messages(caplog) == ([] if ends_meanwhile else [said])


def kept_by_a_thread(alone: Alone) -> Runner:
    runner = Runner(
        alone.storage.reached(),
        SERVICE,
        lambda turn: None,  # noqa: ARG005 (a service)
        settings=SETTINGS,
        runner_id="a",
        monotonic=alone.clock.monotonic,
        sleep=alone.clock.sleep,
    )
    runner.heartbeat()
    return runner


@pytest.mark.parametrize("answered", [True, False])
def test_a_keeper_is_a_daemon_thread_from_a_turns_beginning_to_its_end(
    alone: Alone, answered: bool
) -> None:
    runner = kept_by_a_thread(alone)
    turn = runner.begin()
    assert isinstance(turn, Turn)
    keeper = runner._keeper
    assert keeper is not None
    assert (keeper.name, keeper.daemon) == ("turnwise-heartbeat-1", True)
    assert keeper.is_alive()
    if answered:
        runner.finish(turn)
    else:
        alone.storage.down = True
        with pytest.raises(StorageError):
            runner.finish(turn)
    assert not keeper.is_alive()
    assert runner._keeper is None


def test_the_end_of_a_turn_waits_for_a_heartbeat_that_hangs_for_an_interval_at_most(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = alone.runner._keeper_of(alone.turn())
    waits: list[float] = []
    monkeypatch.setattr(keeper, "join", waits.append)
    keeper.end()
    assert waits == [HEARTBEAT]


def test_a_loop_whose_runner_keeps_its_turns_by_a_thread_leaves_none_behind(alone: Alone) -> None:
    runner = kept_by_a_thread(alone)
    before = threading.active_count()
    runner.step()
    assert alone.history()[-1].status is COMPLETED
    runner.request_stop()
    runner.run()
    assert threading.active_count() == before


def test_a_turn_that_was_torn_off_is_not_kept_alive_by_a_loop_that_has_ended(
    alone: Alone,
) -> None:
    runner = kept_by_a_thread(alone)
    assert isinstance(runner.begin(), Turn)
    keeper = runner._keeper
    assert keeper is not None
    runner.request_stop()
    runner.run()
    assert not keeper.is_alive()


# Where the system has no thread left ---------------------------------------------------------


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a container has used up its number of processes."""

    def start(thread: threading.Thread) -> None:
        del thread
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


@pytest.mark.usefixtures("no_threads")
def test_a_loop_that_got_no_thread_has_ended(alone: Alone) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError, match="can't start new thread"):
            alone.runner.start()
        assert alone.runner.stop(timeout=0)


@pytest.mark.usefixtures("no_threads")
def test_a_turn_that_got_no_thread_to_keep_it_alive_is_given_back_and_the_loop_goes_on(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    runner = kept_by_a_thread(alone)
    assert runner.step() > 0
    [run] = alone.history()
    assert (run.status, run.reason) == (ABANDONED, "not_started")
    assert caplog.records[-2].exc_text is not None
    assert "can't start new thread" in caplog.records[-2].exc_text
    alone.run_to_the_next_cycle()
    runner.step()
    assert len(alone.history()) == 2, "it tries again"
    runner.request_stop()
    runner.run()
    assert has_left(alone)


# Where a service or a bug surprises it -------------------------------------------------------


def test_a_reason_that_is_an_error_is_kept_as_its_text(alone: Alone) -> None:
    def service(turn: Turn) -> None:
        del turn
        raise TurnFailed(OSError("no disk"))  # type: ignore[arg-type] # as many will write it

    run = alone.step_with(service)
    assert (run.status, run.reason) == (ABANDONED, "no disk")


def test_a_bug_in_the_end_of_a_turn_does_not_keep_it_alive(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise AttributeError("a bug")

    runner = kept_by_a_thread(alone)
    monkeypatch.setattr(runner, "finish", broken)
    runner.step()
    assert alone.history()[-1].end_time is None
    assert runner._keeper is None


def test_without_a_margin_no_turn_begins_after_its_slot() -> None:
    alone = Alone(replace(SETTINGS, min_run_margin=0 * SECOND))
    alone.storage.after["look"] = lambda: alone.clock.advance(SETTINGS.interval)
    assert alone.claim().skip_message == "no_margin"
    assert [run.reason for run in alone.history()] == ["no_margin"]
