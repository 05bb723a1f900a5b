"""The tables of an SQL storage. Instants and durations are integers, in microseconds.

Every key begins with the group. A heartbeat changes no column that an index has, so that
PostgreSQL writes the row anew beside the old one and touches no index (a HOT update).
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from turnwise.storages.sql.naming import NAMES, VERSION

__all__ = ["NAMES", "VERSION", "Body", "Name", "tables"]


class Name(sa.types.UserDefinedType[str]):
    """Text of at most 255 characters that is compared and sorted by its code points, exactly."""

    cache_ok = True
    sql = "VARCHAR(255)"

    def get_col_spec(self, **_: object) -> str:
        """The column's type, where no dialect below has its own."""
        return self.sql


class Body(Name):
    """Text of any length, compared in the same way."""

    cache_ok = True
    sql = "TEXT"


@compiles(Name, "postgresql")
@compiles(Body, "postgresql")
def _on_postgresql(column: Name, *_: object, **__: object) -> str:
    return f'{column.sql} COLLATE "C"'


@compiles(Name, "mysql")
@compiles(Body, "mysql")
@compiles(Name, "mariadb")
@compiles(Body, "mariadb")
def _on_mysql(column: Name, compiler: sa.Compiled, **__: object) -> str:
    # Of their binary collations, only these two tell "a" from "a ".
    is_mariadb = getattr(compiler.dialect, "is_mariadb", False)
    collation = "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin"
    # A TEXT of theirs holds 64 KiB.
    kind = "MEDIUMTEXT" if isinstance(column, Body) else column.sql
    return f"{kind} CHARACTER SET utf8mb4 COLLATE {collation}"


_MYSQL_TABLE: dict[str, Any] = {
    f"{name}_{option}": value
    for name in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("row_format", "DYNAMIC"))
}


def tables(kind: str, prefix: str, schema: str | None) -> sa.MetaData:
    """The tables whose names begin with ``prefix``, for a kind of database."""
    metadata = sa.MetaData(schema=schema)

    def table(name: str, *parts: sa.schema.SchemaItem, **options: Any) -> None:
        sa.Table(prefix + name, metadata, *parts, **_MYSQL_TABLE, **options)

    one = sa.Column("one", sa.SmallInteger, primary_key=True, autoincrement=False)
    table("schema", one, _number("version"), _name("identity"))
    table("revisions", _key("group_name"), _number("revision"))
    table(
        "runners",
        *_keys("group_name", "runner_id", "boot_id"),
        _number("joined_at"),
        _number("heard_at"),
        _number("left_at", nullable=True),
        _number("beat_count"),
        _number("heartbeat_timeout"),
        _body("runs"),  # a list in JSON
        _number("digest"),
        postgresql_with={"fillfactor": 50},  # room for the row of the next heartbeat
    )
    table(
        "offers",
        # MySQL's keys hold three names, so the runner id and the boot id have a hash in it.
        *_keys("group_name", "service", "life"),
        _name("runner_id"),
        _name("boot_id"),
        _body("settings"),
        _number("heartbeat_timeout"),
        sa.Column("may_run", sa.SmallInteger, nullable=False),
        _number("offered_at"),
        # A heartbeat asks what its life offers.
        sa.Index(f"{prefix}offers_by_life", "group_name", "runner_id", "boot_id"),
    )
    table("drained", *_keys("group_name", "runner_id"))
    is_open = sa.text("run_id IS NOT NULL")
    table(
        "records",
        *_keys("group_name", "service", "kind"),
        _body("version"),  # empty where the row only keeps the place of a record to come
        _body("body"),
        *(_name(column, nullable=True) for column in ("run_id", "runner_id", "boot_id")),
        _number("heartbeat_timeout", nullable=True),
        # A heartbeat asks for the open runs of its group.
        sa.Index(
            f"{prefix}records_open",
            "group_name",
            "run_id",
            postgresql_where=is_open,
            sqlite_where=is_open,
        ),
        postgresql_with={"fillfactor": 50},
    )
    # MySQL's keys hold three names, and its other indexes have the primary key in them anyway.
    at_and_id = ["happened_at"] if kind == "mysql" else ["happened_at", "id"]
    table(
        "history",
        *_keys("group_name", "service", "id"),
        _number("happened_at"),
        _name("kind"),
        _body("body"),
        sa.Index(f"{prefix}history_by_time", "group_name", "service", "happened_at", "id"),
        sa.Index(f"{prefix}history_by_kind", "group_name", "service", "kind", *at_and_id),
    )
    return metadata


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, Name, primary_key=True)


def _keys(*names: str) -> list[sa.Column[str]]:
    return [_key(name) for name in names]


def _name(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, Name, nullable=nullable)


def _body(name: str) -> sa.Column[str]:
    return sa.Column(name, Body, nullable=False)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)
