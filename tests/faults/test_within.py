"""Processes that are stopped within an operation, servers that are held up, storages in part lost.

And runners that differ: one that may not run, and two with other heartbeat timeouts.
"""

import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import Random

import pytest
import redis
import sqlalchemy as sa

import servers
from faults.participant import GROUP, SERVICE, STEP_SECONDS
from faults.proxy import Fault, Proxy
from faults.scene import SLACK_SECONDS, Figures, Participant, Scene, recorded, settings_of
from faults.storages import KINDS, STORAGES, THOROUGH, url_of, why_missing
from processes import eventually
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.storages.opening import open_storage
from turnwise.texts import plan_from_text

pytestmark = pytest.mark.faults

NAMES = ("alice", "bob", "carol")


def there(storage: str) -> str:
    """The storage's name, where it can be tried."""
    reason = why_missing(storage)
    if reason is not None:
        pytest.skip(reason)
    return storage


@pytest.fixture(params=KINDS[1:])
def server(request: pytest.FixtureRequest) -> str:
    return there(request.param)


# Stopped within an operation ----------------------------------------------------------------------

SUSPENSIONS = 30 if THOROUGH else 5
MOST_WITH_LOCK = 3 * SUSPENSIONS
"""So many more may have the lock of SQLite's writers, as on a disk that is slow to sync."""

LATEST_SECONDS = 0.025
SHORT = settings_of(interval=1.5, margin=0.1, timeout=0.6)


@pytest.mark.parametrize("storage", ["sqlite", "postgresql", "mariadb"])
def test_whoever_is_suspended_at_a_cycles_start_the_others_go_on(
    storage: str, tmp_path: Path
) -> None:
    """The statements of a turn are sent within milliseconds: some are met halfway.

    On SQLite some have the lock of the file's one writer. It lasts while they stand, so that
    nobody can write: they are let go at once, and then another one's turn follows as well.
    """
    chance = Random(storage)  # noqa: S311 (no secret)
    took: list[float] = []
    took_with_lock: list[float] = []
    with Scene(url_of(there(storage), tmp_path), tmp_path, settings=SHORT) as scene:
        promised = scene.promised(len(NAMES))
        for name in NAMES:
            scene.add(name, work=0.1)
        scene.await_turns(1)
        with closing(open_storage(scene.url)) as storage_itself:
            while len(took) < SUSPENSIONS:
                start, primary = next_cycle(lambda: storage_itself.read(GROUP, [SERVICE]))
                time.sleep(max(0.0, start + chance.uniform(0, LATEST_SECONDS) - time.time()))
                victim = scene.participants[primary]
                stopped_at = suspend(victim)
                if storage == "sqlite" and is_locked(tmp_path / "turns.db"):
                    went_on_at = victim.send(signal.SIGCONT)
                    took_with_lock.append(recovery_without(scene, primary, went_on_at))
                    assert len(took_with_lock) <= MOST_WITH_LOCK, "the lock is nearly always met"
                    continue
                took.append(recovery_without(scene, primary, stopped_at))
                victim.send(signal.SIGCONT)
        scene.stop()
        scene.require_no_overlap()
        scene.require_that_all_has_ended()
        assert max(took) <= promised.after_kill + SLACK_SECONDS, took
        bound = promised.after_outage + SLACK_SECONDS
        assert max(took_with_lock, default=0) <= bound, took_with_lock
        what = f"suspended within 25 ms of a cycle's start, {SUSPENSIONS} times"
        lost = sum(run.status is Status.ABANDONED for run in scene.runs())
        Figures(what, storage, 0, lost, max(took), promised.after_kill).keep()
        print(f"{len(took_with_lock)} more had the lock of the file's writers")  # noqa: T201


def next_cycle(read: Callable[[], object]) -> tuple[float, str]:
    """Wait for the plan of the next cycle: its start by the host's clock, and its primary."""

    def planned() -> tuple[float, str] | None:
        plan = read().services[SERVICE].plan  # type: ignore[attr-defined] # a Reading
        cycles = plan_from_text(plan.body).cycles
        ahead = [each for each in cycles if each.start / 1e6 > time.time() + 0.002]
        return (ahead[0].start / 1e6, ahead[0].runners[0][0]) if ahead else None

    return eventually(planned, "the next cycle is planned")


def recovery_without(scene: Scene, victim: str, since: float) -> float:
    """Seconds until a turn of somebody else begins."""

    def found() -> float | None:
        later = (line for line in scene.lines("begin") if line.at > since)
        return next((line.at for line in later if line.runner_id != victim), None)

    return eventually(found, "another one begins") - since


def suspend(victim: Participant) -> float:
    """Stop a process, and wait until it stands; when it was told."""
    told_at = victim.send(signal.SIGSTOP)
    eventually(lambda: has_stopped(victim.process.pid), "all of its threads stand")
    return told_at


def has_stopped(pid: int) -> bool:
    """Whether no thread of a process goes on: one that is within the kernel may for a moment."""
    states = (path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat"))
    return all(state.rpartition(")")[2].split()[0] == "T" for state in states)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of writers for longer than a write takes."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0.2)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        connection.execute("ROLLBACK")
        return False


# A server that is held up -------------------------------------------------------------------------

LOCKED_SECONDS = 60.0 if THOROUGH else 6.0
ANSWER_SECONDS = 1.0
"""How long a database has to answer, in the place of ten seconds: so more is given up."""


@pytest.mark.parametrize("storage", ["postgresql", "mariadb"])
def test_a_lock_on_our_tables_costs_turns_and_no_connections(storage: str, tmp_path: Path) -> None:
    url = url_of(there(storage), tmp_path)
    with Scene(url, tmp_path) as scene, recorded("tables locked", storage, scene):
        for name in NAMES:
            scene.add(name, "--answer", str(ANSWER_SECONDS))
        scene.await_turns(1)
        with closing(Watcher(storage, url)) as watcher, watcher.locked():
            most, until = 0, time.monotonic() + LOCKED_SECONDS
            while time.monotonic() < until:
                most = max(most, watcher.connections())
                time.sleep(0.02)
        released_at = time.monotonic()
        # Two a process, and for each the one that has it cancelled at the server.
        assert most <= 4 * len(NAMES)
        promised = scene.promised(len(NAMES)).after_outage
        assert scene.recovery(released_at) < promised + SLACK_SECONDS
        scene.await_line("end", since=released_at)


class Watcher:
    """Somebody else at a database: locks our tables, and counts the connections beside his own."""

    def __init__(self, storage: str, url: str) -> None:
        self._storage = storage
        parts = sa.make_url(url)
        prefix = str(parts.query["table_prefix"])
        self._tables = [f"{prefix}{name}" for name in ("runners", "offers", "records")]
        self._engine = sa.create_engine(_plain(storage, parts), poolclass=sa.NullPool)
        self._connection = self._engine.connect()
        self._connection.execution_options(isolation_level="AUTOCOMMIT")
        self._usual = self._count()

    def connections(self) -> int:
        """How many of the participants there are."""
        return self._count() - self._usual + 2 * len(NAMES)

    def _count(self) -> int:
        question = {
            "postgresql": "SELECT count(*) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend'",
            "mariadb": "SELECT count(*) FROM information_schema.processlist "
            "WHERE command <> 'Daemon'",
        }[self._storage]
        return int(self._connection.execute(sa.text(question)).scalar_one())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody reads or writes the tables: LOCK TABLE, or a metadata lock."""
        with self._engine.connect() as connection:
            self._usual += 1
            if self._storage == "postgresql":
                connection.execute(sa.text(f"LOCK TABLE {', '.join(self._tables)}"))
            else:
                locks = ", ".join(f"{table} WRITE" for table in self._tables)
                connection.execute(sa.text(f"LOCK TABLES {locks}"))
            yield
            if self._storage != "postgresql":
                connection.execute(sa.text("UNLOCK TABLES"))
            connection.rollback()

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()


def _plain(storage: str, parts: sa.URL) -> sa.URL:
    driver = "postgresql+psycopg" if storage == "postgresql" else "mysql+pymysql"
    query = {name: value for name, value in parts.query.items() if name != "table_prefix"}
    return parts.set(drivername=driver, query=query)


# A storage that loses a part ----------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["redis", "valkey"])
def test_a_server_that_evicts_some_of_our_keys_serves_again_within_a_cycle(
    storage: str, apart: Path, tmp_path: Path
) -> None:
    """What is evicted was acknowledged, so that this is outside of what is promised."""
    there(storage)
    kind = servers.Redis if storage == "redis" else servers.Valkey
    own = kind(apart, "--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru")
    try:
        with Scene(own.url, tmp_path) as scene:
            for name in NAMES:
                scene.add(name)
            scene.await_turns(1)
            with closing(redis.Redis.from_url(own.url.replace("valkey", "redis", 1))) as client:
                evicted = pressed_out(client)
            relieved_at = time.monotonic()
            promised = scene.promised(len(NAMES)).after_outage
            recovery = scene.recovery(relieved_at)
            assert recovery < promised + SLACK_SECONDS
            for name in NAMES:
                scene.await_line("end", name, since=relieved_at)
            scene.stop()
            assert all(" a bug" not in each.log for each in scene.participants.values())
            assert evicted
            Figures("server evicts keys", storage, 0, 0, recovery, None, 0).keep()
    finally:
        own.stop()


def pressed_out(client: "redis.Redis") -> set[bytes]:
    """Fill the memory until some of our keys are gone, and others are not; then relieve it."""
    pattern = f"*{GROUP}*"
    ours = set(client.scan_iter(pattern))
    give_up = time.monotonic() + 20
    number = 0
    gone: set[bytes] = set()
    while not gone and time.monotonic() < give_up:
        for _ in range(50):
            number += 1
            with suppress(redis.ResponseError):
                client.set(f"filler {number}", b"." * 2000)
        gone = ours - set(client.scan_iter(pattern))
    for key in client.scan_iter("filler *"):
        client.delete(key)
    return gone


# Runners that differ ------------------------------------------------------------------------------


def test_a_runner_that_may_not_run_gets_no_turn_whatever_it_did_before(
    server: str, tmp_path: Path
) -> None:
    with (
        Scene(url_of(server, tmp_path), tmp_path, settings=SHORT) as scene,
        recorded("may not run, and did before", server, scene),
    ):
        before = scene.add("watcher")
        scene.await_line("end", "watcher")
        before.send(signal.SIGKILL)
        before.process.wait()
        since = time.monotonic()
        scene.add("watcher", "--only-watch")
        scene.add("alice")
        scene.await_log("watcher", "has joined")
        for _ in range(3):
            scene.await_line("end", "alice", since=scene.lines("end")[-1].at)
        assert [line for line in scene.lines("begin", "watcher") if line.at > since] == []


LONG, BRIEF = 4.0, 0.4
PATIENT = settings_of(interval=4, margin=0.1, timeout=LONG)
IMPATIENT = settings_of(interval=4, margin=0.1, timeout=BRIEF)


def test_a_run_is_held_to_its_own_heartbeat_timeout_whoever_watches(
    server: str, tmp_path: Path
) -> None:
    """One runner is dead after four seconds, and the other one, who watches it, after 0.4."""
    with (
        Scene(url_of(server, tmp_path), tmp_path, settings=PATIENT) as scene,
        recorded("heartbeat timeouts of 4 s and 0.4 s", server, scene),
    ):
        patient = scene.add("patient", work=1.0)
        begun = scene.await_line("begin", "patient")
        scene.add("impatient", settings=IMPATIENT, work=1.0)
        patient.send(signal.SIGSTOP)
        # Longer than the watcher's timeout by far, and within that of the run.
        scene.await_log("impatient", "has joined")
        stopped_for = 5 * BRIEF
        eventually(lambda: time.monotonic() > begun.at + stopped_for, "it is silent")
        assert not scene.lines("begin", "impatient")
        patient.send(signal.SIGCONT)
        scene.await_line("end", "patient")
        # And the run of the impatient one is dead soon after it is killed, for the patient one.
        run = scene.await_line("begin", "impatient")
        killed_at = scene.participants["impatient"].send(signal.SIGKILL)
        promised = scene.promised(2)
        bound = BRIEF + LONG / 3 + 2 * promised.slot - promised.window
        assert scene.await_line("begin", "patient", since=run.at).at - killed_at < bound + 1.5
    assert not scene.lines("lost")


# A turn whose end the storage did not hear --------------------------------------------------------

AWAY = settings_of(interval=4, margin=0.1, timeout=0.25)
AWAY_SECONDS = 2.0


@contextmanager
def away_by(proxy: Proxy) -> Iterator[None]:
    proxy.fault = Fault.CUT_BEFORE
    proxy.cut()
    yield
    proxy.fault = Fault.NONE


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    locker = sqlite3.connect(path, isolation_level=None, timeout=20)
    locker.execute("BEGIN EXCLUSIVE")
    yield
    locker.execute("COMMIT")
    locker.close()


@pytest.mark.parametrize("storage", STORAGES)
def test_a_turn_that_ended_well_while_the_storage_was_away_is_recorded_and_not_served_again(
    storage: str, tmp_path: Path
) -> None:
    url = url_of(there(storage), tmp_path)
    proxy = None if storage == "sqlite" else Proxy(url)
    away = locked_file(tmp_path / "turns.db") if proxy is None else away_by(proxy)
    with (
        Scene(proxy.url if proxy else url, tmp_path, settings=AWAY) as scene,
        recorded("away at a turn's end for 8 timeouts", storage, scene),
    ):
        slow = scene.add("slow", "--hold", "finish")
        scene.await_line("at finish", "slow")
        ended = scene.lines("end", "slow")[-1]
        with away:
            scene.go_on()
            gone_at = time.monotonic()
            eventually(lambda: time.monotonic() > gone_at + AWAY_SECONDS, "it is away")
        scene.await_log("slow", f"turn {ended.token} ends")
        # Whoever had watched might have been first, and buried the run for its owner's silence.
        scene.add("alice")
        later = scene.await_line("begin", since=ended.at)
        scene.await_line("end", since=later.at)
    (run,) = [run for run in scene.runs() if run.token == ended.token]
    assert run.status is Status.COMPLETED
    assert later.at - ended.at > STEP_SECONDS
    assert f"turn {ended.token} ends" in slow.log
    if proxy:
        proxy.close()
