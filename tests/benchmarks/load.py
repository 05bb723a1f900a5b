"""What many services in many processes cost a server, by its own count.

    PYTHONPATH=tests python tests/benchmarks/load.py [--storage postgresql] [--interval 5]
        [--services 20] [--processes 10] [--seconds 60]

Each process is a scheduler with all services, whose functions work for 10 ms. When all have joined,
and a minute has passed, the server's counters are read, and again at the end. (A process purges the
history after its first turn of a service and each 64th after that, so that the first minute has
more of it.)

- ``statements``: PostgreSQL counts all, BEGIN, SET and COMMIT too (``pg_stat_statements``); Redis
  counts messages of clients (the calls of EVALSHA, EVAL, HELLO and so on, without what a script
  calls inside of the server).
- ``opened``: connections that were opened in the course of work. ``connections``: those of one
  process.
- ``threads``: of one process at most, less one for each turn that was at work.
- ``processor``: of the server's processes, of one core. All other work of the machine slows the
  run down, but is not counted.
- ``missed``: due instants that no process served; ``no margin``: turns that were lost to it;
  ``late``: from due to start, the median and the most.

With ``--extrapolate`` rows and bytes of one heartbeat and one look of 20 services are measured, on
their own, and what 1,000 processes would need is worked out of them.
"""

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import psycopg
import redis

import servers
from faults.proxy import Proxy
from faults.replicated import HostPostgres
from turnwise.errors import StorageError
from turnwise.events import Event, PeriodMissed, TurnEnded, TurnStarted
from turnwise.gate import KEPT_KEYS, new_gate
from turnwise.plan import CyclePlan, Plan, PlanRules
from turnwise.scheduler import Scheduler
from turnwise.schedules import Every
from turnwise.settings import Settings
from turnwise.storages import Beat, Kind, Offer, Record, Storage
from turnwise.storages.opening import open_storage
from turnwise.texts import gate_to_text, plan_to_text
from turnwise.turn import Turn

GROUP = "load"
WORK_SECONDS = 0.01
STEP_SECONDS = 0.1
PATIENCE_SECONDS = 300.0
TICKS = os.sysconf("SC_CLK_TCK")


# One process --------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What one process has seen; instants in microseconds on the storage's clock."""

    started: list[tuple[str, int, int]] = field(default_factory=list)
    missed: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    at_work: int = 0
    threads: int = 0

    def hear(self, event: Event) -> None:
        """Be an observer."""
        if isinstance(event, TurnStarted):
            self.started.append((event.service, event.due, event.started_at))
        elif isinstance(event, TurnEnded):
            self.endings[event.reason or "well"] += 1
        elif isinstance(event, PeriodMissed):
            self.missed += 1


def take_part(url: str, number: int, services: int, interval: float) -> None:
    """Be one of the processes, until SIGTERM; then print what was seen."""
    seen, lock, over = Seen(), threading.Lock(), threading.Event()
    scheduler = Scheduler(url, group=GROUP, runner_id=f"runner-{number}", observers=[seen.hear])

    def work(_: Turn) -> None:
        with lock:
            seen.at_work += 1
        time.sleep(WORK_SECONDS)
        with lock:
            seen.at_work -= 1

    for service in range(services):
        scheduler.every(timedelta(seconds=interval), name=f"service-{service}")(work)
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    with scheduler:
        print("ready", flush=True)
        while not over.wait(STEP_SECONDS):
            # A thread that ends is there for a moment after its turn: what lasts counts.
            seen.threads = max(seen.threads, _lasting_threads(seen))
    told = {"started": seen.started, "missed": seen.missed, "threads": seen.threads}
    print(json.dumps({**told, "endings": seen.endings}), flush=True)


def _lasting_threads(seen: Seen) -> int:
    counts = []
    for _ in range(3):
        counts.append(len(os.listdir("/proc/self/task")) - seen.at_work)  # noqa: PTH208 (often)
        time.sleep(0.003)
    return min(counts)


# The servers --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counts:
    """What a server has counted since it started."""

    at: float
    statements: dict[str, int]
    opened: int
    processor: float
    rows: int


class Measured(Protocol):
    """A server that counts."""

    url: str

    def counts(self) -> Counts:
        """What it has counted so far."""

    def connections(self) -> Counter[str]:
        """How many connections each process has now."""

    def stop(self) -> None:
        """End it."""


class MeasuredPostgres(HostPostgres):
    """PostgreSQL with ``pg_stat_statements``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder,
            shared_preload_libraries="pg_stat_statements",
            max_connections="1000",
        )
        self.say("CREATE EXTENSION pg_stat_statements")
        self._connection = psycopg.connect(self.url, autocommit=True)

    def counts(self) -> Counts:
        asked = self._connection.execute("SELECT query, calls FROM pg_stat_statements").fetchall()
        statements: Counter[str] = Counter()
        for query, calls in asked:
            if "pg_stat" not in query:
                statements[_kind(query)] += calls
        row = self._connection.execute(
            "SELECT sessions, tup_fetched + tup_inserted + tup_updated + tup_deleted "
            "FROM pg_stat_database WHERE datname = 'postgres'"
        ).fetchone()
        assert row is not None
        processor = _processor(self.process.pid)
        return Counts(time.monotonic(), dict(statements), row[0], processor, row[1])

    def connections(self) -> Counter[str]:
        found = self._connection.execute(
            "SELECT client_port FROM pg_stat_activity WHERE backend_type = 'client backend' "
            "AND pid <> pg_backend_pid()"
        ).fetchall()
        return _by_process({port for (port,) in found})

    def stop(self) -> None:
        self._connection.close()
        super().stop()


def _kind(query: str) -> str:
    """What a statement is for, by its text."""
    text = " ".join(query.split())
    kinds = {
        "purge": r"DELETE FROM",
        "heartbeat: write": r"UPDATE \S*runners",
        "swap": r"UPDATE \S*records|INSERT INTO \S*records",
        "history": r"INTO \S*history|FROM \S*history",
        "offer": r"INTO \S*offers",
        "revision": r"INTO \S*revisions",
        "join": r"INTO \S*runners",
        "stable": r"digest",
        "heartbeat: read": r"drained",
        "look": r"FROM \S*records|JOIN \S*records",
        "transaction": r"^(?:BEGIN|COMMIT|ROLLBACK|START)",
        "setting": r"^(?:SET|SHOW|SELECT set_config)",
    }
    found = (kind for kind, pattern in kinds.items() if re.search(pattern, text, re.IGNORECASE))
    return next(found, text[:60])


class MeasuredRedis(servers.Redis):
    """Redis, which counts by itself; it writes each answer to disk before it gives it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._client = redis.Redis.from_url(self.url, decode_responses=True)

    def counts(self) -> Counts:
        every = self._client.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): int(one["calls"]) for name, one in every.items()}
        by_clients = {
            name: count
            for name, count in calls.items()
            if name.partition("|")[0] in {"evalsha", "eval", "script", "hello", "auth", "client"}
        }
        inside = sum(count for name, count in calls.items() if name not in (*by_clients, "info"))
        opened = int(self._client.info("stats")["total_connections_received"])
        processor = _processor(self.process.pid)
        return Counts(time.monotonic(), by_clients, opened, processor, inside)

    def connections(self) -> Counter[str]:
        clients = self._client.client_list()
        return _by_process({int(one["addr"].rpartition(":")[2]) for one in clients})

    def stop(self) -> None:
        self._client.close()
        super().stop()


SERVERS: dict[str, Callable[[Path], Measured]] = {
    "postgresql": MeasuredPostgres,
    "redis": MeasuredRedis,
}


def _processor(pid: int) -> float:
    """Seconds of processor time of a process and all that it has started, ended ones too."""
    ticks = sum(_ticks(each) for each in [pid, *_children(pid)])
    return ticks / TICKS


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _ticks(pid: int) -> int:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(each) for each in fields[11:15])  # own and waited for, user and system
    return 0


def _by_process(ports: set[int]) -> Counter[str]:
    """Which process of ours is at the other end of each port, by the kernel's own tables."""
    inodes = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        parts = line.split()
        if int(parts[1].rpartition(":")[2], 16) in ports:
            inodes[f"socket:[{parts[9]}]"] = True
    found: Counter[str] = Counter()
    for pid in _children(os.getpid()):
        with suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    found[str(pid)] += str(link.readlink()) in inodes
    return found


# The run ------------------------------------------------------------------------------------------


@contextmanager
def processes(
    url: str, count: int, services: int, interval: float, folder: Path
) -> Iterator[list["subprocess.Popen[str]"]]:
    """Start so many; when it is over, end those that are left."""
    started = []
    try:
        for number in range(count):
            command = [sys.executable, __file__, "--url", url, "--number", str(number)]
            options = ["--services", str(services), "--interval", str(interval)]
            with (folder / f"{number}.log").open("w") as log:
                started.append(
                    subprocess.Popen(
                        [*command, *options], stdout=subprocess.PIPE, stderr=log, text=True
                    )
                )
        for each in started:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n", folder
        yield started
    finally:
        for each in started:
            each.kill()
            each.wait()


def measure(options: argparse.Namespace) -> None:
    """One run; print what came of it."""
    folder = Path(tempfile.mkdtemp(prefix="turnwise-load-"))
    folder.chmod(0o755)
    (folder / "server").mkdir()
    server = SERVERS[options.storage](folder / "server")
    try:
        open_storage(server.url).close()
        with processes(
            server.url, options.processes, options.services, options.interval, folder
        ) as all_of_them:
            _wait_for_all(server.url, options)
            _wait_for_edge(options.interval, options.warm_up)
            first = server.counts()
            connections = server.connections()
            time.sleep(options.seconds)
            last = server.counts()
            now = time.time()
            for each in all_of_them:
                each.send_signal(signal.SIGTERM)
            told = [json.loads(each.communicate(timeout=60)[0]) for each in all_of_them]
        since = now - (last.at - first.at)
        _print(options, first, last, connections)
        _print_turns(options, told, since, now)
    finally:
        server.stop()
    shutil.rmtree(folder)  # where it fails, the logs are kept


def _wait_for_all(url: str, options: argparse.Namespace) -> None:
    """Return when all have joined.

    Hundreds of processes that start keep a small machine from answering: it is asked again.
    """
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        with suppress(StorageError), closing(open_storage(url)) as storage:
            if len(storage.offers(GROUP)) == options.processes * options.services:
                return
        if time.monotonic() > give_up:
            raise TimeoutError("they have not all joined")
        time.sleep(1)


def _wait_for_edge(interval: float, warm_up: float) -> None:
    """Wait until all goes its way, and then for the middle of a period."""
    time.sleep(warm_up + (interval - (time.time() + warm_up) % interval) + interval / 2)


def _print(
    options: argparse.Namespace, first: Counts, last: Counts, connections: Counter[str]
) -> None:
    seconds = last.at - first.at
    kinds = {
        kind: (count - first.statements.get(kind, 0)) / seconds
        for kind, count in last.statements.items()
        if count > first.statements.get(kind, 0)
    }
    print(
        f"{options.storage}, {options.services} services x {options.processes} processes, every "
        f"{options.interval:g} s, {seconds:.0f} s, CPython {platform.python_version()}"
    )
    print(f"  statements a second     {sum(kinds.values()):.1f}")
    for kind, rate in sorted(kinds.items(), key=lambda each: -each[1]):
        print(f"    {kind:<22}{rate:.2f}")
    what = "commands within scripts" if options.storage == "redis" else "rows touched"
    print(f"  {what:<24}{(last.rows - first.rows) / seconds:.1f} a second")
    print(f"  connections             at most {max(connections.values(), default=0)} a process")
    print(f"  opened in the run       {last.opened - first.opened}")
    print(f"  processor               {(last.processor - first.processor) / seconds:.1%}")


def _print_turns(
    options: argparse.Namespace, told: list[dict[str, Any]], since: float, until: float
) -> None:
    """What became of the periods that were due in the run, but for the one at its edge."""
    started = {(service, due): at for one in told for service, due, at in one["started"]}
    step = round(options.interval * 1_000_000)
    dues = range(-(-round(since * 1e6) // step) * step, round((until - 1) * 1e6), step)
    expected = [(f"service-{n}", due) for n in range(options.services) for due in dues]
    missed = [each for each in expected if each not in started]
    late = [(started[each] - each[1]) / 1e6 for each in expected if each in started]
    endings: Counter[str] = Counter()
    for one in told:
        endings.update(one["endings"])
    print(f"  periods                 {len(expected)}, missed {len(missed)}")
    print(f"  turns                   {dict(endings)}")
    if late:
        print(f"  late                    {median(late):.3f} s, at most {max(late):.3f} s")
    print(f"  threads                 at most {max(one['threads'] for one in told)}")


# What more would cost -----------------------------------------------------------------------------


def extrapolate(options: argparse.Namespace) -> None:
    """Rows and bytes of a heartbeat, a look and a set, and what 1,000 processes need."""
    folder = Path(tempfile.mkdtemp(prefix="turnwise-load-"))
    folder.chmod(0o755)
    (folder / "server").mkdir()
    server = SERVERS[options.storage](folder / "server")
    proxy = Proxy(server.url)
    names = [f"service-{number}" for number in range(options.services)]
    try:
        with closing(open_storage(proxy.url)) as storage:
            # A set is of one service: the offers of the others make no difference.
            for runner in range(options.processes):
                _join(storage, f"runner-{runner}", names if runner == 0 else names[:1])
            for name in names:
                _keep_records(storage, name)
            if isinstance(server, MeasuredPostgres):
                server.say("VACUUM ANALYZE")  # as it does by itself once a minute
            print(
                f"{options.storage}, {options.processes} processes x {options.services} services, "
                f"CPython {platform.python_version()}"
            )
            counts = iter(range(3, 10**6))
            costs = {}
            for what, operation in (
                ("heartbeat", lambda: storage.heartbeat(GROUP, _beat("runner-0", next(counts)))),
                ("look of all services", lambda: storage.read(GROUP, names)),
                ("look of one service", lambda: storage.read(GROUP, names[:1])),
                ("set", lambda: storage.stable(GROUP, names[0], rotation=0, limit=3)),
            ):
                costs[what] = _cost(what, operation, server, proxy)
            _print_whole(options, costs)
    finally:
        proxy.close()
        server.stop()
    shutil.rmtree(folder)


def _join(storage: Storage, runner: str, names: list[str]) -> None:
    storage.heartbeat(GROUP, _beat(runner, 1))
    for name in names:
        storage.offer(GROUP, Offer(runner, "boot", name, "{}", 10**9))
    storage.heartbeat(GROUP, _beat(runner, 2))


def _keep_records(storage: Storage, name: str) -> None:
    """A gate that has served as many periods as it keeps, and a plan of this cycle and the next."""
    minute = 60 * 10**6
    now = storage.read(GROUP, ()).now
    served = tuple(now // minute * minute - back * minute for back in range(KEPT_KEYS))
    gate = replace(new_gate(now), served=served)
    rules = PlanRules(4 * 10**6, 0.5, 2, 3, every_slot=False, stabilization=0, start_within=None)
    runners = tuple((f"runner-{number}", now) for number in range(3))
    cycles = [
        CyclePlan(due, due + minute, 0, due, due + minute, rules, runners, 3, 2**47, 1, "settings")
        for due in (served[0], served[0] + minute)
    ]
    for kind, body in (
        (Kind.GATE, gate_to_text(gate)),
        (Kind.PLAN, plan_to_text(Plan(tuple(cycles)))),
    ):
        storage.swap(GROUP, name, kind, None, Record("version", body))


def _beat(runner: str, count: int) -> Beat:
    return Beat(runner, "boot", count, 10**9)


@dataclass(frozen=True)
class Cost:
    """What one operation costs."""

    statements: float
    rows: float
    size: float
    processor: float


def _cost(
    what: str, operation: Callable[[], object], server: Measured, proxy: Proxy, times: int = 200
) -> Cost:
    operation()
    time.sleep(1.1)  # PostgreSQL tells its counts once a second
    before, passed, began = server.counts(), proxy.passed, time.perf_counter()
    for _ in range(times):
        operation()
    took = (time.perf_counter() - began) / times
    size = (proxy.passed - passed) / times
    time.sleep(1.1)
    operation()
    after = server.counts()
    times += 1
    cost = Cost(
        (sum(after.statements.values()) - sum(before.statements.values())) / times,
        (after.rows - before.rows) / times,
        size,
        (after.processor - before.processor) / times,
    )
    print(
        f"  {what:<22}{cost.statements:.1f} statements, {cost.rows:.1f} rows, {size:,.0f} bytes, "
        f"{took * 1000:.2f} ms, {cost.processor * 1000:.2f} ms of the server's processor",
        flush=True,
    )
    return cost


def _print_whole(options: argparse.Namespace, costs: dict[str, Cost]) -> None:
    """What all of them need in a second, every minute served: an estimate.

    Each process sends three heartbeats in each heartbeat timeout, and looks at all services once in
    each cycle. For each service somebody finds the set, and three look in their slots; with the
    three swaps and the row of history of a turn these are eight requests, as large as a look.
    """
    minute = Settings(schedule=Every("1m"))
    beats = options.processes / minute.heartbeat_interval.total_seconds()
    looks = options.processes / 60
    turns = options.services / 60
    parts = [
        (beats, costs["heartbeat"]),
        (looks, costs["look of all services"]),
        (turns, costs["set"]),
        (8 * turns, costs["look of one service"]),
    ]
    statements, size, processor = (
        sum(rate * getattr(cost, name) for rate, cost in parts)
        for name in ("statements", "size", "processor")
    )
    print(
        f"  all, every minute     {beats:.0f} heartbeats and {looks:.1f} looks a second: "
        f"{statements:.0f} statements, {size / 1000:,.0f} kB a second, "
        f"{processor:.1%} of the server's processor"
    )


def main() -> None:
    """Measure, as told on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--storage", choices=SERVERS, default="postgresql")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds")
    parser.add_argument("--services", type=int, default=20)
    parser.add_argument("--processes", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=60.0, help="seconds before it counts")
    parser.add_argument("--extrapolate", action="store_true")
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.url is not None:
        take_part(options.url, options.number, options.services, options.interval)
    elif options.extrapolate:
        extrapolate(options)
    else:
        measure(options)


if __name__ == "__main__":
    main()
