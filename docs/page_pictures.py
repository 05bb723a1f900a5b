"""The pictures of the page, taken by a browser: ``PYTHONPATH=tests python docs/page_pictures.py``.

It writes them to ``docs/_static``, or to the folder that is named. It needs Debian's Chromium and
Playwright, so the pictures are kept beside the text, and not taken when the documentation is built.
They are taken of the group that the tests of the page look at, without its hostile name.
"""

import socket
import sys
import threading
import time
from pathlib import Path

import uvicorn
from playwright.sync_api import Browser, sync_playwright

from page_world import page_world
from turnwise.web import create_app

CHROMIUM = Path("/usr/bin/chromium")
STATIC = Path(__file__).parent / "_static"
SHOTS = (
    ("page-services", "?wait=yes", 1120, 690, "light"),
    ("page-service", "service?name=send-reminders&span=6h&wait=yes", 1120, 900, "dark"),
    ("page-narrow", "service?name=rebuild-search-index&span=1h&wait=yes", 390, 800, "light"),
)
"""Of each picture its name, the page's address, its width and height in pixels, and the colours."""


def main(folder: Path) -> None:
    """Take all pictures into a folder."""
    virtual = page_world(hostile="sync-calendars", reason="the provider asks for fewer calls")
    app = create_app(virtual.storage, allow_control=True)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            for shot in SHOTS:
                _take(browser, listener.getsockname()[1], folder, *shot)
            browser.close()
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
        virtual.close()


def _take(
    browser: Browser,
    port: int,
    folder: Path,
    name: str,
    path: str,
    width: int,
    height: int,
    hue: str,
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if hue == "dark" else "light",
    )
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{port}/{path}")
    page.screenshot(path=folder / f"{name}.png")
    context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else STATIC)
