"""Who counts in a cycle: a set that is frozen while the cycle lasts.

Rules
-----
1. Within one cycle every look gives the same stable set, whatever joins, heartbeats, silences,
   leaves and re-joins happen meanwhile.
2. A heartbeat never moves time backwards.
3. With ``"once"``, over N cycles with a steady set of N, each runner is primary exactly once.

How it works
------------
Slots are exclusive only while everybody counts the same runners. So the set is a function of
the cycle, not of the moment that somebody looks. With ``c`` the cycle's start, ``m`` the
spread margin and ``T`` the heartbeat timeout, a runner is in the stable set of ``c`` when

=================================  =====================================================
condition                          why nothing that happens in the cycle can change it
=================================  =====================================================
it may run the service             changes as a leave or a re-join, see below
``creation_time < c - m``          whoever joins or re-joins gets a creation time >= c
``last_heartbeat >= c - T``        heartbeats only grow; one that finds its row outside
                                   the set for its silence re-joins
it had not left before ``c``       whoever leaves gets a mark >= c
=================================  =====================================================

ordered by ``(creation_time, runner_id)``. The one hole is a write that commits after the edge
that its timestamp precedes; the margin covers it, the storage writes the set down at the first
look of a cycle, and its gate stands behind.

Nothing here reads a clock: every instant is an argument, and is the storage's.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256

from turnwise.atomic_service import ActiveRunnerInfo
from turnwise.durations import format_duration
from turnwise.old_settings import Settings

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIGEST_BITS = 48


@dataclass(frozen=True, slots=True)
class Cycle:
    """One cycle: its number since the Unix epoch, and ``[start, end)`` in UTC."""

    number: int
    start: datetime
    end: datetime


def cycle_at(now: datetime, interval: timedelta) -> Cycle:
    """The cycle of length ``interval`` that contains the aware datetime ``now``."""
    number = (now - _EPOCH) // interval
    start = _EPOCH + number * interval
    return Cycle(number, start, start + interval)


@dataclass(frozen=True, slots=True)
class RunnerRecord:
    """What a storage keeps of a runner.

    All instants are aware datetimes on the storage's clock. ``boot_id`` is the random mark of
    the process that sent the last heartbeat: two marks in turn under one runner id are two
    live processes. ``left_at`` is set from a leave until a re-join.
    """

    runner_id: str
    creation_time: datetime
    last_heartbeat: datetime
    may_run: bool = True
    left_at: datetime | None = None
    boot_id: str = ""

    def to_active_runner(self) -> ActiveRunnerInfo:
        """The part of it that the decision reads."""
        return ActiveRunnerInfo(
            self.runner_id, self.creation_time, self.last_heartbeat, self.may_run
        )


def why_not_stable(record: RunnerRecord, cycle_start: datetime, settings: Settings) -> str | None:
    """Why a runner is outside the stable set of a cycle, in words; None where it is inside."""
    if not record.may_run:
        return "may not run the service"
    gone = is_gone(record, cycle_start, settings)
    if not gone and record.creation_time < cycle_start - settings.spread_margin:
        return None
    if record.left_at is not None:
        return "left"
    return "silent: its heartbeat is too old" if gone else "joined too late for this cycle"


def is_gone(record: RunnerRecord, cycle_start: datetime, settings: Settings) -> bool:
    """Whether a runner is outside the set because it had left, or was silent for too long."""
    silent = record.last_heartbeat < cycle_start - settings.heartbeat_timeout
    return silent or _has_left(record, cycle_start)


def _has_left(record: RunnerRecord, cycle_start: datetime) -> bool:
    return record.left_at is not None and record.left_at < cycle_start


def stable_set(
    records: Iterable[RunnerRecord], cycle_start: datetime, settings: Settings
) -> tuple[ActiveRunnerInfo, ...]:
    """The runners that count in the cycle, by ``(creation_time, runner_id)``."""
    stable = (r for r in records if why_not_stable(r, cycle_start, settings) is None)
    return tuple(
        r.to_active_runner() for r in sorted(stable, key=lambda r: (r.creation_time, r.runner_id))
    )


@lru_cache(maxsize=128)  # asked for in every look
def set_rules(settings: Settings) -> str:
    """The knobs that decide who counts and who has a slot, as a text to compare."""
    once = settings.runs_per_cycle == "once"
    knobs = (
        format_duration(settings.interval),
        format_duration(settings.spread_margin),
        format_duration(settings.heartbeat_timeout),
        f"{settings.standbys} standbys" if once else "every slot",
    )
    return ", ".join(knobs)


def first_position(service: str, cycle_number: int, size: int) -> int:
    """Where in a stable set of ``size`` >= 1 the schedule of a cycle begins.

    With each cycle it moves on by one, and it starts from a stable hash of the service's name,
    so that several services fall on different runners.
    """
    return (cycle_number + service_hash(service)) % size


def service_hash(service: str) -> int:
    """A stable hash of a service's name, 48 bits: where its rotation starts."""
    return _stable_hash(service)


def scheduled_position(
    index: int, service: str, cycle_number: int, size: int, settings: Settings
) -> int | None:
    """The place in a cycle's schedule of the runner at ``index`` of a stable set of ``size``.

    With ``"once"`` the stable set is rotated by the cycle's number and cut to ``1 + standbys``:
    a primary and its standbys; None for everybody else. With ``"every_slot"`` the stable set is
    the schedule.
    """
    if settings.runs_per_cycle == "every_slot":
        return index
    position = (index - first_position(service, cycle_number, size)) % size
    return position if position < settings.slots(size) else None


def schedule(
    stable: tuple[ActiveRunnerInfo, ...], service: str, cycle: Cycle, settings: Settings
) -> tuple[ActiveRunnerInfo, ...]:
    """The runners that have a slot in the cycle, in the order of their slots."""
    if settings.runs_per_cycle == "every_slot" or not stable:
        return stable
    first = first_position(service, cycle.number, len(stable))
    return (stable[first:] + stable[:first])[: settings.slots(len(stable))]


def runner_digest(runner_id: str) -> int:
    """One runner's part of a set's digest: 48 bits, so that a storage can add them up."""
    return _stable_hash(runner_id)


def set_digest(parts: Iterable[int]) -> str:
    """The digest of a set from its runners' parts, whatever their order: 12 hex digits."""
    return f"{sum(parts) % 2**_DIGEST_BITS:012x}"


def _stable_hash(text: str) -> int:
    # surrogatepass: an id is any str, and a hash must not be what refuses it.
    digest = sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[: _DIGEST_BITS // 8])


def after_heartbeat(
    record: RunnerRecord | None, beat: RunnerRecord, settings: Settings
) -> RunnerRecord:
    """The row after a heartbeat; ``beat`` is the row that a new runner would get.

    A runner that is gone from the current set re-joins, as a new one: its creation time is the
    heartbeat's. One that left and comes back within the cycle never left. One that no longer
    may run leaves, and re-joins as such in a later cycle. One that is merely too young for the
    set keeps its creation time, and so its place in the next.
    """
    if record is None:
        return beat
    now = beat.last_heartbeat
    cycle_start = now - (now - _EPOCH) % settings.interval
    if is_gone(record, cycle_start, settings) or (beat.may_run and not record.may_run):
        # max: should the storage's clock step back, a creation time must not.
        return replace(beat, creation_time=max(now, record.creation_time))
    # Not dataclasses.replace(), which takes as long as all the rest of a heartbeat.
    return RunnerRecord(
        record.runner_id,
        record.creation_time,
        max(now, record.last_heartbeat),
        record.may_run,
        None if beat.may_run == record.may_run else (record.left_at or now),
        beat.boot_id,
    )


def after_leave(record: RunnerRecord, now: datetime) -> RunnerRecord:
    """The row after a leave: a mark, so that the slot stays empty until the cycle ends."""
    return replace(record, left_at=record.left_at or now)
