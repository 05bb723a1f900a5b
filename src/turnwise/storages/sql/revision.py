"""A group's revision: a number that grows whenever everybody shall look again."""

# ruff: noqa: S608 (what is put into a text is our own; values are parameters)

from turnwise.storages.sql.connect import Line
from turnwise.storages.sql.database import Database
from turnwise.storages.sql.statements import Value

# The condition is what follows FROM; it is also what SQLite's grammar needs before ON CONFLICT.
_ADVANCE = """
INSERT INTO {revisions} {counted_from} (group_name, revision)
SELECT :group, {told}(1) FROM (SELECT 1 AS one) one
"""
ADVANCE = _ADVANCE + "WHERE 1 = 1 {or_count}"
ADVANCE_FOR_NEW_SETTINGS = (
    _ADVANCE
    + """
WHERE NOT EXISTS (
  SELECT 1 FROM {offers}
  WHERE group_name = :group AND service = :service AND settings = :settings
    AND NOT (runner_id = :runner_id AND boot_id = :boot_id)
) {or_count}
"""
)
_REVISION = "SELECT revision FROM {revisions} WHERE group_name = :group"


class Revisions(Database):
    """The operation that advances a revision, and what others need for it."""

    def advance(self, group: str) -> int:
        """See :meth:`turnwise.storages.Storage.advance`."""
        with self._work.taken() as line:
            return self._advanced(line, ADVANCE, group=group)

    def _advanced(self, line: Line, template: str, *, group: str, **values: Value) -> int:
        """Advance the revision, perhaps, by one of the statements above; which it is then."""
        answer = self._ask(line, template, group=group, **values)
        if answer.rows:
            return int(answer.rows[0][0])
        if answer.number:
            return answer.number
        rows = self._ask(line, _REVISION, group=group).rows
        return int(rows[0][0]) if rows else 0
