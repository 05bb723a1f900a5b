"""Pings to a dead man's switch: a real HTTP server hears them, and none is in the way of a turn."""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest

from live import Heard, due, eventually
from processes import environment, turnwise
from turnwise import events
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.observers import ping
from turnwise.observers.ping import MOST_WAITING, TRIES, Ping
from turnwise.scheduler import Scheduler
from turnwise.storages import Storage

DUE = 1_767_225_600_000_000
SERVICE: dict[str, Any] = {"group": "g", "runner_id": "a", "service": "job"}
TURN: dict[str, Any] = {**SERVICE, "run_id": "run", "token": 7, "due": DUE}
STARTED = events.TurnStarted(**TURN, attempt=2, started_at=DUE)
SECRET = "0b7d-secret-5f1c"  # noqa: S105 (nobody's)


def ended(
    status: Status = Status.COMPLETED, reason: str = "", *, recorded: bool = True
) -> events.TurnEnded:
    return events.TurnEnded(
        **TURN, status=status, reason=reason, attempt=2, took=1, recorded=recorded
    )


class Switch:
    """A server that keeps what it hears. ``answer`` says what to do with the next request."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, str]] = []
        self.headers: list[Any] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = answer
        switch = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                switch.heard.append((self.command, self.path, body))
                switch.headers.append(self.headers)
                switch.answer(self)

            def do_GET(self) -> None:
                switch.heard.append((self.command, self.path, ""))
                switch.headers.append(self.headers)
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.host}/{SECRET}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, count: int) -> list[tuple[str, str]]:
        """The paths and bodies of so many pings."""
        eventually(lambda: len(self.heard) >= count, f"{count} pings")
        return [(path.removeprefix(f"/{SECRET}"), body) for _, path, body in self.heard]


def answer(request: BaseHTTPRequestHandler, status: int = 200) -> None:
    request.send_response(status)
    request.end_headers()


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Switch]:
    monkeypatch.setattr(ping, "_FIRST_BACKOFF_SECONDS", 0.01)
    made = Switch()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (STARTED, ("/start", "attempt 2")),
        (ended(), ("", "completed")),
        (ended(Status.ABANDONED, "exit:3"), ("/fail", "attempt 2: exit:3")),
        (events.RunBuried(**TURN, owner="b"), ("/fail", "owner_dead: b")),
        (
            events.PeriodMissed(**SERVICE, due=DUE, until=DUE + 1, why="failed"),
            ("/fail", "1 missed: failed"),
        ),
    ],
    ids=["start", "success", "fail", "buried", "missed"],
)
def test_each_of_them_goes_to_its_place_by_post_with_the_reason(
    switch: Switch, event: events.Event, said: tuple[str, str]
) -> None:
    observer = Ping({"job": switch.url})
    observer(event)
    assert observer.close()
    assert switch.wait_for(1) == [said]
    assert switch.heard[0][0] == "POST"


@pytest.mark.parametrize(
    "event",
    [
        ended(recorded=False),
        ended(Status.ABANDONED, "stopped"),
        ended(Status.ABANDONED, "not_started"),
        ended(Status.ABANDONED, "no_margin"),
        ended(Status.ABANDONED, "lost", recorded=False),
        events.RunnerLeft(group="g", runner_id="a"),
    ],
    ids=["not recorded", "stopped", "not_started", "no_margin", "said by another", "left"],
)
def test_what_is_neither_success_nor_failure_sends_nothing(
    switch: Switch, event: events.Event
) -> None:
    observer = Ping({"job": switch.url})
    observer(event)
    assert observer.close()
    assert switch.heard == []


def test_a_service_that_has_no_url_sends_nothing_and_one_url_may_be_for_all(
    switch: Switch,
) -> None:
    for urls, count in (({"other": switch.url}, 0), (switch.url, 1)):
        observer = Ping(urls)
        observer(STARTED)
        observer.close()
        assert len(switch.heard) == count


def test_the_ending_comes_before_the_query(switch: Switch) -> None:
    observer = Ping({"job": f"{switch.url}/?create=1#part"})
    observer(STARTED)
    observer(ended())
    observer.close()
    assert [path for path, _ in switch.wait_for(2)] == ["/start?create=1", "/?create=1"]


def test_a_scheduler_pings_the_start_and_the_end_of_each_turn(switch: Switch) -> None:
    def job() -> None:
        raise ValueError("no")

    observer, heard = Ping(switch.url), Heard()
    scheduler = Scheduler(cast("Storage", due()), runner_id="a", observers=(observer, heard))
    scheduler.add(job, "every 1m", name="job", attempts=1)
    with scheduler:
        heard.wait_for(events.TurnEnded)
    assert switch.wait_for(2) == [
        ("/start", "attempt 1"),
        ("/fail", "attempt 1: exception:ValueError"),
    ]
    observer.close()


# What may be wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 503, 408, 429])
def test_what_may_get_better_is_tried_again(switch: Switch, status: int) -> None:
    answers = [status, 200]
    switch.answer = lambda request: answer(request, answers.pop(0))
    observer = Ping(switch.url)
    observer(STARTED)
    assert observer.close()
    assert switch.wait_for(2) == [("/start", "attempt 2")] * 2


def test_it_is_given_up_after_so_many_tries_and_logged_without_its_secret(
    switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    switch.answer = lambda request: answer(request, 500)
    observer = Ping(switch.url)
    observer(STARTED)
    observer.close()
    assert len(switch.heard) == TRIES
    assert [record.message for record in caplog.records] == [
        f"job: a ping to {switch.host} is given up: status 500"
    ]


def test_what_will_not_get_better_is_tried_once(
    switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    switch.answer = lambda request: answer(request, 404)
    observer = Ping(switch.url)
    observer(STARTED)
    observer.close()
    assert len(switch.heard) == 1
    assert "status 404" in caplog.text


def test_a_server_that_is_absent_is_given_up(
    switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    switch.close()
    observer = Ping(f"http://user:{SECRET}@{switch.host}/{SECRET}")
    observer(STARTED)
    observer.close()
    assert f"a ping to {switch.host} is given up: Connection refused" in caplog.text
    assert SECRET not in caplog.text


def test_a_server_that_hangs_up_is_tried_again(switch: Switch) -> None:
    def hang_up(request: BaseHTTPRequestHandler) -> None:
        switch.answer = answer
        request.connection.shutdown(socket.SHUT_RDWR)

    switch.answer = hang_up
    observer = Ping(switch.url)
    observer(STARTED)
    assert observer.close()
    assert len(switch.heard) == 2


def test_a_server_that_hangs_holds_up_no_turn_and_no_end_of_the_program(
    switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()
    switch.answer = lambda _: cast("None", go_on.wait(30))
    observer = Ping(switch.url, last_words=0.2)
    heard = Heard()
    scheduler = Scheduler(cast("Storage", due()), runner_id="a", observers=(observer, heard))
    scheduler.add(lambda: None, "every 1m", name="job")
    with scheduler:
        heard.wait_for(events.TurnEnded)
    began = time.monotonic()
    assert not observer.close()
    assert time.monotonic() - began < 5
    assert "pings were not sent before the program ended" in caplog.text
    go_on.set()


def test_a_server_that_is_slow_is_given_up_after_the_timeout(
    switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()
    switch.answer = lambda _: cast("None", go_on.wait(30))
    observer = Ping(switch.url, timeout=0.2)
    observer(STARTED)
    observer.close()
    assert "is given up: no answer in time" in caplog.text
    assert len(switch.wait_for(TRIES)) == TRIES
    go_on.set()


def test_of_more_than_may_wait_the_oldest_are_given_up(
    switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()

    def wait(request: BaseHTTPRequestHandler) -> None:
        go_on.wait(30)
        answer(request)

    switch.answer = wait
    observer = Ping(switch.url)
    observer(STARTED)  # it is on its way, and hangs
    switch.wait_for(1)
    began = time.monotonic()
    for number in range(MOST_WAITING + 3):
        observer(ended(Status.ABANDONED, f"exit:{number}"))
    assert time.monotonic() - began < 5
    assert caplog.text.count("too many wait") == 3
    go_on.set()
    paths = switch.wait_for(1 + MOST_WAITING)
    assert paths[1] == ("/fail", "attempt 2: exit:3")
    observer.close()


def test_whatever_goes_wrong_with_one_ping_the_next_is_sent(
    switch: Switch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = Ping._try
    failing = [True]

    def fail(self: Ping, message: Any) -> Any:
        if failing:
            failing.clear()
            raise RuntimeError(SECRET)
        return real(self, message)

    monkeypatch.setattr(Ping, "_try", fail)
    observer = Ping(switch.url)
    observer(STARTED)
    observer(ended())
    observer.close()
    assert switch.wait_for(1) == [("", "completed")]
    assert "RuntimeError" in caplog.text
    assert SECRET not in caplog.text


def test_without_a_thread_there_is_no_ping_and_no_error(
    switch: Switch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    observer = Ping(switch.url)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        observer(STARTED)
    assert "a ping could not be sent: can't start new thread" in caplog.text
    observer(STARTED)
    assert len(switch.wait_for(1)) == 1
    observer.close()


def test_after_it_was_closed_it_sends_nothing(switch: Switch) -> None:
    observer = Ping(switch.url)
    assert observer.close()
    observer(STARTED)
    assert observer.close()
    assert switch.heard == []


def test_a_program_that_ends_sends_its_last_words(switch: Switch) -> None:
    program = (
        "from turnwise.observers.ping import Ping\n"
        "from turnwise.events import PeriodMissed\n"
        f"Ping({switch.url!r})(PeriodMissed(group='g', runner_id='a', service='job', "
        "due=1, until=2, why='failed'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment(), check=False)
    assert done.returncode == 0
    assert switch.heard[0][2] == "1 missed: failed"


def test_a_forked_child_waits_for_no_pings_of_its_parent(switch: Switch) -> None:
    go_on = threading.Event()
    switch.answer = lambda _: cast("None", go_on.wait(30))
    observer = Ping(switch.url)
    observer(STARTED)
    switch.wait_for(1)
    with observer._changed:  # as another thread may hold it
        pid = os.fork()
        if pid == 0:
            os._exit(0 if observer.close() else 1)
    _, status = os.waitpid(pid, 0)
    assert status == 0
    go_on.set()
    observer.close()


# The command line ---------------------------------------------------------------------------------


def run_once(command: str, url: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in its one turn, as soon as it is due, with a URL in the environment."""
    options = ("--storage", "sqlite://", "--every", "1s", "--once")
    return turnwise(
        "run", "--service", "job", *options, "--", "sh", "-c", command, TURNWISE_PING_URL=url
    )


@pytest.mark.parametrize(
    ("command", "status", "last"),
    [("true", 0, ("", "completed")), ("exit 3", 3, ("/fail", "attempt 1: exit:3"))],
)
def test_turnwise_run_pings_the_url_of_its_environment(
    switch: Switch, command: str, status: int, last: tuple[str, str]
) -> None:
    done = run_once(command, switch.url)
    assert done.returncode == status, done.stderr
    assert switch.wait_for(2) == [("/start", "attempt 1"), last]
    assert SECRET not in done.stderr


def test_turnwise_run_refuses_what_is_no_url() -> None:
    done = run_once("true", f"ftp://host/{SECRET}")
    assert done.returncode == 2
    assert "--ping-url: the URL for the pings of 'job' must be" in done.stderr
    assert SECRET not in done.stderr


# URLs ---------------------------------------------------------------------------------------------


def test_credentials_in_a_url_are_sent_and_follow_to_no_other_host(switch: Switch) -> None:
    other = Switch()

    def redirect(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", other.url)
        request.end_headers()

    switch.answer = redirect
    observer = Ping(f"http://ann:p%40ss@{switch.host}/{SECRET}")
    observer(STARTED)
    observer.close()
    assert switch.headers[0]["Authorization"] == "Basic YW5uOnBAc3M="
    assert switch.headers[0]["Host"] == switch.host
    eventually(lambda: other.heard, "it follows")
    assert other.headers[0]["Authorization"] is None
    other.close()


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://host/{SECRET}",
        f"/{SECRET}",
        f"http:///{SECRET}",
        f"http://host:port/{SECRET}",
        f"http://[::/{SECRET}",
        f"file:///{SECRET}",
        f"http://host/{SECRET}\nHeader: x",
        f"http://host/{SECRET} two",
        f"http://host/{SECRET}-\xe9",
        f"http://host/?{SECRET}-\xe9",
        "",
    ],
)
def test_what_is_no_url_of_the_web_is_refused_at_once_without_its_secret(url: str) -> None:
    with pytest.raises(ValueError, match=r"the URL for the pings of 'job' must be") as caught:
        Ping({"job": url})
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None or SECRET not in repr(caught.value.__context__)


@pytest.mark.parametrize("knobs", [{"timeout": 0}, {"last_words": -1}])
def test_a_duration_that_makes_no_sense_is_refused(knobs: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="timeout must be positive, and last_words 0 or more"):
        Ping("http://host/", **knobs)


def test_what_is_logged_does_not_move_the_cursor(
    switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    switch.answer = lambda request: answer(request, 404)
    observer = Ping(switch.url)
    observer(events.TurnStarted(**TURN | {"service": "a\x1b[2J"}, attempt=1, started_at=DUE))
    observer.close()
    assert "a\\x1b[2J: a ping to" in caplog.text
