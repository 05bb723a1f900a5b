"""The rows of runners in an SQL storage, and the cycle's frozen set that is read from them."""

from dataclasses import asdict
from datetime import datetime

import sqlalchemy as sa

from turnwise.atomic_service import ActiveRunnerInfo
from turnwise.backends import Look, Participant
from turnwise.backends._schema import runners
from turnwise.membership import (
    RunnerRecord,
    after_heartbeat,
    cycle_at,
    runner_digest,
    service_hash,
    set_digest,
)
from turnwise.settings import Settings


def beat(
    connection: sa.Connection, service: str, who: Participant, settings: Settings, now: datetime
) -> tuple[RunnerRecord, str | None]:
    """Write a heartbeat; the row as it is now, and the boot id that was on it before."""
    before = runner_row(connection, service, who.runner_id)
    fresh = RunnerRecord(who.runner_id, now, now, who.may_run, boot_id=who.boot_id)
    record = after_heartbeat(before, fresh, settings)
    if before is None:
        row = asdict(record) | {"service": service, "digest": runner_digest(who.runner_id)}
        connection.execute(sa.insert(runners).values(row))
    else:
        write_runner(connection, service, record)
    return record, None if before is None else before.boot_id


def runner_row(connection: sa.Connection, service: str, runner_id: str) -> RunnerRecord | None:
    """The row of one runner."""
    row = connection.execute(
        sa.select(runners).where(runners.c.service == service, runners.c.runner_id == runner_id)
    ).one_or_none()
    return None if row is None else runner_record(row)


def runner_record(row: sa.Row[tuple[object, ...]]) -> RunnerRecord:
    """A row as the record that it keeps."""
    return RunnerRecord(
        row.runner_id, row.creation_time, row.last_heartbeat, row.may_run, row.left_at, row.boot_id
    )


def write_runner(connection: sa.Connection, service: str, record: RunnerRecord) -> None:
    """Overwrite the row of a runner that is there."""
    connection.execute(
        sa.update(runners)
        .where(runners.c.service == service, runners.c.runner_id == record.runner_id)
        .values(asdict(record))
    )


def see(connection: sa.Connection, service: str, settings: Settings, now: datetime) -> Look:
    """The cycle's frozen set: only its schedule leaves the database."""
    cycle = cycle_at(now, settings.interval)
    c = runners.c
    stable = (
        sa.select(
            c.runner_id,
            c.creation_time,
            c.last_heartbeat,
            c.may_run,
            (sa.func.row_number().over(order_by=(c.creation_time, c.runner_id)) - 1).label("place"),
            sa.func.count().over().label("size"),
            sa.func.sum(c.digest).over().label("digests"),
        )
        .where(
            c.service == service,
            c.may_run,
            c.creation_time < cycle.start - settings.spread_margin,
            c.last_heartbeat >= cycle.start - settings.heartbeat_timeout,
            sa.or_(c.left_at.is_(None), c.left_at >= cycle.start),
        )
        .subquery()
    )
    # As membership.scheduled_position has it.
    turned: sa.ColumnElement[int] = stable.c.place
    if settings.runs_per_cycle == "once":
        first = (cycle.number + service_hash(service)) % stable.c.size
        turned = (stable.c.place - first + stable.c.size) % stable.c.size
    rows = sa.select(stable).order_by(turned)
    if settings.runs_per_cycle == "once":
        rows = rows.where(turned <= settings.standbys)
    scheduled = list(connection.execute(rows))
    return Look(
        now,
        cycle,
        tuple(
            ActiveRunnerInfo(row.runner_id, row.creation_time, row.last_heartbeat, row.may_run)
            for row in scheduled
        ),
        scheduled[0].size if scheduled else 0,
        set_digest([int(scheduled[0].digests)] if scheduled else []),
    )
