"""The records of a service, replaced by compare and set.

A record may be locked by a transaction of a job's (:mod:`turnwise.storages.sql.joined`), for as
long as that takes. A swap does not wait for it: it is told that the record is busy. Others that
swap at the same time hold the lock for one statement; so a swap tries a few times before that.

A record that is not there yet is a row with an empty version, or no row. So that there is a row
to lock, a swap of a record that is not there makes it first: an empty row changes nothing.
"""

# ruff: noqa: S608 (what is put into a text is our own; values are parameters)

import time
from collections.abc import Sequence

from turnwise.storages import Kind, Owner, Reading, Record, ServiceReading, Sight, Swapped
from turnwise.storages.sql.connect import LockedError
from turnwise.storages.sql.database import Database
from turnwise.storages.sql.runner import same_life, sight_of
from turnwise.storages.sql.statements import Value

_READ = f"""
SELECT {{row}} {{start}}, v.revision, r.service, r.kind, r.version, r.body, r.run_id, r.runner_id,
  r.boot_id, r.heartbeat_timeout, o.beat_count, o.runs, o.left_at {{end_of_row}}
FROM {{revisions}} v
LEFT JOIN {{records}} r ON r.group_name = :group AND r.service IN (:services) AND r.version <> ''
LEFT JOIN {{runners}} o ON {same_life("o", "r")}
WHERE v.group_name = :group
"""
_READ_WITHOUT_REVISION = _READ.replace(
    "FROM {revisions} v", "FROM (SELECT :group AS group_name, 0 AS revision) v"
)

_MAKE_PLACE = """
INSERT INTO {records} (group_name, service, kind, version, body)
VALUES (:group, :service, :kind, '', '') {or_keep}
"""

SET = """
version = :version, body = :body, run_id = :run_id, runner_id = :runner_id, boot_id = :boot_id,
heartbeat_timeout = :heartbeat_timeout
"""
"""What a swap sets; :func:`values_of` has the values."""

THIS = "group_name = :group AND service = :service AND kind = :kind"
"""One record."""

_SWAP = f"""
{{at_once}} UPDATE {{records}} SET {SET}
WHERE {THIS} AND version = :expected AND {{told}}({{now}}) <= :not_after
"""

# A plain UPDATE would read the clock before it waits for the row.
_LOCK_AND_SWAP = f"""
WITH locked AS MATERIALIZED (
  SELECT version FROM {{records}} WHERE {THIS} FOR UPDATE SKIP LOCKED
), clock AS MATERIALIZED (
  SELECT {{now}} AS now FROM locked
), swapped AS (
  UPDATE {{records}} SET {SET} FROM clock
  WHERE {THIS} AND version = :expected AND clock.now <= :not_after
  RETURNING 1
)
SELECT (SELECT now FROM clock), EXISTS (SELECT 1 FROM swapped)
"""

_NOW = "SELECT {start}"
_NOW_AND_WHETHER_THERE = f"{_NOW}, (SELECT COUNT(*) FROM {{records}} WHERE {THIS})"
_FOREVER = 2**62
_TRIES = 5
_BETWEEN_TRIES_SECONDS = 0.01


class Records(Database):
    """Reading and swapping."""

    def read(self, group: str, services: Sequence[str]) -> Reading:
        """See :meth:`turnwise.storages.Storage.read`."""
        this: dict[str, Value] = {"group": group, "services": tuple(services)}
        # MariaDB takes a tenth longer where one statement does for both.
        rows = self._read(_READ, **this).rows or self._read(_READ_WITHOUT_REVISION, **this).rows
        now, revision = rows[0][:2]
        plans: dict[str, Record] = {}
        gates: dict[str, Record] = {}
        sights: dict[str, Sight] = {}
        for service, kind, version, body, run_id, runner_id, boot_id, timeout, *said in (
            row[2:] for row in rows if row[2] is not None
        ):
            owner = None if run_id is None else Owner(run_id, runner_id, boot_id, timeout)
            (gates if kind == Kind.GATE else plans)[service] = Record(version, body, owner)
            if owner is not None and kind == Kind.GATE:
                sights[service] = sight_of(owner, *said)
        found = {
            name: ServiceReading(plans.get(name), gates.get(name), sights.get(name))
            for name in services
        }
        return Reading(now, revision, found)

    def swap(
        self,
        group: str,
        service: str,
        kind: Kind,
        expected: str | None,
        new: Record,
        not_after: int | None = None,
    ) -> Swapped:
        """See :meth:`turnwise.storages.Storage.swap`."""
        values = {
            **values_of(group, service, kind, new),
            "expected": expected or "",
            "not_after": _FOREVER if not_after is None else not_after,
        }
        tries = _TRIES if self._address.kind != "sqlite" else 1  # which has waited by then
        makes = expected is None
        while (swapped := self._swap_once(values, makes=makes)).busy and (tries := tries - 1):
            time.sleep(_BETWEEN_TRIES_SECONDS)
        return swapped

    def _swap_once(self, values: dict[str, Value], *, makes: bool) -> Swapped:
        is_postgresql = self._address.kind == "postgresql"
        try:
            with self._work.taken(patient=False) as line:
                if makes:
                    self._ask(line, _MAKE_PLACE, **values)
                answer = self._ask(line, _LOCK_AND_SWAP if is_postgresql else _SWAP, **values)
                now, done, busy = answer.now or answer.number, answer.changed, False
                if answer.rows:
                    [(now, done)] = answer.rows
                if not now:  # another version is there than was expected, or the row is locked
                    [(now, there)] = self._ask(line, _NOW_AND_WHETHER_THERE, **values).rows
                    busy = bool(there) and is_postgresql
            return Swapped(now, bool(done), busy)
        except LockedError:
            [(now,)] = self._read(_NOW).rows
            return Swapped(now, done=False, busy=True)


def values_of(group: str, service: str, kind: Kind, new: Record) -> dict[str, Value]:
    """Which record, and what it is to be."""
    owner = new.owner
    return {
        "group": group,
        "service": service,
        "kind": kind.value,
        "version": new.version,
        "body": new.body,
        "run_id": None if owner is None else owner.run_id,
        "runner_id": None if owner is None else owner.runner_id,
        "boot_id": None if owner is None else owner.boot_id,
        "heartbeat_timeout": None if owner is None else owner.heartbeat_timeout,
    }
