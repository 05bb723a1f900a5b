"""Commands as services: one child process in each turn.

The child leads a process group of its own. A signal to turnwise is passed on to the whole
group; so is the end of its time. What a child leaves behind in its group when it ends is ended,
too. Should turnwise itself be killed, a guard process, which waits for that on a pipe, kills the
group, so that no child outlives its turn unnoticed. The guard is there before the child: where the
system has no room for both, neither starts.

A turn is lost where its heartbeats are not confirmed for the heartbeat timeout: another runner may
start then. So the child has to be gone *before*: it is asked to end a while ahead of that instant,
and killed just ahead of it. :class:`_Successor` reckons when.
"""

import contextlib
import logging
import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from turnwise.cli.command import Command
from turnwise.cli.processes import Processes
from turnwise.errors import TurnFailedError, TurnLostError
from turnwise.gate import LOST, NOT_STARTED, STOPPED, TIMEOUT
from turnwise.names import printable
from turnwise.turn import Turn

_log = logging.getLogger("turnwise.child")
_POLL_SECONDS = 0.1
# Of the heartbeat timeout, where heartbeats do not arrive: what a child has to end in at most, and
# what is kept for the death of one that has not ended.
_NOTICE = 1 / 4
_TO_DIE = 1 / 20
_POLLS_IN_NOTICE = 4
# For what ends by itself right after the child, such as one that wrote down its output.
_LEFT_BEHIND_SECONDS = 1.0
# The guard reads the child's process group from its pipe, and shows it among its arguments. A
# second line says that the child has ended. When the pipe closes without it, the guard kills.
_GUARD = 'read -r group && exec /bin/sh -c "$1" turnwise-guard "$group"'
_KILL = 'read -r _ || kill -s KILL -- "-$1"'


class Children:
    """The children of a process, which end together: at a signal, each is told, and none follows.

    It also buries the orphans that the first process of a container inherits, and can tell them
    from its own.
    """

    def __init__(self) -> None:
        self.processes = Processes()
        self.signal: int | None = None
        self._at_work: tuple[Child, ...] = ()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def with_one(self, child: "Child") -> Iterator[None]:
        """While it lasts, a child is told of signals."""
        with self._lock:
            self._at_work = (*self._at_work, child)
        try:
            yield
        finally:
            with self._lock:
                self._at_work = tuple(each for each in self._at_work if each is not child)

    def pass_on(self, signum: int) -> None:
        """Pass a signal on to each child's group. Safe in a signal handler."""
        self.signal = signum
        for child in self._at_work:  # a tuple, because a handler may interrupt who changes it
            child.pass_on(signum)

    def bury_orphans(self) -> None:
        """Leave no zombies of processes that were inherited. Safe in a signal handler."""
        self.processes.bury_orphans()


class Child:
    """Runs a command in each turn that it is called with.

    Args:
        command: the command; as a list, the program and its arguments alone.
        timeout: how long a child may run; None for as long as it likes.
        grace: how long a child may take to end after a signal, before it is killed.
        heartbeat_timeout: the service's. Where no heartbeat is confirmed for that long, the child
            is gone. It is asked to end before that, and has ``grace`` for it, or a quarter of
            this where that is shorter; as long as from when the turn is known to be lost.
        children: the children of this process, of which this is one; None where it is alone.

    Attributes:
        last_status: the exit status of the last child, as a shell gives it.
    """

    def __init__(
        self,
        command: Command | list[str],
        *,
        timeout: timedelta | None,
        grace: timedelta,
        heartbeat_timeout: timedelta,
        children: Children | None = None,
    ) -> None:
        self._command = command if isinstance(command, Command) else Command(tuple(command))
        self._children = children or Children()
        self._processes = self._children.processes
        self._timeout = timeout
        self._grace = grace.total_seconds()
        self._heartbeat_timeout = heartbeat_timeout.total_seconds()
        self._notice = min(max(self._grace, _POLL_SECONDS), self._heartbeat_timeout * _NOTICE)
        self._process: subprocess.Popen[bytes] | None = None
        self._kill_at: float | None = None
        self.last_status = 0

    def __call__(self, turn: Turn) -> None:
        """Run the command in this turn.

        Raises:
            TurnFailedError: it ended with ``exit:<code>`` or ``signal:<name>``, was ended for its
                ``timeout`` or because the turn was ``lost``, or was not started
                (``not_started``). After a signal that was passed on to it, and where one had come
                before it could be started, the reason is ``stopped``.
        """
        with self._children.with_one(self):
            if self._children.signal is not None:
                raise TurnFailedError(STOPPED)
            self._run(turn)

    def _run(self, turn: Turn) -> None:
        with contextlib.ExitStack() as stack:
            with self._starting():
                guard = stack.enter_context(_Guard(self._processes))
                process = self._start(turn)
            guard.watch(process.pid)
            self._process = process
            cause = self._wait(process, turn)
        self._process = None
        self._processes.ended(process)
        self._children.bury_orphans()
        code = process.returncode
        self.last_status = code if code >= 0 else 128 - code
        self._judge(cause, code)

    def _judge(self, cause: str | None, code: int) -> None:
        """Raise where the child did not end well, or was not left to end."""
        if cause is None and code == 0:
            return
        how = f"exit:{code}" if code >= 0 else f"signal:{_signal_name(-code)}"
        signum = self._children.signal
        if cause is None and signum is not None:
            _log.warning("after %s the child ended with %s", _signal_name(signum), how)
            cause = STOPPED
        raise TurnFailedError(cause or how)

    def _start(self, turn: Turn) -> "subprocess.Popen[bytes]":
        """Start it in a session of its own: the terminal's signals come through turnwise alone."""
        command = self._command
        return self._processes.start(
            command.arguments,
            env=command.variables() | _environment(turn),
            cwd=command.working_directory(),
            user=command.user,
        )

    def pass_on(self, signum: int) -> None:
        """Pass a signal on to the child's group. Safe in a signal handler."""
        if self._process is not None:
            self._end(self._process, signum)

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            program = printable(self._command.arguments[0])
            _log.error("cannot start %s: %s", program, printable(str(error)))
            self.last_status = 127
            raise TurnFailedError(NOT_STARTED) from error

    def _wait(self, process: subprocess.Popen[bytes], turn: Turn) -> str | None:
        """Wait for the child's end; why we ended it, where we did for a reason of ours."""
        cause: str | None = None
        times_out_at = math.inf
        if self._timeout is not None:
            times_out_at = time.monotonic() + self._timeout.total_seconds()
        successor = _Successor(turn, self._heartbeat_timeout, self._notice)
        left_behind_until = math.inf
        signum = self._children.signal
        if signum is not None:  # it came while the child was being started
            self._end(process, signum)
        while process.poll() is None or _is_alive(process.pid):
            now = time.monotonic()
            gone_by = successor.child_must_be_gone_by(now)
            if process.returncode is not None:
                times_out_at = math.inf  # the child itself was in time
                left_behind_until = min(left_behind_until, now + _LEFT_BEHIND_SECONDS)
            if self._kill_at is None and (now >= times_out_at or gone_by < math.inf):
                cause = TIMEOUT if now >= times_out_at else LOST
                _log.warning("ending the child: %s", cause)
                self._end(process, signal.SIGTERM)
            if self._kill_at is None and now >= left_behind_until:
                _log.warning("the child has ended; ending what it left behind in its group")
                self._end(process, signal.SIGTERM)
            left = min(math.inf if self._kill_at is None else self._kill_at, gone_by) - now
            if left <= 0:
                # Whoever had asked it to end by a signal would have given it longer.
                cause = cause or (LOST if gone_by <= now else None)
                _signal_group(process.pid, signal.SIGKILL)
                process.wait()
                break
            _wait_for(process, min(left, self._notice / _POLLS_IN_NOTICE, _POLL_SECONDS))
        self._kill_at = None
        return cause

    def _end(self, process: subprocess.Popen[bytes], signum: int) -> None:
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._grace
        _signal_group(process.pid, signum)


class _Successor:
    """When another runner may start: until then a child must be gone.

    Args:
        turn: the child's.
        heartbeat_timeout: seconds without a heartbeat after which another may start.
        notice: seconds that the child has to end in.
    """

    def __init__(self, turn: Turn, heartbeat_timeout: float, notice: float) -> None:
        self._turn, self._notice = turn, notice
        self._to_die = heartbeat_timeout * _TO_DIE
        self._gone_by = math.inf

    def child_must_be_gone_by(self, now: float) -> float:
        """By which instant, on the clock that ``now`` is of; infinite while it is far."""
        lost_in = self._turn.lost_in()
        left = lost_in - self._to_die
        if left > self._notice:
            self._gone_by = math.inf
            return math.inf
        if self._gone_by == math.inf:
            _log.error("%s: another may start, and so the child must end", self._danger(lost_in))
            self._gone_by = now + self._notice
        if left > 0:
            # Heartbeats may be confirmed yet, which gives the child time again.
            self._gone_by = now + left
        return self._gone_by

    def _danger(self, lost_in: float) -> str:
        try:
            self._turn.check()
        except TurnLostError as lost:
            return str(lost)
        return f"the turn is lost in {lost_in:.1f} s unless a heartbeat is confirmed"


class _Guard:
    """A process that kills the child's group should this process die while the child runs."""

    def __init__(self, processes: Processes) -> None:
        reader, self._writer = os.pipe()
        self._processes = processes
        try:
            self._process = processes.start(
                ["/bin/sh", "-c", _GUARD, "turnwise-guard", _KILL], stdin=reader, is_silent=True
            )
        except OSError:
            os.close(self._writer)
            raise
        finally:
            os.close(reader)

    def watch(self, group: int) -> None:
        """The child's group, as soon as there is one."""
        self._tell(str(group))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exception: object) -> None:
        if exc_type is None:
            self._tell("the child has ended: nothing to kill")
        os.close(self._writer)
        self._process.wait()
        self._processes.ended(self._process)

    def _tell(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # somebody has killed it, and not the child
            os.write(self._writer, f"{line}\n".encode())


def _environment(turn: Turn) -> dict[str, str]:
    """What a child is told about its turn."""
    run = turn.run
    return {
        "TURNWISE_GROUP": turn.group,
        "TURNWISE_SERVICE": turn.service,
        "TURNWISE_RUNNER_ID": turn.runner_id,
        "TURNWISE_RUN_ID": turn.run_id,
        "TURNWISE_FENCING_TOKEN": str(turn.fencing_token),
        "TURNWISE_DUE": _iso(turn.due),
        "TURNWISE_ATTEMPT": str(turn.attempt),
        "TURNWISE_LAST_SERVED": _iso(turn.last_served),
        "TURNWISE_SLOT_START": _iso(run.slot_start),
        "TURNWISE_SLOT_END": _iso(run.slot_end),
    }


def _wait_for(process: subprocess.Popen[bytes], seconds: float) -> None:
    if process.returncode is not None:  # its group is what we wait for
        time.sleep(seconds)
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _is_alive(group: int) -> bool:
    # Who is the first process of a container inherits what the child has left behind.
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    return _signal_group(group, 0) and not _waits_to_be_buried(group)


def _waits_to_be_buried(group: int) -> bool:
    """Whether all of a group have ended, and whoever inherited them does not ask how.

    Where there is no /proc to say so, none has.
    """
    states = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it is gone, or hidden from us
            state, _, group_of_it, *_ = stat.read_bytes().rpartition(b")")[2].split()
            if int(group_of_it) == group:
                states.add(state)
    return states == {b"Z"}


def _signal_group(group: int, signum: int) -> bool:
    try:
        os.killpg(group, signum)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody in it runs as another user
        return True
    return True


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)


def _iso(instant: datetime | None) -> str:
    return "" if instant is None else instant.astimezone(UTC).isoformat()
