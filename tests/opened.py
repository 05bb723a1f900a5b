"""The storages under test, each fresh, and with a clock that the test moves by hand.

A further storage joins by one more entry of ``SHARED``.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import uuid4

import servers
from turnwise.conformance import Clock, Opener
from turnwise.storages import Storage
from turnwise.storages.memory import MemoryStorage
from turnwise.storages.redis import RedisStorage


def _without_keys(server: servers.Server) -> str:
    """The URL of a part of a server's keys that nobody has used yet."""
    return f"{server.url}?key_prefix={uuid4().hex}"


_FRESH: dict[str, tuple[Callable[..., Storage], Callable[[Path], str]]] = {}
"""For each storage that processes can share: its class, and the URL of an empty one."""
if servers.redis_executable() is not None:
    _FRESH["redis"] = RedisStorage, lambda _: _without_keys(servers.redis())
if servers.valkey_executable() is not None:
    _FRESH["valkey"] = RedisStorage, lambda _: _without_keys(servers.valkey())


def _opened(name: str) -> Callable[[Clock, Path], Storage]:
    kind, url = _FRESH[name]
    return lambda clock, folder: kind(url(folder), clock=clock)


def _opener(name: str) -> Callable[[Path], Opener]:
    kind, url = _FRESH[name]
    return lambda folder: partial(kind, url(folder))


STORAGES: dict[str, Callable[[Clock, Path], Storage]] = {
    "memory": lambda clock, _: MemoryStorage(clock=clock),
    **{name: _opened(name) for name in _FRESH},
}
"""How each storage is opened, empty, with a clock and a fresh folder."""

SHARED: dict[str, Callable[[Path], Opener]] = {name: _opener(name) for name in _FRESH}
"""What opens one empty storage in any process."""
