"""The tables of an SQL storage; they read well in the database's own console."""

from datetime import UTC, datetime

import sqlalchemy as sa


class Instant(sa.TypeDecorator[datetime]):
    """An aware datetime, kept in UTC, to the microsecond, readable in the database's console."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """What the database is given."""
        del dialect
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """What its users are given."""
        del dialect
        return None if value is None else value.replace(tzinfo=UTC)


_NAME = sa.String(255)
metadata = sa.MetaData()

services = sa.Table(
    "turnwise_services",
    metadata,
    sa.Column("service", _NAME, primary_key=True),
    sa.Column("fencing_token", sa.BigInteger, nullable=False),
    sa.Column("settings", sa.Text),
)

runners = sa.Table(
    "turnwise_runners",
    metadata,
    sa.Column("service", _NAME, primary_key=True),
    sa.Column("runner_id", _NAME, primary_key=True),
    sa.Column("creation_time", Instant, nullable=False),
    sa.Column("last_heartbeat", Instant, nullable=False),
    sa.Column("may_run", sa.Boolean, nullable=False),
    sa.Column("left_at", Instant),
    sa.Column("boot_id", sa.String(64), nullable=False),
    sa.Column("digest", sa.BigInteger, nullable=False),
)

executions = sa.Table(
    "turnwise_executions",
    metadata,
    sa.Column("service", _NAME, primary_key=True),
    sa.Column("run_id", _NAME, primary_key=True),
    sa.Column("runner_id", _NAME, nullable=False),
    sa.Column("fencing_token", sa.BigInteger),
    sa.Column("cycle_start", Instant, nullable=False),
    sa.Column("slot_start", Instant),
    sa.Column("slot_end", Instant),
    sa.Column("start_time", Instant, nullable=False),
    sa.Column("end_time", Instant),
    sa.Column("last_heartbeat", Instant, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("stable_size", sa.Integer, nullable=False),
    sa.Column("stable_digest", sa.String(12), nullable=False),
    sa.Column("running", sa.SmallInteger),
    sa.Column("serves", Instant),
    sa.UniqueConstraint("service", "running", name="turnwise_one_running"),
    sa.UniqueConstraint("service", "serves", name="turnwise_one_serves"),
    sa.Index("turnwise_executions_by_start", "service", "start_time"),
)

RECORD_COLUMNS = [c for c in executions.c if c.name not in ("running", "serves")]
