"""A verdict for each period of a service that was due, from what a storage has kept."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import cached_property
from typing import overload

from turnwise.audit import IN_WORDS, Audit, Cause, Judged, Presence
from turnwise.audit import audit as judge
from turnwise.cycles import microseconds
from turnwise.gate import OFFER_KIND, Row
from turnwise.names import printable
from turnwise.overview import words
from turnwise.overview.known import Known, rows_of
from turnwise.overview.shown import cut
from turnwise.storages import Storage

_BEFORE = 64
"""So many rows before the window are read: among them the run that may have reached into it."""
_KEPT_AT_LEAST = microseconds(timedelta(days=1))
"""For so long a runner that is gone is still known, as the machine has it."""


def audited(storage: Storage, known: Known, since: int) -> Audit:
    """The audit of a service from an instant until now."""
    rows: list[Row] = [
        *rows_of(storage, known, kinds=("command", OFFER_KIND)),
        *rows_of(storage, known, until=since, last=_BEFORE),
        *rows_of(storage, known, since=since),
    ]
    return judge(
        known.name,
        rows,
        since=since,
        until=known.now + 1,
        now=known.now,
        gate=known.gate,
        presence=_Presences(known),
        present_from=known.now - _KEPT_AT_LEAST,
    )


class _Presences(Sequence[Presence]):
    """When each life that offers the service, and may serve it, was there.

    They are listed when somebody looks at one: a thousand runners have a thousand of them, and
    where every period was served, nobody asks who was there.
    """

    def __init__(self, known: Known) -> None:
        self._known = known

    @cached_property
    def _listed(self) -> list[Presence]:
        found = []
        for row in self._known.rows:
            life = self._known.lives.of(row.offer)
            if life is not None and row.offer.may_run:
                # The row's joined_at is inherited; the offer is as old as the life, or younger.
                end = life.row.heard_at if life.row.left_at is None else life.row.left_at
                found.append(Presence(row.at, end + 1, row.offer.settings))
        return found

    @overload
    def __getitem__(self, at: int) -> Presence: ...
    @overload
    def __getitem__(self, at: slice) -> list[Presence]: ...
    def __getitem__(self, at: int | slice) -> Presence | list[Presence]:
        return self._listed[at]

    def __iter__(self) -> Iterator[Presence]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)

    def __bool__(self) -> bool:
        # To ask whether there are any must not list them; an empty one is gone through as well.
        return True


def of_period(judged: Judged) -> str:
    """What there is to be said of a period beside its verdict: who served it, or why nobody did."""
    if judged.times > 1:
        who = ", ".join(
            f"{printable(run.runner_id)} at {words.second(run.started_at, judged.due)}"
            for run in judged.runs
        )
        return f"by {who}"
    if judged.runs:
        attempt = f", at attempt {judged.attempts}" if judged.attempts > 1 else ""
        return f"by {cut(judged.runs[0].runner_id)}{attempt}"
    if judged.cause is None:
        return ""
    said = IN_WORDS[judged.cause]
    if judged.attempts and judged.cause is Cause.NOT_IN_TIME:
        said = "nobody could start again within the time"
    if not judged.attempts:
        return said
    count = f"{judged.attempts} attempt{'' if judged.attempts == 1 else 's'}"
    return f"{said}; {count}, the last: {cut(judged.reason)}"
