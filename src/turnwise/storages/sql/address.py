"""Which database a URL names: its kind, the driver's part of the URL, and the tables' names."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

from turnwise.storages.urls import check_spelling, without_password

if TYPE_CHECKING:
    import sqlalchemy as sa

KINDS = {
    "sqlite": "sqlite",
    "postgres": "postgresql",
    "postgresql": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
}
"""By what a database is called: which of the three kinds it is."""
OWN_DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg", "mysql": "pymysql"}
_MAY_STAND_TWICE = ("host", "port")  # of several servers
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
_NAMES = ("table_prefix", "schema")
# As libpq writes several servers, which SQLAlchemy takes in the query alone.
_AUTHORITY_OF_MANY = re.compile(
    r"(?P<before>(?:postgres|postgresql)(?:\+\w+)?://(?:[^/?#@]*@)?)(?P<hosts>[^/?#@]*,[^/?#@]*)"
    r"(?P<path>(?:/[^?#]*)?)(?P<mark>\?|$)"
)
_HOST_AND_PORT = re.compile(
    r"(?:(?P<host>[^:\[\]]+)|\[(?P<number>[^\[\]]+)\])(?::(?P<port>[0-9]*))?"
)
_PREFIX = "turnwise_"
# In which nothing stands for anything else.
_PLAIN_FILE = re.compile(r"sqlite:///([\w/. +=,~-]*[\w/-][\w/. +=,~-]*)")
_FOR_OTHER_DRIVERS = {
    "postgresql": re.compile(
        "host|port|user|password|dbname|hostaddr|service|passfile|application_name|options"
        "|target_session_attrs|connect_timeout|channel_binding|gssencmode|ssl.*|tcp_.*|keepalives.*|krb.*"
    ),
    "mysql": re.compile("unix_socket|ssl.*"),
    "sqlite": re.compile(""),
}


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says.

    Attributes:
        shown: the URL without its password.
        kind: ``sqlite``, ``postgresql`` or ``mysql``, which MariaDB is as well.
        is_mariadb: whether the URL says so; a server tells by itself.
        prefix: what the tables' names begin with.
        schema: the tables' schema, None for the database's default.
        file: the path in a plain URL of an SQLite file; None for any other URL.
        parsed: any other URL, for our own driver, without what names the tables.
    """

    shown: str
    kind: str
    is_mariadb: bool
    prefix: str
    schema: str | None
    file: str | None = None
    parsed: "sa.URL | None" = None

    @property
    def url(self) -> "sa.URL":
        """The URL for our own driver, without what names the tables."""
        if self.parsed is not None:
            return self.parsed
        import sqlalchemy as sa  # noqa: PLC0415 (it takes long, and a plain file needs none of it)

        return sa.URL.create(f"sqlite+{OWN_DRIVERS['sqlite']}", database=self.file)

    @property
    def password(self) -> str | None:
        """The password in the URL."""
        return None if self.parsed is None else self.parsed.password

    @classmethod
    def read(cls, url: str) -> Self:
        """Read a URL.

        Raises:
            TypeError: it is no text.
            ValueError: it is no URL of a database that is supported.
        """
        if not isinstance(url, str):
            raise TypeError(
                f"url must be text, such as 'sqlite:///turns.db', got {type(url).__name__}"
            )
        check_spelling(url)
        shown = without_password(url)
        plain = _PLAIN_FILE.fullmatch(url)
        if plain is not None:
            return cls(shown, "sqlite", False, _PREFIX, None, plain[1])  # noqa: FBT003 (as above)
        import sqlalchemy as sa  # noqa: PLC0415 (as above)

        try:
            parsed = _with_its_host(sa.make_url(_AUTHORITY_OF_MANY.sub(_in_the_query, url, 1)))
        except (sa.exc.ArgumentError, ValueError):
            raise ValueError(f"{shown!r} is no URL of a database") from None
        scheme, _, driver = parsed.drivername.partition("+")
        if scheme not in KINDS:
            known = ", ".join(f"{name}:" for name in KINDS)
            raise ValueError(f"{shown!r} has the scheme {scheme!r}; known are {known}")
        kind = KINDS[scheme]
        for name, value in parsed.query.items():
            if isinstance(value, tuple) and name not in _MAY_STAND_TWICE:
                raise ValueError(f"{shown!r}: {name} stands in it {len(value)} times")
        prefix, schema = (_identifier(shown, name, parsed.query.get(name)) for name in _NAMES)
        if schema is not None and kind == "sqlite":
            raise ValueError(f"{shown!r}: SQLite has no schema, take a table_prefix")
        ours = parsed.difference_update_query(_NAMES)
        if driver and driver != OWN_DRIVERS[kind]:
            ours = _from_other_driver(ours, kind)
        return cls(
            shown=shown,
            kind=kind,
            parsed=ours.set(drivername=f"{kind}+{OWN_DRIVERS[kind]}"),
            is_mariadb=scheme == "mariadb",
            prefix=_PREFIX if prefix is None else prefix,
            schema=schema,
        )


def _identifier(shown: str, name: str, value: str | tuple[str, ...] | None) -> str | None:
    if value is None or (isinstance(value, str) and _IDENTIFIER.fullmatch(value)):
        return value
    raise ValueError(
        f"{shown!r}: {name} must be 1 to 40 letters, digits or underscores, no digit first, "
        f"got {value!r}"
    )


def _in_the_query(authority: re.Match[str]) -> str:
    """An authority that names several servers, with these in the query, in two lists.

    Raises:
        ValueError: one of them is no host, or no host and port.
    """
    pairs = [_HOST_AND_PORT.fullmatch(each) for each in authority["hosts"].split(",")]
    if None in pairs:
        raise ValueError
    hosts = ",".join(pair["host"] or pair["number"] for pair in pairs if pair is not None)
    ports = ",".join(pair["port"] or "" for pair in pairs if pair is not None)
    query = f"host={hosts}&port={ports}" if ports.strip(",") else f"host={hosts}"
    end = "&" if authority["mark"] else ""
    return f"{authority['before']}{authority['path'] or '/'}?{query}{end}"


def _with_its_host(url: "sa.URL") -> "sa.URL":
    """The same, with a host that is quoted: libpq wants the folder of a socket to be."""
    is_quoted = url.host is not None and "%2f" in url.host.lower()
    return url.set(host=unquote(str(url.host))) if is_quoted else url


def _from_other_driver(url: "sa.URL", kind: str) -> "sa.URL":
    """What names the server, in our driver's words; options of the other driver alone are left."""
    query = dict(url.query)
    if kind == "postgresql" and isinstance(mode := query.pop("ssl", None), str):
        query["sslmode"] = mode  # as asyncpg names it
    known = _FOR_OTHER_DRIVERS[kind]
    return url.set(query={name: value for name, value in query.items() if known.fullmatch(name)})
