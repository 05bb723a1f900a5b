"""Where the keys of a TOML file stand: tomllib reads a file, and says of no key on which line.

A file that tomllib has read is a row of statements: a header such as ``[services.nightly]``, or a
key with its value. A statement is the fewest lines that are TOML by themselves; so tomllib itself
finds its end, and says which keys it has.
"""

import tomllib

Path = tuple[str, ...]
"""A key's path, such as ``("services", "nightly", "cron")``."""


def lines_of(text: str) -> dict[Path, int]:
    """The line, from 1, on which each key and each table of a TOML text stands first.

    Args:
        text: what tomllib can read.
    """
    found: dict[Path, int] = {}
    table: Path = ()
    lines = text.replace("\r\n", "\n").split("\n")
    at = 0
    while at < len(lines):
        statement, length = _statement(lines, at)
        if lines[at].lstrip().startswith("["):
            table = _deepest(statement)
            paths = [table[:depth] for depth in range(1, len(table) + 1)]
        else:
            paths = [(*table, *path) for path in _paths(statement)]
        for path in paths:
            found.setdefault(path, at + 1)
        at += length
    return found


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of a key, or of the nearest table around it; 1 where there is none."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _statement(lines: list[str], at: int) -> tuple[dict[str, object], int]:
    """The statement that begins on a line, and how many lines it has."""
    for length in range(1, len(lines) - at + 1):
        try:
            return tomllib.loads("\n".join(lines[at : at + length])), length
        except tomllib.TOMLDecodeError:
            continue
    return {}, len(lines) - at  # not what tomllib can read


def _deepest(statement: dict[str, object]) -> Path:
    """The path of a header: of tables that hold one another."""
    path: Path = ()
    inner: object = statement
    while inner:
        if isinstance(inner, list):  # of an array of tables
            inner = inner[0]
            continue
        assert isinstance(inner, dict)  # noqa: S101 (a header makes nothing else)
        (key,) = inner
        path, inner = (*path, key), inner[key]
    return path


def _paths(value: object, path: Path = ()) -> list[Path]:
    """The paths of all keys in a value, itself first."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += _paths(inner, (*path, key))
    return found
