"""Invoices, each written once, however often a process dies or is suspended while it writes them.

APP_DATABASE=postgresql+psycopg://app@db/app python monthly_invoice.py
"""

import os

import sqlalchemy as sa

from turnwise import Scheduler, Turn

URL = os.environ["APP_DATABASE"]
engine = sa.create_engine(URL)
scheduler = Scheduler(URL)  # turnwise's tables are in the job's own database

INVOICES = sa.text("""
    INSERT INTO invoices (customer, due, amount)
    SELECT customer, :until, SUM(amount) FROM usages
    WHERE used_at >= :since AND used_at < :until GROUP BY customer
""")


@scheduler.cron("0 6 1 * *", timezone="Europe/Vienna", start_within="14d", attempts=20)
def write_invoices(turn: Turn) -> None:
    """Invoice what was used since the last invoices, which may be more than a month ago."""
    since = 0 if turn.last_served is None else turn.last_served.timestamp()
    with engine.begin() as connection:
        connection.execute(INVOICES, {"since": since, "until": turn.due.timestamp()})
        turn.complete(connection)  # the invoices and this: both are committed, or neither is


if __name__ == "__main__":
    scheduler.run()
