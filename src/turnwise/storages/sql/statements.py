"""From the text of a statement to what a driver takes.

A statement is written once, for all databases: ``{name}`` is a table, or a word of the database's
own dialect; ``:name`` is a value. A value that is a tuple becomes a list of values, padded by
repeating its last one to 1, 2, 4, ... of them, so that there are few texts to prepare.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

Value = str | int | None | tuple[str | int, ...]

_WRITES = re.compile(r"\b(?:INSERT|UPDATE|DELETE)\b")
PARAMETER = re.compile(r":([a-z_]+[0-9]*)")

_PLAIN = {
    "or_keep": "ON CONFLICT DO NOTHING",
    "told": "",
    "row": "",
    "end_of_row": "",
    "at_once": "",
}
WORDS = {
    "sqlite": _PLAIN,
    "postgresql": _PLAIN,
    "mysql": {
        # It changes nothing. IGNORE would also keep what does not fit, in part.
        "or_keep": "ON DUPLICATE KEY UPDATE group_name = VALUES(group_name)",
        "told": "LAST_INSERT_ID",  # a function whose value is told beside the answer
        # A comment for MySQL, and for MariaDB not to wait for a row that is locked.
        "at_once": "/*M!100300 SET STATEMENT innodb_lock_wait_timeout = 0 FOR */",
        # Its driver takes longer over the columns of a row than the server over the row.
        "row": "JSON_ARRAY(",
        "end_of_row": ")",
    },
}
"""Where the dialects differ: what stands for a word in braces."""


@dataclass(frozen=True)
class Statement:
    """A text, and which value goes where: a name, or a name and a position in its tuple.

    ``reads`` says that the statement changes nothing, so that it may be sent again.
    """

    text: str
    places: tuple[tuple[str, int | None], ...]
    reads: bool

    @cached_property
    def name(self) -> bytes:
        """A name that no other text has: two clients of one pooler must not mix them up."""
        return b"turnwise_" + sha256(self.encoded).hexdigest()[:24].encode()

    @cached_property
    def encoded(self) -> bytes:
        """The text as it is sent."""
        return self.text.encode()

    @cached_property
    def reads_host_clock(self) -> bool:
        """Whether it is handed the host's clock."""
        return ("now", None) in self.places

    def arguments(self, values: Mapping[str, Value]) -> list[str | int | None]:
        """The values in the order of their places."""
        return [_at(values[name], position) for name, position in self.places]


def _at(value: Value, position: int | None) -> str | int | None:
    if isinstance(value, tuple):
        assert position is not None  # noqa: S101 (for the type checker)
        return value[min(position, len(value) - 1)] if value else None
    return value


class Statements:
    """The statements of one storage, each rendered when it is first asked for.

    Args:
        words: what stands for each ``{name}``.
        placeholder: ``?``, ``%s`` or ``$``, which is numbered.
    """

    def __init__(self, words: Mapping[str, str], placeholder: str) -> None:
        self._words, self._placeholder = words, placeholder
        self._rendered: dict[tuple[str, tuple[int, ...]], Statement] = {}

    def get(self, template: str, values: Mapping[str, Value]) -> Statement:
        """The statement for a text and for values of this shape."""
        sizes = tuple([_padded(v) for v in values.values() if isinstance(v, tuple)])
        statement = self._rendered.get((template, sizes))
        if statement is None:
            statement = self._rendered[template, sizes] = self._render(template, values)
        return statement

    def _render(self, template: str, values: Mapping[str, Value]) -> Statement:
        places: list[tuple[str, int | None]] = []

        def placed(name: str, position: int | None) -> str:
            places.append((name, position))
            return f"${len(places)}" if self._placeholder == "$" else self._placeholder

        def parameter(match: re.Match[str]) -> str:
            name = match[1]
            value = values.get(name)
            if not isinstance(value, tuple):
                return placed(name, None)
            return ", ".join(placed(name, position) for position in range(_padded(value)))

        text = " ".join(template.format_map(self._words).split())
        if self._placeholder == "%s":
            text = text.replace("%", "%%")
        text = PARAMETER.sub(parameter, text)
        return Statement(text, tuple(places), reads=not _WRITES.search(template))


def _padded(values: Sequence[object]) -> int:
    return 1 << max(0, len(values) - 1).bit_length()
