"""What a storage says of a group, put together as the looking commands and the page need it.

One reading serves all of them, so that ``status``, ``check``, ``explain`` and the page do not
differ in what is alive, which settings hold, or who is next.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from turnwise import gate as gates
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import MINUTE, Slot, instant, microseconds
from turnwise.gate import Command, CommandName, Execution, Gate, Row, Run, open_row
from turnwise.looks import period_is_over
from turnwise.overview.lives import Life, Lives, Offered, settings_from
from turnwise.plan import CyclePlan, Plan, Planner, covering, settings_digest
from turnwise.settings import Settings
from turnwise.storages import Entry, OfferRow, Reading, RunnerRow, ServiceReading, Sight, Storage
from turnwise.texts import gate_from_text, plan_from_text, row_from_text

_SETTINGS_ROWS = 20
_GONE_AFTER = 10 * MINUTE
"""A runner that was silent for so long does not come back: it is counted, and not listed."""


@dataclass(frozen=True, slots=True)
class NextSlot:
    """Whose turn comes next: a slot of a plan, and the period that it is for."""

    runner_id: str
    slot: Slot
    cycle: CyclePlan


@dataclass(frozen=True)
class Known:
    """What is known of one service. Instants are microseconds on the storage's clock.

    ``rows`` are the offers of the service, and ``lives`` the lives of the whole group.
    ``unreadable`` says what could not be read, where another version of turnwise wrote it.
    ``settings`` are those that hold: by which the last plan was made.
    """

    group: str
    name: str
    now: int
    plan: Plan | None
    gate: Gate | None
    sight: Sight | None
    rows: tuple[OfferRow, ...]
    lives: Lives
    settings: Settings | None
    unreadable: str | None = None

    @cached_property
    def planner(self) -> Planner | None:
        """The planner of the settings that hold."""
        return None if self.settings is None else Planner.of(self.name, self.settings)

    @cached_property
    def offers(self) -> tuple[Offered, ...]:
        """The offers of the service, each with its life."""
        return tuple(Offered(row, self.lives.of(row.offer)) for row in self.rows)

    @cached_property
    def living(self) -> tuple[OfferRow, ...]:
        """The offers of lives that count for the service."""
        return self.lives.living(self.rows)

    @cached_property
    def alive(self) -> list[str]:
        """The ids of the runners that offer the service and are alive, sorted."""
        return sorted({row.offer.runner_id for row in self.living})

    @cached_property
    def may_serve(self) -> list[str]:
        """Those of them that may have a slot: not drained, and not there to watch alone."""
        may_run = {row.offer.runner_id for row in self.living if row.offer.may_run}
        return sorted(may_run - self.lives.drained)

    @property
    def open(self) -> Run | None:
        """The run that is open."""
        return None if self.gate is None else self.gate.open

    @property
    def is_paused(self) -> bool:
        """Whether the service is paused."""
        return self.gate is not None and gates.is_paused(self.gate, self.now)

    @property
    def next_due(self) -> int | None:
        """The next instant at which it is due."""
        if self.planner is None:
            return None
        return microseconds(self.planner.schedule.period_at(instant(self.now)).until)

    @property
    def last_due(self) -> int | None:
        """The due instant of the period that contains now."""
        if self.planner is None:
            return None
        return microseconds(self.planner.schedule.period_at(instant(self.now)).due)

    @property
    def is_over(self) -> bool:
        """Whether no run for the period that contains now is to be started any more."""
        planner, gate = self.planner, self.gate
        if planner is None or gate is None:
            return False
        due, until = self.last_due, self.next_due
        assert due is not None  # noqa: S101 (there is a planner)
        assert until is not None  # noqa: S101
        within = planner.rules.start_within
        if within is not None and self.now > due + within:
            return True
        return period_is_over(gate, due, until, now=self.now, attempts=planner.rules.attempts)

    @property
    def is_overdue(self) -> bool:
        """Whether the open run has taken longer than the service's timeout."""
        if self.open is None or self.settings is None or self.settings.timeout is None:
            return False
        return self.now - self.open.started_at > microseconds(self.settings.timeout)

    @property
    def cycle(self) -> CyclePlan | None:
        """The planned cycle that contains now."""
        return covering(self.plan, self.now)

    def owner(self) -> Offered | None:
        """The offer of whoever owns the open run."""
        run = self.open
        if run is None:
            return None
        for row in self.rows:
            if row.offer.runner_id == run.runner_id and row.offer.boot_id == run.boot_id:
                return Offered(row, self.lives.of(row.offer))
        return None

    def next_slot(self) -> NextSlot | None:
        """The next slot of the plan in which somebody may start; None where none is planned."""
        for cycle in () if self.plan is None else self.plan.cycles:
            for position, (runner_id, _) in enumerate(cycle.runners):
                slot = cycle.slot(position)
                runs_here = self.open is not None and self.open.slot_start == slot.start
                served = self.gate is not None and self._is_served(cycle, slot)
                if self.now > slot.latest or runs_here or served:
                    continue
                return NextSlot(runner_id, slot, cycle)
        return None

    def _is_served(self, cycle: CyclePlan, slot: Slot) -> bool:
        assert self.gate is not None  # noqa: S101 (as the caller has seen)
        ahead = gates.horizon(cycle.due, cycle.until)
        key, attempts = cycle.key(slot), cycle.rules.attempts
        return gates.is_over(self.gate, key, now=self.now, ahead=ahead, attempts=attempts)

    def differing(self) -> list[tuple[str, tuple[str, ...]]]:
        """Live runners that offer other settings: each id, and how those differ."""
        if self.settings is None:
            return []
        found, mine = {}, self.settings.to_json()
        for row in self.living:
            if row.offer.settings != mine:
                theirs = settings_from(row.offer.settings)
                found[row.offer.runner_id] = (
                    ("written by another version",)
                    if theirs is None
                    else theirs.differences(self.settings)
                )
        return sorted(found.items())


@dataclass(frozen=True, slots=True)
class GroupKnown:
    """What is known of a group."""

    group: str
    now: int
    lives: tuple[Life, ...]
    services: tuple[Known, ...]


def read_group(
    storage: Storage,
    group: str,
    services: Sequence[str] | None = None,
    *,
    offers_of: Callable[[Reading, Sequence[RunnerRow]], Sequence[OfferRow]] | None = None,
) -> GroupKnown:
    """Read all that the looking commands need, in a few requests.

    Args:
        storage: the storage.
        group: the group's name.
        services: which services; None for all that there are.
        offers_of: answers the group's offers, when it is told what else was read, for who has
            them already; None for the storage's.
    """
    names = storage.services(group) if services is None else services
    reading = storage.read(group, names)
    runners = storage.runners(group)
    lives = Lives(runners, reading.now)
    rows: dict[str, list[OfferRow]] = {name: [] for name in names}
    for row in storage.offers(group) if offers_of is None else offers_of(reading, runners):
        if row.offer.service in rows:
            rows[row.offer.service].append(row)
    known = [
        _known(storage, group, name, reading.now, reading.services.get(name), rows[name], lives)
        for name in names
    ]
    return GroupKnown(group, reading.now, lives.all, tuple(known))


def _known(
    storage: Storage,
    group: str,
    name: str,
    now: int,
    kept: ServiceReading | None,
    rows: list[OfferRow],
    lives: Lives,
) -> Known:
    kept = kept or ServiceReading()
    plan, gate, unreadable = None, None, None
    try:
        plan = None if kept.plan is None else plan_from_text(kept.plan.body)
        gate = None if kept.gate is None else gate_from_text(kept.gate.body)
    except ValueError as error:
        unreadable = str(error)
    settings = _settings_that_hold(storage, group, name, plan, rows, lives)
    sight, of_it = kept.sight, tuple(rows)
    return Known(group, name, now, plan, gate, sight, of_it, lives, settings, unreadable)


def _settings_that_hold(
    storage: Storage,
    group: str,
    name: str,
    plan: Plan | None,
    rows: list[OfferRow],
    lives: Lives,
) -> Settings | None:
    """The settings that the last plan was made by, or else those that most live runners offer."""
    texts = list(dict.fromkeys(row.offer.settings for row in rows))
    if plan is None:
        candidates = _most_offered(lives.living(rows)) or texts
    else:
        digest = plan.cycles[-1].settings
        candidates = [text for text in texts if settings_digest(text) == digest]
        if not candidates:
            told = settings_told(storage, group, name)
            candidates = [text for text in told if settings_digest(text) == digest]
            candidates += _most_offered(lives.living(rows)) or texts
    return next((read for text in candidates if (read := settings_from(text))), None)


def _most_offered(living: Sequence[OfferRow]) -> list[str]:
    """What live runners offer: first what most of them do."""
    counts = Counter(row.offer.settings for row in living)
    return [text for text, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))]


def settings_told(storage: Storage, group: str, name: str) -> list[str]:
    """The texts of the settings that the history says held, the newest first."""
    rows = [
        row_of(entry)
        for entry in storage.history(group, name, last=_SETTINGS_ROWS, kinds=("command",))
    ]
    return [
        row.settings
        for row in reversed(rows)
        if isinstance(row, Command) and row.name is CommandName.SETTINGS and row.settings
    ]


def row_of(entry: Entry) -> Row | None:
    """A row of the history; None where another version of turnwise wrote it."""
    try:
        return row_from_text(entry.body)
    except ValueError:
        return None


def rows_of(
    storage: Storage,
    known: Known,
    *,
    since: int | None = None,
    until: int | None = None,
    last: int | None = None,
    kinds: Sequence[str] | None = None,
) -> list[Row]:
    """Rows of a service's history with what only its gate knows yet: the open run, and the unsaid.

    Args:
        storage: the storage.
        known: the service.
        since: the first instant that counts; None for all.
        until: the first instant that does not count any more; None for all.
        last: so many of the newest; None for all.
        kinds: statuses, and ``command``; None for all.
    """
    kept = storage.history(
        known.group, known.name, since=since, until=until, last=last, kinds=kinds
    )
    rows = {row.id: row for entry in kept if (row := row_of(entry)) is not None}
    for row in _only_in_gate(known.gate):
        wanted = kinds is None or row.kind in kinds
        if wanted and (since is None or since <= row.at) and (until is None or row.at < until):
            rows.setdefault(row.id, row)
    in_order = sorted(rows.values(), key=lambda row: (row.at, row.id))
    return in_order if last is None else in_order[max(0, len(in_order) - last) :]


def runs_of(storage: Storage, group: str, service: str) -> list[Execution]:
    """The runs of a service that were admitted, in the order of their tokens."""
    known = read_group(storage, group, (service,)).services[0]
    rows = rows_of(storage, known)
    runs = [row for row in rows if isinstance(row, Execution) and row.token is not None]
    return sorted(runs, key=lambda run: run.token or 0)


def _only_in_gate(gate: Gate | None) -> list[Row]:
    if gate is None:
        return []
    return [*gate.unsaid, *([] if gate.open is None else [open_row(gate.open)])]


def is_run(row: Row) -> bool:
    """Whether a row is of a run that was admitted."""
    return isinstance(row, Execution) and row.status is not Status.BLOCKED


def is_gone(life: Life, alive_ids: set[str]) -> bool:
    """Whether a life is nobody's concern any more: it left, or was silent long, or has a heir."""
    replaced = not life.is_alive and life.row.runner_id in alive_ids
    return life.has_left or replaced or (not life.is_alive and life.silent > _GONE_AFTER)


def works(known: GroupKnown) -> Mapping[tuple[str, str], list[str]]:
    """The services that each life works on."""
    found: dict[tuple[str, str], list[str]] = {}
    for each in known.services:
        if each.open is not None:
            found.setdefault((each.open.runner_id, each.open.boot_id), []).append(each.name)
    return found
