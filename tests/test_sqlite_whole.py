"""A file whose tables are as this version makes them is opened without SQLAlchemy."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from turnwise.errors import SchemaError
from turnwise.storages.sql import SqlStorage
from turnwise.storages.sql.address import Address
from turnwise.storages.sql.whole import MADE, digest_of, is_whole


def made(folder: Path, query: str = "") -> Path:
    path = folder / "turns.db"
    SqlStorage(f"sqlite:///{path}{query}").close()
    return path


@pytest.mark.parametrize("prefix", ["turnwise_", "x_", "a_table_of_"])
def test_the_digest_is_that_of_the_tables_that_this_version_makes(
    prefix: str, tmp_path: Path
) -> None:
    """Where this fails after a change of the tables, ``MADE`` is to be what it shows."""
    path = made(tmp_path, f"?table_prefix={prefix}")
    raw = sqlite3.connect(path)
    assert digest_of(raw, prefix) == MADE
    assert is_whole(raw, Address.read(f"sqlite:///{path}?table_prefix={prefix}"))
    raw.close()


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE turnwise_drained",
        "ALTER TABLE turnwise_runners DROP COLUMN digest",
        "DROP INDEX turnwise_records_open",
        "CREATE INDEX turnwise_mine ON turnwise_history (id)",
        "CREATE TABLE turnwise_services (a)",
        "UPDATE turnwise_schema SET version = 2",
        "DELETE FROM turnwise_schema",
    ],
)
def test_whatever_else_a_file_holds_is_looked_at_more_closely(change: str, tmp_path: Path) -> None:
    path = made(tmp_path)
    raw = sqlite3.connect(path)
    address = Address.read(f"sqlite:///{path}")
    assert is_whole(raw, address)
    raw.execute("CREATE TABLE of_somebody_else (a)")
    assert is_whole(raw, address)
    raw.execute(change)
    raw.commit()
    assert not is_whole(raw, address)
    raw.close()


def test_a_file_that_lacks_a_key_is_refused_as_ever(tmp_path: Path) -> None:
    path = made(tmp_path)
    raw = sqlite3.connect(path)
    columns = "group_name VARCHAR(255), runner_id VARCHAR(255)"
    raw.executescript(f"DROP TABLE turnwise_drained; CREATE TABLE turnwise_drained ({columns})")
    raw.close()
    with pytest.raises(SchemaError, match="turnwise_drained lacks its primary key"):
        SqlStorage(f"sqlite:///{path}")


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///turns.db", "turns.db"),
        ("sqlite:////var/lib/a b/turns-1.db", "/var/lib/a b/turns-1.db"),
        ("sqlite:///../ä/t", "../ä/t"),
        ("sqlite:///t.db?table_prefix=x_", None),
        ("sqlite:///a%20b.db", None),
        ("sqlite:///a@b.db", None),
        ("sqlite:///:memory:", None),
        ("sqlite:///", None),
        ("sqlite:///...", None),
        ("sqlite+aiosqlite:///t.db", None),
        ("sqlite://", None),
    ],
)
def test_a_plain_url_of_a_file_is_read_as_sqlalchemy_reads_it(url: str, file: str | None) -> None:
    import sqlalchemy as sa  # noqa: PLC0415

    address = Address.read(url)
    assert address.file == file
    assert address.url.database == sa.make_url(url).database
    assert address.url.drivername == "sqlite+pysqlite"
    assert (address.kind, address.prefix, address.schema) == (
        "sqlite",
        "x_" if "prefix" in url else "turnwise_",
        None,
    )


def test_a_file_that_is_whole_is_opened_and_shown_without_sqlalchemy(tmp_path: Path) -> None:
    made(tmp_path)
    program = (
        "import sys; from turnwise.cli import main; main(['status', '--storage', "
        "'sqlite:///turns.db']); print('sqlalchemy' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr == "False\n"
