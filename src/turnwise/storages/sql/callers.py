"""Connections of the caller's: what a job hands over that has a transaction of its own.

SQLAlchemy, Django and the drivers themselves say the same things in different ways. Here each
becomes a :class:`Caller`, which executes a statement in the transaction that is open, and no more:
it neither begins nor ends one.
"""

import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from turnwise.storages.sql.address import KINDS
from turnwise.storages.sql.statements import PARAMETER, Statements, Value

# Who has handed over something of SQLAlchemy's, or of a driver's, has imported it.
if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy import orm

ALLOWED: Final = (
    "an SQLAlchemy Connection or Session, Django's connection, or a connection of psycopg 3, "
    "PyMySQL or sqlite3"
)
_OF_SAVEPOINTS: Final = (
    "connection must be in no savepoint (a nested transaction): what is undone back to it would "
    "leave the writes before it. Call this in the outermost one"
)


@dataclass(frozen=True, slots=True)
class Caller:
    """A connection of the caller's.

    ``kind`` is what it is connected to: ``sqlite``, ``postgresql``, ``mysql``, or the name of
    something else. ``execute`` takes a template of :mod:`turnwise.storages.sql.statements`, what
    stands for its words, and its values, and gives the rows. ``driver`` gives the connection as
    the driver has it.
    """

    kind: str
    execute: Callable[[str, Mapping[str, str], Mapping[str, Value]], list[tuple[Any, ...]]]
    driver: Callable[[], Any]


def caller_of(connection: object) -> Caller:
    """What a job has handed over.

    Raises:
        TypeError: it is no connection that a transaction can be completed in.
        ValueError: it is in a savepoint.
    """
    if _is_connection(connection) or _is_session(connection):
        return _of_sqlalchemy(connection)
    if _is_django(connection):
        return _of_django(connection)
    found = _of_driver(connection)
    if found is None:
        raise TypeError(f"connection must be {ALLOWED}, got {connection!r}{_hint(connection)}")
    return found


# SQLAlchemy ---------------------------------------------------------------------------------------


def _is_connection(given: object) -> "TypeGuard[sa.Connection]":
    module = sys.modules.get("sqlalchemy")
    return module is not None and isinstance(given, module.Connection)


def _is_session(given: object) -> "TypeGuard[orm.Session | orm.scoped_session[Any]]":
    module = sys.modules.get("sqlalchemy.orm")
    return module is not None and isinstance(given, module.Session | module.scoped_session)


def _of_sqlalchemy(given: "sa.Connection | orm.Session | orm.scoped_session[Any]") -> Caller:
    import sqlalchemy as sa  # noqa: PLC0415 (it is loaded)

    if isinstance(given, sa.Connection):
        connection = given
    else:
        # What was added to a session is written when it is flushed, and that comes first.
        given.flush()
        connection = given.connection()
    if connection.in_nested_transaction():
        raise ValueError(_OF_SAVEPOINTS)

    def execute(
        template: str, words: Mapping[str, str], values: Mapping[str, Value]
    ) -> list[tuple[Any, ...]]:
        text = template.format_map(words)
        used = {name: values[name] for name in PARAMETER.findall(text)}
        result = connection.execute(sa.text(text), used)
        return [tuple(row) for row in result] if result.returns_rows else []

    def driver() -> Any:
        return connection.connection.driver_connection

    name = connection.dialect.name
    return Caller(KINDS.get(name, name), execute, driver)


# Django -------------------------------------------------------------------------------------------


def _is_django(connection: object) -> bool:
    # A backend of another package is a subclass of one of Django's.
    kinds = type(connection).__mro__
    return any(each.__module__.startswith("django.") for each in kinds) and hasattr(
        connection, "vendor"
    )


def _of_django(connection: Any) -> Caller:
    if any(connection.savepoint_ids):  # None stands for a block that made none
        raise ValueError(_OF_SAVEPOINTS)
    run = _with_placeholder("%s", connection.cursor)
    return Caller(
        KINDS.get(connection.vendor, connection.vendor), run, lambda: connection.connection
    )


# Drivers ------------------------------------------------------------------------------------------


def _of_driver(connection: Any) -> Caller | None:
    """A driver's own connection; its cursors give tuples, whatever it was told to give."""
    if isinstance(connection, sqlite3.Connection):

        def cursor() -> Any:
            made = connection.cursor()
            made.row_factory = None
            return made

        return Caller("sqlite", _with_placeholder("?", cursor), lambda: connection)
    if (psycopg := sys.modules.get("psycopg")) and isinstance(connection, psycopg.Connection):

        def of_tuples() -> Any:
            return connection.cursor(row_factory=psycopg.rows.tuple_row)

        return Caller("postgresql", _with_placeholder("%s", of_tuples), lambda: connection)
    if is_pymysql(connection):
        plain = sys.modules["pymysql.cursors"].Cursor
        run = _with_placeholder("%s", lambda: connection.cursor(plain))
        return Caller("mysql", run, lambda: connection)
    return None


def is_pymysql(connection: object) -> bool:
    """Whether it is a connection of PyMySQL's."""
    module = sys.modules.get("pymysql.connections")
    return module is not None and isinstance(connection, module.Connection)


def _with_placeholder(
    placeholder: str, cursor: Callable[[], Any]
) -> Callable[[str, Mapping[str, str], Mapping[str, Value]], list[tuple[Any, ...]]]:
    """Executes by a cursor, whose statements have this in the place of a value."""

    def execute(
        template: str, words: Mapping[str, str], values: Mapping[str, Value]
    ) -> list[tuple[Any, ...]]:
        statement = Statements(words, placeholder).get(template, values)
        made = cursor()
        try:
            made.execute(statement.text, statement.arguments(values))
            return [] if made.description is None else [tuple(row) for row in made.fetchall()]
        finally:
            made.close()

    return execute


# What is none -------------------------------------------------------------------------------------


def _hint(connection: object) -> str:
    names: Sequence[str] = [kind.__name__ for kind in type(connection).__mro__]
    module = sys.modules.get("sqlalchemy")
    if module is not None and isinstance(connection, module.Engine):
        return ": hand over a connection of the engine, in which the job has written"
    if any(name.startswith(("Async", "async_")) for name in names):
        return ": of one that is asynchronous, write `await connection.run_sync(turn.complete)`"
    return ""
