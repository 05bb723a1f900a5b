"""URLs that name a storage: refused in one line where they could be read in two ways."""

from collections.abc import Callable

import pytest

from turnwise.errors import StorageError
from turnwise.storages import Storage
from turnwise.storages.opening import open_storage
from turnwise.storages.redis import RedisStorage
from turnwise.storages.sql import SqlStorage
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
    ],
)
def test_a_password_that_stands_in_two_places_or_in_a_mistake_is_hidden_as_well(
    url: str, shown: str
) -> None:
    assert without_password(url) == shown
