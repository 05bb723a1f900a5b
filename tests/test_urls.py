"""URLs that name a storage: refused in one line where they could be read in two ways."""

from collections.abc import Callable
from pathlib import Path

import pytest

from turnwise import Scheduler
from turnwise.cli.app import run_app
from turnwise.errors import StorageError
from turnwise.storages import Storage
from turnwise.storages.opening import FILE_VARIABLE, URL_VARIABLE, open_storage
from turnwise.storages.redis import RedisStorage
from turnwise.storages.sql import SqlStorage
from turnwise.storages.sql.address import Address
from turnwise.storages.sql.postgresql import Postgres
from turnwise.storages.urls import without_password


def its_class(url: str) -> Storage:
    """What ``open_storage`` opens, without it."""
    return RedisStorage(url) if url.startswith("redis") else SqlStorage(url)


either_way = pytest.mark.parametrize("opened", [open_storage, its_class])


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://root:sesame@sesame@host/db",
        "postgresql://root:se/sesame@host/db",
        "mysql://root:se#sesame@host/db",
        "mysql://root:se?sesame@host/db",
        "mysql://host:3306?password=se@sesame",
        "redis://root:se@sesame@host/0",
        "redis://root:12/sesame@host/0",
        "redis://root:[sesame@host/0",
        "redis:/root:sesame@sesame@host/0",
        "sqlite://root:se@sesame@host/turns.db",
    ],
)
@either_way
def test_an_at_or_a_mark_that_should_have_been_quoted_is_refused_and_says_how(
    url: str, opened: Callable[[str], Storage]
) -> None:
    with pytest.raises(ValueError, match="write another as %40, and what a password has") as caught:
        opened(url)
    assert "sesame" not in str(caught.value)
    assert caught.value.__context__ is None
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite:///turns.db\n", "redis://h\t/0", "mysql://\udcff@h/db"])
@either_way
def test_a_url_with_what_cannot_be_printed_is_refused(
    url: str, opened: Callable[[str], Storage]
) -> None:
    with pytest.raises(ValueError, match="a URL is one line of printable text"):
        opened(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://root:sesame@host/db?hello=1", "'hello'"),
        ("mysql://root:%D9%A3sesame@host/db", "its driver cannot encode it"),
        ("mysql://root:sesame@host/db?connect_timeout=soon", "'soon'"),
        ("mysql://root:sesame@host/db?ssl=true", "ssl"),
        ("postgresql://root:sesame@/db?host=a&host=b:2&port=3", "multihost"),
    ],
)
@either_way
def test_what_a_driver_cannot_take_is_a_value_error_that_says_of_which_url(
    url: str, said: str, opened: Callable[[str], Storage]
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        opened(url)
    assert type(caught.value) is ValueError
    assert str(caught.value).startswith(f"'{without_password(url)}'")
    assert caught.value.__suppress_context__


@either_way
def test_a_parameter_that_stands_twice_is_refused(opened: Callable[[str], Storage]) -> None:
    with pytest.raises(ValueError, match="charset stands in it 2 times"):
        opened("mysql://root:sesame@host/db?charset=latin1&charset=utf8mb4")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///no/such/folder/a:b@c@d.db",
        "sqlite:////no/such/folder/ü[#].db",
        "postgresql://root:s%40%2F%3F%23%5B%5Dx@localhost:1/db?application_name=a%40b",
        "mysql://localhost:1/db",
        "redis://:s%40x@localhost:1/0?client_name=a%40b",
        "redis://[::1]:1/0",
    ],
)
def test_a_url_that_is_quoted_as_it_should_be_gets_as_far_as_its_storage(url: str) -> None:
    with pytest.raises(StorageError):
        open_storage(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis:root:sesame@host/0", "redis:root:***@host/0"),
        ("redis:/root:sesame@host/0", "redis:/root:***@host/0"),
        ("postgresql://h/db?password=sesame#sesame&x=1", "postgresql://h/db?password=***&x=1"),
        ("postgresql://h:1/db?password=sesame@sesame", "postgresql://h:***"),
        ("postgresql://u:sesame?pass=sesame@h/db", "postgresql://u:***"),
        ("redis://u:sesame@h/0?passwd=sesame&pass=sesame", "redis://u:***@h/0?passwd=***&pass=***"),
        # Without a scheme, or with one that is mistyped.
        ("u:sesame@h/db", "u:***@h/db"),
        ("u:/sesame@h/db", "u:***@h/db"),
        ("u:se:sesame@h/db", "u:***@h/db"),
        ("//u:sesame@h/db", "//u:***@h/db"),
        ("postgresql//u:sesame@h/db", "postgresql//u:***@h/db"),
        ("postgres;//u:sesame@h/db", "postgres;//u:***@h/db"),
        ("postgresql:///u:sesame@h/db", "postgresql:///u:***@h/db"),
        ("postgresql:://u:sesame@h/db", "postgresql:://u:***@h/db"),
        ("'postgresql://u:sesame@h/db'", "'postgresql://u:***@h/db'"),
        ("STORAGE=postgresql://u:sesame@h/db", "STORAGE=postgresql://u:***@h/db"),
        # With something else in the place of the colon, or of the @ and the host.
        ("postgresql://u/sesame@h/db", "postgresql://u/***@h/db"),
        ("postgresql://u sesame@h/db", "postgresql://u ***@h/db"),
        ("postgresql://u%3Asesame@h/db", "postgresql://u%***@h/db"),
        ("postgresql://u:sesame/db", "postgresql://u:***/db"),
        ("postgresql://u:sesame", "postgresql://u:***"),
        ("redis://sesame@h/0", "redis://***@h/0"),
        # In other spellings than a URL.
        ("host=h user=u password=sesame", "host=h user=u password=***"),
        ("Server=h;PWD=sesame", "Server=h;PWD=***"),
        (
            "jdbc:postgresql://h/db?user=u&password=sesame",
            "jdbc:postgresql://h/db?user=u&password=***",
        ),
    ],
)
def test_a_password_that_stands_in_two_places_or_in_a_mistake_is_hidden_as_well(
    url: str, shown: str
) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@h:5432/db",
        "postgresql://h1:5432,h2:5433/db?host=/run/x",
        "postgresql://[::1]:5432/db",
        "sqlite:////srv/a:b@c.db",
        "etcd://h:2379",
        "memory:shared",
    ],
)
def test_what_is_no_password_is_shown(url: str) -> None:
    assert without_password(url) == url


@pytest.mark.parametrize(
    "url",
    [
        *("u:sesame@h/db", "//u:sesame@h/db", "postgresql//u:sesame@h/db"),
        *(
            "redis://u:sesame",
            "redis://u:sesame/0",
            "redis://u:%73esame@h:x/0",
            "redis://sesame@h:x",
        ),
        *("postgresql://u:sesame", "mysql://u:sesame/db", "postgres;//u:sesame@h"),
        *("host=h password=sesame", "host=h:1 password=sesame:1", "mysql:://u:sesame@h"),
    ],
)
def test_what_refuses_a_mistyped_url_shows_no_password_wherever_it_was_named(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"storage|is no URL") as caught:
        open_storage(url)
    said = [str(caught.value), repr(Scheduler(url))]
    for arguments in (["status", "--storage", url], ["status", url], [url], ["up", url]):
        assert run_app(arguments) == 2
        said.append(capsys.readouterr().err)
    monkeypatch.setenv(URL_VARIABLE, url)
    assert run_app(["status"]) == 2
    monkeypatch.delenv(URL_VARIABLE)
    monkeypatch.setenv(FILE_VARIABLE, url)
    assert run_app(["status"]) == 2
    secret = tmp_path / "secret"
    secret.write_text(url)
    monkeypatch.setenv(FILE_VARIABLE, str(secret))
    assert run_app(["status"]) == 2
    said.append(capsys.readouterr().err)
    assert all(said)
    assert [each for each in said if "sesame" in each] == []


def test_a_file_that_holds_a_password_alone_is_not_taken_for_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("open:sesame")
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    monkeypatch.setenv(FILE_VARIABLE, str(secret))
    with pytest.raises(ValueError, match="no URL of a storage is in it") as caught:
        open_storage()
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("authority", "host", "port"),
    [
        ("u:p@h1:5432,h2:5433", "h1,h2", "5432,5433"),
        ("u:p@h1,h2:5433", "h1,h2", ",5433"),
        ("u,v:p,q@h1:1,[::1]:3", "h1,::1", "1,3"),
        ("u:p@%2Frun%2Fx,h2:1", "/run/x,h2", ",1"),
        ("u:p@%2Frun%2Fx", "/run/x", None),
        ("u:p@%2frun:5433", "/run", "5433"),
        ("u,v:p,q@h", "h", None),
    ],
)
@pytest.mark.parametrize("rest", ["", "/db", "/d,b?target_session_attrs=read-write"])
def test_hosts_before_the_path_reach_libpq_as_they_stand(
    authority: str, host: str, port: str | None, rest: str
) -> None:
    given = Postgres(Address.read(f"postgresql://{authority}{rest}"))._given
    assert (given["host"], given.get("port")) == (host, port)
    assert given["user"] in {"u", "u,v"}
    assert given["password"] in {"p", "p,q"}
    assert given.get("dbname", "") == rest.partition("?")[0].removeprefix("/")


@pytest.mark.parametrize("hosts", ["h1:x,h2", ",h2", "h1,[x:1", "u:sesame,h", "h1:1:1,h2"])
def test_what_is_no_list_of_hosts_is_refused(hosts: str) -> None:
    with pytest.raises(ValueError, match="is no URL of a database") as caught:
        Address.read(f"postgresql://{hosts}/db")
    assert "sesame" not in str(caught.value)
