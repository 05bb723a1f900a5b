"""The program that answers for the page: its addresses, and what each of them does."""

from collections.abc import AsyncIterator, Callable, Collection, Hashable, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import anyio
from anyio import to_thread
from anyio.lowlevel import RunVar
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from turnwise.errors import BusyError, StorageError, TurnwiseError
from turnwise.overview import words
from turnwise.overview.findings import Level
from turnwise.storages import Storage
from turnwise.web.commands import (
    OF_RUNNERS,
    TOLD,
    Authorize,
    Command,
    CommandName,
    RefusedError,
    carry_out,
    read_command,
    who_gives,
)
from turnwise.web.guard import SECURITY_HEADERS, Guard, why_not_the_same_origin
from turnwise.web.kept import Kept
from turnwise.web.pages import health_of, runners_page, services_page
from turnwise.web.reading import Reader
from turnwise.web.rendering import STATIC, Urls, prepare, rendered, static, version_of
from turnwise.web.service_page import KINDS, SPANS, Asked, service_page

_PROMPT_SECONDS = 0.05
"""So long a page is waited for before an older one is shown, or that the group is being read."""
_OLDEST_SHOWN_SECONDS = 3600.0
"""What is older says more of another day than of this one."""
_GLANCE_SECONDS = 0.005
_PATIENCE_SECONDS = 20.0
_PROBE_PATIENCE_SECONDS = 5.0
_MOST_THREADS = 8
_FOR_EVER = "public, max-age=31536000, immutable"
_WELL, _NOT_WELL = 200, 503

# Of each event loop, so that the mounting program's own threads are not used up. A probe has
# others: it must be answered though all the threads of viewers wait for the storage.
_THREADS: RunVar[anyio.CapacityLimiter] = RunVar("turnwise_page_threads")
_PROBES: RunVar[anyio.CapacityLimiter] = RunVar("turnwise_page_probes")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Part:
    """The part of a page that is shown anew while somebody looks: its HTML.

    ``as_of`` is the storage's now, at which all of it was so.
    """

    html: str
    as_of: str


@dataclass(frozen=True, slots=True)
class _Old:
    """What was so a while ago, and is being read anew: how long ago that was, in words."""

    part: _Part
    ago: str


class Page:
    """The page of one group.

    Args:
        storage: the group's storage; it is neither closed nor written to, but by commands.
        group: the group's name.
        allow_control: whether there are commands.
        authorize: asked about each command; None for whoever can reach the page.
        refresh_seconds: how often an open page asks for what is new.
    """

    def __init__(
        self,
        storage: Storage,
        group: str,
        *,
        allow_control: bool,
        authorize: Authorize | None,
        refresh_seconds: float,
    ) -> None:
        self._storage, self._group = storage, group
        self._control, self._authorize = allow_control, authorize
        self._refresh = refresh_seconds
        self._reader = Reader(storage, group)
        self._parts: Kept[_Part] = Kept()

    def app(self, hosts: Collection[str] | None, *, warm: bool) -> Guard:
        """The program; where ``warm``, it reads the group before it answers the first request."""
        app = Starlette(
            routes=self._routes(),
            lifespan=self._warmed if warm else None,
            exception_handlers={
                HTTPException: self._on_http_error,
                RefusedError: self._on_refusal,
                TurnwiseError: self._on_trouble,
                500: self._on_fault,
            },
        )
        prepare()
        return Guard(app, hosts)

    def _routes(self) -> list[Route]:
        commands = CommandName if self._control else ()
        return [
            Route("/", self._services),
            Route("/service", self._service),
            Route("/runners", self._runners),
            Route("/healthz", self._healthz),
            Route("/static/{name}", _static),
            *(Route(f"/{each}", self._command_of(each), methods=["POST"]) for each in commands),
        ]

    @asynccontextmanager
    async def _warmed(self, _: Starlette) -> AsyncIterator[None]:
        with suppress(TurnwiseError):  # whoever asks is told
            await self._in_thread(lambda: self._parts.get(("", "", ()), self._services_part))
        yield

    # What is shown --------------------------------------------------------------------------------

    async def _services(self, request: Request) -> Response:
        return await self._shown(request, "", "Services", (), self._services_part)

    def _services_part(self, urls: Urls | None = None) -> _Part:
        page = services_page(self._reader)
        values = {"page": page, "url": urls or Urls("")}
        return _Part(rendered("services.html", values), page.now)

    async def _runners(self, request: Request) -> Response:
        every = request.query_params.get("all") == "yes"

        def part(urls: Urls) -> _Part:
            page = runners_page(self._reader, every=every)
            values = {"page": page, "url": urls, "control": self._control}
            return _Part(rendered("runners.html", values), page.now)

        return await self._shown(request, "runners", "Runners", (every,), part)

    async def _service(self, request: Request) -> Response:
        query = request.query_params
        name = query.get("name", "")
        kinds = tuple(kind for kind in KINDS if kind in query.getlist("status"))
        span = query.get("span")
        asked = Asked(name, span if span in SPANS else None, kinds)

        def part(urls: Urls) -> _Part:
            page = service_page(self._reader, asked)
            if page is None:
                raise RefusedError(404, f"There is no service {name!r}.")
            values = {"page": page, "url": urls, "kinds": KINDS, "control": self._control}
            return _Part(rendered("service.html", values), page.now)

        return await self._shown(request, "service", name, (asked,), part)

    async def _shown(
        self,
        request: Request,
        here: str,
        title: str,
        asked: tuple[object, ...],
        make: Callable[[Urls], _Part],
    ) -> Response:
        """A page, or its live part alone where a page that is open asks for what is new.

        The live part is waited for, and so is a page whose address says ``wait``, or that a command
        has led to: who gave it shall see what came of it. Any other page is answered at once: where
        the group cannot be read so fast, with what was known, which is said to be old, or with
        nothing but that the group is being read. It then asks for the live part, and without
        JavaScript leads to the page that is waited for.
        """
        urls, is_part = _urls(request), request.headers.get("hx-request") == "true"
        told, waits = TOLD.get(request.query_params.get("told", "")), _waits(request)
        if told is not None and not waits:
            self._forget()  # another process may have carried it out
            waits = True
        key = (here, urls.prefix, asked)
        part: _Part | _Old | None = self._parts.at_hand(key)
        if part is None and (is_part or waits):
            part = await self._in_thread(lambda: self._parts.get(key, lambda: make(urls)))
        elif part is None:
            part = await self._at_once(key, lambda: make(urls))
        if is_part:
            assert isinstance(part, _Part)  # noqa: S101 (as it was waited for)
            # The header says that it is a part: what a login page, say, has not.
            headers = {"Vary": "HX-Request", "Turnwise-Part": "yes"}
            return HTMLResponse(part.html, headers=headers)
        live = request.query_params.get("live") != "off"
        old, part = (part, part.part) if isinstance(part, _Old) else (None, part)
        once = {"wait": "yes"} if live else {"live": "off", "wait": "yes"}
        values: dict[str, object] = {
            "title": title,
            "part": None if part is None else Markup(part.html),  # noqa: S704 (our own template's)
            "old": old,
            "is_current": part is not None and old is None,
            "url": urls,
            "group": self._group,
            "here": here,
            "address": _address(request, urls, here),
            "still": _address(request, urls, here, live="off"),
            "waiting": _address(request, urls, here, **once),
            "live": live,
            "refresh": self._refresh,
            "told": told,
        }
        return HTMLResponse(rendered("page.html", values), headers={"Vary": "HX-Request"})

    async def _at_once(self, key: Hashable, make: Callable[[], _Part]) -> _Part | _Old | None:
        """A part, or else what was known a while ago, or else nothing; soon in any case."""
        work = self._parts.begin(key, make)
        last = self._parts.last(key)
        if last is not None and last.is_current:
            return last.value
        # What took longer the last time is not waited for.
        may_be_soon = last is None or last.cost <= _PROMPT_SECONDS
        if work is not None and may_be_soon and await _is_done(work):
            return work.result()
        if last is not None and last.age <= _OLDEST_SHOWN_SECONDS:
            return _Old(last.value, words.ago(round(last.age) * 1_000_000))
        return None

    async def _healthz(self, request: Request) -> Response:
        """How the group is, as ``turnwise check`` says it.

        Status 503 where that is critical or unknown. A warning is said, with status 200: settings
        differ in every rolling deploy, and nobody is to be woken by that.
        """
        service = request.query_params.get("service")
        try:
            level, line = await self._in_thread(
                lambda: health_of(self._reader, service),
                threads=_PROBES,
                patience=_PROBE_PATIENCE_SECONDS,
            )
        except TurnwiseError as error:
            level, line = Level.CRITICAL, f"the storage does not answer: {error}"
        said = " ".join(line.split())
        status = _WELL if level in (Level.OK, Level.WARNING) else _NOT_WELL
        return PlainTextResponse(f"{level.name}: {said}\n", status)

    # What is done ---------------------------------------------------------------------------------

    def _command_of(self, name: CommandName) -> Callable[[Request], object]:
        async def endpoint(request: Request) -> Response:
            why = why_not_the_same_origin(request.headers)
            if why is not None:
                raise RefusedError(403, f"This was not done: {why}.")
            command = await read_command(request, name)
            by = await who_gives(self._authorize, request, command, self._in_thread)
            try:
                told = await self._in_thread(
                    lambda: carry_out(self._storage, self._group, command, by)
                )
            finally:
                self._forget()
            return RedirectResponse(_after(_urls(request), command, told), 303)

        return endpoint

    def _forget(self) -> None:
        self._reader.forget()
        self._parts.forget()

    # When it does not go well ---------------------------------------------------------------------

    async def _on_http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 (as it was registered)
        said = "There is no such page." if error.status_code == 404 else error.detail  # noqa: PLR2004
        return self._refusal(request, error.status_code, said, error.headers)

    async def _on_refusal(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)  # noqa: S101 (as it was registered)
        return self._refusal(request, error.status, error.why)

    async def _on_trouble(self, request: Request, error: Exception) -> Response:
        if isinstance(error, BusyError):
            return self._refusal(request, 409, f"Others changed it at the same time: {error}.")
        said = f"The storage does not answer: {error}"
        return self._refusal(
            request, _NOT_WELL, said if isinstance(error, StorageError) else str(error)
        )

    async def _on_fault(self, request: Request, error: Exception) -> Response:
        del error  # the server logs it; a viewer is told no more than that
        answer = self._refusal(
            request, 500, "Something went wrong here. The server's log says what."
        )
        answer.headers.update(SECURITY_HEADERS)
        return answer

    def _refusal(
        self, request: Request, status: int, said: str, headers: Mapping[str, str] | None = None
    ) -> Response:
        values = {"url": _urls(request), "status": status, "said": said, "group": self._group}
        return HTMLResponse(rendered("refusal.html", values), status, headers=headers)

    async def _in_thread(
        self,
        work: Callable[[], T],
        threads: "RunVar[anyio.CapacityLimiter]" = _THREADS,
        patience: float = _PATIENCE_SECONDS,
    ) -> T:
        """Do what may block in a thread, and wait for it no longer than that.

        Raises:
            StorageError: it took longer. The thread ends by itself, by the storage's own timeout.
        """
        limiter = threads.get(None)
        if limiter is None:
            limiter = anyio.CapacityLimiter(_MOST_THREADS)
            threads.set(limiter)
        try:
            with anyio.fail_after(patience):
                return await to_thread.run_sync(work, limiter=limiter, abandon_on_cancel=True)
        except TimeoutError:
            raise StorageError(f"no answer within {patience:g} seconds") from None


def _urls(request: Request) -> Urls:
    return Urls(request.scope.get("root_path", ""))


async def _is_done(work: "Future[_Part]") -> bool:
    """Wait for a page as long as nobody minds; whether it is there."""
    # Looked at now and then, as no thread may be free to wait, and each loop has its own way to
    # be woken by a thread that is not its own.
    with anyio.move_on_after(_PROMPT_SECONDS):
        while not work.done():  # noqa: ASYNC110
            await anyio.sleep(_GLANCE_SECONDS)
    return work.done()


def _waits(request: Request) -> bool:
    """Whether the address says that its reader would rather wait than see what was."""
    return request.query_params.get("wait") == "yes"


_ONCE = ("live", "told", "wait")
"""What an address says of one answer, and not of the page."""


def _address(request: Request, urls: Urls, here: str, **more: str) -> str:
    """The address of this page, to be asked for anew: without what was said of one answer."""
    query: dict[str, list[str]] = {}
    for key, value in request.query_params.multi_items():
        if key not in _ONCE:
            query.setdefault(key, []).append(value)
    return urls(here, **{**query, **more})


def _after(urls: Urls, command: Command, told: str) -> str:
    if command.name in OF_RUNNERS:
        return urls("runners", told=told)
    return urls("service", name=command.target, told=told)


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        raise HTTPException(404)
    is_this = request.query_params.get("v") == version_of(name)
    headers = {"Cache-Control": _FOR_EVER if is_this else "no-cache"}
    return Response(static(name), media_type=STATIC[name], headers=headers)
