"""A web program with housekeeping: in one of its workers at a time.

TURNWISE_STORAGE=sqlite:///turns.db \
    uvicorn fastapi_app:app --workers 4 --timeout-graceful-shutdown 30
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from turnwise import Scheduler, Turn

scheduler = Scheduler(grace="25s")  # on the storage that TURNWISE_STORAGE names


@scheduler.every("5m")
async def tidy_up(turn: Turn) -> None:
    """The housekeeping: on the program's own event loop, beside its requests.

    So it may use what the requests use: a connection pool, an HTTP client, a lock of asyncio.
    """
    await asyncio.sleep(0.1)  # the work
    turn.check()  # before a write: raises TurnLostError where the turn may be another's by now


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Serve turns from the worker's start to its end."""
    async with scheduler:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/who")
def who() -> dict[str, str]:
    """Which worker answers; its runner id is in the history of the turns."""
    return {"runner": scheduler.runner_id}


@app.get("/health")
def health() -> dict[str, bool]:
    """For a probe: whether the scheduler runs, its storage answers, and no turn is lost."""
    return {"is_well": scheduler.health().is_well}
