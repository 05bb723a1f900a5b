"""Storages that answer before a write is safe, and how each comes to lose what it acknowledged."""

import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Protocol

import psycopg
import redis
import sqlalchemy as sa

import servers
from faults.storages import url_of
from processes import command_line
from turnwise.storages.sql import SqlStorage
from turnwise.storages.sql.tables import NAMES


class Forgetful(Protocol):
    """A storage that goes back to what it was."""

    url: str

    def remember(self) -> None:
        """Keep all that was written until now."""

    def forget(self) -> None:
        """Lose all that came after, and answer again."""

    def stop(self) -> None:
        """End it."""


class RestoredFile:
    """A SQLite file that somebody puts back to a copy, while the runners have it open."""

    def __init__(self, folder: Path) -> None:
        self._path, self._copy = folder / "turns.db", folder / "copy.db"
        self.url = f"sqlite:///{self._path}"

    def remember(self) -> None:
        self._overwrite(self._copy, self._path)

    def forget(self) -> None:
        self._overwrite(self._path, self._copy)

    def stop(self) -> None:
        """There is no server to end."""

    @staticmethod
    def _overwrite(target: Path, source: Path) -> None:
        with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
            one.backup(other)


class AsynchronousPostgres:
    """PostgreSQL with ``synchronous_commit=off``, and a power cut.

    What writes its log is stopped, because it is a matter of luck how far it has come.
    """

    def __init__(self, folder: Path) -> None:
        self._server = servers.Postgres(folder)
        self.url = self._server.url
        with psycopg.connect(self.url, autocommit=True) as connection:
            # Nor may the one that writes pages ahead, because the log must be there before them.
            connection.execute("ALTER SYSTEM SET bgwriter_lru_maxpages = 0")
            connection.execute("ALTER SYSTEM SET synchronous_commit = off")
            connection.execute("SELECT pg_reload_conf()")

    def remember(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        (writer,) = [pid for pid in self._server.processes() if b"walwriter" in command_line(pid)]
        os.kill(writer, signal.SIGSTOP)

    def forget(self) -> None:
        self._server.kill()
        self._server.start()

    def stop(self) -> None:
        self._server.stop()


class RestoredMariadb:
    """MariaDB whose tables somebody puts back to what a backup holds."""

    def __init__(self, folder: Path) -> None:
        self.url = url_of("mariadb", folder)
        SqlStorage(self.url).close()  # which makes the tables
        parts = sa.make_url(self.url)
        names = [f"{parts.query['table_prefix']}{name}" for name in NAMES]
        self._copies = {name: f"{name}_copy" for name in names}
        address = parts.set(drivername="mysql+pymysql", query={})
        self._engine = sa.create_engine(address, poolclass=sa.NullPool)

    def remember(self) -> None:
        with self._engine.begin() as connection:
            for table, copy in self._copies.items():
                connection.exec_driver_sql(f"CREATE TABLE {copy} SELECT * FROM {table}")  # noqa: S608

    def forget(self) -> None:
        locks = ", ".join(f"{t} WRITE, {copy} READ" for t, copy in self._copies.items())
        with self._engine.begin() as connection:
            connection.exec_driver_sql(f"LOCK TABLES {locks}")
            for table, copy in self._copies.items():
                connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608
                connection.exec_driver_sql(f"INSERT INTO {table} SELECT * FROM {copy}")  # noqa: S608
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("UNLOCK TABLES")

    def stop(self) -> None:
        self._engine.dispose()


class SnapshotRedis:
    """Redis with snapshots and no log, and a power cut after the last one."""

    server: type[servers.Redis] = servers.Redis

    def __init__(self, folder: Path) -> None:
        self._server = self.server(folder, "--appendonly", "no")
        self.url = self._server.url

    def remember(self) -> None:
        with closing(redis.Redis.from_url(self.url.replace("valkey", "redis", 1))) as client:
            client.save()

    def forget(self) -> None:
        self._server.kill()
        self._server.start()

    def stop(self) -> None:
        self._server.stop()


class MemoryRedis(SnapshotRedis):
    """Redis without persistence, restarted."""

    def remember(self) -> None:
        """It can't."""


class SnapshotValkey(SnapshotRedis):
    """Valkey with snapshots and no log, and a power cut after the last one."""

    server = servers.Valkey


class MemoryValkey(MemoryRedis):
    """Valkey without persistence, restarted."""

    server = servers.Valkey


LOSE_THE_LAST: dict[str, Callable[[Path], Forgetful]] = {
    "sqlite": RestoredFile,
    "postgresql": AsynchronousPostgres,
    "mariadb": RestoredMariadb,
    "redis": SnapshotRedis,
    "valkey": SnapshotValkey,
}
LOSE_ALL: dict[str, Callable[[Path], Forgetful]] = {
    "redis": MemoryRedis,
    "valkey": MemoryValkey,
}
