"""What a picture of a service's turns is drawn from."""

from collections.abc import Iterable

from turnwise.cycles import instant
from turnwise.gate import Row
from turnwise.overview.known import Known, rows_of
from turnwise.picture import Picture, picture_of_history
from turnwise.storages import Storage

_BEFORE = 64
"""So many rows before the window are read: among them the run that may have reached into it."""


def rows_to_draw(storage: Storage, known: Known, start: int | None, end: int) -> list[Row]:
    """The history until ``end``; where it begins at an instant, with what reached into it."""
    commands = rows_of(storage, known, until=end, kinds=("command",))
    found = rows_of(storage, known, since=start, until=end)
    if start is not None:
        found += rows_of(storage, known, until=start, last=_BEFORE)
    return list({row.id: row for row in (*commands, *found)}.values())


def picture_of(known: Known, rows: Iterable[Row], start: int, end: int) -> Picture:
    """A picture of a service whose settings are known, from rows of its history."""
    assert known.settings is not None  # noqa: S101 (as the caller has seen)
    return picture_of_history(
        rows,
        known.settings,
        instant(start),
        instant(end),
        title=known.name,
        service=known.name,
        runner_ids=_lanes_of(known, start),
    )


def _lanes_of(known: Known, first: int) -> list[str]:
    """The runners that were there in the picture's time, with a run or without."""
    found = []
    for row in known.rows:
        life = known.lives.of(row.offer)
        if life is not None and row.offer.may_run and life.row.heard_at >= first:
            found.append(row.offer.runner_id)
    return found
