"""The tables of an SQL storage; they read well in the database's own console."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles

if TYPE_CHECKING:
    AnySelect = sa.Select[*tuple[Any, ...]]
    AnyRow = sa.Row[*tuple[Any, ...]]
Expression = sa.ColumnElement[Any]


class Instant(sa.TypeDecorator[datetime]):
    """An aware datetime, kept in UTC, to the microsecond, readable in the database's console."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """The column's type: MySQL's own would drop the microseconds, and SQLite has none."""
        if dialect.name in _MYSQL:
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.String(26))
        return dialect.type_descriptor(sa.DateTime())

    def process_bind_param(
        self, value: datetime | None, dialect: sa.Dialect
    ) -> datetime | str | None:
        """What the database is given."""
        if value is None:
            return None
        plain = value.astimezone(UTC).replace(tzinfo=None)
        return plain.isoformat(" ", "microseconds") if dialect.name == "sqlite" else plain

    def process_result_value(
        self, value: datetime | str | None, dialect: sa.Dialect
    ) -> datetime | None:
        """What its users are given."""
        del dialect
        if isinstance(value, str):  # SQLite's, or a parameter as MySQL gives it back
            value = datetime.fromisoformat(value)
        return None if value is None else value.replace(tzinfo=UTC)


class Name(sa.types.UserDefinedType[str]):
    """Text of at most 255 characters that is compared and sorted by its code points, exactly."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """The column's type, where no dialect below has its own."""
        return "VARCHAR(255)"


@compiles(Name, "postgresql")
def _name_on_postgresql(*_: object, **__: object) -> str:
    return 'VARCHAR(255) COLLATE "C"'


@compiles(Name, "mysql")
@compiles(Name, "mariadb")
def _name_on_mysql(_: Name, compiler: sa.Compiled, **__: object) -> str:
    # Of their binary collations, only these two tell "a" from "a ".
    is_mariadb = getattr(compiler.dialect, "is_mariadb", False)
    collation = "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin"
    return f"VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {collation}"


_MYSQL = ("mysql", "mariadb")
# MySQL's own holds 64 KiB.
_LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), *_MYSQL)
_MYSQL_TABLE: dict[str, Any] = {
    f"{name}_{option}": value
    for name in _MYSQL
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("row_format", "DYNAMIC"))
}


@dataclass(frozen=True, slots=True)
class Tables:
    """The four tables of a storage, under a prefix and in a schema of its own where one is named.

    ``schedules`` keeps for each service the set of the cycle that was last looked at.
    """

    metadata: sa.MetaData
    services: sa.Table
    schedules: sa.Table
    runners: sa.Table
    executions: sa.Table

    @classmethod
    def named(cls, prefix: str, schema: str | None) -> Self:
        """The tables whose names begin with ``prefix``."""
        metadata = sa.MetaData(schema=schema)

        def table(name: str, parts: list[sa.schema.SchemaItem]) -> sa.Table:
            made: sa.Table = sa.Table(prefix + name, metadata, *parts, **_MYSQL_TABLE)
            return made

        return cls(
            metadata,
            table("services", _services()),
            table("schedules", _schedules()),
            table("runners", _runners(prefix)),
            table("executions", _executions(prefix)),
        )

    @property
    def record_columns(self) -> list[sa.Column[Any]]:
        """The columns of an execution that are told; the gate's two keys are not."""
        return [c for c in self.executions.c if c.name not in ("running", "serves")]


def _services() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("service", Name, primary_key=True),
        sa.Column("fencing_token", sa.BigInteger, nullable=False),
        sa.Column("settings", _LONG_TEXT),
    ]


def _schedules() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("service", Name, primary_key=True),
        sa.Column("cycle_start", Instant, nullable=False),
        sa.Column("rules", sa.String(255), nullable=False),
        sa.Column("schedule", _LONG_TEXT, nullable=False),
    ]


def _runners(prefix: str) -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("service", Name, primary_key=True),
        sa.Column("runner_id", Name, primary_key=True),
        sa.Column("creation_time", Instant, nullable=False),
        sa.Column("last_heartbeat", Instant, nullable=False),
        sa.Column("may_run", sa.Boolean, nullable=False),
        sa.Column("left_at", Instant),
        sa.Column("boot_id", sa.String(64), nullable=False),
        sa.Column("previous_boot_id", sa.String(64)),
        sa.Column("digest", sa.BigInteger, nullable=False),
        # Retention asks at the end of each run who was silent for long.
        sa.Index(f"{prefix}runners_by_heartbeat", "service", "last_heartbeat"),
    ]


def _executions(prefix: str) -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("service", Name, primary_key=True),
        sa.Column("run_id", Name, primary_key=True),
        sa.Column("runner_id", Name, nullable=False),
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
        sa.UniqueConstraint("service", "running", name=f"{prefix}one_running"),
        sa.UniqueConstraint("service", "serves", name=f"{prefix}one_serves"),
        # Retention counts back through all that is kept, and asks what has ended long ago.
        sa.Index(f"{prefix}executions_by_start", "service", "start_time", "run_id", "running"),
        sa.Index(f"{prefix}executions_by_end", "service", "end_time"),
    ]
