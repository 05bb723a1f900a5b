"""What the documentation shows and no test can run is held against what it speaks of.

A command that serves until it is told to stop, a file, a grant, a line of a log: each command that
a page names exists, with each of its options, and each block of another kind than those that
``test_documentation.py`` runs is listed here, with what it must agree with.
"""

import io
import json
import logging
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cli.app import _ENTRIES
from turnwise.cli.file import read_text
from turnwise.cli.help import load
from turnwise.cli.logs import JsonFormatter
from turnwise.events import TurnEnded
from turnwise.observers.log import log_event
from turnwise.storages.opening import ENTRY_POINTS
from turnwise.storages.sql import schema_statements

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
EXAMPLES = sorted(path for path in (DOCS / "examples").rglob("*.*") if path.suffix != ".pyc")
RUN = {"python", "sh", "console", "text"}
"""Kinds of blocks that ``test_documentation.py`` runs."""


def name_of(page: Path) -> str:
    return page.name


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def pieces_of_code(page: Path) -> Iterator[str]:
    """Each block of a page, and each piece of code in its text."""
    for token in MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8")):
        if token.type in {"fence", "code_block"}:
            yield token.content
        for child in token.children or ():
            if child.type == "code_inline":
                yield child.content


# Commands -------------------------------------------------------------------------------------


def calls_in(code: str) -> Iterator[tuple[str, list[str]]]:
    """The calls of ``turnwise`` in a piece of code: each command, with its options."""
    joined = code.replace("\\\n", " ").replace('", "', " ").replace('",\n', " ")
    for line in re.findall(r"(?:^|[\s\"'(])turnwise (?!import\b(?!-))([a-z][^\n|`;]*)", joined):
        own = re.split(r" -- | {2,}#|&&", line)[0]
        yield own.split()[0].strip("\"'),"), re.findall(r"(?<!\S)--[a-z][\w-]*", own)


def options_of(command: str) -> set[str]:
    """Every option of a command."""
    return {
        option for parameter in load(command, _ENTRIES[command]).params for option in parameter.opts
    } | {"--help"}


@every_page
def test_each_command_that_a_page_shows_exists_with_each_of_its_options(page: Path) -> None:
    for code in pieces_of_code(page):
        for command, options in calls_in(code):
            assert command in _ENTRIES, f"{page.name}: turnwise {command}"
            unknown = set(options) - options_of(command)
            assert not unknown, f"{page.name}: turnwise {command} has no {unknown}"


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_each_command_that_an_example_shows_exists_with_each_of_its_options(example: Path) -> None:
    for line in example.read_text(encoding="utf-8").splitlines():
        found = re.search(r"\bturnwise (run|up) --.*", line)
        for command, options in calls_in(found[0] if found else ""):
            assert set(options) <= options_of(command), example.name


def test_the_calls_of_a_page_are_found() -> None:
    """Else the tests above could not fail."""
    found = [call for page in PAGES for code in pieces_of_code(page) for call in calls_in(code)]
    assert {command for command, _ in found} == set(_ENTRIES)
    assert list(calls_in("turnwise run \\\n  --once --nosuch -- ./x.sh --y")) == [
        ("run", ["--once", "--nosuch"])
    ]


def test_the_head_of_a_command_names_the_options_without_which_it_does_not_run() -> None:
    text = (DOCS / "command-line.md").read_text(encoding="utf-8")
    for name, entry in _ENTRIES.items():
        (head, *_) = re.findall(rf"^ {{4}}turnwise {name}\b.*", text, re.MULTILINE)
        for parameter in load(name, entry).params:
            if parameter.required and parameter.opts[0].startswith("--"):
                assert parameter.opts[0] in head, name


SCRIPT = re.compile(r"\bpython (?:-m ([\w.]+)|(tests/[\w/]+\.py))([^\n`]*)")


def sources_of(module: str, script: str) -> str:
    """The code of a script, or of a module that a page runs; nothing where it is not ours."""
    if script:
        return (ROOT / script).read_text(encoding="utf-8")
    for root in (ROOT / "src", ROOT / "tests"):
        place = root / module.replace(".", "/")
        files = [place.with_suffix(".py"), *sorted(place.glob("*.py"))]
        found = [file.read_text(encoding="utf-8") for file in files if file.exists()]
        if found:
            return "".join(found)
    return ""


@every_page
def test_each_script_that_a_page_runs_knows_the_options_that_it_is_given(page: Path) -> None:
    for code in pieces_of_code(page):
        for module, script, rest in SCRIPT.findall(code.replace("\\\n", " ")):
            source = sources_of(module, script)
            for option in re.findall(r"(?<!\S)\[?(--[\w-]+)", rest if source else ""):
                # The explorer has an option for each kind of fault: f"--{kind}".
                made = 'f"--{' in source and re.search(rf"\b{option[2:]}\b", source)
                known = f'"{option}"' in source or made
                assert known, f"{page.name}: {module}{script} has no {option}"


def test_the_page_of_installing_has_a_row_for_each_extra_and_each_extra_named_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    text = (DOCS / "install.md").read_text(encoding="utf-8")
    for_users = extras - {"test", "docs"}
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == for_users
    for page in PAGES:
        for named in re.findall(r"(?:turnwise|\.)\[([\w,]+)\]", page.read_text(encoding="utf-8")):
            assert set(named.split(",")) <= extras, f"{page.name}: {named}"


# Blocks that are not run -----------------------------------------------------------------------


def a_file_of_services(block: str) -> None:
    read = read_text(block, "turnwise.toml")
    assert [job.name for job in read.jobs] == ["nightly", "relay", "tidy-up"]


def an_entry_point(block: str) -> None:
    (group,) = tomllib.loads(block)["project"]["entry-points"]
    assert group == ENTRY_POINTS


def grants_on_every_table(block: str) -> None:
    named = set(re.findall(r"\bturnwise_\w+", block))
    made = schema_statements("postgresql://db/app")
    assert named == set(re.findall(r"CREATE TABLE (\w+)", made))


def rights_that_a_test_runs_with(block: str) -> None:
    tried = (ROOT / "tests" / "test_storages_redis.py").read_text(encoding="utf-8")
    _, _, after = tried.partition("def test_a_user_needs_no_more_rights_than_the_documentation_say")
    rights = re.findall(r'"([~+][^"]*)"', after.partition("with own_server")[0])
    assert block.split() == rights


def lines_of_the_demo(block: str) -> None:
    page = (DOCS / "command-line.md").read_text(encoding="utf-8")
    _, _, shown = page.partition("$ turnwise demo\n")
    assert set(block.splitlines()) <= set(shown.partition("```")[0].splitlines())


def a_line_of_a_log(block: str) -> None:
    ended = TurnEnded(
        group="g",
        runner_id="a",
        service="job",
        run_id="run",
        token=7,
        due=1_767_225_600_000_000,
        status=Status.ABANDONED,
        reason="exit:1",
        attempt=1,
        took=1_500_000,
        recorded=True,
    )
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("turnwise.service")
    logger.addHandler(handler)
    try:
        log_event(ended)
    finally:
        logger.removeHandler(handler)
    said, shown = json.loads(written.getvalue()), json.loads(block)
    said["time"] = shown["time"]
    assert list(said) == list(shown)
    assert said == shown


HELD: dict[tuple[str, str], list[Callable[[str], None]]] = {
    ("README.md", "none"): [lines_of_the_demo],
    ("crontab.md", "toml"): [a_file_of_services],
    ("kubernetes.md", "yaml"): [lambda _: None],  # tests/test_deploy_examples.py
    ("operating.md", "json"): [a_line_of_a_log],
    ("storages.md", "toml"): [an_entry_point],
    ("storages.md", "sql"): [grants_on_every_table],
    ("storages.md", "none"): [rights_that_a_test_runs_with],
}
"""Blocks that nothing runs, by page and kind, and what each of them must agree with."""


def test_each_block_that_is_not_run_agrees_with_what_it_is_about() -> None:
    found: dict[tuple[str, str], list[str]] = {}
    for page in PAGES:
        for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
            if token.type == "fence" and token.info not in RUN and not token.info.startswith("{"):
                found.setdefault((page.name, token.info), []).append(token.content)
    assert {place: len(blocks) for place, blocks in found.items()} == {
        place: len(checks) for place, checks in HELD.items()
    }
    for place, checks in HELD.items():
        for check, block in zip(checks, found[place], strict=True):
            check(block)
