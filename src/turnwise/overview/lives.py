"""The lives of a group's runners, what they offer, and who of them counts."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property

from turnwise.errors import MissingExtraError
from turnwise.settings import Settings
from turnwise.storages import Offer, OfferRow, RunnerRow

Key = tuple[str, str]
"""A life: its runner's id, and the id of its boot."""


@dataclass(frozen=True, slots=True)
class Life:
    """One life of a runner: its row, and how it is at the group's ``now``."""

    row: RunnerRow
    now: int

    @property
    def silent(self) -> int:
        """How long it has not been heard of, in microseconds; never negative."""
        return max(0, self.now - self.row.heard_at)

    @property
    def has_left(self) -> bool:
        """Whether it said that it goes."""
        return self.row.left_at is not None

    def counts_for(self, heartbeat_timeout: int) -> bool:
        """Whether it is alive by a heartbeat timeout in microseconds."""
        return not self.has_left and self.silent <= heartbeat_timeout

    @property
    def is_alive(self) -> bool:
        """Whether it is alive by its own heartbeat timeout."""
        return self.counts_for(self.row.heartbeat_timeout)


@dataclass(frozen=True, slots=True)
class Offered:
    """That a life offers a service; ``life`` is None where its row is gone."""

    row: OfferRow
    life: Life | None

    @property
    def is_alive(self) -> bool:
        """Whether its runner counts for the service, but for being drained."""
        return self.life is not None and self.life.counts_for(self.row.offer.heartbeat_timeout)

    @property
    def settings(self) -> Settings | None:
        """The settings that it offers; None where this version cannot read them."""
        return settings_from(self.row.offer.settings)


class Lives:
    """Every life of a group.

    A large group has a thousand lives, and each of them offers a hundred services: what is asked of
    a life for each of its offers is worked out once.

    Args:
        rows: the lives, as they are kept.
        now: the group's now, in microseconds.
    """

    def __init__(self, rows: Iterable[RunnerRow], now: int) -> None:
        self._lives = {(row.runner_id, row.boot_id): Life(row, now) for row in rows}
        self._counting: dict[int, frozenset[Key]] = {}

    @cached_property
    def all(self) -> tuple[Life, ...]:
        """All of them, in the order of their rows."""
        return tuple(self._lives.values())

    def of(self, offer: Offer) -> Life | None:
        """The life that made an offer; None where its row is gone."""
        return self._lives.get((offer.runner_id, offer.boot_id))

    def living(self, rows: Sequence[OfferRow]) -> tuple[OfferRow, ...]:
        """The offers of the lives that count for them, but for being drained."""
        counting = self._count
        return tuple(
            row
            for row in rows
            if (row.offer.runner_id, row.offer.boot_id) in counting(row.offer.heartbeat_timeout)
        )

    @cached_property
    def drained(self) -> AbstractSet[str]:
        """The ids of the runners that are drained."""
        return {life.row.runner_id for life in self.all if life.row.drained}

    def _count(self, heartbeat_timeout: int) -> AbstractSet[Key]:
        """The lives that count by a heartbeat timeout."""
        found = self._counting.get(heartbeat_timeout)
        if found is None:
            found = frozenset(
                key for key, life in self._lives.items() if life.counts_for(heartbeat_timeout)
            )
            self._counting[heartbeat_timeout] = found
        return found


def settings_from(text: str) -> Settings | None:
    """Settings as they are kept; None where this installation cannot read them."""
    try:
        return Settings.from_json(text)
    except (ValueError, MissingExtraError):
        return None
