"""A storage in Redis 6.2 or later, or in Valkey: each operation is one script of the server.

How it works
------------
The scripts stand in ``redis.lua``. Each begins with a command that only a server that takes writes
carries out. So a server that was demoted answers no read either, and a primary that has lost its
replicas answers nothing at all where ``min-replicas-to-write`` is set.

All keys of a group begin with ``{<prefix>:<group>}:``. The braces make them lie on one node of a
Redis Cluster. Nothing expires by itself.

There are two connections, kept open: one for heartbeats and leaves, the other for the rest. Where
a server says that it is the wrong one, and so that nothing was done, the storage connects anew and
asks once more. An answer that was lost is not asked for again: nobody knows what was done.

Not guaranteed
--------------
Redis answers before a replica has the write, and, unless it is told otherwise, before the disk
has. A failover or a restart that loses the last writes loses runs that were admitted: a second
run may be admitted beside one of them. The page about storages says what narrows that.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from turnwise.errors import MissingExtraError, StorageError
from turnwise.own_process import OwnProcess
from turnwise.storages import (
    Beat,
    Entry,
    Kind,
    Offer,
    OfferRow,
    Owner,
    Pulse,
    Reading,
    Record,
    RunnerRow,
    ServiceReading,
    Sight,
    StableSet,
    Swapped,
    runner_digest,
)
from turnwise.storages.urls import check_spelling, hidden_in, without_password

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.exceptions import NoScriptError, RedisError
    from redis.retry import Retry
except ImportError as error:
    raise MissingExtraError(
        "storages in Redis or Valkey need the extra 'redis': pip install 'turnwise[redis]'"
    ) from error

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
_SCRIPT = files("turnwise.storages").joinpath("redis.lua").read_text("utf-8")
_SCRIPT_HASH = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()
_SCHEMES = {"valkey": "redis", "valkeys": "rediss"}
_EXACT = 2**53  # what the doubles of Lua, and of sorted sets, count without a gap
_PAGE = 1000  # rows of a history in one step: a step keeps everybody else waiting
_NOTHING_WAS_DONE = (
    *("READONLY", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN"),
    *("UNBLOCKED", "NOREPLICAS"),
)
_OF_THESE_CLASSES = (
    redis.exceptions.AskError,  # MovedError is one
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ClusterDownError,  # MasterDownError is one
    redis.exceptions.ReadOnlyError,
    redis.exceptions.TryAgainError,
)
_log = logging.getLogger(__name__)
_digest = lru_cache(maxsize=10_000)(runner_digest)


class RedisStorage:
    """A storage in Redis or Valkey; see :class:`turnwise.storages.Storage`.

    Args:
        url: ``redis://user:password@host:6379/0``, ``rediss://`` for TLS, or
            ``unix:///path/to/socket?db=0``; ``valkey://`` and ``valkeys://`` are the same as the
            first two. ``key_prefix`` in its query stands for ``turnwise`` in the names of the
            keys; redis-py reads the rest of the query.
        clock: gives now, in microseconds, for tests; the server's ``TIME`` by default.

    Raises:
        ValueError: the URL is no URL of a Redis.
        StorageError: the server does not answer, refuses, or is a replica.
    """

    def __init__(self, url: str, *, clock: Callable[[], int] | None = None) -> None:
        check_spelling(url)
        self._name, self._clock = without_password(url), clock
        self._process = OwnProcess(f"the storage {self._name}")
        pool, self._prefix, self._secrets = _opened(url, self._name)
        self._work, self._beats = (_Connection(pool.make_connection()) for _ in range(2))
        try:
            self._check_server()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"RedisStorage({self._name!r})"

    # A process and what it offers -------------------------------------------------------------

    def heartbeat(self, group: str, beat: Beat) -> Pulse:
        """See :meth:`turnwise.storages.Storage.heartbeat`."""
        life = (beat.runner_id, beat.boot_id, _exact(beat.count), _exact(beat.heartbeat_timeout))
        now, revision, found, left, drained, runs, sights, others = self._do(
            "heartbeat", group, *life, *beat.runs, link=self._beats
        )
        return Pulse(
            now=now,
            revision=revision,
            found=bool(found),
            left=bool(left),
            drained=bool(drained),
            open_runs=frozenset(runs),
            sights={_name(service): _sight(sight) for service, sight in sights},
            others=tuple(sorted((boot, count) for boot, count in others)),
        )

    def leave(self, group: str, runner_id: str, boot_id: str) -> None:
        """See :meth:`turnwise.storages.Storage.leave`."""
        self._do("leave", group, runner_id, boot_id, link=self._beats)

    def offer(self, group: str, offer: Offer) -> int:
        """See :meth:`turnwise.storages.Storage.offer`."""
        life = (_quoted(offer.service), offer.runner_id, offer.boot_id)
        timeout, digest = _exact(offer.heartbeat_timeout), _digest(offer.runner_id)
        return int(
            self._do("offer", group, *life, offer.settings, timeout, int(offer.may_run), digest)
        )

    def withdraw(self, group: str, runner_id: str, boot_id: str, service: str) -> None:
        """See :meth:`turnwise.storages.Storage.withdraw`."""
        self._do("withdraw", group, _quoted(service), runner_id, boot_id)

    def stable(
        self,
        group: str,
        service: str,
        *,
        rotation: int,
        limit: int | None,
        among: Sequence[str] = (),
    ) -> StableSet:
        """See :meth:`turnwise.storages.Storage.stable`."""
        now, size, digest, part, alive = self._do(
            "stable", group, _quoted(service), rotation, _or_empty(limit), *among
        )
        runners = tuple((runner_id, joined_at) for runner_id, joined_at in part)
        return StableSet(now, size, digest, runners, frozenset(alive))

    def mark(self, group: str, runner_id: str, *, drained: bool) -> None:
        """See :meth:`turnwise.storages.Storage.mark`."""
        self._do("mark", group, runner_id, int(drained))

    # The records ------------------------------------------------------------------------------

    def read(self, group: str, services: Sequence[str]) -> Reading:
        """See :meth:`turnwise.storages.Storage.read`."""
        now, revision, kept = self._do("read", group, *map(_quoted, services))
        found = {
            service: ServiceReading(
                plan=_record(plan) if plan else None,
                gate=_record(gate) if gate else None,
                sight=_sight(sight) if sight else None,
            )
            for service, (plan, gate, sight) in zip(services, kept, strict=True)
        }
        return Reading(now, revision, found)

    def swap(
        self,
        group: str,
        service: str,
        kind: Kind,
        expected: str | None,
        new: Record,
        not_after: int | None = None,
    ) -> Swapped:
        """See :meth:`turnwise.storages.Storage.swap`."""
        condition = ("-" if expected is None else f"+{expected}", _or_empty(not_after))
        owner: tuple[str | int, ...] = ()
        if new.owner is not None:
            life = (new.owner.runner_id, new.owner.boot_id)
            owner = (new.owner.run_id, *life, _exact(new.owner.heartbeat_timeout))
        now, done = self._do(
            "swap", group, _quoted(service), kind.value, *condition, new.version, new.body, *owner
        )
        return Swapped(now, bool(done))

    def advance(self, group: str) -> int:
        """See :meth:`turnwise.storages.Storage.advance`."""
        return int(self._do("advance", group))

    # History ----------------------------------------------------------------------------------

    def append(self, group: str, service: str, entries: Sequence[Entry]) -> None:
        """See :meth:`turnwise.storages.Storage.append`."""
        for first in range(0, len(entries), _PAGE):
            rows = (
                (entry.id, _exact(entry.at), _quoted(entry.kind), entry.body)
                for entry in entries[first : first + _PAGE]
            )
            self._do("append", group, _quoted(service), *(value for row in rows for value in row))

    def history(
        self,
        group: str,
        service: str,
        *,
        since: int | None = None,
        until: int | None = None,
        last: int | None = None,
        kinds: Sequence[str] | None = None,
    ) -> tuple[Entry, ...]:
        """See :meth:`turnwise.storages.Storage.history`.

        A long history is read in several steps, from its newest row backwards: what is appended in
        the meantime may be missing.
        """
        name, bounds = _quoted(service), (_or_empty(since), _or_empty(until))
        lists = [f"history:{name}"]
        if kinds is not None:
            lists = [f"kind:{name}:{_quoted(kind)}" for kind in sorted(set(kinds))]
        found = {
            row[0]: Entry(row[0], row[1], _name(row[2]), row[3])
            for one in lists
            for row in self._newest(group, name, one, bounds, last)
        }
        entries = sorted(found.values(), key=lambda entry: (entry.at, entry.id))
        return tuple(entries if last is None else entries[max(0, len(entries) - last) :])

    def _newest(
        self,
        group: str,
        service: str,
        of: str,
        bounds: tuple[int | str, int | str],
        last: int | None,
    ) -> Iterable[Any]:
        """The rows of one list of a history, the newest first, no more than are asked for."""
        done, full = 0, True
        while full and (last is None or done < last):
            most = _PAGE if last is None else min(_PAGE, last - done)
            gone_through, rows = self._do("history", group, service, of, *bounds, done, most)
            yield from rows
            done += most
            full = gone_through == most

    def purge(
        self, group: str, service: str, *, before: int, keep: int, spare: Sequence[str] = ()
    ) -> None:
        """See :meth:`turnwise.storages.Storage.purge`; many rows go in several steps."""
        name, spared = _quoted(service), [_quoted(kind) for kind in spare]
        while self._do("purge", group, name, before, keep, _PAGE // 4, *spared) > 0:
            pass

    def purge_runners(self, group: str, *, before: int) -> None:
        """See :meth:`turnwise.storages.Storage.purge_runners`."""
        self._do("purge_runners", group, before)

    # Lists, and forgetting --------------------------------------------------------------------

    def services(self, group: str) -> tuple[str, ...]:
        """See :meth:`turnwise.storages.Storage.services`."""
        return tuple(sorted(map(_name, self._do("services", group))))

    def runners(self, group: str) -> tuple[RunnerRow, ...]:
        """See :meth:`turnwise.storages.Storage.runners`."""
        rows = [
            RunnerRow(*[*row, tuple(runs), bool(drained)])
            for *row, runs, drained in self._do("runners", group)
        ]
        return tuple(sorted(rows, key=lambda row: (row.joined_at, row.runner_id, row.boot_id)))

    def offers(self, group: str) -> tuple[OfferRow, ...]:
        """See :meth:`turnwise.storages.Storage.offers`."""
        rows = [
            OfferRow(Offer(runner_id, boot_id, _name(of), settings, timeout, may_run == "1"), at)
            for of, runner_id, boot_id, (settings, timeout, may_run, at, _) in self._do(
                "offers", group
            )
        ]
        order = ("service", "runner_id", "boot_id")
        return tuple(sorted(rows, key=lambda row: [getattr(row.offer, name) for name in order]))

    def groups(self) -> tuple[str, ...]:
        """See :meth:`turnwise.storages.Storage.groups`; goes through all keys of the database."""
        start, found, cursor = f"{{{self._prefix}:", set(), "0"
        pattern = "".join(f"\\{sign}" if sign in "*?[]\\^-" else sign for sign in start) + "*"
        while True:
            cursor, keys = self._ask(self._work, "SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            for key in keys:
                group, _, what = key.removeprefix(start).partition("}:")
                if what.partition(":")[0] in {"runners", "record", "history"}:
                    found.add(_name(group))
            if cursor == "0":
                return tuple(sorted(found))

    def forget_service(self, group: str, service: str) -> None:
        """See :meth:`turnwise.storages.Storage.forget_service`."""
        self._do("forget_service", group, _quoted(service))

    def forget_runner(self, group: str, runner_id: str) -> None:
        """See :meth:`turnwise.storages.Storage.forget_runner`."""
        self._do("forget_runner", group, runner_id)

    def close(self) -> None:
        """See :meth:`turnwise.storages.Storage.close`."""
        self._work.close()
        self._beats.close()

    # Asking -----------------------------------------------------------------------------------

    def _check_server(self) -> None:
        for link in (self._work, self._beats):  # opened now, and not in the course of work
            self._do("read", "", link=link)
        lines = str(self._ask(self._work, "INFO")).splitlines()
        said = dict(line.partition(":")[::2] for line in lines)
        if said.get("role") == "slave":  # and has replica-read-only switched off
            raise StorageError(f"{self._name}: this server is a replica")
        policy = said.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            _log.warning(
                "%s: maxmemory-policy is %s, so that what was acknowledged may be evicted; "
                "set it to noeviction",
                self._name,
                policy,
            )

    def _do(
        self, operation: str, group: str, *given: str | int, link: "_Connection | None" = None
    ) -> Any:
        """One operation of the script, in one step of the server."""
        now = "" if self._clock is None else _exact(self._clock())
        key = f"{{{self._prefix}:{_quoted(group)}}}:"
        return self._ask(
            link or self._work, "EVALSHA", _SCRIPT_HASH, 1, key, operation, now, *given
        )

    def _ask(self, link: "_Connection", *command: str | int) -> Any:
        self._process.check()
        try:
            return link.ask(command)
        except (RedisError, OSError, UnicodeError) as error:
            # A server repeats what it does not understand, such as a login.
            said = (str(error) or type(error).__name__).partition(", with args beginning")[0]
            for secret in self._secrets:
                said = said.replace(secret, "***")
            cause = error if said == str(error) else None
            raise StorageError(f"{self._name}: {said.splitlines()[0]}") from cause


class _Connection:
    """One connection, kept open, and used by one thread at a time."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._lock = connection, threading.Lock()
        self._was_used = self._is_closed = False

    def ask(self, command: Sequence[str | int]) -> object:
        """The server's answer; once more on a new connection where nothing was done."""
        with self._lock:
            if self._is_closed:
                raise redis.ConnectionError("this storage was closed")
            try:
                return self._ask(command)
            except RedisError as error:
                if not _nothing_was_done(error):
                    raise
            self._drop()
            return self._ask(command)

    def _ask(self, command: Sequence[str | int]) -> object:
        if self._was_used and self._has_ended():
            self._drop()
        try:
            try:
                return self._exchange(command)
            except NoScriptError:
                return self._exchange(("EVAL", _SCRIPT, *command[2:]))
        except redis.ResponseError:
            raise  # an answer: the connection is as it should be
        except BaseException:
            self._drop()
            raise

    def _has_ended(self) -> bool:
        """Whether the server has ended the connection, or said what nobody waits for any more."""
        try:
            return bool(self._connection.can_read())
        except (RedisError, OSError):
            return True

    def _drop(self) -> None:
        self._connection.disconnect()
        self._was_used = False

    def _exchange(self, command: Sequence[str | int]) -> object:
        self._connection.send_command(*command)
        self._was_used = True
        return self._connection.read_response()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._drop()


def _nothing_was_done(error: RedisError) -> bool:
    """Whether the server said that it did nothing, since it is not the one to ask, or not yet."""
    if isinstance(error, _OF_THESE_CLASSES):
        return True
    # Redis 6.2 says it somewhere in a sentence about the script.
    words = str(error).replace("-", " ").split()
    is_answer = isinstance(error, redis.ResponseError)
    return is_answer and any(word in words for word in _NOTHING_WAS_DONE)


def _opened(url: str, name: str) -> tuple[redis.ConnectionPool, str, tuple[str, ...]]:
    """What makes connections, the prefix of the keys, and what must not be shown."""
    secrets = hidden_in(url)
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
        scheme = _SCHEMES.get(parts.scheme, parts.scheme)
        rest = urlencode([(key, value) for key, value in query if key != "key_prefix"])
        pool = redis.ConnectionPool.from_url(
            f"{scheme}://{parts.netloc}{parts.path}?{rest}",
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),  # an answer that is lost is no reason to ask again
            decode_responses=True,
            encoding_errors="surrogatepass",  # a name is any text
            protocol=2,
        )
        pool.connection_class(**pool.connection_kwargs)  # says what it does not know in a query
    except (ValueError, TypeError, RedisError) as error:
        said = str(error)
        for secret in secrets:
            said = said.replace(secret, "***")
        raise ValueError(f"{name!r} is no URL of a Redis: {said}") from None
    prefix = dict(query).get("key_prefix", "turnwise")
    if not prefix or set("{}") & set(prefix):
        raise ValueError(f"{name!r}: key_prefix must be a text without braces, got {prefix!r}")
    return pool, prefix, secrets


def _quoted(name: str) -> str:
    return quote(name, safe="", errors="surrogatepass")


def _name(quoted: str) -> str:
    return unquote(quoted, errors="surrogatepass")


def _or_empty(number: int | None) -> int | str:
    return "" if number is None else number


def _exact(number: int) -> int:
    if abs(number) >= _EXACT:
        raise StorageError(f"Redis keeps numbers below 2**53, got {number}")
    return number


def _record(kept: Sequence[Any]) -> Record:
    version, body, owner = kept
    return Record(version, body, Owner(*owner) if owner else None)


def _sight(kept: Sequence[Any]) -> Sight:
    owner, word, left = kept
    return Sight(Owner(*owner), word, bool(left))
