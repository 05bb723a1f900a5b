"""``turnwise simulate``: what it prints, and when it exits with what."""

import json

import pytest

from sabotage import NoGate
from turnwise.cli import main
from turnwise.simulation.laboratory import Laboratory, Parts


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of ``turnwise simulate``, for a tenth of a day."""
    status = main(["simulate", "--days", "0.1", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


CRASHES = ("--runners", "3", "--crash-every", "20m", "--seed", "2")


def test_it_shows_what_came_of_it_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, *CRASHES)
    assert (status, err) == (0, "")
    assert "3 runners for 2h24m, seed 2" in out
    for row in ("cycles missed", "between two turns", "5m, one dead: 6m40s", "fault: crash"):
        assert row in out
    assert "abandoned owner_dead" in out
    assert "nothing that may never happen has happened" in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_wide_result_fits_80_columns_too(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(
        capsys, "--runners", "9", "--crash-every", "10m", "--job", "2m", "--job-spread",
        "heavy-tail", "--pause-every", "10m", "--pause-lasts", "3m", "--outage-every", "1h",
        "--deploy-every", "1h", "--fail-every", "1h", "--latency", "50ms",
    )  # fmt: skip
    assert max(map(len, out.splitlines())) <= 80
    for fault in ("pause", "outage", "deploy", "failure"):
        assert f"fault: {fault}" in out


def test_json_is_the_result_and_the_same_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, *CRASHES, "--json")
    assert status == 0
    read = json.loads(out)
    assert read["cycles"] == read["cycles_served"] + read["cycles_missed"]
    assert sum(read["turns_of_runner"].values()) == read["turns"]
    assert run(capsys, *CRASHES, "--json")[1] == out
    assert run(capsys, *CRASHES[:-1], "3", "--json")[1] != out


def test_a_violated_invariant_is_named_and_exit_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Parts(backend=NoGate)
    monkeypatch.setattr(
        "turnwise.simulation._Laboratory", lambda scenario: Laboratory(scenario, parts)
    )
    status, out, _ = run(capsys, "--runners", "3", "--job", "2m")
    assert status == 1
    assert "violated: 2026-" in out


def test_slots_alone_let_long_runs_overlap_and_say_that_they_promise_less(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ("--runners", "3", "--clock", "local", "--clock-skew", "1s")
    _, out, _ = run(capsys, *arguments, "--job", "30s")
    assert "while another was at work  0 " in out
    assert "each by its own clock, without a gate" in out
    assert "slots alone promise less: what overlapped is counted, and no violation" in out
    assert "per cycle" not in out
    assert "cycles served" not in out
    _, out, _ = run(capsys, *arguments, "--job", "99s", "--json")
    assert json.loads(out)["overlaps"] == 0, "runs start at their slot's start here"
    _, out, _ = run(capsys, *arguments, "--job", "105s", "--json")
    assert json.loads(out)["overlaps"] > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--runners", "0"], "--runners must be 1 to 10000, got 0"),
        (["--runners", "x"], "--runners"),
        (["--runners", "3", "--days", "0"], "--days must be over 0 and at most 3653, got 0"),
        (["--runners", "3", "--days", "nan"], "--days must be over 0"),
        (["--runners", "3", "--interval", "3d"], "--days must be one interval (3d) or more"),
        (["--runners", "3", "--margin", "5m"], "--margin (5m) must be shorter than a slot"),
        (["--runners", "3", "--job", "1x"], "is no duration"),
        (["--runners", "3", "--crash-every", "0"], "--crash-every must be positive, got 0s"),
        (["--runners", "3", "--crash-every", "3654d"], "must be at most 3653d, got 3654d"),
        (["--runners", "3", "--deploy-every", "999999999d"], "at most 3653d, got 999999999d"),
        (["--runners", "3", "--latency", "3653d1s"], "must be at most 3653d, got 3653d1s"),
        (["--runners", "3", "--fail-every", "0"], "--fail-every must be positive, got 0s"),
        (["--runners", "3", "--clock", "mine"], "--clock"),
        ([], "Missing option '--runners'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    status, out, err = run(capsys, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("turnwise: ")
    assert says in err
