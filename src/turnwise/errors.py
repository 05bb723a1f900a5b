"""Every exception of turnwise, under one base class.

A caller who wants to catch all that turnwise itself raises catches :class:`TurnwiseError`. Wrong
arguments are ``TypeError`` and ``ValueError``, as everywhere in Python.
"""


class TurnwiseError(Exception):
    """The base class of all exceptions that turnwise defines."""


class StorageError(TurnwiseError):
    """The storage did not answer, or answered that it cannot. What it did is not known.

    A storage error is never a reason to start a turn.
    """


class SchemaError(StorageError):
    """The storage answers, but what it holds is not what its promises rest on.

    A table, a column or a key is missing, the encoding cannot hold the names, or another version
    of turnwise made the tables. The message names what is missing. Trying again does not help.
    """


class MissingExtraError(TurnwiseError, ImportError):
    """A part was asked for whose optional dependency is not installed; the message names it."""


class ForkError(TurnwiseError, RuntimeError):
    """An object is used in another process than the one that made it."""


class TurnLostError(TurnwiseError, RuntimeError):
    """The turn is no longer this runner's: the storage has given it up for dead, or may have."""


class TurnFailedError(TurnwiseError):
    """Raised by a function to end its turn ABANDONED with a ``reason`` of its own.

    The reasons ``stopped``, ``not_started`` and ``no_margin`` say that nothing was done. Such a
    turn is no attempt at its period, and the next in line tries again, however often.

    Args:
        reason: what the history shall say, such as ``"upstream is down"``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = str(reason)


class BusyError(TurnwiseError):
    """A record was changed by others again and again, or is locked; trying again may help."""


class StillAliveError(TurnwiseError):
    """Something was not forgotten, because a runner that it concerns lives."""
