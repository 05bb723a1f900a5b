"""Noticing that an object came into this process by a fork.

A connection that two processes share mixes up their answers, and a thread does not survive a fork.
So each process makes its own connections and threads, after the fork.
"""

import os

from turnwise.errors import ForkError

__all__ = ["ForkError", "OwnProcess"]


class OwnProcess:
    """The process that made an object.

    Args:
        what: names the object in the error.
    """

    __slots__ = ("_pid", "_what")

    def __init__(self, what: str) -> None:
        self._what, self._pid = what, os.getpid()

    def is_this(self) -> bool:
        """Whether this is still that process."""
        return os.getpid() == self._pid

    def check(self) -> None:
        """Make sure that this is still that process.

        Raises:
            ForkError: it is not.
        """
        if not self.is_this():
            raise ForkError(
                f"{self._what} was made in process {self._pid} and is used in {os.getpid()}: "
                "make it after the fork, in the process that uses it"
            )
