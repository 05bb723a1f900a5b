"""A command, and what is around it: its folder, its environment, and whom it runs as."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Command:
    """A command: what is run, and with what around it.

    Args:
        arguments: the program and its arguments.
        directory: the working directory; None for our own, or the user's home. ``~`` is the home
            of whom it runs as.
        environment: variables beside those of our own environment, and in their place.
        user: the name of the user whom it runs as; None for our own. Only root can be another.
    """

    arguments: tuple[str, ...]
    directory: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    user: str | None = None

    def working_directory(self) -> str | None:
        """Where it runs; None for where we do.

        Raises:
            OSError: there is no such user any more.
        """
        if self.directory is None:
            return None if self.user is None else self._account().pw_dir
        if self.user is not None and self.directory.partition("/")[0] == "~":
            return self._account().pw_dir + self.directory[1:]
        return str(Path(self.directory).expanduser())

    def variables(self) -> dict[str, str]:
        """Its environment, but for what tells it of its turn.

        Raises:
            OSError: there is no such user any more.
        """
        return dict(os.environ) | self._variables_of_user() | dict(self.environment)

    def _variables_of_user(self) -> dict[str, str]:
        if self.user is None:
            return {}
        account = self._account()
        names = dict.fromkeys(("USER", "LOGNAME"), account.pw_name)
        return names | {"HOME": account.pw_dir, "SHELL": account.pw_shell or "/bin/sh"}

    def _account(self) -> "pwd.struct_passwd":
        assert self.user is not None  # noqa: S101 (as the caller knows)
        try:
            return pwd.getpwnam(self.user)
        except KeyError:
            raise OSError(f"there is no user {self.user!r}") from None
