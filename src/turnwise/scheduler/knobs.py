"""The knobs of a service as a program writes them: durations may be texts."""

from datetime import timedelta
from typing import Any, TypedDict

from turnwise.durations import duration_of
from turnwise.schedules import Schedule
from turnwise.settings import DURATIONS, Runs, Settings

Duration = timedelta | str
"""A duration: a timedelta, or a text such as ``"1h30m"``."""


class Knobs(TypedDict, total=False):
    """The knobs of a service, as :class:`~turnwise.settings.Settings` has them.

    A duration may be a text such as ``"1h30m"``.
    """

    cycle: Duration
    start_within: Duration | None
    attempts: int
    timeout: Duration | None
    release_on_timeout: bool
    stagger: Duration
    runs: Runs
    standbys: int
    spread_margin: Duration
    heartbeat_timeout: Duration
    max_start_slot_fraction: float
    membership_stabilization: Duration
    min_run_margin: Duration
    retention_age: Duration
    retention_count: int


def settings_with(schedule: Schedule, knobs: Knobs) -> Settings:
    """The settings of a service from its schedule and its knobs.

    Raises:
        TypeError, ValueError: a knob is unknown, not of its type, or out of its range.
    """
    unknown = knobs.keys() - Knobs.__annotations__.keys()
    if unknown:
        names = ", ".join(map(repr, sorted(unknown)))
        raise TypeError(f"no such knob: {names}; known are {', '.join(Knobs.__annotations__)}")
    # The constructor checks the type of each value.
    return Settings(
        schedule=schedule,
        **{name: _read(name, value) for name, value in knobs.items()},  # type: ignore[arg-type]
    )


def _read(name: str, value: Any) -> object:
    if name not in DURATIONS or value is None or (name, value) == ("stagger", "auto"):
        return value
    return duration_of(name, value)
