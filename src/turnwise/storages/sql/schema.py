"""Making the tables, and refusing those that the storage's promises cannot rest on.

The tables carry their version, in a table of one row. Later versions of turnwise add to
:data:`UPGRADES` how to come from each version to the next.
"""

# ruff: noqa: S608 (what is put into a text is our own; values are parameters)

import re
from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from turnwise.errors import SchemaError
from turnwise.storages.sql.address import Address
from turnwise.storages.sql.naming import OLD, VERSION, table_name
from turnwise.storages.sql.tables import tables

UPGRADES: dict[int, Sequence[str]] = {}
"""By version: the statements that make the next version of it; ``{prefix}`` stands for itself."""

_RANDOM = {
    "sqlite": "lower(hex(randomblob(16)))",
    "postgresql": "md5(random()::text || clock_timestamp()::text)",
    "mysql": "REPLACE(UUID(), '-', '')",
}


def schema_statements(url: str) -> str:
    """The statements that create the tables, for the database that ``url`` names.

    A kind alone, such as ``postgresql``, will do. MySQL and MariaDB differ in one collation:
    ``mariadb`` gets MariaDB's. Connects to nothing.

    Raises:
        ValueError: it is no URL of a database that is supported.
    """
    address = Address.read(url if ":" in url else f"{url}://")
    dialect = address.url.get_dialect()()
    if address.is_mariadb:
        dialect.is_mariadb = True  # type: ignore[attr-defined] # MySQL's has it
    texts = [str(each.compile(dialect=dialect)) for each in _creation(_tables(address))]
    texts.append(_first_row(address))
    lines = "\n".join(f"{text.strip()};\n" for text in texts)
    return re.sub(r"[ \t]+$", "", lines, flags=re.MULTILINE)


def open_tables(connection: sa.Connection, address: Address, *, may_create: bool) -> None:
    """Make sure that the tables are there, whole, and of this version; create what is missing.

    Raises:
        SchemaError: they are not; the message names what is missing.
    """
    metadata = _tables(address)
    there = set(sa.inspect(connection).get_table_names(address.schema))
    _refuse_old(connection, address, there)
    missing = {table.name for table in metadata.sorted_tables} - there
    if missing and may_create:
        metadata.create_all(connection)
    elif missing:
        everything = len(missing) == len(metadata.tables)
        what = "no tables of turnwise" if everything else f"no table {', '.join(sorted(missing))}"
        raise SchemaError(f"{address.shown} holds {what}: see `turnwise schema`")
    _require_whole(connection, address, metadata)
    _require_version(connection, address, may_create=may_create)


def upgrade(connection: sa.Connection, address: Address) -> tuple[int, int]:
    """Bring older tables to this version; which version they had, and which they have now.

    Raises:
        SchemaError: there are none, or they are newer than this version of turnwise.
    """
    before = _version(connection, address)
    if before is None or before > VERSION:
        raise SchemaError(_of_another_version(address, before))
    connection.exec_driver_sql("BEGIN")  # on MySQL each change of a table is kept by itself
    try:
        for version in range(before, VERSION):
            for text in UPGRADES[version]:
                connection.exec_driver_sql(text.format(prefix=table_name(address, "")))
        connection.exec_driver_sql(f"UPDATE {table_name(address, 'schema')} SET version={VERSION}")
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise
    connection.exec_driver_sql("COMMIT")
    return before, VERSION


def _tables(address: Address) -> sa.MetaData:
    return tables(address.kind, address.prefix, address.schema)


def _creation(metadata: sa.MetaData) -> Iterator[sa.schema.ExecutableDDLElement]:
    for table in metadata.sorted_tables:
        yield CreateTable(table)
        yield from (
            CreateIndex(index) for index in sorted(table.indexes, key=lambda i: str(i.name))
        )


def _first_row(address: Address) -> str:
    return (
        f"INSERT INTO {table_name(address, 'schema')} (one, version, identity) "
        f"VALUES (1, {VERSION}, {_RANDOM[address.kind]})"
    )


def _refuse_old(connection: sa.Connection, address: Address, there: set[str]) -> None:
    old = sorted(there & {address.prefix + name for name in OLD})
    runners = address.prefix + "runners"
    if runners in there:
        columns = sa.inspect(connection).get_columns(runners, address.schema)
        old += [runners] if any(column["name"] == "service" for column in columns) else []
    if old:
        raise SchemaError(
            f"{address.shown} holds tables of turnwise 0.1 ({', '.join(old)}), which this version "
            "does not read: drop them, or name new ones by ?table_prefix="
        )


def _require_whole(connection: sa.Connection, address: Address, metadata: sa.MetaData) -> None:
    inspector, names = sa.inspect(connection), [table.name for table in metadata.sorted_tables]
    columns = inspector.get_multi_columns(address.schema, filter_names=names)
    keys = _unique_keys(inspector, names, address.schema)
    for table in metadata.sorted_tables:
        where = (address.schema, table.name)
        found = {column["name"] for column in columns[where]}
        for column in table.columns:
            if column.name not in found:
                raise SchemaError(f"{address.shown}: the table {table.name} lacks {column.name}")
        if {column.name for column in table.primary_key} not in keys[where]:
            raise SchemaError(
                f"{address.shown}: the table {table.name} lacks its primary key "
                f"({', '.join(column.name for column in table.primary_key)})"
            )
    _require_exact_names(connection, address, names)


# Tables and columns whose names are compared by another collation than ours: in a key of SQLite's,
# and in a column of MySQL's. PostgreSQL's are exact, but for those that are made to be others.
_INEXACT = {
    "sqlite": """
SELECT made.name, part.name FROM sqlite_master AS made, pragma_index_list(made.name) AS one,
  pragma_index_xinfo(one.name) AS part
WHERE made.name IN :names AND one."unique" AND part."key" AND part.coll <> 'BINARY'
ORDER BY 1, 2
""",
    "mysql": """
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name IN :names
  AND collation_name NOT IN ('utf8mb4_nopad_bin', 'utf8mb4_0900_bin')
ORDER BY 1, 2
""",
}


def _require_exact_names(connection: sa.Connection, address: Address, names: list[str]) -> None:
    """See that two names are one only where they are the same, code point by code point."""
    if address.kind not in _INEXACT:
        return
    question = sa.text(_INEXACT[address.kind]).bindparams(sa.bindparam("names", expanding=True))
    values = {"names": names, **({"schema": address.schema} if address.kind == "mysql" else {})}
    for table, column in connection.execute(question, values).all():
        raise SchemaError(
            f"{address.shown}: the table {table} compares {column} by a collation that takes "
            "different names for the same: see `turnwise schema`"
        )


def _unique_keys(
    inspector: sa.Inspector, names: list[str], schema: str | None
) -> dict[tuple[str | None, str], list[set[str | None]]]:
    """For each table: the sets of columns of which no two rows may have the same."""
    primary = inspector.get_multi_pk_constraint(schema, filter_names=names)
    keys = {where: [set[str | None](key["constrained_columns"])] for where, key in primary.items()}
    for where, indexes in inspector.get_multi_indexes(schema, filter_names=names).items():
        for index in indexes:
            is_partial = any("where" in name for name in index.get("dialect_options", {}))
            if index["unique"] and not is_partial:
                keys[where].append(set(index["column_names"]))
    uniques = inspector.get_multi_unique_constraints(schema, filter_names=names)
    for where, constraints in uniques.items():
        keys[where] += [set(unique["column_names"]) for unique in constraints]
    return keys


def _require_version(connection: sa.Connection, address: Address, *, may_create: bool) -> None:
    version = _version(connection, address)
    if version is None and may_create:
        connection.exec_driver_sql(_first_row(address))
        version = _version(connection, address)
    if version != VERSION:
        raise SchemaError(_of_another_version(address, version))


def _version(connection: sa.Connection, address: Address) -> int | None:
    rows = connection.exec_driver_sql(f"SELECT version FROM {table_name(address, 'schema')}")
    return next((int(row[0]) for row in rows.all()), None)


def _of_another_version(address: Address, version: int | None) -> str:
    name = table_name(address, "schema")
    if version is None:
        return f"{address.shown}: the table {name} lacks its row: see `turnwise schema`"
    what = (
        "a newer turnwise has made them" if version > VERSION else "see `turnwise schema --upgrade`"
    )
    return f"{address.shown}: its tables are of version {version}, not {VERSION}: {what}"
