"""For authors of backends: a conformance suite, strategies, and a clock that is moved by hand.

What it does not show
---------------------
Faults are not in it: a lost connection, a server that is killed, a disk that is full, a database
that forgets what it acknowledged. A storage that passes keeps its promises as long as it answers.

What it does
------------
A subclass of :class:`BackendConformance` says how to open the storage, and pytest runs the suite on
it. A storage that several processes share adds :class:`ProcessConformance`. A subclass of
:class:`Agreement` drives storages beside the one in memory, and asserts that they agree on every
answer, step by step.

Needs the extra ``testing``.
"""

from turnwise.backends import MissingExtraError

try:
    import hypothesis as _hypothesis  # noqa: F401 (so that one line says what is missing)
    import pytest
except ImportError as error:
    raise MissingExtraError(
        "turnwise.testing needs pytest and Hypothesis: install turnwise[testing]"
    ) from error

# So that a failing assertion shows its values, as in a test's own module.
pytest.register_assert_rewrite(
    "turnwise.testing.agreement",
    "turnwise.testing.contention",
    "turnwise.testing.gate",
    "turnwise.testing.history",
    "turnwise.testing.membership",
)

from turnwise.testing.agreement import Agreement  # noqa: E402
from turnwise.testing.clock import START, Clock, ManualClock  # noqa: E402
from turnwise.testing.contention import Opener, ProcessConformance, ThreadConformance  # noqa: E402
from turnwise.testing.desk import SETTINGS, Desk, StorageUnderTest, run_of  # noqa: E402
from turnwise.testing.gate import GateConformance  # noqa: E402
from turnwise.testing.history import HistoryConformance  # noqa: E402
from turnwise.testing.membership import MembershipConformance  # noqa: E402
from turnwise.testing.strategies import (  # noqa: E402
    durations,
    instants,
    knobs,
    participants,
    share_of_the_profile,
)

__all__ = [
    "SETTINGS",
    "START",
    "Agreement",
    "BackendConformance",
    "Clock",
    "Desk",
    "GateConformance",
    "HistoryConformance",
    "ManualClock",
    "MembershipConformance",
    "Opener",
    "ProcessConformance",
    "StorageUnderTest",
    "ThreadConformance",
    "durations",
    "instants",
    "knobs",
    "participants",
    "run_of",
    "share_of_the_profile",
]


class BackendConformance(
    MembershipConformance, GateConformance, HistoryConformance, ThreadConformance
):
    """All that a backend must do, as tests; a subclass says how to open the storage."""
