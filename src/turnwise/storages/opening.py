"""From a URL to the storage that it names.

Others can add storages: a package names, in the group ``turnwise.storages`` of its entry points,
what opens the URLs of a scheme. In its ``pyproject.toml``::

    [project.entry-points."turnwise.storages"]
    etcd = "turnwise_etcd:EtcdStorage"

Then ``open_storage("etcd://host:2379")`` calls ``EtcdStorage("etcd://host:2379")``. The schemes of
turnwise itself cannot be taken over.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from turnwise.errors import MissingExtraError
from turnwise.storages import Storage
from turnwise.storages.urls import check_spelling, without_password

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = [
    "ENTRY_POINTS",
    "FILE_VARIABLE",
    "URL_VARIABLE",
    "check_url",
    "open_storage",
    "url_in_file",
    "url_of_the_environment",
]

URL_VARIABLE = "TURNWISE_STORAGE"
"""The environment variable that holds the URL where none is given."""

FILE_VARIABLE = "TURNWISE_STORAGE_FILE"
"""The environment variable that names a file with the URL in it, such as a mounted secret."""

ENTRY_POINTS = "turnwise.storages"
"""The group of entry points by which other packages add storages: scheme, what opens its URLs."""

_SQL_SCHEMES = ("sqlite", "postgresql", "postgres", "mysql", "mariadb")
_REDIS_SCHEMES = ("redis", "rediss", "valkey", "valkeys", "unix")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_LOOKS_LIKE_A_URL = re.compile(rf"memory:|{_SCHEME.pattern}:/")


def open_storage(
    url: str | None = None,
    *,
    engine: "Engine | AsyncEngine | None" = None,
    create_tables: bool = True,
) -> Storage:
    """Open the storage that ``url``, ``engine`` or the environment names.

    ========================================  ====================================================
    ``memory:``                               a fresh one within this process
    ``sqlite:///turns.db``                    a file beside the working directory
    ``sqlite:////var/lib/turns.db``           a file with an absolute path
    ``postgresql://user:password@host/name``  PostgreSQL; ``postgres:`` as well
    ``mysql://...``, ``mariadb://...``        MySQL and MariaDB
    ``redis://host:6379/0``, ``rediss://``    Redis; ``valkey:``, ``valkeys:``, ``unix:`` as well
    ========================================  ====================================================

    A driver after a plus, such as ``postgresql+asyncpg:``, names the same database. What other
    schemes there are depends on the packages that are installed (:data:`ENTRY_POINTS`).

    Args:
        url: the storage's URL. Where it is None, and no engine is given, it is the value of
            ``TURNWISE_STORAGE``, or else the text of the file that ``TURNWISE_STORAGE_FILE``
            names. A variable that is empty counts as one that is not set.
        engine: an SQLAlchemy engine, in the place of a URL. Where its driver is one of ours
            (psycopg, PyMySQL), the engine makes the connections. Of any other engine, such as an
            asynchronous one, the URL alone is used, and not its ``connect_args`` or ``creator``.
        create_tables: whether an SQL storage may create what is missing, a file or a table. What
            is missing is an error otherwise.

    Raises:
        TypeError: ``url`` is no text, or is given beside an engine.
        ValueError: the URL is malformed, no storage has its scheme, or nothing names a URL.
        MissingExtraError: the storage needs an extra, or a package, that is not installed.
        StorageError: the storage does not answer, or is none.
    """
    if engine is not None:
        if url is not None:
            raise TypeError("url and engine were given: one of the two names the storage")
        return _open_sql(None, engine, create_tables=create_tables)
    if url is None:
        url = url_of_the_environment()
    if not isinstance(url, str):
        raise TypeError(f"url must be text, such as 'sqlite:///turns.db', got {type(url).__name__}")
    check_spelling(url)
    scheme, _, rest = url.partition(":")
    database = scheme.partition("+")[0]
    if scheme == "memory" and not rest.strip("/"):
        from turnwise.storages.memory import MemoryStorage  # noqa: PLC0415 (only when asked for)

        return MemoryStorage()
    if database in _SQL_SCHEMES:
        return _open_sql(url, None, create_tables=create_tables)
    if scheme in _REDIS_SCHEMES:
        from turnwise.storages.redis import RedisStorage  # noqa: PLC0415 (needs an extra)

        return RedisStorage(url)
    return _open_other(url, scheme)


def check_url(url: str) -> None:
    """Refuse a URL that no storage can have, without opening one.

    Raises:
        ValueError: the URL is malformed, or no storage has its scheme.
    """
    check_spelling(url)
    scheme, _, rest = url.partition(":")
    is_ours = scheme.partition("+")[0] in _SQL_SCHEMES or scheme in _REDIS_SCHEMES
    if not is_ours and (scheme != "memory" or rest.strip("/")):
        _entry_point(url, scheme)


def _open_sql(
    url: str | None, engine: "Engine | AsyncEngine | None", *, create_tables: bool
) -> Storage:
    from turnwise.storages.sql import SqlStorage  # noqa: PLC0415 (needs an extra)

    return SqlStorage(url, engine=engine, create_tables=create_tables)


def url_of_the_environment() -> str:
    """The URL that the environment names.

    Raises:
        ValueError: it names none, names two, or names a file that holds none.
    """
    url, path = os.environ.get(URL_VARIABLE, ""), os.environ.get(FILE_VARIABLE, "")
    if url and path:
        raise ValueError(f"{URL_VARIABLE} and {FILE_VARIABLE} are set: set one of the two")
    if url:
        return url
    if not path:
        raise ValueError(
            f"no storage is named: give a URL, such as 'sqlite:///turns.db', or set {URL_VARIABLE} "
            f"to it, or {FILE_VARIABLE} to the path of a file with it"
        )
    return url_in_file(path, named_by=FILE_VARIABLE)


def url_in_file(path: str, *, named_by: str) -> str:
    """The URL that is a file's whole text, such as a mounted secret's.

    Args:
        path: the file's.
        named_by: what names the file; the error says it.

    Raises:
        ValueError: it cannot be read, or holds no URL.
    """
    shown = without_password(path)  # where it is the URL itself, by mistake
    try:
        text = Path(path).read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:  # the latter where it is no text
        why = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise ValueError(f"{named_by} names {shown!r}, which cannot be read: {why}") from None
    # What is in it may be a password alone, and so is not shown.
    if not _LOOKS_LIKE_A_URL.match(text) or not text.isprintable():
        raise ValueError(f"{named_by} names {shown!r}: no URL of a storage is in it")
    return text


def _open_other(url: str, scheme: str) -> Storage:
    """Open a storage of another package."""
    return _factory(_entry_point(url, scheme))(url)


def _entry_point(url: str, scheme: str) -> "EntryPoint":
    """What opens storages of a scheme; the whole one counts, or its part before a plus."""
    from importlib.metadata import entry_points  # noqa: PLC0415 (slow, and seldom needed)

    others = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    point = others.get(scheme) or others.get(scheme.partition("+")[0])
    if point is not None:
        return point
    is_named = ":" in url and _SCHEME.fullmatch(scheme)  # or it may hold a password
    what = f"has the scheme {scheme!r}" if is_named else "is named without a scheme"
    if scheme == "memory":
        what = "in memory has a name"
    known = ", ".join(f"{name}:" for name in ("memory", *_SQL_SCHEMES, *_REDIS_SCHEMES, *others))
    shown = without_password(url)
    raise ValueError(f"storage {shown!r}: no storage {what}; known are {known}")


def _factory(point: "EntryPoint") -> Callable[[str], Storage]:
    try:
        factory: Callable[[str], Storage] = point.load()
    except (ImportError, AttributeError) as error:
        raise MissingExtraError(
            f"storages of the scheme {point.name!r} need {point.value}, which cannot be "
            f"imported: {error}"
        ) from error
    return factory
