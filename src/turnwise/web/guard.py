"""Who may ask what: the headers of every answer, hosts, and where a change may come from.

Rules
-----
1. **Nothing runs that is not ours.** The Content-Security-Policy allows the page's own files alone:
   no inline script or style, nothing from elsewhere, no frame around it.
2. **A change comes from the page itself.** A POST is refused unless the browser says that a page of
   this very origin sent it: by ``Sec-Fetch-Site``, by ``Origin``, and by both where both are there.
   What says neither is no browser that can be trusted with it, and is refused, too.
3. **A foreign name is not ours.** Where hosts are given, a request for another host is refused: a
   page elsewhere may have its own name lead to this address (DNS rebinding), and would then be of
   the same origin. A number is no name, and cannot be led anywhere: an address is always allowed.
"""

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: with that a browser's own forms would say that they come from nowhere.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Guard:
    """The outermost layer: refuses foreign hosts, and puts the headers on every answer.

    Args:
        app: what answers.
        hosts: the names that a request may be for, without ports; None for every one.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        self._app = app
        self._hosts = None if hosts is None else {host.lower().rstrip(".") for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        host = Headers(scope=scope).get("host", "")
        if self._hosts is not None and not is_allowed(host, self._hosts):
            refusal = PlainTextResponse("This name is not one that is answered for.", 421)
            await refusal(scope, receive, secured)
            return
        await self._app(scope, receive, secured)


def is_allowed(host: str, names: Collection[str]) -> bool:
    """Whether a ``Host`` header is an address, or one of these names in lower case."""
    name = _name_of(host)
    if name is None:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in names
    return True


def local_names(*more: str) -> tuple[str, ...]:
    """The names that lead to this machine for certain: ``localhost``, its own, and those given."""
    return ("localhost", socket.gethostname().lower(), *more)


def why_not_the_same_origin(headers: Headers) -> str | None:
    """Why a request that changes something is refused; None where the page itself sent it."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is None and origin is None:
        return "the browser does not say which page it came from"
    if site not in (None, "same-origin"):
        return "it came from a page elsewhere"
    if origin is not None and not _is_for(origin, headers.get("host", "")):
        return "it came from a page of another origin"
    return None


def _is_for(origin: str, host: str) -> bool:
    """Whether an ``Origin`` names the host and the port of a ``Host`` header."""
    try:
        parts = urlsplit(origin)
        theirs = (parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme])
        ours = urlsplit(f"//{host}")
        default = _DEFAULT_PORTS[parts.scheme]
        return bool(parts.hostname) and theirs == (ours.hostname, ours.port or default)
    except (KeyError, ValueError):  # such as "null"
        return False


def _name_of(host: str) -> str | None:
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return None if parts.hostname is None else parts.hostname.rstrip(".")
