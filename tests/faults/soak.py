"""Many short cycles with random kills and pauses: ``python tests/faults/soak.py --storage sqlite``.

Eight processes take turns. About every third cycle one of them, drawn from a seed, is killed and
replaced, or suspended for up to two heartbeat timeouts. At the end nothing has overlapped, no run
is open, and no gap between two turns is longer than the bound of the review.
"""

import argparse
import os
import sys
import tempfile
import time
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from signal import SIGCONT, SIGKILL, SIGSTOP

sys.path[:0] = [str(Path(__file__).parents[1])]

from faults.scene import Scene  # noqa: E402
from faults.storages import STORAGES, url_of  # noqa: E402
from turnwise import Settings  # noqa: E402

RUNNERS = 8
SETTINGS = Settings(
    interval=timedelta(seconds=1),
    spread_margin=timedelta(milliseconds=20),
    heartbeat_timeout=timedelta(milliseconds=200),
    retention_count=1_000_000,
    retention_age=timedelta(days=1),
)
WORK_SECONDS = 0.1


class Soak:
    """One soak on one storage.

    A start is late by what the machine takes; ``slack`` is what that may be.
    """

    def __init__(self, url: str, folder: Path, *, cycles: int, seed: int, slack: float) -> None:
        self._random = Random(seed)  # noqa: S311 (no secret)
        self._cycles, self._slack = cycles, slack
        self.scene = Scene(url, folder, settings=SETTINGS)
        self._generation = 0
        self.kills = self.pauses = 0

    def run(self) -> str:
        """Play it; what came of it, in one line.

        Raises:
            AssertionError: something overlapped, stayed open, or took too long.
        """
        with self.scene as scene:
            for _ in range(RUNNERS):
                self._start()
            scene.await_line("begin")
            began = time.monotonic()
            ends = began + self._cycles * SETTINGS.interval.total_seconds()
            while time.monotonic() < ends:
                time.sleep(self._random.uniform(2, 4) * SETTINGS.interval.total_seconds())
                self._strike()
            struck_until = time.monotonic()
            scene.await_line("begin", since=struck_until)
            scene.stop()
            scene.require_no_overlap()
            scene.require_that_all_has_ended()
            starts = [line.at for line in scene.lines("begin")]
            longest = max(later - earlier for earlier, later in pairwise(starts))
            bound = self._bound()
            assert longest <= bound + self._slack, (longest, bound)
            refused = len(scene.lines("refused"))
        return (
            f"{len(starts):,} turns in {struck_until - began:,.0f} cycles of 1 s, "
            f"{self.kills} kills, {self.pauses} pauses, 0 overlaps, "
            f"{refused} late writes refused, longest gap {longest:.2f} s "
            f"(bound {bound:.2f} s + {self._slack:g} s)"
        )

    def _bound(self) -> float:
        """From a start to the next: a turn that is killed at its end, and a second fault after."""
        review = SETTINGS.review(runners=RUNNERS, longest_run=timedelta(seconds=WORK_SECONDS))
        assert review.gap_after_kill is not None
        assert review.gap_with_one_dead is not None
        # A runner that was struck outside of a turn may be the primary of the next cycle.
        one_dead = review.gap_with_one_dead.total_seconds()
        return max(WORK_SECONDS + review.gap_after_kill.total_seconds(), one_dead)

    def _start(self) -> None:
        self._generation += 1
        self.scene.add(f"runner-{self._generation}", work=WORK_SECONDS)

    def _strike(self) -> None:
        """Something happens to one that was there for long enough to count."""
        scene = self.scene
        alive = [p for p in scene.participants.values() if p.process.poll() is None]
        victim = self._random.choice(alive[: RUNNERS - 2])
        if self._random.random() < 0.5:
            victim.send(SIGKILL)
            victim.process.wait()
            self.kills += 1
            self._start()
            return
        victim.send(SIGSTOP)
        time.sleep(self._random.uniform(0, 2) * SETTINGS.heartbeat_timeout.total_seconds())
        victim.send(SIGCONT)
        self.pauses += 1


def main() -> None:
    """Soak a storage, as told on the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--storage", choices=STORAGES, required=True)
    parser.add_argument("--cycles", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slack", type=float, default=1.5, help="seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        soak = Soak(
            url_of(options.storage, folder),
            folder,
            cycles=options.cycles,
            seed=options.seed,
            slack=options.slack,
        )
        print(f"{options.storage}: {soak.run()}")  # noqa: T201


if __name__ == "__main__":
    os.umask(0o077)
    main()
