"""A web program with housekeeping: in one of its workers at a time.

uvicorn fastapi_app:app --workers 4 --timeout-graceful-shutdown 30
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from fastapi import FastAPI

from turnwise import Runner, Settings, Turn, open_backend

STORAGE = os.environ.get("TURNS", "sqlite:///turns.db")
SETTINGS = Settings(interval=timedelta(minutes=5))
GRACE_SECONDS = 25.0


async def tidy_up(turn: Turn) -> None:
    """The housekeeping: awaited in an event loop of its own, in the runner's thread."""
    await asyncio.sleep(0.1)  # the work
    turn.check()  # before a write: raises TurnLost where the turn may be somebody else's by now


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start a runner with the worker, and end it before the worker ends."""
    backend = open_backend(STORAGE)
    runner = Runner(backend, "housekeeping", tidy_up, settings=SETTINGS)
    runner.start()
    app.state.runner = runner
    yield
    # In a thread, because it waits for the turn that the runner may be in.
    if await asyncio.to_thread(runner.stop, GRACE_SECONDS):
        backend.close()


app = FastAPI(lifespan=lifespan)


@app.get("/who")
def who() -> dict[str, str]:
    """Which worker answers; its runner id is in the history of the turns."""
    runner: Runner = app.state.runner
    return {"runner": runner.runner_id}
