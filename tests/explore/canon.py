"""A state as one hashable value, in which names have no meaning but which of them are equal.

Two states that differ only in the names of runs and versions have the same future. So each value
is taken apart into its *shape*, with every name cut out, and the names in the order in which they
stand. Two states are one where their shapes are equal and their names repeat in the same places.

What nobody asks for any more has no part in a shape: when a run that is closed began and ended,
whose it was, and when the last success was (:data:`HISTORY`). Of a group's revision all that counts
is whether it is the one that was known, so that it is a name as well (:func:`revision`).

Values that never change (records, frozen dataclasses, texts) are taken apart once and remembered.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, Final

from explore.names import NAME
from turnwise.actions import Seen
from turnwise.gate import Execution, Success
from turnwise.storages import Beat, Entry, Pulse, Record, Sight
from turnwise.texts import gate_from_text

Shape = Hashable
Parts = tuple[Shape, tuple[str, ...]]
"""The shape of a value, and the names in it."""

HISTORY: Final[dict[type, frozenset[str]]] = {
    Execution: frozenset(f.name for f in fields(Execution)) - {"id", "status", "reason"},
    Success: frozenset({"at"}),
    Entry: frozenset({"at", "body"}),
}
"""The fields that say nothing but what was; no rule reads them."""

_HAVE_A_REVISION = (Pulse, Seen)
_ATOMS: Final = frozenset({int, type(None), bool, float})
_EMPTY: Final[Parts] = (("tuple",), ())
_known: dict[int, tuple[object, Parts]] = {}
_MOST_KNOWN = 400_000
_getters: dict[type, Callable[[Any], tuple[Any, ...]]] = {}


def canonical(parts: Sequence[Parts | None]) -> int:
    """The state that is made of these parts, as a number of 64 bits."""
    order: dict[str, int] = {}
    rename = order.setdefault
    shapes = tuple([None if part is None else part[0] for part in parts])
    renamed = [rename(n, len(order)) for part in parts if part is not None for n in part[1]]
    return hash((shapes, tuple(renamed)))


def revision(number: int | None) -> str | None:
    """A group's revision as a name: which ones are equal is all that counts."""
    return None if number is None else f"<revision.0.{number}>"


def beat_name(life: str, count: int | None) -> str | int | None:
    """A count of heartbeats as a name; none, and one that does not name the run, as they are."""
    return f"<beat-{life}.{count}>" if count else count


def life_of(run_id: str) -> str:
    """The life that has given a run its id."""
    return run_id.strip("<>").rpartition(".")[0]


def parts_of(value: Any) -> Parts:
    """A value's shape and its names."""
    kind = value.__class__
    if kind in _ATOMS:
        return value, ()
    if kind is str:
        return _text(value)
    if kind is tuple:
        return joined(("tuple", *value)) if value else _EMPTY
    known = _known.get(id(value))
    if known is not None and known[0] is value:
        return known[1]
    parts, is_frozen = _take_apart(value)
    if is_frozen:
        if len(_known) > _MOST_KNOWN:
            _known.clear()
        _known[id(value)] = (value, parts)
    return parts


@lru_cache(maxsize=200_000)
def _text(text: str) -> Parts:
    names = NAME.findall(text)
    return (NAME.sub("<>", text) if names else text), tuple(names)


def _take_apart(value: Any) -> tuple[Parts, bool]:
    """A value's parts, and whether it never changes."""
    if isinstance(value, Enum):
        return (value, ()), True
    if isinstance(value, frozenset | set):
        # Sets are of names or of tuples of atoms: their order must not depend on names' numbers.
        return joined(sorted(value, key=lambda each: (str(parts_of(each)[0]), str(each)))), False
    if isinstance(value, dict):
        return joined([part for key in sorted(value) for part in (key, value[key])]), False
    if isinstance(value, tuple):
        return joined((type(value).__name__, *value)), False
    if isinstance(value, partial):
        return joined((value.func.__qualname__, dict(value.keywords))), True
    if is_dataclass(value):
        return joined(_fields_of(value)), _is_frozen(type(value))
    if callable(value):
        return (value.__qualname__, ()), True
    raise TypeError(f"{value!r} has no shape")


def _fields_of(value: Any) -> tuple[Any, ...]:
    """What is said of a dataclass: its kind, and its fields but for those that nobody asks for."""
    if isinstance(value, Record):
        is_gate = value.body.startswith("{")
        return (value.version, gate_from_text(value.body) if is_gate else value.body)
    if isinstance(value, Beat):
        count = beat_name(f"{value.runner_id}.{value.boot_id}", value.count)
        return ("Beat", value.runner_id, value.boot_id, count, value.runs)
    if isinstance(value, Sight):
        word = beat_name(life_of(value.owner.run_id), value.word)
        return ("Sight", value.owner, word, value.left)
    each = _getter(type(value))(value)
    if isinstance(value, _HAVE_A_REVISION):
        return (*each, revision(value.revision))
    return each


def _is_frozen(kind: Any) -> bool:
    return bool(kind.__dataclass_params__.frozen)


def _getter(kind: type) -> Callable[[Any], tuple[Any, ...]]:
    """What reads the fields of a kind; made once."""
    if (known := _getters.get(kind)) is not None:
        return known
    left_out = HISTORY.get(kind, frozenset())
    if issubclass(kind, _HAVE_A_REVISION):
        left_out |= {"revision"}
    names: Any = fields(kind)
    get = [attrgetter(f.name) for f in names if f.name not in left_out]
    _getters[kind] = read = lambda value: (kind.__name__, *[one(value) for one in get])
    return read


def joined(values: Sequence[Any]) -> Parts:
    """The parts of several values, one after the other."""
    shapes: list[Shape] = []
    names: list[str] = []
    for value in values:
        kind = value.__class__
        if kind in _ATOMS:
            shapes.append(value)
            continue
        shape, its = _text(value) if kind is str else parts_of(value)
        shapes.append(shape)
        if its:
            names += its
    return tuple(shapes), tuple(names)
