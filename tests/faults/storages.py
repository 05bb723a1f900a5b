"""The storages that faults are tried on, each with a part that nobody has used."""

import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import servers

SERVERS: dict[str, Callable[[Path], servers.Server]] = {
    "postgresql": servers.Postgres,
    "mariadb": servers.Mariadb,
    "redis": servers.Redis,
    "valkey": servers.Valkey,
}
"""What starts a server of one's own in a folder."""

STORAGES = ("sqlite", *SERVERS)

THOROUGH = bool(os.environ.get("FAULTS_THOROUGH"))
"""Whether everything is tried on Valkey that is tried on Redis, more often, and for longer.

What is asked of the two, and by what, is the same; so Valkey has some of the scenarios else.
"""

KINDS = STORAGES if THOROUGH else tuple(name for name in STORAGES if name != "valkey")
"""The storages that differ from each other."""

_SHARED: dict[str, Callable[[], servers.Server]] = {
    "postgresql": servers.postgres,
    "mariadb": servers.mariadb,
    "redis": servers.redis,
    "valkey": servers.valkey,
}


def why_missing(storage: str) -> str | None:
    """Why a storage can't be tried on this machine; None where it can."""
    if storage == "mariadb" and not servers.mariadb_is_here():
        return servers.WHY_NO_MARIADB
    if storage == "redis" and servers.redis_executable() is None:
        return servers.WHY_NO_REDIS
    if storage == "valkey" and servers.valkey_executable() is None:
        return servers.WHY_NO_VALKEY
    return None


def url_of(storage: str, folder: Path) -> str:
    """The URL of an empty storage: a file in the folder, or a part of the shared server."""
    if storage == "sqlite":
        return f"sqlite:///{folder / 'turns.db'}"
    url = _SHARED[storage]().url
    option = "key_prefix" if storage in ("redis", "valkey") else "table_prefix"
    return f"{url}{'&' if '?' in url else '?'}{option}=t{uuid4().hex[:12]}_"
