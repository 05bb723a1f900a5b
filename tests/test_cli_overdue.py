"""A turn that goes on beyond its timeout, as ``check``, ``status`` and ``audit`` show it."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from looked import Looked, looked
from turnwise.turn import Turn


@pytest.fixture
def world(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Looked]:
    with looked(capsys, monkeypatch) as made:
        yield made


@pytest.fixture
def overdue(world: Looked) -> Looked:
    """A group whose first turn, of 12:05:00, takes no notice of its timeout of 30 s."""

    async def stubborn(turn: Turn) -> None:
        del turn
        while True:
            try:
                await asyncio.sleep(100_000)
            except asyncio.CancelledError:
                continue

    world.virtual.add(stubborn, "every 5m", name="svc", timeout="30s")
    world.advance("5m31s")
    return world


def first_service(world: Looked) -> dict[str, object]:
    found = json.loads(world.ask("status", "--json")[1])["services"][0]
    assert isinstance(found, dict)
    return found


def test_check_of_an_overdue_turn_is_critical_and_says_who_runs_and_for_how_long(
    overdue: Looked,
) -> None:
    status, out, _ = overdue.ask("check")
    assert status == 2
    assert out.startswith("CRITICAL: svc: overdue: ")
    assert "has run for 31s" in out


def test_status_shows_an_overdue_turn(overdue: Looked) -> None:
    _, out, _ = overdue.ask("status")
    assert "OVERDUE, its timeout is over" in " ".join(out.split())
    assert first_service(overdue)["overdue"] is True


def test_a_turn_within_its_timeout_is_not_overdue(world: Looked) -> None:
    world.serve(timeout="41s")  # a run takes 40 s
    world.advance("5m40s")
    assert first_service(world)["overdue"] is False
    assert world.ask("check")[0] == 0


def test_a_turn_that_its_timeout_has_ended_is_no_more_overdue(world: Looked) -> None:
    world.serve(timeout="30s", attempts=1)
    world.advance("5m45s")
    assert first_service(world)["overdue"] is False
    status, out, _ = world.ask("check")
    assert (status, "overdue" in out) == (1, False), "its period has failed, and nothing runs"


def test_an_overdue_turn_goes_on_to_be_told_while_it_keeps_its_service_from_running(
    overdue: Looked,
) -> None:
    overdue.advance("20m")
    status, out, _ = overdue.ask("check")
    assert status == 2
    assert "overdue: " in out
    told = json.loads(overdue.ask("audit", "--all", "--json")[1])[0]["periods"]
    assert [row["verdict"] for row in told] == ["open", "missed", "missed", "missed", "open"]
    assert {row["cause"] for row in told[1:4]} == {"another_run_in_the_way"}


def test_check_of_an_overdue_turn_whose_process_was_killed_says_both(overdue: Looked) -> None:
    for name in ("alice", "bob", "carol [x]"):
        overdue.virtual.kill(name)
    overdue.advance("2m")
    status, out, _ = overdue.ask("check")
    assert status == 2
    assert "nobody is alive to run it" in out
    assert "overdue: " in out
    assert "and is silent" in out
