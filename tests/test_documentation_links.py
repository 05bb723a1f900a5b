"""Each link, anchor, picture and file that the README and the documentation name exists.

Sphinx warns of a link between pages that leads nowhere. It does not look at the README, at raw
HTML, at the lines that an example is cut to, nor at what stands behind a link to elsewhere. No
test asks the network.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
DEEPEST_ANCHOR = 3
"""``myst_heading_anchors``: headings below this level have no anchor."""

HOSTS = {"htmx.org", "pypi.org", "taplo.tamasfe.dev"}
"""Where a link may lead. A new one is added by somebody who has looked at it."""

EXAMPLE_HOSTS = {"app.internal", "hc-ping.com", "127.0.0.1"}
"""Whom an example talks to: these are no links, and nobody follows them."""


def name_of(page: Path) -> str:
    return page.name


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def tokens_of(page: Path) -> Iterator[Token]:
    """What a page is made of, with what is within its lines."""
    for token in MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8")):
        yield token
        yield from token.children or ()


def links_of(page: Path) -> Iterator[str]:
    """Where the links and pictures of a page lead, those of raw HTML and of directives too."""
    for token in tokens_of(page):
        if token.type == "link_open":
            yield str(token.attrs["href"])
        elif token.type == "image":
            yield str(token.attrs["src"])
        elif token.type in {"html_block", "html_inline"}:
            yield from re.findall(r"\b(?:href|src)\s*=\s*[\"']([^\"']*)", token.content)
        elif token.type == "fence":
            yield from re.findall(r"^\{(?:figure|image|literalinclude)\}\s+(\S+)", token.info)


@cache
def anchors_of(page: Path) -> frozenset[str]:
    """The anchors that the headings of a page have: GitHub's, and those that Sphinx writes."""
    found: list[str] = []
    tokens = list(tokens_of(page))
    for token, inline in pairwise(tokens):
        if token.type == "heading_open" and int(token.tag[1]) <= DEEPEST_ANCHOR:
            text = "".join(
                child.content
                for child in inline.children or ()
                if child.type in {"text", "code_inline"}
            )
            found.append(re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-"))
    assert len(found) == len(set(found)), f"{page.name}: two headings have one anchor"
    return frozenset(found) | {re.sub(r"[^a-z0-9]+", "-", each).strip("-") for each in found}


def drawn() -> set[Path]:
    """The files that building the documentation makes."""
    drawer = (DOCS / "pictures.py").read_text(encoding="utf-8")
    names = re.findall(r'^ +\("([\w-]+)", \w+\(\)\),$', drawer, re.MULTILINE)
    assert len(names) > 3
    return {DOCS / "_generated" / f"{name}.svg" for name in names}


@every_page
def test_each_link_to_a_page_leads_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    for link in links_of(page):
        to = urlsplit(link)
        if to.scheme or to.netloc:
            continue
        target = (page.parent / to.path).resolve() if to.path else page
        assert target.exists() or target in drawn(), f"{page.name}: {link}"
        if to.fragment:
            assert to.fragment in anchors_of(target), f"{page.name}: {link}"


@every_page
def test_each_link_to_elsewhere_is_by_https_to_a_host_that_somebody_looked_at(page: Path) -> None:
    for link in links_of(page):
        to = urlsplit(link)
        if to.scheme or to.netloc:
            assert (to.scheme, to.netloc in HOSTS) == ("https", True), f"{page.name}: {link}"


@every_page
def test_each_address_in_a_text_or_an_example_is_one_of_a_few(page: Path) -> None:
    for address in re.findall(r"\bhttps?://[^\s)>\"'`,;]*", page.read_text(encoding="utf-8")):
        assert urlsplit(address).hostname in HOSTS | EXAMPLE_HOSTS, f"{page.name}: {address}"


def test_every_known_host_is_linked_to() -> None:
    assert {urlsplit(link).netloc for page in PAGES for link in links_of(page)} - {""} == HOSTS


@every_page
def test_each_file_that_a_page_names_in_code_exists(page: Path) -> None:
    for token in tokens_of(page):
        if token.type != "code_inline":
            continue
        for name in re.findall(r"(?<![\w/.])(?:src|docs|tests|\.ci)/[\w./-]*\w", token.content):
            made = DOCS / "_build"
            assert (ROOT / name).exists() or made in (ROOT / name).parents, f"{page.name}: {name}"


def test_every_page_is_on_the_table_of_the_first_one() -> None:
    """A page that no table names is found by nobody."""
    named = {urlsplit(link).path for link in links_of(DOCS / "index.md")}
    assert {page.name for page in DOCS.glob("*.md")} - named <= {"index.md", "changelog.md"}


def test_every_picture_is_shown_and_so_is_every_example() -> None:
    shown = {(page.parent / link).resolve() for page in PAGES for link in links_of(page)}
    read = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    pictures = {*drawn(), *(DOCS / "_static").glob("*.png")}
    assert pictures <= shown
    for example in (DOCS / "examples").glob("*.*"):
        assert example in shown or example.name in read, example.name


PIECE = re.compile(r"\{literalinclude\} (\S+)\n(?:.*\n)*?:lines: (\d+)-(\d+)\n")


@every_page
def test_an_example_that_is_cut_to_lines_starts_and_ends_where_a_statement_does(page: Path) -> None:
    """Whoever adds a line to the example must move the cut."""
    for file, first, last in PIECE.findall(page.read_text(encoding="utf-8")):
        text = (page.parent / file).read_text(encoding="utf-8")
        body = ast.parse(text).body
        starts = {
            min([each.lineno, *(d.lineno for d in getattr(each, "decorator_list", []))])
            for each in body
        }
        assert int(first) in starts, f"{page.name}: {file}"
        assert int(last) in {each.end_lineno for each in body}, f"{page.name}: {file}"


def test_the_readme_is_read_on_an_index_which_knows_neither_our_files_nor_sphinx() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["readme"] == "README.md"
    for link in links_of(ROOT / "README.md"):
        assert urlsplit(link).scheme == "https", f"an index resolves no {link}"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^(?:```|:::)\{.*|\{\w+\}`.*", text, re.MULTILINE) == []
