"""The examples of jobs that have their effects exactly once do what they say."""

import importlib.util
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest
import sqlalchemy as sa

from live import Heard
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.events import TurnEnded
from turnwise.scheduler import Scheduler
from turnwise.testing import fake_turn

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
TABLES = {
    "monthly_invoice": [
        "CREATE TABLE usages (customer TEXT, used_at REAL, amount INTEGER)",
        "CREATE TABLE invoices (customer TEXT, due REAL, amount INTEGER)",
    ],
    "outbox_relay": [
        "CREATE TABLE outbox (id INTEGER PRIMARY KEY, body TEXT)",
        "CREATE TABLE feed (position INTEGER PRIMARY KEY, body TEXT)",
    ],
}


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    monkeypatch.setenv("APP_DATABASE", f"sqlite:///{tmp_path / 'app.db'}")
    with ExitStack() as stack:

        def load(name: str) -> ModuleType:
            spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            stack.callback(module.engine.dispose)
            with module.engine.begin() as connection:
                for table in TABLES[name]:
                    connection.exec_driver_sql(table)
            return module

        yield load


def rows(module: ModuleType, text: str) -> list[tuple[object, ...]]:
    with module.engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(text)]


def served(module: ModuleType, job: str, *, ends: int) -> list[Status]:
    """Serve a job of an example, more often than it would be; how the turns ended."""
    heard = Heard()
    scheduler = Scheduler(module.URL, observers=(heard,))
    scheduler.every("1s", spread_margin="50ms")(getattr(module, job))
    with scheduler:
        return [each.status for each in heard.wait_for(TurnEnded, count=ends)]


def test_invoices_are_written_once_for_what_was_used_since_the_last_ones(
    example: Callable[..., ModuleType],
) -> None:
    module = example("monthly_invoice")
    [(function, settings)] = module.scheduler._registered.values()
    assert (function, str(settings.schedule)) == (
        module.write_invoices,
        "cron 0 6 1 * * Europe/Vienna",
    )
    with module.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO usages VALUES ('ada', 1000, 3), ('ada', 2000, 4), ('bob', 1500, 5)"
        )
    assert set(served(module, "write_invoices", ends=2)) == {Status.COMPLETED}
    assert rows(module, "SELECT customer, SUM(amount), COUNT(*) FROM invoices GROUP BY 1") == [
        ("ada", 7, 1),
        ("bob", 5, 1),
    ]


def test_a_unit_test_of_the_invoices_needs_no_scheduler(
    example: Callable[..., ModuleType],
) -> None:
    module = example("monthly_invoice")
    with module.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO usages VALUES ('ada', 1000, 3), ('ada', 99, 4)")
    turn = fake_turn(
        due=datetime.fromtimestamp(1500, UTC), last_served=datetime.fromtimestamp(500, UTC)
    )
    module.write_invoices(turn)
    assert turn.is_complete
    assert rows(module, "SELECT amount FROM invoices") == [(3,)]


def test_the_relay_numbers_each_message_once_in_pieces(example: Callable[..., ModuleType]) -> None:
    module = example("outbox_relay")
    with module.engine.begin() as connection:
        for number in range(25):
            connection.exec_driver_sql(f"INSERT INTO outbox VALUES ({number}, 'm{number}')")  # noqa: S608
    commits = 0
    counted = threading.Lock()

    def count(_: sa.Connection) -> None:
        nonlocal commits
        with counted:
            commits += 1

    sa.event.listen(module.engine, "commit", count)
    with patch.object(module, "BATCH", 10):
        statuses = served(module, "relay", ends=1)
    assert statuses[0] is Status.COMPLETED
    assert commits >= 3
    feed = rows(module, "SELECT position, body FROM feed ORDER BY position")
    assert feed == [(number + 1, f"m{number}") for number in range(25)]
    assert rows(module, "SELECT * FROM outbox") == []


def test_a_relay_that_is_asked_to_stop_leaves_the_rest_to_the_next_in_line(
    example: Callable[..., ModuleType],
) -> None:
    module = example("outbox_relay")
    turn = fake_turn(stop_requested=True)
    module.relay(turn)
    assert not turn.is_complete
