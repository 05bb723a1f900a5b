"""``turnwise run``, with real processes, real children and real signals."""

import contextlib
import errno
import math
import os
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from processes import (
    PATIENCE_SECONDS,
    SERVICE,
    History,
    RunProcess,
    command_line,
    eventually,
    is_alive,
    turnwise,
)
from turnwise.cli.child import Child, _Successor
from turnwise.old_turn import TurnFailed, TurnLost
from virtual import Alone

URL = "sqlite:///turns.db"
SHORT = ("--interval", "1s", "--heartbeat-timeout", "500ms", "--grace", "500ms")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_child_finds_its_turn_in_its_environment(tmp_path: Path) -> None:
    show = "env | grep ^TURNWISE_ | sort > environment"
    with (
        RunProcess(tmp_path, "alice", *SHORT, "--once", command=["sh", "-c", show]) as runner,
        History(tmp_path) as history,
    ):
        assert runner.wait() == 0
        (run,) = history.runs()
    lines = (tmp_path / "environment").read_text().splitlines()
    told = dict(line.split("=", 1) for line in lines)
    assert told == {
        "TURNWISE_SERVICE": SERVICE,
        "TURNWISE_RUNNER_ID": "alice",
        "TURNWISE_RUN_ID": run.run_id,
        "TURNWISE_FENCING_TOKEN": str(run.fencing_token),
        "TURNWISE_SLOT_START": str(run.slot_start and run.slot_start.isoformat()),
        "TURNWISE_SLOT_END": str(run.slot_end and run.slot_end.isoformat()),
    }
    assert datetime.fromisoformat(told["TURNWISE_SLOT_END"]).tzinfo == UTC
    assert (str(run.status), run.reason) == ("completed", "")


@pytest.mark.parametrize(
    ("script", "reason", "status"),
    [
        ("exit 3", "exit:3", 3),
        ("kill -s KILL $$", "signal:SIGKILL", 128 + 9),
        ("kill -s TERM $$", "signal:SIGTERM", 128 + 15),
    ],
)
def test_a_child_that_fails_ends_its_execution_abandoned_with_the_reason(
    tmp_path: Path, script: str, reason: str, status: int
) -> None:
    with (
        RunProcess(tmp_path, "alice", *SHORT, "--once", command=["sh", "-c", script]) as runner,
        History(tmp_path) as history,
    ):
        assert runner.wait() == status
        (run,) = history.runs()
    assert (str(run.status), run.reason) == ("abandoned", reason)


def test_a_child_that_runs_longer_than_its_timeout_is_ended(tmp_path: Path) -> None:
    options = (*SHORT, "--once", "--timeout", "100ms")
    with (
        RunProcess(tmp_path, "alice", *options, command=["sleep", "60"]) as runner,
        History(tmp_path) as history,
    ):
        assert runner.wait() == 128 + signal.SIGTERM
        (run,) = history.runs()
    assert (str(run.status), run.reason) == ("abandoned", "timeout")


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace_time(tmp_path: Path) -> None:
    ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    options = (*SHORT, "--once", "--timeout", "600ms")
    with (
        RunProcess(tmp_path, "alice", *options, command=python(ignore)) as runner,
        History(tmp_path) as history,
    ):
        assert runner.wait() == 128 + signal.SIGKILL
        (run,) = history.runs()
    assert (str(run.status), run.reason) == ("abandoned", "timeout")


GROUP = """
trap 'echo parent >> signals; wait; exit 5' {0}
sh -c 'trap "echo grandchild >> signals; exit 0" {0}; touch ready; while :; do sleep 0.01; done' &
wait
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_the_childs_whole_group_and_the_runner_leaves(
    tmp_path: Path, signum: signal.Signals
) -> None:
    # A shell ignores SIGINT in what it puts into the background: SIGTERM is what it can trap.
    trapped = "INT TERM" if signum is signal.SIGINT else signum.name.removeprefix("SIG")
    script = GROUP.format(trapped)
    with (
        RunProcess(
            tmp_path, "alice", *SHORT, "--grace", "5s", command=["sh", "-c", script]
        ) as runner,
        History(tmp_path) as history,
    ):
        history.await_running()
        eventually((tmp_path / "ready").exists, "the grandchild runs")
        runner.send(signum)
        if signum is signal.SIGINT:
            eventually((tmp_path / "signals").exists, "SIGINT has arrived")
            runner.send(signal.SIGTERM)
        assert runner.wait() == 0
        run = history.await_ended()
        (record,) = history.backend.runners(SERVICE)
    signals = (tmp_path / "signals").read_text().split()
    assert {"parent", "grandchild"} <= set(signals)
    assert (str(run.status), run.reason) == ("abandoned", "exit:5")
    assert record.left_at is not None
    assert "has left service" in runner.log


def test_a_child_that_outlives_its_grace_time_is_killed_and_recorded(tmp_path: Path) -> None:
    ignore = (
        "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "pathlib.Path('ready').touch(); time.sleep(60)"
    )
    with (
        RunProcess(tmp_path, "alice", *SHORT, command=python(ignore)) as runner,
        History(tmp_path) as history,
    ):
        eventually((tmp_path / "ready").exists, "the child runs")
        runner.send(signal.SIGTERM)
        assert runner.wait() == 0
        run = history.await_ended()
    assert (str(run.status), run.reason) == ("abandoned", "signal:SIGKILL")


LEAVES_BEHIND = """
sh -c 'trap "" TERM; echo $$ > child; sleep 60' &
while [ ! -s child ]; do sleep 0.01; done
"""


@pytest.mark.parametrize(
    ("ends", "status", "reason"),
    [
        ("exit 0", 0, ""),
        ("exit 3", 3, "exit:3"),
        ("kill -9 $$", 128 + signal.SIGKILL, "signal:SIGKILL"),
    ],
)
def test_what_a_child_leaves_behind_in_its_group_is_ended_with_its_turn(
    tmp_path: Path, ends: str, status: int, reason: str
) -> None:
    script = LEAVES_BEHIND + ends
    with (
        RunProcess(tmp_path, "alice", *SHORT, "--once", command=["sh", "-c", script]) as runner,
        History(tmp_path) as history,
    ):
        left_behind = eventually(lambda: child_in(tmp_path), "the child runs")
        ended = history.await_ended()
        assert runner.wait() == status
        eventually(lambda: not is_alive(left_behind), "what it left behind is gone")
    assert ended.reason == reason
    assert "ending what it left behind" in runner.log


def test_what_ends_by_itself_right_after_the_child_is_left_to_it(tmp_path: Path) -> None:
    script = "(sleep 0.3; echo all > written) & exit 0"
    with RunProcess(tmp_path, "alice", *SHORT, "--once", command=["sh", "-c", script]) as runner:
        assert runner.wait() == 0
    assert (tmp_path / "written").read_text() == "all\n"
    assert "left behind" not in runner.log


def child_in(folder: Path) -> int:
    """The process that a child has written itself down as; 0 until it has."""
    path = folder / "child"
    return int(path.read_text() or 0) if path.exists() else 0


def guard_of(group: int) -> int | None:
    """The process that guards a child's group, by its command line."""
    wanted = f"turnwise-guard\0{group}\0".encode()
    for process in Path("/proc").glob("[0-9]*"):
        if command_line(int(process.name)).endswith(wanted):
            return int(process.name)
    return None


def test_a_killed_turnwise_takes_its_childs_whole_group_with_it(tmp_path: Path) -> None:
    script = "sleep 60 & echo $! > grandchild; echo $$ > child; wait"
    with RunProcess(tmp_path, "alice", *SHORT, command=["sh", "-c", script]) as runner:
        eventually(lambda: child_in(tmp_path), "the child runs")
        pids = [int((tmp_path / name).read_text()) for name in ("child", "grandchild")]
        assert all(map(is_alive, pids))
        # A moment after the child; what a kill between the two does, the documentation says.
        eventually(lambda: guard_of(pids[0]), "the guard knows of the child")
        runner.send(signal.SIGKILL)
        runner.wait()
        eventually(lambda: not any(map(is_alive, pids)), "child and grandchild are gone")


def test_a_turn_whose_guard_was_killed_ends_as_its_child_does(tmp_path: Path) -> None:
    script = "echo $$ > child; until [ -e enough ]; do sleep 0.05; done"
    with (
        RunProcess(tmp_path, "alice", *SHORT, "--once", command=["sh", "-c", script]) as runner,
        History(tmp_path) as history,
    ):
        child = eventually(lambda: child_in(tmp_path), "the child runs")
        guard = eventually(lambda: guard_of(child), "the guard knows of the child")
        os.kill(guard, signal.SIGKILL)
        eventually(lambda: not is_alive(guard), "the guard is gone")
        (tmp_path / "enough").touch()
        assert runner.wait() == 0
        (run,) = history.runs()
    assert (str(run.status), run.reason) == ("completed", "")


def started_by(prepare: str, *arguments: str, cwd: Path) -> "subprocess.Popen[str]":
    """``turnwise run`` in a process that something was done to before."""
    code = f"{prepare}; import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    run = ["-m", "turnwise.cli", "run", "--backend", URL, "--service", SERVICE, *SHORT]
    return subprocess.Popen(
        [*python(code), *run, *arguments], cwd=cwd, stderr=subprocess.PIPE, text=True
    )


def test_how_a_child_ended_is_known_where_the_parent_ignores_sigchld(tmp_path: Path) -> None:
    ignore = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    with started_by(ignore, "--once", "--", "sh", "-c", "exit 3", cwd=tmp_path) as process:
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 3
    assert "exit:3" in log


def test_what_nohup_started_outlives_its_terminal(tmp_path: Path) -> None:
    ignore = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    script = "touch ready; until [ -e enough ]; do sleep 0.05; done"
    with started_by(ignore, "--once", "--", "sh", "-c", script, cwd=tmp_path) as process:
        eventually((tmp_path / "ready").exists, "the child runs")
        process.send_signal(signal.SIGHUP)
        (tmp_path / "enough").touch()
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    assert "completed" in log


def test_who_inherits_the_childs_orphans_does_not_wait_for_those_that_have_ended(
    tmp_path: Path,
) -> None:
    subreaper = "import ctypes; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)"  # as pid 1 of a container
    script = "sleep 100 & touch ready; sleep 101"
    arguments = ("--grace", "1h", "--", "sh", "-c", script)
    with started_by(subreaper, *arguments, cwd=tmp_path) as process:
        eventually((tmp_path / "ready").exists, "the child runs")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    assert "has left service" in log


def test_without_room_for_a_guard_no_child_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def full(command: list[str], **options: object) -> None:
        del options
        started.append(command[0])
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    turn = Alone().turn()
    second = timedelta(seconds=1)
    child = Child(["touch", str(tmp_path / "it-ran")], SERVICE, None, second, 60 * second)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", full)
        with pytest.raises(TurnFailed, match="not_started"):
            child(turn)
    assert started == ["/bin/sh"], "the guard, and nothing after it"
    assert child.last_status == 127
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    child(turn)
    assert (tmp_path / "it-ran").exists(), "as soon as there is room again"


def test_a_turn_that_was_lost_while_turnwise_was_stopped_ends_its_child(tmp_path: Path) -> None:
    script = "echo $$ > child; exec sleep 60"
    options = (*SHORT, "--standbys", "1")
    with (
        RunProcess(tmp_path, "alice", *options, command=["sh", "-c", script]) as alice,
        History(tmp_path) as history,
    ):
        lost = history.await_running()
        child = eventually(lambda: child_in(tmp_path), "the child runs")
        alice.send(signal.SIGSTOP)
        with RunProcess(tmp_path, "bob", *options, command=["true"]):
            closed = history.await_ended(lost.run_id)
            assert (str(closed.status), closed.reason) == ("abandoned", "owner_dead")
            assert is_alive(child), "nothing on this host can end it while turnwise is stopped"
            alice.send(signal.SIGCONT)
            eventually(lambda: not is_alive(child), "the child of the lost turn is ended")
            alice.logs("turn 1 lost")
        assert history.await_ended(lost.run_id) == closed, "the late end is not recorded"


UNWILLING = """
import os, pathlib, signal, time
def ask(signum, frame):
    pathlib.Path("asked").touch()
signal.signal(signal.SIGTERM, ask)
with open("lives", "w", buffering=1) as lives:
    pathlib.Path("child").write_text(str(os.getpid()))
    while True:
        print(time.time(), file=lives)
        time.sleep(0.005)
"""


def test_a_child_whose_heartbeats_do_not_arrive_is_gone_before_a_successor_may_start(
    tmp_path: Path,
) -> None:
    timeout = timedelta(seconds=4)
    options = ("--interval", "8s", "--heartbeat-timeout", "4s", "--once")
    with (
        RunProcess(tmp_path, "alice", *options, command=python(UNWILLING)) as alice,
        History(tmp_path) as history,
    ):
        child = eventually(lambda: child_in(tmp_path), "the child runs")
        with contextlib.closing(sqlite3.connect(tmp_path / "turns.db")) as locker:
            locker.execute("BEGIN IMMEDIATE")
            kept = history.await_running()
            eventually(lambda: not is_alive(child), "the child is gone")
            locker.rollback()
        assert alice.wait() == 128 + signal.SIGKILL
        assert history.await_ended(kept.run_id).reason == "turn_lost"
    assert (tmp_path / "asked").exists(), "it was asked to end before"
    last = (tmp_path / "lives").read_text().splitlines()[-1]
    # What is promised is exact below, in the computation. Here the machine may be busy.
    held_up = timedelta(seconds=2)
    assert datetime.fromtimestamp(float(last), UTC) < kept.last_heartbeat + timeout + held_up


def unmoved(*, lives: int) -> Child:
    """A child that does not mind SIGTERM, and has half a minute to end in."""
    command = ["sh", "-c", f"trap '' TERM; touch ready; sleep {lives}"]
    return Child(command, SERVICE, None, timedelta(seconds=30), timedelta(seconds=1))


def test_a_silence_that_has_ended_takes_nothing_of_the_time_that_a_signal_gives(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    turn, child, silences = Alone().turn(), unmoved(lives=1), [0.0, 0.0, 0.8, 0.85]

    def silence() -> float:
        if Path("ready").exists():
            child.pass_on(signal.SIGTERM)
            return silences.pop() if silences else 0.0
        return 0.0

    monkeypatch.setattr(turn, "silence", silence)
    child(turn)
    assert child.last_status == 0


@pytest.mark.parametrize("asked", [True, False])
def test_a_child_of_a_lost_turn_has_a_quarter_of_the_heartbeat_timeout_whoever_asked_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    asked: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    turn, child = Alone().turn(), unmoved(lives=25)

    def check() -> None:
        if Path("ready").exists():
            if asked:
                child.pass_on(signal.SIGTERM)
            raise TurnLost("the storage has closed this run")

    monkeypatch.setattr(turn, "check", check)
    with pytest.raises(TurnFailed, match="turn_lost"):
        child(turn)
    assert child.last_status == 128 + signal.SIGKILL, "it was not waited for"
    assert "the storage has closed this run: another may start" in caplog.text


def test_a_child_that_is_found_to_be_late_has_a_quarter_of_the_heartbeat_timeout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As after a suspension of turnwise itself: nobody could ask the child in time."""
    monkeypatch.chdir(tmp_path)
    turn = Alone().turn()
    monkeypatch.setattr(turn, "silence", lambda: 99.0 if Path("ready").exists() else 0.0)
    with pytest.raises(TurnFailed, match="turn_lost"):
        unmoved(lives=25)(turn)


def test_of_a_lost_turn_the_time_that_is_left_grows_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turn = Alone().turn()
    monkeypatch.setattr(turn, "check", lambda: None)
    successor = _Successor(turn, heartbeat_timeout=60.0, notice=15.0)

    def by(now: float, silence: float) -> float:
        monkeypatch.setattr(turn, "silence", lambda: silence)
        return successor.child_must_be_gone_by(now)

    assert by(100, silence=41.9) == math.inf
    assert by(101, silence=42.5) == 101 + 57 - 42.5
    assert by(102, silence=41.0) == math.inf, "a heartbeat has arrived"

    def lost() -> None:
        raise TurnLost("the storage has closed this run")

    monkeypatch.setattr(turn, "check", lost)
    assert by(103, silence=27.0) == 118
    assert by(118, silence=42.0) == 118
    assert by(119, silence=50.0) == 118


def test_it_says_at_start_when_its_first_turn_can_be(tmp_path: Path) -> None:
    with RunProcess(tmp_path, "alice", *SHORT, command=["true"]) as runner:
        runner.logs("first turn at ")
    said = runner.log.split("first turn at ")[1].split()[0]
    assert timedelta(seconds=-10) < datetime.now(UTC) - datetime.fromisoformat(said)


def test_the_childs_output_passes_through_untouched_and_logs_go_to_stderr(tmp_path: Path) -> None:
    script = r"printf 'out \377\000 [bold]' ; printf 'err [bold]' >&2"
    with RunProcess(tmp_path, "alice", *SHORT, "--once", command=["sh", "-c", script]) as runner:
        assert runner.wait() == 0
    assert runner.out == b"out \xff\x00 [bold]"
    assert "err [bold]" in runner.log
    assert "ends after" in runner.log


def test_it_runs_again_in_the_next_cycle(tmp_path: Path) -> None:
    with (
        RunProcess(tmp_path, "alice", *SHORT, command=["true"]),
        History(tmp_path) as history,
    ):
        eventually(lambda: len(history.completed()) >= 3, "three cycles are served")
        starts = [run.cycle_start for run in history.completed()]
    assert starts == sorted(set(starts))


def test_every_slot_standbys_and_no_retry_reach_the_settings(tmp_path: Path) -> None:
    options = (*SHORT, "--every-slot", "--standbys", "4", "--no-retry", "--margin", "10ms")
    with RunProcess(tmp_path, "alice", *options, "--once", command=["true"]) as runner:
        assert runner.wait() == 0
    with History(tmp_path) as history:
        settings = history.backend.settings_of(SERVICE)
    assert settings is not None
    assert settings.runs_per_cycle == "every_slot"
    assert settings.standbys == 4
    assert not settings.retry_failed
    assert settings.spread_margin == timedelta(milliseconds=10)


def test_options_after_the_command_are_the_commands_own(tmp_path: Path) -> None:
    script = ["sh", "-c", 'echo "$@"', "sh", "--timeout", "1ms", "--help"]
    with RunProcess(tmp_path, "alice", *SHORT, "--once", command=script) as runner:
        assert runner.wait() == 0
    assert runner.out == b"--timeout 1ms --help\n"


def test_a_command_that_vanishes_after_the_start_is_recorded_as_not_started(
    tmp_path: Path,
) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    with (
        RunProcess(tmp_path, "alice", *SHORT, "--once", command=[str(script)]) as runner,
        History(tmp_path) as history,
    ):
        runner.logs("joins service")
        script.unlink()
        assert runner.wait() == 127
        (run,) = history.runs()
    assert (str(run.status), run.reason) == ("abandoned", "not_started")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--backend", "ftp://x", "--", "true"], "known are memory:, sqlite:, postgresql:"),
        (["--backend", URL, "--interval", "5x", "--", "true"], "such as 30s, 5m, 1h30m or 250ms"),
        (["--backend", URL, "--margin", "5m", "--", "true"], "--margin (5m) must be shorter than"),
        (["--backend", "sqlite:///missing/t.db", "--", "true"], "folder that may be written to"),
        (["--backend", "sqlite:////proc/t.db", "--", "true"], "folder that may be written to"),
        (["--backend", "sqlite:///text.db", "--", "true"], "file is not a database"),
        (["--backend", URL, "--", "./missing.sh"], "'./missing.sh' does not exist"),
        (["--backend", URL, "--", "no-such-command"], "does not exist on the PATH"),
        (["--backend", URL, "--", "./text.db"], "is not executable"),
        (["--backend", URL, "--timeout", "0s", "--", "true"], "--timeout must be positive"),
        (["--backend", URL, "--standbys", "-1", "--", "true"], "--standbys must be 0 or more"),
        (["--backend", URL, "--service", "", "--", "true"], "'--service': it must have 1 to 255"),
        (["--backend", URL, "--service", "a\x1b[31m", "--", "true"], "without control characters"),
        (["--backend", URL, "--runner-id", "x" * 256, "--", "true"], "'--runner-id': it must have"),
        (["--backend", URL, "--", "./"], "'./' is a folder"),
        (["--backend", URL, "--", "./script"], "'./script' needs '/no/such/shell', which cannot"),
        (["--backend", URL, "--", "./crlf"], r"'./crlf' needs '/bin/sh\r', which cannot be run"),
        (["--backend", URL + "?x=1", "--", "true"], "SQLite knows no 'x' here, only table_prefix"),
        (["--backend", URL], "Missing argument"),
        (["--", "true"], "Missing option '--backend'"),
    ],
)
def test_bad_input_is_one_line_with_status_2_before_the_first_turn(
    tmp_path: Path, arguments: list[str], says: str
) -> None:
    (tmp_path / "text.db").write_text("this is a text and no database, whatever its name says\n")
    (tmp_path / "script").write_text("#!/no/such/shell -e\ntrue\n")
    (tmp_path / "crlf").write_bytes(b"#!/bin/sh\r\ntrue\r\n")
    for script in ("script", "crlf"):
        (tmp_path / script).chmod(0o755)
    done = turnwise("run", "--service", SERVICE, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "turns.db").exists(), "nothing is made for what cannot begin"
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("turnwise: ")
    assert says in done.stderr


def test_a_storage_that_nobody_else_can_see_is_warned_of(tmp_path: Path) -> None:
    with RunProcess(
        tmp_path, "alice", *SHORT, "--once", "--backend", "memory:", command=["true"]
    ) as runner:
        assert runner.wait() == 0
    assert "WARNING memory: is this process's own: no other runner takes turns" in runner.log


def test_a_terminals_ctrl_c_reaches_the_child_through_turnwise_alone(tmp_path: Path) -> None:
    """The child leads a session of its own, so that no signal reaches it twice."""
    show = python("import os, pathlib; pathlib.Path('session').write_text(str(os.getsid(0)))")
    with RunProcess(tmp_path, "alice", *SHORT, "--once", command=show) as runner:
        assert runner.wait() == 0
    assert int((tmp_path / "session").read_text()) != os.getsid(0)


def test_the_module_and_the_script_are_the_same_program() -> None:
    script = Path(sys.executable).with_name("turnwise")
    said = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == turnwise("--version").stdout
    assert said.stdout.startswith("turnwise ")
