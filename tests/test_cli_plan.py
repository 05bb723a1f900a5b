"""``turnwise plan``: what a newcomer reads, and what a script can rely on."""

import json
import re
from pathlib import Path

import pytest

from turnwise.cli import main

BAR = re.compile(r"^[#.\-]{72}$", re.MULTILINE)


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of ``turnwise plan``."""
    status = main(["plan", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnwise.cli.output.console.width", 80, raising=False)


def rows(text: str) -> list[list[str]]:
    """The table of slots: its cells, row by row."""
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line[:1].isdigit()]


def test_it_shows_primary_and_standbys_and_names_who_sleeps(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out, _ = plan(capsys, "--runners", "5")
    assert status == 0
    table = [row for row in rows(out) if len(row) == 7]
    assert table == [
        ["1", "runner 1", "primary", "0s", "40s", "1m20s", "1m40s"],
        ["2", "runner 2", "standby", "1m40s", "2m20s", "3m", "3m20s"],
        ["3", "runner 3", "standby", "3m20s", "4m", "4m40s", "5m"],
    ]
    assert "runner 4, runner 5 sleep through this cycle" in out


def test_the_bar_is_the_cycle_in_proportion(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = plan(capsys, "--runners", "3")
    (bar,) = BAR.findall(out)
    # Slots of 100 s, 80 s of them open, the first 40 s to starts: a character is 300 s / 72.
    assert bar == ("#" * 10 + "-" * 9 + "." * 5) * 3


def test_a_lone_runner_has_the_whole_cycle_without_guard_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, out, _ = plan(capsys, "--runners", "1")
    (bar,) = BAR.findall(out)
    assert bar == "#" * 36 + "-" * 36
    assert "no other is left" in out


def test_it_fits_80_columns_and_no_line_ends_with_blanks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for count in ("1", "3", "50", "999999"):
        _, out, _ = plan(capsys, "--runners", count, "--longest-run", "40s", "--clock-skew", "1s")
        assert max(map(len, out.splitlines())) <= 80
        assert not any(line.endswith(" ") for line in out.splitlines())


def test_an_error_among_the_findings_is_exit_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = plan(capsys, "--runners", "20", "--every-slot", "--margin", "20s")
    assert status == 1
    assert "nobody ever starts" in " ".join(out.split())
    status, out, _ = plan(capsys, "--runners", "14", "--every-slot", "--margin", "20s")
    assert status == 0


def test_a_run_as_long_as_the_interval_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = plan(capsys, "--runners", "3", "--longest-run", "5m")
    assert status == 1
    assert "error:" in out


RUNNERS = [
    {"id": "old", "creation_time": "2026-01-01T00:00:00Z", "last_heartbeat": 1767268799},
    {"runner_id": "older", "creation_time": 1767000000.5, "last_heartbeat": 1767268790},
    {"id": "new", "creation_time": "2026-01-01T13:00:11+01:00", "last_heartbeat": 1767268805},
    {"id": "mute", "creation_time": 1767000000, "last_heartbeat": 1767268000},
    {"id": "barred", "creation_time": 1, "last_heartbeat": 1767268805, "may_run": False},
]


def test_a_file_of_runners_shows_the_stable_set_and_why_the_others_are_outside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "runners.json"
    file.write_text(json.dumps(RUNNERS))
    status, out, _ = plan(capsys, "--runners", str(file), "--at", "2026-01-01T12:00:10Z")
    assert status == 0
    assert "\n2 runners, cycles of 5m" in out
    assert {row[1] for row in rows(out) if len(row) == 7} == {"old", "older"}
    assert "does not count: new: it joins later" in out
    assert "does not count: mute: it is dead" in out
    assert "does not count: barred: it may not run" in out


@pytest.mark.parametrize("at", ["1970-01-01T00:00:00Z", "2199-12-31T23:59:59Z"])
@pytest.mark.parametrize("every", ["5m", "3653d"])
def test_a_cycle_can_be_planned_at_either_end_of_the_years_that_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], at: str, every: str
) -> None:
    file = tmp_path / "runners.json"
    old = "0001-01-01T00:00:00Z"
    file.write_text(json.dumps([{"id": "a", "creation_time": old, "last_heartbeat": at}]))
    status, out, _ = plan(capsys, "--runners", str(file), "--at", at, "--every", every)
    assert status == 0
    assert "\n1 runner, cycles of 5m" in out


def test_a_file_without_a_stable_runner_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "runners.json"
    file.write_text("[]")
    status, out, _ = plan(capsys, "--runners", str(file))
    assert status == 1
    assert "nobody ever starts" in out


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{}", "got a dict"),
        ("[1]", "runner 1: must be one of a list of objects"),
        ("nonsense", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ('[{"id": 7}]', "id must be text, got 7"),
        ("[{}]", "id must have 1 to 255 characters, got 0"),
        ('[{"id": "a"}]', "creation_time must be an ISO instant"),
        ('[{"id": "a", "creation_time": "2026-01-01"}]', "with an offset"),
        ('[{"id": "a", "creation_time": true}]', "creation_time must be an ISO instant"),
        ('[{"id": "a", "creation_time": 1e300}]', "creation_time must be an ISO instant"),
        ('[{"id": "a", "creation_time": 1, "last_heartbeat": NaN}]', "last_heartbeat must be"),
        ('[{"id": "a", "may_run": 1}]', "may_run must be true or false, got 1"),
        (json.dumps([RUNNERS[0], RUNNERS[0]]), "lists a runner twice: old"),
        (json.dumps([RUNNERS[0] | {"id": "half \ud800"}]), "Unicode text without control char"),
        (json.dumps([RUNNERS[0] | {"id": "a\nb\x1b[31m"}]), "got 'a\\nb\\x1b[31m'"),
    ],
)
def test_a_bad_file_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, says: str
) -> None:
    file = tmp_path / "runners.json"
    file.write_text(content)
    status, out, err = plan(capsys, "--runners", str(file))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--runners", "0"], "--runners must be 1 to 999,999, or a file, got 0"),
        (["--runners", "-3"], "got -3"),
        (["--runners", "10000000"], "got 10000000"),
        (["--runners", "missing.json"], "No such file"),
        (["--runners", "/dev"], "Is a directory"),
        (["--runners", "3", "--margin", "5m"], "--margin (5m) must be shorter than a slot"),
        (["--runners", "3", "--every", "0s"], "--every must be from 1us"),
        (["--runners", "3", "--every", "20s", "--heartbeat-timeout", "21s"], "at most"),
        (["--runners", "3", "--max-start-fraction", "nan"], "--max-start-fraction must be over 0"),
        (["--runners", "3", "--clock-skew", "1x"], "is no duration"),
        (["--runners", "3", "--at", "noon"], "is no instant"),
        (["--runners", "3", "--service", ""], "must have 1 to 255 characters, got 0"),
        (["--runners", "3", "--at", "0001-01-01T00:00:00Z"], "must be from 1970 to 2199"),
        (["--runners", "3", "--at", "2200-01-01T00:00:00Z"], "must be from 1970 to 2199"),
        (["--runners", "3", "--at", "1970-01-01T00:00:00+00:01"], "must be from 1970 to 2199"),
        (["every 1x", "--runners", "3"], "is no duration"),
        (["every 1m", "--runners", "3", "--cron", "* * * * *"], "do not go together"),
        (["cron 0 3 * * *", "--runners", "3", "--every-slot"], "--every-slot goes with"),
        ([], "Missing option '--runners'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    status, out, err = plan(capsys, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("turnwise: ")
    assert says in err


def test_names_in_a_file_are_text_and_no_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "runners.json"
    file.write_text(json.dumps([RUNNERS[0] | {"id": "[red]x[/nope]"}]))
    status, out, _ = plan(capsys, "--runners", str(file), "--at", "2026-01-01T12:00:10Z")
    assert status == 0
    assert "[red]x[/nope]" in out


@pytest.mark.parametrize("microseconds", [5, 10, 50, 72, 1000])
def test_the_bar_of_the_shortest_cycles_lies_within_them(
    capsys: pytest.CaptureFixture[str], microseconds: int
) -> None:
    status, out, _ = plan(capsys, "--runners", "3", "--every", f"{microseconds}us")
    assert status == 0
    assert any(len(line) == 72 and not line.strip("#-.") for line in out.splitlines())


VIENNA = "cron 0 3 * * * Europe/Vienna"


def test_a_schedule_is_an_argument_or_options_and_means_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    at = ("--at", "2026-03-27T12:00:00Z")
    _, said, _ = plan(capsys, VIENNA, "--runners", "6", *at)
    options = ("--cron", "0 3 * * *", "--timezone", "Europe/Vienna")
    assert plan(capsys, *options, "--runners", "6", *at)[1] == said
    assert plan(capsys, "--schedule", VIENNA, "--runners", "6", *at)[1] == said
    assert "2026-03-28 02:00:00  Sat 2026-03-28 03:00:00 +0100" in said
    assert "2026-03-29 01:00:00  Sun 2026-03-29 03:00:00 +0200  clock +1h" in said
    assert max(map(len, said.splitlines())) <= 80


def test_a_due_instant_that_is_now_is_the_next_one(capsys: pytest.CaptureFixture[str]) -> None:
    at = ("--at", "2026-01-01T12:00:00Z", "--json")
    told = json.loads(plan(capsys, "every 5m", "--runners", "2", *at)[1])
    assert told["next_dues"][:2] == ["2026-01-01T12:00:00+00:00", "2026-01-01T12:05:00+00:00"]


def test_json_has_the_slots_the_figures_and_the_findings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    at = ("--at", "2026-01-01T12:00:01Z", "--json")
    status, out, _ = plan(capsys, "every 5m", "--runners", "4", *at)
    assert status == 0
    told = json.loads(out)
    assert told["schedule"] == "every 5m"
    assert [slot["role"] for slot in told["slots"]] == ["primary", "standby", "standby"]
    assert told["slots"][1]["start"] == "2026-01-01T12:06:40+00:00"
    assert told["slots"][1]["start_by"] == "2026-01-01T12:07:20+00:00"
    assert told["sleeping"] == ["runner 4"]
    assert told["review"]["runners"] == 4
    assert {"level", "meaning", "change"} == set(told["review"]["findings"][0])
