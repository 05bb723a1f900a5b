"""The storages under test, each fresh, and with a clock that the test moves by hand.

A further storage joins by one more entry of ``STORAGES``, or of ``SHARED`` where several processes
can share it.
"""

from collections.abc import Callable
from pathlib import Path

from turnwise.conformance import Clock, Opener
from turnwise.storages import Storage
from turnwise.storages.memory import MemoryStorage

STORAGES: dict[str, Callable[[Clock, Path], Storage]] = {
    "memory": lambda clock, _: MemoryStorage(clock=clock),
}
"""How each storage is opened, empty, with a clock and a fresh folder."""

SHARED: dict[str, Callable[[Path], Opener]] = {}
"""What opens one empty storage in any process."""
