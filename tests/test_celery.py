"""Celery beat on several nodes: real beats, a real worker, Redis between them."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis as client_of_redis
from celery import Celery
from celery.beat import BeatLazyFunc
from celery.exceptions import ImproperlyConfigured
from celery.schedules import crontab

import servers
from live import eventually
from turnwise.contrib.celery import Scheduler
from turnwise.storages.opening import open_storage
from turnwise.testing import fake_turn

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 60.0
BEATS = ("a", "b", "c")

APP = """
import json, os, time
from celery import Celery

app = Celery("fleet", broker=os.environ["BROKER"])
app.conf.worker_hijack_root_logger = False
app.conf.beat_schedule = {
    f"entry {number}": {"task": "witness", "schedule": 4.0,
                        "args": (number,), "kwargs": {"of": "x"},
                        "options": {"queue": "turns", "headers": {"mine": number}}}
    for number in range(int(os.environ["ENTRIES"]))
}
app.conf.beat_scheduler = "turnwise.contrib.celery:Scheduler"
app.conf.turnwise_storage = os.environ["STORAGE"]
app.conf.turnwise_runner_id = os.environ.get("RUNNER")
app.conf.turnwise_knobs = {name: {"heartbeat_timeout": "3s"} for name in app.conf.beat_schedule}

@app.task(name="witness", bind=True)
def witness(self, number, of):
    headers = self.request.headers or {}
    row = [number, of, self.request.id, headers["turnwise_due"], headers["turnwise_fencing_token"],
           headers["mine"], time.time()]
    with open("sent", "a") as sent:
        sent.write(json.dumps(row) + "\\n")
"""


class Fleet:
    """An app in a folder, and its processes."""

    def __init__(self, folder: Path, entries: int, broker: str) -> None:
        self.folder, self.processes = folder, dict[str, "subprocess.Popen[bytes]"]()
        (folder / "fleet.py").write_text(APP)
        self.storage = f"{broker}?key_prefix={folder.name}"
        self._environment = os.environ | {
            "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT / "src"))),
            "BROKER": broker,
            "STORAGE": self.storage,
            "ENTRIES": str(entries),
        }

    def start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "celery", "--app", "fleet", *arguments],
                cwd=self.folder,
                env=self._environment | {"RUNNER": name},
                stdout=log,
                stderr=log,
            )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def rows(self) -> list[list[Any]]:
        """What the worker has received."""
        path = self.folder / "sent"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def runners(self) -> set[str]:
        """The beats that have not left."""
        storage = open_storage(self.storage)
        try:
            return {row.runner_id for row in storage.runners("celery") if row.left_at is None}
        finally:
            storage.close()

    def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            process.wait(PATIENCE_SECONDS)


@contextmanager
def a_fleet(folder: Path, entries: int) -> Iterator[Fleet]:
    """Three beats and a worker, which are gone afterwards."""
    url = broker()
    with ExitStack() as stack:
        client = stack.enter_context(client_of_redis.from_url(url))
        client.delete("turns")
        fleet = Fleet(folder, entries, url)
        stack.callback(fleet.stop)
        fleet.start("worker", "worker", "--pool", "solo", "--queues", "turns", "--loglevel", "INFO")
        for name in BEATS:
            fleet.start(name, "beat", "--loglevel", "INFO")
        eventually(lambda: fleet.runners() == set(BEATS), "all beats have joined", 60)
        yield fleet


needs_redis = pytest.mark.skipif(
    servers.redis_executable() is None and servers.valkey_executable() is None,
    reason=servers.WHY_NO_REDIS,
)


def broker() -> str:
    """A server that Celery takes for Redis."""
    if servers.redis_executable() is not None:
        return servers.redis().url
    return servers.valkey().url.replace("valkey:", "redis:", 1)


@needs_redis
@pytest.mark.faults
def test_of_three_beats_one_is_killed_and_of_200_messages_none_is_missed_or_doubled(
    tmp_path: Path,
) -> None:
    entries = 20
    with a_fleet(tmp_path, entries) as fleet:
        eventually(lambda: len(fleet.rows()) >= 3 * entries, "three periods", 60)
        # In the middle between two dues, when no message is on its way: see the docs for why.
        time.sleep((2.5 - time.time()) % 4.0)
        fleet.processes["a"].kill()
        eventually(lambda: len(fleet.rows()) >= 11 * entries, "the others go on", 90)
        for name in ("b", "c"):
            fleet.processes[name].terminate()
            assert fleet.processes[name].wait(PATIENCE_SECONDS) == 0, fleet.log(name)
        assert fleet.runners() == {"a"}, "who is stopped leaves, who is killed cannot"
        time.sleep(0.5)  # what was sent last is on its way
        rows, logs = fleet.rows(), {name: fleet.log(name) for name in BEATS}

    of_number: dict[int, list[datetime]] = {number: [] for number in range(entries)}
    for number, of, _, due, _, mine, _ in rows:
        assert (of, mine) == ("x", number), "args, kwargs and options are the entry's"
        of_number[number].append(datetime.fromisoformat(due))
    for dues in of_number.values():
        assert len(dues) >= 10
        steps = Counter((b - a).total_seconds() for a, b in pairwise(sorted(dues)))
        assert set(steps) == {4.0}, f"0 is a double, 8 is a miss: {steps}"
    assert len(rows) >= 200
    assert len({row[2] for row in rows}) == len(rows), "each message has its own id"
    late = [row[6] - datetime.fromisoformat(row[3]).timestamp() for row in rows]
    assert max(late) < 4
    senders = {name for name, log in logs.items() if "Sending due task" in log}
    assert senders == set(BEATS), "they take turns"
    for name in ("b", "c"):
        assert "Traceback" not in logs[name]


@needs_redis
@pytest.mark.faults
def test_of_beats_that_are_killed_at_any_moment_what_is_sent_twice_has_one_task_id(
    tmp_path: Path,
) -> None:
    entries, chance = 20, random.Random(7)  # noqa: S311 (no secret)
    with a_fleet(tmp_path, entries) as fleet:
        eventually(lambda: len(fleet.rows()) >= entries, "a period", 60)
        for _ in range(12):
            time.sleep(chance.uniform(1, 5))
            name = chance.choice(BEATS)
            fleet.processes[name].kill()
            fleet.processes[name].wait(PATIENCE_SECONDS)
            fleet.start(name, "beat", "--loglevel", "INFO")
        count = len(fleet.rows())
        eventually(lambda: len(fleet.rows()) >= count + 2 * entries, "they go on", 90)
        rows = fleet.rows()
    ids = {(number, due): task_id for number, _, task_id, due, *_ in rows}
    assert all(ids[row[0], row[3]] == row[2] for row in rows)
    assert len(rows) - len(ids) <= 12, "a kill leaves one entry at most in doubt, or a few"


# The scheduler by itself ------------------------------------------------------------------------


def an_app(**settings: Any) -> Celery:
    app = Celery("test", broker="memory://", set_as_current=False)
    app.conf.turnwise_storage = "memory:"
    app.conf.update(settings)
    app.conf.beat_schedule = {
        "every": {
            "task": "one",
            "schedule": timedelta(seconds=1),
            "args": (1,),
            "kwargs": {"two": 2},
            "options": {"queue": "fast", "expires": 9, "headers": {"mine": "x"}},
        },
        "nightly": {"task": "two", "schedule": crontab(minute=0, hour=3)},
        **settings.get("beat_schedule", {}),
    }
    return app


class Kept(Scheduler):
    """It keeps what it would send."""

    sent: list[tuple[str, list[Any], dict[str, Any], dict[str, Any]]]

    def setup_schedule(self) -> None:
        self.sent = []
        super().setup_schedule()

    def send_task(self, name: str, args: Any, kwargs: Any, **options: Any) -> None:
        self.sent.append((name, args, kwargs, options))


def send(beat: Kept, name: str, **turn: Any) -> dict[str, Any]:
    beat._send(name, fake_turn(service=name, **turn))
    return beat.sent[-1][3]


def test_an_entry_is_sent_with_its_own_arguments_and_options() -> None:
    beat = Kept(an_app())
    due = datetime(2026, 1, 5, 3, tzinfo=UTC)
    send(beat, "every", due=due, fencing_token=7)
    name, args, kwargs, options = beat.sent[-1]
    assert (name, list(args), kwargs) == ("one", [1], {"two": 2})
    assert (options["queue"], options["expires"]) == ("fast", 9)
    assert options["headers"] == {
        "mine": "x",
        "celery_beat_task": True,
        "turnwise_due": "2026-01-05T03:00:00+00:00",
        "turnwise_fencing_token": 7,
    }
    assert beat.schedule["every"].options["headers"] == {"mine": "x"}, "which stay as they are"


def test_all_attempts_at_a_period_have_one_task_id_and_no_other_has() -> None:
    beat = Kept(an_app())
    due = datetime(2026, 1, 5, 3, tzinfo=UTC)

    def task_id(name: str = "every", **turn: Any) -> object:
        return send(beat, name, **{"due": due} | turn)["task_id"]

    assert task_id() == task_id(attempt=2, fencing_token=9)
    others = [task_id("nightly"), task_id(due=due + timedelta(seconds=1)), task_id(triggered=True)]
    assert len({task_id(), *others}) == 4
    beat.schedule["every"].options["task_id"] = "mine"
    assert task_id() == "mine"


def test_an_argument_that_is_to_be_worked_out_is_worked_out_when_it_is_sent() -> None:
    beat = Kept(
        an_app(
            beat_schedule={"lazy": {"task": "one", "schedule": 1, "args": (BeatLazyFunc(list),)}}
        )
    )
    send(beat, "lazy")
    assert beat.sent[-1][1] == [[]]


def test_a_message_that_cannot_be_sent_fails_its_turn() -> None:
    class Broken(Kept):
        def send_task(self, *_: Any, **__: Any) -> None:
            raise ConnectionError("no broker")

    with pytest.raises(Exception, match="no broker"):
        send(Broken(an_app()), "every")


def test_a_turn_that_is_lost_is_not_sent() -> None:
    beat, turn = Kept(an_app()), fake_turn(service="every")
    turn.lose()
    with pytest.raises(Exception, match="taken it away"):
        beat._send("every", turn)
    assert beat.sent == []


def test_beat_serves_from_its_first_tick_until_it_is_closed() -> None:
    beat = Kept(an_app())
    try:
        assert beat.tick() <= 5
        eventually(lambda: beat.sent, "a message is sent")
        assert beat.tick() <= 5
    finally:
        beat.close()
    sent = len(beat.sent)
    beat.close()
    assert len(beat.sent) == sent
    assert not [each for each in threading.enumerate() if each.name.startswith("turnwise")]


def test_a_signal_within_a_tick_stops_beat_once_the_tick_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beat = Kept(an_app())
    serving = beat._turnwise
    assert serving is not None
    start = serving.start

    def interrupted() -> None:
        start()
        beat.close()  # as beat's handler does
        assert serving.health().is_running
        raise SystemExit

    monkeypatch.setattr(serving, "start", interrupted)
    with pytest.raises(SystemExit):
        beat.tick()
    beat.close()
    assert not serving.health().is_running


def test_beat_ends_where_turnwise_has_ended_by_a_bug() -> None:
    beat = Kept(an_app())
    beat.tick()
    assert beat._turnwise is not None
    beat._turnwise.stop()
    with pytest.raises(RuntimeError, match="ended by a bug"):
        beat.tick()


def test_the_deadline_of_crontabs_is_how_late_they_may_start() -> None:
    beat = Scheduler(an_app(beat_cron_starting_deadline=600))
    assert beat._turnwise is not None
    services = beat._turnwise.services
    assert services["nightly"].start_within == timedelta(minutes=10)
    assert services["every"].start_within is None


def test_an_entry_goes_by_the_apps_zone_and_may_be_relative() -> None:
    daily = {"task": "t", "schedule": timedelta(days=1), "relative": True}
    beat = Scheduler(an_app(timezone="Europe/Vienna", beat_schedule={"daily": daily}))
    assert beat._turnwise is not None
    services = beat._turnwise.services
    assert str(services["daily"].schedule) == "cron 0 0 * * * Europe/Vienna"
    assert str(services["nightly"].schedule) == "cron 0 3 * * * Europe/Vienna"


def test_celerys_own_cleanup_of_results_is_an_entry_as_ever() -> None:
    app = an_app(result_backend="file:///tmp")
    beat = Scheduler(app)
    assert "celery.backend_cleanup" in beat.schedule
    assert "every" in beat.schedule


def test_settings_may_stand_in_a_namespace_as_in_django() -> None:
    class Settings:
        CELERY_TURNWISE_STORAGE = "memory:"
        CELERY_TURNWISE_GROUP = "shop"
        CELERY_BEAT_SCHEDULE = {"tidy": {"task": "t", "schedule": 60}}  # noqa: RUF012 (as settings are)

    app = Celery("test", set_as_current=False)
    app.config_from_object(Settings, namespace="CELERY")
    beat = Scheduler(app)
    assert beat._turnwise is not None
    assert beat._turnwise.group == "shop"
    assert set(beat._turnwise.services) == {"tidy", "celery.backend_cleanup"} & set(beat.schedule)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"turnwise_storag": "x"}, "no such setting: turnwise_storag; known are turnwise_group"),
        ({"turnwise_knobs": {"nigthly": {}}}, "no such entry of beat_schedule: nigthly"),
        ({"turnwise_knobs": {"nightly": {"attempts": 0}}}, r"'nightly'\]: attempts must be 1"),
        ({"turnwise_group": "\n"}, "the settings of turnwise: group"),
        ({"beat_schedule": {"never": {"task": "t", "schedule": 0}}}, r"'never'\]: interval must"),
        ({"timezone": timezone(timedelta(hours=2))}, r"timezone must be the name of a zone"),
        ({"beat_schedule": {"odd": {"task": "t", "schedule": crontab(nowfun=datetime.now)}}},
         r"'odd'\]: schedule must go by the storage's clock"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_refused_when_beat_starts_and_named(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=said):
        Scheduler(an_app(**settings))


def test_beat_that_only_looks_reads_no_schedule_and_shows_no_password() -> None:
    app = an_app(turnwise_storage="postgresql://app:secret@db/app")
    assert Scheduler(app, lazy=True).info == "    . storage -> postgresql://app:***@db/app"
    assert "environment" in Scheduler(an_app(turnwise_storage=None), lazy=True).info
    mistyped = an_app(turnwise_storage="postgresql//app:secret@db/app")
    assert "secret" not in Scheduler(mistyped, lazy=True).info


# The example of the docs ------------------------------------------------------------------------


def test_a_migration_takes_at_most_three_lines() -> None:
    text = (ROOT / "docs" / "examples" / "celery_app.py").read_text()
    ours = [line for line in text.splitlines() if "turnwise" in line and line.startswith("app.")]
    assert 1 <= len(ours) <= 3
    rest = "\n".join(line for line in text.splitlines() if line not in ours)
    assert "turnwise" not in rest.replace("# turnwise: two lines.", "")


@needs_redis
def test_the_example_runs_as_it_says(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as out:
        beat = subprocess.Popen(
            [sys.executable, "-m", "celery", "--app", "celery_app", "beat", "--loglevel", "INFO"],
            cwd=tmp_path,
            env=os.environ
            | {
                "PYTHONPATH": os.pathsep.join((str(ROOT / "docs" / "examples"), str(ROOT / "src"))),
                "BROKER": broker(),
                "STORAGE": f"sqlite:///{tmp_path / 'turns.db'}",
            },
            stdout=out,
            stderr=out,
        )
    try:
        eventually((tmp_path / "turns.db").exists, "it has opened its storage")
        storage = open_storage(f"sqlite:///{tmp_path / 'turns.db'}")
        try:
            eventually(
                lambda: (
                    {each.offer.service for each in storage.offers("celery")}
                    >= {"nightly", "tidy up"}
                ),
                "it offers its entries",
            )
        finally:
            storage.close()
        began = time.monotonic()
        beat.send_signal(signal.SIGTERM)
        assert beat.wait(PATIENCE_SECONDS) == 0
        assert time.monotonic() - began < 15, "no grace is waited for where nothing runs"
    finally:
        beat.kill()
        beat.wait(PATIENCE_SECONDS)
    assert "Traceback" not in log.read_text()
