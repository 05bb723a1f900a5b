"""Whether an operation of a storage is slower with a million rows of history than with 1,000.

    PYTHONPATH=tests python tests/benchmarks/long_history.py [--rows 1000000] [--storage NAME]

The rows are of ten services, of the kinds that a scheduler writes. An SQL storage gets them by one
statement for a thousand rows and by another for the rest; Redis and Valkey by many appends. Then
each operation is timed with either history, in the same run: the median of its rounds, in
milliseconds. What is asked for is the same: a list is of the newest 20 rows, or of a part of the
history with 20 rows in it, and a purge finds five rows to forget. No cost may grow by more than ten
times.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from itertools import count
from pathlib import Path
from statistics import median

from opened import SHARED
from turnwise.storages import Beat, Entry, Kind, Offer, Record, Storage
from turnwise.storages.sql import SqlStorage

GROUP = "benchmark"
SERVICES = tuple(f"service {number}" for number in range(10))
SERVICE = SERVICES[0]
TIMEOUT = 60_000_000
FEW = 1000
KEEP = 100_000  # the default of retention_count
STEP = 1_000_000  # microseconds between two rows of the same service
MOST_GROWTH = 10
STORAGES = [name for name in SHARED if name != "memory"]

_NUMBERS = """
WITH RECURSIVE digits AS (SELECT 0 AS d UNION ALL SELECT d + 1 FROM digits WHERE d < 99),
numbers AS (SELECT a.d * 10000 + b.d * 100 + c.d AS n FROM digits a, digits b, digits c)
"""
_ROWS = """
SELECT 'benchmark', CONCAT('service ', n % 10), CONCAT('row ', n),
  CAST((n - n % 10) / 10 AS {integer}) * 1000000,
  CASE WHEN n % 100 < 90 THEN 'completed' WHEN n % 100 < 99 THEN 'abandoned' ELSE 'command' END,
  '{body}'
FROM numbers WHERE n >= {first} AND n < {last}
"""
# What a server does behind our backs after so many rows at once, and not while it is timed.
_SETTLE = {
    "sqlite": (),
    "postgresql": ("VACUUM ANALYZE turnwise_history", "CHECKPOINT"),
    "mysql": ("ANALYZE TABLE turnwise_history",),
}
_INTEGER = {"sqlite": "INTEGER", "postgresql": "BIGINT", "mysql": "SIGNED"}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--storage", choices=STORAGES, action="append")
    arguments = parser.parse_args()
    print(f"CPython {platform.python_version()}, {arguments.rounds} rounds; milliseconds, medians")
    print(f"{'storage':<13}{'operation':<28}{FEW:>10,}{arguments.rows:>12,}{'ratio':>8}")
    for name in arguments.storage or STORAGES:
        with tempfile.TemporaryDirectory() as folder:
            storage = SHARED[name](Path(folder))()
            with closing(storage):
                few = _with_rows(storage, 0, FEW, arguments.rounds)
                many = _with_rows(storage, FEW, arguments.rows, arguments.rounds)
                storage.forget_service(GROUP, SERVICE)
        for operation, cost in few.items():
            grown = many[operation] / cost
            mark = "  too slow" if grown > MOST_GROWTH else ""
            figures = f"{cost:>10.2f}{many[operation]:>12.2f}{grown:>8.1f}{mark}"
            print(f"{name:<13}{operation:<28}{figures}", flush=True)


def _with_rows(storage: Storage, first: int, last: int, rounds: int) -> dict[str, float]:
    """Fill the history up to so many rows, and time each operation."""
    if isinstance(storage, SqlStorage):
        _fill(storage, first, last)
    else:
        _append(storage, first, last)
    if not first:
        storage.heartbeat(GROUP, Beat("runner", "boot", 1, TIMEOUT))
        storage.offer(GROUP, Offer("runner", "boot", SERVICE, "{}", TIMEOUT))
        storage.swap(GROUP, SERVICE, Kind.GATE, None, Record("0", "{}"))
    newest = (last - 1) // 10 * STEP
    operations = _operations(storage, first, newest)
    for operation in operations.values():
        operation()  # a statement is prepared, and a server has settled down
    return {
        name: median(_timed(operation) for _ in range(rounds))
        for name, operation in operations.items()
    }


def _append(storage: Storage, first: int, last: int) -> None:
    """The rows that :func:`_fill` puts in, by the storage's own operation."""
    for start in range(first, last, len(SERVICES) * FEW):
        end = min(start + len(SERVICES) * FEW, last)
        for digit, service in enumerate(SERVICES):
            numbers = range(start + (digit - start) % 10, end, 10)
            storage.append(GROUP, service, [_entry(number) for number in numbers])


def _entry(number: int) -> Entry:
    place = number % 100
    kind = "completed" if place < 90 else "abandoned" if place < 99 else "command"
    return Entry(f"row {number}", number // 10 * STEP, kind, "x" * 300)


def _fill(storage: SqlStorage, first: int, last: int) -> None:
    kind = storage._address.kind
    given = {"first": first, "last": last, "body": "x" * 300, "integer": _INTEGER[kind]}
    text = f"INSERT INTO turnwise_history {_NUMBERS} {_ROWS.format(**given)}"
    with storage._work.taken() as line:
        raw = line.session().raw
        if kind == "mysql":  # or the driver gives the answer up
            raw._read_timeout = None
        cursor = raw.cursor()
        cursor.execute(text if kind != "sqlite" else _for_sqlite(text))
        for each in _SETTLE[kind]:
            cursor.execute(each)
        cursor.close()


def _for_sqlite(text: str) -> str:
    """Its older versions have no CONCAT."""
    return text.replace("CONCAT('service ', n % 10)", "'service ' || (n % 10)").replace(
        "CONCAT('row ', n)", "'row ' || n"
    )


def _operations(storage: Storage, first: int, newest: int) -> Mapping[str, Callable[[], object]]:
    numbers, versions = count(first + 2), [str(first)]
    beats = count(first + 2)

    def swap() -> None:
        kept = storage.read(GROUP, (SERVICE,)).services[SERVICE].gate
        assert kept is not None
        new = Record(f"{kept.version}-{len(versions)}"[-60:], "{}")
        versions.append(new.version)
        storage.swap(GROUP, SERVICE, Kind.GATE, kept.version, new)

    def append() -> None:
        number = next(numbers)
        storage.append(
            GROUP, SERVICE, [Entry(f"new {number}", newest + number, "completed", "x" * 300)]
        )

    def append_again() -> None:
        storage.append(GROUP, SERVICE, [Entry("row 0", 0, "completed", "")])

    oldest = count(1)

    def purge() -> None:
        storage.purge(GROUP, SERVICES[1], before=next(oldest) * 5 * STEP, keep=KEEP)

    def purge_but_commands() -> None:
        storage.purge(GROUP, SERVICES[2], before=0, keep=KEEP, spare=("command",))

    return {
        "heartbeat": lambda: storage.heartbeat(
            GROUP, Beat("runner", "boot", next(beats), TIMEOUT, ("run",))
        ),
        "read": lambda: storage.read(GROUP, SERVICES),
        "stable": lambda: storage.stable(GROUP, SERVICE, rotation=1, limit=3),
        "read and swap": swap,
        "offer": lambda: storage.offer(GROUP, Offer("runner", "boot", SERVICE, "{}", TIMEOUT)),
        "append": append,
        "append of what is there": append_again,
        "history, the newest": lambda: storage.history(GROUP, SERVICE, last=20),
        "history, the middle": lambda: storage.history(
            GROUP, SERVICE, since=newest // 2, until=newest // 2 + 20 * STEP
        ),
        "history, a rare kind": lambda: storage.history(
            GROUP, SERVICES[9], last=1, kinds=("command", "running")
        ),
        "history, a kind that is none": lambda: storage.history(
            GROUP, SERVICE, last=20, kinds=("running",)
        ),
        "purge of five rows": purge,
        "purge of nothing": purge_but_commands,
        "services": lambda: storage.services(GROUP),
        "groups": storage.groups,
        "runners and offers": lambda: (storage.runners(GROUP), storage.offers(GROUP)),
        "purge of runners": lambda: storage.purge_runners(GROUP, before=0),
    }


def _timed(operation: Callable[[], object]) -> float:
    start = time.perf_counter()
    operation()
    return (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    main()
