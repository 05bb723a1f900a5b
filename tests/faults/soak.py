"""Many short cycles with random kills and pauses: ``python tests/faults/soak.py --storage sqlite``.

Eight processes take turns. About every third cycle one of them, drawn from a seed, is killed and
replaced, or suspended for up to two heartbeat timeouts. At the end nothing has overlapped, no run
is open, and no gap between two turns is longer than what is promised.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from threading import Event, Thread
from typing import Self

sys.path[:0] = [str(Path(__file__).parents[1])]

from faults.scene import (  # noqa: E402
    Figures,
    Participant,
    Scene,
    lost_runs,
    overlaps,
    settings_of,
)
from faults.storages import STORAGES, url_of  # noqa: E402

RUNNERS = 8
SETTINGS = settings_of(interval=1, margin=0.02, timeout=0.2)
CYCLE_SECONDS = 1.0
TIMEOUT_SECONDS = 0.2
WORK_SECONDS = 0.1
PROBE_SECONDS = 0.05


class Machine:
    """How late the machine is with a short sleep and a write to disk, which tells of its load.

    A gap that is too long is no less so for it. It says where to look.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "machine"
        self._late: list[tuple[float, float]] = []
        self._over = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def latest(self, since: float, until: float) -> float:
        """The longest lateness between two moments, in seconds."""
        return max((late for at, late in self._late if since <= at <= until), default=0.0)

    def _watch(self) -> None:
        with self._path.open("wb") as file:
            while not self._over.is_set():
                began = time.monotonic()
                time.sleep(PROBE_SECONDS)
                file.write(b".")
                file.flush()
                os.fsync(file.fileno())
                self._late.append((began, time.monotonic() - began - PROBE_SECONDS))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()


class Soak:
    """One soak on one storage.

    A start is late by what the machine takes; ``slack`` is what that may be.
    """

    between = (2.0, 4.0)
    """How many cycles pass from one strike to the next, at least and at most."""

    def __init__(self, url: str, folder: Path, *, cycles: int, seed: int, slack: float) -> None:
        self._random = Random(seed)  # noqa: S311 (no secret)
        self._cycles, self._slack = cycles, slack
        self.scene = Scene(url, folder, settings=SETTINGS)
        self._machine = Machine(folder)
        self._generation = 0
        self.kills = self.pauses = 0
        self.leavers: list[Participant] = []

    def run(self) -> str:
        """Play it; what came of it, in one line.

        Raises:
            AssertionError: something overlapped, stayed open, or took too long.
        """
        with self.scene as scene, self._machine:
            for _ in range(RUNNERS):
                self._start()
            scene.await_line("begin")
            began = time.monotonic()
            for cycles in self._moments():
                strikes_at = began + cycles * CYCLE_SECONDS
                time.sleep(max(0.0, strikes_at - time.monotonic()))
                self._strike()
            scene.await_line("begin", since=time.monotonic())
            scene.stop()
            scene.require_no_overlap()
            scene.require_that_all_has_ended()
            return self._judged([line.at for line in scene.lines("begin")])

    def _moments(self) -> Iterator[float]:
        """When something happens, in cycles from the beginning; it depends on the seed alone."""
        at = self._random.uniform(*self.between)
        while at < self._cycles:
            yield at
            at += self._random.uniform(*self.between)

    def _judged(self, starts: list[float]) -> str:
        """What came of it, where no gap between two starts was too long."""
        longest, since = max((later - at, at) for at, later in pairwise(starts))
        bound = self._bound()
        told = (
            f"{len(starts):,} turns in {starts[-1] - starts[0]:,.0f} cycles of 1 s, "
            f"{self.kills} kills, {self.pauses} pauses, 0 overlaps, "
            f"{len(self.scene.lines('refused'))} late writes refused, "
            f"longest gap {longest:.2f} s (bound {bound:.2f} s + {self._slack:g} s), "
            f"in which the machine was late by {self._machine.latest(since, since + longest):.2f} s"
        )
        late = [later - at for at, later in pairwise(starts) if later - at > bound + self._slack]
        assert not late, f"{told}; gaps that are too long: {late}"
        return told

    def figures(self, scenario: str, storage: str) -> Figures:
        """What it showed, for the table."""
        runs = self.scene.runs()
        return Figures(scenario, storage, overlaps(runs), lost_runs(runs), None, None)

    def _bound(self) -> float:
        """From a start to the next: a turn that is killed at its end, and a second fault after."""
        promised = self.scene.promised(RUNNERS)
        # A runner that was struck outside of a turn may be the primary of the next cycle.
        return max(WORK_SECONDS + promised.after_kill, promised.after_dead_primary)

    def _start(self) -> None:
        self._generation += 1
        self.scene.add(f"runner-{self._generation}", work=WORK_SECONDS)

    def _strike(self) -> None:
        """Something happens to one that was there for long enough to count."""
        victim = self._one_that_counts()
        if self._random.random() < 0.5:
            victim.send(SIGKILL)
            victim.process.wait()
            self.kills += 1
            self._start()
            return
        victim.send(SIGSTOP)
        time.sleep(self._random.uniform(0, 2) * TIMEOUT_SECONDS)
        victim.send(SIGCONT)
        self.pauses += 1

    def _one_that_counts(self) -> Participant:
        alive = [
            each
            for each in self.scene.participants.values()
            if each.process.poll() is None and each not in self.leavers
            if "has joined" in each.log
        ]
        return self._random.choice(alive[: RUNNERS - 2])


class Churn(Soak):
    """In every cycle one runner leaves, and another joins."""

    between = (0.9, 1.1)

    def _strike(self) -> None:
        leaver = self._one_that_counts()
        leaver.send(SIGTERM)
        self.leavers.append(leaver)
        self._start()


def main() -> None:
    """Soak a storage, as told on the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--storage", choices=STORAGES, required=True)
    parser.add_argument("--cycles", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slack", type=float, default=1.5, help="seconds")
    options = parser.parse_args()
    # What a soak leaves is kept where it fails: the resource's lines and all logs say why.
    folder = Path(tempfile.mkdtemp(prefix=f"soak-{options.storage}-"))
    soak = Soak(
        url_of(options.storage, folder),
        folder,
        cycles=options.cycles,
        seed=options.seed,
        slack=options.slack,
    )
    try:
        print(f"{options.storage}: {soak.run()}")  # noqa: T201
    except AssertionError:
        print(f"{options.storage}: failed; see {folder}")  # noqa: T201
        raise
    shutil.rmtree(folder)


if __name__ == "__main__":
    os.umask(0o077)
    main()
