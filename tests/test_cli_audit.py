"""``turnwise audit``: a verdict for each period, from real machines in virtual time."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from looked import Looked, looked
from turnwise.controls import Controls

SVC = ("--service", "svc")


@pytest.fixture
def world(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Looked]:
    with looked(capsys, monkeypatch) as made:
        yield made


def flat(text: str) -> str:
    return " ".join(text.split())


def audited(world: Looked, *arguments: str) -> dict[str, object]:
    (told,) = json.loads(world.ask("audit", "--json", *arguments)[1])
    assert isinstance(told, dict)
    return told


def test_where_all_was_served_the_exit_status_is_0(world: Looked) -> None:
    world.serve()
    world.advance("1h2m")
    status, out, _ = world.ask("audit")
    assert status == 0
    words = flat(out)
    assert "12 periods due: 12 served" in words
    assert "before 2026-01-01 12:05:00 it is not known what was due" in words
    _, out, _ = world.ask("audit", "--all")
    assert flat(out).count(" served 0s by ") == 12


def test_a_takeover_is_served_late_at_a_second_attempt(world: Looked) -> None:
    world.serve()
    world.advance("5m10s")
    world.virtual.kill("bob")
    world.advance("6m")
    _, out, _ = world.ask("audit", "--all")
    assert "12:05:00 served 1m40s by carol [x], at attempt 2" in flat(out)


def test_a_period_whose_attempts_all_failed_is_missed_and_the_exit_status_is_1(
    world: Looked,
) -> None:
    world.serve()
    world.advance("9m")
    world.fails = True
    world.advance("10m")
    world.fails = False
    world.advance("10m")
    status, out, _ = world.ask("audit", *SVC)
    assert status == 1
    words = flat(out)
    assert "2 missed: all attempts failed" in words
    assert "2026-01-01 12:10:00 2 missed 12:15:00 all attempts failed; 3 attempts, the last: " in (
        words
    )
    told = audited(world)
    assert told["causes"] == {"all_attempts_failed": 2}
    assert told["well"] is False


def test_where_nobody_lived_the_verdict_says_so(world: Looked) -> None:
    world.serve()
    world.advance("7m")
    world.virtual.close()
    world.advance("32m")
    world.virtual.start("dave")
    world.advance("10m")
    told = audited(world)
    # At 12:39 dave is there, and it is too late to start for 12:35.
    assert told["causes"] == {"nobody_was_there": 5, "nobody_could_start_in_time": 1}
    periods = told["periods"]
    assert isinstance(periods, list)
    served = [each["due"][11:16] for each in periods if each["verdict"] == "served"]
    assert served[0] == "12:05"
    assert "12:10" not in served


def test_a_run_in_the_way_of_the_next_period_is_the_cause(world: Looked) -> None:
    world.takes = 12 * 60.0
    world.serve()
    world.advance("19m")
    assert audited(world)["causes"] == {"another_run_in_the_way": 1}


def test_a_pause_is_no_miss(world: Looked) -> None:
    world.serve()
    world.advance("9m")
    controls = Controls(world.virtual.storage, by="ops")
    controls.pause("svc")
    world.advance("15m30s")
    controls.resume("svc")
    world.advance("7m")
    status, out, _ = world.ask("audit", "--all")
    assert status == 0
    assert flat(out).count(" paused ") >= 2
    assert " missed" not in out


def test_each_period_is_judged_by_the_schedule_that_held_then(world: Looked) -> None:
    world.serve()
    world.advance("1h1m")
    world.virtual.close()
    # A deploy: other processes, with another schedule.
    from turnwise.settings import Settings  # noqa: PLC0415 (of this test alone)

    function, _ = world.virtual._registered["svc"]
    world.virtual._registered["svc"] = function, Settings(schedule="every 15m")  # type: ignore[arg-type]
    for name in ("x", "y"):
        world.virtual.start(name)
    world.advance("1h10m")
    told = audited(world)
    periods = told["periods"]
    assert isinstance(periods, list)
    dues = [each["due"][11:16] for each in periods]
    assert dues == [
        *("12:05", "12:10", "12:15", "12:20", "12:25", "12:30", "12:35", "12:40", "12:45"),
        *("12:50", "12:55", "13:00", "13:15", "13:30", "13:45", "14:00"),
    ]
    assert told["well"] is True


def test_when_a_schedule_changed_is_known_after_everybody_who_was_there_is_forgotten(
    world: Looked,
) -> None:
    """The first plan by the new schedule is made 15 days later; in between nobody plans."""
    world.serve(schedule="every 1d", cycle="1d", heartbeat_timeout="4h")
    world.advance("12h1m")  # served at midnight
    world.virtual.close()
    from turnwise.settings import Settings  # noqa: PLC0415 (of this test alone)

    function, _ = world.virtual._registered["svc"]
    seldom = {"cycle": timedelta(days=1), "heartbeat_timeout": timedelta(hours=4)}
    settings = Settings(schedule="every 30d", **seldom)  # type: ignore[arg-type]
    world.virtual._registered["svc"] = function, settings
    for name in ("x", "y"):
        world.virtual.start(name)
    world.advance("1m")
    storage = world.virtual.storage
    said = storage.history("default", "svc", kinds=["offer"])
    assert len(said) == 1, "the deploy says it once, whoever comes with it"
    storage.purge_runners("default", before=said[0].at)  # as it is done after a day
    world.advance("40d")
    assert {row.offer.runner_id for row in storage.offers("default")} == {"x", "y"}
    told = audited(world, "--since", "60d")
    assert told["well"] is True, told
    totals = told["totals"]
    assert isinstance(totals, dict)
    assert (totals["served"], totals["missed"], totals["unknown"]) == (3, 0, 0)


def test_what_retention_has_forgotten_is_unknown_and_not_missed(world: Looked) -> None:
    world.serve(retention_count=10)
    world.advance("12h")
    told = audited(world)
    totals = told["totals"]
    assert isinstance(totals, dict)
    assert totals["missed"] == 0
    assert totals["served"] >= 10
    assert len(world.virtual.storage.history("default", "svc", kinds=["command"])) == 1
    assert world.ask("audit")[0] == 0


def test_the_window_bounds_what_is_judged(world: Looked) -> None:
    world.serve()
    world.advance("1h2m")
    assert audited(world, "--since", "20m")["due"] == 4
    assert audited(world, "--since", "2026-01-01T12:30:00Z")["due"] == 7
    status, _, err = world.ask("audit", "--since", "2040-01-01")
    assert (status, err.count("\n")) == (2, 1)


def test_every_service_of_the_group_has_its_audit(world: Looked) -> None:
    world.serve()
    world.serve("other", "every 1h")
    world.advance("11m")
    told = json.loads(world.ask("audit", "--json")[1])
    assert [each["service"] for each in told] == ["other", "svc"]
    assert flat(world.ask("audit", "--service", "other")[1]).endswith(
        "0 periods due: 0 served no settings are known: nobody has ever planned a cycle of it"
    )


def test_without_services_it_says_so(world: Looked) -> None:
    status, out, _ = world.ask("audit", "--group", "empty")
    assert (status, out) == (0, "group empty: no service was ever started\n")
