"""What the oracles of one service know: books of their own, which trust no rule that they judge."""

from collections import Counter
from dataclasses import dataclass

from turnwise.cycles import microseconds
from turnwise.gate import Run
from turnwise.simulation.process import Process
from turnwise.simulation.stage import Stage
from turnwise.simulation.trouble import Trouble


@dataclass(slots=True)
class OpenRun:
    """A run that was admitted and has not been seen to end; ``at`` is the play's time."""

    run: Run
    owner: Process
    at: int


class Books:
    """The books on one service of a stage.

    Attributes:
        promises_hold: until the storage has forgotten what it acknowledged.
        open: the run that is open.
        served: the keys that were served, each with its period's due instant.
        served_dues: the due instants of the periods that were served.
        attempts: how many attempts at each key have failed.
        paused_spans: when the service was paused.
        born_at: when the gate was made, on the storage's clock.
    """

    def __init__(self, stage: Stage, service: str) -> None:
        settings = stage.scenario.settings
        self.stage, self.service = stage, service
        self.say = stage.say if stage.scenario.services == 1 else self._say_of_service
        self.timeout = microseconds(settings.heartbeat_timeout)
        self.interval = microseconds(settings.heartbeat_interval)
        self.most_latency = microseconds(stage.scenario.latency.most)
        self.attempts_allowed = settings.attempts if settings.runs == "once" else 1
        self.promises_hold = True
        self.open: OpenRun | None = None
        self.served: dict[int, int] = {}
        self.served_dues: set[int] = set()
        self.attempts: Counter[int] = Counter()
        self.paused_spans = Trouble()
        self.born_at: int | None = None

    def _say_of_service(self, what: str) -> None:
        self.stage.say(f"{self.service}: {what}")

    def is_well(self, process: Process, since: int) -> bool:
        """Whether a runner lives, has joined, and was undisturbed since then."""
        joined = process.joined_at
        if not process.alive or process.stopping or joined is None or joined > since:
            return False
        return max(process.trouble.last, self.stage.trouble.last) < since
