"""Whose clock an SQL storage goes by: what "now" is in a statement.

A server tells the time itself, within the statement that needs it. SQLite has no clock that
counts microseconds and lives on one host, so it is that host's clock, read while the lock is held.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import sqlalchemy as sa

from turnwise.backends._schema import Expression, Instant
from turnwise.membership import cycle_at
from turnwise.settings import Settings

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant within a statement, and two that follow from it.

    ``cycle_start`` is the start of the cycle of ``now``; who was last heard of before
    ``silent_before`` counts as silent in it. A statement takes ``ctes`` along.
    """

    now: Expression
    cycle_start: Expression
    silent_before: Expression
    ctes: tuple[sa.CTE, ...] = ()


class Clock(Protocol):
    """Where "now" comes from."""

    def moment(self) -> Moment:
        """The expressions, for a statement that is built once."""

    def at_once(self) -> Expression:
        """Now, where it is needed in one place alone: read when that is come to."""

    def parameters(self, settings: Settings) -> dict[str, object]:
        """Their parameters, for each execution of it."""


class HostClock:
    """A clock that we read, when :meth:`parameters` are asked for."""

    def __init__(self, read: Callable[[], datetime]) -> None:
        self._read = read

    def moment(self) -> Moment:
        """See :class:`Clock`."""
        return Moment(
            sa.bindparam("moment_now", type_=Instant),
            sa.bindparam("moment_cycle_start", type_=Instant),
            sa.bindparam("moment_silent_before", type_=Instant),
        )

    def at_once(self) -> Expression:
        """See :class:`Clock`."""
        return self.moment().now

    def parameters(self, settings: Settings) -> dict[str, object]:
        """See :class:`Clock`."""
        now = self._read().astimezone(UTC)
        cycle = cycle_at(now, settings.interval)
        return {
            "moment_now": now,
            "moment_cycle_start": cycle.start,
            "moment_silent_before": cycle.start - settings.heartbeat_timeout,
        }


class _ServerClock:
    """A clock that the server reads; cycles are counted in microseconds since the epoch."""

    def parameters(self, settings: Settings) -> dict[str, object]:
        """See :class:`Clock`."""
        return {
            "moment_interval": settings.interval // _MICROSECOND,
            "moment_timeout": settings.heartbeat_timeout // _MICROSECOND,
        }


def _cycle(microseconds: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    interval = sa.bindparam("moment_interval", type_=sa.BigInteger)
    return microseconds - microseconds % interval


_TIMEOUT = sa.bindparam("moment_timeout", type_=sa.BigInteger)


class PostgresClock(_ServerClock):
    """``clock_timestamp()``, which goes on within a statement: read once, in a CTE."""

    def moment(self) -> Moment:
        """See :class:`Clock`."""
        now = sa.select(self.at_once().label("now")).cte("clock")
        seconds = sa.type_coerce(sa.extract("epoch", now.c.now), sa.Numeric)
        microseconds = sa.cast(seconds * 1_000_000, sa.BigInteger)
        cycle = sa.select(now.c.now, _cycle(microseconds).label("cycle_start")).cte("cycle")
        return Moment(
            sa.select(cycle.c.now).scalar_subquery(),
            sa.select(_postgres_instant(cycle.c.cycle_start)).scalar_subquery(),
            sa.select(_postgres_instant(cycle.c.cycle_start - _TIMEOUT)).scalar_subquery(),
            (now, cycle),
        )

    def at_once(self) -> Expression:
        """See :class:`Clock`."""
        return sa.type_coerce(sa.func.timezone("UTC", sa.func.clock_timestamp()), Instant)


def _postgres_instant(microseconds: sa.ColumnElement[int]) -> Expression:
    epoch: Expression = sa.literal_column("TIMESTAMP '1970-01-01'")
    return sa.type_coerce(
        epoch + microseconds * sa.literal_column("INTERVAL '1 microsecond'"), Instant
    )


class MySqlClock(_ServerClock):
    """``UTC_TIMESTAMP(6)``, which stands still within a statement."""

    def moment(self) -> Moment:
        """See :class:`Clock`."""
        now = self.at_once()
        microseconds = sa.func.timestampdiff(
            sa.text("MICROSECOND"), sa.text("'1970-01-01'"), now, type_=sa.BigInteger
        )
        cycle = _cycle(microseconds)
        return Moment(now, _mysql_instant(cycle), _mysql_instant(cycle - _TIMEOUT))

    def at_once(self) -> Expression:
        """See :class:`Clock`."""
        return sa.type_coerce(sa.func.utc_timestamp(sa.text("6")), Instant)


def _mysql_instant(microseconds: sa.ColumnElement[int]) -> Expression:
    epoch: Expression = sa.literal_column("TIMESTAMP'1970-01-01 00:00:00.000000'")
    return sa.type_coerce(
        sa.func.timestampadd(sa.text("MICROSECOND"), microseconds, epoch), Instant
    )
