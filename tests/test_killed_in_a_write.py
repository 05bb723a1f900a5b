"""A process that is killed while it writes leaves a whole record behind, and no lock."""

import json
import multiprocessing
import random
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from opened import SHARED
from turnwise.conformance import Opener
from turnwise.storages import Kind, Owner, Record, Storage

pytestmark = pytest.mark.faults
GROUP, SERVICE = "group", "service"
KILLS = 3
PATIENCE_SECONDS = 30.0
LONGEST_LIFE_SECONDS = 0.05
spawn = multiprocessing.get_context("spawn")


def swap_for_ever(opener: Opener, writing: Event) -> None:
    """Count in the record, as fast as the storage takes it."""
    storage = opener()
    while True:
        expected, count = what_is_there(storage)
        record = Record(f"version {count + 1}", json.dumps(count + 1), owner(count + 1))
        storage.swap(GROUP, SERVICE, Kind.GATE, expected, record)
        writing.set()


def what_is_there(storage: Storage) -> tuple[str | None, int]:
    """The version and the count; a record is whole where its parts belong together."""
    kept = storage.read(GROUP, (SERVICE,)).services[SERVICE].gate
    if kept is None:
        return None, 0
    count = json.loads(kept.body)
    assert kept == Record(f"version {count}", json.dumps(count), owner(count))
    return kept.version, count


def owner(count: int) -> Owner:
    return Owner(f"run {count}", "runner", "boot", count)


@pytest.mark.parametrize("name", SHARED)
def test_a_process_killed_while_it_writes_leaves_a_whole_record_and_no_lock(
    name: str, tmp_path: Path
) -> None:
    opener = SHARED[name](tmp_path)
    chance = random.Random(1)  # noqa: S311 (no secret)
    storage, before = opener(), -1
    try:
        for _ in range(KILLS):
            writing = spawn.Event()
            process = spawn.Process(target=swap_for_ever, args=(opener, writing), daemon=True)
            process.start()
            try:
                assert writing.wait(PATIENCE_SECONDS)
                time.sleep(chance.uniform(0, LONGEST_LIFE_SECONDS))  # so the kill falls anywhere
            finally:
                process.kill()
                process.join(PATIENCE_SECONDS)
            version, count = what_is_there(storage)
            assert count > before
            next_one = Record("ours", json.dumps("ours"))
            assert storage.swap(GROUP, SERVICE, Kind.GATE, version, next_one).done
            back = Record(f"version {count}", json.dumps(count), owner(count))
            assert storage.swap(GROUP, SERVICE, Kind.GATE, "ours", back).done
            before = count
    finally:
        storage.close()
