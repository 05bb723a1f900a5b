"""``turnwise schema``: the tables of an SQL storage, printed for review, or brought up to date."""

import sys
from typing import Annotated

from turnwise.cli.errors import BadInput, storage_as_input
from turnwise.cli.options import StorageUrl, option
from turnwise.cli.storage import url_in_force
from turnwise.errors import SchemaError, StorageError
from turnwise.storages.opening import open_storage
from turnwise.storages.urls import without_password

EXAMPLES = {
    "schema": """\
turnwise schema --storage postgresql://app@db/app > tables.sql
turnwise schema --storage postgresql://app@db/app --upgrade
"""
}
_DATABASES = ("sqlite", "postgresql", "postgres", "mysql", "mariadb")


Upgrade = Annotated[
    bool,
    option(
        "--upgrade",
        help="Bring the tables that an older turnwise has made to this version, instead.",
    ),
]


def schema(
    *,
    storage: StorageUrl = None,
    upgrade: Upgrade = False,
) -> int:
    """Print the statements that create the tables of a database.

    Nothing is connected to, unless --upgrade is given. Runners create the tables themselves where
    they may; print them where only an administrator may.
    """
    url = _url_of_a_database(storage)
    with storage_as_input():
        if upgrade:
            return _upgrade(url)
        from turnwise.storages.sql import schema_statements  # noqa: PLC0415 (needs an extra)

        statements = schema_statements(url)
    sys.stdout.write(statements)
    return 0


def _url_of_a_database(storage: str | None) -> str:
    url = url_in_force(storage)
    if url.partition(":")[0].partition("+")[0] not in _DATABASES:
        raise BadInput(
            f"--storage {without_password(url)!r} has no tables: it must be an SQL database, such "
            "as postgresql://host/database"
        )
    return url


def _upgrade(url: str) -> int:
    from turnwise.storages.sql.tables import VERSION  # noqa: PLC0415 (needs an extra)

    shown = without_password(url)
    try:
        open_storage(url, create_tables=False).close()
    except SchemaError as error:
        before, now = _upgraded(url, error)
        print(f"{shown}: the tables were of version {before}, and now are of {now}")  # noqa: T201
    else:
        print(f"{shown}: the tables are of version {VERSION} already")  # noqa: T201
    return 0


def _upgraded(url: str, why: SchemaError) -> tuple[int, int]:
    """Upgrade tables that cannot be used as they are, for the reason that is given."""
    from turnwise.storages.sql import upgrade  # noqa: PLC0415 (needs an extra)

    try:
        return upgrade(url)
    except SchemaError:
        raise
    except StorageError:
        raise why from None  # it says better what is missing
