"""Reading a JSON file of runners."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from turnwise.cli.errors import BadInput
from turnwise.cycles import microseconds
from turnwise.names import checked_name

_SHAPE = "a list of objects with id, creation_time, last_heartbeat and, if need be, may_run"


@dataclass(frozen=True, slots=True)
class ListedRunner:
    """One runner of a file; instants in microseconds since the Unix epoch."""

    runner_id: str
    joined_at: int
    heard_at: int
    may_run: bool

    def why_outside(self, now: int, heartbeat_timeout: int) -> str | None:
        """Why it does not count at ``now``; None where it does.

        Args:
            now: the instant.
            heartbeat_timeout: the silence after which it counts as dead, in microseconds.
        """
        if not self.may_run:
            return "it may not run"
        if self.joined_at > now:
            return "it joins later"
        if self.heard_at > now:
            return "its last heartbeat is later"
        if now - self.heard_at > heartbeat_timeout:
            return "it is dead: its last heartbeat is too long ago"
        return None


def read_runners(name: str) -> tuple[ListedRunner, ...]:
    """Read runners from a JSON file: a list of objects, one per runner.

    Each has ``id`` (or ``runner_id``), ``creation_time`` and ``last_heartbeat`` as ISO instants
    with an offset or as Unix seconds, and optionally ``may_run``.

    Raises:
        BadInput: the file cannot be read, or is no such list.
    """
    runners = tuple(_runner(name, number, entry) for number, entry in enumerate(_entries(name), 1))
    ids = [runner.runner_id for runner in runners]
    twice = sorted({runner_id for runner_id in ids if ids.count(runner_id) > 1})
    if twice:
        raise BadInput(f"{name!r} lists a runner twice: {', '.join(twice)}")
    return runners


def _entries(name: str) -> list[object]:
    try:
        entries = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise BadInput(f"--runners must be a number or a file: {name!r}: {reason}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name!r} is no JSON: {error}") from error
    if not isinstance(entries, list):
        raise BadInput(f"{name!r} must hold {_SHAPE}; got a {type(entries).__name__}")
    return entries


def _runner(name: str, number: int, entry: object) -> ListedRunner:
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
    return ListedRunner(
        runner_id,
        _instant(where, "creation_time", entry),
        _instant(where, "last_heartbeat", entry),
        may_run,
    )


def _instant(where: str, key: str, entry: dict[str, object]) -> int:
    value = entry.get(key)
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return microseconds(datetime.fromtimestamp(value, UTC))
        if isinstance(value, str) and (read := datetime.fromisoformat(value)).tzinfo is not None:
            return microseconds(read.astimezone(UTC))
    except (ValueError, OverflowError, OSError):
        pass
    raise BadInput(
        f"{where}: {key} must be an ISO instant with an offset, such as "
        f"2026-01-31T12:00:00Z, or Unix seconds; got {value!r}"
    )
