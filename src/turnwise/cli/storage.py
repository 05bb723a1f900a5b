"""Opening a storage that is there already, for commands that only look."""

from collections.abc import Iterator
from contextlib import contextmanager

from turnwise.backends import Backend, open_backend
from turnwise.cli.errors import BadInput, storage_as_input
from turnwise.settings import Settings


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
        BadInput: nobody has ever started it.
    """
    with storage_as_input():
        settings = backend.settings_of(service)
        if settings is not None:
            return settings
        known = ", ".join(backend.services()) or "none"
    raise BadInput(f"no runner of a service {service!r} was ever started; known are: {known}")
