"""URLs of storages, as people mistype them: an error of our own, and never a password in it."""

from fuzz.spelling import Spelling
from fuzz.unconnected import unconnected
from turnwise.errors import MissingExtraError, StorageError
from turnwise.storages.opening import open_storage
from turnwise.storages.urls import without_password

_SECRET = "sesame"  # noqa: S105 (nobody's password)
_SCHEMES = (
    *("redis", "rediss", "valkey", "sqlite", "postgres", "postgresql", "postgresql+psycopg"),
    *("mysql", "mysql+pymysql", "mariadb", "mariadb+pymysql", "memory", "ftp", ""),
)
_HOSTS = ("h", "", "127.0.0.1:1", "h:x", "h:99999", "[::1]", "[::1]:5432", "[", "h,i", "ü")
_KEYS = (
    *("table_prefix", "schema", "key_prefix", "db", "protocol", "unix_socket", "charset"),
    *("connect_timeout", "read_timeout", "sslmode", "host", "port", "user", "hello"),
)
_PASSWORD_KEYS = ("password", "passwd", "pass", "sslpassword", "PASSWORD")
_MARKS = "/?#@:%&=[]+ ;\\'\"x1٣"
"""What a person may forget to quote."""


def urls(data: bytes) -> None:
    """A URL opens, or is refused by an error of its own, and no password shows in what is said."""
    spelling = Spelling(data)
    match spelling.below(4):
        case 0:
            _open(spelling.rest().decode("utf-8", "surrogateescape"))
        case 1:
            _open(f"{spelling.one_of(_SCHEMES)}:{spelling.scribble('/' + _MARKS)}")
        case 2:
            scheme, user = spelling.one_of(_SCHEMES), _user(spelling)
            slashes = "/" * spelling.below(3)
            _open(f"{scheme}:{slashes}{user}:{_password(spelling)}@{_place(spelling)}", _SECRET)
        case _:
            key, value = spelling.one_of(_PASSWORD_KEYS), _password(spelling).replace("&", "")
            place = _place(spelling)
            mark = "&" if "?" in place else "?"
            _open(f"{spelling.one_of(_SCHEMES)}://{place}{mark}{key}={value}", _SECRET)


def _user(spelling: Spelling) -> str:
    return "".join(character for character in spelling.scribble(_MARKS) if character not in ":/@?")


def _password(spelling: Spelling) -> str:
    return _SECRET + spelling.scribble(_MARKS) + _SECRET


def _place(spelling: Spelling) -> str:
    """A host, and perhaps a database and a query."""
    path = "/" + spelling.scribble("ab0:/%._-") if spelling.below(4) else ""
    query = "&".join(
        f"{spelling.one_of(_KEYS)}={spelling.scribble('ab0_{}%+=:/')}"
        for _ in range(spelling.below(3))
    )
    return f"{spelling.one_of(_HOSTS)}{path}{'?' + query if query else ''}"


def _open(url: str, secret: str | None = None) -> None:
    said = without_password(url)
    try:
        with unconnected():
            storage = open_storage(url, create_tables=False)
            said += repr(storage)
            storage.close()
    except (ValueError, MissingExtraError, StorageError) as error:
        assert isinstance(error, MissingExtraError | StorageError) or type(error) is ValueError, (
            repr(error)
        )
        assert len(str(error).splitlines()) == 1, repr(error)
        said += _with_what_led_to_it(error)
    assert secret is None or secret not in said, (url, said)


def _with_what_led_to_it(error: BaseException | None) -> str:
    """What a traceback shows of an error and those before it."""
    if error is None:
        return ""
    hidden = error.__cause__ is None and error.__suppress_context__
    before = None if hidden else error.__cause__ or error.__context__
    return f"{_with_what_led_to_it(before)}\n{error!r} {error}"
