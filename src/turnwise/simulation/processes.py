"""The shipped runner as a process in virtual time: its threads wait in SimPy's queue."""

from collections.abc import Callable
from typing import cast

from turnwise.backends import Backend, Heartbeat, Look
from turnwise.old_settings import Settings
from turnwise.old_turn import Turn, TurnKeeper
from turnwise.rounds import TurnTaker
from turnwise.runner import Runner
from turnwise.simulation.calm import Disturbances
from turnwise.simulation.virtual_time import (
    Killed,
    VirtualEvent,
    VirtualProcess,
    VirtualThread,
    VirtualTime,
    to_microseconds,
)

SERVICE = "service"
"""The name of the service that is simulated."""

NEVER = 2**62


class SimulatedRunner(Runner):
    """The shipped runner. What waits, waits in virtual time; nothing else is different."""

    def __init__(
        self,
        process: "RunnerProcess",
        storage: object,
        function: Callable[[Turn], object],
        settings: Settings,
    ) -> None:
        super().__init__(
            cast("Backend", storage),
            SERVICE,
            function,
            settings=settings,
            runner_id=process.runner_id,
            monotonic=process.time.monotonic,
            sleep=process.sleep,
        )
        self._process = process

    def _wait(self, seconds: float) -> None:
        self._process.wait_for_the_next_step(seconds)

    def _keeper_of(self, turn: Turn) -> TurnKeeper:
        return self.simulated_keeper(turn)

    def simulated_keeper(self, turn: Turn) -> TurnKeeper:
        """What keeps a turn alive: the shipped one, on a virtual thread."""
        interval = self.settings.heartbeat_interval.total_seconds()
        return _Keeper(self._process, turn, self.heartbeat, interval)

    @property
    def boot_id(self) -> str:
        """The random mark of its process."""
        return self._who.boot_id


class _Keeper(TurnKeeper):
    """The shipped keeper of a turn; its thread is a virtual one."""

    def __init__(
        self,
        process: "RunnerProcess",
        turn: Turn,
        heartbeat: Callable[[Turn], Heartbeat],
        interval: float,
    ) -> None:
        super().__init__(turn, heartbeat, interval)
        self._process = process
        self._ended = VirtualEvent(process.time)

    def start(self) -> None:
        self._process.spawn(self.run)

    def end(self) -> None:
        self._ended.set()


class RunnerProcess(VirtualProcess):
    """A process with a runner, what is wrong with it, and what it has been told."""

    def __init__(self, time: VirtualTime, runner_id: str, place: int, skew: int) -> None:
        super().__init__(time)
        self.runner_id = runner_id
        self.place = place
        self.skew = skew
        self.runner: TurnTaker | None = None
        self.ended = False
        self.stopping = False
        self.turn: Turn | None = None
        self.begun = ""
        self.worked_until = -NEVER
        self.cut_off_until = 0
        self.lost_reply: tuple[int, int] = (0, 0)
        self.late_commit: tuple[int, int] = (0, 0)
        self.loses_next_acknowledgement = False
        self.troubled_until = 0
        self.disturbances = Disturbances()
        self.disturb(time.now)  # it has just started
        self.last_beat = -NEVER
        self.joined_at: int | None = None
        self.last_look: Look | None = None
        self._at_rest: VirtualThread | None = None

    @property
    def alive(self) -> bool:
        """Whether it runs, or would if it were not suspended."""
        return not (self.killed or self.ended)

    def start(self, runner: SimulatedRunner) -> None:
        """Start the runner's loop."""
        self.runner = runner

        def run() -> None:
            runner.run()
            self.ended = True

        self.spawn(run)

    def sleep(self, seconds: float) -> None:
        """Wait, as the runner's own ``sleep``."""
        if self.killed:
            raise Killed
        self.time.wait(to_microseconds(seconds))

    def wait_for_the_next_step(self, seconds: float) -> None:
        """Wait, until somebody asks the runner to stop at most."""
        if self.killed:
            raise Killed
        self._at_rest = self.time.running
        self.time.wait(to_microseconds(seconds))
        self._at_rest = None

    def request_stop(self) -> None:
        """Ask the runner to end after its turn, and to leave, as SIGTERM does."""
        if isinstance(self.runner, Runner) and self.alive:
            self.stopping = True
            self.runner.request_stop()
            if self._at_rest is not None:
                self._at_rest.wake()

    def disturb(self, until: int) -> None:
        """Something is wrong with it until then."""
        self.disturbances.add(self.time.now, until)

    def trouble(self, until: int) -> None:
        """Its way to the storage is not what it should be until then."""
        self.troubled_until = max(self.troubled_until, until)
        self.disturb(until)
