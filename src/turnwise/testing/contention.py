"""However many try the gate at once, one is admitted: threads and processes."""

import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import pairwise
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from turnwise.backends import CYCLE_SERVED, Admission, Backend, Participant
from turnwise.testing.clock import START, ManualClock
from turnwise.testing.desk import COMPLETED, SETTINGS, Desk, StorageUnderTest, run_of

PATIENCE_SECONDS = 60.0
SERVICE = Desk.service
KEPT = replace(SETTINGS, retention_count=100_000, retention_age=100_000 * SETTINGS.interval)

Opener = Callable[[], Backend]
"""Opens the same storage each time. It is sent to other processes, and so must be picklable."""

_spawn = multiprocessing.get_context("spawn")


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


@contextmanager
def processes(target: Callable[..., None], *arguments: tuple[object, ...]) -> Iterator[None]:
    """Real processes, one for each tuple of arguments, that all end well."""
    started = [_spawn.Process(target=target, args=each, daemon=True) for each in arguments]
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


def _contend_in_a_process(
    opener: Opener,
    number: int,
    rounds: int,
    barrier: Barrier,
    answers: "SimpleQueue[list[Admission]]",
) -> None:
    with closing(opener()) as backend:
        answers.put(contend(backend, number, rounds, lambda: barrier.wait(PATIENCE_SECONDS)))


def _open_and_join(opener: Opener, number: int, barrier: Barrier) -> None:
    barrier.wait(PATIENCE_SECONDS)
    with closing(opener()) as backend:
        backend.heartbeat(SERVICE, Participant(str(number), "boot"), SETTINGS)


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
                futures = [
                    pool.submit(contend, backend, number, self.rounds_of_threads, barrier.wait)
                    for number in range(threads)
                ]
                assert_one_was_admitted_in_each_round([future.result() for future in futures])
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
        contenders, rounds = 8, self.rounds_of_processes
        barrier, answers = _spawn.Barrier(contenders), _spawn.SimpleQueue()
        opener = self.opener(tmp_path)
        arguments = [(opener, number, rounds, barrier, answers) for number in range(contenders)]
        with processes(_contend_in_a_process, *arguments):
            by_contender = [answers.get() for _ in range(contenders)]
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
        opener, barrier = self.opener(tmp_path), _spawn.Barrier(10)
        with processes(_open_and_join, *((opener, number, barrier) for number in range(10))):
            pass
        with closing(opener()) as backend:
            joined = {record.runner_id for record in backend.runners(SERVICE)}
        assert joined == set(map(str, range(10)))
