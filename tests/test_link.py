"""Whether the storage answers, from what two threads see of it."""

from turnwise.events import Event, StorageBack, StorageLost
from turnwise.scheduler.link import HEARTBEATS, OPENING, READS, WRITES, Link


def a_link() -> Link:
    link = Link("g", "a", 0)
    link.patience = 10
    return link


def told(link: Link, *notes: tuple[str, str | None, int]) -> list[Event]:
    return [event for lane, error, at in notes for event in link.note(lane, error, at)]


def test_before_the_first_answer_the_storage_does_not_answer() -> None:
    link = a_link()
    assert not link.answers
    assert not link.is_failing
    assert told(link, (OPENING, None, 5)) == []
    assert link.answers
    assert link.since == 5


def test_the_first_failure_of_any_lane_is_told_and_no_other() -> None:
    link = a_link()
    events = told(link, (READS, None, 1), (READS, "gone", 2), (WRITES, "gone, too", 3))
    assert events == [StorageLost(group="g", runner_id="a", error="gone")]
    assert (link.answers, link.since, link.error) == (False, 2, "gone, too")
    assert link.fails_in(READS)
    assert not link.fails_in(HEARTBEATS)


def test_it_is_back_when_the_last_lane_that_failed_is_answered() -> None:
    link = a_link()
    told(link, (READS, "gone", 2), (HEARTBEATS, "gone", 3))
    assert told(link, (HEARTBEATS, None, 4)) == []
    assert told(link, (READS, None, 7)) == [StorageBack(group="g", runner_id="a", after=5)]
    assert (link.answers, link.since) == (True, 7)


def test_a_storage_that_answers_reads_alone_is_away() -> None:
    link = a_link()
    notes = [
        note
        for at in range(0, 100, 9)
        for note in ((WRITES, "full", at), (READS, None, at), (HEARTBEATS, None, at))
    ]
    assert told(link, *notes) == [StorageLost(group="g", runner_id="a", error="full")]


def test_what_somebody_must_repair_is_told_as_well_once_for_each_text() -> None:
    link = a_link()

    def opening(error: str | None, *, needs_repair: bool = False) -> list[str]:
        events = link.note(OPENING, error, 0, needs_repair=needs_repair)
        return [event.error if isinstance(event, StorageLost) else "back" for event in events]

    for _ in range(2):
        assert opening("refused") == ["refused"]
        assert opening("refused, by another port") == []
        assert opening("tables of version 2", needs_repair=True) == ["tables of version 2"]
        assert opening("tables of version 2", needs_repair=True) == []
        assert opening("refused") == []
        assert opening("no table", needs_repair=True) == ["no table"]
        assert opening(None) == ["back"]


def test_a_lane_that_nobody_uses_any_more_is_forgotten_when_heartbeats_are_answered() -> None:
    link = a_link()
    told(link, (WRITES, "busy", 2))
    assert told(link, (READS, None, 100), (HEARTBEATS, None, 11)) == []
    assert told(link, (HEARTBEATS, None, 12)) == [StorageBack(group="g", runner_id="a", after=10)]
