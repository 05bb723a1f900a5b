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
from turnwise.old_settings import Settings

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant within a statement, and two that follow from it.

    ``cycle_start`` is the start of the cycle of ``now``; who was last heard of before
    ``silent_before`` counts as silent in it. A statement takes ``ctes`` along; the last of them has
    the three in one row.
    """

    now: Expression
    cycle_start: Expression
    silent_before: Expression
    ctes: tuple[sa.CTE, ...] = ()

    def joined(self) -> tuple[sa.FromClause, "Moment"]:
        """One row to select from, and the moment beside it: a plan with fewer subqueries."""
        if not self.ctes:
            return sa.select(sa.literal(1).label("one")).subquery("one"), self
        row = self.ctes[-1]
        return row, Moment(row.c.now, row.c.cycle_start, row.c.silent_before)


class Clock(Protocol):
    """Where "now" comes from."""

    def moment(self, *, durable: bool = True) -> Moment:
        """The expressions, for a statement that is built once.

        Unless it is ``durable``, its write may be lost where the server dies in the next moment.
        """

    def at_once(self) -> Expression:
        """Now, where it is needed in one place alone: read when that is come to."""

    def parameters(self, settings: Settings) -> dict[str, object]:
        """Their parameters, for each execution of it."""


class HostClock:
    """A clock that we read, when :meth:`parameters` are asked for."""

    def __init__(self, read: Callable[[], datetime]) -> None:
        self._read = read

    def moment(self, *, durable: bool = True) -> Moment:
        """See :class:`Clock`; what is durable on SQLite is its connection's business."""
        del durable
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


_INTERVAL = sa.bindparam("moment_interval", type_=sa.BigInteger)
_TIMEOUT = sa.bindparam("moment_timeout", type_=sa.BigInteger)


class PostgresClock(_ServerClock):
    """``clock_timestamp()``, which goes on within a statement: read once, in a CTE."""

    def moment(self, *, durable: bool = True) -> Moment:
        """See :class:`Clock`."""
        read = sa.select(self.at_once().label("now"))
        if not durable:  # for this transaction alone, which is this statement
            at_leisure = "set_config('synchronous_commit', 'off', true)"
            read = read.add_columns(sa.literal_column(at_leisure).label("at_leisure"))
        clock = read.cte("clock")
        start = sa.func.date_bin(_postgres_span(_INTERVAL), clock.c.now, _POSTGRES_EPOCH)
        cycle = sa.select(
            clock.c.now,
            sa.type_coerce(start, Instant).label("cycle_start"),
            sa.type_coerce(start - _postgres_span(_TIMEOUT), Instant).label("silent_before"),
        ).cte("cycle")
        return Moment(
            sa.select(cycle.c.now).scalar_subquery(),
            sa.select(cycle.c.cycle_start).scalar_subquery(),
            sa.select(cycle.c.silent_before).scalar_subquery(),
            (clock, cycle),
        )

    def at_once(self) -> Expression:
        """See :class:`Clock`."""
        return sa.type_coerce(sa.func.timezone("UTC", sa.func.clock_timestamp()), Instant)


_POSTGRES_EPOCH: Expression = sa.literal_column("TIMESTAMP '1970-01-01'")


def _postgres_span(microseconds: Expression) -> Expression:
    return microseconds * sa.literal_column("INTERVAL '1 microsecond'")


class MySqlClock(_ServerClock):
    """``UTC_TIMESTAMP(6)``, which stands still within a statement."""

    def moment(self, *, durable: bool = True) -> Moment:
        """See :class:`Clock`; here the server's configuration says what is durable."""
        del durable
        now = self.at_once()
        microseconds = sa.func.timestampdiff(
            sa.text("MICROSECOND"), sa.text("'1970-01-01'"), now, type_=sa.BigInteger
        )
        cycle = microseconds - microseconds % _INTERVAL
        return Moment(now, _mysql_instant(cycle), _mysql_instant(cycle - _TIMEOUT))

    def at_once(self) -> Expression:
        """See :class:`Clock`."""
        return sa.type_coerce(sa.func.utc_timestamp(sa.text("6")), Instant)


def _mysql_instant(microseconds: sa.ColumnElement[int]) -> Expression:
    epoch: Expression = sa.literal_column("TIMESTAMP'1970-01-01 00:00:00.000000'")
    return sa.type_coerce(
        sa.func.timestampadd(sa.text("MICROSECOND"), microseconds, epoch), Instant
    )
