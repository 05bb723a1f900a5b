"""A web program with the page of its jobs at /jobs/, behind the program's own login.

TURNWISE_STORAGE=sqlite:///turns.db uvicorn page_app:app --workers 4

The proxy in front of it knows who somebody is, and says so in a header that nobody else can set.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from turnwise import Scheduler, Turn, open_storage
from turnwise.web import Command, create_app

OPERATORS = {"anna", "bert"}

storage = open_storage()  # the one that TURNWISE_STORAGE names
scheduler = Scheduler(storage)


@scheduler.every("5m")
async def tidy_up(turn: Turn) -> None:
    """The housekeeping."""
    turn.check()


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Serve turns from the worker's start to its end."""
    async with scheduler:
        yield


app = FastAPI(lifespan=lifespan)


def user_of(request: Request) -> str | None:
    """Who somebody is, by the program's own login."""
    return request.headers.get("x-forwarded-user")


def authorize(request: Request, command: Command) -> str | None:
    """Who gives a command, for the history; None for who may not. The report is anna's alone."""
    user = user_of(request)
    if command.target == "report" and user != "anna":
        return None
    return user if user in OPERATORS else None


@app.middleware("http")
async def only_who_is_known(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    """The page has no login of its own: what may be read is the program's to say."""
    if request.url.path.startswith("/jobs") and user_of(request) is None:
        return Response("log in first", 401)
    return await call_next(request)


app.mount("/jobs", create_app(storage, allow_control=True, authorize=authorize))
