"""The storage that the documentation shows passes the kit, and is as short as the page says."""

import ast
import sys
from pathlib import Path

from turnwise.conformance import Agreement, Clock, StorageConformance, share_of_the_profile
from turnwise.storages import Storage

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
sys.path.append(str(EXAMPLES))

from shelf import Shelf  # noqa: E402 (where the documentation has it)
from shelf_storage import ShelfStorage  # noqa: E402

MOST_LINES = 150


class TestShelf(StorageConformance):
    def open_storage(self, clock: Clock, folder: Path) -> Storage:  # noqa: ARG002 (it needs none)
        return ShelfStorage(Shelf(clock))


class ShelfAgrees(Agreement):
    storages = {"shelf": lambda clock, _: ShelfStorage(Shelf(clock))}  # noqa: RUF012 (a constant)


TestShelfAgrees = ShelfAgrees.TestCase
TestShelfAgrees.settings = share_of_the_profile(30, most=15)


def lines_of_code(path: Path) -> int:
    """The lines of a module without its blank lines, its comments and its docstrings."""
    lines = path.read_text(encoding="utf-8").splitlines()
    code = {n for n, line in enumerate(lines, 1) if line.strip() and line.strip()[0] != "#"}
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            code -= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return len(code)


def test_the_example_is_as_short_as_its_page_says() -> None:
    assert lines_of_code(EXAMPLES / "shelf_storage.py") <= MOST_LINES
