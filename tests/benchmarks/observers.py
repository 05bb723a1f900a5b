"""What observers cost a turn: ``python tests/benchmarks/observers.py [--json]``.

A turn's events (a look, its start, its end, and the seven requests to the storage that it takes)
are told to each observer, thousands of times, in turn, and the median of the rounds is printed.
The *empty* observer does nothing: the price of a call. Beside it stands a turn itself on the
storage in memory, from the look that leads to an admission to the row in the history, which has no
network and no disk: everywhere else a turn takes longer.
"""

import argparse
import contextvars
import json
import logging
import platform
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).parents[1])]

from opentelemetry.sdk.metrics import MeterProvider  # noqa: E402
from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402

from turnwise import events  # noqa: E402
from turnwise import gate as gates  # noqa: E402
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status  # noqa: E402
from turnwise.events import Event, Observer  # noqa: E402
from turnwise.gate import Ask, Gate  # noqa: E402
from turnwise.machine import owner_of  # noqa: E402
from turnwise.observers.log import log_event  # noqa: E402
from turnwise.observers.otel import OpenTelemetry  # noqa: E402
from turnwise.observers.ping import Ping  # noqa: E402
from turnwise.storages import Entry, Kind, Record  # noqa: E402
from turnwise.storages.memory import MemoryStorage  # noqa: E402
from turnwise.texts import gate_from_text, gate_to_text, row_to_text  # noqa: E402

GROUP, SERVICE = "benchmark", "service"
DUE = 1_767_225_600_000_000
REQUESTS = ("read", "stable", "swap", "read", "swap", "swap", "append")


def turn_events() -> list[Event]:
    """The events of one turn that ends well."""
    process = {"group": GROUP, "runner_id": "runner"}
    service = process | {"service": SERVICE}
    turn = {**service, "run_id": "run", "token": 7, "due": DUE}
    asked = [
        events.StorageAsked(**process, operation=each, took=900, error=None) for each in REQUESTS
    ]
    return [
        *asked,
        events.Looked(**service, now=DUE, success=DUE - 1),
        events.TurnStarted(**turn, attempt=1, started_at=DUE + 1),  # type: ignore[arg-type]
        events.TurnEnded(
            **turn,  # type: ignore[arg-type]
            status=Status.COMPLETED,
            reason="",
            attempt=1,
            took=1_000,
            recorded=True,
        ),
    ]


def telling(observer: Observer) -> Callable[[], None]:
    """Tell an observer the events of one turn, each start in a context of its own."""
    told = turn_events()
    context = contextvars.copy_context()

    def tell() -> None:
        for event in told:
            context.copy().run(observer, event)

    return tell


def nothing(event: Event) -> None:
    """Hear it."""
    del event


def a_turn() -> Callable[[], None]:
    """What a turn asks of the storage in memory, with the texts and the rules."""
    storage, numbers = MemoryStorage(), count()
    gate = gates.new_gate(DUE)
    version = "v"
    storage.swap(GROUP, SERVICE, Kind.GATE, None, Record(version, gate_to_text(gate)))
    from records import run_of  # noqa: PLC0415 (of the tests)

    def turn() -> None:
        nonlocal version
        number = next(numbers)
        kept = storage.read(GROUP, (SERVICE,)).services[SERVICE].gate
        assert kept is not None
        gate = gate_from_text(kept.body)
        gate = gates.without(gate, frozenset(row.id for row in gate.unsaid))  # they are kept
        now = DUE + number * 300_000_000 + 300_000_000
        asked = gates.admit(gate, Ask(run_of(now, f"run-{number}"), 3, now), now=now)
        assert isinstance(asked, Gate)
        new = Record(f"a{number}", gate_to_text(asked), owner_of(asked))
        assert storage.swap(GROUP, SERVICE, Kind.GATE, version, new).done
        ended = gates.finish(asked, f"run-{number}", now=now + 1, status=Status.COMPLETED)
        assert isinstance(ended, Gate)
        version = f"e{number}"
        record = Record(version, gate_to_text(ended))
        assert storage.swap(GROUP, SERVICE, Kind.GATE, f"a{number}", record).done
        rows = [Entry(row.id, row.at, row.kind, row_to_text(row)) for row in ended.unsaid[-1:]]
        storage.append(GROUP, SERVICE, rows)

    return turn


def with_sdk() -> OpenTelemetry:
    """An observer whose instruments have an SDK behind them, and nobody who exports spans."""
    return OpenTelemetry(
        meter_provider=MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False),
        tracer_provider=TracerProvider(shutdown_on_exit=False),
    )


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--turns", type=int, default=200, help="of each kind in a round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.getLogger("turnwise").addHandler(logging.NullHandler())
    logging.getLogger("turnwise").setLevel(logging.INFO)
    logging.getLogger("turnwise").propagate = False
    measured: dict[str, Callable[[], None]] = {
        "a turn in memory, beside": a_turn(),
        "empty": telling(nothing),
        "log, to nobody": telling(log_event),
        "otel, without an SDK": telling(OpenTelemetry()),
        "otel, with the SDK": telling(with_sdk()),
        "ping, of another service": telling(Ping({"other": "http://127.0.0.1:9/"})),
    }
    taken: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(options.rounds):
        for name, call in measured.items():
            began = time.perf_counter()
            for _ in range(options.turns):
                call()
            taken[name].append((time.perf_counter() - began) / options.turns)
    medians = {name: 1e6 * median(times) for name, times in taken.items()}
    if options.json:
        print(json.dumps(medians))
        return
    print(f"CPython {platform.python_version()}; microseconds a turn, medians")
    for name, microseconds in medians.items():
        print(f"{name:<26}{microseconds:>8.1f}")


if __name__ == "__main__":
    main()
