"""For authors of storages: a suite shaped like the protocol, and a clock that is moved by hand.

What it does not show
---------------------
Faults are not in it: a lost connection, a server that is killed, a disk that is full, a database
that forgets what it acknowledged. A storage that passes keeps its promises as long as it answers.
The clock is the suite's, so it does not show either that a server's own clock is read where the
protocol says.

What it does
------------
A subclass of :class:`StorageConformance` says how to open the storage, and pytest runs the suite on
it. A storage that several processes share adds :class:`ProcessConformance`. A subclass of
:class:`Agreement` drives storages beside the one in memory, and asserts that they agree on every
answer, step by step.

Needs the extra ``conformance``.
"""

from turnwise.errors import MissingExtraError

try:
    import hypothesis as _hypothesis  # noqa: F401 (so that one line says what is missing)
    import pytest
except ImportError as error:
    raise MissingExtraError(
        "turnwise.conformance needs the extra 'conformance': pip install 'turnwise[conformance]'"
    ) from error

# So that a failing assertion shows its values, as in a test's own module.
pytest.register_assert_rewrite(
    "turnwise.conformance.agreement",
    "turnwise.conformance.contention",
    "turnwise.conformance.history",
    "turnwise.conformance.lists",
    "turnwise.conformance.membership",
    "turnwise.conformance.offers",
    "turnwise.conformance.records",
    "turnwise.conformance.stable",
)

from turnwise.conformance.agreement import Agreement  # noqa: E402
from turnwise.conformance.clock import START, Clock, ManualClock  # noqa: E402
from turnwise.conformance.contention import (  # noqa: E402
    ForkConformance,
    Opener,
    ProcessConformance,
    ThreadConformance,
)
from turnwise.conformance.desk import TIMEOUT, Desk, StorageUnderTest  # noqa: E402
from turnwise.conformance.history import HistoryConformance  # noqa: E402
from turnwise.conformance.lists import ListConformance  # noqa: E402
from turnwise.conformance.membership import MembershipConformance  # noqa: E402
from turnwise.conformance.offers import OfferConformance  # noqa: E402
from turnwise.conformance.records import RecordConformance  # noqa: E402
from turnwise.conformance.stable import StableConformance  # noqa: E402
from turnwise.conformance.strategies import (  # noqa: E402
    beats,
    durations,
    entries,
    instants,
    offers,
    records,
    share_of_the_profile,
)

__all__ = [
    "START",
    "TIMEOUT",
    "Agreement",
    "Clock",
    "Desk",
    "ForkConformance",
    "HistoryConformance",
    "ListConformance",
    "ManualClock",
    "MembershipConformance",
    "OfferConformance",
    "Opener",
    "ProcessConformance",
    "RecordConformance",
    "StableConformance",
    "StorageConformance",
    "StorageUnderTest",
    "ThreadConformance",
    "beats",
    "durations",
    "entries",
    "instants",
    "offers",
    "records",
    "share_of_the_profile",
]


class StorageConformance(
    MembershipConformance,
    OfferConformance,
    StableConformance,
    RecordConformance,
    HistoryConformance,
    ListConformance,
    ThreadConformance,
    ForkConformance,
):
    """All that a storage must do, as tests; a subclass says how to open the storage."""
