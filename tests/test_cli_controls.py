"""``turnwise pause``, ``trigger``, ``drain``, ``forget``, ``schema``, as an operator uses them."""

import contextlib
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from processes import (
    COMMAND,
    SERVICE,
    History,
    RunProcess,
    environment,
    eventually,
    turnwise,
    turnwise_here,
)
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cli.controls import exit_status
from turnwise.controls import operator
from turnwise.cycles import SECOND
from turnwise.gate import NO_ATTEMPT, Command, Execution
from turnwise.settings import Settings
from turnwise.storages import Beat, Offer
from turnwise.texts import gate_from_text, row_from_text

# Due once a day: what runs was triggered. Cycles are short, so that a slot is never far.
DAILY = ("--every", "1d", "--cycle", "2s", "--heartbeat-timeout", "900ms")


class Desk:
    """Where an operator sits: the command line, on ``turns.db`` in a folder."""

    def __init__(
        self,
        folder: Path,
        run: Callable[..., "subprocess.CompletedProcess[str]"] = turnwise_here,
    ) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder / 'turns.db'}"
        self._run = run

    def __call__(self, *arguments: str, status: int = 0) -> str:
        """Give a command; what it says. Its status must be the one that is given."""
        done = self._run(*arguments, cwd=self.folder, TURNWISE_STORAGE=self.url)
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout or done.stderr


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path) as history:
        yield history


def offered(history: History) -> None:
    """Wait until the service's gate is there, so that a runner has looked."""
    eventually(lambda: gate(history), "a runner has looked")


def gate(history: History) -> object:
    kept = history.storage.read("default", (SERVICE,)).services.get(SERVICE)
    return kept and kept.gate and gate_from_text(kept.gate.body)


def commands(history: History) -> list[Command]:
    rows = [row_from_text(each.body) for each in history.storage.history("default", SERVICE)]
    return [row for row in rows if isinstance(row, Command) and row.name != "settings"]


def test_a_paused_service_starts_nothing_until_it_is_resumed(
    tmp_path: Path, desk: Desk, history: History
) -> None:
    options = ("--every", "1s", "--heartbeat-timeout", "500ms")
    with RunProcess(tmp_path, "alice", *options, command=["true"]) as alice:
        eventually(history.completed, "it is served")
        said = desk("pause", SERVICE, "--reason", "the database moves")
        assert said.startswith(f"{SERVICE} is paused until it is resumed\n")
        before = max(run.token or 0 for run in history.runs())
        alice.logs("paused")  # a due instant has come, and the gate has refused
        assert max(run.token or 0 for run in history.runs()) == before
        assert desk("resume", SERVICE) == f"{SERVICE} is resumed\n"
        eventually(lambda: history.runs()[-1].token != before, "it is served again")
    assert desk("resume", SERVICE) == (f"{SERVICE} was not paused: nothing was to be done\n")
    assert [(str(row.name), row.reason) for row in commands(history)] == [
        ("pause", "the database moves"),
        ("resume", ""),
    ]
    assert all("@" in row.by for row in commands(history))


def test_a_pause_may_end_by_itself(tmp_path: Path, desk: Desk, history: History) -> None:
    options = ("--every", "1s", "--heartbeat-timeout", "500ms")
    with RunProcess(tmp_path, "alice", *options, command=["true"]):
        offered(history)
        said = desk("pause", SERVICE, "--until", "2099-01-31T12:00:00Z")
        # A run may be open just now, and is told in a second line.
        assert said.splitlines()[0] == f"{SERVICE} is paused until 2099-01-31T12:00:00Z"
        said = desk("pause", SERVICE, "--until", "2099-01-31T12:00:00Z")
        told = f"{SERVICE} is paused already, until 2099-01-31T12:00:00Z"
        assert said.splitlines()[0] == told
        count = len(history.completed())
        desk("pause", SERVICE, "--until", "100ms")
        eventually(lambda: len(history.completed()) > count, "it is served after the pause")


def test_a_pause_tells_of_the_run_that_goes_on(
    tmp_path: Path, desk: Desk, history: History
) -> None:
    script = ["sh", "-c", "until [ -e enough ]; do sleep 0.02; done"]
    with RunProcess(tmp_path, "alice", *DAILY, command=script):
        offered(history)
        desk("trigger", SERVICE)
        run = history.await_running()
        assert f"the run of alice, token {run.token}, since " in desk("pause", SERVICE)
        (tmp_path / "enough").touch()
        assert str(history.await_ended(run.id).status) == "completed"


@pytest.mark.parametrize(
    ("script", "status", "how"),
    [
        ("exit 0", 0, "completed"),
        ("exit 3", 3, "abandoned exit:3"),
        ("kill -9 $$", 128 + signal.SIGKILL, "abandoned signal:SIGKILL"),
    ],
)
def test_a_trigger_runs_once_now_and_its_status_is_the_commands(
    tmp_path: Path, history: History, script: str, status: int, how: str
) -> None:
    desk = Desk(tmp_path, turnwise)  # a process, as a shell sees its status
    with (
        RunProcess(tmp_path, "alice", *DAILY, command=["sh", "-c", script]),
        RunProcess(tmp_path, "bob", *DAILY, command=["sh", "-c", script]),
    ):
        offered(history)
        said = desk("trigger", SERVICE, "--wait", status=status)
        first, last = said.splitlines()
        assert first == f"{SERVICE} is triggered"
        assert last.endswith(f", has ended: {how}")
        # Again, where the plan's slots may be used up: nobody may wait for the next day.
        assert f", has ended: {how}" in desk("trigger", SERVICE, "--wait", status=status)
    # A busy machine may lose a run before its command has ended: that one had no chance.
    had_a_chance = [run for run in history.runs() if run.reason not in NO_ATTEMPT]
    assert len(had_a_chance) == 2


def test_a_trigger_says_what_it_waits_for(tmp_path: Path, desk: Desk, history: History) -> None:
    script = ["sh", "-c", "until [ -e enough ]; do sleep 0.02; done"]
    with RunProcess(tmp_path, "alice", *DAILY, command=script):
        offered(history)
        desk("pause", SERVICE)
        assert "is triggered; it is paused, and runs once it is" in desk("trigger", SERVICE)
        assert "is triggered already; it is paused, and runs" in desk("trigger", SERVICE)
        desk("resume", SERVICE)
        run = history.await_running()
        assert f"the run of alice, token {run.token}, since" in desk("trigger", SERVICE)
        (tmp_path / "enough").touch()
    assert "no runner of it is alive" in desk("trigger", SERVICE)


def test_a_drained_runner_takes_no_new_run_until_it_is_undrained(
    tmp_path: Path, desk: Desk, history: History
) -> None:
    with (
        RunProcess(tmp_path, "alice", *DAILY, command=["true"]),
        RunProcess(tmp_path, "bob", *DAILY, command=["true"]),
    ):
        eventually(lambda: len(history.storage.offers("default")) == 2, "both offer it")
        offered(history)
        assert desk("drain", "alice") == "runner alice is drained; it works on nothing\n"
        assert desk("drain", "alice").startswith("runner alice is drained already; ")
        for _ in range(3):
            assert "the run of bob" in desk("trigger", SERVICE, "--wait")
        desk("drain", "bob")
        assert desk("undrain", "alice") == "runner alice takes runs again\n"
        assert desk("undrain", "alice") == (
            "runner alice was not drained: nothing was to be done\n"
        )
        assert "the run of alice" in desk("trigger", SERVICE, "--wait")


def test_the_history_of_the_group_says_who_drained_and_forgot_what_and_why(
    tmp_path: Path, desk: Desk, history: History
) -> None:
    with RunProcess(tmp_path, "alice", *DAILY, command=["true"]):
        offered(history)
        for _ in range(2):  # what changes nothing is not told
            desk("drain", "alice", "--reason", "more memory")
        desk("undrain", "alice")
        desk("undrain", "alice", "--reason", "it was not drained")
    desk("forget", "runner", "alice", "--yes", "--reason", "it is gone")
    rows = json.loads(desk("history", "--json"))
    assert [(row["command"], row["of"], row["reason"]) for row in rows] == [
        ("drain", "alice", "more memory"),
        ("undrain", "alice", ""),
        ("forget runner", "alice", "it is gone"),
    ]
    assert {row["by"] for row in rows} == {operator()}
    shown = desk("history")
    assert "alice by" in shown
    assert ": more memory" in shown
    assert "no such rows" in desk("history", "--status", "running")


def test_who_lives_is_not_forgotten_unless_forced(
    tmp_path: Path, desk: Desk, history: History
) -> None:
    with RunProcess(tmp_path, "alice", *DAILY, command=["true"]):
        offered(history)
        for what in (("service", SERVICE), ("runner", "alice")):
            said = desk("forget", *what, "--yes", status=1)
            assert "is not forgotten: runner 'alice' was heard of" in said
            assert "stop it first, or force it" in said
            assert re.search(r"of (\d00ms|\d+(\.\d)?s) ago", said), "in tenths of a second"
        desk("forget", "service", SERVICE, "--yes", "--force")
    assert desk("forget", "runner", "alice", "--yes") == "runner alice is forgotten\n"
    # The service may be there anew: whoever lived made its records again.
    assert history.storage.runners("default") == ()
    assert history.storage.runners("default") == ()


def answered(desk: Desk, answer: str) -> tuple[int, str]:
    """``turnwise forget`` on a terminal on which somebody types; its status and what it shows."""
    ours, its = pty.openpty()
    command = [*COMMAND, "forget", "runner", "alice", "--storage", desk.url]
    with subprocess.Popen(
        command, stdin=its, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment()
    ) as process:
        os.write(ours, f"{answer}\n".encode())
        shown, _ = process.communicate(timeout=60)
    os.close(its)
    os.close(ours)
    return process.returncode, shown.decode()


def test_forget_asks_first(desk: Desk, history: History) -> None:
    history.storage.heartbeat("default", Beat("alice", "boot", 1, SECOND))
    history.storage.leave("default", "alice", "boot")
    assert "no terminal to ask on: give --yes" in desk("forget", "runner", "alice", status=2)
    status, shown = answered(desk, "n")
    assert status == 130
    assert "Forget runner alice of group default?" in shown
    assert len(history.storage.runners("default")) == 1
    assert answered(desk, "y")[0] == 0
    assert history.storage.runners("default") == ()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pause", "housekeping"], "no service 'housekeping'; did you mean 'housekeeping'?"),
        (["pause", "other"], "no service 'other'; it has housekeeping"),
        (["pause", "hour"], "no service 'hour'; it has housekeeping"),
        (
            ["pause", SERVICE, "--group", "x"],
            "nor any other; there is the group default: see --group",
        ),
        (["pause", SERVICE, "--until", "2020-01-01"], "--until must be in the future"),
        (["pause", SERVICE, "--until", "0s"], "--until must be in the future"),
        (["pause", SERVICE, "--until", "soon"], "or as a duration such as 30m"),
        (["pause"], "Missing argument 'SERVICE' (see turnwise pause --help)"),
        (["resume", "other"], "has no service 'other'"),
        (["trigger", "other"], "has no service 'other'"),
        (["drain", "carol"], "no runner 'carol'; it has alice"),
        (["undrain", "carol"], "no runner 'carol'; it has alice"),
        (["forget", "runner", "carol"], "no runner 'carol'"),
        (["forget", "group", "x"], "'group' cannot be forgotten: say service NAME or runner NAME"),
        (["pause", "a\x1bb"], "without control characters"),
        (["pause", SERVICE, "--storage", "sqlite:///none.db"], "unable to open database file"),
        (["schema", "--storage", "redis://:secret@x"], "redis://:***@x' has no tables"),
        (["schema", "--storage", "sqlite:///none.db", "--upgrade"], "unable to open database"),
        (["tigger"], "No such command 'tigger'. Did you mean 'trigger'?"),
    ],
)
def test_bad_input_is_one_line_with_status_2_and_makes_nothing(
    desk: Desk, history: History, tmp_path: Path, arguments: list[str], says: str
) -> None:
    history.storage.heartbeat("default", Beat("alice", "boot", 1, SECOND))
    history.storage.offer("default", Offer("alice", "boot", SERVICE, Settings().to_json(), SECOND))
    history.storage.append("default", SERVICE, [])
    said = desk(*arguments, status=2)
    assert says in said
    assert said.count("\n") == 1
    assert said.startswith("turnwise: ")
    assert not (tmp_path / "none.db").exists()


def execution(status: str, reason: str) -> Execution:
    return Execution(
        id="run",
        runner_id="alice",
        status=Status(status),
        reason=reason,
        started_at=1,
        ended_at=2,
        token=1,
        due=0,
        cycle_start=0,
        slot_start=0,
        slot_end=9,
        position=0,
        attempt=1,
        size=1,
        digest=0,
    )


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("completed", "", 0),
        ("abandoned", "exit:7", 7),
        ("abandoned", "signal:SIGTERM", 128 + 15),
        ("abandoned", "signal:34", 128 + 34),
        ("abandoned", "exception:ValueError", 1),
        ("abandoned", "timeout", 1),
        ("abandoned", "exit:\u00b2", 1),
    ],
)
def test_a_run_has_the_status_that_a_shell_would_see(
    status: str, reason: str, expected: int
) -> None:
    assert exit_status(execution(status, reason)) == expected


def test_the_schema_is_printed_and_upgraded(desk: Desk, tmp_path: Path) -> None:
    statements = desk("schema", "--storage", "postgresql://nobody@nowhere/x")
    assert "CREATE TABLE turnwise_" in statements
    with contextlib.closing(sqlite3.connect(tmp_path / "turns.db")) as database:
        database.execute("CREATE TABLE other (x)")
    assert "holds no tables of turnwise" in desk("schema", "--upgrade", status=2)
    (tmp_path / "turns.db").unlink()
    with History(tmp_path):
        pass
    assert desk("schema", "--upgrade").endswith("the tables are of version 1 already\n")


HEAVY = ("sqlalchemy", "matplotlib", "asyncio", "hypothesis", "rich", "redis")


@pytest.mark.parametrize("command", ["--help", "--version", "run --help", "pause --help"])
def test_help_loads_nothing_heavy_beside_the_package(command: str) -> None:
    code = (
        f"import sys, turnwise; heavy = {{each for each in {HEAVY} if each not in sys.modules}};"
        "from turnwise.cli import main; main(sys.argv[1:]); print(heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"


def test_options_have_words_and_no_types_in_their_help() -> None:
    for command in ("run", "pause", "resume", "trigger", "drain", "undrain", "forget", "schema"):
        shown = turnwise_here(command, "-h")
        assert shown.returncode == 0
        assert shown.stdout == turnwise_here(command, "--help").stdout
        assert "<bool>" not in shown.stdout
        assert max(map(len, shown.stdout.splitlines())) <= 82


def test_a_shell_completes_commands_and_options() -> None:
    def completed(line: str) -> str:
        place = str(len(line.split()) - 1)
        done = turnwise(_TURNWISE_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=place)
        return done.stdout

    assert completed("turnwise pau").split() == ["pause"]
    assert "--runner-id" in completed("turnwise run --run").split()


def test_without_a_command_the_help_is_printed_with_status_2() -> None:
    done = turnwise()
    assert done.returncode == 2
    assert done.stdout == turnwise("--help").stdout
