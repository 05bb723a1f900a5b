"""What was made before a fork is refused after it, by its name."""

import os

import pytest

from turnwise.errors import ForkError
from turnwise.own_process import OwnProcess


def test_the_process_that_made_an_object_may_use_it() -> None:
    process = OwnProcess("a connection")
    assert process.is_this()
    process.check()


def test_another_process_is_refused_and_told_what_was_made_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 7)
    process = OwnProcess("a connection")
    monkeypatch.setattr(os, "getpid", lambda: 8)
    assert not process.is_this()
    with pytest.raises(ForkError, match="a connection was made in process 7 and is used in 8: "):
        process.check()
