"""The pictures of the page for the documentation: ``python tests/page_pictures.py docs/_static``.

It needs a browser. They are taken of the same group that the tests of the page look at, without its
hostile name.
"""

import sys
import threading
from pathlib import Path

import uvicorn
from playwright.sync_api import Browser, sync_playwright

from page_world import page_world
from turnwise.web import create_app

CHROMIUM = "/usr/bin/chromium"
PORT = 8398
SHOTS = (
    ("page-services", "", 1120, 690, "light"),
    ("page-service", "service?name=send-reminders&span=6h", 1120, 900, "dark"),
    ("page-narrow", "service?name=rebuild-search-index&span=1h", 390, 800, "light"),
)


def main(folder: Path) -> None:
    """Take all pictures into a folder."""
    virtual = page_world(hostile="sync-calendars", reason="the provider asks for fewer calls")
    app = create_app(virtual.storage, allow_control=True)
    server = uvicorn.Server(uvicorn.Config(app, port=PORT, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for shot in SHOTS:
            _take(browser, folder, *shot)
        browser.close()
    server.should_exit = True
    thread.join()
    virtual.close()


def _take(browser: Browser, folder: Path, name: str, path: str, *size_and_scheme: object) -> None:
    width, height, scheme = size_and_scheme
    context = browser.new_context(
        viewport={"width": int(str(width)), "height": int(str(height))},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{PORT}/{path}")
    page.screenshot(path=folder / f"{name}.png")
    context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
