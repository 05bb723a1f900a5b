"""The machine's own PostgreSQL: with a standby, and with the extensions that a wheel lacks."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg

from servers import PATIENCE_SECONDS, free_port, wait_for

WHY_NO_POSTGRES = "no PostgreSQL of this machine's own: install Debian's postgresql"
_USER = "postgres"


def programs() -> Path | None:
    """Where the programs of this machine's newest PostgreSQL are; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_basebackup"))
    if found:
        return found[-1].parent
    there = shutil.which("pg_basebackup")
    return None if there is None else Path(there).parent


class HostPostgres:
    """One PostgreSQL server of the machine's own.

    Args:
        folder: a folder of its own, which users other than this one can get at.
        **options: of its configuration.
    """

    def __init__(self, folder: Path, **options: str) -> None:
        self._data, self._options = folder / "data", options
        self.port = free_port()
        self.url = f"postgresql://{_USER}@127.0.0.1:{self.port}/postgres"
        folder.mkdir(exist_ok=True)
        if os.geteuid() == 0:  # as root it refuses to run
            shutil.chown(folder, _USER)
        self._make()
        self.start()

    def _make(self) -> None:
        self._run("initdb", "-A", "trust", "-U", _USER, "-N", "-D", str(self._data))

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "wal_keep_size": "64MB",
            **self._options,
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.process = subprocess.Popen(
            [*_as_user(), self._program("postgres"), "-D", str(self._data), *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(lambda: self.say("SELECT 1"), self.process, psycopg.OperationalError)

    def kill(self) -> None:
        """End it as a power cut would: nothing is written any more."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(PATIENCE_SECONDS)

    def stop(self) -> None:
        """End it, and let go of all clients."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:  # one that waits for its standby
            self.kill()

    def say(self, statement: str) -> list[tuple[object, ...]]:
        """Tell it something, as its administrator."""
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*_as_user(), self._program(program), *arguments],
            capture_output=True,
            text=True,
            check=False,  # the assertion shows what it said
            cwd="/",
        )
        assert done.returncode == 0, done.stderr

    @staticmethod
    def _program(name: str) -> str:
        folder = programs()
        assert folder is not None, WHY_NO_POSTGRES
        return str(folder / name)


class Standby(HostPostgres):
    """A standby of another server; its name there is ``standby``."""

    def __init__(self, folder: Path, primary: HostPostgres, **options: str) -> None:
        self._primary = primary
        super().__init__(folder, **options)

    def _make(self) -> None:
        address = f"host=127.0.0.1 port={self._primary.port} user={_USER} application_name=standby"
        flags = ("--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--no-sync")
        self._run("pg_basebackup", "-d", address, "-D", str(self._data), *flags)

    def promote(self) -> None:
        """Make it a primary; returns when it is one."""
        self.say("SELECT pg_promote()")


def _as_user() -> list[str]:
    return (
        ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups"]
        if (os.geteuid() == 0)
        else []
    )
