"""What a storage in memory adds to the protocol: copies, a state, and a sound inside."""

import copy
from dataclasses import replace

import pytest

from turnwise.conformance import START, Desk, ManualClock
from turnwise.storages import Entry, Kind
from turnwise.storages.memory import MemoryStorage


def filled() -> tuple[Desk, MemoryStorage]:
    """A storage that has something of everything."""
    storage = MemoryStorage(clock=ManualClock())
    desk = Desk(storage, ManualClock())
    desk.join("a", "b")
    desk.open_run("run", "a")
    desk.put(desk.record(), kind=Kind.PLAN)
    desk.append(Entry("id", START, "turn", "body"))
    storage.mark(desk.group, "a", drained=True)
    return desk, storage


def change(desk: Desk) -> None:
    """Change something of everything."""
    desk.beat("a")
    desk.beat("c")
    desk.offer("c", settings="new")
    desk.leave("b")
    desk.put(desk.record())
    desk.append(Entry("another id", START, "turn", "body"))
    desk.storage.mark(desk.group, "b", drained=True)
    desk.beside(group="another").beat("a")


@pytest.mark.parametrize("kind", ["copy", "deepcopy"])
def test_a_copy_holds_the_same_and_goes_its_own_way(kind: str) -> None:
    desk, storage = filled()
    other = storage.copy() if kind == "copy" else copy.deepcopy(storage)
    before = storage.state()
    assert other.state() == before
    change(desk)
    assert storage.state() != before
    assert other.state() == before
    after = storage.state()
    change(replace(desk, storage=other, group="a third"))
    assert storage.state() == after
    for each in (storage, other):
        each._check()


def test_a_copy_has_the_clock_that_it_is_handed_and_a_deep_copy_one_of_its_own() -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    plain, other = storage.copy(), storage.copy(clock=lambda: 7)
    clock.advance(1)
    assert [s.read("g", ()).now for s in (plain, other)] == [START + 1, 7]

    def pair() -> tuple[list[int], MemoryStorage]:
        ticks = [1]
        return ticks, MemoryStorage(clock=ticks.__len__)

    ticks, mine = pair()
    ticks_of_copy, copied = copy.deepcopy((ticks, mine))
    ticks_of_copy.append(2)
    assert (mine.read("g", ()).now, copied.read("g", ()).now) == (1, 2)


def test_the_state_is_hashable_and_the_order_of_what_came_plays_no_part() -> None:
    one, other = (MemoryStorage(clock=ManualClock()) for _ in range(2))
    for storage, order in ((one, "ab"), (other, "ba")):
        desk = Desk(storage, ManualClock())
        for name in order:
            desk.beat(name, count=1)
            desk.offer(name)
            desk.append(Entry(name, START, "turn", ""))
    assert hash(one.state()) == hash(other.state())
    assert one.state() == other.state()
    [state] = one.state()
    assert (state.group, state.revision, len(state.lives)) == ("group", 1, 2)


def test_the_check_finds_a_run_that_is_open_in_no_gate() -> None:
    desk, storage = filled()
    storage._check()
    storage._groups[desk.group].open_runs["another run"] = 1
    with pytest.raises(AssertionError):
        storage._check()


def test_without_a_clock_it_goes_by_the_hosts() -> None:
    assert MemoryStorage().read("g", ()).now > START - 10 * 365 * 86_400_000_000
