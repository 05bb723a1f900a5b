"""The page, asked as a program asks it: what it shows, what it refuses, and what it escapes."""

import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unicodedata import category
from urllib.parse import urlencode

import anyio.lowlevel
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from opened import STORAGES
from page_world import HOSTILE, HOSTILE_REASON, RUNNERS, copied, page_world
from turnwise.conformance import ManualClock
from turnwise.controls import Controls
from turnwise.errors import StorageError
from turnwise.gate import Command as Told
from turnwise.storages import Storage
from turnwise.storages.memory import MemoryStorage
from turnwise.testing import VirtualScheduler
from turnwise.texts import gate_from_text, row_from_text
from turnwise.turn import Turn
from turnwise.web import Command, CommandName, create_app, local_names

OURS = {"Origin": "http://testserver"}
SERVICE = "nightly"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, too, a page is what it is when it is read fast enough."""
    monkeypatch.setattr("turnwise.web.app._PROMPT_SECONDS", 20.0)


@pytest.fixture(scope="module")
def virtual() -> Iterator[VirtualScheduler]:
    made = page_world()
    yield made
    made.close()


@pytest.fixture(params=["memory", "sqlite-file"])
def storage(
    request: pytest.FixtureRequest, virtual: VirtualScheduler, tmp_path: Path
) -> Iterator[Storage]:
    """The world of page_world, as each storage gives it back."""
    clock = ManualClock()
    clock.step(-clock())
    made = STORAGES[request.param](clock, tmp_path)
    copied(virtual, made, clock)
    yield made
    made.close()


@pytest.fixture
def small() -> Iterator[VirtualScheduler]:
    """One service, due every five minutes, with two runners, ten minutes after their start."""
    made = VirtualScheduler("alice", "bob")

    async def job(turn: Turn) -> None:
        turn.check()

    made.add(job, "every 5m", name=SERVICE)
    made.advance("10m")
    yield made
    made.close()


def client(storage: Storage, **knobs: Any) -> TestClient:
    return TestClient(create_app(storage, **knobs), follow_redirects=False)


def controlled(storage: Storage, **knobs: Any) -> TestClient:
    return client(storage, allow_control=True, hosts=["testserver"], **knobs)


def page_of(name: str, **query: object) -> str:
    return f"/service?{urlencode({'name': name, **query}, doseq=True)}"


class Text(HTMLParser):
    """What a reader of the page sees: text, tags and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @property
    def flat(self) -> str:
        return " ".join(" ".join(self.words).split())


def text_of(answer: Any) -> str:
    return Text(answer.text).flat


# What is shown ------------------------------------------------------------------------------------


def test_all_services_are_shown_with_schedule_state_next_due_and_last_success(
    storage: Storage,
) -> None:
    answer = client(storage).get("/")
    assert answer.status_code == 200
    said = text_of(answer)
    assert "outbox-relay every 5 minutes Running" in said
    assert "runs since 12:10:00; heard of 12s ago" in said
    assert "every day at 03:00, Europe/Vienna" in said
    assert "2026-01-06 02:00:00 in 13h49m 03:00:00 +01:00 Europe/Vienna" in said
    assert "expire-sessions every hour Paused since 08:30:00 by anna@ops" in said
    assert "last success 12:00:04 10m8s ago" in said
    assert "4 runners alive" in said
    assert "warning rebuild-search-index settings differ: worker-7.example.com-12-c3d4" in said
    assert "as of 2026-01-05 12:10:12" in said


def test_a_strip_says_the_verdicts_of_the_last_periods(storage: Storage) -> None:
    labels = [
        str(attributes["aria-label"])
        for tag, attributes in Text(client(storage).get("/").text).tags
        if tag == "svg" and attributes.get("class") == "strip"
    ]
    assert "last 24 periods: 16 served, 8 missed" in labels
    assert "last 6 periods: 2 served, 3 paused, 1 open" in labels
    assert labels.count("no period is known") == 1, "nobody has planned the nightly report yet"


def test_a_service_shows_turns_verdicts_history_and_settings(storage: Storage) -> None:
    answer = client(storage).get(page_of("send-reminders", span="6h"))
    said = text_of(answer)
    assert "24 periods due: 16 served, 8 missed" in said
    assert "8 missed: all attempts failed" in said
    assert "2026-01-05 11:45:00 missed all attempts failed; 2 attempts, the last: exc" in said
    assert "16 abandoned, 16 completed, 8 by a standby" in said
    assert re.search(r"11:46:40 late 1m40s took 4s web-\S+ abandoned exception:Conn\S+ att", said)
    assert "attempts 2" in said
    lanes = [tag for tag in Text(answer.text).tags if tag[1].get("class") == "abandoned"]
    assert len(lanes) == 17, "a bar for each failed run, and one in the legend"


def test_a_service_shows_who_offers_other_settings(storage: Storage) -> None:
    said = text_of(client(storage).get(page_of("rebuild-search-index")))
    assert "differs worker-7.example.com-12-c3d4 attempts: 5, not 3; timeout: None, not 8m" in said
    assert "trigger the index was found to be empty" in said


def test_the_history_is_narrowed_by_kind(storage: Storage) -> None:
    page = client(storage)
    narrowed = text_of(page.get(page_of("rebuild-search-index", span="6h", status=["command"])))
    history = narrowed[narrowed.index("Start Late") : narrowed.index("Settings differs")]
    assert "anna@ops trigger" in history
    assert "completed" not in history
    both = text_of(page.get(page_of("rebuild-search-index", status=["command", "blocked"])))
    assert "blocked late_start" in both
    none = text_of(page.get(page_of("rebuild-search-index", status=["abandoned"])))
    assert "No such rows in this time." in none


def test_runners_are_shown_with_what_they_work_on_and_who_is_gone_is_counted(
    storage: Storage,
) -> None:
    page = client(storage)
    said = text_of(page.get("/runners"))
    assert "4 alive 1 gone, show them" in said
    assert re.search(rf"{RUNNERS[0]} Alive since 06:00:00 heard of 12s ago works on outbox", said)
    assert RUNNERS[1] not in said
    every = text_of(page.get("/runners?all=yes"))
    assert f"{RUNNERS[1]} Silent" in every


def test_what_is_asked_for_that_is_not_there_is_a_page_that_says_so(storage: Storage) -> None:
    page = client(storage)
    assert page.get("/nothing").status_code == 404
    answer = page.get(page_of("<b>no</b>"))
    assert answer.status_code == 404
    assert "There is no service '<b>no</b>'." in text_of(answer)
    assert page.get("/static/page.py").status_code == 404
    assert page.get(page_of("outbox-relay", span="<x>", status="<y>", live="?")).status_code == 200


def test_a_group_without_a_service_says_how_one_comes_here() -> None:
    said = text_of(client(MemoryStorage(), group="other").get("/"))
    assert "No service was ever started in this group" in said
    assert "0 services 0 runners alive" in said
    assert "No runner is known." in text_of(client(MemoryStorage()).get("/runners"))


def test_the_part_that_lives_is_answered_alone_to_a_page_that_asks_for_what_is_new(
    storage: Storage,
) -> None:
    page = client(storage)
    whole, part = page.get("/"), page.get("/", headers={"HX-Request": "true"})
    assert part.text.strip() in whole.text
    assert "<html" not in part.text
    assert part.headers["Vary"] == whole.headers["Vary"] == "HX-Request"


def test_updating_can_be_stopped() -> None:
    page = client(MemoryStorage(), refresh_seconds=5)
    assert 'hx-trigger="every 5s"' in page.get("/").text
    still = page.get("/runners?live=off&all=yes").text
    assert "hx-get" not in still
    assert '<a class="with-script" href="/runners?all=yes">Update it live</a>' in still


def test_settings_of_another_version_are_said_not_to_be_known(small: VirtualScheduler) -> None:
    from turnwise.storages import Beat, Offer  # noqa: PLC0415

    small.storage.heartbeat("default", Beat("new", "boot", 1, 60_000_000))
    small.storage.offer("default", Offer("new", "boot", "later", '{"knob": 1}', 60_000_000))
    page = client(small.storage)
    assert "later not known Not known" in text_of(page.get("/"))
    said = text_of(page.get(page_of("later")))
    assert "Its settings are not known, so its turns cannot be drawn." in said


# Hostile names and reasons ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/runners", page_of(HOSTILE), "/healthz", "/runners?all=yes"]
)
def test_hostile_names_and_reasons_are_shown_and_never_run(storage: Storage, path: str) -> None:
    answer = controlled(storage).get(path)
    assert answer.status_code == 200
    strange = [each for each in answer.text if each != "\n" and category(each)[0] == "C"]
    assert not strange, "controls, and what changes the direction, are shown as escapes"
    if path == "/healthz":
        return
    seen = Text(answer.text)
    assert HOSTILE.partition("\u202e")[0] in seen.flat or path == "/runners?all=yes"
    tags = {tag for tag, _ in seen.tags}
    assert "img" not in tags
    assert [attributes.get("src") for tag, attributes in seen.tags if tag == "script"] in (
        [],
        [_src(seen, "htmx"), _src(seen, "page.js")],
    )
    named = {name for _, attributes in seen.tags for name in attributes}
    assert not {name for name in named if name.startswith("on") or name == "style"}
    if path == page_of(HOSTILE):
        assert HOSTILE_REASON.partition("\x1b")[0] in seen.flat


def _src(seen: Text, name: str) -> str | None:
    return next(
        (each["src"] for tag, each in seen.tags if tag == "script" and name in str(each["src"])),
        None,
    )


def test_a_link_to_a_hostile_name_leads_to_its_page(storage: Storage) -> None:
    page = client(storage)
    links = [attributes["href"] for tag, attributes in Text(page.get("/").text).tags if tag == "a"]
    (link,) = {each for each in links if each is not None and "evil" in each}
    assert f"<h1><bdi>{HOSTILE[:1].replace('<', '&lt;')}" in page.get(link).text


def test_no_template_switches_the_escaping_off() -> None:
    folder = Path(create_app.__globals__["__file__"]).parent / "templates"
    templates = list(folder.glob("*.html"))
    assert len(templates) >= 8
    for template in templates:
        assert not re.search(r"\|\s*safe|autoescape|[mM]arkup", template.read_text()), template


# Headers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/runners", page_of("outbox-relay"), "/healthz", "/nothing", "/static/page.css"]
)
def test_every_answer_has_the_headers_that_keep_others_out(storage: Storage, path: str) -> None:
    headers = client(storage).get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    if not path.startswith("/static"):
        assert headers["Cache-Control"] == "no-store"


def test_a_fault_of_our_own_is_answered_without_its_words_and_with_the_headers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("turnwise.web.app.services_page", broken)
    page = TestClient(create_app(MemoryStorage()), raise_server_exceptions=False)
    answer = page.get("/")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Content-Security-Policy" in answer.headers


def test_nothing_comes_from_elsewhere_and_files_are_kept_for_ever_by_their_content() -> None:
    page = client(MemoryStorage())
    tags = Text(page.get("/").text).tags
    files = [a.get("src") or a.get("href") for tag, a in tags if tag in ("script", "link")]
    assert len(files) == 4
    for file in files:
        assert file is not None
        assert file.startswith("/static/")
        answer = page.get(file)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["Cache-Control"]
        assert page.get(file.partition("?")[0]).headers["Cache-Control"] == "no-cache"
    assert "http" not in "".join(re.findall(r"url\((.*?)\)", page.get("/static/page.css").text))


# Commands -----------------------------------------------------------------------------------------


def told(storage: Storage) -> list[Told]:
    """What the history and the gate say was done to the service."""
    rows = [row_from_text(each.body) for each in storage.history("default", SERVICE)]
    return [row for row in rows if isinstance(row, Told) and row.name.value != "settings"]


def is_paused(storage: Storage) -> bool:
    record = storage.read("default", [SERVICE]).services[SERVICE].gate
    assert record is not None
    return gate_from_text(record.body).pause is not None


def test_a_viewer_may_pause_resume_and_trigger_with_a_reason(small: VirtualScheduler) -> None:
    page = controlled(small.storage)
    form = {"name": SERVICE, "reason": "the disk is full", "until": "2h"}
    answer = page.post("/pause", data=form, headers=OURS)
    assert (answer.status_code, answer.headers["Location"]) == (
        303,
        f"/service?name={SERVICE}&told=paused",
    )
    after = text_of(page.get(answer.headers["Location"]))
    assert "It is paused: no run starts." in after
    assert "Paused until 02:10:00 since 00:10:00 by testclient, by the page: the disk" in after
    answer = page.post("/resume", data={"name": SERVICE}, headers=OURS)
    assert answer.headers["Location"].endswith("told=resumed")
    assert "It is resumed." in text_of(page.get(answer.headers["Location"]))
    again = page.post("/resume", data={"name": SERVICE}, headers=OURS)
    assert again.headers["Location"].endswith("told=not-paused")
    page.post("/trigger", data={"name": SERVICE, "reason": "once"}, headers=OURS)
    small.advance("4m")
    assert small.runs(SERVICE)[-1].due == small.runs(SERVICE)[-2].due, "it ran, though not due"
    # All at one instant, as time stands still here.
    done = sorted((row.name.value, row.by, row.reason) for row in told(small.storage))
    who = "testclient, by the page"
    assert done == [
        ("pause", who, "the disk is full"),
        ("resume", who, ""),
        ("trigger", who, "once"),
    ]


def test_a_viewer_may_drain_a_runner_and_let_it_run_again(small: VirtualScheduler) -> None:
    page = controlled(small.storage)
    answer = page.post("/drain", data={"name": "alice"}, headers=OURS)
    assert answer.headers["Location"] == "/runners?told=drained"
    assert "alice Drained" in text_of(page.get("/runners"))
    page.post("/undrain", data={"name": "alice"}, headers=OURS)
    assert "alice Alive" in text_of(page.get("/runners"))


@pytest.mark.parametrize("path", [f"/{name}" for name in CommandName])
def test_nothing_is_changed_without_control_nor_by_get(small: VirtualScheduler, path: str) -> None:
    name = "alice" if "drain" in path else SERVICE
    readonly = client(small.storage)
    assert readonly.post(path, data={"name": name}, headers=OURS).status_code == 404
    assert '<form method="post"' not in readonly.get(page_of(SERVICE)).text
    assert '<form method="post"' not in readonly.get("/runners").text
    page = controlled(small.storage)
    for answer in (page.get(path, params={"name": name}), page.head(path), page.put(path)):
        assert answer.status_code == 405
    assert told(small.storage) == []
    assert not any(row.drained for row in small.storage.runners("default"))


FOREIGN: list[dict[str, str]] = [
    {},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://testserver.evil.example"},
    {"Origin": "http://testserver:8080"},
    {"Origin": "https://testserver:80"},
    {"Origin": "http://testserver@evil.example"},
    {"Origin": "http://evil.example/#http://testserver"},
    {"Origin": "file://testserver"},
    {"Origin": "http://testserver:port"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_command_from_another_page_is_refused(
    small: VirtualScheduler, headers: dict[str, str]
) -> None:
    answer = controlled(small.storage).post("/pause", data={"name": SERVICE}, headers=headers)
    assert answer.status_code == 403
    assert "This was not done" in text_of(answer)
    assert not is_paused(small.storage)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://testserver"},
        {"Origin": "http://testserver:80"},
        {"Origin": "HTTP://TESTSERVER"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://testserver"},
        {"Host": "testserver:8321", "Origin": "http://testserver:8321"},
    ],
    ids=str,
)
def test_a_command_from_the_page_itself_is_carried_out(
    small: VirtualScheduler, headers: dict[str, str]
) -> None:
    answer = controlled(small.storage).post("/pause", data={"name": SERVICE}, headers=headers)
    assert answer.status_code == 303
    assert is_paused(small.storage)


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"reason": "no name"}, 400),
        ({"name": "other"}, 404),
        ({"name": "a\nb"}, 400),
        ({"name": SERVICE, "until": "soon"}, 400),
        ({"name": SERVICE, "until": "-5m"}, 400),
        ({"name": SERVICE, "until": "0s"}, 400),
        ({"name": SERVICE, "until": "2000-01-01"}, 400),
        ({"name": SERVICE, "until": "9999-12-31T23:59:59-23:00"}, 400),
        ({"name": SERVICE, "until": "400000d"}, 400),
        ({"name": SERVICE, "reason": "x" * 20_000}, 413),
    ],
)
def test_a_form_that_cannot_be_carried_out_is_refused_in_words(
    small: VirtualScheduler, form: dict[str, str], status: int
) -> None:
    answer = controlled(small.storage).post("/pause", data=form, headers=OURS)
    assert answer.status_code == status
    assert not is_paused(small.storage)


def test_a_command_comes_as_a_form_and_as_text() -> None:
    page = controlled(MemoryStorage())
    assert page.post("/pause", json={"name": "a"}, headers=OURS).status_code == 415
    form = {"Content-Type": "application/x-www-form-urlencoded", **OURS}
    assert page.post("/pause", content=b"name=%ff", headers=form).status_code == 400
    assert page.post("/pause", content=b"name=\xff", headers=form).status_code == 400


def test_a_pause_ends_at_an_instant_in_utc(small: VirtualScheduler) -> None:
    form = {"name": SERVICE, "until": "2026-01-01T03:00+01:00"}
    controlled(small.storage).post("/pause", data=form, headers=OURS)
    said = text_of(client(small.storage).get(page_of(SERVICE)))
    assert "Paused until 02:00:00" in said


# The mounting program's own authorization ---------------------------------------------------------


def test_the_mounting_program_says_who_gives_a_command_and_who_may_not(
    small: VirtualScheduler,
) -> None:
    asked: list[Command] = []

    def authorize(request: Request, command: Command) -> str | None:
        assert threading.current_thread() is not threading.main_thread()
        asked.append(command)
        return request.headers.get("x-user")

    page = client(small.storage, allow_control=True, authorize=authorize)
    form = {"name": SERVICE, "reason": "why"}
    assert page.post("/pause", data=form, headers=OURS).status_code == 403
    assert not is_paused(small.storage)
    answer = page.post("/pause", data=form, headers={**OURS, "X-User": "anna"})
    assert answer.status_code == 303
    assert [row.by for row in told(small.storage)] == ["anna"]
    assert asked == [Command(CommandName.PAUSE, SERVICE, "why")] * 2


def test_authorization_may_be_a_coroutine(small: VirtualScheduler) -> None:
    async def authorize(request: Request, command: Command) -> str | None:
        await anyio.lowlevel.checkpoint()
        return "anna" if command.name is CommandName.TRIGGER and request.method == "POST" else None

    page = client(small.storage, allow_control=True, authorize=authorize)
    assert page.post("/pause", data={"name": SERVICE}, headers=OURS).status_code == 403
    assert page.post("/trigger", data={"name": SERVICE}, headers=OURS).status_code == 303


def test_authorization_is_not_asked_about_a_command_from_another_page() -> None:
    def authorize(request: Request, command: Command) -> str | None:
        raise AssertionError(request, command)

    page = client(MemoryStorage(), allow_control=True, authorize=authorize)
    assert page.post("/pause", data={"name": "a"}).status_code == 403


def test_an_answer_that_is_neither_text_nor_none_refuses(small: VirtualScheduler) -> None:
    app = create_app(small.storage, allow_control=True, authorize=lambda *_: True)  # type: ignore[arg-type]
    page = TestClient(app, raise_server_exceptions=False)
    assert page.post("/pause", data={"name": SERVICE}, headers=OURS).status_code == 500
    assert not is_paused(small.storage)


# Hosts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "is_answered"),
    [
        ("localhost", True),
        ("LOCALHOST:8321", True),
        ("localhost.", True),
        ("127.0.0.1:8321", True),
        ("[::1]:8321", True),
        ("10.1.2.3", True),
        ("jobs.example.com", True),
        ("evil.example", False),
        ("jobs.example.com.evil.example", False),
        ("localhost@evil.example", False),
        ("evil.example/localhost", False),
        ("127.0.0.1.evil.example", False),
        ("localhost:port", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_a_name_that_is_not_ours_is_not_answered(host: str, *, is_answered: bool) -> None:
    app = create_app(MemoryStorage(), hosts=local_names("jobs.example.com"))
    for path in ("/", "/static/page.css", "/healthz"):
        status = TestClient(app).get(path, headers={"Host": host}).status_code
        assert (status != 421) == is_answered


def test_with_control_and_no_authorization_only_this_machine_is_answered_for() -> None:
    app = create_app(MemoryStorage(), allow_control=True)
    assert TestClient(app).get("/", headers={"Host": "evil.example"}).status_code == 421
    assert TestClient(app).get("/", headers={"Host": "localhost:1"}).status_code == 200


# Mounted ------------------------------------------------------------------------------------------


def _fastapi(app: ASGIApp) -> ASGIApp:
    outer = FastAPI()
    outer.mount("/ops/jobs", app)
    return outer


def _starlette(app: ASGIApp) -> ASGIApp:
    return Starlette(routes=[Mount("/ops", routes=[Mount("/jobs", app=app)])])


def _by_a_proxy(app: ASGIApp) -> ASGIApp:
    """As a server with --root-path hands it on, whose proxy has not taken the prefix away."""

    async def prefixed(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "root_path": "/ops/jobs"}, receive, send)

    return prefixed


@pytest.mark.parametrize("mounted", [_fastapi, _starlette, _by_a_proxy])
def test_it_works_below_any_prefix(small: VirtualScheduler, mounted: Any) -> None:
    app = create_app(small.storage, allow_control=True, hosts=["testserver"])
    page = TestClient(mounted(app), follow_redirects=True)
    for path in ("/ops/jobs/", f"/ops/jobs{page_of(SERVICE)}", "/ops/jobs/runners"):
        answer = page.get(path)
        assert answer.status_code == 200
        for _, attributes in Text(answer.text).tags:
            for name in ("href", "src", "action", "hx-get"):
                address = attributes.get(name)
                assert address is None or address.startswith(("/ops/jobs/", "#")), address
                if name in ("href", "src", "hx-get") and address and address != "#main":
                    assert page.get(address).status_code == 200, address
    answer = page.post("/ops/jobs/pause", data={"name": SERVICE}, headers=OURS)
    assert answer.url.path == "/ops/jobs/service"
    assert is_paused(small.storage)


def test_two_groups_are_mounted_beside_each_other(small: VirtualScheduler) -> None:
    outer = FastAPI()
    outer.mount("/a", create_app(small.storage))
    outer.mount("/b", create_app(small.storage, group="other"))
    page = TestClient(outer)
    assert "1 service " in text_of(page.get("/a/"))
    assert "0 services" in text_of(page.get("/b/"))


# Health, and a storage that is away ---------------------------------------------------------------


def test_a_probe_is_told_what_check_says(small: VirtualScheduler) -> None:
    page = client(small.storage)
    answer = page.get("/healthz")
    assert answer.status_code == 200
    assert answer.text.startswith(f"OK: {SERVICE}: last success ")
    unknown = page.get("/healthz?service=other")
    assert (unknown.status_code, unknown.text.partition(":")[0]) == (503, "UNKNOWN")
    small.kill("alice")
    small.kill("bob")
    small.advance("20m")
    answer = client(small.storage).get(f"/healthz?service={SERVICE}")
    assert answer.status_code == 503
    assert answer.text.startswith(f"CRITICAL: {SERVICE}: nobody is alive to run it; ")


def test_a_probe_is_not_failed_by_a_warning(storage: Storage) -> None:
    answer = client(storage).get("/healthz")
    assert answer.status_code == 200
    assert answer.text.startswith("WARNING: rebuild-search-index: settings differ: worker-7")


class Away:
    """A storage that does not answer."""

    def __getattr__(self, name: str) -> Any:
        def fails(*_: object, **__: object) -> None:
            raise StorageError(f"{name}: connection refused <b>")

        return fails


def test_a_storage_that_is_away_is_said_to_viewers_and_probes() -> None:
    page = controlled(Away())
    for path in ("/", "/runners", page_of("a")):
        answer = page.get(path)
        assert answer.status_code == 503
        assert "The storage does not answer: services: connection refused <b>" in text_of(answer)
    probe = page.get("/healthz")
    assert (probe.status_code, probe.text.partition(":")[0]) == (503, "CRITICAL")
    answer = page.post("/pause", data={"name": "a"}, headers=OURS)
    assert answer.status_code == 503


def test_a_storage_that_hangs_holds_up_neither_the_loop_nor_a_probe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("turnwise.web.app._PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr("turnwise.web.app._PROBE_PATIENCE_SECONDS", 0.2)
    release = threading.Event()

    class Hangs:
        def __getattr__(self, name: str) -> Any:
            return lambda *_: release.wait(20) and None

    with TestClient(create_app(Hangs())) as page:
        try:
            assert page.get("/static/page.css").status_code == 200
            assert page.get("/healthz").status_code == 503
        finally:
            release.set()


# What is wrong with the arguments -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"group": ""}, "group must have 1 to 255 characters"),
        ({"authorize": lambda *_: "a"}, "authorize is asked about commands, and allow_control is"),
        ({"refresh_seconds": 0.1}, "refresh_seconds must be from 0.5 to 3600, got 0.1"),
    ],
)
def test_wrong_arguments_are_refused_by_name(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        create_app(MemoryStorage(), **knobs)


def test_a_group_that_is_warmed_has_been_read_before_the_first_request(
    small: VirtualScheduler,
) -> None:
    reads: list[str] = []

    class Counted:
        def __getattr__(self, name: str) -> Any:
            reads.append(name)
            return getattr(small.storage, name)

    with TestClient(create_app(Counted(), warm=True)) as page:
        assert "offers" in reads
        reads.clear()
        page.get("/")
        page.get("/")
        assert reads == [], "for a second many viewers cost no more than one"


def test_what_another_process_has_carried_out_is_seen_by_who_is_led_here(
    small: VirtualScheduler,
) -> None:
    one, other = controlled(small.storage), controlled(small.storage)
    assert "Waiting" in text_of(other.get(page_of(SERVICE)))
    answer = one.post("/pause", data={"name": SERVICE}, headers=OURS)
    assert "Paused" in text_of(other.get(answer.headers["Location"]))


def test_a_change_is_seen_at_once(small: VirtualScheduler) -> None:
    page = controlled(small.storage)
    assert "Waiting" in text_of(page.get("/"))
    page.post("/pause", data={"name": SERVICE}, headers=OURS)
    assert "Paused" in text_of(page.get("/"))
    Controls(small.storage).resume(SERVICE)
    assert "Paused" in text_of(page.get("/")), "what others do is seen within a second"
