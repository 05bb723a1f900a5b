"""ASGI: serve from a worker's start to its end, on its event loop.

For Starlette, FastAPI and their like, which take a lifespan::

    app = FastAPI(lifespan=lifespan(scheduler))

For an application that knows of none, such as Django's::

    application = serving(get_asgi_application(), scheduler)

Both need the standard library alone, and a server that tells of its lifespan, as uvicorn and
hypercorn do.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from turnwise import Scheduler

Message = Mapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[dict[str, object]], Awaitable[None]]
Application = Callable[..., Awaitable[object]]
"""What a server calls with a scope, and with what receives and sends its messages."""


def lifespan(scheduler: Scheduler) -> Callable[[object], AbstractAsyncContextManager[None]]:
    """A lifespan that serves meanwhile.

    Where a program has more to start and end, it has a lifespan of its own, with
    ``async with scheduler:`` in it.

    Args:
        scheduler: one that does not run yet.

    Returns:
        What Starlette and FastAPI take for ``lifespan``.
    """

    @asynccontextmanager
    async def meanwhile(_app: object) -> AsyncIterator[None]:
        async with scheduler:
            yield

    return meanwhile


def serving(application: Application, scheduler: Scheduler) -> Application:
    """The application, with a lifespan that serves meanwhile.

    A start that fails is told to the server, which then ends.

    Args:
        application: one that knows no lifespan.
        scheduler: one that does not run yet.
    """

    async def with_lifespan(scope: Message, receive: Receive, send: Send) -> object:
        if scope["type"] != "lifespan":
            return await application(scope, receive, send)
        await receive()  # that the server starts
        try:
            await scheduler.__aenter__()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.startup.complete"})
        try:
            await receive()  # that it ends
        finally:
            await scheduler.__aexit__(None, None, None)
        await send({"type": "lifespan.shutdown.complete"})
        return None

    return with_lifespan
