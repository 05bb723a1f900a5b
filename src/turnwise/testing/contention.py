"""However many try the gate at once, one is admitted: threads and processes."""

import multiprocessing
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TypeVar

from turnwise.backends import CYCLE_SERVED, Admission, Backend, Participant
from turnwise.testing.clock import START, ManualClock
from turnwise.testing.desk import COMPLETED, SETTINGS, Desk, StorageUnderTest, run_of

PATIENCE_SECONDS = 60.0
SERVICE = Desk.service
KEPT = replace(SETTINGS, retention_count=100_000, retention_age=100_000 * SETTINGS.interval)

Opener = Callable[[], Backend]
"""Opens the same storage each time. It is sent to other processes, and so must be picklable."""

# Each is forked from a process that has nothing but these modules: no thread, no connection.
_forked_apart = multiprocessing.get_context("forkserver")
_forked_apart.set_forkserver_preload([__name__, "turnwise.backends.sql"])

T = TypeVar("T")


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
    """One admission in each round, with tokens that count the rounds."""
    rounds = list(zip(*by_contender, strict=True))
    tokens = [[a.fencing_token for a in answers if a.fencing_token] for answers in rounds]
    assert tokens == [[number] for number in range(1, len(rounds) + 1)]
    for this_round, answers in enumerate(rounds):
        refusals = {a.refusal.partition(":")[0] for a in answers if not a.fencing_token}
        assert refusals <= (
            {"prior_running"} if this_round % 2 else {CYCLE_SERVED, "prior_running"}
        )


class _Race:
    """What a process has been handed when it started: a barrier can't come later."""

    barrier: Barrier

    @classmethod
    def join(cls, barrier: Barrier) -> None:
        cls.barrier = barrier

    @classmethod
    def wait_for_all(cls) -> None:
        cls.barrier.wait(PATIENCE_SECONDS)


def _contend_in_a_process(opener: Opener, number: int, rounds: int) -> list[Admission]:
    with closing(opener()) as backend:
        return contend(backend, number, rounds, _Race.wait_for_all)


def _open_and_join(opener: Opener, number: int) -> None:
    _Race.wait_for_all()
    with closing(opener()) as backend:
        backend.heartbeat(SERVICE, Participant(str(number), "boot"), SETTINGS)


def _or_nobody_waits(
    barrier: Barrier | threading.Barrier, task: Callable[..., T], *arguments: object
) -> T:
    """Do it; where it fails, those that wait at the barrier are let go at once."""
    try:
        return task(*arguments)
    except BaseException:
        barrier.abort()
        raise


def _in_a_process(task: Callable[..., T], *arguments: object) -> T:
    return _or_nobody_waits(_Race.barrier, task, *arguments)


def _results(futures: list[Future[T]]) -> list[T]:
    """What all of them return; else what the first of them to fail has raised."""
    errors = [error for future in futures if (error := future.exception()) is not None]
    if errors:
        # All the others can say is that somebody did not come.
        raise min(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError))
    return [future.result() for future in futures]


def in_processes(task: Callable[..., T], *arguments: tuple[object, ...]) -> list[T]:
    """What ``task`` returns in real processes, one for each tuple of arguments, all at once.

    Raises:
        Exception: what the first of them to fail has raised, or that it died.
    """
    number = len(arguments)
    barrier = _forked_apart.Barrier(number)
    with ProcessPoolExecutor(
        number, mp_context=_forked_apart, initializer=_Race.join, initargs=(barrier,)
    ) as pool:
        futures = [pool.submit(_in_a_process, task, *each) for each in arguments]
    return _results(futures)


class ThreadConformance(StorageUnderTest):
    """32 threads on one backend."""

    rounds_of_threads = 12
    """How many races; each is one of its own."""

    def test_of_32_threads_one_is_admitted_in_each_round(self) -> None:
        threads = 32
        barrier = threading.Barrier(threads, timeout=PATIENCE_SECONDS)
        switch_interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)  # so that threads interrupt each other everywhere
        try:
            with self.opened(ManualClock()) as backend, ThreadPoolExecutor(threads) as pool:
                rounds, wait = self.rounds_of_threads, barrier.wait
                futures = [
                    pool.submit(_or_nobody_waits, barrier, contend, backend, number, rounds, wait)
                    for number in range(threads)
                ]
                assert_one_was_admitted_in_each_round(_results(futures))
        finally:
            sys.setswitchinterval(switch_interval)


class ProcessConformance:
    """Processes that share a storage, each with a backend of its own, on the storage's clock."""

    rounds_of_processes = 200
    """How many races; each is one of its own."""

    def opener(self, folder: Path) -> Opener:
        """What opens one empty storage, in any process; ``folder`` is the test's own."""
        raise NotImplementedError("a conformance test says how a process opens its storage")

    def test_of_8_processes_one_is_admitted_in_each_round(self, tmp_path: Path) -> None:
        opener, rounds = self.opener(tmp_path), self.rounds_of_processes
        arguments = ((opener, number, rounds) for number in range(8))
        by_contender = in_processes(_contend_in_a_process, *arguments)
        assert_one_was_admitted_in_each_round(by_contender)
        with closing(opener()) as backend:
            runs = [r for r in backend.executions(SERVICE) if r.fencing_token is not None]
            assert [r.fencing_token for r in runs] == list(range(1, rounds + 1))
            assert all(r.status is COMPLETED for r in runs)
            # By one clock, no run began before the one before it had ended.
            assert all(a.end_time and a.end_time <= b.start_time for a, b in pairwise(runs))

    def test_ten_processes_may_open_an_empty_storage_at_the_same_instant(
        self, tmp_path: Path
    ) -> None:
        opener = self.opener(tmp_path)
        in_processes(_open_and_join, *((opener, number) for number in range(10)))
        with closing(opener()) as backend:
            joined = {record.runner_id for record in backend.runners(SERVICE)}
        assert joined == set(map(str, range(10)))
