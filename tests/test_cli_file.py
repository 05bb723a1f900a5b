"""A file of services: what is read, what is refused, and on which line."""

import json
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from processes import turnwise
from turnwise.cli.command import Command
from turnwise.cli.file import BadFile, Common, Job, read_file, read_text
from turnwise.cli.file_keys import COMMON, KNOBS, SERVICE, json_schema
from turnwise.cli.toml_lines import line_of, lines_of
from turnwise.schedules import Cron, Every
from turnwise.settings import Settings

WHOLE = """\
[turnwise]
storage = "postgresql://app@db/app"
group = "billing"
runner_id = "web-1"
grace = "30s"
log_format = "json"
log_level = "warning"

[services.nightly]
cron = "0 3 * * *"
timezone = "Europe/Vienna"
command = ["./report.sh", "--all"]
environment = { LANG = "C", MODE = "fast" }
directory = "/srv/app"
user = "nobody"
timeout = "1h"
attempts = 2
stagger = "10m"

[services.relay]
every = "30s"
offset = "5s"
command = "echo a | cat"
runs = "every_slot"
max_start_slot_fraction = 1
release_on_timeout = true

[services."tidy up"]
schedule = "every 1d offset 3h"
function = "app.jobs:tidy"
"""


def test_a_file_says_what_holds_for_all_and_for_each_service() -> None:
    read = read_text(WHOLE, "turnwise.toml")
    assert read.common == Common(
        storage="postgresql://app@db/app",
        group="billing",
        runner_id="web-1",
        grace=timedelta(seconds=30),
        log_format="json",
        log_level="warning",
    )
    nightly, relay, tidy = read.jobs
    assert nightly == Job(
        name="nightly",
        line=0,
        settings=Settings(
            schedule=Cron("0 3 * * *", "Europe/Vienna"),
            timeout=timedelta(hours=1),
            attempts=2,
            stagger=timedelta(minutes=10),
        ),
        command=Command(
            ("./report.sh", "--all"),
            directory="/srv/app",
            environment=(("LANG", "C"), ("MODE", "fast")),
            user="nobody",
        ),
        function=None,
    )
    assert relay.settings == Settings(
        schedule=Every("30s", "5s"),
        runs="every_slot",
        max_start_slot_fraction=1.0,
        release_on_timeout=True,
    )
    assert relay.command == Command(("/bin/sh", "-c", "echo a | cat"))
    assert (tidy.name, tidy.command, tidy.function) == ("tidy up", None, "app.jobs:tidy")
    assert tidy.settings.schedule == Every("1d", "3h")
    assert [job.line for job in read.jobs] == [9, 20, 28]


def a_value(name: str) -> object:
    """A value of a knob that is not its default, as a file has it."""
    values: dict[str, object] = {
        "stagger": "auto",
        "release_on_timeout": True,
        "runs": "every_slot",
        "max_start_slot_fraction": 0.25,
        "min_run_margin": "1ms",
        "spread_margin": "2s",
    }
    if name in values:
        return values[name]
    return 7 if "whole" in KNOBS[name].kind.said else "45s"


@pytest.mark.parametrize("name", list(KNOBS))
def test_every_knob_can_be_said_and_counts(name: str) -> None:
    text = f'[services.a]\nevery = "5m"\ncommand = "a"\n{name} = {json.dumps(a_value(name))}\n'
    (job,) = read_text(text, "f").jobs
    default = Settings(schedule=Every("5m"))
    (difference,) = [each for each in job.settings.differences(default) if each.startswith(name)]
    assert difference.startswith(f"{name}: ")


def wrong_in(text: str) -> list[str]:
    with pytest.raises(BadFile) as raised:
        read_text(text, "f")
    return raised.value.lines


SERVICE_A = '[services.a]\nevery = "5m"\ncommand = "a"\n'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "f:1: there is no service: add a table [services.NAME]"),
        ("[services]\n", "f:1: there is no service: add a table [services.NAME]"),
        ("services = 3", "f:1: services must be a table, got 3"),
        (SERVICE_A + "x = [1,\n", "f:5: no TOML: Invalid value (at its end)"),
        (SERVICE_A + "x 1\n", "f:4: no TOML: Expected '=' after a key in a key/value pair "),
        (SERVICE_A + SERVICE_A, "f:4: no TOML: Cannot declare ('services', 'a') twice"),
        (SERVICE_A + "[turnwize]\n", "f:4: 'turnwize' is unknown; did you mean turnwise?"),
        (SERVICE_A + "[turnwise]\ngrop = 'x'", "f:5: 'grop' is unknown; did you mean group?"),
        (SERVICE_A + "attemps = 2", "f:4: services.a: 'attemps' is unknown; did you mean attempts"),
        (SERVICE_A + "heartbeat-timeout = '1s'", "did you mean heartbeat_timeout?"),
        (SERVICE_A + "zzz = 1", "f:4: services.a: 'zzz' is unknown; known are every, offset, cron"),
        (SERVICE_A + "attempts = 0", "f:4: services.a: attempts must be 1 to 1,000,000, got 0"),
        (SERVICE_A + "attempts = true", "f:4: services.a: attempts must be a whole number, got tr"),
        (SERVICE_A + "attempts = '2'", "services.a: attempts must be a whole number, got '2'"),
        (
            SERVICE_A + "timeout = 5",
            "f:4: services.a: timeout must be a duration such as '5m', got",
        ),
        (SERVICE_A + "timeout = '5'", "got '5': '5' is no duration: write numbers with units"),
        (SERVICE_A + "runs = 'twice'", "services.a: runs must be 'once' or 'every_slot', got 'twi"),
        (SERVICE_A + "release_on_timeout = 1", "release_on_timeout must be true or false, got 1"),
        (SERVICE_A + "max_start_slot_fraction = 'x'", "max_start_slot_fraction must be a number"),
        (SERVICE_A + "stagger = 'soon'", "stagger must be a duration such as '5m', or 'auto'"),
        (SERVICE_A + "spread_margin = '200s'", "f:4: services.a: spread_margin (3m20s) must be sh"),
        (
            SERVICE_A + "standbys = 9\nspread_margin = '40s'\n",
            "f:5: services.a: spread_margin (40s) must be shorter than a slot, which is 30s",
        ),
        (SERVICE_A + "cron = '* * * * *'", "f:4: services.a: every and cron do not go together"),
        (SERVICE_A + "timezone = 'UTC'", "f:4: services.a: timezone goes with cron alone"),
        (SERVICE_A + "function = 'a:b'", "f:4: services.a: command and function do not go toget"),
        (SERVICE_A + "environment = { A = 1 }", "environment must be a table of texts, such as {"),
        (SERVICE_A + "environment = { 'A=B' = '1' }", "environment must be a table of texts"),
        ("[services.a]\ncommand = 'a'", "f:1: services.a: one of cron, every, schedule must be gi"),
        ("[services.a]\nevery = '5m'", "f:1: services.a: one of command, function must be given"),
        ("[services.a]\nevery = '5m'\ncommand = []", "f:3: services.a: command must be a list of"),
        ("[services.a]\nevery = '5m'\ncommand = ['']", "command must be a list of texts"),
        ("[services.a]\nevery = '5m'\ncommand = ['a', 3]", "command must be a list of texts"),
        ("[services.a]\nevery = '5m'\nfunction = 'a'", "function must be text such as 'app.jobs:n"),
        ("[services.a]\ncron = '0 3 * *'\ncommand = 'a'", "f:2: services.a: expression must have "),
        (
            "[services.a]\ncommand = 'a'\ncron = '0 3 * * *'\ntimezone = 'Europe/Wien'",
            "f:4: services.a: timezone must be the name of a zone",
        ),
        ("[services.a]\nschedule = 'often'\ncommand = 'a'", "f:2: services.a: "),
        (
            "[services.a]\nfunction = 'a:b'\nevery = '5m'\nuser = 'x'",
            "f:4: services.a: user goes wi",
        ),
        (
            "[services.'']\nevery = '5m'\ncommand = 'a'",
            "services.: a service's name must have 1 to",
        ),
        (
            "services = { a = { every = '5m', commnd = 'a' } }",
            "f:1: services.a: 'commnd' is unknown",
        ),
        (SERVICE_A + "[turnwise]\ngrace = '-5s'", "f:5: grace must be a duration"),
        (
            SERVICE_A + "[turnwise]\nstorage = 'a:'\nstorage_file = 'b'",
            "f:6: storage and storage_file do not go together",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, line: str) -> None:
    said = wrong_in(text)
    assert any(line in each for each in said), said


def test_all_mistakes_of_a_file_are_said_at_once_in_the_order_of_their_lines() -> None:
    said = wrong_in(SERVICE_A + "x = 1\n[services.b]\nevery = 3\n[turnwise]\ny = 1\n")
    assert [each.partition(": ")[0] for each in said] == ["f:4", "f:5", "f:6", "f:8"]


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_file_that_is_none_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "turnwise.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadFile) as raised:
        read_file(str(path))
    (line,) = raised.value.lines
    assert line.startswith(f"{path}: it ")


LINES = '''\
# a comment
a = """
x = 1
[no.table]
"""
"b.c" = [
    1,  # [y]
    2,
]

[ d . "e" ]  # a header
f.g = { h = 1, i = { j = 2 } }
[[k]]
l = 'a'
[[k]]
l = 'b'
'''


def test_each_key_is_found_on_its_line_whatever_stands_around_it() -> None:
    assert tomllib.loads(LINES)
    found = lines_of(LINES)
    assert found == {
        ("a",): 2,
        ("b.c",): 6,
        ("d",): 11,
        ("d", "e"): 11,
        ("d", "e", "f"): 12,
        ("d", "e", "f", "g"): 12,
        ("d", "e", "f", "g", "h"): 12,
        ("d", "e", "f", "g", "i"): 12,
        ("d", "e", "f", "g", "i", "j"): 12,
        ("k",): 13,
        ("k", "l"): 14,
    }
    assert line_of(found, ("d", "e", "missing")) == 11
    assert line_of(found, ("missing",)) == 1
    assert lines_of(LINES.replace("\n", "\r\n")) == found


# The schema -----------------------------------------------------------------------------------


def is_valid(text: str) -> bool:
    validator = jsonschema.Draft202012Validator(json_schema())
    return bool(validator.is_valid(tomllib.loads(text)))


def test_the_schema_takes_what_the_reader_takes() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert is_valid(WHOLE)
    for name in KNOBS:
        assert is_valid(f"{SERVICE_A}{name} = {json.dumps(a_value(name))}"), name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[services]",
        SERVICE_A + "[turnwize]",
        SERVICE_A + "[turnwise]\ngrop = 'x'",
        SERVICE_A + "attemps = 2",
        SERVICE_A + "timeout = 5",
        SERVICE_A + "timeout = '5'",
        SERVICE_A + "runs = 'twice'",
        SERVICE_A + "cron = '* * * * *'",
        SERVICE_A + "timezone = 'UTC'",
        SERVICE_A + "function = 'a:b'",
        "[services.a]\ncommand = 'a'",
        "[services.a]\nevery = '5m'",
        "[services.a]\nfunction = 'a:b'\nevery = '5m'\nuser = 'x'",
        "[services.a]\nevery = '5m'\ncommand = []",
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(text: str) -> None:
    assert not is_valid(text)


def test_the_schema_has_every_key_with_what_it_is_for() -> None:
    schema: dict[str, Any] = json_schema()["properties"]
    service = schema["services"]["additionalProperties"]["properties"]
    common = schema["turnwise"]["properties"]
    assert set(service) == set(SERVICE)
    assert set(common) == set(COMMON)
    fields = {field for field in Settings.__dataclass_fields__ if field != "schedule"}
    assert fields <= set(service), "a knob that a file could not say"
    for each in (*service.values(), *common.values()):
        assert len(each["description"]) > 10


def test_the_command_prints_the_schema() -> None:
    done = turnwise("up", "--json-schema")
    assert json.loads(done.stdout) == json.loads(json.dumps(json_schema()))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "line",
    [
        "ping_url = ['https://host/hidden']",
        "environment = ['TOKEN=hidden']",
        "environment = 'TOKEN=hidden'",
        "[turnwise]\nstorage = ['postgresql://app:hidden@db']",
    ],
)
def test_a_secret_of_the_wrong_type_is_not_shown(line: str) -> None:
    with pytest.raises(BadFile, match="must be ") as caught:
        read_text(f"{SERVICE_A}{line}\n", "turnwise.toml")
    assert "hidden" not in str(caught.value)


def test_a_number_that_is_too_long_is_a_mistake_like_any_other() -> None:
    with pytest.raises(BadFile, match="no TOML: Exceeds the limit"):
        read_text(f"{SERVICE_A}attempts = {'9' * 5000}\n", "turnwise.toml")
