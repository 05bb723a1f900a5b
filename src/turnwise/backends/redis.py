"""Storage in Redis 6.2 or later, each operation one Lua script under the server's clock.

Not guaranteed: Redis answers before a replica has the write, and, unless it is told otherwise,
before the disk has. A failover or a restart that loses the last writes loses the gate's memory
of them: a second run may be admitted, and a fencing token handed out again. See the page about
storages for what narrows that.

All keys of a service share a hash tag, ``<prefix>:{<service>}:...``, so that they are on one node
of a Redis Cluster; the names of the services are in a key of their own. Nothing expires by itself:
retention applies as in any other storage.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from typing import Any, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from turnwise.atomic_service import (
    ActiveRunnerInfo,
    AtomicServiceClaim,
    AtomicServiceExecutionStatus,
    AtomicServiceRun,
)
from turnwise.backends import (
    CYCLE_SERVED,
    OWNER_DEAD,
    PRIOR_RUNNING,
    Admission,
    ExecutionRecord,
    Heartbeat,
    Look,
    MissingExtraError,
    Participant,
    StorageError,
    blocked_record,
    blocked_run,
    check_spelling,
    dead_at,
    leaves_cycle_open,
    running_record,
    served_instant,
    without_password,
)
from turnwise.membership import (
    RunnerRecord,
    cycle_at,
    runner_digest,
    service_hash,
    set_digest,
    set_rules,
)
from turnwise.old_settings import Settings
from turnwise.own_process import OwnProcess

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.exceptions import NoScriptError, RedisError
    from redis.retry import Retry
except ImportError as error:
    raise MissingExtraError(
        "Redis storages need the extra 'redis': pip install 'turnwise[redis]'"
    ) from error

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
_SCRIPT = files("turnwise.backends").joinpath("redis.lua").read_text("utf-8")
_KEYS = (
    *("runners", "created", "heard", "schedule"),
    *("settings", "token", "running", "served"),
    *("executions", "by_start", "by_end"),
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EXACT = 2**53  # what the doubles of Lua count without a gap
_ANY_SETTINGS = Settings()


class RedisBackend:
    """A storage in Redis.

    Args:
        url: ``redis://user:password@host:6379/0``, or ``rediss://`` for TLS. ``key_prefix`` in its
            query stands for ``turnwise`` in the names of the keys; redis-py reads the rest of the
            query.
        clock: gives now as an aware datetime, for tests; the server's ``TIME`` by default.

    Raises:
        ValueError: the URL is no URL of a Redis.
        StorageError: the server does not answer, or refuses.
    """

    def __init__(self, url: str, *, clock: Callable[[], datetime] | None = None) -> None:
        check_spelling(url)
        self._name, self._clock = without_password(url), clock
        self._process = OwnProcess(f"the storage {self._name}")
        plain, self._prefix = _without_prefix(url)
        self._password = urlsplit(plain).password
        try:
            self._redis = redis.Redis.from_url(
                plain,
                socket_connect_timeout=CONNECT_SECONDS,
                socket_timeout=ANSWER_SECONDS,
                retry=Retry(NoBackoff(), 0),  # an answer that is lost is no reason to ask again
                decode_responses=True,
            )
            self._script_hash = str(self._ask(lambda: self._redis.script_load(_SCRIPT)))
        except (ValueError, TypeError) as error:  # the latter for what it does not know in a query
            raise ValueError(f"{self._name!r} is no URL of a Redis: {error}") from error

    def __repr__(self) -> str:
        return f"RedisBackend({self._name!r})"

    def publish_settings(self, service: str, settings: Settings) -> Settings | None:
        """See :class:`turnwise.backends.Backend`."""
        before = self._do("publish_settings", service, settings, published=settings.to_json())
        self._ask(lambda: self._redis.sadd(f"{self._prefix}:services", service))
        return _settings(before)

    def settings_of(self, service: str) -> Settings | None:
        """See :class:`turnwise.backends.Backend`."""
        return _settings(self._ask(lambda: self._redis.get(self._key(service, "settings"))))

    def services(self) -> tuple[str, ...]:
        """See :class:`turnwise.backends.Backend`."""
        return tuple(sorted(self._ask(lambda: self._redis.smembers(f"{self._prefix}:services"))))

    def heartbeat(
        self, service: str, who: Participant, settings: Settings, run_id: str | None = None
    ) -> Heartbeat:
        """See :class:`turnwise.backends.Backend`."""
        now, previous, holds_run = self._do(
            "heartbeat", service, settings, **_of(who), run_id=run_id or ""
        )
        return Heartbeat(_instant(now), previous, bool(holds_run))

    def look(self, service: str, who: Participant, settings: Settings) -> Look:
        """See :class:`turnwise.backends.Backend`."""
        now, seen, created_at, previous = self._do("look", service, settings, **_of(who))
        look = _look(seen, _instant(now), settings)
        return replace(look, joined_at=_instant(created_at), previous_boot_id=previous)

    def peek(self, service: str, settings: Settings, at: datetime | None = None) -> Look:
        """See :class:`turnwise.backends.Backend`."""
        asked = "" if at is None else _number(at)
        now, seen = self._do("peek", service, settings, at=asked)
        return _look(seen, _instant(now) if at is None else at, settings)

    def leave(self, service: str, who: Participant) -> None:
        """See :class:`turnwise.backends.Backend`."""
        self._do("leave", service, _ANY_SETTINGS, **_of(who))

    def admit(
        self, service: str, run: AtomicServiceRun, settings: Settings, look: Look
    ) -> Admission:
        """See :class:`turnwise.backends.Backend`."""
        record = running_record(service, run, None, look.now, look)
        serves = served_instant(run, settings)
        now, token, prior, last_heartbeat = self._do(
            "admit",
            service,
            settings,
            **_row(record),
            run_id=record.run_id,
            serves="" if serves is None else _number(serves),
            dead_opens_cycle=_flag(leaves_cycle_open(_ABANDONED, OWNER_DEAD, settings)),
        )
        at = _instant(now)
        if token:
            run.started_at = at
            return Admission(at, int(token))
        if not prior:
            return Admission(at, None, CYCLE_SERVED)
        refusal = f"{PRIOR_RUNNING}:{prior}"
        self._keep_blocked(service, run, refusal, look)
        return Admission(at, None, refusal, dead_at(_instant(last_heartbeat), settings))

    def finish(
        self,
        service: str,
        run_id: str,
        status: AtomicServiceExecutionStatus,
        reason: str,
        settings: Settings,
    ) -> ExecutionRecord | None:
        """See :class:`turnwise.backends.Backend`."""
        kept = self._do(
            "finish",
            service,
            settings,
            run_id=run_id,
            status=status,
            reason=reason,
            opens_cycle=_flag(leaves_cycle_open(status, reason, settings)),
            retention_age=str(settings.retention_age // _MICROSECOND),
            retention_count=str(settings.retention_count),
        )
        return None if kept is None else _record(service, run_id, kept)

    def block(self, service: str, claim: AtomicServiceClaim, look: Look) -> None:
        """See :class:`turnwise.backends.Backend`."""
        self._keep_blocked(service, blocked_run(claim), claim.reason, look)

    def runners(self, service: str) -> tuple[RunnerRecord, ...]:
        """See :class:`turnwise.backends.Backend`."""
        return tuple(_runner(*found) for found in self._do("runners", service, _ANY_SETTINGS))

    def executions(
        self, service: str, *, since: datetime | None = None, limit: int | None = None
    ) -> tuple[ExecutionRecord, ...]:
        """See :class:`turnwise.backends.Backend`."""
        kept = self._ask(lambda: self._redis.hgetall(self._key(service, "executions")))
        records = (_record(service, run_id, row) for run_id, row in kept.items())
        found = sorted(
            (r for r in records if since is None or r.end_time is None or r.end_time >= since),
            key=lambda record: (record.start_time, record.fencing_token or 0, record.run_id),
        )
        return tuple(found if limit is None else found[max(0, len(found) - limit) :])

    def execution(self, service: str, run_id: str) -> ExecutionRecord | None:
        """See :class:`turnwise.backends.Backend`."""
        kept = self._ask(lambda: self._redis.hget(self._key(service, "executions"), run_id))
        return None if kept is None else _record(service, run_id, kept)

    def close(self) -> None:
        """See :class:`turnwise.backends.Backend`."""
        self._redis.close()

    def _keep_blocked(self, service: str, run: AtomicServiceRun, reason: str, look: Look) -> None:
        record = blocked_record(service, run, reason, look.now, look)
        self._do("block", service, _ANY_SETTINGS, **_row(record), run_id=record.run_id, serves="")

    def _key(self, service: str, name: str) -> str:
        return _keys(self._prefix, service)[_KEYS.index(name)]

    def _do(self, operation: str, service: str, settings: Settings, **given: str) -> Any:
        """One operation of the script; where the server has lost it, with its text."""
        now = "" if self._clock is None else _number(self._clock())
        keys = _keys(self._prefix, service)
        rules = _rules(service, settings)
        arguments = (*keys, operation, now, json.dumps(rules | given, ensure_ascii=False))

        def run() -> object:
            try:
                return self._redis.evalsha(self._script_hash, len(keys), *arguments)
            except NoScriptError:
                return self._redis.eval(_SCRIPT, len(keys), *arguments)

        return self._ask(run)

    def _ask(self, question: Callable[[], object]) -> Any:
        self._process.check()
        try:
            return question()
        except (RedisError, OSError) as error:
            lines = str(error).splitlines() or [type(error).__name__]
            cause = lines[0].replace(self._password, "***") if self._password else lines[0]
            raise StorageError(f"{self._name}: {cause}") from error


_ABANDONED = AtomicServiceExecutionStatus.ABANDONED


@lru_cache
def _keys(prefix: str, service: str) -> tuple[str, ...]:
    """The keys of a service, in the order in which the script takes them."""
    return tuple(f"{prefix}:{{{quote(service, safe='')}}}:{name}" for name in _KEYS)


@lru_cache
def _rules(service: str, settings: Settings) -> dict[str, str]:
    """What every operation is told of the settings; not to be changed."""
    return {
        "interval": str(settings.interval // _MICROSECOND),
        "timeout": str(settings.heartbeat_timeout // _MICROSECOND),
        "margin": str(settings.spread_margin // _MICROSECOND),
        "slots": str(1 + settings.standbys) if settings.runs_per_cycle == "once" else "",
        "rules": set_rules(settings),
        "service_hash": str(service_hash(service)),
    }


def _without_prefix(url: str) -> tuple[str, str]:
    """The URL as redis-py reads it, and the prefix of the keys."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(f"{without_password(url)!r} is no URL of a Redis: {error}") from error
    query = parse_qsl(parts.query, keep_blank_values=True)
    prefix = dict(query).get("key_prefix", "turnwise")
    if not prefix or set("{}") & set(prefix):
        raise ValueError(
            f"{without_password(url)!r}: key_prefix must be a text without braces, got {prefix!r}"
        )
    rest = urlencode([(name, value) for name, value in query if name != "key_prefix"])
    return parts._replace(query=rest).geturl(), prefix


def _number(instant: datetime) -> str:
    number = (instant - _EPOCH) // _MICROSECOND
    if abs(number) >= _EXACT:
        raise ValueError(f"Redis counts instants from 1684 to 2255, got {instant.isoformat()}")
    return str(number)


def _instant(number: str) -> datetime:
    return _EPOCH + int(number) * _MICROSECOND


def _instant_or_none(number: str) -> datetime | None:
    return _instant(number) if number else None


def _flag(value: bool) -> str:  # noqa: FBT001 (its one argument)
    return "1" if value else "0"


def _settings(stored: str | None) -> Settings | None:
    try:
        return None if stored is None else Settings.from_json(stored)
    except ValueError:  # another version of turnwise wrote them
        return None


def _of(who: Participant) -> dict[str, str]:
    return {
        "runner_id": who.runner_id,
        "boot_id": who.boot_id,
        "may_run": _flag(who.may_run),
        "digest": str(runner_digest(who.runner_id)),
    }


def _look(seen: str, now: datetime, settings: Settings) -> Look:
    kept = json.loads(seen)
    scheduled = tuple(
        ActiveRunnerInfo(name, _instant(created), _instant(heard), True)  # noqa: FBT003
        for name, created, heard in kept["scheduled"] or ()
    )
    digest = set_digest([int(kept["digest"])])
    return Look(now, cycle_at(now, settings.interval), scheduled, int(kept["size"]), digest)


def _row(record: ExecutionRecord) -> dict[str, str]:
    """The part of an execution that is known before the server has its say."""
    fixed = {
        "runner_id": record.runner_id,
        "slot_start": None if record.slot_start is None else _number(record.slot_start),
        "slot_end": None if record.slot_end is None else _number(record.slot_end),
        "stable_size": record.stable_size,
        "stable_digest": record.stable_digest,
    }
    return {
        "fixed": json.dumps(fixed, ensure_ascii=False),
        "cycle_start": _number(record.cycle_start),
        "status": record.status,
        "reason": record.reason,
    }


def _record(service: str, run_id: str, kept: str) -> ExecutionRecord:
    row = cast("dict[str, str]", json.loads(kept))
    fixed = json.loads(row["fixed"])
    return ExecutionRecord(
        service=service,
        run_id=run_id,
        runner_id=fixed["runner_id"],
        fencing_token=int(row["fencing_token"]) if row["fencing_token"] else None,
        cycle_start=_instant(row["cycle_start"]),
        slot_start=_instant_or_none(fixed["slot_start"]),
        slot_end=_instant_or_none(fixed["slot_end"]),
        start_time=_instant(row["start_time"]),
        end_time=_instant_or_none(row["end_time"]),
        last_heartbeat=_instant(row["last_heartbeat"]),
        status=AtomicServiceExecutionStatus(row["status"]),
        reason=row["reason"],
        stable_size=fixed["stable_size"],
        stable_digest=fixed["stable_digest"],
    )


def _runner(name: str, created: str, heard: str, kept: str) -> RunnerRecord:
    row = cast("dict[str, str]", json.loads(kept))
    return RunnerRecord(
        name,
        _instant(created),
        _instant(heard),
        row["may_run"] == "1",
        _instant_or_none(row["left_at"]),
        row["boot_id"],
    )
