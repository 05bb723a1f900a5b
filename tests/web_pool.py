"""A web program whose requests and jobs share one pool of connections.

Loaded by the server under test; DATABASE names a PostgreSQL server.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import create_async_engine

from turnwise import Scheduler, open_storage

engine = create_async_engine(os.environ["DATABASE"], pool_size=5, max_overflow=0)
scheduler = Scheduler(lambda: open_storage(engine=engine))
counts = {"pid": os.getpid(), "requests": 0, "jobs": 0, "failed": 0}


async def _ask_the_database() -> int:
    async with engine.connect() as connection:
        answer = await connection.scalar(sa.text("SELECT 1 FROM pg_sleep(0.001)"))
    return int(answer or 0)


async def _job() -> None:
    try:
        answer = await _ask_the_database()
        counts["jobs"] += answer
    except Exception:  # not where its turn was lost, which cancels it
        counts["failed"] += 1
        raise


for number in range(5):
    scheduler.add(
        _job,
        "every 2s",
        name=f"job {number}",
        spread_margin="50ms",
        heartbeat_timeout="1200ms",
        min_run_margin="20ms",
    )


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with scheduler:
        yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root() -> dict[str, int]:
    answer = await _ask_the_database()
    counts["requests"] += answer
    return counts
