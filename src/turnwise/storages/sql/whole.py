"""Whether a file of SQLite's has the tables as this version makes them, seen at one look.

SQLite keeps the text of each statement that has made a table or an index. Where these texts are
those of this version, word for word, the tables have every column and key that the storage's
promises rest on. Then nothing needs to be inspected, and SQLAlchemy, which takes longer to import
than all else that a command of ``turnwise`` does, is not needed at all. Where a text differs, that
says nothing: :func:`turnwise.storages.sql.schema.open_tables` looks closer then.
"""

import hashlib
import sqlite3
from typing import Final

from turnwise.storages.sql.address import Address
from turnwise.storages.sql.naming import NAMES, OLD, VERSION, table_name

MADE: Final = "ad9b67249481cbb78bb942a3b49e1865d469881f3744f919be2ebb577a2029e7"
"""The digest of the statements that this version makes its tables by, for any prefix."""


def is_whole(raw: sqlite3.Connection, address: Address) -> bool:
    """Whether all tables are there, word for word as they are made, and of this version.

    Args:
        raw: a connection to the file.
        address: whose tables to look for.
    """
    try:
        if digest_of(raw, address.prefix) != MADE:
            return False
        rows = raw.execute(f"SELECT version FROM {table_name(address, 'schema')}").fetchall()  # noqa: S608 (our own names)
    except sqlite3.Error:  # a closer look says what it is
        return False
    return rows == [(VERSION,)]


def digest_of(raw: sqlite3.Connection, prefix: str) -> str:
    """The digest of the statements that have made the tables with a prefix, and their indexes.

    Tables of turnwise 0.1 with the same prefix count, too: a file with both is not whole.
    """
    tables = [prefix + name for name in (*NAMES, *OLD)]
    marks = ", ".join("?" * len(tables))
    rows = raw.execute(
        f"SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name IN ({marks}) "  # noqa: S608 (marks alone)
        "ORDER BY name",
        tables,
    ).fetchall()
    texts = [" ".join(str(text).split()).replace(prefix, "{prefix}") for (text,) in rows]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
