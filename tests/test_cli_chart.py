"""``turnwise chart``, and ``--chart`` of ``plan`` and ``simulate``: files, and what is refused."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from turnwise.backends.sql import SqlBackend
from turnwise.cli import main
from turnwise.old_settings import Settings
from turnwise.old_turn import Turn
from turnwise.runner import Runner

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SETTINGS = Settings()
UNTIL = ("--until", "2026-01-01T13:00:00Z")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A storage in which two runners have taken turns for half an hour from noon on."""
    url = f"sqlite:///{tmp_path / 'turns.db'}"
    now = NOON - timedelta(minutes=5)
    backend = SqlBackend(url, clock=lambda: now)
    runners = [
        Runner(
            backend,
            "svc",
            runner_id=name,
            heartbeat_thread=False,
            settings=SETTINGS,
            monotonic=lambda: now.timestamp(),  # noqa: PLW0108 (now moves on)
        )
        for name in ("alice", "bob <b>")
    ]
    while now < NOON + timedelta(minutes=30):
        for runner in runners:
            turn = runner.begin()
            if isinstance(turn, Turn):
                now += timedelta(seconds=5)
                runner.finish(turn)
        now += timedelta(seconds=15)
    backend.close()
    return url


def chart(url: str, path: Path, *options: str) -> int:
    return main(["chart", "--backend", url, "--service", "svc", "-o", str(path), *options])


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf", "html", "txt"])
def test_it_draws_what_the_storage_kept(
    url: str, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"turns.{suffix}"
    assert chart(url, path, *UNTIL) == 0
    said = capsys.readouterr()
    assert said.out.replace("\n", "").startswith(str(path))
    assert "completed" in said.out
    assert said.err == ""
    assert path.stat().st_size > 100


def refused(capsys: pytest.CaptureFixture[str], status: int) -> str:
    said = capsys.readouterr()
    assert status == 2
    assert "Traceback" not in said.err
    assert len(said.err.strip().splitlines()) == 1, said.err
    return said.err


def test_bad_input_is_one_line_and_exit_status_2(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = set(tmp_path.iterdir())
    good = tmp_path / "turns.svg"
    assert "ends with one of .svg" in refused(capsys, chart(url, tmp_path / "turns.gif"))
    assert "there is no folder" in refused(capsys, chart(url, tmp_path / "none" / "turns.svg"))
    assert "File name too long" in refused(capsys, chart(url, tmp_path / f"{'x' * 300}.svg"))
    assert "--last must be positive" in refused(capsys, chart(url, good, "--last", "0s"))
    assert "has no execution" in refused(capsys, chart(url, good, "--last", "1s", *UNTIL))
    assert "no execution" in refused(capsys, chart(url, good, "--until", "2025-01-01T00:00:00Z"))
    assert "other" in refused(
        capsys, main(["chart", "--backend", url, "--service", "other", "-o", str(good)])
    )
    nowhere = f"sqlite:///{tmp_path / 'nowhere.db'}"
    assert "nowhere.db" in refused(capsys, chart(nowhere, good))
    assert set(tmp_path.iterdir()) <= files | {
        p for p in tmp_path.iterdir() if "turns.db" in p.name
    }


def test_without_the_extra_one_line_says_what_to_install(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("turnwise.chart")]:
        monkeypatch.delitem(sys.modules, name)
    assert "install turnwise[chart]" in refused(capsys, chart(url, tmp_path / "turns.svg"))


def test_a_folder_that_may_not_be_written_to_is_found_before_the_work(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = main(["plan", "--runners", "4", "--chart", "/proc/plan.svg"])
    said = capsys.readouterr()
    assert (status, said.out, said.err.count("\n")) == (2, "", 1)


def test_the_name_of_a_chart_may_be_as_long_as_a_name_may_be(tmp_path: Path) -> None:
    path = tmp_path / f"{'x' * 251}.txt"
    assert main(["plan", "--runners", "4", "--chart", str(path)]) == 0
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_plan_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.txt"
    assert main(["plan", "--runners", "4", "--chart", str(path)]) == 0
    assert "4 runners, 3 slots, no executions" in capsys.readouterr().out
    assert "runner 2: slot as standby" in path.read_text()


def test_a_simulation_is_drawn_around_its_longest_gap_which_need_not_be_in_its_last_hour(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "night.txt"
    options = ["--runners", "1", "--crash-every", "4h", "--crash-lasts", "30m", "--days", "1"]
    assert main(["simulate", *options, "--seed", "2", "--chart", str(path)]) == 0
    assert "longest gap" in capsys.readouterr().out
    assert "nobody starts for" in path.read_text()


def test_a_simulation_in_json_prints_json_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "night.svg"
    assert (
        main(["simulate", "--runners", "2", "--days", "0.1", "--json", "--chart", str(path)]) == 0
    )
    assert capsys.readouterr().out.strip().endswith("}")
    assert path.exists()
