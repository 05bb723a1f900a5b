"""The scheduler in virtual time that users test their jobs with."""

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta

import pytest

from turnwise.controls import Controls
from turnwise.events import Event, RunnerLeft, StorageAsked, StorageBack, StorageLost, TurnEnded
from turnwise.testing import VirtualScheduler
from turnwise.turn import Turn

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_a_week_of_a_nightly_report_takes_a_moment() -> None:
    with VirtualScheduler("a", "b") as virtual:
        dues: list[datetime] = []

        @virtual.cron("0 3 * * *", timezone="Europe/Vienna")
        def report(turn: Turn) -> None:
            dues.append(turn.due)

        virtual.advance("7d")
        assert dues == [START + timedelta(days=day, hours=2) for day in range(7)]
        runs = virtual.runs("report")
        assert {run.runner_id for run in runs} == {"a", "b"}


def test_a_plain_function_sleeps_in_virtual_time_while_others_work() -> None:
    with VirtualScheduler("a") as virtual:
        ends: list[tuple[str, datetime]] = []

        @virtual.every("1h")
        def slow() -> None:
            virtual.sleep("10m")
            virtual.sleep("10m")
            ends.append(("slow", virtual.now))

        @virtual.every("1h")
        async def fast() -> None:
            await asyncio.sleep(60)
            ends.append(("fast", virtual.now))

        virtual.advance("90m")
        hour = START + timedelta(hours=1)
        assert ends == [
            ("fast", hour + timedelta(minutes=1)),
            ("slow", hour + timedelta(minutes=20)),
        ]


def test_a_failure_is_retried_by_the_next_in_line() -> None:
    with VirtualScheduler("a", "b") as virtual:

        @virtual.every("5m")
        def job(turn: Turn) -> None:
            if turn.attempt == 1:
                raise ValueError("no")

        virtual.advance("9m")
        assert [(run.attempt, run.status.value) for run in virtual.runs("job")] == [
            (1, "abandoned"),
            (2, "completed"),
        ]


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_a_killed_process_is_taken_over_from_and_its_function_goes_no_further(
    is_coroutine: bool,
) -> None:
    with VirtualScheduler("a", "b") as virtual:
        ended: list[str] = []

        def plain(turn: Turn) -> None:
            virtual.sleep("10s")
            ended.append(turn.runner_id)

        async def coroutine(turn: Turn) -> None:
            await asyncio.sleep(10)
            ended.append(turn.runner_id)

        virtual.add(coroutine if is_coroutine else plain, "every 5m", name="job")
        virtual.advance("5m")
        virtual.advance("3s")
        [run] = virtual.runs("job")
        virtual.kill(run.runner_id)
        virtual.advance("4m")
        first, second = virtual.runs("job")
        assert (first.reason, second.status.value) == ("owner_dead", "completed")
        assert ended == [second.runner_id]
        virtual.start(first.runner_id)
        virtual.advance("1h")
        assert len({run.runner_id for run in virtual.runs("job")[2:]}) == 2


def test_a_suspended_process_loses_its_turn_and_hears_of_it_when_it_wakes() -> None:
    with VirtualScheduler("a", "b") as virtual:

        @virtual.every("5m")
        def job(turn: Turn) -> None:
            virtual.sleep("10s")
            turn.check()

        virtual.advance("303s")
        owner = virtual.runs("job")[0].runner_id
        virtual.suspend(owner)
        virtual.advance("4m")
        virtual.resume(owner)
        virtual.advance("1s")
        assert [run.reason for run in virtual.runs("job")] == ["owner_dead", ""]
        [ended] = [e for e in virtual.events if isinstance(e, TurnEnded) and e.runner_id == owner]
        assert (ended.reason, ended.recorded) == ("lost", False)


def test_a_stopped_process_leaves_when_its_functions_have_ended() -> None:
    with VirtualScheduler("a") as virtual:

        @virtual.every("5m")
        def job(turn: Turn) -> None:
            while not turn.stop_requested:
                virtual.sleep("1s")

        virtual.advance("310s")
        virtual.stop("a")
        virtual.advance("2s")
        assert isinstance(virtual.events[-1], RunnerLeft)
        assert virtual.runs("job")[0].status.value == "completed"


def test_a_plain_function_that_goes_on_beyond_the_grace_is_given_up() -> None:
    with VirtualScheduler("a") as virtual:
        virtual.add(lambda: virtual.sleep("1h"), "every 5m", name="job")
        virtual.advance("310s")
        virtual.stop("a", grace=timedelta(seconds=5))
        virtual.advance("6s")
        assert virtual.runs("job")[0].reason == "stopped"
        assert isinstance(virtual.events[-1], RunnerLeft)


@pytest.mark.parametrize("has_joined", [False, True])
def test_a_process_that_is_cut_off_stops_without_a_word(has_joined: bool) -> None:
    with VirtualScheduler("a") as virtual:
        virtual.add(lambda: virtual.cut_off(), "every 5m", name="job")  # noqa: PLW0108 (it asks for no turn)
        if has_joined:
            virtual.advance("5m")
        virtual.cut_off()
        virtual.advance("1s")
        virtual.stop("a", grace="0s")
        virtual.advance("10s")
        assert not any(isinstance(event, RunnerLeft) for event in virtual.events)
        with pytest.raises(ValueError, match="runner_id must be of a process that runs, got 'a'"):
            virtual.stop("a")


def test_an_outage_is_told_once_and_ends() -> None:
    heard: list[Event] = []
    with VirtualScheduler("a", observers=[heard.append]) as virtual:
        virtual.add(lambda: None, "every 5m", name="job")
        virtual.advance("6m")
        virtual.cut_off("a")
        virtual.advance("10m")
        virtual.reconnect("a")
        virtual.advance("10m")
        kinds = [type(event) for event in heard if isinstance(event, StorageLost | StorageBack)]
        assert kinds == [StorageLost, StorageBack]
        told = [event for event in heard if not isinstance(event, StorageAsked)]
        assert told == virtual.events
        assert len(told) < len(heard), "each request is told to observers, and not kept"
        minutes = [(run.due - START) / MINUTE for run in virtual.runs("job")]
        assert minutes == [5, 15, 20, 25], "the newest is served when it is back, and no older one"


def test_time_can_be_advanced_to_an_instant_and_the_storages_clock_can_jump() -> None:
    with VirtualScheduler(start=START) as virtual:
        virtual.add(lambda: None, "every 5m", name="job")
        virtual.advance_to(START + timedelta(minutes=7))
        assert virtual.now == START + timedelta(minutes=7)
        virtual.advance_to(START)
        assert virtual.now == START + timedelta(minutes=7)
        virtual.step_clock(timedelta(minutes=-2))
        assert virtual.now == START + timedelta(minutes=5)
        virtual.advance("10m")
        assert len({run.due for run in virtual.runs("job")}) == len(virtual.runs("job"))


def test_two_runs_of_one_test_are_the_same() -> None:
    def one() -> list[Event]:
        with VirtualScheduler("a", "b", "c") as virtual:

            @virtual.every("1m")
            def job(turn: Turn) -> None:
                virtual.sleep("7s")
                if turn.fencing_token % 3 == 0:
                    raise ValueError("no")

            virtual.advance("20m")
            return virtual.events

    assert one() == one()


def test_a_service_can_be_added_later_and_a_process_as_well() -> None:
    with VirtualScheduler("a") as virtual:
        virtual.advance("1m")
        virtual.kill("a")
        virtual.start("b")
        virtual.add(lambda: None, "every 1m", name="job", heartbeat_timeout="10s")
        virtual.add(lambda: None, "every 5m", name="other")
        virtual.start("watcher", may_run=False)
        virtual.advance("5m")
        assert {run.runner_id for run in virtual.runs("job")} == {"b"}
        with pytest.raises(ValueError, match="runner_id must be of no process that runs, got 'b'"):
            virtual.start("b")


def test_a_service_that_nobody_knows_has_no_runs() -> None:
    with VirtualScheduler() as virtual:
        assert virtual.runs("nothing") == ()


def test_to_sleep_is_for_plain_functions_that_are_served() -> None:
    with VirtualScheduler() as virtual, pytest.raises(RuntimeError, match="call advance"):
        virtual.sleep("1s")


def test_the_start_needs_a_time_zone() -> None:
    with pytest.raises(ValueError, match="start must have a time zone"):
        VirtualScheduler(start=datetime(2026, 1, 1))  # noqa: DTZ001 (as said)


def test_a_plain_function_may_give_back_a_coroutine() -> None:
    with VirtualScheduler() as virtual:
        virtual.add(lambda: asyncio.sleep(30), "every 5m", name="job")
        virtual.advance("6m")
        [run] = virtual.runs("job")
        assert run.ended_at is not None
        assert run.ended_at - run.started_at == timedelta(seconds=30)


def test_what_a_coroutine_does_in_a_thread_takes_no_virtual_time() -> None:
    with VirtualScheduler() as virtual:
        ended: list[datetime] = []

        @virtual.every("5m")
        async def job() -> None:
            async with asyncio.timeout(1):
                await asyncio.to_thread(time.sleep, 0.05)
            await asyncio.sleep(2)
            ended.append(virtual.now)

        virtual.advance("5m2s")
        assert ended == [START + timedelta(minutes=5, seconds=2)]
        assert virtual.runs("job")[0].status.value == "completed"


async def _connects() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        await asyncio.open_connection(*server.getsockname())


async def _is_connected() -> None:
    mine, other = socket.socketpair()
    with mine, other:
        mine.setblocking(False)  # noqa: FBT003 (the standard library's)
        await asyncio.get_running_loop().sock_recv(mine, 1)


async def _starts_a_process() -> None:
    process = await asyncio.create_subprocess_exec("sleep", "0.1")
    await process.wait()


@pytest.mark.parametrize("job", [_connects, _is_connected, _starts_a_process])
def test_a_coroutine_that_waits_for_what_takes_real_time_is_refused(
    job: Callable[[], Coroutine[None, None, None]],
) -> None:
    """Else it would be at work for ever without a word."""
    with VirtualScheduler() as virtual:
        virtual.add(job, "every 5m", name="job")
        with pytest.raises(RuntimeError, match="which takes real time"):
            virtual.advance("5m")


def test_time_is_advanced_neither_in_a_running_event_loop_nor_in_a_function() -> None:
    with VirtualScheduler() as virtual:

        async def test() -> None:
            virtual.advance("1m")

        with pytest.raises(RuntimeError, match="within a running event loop: use a plain test"):
            asyncio.run(test())

        virtual.add(lambda: virtual.advance("1m"), "every 5m", name="plain")
        virtual.add(test, "every 5m", name="coroutine")
        virtual.advance("5m")
        for name in ("plain", "coroutine"):
            assert virtual.runs(name)[0].reason == "exception:RuntimeError"


def test_a_run_is_told_with_instants_as_the_turn_has_them() -> None:
    with VirtualScheduler() as virtual:
        turns: list[Turn] = []

        @virtual.every("5m")
        async def job(turn: Turn) -> None:
            turns.append(turn)
            await asyncio.sleep(3)

        virtual.advance("5m1s")
        [run], [turn] = virtual.runs("job"), turns
        assert (run.run_id, run.runner_id) == (turn.run_id, turn.runner_id)
        assert (run.fencing_token, run.attempt) == (turn.fencing_token, turn.attempt)
        assert (run.due, run.started_at) == (turn.due, turn.started_at)
        assert (run.ended_at, run.status.value, run.triggered) == (None, "running", False)
        Controls(virtual.storage).trigger("job")
        virtual.advance("1m")
        first, asked = virtual.runs("job")
        assert (first.ended_at, first.reason) == (turn.started_at + timedelta(seconds=3), "")
        assert (first.triggered, asked.triggered) == (False, True)


@pytest.mark.parametrize(
    ("misuse", "kind", "message"),
    [
        (lambda _: VirtualScheduler(["a", "b"]), TypeError, r"runner_id must be text, got \['a'"),  # type: ignore[arg-type]
        (lambda _: VirtualScheduler(""), ValueError, "runner_id must have 1 to 255 characters"),
        (lambda _: VirtualScheduler(group=""), ValueError, "group must have 1 to 255"),
        (lambda _: VirtualScheduler(start="now"), TypeError, "start must be a datetime with"),  # type: ignore[arg-type]
        (lambda virtual: virtual.cut_off("b"), ValueError, "of a process that runs, got 'b'"),
        (lambda virtual: virtual.reconnect("b"), ValueError, "of a process that runs, got 'b'"),
        (lambda virtual: virtual.suspend("b"), ValueError, "of a process that runs, got 'b'"),
        (lambda virtual: virtual.kill(["a"]), TypeError, "runner_id must be text"),
        (lambda virtual: virtual.step_clock(5), TypeError, "by must be a timedelta or a text"),
        (lambda virtual: virtual.advance(-MINUTE), ValueError, "length must not be negative, got"),
        (lambda virtual: virtual.sleep(-MINUTE), ValueError, "length must not be negative, got"),
        (lambda virtual: virtual.stop("a", -MINUTE), ValueError, "grace must not be negative, got"),
        (lambda virtual: virtual.advance_to("noon"), TypeError, "at must be a datetime"),
    ],
)
def test_what_virtual_time_cannot_do_is_refused_by_its_name(
    misuse: Callable[[VirtualScheduler], object], kind: type[Exception], message: str
) -> None:
    with VirtualScheduler("a") as virtual, pytest.raises(kind, match=message):
        misuse(virtual)


def test_the_storages_clock_is_stepped_by_a_text_as_well() -> None:
    with VirtualScheduler() as virtual:
        virtual.step_clock("5m")
        assert virtual.now == START + 5 * MINUTE
