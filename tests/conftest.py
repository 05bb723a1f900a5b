"""Hypothesis profiles: how hard the properties are tried.

- ``everyday``: 200 examples a property, the same ones each time.
- ``ci``: 2,000 examples a property, the same ones each time; chosen where ``CI`` is set.
- ``brief``: 50 examples, and a quarter of the random scenarios, where another run has them all.
- ``fresh``: 10,000 examples a property with a new seed, on demand:
  ``pytest --hypothesis-profile=fresh``.
"""

import gc
import os
import sys
from functools import _lru_cache_wrapper

from hypothesis import HealthCheck, settings

# Hundreds of processes are started: each would compile all that it imports anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# No test asks the machine's authorities; to read them is most of what connecting to MariaDB costs.
os.environ |= {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}

# Two cores shared by several test processes: a slow example says nothing about the code.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

settings.register_profile("everyday", patient, max_examples=200, derandomize=True)
settings.register_profile("ci", patient, max_examples=2000, derandomize=True)
settings.register_profile("brief", patient, max_examples=50, derandomize=True)
settings.register_profile("fresh", patient, max_examples=10_000, derandomize=False)
settings.load_profile("ci" if os.environ.get("CI") else "everyday")


def pytest_sessionstart() -> None:
    """Have a mutant asked: it is tried in a fork of a session without it, whose caches answer."""
    if os.environ.get("MUTANT_UNDER_TEST"):
        gc.unfreeze()  # what pytest_collection_finish has frozen in that session
        for each in gc.get_objects():
            if isinstance(each, _lru_cache_wrapper):
                each.cache_clear()


def pytest_collection_finish() -> None:
    """Have no collection of garbage look through a million objects that stay to the end."""
    gc.collect()
    gc.freeze()
