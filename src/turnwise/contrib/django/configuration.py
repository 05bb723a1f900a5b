"""``settings.TURNWISE``: which storage, which group, and what else a project says."""

import difflib
import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from turnwise.contrib.django.databases import why_no_storage
from turnwise.durations import parse_duration
from turnwise.events import Observer
from turnwise.names import checked_name
from turnwise.storages.opening import FILE_VARIABLE, URL_VARIABLE

KEYS = ("database", "grace", "group", "may_run", "observers", "runner_id", "storage")
"""The keys of ``TURNWISE``."""

_DEFAULT_GRACE = "20s"


class Problem(NamedTuple):
    """What is wrong with the settings, as a system check says it."""

    number: int
    message: str
    hint: str | None = None


class Configuration(NamedTuple):
    """What ``TURNWISE`` says.

    Attributes:
        storage: the storage's URL; None for the environment's, or where there is a database.
        database: the alias in ``DATABASES`` of the database that is the storage, or None.
        group: the programs that share membership; None for the environment's, or ``default``.
        runner_id: this process; None for one of its own.
        grace: how long running functions get at a stop.
        may_run: whether this process takes turns.
        observers: callables that hear every event.
    """

    storage: str | None
    database: str | None
    group: str | None
    runner_id: str | None
    grace: timedelta
    may_run: bool
    observers: tuple[Observer, ...]


def configuration() -> Configuration:
    """What ``TURNWISE`` says.

    Raises:
        ImproperlyConfigured: it says what it cannot; the message has the first of the problems.
    """
    for problem in problems():
        raise ImproperlyConfigured(problem.message)
    given = _given()
    assert isinstance(given, Mapping)  # noqa: S101 (there is no problem)
    return Configuration(
        storage=given.get("storage"),
        database=_database(given),
        group=given.get("group"),
        runner_id=given.get("runner_id"),
        grace=_grace(given.get("grace", _DEFAULT_GRACE)),
        may_run=given.get("may_run", True),
        observers=tuple(_observer(each) for each in given.get("observers", ())),
    )


def problems() -> Iterator[Problem]:
    """All that is wrong with ``TURNWISE``, without asking a database."""
    given = _given()
    if not isinstance(given, Mapping):
        # It may be a URL with a password, and so is not shown.
        yield Problem(1, f"TURNWISE must be a dict, got one of type {type(given).__name__}")
        return
    for key in given:
        if key not in KEYS:
            yield _unknown(key)
    yield from _problems_of_storage(given)
    for key in ("group", "runner_id"):
        if given.get(key) is not None:
            yield from _problems_with(5, key, partial(checked_name, key), given[key])
    yield from _problems_with(6, "grace", _grace, given.get("grace", _DEFAULT_GRACE))
    if not isinstance(given.get("may_run", True), bool):
        yield Problem(7, f"TURNWISE['may_run'] must be True or False, got {given['may_run']!r}")
    observers = given.get("observers", ())
    if not isinstance(observers, list | tuple):
        yield Problem(8, f"TURNWISE['observers'] must be a list, got {observers!r}")
        return
    for each in observers:
        yield from _problems_with(8, "observers", _observer, each)


def _given() -> object:
    return getattr(settings, "TURNWISE", {})


def _database(given: Mapping[str, object]) -> str | None:
    """The alias of the database; the default one where nothing else names a storage."""
    if given.get("storage") is not None:
        return None
    if given.get("database") is None and (
        os.environ.get(URL_VARIABLE) or os.environ.get(FILE_VARIABLE)
    ):
        return None
    return str(given.get("database") or "default")


def _unknown(key: object) -> Problem:
    nearest = difflib.get_close_matches(str(key).lower(), KEYS, n=1, cutoff=0.75)
    hint = f"Did you mean {nearest[0]!r}?" if nearest else f"Known are {', '.join(KEYS)}."
    return Problem(2, f"TURNWISE has the unknown key {key!r}", hint)


def _problems_of_storage(given: Mapping[str, object]) -> Iterator[Problem]:
    storage, database = given.get("storage"), given.get("database")
    if storage is not None and database is not None:
        yield Problem(3, "TURNWISE has both 'storage' and 'database': one names the storage")
    elif storage is not None and not isinstance(storage, str):
        # A password may be in it.
        what = type(storage).__name__
        yield Problem(3, f"TURNWISE['storage'] must be a URL, got one of type {what}")
    elif (alias := _database(given)) is not None:
        why = why_no_storage(alias)
        if why is not None:
            yield Problem(4, f"TURNWISE['database'] is {alias!r}: {why}")


def _problems_with(number: int, key: str, check: object, value: object) -> Iterator[Problem]:
    assert callable(check)  # noqa: S101 (as all are)
    try:
        check(value)
    except (TypeError, ValueError, ImportError) as error:
        yield Problem(number, f"TURNWISE[{key!r}]: {error}")


def _grace(value: object) -> timedelta:
    if isinstance(value, str):
        return parse_duration(value)
    if not isinstance(value, timedelta):
        raise TypeError(f"grace must be a timedelta or a text such as '20s', got {value!r}")
    return value


def _observer(given: object) -> Observer:
    found = import_string(given) if isinstance(given, str) else given
    if not callable(found):
        raise TypeError(f"an observer must be callable, or the dotted path of one, got {given!r}")
    return found  # type: ignore[no-any-return] # nobody can know what it takes
