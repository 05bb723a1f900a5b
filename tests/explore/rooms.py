"""The settings and the instants of the explorations.

Everything is in small numbers: a period of 8 s, heartbeats every second, slots of 2 or 4 s.
"""

from datetime import timedelta

from explore.search import prepared
from explore.steps import Scope
from explore.world import SECOND, World
from turnwise.schedules import Every
from turnwise.settings import Settings

START = 24 * SECOND - SECOND // 20
"""Where explorations begin: three periods have gone by, and the fourth is planned."""

_MARK = SECOND // 20


def settings(**changes: object) -> Settings:
    """Two cycles of 4 s in a period of 8 s, and a heartbeat timeout of 3 s."""
    usual: dict[str, object] = {
        "schedule": Every("8s"),
        "cycle": timedelta(seconds=4),
        "heartbeat_timeout": timedelta(seconds=3),
        "spread_margin": timedelta(milliseconds=200),
        "attempts": 2,
    }
    return Settings(**(usual | changes))  # type: ignore[arg-type]


NARROW = {"a": settings(), "b": settings()}
"""Two runners, two cycles in a period; a slot has 2 s."""

WIDE = {name: settings(cycle=timedelta(seconds=8)) for name in NARROW}
"""Two runners, one cycle in a period; a slot has 4 s."""

HASTY = WIDE | {"b": settings(cycle=timedelta(seconds=8), heartbeat_timeout=timedelta(seconds=1))}
"""As wide, but for the heartbeat timeout of the second, which is a third of the first's."""

ALONE = {name: settings(cycle=timedelta(seconds=8), standbys=0) for name in NARROW}
"""Two runners, of whom each plan lists one."""

MIXED = {
    "a": settings(),
    "b": settings(cycle=timedelta(seconds=2), heartbeat_timeout=timedelta(seconds=1)),
}
"""Two runners whose cycles and heartbeat timeouts differ."""

THREE = {name: settings() for name in "abc"}
"""Three runners of one kind."""

THREE_MIXED = MIXED | {"c": settings(heartbeat_timeout=timedelta(seconds=2))}
"""Three runners, each with settings of its own."""


def instants(cycles: int, every: int = 1) -> tuple[int, ...]:
    """Every so many seconds, and the moment before each cycle of 4 s at which its plan is due."""
    starts = (START + _MARK + 4 * number * SECOND for number in range(cycles))
    seconds = range(0, 4, every)
    return tuple(
        at for start in starts for at in (start - _MARK, *(start + n * SECOND for n in seconds))
    )


def world(runners: dict[str, Settings]) -> World:
    """A world in which all has gone well for three periods."""
    return prepared(runners, until=START)


def scope(
    cycles: int,
    *,
    faults: int = 0,
    longest: int | None = 2,
    every: int = 1,
    fine: bool = False,
    until: int | None = None,
    **each: int,
) -> Scope:
    """What may happen within some cycles, every so many seconds.

    ``longest`` is how long a function may take, in s; ``until`` leaves out what is later than so
    many seconds after the first cycle's start.
    """
    last = None if until is None else START + _MARK + until * SECOND
    return Scope(
        tuple(at for at in instants(cycles, every) if last is None or at <= last),
        faults,
        each,
        clock_steps=(-3 * SECOND, 5 * SECOND),
        fine=fine,
        longest=None if longest is None else longest * SECOND,
    )
