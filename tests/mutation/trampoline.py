"""What stands in the place of each function that has mutants: it calls the one that is tried."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

Function = Callable[..., Any]
MutantDict = dict[str, Function]

_TRIED: Final[dict[str, list[tuple[MutantDict, list[Function], str]]]] = {}
"""By module: the functions by their mutants' names, the one that is called, and its name."""

called: Final[set[str]] = set()
"""The functions that were called, as ``module.name``; whoever asks clears it before."""


def wrap_in_trampoline(
    mutants: MutantDict,
    is_classmethod: bool = False,  # noqa: FBT002 (as mutmut calls it)
) -> Callable[[Function], Function]:
    """Decorate a function as mutmut's decorator of this name does, of which it takes the place."""

    def decorated(function: Function) -> Function:
        name = f"{function.__module__}.{function.__qualname__}"
        chosen: list[Function] = []
        _TRIED.setdefault(function.__module__, []).append((mutants, chosen, name))

        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            called.add(name)
            tried = chosen[0] if chosen else mutants["_mutmut_orig"]
            if is_classmethod:
                return getattr(arguments[0], tried.__name__)(*arguments[1:], **named)
            return tried(*arguments, **named)

        return call

    return decorated


def function_of(mutant: str, *, choose: bool = False) -> str | None:
    """The function that a mutant changes; ``choose`` has it called from now on.

    None where its module is not loaded.
    """
    module, _, name = mutant.rpartition(".")
    for mutants, chosen, function in _TRIED.get(module, ()):
        if name in mutants:
            if choose:
                chosen.append(mutants[name])
            return function
    return None
