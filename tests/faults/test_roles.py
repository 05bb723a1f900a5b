"""Servers that change their role: a standby is promoted, a primary may only be read from.

The participants reach the primary by an address that can be led to another server, as a DNS name
or a load balancer does. Connections that are open stay where they are.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import servers
from faults.proxy import Proxy
from faults.replicated import WHY_NO_POSTGRES, HostPostgres, Standby, programs
from faults.scene import SETTINGS, SLACK_SECONDS, Scene, recorded
from processes import eventually

pytestmark = pytest.mark.faults

needs_postgres = pytest.mark.skipif(programs() is None, reason=WHY_NO_POSTGRES)
needs_mariadb = pytest.mark.skipif(not servers.mariadb_is_here(), reason=servers.WHY_NO_MARIADB)

NAMES = ("alice", "bob")
TIMEOUT_SECONDS = SETTINGS.heartbeat_timeout.total_seconds()
LONGEST_WAIT_SECONDS = 5.0
"""Whoever waits for a storage that does not answer asks again after so long at the latest."""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture
def primary(apart: Path, stack: ExitStack) -> HostPostgres:
    apart.chmod(0o755)
    made = HostPostgres(apart / "primary")
    stack.callback(made.stop)
    return made


@pytest.fixture
def standby(primary: HostPostgres, apart: Path, stack: ExitStack) -> Standby:
    """One without which the primary acknowledges nothing."""
    made = Standby(apart / "standby", primary)
    stack.callback(made.stop)
    primary.say("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
    primary.say("SELECT pg_reload_conf()")
    eventually(
        lambda: primary.say("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"),
        "the standby is a synchronous one",
    )
    return made


@needs_postgres
def test_the_owner_of_a_run_on_a_primary_that_was_replaced_gives_it_up_in_time(
    primary: HostPostgres, standby: Standby, tmp_path: Path
) -> None:
    """Split brain: the old primary is alive, and its client is the last to know."""
    with (
        Scene(standby.url, tmp_path) as scene,
        recorded("standby promoted, primary alive", "postgresql", scene),
    ):
        scene.add("old", url=primary.url, work=12.0)
        begun = scene.await_line("begin", "old")
        standby.promote()
        promoted_at = time.monotonic()
        scene.add("new")
        lost = scene.await_line("lost", "old", promoted_at)
        assert lost.token == begun.token
        # The last heartbeat that was confirmed had left before the promotion.
        assert lost.at - promoted_at < TIMEOUT_SECONDS + 0.5
        successor = scene.await_line("begin", "new", promoted_at)
        assert successor.at > lost.at
        assert successor.token > begun.token
        scene.participants["old"].process.kill()
        scene.await_line("end", "new", successor.at)


def lead_and_serve(
    scene: Scene, forwarder: Proxy, url: str, change_roles: Callable[[], object]
) -> None:
    """Two take turns at one server; then the roles change, and they take turns at the other."""
    for name in NAMES:
        scene.add(name, url=forwarder.url)
    scene.await_line("end")
    # In the middle of a cycle's wait, where nobody is at work.
    forwarder.lead_to(url)
    change_roles()
    changed_at = time.monotonic()
    promised = scene.promised(len(NAMES)).after_outage + LONGEST_WAIT_SECONDS
    assert scene.recovery(changed_at) < promised + SLACK_SECONDS
    scene.await_line("end", since=changed_at)
    for name in NAMES:  # both go on
        scene.await_line("end", name, since=changed_at)


@needs_postgres
@pytest.mark.parametrize("what", ["is stopped", "may only be read from"])
def test_after_a_failover_of_postgresql_turns_go_on_at_the_new_primary(
    primary: HostPostgres, standby: Standby, tmp_path: Path, what: str
) -> None:
    forwarder = Proxy(primary.url)

    def change_roles() -> None:
        if what == "is stopped":
            primary.kill()
        else:
            primary.say("ALTER SYSTEM SET synchronous_standby_names = ''")
            primary.say("ALTER SYSTEM SET default_transaction_read_only = on")
            primary.say("SELECT pg_reload_conf()")
        standby.promote()

    with (
        Scene(standby.url, tmp_path) as scene,
        recorded(f"failover, the old primary {what}", "postgresql", scene),
    ):
        lead_and_serve(scene, forwarder, standby.url, change_roles)
    forwarder.close()


@needs_postgres
@pytest.mark.parametrize("remedy", ["promoted", "led elsewhere"])
def test_where_the_name_leads_to_a_standby_at_the_start_turns_begin_once_it_does_not(
    primary: HostPostgres, standby: Standby, tmp_path: Path, remedy: str
) -> None:
    forwarder = Proxy(primary.url)
    forwarder.lead_to(standby.url)
    with Scene(standby.url if remedy == "promoted" else primary.url, tmp_path) as scene:
        for name in NAMES:
            scene.add(name, url=forwarder.url)
            scene.await_log(name, "read-only")
        assert not scene.lines("begin")
        if remedy == "promoted":
            standby.promote()
        else:
            forwarder.lead_to(primary.url)
        changed_at = time.monotonic()
        for name in NAMES:
            scene.await_line("end", name, since=changed_at)
        promised = scene.promised(len(NAMES)).after_outage + LONGEST_WAIT_SECONDS
        assert scene.recovery(changed_at) < promised + SLACK_SECONDS
    forwarder.close()


@needs_mariadb
@pytest.mark.parametrize("user", ["turns", "plain"])
def test_after_a_failover_of_mariadb_turns_go_on_at_the_new_primary(
    apart: Path, stack: ExitStack, tmp_path: Path, user: str
) -> None:
    """The user ``turns`` may do everything, and so may write to a server that was demoted."""
    first, second = mariadb_pair(apart, stack)
    forwarder = Proxy(as_user(user, first.url))

    def change_roles() -> None:
        tell(first, "SET GLOBAL read_only = 1")
        eventually(lambda: positions(first) == positions(second), "the replica has all", 20)
        tell(second, "STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0")

    with (
        Scene(as_user(user, second.url), tmp_path) as scene,
        recorded(f"failover, read-only, the user {user}", "mariadb", scene),
    ):
        lead_and_serve(scene, forwarder, as_user(user, second.url), change_roles)
    forwarder.close()


def mariadb_pair(folder: Path, stack: ExitStack) -> tuple[servers.Mariadb, servers.Mariadb]:
    """A primary, and a replica of it that may only be read from."""
    both = []
    for number in (1, 2):
        (folder / str(number)).mkdir()
        made = servers.Mariadb(
            folder / str(number),
            f"--server-id={number}",
            "--log-bin=log",
            "--log-slave-updates",
            "--gtid-strict-mode=0",
        )
        stack.callback(made.stop)
        both.append(made)
    first, second = both
    # From here on both have the same history.
    for each in both:
        tell(each, "RESET MASTER")
    port = urlsplit(first.url).port
    tell(
        second,
        "SET GLOBAL read_only = 1",
        "CHANGE MASTER TO master_host='127.0.0.1', master_user='turns', master_password='secret', "
        f"master_port={port}, master_use_gtid=slave_pos, master_connect_retry=1",
        "START SLAVE",
    )
    tell(
        first,
        "CREATE USER plain IDENTIFIED BY 'secret'",
        "GRANT ALL ON turns.* TO plain",
    )
    eventually(lambda: positions(first) == positions(second), "the replica has all", 20)
    return first, second


def as_user(user: str, url: str) -> str:
    return url.replace("//turns:", f"//{user}:")


def tell(server: servers.Mariadb, *statements: str) -> None:
    with server.as_root() as connection:
        for statement in statements:
            connection.cursor().execute(statement)
        connection.commit()


def positions(server: servers.Mariadb) -> object:
    with server.as_root() as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT @@gtid_current_pos")
        return cursor.fetchall()
