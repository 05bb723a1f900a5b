"""An outbox relay: messages that were written in any order become a feed of numbered ones.

APP_DATABASE=postgresql+psycopg://app@db/app python outbox_relay.py

It commits in pieces, so that a long queue holds no long transaction. Each piece is fenced: of two
processes that both take the turn for their own, one cannot commit any more.
"""

import os

import sqlalchemy as sa

from turnwise import Scheduler, Turn

URL = os.environ["APP_DATABASE"]
engine = sa.create_engine(URL)
scheduler = Scheduler(URL)

BATCH = 100
NEXT = sa.text("SELECT id, body FROM outbox ORDER BY id LIMIT :batch")
LAST = sa.text("SELECT COALESCE(MAX(position), 0) FROM feed")
PUBLISH = sa.text("INSERT INTO feed (position, body) VALUES (:position, :body)")
FORGET = sa.text("DELETE FROM outbox WHERE id = :id")


@scheduler.every("10s")
def relay(turn: Turn) -> None:
    """Move what is in the outbox, a batch at a time."""
    is_empty = False
    while not is_empty and not turn.stop_requested:
        with engine.begin() as connection:
            turn.fence(connection)  # first: from here on nobody else can take the turn
            is_empty = move(connection) < BATCH
            if is_empty:
                turn.complete(connection)


def move(connection: sa.Connection) -> int:
    """Move a batch from the outbox to the feed; how many messages that were."""
    messages = connection.execute(NEXT, {"batch": BATCH}).all()
    last = connection.execute(LAST).scalar_one()
    for position, (number, body) in enumerate(messages, last + 1):
        connection.execute(PUBLISH, {"position": position, "body": body})
        connection.execute(FORGET, {"id": number})
    return len(messages)


if __name__ == "__main__":
    scheduler.run()
