"""The signals that end a program, while a scheduler runs in its main thread."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Self

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class SignalsEnd:
    """While it lasts, SIGTERM and SIGINT ask for a stop, and each one after the first hurries it.

    Python hears signals in the main thread alone: in another thread this does nothing. A process
    that was forked meanwhile is ended by them as if nobody had caught them.

    Args:
        stop: called at the first signal, within its handler.
        hurry: called at each one after it.
    """

    def __init__(self, stop: Callable[[], None], hurry: Callable[[], None]) -> None:
        self._stop, self._hurry = stop, hurry
        self._before: dict[signal.Signals, Callable[..., object] | int | None] = {}
        self._is_asked = False
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._heard) for each in _SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            if handler is not None:  # one that was not set from Python cannot be put back
                signal.signal(number, handler)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self._is_asked:
            self._hurry()
        else:
            self._is_asked = True
            self._stop()
