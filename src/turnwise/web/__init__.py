"""A page to look at: all services, each service's turns, the runners; and, if allowed, commands.

What it is
----------
:func:`create_app` answers an ASGI program, to be mounted in FastAPI, Starlette or anything that
speaks ASGI, at any prefix, or to be served by itself. ``turnwise web`` is that with a server.

Rules
-----
1. **It looks, and changes nothing**, unless ``allow_control`` is true; then a change is a POST that
   comes from the page itself, and is asked about (``turnwise.web.guard``).
2. **It shows what others have written, and runs none of it**: names and reasons are escaped in one
   place (``turnwise.web.rendering``), and a Content-Security-Policy forbids what is not its own.
3. **It never holds up the loop**: the storage is asked in threads, for all viewers together.
4. **It loads nothing from elsewhere**, and can be read without JavaScript.
5. **It answers at once, and what is old says so**: where the storage takes longer, a page shows
   what was known, below a notice, or that the group is being read. A probe and a command wait.

Not guaranteed
--------------
The page has no login of its own. Who can reach it can read it: the names of services and runners,
reasons, settings. A program that mounts it puts its own login before it.

Needs the extra ``web``.
"""

from collections.abc import Collection

from turnwise.errors import MissingExtraError

try:
    import jinja2 as _jinja2  # noqa: F401 (so that one line says what is missing)
    import starlette as _starlette  # noqa: F401
except ImportError as error:
    raise MissingExtraError(
        "turnwise.web needs the extra 'web': pip install 'turnwise[web]'"
    ) from error

from starlette.types import ASGIApp

from turnwise.names import checked_name
from turnwise.storages import Storage
from turnwise.web.app import Page
from turnwise.web.commands import Authorize, Command, CommandName
from turnwise.web.guard import local_names

__all__ = ["Authorize", "Command", "CommandName", "create_app", "local_names"]

_LEAST_SECONDS, _MOST_SECONDS = 0.5, 3600.0


def create_app(
    storage: Storage,
    *,
    group: str = "default",
    allow_control: bool = False,
    authorize: Authorize | None = None,
    hosts: Collection[str] | None = None,
    refresh_seconds: float = 2.0,
    warm: bool = False,
) -> ASGIApp:
    """The page of a group, as an ASGI program.

    Args:
        storage: the group's storage, opened by the caller, who closes it, too.
        group: the group's name.
        allow_control: whether viewers may pause, resume, trigger and drain. Without it there is
            nothing that a request can change.
        authorize: asked about each command, with the request: it answers who gives it, as text for
            the history, or None where they may not. None: whoever can reach the page may, and the
            history has their address.
        hosts: the names, without ports, that requests may be for; addresses such as ``127.0.0.1``
            always are. None: with ``allow_control`` and without ``authorize`` the names of this
            machine alone (:func:`local_names`), so that no page elsewhere can have its own name
            lead here; else every name, as the mounting program has its own idea of that.
        refresh_seconds: how often an open page asks for what is new: from 0.5 to 3,600. Default 2.
        warm: whether to read the group before the first request is answered. For a program that is
            served by itself: one that is mounted is not told when the server starts.

    Raises:
        ValueError: a group that is no name; ``authorize`` without ``allow_control``; seconds that
            are out of range.
    """
    checked_name("group", group)
    if authorize is not None and not allow_control:
        raise ValueError("authorize is asked about commands, and allow_control is False")
    if not _LEAST_SECONDS <= refresh_seconds <= _MOST_SECONDS:
        raise ValueError(
            f"refresh_seconds must be from {_LEAST_SECONDS:g} to {_MOST_SECONDS:g}, "
            f"got {refresh_seconds!r}"
        )
    if hosts is None and allow_control and authorize is None:
        hosts = local_names()
    page = Page(
        storage,
        group,
        allow_control=allow_control,
        authorize=authorize,
        refresh_seconds=refresh_seconds,
    )
    return page.app(hosts, warm=warm)
