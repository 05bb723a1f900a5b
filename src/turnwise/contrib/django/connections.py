"""Django's database connections around a turn: as around a request, and closed at its end.

A plain job has a thread of its own, and so connections of its own, which nobody could use after
it. A coroutine's queries run in one thread of its own, too, for the length of its turn.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import close_old_connections, connections

Function = Callable[..., object]


def with_its_own_connections(function: Function) -> Function:
    """The function, with connections that nobody else has used, and nobody will."""
    if inspect.iscoroutinefunction(_innermost(function)):
        return _coroutine(cast("Callable[..., Awaitable[object]]", function))

    @functools.wraps(function)
    def job(*arguments: object) -> object:
        close_old_connections()
        try:
            return function(*arguments)
        finally:
            connections.close_all()

    return job


def _coroutine(function: Callable[..., Awaitable[object]]) -> Function:
    @functools.wraps(function)
    async def job(*arguments: object) -> object:
        async with ThreadSensitiveContext():
            await sync_to_async(close_old_connections)()
            try:
                return await function(*arguments)
            finally:
                await sync_to_async(connections.close_all)()

    return job


def _innermost(function: Function) -> object:
    """The function that a partial or a callable object calls in the end."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return type(function).__call__
