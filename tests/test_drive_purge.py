"""What a machine asks to be forgotten is forgotten: old rows of history, and lives long silent."""

from turnwise.actions import Done, Purge
from turnwise.drive import carry_out
from turnwise.storages import Beat, Entry
from turnwise.storages.memory import MemoryStorage

GROUP, SERVICE = "group", "service"


def test_a_purge_forgets_old_rows_and_lives_that_were_silent_for_long() -> None:
    now = 0
    storage = MemoryStorage(clock=lambda: now)
    storage.heartbeat(GROUP, Beat("old", "boot", 1, 1_000))
    storage.append(GROUP, SERVICE, [Entry("1", 0, "completed", "{}"), Entry("2", 0, "command", "")])
    now = 100
    storage.heartbeat(GROUP, Beat("new", "boot", 1, 1_000))
    purge = Purge(before=50, keep=10, spare=("command",), silent_before=50)
    assert carry_out(storage, GROUP, SERVICE, purge) == Done()
    assert [row.runner_id for row in storage.runners(GROUP)] == ["new"]
    assert [entry.id for entry in storage.history(GROUP, SERVICE)] == ["2"]
