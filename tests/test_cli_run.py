"""``turnwise run``, with real processes, real children and real signals."""

import contextlib
import errno
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from processes import (
    COMMAND,
    PATIENCE_SECONDS,
    SERVICE,
    History,
    RunProcess,
    command_line,
    environment,
    eventually,
    is_alive,
    turnwise,
    turnwise_here,
)
from turnwise.cli.child import Child, _Successor
from turnwise.cli.run import NO_TURN
from turnwise.cycles import instant
from turnwise.errors import TurnFailedError
from turnwise.gate import Run
from turnwise.schedules import Cron, Every, Schedule
from turnwise.settings import Settings
from turnwise.turn import Turn, TurnView

URL = "sqlite:///turns.db"
# A busy machine holds a process up for half a second now and then: no turn shall be lost for it.
SHORT = ("--every", "1s", "--heartbeat-timeout", "1s", "--grace", "500ms")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def iso(at: int | None) -> str:
    assert at is not None
    return instant(at).isoformat()


def a_turn(lost_in: Callable[[], float] = lambda: 60.0, why: str | None = None) -> Turn:
    """A turn that is lost in so many seconds, and says why where it is lost."""
    run = Run(
        run_id="run",
        runner_id="alice",
        boot_id="boot",
        heartbeat_timeout=60_000_000,
        token=1,
        key=0,
        due=0,
        until=300_000_000,
        cycle_start=0,
        slot_start=0,
        slot_end=100_000_000,
        position=0,
        attempt=1,
        started_at=0,
        size=1,
        digest=0,
    )
    view = TurnView(
        now=lambda: 0,
        deadline=lambda: 100_000_000,
        lost_at=lambda: int(lost_in() * 1_000_000),
        why_lost=lambda: why,
        stop_requested=lambda: False,
        complete=lambda _: None,
        fence=lambda _: None,
    )
    return Turn(run, group="default", service=SERVICE, last_served=None, view=view)


def a_child(command: list[str], *, grace: int = 1, heartbeat_timeout: int = 60) -> Child:
    return Child(
        command,
        timeout=None,
        grace=timedelta(seconds=grace),
        heartbeat_timeout=timedelta(seconds=heartbeat_timeout),
    )


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
        "TURNWISE_GROUP": "default",
        "TURNWISE_SERVICE": SERVICE,
        "TURNWISE_RUNNER_ID": "alice",
        "TURNWISE_RUN_ID": run.id,
        "TURNWISE_FENCING_TOKEN": str(run.token),
        "TURNWISE_DUE": iso(run.due),
        "TURNWISE_ATTEMPT": "1",
        "TURNWISE_LAST_SERVED": "",
        "TURNWISE_SLOT_START": iso(run.slot_start),
        "TURNWISE_SLOT_END": iso(run.slot_end),
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
        (record,) = history.storage.runners("default")
    signals = (tmp_path / "signals").read_text().split()
    assert {"parent", "grandchild"} <= set(signals)
    assert (str(run.status), run.reason) == ("abandoned", "stopped")
    assert record.left_at is not None
    assert f"after {'SIGTERM' if signum is signal.SIGINT else signum.name} the child" in runner.log
    assert "ended with exit:5" in runner.log
    assert "runner alice has left" in runner.log


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
    assert (str(run.status), run.reason) == ("abandoned", "stopped")
    assert "ended with signal:SIGKILL" in runner.log


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
    run = ["-m", "turnwise.cli", "run", "--storage", URL, "--service", SERVICE, *SHORT]
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
    assert "has left" in log


def test_without_room_for_a_guard_no_child_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def full(command: list[str], **options: object) -> None:
        del options
        started.append(command[0])
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    turn, child = a_turn(), a_child(["touch", str(tmp_path / "it-ran")])
    before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", full)
        with pytest.raises(TurnFailedError, match="not_started"):
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
            closed = history.await_ended(lost.id)
            assert (str(closed.status), closed.reason) == ("abandoned", "owner_dead")
            assert is_alive(child), "nothing on this host can end it while turnwise is stopped"
            alice.send(signal.SIGCONT)
            eventually(lambda: not is_alive(child), "the child of the lost turn is ended")
            alice.logs("turn 1 is lost")
        assert history.await_ended(lost.id) == closed, "the late end is not recorded"


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
    options = ("--every", "8s", "--heartbeat-timeout", "4s", "--once")
    with (
        RunProcess(tmp_path, "alice", *options, command=python(UNWILLING)) as alice,
        History(tmp_path) as history,
    ):
        child = eventually(lambda: child_in(tmp_path), "the child runs")
        with contextlib.closing(sqlite3.connect(tmp_path / "turns.db")) as locker:
            locker.execute("BEGIN IMMEDIATE")
            kept = history.await_running()
            (row,) = history.storage.runners("default")
            eventually(lambda: not is_alive(child), "the child is gone")
            locker.rollback()
        assert alice.wait() == 128 + signal.SIGKILL
        assert history.await_ended(kept.id).reason == "lost"
    assert (tmp_path / "asked").exists(), "it was asked to end before"
    last = (tmp_path / "lives").read_text().splitlines()[-1]
    # What is promised is exact below, in the computation. Here the machine may be busy.
    held_up = timedelta(seconds=2)
    assert datetime.fromtimestamp(float(last), UTC) < instant(row.heard_at) + timeout + held_up


def unmoved(*, lives: int) -> Child:
    """A child that does not mind SIGTERM, and has half a minute to end in."""
    command = ["sh", "-c", f"trap '' TERM; touch ready; sleep {lives}"]
    return a_child(command, grace=30, heartbeat_timeout=1)


def test_a_silence_that_has_ended_takes_nothing_of_the_time_that_a_signal_gives(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    child, left = unmoved(lives=1), [1.0, 1.0, 0.2, 0.15]

    def lost_in() -> float:
        if Path("ready").exists():
            child.pass_on(signal.SIGTERM)
            return left.pop() if left else 1.0
        return 1.0

    child(a_turn(lost_in))
    assert child.last_status == 0


@pytest.mark.parametrize("asked", [True, False])
def test_a_child_of_a_lost_turn_has_a_quarter_of_the_heartbeat_timeout_whoever_asked_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    asked: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    child = unmoved(lives=25)

    def lost_in() -> float:
        if not Path("ready").exists():
            return 1.0
        if asked:
            child.pass_on(signal.SIGTERM)
        return 0.0

    with pytest.raises(TurnFailedError, match="lost"):
        child(a_turn(lost_in, why="the storage has closed this run"))
    assert child.last_status == 128 + signal.SIGKILL, "it was not waited for"
    assert "the storage has closed this run: another may start" in caplog.text


def test_of_a_lost_turn_the_time_that_is_left_grows_no_more() -> None:
    left = [60.0]
    successor = _Successor(a_turn(lambda: left[0]), heartbeat_timeout=60.0, notice=15.0)

    def by(now: float, lost_in: float) -> float:
        left[0] = lost_in
        return successor.child_must_be_gone_by(now)

    assert by(100, lost_in=18.1) == math.inf
    assert by(101, lost_in=17.5) == 101 + 17.5 - 3
    assert by(102, lost_in=19.0) == math.inf, "a heartbeat has arrived"
    assert by(103, lost_in=0.0) == 118
    assert by(118, lost_in=0.0) == 118
    assert by(119, lost_in=0.0) == 118


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
        starts = [run.due for run in history.completed()]
    assert starts == sorted(set(starts))


def test_every_option_of_a_service_reaches_its_settings(tmp_path: Path) -> None:
    options = {
        "--start-within": "900ms",
        "--stagger": "auto",
        "--attempts": "7",
        "--timeout": "5s",
        "--standbys": "4",
        "--cycle": "2s",
        "--margin": "10ms",
        "--heartbeat-timeout": "500ms",
        "--max-start-fraction": "0.75",
        "--stabilization": "1ms",
        "--min-run-margin": "2ms",
        "--retention-age": "3d",
        "--retention-count": "77",
        "--every": "1s",
        "--offset": "300ms",
    }
    flags = [part for option in options.items() for part in option]
    with RunProcess(tmp_path, "alice", *flags, "--every-slot", "--once", command=["true"]) as each:
        assert each.wait() == 0
    with History(tmp_path) as history:
        (row,) = history.storage.offers("default")
    assert Settings.from_json(row.offer.settings) == Settings(
        schedule=Every("1s", "300ms"),
        start_within=timedelta(milliseconds=900),
        stagger="auto",
        attempts=7,
        timeout=timedelta(seconds=5),
        runs="every_slot",
        standbys=4,
        cycle=timedelta(seconds=2),
        spread_margin=timedelta(milliseconds=10),
        heartbeat_timeout=timedelta(milliseconds=500),
        max_start_slot_fraction=0.75,
        membership_stabilization=timedelta(milliseconds=1),
        min_run_margin=timedelta(milliseconds=2),
        retention_age=timedelta(days=3),
        retention_count=77,
    )


@pytest.mark.parametrize(
    ("flags", "schedule"),
    [
        ([], Every("5m")),
        (["--cron", "0 3 * * *"], Cron("0 3 * * *")),
        (["--cron", "@daily", "--timezone", "Europe/Vienna"], Cron("@daily", "Europe/Vienna")),
        (["--schedule", "every 1d offset 3h"], Every("1d", "3h")),
        (["--schedule", "cron 0 3 * * * Europe/Vienna"], Cron("0 3 * * *", "Europe/Vienna")),
    ],
)
def test_a_schedule_can_be_said_in_three_ways(
    flags: list[str], schedule: Schedule, tmp_path: Path
) -> None:
    with RunProcess(tmp_path, "alice", *flags, command=["true"]), History(tmp_path) as history:
        (row,) = eventually(lambda: history.storage.offers("default"), "it is offered")
    assert Settings.from_json(row.offer.settings).schedule == schedule


def test_once_no_wait_runs_in_its_turn_and_has_a_status_of_its_own_else(tmp_path: Path) -> None:
    options = (*SHORT, "--once", "--no-wait")
    statuses: list[int] = []
    with History(tmp_path) as history:
        while NO_TURN not in statuses or 3 not in statuses:
            assert len(statuses) < 60, statuses
            script = ["sh", "-c", "exit 3"]
            with RunProcess(tmp_path, "alice", *options, command=script) as runner:
                statuses.append(runner.wait())
        runs = history.runs()
    assert set(statuses) == {3, NO_TURN}, "the first look at a new service serves nothing"
    assert statuses[0] == NO_TURN
    assert [(str(run.status), run.reason) for run in runs] == [("abandoned", "exit:3")]


def test_the_storage_and_the_rest_may_come_from_the_environment_and_stay_out_of_sight(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"sqlite:///{tmp_path / 'turns.db'}\n")
    variables = environment(
        TURNWISE_STORAGE_FILE=str(secret),
        TURNWISE_GROUP="billing",
        TURNWISE_RUNNER_ID="alice",
        TURNWISE_LOG_FORMAT="json",
    )
    # The child shows the command line of turnwise, as any user of the machine can.
    command = ["sh", "-c", "cat /proc/$PPID/cmdline"]
    done = subprocess.run(
        [*COMMAND, "run", "--service", SERVICE, *SHORT, "--once", "--", *command],
        check=True,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "--service" in done.stdout
    assert "sqlite" not in done.stdout
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    started = next(line for line in lines if "turn 1 starts" in line["message"])
    assert {name: started[name] for name in ("group", "service", "runner", "token", "level")} == {
        "group": "billing",
        "service": SERVICE,
        "runner": "alice",
        "token": 1,
        "level": "info",
    }
    assert datetime.fromisoformat(started["time"]).tzinfo == UTC


def test_what_is_below_the_log_level_is_left_out(tmp_path: Path) -> None:
    options = (*SHORT, "--once", "--log-level", "warning")
    with RunProcess(tmp_path, "alice", *options, command=["sh", "-c", "exit 3"]) as runner:
        assert runner.wait() == 3
    assert [line.split()[1] for line in runner.log.splitlines()] == ["WARNING"]


ORPHAN = """
setsid sh -c 'echo $$ > child; until [ -e enough ]; do sleep 0.02; done' &
until [ -s child ]; do sleep 0.02; done
"""


def test_as_the_first_process_of_a_container_it_leaves_no_zombies(tmp_path: Path) -> None:
    subreaper = "import ctypes; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)"  # as pid 1 of a container
    with started_by(subreaper, "--", "sh", "-c", ORPHAN, cwd=tmp_path) as process:
        orphan = eventually(lambda: child_in(tmp_path), "the orphan runs")
        eventually(lambda: parent_of(orphan) == process.pid, "it is inherited")
        (tmp_path / "enough").touch()
        eventually(lambda: not Path(f"/proc/{orphan}").exists(), "it is buried")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0


def parent_of(pid: int) -> int:
    """The number of a process's parent; 0 where there is no such process."""
    stat = Path(f"/proc/{pid}/stat")
    return int(stat.read_bytes().rpartition(b")")[2].split()[1]) if stat.exists() else 0


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
        runner.logs("has joined")
        script.unlink()
        assert runner.wait() == 127
        (run,) = history.runs()
    assert (str(run.status), run.reason) == ("abandoned", "not_started")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--storage", "ftp://x", "--", "true"], "known are memory:, sqlite:, postgresql:"),
        (["--storage", URL, "--every", "5x", "--", "true"], "such as 30s, 5m, 1h30m or 250ms"),
        (["--storage", URL, "--margin", "5m", "--", "true"], "--margin (5m) must be shorter than"),
        (["--storage", "sqlite:///missing/t.db", "--", "true"], "folder that may be written to"),
        (["--storage", "sqlite:////proc/t.db", "--", "true"], "folder that may be written to"),
        (["--storage", "sqlite:///text.db", "--", "true"], "file is not a database"),
        (["--storage", URL, "--", "./missing.sh"], "'./missing.sh' does not exist"),
        (["--storage", URL, "--", "no-such-command"], "does not exist on the PATH"),
        (["--storage", URL, "--", "./text.db"], "is not executable"),
        (["--storage", URL, "--timeout", "0s", "--", "true"], "--timeout must be positive"),
        (["--storage", URL, "--standbys", "-1", "--", "true"], "--standbys must be 0 to 1,000,000"),
        (["--storage", URL, "--service", "", "--", "true"], "'--service': it must have 1 to 255"),
        (["--storage", URL, "--service", "a\x1b[31m", "--", "true"], "without control characters"),
        (["--storage", URL, "--runner-id", "x" * 256, "--", "true"], "'--runner-id': it must have"),
        (["--storage", URL, "--", "./"], "'./' is a folder"),
        (["--storage", URL, "--", "./script"], "'./script' needs '/no/such/shell', which cannot"),
        (["--storage", URL, "--", "./crlf"], r"'./crlf' needs '/bin/sh\r', which cannot be run"),
        (["--storage", URL + "?x=1", "--", "true"], "SQLite knows no 'x' here, only table_prefix"),
        (["--storage", URL], "Missing argument"),
        (["--storage", URL, "--every", "5m", "--cron", "@daily", "--", "true"], "not go together"),
        (["--storage", URL, "--offset", "5m", "--", "true"], "--offset goes with --every alone"),
        (
            ["--storage", URL, "--timezone", "UTC", "--", "true"],
            "--timezone goes with --cron alone",
        ),
        (["--storage", URL, "--cron", "* *", "--", "true"], "--cron must have 5 fields"),
        (["--storage", URL, "--every", "0s", "--", "true"], "--every must be from 1us to 3653d"),
        (["--storage", URL, "--cron", "@daily", "--every-slot", "--", "true"], "--every-slot goes"),
        (["--storage", URL, "--stagger", "soon", "--", "true"], "'soon' is no duration"),
        (["--storage", URL, "--attempts", "x", "--", "true"], "'x' is no whole number"),
        (["--storage", URL, "--no-wait", "--", "true"], "--no-wait goes with --once"),
        (["--storage", URL, "--log-format", "xml", "--", "true"], "'xml' is none of text, json"),
        (["--storage", URL, "--group", "", "--", "true"], "'--group': it must have 1 to 255"),
        (["--", "true"], "no storage is named: give --storage a URL"),
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
    done = turnwise_here("run", "--service", SERVICE, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "turns.db").exists(), "nothing is made for what cannot begin"
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("turnwise: ")
    assert says in done.stderr


def test_bad_input_ends_a_process_with_that_line_and_that_status() -> None:
    done = turnwise("run", "--service", SERVICE, "--", "true")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("turnwise: no storage is named")
    assert done.stderr.count("\n") == 1


def test_a_storage_that_nobody_else_can_see_is_warned_of(tmp_path: Path) -> None:
    with RunProcess(
        tmp_path, "alice", *SHORT, "--once", "--storage", "memory:", command=["true"]
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
