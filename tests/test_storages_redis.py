"""What is Redis's and Valkey's own: scripts, keys, clock, the wrong server, and what is lost."""

import contextlib
import logging
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import redis

import servers
from turnwise.errors import ForkError, StorageError
from turnwise.storages import Beat, Entry, Kind, Offer, Owner, Record, Storage
from turnwise.storages import redis as room
from turnwise.storages.redis import RedisStorage

SECOND = 1_000_000
ODD_NAMES = ("plain", "", "{}", "}{x}", "a:b c", "é", "*", "\0", "\ud800", "a\nb")
KINDS: dict[str, type[servers.Redis]] = {"redis": servers.Redis, "valkey": servers.Valkey}
SHARED: dict[str, Callable[[], servers.Redis]] = {
    "redis": servers.redis,
    "valkey": servers.valkey,
}
EXECUTABLES = {"redis": servers.redis_executable, "valkey": servers.valkey_executable}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if EXECUTABLES[name]() is None:
        pytest.skip(f"no {name} here")
    return name


@pytest.fixture
def server(kind: str) -> servers.Redis:
    return SHARED[kind]()


@pytest.fixture
def url(server: servers.Redis) -> str:
    return f"{server.url}?key_prefix={uuid4().hex}"


@pytest.fixture
def storage(url: str) -> Iterator[RedisStorage]:
    with closing(RedisStorage(url)) as opened:
        yield opened


@contextmanager
def own_server(kind: str, *options: str) -> Iterator[servers.Redis]:
    with tempfile.TemporaryDirectory() as folder:
        server = KINDS[kind](Path(folder), *options)
        try:
            yield server
        finally:
            server.kill()


def client_of(url: str) -> "closing[redis.Redis]":
    """A client beside the storage; a name in it may have any character."""
    plain = url.partition("?")[0].replace("valkey", "redis", 1)
    return closing(
        redis.Redis.from_url(plain, decode_responses=True, encoding_errors="surrogatepass")
    )


def keys_of(client: redis.Redis, url: str) -> list[str]:
    prefix = url.rpartition("=")[2]
    return sorted(client.scan_iter(f"{{{prefix}:*", count=1000))


def beat(
    count: int, *runs: str, runner: str = "a", boot: str = "boot", timeout: int = 10 * SECOND
) -> Beat:
    return Beat(runner, boot, count, timeout, runs)


def offer(
    service: str = "s", runner: str = "a", settings: str = "{}", timeout: int = 10 * SECOND
) -> Offer:
    return Offer(runner, "boot", service, settings, timeout)


def open_gate(version: str, run: str = "run") -> Record:
    return Record(version, "the gate", Owner(run, "a", "boot", 10 * SECOND))


def use_everything(storage: Storage, group: str = "g", service: str = "s") -> None:
    """Each operation once at least."""
    now = storage.heartbeat(group, beat(1)).now
    storage.offer(group, offer(service))
    storage.mark(group, "b", drained=True)
    storage.swap(group, service, Kind.PLAN, None, Record("p1", "the plan"))
    storage.swap(group, service, Kind.GATE, None, open_gate("g1"))
    assert storage.heartbeat(group, beat(2, "run")).open_runs == {"run"}
    assert storage.stable(group, service, rotation=0, limit=None, among=["a"]).alive == {"a"}
    storage.append(group, service, [Entry(str(n), now + n, "x", "") for n in range(3)])
    storage.purge(group, service, before=now + 1, keep=10)
    assert len(storage.history(group, service, kinds=["x"])) == 2
    assert storage.read(group, [service]).services[service].sight
    assert storage.services(group) == (service,)
    assert len(storage.runners(group)) == len(storage.offers(group)) == 1
    storage.offer(group, offer(service, settings="other"))
    storage.withdraw(group, "a", "boot", "another")
    storage.advance(group)
    storage.purge_runners(group, before=0)
    storage.forget_service(group, "another")
    storage.forget_runner(group, "another")
    storage.leave(group, "c", "boot")
    assert group in storage.groups()


# Keys -----------------------------------------------------------------------------------------


def test_all_keys_of_a_group_share_one_hash_tag_whatever_its_name(
    storage: RedisStorage, url: str
) -> None:
    """One slot for each group, and a key of one group is none of another."""
    for group in ODD_NAMES:
        for service in filter(None, ODD_NAMES):  # without a name it is the group itself
            use_everything(storage, group, service)
            storage.forget_service(group, service)
            use_everything(storage, group, service)
            storage.forget_service(group, service)
        use_everything(storage, group)
    assert storage.groups() == tuple(sorted(ODD_NAMES))
    with client_of(url) as client:
        slots: dict[str, set[object]] = {}
        for key in keys_of(client, url):
            tag = key.partition("{")[2].partition("}")[0]
            assert key.startswith(f"{{{tag}}}:")
            slots.setdefault(tag, set()).add(redis.crc.key_slot(key.encode()))
    assert len(slots) == len(ODD_NAMES)
    assert all(len(of_one) == 1 for of_one in slots.values())


def test_every_script_stays_on_one_node_of_a_cluster(kind: str) -> None:
    """A node in cluster mode refuses a script whose keys lie in several slots."""
    with own_server(kind, "--cluster-enabled", "yes") as server:
        with client_of(server.url) as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))  # type: ignore[no-untyped-call] # as it is
            servers.wait_for(
                lambda: client.set("is the cluster", "up?"), server.process, redis.RedisError
            )
        with closing(RedisStorage(server.url)) as storage:
            use_everything(storage)


@pytest.mark.parametrize("prefix", ["", "a{b", "}"])
def test_a_prefix_that_would_change_the_hash_tag_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="key_prefix must be a text without braces") as caught:
        RedisStorage(f"redis://:sesame@127.0.0.1:1/0?key_prefix={prefix}")
    assert "sesame" not in str(caught.value)


def test_two_prefixes_do_not_see_each_other_even_where_one_looks_like_a_pattern(
    server: servers.Redis,
) -> None:
    one, other = uuid4().hex, uuid4().hex
    with (
        closing(RedisStorage(f"{server.url}?key_prefix={one}:*")) as first,
        closing(RedisStorage(f"{server.url}?key_prefix={one}:{other}")) as second,
    ):
        second.heartbeat("g", beat(1))
        assert (first.groups(), second.groups()) == ((), ("g",))


def test_what_is_forgotten_leaves_no_key(storage: RedisStorage, url: str) -> None:
    """The revision alone stays, which must not go back."""
    use_everything(storage)
    storage.forget_service("g", "s")
    storage.forget_runner("g", "a")
    storage.forget_runner("g", "b")
    with client_of(url) as client:
        assert [key.partition("}:")[2] for key in keys_of(client, url)] == ["revision"]
    assert (storage.groups(), storage.services("g"), storage.runners("g")) == ((), (), ())


# Steps and messages ---------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str | int]]:
    """What is said to the servers."""
    said: list[Sequence[str | int]] = []
    exchange = room._Connection._exchange

    def note(self: room._Connection, command: Sequence[str | int]) -> object:
        said.append(command)
        return exchange(self, command)

    monkeypatch.setattr(room._Connection, "_exchange", note)
    return said


def test_an_operation_is_one_message(
    storage: RedisStorage, asked: list[Sequence[str | int]]
) -> None:
    storage.read("g", ["s", "t"])  # brings the script where it is not there
    asked.clear()
    storage.heartbeat("g", beat(1, "run"))
    storage.read("g", ["s", "t"])
    storage.swap("g", "s", Kind.GATE, None, open_gate("1"))
    storage.append("g", "s", [Entry("1", 1, "x", ""), Entry("2", 2, "y", "")])
    storage.history("g", "s", last=10)
    storage.purge("g", "s", before=0, keep=10)
    storage.stable("g", "s", rotation=0, limit=3)
    assert [command[0] for command in asked] == ["EVALSHA"] * 7


def test_a_server_that_has_lost_the_script_gets_it_again(
    storage: RedisStorage, url: str, asked: list[Sequence[str | int]]
) -> None:
    with client_of(url) as client:
        for count in range(1, 4):
            client.script_flush()
            storage.heartbeat("g", beat(count))
            storage.read("g", [])
    assert [command[0] for command in asked] == ["EVALSHA", "EVAL", "EVALSHA"] * 3
    assert storage.runners("g")[0].count == 3


def test_a_long_history_is_read_appended_and_purged_in_several_steps(
    storage: RedisStorage, monkeypatch: pytest.MonkeyPatch, asked: list[Sequence[str | int]]
) -> None:
    """No step keeps everybody else waiting for long."""
    monkeypatch.setattr(room, "_PAGE", 10)
    rows = [Entry(f"{n:03}", n // 2, "xy"[n % 2], str(n)) for n in range(95)]
    storage.append("g", "s", rows)
    assert len(asked) >= 10
    for last in (None, 0, 1, 9, 10, 11, 95, 1000):
        newest = rows if last is None else rows[max(0, 95 - last) :]
        assert storage.history("g", "s", last=last) == tuple(newest)
    odd = tuple(row for row in rows if row.kind == "y" and 10 <= row.at < 40)
    assert storage.history("g", "s", since=10, until=40, kinds=["y", "z"]) == odd
    asked.clear()
    storage.purge("g", "s", before=20, keep=30)
    assert len(asked) == 33  # 65 rows, a quarter of a page each time
    assert storage.history("g", "s") == tuple(rows[65:])
    storage.purge("g", "s", before=100, keep=30)
    assert storage.services("g") == ()


def test_spared_rows_stay_and_the_others_go_in_order_however_many_steps_that_takes(
    storage: RedisStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kind may have any name, and rows of several kinds may have one instant."""
    monkeypatch.setattr(room, "_PAGE", 7)
    rows = [Entry(f"{n:03}", n // 4, ("x", "y:z", "é", "w")[n % 3], "") for n in range(90)]
    storage.append("g", "s", rows)
    storage.purge("g", "s", before=0, keep=10, spare=["y:z"])
    others = [row for row in rows if row.kind != "y:z"]
    kept = [row for row in rows if row.kind == "y:z" or row in others[-10:]]
    assert storage.history("g", "s") == tuple(kept)
    storage.purge("g", "s", before=100, keep=10, spare=["y:z", "none"])
    assert {row.kind for row in storage.history("g", "s")} == {"y:z"}
    storage.append("g", "s", [Entry("new", 200, "x", "")])
    assert len(storage.history("g", "s")) == 90 - len(others) + 1
    storage.purge("g", "s", before=1000, keep=10)
    assert storage.services("g") == ()


def test_what_the_set_s_answer_brings_does_not_grow_with_the_number_of_runners(
    storage: RedisStorage, url: str
) -> None:
    brought = {}
    for number in (10, 1000):
        group = str(number)
        for n in range(number):
            # None falls silent before the last has come, however busy the machine is.
            storage.heartbeat(group, beat(1, runner=f"runner {n:04}", timeout=3600 * SECOND))
            storage.offer(group, offer(runner=f"runner {n:04}", timeout=3600 * SECOND))
        with client_of(url) as client:
            before = int(client.info("stats")["total_net_output_bytes"])
            answer = storage.stable(group, "s", rotation=7, limit=3)
            brought[number] = int(client.info("stats")["total_net_output_bytes"]) - before
        assert (answer.size, len(answer.runners)) == (number, 3)
    # The digits of the size, and of the server's own statistics.
    assert abs(brought[1000] - brought[10]) < 100, brought


def test_heartbeats_do_not_wait_for_other_work(storage: RedisStorage) -> None:
    with storage._work._lock:  # as an operation does that waits for its answer
        other = threading.Thread(target=come_and_go, args=(storage,), daemon=True)
        other.start()
        other.join(10)
        assert not other.is_alive()
    assert storage.runners("g")[0].left_at


def come_and_go(storage: Storage) -> None:
    storage.heartbeat("g", beat(1))
    storage.leave("g", "a", "boot")


def test_only_two_connections_are_opened_and_they_are_kept_open(kind: str) -> None:
    with own_server(kind) as server, client_of(server.url) as client:
        before = int(client.info("stats")["total_connections_received"])
        with closing(RedisStorage(server.url)) as storage:
            for _ in range(3):
                use_everything(storage)
                storage.forget_service("g", "s")
            assert int(client.info("stats")["total_connections_received"]) == before + 2
            assert int(client.info("clients")["connected_clients"]) == 3
        give_up = time.monotonic() + 10
        while int(client.info("clients")["connected_clients"]) > 1:
            assert time.monotonic() < give_up, "a connection is left behind"
            time.sleep(0.005)


# What a life offers ---------------------------------------------------------------------------


def test_a_service_that_was_forgotten_on_purpose_is_not_taken_for_one_that_was_lost(
    storage: RedisStorage,
) -> None:
    storage.heartbeat("g", beat(1))
    for service in ("s", "t"):
        storage.offer("g", offer(service))
    storage.forget_service("g", "s")
    storage.withdraw("g", "a", "boot", "t")
    assert storage.heartbeat("g", beat(2)).found


def test_an_offer_that_is_made_again_as_it_was_is_as_old_as_before(url: str) -> None:
    clock = iter(range(1, 100))
    with closing(RedisStorage(url, clock=lambda: next(clock))) as storage:
        storage.offer("g", offer())
        (made,) = storage.offers("g")
        storage.offer("g", offer())
        assert storage.offers("g") == (made,)
        storage.offer("g", offer(settings="other"))
        assert storage.offers("g")[0].at > made.at


def test_a_runner_id_is_any_text(storage: RedisStorage) -> None:
    for name in ODD_NAMES:
        storage.heartbeat("g", beat(1, name, runner=name, boot=name))
        storage.offer("g", Offer(name, name, "s", name, 10 * SECOND))
    assert {row.runner_id for row in storage.runners("g")} == set(ODD_NAMES)
    assert {row.offer.settings for row in storage.offers("g")} == set(ODD_NAMES)
    kept = storage.stable("g", "s", rotation=0, limit=None, among=ODD_NAMES)
    assert kept.alive == {name for name, _ in kept.runners} == set(ODD_NAMES)


def test_any_whole_number_rotates_the_set_as_in_python(storage: RedisStorage) -> None:
    names = [f"runner {n}" for n in range(7)]
    for name in names:
        storage.heartbeat("g", beat(1, runner=name))
        storage.offer("g", offer(runner=name))
    for rotation in (0, 1, 7, -1, -8, 10**40 + 3, -(10**40)):
        (first, _), *_ = storage.stable("g", "s", rotation=rotation, limit=1).runners
        assert first == names[rotation % 7]


# Clock and numbers ----------------------------------------------------------------------------


def test_the_clock_is_the_servers(storage: RedisStorage) -> None:
    before = time.time_ns() // 1000
    now = storage.read("g", []).now
    assert before - 1000 <= now <= time.time_ns() // 1000


def test_an_injected_clock_takes_its_place(url: str) -> None:
    with closing(RedisStorage(url, clock=lambda: 42)) as storage:
        assert storage.read("g", []).now == storage.heartbeat("g", beat(1)).now == 42
        storage.leave("g", "a", "boot")
        row = storage.runners("g")[0]
        assert (row.joined_at, row.heard_at, row.left_at) == (42, 42, 42)


def test_numbers_are_kept_exactly_up_to_the_limit_and_refused_beyond(storage: RedisStorage) -> None:
    most = 2**53 - 1
    for at in (most, most - 1, -most):
        storage.append("g", "s", [Entry(str(at), at, "x", "")])
    assert [row.at for row in storage.history("g", "s")] == [-most, most - 1, most]
    assert [row.at for row in storage.history("g", "s", since=most)] == [most]
    storage.heartbeat("g", Beat("a", "boot", most, most))
    assert (storage.runners("g")[0].count, storage.runners("g")[0].heartbeat_timeout) == (most,) * 2
    with pytest.raises(StorageError, match=r"below 2\*\*53, got 9007199254740992"):
        storage.append("g", "s", [Entry("y", 2**53, "x", "")])
    with pytest.raises(StorageError, match=r"below 2\*\*53"):
        storage.heartbeat("g", beat(2**53))


# URLs and logins ------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["", "nobody"])
@pytest.mark.parametrize("port", ["1", "PORT"])
def test_a_server_that_is_not_there_or_refuses_is_one_line_without_the_password(
    server: servers.Redis, who: str, port: str
) -> None:
    here = server.url.rpartition(":")[2].partition("/")[0]
    with pytest.raises(StorageError) as caught:
        RedisStorage(f"redis://{who}:sesame@127.0.0.1:{port.replace('PORT', here)}/0")
    assert "sesame" not in repr(caught.value) + repr(caught.value.__cause__)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:sesame@h:port/0",
        "redis://[/0",
        "redis://h/0?what=1",
        "redis://h/0?password=sesame&socket_timeout=soon",
        "redis://:sesame@h/0?protocol=4",
        "http://:sesame@h/0",
        "redis://u:ses@ame@h/0",
        "redis://h/0\n",
    ],
)
def test_a_url_that_is_none_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"storage|is no URL of a Redis") as caught:
        RedisStorage(url)
    assert "sesame" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_repr_shows_no_password(storage: RedisStorage, kind: str) -> None:
    assert repr(storage).startswith(f"RedisStorage('{kind}://:***@127.0.0.1:")


def test_a_unix_socket_is_served(kind: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/socket"
        with own_server(kind, "--unixsocket", path):
            url = f"unix://{path}?db=1&password=secret&key_prefix=p"
            with closing(RedisStorage(url)) as storage:
                use_everything(storage)
                assert "secret" not in repr(storage)
            with pytest.raises(StorageError) as caught:
                RedisStorage(f"unix://{path}?password=sesame")
            assert "sesame" not in str(caught.value)


def test_a_user_needs_no_more_rights_than_the_documentation_says(kind: str) -> None:
    rights = (
        "~{turnwise:*",
        *("+eval", "+evalsha", "+time", "+info", "+scan", "+del", "+unlink", "+exists"),
        *("+@hash", "+@set", "+@sortedset", "+@string"),
    )
    with own_server(kind) as server:
        with client_of(server.url) as client:
            client.execute_command("ACL", "SETUSER", "turns", "on", ">sesame", *rights)  # type: ignore[no-untyped-call] # as it is
        with closing(RedisStorage(server.url.replace(":secret", "turns:sesame"))) as storage:
            use_everything(storage)
        with pytest.raises(StorageError, match="permission"):
            RedisStorage(server.url.replace(":secret", "turns:sesame") + "?key_prefix=other")


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_a_url_of_tls_is_never_spoken_to_without(scheme: str, server: servers.Redis) -> None:
    url = server.url.replace(server.scheme, scheme, 1)
    with pytest.raises(StorageError):
        RedisStorage(f"{url}?socket_connect_timeout=0.1&socket_timeout=0.1")
    assert room._opened(url, url)[0].connection_class is redis.SSLConnection


# What goes wrong ------------------------------------------------------------------------------


class Pretender:
    """A server that answers each script with what a test gives it, in RESP, and then with 7.

    An answer of None ends the connection. ``heard`` has the commands but those of a login.
    """

    def __init__(self, *answers: bytes | None, login: bytes = b"+OK\r\n") -> None:
        self.answers, self.heard, self.connections = list(answers), list[str](), 0
        self._login = login
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://:sesame@127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError):
            while line := stream.readline():
                words = []
                for _ in range(int(line[1:])):
                    length = int(stream.readline()[1:])
                    words.append(stream.read(length + 2)[:-2].decode())
                answer = self._answer(words)
                if answer is None:
                    return
                connection.sendall(answer)

    def _answer(self, words: list[str]) -> bytes | None:
        if words[0] not in {"EVALSHA", "EVAL", "INFO"}:
            return self._login.replace(b"LOGIN", " ".join(words).encode())
        if words[0] == "INFO":
            return b"$0\r\n\r\n"
        self.heard.append(words[4])
        return self.answers.pop(0) if self.answers else b":7\r\n"


ELSEWHERE = [
    b"-READONLY You can't write against a read only replica.\r\n",
    b"-ERR Error running script (call to f_0): @user_script:28: -READONLY You can't.\r\n",
    b"-MOVED 866 10.0.0.2:6379\r\n",
    b"-ASK 866 10.0.0.2:6379\r\n",
    b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
    b"-CLUSTERDOWN The cluster is down\r\n",
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"-MASTERDOWN Link with MASTER is down\r\n",
    b"-UNBLOCKED force unblock from blocking operation, instance state changed\r\n",
    b"-NOREPLICAS Not enough good replicas to write.\r\n",
]


@pytest.mark.parametrize("error", ELSEWHERE)
def test_where_the_wrong_server_has_done_nothing_the_next_connection_is_asked_once(
    error: bytes,
) -> None:
    with closing(Pretender()) as server, closing(RedisStorage(server.url)) as storage:
        server.answers, server.heard = [error], []
        assert storage.advance("g") == 7
        assert (server.heard, server.connections) == (["advance"] * 2, 3)
        server.answers, server.heard = [error, error, error], []
        with pytest.raises(StorageError, match=r"^redis://:\*\*\*@127"):
            storage.advance("g")
        assert server.heard == ["advance"] * 2


@pytest.mark.parametrize(
    "answer",
    [
        None,  # an answer that is lost
        b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        b"-MISCONF Redis is configured to save RDB snapshots\r\n",
        b"-BUSY Redis is busy running a script.\r\n",
        b"-ERR something went wrong\r\n",
        b"+\xff\r\n",  # no text
        b"?what\r\n",  # no answer
    ],
)
def test_nothing_is_asked_twice_where_it_may_have_been_done(answer: bytes | None) -> None:
    with closing(Pretender()) as server, closing(RedisStorage(server.url)) as storage:
        server.answers, server.heard = [answer], []
        with pytest.raises(StorageError):
            storage.advance("g")
        assert server.heard == ["advance"]
        assert storage.advance("g") == 7


@pytest.mark.parametrize("words", [b"unknown command, with args beginning with:", b"what is"])
def test_a_server_that_repeats_the_login_in_an_error_does_not_make_it_show(words: bytes) -> None:
    login = b"-ERR " + words + b" LOGIN\r\n"
    with closing(Pretender(login=login)) as server, pytest.raises(StorageError) as caught:
        RedisStorage(server.url)
    assert "sesame" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_an_interrupted_answer_is_not_taken_for_that_of_the_next_question(
    storage: RedisStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> object:
        raise KeyboardInterrupt

    storage.advance("g")
    with monkeypatch.context() as patch:
        patch.setattr(storage._work._connection, "read_response", interrupt)
        with pytest.raises(KeyboardInterrupt):
            storage.advance("g")
    assert storage.read("g", []).revision == 2


def test_a_connection_that_the_server_has_ended_is_noticed_before_it_is_used(
    kind: str,
) -> None:
    with own_server(kind) as server, closing(RedisStorage(server.url)) as storage:
        storage.heartbeat("g", beat(1))
        with client_of(server.url) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call] # as it is
        assert storage.heartbeat("g", beat(2)).found
        assert storage.advance("g") == 1


def test_a_server_that_is_away_is_served_from_as_soon_as_it_is_back(kind: str) -> None:
    with own_server(kind) as server, closing(RedisStorage(server.url)) as storage:
        storage.heartbeat("g", beat(1))
        server.kill()
        for _ in range(2):
            with pytest.raises(StorageError):
                storage.heartbeat("g", beat(2))
            with pytest.raises(StorageError):
                storage.advance("g")
        server.start()
        assert storage.heartbeat("g", beat(3)).found
        assert storage.advance("g") == 1


def test_a_closed_storage_and_one_of_another_process_are_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = RedisStorage(url)
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: 0)
        with pytest.raises(ForkError):
            storage.advance("g")
    storage.close()
    storage.close()
    with pytest.raises(StorageError, match="was closed"):
        storage.advance("g")
    with pytest.raises(StorageError, match="was closed"):
        storage.heartbeat("g", beat(1))


def test_foreign_data_under_a_key_are_a_storage_error(storage: RedisStorage, url: str) -> None:
    use_everything(storage)
    with client_of(url) as client:
        for key in keys_of(client, url):
            client.delete(key)
            client.set(key, "not ours")
    for operation in (
        lambda: storage.heartbeat("g", beat(9)),
        lambda: storage.read("g", ["s"]),
        lambda: storage.history("g", "s"),
        lambda: storage.stable("g", "s", rotation=0, limit=1),
        lambda: storage.advance("g"),
    ):
        with pytest.raises(StorageError) as caught:
            operation()
        assert "\n" not in str(caught.value)


# The wrong server -----------------------------------------------------------------------------


def demote(server: servers.Redis, port: str) -> None:
    with client_of(server.url) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", port)  # type: ignore[no-untyped-call] # as it is


def test_a_replica_is_refused_at_opening(kind: str) -> None:
    with own_server(kind) as server:
        demote(server, "1")
        with pytest.raises(StorageError, match="read only replica"):
            RedisStorage(server.url)


def test_a_demoted_server_answers_no_read_either(kind: str) -> None:
    """What it has may be old."""
    with own_server(kind) as server, closing(RedisStorage(server.url)) as storage:
        use_everything(storage)
        demote(server, "1")
        for operation in (
            lambda: storage.read("g", ["s"]),
            lambda: storage.history("g", "s"),
            lambda: storage.heartbeat("g", beat(1)),
            lambda: storage.runners("g"),
        ):
            with pytest.raises(StorageError, match="read only replica"):
                operation()
        with client_of(server.url) as client:
            client.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call] # as it is
        assert storage.heartbeat("g", beat(3)).found


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru", "volatile-ttl"])
def test_a_policy_that_evicts_is_warned_of_in_one_line(
    kind: str, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO, "turnwise.storages.redis"),
        own_server(kind, "--maxmemory-policy", policy) as server,
        closing(RedisStorage(server.url)),
    ):
        said = [record.getMessage() for record in caplog.records]
    if policy == "noeviction":
        assert said == []
    else:
        assert len(said) == 1
        assert f"maxmemory-policy is {policy}" in said[0]
        assert "secret" not in said[0]
        assert "\n" not in said[0]


# What is lost ---------------------------------------------------------------------------------


def take_part(storage: Storage, count: int) -> bool:
    """What a process does time and again; whether it had to offer anew."""
    found = storage.heartbeat("g", beat(count, "run")).found
    if not found:
        storage.offer("g", offer())
        storage.offer("g", offer("t"))
    return not found


def history_of(now: int) -> list[Entry]:
    return [Entry("1", now, "x", ""), Entry("2", now, "y", "")]


def filled(storage: Storage) -> int:
    """A group with two services, an open run and a history; the storage's now."""
    take_part(storage, 1)
    now = storage.heartbeat("g", beat(2, "run")).now
    for service in ("s", "t"):
        storage.swap("g", service, Kind.PLAN, None, Record("1", "plan"))
        storage.append("g", service, history_of(now))
    storage.swap("g", "s", Kind.GATE, None, open_gate("1"))
    storage.swap("g", "t", Kind.GATE, None, Record("1", "gate"))
    storage.mark("g", "b", drained=True)
    return now


KEYS = [
    *("revision", "runners", "drained", "services"),
    *("offers:s", "record:s", "entries:s", "history:s", "kinds:s", "kind:s:x"),
]


def test_the_keys_that_are_lost_below_are_all_there_are(storage: RedisStorage, url: str) -> None:
    filled(storage)
    with client_of(url) as client:
        there = {key.partition("}:")[2] for key in keys_of(client, url)}
    of_t = {key.replace(":s", ":t") for key in KEYS if ":" in key}
    assert there == {*KEYS, *of_t, "kind:s:y", "kind:t:y"}


@pytest.mark.parametrize("lost", KEYS)
def test_whatever_key_is_lost_the_group_goes_on_within_two_heartbeats(
    storage: RedisStorage, url: str, lost: str
) -> None:
    """The process is told to join anew where it must offer again; all else is there again."""
    now = filled(storage)
    before = storage.read("g", []).revision
    with client_of(url) as client:
        prefix = url.rpartition("=")[2]
        assert client.delete(f"{{{prefix}:g}}:{lost}") == 1
    for service in ("s", "t"):  # at once, before anything has healed
        assert set(storage.history("g", service)) <= set(history_of(now))
        assert set(storage.history("g", service, kinds=["x", "y"])) <= set(history_of(now))
        storage.stable("g", service, rotation=0, limit=None)
    storage.runners("g"), storage.offers("g"), storage.read("g", ["s", "t"])
    if lost == "services":
        assert storage.services("g") == ("s", "t")
    joins = [take_part(storage, count) for count in (3, 4, 5)]
    assert joins == [lost in {"runners", "offers:s"}, False, False]
    assert storage.stable("g", "s", rotation=0, limit=None, among=["a"]).alive == {"a"}
    assert storage.advance("g") > before
    kept = storage.read("g", ["s", "t"]).services
    if lost == "record:s":
        assert (kept["s"].plan, kept["s"].gate) == (None, None)
        assert storage.swap("g", "s", Kind.PLAN, None, Record("2", "plan")).done
        assert storage.swap("g", "s", Kind.GATE, None, open_gate("2")).done
    else:
        assert (kept["s"].plan, kept["s"].gate) == (Record("1", "plan"), open_gate("1"))
    pulse = storage.heartbeat("g", beat(6, "run"))
    assert pulse.open_runs == {"run"}
    assert {service: sight.word for service, sight in pulse.sights.items()} == {"s": 6}
    for service in ("s", "t"):
        storage.append("g", service, [Entry("3", now + 1, "x", "")])
        assert storage.history("g", service)[-1].id == "3"
        assert storage.history("g", service, kinds=["x"])[-1].id == "3"
        storage.purge("g", service, before=now, keep=1)
        assert [row.id for row in storage.history("g", service)] == ["3"]
    assert storage.services("g") == ("s", "t")
    assert {row.runner_id for row in storage.runners("g")} == {"a"}
    assert [row.offer.service for row in storage.offers("g")] == ["s", "t"]
    storage.purge_runners("g", before=2**52)
    storage.forget_service("g", "s")
    assert (storage.offers("g"), storage.runners("g")) == ((), ())


def test_a_revision_that_was_lost_is_larger_afterwards_than_any_before(
    storage: RedisStorage, url: str
) -> None:
    storage.heartbeat("g", beat(1))
    seen = [storage.advance("g") for _ in range(3)]
    with client_of(url) as client:
        client.delete(*(key for key in keys_of(client, url) if key.endswith("revision")))
    now = storage.read("g", []).revision
    assert now > seen[-1]
    assert storage.heartbeat("g", beat(2)).revision == now
    assert storage.advance("g") == now + 1


def test_the_last_rows_of_a_history_are_shown_once_their_order_is_lost(
    storage: RedisStorage, url: str
) -> None:
    """A half of it is of no use, and goes with the next row; the other kinds are not touched."""
    filled(storage)
    with client_of(url) as client:
        client.delete(*(key for key in keys_of(client, url) if key.endswith("history:s")))
        assert storage.history("g", "s") == ()
        storage.append("g", "s", [Entry("1", 5, "z", "again")])
        assert storage.history("g", "s") == (Entry("1", 5, "z", "again"),)
        assert storage.history("g", "s", kinds=["x", "y"]) == ()
        assert len(storage.history("g", "t")) == 2
        kinds = [key.rpartition(":")[2] for key in keys_of(client, url) if "kind:s:" in key]
    assert kinds == ["z"]


def test_under_an_evicting_policy_every_operation_answers_and_the_group_goes_on(kind: str) -> None:
    """Other keys press ours out time and again; a few steps later the service has its plan."""
    limits = ("--maxmemory-policy", "allkeys-random", "--maxmemory", "4mb", "--appendonly", "no")
    with (
        own_server(kind, *limits) as server,
        client_of(server.url) as client,
        closing(RedisStorage(server.url)) as storage,
    ):
        joins = 0
        for count in range(1, 400):
            client.set(f"other {count}", "x" * 50_000)
            joins += take_part(storage, count)
            assert plan_anew(storage, str(count)) < 10
            storage.append("g", "s", [Entry(str(count), count, "x", "")])
            storage.history("g", "s", last=5)
            storage.purge("g", "s", before=count - 10, keep=5)
        assert int(client.info("stats")["evicted_keys"]) > 100
        assert 3 < joins < 300


def plan_anew(storage: Storage, version: str) -> int:
    """Replace a plan, and say how often that had to be tried."""
    for attempt in range(100):
        plan = storage.read("g", ["s"]).services["s"].plan
        new = Record(f"{version}.{attempt}", "plan")
        expected = None if plan is None else plan.version
        if storage.swap("g", "s", Kind.PLAN, expected, new).done:
            return attempt + 1
    pytest.fail("no plan in a hundred tries")


def test_a_server_that_writes_before_it_answers_remembers_the_gate_through_a_kill(
    kind: str,
) -> None:
    with own_server(kind) as server, closing(RedisStorage(server.url)) as storage:
        assert storage.swap("g", "s", Kind.GATE, None, open_gate("1")).done
        server.kill()
        server.start()
        with contextlib.suppress(StorageError):
            storage.read("g", [])
        assert storage.read("g", ["s"]).services["s"].gate == open_gate("1")
        assert not storage.swap("g", "s", Kind.GATE, None, open_gate("2")).done


def test_a_server_without_persistence_forgets_the_gate(kind: str) -> None:
    """Not what anybody wants: what the documentation says of it."""
    with (
        own_server(kind, "--appendonly", "no") as server,
        closing(RedisStorage(server.url)) as storage,
    ):
        assert storage.swap("g", "s", Kind.GATE, None, open_gate("1")).done
        server.kill()
        server.start()
        with contextlib.suppress(StorageError):
            storage.read("g", [])
        assert storage.swap("g", "s", Kind.GATE, None, open_gate("2")).done
