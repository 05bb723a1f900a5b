"""What a round costs with 10, 1,000 and 10,000 runners: bytes on the wire, and milliseconds.

    PYTHONPATH=tests python tests/benchmarks/wire.py [--runners 10 ...] [--storage postgresql ...]

The storage's clock is moved by hand, so that all runners count at once. The bytes go through a
proxy that counts them; SQLite has no wire. "first" is the cycle's first look, which writes down
who counts; "look" is each later one.
"""

import argparse
import platform
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import servers
from faults.proxy import Proxy
from storages import SHARED
from turnwise.backends import Participant
from turnwise.backends.redis import RedisBackend
from turnwise.backends.sql import SqlBackend
from turnwise.old_settings import Settings
from turnwise.testing import ManualClock

SERVICE = "benchmark"
SETTINGS = Settings()
JOINED = timedelta(seconds=30)
"""So long before the cycle all join: by more than the margin, within the heartbeat timeout."""
LOOKS = 200


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--runners", type=int, nargs="+", default=[10, 1_000, 10_000])
    parser.add_argument("--storage", choices=SHARED, action="append")
    arguments = parser.parse_args()
    servers.wait_for_the_disk()
    print(f"CPython {platform.python_version()}; median milliseconds, median bytes")
    print(f"{'storage':<12}{'runners':>8}{'first':>16}{'look':>16}{'heartbeat':>16}")
    for storage in arguments.storage or SHARED:
        for runners in arguments.runners:
            measure(storage, runners)


def measure(storage: str, runners: int) -> None:
    """One row of the table."""
    with TemporaryDirectory() as folder:
        url = SHARED[storage](Path(folder))
        proxy = None if url.startswith("sqlite") else Proxy(url)
        clock = ManualClock()
        kind = RedisBackend if storage == "redis" else SqlBackend
        backend = kind(proxy.url if proxy else url, clock=clock)
        everybody = [Participant(f"runner {n}", "boot") for n in range(runners)]
        backend.publish_settings(SERVICE, SETTINGS)
        clock.advance(SETTINGS.interval - JOINED)
        for who in everybody:
            backend.heartbeat(SERVICE, who, SETTINGS)
        heartbeats = cost(
            [partial(backend.heartbeat, SERVICE, who, SETTINGS) for who in everybody], proxy
        )
        clock.advance(JOINED)
        look = partial(backend.look, SERVICE, everybody[0], SETTINGS)
        first = cost([look], proxy)
        later = cost([look] * LOOKS, proxy)
        if (size := look().size) != runners:
            raise RuntimeError(f"{size} of {runners} runners count on {storage}")
        print(f"{storage:<12}{runners:>8}{first:>16}{later:>16}{heartbeats:>16}", flush=True)
        backend.close()
        if proxy:
            proxy.close()


def cost(operations: list[Callable[[], object]], proxy: Proxy | None) -> str:
    """The median time of the operations, and the median of their bytes."""
    times, sizes = [], []
    for operation in operations:
        passed = proxy.passed if proxy else 0
        start = time.perf_counter()
        operation()
        times.append((time.perf_counter() - start) * 1000)
        sizes.append(proxy.passed - passed if proxy else 0)
    said = f"{median(times):.2f} ms"
    return f"{said}, {median(sizes):,.0f}" if proxy else said


if __name__ == "__main__":
    main()
