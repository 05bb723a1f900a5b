"""What a storage in memory keeps of one group: dicts, each keyed by what is looked up in it.

Every value in them never changes; an operation replaces it. So a copy of a group shares the values
and copies the dicts alone.
"""

from bisect import bisect_left, insort
from typing import NamedTuple

from turnwise.storages import Beat, Entry, Kind, Offer, OfferRow, Pulse, Record, RunnerRow, Sight

LifeKey = tuple[str, str]  # (runner_id, boot_id)
_NO_RUNS: frozenset[str] = frozenset()


class Life(NamedTuple):
    """One life of a runner, as it is kept; instants in microseconds."""

    joined_at: int
    heard_at: int
    left_at: int | None
    beat_count: int
    heartbeat_timeout: int
    runs: tuple[str, ...]


class GroupState(NamedTuple):
    """All that is kept of one group, hashable; the order of what came first plays no part."""

    group: str
    revision: int
    lives: frozenset[tuple[LifeKey, Life]]
    offers: frozenset[OfferRow]
    drained: frozenset[str]
    plans: frozenset[tuple[str, Record]]
    gates: frozenset[tuple[str, Record]]
    history: frozenset[tuple[str, Entry]]


class History:
    """The rows of one service: by id, and their keys in the order of ``(at, id)``."""

    __slots__ = ("keys", "rows")

    def __init__(self) -> None:
        self.rows: dict[str, Entry] = {}
        self.keys: list[tuple[int, str]] = []

    def copy(self) -> "History":
        """The same rows, in dicts of their own."""
        new = History()
        new.rows, new.keys = self.rows.copy(), self.keys.copy()
        return new

    def add(self, entry: Entry) -> None:
        """Keep a row, unless its id is there."""
        if entry.id not in self.rows:
            self.rows[entry.id] = entry
            insort(self.keys, (entry.at, entry.id))

    def position(self, at: int) -> int:
        """Where the first row at or after an instant stands."""
        return bisect_left(self.keys, (at,))

    def forget(self, before: int, keep: int, spare: frozenset[str]) -> None:
        """Forget what is too old or too much, but for the kinds to spare."""
        keys = [key for key in self.keys if self.rows[key[1]].kind not in spare]
        doomed = set(keys[: max(bisect_left(keys, (before,)), len(keys) - keep)])
        for _, entry_id in doomed:
            del self.rows[entry_id]
        self.keys = [key for key in self.keys if key not in doomed]


class Group:
    """All that is kept of one group.

    ``boots``, ``offered`` and ``open_runs`` say nothing new: they find the boot ids of a runner,
    the services that a life offers, and in how many gates a run is open.
    """

    __slots__ = (
        "boots",
        "drained",
        "history",
        "lives",
        "offered",
        "offers",
        "open_runs",
        "records",
        "revision",
    )

    def __init__(self) -> None:
        self.revision = 0
        self.lives: dict[LifeKey, Life] = {}
        self.boots: dict[str, tuple[str, ...]] = {}
        self.drained: frozenset[str] = frozenset()
        self.offers: dict[str, dict[LifeKey, OfferRow]] = {}
        self.offered: dict[LifeKey, tuple[str, ...]] = {}
        self.records: dict[Kind, dict[str, Record]] = {Kind.PLAN: {}, Kind.GATE: {}}
        self.open_runs: dict[str, int] = {}
        self.history: dict[str, History] = {}

    def copy(self) -> "Group":
        """The same values, in dicts of their own."""
        new = Group()
        new.revision, new.drained = self.revision, self.drained
        new.lives, new.boots = self.lives.copy(), self.boots.copy()
        new.offers = {service: rows.copy() for service, rows in self.offers.items()}
        new.offered, new.open_runs = self.offered.copy(), self.open_runs.copy()
        new.records = {kind: records.copy() for kind, records in self.records.items()}
        new.history = {service: kept.copy() for service, kept in self.history.items()}
        return new

    # Lives and offers -------------------------------------------------------------------------

    def beat(self, beat: Beat, now: int) -> bool:
        """Write a heartbeat; whether its row was there."""
        key = (beat.runner_id, beat.boot_id)
        life = self.lives.get(key)
        if life is None:
            boots = self.boots.get(beat.runner_id, ())
            joined = min(
                (self.lives[beat.runner_id, boot].joined_at for boot in boots), default=now
            )
            self.boots[beat.runner_id] = (*boots, beat.boot_id)
        elif life.left_at is not None or beat.count <= life.beat_count:
            return True
        else:
            joined = life.joined_at
        self.lives[key] = Life(joined, now, None, beat.count, beat.heartbeat_timeout, beat.runs)
        return life is not None

    def pulse(self, beat: Beat, now: int, *, found: bool) -> Pulse:
        """What is read after a heartbeat."""
        runner_id, boot_id = key = (beat.runner_id, beat.boot_id)
        sights = {}
        if self.open_runs:
            for service in self.offered.get(key, ()):
                sight = self.sight(service)
                if sight is not None:
                    sights[service] = sight
        runs = beat.runs
        return Pulse(
            now,
            self.revision,
            found,
            self.lives[key].left_at is not None,
            runner_id in self.drained,
            frozenset(filter(self.open_runs.__contains__, runs)) if runs else _NO_RUNS,
            sights,
            self._others(runner_id, boot_id) if len(self.boots[runner_id]) > 1 else (),
        )

    def _others(self, runner_id: str, boot_id: str) -> tuple[tuple[str, int], ...]:
        """Every other life of a runner id that has not left."""
        lives = {boot: self.lives[runner_id, boot] for boot in sorted(self.boots[runner_id])}
        return tuple(
            (boot, life.beat_count)
            for boot, life in lives.items()
            if boot != boot_id and life.left_at is None
        )

    def sight(self, service: str) -> Sight | None:
        """The open run of a service, and what its owner last said of it."""
        gate = self.records[Kind.GATE].get(service)
        if gate is None or (owner := gate.owner) is None:
            return None
        life = self.lives.get((owner.runner_id, owner.boot_id))
        if life is None:
            return Sight(owner, None, left=False)
        word = life.beat_count if owner.run_id in life.runs else 0
        return Sight(owner, word, left=life.left_at is not None)

    def stable(self, service: str, now: int) -> list[tuple[int, str]]:
        """Who counts for a service, in order: ``(joined_at, runner_id)``."""
        joined = {
            runner_id: min(self.lives[runner_id, boot].joined_at for boot in self.boots[runner_id])
            for (runner_id, boot_id), row in self.offers.get(service, {}).items()
            if row.offer.may_run
            and runner_id not in self.drained
            and (life := self.lives.get((runner_id, boot_id))) is not None
            and life.left_at is None
            and 0 <= now - life.heard_at <= row.offer.heartbeat_timeout
        }
        return sorted((at, runner_id) for runner_id, at in joined.items())

    def offer(self, offer: Offer, now: int) -> None:
        """Keep an offer; advance the revision where no other life has offered these settings."""
        key = (offer.runner_id, offer.boot_id)
        rows = self.offers.setdefault(offer.service, {})
        before = rows.get(key)
        if all(row.offer.settings != offer.settings for k, row in rows.items() if k != key):
            self.revision += 1
        if before is None:
            self.offered[key] = (*self.offered.get(key, ()), offer.service)
        if before is None or before.offer != offer:
            rows[key] = OfferRow(offer, now)

    def withdraw(self, key: LifeKey, service: str) -> None:
        """Forget an offer, if it is there."""
        rows = self.offers.get(service, {})
        if rows.pop(key, None) is None:
            return
        if not rows:
            del self.offers[service]
        self.offered[key] = tuple(name for name in self.offered[key] if name != service)
        if not self.offered[key]:
            del self.offered[key]

    def forget_life(self, key: LifeKey) -> None:
        """Forget a life, if it is there, and all that it offers."""
        runner_id, boot_id = key
        if self.lives.pop(key, None) is not None:
            rest = tuple(boot for boot in self.boots.pop(runner_id) if boot != boot_id)
            if rest:
                self.boots[runner_id] = rest
        for service in self.offered.get(key, ()):
            self.withdraw(key, service)

    def rows(self) -> list[RunnerRow]:
        """Every life, the first to join first."""
        rows = [
            RunnerRow(
                runner_id=runner_id,
                boot_id=boot_id,
                joined_at=life.joined_at,
                heard_at=life.heard_at,
                left_at=life.left_at,
                count=life.beat_count,
                heartbeat_timeout=life.heartbeat_timeout,
                runs=life.runs,
                drained=runner_id in self.drained,
            )
            for (runner_id, boot_id), life in self.lives.items()
        ]
        return sorted(rows, key=lambda row: (row.joined_at, row.runner_id, row.boot_id))

    # Records ----------------------------------------------------------------------------------

    def put(self, service: str, kind: Kind, new: Record | None) -> None:
        """Put a record in the place of the one that is there; None forgets it."""
        records = self.records[kind]
        if kind is Kind.GATE:
            self._count_run(records.get(service), -1)
            self._count_run(new, 1)
        if new is None:
            records.pop(service, None)
        else:
            records[service] = new

    def _count_run(self, gate: Record | None, change: int) -> None:
        if gate is None or gate.owner is None:
            return
        run_id = gate.owner.run_id
        self.open_runs[run_id] = self.open_runs.get(run_id, 0) + change
        if not self.open_runs[run_id]:
            del self.open_runs[run_id]

    # For tests --------------------------------------------------------------------------------

    def check(self) -> None:
        """Assert that what finds rows agrees with the rows."""
        assert all(self.boots.values())
        assert sorted(self.lives) == sorted((r, b) for r in self.boots for b in self.boots[r])
        pairs = sorted((key, service) for service in self.offers for key in self.offers[service])
        assert pairs == sorted(
            (k, service) for k, names in self.offered.items() for service in names
        )
        assert all(self.offers.values())
        assert all(self.offered.values())
        owners = [gate.owner for gate in self.records[Kind.GATE].values() if gate.owner]
        runs = sorted(owner.run_id for owner in owners)
        assert runs == sorted(run for run, number in self.open_runs.items() for _ in range(number))
        for kept in self.history.values():
            assert kept.keys == sorted((entry.at, entry.id) for entry in kept.rows.values())
            assert kept.keys

    def state(self, name: str) -> GroupState:
        """All that is kept, as one hashable value."""
        return GroupState(
            group=name,
            revision=self.revision,
            lives=frozenset(self.lives.items()),
            offers=frozenset(row for rows in self.offers.values() for row in rows.values()),
            drained=self.drained,
            plans=frozenset(self.records[Kind.PLAN].items()),
            gates=frozenset(self.records[Kind.GATE].items()),
            history=frozenset(
                (service, entry)
                for service, kept in self.history.items()
                for entry in kept.rows.values()
            ),
        )
