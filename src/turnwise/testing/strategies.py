"""Strategies for runners, settings, durations and instants, and how hard a storage is tried."""

from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from turnwise.backends import Participant
from turnwise.old_settings import Settings
from turnwise.testing.desk import MICROSECOND, SECOND, SETTINGS

RUNNER_IDS = ("a", "b", "c", "d", "é'")

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


def participants(may_run: st.SearchStrategy[bool] | None = None) -> st.SearchStrategy[Participant]:
    """Who speaks to a storage: five runner ids, each of up to two processes."""
    return st.builds(
        Participant,
        st.sampled_from(RUNNER_IDS),
        st.sampled_from(["first boot", "second boot"]),
        st.booleans() if may_run is None else may_run,
    )


def durations(settings: Settings = SETTINGS) -> st.SearchStrategy[timedelta]:
    """How long something takes: often just what makes a difference to ``settings``."""
    timeout = settings.heartbeat_timeout
    edges = [MICROSECOND, SECOND, timeout, timeout + MICROSECOND, settings.spread_margin]
    most = int(1.5 * (settings.interval / MICROSECOND))
    return st.sampled_from(edges) | st.integers(0, most).map(lambda us: us * MICROSECOND)


def instants() -> st.SearchStrategy[datetime]:
    """Whole microseconds from 1971 to 2255, which every bundled storage can keep."""
    return st.datetimes(
        datetime(1971, 1, 1),  # noqa: DTZ001 (made aware below)
        datetime(2255, 1, 1),  # noqa: DTZ001
        timezones=st.just(UTC),
    )


def knobs() -> st.SearchStrategy[Settings]:
    """Settings with the suite's cycle, and all that a storage must obey."""
    return st.builds(
        Settings,
        interval=st.just(SETTINGS.interval),
        spread_margin=st.just(SETTINGS.spread_margin),
        heartbeat_timeout=st.just(SETTINGS.heartbeat_timeout),
        runs_per_cycle=st.sampled_from(["once", "every_slot"]),
        standbys=st.sampled_from([0, 2]),
        retry_failed=st.booleans(),
        retention_count=st.sampled_from([1, 3, 1000]),
        retention_age=st.sampled_from([SECOND, 100 * SECOND]),
    )
