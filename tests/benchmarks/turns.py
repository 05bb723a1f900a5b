"""What a turn costs on each storage, beside a bare floor on the same server in the same run.

    PYTHONPATH=tests python tests/benchmarks/turns.py [--rounds 300] [--storage sqlite-file ...]

``turn`` is what a runner asks from the look that leads to an admission to the row in the history: a
read, the swap that admits, the swap that finishes, an append. ``look`` is a read that finds nothing
to do, and ``heartbeat`` one that names a run. The floor is three round trips of the bare driver,
of which two are durable writes of a single row, with prepared statements.
"""

import argparse
import platform
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from uuid import uuid4

import psycopg
import pymysql
import redis
import sqlalchemy as sa

import servers
from opened import SHARED
from turnwise import gate as gates
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.gate import Ask, Gate, Run
from turnwise.machine import owner_of
from turnwise.storages import Beat, Entry, Kind, Offer, Record, Storage
from turnwise.texts import gate_from_text, gate_to_text, row_to_text

GROUP, SERVICE = "benchmark", "service"
TIMEOUT = 60_000_000
GOALS = {"postgresql": 3, "redis": 3, "valkey": 3, "sqlite-file": 4, "mariadb": 4}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--runners", type=int, nargs="*", default=[3, 1000])
    parser.add_argument("--storage", choices=SHARED, action="append")
    arguments = parser.parse_args()
    print(f"CPython {platform.python_version()}, {arguments.rounds} rounds; milliseconds, medians")
    print(f"{'storage':<12}{'runners':>8}{'turn':>8}{'floor':>8}{'ratio':>8}{'goal':>6}", end="")
    print(f"{'look':>8}{'beat':>8}")
    for name in arguments.storage or SHARED:
        for runners in arguments.runners:
            with tempfile.TemporaryDirectory() as folder, _floor(name, Path(folder)) as floor:
                storage = SHARED[name](Path(folder))()
                people(storage, runners)
                row = _measure(storage, floor, arguments.rounds)
                storage.close()
                turn, bare, look, beat = row
                print(f"{name:<12}{runners:>8}{turn:>8.2f}{bare:>8.2f}{turn / bare:>8.1f}", end="")
                print(f"{GOALS[name]:>6}{look:>8.2f}{beat:>8.2f}", flush=True)


def people(storage: Storage, runners: int) -> None:
    """So many runners that offer the service."""
    for number in range(runners):
        name = f"runner {number}"
        storage.heartbeat(GROUP, Beat(name, "boot", 1, TIMEOUT))
        storage.offer(GROUP, Offer(name, "boot", SERVICE, "{}", TIMEOUT))
    now = storage.read(GROUP, ()).now
    gate = gates.new_gate(now - 10**12)
    storage.swap(GROUP, SERVICE, Kind.GATE, None, Record("first", gate_to_text(gate)))


def _measure(
    storage: Storage, floor: Callable[[], object], rounds: int
) -> tuple[float, float, float, float]:
    """A turn and the floor, one after the other; then looks and heartbeats."""
    turns: list[float] = []
    floors: list[float] = []
    looks: list[float] = []
    beats: list[float] = []
    counts = iter(range(2, 10**9))
    dues = iter(range(1, 10**9))
    for number in range(-20, rounds):
        costs = (
            _timed(lambda: turn(storage, next(dues))),
            _timed(floor),
            _timed(lambda: storage.read(GROUP, (SERVICE,))),
            _timed(
                lambda: storage.heartbeat(
                    GROUP, Beat("runner 0", "boot", next(counts), TIMEOUT, ("run",))
                )
            ),
        )
        if number >= 0:
            for kept, cost in zip((turns, floors, looks, beats), costs, strict=True):
                kept.append(cost)
    return median(turns), median(floors), median(looks), median(beats)


def turn(storage: Storage, number: int) -> None:
    """What a runner asks for one turn."""
    reading = storage.read(GROUP, (SERVICE,))
    kept = reading.services[SERVICE].gate
    if kept is None:
        raise RuntimeError("the gate is gone")
    gate = gate_from_text(kept.body)
    due = gate.floor + number
    run = Run(
        str(uuid4()), "runner 0", "boot", TIMEOUT, 0, due, due, due + 1, due, due, due + 1,
        0, 1, reading.now, 3, 1,
    )  # fmt: skip
    known = frozenset(row.id for row in gate.unsaid)
    admitted = gates.admit(gate, Ask(run, 3, reading.now + TIMEOUT), now=reading.now)
    if not isinstance(admitted, Gate):
        raise TypeError(f"not admitted: {admitted}")
    first = _record(admitted)
    if not storage.swap(GROUP, SERVICE, Kind.GATE, kept.version, first, reading.now + TIMEOUT).done:
        raise RuntimeError("somebody else was there")
    ended = gates.finish(
        gates.without(admitted, known), run.run_id, now=reading.now, status=Status.COMPLETED
    )
    if not isinstance(ended, Gate):
        raise TypeError(f"not finished: {ended}")
    storage.swap(GROUP, SERVICE, Kind.GATE, first.version, _record(replace(ended, served=())))
    storage.append(
        GROUP, SERVICE, [Entry(row.id, row.at, row.kind, row_to_text(row)) for row in ended.unsaid]
    )


def _record(gate: Gate) -> Record:
    return Record(str(uuid4()), gate_to_text(gate), owner_of(gate))


def _timed(operation: Callable[[], object]) -> float:
    start = time.perf_counter()
    operation()
    return (time.perf_counter() - start) * 1000


@contextmanager
def _floor(name: str, folder: Path) -> Iterator[Callable[[], object]]:
    """Three round trips of the bare driver on the same server."""
    makers: dict[str, Callable[[], _Floor]] = {
        "sqlite-file": lambda: _sqlite(folder / "floor.db"),
        "postgresql": _postgresql,
        "mariadb": _mariadb,
        "redis": lambda: _redis(servers.redis().url),
        "valkey": lambda: _redis(servers.valkey().url.replace("valkey", "redis", 1)),
    }
    floor, close = makers[name]()
    try:
        yield floor
    finally:
        close()


_Floor = tuple[Callable[[], object], Callable[[], object]]


def _sqlite(path: Path) -> _Floor:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE floor (id int PRIMARY KEY, body text)")
    connection.execute("INSERT INTO floor VALUES (1, '')")

    def floor() -> None:
        connection.execute("SELECT body FROM floor WHERE id = ?", (1,)).fetchone()
        for _ in range(2):
            connection.execute("UPDATE floor SET body = ? WHERE id = ?", (str(uuid4()), 1))

    return floor, connection.close


def _postgresql() -> _Floor:
    connection = psycopg.connect(servers.postgres().url, autocommit=True, prepare_threshold=0)
    connection.execute("CREATE TABLE IF NOT EXISTS floor (id int PRIMARY KEY, body text)")
    connection.execute("INSERT INTO floor VALUES (1, '') ON CONFLICT DO NOTHING")

    def floor() -> None:
        connection.execute("SELECT body FROM floor WHERE id = %s", (1,)).fetchone()
        for _ in range(2):
            connection.execute("UPDATE floor SET body = %s WHERE id = %s", (str(uuid4()), 1))

    return floor, connection.close


def _mariadb() -> _Floor:
    url = sa.make_url(servers.mariadb().url)
    connection = pymysql.connect(
        host=url.host,
        port=url.port or 0,
        user=url.username,
        password=url.password or "",
        database=url.database,
        autocommit=True,
        unix_socket=url.query.get("unix_socket"),
    )
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE IF NOT EXISTS floor (id int PRIMARY KEY, body text)")
    cursor.execute("INSERT IGNORE INTO floor VALUES (1, '')")

    def floor() -> None:
        cursor.execute("SELECT body FROM floor WHERE id = %s", (1,))
        cursor.fetchone()
        for _ in range(2):
            cursor.execute("UPDATE floor SET body = %s WHERE id = %s", (str(uuid4()), 1))

    return floor, connection.close


def _redis(url: str) -> _Floor:
    client = redis.Redis.from_url(url)
    client.set("floor", "")

    def floor() -> None:
        client.get("floor")
        for _ in range(2):
            client.set("floor", str(uuid4()))

    return floor, client.close


if __name__ == "__main__":
    main()
