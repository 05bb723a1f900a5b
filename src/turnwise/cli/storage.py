"""Opening a storage that is there already, for commands that only look."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from turnwise.backends import Backend, ExecutionRecord, dead_at, open_backend
from turnwise.cli.errors import BadInput, storage_as_input
from turnwise.old_settings import Settings

UNKNOWN_SETTINGS = "its settings cannot be read: another version of turnwise wrote them"


def is_private(url: str) -> bool:
    """Whether a storage is in the memory of the process that opens it."""
    scheme, _, rest = url.partition("?")[0].partition(":")
    is_sqlite = scheme.partition("+")[0] == "sqlite"
    return scheme == "memory" or (is_sqlite and rest.strip("/") in ("", ":memory:"))


def is_dead(record: ExecutionRecord, now: datetime, settings: Settings) -> bool:
    """Whether an open run has been silent for so long that the gate gives it up for dead."""
    return record.execution.is_active and now >= dead_at(record.last_heartbeat, settings)


@contextmanager
def open_existing(url: str) -> Iterator[Backend]:
    """Open a storage without creating anything in it.

    Raises:
        BadInput: the URL is wrong, or there is no such storage.
    """
    with storage_as_input():
        backend = open_backend(url, create_tables=False)
    try:
        yield backend
    finally:
        backend.close()


def required_settings(backend: Backend, service: str) -> Settings:
    """The settings that a service was last started with.

    Raises:
        BadInput: nobody has ever started it, or they are not known.
    """
    with storage_as_input():
        settings = backend.settings_of(service)
        if settings is not None:
            return settings
        known = backend.services()
    if service in known:
        raise BadInput(f"service {service!r}: {UNKNOWN_SETTINGS}")
    raise BadInput(
        f"no runner of a service {service!r} was ever started; known are: "
        f"{', '.join(known) or 'none'}"
    )
