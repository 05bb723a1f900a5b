"""Names that every storage, log and terminal can take."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise.names import (
    checked_name,
    checked_reason,
    default_runner_id,
    printable,
    random_name,
    storable,
)
from turnwise.scheduler import Scheduler


@pytest.mark.parametrize("name", ["a", "nightly report", "Nachtlauf: Größe", "x" * 255, "報告"])
def test_a_name_of_1_to_255_printable_characters_is_taken_as_it_is(name: str) -> None:
    assert checked_name("name", name) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "must have 1 to 255 characters, got 0"),
        ("x" * 256, "must have 1 to 255 characters, got 256"),
        ("two\nlines", "must be Unicode text without control characters"),
        ("nul\0", "must be Unicode text without control characters"),
        ("half \ud800", "must be Unicode text without control characters"),
        ("line\u2028separator", "must be Unicode text without control characters"),
    ],
)
def test_a_name_that_a_storage_or_a_log_cannot_take_is_refused(name: str, said: str) -> None:
    for make in (
        lambda: checked_name("runner_id", name),
        lambda: Scheduler("memory:", runner_id=name),
    ):
        with pytest.raises(ValueError, match="runner_id") as caught:
            make()
        assert said in str(caught.value)


@pytest.mark.parametrize("name", [None, 7, b"bytes"])
def test_a_name_that_is_no_text_is_refused_by_its_argument(name: object) -> None:
    with pytest.raises(TypeError, match="group must be text"):
        checked_name("group", name)  # type: ignore[arg-type] # as said


def test_default_runner_ids_differ_fit_and_name_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "h" * 300)
    one, other = default_runner_id(), default_runner_id()
    assert one != other
    assert checked_name("runner_id", one) == one
    assert random_name() != random_name()


@given(st.text(st.characters(codec=None, categories=None) | st.sampled_from("\0\ud800")))
def test_any_reason_can_be_kept_and_is_cut_at_1000_characters(text: str) -> None:
    kept = checked_reason(text)
    assert len(kept) <= 1000
    assert "\0" not in kept
    kept.encode()
    assert storable(kept) == kept


def test_what_cannot_be_kept_is_kept_as_an_escape() -> None:
    assert checked_reason("a\0b\ud800c") == "a\\x00b\\ud800c"


def test_what_is_logged_shows_controls_and_directions_as_escapes() -> None:
    assert printable("as it is: Größe") == "as it is: Größe"
    assert printable("red\x1b[31m\u202eback") == "red\\x1b[31m\\u202eback"
