"""What a service can be: plain functions and coroutine functions, with or without a turn.

A function is looked at when it is registered, so that what can never run is refused at once:
generators, which would "complete" without having run a line, and functions that ask for more than a
turn. What a function gives back is looked at, too: an awaitable is awaited; a generator that was
made and not run ends the turn as failed.
"""

import contextlib
import functools
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.errors import TurnFailedError, TurnLostError
from turnwise.gate import LOST
from turnwise.names import checked_reason
from turnwise.turn import Turn


@dataclass(frozen=True, slots=True)
class Served:
    """A function that was found fit to be served."""

    function: Callable[..., object]
    is_coroutine: bool
    takes_turn: bool

    def __call__(self, turn: Turn) -> object:
        """Call the function, with the turn where it takes one."""
        return self.function(turn) if self.takes_turn else self.function()


def served(function: Callable[..., object]) -> Served:
    """Look at a function that shall be served.

    Raises:
        TypeError: it is not callable, is a generator, or asks for more than a turn.
    """
    if not callable(function):
        raise TypeError(f"function must be callable with a turn or without, got {function!r}")
    inner = _innermost(function)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise TypeError(
            f"function must be a plain or a coroutine function, got the generator {function!r}: "
            "a call of it runs nothing"
        )
    return Served(function, inspect.iscoroutinefunction(inner), _takes_turn(function))


def check_result(result: object) -> None:
    """Refuse a result that shows that the function's work was never run.

    Raises:
        TypeError: it is a generator, or a list or tuple of coroutines.
    """
    results = result if isinstance(result, list | tuple) else (result,)
    unrun = [each for each in results if any(is_one(each) for is_one in _MUST_BE_RUN)]
    for each in unrun:
        if inspect.iscoroutine(each):
            each.close()  # nobody will await it, and Python would warn of it
    if unrun:
        raise TypeError(f"the function gave back {type(unrun[0]).__name__}s that nobody has run")


_MUST_BE_RUN = (inspect.isgenerator, inspect.isasyncgen, inspect.iscoroutine)


def outcome_of(error: BaseException | None) -> tuple[Status, str]:
    """How a turn ends whose function raised ``error``, or nothing: the status and the reason."""
    if error is None:
        return Status.COMPLETED, ""
    if isinstance(error, TurnLostError):
        return Status.ABANDONED, LOST
    if isinstance(error, TurnFailedError):
        # A subclass may have no reason, or one that is no text: its turn has to end all the same.
        with contextlib.suppress(Exception):
            return Status.ABANDONED, checked_reason(str(error.reason))
    return Status.ABANDONED, checked_reason(f"exception:{type(error).__name__}")


def end_a_forked_child(pid: int, error: BaseException | None) -> None:
    """Where a function has forked and this is the child: end the child here.

    The child has a copy of the turn that is not its own. Its exit status is that of ``sys.exit``,
    1 after another exception, else 0. In the process ``pid`` nothing happens.
    """
    if os.getpid() == pid:
        return
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exception(error)
        status = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def _innermost(function: Callable[..., object]) -> object:
    """The function that a partial, a bound method or a callable object calls in the end."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return type(function).__call__


def _takes_turn(function: Callable[..., object]) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin that does not say: it is handed its turn
        return True
    parameters = signature.parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    asked = [p.name for p in positional if p.default is p.empty]
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if len(asked) > 1 or keywords:
        names = ", ".join(asked + keywords)
        raise TypeError(f"function must take a turn or nothing, and {function!r} asks for {names}")
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    wants_it = any(each.name == "turn" for each in positional)  # such as ``turn=None``
    return bool(asked) or variadic or wants_it
