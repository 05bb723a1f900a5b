"""How long the page's first byte takes, in a group of many services and runners.

    PYTHONPATH=tests python tests/benchmarks/page.py [--storage memory|sqlite] [--services 100]
        [--runners 1000] [--rounds 30] [--json]

Every runner offers every service; each service was served in its last 30 periods, and one in ten
runs. The page is served by uvicorn in a process of its own, and asked over a kept connection, by a
process that does nothing else. In milliseconds, until the first byte of the body, and beside it
what the server's process has worked for it, as all other work of the machine slows the first down:

- ``empty``: a program of one route that answers two bytes, served in the same way;
- ``first``: the first request after the program was made, with ``warm`` off; nothing is known, so
  that the page says that the group is being read;
- ``all of it``: the next one, which waits until it was read;
- ``warm``: the first request, where the group had been read before the server was ready;
- ``looked at``: every 0.3 seconds, as when some viewers have it open: median, and the most;
- ``after a pause``: after 16 seconds in which nobody looked: what was known, which says that it is
  old; ``new again``: what is asked for then, by a page that is open: what was read anew;
- ``probe``: ``/healthz``, for which all is read; ``service``: the page of one, after a second.
"""

import argparse
import http.client
import json
import os
import platform
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import MINUTE, SECOND
from turnwise.gate import Command, CommandName, Execution, Gate, Row, Run, Success
from turnwise.plan import CyclePlan, Plan, Planner, settings_digest
from turnwise.schedules import Every
from turnwise.settings import Settings
from turnwise.storages import Beat, Entry, Kind, Offer, Owner, Record, Storage
from turnwise.storages.memory import MemoryStorage
from turnwise.storages.opening import open_storage
from turnwise.texts import gate_to_text, plan_to_text, row_to_text
from turnwise.web import create_app

GROUP, BOOT = "default", "boot"
FIVE = 5 * MINUTE
PERIODS = 30
SETTINGS = Settings(schedule=Every("5m"))


# The group ----------------------------------------------------------------------------------------


def fill(storage: Storage, services: int, runners: int) -> None:
    """Bring a group into an empty storage in memory, as it is after two and a half hours."""
    names = [f"service-{number:03}" for number in range(services)]
    ids = [f"runner-{number:04}" for number in range(runners)]
    text = SETTINGS.to_json()
    for runner_id in ids:
        storage.heartbeat(GROUP, Beat(runner_id, BOOT, 1, 3600 * SECOND))
        for name in names:
            storage.offer(GROUP, Offer(runner_id, BOOT, name, text, 3600 * SECOND))
    fill_records(storage, names, ids)


def fill_records(storage: Storage, names: list[str], ids: list[str]) -> None:
    """Bring the records and the history of services."""
    now = storage.read(GROUP, ()).now
    due = now - now % FIVE
    for number, name in enumerate(names):
        plan, gate = _plan(name, due, ids), _gate(name, due, ids, is_open=number % 10 == 0)
        owner = None
        if gate.open is not None:
            owner = Owner(gate.open.run_id, gate.open.runner_id, BOOT, 3600 * SECOND)
        storage.swap(GROUP, name, Kind.PLAN, None, Record(f"plan {name}", plan_to_text(plan)))
        storage.swap(
            GROUP, name, Kind.GATE, None, Record(f"gate {name}", gate_to_text(gate), owner)
        )
        rows: list[Row] = [
            _executed(name, due - FIVE * back, ids) for back in range(PERIODS, 0, -1)
        ]
        rows.append(
            Command(
                f"{name} told",
                CommandName.SETTINGS,
                due - 40 * FIVE,
                ids[0],
                settings=SETTINGS.to_json(),
            )
        )
        storage.append(GROUP, name, [Entry(r.id, r.at, r.kind, row_to_text(r)) for r in rows])


def _plan(name: str, due: int, ids: list[str]) -> Plan:
    planner = Planner.of(name, SETTINGS)
    cycle = CyclePlan(
        start=due,
        end=due + FIVE,
        number=0,
        due=due,
        until=due + FIVE,
        rules=planner.rules,
        runners=tuple((each, due) for each in ids[:3]),
        size=len(ids),
        digest=0,
        settings=settings_digest(SETTINGS.to_json()),
        periods=40,
    )
    return Plan((cycle,))


def _gate(name: str, due: int, ids: list[str], *, is_open: bool) -> Gate:
    dues = tuple(due - FIVE * back for back in range(PERIODS, 0, -1))
    run = Run(
        run_id=f"{name} {due}",
        runner_id=ids[0],
        boot_id=BOOT,
        heartbeat_timeout=3600 * SECOND,
        token=PERIODS + 1,
        key=due,
        due=due,
        until=due + FIVE,
        cycle_start=due,
        slot_start=due,
        slot_end=due + 100 * SECOND,
        position=0,
        attempt=1,
        started_at=due,
        size=len(ids),
        digest=0,
    )
    return Gate(
        floor=due - 41 * FIVE,
        token=run.token,
        open=run if is_open else None,
        served=dues if is_open else (*dues, due),
        success=Success(dues[-1], dues[-1] + SECOND, f"{name} {dues[-1]}"),
    )


def _executed(name: str, due: int, ids: list[str]) -> Execution:
    return Execution(
        id=f"{name} {due}",
        runner_id=ids[due // FIVE % len(ids)],
        status=Status.COMPLETED,
        reason="",
        started_at=due,
        ended_at=due + SECOND,
        token=1,
        due=due,
        cycle_start=due,
        slot_start=due,
        slot_end=due + 100 * SECOND,
        position=0,
        attempt=1,
        size=len(ids),
        digest=0,
    )


def fill_sqlite(path: Path, services: int, runners: int) -> None:
    """The same in a file: its hundred thousand offers at once, not each with the disk's pace."""
    names = [f"service-{number:03}" for number in range(services)]
    ids = [f"runner-{number:04}" for number in range(runners)]
    storage = open_storage(f"sqlite:///{path}")
    storage.heartbeat(GROUP, Beat(ids[0], BOOT, 1, 3600 * SECOND))
    storage.offer(GROUP, Offer(ids[0], BOOT, names[0], SETTINGS.to_json(), 3600 * SECOND))
    with sqlite3.connect(path) as connection:
        for table, columns in (("runners", _RUNNERS), ("offers", _OFFERS)):
            connection.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM turnwise_{table}")  # noqa: S608
            connection.execute(f"DELETE FROM turnwise_{table}")  # noqa: S608
            connection.executemany(
                f"INSERT INTO turnwise_{table} SELECT {columns} FROM kept",  # noqa: S608
                [(who,) for who in ids]
                if table == "runners"
                else [(name, f"{name} {who}", who) for who in ids for name in names],
            )
            connection.execute("DROP TABLE kept")
    connection.close()
    fill_records(storage, names, ids)
    storage.close()


_RUNNERS = (
    "group_name, ?, boot_id, joined_at, heard_at, left_at, beat_count, heartbeat_timeout, runs, "
    "digest"
)
_OFFERS = "group_name, ?, ?, ?, boot_id, settings, heartbeat_timeout, may_run, offered_at"


@dataclass(frozen=True, slots=True, order=True)
class Took:
    """Milliseconds until the first byte, and of the server's processor."""

    first: float
    work: float


# The servers --------------------------------------------------------------------------------------


def serve(url: str, port: int, *, services: int, runners: int, warm: bool) -> None:
    """Serve the page, or for ``empty`` a program that does nothing, until it is ended."""
    app: ASGIApp
    if url == "empty":
        app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("ok"))])
    elif url == "memory":
        storage: Storage = MemoryStorage()
        fill(storage, services, runners)
        app = create_app(storage, warm=warm)
    else:
        app = create_app(open_storage(url), warm=warm)
    uvicorn.run(app, port=port, log_level="error", timeout_keep_alive=60)


@contextmanager
def served(url: str, services: int, runners: int, *, warm: bool) -> Iterator[Callable[[str], Took]]:
    """A server in a process of its own; ask it for a path, and be told how long that took."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "--serve", url, "--port", str(port)]
    command += ["--services", str(services), "--runners", str(runners), *(["--warm"] * warm)]
    process = subprocess.Popen(command, env=os.environ)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(path: str) -> Took:
        worked, began = _worked(process.pid), time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read(1)
        took = time.perf_counter() - began
        answer.read()
        # A probe that has no answer within five seconds says so.
        assert answer.status == 200 or path == "/healthz", (path, answer.status)
        return Took(took * 1000, (_worked(process.pid) - worked) * 1000)

    try:
        _wait_for(port)
        yield ask
    finally:
        connection.close()
        process.terminate()
        process.wait(30)


def _worked(pid: int) -> float:
    """Seconds of a processor that a process has had, to a hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _wait_for(port: int) -> None:
    for _ in range(1200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"nothing listens at port {port}")


def measured(url: str, services: int, runners: int, rounds: int) -> dict[str, Took]:
    """All figures of one storage."""
    found: dict[str, Took] = {}
    with served("empty", services, runners, warm=False) as ask:
        ask("/")
        found["empty"] = _median([ask("/") for _ in range(rounds)])
    with served(url, services, runners, warm=False) as ask:
        found["first"] = ask("/")
        found["all of it"] = ask("/?wait=yes")
    with served(url, services, runners, warm=True) as ask:
        found["warm"] = ask("/")
        times = []
        for _ in range(rounds):
            time.sleep(0.3)
            times.append(ask("/"))
        found["looked at, median"], found["looked at, most"] = _median(times), max(times)
        time.sleep(1.1)
        found["probe"] = ask("/healthz")
        time.sleep(1.1)
        found["service"] = ask("/service?name=service-000")
        time.sleep(16)
        found["after a pause"] = ask("/")
        found["new again"] = ask("/?wait=yes")
    return found


def _median(times: list[Took]) -> Took:
    """The median of the first bytes, and the mean of the work."""
    return Took(median(each.first for each in times), sum(each.work for each in times) / len(times))


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--storage", choices=("memory", "sqlite"), default="memory")
    parser.add_argument("--services", type=int, default=100)
    parser.add_argument("--runners", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--warm", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    size = {"services": asked.services, "runners": asked.runners}
    if asked.serve:
        serve(asked.serve, asked.port, warm=asked.warm, **size)
        return
    with tempfile.TemporaryDirectory() as folder:
        url = "memory"
        if asked.storage == "sqlite":
            path = Path(folder) / "turns.db"
            fill_sqlite(path, **size)
            url = f"sqlite:///{path}"
        found = measured(url, rounds=asked.rounds, **size)
    if asked.json:
        print(
            json.dumps(
                {
                    "python": platform.python_version(),
                    **size,
                    **{name: [took.first, took.work] for name, took in found.items()},
                }
            )
        )
        return
    print(f"{asked.storage}, {asked.services} services, {asked.runners} runners; ms, of processor")
    for name, took in found.items():
        print(f"{name:<18} {took.first:8.1f} {took.work:8.0f}")


if __name__ == "__main__":
    main()
