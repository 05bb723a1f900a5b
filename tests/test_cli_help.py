"""The help of each command: for a newcomer, at 80 columns."""

from functools import cache
from typing import Any

import pytest

from processes import turnwise, turnwise_here
from turnwise.cli.app import _ENTRIES
from turnwise.cli.help import load

NAMES = (*_ENTRIES, "")


@cache
def shown(name: str) -> str:
    """The help of a command, or of the whole for an empty name."""
    return turnwise_here(*name.split(), "--help").stdout


def values_of(name: str) -> list[Any]:
    """The options of a command that take a value."""
    parameters = load(name, _ENTRIES[name]).params
    return [each for each in parameters if each.param_type_name == "option" and not each.is_flag]


@pytest.mark.parametrize("name", NAMES)
def test_no_line_of_the_help_is_longer_than_the_terminal(name: str) -> None:
    assert [line for line in shown(name).splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_short_option_for_help_shows_the_same(name: str) -> None:
    assert turnwise_here(*name.split(), "-h").stdout == shown(name)


def test_a_process_shows_that_help() -> None:
    for name in ("", "run"):
        assert turnwise(*name.split(), "--help").stdout == shown(name)


@pytest.mark.parametrize("name", _ENTRIES)
def test_each_option_says_what_it_takes_in_words_and_what_holds_without_it(name: str) -> None:
    assert "<" not in shown(name), "a type, and no word"
    for option in values_of(name):
        assert option.metavar, option.opts
        assert option.required or "Default: " in option.help, option.opts


@pytest.mark.parametrize("name", _ENTRIES)
def test_each_command_is_said_in_a_sentence_and_shown_by_an_example(name: str) -> None:
    first, *_ = load(name, _ENTRIES[name]).help.splitlines()
    assert first.endswith(".")
    assert shown(name).partition("Examples:\n")[2].strip() or name == "demo"
    assert f"  {name} " in shown(""), "the list of commands has it"


# They ask for something else in one command than in another, and say so.
OF_ITS_OWN = {
    *("--service", "--storage", "--timezone", "--since", "--last", "--until", "--reason"),
    *("--runners", "--clock-skew", "--output"),
}


def test_an_option_that_several_commands_have_is_the_same_in_each() -> None:
    said: dict[str, set[str]] = {}
    for name in _ENTRIES:
        for option in values_of(name):
            said.setdefault(option.opts[0], set()).add(f"{option.metavar}: {option.help}")
    assert {flag for flag, each in said.items() if len(each) > 1} <= OF_ITS_OWN
