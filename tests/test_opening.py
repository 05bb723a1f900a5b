"""From a URL, an engine or the environment to a storage; no password shows on the way."""

import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

import servers
from processes import turnwise_here
from turnwise import storages
from turnwise.errors import MissingExtraError, StorageError
from turnwise.storages import Beat
from turnwise.storages.memory import MemoryStorage
from turnwise.storages.opening import ENTRY_POINTS, FILE_VARIABLE, URL_VARIABLE, open_storage
from turnwise.storages.redis import RedisStorage
from turnwise.storages.sql import SqlStorage


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    monkeypatch.delenv(FILE_VARIABLE, raising=False)


def works(storage: storages.Storage) -> bool:
    beat = Beat("a", "boot", 1, 1_000_000)
    return not storage.heartbeat("opening", beat).found and bool(storage.runners("opening"))


# Schemes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["memory:", "memory://", "memory:///"])
def test_memory_is_a_fresh_storage_each_time(url: str) -> None:
    first, second = open_storage(url), open_storage(url)
    assert isinstance(first, MemoryStorage)
    assert works(first)
    assert second.groups() == ()


def test_a_path_of_sqlite_is_a_file_that_is_created_unless_told_otherwise(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'turns.db'}"
    with pytest.raises(StorageError):
        open_storage(url, create_tables=False)
    with closing(open_storage(url)) as storage:
        assert isinstance(storage, SqlStorage)
        assert works(storage)
    with closing(open_storage(url, create_tables=False)) as storage:
        assert storage.groups() == ("opening",)


def test_an_engine_names_its_database(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'turns.db'}")
    with closing(open_storage(engine=engine)) as storage:
        assert works(storage)
    engine.dispose()
    with closing(open_storage(f"sqlite:///{tmp_path / 'turns.db'}")) as storage:
        assert storage.groups() == ("opening",)


def test_an_engine_and_a_url_are_refused_together() -> None:
    with pytest.raises(TypeError, match="url and engine were given"):
        open_storage("memory:", engine=sa.create_engine("sqlite://"))


@pytest.mark.skipif(servers.redis_executable() is None, reason=servers.WHY_NO_REDIS)
@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_redis_and_valkey_are_one_kind_of_storage(scheme: str) -> None:
    url = servers.redis().url.replace("redis", scheme, 1)
    with closing(open_storage(f"{url}?key_prefix={scheme}")) as storage:
        assert isinstance(storage, RedisStorage)
        assert works(storage)


@pytest.mark.parametrize(
    "url",
    [
        "postgres://u:sesame@127.0.0.1:1/db",
        "postgresql+asyncpg://u:sesame@127.0.0.1:1/db",
        "postgresql+psycopg2://u:sesame@127.0.0.1:1/db",
        "mysql+aiomysql://u:sesame@127.0.0.1:1/db",
        "mariadb://u:sesame@127.0.0.1:1/db",
        "redis://u:sesame@127.0.0.1:1/0",
        "rediss://u:sesame@127.0.0.1:1/0",
        "valkeys://u:sesame@127.0.0.1:1/0",
        "unix:///no/such/socket?password=sesame",
    ],
)
def test_every_scheme_that_people_have_gets_as_far_as_its_server(url: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_storage(url)
    assert "sesame" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("turns.db", "is named without a scheme"),
        ("", "is named without a scheme"),
        ("oracle://u:sesame@h/db", "has the scheme 'oracle'"),
        ("redis+tls://u:sesame@h/0", r"has the scheme 'redis\+tls'"),
        ("memory:shared", "in memory has a name"),
        ("redis://u:ses@ame@h/0", "write another as %40"),
        ("redis://h/0\n", "one line of printable text"),
    ],
)
def test_what_names_no_storage_is_refused_in_one_line(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        open_storage(url)
    assert "sesame" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_scheme_is_told_which_are_known() -> None:
    known = "known are memory:, sqlite:, postgresql:, postgres:, mysql:, mariadb:, redis:, rediss:"
    with pytest.raises(ValueError, match=known):
        open_storage("oracle://h/db")


@pytest.mark.parametrize("url", [b"memory:", Path("turns.db"), 7])
def test_what_is_no_text_is_refused_and_not_shown(url: object) -> None:
    with pytest.raises(TypeError, match=f"url must be text.*got {type(url).__name__}$"):
        open_storage(url)  # type: ignore[arg-type] # on purpose


# The environment ------------------------------------------------------------------------------


def test_without_a_url_the_variable_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(URL_VARIABLE, f"sqlite:///{tmp_path / 'a.db'}")
    with closing(open_storage()):
        assert (tmp_path / "a.db").exists()
    assert isinstance(open_storage("memory:"), MemoryStorage)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_without_the_variable_the_file_that_another_names_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(f"sqlite:///{tmp_path / 'a b.db'}{end}".encode())
    monkeypatch.setenv(URL_VARIABLE, "")
    monkeypatch.setenv(FILE_VARIABLE, str(secret))
    with closing(open_storage()):
        assert (tmp_path / "a b.db").exists()


def test_where_nothing_names_a_storage_the_error_says_what_to_set() -> None:
    with pytest.raises(
        ValueError, match=r"give a URL.*set TURNWISE_STORAGE .*TURNWISE_STORAGE_FILE"
    ):
        open_storage()


def test_two_variables_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can know which of the two was left over."""
    monkeypatch.setenv(URL_VARIABLE, "redis://u:sesame@h/0")
    monkeypatch.setenv(FILE_VARIABLE, "/run/secrets/turns")
    with pytest.raises(ValueError, match="set one of the two") as caught:
        open_storage()
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff\xfe", "cannot be read: it is no text in UTF-8"),
        (b"sesame\n", "no URL of a storage is in it"),
        (b"", "no URL of a storage is in it"),
        (b"redis://u:sesame@h/0\nand more", "no URL of a storage is in it"),
    ],
)
def test_a_file_without_a_url_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, said: str
) -> None:
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_bytes(content)
    monkeypatch.setenv(FILE_VARIABLE, str(secret))
    with pytest.raises(ValueError, match=f"^{FILE_VARIABLE} names '{secret}'.*{said}") as caught:
        open_storage()
    assert "sesame" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# Other packages -------------------------------------------------------------------------------


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A package with storages, as an installer leaves it."""
    (tmp_path / "turnwise_shelf.py").write_text(
        "from turnwise.storages.memory import MemoryStorage\n"
        "class ShelfStorage(MemoryStorage):\n"
        "    def __init__(self, url):\n"
        "        super().__init__()\n"
        "        self.url = url\n"
    )
    about = tmp_path / "turnwise_shelf-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: turnwise-shelf\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        f"[{ENTRY_POINTS}]\n"
        "shelf = turnwise_shelf:ShelfStorage\n"
        "memory = turnwise_shelf:ShelfStorage\n"
        "redis = turnwise_shelf:ShelfStorage\n"
        "gone = turnwise_no_such_module:Storage\n"
        "nameless = turnwise_shelf:NoSuchClass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "turnwise_shelf", raising=False)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("url", ["shelf:", "shelf://u:sesame@h/x", "shelf+tls://h"])
def test_a_scheme_of_another_package_is_opened_by_it(url: str) -> None:
    storage = open_storage(url)
    assert type(storage).__name__ == "ShelfStorage"
    assert storage.url == url  # type: ignore[attr-defined] # of the package above
    assert works(storage)


@pytest.mark.usefixtures("installed")
def test_the_command_line_opens_the_scheme_of_another_package() -> None:
    done = turnwise_here("status", "--storage", "shelf://h/x")
    assert done.returncode == 0, done.stderr
    assert "nothing was ever started on this" in done.stdout
    done = turnwise_here("status", "--storage", "shelves://h/x")
    assert done.returncode == 2
    assert "unix:, shelf:" in done.stderr


@pytest.mark.usefixtures("installed")
def test_another_package_cannot_take_over_our_schemes() -> None:
    assert type(open_storage("memory:")) is MemoryStorage
    with pytest.raises(StorageError):
        open_storage("redis://127.0.0.1:1/0")


@pytest.mark.usefixtures("installed")
def test_the_schemes_of_other_packages_are_known_as_well() -> None:
    with pytest.raises(ValueError, match="unix:, shelf:"):
        open_storage("shelves:")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("scheme", ["gone", "nameless"])
def test_a_package_that_cannot_be_imported_is_named_and_its_url_is_not(scheme: str) -> None:
    with pytest.raises(MissingExtraError, match=f"'{scheme}' need turnwise_") as caught:
        open_storage(f"{scheme}://u:sesame@h")
    assert "sesame" not in str(caught.value)


@pytest.mark.usefixtures("installed")
def test_a_url_that_can_be_misread_does_not_reach_another_package() -> None:
    with pytest.raises(ValueError, match="write another as %40"):
        open_storage("shelf://u:ses@ame@h")
