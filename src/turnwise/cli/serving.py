"""What the commands that serve share: a storage that is looked at first, and signals."""

import logging
import queue
import signal
from collections.abc import Callable
from dataclasses import fields
from types import FrameType
from typing import TypeVar, cast

from turnwise.cli.child import Children
from turnwise.cli.errors import BadInput, storage_as_input
from turnwise.cli.storage import is_private
from turnwise.errors import MissingExtraError, SchemaError, StorageError, TurnwiseError
from turnwise.scheduler import Scheduler
from turnwise.scheduler.knobs import Knobs
from turnwise.settings import Settings
from turnwise.storages.opening import open_storage
from turnwise.storages.urls import without_password

_T = TypeVar("_T")

_log = logging.getLogger("turnwise.cli")
_LONGEST_WAIT_SECONDS = 0.5


def try_storage(url: str) -> None:
    """Look at a storage before a scheduler waits for it: some mistakes are seen at once.

    Raises:
        BadInput: it is a file that cannot be opened.
    """
    with storage_as_input():
        _try_file(url)
    if is_private(url):
        shown = without_password(url)
        _log.warning("%s is this process's own: no other runner takes turns with it", shown)


def start(scheduler: Scheduler) -> None:
    """Start a scheduler.

    Raises:
        BadInput: its storage cannot be used, now or later.
    """
    try:
        scheduler.start()
    except (ValueError, MissingExtraError, SchemaError) as error:
        raise BadInput(str(error)) from error  # and no storage that is away for a while


def next_wish(wishes: "queue.SimpleQueue[_T]", scheduler: Scheduler) -> _T:
    """Wait until a signal's handler, or a turn, has asked for something.

    In steps: a signal that comes just before a wait begins, or to another thread, interrupts
    nothing, and its handler runs only when the wait is over.

    Raises:
        TurnwiseError: the scheduler has ended by itself.
    """
    while True:
        try:
            return wishes.get(timeout=_LONGEST_WAIT_SECONDS)
        except queue.Empty:
            if not scheduler.health().is_running:
                raise TurnwiseError("the scheduler has ended; its log says why") from None


def knobs_of(settings: Settings) -> Knobs:
    """The knobs of settings, as a scheduler is given them beside the schedule."""
    names = [field.name for field in fields(settings) if field.name != "schedule"]
    return cast("Knobs", {name: getattr(settings, name) for name in names})


def mind_signals(
    children: Children, *, stop: Callable[[], None], reload: Callable[[], None] | None = None
) -> None:
    """From now on a signal that ends a program ends its children, and then the program.

    Args:
        children: the children of this process; each is told of the signal.
        stop: asks the program to end. It must be safe in a signal handler, as must ``reload``.
        reload: what SIGHUP asks for; None where it ends the program.
    """

    def end(signum: int, _: FrameType | None) -> None:
        stop()
        children.pass_on(signum)

    # Where whoever started us ignores it, so do we, and how a child ended would not be known.
    signal.signal(signal.SIGCHLD, lambda *_: children.bury_orphans())
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    if reload is not None:
        signal.signal(signal.SIGHUP, lambda *_: reload())
    elif signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, end)


def _try_file(url: str) -> None:
    """Open a file once: one that cannot be opened is a mistake, and no server to wait for."""
    if not url.startswith("sqlite"):
        return
    try:
        open_storage(url).close()
    except SchemaError:
        raise
    except StorageError as error:
        if "locked" not in str(error):  # by somebody who will let go of it: that is waited for
            raise
