"""The page is answered before the storage has answered, and what is old says so."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from starlette.testclient import TestClient

from turnwise.controls import Controls
from turnwise.errors import StorageError
from turnwise.testing import VirtualScheduler
from turnwise.turn import Turn
from turnwise.web import create_app
from turnwise.web.kept import Kept

SERVICE = "nightly"
OURS = {"Origin": "http://testserver"}
PART = {"HX-Request": "true"}
OLD, BEING_READ = "Not as it is now", "The group is being read"
PATHS = ("/", "/runners", f"/service?name={SERVICE}")


class Held:
    """A storage that does not answer while it is held, and then may fail."""

    def __init__(self, storage: Any, clock: "Clock") -> None:
        self._storage, self._clock = storage, clock
        self.asked, self._go_on = threading.Event(), threading.Event()
        self.takes, self.fails = 0.0, False
        self._go_on.set()

    def hold(self) -> None:
        self.asked.clear()
        self._go_on.clear()

    def release(self, *, fails: bool = False) -> None:
        self.fails = fails
        self._go_on.set()

    def read(self, *given: Any) -> Any:
        self.asked.set()
        assert self._go_on.wait(20)
        if self.fails:
            raise StorageError("connection refused")
        self._clock.now += self.takes
        return self._storage.read(*given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


class Clock:
    """Seconds by which the page tells how old something is."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for room in ("app", "reading"):
        monkeypatch.setattr(f"turnwise.web.{room}.Kept", partial(Kept, clock=made))
    return made


@pytest.fixture
def held(clock: Clock) -> Iterator[Held]:
    virtual = VirtualScheduler("alice", "bob")

    async def job(turn: Turn) -> None:
        turn.check()

    virtual.add(job, "every 5m", name=SERVICE)
    virtual.advance("10m")
    made = Held(virtual.storage, clock)
    yield made
    made.release()
    virtual.close()


@pytest.fixture
def page(held: Held) -> Iterator[TestClient]:
    app = create_app(held, allow_control=True, hosts=["testserver"])
    with TestClient(app, follow_redirects=False) as client:
        yield client


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a storage answers at once is waited for, however busy the machine is."""
    monkeypatch.setattr("turnwise.web.app._PROMPT_SECONDS", 20.0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is not asked to wait does not wait at all."""
    monkeypatch.setattr("turnwise.web.app._PROMPT_SECONDS", 0.0)


@pytest.fixture
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


def seen_while_held(page: TestClient, held: Held, path: str) -> Any:
    """What is answered while the storage does not answer."""
    held.hold()
    answer = page.get(path)
    assert held.asked.wait(10), "it is read in the background"
    return answer


# Nothing is known yet -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_the_very_first_request_is_answered_before_the_storage_has_answered(
    page: TestClient, held: Held, path: str
) -> None:
    answer = seen_while_held(page, held, path)
    assert answer.status_code == 200
    assert BEING_READ in answer.text
    assert 'hx-trigger="load, every 2s"' in answer.text, "it asks for what is read"
    assert "as-of" not in answer.text


@pytest.mark.usefixtures("impatient")
def test_the_page_that_says_so_leads_to_the_one_that_is_waited_for(
    page: TestClient, held: Held, elsewhere: ThreadPoolExecutor
) -> None:
    said = seen_while_held(page, held, f"/service?name={SERVICE}&span=1h&live=off")
    address = f"/service?name={SERVICE}&span=1h&live=off&wait=yes".replace("&", "&amp;")
    assert f'<noscript><meta http-equiv="refresh" content="1; url={address}">' in said.text
    waited: Future[Any] = elsewhere.submit(page.get, address.replace("&amp;", "&"))
    held.release()
    answer = waited.result(20)
    assert "as-of" in answer.text
    assert BEING_READ not in answer.text
    assert OLD not in answer.text


@pytest.mark.usefixtures("impatient")
def test_a_storage_that_fails_late_is_said_to_who_waits(
    page: TestClient, held: Held, elsewhere: ThreadPoolExecutor
) -> None:
    assert BEING_READ in seen_while_held(page, held, "/").text
    waited: Future[Any] = elsewhere.submit(page.get, "/?wait=yes")
    held.release(fails=True)
    answer = waited.result(20)
    assert answer.status_code == 503
    assert "The storage does not answer: connection refused" in answer.text


@pytest.mark.usefixtures("impatient")
def test_that_a_service_is_not_there_is_said_to_who_waits(
    page: TestClient, held: Held, elsewhere: ThreadPoolExecutor
) -> None:
    assert BEING_READ in seen_while_held(page, held, "/service?name=nobody").text
    waited: Future[Any] = elsewhere.submit(page.get, "/service?name=nobody&wait=yes")
    held.release()
    assert waited.result(20).status_code == 404


@pytest.mark.usefixtures("impatient")
def test_a_thousand_pages_of_a_storage_that_hangs_do_not_take_a_thousand_threads(
    page: TestClient, held: Held
) -> None:
    held.hold()
    before = threading.active_count()
    for number in range(100):
        assert BEING_READ in page.get(f"/service?name={number}").text
    assert threading.active_count() <= before + 8


# After a pause ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_after_a_pause_what_was_known_is_shown_before_the_storage_has_answered_and_said_to_be_old(
    page: TestClient, held: Held, clock: Clock, path: str
) -> None:
    known = page.get(f"{path}{'&' if '?' in path else '?'}wait=yes")
    part = known.text.partition('<div class="title">')[2].partition("</main>")[0].strip()
    as_of = part.partition("as of <time>")[2].partition("</time>")[0]
    clock.now += 16
    answer = seen_while_held(page, held, path)
    assert f"<strong>{OLD}:</strong> as of {as_of} UTC, 16s ago." in answer.text
    assert part in answer.text
    assert 'hx-trigger="load, every 2s"' in answer.text, "it is brought up to date at once"
    assert '<noscript><meta http-equiv="refresh"' in answer.text, "and so without JavaScript"


@pytest.mark.usefixtures("patient")
def test_where_the_storage_answers_at_once_nothing_old_is_shown_after_a_pause(
    page: TestClient, held: Held, clock: Clock
) -> None:
    assert OLD not in page.get("/").text
    clock.now += 16
    Controls(held).pause(SERVICE)
    answer = page.get("/")
    assert OLD not in answer.text
    assert "Paused" in answer.text


@pytest.mark.usefixtures("patient")
def test_what_took_long_the_last_time_is_not_waited_for(
    page: TestClient, held: Held, clock: Clock
) -> None:
    held.takes = 21
    page.get("/?wait=yes")
    clock.now += 16
    assert OLD in seen_while_held(page, held, "/").text, "though twenty seconds are waited for"


@pytest.mark.usefixtures("patient")
def test_a_page_that_is_not_to_be_updated_is_brought_up_to_date_once_where_it_is_old(
    page: TestClient, held: Held, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "hx-trigger" not in page.get("/?live=off").text
    clock.now += 16
    monkeypatch.setattr("turnwise.web.app._PROMPT_SECONDS", 0.0)
    answer = seen_while_held(page, held, "/?live=off")
    assert OLD in answer.text
    assert 'hx-trigger="load"' in answer.text


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("given", [{"headers": PART}, {"params": {"wait": "yes"}}])
def test_who_asks_for_what_is_new_waits_for_it_and_is_never_shown_what_is_old(
    page: TestClient, held: Held, clock: Clock, elsewhere: ThreadPoolExecutor, given: Any
) -> None:
    page.get("/?wait=yes")
    clock.now += 16
    held.hold()
    Controls(held._storage).pause(SERVICE)
    waited: Future[Any] = elsewhere.submit(page.get, "/", **given)
    assert held.asked.wait(10)
    held.release()
    answer = waited.result(20)
    assert OLD not in answer.text
    assert "Paused" in answer.text


@pytest.mark.usefixtures("patient")
def test_what_is_older_than_an_hour_is_not_shown(
    page: TestClient, held: Held, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.get("/")
    monkeypatch.setattr("turnwise.web.app._PROMPT_SECONDS", 0.0)
    clock.now += 3599
    assert "59m59s ago" in seen_while_held(page, held, "/").text
    clock.now += 2
    answer = page.get("/")
    assert OLD not in answer.text
    assert BEING_READ in answer.text


@pytest.mark.usefixtures("patient")
def test_after_a_command_nothing_is_shown_that_was_read_before_it(
    page: TestClient,
    held: Held,
    clock: Clock,
    elsewhere: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page.get(f"/service?name={SERVICE}")
    told = page.post("/pause", data={"name": SERVICE}, headers=OURS)
    assert told.status_code == 303
    monkeypatch.setattr("turnwise.web.app._PROMPT_SECONDS", 0.0)
    clock.now += 16
    answer = seen_while_held(page, held, f"/service?name={SERVICE}")
    assert OLD not in answer.text
    assert BEING_READ in answer.text
    waited: Future[Any] = elsewhere.submit(page.get, told.headers["Location"])
    held.release()
    answer = waited.result(20)
    assert BEING_READ not in answer.text
    assert "is-paused" in answer.text


# A probe ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
def test_a_probe_is_told_what_is_so_where_a_page_of_a_large_group_shows_what_was(
    page: TestClient, held: Held, clock: Clock
) -> None:
    held.takes = 0.5  # so that a page is as good as new for five seconds
    page.get("/")
    assert page.get("/healthz").text.startswith("OK: ")
    for runner_id in ("alice", "bob"):
        held.forget_runner("default", runner_id)
    clock.now += 1
    assert "2</b> runners alive" in page.get("/").text
    answer = page.get("/healthz")
    assert (answer.status_code, answer.text.partition(":")[0]) == (503, "CRITICAL")
    assert "nobody is alive to run it" in answer.text


def test_a_probe_does_not_answer_before_the_storage_has_answered(
    page: TestClient, held: Held, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert page.get("/healthz").status_code == 200
    monkeypatch.setattr("turnwise.web.app._PROBE_PATIENCE_SECONDS", 0.05)
    clock.now += 1
    answer = seen_while_held(page, held, "/healthz")
    assert answer.status_code == 503
    assert "no answer within 0.05 seconds" in answer.text


# A program that forks -----------------------------------------------------------------------------

_FORKS = """
import os, sys, threading
from starlette.testclient import TestClient
from turnwise.storages.memory import MemoryStorage
from turnwise.web import create_app

class OpenedByItsUser:
    # A storage belongs to one process: this one is opened in the process that asks it.
    opened = None
    def __getattr__(self, name):
        self.opened = self.opened or MemoryStorage()
        return getattr(self.opened, name)

page = TestClient(create_app(OpenedByItsUser()))
assert threading.active_count() == 1, threading.enumerate()
child = os.fork()
answer = page.get("/?wait=yes")
assert "No service was ever started" in answer.text, answer.text
if child == 0:
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_page_that_was_made_before_a_fork_works_on_both_sides_of_it() -> None:
    subprocess.run([sys.executable, "-c", _FORKS], check=True, timeout=60)
