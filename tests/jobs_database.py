"""The databases that a job and the storage share, and the ways in which a job is connected."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pymysql
import sqlalchemy as sa
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

import servers
from opened import Known
from records import opened, run_of
from turnwise.gate import Gate, Run, new_gate
from turnwise.machine import owner_of
from turnwise.scheduler.exactly_once import ExactlyOnce
from turnwise.storages import Kind, Record
from turnwise.texts import gate_from_text, gate_to_text

SERVICE = "invoice"
KEY = 600_000_000
TABLE = "CREATE TABLE IF NOT EXISTS effects (due BIGINT NOT NULL, note VARCHAR(40) NOT NULL)"
EFFECT = "INSERT INTO effects (due, note) VALUES ({}, '{}')"

NAMES = ["sqlite", "postgresql", *(["mariadb"] if servers.mariadb_is_here() else [])]


@dataclass(frozen=True)
class Database:
    """A database that turnwise's tables and the job's are in."""

    name: str
    url: str

    @property
    def engine(self) -> sa.Engine:
        """SQLAlchemy's connections to it."""
        return _engine(self.url)

    def raw(self, **options: Any) -> Any:
        """A connection of the driver's own."""
        if self.name == "sqlite":
            return sqlite3.connect(sa.make_url(self.url).database or "", **options)
        if self.name == "postgresql":
            return psycopg.connect(self.url, **options)
        parts = sa.make_url(self.url)
        named: dict[str, Any] = {
            "host": parts.host,
            "port": parts.port,
            "user": parts.username,
            "password": parts.password,
            "database": parts.database,
        }
        return pymysql.connect(**named | options)

    def effects(self, note: str) -> int:
        """How often the job's effect is in the data."""
        with self.engine.connect() as connection:
            text = sa.text("SELECT count(*) FROM effects WHERE note = :note")
            return int(connection.execute(text, {"note": note}).scalar_one())

    def ask(self, text: str) -> Any:
        """Ask the database something, in autocommit."""
        with self.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            result = connection.exec_driver_sql(text)
            return result.scalar() if result.returns_rows else None


@cache
def _engine(url: str) -> sa.Engine:
    return sa.create_engine(sqlalchemy_url(url), poolclass=sa.NullPool)


def sqlalchemy_url(url: str) -> sa.URL:
    """The URL with the driver that is installed."""
    drivers = {"postgresql": "postgresql+psycopg", "mariadb": "mysql+pymysql"}
    parts = sa.make_url(url)
    return parts.set(drivername=drivers.get(parts.drivername, parts.drivername))


def database(name: str, folder: Path) -> Database:
    """A database with the job's table; SQLite's is fresh."""
    if name == "sqlite":
        url = f"sqlite:///{folder / 'job.db'}"
    else:
        url = servers.postgres().url if name == "postgresql" else servers.mariadb().url
    made = Database(name, url)
    made.ask(TABLE)
    return made


# Ways to be connected -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Hands:
    """A connection as a job has it: what is handed over, and how it writes and ends."""

    connection: Any
    write: Callable[[str], object]
    commit: Callable[[], object]
    rollback: Callable[[], object]


Way = Callable[[Database], Iterator[Hands]]


def _driver(db: Database, **options: Any) -> Iterator[Hands]:
    with closing(db.raw(**options)) as connection:

        def write(text: str) -> None:
            connection.cursor().execute(text)

        # Not the methods as they are now: a connection may get others while it is in a transaction.
        def end(name: str) -> None:
            getattr(connection, name)()

        yield Hands(connection, write, partial(end, "commit"), partial(end, "rollback"))


def _with_dictionaries(db: Database) -> Iterator[Hands]:
    if db.name == "sqlite":
        for hands in _driver(db):
            hands.connection.row_factory = sqlite3.Row
            yield hands
    elif db.name == "postgresql":
        yield from _driver(db, row_factory=dict_row)
    else:
        yield from _driver(db, cursorclass=pymysql.cursors.DictCursor)


def _sqlalchemy(db: Database, **options: Any) -> Iterator[Hands]:
    with db.engine.connect().execution_options(**options) as connection:
        yield Hands(connection, connection.exec_driver_sql, connection.commit, connection.rollback)


def _session(db: Database) -> Iterator[Hands]:
    with Session(db.engine) as session:
        yield Hands(
            session, lambda text: session.execute(sa.text(text)), session.commit, session.rollback
        )


def _scoped(db: Database) -> Iterator[Hands]:
    session = scoped_session(sessionmaker(db.engine))
    yield Hands(
        session, lambda text: session.execute(sa.text(text)), session.commit, session.rollback
    )
    session.remove()


WAYS: dict[str, Way] = {
    "driver": _driver,
    "driver with dictionaries": _with_dictionaries,
    "SQLAlchemy": _sqlalchemy,
    "session": _session,
    "scoped session": _scoped,
}


@contextmanager
def connected(db: Database, way: str = "SQLAlchemy", **options: Any) -> Iterator[Hands]:
    """A connection of a job's."""
    yield from WAYS[way](db, **options)


def asynchronously(
    db: Database, job: Callable[[AsyncConnection | AsyncSession], Awaitable[None]], *, session: bool
) -> None:
    """Run a job on an asynchronous connection of SQLAlchemy's."""

    async def run() -> None:
        engine = create_async_engine(sqlalchemy_url(db.url))
        try:
            async with AsyncSession(engine) if session else engine.connect() as connection:
                await job(connection)
        finally:
            await engine.dispose()

    asyncio.run(run())


# A turn -------------------------------------------------------------------------------------------


class Bench:
    """A gate with an open run, as the storage keeps it, and a turn's two hands on it.

    Args:
        db: where it is.
        idle: how long its transactions may idle, in microseconds.
    """

    def __init__(self, db: Database, *, idle: int = 20_000_000, url: str | None = None) -> None:
        self.db, self.group = db, uuid4().hex
        self.note = self.group
        self.storage = Known(url or db.url)
        now = self.storage.read(self.group, []).now
        gate = opened(new_gate(0), KEY, f"run {self.group}", now=now)
        assert gate.open is not None
        self.run: Run = gate.open
        record = Record("first", gate_to_text(gate), owner_of(gate))
        assert self.storage.swap(self.group, SERVICE, Kind.GATE, None, record).done
        self.told: list[object] = []
        self.why_lost: str | None = None
        self.kept: frozenset[str] = frozenset()
        self.hand = ExactlyOnce(
            storage=self.storage,
            group=self.group,
            service=SERVICE,
            run=self.run,
            why_lost=lambda: self.why_lost,
            idle=lambda: idle,
            kept=lambda: self.kept,
            tell=self.told.append,
        )

    @property
    def effect(self) -> str:
        """The statement by which the job has an effect."""
        return EFFECT.format(KEY, self.note)

    @property
    def effects(self) -> int:
        """How often it had one."""
        return self.db.effects(self.note)

    @property
    def record(self) -> Record:
        """The gate's record."""
        kept = self.storage.read(self.group, [SERVICE]).services[SERVICE].gate
        assert kept is not None
        return kept

    @property
    def gate(self) -> Gate:
        """The gate."""
        return gate_from_text(self.record.body)

    def swap(self, change: Callable[[Gate], object]) -> Any:
        """Change the gate from outside, as whoever plans, pauses or buries does."""
        before = self.record
        new = change(gate_from_text(before.body))
        assert isinstance(new, Gate)
        record = Record(uuid4().hex, gate_to_text(new), owner_of(new))
        return self.storage.swap(self.group, SERVICE, Kind.GATE, before.version, record)

    def another_hand(self, run_id: str) -> ExactlyOnce:
        """The hand of a turn that has another run."""
        return replace(self.hand, run=run_of(KEY, run_id))

    def close(self) -> None:
        """Let go of the storage."""
        self.storage.close()
