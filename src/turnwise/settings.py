"""Every knob of a service, validated together.

Runners of one service should have the same settings. Where they differ, no harm is done: within a
cycle everybody goes by its plan, and the next plan is made by the settings of whoever makes it.
What a configuration promises for a number of runners, :func:`turnwise.review.review` says.
"""

import json
from dataclasses import dataclass, fields
from datetime import timedelta
from itertools import islice, pairwise
from typing import Final, Literal, Self, cast, get_args

from turnwise.cycles import duration, instant, microseconds, shortest_cycle
from turnwise.durations import duration_of, format_duration
from turnwise.schedules import Every, Schedule, Staggered, parse_schedule

Runs = Literal["once", "every_slot"]

_ZERO = timedelta(0)
_MICROSECOND = timedelta(microseconds=1)
_LONGEST = timedelta(days=3653)
_LONGEST_STAGGER = timedelta(days=365)  # as Staggered has it
_MOST_ROWS = 1_000_000_000  # databases count in 32 bits
_MOST = 1_000_000  # standbys, attempts: more are a mistake
# So that an age counted back from now stays within the years that a datetime can express.
_LONGEST_RETENTION = 100 * _LONGEST
_HEARTBEATS_PER_TIMEOUT: Final = 3
_SCALED = cast("timedelta", None)
"""For a default that scales with the shortest cycle; a timedelta once the settings are made."""
_PERIODS_LOOKED_AT = 32
_LOOK_FROM: Final = instant(1_767_225_600_000_000)  # 2026-01-01: any instant would do


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one service takes its turns.

    Args:
        schedule: when the service is due: a schedule, or its text such as ``"every 5m"`` or
            ``"cron 0 3 * * * Europe/Vienna"``. Default every 5 minutes.
        cycle: length that no cycle may exceed; a period is cut into as few equal cycles as that
            takes. Within a cycle the set of runners is frozen, so that it bounds how long a
            takeover takes and how soon a new runner counts. Default 5 minutes.
        start_within: how long after its due instant an attempt at a period may still start.
            None, the default: until the next due instant.
        attempts: how many turns a period may have that fail, or whose runner dies, before it
            counts as missed. Default 3, at least 1; it does not count with ``"every_slot"``,
            where each runner has one attempt in its slot.
        timeout: how long a turn may take, measured from its start. None, the default: for ever.
            A coroutine is cancelled and a child process ended then. A plain function cannot be
            ended: its turn is lost, and the gate stays closed until it returns.
        release_on_timeout: whether the gate opens at the timeout although a plain function still
            runs, so that two may be at work at once. Default False.
        stagger: services that are due at one instant are spread within this time after it, by a
            stable hash of their names. ``"auto"``, for ``Every``: a tenth of the interval.
            Default 0: none. At most 365 days; not with a schedule that is staggered itself.
        runs: ``"once"`` (default): one run in each period. ``"every_slot"``: each runner runs in
            its own slot of each cycle; only with ``Every``, and there a period is one cycle.
        standbys: with ``"once"``, how many runners stand by for the primary in each cycle. More
            standbys make shorter slots. Default 2.
        spread_margin: guard time at the end of each slot, in which nobody starts, and the time
            before a cycle in which its plan is made. Default 20 seconds, or a fifteenth of the
            shortest cycle where that is less.
        heartbeat_timeout: silence after which a runner counts as dead; heartbeats are sent three
            times as often. Too short: a runner that is paused or cut off for longer loses its
            turn. Too long: after a kill in the middle of a turn nobody serves for that long. At
            most the shortest cycle. Default 60 seconds, or a fifth of the shortest cycle.
        max_start_slot_fraction: part of a slot, over 0 and at most 1, within which a turn may
            start. Default 0.5.
        membership_stabilization: age below which an assigned runner does not start, and nobody
            in its place. Default 0. At most 3,653 days.
        min_run_margin: the least time that must be left of the slot when the storage has
            admitted a turn; with less the turn ends at once, ABANDONED with ``no_margin``.
            Default 50 milliseconds, or a hundredth of the shortest cycle.
        retention_age: how long history is kept. Default 30 days, at most 365,300 days.
        retention_count: how many rows of history are kept. Default 100,000, at most 10**9.

    Raises:
        TypeError: a knob is not of its type.
        ValueError: a knob is out of its range, or two do not fit together; the message names
            them and their values.
    """

    schedule: Schedule = Every(timedelta(minutes=5))  # noqa: RUF009 (it is frozen)
    cycle: timedelta = timedelta(minutes=5)
    start_within: timedelta | None = None
    attempts: int = 3
    timeout: timedelta | None = None
    release_on_timeout: bool = False
    stagger: timedelta | Literal["auto"] = _ZERO
    runs: Runs = "once"
    standbys: int = 2
    spread_margin: timedelta = _SCALED
    heartbeat_timeout: timedelta = _SCALED
    max_start_slot_fraction: float = 0.5
    membership_stabilization: timedelta = _ZERO
    min_run_margin: timedelta = _SCALED
    retention_age: timedelta = timedelta(days=30)
    retention_count: int = 100_000

    def __post_init__(self) -> None:
        if isinstance(self.schedule, str):
            object.__setattr__(self, "schedule", parse_schedule(self.schedule))
        self._check_types()
        self._require(
            _MICROSECOND <= self.cycle <= _LONGEST,
            "cycle",
            f"positive and at most {format_duration(_LONGEST)}",
        )
        shortest = self.shortest_cycle
        for name, value in _scaled_defaults(shortest).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        self._check_ranges()
        # So that equal settings have one text: 1 and 1.0 are one fraction.
        fraction = float(self.max_start_slot_fraction)
        object.__setattr__(self, "max_start_slot_fraction", fraction)
        self._check_schedule()
        self._check_cycle(shortest)

    @property
    def shortest_cycle(self) -> timedelta:
        """Length of the shortest cycle that the schedule and ``cycle`` make.

        Of a schedule of another kind than ``Every`` the first 32 periods from 2026 are looked at.
        """
        longest = self.cycle
        if self.runs == "every_slot" and isinstance(self.schedule, Every):
            longest = max(longest, self.schedule.interval)  # a period is one cycle
        return duration(_shortest_cycle(self.schedule, microseconds(longest)))

    @property
    def heartbeat_interval(self) -> timedelta:
        """Time between two heartbeats: a third of the timeout, so that two may be lost.

        A microsecond at least.
        """
        return max(self.heartbeat_timeout / _HEARTBEATS_PER_TIMEOUT, _MICROSECOND)

    def slots(self, runners: int) -> int:
        """How many slots a cycle has when ``runners`` runners count."""
        return min(runners, 1 + self.standbys) if self.runs == "once" else runners

    def schedule_of(self, service_hash: int) -> Schedule:
        """The schedule of a service whose name has this hash: staggered, where that is asked for.

        Args:
            service_hash: a whole number, 0 or more, evenly spread.
        """
        within = self.stagger
        if within == "auto":
            interval = self.schedule.interval if isinstance(self.schedule, Every) else _ZERO
            within = interval / 10
        span = microseconds(within)
        return Staggered(self.schedule, duration(service_hash % span)) if span else self.schedule

    def to_json(self) -> str:
        """The settings as one JSON object, with durations as texts such as ``5m``."""
        return json.dumps({field.name: _plain(getattr(self, field.name)) for field in fields(self)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote. A knob that is left out has its default.

        Raises:
            ValueError: the text is no such object; the message names the knob that is wrong.
        """
        try:
            stored = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"no settings in {text!r}: {error}") from None
        if not isinstance(stored, dict):
            raise ValueError(f"no settings in {text!r}: no JSON object")  # noqa: TRY004 (as said)
        if unknown := stored.keys() - {field.name for field in fields(cls)}:
            names = ", ".join(map(repr, sorted(unknown)))
            raise ValueError(f"no settings in {text!r}: unknown are {names}")
        try:
            knobs = {name: _stored(name, value) for name, value in stored.items()}
            # The constructor checks the type of each value as it runs.
            return cls(**knobs)  # type: ignore[arg-type]
        except TypeError as error:
            raise ValueError(f"no settings in {text!r}: {error}") from None

    def differences(self, other: "Settings") -> tuple[str, ...]:
        """The knobs that differ, each as ``name: mine, not theirs``."""
        return tuple(
            f"{field.name}: {_text(mine)}, not {_text(theirs)}"
            for field in fields(self)
            if (mine := getattr(self, field.name)) != (theirs := getattr(other, field.name))
        )

    def _check_types(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _MAY_BE_NONE and value is None:
                continue
            if field.name == "schedule":
                if not all(hasattr(value, name) for name in ("period_at", "dues")):
                    raise TypeError(
                        f"schedule must be a schedule such as Every('5m'), or its text, "
                        f"got {value!r}"
                    )
                continue
            expected, name = _TYPES[field.name]
            # A bool is an int to isinstance, and never meant as one.
            stray_bool = isinstance(value, bool) and bool not in expected
            if stray_bool or not isinstance(value, expected):
                raise TypeError(f"{field.name} must be {name}, got {value!r}")

    def _check_ranges(self) -> None:
        self._check_durations()
        self._require(
            0 < self.max_start_slot_fraction <= 1, "max_start_slot_fraction", "over 0 and at most 1"
        )
        choices = get_args(Runs)
        self._require(self.runs in choices, "runs", " or ".join(map(repr, choices)))
        self._require(0 <= self.standbys <= _MOST, "standbys", f"0 to {_MOST:,}")
        self._require(1 <= self.attempts <= _MOST, "attempts", f"1 to {_MOST:,}")
        self._require(
            1 <= self.retention_count <= _MOST_ROWS, "retention_count", f"1 to {_MOST_ROWS:,}"
        )

    def _check_durations(self) -> None:
        self._require(self.heartbeat_timeout > _ZERO, "heartbeat_timeout", "positive")
        for name in ("spread_margin", "min_run_margin"):
            self._require(getattr(self, name) >= _ZERO, name, "0 or more")
        for name in ("start_within", "timeout"):
            value = getattr(self, name)
            allowed = f"positive and at most {format_duration(_LONGEST)}, or None"
            self._require(value is None or _ZERO < value <= _LONGEST, name, allowed)
        at_most = f"0 or more and at most {format_duration(_LONGEST_STAGGER)}"
        is_fit = isinstance(self.stagger, timedelta) and _ZERO <= self.stagger <= _LONGEST_STAGGER
        self._require(is_fit or self.stagger == "auto", "stagger", f"'auto', or {at_most}")
        at_most = f"0 or more and at most {format_duration(_LONGEST)}"
        is_fit = _ZERO <= self.membership_stabilization <= _LONGEST
        self._require(is_fit, "membership_stabilization", at_most)
        at_most = f"positive and at most {format_duration(_LONGEST_RETENTION)}"
        self._require(_ZERO < self.retention_age <= _LONGEST_RETENTION, "retention_age", at_most)

    def _require(self, holds: bool, name: str, allowed: str) -> None:  # noqa: FBT001
        if not holds:
            raise ValueError(f"{name} must be {allowed}, got {_text(getattr(self, name))}")

    def _check_schedule(self) -> None:
        if self.runs == "every_slot" and not isinstance(self.schedule, Every):
            raise ValueError(
                f"runs ('every_slot') goes with a schedule of the form 'every ...' alone, and "
                f"the schedule is {str(self.schedule)!r}"
            )
        if self.stagger == "auto" and not isinstance(self.schedule, Every):
            raise ValueError(
                f"stagger ('auto') goes with a schedule of the form 'every ...' alone, and the "
                f"schedule is {str(self.schedule)!r}: give a duration"
            )
        if self.stagger != _ZERO and isinstance(self.schedule, Staggered):
            raise ValueError(
                f"stagger ({_text(self.stagger)}) must be 0s where the schedule is staggered "
                f"itself, and it is {str(self.schedule)!r}"
            )

    def _check_cycle(self, shortest: timedelta) -> None:
        cycle = f"the shortest cycle ({format_duration(shortest)})"
        if self.heartbeat_timeout > shortest:
            raise ValueError(
                f"heartbeat_timeout ({format_duration(self.heartbeat_timeout)}) must be at most "
                f"{cycle}: a runner killed in the middle of a turn would block whole cycles"
            )
        # With every slot the number of runners is not known here: review() holds it against them.
        shares = 1 + self.standbys if self.runs == "once" else 1
        slot = shortest // shares
        shared = f"{cycle} shared by 1 + standbys ({self.standbys})"
        bound = cycle if shares == 1 else f"a slot, which is {format_duration(slot)}: {shared}"
        if self.spread_margin >= slot:
            raise ValueError(
                f"spread_margin ({format_duration(self.spread_margin)}) must be shorter than "
                f"{bound}"
            )
        if self.min_run_margin >= slot - self.spread_margin:
            raise ValueError(
                f"min_run_margin ({format_duration(self.min_run_margin)}) must be shorter than "
                f"{bound}, less the spread_margin ({format_duration(self.spread_margin)})"
            )


_MAY_BE_NONE = frozenset(
    {"start_within", "timeout", "spread_margin", "heartbeat_timeout", "min_run_margin"}
)
_DURATION: tuple[tuple[type, ...], str] = ((timedelta,), "a timedelta")
_NUMBER: tuple[tuple[type, ...], str] = ((int,), "a whole number")
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "cycle": _DURATION,
    "start_within": _DURATION,
    "attempts": _NUMBER,
    "timeout": _DURATION,
    "release_on_timeout": ((bool,), "True or False"),
    "stagger": ((timedelta, str), "a timedelta or 'auto'"),
    "runs": ((str,), "'once' or 'every_slot'"),
    "standbys": _NUMBER,
    "spread_margin": _DURATION,
    "heartbeat_timeout": _DURATION,
    "max_start_slot_fraction": ((float, int), "a number"),
    "membership_stabilization": _DURATION,
    "min_run_margin": _DURATION,
    "retention_age": _DURATION,
    "retention_count": _NUMBER,
}
DURATIONS: Final = frozenset(name for name, (types, _) in _TYPES.items() if timedelta in types)
"""The knobs that are durations, which a text may stand for."""


def _scaled_defaults(shortest: timedelta) -> dict[str, timedelta]:
    return {
        "spread_margin": min(timedelta(seconds=20), shortest / 15),
        "heartbeat_timeout": max(min(timedelta(seconds=60), shortest / 5), _MICROSECOND),
        "min_run_margin": min(timedelta(milliseconds=50), shortest / 100),
    }


def _shortest_cycle(schedule: Schedule, longest: int) -> int:
    """The shortest cycle among a schedule's next periods, in microseconds."""
    if isinstance(schedule, Every):
        return shortest_cycle(microseconds(schedule.interval), longest)
    first = schedule.period_at(_LOOK_FROM)
    ahead = schedule.dues(first.until, first.until + _LONGEST)
    dues = [first.due, first.until, *islice(ahead, 1, _PERIODS_LOOKED_AT)]
    lengths = (microseconds(later - earlier) for earlier, later in pairwise(dues))
    return min(shortest_cycle(length, longest) for length in lengths)


def _plain(value: object) -> object:
    if isinstance(value, timedelta):
        return format_duration(value)
    return value if value is None or isinstance(value, int | float | str) else str(value)


def _stored(name: str, value: object) -> object:
    """A knob as it was stored; what is no duration is left to the constructor's checks."""
    if name not in DURATIONS or value is None or value == "auto":
        return value
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a duration such as '5m', got {value!r}")
    return duration_of(name, value)


def _text(value: object) -> str:
    if isinstance(value, timedelta):
        return format_duration(value)
    return repr(value if value is None or isinstance(value, int | float | str) else str(value))
