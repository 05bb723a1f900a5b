"""What the page is made of: answers that are kept, schedules in words, shapes of a timeline."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import EPOCH, instant, microseconds
from turnwise.errors import StorageError
from turnwise.overview.known import read_group
from turnwise.overview.spoken import in_words, in_zone, zone_of
from turnwise.picture import Picture, ShownRun
from turnwise.schedules import Schedule, parse_schedule
from turnwise.storages import Beat, Offer
from turnwise.storages.memory import MemoryStorage
from turnwise.testing import VirtualScheduler
from turnwise.turn import Turn
from turnwise.web.kept import Kept
from turnwise.web.reading import Reader, start_of_strip
from turnwise.web.rendering import Urls
from turnwise.web.timeline import MOST_LANES, timeline_of

# Answers that are kept ----------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_answer_is_kept_for_a_second() -> None:
    clock, made = Clock(), iter(range(9))
    kept: Kept[int] = Kept(clock=clock)
    assert kept.at_hand("a") is None
    assert kept.get("a", lambda: next(made)) == 0
    clock.now = 0.99
    assert kept.get("a", lambda: next(made)) == kept.at_hand("a") == 0
    clock.now = 1.0
    assert kept.at_hand("a") is None
    assert kept.get("a", lambda: next(made)) == 1
    assert kept.get("b", lambda: next(made)) == 2


def dear(clock: Clock, made: Callable[[], int]) -> Callable[[], int]:
    """Works an answer out, and takes half a second for it."""

    def work_out() -> int:
        clock.now += 0.5
        return made()

    return work_out


def test_a_dear_answer_is_kept_for_ten_times_its_cost_and_given_once_more() -> None:
    clock, made = Clock(), iter(range(9))
    kept: Kept[int] = Kept(clock=clock)
    work_out = dear(clock, made.__next__)
    assert kept.get("a", work_out) == 0
    clock.now = 4.9
    assert kept.at_hand("a") == 0
    clock.now = 5.1
    assert kept.get("a", work_out) == 0, "nobody waits for the next one"
    _until(lambda: kept.at_hand("a") == 1)
    clock.now += 15
    assert kept.get("a", work_out) == 2, "but what is older than 15 seconds is not given any more"


def test_no_answer_is_as_good_as_new_for_more_than_ten_seconds() -> None:
    clock, made = Clock(), iter(range(9))
    kept: Kept[int] = Kept(clock=clock)

    def very_dear() -> int:
        clock.now += 4
        return next(made)

    kept.get("a", very_dear)
    clock.now = 9.9
    assert kept.at_hand("a") == 0
    clock.now = 10.0
    assert kept.at_hand("a") is None


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_one_works_it_out_for_all_who_ask_at_once() -> None:
    kept: Kept[int] = Kept()
    begun, go_on, made = threading.Event(), threading.Event(), []

    def work_out() -> int:
        made.append(1)
        begun.set()
        assert go_on.wait(10)
        return 7

    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(kept.get("a", work_out))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    go_on.set()
    for thread in threads:
        thread.join()
    assert answers == [7] * 5
    assert made == [1]


def test_what_was_begun_before_it_was_to_be_forgotten_is_not_given_after() -> None:
    kept: Kept[str] = Kept()

    def overtaken() -> str:
        kept.forget()
        return "before the change"

    assert kept.get("a", overtaken) == "before the change"
    assert kept.at_hand("a") is None
    assert kept.get("a", lambda: "after") == "after"


def test_an_error_is_told_to_who_asks_and_not_kept() -> None:
    clock = Clock()
    kept: Kept[int] = Kept(clock=clock)

    def fails() -> int:
        raise StorageError("away")

    for _ in range(2):
        with pytest.raises(StorageError, match="away"):
            kept.get("a", fails)
    assert kept.get("a", lambda: 1) == 1
    clock.now = 1.5
    with pytest.raises(StorageError, match="away"):
        kept.get("a", fails)
    assert kept.at_hand("a") is None, "the old one must not look as if it held"


def test_a_renewal_that_fails_is_told_to_who_asks_next() -> None:
    clock, made = Clock(), iter(range(9))
    kept: Kept[int] = Kept(clock=clock)
    kept.get("a", dear(clock, made.__next__))
    clock.now = 6.0
    failed = threading.Event()

    def fails() -> int:
        failed.set()
        raise StorageError("away")

    assert kept.get("a", fails) == 0
    assert failed.wait(10)

    def is_told() -> bool:
        try:
            kept.get("a", fails)
        except StorageError:
            return True
        return False

    _until(is_told)


def no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_renewal_without_a_thread_is_made_up_for_by_who_asks_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("turnwise.web.kept._PATIENCE_SECONDS", 0.05)
    clock, made = Clock(), iter(range(9))
    kept: Kept[int] = Kept(clock=clock)
    work_out = dear(clock, made.__next__)
    kept.get("a", work_out)
    clock.now = 6.0
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        assert kept.get("a", work_out) == 0
    clock.now = 30.0
    assert kept.get("a", work_out) == 1


def test_who_waits_for_another_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnwise.web.kept._PATIENCE_SECONDS", 0.05)
    kept: Kept[int] = Kept()
    begun, go_on = threading.Event(), threading.Event()

    def hangs() -> int:
        begun.set()
        return int(go_on.wait(10))

    thread = threading.Thread(target=kept.get, args=("a", hangs))
    thread.start()
    assert begun.wait(10)
    try:
        with pytest.raises(StorageError, match="has not answered for 15 seconds"):
            kept.get("a", hangs)
    finally:
        go_on.set()
        thread.join()


def test_what_was_asked_for_longest_ago_is_forgotten_first() -> None:
    kept: Kept[str] = Kept(2)
    for key in ("a", "b", "a", "c"):
        kept.get(key, lambda key=key: key)  # type: ignore[misc]
    assert [kept.at_hand(key) for key in "abc"] == ["a", None, "c"]


# Reading ------------------------------------------------------------------------------------------


class Counted(MemoryStorage):
    """Counts how often its offers were listed."""

    listed = 0

    def offers(self, group: str):  # type: ignore[no-untyped-def]  # noqa: ANN201 (as its base has it)
        self.listed += 1
        return super().offers(group)


def test_offers_that_could_not_be_listed_for_want_of_a_thread_are_listed_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("turnwise.web.reading._DEAR_SECONDS", 0.0)
    monkeypatch.setattr("turnwise.web.reading._OFFERS_ARE_GOOD_FOR", 0.0)
    monkeypatch.setattr("turnwise.web.reading._TIMES_THEIR_COST", 0)
    storage = Counted()
    reader = Reader(storage, "default")
    reader.known()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        reader.forget()
        reader.known()
    assert storage.listed == 1
    reader.forget()
    reader.known()
    _until(lambda: storage.listed == 2)


def test_offers_are_not_listed_anew_while_nothing_changed_and_at_once_where_a_life_is_new() -> None:
    storage = Counted()
    reader = Reader(storage, "default")

    def join(runner_id: str) -> None:
        storage.heartbeat("default", Beat(runner_id, "boot", 1, 60_000_000))
        storage.offer("default", Offer(runner_id, "boot", "a", "text", 60_000_000))

    def alive() -> list[str]:
        reader.forget()
        return reader.known().services[0].alive

    join("x")
    assert alive() == ["x"]
    assert alive() == ["x"]
    assert storage.listed == 1
    join("y")
    time.sleep(0.01)  # a twentieth of the time is what listing takes at most
    assert alive() == ["x", "y"]
    assert storage.listed == 2


def test_a_period_that_was_open_is_seen_to_be_missed_though_no_record_changed() -> None:
    with VirtualScheduler("a") as virtual:

        def job(turn: Turn) -> None:
            turn.check()

        virtual.add(job, "every 1h", name="a", start_within="5m")
        virtual.advance("1h59m")
        virtual.kill("a")
        reader = Reader(virtual.storage, "default")

        def newest() -> tuple[str, bool]:
            reader.forget()
            (known,) = reader.known().services
            strip = reader.strip(known)
            return str(strip[-1].verdict), reader.strip(known) is strip

        virtual.advance("3m")
        assert newest() == ("open", True)
        virtual.advance("4m")
        assert newest() == ("missed", True), "and then it stays so, and is not judged again"
        virtual.advance("50m")
        assert newest() == ("missed", True)


@pytest.mark.parametrize(
    ("schedule", "periods", "since"),
    [
        ("every 5m", 24, "2026-01-04T22:10:00"),
        ("every 1h offset 7m", 3, "2026-01-04T21:07:00"),
        ("cron 0 3 * * * UTC", 4, "2026-01-01T03:00:00"),
        # Three within the long night: what is found is the third last, however they lie.
        ("cron 0,1,2 0 * * * UTC", 3, "2026-01-05T00:00:00"),
        ("cron 59 23 * * * UTC", 1, "2026-01-04T23:59:00"),
    ],
)
def test_a_strip_starts_so_many_periods_ago(schedule: str, periods: int, since: str) -> None:
    with VirtualScheduler("a", start=datetime.fromisoformat("2026-01-05T00:00:00Z")) as virtual:

        def job(turn: Turn) -> None:
            turn.check()

        virtual.add(job, schedule, name="a")
        virtual.advance("5m")
        (known,) = read_group(virtual.storage, "default").services
        started = instant(start_of_strip(known, periods))
        assert started == datetime.fromisoformat(f"{since}+00:00")


# Addresses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "name", "address"),
    [
        ("", "nightly", "/service?name=nightly"),
        ("/ops/", "a/../b", "/ops/service?name=a%2F..%2Fb"),
        ("/ops", "a&b=c#d?e%", "/ops/service?name=a%26b%3Dc%23d%3Fe%25"),
        ('/"><x', "ü\u202e", "/%22%3E%3Cx/service?name=%C3%BC%E2%80%AE"),
    ],
)
def test_any_name_has_an_address_below_any_prefix(prefix: str, name: str, address: str) -> None:
    assert Urls(prefix)("service", name=name, span=None) == address


# Schedules in words -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("every 5m", "every 5 minutes"),
        ("every 1m", "every minute"),
        ("every 90s", "every 90 seconds"),
        ("every 36h", "every 36 hours"),
        ("every 14d", "every 2 weeks"),
        ("every 250ms", "every 250ms"),
        ("every 1d offset 3h", "every day at 03:00 UTC"),
        ("every 1d offset 3h1s", "every day, offset 3h1s"),
        ("every 1h offset 5m", "every hour, offset 5m"),
        ("every 5m staggered 12s", "every 5 minutes, 12s later"),
        ("cron 0 3 * * * Europe/Vienna", "every day at 03:00, Europe/Vienna"),
        ("cron @daily UTC", "every day at 00:00, UTC"),
        ("cron 0 3,15 * * MON,FRI UTC", "Monday and Friday at 03:00 and 15:00, UTC"),
        ("cron 5 9 * * 1-5 UTC", "Monday to Friday at 09:05, UTC"),
        ("cron 0 6 * * 7 UTC", "Sunday at 06:00, UTC"),
        ("cron */15 * * * * UTC", "every 15 minutes, UTC"),
        ("cron * * * * * UTC", "every minute, UTC"),
        ("cron 5 * * * * UTC", "every hour at minute 5, UTC"),
        ("cron 0 0 1 * * UTC", "day 1 of each month at 00:00, UTC"),
    ],
)
def test_a_schedule_is_said_in_words(text: str, words: str) -> None:
    assert in_words(parse_schedule(text)) == words


@pytest.mark.parametrize(
    "text",
    [
        "cron */7 * * * * UTC",
        "cron */15 9-17 * * * UTC",
        "cron 0 3 1 1 * UTC",
        "cron 0 3 1 * 1 UTC",
        "cron 0 3 L * * UTC",
        "cron 0 3 * * 1#2 UTC",
        "cron 0 30 2 * * * UTC",
        "cron 0 3 1,15 * * UTC",
        "cron 0 */2 * * * UTC",
    ],
)
def test_what_has_no_short_words_is_its_text(text: str) -> None:
    assert in_words(parse_schedule(text)) == text


class Odd:
    """A schedule of somebody's own."""

    def __init__(self, inner: Schedule) -> None:
        self._inner = inner
        self.period_at, self.dues = inner.period_at, inner.dues

    def __str__(self) -> str:
        return "odd"


def test_a_schedule_of_somebodys_own_is_its_text_and_has_no_zone() -> None:
    odd = Odd(parse_schedule("every 5m"))
    assert in_words(odd) == "odd"
    assert zone_of(odd) is None


def test_a_zone_is_told_where_it_is_not_utc() -> None:
    assert zone_of(parse_schedule("cron 0 3 * * * UTC")) is None
    assert zone_of(parse_schedule("cron 0 3 * * * Europe/Vienna staggered 1m")) == "Europe/Vienna"
    summer = microseconds(datetime.fromisoformat("2026-07-01T22:30:00Z"))
    assert in_zone(summer, "Europe/Vienna") == "2026-07-02 00:30:00 +02:00"
    assert in_zone(summer, "America/St_Johns") == "2026-07-01 20:00:00 -02:30"


# The timeline -------------------------------------------------------------------------------------

HOUR = timedelta(hours=1)
RUN = ShownRun(
    runner_id="a",
    status=Status.COMPLETED,
    reason="",
    start=EPOCH,
    end=EPOCH + HOUR / 6,
    token=1,
    due=EPOCH,
    attempt=1,
    as_standby=False,
    triggered=False,
)
EMPTY = Picture(title="a", start=EPOCH, end=EPOCH + HOUR, lanes=("a",))


def test_a_run_lies_where_it_was() -> None:
    run = replace(RUN, start=EPOCH + HOUR / 2, end=EPOCH + HOUR * 3 / 4)
    (bar,) = timeline_of(replace(EMPTY, runs=(run,))).lanes[0].runs
    assert (bar.x, bar.width, bar.look) == (50, 25, "completed")
    assert bar.title == "00:30:00 completed, took 15m"


def test_a_run_beyond_the_edges_is_cut_and_one_that_is_open_reaches_to_the_end() -> None:
    before = replace(RUN, start=EPOCH - HOUR, end=EPOCH + HOUR / 10)
    goes_on = replace(RUN, status=Status.RUNNING, start=EPOCH + HOUR / 2, end=None)
    first, last = timeline_of(replace(EMPTY, runs=(before, goes_on))).lanes[0].runs
    assert (first.x, first.width) == (0, 10)
    assert (last.x, last.width) == (50, 50)


def test_a_short_run_at_the_end_is_seen() -> None:
    at = EPOCH + HOUR - timedelta(microseconds=1)
    (bar,) = timeline_of(replace(EMPTY, runs=(replace(RUN, start=at, end=at),))).lanes[0].runs
    assert bar.width > 0.3
    assert bar.x + bar.width <= 100


def test_runs_without_room_are_one_bar_and_what_failed_lies_on_top() -> None:
    runs = [
        replace(RUN, start=EPOCH + number * HOUR / 3600, end=EPOCH + (number + 0.5) * HOUR / 3600)
        for number in range(3600)
    ]
    runs[1800] = replace(runs[1800], status=Status.ABANDONED, reason="exit:1")
    bars = timeline_of(replace(EMPTY, runs=tuple(runs))).lanes[0].runs
    assert [bar.look for bar in bars] == ["completed", "abandoned"]
    assert bars[0].width > 99
    assert bars[0].title == "3599 runs completed, from 00:00:00"
    assert bars[1].title == "00:30:00 abandoned, took 500ms: exit:1"


def test_of_many_lanes_those_that_failed_and_those_that_ran_are_shown() -> None:
    names = [f"runner-{number:03}" for number in range(100)]
    ran = [replace(RUN, runner_id=name) for name in names[40:80]]
    failed = replace(RUN, runner_id="runner-099", status=Status.ABANDONED)
    line = timeline_of(replace(EMPTY, lanes=tuple(names), runs=(*ran, failed)))
    assert len(line.lanes) == MOST_LANES
    assert line.hidden == 100 - MOST_LANES
    shown = [lane.runner_id for lane in line.lanes]
    assert "runner-099" in shown
    assert set(shown) - {"runner-099"} <= set(names[40:80])
    assert shown == sorted(shown)


@pytest.mark.parametrize(
    ("length", "labels"),
    [
        (timedelta(minutes=1), ["00:00:10", "00:00:20", "00:00:30", "00:00:40", "00:00:50"]),
        (HOUR, ["00:10", "00:20", "00:30", "00:40", "00:50"]),
        (timedelta(days=1), ["03:00", "06:00", "09:00", "12:00", "15:00", "18:00", "21:00"]),
        (timedelta(days=2), ["06:00", "12:00", "18:00", "01-02", "06:00", "12:00", "18:00"]),
        (timedelta(days=30), ["01-06", "01-11", "01-16", "01-21", "01-26"]),
    ],
)
def test_ticks_are_round_and_few(length: timedelta, labels: list[str]) -> None:
    line = timeline_of(replace(EMPTY, end=EPOCH + length))
    assert [tick.label for tick in line.ticks] == labels
