"""Celery beat on every node: each entry of ``beat_schedule`` is sent once, by whoever's turn it is.

::

    app.conf.beat_scheduler = "turnwise.contrib.celery:Scheduler"
    app.conf.turnwise_storage = "postgresql://app@db/app"  # or the environment's TURNWISE_STORAGE

Then start ``celery beat`` on as many nodes as you like.

Not guaranteed
--------------
- A beat that is killed after it has sent a message, and before the storage knows, leaves the
  period to the next one, which sends the message again. Both have the same task id.
- A broker that has taken a message, and whose answer is lost, may be sent it again by Celery.
- What becomes of a message is the broker's and the workers' business.
"""

from turnwise.errors import MissingExtraError

try:
    import celery as _celery  # noqa: F401 (so that one line says what is missing)
except ImportError as error:
    raise MissingExtraError(
        "turnwise.contrib.celery needs the extra 'celery': pip install 'turnwise[celery]'"
    ) from error

from turnwise.contrib.celery.scheduler import Scheduler

__all__ = ["Scheduler"]
