"""The cycle's frozen set: worked out from the runners' rows once, then read where it is kept."""

import json
from datetime import datetime

import sqlalchemy as sa

from turnwise.atomic_service import ActiveRunnerInfo
from turnwise.backends import Look
from turnwise.backends._schema import Tables
from turnwise.membership import Cycle, cycle_at, service_hash, set_digest, set_rules
from turnwise.old_settings import Settings


def work_out(
    connection: sa.Connection, tables: Tables, service: str, settings: Settings, now: datetime
) -> Look:
    """Work out the set of the cycle of ``now``; only its schedule leaves the database."""
    cycle = cycle_at(now, settings.interval)
    c = tables.runners.c
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
        turn = sa.literal(cycle.number + service_hash(service), sa.BigInteger)
        first = turn % stable.c.size
        turned = (stable.c.place - first + stable.c.size) % stable.c.size
    rows = sa.select(stable).order_by(turned)
    if settings.runs_per_cycle == "once":
        rows = rows.where(turned <= settings.standbys)
    scheduled = list(connection.execute(rows))
    return Look(
        now,
        cycle,
        tuple(
            ActiveRunnerInfo(
                row.runner_id, row.creation_time, row.last_heartbeat, bool(row.may_run)
            )
            for row in scheduled
        ),
        scheduled[0].size if scheduled else 0,
        set_digest([int(scheduled[0].digests)] if scheduled else []),
    )


def kept_schedule(
    connection: sa.Connection, tables: Tables, service: str, settings: Settings, cycle: Cycle
) -> str | None:
    """The set of a cycle as it is kept, None where it was not looked at yet."""
    c = tables.schedules.c
    return connection.scalar(
        sa.select(c.schedule).where(
            c.service == service, c.cycle_start == cycle.start, c.rules == set_rules(settings)
        )
    )


def freeze(
    connection: sa.Connection, tables: Tables, service: str, settings: Settings, now: datetime
) -> str:
    """Work the set of a cycle out and keep it, unless somebody has just done so.

    In a transaction: the service's row is the lock.
    """
    cycle = cycle_at(now, settings.interval)
    services = tables.services.c
    connection.execute(
        sa.select(services.service).where(services.service == service).with_for_update()
    )
    kept = kept_schedule(connection, tables, service, settings, cycle)
    if kept is not None:
        return kept
    schedule = _as_text(work_out(connection, tables, service, settings, now))
    row = {"cycle_start": cycle.start, "rules": set_rules(settings), "schedule": schedule}
    this_service = tables.schedules.c.service == service
    written = connection.execute(sa.update(tables.schedules).where(this_service).values(row))
    if written.rowcount == 0:
        connection.execute(sa.insert(tables.schedules).values(row | {"service": service}))
    return schedule


def _as_text(look: Look) -> str:
    runners = [
        [r.runner_id, r.creation_time.isoformat(), r.last_heartbeat.isoformat()]
        for r in look.scheduled
    ]
    return json.dumps({"size": look.size, "digest": look.digest, "scheduled": runners})


def look_from(text: str, now: datetime, settings: Settings) -> Look:
    """A kept set, as it is looked at now."""
    kept = json.loads(text)
    scheduled = tuple(
        ActiveRunnerInfo(name, datetime.fromisoformat(created), datetime.fromisoformat(heard), True)  # noqa: FBT003
        for name, created, heard in kept["scheduled"]
    )
    return Look(now, cycle_at(now, settings.interval), scheduled, kept["size"], kept["digest"])
