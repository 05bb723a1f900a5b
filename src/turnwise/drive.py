"""Carrying out what a machine asks of a storage.

Whoever drives a :class:`~turnwise.machine.Machine` needs this one function, a clock, and a way to
run the function that is served.
"""

from collections.abc import Mapping
from typing import Final

from turnwise.actions import (
    Advance,
    Answer,
    Append,
    Done,
    Failed,
    FindStable,
    ListOffers,
    Look,
    MakeOffer,
    Offered,
    OffersListed,
    Purge,
    Request,
    Seen,
    Swap,
)
from turnwise.errors import StorageError
from turnwise.storages import Reading, ServiceReading, Storage


def carry_out(storage: Storage, group: str, service: str, request: Request) -> Answer:
    """Ask the storage what a machine asks, and give the answer that the machine is to be told.

    A storage that does not answer is an answer too: :class:`~turnwise.actions.Failed`.

    Args:
        storage: the storage.
        group: the group's name.
        service: the service that the machine is for.
        request: what the machine asks.
    """
    try:
        return _ask(storage, group, service, request)
    except StorageError as error:
        return Failed(str(error))


OPERATIONS: Final[Mapping[type[Request], str]] = {
    Advance: "advance",
    Append: "append",
    FindStable: "stable",
    ListOffers: "offers",
    Look: "read",
    MakeOffer: "offer",
    Purge: "purge",
    Swap: "swap",
}
"""The storage's method that carries out each request."""


def seen(reading: Reading, service: str) -> Seen:
    """What a machine is told of a reading, which may be of several services."""
    mine = reading.services.get(service, _NOTHING)
    return Seen(reading.now, reading.revision, mine)


_NOTHING = ServiceReading()


def _ask(storage: Storage, group: str, service: str, request: Request) -> Answer:
    match request:
        case Look():
            return seen(storage.read(group, (service,)), service)
        case Swap():
            return storage.swap(
                group, service, request.kind, request.expected, request.new, request.not_after
            )
        case FindStable():
            return storage.stable(
                group,
                service,
                rotation=request.rotation,
                limit=request.limit,
                among=request.among,
            )
        case MakeOffer():
            return Offered(storage.offer(group, request.offer))
        case ListOffers():
            return OffersListed(storage.offers(group))
        case Append():
            storage.append(group, service, request.entries)
        case Purge():
            storage.purge(
                group, service, before=request.before, keep=request.keep, spare=request.spare
            )
            storage.purge_runners(group, before=request.silent_before)
        case _:
            assert isinstance(request, Advance)  # noqa: S101 (the only one that is left)
            storage.advance(group)
    return Done()
