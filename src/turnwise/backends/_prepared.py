"""Statements that SQLite executes without SQLAlchemy's way of executing them.

SQLAlchemy writes the text, and says how each value goes in and comes out. What is left out is what
it does at every execution: to look the text up, and to make a context and a result of it. On a
server that is little beside a round trip. On a file it was several times what SQLite itself takes.
"""

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

_Conversion = Callable[[Any], Any] | None


class Answer(Protocol):
    """What comes of a statement; SQLAlchemy's own results are such."""

    @property
    def rowcount(self) -> int:
        """How many rows it wrote."""

    def one(self) -> Any:
        """Its one row."""

    def one_or_none(self) -> Any:
        """Its one row, None where it has none."""


class Prepared:
    """A statement whose text is known: for the dialect of one database."""

    def __init__(self, statement: sa.Select[Any] | sa.UpdateBase, dialect: sa.Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 (for the type checker)
        names = compiled.positiontup or []
        self._text = str(compiled)
        self._constants = {name: compiled.binds[name].value for name in names}
        self._inputs: list[tuple[str, _Conversion]] = [
            (name, compiled.binds[name].type.bind_processor(dialect)) for name in names
        ]
        columns = list(statement.exported_columns)
        row: Any = namedtuple("Row", [str(c.key) for c in columns])  # type: ignore[misc] # noqa: PYI024 (known at run time)
        self._row_of: Callable[[Iterable[object]], Any] = row._make
        self._outputs: list[_Conversion] = [c.type.result_processor(dialect, None) for c in columns]

    def execute(self, connection: sqlite3.Connection, values: Mapping[str, object]) -> "_Written":
        """Execute it with ``values``, which are named as its parameters are."""
        given = {**self._constants, **values}
        cursor = connection.execute(
            self._text,
            [given[name] if into is None else into(given[name]) for name, into in self._inputs],
        )
        rows = [
            self._row_of(
                value if out is None else out(value)
                for value, out in zip(row, self._outputs, strict=True)
            )
            for row in cursor.fetchall()
        ]
        return _Written(cursor.rowcount, rows)


class _Written:
    """The answer of a prepared statement; of no more than one row, as all of them are."""

    def __init__(self, rowcount: int, rows: list[Any]) -> None:
        self.rowcount, self._rows = rowcount, rows

    def one(self) -> Any:
        """See :class:`Answer`."""
        [row] = self._rows
        return row

    def one_or_none(self) -> Any:
        """See :class:`Answer`."""
        return self.one() if self._rows else None
