"""The records of a service, and the rows of its history, as the text that a storage keeps.

Everything is JSON in ASCII. A field that is None, or has its default, is left out, so that a text
is short, and so that a later version can add fields that an earlier one can do without. What
another version wrote and this one cannot read is a ``ValueError``, never a guess: each value must
be of its field's type, and a number less than 2**53, which a float holds exactly and which as
microseconds is the year 2255.

A record never changes, so a text is read once: the last records that were read are kept by their
texts, and so are the last ones that were written here. Whoever writes one will read it back.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache, lru_cache, partial
from itertools import pairwise
from operator import attrgetter
from types import NoneType
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

from turnwise.atomic_service import AtomicServiceExecutionStatus
from turnwise.gate import Command, CommandName, Execution, Gate, Pause, Row, Run, Success, Trigger
from turnwise.plan import CyclePlan, Plan, PlanRules

_T = TypeVar("_T")
_TOO_LARGE: Final = 2**53
_MOST_CYCLES: Final = 2

# Those of a hundred services. A plan that lists a thousand runners takes 0.4 MB with its text.
_MOST_READ: Final = 256


def plan_to_text(plan: Plan) -> str:
    """A plan as JSON, in ASCII."""
    return _keep(plan, _dumps(plan.cycles))


@lru_cache(maxsize=_MOST_READ)  # the same record is read by many, and by one many times
def plan_from_text(text: str) -> Plan:
    """Read what :func:`plan_to_text` wrote.

    Raises:
        ValueError: the text is no plan, such as one that another version of turnwise wrote.
    """
    return _kept(Plan, text) or _read("plan", text, _plan)


def gate_to_text(gate: Gate) -> str:
    """A gate as JSON, in ASCII."""
    return _keep(gate, _dumps(gate))


@lru_cache(maxsize=_MOST_READ)
def gate_from_text(text: str) -> Gate:
    """Read what :func:`gate_to_text` wrote.

    Raises:
        ValueError: the text is no gate, such as one that another version of turnwise wrote.
    """
    return _kept(Gate, text) or _read("gate", text, lambda stored: _made(Gate, stored))


def row_to_text(row: Row) -> str:
    """A row of the history as JSON, in ASCII."""
    return _dumps(row)


def row_from_text(text: str) -> Row:
    """Read what :func:`row_to_text` wrote.

    Raises:
        ValueError: the text is no row, such as one that another version of turnwise wrote.
    """
    return _read("row of a history", text, _row)


# Writing ------------------------------------------------------------------------------------------


def _written(value: object) -> dict[str, object]:
    """A dataclass as the encoder shall have it: what differs from the defaults."""
    of: Any = type(value)  # mypy does not take every type for hashable
    shape = _shape(of)
    return {
        name: each
        for name, each, default in zip(
            shape.names, shape.values(value), shape.defaults, strict=True
        )
        if each is not None and each != default
    }


# One for all: json.dumps makes an encoder for each text, which costs as much as a gate.
_dumps = json.JSONEncoder(separators=(",", ":"), default=_written).encode


# What was written here ----------------------------------------------------------------------------

_written_here: Final[dict[str, Plan | Gate]] = {}
_MOST_WRITTEN: Final = 64


def _keep(record: Plan | Gate, text: str) -> str:
    """Remember what was written as a text.

    Where there are too many all go at once: that is one step, whatever other threads do meanwhile.
    """
    if len(_written_here) >= _MOST_WRITTEN:
        _written_here.clear()
    _written_here[text] = record
    return text


def _kept(of: type[_T], text: str) -> _T | None:
    """What was written here as a text."""
    record = _written_here.get(text)
    return record if isinstance(record, of) else None


# Reading ------------------------------------------------------------------------------------------


def _read(what: str, text: str, reader: Callable[[Any], _T]) -> _T:
    try:
        return reader(json.loads(text))
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"no {what} in {text[:80]!r}: {error}") from None


def _plan(stored: Any) -> Plan:
    cycles = tuple(_made(CyclePlan, each) for each in stored)
    if not 1 <= len(cycles) <= _MOST_CYCLES:
        raise ValueError(f"it must have one cycle or two, and has {len(cycles)}")
    if any(before.end > after.start for before, after in pairwise(cycles)):
        raise ValueError("its cycles overlap")
    for cycle in cycles:
        _check_cycle(cycle)
    return Plan(cycles)


def _check_cycle(cycle: CyclePlan) -> None:
    """What the arithmetic of slots, and the decision, need."""
    if cycle.start >= cycle.end or cycle.due >= cycle.until:
        raise ValueError("a cycle and its period must start before they end")
    if not cycle.runners:
        raise ValueError("a cycle must have a runner")
    rules = cycle.rules
    if not 0 < rules.window <= 1 or min(rules.margin, rules.stabilization) < 0:
        raise ValueError(f"nobody can go by {rules}")


def _row(stored: Any) -> Row:
    return _made(Command, stored) if "name" in stored else _made(Execution, stored)


def _made(of: type[_T], stored: Mapping[str, Any]) -> _T:
    """The dataclass that was written so, each field of which has a value of its type."""
    hashable: Any = of  # mypy does not take a type variable for hashable
    shape = _shape(hashable)
    given: dict[str, Any] = dict(shape.left_out)
    for name, value in stored.items():
        reader = shape.readers.get(name)
        made = value if reader is None else reader(value)
        given[name] = _checked(name, made, shape.types.get(name, ()))
    return of(**given)


def _checked(name: str, value: Any, allowed: tuple[type, ...]) -> Any:
    # type() and not isinstance(): a bool is no number here.
    kind = type(value)
    if kind not in allowed or (kind is int and not -_TOO_LARGE < value < _TOO_LARGE):
        raise ValueError(f"{name} cannot be {value!r:.80}")
    return value


@dataclass(frozen=True, slots=True)
class _Shape:
    """What there is to know of a dataclass, worked out once.

    ``values`` gives the values of all fields of an instance. ``types`` are the types that each may
    have, by its name. ``left_out`` are the fields that have no default and are left out where they
    are None.
    """

    names: tuple[str, ...]
    values: Callable[[object], tuple[Any, ...]]
    defaults: tuple[object, ...]
    types: dict[str, tuple[type, ...]]
    left_out: dict[str, None]
    readers: dict[str, Callable[[Any], Any]]


@cache
def _shape(of: type) -> _Shape:
    names = tuple(field.name for field in fields(of))
    defaults = tuple(field.default for field in fields(of))
    hints = get_type_hints(of)
    types = {name: _allowed(hints[name]) for name in names}
    return _Shape(
        names,
        attrgetter(*names),
        defaults,
        types,
        {
            name: None
            for name, default in zip(names, defaults, strict=True)
            if default is MISSING and NoneType in types[name]
        },
        {name: reader for (owner, name), reader in _READERS.items() if owner is of},
    )


def _allowed(hint: Any) -> tuple[type, ...]:
    if get_origin(hint) is tuple:
        return (tuple,)
    if hint is float:
        return (float, int)
    return get_args(hint) or (hint,)


def _numbers(stored: Iterable[Any]) -> tuple[int, ...]:
    return tuple(_checked("a number", each, (int,)) for each in stored)


def _pairs(first: type, second: type, stored: Any) -> tuple[tuple[Any, Any], ...]:
    return tuple(
        (_checked("a pair's first", one, (first,)), _checked("a pair's second", other, (second,)))
        for one, other in stored
    )


_READERS: Final[dict[tuple[type, str], Callable[[Any], Any]]] = {
    (CyclePlan, "rules"): partial(_made, PlanRules),
    (CyclePlan, "runners"): partial(_pairs, str, int),
    (Gate, "open"): partial(_made, Run),
    (Gate, "served"): _numbers,
    (Gate, "attempts"): partial(_pairs, int, int),
    (Gate, "success"): partial(_made, Success),
    (Gate, "pause"): partial(_made, Pause),
    (Gate, "trigger"): partial(_made, Trigger),
    (Gate, "unsaid"): lambda stored: tuple(map(_row, stored)),
    (Execution, "status"): AtomicServiceExecutionStatus,
    (Command, "name"): CommandName,
}
