"""URLs that name a storage: shown without their password, refused where they can be misread."""

import re
from collections.abc import Iterator
from urllib.parse import unquote

__all__ = ["check_spelling", "hidden_in", "without_password"]

# None in sqlite:///a@b.db, which names no host.
_AUTHORITY = re.compile(r"(?!sqlite[^:]*:///)(?:[^:/?#@]*:)?/*([^/?#]*)(.*)", re.DOTALL)
_FILE = re.compile(r"\s*sqlite[^:]*:///")
# As far as one can be made out: what people mistype has no colon, or a slash too few or too many.
_SCHEME = re.compile(
    r"[^:/@?]*:*/{2,}"
    r"|(?:sqlite|postgres|postgresql|mysql|mariadb|rediss?|valkeys?|unix|memory)(?:\+\w+)?:+/*",
    re.IGNORECASE,
)
# A name of a user; whatever comes after it, and before the @, is its password.
_USER = re.compile(r"(?:(?!%3a)[\w.+~!$*%-])*", re.IGNORECASE)
_WITHOUT_USERS = re.compile(r"(?:redis|valkey)s?:", re.IGNORECASE)
_NAMED = re.compile(
    r"(?:^|[?&;,\s])[^=&?;,\s/]*(?:pass|pwd|secret|token)[^=&?/]*=([^&]*)", re.IGNORECASE
)
_NO_PORT = re.compile(r":([^:,\[\]]*[^:,\[\]0-9][^:,\[\]]*)(?=,|$)")


def check_spelling(url: str) -> None:
    """Refuse what two libraries read in two ways: one might take a piece of a password for a host.

    Raises:
        ValueError: there is such a thing in the URL, or what cannot be printed.
    """
    if not url.isprintable():
        raise ValueError(f"storage {without_password(url)!r}: a URL is one line of printable text")
    parts = _AUTHORITY.match(url)
    if parts is None:
        return
    authority, rest = parts.groups()
    user, _, _ = authority.rpartition("@")
    if "@" in rest or set("@[]") & set(user):
        raise ValueError(
            f"storage {without_password(url)!r}: one @ may stand in it, before the host; write "
            "another as %40, and what a password has of /?#[] as %2F, %3F, %23, %5B and %5D"
        )


def without_password(url: str) -> str:
    """The URL as it may be logged: a password in it becomes ``***``.

    It goes by the URL's shape alone, so that a password does not show either that should have
    been quoted (``#``, ``/``, ``@``), or that stands in what is no URL at all: all between the
    user and the last ``@`` goes, whether or not a scheme was made out; so does what stands in
    the place of a port and is no number, and what a name such as ``password`` is given. In doubt
    too much is hidden.
    """
    shown, done = "", 0
    for start, end in sorted(_hidden(url)):
        if start >= done:
            shown += url[done:start] + "***"
        done = max(done, end)
    return shown + url[done:]


def hidden_in(url: str) -> tuple[str, ...]:
    """What :func:`without_password` hides, as it stands there and unquoted; the longest first."""
    texts = {url[start:end] for start, end in _hidden(url)}
    return tuple(sorted({*texts, *map(unquote, texts)} - {""}, key=len, reverse=True))


def _hidden(url: str) -> Iterator[tuple[int, int]]:
    for named in _NAMED.finditer(url):
        yield named.span(1)
    if _FILE.match(url):
        return
    scheme = _SCHEME.match(url)
    start, end = scheme.end() if scheme is not None else 0, url.rfind("@")
    if end >= start:
        user = _USER.match(url, start, end)
        first = user.end() if user is not None else start
        if first < end:
            yield first + 1, end
        elif _WITHOUT_USERS.match(url):  # Redis takes a user with a password alone
            yield start, end
    elif scheme is not None:
        # The @ and the host are missing, perhaps.
        authority = re.split("[/?#]", url[start:], maxsplit=1)[0]
        for no_port in _NO_PORT.finditer(authority):
            yield start + no_port.start(1), start + no_port.end(1)
