"""A world without a network and without files: what opens a storage gets as far as its door."""

import socket
import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import psycopg
from psycopg.conninfo import make_conninfo

_connect_sqlite = sqlite3.connect


@contextmanager
def unconnected() -> Iterator[None]:
    """Let every way out of the process fail, as one to a host that is not there does."""
    before = [(owner, name, owner.__dict__.get(name)) for owner, name, _ in _DOORS]
    for owner, name, closed in _DOORS:
        setattr(owner, name, closed)
    try:
        yield
    finally:
        for owner, name, opened in before:
            if opened is None:  # it had been inherited
                delattr(owner, name)
            else:
                setattr(owner, name, opened)


def _nowhere(*_: object, **__: object) -> NoReturn:
    raise OSError("there is no way out")


def _no_postgres(
    *_: object, autocommit: bool, prepare_threshold: int | None, **options: str | int | None
) -> NoReturn:
    del autocommit, prepare_threshold
    make_conninfo("", **options)  # refuses what the driver itself would
    raise psycopg.OperationalError("there is no way out")


def _only_in_memory(name: str, **options: object) -> sqlite3.Connection:
    if name != "file::memory:":
        raise sqlite3.OperationalError("unable to open database file")
    return _connect_sqlite(name, **options)  # type: ignore[call-overload,no-any-return] # its own


def _without_certificates(*_: object, **__: object) -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


_DOORS: tuple[tuple[object, str, object], ...] = (
    (socket, "getaddrinfo", _nowhere),
    (socket.socket, "connect", _nowhere),
    (psycopg.Connection, "connect", _no_postgres),
    (sqlite3, "connect", _only_in_memory),
    (ssl, "create_default_context", _without_certificates),  # to read them takes long
)
