"""However many try at once, one swap succeeds: threads, processes, and a process that forks."""

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TypeVar

from turnwise.conformance.clock import START, ManualClock
from turnwise.conformance.desk import BOOT, TIMEOUT, Desk, StorageUnderTest
from turnwise.conformance.history import entry
from turnwise.errors import ForkError
from turnwise.storages import Beat, Kind, Offer, Owner, Record, Storage

PATIENCE_SECONDS = 60.0
CONTENDERS = 8
GROUP, SERVICE = "group", "service"

Opener = Callable[[], Storage]
"""Opens the same storage each time. It is sent to other processes, and so must be picklable."""

# Each is forked from a process that has nothing but these modules: no thread, no connection.
_forked_apart = multiprocessing.get_context("forkserver")
_forked_apart.set_forkserver_preload([__name__])

T = TypeVar("T")


def contend(
    storage: Storage, number: int, rounds: int, wait_for_all: Callable[[], object]
) -> list[bool]:
    """Swap the same version as all others in each round; in which of them it was done."""
    done = []
    for this_round in range(rounds):
        gate = storage.read(GROUP, [SERVICE]).services[SERVICE].gate
        owner = Owner(f"{this_round}", str(number), BOOT, TIMEOUT)
        new = Record(f"{this_round} {number}", str(number), owner)
        wait_for_all()  # all have read
        swapped = storage.swap(GROUP, SERVICE, Kind.GATE, gate.version if gate else None, new)
        done.append(swapped.done)
        wait_for_all()  # all have tried
        kept = storage.read(GROUP, [SERVICE]).services[SERVICE].gate
        assert kept is not None
        assert (kept == new) == swapped.done, (kept, new, swapped)
    return done


def assert_one_was_done_in_each_round(by_contender: list[list[bool]]) -> None:
    """Of all who expected the same version, one has replaced it."""
    for this_round, done in enumerate(zip(*by_contender, strict=True)):
        assert sum(done) == 1, f"round {this_round}: {done}"


class _Race:
    """What a process has been handed when it started: a barrier can't come later."""

    barrier: Barrier

    @classmethod
    def join(cls, barrier: Barrier) -> None:
        cls.barrier = barrier

    @classmethod
    def wait_for_all(cls) -> None:
        cls.barrier.wait(PATIENCE_SECONDS)


def _contend_in_a_process(opener: Opener, number: int, rounds: int) -> list[bool]:
    with closing(opener()) as storage:
        return contend(storage, number, rounds, _Race.wait_for_all)


def _open_and_join(opener: Opener, number: int) -> None:
    _Race.wait_for_all()
    with closing(opener()) as storage:
        storage.heartbeat(GROUP, Beat(str(number), BOOT, 1, TIMEOUT))


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


@contextmanager
def _interrupted_everywhere() -> Iterator[None]:
    """Let threads take turns so often that they interrupt each other everywhere."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class ThreadConformance(StorageUnderTest):
    """Threads on one storage."""

    rounds_of_threads = 200
    """How many races; each is one of its own."""

    def in_threads(self, *tasks: Callable[[], T]) -> list[T]:
        """What the tasks return, each called in a thread of its own, all at once."""
        barrier = threading.Barrier(len(tasks), timeout=PATIENCE_SECONDS)

        def start_together(task: Callable[[], T]) -> T:
            barrier.wait()
            return task()

        with _interrupted_everywhere(), ThreadPoolExecutor(len(tasks)) as pool:
            return _results([pool.submit(start_together, task) for task in tasks])

    def test_of_8_threads_that_swap_one_version_one_succeeds_in_each_round(self) -> None:
        barrier = threading.Barrier(CONTENDERS, timeout=PATIENCE_SECONDS)
        rounds, wait = self.rounds_of_threads, barrier.wait
        with (
            self.opened(ManualClock()) as storage,
            _interrupted_everywhere(),
            ThreadPoolExecutor(CONTENDERS) as pool,
        ):
            futures = [
                pool.submit(_or_nobody_waits, barrier, contend, storage, number, rounds, wait)
                for number in range(CONTENDERS)
            ]
            assert_one_was_done_in_each_round(_results(futures))

    def test_heartbeats_that_overtake_each_other_leave_the_one_with_the_largest_count(
        self, desk: Desk
    ) -> None:
        """Each thread sends counts of its own, while another one watches that none shrinks."""
        each = 25
        newest = 4 * each

        def beats(first: int) -> None:
            for count in range(first, newest + 1, 4):
                desk.beat("a", count=count, runs=(f"run {count}",))

        def watch() -> list[int]:
            return [row.count for _ in range(each) for row in desk.runners()]

        def swap() -> None:
            for _ in range(each):
                desk.open_run(f"run {newest}", "a")

        tasks: list[Callable[[], list[int] | None]] = [
            *(lambda first=first: beats(first) for first in (1, 2, 3, 4)),
            watch,
            swap,
        ]
        seen = self.in_threads(*tasks)[4]
        assert seen == sorted(seen or [])
        row = desk.row("a")
        assert (row.count, row.runs) == (newest, (f"run {newest}",))
        sight = desk.kept().sight
        assert sight is not None
        assert sight.word == newest

    def test_threads_that_join_and_offer_and_append_at_once_lose_nothing(self, desk: Desk) -> None:
        def come(number: int) -> None:
            for life in range(5):
                desk.beat(str(number), f"life {life}")
                desk.offer(str(number), f"life {life}", settings=str(number))
                desk.append(entry(f"{number} {life}"), entry("of all"))

        before = desk.revision()
        self.in_threads(*(lambda number=number: come(number) for number in range(6)))
        assert len(desk.runners()) == len(desk.offers()) == 30
        assert desk.stable().size == 6
        assert len(desk.history()) == 31
        assert desk.revision() > before


class ProcessConformance:
    """Processes that share a storage, each with one of its own, on the storage's clock."""

    rounds_of_processes = 200
    """How many races; each is one of its own."""

    def opener(self, folder: Path) -> Opener:
        """What opens one empty storage, in any process; ``folder`` is the test's own."""
        raise NotImplementedError("a conformance test says how a process opens its storage")

    def test_of_8_processes_that_swap_one_version_one_succeeds_in_each_round(
        self, tmp_path: Path
    ) -> None:
        opener, rounds = self.opener(tmp_path), self.rounds_of_processes
        arguments = ((opener, number, rounds) for number in range(CONTENDERS))
        assert_one_was_done_in_each_round(in_processes(_contend_in_a_process, *arguments))

    def test_ten_processes_may_open_an_empty_storage_at_the_same_instant(
        self, tmp_path: Path
    ) -> None:
        opener = self.opener(tmp_path)
        in_processes(_open_and_join, *((opener, number) for number in range(10)))
        with closing(opener()) as storage:
            joined = {row.runner_id for row in storage.runners(GROUP)}
        assert joined == set(map(str, range(10)))


def _uses(storage: Storage) -> dict[str, Callable[[], object]]:
    """Every operation but to close, by its name."""
    return {
        "heartbeat": lambda: storage.heartbeat(GROUP, Beat("child", BOOT, 1, TIMEOUT)),
        "leave": lambda: storage.leave(GROUP, "parent", BOOT),
        "offer": lambda: storage.offer(GROUP, Offer("child", BOOT, SERVICE, "{}", TIMEOUT)),
        "withdraw": lambda: storage.withdraw(GROUP, "parent", BOOT, SERVICE),
        "stable": lambda: storage.stable(GROUP, SERVICE, rotation=0, limit=None),
        "mark": lambda: storage.mark(GROUP, "parent", drained=True),
        "read": lambda: storage.read(GROUP, [SERVICE]),
        "swap": lambda: storage.swap(GROUP, SERVICE, Kind.GATE, None, Record("child", "{}")),
        "advance": lambda: storage.advance(GROUP),
        "append": lambda: storage.append(GROUP, SERVICE, [entry("child")]),
        "history": lambda: storage.history(GROUP, SERVICE),
        "purge": lambda: storage.purge(GROUP, SERVICE, before=START, keep=0),
        "purge_runners": lambda: storage.purge_runners(GROUP, before=START + 1),
        "services": lambda: storage.services(GROUP),
        "runners": lambda: storage.runners(GROUP),
        "offers": lambda: storage.offers(GROUP),
        "groups": storage.groups,
        "forget_service": lambda: storage.forget_service(GROUP, SERVICE),
        "forget_runner": lambda: storage.forget_runner(GROUP, "parent"),
    }


def _not_refused(storage: Storage) -> list[str]:
    """The operations that raise anything but a ForkError."""
    names = []
    for name, use in _uses(storage).items():
        try:
            use()
        except ForkError:
            continue
        except BaseException as error:  # noqa: BLE001 (it is told to the parent)
            names.append(f"{name} ({error!r})")
        else:
            names.append(name)
    return names


def _in_a_forked_child(task: Callable[[], list[str]]) -> list[str]:
    """What ``task`` says in a child, which is given 30 seconds."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # A process with threads may fork: the child uses none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            signal.alarm(30)
            os.write(writer, "\n".join(task()).encode(errors="backslashreplace"))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, f"the child has ended with {status}: {said}"
    return said.splitlines()


class ForkConformance(StorageUnderTest):
    """A storage that came into a process by a fork is refused there, and goes on where it was."""

    def test_in_a_forked_child_every_operation_is_refused_and_the_parent_goes_on(
        self, desk: Desk
    ) -> None:
        desk.join("parent")
        gate = desk.put(desk.record())
        before = desk.everything()

        def use() -> list[str]:
            names = _not_refused(desk.storage)
            desk.storage.close()  # which closes nothing of the parent's
            return names

        assert _in_a_forked_child(use) == []
        assert desk.everything() == before
        assert desk.swap(gate.version, desk.record()).done
