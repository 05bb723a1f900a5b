"""The gate of an SQL storage: unique keys that refuse, and the answer why."""

from typing import TYPE_CHECKING

import sqlalchemy as sa

from turnwise.atomic_service import AtomicServiceExecutionStatus, AtomicServiceRun
from turnwise.backends import (
    CYCLE_SERVED,
    OWNER_DEAD,
    PRIOR_RUNNING,
    Admission,
    Look,
    StorageError,
    blocked_record,
    dead_at,
    leaves_cycle_open,
    running_record,
    served_instant,
)
from turnwise.backends._database import Database, RefusedError
from turnwise.backends._statements import Statements, parameters, record_parameters
from turnwise.old_settings import Settings

if TYPE_CHECKING:
    from turnwise.backends._schema import AnyRow

_ABANDONED = AtomicServiceExecutionStatus.ABANDONED
_TRIES = 5


class SqlGate:
    """Admits runs to services on one database."""

    def __init__(self, database: Database, statements: Statements) -> None:
        self._database, self._do = database, statements
        self._tables, self._clock = database.tables, database.clock

    def admit(
        self, service: str, run: AtomicServiceRun, settings: Settings, look: Look
    ) -> Admission:
        """Insert the run, or say what is in its way; see :class:`turnwise.backends.Backend`."""
        for _ in range(_TRIES):
            try:
                row = self._insert(service, run, settings, look)
            except RefusedError:
                admission = self._refuse(service, run, settings, look)
                if admission is not None:
                    return admission
                continue
            # Only now is it admitted: the commit was acknowledged.
            run.started_at = row.start_time
            return Admission(row.start_time, row.fencing_token)
        raise StorageError(f"{self._database.name}: the gate changed with each look at it")

    def keep_blocked(
        self,
        connection: sa.Connection,
        service: str,
        run: AtomicServiceRun,
        reason: str,
        look: Look,
    ) -> None:
        """Insert a BLOCKED row, unless it is there."""
        blocked = blocked_record(service, run, reason, look.now, look)
        of_this = record_parameters(blocked, running=None, serves=None)
        self._do.execute(
            connection, self._do.block, of_this | self._clock.parameters(_ANY_SETTINGS)
        )

    def _insert(
        self, service: str, run: AtomicServiceRun, settings: Settings, look: Look
    ) -> "AnyRow":
        """Try to insert a run; the unique keys refuse, or it is admitted."""
        moment = self._clock.parameters
        record = running_record(service, run, None, look.now, look)
        of_this = record_parameters(record, running=1, serves=served_instant(run, settings))
        row: AnyRow | None = None
        if self._do.changes_in_cte:
            with self._database.connection(atomic=False) as connection:
                inserted = self._do.execute(connection, self._do.admit, of_this | moment(settings))
                row = inserted.one_or_none()
        else:
            with self._database.connection() as connection:
                # Somebody else may make the service's row after this, and no token be counted.
                if self._do.execute(connection, self._do.next_token, of_this).rowcount == 1:
                    row = self._do.answer(
                        connection,
                        self._do.admit,
                        of_this | moment(settings),
                        otherwise=self._do.after_admit,
                    )
        if row is None:  # the service has no row yet
            self._make_service(service)
            return self._insert(service, run, settings, look)
        return row

    def _make_service(self, service: str) -> None:
        with self._database.connection(atomic=False) as connection:
            self._do.execute(connection, self._do.make_service, parameters(service=service))

    def _refuse(
        self, service: str, run: AtomicServiceRun, settings: Settings, look: Look
    ) -> Admission | None:
        """The unique keys have refused: say why, or None where it is worth another try."""
        c = self._tables.executions.c
        serves = c.serves == served_instant(run, settings)
        its_id = c.run_id == run.atomic_service_id.atomic_service_run_id
        in_the_way = sa.select(c.run_id, c.last_heartbeat, c.running).where(
            c.service == service, sa.or_(c.running == 1, serves, its_id)
        )
        with self._database.connection(atomic=False) as connection:
            now = self._do.read_clock(connection, settings)
            rows = connection.execute(in_the_way).all()
            prior = next((row for row in rows if row.running), None)
            if prior is None:
                return Admission(now, None, CYCLE_SERVED) if rows else None
            if now >= dead_at(prior.last_heartbeat, settings):
                dead = ending(service, prior.run_id, _ABANDONED, OWNER_DEAD, settings)
                before = parameters(dead_before=now - settings.heartbeat_timeout)
                moment = self._clock.parameters(settings)
                self._do.execute(connection, self._do.bury, dead | before | moment)
                return None
            refusal = f"{PRIOR_RUNNING}:{prior.run_id}"
            self.keep_blocked(connection, service, run, refusal, look)
        return Admission(now, None, refusal, dead_at(prior.last_heartbeat, settings))


def ending(
    service: str,
    run_id: str,
    status: AtomicServiceExecutionStatus,
    reason: str,
    settings: Settings,
) -> dict[str, object]:
    """The parameters of the end of a run."""
    return parameters(
        service=service,
        run_id=run_id,
        status=status,
        reason=reason,
        opens_cycle=leaves_cycle_open(status, reason, settings),
    )


_ANY_SETTINGS = Settings()
"""For the clock's parameters where no cycle is asked for."""
