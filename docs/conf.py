"""How Sphinx builds the documentation; pictures and tables are made from the package itself."""

import re
import runpy
from importlib import import_module
from importlib.metadata import version as version_of
from itertools import pairwise
from pathlib import Path
from typing import Any

from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

HERE = Path(__file__).parent
GENERATED = HERE / "_generated"

project = "turnwise"
author = "The turnwise authors"
project_copyright = "2026, The turnwise authors"
version = release = version_of("turnwise")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_generated"]
html_theme = "furo"
html_title = f"turnwise {version}"
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["turnwise.css"]

default_role = "code"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False

# A reference that leads nowhere is an error; those to the standard library are no links.
nitpicky = True
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(collections\.abc|contextlib|dataclasses|datetime|hypothesis|opentelemetry|pathlib|random|time)\..*",
    ),
    ("py:exc", "ImproperlyConfigured"),  # of Django and of Celery
    ("py:class", r".*\._?[A-Z]"),  # a type variable
    ("py:class", r"(sa\.)?(Async)?Engine"),  # SQLAlchemy's
    ("py:class", r"turnwise\.storages\.memory_group\.GroupState"),  # to be compared, not to be read
    ("py:attr", r"Gate\.unsaid"),  # a field, which its class explains
    ("py:mod", r"contextvars|turnwise\.(scheduler\.engine|storages\.sql\..*)"),
    ("py:mod", "scenario|play|judge|world"),  # rooms of the simulation, which its head names
]

TABLES = {
    "decision-table": "turnwise.atomic_service",
    "formulas": "turnwise.review",
}


def table_of(module: str) -> str:
    """The table in a module's docstring, so that a page and the code cannot differ."""
    paragraphs = str(import_module(module).__doc__).split("\n\n")
    (table,) = (paragraph for paragraph in paragraphs if paragraph.startswith("=="))
    return without_bullets(table) + "\n"


def without_bullets(text: str) -> str:
    """Let a plus sign that opens the last cell of a row be a plus sign."""
    return re.sub(r"(?<=  )\+ (?=\w)", r"\\+ ", text)


def generate(app: Sphinx) -> None:
    """Draw the pictures and write the tables, before any page is read."""
    del app
    GENERATED.mkdir(exist_ok=True)
    for name, module in TABLES.items():
        (GENERATED / f"{name}.rst").write_text(table_of(module), encoding="utf-8")
    runpy.run_path(str(HERE / "pictures.py"))["draw_all"](GENERATED)


class PlainAttributes:
    """Keeps napoleon from reading the first colon of an attribute's docstring as "type: text"."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def keep(self, app: Sphinx, *what: *tuple[str, str, object, object, list[str]]) -> None:
        """Before napoleon."""
        del app
        self._lines = list(what[-1])

    def restore(self, app: Sphinx, *what: *tuple[str, str, object, object, list[str]]) -> None:
        """After napoleon."""
        del app
        if what[0] in {"attribute", "data", "property"}:
            kept = [line for line in self._lines if not line.startswith("Alias for field number")]
            what[-1][:] = kept


def without_sections(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Make the headings of a module's docstring no sections: a page has several modules."""
    del app, name, obj, options
    if what != "module":
        return
    lines[:] = map(without_bullets, lines)
    for number, (title, underline) in enumerate(pairwise(lines)):
        if underline and set(underline) == {"-"} and len(underline) == len(title):
            lines[number : number + 2] = [f".. rubric:: {title}", ""]


def by_short_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Any) -> Any:
    """Resolve a name that a docstring gives without its module, where only one can be meant."""
    if node.get("refdomain") != "py":
        return None
    target = str(node["reftarget"])
    found = {
        (entry.docname, entry.node_id)
        for name, entry in env.domains.python_domain.objects.items()
        if name.endswith(f".{target}") and not entry.aliased
    }
    if len(found) != 1:
        return None
    ((page, anchor),) = found
    return make_refnode(app.builder, node["refdoc"], page, anchor, content, target)


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    # In what our commands print, a "#" starts no prompt.
    app.add_lexer("console", import_module("pygments.lexers").TextLexer)
    attributes = PlainAttributes()
    app.connect("builder-inited", generate)
    app.connect("autodoc-process-docstring", attributes.keep, priority=400)
    app.connect("autodoc-process-docstring", attributes.restore, priority=600)
    app.connect("autodoc-process-docstring", without_sections)
    app.connect("missing-reference", by_short_name)
