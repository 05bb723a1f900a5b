"""What goes wrong with real processes on real storages: never two at once, and soon again one."""

import ctypes
import os
import resource
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.proxy import Fault, Proxy
from faults.scene import SETTINGS, SLACK_SECONDS, WORK_SECONDS, Scene, recorded
from faults.soak import Churn, Soak
from faults.storages import KINDS, SERVERS, STORAGES, url_of, why_missing
from processes import eventually
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import SECOND
from turnwise.storages.opening import open_storage

pytestmark = pytest.mark.faults

NAMES = ("alice", "bob", "carol")
CYCLE_SECONDS = SETTINGS.shortest_cycle.total_seconds()
TIMEOUT_SECONDS = SETTINGS.heartbeat_timeout.total_seconds()
LONGEST_WAIT_SECONDS = 5.0
"""Whoever waits for a storage that does not answer asks again after so long at the latest."""
GATE_WITH_A_RUN, END_OF_A_RUN = b"slot_end", b"ended_at"
"""What is said by a request that has a run admitted, or ended, and by no heartbeat."""
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1
PRELOAD = "/usr/lib/*/faketime/libfaketime.so.1"


def there(storage: str) -> str:
    """The storage's name, where it can be tried."""
    reason = why_missing(storage)
    if reason is not None:
        pytest.skip(reason)
    return storage


@pytest.fixture(params=KINDS)
def storage(request: pytest.FixtureRequest) -> str:
    return there(request.param)


@pytest.fixture(params=KINDS[1:])
def server(request: pytest.FixtureRequest) -> str:
    return there(request.param)


@pytest.fixture
def scene(storage: str, tmp_path: Path) -> Iterator[Scene]:
    with Scene(url_of(storage, tmp_path), tmp_path) as made:
        yield made


@pytest.fixture
def proxy(server: str, tmp_path: Path) -> Iterator[Proxy]:
    made = Proxy(url_of(server, tmp_path))
    yield made
    made.close()


@pytest.fixture
def behind(server: str, proxy: Proxy, tmp_path: Path) -> Iterator[Scene]:
    """A scene whose participants reach the server directly; a test may send one by the proxy."""
    del server
    with Scene(proxy.server_url, tmp_path) as made:
        yield made


@pytest.mark.parametrize("storage", STORAGES, indirect=True)
def test_a_runner_is_killed_in_its_turn(scene: Scene, storage: str) -> None:
    with recorded("killed in its turn", storage, scene) as recovers_from:
        for name in NAMES:
            scene.add(name)
        begun = scene.await_line("begin")
        killed_at = scene.participants[begun.runner_id].send(signal.SIGKILL)
        recovers_from(killed_at)
        scene.await_turns(2)
    (lost,) = [run for run in scene.runs() if run.token == begun.token]
    assert (lost.status, lost.reason) == (Status.ABANDONED, "owner_dead")


@pytest.mark.parametrize("storage", STORAGES, indirect=True)
def test_a_runner_is_suspended_in_its_turn_for_longer_than_the_timeout(
    scene: Scene, storage: str
) -> None:
    with recorded("suspended in its turn", storage, scene) as recovers_from:
        for name in NAMES:
            scene.add(name)
        begun = scene.await_line("begin")
        stopped_at = scene.participants[begun.runner_id].send(signal.SIGSTOP)
        recovers_from(stopped_at)
        # The successor has written, and so the late write is refused.
        scene.await_line("write", since=scene.await_line("begin", since=stopped_at).at)
        scene.participants[begun.runner_id].send(signal.SIGCONT)
        assert scene.await_line("refused").token == begun.token
        assert scene.await_line("lost").token == begun.token
        eventually(
            lambda: "else had closed its run" in scene.participants[begun.runner_id].log,
            "the turn is reported lost",
        )
        scene.await_turns(2)


def test_a_runner_is_suspended_between_its_decision_and_the_gate(
    scene: Scene, storage: str
) -> None:
    with recorded("suspended before the gate", storage, scene) as recovers_from:
        slow = scene.add("slow", "--hold", "admit")
        for name in NAMES[:2]:
            scene.add(name)
        held = scene.await_line("at gate", "slow")
        slow.send(signal.SIGSTOP)
        recovers_from(held.at)
        scene.await_line("end", since=held.at)
        scene.go_on()
        slow.send(signal.SIGCONT)
        scene.await_turns(3)


def test_a_runner_is_killed_while_its_admission_is_on_its_way(
    behind: Scene, server: str, proxy: Proxy
) -> None:
    with recorded("killed while it is admitted", server, behind) as recovers_from:
        lonely = behind.add("lonely", "--hold", "admit", url=proxy.url)
        behind.await_line("at gate", "lonely")
        for name in NAMES[:2]:
            behind.add(name)
        for name in NAMES[:2]:
            behind.await_log(name, "has joined")
        proxy.only, proxy.fault = GATE_WITH_A_RUN, Fault.CUT_AFTER
        behind.go_on()
        eventually(lambda: proxy.struck, "the request has arrived")
        killed_at = lonely.send(signal.SIGKILL)
        # The others have just joined: the plan of this cycle does not list them.
        del recovers_from
        promised = max(behind.promised(3).after_kill, 2 * CYCLE_SECONDS)
        assert behind.recovery(killed_at) < promised + SLACK_SECONDS
        behind.await_turns(1)


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.CUT_AFTER])
def test_the_answer_of_the_gate_is_lost(
    behind: Scene, server: str, proxy: Proxy, fault: Fault
) -> None:
    with recorded(f"admission: {fault}", server, behind):
        behind.add("slow", "--hold", "admit", url=proxy.url)
        behind.add("alice")
        behind.await_line("at gate", "slow")
        proxy.only, proxy.fault = GATE_WITH_A_RUN, fault
        behind.go_on()
        eventually(lambda: proxy.struck, "the connection was cut")
        proxy.fault = Fault.NONE
        ended = behind.await_line("end", "slow")
        behind.await_line("end", since=ended.at)


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.CUT_AFTER])
def test_the_connection_is_cut_while_a_run_is_closed(
    behind: Scene, server: str, proxy: Proxy, fault: Fault
) -> None:
    with recorded(f"end of a run: {fault}", server, behind):
        slow = behind.add("slow", "--hold", "finish", url=proxy.url)
        behind.add("alice")
        held = behind.await_line("at finish", "slow")
        token = max(line.token for line in behind.lines("begin", "slow") if line.at < held.at)
        proxy.only, proxy.fault = END_OF_A_RUN, fault
        behind.go_on()
        eventually(lambda: proxy.struck, "the connection was cut")
        proxy.fault = Fault.NONE
        behind.await_line("end", since=time.monotonic())
    (run,) = [run for run in behind.runs() if run.token == token]
    assert run.status is Status.COMPLETED
    assert f"turn {token} ends" in slow.log


def test_a_link_swallows_everything_during_a_turn(behind: Scene, server: str, proxy: Proxy) -> None:
    with recorded("link swallows all in a turn", server, behind) as recovers_from:
        behind.add("far", url=proxy.url, work=3.0)
        begun = behind.await_line("begin", "far")
        for name in NAMES[:2]:
            behind.add(name)
        proxy.fault = Fault.SWALLOW
        swallowed_at = time.monotonic()
        assert behind.await_line("lost", "far").token == begun.token
        del recovers_from
        promised = max(behind.promised(3).after_kill, 2 * CYCLE_SECONDS)
        assert behind.recovery(swallowed_at) < promised + SLACK_SECONDS
        proxy.fault = Fault.NONE
        proxy.cut()
        behind.await_line("begin", "far", since=swallowed_at + 1)


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_a_server_is_killed_and_comes_back_while_a_turn_runs(
    server: str, tmp_path: Path, apart: Path
) -> None:
    own = SERVERS[server](apart)
    try:
        with (
            Scene(own.url, tmp_path) as scene,
            recorded("server killed and restarted", server, scene) as recovers_from,
        ):
            for name in NAMES:
                scene.add(name)
            scene.await_turns(1)
            scene.await_line("begin", since=scene.lines("end")[-1].at)
            own.kill()
            own.start()
            back_at = time.monotonic()
            promised = scene.promised(3).after_outage + LONGEST_WAIT_SECONDS
            assert scene.recovery(back_at) < promised + SLACK_SECONDS
            del recovers_from
            scene.await_turns(4)
    finally:
        own.stop()


def test_the_clock_of_a_runners_host_is_stepped_by_hours(server: str, tmp_path: Path) -> None:
    library = next(iter(sorted(Path("/").glob(PRELOAD[1:]))), None)
    if library is None:
        pytest.skip("libfaketime is not on this machine: install Debian's faketime")
    stamp = tmp_path / "stamp"
    stamp.write_text("+0")
    faked = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(stamp),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_NO_CACHE": "1",
    }
    with (
        Scene(url_of(server, tmp_path), tmp_path) as scene,
        recorded("host clock stepped by hours", server, scene),
    ):
        # Under libfaketime time.sleep() raises OSError, and who makes tables may have to wait.
        open_storage(scene.url).close()
        stepped = scene.add("stepped", environment=faked, work=2 * WORK_SECONDS)
        scene.add("alice")
        for offset in ("+5h", "-7h"):
            # In the middle of its turn.
            begun = scene.await_line("begin", "stepped", since=time.monotonic())
            stamp.write_text(offset)
            assert scene.await_line("end", "stepped", since=begun.at).token == begun.token
            scene.await_line("begin", "alice", since=begun.at)
        scene.await_line("end", "stepped", since=time.monotonic())
        hours = {line[:13] for line in stepped.log.splitlines() if line[:2] == "20"}
        assert len(hours) >= 3, "the process's clock was really stepped"
    starts = [run.started_at for run in scene.runs()]
    assert max(starts) - min(starts) < 40 * CYCLE_SECONDS * SECOND


def test_ten_runners_start_at_once_on_an_empty_storage(scene: Scene, storage: str) -> None:
    with recorded("ten at once on an empty storage", storage, scene):
        for number in range(10):
            scene.add(f"runner-{number}")
        scene.await_turns(2)
    assert all("Traceback" not in each.log for each in scene.participants.values())


def test_two_processes_have_one_runner_id(scene: Scene, storage: str, tmp_path: Path) -> None:
    with recorded("two with one runner id", storage, scene):
        scene.add("twin")
        first = scene.participants.pop("twin")
        scene.participants["first"] = first
        scene.add("twin")
        scene.add("alice")
        scene.await_turns(3)
        eventually(
            lambda: (
                "another process lives under the runner id" in (tmp_path / "twin.log").read_text()
            ),
            "they notice each other",
            40,
        )


def test_a_runner_leaves_during_its_turn(scene: Scene, storage: str) -> None:
    with recorded("leaves during its turn", storage, scene) as recovers_from:
        for name in NAMES:
            scene.add(name)
        begun = scene.await_line("begin")
        leaver = scene.participants[begun.runner_id]
        left_at = leaver.send(signal.SIGTERM)
        assert leaver.process.wait(20) == 0
        recovers_from(left_at)
        scene.await_turns(2)
    (run,) = [run for run in scene.runs() if run.token == begun.token]
    assert run.status is Status.COMPLETED


def test_a_file_is_locked_for_longer_than_the_timeout(tmp_path: Path) -> None:
    with (
        Scene(url_of("sqlite", tmp_path), tmp_path) as scene,
        recorded("storage locked", "sqlite", scene),
    ):
        for name in NAMES:
            scene.add(name)
        scene.await_line("begin")
        locker = sqlite3.connect(tmp_path / "turns.db", isolation_level=None, timeout=20)
        locker.execute("BEGIN EXCLUSIVE")
        locked_at = time.monotonic()
        eventually(lambda: time.monotonic() > locked_at + 2 * TIMEOUT_SECONDS, "the lock is held")
        locker.execute("COMMIT")
        locker.close()
        released_at = time.monotonic()
        promised = scene.promised(3).after_outage + LONGEST_WAIT_SECONDS
        assert scene.recovery(released_at) < promised + SLACK_SECONDS
        scene.await_turns(2)


def test_a_disk_is_full_for_one_runner(tmp_path: Path) -> None:
    def no_more_space() -> None:
        # Files of this process may grow no further: a write fails as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))

    with (
        Scene(url_of("sqlite", tmp_path), tmp_path) as scene,
        recorded("disk full", "sqlite", scene),
    ):
        for name in NAMES[:2]:
            scene.add(name)
        scene.await_turns(1)
        full = scene.add("full", before=no_more_space)
        eventually(
            lambda: "full" in full.log or "disk I/O" in full.log or full.process.poll() is not None,
            "it says that it cannot write",
            20,
        )
        scene.await_turns(3)
        assert not scene.lines("begin", "full")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up a right for one process")
def test_a_file_is_read_only_for_one_runner(tmp_path: Path) -> None:
    def obey_permissions() -> None:
        # Root overrides what a file's mode says; without this capability it does not.
        assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0) == 0

    with (
        Scene(url_of("sqlite", tmp_path), tmp_path) as scene,
        recorded("storage read-only", "sqlite", scene),
    ):
        for name in NAMES[:2]:
            scene.add(name)
        scene.await_turns(1)
        (tmp_path / "turns.db").chmod(0o444)
        reader = scene.add("reader", before=obey_permissions)
        eventually(lambda: "may not be written to" in reader.log, "it is refused at its start")
        scene.await_turns(3)
        assert not scene.lines("begin", "reader")


@pytest.mark.parametrize("storage", STORAGES, indirect=True)
def test_eight_processes_through_random_kills_and_pauses(storage: str, tmp_path: Path) -> None:
    soak = Soak(url_of(storage, tmp_path), tmp_path, cycles=13, seed=1, slack=3.0)
    soak.run()
    assert soak.kills + soak.pauses >= 3


def test_a_runner_leaves_and_another_joins_in_every_cycle(storage: str, tmp_path: Path) -> None:
    churn = Churn(url_of(storage, tmp_path), tmp_path, cycles=7, seed=2, slack=3.0)
    churn.run()
    assert len(churn.leavers) >= 6
    assert all("has left" in each.log for each in churn.leavers)
    sets = {run.digest for run in churn.scene.runs()}
    assert len(sets) >= 4, "cycles really counted different runners"
    churn.figures("one leaves and one joins in every cycle", storage).keep()
