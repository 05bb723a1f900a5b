"""What the tables are called, and which version of them this is: known without SQLAlchemy."""

from turnwise.storages.sql.address import Address

VERSION = 1
"""The version of these tables; see :mod:`turnwise.storages.sql.schema`."""

NAMES = ("schema", "revisions", "runners", "offers", "drained", "records", "history")
"""The tables' names, behind their prefix."""

OLD = ("services", "schedules", "executions")
"""Tables of turnwise 0.1 that are none of ours."""


def table_name(address: Address, name: str) -> str:
    """A table's full name; what it is made of needs no quotes."""
    schema = "" if address.schema is None else f'"{address.schema}".'
    if address.kind == "mysql":
        schema = schema.replace('"', "`")
    return f"{schema}{address.prefix}{name}"
