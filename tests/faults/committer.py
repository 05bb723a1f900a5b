"""A process whose job writes to the storage's own database, and completes its turn there.

``python -m faults.committer OPTIONS`` takes turns until SIGTERM. Each turn inserts one row into
``effects``: between that first write and the commit it takes its time, so that it can be suspended
or killed there. Each step is a line of a file that all of them share. A period is long enough for
the next in line to try it again, so that a late commit would be a second effect.
"""

import argparse
import logging
import random
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import sqlalchemy as sa

from faults.participant import Resource
from turnwise.errors import TurnLostError
from turnwise.scheduler import Scheduler
from turnwise.turn import Turn

GROUP = "exactly once"
SERVICE = "invoice"
TABLE = "CREATE TABLE IF NOT EXISTS effects (due BIGINT NOT NULL, token BIGINT NOT NULL)"
STEP_SECONDS = 0.03


def connect(url: str) -> Any:
    """A connection of the job's own, with a transaction that begins with the first write."""
    parts = sa.make_url(url).difference_update_query(["table_prefix"])
    if parts.drivername == "sqlite":
        return sqlite3.connect(parts.database or "", timeout=20)
    if parts.drivername == "postgresql":
        return psycopg.connect(parts.render_as_string(hide_password=False))
    return pymysql.connect(
        host=parts.host,
        port=parts.port or 0,
        user=parts.username,
        password=parts.password or "",
        database=parts.database,
    )


def job(url: str, say: Callable[[str, int], None], turn: Turn, *, trusting: bool) -> None:
    """Write, complete, commit, and say so before and after."""
    token = turn.fencing_token
    say("begin", token)
    with closing(connect(url)) as connection:
        cursor = connection.cursor()
        if token % 2 and not trusting:
            turn.fence(connection)
        due = int(turn.due.timestamp())
        cursor.execute(f"INSERT INTO effects (due, token) VALUES ({due}, {token})")  # noqa: S608
        say("write", token)
        time.sleep(random.uniform(0, STEP_SECONDS))  # noqa: S311 (no secret)
        try:
            if not trusting:
                turn.complete(connection)
        except TurnLostError:
            say("lost", token)
            raise
        say("at finish", token)
        time.sleep(random.uniform(0, STEP_SECONDS))  # noqa: S311 (no secret)
        connection.commit()
    say("end", token)


def main() -> int:
    """Take turns until SIGTERM."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--resource", required=True, type=Path)
    parser.add_argument("--runner-id", required=True)
    parser.add_argument("--trusting", action="store_true", help="neither fence nor complete")
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    resource = Resource(options.resource)

    def say(event: Any, token: int) -> None:
        resource.write(options.runner_id, event, token)

    scheduler = Scheduler(options.storage, group=GROUP, runner_id=options.runner_id)

    @scheduler.every(
        "2s", name=SERVICE, attempts=10, spread_margin="50ms", heartbeat_timeout="700ms"
    )
    def invoice(turn: Turn) -> None:
        job(options.storage, say, turn, trusting=options.trusting)

    scheduler.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
