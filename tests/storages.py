"""The storages under test, each fresh and with a clock that the test moves by hand.

A further backend joins by one more entry of ``STORAGES``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import servers
from turnwise import Backend, open_backend
from turnwise.backends._database import Database
from turnwise.backends.memory import MemoryBackend
from turnwise.backends.redis import RedisBackend
from turnwise.backends.sql import SqlBackend
from turnwise.testing import Clock, Opener


def emptied(server: servers.Server) -> str:
    """The URL of a server on which no table is left from the test before."""
    database = Database(server.url, may_create=True, clock=None)
    with database.connection() as connection:
        for table in database.tables.metadata.sorted_tables:
            connection.execute(table.delete())
    database.close()
    return server.url


SHARED: dict[str, Callable[[Path], str]] = {
    "sqlite-file": lambda folder: f"sqlite:///{folder / 'turns.db'}",
    "postgresql": lambda _: emptied(servers.postgres()),
}
"""The URLs of fresh storages that several processes can share."""
if servers.redis_executable() is not None:
    SHARED["redis"] = lambda _: f"{servers.redis().url}?key_prefix={uuid4().hex}"
if servers.mariadb_is_here():
    SHARED["mariadb"] = lambda _: emptied(servers.mariadb())


def _opened(url: Callable[[Path], str]) -> Callable[[Clock, Path], Backend]:
    def open_it(clock: Clock, folder: Path) -> Backend:
        named = url(folder)
        kind = RedisBackend if named.startswith("redis:") else SqlBackend
        return kind(named, clock=clock)

    return open_it


STORAGES: dict[str, Callable[[Clock, Path], Backend]] = {
    "memory": lambda clock, _: MemoryBackend(clock),
    "sqlite-memory": lambda clock, _: SqlBackend("sqlite://", clock=clock),
    **{name: _opened(url) for name, url in SHARED.items()},
}


@contextmanager
def fresh(storage: str, clock: Clock) -> Iterator[Backend]:
    """An empty storage, closed and removed afterwards."""
    with TemporaryDirectory() as folder:
        backend = STORAGES[storage](clock, Path(folder))
        try:
            yield backend
        finally:
            backend.close()


def opener(storage: str, folder: Path) -> Opener:
    """What opens one empty storage in any process."""
    return partial(open_backend, SHARED[storage](folder))
