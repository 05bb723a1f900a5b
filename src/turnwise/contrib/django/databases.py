"""A database of ``DATABASES`` as turnwise's storage.

turnwise has its own connections, so that a heartbeat never waits for a query of the project's. They
are opened by what Django knows: each time anew, because a password may be a token that ends.
"""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connections

from turnwise import open_storage
from turnwise.errors import SchemaError, StorageError
from turnwise.storages import Storage

if TYPE_CHECKING:
    import sqlalchemy as sa

_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "sqlite": None}
_EXTRAS = {"postgresql": "postgres", "mysql": "mysql"}
_SECONDS = 10
# Of Django's own: psycopg is given what is left.
_NOT_FOR_PSYCOPG = ("context", "cursor_factory", "prepare_threshold")
_WITHOUT_TLS = ("DISABLED", "PREFERRED")
_FOR_PYMYSQL = (
    "init_command",
    "read_default_file",
    "read_default_group",
    "server_public_key",
    "ssl",
    "unix_socket",
)


def why_no_storage(alias: str) -> str | None:
    """Why a database cannot be the storage, without asking it; None where it can."""
    if alias not in settings.DATABASES:
        return f"DATABASES has no such alias; known are {', '.join(sorted(settings.DATABASES))}"
    vendor = connections[alias].vendor
    if vendor not in _DRIVERS:
        return f"{vendor} is no storage: PostgreSQL, MySQL, MariaDB and SQLite are"
    driver = _DRIVERS[vendor]
    if driver is not None and importlib.util.find_spec(driver) is None:
        return f"{driver} is not installed: pip install 'turnwise[{_EXTRAS[vendor]}]'"
    return None


def open_database(alias: str) -> Storage:
    """Open the storage in a database of ``DATABASES``. The migrations have made its tables.

    Raises:
        SchemaError: they have not, or not those of this version.
        StorageError: the database does not answer, or is one in memory.
    """
    try:
        return open_storage(engine=engine_of(alias), create_tables=False)
    except SchemaError as error:
        said, see, _ = str(error).partition("see `turnwise schema")
        raise SchemaError(
            f"{said}`manage.py migrate turnwise` makes them" if see else said
        ) from None


def engine_of(alias: str) -> "sa.Engine":
    """An engine that connects as Django does.

    Raises:
        StorageError: the database is SQLite's, and in memory.
    """
    import sqlalchemy as sa  # noqa: PLC0415 (slow, and only who serves needs it)

    connection = connections[alias]
    given = connection.settings_dict
    if connection.vendor == "sqlite":
        return sa.create_engine(sa.URL.create("sqlite", database=str(_file(given["NAME"]))))
    opens: dict[str, tuple[str, Callable[[], Any]]] = {
        "postgresql": ("postgresql+psycopg", lambda: _psycopg(alias)),
        "mysql": ("mysql+pymysql", lambda: _pymysql(alias)),
    }
    driver, creator = opens[connection.vendor]
    shown = sa.URL.create(  # it names the server in messages; the creator connects
        driver,
        username=given["USER"] or None,
        host=None if str(given["HOST"]).startswith("/") else given["HOST"] or None,
        port=int(given["PORT"]) if str(given["PORT"]).isdigit() else None,  # libpq takes several
        database=given["NAME"] or None,
    )
    return sa.create_engine(shown, creator=creator, poolclass=sa.NullPool)


def _file(name: object) -> Path:
    if ":memory:" in str(name) or "mode=memory" in str(name):
        raise StorageError(
            "a database in memory is no storage, because no other process can reach it: give "
            "DATABASES[...]['TEST'] a NAME, or have TURNWISE name another storage"
        )
    return Path(str(name)).absolute()


def _psycopg(alias: str) -> Any:
    import psycopg  # noqa: PLC0415 (needs an extra)

    connection = connections[alias]
    parameters = {
        name: value
        for name, value in connection.get_connection_params().items()
        if name not in _NOT_FOR_PSYCOPG
    }
    options: Mapping[str, Any] = connection.settings_dict["OPTIONS"]
    if role := options.get("assume_role"):  # whose the tables are
        word = str(role).replace("\\", "\\\\").replace(" ", "\\ ")
        parameters["options"] = f"{parameters.get('options', '')} -c role={word}".strip()
    ours = {
        "connect_timeout": _SECONDS // 2,
        "tcp_user_timeout": _SECONDS * 1000,
        "keepalives_idle": _SECONDS,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "application_name": "turnwise",
    }
    return psycopg.connect(**{**ours, **parameters})


def _pymysql(alias: str) -> Any:
    import pymysql  # noqa: PLC0415 (needs an extra)

    given = connections[alias].settings_dict
    options = {name: given["OPTIONS"][name] for name in _FOR_PYMYSQL if name in given["OPTIONS"]}
    mode = str(given["OPTIONS"].get("ssl_mode") or "PREFERRED").upper()
    if mode not in _WITHOUT_TLS and isinstance(ssl := options.get("ssl", {}), Mapping):
        # PyMySQL knows no such mode, and would connect without.
        options["ssl"] = {"check_hostname": mode == "VERIFY_IDENTITY", **ssl}
    where = (
        {"unix_socket": given["HOST"]}
        if str(given["HOST"]).startswith("/")
        else {
            "host": given["HOST"] or "localhost",
            "port": int(given["PORT"] or 3306),
        }
    )
    return pymysql.connect(
        **{
            **options,
            **where,
            "user": given["USER"] or None,
            "password": given["PASSWORD"],
            "database": given["NAME"],
            "charset": "utf8mb4",
            "autocommit": True,
            "connect_timeout": _SECONDS // 2,
            "read_timeout": _SECONDS,
            "write_timeout": _SECONDS,
        }
    )
