"""The storages under test, each fresh, and with a clock that the test moves by hand.

A further storage joins by one more entry of ``SHARED``.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar
from uuid import uuid4

import sqlalchemy as sa

import servers
from turnwise.conformance import Clock, Opener
from turnwise.storages import Storage
from turnwise.storages.memory import MemoryStorage
from turnwise.storages.redis import RedisStorage
from turnwise.storages.sql import SqlStorage
from turnwise.storages.sql.connect import Session
from turnwise.storages.sql.tables import NAMES


class Known(SqlStorage):
    """An SQL storage that looks through a server's tables once in this process, and never again.

    To see that they are whole takes ten questions, which is most of what a test would cost.
    """

    _seen: ClassVar[set[str]] = set()

    def _require_tables(self, session: Session, *, may_create: bool) -> None:
        shown = f"{self._address.shown} {self._address.prefix} {self._address.schema}"
        if self._address.kind == "sqlite" or shown not in self._seen:
            super()._require_tables(session, may_create=may_create)
            self._seen.add(shown)


def _without_keys(server: servers.Server) -> str:
    """The URL of a part of a server's keys that nobody has used yet."""
    return f"{server.url}?key_prefix={uuid4().hex}"


def without_rows(server: servers.Server) -> str:
    """The URL of a server on which no row is left from the test before."""
    storage = Known(server.url)  # which makes the tables where they are missing
    storage.close()
    with _engine(server.url).begin() as connection:
        for name in NAMES:
            if name != "schema":
                connection.execute(sa.delete(sa.table(f"turnwise_{name}")))
    return server.url


@cache
def _engine(url: str) -> sa.Engine:
    parts = sa.make_url(url)
    driver = "postgresql+psycopg" if parts.drivername == "postgresql" else "mysql+pymysql"
    return sa.create_engine(parts.set(drivername=driver), poolclass=sa.NullPool)


_FRESH: dict[str, tuple[Callable[..., Storage], Callable[[Path], str]]] = {}
"""For each storage that processes can share: its class, and the URL of an empty one."""
_FRESH["sqlite-file"] = SqlStorage, lambda folder: f"sqlite:///{folder / 'turns.db'}"
_FRESH["postgresql"] = SqlStorage, lambda _: without_rows(servers.postgres())
if servers.mariadb_is_here():
    _FRESH["mariadb"] = SqlStorage, lambda _: without_rows(servers.mariadb())
if servers.redis_executable() is not None:
    _FRESH["redis"] = RedisStorage, lambda _: _without_keys(servers.redis())
if servers.valkey_executable() is not None:
    _FRESH["valkey"] = RedisStorage, lambda _: _without_keys(servers.valkey())


def _file_with_tables(folder: Path) -> str:
    """The URL of a file with the tables alone: to copy it is a tenth of making them."""
    file = folder / "turns.db"
    file.write_bytes(_tables())
    return f"sqlite:///{file}"


@cache
def _tables() -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "turns.db"
        SqlStorage(f"sqlite:///{file}").close()
        return file.read_bytes()


def _opened(name: str) -> Callable[[Clock, Path], Storage]:
    kind, url = _FRESH[name]
    known = Known if kind is SqlStorage else kind
    return lambda clock, folder: known(url(folder), clock=clock)


def _opener(name: str) -> Callable[[Path], Opener]:
    kind, url = _FRESH[name]
    return lambda folder: partial(kind, url(folder))


STORAGES: dict[str, Callable[[Clock, Path], Storage]] = {
    "memory": lambda clock, _: MemoryStorage(clock=clock),
    "sqlite-memory": lambda clock, _: SqlStorage("sqlite://", clock=clock),
    **{name: _opened(name) for name in _FRESH},
    "sqlite-file": lambda clock, folder: SqlStorage(_file_with_tables(folder), clock=clock),
}
"""How each storage is opened, empty, with a clock and a fresh folder."""

SHARED: dict[str, Callable[[Path], Opener]] = {name: _opener(name) for name in _FRESH}
"""What opens one empty storage in any process."""
