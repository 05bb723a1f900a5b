"""Strategies for what a storage is handed, and how hard a storage is tried."""

from datetime import UTC, datetime

from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from turnwise.conformance.clock import MICROSECOND, SECOND, START
from turnwise.conformance.desk import TIMEOUT
from turnwise.storages import Beat, Entry, Offer, Owner, Record

RUNNER_IDS = ("a", "b", "B", "é'")
BOOT_IDS = ("first boot", "second boot")
SERVICES = ("one", "two")
RUN_IDS = ("run 1", "run 2", "run 3")

UNUSUAL = (
    "O'Brien",
    'say "hi"',
    "'; DROP TABLE turnwise_runners; --",
    "%s %(x)s ? :bind {0} $1 {a} [b]",
    "_%*[a]\\",
    "line\nbreak\ttab",
    "a:b",
    "a/b",
    "a|b,c",
    "名前",
    "🦔" * 60,
    "\u00e9",
    "e\u0301",
    "a",
    "A",
    "a ",
    " a",
    "\uff41",  # a full-width a
    "x" * 255,
    "x" * 254 + "y",
    "NULL",
    "0",
    "00",
    "1e3",
)
"""Names that a storage must keep as they are, and tell apart."""

_ON_DEMAND = 2000


def share_of_the_profile(share: int, most: int = 50) -> hypothesis_settings:
    """Settings for examples that each drive a storage: so many times fewer than the profile's.

    At most ``most``, but for a profile of more than 2,000, which is one that is run on demand.
    """
    examples = hypothesis_settings().max_examples
    fewer = max(1, examples // share)
    return hypothesis_settings(
        max_examples=fewer if examples > _ON_DEMAND else min(fewer, most),
        deadline=None,
        # The tests are inherited, and so one test runs in several classes.
        suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
    )


def durations() -> st.SearchStrategy[int]:
    """How long something takes, in microseconds: often just what makes a difference."""
    edges = [0, MICROSECOND, SECOND, TIMEOUT - MICROSECOND, TIMEOUT, TIMEOUT + MICROSECOND]
    return st.sampled_from(edges) | st.integers(0, 3 * TIMEOUT)


def instants() -> st.SearchStrategy[int]:
    """Microseconds from 1971 to 2255, which every bundled storage can keep."""
    at = st.datetimes(
        datetime(1971, 1, 1),  # noqa: DTZ001 (made aware below)
        datetime(2255, 1, 1),  # noqa: DTZ001
        timezones=st.just(UTC),
    )
    return at.map(_microseconds)


def _microseconds(at: datetime) -> int:
    elapsed = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (elapsed.days * 86_400 + elapsed.seconds) * SECOND + elapsed.microseconds


def beats() -> st.SearchStrategy[Beat]:
    """Heartbeats of four runner ids, each of up to two lives; their counts may come late."""
    return st.builds(
        Beat,
        runner_id=st.sampled_from(RUNNER_IDS),
        boot_id=st.sampled_from(BOOT_IDS),
        count=st.integers(1, 8),
        heartbeat_timeout=st.sampled_from([SECOND, TIMEOUT]),
        runs=st.lists(st.sampled_from(RUN_IDS), max_size=2, unique=True).map(tuple),
    )


def offers() -> st.SearchStrategy[Offer]:
    """Offers of the same lives for two services, with three kinds of settings."""
    return st.builds(
        Offer,
        runner_id=st.sampled_from(RUNNER_IDS),
        boot_id=st.sampled_from(BOOT_IDS),
        service=st.sampled_from(SERVICES),
        settings=st.sampled_from(["{}", '{"cycle": 1}', '{"Cycle": 1}']),
        heartbeat_timeout=st.sampled_from([SECOND, TIMEOUT]),
        may_run=st.sampled_from([True, True, True, False]),
    )


def records(versions: st.SearchStrategy[str]) -> st.SearchStrategy[Record]:
    """Records with and without an open run."""
    owners = st.builds(
        Owner,
        run_id=st.sampled_from(RUN_IDS),
        runner_id=st.sampled_from(RUNNER_IDS),
        boot_id=st.sampled_from(BOOT_IDS),
        heartbeat_timeout=st.sampled_from([SECOND, TIMEOUT]),
    )
    bodies = st.sampled_from(["", "{}", '{"é": "\\n"}'])
    return st.builds(Record, version=versions, body=bodies, owner=st.none() | owners)


def entries() -> st.SearchStrategy[Entry]:
    """Rows of a history, few enough ids that some come twice."""
    return st.builds(
        Entry,
        id=st.integers(0, 12).map(str),
        at=st.integers(START - 5, START + 5) | st.integers(START, START + 3 * TIMEOUT),
        kind=st.sampled_from(["turn", "refusal", "Turn"]),
        body=st.sampled_from(["", "one", "two"]),
    )
