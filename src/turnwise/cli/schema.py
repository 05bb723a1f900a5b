"""``turnwise schema``: the tables of an SQL storage, for people who create them by hand."""

import sys

from turnwise.backends import is_sql, without_password
from turnwise.cli.errors import BadInput, storage_as_input
from turnwise.cli.options import BackendUrl


def schema(*, backend: BackendUrl) -> int:
    """Print the statements that create the tables. Connects to nothing."""
    if not is_sql(backend):
        raise BadInput(
            f"--backend {without_password(backend)!r} has no tables: it must be an SQL database, "
            "such as postgresql://host/database"
        )
    with storage_as_input():
        from turnwise.backends.sql import schema_statements  # noqa: PLC0415 (needs an extra)

        statements = schema_statements(backend)
    sys.stdout.write(statements)
    return 0
