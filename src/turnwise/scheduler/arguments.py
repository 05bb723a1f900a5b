"""What a program hands to a scheduler, checked before anything is done with it."""

import math
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import cast

from turnwise.durations import duration_of
from turnwise.events import Observer
from turnwise.scheduler.knobs import Duration
from turnwise.storages import Storage

_OPERATIONS = tuple(name for name in vars(Storage) if not name.startswith("_"))


def checked_source(source: object) -> Storage | str | Callable[[], Storage] | None:
    """Where a scheduler has its storage from.

    Raises:
        TypeError: it is neither a storage, nor a URL, nor a function that opens one, nor None.
    """
    if source is None or isinstance(source, str) or callable(source):
        return source
    return checked_storage(source, "a storage, its URL, or a function that opens one")


def checked_storage(storage: object, allowed: str) -> Storage:
    """A storage that is open: it has all the operations of one.

    Args:
        storage: what was given, or what was opened.
        allowed: what may be given, for the error.

    Raises:
        TypeError: it is none.
    """
    missing = [name for name in _OPERATIONS if not hasattr(storage, name)]
    if missing:
        lacks = f", which lacks {', '.join(missing)}" if len(missing) < len(_OPERATIONS) else ""
        # Not as it is: a URL in bytes, or what holds one, may have a password.
        raise TypeError(f"storage must be {allowed}, got {type(storage).__name__}{lacks}")
    return cast("Storage", storage)


def checked_observers(observers: object) -> tuple[Observer, ...]:
    """Callables that hear every event.

    Raises:
        TypeError: it is no series of callables.
    """
    if isinstance(observers, str) or not isinstance(observers, Iterable):
        raise TypeError(f"observers must be a list of callables, got {observers!r}")
    every = tuple(observers)
    for each in every:
        if not callable(each):
            raise TypeError(f"observers must be callables, got {each!r}")
    return every


def checked_flag(name: str, value: object) -> bool:
    """An argument that is True or False.

    Raises:
        TypeError: it is neither.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def seconds_of(name: str, value: Duration | float) -> float:
    """Seconds that are given as a number, as a timedelta or as a text, for the argument ``name``.

    Raises:
        TypeError: it is none of these.
        ValueError: it is negative or not finite, or the text is no duration.
    """
    if isinstance(value, timedelta | str):
        seconds = duration_of(name, value).total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = _as_float(value)
    else:
        raise TypeError(
            f"{name} must be seconds, a timedelta or a text such as '5m', got {value!r}"
        )
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{name} must be finite, and not negative, got {value!r}")
    return seconds


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of more than three hundred digits
        return math.inf
