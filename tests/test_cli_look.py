"""``turnwise explain`` and ``turnwise status``: a storage's own account, read only."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from turnwise.atomic_service import AtomicServiceExecutionStatus
from turnwise.backends import Participant
from turnwise.backends.sql import SqlBackend
from turnwise.cli import main
from turnwise.cli.errors import _OPTION_OF_SETTING
from turnwise.membership import cycle_at
from turnwise.old_settings import Settings
from turnwise.old_turn import Turn
from turnwise.runner import Runner

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SETTINGS = Settings()


class World:
    """Three runners on an SQLite file, under a clock of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.now = NOON - timedelta(minutes=2)
        self.url = f"sqlite:///{folder / 'turns.db'}"
        self.backend = SqlBackend(self.url, clock=lambda: self.now)
        names = ("alice", "bob", "carol [x]", "dave")
        self.runners = {name: self._runner(name) for name in names}

    def _runner(self, name: str) -> Runner:
        return Runner(
            self.backend,
            "svc",
            runner_id=name,
            heartbeat_thread=False,
            settings=SETTINGS,
            monotonic=self.now.timestamp,
        )

    def at(self, instant: datetime) -> None:
        """Go there, with a heartbeat of everybody on the way."""
        self.now = min(instant, cycle_at(instant, SETTINGS.interval).start)
        self.now -= timedelta(seconds=1)
        for runner in self.runners.values():
            runner.begin()
        self.now = instant

    def scheduled(self) -> list[str]:
        return [runner.runner_id for runner in self.backend.peek("svc", SETTINGS).scheduled]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("COLUMNS", "80")
    world = World(tmp_path)
    for runner in world.runners.values():
        runner.begin()
    world.at(NOON + timedelta(seconds=10))
    yield world
    world.backend.close()


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command; the text without its line breaks."""
    status = main(list(arguments))
    said = capsys.readouterr()
    return status, said.out, said.err


def flat(text: str) -> str:
    return " ".join(text.split())


def explain(
    world: World, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    at = ("--at", world.now.isoformat())
    return ask(capsys, "explain", "--backend", world.url, "--service", "svc", *at, *arguments)


def test_explain_says_reason_owner_slot_and_next_turn_of_the_primary(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    primary = world.scheduled()[0]
    status, out, _ = explain(world, capsys, "--runner", primary)
    assert status == 0
    words = flat(out)
    assert f"runner {primary}: assigned it may start now" in words
    assert f"now belongs to {primary} until 12:01:40.000, guard time from 12:01:20.000" in words
    assert "its slot: 12:00:00.000 to 12:01:20.000" in words
    assert "next turn: now, as primary" in words


def test_explain_tells_a_standby_when_its_turn_would_be(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    primary, standby, _ = world.scheduled()
    _, out, _ = explain(world, capsys, "--runner", standby)
    words = flat(out)
    assert f"runner {standby}: not_assigned_slot" in words
    assert "it has a slot in this cycle, and it is not now" in words
    assert f"now belongs to {primary}" in words
    assert "next turn: 12:01:40.000 UTC, as standby" in words


def test_explain_tells_a_runner_without_a_slot_that_it_sleeps(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    (sleeper,) = set(world.runners) - set(world.scheduled())
    _, out, _ = explain(world, capsys, "--runner", sleeper)
    assert "it sleeps through this cycle" in flat(out)
    # The rotation makes it the last standby of the next cycle.
    assert "next turn: 12:08:20.000 UTC, as standby" in flat(out)


def test_explain_tells_a_newcomer_from_when_it_counts(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    newcomer = Runner(world.backend, "svc", runner_id="eve", heartbeat_thread=False)
    newcomer.begin()
    _, out, _ = explain(world, capsys, "--runner", "eve")
    assert "it does not count in this cycle: joined too late" in flat(out)
    assert "counts from the cycle at 12:05:00.000 UTC" in flat(out)


def test_explain_names_the_open_run_that_the_gate_would_refuse_for(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    primary = world.scheduled()[0]
    turn = world.runners[primary].begin()
    assert isinstance(turn, Turn)
    world.now += timedelta(seconds=3)
    _, out, _ = explain(world, capsys, "--runner", primary)
    assert f"the gate refuses: {primary} runs since 12:00:10.000, last heard of 3s ago" in flat(out)
    world.runners[primary].finish(turn)
    _, out, _ = explain(world, capsys, "--runner", primary)
    assert f"{primary} has served this cycle at 12:00:10.000 (completed)" in flat(out)
    assert "next turn: now" not in flat(out)


@pytest.mark.usefixtures("host_time")
def test_a_run_that_the_gate_would_give_up_for_dead_is_not_shown_as_one_at_work(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    primary, standby, _ = world.scheduled()
    assert isinstance(world.runners[primary].begin(), Turn)
    world.now += timedelta(seconds=60)
    _, out, _ = ask(capsys, "status", "--backend", world.url)
    assert "dead" not in out
    world.now += timedelta(seconds=40)
    told = f"{primary} since 12:00:10.000 was last heard of 1m40s ago, and is given up for dead"
    _, out, _ = explain(world, capsys, "--runner", standby)
    assert f"the gate: the run of {told} at the next start" in flat(out)
    assert f"runner {standby}: assigned it may start now" in flat(out)
    _, out, _ = ask(capsys, "status", "--backend", world.url)
    assert {"running", "silent", "dead"} <= set(flat(out).split())


def test_who_left_before_it_counted_is_told_so_and_not_when_it_will(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    early = Runner(world.backend, "svc", runner_id="early", heartbeat_thread=False)
    early.begin()
    early.leave()
    _, out, _ = explain(world, capsys, "--runner", "early")
    assert "it does not count in this cycle: left" in flat(out)
    assert "next turn: after it has come back" in flat(out)


def test_explain_shows_all_runners_where_nobody_has_a_slot_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(SqlBackend(f"sqlite:///{tmp_path / 'turns.db'}")) as backend:
        Runner(backend, "svc", runner_id="new", heartbeat_thread=False).begin()
        url = f"sqlite:///{tmp_path / 'turns.db'}"
        _, out, _ = ask(capsys, "explain", "--backend", url, "--service", "svc")
    assert "runner new: no_stable_runners it does not count in this cycle: joined" in flat(out)
    assert "counts from the cycle at" in flat(out)


def test_a_failed_turn_does_not_serve_the_cycle(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    primary = world.scheduled()[0]
    turn = world.runners[primary].begin()
    assert isinstance(turn, Turn)
    world.runners[primary].finish(turn, AtomicServiceExecutionStatus.ABANDONED, "exit:1")
    _, out, _ = explain(world, capsys)
    assert "has served this cycle" not in out


def test_explain_without_a_runner_goes_through_all_that_have_a_slot(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = explain(world, capsys)
    for name in world.scheduled():
        assert f"runner {name}: " in out
    assert "without a slot in this cycle: 1" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.usefixtures("host_time")
def test_explain_in_a_grace_tells_the_next_turn_from_its_end(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    joined = world.backend.runners("svc")[0].creation_time
    # A third of a slot of 100 s is over then, and the last start is at half of its 80.
    grace = replace(SETTINGS, membership_stabilization=NOON + timedelta(seconds=33) - joined)
    world.backend.publish_settings("svc", grace)
    primary = world.scheduled()[0]
    _, out, _ = explain(world, capsys, "--runner", primary)
    assert f"runner {primary}: scheduled_runner_in_grace" in flat(out)
    assert "next turn: 12:00:33.000 UTC, as primary" in flat(out)
    for runner_id in ("alice", "bob"):
        grace = replace(grace, membership_stabilization=timedelta(minutes=6))
        world.backend.publish_settings("svc", grace)
        _, out, _ = explain(world, capsys, "--runner", runner_id)
        assert "next turn: now" not in flat(out)


def test_explain_at_another_instant_answers_for_that_instant(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    last = world.scheduled()[2]
    world.now = NOON + timedelta(seconds=200)
    _, out, _ = explain(world, capsys, "--runner", last)
    assert f"runner {last}: assigned" in flat(out)
    world.now = NOON + timedelta(seconds=270)
    _, out, _ = explain(world, capsys, "--runner", last)
    assert f"runner {last}: late_start 87.50% of the slot is gone" in flat(out)


def test_explain_as_json_is_one_object_for_one_runner_and_a_list_for_all(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    primary = world.scheduled()[0]
    _, out, _ = explain(world, capsys, "--runner", primary, "--json")
    told = json.loads(out)
    assert told["runner_id"] == primary
    assert told["reason"] == "assigned"
    assert told["should_try_start"] is True
    assert told["slot_start"] == NOON.isoformat()
    assert told["next_role"] == "primary"
    _, out, _ = explain(world, capsys, "--json")
    assert [one["runner_id"] for one in json.loads(out)] == world.scheduled()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--service", "other"], "known are: svc"),
        (["--service", "svc", "--runner", "nobody"], "knows no runner 'nobody'; known are: alice"),
        (["--service", "svc", "--at", "today"], "is no instant"),
    ],
)
def test_bad_input_to_explain_is_one_line_and_status_2(
    world: World, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    status, out, err = ask(capsys, "explain", "--backend", world.url, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err


@pytest.fixture
def host_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands open the storage themselves; here they read the test's clock, too."""
    monkeypatch.setattr("turnwise.backends._database._utc_now", lambda: world.now)
    monkeypatch.setattr(
        "turnwise.cli.storage.open_backend",
        lambda url, **options: SqlBackend(url, clock=lambda: world.now, **options),
    )


@pytest.mark.usefixtures("host_time")
def test_status_shows_runners_the_current_slot_and_the_last_executions(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    primary, standby, _ = world.scheduled()
    turn = world.runners[primary].begin()
    assert isinstance(turn, Turn)
    world.now += timedelta(seconds=2)
    world.runners[primary].finish(turn, AtomicServiceExecutionStatus.ABANDONED, "exit:[1]")
    world.runners[standby].leave()
    status, out, _ = ask(capsys, "status", "--backend", world.url)
    assert status == 0
    assert f"slot of {primary} (primary) until 12:01:40.000" in flat(out)
    lines = {line.split("  ")[0]: line for line in out.splitlines()}
    assert lines[primary].split()[-6:-1] != []
    assert " no " in lines[standby], "it has left, so it is not alive"
    assert "yes" in lines[standby], "and it stays in the set until the cycle ends"
    assert "abandoned" in out
    assert "exit:[1]" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.usefixtures("host_time")
def test_status_as_json_tells_the_same_to_a_script(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = ask(capsys, "status", "--backend", world.url, "--service", "svc", "--json")
    (told,) = json.loads(out)
    assert told["service"] == "svc"
    assert told["slot"]["runner_id"] == world.scheduled()[0]
    assert {runner["runner_id"] for runner in told["runners"]} == set(world.runners)
    assert all(runner["alive"] for runner in told["runners"])
    assert [runner["heartbeat_age_seconds"] for runner in told["runners"]] == [11.0] * 4
    assert told["executions"] == []


@pytest.mark.usefixtures("host_time")
def test_status_watch_shows_it_anew_until_interrupted(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("turnwise.cli.status.time.sleep", nap)
    status, out, _ = ask(capsys, "status", "--backend", world.url, "--watch")
    assert (status, len(naps)) == (0, 3)
    assert "service svc" in out


def of_tomorrow(world: World) -> None:
    """A second service, whose settings are those of another version."""
    world.backend.publish_settings("newer", SETTINGS)
    with closing(sqlite3.connect(world.url.removeprefix("sqlite:///"))) as other:
        other.execute(
            "UPDATE turnwise_services SET settings = '{\"knob\": 1}' WHERE service = 'newer'"
        )
        other.commit()


@pytest.mark.usefixtures("host_time")
def test_status_of_settings_of_another_version_says_so_and_shows_the_other_services(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    of_tomorrow(world)
    status, out, _ = ask(capsys, "status", "--backend", world.url)
    assert status == 0
    assert "service newer: its settings cannot be read: another version of turnwise" in flat(out)
    assert "service svc at" in out
    _, out, _ = ask(capsys, "status", "--backend", world.url, "--json")
    newer, told = json.loads(out)
    assert set(newer) == {"service", "error"}
    assert told["service"] == "svc"
    for command in ("status", "explain"):
        status, _, err = ask(capsys, command, "--backend", world.url, "--service", "newer")
        assert status == 2
        assert "'newer': its settings cannot be read: another version of turnwise" in err


@pytest.mark.usefixtures("host_time")
def test_status_watch_shows_a_service_that_is_started_later(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        world.backend.publish_settings("later", SETTINGS)
        if len(naps) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("turnwise.cli.status.time.sleep", nap)
    _, out, _ = ask(capsys, "status", "--backend", world.url, "--watch")
    assert "service later" in out


def test_an_error_about_a_setting_names_an_option_only_where_there_is_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    helps = "".join(ask(capsys, name, "--help")[1] for name in ("run", "plan", "simulate"))
    missing = [option for option in _OPTION_OF_SETTING.values() if f"{option} " not in helps]
    assert missing == []


def test_names_that_a_terminal_cannot_show_are_shown_by_their_numbers(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'turns.db'}"
    with closing(SqlBackend(url)) as backend:
        backend.publish_settings("größe", SETTINGS)
    told = {(): r"service gr\xf6\xdfe at", ("--json",): r'"service": "gr\u00f6\u00dfe"'}
    for options, words in told.items():
        done = subprocess.run(
            [sys.executable, "-m", "turnwise.cli", "status", "--backend", url, *options],
            env=os.environ | {"PYTHONIOENCODING": "ascii"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert words in done.stdout


def in_a_shell(line: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["/bin/sh", "-c", line.replace("turnwise", f"{sys.executable} -m turnwise.cli", 1)],
        env={name: value for name, value in os.environ.items() if name != "COLUMNS"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("options", ["", "--json"])
def test_where_stdout_is_full_or_closed_there_is_no_traceback(world: World, options: str) -> None:
    line = f"turnwise status --backend {world.url} {options}"
    full = in_a_shell(f"{line} > /dev/full")
    assert full.returncode == 1
    assert full.stderr == "turnwise: [Errno 28] No space left on device\n"
    closed = in_a_shell(f"{line} >&-")
    assert (closed.returncode, closed.stderr) == (0, "")


def test_what_goes_to_a_pipe_is_not_folded_and_watch_comes_block_by_block(world: World) -> None:
    name = "web-frontend-7d9f8b6c5d-x2k4q-1-abcdef12-" * 5
    world.backend.heartbeat("svc", Participant(name, "boot"), SETTINGS)
    seen = in_a_shell(f"turnwise status --watch --backend {world.url} | grep -m 2 {name}")
    assert seen.returncode == 0
    assert seen.stdout.count(name) == 2
    assert seen.stderr == ""


def test_status_creates_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = ask(capsys, "status", "--backend", f"sqlite:///{tmp_path / 'typo.db'}")
    assert status == 2
    assert "does it exist" in err
    assert list(tmp_path.iterdir()) == []


def test_watch_and_json_do_not_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = ask(capsys, "status", "--backend", "memory:", "--watch", "--json")
    assert status == 2
    assert "do not go together" in err


def test_a_storage_without_services_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'turns.db'}"
    SqlBackend(url).close()
    status, out, _ = ask(capsys, "status", "--backend", url)
    assert status == 0
    assert "no service was ever started" in out


def test_without_its_extra_the_command_line_says_which_one_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("turnwise.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "typer", None)
    assert main(["--help"]) == 2
    assert "pip install 'turnwise[cli]'" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("run", "plan", "explain", "status", "demo"))
