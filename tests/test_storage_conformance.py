"""Every bundled storage passes the conformance kit, with nothing skipped."""

from functools import partial
from pathlib import Path

from opened import SHARED, STORAGES
from turnwise.conformance import (
    Agreement,
    Clock,
    Opener,
    ProcessConformance,
    StorageConformance,
    share_of_the_profile,
)
from turnwise.storages import Storage


class _Bundled:
    """How the kit opens one of the bundled storages."""

    storage = ""

    def open_storage(self, clock: Clock, folder: Path) -> Storage:
        return STORAGES[self.storage](clock, folder)

    def opener(self, folder: Path) -> Opener:
        return SHARED[self.storage](folder)


def _suites() -> dict[str, type]:
    """One suite for each storage, and one more for each that processes can share."""
    suites: dict[str, type] = {}
    for storage in STORAGES:
        name = "".join(word.capitalize() for word in storage.split("-"))
        attributes = {"storage": storage}
        suites[f"Test{name}"] = type(f"Test{name}", (_Bundled, StorageConformance), attributes)
        if storage in SHARED:
            between = f"TestProcessesOn{name}"
            suites[between] = type(between, (_Bundled, ProcessConformance), attributes)
    return suites


globals().update(_suites())


class AllAgree(Agreement):
    """With ``--hypothesis-profile=fresh`` it is 333 runs of 50 steps; everyday 6, in CI 15."""

    storages = {  # noqa: RUF012 (a class's own constant)
        name: partial(open_it) for name, open_it in STORAGES.items() if name != "memory"
    }


TestAgreement = AllAgree.TestCase
TestAgreement.settings = share_of_the_profile(30, most=15)


def test_every_storage_has_its_suite() -> None:
    suites = {name for name in globals() if name.startswith("Test")}
    assert len(suites) == len(STORAGES) + len(SHARED) + 1
