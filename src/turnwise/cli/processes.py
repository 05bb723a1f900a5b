"""The processes that turnwise starts, and the orphans that it inherits.

The first process of a container inherits every process whose parent has ended, and has to ask how
each of them ended, or they stay as zombies for ever. What turnwise itself has started must not be
asked about here: whoever started it waits for it, and would never learn how it ended.
"""

import contextlib
import os
import pwd
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any


class Processes:
    """Starts processes, and tells them from orphans."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ours: set[int] = set()

    def start(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        is_silent: bool = False,
    ) -> "subprocess.Popen[bytes]":
        """Start a process in a session of its own.

        Args:
            command: the program and its arguments.
            env: its environment; None for our own.
            cwd: its working directory; None for our own.
            user: the name of the user whom it runs as, with all of that user's groups; None for
                our own.
            stdin: what it reads.
            is_silent: whether what it writes goes nowhere.

        Raises:
            OSError: there is no such program, or no room for it.
        """
        output = subprocess.DEVNULL if is_silent else None
        identity = {} if user is None else _identity(user)
        with self._lock:
            process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 (what we are for)
                command,
                env=env,
                cwd=cwd,
                stdin=stdin,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **identity,
            )
            self._ours.add(process.pid)
        return process

    def ended(self, process: "subprocess.Popen[bytes]") -> None:
        """How a process ended is known: its number may be an orphan's from now on."""
        with self._lock:
            self._ours.discard(process.pid)

    def bury_orphans(self) -> None:
        """Ask how each orphan ended that has. Safe in a signal handler; at times it does nothing.

        It does nothing while a process is being started, so call it after that, too.
        """
        # In a handler, the thread that it interrupts may hold the lock.
        if not self._lock.acquire(blocking=False):
            return
        try:
            with contextlib.suppress(ChildProcessError):
                while self._bury_one():
                    pass
        finally:
            self._lock.release()

    def _bury_one(self) -> bool:
        """Bury the first process that has ended; False where it is ours, or there is none."""
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None or ended.si_pid in self._ours:
            return False
        os.waitpid(ended.si_pid, os.WNOHANG)
        return True


def _identity(user: str) -> dict[str, Any]:
    """What a process needs to run as another user.

    Raises:
        OSError: there is no such user.
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise OSError(f"there is no user {user!r}") from None
    if account.pw_uid == os.geteuid():
        return {}
    groups = os.getgrouplist(user, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups}
