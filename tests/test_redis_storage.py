"""What is Redis's own: its scripts, its keys, its clock, and what it forgets."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import redis

import servers
from turnwise import StorageError, open_backend
from turnwise.backends import Participant
from turnwise.backends.redis import RedisBackend
from turnwise.testing import SETTINGS, START, Desk, ManualClock, run_of
from turnwise.testing.desk import COMPLETED, RUNNING

WHO = Participant("a", "boot")
pytestmark = pytest.mark.skipif(servers.redis_executable() is None, reason=servers.WHY_NO_REDIS)


def fresh_url() -> str:
    return f"{servers.redis().url}?key_prefix={uuid4().hex}"


@pytest.fixture
def backend() -> Iterator[RedisBackend]:
    with closing(RedisBackend(fresh_url())) as opened:
        yield opened


def use_everything(desk: Desk) -> None:
    """Each operation once at least, each branch of the gate among them."""
    desk.backend.publish_settings(desk.service, desk.settings)
    desk.settle("a", "b")
    desk.backend.look(desk.service, WHO, desk.settings)
    run_id = desk.admitted("a")
    desk.admit("b", slot=1)
    desk.beat("a", run_id=run_id)
    desk.finish(run_id)
    desk.backend.leave(desk.service, WHO)
    desk.clock.advance(desk.settings.interval * 20)
    desk.admitted("b")
    desk.clock.advance(desk.settings.interval)
    desk.finish(desk.admitted("c"))
    assert desk.backend.runners(desk.service) == ()
    assert desk.executions()


# Keys ---------------------------------------------------------------------------------------


def test_all_keys_of_a_service_share_a_hash_tag_whatever_its_name() -> None:
    url = fresh_url()
    for service in ("housekeeping", "{}", "}{x}", "a:b c", "é"):
        with closing(RedisBackend(url, clock=(clock := ManualClock()))) as backend:
            use_everything(Desk(backend, clock, service=service))
    with closing(redis.Redis.from_url(servers.redis().url, decode_responses=True)) as client:
        prefix = url.rpartition("=")[2]
        keys = list(client.scan_iter(f"{prefix}:*", count=1000))
        assert f"{prefix}:services" in keys
        slots: dict[str, set[object]] = {}
        for key in keys:
            if key != f"{prefix}:services":
                tag = key.split("{")[1].split("}")[0]
                assert key.startswith(f"{prefix}:{{{tag}}}:")
                slots.setdefault(tag, set()).add(redis.crc.key_slot(key.encode()))
        assert len(slots) == 5
        assert all(len(slot) == 1 for slot in slots.values())


@contextmanager
def own_server(*options: str) -> Iterator[servers.Redis]:
    with tempfile.TemporaryDirectory() as folder:
        server = servers.Redis(Path(folder), *options)
        try:
            yield server
        finally:
            server.kill()


def test_every_script_stays_on_one_node_of_a_cluster() -> None:
    """A node in cluster mode refuses a script whose keys lie in several slots."""
    with own_server("--cluster-enabled", "yes") as server:
        with closing(redis.Redis.from_url(server.url, decode_responses=True)) as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))  # type: ignore[no-untyped-call] # as it is
            servers.wait_for(
                lambda: client.set("is the cluster", "up?"), server.process, redis.RedisError
            )
        clock = ManualClock()
        with closing(RedisBackend(server.url, clock=clock)) as backend:
            use_everything(Desk(backend, clock))
            assert backend.services() == (Desk.service,)


@pytest.mark.parametrize("prefix", ["", "a{b", "}"])
def test_a_prefix_that_would_change_the_hash_tag_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="key_prefix must be a text without braces") as caught:
        open_backend(f"redis://:secret@127.0.0.1:1/0?key_prefix={prefix}")
    assert "secret" not in str(caught.value)


# One step, one message ------------------------------------------------------------------------


def test_an_operation_is_one_message_and_a_refusal_two(
    backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    execute: Callable[..., object] = redis.Redis.execute_command

    def note(self: redis.Redis, *arguments: object, **options: object) -> object:
        asked.append(str(arguments[0]))
        return execute(self, *arguments, **options)

    monkeypatch.setattr(redis.Redis, "execute_command", note)
    look = backend.look("s", WHO, SETTINGS)
    run = run_of("a", look.cycle.start)
    run_id = run.atomic_service_id.atomic_service_run_id
    assert backend.admit("s", run, SETTINGS, look).fencing_token
    backend.heartbeat("s", WHO, SETTINGS, run_id)
    assert len(asked) == 3
    assert not backend.admit("s", run_of("b", look.cycle.start), SETTINGS, look).fencing_token
    assert len(asked) == 5
    backend.finish("s", run_id, COMPLETED, "", SETTINGS)
    assert asked == ["EVALSHA"] * 6


def test_a_server_that_has_lost_the_script_gets_it_again(backend: RedisBackend) -> None:
    with closing(redis.Redis.from_url(servers.redis().url)) as client:
        client.script_flush()
        assert backend.look("s", WHO, SETTINGS).size == 0
        client.script_flush()
        run = run_of("a", START)
        look = backend.peek("s", SETTINGS)
        client.script_flush()
        assert backend.admit("s", run, SETTINGS, look).fencing_token == 1


def output_bytes(client: redis.Redis) -> int:
    return int(client.info("stats")["total_net_output_bytes"])


def test_what_a_look_brings_does_not_grow_with_the_number_of_runners() -> None:
    brought = {}
    for number in (10, 1000):
        clock = ManualClock()
        with closing(RedisBackend(fresh_url(), clock=clock)) as backend:
            desk = Desk(backend, clock)
            desk.settle(*(f"runner {n:04}" for n in range(number)))
            with closing(redis.Redis.from_url(servers.redis().url)) as client:
                before = output_bytes(client)
                look = backend.look("housekeeping", Participant("runner 0000", "boot"), SETTINGS)
                brought[number] = output_bytes(client) - before
            assert (look.size, len(look.scheduled)) == (number, 3)
    # The digits of the size, and of the server's own statistics.
    assert abs(brought[1000] - brought[10]) < 30, brought


# The clock ------------------------------------------------------------------------------------


def test_the_clock_is_the_servers(backend: RedisBackend) -> None:
    before = datetime.now(UTC)
    now = backend.look("s", WHO, SETTINGS).now
    assert before - timedelta(milliseconds=1) <= now <= datetime.now(UTC)


def test_an_instant_that_lua_cannot_count_exactly_is_refused() -> None:
    far = datetime(2256, 1, 1, tzinfo=UTC)
    with (
        closing(RedisBackend(fresh_url(), clock=lambda: far)) as backend,
        pytest.raises(ValueError, match="counts instants from 1684 to 2255, got 2256-01-01"),
    ):
        backend.look("s", WHO, SETTINGS)


# What goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "redis://:sesame@127.0.0.1:1/0",
        "redis://:sesame@127.0.0.1:PORT/0",
        "redis://nobody:sesame@127.0.0.1:PORT/0",
    ],
)
def test_a_server_that_is_not_there_or_refuses_is_one_line_without_the_password(url: str) -> None:
    port = servers.redis().url.rpartition(":")[2].partition("/")[0]
    with pytest.raises(StorageError) as caught:
        open_backend(url.replace("PORT", port))
    assert "sesame" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://:sesame@h:port/0", "redis://[/0", "redis://h/0?what=1"])
def test_a_url_that_is_none_is_refused_without_the_password(url: str) -> None:
    with pytest.raises((ValueError, StorageError)) as caught:
        open_backend(url)
    assert "sesame" not in str(caught.value)


def test_a_repr_shows_no_password(backend: RedisBackend) -> None:
    assert repr(backend).startswith("RedisBackend('redis://:***@127.0.0.1:")


def test_a_server_that_writes_before_it_answers_remembers_the_gate_through_a_kill() -> None:
    with own_server() as server:
        clock = ManualClock()
        with closing(RedisBackend(server.url, clock=clock)) as backend:
            desk = Desk(backend, clock)
            run_id = desk.admitted("a")
            server.kill()
            with pytest.raises(StorageError):
                desk.admit("b")
            server.start()
            assert desk.admit("b")[1].refusal == f"prior_running:{run_id}"
            assert desk.record(run_id).status is RUNNING


def test_a_server_without_persistence_forgets_the_gate_and_the_tokens() -> None:
    """Not what anybody wants: what the documentation says of it."""
    with own_server("--appendonly", "no") as server:
        clock = ManualClock()
        with closing(RedisBackend(server.url, clock=clock)) as backend:
            desk = Desk(backend, clock, replace(SETTINGS, standbys=0))
            assert desk.admit("a")[1].fencing_token == 1
            server.kill()
            server.start()
            assert desk.admit("b")[1].fencing_token == 1
