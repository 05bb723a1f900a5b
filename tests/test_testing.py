"""The scheduler in virtual time that users test their jobs with."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from turnwise.events import Event, RunnerLeft, StorageAsked, StorageBack, StorageLost, TurnEnded
from turnwise.testing import VirtualScheduler
from turnwise.turn import Turn

START = datetime(2026, 1, 1, tzinfo=UTC)


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
        minutes = [(run.due - START.timestamp() * 1e6) / 6e7 for run in virtual.runs("job")]
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
        assert (run.ended_at or 0) - run.started_at == 30_000_000
