"""How long a round takes on each storage, beside what a user would take instead.

    PYTHONPATH=tests python tests/benchmarks/backends.py [--rounds 300] [--storage sqlite-file ...]

``refused`` is a round that brings no turn: a look. ``served`` is a look, an admission, and the end
of the run. The rivals, on the same server in the same run, hold a lock around one small write:
redis-py's Lock, a session's advisory lock, and a row taken with SKIP LOCKED.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import psycopg
import redis

import servers
from storages import SHARED
from turnwise import AtomicServiceExecutionStatus, Backend, Settings, open_backend
from turnwise.backends import Participant
from turnwise.testing import run_of

COMPLETED = AtomicServiceExecutionStatus.COMPLETED
SERVICE = "benchmark"
# A cycle long enough to measure in, and short enough to wait for the next.
INTERVAL = timedelta(seconds=8)
SETTINGS = Settings.for_interval(INTERVAL, heartbeat_timeout=INTERVAL)
EVERY_SLOT = replace(SETTINGS, runs_per_cycle="every_slot")


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--storage", choices=SHARED, action="append")
    arguments = parser.parse_args()
    servers.wait_for_the_disk()
    print(f"CPython {platform.python_version()}, {arguments.rounds} rounds; milliseconds")
    print(f"{'storage':<12}{'runners':>8}  {'what':<24}{'median':>8}{'99 %':>8}{'a second':>10}")
    for storage in arguments.storage or SHARED:
        for runners in (3, 100, 1000):
            measure(storage, runners, arguments.rounds)
        for name, rival in RIVALS.get(storage, {}).items():
            report(storage, "", name, timed(rival(), arguments.rounds))


def measure(storage: str, runners: int, rounds: int) -> None:
    """One storage with so many runners that count, at the start of a cycle."""
    with tempfile.TemporaryDirectory() as folder:
        backend = open_backend(SHARED[storage](Path(folder)))
        everybody = [Participant(f"runner {n}", "boot") for n in range(runners)]
        backend.publish_settings(SERVICE, SETTINGS)
        give_up = time.monotonic() + 4 * INTERVAL.total_seconds()
        while (look := backend.look(SERVICE, everybody[0], SETTINGS)).size < runners:
            if time.monotonic() > give_up:
                raise TimeoutError(f"{runners} runners do not come to count on {storage}")
            for who in everybody:
                backend.heartbeat(SERVICE, who, SETTINGS)
            left = (look.cycle.end - backend.peek(SERVICE, SETTINGS).now).total_seconds()
            time.sleep(max(0.0, left))
        refused = partial(backend.look, SERVICE, everybody[0], SETTINGS)
        report(storage, runners, "refused", timed(refused, rounds))
        report(storage, runners, "served", timed(served(backend, everybody[0]), rounds))
        backend.close()


def served(backend: Backend, who: Participant) -> Callable[[], object]:
    """A round with a turn, each in a slot of its own."""
    slots = iter(range(10**9))

    def one_round() -> None:
        look = backend.look(SERVICE, who, SETTINGS)
        run = run_of(who.runner_id, look.cycle.start)
        run.slot_start = look.cycle.start + next(slots) * timedelta(microseconds=1)
        admission = backend.admit(SERVICE, run, EVERY_SLOT, look)
        if admission.fencing_token is None:
            raise RuntimeError(f"not admitted: {admission.refusal}")
        run_id = run.atomic_service_id.atomic_service_run_id
        backend.finish(SERVICE, run_id, COMPLETED, "", EVERY_SLOT)

    return one_round


def timed(operation: Callable[[], object], rounds: int) -> list[float]:
    """Milliseconds of each of so many calls, after a few that warm up."""
    times = []
    for number in range(-10, rounds):
        start = time.perf_counter()
        operation()
        if number >= 0:
            times.append((time.perf_counter() - start) * 1000)
    return times


def report(storage: str, runners: object, what: str, times: list[float]) -> None:
    """One row of the table."""
    late = quantiles(times, n=100)[98]
    a_second = 1000 * len(times) / sum(times)
    row = f"{storage:<12}{runners:>8}  {what:<24}{median(times):>8.2f}{late:>8.2f}{a_second:>10.0f}"
    print(row, flush=True)


def redis_lock() -> Callable[[], object]:
    """redis-py's Lock around one write."""
    client = redis.Redis.from_url(servers.redis().url)

    def hold() -> None:
        with client.lock("rival", timeout=60):
            client.set("rival's work", "done")

    return hold


def postgres() -> "psycopg.Connection[tuple[object, ...]]":
    """A connection with a table of one row."""
    connection = psycopg.connect(servers.postgres().url, autocommit=True)
    connection.execute("CREATE TABLE IF NOT EXISTS rival (id int PRIMARY KEY, done int)")
    connection.execute("INSERT INTO rival VALUES (1, 0) ON CONFLICT DO NOTHING")
    return connection


def advisory_lock() -> Callable[[], object]:
    """A session's advisory lock around one write."""
    connection = postgres()

    def hold() -> None:
        connection.execute("SELECT pg_advisory_lock(1)")
        connection.execute("UPDATE rival SET done = done + 1")
        connection.execute("SELECT pg_advisory_unlock(1)")

    return hold


def skip_locked() -> Callable[[], object]:
    """A row that is taken with SKIP LOCKED, written and let go."""
    connection = postgres()

    def hold() -> None:
        with connection.transaction():
            connection.execute("SELECT id FROM rival FOR UPDATE SKIP LOCKED")
            connection.execute("UPDATE rival SET done = done + 1")

    return hold


RIVALS: dict[str, dict[str, Callable[[], Callable[[], object]]]] = {
    "postgresql": {"advisory lock and write": advisory_lock, "skip locked and write": skip_locked},
    "redis": {"redis-py lock and write": redis_lock},
}

if __name__ == "__main__":
    main()
