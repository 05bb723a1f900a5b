"""The page in a real browser: clicked, at three sizes, in the dark, and without JavaScript."""

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import uvicorn

from live import eventually
from page_world import HOSTILE, RUNNERS, page_world
from turnwise.controls import Controls
from turnwise.errors import StorageError
from turnwise.gate import Command, CommandName
from turnwise.storages import Storage
from turnwise.testing import VirtualScheduler
from turnwise.texts import row_from_text
from turnwise.turn import Turn
from turnwise.web import create_app

CHROMIUM = Path("/usr/bin/chromium")
SIZES = ((360, 740), (768, 1024), (1280, 800))
_OPEN_ALL = """document.querySelectorAll("details").forEach(
    (each) => { each.removeAttribute("name"); each.open = true; })"""
SERIOUS = ("serious", "critical")
PAGES = (
    "",
    "runners",
    "runners?all=yes",
    "service?name=rebuild-search-index",
    "service?name=send-reminders&span=6h",
    "service?name=expire-sessions",
    "service?name=nightly-report",
    f"service?name={quote(HOSTILE)}",
    "service?name=nobody",
)

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.faults,  # a browser costs as much as a thousand other tests
    pytest.mark.skipif(
        not CHROMIUM.exists(),
        reason=f"there is no browser at {CHROMIUM}: install Debian's chromium",
    ),
]


class Interrupted:
    """A storage that can be away, and that can be slow: it answers when ``answers`` is set."""

    def __init__(self, storage: Storage) -> None:
        self._storage, self.is_away = storage, False
        self.answers = threading.Event()
        self.answers.set()

    def __getattr__(self, name: str) -> Any:
        if self.is_away:
            raise StorageError("connection refused")
        self.answers.wait(20)
        return getattr(self._storage, name)


class Served:
    """The page of a storage, served in a thread."""

    def __init__(self, storage: Storage) -> None:
        self.storage = Interrupted(storage)
        app = create_app(self.storage, allow_control=True, refresh_seconds=0.5)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self._thread.start()
        eventually(lambda: self._server.started, "the server has started")

    def stop(self) -> None:
        self.storage.answers.set()
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, too, a page is what it is when it is read fast enough."""
    monkeypatch.setattr("turnwise.web.app._PROMPT_SECONDS", 5.0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class World:
    """A group in virtual time, all of which happens in a thread of its own.

    The browser's loop is in the thread of the test, and two loops cannot be in one.
    """

    def __init__(self, make: Callable[[], VirtualScheduler]) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._virtual = self._thread.submit(make).result()
        self.storage = self._virtual.storage

    def advance(self, length: str) -> None:
        self._thread.submit(self._virtual.advance, length).result()

    def close(self) -> None:
        self._thread.submit(self._virtual.close).result()
        self._thread.shutdown()


@contextmanager
def served_world(make: Callable[[], VirtualScheduler]) -> Iterator[tuple[World, Served]]:
    world = World(make)
    served = Served(world.storage)
    try:
        yield world, served
    finally:
        served.stop()
        world.close()


@pytest.fixture(scope="module")
def world() -> Iterator[Served]:
    with served_world(page_world) as (_, served):
        yield served


def _small() -> VirtualScheduler:
    virtual = VirtualScheduler("alice", "bob")

    async def job(turn: Turn) -> None:
        turn.check()

    virtual.add(job, "every 5m", name="nightly")
    virtual.advance("11m")
    return virtual


@pytest.fixture
def small() -> Iterator[tuple[World, Served]]:
    with served_world(_small) as made:
        yield made


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page in a context of its own; what its console complains of fails the test."""
    contexts, complaints = [], []

    def open_(width: int = 1280, height: int = 800, *, expects: str = "", **knobs: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **knobs)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()

        def complain(text: str) -> None:
            if not expects or not re.search(expects, text):
                complaints.append(text)

        page.on("console", lambda message: complain(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complain(f"error: {error}"))
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not complaints


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_no_page_is_wider_than_the_screen_and_none_violates_its_own_policy(
    world: Served, opened: Callable[..., Any], size: tuple[int, int]
) -> None:
    page = opened(*size, expects="404")
    for path in PAGES:
        page.goto(world.url + path)
        page.evaluate(_OPEN_ALL)
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, f"{path} is wider than {size[0]} by {overflow}"


@pytest.mark.parametrize(("size", "scheme"), [(SIZES[0], "light"), (SIZES[2], "dark")], ids=str)
def test_axe_finds_nothing_serious(
    world: Served, opened: Callable[..., Any], size: tuple[int, int], scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import (  # type: ignore[import-untyped]  # noqa: PLC0415
        Axe,
    )

    # The policy would keep axe out, too, which the test puts into the page.
    page = opened(*size, expects="404", color_scheme=scheme, bypass_csp=True)
    for path in PAGES:
        page.goto(world.url + path)
        page.evaluate(_OPEN_ALL)
        found = Axe().run(page).response["violations"]
        bad = [
            (each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in SERIOUS
        ]
        assert not bad, f"{path}: {bad}"


def test_the_longest_names_and_reasons_fit_the_smallest_screen(opened: Callable[..., Any]) -> None:
    def make() -> VirtualScheduler:
        virtual = VirtualScheduler("R" * 255)

        async def job(turn: Turn) -> None:
            turn.check()

        virtual.add(job, "every 5m", name="S" * 255)
        virtual.advance("11m")
        Controls(virtual.storage, by="B" * 999).pause("S" * 255, reason="W" * 999)
        return virtual

    with served_world(make) as (_, served):
        for size in SIZES:
            page = opened(*size)
            for path in ("", "runners", f"service?name={'S' * 255}"):
                page.goto(served.url + path)
                page.evaluate(_OPEN_ALL)
                assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
            page.close()  # before the server ends


def test_light_and_dark_differ_and_follow_the_system(
    world: Served, opened: Callable[..., Any]
) -> None:
    grounds = set()
    for scheme in ("light", "dark"):
        page = opened(color_scheme=scheme)
        page.goto(world.url)
        grounds.add(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
    assert len(grounds) == 2


def test_all_of_it_can_be_read_and_filtered_without_javascript(
    world: Served, opened: Callable[..., Any]
) -> None:
    page = opened(java_script_enabled=False)
    page.goto(world.url)
    assert page.get_by_text("Without JavaScript the page stays as it was loaded").is_visible()
    assert not page.get_by_text("Stop updating").is_visible()
    page.get_by_role("link", name="rebuild-search-index").last.click()
    page.get_by_label("command").check()
    page.get_by_role("button", name="Filter").click()
    assert page.locator(".history tbody tr").count() == 1
    assert page.get_by_text("the index was found to be empty").is_visible()
    page.get_by_role("link", name="the last 1d").click()
    assert page.get_by_label("command").is_checked(), "what was asked for is kept"
    page.get_by_role("link", name="Runners").click()
    assert page.get_by_text(RUNNERS[0]).is_visible()


def test_hostile_names_do_not_run(world: Served, opened: Callable[..., Any]) -> None:
    page = opened()
    dialogs: list[str] = []

    def dismiss(dialog: Any) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    for path in ("", "runners", f"service?name={quote(HOSTILE)}"):
        page.goto(world.url + path)
        page.wait_for_timeout(700)  # it is brought up to date once
        assert page.locator("img").count() == 0
        assert page.title() != "run"
    assert dialogs == []
    page.goto(world.url)
    page.get_by_role("link", name="evil").click()
    assert "\\u202e" in page.locator("h1").inner_text()


def commands(storage: Storage, name: CommandName) -> list[Command]:
    rows = [row_from_text(each.body) for each in storage.history("default", "nightly")]
    return [row for row in rows if isinstance(row, Command) and row.name is name]


def test_a_service_is_paused_resumed_and_triggered_by_clicks(
    small: tuple[World, Served], opened: Callable[..., Any]
) -> None:
    virtual, served = small
    page = opened()
    page.goto(f"{served.url}service?name=nightly")
    assert not page.get_by_text("Resume…").is_visible(), "it is not paused"
    page.get_by_text("Pause…").click()
    page.locator(".pause").get_by_label("Reason").fill('<b>"the disk"</b> is full')
    page.locator(".pause").get_by_label("Until").fill("30m")
    page.get_by_role("button", name="Pause it").click()
    page.get_by_text("It is paused: no run starts.").wait_for()
    assert "until 00:41:00" in page.locator(".headline").inner_text()
    assert '<b>"the disk"</b> is full' in page.locator(".headline").inner_text()
    (pause,) = commands(virtual.storage, CommandName.PAUSE)
    assert (pause.by, pause.reason) == ("127.0.0.1, by the page", '<b>"the disk"</b> is full')
    page.get_by_text("Resume…").click()
    page.get_by_role("button", name="Resume it").click()
    page.get_by_text("It is resumed.").wait_for()
    page.get_by_text("Trigger…").click()
    page.keyboard.press("Tab")
    page.keyboard.type("once more")
    page.keyboard.press("Enter")
    page.get_by_text("It is triggered").wait_for()
    assert commands(virtual.storage, CommandName.TRIGGER)[0].reason == "once more"


def test_a_runner_is_drained_by_a_click_at_the_smallest_size(
    small: tuple[World, Served], opened: Callable[..., Any]
) -> None:
    virtual, served = small
    page = opened(*SIZES[0])
    page.goto(f"{served.url}runners")
    page.get_by_role("button", name="Drain alice").click()
    page.get_by_text("It is drained").wait_for()
    assert [row.drained for row in virtual.storage.runners("default")] == [True, False]
    page.get_by_role("button", name="Undrain alice").click()
    page.get_by_text("It takes runs again.").wait_for()
    assert not any(row.drained for row in virtual.storage.runners("default"))


def test_a_page_that_is_open_shows_what_is_new_and_keeps_what_is_being_written(
    small: tuple[World, Served], opened: Callable[..., Any]
) -> None:
    virtual, served = small
    page = opened()
    page.goto(f"{served.url}service?name=nightly")
    page.get_by_text("Pause…").click()
    reason = page.locator(".pause").get_by_label("Reason")
    reason.fill("half a sen")
    Controls(virtual.storage, by="anna").pause("nightly", reason="from elsewhere")
    page.get_by_text("since 00:11:00 by anna: from elsewhere").wait_for()
    assert page.get_by_text("Resume…").is_visible(), "it can be resumed now"
    page.keyboard.type("tence")
    assert reason.input_value() == "half a sentence"
    filtered = page.get_by_label("command")
    filtered.check()
    virtual.advance("1m")
    page.get_by_text("as of 2026-01-01 00:12:00").wait_for()
    assert filtered.is_checked()


def test_who_goes_by_the_keyboard_keeps_the_place(
    small: tuple[World, Served], opened: Callable[..., Any]
) -> None:
    virtual, served = small
    page = opened()
    page.goto(served.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    page.keyboard.press("Enter")
    for _ in range(2):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "nightly"
    virtual.advance("1m")
    page.get_by_text("as of 2026-01-01 00:12:00").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "nightly"


def test_a_storage_that_is_away_is_said_and_what_was_known_stays(
    small: tuple[World, Served], opened: Callable[..., Any]
) -> None:
    virtual, served = small
    page = opened(expects="503")
    page.goto(served.url)
    served.storage.is_away = True
    said = page.get_by_text(
        "The storage does not answer. What you see was so at 2026-01-01 00:11:00"
    )
    said.wait_for()
    assert page.get_by_role("link", name="nightly").is_visible()
    served.storage.is_away = False
    said.wait_for(state="hidden")
    virtual.advance("1m")
    page.get_by_text("as of 2026-01-01 00:12:00").wait_for()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, patient: None) -> None:
    """Nobody waits for a slow storage, and what was read a moment ago is old."""
    del patient
    monkeypatch.setattr("turnwise.web.app._PROMPT_SECONDS", 0.05)
    for name in ("FRESH_SECONDS", "_TIMES_ITS_COST"):
        monkeypatch.setattr(f"turnwise.web.kept.{name}", 0)
    monkeypatch.setattr("turnwise.web.kept._DEAR_SECONDS", 100)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("scripted", [True, False])
@pytest.mark.parametrize("size", [SIZES[0], SIZES[2]], ids=str)
def test_a_group_that_is_being_read_is_shown_once_it_was(
    small: tuple[World, Served],
    opened: Callable[..., Any],
    size: tuple[int, int],
    scripted: bool,
) -> None:
    _, served = small
    served.storage.answers.clear()
    page = opened(*size, java_script_enabled=scripted)
    page.goto(served.url, wait_until="commit")
    page.get_by_text("The group is being read").wait_for()
    _shot(page, f"being-read-{size[0]}")
    served.storage.answers.set()
    page.get_by_role("link", name="nightly").wait_for()
    assert page.get_by_text("The group is being read").count() == 0


@pytest.mark.usefixtures("impatient")
def test_what_went_wrong_with_the_first_reading_is_a_page_of_its_own(
    small: tuple[World, Served], opened: Callable[..., Any]
) -> None:
    _, served = small
    served.storage.answers.clear()
    page = opened(expects="404")
    page.goto(f"{served.url}service?name=nobody", wait_until="commit")
    page.get_by_text("The group is being read").wait_for()
    served.storage.answers.set()
    page.get_by_text("There is no service 'nobody'.").wait_for()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("scripted", "query"), [(True, ""), (True, "?live=off"), (False, "")], ids=str
)
@pytest.mark.parametrize("size", [SIZES[0], SIZES[2]], ids=str)
def test_what_is_old_says_so_until_it_was_read_anew(
    small: tuple[World, Served],
    opened: Callable[..., Any],
    size: tuple[int, int],
    scripted: bool,
    query: str,
) -> None:
    virtual, served = small
    page = opened(*size, java_script_enabled=scripted)
    page.goto(f"{served.url}?live=off&wait=yes")
    virtual.advance("1m")
    served.storage.answers.clear()
    page.goto(served.url + query, wait_until="commit")
    said = page.get_by_text("Not as it is now: as of 2026-01-01 00:11:00 UTC")
    said.wait_for()
    assert page.get_by_role("link", name="nightly").is_visible()
    if scripted:
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0
    _shot(page, f"old-{size[0]}")
    served.storage.answers.set()
    said.wait_for(state="detached")
    page.get_by_text("as of 2026-01-01 00:12:00").wait_for()


def _shot(page: Any, name: str) -> None:
    """Keep a picture where somebody wants to look at it."""
    if folder := os.environ.get("TURNWISE_PAGE_SHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_a_login_page_does_not_take_the_place_of_what_was_known(
    small: tuple[World, Served], opened: Callable[..., Any]
) -> None:
    _, served = small
    page = opened()
    page.goto(served.url)
    page.route(served.url, lambda route: route.fulfill(body="<p>log in", content_type="text/html"))
    page.get_by_text("Something else answers here now, such as a login").wait_for()
    assert page.get_by_role("link", name="nightly").is_visible()
    assert page.get_by_text("log in", exact=True).count() == 0


def test_a_server_that_is_gone_is_said(
    small: tuple[World, Served], opened: Callable[..., Any]
) -> None:
    _, served = small
    page = opened(expects="ERR_|Failed to fetch")
    page.goto(served.url)
    page.context.set_offline(True)
    page.get_by_text("The server does not answer. What you see was so at").wait_for()
    page.context.set_offline(False)


def test_updating_can_be_stopped(small: tuple[World, Served], opened: Callable[..., Any]) -> None:
    _, served = small
    page = opened()
    page.goto(served.url)
    page.get_by_role("link", name="Stop updating").click()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    time.sleep(1.2)
    assert asked == []
    page.get_by_role("link", name="Update it live").click()
    eventually(lambda: page.wait_for_timeout(100) or len(asked) > 4, "it asks again")


def test_a_form_of_another_origin_changes_nothing(
    small: tuple[World, Served], opened: Callable[..., Any]
) -> None:
    virtual, served = small
    page = opened(expects="403")
    page.route(
        "http://evil.example/",
        lambda route: route.fulfill(body=_FORM % served.url, content_type="text/html"),
    )
    page.goto("http://evil.example/", wait_until="commit")
    page.get_by_text("This was not done").wait_for()
    assert commands(virtual.storage, CommandName.PAUSE) == []


_FORM = """<!doctype html><form method="post" action="%spause">
<input name="name" value="nightly"></form><script>document.forms[0].submit()</script>"""
