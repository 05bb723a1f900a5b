"""Exceptions: one base class, and what else each of them is."""

import inspect

import pytest

from turnwise import errors


def test_every_exception_has_the_one_base_class_and_says_what_it_is() -> None:
    for name, value in vars(errors).items():
        if inspect.isclass(value):
            assert issubclass(value, errors.TurnwiseError), name
            assert value.__doc__, name


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (errors.SchemaError, errors.StorageError),
        (errors.MissingExtraError, ImportError),
        (errors.ForkError, RuntimeError),
        (errors.TurnLostError, RuntimeError),
    ],
)
def test_an_exception_is_caught_as_what_it_is_in_python_too(
    error: type[Exception], base: type[Exception]
) -> None:
    assert issubclass(error, base)


def test_a_turn_that_failed_has_the_reason_that_the_history_shall_say() -> None:
    error = errors.TurnFailedError("upstream is down")
    assert (error.reason, str(error)) == ("upstream is down", "upstream is down")
    # What is no text becomes one.
    assert errors.TurnFailedError(ValueError("x")).reason == "x"  # type: ignore[arg-type]
