"""Every knob of a service, validated together, and what a configuration promises.

All runners of a service must use the same settings: they say where a cycle's slots lie and who
counts in it. Each knob is documented by its consequence in :class:`Settings`;
:meth:`Settings.review` says what a configuration promises for a given number of runners.
"""

import json
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from typing import Final, Literal, Self, get_args

from turnwise.durations import format_duration, parse_duration
from turnwise.old_review import Review, review

RunsPerCycle = Literal["once", "every_slot"]

_ZERO = timedelta(0)
_MICROSECOND = timedelta(microseconds=1)
_LONGEST_INTERVAL = timedelta(days=3653)
_MOST_RECORDS = 1_000_000_000  # databases count in 32 bits
# So that an age counted back from now stays within the years that a datetime can express.
_LONGEST_RETENTION = 100 * _LONGEST_INTERVAL
_HEARTBEATS_PER_TIMEOUT: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one service takes its turns. The same for all of its runners.

    Args:
        interval: length of a cycle; cycles are aligned to the Unix epoch. With ``"once"`` the
            service runs once in each. Default 5 minutes, at most 3,653 days.
        spread_margin: guard time at the end of each slot, in which nobody starts, and the time
            that a runner must have joined before a cycle to count in it. Too short: runners
            that see the storage late may count different runners, and only the gate keeps them
            apart. Too long: it eats the slots. Default 20 seconds.
        heartbeat_timeout: silence after which a runner counts as dead, measured on the
            storage's clock from its last heartbeat; heartbeats are sent three times as often.
            Too short: a runner that is paused or cut off for longer loses its turn to another
            while it may still work. Too long: after a kill in the middle of a turn nobody
            serves for that long. At most the interval. Default 60 seconds.
        max_start_slot_fraction: part of a slot, over 0 and at most 1, within which a turn may
            start. Smaller leaves each turn more time before the next slot; larger lets a
            runner that comes late still start. Default 0.5.
        membership_stabilization: age below which an assigned runner does not start, and nobody
            in its place. 0, the default, adds nothing to the wait for the next cycle. At most
            3,653 days.
        min_run_margin: the least time that must be left of the slot when the storage has
            admitted a turn; with less the turn ends at once, ABANDONED with ``no_margin``.
            Default 50 milliseconds.
        runs_per_cycle: ``"once"`` (default): one run in each cycle, by a primary or else one of
            its standbys. ``"every_slot"``: each runner runs in its own slot in each cycle.
        standbys: with ``"once"``, how many runners stand by for the primary. More standbys
            make shorter slots. Default 2.
        retry_failed: with ``"once"``, whether a failed turn leaves the cycle to the next
            standby. If False, a cycle is served at most once, whatever became of the turn: the
            turn of a runner that died counts, too. Default True.
        retention_age: how long ended executions are kept. Default 1 hour, at most 365,300 days.
        retention_count: how many ended executions are kept, at most 10**9. Default 1,000. A running
            execution, and those of the current cycle, are kept in any case.

    Raises:
        TypeError: a knob is not of its type.
        ValueError: a knob is out of its range, or two do not fit together; the message names
            them and their values.
    """

    interval: timedelta = timedelta(minutes=5)
    spread_margin: timedelta = timedelta(seconds=20)
    heartbeat_timeout: timedelta = timedelta(seconds=60)
    max_start_slot_fraction: float = 0.5
    membership_stabilization: timedelta = _ZERO
    min_run_margin: timedelta = timedelta(milliseconds=50)
    runs_per_cycle: RunsPerCycle = "once"
    standbys: int = 2
    retry_failed: bool = True
    retention_age: timedelta = timedelta(hours=1)
    retention_count: int = 1000

    def __post_init__(self) -> None:
        self._check_types()
        self._check_ranges()
        self._check_relations()

    @classmethod
    def for_interval(cls, interval: timedelta, **changes: object) -> Self:
        """The defaults, scaled down where the interval is too short for them.

        ``spread_margin`` is 20 seconds or a fifteenth of the interval, ``heartbeat_timeout``
        60 seconds or a fifth of it, ``min_run_margin`` 50 milliseconds or a hundredth of it,
        whichever is less; ``retention_age`` an hour or twelve cycles, whichever is more.
        ``changes`` are other fields of this class, and win.

        Raises:
            TypeError, ValueError: as the constructor.
        """
        scaled: dict[str, object] = {"interval": interval}
        if isinstance(interval, timedelta) and _ZERO < interval <= _LONGEST_INTERVAL:
            default = cls()
            scaled |= {
                "spread_margin": min(default.spread_margin, interval / 15),
                "heartbeat_timeout": min(default.heartbeat_timeout, interval / 5),
                "min_run_margin": min(default.min_run_margin, interval / 100),
                "retention_age": max(default.retention_age, interval * 12),
            }
        # The constructor checks the type of each value as it runs.
        return cls(**(scaled | changes))  # type: ignore[arg-type]

    @property
    def heartbeat_interval(self) -> timedelta:
        """Time between two heartbeats: a third of the timeout, so that two may be lost.

        A microsecond at least.
        """
        return max(self.heartbeat_timeout / _HEARTBEATS_PER_TIMEOUT, _MICROSECOND)

    def slots(self, runners: int) -> int:
        """How many slots a cycle has when ``runners`` runners are stable."""
        return min(runners, 1 + self.standbys) if self.runs_per_cycle == "once" else runners

    def review(
        self,
        *,
        runners: int,
        longest_run: timedelta | None = None,
        clock_skew: timedelta = _ZERO,
    ) -> Review:
        """What these settings promise to ``runners``; see :func:`turnwise.old_review.review`.

        Args:
            runners: how many runners take part, 1 or more.
            longest_run: the longest time that a turn takes, where it is known.
            clock_skew: the largest difference between the clocks of two runners. It matters
                only where runners decide by their own clocks, without the storage's.

        Raises:
            ValueError: an argument is out of its range.
        """
        return review(self, runners=runners, longest_run=longest_run, clock_skew=clock_skew)

    def to_json(self) -> str:
        """The settings as one JSON object, with durations as :func:`parse_duration` reads them."""
        return json.dumps(
            {
                name: format_duration(value) if isinstance(value, timedelta) else value
                for name, value in asdict(self).items()
            }
        )

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
        types = {field.name: field.type for field in fields(cls)}
        if unknown := stored.keys() - types.keys():
            names = ", ".join(map(repr, sorted(unknown)))
            raise ValueError(f"no settings in {text!r}: unknown are {names}")
        try:
            knobs: dict[str, object] = {
                name: _stored_duration(name, value) if types[name] is timedelta else value
                for name, value in stored.items()
            }
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
            expected, name = _TYPES.get(field.type, ((object,), ""))
            # A bool is an int to isinstance, and never meant as one.
            stray_bool = isinstance(value, bool) and field.type in (int, float)
            if stray_bool or not isinstance(value, expected):
                raise TypeError(f"{field.name} must be {name}, got {value!r}")

    def _check_ranges(self) -> None:
        self._require(
            _MICROSECOND <= self.interval <= _LONGEST_INTERVAL,
            "interval",
            f"positive and at most {format_duration(_LONGEST_INTERVAL)}",
        )
        self._require(self.heartbeat_timeout > _ZERO, "heartbeat_timeout", "positive")
        for name in ("spread_margin", "min_run_margin"):
            self._require(getattr(self, name) >= _ZERO, name, "0 or more")
        self._require(
            _ZERO <= self.membership_stabilization <= _LONGEST_INTERVAL,
            "membership_stabilization",
            f"0 or more and at most {format_duration(_LONGEST_INTERVAL)}",
        )
        self._require(
            _ZERO < self.retention_age <= _LONGEST_RETENTION,
            "retention_age",
            f"positive and at most {format_duration(_LONGEST_RETENTION)}",
        )
        self._require(
            0 < self.max_start_slot_fraction <= 1,
            "max_start_slot_fraction",
            "over 0 and at most 1",
        )
        self._require(
            self.runs_per_cycle in get_args(RunsPerCycle),
            "runs_per_cycle",
            " or ".join(map(repr, get_args(RunsPerCycle))),
        )
        self._require(self.standbys >= 0, "standbys", "0 or more")
        self._require(
            1 <= self.retention_count <= _MOST_RECORDS,
            "retention_count",
            f"1 to {_MOST_RECORDS:,}",
        )

    def _require(self, holds: bool, name: str, allowed: str) -> None:  # noqa: FBT001
        if not holds:
            raise ValueError(f"{name} must be {allowed}, got {_text(getattr(self, name))}")

    def _check_relations(self) -> None:
        interval = f"interval ({format_duration(self.interval)})"
        if self.heartbeat_timeout > self.interval:
            raise ValueError(
                f"heartbeat_timeout ({format_duration(self.heartbeat_timeout)}) must be at most "
                f"the {interval}: a runner killed in the middle of a turn would block whole cycles"
            )
        # With every slot the number of runners is not known here: review() holds it against them.
        shares = 1 + self.standbys if self.runs_per_cycle == "once" else 1
        slot = self.interval // shares  # the shortest: where they differ, by a microsecond
        bound = f"the {interval}"
        if shares > 1:
            bound = (
                f"a slot, which is {format_duration(slot)}: the {interval} shared by "
                f"1 + standbys ({self.standbys})"
            )
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


_TYPES: dict[object, tuple[tuple[type, ...], str]] = {
    timedelta: ((timedelta,), "a timedelta"),
    float: ((float, int), "a number"),
    int: ((int,), "a whole number"),
    bool: ((bool,), "True or False"),
}


def _stored_duration(name: str, value: object) -> timedelta:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a duration such as '5m', got {value!r}")
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _text(value: object) -> str:
    return format_duration(value) if isinstance(value, timedelta) else repr(value)
