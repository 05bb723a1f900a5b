"""``turnwise up``, with real processes, real children and real signals."""

import os
import pwd
import queue
import re
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from processes import (
    COMMAND,
    PATIENCE_SECONDS,
    environment,
    eventually,
    turnwise,
    turnwise_here,
)
from turnwise.cli import jobs, main, processes
from turnwise.cli import up as up_command
from turnwise.cli.command import Command
from turnwise.cli.file import Common, Configuration, Job, read_text
from turnwise.cli.pings import Pings
from turnwise.cli.serving import next_wish
from turnwise.cli.up import Asked
from turnwise.errors import TurnwiseError
from turnwise.overview.known import runs_of
from turnwise.scheduler import Scheduler
from turnwise.storages.sql import SqlStorage

# A busy machine holds a process up for half a second now and then: no turn shall be lost for it.
SHORT = 'every = "1s"\nheartbeat_timeout = "1s"\n'
NEVER = 'every = "3650d"\n'  # next in December 2029


class Up:
    """``turnwise up`` in a process of its own, in a folder; what it writes goes to ``log``."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self._log = folder / "up.log"
        self._storage = folder / "turns.db"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "up", *arguments],
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment(**variables),
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def logs(self, text: str) -> None:
        eventually(lambda: text in self.log, f"{text!r} in the log:\n{self.log}")

    def completes(self, service: str, count: int = 1, group: str = "default") -> None:
        """Wait until so many runs of a service have completed."""
        what = f"{count} runs of {service} have completed"
        eventually(lambda: len(self.completed(service, group)) >= count, what)

    def completed(self, service: str, group: str = "default") -> list[str]:
        storage = SqlStorage(f"sqlite:///{self._storage}")
        try:
            runs = runs_of(storage, group, service)
        finally:
            storage.close()
        return [run.id for run in runs if str(run.status) == "completed"]

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_SECONDS)


def write(folder: Path, *services: str, common: str = "") -> None:
    """Write a ``turnwise.toml`` with these tables."""
    head = f'[turnwise]\nstorage = "sqlite:///turns.db"\ngrace = "1s"\n{common}\n'
    (folder / "turnwise.toml").write_text(head + "\n".join(services))


def service(name: str, what: str, when: str = SHORT) -> str:
    return f"[services.{name}]\n{when}{what}\n"


def shell(name: str, line: str, more: str = "", when: str = SHORT) -> str:
    return service(name, f"command = '''{line}'''\n{more}", when)


# A file -----------------------------------------------------------------------------------------


def test_all_services_of_a_file_run_in_one_process_until_it_is_told_to_stop(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(
        "import pathlib\n"
        "def plain(turn):\n"
        "    pathlib.Path('plain').write_text(turn.service)\n"
        "async def coroutine():\n"
        "    pathlib.Path('coroutine').touch()\n"
    )
    write(
        tmp_path,
        service("words", 'command = ["touch", "a b"]'),
        shell("line", 'echo "$TURNWISE_SERVICE" | tr a-z A-Z > line'),
        service("plain", 'function = "jobs:plain"'),
        service("coroutine", 'function = "jobs:coroutine"'),
    )
    with Up(tmp_path) as up:
        for name in ("words", "line", "plain", "coroutine"):
            up.completes(name)
        assert up.stop() == 0
    assert (tmp_path / "a b").exists()
    assert (tmp_path / "line").read_text() == "LINE\n"
    assert (tmp_path / "plain").read_text() == "plain"
    assert (tmp_path / "coroutine").exists()
    assert "has left" in up.log


def test_a_command_has_its_own_folder_and_environment(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "here.sh").write_text('#!/bin/sh\necho "$A $B $(pwd)" > told\n')
    (tmp_path / "sub" / "here.sh").chmod(0o755)
    more = 'directory = "sub"\nenvironment = { A = "of the file", TURNWISE_SERVICE = "x" }\n'
    write(tmp_path, service("a", f'command = ["./here.sh"]\n{more}'))
    with Up(tmp_path, A="of the environment", B="kept") as up:
        up.completes("a")
    assert (tmp_path / "sub" / "told").read_text() == f"of the file kept {tmp_path / 'sub'}\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run a command as somebody else")
def test_root_runs_a_command_as_the_user_that_it_names(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    line = 'echo "I am $(id -u) $(id -g) $(id -G) $USER $HOME at $(pwd)"'
    write(tmp_path, shell("a", line, 'user = "nobody"\ndirectory = "/"\n'))
    with Up(tmp_path) as up:
        up.completes("a")
    ids = f"{nobody.pw_uid} {nobody.pw_gid} {nobody.pw_gid}"
    assert f"I am {ids} nobody {nobody.pw_dir} at /\n" in up.log


def test_each_child_is_told_to_end_and_killed_at_the_end_of_its_grace(tmp_path: Path) -> None:
    write(
        tmp_path,
        shell("willing", "trap 'touch told; exit 5' TERM; touch w; while :; do sleep 0.05; done"),
        shell("unwilling", "trap '' TERM; touch u; while :; do sleep 0.05; done"),
    )
    with Up(tmp_path) as up:
        eventually(lambda: (tmp_path / "w").exists() and (tmp_path / "u").exists(), "both run")
        assert up.stop() == 0
    assert (tmp_path / "told").exists()
    assert up.log.count("abandoned stopped") == 2, up.log


def test_a_process_that_is_killed_is_taken_over_from_by_another(tmp_path: Path) -> None:
    write(tmp_path, shell("a", "true", "standbys = 1\n"))
    with Up(tmp_path, "--runner-id", "one") as one:
        one.completes("a")
        (tmp_path / "up.log").rename(tmp_path / "one.log")
        with Up(tmp_path, "--runner-id", "two") as two:
            two.logs("runner two has joined")
            one.process.kill()
            two.logs("a: turn")


# Loading anew -----------------------------------------------------------------------------------


def test_a_file_that_is_loaded_anew_adds_changes_and_removes_services(tmp_path: Path) -> None:
    hold = "touch began; until [ -e go ]; do sleep 0.02; done; touch held"
    write(
        tmp_path,
        shell("stays", "touch stays"),
        shell("changes", "touch old"),
        shell("goes", hold),
    )
    with Up(tmp_path) as up:
        eventually((tmp_path / "began").exists, "the run of what goes has begun")
        up.completes("changes")
        write(
            tmp_path,
            shell("stays", "touch stays"),
            shell("changes", "touch new", "attempts = 2\n"),
            shell("comes", "touch comes"),
        )
        up.reload()
        up.logs("loaded anew: added comes; changed changes; removed goes")
        eventually((tmp_path / "new").exists, "the changed command has run")
        up.completes("comes")
        (tmp_path / "go").touch()
        up.completes("goes")
        before = len(up.completed("stays"))
        up.completes("stays", before + 2)
        assert len(up.completed("goes")) == 1, "it was removed"
        assert up.stop() == 0
    assert (tmp_path / "held").exists(), "the run that was at work went on to its end"
    # A short run may be at work as all is stopped; no run of what goes ends so.
    assert "goes: turn" in up.log
    assert not re.search(r"goes: turn .* abandoned", up.log)


def test_a_bad_file_leaves_the_old_one_in_force_and_says_why(tmp_path: Path) -> None:
    write(tmp_path, shell("a", "true"))
    with Up(tmp_path) as up:
        up.completes("a")
        write(tmp_path, shell("b", "true", "attemps = 2\n"))
        up.reload()
        up.logs("turnwise.toml:9: services.b: 'attemps' is unknown; did you mean attempts?")
        up.logs("turnwise.toml is not loaded: what it said before stays in force")
        before = len(up.completed("a"))
        up.completes("a", before + 2)
        (tmp_path / "turnwise.toml").unlink()
        up.reload()
        up.logs("turnwise.toml: it cannot be read: No such file")
        before = len(up.completed("a"))
        up.completes("a", before + 1)
        assert up.stop() == 0


def test_a_file_whose_program_ends_as_it_is_imported_ends_nothing_that_is_served(
    tmp_path: Path,
) -> None:
    write(tmp_path, shell("a", "true"))
    with Up(tmp_path) as up:
        up.completes("a")
        (tmp_path / "script.py").write_text("raise SystemExit('done')\n")
        with (tmp_path / "turnwise.toml").open("a") as file:
            file.write(f'[services.b]\n{NEVER}function = "script:main"\n')
        up.reload()
        up.logs("'script' cannot be imported: SystemExit: done")
        up.completes("a", len(up.completed("a")) + 1)
        assert up.stop() == 0


def test_a_bug_as_a_file_is_loaded_anew_ends_nothing_that_is_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(name: str) -> Configuration:
        raise ZeroDivisionError(name)

    monkeypatch.setattr(up_command, "read_jobs", fails)
    file = object.__new__(up_command._File)
    file._configuration = before = Configuration("x.toml", Common(), ())
    file._reload()
    assert file._configuration is before
    assert "x.toml is not loaded, by a bug" in caplog.text


def test_what_holds_for_all_counts_from_the_next_start(tmp_path: Path) -> None:
    write(tmp_path, shell("a", "true"))
    with Up(tmp_path) as up:
        up.completes("a")
        write(tmp_path, shell("a", "true"), common='group = "other"')
        up.reload()
        up.logs("[turnwise] has changed, which counts from the next start")
        up.logs("loaded anew: no change")
        before = len(up.completed("a"))
        up.completes("a", before + 1)


# Who says what ----------------------------------------------------------------------------------

PLACES = ("command line", "environment", "file", "default")
OPTIONS = {
    "storage": ("--storage", "TURNWISE_STORAGE"),
    "group": ("--group", "TURNWISE_GROUP"),
    "runner_id": ("--runner-id", "TURNWISE_RUNNER_ID"),
    "log_format": ("--log-format", "TURNWISE_LOG_FORMAT"),
}
VALUES = {
    "storage": ("sqlite:///one.db", "sqlite:///two.db", "sqlite:///three.db", None),
    "group": ("one", "two", "three", "default"),
    "runner_id": ("one", "two", "three", None),
    "log_format": ("json", "text", "json", "text"),
}
PAIRS = [(stronger, weaker) for stronger in range(4) for weaker in range(stronger + 1, 4)]


@pytest.mark.parametrize("name", list(OPTIONS))
@pytest.mark.parametrize(("stronger", "weaker"), PAIRS)
def test_of_two_places_that_say_something_the_stronger_one_counts(
    name: str, stronger: int, weaker: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is: command line, environment, file, default."""
    for variable in (*(variable for _, variable in OPTIONS.values()), "TURNWISE_STORAGE_FILE"):
        monkeypatch.delenv(variable, raising=False)
    flag, variable = OPTIONS[name]
    values = VALUES[name]
    said = {stronger, weaker}
    in_file: dict[str, Any] = {name: values[2]} if 2 in said else {}
    file = Common(**in_file)
    if 1 in said:
        monkeypatch.setenv(variable, str(values[1]))
    seen: list[Asked] = []

    def checked(configuration: Configuration, in_force: Asked) -> int:
        assert configuration.common is file
        seen.append(in_force)
        return 0

    monkeypatch.setattr(up_command, "read_jobs", lambda name: Configuration(name, file, ()))
    monkeypatch.setattr(up_command, "_check", checked)
    arguments = ["--check", *([flag, str(values[0])] if 0 in said else [])]
    assert main(["up", *arguments]) == 0
    (in_force,) = seen
    assert getattr(in_force, name) == values[min(said)]


def test_the_file_that_a_variable_or_the_file_names_holds_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TURNWISE_STORAGE", raising=False)
    monkeypatch.delenv("TURNWISE_STORAGE_FILE", raising=False)
    (tmp_path / "of-file").write_text("sqlite:///a.db\n")
    (tmp_path / "of-variable").write_text("sqlite:///b.db\n")
    said = Common(storage_file=str(tmp_path / "of-file"))
    assert Asked().over(said).storage == "sqlite:///a.db"
    monkeypatch.setenv("TURNWISE_STORAGE_FILE", str(tmp_path / "of-variable"))
    assert Asked().over(said).storage == "sqlite:///b.db"
    assert Asked(storage="memory:").over(said).storage == "memory:"


def test_a_real_process_goes_by_that_order(tmp_path: Path) -> None:
    write(tmp_path, shell("a", 'echo "$TURNWISE_GROUP $TURNWISE_RUNNER_ID" > told'))
    text = (tmp_path / "turnwise.toml").read_text()
    text = text.replace("[turnwise]", '[turnwise]\ngroup = "file"\nrunner_id = "file"')
    (tmp_path / "turnwise.toml").write_text(text)
    with Up(tmp_path, "--runner-id", "line", TURNWISE_GROUP="env", TURNWISE_RUNNER_ID="env") as up:
        up.completes("a", group="env")
    assert (tmp_path / "told").read_text() == "env line\n"


# Before anything is started ---------------------------------------------------------------------


def test_check_says_what_would_run_when_in_utc_and_in_the_zone(tmp_path: Path) -> None:
    write(
        tmp_path,
        service(
            "nightly", 'command = ["ls", "-l"]', 'cron = "0 3 1 7 *"\ntimezone = "Asia/Tokyo"\n'
        ),
        shell("relay", "echo hello | cat", when='every = "1d"\n'),
    )
    done = turnwise_here("up", "--check", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:2] == [
        "turnwise.toml: 2 services, group default",
        "storage: sqlite:///turns.db",
    ]
    assert "  when  cron 0 3 1 7 * Asia/Tokyo" in lines
    assert "  runs  ls -l" in lines
    assert "  runs  echo hello | cat" in lines
    dues = [line for line in lines if "Asia/Tokyo" in line and "UTC" in line]
    assert len(dues) == 3
    assert all("-06-30 18:00:00 UTC, " in due and " 03:00:00 in Asia/" in due for due in dues)
    assert sum("00:00:00 UTC" in line for line in lines) == 3
    assert not (tmp_path / "turns.db").exists(), "nothing was started"


def test_a_password_is_not_shown_and_a_storage_that_is_not_named_is_said(tmp_path: Path) -> None:
    write(tmp_path, shell("a", "true"))
    shown = turnwise_here("up", "--check", "--storage", "postgresql://a:secret@b/c", cwd=tmp_path)
    assert "secret" not in shown.stdout
    assert "postgresql://a:***@b/c" in shown.stdout
    (tmp_path / "turnwise.toml").write_text(shell("a", "true"))
    done = turnwise_here("up", "--check", cwd=tmp_path)
    assert done.returncode == 0
    assert "storage: not named here, so TURNWISE_STORAGE must name it" in done.stdout
    none = turnwise_here("up", "--check", "--storage", "postgras://a:secret@b/c", cwd=tmp_path)
    assert (none.returncode, none.stdout) == (2, "")
    assert "no storage has the scheme 'postgras'" in none.stderr
    assert "secret" not in none.stderr
    refused = turnwise("up", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("turnwise: no storage is named")


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('every = "5m"\ncommand = ["./nosuch"]', "the command './nosuch' does not exist"),
        ('every = "5m"\ncommand = ["nosuch"]', "the command 'nosuch' does not exist on the PATH"),
        ('every = "5m"\ncommand = "a"\ndirectory = "no"', "the directory 'no' does not exist"),
        ('every = "5m"\ncommand = "a"\nuser = "no-such"', "there is no user 'no-such'"),
        ('every = "5m"\nfunction = "nosuch:f"', "'nosuch' cannot be imported: ModuleNotFound"),
        ('every = "5m"\nfunction = "os:nosuch"', "'os' has no 'nosuch'"),
        ('every = "5m"\nfunction = "os:sep"', "function must be callable"),
        ('every = "5m"\nfunction = "broken:f"', "'broken' cannot be imported: ZeroDivisionError"),
        ('every = "5m"\nfunction = "exits:f"', "'exits' cannot be imported: SystemExit: 3"),
        (
            'every = "5m"\ncommand = "a"\ndirectory = "~no-such/x"',
            "the command cannot be looked for: Could not determine home directory",
        ),
        (
            f'every = "5m"\ncommand = "a"\ndirectory = "{"x" * 300}"',
            "the command cannot be looked for: File name too long",
        ),
    ],
)
def test_what_cannot_run_here_is_said_with_its_line_and_nothing_is_started(
    table: str, said: str, check: bool, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "turnwise.toml").write_text(f"# a comment\n[services.a]\n{table}\n")
    done = turnwise_here("up", *(["--check"] if check else []), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("turnwise.toml:2: services.a: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_user_other_than_oneself_needs_root(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    monkeypatch.setattr(os, "geteuid", lambda: nobody)
    assert jobs._why_not_as("nobody") is None
    assert jobs._why_not_as("root") == (
        "user ('root') needs turnwise to run as root, and it runs as 'nobody'"
    )
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)  # a container's user, who has no name
    assert jobs._why_not_as("root") == (
        "user ('root') needs turnwise to run as root, and it runs as '54321'"
    )


# A program --------------------------------------------------------------------------------------

PROGRAM = """\
import pathlib
from turnwise import Scheduler

scheduler = Scheduler()
other = Scheduler()

@scheduler.every("1s", heartbeat_timeout="1s")
def tick(turn):
    pathlib.Path("told").write_text(turn.group)

@scheduler.cron("0 3 * * *", timezone="Asia/Tokyo")
def nightly(): ...
"""


def test_the_scheduler_of_a_program_is_served_by_the_environment(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "jobs.py").write_text(PROGRAM)
    named = {"TURNWISE_STORAGE": "sqlite:///turns.db", "TURNWISE_GROUP": "g"}
    with Up(tmp_path, "app.jobs:scheduler", **named) as up:
        up.completes("tick", group="g")
        up.reload()
        up.logs("SIGHUP: a program is not loaded anew")
        up.completes("tick", len(up.completed("tick", "g")) + 1, group="g")
        assert up.stop() == 0
    assert (tmp_path / "told").read_text() == "g"


def test_check_shows_when_the_services_of_a_program_are_due(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(PROGRAM)
    done = turnwise_here("up", "jobs:scheduler", "--check", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("18:00:00 UTC, ") == 3
    assert done.stdout.startswith("jobs:scheduler: 2 services, group ")
    assert "\ntick\n  when  every 1s\n  due   " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["jobs:tick"], "'jobs:tick' must be a turnwise.Scheduler, got <function tick"),
        (["jobs:nosuch"], "'jobs' has no 'nosuch'"),
        (["nosuch:scheduler"], "'nosuch' cannot be imported: ModuleNotFoundError"),
        (["jobs:other"], "'jobs:other' has no service"),
        (["jobs:scheduler"], "no storage is named"),
        (["jobs:scheduler", "--group", "x"], "its Scheduler(group=...) says it"),
        (["jobs:scheduler", "--storage", "memory:"], "its Scheduler(URL) says it"),
        (["jobs:scheduler", "--runner-id", "x"], "its Scheduler(runner_id=...) says it"),
        (["jobs:scheduler", "--grace", "5s"], "its Scheduler(grace=...) says it\n"),
        (["jobs.py"], "'jobs.py' is a module: name a file of services, or the scheduler"),
        (["nosuch.toml"], "'nosuch.toml' does not exist: name a file of services"),
        ([], "'turnwise.toml' does not exist: name a file of services"),
        (["jobs:scheduler", "--log-level", "loud"], "'loud' is none of debug, info"),
    ],
)
def test_what_is_no_scheduler_is_refused(arguments: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(PROGRAM)
    done = turnwise_here("up", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.startswith("turnwise: ")
    assert done.stderr.count("\n") == 1


# Pings ------------------------------------------------------------------------------------------


def test_the_switches_of_a_file_are_told_and_change_with_it(tmp_path: Path) -> None:
    heard: list[str] = []

    class Switch(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Switch)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        write(tmp_path, shell("a", "true", f'ping_url = "{url}/one"\n'), shell("b", "true"))
        with Up(tmp_path) as up:
            eventually(lambda: {"/one/start", "/one"} <= set(heard), "the switch was told")
            write(tmp_path, shell("a", "true", f'ping_url = "{url}/two"\n'), shell("b", "true"))
            up.reload()
            eventually(lambda: "/two" in heard, "the other switch was told")
            assert up.stop() == 0
    finally:
        server.shutdown()
        server.server_close()
    assert {path.split("/")[1] for path in heard} == {"one", "two"}


def test_a_file_that_is_loaded_anew_with_the_same_switches_loses_no_ping_that_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[dict[str, str]] = []
    closed: list[object] = []

    class Switch:
        def __init__(self, urls: dict[str, str]) -> None:
            made.append(urls)

        def close(self) -> None:
            closed.append(self)

    monkeypatch.setattr("turnwise.observers.ping.Ping", Switch)

    def jobs_with(url: str, every: str) -> tuple[Job, ...]:
        text = f'[services.a]\nevery = "{every}"\ncommand = "true"\nping_url = "{url}"\n'
        return read_text(text, "x.toml").jobs

    pings = Pings(jobs_with("http://host/1", "1m"))
    pings.change(jobs_with("http://host/1", "2m"))
    assert (len(made), len(closed)) == (1, 0)
    pings.change(jobs_with("http://host/2", "2m"))
    assert (len(made), len(closed)) == (2, 1)
    pings.close()
    assert len(closed) == 2


def test_a_url_that_cannot_be_pinged_is_refused_and_not_shown(tmp_path: Path) -> None:
    write(tmp_path, shell("a", "true", 'ping_url = "ftp://secret"\n'))
    done = turnwise_here("up", "--check", cwd=tmp_path)
    assert done.returncode == 2
    assert "turnwise.toml:5: services.a: ping_url: the URL for the pings of" in done.stderr
    assert "secret" not in done.stderr


# Who a command runs as --------------------------------------------------------------------------


def test_a_command_has_all_groups_of_its_user_and_none_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr(os, "getgrouplist", lambda name, group: [group, 7, len(name)])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert processes._identity("nobody") == {
        "user": nobody.pw_uid,
        "group": nobody.pw_gid,
        "extra_groups": [nobody.pw_gid, 7, 6],
    }
    monkeypatch.setattr(os, "geteuid", lambda: nobody.pw_uid)
    assert processes._identity("nobody") == {}, "who is it already needs no right to become it"
    with pytest.raises(OSError, match="there is no user 'no-such'"):
        processes._identity("no-such")


def test_a_home_is_that_of_whom_a_command_runs_as(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    root = pwd.getpwnam("root").pw_dir
    assert Command(("a",)).working_directory() is None
    assert Command(("a",), directory="~/x").working_directory() == "/home/me/x"
    assert Command(("a",), user="root").working_directory() == root
    assert Command(("a",), directory="~/x", user="root").working_directory() == f"{root}/x"
    assert Command(("a",), directory="/srv", user="root").working_directory() == "/srv"
    with pytest.raises(OSError, match="there is no user 'no-such'"):
        Command(("a",), user="no-such").working_directory()


# Ends that nobody asked for ---------------------------------------------------------------------


def test_a_scheduler_that_has_ended_by_itself_ends_the_program_that_waits() -> None:
    scheduler = Scheduler("memory:")
    scheduler.add(print, "every 1d", name="a")
    wishes: queue.SimpleQueue[None] = queue.SimpleQueue()
    with scheduler:
        wishes.put(None)
        assert next_wish(wishes, scheduler) is None
        assert scheduler._engine is not None
        scheduler._engine.request_stop()
        with pytest.raises(TurnwiseError, match="the scheduler has ended; its log says why"):
            next_wish(wishes, scheduler)


def test_a_signals_handler_that_runs_as_the_wait_has_begun_is_heard() -> None:
    """It waits in steps: Python runs a handler when a wait is over, if nothing interrupts it."""
    waits: list[float | None] = []

    class Deaf(queue.SimpleQueue[str]):
        def get(self, block: bool = True, timeout: float | None = None) -> str:  # noqa: FBT002
            waits.append(timeout)
            if len(waits) == 1:
                raise queue.Empty
            return super().get(block, timeout)

    wishes = Deaf()
    wishes.put("stop")
    with Scheduler("memory:") as scheduler:
        assert next_wish(wishes, scheduler) == "stop"
    assert waits == [0.5, 0.5]
