"""However many try the gate at once, one is admitted: threads, processes, and killed ones.

The number of rounds is what two cores do in an everyday run; each round is a race of its own.
"""

import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import pairwise
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from storages import COMPLETED, RUNNING, SETTINGS, SHARED, START, Desk, ManualClock, fresh, run_of
from turnwise import Backend, open_backend
from turnwise.backends import CYCLE_SERVED, Admission, Participant
from turnwise.backends.sql import SqlBackend

PATIENCE_SECONDS = 60.0
SERVICE = Desk.service
KEPT = replace(SETTINGS, retention_count=100_000, retention_age=100_000 * SETTINGS.interval)
spawn = multiprocessing.get_context("spawn")
each_shared_storage = pytest.mark.parametrize("storage", SHARED)


def contend(
    backend: Backend, number: int, rounds: int, wait_for_all: Callable[[], object]
) -> list[Admission]:
    """Try the gate once in each round.

    In an even round all try to serve one cycle, and the one that is admitted ends its run at
    once: the cycle's key decides. In an odd one each serves a cycle of its own, and the run
    stays open until all have tried: the running run's key decides.
    """
    answers = []
    for this_round in range(rounds):
        apart = this_round % 2 == 1
        cycle = START + (this_round * 1000 + number * apart) * SETTINGS.interval
        run = run_of(str(number), cycle)
        look = backend.peek(SERVICE, KEPT, cycle)
        wait_for_all()
        answers.append(backend.admit(SERVICE, run, KEPT, look))
        if apart:
            wait_for_all()
        if answers[-1].fencing_token is not None:
            run_id = run.atomic_service_id.atomic_service_run_id
            backend.finish(SERVICE, run_id, COMPLETED, "", KEPT)
    return answers


def assert_one_was_admitted_in_each_round(by_contender: list[list[Admission]]) -> None:
    rounds = list(zip(*by_contender, strict=True))
    tokens = [[a.fencing_token for a in answers if a.fencing_token] for answers in rounds]
    assert tokens == [[number] for number in range(1, len(rounds) + 1)]
    for this_round, answers in enumerate(rounds):
        refusals = {a.refusal.partition(":")[0] for a in answers if not a.fencing_token}
        assert refusals <= (
            {"prior_running"} if this_round % 2 else {CYCLE_SERVED, "prior_running"}
        )


@pytest.mark.parametrize(
    ("storage", "rounds"),
    [("memory", 200), ("sqlite-memory", 20), *((shared, 12) for shared in SHARED)],
)
def test_of_32_threads_one_is_admitted_in_each_round(storage: str, rounds: int) -> None:
    threads = 32
    barrier = threading.Barrier(threads, timeout=PATIENCE_SECONDS)
    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that threads interrupt each other everywhere
    try:
        with fresh(storage, ManualClock()) as backend, ThreadPoolExecutor(threads) as pool:
            futures = [
                pool.submit(contend, backend, number, rounds, barrier.wait)
                for number in range(threads)
            ]
            assert_one_was_admitted_in_each_round([future.result() for future in futures])
    finally:
        sys.setswitchinterval(switch_interval)


@contextmanager
def processes(target: Callable[..., None], *arguments: tuple[object, ...]) -> Iterator[None]:
    """Real processes, one for each tuple of arguments, that all end well."""
    started = [spawn.Process(target=target, args=each, daemon=True) for each in arguments]
    try:
        for process in started:
            process.start()
        yield
        for process in started:
            process.join(PATIENCE_SECONDS)
        assert [process.exitcode for process in started] == [0] * len(started)
    finally:
        for process in started:
            process.kill()


def contend_in_a_process(
    url: str, number: int, rounds: int, barrier: Barrier, answers: "SimpleQueue[list[Admission]]"
) -> None:
    with closing(open_backend(url)) as backend:
        answers.put(contend(backend, number, rounds, lambda: barrier.wait(PATIENCE_SECONDS)))


@each_shared_storage
def test_of_8_processes_one_is_admitted_in_each_of_200_rounds(storage: str, tmp_path: Path) -> None:
    contenders, rounds = 8, 200
    barrier, answers = spawn.Barrier(contenders), spawn.SimpleQueue()
    url = SHARED[storage](tmp_path)
    arguments = [(url, number, rounds, barrier, answers) for number in range(contenders)]
    with processes(contend_in_a_process, *arguments):
        by_contender = [answers.get() for _ in range(contenders)]
    assert_one_was_admitted_in_each_round(by_contender)
    with closing(open_backend(url)) as backend:
        runs = [r for r in backend.executions(SERVICE) if r.fencing_token is not None]
        assert [r.fencing_token for r in runs] == list(range(1, rounds + 1))
        assert all(r.status is COMPLETED for r in runs)
        # By one clock, no run began before the one before it had ended.
        assert all(a.end_time and a.end_time <= b.start_time for a, b in pairwise(runs))


def open_and_join(url: str, number: int, barrier: Barrier) -> None:
    barrier.wait(PATIENCE_SECONDS)
    with closing(open_backend(url)) as backend:
        backend.heartbeat(SERVICE, Participant(str(number), "boot"), SETTINGS)


@each_shared_storage
def test_ten_processes_may_open_an_empty_storage_at_the_same_instant(
    storage: str, tmp_path: Path
) -> None:
    url, barrier = SHARED[storage](tmp_path), spawn.Barrier(10)
    if storage in ("postgresql", "mariadb"):
        url += ("&" if "?" in url else "?") + f"table_prefix=t{uuid4().hex[:8]}_"
    with processes(open_and_join, *((url, number, barrier) for number in range(10))):
        pass
    with closing(open_backend(url, create_tables=False)) as backend:
        joined = {record.runner_id for record in backend.runners(SERVICE)}
    assert joined == set(map(str, range(10)))


def hang_before_commit(url: str, what: str, hanging: Event) -> None:
    backend = SqlBackend(url, clock=ManualClock())

    def hang(_: sa.Connection) -> None:
        hanging.set()
        threading.Event().wait(PATIENCE_SECONDS)

    sa.event.listen(backend._database.engine, "commit", hang)
    desk = Desk(backend, ManualClock())
    if what == "admit":
        desk.admit("killed")
    else:
        desk.finish("open run")


@pytest.mark.parametrize("what", ["admit", "finish"])
def test_a_process_killed_within_a_write_leaves_nothing_behind(tmp_path: Path, what: str) -> None:
    url, hanging = SHARED["sqlite-file"](tmp_path), spawn.Event()
    with closing(SqlBackend(url, clock=ManualClock())) as backend:
        desk = Desk(backend, ManualClock())
        if what == "finish":
            desk.admit("a", run_id="open run")
        before = desk.executions()
        process = spawn.Process(target=hang_before_commit, args=(url, what, hanging), daemon=True)
        process.start()
        try:
            assert hanging.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
            process.join(PATIENCE_SECONDS)
        assert desk.executions() == before
        if what == "finish":
            assert desk.record("open run").status is RUNNING
            desk.finish("open run")
            desk.clock.advance(SETTINGS.interval)
        assert desk.admit("b")[1].fencing_token == len(before) + 1
