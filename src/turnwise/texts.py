"""The records of a service, and the rows of its history, as the text that a storage keeps.

Everything is JSON in ASCII. A field that has its default is left out, so that a text is short, and
so that a later version can add fields. What another version wrote and this one cannot read is a
``ValueError``, never a guess.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from functools import lru_cache
from typing import Any, TypeVar, cast

from turnwise.atomic_service import AtomicServiceExecutionStatus
from turnwise.gate import Command, CommandName, Execution, Gate, Pause, Row, Run, Success, Trigger
from turnwise.plan import CyclePlan, Plan, PlanRules

_T = TypeVar("_T")
_Stored = dict[str, Any]  # what json.loads makes of an object


def plan_to_text(plan: Plan) -> str:
    """A plan as JSON, in ASCII."""
    return _dumps([asdict(cycle) for cycle in plan.cycles])


@lru_cache(maxsize=4096)  # the same record is read by many, and by one many times
def plan_from_text(text: str) -> Plan:
    """Read what :func:`plan_to_text` wrote.

    Raises:
        ValueError: the text is no plan, such as one that another version of turnwise wrote.
    """
    return _read("plan", text, lambda stored: Plan(tuple(map(_cycle, stored))))


def gate_to_text(gate: Gate) -> str:
    """A gate as JSON, in ASCII."""
    return _dumps(
        {
            field.name: _plain(value)
            for field in fields(gate)
            if (value := getattr(gate, field.name)) != field.default
        }
    )


@lru_cache(maxsize=4096)
def gate_from_text(text: str) -> Gate:
    """Read what :func:`gate_to_text` wrote.

    Raises:
        ValueError: the text is no gate, such as one that another version of turnwise wrote.
    """
    return _read("gate", text, _gate)


def row_to_text(row: Row) -> str:
    """A row of the history as JSON, in ASCII."""
    return _dumps(_plain(row))


def row_from_text(text: str) -> Row:
    """Read what :func:`row_to_text` wrote.

    Raises:
        ValueError: the text is no row, such as one that another version of turnwise wrote.
    """
    return _read("row of a history", text, _row)


def _dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _read(what: str, text: str, reader: Callable[[Any], _T]) -> _T:
    try:
        return reader(json.loads(text))
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"no {what} in {text[:80]!r}: {error}") from None


def _plain(value: object) -> object:
    if isinstance(value, Run | Execution | Command | Pause | Trigger | Success):
        return {name: each for name, each in asdict(value).items() if each is not None}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value


def _cycle(stored: _Stored) -> CyclePlan:
    runners = tuple((name, joined) for name, joined in stored["runners"])
    return CyclePlan(**(stored | {"rules": PlanRules(**stored["rules"]), "runners": runners}))


def _gate(stored: _Stored) -> Gate:
    return Gate(**{name: _GATE.get(name, _as_it_is)(value) for name, value in stored.items()})


def _as_it_is(stored: Any) -> Any:
    return stored


_GATE: dict[str, Callable[[Any], Any]] = {
    "open": lambda stored: Run(**({"key": None} | stored)),
    "served": tuple,
    "attempts": lambda stored: tuple((key, count) for key, count in stored),
    "success": lambda stored: Success(**stored),
    "pause": lambda stored: Pause(**stored),
    "trigger": lambda stored: Trigger(**stored),
    "unsaid": lambda stored: tuple(map(_row, stored)),
}
_LEFT_OUT = dict.fromkeys(("ended_at", "token", "slot_start", "slot_end", "position"))


def _row(stored: _Stored) -> Row:
    if "name" in stored:
        return Command(**(stored | {"name": CommandName(stored["name"])}))
    status = AtomicServiceExecutionStatus(stored["status"])
    return Execution(**cast("_Stored", _LEFT_OUT | stored | {"status": status}))
