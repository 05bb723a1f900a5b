"""A FastAPI program whose requests and jobs share a pool, with the page of its jobs.

DATABASE=postgresql+psycopg://app@db/app uvicorn fastapi_pool:app --workers 4
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import create_async_engine

from turnwise import Scheduler, Turn, open_storage
from turnwise.web import create_app

engine = create_async_engine(os.environ["DATABASE"], pool_size=5)
storage = open_storage(engine=engine)  # in the program's database, by two connections of its own
scheduler = Scheduler(storage, grace="25s")


@scheduler.every("5m")
async def tidy_up(turn: Turn) -> None:
    """A job takes a connection of the program's pool, as a request does."""
    async with engine.begin() as connection:
        await connection.execute(sa.text("SELECT 1"))  # the work
        turn.check()  # before the commit: raises where the turn may be another's by now


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """The jobs end before what they need does."""
    async with scheduler:
        yield
    storage.close()
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
app.mount("/jobs", create_app(storage))  # put your login before it: see the page's own page


@app.get("/")
async def one() -> dict[str, int]:
    """A request takes a connection of the same pool."""
    async with engine.connect() as connection:
        return {"one": int(await connection.scalar(sa.text("SELECT 1")) or 0)}
