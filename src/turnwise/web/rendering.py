"""Templates, and the one place through which every text from outside goes into a page.

Each expression of a template is printable text (controls, and what changes the direction of
writing, as escapes), and then escaped for HTML: a name or a reason is shown, and never run. No
template switches this off.
"""

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from turnwise.names import printable

STATIC: Final = {
    "htmx-4.0.1.min.js": "text/javascript; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""The files that a page asks for, and what they are."""


@cache
def static(name: str) -> bytes:
    """A file of :data:`STATIC`."""
    return (files("turnwise.web") / "static" / name).read_bytes()


@cache
def version_of(name: str) -> str:
    """What changes when a file does: a browser keeps the file for as long as this holds."""
    return sha256(static(name)).hexdigest()[:12]


class Urls:
    """The addresses of the pages, below the prefix that the program was mounted at.

    Names travel in the query, as no proxy changes it: ``..`` or ``a/b`` are names of services.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = quote(prefix.rstrip("/"), safe="/:@!$&'()*+,;=-._~")

    def __call__(self, path: str, **query: object) -> str:
        """The address of a page; what is None in the query is left out.

        Args:
            path: such as ``"service"``; empty for the first page.
            **query: such as ``name="nightly"``.
        """
        given = [(key, value) for key, value in query.items() if value is not None]
        asked = f"?{urlencode(given, doseq=True)}" if given else ""
        return f"{self.prefix}/{path}{asked}"

    def static(self, name: str) -> str:
        """The address of a file that a page asks for."""
        return f"{self.prefix}/static/{name}?v={version_of(name)}"


def rendered(template: str, values: Mapping[str, object]) -> str:
    """A template of the page with its values."""
    return _environment().get_template(template).render(values)


def prepare() -> None:
    """Compile what the first page needs, so that its reader does not wait for that."""
    for name in ("page.html", "services.html"):
        _environment().get_template(name)
    for name in STATIC:
        version_of(name)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("turnwise.web"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: object) -> object:
    """What an expression of a template puts into the page."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return printable(value)
    return value
