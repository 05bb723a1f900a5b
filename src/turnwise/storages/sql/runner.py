"""The lives of runners: their heartbeats, their offers, and who counts for a service."""

# ruff: noqa: S608 (what is put into a text is our own; values are parameters)

import json
from collections.abc import Sequence
from hashlib import sha256

from turnwise.storages import (
    Beat,
    Offer,
    OfferRow,
    Owner,
    Pulse,
    RunnerRow,
    Sight,
    StableSet,
    runner_digest,
)
from turnwise.storages.sql.connect import Line
from turnwise.storages.sql.database import Database

_LIFE = "group_name = :group AND runner_id = :runner_id AND boot_id = :boot_id"


def same_life(sought: str, known: str) -> str:
    """That a row of the table ``sought`` is of the life that one of the table ``known`` names.

    PostgreSQL takes a table for nearly empty until it has analyzed it, and would then go through
    the whole group for each row. It is told the group by a function of the known row, so that it
    has no other way than to look the one row up. (Whatever index it takes must then fit: so a
    heartbeat names the hash of its life as well as what it is of.)
    """
    return f"""{sought}.group_name = COALESCE({known}.group_name, '')
  AND {sought}.runner_id = {known}.runner_id AND {sought}.boot_id = {known}.boot_id"""


# It changes no column that an index has.
_BEAT = f"""
UPDATE {{runners}} SET heard_at = {{now}}, beat_count = :count, runs = :runs,
  heartbeat_timeout = :heartbeat_timeout
WHERE {_LIFE} AND beat_count < :count AND left_at IS NULL
"""

# For a heartbeat without a run: PostgreSQL need not wait for the disk with this commit.
_BEAT_AT_LEISURE = f"{_BEAT} AND set_config('synchronous_commit', 'off', true) = 'off'"

# MySQL reads no table that it writes to, unless the rows are set aside first.
_JOIN = """
INSERT INTO {runners} (group_name, runner_id, boot_id, joined_at, heard_at, beat_count,
  heartbeat_timeout, runs, digest)
VALUES (:group, :runner_id, :boot_id, COALESCE((SELECT joined FROM (
    SELECT MIN(joined_at) AS joined FROM {runners}
    WHERE group_name = :group AND runner_id = :runner_id) AS earliest), {now}), {now},
  :count, :heartbeat_timeout, :runs, :digest)
{or_keep}
"""

# First the lives of the runner id, or one row of nothing; then the open runs of the group that
# the heartbeat names, or whose service this life offers.
_PULSE = f"""
SELECT {{row}} {{start}}, (SELECT revision FROM {{revisions}} WHERE group_name = :group),
  (SELECT COUNT(*) FROM {{drained}} WHERE group_name = :group AND runner_id = :runner_id),
  NULL, NULL, NULL, life.boot_id, NULL, NULL, life.beat_count, NULL, life.left_at {{end_of_row}}
FROM (SELECT 1 AS one) one
LEFT JOIN {{runners}} life ON life.group_name = :group AND life.runner_id = :runner_id
UNION ALL
SELECT {{row}} {{start}}, NULL, NULL, r.service, r.run_id, r.runner_id, r.boot_id,
  r.heartbeat_timeout, f.service, o.beat_count, o.runs, o.left_at {{end_of_row}}
FROM {{records}} r
LEFT JOIN {{offers}} f ON f.group_name = COALESCE(r.group_name, '') AND f.service = r.service
  AND f.life = :life AND f.runner_id = :runner_id AND f.boot_id = :boot_id
LEFT JOIN {{runners}} o ON {same_life("o", "r")}
WHERE r.group_name = :group AND r.run_id IS NOT NULL AND r.kind = 'gate'
  AND (f.service IS NOT NULL OR r.run_id IN (:runs))
"""

_LEAVE = f"UPDATE {{runners}} SET left_at = {{now}} WHERE {_LIFE} AND left_at IS NULL"

_OFFER = """
INSERT INTO {offers} (group_name, service, life, runner_id, boot_id, settings, heartbeat_timeout,
  may_run, offered_at)
VALUES (:group, :service, :life, :runner_id, :boot_id, :settings, :heartbeat_timeout, :may_run,
  {now})
{or_keep}
"""
_OFFER_AGAIN = """
UPDATE {offers} SET settings = :settings, heartbeat_timeout = :heartbeat_timeout,
  may_run = :may_run, offered_at = {now}
WHERE group_name = :group AND service = :service AND life = :life
  AND (settings <> :settings OR heartbeat_timeout <> :heartbeat_timeout OR may_run <> :may_run)
"""
_ARE_NEW_SETTINGS = """
AND NOT EXISTS (
  SELECT 1 FROM {offers}
  WHERE group_name = :group AND service = :service AND settings = :settings
    AND NOT (runner_id = :runner_id AND boot_id = :boot_id))
"""
_WITHDRAW = f"DELETE FROM {{offers}} WHERE {_LIFE} AND service = :service"

# Silence is counted up to the start; who is heard of after it, and is seen, is no less alive.
_STABLE = f"""
WITH counting AS (
  SELECT o.runner_id, MAX(r.digest) AS digest
  FROM {{offers}} o JOIN {{runners}} r ON {same_life("r", "o")}
  WHERE o.group_name = :group AND o.service = :service AND o.may_run = 1 AND r.left_at IS NULL
    AND r.heard_at <= {{seen}} AND r.heard_at >= {{start}} - o.heartbeat_timeout
    AND NOT EXISTS (
      SELECT 1 FROM {{drained}} d WHERE d.group_name = :group AND d.runner_id = o.runner_id)
  GROUP BY o.runner_id
), members AS (
  SELECT c.runner_id, (
    SELECT MIN(life.joined_at) FROM {{runners}} life
    WHERE life.group_name = :group AND life.runner_id = c.runner_id) AS joined_at
  FROM counting c
), placed AS (
  SELECT runner_id, joined_at, COUNT(*) OVER () AS size,
    ROW_NUMBER() OVER (ORDER BY joined_at, runner_id) - 1 AS place
  FROM members
), turned AS (
  SELECT runner_id, joined_at, (place + size - :rotation % size) % size AS place FROM placed
)
SELECT {{start}}, total.size, total.digest, t.runner_id, t.joined_at, t.place
FROM (SELECT COUNT(*) AS size, COALESCE(SUM(digest), 0) AS digest FROM counting) total
LEFT JOIN turned t ON t.place < :limit OR t.runner_id IN (:among)
ORDER BY t.place
"""

_DRAIN = "INSERT INTO {drained} (group_name, runner_id) VALUES (:group, :runner_id) {or_keep}"
_UNDRAIN = "DELETE FROM {drained} WHERE group_name = :group AND runner_id = :runner_id"

_RUNNERS = """
SELECT r.runner_id, r.boot_id, r.joined_at, r.heard_at, r.left_at, r.beat_count,
  r.heartbeat_timeout, r.runs, d.runner_id IS NOT NULL
FROM {runners} r LEFT JOIN {drained} d ON d.group_name = :group AND d.runner_id = r.runner_id
WHERE r.group_name = :group ORDER BY r.joined_at, r.runner_id, r.boot_id
"""
_OFFERS = """
SELECT runner_id, boot_id, service, settings, heartbeat_timeout, may_run, offered_at
FROM {offers} WHERE group_name = :group ORDER BY service, runner_id, boot_id
"""

# A life and its offers go in one step: one that is heard of in between would keep the half.
_OLD = "group_name = :group AND heard_at < :before"
_PURGE = {
    "sqlite": (
        f"""DELETE FROM {{offers}} WHERE group_name = :group AND (runner_id, boot_id) IN (
          SELECT runner_id, boot_id FROM {{runners}} WHERE {_OLD})""",
        f"DELETE FROM {{runners}} WHERE {_OLD}",
    ),
    "postgresql": (
        f"""WITH gone AS (
          DELETE FROM {{runners}} WHERE {_OLD} RETURNING group_name, runner_id, boot_id)
        DELETE FROM {{offers}} o USING gone WHERE {same_life("o", "gone")}""",
    ),
    "mysql": (
        f"""DELETE r, o FROM {{runners}} r LEFT JOIN {{offers}} o ON {same_life("o", "r")}
        WHERE r.group_name = :group AND r.heard_at < :before""",
    ),
}
_FORGET = tuple(
    f"DELETE FROM {{{table}}} WHERE group_name = :group AND runner_id = :runner_id"
    for table in ("runners", "offers", "drained")
)
_ALL = 2**62


class Runners(Database):
    """Heartbeats, offers, and the stable set."""

    def heartbeat(self, group: str, beat: Beat) -> Pulse:
        """See :meth:`turnwise.storages.Storage.heartbeat`."""
        durable = bool(beat.runs)
        at_leisure = not durable and self._address.kind == "postgresql"
        with self._beats.taken(durable=durable) as line:
            self._said(line, _BEAT_AT_LEISURE if at_leisure else _BEAT, group, beat)
            pulse = self._pulse(line, group, beat, found=True)
            while pulse is None:  # again where somebody forgets it at once
                self._said(line, _JOIN, group, beat)
                pulse = self._pulse(line, group, beat, found=False)
        return pulse

    def _said(self, line: Line, template: str, group: str, beat: Beat) -> None:
        self._ask(
            line,
            template,
            group=group,
            runner_id=beat.runner_id,
            boot_id=beat.boot_id,
            count=beat.count,
            heartbeat_timeout=beat.heartbeat_timeout,
            runs=json.dumps(beat.runs),
            digest=runner_digest(beat.runner_id),
        )

    def _pulse(self, line: Line, group: str, beat: Beat, *, found: bool) -> Pulse | None:
        """What is read after the write; None where the row is not there."""
        life = {"runner_id": beat.runner_id, "boot_id": beat.boot_id}
        this = {"group": group, **life, "life": _hash(**life)}
        rows = self._ask(line, _PULSE, **this, runs=beat.runs).rows
        lives, sights, open_runs = {}, {}, set()
        for _, _, _, service, run_id, runner_id, boot_id, timeout, offered, *said in rows:
            count, runs, left_at = said
            if run_id is None:
                lives[boot_id] = (count, left_at is not None)
                continue
            if run_id in beat.runs:
                open_runs.add(run_id)
            if offered is not None:
                owner = Owner(run_id, runner_id, boot_id, timeout)
                sights[service] = sight_of(owner, count, runs, left_at)
        if beat.boot_id not in lives:
            return None
        now, revision, drained = next(row[:3] for row in rows if row[4] is None)
        return Pulse(
            now=now,
            revision=revision or 0,
            found=found,
            left=lives.pop(beat.boot_id)[1],
            drained=bool(drained),
            open_runs=frozenset(open_runs),
            sights=sights,
            others=tuple(
                (boot, count) for boot, (count, left) in sorted(lives.items()) if not left
            ),
        )

    def leave(self, group: str, runner_id: str, boot_id: str) -> None:
        """See :meth:`turnwise.storages.Storage.leave`."""
        with self._beats.taken() as line:
            self._ask(line, _LEAVE, group=group, runner_id=runner_id, boot_id=boot_id)

    def offer(self, group: str, offer: Offer) -> int:
        """See :meth:`turnwise.storages.Storage.offer`."""
        life = {"runner_id": offer.runner_id, "boot_id": offer.boot_id}
        this = {"group": group, **life, "service": offer.service, "settings": offer.settings}
        rest = {"heartbeat_timeout": offer.heartbeat_timeout, "may_run": int(offer.may_run)}
        with self._work.taken() as line:
            if not self._ask(line, _OFFER, **this, **rest, life=_hash(**life)).changed:
                self._ask(line, _OFFER_AGAIN, **this, **rest, life=_hash(**life))
            return self._advanced(line, _ARE_NEW_SETTINGS, **this)

    def withdraw(self, group: str, runner_id: str, boot_id: str, service: str) -> None:
        """See :meth:`turnwise.storages.Storage.withdraw`."""
        self._write(_WITHDRAW, group=group, runner_id=runner_id, boot_id=boot_id, service=service)

    def stable(
        self,
        group: str,
        service: str,
        *,
        rotation: int,
        limit: int | None,
        among: Sequence[str] = (),
    ) -> StableSet:
        """See :meth:`turnwise.storages.Storage.stable`."""
        answer = self._read(
            _STABLE,
            group=group,
            service=service,
            rotation=rotation,
            limit=_ALL if limit is None else limit,
            among=tuple(among),
        )
        now, size, digest = answer.rows[0][:3]
        found = [row[3:] for row in answer.rows if row[3] is not None]
        asked = frozenset(among)
        return StableSet(
            now=now,
            size=int(size),
            digest=int(digest) % 2**48,
            runners=tuple((who, at) for who, at, place in found if limit is None or place < limit),
            alive=frozenset(who for who, _, _ in found if who in asked),
        )

    def mark(self, group: str, runner_id: str, *, drained: bool) -> None:
        """See :meth:`turnwise.storages.Storage.mark`."""
        with self._work.taken() as line:
            self._ask(line, _DRAIN if drained else _UNDRAIN, group=group, runner_id=runner_id)
            self._advanced(line, group=group)

    def runners(self, group: str) -> tuple[RunnerRow, ...]:
        """See :meth:`turnwise.storages.Storage.runners`."""
        return tuple(
            RunnerRow(*[*kept, tuple(json.loads(runs)), bool(drained)])
            for *kept, runs, drained in self._read(_RUNNERS, group=group).rows
        )

    def offers(self, group: str) -> tuple[OfferRow, ...]:
        """See :meth:`turnwise.storages.Storage.offers`."""
        return tuple(
            OfferRow(Offer(*[*kept, bool(may_run)]), at)
            for *kept, may_run, at in self._read(_OFFERS, group=group).rows
        )

    def purge_runners(self, group: str, *, before: int) -> None:
        """See :meth:`turnwise.storages.Storage.purge_runners`."""
        self._write(*_PURGE[self._address.kind], group=group, before=before)

    def forget_runner(self, group: str, runner_id: str) -> None:
        """See :meth:`turnwise.storages.Storage.forget_runner`."""
        self._write(*_FORGET, group=group, runner_id=runner_id)


def _hash(runner_id: str, boot_id: str) -> str:
    return sha256(json.dumps([runner_id, boot_id]).encode()).hexdigest()


def sight_of(owner: Owner, count: int | None, runs: str | None, left_at: int | None) -> Sight:
    """An open run, and what the row of its owner's life says, which may not be there."""
    if runs is None:
        return Sight(owner, None, left_at is not None)
    return Sight(owner, count if owner.run_id in json.loads(runs) else 0, left_at is not None)
