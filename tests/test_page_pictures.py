"""The pictures of the page in its documentation can be taken anew."""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT, STATIC = ROOT / "docs" / "page_pictures.py", ROOT / "docs" / "_static"
CHROMIUM = Path("/usr/bin/chromium")
SHOWN = re.findall(r"_static/(page-[\w-]+\.png)", (ROOT / "docs" / "page.md").read_text())


def size_of(picture: Path) -> tuple[int, int]:
    """Width and height of a PNG, in pixels."""
    head = picture.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", head[16:])
    return width, height


@pytest.mark.faults  # a browser costs as much as a thousand other tests
@pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"there is no browser at {CHROMIUM}: install Debian's chromium"
)
def test_every_picture_of_the_page_that_the_documentation_shows_is_taken_anew_by_its_script(
    tmp_path: Path,
) -> None:
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    subprocess.run(
        [sys.executable, SCRIPT, tmp_path], check=True, timeout=120, env=environment, cwd=tmp_path
    )
    assert {each.name for each in tmp_path.glob("*.png")} == set(SHOWN)
    for name in SHOWN:
        assert size_of(tmp_path / name) == size_of(STATIC / name), "taken at another size"
        assert (tmp_path / name).stat().st_size > 10_000, "an empty page is smaller"


def test_no_picture_of_the_page_is_kept_that_the_documentation_does_not_show() -> None:
    assert {each.name for each in STATIC.glob("page-*.png")} == set(SHOWN)
