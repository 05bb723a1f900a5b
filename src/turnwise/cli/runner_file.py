"""Reading a JSON file of runners."""

import json
from datetime import UTC, datetime
from pathlib import Path

from turnwise.cli.errors import BadInput
from turnwise.membership import RunnerRecord
from turnwise.rounds import checked_name

_SHAPE = "a list of objects with id, creation_time, last_heartbeat and, if need be, may_run"


def read_runners(name: str) -> tuple[RunnerRecord, ...]:
    """Read runners from a JSON file: a list of objects, one per runner.

    Each has ``id`` (or ``runner_id``), ``creation_time`` and ``last_heartbeat`` as ISO instants
    with an offset or as Unix seconds, and optionally ``may_run``.

    Raises:
        BadInput: the file cannot be read, or is no such list.
    """
    try:
        entries = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise BadInput(f"--runners must be a number or a file: {name!r}: {reason}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name!r} is no JSON: {error}") from error
    if not isinstance(entries, list):
        raise BadInput(f"{name!r} must hold {_SHAPE}; got a {type(entries).__name__}")
    records = tuple(_record(name, number, entry) for number, entry in enumerate(entries, 1))
    ids = [record.runner_id for record in records]
    twice = sorted({runner_id for runner_id in ids if ids.count(runner_id) > 1})
    if twice:
        raise BadInput(f"{name!r} lists a runner twice: {', '.join(twice)}")
    return records


def _record(name: str, number: int, entry: object) -> RunnerRecord:
    where = f"{name!r}, runner {number}"
    if not isinstance(entry, dict):
        raise BadInput(f"{where}: must be one of {_SHAPE}; got {entry!r}")
    try:
        runner_id = checked_name("id", entry["id"] if "id" in entry else entry.get("runner_id", ""))
    except (TypeError, ValueError) as error:
        raise BadInput(f"{where}: {error}") from error
    may_run = entry.get("may_run", True)
    if not isinstance(may_run, bool):
        raise BadInput(f"{where}: may_run must be true or false, got {may_run!r}")
    return RunnerRecord(
        runner_id,
        _instant(where, "creation_time", entry),
        _instant(where, "last_heartbeat", entry),
        may_run,
    )


def _instant(where: str, key: str, entry: dict[str, object]) -> datetime:
    value = entry.get(key)
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str) and (read := datetime.fromisoformat(value)).tzinfo is not None:
            return read.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise BadInput(
        f"{where}: {key} must be an ISO instant with an offset, such as "
        f"2026-01-31T12:00:00Z, or Unix seconds; got {value!r}"
    )
