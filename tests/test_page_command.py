"""``turnwise web``: served for real, ended by a signal, and what it says where it cannot be."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from live import eventually
from turnwise.cli import main
from turnwise.settings import Settings
from turnwise.storages import Beat, Offer
from turnwise.storages.opening import open_storage

GREETING = re.compile(r"http://(127\.0\.0\.1|0\.0\.0\.0):(\d+)/ shows group default, (.*); Ctrl-C")


@pytest.fixture
def url(tmp_path: Path) -> str:
    made = f"sqlite:///{tmp_path / 'turns.db'}"
    with closing(open_storage(made)) as storage:
        storage.heartbeat("default", Beat("alice", "boot", 1, 60_000_000))
        storage.offer(
            "default", Offer("alice", "boot", "nightly", Settings().to_json(), 60_000_000)
        )
    return made


@contextmanager
def served(url: str, *options: str) -> Iterator[tuple["subprocess.Popen[str]", int, str]]:
    """The command, the port that it listens at, and what it said at first."""
    process = subprocess.Popen(
        [sys.executable, "-m", "turnwise.cli", "web", "--port", "0", *options],
        env=os.environ | {"TURNWISE_STORAGE": url, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        greeting = GREETING.match(said)
        assert greeting, said
        port = int(greeting[2])
        eventually(lambda: ask(port)[0] == 200, "it answers")
        yield process, port, greeting[3]
    finally:
        process.kill()
        process.communicate()


def ask(
    port: int, path: str = "/", method: str = "GET", body: str = "", **headers: str
) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        try:
            connection.request(
                method, path, body, {k.replace("_", "-"): v for k, v in headers.items()}
            )
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except ConnectionError:
            return 0, ""


FORM = "application/x-www-form-urlencoded"


def test_it_is_served_read_only_on_this_machine_alone_until_a_signal(url: str) -> None:
    with served(url) as (process, port, said):
        assert said == "read-only"
        assert "nightly" in ask(port)[1]
        assert ask(port, "/healthz")[1].startswith("OK: nightly: ")
        assert ask(port, Host="evil.example")[0] == 421
        origin = f"http://127.0.0.1:{port}"
        answer = ask(port, "/pause", "POST", "name=nightly", Origin=origin, Content_Type=FORM)
        assert answer[0] == 404
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_with_control_it_takes_commands_of_its_own_pages(url: str) -> None:
    options = ("--allow-control", "--host", "0.0.0.0", "--allowed-host", "jobs.example.com")  # noqa: S104
    with served(url, *options) as (process, port, said):
        assert said == "with control"
        form = {"Content_Type": FORM, "Origin": "http://jobs.example.com"}
        host = {"Host": "jobs.example.com"}
        assert ask(port, "/pause", "POST", "name=nightly", **form)[0] == 403
        assert ask(port, "/pause", "POST", "name=nightly", **form, **host)[0] == 303
        assert "Paused" in ask(port, **host)[1]
        process.terminate()
        _, complaint = process.communicate(timeout=20)
        assert "can read it, and pause and trigger services: it has no login" in complaint


def test_a_port_that_is_taken_and_one_that_is_none_are_said_in_a_line(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["web", "--storage", url, "--port", port]) == 2
        said = f"nothing can listen at 127.0.0.1, port {port}: Address already in use"
        assert said in capsys.readouterr().err
    assert main(["web", "--storage", url, "--port", "65536"]) == 2
    assert "--port must be 0 to 65,535, got 65536" in capsys.readouterr().err
    assert main(["web", "--storage", url, "--host", "no.such.host.invalid"]) == 2
    assert "nothing can listen at no.such.host.invalid" in capsys.readouterr().err
    assert main(["web", "--storage", url, "--host", "no..host"]) == 2
    assert "nothing can listen at no..host" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["web", "--storage", url]) == 2
    assert "pip install 'turnwise[web]'" in capsys.readouterr().err
