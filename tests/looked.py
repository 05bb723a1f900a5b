"""A group in virtual time for the commands that look: they read its storage, and its clock."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from turnwise.cli import main
from turnwise.storages import Storage
from turnwise.testing import VirtualScheduler
from turnwise.turn import Turn

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SERVICE = "svc"


class NotClosed:
    """A storage that stays open when a command is done with it."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def close(self) -> None:
        """Leave it open."""


class Looked:
    """Processes that serve ``svc`` every five minutes from noon on, and what commands say of them.

    ``takes`` is how many seconds a run takes, ``fails`` whether it fails at its end.
    """

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.virtual = VirtualScheduler("alice", "bob", "carol [x]", start=NOON, group="default")
        self.capsys = capsys
        self.takes, self.fails = 40.0, False

    def serve(self, name: str = SERVICE, schedule: str = "every 5m", **knobs: Any) -> None:
        """Register a service on all processes."""
        self.virtual.add(self._job, schedule, name=name, **knobs)

    async def _job(self, turn: Turn) -> None:
        turn.check()
        await asyncio.sleep(self.takes)
        if self.fails:
            raise ValueError("no [bold]luck[/]")

    def advance(self, length: str) -> None:
        """Let time pass."""
        self.virtual.advance(length)

    def ask(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of a command."""
        status = main([*arguments, "--storage", "memory:"])
        said = self.capsys.readouterr()
        return status, said.out, said.err


@contextmanager
def looked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Looked]:
    """Such a group, which every command opens in the place of a storage; 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("turnwise.cli.output.console.width", 80, raising=False)
    world = Looked(capsys)
    monkeypatch.setattr(
        "turnwise.cli.storage.open_storage", lambda *_, **__: NotClosed(world.virtual.storage)
    )
    try:
        yield world
    finally:
        world.virtual.close()
