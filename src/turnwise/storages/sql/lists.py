"""Which groups and services there are, and how a service is forgotten."""

# ruff: noqa: S608 (what is put into a text is our own; values are parameters)

from turnwise.storages.sql.history import Histories
from turnwise.storages.sql.statements import Value

_SERVICES = """
SELECT service FROM {records} WHERE group_name = :group AND version <> ''
UNION SELECT service FROM {offers} WHERE group_name = :group
"""
_GROUPS = """
SELECT group_name FROM {records} WHERE version <> '' UNION SELECT group_name FROM {runners}
"""
# From one name to the next by the index: a history is too long to go through.
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


class Lists(Histories):
    """What there is."""

    def services(self, group: str) -> tuple[str, ...]:
        """See :meth:`turnwise.storages.Storage.services`."""
        return self._names(_SERVICES, _NEXT_SERVICE, group=group)

    def groups(self) -> tuple[str, ...]:
        """See :meth:`turnwise.storages.Storage.groups`."""
        return self._names(_GROUPS, _NEXT_GROUP)

    def forget_service(self, group: str, service: str) -> None:
        """See :meth:`turnwise.storages.Storage.forget_service`."""
        self._write(*_FORGET, group=group, service=service)
        self._forget_history(group, service)

    def _names(self, these: str, next_of_history: str, **values: Value) -> tuple[str, ...]:
        names = {name for (name,) in self._read(these, **values).rows}
        name = ""
        while rows := self._read(next_of_history, **values, name=name).rows:
            [(name,)] = rows
            names.add(name)
        return tuple(sorted(names))
