"""An hour under an independent witness: ``python tests/faults/witness.py --minutes 60``.

On each storage six processes take turns at twenty services, while a driver kills, suspends and
deploys processes, and pauses and triggers services, as it draws from a seed. The *witness* is two
kinds of files, which turnwise has no part in: what each process really ran
(:mod:`faults.witness_jobs`), and what the driver did. At the end ``turnwise audit`` and ``turnwise
history`` are asked, and :mod:`faults.witness_verdicts` holds each of their rows against the
witness.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from random import Random

sys.path[:0] = [str(Path(__file__).parents[1])]

from faults.storages import url_of  # noqa: E402
from faults.witness_evidence import Evidence  # noqa: E402
from faults.witness_jobs import GRACE_SECONDS, GROUP, JOBS, TIMEOUT_UNITS, Journal  # noqa: E402
from faults.witness_verdicts import Comparison  # noqa: E402
from processes import COMMAND, environment  # noqa: E402
from turnwise.controls import Controls  # noqa: E402
from turnwise.errors import BusyError  # noqa: E402
from turnwise.storages.opening import open_storage  # noqa: E402

PROCESSES = 6
STORAGES = ("sqlite", "postgresql", "redis", "mariadb")
PATIENCE_SECONDS = 60.0
UNITS = (2, 5, 10)
"""Seconds that two or three of make a part of a minute, as the cron schedules need it."""


class Process:
    """One of the processes, which is started again, in another life, after it has ended.

    Those with an odd number keep their runner's id, as a pod of a set does; the others get a new
    one for each life.
    """

    def __init__(self, number: int, folder: Path, url: str, unit: float) -> None:
        self.number, self._folder, self._url, self._unit = number, folder, url, unit
        self._life = 0
        self.runner_id = ""
        self.popen: subprocess.Popen[bytes] | None = None

    def start(self, generation: int) -> None:
        """Start it, in a new life."""
        self._life += 1
        keeps = self.number % 2 == 1
        self.runner_id = f"p{self.number}" if keeps else f"p{self.number}-{self._life}"
        command = [
            *(sys.executable, "-m", "faults.witness_jobs"),
            *("--journal", str(self._folder / f"process-{self.number}-{self._life}")),
            *("--runner-id", self.runner_id),
            *("--unit", str(self._unit)),
            *("--generation", str(generation)),
            *(["--first"] if self.number == 1 else []),
        ]
        tests = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, (tests, os.environ.get("PYTHONPATH"))))
        with (self._folder / f"{self.runner_id}.log").open("ab") as log:
            self.popen = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=environment(PYTHONPATH=path, WITNESS_STORAGE=self._url),
            )

    @property
    def is_alive(self) -> bool:
        """Whether it runs, or is suspended."""
        return self.popen is not None and self.popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.popen is not None  # it was started
        self.popen.send_signal(number)

    def wait(self) -> None:
        """Wait until it has ended."""
        assert self.popen is not None  # it was started
        self.popen.wait(PATIENCE_SECONDS)


class Driver:
    """What happens on one storage, drawn from a seed. ``unit`` is in seconds."""

    def __init__(self, url: str, folder: Path, *, unit: float, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 (no secret)
        self._url, self._folder, self._unit = url, folder, unit
        self._journal = Journal(folder / "driver")
        self._processes = [Process(number, folder, url, unit) for number in range(1, PROCESSES + 1)]
        self._generation = 1
        self._starts_at: dict[int, float] = {}  # of the processes that are down
        self._resumes_at: dict[str, float] = {}

    def run(self, seconds: float) -> None:
        """Play it for so long, and end all processes."""
        try:
            self._play(seconds)
        finally:
            for process in self._processes:
                if process.is_alive:
                    process.send(signal.SIGKILL)
                    process.wait()

    def _play(self, seconds: float) -> None:
        for process in self._processes:
            self._start(process)
        began = time.time()
        with closing(open_storage(self._url)) as storage:
            self._controls = Controls(storage, GROUP, by="witness")
            time.sleep(4 * self._unit)
            while (now := time.time()) < began + seconds:
                if self._generation == 1 and now > began + seconds / 2:
                    self._deploy()
                self._strike()
                until = time.time() + self._random.uniform(0.3, 1.5) * self._unit
                while time.time() < until:
                    self._do_what_is_due()
                    time.sleep(0.05)
            while self._resumes_at:
                self._resume(next(iter(self._resumes_at)))
            time.sleep(2 * self._unit)
            self._stop_all()

    def _strike(self) -> None:
        random = self._random
        strikes = (self._kill, self._suspend, self._leave, self._pause, self._trigger)
        random.choices(strikes, weights=(3, 3, 1, 2, 3))[0]()

    def _one_that_is_up(self) -> Process | None:
        up = [process for process in self._processes if process.is_alive]
        return self._random.choice(up) if len(up) > 2 else None

    def _kill(self) -> None:
        if (process := self._one_that_is_up()) is not None:
            self._say("kill", process)
            process.send(signal.SIGKILL)
            process.wait()
            self._say("dead", process)
            self._down(process)

    def _suspend(self) -> None:
        if (process := self._one_that_is_up()) is not None:
            lasts = self._random.uniform(0.1, 2.5) * TIMEOUT_UNITS * self._unit
            self._say("suspend", process)
            process.send(signal.SIGSTOP)
            time.sleep(lasts)
            process.send(signal.SIGCONT)
            self._say("go on", process)

    def _leave(self) -> None:
        if (process := self._one_that_is_up()) is not None:
            self._say("stop", process)
            process.send(signal.SIGTERM)
            process.wait()
            self._say("dead", process)
            self._down(process)

    def _down(self, process: Process) -> None:
        self._starts_at[process.number] = time.time() + self._random.uniform(0, 5) * self._unit

    def _pause(self) -> None:
        service = self._random.choice(JOBS).name
        if service in self._resumes_at:
            return
        self._journal.write(event="pausing", service=service)
        try:
            self._controls.pause(service, reason="as it was drawn")
        except BusyError:  # of SQLite's one file, on a busy machine: nothing was paused
            return
        self._journal.write(event="paused", service=service)
        self._resumes_at[service] = time.time() + self._random.uniform(0.5, 8) * self._unit

    def _resume(self, service: str) -> None:
        del self._resumes_at[service]
        self._journal.write(event="resuming", service=service)
        try:
            self._controls.resume(service)
        except BusyError:
            self._resumes_at[service] = time.time()  # once more, at once
            return
        self._journal.write(event="resumed", service=service)

    def _trigger(self) -> None:
        service = self._random.choice(JOBS).name
        try:
            trigger = self._controls.trigger(service, reason="as it was drawn")
        except BusyError:
            return
        self._journal.write(event="triggered", service=service, trigger=trigger)

    def _deploy(self) -> None:
        """Every process is replaced by one of the next generation, one after the other."""
        self._generation = 2
        self._journal.write(event="deploying")
        for process in self._processes:
            if process.is_alive:
                self._say("stop", process)
                process.send(signal.SIGTERM)
                process.wait()
                self._say("dead", process)
            self._start(process)
        self._journal.write(event="deployed")

    def _do_what_is_due(self) -> None:
        now = time.time()
        for process in self._processes:
            if self._starts_at.get(process.number, now) < now:
                self._start(process)
        for service, at in list(self._resumes_at.items()):
            if at < now:
                self._resume(service)

    def _start(self, process: Process) -> None:
        self._starts_at.pop(process.number, None)
        process.start(self._generation)
        self._say("start", process)

    def _stop_all(self) -> None:
        self._journal.write(event="stopping")
        alive = [process for process in self._processes if process.is_alive]
        for process in alive:
            self._say("stop", process)
            process.send(signal.SIGTERM)
        for process in alive:
            process.wait()
            self._say("dead", process)
        self._journal.write(event="stopped")

    def _say(self, event: str, process: Process) -> None:
        self._journal.write(
            event=event,
            process=process.number,
            runner=process.runner_id,
            pid=process.popen.pid if process.popen else 0,
        )


def told(url: str, *arguments: str) -> list[dict[str, object]]:
    """What a command of turnwise tells as JSON."""
    done = subprocess.run(
        [*COMMAND, *arguments, "--group", GROUP, "--json"],
        env=environment(TURNWISE_STORAGE=url),
        capture_output=True,
        text=True,
        check=False,  # an audit that finds what was missed exits with 1
    )
    assert done.stdout, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def witness(url: str, folder: Path, *, minutes: float, unit: float, seed: int) -> Comparison:
    """Play it on one storage, and hold what the audit says against the witness."""
    Driver(url, folder, unit=unit, seed=seed).run(minutes * 60)
    audits = told(url, "audit", "--all", "--since", "1d")
    (folder / "audit.json").write_text(json.dumps(audits))
    history = {
        job.name: told(url, "history", "--service", job.name, "--last", "100000") for job in JOBS
    }
    (folder / "history.json").write_text(json.dumps(history))
    return judged(folder, unit)


def judged(folder: Path, unit: float) -> Comparison:
    """Hold what is in a folder that was played before against its witness."""
    evidence = Evidence.read(folder, unit=unit, grace=GRACE_SECONDS)
    audits = json.loads((folder / "audit.json").read_text())
    history = json.loads((folder / "history.json").read_text())
    return Comparison(evidence, audits, history)


def main() -> int:
    """Play it on several storages at once; exit status 1 where something disagrees."""
    options = _options()
    found: dict[str, Comparison | Exception] = {}

    def play(storage: str, number: int) -> None:
        folder = Path(tempfile.mkdtemp(prefix=f"witness-{storage}-"))
        print(f"{storage}: {folder}", flush=True)  # noqa: T201
        try:
            found[storage] = comparison = witness(
                urls[storage],
                folder,
                minutes=options.minutes,
                unit=options.unit,
                seed=options.seed + number,
            )
        except Exception as error:  # noqa: BLE001 (it is printed below)
            found[storage] = error
        else:
            if comparison.agrees and not options.keep:
                shutil.rmtree(folder)

    shared = Path(tempfile.mkdtemp(prefix="witness-"))
    urls = {storage: url_of(storage, shared) for storage in options.storages}
    threads = [
        threading.Thread(target=play, args=(storage, number))
        for number, storage in enumerate(options.storages)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for storage, comparison in found.items():
        print(f"{storage}: {comparison}")  # noqa: T201
    return 0 if all(isinstance(each, Comparison) and each.agrees for each in found.values()) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--storages", nargs="+", choices=STORAGES, default=list(STORAGES))
    parser.add_argument(
        "--unit", type=float, default=10, choices=UNITS, help="seconds by which all is measured"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the files where all agrees")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
