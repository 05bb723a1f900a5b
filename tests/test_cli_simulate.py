"""``turnwise simulate``: what it prints, and when it exits with what."""

import json
import re
from dataclasses import replace

import pytest

from turnwise.cli import main
from turnwise.simulation import Result, Scenario, Violation, simulate


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnwise.cli.output.console.width", 80, raising=False)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of ``turnwise simulate``, for a tenth of a day."""
    status = main(["simulate", "--days", "0.1", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


CRASHES = ("--runners", "3", "--crash-every", "20m", "--seed", "1")


def test_it_shows_what_came_of_it_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, *CRASHES)
    assert (status, err) == (0, "")
    assert "3 runners for 2h24m, seed 1" in out
    for row in ("periods missed", "between two runs", "5m, one dead: 6m40s", "fault: crash"):
        assert row in out
    assert "abandoned owner_dead" in out
    assert "nothing that may never happen has happened" in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_wide_result_fits_80_columns_too_and_no_line_ends_with_blanks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, out, _ = run(
        capsys, "--runners", "9", "--crash-every", "10m", "--job", "2m", "--job-spread",
        "heavy-tail", "--suspend-every", "10m", "--suspend-lasts", "3m", "--outage-every", "1h",
        "--deploy-every", "1h", "--fail-every", "1h", "--latency", "50ms",
    )  # fmt: skip
    assert max(map(len, out.splitlines())) <= 80
    assert not any(line.endswith(" ") for line in out.splitlines())
    for fault in ("suspend", "outage", "deploy", "failure"):
        assert f"fault: {fault}" in out


def test_json_is_the_result_and_the_same_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, *CRASHES, "--json")
    assert status == 0
    read = json.loads(out)
    assert read["periods"] == read["periods_served"] + read["periods_missed"]
    assert sum(read["turns_of_runner"].values()) == read["turns"]
    assert run(capsys, *CRASHES, "--json")[1] == out
    assert run(capsys, *CRASHES[:-1], "3", "--json")[1] != out


def test_a_violated_invariant_is_named_and_exit_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(scenario: Scenario, **_: object) -> Result:
        said = (Violation(scenario.start, "two runs are open"),)
        return replace(simulate(scenario), violation_count=1, violations=said)

    monkeypatch.setattr("turnwise.cli.simulate.play", broken)
    status, out, _ = run(capsys, "--runners", "3")
    assert status == 1
    assert "violated: " in out
    assert "two runs are open" in out
    assert "nothing that may never happen" not in out


def test_faults_that_fell_together_are_named_where_it_took_longer_than_one_may_cost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An outage of half an hour is one fault, and longer than what is promised of a death."""
    outage = ("--outage-every", "1h", "--outage-lasts", "20m", "--crash-every", "30m")
    status, out, _ = run(capsys, "--runners", "3", *outage, "--seed", "1")
    assert status == 0
    words = " ".join(out.split())
    assert "longer than one fault may cost: " in words
    assert "outage at " in words
    assert "more than without a fault; " in words
    told = json.loads(run(capsys, "--runners", "3", *outage, "--seed", "1", "--json")[1])
    longest = told["took_longer_than_one_fault"]
    assert [each["more_seconds"] for each in longest] == sorted(
        (each["more_seconds"] for each in longest), reverse=True
    )
    assert "outage" in {fault["kind"] for fault in longest[0]["faults"]}


def test_a_calm_simulation_names_no_coincidence(capsys: pytest.CaptureFixture[str]) -> None:
    assert "longer than one fault" not in run(capsys, "--runners", "3")[1]
    told = json.loads(run(capsys, "--runners", "3", "--json")[1])
    assert told["took_longer_than_one_fault"] == []


def test_a_nightly_job_is_simulated_by_its_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    night = ("cron 0 3 * * * Europe/Vienna", "--runners", "3", "--job", "20m", "--days", "5")
    status = main(["simulate", *night, "--kill-in-turn-every", "36h"])
    out = capsys.readouterr().out
    assert status == 0
    assert out.startswith("cron 0 3 * * * Europe/Vienna, 3 runners for 5d, seed 0")
    assert "fault: kill in turn" in out


def test_slots_alone_let_long_runs_overlap_and_say_that_they_promise_less(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ("--runners", "3", "--clock", "local", "--clock-skew", "1s")
    _, out, _ = run(capsys, *arguments, "--job", "30s")
    assert re.search(r"while another was at work +0\n", out)
    assert "each by its own clock, without a gate" in out
    assert "slots alone promise less: what overlapped is counted, and no violation" in out
    assert "in a period" not in out
    assert "periods served" not in out
    _, out, _ = run(capsys, *arguments, "--job", "99s", "--json")
    assert json.loads(out)["overlaps"] == 0, "runs start at their slot's start here"
    _, out, _ = run(capsys, *arguments, "--job", "105s", "--json")
    assert json.loads(out)["overlaps"] > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--runners", "0"], "--runners must be 1 to 10,000, got 0"),
        (["--runners", "x"], "--runners"),
        (["--runners", "3", "--days", "0"], "--days must be over 0 and at most 3,653, got 0"),
        (["--runners", "3", "--days", "nan"], "--days must be over 0"),
        (["--runners", "3", "--days", "0.001"], "--days must be one --cycle (5m) or more"),
        (["--runners", "3", "--margin", "5m"], "--margin (5m) must be shorter than a slot"),
        (["--runners", "3", "--job", "1x"], "is no duration"),
        (["--runners", "3", "--crash-every", "0"], "--crash-every must be positive, got 0s"),
        (["--runners", "3", "--crash-every", "3654d"], "3654d is too long: at most 3653d"),
        (["--runners", "3", "--deploy-every", "999999999d"], "999999999d is too long"),
        (["--runners", "3", "--latency", "3653d1s"], "3653d1s is too long"),
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
