"""Five jobs in a FastAPI program, each run once by one of its workers.

TURNWISE_STORAGE=postgresql://app@db/app uvicorn fastapi_jobs:app --workers 4
"""

from fastapi import FastAPI

from turnwise import Scheduler
from turnwise.contrib.asgi import lifespan

scheduler = Scheduler()  # on the storage that TURNWISE_STORAGE names
app = FastAPI(lifespan=lifespan(scheduler))


@scheduler.every("5m")
async def expire_orders() -> None:
    """Every five minutes."""


@scheduler.every("30s", timeout="20s")
async def refresh_prices() -> None:
    """Every half minute, and cancelled after 20 seconds."""


@scheduler.cron("0 3 * * *", timezone="Europe/Vienna", start_within="2h")
def nightly_report() -> None:
    """At 03:00 in Vienna; not at all where nobody can until 05:00."""


@scheduler.cron("0 6 * * MON")
def weekly_digest() -> None:
    """On Mondays at 06:00 UTC."""


@scheduler.every("1h")
def tidy_up() -> None:
    """Every hour."""
