"""What a service can be, and what its end means."""

import functools
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.errors import TurnFailedError, TurnLostError
from turnwise.scheduler.functions import check_result, end_a_forked_child, outcome_of, served
from turnwise.testing import fake_turn
from turnwise.turn import Turn


def plain(turn: Turn) -> Turn:
    return turn


def nothing() -> str:
    return "nothing"


async def coroutine(turn: Turn) -> Turn:
    return turn


async def coroutine_of_nothing() -> str:
    return "nothing"


class Callables:
    def method(self, turn: Turn) -> Turn:
        return turn

    async def coroutine(self, turn: Turn) -> Turn:
        return turn

    def __call__(self, turn: Turn) -> Turn:
        return turn


class AsyncCallable:
    async def __call__(self) -> str:
        return "nothing"


def with_default(turn: Turn | None = None) -> Turn | None:
    return turn


def with_other_default(number: int = 7) -> int:
    return number


def with_any(*args: object) -> object:
    return args[0]


def of_keywords(**kwargs: object) -> object:
    return kwargs


@pytest.mark.parametrize(
    ("function", "is_coroutine", "takes_turn"),
    [
        (plain, False, True),
        (nothing, False, False),
        (coroutine, True, True),
        (coroutine_of_nothing, True, False),
        (Callables().method, False, True),
        (Callables().coroutine, True, True),
        (Callables(), False, True),
        (AsyncCallable(), True, False),
        (functools.partial(plain), False, True),
        (functools.partial(plain, fake_turn()), False, False),
        (functools.partial(functools.partial(coroutine)), True, True),
        (with_default, False, True),
        (with_other_default, False, False),
        (with_any, False, True),
        (of_keywords, False, False),
        (lambda: None, False, False),
        (print, False, True),
        (Callables, False, False),
    ],
)
def test_functions_coroutine_functions_methods_partials_and_callables_are_fit(
    function: Callable[..., object], is_coroutine: bool, takes_turn: bool
) -> None:
    found = served(function)
    assert (found.is_coroutine, found.takes_turn) == (is_coroutine, takes_turn)


def test_a_builtin_that_does_not_tell_its_parameters_is_handed_its_turn() -> None:
    assert served(max).takes_turn


def test_a_function_is_called_with_its_turn_or_without() -> None:
    turn = fake_turn()
    assert served(plain)(turn) is turn
    assert served(nothing)(turn) == "nothing"
    assert served(with_other_default)(turn) == 7


def generator(turn: Turn) -> Iterator[Turn]:
    yield turn


async def async_generator(turn: Turn) -> AsyncIterator[Turn]:
    yield turn


class GeneratorCallable:
    def __call__(self, turn: Turn) -> Iterator[Turn]:
        yield turn


def two(turn: Turn, other: int) -> None:
    del turn, other


def keyword(*, turn: Turn) -> None:
    del turn


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (generator, "a call of it runs nothing"),
        (async_generator, "a call of it runs nothing"),
        (functools.partial(generator), "a call of it runs nothing"),
        (GeneratorCallable(), "a call of it runs nothing"),
        (two, "asks for turn, other"),
        (keyword, "asks for turn"),
        ("text", "must be callable"),
        (None, "must be callable"),
    ],
)
def test_what_can_never_run_is_refused_when_it_is_registered(function: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        served(function)


UNRUN: list[tuple[str, Callable[[], object]]] = [
    ("generator", lambda: generator(fake_turn())),
    ("async_generator", lambda: async_generator(fake_turn())),
    ("coroutine", lambda: coroutine(fake_turn())),
    ("coroutine", lambda: [coroutine(fake_turn()), coroutine(fake_turn())]),
    ("generator", lambda: (1, generator(fake_turn()))),
]


@pytest.mark.parametrize(("kind", "make"), UNRUN)
def test_a_result_that_nobody_has_run_fails_the_turn(kind: str, make: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=f"gave back {kind}s that nobody has run"):
        check_result(make())


@pytest.mark.parametrize("result", [None, 1, "text", [1, 2], (), [[]]])
def test_any_other_result_is_fine(result: object) -> None:
    check_result(result)


class NoReasonError(TurnFailedError):
    def __init__(self) -> None:
        """As a program may have it that does not call the base."""


class OddReasonError(TurnFailedError):
    def __init__(self, reason: Any) -> None:
        self.reason = reason


class Unspeakable:
    def __str__(self) -> str:
        raise ZeroDivisionError("no text")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, (Status.COMPLETED, "")),
        (ValueError("no"), (Status.ABANDONED, "exception:ValueError")),
        (SystemExit(3), (Status.ABANDONED, "exception:SystemExit")),
        (KeyboardInterrupt(), (Status.ABANDONED, "exception:KeyboardInterrupt")),
        (TurnLostError("late"), (Status.ABANDONED, "lost")),
        (TurnFailedError("upstream is down"), (Status.ABANDONED, "upstream is down")),
        (TurnFailedError("a\0b"), (Status.ABANDONED, "a\\x00b")),
        (TurnFailedError(ValueError("no")), (Status.ABANDONED, "no")),  # type: ignore[arg-type]
        (NoReasonError(), (Status.ABANDONED, "exception:NoReasonError")),
        (OddReasonError(7), (Status.ABANDONED, "7")),
        (OddReasonError(Unspeakable()), (Status.ABANDONED, "exception:OddReasonError")),
    ],
)
def test_what_a_function_raised_says_how_its_turn_ended(
    error: BaseException | None, outcome: tuple[Status, str]
) -> None:
    assert outcome_of(error) == outcome


FORKING = """
import os, sys
from turnwise.scheduler.functions import end_a_forked_child
pid = os.getpid()
end_a_forked_child(pid, None)
child = os.fork()
if child == 0:
    print("said in the child", end="")
    end_a_forked_child(pid, {error})
    os._exit(99)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


ENDINGS = pytest.mark.parametrize(
    ("error", "status"),
    [
        ("None", 0),
        ("SystemExit()", 0),
        ("SystemExit(3)", 3),
        ("SystemExit('sorry')", 1),
        ("ValueError('no')", 1),
    ],
)


@ENDINGS
def test_a_forked_child_says_what_it_has_said_and_exits(
    error: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same as below, in this process, which takes itself for another one."""
    errors = {"SystemExit": SystemExit, "ValueError": ValueError, "sorry": "sorry", "no": "no"}
    raised = eval(error, {"__builtins__": {}}, errors)  # noqa: S307 (texts of this file)
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    end_a_forked_child(os.getpid() + 1, raised)
    assert exits == [status]
    assert ("ValueError: no" in capsys.readouterr().err) == (error == "ValueError('no')")


@ENDINGS
def test_a_child_that_a_function_has_forked_ends_with_the_status_of_its_error(
    error: str, status: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING.replace("{error}", error)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == f"said in the child{status}\n"
    assert ("ValueError: no" in done.stderr) == (error == "ValueError('no')")
