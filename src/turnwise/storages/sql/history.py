"""The history of a service: rows in the order of ``(at, id)``, each id once; and what there is.

To append waits for the disk. What is to be said in the history stays in a record until it was
appended; a row that its server loses after that, in a crash between the append and the write that
takes it out of the record, nobody would append again.
"""

# ruff: noqa: S608 (what is put into a text is our own; values are parameters)

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from turnwise.storages import Entry
from turnwise.storages.sql.database import Database
from turnwise.storages.sql.statements import Value

_OF_SERVICE = "FROM {history} WHERE group_name = :group AND service = :service"
# Where no kind is spared, the list is one of nothing, which no kind is in.
_NOT_SPARED = f"{_OF_SERVICE} AND (kind IN (:spare)) IS NOT TRUE"
_UP = "ORDER BY happened_at, id"
_DOWN = "ORDER BY happened_at DESC, id DESC"

_APPEND = """
INSERT INTO {history} (group_name, service, id, happened_at, kind, body)
VALUES (:group, :service, :id, :at, :kind, :body) {or_keep}
"""

_TOO_OLD = f"SELECT happened_at, id {_NOT_SPARED} AND happened_at < :before {_DOWN} LIMIT 1"
_TOO_MANY = f"SELECT happened_at, id {_NOT_SPARED} {_DOWN} LIMIT 1 OFFSET :keep"
_COUNT = f"SELECT COUNT(*), COALESCE(MAX(happened_at), 0) {_NOT_SPARED}"
_COUNT_SINCE = f"{_COUNT} AND happened_at >= :since"
_UP_TO = f"{_NOT_SPARED} AND happened_at <= :at AND (happened_at < :at OR id <= :id)"
_PORTION_ENDS = f"SELECT happened_at, id {_UP_TO} {_UP} LIMIT 1 OFFSET :portion"
_DELETE = f"DELETE {_UP_TO}"

_SERVICES = """
SELECT service FROM {records} WHERE group_name = :group AND version <> ''
UNION SELECT service FROM {offers} WHERE group_name = :group
"""
_GROUPS = """
SELECT group_name FROM {records} WHERE version <> '' UNION SELECT group_name FROM {runners}
"""
# From one name to the next by the index: a history is too long to go through. The first name is
# the empty one, so that the group itself is left out.
_NEXT_SERVICE = """
SELECT service FROM {history} WHERE group_name = :group AND service > :name
ORDER BY service LIMIT 1
"""
_NEXT_GROUP = (
    "SELECT group_name FROM {history} WHERE group_name > :name ORDER BY group_name LIMIT 1"
)
_FORGET = tuple(
    f"DELETE FROM {{{table}}} WHERE group_name = :group AND service = :service"
    for table in ("offers", "records")
)

_PORTION = 1000
_USES = 64
_ALL = 2**62


class _Counted(NamedTuple):
    """How many rows a history had when they were counted, and the instant of its newest one.

    What comes late, or while the clock is back, is not seen to be new. So ``uses`` is limited.
    """

    rows: int
    newest: int
    uses: int = 0


class Histories(Database):
    """Appending, listing and purging."""

    def append(self, group: str, service: str, entries: Sequence[Entry]) -> None:
        """See :meth:`turnwise.storages.Storage.append`."""
        if not entries:
            return
        with self._work.taken() as line:
            for row in entries:
                self._ask(
                    line,
                    _APPEND,
                    group=group,
                    service=service,
                    id=row.id,
                    at=row.at,
                    kind=row.kind,
                    body=row.body,
                )

    def history(
        self,
        group: str,
        service: str,
        *,
        since: int | None = None,
        until: int | None = None,
        last: int | None = None,
        kinds: Sequence[str] | None = None,
    ) -> tuple[Entry, ...]:
        """See :meth:`turnwise.storages.Storage.history`."""
        values: dict[str, Value] = {"group": group, "service": service}
        values["last"] = _ALL if last is None else last
        within = _OF_SERVICE
        if since is not None:
            within, values["since"] = f"{within} AND happened_at >= :since", since
        if until is not None:
            within, values["until"] = f"{within} AND happened_at < :until", until
        parts = [within]
        if kinds is not None:
            # Each kind by itself, so that the newest of a rare one are found by their index.
            each = dict.fromkeys(kinds)
            values |= {f"kind_{number}": kind for number, kind in enumerate(each)}
            parts = [f"{within} AND kind = :kind_{number}" for number in range(len(each))]
        if not parts:
            return ()
        newest = " UNION ALL ".join(
            f"SELECT * FROM (SELECT id, happened_at, kind, body {part} {_DOWN} LIMIT :last)"
            f" AS part_{number}"
            for number, part in enumerate(parts)
        )
        rows = self._read(f"SELECT * FROM ({newest}) AS newest {_DOWN} LIMIT :last", **values).rows
        return tuple(Entry(*row) for row in reversed(rows))

    def purge(
        self, group: str, service: str, *, before: int, keep: int, spare: Sequence[str] = ()
    ) -> None:
        """See :meth:`turnwise.storages.Storage.purge`."""
        this: dict[str, Value] = {"group": group, "service": service, "spare": tuple(spare)}
        over = self._read(_TOO_OLD, **this, before=before).rows
        over += self._too_many(this, keep)
        if over:
            at, entry_id = max(over)
            self._forget_up_to(at, entry_id, this)

    @cached_property
    def _counted(self) -> dict[tuple[Value, ...], _Counted]:
        return {}

    def _too_many(self, this: Mapping[str, Value], keep: int) -> list[tuple[int, str]]:
        """The newest row that is too many, where there is one.

        To count a long history takes long. So what was counted is remembered for a while, and
        counted again once the rows that came since may be too many.
        """
        key = tuple(this.values())
        last = self._counted.get(key)
        if last is not None and keep - last.rows >= _PORTION and last.uses < _USES:
            [(new, newest)] = self._read(_COUNT_SINCE, **this, since=last.newest).rows
            if last.rows + new <= keep:
                if new > _PORTION:
                    last = _Counted(last.rows + new, newest, last.uses)
                self._counted[key] = last._replace(uses=last.uses + 1)
                return []
        [(rows, newest)] = self._read(_COUNT, **this).rows
        # So many more are forgotten, or nearly every purge of a full history would count it.
        slack = keep // 16 if keep >= 16 * _PORTION else 0
        if rows <= keep - min(slack, _PORTION):
            self._counted[key] = _Counted(rows, newest)
            return []
        self._counted[key] = _Counted(keep - slack, newest)
        return self._read(_TOO_MANY, **this, keep=keep - slack).rows

    def services(self, group: str) -> tuple[str, ...]:
        """See :meth:`turnwise.storages.Storage.services`."""
        return self._names(_SERVICES, _NEXT_SERVICE, group=group)

    def groups(self) -> tuple[str, ...]:
        """See :meth:`turnwise.storages.Storage.groups`."""
        return self._names(_GROUPS, _NEXT_GROUP)

    def forget_service(self, group: str, service: str) -> None:
        """See :meth:`turnwise.storages.Storage.forget_service`."""
        self._write(*_FORGET, group=group, service=service)
        self._forget_up_to(_ALL, "", {"group": group, "service": service, "spare": ()})

    def _names(self, these: str, next_of_history: str, **values: Value) -> tuple[str, ...]:
        names = {name for (name,) in self._read(these, **values).rows}
        name = ""
        while rows := self._read(next_of_history, **values, name=name).rows:
            [(name,)] = rows
            names.add(name)
        return tuple(sorted(names))

    def _forget_up_to(self, at: int, entry_id: str, this: Mapping[str, Value]) -> None:
        """Forget a row and all before it, in portions: others must get between, and soon."""
        while True:
            ends = self._read(_PORTION_ENDS, **this, at=at, id=entry_id, portion=_PORTION).rows
            upper = ends[0] if ends else (at, entry_id)
            self._write(_DELETE, **this, at=upper[0], id=upper[1])
            if not ends:
                return
