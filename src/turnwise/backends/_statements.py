"""The statements that a round is made of, each one round trip where the database allows it.

Built once for a storage and executed many times: the parameters begin with ``the_`` (or with
``moment_``, see :mod:`turnwise.backends._moment`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from turnwise.backends import ExecutionRecord
from turnwise.backends._database import Database
from turnwise.backends._moment import Moment
from turnwise.backends._prepared import Answer, Prepared
from turnwise.backends._schema import Expression, Instant
from turnwise.backends._sqlite import driver_of
from turnwise.old_settings import Settings

if TYPE_CHECKING:
    from turnwise.backends._schema import AnyRow, AnySelect


def given(column: sa.Column[Any]) -> sa.BindParameter[Any]:
    """The parameter for a column."""
    return sa.bindparam(f"the_{column.name}", type_=column.type)


def record_parameters(record: ExecutionRecord, **keys: object) -> dict[str, object]:
    """An execution and its keys at the gate, under the names of their parameters."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return parameters(**values, **keys)


def parameters(**values: object) -> dict[str, object]:
    """Values under the names of their parameters."""
    return {f"the_{name}": value for name, value in values.items()}


class Statements:
    """The statements for one storage: its tables, its clock, and what its dialect can do."""

    def __init__(self, database: Database) -> None:
        self.tables, self.clock, self.dialect = database.tables, database.clock, database.dialect
        self._prepared: dict[AnySelect | sa.UpdateBase, Prepared] = {}

    @property
    def returns(self) -> bool:
        """Whether a write can answer with what it wrote."""
        return self.dialect.update_returning

    @property
    def changes_in_cte(self) -> bool:
        """Whether a statement can take several writes along."""
        return self.dialect.name == "postgresql"

    def execute(
        self,
        connection: sa.Connection,
        statement: "AnySelect | sa.UpdateBase",
        values: Mapping[str, object],
    ) -> Answer:
        """Execute one of the statements below."""
        if self.dialect.name != "sqlite":
            return connection.execute(statement, values)
        prepared = self._prepared.get(statement)
        if prepared is None:
            prepared = self._prepared[statement] = Prepared(statement, self.dialect)
        return prepared.execute(driver_of(connection), values)

    def answer(
        self,
        connection: sa.Connection,
        write: sa.Insert,
        values: dict[str, object],
        *,
        otherwise: "AnySelect",
    ) -> "AnyRow":
        """Write, and answer with what was written: where a write cannot, ``otherwise`` asks."""
        written = self.execute(connection, write, values)
        answer = written if self.returns else self.execute(connection, otherwise, values)
        row: AnyRow = answer.one()
        return row

    def read_clock(self, connection: sa.Connection, settings: Settings) -> datetime:
        """The clock, and nothing else."""
        now = self.execute(connection, self.now, self.clock.parameters(settings)).one().now
        assert isinstance(now, datetime)  # noqa: S101 (for the type checker)
        return now

    # A heartbeat, and what it finds ---------------------------------------------------------

    @cached_property
    def heartbeat(self) -> sa.Insert:
        """Write a heartbeat."""
        statement, moment = self._beat()
        return self._answering(statement, self._answers(moment))

    @cached_property
    def heartbeat_in_turn(self) -> sa.Insert:
        """Write a heartbeat, and keep a run alive; only where a write can take another along."""
        statement, moment = self._beat()
        kept = (
            self.this_run.values(last_heartbeat=moment.now).returning(sa.literal(1).label("kept"))
        ).cte("kept")
        holds_run = sa.exists(sa.select(kept.c.kept)).label("holds_run")
        return self._answering(statement.add_cte(kept), [*self._answers(moment), holds_run])

    @cached_property
    def look(self) -> sa.Insert:
        """Write a heartbeat, and read the cycle's schedule where it is written down."""
        statement, moment = self._beat()
        schedule = self._schedule(moment).scalar_subquery().label("schedule")
        return self._answering(statement, [*self._answers(moment), schedule])

    @cached_property
    def after_heartbeat(self) -> "AnySelect":
        """What ``heartbeat`` and ``look`` answer, where a write cannot."""
        moment, c = self.clock.moment(), self.tables.runners.c
        schedule = self._schedule(moment).scalar_subquery().label("schedule")
        return sa.select(*self._answers(moment), schedule).where(
            c.service == given(c.service), c.runner_id == given(c.runner_id)
        )

    @cached_property
    def keep_alive(self) -> sa.Update:
        """Keep a run alive."""
        return self.this_run.values(last_heartbeat=self.clock.at_once())

    def _answers(self, moment: Moment) -> list[Expression]:
        c = self.tables.runners.c
        return [moment.now.label("now"), c.creation_time, c.previous_boot_id]

    def _answering(self, statement: sa.Insert, answers: Iterable[Expression]) -> sa.Insert:
        return statement.returning(*answers) if self.returns else statement

    def _schedule(self, moment: Moment) -> "AnySelect":
        c = self.tables.schedules.c
        return sa.select(c.schedule).where(
            c.service == given(c.service),
            c.cycle_start == moment.cycle_start,
            c.rules == given(c.rules),
        )

    def _beat(self) -> tuple[sa.Insert, Moment]:
        """An upsert by the rules of `turnwise.membership.after_heartbeat`, on the row before."""
        # A heartbeat that is lost with its server is followed by the next one.
        anywhere, runners = self.clock.moment(durable=False), self.tables.runners
        row_of_it, moment = anywhere.joined()
        old, c = runners.alias("old"), runners.c
        nothing = sa.null()
        may_run = given(c.may_run)
        silent = old.c.last_heartbeat < moment.silent_before
        had_left = sa.and_(old.c.left_at.is_not(None), old.c.left_at < moment.cycle_start)
        may_run_again = sa.and_(may_run, sa.not_(old.c.may_run))
        joins = sa.or_(old.c.runner_id.is_(None), silent, had_left, may_run_again)
        later = sa.or_(old.c.creation_time.is_(None), old.c.creation_time < moment.now)
        row = {
            c.service: given(c.service),
            c.runner_id: given(c.runner_id),
            # Should the clock step back, a creation time must not, nor a heartbeat.
            c.creation_time: sa.case(
                (sa.and_(joins, later), moment.now), else_=old.c.creation_time
            ),
            c.last_heartbeat: sa.case(
                (sa.or_(joins, old.c.last_heartbeat < moment.now), moment.now),
                else_=old.c.last_heartbeat,
            ),
            c.may_run: sa.case((joins, may_run), else_=old.c.may_run),
            c.left_at: sa.case(
                (sa.or_(joins, old.c.may_run == may_run), nothing),
                else_=sa.func.coalesce(old.c.left_at, moment.now),
            ),
            c.boot_id: given(c.boot_id),
            c.previous_boot_id: old.c.boot_id,
            c.digest: given(c.digest),
        }
        it = sa.and_(old.c.service == given(c.service), old.c.runner_id == given(c.runner_id))
        source = sa.select(*row.values()).select_from(row_of_it.outerjoin(old, it)).where(sa.true())
        return self.upsert(runners, list(row), source).add_cte(*anywhere.ctes), anywhere

    # The gate -------------------------------------------------------------------------------

    @cached_property
    def make_service(self) -> sa.Insert:
        """Insert a service's row, unless it is there."""
        c = self.tables.services.c
        row = {c.service: given(c.service), c.fencing_token: sa.literal(0, sa.BigInteger)}
        source = sa.select(*row.values()).where(sa.true())
        return self.upsert(self.tables.services, list(row), source, keep=True)

    @cached_property
    def next_token(self) -> sa.Update:
        """Count on; where rows are locked, this also lets one at a time through the gate."""
        c = self.tables.services.c
        return (
            sa.update(self.tables.services)
            .where(c.service == given(c.service))
            .values(fencing_token=c.fencing_token + 1)
        )

    @cached_property
    def admit(self) -> sa.Insert:
        """Insert a run with the next token; the unique keys refuse it, or it is admitted."""
        services, executions = self.tables.services, self.tables.executions
        # Read after the lock, so that no run starts before the one before has ended.
        now = self.clock.at_once()
        source: sa.FromClause = services
        where: sa.ColumnElement[bool] = services.c.service == given(services.c.service)
        if self.changes_in_cte:
            locked = self.next_token.returning(services.c.fencing_token, now.label("now"))
            source = locked.cte("gate")
            now, where = source.c.now, sa.true()
        row = self._execution_row(
            {"fencing_token": source.c.fencing_token, "start_time": now, "last_heartbeat": now}
        )
        statement = sa.insert(executions).from_select(
            list(row), sa.select(*row.values()).select_from(source).where(where)
        )
        if not self.returns:
            return statement
        return statement.returning(executions.c.fencing_token, executions.c.start_time)

    @cached_property
    def after_admit(self) -> "AnySelect":
        """What ``admit`` answers, where a write cannot."""
        c = self.tables.executions.c
        return sa.select(c.fencing_token, c.start_time).where(
            c.service == given(c.service), c.run_id == given(c.run_id)
        )

    @cached_property
    def block(self) -> sa.Insert:
        """Insert a BLOCKED row, unless it is there."""
        moment = self.clock.moment()
        now = dict.fromkeys(("start_time", "end_time", "last_heartbeat"), moment.now)
        row = self._execution_row(now)
        statement = self.upsert(
            self.tables.executions, list(row), sa.select(*row.values()).where(sa.true()), keep=True
        )
        return statement.add_cte(*moment.ctes)

    def _execution_row(self, computed: dict[str, Expression]) -> dict[str, Expression]:
        return {c.name: computed.get(c.name, given(c)) for c in self.tables.executions.c}

    @cached_property
    def this_run(self) -> sa.Update:
        """A run by its id, while it is open."""
        c = self.tables.executions.c
        return sa.update(self.tables.executions).where(
            c.service == given(c.service), c.run_id == given(c.run_id), c.running == 1
        )

    @cached_property
    def close(self) -> sa.Update:
        """End an open run, and open its cycle again where its end leaves it open."""
        return self._closing(self.this_run)

    @cached_property
    def bury(self) -> sa.Update:
        """End an open run whose owner is dead."""
        c = self.tables.executions.c
        dead_before = sa.bindparam("the_dead_before", type_=Instant)
        return self._closing(self.this_run.where(c.last_heartbeat < dead_before))

    def _closing(self, run: sa.Update) -> sa.Update:
        c = self.tables.executions.c
        opens_cycle = sa.bindparam("the_opens_cycle", type_=sa.Boolean)
        statement = run.values(
            status=given(c.status),
            reason=given(c.reason),
            end_time=self.clock.at_once(),
            running=None,
            serves=sa.case((opens_cycle, sa.null()), else_=c.serves),
        )
        return statement.returning(*self.tables.record_columns) if self.returns else statement

    # Retention: what is over goes, by age and by count, never of this cycle, never a running one --

    @cached_property
    def find_what_is_over(self) -> "AnySelect":
        """The first execution beyond the count, newest first, and whether any row is too old."""
        c = self.tables.executions.c
        beyond = (
            sa.select(c.start_time, c.run_id)
            .where(self._ended)
            .order_by(c.start_time.desc(), c.run_id.desc())
            .offset(sa.bindparam("the_count", type_=sa.Integer))
            .limit(1)
        ).subquery("beyond")
        one = sa.select(sa.literal(1).label("one")).subquery("one")
        return sa.select(
            beyond.c.start_time,
            beyond.c.run_id,
            sa.exists(sa.select(c.run_id).where(self._too_old)).label("any_old"),
            sa.exists(sa.select(self.tables.runners.c.runner_id).where(self._forgotten)).label(
                "any_forgotten"
            ),
        ).select_from(one.outerjoin(beyond, sa.true()))

    @cached_property
    def forget_executions(self) -> sa.Delete:
        """Delete the old ones, and the one beyond the count with all that are older than it."""
        c = self.tables.executions.c
        same_time = sa.and_(c.start_time == given(c.start_time), c.run_id <= given(c.run_id))
        too_many = sa.or_(c.start_time < given(c.start_time), same_time)
        over = sa.and_(self._ended, self._before_this_cycle, too_many)
        return sa.delete(self.tables.executions).where(sa.or_(self._too_old, over))

    @cached_property
    def forget_runners(self) -> sa.Delete:
        """Delete the runners that were silent for too long."""
        return sa.delete(self.tables.runners).where(self._forgotten)

    @property
    def _ended(self) -> Expression:
        c = self.tables.executions.c
        return sa.and_(c.service == given(c.service), c.running.is_(None))

    @property
    def _before_this_cycle(self) -> Expression:
        c = self.tables.executions.c
        return c.cycle_start < given(c.cycle_start)

    @property
    def _too_old(self) -> Expression:
        c = self.tables.executions.c
        this_service = c.service == given(c.service)
        return sa.and_(this_service, c.end_time < given(c.end_time), self._before_this_cycle)

    @property
    def _forgotten(self) -> Expression:
        c = self.tables.runners.c
        return sa.and_(c.service == given(c.service), c.last_heartbeat < given(c.last_heartbeat))

    # What is left ---------------------------------------------------------------------------

    @cached_property
    def leave(self) -> sa.Update:
        """Mark that a runner leaves, unless another process has taken over its id."""
        c = self.tables.runners.c
        return (
            sa.update(self.tables.runners)
            .where(
                c.service == given(c.service),
                c.runner_id == given(c.runner_id),
                c.boot_id == given(c.boot_id),
            )
            .values(left_at=sa.func.coalesce(c.left_at, self.clock.at_once()))
        )

    @cached_property
    def now(self) -> "AnySelect":
        """The clock alone."""
        return sa.select(self.clock.at_once().label("now"))

    # What the dialects write differently ----------------------------------------------------

    def upsert(
        self,
        table: sa.Table,
        columns: list[sa.Column[Any]] | list[str],
        source: "AnySelect",
        *,
        keep: bool = False,
    ) -> sa.Insert:
        """Insert a row, or overwrite (``keep``: leave) the one that has its primary key."""
        key = [c.name for c in table.primary_key]
        names = [c if isinstance(c, str) else c.name for c in columns]
        changed = [name for name in names if name not in key]
        if self.dialect.name in ("mysql", "mariadb"):
            kept = {key[0]: table.c[key[0]]}
            # VALUES() is the one form that MySQL and MariaDB both take here.
            new = {name: sa.func.values(sa.literal_column(name)) for name in changed}
            into = mysql.insert(table).from_select(names, source)
            return into.on_duplicate_key_update(kept if keep else new)
        insert = postgresql.insert if self.dialect.name == "postgresql" else sqlite.insert
        onto = insert(table).from_select(names, source)
        if keep:
            return onto.on_conflict_do_nothing(index_elements=key)
        return onto.on_conflict_do_update(
            index_elements=key, set_={name: onto.excluded[name] for name in changed}
        )
