"""``turnwise import-crontab``: what comes over, what is said of the rest, and that it runs."""

import io
import os
import shutil
import tomllib
from pathlib import Path

import pytest

from processes import turnwise_here
from test_cli_up import Up
from turnwise.cli import main
from turnwise.cli.crontab import CronJob, Crontab, read_crontab
from turnwise.cli.file import read_text
from turnwise.cli.import_crontab import _name, _text, _written, machines_zone


def read(text: str, *, is_system: bool = False, timezone: str | None = None) -> Crontab:
    return read_crontab(text, is_system=is_system, timezone=timezone, default_timezone="UTC")


def only(text: str, *, is_system: bool = False, timezone: str | None = None) -> CronJob:
    (job,) = read(text, is_system=is_system, timezone=timezone).jobs
    return job


def said(text: str, *, is_system: bool = False) -> list[str]:
    """What is said of a crontab of which nothing comes over."""
    crontab = read(text, is_system=is_system)
    assert crontab.jobs == []
    return [f"{remark.line}: {remark.message}" for remark in crontab.remarks]


def test_a_line_is_five_fields_and_a_command_to_its_end() -> None:
    assert only("\n\n  */5\t0-6 * jan mon-fri   cd /a &&  ./b  c  ") == CronJob(  # noqa: S604 (nothing is run)
        line=3,
        expression="*/5 0-6 * jan mon-fri",
        timezone="UTC",
        command="cd /a &&  ./b  c",
        shell="/bin/sh",
        home="~",
        user=None,
        environment=(),
    )


@pytest.mark.parametrize("nickname", ["@hourly", "@daily", "@midnight", "@weekly", "@monthly"])
def test_a_nickname_stands_for_its_fields(nickname: str) -> None:
    job = only(f"{nickname} a b")
    assert (job.expression, job.command) == (nickname, "a b")


def test_in_a_system_crontab_a_user_stands_before_the_command() -> None:
    job = only("0 3 * * * root /opt/a b", is_system=True)
    assert (job.user, job.command) == ("root", "/opt/a b")
    assert only("@daily www-data a", is_system=True).user == "www-data"


def test_variables_count_for_the_jobs_below_them() -> None:
    first, second = read(
        'A = 1\n* * * * * a\nA="2 3"\n "B"=\'x\'\nSHELL=/bin/bash\nHOME=/srv\n* * * * * b\n'
    ).jobs
    assert (first.environment, first.shell, first.home) == ((("A", "1"),), "/bin/sh", "~")
    assert second.environment == (("A", "2 3"), ("B", "x"))
    assert (second.shell, second.home) == ("/bin/bash", "/srv")


def test_a_zone_is_the_crontabs_own_then_the_callers_then_that_of_its_commands() -> None:
    line = "0 3 * * * a"
    assert only(line).timezone == "UTC"
    assert only(line, timezone="Asia/Tokyo").timezone == "Asia/Tokyo"
    assert only(f"TZ=Europe/Paris\n{line}").timezone == "Europe/Paris"
    assert only(f"TZ=Europe/Paris\n{line}").environment == (("TZ", "Europe/Paris"),)
    assert only(f"TZ=Europe/Paris\n{line}", timezone="Asia/Tokyo").timezone == "Asia/Tokyo"
    both = f"CRON_TZ=Europe/Vienna\nTZ=Europe/Paris\n{line}"
    assert only(both, timezone="Asia/Tokyo").timezone == "Europe/Vienna"
    assert only(both).environment == (("TZ", "Europe/Paris"),)
    assert read(both).remarks == []
    (remark,) = read(f"TZ=Europe/Paris\n{line}").remarks
    assert remark.message.startswith("TZ=Europe/Paris is taken for the schedules below, too.")


def test_a_percent_sign_that_is_escaped_is_one() -> None:
    assert only(r"0 3 * * * tar f-$(date +\%F).tgz").command == "tar f-$(date +%F).tgz"


def test_a_comment_right_above_a_job_goes_with_it() -> None:
    first, second = read("# far\n\n# near\n#  and nearer\n0 1 * * * a\n0 2 * * * b\n").jobs
    assert (first.comment, second.comment) == (("near", "and nearer"), ())


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("@reboot a", "1: left out: @reboot has no counterpart: nothing restarts with a host"),
        ("\n0 3 * * * mail -s x root%hello", "2: left out: what % sends to the command's stdin"),
        ("0 3 * * a", "1: left out: there is no command in it"),
        ("61 * * * * a", "1: left out: expression '61 * * * *': minute must be 0 to 59"),
        ("@often a", "1: left out: expression must have 5 fields"),
        ("CRON_TZ=Europe/Wien\n0 3 * * * a", "2: left out: timezone must be the name of a zone"),
        ("MAILTO=ops@example.com", "1: MAILTO has no counterpart: output goes where turnwise's"),
        ("RANDOM_DELAY=10", "1: RANDOM_DELAY has no counterpart; stagger comes near it"),
    ],
)
def test_what_has_no_counterpart_is_said_with_its_line(text: str, remark: str) -> None:
    (line,) = said(text)
    assert line.startswith(remark)


def test_a_system_crontab_without_users_is_noticed() -> None:
    (line,) = said("0 3 * * *", is_system=True)
    assert "there is no user before its command" in line


def test_mail_that_nobody_gets_is_passed_over() -> None:
    assert read('MAILTO=""\n0 3 * * * a').remarks == []


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/opt/app/bin/report --yesterday >> /tmp/log 2>&1", "report"),
        ("cd /opt/app && ./tidy.sh", "tidy"),
        ("flock -n /tmp/lock /usr/bin/python3 /opt/send_mail.py", "send_mail"),
        ("timeout 5m nice -n 19 backup", "backup"),
        ("FOO=1 env BAR=2 ./a.b.c", "a"),
        ("[ -x /usr/bin/certbot ] && certbot renew", "certbot"),
        ("'quoted name'", "quoted"),
        ("&& ||", "job"),
    ],
)
def test_a_service_is_named_after_the_first_program_that_says_what_it_does(
    command: str, name: str
) -> None:
    assert _name(command) == name


@pytest.mark.parametrize(
    "text", ["", "a", "it's", 'say "x"', "a\\b", "tab\there", "\x07", "ä\U0001f600", "'\"\\", "x\n"]
)
def test_a_text_is_written_so_that_it_is_read_back(text: str) -> None:
    assert tomllib.loads(f"a = {_text(text)}") == {"a": text}


@pytest.mark.parametrize(
    "crontab",
    [
        "# a\x01b\x7f\n* * * * * a\n",
        f"* * * * * /opt/{'a' * 300}\n* * * * * /opt/{'a' * 300}\n",
        "HOME=\nSHELL=''\n* * * * * a\n",
    ],
)
def test_what_is_written_can_be_read_whatever_stands_in_the_crontab(crontab: str) -> None:
    written = "\n".join(_written(read(crontab), None))
    assert len(read_text(written, "x.toml").jobs) == crontab.count("* * * * *")


def test_what_no_command_can_have_is_left_out() -> None:
    why = "left out: there is a NUL in it, or in a variable above it"
    assert said("* * * * * a\0b") == [f"1: {why}"]
    assert said("A=b\0c\n* * * * * a") == [f"2: {why}"]


def test_what_comes_in_on_stdin_and_is_no_text_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff"), encoding="utf-8"))
    assert main(["import-crontab", "-"]) == 2
    assert capsys.readouterr().err == "turnwise: '-' is no text in UTF-8\n"


def test_the_machines_zone_is_the_one_that_cron_goes_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Vienna")
    assert machines_zone() == "Europe/Vienna"
    monkeypatch.setenv("TZ", "nonsense")
    assert machines_zone() == "UTC"
    monkeypatch.delenv("TZ")
    monkeypatch.setattr(os.path, "realpath", lambda _: "/usr/share/zoneinfo/Asia/Tokyo")
    assert machines_zone() == "Asia/Tokyo"
    monkeypatch.setattr(os.path, "realpath", lambda _: "/usr/share/zoneinfo/Etc/UTC")
    assert machines_zone() == "UTC"


# The command --------------------------------------------------------------------------------

TEN_LINES = """\
SHELL=/bin/sh
MAILTO=ops@example.com
CRON_TZ=Europe/Vienna
# The nightly report
0 3 * * * echo report >> report.log 2>&1
*/10 * * * 1-5 cd /tmp && touch x
@daily find . -name 'old*' -mtime +7 -delete
@reboot touch started
30 4 1 * * tar czf "all-$(date +\\%F).tgz" .
* * * * * * touch every-second
"""


def test_a_crontab_of_ten_lines_comes_over_in_one_command_and_runs(tmp_path: Path) -> None:
    """The last line has seconds, which cron has not: so that this test need not wait a minute."""
    # cron would take the sixth field for the command's first word.
    crontab = TEN_LINES.replace("* * * * * * touch", "* * * * * touch")
    (tmp_path / "crontab").write_text(crontab)
    home = {"HOME": str(tmp_path), "TURNWISE_STORAGE": "sqlite:///turns.db"}
    done = turnwise_here("import-crontab", "crontab", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "crontab:2: MAILTO has no counterpart: output goes where turnwise's own goes",
        "crontab:8: left out: @reboot has no counterpart: nothing restarts with a host",
    ]
    assert "# The nightly report\n[services.echo]\n" in done.stdout
    names = [job.name for job in read_text(done.stdout, "f").jobs]
    assert names == ["echo", "touch", "find", "tar", "touch-2"]
    soon = done.stdout.replace('cron = "* * * * *"', 'cron = "* * * * * *"')
    (tmp_path / "turnwise.toml").write_text(soon)
    checked = turnwise_here("up", "--check", cwd=tmp_path, **home)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.count(" in Europe/Vienna\n") == 15
    with Up(tmp_path, **home) as up:
        up.completes("touch-2", 2)
        assert up.stop() == 0
    assert (tmp_path / "every-second").exists(), "it ran at home, as under cron"


def test_a_crontab_comes_in_on_stdin_too_and_the_storage_is_written_where_it_is_said() -> None:
    text = "MAILTO=''\n0 3 * * * a\n"
    done = turnwise_here("import-crontab", "-", "--storage", "sqlite:///x.db", stdin=text, TZ="UTC")
    assert done.returncode == 0
    assert done.stderr == "stdin: times are read in UTC; say --timezone where that is not meant\n"
    assert read_text(done.stdout, "f").common.storage == "sqlite:///x.db"
    moved = turnwise_here("import-crontab", "-", "--timezone", "Asia/Tokyo", stdin=text)
    assert (moved.returncode, moved.stderr) == (0, "")
    assert str(read_text(moved.stdout, "f").jobs[0].settings.schedule) == (
        "cron 0 3 * * * Asia/Tokyo"
    )


def test_a_system_crontab_keeps_its_users_and_one_that_looks_like_it_is_asked_about() -> None:
    text = "0 3 * * * root /bin/a\n0 4 * * * nobody /bin/b\n"
    done = turnwise_here("import-crontab", "--system", "-", stdin=text, TZ="UTC")
    first, second = read_text(done.stdout, "f").jobs
    assert first.command is not None
    assert second.command is not None
    assert (first.command.user, second.command.user) == ("root", "nobody")
    other = turnwise_here("import-crontab", "-", stdin=text, TZ="UTC")
    assert "each command begins with a user's name; if it is one, say --system" in other.stderr
    assert "--system" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (["nosuch"], "", "turnwise: 'nosuch' cannot be read: No such file or directory"),
        (["-"], "", "turnwise: '-' has no job that can be taken over"),
        (["-"], "@reboot a", "turnwise: '-' has no job that can be taken over"),
        (["-", "--timezone", "x"], "* * * * * a", "turnwise: --timezone: timezone must be the "),
        (["-", "--storage", "redis://a@b@c"], "* * * * * a", "turnwise: storage "),
    ],
)
def test_bad_input_is_one_line_and_a_status_of_2(
    arguments: list[str], stdin: str, said: str, tmp_path: Path
) -> None:
    done = turnwise_here("import-crontab", *arguments, stdin=stdin, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(said)
    assert done.stdout == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_shell_that_a_crontab_names_runs_its_commands(tmp_path: Path) -> None:
    text = f"SHELL=/bin/bash\nHOME={tmp_path}\n* * * * * [[ -n $BASH_VERSION ]] && touch bash\n"
    done = turnwise_here("import-crontab", "-", stdin=text, cwd=tmp_path)
    soon = done.stdout.replace("* * * * *", "* * * * * *")
    (tmp_path / "turnwise.toml").write_text(soon)
    (name,) = [job.name for job in read_text(soon, "f").jobs]
    with Up(tmp_path, TURNWISE_STORAGE="sqlite:///turns.db") as up:
        up.completes(name)
    assert (tmp_path / "bash").exists()
