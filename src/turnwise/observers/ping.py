"""Pings: a service's starts, successes and failures, sent to a dead man's switch.

A *dead man's switch*, such as healthchecks.io, expects to hear of a job again and again, and raises
an alarm where it does not. For each service it has a URL, and this observer sends ::

    POST URL/start    as a turn starts
    POST URL          as a turn has completed, and this is recorded
    POST URL/fail     as a turn has failed, its owner is dead, or a period was missed

with the reason in the body. A turn that was stopped, or had no chance to begin, is no failure:
somebody else takes its place. ::

    scheduler = Scheduler(observers=[Ping({"nightly": "https://hc-ping.com/..."})])

Nothing here is in the way of a turn. Pings are sent by a thread of their own, one after the other.
Each is tried ``TRIES`` times, for ``timeout`` seconds each. Where more than
``MOST_WAITING`` wait, the oldest are given up. As the program ends they have
``last_words`` seconds in all. A ping that is given up is logged. Where each process of a
group sends its own pings, the switch hears of each turn once, because each turn is in one process.

Not guaranteed: that every ping arrives. A process that is killed takes those with it that wait; the
switch misses them, which is what it is for. A host that answers in drips, or a name that is looked
up for long, may hold up the pings behind it.

A URL of such a service is a secret. Of each no more is ever logged than its host.
"""

import atexit
import base64
import contextlib
import http.client
import logging
import os
import threading
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.events import Event, PeriodMissed, RunBuried, TurnEnded, TurnStarted
from turnwise.gate import NO_ATTEMPT, OWNER_DEAD
from turnwise.names import printable

TRIES: Final = 3
MOST_WAITING: Final = 100

_log = logging.getLogger("turnwise.observers.ping")
_FIRST_BACKOFF_SECONDS = 1.0
_LONGEST_BODY = 1000
_GIVEN_UP: Final = frozenset(range(400, 500)) - {408, 429}
"""Answers that will be the same at the next try."""


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a service's pings go. ``host`` is what may be logged of it."""

    parts: SplitResult
    host: str
    authorization: str | None

    @classmethod
    def of(cls, service: str, url: str) -> "_Target":
        """Read a URL; none of its secrets is in the error."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or parts.scheme not in ("http", "https") or not url.isprintable():
            raise ValueError(
                f"the URL for the pings of {service!r} must be http://HOST/... or https://HOST/..."
            )
        if " " in url or not (parts.path + parts.query).isascii():
            raise ValueError(
                f"the URL for the pings of {service!r} must be as a browser sends it: write a "
                "space as %20, and what is not ASCII as %XX, too"
            )
        shown = f"[{host}]" if ":" in host else host
        netloc = shown if port is None else f"{shown}:{port}"
        authorization = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = "Basic " + base64.b64encode(pair.encode()).decode()
        return cls(parts._replace(netloc=netloc, fragment=""), netloc, authorization)

    def url(self, ending: str) -> str:
        """The URL with an ending of its path, before the query."""
        path = self.parts.path.rstrip("/") + ending if ending else self.parts.path
        return urlunsplit(self.parts._replace(path=path))


@dataclass(frozen=True, slots=True)
class _Message:
    target: _Target
    service: str
    ending: str
    body: str


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a try has failed, without anything that is secret; whether another one would, too."""

    why: str
    is_final: bool = False


class Ping:
    """Sends pings for one scheduler. See the module.

    Args:
        urls: the URL of each service; what is not among them sends none. Or one URL, for every
            service that the scheduler has.
        timeout: how many seconds a try may take until the host answers. Default 10.
        last_words: how many seconds the pings that still wait get as the program ends. Default 5.

    Raises:
        ValueError: a URL is none of ``http`` or ``https``, or a duration is not positive.
    """

    def __init__(
        self, urls: Mapping[str, str] | str, *, timeout: float = 10.0, last_words: float = 5.0
    ) -> None:
        if timeout <= 0 or last_words < 0:
            raise ValueError(
                "timeout must be positive, and last_words 0 or more, "
                f"got timeout={timeout!r} and last_words={last_words!r}"
            )
        self.timeout, self.last_words = timeout, last_words
        self._of_all = _Target.of("all services", urls) if isinstance(urls, str) else None
        self._targets = (
            {}
            if isinstance(urls, str)
            else {service: _Target.of(service, url) for service, url in urls.items()}
        )
        self._waiting: deque[_Message] = deque()
        self._changed = threading.Condition()
        self._is_sending = self._is_closed = False
        self._thread: threading.Thread | None = None
        self._pid = 0

    def __call__(self, event: Event) -> None:
        """Hear an event."""
        match event:
            case TurnStarted():
                self._put(event.service, "/start", f"attempt {event.attempt}")
            case TurnEnded(recorded=True, status=Status.COMPLETED):
                self._put(event.service, "", "completed")
            case TurnEnded(recorded=True) if event.reason not in NO_ATTEMPT:
                self._put(event.service, "/fail", f"attempt {event.attempt}: {event.reason}")
            case RunBuried():
                self._put(event.service, "/fail", f"{OWNER_DEAD}: {event.owner}")
            case PeriodMissed():
                self._put(event.service, "/fail", f"{event.count} missed: {event.why}")

    def close(self) -> bool:
        """Wait until what waits is sent, at most for ``last_words``; then send nothing any more.

        It is called as the program ends.

        Returns:
            Whether everything was sent, or tried often enough.
        """
        if self._pid not in (0, os.getpid()):
            return True  # they are of the process that this one was forked from, as is the lock
        with self._changed:
            self._changed.wait_for(
                lambda: not self._waiting and not self._is_sending, self.last_words
            )
            left = len(self._waiting) + self._is_sending
            self._is_closed = True
            self._waiting.clear()
            self._changed.notify_all()
        atexit.unregister(self.close)
        if left:
            _log.warning("%d pings were not sent before the program ended", left)
        return not left

    # Inside -----------------------------------------------------------------------------------

    def _put(self, service: str, ending: str, body: str) -> None:
        target = self._targets.get(service, self._of_all)
        if target is None:
            return
        with self._changed:
            if self._is_closed or not self._has_thread():
                return
            if len(self._waiting) >= MOST_WAITING:
                oldest = self._waiting.popleft()
                _log.warning(
                    "%s: a ping to %s is given up: too many wait",
                    printable(oldest.service),
                    oldest.target.host,
                )
            self._waiting.append(_Message(target, service, ending, body))
            self._changed.notify_all()

    def _has_thread(self) -> bool:
        """Start the thread with the first ping, in this process; whether there is one."""
        if self._thread is not None and self._pid == os.getpid():
            return True
        self._waiting.clear()  # of the process that this one was forked from
        self._is_sending = False
        thread = threading.Thread(target=self._send_all, name="turnwise-ping", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            _log.warning("a ping could not be sent: %s", error)
            return False
        self._thread, self._pid = thread, os.getpid()
        atexit.register(self.close)
        return True

    def _send_all(self) -> None:
        while True:
            with self._changed:
                self._is_sending = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if self._is_closed:
                    return
                message = self._waiting.popleft()
                self._is_sending = True
            try:
                self._send(message)
            except Exception as error:  # noqa: BLE001 (the next ping may have more luck)
                self._give_up(message, type(error).__name__)

    def _send(self, message: _Message) -> None:
        """Try to send a ping, again and again."""
        for number in range(TRIES):
            failure = self._try(message)
            if failure is None:
                return
            is_last = number + 1 == TRIES
            if is_last or failure.is_final or self._pause(number):
                self._give_up(message, failure.why)
                return

    def _pause(self, number: int) -> bool:
        """Wait before the next try; whether the program ends meanwhile."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._is_closed, _FIRST_BACKOFF_SECONDS * 2**number
            )

    def _try(self, message: _Message) -> "_Failure | None":
        """Send a ping once; why it failed, without anything that is secret, or None."""
        request = urllib.request.Request(  # noqa: S310 (http or https, as was checked)
            message.target.url(message.ending),
            data=message.body[:_LONGEST_BODY].encode("utf-8", "replace"),
            headers={"Content-Type": "text/plain; charset=utf-8", "User-Agent": "turnwise"},
            method="POST",
        )
        if message.target.authorization is not None:
            # Unredirected: another host, to which the answer may lead, is not told it.
            request.add_unredirected_header("Authorization", message.target.authorization)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout):  # noqa: S310 (as above)
                return None
        except urllib.error.HTTPError as error:
            with contextlib.suppress(Exception):
                error.close()
            return _Failure(f"status {error.code}", is_final=error.code in _GIVEN_UP)
        except urllib.error.URLError as error:
            return _Failure(_said(error.reason))
        except (OSError, http.client.HTTPException) as error:
            return _Failure(_said(error))

    def _give_up(self, message: _Message, why: str) -> None:
        _log.warning(
            "%s: a ping to %s is given up: %s",
            printable(message.service),
            message.target.host,
            printable(why),
        )


def _said(reason: object) -> str:
    """What an error says; one that is not of the system may quote the URL, and gives its name."""
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return type(reason).__name__
