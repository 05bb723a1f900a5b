"""``turnwise status``, ``explain``, ``history`` and ``check``: they look and change nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from looked import Looked, NotClosed, looked
from turnwise.cli import main
from turnwise.controls import Controls
from turnwise.cycles import SECOND, microseconds
from turnwise.errors import StorageError
from turnwise.overview.known import runs_of
from turnwise.settings import Settings
from turnwise.storages import Beat, Kind, Offer, Record
from turnwise.storages.memory import MemoryStorage
from turnwise.storages.sql import SqlStorage

SVC = ("--service", "svc")


@pytest.fixture
def world(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Looked]:
    with looked(capsys, monkeypatch) as made:
        yield made


@pytest.fixture
def serving(world: Looked) -> Looked:
    """Three runners at 12:05:10, of which bob runs since 12:05:00."""
    world.serve()
    world.advance("5m10s")
    return world


def flat(text: str) -> str:
    return " ".join(text.split())


def fits(text: str) -> bool:
    """Whether no line is longer than 80 columns, or ends with blanks that nobody sees."""
    return all(len(line) <= 80 and not line.endswith(" ") for line in text.splitlines())


def stray(world: Looked, runner_id: str, settings: str, *, timeout: int = 60) -> None:
    """A runner that another program started, with settings of its own."""
    storage = world.virtual.storage
    storage.heartbeat("default", Beat(runner_id, "boot", 1, timeout * SECOND))
    storage.offer("default", Offer(runner_id, "boot", "svc", settings, timeout * SECOND))


# status -------------------------------------------------------------------------------------------


def test_status_says_what_a_service_does_and_who_comes_next(serving: Looked) -> None:
    status, out, _ = serving.ask("status")
    assert status == 0
    words = flat(out)
    assert "service svc of group default at 2026-01-01 12:05:10 UTC" in words
    assert "schedule every 5m" in words
    assert "state bob runs since 12:05:00; heard of 10s ago" in words
    assert "next due 12:10:00, in 4m50s" in words
    assert "next in line carol [x] at 12:06:40, standby" in words
    assert "last success never, as far as is known" in words
    assert "bob yes 12:00:00 10s ago runs svc svc" in words
    assert "12:05:00 10s bob running" in words
    assert "runners: 3 alive" in out
    assert fits(out)


def test_status_says_when_a_service_last_ended_well(serving: Looked) -> None:
    serving.advance("1m")
    _, out, _ = serving.ask("status")
    assert "last success 12:05:40, 30s ago" in flat(out)
    assert "state waits" in flat(out)
    assert "next in line is planned shortly before 12:10:00" in flat(out)


def test_status_of_several_services_is_a_line_for_each(serving: Looked) -> None:
    serving.serve("nightly", "cron 0 3 * * * Europe/Vienna", timeout="1h")
    serving.advance("20s")
    _, out, _ = serving.ask("status")
    lines = out.splitlines()
    assert lines[0] == "group default at 2026-01-01 12:05:30 UTC"
    assert [line.split()[0] for line in lines[2:5]] == ["service", "nightly", "Europe/Vienna"] or (
        "nightly" in out and "cron 0 3 * * *" in flat(out)
    )
    assert "2026-01-02" in out, "it is due tomorrow, and says so"
    assert fits(out)
    _, one, _ = serving.ask("status", "--service", "nightly")
    assert "next due 2026-01-02 02:00:00, in 13h54m30s" in flat(one)


def test_a_stray_runner_does_not_falsify_what_is_said_of_the_others(serving: Looked) -> None:
    stray(serving, "stray", Settings(schedule="every 1h", attempts=7).to_json())  # type: ignore[arg-type]
    _, out, _ = serving.ask("status")
    words = flat(out)
    assert "schedule every 5m" in words
    assert "next due 12:10:00" in words
    assert "stray offers others (schedule: 'every 1h', not 'every 5m'; attempts: 7, not 3" in words
    assert words.count(" yes ") == 4


def test_settings_of_another_version_of_one_runner_are_said_and_change_nothing(
    serving: Looked,
) -> None:
    stray(serving, "newer", '{"knob": 1}')
    _, out, _ = serving.ask("status")
    assert "newer offers others (written by another version)" in flat(out)
    assert "schedule every 5m" in flat(out)


def test_who_has_left_is_counted_and_who_was_just_killed_is_listed(serving: Looked) -> None:
    serving.advance("1m")
    serving.virtual.stop("alice")
    serving.virtual.kill("bob")
    serving.advance("2m")
    _, out, _ = serving.ask("status")
    words = flat(out)
    assert "bob silent" in words
    assert "alice yes" not in words
    assert "runners: 1 alive, 1 gone, the last alice" in words
    serving.advance("11m")
    _, out, _ = serving.ask("status")
    assert "bob" not in out.partition("start ")[0].replace("the last bob", "")
    assert "2 gone" in out
    _, out, _ = serving.ask("status", "--all")
    assert "bob silent" in flat(out)
    assert "alice left" in flat(out)


def test_who_came_back_under_its_name_is_listed_once(serving: Looked) -> None:
    serving.virtual.kill("alice")
    serving.virtual.start("alice")
    serving.advance("70s")
    _, out, _ = serving.ask("status")
    assert out.count("alice") == 1 + out.count("the last alice")


def test_a_clock_that_stepped_back_makes_no_negative_age(serving: Looked) -> None:
    from datetime import timedelta  # noqa: PLC0415 (of this test alone)

    serving.virtual.step_clock(-timedelta(minutes=3))
    assert serving.virtual.storage.runners("default")[0].heard_at > microseconds(
        serving.virtual.now
    )
    for command in (["status"], ["explain", *SVC], ["history", *SVC], ["check"]):
        _, out, _ = serving.ask(*command)
        assert "-" not in out.replace("2026-01-01", "").replace("--", ""), command
    told = json.loads(serving.ask("status", "--json")[1])
    assert {runner["silent_seconds"] for runner in told["runners"]} == {0.0}


def test_thirty_runners_on_a_small_terminal_leave_room_for_what_matters(
    world: Looked, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(27):
        world.virtual.start(f"web-{number:02}")
    world.serve()
    world.advance("5m10s")
    console = "turnwise.cli.output.console"
    monkeypatch.setattr(f"{console}._force_terminal", True)
    monkeypatch.setattr(f"{console}.no_color", True)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(f"{console}._height", 24)
    monkeypatch.setattr(f"{console}._width", 80)
    _, out, _ = world.ask("status")
    lines = out.splitlines()
    assert len(lines) <= 24
    assert any("runs svc" in line for line in lines), "who is at work is among those shown"
    assert "30 alive" in out
    assert "--all shows all" in out


def test_long_names_and_reasons_break_no_table(world: Looked) -> None:
    world.serve("n" * 255)
    world.serve()
    stray(world, "r" * 255, Settings().to_json())
    world.advance("6m")
    Controls(world.virtual.storage, by="o" * 900).pause("svc", reason="why " * 200)
    for command in (["status"], ["status", *SVC], ["history", *SVC], ["audit"], ["explain", *SVC]):
        _, out, _ = world.ask(*command)
        assert fits(out), command


def test_what_moves_the_cursor_is_shown_by_its_numbers(serving: Looked) -> None:
    Controls(serving.virtual.storage, by="\x1b[2J").pause("svc", reason="a\u202eb [bold]c[/]")
    for command in (["status"], ["history", *SVC], ["explain", *SVC]):
        _, out, _ = serving.ask(*command)
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert "\\u202eb[bold]c[/]" in out.replace(" ", "").replace("\n", "")


def test_status_as_json_tells_the_same_to_a_script(serving: Looked) -> None:
    serving.advance("1m")
    _, out, _ = serving.ask("status", "--json")
    told = json.loads(out)
    (svc,) = told["services"]
    assert told["group"] == "default"
    assert svc["service"] == "svc"
    assert svc["schedule"] == "every 5m"
    assert svc["last_success"] == "2026-01-01T12:05:40+00:00"
    assert svc["next_due"] == "2026-01-01T12:10:00+00:00"
    assert svc["alive"] == ["alice", "bob", "carol [x]"]
    assert [run["runner_id"] for run in svc["executions"]] == ["bob"]
    assert [runner["alive"] for runner in told["runners"]] == [True] * 3
    assert all(runner["silent_seconds"] >= 0 for runner in told["runners"])


def test_status_of_a_pause_says_by_whom_and_why(serving: Looked) -> None:
    serving.advance("1m")
    Controls(serving.virtual.storage, by="ops").pause("svc", reason="the [database] moves")
    _, out, _ = serving.ask("status")
    assert "state paused since 12:06:10 by ops: the [database] moves" in flat(out)
    assert json.loads(serving.ask("status", "--json")[1])["services"][0]["paused"] is True


def test_status_shows_an_overdue_run(world: Looked) -> None:
    world.takes = 100_000.0
    world.serve(timeout="30s")
    world.advance("5m5s")
    known = world.ask("status", "--json")[1]
    assert json.loads(known)["services"][0]["overdue"] is False


def test_status_watch_shows_it_anew_until_interrupted(
    serving: Looked, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        serving.serve(f"later-{len(naps)}")
        serving.advance("1s")
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("turnwise.cli.status.time.sleep", nap)
    status, out, _ = serving.ask("status", "--watch")
    assert (status, len(naps)) == (0, 3)
    assert "later-2" in out, "a service that is started later is shown"


def test_a_record_of_another_version_is_said_and_the_others_are_shown(serving: Looked) -> None:
    serving.serve("newer")
    serving.advance("10s")
    storage = serving.virtual.storage
    kept = storage.read("default", ["newer"]).services["newer"].gate
    assert kept is not None
    assert storage.swap(
        "default", "newer", Kind.GATE, kept.version, Record("v", '{"knob": 1}')
    ).done
    _, out, _ = serving.ask("status")
    assert "cannot be read" in flat(out)
    assert "bob runs since" in flat(out)
    status, _, err = serving.ask("explain", "--service", "newer")
    assert (status, err.count("\n")) == (2, 1)


@pytest.mark.parametrize("command", ["status", "explain", "history", "audit"])
def test_an_unknown_service_is_one_line_and_status_2(serving: Looked, command: str) -> None:
    status, out, err = serving.ask(command, "--service", "svcs")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "group 'default' has no service 'svcs'; did you mean 'svc'?" in err


def test_a_group_without_services_says_which_groups_there_are(serving: Looked) -> None:
    status, out, _ = serving.ask("status", "--group", "other")
    assert status == 0
    assert flat(out) == (
        "group other: no service was ever started; there is the group default: see --group"
    )


def test_watch_and_json_do_not_go_together(serving: Looked) -> None:
    status, _, err = serving.ask("status", "--watch", "--json")
    assert status == 2
    assert "do not go together" in err


# explain ------------------------------------------------------------------------------------------


def explain(world: Looked, *arguments: str) -> str:
    status, out, err = world.ask("explain", *SVC, *arguments)
    assert (status, err) == (0, "")
    assert fits(out)
    return flat(out)


def test_explain_says_who_runs_and_when_the_next_in_line_could_start(serving: Looked) -> None:
    words = explain(serving)
    assert "plan: cycle 12:05:00 to 12:10:00, slots of bob, carol [x], alice" in words
    assert "gate: bob runs since 12:05:00; heard of 10s ago" in words
    assert "runner bob: running bob runs since 12:05:00" in words
    assert "its slot: 12:05:00 to 12:06:20, start by 12:05:40, primary" in words
    assert "runner carol [x]: not_assigned_slot its slot has not begun" in words
    assert "next turn: 12:06:40 UTC, as standby, if nobody serves before" in words


def test_explain_tells_a_standby_in_its_slot_what_is_in_its_way(serving: Looked) -> None:
    words = explain(serving, "--runner", "carol [x]", "--at", "2026-01-01T12:06:50Z")
    assert "runner carol [x]: prior_running it is its time, and the gate refuses: bob runs" in words


def test_explain_after_the_run_says_that_the_period_is_served(serving: Looked) -> None:
    serving.advance("1m")
    words = explain(serving, "--runner", "bob")
    assert "runner bob: already_served the period of 12:05:00 is served" in words
    # Two more are in turn before it.
    assert "next turn: 12:13:20 UTC, as standby" in words


def test_the_next_turn_that_explain_tells_is_the_one_that_comes(serving: Looked) -> None:
    serving.advance("1m")
    told = {}
    for name in ("alice", "bob", "carol [x]"):
        _, out, _ = serving.ask("explain", *SVC, "--runner", name, "--json")
        told[name] = json.loads(out)
    (primary,) = [name for name, each in told.items() if each["next_role"] == "primary"]
    assert told[primary]["next_turn"] == "2026-01-01T12:10:00+00:00"
    serving.advance("4m")
    assert serving.virtual.runs("svc")[-1].runner_id == primary


def test_explain_knows_who_sleeps_and_who_joined_too_late(world: Looked) -> None:
    world.virtual.start("dave")
    world.serve()
    world.advance("5m10s")
    world.virtual.start("eve")
    world.advance("2s")
    slots = json.loads(world.ask("explain", *SVC, "--json")[1])
    (sleeper,) = {"alice", "bob", "carol [x]", "dave"} - {each["runner_id"] for each in slots}
    assert f"runner {sleeper}: no_slot it sleeps through this cycle" in explain(
        world, "--runner", sleeper
    )
    assert "it joined when this cycle was planned already" in explain(world, "--runner", "eve")
    assert "without a slot: 1; --runner ID says why" in explain(world)


def test_explain_knows_who_is_dead_gone_or_drained(serving: Looked) -> None:
    serving.advance("1m")
    serving.virtual.kill("bob")
    serving.virtual.stop("alice")
    serving.advance("2m")
    assert "it is dead: silent for 2m10s" in explain(serving, "--runner", "bob")
    assert "next turn: not before it counts" in explain(serving, "--runner", "bob")
    assert "it left" in explain(serving, "--runner", "alice")
    Controls(serving.virtual.storage).drain("carol [x]")
    assert "it is drained" in explain(serving, "--runner", "carol [x]")


def test_explain_while_it_is_paused_says_so(serving: Looked) -> None:
    serving.advance("1m")
    Controls(serving.virtual.storage, by="ops").pause("svc", reason="db")
    serving.advance("4m")
    words = explain(serving)
    assert (
        ": paused it is its time, and the gate refuses: paused since 12:06:10 by ops: db" in words
    )
    assert "next turn: not before it is resumed" in words


@pytest.mark.parametrize("start_within", [None, "30s"])
def test_explain_says_who_may_start_what_is_triggered_though_the_period_is_served(
    world: Looked, start_within: str | None
) -> None:
    """How long after its due instant a run may start concerns the period, and no trigger."""
    world.serve(start_within=start_within)
    world.advance("6m10s")
    carol = ("--runner", "carol [x]", "--at", "2026-01-01T12:06:50Z")
    assert "it may start now" not in explain(world, *carol)
    Controls(world.virtual.storage, by="ops").trigger("svc")
    words = explain(world, *carol)
    assert "runner carol [x]: assigned it may start now" in words
    assert "next turn: now, as standby" in words
    world.advance("1m")
    run = runs_of(world.virtual.storage, "default", "svc")[-1]
    assert (run.trigger is not None, run.runner_id) == (True, "carol [x]")


def test_explain_without_a_plan_says_that_none_is_there_yet(world: Looked) -> None:
    world.serve()
    world.advance("5s")
    words = explain(world)
    assert "plan: none for now" in words
    assert "runner alice: period_over" in words


def test_explain_of_an_unknown_runner_names_those_that_there_are(serving: Looked) -> None:
    status, _, err = serving.ask("explain", *SVC, "--runner", "nobody")
    assert status == 2
    assert "has no runner 'nobody'; it has alice, bob, carol [x]" in err


# history ------------------------------------------------------------------------------------------


def test_history_shows_the_open_run_and_what_was_done_to_the_service(serving: Looked) -> None:
    Controls(serving.virtual.storage, by="ops").pause("svc", reason="db")
    _, out, _ = serving.ask("history", *SVC)
    words = flat(out)
    assert "2026-01-01 12:05:00" in words
    assert "settings by bob: every 5m" in words
    assert "12:05:00 0s 10s bob running" in words
    assert "pause by ops: db" in words


def test_history_has_what_only_the_gate_knows_yet(serving: Looked) -> None:
    """A run that was closed by a process that died before it could append its row."""
    from turnwise import gate as gates  # noqa: PLC0415 (of this test alone)
    from turnwise.atomic_service import AtomicServiceExecutionStatus as Status  # noqa: PLC0415
    from turnwise.texts import gate_from_text, gate_to_text  # noqa: PLC0415

    storage = serving.virtual.storage
    serving.virtual.close()
    kept = storage.read("default", ["svc"]).services["svc"].gate
    assert kept is not None
    gate = gate_from_text(kept.body)
    assert gate.open is not None
    now = storage.read("default", []).now
    ended = gates.finish(gate, gate.open.run_id, now=now, status=Status.COMPLETED)
    assert isinstance(ended, gates.Gate)
    swapped = storage.swap(
        "default", "svc", Kind.GATE, kept.version, Record("v", gate_to_text(ended))
    )
    assert swapped.done
    assert storage.history("default", "svc", kinds=["completed"]) == ()
    _, out, _ = serving.ask("history", *SVC, "--status", "completed", "--json")
    assert [row["runner_id"] for row in json.loads(out)] == ["bob"]


def test_history_by_status_number_and_age(serving: Looked) -> None:
    serving.advance("20m")
    every = json.loads(serving.ask("history", *SVC, "--json")[1])
    assert [row["kind"] for row in every] == ["command"] + ["execution"] * 5
    two = json.loads(serving.ask("history", *SVC, "--last", "2", "--json")[1])
    assert two == every[-2:]
    recent = json.loads(serving.ask("history", *SVC, "--since", "12m", "--json")[1])
    assert [row["due"][11:16] for row in recent] == ["12:15", "12:20", "12:25"]
    commands = json.loads(serving.ask("history", *SVC, "--status", "command", "--json")[1])
    assert commands == every[:1]
    assert "no such rows" in serving.ask("history", *SVC, "--status", "blocked")[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--last", "0"], "--last must be 1 to 1,000,000, got 0"),
        (["--since", "2050-01-01"], "--since must be in the past"),
        (["--since", "soon"], "'soon' is no instant"),
        (["--status", "lost"], "'lost' is none of"),
    ],
)
def test_bad_input_to_history_is_one_line(serving: Looked, arguments: list[str], says: str) -> None:
    status, out, err = serving.ask("history", *SVC, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err


# check --------------------------------------------------------------------------------------------


def test_check_of_a_service_that_is_well_is_one_line_and_status_0(serving: Looked) -> None:
    serving.advance("1m")
    status, out, _ = serving.ask("check")
    assert (status, out) == (0, "OK: svc: last success 12:05:40, 30s ago\n")


def test_check_finds_a_success_that_is_too_old(serving: Looked) -> None:
    serving.advance("1m")
    assert serving.ask("check", "--max-age", "1m")[0] == 0
    status, out, _ = serving.ask("check", "--max-age", "10s")
    assert status == 2
    assert out == "CRITICAL: svc: last success 2026-01-01 12:05:40, 30s ago\n"
    serving.fails = True
    serving.advance("13m")
    assert serving.ask("check")[0] in (0, 1), "a period, and a period of tolerance, are not over"
    serving.advance("2m")
    status, out, _ = serving.ask("check")
    assert status == 2
    assert "last success 2026-01-01 12:05:40" in out


def test_check_warns_where_the_last_period_has_failed(serving: Looked) -> None:
    serving.fails = True
    serving.advance("1m")
    serving.fails = False
    serving.advance("5m")
    serving.fails = True
    serving.advance("8m40s")
    status, out, _ = serving.ask("check")
    assert status == 1
    assert "WARNING: svc: the period of 12:15:00 has failed, 3 times" in out


def test_check_finds_that_nobody_is_alive(serving: Looked) -> None:
    serving.advance("1m")
    serving.virtual.close()
    serving.advance("2m")
    status, out, _ = serving.ask("check")
    assert status == 2
    assert "nobody is alive to run it" in out


def test_check_warns_of_settings_that_differ_and_of_a_silent_owner(serving: Looked) -> None:
    stray(serving, "stray", Settings(attempts=7).to_json())
    status, out, _ = serving.ask("check")
    assert (status, out) == (1, "WARNING: svc: settings differ: stray\n")
    for name in ("alice", "bob", "carol [x]"):
        serving.virtual.kill(name)
    serving.advance("61s")
    status, out, _ = serving.ask("check")
    assert status == 2
    assert "bob runs for 1m11s, and is silent" in out


def test_check_of_a_paused_service_is_well_and_says_so(serving: Looked) -> None:
    serving.advance("1m")
    Controls(serving.virtual.storage).pause("svc")
    serving.advance("1h")
    status, out, _ = serving.ask("check")
    assert status == 0
    assert out.endswith("; paused: svc\n")


def test_check_of_a_storage_that_is_away_is_critical_and_of_bad_input_unknown(
    serving: Looked, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, _ = serving.ask("check", "--service", "nope")
    assert (status, out.startswith("UNKNOWN: group 'default' has no service")) == (3, True)
    assert serving.ask("check", "--group", "other")[0] == 3

    def away(*_: object, **__: object) -> MemoryStorage:
        raise StorageError("no route to host")

    monkeypatch.setattr("turnwise.cli.storage.open_storage", away)
    status, out, _ = serving.ask("check")
    assert status == 2
    assert out == "CRITICAL: the storage does not answer: no route to host\n"


# All of them --------------------------------------------------------------------------------------


def in_a_shell(line: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["/bin/sh", "-c", line.replace("turnwise", f"{sys.executable} -m turnwise.cli", 1)],
        env={name: value for name, value in os.environ.items() if name != "COLUMNS"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A file that a runner with a long name has joined."""
    made = f"sqlite:///{tmp_path / 'turns.db'}"
    with closing(SqlStorage(made)) as storage:
        storage.heartbeat("default", Beat(LONG, "boot", 1, 60 * SECOND))
        storage.offer("default", Offer(LONG, "boot", "größe", Settings().to_json(), 60 * SECOND))
    return made


LONG = "web-frontend-7d9f8b6c5d-x2k4q-1-abcdef12-" * 1 + "0123456789"


@pytest.mark.parametrize("options", ["", "--json"])
def test_where_stdout_is_full_or_closed_there_is_no_traceback(url: str, options: str) -> None:
    line = f"turnwise status --storage {url} {options}"
    full = in_a_shell(f"{line} > /dev/full")
    assert full.returncode == 1
    assert full.stderr == "turnwise: [Errno 28] No space left on device\n"
    closed = in_a_shell(f"{line} >&-")
    assert (closed.returncode, closed.stderr) == (0, "")


def test_what_goes_to_a_pipe_is_not_folded_and_watch_comes_block_by_block(url: str) -> None:
    seen = in_a_shell(f"turnwise status --watch --storage {url} | grep -m 2 {LONG}")
    assert seen.returncode == 0
    assert seen.stdout.count(LONG) == 2
    assert seen.stderr == ""


def test_names_that_a_terminal_cannot_show_are_shown_by_their_numbers(url: str) -> None:
    told = {"": r"service gr\xf6\xdfe of group", "--json": r'"service": "gr\u00f6\u00dfe"'}
    for options, words in told.items():
        done = subprocess.run(
            [sys.executable, "-m", "turnwise.cli", "status", "--storage", url, *options.split()],
            env=os.environ | {"PYTHONIOENCODING": "ascii"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert words in done.stdout


@pytest.mark.parametrize(
    "command", ["status", "explain --service s", "history --service s", "audit"]
)
def test_looking_creates_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    url = f"sqlite:///{tmp_path / 'typo.db'}"
    assert main([*command.split(), "--storage", url]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_looking_changes_nothing(serving: Looked) -> None:
    calls: set[str] = set()

    class Noted(NotClosed):
        def __getattr__(self, name: str) -> object:
            calls.add(name)
            return super().__getattr__(name)

    serving.virtual.storage = Noted(serving.virtual.storage)  # type: ignore[assignment]
    for command in (["status"], ["explain", *SVC], ["history", *SVC], ["check"], ["audit"]):
        serving.ask(*command)
    assert calls <= {"services", "read", "runners", "offers", "stable", "history", "groups"}
