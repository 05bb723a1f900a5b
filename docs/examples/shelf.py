"""Stands for a server of yours: values by key, each with a version, and a clock."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Any, Generic, TypeVar

V = TypeVar("V")


def of(kept: dict[tuple[str, ...], Any], *begins: str) -> list[Any]:
    """What stands in a dict under the keys that begin so."""
    return [value for key, value in kept.items() if key[: len(begins)] == begins]


class Shelf(Generic[V]):
    """Keeps values that nobody changes; whoever wants to change one puts another one."""

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        self.now = clock or (lambda: time.time_ns() // 1000)
        self._values: dict[str, tuple[int, V]] = {}
        self._lock = Lock()

    def keys(self) -> list[str]:
        """The keys of all values."""
        return list(self._values)

    def get(self, key: str) -> tuple[int, V | None]:
        """The version of a value, and the value; version 0 is none."""
        return self._values.get(key, (0, None))

    def put(self, key: str, version: int, new: V, not_after: int | None = None) -> tuple[int, bool]:
        """Put a value where the version is still that one and now is not too late; one step."""
        with self._lock:
            now = self.now()
            done = self.get(key)[0] == version and (not_after is None or now <= not_after)
            if done:
                self._values[key] = (version + 1, new)
            return now, done
