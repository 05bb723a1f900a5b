"""The page mounted in a program with a login of its own: the example of the docs, asked."""

import importlib.util
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
from starlette.testclient import TestClient

from live import eventually

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "page_app.py"
FORM = {"name": "tidy_up", "reason": "the disk is full"}


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setenv("TURNWISE_STORAGE", f"sqlite:///{tmp_path / 'turns.db'}")
    spec = importlib.util.spec_from_file_location("page_app", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with closing(module.storage):
        yield module


def as_user(user: str) -> dict[str, str]:
    return {"X-Forwarded-User": user, "Origin": "http://testserver"}


def shows(asked: TestClient, path: str, text: str) -> None:
    """Wait until the page has a text: it answers with what it knew where the storage is slow."""
    carol = as_user("carol")
    eventually(lambda: text in asked.get(path, headers=carol).text, f"{path} shows {text}")


def test_the_program_says_who_may_read_and_who_may_command(example: ModuleType) -> None:
    with TestClient(example.app) as asked:
        assert asked.get("/jobs/").status_code == 401
        assert asked.get("/jobs/", headers=as_user("carol")).status_code == 200
        shows(asked, "/jobs/", 'href="/jobs/service?name=tidy_up"')
        assert asked.post("/jobs/pause", data=FORM, headers=as_user("carol")).status_code == 403
        done = asked.post("/jobs/pause", data=FORM, headers=as_user("anna"))
        assert done.url.path == "/jobs/service"
        assert "by anna: the disk is full" in done.text
        assert asked.get("/jobs/healthz", headers=as_user("probe")).status_code == 200


def test_the_report_is_one_persons_alone(example: ModuleType) -> None:
    with TestClient(example.app) as asked:
        report = {"name": "report"}
        assert asked.post("/jobs/trigger", data=report, headers=as_user("bert")).status_code == 403
        allowed = asked.post("/jobs/trigger", data=report, headers=as_user("anna"))
        assert allowed.status_code == 404, "she may, but there is none yet"
