"""``turnwise schedule``: when a schedule is due, with the odd days marked."""

import json

import pytest

from turnwise.cli import main

MARCH = ("--from", "2026-03-28", "--until", "3d")


@pytest.fixture(autouse=True)
def _eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnwise.cli.output.console.width", 80, raising=False)


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["schedule", *arguments])
    said = capsys.readouterr()
    assert all(len(line) <= 80 for line in said.out.splitlines())
    return status, said.out, said.err


def test_it_lists_each_due_instant_in_utc_and_on_the_wall(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out, _ = ask(capsys, "cron 30 2 * * * Europe/Vienna", *MARCH)
    assert status == 0
    lines = [line.split() for line in out.splitlines()[3:]]
    assert [line[:2] for line in lines] == [
        ["2026-03-28", "01:30:00"],
        ["2026-03-29", "01:00:00"],
        ["2026-03-30", "00:30:00"],
    ]
    assert lines[1] == [
        *("2026-03-29", "01:00:00", "2026-03-29", "03:00:00", "+0200", "Sun", "clock", "+1h")
    ]


def test_an_hour_that_comes_twice_is_marked_too(capsys: pytest.CaptureFixture[str]) -> None:
    window = ("--from", "2026-10-25", "--until", "2026-10-26")
    _, out, _ = ask(capsys, "cron */30 2 * * * Europe/Vienna", *window, "--json")
    told = json.loads(out)
    assert [each["utc"][11:16] for each in told["dues"]] == ["00:00", "00:30", "01:00", "01:30"]
    assert {each["odd"] for each in told["dues"]} == {"clock -1h"}
    assert told["zone"] == "Europe/Vienna"


def test_an_interval_has_no_wall_and_no_odd_days(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = ask(capsys, "every 12h offset 1h", *MARCH)
    assert out.splitlines()[2].split() == ["UTC", "day"]
    assert len(out.splitlines()) == 3 + 6
    assert "clock" not in out


def test_without_an_end_the_first_ten_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = ask(capsys, "cron 0 0 29 2 * UTC", "--from", "2026-01-01", "--json")
    dues = [each["utc"][:4] for each in json.loads(out)["dues"]]
    assert dues[:3] == ["2028", "2032", "2036"]
    assert len(dues) == 10


def test_two_schedules_that_agree_have_exit_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = ask(
        capsys, "cron 0 3 * * * UTC", "--until", "365d", "--compare", "every 1d offset 3h"
    )
    assert status == 0
    assert "365 due instants are the same, 0 are not" in out


def test_differences_are_shown_and_have_exit_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    compared = ("--compare", "cron 0 2 * * * UTC")
    status, out, _ = ask(capsys, "cron 0 3 * * * Europe/Vienna", *MARCH, *compared)
    assert status == 1
    assert "1 due instants are the same, 4 are not" in out
    assert out.count("first alone") == out.count("other alone") == 2
    _, out, _ = ask(capsys, "cron 0 3 * * * Europe/Vienna", *MARCH, *compared, "--json")
    told = json.loads(out)
    assert told["differences"] == 4
    assert told["dues"][0]["due_by"] == "both"


def test_a_staggered_schedule_is_shown_on_its_own_wall(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = ask(capsys, "cron 0 3 * * * Europe/Vienna staggered 12s", *MARCH)
    assert "2026-03-28 03:00:12 +0100" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["every 1x"], "'1x' is no duration"),
        (["cron 0 3 * *"], "expression must have 5 fields"),
        (["cron 0 3 * * * Mars/Base"], "Mars/Base"),
        (["every 1d", "--until", "2020-01-01"], "--until must be after --from"),
        (["every 1s", "--until", "30d"], "is due more than 100,000 times"),
        (["every 1d", "--from", "tomorrow"], "'tomorrow' is no instant"),
        (["every 1d", "--compare", "never"], "'never'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    status, out, err = ask(capsys, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err
