"""Schedulers with real threads, on a storage in memory whose next due instant is near."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from turnwise.errors import StorageError
from turnwise.events import Event
from turnwise.gate import Execution, new_gate, open_row
from turnwise.storages import Kind, Record, Storage, Swapped
from turnwise.storages.memory import MemoryStorage
from turnwise.texts import gate_from_text, gate_to_text, row_from_text

PATIENCE_SECONDS = 60.0
MINUTE = 60_000_000
FULL_MINUTE = 30_000_000 * MINUTE

_T = TypeVar("_T")
_E = TypeVar("_E", bound=Event)


def eventually(
    condition: Callable[[], _T | None], what: str, seconds: float = PATIENCE_SECONDS
) -> _T:
    """The first truthy answer of ``condition``; fails when there is none in time."""
    give_up = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < give_up, f"not within {seconds} s: {what}"
        time.sleep(0.005)
    return answer


class Heard:
    """An observer that keeps what it hears, and lets a test wait for it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def of(self, kind: type[_E]) -> list[_E]:
        """All events of a kind, so far."""
        return [event for event in list(self.events) if isinstance(event, kind)]

    def wait_for(self, kind: type[_E], *, count: int = 1) -> list[_E]:
        """Wait until so many events of a kind were heard."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.of(kind)) >= count, PATIENCE_SECONDS)
        assert came, f"{count} of {kind.__name__} were not heard, at last {self.events[-20:]}"
        return self.of(kind)


class Clock:
    """A storage's clock, which goes on as time does, and can be moved.

    Args:
        into: where in its minute it begins, in microseconds.
    """

    def __init__(self, into: int = 1_000_000) -> None:
        self._offset = FULL_MINUTE + into - time.monotonic_ns() // 1000

    def __call__(self) -> int:
        return time.monotonic_ns() // 1000 + self._offset

    def move(self, by: int) -> None:
        """Move it, by microseconds."""
        self._offset += by


class DueNow(MemoryStorage):
    """A storage in which the period of this minute is still to be served, whatever the service.

    So a turn at what is due every minute can start at once, and for half a minute from then on.
    """

    def swap(
        self,
        group: str,
        service: str,
        kind: Kind,
        expected: str | None,
        new: Record,
        not_after: int | None = None,
    ) -> Swapped:
        """Replace a record; a new gate is one that was made a minute ago."""
        if kind is Kind.GATE and expected is None:
            new = replace(new, body=gate_to_text(new_gate(FULL_MINUTE - 1)))
        return super().swap(group, service, kind, expected, new, not_after)


class Shaky:
    """A storage that can be away, hang, or fail as no storage may."""

    def __init__(self, storage: Storage) -> None:
        self.calls: list[str] = []
        self.arguments: list[tuple[object, ...]] = []
        self.failing: dict[str, Exception] = {}
        self.hangs: threading.Event | None = None
        self._storage = storage

    def away(self, *names: str) -> None:
        """These operations, or all, fail from now on."""
        for name in names or _OPERATIONS:
            self.failing[name] = StorageError(f"no connection for {name}")

    def back(self) -> None:
        """All operations answer again."""
        self.failing = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call: Callable[..., Any] = getattr(self._storage, name)

        def reached(*args: object, **kwargs: object) -> object:
            self.calls.append(name)
            self.arguments.append(args)
            hangs = self.hangs
            if hangs is not None and name in _OPERATIONS:
                hangs.wait(PATIENCE_SECONDS)
            error = self.failing.get(name)
            if error is not None:
                raise error
            return call(*args, **kwargs)

        return reached


_OPERATIONS = (
    "heartbeat",
    "leave",
    "offer",
    "stable",
    "read",
    "swap",
    "advance",
    "append",
    "purge",
)


def due(clock: Clock | None = None) -> MemoryStorage:
    """A storage in which whatever is due every minute is due now."""
    return DueNow(clock=clock or Clock())


def due_later() -> MemoryStorage:
    """A storage in which whatever is due every minute is due in half a minute."""
    return MemoryStorage(clock=Clock(30_000_000))


def runs_of(storage: Storage, service: str, group: str = "default") -> list[Execution]:
    """The runs of a service, with the one that is open, in the order of their start."""
    rows = [row_from_text(each.body) for each in storage.history(group, service)]
    kept = storage.read(group, (service,)).services[service].gate
    if kept is not None:
        gate = gate_from_text(kept.body)
        rows += gate.unsaid
        rows += [] if gate.open is None else [open_row(gate.open)]
    runs = {row.id: row for row in rows if isinstance(row, Execution) and row.token}
    return sorted(runs.values(), key=lambda run: run.token or 0)


def ends_of(storage: Storage, service: str) -> list[tuple[str, str]]:
    """How the runs of a service ended: status and reason."""
    return [(run.status.value, run.reason) for run in runs_of(storage, service)]
