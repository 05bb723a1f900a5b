"""URLs that name a storage: shown without their password, refused where they can be misread."""

import re

__all__ = ["check_spelling", "without_password"]

# None in sqlite:///a@b.db, which names no host.
_AUTHORITY = re.compile(r"(?!sqlite[^:]*:///)(?:[^:/?#@]*:)?/*([^/?#]*)(.*)", re.DOTALL)
_PASSWORDS = (
    # A URL with a slash too few is a mistake that must not show its password either.
    re.compile(r"^[^:]*:/{0,2}[^:/@?]*:(.*)@", re.DOTALL),
    re.compile(r"[?&][^=&]*pass[^=&]*=([^&]*)", re.IGNORECASE),
)


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

    It goes by the URL's shape alone, so that a password that should have been quoted (``#``,
    ``/``, ``@``) does not show either: all between the user and the last ``@`` goes.
    """
    spans = sorted(match.span(1) for each in _PASSWORDS for match in each.finditer(url))
    shown, done = "", 0
    for start, end in spans:
        if start >= done:
            shown += url[done:start] + "***"
        done = max(done, end)
    return shown + url[done:]
