"""What the README and the documentation say is run, and what they name exists.

Python and shell blocks run in the order of their page, in one namespace and one temporary
folder. A ``text`` block after a Python block is what that prints; a ``console`` block is
commands with what they print. Three dots stand for anything. A comment
``<!-- not executed: why -->`` before a block keeps it from being run; a comment that starts with
``<!-- python`` is run like a block, and not shown.
"""

import contextlib
import gc
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

import turnwise
from turnwise.cli.app import _ENTRIES
from turnwise.cli.help import load
from turnwise.durations import format_duration
from turnwise.settings import Settings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUNNABLE = ("python", "sh", "console", "text")
LONGEST_SECONDS = 240
MARK = re.compile(r"<!--\s*not executed(?P<colon>:?)\s*(?P<why>.*?)\s*-->", re.DOTALL)
HIDDEN = re.compile(r"<!-- python\n(?P<code>.*?)-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of a page: its kind, text, first line, and the mark that keeps it from running."""

    kind: str
    text: str
    line: int
    mark: re.Match[str] | None


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page that are run, and those that would be but for their mark."""
    mark = None
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            mark = MARK.fullmatch(token.content.strip())
            hidden = HIDDEN.fullmatch(token.content.strip())
            if hidden is not None and token.map is not None:
                yield Block("python", hidden["code"], token.map[0] + 1, None)
        elif token.type == "fence" and token.map is not None:
            if token.info in RUNNABLE:
                yield Block(token.info, token.content, token.map[0] + 1, mark)
            mark = None
        elif token.nesting >= 0:
            mark = None


class Page:
    """Runs the blocks of a page."""

    def __init__(self, page: Path, folder: Path) -> None:
        self._page = page
        self._folder = folder
        self._namespace: dict[str, object] = {"__name__": "__main__"}
        self._printed: str | None = None
        programs = folder / "bin"
        programs.mkdir()
        program = programs / "turnwise"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m turnwise.cli "$@"\n')
        program.chmod(0o755)
        self._environment = os.environ | {
            "PATH": os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.defpath)),
            "PYTHONPATH": str(Path(turnwise.__file__).parents[1]),
            "COLUMNS": "80",
        }

    def run(self, block: Block) -> None:
        """Run one block, and hold what it prints against what the page says."""
        getattr(self, f"_run_{block.kind}")(block)

    def close(self) -> None:
        """Let go of what the page's blocks have left behind."""
        if len(self._namespace) > 1:
            self._namespace.clear()
            gc.collect()

    def _run_python(self, block: Block) -> None:
        # Leading newlines, so that a traceback names the page's own line.
        code = compile("\n" * block.line + block.text, str(self._page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, self._namespace)  # noqa: S102 (running what is documented is the point)
        self._printed = printed.getvalue()

    def _run_text(self, block: Block) -> None:
        assert self._printed is not None, f"{self._at(block)}: no Python block precedes it"
        self._compare(block, self._printed, block.text)
        self._printed = None

    def _run_sh(self, block: Block) -> None:
        self._printed = None
        done = self._shell(["-e", "-c", block.text])
        assert done.returncode == 0, f"{self._at(block)}: {done.stdout}"

    def _run_console(self, block: Block) -> None:
        """Commands after a dollar sign, to be continued after a backslash, with their output."""
        self._printed = None
        before, *parts = re.split(r"^\$ ((?:.*\\\n)*.*)\n", block.text, flags=re.MULTILINE)
        assert not before, f"{self._at(block)}: a console block starts with a command"
        commands, said = parts[::2], parts[1::2]
        # A record separator after each output, and the status kept for an "echo $?".
        script = "".join(
            f"{command}\nstatus=$?; printf '\\036'; (exit $status)\n" for command in commands
        )
        *printed, rest = self._shell(["-c", script]).stdout.split("\036")
        assert (len(printed), rest) == (len(said), ""), f"{self._at(block)}: {printed}"
        for actual, expected in zip(printed, said, strict=True):
            self._compare(block, actual, expected)

    def _shell(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", *arguments],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )

    def _compare(self, block: Block, printed: str, said: str) -> None:
        printed, said = tidy(printed), tidy(said)
        pattern = re.escape(said).replace(r"\.\.\.", ".*?")
        if re.fullmatch(pattern, printed, re.DOTALL) is None:
            assert printed == said, f"{self._at(block)} says otherwise"

    def _at(self, block: Block) -> str:
        return f"{self._page.name}:{block.line}"


def tidy(text: str) -> str:
    """Without the spaces at the end of lines that fill a table."""
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def name_of(page: Path) -> str:
    return page.name


# A database that an example leaves open is closed when its program ends, which is here.
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_blocks_of_a_page_run_in_their_order(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = Page(page, tmp_path)
    try:
        for block in blocks_of(page):
            if block.mark is None:
                runs.run(block)
    finally:
        runs.close()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_block_that_is_not_run_says_why(page: Path) -> None:
    for block in blocks_of(page):
        if block.mark is not None:
            assert block.mark["colon"], f"{page.name}:{block.line}: not executed: why"
            assert len(block.mark["why"].split()) >= 3, f"{page.name}:{block.line}"
    marks = re.findall(r"<!--\s*not executed", page.read_text(encoding="utf-8"))
    assert len(marks) == sum(block.mark is not None for block in blocks_of(page)), (
        f"{page.name}: a mark stands right before its block"
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tests_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"\btests/[\w./]*\w", text):
        assert (ROOT / name).exists(), f"{page.name} names {name}"
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in tests, f"{page.name} names {name}"


SHARED = ("Options of most commands", "Options that say how turns are taken")


def commands() -> dict[str, Any]:
    """Every command of the command line, with its options."""
    return {name: load(name, entry) for name, entry in _ENTRIES.items()}


@pytest.mark.parametrize("name", _ENTRIES)
def test_every_option_of_a_command_is_in_its_section_or_in_one_that_it_shares(name: str) -> None:
    sections = sections_of(ROOT / "docs" / "command-line.md")
    own = sections[f"turnwise {name}"]
    for parameter in load(name, _ENTRIES[name]).params:
        for option in parameter.opts:
            if not option.startswith("--") or option == "--help":
                continue
            if f"`{option}" in own:
                continue
            # A shared option is explained once; the section says that the command has it.
            assert any(f"`{option}" in sections[shared] for shared in SHARED), (name, option)
            assert "options that say how turns are" in own, (name, option)


def test_every_option_on_the_page_of_the_command_line_is_one_of_its_command() -> None:
    sections = sections_of(ROOT / "docs" / "command-line.md")
    every = {option for command in commands().values() for p in command.params for option in p.opts}
    for name, command in commands().items():
        known = {option for parameter in command.params for option in parameter.opts}
        for row in re.findall(r"^\| `--.*", sections[f"turnwise {name}"], flags=re.MULTILINE):
            for option in re.findall(r"`(--[\w-]+)", row.split(" | ")[0]):
                assert option in known, (name, option)
    for shared in SHARED:
        for row in re.findall(r"^\| `--.*", sections[shared], flags=re.MULTILINE):
            for option in re.findall(r"`(--[\w-]+)", row.split(" | ")[0]):
                assert option in every, option


def test_every_setting_has_a_section_with_its_default() -> None:
    """A default that scales with the cycle reads like ``20s, or a fifteenth of ...``."""
    sections = sections_of(ROOT / "docs" / "settings.md")
    for field in fields(Settings):
        text = sections[f"`{field.name}`"]
        default = getattr(Settings(), field.name)
        shown = format_duration(default) if isinstance(default, timedelta) else str(default)
        assert f"\nDefault\n: `{shown}`" in text, field.name
        if field.name in SCALED:
            assert f"\nDefault\n: `{shown}`, or " in text, field.name


SCALED = ("spread_margin", "heartbeat_timeout", "min_run_margin")


def test_the_page_of_the_names_has_a_row_for_each_name_of_the_face_and_no_other() -> None:
    face = sections_of(ROOT / "docs" / "api.md")["The face"]
    assert re.findall(r"^\| `([\w.]+)` \|", face, flags=re.MULTILINE) == sorted(turnwise.__all__)


def test_every_module_on_the_page_of_the_names_exists_and_is_there_once() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    shown = re.findall(r"automodule:: (turnwise[\w.]*)", text)
    assert len(shown) == len(set(shown))
    for module in shown:
        import_module(module)


def sections_of(page: Path) -> dict[str, str]:
    """A page's text by its second-level headings."""
    parts = re.split(r"^## (.*)\n", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
