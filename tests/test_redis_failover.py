"""Failovers of Redis and Valkey, with real primaries, replicas and Sentinels.

The storage knows one address. Behind it stands a forwarder, as a DNS name or a load balancer does:
connections that are open stay where they are when it is led elsewhere.
"""

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

import servers
from faults.proxy import Fault, Proxy
from turnwise import Scheduler
from turnwise.errors import StorageError
from turnwise.storages import Beat, Kind, Owner, Record
from turnwise.storages.redis import RedisStorage

pytestmark = pytest.mark.faults

KINDS: dict[str, tuple[type[servers.Redis], str | None]] = {
    "redis": (servers.Redis, servers.redis_executable()),
    "valkey": (servers.Valkey, servers.valkey_executable()),
}
GATE = Record("1", "the gate", Owner("run", "a", "boot", 1_000_000))
PATIENCE_SECONDS = 60


class Link(Proxy):
    """What a partition cuts: neither end hears of it, nor of what becomes of the other."""

    _held: Sequence[socket.socket] = ()

    def fall_silent(self) -> None:
        self.fault = Fault.SWALLOW
        # A connection ends for its other end once nobody holds it.
        self._held = [one.dup() for one in self._connections if one.fileno() >= 0]

    def close(self) -> None:
        super().close()
        for one in self._held:
            one.close()


@dataclass(frozen=True)
class Pair:
    """A primary, its replica, their link, and an address that leads to the primary."""

    primary: servers.Redis
    replica: servers.Redis
    link: Link
    forwarder: Proxy

    def fail_over(self) -> None:
        """Promote the replica in good order, and demote the primary."""
        say(self.replica, "REPLICAOF", "NO", "ONE")
        say(self.primary, "REPLICAOF", "127.0.0.1", port_of(self.replica))


def port_of(server: servers.Redis) -> str:
    return str(urlsplit(server.url).port)


def say(server: servers.Redis, *command: str) -> object:
    url = server.url.replace("valkey", "redis", 1)
    with closing(redis.Redis.from_url(url, decode_responses=True)) as client:
        return client.execute_command(*command)  # type: ignore[no-untyped-call] # as it is


def info_of(server: servers.Redis) -> dict[str, object]:
    info = say(server, "INFO", "replication")
    assert isinstance(info, dict)
    return info


def role(server: servers.Redis) -> str:
    info = info_of(server)
    return f"{info['role']} {info.get('master_link_status', '')}".strip()


def replicated(pair: Pair) -> None:
    """Wait until the replica has all that the primary has; WAIT counts from the client's write."""
    with closing(redis.Redis.from_url(pair.primary.url.replace("valkey", "redis", 1))) as client:
        client.set("a last write", "")
        assert client.wait(1, 5000) == 1


def eventually(is_so: Callable[[], bool]) -> float:
    """Wait until something is so; the seconds that it took."""
    begin = time.monotonic()
    while True:
        with contextlib.suppress(redis.RedisError, StorageError):
            if is_so():
                return time.monotonic() - begin
        assert time.monotonic() < begin + PATIENCE_SECONDS, "it never came to be so"
        time.sleep(0.01)


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if KINDS[name][1] is None:
        pytest.skip(f"no {name} here")
    return name


@pytest.fixture
def pair(kind: str, tmp_path: Path) -> Iterator[Pair]:
    with opened_pair(kind, tmp_path) as opened:
        yield opened


@pytest.fixture
def watched_pair(kind: str, tmp_path: Path) -> Iterator[Pair]:
    """One without a link in between, which a Sentinel would take for a wrong primary."""
    with opened_pair(kind, tmp_path, linked=False) as opened:
        yield opened


@contextmanager
def opened_pair(kind: str, folder: Path, *options: str, linked: bool = True) -> Iterator[Pair]:
    started = KINDS[kind][0]
    with ExitStack() as stack:
        (folder / "1").mkdir()
        (folder / "2").mkdir()
        both = ("--masterauth", "secret", "--repl-diskless-sync-delay", "0", *options)
        primary = started(folder / "1", *both)
        stack.callback(primary.kill)
        link = Link(primary.url)
        stack.callback(link.close)
        leads = (
            "--replicaof",
            "127.0.0.1",
            str(urlsplit(link.url if linked else primary.url).port),
        )
        replica = started(folder / "2", *both, *leads)
        stack.callback(replica.kill)
        eventually(lambda: role(replica) == "slave up")
        eventually(lambda: info_of(primary).get("min_slaves_good_slaves", 1) == 1)
        forwarder = Proxy(primary.url)
        stack.callback(forwarder.close)
        yield Pair(primary, replica, link, forwarder)


@contextmanager
def sentinel_of(kind: str, server: servers.Redis, folder: Path) -> Iterator[str]:
    """A Sentinel that fails over after half a second of silence; its port."""
    port = str(servers.free_port())
    (folder / "sentinel.conf").write_text(
        f"port {port}\n"
        f"dir {folder}\n"
        f"sentinel monitor turns 127.0.0.1 {port_of(server)} 1\n"
        "sentinel auth-pass turns secret\n"
        "sentinel down-after-milliseconds turns 500\n"
        "sentinel failover-timeout turns 3000\n"
    )
    process = subprocess.Popen(
        [str(KINDS[kind][1]), str(folder / "sentinel.conf"), "--sentinel"],
        stdout=subprocess.DEVNULL,
    )
    try:
        # It has found the replica as well, to which it can fail over.
        eventually(lambda: int(told_by(port, "SENTINEL", "MASTER", "turns")["num-slaves"]) == 1)
        yield port
    finally:
        process.kill()
        process.wait()


def told_by(port: str, *command: str) -> dict[str, str]:
    """What a Sentinel says of its primary."""
    with closing(redis.Redis(port=int(port), decode_responses=True)) as client:
        answer = client.execute_command(*command)  # type: ignore[no-untyped-call] # as it is
    if isinstance(answer, dict):
        return {str(name): str(value) for name, value in answer.items()}
    words = answer if isinstance(answer, list) else []
    return dict(zip(words[::2], words[1::2], strict=True))


def has_failed_over(sentinel: str, pair: Pair) -> bool:
    """Whether a failover is over, the last of its steps included."""
    said = told_by(sentinel, "SENTINEL", "MASTER", "turns")
    return (said["port"], said["flags"]) == (port_of(pair.replica), "master")


def beat(count: int) -> Beat:
    return Beat("a", "boot", count, 1_000_000, ("run",))


# In good order --------------------------------------------------------------------------------

OPERATIONS: dict[str, Callable[[RedisStorage], bool]] = {
    "read": lambda storage: storage.read("g", ["s"]).services["s"].gate == GATE,
    "swap": lambda storage: storage.swap("g", "s", Kind.PLAN, None, Record("2", "plan")).done,
    "heartbeat": lambda storage: storage.heartbeat("g", beat(2)).found,
    "advance": lambda storage: storage.advance("g") > 0,
    "groups": lambda storage: storage.groups() == ("g",),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_once_the_address_leads_to_the_new_primary_the_very_next_operation_is_served(
    pair: Pair, operation: str
) -> None:
    """The connection that is open still leads to the old one, which says that it is a replica."""
    with closing(RedisStorage(pair.forwarder.url)) as storage:
        storage.heartbeat("g", beat(1))
        storage.swap("g", "s", Kind.GATE, None, GATE)
        replicated(pair)
        pair.fail_over()
        if operation != "groups":
            with pytest.raises(StorageError, match="read only replica"):
                OPERATIONS[operation](storage)
        pair.forwarder.lead_to(pair.replica.url)
        assert OPERATIONS[operation](storage)
        assert storage.heartbeat("g", beat(3)).open_runs == {"run"}


def test_a_replica_that_may_be_written_to_is_refused_as_well(pair: Pair) -> None:
    """What is written there is lost when it next copies its primary."""
    say(pair.replica, "CONFIG", "SET", "replica-read-only", "no")
    with pytest.raises(StorageError, match="this server is a replica"):
        RedisStorage(pair.replica.url)


def test_where_the_name_leads_to_a_replica_at_the_start_turns_begin_after_the_failover(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    replicated(pair)
    pair.forwarder.lead_to(pair.replica.url)
    scheduler, ran = Scheduler(pair.forwarder.url), threading.Event()
    scheduler.every("1s", name="s", heartbeat_timeout="1s")(ran.set)
    with scheduler:
        eventually(lambda: "replica" in caplog.text)
        assert not ran.is_set()
        pair.fail_over()
        assert ran.wait(PATIENCE_SECONDS)


def test_at_no_moment_of_an_orderly_failover_is_an_old_row_read(pair: Pair) -> None:
    """What was acknowledged before is seen by every later answer, whoever gives it."""
    with closing(RedisStorage(pair.forwarder.url)) as storage:
        last = storage.advance("g")
        for switched in (False, True):
            if switched:
                replicated(pair)
                pair.fail_over()
                pair.forwarder.lead_to(pair.replica.url)
            for _ in range(50):
                revision = storage.read("g", []).revision
                assert revision == last
                last = storage.advance("g")
                assert last == revision + 1


# Sentinel -------------------------------------------------------------------------------------


def test_a_primary_that_dies_is_replaced_by_sentinel_and_nothing_acknowledged_is_lost(
    watched_pair: Pair, kind: str, tmp_path: Path
) -> None:
    pair = watched_pair
    with (
        sentinel_of(kind, pair.primary, tmp_path) as sentinel,
        closing(RedisStorage(pair.forwarder.url)) as storage,
    ):
        assert storage.swap("g", "s", Kind.GATE, None, GATE).done
        replicated(pair)
        pair.primary.kill()
        with pytest.raises(StorageError):
            storage.read("g", ["s"])
        eventually(lambda: has_failed_over(sentinel, pair))
        pair.forwarder.lead_to(pair.replica.url)
        assert storage.read("g", ["s"]).services["s"].gate == GATE
        assert not storage.swap("g", "s", Kind.GATE, None, GATE).done
        storage.heartbeat("g", beat(1))
        # The old one comes back, and Sentinel makes it a replica of the new one.
        pair.primary.start()
        eventually(lambda: role(pair.primary) == "slave up")
        assert storage.heartbeat("g", beat(2)).found
        with pytest.raises(StorageError, match="read only replica"):
            RedisStorage(pair.primary.url)


def test_a_failover_that_sentinel_is_asked_for_is_over_within_one_retry(
    watched_pair: Pair, kind: str, tmp_path: Path
) -> None:
    pair = watched_pair
    with (
        sentinel_of(kind, pair.primary, tmp_path) as sentinel,
        closing(RedisStorage(pair.forwarder.url)) as storage,
    ):
        storage.heartbeat("g", beat(1))
        assert storage.swap("g", "s", Kind.GATE, None, GATE).done
        replicated(pair)
        eventually(lambda: not told_by(sentinel, "SENTINEL", "FAILOVER", "turns"))
        eventually(lambda: has_failed_over(sentinel, pair))
        eventually(lambda: role(pair.primary) == "slave up")
        pair.forwarder.lead_to(pair.replica.url)
        assert storage.heartbeat("g", beat(2)).open_runs == {"run"}
        assert storage.read("g", ["s"]).services["s"].gate == GATE


# A partition, with the old primary alive ------------------------------------------------------


def cut_off(pair: Pair) -> None:
    """No word passes between the two any more, and the replica is promoted."""
    pair.link.fall_silent()
    say(pair.replica, "CONFIG", "SET", "min-replicas-to-write", "0")
    say(pair.replica, "REPLICAOF", "NO", "ONE")


def test_an_old_primary_that_is_cut_off_goes_on_admitting_where_nothing_forbids_it(
    pair: Pair,
) -> None:
    """Two runs are open at once: what the documentation says of a partition."""
    with closing(RedisStorage(pair.primary.url)) as old:
        cut_off(pair)
        with closing(RedisStorage(pair.replica.url)) as new:
            time.sleep(1)
            assert new.swap("g", "s", Kind.GATE, None, GATE).done
            assert old.swap("g", "s", Kind.GATE, None, GATE).done
            assert old.heartbeat("g", beat(1)).open_runs == {"run"}


def test_wait_says_that_no_replica_has_a_write_and_leaves_it_where_it_is(pair: Pair) -> None:
    """So it tells who asks, and takes nothing back: both sides have admitted all the same."""
    replicated(pair)
    with closing(redis.Redis.from_url(pair.primary.url.replace("valkey", "redis", 1))) as old:
        cut_off(pair)
        old.set("admitted", "by the old")
        assert old.wait(1, 200) == 0
        assert old.get("admitted") == b"by the old"
        assert say(pair.replica, "SET", "admitted", "by the new", "NX")


def test_with_min_replicas_to_write_it_answers_nothing_once_its_replica_was_silent(
    kind: str, tmp_path: Path
) -> None:
    """No read and no heartbeat either, so that a turn there is lost within its own timeout."""
    limits = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "1")
    with (
        opened_pair(kind, tmp_path, *limits) as pair,
        closing(RedisStorage(pair.primary.url)) as old,
    ):
        assert old.swap("g", "s", Kind.GATE, None, GATE).done
        replicated(pair)
        cut_off(pair)
        assert eventually(lambda: refuses(old)) < 4
        for name, operation in OPERATIONS.items():
            if name != "groups":
                with pytest.raises(StorageError, match="Not enough good replicas"):
                    operation(old)
        with closing(RedisStorage(pair.replica.url)) as new:
            assert new.read("g", ["s"]).services["s"].gate == GATE


def test_until_that_silence_is_noticed_both_sides_admit(kind: str, tmp_path: Path) -> None:
    """A replica that answered a moment ago counts: for so long two runs can be open."""
    limits = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "10")
    with (
        opened_pair(kind, tmp_path, *limits) as pair,
        closing(RedisStorage(pair.primary.url)) as old,
    ):
        cut_off(pair)
        with closing(RedisStorage(pair.replica.url)) as new:
            assert old.swap("g", "s", Kind.GATE, None, GATE).done
            assert new.swap("g", "s", Kind.GATE, None, GATE).done


def refuses(storage: RedisStorage) -> bool:
    try:
        storage.heartbeat("g", beat(1))
    except StorageError as error:
        return "Not enough good replicas" in str(error)
    return False
