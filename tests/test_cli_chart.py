"""``turnwise chart``: a file of each kind, what fits into it, and what is refused."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from looked import Looked, looked
from turnwise.cli import main

SVC = ("chart", "--service", "svc")


@pytest.fixture
def world(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Looked]:
    """Three runners that have taken turns for half an hour."""
    with looked(capsys, monkeypatch) as made:
        made.serve()
        made.advance("30m10s")
        yield made


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf", "html", "txt"])
def test_it_draws_what_the_storage_kept(world: Looked, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"turns.{suffix}"
    status, out, err = world.ask(*SVC, "-o", str(path))
    assert (status, err) == (0, "")
    assert out.replace("\n", "") == f"{path}: 5 completed, 1 running"
    assert path.stat().st_size > 100


def head(path: Path) -> str:
    return path.read_text().splitlines()[0]


def test_without_last_the_window_fits_the_history(world: Looked, tmp_path: Path) -> None:
    path = tmp_path / "turns.txt"
    world.ask(*SVC, "-o", str(path))
    assert head(path) == "svc: 2026-01-01 12:05:00 to 2026-01-01 12:30:10 UTC"
    world.advance("1m")
    world.virtual.close()
    world.advance("30d")
    world.ask(*SVC, "-o", str(path))
    # It does not reach to a now at which nothing has run for a month.
    assert head(path) == "svc: 2026-01-01 12:05:00 to 2026-01-01 12:33:14 UTC"


def test_last_and_until_say_what_is_shown(world: Looked, tmp_path: Path) -> None:
    path = tmp_path / "turns.txt"
    status, _, _ = world.ask(
        *SVC, "-o", str(path), "--last", "10m", "--until", "2026-01-01T12:21:00Z"
    )
    assert status == 0
    assert head(path) == "svc: 2026-01-01 12:11:00 to 2026-01-01 12:21:00 UTC"
    shown = re.findall(
        r"^(\d\d:\d\d):\d\d .* (?:completed|running)", path.read_text(), re.MULTILINE
    )
    assert shown == ["12:15", "12:20"]


def test_a_run_that_reaches_into_the_window_is_drawn(world: Looked, tmp_path: Path) -> None:
    path = tmp_path / "turns.txt"
    world.ask(*SVC, "-o", str(path), "--last", "1m", "--until", "2026-01-01T12:21:20Z")
    assert "12:20:00" in path.read_text()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-o", "{}/turns.gif"], "ends with one of .svg"),
        (["-o", "{}/none/turns.svg"], "there is no folder"),
        (["-o", "{}/" + "x" * 300 + ".svg"], "File name too long"),
        (["-o", "{}/turns.svg", "--last", "0s"], "--last must be positive"),
        (["-o", "{}/turns.svg", "--until", "2025-01-01"], "no execution"),
        (["-o", "{}/turns.svg", "--last", "1s", "--until", "2026-01-01T12:09:00Z"], "no execution"),
        (["-o", "{}/turns.svg", "--group", "other"], "has no service"),
        ([], "Missing option '--output'"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2_and_leaves_no_file(
    world: Looked, tmp_path: Path, options: list[str], says: str
) -> None:
    status, out, err = world.ask(*SVC, *(option.format(tmp_path) for option in options))
    assert (status, out, len(err.strip().splitlines())) == (2, "", 1)
    assert says in err
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_one_line_says_what_to_install(
    world: Looked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("turnwise.chart")]:
        monkeypatch.delitem(sys.modules, name)
    status, _, err = world.ask(*SVC, "-o", str(tmp_path / "turns.svg"))
    assert status == 2
    assert "pip install 'turnwise[chart]'" in err


# Of a plan, and of a simulation -------------------------------------------------------------------


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
    options = ["--runners", "2", "--days", "0.1", "--json", "--chart", str(path)]
    assert main(["simulate", *options]) == 0
    assert capsys.readouterr().out.strip().endswith("}")
    assert path.exists()
