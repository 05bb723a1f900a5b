"""Opening the storage that a command is about."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from turnwise.cli.errors import BadInput, nearest, storage_as_input
from turnwise.names import printable
from turnwise.overview.shown import few
from turnwise.storages import Storage
from turnwise.storages.opening import open_storage, url_of_the_environment

if TYPE_CHECKING:
    from turnwise.overview.known import GroupKnown

_MOST_NAMES = 10

UNKNOWN_SETTINGS = "its settings cannot be read: another version of turnwise wrote them"


def url_in_force(url: str | None) -> str:
    """The URL that was given, or the environment's.

    Raises:
        BadInput: neither names one.
    """
    if url is not None:
        return url
    with storage_as_input():
        return url_of_the_environment()


def is_private(url: str) -> bool:
    """Whether a storage is in the memory of the process that opens it."""
    scheme, _, rest = url.partition("?")[0].partition(":")
    is_sqlite = scheme.partition("+")[0] == "sqlite"
    return scheme == "memory" or (is_sqlite and rest.strip("/") in ("", ":memory:"))


@contextmanager
def open_existing(url: str | None) -> Iterator[Storage]:
    """Open a storage without creating anything in it; None for the environment's.

    Raises:
        BadInput: the URL is wrong, or there is no such storage.
    """
    with storage_as_input():
        storage = open_storage(url, create_tables=False)
    try:
        yield storage
    finally:
        storage.close()


def read_known(storage: Storage, group: str, service: str | None) -> "GroupKnown":
    """What is known of a group's services, or of the one that was asked for.

    Raises:
        BadInput: the group has no such service; the message says which it has.
    """
    from turnwise.overview.known import read_group  # noqa: PLC0415 (who serves needs none of it)

    if service is not None:
        require_service(storage, group, service)
    return read_group(storage, group, None if service is None else (service,))


def require_service(storage: Storage, group: str, service: str) -> None:
    """See that a group has a service: an offer of it, a record or a history.

    Raises:
        BadInput: it has none of that name; the message says which it has.
    """
    _require("service", service, group, storage.services(group), storage)


def require_runner(storage: Storage, group: str, runner_id: str) -> None:
    """See that a group has a runner of this id, alive or not.

    Raises:
        BadInput: it has none; the message says which it has.
    """
    known = dict.fromkeys(row.runner_id for row in storage.runners(group))
    _require("runner", runner_id, group, tuple(known), storage)


def _require(what: str, name: str, group: str, known: tuple[str, ...], storage: Storage) -> None:
    if name in known:
        return
    message = f"group {printable(group)!r} has no {what} {printable(name)!r}"
    if (near := nearest(name, known)) is not None:
        message += f"; did you mean {printable(near)!r}?"
    elif known:
        message += f"; it has {_listed(known)}"
    else:
        message += f", nor any other; {other_groups(storage, group)}"
    raise BadInput(message)


def other_groups(storage: Storage, group: str) -> str:
    """Which groups there are, for somebody who has asked for an empty one."""
    others = [each for each in storage.groups() if each != group]
    if not others:
        return "nothing was ever started on this storage"
    which = "is the group" if len(others) == 1 else "are the groups"
    return f"there {which} {_listed(others)}: see --group"


def _listed(names: Sequence[str]) -> str:
    return few([printable(each) for each in names], _MOST_NAMES)
