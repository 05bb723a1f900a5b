"""Turnwise's tables in a migration: the statements of each version, frozen, for each database.

A migration must do for ever what it did when it was written. So its statements stand in files
beside it, and a test holds them against what the storage would make itself.
"""

from importlib.resources import files
from typing import TYPE_CHECKING

from django.db.migrations.operations.base import Operation

from turnwise.storages.sql.tables import NAMES

if TYPE_CHECKING:
    from django.db.backends.base.schema import BaseDatabaseSchemaEditor
    from django.db.migrations.state import ProjectState


class Tables(Operation):
    """Make the tables of one version, on PostgreSQL, MySQL, MariaDB or SQLite.

    On another database it does nothing, because there turnwise has no storage.

    Args:
        version: the version of the tables that were there once this was done.
    """

    reversible = True
    reduces_to_sql = True

    def __init__(self, version: int) -> None:
        self.version = version

    def state_forwards(self, app_label: str, state: "ProjectState") -> None:
        """The tables are no models."""

    def database_forwards(
        self, app_label: str, schema_editor: "BaseDatabaseSchemaEditor", *_: "ProjectState"
    ) -> None:
        """Make them, where the project's routers let this app into the database."""
        if _is_for(schema_editor, app_label):
            for statement in statements(self.version, _kind_of(schema_editor)):
                schema_editor.execute(statement, None)

    def database_backwards(
        self, app_label: str, schema_editor: "BaseDatabaseSchemaEditor", *_: "ProjectState"
    ) -> None:
        """Drop them, with all that they hold."""
        if _is_for(schema_editor, app_label):
            for name in NAMES:
                schema_editor.execute(f"DROP TABLE turnwise_{name}", None)

    def describe(self) -> str:
        """What it does, in a line."""
        return f"Make the tables of turnwise, version {self.version}"


def statements(version: int, kind: str) -> list[str]:
    """The statements that make the tables of a version on a kind of database, without semicolons.

    Args:
        version: of the tables.
        kind: ``postgresql``, ``mysql``, ``mariadb`` or ``sqlite``.
    """
    folder = files("turnwise.contrib.django.migrations") / f"version_{version}"
    text = (folder / f"{kind}.sql").read_text("utf-8")
    return [found for each in text.split(";\n") if (found := each.strip())]


def _is_for(schema_editor: "BaseDatabaseSchemaEditor", app_label: str) -> bool:
    from django.db import router  # noqa: PLC0415 (settings must be there)

    connection = schema_editor.connection
    known = connection.vendor in {"postgresql", "mysql", "sqlite"}
    return known and router.allow_migrate(connection.alias, app_label)


def _kind_of(schema_editor: "BaseDatabaseSchemaEditor") -> str:
    connection = schema_editor.connection
    return "mariadb" if getattr(connection, "mysql_is_mariadb", False) else connection.vendor
