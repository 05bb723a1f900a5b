"""A Celery app whose beat runs on every node.

celery --app celery_app beat      # on every node
celery --app celery_app worker    # as ever
"""

import os

from celery import Celery
from celery.schedules import crontab

app = Celery("celery_app", broker=os.environ.get("BROKER", "redis://localhost:6379/0"))
app.conf.timezone = "Europe/Vienna"
app.conf.beat_schedule = {
    "nightly": {"task": "report", "schedule": crontab(minute=0, hour=3), "args": ("sales",)},
    "tidy up": {"task": "tidy_up", "schedule": 300.0, "options": {"expires": 60}},
}

# turnwise: two lines.
app.conf.beat_scheduler = "turnwise.contrib.celery:Scheduler"
app.conf.turnwise_storage = os.environ.get("STORAGE", "postgresql://app@localhost/app")


@app.task(name="report")  # type: ignore[untyped-decorator] # Celery has no types
def report(of: str) -> str:
    """The nightly report."""
    return f"the report of {of}"


@app.task(name="tidy_up")  # type: ignore[untyped-decorator] # Celery has no types
def tidy_up() -> None:
    """The housekeeping."""
