"""Values spelled out of bytes, so that small changes of the bytes are small changes of a value."""

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

_T = TypeVar("_T")
_EDGES = (0.0, -0.0, float("nan"), float("inf"), float("-inf"), 5e-324, 1.7976931348623157e308, 1.0)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
_SHORTEST_US, _LONGEST_US = timedelta.min // MICROSECOND, timedelta.max // MICROSECOND


class Spelling:
    """Reads one value after the other; where the bytes have ended, all is nought."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def raw(self, size: int) -> bytes:
        """So many bytes."""
        self._at += size
        return self._data[self._at - size : self._at].ljust(size, b"\0")

    def rest(self) -> bytes:
        """All that is left."""
        return self.raw(max(0, len(self._data) - self._at))

    def below(self, limit: int) -> int:
        """A whole number from 0, for a ``limit`` of 256 at most."""
        return self.raw(1)[0] % limit

    def one_of(self, values: Sequence[_T]) -> _T:
        """One of these."""
        return values[self.below(len(values))]

    def whole(self) -> int:
        """A whole number, of one byte to ten, with its sign."""
        return int.from_bytes(self.raw(1 + self.below(10)), signed=True)

    def real(self) -> float:
        """A float: any, one at an edge, or one such as people write."""
        match self.below(4):
            case 0:
                value: float = struct.unpack("<d", self.raw(8))[0]
                return value
            case 1:
                return self.one_of(_EDGES)
            case 2:
                return self.whole() / 1_000_000
            case _:
                return float(self.whole())

    def duration(self) -> timedelta:
        """Any duration."""
        return max(_SHORTEST_US, min(self.whole(), _LONGEST_US)) * MICROSECOND

    def instant(self) -> datetime:
        """Any aware instant, to the millisecond, or one at either end of the calendar."""
        milliseconds = timedelta(milliseconds=1) * self.raw(1)[0]
        match self.below(8):
            case 0:
                return datetime.min.replace(tzinfo=UTC) + milliseconds
            case 1:
                return datetime.max.replace(tzinfo=UTC) - milliseconds
            case _:
                since = _EPOCH - timedelta(days=700_000)
                return since + int.from_bytes(self.raw(6)) % 2**47 * timedelta(milliseconds=1)

    def scribble(self, alphabet: str) -> str:
        """A text of 15 characters at most, from an alphabet."""
        return "".join(self.one_of(alphabet) for _ in range(self.below(16)))

    def text(self) -> str:
        """A text of 31 bytes at most; what is no UTF-8 is half a character."""
        return self.raw(self.below(32)).decode("utf-8", "surrogateescape")
