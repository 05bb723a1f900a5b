"""A verdict for each period that was due: served, missed and why, paused, open, or unknown.

A pure function of a service's history. Nothing here reads a clock or a storage.

Rules
-----
1. **Each due instant has exactly one verdict.** The schedule that held at an instant says whether
   it was due. :class:`~turnwise.gate.Command` rows named SETTINGS say from when on plans were made
   by which settings. A deploy changes the settings before the first such plan, and says so by a row
   named OFFERED: if that row follows the last run by the old settings, the new settings hold from
   then on.
2. **What is not known is not missed.** Nobody knows what was due before the first SETTINGS row.
   Nor does anybody know it between the last run by some settings and the first plan by others, if
   that was long ago. And retention may have forgotten the rows that would show a run. A period from
   such a time is UNKNOWN, unless the rows that are left show that it was served.
3. **A period is served** if a run for its due instant completed. A triggered run serves no period.
   A period that was served twice is an error, whatever the reason: there was a run too many. Where
   each runner runs in its own slot, a *slot* that was served twice is that error.
4. **OPEN** is a period at which a run works now, or may still start.
5. **PAUSED** is a period that nobody served because pauses left too little time for it. Either they
   left no stretch that surely had the whole window of some slot; or the service was paused at the
   due instant, and was not free for as long as a cycle until the period's end. By the first of
   these measures a run of another period is in the way, too; or if it had somebody refused.
6. Everything else is **MISSED**, for one cause, the first of these that applies: all its attempts
   failed; other settings took its place; another period's run was in the way; nobody was there;
   nobody could start within the time.

What the causes rest on
-----------------------
Failed attempts and runs in the way are rows of the history. That nobody was there rests on the
runners that the storage still knows: :class:`Presence` says from when to when somebody offered the
service. Without such rows the cause is *nobody could start within the time*. The rows also tell
when a deploy that took a while was over.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import instant, microseconds
from turnwise.gate import NO_ATTEMPT, Command, CommandName, Execution, Gate, Row, open_row
from turnwise.plan import Planner
from turnwise.settings import Settings
from turnwise.spans import Span, Spans, longest_free


class Verdict(StrEnum):
    """What became of a period."""

    SERVED = "served"
    MISSED = "missed"
    PAUSED = "paused"
    OPEN = "open"
    UNKNOWN = "unknown"


class Cause(StrEnum):
    """Why a period was missed."""

    ATTEMPTS = "all_attempts_failed"
    CHANGED = "settings_changed"
    IN_THE_WAY = "another_run_in_the_way"
    NOBODY = "nobody_was_there"
    NOT_IN_TIME = "nobody_could_start_in_time"


IN_WORDS: Mapping[Cause, str] = {
    Cause.ATTEMPTS: "all attempts failed",
    Cause.CHANGED: "other settings took its place",
    Cause.IN_THE_WAY: "another period's run was in the way",
    Cause.NOBODY: "nobody was there",
    Cause.NOT_IN_TIME: "nobody could start within the time",
}
"""Each cause, as a sentence says it."""


@dataclass(frozen=True, slots=True)
class Presence:
    """That somebody offered the service from ``since`` until ``until``, in microseconds.

    ``settings`` is the text of the settings that it offered; None where that is not known.
    """

    since: int
    until: int
    settings: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """One period, and what became of it. Instants are microseconds on the storage's clock.

    ``until`` is the next due instant. ``runs`` are those that completed for it, in the order of
    their starts; ``attempts`` counts all that were attempts: those, those that failed, and one that
    is open. ``times`` is how often it was served: more than once is an error. ``cause`` is there
    where it was missed, and ``reason`` is what its last failed attempt said.
    """

    due: int
    until: int
    verdict: Verdict
    cause: Cause | None = None
    runs: tuple[Execution, ...] = ()
    attempts: int = 0
    times: int = 0
    reason: str = ""

    @property
    def late(self) -> int | None:
        """How long after its due instant the run that served it started; None where none did."""
        return self.runs[0].started_at - self.due if self.runs else None

    @property
    def is_bad(self) -> bool:
        """Whether it was missed, or served twice."""
        return self.verdict is Verdict.MISSED or self.times > 1


@dataclass(frozen=True, slots=True)
class Audit:
    """The verdicts of a service, by due instant.

    ``known_from`` is the instant from which on it is known what was due; None for never.
    ``complete_from`` is the instant from which on no row can have been forgotten.
    """

    service: str
    since: int
    until: int
    periods: tuple[Judged, ...]
    known_from: int | None
    complete_from: int

    @property
    def totals(self) -> dict[Verdict, int]:
        """How many periods have each verdict; every verdict is there."""
        counts = Counter(each.verdict for each in self.periods)
        return {verdict: counts[verdict] for verdict in Verdict}

    @property
    def causes(self) -> dict[Cause, int]:
        """How many periods were missed for each cause that there was."""
        counts = Counter(each.cause for each in self.periods if each.cause is not None)
        return {cause: counts[cause] for cause in Cause if counts[cause]}

    @property
    def served_twice(self) -> int:
        """How many periods were served more than once."""
        return sum(each.times > 1 for each in self.periods)

    @property
    def is_well(self) -> bool:
        """Whether no period was missed, and none was served twice."""
        return not any(each.is_bad for each in self.periods)


def audit(
    service: str,
    rows: Iterable[Row],
    *,
    since: int,
    until: int,
    now: int,
    gate: Gate | None = None,
    presence: Sequence[Presence] | None = None,
    present_from: int = 0,
) -> Audit:
    """Judge every period of a service that was due in ``[since, until)``, and not after ``now``.

    Args:
        service: its name, which the stagger of its due instants depends on.
        rows: its history. All commands that there are; the executions from ``since`` on, and those
            before it that were still at work then.
        since: the first due instant that is judged.
        until: the first that is not any more.
        now: the storage's now.
        gate: the service's gate: the run that is open, and what the history does not know yet.
        presence: when somebody offered the service; None where that is not known.
        present_from: the instant from which on ``presence`` is complete: runners that have been
            silent for long are forgotten.

    Raises:
        MissingExtraError: a schedule is a ``cron`` one, and the extra ``cron`` is not installed.
    """
    auditor = _Auditor(service, rows, now, gate, presence, present_from)
    return auditor.judge(since, min(until, now + 1))


# What the history says ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Which settings hold from when to when; None where they cannot be read.

    ``followed_at`` is when the next ones were first planned by. They hold from ``end`` on where
    it is known that they were offered, and these were not any more, before that.
    """

    start: int
    end: int
    followed_at: int
    settings: Settings | None
    planner: Planner | None

    def period_at(self, at: int) -> Span | None:
        """The period of the schedule that an instant falls into."""
        if self.planner is None:
            return None
        period = self.planner.schedule.period_at(instant(at))
        return microseconds(period.due), microseconds(period.until)


_FOR_EVER = 2**62


def _settings_of(row: Command) -> Settings | None:
    try:
        return Settings.from_json(row.settings or "")
    except ValueError:
        return None


class _Auditor:
    """The history of one service, laid out to be asked about periods."""

    def __init__(
        self,
        service: str,
        rows: Iterable[Row],
        now: int,
        gate: Gate | None,
        presence: Sequence[Presence] | None,
        present_from: int,
    ) -> None:
        self.service, self.now, self.presence = service, now, presence
        self.present_from = _FOR_EVER if presence is None else present_from
        known = {row.id: row for row in rows}
        for row in () if gate is None else gate.unsaid:
            known.setdefault(row.id, row)
        if gate is not None and gate.open is not None:
            known[gate.open.run_id] = open_row(gate.open)
        in_order = sorted(known.values(), key=lambda row: (row.at, row.id))
        commands = [row for row in in_order if isinstance(row, Command)]
        self.executions = [row for row in in_order if isinstance(row, Execution)]
        starts = [row.started_at for row in self.executions]
        self.stretches = _stretches(service, commands, starts, presence or ())
        self.starts = [stretch.start for stretch in self.stretches]
        self.pauses = _pauses(commands)
        self.complete_from = _complete_from(self.stretches, self.executions, now)
        self.of_due: dict[int, list[Execution]] = defaultdict(list)
        for row in self.executions:
            if row.trigger is None:
                self.of_due[row.due].append(row)
        self.works = Spans(
            (row.started_at, _end(row, now), row)
            for row in self.executions
            if row.token is not None
        )
        self.starts_of_runs = [row.started_at for row in self.executions if row.token is not None]
        self.served_keys = frozenset(() if gate is None else gate.served)

    def judge(self, since: int, until: int) -> Audit:
        dues = set(self._dues(since, until))
        dues |= {
            due
            for due, rows in self.of_due.items()
            if since <= due < until and any(row.token is not None for row in rows)
        }
        return Audit(
            self.service,
            since,
            until,
            tuple(self._judged(due) for due in sorted(dues)),
            known_from=self.starts[0] if self.starts else None,
            complete_from=self.complete_from,
        )

    def _dues(self, since: int, until: int) -> Iterator[int]:
        """Every instant that was due by the schedule that held then."""
        for stretch in self.stretches:
            start, end = max(stretch.start, since), min(stretch.end, until)
            if stretch.planner is not None and start < end:
                for due in stretch.planner.schedule.dues(instant(start), instant(end)):
                    yield microseconds(due)

    def _stretch_at(self, at: int) -> _Stretch | None:
        number = bisect_right(self.starts, at) - 1
        return self.stretches[number] if number >= 0 else None

    # One period -------------------------------------------------------------------------------

    def _judged(self, due: int) -> Judged:
        rows = self.of_due.get(due, [])
        stretch = self._stretch_of(due, rows)
        completed = tuple(row for row in rows if row.status is Status.COMPLETED)
        failed = [row for row in rows if _is_failed_attempt(row)]
        is_open = any(row.status is Status.RUNNING for row in rows)
        period = None if stretch is None else stretch.period_at(due)
        until = due if period is None else period[1]
        verdict, cause = Verdict.SERVED, None
        if not completed and due not in self.served_keys:
            verdict, cause = Verdict.OPEN, None
            if not is_open:
                verdict, cause = self._unserved(due, until, rows, len(failed), stretch)
        return Judged(
            due,
            until,
            verdict,
            cause,
            runs=completed,
            attempts=len(completed) + len(failed) + is_open,
            times=_times(completed, stretch),
            reason=failed[-1].reason if failed else "",
        )

    def _unserved(
        self, due: int, until: int, rows: list[Execution], failed: int, stretch: _Stretch | None
    ) -> tuple[Verdict, Cause | None]:
        """The verdict on a period that no run served, and at which none works."""
        if stretch is None or stretch.planner is None:
            return Verdict.UNKNOWN, None
        last = self._last_start(due, until, stretch)
        rules = stretch.planner.rules
        if failed >= rules.attempts and not rules.every_slot:
            return Verdict.MISSED, Cause.ATTEMPTS
        if self.now < last:
            return Verdict.OPEN, None
        if due < self.complete_from or self._may_have_changed(due, stretch):
            return Verdict.UNKNOWN, None
        if self._is_paused(due, last, stretch):
            return Verdict.PAUSED, None
        return Verdict.MISSED, self._cause(due, until, last, rows, stretch)

    def _stretch_of(self, due: int, rows: list[Execution]) -> _Stretch | None:
        """The settings that a period is judged by: those that held at its due instant.

        A change takes effect in the middle of a period of the new schedule. Such a period is judged
        by the settings that held when a run for it started.
        """
        stretch = self._stretch_at(due)
        if rows and (stretch is None or (stretch.period_at(due) or (None,))[0] != due):
            return self._stretch_at(rows[0].started_at)
        return stretch

    def _last_start(self, due: int, until: int, stretch: _Stretch) -> int:
        """The end of the time in which a run for the period could start."""
        assert stretch.planner is not None  # noqa: S101 (as the caller has seen)
        within = stretch.planner.rules.start_within
        last = until if within is None else min(until, due + within + 1)
        return last if self._goes_on(due, stretch) else min(last, max(stretch.end, due))

    def _goes_on(self, due: int, stretch: _Stretch) -> bool:
        """Whether the settings that follow have the same period, so that it goes on with them."""
        if stretch.followed_at == _FOR_EVER:
            return False
        following = self._stretch_at(stretch.followed_at)
        period = None if following is None else following.period_at(stretch.followed_at)
        return period is not None and period[0] == due

    def _may_have_changed(self, due: int, stretch: _Stretch) -> bool:
        """Whether a deploy may have changed the settings already, and nobody knows any more.

        Between the last run by the old settings and the first plan by the new ones only those who
        were there can say which of them held.
        """
        told = stretch.end < stretch.followed_at or due >= self.present_from
        if told or stretch.followed_at == _FOR_EVER or self._goes_on(due, stretch):
            return False
        number = bisect_left(self.starts_of_runs, stretch.followed_at) - 1
        return number < 0 or self.starts_of_runs[number] < due

    def _is_paused(self, due: int, last: int, stretch: _Stretch) -> bool:
        pauses = self.pauses.within(due, last)
        if not pauses:
            return False
        free = longest_free(due, last, pauses)
        at_due = any(start <= due < end for start, end in pauses)
        return free < _room(stretch) or (at_due and free < _cycle(stretch))

    def _cause(
        self, due: int, until: int, last: int, rows: list[Execution], stretch: _Stretch
    ) -> Cause:
        if stretch.end < until and last == stretch.end:
            return Cause.CHANGED
        if any(row.reason.startswith("prior_running") for row in rows):
            return Cause.IN_THE_WAY
        others = [
            (start, end) for start, end, row in self.works.rows_within(due, last) if row.due != due
        ]
        if others:
            taken = sorted([*others, *self.pauses.within(due, last)])
            if longest_free(due, last, taken) < _room(stretch):
                return Cause.IN_THE_WAY
        if not rows and due >= self.present_from and not self._anybody(due, last):
            return Cause.NOBODY
        return Cause.NOT_IN_TIME

    def _anybody(self, due: int, last: int) -> bool:
        return any(each.since < last and each.until > due for each in self.presence or ())


def _stretches(
    service: str,
    commands: Sequence[Command],
    starts: Sequence[int],
    presence: Sequence[Presence],
) -> list[_Stretch]:
    rows = [row for row in commands if row.name is CommandName.SETTINGS]
    offers = [row for row in commands if row.name is CommandName.OFFERED]
    made = []
    planners: dict[str | None, tuple[Settings | None, Planner | None]] = {}
    for row, following in zip_longest(rows, rows[1:]):
        if row.settings not in planners:
            settings = _settings_of(row)
            planner = None if settings is None else Planner.of(service, settings)
            planners[row.settings] = settings, planner
        followed_at = end = _FOR_EVER
        if following is not None:
            followed_at = following.at
            end = _change(row, following, _offered(row, following, offers, starts), presence)
        if row.at < followed_at:
            made.append(_Stretch(row.at, end, followed_at, *planners[row.settings]))
    return made


def _offered(
    before: Command, after: Command, offers: Sequence[Command], starts: Sequence[int]
) -> list[int]:
    """When the history says that somebody offered other settings, with no run since by the old."""
    last_run = bisect_left(starts, after.at) - 1
    since = max(before.at, starts[last_run] if last_run >= 0 else before.at)
    between = (each for each in offers if since < each.at < after.at)
    return [each.at for each in between if each.settings == after.settings]


def _change(
    before: Command, after: Command, said: Sequence[int], presence: Sequence[Presence]
) -> int:
    """When settings gave way to others.

    A deploy changes the settings at once, and the first plan by the new ones may come a week later,
    when the new schedule is due. So they changed when somebody offered the new ones and nobody the
    old ones any more. ``said`` is when the history says that somebody did, with no run by the old
    ones since; runners that are gone for a day are not known any more.
    """
    offered = [*said, *(each.since for each in presence if each.settings == after.settings)]
    began = min((at for at in offered if before.at < at), default=after.at)
    old = [each for each in presence if each.settings == before.settings]
    ended = max((each.until for each in old if each.since < after.at), default=began)
    return min(max(began, ended), after.at)


def _pauses(commands: Sequence[Command]) -> "Spans":
    spans: list[tuple[int, int, None]] = []
    current: tuple[int, int] | None = None
    for row in commands:
        if row.name not in (CommandName.PAUSE, CommandName.RESUME):
            continue
        if current is not None:
            spans.append((current[0], min(current[1], row.at), None))
        current = None
        if row.name is CommandName.PAUSE:
            current = row.at, _FOR_EVER if row.until is None else row.until
    if current is not None:
        spans.append((*current, None))
    return Spans(spans)


def _complete_from(stretches: Sequence[_Stretch], rows: Sequence[Execution], now: int) -> int:
    """The instant from which on retention can have forgotten nothing."""
    settings = [stretch.settings for stretch in stretches if stretch.settings is not None]
    if not settings:
        return now
    by_age = now - min(microseconds(each.retention_age) for each in settings)
    if len(rows) >= min(each.retention_count for each in settings):
        return max(by_age, rows[0].at + 1)
    return by_age


def _end(row: Execution, now: int) -> int:
    return now if row.ended_at is None else row.ended_at


def _is_failed_attempt(row: Execution) -> bool:
    return row.status is Status.ABANDONED and row.reason not in NO_ATTEMPT


def _times(completed: Sequence[Execution], stretch: _Stretch | None) -> int:
    """How often the period was served: with every slot, how often its busiest slot was."""
    every_slot = (
        stretch is not None and stretch.planner is not None and stretch.planner.rules.every_slot
    )
    if not every_slot:
        return len(completed)
    return max(Counter(row.slot_start for row in completed).values(), default=0)


def _cycle(stretch: _Stretch) -> int:
    assert stretch.settings is not None  # noqa: S101 (as the caller has seen)
    return microseconds(stretch.settings.shortest_cycle)


def _room(stretch: _Stretch) -> int:
    """How much time surely has the whole of a slot's part in which a turn may start.

    A slot, the shortest that the settings know of, and that part of another one.
    """
    assert stretch.planner is not None  # noqa: S101 (as the caller has seen)
    rules = stretch.planner.rules
    slot = _cycle(stretch) // (1 + rules.standbys)
    return slot + int(max(0, slot - rules.margin) * rules.window)
